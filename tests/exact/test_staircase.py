"""The staircase engine against evaluation, against brute force, and against the figures of exact.md, section 8."""

import itertools

import numpy as np
import pytest

import qengine as qe
from qengine.backends.forms import Bias, FloatRule, FloorRule
from qengine.exact import lattice, staircase
from qengine.exact.sides import common_domain, side
from qengine.exact.staircase import Interval, atoms, compare, counts, intervals, pairs, thresholds
from qengine.kernels.reference import staircase as reference
from qengine.requant.schemes import Scheme

SCHEMES = [row.name for row in qe.schemes()]
#: The schemes that LiteRT, ONNX Runtime and CMSIS-NN run on int8 outputs.
RUN = ["single", "double", "double-up", "fp32", "fp32-zp-inside", "fp64-away"]
INT32 = (-(2**31), 2**31 - 1)


def custom(base, rule, **fields):
    """A row of its own: `base` with another rule."""
    row = qe.get_scheme(base)
    return Scheme(
        **{**{f: getattr(row, f) for f in row.__dataclass_fields__}, "name": "custom", "rule": rule, **fields}
    )


def hard_reals(rng, count):
    """Multipliers in every exponent: random, powers of two and their float32 neighbours, decimal and 1/integer
    scales, and scales h / x that put an accumulator next to a rounding boundary, also where float32 rounds x.
    """
    size = np.exp2(rng.uniform(-33, 9, count))
    power = np.exp2(np.round(np.log2(size)))
    h = np.round(rng.uniform(-200, 200, count)) + 0.5
    x = np.round(np.exp2(rng.uniform(0, 31, count)))
    boundary = (np.abs(h) / x).astype(np.float32)
    kinds = [
        size,
        power,
        np.nextafter(power.astype(np.float32), np.float32(0)).astype(np.float64),
        np.nextafter(power.astype(np.float32), np.float32(1e9)).astype(np.float64),
        1 / np.round(np.exp2(rng.uniform(0, 31, count))),
        np.round(size * 10.0 ** np.floor(3 - np.log10(size))) / 10.0 ** np.floor(3 - np.log10(size)),
        boundary.astype(np.float64),
        np.nextafter(boundary, np.float32(0)).astype(np.float64),
        np.nextafter(boundary, np.float32(1e9)).astype(np.float64),
        np.abs(h) / x,
        np.nextafter(np.abs(h) / x, 0),
        np.nextafter(np.abs(h) / x, 1e9),
        np.round(size * 2.0**40) / 2.0**40,
    ]
    return np.choose(np.arange(count) % len(kinds), kinds)


def hard_multipliers(rng, count):
    """Mantissas at both ends, odd, sparse, unnormalised and zero, with every shift."""
    value = rng.integers(2**30, 2**31, count)
    special = [2**30, 2**30 + 1, 2**31 - 1, 2**30 + 2**29, 2**30 + 128, 1717986918, 1527099593, 0, 1, 3, 2**29 + 1]
    value[::2] = rng.choice(special, value[::2].size)
    return qe.QuantizedMultiplier(value, rng.integers(-31, 31, count))


def hard_side(rng, scheme, dtype, count, **fields):
    info = np.iinfo(dtype)
    z = rng.integers(info.min, info.max + 1, count)
    z[::3] = rng.choice([info.min, info.max, 0], z[::3].size)
    fixed = qe.get_scheme(scheme).parameter == "q31" and rng.random() < 0.5
    multiplier = hard_multipliers(rng, count) if fixed else hard_reals(rng, count)
    return side(scheme, multiplier, zero_point=z, dtype=dtype, outside="empty", **fields)


def outputs(sides, channel, x):
    return np.stack([one.take(np.array([channel])).evaluate(x[None])[0] for one in sides])


def brute(sides, channel, lo, hi, weight=None):
    """Pair by pair (count, first, last, extremes) over the accumulators of [lo, hi] that both domains hold."""
    x = np.arange(lo, hi + 1)
    y = outputs(sides, channel, x)
    rows = []
    for i, j in pairs(len(sides)):
        inside = np.ones(x.size, bool)
        for k in (i, j):
            inside &= (x >= sides[k].low[channel]) & (x <= sides[k].high[channel])
        d = np.where(inside, y[j] - y[i], 0)
        at = np.flatnonzero(d)
        count = at.size if weight is None else int(weight(x[at]).sum())
        ends = (int(x[at[0]]), int(x[at[-1]])) if at.size else (1, 0)
        rows.append((count, *ends, int(min(d.min(initial=0), 0)), int(max(d.max(initial=0), 0))))
    return rows


# --- thresholds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_threshold_is_certified_by_evaluation(scheme, dtype, rng):
    """y(T) >= k and y(T - 1) < k, for multipliers of every exponent, zero points at both ends."""
    for _ in range(2):
        one = hard_side(rng, scheme, dtype, 300 if dtype != "int16" else 3)
        T = thresholds(one)
        info = np.iinfo(dtype)
        assert T.shape == (one.channels, info.max - info.min)
        assert (np.diff(T, axis=1) >= 0).all()
        assert reference.violations(one.evaluate, T, info.min) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_thresholds_are_those_of_bisection(scheme, rng):
    one = hard_side(rng, scheme, "int8", 12)
    np.testing.assert_array_equal(thresholds(one), reference.thresholds(one.evaluate, 12, -128, 255))


@pytest.mark.parametrize("clamp", [("int8", 0, 6), ("uint8", 3, 250), ("int16", -1000, 999), ("int32", -70, 300)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_clamps_within_the_type(scheme, clamp, rng):
    dtype, qmin, qmax = clamp
    info = np.iinfo(dtype if dtype != "int32" else "uint8")
    one = side(
        scheme, hard_reals(rng, 40), zero_point=rng.integers(info.min, info.max, 40), dtype=dtype, qmin=qmin, qmax=qmax,
        outside="empty",
    )  # fmt: skip
    T = thresholds(one)
    assert T.shape == (40, qmax - qmin)
    assert reference.violations(one.evaluate, T, qmin) == 0
    wide = thresholds(one, (qmin - 3, qmax + 4))
    np.testing.assert_array_equal(wide[:, 3:-4], T)
    assert (wide[:, :3] == INT32[0]).all()
    assert (wide[:, -4:] == INT32[1] + 1).all()


@pytest.mark.parametrize("scheme", ["single", "fp32", "fp32-away", "fp32-zp-inside", "fp64-away", "rndnu16"])
def test_far_scales(scheme):
    """Scales that under- or overflow the product, and zero, where the scheme admits them."""
    bits = qe.get_scheme(scheme).parameter
    reals = {
        "q31": [0.0, 2.0**-32, 2.0**29],
        "float32": [0.0, 2.0**-149, 2.0**-126, 2.0**-33, 255.0, 2.0**100, float(np.finfo(np.float32).max)],
        "float64": [0.0, 5e-324, 2.0**-1022, 2.0**-40, 2.0**40, 2.0**1000, float(np.finfo(np.float64).max)],
    }[bits]
    one = side(scheme, reals, dtype="int8", zero_point=3, outside="empty")
    assert reference.violations(one.evaluate, thresholds(one), -128) == 0


def test_violations_notice_every_shifted_threshold():
    one = side("fp32", [0.1, 2.0**-24], dtype="int8")
    T = thresholds(one)
    for c in range(2):
        for step in (-1, 1):
            moved = T.copy()
            moved[c] += step
            assert reference.violations(one.evaluate, moved, -128) == 255
    assert reference.violations(one.evaluate, T, -128) == 0


@pytest.mark.parametrize(
    ("scheme", "real", "expected"),
    [
        ("single", 0.1, [-1275, -15, -5, 6, 16, 26, 1266]),
        ("fp32", 0.1, [-1274, -14, -5, 6, 15, 26, 1266]),
        ("fp64-away", 0.1, [-1274, -14, -4, 5, 15, 25, 1265]),
        ("fp32", 2.0**-24, [-2139094975, -25165822, -8388608, 8388609, 25165823, 41943043, 2122317889]),
        ("fp64-away", 2.0**-24, [-2139095039, -25165823, -8388607, 8388608, 25165824, 41943040, 2122317824]),
    ],
)
def test_golden_thresholds(scheme, real, expected):
    """exact.md, section 8: codes -127, -1, 0, 1, 2, 3, 127."""
    T = thresholds(side(scheme, real, dtype="int8"))[0]
    assert [int(T[k + 127]) for k in (-127, -1, 0, 1, 2, 3, 127)] == expected


# --- counts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "n", "narrow"),
    [(1583594044, 9, 173), (2**30, 1, 255), (2**31 - 1, 4, 255), (1717986918, 3, 255), (1527099593, 6, 0)],
)
def test_golden_counts_of_single_and_double(value, n, narrow):
    sides = [side(s, qe.QuantizedMultiplier(value, -n), dtype="int8") for s in ("single", "double")]
    assert counts(sides).tolist() == [[narrow]]
    assert len(intervals(*sides)) == narrow  # single accumulators, one at a code


@pytest.mark.parametrize(("real", "expected"), [(0.1, [127, 255, 128]), (2.0**-24, [10986, 128, 10986])])
def test_golden_counts_of_float_schemes(real, expected):
    sides = [side(s, real, dtype="int8") for s in ("single", "fp32", "fp64-away")]
    assert counts(sides).tolist() == [expected]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_counts_and_comparisons_are_those_of_brute_force(dtype, rng):
    """All schemes and pairs, in ranges about zero and at both ends of int32."""
    channels = 8
    info = np.iinfo(dtype)
    reals = np.exp2(rng.uniform(-31, 7, channels))
    reals[:4] = [0.25, 1 / 3, 2.0**-10, 1.5]
    z = rng.integers(info.min, info.max + 1, channels)
    z[:2] = 0
    sides = [side(s, reals, zero_point=z, dtype=dtype, outside="empty") for s in SCHEMES]
    for lo, hi in ((-3000, 2500), (INT32[0], INT32[0] + 700), (INT32[1] - 700, INT32[1]), (7, 7)):
        result = compare(sides, lo, hi)
        np.testing.assert_array_equal(counts(sides, lo, hi), result.count)
        for c in range(channels):
            got = [
                tuple(int(field[c, k]) for field in (result.count, result.first, result.last, result.least,
                                                      result.greatest))
                for k in range(result.count.shape[1])
            ]  # fmt: skip
            assert got == brute(sides, c, lo, hi), (c, lo, hi)
        assert (result.largest >= 0).all()


@pytest.mark.parametrize(
    ("names", "multiplier", "z"),
    [
        (("single", "fp32"), 2.0**-24 * 1.1, -128),
        pytest.param(("single", "double", "fp32"), 0.25, 3, marks=pytest.mark.slow),
        pytest.param(tuple(RUN), 2.0**-17 * 1.7, 127, marks=pytest.mark.slow),
        pytest.param(("single", "fp64-away"), 1.99, 0, marks=pytest.mark.slow),
    ],
)
def test_counts_over_all_accumulators_are_those_of_the_sweep(names, multiplier, z):
    """The whole of int32, one by one; the first has its float32 thresholds beyond 2**24."""
    found = qe.sweep(*names, multiplier=multiplier, zero_point=z, dtype="int8")
    result = compare([side(s, multiplier, zero_point=z, dtype="int8") for s in names])
    for k, (i, j) in enumerate(pairs(len(names))):
        pair = found.pairs_of(names[i], names[j])
        assert pair.divergent == int(result.count[0, k])
        assert pair.max_abs_diff == int(result.largest[0, k])


def test_left_shifts_count_only_where_both_have_an_output(rng):
    """`double` shifts x in int32 first: beyond, nothing is compared; `single` goes on."""
    q = qe.QuantizedMultiplier(rng.integers(2**30, 2**31, 20), rng.integers(0, 20, 20))
    sides = [side(s, q, dtype="int8", zero_point=-5) for s in ("single", "double", "floor-port", "truncate")]
    for c in range(20):
        low, high = max(int(sides[1].low[c]), -40), min(int(sides[1].high[c]), 40)
        assert [row[0] for row in brute(sides, c, -40, 40)] == counts(sides, -40, 40)[c].tolist()
        assert counts(sides, low, high)[c].tolist() == counts(sides, -40, 40)[c].tolist()
        assert counts([sides[0], sides[2]])[c, 0] == sum(p.size for p in intervals(sides[0], sides[2], c))


def test_sides_of_different_zero_points_and_clamps(rng):
    """Far apart by more than one code; a clamp of one side only."""
    reals = np.exp2(rng.uniform(-8, 2, 6))
    sides = [
        side("single", reals, dtype="int8", zero_point=rng.integers(-128, 128, 6)),
        side("fp32", reals * 1.7, dtype="int8", zero_point=-20),
        side("double", reals, dtype="int8", qmin=0, qmax=6),
        side("truncate", reals, dtype="uint8", zero_point=200),
    ]
    result = compare(sides, -2000, 2000)
    fields = (result.count, result.first, result.last, result.least, result.greatest)
    for c in range(6):
        rows = [tuple(int(f[c, k]) for f in fields) for k in range(6)]
        assert rows == brute(sides, c, -2000, 2000)
    assert (result.largest > 1).any()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_the_lattice_engine_counts_the_same(dtype, rng):
    """Floor sums know nothing of thresholds: all pairs of floor forms, over all of int32 and over random ranges."""
    channels = 6 if dtype == "int16" else 60
    info = np.iinfo(dtype)
    z = rng.integers(info.min, info.max + 1, channels)
    reals = hard_reals(rng, channels)
    names = [row.name for row in qe.schemes() if row.form == "floor"]
    sides = [side(s, reals, zero_point=z, dtype=dtype, outside="empty") for s in names]
    cut = np.sort(rng.integers(INT32[0], INT32[1] + 1, (2, channels)), axis=0)
    for lo, hi in (INT32, cut):
        found = counts(sides, lo, hi)
        for k, (i, j) in enumerate(pairs(len(sides))):
            low, high = common_domain([sides[i], sides[j]], (lo, hi))
            held = np.flatnonzero(low <= high)
            a, b = sides[i].take(held), sides[j].take(held)
            np.testing.assert_array_equal(lattice.count(a, b, low[held], high[held]), found[held, k])


def test_ranges_add_up(rng):
    """Counts of adjacent ranges add up to the count of their union, whatever the cut; per channel too."""
    sides = [side(s, hard_reals(rng, 30), dtype="int8", outside="empty", zero_point=7) for s in RUN]
    whole = counts(sides)
    cut = rng.integers(-(2**31) + 1, 2**31 - 1, 30)
    np.testing.assert_array_equal(counts(sides, None, cut - 1) + counts(sides, cut, None), whole)


def test_mean_over_multipliers_obeys_the_law():
    """exact.md, section 7: about 255 ln 2 = 176.75 codes a multiplier part single and double, whatever the shift."""
    value = np.linspace(2**30, 2**31 - 1, 4001).astype(np.int64) | 1
    sides = [side(s, qe.QuantizedMultiplier(value, np.full(4001, -8)), dtype="int8") for s in ("single", "double")]
    assert abs(counts(sides).mean() - 255 * np.log(2)) < 1.0


def test_empty_ranges_hold_nothing():
    """As `common_domain` gives them: per channel, lo > hi."""
    sides = [side(s, [0.25, 0.25], dtype="int8") for s in ("single", "double")]
    for lo, hi in ((5, 4), (np.array([1, 1]), np.array([0, 0]))):
        result = compare(sides, lo, hi)
        assert result.count.tolist() == [[0], [0]]
        assert (result.first > result.last).all()
        assert counts(sides, lo, hi, weights=([-2, 1, 4], [1, 1, 1])).tolist() == [[0], [0]]
        assert atoms(sides, 0, 5, 4).starts.size == 0
    assert counts(sides, [1, 1], [0, 6]).tolist() == [[0], [2]]  # 1 and 5


# --- weights --------------------------------------------------------------------------------------------------


def test_weighted_counts(rng):
    reals = np.array([0.25, 1 / 3, 0.0117])
    sides = [side(s, reals, dtype="int8", zero_point=4) for s in RUN]
    values = np.unique(rng.integers(-4000, 4000, 900))
    weight = rng.integers(0, 1000, values.size)

    def of(x):
        at = np.searchsorted(values, x)
        return np.where(values[np.minimum(at, values.size - 1)] == x, weight[np.minimum(at, values.size - 1)], 0)

    got = counts(sides, -3000, 2999, weights=(values, weight))
    for c in range(3):
        assert got[c].tolist() == [row[0] for row in brute(sides, c, -3000, 2999, of)]
    rows = np.stack([values, values + 1, values - 5])
    apart = counts(sides, weights=(rows, np.stack([weight, weight, 2 * weight])))
    for c in range(3):
        one = [s.take(np.array([c])) for s in sides]
        expected = counts(one, weights=(rows[c], weight))[0] * (2 if c == 2 else 1)
        np.testing.assert_array_equal(apart[c], expected)


def test_weight_one_everywhere_is_the_count():
    sides = [side(s, [0.1, 2.0**-3], dtype="int8") for s in RUN]
    x = np.arange(-2000, 2001)
    np.testing.assert_array_equal(counts(sides, weights=(x, np.ones(4001, int))), counts(sides, -2000, 2000))
    far = counts(sides, weights=([INT32[0], -4, 3, 4, INT32[1]], [1, 2**61, 5, 1, 0]))
    assert far[1, 0] == 2**61 + 5  # at 1/8 "double" takes the tie -4 away from zero, and 3 up


# --- atoms and intervals --------------------------------------------------------------------------------------


def test_atoms_are_the_coarsest_cut(rng):
    sides = [hard_side(rng, s, "int8", 9) for s in RUN]
    for c in range(9):
        low, high = max(int(s.low[c]) for s in sides), min(int(s.high[c]) for s in sides)
        pieces = atoms(sides, c)
        if low > high:
            assert pieces.starts.size == pieces.ends.size == pieces.values.shape[1] == 0
            continue
        T = np.stack([thresholds(s.take(np.array([c])))[0] for s in sides])
        starts, values = reference.atoms(T, low, high + 1)
        np.testing.assert_array_equal(pieces.starts, starts)
        np.testing.assert_array_equal(pieces.values, values - 128)
        assert pieces.ends[-1] == high
        np.testing.assert_array_equal(pieces.starts[1:], pieces.ends[:-1] + 1)
        assert (np.diff(pieces.values, axis=1) != 0).any(axis=0).all()
        for x in (pieces.starts, pieces.ends):
            np.testing.assert_array_equal(outputs(sides, c, x), pieces.values)
        assert int(pieces.sizes.sum()) == high - low + 1
        found = counts([s.take(np.array([c])) for s in sides], low, high)[0]
        expected = reference.count(T, low, high + 1)
        assert found.tolist() == [expected[pair] for pair in pairs(len(sides))]


def test_intervals_list_what_is_counted(rng):
    for a, b in itertools.combinations(RUN, 2):
        real = float(np.exp2(rng.uniform(-12, 1)))
        sides = [side(s, real, dtype="uint8", zero_point=128) for s in (a, b)]
        found = intervals(*sides, 0, -(10**6), 10**6)
        result = compare(sides, -(10**6), 10**6)
        assert sum(p.size for p in found) == int(result.count[0, 0])
        if found:
            assert (found[0].first, found[-1].last) == (int(result.first[0, 0]), int(result.last[0, 0]))
            assert min(p.b - p.a for p in found) == int(result.least[0, 0]) or result.least[0, 0] == 0
        for piece in found:
            y = outputs(sides, 0, np.array([piece.first, piece.last]))
            assert y.tolist() == [[piece.a] * 2, [piece.b] * 2]
            assert piece.a != piece.b


def test_intervals_at_ties():
    one = [side(s, qe.QuantizedMultiplier(1 << 30, -1), dtype="int8") for s in ("single", "half-away")]
    assert intervals(*one, 0, -6, 6) == [Interval(-6, -6, -1, -2), Interval(-2, -2, 0, -1)]


# --- rules without a closed form, tiles, errors ----------------------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
def test_a_rule_without_a_closed_form_is_bisected(inside):
    rule = FloatRule(64, "half-even", zero_point_inside=inside)
    assert not staircase.closed_form(rule)
    reals = np.array([0.1, 0.25, 1 / 90, 2.0**-20])
    own = custom("fp64-away", rule)
    sides = [side(s, reals, dtype="int8", zero_point=[0, 3, -4, 5]) for s in ("single", own, "fp64-away")]
    assert reference.violations(sides[1].evaluate, thresholds(sides[1]), -128) == 0
    result = compare(sides, -5000, 5000)
    for c in range(4):
        assert result.count[c].tolist() == [row[0] for row in brute(sides, c, -5000, 5000)]
    pieces = atoms(sides, 1, -50, 50)
    np.testing.assert_array_equal(outputs(sides, 1, pieces.starts), pieces.values)


def test_tiles_do_not_show(monkeypatch, rng):
    fields = {"weights": (np.arange(-500, 500), np.arange(1000))}
    reals = np.exp2(rng.uniform(-10, 0, 53))
    own = custom("fp64-away", FloatRule(64, "half-even"))
    sides = [side(s, reals, dtype="int8", zero_point=rng.integers(-128, 128, 53)) for s in (*RUN, own)]
    T, plain, weighted = [thresholds(s) for s in sides], counts(sides), counts(sides, **fields)
    monkeypatch.setattr(staircase.kernels, "TILE", 5)
    monkeypatch.setattr(staircase, "BISECTED", 7 * 255)
    for one, expected in zip(sides, T, strict=True):
        np.testing.assert_array_equal(thresholds(one), expected)
    np.testing.assert_array_equal(counts(sides), plain)
    np.testing.assert_array_equal(counts(sides, **fields), weighted)
    for one in sides:
        channel = one.take(np.array([52]))
        np.testing.assert_array_equal(thresholds(channel)[0], thresholds(one)[52])


def test_a_rule_that_falls_is_refused():
    rule = FloorRule("q31", 31, right=Bias(0, 0, 2, 1), none=Bias(0, 0, 2, 1), left=Bias(0, 0, 2, 1))
    one = side(custom("single", rule), qe.QuantizedMultiplier([2**30, 1], [-3, -3]), dtype="int8")
    with pytest.raises(qe.DomainError, match=r"falls between accumulators -1 and 0.*1 \* 2\*\*\(-3 - 31\).*channel 1"):
        thresholds(one)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda a, b: thresholds(side("single", 0.1)), "got a raw int32 for scheme 'single'"),
        (lambda a, b: thresholds(side("single", 0.1, qmin=0, qmax=2**16)), r"got \[0, 65536\]"),
        (lambda a, b: thresholds(a, (5, 4)), r"codes must be .* got \(5, 4\)"),
        (lambda a, b: counts([]), "at least one side"),
        (lambda a, b: counts([a, b]), "side 0 has 1, side 1 2"),
        (lambda a, b: counts([a, a], 0, 2**31), "got 2147483648"),
        (lambda a, b: counts([a, a], weights=[1]), r"weights must be \(values, counts\)"),
        (lambda a, b: counts([a, a], weights=([0.5], [1])), "values of weights must be integers; got dtype float64"),
        (lambda a, b: counts([a, a], weights=([], [])), "weights must"),
        (lambda a, b: counts([b, b], weights=([[1]] * 3, [1])), r"shape \(n,\) or \(2, n\), n > 0; got \(3, 1\)"),
        (lambda a, b: counts([a, a], weights=([1, 2], [1])), "as many values as counts; got 2 and 1"),
        (
            lambda a, b: counts([a, a], weights=([1, 1], [1, 1])),
            r"values of weights must rise; got 1 at index \(0, 1\)",
        ),
        (lambda a, b: counts([a, a], weights=([2**31], [1])), "must fit int32; got 2147483648"),
        (lambda a, b: counts([a, a], weights=([1], [-1])), "counts of weights must not be negative; got -1"),
        (lambda a, b: counts([a, a], weights=([1, 2], [2**61, 2**61])), "less than 2\\*\\*62"),
        (lambda a, b: atoms([a], 1), r"channel must be in \[0, 0\]; got 1"),
        (lambda a, b: atoms([]), "at least one side"),
    ],
)
def test_errors_name_the_value_and_its_place(call, text):
    a, b = side("single", 0.1, dtype="int8"), side("single", [0.1, 0.2], dtype="int8")
    with pytest.raises(qe.QEngineError, match=text):
        call(a, b)
