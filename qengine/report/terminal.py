"""The terminal: one console for data on stdout, one for chatter on stderr."""

from __future__ import annotations

import io
import sys
from typing import IO

from rich.console import Console, RenderableType
from rich.table import Table

#: Width of tables that do not go to a terminal, where there is nothing to fit into.
PIPE_WIDTH = 160


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


def table(title: str | None = None, caption: str | None = None) -> Table:
    """Return an empty table in the house style."""
    return Table(title=title, caption=caption, title_justify="left", caption_justify="left", header_style="bold")


def integer(value: int) -> str:
    """Write an integer with thousands separators."""
    return f"{value:,}"


def share(value: float) -> str:
    """Write a rate: percent where that is readable, else scientific."""
    if value == 0:
        return "0"
    return f"{100 * value:.4f} %" if value >= 1e-4 else f"{value:.3e}"
