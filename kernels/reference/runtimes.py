"""Operators of runtimes whose arithmetic is no form of a requantization: sums, chains of stages, means, resizing.

Codes are (outer, channels, inner) arrays; tables hold one row a channel (columns: `qengine.kernels.codes`). Callers
guarantee 8-bit or 16-bit codes, int32 accumulators, and shifts in 0 .. 31. Results are clamped and written to `out`.
"""

import numpy as np

from ..codes import (
    ADD_INT16_CUT,
    ADD_INT16_WRAPS,
    ADD_INT32,
    CHAIN_BITS,
    CHAIN_FACTORS,
    CHAIN_FUSED,
    CHAIN_ROUNDING,
    HALF_AWAY,
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
from .affine import fma32
from .requantize import wrap32
from .rounding import round_real

INT32 = -(2**31), 2**31 - 1
INT16 = -(2**15), 2**15 - 1


def _columns(table):
    """Return the columns of a table as (channels, 1) arrays."""
    return [column[:, None] for column in np.ascontiguousarray(table.T)]


def shift_right(v, n, rounding):
    """Divide int64 by ``2**n``: half up, half away from zero, or floored by any other rule. ``|v| < 2**62``."""
    half = np.where(n > 0, np.int64(1) << np.maximum(n - 1, 0), 0)
    if rounding == HALF_UP:
        return (v + half) >> n
    if rounding == HALF_AWAY:
        return (v + half - ((v < 0) & (n > 0))) >> n
    return v >> n


def high_half(v, m, rounds):
    """Return ``floor((v m + r) / 2**31)``, r = 2**30 or 0: int32 v and ``0 <= m < 2**31``, so below ``2**31``."""
    return (v * m + ((1 << 30) if rounds else 0)) >> 31


def staged(acc, table, rule, out):
    """Requantize stage by stage, with the overflow of each: ``|x << left| < 2**62`` before it wraps or saturates."""
    c = _columns(table)
    v = acc.astype(np.int64) << c[STAGE_LEFT]
    v = np.clip(v, *INT32) if rule[STAGE_SATURATES] else wrap32(v)
    v = high_half(v, c[STAGE_MULTIPLIER], rule[STAGE_ROUNDS])
    v = np.clip(v << c[STAGE_HIGH_LEFT], *INT32)
    v = shift_right(v, c[STAGE_RIGHT], rule[STAGE_ROUNDING])
    if rule[STAGE_ADDITION] == ADD_INT32:
        v = wrap32(v + c[STAGE_ZERO_POINT])
    elif rule[STAGE_ADDITION] == ADD_INT16_CUT:
        v = (v + c[STAGE_ZERO_POINT]).astype(np.int16).astype(np.int64)
    else:
        v = np.clip(v, *INT16) + c[STAGE_ZERO_POINT]
        v = v.astype(np.int16).astype(np.int64) if rule[STAGE_ADDITION] == ADD_INT16_WRAPS else np.clip(v, *INT16)
    out[...] = np.clip(v, c[STAGE_QMIN], c[STAGE_QMAX])


def _scaled_input(q, zero, shift, m, right, rounding):
    """One input of ADD: ``|q - zero| < 2**9`` shifted left by 21 at most (int32), multiplied, shifted right."""
    v = q.astype(np.int64) - zero
    v = np.where(shift >= 0, v << np.maximum(shift, 0), v >> np.maximum(-shift, 0))
    return shift_right(high_half(v, m, True), right, rounding)


def staged_sum(a, b, table, rounding, sign, out):
    """Add (or subtract) codes: each input scaled with its own `rounding`, their sum by two roundings.

    ``|x1 +- x2| < 2**31``; the sum's left shift wraps as int32 does.
    """
    c = _columns(table)
    first = _scaled_input(a, c[SUM_A_ZERO], c[SUM_A_SHIFT], c[SUM_A_MULTIPLIER], c[SUM_A_RIGHT], rounding)
    second = _scaled_input(b, c[SUM_B_ZERO], c[SUM_B_SHIFT], c[SUM_B_MULTIPLIER], c[SUM_B_RIGHT], rounding)
    v = high_half(wrap32((first + sign * second) << c[SUM_LEFT]), c[SUM_MULTIPLIER], True)
    v = shift_right(v, c[SUM_RIGHT], HALF_AWAY) + c[SUM_ZERO_POINT]
    out[...] = np.clip(v, c[SUM_QMIN], c[SUM_QMAX])


def affine_sum(a, b, table, rounding, out):
    """``clamp(sat16(round((a - za) ma + (b - zb) mb, shift)) + z)``; ``|(q - z) m| < 2**9 2**22``."""
    c = _columns(table)
    v = (a.astype(np.int64) - c[PAIR_A_ZERO]) * c[PAIR_A_MULTIPLIER]
    v = v + (b.astype(np.int64) - c[PAIR_B_ZERO]) * c[PAIR_B_MULTIPLIER]
    v = np.clip(shift_right(v, c[PAIR_SHIFT], rounding), *INT16) + c[PAIR_ZERO_POINT]
    out[...] = np.clip(v, c[PAIR_QMIN], c[PAIR_QMAX])


def _integer(v, rounding, zero_point, qmin, qmax):
    """Round, saturate to int32, add the zero point modulo 2**32, clamp."""
    r = np.clip(round_real(v, rounding).astype(np.float64), *map(float, INT32)).astype(np.int64)
    return np.clip(wrap32(r + zero_point[:, None]), qmin, qmax)


def float_chain(x, factors, offset, zero_point, rule, qmin, qmax, out):
    """``round(((x f0) f1) f2 + offset)`` saturated to int32, plus zero point (modulo 2**32), clamped.

    `factors` is (CHAIN_FACTORS, channels), each product rounded to the type; the last one and the offset may be
    fused. A factor of 1 and an offset of 0 change no bit.
    """
    kind = np.float32 if rule[CHAIN_BITS] == 32 else np.float64
    v = x.astype(kind)
    with np.errstate(over="ignore"):
        for k in range(CHAIN_FACTORS - 1):
            v = v * factors[k].astype(kind)[:, None]
        last, offset = factors[CHAIN_FACTORS - 1].astype(kind)[:, None], offset.astype(kind)[:, None]
        v = fma32(v, last, offset) if rule[CHAIN_FUSED] else v * last + offset
    out[...] = _integer(v, rule[CHAIN_ROUNDING], zero_point, qmin, qmax)


def fused_sum(a, b, ratio_a, ratio_b, offset, qmin, qmax, out):
    """``clamp(rint(fma(a, ra, fma(b, rb, offset))))`` in float32."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    ratio_a, ratio_b, offset = (p.astype(np.float32)[:, None] for p in (ratio_a, ratio_b, offset))
    v = fma32(a, ratio_a, fma32(b, ratio_b, offset))
    out[...] = np.clip(np.rint(v), qmin, qmax)


def average(total, count, qmin, qmax, out):
    """``(sum +- n/2) / n`` truncated toward zero; ``|sum| < 2**31``."""
    total, count = total.astype(np.int64), count.astype(np.int64)[:, None]
    quotient = (np.abs(total) + count // 2) // count
    out[...] = np.clip(np.where(total < 0, -quotient, quotient), qmin, qmax)
