"""What a comparison of K schemes returns: exact counts of every pair, channel by channel."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import UnknownNameError
from ..requant import recipes, spec
from ..requant.multiplier import QuantizedMultiplier, as_reals, split_real
from ..requant.scales import ScaleTable
from ..requant.schemes import get_scheme
from . import lattice, scan, staircase
from .inputs import DivergentInputs
from .sides import Side

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
        return _total(self.by_channel)

    @cached_property
    def compared(self) -> int:
        """Accumulators (or weight) on which both schemes are defined, over all channels."""
        return _total(self.compared_by_channel)

    @property
    def excluded(self) -> int:
        """Accumulators (or weight) of the range on which one of the two is not defined."""
        return _total(self.comparison.sizes) - self.compared

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


@dataclass(eq=False)
class SchemeComparison:
    """Exact counts of every pair of K schemes over C channels.

    Attributes
    ----------
    schemes : tuple of str
    sides : tuple of Side
        The schemes with their numbers.
    table : ScaleTable, optional
        The scales, where scales were given.
    low, high : int64 arrays, one element a channel
        Closed range of accumulators that was asked for.
    weights : (values, cumulative counts), optional
    divergent, compared : int64 arrays, shape (K (K - 1) / 2, C)
        Pairs i < j in lexicographic order.
    engines : tuple of str
        Who counted each pair.
    seconds : float
        Wall time.
    """

    schemes: tuple[str, ...]
    sides: tuple[Side, ...]
    table: ScaleTable | None
    low: I64
    high: I64
    weights: tuple[I64, I64] | None
    divergent: I64
    compared: I64
    engines: tuple[str, ...]
    seconds: float = 0.0
    #: By pair: first, last, least and greatest difference of each channel, where the staircase engine counted.
    extents: dict[int, tuple[I64, I64, I64, I64]] = field(default_factory=dict)
    #: By (pair, channel): what brute force found.
    scanned: dict[tuple[int, int], scan.Scanned] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.low.size)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of scheme numbers, in the order of the arrays."""
        return staircase.pairs(len(self.schemes))

    def pair_of_sides(self, pair: int) -> tuple[Side, Side]:
        """Return the two sides of a pair."""
        i, j = self.pairs[pair]
        return self.sides[i], self.sides[j]

    def domain(self, pair: int) -> tuple[I64, I64]:
        """Return the closed range that a pair was compared on, per channel; empty where low > high."""
        a, b = self.pair_of_sides(pair)
        return np.maximum(self.low, np.maximum(a.low, b.low)), np.minimum(self.high, np.minimum(a.high, b.high))

    @cached_property
    def sizes(self) -> I64:
        """Accumulators (or weight) of the range, per channel."""
        return sizes(self.low, self.high, self.weights)

    @cached_property
    def excluded(self) -> dict[str, int]:
        """Accumulators (or weight) of the range on which each scheme is not defined, over all channels."""
        total = _total(self.sizes)
        return {
            name: total - _total(sizes(np.maximum(self.low, one.low), np.minimum(self.high, one.high), self.weights))
            for name, one in zip(self.schemes, self.sides, strict=True)
        }

    def weighed(self, pair: int, channel: int) -> tuple[I64, I64, I64]:
        """Return (accumulators, second - first output, weights) of a channel's weighted values that differ."""
        assert self.weights is not None
        row = channel if len(self.weights[0]) > 1 else 0
        values, weights = self.weights[0][row], np.diff(self.weights[1][row])
        low, high = (int(bound[channel]) for bound in self.domain(pair))
        inside = (values >= low) & (values <= high) & (weights > 0)
        x = values[inside]
        y, z = (side.take(np.array([channel])).evaluate(x[None], "cpu")[0] for side in self.pair_of_sides(pair))
        differ = y != z
        return x[differ], (z - y)[differ], weights[inside][differ]

    def couple(self, first: str, second: str) -> Couple:
        """Return the counts of two of the schemes, by name or alias, in this order.

        Raises
        ------
        UnknownNameError
            For a name that is not among the schemes.
        """
        names = [get_scheme(name).name for name in (first, second)]
        for name in names:
            if name not in self.schemes:
                raise UnknownNameError.of("compared scheme", name, self.schemes)
        if names[0] == names[1]:
            raise UnknownNameError.of("second scheme", second, [s for s in self.schemes if s != names[0]])
        return self.couples[names[0], names[1]]

    @cached_property
    def couples(self) -> dict[tuple[str, str], Couple]:
        """Every ordered pair of schemes; (b, a) mirrors (a, b)."""
        found: dict[tuple[str, str], Couple] = {}
        for p, (i, j) in enumerate(self.pairs):
            for a, b, sign in ((i, j, 1), (j, i, -1)):
                names = self.schemes[a], self.schemes[b]
                found[names] = Couple(self, names, self.engines[p], self.divergent[p], self.compared[p], p, sign)
        return found

    @property
    def ordered(self) -> list[Couple]:
        """The couples (i, j) with i < j, in order."""
        return [self.couples[self.schemes[i], self.schemes[j]] for i, j in self.pairs]

    def matrix(self, channel: int | None = None) -> list[list[int]]:
        """Return the divergent accumulators of every two schemes, K by K, of one channel or in total."""
        count = len(self.schemes)
        rows = [[0] * count for _ in range(count)]
        for p, (i, j) in enumerate(self.pairs):
            rows[i][j] = rows[j][i] = _total(self.divergent[p]) if channel is None else int(self.divergent[p, channel])
        return rows

    @cached_property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """The schemes grouped: those of a group have equal domains and equal outputs on all of them, in all channels.

        A scheme without any accumulator stands alone.
        """
        groups: list[list[int]] = []
        for k in range(len(self.schemes)):
            alone = self.excluded[self.schemes[k]] == _total(self.sizes)
            for group in groups:
                if not alone and all(self._same(j, k) for j in group):
                    group.append(k)
                    break
            else:
                groups.append([k])
        return tuple(tuple(self.schemes[k] for k in group) for group in groups)

    def _same(self, i: int, j: int) -> bool:
        a, b = self.sides[i], self.sides[j]
        domains = all(
            np.array_equal(np.clip(x, self.low - 1, self.high + 1), np.clip(y, self.low - 1, self.high + 1))
            for x, y in ((a.low, b.low), (a.high, b.high))
        )
        return domains and not self.divergent[self.pairs.index((i, j))].any()

    @cached_property
    def reals(self) -> npt.NDArray[np.float64]:
        """The real multiplier of each channel: recipe ``double`` of the scales, or as given."""
        if self.table is not None:
            return np.atleast_1d(recipes.apply("double", *self.table.scales))
        return np.broadcast_to(np.atleast_1d(as_reals(self.sides[0].multiplier)).ravel(), (self.channels,))

    @cached_property
    def right_shift(self) -> I64:
        """Right shift of each channel's fixed-point multiplier; negative is a left shift."""
        given = self.sides[0].multiplier
        if self.table is None and isinstance(given, QuantizedMultiplier):
            return np.asarray(-np.broadcast_to(np.ravel(given.shift), (self.channels,)).astype(np.int64))
        return np.asarray(-split_real(self.reals)[1])

    @cached_property
    def unsaturated(self) -> I64:
        """Accumulators of the range, per channel, whose exact output lies inside the clamp (all, of a raw output)."""
        e = self.sides[0].epilogue
        if not e.clamped:
            return np.asarray(self.high - self.low + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = (e.qmin - e.zero_point) / self.reals, (e.qmax - e.zero_point) / self.reals
        limits = (-(2.0**40), 2.0**40)  # beyond int32 on either side: the range decides
        bottom = np.ceil(np.clip(np.nan_to_num(ends[0], nan=limits[0]), *limits)).astype(np.int64)
        top = np.floor(np.clip(np.nan_to_num(ends[1], nan=limits[1]), *limits)).astype(np.int64)
        return np.asarray(np.maximum(np.minimum(top, self.high) - np.maximum(bottom, self.low) + 1, 0))

    def share(self, pair: int, channels: npt.NDArray[np.bool_] | None = None) -> float:
        """Return the divergent share of a pair over some channels: of the unclamped accumulators of a clamped output.

        Of all compared ones (or their weight) otherwise; NaN where there are none. A wide disagreement can exceed 1.
        """
        at = self.compared[pair] > 0
        if channels is not None:
            at &= channels
        clamped = self.sides[0].clamped and self.weights is None
        whole = np.minimum(self.unsaturated, self.compared[pair]) if clamped else self.compared[pair]
        total = _total(whole[at])
        return _total(self.divergent[pair][at]) / total if total else math.nan

    def grouped(self, labels: Sequence[Any]) -> dict[Any, npt.NDArray[np.intp]]:
        """Return the channels of each label, labels in order of appearance."""
        groups: dict[Any, list[int]] = {}
        for channel, label in enumerate(labels):
            groups.setdefault(label, []).append(channel)
        return {label: np.array(channels) for label, channels in groups.items()}

    def describe(self) -> dict[str, Any]:
        """Return what was compared, as plain data."""
        e = self.sides[0].epilogue
        dtype = self.sides[0].dtype.name if e.clamped else "raw"
        zero = np.unique(e.zero_point)
        given = self.sides[0].multiplier
        source: dict[str, Any]
        if self.table is not None:
            source = {"source": "scales", "name": self.table.name}
        elif isinstance(given, QuantizedMultiplier) and given.shape == ():
            source = {"source": "fixed", "value": given.value, "shift": given.shift}
        elif self.channels == 1:
            source = {"source": "fixed", "real": float(self.reals[0])}
        else:
            source = {"source": "multipliers"}
        return {
            "schemes": list(self.schemes),
            "multipliers": source | {"channels": self.channels},
            "accumulators": {"low": int(self.low.min()), "high": int(self.high.max()), "weighted": bool(self.weights)},
            "output": {"dtype": dtype, "qmin": e.qmin, "qmax": e.qmax},
            "zero_point": int(zero[0]) if zero.size == 1 else None,
        }

    def to_dict(self, full: bool | None = None) -> dict[str, Any]:
        """Return plain data for JSON; `full`: differences and witnesses too (default: of at most 64 channels)."""
        full = self.channels <= 64 if full is None else full
        return {
            **self.describe(),
            "excluded": self.excluded,
            "classes": [list(group) for group in self.classes],
            "matrix": self.matrix(),
            "couples": [couple.to_dict(full) for couple in self.ordered],
            "timing": {"seconds": self.seconds},
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        from ..report.divergence import render_text

        return render_text(self)


def _total(array: I64) -> int:
    """Sum exactly: 2**32 accumulators of 2**31 channels would pass int64."""
    return int(array.sum()) if array.size < 1 << 30 else sum(map(int, array))


def sizes(low: I64, high: I64, weights: tuple[I64, I64] | None) -> I64:
    """Return how many accumulators, or how much weight, each channel has in ``[low, high]``."""
    if weights is None:
        return np.asarray(np.maximum(high - low + 1, 0))
    values, before = weights
    found = np.zeros(low.size, np.int64)
    for c in range(low.size):
        row = c if len(values) > 1 else 0
        first, stop = np.searchsorted(values[row], low[c], "left"), np.searchsorted(values[row], high[c], "right")
        found[c] = max(before[row, stop] - before[row, first], 0)
    return found


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


def _multiplier(comparison: SchemeComparison, side: Side, channel: int) -> QuantizedMultiplier | float:
    given = side.multiplier
    if isinstance(given, QuantizedMultiplier):
        value, shift = np.ravel(given.value), np.ravel(given.shift)
        at = channel if value.size > 1 else 0
        return QuantizedMultiplier(int(value[at]), int(shift[at]))
    return float(given[channel if given.size > 1 else 0])


def explained(comparison: SchemeComparison, schemes: tuple[str, str], acc: int, channel: int) -> Divergence:
    """Return both outputs of one accumulator with the reason, from the specification in Python integers."""
    sides = [comparison.sides[comparison.schemes.index(name)] for name in schemes]
    multipliers = [_multiplier(comparison, one, channel) for one in sides]
    e = sides[0].epilogue
    zero_point = int(e.zero_point[channel])
    limits = (e.qmin, e.qmax) if e.clamped else (None, None)
    traces = [spec.trace(one.scheme, acc, m, zero_point, *limits) for one, m in zip(sides, multipliers, strict=True)]
    reals = tuple(float(m.real) if isinstance(m, QuantizedMultiplier) else m for m in multipliers)
    return Divergence(
        channel, acc, zero_point, (reals[0], reals[1]), (traces[0].clamped, traces[1].clamped),
        float(Fraction(acc) * Fraction(reals[0])), spec.why(traces[0], traces[1], schemes),
    )  # fmt: skip
