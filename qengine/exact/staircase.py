"""The staircase engine: the exact thresholds of every code, and what follows from them.

A monotone scheme with an output of a few codes is a staircase: it is known once the least accumulator of each code
is, 255 numbers a channel for int8. Two staircases differ on a union of intervals between their thresholds, so counts,
witnesses and intervals over all of int32 cost no more than over a hundred accumulators.

Every rule of `SCHEMES` has its thresholds in closed form (`qengine.kernels.cpu.staircase` proves them); any other
monotone rule gets them by bisection of its evaluation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.cpu import staircase as kernels
from qengine.kernels.reference import staircase as reference

from .. import backends
from ..arguments import first_index, first_value
from ..backends.cpu import thread_count
from ..backends.forms import I64, INT32_MAX, INT32_MIN, FloatRule, NestedRule, Rule
from ..exceptions import DomainError, DTypeError
from ..requant.forms import adds_zero_point_after
from ..work.run import cut, run
from .sides import Side, as_range, channels_of

#: Codes lie within ``[-2**16, 2**16)``: those of 16 bits, signed or not.
CODES = (-(1 << 16), (1 << 16) - 1)
ALL = slice(None)
#: Thresholds found by bisection at a time.
BISECTED = 1 << 18


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval of accumulators on which two sides have these outputs."""

    first: int
    last: int
    a: int
    b: int

    @property
    def size(self) -> int:
        """Number of accumulators."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All pairs of K sides over C channels; arrays (C, pairs), pairs in the order of `pairs`.

    Attributes
    ----------
    count : int64 array
        Accumulators with different outputs.
    first, last : int64 arrays
        The least and the greatest of them; (1, 0) where there is none.
    least, greatest : int64 arrays
        Extremes of the difference, the later side minus the earlier one, where they differ; 0 where they do not.
    """

    count: I64
    first: I64
    last: I64
    least: I64
    greatest: I64

    @property
    def largest(self) -> I64:
        """Largest absolute difference."""
        return np.maximum(-self.least, self.greatest)


@dataclass(frozen=True, slots=True, eq=False)
class Atoms:
    """The coarsest cut of an accumulator range on whose pieces every side is constant.

    Attributes
    ----------
    starts, ends : int64 arrays, shape (n,)
        Closed pieces in order, without gaps.
    values : int64 array, shape (K, n)
        Output of every side on each piece.
    """

    starts: I64
    ends: I64
    values: I64

    @property
    def sizes(self) -> I64:
        """Number of accumulators of each piece."""
        return self.ends - self.starts + 1


def pairs(count: int) -> list[tuple[int, int]]:
    """Return the pairs i < j of `count` sides in the order of every result: (0, 1), (0, 2) ... (1, 2) ..."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def closed_form(rule: Rule) -> bool:
    """Tell whether the thresholds of a rule have a closed form here; if not, they are bisected."""
    if isinstance(rule, FloatRule) and rule.bits == 64:
        return rule.rounding == "half-away" and not rule.zero_point_inside
    return True


def covering_codes(sides: Sequence[Side], part: slice = ALL) -> tuple[int, int]:
    """Return (lowest code, number of thresholds) that cover the clamps of all sides; check some channels."""
    for one in sides:
        e = one.epilogue
        if not one.clamped or e.qmin < CODES[0] or e.qmax > CODES[1]:
            span = f"[{e.qmin}, {e.qmax}]" if one.clamped else "a raw int32"
            raise DomainError(
                f"staircases need codes within [{CODES[0]}, {CODES[1]}]: dtype int8, uint8 or int16, or a clamp; "
                f"got {span} for scheme {one.scheme.name!r}."
            )
        bad = one.falls(part) & (one.low[part] <= one.high[part])
        if bad.any():
            c = int(bad.argmax()) + (part.start or 0)
            raise DomainError(
                f"scheme {one.scheme.name!r} falls between accumulators -1 and 0 with multiplier {one.text(c)} in "
                f"channel {c}: it is no staircase."
            )
    first = min(one.epilogue.qmin for one in sides)
    return first, max(one.epilogue.qmax for one in sides) - first


@functools.lru_cache(maxsize=256)
def _encoded(rule: Rule) -> I64:
    """Return the rule row that the kernels read; one whose thresholds have to be given says so."""
    row = rule.encode()
    row[0] = row[0] if closed_form(rule) else kernels.GIVEN
    return row


def kernel_numbers(sides: Sequence[Side], part: slice = ALL) -> tuple[npt.NDArray[Any], ...]:
    """Return what the kernels read: rule rows, then (K, C) arrays a, bp, bn, t, scale, z, shift, low, high."""
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    for one in sides:
        form, e = one.form, one.epilogue
        rule = form.rule
        z, low, high = e.zero_point[part], e.low[part], e.high[part]
        nothing = np.zeros(z.size, np.int64)
        if isinstance(rule, NestedRule):  # its zero point saturates to int16
            low, high = (np.full(z.size, min(max(q, -(1 << 15)), (1 << 15) - 1), np.int64) for q in (e.qmin, e.qmax))
        integers = tuple(field[part] if field.size else nothing for field in (form.a, form.bp, form.bn, form.t))
        scale = form.scale[part] if isinstance(rule, FloatRule) else np.zeros(z.size)
        shift = z if adds_zero_point_after(rule) else nothing
        columns.append((_encoded(rule), *integers, scale, z, shift, low, high))
    return tuple(np.array(column) for column in zip(*columns, strict=True))


def _tile(
    sides: Sequence[Side], numbers: tuple[npt.NDArray[Any], ...], first: int, n: int, part: slice, engine: Any = kernels
) -> tuple[npt.NDArray[Any], ...]:
    """Return the numbers of a tile of channels, with the thresholds of the sides that have to be bisected."""
    closed = [engine.CLOSED and closed_form(one.form.rule) for one in sides]
    given = np.empty((0, 0, 0) if all(closed) else (len(sides), part.stop - part.start, n + 1), dtype=np.int64)
    for k, one in enumerate(sides):
        if not closed[k]:
            tile = one.take(np.arange(part.start, part.stop))
            given[k, :, 1:] = reference.thresholds(tile.evaluate, tile.channels, first, n)
    return numbers[0], *(np.ascontiguousarray(array[:, part]) for array in numbers[1:]), given


def _over_channels(sides: Sequence[Side], n: int, work: Callable[[int, int], None], engine: Any = kernels) -> None:
    """Call ``work(start, stop)`` on tiles of the channels, over threads where the kernels run on the CPU."""
    channels = sides[0].channels
    size = engine.TILE
    if not (engine.CLOSED and all(closed_form(one.form.rule) for one in sides)):
        size = max(1, BISECTED // max(n, 1))
    size = max(1, min(size, engine.THRESHOLDS // max(n * len(sides), 1)))
    workers = thread_count() if engine is kernels else 1
    if channels <= size:
        work(0, channels)
    elif not run(cut(channels, size), work, lambda tile, result: None, workers=workers):
        raise KeyboardInterrupt


def thresholds(side: Side, codes: tuple[int, int] | None = None) -> I64:
    """Return the least accumulator of every code: ``T[c, i] = min {x : y_c(x) >= qmin + 1 + i}``.

    Parameters
    ----------
    side : Side
        Clamped (int8, uint8, int16, or any clamp within 17 bits).
    codes : (qmin, qmax), optional
        Other codes than the clamp's, for sides of one comparison: those beyond the clamp are met always or never.

    Returns
    -------
    int64 array, shape (C, qmax - qmin)
        In ``[-2**31, 2**31]``, ascending; ``2**31`` stands for never, ``-2**31`` for always. Where the domain of the
        side is narrower than int32, its monotone continuation decides.

    Raises
    ------
    DomainError
        A raw output or one of more codes; a multiplier with which a floor form is not monotone.

    Notes
    -----
    Floor form: ``ceil((k 2**t - b) / a)``. Float32: the boundary of the last rounding is a 25-bit number, whose
    quotient by the scale one float64 product decides. Float64: an estimate and one product.

    Examples
    --------
    The scale 1/4 puts ties at ``x = 4 k + 2``: "single" takes 2 up to 1 and -2 up to 0, "fp32" both to 0.

    >>> from qengine.exact.sides import side
    >>> from qengine.exact.staircase import thresholds
    >>> [thresholds(side(s, 0.25, dtype="int8", qmin=-2, qmax=2)).tolist() for s in ("single", "double", "fp32")]
    [[[-6, -2, 2, 6]], [[-5, -1, 1, 5]], [[-5, -2, 3, 6]]]
    """
    first, n = covering_codes([side])
    if codes is not None:
        if codes[0] > codes[1] or codes[0] < CODES[0] or codes[1] > CODES[1]:
            raise DomainError(f"codes must be (lowest, highest) within [{CODES[0]}, {CODES[1]}]; got {codes}.")
        first, n = codes[0], codes[1] - codes[0]
    out = np.empty((side.channels, n + 1), dtype=np.int64)
    numbers = kernel_numbers([side])

    def fill(start: int, stop: int) -> None:
        part = slice(start, stop)
        kernels.thresholds(*_tile([side], numbers, first, n, part), first, n, out[part])

    _over_channels([side], n, fill)
    return out[:, 1:]


def _domains(sides: Sequence[Side], lo: Any, hi: Any) -> tuple[I64, I64]:
    """Return each side's accumulators within ``[lo, hi]``: two (K, C) arrays."""
    channels = channels_of(sides)
    low, high = as_range((INT32_MIN if lo is None else lo, INT32_MAX if hi is None else hi), channels, empty=True)
    return (
        np.stack([np.maximum(low, one.low) for one in sides]),
        np.stack([np.minimum(high, one.high) for one in sides]),
    )


def cumulative_weights(weights: Any, channels: int) -> tuple[I64, I64]:
    """Return (values, cumulative weights), one row or one a channel, of a histogram of accumulators."""
    if weights is None:
        return np.empty((1, 0), np.int64), np.zeros((1, 1), np.int64)
    if not isinstance(weights, (tuple, list)) or len(weights) != 2:
        raise DomainError(f"weights must be (values, counts); got {type(weights).__name__}.")
    arrays = []
    for name, given in zip(("values", "counts"), weights, strict=True):
        array = np.asarray(given)
        if array.dtype.kind not in "iu":
            raise DTypeError(f"the {name} of weights must be integers; got dtype {array.dtype}.")
        if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[0] not in (1, channels)) or not array.size:
            raise DomainError(
                f"the {name} of weights must have the shape (n,) or ({channels}, n), n > 0; got {array.shape}."
            )
        arrays.append(np.atleast_2d(array).astype(np.int64))
    values, numbers = arrays
    if values.shape[1] != numbers.shape[1]:
        raise DomainError(f"weights need as many values as counts; got {values.shape[1]} and {numbers.shape[1]}.")
    bad = (values < INT32_MIN) | (values > INT32_MAX)
    if bad.any():
        raise DomainError(f"the values of weights must fit int32; got {first_value(values, bad)}{first_index(bad)}.")
    bad = np.diff(values, axis=1, prepend=values[:, :1] - 1) <= 0
    if bad.any():
        raise DomainError(f"the values of weights must rise; got {first_value(values, bad)}{first_index(bad)}.")
    bad = numbers < 0
    if bad.any():
        raise DomainError(
            f"the counts of weights must not be negative; got {first_value(numbers, bad)}{first_index(bad)}."
        )
    if numbers.sum(axis=1, dtype=np.float64).max() >= 2.0**62:
        raise DomainError(f"the counts of weights must add up to less than 2**62; got {numbers.sum(dtype=np.float64)}.")
    rows = max(values.shape[0], numbers.shape[0])
    values, numbers = (np.broadcast_to(array, (rows, array.shape[1])) for array in (values, numbers))
    cumulative = np.zeros((rows, numbers.shape[1] + 1), np.int64)
    np.cumsum(numbers, axis=1, out=cumulative[:, 1:])
    return values.copy(), cumulative


def _compare(sides: Sequence[Side], lo: Any, hi: Any, weights: Any, full: bool, backend: str | None) -> I64:
    """Run the comparison: (fields, C, pairs)."""
    engine = backends.kernels(backends.choose(backend), "staircase")
    domain = _domains(sides, lo, hi)
    first, n = covering_codes(sides)
    numbers, channels = kernel_numbers(sides), sides[0].channels
    values, cumulative = cumulative_weights(weights, channels)
    out = np.zeros((5 if full else 1, channels, len(pairs(len(sides)))), dtype=np.int64)

    def fill(start: int, stop: int) -> None:
        part = slice(start, stop)
        row = part if len(values) > 1 else slice(0, 1)
        bounds = (np.ascontiguousarray(bound[:, part]) for bound in domain)
        result = np.empty((out.shape[0], stop - start, out.shape[2]), dtype=np.int64)
        tile = _tile(sides, numbers, first, n, part, engine)
        engine.compare(*tile, *bounds, first, n, values[row], cumulative[row], full, result)
        out[:, part] = result

    _over_channels(sides, n, fill, engine)
    return out


def counts(
    sides: Sequence[Side], lo: Any = None, hi: Any = None, *, weights: Any = None, backend: str | None = None
) -> I64:
    """Count, for every pair of sides and channel, the accumulators with different outputs: exact, no sampling.

    ``#{x in [lo, hi] : A(x) != B(x)}``, over the x that both sides' domains hold.

    Parameters
    ----------
    sides : sequence of Side
        K of them, with clamped outputs and equal numbers of channels.
    lo, hi : int or int array, optional
        Closed accumulator range within int32; all of int32 by default; ``lo > hi`` holds no accumulator.
    weights : (values, counts), optional
        Histogram of accumulators, ascending values and their counts, 1-D or one row a channel: the result is then
        the total count of the values with different outputs.
    backend : str, optional
        Who counts: ``cpu``, ``cuda`` (thresholds in closed form) or ``reference`` (by bisection); the result does not
        depend on it.

    Returns
    -------
    int64 array, shape (C, K (K - 1) / 2)
        In the order of `pairs`.

    Raises
    ------
    DomainError, DTypeError
        As `thresholds`; ranges or weights that are not integers, out of bounds or out of order.

    Examples
    --------
    At the scale 1/4 "double" rounds 1/4 up to 1, and ties away from zero; "fp32" takes ties to even.

    >>> from qengine.exact.sides import side
    >>> from qengine.exact.staircase import counts
    >>> sides = [side(s, 0.25, dtype="int8") for s in ("single", "double", "fp32")]
    >>> counts(sides, -8, 8)                            # at -6, -2, 1, 5; at -6, 2; at -2, 1, 2, 5
    array([[4, 2, 4]])
    >>> counts(sides, weights=([-6, -2, 0], [1, 10, 100]))
    array([[11,  1, 10]])
    """
    return np.asarray(_compare(sides, lo, hi, weights, False, backend)[0], dtype=np.int64)


def compare(sides: Sequence[Side], lo: Any = None, hi: Any = None, *, backend: str | None = None) -> Comparison:
    """Count as `counts` does, and tell the first and last accumulator that differ and by how much outputs differ.

    Parameters, errors
        As `counts`.

    Examples
    --------
    >>> from qengine.exact.sides import side
    >>> from qengine.exact.staircase import compare
    >>> c = compare([side(s, 0.25, dtype="int8") for s in ("single", "double")])
    >>> [int(field[0, 0]) for field in (c.count, c.first, c.last, c.least, c.greatest)]
    [255, -510, 505, -1, 1]
    """
    return Comparison(*_compare(sides, lo, hi, None, True, backend))


def atoms(sides: Sequence[Side], channel: int = 0, lo: int | None = None, hi: int | None = None) -> Atoms:
    """Cut a range of accumulators into the pieces on which every side is constant.

    Parameters
    ----------
    sides : sequence of Side
        K of them, as in `counts`.
    channel : int
        Which channel.
    lo, hi : int, optional
        Closed range within int32; cut by the domains of all sides.

    Returns
    -------
    Atoms
        No pieces where no accumulator is in all domains; at most ``K (qmax - qmin) + 1``.

    Raises
    ------
    DomainError, DTypeError
        As `counts`; a channel that does not exist.

    Examples
    --------
    >>> from qengine.exact.sides import side
    >>> from qengine.exact.staircase import atoms
    >>> pieces = atoms([side(s, 0.25, dtype="int8") for s in ("single", "double")], 0, -4, 4)
    >>> pieces.starts, pieces.ends                       # the tie -2 is a piece of its own
    (array([-4, -2, -1,  1,  2]), array([-3, -2,  0,  1,  4]))
    >>> pieces.values
    array([[-1,  0,  0,  0,  1],
           [-1, -1,  0,  1,  1]])
    """
    channels = channels_of(sides)
    if not 0 <= channel < channels:
        raise DomainError(f"channel must be in [0, {channels - 1}]; got {channel}.")
    low, high = (
        int(bound[0])
        for bound in as_range((INT32_MIN if lo is None else lo, INT32_MAX if hi is None else hi), 1, empty=True)
    )
    bottom, stop = (
        max(low, *(int(one.low[channel]) for one in sides)),
        min(high, *(int(one.high[channel]) for one in sides)) + 1,
    )
    part = slice(channel, channel + 1)
    first, n = covering_codes(sides, part)
    rows = np.empty((len(sides), n + 1), np.int64)
    numbers = kernel_numbers(sides, part)
    picked = [one if closed_form(one.form.rule) else one.take(np.array([channel])) for one in sides]
    kernels.thresholds(*_tile(picked, numbers, first, n, slice(0, 1)), first, n, rows)
    room = n * len(sides) + 1
    starts, values = np.empty(room, np.int64), np.empty((len(sides), room), np.int64)
    size = int(kernels.atoms(rows, bottom, stop, starts, values))
    starts = starts[:size].copy()
    return Atoms(starts, np.append(starts[1:], stop)[:size] - 1, values[:, :size] + first)


def intervals(a: Side, b: Side, channel: int = 0, lo: int | None = None, hi: int | None = None) -> list[Interval]:
    """Return the closed intervals on which two sides differ, each with the two outputs, in order.

    Parameters
    ----------
    a, b : Side
        As in `counts`.
    channel, lo, hi : int
        As in `atoms`.

    Returns
    -------
    list of Interval
        Disjoint; neighbours that touch have different outputs.

    Examples
    --------
    >>> from qengine.exact.sides import side
    >>> from qengine.exact.staircase import intervals
    >>> intervals(side("single", 0.25, dtype="int8"), side("fp32", 0.25, dtype="int8"), 0, -4, 4)
    [Interval(first=2, last=2, a=1, b=0)]
    """
    pieces = atoms([a, b], channel, lo, hi)
    at = np.flatnonzero(pieces.values[0] != pieces.values[1])
    columns = (pieces.starts[at], pieces.ends[at], *pieces.values[:, at])
    return [Interval(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
