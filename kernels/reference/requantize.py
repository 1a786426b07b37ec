"""Requantization on arrays: parameters of the normal forms, and their evaluation.

Arrays are (outer, channels, inner); parameters are 1-D over channels. Callers guarantee the domain: products
fit int64 (``|a| < 2**31`` with 32-bit accumulators, ``a < 2**15`` with 48-bit ones) and ``1 <= t <= 62``.
"""

import numpy as np

from .rounding import round_real


def reduce_to_15_bits(value):
    """REDUCE15: ``(m + 2**15) >> 16``, saturated to 0x7FFF."""
    return np.where(value < 0x7FFF0000, (value + (1 << 15)) >> 16, 0x7FFF)


def floor_parameters(a, exponent, rule):
    """Return (bp, bn, t) of a floor rule: ``t = base - e``, ``b = h * 2**(t-1) + c`` by regime and sign.

    ``|h| <= 2`` and ``|c| <= 2**31 + 2**30``, so ``|b| <= 2**62``; a zero multiplier has no bias at all.
    """
    t = rule[2] - exponent
    half = np.int64(1) << (t - 1)
    regime = 4 + 4 * (1 + np.sign(exponent))
    hp, cp, hn, cn = (rule[regime + k] for k in range(4))
    zero = a == 0
    return np.where(zero, 0, hp * half + cp), np.where(zero, 0, hn * half + cn), t


def q8_mantissa(scale):
    """8.8 fixed point of float32 scales: ``RNE(256 * S)``, at most ``2**15`` (larger ones are in no domain)."""
    return np.rint(np.minimum(256.0 * scale.astype(np.float64), 32768.0)).astype(np.int64)


def nested16_parameters(scale):
    """Return (15-bit mantissa, exponent) of float32 scales: ``(m24 + 2**8) >> 9``, renormalised at 2**15."""
    fraction, exponent = np.frexp(scale)
    mantissa = (np.ldexp(fraction, 24).astype(np.int64) + (1 << 8)) >> 9
    carry = mantissa == 1 << 15
    return np.where(carry, 1 << 14, mantissa), exponent.astype(np.int64) + carry


def floor(acc, a, bp, bn, t):
    """Return ``floor((a x + b) / 2**t)`` in int64."""
    x = acc.astype(np.int64)
    a, bp, bn, t = (p[:, None] for p in (a, bp, bn, t))
    return (a * x + np.where(x >= 0, bp, bn)) >> t


def float_product(acc, scale, bits):
    """Return ``acc * scale`` in the type of the multiplication; infinite where it overflows."""
    float_type = np.float32 if bits == 32 else np.float64
    with np.errstate(over="ignore"):
        return acc.astype(float_type) * scale.astype(float_type)


def float_round(x, scale, bits, rounding, inside=None):
    """Return the rounded product (plus the zero point `inside`) as float64: exact whole numbers, or infinite."""
    v = float_product(x, scale, bits)
    if inside is not None:
        v = v + inside.astype(v.dtype)
    return round_real(v, rounding).astype(np.float64)


def float_clamped(acc, scale, bits, rounding, inside, zero_point, low, high):
    """Return the float form with zero point and clamp, as int64.

    ``[low, high]`` bounds the rounded result, to which a zero point that is not inside is added then. Bounds are
    applied in float64, which holds every one of them; float32 would not beyond 2**24.
    """
    scale, zero_point, low, high = (p[:, None] for p in (scale, zero_point, low, high))
    y = np.clip(float_round(acc, scale, bits, rounding, zero_point if inside else None), low, high).astype(np.int64)
    return y if inside else y + zero_point


def float_raw(acc, scale, bits, rounding, inside, zero_point):
    """Return the float form without a clamp, as int64; the caller guarantees that it fits int32."""
    zero_point = zero_point[:, None]
    v = float_product(acc, scale[:, None], bits)
    if inside:
        return round_real(v + zero_point.astype(v.dtype), rounding).astype(np.int64)
    return round_real(v, rounding).astype(np.int64) + zero_point


def float_wrapped(acc, scale, bits, rounding, top, zero_point):
    """Return what x86-64 code gives on overflow: ``min(v, top)``, conversion to INT32_MIN, wrapping z."""
    v = float_product(acc, scale[:, None], bits)
    y = round_real(np.minimum(v, top.astype(v.dtype)[:, None]), rounding)
    fits = (y >= -(2.0**31)) & (y < 2.0**31)
    return wrap32(np.where(fits, np.where(fits, y, 0).astype(np.int64), -(2**31)) + zero_point[:, None])


def nested16(acc, mantissa, exponent, zero_point):
    """Return rndnu16 with its saturating int16 zero point, as int64.

    ``pre = sat16(half_up_shift(sat32(x), e))``; ``y = (pre * m15 + 2**14) >> 15``; ``sat16(y + z)``.
    A left pre-shift is at most 8, so ``x << e`` fits int64 and saturates to int16 next.
    """
    x = acc.astype(np.int64)
    mantissa, exponent, zero_point = (p[:, None] for p in (mantissa, exponent, zero_point))
    right = np.maximum(-exponent, 0)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    pre = np.clip(((x << np.maximum(exponent, 0)) + half) >> right, -32768, 32767)
    y = (pre * mantissa + (1 << 14)) >> 15
    return np.clip(y + zero_point, -32768, 32767)


def wrap32(v):
    """Keep the low 32 bits of int64 values, as a signed number."""
    return v.astype(np.int64).astype(np.int32).astype(np.int64)
