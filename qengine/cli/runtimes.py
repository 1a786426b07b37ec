"""``qengine runtimes``."""

from __future__ import annotations

import click

from .options import emit, emit_json, json_option


@click.command("runtimes")
@click.argument("runtime", required=False)
@click.argument("op", required=False)
@click.argument("path", required=False)
@click.option("--version", help="Only what was measured on this version, e.g. 2.21.")
@click.option("--isa", help="Only this instruction set: x86-64 or aarch64.")
@click.option("--variant", help="Only this variant of the operator, e.g. perchannel.")
@json_option
def command(
    runtime: str | None,
    op: str | None,
    path: str | None,
    version: str | None,
    isa: str | None,
    variant: str | None,
    as_json: bool,
) -> None:
    """List what operators of runtimes compute: recipe, arithmetic, epilogue, and on how many recorded outputs it holds.

    All profiles, or those of a RUNTIME, an OP of it, a PATH (resolver, engine) of that; one alone is shown in full.

    \b
    Example:
      qengine runtimes litert CONV_2D xnnpack --isa aarch64
    """
    from ..report import runtimes as report
    from ..runtimes.profiles import profiles

    rows = profiles(runtime, op, path, version=version, isa=isa, variant=variant)
    if as_json:
        emit_json([row.to_dict() for row in rows])
    elif len(rows) == 1:
        emit(report.row_parts(rows[0]))
    else:
        emit(report.list_parts(rows))
