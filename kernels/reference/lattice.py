"""Floor sums in Python integers: the definition of the lattice engine, for one channel.

A side is ``(a, bp, bn, t, low, high, z)`` with the output
``clip(floor((a x + (bp if x >= 0 else bn)) / 2**t), low, high) + z``, ``a >= 0``, ``t >= 0``.

On a range of one sign that no clamp cuts, each output is a floor of a real line. If g is the difference of the two
lines and h = floor(g), then B - A is h or h + 1, since ``floor(u + v) - floor(u)`` is floor(v) or one more. h is
monotone: it takes each of its values on one run, where a difference of two floor sums says how often B - A is h + 1.
"""


def output(side, x):
    """Return the output of a side."""
    a, bp, bn, t, low, high, z = side
    return min(max((a * x + (bp if x >= 0 else bn)) >> t, low), high) + z


def floor_sum(n, m, a, b):
    """Return ``sum_{i < n} floor((a i + b) / m)`` for n >= 0, m > 0 and any integers a and b.

    Whole parts of a / m and b / m come out; what is left are the lattice points below a line, counted by rows
    instead of columns: the same sum with a and m swapped.

    >>> [floor_sum(4, 3, 2, -1), sum((2 * i - 1) // 3 for i in range(4))]
    [1, 1]
    """
    total = 0
    while True:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        n, b = divmod(a * n + b, m)
        if n == 0:
            return total
        m, a = a, m


def first(x0, x1, holds):
    """Return the least x of ``[x0, x1]`` from which on a monotone predicate holds, or ``x1 + 1``."""
    x1 += 1
    while x0 < x1:
        middle = (x0 + x1) // 2
        if holds(middle):
            x1 = middle
        else:
            x0 = middle + 1
    return x0


def lines(side, x0, x1):
    """Yield ``(x0, x1, a, b, t)``: the output of a side on ``[x0, x1]`` as floors of lines."""
    a, bp, bn, t, low, high, z = side
    for begin, end, b in ((x0, min(x1, -1), bn), (max(x0, 0), x1, bp)):
        above_low = first(begin, end, lambda x, b=b: (a * x + b) >> t > low)
        at_high = first(begin, end, lambda x, b=b: (a * x + b) >> t >= high)
        parts = (
            (begin, min(above_low, at_high) - 1, 0, low << t),
            (above_low, at_high - 1, a, b),
            (max(at_high, begin), end, 0, high << t),
        )
        yield from ((u, v, slope, c + (z << t), t) for u, v, slope, c in parts if u <= v)


def pieces(side_a, side_b, lo, hi):
    """Yield ``(x0, x1, line of A, line of B)``, a line being (a, b, t), that together make up ``[lo, hi]``."""
    for x0, x1, *line_a in lines(side_a, lo, hi):
        for u, v, *line_b in lines(side_b, x0, x1):
            yield u, v, line_a, line_b


def level(line_a, line_b, x):
    """Return h, the floor of the difference of two real lines at x."""
    (a_a, b_a, t_a), (a_b, b_b, t_b) = line_a, line_b
    return (((a_b * x + b_b) << t_a) - ((a_a * x + b_a) << t_b)) >> (t_a + t_b)


def run(piece, h):
    """Return the closed range of a piece on which the level is h; empty where it ends before it begins."""
    x0, x1, *both = piece
    if level(*both, x0) <= level(*both, x1):
        begin = first(x0, x1, lambda x: level(*both, x) >= h)
        return begin, first(begin, x1, lambda x: level(*both, x) > h) - 1
    begin = first(x0, x1, lambda x: level(*both, x) <= h)
    return begin, first(begin, x1, lambda x: level(*both, x) < h) - 1


def difference(piece, x0, x1):
    """Return the sum of B - A over a range within a piece."""
    sums = [floor_sum(x1 - x0 + 1, 1 << t, a, a * x0 + b) for a, b, t in piece[2:]]
    return sums[1] - sums[0]


def histogram(side_a, side_b, lo, hi):
    """Return ``{value of B - A: number of accumulators of [lo, hi]}``, values ascending."""
    counts = {}
    for piece in pieces(side_a, side_b, lo, hi):
        x0, x1, *both = piece
        ends = sorted((level(*both, x0), level(*both, x1)))
        for h in range(ends[0], ends[1] + 1):
            begin, end = run(piece, h)
            if begin <= end:
                n = end - begin + 1
                ups = difference(piece, begin, end) - h * n
                counts[h] = counts.get(h, 0) + n - ups
                counts[h + 1] = counts.get(h + 1, 0) + ups
    return {value: number for value, number in sorted(counts.items()) if number}


def count(side_a, side_b, lo, hi):
    """Return the number of accumulators of ``[lo, hi]`` on which the outputs differ.

    They agree on a part of the runs h = 0 and h = -1 alone: where B - A is h, and where it is h + 1.
    """
    equal = 0
    for piece in pieces(side_a, side_b, lo, hi):
        for h in (0, -1):
            begin, end = run(piece, h)
            if begin <= end:
                one = abs(difference(piece, begin, end))  # as many differences of one as the run has, all of one sign
                equal += end - begin + 1 - one
    return max(hi - lo + 1, 0) - equal


def difference_sum(side_a, side_b, lo, hi):
    """Return the sum of B - A."""
    return sum(difference(piece, *piece[:2]) for piece in pieces(side_a, side_b, lo, hi))


def next_divergent(side_a, side_b, lo, hi):
    """Return the first accumulator of ``[lo, hi]`` on which the outputs differ, or None."""
    x = first(lo, hi, lambda y: count(side_a, side_b, lo, y) > 0)
    return x if x <= hi else None


def kth_divergent(side_a, side_b, lo, hi, k):
    """Return the accumulator of rank k (0 is the first) among those on which the outputs differ, or None."""
    x = first(lo, hi, lambda y: count(side_a, side_b, lo, y) > k)
    return x if x <= hi else None
