"""``qengine count``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .checkpoints import checkpoint_options, checkpoint_warnings, say_notes
from .explain import read_multiplier
from .options import (
    Count,
    Integer,
    ScalesCommand,
    cluster_option,
    emit,
    emit_json,
    emit_json_list,
    json_option,
    parse_scales,
)
from .progress import progress_bar

if TYPE_CHECKING:
    from ..exact.comparison import SchemeComparison


@click.command("count", cls=ScalesCommand)
@click.argument("schemes", nargs=-1)
@click.option("--all-schemes", "--all", is_flag=True, help="Compare every two of all schemes.")
@click.option("--multiplier", type=str, help="Mantissa in Q0.31 (with --shift), or a real multiplier.")
@click.option("--shift", type=Integer(), help="TFLite shift of the mantissa: positive is left.")
@click.option("--scales", metavar="FILE | S_IN S_W S_OUT", help="CSV of scales, one channel a row, or one triple.")
@click.option(
    "--range",
    "acc_range",
    type=Integer(),
    nargs=2,
    metavar="LOW HIGH",
    help="Closed range of accumulators.  [default: int32]",
)
@click.option(
    "--dtype", type=click.Choice(["int8", "uint8", "int16", "raw"]),
    help="Clamp outputs to this type.  [default: raw; int8 of a file, or with --zero-point, --qmin, --qmax]",
)  # fmt: skip
@click.option("--zero-point", type=Integer(), help="Output zero point.  [default: the file's, else 0]")
@click.option("--qmin", type=Integer(), help="Lower clamp.")
@click.option("--qmax", type=Integer(), help="Upper clamp.")
@click.option("--engine", type=str, help="lattice | staircase | scan  [default: the fastest that applies]")
@click.option("--backend", type=str, help="cpu | cuda | reference  [default: QENGINE_BACKEND, else cpu]")
@click.option(
    "--list",
    "listed",
    type=Count(),
    default=0,
    metavar="N",
    help="List the first N of the first two schemes; more than 1,000 as lines of CSV behind the tables.",
)
@click.option("--csv", "csv_path", type=str, metavar="FILE", help="Write the counts, one line a channel.")
@click.option("--picture", type=str, metavar="FILE", help="Draw all pairs, and divergence against shift: .png or .svg.")
@cluster_option
@checkpoint_options
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def command(
    schemes: tuple[str, ...], all_schemes: bool, multiplier: str | None, shift: int | None, scales: str | None,
    acc_range: tuple[int, int] | None, dtype: str | None, zero_point: int | None, qmin: int | None, qmax: int | None,
    engine: str | None, backend: str | None, listed: int, csv_path: str | None, picture: str | None,
    cluster: str | None, checkpoint: str | None, resume: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Count exactly on how many of all accumulators schemes disagree, and show which; nothing is sampled.

    \b
    Example:
      qengine count single double --multiplier 1583594044 --shift -9
      qengine count single double fp32 --scales 0.05296 0.02409 0.11484 --dtype int8 --zero-point -126 --list 5
    """
    from ..exact.divergence import compare_schemes
    from ..report.divergence import TABLE_ROWS, divergent, layer_counts, lines, parts, to_csv
    from ..report.files import check_target, write_file
    from ..requant.scales import scale_table
    from ..requant.schemes import SCHEMES

    if all_schemes == bool(schemes):
        raise click.UsageError("name two or more schemes, or give --all-schemes: one of the two.")
    if csv_path is not None:
        check_target(csv_path)
    if picture is not None:
        check_target(picture, ".png", ".svg")
    if listed > 10**6:
        raise click.UsageError(f"--list takes at most 1,000,000; got {listed:,}.")
    given: Any = read_multiplier(multiplier, shift)
    table = None if scales is None else scale_table(parse_scales(scales))
    clamps = (zero_point, qmin, qmax) != (None, None, None)
    if dtype is None and (clamps or (table is not None and table.zero_point.size > 1)):
        dtype = "int8"
    raw = dtype in (None, "raw")
    if raw and zero_point is None:
        zero_point = 0
    with progress_bar("count", "accumulators", quiet) as progress, checkpoint_warnings():
        result = compare_schemes(
            *(tuple(SCHEMES) if all_schemes else schemes), multiplier=given, scales=table, acc_range=acc_range,
            dtype=None if raw else dtype, zero_point=zero_point, qmin=qmin, qmax=qmax, engine=engine,
            backend=backend, cluster=cluster, checkpoint=checkpoint, resume=resume, progress=progress,
        )  # fmt: skip
    say_notes(result.notes, True, checkpoint)
    if csv_path is not None:
        write_file(csv_path, to_csv(result).encode())
    if picture is not None:
        write_file(picture, _drawn(result, picture))
    if as_json:
        data = result.to_dict() | ({"layers": layer_counts(result)} if result.table is not None else {})
        if listed:
            emit_json_list(data, "listed", (item.to_dict() for item in divergent(result, listed)))
        else:
            emit_json(data)
    else:
        emit(parts(result, listed))
        if listed > TABLE_ROWS and not result.ordered[0].equal:
            for block in lines(result, listed):
                click.echo(block, nl=False)


def _drawn(result: SchemeComparison, path: str) -> bytes:
    from ..report.heat import divergence_picture

    return divergence_picture(result, "svg" if path.lower().endswith(".svg") else "png")
