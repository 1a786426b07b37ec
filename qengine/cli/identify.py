"""``qengine identify``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from .options import Integer, ScalesCommand, emit, emit_json, json_option, parse_triple


@click.command("identify", cls=ScalesCommand)
@click.argument("file")
@click.option("--output", "column", metavar="NAME", help="Column of the recorded outputs.  [default: output]")
@click.option(
    "--dtype",
    type=click.Choice(["int8", "uint8", "int16", "int32"]),
    help="Output type; int32 is raw.  [default: by the column]",
)
@click.option(
    "--multiplier", type=str, help="Where the file has none: Q0.31 mantissa (with --shift), or a real number."
)
@click.option("--shift", type=Integer(), help="TFLite shift of the mantissa: positive is left.")
@click.option("--scales", metavar="S_IN S_W S_OUT", help="Stored scales, where the file has none.")
@click.option("--zero-point", type=Integer(), help="Output zero point, where the file has none.  [default: 0]")
@click.option("--qmin", type=Integer(), help="Lower clamp, where the file has none.")
@click.option("--qmax", type=Integer(), help="Upper clamp, where the file has none.")
@click.option("--scheme", "schemes", multiple=True, help="Only this scheme; repeatable.")
@click.option("--recipe", "recipes", multiple=True, help="Only this recipe; repeatable.")
@click.option("--all", "every", is_flag=True, help="Show every recipe of each scheme, not its best alone.")
@click.option("--backend", type=str, help="cpu | reference  [default: QENGINE_BACKEND, else cpu]")
@json_option
@click.option("--csv", "csv_path", metavar="PATH|-", help="Write the ranking as CSV; - is stdout.")
def command(
    file: str, column: str | None, dtype: str | None, multiplier: str | None, shift: int | None, scales: str | None,
    zero_point: int | None, qmin: int | None, qmax: int | None, schemes: tuple[str, ...], recipes: tuple[str, ...],
    every: bool, backend: str | None, as_json: bool, csv_path: str | None,
) -> None:  # fmt: skip
    """Tell from recorded rows which scheme, with which recipe, produced them.

    FILE is a CSV, .npz or Parquet file with columns acc, output, in_scale, w_scale, out_scale (or multiplier, with
    shift if it is a Q0.31 mantissa) and, where needed, zero_point, qmin, qmax, activation. Exit code 0: found,
    1: nothing accounts for the rows as they are, 2: bad input.

    \b
    Example:
      qengine identify tests/data/identify_example.csv
    """
    from ..identification.identify import identify_rows
    from ..identification.row_files import read_rows
    from ..report import identify as report
    from ..report.files import check_target, write_file

    if as_json and csv_path == "-":
        raise click.UsageError("--json and --csv - both write to stdout; give one of them a file.")
    if csv_path not in (None, "-"):
        if "\0" not in file and os.path.realpath(csv_path) == os.path.realpath(file):
            raise click.UsageError(f"--csv would overwrite the input file {file}; choose another name.")
        check_target(csv_path)
    given = {"zero_point": zero_point, "qmin": qmin, "qmax": qmax, **_multiplier(multiplier, shift)}
    if scales is not None:
        given |= dict(zip(("in_scale", "w_scale", "out_scale"), parse_triple(scales), strict=True))
    rows = read_rows(
        Path(file),
        output=column,
        dtype=dtype,
        given={name: value for name, value in given.items() if value is not None},
    )
    result = identify_rows(rows, schemes=schemes or None, recipes=recipes or None, backend=backend)
    if csv_path not in (None, "-"):
        write_file(csv_path, report.to_csv(result).encode())
    if as_json:
        emit_json(result.to_dict())
    elif csv_path == "-":
        click.echo(report.to_csv(result).encode(), nl=False)  # as bytes: CR LF stays CR LF everywhere
    else:
        emit(report.parts(result, every))
    if not result.found:
        sys.exit(1)


def _multiplier(multiplier: str | None, shift: int | None) -> dict[str, int | float | None]:
    """Return the columns that ``--multiplier`` and ``--shift`` stand for."""
    if multiplier is None:
        if shift is not None:
            raise click.UsageError("--shift needs --multiplier.")
        return {}
    try:
        return {"multiplier": float(multiplier)} if shift is None else {"multiplier": int(multiplier), "shift": shift}
    except ValueError:
        kind = "a real number" if shift is None else "an integer mantissa"
        raise click.BadParameter(f"{multiplier!r} is not {kind}.", param_hint="--multiplier") from None
