"""Error statistics of many quantizers in one pass over a tile of a tensor.

Each block of x is read once and stays in the first-level cache while every quantizer runs over it. A block that a
quantizer takes to the nearest codes without clamping, ties or non-finite numbers goes in one fused loop over the
input (`lanes.NEAREST`); any other goes by `affine`, loop by loop, with the same sums in the same order.
"""

import math

import numpy as np

from ..codes import (
    AFFINE_BITS,
    AFFINE_FAMILY,
    AFFINE_FAST,
    AFFINE_QMAX,
    AFFINE_QMIN,
    COUNT,
    COUNT_CLIPPED,
    COUNTS,
    DRAW_GROUP,
    ERROR_BINS,
    ERROR_LINEAR,
    ERROR_OCTAVE,
    ERROR_OCTAVES,
    ERROR_OFFSET,
    ERROR_SIDE,
    ERROR_STEP,
    ERROR_TOLERANCE,
    FAST_FLOAT32,
    FIELDS,
    FORMAT_FAMILY,
    LANES,
    MAX_ABS,
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
from .affine import BLOCK, block_buffers, code_and_value, fill_parameters
from .jit import inner, kernel, prefetch, wide
from .lanes import NEAREST, add_block, extremes

u64 = np.uint64
#: Code of an element that is left out: neither counted nor clamped.
LEFT_OUT = np.int32(-(2**31))
#: Copies of a table of counts, so that equal neighbours do not wait for each other's store.
COPIES = 4

_PLAIN, _KEEPING = (NEAREST[0][0], NEAREST[1][0]), (NEAREST[0][1], NEAREST[1][1])
_double, _double_clamped = _PLAIN[0]
_single, _single_clamped = _PLAIN[1]
_double_keep, _double_keep_clamped = _KEEPING[0]
_single_keep, _single_keep_clamped = _KEEPING[1]


@inner
def _nearest(x, start, n, to, scale, zero_point, qmin, qmax, single, limits, keep, clips, code, error):
    """Take the fused loop into the state at address `to`: the number of clamped elements, or -1."""
    wide()
    c, e = code.ctypes.data, error.ctypes.data
    if single:
        if keep:
            if clips:
                return _single_keep_clamped(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
            return _single_keep(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
        if clips:
            return _single_clamped(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
        return _single(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
    if keep:
        if clips:
            return _double_keep_clamped(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
        return _double_keep(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
    if clips:
        return _double_clamped(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)
    return _double(x, start, n, to, scale, zero_point, qmin, qmax, limits, c, e)


@inner
def _segment(x, value, code, start, n, pad_x, pad_value, pad_code, state):
    """Add elements ``start .. start + n - 1`` of the block's buffers to the state, zeros after the last."""
    wide()
    full = n // LANES * LANES
    to = state.ctypes.data
    if full:
        add_block(
            x.ctypes.data + 8 * start, value.ctypes.data + 8 * start, code.ctypes.data + 4 * start, full, to
        )  # fmt: skip
    if full < n:
        for k in range(LANES):
            pad_x[k], pad_value[k], pad_code[k] = 0.0, 0.0, 0
        for k in range(n - full):
            i = start + full + k
            pad_x[k], pad_value[k], pad_code[k] = x[i], value[i], code[i]
        add_block(pad_x.ctypes.data, pad_value.ctypes.data, pad_code.ctypes.data, LANES, to)


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


@inner
def error_bin(u):
    """Bin of an error of u steps: linear up to one step, then eight an octave."""
    size = abs(u)
    if size < 1.0:
        m = np.int64(size * ERROR_LINEAR)
    else:
        fraction, exponent = math.frexp(size)  # size = fraction * 2**exponent, fraction in [0.5, 1)
        octave = min(np.int64(exponent) - 1, ERROR_OCTAVES)
        m = ERROR_LINEAR + octave * ERROR_OCTAVE + np.int64((2.0 * fraction - 1.0) * ERROR_OCTAVE)
        m = min(m, ERROR_SIDE - 1)
    return ERROR_SIDE - 1 - m if u < 0 else ERROR_SIDE + m


@inner
def _bin_indices(error, n, per_step, index):
    """Write the bins of errors below a step, as `error_bin` finds them; return whether all are."""
    wide()
    beyond = np.int32(0)
    for i in range(u64(n)):
        size = abs(error[i] * per_step) * ERROR_LINEAR
        beyond |= np.int32(size >= ERROR_LINEAR)
        m = np.int32(min(size, np.float64(ERROR_LINEAR)))
        index[i] = np.int32(ERROR_SIDE - 1) - m if error[i] < 0 else np.int32(ERROR_SIDE) + m
    return beyond == 0


@inner
def _count_codes(code, n, levels, clean, table):
    """Count code indices, of clamped elements too; ``-1 - index`` is the complement of an index."""
    spread = u64(levels if levels <= 4096 else 0)
    if not clean:
        for i in range(n):
            if code[i] != LEFT_OUT:
                table[u64(code[i] ^ (code[i] >> 31))] += 1
        return
    one, two, three = spread, spread + spread, spread + spread + spread
    full = u64(n // COPIES)
    for j in range(full):
        i = u64(COPIES) * j
        a, b, c, d = code[i], code[i + u64(1)], code[i + u64(2)], code[i + u64(3)]
        table[u64(np.uint32(a ^ (a >> 31)))] += 1
        table[one + u64(np.uint32(b ^ (b >> 31)))] += 1
        table[two + u64(np.uint32(c ^ (c >> 31)))] += 1
        table[three + u64(np.uint32(d ^ (d >> 31)))] += 1
    for i in range(COPIES * (n // COPIES), n):
        table[u64(np.uint32(code[i] ^ (code[i] >> 31)))] += 1


@inner
def _count_errors(error, code, index, n, per_step, clean, linear, table):
    """Count error bins; `linear` says that no error exceeds a step."""
    if not (clean and linear):
        for i in range(n):
            if code[i] != LEFT_OUT:
                table[u64(error_bin(error[i] * per_step))] += 1
        return
    bins = u64(ERROR_BINS)
    full = u64(n // COPIES)
    for j in range(full):
        i = u64(COPIES) * j
        a, b, c, d = index[i], index[i + u64(1)], index[i + u64(2)], index[i + u64(3)]
        table[u64(np.uint32(a))] += 1
        table[bins + u64(np.uint32(b))] += 1
        table[bins + bins + u64(np.uint32(c))] += 1
        table[bins + bins + bins + u64(np.uint32(d))] += 1
    for i in range(COPIES * (n // COPIES), n):
        table[u64(np.uint32(index[i]))] += 1


@inner
def _load(x, start, n, buffer):
    """Widen n elements; return whether all are finite."""
    wide()
    for line in range(0, n * x.itemsize, 64):
        prefetch(x.ctypes.data + start * x.itemsize + BLOCK * x.itemsize + line)
    for i in range(u64(n)):
        buffer[i] = np.float64(x[u64(start) + i])
    rubbish = np.int64(0)
    for i in range(u64(n)):
        rubbish |= np.int64(not abs(buffer[i]) < np.inf)
    return rubbish == 0


@inner
def _silence(buffer, n, first, bad):
    """Put zeros for what is not finite; `bad` is (count, first index)."""
    for i in range(n):
        if not abs(buffer[i]) < np.inf:
            buffer[i] = 0.0
            if bad[0] == 0:
                bad[1] = first + i
            bad[0] += 1


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
        count += np.int32(c < 0) & np.int32(c != LEFT_OUT)
    return count


@inner
def _kept(code, start, n):
    wide()
    count = np.int32(0)
    for i in range(u64(n)):
        count += np.int32(code[u64(start) + i] != LEFT_OUT)
    return count


@inner
def _stretch(x, start, n, lanes, clean, low_high):
    """Widen [low, high] to hold n elements; of those that are not `clean`, the finite ones."""
    full = n // LANES * LANES if clean else 0
    if full:
        lanes[0, :], lanes[1, :] = np.inf, -np.inf
        extremes(x, start, full, lanes.ctypes.data)
        for k in range(LANES):
            low_high[0], low_high[1] = min(low_high[0], lanes[0, k]), max(low_high[1], lanes[1, k])
    for i in range(start + full, start + n):
        v = np.float64(x[i])
        if abs(v) < np.inf:
            low_high[0], low_high[1] = min(low_high[0], v), max(low_high[1], v)


@kernel
def tile(
    x, first, length, channels, rows, layouts, places, scales, zero_points, numbers, format_rows, format_numbers,
    histograms, starts, bad,
):  # fmt: skip
    """Return (sums, counts, extremes, code counts, error bins) of flat x, whose element 0 is element `first` of the tensor.

    Element i belongs to metric channel ``i // length % channels``. Quantizer k has row ``rows[k]``, parameters from
    ``places[k]`` on in `scales` and `zero_points` by ``layouts[k]``, and codes counted from ``starts[k]`` on.
    """
    wide()
    quantizers = rows.shape[0]
    sums = np.zeros((quantizers, channels, FIELDS))
    counts = np.zeros((quantizers, channels, COUNTS), np.int64)
    low_high, lanes = np.empty((channels, 2)), np.empty((2, LANES))
    low_high[:, 0], low_high[:, 1] = np.inf, -np.inf
    tables = np.zeros((COPIES * starts[quantizers]) if histograms else 1, np.int32)
    bins = np.zeros((quantizers if histograms else 1, COPIES * ERROR_BINS), np.int32)
    buffers = block_buffers(9)
    buffer, scale, inverse, zero_point = buffers[0], buffers[1], buffers[2], buffers[3]
    uniform, v, value, error = buffers[4], buffers[5], buffers[6], buffers[7]
    code, index = buffers[8].view(np.int32)[:BLOCK], buffers[8].view(np.int32)[BLOCK:]
    words = np.empty((4, DRAW_GROUP // 4), np.uint32)
    pad_x, pad_value, pad_code = np.empty(LANES), np.empty(LANES), np.empty(LANES, np.int32)
    state = np.empty((quantizers, FIELDS, LANES))
    for k in range(quantizers):
        _reset(state[k], numbers[k, ERROR_OFFSET])
    clamps = np.zeros(quantizers, np.bool_)
    base, stride = state.ctypes.data, FIELDS * LANES * 8
    columns = channels > 1 and length == 1
    channel = first // length % channels
    start = 0
    while start < x.size:
        i0 = first + start
        n = min(BLOCK - i0 % BLOCK, x.size - start)
        one = not columns and (channels == 1 or length - i0 % length >= n)
        if one and i0 // length % channels != channel:
            for k in range(quantizers):
                _flush(state[k], numbers[k, ERROR_OFFSET], sums[k, channel])
            channel = i0 // length % channels
        loaded, clean = False, True
        for k in range(quantizers):
            # No slices of arrays before the fused loop: their reference counts cost as much as 60 elements.
            place, step, fast = places[k], numbers[k, ERROR_STEP], rows[k, AFFINE_FAST]
            line, group = layouts[k, 0], layouts[k, 1]
            column = i0 % line
            constant = group - column % group >= n and line - column >= n
            done = False
            if one and constant and n % LANES == 0 and fast != 0:
                at = place + (i0 // line % layouts[k, 3]) * layouts[k, 2] + column // group
                s, z = scales[at], zero_points[at]
                qmin, qmax = np.float64(rows[k, AFFINE_QMIN]), np.float64(rows[k, AFFINE_QMAX])
                limits = s * (0.5 - numbers[k, ERROR_TOLERANCE]), s * (0.5 + numbers[k, ERROR_TOLERANCE])
                to, single, clamp = base + stride * k, fast == FAST_FLOAT32, clamps[k]
                clipped = _nearest(
                    x, start, n, to, s, z, qmin, qmax, single, limits, histograms, clamp, code, error
                )  # fmt: skip
                if clipped < 0 and not clamp:
                    clipped = _nearest(
                        x, start, n, to, s, z, qmin, qmax, single, limits, histograms, True, code, error
                    )  # fmt: skip
                    clamps[k] = clipped >= 0
                elif clipped == 0:
                    clamps[k] = False
                done = clipped >= 0
                if done:
                    counts[k, channel, COUNT] += n
                    counts[k, channel, COUNT_CLIPPED] += clipped
            if not done:
                row, layout = rows[k], layouts[k]
                if not loaded:
                    clean = _load(x, start, n, buffer)
                    if not clean:
                        _silence(buffer, n, i0, bad)
                    loaded = True
                if row[AFFINE_FAMILY] == FORMAT_FAMILY:
                    fill_parameters(i0, n, layout, place, scales, zero_points, 64, value, inverse, zero_point)
                    formats.code_and_value(buffer, n, format_rows[k], format_numbers[k], value, code)
                else:
                    fill_parameters(
                        i0, n, layout, place, scales, zero_points, row[AFFINE_BITS], scale, inverse, zero_point
                    )  # fmt: skip
                    code_and_value(
                        buffer, n, i0, x.itemsize == 4, row, scale, inverse, zero_point, words, uniform, v, code, value
                    )  # fmt: skip
                if not clean:
                    _leave_out(x, start, n, code, value)
                if one:
                    _segment(buffer, value, code, 0, n, pad_x, pad_value, pad_code, state[k])
                    counts[k, channel, COUNT] += _kept(code, 0, n)
                    counts[k, channel, COUNT_CLIPPED] += _clipped(code, 0, n)
                elif columns:
                    piece = 0
                    while piece < n:
                        c = (i0 + piece) % channels
                        run = min(channels - c, n - piece)
                        _columns(buffer, value, code, piece, run, c, sums[k])
                        for j in range(run):
                            counts[k, c + j, COUNT] += np.int64(code[piece + j] != LEFT_OUT)
                            counts[k, c + j, COUNT_CLIPPED] += _clipped(code, piece + j, 1)
                        piece += run
                else:
                    piece, c = 0, channel
                    while piece < n:
                        if (i0 + piece) // length % channels != c:
                            _flush(state[k], numbers[k, ERROR_OFFSET], sums[k, c])
                            c = (i0 + piece) // length % channels
                        run = min(length - (i0 + piece) % length, n - piece)
                        _segment(buffer, value, code, piece, run, pad_x, pad_value, pad_code, state[k])
                        counts[k, c, COUNT] += _kept(code, piece, run)
                        counts[k, c, COUNT_CLIPPED] += _clipped(code, piece, run)
                        piece += run
                if histograms:
                    for i in range(u64(n)):
                        error[i] = buffer[i] - value[i]
            if histograms:
                _count_codes(code, n, starts[k + 1] - starts[k], done or clean, tables[COPIES * starts[k] :])
                linear = _bin_indices(error, n, 1.0 / step, index)
                _count_errors(error, code, index, n, 1.0 / step, done or clean, linear, bins[k])
        if one:
            _stretch(x, start, n, lanes, clean, low_high[channel])
        else:
            piece = 0
            while piece < n:
                run = min(length - (i0 + piece) % length, n - piece)
                _stretch(x, start + piece, run, lanes, clean, low_high[(i0 + piece) // length % channels])
                piece += run
            if not columns:
                channel = (i0 + n - 1) // length % channels
        start += n
    for k in range(quantizers):
        _flush(state[k], numbers[k, ERROR_OFFSET], sums[k, channel])
    code_counts = np.zeros(starts[quantizers] if histograms else 0, np.int64)
    error_counts = np.zeros((quantizers if histograms else 0, ERROR_BINS), np.int64)
    if histograms:
        for k in range(quantizers):
            levels = starts[k + 1] - starts[k]
            for copy in range(COPIES):
                for i in range(levels):
                    code_counts[starts[k] + i] += tables[COPIES * starts[k] + copy * levels + i]
                for i in range(ERROR_BINS):
                    error_counts[k, i] += bins[k, copy * ERROR_BINS + i]
    return sums, counts, low_high, code_counts, error_counts
