"""The executable specification: every scheme in Python integers, one literal stage after the other.

Slow, total, readable. It follows the originals' stages (high multiply, then shift) and not the normal forms, so
the two check each other. Each evaluation leaves the trace of its intermediates, which `qengine.explain` shows.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..backends.forms import FloatRule, FloorRule
from ..exceptions import DomainError
from .forms import mantissa_exponent
from .multiplier import QuantizedMultiplier, as_reals
from .schemes import Scheme, get_scheme

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True)
class Trace:
    """One scheme's evaluation of one accumulator.

    Attributes
    ----------
    parameter : str
        The multiplier as the scheme holds it.
    exact : Fraction
        ``acc * M`` with the multiplier as the scheme holds it, before any rounding.
    product : int or float
        The exact integer product, or the rounded floating-point one.
    left_shift, total_shift : int or None
        Left shift of the accumulator; right shift t of the product (integer schemes).
    high_mul : int or None
        Result of the first stage of two-stage schemes.
    remainder, threshold : int or None
        ``product mod 2**t`` and ``2**(t-1)``: a single rounding goes up from the threshold on.
    tie_distance : Fraction
        Distance of `exact` from the nearest half-integer, in output units; 0 is an exact tie.
    result : int
        The rounded product, before the zero point (for a zero point inside: less the zero point).
    with_zero_point, clamped : int
        With the zero point; clamped to the output type (equal where nothing clamps).
    """

    parameter: str
    exact: Fraction
    product: int | float
    left_shift: int | None
    total_shift: int | None
    high_mul: int | None
    remainder: int | None
    threshold: int | None
    tie_distance: Fraction
    result: int
    with_zero_point: int
    clamped: int


def round_half_even(value: Fraction) -> int:
    """Nearest integer, ties to even."""
    return round(value)


def round_half_away(value: Fraction) -> int:
    """Nearest integer, ties away from zero."""
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


def srdhm(x: int, m: int) -> int:
    """Saturating rounding doubling high multiply: sign-dependent nudge and C++'s truncating division."""
    if x == m == INT32_MIN:
        return INT32_MAX
    product = x * m
    nudged = product + (1 << 30 if product >= 0 else 1 - (1 << 30))
    return nudged >> 31 if nudged >= 0 else -(-nudged >> 31)


def srdhm_floor_port(x: int, m: int) -> int:
    """Return what ports compute that shift (floor) where C++ divides (truncates)."""
    product = x * m
    return (product + (1 << 30 if product >= 0 else 1 - (1 << 30))) >> 31


def high_mul_half_down(x: int, m: int) -> int:
    """Doubling high multiply with ties toward minus infinity (a negated multiplier, rounded half up)."""
    return -((x * -m + (1 << 30)) >> 31)


def rounding_divide_by_pot(x: int, n: int) -> int:
    """Divide by ``2**n``, half away from zero (mask, remainder, threshold)."""
    mask = (1 << n) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> n) + (1 if x & mask > threshold else 0)


def rounding_right_shift(x: int, n: int) -> int:
    """Divide by ``2**n``, half up."""
    return (x + ((1 << n) >> 1)) >> n


def to_float32(value: Fraction) -> float:
    """Round an exact number to float32, ties to even."""
    if value == 0:
        return 0.0
    # Scale so that the integer part holds 24 bits (fewer where subnormal), round once, scale back exactly.
    exponent = max(math.floor(_log2(abs(value))) - 23, -149)
    unit = Fraction(2) ** exponent
    return float(round_half_even(value / unit) * unit)


def _log2(value: Fraction) -> int:
    n = value.numerator.bit_length() - value.denominator.bit_length()
    return n if Fraction(2) ** n <= value else n - 1


def _saturate(value: int, bits: int) -> int:
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


def _outside(scheme: Scheme, acc: int, why: str) -> DomainError:
    return DomainError(f"acc {acc} is outside the domain of scheme {scheme.name!r}: {why}.")


def _shifted(scheme: Scheme, acc: int, left: int) -> int:
    shifted = acc << left
    if not INT32_MIN <= shifted <= INT32_MAX:
        raise _outside(scheme, acc, f"acc << {left} overflows int32")
    return shifted


def _two_stages(scheme: Scheme, acc: int, m: int, e: int) -> tuple[int, int]:
    """Return (first stage, result) of the schemes with a high multiply."""
    x, n = _shifted(scheme, acc, max(e, 0)), max(-e, 0)
    if scheme.name == "double-up":
        high = srdhm(x, m)
        return high, rounding_right_shift(high, n)
    if scheme.name == "floor-port":
        high = srdhm_floor_port(x, m)
    elif scheme.name == "hifi-out16":
        high = high_mul_half_down(x, m)
        return high, _saturate(rounding_divide_by_pot(high, n), 16)
    else:
        high = srdhm(x, m)
    return high, rounding_divide_by_pot(high, n)


TWO_STAGES = frozenset({"double", "double-up", "floor-port", "hifi-out16", "q31"})


def _one_stage(scheme: Scheme, acc: int, m: int, e: int, t: int) -> int:
    product = acc * m
    if scheme.name in ("half-away", "rndna"):
        return round_half_away(Fraction(product, 1 << t))
    if scheme.name == "truncate":
        return math.trunc(Fraction(product, 1 << t))
    if scheme.name == "avx2-int16":
        high = (_shifted(scheme, acc, max(e, 0)) * m) >> 31
        if e >= 0:
            return high
        nudged = high + (1 << (-e - 1))
        if nudged > INT32_MAX:
            raise _outside(scheme, acc, "the rounding nudge saturates")
        return nudged >> -e
    return (product + (1 << (t - 1))) >> t  # single, int16x8, rndnu, vcvt, tosa-scale16: half up


def _check_multiplier(scheme: Scheme, exponent: int, scale: float) -> None:
    low, high = scheme.shift_range
    if scheme.parameter == "q31" and not low <= exponent <= high:
        raise DomainError(f"shift must be in [{low}, {high}] for scheme {scheme.name!r}; got {exponent}.")
    if scheme.parameter != "q31" and not scheme.scale_range[0] <= scale < scheme.scale_range[1]:
        raise DomainError(
            f"multiplier must be in [{scheme.scale_range[0]:.9g}, {scheme.scale_range[1]:.9g}) for scheme "
            f"{scheme.name!r}; got {scale!r}."
        )


def _distance(exact: Fraction) -> Fraction:
    return abs(exact - math.floor(exact) - Fraction(1, 2))


def trace(
    scheme: str | Scheme, acc: int, multiplier: QuantizedMultiplier | float,
    zero_point: int = 0, qmin: int | None = None, qmax: int | None = None,
) -> Trace:  # fmt: skip
    """Evaluate one scheme on one accumulator and keep every intermediate.

    Raises
    ------
    DomainError
        Where the original's contract ends.
    """
    row = get_scheme(scheme)
    if not -(1 << (row.acc_bits - 1)) <= acc < 1 << (row.acc_bits - 1):
        raise _outside(row, acc, f"accumulators have {row.acc_bits} bits")
    real = float(as_reals(multiplier))
    rule = row.rule
    product: int | float
    left = total = high = remainder = threshold = None
    saturating = qmin is not None and qmax is not None
    if isinstance(rule, FloorRule):
        if row.parameter != "q31":
            _check_multiplier(row, 0, _float32(real))
        mantissa, exponent = (int(v[0]) for v in mantissa_exponent(multiplier, rule.mantissa))
        total = rule.base - exponent
        if row.parameter == "q31":
            _check_multiplier(row, exponent, 0.0)
        product = acc * mantissa
        exact = Fraction(product, 1 << total)
        left = max(exponent, 0)
        remainder, threshold = product & ((1 << total) - 1), 1 << (total - 1)
        if row.name in TWO_STAGES:
            high, result = _two_stages(row, acc, mantissa, exponent)
        else:
            result = _one_stage(row, acc, mantissa, exponent, total)
        if not INT32_MIN <= result <= INT32_MAX:
            raise _outside(row, acc, f"the result {result} leaves int32")
        with_zero_point = result + zero_point
        parameter = f"value {mantissa}, shift {exponent}"
    elif isinstance(rule, FloatRule):
        scale = real if rule.bits == 64 else _float32(real)
        _check_multiplier(row, 0, scale)
        if rule.bits == 64:
            product = float(acc) * scale
            if math.isinf(product):
                raise _outside(row, acc, "the product leaves float64")
            exact = Fraction(acc) * Fraction(scale)
        else:
            x = to_float32(Fraction(acc))
            exact = Fraction(x) * Fraction(scale)
            product = to_float32(exact)
        rounded = round_half_even if rule.rounding == "half-even" else round_half_away
        if rule.zero_point_inside:
            with_zero_point = rounded(Fraction(to_float32(Fraction(product) + zero_point)))
            result = with_zero_point - zero_point
        else:
            result = rounded(Fraction(product))
            with_zero_point = result + zero_point
        defined = saturating and rule.saturates
        total_or_result = with_zero_point if rule.zero_point_inside else result
        if not defined and not INT32_MIN <= total_or_result <= INT32_MAX:
            raise _outside(row, acc, f"the result {result} leaves int32")
        parameter = f"scale {scale!r}"
    else:
        scale = _float32(real)
        _check_multiplier(row, 0, scale)
        fraction, exponent = math.frexp(scale)
        mantissa = (int(math.ldexp(fraction, 24)) + (1 << 8)) >> 9
        if mantissa == 1 << 15:
            mantissa, exponent = 1 << 14, exponent + 1
        left = max(exponent, 0)
        pre = _saturate(rounding_right_shift(acc << left, max(-exponent, 0)), 16)
        high, product, total = pre, pre * mantissa, 15
        remainder, threshold = product & 0x7FFF, 1 << 14
        exact = Fraction(acc) * mantissa * Fraction(2) ** (exponent - 15)
        result = (product + (1 << 14)) >> 15
        with_zero_point = _saturate(result + zero_point, 16)
        parameter = f"value {mantissa}, exponent {exponent}"
    clamped = with_zero_point
    if qmin is not None:
        clamped = max(clamped, qmin)
    if qmax is not None:
        clamped = min(clamped, qmax)
    return Trace(
        parameter, exact, product, left, total, high, remainder, threshold,
        _distance(exact), result, with_zero_point, clamped,
    )  # fmt: skip


def why(first: Trace, second: Trace, names: tuple[str, str]) -> str:
    """Return one sentence on how two schemes came to their outputs of one accumulator."""

    def side(name: str, trace: Trace) -> str:
        if isinstance(trace.product, float):
            return f"{name}: {trace.product!r} -> {trace.result}"
        exact = float(trace.exact)
        if trace.high_mul is not None and trace.total_shift is not None and trace.total_shift > 31:
            n = trace.total_shift - 31
            return f"{name}: {exact * 2**n:.14g} -> {trace.high_mul}, then / 2^{n} -> {trace.result}"
        return f"{name}: {exact:.14g} -> {trace.result}"

    distance = float(first.tie_distance)
    near = "an exact tie" if distance == 0 else f"{distance:.3g} from a tie"
    return f"{side(names[0], first)}; {side(names[1], second)} ({near})"


def _float32(real: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", real))[0])
    except OverflowError:
        return float(np.inf)


def requantize(
    scheme: str | Scheme, acc: int, multiplier: QuantizedMultiplier | float,
    zero_point: int = 0, qmin: int | None = None, qmax: int | None = None,
) -> int:  # fmt: skip
    """Return the requantized accumulator: the definition that all back ends must equal.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.requant import spec
    >>> quarter = QuantizedMultiplier(1 << 30, -1)
    >>> [spec.requantize("double", x, quarter) for x in (1, -1, 2, -2)]      # ties at +-2
    [1, 0, 1, -1]
    """
    return trace(scheme, acc, multiplier, zero_point, qmin, qmax).clamped
