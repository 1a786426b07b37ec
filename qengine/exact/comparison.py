"""What a comparison of K schemes returns: exact counts of every pair, channel by channel."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .._version import __version__
from ..canonical import canonical
from ..exceptions import UnknownNameError
from ..requant import recipes
from ..requant.multiplier import QuantizedMultiplier, as_reals, split_real
from ..requant.scales import ScaleTable
from ..requant.schemes import get_scheme
from . import scan, staircase
from .couple import Couple, summed
from .sides import Side

I64 = npt.NDArray[np.int64]


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
    #: What of a checkpoint was not used, and whether it could not be written.
    notes: tuple[str, ...] = ()

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
        total = summed(self.sizes)
        return {
            name: total - summed(sizes(np.maximum(self.low, one.low), np.minimum(self.high, one.high), self.weights))
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
            rows[i][j] = rows[j][i] = summed(self.divergent[p]) if channel is None else int(self.divergent[p, channel])
        return rows

    @cached_property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """The schemes grouped: those of a group have equal domains and equal outputs on all of them, in all channels.

        A scheme without any accumulator stands alone.
        """
        groups: list[list[int]] = []
        for k in range(len(self.schemes)):
            alone = self.excluded[self.schemes[k]] == summed(self.sizes)
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
        total = summed(whole[at])
        return summed(self.divergent[pair][at]) / total if total else math.nan

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

    def run_of(self) -> dict[str, Any]:
        """Return what decides all counts, as plain data: the numbers of the sides themselves by their digest."""
        numbers = hashlib.sha256()
        for one in self.sides:
            form, e = one.form, one.epilogue
            numbers.update(form.rule.encode().tobytes())
            of_form = (form.a, form.bp, form.bn, form.t, form.scale)
            for column in (*of_form, e.zero_point, e.low, e.high, one.low, one.high):
                numbers.update(repr((column.dtype.str, column.shape)).encode() + column.tobytes())
        numbers.update(self.low.tobytes() + self.high.tobytes())
        described = self.describe()
        described["multipliers"].pop("name", None)
        return {"count": __version__, **described, "numbers": numbers.hexdigest()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what was compared and of all counts: the same for every engine and back end."""
        described = canonical(self.describe())
        counts = self.divergent.astype("<i8").tobytes() + self.compared.astype("<i8").tobytes()
        return hashlib.sha256(described + counts).hexdigest()

    def to_dict(self, full: bool | None = None) -> dict[str, Any]:
        """Return plain data for JSON; `full`: differences and witnesses too (default: of at most 64 channels)."""
        full = self.channels <= 64 if full is None else full
        return {
            "digest": self.digest,
            **self.describe(),
            "excluded": self.excluded,
            "classes": [list(group) for group in self.classes],
            "matrix": self.matrix(),
            "couples": [couple.to_dict(full) for couple in self.ordered],
            "timing": {"seconds": self.seconds},
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        from ..report.divergence import render_text

        return render_text(self)


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
