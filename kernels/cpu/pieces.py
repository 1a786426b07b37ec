"""Pieces of a comparison of two floor forms: ranges on which each side is one line, and how many x differ on one.

A side is an int64 row ``(a, bp, bn, t, low, high, z)``: the output is
``clip(floor((a x + (bp if x >= 0 else bn)) / 2**t), low, high) + z``. Callers guarantee ``0 <= a < 2**31``,
``1 <= t <= 62``, ``|b| < 2**62``, ``|low|, |high|, |z| <= 2**31`` and accumulators within int32: then ``a x + b``
and ``bB - bA`` are below ``2**63`` in magnitude.

A *piece* is a range of accumulators of one sign on which each side is one line: x0, x1 (closed), (a, b, t) of
either side, and an offset o: ``B - A = floor((aB x + bB) / 2**tB) - floor((aA x + bA) / 2**tA) + o``. A side that
is clamped all along the piece is the line a = b = 0, t = 1.
"""

import numpy as np

from .floor_sums import sum_floors, sum_two, swap_axes, times
from .jit import inner

A, BP, BN, T, LOW, HIGH, ZERO_POINT = range(7)
X0, X1, A_A, B_A, T_A, A_B, B_B, T_B, OFFSET = range(9)
#: Two signs, four clamps that cut each.
PIECES = 10


@inner
def _least(a, b, t, k, x0, x1):
    """Least x of ``[x0, x1]`` with ``floor((a x + b) / 2**t) >= k``, or ``x1 + 1``.

    Between the two ends ``k 2**t`` lies within the line's values, below ``2**63`` in magnitude.
    """
    if (a * x0 + b) >> t >= k:
        return x0
    if (a * x1 + b) >> t < k:
        return x1 + 1
    return -((b - (k << t)) // a)


@inner
def _narrowed(a_a, b_a, t_a, a_b, b_b, t_b, low, high, x0, x1):
    """Cut ``[x0, x1]`` to where two sides of one clamp can differ: there they do iff they differ unclamped.

    At least one must be above `low` and at least one below `high`; then values that differ clamp neither both to
    `low` nor both to `high`. A clamp to one code leaves nothing that differs.
    """
    if low == high:
        return x0, x0 - 1
    bottom = min((a_a * x0 + b_a) >> t_a, (a_b * x0 + b_b) >> t_b)
    top = max((a_a * x1 + b_a) >> t_a, (a_b * x1 + b_b) >> t_b)
    if bottom >= low and top <= high:
        return x0, x1
    begin = min(_least(a_a, b_a, t_a, low + 1, x0, x1), _least(a_b, b_b, t_b, low + 1, x0, x1))
    end = max(_least(a_a, b_a, t_a, high, x0, x1), _least(a_b, b_b, t_b, high, x0, x1))
    return begin, end - 1


@inner
def _line(a, b, t, low, high, z, x):
    """(a, b, t, offset) of a clamped side on a piece that begins at x and that no clamp cuts."""
    y = (a * x + b) >> t
    if y <= low:
        return np.int64(0), np.int64(0), np.int64(1), low + z
    if y >= high:
        return np.int64(0), np.int64(0), np.int64(1), high + z
    return a, b, t, z


@inner
def _lifts(a, bp, bn, by, to):
    """Whether ``a 2**by`` is the multiplier `to` and the biases have room for as many bits: below ``2**62``."""
    if by <= 0 or by > 30 or a << by != to:
        return False
    room = np.int64(1) << (62 - by)
    return abs(bp) < room and abs(bn) < room


@inner
def side_of(sides, c):
    """One row as scalars: a view of an array would be counted (a locked instruction) wherever it is bound."""
    return (
        sides[c, A], sides[c, BP], sides[c, BN], sides[c, T], sides[c, LOW], sides[c, HIGH], sides[c, ZERO_POINT]
    )  # fmt: skip


@inner
def piece_of(table, i):
    """One piece as scalars."""
    return (
        table[i, X0], table[i, X1], table[i, A_A], table[i, B_A], table[i, T_A],
        table[i, A_B], table[i, B_B], table[i, T_B], table[i, OFFSET],
    )  # fmt: skip


@inner
def within(row, x0, x1):
    """Return the part ``[x0, x1]`` of a piece."""
    return x0, x1, row[A_A], row[B_A], row[T_A], row[A_B], row[B_B], row[T_B], row[OFFSET]


@inner
def _store(table, i, x0, x1, a_a, b_a, t_a, a_b, b_b, t_b, o):
    table[i, X0], table[i, X1], table[i, OFFSET] = x0, x1, o
    table[i, A_A], table[i, B_A], table[i, T_A] = a_a, b_a, t_a
    table[i, A_B], table[i, B_B], table[i, T_B] = a_b, b_b, t_b


@inner
def cut_pieces(side_a, side_b, lo, hi, values, table):
    """Write the pieces of ``[lo, hi]`` into a (PIECES, 9) table, in order; return how many.

    With `values` the lines are the outputs; without, where the clamps agree, they are the unclamped outputs on the
    range that matters: equal exactly where the outputs are.

    Equal multipliers of unequal shifts (m24 and m24 << 7) are brought to one shift, which changes no floor.
    """
    a_a, bp_a, bn_a, t_a = side_a[A], side_a[BP], side_a[BN], side_a[T]
    a_b, bp_b, bn_b, t_b = side_b[A], side_b[BP], side_b[BN], side_b[T]
    if _lifts(a_a, bp_a, bn_a, t_b - t_a, a_b):
        by = t_b - t_a
        a_a, bp_a, bn_a, t_a = a_b, bp_a << by, bn_a << by, t_b
    elif _lifts(a_b, bp_b, bn_b, t_a - t_b, a_a):
        by = t_a - t_b
        a_b, bp_b, bn_b, t_b = a_a, bp_b << by, bn_b << by, t_a
    low_a, high_a, z_a = side_a[LOW], side_a[HIGH], side_a[ZERO_POINT]
    low_b, high_b, z_b = side_b[LOW], side_b[HIGH], side_b[ZERO_POINT]
    alike = low_a == low_b and high_a == high_b and z_a == z_b
    pieces = np.int64(0)
    for sign in range(2):
        x0, x1 = (lo, min(hi, np.int64(-1))) if sign == 0 else (max(lo, np.int64(0)), hi)
        if x0 > x1:
            continue
        b_a, b_b = (bn_a, bn_b) if sign == 0 else (bp_a, bp_b)
        if alike and not values:
            x0, x1 = _narrowed(a_a, b_a, t_a, a_b, b_b, t_b, low_a, high_a, x0, x1)
            if x0 <= x1:
                _store(table, pieces, x0, x1, a_a, b_a, t_a, a_b, b_b, t_b, np.int64(0))
                pieces += 1
            continue
        cuts = (
            _least(a_a, b_a, t_a, low_a + 1, x0, x1), _least(a_a, b_a, t_a, high_a, x0, x1),
            _least(a_b, b_b, t_b, low_b + 1, x0, x1), _least(a_b, b_b, t_b, high_b, x0, x1),
        )  # fmt: skip
        while x0 <= x1:
            end = x1 + 1
            for cut in cuts:
                if cut > x0:
                    end = min(end, cut)
            l_a, c_a, s_a, o_a = _line(a_a, b_a, t_a, low_a, high_a, z_a, x0)
            l_b, c_b, s_b, o_b = _line(a_b, b_b, t_b, low_b, high_b, z_b, x0)
            _store(table, pieces, x0, end - 1, l_a, c_a, s_a, l_b, c_b, s_b, o_b - o_a)
            pieces += 1
            x0 = end
    return pieces


@inner
def like(row):
    """Whether both lines of a piece have one slope and one shift."""
    return row[A_A] == row[A_B] and row[T_A] == row[T_B]


# --- like lines: one Euclid -----------------------------------------------------------------------------------
@inner
def gap(b_a, b_b, t, o):
    """``B - A`` is q, or q + 1 where adding r to the residue of A's line carries: (q, r)."""
    d = b_b - b_a
    return (d >> t) + o, d & ((np.int64(1) << t) - 1)


@inner
def streams(row):
    """Divergent accumulators of a piece of like lines: (sure ones, then F0 and F1 of ``+ F0 - F1``, swapped)."""
    nothing = np.int64(0)
    a, b, t = row[A_A], row[B_A], row[T_A]
    n, x0 = row[X1] - row[X0] + 1, row[X0]
    mask = (np.int64(1) << t) - 1
    q, r = gap(b, row[B_B], t, row[OFFSET])
    if (q != 0 and q != -1) or r == 0:
        return (nothing if q == 0 else n), nothing, nothing, nothing, nothing
    c = (a * x0 + b) & mask
    e = c + r  # below 2**63
    sure = n if e > mask else nothing
    k0, b0 = swap_axes(a & mask, t, e & mask, n)
    k1, b1 = swap_axes(a & mask, t, c, n)
    if q == 0:
        return sure, k0, b0, k1, b1
    return n - sure, k1, b1, k0, b0


# --- unlike lines: B - A is h or h + 1, and h is monotone --------------------------------------------------------
@inner
def fraction(v, t):
    """Fraction of ``v / 2**t`` in units of ``2**-64``."""
    return np.uint64(v) << np.uint64(64 - t)


@inner
def level_at(row, x):
    """Return h, the floor of the difference of the two real lines at x; then ``B - A`` is h or h + 1."""
    v_a, v_b = row[A_A] * x + row[B_A], row[A_B] * x + row[B_B]
    borrow = np.int64(fraction(v_b, row[T_B]) < fraction(v_a, row[T_A]))
    return (v_b >> row[T_B]) - (v_a >> row[T_A]) - borrow + row[OFFSET]


@inner
def crossing(row, x0, x1, level, rising):
    """Least x of ``[x0, x1]`` with h >= level (rising) or h < level (falling), or ``x1 + 1``."""
    if (level_at(row, x0) >= level) == rising:
        return x0
    if (level_at(row, x1) >= level) != rising:
        return x1 + 1
    while x1 - x0 > 1:
        middle = (x0 + x1) >> 1
        if (level_at(row, middle) >= level) == rising:
            x1 = middle
        else:
            x0 = middle
    return x1


@inner
def count_ups(row, x0, x1, h):
    """Accumulators of a run of level h on which ``B - A`` is h + 1."""
    n = x1 - x0 + 1
    sums = sum_floors(row[A_B], row[B_B], row[T_B], x0, n, x0, np.int64(0))
    sums -= sum_floors(row[A_A], row[B_A], row[T_A], x0, n, x0, np.int64(0))
    return np.int64(sums + times(row[OFFSET] - h, n))


@inner
def _count_unlike(row):
    """Divergent accumulators of a piece: all but on the runs h = 0 (where ``B - A`` is 1) and h = -1 (where -1)."""
    x0, x1 = row[X0], row[X1]
    rising = level_at(row, x1) >= level_at(row, x0)
    first = crossing(row, x0, x1, np.int64(-1 if rising else 1), rising)
    second = crossing(row, x0, x1, np.int64(0), rising)
    third = crossing(row, x0, x1, np.int64(1 if rising else -1), rising)
    m0, m1, z0, z1 = (first, second, second, third) if rising else (second, third, first, second)
    nz, nm = z1 - z0, m1 - m0
    ones = times(row[OFFSET], nz - nm)  # sum of B - A over the run h = 0, less that over the run h = -1
    ones += sum_floors(row[A_B], row[B_B], row[T_B], z0, nz, m0, nm)
    ones -= sum_floors(row[A_A], row[B_A], row[T_A], z0, nz, m0, nm)
    return x1 - x0 + 1 - nz - nm + np.int64(ones)


@inner
def count_piece(row):
    """Divergent accumulators of a piece."""
    if not like(row):
        return _count_unlike(row)
    sure, n0, b0, n1, b1 = streams(row)
    return sure + np.int64(sum_two(row[A_A] & ((np.int64(1) << row[T_A]) - 1), row[T_A], n0, b0, n1, b1))
