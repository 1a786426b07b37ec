"""Other packages in the same run: how many times faster qengine is, whether results are equal, and the limits.

One thread, arrays of 2**18 elements or fewer (rates are per element); a peer that is not installed skips. Times are
taken in turns, so that a busy machine disturbs both sides alike.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import qengine as qe

from . import common, peers

SIZES = (1, 100, 10_000)
#: Short samples: on a busy machine the best of many is one that nothing interrupted.
SAMPLE = 0.0004


class Peers:
    """qengine's rate over the peer's, and outputs that differ."""

    params = (peers.COUPLES,)
    param_names = ("job / peer",)
    timeout = 300

    def setup(self, name: str) -> None:
        self.job, self.peer = peers.couple(name)
        make, self.size = self.job.peers[self.peer]
        self.theirs = make(self.size)

    @common.tracked("times", lambda name: 1.0)
    def track_times_faster(self, name: str) -> float:
        with common.threads(1):
            ours, theirs = common.best_seconds(self.job.ours(self.job.size), self.theirs, budget=0.8, sample=SAMPLE)
        return (theirs / self.size) / (ours / self.job.size)

    @common.tracked("outputs", lambda name: None if name in peers.ANOTHER_ARITHMETIC else 0)
    def track_differing(self, name: str) -> float:
        with common.threads(1):
            ours, theirs = (peers.result(call()) for call in (self.job.ours(self.size), self.theirs))
        return float(np.count_nonzero(ours != theirs))


class Limits:
    """What the machine allows a sweep: the vector instructions that a pair cannot do without."""

    timeout = 300

    def setup(self) -> None:
        peers.library()

    @common.tracked("G pairs/s")
    def track_pairs_by_instructions(self) -> float:
        return peers.multiplications_per_second() / peers.OF_A_PAIR / 1e9

    @common.tracked("% of the limit", lambda: 66.0)
    def track_sweep_of_one_multiplier(self) -> float:
        with common.threads(1):
            (seconds,) = common.best_seconds(peers.JOBS["sweep, single / double"].ours(peers.SWEPT), sample=SAMPLE)
        return 100 * (peers.SWEPT / seconds) / (peers.multiplications_per_second() / peers.OF_A_PAIR)


JOBS_OF_MEMORY: dict[str, tuple[Callable[[int], Callable[[], Any]], int]] = {
    # Bytes an element, read and written.
    "requantize, single": (peers.JOBS["requantize, single"].ours, 5),
    "requantize, double": (peers.JOBS["requantize, double"].ours, 5),
    "requantize, fp32": (peers.JOBS["requantize, fp32"].ours, 5),
    "quantize float32 to int8": (peers.JOBS["quantize float32 to int8"].ours, 5),
    "quantize in float64": (peers.JOBS["quantize in float64"].ours, 5),
    "dequantize int8": (peers.JOBS["dequantize int8"].ours, 5),
}


class Memory:
    """2**24 elements, all threads: bytes read and written, as a share of what `np.copyto` moves in the same run."""

    params = (tuple(JOBS_OF_MEMORY),)
    param_names = ("job",)
    timeout = 300

    @common.tracked("% of a copy", lambda name: 66.0)
    def track_share_of_copy_bandwidth(self, name: str) -> float:
        make, width = JOBS_OF_MEMORY[name]
        source = common.accumulators(1 << 24)
        target, count = np.zeros_like(source), common.processors()
        ours, copy = common.best_seconds(make(source.size), common.copier(source, target, count))
        return 100 * (width * source.size / ours) / (8 * source.size / copy)


class Small:
    """Microseconds of one call on a few elements, most of them Python's."""

    params = (("requantize, single", "requantize, fp32", "quantize float32 to int8", "dequantize int8"), SIZES)
    param_names = ("job", "elements")

    @common.tracked("us", lambda name, size: 10.0)
    def track_call(self, name: str, size: int) -> float:
        (seconds,) = common.best_seconds(peers.JOBS[name].ours(size), budget=0.3, sample=SAMPLE)
        return seconds * 1e6

    @common.tracked("times torch's rate")
    def track_against_torch(self, name: str, size: int) -> float:
        if find_spec("torch") is None:
            raise NotImplementedError("torch needs torch")
        with common.threads(1):
            theirs = peers.JOBS[name].peers["torch"][0](size)
            ours, torch = common.best_seconds(peers.JOBS[name].ours(size), theirs, budget=0.3, sample=SAMPLE)
        return torch / ours


class Grid(common.Timed):
    """Every scheme on every back end of this machine, three sizes, one thread and all."""

    params = (common.SCHEMES, ("cpu", "cuda"), ("2^12", "2^18", "2^24"), ("one", "all"))
    param_names = ("scheme", "back end", "elements", "threads")

    def setup(self, scheme: str, backend: str, size: str, threads: str) -> None:
        self.wait: Callable[[], Any] = lambda: None
        acc: Any = common.accumulators(common.SIZES[size])
        if backend == "cuda":
            from .bench_cuda import require_device

            require_device()
            if threads == "all":
                raise NotImplementedError("threads are the cpu back end's")
            import cupy

            acc, self.wait = cupy.asarray(acc), cupy.cuda.get_current_stream().synchronize
        count = 1 if threads == "one" else common.processors()
        self.threads = common.threads(count)
        self.call = lambda: qe.requantize(acc, common.MULTIPLIER, scheme=scheme, zero_point=-3, dtype="int8")
        with common.threads(count):
            self.call()
        self.wait()

    def time_requantize(self, scheme: str, backend: str, size: str, threads: str) -> None:
        self.call()
        self.wait()
