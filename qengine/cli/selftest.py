"""``qengine selftest``."""

from __future__ import annotations

import sys

import click

from .options import emit, emit_json, json_option


@click.command("selftest")
@click.option("--backend", "backend_names", multiple=True, help="Only this back end; repeatable.")
@json_option
def command(backend_names: tuple[str, ...], as_json: bool) -> None:
    """Check this installation: known answers, every scheme against the specification, canonical digests.

    Takes some seconds; exit code 1 if a check fails.

    \b
    Example:
      qengine selftest
    """
    from rich.text import Text

    from ..report.terminal import table
    from ..selftest import run_checks

    checks = run_checks(backend_names or None)
    if as_json:
        emit_json({"passed": all(c.passed for c in checks), "checks": [c.to_dict() for c in checks]})
    else:
        listing = table()
        for column in ("check", "result", "what was compared"):
            listing.add_column(column, wrap=column == "what was compared")
        for check in checks:
            listing.add_row(check.name, "ok" if check.passed else Text("FAILED", style="bold red"), check.detail)
        emit([listing])
    if not all(check.passed for check in checks):
        sys.exit(1)
