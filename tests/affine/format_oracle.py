"""Number formats once more, from the fields of their specifications, in fractions; imports nothing of qengine."""

import functools
import math
from bisect import bisect_right
from fractions import Fraction
from itertools import pairwise

import numpy as np

GRIDS = ("e4m3fn", "e5m2", "e3m2", "e2m3", "e2m1", "mxint8")
#: Largest finite, smallest normal, smallest subnormal, codes: OFP8 v1.0 table 1, MX v1.0 tables 3 to 6.
LIMITS = {
    "e4m3fn": (448.0, 2.0**-6, 2.0**-9, 256),
    "e5m2": (57344.0, 2.0**-14, 2.0**-16, 256),
    "e3m2": (28.0, 0.25, 0.0625, 64),
    "e2m3": (7.5, 1.0, 0.125, 64),
    "e2m1": (6.0, 1.0, 0.5, 16),
    "mxint8": (127 / 64, 1 / 64, 1 / 64, 256),
    "nf4": (1.0, 0.07958029955625534, 0.07958029955625534, 16),
    "e8m0": (2.0**127, 2.0**-127, 2.0**-127, 256),
}


@functools.cache
def magnitudes(name):
    """Return every finite magnitude in order, from the fields of the specification, and one step beyond."""
    if name == "mxint8":
        return [Fraction(i, 64) for i in range(129)]
    exponent_bits, mantissa_bits = int(name[1]), int(name[3])
    bias = 2 ** (exponent_bits - 1) - 1
    values = []
    for e in range(2**exponent_bits + 1):
        for f in range(2**mantissa_bits):
            significand = Fraction(f, 2**mantissa_bits) + (e > 0)
            values.append(significand * Fraction(2) ** (max(e, 1) - bias))
    finite = [v for v in values if v <= LIMITS[name][0]]
    return [*finite, values[len(finite)]]


def nearest(x, grid, rule):
    """Return (index in the grid, whether it is beyond) of a real by a rounding rule, exactly."""
    a, negative = abs(Fraction(x)), math.copysign(1.0, x) < 0
    i = bisect_right(grid, a) - 1
    if i == len(grid) - 1:
        return i, True
    low, high = grid[i], grid[i + 1]
    middle = (low + high) / 2
    up = {
        "half-even": a > middle or (a == middle and i % 2 == 1),
        "half-away": a >= middle,
        "half-up": a > middle or (a == middle and not negative),
        "half-down": a > middle or (a == middle and negative),
        "half-toward-zero": a > middle,
        "floor": a > low and negative,
        "ceil": a > low and not negative,
        "trunc": False,
    }[rule]
    i += up
    return i, i == len(grid) - 1


def code_of(x, name, rule="half-even", overflow="saturate"):
    """Return the code of a real, by search."""
    grid = magnitudes(name)
    i, beyond = nearest(x, grid, rule)
    if beyond:
        i = len(grid) - 2 if overflow == "saturate" else len(grid) - 1
    negative = math.copysign(1.0, x) < 0
    if name == "mxint8":
        return (-i if negative else i) % 256
    return i + (LIMITS[name][3] // 2 if negative else 0)


def critical(name):
    """Return every value, every midpoint, their neighbours in float64, zeros, extremes; both signs."""
    grid = magnitudes(name)
    points = [float(v) for v in grid] + [float((a + b) / 2) for a, b in pairwise(grid)]
    points += [3 * float(grid[1]) / 4, 1e-310, 5e-324, 1e-40, 1e300, 3.4e38, 2.0 * float(grid[-1])]
    near = [math.nextafter(p, side) for p in points for side in (0.0, math.inf)]
    return np.array([*sorted({*points, *near, *(-p for p in points + near)}), -0.0])


def nearest_fraction(v, grid):
    a = abs(v)
    i = bisect_right(grid, a) - 1
    if i == len(grid) - 1:
        return i, True
    middle = (grid[i] + grid[i + 1]) / 2
    i += a > middle or (a == middle and i % 2 == 1)
    return i, i == len(grid) - 1
