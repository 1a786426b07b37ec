"""Two schemes of a comparison: exact counts, differences, witnesses and why they differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..requant import spec
from ..requant.multiplier import QuantizedMultiplier
from . import lattice, scan, staircase
from .inputs import DivergentInputs
from .sides import Side

if TYPE_CHECKING:
    from .comparison import SchemeComparison

I64 = npt.NDArray[np.int64]
#: Differences up to which reports tell them apart.
SHORT = 1000


@dataclass(frozen=True, slots=True)
class Divergence:
    """One accumulator on which two schemes differ.

    Attributes
    ----------
    channel, acc, zero_point : int
    multiplier : (float, float)
        The real multiplier of each scheme, after its recipe.
    outputs : (int, int)
    exact : float
        ``acc * multiplier[0]``, before rounding, without the zero point.
    why : str
        One sentence.
    """

    channel: int
    acc: int
    zero_point: int
    multiplier: tuple[float, float]
    outputs: tuple[int, int]
    exact: float
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "channel": self.channel, "acc": self.acc, "zero_point": self.zero_point,
            "multiplier": list(self.multiplier), "outputs": list(self.outputs), "exact": self.exact, "why": self.why,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Couple:
    """Counts of one ordered pair of schemes; differences are ``first_scheme - second_scheme``.

    Attributes
    ----------
    schemes : (str, str)
    engine : str
        Who counted: ``lattice``, ``staircase`` or ``scan``.
    by_channel, compared_by_channel : int64 arrays
        Divergent accumulators, and those on which both schemes are defined; weights where weights were given.
    """

    comparison: SchemeComparison
    schemes: tuple[str, str]
    engine: str
    by_channel: I64
    compared_by_channel: I64
    pair: int
    sign: int

    @cached_property
    def divergent(self) -> int:
        """Accumulators (or weight) on which the outputs differ, over all channels."""
        return summed(self.by_channel)

    @cached_property
    def compared(self) -> int:
        """Accumulators (or weight) on which both schemes are defined, over all channels."""
        return summed(self.compared_by_channel)

    @property
    def excluded(self) -> int:
        """Accumulators (or weight) of the range on which one of the two is not defined."""
        return summed(self.comparison.sizes) - self.compared

    @property
    def rate(self) -> float:
        """Divergent share of the compared ones (NaN where nothing was compared)."""
        return self.divergent / self.compared if self.compared else math.nan

    @property
    def channels(self) -> int:
        """Channels with any divergence."""
        return int(np.count_nonzero(self.by_channel))

    @property
    def equal(self) -> bool:
        """Whether it is proved that the two agree wherever they were compared."""
        return self.compared > 0 and self.divergent == 0

    @cached_property
    def max_abs_diff(self) -> int:
        """Largest absolute difference of the outputs."""
        least, greatest = self._extremes
        return max(-least, greatest, 0)

    @cached_property
    def _extremes(self) -> tuple[int, int]:
        """Bounds of the difference of which one at least is attained."""
        c, p = self.comparison, self.pair
        at = np.flatnonzero(self.by_channel)
        if not at.size:
            return 0, 0
        if p in c.extents:
            return int(c.extents[p][2].min()), int(c.extents[p][3].max())
        if c.weights is not None:
            found = [c.weighed(p, int(k))[1] for k in at]
            return min(int(d.min()) for d in found), max(int(d.max()) for d in found)
        if self.engine == "scan":
            size = max(c.scanned[p, int(k)].largest for k in at)
            return -size, size
        a, b = (side.take(at) for side in c.pair_of_sides(p))
        least, greatest = lattice.extremes(a, b, *(bound[at] for bound in c.domain(p)))
        return int(least.min()), int(greatest.max())

    @property
    def tallied(self) -> bool:
        """Whether the histogram is short and costs no further pass over all accumulators."""
        c = self.comparison
        at = [(self.pair, k) for k in np.flatnonzero(self.by_channel).tolist()]
        scanned = [c.scanned[key] for key in at if key in c.scanned]
        return self.max_abs_diff <= SHORT and all(found.histogram is not None for found in scanned)

    @cached_property
    def histogram(self) -> dict[int, int]:
        """Divergent accumulators (or weight) by ``first - second``, over all channels, ascending."""
        c, total = self.comparison, dict[int, int]()
        a, b = c.pair_of_sides(self.pair)
        low, high = c.domain(self.pair)
        for k in np.flatnonzero(self.by_channel):
            if c.weights is None:
                scanned = c.scanned.get((self.pair, int(k)))
                found = _histogram(self.engine, a, b, int(k), int(low[k]), int(high[k]), scanned)
            else:
                found = _tallied(*c.weighed(self.pair, int(k))[1:])
            for difference, count in found.items():
                total[-self.sign * difference] = total.get(-self.sign * difference, 0) + count
        return dict(sorted(total.items()))

    def inputs(self, channel: int = 0) -> DivergentInputs:
        """Return the divergent accumulators of one channel."""
        a, b = self.comparison.pair_of_sides(self.pair)[:: self.sign]
        low, high = self.comparison.domain(self.pair)
        a, b = (side.take(np.array([channel])) for side in (a, b))
        return DivergentInputs(a, b, int(low[channel]), int(high[channel]), self.engine, channel)

    @cached_property
    def first(self) -> Divergence | None:
        """The least divergent accumulator of the first channel that has one; None where there is none."""
        return self._end(last=False)

    @cached_property
    def last(self) -> Divergence | None:
        """The greatest divergent accumulator of the last channel that has one; None where there is none."""
        return self._end(last=True)

    def _end(self, last: bool) -> Divergence | None:
        at = np.flatnonzero(self.by_channel)
        if not at.size:
            return None
        channel = int(at[-1 if last else 0])
        extent = self.comparison.extents.get(self.pair)
        if self.comparison.weights is not None:
            acc: int | None = int(self.comparison.weighed(self.pair, channel)[0][-1 if last else 0])
        elif extent is not None:
            acc = int(extent[int(last)][channel])
        elif (self.pair, channel) in self.comparison.scanned:
            acc = self._end_of_scan(channel, last)
        else:
            found = self.inputs(channel)
            acc = found.last if last else found.first
        return None if acc is None else self.explained(acc, channel)

    def _end_of_scan(self, channel: int, last: bool) -> int | None:
        found = self.comparison.scanned[self.pair, channel]
        if not last or found.last_tile is None:
            return found.first
        a, b = self.comparison.pair_of_sides(self.pair)
        stop = min(found.last_tile + scan.TILE - 1, int(self.comparison.high[channel]))
        *_, block = scan.blocks(a, b, channel, found.last_tile, stop)
        return int(block[-1])

    def explained(self, acc: int, channel: int = 0) -> Divergence:
        """Return both outputs of an accumulator with the reason why they differ, from the specification."""
        return explained(self.comparison, self.schemes, acc, channel)

    def to_dict(self, full: bool = True) -> dict[str, Any]:
        """Return plain data for JSON; `full`: with what is worked out beyond the counts."""
        data: dict[str, Any] = {
            "schemes": list(self.schemes), "engine": self.engine, "compared": self.compared,
            "excluded": self.excluded, "divergent": self.divergent, "rate": self.rate if self.compared else None,
            "divergent_channels": self.channels,
        }  # fmt: skip
        if full:
            data |= {
                "max_abs_diff": self.max_abs_diff,
                "histogram": {str(d): n for d, n in self.histogram.items()} if self.tallied else None,
                "first": self.first.to_dict() if self.first else None,
                "last": self.last.to_dict() if self.last else None,
            }
        return data


def summed(array: I64) -> int:
    """Sum exactly: 2**32 accumulators of 2**31 channels would pass int64."""
    return int(array.sum()) if array.size < 1 << 30 else sum(map(int, array))


def _histogram(
    engine: str, a: Side, b: Side, channel: int, low: int, high: int, scanned: scan.Scanned | None
) -> dict[int, int]:
    """Return {B - A: accumulators} of one channel, without 0."""
    found: dict[int, int] = {}
    if engine == "lattice":
        found = lattice.histogram(a, b, channel, low, high)
    elif engine == "staircase":
        for piece in staircase.intervals(a, b, channel, low, high):
            found[piece.b - piece.a] = found.get(piece.b - piece.a, 0) + piece.size
    elif scanned is not None and scanned.histogram is not None:
        found = scanned.histogram
    else:
        pair = a.take(np.array([channel])), b.take(np.array([channel]))
        for x in scan.blocks(a, b, channel, low, high):
            y, z = (side.evaluate(x[None], "cpu")[0] for side in pair)
            for difference, count in _tallied(z - y, np.ones(x.size, np.int64)).items():
                found[difference] = found.get(difference, 0) + count
    return {difference: count for difference, count in found.items() if difference and count}


def _tallied(differences: I64, weights: I64) -> dict[int, int]:
    """Return {difference: sum of its weights}."""
    values, place = np.unique(differences, return_inverse=True)
    totals = np.zeros(values.size, np.int64)
    np.add.at(totals, place, weights)
    return dict(zip(values.tolist(), totals.tolist(), strict=True))


def _multiplier(side: Side, channel: int) -> QuantizedMultiplier | float:
    given = side.multiplier
    if isinstance(given, QuantizedMultiplier):
        value, shift = np.ravel(given.value), np.ravel(given.shift)
        at = channel if value.size > 1 else 0
        return QuantizedMultiplier(int(value[at]), int(shift[at]))
    return float(given[channel if given.size > 1 else 0])


def explained(comparison: SchemeComparison, schemes: tuple[str, str], acc: int, channel: int) -> Divergence:
    """Return both outputs of one accumulator with the reason, from the specification in Python integers."""
    sides = [comparison.sides[comparison.schemes.index(name)] for name in schemes]
    multipliers = [_multiplier(one, channel) for one in sides]
    e = sides[0].epilogue
    zero_point = int(e.zero_point[channel])
    limits = (e.qmin, e.qmax) if e.clamped else (None, None)
    traces = [spec.trace(one.scheme, acc, m, zero_point, *limits) for one, m in zip(sides, multipliers, strict=True)]
    reals = tuple(float(m.real) if isinstance(m, QuantizedMultiplier) else m for m in multipliers)
    return Divergence(
        channel, acc, zero_point, (reals[0], reals[1]), (traces[0].clamped, traces[1].clamped),
        float(Fraction(acc) * Fraction(reals[0])), spec.why(traces[0], traces[1], schemes),
    )  # fmt: skip
