"""The terminal: one console for data on stdout, one for chatter on stderr."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

#: Width of tables that do not go to a terminal, where there is nothing to fit into.
PIPE_WIDTH = 160
#: Narrowest column of prose.
PROSE = 24


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a closed pipe to the command line, which knows that it is no error."""
        raise BrokenPipeError


def console(file: IO[str] | None = None) -> Console:
    """Return a console for a stream (stdout by default), wide where it is not a terminal."""
    stream = file if file is not None else sys.stdout
    return _Console(
        file=stream,
        width=None if stream.isatty() else PIPE_WIDTH,
        highlight=False,
        soft_wrap=False,
        emoji=False,
    )


def to_text(*parts: RenderableType) -> str:
    """Render to plain text, as ``str(result)`` shows it."""
    stream = io.StringIO()
    out = Console(file=stream, width=PIPE_WIDTH, highlight=False, color_system=None, emoji=False)
    for part in parts:
        out.print(part)
    return stream.getvalue().rstrip("\n")


class Grid:
    """A table that never cuts a number or a name: where it does not fit, each row becomes a block of lines.

    Columns of prose (``wrap=True``) may be folded between words down to `PROSE` characters; others never.
    """

    def __init__(self, title: str | None = None, caption: str | None = None) -> None:
        self.title, self.caption = title, caption
        self._columns: list[tuple[str, str, bool]] = []
        self._rows: list[tuple[Text, ...]] = []

    def add_column(self, name: str, *, right: bool = False, wrap: bool = False) -> None:
        """Add a column; numbers go `right`, prose may `wrap`."""
        self._columns.append((name, "right" if right else "left", wrap))

    def add_row(self, *cells: str | Text) -> None:
        """Add a row of plain or styled cells; missing ones are empty."""
        texts = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
        self._rows.append((*texts, *(Text("") for _ in range(len(self._columns) - len(texts)))))

    @property
    def columns(self) -> tuple[tuple[str, bool, bool], ...]:
        """Name of each column, whether it is right-aligned, and whether it may wrap."""
        return tuple((name, justify == "right", wrap) for name, justify, wrap in self._columns)

    @property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """The rows as plain text."""
        return tuple(tuple(cell.plain for cell in row) for row in self._rows)

    def _fits(self, width: int) -> bool:
        total = 1
        for k, (name, _, wrap) in enumerate(self._columns):
            widest = max([cell_len(name), *(row[k].cell_len for row in self._rows)])
            total += 3 + (min(widest, PROSE) if wrap else widest)
        return total <= width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._fits(options.max_width):
            drawn = Table(title=self.title, caption=self.caption, title_justify="left", caption_justify="left")
            for name, justify, wrap in self._columns:
                drawn.add_column(name, justify=justify, no_wrap=not wrap, overflow="fold")  # type: ignore[arg-type]
            for row in self._rows:
                drawn.add_row(*row)
            yield drawn
            return
        if self.title:
            yield Text(self.title, style="italic")
        label = max(cell_len(name) for name, *_ in self._columns)
        for row in self._rows:
            yield Text.assemble(row[0], style="bold")
            for (name, *_), cell in zip(self._columns[1:], row[1:], strict=True):
                if cell.plain:
                    yield Text.assemble((f"  {name.ljust(label)}  ", "dim"), cell, overflow="fold")
        if self.caption:
            yield Text(self.caption)


def table(title: str | None = None, caption: str | None = None) -> Grid:
    """Return an empty table in the house style."""
    return Grid(title, caption)


def fields_table(title: str, fields: Mapping[str, Any]) -> Grid:
    """Return a table of the fields of a row, one a line; what is empty or None is a dash."""
    grid = table(title)
    grid.add_column("field")
    grid.add_column("value", wrap=True)
    for name, value in fields.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {v}" for key, v in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value))
        grid.add_row(name, "-" if value in (None, "") else str(value))
    return grid


def integer(value: int) -> str:
    """Write an integer with thousands separators."""
    return f"{value:,}"


def share(value: float) -> str:
    """Write a rate: percent where that is readable, else scientific."""
    if value == 0:
        return "0"
    return f"{100 * value:.4f} %" if value >= 1e-4 else f"{value:.3e}"
