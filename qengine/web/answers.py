"""What an answer is made of, as data: tiles, tables and figures that one script, and one template, can show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, Field
from rich.console import RenderableType
from rich.text import Text

from ..report.terminal import Grid


class Tile(BaseModel):
    """One number in large letters."""

    id: str
    name: str
    value: str
    unit: str = ""
    meaning: str = Field(description="What it says, in plain words.")


class Column(BaseModel):
    """A column of a table."""

    name: str
    right: bool = False
    wrap: bool = False


class Table(BaseModel):
    """A table of texts."""

    title: str = ""
    caption: str = ""
    columns: list[Column]
    rows: list[list[str]]
    best: list[list[int]] = Field(default_factory=list, description="For each row: the columns in which it is best.")


class Figure(BaseModel):
    """A graph: traces and layout of Plotly; a colour "@name" is one of the page's."""

    id: str
    title: str
    alt: str = Field(description="What the graph shows, for who does not see it.")
    data: list[dict[str, Any]]
    layout: dict[str, Any] = Field(default_factory=dict)


class Section(BaseModel):
    """A part of an answer."""

    id: str
    title: str
    text: list[str] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    figures: list[Figure] = Field(default_factory=list)
    folded: bool = False


class Answer(BaseModel):
    """What a calculation answers."""

    summary: str
    tiles: list[Tile] = Field(default_factory=list)
    sections: list[Section]
    data: dict[str, Any] = Field(description="Every number, as the function of Python gives it.")
    milliseconds: float = Field(default=0.0, description="Time of the calculation.")


class Refused(BaseModel):
    """Why a request was refused."""

    message: str
    fields: dict[str, str] = Field(description="Field of the request -> what is wrong with it.")


class Refusal(BaseModel):
    """The body of every answer that is no success."""

    error: Refused


def table_of(grid: Grid, best: Sequence[Sequence[int]] = ()) -> Table:
    """Return a table of the command line as data."""
    return Table(
        title=grid.title or "", caption=grid.caption or "",
        columns=[Column(name=name, right=right, wrap=wrap) for name, right, wrap in grid.columns],
        rows=[list(line) for line in grid.lines], best=[list(columns) for columns in best],
    )  # fmt: skip


def parted(parts: Iterable[RenderableType]) -> tuple[list[str], list[Table]]:
    """Return the lines of text and the tables of what the command line prints."""
    text: list[str] = []
    tables: list[Table] = []
    for part in parts:
        if isinstance(part, Grid):
            tables.append(table_of(part))
        elif isinstance(part, Text):
            text.append(part.plain)
    return text, tables


def finite(value: Any) -> Any:
    """Return plain data in which no number is infinite or NaN: those become None, which JSON has."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def to_bytes(data: Any) -> bytes:
    """Return data as JSON."""
    plain = data.model_dump() if isinstance(data, BaseModel) else data
    return json.dumps(finite(plain), allow_nan=False, separators=(",", ":")).encode()
