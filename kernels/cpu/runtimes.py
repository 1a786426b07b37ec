"""Operators of runtimes whose arithmetic is no form of a requantization. Meaning: `qengine.kernels.reference.runtimes`.

Codes are (outer, channels, inner) arrays, accumulators int32, codes of sums int16; tables hold one row a channel.
"""

import numpy as np

from ..codes import (
    ADD_INT16_CUT,
    ADD_INT16_WRAPS,
    ADD_INT32,
    CHAIN_BITS,
    CHAIN_FUSED,
    CHAIN_ROUNDING,
    HALF_AWAY,
    HALF_EVEN,
    HALF_UP,
    PAIR_A_MULTIPLIER,
    PAIR_A_ZERO,
    PAIR_B_MULTIPLIER,
    PAIR_B_ZERO,
    PAIR_QMAX,
    PAIR_QMIN,
    PAIR_SHIFT,
    PAIR_ZERO_POINT,
    STAGE_ADDITION,
    STAGE_HIGH_LEFT,
    STAGE_LEFT,
    STAGE_MULTIPLIER,
    STAGE_QMAX,
    STAGE_QMIN,
    STAGE_RIGHT,
    STAGE_ROUNDING,
    STAGE_ROUNDS,
    STAGE_SATURATES,
    STAGE_ZERO_POINT,
    SUM_A_MULTIPLIER,
    SUM_A_RIGHT,
    SUM_A_SHIFT,
    SUM_A_ZERO,
    SUM_B_MULTIPLIER,
    SUM_B_RIGHT,
    SUM_B_SHIFT,
    SUM_B_ZERO,
    SUM_LEFT,
    SUM_MULTIPLIER,
    SUM_QMAX,
    SUM_QMIN,
    SUM_RIGHT,
    SUM_ZERO_POINT,
)
from .jit import fma, inlined, kernel, wide
from .requantize import half_away32, half_away64

f32, f64, i64 = np.float32, np.float64, np.int64
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@inlined
def _saturate16(v):
    return min(max(v, -32768), 32767)


@inlined
def _shift_right(v, n, rounding):
    """Divide by ``2**n``; ``|v| < 2**62``."""
    half = (i64(1) << n) >> 1
    if rounding == HALF_UP:
        return (v + half) >> n
    if rounding == HALF_AWAY:
        return (v + half - (i64(v < 0) & i64(n > 0))) >> n
    return v >> n


@inlined
def _staged(x, left, m, high_left, right, z, low, high, saturates, nudge, rounding, addition):
    """One accumulator; ``|x << left| < 2**62``, ``|v m| < 2**62``, ``|v << high_left| < 2**62``."""
    v = i64(x) << left
    v = min(max(v, INT32_MIN), INT32_MAX) if saturates else i64(np.int32(v))
    v = (v * m + nudge) >> 31
    v = min(max(v << high_left, INT32_MIN), INT32_MAX)
    v = _shift_right(v, right, rounding)
    if addition == ADD_INT32:
        v = i64(np.int32(v + z))
    elif addition == ADD_INT16_WRAPS:
        v = i64(np.int16(_saturate16(v) + z))
    elif addition == ADD_INT16_CUT:
        v = i64(np.int16(v + z))
    else:
        v = _saturate16(_saturate16(v) + z)
    return min(max(v, low), high)


@kernel
def staged(acc, table, rule, out):
    """Requantize stage by stage, with the overflow of each."""
    wide()
    saturates, rounding, addition = rule[STAGE_SATURATES] != 0, rule[STAGE_ROUNDING], rule[STAGE_ADDITION]
    nudge = i64(1) << 30 if rule[STAGE_ROUNDS] else i64(0)
    outer, channels, inner = acc.shape
    for o in range(outer):
        for c in range(channels):
            left, m, high_left = table[c, STAGE_LEFT] & 31, table[c, STAGE_MULTIPLIER], table[c, STAGE_HIGH_LEFT] & 31
            right, z = table[c, STAGE_RIGHT] & 31, table[c, STAGE_ZERO_POINT]
            low, high = table[c, STAGE_QMIN], table[c, STAGE_QMAX]
            for i in range(inner):
                out[o, c, i] = _staged(
                    acc[o, c, i], left, m, high_left, right, z, low, high, saturates, nudge, rounding, addition
                )


@inlined
def _input(q, zero, left, floor, m, right, rounding):
    """One input of ADD: ``|q - zero| < 2**9``, shifted left by at most 21."""
    v = ((i64(q) - zero) << left) >> floor
    return _shift_right((v * m + (i64(1) << 30)) >> 31, right, rounding)


@kernel
def staged_sum(a, b, table, rounding, sign, out):
    """Add or subtract codes: each input scaled, their sum by two roundings."""
    wide()
    outer, channels, inner = a.shape
    for o in range(outer):
        for c in range(channels):
            za, ma, na = table[c, SUM_A_ZERO], table[c, SUM_A_MULTIPLIER], table[c, SUM_A_RIGHT] & 63
            zb, mb, nb = table[c, SUM_B_ZERO], table[c, SUM_B_MULTIPLIER], table[c, SUM_B_RIGHT] & 63
            la, fa = max(table[c, SUM_A_SHIFT], 0) & 63, max(-table[c, SUM_A_SHIFT], 0) & 63
            lb, fb = max(table[c, SUM_B_SHIFT], 0) & 63, max(-table[c, SUM_B_SHIFT], 0) & 63
            left, m, n = table[c, SUM_LEFT] & 31, table[c, SUM_MULTIPLIER], table[c, SUM_RIGHT] & 31
            z, low, high = table[c, SUM_ZERO_POINT], table[c, SUM_QMIN], table[c, SUM_QMAX]
            for i in range(inner):
                v = _input(a[o, c, i], za, la, fa, ma, na, rounding)
                v += sign * _input(b[o, c, i], zb, lb, fb, mb, nb, rounding)
                v = (i64(np.int32(v << left)) * m + (i64(1) << 30)) >> 31
                out[o, c, i] = min(max(_shift_right(v, n, HALF_AWAY) + z, low), high)


@kernel
def affine_sum(a, b, table, rounding, out):
    """Two products, their sum rounded once, saturated to int16, plus the zero point, clamped."""
    wide()
    outer, channels, inner = a.shape
    for o in range(outer):
        for c in range(channels):
            za, ma = table[c, PAIR_A_ZERO], table[c, PAIR_A_MULTIPLIER]
            zb, mb = table[c, PAIR_B_ZERO], table[c, PAIR_B_MULTIPLIER]
            n, z = table[c, PAIR_SHIFT] & 63, table[c, PAIR_ZERO_POINT]
            low, high = table[c, PAIR_QMIN], table[c, PAIR_QMAX]
            for i in range(inner):
                v = (i64(a[o, c, i]) - za) * ma + (i64(b[o, c, i]) - zb) * mb
                out[o, c, i] = min(max(_saturate16(_shift_right(v, n, rounding)) + z, low), high)


@inlined
def _integer(r, z, qmin, qmax):
    """Saturate a whole float to int32, add z modulo 2**32, clamp."""
    v = i64(min(max(f64(r), f64(INT32_MIN)), f64(INT32_MAX)))
    return min(max(i64(np.int32(v + z)), qmin), qmax)


@kernel
def float_chain(x, factors, offset, zero_point, rule, qmin, qmax, out):
    """Products in floating point, an offset, a rounding; the last product and the offset may be fused."""
    wide()
    narrow, fused, even = rule[CHAIN_BITS] == 32, rule[CHAIN_FUSED] != 0, rule[CHAIN_ROUNDING] == HALF_EVEN
    outer, channels, inner = x.shape
    for o in range(outer):
        for c in range(channels):
            z, f0, f1, f2, t = zero_point[c], factors[0, c], factors[1, c], factors[2, c], offset[c]
            if narrow:
                g0, g1, g2, u = f32(f0), f32(f1), f32(f2), f32(t)
                for i in range(inner):
                    v = f32(f32(f32(x[o, c, i]) * g0) * g1)
                    w = fma(v, g2, u) if fused else f32(f32(v * g2) + u)
                    out[o, c, i] = _integer(np.rint(w) if even else half_away32(w), z, qmin, qmax)
            else:
                for i in range(inner):
                    y = f64(x[o, c, i]) * f0 * f1 * f2 + t
                    out[o, c, i] = _integer(np.rint(y) if even else half_away64(y), z, qmin, qmax)


@kernel
def fused_sum(a, b, ratio_a, ratio_b, offset, qmin, qmax, out):
    """``clamp(rint(fma(a, ra, fma(b, rb, offset))))`` in float32."""
    wide()
    low, high = f32(qmin), f32(qmax)
    outer, channels, inner = a.shape
    for o in range(outer):
        for c in range(channels):
            ra, rb, t = f32(ratio_a[c]), f32(ratio_b[c]), f32(offset[c])
            for i in range(inner):
                v = fma(f32(a[o, c, i]), ra, fma(f32(b[o, c, i]), rb, t))
                out[o, c, i] = np.int32(np.rint(min(max(v, low), high)))


@kernel
def average(total, count, qmin, qmax, out):
    """``(sum +- n/2) / n`` truncated toward zero."""
    outer, channels, inner = total.shape
    for o in range(outer):
        for c in range(channels):
            n = count[c]
            for i in range(inner):
                v = i64(total[o, c, i])
                quotient = (abs(v) + n // 2) // n
                out[o, c, i] = min(max(-quotient if v < 0 else quotient, qmin), qmax)
