"""The table of `qengine.probes`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from .terminal import integer, table, to_text

if TYPE_CHECKING:
    from ..exact.probes import Probes


def probe_table(probes: Probes) -> RenderableType:
    """Return a row for each class of schemes, a column for each probe."""
    listing = table()
    listing.add_column("give the same on the whole domain", wrap=True)
    for acc in probes:
        listing.add_column(f"acc {acc}", right=True)
    at = {name: k for k, name in enumerate(probes.names)}
    for group in probes.classes:
        listing.add_row(", ".join(group), *(str(int(v)) for v in probes.outputs[at[group[0]]]))
    return listing


def parts(probes: Probes) -> Iterator[RenderableType]:
    """Yield the header, the table, and what can never be told apart."""
    low, high = probes.domain
    yield Text(f"accumulators  [{integer(low)}, {integer(high)}]")
    yield Text(f"outputs       {probes.dtype}, zero point {probes.zero_point}")
    n, classes = len(probes), len(probes.classes)
    if n:
        yield Text(f"{n} probe{'s tell' if n != 1 else ' tells'} {classes} classes apart; no fewer do")
    else:
        yield Text("no accumulator tells any of these schemes apart: they are equal on the whole domain")
    yield probe_table(probes)
    for group in probes.inseparable:
        yield Text(f"can never be told apart here: {', '.join(group)}")
    for name, reason in probes.refused.items():
        yield Text(f"left out: {name}: {reason}", style="dim")


def render_text(probes: Probes) -> str:
    """Return the tables as plain text."""
    return to_text(*parts(probes))
