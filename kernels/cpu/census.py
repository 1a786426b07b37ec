"""Sums over multipliers on the CPU: the divergent accumulators of all multipliers of a range, together.

A multiplier m stands in a floor form as its slope, and nowhere else: the least accumulator with a result of r or more
is ``floor(w / m) + 1`` above zero and ``-floor(u / m)`` below, with w and u that depend on r and the scheme alone.
Summed over m these are divisor sums. For a raw output one accumulator is fixed instead: along m its outputs are floor
forms of slope ``|x|``, which the lattice engine counts. Where neither applies, each multiplier is counted.

Multipliers lie within ``[1, 2**31 - 1]``, accumulators within int32; sides are the rows and arrays of the two
engines (`.pieces`, `.staircase`).

Source of the walk along the hull: the count of lattice points under a hyperbola in cube-root time, as in the summatory
function of the number of divisors (R. Sladkey, 2012, arXiv:1206.3369).
"""

import numpy as np

from .jit import inner, kernel, wide
from .pieces import (
    B_A,
    B_B,
    BN,
    BP,
    HIGH,
    LOW,
    OFFSET,
    PIECES,
    T_A,
    X0,
    X1,
    ZERO_POINT,
    T,
    count_piece,
    count_ups,
    cut_pieces,
    gap,
    like,
    piece_of,
    side_of,
)
from .staircase import ALWAYS, boundary_width, fill_row, prepare_boundaries, union

u64, i64, f64 = np.uint64, np.int64, np.float64
#: Nanoseconds, about, of a division in a loop and of a step along the hull: they choose the way, never the result.
DIVISION, STEP = 1.0, 12.0
#: Directions that a walk along the hull can keep: more than it has needed anywhere (tests make do with three).
DEPTH = 1 << 18
#: Ways to a divisor sum: the cheapest, multiplier by multiplier, quotient by quotient, along the hull.
CHEAPEST, BY_MULTIPLIER, BY_QUOTIENT, BY_HULL = range(4)


# --- divisor sums -----------------------------------------------------------------------------------------------
@inner
def _quotients(w, first, last):
    """``sum of floor(w / d)`` over the d of ``[first, last]``; ``0 <= w < 2**63``, quotients below ``2**33``.

    The float64 quotient is off by at most ``2**33 * 2**-52``, its floor by one: the remainder tells.
    """
    wide()
    real = f64(w)
    total = i64(0)
    for i in range(u64(max(last - first + 1, 0))):
        d = first + i64(i)
        q = i64(real / f64(d))
        rest = w - q * d
        total += q + i64(rest >= d) - i64(rest < 0)
    return total


@inner
def _hull(w, first, last, stack):
    """``sum of floor(w / x)`` over the x of ``[first, last]``, in about ``w**(1/3)`` steps; ``w / first <= 2**31 + 1``.

    The points with ``x y > w`` and ``x <= last`` are a convex region. Its lattice points from column `first` on have a
    lower hull. No lattice point lies between the hull and the curve, so an edge from (x, y) to (x + g, y - k), g and k
    coprime, settles g columns: ``g (y - 1) - (g - 1)(k - 1) / 2`` points with y >= 1 lie below it.

    An edge is the steepest direction that leads into the region: it lies between a direction L that does and a
    steeper R that does not, neighbours in the Stern-Brocot tree. Their sum M replaces one of them, until M leads too
    far, or beyond it the way along L only leads off the curve. Edges only flatten: the L's of a search, stacked, begin
    the next one. A full stack ends the walk; what is left is summed one by one.

    Columns are below ``2**31``, heights at most ``2**31 + 2``: products stay below ``2**63``.
    """
    x, y = first, w // first + 1
    total, top = i64(0), 0
    stack[0, 0], stack[0, 1] = 1, 0
    g, k = i64(1), i64(0)
    r, s = i64(0), i64(1)
    while x < last:
        while x + g + r <= last:
            p, q = g + r, k + s
            if (x + p) * (y - q) > w:
                top += 1
                if top == stack.shape[0]:
                    return total + _quotients(w, x, last)
                stack[top, 0], stack[top, 1] = p, q
                g, k = p, q
            elif (y - q) * g <= (x + p) * k:
                break
            else:
                r, s = p, q
        while x + g <= last and (x + g) * (y - k) > w:
            total += g * (y - 1) - (((g - 1) * (k - 1)) >> 1)
            x, y = x + g, y - k
        while x < last and (x + g > last or (x + g) * (y - k) <= w):
            r, s = g, k
            top -= 1
            g, k = stack[top, 0], stack[top, 1]
    return total + y - 1


@inner
def _floors(w, first, last, stack, way):
    """``sum of floor(w / m)`` over the m of ``[first, last]``."""
    n = last - first + 1
    if n <= 0:
        return i64(0)
    least, most = w // last, w // first
    if way == CHEAPEST:
        way = BY_MULTIPLIER if n <= most - least else BY_QUOTIENT
        if (STEP / DIVISION) * np.cbrt(f64(w)) * np.log(f64(last) / f64(first)) < min(n, most - least):
            way = BY_HULL
    if way == BY_MULTIPLIER:
        return _quotients(w, first, last)
    if way == BY_QUOTIENT:  # a quotient of q or more belongs to the m up to floor(w / q), which lies in the range
        return n * least + _quotients(w, least + 1, most) - (most - least) * (first - 1)
    return _hull(w, first, last, stack)


@kernel
def clipped_sums(w, low, high, first, last, depth, way, out):
    """``sum of clip(floor(w / m), low, high)`` over the multipliers m of ``[first, last]``, one for each element.

    ``-1 <= w < 2**62 + 2**32``, ``-1 <= low <= high <= 2**31``: each sum is below ``2**62``. The m whose quotient is
    clipped are an interval at either end.
    """
    stack = np.empty((depth, 2), np.int64)
    for j in range(w.size):
        if w[j] < 0 or high[j] < 0:
            out[j] = (last - first + 1) * min(max(i64(-1), low[j]), high[j])
            continue
        begin = min(max(w[j] // (high[j] + 1), first - 1), last) + 1
        end = last
        if low[j] > 0:
            end = max(min(w[j] // low[j], last), begin - 1)
        out[j] = high[j] * (begin - first) + _floors(w[j], begin, end, stack, way) + low[j] * (last - end)


# --- wide outputs: one accumulator, all multipliers; one multiplier, all accumulators -----------------------------
@inner
def _differences(side_a, side_b, lo, hi, table):
    """Divergent points of ``[lo, hi]``, and the sum of ``B - A`` over them modulo 2**64.

    On a piece of like lines B - A is q or q + 1: where q is 0 or -1, all differences are one number.
    """
    count, total = i64(0), np.uint64(0)
    for i in range(cut_pieces(side_a, side_b, lo, hi, True, table)):
        row = piece_of(table, i)
        here = count_piece(row)
        count += here
        if like(row):
            q, r = gap(row[B_A], row[B_B], row[T_A], row[OFFSET])
            if q == 0 or (q == -1 and r != 0):
                total += np.uint64(here) if q == 0 else np.uint64(-here)
                continue
        total += np.uint64(count_ups(row, row[X0], row[X1], i64(0)))
    return count, total


@inner
def _along(side, x, first, last):
    """Outputs of one accumulator as a side of ``i = 0 .. last - first``, rising: ``m = first + i``, or ``last - i``.

    ``m x + b = |x| i + c`` stays below ``2**63``, as ever; the slope is ``2**31`` at most.
    """
    b = side[BP] if x >= 0 else side[BN]
    c = b + x * (first if x >= 0 else last)
    return abs(x), c, c, side[T], side[LOW], side[HIGH], side[ZERO_POINT]


@kernel
def along_multipliers(sides_a, sides_b, first, last, x0, counts, sums):
    """Count and sum B - A over the multipliers ``[first, last]``, for each of the accumulators from x0 on.

    Biases, shifts and bounds are those of row 0. At most ``2**31`` multipliers, differences below ``2**32``.
    """
    table = np.empty((PIECES, 9), np.int64)
    side_a, side_b = side_of(sides_a, 0), side_of(sides_b, 0)
    for i in range(counts.size):
        along_a, along_b = _along(side_a, x0 + i, first, last), _along(side_b, x0 + i, first, last)
        count, total = _differences(along_a, along_b, np.int64(0), last - first, table)
        counts[i], sums[i] = count, np.int64(total)


@kernel
def by_lattice(sides_a, sides_b, lo, hi, counts, sums):
    """Count and sum B - A over the accumulators ``[lo, hi]``, channel by channel."""
    table = np.empty((PIECES, 9), np.int64)
    for c in range(lo.size):
        count, total = _differences(side_of(sides_a, c), side_of(sides_b, c), lo[c], hi[c], table)
        counts[c], sums[c] = count, np.int64(total)


# --- few codes: the thresholds of one multiplier ------------------------------------------------------------------
@inner
def _gain(T, p, q, n, bottom, stop):
    """Sum over ``[bottom, stop)`` of the output of row q minus that of row p: code by code, between the thresholds."""
    wide()
    p, q = u64(p), u64(q)
    total = stop - stop
    for i in range(u64(1), u64(n + 1)):
        total += min(max(T[p, i], bottom), stop) - min(max(T[q, i], bottom), stop)
    return total


@kernel
def by_thresholds(rules, a, bp, bn, t, scale, z, shift, low, high, lo, hi, first, n, counts, sums):
    """Count and sum B - A over the accumulators ``[lo, hi]``, channel by channel: two sides with thresholds.

    At most ``2**17`` codes and ``2**32`` accumulators: a sum is below ``2**49``.
    """
    D, T = np.empty((2, boundary_width(z, n))), np.empty((2, n + 1), np.int64)
    offset = np.zeros(2, np.int64)
    prepare_boundaries(rules, z, 0, z.shape[1], first, n, D, offset)
    for c in range(z.shape[1]):
        counts[c], sums[c] = 0, 0
        if lo[c] > hi[c]:
            continue
        for k in range(2):
            T[k, 0] = ALWAYS
            fill_row(
                rules[k, 0], rules[k, 1], rules[k, 2], rules[k, 3], a[k, c], bp[k, c], bn[k, c], t[k, c],
                scale[k, c], z[k, c], shift[k, c], low[k, c], high[k, c], c == 0, first, n, k, k,
                offset[k] - shift[k, c], D, T,
            )  # fmt: skip
        counts[c] = union(T, 0, 1, n, lo[c], hi[c] + 1)
        sums[c] = _gain(T, 0, 1, n, lo[c], hi[c] + 1)
