"""Two floor forms compared on the CPU: counted, summed, searched and listed without visiting accumulators.

Sides are the rows of `.pieces`, counts the sums of `.floor_sums`; where both lines of a piece have one slope, one
Euclid serves all sums, and the divergent accumulators are the returns of a rotation to a window.
"""

import numpy as np

from .floor_sums import quotient, sum_four
from .jit import inlined, inner, kernel
from .pieces import (
    A_A,
    A_B,
    B_A,
    B_B,
    OFFSET,
    PIECES,
    T_A,
    T_B,
    X0,
    X1,
    count_piece,
    count_ups,
    crossing,
    cut_pieces,
    fraction,
    gap,
    level_at,
    like,
    piece_of,
    side_of,
    streams,
    within,
)

#: Candidates that a listing of unlike lines may reject in a row before it counts its way to the next hit.
PATIENCE = 256
#: Divergent accumulators that the k-th may be away from the last probe: listing so many costs less than a count.
HOP = 64


@inner
def _count(side_a, side_b, lo, hi, table):
    pieces = cut_pieces(side_a, side_b, lo, hi, False, table)
    if pieces == 2:
        below, above = piece_of(table, np.int64(0)), piece_of(table, np.int64(1))
        a, t = below[A_A], below[T_A]
        if like(below) and like(above) and above[A_A] == a and above[T_A] == t:
            s0, n0, b0, n1, b1 = streams(below)
            s1, n2, b2, n3, b3 = streams(above)
            carries = sum_four(a & ((np.int64(1) << t) - 1), t, n0, b0, n1, b1, n2, b2, n3, b3)
            return s0 + s1 + np.int64(carries)
    count = np.int64(0)
    for i in range(pieces):
        count += count_piece(piece_of(table, i))
    return count


@kernel
def count(sides_a, sides_b, lo, hi, out):
    """Number of accumulators of ``[lo, hi]`` on which two sides differ, channel by channel."""
    table = np.empty((PIECES, 9), np.int64)
    for c in range(lo.size):
        out[c] = _count(side_of(sides_a, c), side_of(sides_b, c), lo[c], hi[c], table)


@kernel
def difference_sums(sides_a, sides_b, lo, hi, out):
    """Sum of ``B - A``, channel by channel, over the negative accumulators (column 0) and the others (column 1).

    Outputs within int32 differ by less than ``2**32``: at most ``2**31`` differences of one sign sum to less than
    ``2**63``.
    """
    table = np.empty((PIECES, 9), np.int64)
    for c in range(lo.size):
        below, above = np.uint64(0), np.uint64(0)
        for i in range(cut_pieces(side_of(sides_a, c), side_of(sides_b, c), lo[c], hi[c], True, table)):
            row = piece_of(table, i)
            term = np.uint64(count_ups(row, row[X0], row[X1], np.int64(0)))
            if row[X0] < 0:
                below += term
            else:
                above += term
        out[c, 0], out[c, 1] = below, above


@inner
def _run_end(row, x, h):
    """Last accumulator of the run of level h that x lies in."""
    if level_at(row, row[X1]) == h:
        return row[X1]
    rising = level_at(row, row[X1]) > h
    return crossing(row, x, row[X1], h + 1 if rising else h, rising) - 1


@kernel
def extents(sides_a, sides_b, lo, hi, bottom, top):
    """Least and largest ``B - A``, channel by channel (0 where ``[lo, hi]`` is empty).

    h is monotone on a piece, so its extremes lie at the ends; whether h + 1 or h is reached is a count on the run.
    """
    table = np.empty((PIECES, 9), np.int64)
    for c in range(lo.size):
        least, largest = np.int64(2**62), np.int64(-(2**62))
        for i in range(cut_pieces(side_of(sides_a, c), side_of(sides_b, c), lo[c], hi[c], True, table)):
            row = piece_of(table, i)
            x0, x1 = row[X0], row[X1]
            h0, h1 = level_at(row, x0), level_at(row, x1)
            first_end, last_begin = _run_end(row, x0, h0), x0
            if h1 != h0:
                last_begin = crossing(row, x0, x1, h1 if h1 > h0 else h1 + 1, h1 > h0)
            for h, begin, end in ((h0, x0, first_end), (h1, last_begin, x1)):
                ups = count_ups(row, begin, end, h)
                largest = max(largest, h + np.int64(ups > 0))
                least = min(least, h + np.int64(ups == end - begin + 1))
        bottom[c], top[c] = (least, largest) if least <= largest else (0, 0)


@kernel
def histogram(side_a, side_b, lo, hi, bottom, counts):
    """Count each value of ``B - A`` at ``counts[value - bottom]``; `counts` spans the extents."""
    table = np.empty((PIECES, 9), np.int64)
    for i in range(cut_pieces(side_of(side_a, np.int64(0)), side_of(side_b, np.int64(0)), lo, hi, True, table)):
        row = piece_of(table, i)
        x = row[X0]
        while x <= row[X1]:
            h = level_at(row, x)
            end = _run_end(row, x, h)
            ups = count_ups(row, x, end, h)
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
            k = quotient(beta - max(w, alpha + 1), alpha) + 1
            j = np.int64(0) if u >= beta else quotient(beta - u + alpha - 1, alpha)
            if j < k:
                u -= beta - j * alpha
                i += q + j * p
            beta -= k * alpha
            q += k * p
        else:
            k = quotient(alpha - max(w, beta), beta) + 1
            j = np.int64(0) if u >= alpha else quotient(alpha - u + beta - 1, beta)
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


@inlined
def _next(u, x, p, alpha, q, beta, w):
    """Residue and place of the next visit to ``[0, w)`` after (u, x), by the map that `_rotation` returned."""
    up = u + alpha
    if up < w:
        return up, x + p
    if u >= beta:
        return u - beta, x + q
    return up - beta, x + p + q


@inner
def _fill_like(row, x0, x1, out, n):
    """List the divergent accumulators of ``[x0, x1]``, a part of a piece of like lines, at ``out[n:]``.

    They are those whose ``(a x + b) mod 2**t`` lies in one window; the gaps between them take three values.
    """
    a, b, t = row[A_A], row[B_A], row[T_A]
    q, r = gap(b, row[B_B], t, row[OFFSET])
    mask = (np.int64(1) << t) - 1
    if (q != 0 and q != -1) or (q == -1 and r == 0):
        return _fill_all(x0, x1, out, n)
    if r == 0:
        return n
    w, u = (r, (a * x0 + b + r) & mask) if q == 0 else (mask + 1 - r, (a * x0 + b) & mask)
    i, u, p, alpha, q, beta = _rotation(a & mask, t, w, u, x1 - x0)
    if i < 0:
        return n
    x = x0 + i
    while x <= x1 and n < out.size:
        out[n] = x
        n += 1
        u, x = _next(u, x, p, alpha, q, beta, w)
    return n


@inner
def _size(row, x, h):
    """Bound of the size of g on a run of level 0 or -1, in units of ``2**-32``: ``[1, 2**32]``, at most 1 too large.

    A size of just 1 (h = -1, no fraction) is ``~0 + 1`` units of ``2**-64``, so the shift comes before the increment.
    """
    v_a, v_b = row[A_A] * x + row[B_A], row[A_B] * x + row[B_B]
    g = fraction(v_b, row[T_B]) - fraction(v_a, row[T_A])
    return np.int64((g if h == 0 else ~g) >> np.uint64(32)) + 1


@inner
def _differs(row, x):
    return ((row[A_B] * x + row[B_B]) >> row[T_B]) - ((row[A_A] * x + row[B_A]) >> row[T_A]) + row[OFFSET] != 0


@inner
def _jump(row, x0, x1):
    """First divergent accumulator of ``[x0, x1]`` by counts alone, or ``x1 + 1``: doubling steps, then halving ones."""
    last, step = x0, np.int64(1)
    while x0 <= x1 and count_piece(within(row, x0, last)) == 0:
        x0 = last + 1
        last, step = min(x1, last + step), 2 * step
    while x0 < last:  # a divergent one lies in [x0, last]
        middle = (x0 + last) >> 1
        if count_piece(within(row, x0, middle)) > 0:
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
            u, x = _next(u, x, p, alpha, q, beta, w)
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
    rising = level_at(row, x1) >= level_at(row, x0)
    while x0 <= x1 and n < out.size:
        h = level_at(row, x0)
        if h == 0 or h == -1:
            end = crossing(row, x0, x1, h + 1 if rising else h, rising) - 1
            n = _fill_run(row, x0, end, h, patience, out, n)
        else:
            end = x1
            if rising and h < -1:
                end = crossing(row, x0, x1, np.int64(-1), rising) - 1
            elif not rising and h > 0:
                end = crossing(row, x0, x1, np.int64(1), rising) - 1
            n = _fill_all(x0, end, out, n)
        x0 = end + 1
    return n


@inner
def _fill_piece(row, x0, x1, patience, out, n):
    if like(row):
        return _fill_like(row, x0, x1, out, n)
    return _fill_unlike(row, x0, x1, patience, out, n)


@kernel
def fill(side_a, side_b, lo, hi, patience, out):
    """Write the first divergent accumulators of ``[lo, hi]``, ascending, into `out`; return how many there are.

    `patience` is `PATIENCE`, or less in tests. Results do not depend on it.
    """
    table = np.empty((PIECES, 9), np.int64)
    n = np.int64(0)
    for i in range(cut_pieces(side_of(side_a, np.int64(0)), side_of(side_b, np.int64(0)), lo, hi, False, table)):
        if n < out.size:
            n = _fill_piece(piece_of(table, i), table[i, X0], table[i, X1], patience, out, n)
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
        c = before + count_piece(within(row, left, middle - 1))
        if c <= k:
            left, before = middle, c
        else:
            right, until = middle, c
    _fill_piece(row, left, right - 1, np.int64(PATIENCE), near[: k - before + 1], np.int64(0))
    return near[k - before]


@kernel
def ranked(side_a, side_b, lo, hi, ranks, out):
    """Write the divergent accumulators of the given ranks (0 is the first; below the count) into `out`."""
    table = np.empty((PIECES, 9), np.int64)
    near = np.empty(HOP, np.int64)
    pieces = cut_pieces(side_of(side_a, np.int64(0)), side_of(side_b, np.int64(0)), lo, hi, False, table)
    inside = np.empty(PIECES, np.int64)
    for i in range(pieces):
        inside[i] = count_piece(piece_of(table, i))
    for j in range(ranks.size):
        k, i = ranks[j], 0
        while k >= inside[i]:
            k -= inside[i]
            i += 1
        out[j] = _ranked(piece_of(table, i), inside[i], k, near)
