"""``qengine schemes``."""

from __future__ import annotations

import click

from .options import emit, emit_json, json_option


@click.command("schemes")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the schemes, or show all about one (by name or alias).

    \b
    Example:
      qengine schemes gemmlowp
    """
    from ..report import schemes as report
    from ..requant.schemes import get_scheme, schemes

    if name is not None:
        row = get_scheme(name)
        emit_json(row.to_dict()) if as_json else emit(report.row_parts(row))
    elif as_json:
        emit_json([row.to_dict() for row in schemes()])
    else:
        emit(report.list_parts(schemes()))
