"""What a census returns: exact counts shift by shift."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..canonical import canonical

if TYPE_CHECKING:
    from .census_question import Question


@dataclass(frozen=True, slots=True)
class Tally:
    """What a census counts over some multipliers of one shift; tallies of disjoint ranges merge in any order.

    Attributes
    ----------
    multipliers, compared : int
        Multipliers, and the pairs (multiplier, accumulator) on which both schemes are defined.
    divergent : int
        Pairs with different outputs.
    signed : int
        Sum over all pairs of the second output minus the first.
    divergent_multipliers : int or None
        Multipliers with any divergent accumulator; None where multipliers were not counted one by one.
    most, most_at : int or None
        Most divergent accumulators of one multiplier, and the least mantissa that has so many.
    """

    multipliers: int = 0
    compared: int = 0
    divergent: int = 0
    signed: int = 0
    divergent_multipliers: int | None = None
    most: int | None = None
    most_at: int | None = None

    @property
    def rate(self) -> float:
        """Share of the compared pairs that diverge."""
        return self.divergent / self.compared if self.compared else 0.0

    @property
    def mean(self) -> float:
        """Divergent accumulators a multiplier."""
        return self.divergent / self.multipliers if self.multipliers else 0.0

    def merge(self, other: Tally) -> Tally:
        """Return the tally of both; the empty tally changes nothing."""
        if not self.multipliers or not other.multipliers:
            return self if self.multipliers else other
        counted = self.divergent_multipliers, other.divergent_multipliers
        best = min(
            ((t.most, t.most_at) for t in (self, other) if t.most is not None and t.most_at is not None),
            key=lambda pair: (-pair[0], pair[1]), default=(None, None),
        )  # fmt: skip
        both = counted[0] is not None and counted[1] is not None
        return Tally(
            self.multipliers + other.multipliers, self.compared + other.compared, self.divergent + other.divergent,
            self.signed + other.signed, (counted[0] or 0) + (counted[1] or 0) if both else None,
            *(best if both else (None, None)),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "multipliers": self.multipliers, "compared": self.compared, "divergent": self.divergent,
            "signed": self.signed, "rate": self.rate, "mean": self.mean,
            "divergent_multipliers": self.divergent_multipliers,
            "most": None if self.most is None else {"divergent": self.most, "value": self.most_at},
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class CensusResult:
    """The totals of a census.

    Attributes
    ----------
    schemes : (str, str)
    shifts : tuple of int
        Those asked for; `by_shift` has those that were begun.
    question : Question
        Schemes, mantissas, accumulators, output.
    by_shift : dict of int to Tally
    methods : dict of int to str
        ``closed`` or ``tiles``.
    complete : bool
        False where the user interrupted: a tally is then of `Tally.multipliers` mantissas, exact for those; the first
        ones, unless a checkpoint of a killed run had others.
    seconds : float
    notes : tuple of str
        What of a checkpoint was not used, and whether it could not be written.
    """

    schemes: tuple[str, str]
    shifts: tuple[int, ...]
    question: Question
    by_shift: dict[int, Tally] = field(default_factory=dict)
    methods: dict[int, str] = field(default_factory=dict)
    complete: bool = True
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def tally(self) -> Tally:
        """All shifts together; of whose the most are, `most` tells."""
        total = Tally()
        for one in self.by_shift.values():
            total = total.merge(one)
        return total

    @property
    def most(self) -> tuple[int, int, int] | None:
        """Most divergent accumulators of one multiplier, its mantissa and its shift; None unless tiles counted all."""
        if self.divergent_multipliers is None:
            return None
        counted = [(-(t.most or 0), place, t.most_at or 0) for place, t in enumerate(self.by_shift.values())]
        count, place, value = min(counted)
        return -count, value, list(self.by_shift)[place]

    @property
    def total(self) -> int:
        """Pairs with different outputs."""
        return self.tally.divergent

    @property
    def signed(self) -> int:
        """Sum over all pairs of the second output minus the first."""
        return self.tally.signed

    @property
    def compared(self) -> int:
        """Pairs on which both schemes are defined."""
        return self.tally.compared

    @property
    def multipliers(self) -> int:
        """Multipliers that were counted."""
        return self.tally.multipliers

    @property
    def divergent_multipliers(self) -> int | None:
        """Multipliers with any divergent accumulator; None unless all shifts were counted by tiles."""
        return self.tally.divergent_multipliers

    @property
    def rate(self) -> float:
        """Share of the compared pairs that diverge."""
        return self.tally.rate

    @property
    def digest(self) -> str:
        """SHA-256 of `to_dict` but for time and notes."""
        data = {name: value for name, value in self._counts().items() if name not in ("seconds", "notes")}
        return hashlib.sha256(canonical(data)).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"digest": self.digest, **self._counts()}

    def _counts(self) -> dict[str, Any]:
        asked = self.question
        clamp = asked.ends(self.shifts[0])[0]
        most = None if self.most is None else dict(zip(("divergent", "value", "shift"), self.most, strict=True))
        return {
            "schemes": list(self.schemes), "shifts": list(self.shifts), "mantissas": [asked.first, asked.last],
            "accumulators": [asked.low, asked.high],
            "output": {
                "dtype": clamp.dtype.name if clamp.clamped else "raw", "zero_point": asked.output["zero_point"],
                "qmin": clamp.epilogue.qmin if clamp.clamped else None,
                "qmax": clamp.epilogue.qmax if clamp.clamped else None,
            },
            "complete": self.complete, "seconds": self.seconds, "notes": list(self.notes),
            "total": self.tally.to_dict() | {"most": most},
            "by_shift": [
                {"shift": shift, "method": self.methods[shift], **tally.to_dict()}
                for shift, tally in self.by_shift.items()
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        from ..report.census import render_text

        return render_text(self)
