"""Real multipliers as integers, against the oracle and at every edge."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import qengine as qe
from qengine import QuantizedMultiplier, quantize_multiplier
from tests import oracle

EDGES = [
    0.0, 5e-324, 2.2250738585072014e-308, 2.0**-149, 2.0**-34, 2.0**-33, 2.0**-32, 2.0**-31,
    math.nextafter(2.0**-32, 0), math.nextafter(2.0**-32, 1), 2.0**-32 * (1 - 2**-33),
    2.0**-32 * (1 - 2**-32), 0.1, 0.25, 0.5, math.nextafter(0.5, 0), 0.5 + 2**-32, 0.5 + 2**-31,
    0.5 + 3 * 2**-32, 1 - 2**-31, 1 - 2**-32, 1 - 2**-33, math.nextafter(1, 0), 1.0, math.nextafter(1, 2),
    1.5, 2.0**29, 2.0**30, 2.0**31, 3e9, math.nextafter(2.0**30, 0), 2.0**30 * (1 - 2**-33), 2.0**62, 1e300,
    1.7976931348623157e308,
]  # fmt: skip


def parts(m: QuantizedMultiplier) -> tuple[int, int]:
    return m.value, m.shift


@pytest.mark.parametrize("real", EDGES)
def test_edges(real: float) -> None:
    assert parts(quantize_multiplier(real)) == oracle.quantize_multiplier(real)
    assert parts(quantize_multiplier(real, single_rounding=True)) == oracle.quantize_multiplier_single(real)


def test_arrays() -> None:
    real = np.array(EDGES).reshape(-1, 5)
    for single, function in ((False, oracle.quantize_multiplier), (True, oracle.quantize_multiplier_single)):
        m = quantize_multiplier(real, single_rounding=single)
        assert m.shape == real.shape
        assert m.value.dtype == m.shift.dtype == np.int32
        assert not m.value.flags.writeable
        assert not m.shift.flags.writeable
        wanted = [function(r) for r in EDGES]
        assert list(zip(m.value.ravel().tolist(), m.shift.ravel().tolist(), strict=True)) == wanted


@given(real=st.floats(0, allow_nan=False, allow_infinity=False))
@example(real=1 - 2.0**-33)
def test_oracle(real: float) -> None:
    assert parts(quantize_multiplier(real)) == oracle.quantize_multiplier(real)
    assert parts(quantize_multiplier(real, single_rounding=True)) == oracle.quantize_multiplier_single(real)


@given(st.lists(st.floats(2.0**-33, 2.0**31), min_size=1, max_size=30))
def test_oracle_on_arrays(reals: list[float]) -> None:
    m = quantize_multiplier(reals)
    assert list(zip(m.value.tolist(), m.shift.tolist(), strict=True)) == [oracle.quantize_multiplier(r) for r in reals]


@given(st.floats(2.0**-32, 2.0**40))
def test_law_nearest_within_half_a_unit_and_normalised(real: float) -> None:
    m = quantize_multiplier(real)
    assert 2**30 <= m.value <= 2**31 - 1
    assert abs(Fraction(m.real) - Fraction(real)) <= Fraction(2) ** (m.shift - 32)
    assert parts(quantize_multiplier(m.real)) == parts(m)
    assert abs(m.error_ppm(real)) <= 1e6 * 2.0**-31


@given(st.integers(2**30, 2**31 - 1), st.integers(-31, 60))
def test_law_real_is_exact_and_comes_back(value: int, shift: int) -> None:
    m = QuantizedMultiplier(value, shift)
    assert Fraction(m.real) == value * Fraction(2) ** (shift - 31)
    assert parts(quantize_multiplier(m.real)) == (value, shift)


def test_float32_is_widened_exactly() -> None:
    real = np.float32(0.1)
    assert parts(quantize_multiplier(real)) == (1_717_986_944, -3)
    assert parts(quantize_multiplier(float(real))) == (1_717_986_944, -3)
    assert quantize_multiplier(np.array([0.1, 0.2], np.float32)).value[0] == 1_717_986_944


def test_integers_are_reals() -> None:
    assert parts(quantize_multiplier(3)) == (3 << 29, 2)
    assert quantize_multiplier(np.array([1, 2])).shift.tolist() == [1, 2]


@pytest.mark.parametrize(
    "function",
    ["quantize_multiplier", "quantize_multiplier_smaller_than_one", "quantize_multiplier_greater_than_one"],
)
@pytest.mark.parametrize(
    ("real", "text"),
    [
        (math.nan, "multiplier must be finite; got nan."),
        (math.inf, "multiplier must be finite; got inf."),
        (-math.inf, "multiplier must be finite; got -inf."),
        (
            -0.5,
            "multiplier must not be negative; got -0.5. Scales are positive; put a sign into the acc",
        ),
        ([0.5, math.nan], "multiplier must be finite; got nan at index 1."),
        ([[1.5, 0.5], [0.1, -2.0]], "multiplier must not be negative; got -2.0 at index (1, 1)."),
    ],
)
def test_bad_reals(function: str, real: object, text: str) -> None:
    with pytest.raises(qe.DomainError) as caught:
        getattr(qe, function)(real)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("real", [True, "0.5", None, 1j, [True, False], np.array(["a"]), object()])
def test_reals_of_a_wrong_type(real: object) -> None:
    with pytest.raises(qe.DTypeError, match="multiplier must be real numbers"):
        quantize_multiplier(real)


def test_minus_zero_is_zero() -> None:
    assert parts(quantize_multiplier(-0.0)) == (0, 0)


def test_smaller_than_one() -> None:
    for real in (0.1, 0.5, 0.9999, 2.0**-31, 1 - 2**-31, 1 - 3 * 2**-33):
        assert parts(qe.quantize_multiplier_smaller_than_one(real)) == oracle.quantize_multiplier(real)
    assert qe.quantize_multiplier_smaller_than_one([0.1, 0.2]).shape == (2,)
    for real in (0.0, 1.0, 1.5):
        with pytest.raises(
            qe.DomainError, match=rf"quantize_multiplier_smaller_than_one takes 0 < real < 1; got {real}"
        ):
            qe.quantize_multiplier_smaller_than_one(real)
    with pytest.raises(qe.DomainError, match=r"got 1.0 at index 1\."):
        qe.quantize_multiplier_smaller_than_one([0.5, 1.0])
    # The mantissa carries, the shift would be +1 and TFLite's check aborts.
    with pytest.raises(qe.DomainError, match=r"rounds to 1.0.*TFLite aborts here\. Use quantize_multiplier\."):
        qe.quantize_multiplier_smaller_than_one(1 - 2**-34)


def test_greater_than_one() -> None:
    for real in (1.5, math.nextafter(1, 2), 1000.0, 2.0**30):
        assert parts(qe.quantize_multiplier_greater_than_one(real)) == oracle.quantize_multiplier(real)
    for real in (0.0, 0.5, 1.0):
        with pytest.raises(qe.DomainError, match=rf"quantize_multiplier_greater_than_one takes real > 1; got {real}"):
            qe.quantize_multiplier_greater_than_one(real)
    with pytest.raises(qe.DomainError, match=r"got 0.5 at index \(1, 0\)"):
        qe.quantize_multiplier_greater_than_one([[1.5], [0.5]])


# ---------------------------------------------------------------------------------------------------------
# The type


def test_fields() -> None:
    m = QuantizedMultiplier(np.int32(5), np.int64(-2))
    assert (type(m.value), type(m.shift), m.shape) == (int, int, ())
    assert tuple(m) == (5, -2)
    assert repr(m) == "QuantizedMultiplier(value=5, shift=-2)"
    assert m == QuantizedMultiplier(5, -2)
    assert hash(m) == hash(QuantizedMultiplier(5, -2))
    assert m != QuantizedMultiplier(5, -1)
    assert m != (5, -2)
    with pytest.raises(AttributeError):
        m.value = 6


def test_arrays_of_multipliers() -> None:
    m = QuantizedMultiplier([2**30, 2**30 + 1], [0, -1])
    assert m.real.tolist() == [0.5, math.ldexp(2**30 + 1, -32)]
    assert m == QuantizedMultiplier(np.array([2**30, 2**30 + 1]), np.array([0, -1]))
    assert m != QuantizedMultiplier(2**30, 0)
    with pytest.raises(TypeError, match="not hashable"):
        hash(m)
    assert QuantizedMultiplier([2**30, 2**30], -1).shift.tolist() == [-1, -1]
    source = np.array([2**30, 2**30])
    m = QuantizedMultiplier(source, [0, 0])
    source[0] = 0
    assert m.value[0] == 2**30


@pytest.mark.parametrize(
    ("value", "shift", "error", "text"),
    [
        (-5, 0, qe.DomainError, "multiplier value must be in [0, 2147483647] (Q0.31); got -5."),
        (2**31, 0, qe.DomainError, "multiplier value must be in [0, 2147483647] (Q0.31); got 2147483648."),
        (
            [1, -1],
            0,
            qe.DomainError,
            "multiplier value must be in [0, 2147483647] (Q0.31); got -1 at index 1.",
        ),
        (
            [[1], [2**31]],
            [[0], [0]],
            qe.DomainError,
            "multiplier value must be in [0, 2147483647] (Q0.31); got 2147483648 at index (1, 0).",
        ),
        (1, 2**31, qe.DomainError, "shift must fit int32; got 2147483648."),
        (1, [0, -(2**31) - 1], qe.DomainError, "shift must fit int32; got -2147483649 at index 1."),
        (
            [1, 2],
            [1, 2, 3],
            qe.DomainError,
            "multiplier value and shift must have the same shape; got (2,) and (3,).",
        ),
        (0.5, 0, qe.DTypeError, "multiplier value must be an integer"),
        (1, 0.5, qe.DTypeError, "shift must be an integer"),
        (True, 0, qe.DTypeError, "multiplier value must be an integer"),
        ("1", 0, qe.DTypeError, "multiplier value must be an integer"),
        (2**70, 0, qe.DTypeError, "multiplier value must hold integers that fit int64"),
        (None, 0, qe.DTypeError, "multiplier value must hold integers"),
    ],
)
def test_bad_fields(value: object, shift: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        QuantizedMultiplier(value, shift)
    assert str(caught.value).startswith(text)


def test_a_value_that_int64_would_wrap_is_refused() -> None:
    with pytest.raises((qe.DomainError, qe.DTypeError)):
        QuantizedMultiplier(np.array([2**64 - 1], dtype=np.uint64), 0)
    with pytest.raises((qe.DomainError, qe.DTypeError)):
        QuantizedMultiplier(2**63 + 5, 0)


def test_a_shift_that_int64_would_wrap_is_refused() -> None:
    with pytest.raises((qe.DomainError, qe.DTypeError)):
        QuantizedMultiplier(1, np.array(2**64 - 1, dtype=np.uint64))


# ---------------------------------------------------------------------------------------------------------
# Error of the representation


def test_error_ppm() -> None:
    assert QuantizedMultiplier(2**30, 0).error_ppm(0.5) == 0.0
    # 0.1 * 2**34 = 1717986918.4: the mantissa falls short by 0.4.
    assert quantize_multiplier(0.1).error_ppm(0.1) == pytest.approx(-1e6 * 0.4 / 1_717_986_918.4, rel=1e-6)
    assert QuantizedMultiplier(2**30, 1).error_ppm(0.999999) == pytest.approx(1.000001, rel=1e-6)
    assert QuantizedMultiplier(0, 0).error_ppm(1e-20) == -1e6
    m = quantize_multiplier([0.1, 0.5])
    ppm = m.error_ppm([0.1, 0.5])
    assert ppm.shape == (2,)
    assert ppm[1] == 0
    assert m.error_ppm(0.5).shape == (2,)
    with pytest.raises(qe.DomainError, match="relative error of a zero multiplier"):
        m.error_ppm([0.1, 0.0])


@given(st.floats(1e-9, 1e9))
def test_error_ppm_is_that_of_fractions(real: float) -> None:
    m = quantize_multiplier(real)
    exact = 10**6 * (Fraction(m.real) - Fraction(real)) / Fraction(real)
    assert abs(Fraction(m.error_ppm(real)) - exact) < Fraction(1, 10**9)
