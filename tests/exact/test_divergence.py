"""Exact divergence: golden figures, the engines against each other, against brute force, and against requantize."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine import QuantizedMultiplier
from qengine.exact import scan
from qengine.exact.divergence import ENGINES, across_shifts
from qengine.exact.sides import side
from tests.cli.running import ISSUE, SAMPLE

LOW, HIGH = -(2**31), 2**31 - 1
ALL = tuple(row.name for row in qe.schemes())
FLOORS = tuple(row.name for row in qe.schemes() if row.form == "floor")
#: What LiteRT, ONNX Runtime and CMSIS-NN run on 8-bit outputs.
SIX = ("single", "double", "double-up", "fp32", "fp32-zp-inside", "fp64-away")
WIDE_FLOAT = ("single", "fp32")
#: Ties everywhere, no right shift, a left shift, a structured mantissa, plain ones, the flushed end.
MULTIPLIERS = {
    "2^30, n = 1": QuantizedMultiplier(1 << 30, -1),
    "2^30, n = 4": QuantizedMultiplier(1 << 30, -4),
    "no shift": QuantizedMultiplier(1_431_655_765, 0),
    "left 3": QuantizedMultiplier(1_610_612_737, 3),
    "1/90": QuantizedMultiplier(1_527_099_593, -6),
    "n = 9": QuantizedMultiplier(1_583_594_044, -9),
    "n = 14": QuantizedMultiplier(2_147_483_647, -14),
    "n = 24": QuantizedMultiplier(1_234_567_890, -24),
    "smallest": QuantizedMultiplier(1 << 30, -31),
}


def brute(a: str, b: str, m: Any, x: np.ndarray, **output: Any) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of both schemes by `qengine.requantize`, another way through the package."""
    return tuple(qe.requantize(x.astype(np.int32), m, scheme=s, **output).astype(np.int64) for s in (a, b))  # type: ignore[return-value]


# --- golden figures ---------------------------------------------------------------------------------------------

GOLDEN = [
    # mantissa, n, count over int32, first x >= 0, last x, int8 with z = 0, |x| <= 2**16
    (1_583_594_044, 9, 4_194_310, 347, 2_147_483_219, 173, 130),
    (1 << 30, 1, 1_073_741_824, 1, 2_147_483_645, 255, 32_768),
    (2**31 - 1, 4, 134_217_728, 8, 1_073_741_816, 255, 8192),
    (1_717_986_918, 3, 429_496_730, 5, 2_147_483_645, 255, 13_108),
    (1_527_099_593, 6, 33_522_942, 4_122_314, 2_147_483_590, 0, 0),
]


@pytest.mark.parametrize(("mantissa", "n", "count", "first", "last", "narrow", "near"), GOLDEN)
def test_golden(mantissa: int, n: int, count: int, first: int, last: int, narrow: int, near: int) -> None:
    """Single against double, each figure confirmed once by a sweep over all 2**32 accumulators."""
    m = QuantizedMultiplier(mantissa, -n)
    assert qe.count_divergence("single", "double", m) == count
    assert qe.count_divergence("double", "single", m, dtype="int8") == narrow
    assert qe.count_divergence("single", "double", m, acc_range=(-(2**16), 2**16)) == near
    found = qe.divergent_inputs("single", "double", m)
    assert (found.count, found.next(0), found.last) == (count, first, last)
    assert found[count // 2] == first
    histogram = qe.compare_schemes("single", "double", multiplier=m).couple("single", "double").histogram
    assert histogram == {-1: count // 2, 1: count // 2}


def test_golden_of_two_mantissas() -> None:
    """Q31 against the 24-bit mantissa of the float32 scale, both half up."""
    couple = qe.compare_schemes("single", "rndnu", multiplier=0.1).couple("rndnu", "single")
    assert couple.divergent == 3_690_987_520
    assert couple.histogram == {
        -4: 20132659, -3: 483183819, -2: 671088640, -1: 671088640,
        1: 671088640, 2: 671088640, 3: 483183822, 4: 20132660,
    }  # fmt: skip
    assert couple.max_abs_diff == 4
    near = qe.compare_schemes("single", "rndnu", multiplier=0.1, acc_range=(-(2**20), 2**20 - 1))
    assert near.couple("single", "rndnu").histogram == {-1: 104_858, 1: 104_858}


@pytest.mark.parametrize(
    ("m", "single_fp32", "fp32_fp64", "single_fp64"), [(0.1, 127, 128, 255), (2.0**-24, 10_986, 10_986, 128)]
)
def test_golden_of_floats(m: float, single_fp32: int, fp32_fp64: int, single_fp64: int) -> None:
    result = qe.compare_schemes("single", "fp32", "fp64-away", multiplier=m, dtype="int8")
    assert [couple.divergent for couple in result.ordered] == [single_fp32, single_fp64, fp32_fp64]
    assert result.matrix() == [
        [0, single_fp32, single_fp64], [single_fp32, 0, fp32_fp64], [single_fp64, fp32_fp64, 0],
    ]  # fmt: skip


# --- everything about a small range, exhaustively -----------------------------------------------------------------


@pytest.mark.parametrize("name", MULTIPLIERS)
@pytest.mark.parametrize("output", [{}, {"dtype": "int8", "zero_point": -3}, {"dtype": "uint8", "qmin": 2, "qmax": 9}])
def test_small_ranges(name: str, output: dict[str, Any]) -> None:
    """Count, extremes, histogram, ends, ranks and intervals of every pair, for every engine that can."""
    m = MULTIPLIERS[name]
    for low, high in ((-700, 700), (LOW, LOW + 300), (HIGH - 300, HIGH)):
        result = qe.compare_schemes(*ALL, multiplier=m, acc_range=(low, high), **output)
        for couple in result.ordered:
            bounds = [int(bound[0]) for bound in result.domain(couple.pair)]
            assert couple.compared == max(bounds[1] - bounds[0] + 1, 0)
            assert couple.excluded == high - low + 1 - couple.compared
            if not couple.compared:
                assert not couple.divergent
                continue
            x = np.arange(bounds[0], bounds[1] + 1)
            y, z = brute(*couple.schemes, m, x, **output)
            where, d = x[y != z], (y - z)[y != z]
            assert couple.divergent == where.size, couple.schemes
            assert couple.max_abs_diff == np.abs(d).max(initial=0)
            values, counts = np.unique(d, return_counts=True)
            assert couple.histogram == dict(zip(values.tolist(), counts.tolist(), strict=True))
            ends = [found and found.acc for found in (couple.first, couple.last)]
            assert ends == ([where[0], where[-1]] if where.size else [None, None])
            for found in (couple.first, couple.last):
                if found is not None:
                    assert found.outputs == (y[x == found.acc][0], z[x == found.acc][0])
            mirrored = result.couple(*couple.schemes[::-1])
            assert mirrored.histogram == {-k: n for k, n in reversed(couple.histogram.items())}
            assert list(couple.inputs()) == where.tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_inputs(engine: str, rng: np.random.Generator) -> None:
    m, output = QuantizedMultiplier(1_518_500_250, -1), {"dtype": "int16"}
    found = qe.divergent_inputs("single", "double", m, acc_range=(-5000, 4000), engine=engine, **output)
    x = np.arange(-5000, 4001)
    y, z = brute("single", "double", m, x, **output)
    where = x[y != z]
    assert found.engine == engine
    assert (found.count, len(found), bool(found)) == (where.size, where.size, True)
    assert (found.first, found.last) == (where[0], where[-1])
    assert np.concatenate(list(found.blocks())).tolist() == where.tolist()
    assert [x for low, high in found.intervals() for x in range(low, high + 1)] == where.tolist()
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(found.intervals()))
    assert [found[k] for k in (0, 7, -1, -where.size)] == where[[0, 7, -1, 0]].tolist()
    for start in (-(2**31), -5000, -1, 0, 1, 3999, 4000):
        at = int(np.searchsorted(where, start))
        assert found.next(start) == (where[at] if at < where.size else None)
    assert found.next(4001) is None
    assert found.outputs(int(where[3])) == (y[x == where[3]][0], z[x == where[3]][0])
    draws = found.random(4000, seed=3)
    assert np.isin(draws, where).all()
    assert np.array_equal(draws, found.random(4000, seed=3))
    assert not np.array_equal(draws, found.random(4000, seed=4))
    # Uniform: each tenth of the ranks gets its share within five standard deviations.
    tenths = np.bincount(np.searchsorted(where, draws) * 10 // where.size, minlength=10)
    assert np.abs(tenths - 400).max() < 5 * np.sqrt(400 * 0.9)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_inputs(engine: str) -> None:
    found = qe.divergent_inputs(
        "single", "double", MULTIPLIERS["1/90"], dtype="int8", acc_range=(-9999, 99), engine=engine
    )
    assert (found.count, list(found), list(found.intervals()), found.first, found.last) == (0, [], [], None, None)
    assert not found
    with pytest.raises(qe.DomainError, match=r"no accumulator in \[-9999, 99\] is divergent"):
        found.random(1)
    with pytest.raises(qe.DomainError, match=r"rank must be in \[0, -1\]"):
        found[0]


def test_inputs_without_a_common_domain() -> None:
    """A left shift of "double" allows a range that begins above."""
    m = QuantizedMultiplier(1 << 30, 3)
    found = qe.divergent_inputs("single", "double", m, acc_range=(2**28, 2**29))
    assert (found.count, list(found), found.next(2**28), found.last) == (0, [], None, None)


def test_intervals_that_touch_are_one() -> None:
    """With truncation far from rounding, thousands of neighbours differ, over borders of blocks too."""
    found = qe.divergent_inputs("single", "truncate", 2.0**-20, dtype="int8")
    merged = list(found.intervals())
    assert sum(high - low + 1 for low, high in merged) == found.count > scan.BLOCK
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(merged))


# --- the engines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_lattice_equals_staircase(dtype: str, rng: np.random.Generator) -> None:
    """Every pair of floor forms, over all of int32, on many multipliers and zero points."""
    count = 3 if dtype == "int16" else 60
    m = QuantizedMultiplier(rng.integers(1 << 30, 1 << 31, count), rng.integers(-20, 4, count))
    info = np.iinfo(dtype)
    z = rng.integers(info.min, info.max + 1, count)
    common: dict[str, Any] = {"multiplier": m, "dtype": dtype, "zero_point": z}
    pairs = [("single", "double"), ("half-away", "double-up"), ("floor-port", "truncate"), ("rndna", "int16x8")]
    for pair in pairs:
        a, b = (qe.compare_schemes(*pair, engine=engine, **common) for engine in ("lattice", "staircase"))
        assert (a.engines, b.engines) == (("lattice",), ("staircase",))
        assert np.array_equal(a.divergent, b.divergent)
        assert np.array_equal(a.compared, b.compared)
        couples = [result.couple(*pair) for result in (a, b)]
        assert couples[0].max_abs_diff == couples[1].max_abs_diff
        assert couples[0].histogram == couples[1].histogram
        assert couples[0].first == couples[1].first
        assert couples[0].last == couples[1].last


@pytest.mark.parametrize(("zero_point", "qmin", "qmax"), [(-32768, 0, 1), (-32768, 0, 32767), (20000, -32768, -9000)])
def test_clamps_beyond_a_saturation(zero_point: int, qmin: int, qmax: int) -> None:
    """hifi-out16 saturates to 16 bits before the zero point is added."""
    common: dict[str, Any] = {
        "multiplier": QuantizedMultiplier(1 << 30, 1), "dtype": "int16", "zero_point": zero_point, "qmin": qmin,
        "qmax": qmax, "acc_range": (-40000, 40000),
    }  # fmt: skip
    x = np.arange(-40000, 40001)
    outputs = [
        qe.requantize(
            x, common["multiplier"], scheme=name, dtype="int16", zero_point=zero_point, qmin=qmin, qmax=qmax
        ).astype(int)
        for name in ("single", "hifi-out16")
    ]  # fmt: skip
    wanted = int(np.count_nonzero(outputs[0] != outputs[1]))
    for engine in ("lattice", "staircase", "scan"):
        assert qe.compare_schemes("single", "hifi-out16", engine=engine, **common).divergent[0, 0] == wanted, engine


WINDOWS = {"bottom": (LOW, LOW + 2**24), "around 0": (-(2**23), 2**23), "top": (HIGH - 2**24, HIGH)}


def every_pair(m: QuantizedMultiplier, low: int, high: int, dtype: str | None, names: tuple[str, ...]) -> int:
    """Hold all pairs against one scan; return how many were compared."""
    result = qe.compare_schemes(*names, multiplier=m, acc_range=(low, high), dtype=dtype)
    assert "scan" not in result.engines
    pairs = result.pairs
    scanned = scan.scan_pairs(result.sides, pairs, 0, low, high, workers=2)
    for couple, found in zip(result.ordered, scanned, strict=True):
        assert couple.divergent == found.divergent, (couple.schemes, m, low, high)
        assert couple.max_abs_diff == found.largest, (couple.schemes, m, low, high)
        first = couple.first
        assert (first and first.acc) == found.first
        if found.histogram is not None:
            assert {-d: n for d, n in couple.histogram.items()} == found.histogram, couple.schemes
    return len(pairs)


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_against_brute_force(window: str) -> None:
    compared = 0
    for name in ("2^30, n = 1", "no shift", "left 3", "n = 9"):
        compared += every_pair(MULTIPLIERS[name], *WINDOWS[window], "int8", SIX)
        compared += every_pair(MULTIPLIERS[name], *WINDOWS[window], None, FLOORS[:6])
    assert compared == 120


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int8", None])
@pytest.mark.parametrize("name", ["2^30, n = 1", "no shift", "left 3", "n = 9"])
def test_all_accumulators_against_brute_force(name: str, dtype: str | None) -> None:
    """Every pair over all 2**32 accumulators: 4 * (190 + 91) cases, ties, no shift and a left shift among them."""
    names = FLOORS if dtype is None else ALL
    assert every_pair(MULTIPLIERS[name], LOW, HIGH, dtype, names) == len(names) * (len(names) - 1) // 2


def test_scan_equals_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brute force itself, against NumPy's evaluation, over the borders of its tiles."""
    monkeypatch.setattr(scan, "TILE", 1 << 15)
    m = QuantizedMultiplier(1_987_654_321, -1)
    low, high = -(2**24) - 250_000, -(2**24) + 250_000  # where float32 stops holding every accumulator
    sides = [side(name, m) for name in ("single", "double", "fp32")]
    found = scan.scan(sides, 0, low, high)
    x = np.arange(low, high + 1)
    outputs = [one.evaluate(x[None])[0] for one in sides]
    for (i, j), told in found.items():
        differ = outputs[i] != outputs[j]
        assert told.divergent == np.count_nonzero(differ)
        assert told.first == x[differ][0]
        d = (outputs[j] - outputs[i])[differ]
        assert told.largest == np.abs(d).max()
        assert told.histogram == {int(k): int((d == k).sum()) for k in np.unique(d)}


def test_wide_floats_are_scanned() -> None:
    """No closed form is claimed where there is none: the result says who counted."""
    m = QuantizedMultiplier(1_987_654_321, -2)
    ranges = (2**27, 2**27 + 99_999)
    result = qe.compare_schemes("single", "double", "fp32", "fp64-away", multiplier=m, acc_range=ranges)
    assert result.engines == ("lattice", "scan", "scan", "scan", "scan", "scan")
    x = np.arange(ranges[0], ranges[1] + 1)
    for couple in result.ordered:
        y, z = brute(*couple.schemes, m, x)
        where = x[y != z]
        assert couple.divergent == where.size
        assert couple.max_abs_diff == np.abs(y - z).max()
        ends = [found and found.acc for found in (couple.first, couple.last)]
        assert ends == ([where[0], where[-1]] if where.size else [None, None])
        values, counts = np.unique((y - z)[y != z], return_counts=True)
        assert couple.histogram == dict(zip(values.tolist(), counts.tolist(), strict=True))
        assert couple.inputs().last == ends[1]
    assert sum(couple.divergent > 0 for couple in result.ordered) == 5, "float64 is exact here"


def test_wide_differences_are_tallied_by_value() -> None:
    """float32 cannot hold large accumulators: differences pass what the kernel tells apart."""
    m = QuantizedMultiplier(2_000_000_001, 0)
    couple = qe.compare_schemes(*WIDE_FLOAT, multiplier=m, acc_range=(HIGH - 70_000, HIGH)).couple(*WIDE_FLOAT)
    x = np.arange(HIGH - 70_000, HIGH + 1)
    y, z = brute(*WIDE_FLOAT, m, x)
    values, counts = np.unique((y - z)[y != z], return_counts=True)
    assert couple.max_abs_diff == np.abs(values).max() > 64
    assert not couple.tallied
    assert couple.histogram == dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_engine_of_a_pair() -> None:
    def engine(*names: str, **output: Any) -> str:
        return qe.compare_schemes(*names, multiplier=0.01, acc_range=(0, 9), **output).engines[0]

    assert engine("single", "double") == "lattice"
    assert engine("single", "double", dtype="int8") == "lattice"
    assert engine("single", "double", "fp32", dtype="int8") == "staircase"
    assert engine("single", "double", "fp32", dtype="int16") == "lattice"
    assert engine("single", "fp32", dtype="int16") == "staircase"
    assert engine("fp32", "fp64-away") == "scan"
    assert engine("rndnu16", "single", dtype="int32", qmin=-5, qmax=5) == "staircase"


# --- channels, scales, weights ------------------------------------------------------------------------------------


def test_channels_are_apart(rng: np.random.Generator) -> None:
    m = QuantizedMultiplier(rng.integers(1 << 30, 1 << 31, 7), rng.integers(-12, 0, 7))
    z, low = rng.integers(-128, 128, 7), rng.integers(-(2**20), 0, 7)
    counts = qe.count_divergence("single", "fp32", m, dtype="int8", zero_point=z, acc_range=(low, 2**20))
    assert isinstance(counts, np.ndarray)
    assert counts.dtype == np.int64
    one_by_one = [
        qe.count_divergence(
            "single", "fp32", QuantizedMultiplier(int(m.value[c]), int(m.shift[c])), dtype="int8",
            zero_point=int(z[c]), acc_range=(int(low[c]), 2**20),
        )
        for c in range(7)
    ]  # fmt: skip
    assert counts.tolist() == one_by_one
    assert all(type(n) is int for n in one_by_one)


def test_table_of_scales() -> None:
    """Each scheme applies its own recipe, and the table's zero points; a triple is one channel."""
    table = qe.requant.scales.read_scales(SAMPLE)
    result = qe.compare_schemes(*SIX, scales=SAMPLE, dtype="int8")
    assert result.channels == table.zero_point.size
    assert result.table is not None
    assert result.table.layer is not None
    for c in (0, 100, 300):
        triple = tuple(column[c] for column in table.scales)
        z = int(table.zero_point[c])
        x = np.arange(-(2**18), 2**18)
        outputs = {
            name: qe.requantize_scales(x.astype(np.int32), *triple, scheme=name, zero_point=z, dtype="int8")
            for name in SIX
        }
        near = qe.compare_schemes(*SIX, scales=triple, zero_point=z, dtype="int8", acc_range=(-(2**18), 2**18 - 1))
        for couple in near.ordered:
            assert couple.divergent == np.count_nonzero(outputs[couple.schemes[0]] != outputs[couple.schemes[1]])
        whole = qe.compare_schemes(*SIX, scales=triple, zero_point=z, dtype="int8")
        assert whole.matrix() == result.matrix(c)
    assert qe.count_divergence("single", "fp32", scales=tuple(map(float, ISSUE)), zero_point=-126, dtype="int8") == sum(
        1 for _ in qe.divergent_inputs("single", "fp32", scales=tuple(map(float, ISSUE)), zero_point=-126, dtype="int8")
    )


def test_known_issue() -> None:
    """tensorflow#102943: 585 is among the divergent accumulators of its scales."""
    found = qe.divergent_inputs("single", "fp32", scales=tuple(map(float, ISSUE)), zero_point=-126, dtype="int8")
    assert 585 in list(found)
    assert found.outputs(585) == (-119, -120)


@pytest.mark.parametrize("names", [("single", "double", "fp32"), ("rndnu16", "fp64-away"), ("single", "double")])
@pytest.mark.parametrize("dtype", ["int8", None])
def test_weights(names: tuple[str, ...], dtype: str | None, rng: np.random.Generator) -> None:
    m = [0.25, 0.37, 0.0117]
    for rows in (1, 3):
        values = np.sort(
            np.array([rng.choice(np.arange(-4000, 4000), 500, replace=False) for _ in range(rows)]), axis=1
        )
        counts = rng.integers(0, 1000, values.shape)
        result = qe.compare_schemes(
            *names, multiplier=m, dtype=dtype, weights=(values, counts), acc_range=(-3900, 3999)
        )
        for couple in result.ordered:
            histogram: dict[int, int] = {}
            for c in range(3):
                x, w = values[c % rows], counts[c % rows]
                inside = x >= -3900
                y, z = brute(*couple.schemes, m[c], x, dtype=dtype)
                differ = (y != z) & inside
                assert couple.by_channel[c] == w[differ].sum()
                assert couple.compared_by_channel[c] == w[inside].sum()
                for d, n in zip((y - z)[differ & (w > 0)].tolist(), w[differ & (w > 0)].tolist(), strict=True):
                    histogram[d] = histogram.get(d, 0) + n
            assert couple.histogram == dict(sorted(histogram.items()))
            assert couple.max_abs_diff == max(map(abs, histogram), default=0)
            if couple.divergent:
                assert couple.first is not None
                channel = int(np.flatnonzero(couple.by_channel)[0])
                assert couple.first.channel == channel
                assert couple.first.acc in values[channel % rows]


def test_what_is_excluded() -> None:
    """vcvt does not take small scales; a left shift of "double" must fit int32."""
    result = qe.compare_schemes("single", "double", "vcvt", multiplier=[0.001, 4.0], dtype="int8")
    low, high = result.domain(1)
    assert (low[0], high[0]) == (1, 0)
    # Four times an accumulator has to fit int32; "double" shifts left by 3 first.
    assert result.excluded == {"single": 2**32 - 2**30, "double": 2**32 - 2**29, "vcvt": 2**33 - 2**30}
    couple = result.couple("single", "vcvt")
    assert couple.compared_by_channel.tolist() == [0, 2**30]
    assert couple.excluded == 2**33 - 2**30
    assert result.classes[-1] == ("vcvt",)


def test_classes() -> None:
    result = qe.compare_schemes(*ALL, multiplier=QuantizedMultiplier(1_583_594_044, -9), dtype="int8")
    grouped = {name: group for group in result.classes for name in group}
    assert sorted(grouped) == sorted(ALL)
    for a, b in itertools.combinations(ALL, 2):
        equal = result.couple(a, b).equal
        assert (grouped[a] is grouped[b]) == equal, (a, b)
    assert grouped["double"] == ("double", "q31", "hifi-out16")


def test_other_shifts() -> None:
    m = QuantizedMultiplier(1_583_594_044, -9)
    varied = across_shifts(qe.compare_schemes("single", "double", multiplier=m))
    assert varied is not None
    assert varied.right_shift.tolist() == list(range(25))
    assert varied.divergent[0, 9] == 4_194_310
    shares = varied.divergent[0, 1:] / 2.0**32
    assert np.allclose(shares * 2.0 ** np.arange(2, 26), 1, rtol=0.02), "the law"
    some = across_shifts(qe.compare_schemes("single", "fp32", "double", multiplier=m, acc_range=(0, 9)))
    assert some is not None
    assert some.schemes == ("single", "double"), "a wide float output would need a scan at every shift"
    assert across_shifts(qe.compare_schemes("single", "fp32", multiplier=m, acc_range=(0, 9))) is None
    narrow = across_shifts(qe.compare_schemes("single", "fp32", multiplier=m, dtype="uint8", zero_point=7))
    assert narrow is not None
    assert narrow.divergent[0, 9] == qe.count_divergence("single", "fp32", m, dtype="uint8", zero_point=7)


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    size = 2 * scan.TILE + 10
    qe.count_divergence("single", "fp32", 0.3, acc_range=(1, size), progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (size, size)


def test_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "run", lambda *_, **__: False)
    with pytest.raises(KeyboardInterrupt):
        qe.count_divergence("single", "fp32", 0.3, acc_range=(1, 99))


# --- errors -------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "no multiplier": (qe.DomainError, "multiplier or scales", {"multiplier": None}),
    "both": (qe.DomainError, "exactly one", {"scales": (1.0, 1.0, 2.0)}),
    "outside": (qe.DomainError, r"multiplier must be in \[.*'rndna'; got 300", {"b": "rndna", "multiplier": 300.0}),
    "range": (qe.DomainError, r"empty; got \[5, 4\]", {"acc_range": (5, 4)}),
    "wide range": (qe.DomainError, "lowest accumulator must be in", {"acc_range": (-(2**31) - 1, 4)}),
    "name": (qe.UnknownNameError, "did you mean 'single'", {"a": "singel"}),
    "engine": (qe.UnknownNameError, "unknown engine 'lattise'", {"engine": "lattise"}),
    "lattice": (qe.DomainError, "'fp32' is a float form", {"b": "fp32", "engine": "lattice"}),
    "staircase": (qe.DomainError, "the output is raw; it takes codes", {"engine": "staircase"}),
    "dtype": (qe.DTypeError, "dtype must be int8", {"dtype": "int4"}),
    "zero point": (qe.DomainError, "zero_point must be in", {"dtype": "int8", "zero_point": 128}),
    "weights": (qe.DomainError, "must be", {"weights": [1, 2, 3]}),
    "float weights": (qe.DTypeError, "must be integers", {"weights": ([0.5], [1])}),
    "falling weights": (qe.DomainError, "must rise", {"weights": ([5, 5], [1, 1])}),
    "weights by lattice": (qe.DomainError, "takes no weights", {"weights": ([5], [1]), "engine": "lattice"}),
}


@pytest.mark.parametrize("name", BAD)
def test_errors(name: str) -> None:
    error, text, given = BAD[name]
    arguments = {"a": "single", "b": "double", "multiplier": 0.25, **given}
    with pytest.raises(error, match=text):
        qe.count_divergence(**arguments)


def test_more_errors() -> None:
    with pytest.raises(qe.DomainError, match="two or more schemes; got 1"):
        qe.compare_schemes("single", multiplier=0.5)
    with pytest.raises(qe.DomainError, match="aliases count as the same"):
        qe.compare_schemes("double", "gemmlowp", multiplier=0.5)
    with pytest.raises(qe.DomainError, match="for scheme 'vcvt'"):
        qe.compare_schemes("single", "vcvt", multiplier=1e-5)
    result = qe.compare_schemes("single", "double", multiplier=0.5)
    with pytest.raises(qe.UnknownNameError, match="compared scheme 'fp32'"):
        result.couple("single", "fp32")
    with pytest.raises(qe.UnknownNameError, match="second scheme"):
        result.couple("single", "single")
    with pytest.raises(qe.DomainError, match="channel must be one of 0 to 1"):
        qe.divergent_inputs("single", "double", [0.5, 0.25])
    with pytest.raises(qe.DomainError, match=r"channel must be in \[0, 1\]; got 2"):
        qe.divergent_inputs("single", "double", [0.5, 0.25], channel=2)
    with pytest.raises(qe.DTypeError, match="channel must be an integer"):
        qe.divergent_inputs("single", "double", [0.5, 0.25], channel=1.0)  # type: ignore[arg-type]
    found = qe.divergent_inputs("single", "double", [0.5, 0.25], channel=1)
    assert found.count == 2**30
    for bad in (True, 0.5, "1"):
        for call in (found.next, found.outputs, found.__getitem__, found.random):
            with pytest.raises(qe.DTypeError, match="integer"):
                call(bad)  # type: ignore[operator]
    with pytest.raises(qe.DomainError, match=r"seed must be in \[0, 18446744073709551615\]; got -1"):
        found.random(1, -1)
    with pytest.raises(qe.DomainError, match="x must be in"):
        found.outputs(2**31)
