"""Requantization on the CPU: floor, float and nested forms over (outer, channels, inner) arrays.

The per-tensor floor form runs in two passes over an L1-sized block: exact int64 products of eight lanes at a
time whose low words are merged into int32, then clamp, zero point and narrowing on sixteen lanes.
"""

import numpy as np

from ..codes import HALF_EVEN
from .jit import allocating, fence, inner, kernel, stream, wide
from .streams import LINE, aligned_block, ask_ahead, lead

#: Elements a block of an array that fits the caches: both passes over it stay in the first level.
BLOCK = 4096
#: Elements a block of a larger array.
STREAM_BLOCK = 256


@inner
def floor_pairs(x2, start, pairs, a, bp, bn, t, zero, y2, target):
    """``y = low32(floor((a x + b) / 2**t))`` for int32 x; ``0 <= a < 2**31``, ``|b| < 2**62``, ``1 <= t <= 62``.

    Two accumulators are read as one int64: the even one is its low word, the odd one its high word.
    ``|a x + b| < 2**62 + 2**62``.
    """
    wide()
    s = t & 63
    step = a
    first, to = np.uint64(start), np.uint64(target)
    if bp == bn:
        for i in range(np.uint64(pairs)):
            v = x2[first + i]
            m = step & 0x7FFFFFFF
            step += zero
            even = (m * ((v << 32) >> 32) + bp) >> s
            odd = (m * (v >> 32) + bp) >> s
            y2[to + i] = (even & 0xFFFFFFFF) | (odd << 32)
    else:
        d = bn - bp
        for i in range(np.uint64(pairs)):
            v = x2[first + i]
            m = step & 0x7FFFFFFF
            step += zero
            even = m * ((v << 32) >> 32) + bp
            odd = m * (v >> 32) + bp
            if v & 0x80000000:
                even += d
            if v < 0:
                odd += d
            y2[to + i] = ((even >> s) & 0xFFFFFFFF) | ((odd >> s) << 32)


@inner
def _clamp(y, low, high, z, out, start, count):
    """Clamp to ``[low, high]`` before adding z: both stay inside int32."""
    wide()
    low, high, z = np.int32(low), np.int32(high), np.int32(z)
    first = np.uint64(start)
    for i in range(np.uint64(count)):
        out[first + i] = np.int32(min(max(y[i], low), high) + z)


@inner
def _wrap_clamp(y, low, high, z, qmin, qmax, out, start, count):
    """Saturate, add z modulo 2**32, then clamp: what the originals do on overflow."""
    wide()
    low, high, z = np.int32(low), np.int32(high), np.int32(z)
    qmin, qmax = np.int32(qmin), np.int32(qmax)
    first = np.uint64(start)
    for i in range(np.uint64(count)):
        w = np.int32(min(max(y[i], low), high) + z)
        out[first + i] = np.int32(min(max(w, qmin), qmax))


@inner
def _floor_blocks(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, scratch, out):
    """Two passes over each block, in the caches."""
    pairs = x.size // 2
    x2, y2 = x[: 2 * pairs].view(np.int64), scratch.view(np.int64)
    for start in range(0, x.size, BLOCK):
        count = min(BLOCK, x.size - start)
        floor_pairs(x2, start // 2, count // 2, a, bp, bn, t, zero, y2, 0)
        if count & 1:
            last = np.int64(x[start + count - 1])
            scratch[count - 1] = np.int32((a * last + (bp if last >= 0 else bn)) >> (t & 63))
        if wrap:
            _wrap_clamp(scratch, low, high, z, qmin, qmax, out, start, count)
        else:
            _clamp(scratch, low, high, z, out, start, count)


@allocating
def _floor_stream(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, scratch, out):
    """Blocks of STREAM_BLOCK through memory; `out` starts at a cache line and x holds whole blocks.

    No array is sliced or bound to a name inside the loop: a reference count is a locked instruction, and that
    waits for the stores on their way to memory.
    """
    x2, y2 = x.view(np.int64), scratch.view(np.int64)
    buffer, address = aligned_block(out, STREAM_BLOCK)
    source, target, step = x.ctypes.data, out.ctypes.data, out.itemsize
    for start in range(0, x.size, STREAM_BLOCK):
        ask_ahead(source + 4 * start, 4 * STREAM_BLOCK)
        floor_pairs(x2, start // 2, STREAM_BLOCK // 2, a, bp, bn, t, zero, y2, 0)
        if wrap:
            _wrap_clamp(scratch, low, high, z, qmin, qmax, buffer, 0, STREAM_BLOCK)
        else:
            _clamp(scratch, low, high, z, buffer, 0, STREAM_BLOCK)
        stream(target + step * start, address, STREAM_BLOCK * step // LINE)
    fence()


@inner
def _floor_segment32(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, scratch, out):
    p = lead(x, out)
    _floor_blocks(x[:p], a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, scratch, out[:p])
    if p < x.size:
        q = p + (x.size - p) // STREAM_BLOCK * STREAM_BLOCK
        _floor_stream(x[p:q], a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, scratch, out[p:q])
        _floor_blocks(x[q:], a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, scratch, out[q:])


@inner
def _floor_segment64(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, out):
    """int64 accumulators of up to 48 bits: ``a < 2**15`` there, so ``|a x + b| < 2**63``."""
    wide()
    for i in range(x.size):
        v = np.int64(x[i])
        y = (a * v + (bp if v >= 0 else bn)) >> t
        if wrap:
            y = np.int64(np.int32(min(max(np.int64(np.int32(y)), low), high) + z))
            out[i] = min(max(y, qmin), qmax)
        else:
            out[i] = min(max(y, low), high) + z


@inner
def _floor_row(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, out):
    """One row of channels-last data: parameters vary with every element."""
    wide()
    if wrap:
        for c in range(x.size):
            v = np.int64(x[c])
            y = (np.int64(a[c]) * v + (bp[c] if v >= 0 else bn[c])) >> (t[c] & 63)
            y = np.int64(np.int32(min(max(np.int64(np.int32(y)), low[c]), high[c]) + z[c]))
            out[c] = min(max(y, qmin), qmax)
    else:
        for c in range(x.size):
            v = np.int64(x[c])
            y = (np.int64(a[c]) * v + (bp[c] if v >= 0 else bn[c])) >> (t[c] & 63)
            out[c] = min(max(y, low[c]), high[c]) + z[c]


@kernel
def floor_tensor(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, out):
    """Floor form of a 1-D int32 array with one multiplier."""
    scratch = np.empty(BLOCK, np.int32)
    _floor_segment32(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, scratch, out)


@kernel
def floor_words_tensor(x, a, bp, bn, t, zero, out):
    """Raw floor form of a 1-D int32 array with one multiplier, straight into int32."""
    pairs = x.size // 2
    floor_pairs(x[: 2 * pairs].view(np.int64), 0, pairs, a, bp, bn, t, zero, out[: 2 * pairs].view(np.int64), 0)
    if x.size & 1:
        last = np.int64(x[x.size - 1])
        out[x.size - 1] = np.int32((a * last + (bp if last >= 0 else bn)) >> (t & 63))


@kernel
def floor_channels(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, zero, out):
    """Floor form of a 3-D int32 array, parameters 1-D over the middle axis (a int32, the others int64)."""
    outer, channels, _ = x.shape
    scratch = np.empty(BLOCK, np.int32)
    for o in range(outer):
        for c in range(channels):
            _floor_segment32(
                x[o, c], np.int64(a[c]), bp[c], bn[c], t[c], low[c], high[c], z[c],
                wrap, qmin, qmax, zero, scratch, out[o, c],
            )  # fmt: skip


@kernel
def floor_rows(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, out):
    """Floor form of a 2-D array of int32 or int64, parameters 1-D over the last axis (a int32)."""
    for o in range(x.shape[0]):
        _floor_row(x[o], a, bp, bn, t, low, high, z, wrap, qmin, qmax, out[o])


@kernel
def floor_channels64(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, _, out):
    """Floor form of a 3-D int64 array, or of any array into int64; takes what `floor_channels` takes."""
    outer, channels, _ = x.shape
    for o in range(outer):
        for c in range(channels):
            _floor_segment64(
                x[o, c], np.int64(a[c]), bp[c], bn[c], t[c], low[c], high[c], z[c],
                wrap, qmin, qmax, out[o, c],
            )  # fmt: skip


@inner
def half_away32(v):
    """Round a float32 half away from zero; ``v - trunc(v)`` is exact."""
    whole = np.trunc(v)
    if abs(np.float32(v - whole)) >= np.float32(0.5):
        whole += np.copysign(np.float32(1.0), v)
    return np.float32(whole)


@inner
def half_away64(v):
    """Round a float64 half away from zero; ``v - trunc(v)`` is exact."""
    whole = np.trunc(v)
    if abs(v - whole) >= 0.5:
        whole += np.copysign(1.0, v)
    return whole


@allocating
def _float32_segment(x, s, rounding, inside, low, high, z, clamped, out):
    p = lead(x, out) if x.itemsize == 4 else x.size
    _float32_block(x, 0, p, s, rounding, inside, low, high, z, clamped, out, 0)
    if p == x.size:
        return
    q = p + (x.size - p) // STREAM_BLOCK * STREAM_BLOCK
    buffer, address = aligned_block(out, STREAM_BLOCK)
    source, target, step = x.ctypes.data, out.ctypes.data, out.itemsize
    for start in range(p, q, STREAM_BLOCK):  # as in _floor_stream
        ask_ahead(source + 4 * start, 4 * STREAM_BLOCK)
        _float32_block(x, start, STREAM_BLOCK, s, rounding, inside, low, high, z, clamped, buffer, 0)
        stream(target + step * start, address, STREAM_BLOCK * step // LINE)
    fence()
    _float32_block(x, q, x.size - q, s, rounding, inside, low, high, z, clamped, out, q)


@inner
def _float32_block(x, start, count, s, rounding, inside, low, high, z, clamped, out, at):
    """``low``/``high`` bound v before the rounding: whole numbers, ``|.| <= 2**17`` where clamped."""
    wide()
    fz, flow, fhigh = np.float32(z), np.float32(low), np.float32(high)
    first, to = np.uint64(start), np.uint64(at)
    if rounding == HALF_EVEN and clamped and not inside:
        for i in range(np.uint64(count)):
            v = np.float32(x[first + i]) * s
            out[to + i] = np.int32(np.int32(np.rint(min(max(v, flow), fhigh))) + np.int32(z))
    elif clamped and not inside:
        for i in range(np.uint64(count)):
            v = np.float32(x[first + i]) * s
            out[to + i] = np.int32(np.int32(half_away32(min(max(v, flow), fhigh))) + np.int32(z))
    elif rounding == HALF_EVEN and clamped:
        for i in range(np.uint64(count)):
            v = np.float32(np.float32(x[first + i]) * s) + fz
            out[to + i] = np.int32(np.rint(min(max(v, flow), fhigh)))
    else:
        for i in range(np.uint64(count)):
            v = np.float32(np.float32(x[first + i]) * s)
            if inside:
                v = np.float32(v + fz)
            r = np.rint(v) if rounding == HALF_EVEN else half_away32(v)
            y = np.int64(r)
            if not inside:
                y += z
            if clamped:
                y = min(max(y, low), high)
            out[to + i] = y


@inner
def _float32_row(x, s, rounding, inside, low, high, z, clamped, out):
    wide()
    if rounding == HALF_EVEN and clamped and not inside:
        for c in range(x.size):
            v = min(max(np.float32(x[c]) * s[c], np.float32(low[c])), np.float32(high[c]))
            out[c] = np.int64(np.int32(np.rint(v))) + z[c]
        return
    for c in range(x.size):
        v = np.float32(np.float32(x[c]) * s[c])
        if inside:
            v = np.float32(v + np.float32(z[c]))
        if clamped:
            v = min(max(v, np.float32(low[c])), np.float32(high[c]))
        y = np.int64(np.rint(v) if rounding == HALF_EVEN else half_away32(v))
        out[c] = y if inside else y + z[c]


@inner
def _float64_segment(x, s, low, high, z, clamped, out):
    wide()
    for i in range(x.size):
        v = np.float64(x[i]) * s
        if clamped:
            v = min(max(v, np.float64(low)), np.float64(high))
        out[i] = np.int64(half_away64(v)) + z


@inner
def _float64_row(x, s, low, high, z, clamped, out):
    wide()
    for c in range(x.size):
        v = np.float64(x[c]) * s[c]
        if clamped:
            v = min(max(v, np.float64(low[c])), np.float64(high[c]))
        out[c] = np.int64(half_away64(v)) + z[c]


@kernel
def float32_channels(x, s, rounding, inside, low, high, z, clamped, out):
    """float32 form of a 3-D array, half-even or half-away, zero point after or inside."""
    outer, channels, _ = x.shape
    for o in range(outer):
        for c in range(channels):
            _float32_segment(x[o, c], s[c], rounding, inside, low[c], high[c], z[c], clamped, out[o, c])


@kernel
def float32_rows(x, s, rounding, inside, low, high, z, clamped, out):
    """float32 form of a 2-D array, parameters 1-D over the last axis."""
    for o in range(x.shape[0]):
        _float32_row(x[o], s, rounding, inside, low, high, z, clamped, out[o])


@kernel
def float64_rows(x, s, low, high, z, clamped, out):
    """float64 form of a 2-D array, parameters 1-D over the last axis."""
    for o in range(x.shape[0]):
        _float64_row(x[o], s, low, high, z, clamped, out[o])


@kernel
def float64_channels(x, s, low, high, z, clamped, out):
    """float64 form of a 3-D array, half away from zero, zero point after."""
    outer, channels, _ = x.shape
    for o in range(outer):
        for c in range(channels):
            _float64_segment(x[o, c], s[c], low[c], high[c], z[c], clamped, out[o, c])


@kernel
def float32_bounded(x, s, rounding, inside, low, high, z, out):
    """float32 form with bounds that float32 may not hold: they are applied to the rounded result, in float64."""
    outer, channels, length = x.shape
    for o in range(outer):
        for c in range(channels):
            bottom, top = np.float64(low[c]), np.float64(high[c])
            for k in range(length):
                v = np.float32(np.float32(x[o, c, k]) * s[c])
                if inside:
                    v = np.float32(v + np.float32(z[c]))
                r = np.float64(np.rint(v) if rounding == HALF_EVEN else half_away32(v))
                y = np.int64(min(max(r, bottom), top))
                out[o, c, k] = y if inside else y + z[c]


@kernel
def float_wrapped(x, s, bits, rounding, top, z, qmin, qmax, out):
    """Float form with x86-64 overflow: ``min(v, top)``, conversion to INT32_MIN, z modulo 2**32, clamp."""
    outer, channels, length = x.shape
    for o in range(outer):
        for c in range(channels):
            for k in range(length):
                if bits == 32:
                    v32 = min(np.float32(np.float32(x[o, c, k]) * np.float32(s[c])), np.float32(top[c]))
                    r = np.float64(np.rint(v32) if rounding == HALF_EVEN else half_away32(v32))
                else:
                    r = half_away64(min(np.float64(x[o, c, k]) * s[c], top[c]))
                y = np.int64(-2147483648)
                if r >= -2147483648.0 and r < 2147483648.0:
                    y = np.int64(r)
                out[o, c, k] = min(max(np.int64(np.int32(y + z[c])), qmin), qmax)


@kernel
def nested16_rows(x, mantissa, exponent, z, qmin, qmax, out):
    """rndnu16 of a 2-D array, parameters 1-D over the last axis."""
    wide()
    for o in range(x.shape[0]):
        for c in range(x.shape[1]):
            right = max(-exponent[c], 0) & 63
            pre = ((np.int64(x[o, c]) << (max(exponent[c], 0) & 63)) + ((np.int64(1) << right) >> 1)) >> right
            y = ((min(max(pre, -32768), 32767) * mantissa[c] + 16384) >> 15) + z[c]
            out[o, c] = min(max(min(max(y, -32768), 32767), qmin), qmax)


@kernel
def nested16(x, mantissa, exponent, z, qmin, qmax, out):
    """rndnu16: half-up pre-shift saturated to int16, 15-bit product half up, saturating int16 zero point."""
    wide()
    outer, channels, length = x.shape
    for o in range(outer):
        for c in range(channels):
            right = max(-exponent[c], 0)
            left = max(exponent[c], 0)
            half = (np.int64(1) << right) >> 1
            for k in range(length):
                pre = ((np.int64(x[o, c, k]) << left) + half) >> right
                pre = min(max(pre, -32768), 32767)
                y = (pre * mantissa[c] + 16384) >> 15
                y = min(max(y + z[c], -32768), 32767)
                out[o, c, k] = min(max(y, qmin), qmax)
