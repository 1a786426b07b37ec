"""What a census asks, and its tiles: pure functions of their range of mantissas or accumulators."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from qengine.kernels.cpu import census as kernels
from qengine.kernels.reference import census as by_definition
from qengine.kernels.reference import staircase as reference

from .. import backends
from ..backends.forms import I64, FloorRule
from ..exceptions import DomainError
from ..requant.multiplier import QuantizedMultiplier
from ..requant.schemes import Scheme
from . import lattice, staircase
from .census_result import Tally
from .sides import Side, common_domain, side

#: Multipliers a tile: some milliseconds of work in the cache; fewer where outputs have many codes.
TILE, CODES_A_TILE = 1 << 12, 1 << 23
#: Multipliers up to which tiles are chosen where both ways apply: a moment's work, and they tell more.
FEW = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Which pairs are compared: two schemes, mantissas, accumulators, the output. Tiles are functions of it.

    Attributes
    ----------
    schemes : (Scheme, Scheme)
    first, last : int
        Closed range of mantissas.
    low, high : int
        Closed range of accumulators; those on which a scheme has no defined output are left out.
    output : dict
        ``dtype``, ``zero_point``, ``qmin`` and ``qmax`` as in `qengine.requantize`.
    backend : str
        Where tiles are counted.
    """

    schemes: tuple[Scheme, Scheme]
    first: int
    last: int
    low: int
    high: int
    output: dict[str, Any]
    backend: str = "cpu"

    @property
    def multipliers(self) -> int:
        """Number of mantissas."""
        return self.last - self.first + 1

    def sides(self, shift: int, mantissas: I64) -> tuple[Side, Side]:
        """Bind both schemes to some mantissas of a shift."""
        given = QuantizedMultiplier(mantissas, np.full(mantissas.size, shift, dtype=np.int64))
        a, b = (side(scheme, given, **self.output) for scheme in self.schemes)
        return a, b

    def domain(self, sides: tuple[Side, Side]) -> tuple[I64, I64]:
        """Return the accumulators that are compared, a closed range for each mantissa."""
        return common_domain(sides, (self.low, self.high))

    def ends(self, shift: int) -> tuple[Side, Side]:
        """Bind both schemes to the first and the last mantissa."""
        return self.sides(shift, np.array([self.first, self.last]))

    def not_closed(self, shift: int) -> str | None:
        """Return why no closed form applies, or None."""
        if self.backend != "cpu":
            return f"back end {self.backend!r} counts multiplier by multiplier"
        return self.not_alike(shift)

    def not_alike(self, shift: int) -> str | None:
        """Return why mantissas differ in more than the slope, or None."""
        sides = self.ends(shift)
        for one in sides:
            rule = one.form.rule
            if not isinstance(rule, FloorRule) or rule.mantissa != "q31":
                return f"scheme {one.scheme.name!r} does not multiply by the Q0.31 mantissa itself"
            if not one.monotone.all():
                return f"scheme {one.scheme.name!r} falls between the accumulators -1 and 0"
        # Domains shrink as the mantissa grows: equal at both ends is equal throughout.
        low, high = self.domain(sides)
        if low[0] != low[1] or high[0] != high[1]:
            return (
                f"at shift {shift} the accumulators with a defined output depend on the mantissa; "
                f"[{max(low)}, {min(high)}] are common to all"
            )
        return None

    def not_tiled(self, shift: int) -> str | None:
        """Return why mantissas cannot be counted one by one, or None."""
        sides = self.ends(shift)
        if _few_codes(sides) or (sides[0].floor and sides[1].floor and self.backend == "cpu"):
            return None
        if self.backend != "cpu":
            return (
                f"back end {self.backend!r} counts by thresholds: the output has to be clamped to int8, uint8 or int16"
            )
        other = next((one for one in sides if not one.floor), sides[0])
        return (
            f"scheme {other.scheme.name!r} is a {other.scheme.form} form: its output has to be clamped to int8, uint8 "
            "or int16"
        )

    def method(self, shift: int, wanted: str) -> str:
        """Return the way that is taken at a shift, ``closed`` or ``tiles``, or raise."""
        closed, tiles = self.not_closed(shift), self.not_tiled(shift)
        if wanted == "auto":
            if closed is None and tiles is None:
                low, high = self.domain(self.ends(shift))
                clamped = self.ends(shift)[0].clamped
                few = self.multipliers <= FEW if clamped else self.multipliers < int(high[0]) - int(low[0]) + 1
                return "tiles" if few else "closed"
            wanted = "closed" if closed is None else "tiles"
        reason = closed if wanted == "closed" else tiles
        if reason is not None:
            raise DomainError(f"the census by method {wanted!r} is not possible: {reason}.")
        return wanted

    def tile_size(self, shift: int) -> int:
        """Return how many mantissas make a tile."""
        sides = self.ends(shift)
        if not _few_codes(sides):
            return TILE
        wing = backends.kernels(self.backend, "census") if self.backend == "cuda" else None
        size, codes = (TILE, CODES_A_TILE) if wing is None else (wing.TILE, wing.CODES_A_TILE)
        return max(1, min(size, codes // max(1, staircase.covering_codes(sides)[1])))

    def tile(self, shift: int, start: int, stop: int) -> Tally:
        """Count the mantissas ``first + start .. first + stop - 1`` of a shift one by one: a pure function."""
        if self.backend == "cuda":
            return self._device_tile(shift, start, stop)
        mantissas = np.arange(self.first + start, self.first + stop, dtype=np.int64)
        size = mantissas.size
        counts, sums = np.empty(size, np.int64), np.empty(size, np.int64)
        if (like := _alike(self, shift)) is not None:
            # All numbers but the slope are those of the first mantissa.
            sides, low, high = like, *(np.repeat(bound[:1], size) for bound in self.domain(like))
        else:
            sides = self.sides(shift, mantissas)
            low, high = self.domain(sides)
        if _few_codes(sides):
            first, n = staircase.covering_codes(sides)
            rules, *numbers = staircase.kernel_numbers(sides)
            if self.backend == "reference":
                a, b = (reference.thresholds(one.evaluate, size, first, n) for one in self.sides(shift, mantissas))
                by_definition.by_thresholds(a, b, low, high, counts, sums)
            else:
                if like is not None:
                    numbers = [np.repeat(array[:, :1], size, axis=1) for array in numbers]
                    numbers[0][:] = mantissas
                kernels.by_thresholds(rules, *numbers, low, high, first, n, counts, sums)
        else:
            rows = [lattice.kernel_rows(one, slice(None)) for one in sides]
            if like is not None:
                rows = [np.repeat(array[:1], size, axis=0) for array in rows]
                for array in rows:
                    array[:, 0] = mantissas
            kernels.by_lattice(*rows, low, high, counts, sums)
        at = int(counts.argmax())
        return Tally(
            size, int(np.maximum(high - low + 1, 0).sum()), int(counts.sum()), _exact_sum(sums),
            int(np.count_nonzero(counts)), int(counts[at]), int(mantissas[at]),
        )  # fmt: skip

    def _device_tile(self, shift: int, start: int, stop: int) -> Tally:
        """As `tile`, on a device: multipliers are made there, from the numbers of the first one and the rules."""
        size, mantissa = stop - start, self.first + start
        sides, like = self.ends(shift), _alike(self, shift) is not None
        low, high = self.domain(sides)
        if low[0] == low[1] and high[0] == high[1]:  # domains shrink as the mantissa grows
            low, high = low[:1], high[:1]
            compared = size * max(int(high[0]) - int(low[0]) + 1, 0)
        else:
            low, high = self.domain(self.sides(shift, np.arange(mantissa, mantissa + size, dtype=np.int64)))
            compared = int(np.maximum(high - low + 1, 0).sum())
        rules, *numbers = staircase.kernel_numbers(sides)
        codes = staircase.covering_codes(sides)
        wing = backends.kernels(self.backend, "census")
        divergent, signed, multipliers, most, place = wing.tile(
            rules, numbers, shift, mantissa, size, low, high, *codes, like
        )
        return Tally(size, compared, divergent, signed, multipliers, most, mantissa + place)

    def accumulators(self, shift: int, start: int, stop: int) -> tuple[int, int]:
        """Count and sum, over all mantissas, the raw outputs of the accumulators ``start .. stop - 1`` of the range.

        Needs ``not_closed(shift) is None``.
        """
        sides = self.ends(shift)
        a, b = (lattice.kernel_rows(one, slice(0, 1)) for one in sides)
        bottom = int(self.domain(sides)[0][0])
        counts, sums = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
        kernels.along_multipliers(a, b, self.first, self.last, bottom + start, counts, sums)
        return int(counts.sum()), _exact_sum(sums)


@functools.lru_cache(maxsize=64)
def _alike(asked: Question, shift: int) -> tuple[Side, Side] | None:
    """Return the sides of the first and last mantissa if no other differs from them but in its slope."""
    return asked.ends(shift) if asked.not_alike(shift) is None else None


def _few_codes(sides: tuple[Side, Side]) -> bool:
    """Tell whether both outputs have thresholds in closed form."""
    lowest, highest = staircase.CODES
    return all(
        one.clamped and one.epilogue.qmin >= lowest and one.epilogue.qmax <= highest
        and staircase.closed_form(one.form.rule)
        for one in sides
    )  # fmt: skip


def _exact_sum(values: I64) -> int:
    """Sum int64 values that may leave int64 together: at most 2**31 of them, high and low words apart."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())
