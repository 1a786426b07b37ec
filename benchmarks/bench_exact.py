"""Exact divergence: counts, listings, identification and the census; the first of them beside the brute-force sweep.

Figures of one thread are per core. A ratio compares pairs (multiplier, accumulator) settled a second with those
that the sweep kernel of ``acc="all"`` evaluates, both on one thread in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import qengine as qe
from qengine.exact import census_question, lattice, scan, staircase
from qengine.exact.sides import Side, side

from . import common

#: Multipliers a call, every right shift from 0 to 20 among them: a tile, and a millisecond or two, so that the best
#: of many calls is one that nothing else on the machine interrupted.
CHANNELS = 1 << 11
ALL = -(2**31), 2**31 - 1
#: Accumulators of the brute-force sweep: every one costs the same.
SWEPT = 1 << 25
#: What LiteRT, ONNX Runtime and CMSIS-NN run on 8-bit outputs.
SIX = ("single", "double", "double-up", "fp32", "fp32-zp-inside", "fp64-away")
FULL_TABLE = Path(__file__).parent.parent.parent / "shared" / "data" / "mobilenet_v2_ptq_scales.csv"


def multipliers(channels: int = CHANNELS, right_shifts: int = 21) -> qe.QuantizedMultiplier:
    """Random mantissas, shifts in turn."""
    rng = np.random.default_rng(2**18 + 5)
    value = rng.integers(2**30, 2**31, channels)
    return qe.QuantizedMultiplier(value, -(np.arange(channels) % right_shifts))


def pair(a: str, b: str, given: qe.QuantizedMultiplier | None = None, dtype: str | None = None) -> tuple[Side, Side]:
    given = multipliers() if given is None else given
    return side(a, given, dtype=dtype), side(b, given, dtype=dtype)


def swept(a: Side, b: Side) -> Callable[[], object]:
    """Return a call that evaluates both schemes on `SWEPT` accumulators of the first channel, on one thread."""
    return lambda: scan.scan((a, b), 0, -SWEPT // 2, SWEPT // 2 - 1)


def counting(a: Side, b: Side, engine: str, acc_range: tuple[int, int] = ALL) -> Callable[[], object]:
    if engine == "lattice":
        return lambda: lattice.count(a, b, *acc_range)
    return lambda: staircase.counts((a, b), *acc_range)


#: Name: schemes, output, engine, goal in us.
COUNTS: dict[str, tuple[str, str, str | None, str, float | None]] = {
    "lattice, single double": ("single", "double", None, "lattice", 0.4),
    "lattice, single half-away": ("single", "half-away", None, "lattice", 0.4),
    "lattice, single double, int8": ("single", "double", "int8", "lattice", 0.4),
    "lattice, unlike forms, single rndnu": ("single", "rndnu", None, "lattice", None),
    "lattice, unlike forms, single rndnu, int8": ("single", "rndnu", "int8", "lattice", None),
    "staircase, single double, int8": ("single", "double", "int8", "staircase", 0.6),
    "staircase, single fp32, int8": ("single", "fp32", "int8", "staircase", 0.6),
    "staircase, fp32 fp32-away, int8": ("fp32", "fp32-away", "int8", "staircase", 0.6),
    "staircase, single fp64-away, int8": ("single", "fp64-away", "int8", "staircase", None),
    "staircase, single fp32, int16": ("single", "fp32", "int16", "staircase", None),
}


class Count:
    """Every int32 accumulator of a multiplier, multipliers bound beforehand, one thread."""

    params = (tuple(COUNTS),)
    param_names = ("pair",)
    timeout = 300

    def setup(self, name: str) -> None:
        a, b, dtype, engine, _ = COUNTS[name]
        self.channels = CHANNELS if dtype != "int16" else 1 << 4
        self.sides = pair(a, b, multipliers(self.channels), dtype)
        self.call = counting(*self.sides, engine)

    @common.tracked("us a multiplier", lambda name: COUNTS[name][4])
    def track_time(self, name: str) -> float:
        with common.threads(1):
            return common.best_seconds(self.call)[0] / self.channels * 1e6

    @common.tracked("x the sweep")
    def track_ratio_to_brute_force(self, name: str) -> float:
        with common.threads(1):
            ours, sweep = common.best_seconds(self.call, swept(*self.sides), rounds=3)
        return (sweep / SWEPT) / (ours / (self.channels * 2**32))


class CountFew:
    """The attainable accumulators of a small layer, and all pairs of six schemes."""

    timeout = 300

    @common.tracked("us a multiplier")
    def track_lattice_of_16_bits(self) -> float:
        with common.threads(1):
            call = counting(*pair("single", "double"), "lattice", (-(1 << 15), (1 << 15) - 1))
            return common.best_seconds(call)[0] / CHANNELS * 1e6

    @common.tracked("us a channel")
    def track_six_schemes_all_pairs(self) -> float:
        channels = CHANNELS // 4
        sides = [side(name, multipliers(channels), dtype="int8") for name in SIX]
        with common.threads(1):
            return common.best_seconds(lambda: staircase.compare(sides))[0] / channels * 1e6


LISTINGS = {"single double": ("single", "double", 3.0), "single rndnu": ("single", "rndnu", None)}


class Listing:
    """The first 2**20 divergent accumulators from 0 on, one multiplier, in blocks."""

    params = (tuple(LISTINGS),)
    param_names = ("pair",)
    timeout = 300

    def setup(self, name: str) -> None:
        self.sides = pair(*LISTINGS[name][:2], qe.QuantizedMultiplier(np.array([1_518_500_251]), np.array([-6])))
        self.items = min(1 << 20, int(lattice.count(*self.sides, 0)[0]))

    def call(self) -> None:
        left = self.items
        for block in lattice.iterate(*self.sides, 0, 0):
            left -= block.size
            if left <= 0:
                break

    @common.tracked("ns an item", lambda name: LISTINGS[name][2])
    def track_time(self, name: str) -> float:
        return common.best_seconds(self.call)[0] / self.items * 1e9

    @common.tracked("x the sweep")
    def track_ratio_to_brute_force(self, name: str) -> float:
        """The accumulators that the sweep would have to pass over for as many items."""
        last = lattice.kth_divergent(*self.sides, lo=0, k=self.items - 1)
        with common.threads(1):
            ours, sweep = common.best_seconds(self.call, swept(*self.sides), rounds=3)
        return (sweep / SWEPT) * (last + 1) / ours


class Identify:
    """8,000 rows against every scheme by every recipe, with scales."""

    timeout = 300

    @common.tracked("s")
    def track_8000_rows(self) -> float:
        rng = np.random.default_rng(2**18 + 6)
        scales = tuple(np.resize(column, 8000) for column in common.scale_columns())
        acc = rng.integers(-(2**15), 2**15, 8000)
        output = qe.requantize_scales(acc, *scales, scheme="double", axis=0)
        return common.best_seconds(lambda: qe.identify(acc, output, scales=scales), rounds=3)[0]


class Census:
    """All 2**30 mantissas of a shift; all threads."""

    params = ((0, -1, -4, -9, -14, -20, -30),)
    param_names = ("shift",)
    timeout = 600

    @common.tracked("s")
    def track_closed_sums(self, shift: int) -> float:
        return common.best_seconds(lambda: qe.census("single", "double", shift=shift), rounds=1)[0]


class CensusTiles:
    """One tile of mantissas, one thread, 2**32 accumulators a mantissa."""

    params = ((("single", "double"), ("single", "fp32"), ("fp32", "fp32-away")),)
    param_names = ("pair",)
    timeout = 300

    @common.tracked("us a multiplier")
    def track_time(self, schemes: tuple[str, str]) -> float:
        asked = qe.census(*schemes, shift=-9, multipliers=(2**30, 2**30)).question
        asked = census_question.Question(asked.schemes, 2**30, 2**31 - 1, asked.low, asked.high, asked.output)
        size = census_question.TILE
        with common.threads(1):
            return common.best_seconds(lambda: asked.tile(-9, 10 * size, 11 * size))[0] / size * 1e6


class CountCommand:
    """``qengine count`` of a table of scales, six schemes, all pairs: seconds of the whole process."""

    params = (("tests/data", "../shared"),)
    param_names = ("table",)
    timeout = 300

    @common.tracked("s", lambda table: 3.0 if FULL_TABLE.exists() or table == "tests/data" else None)
    def track_seconds(self, table: str) -> float:
        if table == "../shared" and not FULL_TABLE.exists():
            return float("nan")
        with tempfile.TemporaryDirectory() as folder:
            path = FULL_TABLE if table == "../shared" else common.scales_file(folder)
            command = [sys.executable, "-m", "qengine", "count", *SIX, "--scales", str(path), "--quiet"]
            seconds = []
            for _ in range(4):  # the first compiles
                start = time.perf_counter()
                subprocess.run(command, capture_output=True, check=True, cwd=folder, env=os.environ.copy())
                seconds.append(time.perf_counter() - start)
            return min(seconds)
