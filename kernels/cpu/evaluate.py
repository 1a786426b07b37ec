"""Every form over a group of pairs on the CPU: with scalar parameters in a run, or with a multiplier a pair.

Results are int32, saturated where a pair lies outside a scheme's domain (`domain_runs`, `*_fits` mark those).
"""

import numpy as np

from ..codes import (
    BIN_ORIGIN,
    HALF_EVEN,
    MANTISSA_M15,
    MANTISSA_M24,
    MANTISSA_M24_LEFT7,
    MANTISSA_Q8,
    MANTISSA_Q15_SATURATED,
    NUDGE_SATURATES,
    SCALE_MANTISSAS,
    SHIFTS_ACCUMULATOR,
)
from .jit import inner, wide
from .requantize import floor_pairs, half_away32, half_away64

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

# --- scalar parameters in a run -------------------------------------------------------------------------------


@inner
def floor_in_order(first, a, bp, bn, t, y):
    """``y[i] = low32(floor((a (first + i) + b) / 2**t))``: consecutive accumulators need additions alone.

    ``|a x + b| < 2**63`` as in `requantize.floor_pairs`; the group is cut where x changes sign.
    """
    wide()
    s = t & 63
    zero = min(max(-first, 0), y.size)
    v = a * first + bn
    for i in range(np.uint64(zero)):
        y[i] = np.int32(v >> s)
        v += a
    v = a * (first + zero) + bp
    for i in range(np.uint64(zero), np.uint64(y.size)):
        y[i] = np.int32(v >> s)
        v += a


@inner
def differences_in_order(first, count, a, b1, b2, t):
    """Sum of ``floor((a x + b1) / 2**t) - floor((a x + b2) / 2**t)`` over `count` consecutive x of one sign.

    Nothing is written: two additions and two shifts a pair, all in registers. ``|a x + b| < 2**63`` as above; each
    difference is ``(b1 - b2) >> t`` or one more, so that a sum counts both.
    """
    wide()
    s = t & 63
    v, w = a * first + b1, a * first + b2
    total = np.int64(0)
    for _ in range(np.uint64(count)):
        total += (v >> s) - (w >> s)
        v += a
        w += a
    return total


@inner
def floor_runs(x, run, run_channel, a, bp, bn, t, zero, y):
    """Floor form, run by run; see `requantize.floor_pairs` for the widths and for `zero`."""
    x2, y2 = x.view(np.int64), y.view(np.int64)
    half = run // 2
    for r in range(x2.size // half):
        c = run_channel[r]
        floor_pairs(x2, r * half, half, a[c], bp[c], bn[c], t[c], zero, y2, r * half)


@inner
def float32_runs(x, run, run_channel, scale, rounding, inside, z, y):
    """Rounded float32 products, saturated to int32 (2147483520 is the largest float32 below 2**31)."""
    wide()
    bottom, top, edge = np.float32(-2147483648.0), np.float32(2147483520.0), np.float32(2147483648.0)
    for r in range(x.size // run):
        c = run_channel[r]
        s, zz = np.float32(scale[c]), np.float32(z[c])
        if rounding == HALF_EVEN and not inside:
            for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
                v = np.float32(np.rint(np.float32(x[i]) * s))
                y[i] = np.int32(min(max(v, bottom), top)) if v < edge else np.int32(INT32_MAX)
        else:
            for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
                v = np.float32(np.float32(x[i]) * s)
                if inside:
                    v = np.float32(v + zz)
                v = np.float32(np.rint(v)) if rounding == HALF_EVEN else half_away32(v)
                y[i] = np.int32(min(max(v, bottom), top)) if v < edge else np.int32(INT32_MAX)


@inner
def float64_runs(x, run, run_channel, scale, y):
    """Rounded float64 products, half away from zero, saturated to int32."""
    wide()
    for r in range(x.size // run):
        s = scale[run_channel[r]]
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            v = half_away64(np.float64(x[i]) * s)
            y[i] = np.int32(np.int64(min(max(v, -2147483648.0), 2147483647.0)))


@inner
def nested_runs(x, run, run_channel, mantissa, exponent, z, y):
    """rndnu16 with its saturating zero point."""
    wide()
    for r in range(x.size // run):
        c = run_channel[r]
        m, zz, left, right = mantissa[c], z[c], max(exponent[c], 0), max(-exponent[c], 0)
        half = (np.int64(1) << right) >> 1
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            pre = ((np.int64(x[i]) << left) + half) >> right
            w = ((min(max(pre, -32768), 32767) * m + 16384) >> 15) + zz
            y[i] = np.int32(min(max(w, -32768), 32767))


@inner
def domain_runs(x, run, run_channel, low, high, p, q, fits):
    """Mark the accumulators inside their channel's domain; return how many of places [p, q) are outside."""
    wide()
    for r in range(x.size // run):
        c = run_channel[r]
        bottom, top = low[c], high[c]
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            fits[i] = np.uint8(x[i] >= bottom) & np.uint8(x[i] <= top)
    return count_zeros(fits[p:q])


@inner
def count_zeros(fits):
    """Count the places marked 0."""
    wide()
    inside = np.int32(0)
    for i in range(fits.size):
        inside += np.int32(fits[i])
    return fits.size - np.int64(inside)


@inner
def finish_runs(y, run, run_channel, low, high, z, add):
    """Clamp, then add the zero point: in place."""
    wide()
    for r in range(y.size // run):
        c = run_channel[r]
        bottom, top, zero = np.int32(low[c]), np.int32(high[c]), np.int32(z[c] * add)
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            y[i] = np.int32(min(max(y[i], bottom), top) + zero)


# --- a multiplier a pair ---------------------------------------------------------------------------------------


@inner
def split_q31(real, value, exponent, bins):
    """QuantizeMultiplier on positive normal reals, and the bin of each exponent (0 for a flushed one)."""
    wide()
    for i in range(real.size):
        bits = np.float64(real[i]).view(np.int64)
        q = (((bits & 0xFFFFFFFFFFFFF) | 0x10000000000000) + (1 << 21)) >> 22
        carry = q >> 31
        e = (bits >> 52) - 1022 + carry
        keep = e >= -31
        value[i] = (q >> carry) if keep else 0
        exponent[i] = e if keep else 0
        bins[i] = (e + BIN_ORIGIN) if keep else 0


@inner
def split(real, code, q31, q31_exponent, value, exponent):
    """(mantissa, exponent) of positive normal reals for a mantissa code; q31 is there already."""
    wide()
    if code == MANTISSA_M24 or code == MANTISSA_M24_LEFT7:
        left = 7 if code == MANTISSA_M24_LEFT7 else 0
        for i in range(real.size):
            bits = np.int64(np.float32(real[i]).view(np.int32))
            value[i] = ((bits & 0x7FFFFF) | 0x800000) << left
            exponent[i] = (bits >> 23) - 126
    elif code == MANTISSA_Q8:
        for i in range(real.size):
            value[i] = np.int32(np.rint(min(np.float64(np.float32(real[i])) * 256.0, 32768.0)))
            exponent[i] = 0
    elif code == MANTISSA_M15:
        for i in range(real.size):
            bits = np.float64(real[i]).view(np.int64)
            q = (((bits & 0xFFFFFFFFFFFFF) | 0x10000000000000) + (1 << 37)) >> 38
            carry = q >> 15
            value[i] = q >> carry
            exponent[i] = (bits >> 52) - 1022 + carry
    elif code == MANTISSA_Q15_SATURATED:
        for i in range(real.size):
            q = np.int64(q31[i])
            value[i] = ((q + 0x8000) >> 16) if q < 0x7FFF0000 else 0x7FFF
            exponent[i] = q31_exponent[i]
    else:
        for i in range(real.size):
            value[i] = q31[i]
            exponent[i] = q31_exponent[i]


@inner
def floor_drawn(x, value, exponent, rule, y):
    """Floor form with a multiplier a pair: int64 throughout, ``|a x + b| < 2**63``; saturated to int32."""
    wide()
    base = rule[2]
    hp0, cp0, hn0, cn0 = rule[4], rule[5], rule[6], rule[7]
    hp1, cp1, hn1, cn1 = rule[8], rule[9], rule[10], rule[11]
    hp2, cp2, hn2, cn2 = rule[12], rule[13], rule[14], rule[15]
    for i in range(x.size):
        v, a = np.int64(x[i]), np.int64(value[i])
        e = min(max(np.int64(exponent[i]), base - 62), base - 1)
        t = base - e
        h = hp0 if e < 0 else (hp1 if e == 0 else hp2)
        c = cp0 if e < 0 else (cp1 if e == 0 else cp2)
        if v < 0:
            h = hn0 if e < 0 else (hn1 if e == 0 else hn2)
            c = cn0 if e < 0 else (cn1 if e == 0 else cn2)
        bias = (h << ((t - 1) & 63)) + c if a else 0
        w = (a * v + bias) >> (t & 63)
        y[i] = np.int32(min(max(w, INT32_MIN), INT32_MAX))


@inner
def floor_drawn_within(x, value, exponent, rule, y):
    """`floor_drawn` where every pair is known to be in the domain: nothing to clamp."""
    wide()
    base = rule[2]
    hp0, cp0, hn0, cn0 = rule[4], rule[5], rule[6], rule[7]
    hp1, cp1, hn1, cn1 = rule[8], rule[9], rule[10], rule[11]
    hp2, cp2, hn2, cn2 = rule[12], rule[13], rule[14], rule[15]
    halves = hp0 == 1 and hn0 == 1 and hp1 == 1 and hn1 == 1 and hp2 == 1 and hn2 == 1
    if halves and cp0 == cn0 and cp0 == cp1 and cp0 == cn1 and cp0 == cp2 and cp0 == cn2:
        for i in range(x.size):
            t = base - np.int64(exponent[i])
            bias = (np.int64(1) << ((t - 1) & 63)) + cp0
            y[i] = np.int32((np.int64(value[i]) * np.int64(x[i]) + bias) >> (t & 63))
    elif halves and cp1 == cp2 and cn1 == cn2:
        for i in range(x.size):
            v, e = np.int64(x[i]), np.int64(exponent[i])
            t = base - e
            c = (cp0 if e < 0 else cp1) if v >= 0 else (cn0 if e < 0 else cn1)
            bias = (np.int64(1) << ((t - 1) & 63)) + c
            y[i] = np.int32((np.int64(value[i]) * v + bias) >> (t & 63))
    else:
        floor_drawn(x, value, exponent, rule, y)


@inner
def floor_drawn_fits(
    x, real, value, exponent, rule, shift_low, shift_high, scale_low, scale_high, y, fits
):  # fmt: skip
    """Domain of a floor form with a multiplier a pair, after `floor_drawn` (which saturated y)."""
    wide()
    base, flags = rule[2], rule[3]
    by_scale = rule[1] in SCALE_MANTISSAS
    for i in range(x.size):
        v, a, given = np.int64(x[i]), np.int64(value[i]), np.int64(exponent[i])
        e = min(max(given, base - 62), base - 1)
        ok = True
        if by_scale:
            s = np.float64(np.float32(real[i]))
            ok = s >= scale_low and s < scale_high
        else:
            ok = given >= shift_low and given <= shift_high
        if y[i] == INT32_MIN or y[i] == INT32_MAX:
            # The saturated end may be the true result: evaluate again.
            regime = 4 if e < 0 else (8 if e == 0 else 12)
            side = 0 if v >= 0 else 2
            bias = (rule[regime + side] << (base - e - 1)) + rule[regime + side + 1] if a else 0
            ok = ok and ((a * v + bias) >> (base - e)) == y[i]
        if flags & SHIFTS_ACCUMULATOR and e > 0:
            shifted = v << e
            ok = ok and shifted >= INT32_MIN and shifted <= INT32_MAX
        if flags & NUDGE_SATURATES and e < 0:
            ok = ok and ((a * v) >> 31) + (np.int64(1) << (-e - 1)) <= INT32_MAX
        fits[i] = ok


@inner
def float32_drawn(x, real, rounding, inside, z, y):
    """Rounded float32 products with a multiplier a pair, saturated to int32."""
    wide()
    zz = np.float32(z)
    bottom, top, edge = np.float32(-2147483648.0), np.float32(2147483520.0), np.float32(2147483648.0)
    for i in range(x.size):
        v = np.float32(np.float32(x[i]) * np.float32(real[i]))
        if inside:
            v = np.float32(v + zz)
        v = np.float32(np.rint(v)) if rounding == HALF_EVEN else half_away32(v)
        y[i] = np.int32(min(max(v, bottom), top)) if v < edge else np.int32(INT32_MAX)


@inner
def float64_drawn(x, real, y):
    """Rounded float64 products with a multiplier a pair, saturated to int32."""
    wide()
    for i in range(x.size):
        v = half_away64(np.float64(x[i]) * real[i])
        y[i] = np.int32(np.int64(min(max(v, -2147483648.0), 2147483647.0)))


@inner
def float32_drawn_fits(x, real, rounding, inside, z, limited, scale_low, scale_high, fits):
    """Domain of a float32 form with a multiplier a pair; `limited` where the result must fit int32."""
    wide()
    zz = np.float32(z)
    for i in range(x.size):
        s = np.float32(real[i])
        ok = np.float64(s) >= scale_low and np.float64(s) < scale_high
        if limited:
            v = np.float32(np.float32(x[i]) * s)
            if inside:
                v = np.float32(v + zz)
            r = np.float32(np.rint(v)) if rounding == HALF_EVEN else half_away32(v)
            ok = ok and r >= np.float32(-2147483648.0) and r < np.float32(2147483648.0)
        fits[i] = ok


@inner
def float64_drawn_fits(x, real, limited, scale_low, scale_high, fits):
    """Domain of a float64 form with a multiplier a pair; `limited` where the result must fit int32."""
    wide()
    for i in range(x.size):
        ok = real[i] >= scale_low and real[i] < scale_high
        if limited:
            r = half_away64(np.float64(x[i]) * real[i])
            ok = ok and r >= -2147483648.0 and r < 2147483648.0
        fits[i] = ok


@inner
def nested_drawn(x, real, z, scale_low, scale_high, y, fits):
    """rndnu16 with a multiplier a pair, and its domain."""
    for i in range(x.size):
        s = np.float32(real[i])
        bits = np.int64(s.view(np.int32))
        mantissa = (((bits & 0x7FFFFF) | 0x800000) + 256) >> 9
        carry = mantissa >> 15
        exponent = min(max((bits >> 23) - 126 + carry, -32), 16)
        right = max(-exponent, 0)
        pre = ((np.int64(x[i]) << max(exponent, 0)) + ((np.int64(1) << right) >> 1)) >> right
        w = ((min(max(pre, -32768), 32767) * (mantissa >> carry) + 16384) >> 15) + z
        y[i] = np.int32(min(max(w, -32768), 32767))
        fits[i] = np.float64(s) >= scale_low and np.float64(s) < scale_high
