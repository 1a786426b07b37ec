"""Thresholds of monotone schemes in closed form, and what follows from them, on the CPU.

``T[k]`` is the least x in ``[-2**31, 2**31]`` whose output is k or more: ``2**31`` is never, ``-2**31`` always. A row
of T holds the codes ``first + 1 .. first + n`` in columns 1 .. n; column 0 is ``-2**31`` (each output is at least
`first`), so that column i - 1 always exists.

Sides are the rule rows (K, RULE_LENGTH) and (K, C) arrays a, bp, bn, t (int64), scale (float64), z, shift, low, high
(int64). A code k needs the result ``r = k - shift``; r <= low is met by every accumulator, r > high by none (clamp and
saturation); `shift` is z where the zero point follows the rounding, else 0.
"""

import numpy as np

from ..codes import FLOAT, FLOOR, HALF_AWAY
from .jit import inner, kernel, wide

u64, i64, f32, f64 = np.uint64, np.int64, np.float32, np.float64
ALWAYS, NEVER = -(2**31), 2**31
#: Kind of a rule row whose thresholds the caller gives: (K, C, n + 1), columns as in T.
GIVEN = -1
#: Whether rules have closed forms here; where not, the caller gives all thresholds.
CLOSED = True
#: Channels a tile: some milliseconds of work. Thresholds a tile, at most: tiles of 16-bit outputs stay interruptible.
TILE, THRESHOLDS = 2048, 1 << 24
#: Relative nudge of a float32 boundary: more than three float64 roundings (3 * 2**-53), less than the distance of a
#: boundary from a float32 number that it is not (2**-48; see `_float32_row`).
NUDGE = 2.0**-50


@inner
def _floor_row(a, bp, bn, t, low, high, r, n, s, T):
    """Thresholds of ``floor((a x + b) / 2**t)`` for the results r .. r + n - 1: ``ceil((r 2**t - b) / a)``.

    The results at -2**31, -1, 0 and 2**31 - 1 split the codes into always, x < 0, x = 0, x > 0 and never. Inside the
    two middle ranges ``|r 2**t - b| <= a 2**31 + 2**t``, below 2**63; in float64 the quotient, below 2**31 + 1, is off
    by less than 2**-19, so its ceiling is off by one at most, and the exact remainder tells which way.
    """
    wide()
    s, t = u64(s), t & 63
    lowest, before = (a * i64(ALWAYS) + bn) >> t, (bn - a) >> t
    at, highest = bp >> t, (a * i64(NEVER - 1) + bp) >> t
    first = min(max(min(max(lowest, low), high) - r + 1, 0), n)
    second = min(max(min(before, high) - r + 1, first), n)
    third = min(max(min(at, high) - r + 1, second), n)
    fourth = min(max(min(highest, high) - r + 1, third), n)
    for i in range(u64(first)):
        T[s, i + u64(1)] = ALWAYS
    inverse = 1.0 / f64(a)
    step = i64(1) << t
    numerator = r * step - bn
    for i in range(u64(first), u64(second)):
        v = numerator + i64(i) * step
        q = i64(np.ceil(f64(v) * inverse))
        rest = q * a - v
        T[s, i + u64(1)] = q + i64(rest < 0) - i64(rest >= a)
    for i in range(u64(second), u64(third)):
        T[s, i + u64(1)] = 0
    numerator = r * step - bp
    for i in range(u64(third), u64(fourth)):
        v = numerator + i64(i) * step
        q = i64(np.ceil(f64(v) * inverse))
        rest = q * a - v
        T[s, i + u64(1)] = q + i64(rest < 0) - i64(rest >= a)
    for i in range(u64(fourth), u64(n)):
        T[s, i + u64(1)] = NEVER


@inner
def _half_gap(h, up):
    """Half the distance of a normal float32 number to its neighbour above (`up`) or below."""
    bits = np.float64(h).view(np.int64)
    gap = np.int64(bits & 0x7FF0000000000000).view(np.float64) * 2.0**-24
    # Towards zero from a power of two, neighbours are twice as dense.
    return 0.5 * gap if (bits & 0xFFFFFFFFFFFFF) == 0 and (h < 0) == up else gap


@inner
def _next32(v, step):
    """Bits of the neighbour of a normal float32 number: step +1 is away from zero, -1 towards it."""
    return np.int32(np.float32(v).view(np.int32) + np.int32(step))


@inner
def _float32_boundaries(rounding, inside, z, r, n, s, D):
    """Boundaries of the exact product ``f32(x) S`` at which a float32 scheme reaches the results r .. r + n - 1.

    A result r is reached where the float32 number q before the rounding has ``q >= h`` (closed) or ``q > h`` (strict),
    ``h = r - 1/2``: closed for even r (half to even) or r > 0 (half away). ``|h| < 2**18`` has a spare mantissa bit,
    so q rounds a tie to h, and the bound on what q rounds is the midpoint of h and its neighbour, closed as before.
    With the zero point inside that is the bound ``m - z`` on a float32 product p, met from the least float32 number
    p0 on, and again a midpoint bounds the exact product: closed if the mantissa of p0 is even. ``|m - z| > 0.49``, so
    all numbers are normal. Midpoints have 25 bits. D nudges them down where closed and up where strict.
    """
    wide()
    s = u64(s)
    for j in range(u64(n)):
        result = r + i64(j)
        h = f64(result) - 0.5
        closed = result > 0 if rounding == HALF_AWAY else (result & 1) == 0
        m = h - _half_gap(h, False) if closed else h + _half_gap(h, True)
        if inside:
            v = m - f64(z)
            p = f64(f32(v))
            if p < v or (p == v and not closed):
                p = f64(np.int32(_next32(p, 1 if p > 0 else -1)).view(np.float32))
            m = p - _half_gap(p, False)
            closed = (np.float32(p).view(np.int32) & 1) == 0
        D[s, j] = m * (1.0 - NUDGE) if closed == (m > 0) else m * (1.0 + NUDGE)


@inner
def _float32_row(scale, low, high, r, n, start, k, s, D, T):
    """Thresholds of a float32 scheme: ``T = ceil(boundary / S)``, then from f32(x) back to x.

    A boundary is ``Z 2**i`` with Z < 2**25, S is ``s 2**j`` with s < 2**24: their quotient, taken in units of the
    float32 spacing at its size, is an integer or at least 2**-48 of itself away from one. The nudge of `D`, 2**-50,
    and three roundings, 3 * 2**-53, stay between: one product decides, and the ceiling serves closed and strict.

    Beyond 2**24 with spacing G the least float32 number X is ``G ceil(w / G)``, and the least x that rounds to it is
    ``X - G/2``, one more where X / G is odd (a tie goes to the even neighbour). The nudged quotient lies on the right
    side of every power of two, so the spacing is that of the neighbour below.
    """
    wide()
    k, s = u64(k), u64(s)
    first = min(max(low - r + 1, 0), n)
    last = min(max(high - r + 1, first), n)
    for i in range(u64(first)):
        T[s, i + u64(1)] = ALWAYS
    start = u64(start)
    inverse = 1.0 / scale
    reach = max(abs(D[k, start + u64(first)]), abs(D[k, start + u64(max(last, 1) - 1)])) if last > first else 0.0
    if reach * inverse < 2.0**24:
        for i in range(u64(first), u64(last)):
            T[s, i + u64(1)] = i64(np.ceil(D[k, start + i] * inverse))
    else:
        for i in range(u64(first), u64(last)):
            w = min(max(D[k, start + i] * inverse, -(2.0**33)), 2.0**33)
            binade = np.int64(np.float64(w).view(np.int64) & 0x7FF0000000000000).view(np.float64)
            gap = max(binade * 2.0**-23, 1.0)
            count = np.ceil(w / gap)
            odd = count - 2.0 * np.floor(0.5 * count)
            x = count * gap - (0.5 * gap - odd if gap > 1.0 else 0.0)
            T[s, i + u64(1)] = i64(min(max(x, f64(ALWAYS)), f64(NEVER)))
    for i in range(u64(last), u64(n)):
        T[s, i + u64(1)] = NEVER


@inner
def _float64_row(scale, low, high, r, n, s, T):
    """Thresholds of ``half_away(fl64(x D))``: for r > 0 the least x with ``fl64(x D) >= h``, ``h = r - 1/2``.

    With ``e = h fl(1/D) (1 - 2**-50)``: ``fl(x D) >= h`` needs ``x >= (h/D)(1 - 2**-53) > e``, and ``x >= h / D``
    suffices, which is below ``e + 1`` for ``h/D <= 2**48``. So T is ``ceil(e)`` or one more: one product decides. The
    scheme is odd: for r <= 0, ``T[r] = 1 - T[1 - r]``. Where 1/D over- or underflows, e is infinite or 0: the same.
    """
    wide()
    s = u64(s)
    first = min(max(low - r + 1, 0), n)
    last = min(max(high - r + 1, first), n)
    for i in range(u64(first)):
        T[s, i + u64(1)] = ALWAYS
    inverse = (1.0 / scale) * (1.0 - NUDGE)
    for i in range(u64(first), u64(last)):
        h = f64(r + i64(i)) - 0.5
        size = abs(h)
        x = min(np.ceil(size * inverse), 2.0**32)
        x += 1.0 if x * scale < size else 0.0
        x = x if h > 0 else 1.0 - x
        T[s, i + u64(1)] = i64(min(max(x, f64(ALWAYS)), f64(NEVER)))
    for i in range(u64(last), u64(n)):
        T[s, i + u64(1)] = NEVER


@inner
def _nested_row(mantissa, exponent, z, low, high, r, n, s, T):
    """Thresholds of rndnu16: two floors, each inverted by a ceiling.

    ``y >= k`` iff ``pre >= P = ceil((r 2**15 - 2**14) / m15)``, r = k - z, and ``pre >= P`` iff
    ``x 2**l >= P 2**n - half``. ``|P| < 2**19``, so everything stays below 2**52; a float64 quotient of a 34-bit number
    by a 15-bit one has the right ceiling.
    """
    wide()
    s = u64(s)
    first = min(max(low - r + 1, 0), n)
    last = min(max(high - r + 1, first), n)
    for i in range(u64(first)):
        T[s, i + u64(1)] = ALWAYS
    left, right = max(exponent, 0), max(-exponent, 0)
    half = (i64(1) << right) >> 1
    for i in range(u64(first), u64(last)):
        p = i64(np.ceil(f64(((r + i64(i) - z) << 15) - 16384) / f64(mantissa)))
        x = -((half - (p << right)) >> left)
        x = min(max(x, i64(ALWAYS)), i64(NEVER))
        T[s, i + u64(1)] = ALWAYS if p <= -32768 else (NEVER if p > 32767 else x)
    for i in range(u64(last), u64(n)):
        T[s, i + u64(1)] = NEVER


@inner
def _span(z, k, begin, end):
    """Smallest and largest zero point of side k in a run of channels."""
    smallest = largest = z[k, begin]
    for c in range(begin, end):
        smallest, largest = min(smallest, z[k, c]), max(largest, z[k, c])
    return smallest, largest


@inner
def boundary_width(z, n):
    """Columns of the boundaries: n, and one more for each step that a side's zero points span."""
    widest = 0
    for k in range(z.shape[0]):
        smallest, largest = _span(z, k, 0, z.shape[1])
        widest = max(widest, largest - smallest)
    return n + widest


@inner
def prepare_boundaries(rules, z, begin, end, first, n, D, offset):
    """Fill the boundaries that hold for a whole run of channels; note at which result each side's row begins."""
    for k in range(rules.shape[0]):
        offset[k] = 0
        if rules[k, 0] == FLOAT and rules[k, 1] == 32 and not rules[k, 3]:
            smallest, largest = _span(z, k, begin, end)
            offset[k] = largest
            _float32_boundaries(rules[k, 2], False, 0, first + 1 - largest, n + largest - smallest, k, D)


@inner
def fill_row(
    kind, bits, rounding, inside, a, bp, bn, t, scale, z, shift, low, high, fresh, first, n, k, s, start, D, T
):  # fmt: skip
    """Write the thresholds of side k in a channel into row s; `fresh`: the boundaries in D are of another channel.

    Numbers, not arrays: each array that is handed on counts references, and a row takes no longer than that.
    """
    r = first + 1 - shift
    if kind == FLOOR:
        _floor_row(a, bp, bn, t, low, high, r, n, s, T)
    elif kind == FLOAT and bits == 32:
        if inside and fresh:
            _float32_boundaries(rounding, True, z, r, n, k, D)
        _float32_row(scale, low, high, r, n, start, k, s, D, T)
    elif kind == FLOAT:
        _float64_row(scale, low, high, r, n, s, T)
    else:
        _nested_row(a, t, z, low, high, r, n, s, T)


@kernel
def thresholds(rules, a, bp, bn, t, scale, z, shift, low, high, given, first, n, out):
    """Write the thresholds of K sides in C channels: row ``k C + c`` of n + 1 columns, the first ``-2**31``."""
    sides, channels = z.shape
    D = np.empty((sides, boundary_width(z, n)))
    offset = np.zeros(sides, np.int64)
    prepare_boundaries(rules, z, 0, channels, first, n, D, offset)
    for k in range(sides):
        for c in range(channels):
            s = k * channels + c
            out[s, 0] = ALWAYS
            if rules[k, 0] == GIVEN:
                for i in range(1, n + 1):
                    out[s, i] = given[k, c, i]
            else:
                fill_row(
                    rules[k, 0], rules[k, 1], rules[k, 2], rules[k, 3], a[k, c], bp[k, c], bn[k, c], t[k, c],
                    scale[k, c], z[k, c], shift[k, c], low[k, c], high[k, c], c == 0 or z[k, c] != z[k, c - 1],
                    first, n, k, s, offset[k] - shift[k, c], D, out,
                )  # fmt: skip


@inner
def union(T, p, q, n, bottom, stop):
    """Measure of the x in ``[bottom, stop)`` on which two staircases differ, which need not be |A - B|.

    Code i parts them on ``[min, max)`` of its two thresholds; since the maxima do not fall, the union so far ends at
    the maximum before: no state from one code to the next.
    """
    wide()
    p, q = u64(p), u64(q)
    total = stop - stop
    for i in range(u64(1), u64(n + 1)):
        before = min(max(max(T[p, i - u64(1)], T[q, i - u64(1)]), bottom), stop)
        x, y = T[p, i], T[q, i]
        upper, lower = min(max(x, y), stop), max(min(x, y), before)
        total += max(upper - lower, stop - stop)
    return total


@inner
def _ends(T, p, q, n, bottom, stop):
    """Least and greatest x in ``[bottom, stop)`` on which two staircases differ; (stop, bottom - 1) if none."""
    wide()
    p, q = u64(p), u64(q)
    least, greatest = stop, bottom - 1
    for i in range(u64(1), u64(n + 1)):
        x, y = T[p, i], T[q, i]
        upper, lower = min(max(x, y), stop), max(min(x, y), bottom)
        least = min(least, lower if lower < upper else stop)
        greatest = max(greatest, upper - 1 if lower < upper else bottom - 1)
    return least, greatest


@inner
def _extremes(T, p, q, n, bottom, stop):
    """Least and greatest difference (q minus p) on ``[bottom, stop)``.

    A step apart needs only the comparison of equal and of neighbouring codes; where more occurs, both staircases are
    climbed together.
    """
    wide()
    p, q = u64(p), u64(q)
    below, above, far = False, False, False
    for i in range(u64(1), u64(n + 1)):
        x, y = min(max(T[p, i], bottom), stop), min(max(T[q, i], bottom), stop)
        u, v = min(max(T[p, i - u64(1)], bottom), stop), min(max(T[q, i - u64(1)], bottom), stop)
        below |= x < y
        above |= y < x
        far |= (x < v) | (y < u)
    least, greatest = -i64(below), i64(above)
    if far:
        i, j, x = i64(1), i64(1), bottom
        least, greatest = i64(0), i64(0)
        while x < stop:
            while i <= n and T[p, u64(i)] <= x:
                i += 1
            while j <= n and T[q, u64(j)] <= x:
                j += 1
            least, greatest = min(least, j - i), max(greatest, j - i)
            x = stop
            if i <= n:
                x = min(x, T[p, u64(i)])
            if j <= n:
                x = min(x, T[q, u64(j)])
    return least, greatest


@inner
def _cumulative(x, row, values, cumulative, position):
    """Weight of the accumulators below x, whose place among the values is at `position` or after it."""
    size = values.shape[1]
    step = 1
    left, right = position, position
    while right < size and values[row, right] < x:
        left, right, step = right + 1, right + step, 2 * step
    right = min(right, size)
    while left < right:
        middle = (left + right) >> 1
        if values[row, middle] < x:
            left = middle + 1
        else:
            right = middle
    return cumulative[row, left], left


@inner
def _weigh(T, k, n, row, values, cumulative, W):
    """Replace thresholds by the weight of the accumulators below them, which rises with them."""
    position = 0
    for i in range(n + 1):
        W[k, i], position = _cumulative(T[k, i], row, values, cumulative, position)


@kernel
def compare(
    rules, a, bp, bn, t, scale, z, shift, low, high, given, domain_low, domain_high, first, n, values, cumulative,
    full, out,
):  # fmt: skip
    """Compare every pair of sides in every channel, over the accumulators that both domains hold.

    ``out[0]`` is the number of accumulators with different outputs, or with `values` their weight; if `full`,
    ``out[1:5]`` are the first and last of them and the least and greatest difference. Without any, first is 1 and
    last 0, an empty range. `values` are ascending accumulators, one row for all channels or one a channel (or of
    no columns: not weighted); ``cumulative[i]`` is the weight of those before the i-th, below 2**63.
    """
    sides, channels = z.shape
    D, T = np.empty((sides, boundary_width(z, n))), np.empty((sides, n + 1), np.int64)
    offset = np.zeros(sides, np.int64)
    weighted = values.shape[1] > 0
    W = np.empty((sides if weighted else 0, n + 1), np.int64)
    prepare_boundaries(rules, z, 0, channels, first, n, D, offset)
    for c in range(channels):
        row = c if values.shape[0] > 1 else 0
        for k in range(sides):
            T[k, 0] = ALWAYS
            if rules[k, 0] == GIVEN:
                for i in range(1, n + 1):
                    T[k, i] = given[k, c, i]
            else:
                fill_row(
                    rules[k, 0], rules[k, 1], rules[k, 2], rules[k, 3], a[k, c], bp[k, c], bn[k, c], t[k, c],
                    scale[k, c], z[k, c], shift[k, c], low[k, c], high[k, c], c == 0 or z[k, c] != z[k, c - 1],
                    first, n, k, k, offset[k] - shift[k, c], D, T,
                )  # fmt: skip
            if weighted:
                _weigh(T, k, n, row, values, cumulative, W)
        pair = 0
        for p in range(sides):
            for q in range(p + 1, sides):
                bottom, stop = max(domain_low[p, c], domain_low[q, c]), min(domain_high[p, c], domain_high[q, c]) + 1
                total = 0
                if bottom < stop:
                    if weighted:
                        lower, _ = _cumulative(bottom, row, values, cumulative, 0)
                        upper, _ = _cumulative(stop, row, values, cumulative, 0)
                        total = union(W, p, q, n, lower, upper)
                    else:
                        total = union(T, p, q, n, bottom, stop)
                out[0, c, pair] = total
                if full:
                    out[1, c, pair], out[2, c, pair] = 1, 0
                    out[3, c, pair], out[4, c, pair] = 0, 0
                    if bottom < stop and total > 0:
                        out[1, c, pair], out[2, c, pair] = _ends(T, p, q, n, bottom, stop)
                        out[3, c, pair], out[4, c, pair] = _extremes(T, p, q, n, bottom, stop)
                pair += 1


@kernel
def atoms(T, bottom, stop, starts, values):
    """Cut ``[bottom, stop)`` where any staircase steps; return how many pieces, each with the step of every side.

    T is (K, n + 1) as above; piece j begins at ``starts[j]`` and ``values[k, j]`` counts the thresholds of side k up
    to there. One climb of all staircases together; `starts` has room for ``K n + 1`` pieces.
    """
    sides, n = T.shape[0], T.shape[1] - 1
    at = np.zeros(sides, np.int64)
    x, pieces = bottom, 0
    while x < stop:
        following = stop
        for k in range(sides):
            while at[k] < n and T[k, at[k] + 1] <= x:
                at[k] += 1
            values[k, pieces] = at[k]
            if at[k] < n:
                following = min(following, T[k, at[k] + 1])
        starts[pieces] = x
        pieces += 1
        x = following
    return pieces
