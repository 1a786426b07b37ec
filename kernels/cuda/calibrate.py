"""Statistics for calibration on a device. Meaning: `qengine.kernels.reference.calibrate`.

Samples are host or device arrays; what decides (extremes, counts, the candidates that won) comes back to the host, so
that every function here waits for the device. Host arrays go there in pieces of at most `load.PIECE` samples, larger
ones anew for each search; results are the same bits for pieces of any size.
"""

from __future__ import annotations

import numpy as np

from . import load

THREADS, WARP = 256, 32
#: Samples of a warp's piece.
PIECE = 8192
#: Candidates that a warp takes together.
TOGETHER = 8
#: Bytes of the costs of pieces.
ROOM = 1 << 28


def held(rows):
    """Return samples as many searches take them: on the device, where they are no more than a piece of a host array."""
    return load.array_module().asarray(rows) if not isinstance(rows, np.ndarray) or rows.size <= load.PIECE else rows


def _boxes(rows, group, limit):
    """Cut rows into (samples of at most about `limit`, first segment, segments): contiguous, in order.

    A box holds whole rows, else whole segments, else a part of one segment that begins at a warp's piece.
    """
    count, length = rows.shape
    a_row = -(-length // group)
    if step := limit // max(length, 1):
        for r in range(0, count, step):
            part = rows[r : r + step]
            yield part, r * a_row, part.shape[0] * a_row
        return
    whole, cut = limit // group, max(limit // PIECE, 1) * PIECE
    for r in range(count):
        if whole:
            for j in range(0, a_row, whole):
                yield rows[r : r + 1, j * group : (j + whole) * group], r * a_row + j, min(whole, a_row - j)
            continue
        for j in range(a_row):
            end = min((j + 1) * group, length)
            for at in range(j * group, end, cut):
                yield rows[r : r + 1, at : min(at + cut, end)], r * a_row + j, 1


def _on_device(rows, group, limit):
    """Yield what `_boxes` yields of rows, on the device."""
    limit = min(limit, load.PIECE) if isinstance(rows, np.ndarray) else limit
    for part, first, segments in _boxes(rows, group, limit):
        yield load.array_module().asarray(part), first, segments


def _blocks(threads):
    return max(1, min(-(-threads // THREADS), 8 * load.multiprocessors()))


def extrema(rows, group, holes=False):
    """Return (lowest, highest) of each segment; a NaN or an infinity in it shows up in at least one of them.

    With `holes`, NaN is passed over; a segment of nothing else has NaN in both.
    """
    arrays, (count, length) = load.array_module(), rows.shape
    bits = 8 * rows.dtype.itemsize
    word = np.dtype(f"u{bits // 8}")
    shape = count, -(-length // group)
    low, high = (arrays.full(shape[0] * shape[1], end, word) for end in (np.iinfo(word).max, 0))
    for part, first, segments in _on_device(rows, group, rows.size):
        mine, own = slice(first, first + segments), min(group, part.shape[1])
        pieces = -(-own // PIECE)
        load.launch(
            "calibrate", f"extrema_f{bits}", _blocks(segments * pieces * WARP), THREADS, part, *part.shape, own,
            pieces, holes, low[mine], high[mine],
        )  # fmt: skip
    return tuple(_reals(keys.get().reshape(shape), rows.dtype) for keys in (low, high))


def _reals(keys, dtype):
    """Return the floats whose patterns, in the order of the reals, are these; NaN where no sample was looked at."""
    top = keys.dtype.type(1) << keys.dtype.type(8 * keys.itemsize - 1)
    return np.where(keys & top != 0, keys ^ top, ~keys).view(dtype)


def count_keys(row, mantissa_bits):
    """Count finite float32 samples by key: the bits above `mantissa_bits`, rounded to nearest, ties away.

    Returns (keys, counts), int64, keys ascending. Fewer than 2**31 samples: the table is uint32.
    """
    arrays, shift = load.array_module(), 23 - mantissa_bits
    table = arrays.zeros(1 << (32 - shift), np.uint32)
    for (part,), *_ in _on_device(row.reshape(1, -1), 1, row.size):
        load.launch("calibrate", "count_keys", _blocks(-(-part.size // 16)), THREADS, part.size, part, shift, table)
    counts = table.get()
    keys = np.flatnonzero(counts)
    return keys.astype(np.int64), counts[keys].astype(np.int64)


def _search(rows, weight, group, scale, zero_point, numbers, unit, best):
    """Return (index, best) of every segment, flat; with weights there is one segment, on the device."""
    arrays = load.array_module()
    qmin, qmax, gamma, margin = numbers
    candidates, bits = scale.shape[-1], 8 * rows.dtype.itemsize
    segments = rows.shape[0] * -(-rows.shape[1] // group)
    scale, zero_point, unit, best = (
        arrays.asarray(np.ascontiguousarray(array, np.float64).reshape(-1)) for array in (scale, zero_point, unit, best)
    )
    cost = arrays.zeros(segments * candidates, np.float64)
    index = arrays.empty(segments, np.int64)
    limit = rows.size if weight is not None else max(ROOM // (8 * candidates), 1) * PIECE
    for part, first, some in _on_device(rows, group, limit):
        own, mine = min(group, part.shape[1]), slice(first, first + some)
        all_of_mine = slice(first * candidates, (first + some) * candidates)
        pieces = -(-own // PIECE)
        parts = arrays.empty(some * pieces * candidates, np.float64)
        work = some * pieces * -(-candidates // TOGETHER) * WARP
        load.launch(
            "calibrate", f"costs_f{bits}", _blocks(work), THREADS, part, weight is not None,
            unit if weight is None else weight, *part.shape, own, pieces, candidates, scale[all_of_mine],
            zero_point[all_of_mine], qmin, qmax, gamma, unit[mine], parts,
        )  # fmt: skip
        load.launch(
            "calibrate", "add_costs", _blocks(some * candidates), THREADS, some, pieces, candidates, parts,
            cost[all_of_mine],
        )  # fmt: skip
    load.launch("calibrate", "choose", _blocks(segments), THREADS, segments, candidates, margin, cost, best, index)
    return index.get(), best.get()


def search(rows, group, scale, zero_point, qmin, qmax, gamma, margin, unit, best, index):
    """Find the candidate of least squared error for each segment, as the reference does."""
    numbers = float(qmin), float(qmax), float(gamma), float(margin)
    found = _search(rows, None, group, scale, zero_point, numbers, unit, best)
    index[...], best[...] = (part.reshape(best.shape) for part in found)


def search_weighted(x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best):
    """Do the same for one segment of samples `x` that occur `weight` times (both float64); return (index, best)."""
    x, weight = (load.array_module().asarray(part) for part in (x, weight))
    numbers = float(qmin), float(qmax), float(gamma), float(margin)
    index, best = _search(x.reshape(1, -1), weight, x.size, scale, zero_point, numbers, np.array(unit), np.array(best))
    return int(index[0]), float(best[0])


def entropy_counts(values, amax, bins):
    """Count magnitudes in bins: ``min(floor(|x| / amax * bins), bins - 1)`` in float64; NaN is passed over."""
    arrays = load.array_module()
    table = arrays.zeros(bins, np.uint64)
    name = f"magnitudes_f{8 * values.dtype.itemsize}"
    for (part,), *_ in _on_device(values.reshape(1, -1), 1, values.size):
        load.launch("calibrate", name, _blocks(-(-part.size // 16)), THREADS, part.size, part, amax, bins, table)
    return table.get().view(np.int64)
