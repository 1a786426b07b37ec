"""The lattice engine against brute force at small width, big integers at full width, and recorded golden values."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qengine as qe
from qengine.exact import lattice, staircase
from qengine.exact.sides import Side, common_domain, side
from qengine.kernels.cpu import floor_sums
from qengine.kernels.cpu import lattice as kernels
from qengine.kernels.reference import lattice as reference
from tests import oracle

LEAST, MOST = -(2**31), 2**31 - 1
RAW = (LEAST, MOST, 0)
Row = tuple[int, ...]


def floor_rows() -> list[str]:
    return [row.name for row in qe.schemes() if row.form == "floor"]


# --- the kernels on rows --------------------------------------------------------------------------------------
def outputs(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Outputs of many small sides on the same accumulators, straight from the definition."""
    a, bp, bn, t, low, high, z = (column[:, None] for column in rows.T)
    return np.clip((a * x + np.where(x >= 0, bp, bn)) >> t, low, high) + z


def differences(a: np.ndarray, b: np.ndarray, lo: int, hi: int) -> np.ndarray:
    x = np.arange(lo, hi + 1, dtype=np.int64)
    return outputs(b, x) - outputs(a, x)


def check_channels(a: np.ndarray, b: np.ndarray, lo: int, hi: int) -> int:
    """Counts, sums and extremes of many sides against brute force; returns how many differ somewhere."""
    d = differences(a, b, lo, hi)
    n = len(a)
    low, high = np.full(n, lo), np.full(n, hi)
    counts, sums, ends = np.empty(n, np.int64), np.empty((n, 2), np.int64), np.empty((2, n), np.int64)
    kernels.count(a, b, low, high, counts)
    np.testing.assert_array_equal(counts, (d != 0).sum(axis=1))
    kernels.difference_sums(a, b, low, high, sums)
    np.testing.assert_array_equal(sums.sum(axis=1), d.sum(axis=1))
    kernels.extents(a, b, low, high, *ends)
    np.testing.assert_array_equal(ends[0], d.min(axis=1))
    np.testing.assert_array_equal(ends[1], d.max(axis=1))
    return int((counts > 0).sum())


def listed(a: np.ndarray, b: np.ndarray, lo: int, hi: int, size: int, patience: int) -> list[int]:
    """All divergent accumulators, `size` at a time."""
    found: list[int] = []
    x = lo
    while x <= hi:
        out = np.empty(size, np.int64)
        n = kernels.fill(a, b, x, hi, patience, out)
        found += out[:n].tolist()
        if n < size:
            break
        x = int(out[-1]) + 1
    return found


def check_one(a: np.ndarray, b: np.ndarray, lo: int, hi: int) -> None:
    """Histogram, listing and ranks of one pair of rows against brute force."""
    d = differences(a, b, lo, hi)[0]
    x = np.flatnonzero(d) + lo
    bottom = int(d.min())
    counts = np.zeros(int(d.max()) - bottom + 1, np.int64)
    kernels.histogram(a, b, lo, hi, bottom, counts)
    np.testing.assert_array_equal(counts, np.bincount(d - bottom))
    for size, patience in ((1, 256), (7, 0), (len(d), 256), (len(d), 1)):
        assert listed(a, b, lo, hi, size, patience) == x.tolist()
    out = np.empty(x.size, np.int64)
    kernels.ranked(a, b, lo, hi, np.arange(x.size), out)
    np.testing.assert_array_equal(out, x)


def table(rows: Any) -> np.ndarray:
    return np.array(list(rows), dtype=np.int64)


def test_like_lines_exhaustively() -> None:
    """Every multiplier below 2**4, every shift to 4, every pair of biases of a period, with an odd one below zero."""
    sides_a, sides_b = [], []
    for t in (1, 2, 3, 4):
        for a, p, q in itertools.product(range(16), range(2**t), range(2**t + 1)):
            sides_a.append((a, p, 2**t - p, t, *RAW))
            sides_b.append((a, q, q - 1, t, *RAW))
    a, b = table(sides_a), table(sides_b)
    assert len(a) == 16 * sum(2**t * (2**t + 1) for t in (1, 2, 3, 4))
    for lo, hi in ((-40, 37), (-9, -1), (0, 16), (3, 3)):
        assert check_channels(a, b, lo, hi) > 1000
    for k in range(0, len(a), 3):
        check_one(a[k : k + 1], b[k : k + 1], -21, 30)


def test_unlike_lines_exhaustively() -> None:
    """Every pair of multipliers below 2**3 and of shifts to 3, with ties, whole and uneven biases."""
    lines = [
        (a, bp, bn, t, *RAW)
        for a, t in itertools.product(range(8), (1, 2, 3))
        for bp, bn in ((0, 0), (2 ** (t - 1), 2 ** (t - 1)), (2 ** (t - 1) + 1, 2 ** (t - 1) - 1), (-3, 2**t))
    ]
    a, b = (table(side) for side in zip(*itertools.product(lines, lines), strict=True))
    assert len(a) == (8 * 3 * 4) ** 2
    for lo, hi in ((-33, 34), (-6, -1), (0, 9)):
        assert check_channels(a, b, lo, hi) > 5000
    for k in range(0, len(a), 7):
        check_one(a[k : k + 1], b[k : k + 1], -19, 23)


def test_clamps_exhaustively() -> None:
    """Clamps and zero points, the same on both sides and not, down to a clamp to one code."""
    lines = [(a, 2 ** (t - 1), 2 ** (t - 1) - 1, t) for a, t in itertools.product((0, 1, 3, 5), (1, 2, 3))]
    lines += [(3, 0, 7, 3), (5, 6, -2, 2)]
    clamps = [(-3, 4, 0), (-3, 4, 1), (0, 5, -2), (-2, -2, 0), (4, 4, 3), (-9, -4, 0), (5, 9, 1), RAW]
    pairs = itertools.product(itertools.product(lines, clamps), repeat=2)
    a, b = (table(line + clamp for line, clamp in sides) for sides in zip(*pairs, strict=True))
    for lo, hi in ((-26, 27), (-5, -1), (0, 7)):
        assert check_channels(a, b, lo, hi) > 5000
    for k in range(0, len(a), 11):
        check_one(a[k : k + 1], b[k : k + 1], -17, 18)


def test_reference_is_brute_force(rng: np.random.Generator) -> None:
    """The definition in big integers, against outputs one by one."""
    for _ in range(400):
        a, b = (small_row(rng) for _ in range(2))
        lo = int(rng.integers(-40, 40))
        hi = lo + int(rng.integers(-1, 70))
        d = [reference.output(b, x) - reference.output(a, x) for x in range(lo, hi + 1)]
        hits = [x for x, v in zip(range(lo, hi + 1), d, strict=True) if v]
        assert reference.histogram(a, b, lo, hi) == Counter(d)
        assert reference.count(a, b, lo, hi) == len(hits)
        assert reference.difference_sum(a, b, lo, hi) == sum(d)
        assert reference.next_divergent(a, b, lo, hi) == (hits[0] if hits else None)
        for k in {0, len(hits) // 2, len(hits)}:
            assert reference.kth_divergent(a, b, lo, hi, k) == (hits[k] if k < len(hits) else None)


def small_row(rng: np.random.Generator) -> Row:
    t = int(rng.integers(1, 7))
    bp, bn = (int(v) for v in rng.integers(-(2 ** (t + 1)), 2 ** (t + 1), 2))
    low = int(rng.integers(-20, 10))
    clamp = RAW if rng.random() < 0.5 else (low, low + int(rng.integers(0, 30)), int(rng.integers(-5, 5)))
    return (int(rng.integers(0, 40)), bp, bn, t, *clamp)


@given(st.integers(0, 60), st.integers(1, 2**40), st.integers(-(2**50), 2**50), st.integers(-(2**50), 2**50))
def test_floor_sum_of_the_reference(n: int, m: int, a: int, b: int) -> None:
    assert reference.floor_sum(n, m, a, b) == sum((a * i + b) // m for i in range(n))


# --- full width: big integers ---------------------------------------------------------------------------------
def wide_number(rng: np.random.Generator) -> int:
    kind = int(rng.integers(0, 6))
    if kind == 0:
        return int(rng.choice([0, 1, 2**30, 2**30 + 1, 2**31 - 1]))
    if kind == 1:
        return 1 << int(rng.integers(0, 31))
    if kind == 2:
        return int(rng.integers(2**23, 2**24)) << 7
    return int(rng.integers(2**30, 2**31))


def wide_bias(rng: np.random.Generator, t: int) -> int:
    """A tie, one off a tie, the first stage of a double rounding, or anything to the bounds."""
    edge = min(2 ** (t + 1), 2**62 - 1)
    choices = [0, 2 ** (t - 1), 2 ** (t - 1) - 1, 2 ** (t - 1) + 2**30, 2 ** (t - 1) - 2**30, edge, -edge]
    return int(rng.choice([*choices, int(rng.integers(-edge, edge))]))


def wide_row(rng: np.random.Generator) -> Row:
    t = int(rng.integers(*((1, 63) if rng.random() < 0.3 else (28, 50))))
    bp = wide_bias(rng, t)
    clamp = RAW if rng.random() < 0.5 else (-128, 127, 0)
    return (wide_number(rng), bp, bp if rng.random() < 0.5 else wide_bias(rng, t), t, *clamp)


def related(rng: np.random.Generator, a: Row) -> Row:
    """Another row: of the same line, of nearly the same slope at another shift, or any."""
    b, kind = wide_row(rng), rng.random()
    if kind < 0.4:
        b = (a[0], b[1], b[2], a[3], *b[4:])
    elif kind < 0.8:
        by = min(int(rng.choice([1, 5, 7])), a[3] - 1)
        t, slope = a[3] - by, max((a[0] >> by) + int(rng.integers(-1, 2)), 0)
        b = (slope, wide_bias(rng, t), wide_bias(rng, t), t, *b[4:])
    return b if rng.random() < 0.4 else b[:4] + a[4:]


def wide_range(rng: np.random.Generator) -> tuple[int, int]:
    small = int(rng.integers(-(2**20), 2**20))
    ends = [LEAST, MOST, 0, -1, small, *rng.integers(LEAST, MOST, 3).tolist()]
    lo, hi = sorted(int(v) for v in rng.choice(ends, 2))
    return lo, hi


def test_full_width_against_big_integers(rng: np.random.Generator) -> None:
    divergent = 0
    for _ in range(2500):
        a, (lo, hi) = wide_row(rng), wide_range(rng)
        b = related(rng, a)
        rows = table([a]), table([b])
        expected = reference.count(a, b, lo, hi)
        divergent += expected > 0
        out, sums = np.empty(1, np.int64), np.empty((1, 2), np.int64)
        kernels.count(*rows, np.array([lo]), np.array([hi]), out)
        assert out[0] == expected, (a, b, lo, hi)
        kernels.difference_sums(*rows, np.array([lo]), np.array([hi]), sums)
        # Rows like these may leave int32, so that a sum wraps; its low 64 bits are right all the same.
        assert (sum(sums[0].tolist()) - reference.difference_sum(a, b, lo, hi)) % 2**64 == 0, (a, b, lo, hi)
    assert divergent > 1500


def test_full_width_searches(rng: np.random.Generator) -> None:
    """The first items, ranks and the last: each differs, and as many lie before it as its rank says."""
    hits = 0
    for _ in range(600):
        a, (lo, hi) = wide_row(rng), wide_range(rng)
        b = related(rng, a)
        rows = table([a]), table([b])
        total = reference.count(a, b, lo, hi)
        first = np.empty(30, np.int64)
        n = kernels.fill(*rows, lo, hi, int(rng.choice([0, 256])), first)
        assert n == min(total, 30), (a, b, lo, hi)
        if not total:
            continue
        hits += 1
        ranks = np.array([n - 1, 0, total - 1, total // 2, int(rng.integers(total))])
        found = np.empty(ranks.size, np.int64)
        kernels.ranked(*rows, lo, hi, ranks, found)
        assert found[:2].tolist() == [first[n - 1], first[0]]
        assert (np.diff(first[:n]) > 0).all()
        for k, x in zip(ranks.tolist(), found.tolist(), strict=True):
            assert reference.output(a, x) != reference.output(b, x), (a, b, x)
            assert reference.count(a, b, lo, x) == k + 1, (a, b, lo, hi, k)
    assert hits > 300


def test_full_width_histograms(rng: np.random.Generator) -> None:
    kept = 0
    for _ in range(600):
        a, (lo, hi) = wide_row(rng), wide_range(rng)
        b = related(rng, a)
        rows, ends = (table([a]), table([b])), np.empty((2, 1), np.int64)
        kernels.extents(*rows, np.array([lo]), np.array([hi]), *ends)
        bottom, top = (int(v) for v in ends[:, 0])
        if top - bottom > 40:
            continue
        kept += 1
        expected = reference.histogram(a, b, lo, hi)
        assert (min(expected), max(expected)) == (bottom, top), (a, b, lo, hi)
        counts = np.zeros(top - bottom + 1, np.int64)
        kernels.histogram(*rows, lo, hi, bottom, counts)
        assert {bottom + k: int(v) for k, v in enumerate(counts) if v} == expected
    assert kept > 200


def test_the_division_by_a_reciprocal(rng: np.random.Generator) -> None:
    """At and beside multiples the rounded product lands on either side: both corrections are needed, and enough."""
    below = above = 0
    for m in (1, 2, 3, 2**30, 2**30 + 1, 2**31 - 1, *rng.integers(2, 2**31, 400).tolist()):
        inverse = 1.0 / np.float64(m)
        largest = min(2**34, (2**63 - 1) // m) - 1
        for q in (0, 1, largest, *rng.integers(largest // 2, largest, 4).tolist()):
            for r in {0, 1 % m, m // 2, m - 1}:
                y = q * m + r
                raw = int(np.float64(y) * inverse)
                below, above = below + (raw < q), above + (raw > q)
                assert floor_sums.divide.py_func(np.int64(y), np.int64(m), inverse) == (q, r)
    assert below > 100
    assert above > 100


def test_lifted_biases_have_room() -> None:
    """Equal slopes at two shifts whose biases would pass 2**62 at the larger one stay as they are."""
    for by in (1, 2, 7, 30):
        for bias in (2 ** (62 - by) - 1, 2 ** (62 - by), 2 ** min(62, 63 - by) - 1, 2**62 - 1):
            t = min(62 - by, 40)
            a = (2**30 >> by, bias, -bias, t, *RAW)
            b = (2**30, 2 ** (t + by - 1), -(2 ** (t + by - 1)), t + by, *RAW)
            out, sums = np.empty(1, np.int64), np.empty((1, 2), np.int64)
            for (u, v), (lo, hi) in itertools.product(((a, b), (b, a)), ((LEAST, MOST), (-1000, 7))):
                rows = table([u]), table([v]), np.array([lo]), np.array([hi])
                kernels.count(*rows, out)
                assert out[0] == reference.count(u, v, lo, hi), (by, bias)
                kernels.difference_sums(*rows, sums)
                expected = reference.difference_sum(u, v, lo, hi)
                assert (sum(sums[0].tolist()) - expected) % 2**64 == 0, (by, bias)


def test_rejected_candidates_give_way_to_counts() -> None:
    """A line that never leaves one code beside a constant: 2**31 candidates, no hit, and no time spent on them."""
    a, b = table([(0, 0, 0, 1, *RAW)]), table([(1, 0, 0, 40, *RAW)])
    late = table([(1, 2**40 - 2**31 + 5, 0, 40, *RAW)])  # differs from A by 1 from 2**31 - 5 on
    begin = time.process_time()
    for _ in range(10):
        assert listed(a, b, 0, MOST, 5, kernels.PATIENCE) == []
        assert listed(a, late, 0, MOST, 7, kernels.PATIENCE) == list(range(2**31 - 5, 2**31))
    assert time.process_time() - begin < 5  # candidate by candidate it is ten times as much


def test_a_listing_costs_what_it_lists() -> None:
    """Hits grow denser along the range from none: blocks keep the window as narrow as the hits there are."""
    rows = [lattice.kernel_rows(s, slice(None)) for s in (side("single", 0.013371337), side("rndnu", 0.013371337))]
    out = np.empty(100, np.int64)
    kernels.fill(*rows, 0, 5, kernels.PATIENCE, out)
    begin = time.process_time()
    for _ in range(50):
        assert kernels.fill(*rows, 0, MOST, kernels.PATIENCE, out) == out.size
    elapsed = (time.process_time() - begin) / 50
    assert out[-1] > 1000 * out.size  # sparse there, and most of a range on which every other one differs
    assert elapsed / out.size < 0.5e-6  # some 20 ns on an idle machine; microseconds with one window for all


# --- golden values (exact.md, section 8; each confirmed by a sweep of all accumulators) -----------------------
GOLDEN = (
    (1583594044, 9, 4194310, 347, 2147483219, 173, 130),
    (2**30, 1, 1073741824, 1, 2147483645, 255, 32768),
    (2**31 - 1, 4, 134217728, 8, 1073741816, 255, 8192),
    (1717986918, 3, 429496730, 5, 2147483645, 255, 13108),
    (1527099593, 6, 33522942, 4122314, 2147483590, 0, 0),
)


@pytest.mark.parametrize(("value", "right", "total", "first", "last", "int8", "near"), GOLDEN)
def test_golden(value: int, right: int, total: int, first: int, last: int, int8: int, near: int) -> None:
    multiplier = qe.QuantizedMultiplier(value, -right)
    pair = side("single", multiplier), side("double", multiplier)
    narrow = side("single", multiplier, dtype="int8"), side("double", multiplier, dtype="int8")
    assert lattice.count(*pair).tolist() == [total]
    assert lattice.next_divergent(*pair, 0, 0) == first
    assert lattice.kth_divergent(*pair, k=-1) == last
    assert lattice.kth_divergent(*pair, k=total // 2) == first
    assert lattice.count(*narrow).tolist() == [int8]
    assert lattice.count(*pair, -(2**16), 2**16).tolist() == [near]
    assert lattice.difference_sum(*pair).tolist() == [0]
    assert lattice.largest(*pair).tolist() == [1]
    assert lattice.histogram(*pair) == {-1: total // 2, 0: 2**32 - total, 1: total // 2}


def test_golden_q31_against_24_bits() -> None:
    pair = side("single", qe.QuantizedMultiplier(1717986918, -3)), side("rndnu", 0.1)
    assert (pair[1].form.a.tolist(), pair[1].form.t.tolist()) == ([13421773], [27])
    assert lattice.histogram(*pair, 0, -(2**16), 2**16 - 1) == {-1: 6554, 0: 2**17 - 13108, 1: 6554}
    assert lattice.histogram(*pair, 0, -(2**20), 2**20 - 1) == {-1: 104858, 0: 2**21 - 209716, 1: 104858}
    everywhere = {-4: 20132659, -3: 483183819, -2: 671088640, -1: 671088640,
                  1: 671088640, 2: 671088640, 3: 483183822, 4: 20132660}  # fmt: skip
    assert lattice.histogram(*pair) == {**everywhere, 0: 603979776}
    assert lattice.count(*pair).tolist() == [3690987520] == [sum(everywhere.values())]
    assert lattice.difference_sum(*pair).tolist() == [13]
    assert [v.tolist() for v in lattice.extremes(*pair)] == [[-4], [4]]


# --- sides: every floor row -----------------------------------------------------------------------------------
def scheme_outputs(one: Side, c: int, x: np.ndarray) -> np.ndarray:
    """Outputs of one channel from the reference back end, which knows nothing of this engine."""
    return one.take(np.array([c])).evaluate(x[None])[0]


def check_sides(a: Side, b: Side, c: int, lo: int, hi: int) -> int:
    """Everything that is said of one range of one channel, against outputs one by one."""
    x = np.arange(lo, hi + 1, dtype=np.int64)
    d = scheme_outputs(b, c, x) - scheme_outputs(a, c, x)
    hits = x[d != 0]
    assert lattice.count(a, b, lo, hi)[c] == hits.size
    assert lattice.difference_sum(a, b, lo, hi)[c] == d.sum()
    assert lattice.largest(a, b, lo, hi)[c] == np.abs(d).max()
    assert lattice.histogram(a, b, c, lo, hi) == Counter(d.tolist())
    blocks = list(lattice.iterate(a, b, c, lo, hi, block=1000))
    np.testing.assert_array_equal(np.concatenate([hits[:0], *blocks]), hits)
    assert all(0 < block.size <= 1000 and block.dtype == np.int64 for block in blocks)
    assert lattice.next_divergent(a, b, c, lo, hi) == (hits[0] if hits.size else None)
    if hits.size:
        for k in (0, hits.size // 3, -1):
            assert lattice.kth_divergent(a, b, c, lo, hi, k) == hits[k]
    return int(hits.size)


def windows(a: Side, b: Side, c: int, width: int) -> list[tuple[int, int]]:
    """Ranges about zero and at both ends of the common domain."""
    low, high = (int(bound[c]) for bound in common_domain((a, b)))
    ranges = [(max(low, -width), min(high, width)), (low, min(high, low + width)), (max(low, high - width), high)]
    return [(lo, hi) for lo, hi in ranges if lo <= hi]


REALS = (0.25, 0.1, 0.0111111111, 2.0**-8 + 2.0**-30, 0.9999, 2.0**-20)


@pytest.mark.parametrize("dtype", [None, "int8", "uint8"])
def test_every_pair_of_floor_rows(dtype: str | None) -> None:
    zero = {None: 0, "int8": -7, "uint8": 131}[dtype]
    sides = [side(name, REALS, dtype=dtype, zero_point=zero, outside="empty") for name in floor_rows()]
    assert len(sides) >= 13
    divergent = 0
    for k, (a, b) in enumerate(itertools.combinations(sides, 2)):
        c = k % len(REALS)
        for lo, hi in windows(a, b, c, 1500):
            divergent += check_sides(a, b, c, lo, hi)
    assert divergent > 10_000


@pytest.mark.parametrize("shift", [-31, -9, -1, 0, 1, 4, 17, 30])
@pytest.mark.parametrize("value", [0, 1, 2**30, 2**30 + 1, 1717986918, 2**31 - 1])
def test_shifts_and_special_multipliers(value: int, shift: int) -> None:
    """n = 0, left shifts (the domain ends where x << e overflows), the power of two, zero; at the ends of int32."""
    multiplier = qe.QuantizedMultiplier(value, shift)
    sides = [side(name, multiplier) for name in ("single", "double", "floor-port", "half-away", "avx2-int16")]
    for a, b in itertools.combinations(sides, 2):
        for lo, hi in windows(a, b, 0, 600):
            check_sides(a, b, 0, lo, hi)


def test_different_zero_points_and_clamps(rng: np.random.Generator) -> None:
    """Sides with nothing in common but their accumulators; ranges reach over every clamp."""
    n = 12
    real = np.exp2(rng.uniform(-9, -3, n))
    zero = rng.integers(-128, 128, (2, n))
    a = side("double", real, zero_point=zero[0], dtype="int8")
    b = side("single", real * rng.choice([1, 1 + 2.0**-9], n), zero_point=zero[1], dtype="int8", qmin=-100, qmax=90)
    wide = side("hifi-out16", real, zero_point=zero[1], dtype="int16")
    for c in range(n):
        reach = int(300 / real[c])
        assert check_sides(a, b, c, -reach, reach) > 0
        assert check_sides(b, a, c, -reach, reach // 2) > 0
        assert check_sides(a, wide, c, -reach, reach // 3) > 0
    few = side("single", real, dtype="int8", qmin=5, qmax=5)
    assert lattice.count(few, side("double", real, dtype="int8", qmin=5, qmax=5)).tolist() == [0] * n
    same = side("single", real, zero_point=zero[0], dtype="int8")
    assert lattice.count(same, same).tolist() == [0] * n


def test_saturated_result_before_the_zero_point() -> None:
    """hifi-out16 saturates to int16 in front of the zero point: the raw sum passes int16 and still differs."""
    multiplier = qe.QuantizedMultiplier(2**31 - 1, 0)
    a, b = side("hifi-out16", multiplier, zero_point=100), side("double", multiplier, zero_point=100)
    for lo, hi in ((30_000, 34_000), (-34_000, -30_000)):
        assert check_sides(a, b, 0, lo, hi) > 1000
    assert lattice.largest(a, b).tolist() == [2**31 - 1 - 2**15]
    high = int(common_domain((a, b))[1][0])
    assert high == MOST - 99  # F(x) is x - 1 up there, and F(x) + 100 must fit int32
    assert lattice.count(a, b, 0, MOST).tolist() == [high - 2**15 + 1]  # 32768 * M is 32767.99998, which rounds up


def test_against_the_oracle() -> None:
    """One row of counts with outputs from the tests' own fractions."""
    multiplier = (1717986918, -3)
    sides = {name: side(name, qe.QuantizedMultiplier(*multiplier)) for name in ("single", "double", "truncate")}
    exact = {name: [oracle.requantize(name, x, multiplier=multiplier) for x in range(-300, 301)] for name in sides}
    for a, b in itertools.permutations(sides, 2):
        expected = [v - u for u, v in zip(exact[a], exact[b], strict=True)]
        assert lattice.histogram(sides[a], sides[b], 0, -300, 300) == Counter(expected)


def test_one_real_multiplier_at_two_shifts() -> None:
    """m24 and m24 << 7 are one slope: the pair counts as one of like lines, with biases at one shift."""
    for real in (0.3, 0.0111111111, 2.0**-20, 0.999):
        a, b = side("rndnu", real), side("q31", real)
        assert int(b.form.a[0]) == int(a.form.a[0]) << 7
        rows = [tuple(int(v) for v in lattice.kernel_rows(s, slice(None))[0]) for s in (a, b)]
        for lo, hi in ((LEAST, MOST), (-5, 2**20), (LEAST, -1)):
            assert lattice.count(a, b, lo, hi).tolist() == [reference.count(*rows, lo, hi)]
            assert lattice.count(b, a, lo, hi).tolist() == [reference.count(*rows, lo, hi)]


def test_many_channels(rng: np.random.Generator) -> None:
    """Tiles over threads give what one channel gives."""
    n = 2 * lattice.TILE + 17
    value, shift = rng.integers(2**30, 2**31, n).astype(np.int32), rng.integers(-20, 5, n).astype(np.int32)
    multiplier = qe.QuantizedMultiplier(value, shift)
    a, b = side("single", multiplier, dtype="int16"), side("double", multiplier, dtype="int16")
    lo, hi = common_domain((a, b), (-(2**22), 2**22))
    every = [lattice.count(a, b, lo, hi), lattice.difference_sum(a, b, lo, hi), lattice.largest(a, b, lo, hi)]
    assert (every[0] > 0).sum() > n // 2
    for c in (0, 1, lattice.TILE - 1, lattice.TILE, n - 1, *rng.integers(0, n, 20).tolist()):
        one = a.take(np.array([c])), b.take(np.array([c]))
        for whole, function in zip(every, (lattice.count, lattice.difference_sum, lattice.largest), strict=True):
            assert whole[c] == function(*one, int(lo[c]), int(hi[c]))[0]


def test_mean_of_the_rate_law(rng: np.random.Generator) -> None:
    """Over many multipliers the counts of single against double average 2**-(n+1) of all accumulators."""
    value = rng.integers(2**30, 2**31, 4000).astype(np.int32)
    for right in (1, 6, 14):
        multiplier = qe.QuantizedMultiplier(value, np.full(value.size, -right, np.int32))
        counts = lattice.count(side("single", multiplier), side("double", multiplier))
        assert counts.mean() == pytest.approx(2.0 ** (31 - right), rel=1e-4)


@pytest.mark.parametrize(("dtype", "channels"), [("int8", 300), ("uint8", 300), ("int16", 12)])
def test_against_the_staircases(dtype: str, channels: int, rng: np.random.Generator) -> None:
    """The other engine finds the thresholds of every code: the two agree on all accumulators and on a part of them."""
    real = np.exp2(rng.uniform(-14, 1, channels))
    info = np.iinfo(dtype)
    zero = rng.integers(info.min, info.max + 1, channels)
    sides = [side(name, real, zero_point=zero, dtype=dtype, outside="empty") for name in floor_rows()]
    lo, hi = -rng.integers(0, 2**31, channels), rng.integers(0, 2**31, channels)
    divergent = 0
    for bounds in ((None, None), (lo, hi)):
        expected = staircase.counts(sides, *bounds)
        for (i, j), column in zip(staircase.pairs(len(sides)), expected.T, strict=True):
            np.testing.assert_array_equal(lattice.count(sides[i], sides[j], *bounds), column)
            divergent += int((column > 0).sum())
    assert divergent > channels * 50


# --- draws ----------------------------------------------------------------------------------------------------
def test_draws_are_uniform_over_the_divergent() -> None:
    """Gaps of a listing are uneven; a chi-square of the draws on them must not see it."""
    multiplier = qe.QuantizedMultiplier(1583594044, -3)
    pair = side("single", multiplier), side("double", multiplier)
    support = np.concatenate(list(lattice.iterate(*pair, 0, -300, 300)))
    assert support.size > 30
    assert np.unique(np.diff(support)).size > 1
    drawn = lattice.random_divergent(*pair, 0, -300, 300, n=40_000, seed=5)
    assert np.isin(drawn, support).all()
    expected = drawn.size / support.size
    counts = np.array([(drawn == x).sum() for x in support])
    freedom = support.size - 1
    assert ((counts - expected) ** 2 / expected).sum() < freedom + 5 * (2 * freedom) ** 0.5
    np.testing.assert_array_equal(drawn, lattice.random_divergent(*pair, 0, -300, 300, n=40_000, seed=5))
    assert (drawn != lattice.random_divergent(*pair, 0, -300, 300, n=40_000, seed=6)).any()
    assert lattice.random_divergent(*pair, n=0).size == 0


def test_draws_of_all_accumulators_differ() -> None:
    multiplier = qe.QuantizedMultiplier(1527099593, -6)
    pair = side("single", multiplier), side("double", multiplier)
    drawn = lattice.random_divergent(*pair, n=2000, seed=11)
    outputs = [one.evaluate(drawn[None])[0] for one in pair]
    assert (outputs[0] != outputs[1]).all()
    assert abs((drawn < 0).mean() - 0.5) < 0.05
    assert np.unique(drawn).size > 1990


# --- what is refused ------------------------------------------------------------------------------------------
HALF = qe.QuantizedMultiplier(1 << 30, 0)


def test_empty_ranges() -> None:
    pair = side("single", [0.5, 0.25]), side("half-away", [0.5, 0.25])
    lo, hi = np.array([5, -4]), np.array([4, 4])
    assert lattice.count(*pair, lo, hi).tolist() == [0, 1]
    assert lattice.difference_sum(*pair, lo, hi).tolist() == [0, -1]
    assert lattice.largest(*pair, lo, hi).tolist() == [0, 1]
    assert lattice.histogram(*pair, 0, 5, 4) == {}
    assert list(lattice.iterate(*pair, 0, 5, 4)) == []
    assert lattice.next_divergent(*pair, 0, 5, -5) is None


def test_ranges_are_cut_to_the_domain() -> None:
    """x << 3 must fit int32 in `double`: what lies beyond has no output there and is not counted."""
    left = qe.QuantizedMultiplier(1717986918, 3)
    pair = side("single", left), side("truncate", left)
    inside = side("double", left)
    top = MOST >> 3
    assert lattice.count(pair[0], inside).tolist() == lattice.count(pair[0], inside, -top - 1, top).tolist()
    assert lattice.count(*pair)[0] > lattice.count(*pair, -top - 1, top)[0]


def test_float_forms_are_refused() -> None:
    for name in ("fp32", "fp64-away", "rndnu16"):
        other = side(name, 0.25, dtype="int8")
        with pytest.raises(qe.DomainError, match=rf"floor forms; b is scheme '{name}'.*staircase"):
            lattice.count(side("single", 0.25, dtype="int8"), other)
        with pytest.raises(qe.DomainError, match="floor forms; a is"):
            lattice.next_divergent(other, side("single", 0.25, dtype="int8"))


def test_accumulators_beyond_int32_are_refused() -> None:
    """The 48-bit rows count within int32 like any other; a wider range is refused with the reason."""
    wide, other = side("int16x8", 0.1), side("tosa-scale16", 0.1)
    assert lattice.count(wide, other).tolist() == [2**32 - lattice.histogram(wide, other)[0]]
    for bound in (2**31, 2**47, 2**70):
        with pytest.raises(qe.DomainError, match=rf"hi must be in .* got {bound}.*'int16x8' takes .* 48 bits"):
            lattice.count(wide, other, 0, bound)
    with pytest.raises(qe.DomainError, match=r"lo must be in .*; got -2147483649\.$"):
        lattice.count(side("single", HALF), side("double", HALF), LEAST - 1, 0)


def test_bad_arguments() -> None:
    pair = side("single", [0.5, 0.25]), side("half-away", [0.5, 0.25])
    with pytest.raises(qe.DomainError, match="as many channels; side 0 has 2, side 1 1"):
        lattice.count(pair[0], side("double", 0.5))
    with pytest.raises(qe.DomainError, match=r"one a channel \(2\); got shape \(3,\)"):
        lattice.count(*pair, [1, 2, 3])
    for value in (1.5, "x", [0.5, 1]):
        with pytest.raises(qe.DTypeError, match="lo must be an integer accumulator"):
            lattice.count(*pair, value)
    for channel in (-1, 2):
        with pytest.raises(qe.DomainError, match=rf"channel c must be in \[0, 1\]; got {channel}"):
            lattice.histogram(*pair, channel)
    with pytest.raises(qe.DTypeError, match="channel c must be an integer; got 'x'"):
        lattice.next_divergent(*pair, "x")
    with pytest.raises(qe.DomainError, match="block must be at least 1; got 0"):
        lattice.iterate(*pair, 0, block=0)
    for rank in (2, -3):
        with pytest.raises(qe.DomainError, match=rf"rank k must be in \[-2, 1\].*; got {rank}"):
            lattice.kth_divergent(*pair, 0, -3, 3, rank)
    with pytest.raises(qe.DomainError, match="no accumulator of rank 0: the two sides are equal"):
        lattice.kth_divergent(*pair, 0, 0, 3)
    with pytest.raises(qe.DomainError, match="nothing to draw from"):
        lattice.random_divergent(*pair, 0, 0, 3)
    with pytest.raises(qe.DomainError, match="must not be negative; got n = -1, seed = 0"):
        lattice.random_divergent(*pair, n=-1)


def test_a_histogram_of_too_many_values() -> None:
    pair = side("single", 0.9), side("single", 0.1)
    with pytest.raises(qe.DomainError, match=r"runs from -1717986917 to 1717986918 .*at most 1048576 values\. Narrow"):
        lattice.histogram(*pair)
    assert lattice.largest(*pair).tolist() == [1717986918]
    # 0.9 x rounds to x, 0.1 x to 0.
    assert lattice.histogram(*pair, 0, -3, 3) == dict.fromkeys(range(-3, 4), 1)


# --- all of int32, one by one (slow) --------------------------------------------------------------------------
SWEPT = (
    (2**30, 0), (2**30, -1), (2**30, -8), (2**30, -31), (2**31 - 1, -4), (2**30 + 1, -1), (1583594044, -9),
    (1717986918, -3), (1527099593, -6), (1431655765, 0), (1227133513, 0), (2**30, 1), (1717986918, 2), (1610612736, 5),
)  # fmt: skip


def check_swept(names: tuple[str, ...], multiplier: Any) -> None:
    """Counts and the largest difference of every pair, against a sweep over the common domain."""
    sides = [side(name, multiplier) for name in names]
    low, high = (int(bound[0]) for bound in common_domain(sides))
    swept = qe.sweep(*names, multiplier=multiplier, acc=f"all:{low}:{high}")
    for (i, a), (j, b) in itertools.combinations(enumerate(sides), 2):
        pair = swept.pairs_of(names[i], names[j])
        assert pair.divergent == lattice.count(a, b, low, high)[0]
        assert pair.max_abs_diff == lattice.largest(a, b, low, high)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("value", "shift"), SWEPT)
def test_all_accumulators_one_by_one(value: int, shift: int) -> None:
    """15 pairs of schemes of one multiplier."""
    names = ("single", "double", "double-up", "half-away", "floor-port", "truncate")
    check_swept(names, qe.QuantizedMultiplier(value, shift))


@pytest.mark.slow
@pytest.mark.parametrize("real", [0.1, 0.0111111111, 0.7])
def test_all_accumulators_of_unlike_multipliers(real: float) -> None:
    """15 pairs of mantissas of 31, 24 and 15 bits: differences up to thousands."""
    check_swept(("single", "rndna", "rndnu", "q31", "tosa-scale16", "int16x8"), real)
