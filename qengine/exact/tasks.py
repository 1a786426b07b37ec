"""What tiles of the exact engines compute, as something to send: numbers and names, from which a worker starts."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from qengine.kernels.cpu import census as kernels

from ..work.run import cut
from .census_question import Question
from .census_result import Tally
from .divisor_sums import divisor_sums

#: Divergent pairs, and the sum of their differences.
Sums = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _OfShift:
    """A part of a census at one shift."""

    asked: Question
    shift: int

    def __str__(self) -> str:
        a, b = (scheme.name for scheme in self.asked.schemes)
        q = self.asked
        return (
            f"the census of {a!r} and {b!r} at shift {self.shift}, mantissas [{q.first}, {q.last}], accumulators "
            f"[{q.low}, {q.high}], {q.output}, on back end {q.backend!r}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Mantissas(_OfShift):
    """Count mantissas ``first + start .. first + stop - 1`` one by one."""

    def __call__(self, start: int, stop: int) -> Tally:
        """Count a tile, in steps that fit a cache or a device."""
        total = Tally()
        for tile in cut(stop, self.asked.tile_size(self.shift), start):
            total = total.merge(self.asked.tile(self.shift, tile.start, tile.stop))
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Accumulators(_OfShift):
    """Count raw outputs of accumulators ``start .. stop - 1`` of the range, over all mantissas."""

    def __call__(self, start: int, stop: int) -> Sums:
        """Count a tile."""
        return self.asked.accumulators(self.shift, start, stop)


@dataclass(frozen=True, slots=True, eq=False)
class Codes(_OfShift):
    """Count a clamped output by divisor sums ``start .. stop - 1``."""

    def sums(self) -> Any:
        """Return the divisor sums that the two staircases differ by."""
        return _sums(self)

    def __call__(self, start: int, stop: int) -> Sums:
        """Count a tile."""
        sums, asked = _sums(self), self.asked
        out = np.empty(stop - start, np.int64)
        w, bottom, top = (column[start:stop] for column in (sums.w, sums.low, sums.high))
        kernels.clipped_sums(w, bottom, top, asked.first, asked.last, kernels.DEPTH, kernels.CHEAPEST, out)
        values: list[int] = out.tolist()
        divergent, signed = (
            sum(map(operator.mul, weights[start:stop], values)) for weights in (sums.count, sums.signed)
        )
        return divergent, signed


@functools.lru_cache(maxsize=4)
def _sums(task: Codes) -> Any:
    asked = task.asked
    sides = asked.ends(task.shift)
    low, high = (int(bound[0]) for bound in asked.domain(sides))
    numbers = []
    for one in sides:
        form, e = one.form, one.epilogue
        fields = (form.bp, form.bn, form.t, e.low, e.high, e.zero_point)
        numbers.append(tuple(int(values[0]) for values in fields))
    clamp = sides[0].epilogue
    return divisor_sums(numbers[0], numbers[1], clamp.qmin, clamp.qmax, low, high, asked.last)  # type: ignore[arg-type]
