"""Statistics of real tensors for calibration: extremes, histograms of float32 keys, search of scales.

Arrays of samples are rows (R, L), each cut into segments of `group` samples, the last one of a row possibly
shorter; results are (R, segments a row).
"""

import numpy as np


def held(rows):
    """Return samples as many searches take them: as they are."""
    return rows


def _starts(rows, group):
    return np.arange(0, rows.shape[1], group)


def extrema(rows, group):
    """Return (lowest, highest) of each segment; a NaN or an infinity in it shows up in at least one of them."""
    starts = _starts(rows, group)
    return np.minimum.reduceat(rows, starts, axis=1), np.maximum.reduceat(rows, starts, axis=1)


def count_keys(row, mantissa_bits):
    """Count finite float32 samples by key: the bits above `mantissa_bits`, rounded to nearest, ties away.

    Returns (keys, counts), int64, keys ascending.
    """
    shift = np.uint32(23 - mantissa_bits)
    keys = (row.view(np.uint32) + (np.uint32(1) << shift >> np.uint32(1))) >> shift
    keys, counts = np.unique(keys, return_counts=True)
    return keys.astype(np.int64), counts.astype(np.int64)


def _cost(x, weight, scale, zero_point, qmin, qmax, gamma, unit):
    q = np.rint(x / scale)
    clipped = np.clip(q, qmin - zero_point, qmax - zero_point)
    error = (x - clipped * scale) * unit
    error *= error
    error = np.where(q == clipped, error, gamma * error)
    return np.sum(np.where(np.isnan(x), 0.0, error) * weight)


def _search(x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best):
    index = -1
    for k in range(scale.size):
        cost = _cost(x, weight, scale[k], zero_point[k], qmin, qmax, gamma, unit)
        if cost < best * margin:
            best, index = cost, k
    return index, best


def search(rows, group, scale, zero_point, qmin, qmax, gamma, margin, unit, best, index):
    """Find the candidate of least squared error for each segment.

    ``cost = sum(w * ((x - c * scale) * unit)**2)``, ``c = clip(rint(x / scale), qmin - z, qmax - z)``, in float64;
    w is `gamma` where c clips and 1 elsewhere. A candidate replaces the best before it only if its cost is below
    `margin` times that one's. NaN samples are left out.

    `scale` and `zero_point` are (R, segments, K) float64; `unit` and `best` (R, segments) float64, `best` the
    cost to beat on entry and the least one on exit; `index` (R, segments) int64, -1 where no candidate wins.
    """
    starts = _starts(rows, group)
    for r in range(rows.shape[0]):
        for j, start in enumerate(starts):
            x = rows[r, start : start + group].astype(np.float64)
            index[r, j], best[r, j] = _search(
                x, 1.0, scale[r, j], zero_point[r, j], qmin, qmax, gamma, margin, unit[r, j], best[r, j]
            )


def search_weighted(x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best):
    """Do the same for one segment of samples `x` that occur `weight` times (both float64); return (index, best)."""
    return _search(x, weight, scale, zero_point, qmin, qmax, gamma, margin, unit, best)
