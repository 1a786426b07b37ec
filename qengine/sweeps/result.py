"""What a sweep returns: counts of every ordered pair of schemes, with witnesses explained."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from qengine.kernels.codes import DIFFERENCE_LIMIT, RANGE
from qengine.kernels.reference import draws as reference

from ..backends.pairs import Work
from ..canonical import canonical
from ..requant import recipes, spec
from ..requant.multiplier import QuantizedMultiplier
from .plan import SweepPlan
from .tally import Tally

#: Two-sided 95 % quantile of the normal distribution.
Z95 = 1.959963984540054


def wilson_interval(divergent: int, compared: int) -> tuple[float, float]:
    """Return the Wilson score interval of a rate, 95 %.

    Examples
    --------
    >>> from qengine.sweeps.result import wilson_interval
    >>> low, high = wilson_interval(0, 1000)
    >>> low, round(high, 6)
    (0.0, 0.003827)
    """
    if compared == 0:
        return 0.0, 1.0
    p, z2 = divergent / compared, Z95 * Z95
    center = (p + z2 / (2 * compared)) / (1 + z2 / compared)
    half = Z95 * math.sqrt(p * (1 - p) / compared + z2 / (4 * compared * compared)) / (1 + z2 / compared)
    return (0.0 if divergent == 0 else max(0.0, center - half)), (
        1.0 if divergent == compared else min(1.0, center + half)
    )


@dataclass(frozen=True, slots=True)
class Witness:
    """A pair on which two schemes differ.

    Attributes
    ----------
    index : int
        Its number in the sweep; `acc`, `channel` and `multiplier` follow from it.
    acc, channel : int
        `channel` is a row of the table of scales; 0 otherwise.
    multiplier : (float, float)
        The real multiplier of each scheme, after its recipe.
    outputs : (int, int)
    exact : float
        ``acc * multiplier[0]``, before rounding, without the zero point.
    why : str
        One sentence.
    """

    index: int
    acc: int
    channel: int
    multiplier: tuple[float, float]
    zero_point: int
    outputs: tuple[int, int]
    exact: float
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "index": self.index, "acc": self.acc, "channel": self.channel,
            "multiplier": list(self.multiplier), "zero_point": self.zero_point,
            "outputs": list(self.outputs), "exact": self.exact, "why": self.why,
        }  # fmt: skip


def _difference_name(difference: int) -> str:
    if abs(difference) <= DIFFERENCE_LIMIT:
        return str(difference)
    return f"{'>' if difference > 0 else '<-'}{DIFFERENCE_LIMIT}"


@dataclass(frozen=True, slots=True)
class PairResult:
    """Counts of one ordered pair of schemes (first, second); differences are ``first - second``.

    ``histogram`` maps a difference to its number of pairs; its keys +-65 hold everything beyond +-64 (in JSON they
    are called ``>64`` and ``<-64``). ``max_abs_diff`` is exact. ``interval`` is None for exact counts.
    """

    first: str
    second: str
    compared: int
    divergent: int
    interval: tuple[float, float] | None
    max_abs_diff: int
    histogram: dict[int, int]
    by_right_shift: dict[int | None, tuple[int, int]]
    witnesses: tuple[Witness, ...]

    @property
    def rate(self) -> float:
        """Divergent share of the compared pairs (NaN where nothing was compared)."""
        return self.divergent / self.compared if self.compared else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "schemes": [self.first, self.second],
            "compared": self.compared,
            "divergent": self.divergent,
            "rate": self.rate if self.compared else None,
            "interval_95": list(self.interval) if self.interval else None,
            "max_abs_diff": self.max_abs_diff,
            "histogram": {_difference_name(d): n for d, n in self.histogram.items()},
            "by_right_shift": [
                {"right_shift": n, "compared": c, "divergent": d} for n, (c, d) in self.by_right_shift.items()
            ],
            "witnesses": [w.to_dict() for w in self.witnesses],
        }


@dataclass(frozen=True, eq=False)
class SweepResult:
    """A sweep's counts.

    The properties ``divergent``, ``rate``, ``max_abs_diff``, ``histogram`` and ``witnesses`` are those of the first
    two schemes; ``pairs_of(a, b)`` and ``couples`` give the others.
    """

    plan: SweepPlan
    work: Work
    tally: Tally
    complete: bool
    seconds: float
    backend: str
    workers: int
    #: Pairs that a checkpoint held; those counted now took `seconds`.
    resumed: int = 0
    #: What of a checkpoint was not used, and whether it could not be written.
    notes: tuple[str, ...] = ()

    @property
    def speed(self) -> float | None:
        """Pairs a second of those counted now."""
        return (self.pairs - self.resumed) / self.seconds if self.seconds > 0 else None

    @property
    def schemes(self) -> tuple[str, ...]:
        """Names of the schemes, in the order given."""
        return tuple(scheme.name for scheme in self.plan.schemes)

    @property
    def pairs(self) -> int:
        """Pairs drawn (fewer than planned if interrupted)."""
        return self.tally.pairs

    @property
    def outside(self) -> dict[str, int]:
        """Pairs outside each scheme's domain: not compared with it."""
        return {name: int(n) for name, n in zip(self.schemes, self.tally.outside, strict=True)}

    @cached_property
    def couples(self) -> dict[tuple[str, str], PairResult]:
        """Every ordered pair of schemes; (b, a) mirrors (a, b)."""
        results: dict[tuple[str, str], PairResult] = {}
        names, couple = self.schemes, 0
        exact = self.plan.accumulators.kind == "all"
        for i in range(len(names)):
            for j in range(i + 1, len(names)):
                split = self.tally.by_right_shift(couple)
                compared = sum(c for c, _ in split.values())
                divergent = sum(d for _, d in split.values())
                interval = None if exact else wilson_interval(divergent, compared)
                histogram = self.tally.histogram(couple)
                indices = [int(w) for w in self.tally.witnesses[couple] if w >= 0]
                largest = int(self.tally.largest[couple])
                for a, b, sign in ((i, j, 1), (j, i, -1)):
                    results[names[a], names[b]] = PairResult(
                        names[a], names[b], compared, divergent, interval, largest,
                        histogram if sign > 0 else {-d: n for d, n in reversed(histogram.items())},
                        split, tuple(self._witness(index, a, b) for index in indices),
                    )  # fmt: skip
                couple += 1
        return results

    def pairs_of(self, first: str, second: str) -> PairResult:
        """Return the counts of two schemes, by name."""
        return self.couples[first, second]

    @property
    def _head(self) -> PairResult:
        return self.couples[self.schemes[0], self.schemes[1]]

    @property
    def divergent(self) -> int:
        """Pairs on which the first two schemes differ."""
        return self._head.divergent

    @property
    def rate(self) -> float:
        """Divergent share of the first two schemes."""
        return self._head.rate

    @property
    def max_abs_diff(self) -> int:
        """Largest difference of the first two schemes."""
        return self._head.max_abs_diff

    @property
    def histogram(self) -> dict[int, int]:
        """Differences of the first two schemes: {first - second: pairs}."""
        return self._head.histogram

    @property
    def witnesses(self) -> tuple[Witness, ...]:
        """First pairs, by index, on which the first two schemes differ."""
        return self._head.witnesses

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan and all counts: the same on every back end, tile size and number of workers."""
        return hashlib.sha256(canonical({"plan": self.plan.describe(), "tally": self.tally.describe()})).hexdigest()

    def _multiplier(self, scheme: int, channel: int, real: float | None) -> QuantizedMultiplier | float:
        if real is not None:
            return real
        table = self.plan.multipliers.table
        if table is None:
            fixed = self.plan.multipliers.fixed
            assert fixed is not None
            return fixed
        scales = (column[channel] for column in table.scales)
        return float(recipes.apply(self.plan.schemes[scheme].recipe, *scales))

    def _witness(self, index: int, a: int, b: int) -> Witness:
        x, channel, real = reference.draw(self.work, index, index + 1)
        acc, at = int(x[0]), int(channel[0])
        drawn = float(real[0]) if self.work.kind == RANGE else None
        z = int(self.work.z[at])
        limits = (self.plan.qmin, self.plan.qmax) if self.work.clamped else (None, None)
        multipliers = [self._multiplier(k, at, drawn) for k in (a, b)]
        traces = [
            spec.trace(self.plan.schemes[k], acc, m, z, *limits) for k, m in zip((a, b), multipliers, strict=True)
        ]
        reals = tuple(float(m.real) if isinstance(m, QuantizedMultiplier) else m for m in multipliers)
        names = self.schemes[a], self.schemes[b]
        return Witness(
            index, acc, at, (reals[0], reals[1]), z, (traces[0].clamped, traces[1].clamped),
            float(Fraction(acc) * Fraction(reals[0])), spec.why(traces[0], traces[1], names),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; ``digest`` first, ``timing`` apart."""
        done = sorted({(min(a, b), max(a, b)) for a, b in np.ndindex(len(self.schemes), len(self.schemes))})
        return {
            "digest": self.digest,
            "complete": self.complete,
            "plan": self.plan.describe(),
            "pairs": self.pairs,
            "outside_domain": self.outside,
            "couples": [self.couples[self.schemes[a], self.schemes[b]].to_dict() for a, b in done if a != b],
            "timing": {
                "seconds": self.seconds,
                "pairs_per_second": self.speed,
                "backend": self.backend,
                "workers": self.workers,
                "resumed": self.resumed,
            },
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        from ..report.sweep import render_text

        return render_text(self)
