"""Statistics of real tensors for calibration: extremes, histograms of float32 keys, search of scales.

Arrays of samples are rows (R, L), each cut into segments of `group` samples, the last one of a row possibly
shorter; results are (R, segments a row). Meaning: `qengine.kernels.reference.calibrate`.
"""

import numpy as np

from .jit import inlined, inner, kernel, read_only, wide

#: Partial sums a segment: a loop over them is a vector operation, and their order is fixed.
LANES = 32
#: Samples between two looks whether a candidate has already lost.
BLOCK = 4096


def held(rows):
    """Return samples as many searches take them: as they are."""
    return rows


@inner
def _extrema(words, mask, shift):
    """Return the least and greatest of float patterns in the order of the reals (NaN beyond the infinities)."""
    wide()
    low, high = mask, ~mask
    for i in range(words.size):
        v = words[i] ^ ((words[i] >> shift) & mask)
        low, high = min(low, v), max(high, v)
    return low, high


@kernel
def _segment_extrema(words, group, mask, shift, low, high):
    for r in range(words.shape[0]):
        for j in range(low.shape[1]):
            row = words[r]
            low[r, j], high[r, j] = _extrema(row[j * group : min((j + 1) * group, row.size)], mask, shift)


def extrema(rows, group):
    """Return (lowest, highest) of each segment; a NaN or an infinity in it shows up in at least one of them."""
    bits = 8 * rows.itemsize
    integer = np.dtype(f"i{rows.itemsize}")
    mask = integer.type(2 ** (bits - 1) - 1)
    shape = rows.shape[0], -(-rows.shape[1] // group)
    low, high = np.empty(shape, integer), np.empty(shape, integer)
    _segment_extrema(read_only(rows.view(integer)), group, mask, integer.type(bits - 1), low, high)
    for words in (low, high):
        words ^= (words >> integer.type(bits - 1)) & mask
    return low.view(rows.dtype), high.view(rows.dtype)


@kernel
def _count(words, half, shift, table):
    for i in range(words.size):
        table[(words[i] + half) >> shift] += np.int32(1)


@kernel
def _drain(table, keys, counts):
    """Move the used cells of a table into lists of keys and counts; return how many."""
    used = 0
    for key in range(table.size):
        if table[key] != 0:
            keys[used], counts[used] = key, table[key]
            used += 1
    return used


@kernel
def _used(table):
    wide()
    used = 0
    for key in range(table.size):
        used += table[key] != 0
    return used


def count_keys(row, mantissa_bits):
    """Count finite float32 samples by key: the bits above `mantissa_bits`, rounded to nearest, ties away.

    Returns (keys, counts), int64, keys ascending. Fewer than 2**31 samples: the table is int32.
    """
    shift = 23 - mantissa_bits
    table = np.zeros(1 << (32 - shift), np.int32)
    _count(read_only(row.view(np.uint32)), np.uint32((1 << shift) >> 1), np.uint32(shift), table)
    used = _used(table)
    keys, counts = np.empty(used, np.int64), np.empty(used, np.int64)
    _drain(table, keys, counts)
    return keys, counts


@inlined
def _cost(v, scale, low, high, gamma, unit):
    """Squared error of one sample, `gamma` times that where its code is clamped."""
    q = np.rint(v / scale)
    c = min(max(q, low), high)
    e = (v - c * scale) * unit
    e *= e
    return e if q == c else gamma * e


@inner
def _block(x, weight, start, count, scale, low, high, gamma, unit, lanes):
    """Add the costs of `count` samples to the lanes; whole lanes first, the rest to the first ones."""
    wide()
    whole = count // LANES * LANES
    for i in range(start, start + whole, LANES):
        for lane in range(LANES):
            v = np.float64(x[i + lane])
            e = _cost(v, scale, low, high, gamma, unit)
            if weight is not None:
                e *= weight[i + lane]
            lanes[lane] += e if v == v else 0.0
    for lane in range(count - whole):
        i = start + whole + lane
        v = np.float64(x[i])
        e = _cost(v, scale, low, high, gamma, unit)
        if weight is not None:
            e *= weight[i]
        lanes[lane] += e if v == v else 0.0


@inner
def _segment_search(x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best, lanes):
    index = -1
    for k in range(scale.size):
        lanes[:] = 0.0
        bound, cost = best * margin, 0.0
        low, high = qmin - zero_point[k], qmax - zero_point[k]
        for start in range(0, x.size, BLOCK):
            _block(x, weight, start, min(BLOCK, x.size - start), scale[k], low, high, gamma, unit, lanes)
            cost = 0.0
            for lane in range(LANES):
                cost += lanes[lane]
            if cost >= bound:  # sums only grow
                break
        if cost < bound:
            best, index = cost, k
    return index, best


@kernel
def _search(rows, group, scale, zero_point, qmin, qmax, gamma, margin, unit, best, index):
    lanes = np.empty(LANES)
    for r in range(rows.shape[0]):
        for j in range(best.shape[1]):
            row = rows[r]
            x = row[j * group : min((j + 1) * group, row.size)]
            index[r, j], best[r, j] = _segment_search(
                x, None, scale[r, j], zero_point[r, j], qmin, qmax, gamma, margin, unit[r, j], best[r, j], lanes
            )


@kernel
def _search_weighted(x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best):
    return _segment_search(
        x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best, np.empty(LANES)
    )  # fmt: skip


def search(rows, group, scale, zero_point, qmin, qmax, gamma, margin, unit, best, index):
    """Find the candidate of least squared error for each segment, as the reference does."""
    scale, zero_point = (np.ascontiguousarray(a) for a in (scale, zero_point))
    numbers = float(qmin), float(qmax), float(gamma), float(margin)
    _search(read_only(rows), group, scale, zero_point, *numbers, unit, best, index)


def search_weighted(x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best):
    """Do the same for one segment of samples `x` that occur `weight` times (both float64); return (index, best)."""
    numbers = float(qmin), float(qmax), float(gamma), float(margin)
    return _search_weighted(x, weight, scale, zero_point, *numbers, float(unit), float(best))
