"""One sweep tile on the CPU: groups of `GROUP` pairs stay in the first-level cache from draw to tally.

A fixed multiplier is a table of one channel whose run is the whole group; a table of channels has runs of `RUN`
pairs, so that every loop has scalar parameters; a range of multipliers derives its parameters pair by pair.
"""

import functools

import numpy as np

from ..codes import (
    ACC_QUANTILE,
    ACC_SEQUENTIAL,
    ACC_UNSATURATED,
    BIN_ORIGIN,
    BINS,
    DIFFERENCE_CELLS,
    DIFFERENCE_LIMIT,
    EXP2_COEFFICIENTS,
    FLOAT,
    FLOOR,
    GROUP,
    HALF_EVEN,
    MANTISSA_M15,
    MANTISSA_M24,
    MANTISSA_M24_LEFT7,
    MANTISSA_Q15_SATURATED,
    MANTISSA_Q31,
    NESTED16,
    NUDGE_SATURATES,
    QUANTILE_BITS,
    RANGE,
    RUN,
    SHIFTS_ACCUMULATOR,
)
from . import philox
from .jit import ZERO, inner, kernel, wide
from .requantize import half_away32, half_away64

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
HALF, WORD = np.uint64(32), np.uint64(0xFFFFFFFF)
(_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12) = EXP2_COEFFICIENTS
REST = 52 - QUANTILE_BITS
FRACTION_SCALE = 2.0**-REST
#: Bit of a key (see `_keys`) that says that a pair differs; the lower bits are its bin.
DIFFERS = 128
#: Key of a pair outside a domain: the last bin, of an exponent that no multiplier of a range has.
OUTSIDE = 255


@inner
def _exp2(v):
    """``2**v`` by the polynomial of `EXP2_COEFFICIENTS`; ``|v| < 1000``."""
    k = np.rint(v)
    f = v - k
    p = _C0 * f + _C1
    p = p * f + _C2
    p = p * f + _C3
    p = p * f + _C4
    p = p * f + _C5
    p = p * f + _C6
    p = p * f + _C7
    p = p * f + _C8
    p = p * f + _C9
    p = p * f + _C10
    p = p * f + _C11
    p = p * f + _C12
    # p lies in [0.7, 1.42]: adding k to its exponent field is exact.
    return np.int64(np.float64(p).view(np.int64) + (np.int64(k) << 52)).view(np.float64)


@inner
def _scaled(high, low, span):
    """``floor(w * span / 2**64)`` for w = high:low, uint64 throughout, ``span <= 2**32``."""
    return (high * span + ((low * span) >> HALF)) >> HALF


# --- draws ---------------------------------------------------------------------------------------------------


@inner
def _draw_word(w, acc_low, word_shift, x):
    """One word a pair: a range whose size is a power of two."""
    wide()
    for i in range(x.size):
        x[i] = acc_low + (np.int64(w[i]) >> word_shift)


@inner
def _deviate(high, low, table):
    tail = ((np.int64(high) & 0x7FFFFFFF) << 32) | np.int64(low)
    bits = np.float64(min(tail, 0x7FFFFFFFFFFFFFFE) + 1).view(np.int64)
    cell = (bits >> REST) - (1023 << QUANTILE_BITS)
    fraction = np.float64(bits & ((1 << REST) - 1)) * FRACTION_SCALE
    size = table[cell] + fraction * (table[cell + 1] - table[cell])
    return -size if high >> 31 else size


@inner
def _draw_uniform(high, low, run, run_channel, acc_low, acc_span, zero, x):
    """Two words a pair, uniform over the channel's range of ``span <= 2**32`` accumulators."""
    wide()
    hidden = np.uint64(zero)
    for r in range(x.size // run):
        c = run_channel[r]
        bottom, span = acc_low[c], np.uint64(acc_span[c])
        if span > WORD:  # 2**32: the high word itself
            for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
                x[i] = bottom + np.int64(high[i])
        else:
            for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
                s = span & WORD  # see `jit.ZERO`
                span += hidden
                x[i] = bottom + np.int64(_scaled(np.uint64(high[i]), np.uint64(low[i]), s))


@inner
def _draw_quantile(high, low, run, run_channel, acc_low, acc_span, center, spread, table, x):
    """Two words a pair, a deviate from the quantile table."""
    wide()
    for r in range(x.size // run):
        c = run_channel[r]
        middle, s = center[c], spread[c]
        bottom, top = np.float64(acc_low[c]), np.float64(acc_low[c] + acc_span[c] - 1)
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            v = np.rint(middle + s * _deviate(high[i], low[i], table))
            x[i] = np.int64(min(max(v, bottom), top))


@inner
def _draw_real(w, real_low, real_width, real):
    """One word a pair: ``low + (w + 1/2) / 2**32 * width``."""
    wide()
    for i in range(w.size):
        real[i] = real_low + ((np.float64(np.int64(w[i])) + 0.5) * 2.0**-32) * real_width


@inner
def _exponentiate(real):
    """Two to the power of what was drawn: uniform in the logarithm."""
    wide()
    for i in range(real.size):
        real[i] = _exp2(real[i])


@inner
def _draw_drawn(high, low, acc_kind, real, output_units, qmin, qmax, z, acc_low, acc_span, center, spread, table, x):
    """Two words a pair; accumulators that may depend on the drawn multiplier."""
    wide()
    if acc_kind == ACC_QUANTILE:
        bottom, top = np.float64(acc_low), np.float64(acc_low + acc_span - 1)
        for i in range(high.size):
            s = spread / real[i] if output_units else spread
            v = np.rint(center + s * _deviate(high[i], low[i], table))
            x[i] = np.int64(min(max(v, bottom), top))
    elif acc_kind == ACC_UNSATURATED:
        for i in range(high.size):
            bottom = np.int64(np.ceil(max((qmin - z) / real[i], -2147483648.0)))
            top = np.int64(np.floor(min((qmax - z) / real[i], 2147483647.0)))
            span = np.uint64(top - bottom + 1)
            x[i] = bottom + np.int64(_scaled(np.uint64(high[i]), np.uint64(low[i]), span))
    else:
        span = np.uint64(acc_span)
        for i in range(high.size):
            x[i] = acc_low + np.int64(_scaled(np.uint64(high[i]), np.uint64(low[i]), span))


# --- evaluation with scalar parameters in a run ---------------------------------------------------------------


@inner
def _floor_in_order(first, a, bp, bn, t, y):
    """``y[i] = low32(floor((a (first + i) + b) / 2**t))``: consecutive accumulators need additions alone.

    ``|a x + b| < 2**63`` as in `requantize._floor_pairs`; the group is cut where x changes sign.
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
def _floor(x, run, run_channel, a, bp, bn, t, zero, y):
    """Floor form, two accumulators at a time; see `requantize._floor_pairs` for the widths and for `zero`."""
    wide()
    x2, y2 = x.view(np.int64), y.view(np.int64)
    half = run // 2
    for r in range(x2.size // half):
        c = run_channel[r]
        step, p, d, s = a[c], bp[c], bn[c] - bp[c], t[c] & 63
        if d == 0:
            for i in range(np.uint64(r * half), np.uint64((r + 1) * half)):
                v = x2[i]
                m = step & 0x7FFFFFFF
                step += zero
                even = (m * ((v << 32) >> 32) + p) >> s
                odd = (m * (v >> 32) + p) >> s
                y2[i] = (even & 0xFFFFFFFF) | (odd << 32)
        else:
            for i in range(np.uint64(r * half), np.uint64((r + 1) * half)):
                v = x2[i]
                m = step & 0x7FFFFFFF
                step += zero
                even = m * ((v << 32) >> 32) + p
                odd = m * (v >> 32) + p
                if v & 0x80000000:
                    even += d
                if v < 0:
                    odd += d
                y2[i] = ((even >> s) & 0xFFFFFFFF) | ((odd >> s) << 32)


@inner
def _float32(x, run, run_channel, scale, rounding, inside, z, y):
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
def _float64(x, run, run_channel, scale, y):
    """Rounded float64 products, half away from zero, saturated to int32."""
    wide()
    for r in range(x.size // run):
        s = scale[run_channel[r]]
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            v = half_away64(np.float64(x[i]) * s)
            y[i] = np.int32(np.int64(min(max(v, -2147483648.0), 2147483647.0)))


@inner
def _nested(x, run, run_channel, mantissa, exponent, z, y):
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
def _domain(x, run, run_channel, low, high, p, q, fits):
    """Mark the accumulators inside their channel's domain; return how many of places [p, q) are outside."""
    wide()
    for r in range(x.size // run):
        c = run_channel[r]
        bottom, top = low[c], high[c]
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            fits[i] = np.uint8(x[i] >= bottom) & np.uint8(x[i] <= top)
    return _count_zeros(fits[p:q])


@inner
def _count_zeros(fits):
    wide()
    inside = np.int32(0)
    for i in range(fits.size):
        inside += np.int32(fits[i])
    return fits.size - np.int64(inside)


@inner
def _finish(y, run, run_channel, low, high, z, add):
    """Clamp, then add the zero point: in place."""
    wide()
    for r in range(y.size // run):
        c = run_channel[r]
        bottom, top, zero = np.int32(low[c]), np.int32(high[c]), np.int32(z[c] * add)
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            y[i] = np.int32(min(max(y[i], bottom), top) + zero)


# --- evaluation with a multiplier a pair ----------------------------------------------------------------------


@inner
def _split_q31(real, value, exponent, bins):
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
def _split(real, code, q31, q31_exponent, value, exponent):
    """(mantissa, exponent) of positive normal reals for a mantissa code; q31 is there already."""
    wide()
    if code == MANTISSA_M24 or code == MANTISSA_M24_LEFT7:
        left = 7 if code == MANTISSA_M24_LEFT7 else 0
        for i in range(real.size):
            bits = np.int64(np.float32(real[i]).view(np.int32))
            value[i] = ((bits & 0x7FFFFF) | 0x800000) << left
            exponent[i] = (bits >> 23) - 126
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
def _floor_drawn(x, value, exponent, rule, y):
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
def _floor_drawn_within(x, value, exponent, rule, y):
    """`_floor_drawn` where every pair is known to be in the domain: nothing to clamp."""
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
        for i in range(x.size):
            v, e = np.int64(x[i]), np.int64(exponent[i])
            t = base - e
            h = hp0 if e < 0 else (hp1 if e == 0 else hp2)
            c = cp0 if e < 0 else (cp1 if e == 0 else cp2)
            if v < 0:
                h = hn0 if e < 0 else (hn1 if e == 0 else hn2)
                c = cn0 if e < 0 else (cn1 if e == 0 else cn2)
            bias = (h << ((t - 1) & 63)) + c
            y[i] = np.int32((np.int64(value[i]) * v + bias) >> (t & 63))


@inner
def _floor_drawn_fits(
    x, real, value, exponent, rule, shift_low, shift_high, scale_low, scale_high, y, fits
):  # fmt: skip
    """Domain of a floor form with a multiplier a pair, after `_floor_drawn` (which saturated y)."""
    wide()
    base, flags = rule[2], rule[3]
    by_scale = rule[1] == MANTISSA_M24 or rule[1] == MANTISSA_M24_LEFT7
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
def _float32_drawn(x, real, rounding, inside, z, y):
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
def _float64_drawn(x, real, y):
    wide()
    for i in range(x.size):
        v = half_away64(np.float64(x[i]) * real[i])
        y[i] = np.int32(np.int64(min(max(v, -2147483648.0), 2147483647.0)))


@inner
def _float32_drawn_fits(x, real, rounding, inside, z, limited, scale_low, scale_high, fits):
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
def _float64_drawn_fits(x, real, limited, scale_low, scale_high, fits):
    """Domain of a float64 form with a multiplier a pair; `limited` where the result must fit int32."""
    wide()
    for i in range(x.size):
        ok = real[i] >= scale_low and real[i] < scale_high
        if limited:
            r = half_away64(np.float64(x[i]) * real[i])
            ok = ok and r >= -2147483648.0 and r < 2147483648.0
        fits[i] = ok


@inner
def _nested_drawn(x, real, z, scale_low, scale_high, y, fits):
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


# --- tally ----------------------------------------------------------------------------------------------------
# Whole arrays are passed with rows i, j and places [p, q): a slice costs a reference count, an index does not.


@inner
def _differing(y, i, j, p, q):
    wide()
    count = np.int32(0)
    for k in range(np.uint64(p), np.uint64(q)):
        count += np.int32(y[i, k] != y[j, k])
    return np.int64(count)


@inner
def _both_and_differing(y, fits, i, j, p, q):
    wide()
    both, differ = np.int32(0), np.int32(0)
    for k in range(np.uint64(p), np.uint64(q)):
        ok = np.int32(fits[i, k] & fits[j, k])
        both += ok
        differ += ok & np.int32(y[i, k] != y[j, k])
    return np.int64(both), np.int64(differ)


@inner
def _unit_differences(y, i, j, p, q):
    """Counts of differences of exactly +1 and -1 (modulo 2**32 those are true ones: |d| <= 2**32 - 2)."""
    wide()
    up, down = np.int32(0), np.int32(0)
    for k in range(np.uint64(p), np.uint64(q)):
        d = np.int32(y[i, k] - y[j, k])
        up += np.int32(d == 1)
        down += np.int32(d == -1)
    return np.int64(up), np.int64(down)


@inner
def _count_keys(keys, p, q, lanes, couple):
    """Histogram of keys in eight interleaved copies, so that no addition waits for the one before."""
    k = p
    while k + 8 <= q:
        lanes[couple, 0, keys[k]] += 1
        lanes[couple, 1, keys[k + 1]] += 1
        lanes[couple, 2, keys[k + 2]] += 1
        lanes[couple, 3, keys[k + 3]] += 1
        lanes[couple, 4, keys[k + 4]] += 1
        lanes[couple, 5, keys[k + 5]] += 1
        lanes[couple, 6, keys[k + 6]] += 1
        lanes[couple, 7, keys[k + 7]] += 1
        k += 8
    while k < q:
        lanes[couple, 0, keys[k]] += 1
        k += 1


@inner
def _difference_keys(y, fits, i, j, masked, p, q, keys):
    """Write a cell of the histogram of differences for each place; return the largest size."""
    wide()
    largest = np.int64(0)
    limit = DIFFERENCE_LIMIT + 1
    if masked:
        for k in range(np.uint64(p), np.uint64(q)):
            d = (np.int64(y[i, k]) - np.int64(y[j, k])) * np.int64(fits[i, k] & fits[j, k])
            largest = max(largest, abs(d))
            keys[k] = np.uint8(min(max(d, -limit), limit) + limit)
    else:
        for k in range(np.uint64(p), np.uint64(q)):
            d = np.int64(y[i, k]) - np.int64(y[j, k])
            largest = max(largest, abs(d))
            keys[k] = np.uint8(min(max(d, -limit), limit) + limit)
    return largest


@inner
def _record(y, fits, i, j, masked, p, q, base, differ, up, down, keys, lanes, couple, largest, witnesses):
    """Count the differences by size and keep the first witnesses; return the largest size so far.

    `up` and `down` count the differences of +1 and -1, or are 0 where that was not looked at. `lanes` counts by
    cell in interleaved copies; the cell of difference 0 counts pairs that agree, or are outside
    a domain, where some difference is not +-1: it means nothing.
    """
    if up + down == differ:
        lanes[couple, 0, DIFFERENCE_LIMIT + 2] += up
        lanes[couple, 0, DIFFERENCE_LIMIT] += down
        largest = max(largest, 1)
    else:
        largest = max(largest, _difference_keys(y, fits, i, j, masked, p, q, keys))
        _count_keys(keys, p, q, lanes, couple)
    taken = 0
    while taken < witnesses.shape[1] and witnesses[couple, taken] >= 0:
        taken += 1
    k = p
    while taken < witnesses.shape[1] and k < q:
        if y[i, k] != y[j, k] and (not masked or (fits[i, k] and fits[j, k])):
            witnesses[couple, taken] = base + k
            taken += 1
        k += 1
    return largest


@inner
def _compare_runs(
    y, fits, p, q, all_fit, run, run_channel, bins_of, base, keys, counts, differences, largest, witnesses
):  # fmt: skip
    """Tally every couple of schemes over places ``[p, q)`` of a group, run by run."""
    couple = 0
    for i in range(y.shape[0]):
        for j in range(i + 1, y.shape[0]):
            masked = not (all_fit[i] and all_fit[j])
            total = np.int64(0)  # typed: a literal 0 would compile _record twice
            for r in range(p // run, (q + run - 1) // run):
                u, v = max(p, r * run), min(q, (r + 1) * run)
                if masked:
                    both, differ = _both_and_differing(y, fits, i, j, u, v)
                else:
                    both, differ = v - u, _differing(y, i, j, u, v)
                b = bins_of[run_channel[r]]
                counts[couple, b, 0] += both - differ
                counts[couple, b, 1] += differ
                total += differ
            if total:
                up, down = np.int64(0), np.int64(0)
                if not masked:
                    up, down = _unit_differences(y, i, j, p, q)
                largest[couple] = _record(
                    y, fits, i, j, masked, p, q, base, total, up, down, keys,
                    differences, couple, largest[couple], witnesses,
                )  # fmt: skip
            couple += 1


@inner
def _keys(y, i, j, bins, p, q, keys):
    """Write each pair's key; return how many differ, and by +1 and -1 (see `_unit_differences`)."""
    wide()
    differ, up, down = np.int32(0), np.int32(0), np.int32(0)
    for k in range(np.uint64(p), np.uint64(q)):
        d = np.int32(y[i, k] - y[j, k])
        keys[k] = bins[k] + np.uint8(DIFFERS if d != 0 else 0)
        differ += np.int32(d != 0)
        up += np.int32(d == 1)
        down += np.int32(d == -1)
    return np.int64(differ), np.int64(up), np.int64(down)


@inner
def _masked_keys(y, fits, i, j, bins, keys):
    """Like `_keys`; pairs outside a domain go to a key of their own."""
    wide()
    for k in range(y.shape[1]):
        key = bins[k] + DIFFERS * (y[i, k] != y[j, k])
        keys[k] = np.uint8(key if fits[i, k] & fits[j, k] else OUTSIDE)


@inner
def _compare_keys(y, fits, p, q, all_fit, bins, keys, base, lanes, differences, largest, witnesses):
    """Tally every couple of schemes over places ``[p, q)``, each pair into its own bin."""
    couple = 0
    for i in range(y.shape[0]):
        for j in range(i + 1, y.shape[0]):
            masked = not (all_fit[i] and all_fit[j])
            up, down = np.int64(0), np.int64(0)
            if masked:
                _, differ = _both_and_differing(y, fits, i, j, p, q)
                _masked_keys(y, fits, i, j, bins, keys)
            else:
                differ, up, down = _keys(y, i, j, bins, p, q, keys)
            _count_keys(keys, p, q, lanes, couple)
            if differ:
                largest[couple] = _record(
                    y, fits, i, j, masked, p, q, base, differ, up, down, keys,
                    differences, couple, largest[couple], witnesses,
                )  # fmt: skip
            couple += 1


# --- kernels --------------------------------------------------------------------------------------------------

# How a table's accumulators are drawn: constants of the compiled kernel.
_IN_ORDER, _ONE_WORD, _UNIFORM, _QUANTILE = 0, 1, 2, 3


@functools.cache
def table_kernel(draw, masked, floor, float32, float64, nested):
    """Return the kernel for a fixed multiplier or a table of channels, holding just the branches asked for.

    The arguments are constants to the compiler, which drops the other branches before it types them.
    """

    def tile_table(
        start, stop, key0, key1, stride, run, acc_low, acc_span, word_shift, center, spread, table,
        z, rules, a, bp, bn, t, scale, domain_low, domain_high, low, high, add, bins_of, total, bare, zero,
        counts, differences, largest, outside, witnesses,
    ):  # fmt: skip
        schemes, channels = rules.shape[0], bins_of.size
        blocks = GROUP // 4 if draw == _ONE_WORD else GROUP // 2
        words = np.empty((4, blocks), np.uint32)
        x = np.empty(GROUP, np.int32)
        run_channel = np.zeros(GROUP // run, np.int64)
        y = np.zeros((schemes, GROUP), np.int32)
        fits = np.empty((schemes, GROUP), np.uint8)
        keys = np.empty(GROUP, np.uint8)
        all_fit = np.ones(schemes, np.uint8)
        for group in range(start // GROUP, (stop + GROUP - 1) // GROUP):
            base = group * GROUP
            p, q = max(start - base, 0), min(stop - base, GROUP)
            if channels > 1:
                for r in range(run_channel.size):
                    run_channel[r] = (base // run + r) % channels * stride % channels
            if draw == _IN_ORDER:
                if masked or float32 or float64 or nested:
                    for i in range(GROUP):
                        x[i] = acc_low[0] + base + i
            else:
                philox.fill(key0, key1, np.uint64(group * blocks), words)
            if draw == _ONE_WORD:
                for slot in range(4):
                    _draw_word(words[slot], acc_low[0], word_shift, x[slot * blocks : (slot + 1) * blocks])
            if draw == _UNIFORM:
                for slot in range(2):
                    _draw_uniform(
                        words[2 * slot], words[2 * slot + 1], min(run, blocks),
                        run_channel[slot * (run_channel.size // 2) :], acc_low, acc_span,
                        zero,
x[slot * blocks : (slot + 1) * blocks],
                    )  # fmt: skip
            if draw == _QUANTILE:
                for slot in range(2):
                    _draw_quantile(
                        words[2 * slot], words[2 * slot + 1], min(run, blocks),
                        run_channel[slot * (run_channel.size // 2) :], acc_low, acc_span, center, spread, table,
                        x[slot * blocks : (slot + 1) * blocks],
                    )  # fmt: skip
            for k in range(schemes):
                form = rules[k, 0]
                if masked:
                    all_fit[k] = 1
                    if not total[k]:
                        out = _domain(x, run, run_channel, domain_low[k], domain_high[k], p, q, fits[k])
                        outside[k] += out
                        all_fit[k] = out == 0
                    else:
                        fits[k, :] = 1
                if floor:
                    if form == FLOOR:
                        if draw == _IN_ORDER:
                            _floor_in_order(acc_low[0] + base, a[k, 0], bp[k, 0], bn[k, 0], t[k, 0], y[k])
                        else:
                            _floor(x, run, run_channel, a[k], bp[k], bn[k], t[k], zero, y[k])
                if float32:
                    if form == FLOAT and rules[k, 1] == 32:
                        _float32(x, run, run_channel, scale[k], rules[k, 2], rules[k, 3], z, y[k])
                if float64:
                    if form == FLOAT and rules[k, 1] == 64:
                        _float64(x, run, run_channel, scale[k], y[k])
                if nested:
                    if form == NESTED16:
                        _nested(x, run, run_channel, a[k], t[k], z, y[k])
                if not bare[k]:
                    _finish(y[k], run, run_channel, low[k], high[k], z, add[k])
            _compare_runs(
                y, fits, p, q, all_fit, run, run_channel, bins_of, base, keys,
                counts, differences, largest, witnesses,
            )  # fmt: skip

    return kernel(tile_table)


@functools.cache
def range_kernel(one_word, log_uniform, masked, floor, float32, float64, nested):
    """Return the kernel for a fresh real multiplier a pair, holding just the branches asked for."""

    def tile_range(
        start, stop, key0, key1, acc_kind, acc_low, acc_span, word_shift, center, spread, table, output_units,
        real_low, real_width, z, qmin, qmax, clamped, rules, low, high, add,
        shift_low, shift_high, scale_low, scale_high, total, bare, one_run,
        lanes, differences, largest, outside, witnesses,
    ):  # fmt: skip
        schemes = rules.shape[0]
        slots = 2 if one_word else 1
        blocks = GROUP // slots
        words = np.empty((4, blocks), np.uint32)
        x, real = np.empty(GROUP, np.int32), np.empty(GROUP, np.float64)
        q31, value = np.empty(GROUP, np.int32), np.empty(GROUP, np.int32)
        q31_exponent, exponent = np.empty(GROUP, np.int8), np.empty(GROUP, np.int8)
        bins, keys = np.empty(GROUP, np.uint8), np.empty(GROUP, np.uint8)
        y = np.zeros((schemes, GROUP), np.int32)
        fits = np.empty((schemes, GROUP), np.uint8)
        all_fit = np.ones(schemes, np.uint8)
        for group in range(start // GROUP, (stop + GROUP - 1) // GROUP):
            base = group * GROUP
            p, q = max(start - base, 0), min(stop - base, GROUP)
            philox.fill(key0, key1, np.uint64(group * blocks), words)
            for slot in range(slots):
                here = real[slot * blocks : (slot + 1) * blocks]
                _draw_real(words[2 * slot], real_low, real_width, here)
                if log_uniform:
                    _exponentiate(here)
                if one_word:
                    there = x[slot * blocks : (slot + 1) * blocks]
                    _draw_word(words[2 * slot + 1], acc_low[0], word_shift, there)
                else:
                    _draw_drawn(
                        words[1], words[2], acc_kind, here, output_units, qmin, qmax, z[0],
                        acc_low[0], acc_span[0], center[0], spread[0], table, x,
                    )  # fmt: skip
            _split_q31(real, q31, q31_exponent, bins)
            for k in range(schemes):
                rule, form = rules[k], rules[k, 0]
                checked = masked and not total[k]
                if floor:
                    if form == FLOOR:
                        if rule[1] != MANTISSA_Q31:
                            _split(real, rule[1], q31, q31_exponent, value, exponent)
                        m, e = (q31, q31_exponent) if rule[1] == MANTISSA_Q31 else (value, exponent)
                        if masked:
                            if checked:
                                _floor_drawn(x, m, e, rule, y[k])
                                _floor_drawn_fits(
                                    x, real, m, e, rule, shift_low[k], shift_high[k], scale_low[k], scale_high[k],
                                    y[k], fits[k],
                                )  # fmt: skip
                            else:
                                _floor_drawn_within(x, m, e, rule, y[k])
                        else:
                            _floor_drawn_within(x, m, e, rule, y[k])
                if float32:
                    if form == FLOAT and rule[1] == 32:
                        _float32_drawn(x, real, rule[2], rule[3], z[0], y[k])
                        if masked:
                            if checked:
                                _float32_drawn_fits(
                                    x, real, rule[2], rule[3], z[0], not (clamped and rule[4]),
                                    scale_low[k], scale_high[k], fits[k],
                                )  # fmt: skip
                if float64:
                    if form == FLOAT and rule[1] == 64:
                        _float64_drawn(x, real, y[k])
                        if masked:
                            if checked:
                                _float64_drawn_fits(
                                    x, real, not (clamped and rule[4]), scale_low[k], scale_high[k], fits[k]
                                )  # fmt: skip
                if nested:
                    if form == NESTED16:
                        _nested_drawn(x, real, z[0], scale_low[k], scale_high[k], y[k], fits[k])
                if masked:
                    all_fit[k] = 1
                    if checked:
                        out = _count_zeros(fits[k, p:q])
                        outside[k] += out
                        all_fit[k] = out == 0
                    else:
                        fits[k, :] = 1
                if not bare[k]:
                    _finish(y[k], GROUP, one_run, low[k], high[k], z, add[k])
            _compare_keys(
                y, fits, p, q, all_fit, bins, keys, base, lanes, differences, largest, witnesses
            )  # fmt: skip

    return kernel(tile_range)


def _forms(rules):
    """Which evaluators a set of rules needs: floor, float32, float64, nested."""
    form, width = rules[:, 0], rules[:, 1]
    return (
        bool((form == FLOOR).any()),
        bool(((form == FLOAT) & (width == 32)).any()),
        bool(((form == FLOAT) & (width == 64)).any()),
        bool((form == NESTED16).any()),
    )


def tile(work, start, stop):
    """Return the tally of pairs ``[start, stop)``: a dict of integer arrays, equal to the reference's."""
    schemes = work.rules.shape[0]
    couples = schemes * (schemes - 1) // 2
    counts = np.zeros((couples, BINS, 2), np.int64)
    rest = {
        "differences": np.zeros((couples, 8, 256), np.int64),
        "largest": np.zeros(couples, np.int64),
        "outside": np.zeros(schemes, np.int64),
        "witnesses": np.full((couples, work.witnesses), -1, np.int64),
    }
    bare = ((work.low <= INT32_MIN) & (work.high >= INT32_MAX)).all(axis=1) & ~(work.add[:, None] * work.z).any(1)
    key = np.uint64(work.key0), np.uint64(work.key1)
    masked, forms = not work.total.all(), _forms(work.rules)
    if work.kind == RANGE:
        lanes = np.zeros((couples, 8, 256), np.int64)
        range_kernel(work.word_shift >= 0, work.log_uniform, masked, *forms)(
            start, stop, *key, work.acc_kind, work.acc_low, work.acc_span, work.word_shift, work.center, work.spread,
            work.table, work.output_units, work.real_low, work.real_width, work.z, work.qmin,
            work.qmax, work.clamped, work.rules, work.low, work.high, work.add, work.shift_low, work.shift_high,
            work.scale_low, work.scale_high, work.total, bare, np.zeros(1, np.int64), lanes, *rest.values(),
        )  # fmt: skip
        by_key = lanes.sum(axis=1)
        counts[:, :, 0], counts[:, :, 1] = by_key[:, :DIFFERS], by_key[:, DIFFERS:]
        counts[:, OUTSIDE - DIFFERS, 1] = 0
    else:
        draw = _UNIFORM if work.word_shift < 0 else _ONE_WORD
        if work.acc_kind in (ACC_QUANTILE, ACC_SEQUENTIAL):
            draw = _QUANTILE if work.acc_kind == ACC_QUANTILE else _IN_ORDER
        table_kernel(draw, masked, *forms)(
            start, stop, *key, work.stride, RUN if work.channels > 1 else GROUP, work.acc_low, work.acc_span,
            work.word_shift, work.center, work.spread, work.table, work.z, work.rules, work.a, work.bp, work.bn,
            work.t, work.scale, work.domain_low, work.domain_high, work.low, work.high, work.add, work.bins,
            work.total, bare, ZERO, counts, *rest.values(),
        )  # fmt: skip
    cells = rest["differences"].sum(axis=1)[:, :DIFFERENCE_CELLS]
    cells[:, DIFFERENCE_LIMIT + 1] = 0
    return {"counts": counts, **rest, "differences": cells}
