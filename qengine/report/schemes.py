"""The tables of schemes and of one multiplier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from .terminal import table

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
    detail = table(row.name)
    detail.add_column("field")
    detail.add_column("value", wrap=True)
    for field, value in row.to_dict().items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value))
        detail.add_row(field, "-" if value is None else str(value))
    yield detail


def pairs_parts(title: str, pairs: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield a two-column table of names and values."""
    listing = table(title)
    listing.add_column("")
    listing.add_column("")
    for name, value in pairs.items():
        listing.add_row(name, str(value))
    yield listing
