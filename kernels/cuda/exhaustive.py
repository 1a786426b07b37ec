"""Sweep tiles of one multiplier over consecutive accumulators: sums on the device, everything else by proof.

On a range of accumulators each scheme is a *part*: one line ``floor((a x + b) / 2**t)`` (a constant too: ``a = 0``) or
one float32 product. Domains, the sign of x and the clamp cut the range into parts, at places that exact integers give.
Two lines differ by ``floor(f1) - floor(f2)`` with ``f1 - f2`` linear in x: where ``m <= f1 - f2 < m + 1``, the
difference is m or m + 1. Between the places where ``f1 - f2`` passes an integer, the sum of the differences therefore
says how many there are of each, with their signs; a product against a line takes three values, and needs the sum of
squares too. Where one value is left nothing is evaluated at all.
"""

from __future__ import annotations

import itertools
import weakref
from bisect import bisect_left, bisect_right
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ..codes import ACC_SEQUENTIAL, BINS, DIFFERENCE_CELLS, DIFFERENCE_LIMIT, FLOAT, FLOOR, HALF_EVEN, TABLE
from . import load

THREADS = 256
#: Accumulators a thread: as many as keep every multiprocessor busy with `_BLOCKS` blocks, a power of two.
SHORTEST_RUN, LONGEST_RUN = 16, 1024
_BLOCKS = 32
#: More segments a couple than this, and the sweep kernel is the faster one.
MOST_SEGMENTS = 1024
#: Sums of a thread stay below 2**31.
_FARTHEST = (1 << 31) // LONGEST_RUN - 2
#: Bound of ``|x| * scale``: both roundings together are off by less than 1/2, and the product by less than 2**22.
_LARGEST_PRODUCT = (1 << 22) - 1
#: Blocks whose hits are fetched at one time.
_FETCHED = 64
#: Kinds of segments, and the kernels that count them; of KNOWN ones the difference is known.
KNOWN, LINES, WINDOW, PACKED, PRODUCT = range(5)
KERNELS = {
    LINES: "exhaustive_floor", WINDOW: "exhaustive_window", PACKED: "exhaustive_packed", PRODUCT: "exhaustive_float",
}  # fmt: skip
_HITS = {kind: "exhaustive_float_hits" if kind == PRODUCT else "exhaustive_floor_hits" for kind in KERNELS}
#: Columns of a row, as exhaustive.cu reads it.
(
    _BLOCK, _FIRST, _SIZE, _A1, _B1, _T1, _A2, _B2, _T2, _LOW, _HIGH, _SCALE, _CENTER, _MASK, _WINDOW,
) = range(15)  # fmt: skip
_ROW = 15
_INT32 = (-(1 << 31), (1 << 31) - 1)


class Part(NamedTuple):
    """A scheme on accumulators ``first .. last``: a line, or where `scale` is not None a product."""

    first: int
    last: int
    a: int
    b: int
    t: int
    scale: float | None = None


class Segment(NamedTuple):
    """Accumulators ``first .. last`` of a couple, and what their differences are.

    `low` is the difference of a KNOWN segment, the lower one of LINES, WINDOW and PACKED (``low``, ``low + 1``), the
    middle one of PRODUCT (``low - 1 .. low + 1``). A WINDOW or PACKED sum counts those that are not 0. `negated`: the
    kernel counts second minus first. `row`: its numbers.
    """

    first: int
    last: int
    kind: int
    low: int
    negated: bool = False
    row: tuple[int, ...] = ()


# ---- parts of a scheme -------------------------------------------------------------------------------------


def _constant(first, last, value):
    return Part(first, last, 0, 2 * value, 1)


def _clamped(part, low, high, bottom, top):
    """Yield a part with constants on either side, given that its accumulators bottom .. top keep [low, high]."""
    first, last = part.first, part.last
    if first < bottom:
        yield _constant(first, min(last, bottom - 1), low)
    if max(first, bottom) <= min(last, top):
        yield part._replace(first=max(first, bottom), last=min(last, top))
    if top < last:
        yield _constant(max(first, top + 1), last, high)


def _line_parts(part, low, high):
    if part.a == 0:
        yield _constant(part.first, part.last, min(max(part.b >> part.t, low), high))
        return
    bottom = -((part.b - (low << part.t)) // part.a)
    top = (((high + 1) << part.t) - 1 - part.b) // part.a
    yield from _clamped(part, low, high, bottom, top)


def _product_parts(part, low, high):
    """Bisect on the arithmetic itself, which is monotone: int32 to float32, the product, and its rounding."""
    scale = np.float32(part.scale)

    def value(x):
        with np.errstate(over="ignore"):
            return float(np.rint(np.float32(x) * scale))

    every = range(part.first, part.last + 1)
    bottom = part.first + bisect_left(every, low, key=value)
    top = part.first + bisect_right(every, high, key=value) - 1
    yield from _clamped(part, low, high, bottom, top)


def _domain(work, k):
    first = int(work.acc_low[0])
    last = first + int(work.acc_span[0]) - 1
    return max(first, int(work.domain_low[k, 0])), min(last, int(work.domain_high[k, 0]))


def _whole_parts(work, k):
    """Return the parts of scheme k in its domain, before the clamp; None for a rule that has no such parts."""
    rule = work.rules[k].tolist()
    first, last = _domain(work, k)
    if rule[0] == FLOOR:
        a, bp, bn, t = (int(numbers[k, 0]) for numbers in (work.a, work.bp, work.bn, work.t))
        if not (0 <= a < 1 << 31 and 1 <= t <= 62):
            return None
        sides = [(first, last, bp)] if bp == bn else [(first, min(last, -1), bn), (max(first, 0), last, bp)]
        return [Part(p, q, a, b, t) for p, q, b in sides if p <= q]
    if rule[:4] == [FLOAT, 32, HALF_EVEN, 0]:
        return [Part(first, last, 0, 0, 1, float(work.scale[k, 0]))] if first <= last else []
    return None


def _clamped_parts(work, k, parts):
    low, high = int(work.low[k, 0]), int(work.high[k, 0])
    cut = [(_line_parts if part.scale is None else _product_parts)(part, low, high) for part in parts]
    return [part for pieces in cut for part in pieces]


# ---- segments of a couple ----------------------------------------------------------------------------------


class _NotServedError(Exception):
    """What has no proof, or too many segments."""


def _between(slope, start, unit, first, last):
    """Yield (first, last, m) where ``m <= (slope x + start) / unit < m + 1``, in order of x."""
    ends = (slope * first + start) // unit, (slope * last + start) // unit
    if abs(ends[1] - ends[0]) >= MOST_SEGMENTS or max(map(abs, ends)) > _FARTHEST:
        raise _NotServedError
    while first <= last:
        m = (slope * first + start) // unit
        end = last
        if slope > 0:
            end = min(last, ((m + 1) * unit - 1 - start) // slope)
        elif slope < 0:
            end = min(last, (start - m * unit) // -slope)
        yield first, end, m
        first = end + 1


def _row(left, right, more=()):
    row = [0] * _ROW
    for part, at in ((left, _A1), (right, _A2)):
        if part.scale is None:
            row[at : at + 3] = part.a, part.b - (part.a << 31), part.t
        else:
            row[_SCALE] = int(np.float32(part.scale).view(np.uint32))
    row[_LOW], row[_HIGH] = _INT32
    for column, value in more:
        row[column] = value
    return tuple(row)


def _lines(left, right, first, last):
    """Yield the segments of two lines."""
    t = max(left.t, right.t)
    up, down = t - left.t, t - right.t
    slope, start = (left.a << up) - (right.a << down), (left.b << up) - (right.b << down)
    # Where f1 - f2 is constant and whole the difference is just that.
    known = slope == 0 and start % (1 << t) == 0
    # Same line, biases 2**30 apart: floor(f1) and floor(f2) differ where 2**t has a multiple between the two (t > 30,
    # for below that 2**30 is a multiple itself, and the difference is known).
    window = left.a == right.a and left.t == right.t and abs(left.b - right.b) == 1 << 30
    for p, q, m in _between(slope, start, 1 << t, first, last):
        if known:
            yield Segment(p, q, KNOWN, m)
        elif window:
            more = (_MASK, (1 << (t - 30)) - 1), (_WINDOW, max(left.b, right.b) - (left.a << 31))
            yield Segment(p, q, WINDOW, m, False, _row(left, right, more))
        else:
            yield Segment(p, q, LINES, m, False, _row(left, right))


def _product(left, right, negated, first, last):
    """Yield the segments of a product against a line, with v the float32 product and f the line at x.

    ``|v - x s| <= E = |x| s (2**-23 + 2**-48) + 2**-150`` (two roundings, one of them perhaps subnormal), E < 1/2.
    With ``v - 1/2 <= y1 <= v + 1/2`` and ``f - 1 < y2 <= f``, the difference lies within ``1 + E`` of
    ``g = x s - f + 1/2``; where ``|g - m| <= 1/2`` it is m - 1, m or m + 1.
    """
    scale = Fraction(left.scale)
    if max(abs(first), abs(last)) * scale > _LARGEST_PRODUCT:
        raise _NotServedError
    unit = max(scale.denominator, 1 << right.t)
    times = unit >> right.t
    slope = scale.numerator * (unit // scale.denominator) - right.a * times
    start = unit - right.b * times  # g + 1/2: its floor is m
    for p, q, m in _between(slope, start, unit, first, last):
        yield Segment(p, q, PRODUCT, -m if negated else m, negated, _row(left, right, [(_CENTER, m)]))


def _overlaps(lefts, rights):
    for left in lefts:
        for right in rights:
            first, last = max(left.first, right.first), min(left.last, right.last)
            if first <= last:
                yield left, right, first, last


def _cut(lefts, rights):
    for left, right, first, last in _overlaps(lefts, rights):
        if left.scale is not None and right.scale is not None:
            if left.scale != right.scale:
                raise _NotServedError
            yield Segment(first, last, KNOWN, 0)
        elif right.scale is not None:
            yield from _product(right, left, True, first, last)
        elif left.scale is not None:
            yield from _product(left, right, False, first, last)
        else:
            yield from _lines(left, right, first, last)


def _folded(part, low):
    """Return the line whose results ``low .. low + 255`` become int8's, or None where they leave int64 or int32."""
    part = part._replace(b=part.b + ((-128 - low) << part.t))
    ends = [part.a * x + part.b for x in (part.first, part.last)]
    fits = all(abs(v) < 1 << 63 and _INT32[0] <= v >> part.t <= _INT32[1] for v in ends)
    return part if fits else None


def _packed(lefts, rights, low):
    """Yield segments of two schemes clamped to ``low .. low + 255``: differences of -1, 0 or 1, clamped in the loop."""
    for left, right, first, last in _overlaps(lefts, rights):
        pair = [_folded(part, low) for part in (left, right)]
        if None in pair:
            raise _NotServedError
        for segment in _lines(*pair, first, last):
            if segment.low not in (-1, 0):
                raise _NotServedError
            yield segment._replace(kind=PACKED, row=_row(*pair, [(_LOW, -128), (_HIGH, 127)]))


def _couple(work, i, j, whole, saturating):
    """Return the segments of a couple, in order of x, on the accumulators that are in both domains."""
    # Every rule with parts adds the same zero point after the clamp: it cancels in the difference.
    bounds = {(int(work.low[k, 0]), int(work.high[k, 0])) for k in (i, j)}
    ((low, high), *other) = bounds
    if saturating and not other and high - low == 255 and all(part.scale is None for k in (i, j) for part in whole[k]):
        return tuple(_packed(whole[i], whole[j], low))
    parts = [_clamped_parts(work, k, whole[k]) for k in (i, j)]
    segments = tuple(_cut(*parts))
    if len(segments) > MOST_SEGMENTS:
        raise _NotServedError
    return segments


_found: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def segments_of(work, saturating=False):
    """Return the segments of every couple, or None where one of them has no proof; found once a work."""
    known = _found.setdefault(work, {})
    if saturating not in known:
        known[saturating] = _segments(work, saturating)
    return known[saturating]


def _segments(work, saturating):
    if work.kind != TABLE or work.acc_kind != ACC_SEQUENTIAL or work.channels != 1:
        return None
    schemes = range(work.rules.shape[0])
    whole = [_whole_parts(work, k) for k in schemes]
    if None in whole:
        return None
    try:
        return [_couple(work, i, j, whole, saturating) for i in schemes for j in schemes if i < j]
    except _NotServedError:
        return None


def serves(work, saturating=False):
    """Tell whether `tile` counts this work: one multiplier, accumulators in order, and a proof for every couple.

    Floor forms serve with each other while their difference takes few values, float32 products rounded half to even
    with floor forms while they stay below 2**22. Everything else is for the sweep kernel.
    """
    return segments_of(work, saturating) is not None


# ---- a tile ------------------------------------------------------------------------------------------------


class _Launched(NamedTuple):
    """A segment's part of a launch: blocks ``block .. block + blocks - 1`` of its kind."""

    segment: Segment
    block: int
    blocks: int


def _run(pairs):
    share = pairs // (THREADS * _BLOCKS * load.multiprocessors())
    return 1 << min(max(share, SHORTEST_RUN), LONGEST_RUN).bit_length() - 1


def _signed(value, bits):
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def _table(launched):
    rows = []
    for segment, block, _ in launched:
        row = list(segment.row)
        row[_BLOCK], row[_FIRST], row[_SIZE] = block, segment.first + (1 << 31), segment.last - segment.first + 1
        rows.append([_signed(number, 64) for number in row])
    return np.array(rows, np.int64)


class Counted:
    """One kind of segments, counted on the device."""

    def __init__(self, kind, segments, run):
        self.kind, self.run, self.span = kind, run, THREADS * run
        self.launched, block = [], 0
        for segment in segments:
            blocks = max(1, -(-(segment.last - segment.first + 1) // self.span))
            self.launched.append(_Launched(segment, block, blocks))
            block += blocks
        arrays = load.array_module()
        self.table = arrays.asarray(_table(self.launched).ravel())
        self.values = 2 if kind == PRODUCT else 1
        self.sums = arrays.empty(self.values * block, np.int64)
        load.launch("exhaustive", KERNELS[kind], block, THREADS, len(segments), self.table, run, self.sums)

    def fetch(self):
        """Yield (launched, cells) with the counts of ``low - 1, low, low + 1``, an array of (blocks, 3); waits."""
        sums = self.sums.get().reshape(-1, self.values)
        for launched in self.launched:
            segment = launched.segment
            cells = np.zeros((launched.blocks, 3), np.int64)
            sizes = np.full(launched.blocks, self.span, np.int64)
            sizes[-1] = segment.last - segment.first + 1 - (launched.blocks - 1) * self.span
            here = sums[launched.block : launched.block + launched.blocks]
            if self.kind == PRODUCT:
                total, squares = (-here[:, 0] if segment.negated else here[:, 0]), here[:, 1]
                cells[:, 0], cells[:, 2] = (squares - total) // 2, (squares + total) // 2
            elif self.kind == LINES:
                cells[:, 2] = here[:, 0] - segment.low * sizes
            else:
                cells[:, 2] = here[:, 0] if segment.low == 0 else sizes - here[:, 0]
            cells[:, 1] = sizes - cells[:, 0] - cells[:, 2]
            yield launched, cells

    def hits(self, blocks):
        """Yield for each block the places in it that differ, ascending; waits."""
        arrays = load.array_module()
        for at in range(0, len(blocks), _FETCHED):
            some = np.array(blocks[at : at + _FETCHED], np.int64)
            bits = arrays.empty(some.size * self.span // 32, np.uint32)
            load.launch(
                "exhaustive", _HITS[self.kind], some.size, THREADS, len(self.launched), self.table, self.run,
                arrays.asarray(some), bits,
            )  # fmt: skip
            marks = np.unpackbits(bits.get().view(np.uint8), bitorder="little").reshape(some.size, self.span)
            yield from map(np.flatnonzero, marks)


def _witnesses(entries, wanted, counted, start):
    """Return the first `wanted` accumulators that differ, less `start`.

    `entries`: (first accumulator, hits, kind, block) in any order; kind KNOWN where all from the first on differ.
    """
    found, blocks, total = [], {}, 0
    for first, hits, kind, block in sorted(entries):
        if total >= wanted:
            break
        total += hits
        if kind == KNOWN:
            found.append(np.arange(first, first + min(hits, wanted), dtype=np.int64))
        else:
            blocks.setdefault(kind, []).append((first, block))
    for kind, places in blocks.items():
        marks = counted[kind].hits([block for _, block in places])
        found += [first + hits for (first, _), hits in zip(places, marks, strict=True)]
    every = np.sort(np.concatenate(found))[:wanted] if found else np.zeros(0, np.int64)
    return every - start


def _cells(low):
    return np.clip(np.arange(low - 1, low + 2), -DIFFERENCE_LIMIT - 1, DIFFERENCE_LIMIT + 1) + DIFFERENCE_LIMIT + 1


def _compile(couples):
    """Launch a kernel that is needed over no accumulators: the first launch compiles all of them."""
    for segment in itertools.chain(*couples):
        if segment.kind != KNOWN:
            Counted(segment.kind, [segment._replace(last=segment.first - 1)], SHORTEST_RUN)
            break


def tile(work, start, stop, saturating=False):
    """Return the tally of pairs ``[start, stop)``: a dict of integer arrays, equal to the reference's.

    Waits for the device: once for each kind of loop, and for the witnesses. An empty tile compiles the kernels.

    Parameters
    ----------
    work : what `serves` says yes to
    start, stop : int
    saturating : bool
        Evaluate clamped accumulators too, where codes have 8 bits: for checks and measurements. By default the
        accumulators that the clamp decides are cut off.
    """
    couples, base = segments_of(work, saturating), int(work.acc_low[0])
    schemes = work.rules.shape[0]
    counts = np.zeros((len(couples), BINS, 2), np.int64)
    differences = np.zeros((len(couples), DIFFERENCE_CELLS), np.int64)
    largest = np.zeros(len(couples), np.int64)
    witnesses = np.full((len(couples), work.witnesses), -1, np.int64)
    first, last = base + start, base + stop - 1
    domains = [_domain(work, k) for k in range(schemes)]
    outside = [stop - start - max(0, min(last, high) - max(first, low) + 1) for low, high in domains]

    here = [
        [
            segment._replace(first=max(first, segment.first), last=min(last, segment.last))
            for segment in segments
            if max(first, segment.first) <= min(last, segment.last)
        ]
        for segments in couples
    ]
    by_kind = {
        kind: [(c, segment) for c, segments in enumerate(here) for segment in segments if segment.kind == kind]
        for kind in (KNOWN, *KERNELS)
    }
    run = _run(sum(s.last - s.first + 1 for kind in KERNELS for _, s in by_kind[kind]))
    if start == stop:
        _compile(couples)
    # All launches before the first wait.
    counted = {kind: Counted(kind, [s for _, s in by_kind[kind]], run) for kind in KERNELS if by_kind[kind]}
    entries = [[] for _ in couples]

    def add(c, low, cells):
        np.add.at(differences[c], _cells(low), cells)
        taken = [abs(low + k - 1) for k in range(3) if cells[k]]
        largest[c] = max([int(largest[c]), *taken])

    for c, segment in by_kind[KNOWN]:
        size = segment.last - segment.first + 1
        add(c, segment.low, [0, size, 0])
        if segment.low:
            entries[c].append((segment.first, size, KNOWN, 0))
    for kind, device in counted.items():
        for (c, segment), (launched, cells) in zip(by_kind[kind], device.fetch(), strict=True):
            add(c, segment.low, cells.sum(axis=0).tolist())
            hits = cells.sum(axis=1)
            if abs(segment.low) <= 1:
                hits -= cells[:, 1 - segment.low]
            for block in np.flatnonzero(hits)[: work.witnesses].tolist():
                place = segment.first + block * device.span
                entries[c].append((place, int(hits[block]), kind, launched.block + block))

    for c, segments in enumerate(here):
        agreed = int(differences[c, DIFFERENCE_LIMIT + 1])
        differences[c, DIFFERENCE_LIMIT + 1] = 0
        compared = sum(segment.last - segment.first + 1 for segment in segments)
        counts[c, work.bins[0]] = agreed, compared - agreed
        found = _witnesses(entries[c], work.witnesses, counted, base)
        witnesses[c, : found.size] = found
    return {
        "counts": counts, "differences": differences, "largest": largest,
        "outside": np.array(outside, np.int64), "witnesses": witnesses,
    }  # fmt: skip
