"""Sums over multipliers by their definition, in Python integers: what every shorter way is held against.

A side is ``(bp, bn, t, low, high, z)``: the side of `.lattice` without its slope, which is the multiplier.
"""

import numpy as np

from .lattice import output
from .staircase import atoms


def clipped_sum(w, low, high, first, last):
    """Return ``sum of clip(floor(w / m), low, high)`` over the m of ``[first, last]``.

    >>> clipped_sum(10, -1, 4, 2, 4)            # 5 is clipped to 4; 3; 2
    9
    """
    return sum(min(max(w // m, low), high) for m in range(first, last + 1))


def census(a, b, first, last, lo, hi):
    """Return, over the multipliers ``[first, last]`` and accumulators ``[lo, hi]``: divergent pairs, sum of B - A.

    >>> census((2, 2, 2, -9, 9, 0), (2, 1, 2, -9, 9, 0), 2, 2, -4, 4)       # half up, half away: the ties -1, -3
    (2, -2)
    """
    differences = [
        output((m, *b), x) - output((m, *a), x) for m in range(first, last + 1) for x in range(lo, hi + 1)
    ]  # fmt: skip
    return sum(d != 0 for d in differences), sum(differences)


def by_thresholds(a, b, lo, hi, counts, sums):
    """Count and sum B - A over the accumulators ``[lo, hi]``, channel by channel, from thresholds (C, n) of both."""
    for c in range(lo.size):
        stop = max(hi[c] + 1, lo[c])
        starts, steps = atoms(np.stack([a[c], b[c]]), lo[c], stop)
        sizes, difference = np.diff(np.append(starts, stop)), steps[1] - steps[0]
        counts[c], sums[c] = sizes[difference != 0].sum(), (sizes * difference).sum()
