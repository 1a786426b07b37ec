"""The lattice engine: two floor forms compared by floor sums, for outputs of any width.

``sum floor((a x + b) / 2**t)`` over a range of accumulators counts lattice points under a line; Euclid's algorithm on
(2**t, a) gives it in O(log) steps. On a range of one sign that no clamp cuts, B - A takes the values h and h + 1 on
runs of a monotone h, so the difference of two such sums says on how many accumulators it is h + 1. From the counts
follow sums, histograms, extremes and ranks; the divergent accumulators themselves are the returns of a rotation to a
window, whose gaps take three values.

Functions take two sides of equally many channels and a closed range ``[lo, hi]`` of int32 accumulators: integers, one
a channel, or None for all. Accumulators on which a side has no defined output are left out; lo > hi is empty.

Source: R. Graham, D. Knuth, O. Patashnik, *Concrete Mathematics*, 3.5 (floor sums); the three-gap theorem
(V. Sós, 1958); G. Rauzy's induction for the rotation.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.cpu import lattice as kernels

from ..arguments import first_index, first_value
from ..backends.cpu import thread_count
from ..backends.forms import I64, INT32_MAX, INT32_MIN
from ..exceptions import DomainError, DTypeError
from ..work.run import cut, run
from .sides import Side, common_domain

#: Channels a tile: about a millisecond of work.
TILE = 2048
#: Accumulators a block of a listing, by default.
BLOCK = 1 << 16
#: Values of B - A that a histogram may have: a second or two of work.
HISTOGRAM_VALUES = 1 << 20


def _pair(a: Side, b: Side) -> None:
    for name, one in (("a", a), ("b", b)):
        if not one.floor:
            raise DomainError(
                f"the lattice engine compares floor forms; {name} is scheme {one.scheme.name!r}, a "
                f"{one.scheme.form} form. Use qengine.exact.staircase, which takes clamped outputs of any scheme."
            )
        if one.epilogue.wrap:
            raise DomainError(f"the lattice engine takes no output that wraps around; {name} does.")


def kernel_rows(side: Side, part: slice) -> I64:
    """Return the rows that the kernels read; see there for the bounds, which every row of `SCHEMES` keeps."""
    form, epilogue = side.form, side.epilogue
    columns = (form.a, form.bp, form.bn, form.t, epilogue.low, epilogue.high, epilogue.zero_point)
    rows: I64 = np.stack([column[part] for column in columns], axis=1)
    a, t, largest = rows[:, 0], rows[:, 3], np.abs(rows[:, 1:3]).max(axis=1, initial=0)
    bad = (a < 0) | (a >= 1 << 31) | (t < 1) | (t > 62) | (largest >= 1 << 62)
    if bad.any():
        c = int(bad.argmax())
        raise DomainError(
            f"the lattice engine needs 0 <= a < 2**31, 1 <= t <= 62 and biases below 2**62; scheme "
            f"{side.scheme.name!r} has a = {a[c]}, t = {t[c]}, biases {rows[c, 1]}, {rows[c, 2]} in channel "
            f"{c + (part.start or 0)}."
        )
    return rows


def _bound(name: str, value: Any, default: int, sides: tuple[Side, Side]) -> I64:
    channels = sides[0].channels
    array = np.asarray(default if value is None else value)
    exact = array.dtype == object and all(isinstance(v, int) for v in array.flat)  # integers beyond int64
    if array.dtype.kind not in "iu" and not exact:
        raise DTypeError(f"{name} must be an integer accumulator, or one a channel; got {value!r}.")
    bad = (array < INT32_MIN) | (array > INT32_MAX)
    if bad.any():
        wide = [one.scheme for one in sides if one.scheme.acc_bits > 32]
        why = "".join(
            f" Scheme {row.name!r} takes accumulators of {row.acc_bits} bits: only those within int32 can be counted."
            for row in wide[:1]
        )
        raise DomainError(
            f"{name} must be in [{INT32_MIN}, {INT32_MAX}]; got {first_value(array, bad)}{first_index(bad)}.{why}"
        )
    if array.shape not in ((), (1,), (channels,)):
        raise DomainError(f"{name} must be one number or one a channel ({channels}); got shape {array.shape}.")
    return np.broadcast_to(array.astype(np.int64).reshape(-1), (channels,))


def _ranges(a: Side, b: Side, lo: Any, hi: Any) -> tuple[I64, I64]:
    _pair(a, b)
    low, high = common_domain((a, b))
    bottom, top = _bound("lo", lo, INT32_MIN, (a, b)), _bound("hi", hi, INT32_MAX, (a, b))
    return np.maximum(low, bottom), np.minimum(high, top)


def _over_channels(channels: int, work: Callable[[slice], None]) -> None:
    """Call ``work`` on tiles of the channels, over threads where there are several."""
    if channels <= TILE:
        work(slice(0, channels))
    elif not run(
        cut(channels, TILE), lambda start, stop: work(slice(start, stop)), lambda tile, result: None,
        workers=thread_count(),
    ):  # fmt: skip
        raise KeyboardInterrupt


def count(a: Side, b: Side, lo: Any = None, hi: Any = None) -> I64:
    """Count the accumulators on which two floor forms have different outputs, exactly.

    ``#{x in [lo, hi] : A(x) != B(x)}`` per channel, by floor sums: O(log) steps whatever the range.

    Parameters
    ----------
    a, b : Side
        Floor forms of equally many channels; multipliers, zero points and clamps may differ.
    lo, hi : int or integer array, optional
        Closed range of accumulators within int32; see the module.

    Returns
    -------
    int64 array, shape (C,)
        Counts in ``[0, 2**32]``.

    Raises
    ------
    DomainError, DTypeError
        A side that is no floor form; unequal channels; bounds that are no integers or lie outside int32.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)                     # M = 1/2: every odd x is a tie
    >>> single, away = side("single", half), side("half-away", half)
    >>> int(lattice.count(single, away)[0])                        # the negative ties
    1073741824
    >>> int(lattice.count(single, away, -3, 3)[0])
    2
    """
    low, high = _ranges(a, b, lo, hi)
    out = np.empty(low.size, dtype=np.int64)
    _over_channels(
        low.size,
        lambda part: kernels.count(kernel_rows(a, part), kernel_rows(b, part), low[part], high[part], out[part]),
    )
    return out


def difference_sum(a: Side, b: Side, lo: Any = None, hi: Any = None) -> I64:
    """Sum B(x) - A(x) over the accumulators of ``[lo, hi]``, per channel.

    Parameters, errors
        As `count`.

    Returns
    -------
    int64 array, shape (C,)
        Outputs of one multiplier and another fit int32 and have the accumulator's sign but for a zero point and a
        rounding: the sum stays below ``2**63``.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)
    >>> int(lattice.difference_sum(side("single", half), side("half-away", half), -3, 3)[0])    # -1 at the ties -1, -3
    -2
    """
    low, high = _ranges(a, b, lo, hi)
    out = np.empty((low.size, 2), dtype=np.int64)
    _over_channels(
        low.size,
        lambda part: kernels.difference_sums(
            kernel_rows(a, part), kernel_rows(b, part), low[part], high[part], out[part]
        ),
    )
    # Each column fits int64; their sum might not for sides that no scheme makes: Python's integers tell.
    return np.array([negative + positive for negative, positive in out.tolist()], dtype=np.int64)


def extremes(a: Side, b: Side, lo: Any = None, hi: Any = None) -> tuple[I64, I64]:
    """Return the least and the largest B(x) - A(x) on ``[lo, hi]``, per channel; 0 and 0 where it is empty.

    Parameters, errors
        As `count`.

    Returns
    -------
    (int64 array, int64 array)
        Both are attained. Shape (C,).

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)
    >>> [int(v[0]) for v in lattice.extremes(side("single", half), side("half-away", half))]    # a tie below zero
    [-1, 0]
    """
    low, high = _ranges(a, b, lo, hi)
    out = np.empty((2, low.size), dtype=np.int64)
    _over_channels(
        low.size,
        lambda part: kernels.extents(
            kernel_rows(a, part), kernel_rows(b, part), low[part], high[part], out[0, part], out[1, part]
        ),
    )  # fmt: skip
    return out[0], out[1]


def largest(a: Side, b: Side, lo: Any = None, hi: Any = None) -> I64:
    """Return the largest ``abs(B(x) - A(x))`` on ``[lo, hi]``, per channel.

    Parameters, errors
        As `count`.

    Returns
    -------
    int64 array, shape (C,)

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)
    >>> [int(lattice.largest(side("single", half), side("half-away", half), lo, lo + 2)[0]) for lo in (-2, 0)]
    [1, 0]
    """
    least, most = extremes(a, b, lo, hi)
    return np.maximum(np.abs(least), np.abs(most))


def _index(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise DTypeError(f"{name} must be an integer; got {value!r}.") from None


def _one(a: Side, b: Side, c: Any, lo: Any, hi: Any) -> tuple[I64, I64, I64, I64]:
    """Return the rows and the range of one channel."""
    channel = _index("the channel c", c)
    if not 0 <= channel < a.channels:
        raise DomainError(f"the channel c must be in [0, {a.channels - 1}]; got {channel}.")
    low, high = _ranges(a, b, lo, hi)
    part = slice(channel, channel + 1)
    return kernel_rows(a, part), kernel_rows(b, part), low[part], high[part]


def histogram(a: Side, b: Side, c: int = 0, lo: int | None = None, hi: int | None = None) -> dict[int, int]:
    """Count how often B(x) - A(x) takes each value on ``[lo, hi]``, for one channel.

    Parameters
    ----------
    a, b, lo, hi
        As `count`.
    c : int
        Channel.

    Returns
    -------
    dict of int to int
        The values that occur, ascending, with their counts; they sum to the number of accumulators.

    Raises
    ------
    DomainError
        As `count`; or more than ``2**20`` values from the least to the largest.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)
    >>> lattice.histogram(side("single", half), side("half-away", half), 0, -3, 3)      # -1 at the ties -1, -3
    {-1: 2, 0: 5}
    """
    rows_a, rows_b, low, high = _one(a, b, c, lo, hi)
    if low[0] > high[0]:
        return {}
    bottom, top = np.empty(1, np.int64), np.empty(1, np.int64)
    kernels.extents(rows_a, rows_b, low, high, bottom, top)
    least, most = int(bottom[0]), int(top[0])
    if most - least >= HISTOGRAM_VALUES:
        raise DomainError(
            f"B - A runs from {least} to {most} on [{low[0]}, {high[0]}] in channel {c}: a histogram has at most "
            f"{HISTOGRAM_VALUES} values. Narrow the range, or take extremes and difference_sum."
        )
    counts = np.zeros(most - least + 1, dtype=np.int64)
    kernels.histogram(rows_a, rows_b, int(low[0]), int(high[0]), least, counts)
    return {least + int(k): int(counts[k]) for k in np.flatnonzero(counts)}


def iterate(
    a: Side, b: Side, c: int = 0, lo: int | None = None, hi: int | None = None, *, block: int = BLOCK
) -> Iterator[I64]:
    """Yield the accumulators of ``[lo, hi]`` on which two floor forms differ, ascending, in blocks, for one channel.

    Costs O(log) a block and a few nanoseconds an item, however rare the items are.

    Parameters
    ----------
    a, b, lo, hi
        As `count`.
    c : int
        Channel.
    block : int
        Items a block, at least 1.

    Yields
    ------
    int64 array
        At least one item, at most `block`.

    Raises
    ------
    DomainError, DTypeError
        As `count`, at the call; or a block of no items.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)
    >>> blocks = lattice.iterate(side("single", half), side("half-away", half), 0, -8, 8, block=3)
    >>> [x.tolist() for x in blocks]                                                      # the negative ties
    [[-7, -5, -3], [-1]]
    """
    size = _index("block", block)
    if size < 1:
        raise DomainError(f"block must be at least 1; got {size}.")
    rows_a, rows_b, low, high = _one(a, b, c, lo, hi)
    return _blocks(rows_a, rows_b, int(low[0]), int(high[0]), size)


def _blocks(rows_a: I64, rows_b: I64, x: int, hi: int, size: int) -> Iterator[I64]:
    while x <= hi:
        out = np.empty(min(size, hi - x + 1), dtype=np.int64)
        found = kernels.fill(rows_a, rows_b, x, hi, kernels.PATIENCE, out)
        if found:
            yield out[:found]
        if found < out.size:
            return
        x = int(out[-1]) + 1


def next_divergent(a: Side, b: Side, c: int = 0, x: int | None = None, hi: int | None = None) -> int | None:
    """Return the first accumulator of ``[x, hi]`` on which two floor forms differ, for one channel, or None.

    Parameters
    ----------
    a, b, hi
        As `count`.
    c : int
        Channel.
    x : int, optional
        Where to begin.

    Returns
    -------
    int or None

    Raises
    ------
    DomainError, DTypeError
        As `count`.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)
    >>> pair = side("single", half), side("half-away", half)
    >>> [lattice.next_divergent(*pair, 0, x) for x in (-4, -1, 0)]      # the negative ties
    [-3, -1, None]
    """
    for found in iterate(a, b, c, x, hi, block=1):
        return int(found[0])
    return None


def _total(rows_a: I64, rows_b: I64, low: I64, high: I64) -> int:
    out = np.empty(1, dtype=np.int64)
    kernels.count(rows_a, rows_b, low, high, out)
    return int(out[0])


def _of_ranks(rows_a: I64, rows_b: I64, low: I64, high: I64, ranks: I64) -> I64:
    out = np.empty(ranks.size, dtype=np.int64)
    kernels.ranked(rows_a, rows_b, int(low[0]), int(high[0]), ranks, out)
    return out


def ranked(a: Side, b: Side, c: int, lo: int | None, hi: int | None, ranks: I64) -> I64:
    """Return the divergent accumulators of ranks that are known to be there, each in ``[0, count)``, in any order."""
    return _of_ranks(*_one(a, b, c, lo, hi), ranks)


def kth_divergent(a: Side, b: Side, c: int = 0, lo: int | None = None, hi: int | None = None, k: int = 0) -> int:
    """Return the accumulator of rank k among those of ``[lo, hi]`` on which two floor forms differ, for one channel.

    Parameters
    ----------
    a, b, lo, hi
        As `count`.
    c : int
        Channel.
    k : int
        Rank from 0 (the first) to the count less one; -1 is the last, and so on.

    Returns
    -------
    int

    Raises
    ------
    DomainError
        As `count`; or a rank that there is not.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)
    >>> pair = side("single", half), side("half-away", half)
    >>> [lattice.kth_divergent(*pair, k=k) for k in (0, 1, -1)]          # the negative ties
    [-2147483647, -2147483645, -1]
    """
    rank = _index("the rank k", k)
    one = _one(a, b, c, lo, hi)
    total = _total(*one)
    if not -total <= rank < total:
        raise DomainError(
            f"the rank k must be in [{-total}, {total - 1}]: so many accumulators differ; got {rank}."
            if total
            else f"there is no accumulator of rank {rank}: the two sides are equal on the range."
        )
    return int(_of_ranks(*one, np.array([rank % total], dtype=np.int64))[0])


def random_divergent(
    a: Side, b: Side, c: int = 0, lo: int | None = None, hi: int | None = None, n: int = 1, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Draw accumulators of ``[lo, hi]`` on which two floor forms differ, uniformly and independently.

    A uniform rank (NumPy's Philox generator), then the accumulator of that rank: each divergent one is equally
    likely, however uneven the gaps between them.

    Parameters
    ----------
    a, b, lo, hi
        As `count`.
    c : int
        Channel.
    n : int
        How many, with repetition.
    seed : int
        Seed, not negative; the same one gives the same draws.

    Returns
    -------
    int64 array, shape (n,)
        In the order of the draws.

    Raises
    ------
    DomainError
        As `count`; a negative n or seed; or nothing to draw from.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> from qengine.exact import lattice
    >>> from qengine.exact.sides import side
    >>> half = QuantizedMultiplier(1 << 30, 0)
    >>> pair = side("single", half), side("half-away", half)
    >>> drawn = lattice.random_divergent(*pair, 0, -4, 4, n=1000, seed=1)
    >>> sorted(set(drawn.tolist()))                                      # the negative ties
    [-3, -1]
    """
    number, start = _index("n", n), _index("seed", seed)
    if number < 0 or start < 0:
        raise DomainError(f"n and seed must not be negative; got n = {number}, seed = {start}.")
    one = _one(a, b, c, lo, hi)
    total = _total(*one)
    if not total:
        raise DomainError("there is nothing to draw from: the two sides are equal on the range.")
    ranks = np.random.Generator(np.random.Philox(start)).integers(0, total, size=number, dtype=np.int64)
    return _of_ranks(*one, ranks)
