"""``qengine backends``."""

from __future__ import annotations

import click

from .options import emit, emit_json, json_option


@click.command("backends")
@json_option
def command(as_json: bool) -> None:
    """List the back ends, whether each can serve here, and which one a call would take.

    \b
    Example:
      qengine backends --json
    """
    from .. import backends
    from ..exceptions import QEngineError
    from ..report.terminal import table

    try:
        chosen, problem = backends.choose(None), None
    except QEngineError as error:
        chosen, problem = None, str(error)
    rows = [
        {
            "name": name, "runs_on": row.runs_on, "available": backends.unavailable(name) is None,
            "reason": backends.unavailable(name), "default": name == chosen,
        }
        for name, row in backends.BACKENDS.items()
    ]  # fmt: skip
    if as_json:
        emit_json({"backends": rows, "problem": problem})
    else:
        listing = table(caption=problem)
        for column in ("back end", "runs on", "serves here", "default"):
            listing.add_column(column, wrap=column == "serves here")
        for row in rows:
            listing.add_row(
                str(row["name"]), str(row["runs_on"]), "yes" if row["available"] else f"no: {row['reason']}",
                "yes" if row["default"] else "",
            )  # fmt: skip
        emit([listing])
    if problem:
        raise SystemExit(1)
