"""Instructions a clock and multiprocessor, the clock itself, and the loops that rest on them, measured on a device.

Ceilings of the loops in `qengine.kernels.cuda` rest on how often a multiprocessor issues each instruction. Rates of
some are published nowhere; `measure` runs chains of each (rates.cu) on every multiprocessor at once.
"""

from __future__ import annotations

import functools
import statistics
from pathlib import Path
from typing import Any

import numpy as np

import qengine as qe
from qengine.kernels.cuda import exhaustive, load, sources
from qengine.sweeps.plan import Multipliers, make_plan
from qengine.sweeps.work import make_work

THREADS = 1024
#: Instructions of a chain's kind in one turn of the loop.
UNROLLED = 64
TURNS = 4096
#: Kernel: the instruction as machine code calls it, and lanes a clock that the budgets of the loops assume on sm_90.
RATES: dict[str, tuple[tuple[str, ...], float | None]] = {
    "iadd3": (("IADD3", "IADD"), 64),
    "lop3": (("LOP3",), 64),
    "imad": (("IMAD",), 64),
    "imad_wide": (("IMAD.WIDE",), 32),
    "imad_wide_uniform": (("IMAD.WIDE",), 32),
    "imad_hi_uniform": (("IMAD.HI", "IMAD.WIDE"), 32),
    "shift_s64": (("SHF.R.S64",), 64),
    "sad": (("VABSDIFF",), 64),
    "pack_i8": (("I2IP",), 64),
    "dot_i8": (("IDP",), 64),
    "bit_count": (("POPC",), 16),
    "f32_to_i32": (("F2I",), 16),
    "i32_to_f32": (("I2FP", "I2F"), 64),
    "add_f32": (("FADD",), 128),
    "mul_f32": (("FMUL",), 128),
    "fma_f32": (("FFMA",), 128),
    "add_f64": (("DADD",), 64),
    "fma_f64": (("DFMA",), 64),
    "shared_add": (("ATOMS",), None),
}


def text() -> str:
    """Return the kernels' text, with the header of the package in front."""
    return sources.texts()["compiler.cuh"].replace("#pragma once", "") + Path(__file__).with_name("rates.cu").read_text(
        encoding="utf-8"
    )


@functools.cache
def _module() -> Any:
    return load.array_module().RawModule(code=text(), options=sources.OPTIONS)


def _run(name: str, turns: int) -> tuple[float, float]:
    """Return the median cycles of a multiprocessor's block, and its nanoseconds."""
    arrays, blocks = load.array_module(), load.multiprocessors()
    cycles, nanoseconds = arrays.zeros(blocks, np.uint64), arrays.zeros(blocks, np.uint64)
    sink = arrays.zeros(blocks * THREADS, np.uint32)
    kernel = _module().get_function(f"rate_{name}")
    kernel((blocks,), (THREADS,), (np.uint32(turns), np.uint32(1), cycles, nanoseconds, sink))
    return statistics.median(cycles.get().tolist()), statistics.median(nanoseconds.get().tolist())


def rate(name: str, turns: int = TURNS) -> float:
    """Return the instructions (lanes) a clock of one multiprocessor: the best of three runs."""
    return max(THREADS * UNROLLED * turns / _run(name, turns)[0] for _ in range(3))


def clock_rate() -> float:
    """Return the multiprocessors' clock in Hz under load, integer products for some tens of milliseconds."""
    _run("imad_wide", TURNS)
    cycles, nanoseconds = _run("imad_wide", 8 * TURNS)
    return cycles / nanoseconds * 1e9


#: Loop over every accumulator: schemes, multiplier, clamp, and the goal in pairs a clock and multiprocessor.
LOOPS: dict[str, tuple[tuple[str, str], Any, dict[str, Any], float]] = {
    "exhaustive_floor": (("single", "rndnu"), 0.1, {}, 12.8),
    "exhaustive_window": (("single", "double"), qe.QuantizedMultiplier(1_234_567_891, -5), {}, 24.0),
    "exhaustive_packed": (("single", "double"), qe.QuantizedMultiplier(1_234_567_891, -5), {"dtype": "int8"}, 11.7),
    "exhaustive_float": (("single", "fp32"), 0.0019, {}, 10.8),
}


def segments(kernel: str) -> list[exhaustive.Segment]:
    """Return the ranges of accumulators that a loop runs over, for its choices in `LOOPS`."""
    schemes, multiplier, clamp, _ = LOOPS[kernel]
    plan = make_plan(
        schemes, pairs=None, seed=0, multipliers=Multipliers(fixed=multiplier), accumulators="all", witnesses=0, **clamp
    )
    (found,) = exhaustive.segments_of(make_work(plan), kernel == "exhaustive_packed")
    return [segment for segment in found if exhaustive.KERNELS.get(segment.kind) == kernel]


def loop(kernel: str) -> dict[str, float]:
    """Return the pairs a second of one loop, and those a clock and multiprocessor, by device events."""
    from .bench_cuda import device_seconds

    rows = segments(kernel)
    pairs = sum(row.last - row.first + 1 for row in rows)
    seconds = device_seconds(lambda: exhaustive.Counted(rows[0].kind, rows, exhaustive.LONGEST_RUN), rounds=7)
    a_clock = pairs / (seconds * clock_rate() * load.multiprocessors())
    return {"pairs_a_second": pairs / seconds, "pairs_a_clock": round(a_clock, 2), "goal": LOOPS[kernel][3]}


def measure() -> dict[str, Any]:
    """Return the clock, every rate beside what the budgets assume, and the loops beside their goals."""
    rates = {
        name: {"instruction": instructions[0], "lanes_a_clock": round(rate(name), 2), "assumed": assumed}
        for name, (instructions, assumed) in RATES.items()
    }
    return {"clock_hz": clock_rate(), "rates": rates, "loops": {kernel: loop(kernel) for kernel in LOOPS}}
