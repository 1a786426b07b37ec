"""The tables of schemes and of one multiplier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from .terminal import fields_table, table

if TYPE_CHECKING:
    from ..requant.schemes import Scheme


def list_parts(rows: tuple[Scheme, ...]) -> Iterator[RenderableType]:
    """Yield the table of all schemes."""
    listing = table()
    for name in ("scheme", "aliases", "formula", "rounding", "recipe", "runs in"):
        listing.add_column(name, wrap=name not in ("scheme", "recipe", "formula"))
    for row in rows:
        cells = (
            row.name,
            ", ".join(row.aliases),
            row.formula,
            row.rounding,
            row.recipe,
            "; ".join(row.runs_in),
        )
        listing.add_row(*cells)
    yield listing


def row_parts(row: Scheme) -> Iterator[RenderableType]:
    """Yield everything about one scheme."""
    yield fields_table(row.name, row.to_dict())


def pairs_parts(title: str, pairs: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield a two-column table of names and values."""
    listing = table(title)
    listing.add_column("")
    listing.add_column("")
    for name, value in pairs.items():
        listing.add_row(name, str(value))
    yield listing
