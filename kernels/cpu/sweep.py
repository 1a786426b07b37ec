"""One sweep tile on the CPU: groups of `GROUP` pairs stay in the first-level cache from draw to tally."""

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
    NESTED16,
    NUDGE_SATURATES,
    QUANTILE_BITS,
    RANGE,
    SHIFTS_ACCUMULATOR,
)
from . import philox
from .jit import ZERO, inner, kernel, wide
from .requantize import floor_words, half_away32, half_away64

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
HALF, ELEVEN = np.uint64(32), np.uint64(11)
(_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12) = EXP2_COEFFICIENTS
REST = 52 - QUANTILE_BITS
FRACTION_SCALE = 2.0**-REST


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


@inner
def _draw_single(words, acc_low, word_shift, x):
    """One word a pair: a range of a power of two."""
    wide()
    blocks = words.shape[1]
    for slot in range(4):
        w, y = words[slot], x[slot * blocks : (slot + 1) * blocks]
        for i in range(blocks):
            y[i] = acc_low + (np.int64(w[i]) >> word_shift)


@inner
def _draw_uniform(high, low, acc_low, span, x):
    wide()
    span = np.uint64(span)
    for i in range(high.size):
        x[i] = acc_low + np.int64(_scaled(np.uint64(high[i]), np.uint64(low[i]), span))


@inner
def _draw_real(high, low, real_low, real_width, log_uniform, real):
    wide()
    for i in range(high.size):
        w = ((np.uint64(high[i]) << HALF) | np.uint64(low[i])) >> ELEVEN
        real[i] = real_low + (np.float64(np.int64(w)) * 2.0**-53) * real_width
    if log_uniform:
        for i in range(high.size):
            real[i] = _exp2(real[i])


@inner
def _deviate(high, low, table):
    tail = ((np.int64(high) & 0x7FFFFFFF) << 32) | np.int64(low)
    bits = np.float64(min(tail, 0x7FFFFFFFFFFFFFFE) + 1).view(np.int64)
    cell = (bits >> REST) - (1023 << QUANTILE_BITS)
    fraction = np.float64(bits & ((1 << REST) - 1)) * FRACTION_SCALE
    size = table[cell] + fraction * (table[cell + 1] - table[cell])
    return -size if high >> 31 else size


@inner
def _draw_channel(high, low, channels, channel):
    wide()
    span = np.uint64(channels)
    for i in range(high.size):
        channel[i] = np.int64(_scaled(np.uint64(high[i]), np.uint64(low[i]), span))


@inner
def _draw_table(high, low, acc_kind, channel, acc_low, acc_span, center, spread, table, x):
    """Accumulators whose parameters vary by channel."""
    wide()
    if acc_kind == ACC_QUANTILE:
        for i in range(high.size):
            c = channel[i]
            v = np.rint(center[c] + spread[c] * _deviate(high[i], low[i], table))
            bottom = np.float64(acc_low[c])
            x[i] = np.int64(min(max(v, bottom), np.float64(acc_low[c] + acc_span[c] - 1)))
    else:
        for i in range(high.size):
            c = channel[i]
            x[i] = acc_low[c] + np.int64(
                _scaled(np.uint64(high[i]), np.uint64(low[i]), np.uint64(acc_span[c]))
            )


@inner
def _draw_range(high, low, acc_kind, real, output_units, qmin, qmax, z, acc_low, acc_span, center, spread, table, x):
    """Accumulators that depend on the drawn multiplier."""
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
        _draw_uniform(high, low, acc_low, acc_span, x)


@inner
def _split_q31(real, value, exponent):
    """QuantizeMultiplier on positive normal reals."""
    wide()
    for i in range(real.size):
        bits = np.float64(real[i]).view(np.int64)
        q = (((bits & 0xFFFFFFFFFFFFF) | 0x10000000000000) + (1 << 21)) >> 22
        carry = q >> 31
        e = (bits >> 52) - 1022 + carry
        keep = e >= -31
        value[i] = (q >> carry) if keep else 0
        exponent[i] = e if keep else 0


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
def _floor_drawn(x, real, value, exponent, rule, shift_low, shift_high, scale_low, scale_high, y, fits):
    """Floor form with a multiplier a pair: int64 throughout, ``|a x + b| < 2**63``."""
    wide()
    base, flags = rule[2], rule[3]
    hp0, cp0, hn0, cn0 = rule[4], rule[5], rule[6], rule[7]
    hp1, cp1, hn1, cn1 = rule[8], rule[9], rule[10], rule[11]
    hp2, cp2, hn2, cn2 = rule[12], rule[13], rule[14], rule[15]
    by_scale = rule[1] == MANTISSA_M24 or rule[1] == MANTISSA_M24_LEFT7
    outside = 0
    for i in range(x.size):
        v, a, given = np.int64(x[i]), np.int64(value[i]), np.int64(exponent[i])
        e = min(max(given, base - 62), base - 1)
        t = (base - e) & 63
        if v >= 0:
            h = hp0 if e < 0 else (hp1 if e == 0 else hp2)
            c = cp0 if e < 0 else (cp1 if e == 0 else cp2)
        else:
            h = hn0 if e < 0 else (hn1 if e == 0 else hn2)
            c = cn0 if e < 0 else (cn1 if e == 0 else cn2)
        bias = (h << (t - 1)) + c
        if a == 0:
            bias = 0
        w = (a * v + bias) >> t
        ok = np.int64(w == np.int64(np.int32(w)))
        if by_scale:
            s = np.float64(np.float32(real[i]))
            ok &= np.int64(s >= scale_low) & np.int64(s < scale_high)
        else:
            ok &= np.int64(given >= shift_low) & np.int64(given <= shift_high)
        if flags & SHIFTS_ACCUMULATOR:
            shifted = v << max(e, 0)
            ok &= np.int64(shifted == np.int64(np.int32(shifted)))
        if flags & NUDGE_SATURATES:
            nudge = (np.int64(1) << max(-e - 1, 0)) if e < 0 else 0
            ok &= np.int64(((a * v) >> 31) + nudge <= INT32_MAX)
        y[i] = np.int32(min(max(w, INT32_MIN), INT32_MAX))
        fits[i] = ok
        outside += 1 - ok
    return outside


@inner
def _floor_table(x, channel, a, bp, bn, t, y):
    wide()
    for i in range(x.size):
        c = channel[i]
        v = np.int64(x[i])
        w = (a[c] * v + (bp[c] if v >= 0 else bn[c])) >> (t[c] & 63)
        y[i] = np.int32(min(max(w, INT32_MIN), INT32_MAX))


@inner
def _float32_values(x, channel, scale, drawn, real, rounding, inside, z, y):
    """Rounded float32 products, saturated to int32 (2147483520 is the largest float32 below 2**31)."""
    wide()
    one = scale.size == 1
    s0, z0 = np.float32(scale[0]), np.float32(z[0])
    if one and not drawn and not inside and rounding == HALF_EVEN:
        for i in range(x.size):
            v = np.float32(x[i]) * s0
            r = np.float32(np.rint(v))
            w = np.int32(min(max(r, np.float32(-2147483648.0)), np.float32(2147483520.0)))
            y[i] = w if r < np.float32(2147483648.0) else np.int32(INT32_MAX)
        return
    for i in range(x.size):
        s, zz = s0, z0
        if drawn:
            s = np.float32(real[i])
        elif not one:
            s, zz = np.float32(scale[channel[i]]), np.float32(z[channel[i]])
        v = np.float32(np.float32(x[i]) * s)
        if inside:
            v = np.float32(v + zz)
        r = np.float32(np.rint(v)) if rounding == HALF_EVEN else half_away32(v)
        w = np.int32(min(max(r, np.float32(-2147483648.0)), np.float32(2147483520.0)))
        y[i] = w if r < np.float32(2147483648.0) else np.int32(INT32_MAX)


@inner
def _float64_values(x, channel, scale, drawn, real, y):
    wide()
    one = scale.size == 1
    s0 = scale[0]
    for i in range(x.size):
        s = s0
        if drawn:
            s = real[i]
        elif not one:
            s = scale[channel[i]]
        r = half_away64(np.float64(x[i]) * s)
        y[i] = np.int32(np.int64(min(max(r, -2147483648.0), 2147483647.0)))


@inner
def _float32_drawn_fits(x, real, rounding, inside, z, limited, scale_low, scale_high, fits):
    """Domain of a float32 form with a multiplier a pair; `limited` where the result must fit int32."""
    wide()
    outside = 0
    zz = np.float32(z)
    for i in range(x.size):
        s = np.float32(real[i])
        ok = np.int64(np.float64(s) >= scale_low) & np.int64(np.float64(s) < scale_high)
        if limited:
            v = np.float32(np.float32(x[i]) * s)
            if inside:
                v = np.float32(v + zz)
            r = np.float32(np.rint(v)) if rounding == HALF_EVEN else half_away32(v)
            ok &= np.int64(r >= np.float32(-2147483648.0)) & np.int64(r < np.float32(2147483648.0))
        fits[i] = ok
        outside += 1 - ok
    return outside


@inner
def _float64_drawn_fits(x, real, limited, scale_low, scale_high, fits):
    """Domain of a float64 form with a multiplier a pair; `limited` where the result must fit int32."""
    wide()
    outside = 0
    for i in range(x.size):
        ok = np.int64(real[i] >= scale_low) & np.int64(real[i] < scale_high)
        if limited:
            r = half_away64(np.float64(x[i]) * real[i])
            ok &= np.int64(r >= -2147483648.0) & np.int64(r < 2147483648.0)
        fits[i] = ok
        outside += 1 - ok
    return outside


@inner
def _nested(x, channel, a, e, drawn, real, z, scale_low, scale_high, y, fits):
    outside = 0
    for i in range(x.size):
        c = channel[i]
        ok = 1
        if drawn:
            s = np.float32(real[i])
            bits = np.int64(s.view(np.int32))
            mantissa = (((bits & 0x7FFFFF) | 0x800000) + 256) >> 9
            carry = mantissa >> 15
            mantissa >>= carry
            exponent = min(max((bits >> 23) - 126 + carry, -32), 16)
            ok = np.int64(np.float64(s) >= scale_low) & np.int64(np.float64(s) < scale_high)
            fits[i] = ok
            outside += 1 - ok
        else:
            mantissa, exponent = a[c], e[c]
        right = max(-exponent, 0)
        pre = ((np.int64(x[i]) << max(exponent, 0)) + ((np.int64(1) << right) >> 1)) >> right
        pre = min(max(pre, -32768), 32767)
        w = ((pre * mantissa + 16384) >> 15) + z[c]
        y[i] = np.int32(min(max(w, -32768), 32767))
    return outside


@inner
def _domain(x, channel, low, high, fits):
    """Mark the accumulators inside their channel's domain; return how many are outside."""
    wide()
    outside = 0
    if low.size == 1:
        for i in range(x.size):
            ok = np.int64(x[i] >= low[0]) & np.int64(x[i] <= high[0])
            fits[i] = ok
            outside += 1 - ok
    else:
        for i in range(x.size):
            c = channel[i]
            ok = np.int64(x[i] >= low[c]) & np.int64(x[i] <= high[c])
            fits[i] = ok
            outside += 1 - ok
    return outside


@inner
def _finish(y, channel, low, high, z, add):
    """Clamp, then add the zero point: in place."""
    wide()
    if low.size == 1:
        bottom, top, zero = np.int32(low[0]), np.int32(high[0]), np.int32(z[0] * add)
        for i in range(y.size):
            y[i] = np.int32(min(max(y[i], bottom), top) + zero)
    else:
        for i in range(y.size):
            c = channel[i]
            y[i] = np.int32(min(max(np.int64(y[i]), low[c]), high[c]) + z[c] * add)


@inner
def _differing(ya, yb):
    wide()
    count = np.int32(0)
    for i in range(ya.size):
        count += np.int32(ya[i] != yb[i])
    return np.int64(count)


@inner
def _unit_differences(ya, yb):
    """Counts of differences of exactly +1 and -1 (a wrapped difference of +-1 is a true one: |d| < 2**32 - 1)."""
    wide()
    up, down = np.int32(0), np.int32(0)
    for i in range(ya.size):
        d = np.int32(ya[i] - yb[i])
        up += np.int32(d == 1)
        down += np.int32(d == -1)
    return np.int64(up), np.int64(down)


@inner
def _record(ya, yb, masked, fa, fb, first, up, down, cells, largest, witnesses):
    """Count differences one by one where they are not all +-1, and keep the first witnesses."""
    taken = 0
    while taken < witnesses.size and witnesses[taken] >= 0:
        taken += 1
    units = up >= 0
    if units:
        cells[DIFFERENCE_LIMIT + 2] += up
        cells[DIFFERENCE_LIMIT] += down
        largest = max(largest, 1)
        if taken == witnesses.size:
            return largest
    for i in range(ya.size):
        d = np.int64(ya[i]) - np.int64(yb[i])
        if d != 0 and (not masked or (fa[i] and fb[i])):
            if not units:
                largest = max(largest, abs(d))
                cells[min(max(d, -DIFFERENCE_LIMIT - 1), DIFFERENCE_LIMIT + 1) + DIFFERENCE_LIMIT + 1] += 1
            if taken < witnesses.size:
                witnesses[taken] = first + i
                taken += 1
            elif units:
                break
    return largest


@inner
def _by_bin(ya, yb, masked, fa, fb, bins, lanes):
    """Count pairs by (bin, differs?) into eight interleaved histograms, so that no add waits for the last."""
    if masked:
        for i in range(ya.size):
            if fa[i] and fb[i]:
                lanes[i & 7, 2 * np.int64(bins[i]) + np.int64(ya[i] != yb[i])] += 1
    else:
        for i in range(ya.size):
            lanes[i & 7, 2 * np.int64(bins[i]) + np.int64(ya[i] != yb[i])] += 1


@inner
def _masked_counts(ya, yb, fa, fb):
    wide()
    both, differ = np.int32(0), np.int32(0)
    for i in range(ya.size):
        ok = np.int32(fa[i] & fb[i])
        both += ok
        differ += ok & np.int32(ya[i] != yb[i])
    return np.int64(both), np.int64(differ)


@inner
def _compare(y, fits, p, q, all_fit, bins, one_bin, first, lanes, counts, differences, largest, witnesses):
    """Tally every couple of schemes over places ``[p, q)`` of a group."""
    couple = 0
    for i in range(y.shape[0]):
        for j in range(i + 1, y.shape[0]):
            ya, yb, fa, fb = y[i, p:q], y[j, p:q], fits[i, p:q], fits[j, p:q]
            masked = not (all_fit[i] and all_fit[j])
            if masked:
                both, differ = _masked_counts(ya, yb, fa, fb)
            else:
                both, differ = ya.size, _differing(ya, yb)
            if one_bin >= 0:
                counts[couple, one_bin, 0] += both - differ
                counts[couple, one_bin, 1] += differ
            else:
                _by_bin(ya, yb, masked, fa, fb, bins[p:q], lanes[couple])
            if differ:
                up, down = np.int64(-1), np.int64(-1)
                if not masked:
                    up, down = _unit_differences(ya, yb)
                    if up + down != differ:
                        up = np.int64(-1)
                largest[couple] = _record(
                    ya, yb, masked, fa, fb, first, up, down,
                    differences[couple], largest[couple], witnesses[couple],
                )  # fmt: skip
            couple += 1


# How a table's pairs are drawn: constants of the compiled kernel, so that only what is used is compiled.
_IN_ORDER, _ONE_WORD, _TWO_WORDS, _FOUR_WORDS = 0, 1, 2, 3


@functools.cache
def table_kernel(draw, many, masked, floor, float32, float64, nested):
    """Return the kernel for a fixed multiplier or a table of channels, holding just the branches asked for.

    The arguments are constants to the compiler, which drops the other branches before it types them.
    """

    def tile_table(
        start, stop, key0, key1, acc_kind, acc_low, acc_span, word_shift, center, spread, table,
        z, rules, a, bp, bn, t, scale, domain_low, domain_high, low, high, add, bins_of, total, bare, zero,
        lanes, counts, differences, largest, outside, witnesses,
    ):  # fmt: skip
        schemes, channels = rules.shape[0], bins_of.size
        blocks = GROUP // 4 if draw == _ONE_WORD else (GROUP // 2 if draw == _TWO_WORDS else GROUP)
        words = np.empty((4, blocks), np.uint32)
        x_group, channel_group = np.empty(GROUP, np.int32), np.zeros(GROUP, np.int32)
        bins = np.empty(GROUP, np.uint8)
        y = np.empty((schemes, GROUP), np.int32)
        fits = np.empty((schemes, GROUP), np.uint8)
        all_fit = np.ones(schemes, np.uint8)
        nothing = np.empty(0, np.float64)
        one_bin = -1 if many else bins_of[0]
        for group in range(start // GROUP, (stop + GROUP - 1) // GROUP):
            base = group * GROUP
            if draw == _IN_ORDER:
                for i in range(GROUP):
                    x_group[i] = acc_low[0] + base + i
            else:
                philox.fill(key0, key1, np.uint64(group * blocks), words)
            if draw == _ONE_WORD:
                _draw_single(words, acc_low[0], word_shift, x_group)
            if draw == _TWO_WORDS:
                for slot in range(2):
                    _draw_table(
                        words[2 * slot], words[2 * slot + 1], acc_kind, channel_group, acc_low, acc_span,
                        center, spread, table, x_group[slot * blocks : (slot + 1) * blocks],
                    )  # fmt: skip
            if draw == _FOUR_WORDS:
                _draw_channel(words[2], words[3], channels, channel_group)
                _draw_table(
                    words[0], words[1], acc_kind, channel_group, acc_low, acc_span, center, spread, table, x_group
                )  # fmt: skip
            p, q = max(start - base, 0), min(stop - base, GROUP)
            x, channel = x_group[p:q], channel_group[p:q]
            if many:
                for i in range(p, q):
                    bins[i] = bins_of[channel_group[i]]
            for k in range(schemes):
                ys, form = y[k, p:q], rules[k, 0]
                if masked:
                    if not total[k]:
                        out = _domain(x, channel, domain_low[k], domain_high[k], fits[k, p:q])
                        outside[k] += out
                        all_fit[k] = out == 0
                if floor:
                    if form == FLOOR:
                        if many:
                            _floor_table(x, channel, a[k], bp[k], bn[k], t[k], ys)
                        else:
                            floor_words(x, a[k, 0], bp[k, 0], bn[k, 0], t[k, 0], zero, ys)
                if float32:
                    if form == FLOAT and rules[k, 1] == 32:
                        _float32_values(x, channel, scale[k], False, nothing, rules[k, 2], rules[k, 3], z, ys)
                if float64:
                    if form == FLOAT and rules[k, 1] == 64:
                        _float64_values(x, channel, scale[k], False, nothing, ys)
                if nested:
                    if form == NESTED16:
                        _nested(x, channel, a[k], t[k], False, nothing, z, 0.0, 0.0, ys, fits[k, p:q])
                if not bare[k]:
                    _finish(ys, channel, low[k], high[k], z, add[k])
            _compare(
                y, fits, p, q, all_fit, bins, one_bin, base + p, lanes,
                counts, differences, largest, witnesses,
            )  # fmt: skip

    return kernel(tile_table)


@functools.cache
def range_kernel(floor, float32, float64, nested):
    """Return the kernel for a fresh real multiplier a pair, holding just the branches asked for."""

    def tile_range(
        start, stop, key0, key1, acc_kind, acc_low, acc_span, center, spread, table, output_units,
        real_low, real_width, log_uniform, z, qmin, qmax, clamped, rules, low, high, add,
        shift_low, shift_high, scale_low, scale_high, bare,
        lanes, counts, differences, largest, outside, witnesses,
    ):  # fmt: skip
        schemes = rules.shape[0]
        words = np.empty((4, GROUP), np.uint32)
        x_group, real_group = np.empty(GROUP, np.int32), np.empty(GROUP, np.float64)
        q31, value = np.empty(GROUP, np.int32), np.empty(GROUP, np.int32)
        q31_exponent, exponent = np.empty(GROUP, np.int8), np.empty(GROUP, np.int8)
        bins = np.empty(GROUP, np.uint8)
        y = np.empty((schemes, GROUP), np.int32)
        fits = np.empty((schemes, GROUP), np.uint8)
        all_fit = np.empty(schemes, np.uint8)
        one, none = np.ones(1, np.float64), np.zeros(1, np.int64)
        channel = np.zeros(GROUP, np.int32)
        for group in range(start // GROUP, (stop + GROUP - 1) // GROUP):
            base = group * GROUP
            philox.fill(key0, key1, np.uint64(base), words)
            _draw_real(words[2], words[3], real_low, real_width, log_uniform, real_group)
            _draw_range(
                words[0], words[1], acc_kind, real_group, output_units, qmin, qmax, z[0],
                acc_low[0], acc_span[0], center[0], spread[0], table, x_group,
            )  # fmt: skip
            _split_q31(real_group, q31, q31_exponent)
            for i in range(GROUP):
                bins[i] = (q31_exponent[i] + BIN_ORIGIN) if q31[i] else 0
            p, q = max(start - base, 0), min(stop - base, GROUP)
            x, real, channels = x_group[p:q], real_group[p:q], channel[p:q]
            for k in range(schemes):
                rule, ys, fit, form = rules[k], y[k, p:q], fits[k, p:q], rules[k, 0]
                out = 0
                if floor:
                    if form == FLOOR:
                        _split(real, rule[1], q31[p:q], q31_exponent[p:q], value[p:q], exponent[p:q])
                        out = _floor_drawn(
                            x, real, value[p:q], exponent[p:q], rule, shift_low[k], shift_high[k],
                            scale_low[k], scale_high[k], ys, fit,
                        )  # fmt: skip
                limited = not (clamped and rule[4])
                if float32:
                    if form == FLOAT and rule[1] == 32:
                        _float32_values(x, channels, one, True, real, rule[2], rule[3], z, ys)
                        out = _float32_drawn_fits(
                            x, real, rule[2], rule[3], z[0], limited, scale_low[k], scale_high[k], fit
                        )  # fmt: skip
                if float64:
                    if form == FLOAT and rule[1] == 64:
                        _float64_values(x, channels, one, True, real, ys)
                        out = _float64_drawn_fits(x, real, limited, scale_low[k], scale_high[k], fit)
                if nested:
                    if form == NESTED16:
                        out = _nested(
                            x, channels, none, none, True, real, z, scale_low[k], scale_high[k], ys, fit
                        )  # fmt: skip
                outside[k] += out
                all_fit[k] = out == 0
                if not bare[k]:
                    _finish(ys, channels, low[k], high[k], z, add[k])
            _compare(
                y, fits, p, q, all_fit, bins, -1, base + p, lanes,
                counts, differences, largest, witnesses,
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
    tally = {
        "counts": np.zeros((couples, BINS, 2), np.int64),
        "differences": np.zeros((couples, DIFFERENCE_CELLS), np.int64),
        "largest": np.zeros(couples, np.int64),
        "outside": np.zeros(schemes, np.int64),
        "witnesses": np.full((couples, work.witnesses), -1, np.int64),
    }
    lanes = np.zeros((couples, 8, 2 * BINS), np.int64)
    results = lanes, *tally.values()
    bare = ((work.low <= INT32_MIN) & (work.high >= INT32_MAX)).all(axis=1) & ~(work.add[:, None] * work.z).any(1)
    key = np.uint64(work.key0), np.uint64(work.key1)
    forms = _forms(work.rules)
    if work.kind == RANGE:
        range_kernel(*forms)(
            start, stop, *key, work.acc_kind, work.acc_low, work.acc_span, work.center, work.spread, work.table,
            work.output_units, work.real_low, work.real_width, work.log_uniform, work.z, work.qmin, work.qmax,
            work.clamped, work.rules, work.low, work.high, work.add, work.shift_low, work.shift_high,
            work.scale_low, work.scale_high, bare, *results,
        )  # fmt: skip
    else:
        acc_high = work.acc_low + work.acc_span - 1
        total = ((work.domain_low <= work.acc_low) & (work.domain_high >= acc_high)).all(axis=1)
        draw = {4: _ONE_WORD, 2: _TWO_WORDS, 1: _FOUR_WORDS}[work.pairs_per_block]
        if work.acc_kind == ACC_SEQUENTIAL:
            draw = _IN_ORDER
        table_kernel(draw, work.channels > 1, not total.all(), *forms)(
            start, stop, *key, work.acc_kind, work.acc_low, work.acc_span, work.word_shift,
            work.center, work.spread, work.table, work.z, work.rules, work.a, work.bp, work.bn, work.t, work.scale,
            work.domain_low, work.domain_high, work.low, work.high, work.add, work.bins, total, bare, ZERO, *results,
        )  # fmt: skip
    tally["counts"] += lanes.sum(axis=1).reshape(couples, BINS, 2)
    return tally
