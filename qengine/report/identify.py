"""The tables of `qengine.identify`, and its ranking as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from .escape import shown, text_cell
from .probes import probe_table
from .terminal import integer, table, to_text

if TYPE_CHECKING:
    from ..identification.result import Identification, Match

#: Header of the CSV.
COLUMNS = (
    "rank", "scheme", "recipe", "overflow", "matches", "mismatches", "outside_domain", "row", "acc", "zero_point",
    "multiplier", "exact", "given", "recorded", "explanation",
)  # fmt: skip
_OVERFLOW = {"error": "by contract", "wrap": "wraps", "outside": "not judged"}


def _best_of_each(ranking: tuple[Match, ...]) -> list[tuple[int, Match]]:
    """Return the best recipe of each scheme, with its rank; all that have no mismatch remain."""
    seen: set[str] = set()
    kept = []
    for rank, match in enumerate(ranking, 1):
        if match.scheme not in seen or (match.matches and not match.mismatches and not match.outside):
            kept.append((rank, match))
        seen.add(match.scheme)
    return kept


def _ranking(result: Identification, every: bool, title: str | None = None) -> RenderableType:
    listing = table(title)
    for name in ("rank", "scheme", "recipe", "overflow", "matches", "mismatches", "not judged", "first counterexample"):
        right = name in ("rank", "matches", "mismatches", "not judged")
        listing.add_column(name, right=right, wrap=name == "first counterexample")
    chosen = list(enumerate(result.ranking, 1)) if every else _best_of_each(result.ranking)
    for rank, match in chosen:
        example = "" if match.counterexample is None else match.counterexample.text
        good = match.matches and not match.mismatches
        listing.add_row(
            str(rank), Text(match.scheme, style="bold green" if good else ""), match.recipe or "-",
            _OVERFLOW[match.overflow], integer(match.matches), integer(match.mismatches), integer(match.outside),
            example,
        )  # fmt: skip
    return listing


def parts(result: Identification, every: bool = False) -> Iterator[RenderableType]:
    """Yield the header, the verdict, the ranking, what equals what, and the probes that would decide.

    `every`: all recipes of every scheme instead of its best.
    """
    yield Text(f"rows        {integer(result.rows)} of {shown(result.name)}, output {result.dtype}")
    yield Text(
        f"            {integer(result.informative)} on which candidates differ; {integer(result.clamped)} clamped "
        "whichever candidate, not counted"
    )
    yield Text(f"verdict     {result.verdict}", style="bold" if result.found else "bold red")
    yield _ranking(result, every)
    for group in result.equivalent:
        if group[0] in result.remaining:
            yield Text(f"equal       on every row: {'; '.join(match.name for match in group)}")
    separation = result.separation
    if separation is not None and len(separation.probes):
        given = ", ".join(f"{name} {value!r}" for name, value in separation.parameters.items())
        yield Text(f"to decide   record these accumulators with the parameters of {separation.place}: {given}")
        yield probe_table(separation.probes)
    if separation is not None:
        for names in separation.undecided:
            yield Text(
                f"{', '.join(names)}: equal on every accumulator with "
                + ("these parameters" if separation.tried > 1 else "the parameters of the rows")
            )
    if result.corrected is not None and result.correction is not None:
        yield _ranking(result.corrected, every, f"Ranking {result.correction.text}")


def to_csv(result: Identification) -> str:
    """Return the ranking under `COLUMNS`, lines ended by CR LF."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for rank, m in enumerate(result.ranking, 1):
        line: list[object] = [rank, m.scheme, m.recipe or "", m.overflow, m.matches, m.mismatches, m.outside]
        if m.counterexample is not None:
            c = m.counterexample
            exact = "" if c.exact is None else repr(c.exact)
            line += [c.row, c.acc, c.zero_point, repr(c.multiplier), exact, c.given, c.recorded, text_cell(c.text)]
        writer.writerow(line + [""] * (len(COLUMNS) - len(line)))
    return out.getvalue()


def render_text(result: Identification) -> str:
    """Return the tables as plain text."""
    return to_text(*parts(result))
