"""What benchmarks share: seeded data (append only: old names keep their values), sizes, and timing in turns."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

QUICK = os.environ.get("QENGINE_BENCH_QUICK", "") not in ("", "0")

#: 2**18 int32 accumulators with int8 results are 1.25 MiB: inside a second-level cache of 2 MiB.
IN_CACHE = 1 << 18
#: Far outside every cache: 256 MiB of accumulators.
IN_MEMORY = 1 << 26
SIZES = {"2^12": 1 << 12, "2^16": 1 << 16, "2^18": 1 << 18, "2^24": 1 << 24}

#: Distinct arithmetic and kernels; other schemes differ from one of these in the numbers of their form alone.
SCHEMES = ("single", "double", "double-up", "half-away", "rndnu", "fp32", "fp32-away", "fp64-away", "rndnu16")
MULTIPLIER = 0.0037
ZERO_POINT = -3
CHANNELS = 256

SAMPLE_SCALES = Path(__file__).parent.parent / "tests" / "data" / "mobilenet_v2_scales_sample.csv"


# --- data ----------------------------------------------------------------------------------------------------


def accumulators(size: int, dtype: str = "int32") -> np.ndarray:
    """Uniform in [-2**15, 2**15): with `MULTIPLIER`, int8 results that use the range and hardly clamp."""
    return np.random.default_rng(2**18 + 1).integers(-(1 << 15), 1 << 15, size, dtype=np.int32).astype(dtype)


def channel_multipliers(channels: int = CHANNELS) -> np.ndarray:
    """Log-uniform around `MULTIPLIER`, a factor of two either way."""
    return MULTIPLIER * 2.0 ** np.random.default_rng(2**18 + 2).uniform(-1, 1, channels)


def scale_columns(channels: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, weight and output scales of a made-up network: ten layers, weights per channel."""
    rng = np.random.default_rng(2**18 + 3)
    layer = np.arange(channels) * 10 // channels
    inputs = rng.uniform(0.005, 0.05, 10)[layer]
    weights = np.exp(rng.uniform(math.log(2e-4), math.log(3e-2), channels))
    outputs = rng.uniform(0.01, 0.06, 10)[layer]
    return inputs.astype(np.float32), weights.astype(np.float32), outputs.astype(np.float32)


def scales_file(folder: str | Path) -> Path:
    """Path of a CSV of scales: the recorded sample, or where that is missing `scale_columns` written to `folder`."""
    if SAMPLE_SCALES.exists():
        return SAMPLE_SCALES
    path = Path(folder) / "scales.csv"
    rows = zip(*(column.tolist() for column in scale_columns()), strict=True)
    lines = ["input_scale,weight_scale,output_scale", *(f"{i!r},{w!r},{o!r}" for i, w, o in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# --- timing --------------------------------------------------------------------------------------------------


def best_seconds(*calls: Callable[[], Any], rounds: int = 5, budget: float = 1.0, sample: float = 0.004) -> list[float]:
    """Seconds a call of each function: the best of samples that are taken in turn (A B A B ...).

    At least `rounds` turns, more until `budget` seconds are spent; a sample repeats a short call until it lasts
    `sample` seconds. Each function is called twice before.
    """
    if QUICK:
        rounds, budget = min(rounds, 3), budget / 4
    loops = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        loops.append(max(1, math.ceil(sample / max(time.perf_counter() - start, 1e-9))))
    best = [math.inf] * len(calls)
    end = time.perf_counter() + budget
    turn = 0
    while turn < rounds or time.perf_counter() < end:
        for k, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(loops[k]):
                call()
            best[k] = min(best[k], (time.perf_counter() - start) / loops[k])
        turn += 1
    return best


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let the cpu back end use `count` threads."""
    before = os.environ.get("QENGINE_NUM_THREADS")
    os.environ["QENGINE_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["QENGINE_NUM_THREADS"]
        else:
            os.environ["QENGINE_NUM_THREADS"] = before


def processors() -> int:
    """Processors that this process may use, at most ``QENGINE_NUM_THREADS``."""
    from qengine.backends.cpu import thread_count

    return thread_count()


@functools.cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count)


def copier(source: np.ndarray, target: np.ndarray, count: int) -> Callable[[], None]:
    """Return a call that copies a 1-D array with `np.copyto` on `count` threads: the measure of bandwidth."""
    if count == 1:
        return lambda: np.copyto(target, source)
    step = -(-source.size // count)
    parts = [slice(i, i + step) for i in range(0, source.size, step)]

    def copy() -> None:
        futures = [_pool(count).submit(np.copyto, target[part], source[part]) for part in parts]
        for future in futures:
            future.result()

    return copy


# --- description of track_* ----------------------------------------------------------------------------------


def tracked(unit: str, goal: Callable[..., float | None] | None = None) -> Callable[[Any], Any]:
    """Mark a ``track_*`` method with its unit and with the goal for its parameters.

    A goal is a lower bound, but for units of time an upper one.
    """

    def mark(method: Any) -> Any:
        method.unit = unit
        method.goal = goal or (lambda *parameters: None)
        return method

    return mark


class Timed:
    """Options of asv for ``time_*``: one process, no warm-up of its own (``setup`` warms up), short samples."""

    rounds = 1
    warmup_time = 0.0
    sample_time = 0.005
    repeat = (3, 20, 0.3)
    timeout = 300
