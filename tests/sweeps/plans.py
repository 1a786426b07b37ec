"""Plans that sweep tests share: every source of multipliers with every kind of accumulators."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

import qengine as qe
from qengine import QuantizedMultiplier
from qengine.backends.pairs import Work
from qengine.requant.scales import ScaleTable
from qengine.sweeps.plan import Accumulators, Multipliers, SweepPlan, make_plan
from qengine.sweeps.work import make_work

ALL = tuple(row.name for row in qe.schemes())
DATA = Path(__file__).parents[1] / "data"
SAMPLE = DATA / "mobilenet_v2_scales_sample.csv"
ISSUE = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
INT32 = (-(2**31), 2**31 - 1)
EVERY = f"all:{INT32[0]}:{INT32[1]}"

RIGHT = Multipliers(fixed=QuantizedMultiplier(1_527_099_593, -6))
NONE = Multipliers(fixed=QuantizedMultiplier(1_431_655_765, 0))
LEFT = Multipliers(fixed=QuantizedMultiplier(1_610_612_737, 3))
REAL = Multipliers(fixed=0.123_456_789_012_345_6)


def table(reals: list[float], zero_points: list[int] | None = None) -> Multipliers:
    """A table whose multipliers are about the given numbers, with scales that are no round numbers."""
    weight = np.array(reals, np.float64) / 0.0078 * 0.0235
    columns = (
        np.full(len(reals), 0.0078, np.float32),
        weight.astype(np.float32),
        np.full(len(reals), 0.0235, np.float32),
    )
    zeros = np.array(zero_points or [0] * len(reals), np.int64)
    return Multipliers(table=ScaleTable(*columns, zeros, "made up"))


#: Channels outside some schemes' domains: flushed, above 1, at 256, above 2**13, 2**30, 2**32; 13 is coprime to 64.
WILD = [
    2.0**-34,
    2.0**-32 * 1.1,
    2.0**-31,
    1e-7,
    0.0011,
    0.037,
    0.25,
    0.4999,
    0.99999,
    1.0,
    3.7,
    200.0,
    255.99,
    256.01,
    9000.0,
    2.0**29.5,
    2.0**30.5,
    2.0**33,
]
TAME = [0.0003, 0.002, 0.0119, 0.047, 0.11, 0.31, 0.77]
ONE = table([0.0237], [-5])


def drawn(low: float, high: float, distribution: str = "uniform") -> Multipliers:
    """A range of multipliers."""
    return Multipliers(low=low, high=high, distribution=distribution)  # type: ignore[arg-type]


FAR = drawn(2.0**-60, 2.0**40, "log-uniform")
USUAL = drawn(0.01, 0.99)

#: name -> keywords of make_plan
PLANS: dict[str, dict[str, Any]] = {
    # one multiplier
    "right, one word": {"multipliers": RIGHT, "accumulators": "uniform"},
    "right, one word, narrow": {"multipliers": RIGHT, "accumulators": "uniform:-512:511"},
    "right, odd span": {"multipliers": RIGHT, "accumulators": "uniform:-1000000:999998", "seed": 2**64 - 1},
    "zero shift, normal": {"multipliers": NONE, "accumulators": "normal:3e8:-5e7"},
    "left, laplace": {"multipliers": LEFT, "accumulators": "laplace:2e7", "seed": 2**32},
    "left, beyond the domain": {"multipliers": LEFT, "accumulators": "uniform:-2147483648:2147483647"},
    "real, int8": {"multipliers": REAL, "accumulators": "normal:700", "dtype": "int8", "zero_point": 3},
    "real, output units": {
        "multipliers": REAL,
        "accumulators": "output-normal:40",
        "dtype": "uint8",
        "zero_point": 128,
    },
    "real, unsaturated int16": {"multipliers": REAL, "accumulators": "unsaturated", "dtype": "int16"},
    "zero": {"multipliers": Multipliers(fixed=0.0), "accumulators": "uniform:-9:10"},
    "tiny": {"multipliers": Multipliers(fixed=2.0**-32), "accumulators": "uniform"},
    "huge": {"multipliers": Multipliers(fixed=700.5), "accumulators": "uniform:-5000000:5000000"},
    "shift outside every domain": {
        "multipliers": Multipliers(fixed=QuantizedMultiplier(1 << 30, 40)),
        "accumulators": "uniform:-9:9",
    },
    "one value": {"multipliers": RIGHT, "accumulators": "uniform:12345:12345"},
    "all, low end": {"multipliers": RIGHT, "accumulators": f"all:{INT32[0]}:{INT32[0] + 9000}"},
    "all, high end": {"multipliers": NONE, "accumulators": f"all:{INT32[1] - 9001}:{INT32[1]}"},
    "all, across zero": {"multipliers": LEFT, "accumulators": "all:-4099:5003"},
    "all, int8": {"multipliers": REAL, "accumulators": "all:-5000:5000", "dtype": "int8", "zero_point": -128},
    "all of a triple": {"multipliers": ONE, "accumulators": "all:-7000:7000", "dtype": "uint8", "zero_point": 200},
    # tables
    "triple": {"multipliers": ONE, "accumulators": "normal:5e3", "dtype": "int8"},
    "table, unsaturated": {"multipliers": table(TAME, [-128, -7, 0, 5, 127, 3, -1])},
    "table, uint8": {
        "multipliers": table(TAME, [0, 255, 7, 9, 128, 3, 1]),
        "dtype": "uint8",
        "accumulators": "uniform:-70000:70000",
    },
    "table, narrow clamp": {"multipliers": table(TAME), "dtype": "int16", "qmin": -5, "qmax": 300, "zero_point": 2},
    "table, wild, int8": {"multipliers": table(WILD), "accumulators": "uniform", "dtype": "int8", "zero_point": -3},
    "table, wild, raw laplace": {
        "multipliers": table([*WILD, 0.5]),
        "accumulators": Accumulators("laplace", spread=1e6),
    },
    "table, wild, output units": {"multipliers": table(WILD), "accumulators": "output-laplace:30", "dtype": "int8"},
    # ranges
    "range": {"multipliers": USUAL},
    "range, odd span": {"multipliers": USUAL, "accumulators": "uniform:-99999:100000", "seed": 77},
    "range, int8, unsaturated": {"multipliers": USUAL, "dtype": "int8", "zero_point": -7},
    "range, uint8, normal": {"multipliers": USUAL, "dtype": "uint8", "zero_point": 11, "accumulators": "normal:500:50"},
    "range, int16, output units": {
        "multipliers": drawn(1e-4, 3.0, "log-uniform"),
        "dtype": "int16",
        "accumulators": "output-laplace:9000",
    },
    "range, log": {"multipliers": drawn(2.0**-12, 1.0, "log-uniform"), "accumulators": "laplace:300000"},
    "range, far, raw": {"multipliers": FAR, "accumulators": "uniform"},
    "range, far, raw, small": {"multipliers": FAR, "accumulators": "uniform:-3:4"},
    "range, far, int8": {
        "multipliers": FAR,
        "accumulators": "uniform:-2147483648:2147483646",
        "dtype": "int8",
        "zero_point": 9,
    },
    "range, far, unsaturated": {"multipliers": FAR, "dtype": "uint8", "zero_point": 255},
    "range, at 1 and 256": {
        "multipliers": drawn(0.9999999, 256.00001, "log-uniform"),
        "accumulators": "uniform:-4000000:4000000",
    },
    "range, at 2**-8 and 128": {
        "multipliers": drawn(2.0**-8 * (1 - 2.0**-20), 128.001, "log-uniform"),
        "accumulators": "uniform:-255:255",
        "dtype": "int8",
        "zero_point": 5,
    },
    # vcvt's mantissa 384 stands for 1.5: its results leave int32, where acc times the multiplier does not.
    "range, mantissa rounded up": {
        "multipliers": drawn(1.4983, 1.4985),
        "accumulators": "uniform:1431000000:1433000000",
    },
    "range, left shifts": {"multipliers": drawn(1.0, 2.0**31), "accumulators": "normal:30"},
    "range, flushed": {
        "multipliers": drawn(2.0**-32 * (1 - 2.0**-20), 2.0**-32 * (1 + 2.0**-20)),
        "accumulators": "uniform",
    },
    "range, flushed, at the ends": {
        "multipliers": drawn(2.0**-32 * (1 - 2.0**-26), 2.0**-32 * (1 - 2.0**-31)),
        "accumulators": f"uniform:{INT32[0]}:{INT32[0]}",
    },
}


@functools.cache
def plan(name: str, schemes: tuple[str, ...] = ALL, witnesses: int = 8) -> SweepPlan:
    """The plan of that name."""
    return make_plan(schemes, **{"pairs": 9000, "seed": 20261121, "witnesses": witnesses, **PLANS[name]})


@functools.cache
def work(name: str, schemes: tuple[str, ...] = ALL, witnesses: int = 8) -> Work:
    """The arrays of the plan of that name."""
    return make_work(plan(name, schemes, witnesses))
