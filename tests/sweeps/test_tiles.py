"""Tiles: cpu equals reference on every plan and cut, cuts merge, and counts derived again with the oracle."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine import backends
from qengine.backends.pairs import Work
from qengine.kernels.codes import BIN_ORIGIN, DIFFERENCE_LIMIT
from qengine.kernels.reference import draws
from qengine.kernels.reference import sweep as reference
from qengine.requant.multiplier import QuantizedMultiplier
from qengine.requant.scales import read_scales
from qengine.sweeps.plan import Multipliers, SweepPlan, make_plan
from qengine.sweeps.tally import Tally
from qengine.sweeps.work import make_work
from tests import oracle
from tests.requant import cases
from tests.sweeps.plans import ALL, PLANS, RIGHT, SAMPLE, TAME, USUAL, drawn, plan, table, work

Raw = dict[str, np.ndarray]
#: Tiles of one plan: whole groups, parts of one, across several, empty, one pair.
CUTS = ((0, 2048), (0, 1), (5, 64), (2040, 2060), (1023, 3201), (777, 777), (8999, 9000), (7000, 9000))


def tally_of(name: str, w: Work, start: int, stop: int) -> Raw:
    return backends.load(name).sweep_tile(w, start, stop)


def assert_same(got: Raw, expected: Raw) -> None:
    assert got.keys() == expected.keys()
    for field in expected:
        assert got[field].dtype == np.int64
        np.testing.assert_array_equal(got[field], expected[field], err_msg=field)


def assert_consistent(raw: Raw, pairs: int) -> None:
    """Counts, histogram, largest difference and witnesses tell one story."""
    divergent = raw["counts"][:, :, 1].sum(axis=1)
    np.testing.assert_array_equal(raw["differences"].sum(axis=1), divergent)
    np.testing.assert_array_equal(raw["largest"] > 0, divergent > 0)
    assert (raw["differences"][:, DIFFERENCE_LIMIT + 1] == 0).all()
    found = (raw["witnesses"] >= 0).sum(axis=1)
    np.testing.assert_array_equal(found, np.minimum(divergent, raw["witnesses"].shape[1]))
    assert (raw["counts"].sum(axis=(1, 2)) <= pairs).all()
    assert (raw["outside"] <= pairs).all()
    for couple, (i, j) in enumerate(combinations(range(raw["outside"].size), 2)):
        compared = int(raw["counts"][couple].sum())
        assert compared >= pairs - int(raw["outside"][i]) - int(raw["outside"][j])
        assert compared <= pairs - max(int(raw["outside"][i]), int(raw["outside"][j]))


@pytest.mark.parametrize("name", PLANS)
def test_equal_to_the_reference(name: str, other_backend: str) -> None:
    w = work(name)
    for start, stop in CUTS:
        expected = reference.tile(w, start, stop)
        assert_consistent(expected, stop - start)
        assert_same(tally_of(other_backend, w, start, stop), expected)


@pytest.mark.parametrize(
    "name", ["right, one word", "table, unsaturated", "range", "range, int8, unsaturated", "all, across zero"]
)
def test_equal_without_masks(name: str, other_backend: str) -> None:
    """Schemes whose domain holds every pair run without domain checks; raw ones without an epilogue."""
    schemes = ("single", "half-away", "fp32", "rndnu", "fp64-away")
    options = {**PLANS[name]}
    if name == "right, one word":
        options["accumulators"] = "uniform:-8388608:8388607"
    w = make_work(make_plan(schemes, pairs=9000, seed=3, **options))
    assert w.total.all()
    for start, stop in CUTS:
        assert_same(tally_of(other_backend, w, start, stop), reference.tile(w, start, stop))


@pytest.mark.parametrize("schemes", [("single", "double"), ("fp32-away", "fp32")])
def test_equal_for_two_schemes(schemes: tuple[str, str], other_backend: str) -> None:
    """Kernels are compiled for the forms that are there: each alone too."""
    for name in ("table, wild, int8", "range, far, raw"):
        w = work(name, schemes)
        assert_same(tally_of(other_backend, w, 100, 5000), reference.tile(w, 100, 5000))


@pytest.mark.parametrize("count", [0, 1, 3, 500])
def test_number_of_witnesses(count: int, other_backend: str) -> None:
    for name in ("right, one word", "range, far, int8"):
        w = work(name, ("double", "single", "floor-port"), count)
        expected = reference.tile(w, 10, 6000)
        assert expected["witnesses"].shape == (3, count)
        assert_same(tally_of(other_backend, w, 10, 6000), expected)


def test_far_indices(other_backend: str) -> None:
    for name in ("right, odd span", "table, wild, raw laplace", "range, far, raw"):
        w = work(name)
        for start in (2**32 - 700, 2**44 + 77, 2**61 + 2040):
            assert_same(tally_of(other_backend, w, start, start + 1500), reference.tile(w, start, start + 1500))


def test_real_scales(other_backend: str) -> None:
    multipliers = Multipliers(table=read_scales(SAMPLE))
    for options in ({}, {"accumulators": "normal:20000"}, {"accumulators": "output-laplace:20", "zero_point": 5}):
        w = make_work(make_plan(ALL, multipliers=multipliers, seed=9, **options))
        for start, stop in ((0, 30_000), (64 * 301 - 5, 64 * 301 + 70)):
            assert_same(tally_of(other_backend, w, start, stop), reference.tile(w, start, stop))


# --- merging --------------------------------------------------------------------------------------------------


def merged(tiles: Iterable[tuple[int, int]], tile: Callable[[int, int], Raw]) -> Tally:
    total = Tally.of(tile(0, 0), 0)
    for start, stop in tiles:
        total = total.merged(Tally.of(tile(start, stop), stop - start))
    return total


def assert_same_tally(got: Tally, expected: Tally) -> None:
    assert got.pairs == expected.pairs
    for field in ("counts", "differences", "largest", "outside", "witnesses"):
        np.testing.assert_array_equal(getattr(got, field), getattr(expected, field), err_msg=field)
    assert got.describe() == expected.describe()


@pytest.mark.parametrize("name", ["right, one word", "table, wild, int8", "range, far, raw", "range", "all, low end"])
def test_any_partition_in_any_order_merges(name: str, rng: np.random.Generator) -> None:
    w = work(name)
    cpu = functools.partial(tally_of, "cpu", w)
    whole = merged([(0, 9000)], cpu)
    assert_same_tally(merged([(0, 9000)], functools.partial(reference.tile, w)), whole)
    for size in (777, 2048):
        assert_same_tally(merged([(s, min(s + size, 9000)) for s in range(0, 9000, size)], cpu), whole)
    for parts in (2, 9, 60):
        edges = [0, *sorted(int(e) for e in rng.integers(0, 9001, parts - 1)), 9000]
        tiles = list(pairwise(edges))
        rng.shuffle(tiles)
        assert_same_tally(merged([(int(a), int(b)) for a, b in tiles], cpu), whole)


def test_merge_is_associative() -> None:
    w = work("range, far, raw")

    def part(k: int) -> Tally:
        return Tally.of(reference.tile(w, 1000 * k, 1000 * (k + 1)), 1000)

    left, right, both = part(0), part(1), part(2)
    left = left.merged(part(1))
    left = left.merged(part(2))
    right = right.merged(both)
    first = part(0)
    first = first.merged(right)
    assert_same_tally(first, left)


# --- counted again --------------------------------------------------------------------------------------------


def multiplier_of(p: SweepPlan, scheme: str, channel: int, real: float | None) -> tuple[int, int] | float:
    """What the scheme is given: by its recipe from a table, the fixed multiplier, or the drawn real number."""
    if real is not None:
        return real
    m = p.multipliers
    if m.table is not None:
        return oracle.recipe(qe.get_scheme(scheme).recipe, *(float(column[channel]) for column in m.table.scales))
    if isinstance(m.fixed, QuantizedMultiplier):
        return m.fixed.value, m.fixed.shift
    assert m.fixed is not None
    return float(m.fixed)


def bin_of(p: SweepPlan, channel: int, real: float | None) -> int:
    """Cell of the multiplier's exponent; 0 for a multiplier that QuantizeMultiplier flushes."""
    given = multiplier_of(p, "single", channel, real)
    value, shift = given if isinstance(given, tuple) else oracle.quantize_multiplier(given)
    return shift + BIN_ORIGIN if value else 0


def recount(p: SweepPlan, w: Work, start: int, stop: int) -> Raw:
    """The tally, pair by pair, with the oracle's outputs."""
    names = [row.name for row in p.schemes]
    couples = list(combinations(range(len(names)), 2))
    raw = {key: np.zeros_like(value) for key, value in reference.tile(w, 0, 0).items()}
    raw["witnesses"] -= 1
    limits = (p.qmin, p.qmax) if p.dtype else None
    x, channel, real = draws.draw(w, start, stop)
    for i, (acc, c) in enumerate(zip(x.tolist(), channel.tolist(), strict=True)):
        drawn_real = float(real[i]) if real.size else None
        z = int(p.zero_point if p.zero_point is not None else p.multipliers.table.zero_point[c])
        outputs = [
            cases.expected(name, acc, multiplier_of(p, name, c, drawn_real), zero_point=z, limits=limits)
            for name in names
        ]
        cell = bin_of(p, c, drawn_real)
        raw["outside"] += np.array([y is None for y in outputs])
        for couple, (a, b) in enumerate(couples):
            ya, yb = outputs[a], outputs[b]
            if ya is None or yb is None:
                continue
            d = ya - yb
            raw["counts"][couple, cell, int(d != 0)] += 1
            if d:
                place = min(max(d, -DIFFERENCE_LIMIT - 1), DIFFERENCE_LIMIT + 1)
                raw["differences"][couple, place + DIFFERENCE_LIMIT + 1] += 1
                raw["largest"][couple] = max(raw["largest"][couple], abs(d))
                free = np.flatnonzero(raw["witnesses"][couple] < 0)
                if free.size:
                    raw["witnesses"][couple, free[0]] = start + i
    return raw


@pytest.mark.parametrize("name", [n for n in PLANS if n != "shift outside every domain"])
def test_counted_again_with_the_oracle(name: str) -> None:
    p, w = plan(name), work(name)
    start, stop = (1900, 2060) if w.channels == 1 else (2048 - 700, 2048 + 600)
    if w.channels > 1:
        # Runs of 64 pairs: take a few pairs of every channel.
        for first in range(start, stop, RUN_PART):
            assert_same(reference.tile(w, first, first + 8), recount(p, w, first, first + 8))
        return
    assert_same(reference.tile(w, start, stop), recount(p, w, start, stop))


RUN_PART = 64


def test_shift_outside_every_domain_counts_apart(backend: str) -> None:
    """2**39.. times anything: no integer scheme takes it; the float ones do, where the result fits."""
    raw = tally_of(backend, work("shift outside every domain"), 0, 9000)
    by_name = dict(zip(ALL, raw["outside"].tolist(), strict=True))
    x = draws.draw(work("shift outside every domain"), 0, 9000)[0]
    for row in qe.schemes():
        assert by_name[row.name] == (int((x != 0).sum()) if row.form == "float" else 9000), row.name


def test_bin_of_flushed_multipliers_can_differ(backend: str) -> None:
    """Just below 2**-32 the mantissa flushes to zero while float32 rounds up: -2**31 times it is a tie, -0.5."""
    w = work("range, flushed, at the ends", ("single", "fp32-away"))
    raw = tally_of(backend, w, 0, 3000)
    assert raw["outside"].tolist() == [0, 0]
    assert raw["counts"][0, 0].tolist() == [0, 3000]
    assert raw["differences"].sum() == 3000


def test_histogram_has_outer_cells(backend: str) -> None:
    """Differences beyond the limit are counted at the ends, and the largest is exact."""
    w = make_work(make_plan(("hifi-out16", "single"), multipliers=RIGHT, accumulators="uniform", pairs=5000))
    raw = tally_of(backend, w, 0, 5000)
    assert raw["differences"][0, 0] > 100
    assert raw["differences"][0, -1] > 100
    x = draws.draw(w, 0, 5000)[0]
    single = [oracle.requantize("single", int(v), multiplier=(1_527_099_593, -6)) for v in x]
    assert raw["largest"][0] == max(abs(y - min(max(y, -32768), 32767)) for y in single)


def test_domain_edges_of_one_multiplier(backend: str) -> None:
    """A left shift of 3: accumulators beyond 2**28 overflow; every one near the edge is judged like the oracle."""
    for low in (2**28 - 40, -(2**28) - 40, -(2**31), 2**31 - 80):
        p = make_plan(ALL, multipliers=PLANS["left, laplace"]["multipliers"], accumulators=f"all:{low}:{low + 79}")
        w = make_work(p)
        assert_same(tally_of(backend, w, 0, 80), recount(p, w, 0, 80))


@pytest.mark.parametrize(("low", "high"), [(0.99999, 1.00001), (255.999, 256.001), (2.0**30.999, 2.0**31.001)])
def test_domain_edges_of_a_range(low: float, high: float, backend: str) -> None:
    """Multipliers around an edge of some scheme's domain."""
    for accumulators in ("uniform:-5:5", "uniform"):
        p = make_plan(ALL, multipliers=drawn(low, high), accumulators=accumulators, pairs=300, seed=1)
        w = make_work(p)
        expected: Any = recount(p, w, 0, 150)
        assert_same(tally_of(backend, w, 0, 150), expected)


def test_unmasked_plans_have_nothing_outside(backend: str) -> None:
    """`Work.total` is never falsely true."""
    for options in (
        {"multipliers": USUAL},
        {"multipliers": USUAL, "dtype": "int8"},
        {"multipliers": table(TAME)},
        {"multipliers": drawn(2.0**-31.9, 200.0, "log-uniform"), "accumulators": "uniform:-1000:1000"},
    ):
        w = make_work(make_plan(ALL, pairs=4000, **options))
        outside = tally_of(backend, w, 0, 4000)["outside"]
        assert (outside[w.total] == 0).all()


@pytest.mark.parametrize("witnesses", [0, 8, 3000])
@pytest.mark.parametrize("names", [("single", "double"), ("double", "single"), ("single", "half-away")])
def test_sums_of_consecutive_accumulators(names: tuple[str, str], witnesses: int) -> None:
    """The loop that sums differences alone, its cuts at 0 and its tiles: the reference's tally."""
    for value, shift, low, high in (
        (1_518_500_250, -1, -30_011, 40_017), (1_527_099_593, -6, -100_001, -7), (1_395_864_371, -3, 5, 70_000),
        (1 << 30, 0, -9_999, 20_000), (1 << 30, -2, -8_192, 8_191), ((1 << 31) - 1, -30, 2**31 - 50_000, 2**31 - 1),
        (1 << 30, -30, -(2**31), 50_000 - 2**31),
    ):  # fmt: skip
        options: dict[str, Any] = {
            "multiplier": qe.QuantizedMultiplier(value, shift), "acc": f"all:{low}:{high}", "witnesses": witnesses,
        }  # fmt: skip
        wanted = qe.sweep(*names, backend="reference", **options)
        for tile_pairs in (None, 4099):
            got = qe.sweep(*names, backend="cpu", tile_pairs=tile_pairs, threads=1, **options)
            assert got.digest == wanted.digest
            assert got.histogram == wanted.histogram
            assert got.max_abs_diff == wanted.max_abs_diff
