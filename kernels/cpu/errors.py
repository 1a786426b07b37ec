"""Error statistics of many quantizers in one pass over a tile of a tensor.

Each block of x is read once and stays in the first-level cache while every quantizer runs over it. A block that a
quantizer takes to the nearest codes without clamping, ties or non-finite numbers goes in one fused loop over the
input (`lanes.NEAREST`); any other goes by `affine`, loop by loop, with the same sums in the same order.

Arrays go from function to function one by one: a tuple of them would count references, atomically, at every call.
"""

import itertools

import numpy as np

from ..codes import (
    AFFINE_BITS,
    AFFINE_FAMILY,
    AFFINE_FAST,
    AFFINE_QMAX,
    AFFINE_QMIN,
    COUNT,
    COUNT_CLIPPED,
    COUNT_OVERFLOWED,
    COUNTS,
    DRAW_GROUP,
    ERROR_BINS,
    ERROR_OFFSET,
    ERROR_STEP,
    ERROR_TOLERANCE,
    FAST_FLOAT32,
    FAST_FLOAT64,
    FIELDS,
    FORMAT_FAMILY,
    LANES,
    MAX_ABS,
    NOT_FAST,
    SUM_ABS,
    SUM_CLIPPED_E2,
    SUM_CROSS,
    SUM_E2,
    SUM_E_HIGH,
    SUM_E_LOW,
    SUM_VALUE2,
    SUM_X2,
)
from . import formats
from .affine import BLOCK, block_buffers, code_and_value, fill_parameters, layout_of, quantizer
from .counts import COPIES, LEFT_OUT, OVERFLOWED, count_block
from .jit import inlined, inner, kernel, prefetch, wide
from .lanes import NEAREST, STRIDE, add_block, extremes

u64 = np.uint64
#: Elements that the fused loop takes at once where nothing is counted: adding a block to the state has a price.
LONG_BLOCK = 8 * BLOCK

_PLAIN, _KEEPING = (NEAREST[0][0], NEAREST[1][0]), (NEAREST[0][1], NEAREST[1][1])
_double, _double_clamped = _PLAIN[0]
_single, _single_clamped = _PLAIN[1]
_double_keep, _double_keep_clamped = _KEEPING[0]
_single_keep, _single_keep_clamped = _KEEPING[1]


@inlined
def _nearest(x, start, n, to, scale, zero_point, qmin, qmax, single, limits, clips, code, error):
    """Take the fused loop into the state at address `to`: the number of clamped elements, or -1."""
    wide()
    if code is None:
        if single:
            if clips:
                return _single_clamped(x, start, n, to, scale, zero_point, qmin, qmax, limits, 0, 0)
            return _single(x, start, n, to, scale, zero_point, qmin, qmax, limits, 0, 0)
        if clips:
            return _double_clamped(x, start, n, to, scale, zero_point, qmin, qmax, limits, 0, 0)
        return _double(x, start, n, to, scale, zero_point, qmin, qmax, limits, 0, 0)
    c, e = code.ctypes.data, error.ctypes.data
    if single:
        if clips:
            return _single_keep_clamped(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
        return _single_keep(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
    if clips:
        return _double_keep_clamped(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
    return _double_keep(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)


@inlined
def _segment(x, value, code, start, n, pad, pad_code, to):
    """Add elements ``start .. start + n - 1`` of the block's buffers to the state at `to`, zeros after the last."""
    wide()
    full = n // LANES * LANES
    if full:
        add_block(
            x.ctypes.data + 8 * start, value.ctypes.data + 8 * start, code.ctypes.data + 4 * start, full, to
        )  # fmt: skip
    if full < n:
        for k in range(LANES):
            pad[0, k], pad[1, k], pad_code[k] = 0.0, 0.0, 0
        for k in range(n - full):
            i = start + full + k
            pad[0, k], pad[1, k], pad_code[k] = x[i], value[i], code[i]
        add_block(pad.ctypes.data, pad.ctypes.data + 8 * LANES, pad_code.ctypes.data, LANES, to)


@inner
def _add_exactly(high, low, term):
    """Return (high, low) with ``high + low`` increased by a term: the rounding error of the sum goes to low."""
    total = high + term
    back = total - high
    return total, low + ((high - (total - back)) + (term - back))


@inner
def _flush(state, offset, sums):
    """Add the lanes of a channel's run to its sums, and start afresh."""
    for field in range(FIELDS):
        if field == MAX_ABS:
            for lane in range(LANES):
                sums[field] = max(sums[field], state[field, lane])
        elif field != SUM_E_HIGH and field != SUM_E_LOW:
            a = (state[field, 0] + state[field, 4]) + (state[field, 2] + state[field, 6])
            b = (state[field, 1] + state[field, 5]) + (state[field, 3] + state[field, 7])
            sums[field] += a + b
    high, low = sums[SUM_E_HIGH], sums[SUM_E_LOW]
    for lane in range(LANES):
        high, low = _add_exactly(high, low, state[SUM_E_HIGH, lane] - offset)
        low += state[SUM_E_LOW, lane]
    sums[SUM_E_HIGH], sums[SUM_E_LOW] = high, low
    _reset(state, offset)


@inner
def _reset(state, offset):
    state[:] = 0.0
    for lane in range(LANES):
        state[SUM_E_HIGH, lane] = offset


@inner
def _columns(x, value, code, start, n, channel, sums):
    """Add one element to each of n neighbouring channels."""
    wide()
    for k in range(n):
        i, s = start + k, sums[channel + k]
        e = x[i] - value[i]
        if code[i] < 0:
            s[SUM_CLIPPED_E2] += e * e
        else:
            s[SUM_E2] += e * e
        s[SUM_ABS] += abs(e)
        s[MAX_ABS] = max(s[MAX_ABS], abs(e))
        s[SUM_E_HIGH], s[SUM_E_LOW] = _add_exactly(s[SUM_E_HIGH], s[SUM_E_LOW], e)
        s[SUM_X2] += x[i] * x[i]
        s[SUM_VALUE2] += value[i] * value[i]
        s[SUM_CROSS] += x[i] * value[i]


@inlined
def _load(x, start, n, buffer):
    """Widen n elements, zeros for what is not finite; return whether all are finite."""
    wide()
    for line in range(0, n * x.itemsize, 64):
        prefetch(x.ctypes.data + start * x.itemsize + BLOCK * x.itemsize + line)
    for i in range(u64(n)):
        buffer[i] = np.float64(x[u64(start) + i])
    rubbish = np.int64(0)
    for i in range(u64(n)):
        rubbish |= np.int64(not abs(buffer[i]) < np.inf)
    if rubbish:
        for i in range(n):
            if not abs(buffer[i]) < np.inf:
                buffer[i] = 0.0
    return rubbish == 0


@inner
def _all_finite(x, n, code, value):
    """Leave out the elements that a format has made NaN or infinite; return whether there are none."""
    wide()
    odd = np.int64(0)
    for i in range(u64(n)):
        odd |= np.int64(not abs(value[i]) < np.inf)
    if odd:
        for i in range(n):
            if not abs(value[i]) < np.inf:
                x[i], value[i], code[i] = 0.0, 0.0, OVERFLOWED
    return odd == 0


@inner
def _leave_out(x, start, n, code, value):
    for i in range(n):
        if not abs(np.float64(x[start + i])) < np.inf:
            code[i], value[i] = LEFT_OUT, 0.0


@inner
def _clipped(code, start, n):
    wide()
    count = np.int32(0)
    for i in range(u64(n)):
        c = code[u64(start) + i]
        count += np.int32(c < 0) & np.int32(c > OVERFLOWED)
    return count


@inner
def _overflowed(code, start, n):
    wide()
    count = np.int32(0)
    for i in range(u64(n)):
        count += np.int32(code[u64(start) + i] == OVERFLOWED)
    return count


@inner
def _kept(code, start, n):
    wide()
    count = np.int32(0)
    for i in range(u64(n)):
        count += np.int32(code[u64(start) + i] > OVERFLOWED)
    return count


@inner
def _ends(x, start, n):
    """Return the least and greatest of n elements, NaN passed over."""
    low, high = extremes(x, start, n // STRIDE * STRIDE)
    for i in range(start + n // STRIDE * STRIDE, start + n):
        v = np.float64(x[i])
        low, high = (v if v < low else low), (v if v > high else high)
    return low, high


@inner
def _finite_ends(x, start, n, first, bad):
    """Return the least and greatest finite one of n elements, and count the others: (count, first index)."""
    low, high = np.inf, -np.inf
    for i in range(start, start + n):
        v = np.float64(x[i])
        if abs(v) < np.inf:
            low, high = min(low, v), max(high, v)
        else:
            if bad[0] == 0:
                bad[1] = first + i
            bad[0] += 1
    return low, high


@inlined
def _fused(
    x, start, n, i0, k, low, high, rows, layouts, places, scales, zero_points, numbers, to, code, error, count
):  # fmt: skip
    """Take quantizer k over n elements in ``[low, high]`` in the fused loop, if it can serve: tell whether it did."""
    wide()
    fast = rows[k, AFFINE_FAST]
    line, group = layouts[k, 0], layouts[k, 1]
    column = i0 % line
    if fast == NOT_FAST or n % LANES != 0 or group - column % group < n or line - column < n:
        return False
    at = places[k] + (i0 // line % layouts[k, 3]) * layouts[k, 2] + column // group
    s, z = scales[at], zero_points[at]
    qmin, qmax = np.float64(rows[k, AFFINE_QMIN]), np.float64(rows[k, AFFINE_QMAX])
    tolerance = numbers[k, ERROR_TOLERANCE]
    inside, outside = 0.5 - tolerance, 0.5 + tolerance
    clips = low < s * (qmin - z - inside) or high > s * (qmax - z + inside)
    single = fast == FAST_FLOAT32
    clipped = _nearest(x, start, n, to, s, z, qmin, qmax, single, (s * inside, s * outside), clips, code, error)
    if clipped < 0:
        return False
    count[0], count[1] = n, clipped
    return True


@inlined
def _codes_and_values(
    x, start, n, i0, k, rows, layouts, places, scales, zero_points, format_rows, format_numbers, words, buffer, scale,
    inverse, zero_point, uniform, v, code, value,
):  # fmt: skip
    """Write codes and values of quantizer k for n elements, by the convention's own arithmetic."""
    wide()
    row, layout, place = quantizer(rows, k), layout_of(layouts, k), places[k]
    clean = _load(x, start, n, buffer)
    ready = False
    if format_rows is not None:
        if row[AFFINE_FAMILY] == FORMAT_FAMILY:
            fill_parameters(i0, n, layout, place, scales, zero_points, 64, value, inverse, zero_point)
            formats.code_and_value(buffer, n, format_rows[k], format_numbers[k], value, code)
            clean &= _all_finite(buffer, n, code, value)
            ready = True
    if not ready:
        fill_parameters(i0, n, layout, place, scales, zero_points, row[AFFINE_BITS], scale, inverse, zero_point)
        code_and_value(
            buffer, n, i0, x.itemsize == 4, row, scale, inverse, zero_point, words, uniform, v, code, value
        )  # fmt: skip
    if not clean:
        _leave_out(x, start, n, code, value)
    return clean


@inlined
def _add_pieces(
    buffer, value, code, n, i0, k, channel, length, channels, offset, pad, pad_code, state, to, sums, counts
):  # fmt: skip
    """Add a block's elements to the sums of their channels; the state holds those of `channel` so far."""
    wide()
    piece = np.int64(0)
    while piece < n:
        c = (i0 + piece) // length % channels
        if length == 1 and channels > 1:
            run = min(channels - c, n - piece)
            _columns(buffer, value, code, piece, run, c, sums[k])
            for j in range(run):
                counts[k, c + j, COUNT] += np.int64(code[piece + j] > OVERFLOWED)
                counts[k, c + j, COUNT_CLIPPED] += _clipped(code, piece + j, 1)
                counts[k, c + j, COUNT_OVERFLOWED] += np.int64(code[piece + j] == OVERFLOWED)
        else:
            if c != channel:
                _flush(state[k], offset, sums[k, channel])
                channel = c
            run = min(length - (i0 + piece) % length, n - piece)
            _segment(buffer, value, code, piece, run, pad, pad_code, to)
            counts[k, c, COUNT] += _kept(code, piece, run)
            counts[k, c, COUNT_CLIPPED] += _clipped(code, piece, run)
            counts[k, c, COUNT_OVERFLOWED] += _overflowed(code, piece, run)
        piece += run


@inlined
def _count(buffer, value, code, error, cells, n, k, fused, clean, numbers, starts, tables, bins):
    """Count codes and errors of a block, whose errors the fused loop has written already."""
    wide()
    if not fused:
        for i in range(u64(n)):
            error[i] = buffer[i] - value[i]
    begin, levels = starts[k], starts[k + 1] - starts[k]
    count_block(error, code, n, 1.0 / numbers[k, ERROR_STEP], clean, levels, cells, tables[COPIES * begin :], bins[k])


@kernel
def _tile(
    x, first, length, channels, rows, layouts, places, scales, zero_points, numbers, format_rows, format_numbers,
    starts, tables, bins, buffers, code, cells, kept_code, kept_error, words, pad, pad_code, count, state, sums,
    counts, low_high, bad,
):  # fmt: skip
    wide()
    quantizers = rows.shape[0]
    buffer, scale, inverse, zero_point = buffers[0], buffers[1], buffers[2], buffers[3]
    uniform, v, value, error = buffers[4], buffers[5], buffers[6], buffers[7]
    states, stride = state.ctypes.data, 8 * FIELDS * LANES
    for k in range(quantizers):
        _reset(state[k], numbers[k, ERROR_OFFSET])
    columns = channels > 1 and length == 1
    longest = LONG_BLOCK if starts is None and (channels == 1 or length >= LONG_BLOCK) else BLOCK
    channel = first // length % channels
    start = np.int64(0)
    while start < x.size:
        i0 = first + start
        n = min(longest - i0 % longest, x.size - start)
        one = not columns and (channels == 1 or length - i0 % length >= n)
        if one and i0 // length % channels != channel:
            for k in range(quantizers):
                _flush(state[k], numbers[k, ERROR_OFFSET], sums[k, channel])
            channel = i0 // length % channels
        clean = True
        low, high = _ends(x, start, n)
        for k in range(quantizers):
            to = states + stride * k
            # Near-ties of float32 are frequent enough to spoil one long block in four.
            size = n if one and rows[k, AFFINE_FAST] == FAST_FLOAT64 else min(BLOCK - i0 % BLOCK, n)
            at, now = np.int64(0), channel
            while at < n:
                fused = one and _fused(
                    x, start + at, size, i0 + at, k, low, high, rows, layouts, places, scales, zero_points, numbers,
                    to, kept_code, kept_error, count,
                )  # fmt: skip
                if fused:
                    counts[k, channel, COUNT] += count[COUNT]
                    counts[k, channel, COUNT_CLIPPED] += count[COUNT_CLIPPED]
                elif size > BLOCK:
                    size = min(BLOCK - i0 % BLOCK, n)
                    continue
                else:
                    clean &= _codes_and_values(
                        x, start + at, size, i0 + at, k, rows, layouts, places, scales, zero_points, format_rows,
                        format_numbers, words, buffer, scale, inverse, zero_point, uniform, v, code, value,
                    )  # fmt: skip
                    _add_pieces(
                        buffer, value, code, size, i0 + at, k, now, length, channels, numbers[k, ERROR_OFFSET], pad,
                        pad_code, state, to, sums, counts,
                    )  # fmt: skip
                    if not one and not columns:
                        now = (i0 + at + size - 1) // length % channels
                if starts is not None:
                    _count(
                        buffer, value, code, error, cells, size, k, fused, clean, numbers, starts, tables, bins
                    )  # fmt: skip
                at += size
                size = min(BLOCK, n - at)
        piece = np.int64(0)
        while piece < n:
            run = min(length - (i0 + piece) % length, n - piece) if channels > 1 else n
            if not clean:
                low, high = _finite_ends(x, start + piece, run, first, bad)
            elif run < n:
                low, high = _ends(x, start + piece, run)
            place = (i0 + piece) // length % channels
            low_high[place, 0], low_high[place, 1] = min(low_high[place, 0], low), max(low_high[place, 1], high)
            piece += run
        if not one and not columns:
            channel = (i0 + n - 1) // length % channels
        start += n
    for k in range(quantizers):
        _flush(state[k], numbers[k, ERROR_OFFSET], sums[k, channel])


def tile(
    x, first, length, channels, rows, layouts, places, scales, zero_points, numbers, format_rows, format_numbers,
    starts, bad,
):  # fmt: skip
    """Return (sums, counts, extremes, code counts, error bins) of flat x.

    Element 0 of x is element `first` of the tensor; element i of the tensor belongs to metric channel
    ``i // length % channels``. Quantizer k has row ``rows[k]``, parameters from ``places[k]`` on in `scales` and
    `zero_points` by ``layouts[k]``, and its codes are counted from ``starts[k]`` on; nothing is counted where
    `starts` is None, and no quantizer is a number format where `format_rows` is: machine code without either is
    compiled for itself. `bad` becomes (count, first index) of what is not finite.
    """
    quantizers, keep = rows.shape[0], starts is not None
    buffers = block_buffers(10)
    code, cells = buffers[8].view(np.int32), buffers[9].view(np.int64)
    tables = np.zeros(COPIES * starts[-1], np.int32) if keep else None
    bins = np.zeros((quantizers, COPIES * ERROR_BINS), np.int32) if keep else None
    sums, counts = np.zeros((quantizers, channels, FIELDS)), np.zeros((quantizers, channels, COUNTS), np.int64)
    low_high = np.tile([np.inf, -np.inf], (channels, 1))
    _tile(
        x, first, length, channels, rows, layouts, places, scales, zero_points, numbers, format_rows, format_numbers,
        starts, tables, bins, buffers, code, cells, code if keep else None, buffers[7] if keep else None,
        np.empty((4, DRAW_GROUP // 4), np.uint32), np.empty((2, LANES)), np.empty(LANES, np.int32),
        np.zeros(COUNTS, np.int64), np.empty((quantizers, FIELDS, LANES)), sums, counts,
        low_high, bad,
    )  # fmt: skip
    if not keep:
        return sums, counts, low_high, np.zeros(0, np.int64), np.zeros((0, ERROR_BINS), np.int64)
    pieces = [tables[COPIES * a : COPIES * b].reshape(COPIES, b - a) for a, b in itertools.pairwise(starts.tolist())]
    code_counts = np.concatenate([piece.sum(axis=0, dtype=np.int64) for piece in pieces])
    error_counts = bins.reshape(quantizers, COPIES, ERROR_BINS).sum(axis=1, dtype=np.int64)
    return sums, counts, low_high, code_counts, error_counts
