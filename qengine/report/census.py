"""The table and the CSV of a census."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from .terminal import integer, share, table, to_text

if TYPE_CHECKING:
    from ..exact.census_result import CensusResult, Tally

#: Header of the CSV file.
COLUMNS = (
    "first", "second", "shift", "method", "first_mantissa", "last_mantissa", "multipliers", "compared", "divergent",
    "mean", "rate", "signed", "divergent_multipliers", "most", "most_at", "finished",
)  # fmt: skip


def _finished(result: CensusResult, tally: Tally) -> bool:
    return tally.multipliers == result.question.multipliers


def _header(result: CensusResult) -> Iterator[Text]:
    described = result.to_dict()
    output, asked = described["output"], result.question
    clamp = "raw int32" if output["dtype"] == "raw" else f"{output['dtype']} [{output['qmin']}, {output['qmax']}]"
    clamp += f", zero point {output['zero_point']}" if output["dtype"] != "raw" or output["zero_point"] else ""
    shifts = result.shifts
    span = f"shift {shifts[0]}" if len(shifts) == 1 else f"{len(shifts)} shifts, {shifts[0]} to {shifts[-1]}"
    yield Text(f"schemes       {result.schemes[0]} / {result.schemes[1]}")
    yield Text(
        f"multipliers   every mantissa in [{integer(asked.first)}, {integer(asked.last)}], "
        f"{integer(asked.multipliers)} of them; {span}"
    )
    yield Text(f"accumulators  every one in [{integer(asked.low)}, {integer(asked.high)}]")
    yield Text(f"outputs       {clamp}")
    for note in result.notes:
        yield Text(f"note          {note}")
    if not result.complete:
        finished = sum(_finished(result, tally) for tally in result.by_shift.values())
        yield Text(
            f"INTERRUPTED   {integer(result.multipliers)} of {integer(asked.multipliers * len(shifts))} multipliers "
            f"done (of each shift the first), {finished} of {len(shifts)} shifts whole; the counts are of those",
            style="bold red",
        )


def _cells(tally: Tally, tiled: bool) -> list[str]:
    cells = [
        integer(tally.multipliers), integer(tally.compared), integer(tally.divergent), f"{tally.mean:.6f}",
        share(tally.rate), integer(tally.signed),
    ]  # fmt: skip
    if tiled:
        counted = tally.divergent_multipliers is not None and tally.most is not None
        cells.append(integer(tally.divergent_multipliers or 0) if counted else "-")
        cells.append(f"{integer(tally.most or 0)} at {tally.most_at}" if counted and tally.most else "-")
    return cells


def parts(result: CensusResult) -> Iterator[RenderableType]:
    """Yield the header, a line a shift, and the total."""
    yield from _header(result)
    tiled = any(tally.divergent_multipliers is not None for tally in result.by_shift.values())
    grid = table()
    names = ["shift", "multipliers", "pairs", "divergent", "a multiplier", "share", "second - first"]
    names += [*(["divergent multipliers", "most"] if tiled else []), "method"]
    for name in names:
        grid.add_column(name, right=name != "method")
    for shift, tally in result.by_shift.items():
        unfinished = "" if _finished(result, tally) else " (part)"
        grid.add_row(f"{shift}{unfinished}", *_cells(tally, tiled), result.methods[shift])
    if len(result.by_shift) > 1:
        cells = _cells(result.tally, tiled)
        if tiled and result.most:
            cells[-1] += f", shift {result.most[2]}"
        grid.add_row("all" if result.complete else "done", *cells)
    yield grid
    yield Text(f"{integer(result.compared)} pairs settled in {result.seconds:.3f} s, none sampled")


def render_text(result: CensusResult) -> str:
    """Return the table as plain text."""
    return to_text(*parts(result))


def to_csv(result: CensusResult) -> str:
    """Return one line a shift under `COLUMNS`, ended by CR LF; nothing where a figure was not counted."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for shift, tally in result.by_shift.items():
        optional = [tally.divergent_multipliers, tally.most, tally.most_at]
        writer.writerow([
            *result.schemes, shift, result.methods[shift], result.question.first, result.question.last,
            tally.multipliers, tally.compared, tally.divergent, repr(tally.mean), repr(tally.rate), tally.signed,
            *("" if value is None else value for value in optional),
            "true" if _finished(result, tally) else "false",
        ])  # fmt: skip
    return out.getvalue()
