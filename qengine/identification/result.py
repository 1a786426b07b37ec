"""What the identification of recorded rows answers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..requant.schemes import get_scheme

if TYPE_CHECKING:
    from .rows import Rows
    from .separate import Separation

Kind = Literal["exact", "partial", "ambiguous", "noise", "sign", "offset", "unlisted", "none", "clamped"]
#: Kinds of verdict that name an arithmetic which accounts for the rows as they are.
FOUND = ("exact", "partial", "ambiguous", "noise")


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The first row that a candidate does not give.

    Attributes
    ----------
    row : int
        Its index, from 0.
    place : str
        The same for readers: a line of a text file, else the row.
    acc, zero_point : int
    multiplier : float
        Real multiplier by the candidate's recipe.
    exact : float or None
        ``acc * multiplier`` as the scheme holds the multiplier; None outside its contract.
    given, recorded : int
        What the candidate gives, and what was recorded.
    text : str
        A sentence with these numbers.
    """

    row: int
    place: str
    acc: int
    zero_point: int
    multiplier: float
    exact: float | None
    given: int
    recorded: int
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "row": self.row, "place": self.place, "acc": self.acc, "zero_point": self.zero_point,
            "multiplier": self.multiplier, "exact": self.exact, "given": self.given, "recorded": self.recorded,
            "text": self.text,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Match:
    """How far one candidate, a scheme with a recipe, accounts for the rows; clamped rows are left out.

    Attributes
    ----------
    scheme : str
    recipe : str or None
        None where multipliers were recorded.
    overflow : {"error", "wrap", "outside"}
        What accounts best for rows that may overflow int32: the scheme by its contract; its original's wrapping
        arithmetic (both as in `qengine.requantize`); or neither, and they are not judged.
    matches, mismatches : int
    outside : int
        Rows outside the scheme's domain, or not judged.
    counterexample : Counterexample or None
        First mismatch.
    """

    scheme: str
    recipe: str | None
    overflow: str
    matches: int
    mismatches: int
    outside: int
    counterexample: Counterexample | None

    @property
    def name(self) -> str:
        """Scheme and recipe in words."""
        with_recipe = f" with recipe {self.recipe!r}" if self.recipe else ""
        return f"{self.scheme}{with_recipe}" + (", wrapping" if self.overflow == "wrap" else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "scheme": self.scheme, "recipe": self.recipe, "overflow": self.overflow, "matches": self.matches,
            "mismatches": self.mismatches, "outside_domain": self.outside,
            "counterexample": None if self.counterexample is None else self.counterexample.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Correction:
    """What makes the rows agree with a scheme: the columns were not what they were called.

    Attributes
    ----------
    kind : {"sign", "zero-point", "output"}
        The zero point has the wrong sign; is off by `offset`; or the outputs are (after the clamp).
    offset : int
        Recorded less expected; 0 for the sign.
    """

    kind: Literal["sign", "zero-point", "output"]
    offset: int

    @property
    def text(self) -> str:
        """Say what the correction does."""
        if self.kind == "sign":
            return "with the sign of the zero point changed"
        what = "the zero point" if self.kind == "zero-point" else "every expected output"
        return f"with {self.offset:+d} added to {what}"


@dataclass(frozen=True, eq=False)
class Identification:
    """Which arithmetic produced the rows.

    Attributes
    ----------
    ranking : tuple of Match
        Every scheme by every recipe, best first.
    rows, clamped, informative : int
        All rows; those on which every candidate gives the same end of the clamp, as recorded (they say nothing and
        are left out of the counts); those on which candidates differ.
    equivalent : tuple of tuples of Match
        Candidates that give the same on every row, best group first; single ones are not listed.
    kind : str
        ``exact`` (one arithmetic gives every row), ``partial`` (every row of its domain), ``ambiguous`` (several do, by
        scheme or by recipe), ``noise`` (one does but for flipped outputs), ``sign``, ``offset`` (with a correction),
        ``unlisted`` (rows differ near rounding boundaries alone, or with left shifts alone), ``none``, ``clamped``
        (nothing can be told).
    verdict : str
        The answer in words.
    flipped : float or None
        Estimated share of flipped outputs (``noise``).
    correction : Correction or None
    corrected : Identification or None
        The ranking after `correction`.
    dtype, name : str
        Output type; where the rows come from.
    """

    ranking: tuple[Match, ...]
    rows: int
    clamped: int
    informative: int
    equivalent: tuple[tuple[Match, ...], ...]
    kind: Kind
    verdict: str
    flipped: float | None
    correction: Correction | None
    corrected: Identification | None
    dtype: str
    name: str
    data: Rows = field(repr=False)

    @property
    def found(self) -> bool:
        """Whether an arithmetic was named that accounts for the rows as they are."""
        return self.kind in FOUND

    @property
    def remaining(self) -> tuple[Match, ...]:
        """The candidates that no row rejects, best first; with noise the best and those that equal it."""
        best = self.ranking[0]
        if self.kind in ("exact", "partial", "ambiguous"):
            return tuple(m for m in self.ranking if not m.mismatches and m.matches == best.matches)
        group = next((g for g in self.equivalent if best in g), (best,))
        return group if self.kind == "noise" else ()

    @functools.cached_property
    def separation(self) -> Separation | None:
        """Accumulators that tell the remaining candidates apart with parameters of the rows; None if one remains."""
        from .separate import separate

        return separate(self.data, self.remaining) if len(self.remaining) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "verdict": self.verdict,
            "kind": self.kind,
            "found": self.found,
            "rows": self.rows,
            "clamped": self.clamped,
            "informative": self.informative,
            "dtype": self.dtype,
            "name": self.name,
            "flipped_share": self.flipped,
            "correction": None if self.correction is None
            else {"kind": self.correction.kind, "offset": self.correction.offset},
            "remaining": [[m.scheme, m.recipe] for m in self.remaining],
            "equivalent": [[[m.scheme, m.recipe] for m in group] for group in self.equivalent],
            "separation": None if self.separation is None else self.separation.to_dict(),
            "ranking": [
                {**m.to_dict(), "runs_in": list(get_scheme(m.scheme).runs_in)} for m in self.ranking
            ],
            "corrected_ranking": None if self.corrected is None
            else [m.to_dict() for m in self.corrected.ranking],
        }  # fmt: skip

    def __str__(self) -> str:
        from ..report.identify import render_text

        return render_text(self)
