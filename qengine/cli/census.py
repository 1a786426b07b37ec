"""``qengine census``."""

from __future__ import annotations

import sys

import click

from .checkpoints import checkpoint_options, checkpoint_warnings, say_notes
from .options import Integer, cluster_option, emit, emit_json, json_option
from .progress import progress_bar


@click.command("census")
@click.argument("schemes", nargs=2, metavar="SCHEME SCHEME")
@click.option("--shift", type=Integer(), multiple=True, help="TFLite shift, positive is left; may be repeated.")
@click.option(
    "--shifts", type=Integer(), nargs=2, metavar="FROM TO", help="All shifts from one to another.  [default: 0 -30]"
)
@click.option(
    "--multipliers", type=Integer(), nargs=2, metavar="LOW HIGH",
    help="Closed range of Q0.31 mantissas.  [default: all, 2^30 to 2^31 - 1]",
)  # fmt: skip
@click.option(
    "--range",
    "acc_range",
    type=Integer(),
    nargs=2,
    metavar="LOW HIGH",
    help="Closed range of accumulators.  [default: int32]",
)
@click.option(
    "--dtype", type=click.Choice(["int8", "uint8", "int16", "raw"]), default="int8", show_default=True,
    help="Clamp outputs to this type.",
)  # fmt: skip
@click.option("--zero-point", type=Integer(), default=0, show_default=True, help="Output zero point.")
@click.option("--qmin", type=Integer(), help="Lower clamp.")
@click.option("--qmax", type=Integer(), help="Upper clamp.")
@click.option(
    "--method", type=click.Choice(["auto", "closed", "tiles"]), default="auto", show_default=True,
    help="Divisor and floor sums over all mantissas, or mantissa by mantissa (which tells how many diverge).",
)  # fmt: skip
@click.option("--backend", type=str, help="cpu | cuda | reference  [default: QENGINE_BACKEND, else cpu]")
@cluster_option
@checkpoint_options
@click.option("--csv", "csv_path", type=str, metavar="FILE", help="Write the counts, one line a shift.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def command(
    schemes: tuple[str, str], shift: tuple[int, ...], shifts: tuple[int, int] | None,
    multipliers: tuple[int, int] | None, acc_range: tuple[int, int] | None, dtype: str, zero_point: int,
    qmin: int | None, qmax: int | None, method: str, backend: str | None, cluster: str | None,
    checkpoint: str | None, resume: bool, csv_path: str | None, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Count exactly, over all mantissas of one or more shifts and all accumulators, where two schemes disagree.

    \b
    Example:
      qengine census single double --shift -4
      qengine census single double --shift -14 --multipliers 2^30 1073751823 --method tiles
      qengine census single fp32 --shift -9 --multipliers 2^30 1073741999 --checkpoint work
    """
    from ..exact.census import MANTISSAS, census
    from ..report.census import parts, to_csv
    from ..report.files import check_target, write_file

    if shift and shifts is not None:
        raise click.UsageError("give --shift or --shifts, not both.")
    chosen: tuple[int, ...] | range | None = shift or None
    if shifts is not None:
        step = 1 if shifts[1] >= shifts[0] else -1
        chosen = range(shifts[0], shifts[1] + step, step)
    if csv_path is not None:
        check_target(csv_path)
    with progress_bar("census", "pairs", quiet) as progress, checkpoint_warnings():
        result = census(
            *schemes, shifts=chosen, multipliers=multipliers or MANTISSAS, acc_range=acc_range,
            dtype=None if dtype == "raw" else dtype, zero_point=zero_point, qmin=qmin, qmax=qmax, method=method,
            backend=backend, cluster=cluster, checkpoint=checkpoint, resume=resume, progress=progress,
        )  # fmt: skip
    say_notes(result.notes, result.complete, checkpoint)
    if csv_path is not None:
        write_file(csv_path, to_csv(result).encode())
    if as_json:
        emit_json(result.to_dict())
    else:
        emit(parts(result))
    if not result.complete:
        sys.exit(1)
