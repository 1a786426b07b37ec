"""Counting the states on which sides differ: thresholds in closed form where a scheme has them, else bisection.

Every arithmetic of the profiles is monotone in the accumulator as long as no intermediate overflows (`plain`); there
it is known by its thresholds. Accumulators beyond are tried one by one, or said to be undecided where they are many.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.forms import INT32_MAX, INT32_MIN, FloorRule
from ..exact import staircase
from ..exact.sides import Side as Bound
from ..exact.sides import side as bind
from ..requant import recipes
from ..requant.forms import mantissa_exponent
from ..requant.schemes import get_scheme
from ..runtimes.arithmetic import ORDERS, SAME_BELOW_HALF, SMALL, FloatChain, Scheme, Staged
from .audit_sides import Kernel
from .requantizing import Requantizing
from .source import Array

I64 = npt.NDArray[np.int64]
#: Accumulators of one channel that are tried one by one where an intermediate can overflow.
TRIED = 1 << 20
#: Outputs that are computed at a time.
BLOCK = 1 << 20


@dataclass(frozen=True, eq=False, slots=True)
class Counts:
    """One pair of kernels over C channels: arrays of C; differences are second - first, 0 where nothing differs."""

    count: I64
    first: I64
    least: I64
    greatest: I64
    undecided: I64

    @classmethod
    def empty(cls, channels: int) -> Counts:
        """Return zeros."""
        return cls(*(np.zeros(channels, np.int64) for _ in range(5)))

    def put(self, at: Array, other: Counts) -> None:
        """Write the numbers of some channels."""
        for name in ("count", "first", "least", "greatest", "undecided"):
            getattr(self, name)[at] = getattr(other, name)


def _of(values: Array, channels: Array) -> Array:
    return np.broadcast_to(values, channels.shape) if values.size == 1 else values[channels]


def bound_side(kernel: Kernel, row: Requantizing, channels: Array) -> tuple[Bound, npt.NDArray[np.bool_]] | None:
    """Return the scheme that a kernel equals wherever nothing overflows, and the channels where it does."""
    arithmetic, fits = kernel.arithmetic, np.ones(channels.size, np.bool_)
    stored = _of(row.in_scale, channels), _of(row.w_scale, channels), _of(row.out_scale, channels)
    if isinstance(arithmetic, Scheme):
        name, recipe = arithmetic.scheme, arithmetic.recipe
    elif isinstance(arithmetic, Staged) and arithmetic.addition != "int16-wraps":
        name, recipe = SAME_BELOW_HALF[arithmetic.order], arithmetic.recipe
        fits = np.asarray(recipes.apply(recipe, *stored)) < SMALL
    elif isinstance(arithmetic, FloatChain) and not arithmetic.inside:
        known = {(32, "half-even"): "fp32", (32, "half-away"): "fp32-away", (64, "half-away"): "fp64-away"}
        name, recipe = known.get((arithmetic.bits, arithmetic.rounding), ""), arithmetic.recipe
        if not name:
            return None
    else:
        return None
    found = bind(
        name, scales=stored, recipe=recipe, zero_point=_of(row.out_zp, channels), dtype=row.dtype,
        qmin=kernel.clamp[0], qmax=kernel.clamp[1], outside="empty",
    )  # fmt: skip
    low, high = _of(row.low, channels), _of(row.high, channels)
    return found, fits & (found.low <= low) & (high <= found.high)


def count_accumulators(
    row: Requantizing, kernels: Sequence[Kernel | None], channels: Array
) -> tuple[list[Counts], list[Bound | None]]:
    """Count the accumulators on which every two kernels differ.

    Parameters
    ----------
    kernels : sequence of Kernel or None
        One a side; pairs with None are left at zero.
    channels : int array

    Returns
    -------
    (list of Counts, list of Side or None)
        Pairs in the order of `staircase.pairs`; the schemes that were found equal to the kernels.
    """
    couples = staircase.pairs(len(kernels))
    found = [Counts.empty(channels.size) for _ in couples]
    low, high = _of(row.low, channels), _of(row.high, channels)
    bound = [None if kernel is None else bound_side(kernel, row, channels) for kernel in kernels]
    closed = np.array([np.zeros(channels.size, bool) if pair is None else pair[1] for pair in bound])
    patterns, which = np.unique(closed, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        at = np.flatnonzero(which.ravel() == number)
        inside = np.flatnonzero(pattern)
        sides = [pair[0].take(at) for k in inside if (pair := bound[k]) is not None]
        if len(sides) > 1:
            result = staircase.compare(sides, low[at], high[at], backend="cpu")
            nothing = np.zeros(at.size, np.int64)
            for p, (i, j) in enumerate(staircase.pairs(len(sides))):
                one = slice(None), p
                counts = Counts(result.count[one], result.first[one], result.least[one], result.greatest[one], nothing)
                found[couples.index((int(inside[i]), int(inside[j])))].put(at, counts)
        for p, (i, j) in enumerate(couples):
            a, b = kernels[i], kernels[j]
            if a is not None and b is not None and not (pattern[i] and pattern[j]) and not a.same(b):
                found[p].put(at, _bisected(row, a, b, channels[at]))
    return found, [None if pair is None else pair[0] for pair in bound]


def plain(row: Requantizing, kernels: Sequence[Kernel], channels: Array) -> tuple[I64, I64]:
    """Return the closed ranges of accumulators in which no intermediate of any arithmetic overflows, about zero.

    The product stays below ``2**31 - 2**17``, so that a zero point can be added; an accumulator that is shifted left
    before the multiplication (by the exponent of the multiplier, or one more) stays within int32.
    """
    stored = [_of(values, channels) for values in (row.in_scale, row.w_scale, row.out_scale)]
    # The recipes in between are as close to one of the two as a few roundings of float32.
    real = np.maximum(*(recipes.apply(name, *stored) for name in ("double", "float32"))) * (1 + 2.0**-20)
    reach = np.minimum((2.0**31 - 2.0**17) / real, 2.0**47)
    left = np.maximum(np.frexp(real)[1] + 1, 0)
    reach = np.where(left > 0, np.minimum(reach, 2.0**31 / 2.0**left - 1), reach)
    limit = np.floor(reach).astype(np.int64)
    wide = all(kernel.profile.acc_bits == 48 for kernel in kernels)
    bottom, top = (-(1 << 47), (1 << 47) - 1) if wide else (INT32_MIN, INT32_MAX)
    return np.maximum(-limit, bottom), np.minimum(limit, top)


def _bisected(row: Requantizing, a: Kernel, b: Kernel, channels: Array) -> Counts:
    """Count by evaluation alone: thresholds by bisection inside `plain`, every accumulator outside of it."""
    result = Counts.empty(channels.size)
    low, high = _of(row.low, channels), _of(row.high, channels)
    bottom, top = plain(row, (a, b), channels)
    lo, hi = np.maximum(low, bottom), np.minimum(high, top)
    codes = np.arange(min(a.clamp[0], b.clamp[0]) + 1, max(a.clamp[1], b.clamp[1]) + 1, dtype=np.int64)
    step = max(1, BLOCK // max(1, codes.size))
    for start in range(0, channels.size, step):
        part = np.arange(start, min(start + step, channels.size))
        part = part[lo[part] <= hi[part]]
        if part.size:
            cuts = [
                thresholds(functools.partial(k.accumulated, row, channels[part]), codes, lo[part], hi[part])
                for k in (a, b)
            ]
            at, sizes = pieces(cuts, lo[part], hi[part])
            y, z = (k.accumulated(row, channels[part], at) for k in (a, b))
            result.put(part, _tallied(at, np.where(y != z, sizes, 0), z - y))
    narrow = not all(kernel.profile.acc_bits == 48 for kernel in (a, b))
    ends = (INT32_MIN, INT32_MAX) if narrow else (-(1 << 47), (1 << 47) - 1)
    for c in np.flatnonzero((low < lo) | (high > hi)).tolist():
        # Where [lo, hi] is empty, all of [low, high] lies outside.
        edges = [(low[c], min(lo[c] - 1, high[c])), (max(hi[c] + 1, lo[c], low[c]), high[c])]
        stretches = [(max(int(x), ends[0]), min(int(y), ends[1])) for x, y in edges]
        total = sum(max(0, int(y) - int(x) + 1) for x, y in edges)
        tried = sum(max(0, y - x + 1) for x, y in stretches)
        if tried > TRIED:
            result.undecided[c] = total
            continue
        result.undecided[c] = total - tried
        for begin, end in stretches:
            if begin <= end:
                _tried(row, a, b, channels[c : c + 1], np.arange(begin, end + 1, dtype=np.int64), result, c)
    return result


def thresholds(evaluate: Callable[[I64], Array], codes: I64, lo: I64, hi: I64) -> I64:
    """Return ``min {x in [lo, hi] : y(x) >= k}`` for every code, ``hi + 1`` where there is none: (codes, channels).

    `evaluate` takes states of shape (codes, channels) and is monotone in them.
    """
    shape = codes.size, lo.size
    below, above = np.broadcast_to(lo, shape).copy(), np.broadcast_to(hi + 1, shape).copy()
    while True:
        open_ = below < above
        if not open_.any():
            return below
        middle = np.minimum((below + above) >> 1, hi)  # below 2**48
        met = evaluate(middle) >= codes[:, None]
        above = np.where(open_ & met, middle, above)
        below = np.where(open_ & ~met, middle + 1, below)


def pieces(cuts: Sequence[I64], lo: I64, hi: I64) -> tuple[I64, I64]:
    """Return one state of each piece between neighbouring thresholds, and the piece's size: 0 of an empty one."""
    starts = np.sort(np.concatenate([lo[None], *cuts]), axis=0)
    return np.minimum(starts, hi), np.diff(starts, axis=0, append=hi[None] + 1)


def _tallied(at: I64, sizes: I64, difference: I64) -> Counts:
    """Sum up pieces, (n, channels), of those sizes (0: both are equal there)."""
    differs = sizes > 0
    some = differs.any(axis=0)
    row = differs.argmax(axis=0)
    first = np.where(some, np.take_along_axis(at, row[None], axis=0)[0], 0)
    largest = np.iinfo(np.int64).max
    least = np.where(some, np.where(differs, difference, largest).min(axis=0), 0)
    greatest = np.where(some, np.where(differs, difference, -largest).max(axis=0), 0)
    return Counts(sizes.sum(axis=0), first, least, greatest, np.zeros(some.size, np.int64))


def _tried(row: Requantizing, a: Kernel, b: Kernel, channel: Array, states: I64, result: Counts, c: int) -> None:
    """Compare accumulators one by one, and add them to the numbers of channel c."""
    y, z = (kernel.accumulated(row, channel, states[:, None]) for kernel in (a, b))
    found = _tallied(states[:, None], (y != z).astype(np.int64), z - y)
    if not found.count[0]:
        return
    before = result.count[c] > 0
    result.first[c] = min(result.first[c], found.first[0]) if before else found.first[0]
    result.least[c] = min(result.least[c], found.least[0]) if before else found.least[0]
    result.greatest[c] = max(result.greatest[c], found.greatest[0]) if before else found.greatest[0]
    result.count[c] += found.count[0]


def multiplier_of(kernel: Kernel, row: Requantizing) -> dict[str, Any] | None:
    """Return base, multiplier, shift, represented and ppm of a kernel; None where it has no one multiplier."""
    arithmetic = kernel.arithmetic
    if not isinstance(arithmetic, (Scheme, Staged, FloatChain)):
        return None
    stored = row.in_scale, row.w_scale, row.out_scale
    base, bits, mantissa = 0, 32, ""
    recipe = arithmetic.recipe or ""
    if isinstance(arithmetic, Scheme):
        scheme = get_scheme(arithmetic.scheme)
        recipe, bits = recipe or scheme.recipe, 64 if scheme.parameter == "float64" else 32
        if isinstance(scheme.rule, FloorRule):
            base, mantissa = scheme.rule.base, scheme.rule.mantissa
    elif isinstance(arithmetic, Staged):
        base, mantissa = 31, "q31" if ORDERS[arithmetic.order].mantissa == "q31" else "m24<<7"
    else:
        bits = arithmetic.bits
    real = np.atleast_1d(recipes.apply(recipe, *stored))
    if base:
        multiplier, shift = mantissa_exponent(real, mantissa)
        represented = np.ldexp(multiplier.astype(np.float64), shift - base)
    else:
        represented = real.astype(f"float{bits}").astype(np.float64)
        multiplier, shift = represented, np.zeros(real.size, np.int64)
    ppm = (represented / np.atleast_1d(recipes.apply("double", *stored)) - 1) * 1e6
    return {"base": base, "multiplier": multiplier, "shift": shift, "represented": represented, "ppm": ppm}
