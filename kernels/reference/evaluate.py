"""Every form over pairs in NumPy: each with the parameters of its channel, or of its own multiplier."""

import numpy as np

from ..codes import (
    FLOAT,
    FLOOR,
    MANTISSA_M15,
    MANTISSA_M24,
    MANTISSA_M24_LEFT7,
    MANTISSA_Q8,
    MANTISSA_Q15_SATURATED,
    NUDGE_SATURATES,
    RANGE,
    SCALE_MANTISSAS,
    SHIFTS_ACCUMULATOR,
)
from . import requantize
from .rounding import round_real

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def q31(real):
    """QuantizeMultiplier on positive reals: (value, shift), flushed to (0, 0)."""
    fraction, exponent = np.frexp(real)
    value = (np.ldexp(fraction, 53).astype(np.int64) + (1 << 21)) >> 22
    carry = value == 1 << 31
    value, exponent = np.where(carry, 1 << 30, value), exponent + carry.astype(np.int64)
    flush = exponent < -31
    return np.where(flush, 0, value), np.where(flush, 0, exponent)


def mantissa(real, code):
    """(mantissa, exponent) of positive reals for a rule's mantissa code."""
    if code in (MANTISSA_M24, MANTISSA_M24_LEFT7):
        fraction, exponent = np.frexp(real.astype(np.float32).astype(np.float64))
        return np.ldexp(fraction, 24).astype(np.int64) << (7 if code == MANTISSA_M24_LEFT7 else 0), exponent.astype(
            np.int64
        )
    if code == MANTISSA_Q8:
        value = requantize.q8_mantissa(real.astype(np.float32))
        return value, np.zeros_like(value)
    if code == MANTISSA_M15:
        fraction, exponent = np.frexp(real)
        value = (np.ldexp(fraction, 53).astype(np.int64) + (1 << 37)) >> 38
        carry = value == 1 << 15
        return np.where(carry, 1 << 14, value), exponent + carry.astype(np.int64)
    value, exponent = q31(real)
    return (requantize.reduce_to_15_bits(value) if code == MANTISSA_Q15_SATURATED else value), exponent


def evaluate(work, k, x, channel, real):
    """Return (output, in domain?) of scheme k; the output of pairs outside the domain is arbitrary."""
    rule = work.rules[k]
    scale = real if work.kind == RANGE else work.scale[k][channel]
    if rule[0] == FLOOR:
        if work.kind == RANGE:
            a, e = mantissa(real, rule[1])
            if rule[1] in SCALE_MANTISSAS:
                single = real.astype(np.float32)
                fits = (single >= work.scale_low[k]) & (single < work.scale_high[k])
            else:
                fits = (e >= work.shift_low[k]) & (e <= work.shift_high[k])
            e = np.clip(e, rule[2] - 62, rule[2] - 1)
            bp, bn, t = requantize.floor_parameters(a, e, rule)
            y = (a * x + np.where(x >= 0, bp, bn)) >> t
            fits &= (y >= INT32_MIN) & (y <= INT32_MAX)
            if rule[3] & SHIFTS_ACCUMULATOR:
                left = np.maximum(e, 0)
                fits &= (x >= INT32_MIN >> left) & (x <= INT32_MAX >> left)
            if rule[3] & NUDGE_SATURATES:
                nudge = np.where(e < 0, np.int64(1) << np.maximum(-e - 1, 0), 0)
                fits &= ((a * x) >> 31) + nudge <= INT32_MAX
        else:
            a, bp, bn, t = (p[k][channel] for p in (work.a, work.bp, work.bn, work.t))
            y = (a * x + np.where(x >= 0, bp, bn)) >> t
            fits = (x >= work.domain_low[k][channel]) & (x <= work.domain_high[k][channel])
        y = np.clip(y, INT32_MIN, INT32_MAX)
    elif rule[0] == FLOAT:
        v = requantize.float_product(x, scale, rule[1])
        scale = scale.astype(v.dtype)
        if rule[3]:
            v = v + work.z[channel].astype(v.dtype)
        y = round_real(v, rule[2])
        if work.kind == RANGE:
            fits = (scale >= work.scale_low[k]) & (scale < work.scale_high[k])
            if not (work.clamped and rule[4]):
                fits &= (y >= -(2.0**31)) & (y < 2.0**31)
        else:
            fits = (x >= work.domain_low[k][channel]) & (x <= work.domain_high[k][channel])
        y = np.clip(y.astype(np.float64), INT32_MIN, INT32_MAX).astype(np.int64)
    else:
        if work.kind == RANGE:
            scale = real.astype(np.float32).astype(np.float64)
            fits = (scale >= work.scale_low[k]) & (scale < work.scale_high[k])
            a, e = requantize.nested16_parameters(scale)
            e = np.clip(e, -32, 16)
        else:
            a, e = work.a[k][channel], work.t[k][channel]
            fits = (x >= work.domain_low[k][channel]) & (x <= work.domain_high[k][channel])
        y = requantize.nested16(x[None, :, None], a, e, work.z[channel])[0, :, 0]
    y = np.clip(y, work.low[k][channel], work.high[k][channel]) + work.add[k] * work.z[channel]
    return y, fits
