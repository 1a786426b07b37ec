"""The census: divisor sums against their definition, both ways against each other, and recorded totals."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.exact import lattice
from qengine.exact.census_question import TILE, Question
from qengine.exact.census_result import CensusResult, Tally
from qengine.exact.divisor_sums import divisor_sums
from qengine.exact.sides import side
from qengine.kernels.cpu import census as kernels
from qengine.kernels.reference import census as reference

FIRST, LAST = 2**30, 2**31 - 1
LEAST, MOST = -(2**31), 2**31 - 1
WAYS = (kernels.CHEAPEST, kernels.BY_MULTIPLIER, kernels.BY_QUOTIENT, kernels.BY_HULL)
Q31 = [row.name for row in qe.schemes() if getattr(row.rule, "mantissa", None) == "q31"]


# --- divisor sums ---------------------------------------------------------------------------------------------
def clipped_sum(w: int, low: int, high: int, first: int, last: int, way: int, depth: int = kernels.DEPTH) -> int:
    arrays = (np.array([v], dtype=np.int64) for v in (w, low, high))
    out = np.empty(1, np.int64)
    kernels.clipped_sums(*arrays, first, last, depth, way, out)
    return int(out[0])


def test_divisor_sums_of_small_numbers(rng: np.random.Generator) -> None:
    for _ in range(1500):
        first = int(rng.integers(1, 10 ** int(rng.integers(1, 5))))
        last = first + int(rng.integers(0, 10 ** int(rng.integers(1, 4))))
        w = int(rng.integers(-1, 10 ** int(rng.integers(1, 10))))
        low = int(rng.integers(-1, max(w // first, 0) + 2)) if rng.random() < 0.5 else -1
        high = int(rng.integers(low, w // first + 3 + low)) if rng.random() < 0.5 else 2**31
        expected = reference.clipped_sum(w, low, high, first, last)
        for way in WAYS:
            assert clipped_sum(w, low, high, first, last, way) == expected
        # Three directions: the stack fills, and the walk ends early.
        assert clipped_sum(w, low, high, first, last, kernels.BY_HULL, 3) == expected


def test_divisor_sums_of_large_numbers(rng: np.random.Generator) -> None:
    """At full width: some mantissas one by one; all of them by quotients against the hull."""
    for _ in range(60):
        first = int(rng.integers(FIRST, LAST - 2000))
        last = first + int(rng.integers(0, 2000))
        w = int(rng.integers(0, 2 ** int(rng.integers(20, 62)))) + int(rng.integers(0, 2) * 2**31)
        expected = sum(min(w // m, 2**31) for m in range(first, last + 1))
        for way in (kernels.CHEAPEST, kernels.BY_MULTIPLIER, kernels.BY_HULL):
            assert clipped_sum(w, -1, 2**31, first, last, way) == expected
    for bits in (31, 40, 47, 50, 52):
        w = int(rng.integers(2**bits, 2 ** (bits + 1)))
        expected = clipped_sum(w, -1, 2**31, FIRST, LAST, kernels.BY_QUOTIENT)
        assert clipped_sum(w, -1, 2**31, FIRST, LAST, kernels.BY_HULL) == expected


@pytest.mark.parametrize("w", [2**62 + 2**31, 2**62, 2**61 - 1, 2**60])
def test_divisor_sums_at_the_widest(w: int) -> None:
    """Quotients up to 2**31 + 1: two halves make the whole, and multiples of a mantissa a step."""
    middle = 3 << 29
    whole = clipped_sum(w, -1, 2**31, FIRST, LAST, kernels.BY_HULL)
    halves = [(FIRST, middle), (middle + 1, LAST)]
    assert whole == sum(clipped_sum(w, -1, 2**31, *half, kernels.BY_HULL) for half in halves)
    for first in (FIRST, middle, LAST - 5000):
        expected = sum(min(w // m, 2**31) for m in range(first, first + 5001))
        assert clipped_sum(w, -1, 2**31, first, first + 5000, kernels.BY_HULL) == expected


# --- small systems, exhaustively --------------------------------------------------------------------------------
def small_side(rng: np.random.Generator, t: int, first: int) -> tuple[int, ...]:
    """A monotone side with biases of either sign, beyond a step too, and its own saturation."""
    while True:
        bp, bn = (int(v) for v in rng.integers(-(2 << t), 3 << t, 2))
        if (bn - first) >> t <= bp >> t:
            return bp, bn, t, int(rng.integers(-9, -1)), int(rng.integers(0, 9)), int(rng.integers(-3, 4))


def small_range(rng: np.random.Generator) -> tuple[int, int]:
    lo, hi = sorted(int(v) for v in rng.integers(-90, 91, 2))
    return lo, hi


def test_the_closed_form_of_small_systems(rng: np.random.Generator) -> None:
    divergent = 0
    for _ in range(400):
        first = int(rng.integers(1, 60))
        last = first + int(rng.integers(0, 60))
        t = int(rng.integers(1, 9))
        a, b = small_side(rng, t, first), small_side(rng, int(rng.integers(1, 9)), first)
        if rng.random() < 0.5:
            b = small_side(rng, t, first)
        lo, hi = small_range(rng)
        expected = reference.census(a, b, first, last, lo, hi)
        sums = divisor_sums(a, b, -13, 13, lo, hi, last)  # type: ignore[arg-type]
        values = [
            reference.clipped_sum(*map(int, row), first, last) for row in zip(sums.w, sums.low, sums.high, strict=True)
        ]
        found = tuple(sum(f * v for f, v in zip(fs, values, strict=True)) for fs in (sums.count, sums.signed))
        assert found == expected, (a, b, first, last, lo, hi)
        out = np.empty(len(values), np.int64)
        kernels.clipped_sums(sums.w, sums.low, sums.high, first, last, kernels.DEPTH, kernels.CHEAPEST, out)
        assert out.tolist() == values
        divergent += expected[0] > 0
    assert divergent > 200


def test_accumulators_of_small_systems(rng: np.random.Generator) -> None:
    for _ in range(300):
        first = int(rng.integers(1, 60))
        last = first + int(rng.integers(0, 60))
        a, b = (small_side(rng, int(rng.integers(1, 9)), first) for _ in range(2))
        lo, hi = small_range(rng)
        rows = [np.array([[0, *one]], dtype=np.int64) for one in (a, b)]
        counts, sums = np.empty(hi - lo + 1, np.int64), np.empty(hi - lo + 1, np.int64)
        kernels.along_multipliers(*rows, first, last, lo, counts, sums)
        assert (counts.sum(), sums.sum()) == reference.census(a, b, first, last, lo, hi)


def test_accumulators_at_the_ends_of_int32() -> None:
    """Slopes of 2**31, and mantissas at both ends, against Python integers."""
    for scheme in ("double", "half-away", "floor-port", "truncate"):
        for shift in (0, -1, -31):
            asked = Question((qe.get_scheme("single"), qe.get_scheme(scheme)), LAST - 40, LAST, LEAST, LEAST + 30, RAW)
            a, b = ((*(int(v[0]) for v in (s.form.bp, s.form.bn, s.form.t)), LEAST, MOST, 0) for s in asked.ends(shift))
            assert asked.accumulators(shift, 0, 31) == reference.census(a, b, LAST - 40, LAST, LEAST, LEAST + 30)


RAW: dict[str, Any] = {"dtype": None, "zero_point": 0, "qmin": None, "qmax": None}


# --- recorded totals ------------------------------------------------------------------------------------------
def test_total_of_shift_4() -> None:
    result = qe.census("single", "double", shift=-4)
    assert result.total == 190017723866
    assert result.by_shift[-4].multipliers == 2**30
    assert result.compared == 2**62
    assert result.methods == {-4: "closed"}


@pytest.mark.parametrize(
    ("n", "mean"), [(1, 178.597890), (2, 177.641584), (4, 176.967796), (8, 176.765854), (12, 176.753395)]
)
def test_means_a_multiplier(n: int, mean: float) -> None:
    assert round(qe.census("single", "double", shift=-n).by_shift[-n].mean, 6) == mean


def test_total_of_a_bounded_raw_range() -> None:
    result = qe.census("single", "double", shift=-4, acc_range=(-1024, 1024), dtype=None)
    assert result.total == 68982895980
    assert result.methods == {-4: "closed"}


def test_no_shift_no_divergence() -> None:
    """Without a right shift, two stages are one; half away differs from half up on each of the negative ties only."""
    assert qe.census("single", "double", shift=0).total == 0
    # m x = 2**30 (mod 2**31): only even mantissas have ties within int32; to the code -128 and from it on.
    assert qe.census("single", "half-away", shift=0, multipliers=(FIRST, FIRST)).total == 128
    assert qe.census("single", "half-away", shift=0, multipliers=(FIRST + 1, FIRST + 1)).total == 0


def test_recorded_totals_of_all_shifts() -> None:
    """The recorded file, README's table, and what is counted today of the shifts that take milliseconds."""
    root = Path(__file__).parents[2]
    recorded = json.loads((root / "benchmarks" / "results" / "census-single-double-int8.json").read_text())
    totals = {row["shift"]: (row["divergent"], row["mean"]) for row in recorded["by_shift"]}
    assert sorted(totals) == list(range(-30, 1))
    assert recorded["total"]["divergent"] == sum(total for total, _ in totals.values())
    table = re.findall(r"\b(\d+) \| ([\d,]+) \| (\d+\.\d{6}) \|", (root / "README.md").read_text(encoding="utf-8"))
    printed = {-int(n): (int(total.replace(",", "")), mean) for n, total, mean in table}
    assert printed == {shift: (total, f"{mean:.6f}") for shift, (total, mean) in totals.items()}
    quick = qe.census("single", "double", shifts=range(-12, 1))
    assert {shift: (tally.divergent, tally.mean) for shift, tally in quick.by_shift.items()} == {
        shift: totals[shift] for shift in range(-12, 1)
    }


@pytest.mark.slow
def test_total_of_shift_4_by_tiles() -> None:
    result = qe.census("single", "double", shift=-4, method="tiles")
    assert (result.total, result.signed) == (190017723866, -744392556)


@pytest.mark.slow
def test_total_of_a_bounded_raw_range_by_tiles() -> None:
    result = qe.census("single", "double", shift=-4, acc_range=(-1024, 1024), dtype=None, method="tiles")
    assert result.total == 68982895980


@pytest.mark.slow
def test_all_shifts_in_closed_form() -> None:
    """A code of 255 parts single and double with probability 2**30 / m; from shift -24 on int32 ends before them."""
    result = qe.census("single", "double")
    assert set(result.by_shift) == set(range(-30, 1))
    recorded = Path(__file__).parents[2] / "benchmarks" / "results" / "census-single-double-int8.json"
    assert result.to_dict()["by_shift"] == json.loads(recorded.read_text())["by_shift"]
    assert result.compared == 31 * 2**62
    for n in range(1, 24):
        assert result.by_shift[-n].mean == pytest.approx(255 * np.log(2), rel=1.05e-2)
    for n in range(24, 31):
        assert result.by_shift[-n].mean == pytest.approx(2 ** (31 - n), rel=2e-2)


# --- both ways agree --------------------------------------------------------------------------------------------
OPTIONS: list[dict[str, Any]] = [
    {},
    {"dtype": "uint8", "zero_point": 131, "acc_range": (LEAST, 5)},
    {"zero_point": -100, "qmin": -5, "acc_range": (7, 10**9)},
    {"dtype": "int16", "qmin": -300, "qmax": 299, "acc_range": (-(10**6), -3)},
]


def both(a: str, b: str, **options: Any) -> tuple[CensusResult, CensusResult]:
    closed, tiles = (qe.census(a, b, method=method, **options) for method in ("closed", "tiles"))
    assert (closed.total, closed.signed, closed.compared) == (tiles.total, tiles.signed, tiles.compared)
    return closed, tiles


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    ("a", "b"),
    [("single", "double"), ("double", "floor-port"), ("half-away", "truncate"), ("hifi-out16", "double-up")],
)
def test_clamped_totals_agree(a: str, b: str, options: dict[str, Any], rng: np.random.Generator) -> None:
    first = int(rng.integers(FIRST, LAST - 2000))
    for shift in (0, -1, -4, -9, -20, -24, -30):
        both(a, b, shift=shift, multipliers=(first, first + 2000), **options)


def test_samples_of_all_shifts_agree(rng: np.random.Generator) -> None:
    for shift in range(0, -32, -1):
        first = int(rng.integers(FIRST, LAST - 999))
        closed, _ = both("single", "double", shift=shift, multipliers=(first, first + 999))
        assert (closed.total > 0) == (shift < 0)


@pytest.mark.parametrize("first", [FIRST, LAST - 300])
def test_every_pair_agrees(first: int) -> None:
    """At both ends of the mantissas, every two schemes of the Q0.31 mantissa."""
    divergent = 0
    for i, a in enumerate(Q31):
        for b in Q31[i + 1 :]:
            closed, _ = both(a, b, shifts=(-3, -7), multipliers=(first, first + 300), acc_range=(LEAST, 2**30))
            divergent += closed.total > 0
    assert divergent > 20


def test_left_shifts_agree() -> None:
    """Scheme "double" shifts the accumulator first, which bounds it whatever the mantissa."""
    few = (FIRST + 5, FIRST + 500)
    closed, _ = both("double", "double-up", shifts=(1, 8), multipliers=few)
    assert closed.compared == 496 * (2**31 + 2**24)
    both("single", "half-away", shift=3, multipliers=few, acc_range=(-(2**20), 2**20))
    with pytest.raises(qe.DomainError, match=r"at shift 3 the accumulators .* depend on the mantissa"):
        qe.census("single", "half-away", shift=3, multipliers=few, dtype=None, method="closed")
    assert qe.census("single", "half-away", shift=3, multipliers=few, dtype=None).methods == {3: "tiles"}


@pytest.mark.parametrize(("a", "b"), [("single", "double"), ("truncate", "floor-port"), ("hifi-out16", "half-away")])
def test_raw_totals_agree(a: str, b: str, rng: np.random.Generator) -> None:
    first = int(rng.integers(FIRST, LAST - 400))
    for shift in (0, -1, -5, -31):
        for bounds in ((-200, 200), (LEAST, LEAST + 200), (MOST - 200, MOST), (10**9, 10**9 + 200)):
            both(a, b, shift=shift, multipliers=(first, first + 400), acc_range=bounds, dtype=None)


def test_auto_takes_the_shorter_sum() -> None:
    few = (FIRST, FIRST + 99)
    common: dict[str, Any] = {"shift": -4, "multipliers": few, "dtype": None}
    assert qe.census("single", "double", acc_range=(0, 9), **common).methods == {-4: "closed"}
    assert qe.census("single", "double", acc_range=(0, 99), **common).methods == {-4: "closed"}
    assert qe.census("single", "double", acc_range=(0, 100), **common).methods == {-4: "tiles"}
    assert qe.census("single", "double", shift=-4, multipliers=few).methods == {-4: "tiles"}


# --- tiles ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("a", "b"), [("single", "double"), ("single", "fp32"), ("rndnu16", "fp32-zp-inside")])
def test_tiles_count_each_multiplier(a: str, b: str, rng: np.random.Generator) -> None:
    first = int(rng.integers(FIRST, LAST - 600))
    values = np.arange(first, first + 600)
    each = np.asarray(
        qe.count_divergence(
            a, b, qe.QuantizedMultiplier(values, np.full(600, -8)), dtype="int8", zero_point=-7, engine="staircase"
        )
    )
    result = qe.census(a, b, shift=-8, multipliers=(first, first + 599), zero_point=-7)
    assert result.methods == {-8: "tiles"}
    assert result.total == each.sum()
    assert result.divergent_multipliers == np.count_nonzero(each)
    assert result.most == (each.max(), values[each.argmax()], -8)


def test_raw_tiles_count_each_multiplier() -> None:
    values = np.arange(FIRST + 7, FIRST + 307)
    multiplier = qe.QuantizedMultiplier(values, np.full(300, -6))
    for a, b in (("single", "double"), ("single", "rndnu"), ("vcvt", "tosa-scale16")):
        each = np.asarray(qe.count_divergence(a, b, multiplier, engine="lattice"))
        result = qe.census(a, b, shift=-6, multipliers=(FIRST + 7, FIRST + 306), dtype=None)
        assert result.total == each.sum()
        assert result.most == (each.max(), values[each.argmax()], -6)


def test_sums_of_raw_tiles_are_exact() -> None:
    """256 S just below 3/2 becomes 1: differences of up to 2**22, whose sum leaves int64."""
    last = (3 << 29) - 1
    options: dict[str, Any] = {"multipliers": (last - 5999, last), "acc_range": (0, MOST), "dtype": None}
    result = qe.census("single", "vcvt", shift=-7, **options)
    values = np.arange(last - 5999, last + 1)
    multiplier = qe.QuantizedMultiplier(values, np.full(6000, -7))
    each = lattice.difference_sum(side("single", multiplier), side("vcvt", multiplier), 0)
    assert result.signed == sum(each.tolist())
    assert abs(result.signed) > 2**63


def test_a_tile_is_a_function_of_its_range(rng: np.random.Generator) -> None:
    asked = Question(
        (qe.get_scheme("single"), qe.get_scheme("fp32")), FIRST, LAST, LEAST, MOST,
        {"dtype": "int8", "zero_point": 0, "qmin": None, "qmax": None},
    )  # fmt: skip
    start = int(rng.integers(0, 2**30 - 900))
    whole = asked.tile(-11, start, start + 900)
    cuts = [start, *sorted(int(v) for v in rng.integers(start + 1, start + 900, 6)), start + 900]
    parts = [asked.tile(-11, u, v) for u, v in itertools.pairwise(cuts) if u < v]
    rng.shuffle(parts)  # type: ignore[arg-type]
    left, right = Tally(), Tally()
    for part in parts:
        left, right = left.merge(part), part.merge(right)
    assert left == right == whole
    assert whole.divergent > 0


def test_tallies_that_were_not_counted_one_by_one() -> None:
    merged = Tally(10, 100, 5, -1).merge(Tally(1, 10, 5, 3, 1, 5, FIRST))
    assert merged == Tally(11, 110, 10, 2)


# --- interruption -----------------------------------------------------------------------------------------------
def interrupt_after(calls: int) -> Any:
    seen = []

    def progress(done: int, total: int) -> None:
        assert 0 <= done <= total
        seen.append(done)
        if len(seen) >= calls:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("threads", [1, 3])
def test_interrupted_tiles_are_the_first_ones(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QENGINE_NUM_THREADS", str(threads))
    result = qe.census(
        "single", "double", shifts=(-4, -5), multipliers=(FIRST, FIRST + 40 * TILE), method="tiles",
        progress=interrupt_after(3),
    )  # fmt: skip
    assert not result.complete
    done = result.multipliers
    assert 3 * TILE <= done <= (3 + 2 * threads) * TILE
    assert result.by_shift.keys() == {-4}
    again = qe.census("single", "double", shift=-4, multipliers=(FIRST, FIRST + done - 1))
    assert (result.total, result.signed, result.most) == (again.total, again.signed, again.most)
    text = str(result)
    assert "INTERRUPTED" in text
    assert "-4 (part)" in text
    assert "0 of 2 shifts whole" in text
    assert result.to_dict()["complete"] is False


def test_an_interrupted_closed_form_keeps_whole_shifts() -> None:
    whole: list[int] = []

    def progress(done: int, total: int) -> None:
        whole.append(done)
        if done > total // 2:
            raise KeyboardInterrupt

    result = qe.census("single", "double", shifts=(-4, -5), progress=progress)
    assert not result.complete
    assert {shift: tally.divergent for shift, tally in result.by_shift.items()} == {-4: 190017723866}
    assert "1 of 2 shifts whole" in str(result)


# --- results and errors -----------------------------------------------------------------------------------------
def test_plain_data_and_text() -> None:
    result = qe.census("single", "tflite", shifts=range(-4, -2), multipliers=(FIRST, FIRST + 9), zero_point=3)
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["schemes"] == ["single", "double"]
    assert data["shifts"] == [-4, -3]
    assert data["mantissas"] == [FIRST, FIRST + 9]
    assert data["output"] == {"dtype": "int8", "zero_point": 3, "qmin": -128, "qmax": 127}
    assert data["total"]["divergent"] == result.total == sum(row["divergent"] for row in data["by_shift"])
    assert data["total"]["most"] == {"divergent": 255, "value": FIRST, "shift": -4}
    assert [row["method"] for row in data["by_shift"]] == ["tiles", "tiles"]
    text = str(result)
    for word in ("single / double", "int8 [-128, 127], zero point 3", f"{result.total:,}", "255 at 1073741824"):
        assert word in text


def test_an_empty_domain_compares_nothing() -> None:
    """x << 30 fits int32 for -2 to 1 only."""
    for method in ("closed", "tiles"):
        result = qe.census(
            "double", "double-up", shift=30, multipliers=(FIRST, FIRST + 9), acc_range=(50, 60), method=method
        )
        assert (result.total, result.compared, result.multipliers, result.rate) == (0, 0, 10, 0.0)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"shift": 31}, qe.DomainError, r"shift must be in \[-31, 30\] .* got 31"),
        ({"shift": 1.5}, qe.DTypeError, "shift must be an integer; got 1.5"),
        ({"shift": True}, qe.DTypeError, "shift must be an integer; got True"),
        ({"shift": -1, "shifts": (-1,)}, qe.DomainError, "give shift or shifts, not both"),
        ({"shifts": ()}, qe.DomainError, "at least one shift"),
        ({"shifts": (-1, -2, -1)}, qe.DomainError, "twice; got -1 again"),
        ({"shifts": "-1"}, qe.DTypeError, "shifts must be several integers; got '-1'"),
        ({"shifts": range(-(10**12), 0)}, qe.DomainError, "got -1000000000000"),
        ({"multipliers": (2**30 - 1, 2**30)}, qe.DomainError, r"within \[1073741824, 2147483647\].*1073741823"),
        ({"multipliers": (2**30 + 1, 2**30)}, qe.DomainError, "ascending"),
        ({"multipliers": (2**30, 2**31)}, qe.DomainError, "got .1073741824, 2147483648"),
        ({"multipliers": 2**30}, qe.DomainError, "first mantissa, last mantissa"),
        ({"multipliers": (2.0**30, 2**31)}, qe.DTypeError, "a mantissa must be an integer; got 1073741824.0"),
        ({"acc_range": (5, 4)}, qe.DomainError, "acc_range must not be empty"),
        ({"acc_range": (0, 2**31)}, qe.DomainError, "2147483648"),
        ({"zero_point": 200}, qe.DomainError, "200"),
        ({"zero_point": (1, 2)}, qe.DTypeError, "zero_point must be an integer"),
        ({"dtype": "int4"}, qe.DTypeError, "int4"),
        ({"method": "fast"}, qe.UnknownNameError, "fast"),
    ],
)
def test_errors(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        qe.census("single", "double", **options)


def test_methods_that_do_not_apply() -> None:
    with pytest.raises(qe.DomainError, match=r"'fp32' does not multiply by the Q0\.31 mantissa itself"):
        qe.census("single", "fp32", shift=-3, method="closed")
    with pytest.raises(qe.DomainError, match="'fp32' is a float form: its output has to be clamped"):
        qe.census("single", "fp32", shift=-3, dtype=None)
    with pytest.raises(qe.DomainError, match="must differ; got double twice"):
        qe.census("tflite", "double")
