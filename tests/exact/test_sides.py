"""A scheme bound to its multipliers: outputs, domains, ranges, errors."""

import numpy as np
import pytest

import qengine as qe
from qengine.backends.forms import Bias, FloorRule
from qengine.exact.sides import as_range, common_domain, side
from qengine.requant.schemes import Scheme

MULTIPLIERS = np.array([0.1, 0.25, 0.5 - 2.0**-20])
INT32 = (-(2**31), 2**31 - 1)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [None, "int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("scheme", qe.schemes(), ids=lambda s: s.name)
def test_evaluates_as_requantize(scheme, dtype, backend):
    zero_point = np.array([0, 3, 100])
    one = side(scheme, MULTIPLIERS, zero_point=zero_point, dtype=dtype)
    assert one.channels == 3
    assert one.clamped == (dtype in ("int8", "uint8", "int16"))
    x = np.concatenate([np.arange(-60, 60), [-(2**31), -(2**24) - 1, 2**24 + 1, 2**31 - 1]])
    x = np.clip(np.broadcast_to(x, (3, x.size)), one.low[:, None], one.high[:, None])
    raw = dtype if one.clamped else "int32"
    expected = qe.requantize(x, MULTIPLIERS, scheme=scheme, zero_point=zero_point, dtype=raw, axis=0)
    np.testing.assert_array_equal(one.evaluate(x, backend), expected)


@pytest.mark.parametrize("scheme", qe.schemes(), ids=lambda s: s.name)
def test_domain_is_that_of_requantize(scheme):
    """Both ends of the domain are accepted, and what lies beyond them in int32 is not."""
    reals = np.array([0.3, 1.0 - 2.0**-24 if scheme.name == "q31" else 3.7])
    for dtype in ("int8", "int32"):
        one = side(scheme, reals, dtype=dtype, zero_point=5)
        for c, real in enumerate(reals):
            low, high = int(one.low[c]), int(one.high[c])
            qe.requantize(np.array([low, high]), float(real), scheme=scheme, zero_point=5, dtype=dtype)
            for beyond in (low - 1, high + 1):
                if INT32[0] <= beyond <= INT32[1]:
                    with pytest.raises(qe.DomainError):
                        qe.requantize(np.array([beyond]), float(real), scheme=scheme, zero_point=5, dtype=dtype)


@pytest.mark.parametrize("scheme", qe.schemes(), ids=lambda s: s.name)
def test_every_scheme_is_monotone(scheme):
    if scheme.parameter == "q31":
        shifts = np.arange(scheme.shift_range[0], scheme.shift_range[1] + 1)
        values = np.array([0, 1, 2, 3, 2**30, 2**30 + 1, 2**31 - 1])
        value, shift = (g.ravel() for g in np.meshgrid(values, shifts))
        one = side(scheme, qe.QuantizedMultiplier(value, shift), dtype="int8", outside="empty")
    else:
        one = side(scheme, np.exp2(np.arange(-31.0, 7.5, 0.37)), dtype="int8", outside="empty")
    assert one.monotone.all()
    x = np.broadcast_to(np.arange(-300, 300), (one.channels, 600))
    assert (np.diff(one.evaluate(x), axis=1) >= 0).all()


def test_a_scheme_that_falls_at_zero_is_found_out():
    falls = FloorRule("q31", 31, right=Bias(0, 0, 2, 0), none=Bias(0, 0, 2, 0), left=Bias(0, 0, 2, 0))
    row = qe.get_scheme("single")
    broken = Scheme(**{**{f: getattr(row, f) for f in row.__dataclass_fields__}, "name": "falls", "rule": falls})
    one = side(broken, qe.QuantizedMultiplier([0, 1, 2**30], [0, -3, -3]), dtype="int8")
    assert one.monotone.tolist() == [True, True, True]
    falls = FloorRule("q31", 31, right=Bias(0, 0, 2, 1), none=Bias(0, 0, 2, 1), left=Bias(0, 0, 2, 1))
    broken = Scheme(**{**{f: getattr(broken, f) for f in row.__dataclass_fields__}, "rule": falls})
    one = side(broken, qe.QuantizedMultiplier([0, 1, 2**30], [0, -3, -3]), dtype="int8")
    assert one.monotone.tolist() == [True, False, True]
    y = one.evaluate(np.broadcast_to([-1, 0], (3, 2)))
    assert (y[:, 0] <= y[:, 1]).tolist() == [True, False, True]


def test_scales_take_the_recipe_of_the_scheme():
    issue = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
    for scheme, expected in (("single", -119), ("double", -119), ("fp32", -120)):
        one = side(scheme, scales=issue, zero_point=-126, dtype="int8")
        assert one.evaluate([[585]]).tolist() == [[expected]]
    other = side("fp32", scales=issue, recipe="double", zero_point=-126, dtype="int8")
    assert other.evaluate([[585]]).tolist() == [[-119]]


def test_channels_broadcast_and_are_taken():
    one = side("double", MULTIPLIERS, zero_point=[1, 2, 3], dtype="int8")
    picked = one.take(np.array([2, 0]))
    assert picked.text(0) == repr(float(MULTIPLIERS[2]))
    x = np.broadcast_to(np.arange(-50, 50), (3, 100))
    np.testing.assert_array_equal(picked.evaluate(x[:2]), one.evaluate(x)[[2, 0]])
    spread = side("double", 0.1, zero_point=[1, 2, 3], dtype="int8")
    assert spread.channels == 3
    assert spread.text(2) == "0.1"
    assert spread.take(np.array([1])).evaluate([[0]]).tolist() == [[2]]
    q = side("double", qe.QuantizedMultiplier([2**30, 5], [0, -2]), dtype="int8")
    assert q.text(1) == "5 * 2**(-2 - 31)"
    assert q.take(np.array([1])).text(0) == q.text(1)


def test_multipliers_outside_the_domain_leave_their_channel_empty():
    q = qe.QuantizedMultiplier([2**30, 5, 7], [9, -3, -40])
    one = side("int16x8", q, dtype="int8", outside="empty")
    assert (one.low > one.high).tolist() == [True, False, True]
    assert one.form.a[1] == side("int16x8", qe.QuantizedMultiplier([5], [-3])).form.a[0]  # not renormalised
    none = side("q31", [1.0, 2.0], outside="empty")
    assert (none.low > none.high).all()
    with pytest.raises(qe.DomainError, match=r"shift must be in \[-31, 7\].*got 9 at index 0"):
        side("int16x8", q)


def test_common_domain():
    left = qe.QuantizedMultiplier([2**30, 2**30], [3, -3])
    sides = [side(s, left, dtype="int8") for s in ("single", "double")]
    low, high = common_domain(sides)
    assert low.tolist() == [-(2**28), -(2**31)]
    assert high.tolist() == [2**28 - 1, 2**31 - 1]
    low, high = common_domain(sides, ([-5, -6], 2**31 - 1))
    assert low.tolist() == [-5, -6]
    assert high.tolist() == [2**28 - 1, 2**31 - 1]
    low, high = common_domain(sides, (2**29, 2**30))
    assert (low > high).tolist() == [True, False]
    assert [bound.tolist() for bound in as_range(None, 2)] == [[INT32[0]] * 2, [INT32[1]] * 2]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: side("single"), "exactly one of the two"),
        (lambda: side("single", 0.1, scales=(1, 1, 1)), "exactly one of the two"),
        (lambda: side("single", scales=(1, 1)), r"scales must be \(input, weight, output\); got 2"),
        (lambda: side("single", 0.1, recipe="double"), "got recipe 'double' with a multiplier"),
        (lambda: side("single", 0.1, outside="skip"), "outside must be 'error' or 'empty'; got 'skip'"),
        (lambda: side("single", [0.1, 0.2], zero_point=[1, 2, 3]), r"one a channel \(2\); got 3"),
        (lambda: side("single", -0.1), "must not be negative; got -0.1"),
        (lambda: side("single", 0.1, dtype="int8", zero_point=200), r"zero_point must be in \[-128, 127\]"),
        (lambda: side("single", 0.1, dtype="int8", qmin=5, qmax=4), "qmin must not exceed qmax"),
        (lambda: side("single", 0.1, dtype="float32"), "dtype must be int8"),
        (lambda: side("nosuch", 0.1), "unknown scheme 'nosuch'"),
        (lambda: side("single", 0.1).evaluate([0, 1]), r"shape \(1, n\); got \(2,\)"),
        (lambda: side("single", 0.1).evaluate([[0.5]]), "must hold integers; got dtype float64"),
        (lambda: side("single", 0.1).evaluate([[0, 2**31 + 1]]), r"in channel 0; got 2147483649 at index \(0, 1\)"),
        (lambda: side("fp32", 3.0).evaluate([[2**30]]), r"x must be in \[-715827935, 715827872\].*got 1073741824"),
        (lambda: common_domain([]), "at least one side"),
        (lambda: common_domain([side("single", 0.1), side("single", [0.1, 0.2])]), "side 0 has 1, side 1 2"),
        (lambda: as_range((0,), 1), r"must be \(lowest, highest\); got \(0,\)"),
        (lambda: as_range((0, 2**31), 1), r"highest accumulator must be in .* got 2147483648"),
        (lambda: as_range((0.5, 1), 1), "lowest accumulator must be an integer; got 0.5"),
        (lambda: as_range(([0, 1, 2], 5), 2), r"one a channel \(2\); got shape \(3,\)"),
        (lambda: as_range(([0, 6], 5), 2), r"must not be empty; got \[6, 5\] in channel 1"),
    ],
)
def test_errors_name_the_value_and_its_place(call, text):
    with pytest.raises(qe.QEngineError, match=text):
        call()
