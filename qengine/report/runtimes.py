"""The tables of profiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType

from .terminal import fields_table, integer, table

if TYPE_CHECKING:
    from ..runtimes.row import Profile


def list_parts(rows: tuple[Profile, ...]) -> Iterator[RenderableType]:
    """Yield one table an operator and runtime."""
    groups: dict[tuple[str, str], list[Profile]] = {}
    for row in rows:
        groups.setdefault((row.runtime, row.op), []).append(row)
    for (runtime, op), members in groups.items():
        listing = table(f"{runtime} {op}")
        for name in ("path", "variant", "isa", "versions", "arithmetic", "recipe", "rows"):
            listing.add_column(name, right=name == "rows", wrap=name in ("arithmetic", "recipe"))
        for row in members:
            listing.add_row(
                row.path, row.variant or "-", row.isa, " ".join(row.versions), row.formula, row.recipe,
                integer(row.evidence.rows),
            )  # fmt: skip
        yield listing


def row_parts(row: Profile) -> Iterator[RenderableType]:
    """Yield everything about one profile."""
    yield fields_table(" ".join(filter(None, (row.runtime, row.op, row.path, row.variant))), row.to_dict())
