"""The numbers of a scheme's normal form, derived per channel from multipliers, and the scheme's domain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qengine.kernels.reference import requantize as reference

from ..arguments import first_index, first_value
from ..backends.forms import I64, INT32_MAX, INT32_MIN, ROUNDING_CODES, FloatRule, FloorRule, Form, NestedRule, Rule
from ..exceptions import DomainError
from .multiplier import QuantizedMultiplier, as_reals, split_real
from .schemes import Scheme


def mantissa_exponent(multiplier: QuantizedMultiplier | npt.ArrayLike, mantissa: str) -> tuple[I64, I64]:
    """Return (mantissa, exponent) of multipliers as a rule wants them.

    A `QuantizedMultiplier` given to a ``q31`` rule is taken as it stands, not renormalised.
    """
    if mantissa in ("q31", "q15-saturated") and isinstance(multiplier, QuantizedMultiplier):
        value = np.atleast_1d(np.asarray(multiplier.value, dtype=np.int64))
        exponent = np.atleast_1d(np.asarray(multiplier.shift, dtype=np.int64))
        if mantissa == "q15-saturated":
            value = reference.reduce_to_15_bits(value)
        return value, exponent
    real = np.atleast_1d(as_reals(multiplier))
    if mantissa in ("m24", "m24<<7"):
        with np.errstate(over="ignore", under="ignore"):
            real = real.astype(np.float32).astype(np.float64)
        fraction, exponent32 = np.frexp(real)
        value = np.ldexp(fraction, 24).astype(np.int64)
        return value << (7 if mantissa == "m24<<7" else 0), exponent32.astype(np.int64)
    if mantissa == "q8":
        with np.errstate(over="ignore", under="ignore"):
            value = reference.q8_mantissa(real.astype(np.float32))
        return value, np.zeros_like(value)
    if mantissa == "m15":
        fraction, exponent32 = np.frexp(real)
        if isinstance(multiplier, QuantizedMultiplier):  # its real value may lie beyond float64
            fraction, exponent32 = np.frexp(np.atleast_1d(np.asarray(multiplier.value, dtype=np.float64)))
            shift = np.atleast_1d(np.asarray(multiplier.shift, dtype=np.int64))
            exponent32 = np.where(fraction == 0, 0, exponent32 + shift - 31)
        value = (np.ldexp(fraction, 53).astype(np.int64) + (1 << 37)) >> 38
        carry = value == 1 << 15
        return np.where(carry, 1 << 14, value), exponent32.astype(np.int64) + carry
    value, exponent = split_real(real)
    return (reference.reduce_to_15_bits(value) if mantissa == "q15-saturated" else value), exponent


def _exponent_fits(scheme: Scheme, exponent: I64) -> npt.NDArray[np.bool_]:
    return (exponent >= scheme.shift_range[0]) & (exponent <= scheme.shift_range[1])


def _scale_fits(scheme: Scheme, scale: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return (scale >= scheme.scale_range[0]) & (scale < scheme.scale_range[1])


def multiplier_fits(scheme: Scheme, multiplier: QuantizedMultiplier | npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tell for each multiplier (flattened) whether the scheme's domain admits it."""
    if scheme.parameter == "q31":
        assert isinstance(scheme.rule, FloorRule)
        return _exponent_fits(scheme, mantissa_exponent(multiplier, scheme.rule.mantissa)[1].ravel())
    return _scale_fits(scheme, _scale(scheme, multiplier))


def _scale(scheme: Scheme, multiplier: QuantizedMultiplier | npt.ArrayLike) -> npt.NDArray[np.float64]:
    real = np.atleast_1d(as_reals(multiplier)).ravel()
    if scheme.parameter == "float64":
        return real
    with np.errstate(over="ignore", under="ignore"):
        return real.astype(np.float32).astype(np.float64)


def _check_exponent(scheme: Scheme, exponent: I64, shape: tuple[int, ...]) -> None:
    bad = ~_exponent_fits(scheme, exponent).reshape(shape)
    if bad.any():
        low, high = scheme.shift_range
        got = first_value(exponent.reshape(shape), bad)
        raise DomainError(f"shift must be in [{low}, {high}] for scheme {scheme.name!r}; got {got}{first_index(bad)}.")


def _check_scale(scheme: Scheme, scale: npt.NDArray[np.float64], shape: tuple[int, ...]) -> None:
    bad = ~_scale_fits(scheme, scale).reshape(shape)
    if bad.any():
        low, high = scheme.scale_range
        got = first_value(scale.reshape(shape), bad)
        limits = f"in [{low:.9g}, {high:.9g})" if high < np.inf else f"finite in {scheme.parameter}"
        beyond = " (it exceeds the largest number)" if np.isinf(got) else ""
        raise DomainError(
            f"multiplier must be {limits} for scheme {scheme.name!r}; got {got!r}{beyond}{first_index(bad)}."
        )


def accumulator_range(
    a: I64, bp: I64, bn: I64, t: I64, acc_bits: int,
    result_min: int | I64 = INT32_MIN, result_max: int | I64 = INT32_MAX,
) -> tuple[I64, I64]:  # fmt: skip
    """Return the accumulators whose floor form lies in [result_min, result_max], within `acc_bits` bits.

    ``y(x) <= Y`` iff ``a x + bp <= (Y+1) 2**t - 1``. Only for t < 32 can a bound bind: there
    ``(Y+1) * 2**t <= 2**62`` fits int64; for t >= 32, ``|y| <= (a |x| + |b|) / 2**32 < 2**31 - 2**16`` for the
    accumulators and mantissas that the rules admit, so a bound near int32's ends cannot bind.
    """
    low = np.full(a.shape, -(1 << (acc_bits - 1)), dtype=np.int64)
    high = np.full(a.shape, (1 << (acc_bits - 1)) - 1, dtype=np.int64)
    tight = (t < 32) & (a > 0)
    if tight.any():
        ta, tt = a[tight], t[tight]
        top = ((np.broadcast_to(result_max, a.shape)[tight] + 1) << tt) - 1 - bp[tight]
        bottom = (np.broadcast_to(result_min, a.shape)[tight] << tt) - bn[tight]
        high[tight] = np.minimum(high[tight], top // ta)
        low[tight] = np.maximum(low[tight], -((-bottom) // ta))
    return low, high


def float_accumulator_range(
    scale: npt.NDArray[np.float64], rule: FloatRule, zero_point: I64 | int = 0
) -> tuple[I64, I64]:
    """Return the int32 accumulators whose rounded product, and its sum with the zero point, fit int32.

    With the zero point inside the rounding only the total has to fit.

    Found by bisection on the arithmetic itself, which is monotone; only scales near 1 and above can bind.
    """
    low = np.full(scale.shape, INT32_MIN, dtype=np.int64)
    high = np.full(scale.shape, INT32_MAX, dtype=np.int64)
    tight = scale > 0.99
    if tight.any():
        z = np.broadcast_to(zero_point, scale.shape)[tight]
        for bound, edge in ((high, np.int64(INT32_MAX)), (low, np.int64(INT32_MIN))):
            inside = np.zeros(int(tight.sum()), dtype=np.int64)
            outside = np.full(inside.shape, edge + np.sign(edge), dtype=np.int64)
            for _ in range(33):
                middle = inside + np.sign(edge) * (np.abs(outside - inside) // 2)
                y = reference.float_round(
                    middle,
                    scale[tight],
                    rule.bits,
                    ROUNDING_CODES[rule.rounding],
                    z if rule.zero_point_inside else None,
                )
                fits = (y >= INT32_MIN) & (y <= INT32_MAX)
                if not rule.zero_point_inside:
                    fits &= (y + z >= INT32_MIN) & (y + z <= INT32_MAX)
                inside, outside = np.where(fits, middle, inside), np.where(fits, outside, middle)
            bound[tight] = inside
    return low, high


def derive(scheme: Scheme, multiplier: QuantizedMultiplier | npt.ArrayLike) -> Form:
    """Derive the numbers of the scheme's form for multipliers (flattened to 1-D, one element a channel).

    Raises
    ------
    DomainError
        If a multiplier lies outside the scheme's domain; the text names the value and its index.
    """
    rule = scheme.rule
    shape = multiplier.shape if isinstance(multiplier, QuantizedMultiplier) else np.shape(multiplier)
    empty = np.zeros(0, dtype=np.int64)
    if isinstance(rule, FloatRule):
        scale = _scale(scheme, multiplier)
        _check_scale(scheme, scale, shape)
        exponent = np.frexp(scale)[1].astype(np.int64)
        acc_min, acc_max = float_accumulator_range(scale, rule)
        return Form(rule, empty, empty, empty, empty, scale, exponent, acc_min, acc_max)
    if isinstance(rule, NestedRule):
        scale = _scale(scheme, multiplier)
        _check_scale(scheme, scale, shape)
        mantissa, exponent = reference.nested16_parameters(scale)
        full = np.full(scale.shape, INT32_MAX, dtype=np.int64)
        return Form(rule, mantissa, empty, empty, exponent, scale, exponent, -full - 1, full)
    if scheme.parameter == "float32":
        _check_scale(scheme, _scale(scheme, multiplier), shape)
    a, exponent = (array.ravel() for array in mantissa_exponent(multiplier, rule.mantissa))
    if scheme.parameter == "q31":
        _check_exponent(scheme, exponent, shape)
    bp, bn, t = reference.floor_parameters(a, exponent, rule.encode())
    acc_min, acc_max = accumulator_range(a, bp, bn, t, scheme.acc_bits)
    if rule.shifts_accumulator:
        left = np.maximum(exponent, 0)
        acc_min = np.maximum(acc_min, np.int64(INT32_MIN) >> left)
        acc_max = np.minimum(acc_max, np.int64(INT32_MAX) >> left)
    if rule.nudge_saturates:
        # floor(m x / 2**31) + 2**(n-1) <= 2**31 - 1; both products stay below 2**62.
        binds = (exponent < 0) & (a > 0)
        nudge = np.int64(1) << np.maximum(-exponent - 1, 0)
        top = ((((np.int64(1) << 31) - nudge) << 31) - 1) // np.maximum(a, 1)
        acc_max = np.where(binds, np.minimum(acc_max, top), acc_max)
    no_scale = np.zeros(0, dtype=np.float64)
    return Form(rule, a, bp, bn, t, no_scale, exponent, acc_min, acc_max)


def saturation(rule: Rule) -> tuple[int, int]:
    """Return the bounds to which the original saturates a rounded result: int32's where it does not."""
    bits = rule.saturate_bits if isinstance(rule, FloorRule) and rule.saturate_bits else 32
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def adds_zero_point_after(rule: Rule) -> bool:
    """Tell whether the zero point is added after the rounding, outside the form."""
    return isinstance(rule, FloorRule) or (isinstance(rule, FloatRule) and not rule.zero_point_inside)


def result_bounds(rule: Rule, zero_point: I64, qmin: int, qmax: int) -> tuple[I64, I64]:
    """Return the clamp moved in front of a zero point that is added after, with the saturation, which comes first.

    ``clamp(saturate(v) + z) = clip(v, low, high) + z``, where low and high are the clamped ends of the saturation: a
    clamp beyond all that saturated results reach makes both the nearer end of the clamp. A raw result has int32's
    bounds, and its domain sees to it that the sum fits: nothing is cut.

    Raises
    ------
    DomainError
        A clamp that no int32 result reaches with this zero point: kernels hold bounds in int32.
    """
    low, high = saturation(rule)
    if (qmin, qmax) == (INT32_MIN, INT32_MAX):
        return np.full(zero_point.shape, low, dtype=np.int64), np.full(zero_point.shape, high, dtype=np.int64)
    shift = zero_point if adds_zero_point_after(rule) else np.zeros_like(zero_point)
    bottom, top = np.clip(low, qmin - shift, qmax - shift), np.clip(high, qmin - shift, qmax - shift)
    bad = (bottom > INT32_MAX) | (top < INT32_MIN)
    if bad.any():
        raise DomainError(
            f"no int32 result plus zero point {first_value(zero_point, bad)} lies in [{qmin}, {qmax}]"
            f"{first_index(bad)}: widen qmin and qmax."
        )
    return bottom, top


def wrapped_left_shift(form: Form) -> tuple[I64, Form] | None:
    """Split a left shift off the form, for the originals that shift the accumulator in int32 first.

    Returns the shifts and the form for the shifted (wrapped) accumulator, or None where nothing is shifted.
    """
    rule = form.rule
    if not isinstance(rule, FloorRule) or not rule.shifts_accumulator or not (form.exponent > 0).any():
        return None
    left = np.maximum(form.exponent, 0)
    exponent = np.minimum(form.exponent, 0)
    bp, bn, t = reference.floor_parameters(form.a, exponent, rule.encode())
    return left, Form(rule, form.a, bp, bn, t, form.scale, exponent, form.acc_min, form.acc_max)
