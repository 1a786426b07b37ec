"""Statistics for calibration on a device. Meaning: `qengine.kernels.reference.calibrate`.

Samples are host or device arrays; what decides (extremes, counts, the candidates that won) comes back to the host, so
that every function here waits for the device.
"""

from __future__ import annotations

import numpy as np

from . import load

THREADS, WARP = 256, 32
WARPS = THREADS // WARP
#: Samples of a warp's piece.
PIECE = 8192
#: Samples of a host array that are on the device at one time, where their extremes are asked for.
HELD = 1 << 26
#: Candidates that a warp takes together.
TOGETHER = 8


def held(rows):
    """Return samples as a device array, once for many searches."""
    return load.array_module().asarray(rows)


def _blocks(threads):
    return max(1, min(-(-threads // THREADS), 8 * load.multiprocessors()))


def extrema(rows, group, holes=False):
    """Return (lowest, highest) of each segment; a NaN or an infinity in it shows up in at least one of them.

    With `holes`, NaN is passed over; a segment of nothing else has NaN in both. Host samples go to the device in
    pieces of at most `HELD`.
    """
    return tuple(_reals(keys, rows.dtype) for keys in _ends(rows, group, holes))


def _ends(rows, group, holes):
    """Return the patterns of the least and of the greatest sample of each segment, in the order of the reals."""
    count, length = rows.shape
    if isinstance(rows, np.ndarray) and rows.size > HELD:
        if count == 1 and group >= length:  # one segment
            cuts = [_ends(rows[:, at : at + HELD], HELD, holes) for at in range(0, length, HELD)]
            low, high = (np.stack(side) for side in zip(*cuts, strict=True))
            return low.min(axis=0), high.max(axis=0)
        step = max(1, HELD // length) if count > 1 else max(1, HELD // group) * group
        cuts = [
            _ends(rows[at : at + step] if count > 1 else rows[:, at : at + step], group, holes)
            for at in range(0, count if count > 1 else length, step)
        ]
        return tuple(np.concatenate(side, axis=0 if count > 1 else 1) for side in zip(*cuts, strict=True))
    arrays, rows = load.array_module(), held(rows)
    bits = 8 * rows.dtype.itemsize
    word = np.dtype(f"u{bits // 8}")
    shape = count, -(-length // group)
    segments = shape[0] * shape[1]
    low, high = arrays.full(segments, np.iinfo(word).max, word), arrays.full(segments, 0, word)
    pieces = -(-min(group, length) // PIECE)
    load.launch(
        "calibrate", f"extrema_f{bits}", _blocks(segments * pieces * WARP), THREADS, rows, count, length, group,
        pieces, holes, low, high,
    )  # fmt: skip
    return tuple(keys.get().reshape(shape) for keys in (low, high))


def _reals(keys, dtype):
    """Return the floats whose patterns, in the order of the reals, are these; NaN where no sample was looked at."""
    top = keys.dtype.type(1) << keys.dtype.type(8 * keys.itemsize - 1)
    return np.where(keys & top != 0, keys ^ top, ~keys).view(dtype)


def count_keys(row, mantissa_bits):
    """Count finite float32 samples by key: the bits above `mantissa_bits`, rounded to nearest, ties away.

    Returns (keys, counts), int64, keys ascending. Fewer than 2**31 samples: the table is uint32.
    """
    arrays, row = load.array_module(), held(row)
    shift = 23 - mantissa_bits
    table = arrays.zeros(1 << (32 - shift), np.uint32)
    if row.size:
        load.launch("calibrate", "count_keys", _blocks(-(-row.size // 16)), THREADS, row.size, row, shift, table)
    counts = table.get()
    keys = np.flatnonzero(counts)
    return keys.astype(np.int64), counts[keys].astype(np.int64)


def _search(x, weight, rows, length, group, scale, zero_point, numbers, unit, best):
    """Return (index, best) of every segment, flat."""
    arrays = load.array_module()
    qmin, qmax, gamma, margin = numbers
    candidates, segments = scale.shape[-1], rows * -(-length // group)
    pieces = -(-group // PIECE)
    scale, zero_point, unit, best = (
        arrays.asarray(np.ascontiguousarray(array, np.float64).reshape(-1)) for array in (scale, zero_point, unit, best)
    )
    parts = arrays.empty(segments * pieces * candidates, np.float64)
    cost = arrays.empty(segments * candidates, np.float64)
    index = arrays.empty(segments, np.int64)
    work = segments * pieces * -(-candidates // TOGETHER) * WARP
    load.launch(
        "calibrate", f"costs_f{8 * x.dtype.itemsize}", _blocks(work), THREADS, x, weight is not None,
        unit if weight is None else weight,
        rows, length, group, pieces, candidates, scale, zero_point, qmin, qmax, gamma, unit, parts,
    )  # fmt: skip
    load.launch(
        "calibrate", "add_costs", _blocks(segments * candidates), THREADS, segments, pieces, candidates, parts, cost
    )
    load.launch("calibrate", "choose", _blocks(segments), THREADS, segments, candidates, margin, cost, best, index)
    return index.get(), best.get()


def search(rows, group, scale, zero_point, qmin, qmax, gamma, margin, unit, best, index):
    """Find the candidate of least squared error for each segment, as the reference does."""
    x = held(rows)
    numbers = float(qmin), float(qmax), float(gamma), float(margin)
    found = _search(x, None, *x.shape, group, scale, zero_point, numbers, unit, best)
    index[...], best[...] = (part.reshape(best.shape) for part in found)


def search_weighted(x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best):
    """Do the same for one segment of samples `x` that occur `weight` times (both float64); return (index, best)."""
    x, weight = held(x), held(weight)
    numbers = float(qmin), float(qmax), float(gamma), float(margin)
    index, best = _search(x, weight, 1, x.size, x.size, scale, zero_point, numbers, np.array(unit), np.array(best))
    return int(index[0]), float(best[0])


def entropy_counts(values, amax, bins):
    """Count magnitudes in bins: ``min(floor(|x| / amax * bins), bins - 1)`` in float64; NaN is passed over."""
    arrays = load.array_module()
    table = arrays.zeros(bins, np.uint64)
    values = held(values)
    load.launch(
        "calibrate", f"magnitudes_f{8 * values.dtype.itemsize}", _blocks(-(-values.size // 16)), THREADS, values.size,
        values, amax, bins, table,
    )  # fmt: skip
    return table.get().view(np.int64)
