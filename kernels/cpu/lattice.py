"""Floor sums on the CPU: two floor forms counted, summed, searched and listed without visiting accumulators.

A side is an int64 row ``(a, bp, bn, t, low, high, z)``: the output is
``clip(floor((a x + (bp if x >= 0 else bn)) / 2**t), low, high) + z``. Callers guarantee ``0 <= a < 2**31``,
``1 <= t <= 62``, ``|b| < 2**62``, ``|low|, |high|, |z| <= 2**31`` and accumulators within int32: then ``a x + b``
and ``bB - bA`` are below ``2**63`` in magnitude.

A *piece* is a range of accumulators of one sign on which each side is one line: x0, x1 (closed), (a, b, t) of
either side, and an offset o: ``B - A = floor((aB x + bB) / 2**tB) - floor((aA x + bA) / 2**tA) + o``. A side that
is clamped all along the piece is the line a = b = 0, t = 1.

Sums are uint64, modulo 2**64: each result fits int64, so it is exact whatever the terms did. (Signed integers must
not overflow: Numba tells LLVM that they do not.)

Source of the floor sum: the lattice points under a line, counted with the axes swapped, in turn (Euclid).
"""

import numpy as np

from .jit import inner, kernel

A, BP, BN, T, LOW, HIGH, ZERO_POINT = range(7)
X0, X1, A_A, B_A, T_A, A_B, B_B, T_B, OFFSET = range(9)
#: Two signs, four clamps that cut each.
PIECES = 10
#: Candidates that a listing of unlike lines may reject in a row before it counts its way to the next hit.
PATIENCE = 256
#: Divergent accumulators that the k-th may be away from the last probe: listing so many costs less than a count.
HOP = 64
LEAST, BEYOND = -(2**31), 2**31


# --- floor sums -----------------------------------------------------------------------------------------------
@inner
def _divide(y, m, inverse):
    """``divmod(y, m)`` for ``0 <= y < 2**63`` with a quotient below ``2**34``; inverse = fl(1 / m).

    The product is off by less than ``3 * 2**-53 * 2**34 < 2**-17``, so its integer part is off by one at most.
    """
    q = np.int64(np.float64(y) * inverse)
    r = y - q * m
    if r < 0:
        q -= 1
        r += m
    elif r >= m:
        q += 1
        r -= m
    return q, r


@inner
def _quotient(y, m):
    """``y // m`` for ``y >= 0``, ``m > 0``: the hardware's division, without Python's rules for signs."""
    return np.int64(np.uint64(y) // np.uint64(m))


@inner
def _triangle(n):
    """``0 + 1 + ... + (n - 1)`` for ``0 <= n <= 2**31``: below ``2**61``."""
    return (n * (n - 1)) >> 1


@inner
def _times(x, y):
    """``x * y`` modulo 2**64, as uint64."""
    return np.uint64(x) * np.uint64(y)


@inner
def _four(a, t, n0, b0, n1, b1, n2, b2, n3, b3):
    """``F0 - F1 + F2 - F3``, ``Fj = sum_{i < nj} floor((2**t i + bj) / a)``, ``0 <= bj < 2**t``, modulo 2**64.

    One Euclid on (2**t, a) for all four. After the first reduction all moduli are below 2**31, remainders below
    their modulus and ``n <= 2**31``, so ``a n + b < 2**62``. A zero remainder ends it: all n are 0 then.
    """
    if (n0 | n1 | n2 | n3) == 0:
        return np.uint64(0)
    m = a
    q = _quotient(np.int64(1) << t, m)
    a = (np.int64(1) << t) - q * m
    total = _times(q, _triangle(n0) - _triangle(n1) + _triangle(n2) - _triangle(n3))
    q0, q1, q2, q3 = _quotient(b0, m), _quotient(b1, m), _quotient(b2, m), _quotient(b3, m)
    total += _times(n0, q0) - _times(n1, q1) + _times(n2, q2) - _times(n3, q3)
    b0 -= q0 * m
    b1 -= q1 * m
    b2 -= q2 * m
    b3 -= q3 * m
    inverse = 1.0 / np.float64(m)
    while True:
        n0, b0 = _divide(a * n0 + b0, m, inverse)
        n1, b1 = _divide(a * n1 + b1, m, inverse)
        n2, b2 = _divide(a * n2 + b2, m, inverse)
        n3, b3 = _divide(a * n3 + b3, m, inverse)
        if (n0 | n1 | n2 | n3) == 0:
            return total
        inverse = 1.0 / np.float64(a)
        q, r = _divide(m, a, inverse)
        m, a = a, r
        q0, b0 = _divide(b0, m, inverse)
        q1, b1 = _divide(b1, m, inverse)
        q2, b2 = _divide(b2, m, inverse)
        q3, b3 = _divide(b3, m, inverse)
        total += _times(q, _triangle(n0) - _triangle(n1) + _triangle(n2) - _triangle(n3))
        total += _times(n0, q0) - _times(n1, q1) + _times(n2, q2) - _times(n3, q3)


@inner
def _two(a, t, n0, b0, n1, b1):
    """``F0 - F1`` of `_four`."""
    if (n0 | n1) == 0:
        return np.uint64(0)
    m = a
    q = _quotient(np.int64(1) << t, m)
    a = (np.int64(1) << t) - q * m
    q0, q1 = _quotient(b0, m), _quotient(b1, m)
    total = _times(q, _triangle(n0) - _triangle(n1)) + _times(n0, q0) - _times(n1, q1)
    b0 -= q0 * m
    b1 -= q1 * m
    inverse = 1.0 / np.float64(m)
    while True:
        n0, b0 = _divide(a * n0 + b0, m, inverse)
        n1, b1 = _divide(a * n1 + b1, m, inverse)
        if (n0 | n1) == 0:
            return total
        inverse = 1.0 / np.float64(a)
        q, r = _divide(m, a, inverse)
        m, a = a, r
        q0, b0 = _divide(b0, m, inverse)
        q1, b1 = _divide(b1, m, inverse)
        total += _times(q, _triangle(n0) - _triangle(n1)) + _times(n0, q0) - _times(n1, q1)


@inner
def _swap(a, t, c, n):
    """Swap the axes of ``sum_{i < n} floor((a i + c) / 2**t)`` for ``0 <= a, c < 2**t``: (columns, remainder).

    ``a n + c < 2**62 + 2**62``; the sum is that of `_four` with these two.
    """
    y = a * n + c
    return y >> t, y & ((np.int64(1) << t) - 1)


@inner
def _floors(a, b, t, x0, n0, x1, n1):
    """Sum of ``floor((a x + b) / 2**t)`` over n0 accumulators from x0 on, less the sum over n1 from x1 on."""
    mask = (np.int64(1) << t) - 1
    c0, c1 = a * x0 + b, a * x1 + b
    total = _times(n0, c0 >> t) - _times(n1, c1 >> t) + _times(a >> t, _triangle(n0) - _triangle(n1))
    low = a & mask
    k0, b0 = _swap(low, t, c0 & mask, n0)
    k1, b1 = _swap(low, t, c1 & mask, n1)
    return total + _two(low, t, k0, b0, k1, b1)


# --- pieces ---------------------------------------------------------------------------------------------------
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
def _lifts(a, bp, bn, t, by, to):
    """Whether ``a 2**by`` is the multiplier `to` and the biases have room for as many bits: below ``2**62``."""
    if by <= 0 or by > 30 or a << by != to:
        return False
    room = np.int64(1) << (62 - by)
    return abs(bp) < room and abs(bn) < room


@inner
def _side(sides, c):
    """One row as scalars: a view of an array would be counted (a locked instruction) wherever it is bound."""
    return (
        sides[c, A], sides[c, BP], sides[c, BN], sides[c, T], sides[c, LOW], sides[c, HIGH], sides[c, ZERO_POINT]
    )  # fmt: skip


@inner
def _piece(table, i):
    """One piece as scalars."""
    return (
        table[i, X0], table[i, X1], table[i, A_A], table[i, B_A], table[i, T_A],
        table[i, A_B], table[i, B_B], table[i, T_B], table[i, OFFSET],
    )  # fmt: skip


@inner
def _within(row, x0, x1):
    """Return the part ``[x0, x1]`` of a piece."""
    return x0, x1, row[A_A], row[B_A], row[T_A], row[A_B], row[B_B], row[T_B], row[OFFSET]


@inner
def _store(table, i, x0, x1, a_a, b_a, t_a, a_b, b_b, t_b, o):
    table[i, X0], table[i, X1], table[i, OFFSET] = x0, x1, o
    table[i, A_A], table[i, B_A], table[i, T_A] = a_a, b_a, t_a
    table[i, A_B], table[i, B_B], table[i, T_B] = a_b, b_b, t_b


@inner
def _pieces(side_a, side_b, lo, hi, values, table):
    """Write the pieces of ``[lo, hi]`` into a (PIECES, 9) table, in order; return how many.

    With `values` the lines are the outputs; without, where the clamps agree, they are the unclamped outputs on the
    range that matters: equal exactly where the outputs are.

    Equal multipliers of unequal shifts (m24 and m24 << 7) are brought to one shift, which changes no floor.
    """
    a_a, bp_a, bn_a, t_a = side_a[A], side_a[BP], side_a[BN], side_a[T]
    a_b, bp_b, bn_b, t_b = side_b[A], side_b[BP], side_b[BN], side_b[T]
    if _lifts(a_a, bp_a, bn_a, t_a, t_b - t_a, a_b):
        by = t_b - t_a
        a_a, bp_a, bn_a, t_a = a_b, bp_a << by, bn_a << by, t_b
    elif _lifts(a_b, bp_b, bn_b, t_b, t_a - t_b, a_a):
        by = t_a - t_b
        a_b, bp_b, bn_b, t_b = a_a, bp_b << by, bn_b << by, t_a
    low_a, high_a, z_a = side_a[LOW], side_a[HIGH], side_a[ZERO_POINT]
    low_b, high_b, z_b = side_b[LOW], side_b[HIGH], side_b[ZERO_POINT]
    alike = low_a == low_b and high_a == high_b and z_a == z_b
    pieces = 0
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
def _like(row):
    """Whether both lines of a piece have one slope and one shift."""
    return row[A_A] == row[A_B] and row[T_A] == row[T_B]


# --- like lines: one Euclid -----------------------------------------------------------------------------------
@inner
def _gap(b_a, b_b, t, o):
    """``B - A`` is q, or q + 1 where adding r to the residue of A's line carries: (q, r)."""
    d = b_b - b_a
    return (d >> t) + o, d & ((np.int64(1) << t) - 1)


@inner
def _streams(row):
    """Divergent accumulators of a piece of like lines: (sure ones, then F0 and F1 of ``+ F0 - F1``, swapped)."""
    nothing = np.int64(0)
    a, b, t = row[A_A], row[B_A], row[T_A]
    n, x0 = row[X1] - row[X0] + 1, row[X0]
    mask = (np.int64(1) << t) - 1
    q, r = _gap(b, row[B_B], t, row[OFFSET])
    if (q != 0 and q != -1) or r == 0:
        return (nothing if q == 0 else n), nothing, nothing, nothing, nothing
    c = (a * x0 + b) & mask
    e = c + r  # below 2**63
    sure = n if e > mask else nothing
    k0, b0 = _swap(a & mask, t, e & mask, n)
    k1, b1 = _swap(a & mask, t, c, n)
    if q == 0:
        return sure, k0, b0, k1, b1
    return n - sure, k1, b1, k0, b0


# --- unlike lines: B - A is h or h + 1, and h is monotone --------------------------------------------------------
@inner
def _fraction(v, t):
    """Fraction of ``v / 2**t`` in units of ``2**-64``."""
    return np.uint64(v) << np.uint64(64 - t)


@inner
def _level(row, x):
    """Return h, the floor of the difference of the two real lines at x; then ``B - A`` is h or h + 1."""
    v_a, v_b = row[A_A] * x + row[B_A], row[A_B] * x + row[B_B]
    borrow = np.int64(_fraction(v_b, row[T_B]) < _fraction(v_a, row[T_A]))
    return (v_b >> row[T_B]) - (v_a >> row[T_A]) - borrow + row[OFFSET]


@inner
def _first(row, x0, x1, level, rising):
    """Least x of ``[x0, x1]`` with h >= level (rising) or h < level (falling), or ``x1 + 1``."""
    if (_level(row, x0) >= level) == rising:
        return x0
    if (_level(row, x1) >= level) != rising:
        return x1 + 1
    while x1 - x0 > 1:
        middle = (x0 + x1) >> 1
        if (_level(row, middle) >= level) == rising:
            x1 = middle
        else:
            x0 = middle
    return x1


@inner
def _ups(row, x0, x1, h):
    """Accumulators of a run of level h on which ``B - A`` is h + 1."""
    n = x1 - x0 + 1
    sums = _floors(row[A_B], row[B_B], row[T_B], x0, n, x0, np.int64(0))
    sums -= _floors(row[A_A], row[B_A], row[T_A], x0, n, x0, np.int64(0))
    return np.int64(sums + _times(row[OFFSET] - h, n))


@inner
def _count_unlike(row):
    """Divergent accumulators of a piece: all but on the runs h = 0 (where ``B - A`` is 1) and h = -1 (where -1)."""
    x0, x1 = row[X0], row[X1]
    rising = _level(row, x1) >= _level(row, x0)
    if rising:
        m0, z0, z1 = _first(row, x0, x1, -1, True), _first(row, x0, x1, 0, True), _first(row, x0, x1, 1, True)
        m1 = z0
    else:
        z0, m0, m1 = _first(row, x0, x1, 1, False), _first(row, x0, x1, 0, False), _first(row, x0, x1, -1, False)
        z1 = m0
    nz, nm = z1 - z0, m1 - m0
    ones = _times(row[OFFSET], nz - nm)  # sum of B - A over the run h = 0, less that over the run h = -1
    ones += _floors(row[A_B], row[B_B], row[T_B], z0, nz, m0, nm)
    ones -= _floors(row[A_A], row[B_A], row[T_A], z0, nz, m0, nm)
    return x1 - x0 + 1 - nz - nm + np.int64(ones)


@inner
def _count_piece(row):
    if not _like(row):
        return _count_unlike(row)
    sure, n0, b0, n1, b1 = _streams(row)
    return sure + np.int64(_two(row[A_A] & ((np.int64(1) << row[T_A]) - 1), row[T_A], n0, b0, n1, b1))


@inner
def _count(side_a, side_b, lo, hi, table):
    pieces = _pieces(side_a, side_b, lo, hi, False, table)
    if pieces == 2:
        below, above = _piece(table, 0), _piece(table, 1)
        a, t = below[A_A], below[T_A]
        if _like(below) and _like(above) and above[A_A] == a and above[T_A] == t:
            s0, n0, b0, n1, b1 = _streams(below)
            s1, n2, b2, n3, b3 = _streams(above)
            carries = _four(a & ((np.int64(1) << t) - 1), t, n0, b0, n1, b1, n2, b2, n3, b3)
            return s0 + s1 + np.int64(carries)
    count = np.int64(0)
    for i in range(pieces):
        count += _count_piece(_piece(table, i))
    return count


@kernel
def count(sides_a, sides_b, lo, hi, out):
    """Number of accumulators of ``[lo, hi]`` on which two sides differ, channel by channel."""
    table = np.empty((PIECES, 9), np.int64)
    for c in range(lo.size):
        out[c] = _count(_side(sides_a, c), _side(sides_b, c), lo[c], hi[c], table)


@kernel
def difference_sums(sides_a, sides_b, lo, hi, out):
    """Sum of ``B - A``, channel by channel, over the negative accumulators (column 0) and the others (column 1).

    Outputs within int32 differ by less than ``2**32``: at most ``2**31`` differences of one sign sum to less than
    ``2**63``.
    """
    table = np.empty((PIECES, 9), np.int64)
    for c in range(lo.size):
        below, above = np.uint64(0), np.uint64(0)
        for i in range(_pieces(_side(sides_a, c), _side(sides_b, c), lo[c], hi[c], True, table)):
            row = _piece(table, i)
            term = np.uint64(_ups(row, row[X0], row[X1], np.int64(0)))
            if row[X0] < 0:
                below += term
            else:
                above += term
        out[c, 0], out[c, 1] = below, above


@inner
def _run_end(row, x, h):
    """Last accumulator of the run of level h that x lies in."""
    if _level(row, row[X1]) == h:
        return row[X1]
    rising = _level(row, row[X1]) > h
    return _first(row, x, row[X1], h + 1 if rising else h, rising) - 1


@kernel
def extents(sides_a, sides_b, lo, hi, bottom, top):
    """Least and largest ``B - A``, channel by channel (0 where ``[lo, hi]`` is empty).

    h is monotone on a piece, so its extremes lie at the ends; whether h + 1 or h is reached is a count on the run.
    """
    table = np.empty((PIECES, 9), np.int64)
    for c in range(lo.size):
        least, largest = np.int64(2**62), np.int64(-(2**62))
        for i in range(_pieces(_side(sides_a, c), _side(sides_b, c), lo[c], hi[c], True, table)):
            row = _piece(table, i)
            x0, x1 = row[X0], row[X1]
            h0, h1 = _level(row, x0), _level(row, x1)
            first_end, last_begin = _run_end(row, x0, h0), x0
            if h1 != h0:
                last_begin = _first(row, x0, x1, h1 if h1 > h0 else h1 + 1, h1 > h0)
            for h, begin, end in ((h0, x0, first_end), (h1, last_begin, x1)):
                ups = _ups(row, begin, end, h)
                largest = max(largest, h + np.int64(ups > 0))
                least = min(least, h + np.int64(ups == end - begin + 1))
        bottom[c], top[c] = (least, largest) if least <= largest else (0, 0)


@kernel
def histogram(side_a, side_b, lo, hi, bottom, counts):
    """Count each value of ``B - A`` at ``counts[value - bottom]``; `counts` spans the extents."""
    table = np.empty((PIECES, 9), np.int64)
    for i in range(_pieces(_side(side_a, 0), _side(side_b, 0), lo, hi, True, table)):
        row = _piece(table, i)
        x = row[X0]
        while x <= row[X1]:
            h = _level(row, x)
            end = _run_end(row, x, h)
            ups = _ups(row, x, end, h)
            if ups > 0:
                counts[h + 1 - bottom] += ups
            if ups <= end - x:
                counts[h - bottom] += end - x + 1 - ups
            x = end + 1


# --- listing --------------------------------------------------------------------------------------------------
@inner
def _rotation(a, t, w, u, most):
    """First return to ``[0, w)`` of ``u -> u + a`` modulo ``2**t``, ``0 < w < 2**t``: (i, u, p, alpha, q, beta).

    i steps lead from the given u to the returned one in the window (i = -1 if none or more than `most`). The map
    that (p, alpha, q, beta) stand for returns to ``[0, alpha + beta)``: below beta by + alpha after p steps, from
    beta on by - beta after q steps. Each round shortens the interval by whole multiples (Rauzy induction), and
    ``p beta + q alpha = 2**t`` throughout: nothing exceeds ``2**63``.
    """
    m = np.int64(1) << t
    alpha, beta, p, q = a, m - a, np.int64(1), np.int64(1)
    i = np.int64(0)
    while alpha > 0 and beta > 0 and max(alpha, beta) >= w and i <= most:
        if alpha < beta:
            k = _quotient(beta - max(w, alpha + 1), alpha) + 1
            j = np.int64(0) if u >= beta else _quotient(beta - u + alpha - 1, alpha)
            if j < k:
                u -= beta - j * alpha
                i += q + j * p
            beta -= k * alpha
            q += k * p
        else:
            k = _quotient(alpha - max(w, beta), beta) + 1
            j = np.int64(0) if u >= alpha else _quotient(alpha - u + beta - 1, beta)
            if j < k:
                u -= (k - j) * beta
                i += (k - j) * q
            alpha -= k * beta
            p += k * q
    if u >= w:
        if alpha == 0 or beta == 0:
            return np.int64(-1), u, p, alpha, q, beta
        u -= beta
        i += q
    return (i if i <= most else np.int64(-1)), u, p, alpha, q, beta


@inner
def _fill_all(x0, x1, out, n):
    last = min(x1, x0 + (out.size - n) - 1)
    for x in range(x0, last + 1):
        out[n + x - x0] = x
    return n + last + 1 - x0


@inner
def _fill_like(row, x0, x1, out, n):
    """List the divergent accumulators of ``[x0, x1]``, a part of a piece of like lines, at ``out[n:]``.

    They are those whose ``(a x + b) mod 2**t`` lies in one window; the gaps between them take three values.
    """
    a, b, t = row[A_A], row[B_A], row[T_A]
    q, r = _gap(b, row[B_B], t, row[OFFSET])
    mask = (np.int64(1) << t) - 1
    if (q != 0 and q != -1) or (q == -1 and r == 0):
        return _fill_all(x0, x1, out, n)
    if r == 0:
        return n
    w, u = (r, (a * x0 + b + r) & mask) if q == 0 else (mask + 1 - r, (a * x0 + b) & mask)
    i, u, p, alpha, q, beta = _rotation(a & mask, t, w, u, x1 - x0)
    if i < 0:
        return n
    x, both = x0 + i, p + q
    while x <= x1 and n < out.size:
        out[n] = x
        n += 1
        up = u + alpha
        if up < w:
            u = up
            x += p
        elif u >= beta:
            u -= beta
            x += q
        else:
            u = up - beta
            x += both
    return n


@inner
def _size(row, x, h):
    """Bound of the size of g on a run of level 0 or -1, in units of ``2**-32``: ``[1, 2**32]``, at most 1 too large.

    A size of just 1 (h = -1, no fraction) is ``~0 + 1`` units of ``2**-64``, so the shift comes before the increment.
    """
    v_a, v_b = row[A_A] * x + row[B_A], row[A_B] * x + row[B_B]
    g = _fraction(v_b, row[T_B]) - _fraction(v_a, row[T_A])
    return np.int64((g if h == 0 else ~g) >> np.uint64(32)) + 1


@inner
def _differs(row, x):
    return ((row[A_B] * x + row[B_B]) >> row[T_B]) - ((row[A_A] * x + row[B_A]) >> row[T_A]) + row[OFFSET] != 0


@inner
def _jump(row, x0, x1):
    """First divergent accumulator of ``[x0, x1]`` by counts alone, or ``x1 + 1``: doubling steps, then halving ones."""
    last, step = x0, np.int64(1)
    while x0 <= x1 and _count_piece(_within(row, x0, last)) == 0:
        x0 = last + 1
        last, step = min(x1, last + step), 2 * step
    while x0 < last:  # a divergent one lies in [x0, last]
        middle = (x0 + last) >> 1
        if _count_piece(_within(row, x0, middle)) > 0:
            last = middle
        else:
            x0 = middle + 1
    return x0


@inner
def _fill_run(row, x0, x1, h, patience, out, n):
    """List a run of level 0 or -1, on which ``B - A`` is 1 iff frac A >= 1 - g, -1 iff frac A < -g.

    The run goes in blocks on which the size of g at most doubles. The widest window of a block holds every hit, and
    about half of what it holds are hits: a candidate is tested. Where a block ends costs time, never correctness.
    """
    a, t = row[A_A], row[T_A]
    mask = (np.int64(1) << t) - 1
    slope = np.float64(row[A_B]) * 2.0 ** np.float64(32 - row[T_B]) - np.float64(a) * 2.0 ** np.float64(32 - t)
    grows = (slope > 0) == (h == 0)
    slope = abs(slope)
    last = _size(row, x1, h)
    x = x0
    while x <= x1 and n < out.size:
        size = _size(row, x, h)
        reach = np.float64(size) if grows else 0.5 * np.float64(size)
        end = x1
        if reach < slope * np.float64(x1 - x):
            end = min(x1, x + np.int64(reach / slope) + 1)
        size = max(size, last if end == x1 else _size(row, end, h))
        w = size << (t - 32) if t >= 32 else (size >> (32 - t)) + 1
        w = min(w, mask + 1)
        u = (a * x + row[B_A] + (w if h == 0 else 0)) & mask
        if w > mask:
            i, p, alpha, q, beta = np.int64(0), np.int64(1), np.int64(0), np.int64(1), w
            u = np.int64(0)
        else:
            i, u, p, alpha, q, beta = _rotation(a & mask, t, w, u, end - x)
        if i < 0:
            x = end + 1
            continue
        x += i
        rejected = 0
        while x <= end and n < out.size:
            if _differs(row, x):
                out[n] = x
                n += 1
                rejected = 0
            else:
                rejected += 1
                if rejected > patience:
                    break
            up = u + alpha
            if up < w:
                u = up
                x += p
            elif u >= beta:
                u -= beta
                x += q
            else:
                u = up - beta
                x += p + q
        if n == out.size:
            return n
        if rejected > patience:
            x = _jump(row, x + 1, end)
        elif x > end:
            x = end + 1
    return n


@inner
def _fill_unlike(row, x0, x1, patience, out, n):
    """List the divergent accumulators of ``[x0, x1]``, a part of a piece of unlike lines, at ``out[n:]``."""
    rising = _level(row, x1) >= _level(row, x0)
    while x0 <= x1 and n < out.size:
        h = _level(row, x0)
        if h == 0 or h == -1:
            end = _first(row, x0, x1, h + 1 if rising else h, rising) - 1
            n = _fill_run(row, x0, end, h, patience, out, n)
        else:
            end = x1
            if rising and h < -1:
                end = _first(row, x0, x1, -1, True) - 1
            elif not rising and h > 0:
                end = _first(row, x0, x1, 1, False) - 1
            n = _fill_all(x0, end, out, n)
        x0 = end + 1
    return n


@inner
def _fill_piece(row, x0, x1, patience, out, n):
    if _like(row):
        return _fill_like(row, x0, x1, out, n)
    return _fill_unlike(row, x0, x1, patience, out, n)


@kernel
def fill(side_a, side_b, lo, hi, patience, out):
    """Write the first divergent accumulators of ``[lo, hi]``, ascending, into `out`; return how many there are.

    `patience` is `PATIENCE`, or less in tests. Results do not depend on it.
    """
    table = np.empty((PIECES, 9), np.int64)
    n = 0
    for i in range(_pieces(_side(side_a, 0), _side(side_b, 0), lo, hi, False, table)):
        if n < out.size:
            n = _fill_piece(_piece(table, i), table[i, X0], table[i, X1], patience, out, n)
    return n


@inner
def _ranked(row, inside, k, near):
    """Return the divergent accumulator of rank k in a piece that has `inside` of them, ``k < inside``.

    Interpolates on the count, which is nearly linear, a little short of k; every third probe halves the range, so
    that 96 probes suffice whatever the count does. The last `HOP` are listed.
    """
    left, before, right, until = row[X0], np.int64(0), row[X1] + 1, inside
    step = 0
    while k - before >= HOP:
        step += 1
        middle = (left + right) >> 1
        if step % 3:
            # Ranks and widths are at most 2**31: the product stays below 2**62.
            aim = max(k - HOP // 2 - before, 1)
            middle = left + aim * (right - left) // (until - before)
        middle = min(max(middle, left + 1), right - 1)
        c = before + _count_piece(_within(row, left, middle - 1))
        if c <= k:
            left, before = middle, c
        else:
            right, until = middle, c
    _fill_piece(row, left, right - 1, PATIENCE, near[: k - before + 1], 0)
    return near[k - before]


@kernel
def ranked(side_a, side_b, lo, hi, ranks, out):
    """Write the divergent accumulators of the given ranks (0 is the first; below the count) into `out`."""
    table = np.empty((PIECES, 9), np.int64)
    near = np.empty(HOP, np.int64)
    pieces = _pieces(_side(side_a, 0), _side(side_b, 0), lo, hi, False, table)
    inside = np.empty(PIECES, np.int64)
    for i in range(pieces):
        inside[i] = _count_piece(_piece(table, i))
    for j in range(ranks.size):
        k, i = ranks[j], 0
        while k >= inside[i]:
            k -= inside[i]
            i += 1
        out[j] = _ranked(_piece(table, i), inside[i], k, near)
