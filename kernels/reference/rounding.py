"""Rounding rules on float arrays, exact.

``v - trunc(v)`` is exact. ``v - floor(v)`` is not for small negative v, but rounds to 1/2 from above only, where half
up goes up anyway; half down therefore looks from ``ceil(v)``, where the same holds.
"""

import numpy as np

from ..codes import (
    DRAW_GROUP,
    HALF_AWAY,
    HALF_DOWN,
    HALF_EVEN,
    HALF_TOWARD_ZERO,
    HALF_UP,
    ROUND_CEIL,
    ROUND_FLOOR,
    ROUND_TRUNC,
)
from . import philox


def uniforms(seed, first, count):
    """Return float64 numbers in [0, 1) of elements ``first .. first + count - 1``: ``word / 2**32``."""
    quarter = DRAW_GROUP // 4
    group, last = first // DRAW_GROUP, (first + max(count, 1) - 1) // DRAW_GROUP
    words = philox.words((seed & 0xFFFFFFFF, seed >> 32), group * quarter, (last - group + 1) * quarter)
    flat = words.reshape(4, -1, quarter).transpose(1, 0, 2).reshape(-1)
    start = first - group * DRAW_GROUP
    return flat[start : start + count].astype(np.float64) * 2.0**-32


def round_real(v, rounding, uniform=None):
    """Round floats to whole floats by a rule; infinities stay. `uniform` is for the stochastic rule alone."""
    if rounding == HALF_EVEN:
        return np.rint(v)
    if rounding == ROUND_FLOOR:
        return np.floor(v)
    if rounding == ROUND_CEIL:
        return np.ceil(v)
    if rounding == ROUND_TRUNC:
        return np.trunc(v)
    half = v.dtype.type(0.5)
    with np.errstate(invalid="ignore"):  # inf - inf: the comparison is false and the infinity stays
        if rounding in (HALF_AWAY, HALF_TOWARD_ZERO):
            whole = np.trunc(v)
            rest = np.abs(v - whole)
            up = rest >= half if rounding == HALF_AWAY else rest > half
            return np.where(up, whole + np.copysign(v.dtype.type(1), v), whole)
        if rounding == HALF_DOWN:
            above = np.ceil(v)
            return np.where(above - v >= half, above - v.dtype.type(1), above)
        whole = np.floor(v)
        up = v - whole >= half if rounding == HALF_UP else v - whole > uniform
    return np.where(up, whole + v.dtype.type(1), whole)
