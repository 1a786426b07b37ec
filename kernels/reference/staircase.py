"""Thresholds by their definition, and what follows from them, in NumPy.

`evaluate` maps int64 accumulators (C, n) in ``[-2**31, 2**31)`` to outputs (C, n) and does not fall as they grow.
"""

import numpy as np

ALWAYS, NEVER = -(2**31), 2**31
#: Nothing has a closed form here: the caller gives all thresholds.
CLOSED = False
#: Channels and thresholds of a tile.
TILE, THRESHOLDS = 256, 1 << 22


def thresholds(evaluate, channels, first, n):
    """Return T (C, n): the least x in ``[-2**31, 2**31]`` with an output of at least ``first + 1 + i``.

    By bisection: 33 evaluations of every threshold, nothing assumed but that `evaluate` is monotone. The output at
    ``below`` is less than the code (or below is ``-2**31 - 1``), at ``above`` it is not (or above is ``2**31``).
    """
    codes = first + 1 + np.arange(n, dtype=np.int64)
    below = np.full((channels, n), ALWAYS - 1, dtype=np.int64)
    above = np.full((channels, n), NEVER, dtype=np.int64)
    while True:
        middle = (below + above) >> 1
        open_ = above - below > 1
        if not open_.any():
            return above
        met = evaluate(np.clip(middle, ALWAYS, NEVER - 1)) >= codes
        above = np.where(open_ & met, middle, above)
        below = np.where(open_ & ~met, middle, below)


def violations(evaluate, T, first):
    """Count the thresholds that evaluation contradicts: an output below the code at T, or not below it at T - 1."""
    codes = first + 1 + np.arange(T.shape[1], dtype=np.int64)
    at = evaluate(np.clip(T, ALWAYS, NEVER - 1)) < codes
    before = evaluate(np.clip(T - 1, ALWAYS, NEVER - 1)) >= codes
    outside = (T < ALWAYS) | (T > NEVER)
    return int((outside | ((T < NEVER) & at) | ((T > ALWAYS) & before)).sum())


def atoms(T, bottom, stop):
    """Cut ``[bottom, stop)`` where any row of T (K, n) steps: (starts, thresholds of each row up to there)."""
    inside = T[(bottom < T) & (stop > T)]
    starts = np.unique(np.concatenate([np.full(min(max(stop - bottom, 0), 1), bottom, np.int64), inside]))
    return starts, np.stack([np.searchsorted(row, starts, side="right") for row in T])


def count(T, bottom, stop):
    """Return {(i, j): number of x in ``[bottom, stop)`` on which rows i < j of T (K, n) differ}, as Python ints."""
    starts, values = atoms(T, bottom, stop)
    lengths = np.diff(np.append(starts, stop))
    sides = range(len(T))
    return {(i, j): int(lengths[values[i] != values[j]].sum()) for i in sides for j in sides if i < j}


def compare(
    rules, a, bp, bn, t, scale, z, shift, low, high, given, domain_low, domain_high, first, n, values, cumulative,
    full, out,
):  # fmt: skip
    """Compare every pair of sides in every channel, as `qengine.kernels.cpu.staircase.compare` does."""
    sides, channels = z.shape
    for c in range(channels):
        row = c if values.shape[0] > 1 else 0
        pair = 0
        for p in range(sides):
            for q in range(p + 1, sides):
                bottom, stop = max(domain_low[p, c], domain_low[q, c]), min(domain_high[p, c], domain_high[q, c]) + 1
                starts, steps = atoms(given[[p, q], c, 1:], bottom, max(stop, bottom))
                difference = steps[1] - steps[0]
                ends = np.append(starts[1:], stop)[: starts.size]
                sizes = ends - starts
                if values.shape[1]:
                    below = [cumulative[row, np.searchsorted(values[row], x)] for x in (starts, ends)]
                    sizes = below[1] - below[0]
                differ = difference != 0
                out[0, c, pair] = sizes[differ].sum()
                if full:
                    out[1:, c, pair] = 1, 0, 0, 0
                    if differ.any():
                        extremes = min(difference.min(), 0), max(difference.max(), 0)
                        out[1:, c, pair] = starts[differ][0], ends[differ][-1] - 1, *extremes
                pair += 1
