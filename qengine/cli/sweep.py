"""``qengine sweep``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .checkpoints import checkpoint_options, checkpoint_warnings, say_notes
from .explain import read_multiplier
from .options import Count, Integer, ScalesCommand, cluster_option, emit, emit_json, json_option, parse_scales
from .progress import progress_bar

if TYPE_CHECKING:
    from ..sweeps.plan import SweepPlan


@click.command("sweep", cls=ScalesCommand)
@click.argument("schemes", nargs=-1, required=True)
@click.option("--pairs", type=Count(), help="Pairs: 33400000, 33.4M, 1e9, 2^32.  [default: 1M; all of one multiplier]")
@click.option("--seed", type=Count(), default=0, show_default=True, help="Key of the draws.")
@click.option("--scales", metavar="FILE | S_IN S_W S_OUT", help="CSV of scales, one channel a row, or one triple.")
@click.option("--multiplier", type=str, help="One multiplier: mantissa in Q0.31 (with --shift), or a real number.")
@click.option("--shift", type=Integer(), help="TFLite shift of the mantissa: positive is left.")
@click.option(
    "--range", "multiplier_range", type=float, nargs=2, metavar="LOW HIGH",
    help="Draw real multipliers from LOW to HIGH.  [default: 0.01 0.99]",
)  # fmt: skip
@click.option("--log-uniform", is_flag=True, help="Draw those of --range uniformly in the logarithm.")
@click.option(
    "--acc", type=str,
    help="uniform[:LOW:HIGH] | normal:SD[:CENTER] | laplace:B[:CENTER] | output-normal:SD | output-laplace:B | "
    "unsaturated | all[:LOW:HIGH]  [default: all of one multiplier without --pairs; unsaturated with a clamp; else "
    "uniform:-1048576:1048575]",
)  # fmt: skip
@click.option(
    "--dtype",
    type=click.Choice(["int8", "uint8", "int16"]),
    help="Compare outputs clamped to this type.  [default: raw; int8 of a file, or with --zero-point, --qmin, --qmax]",
)
@click.option("--zero-point", type=Integer(), help="Output zero point.  [default: the file's, else 0]")
@click.option("--qmin", type=Integer(), help="Lower clamp.")
@click.option("--qmax", type=Integer(), help="Upper clamp.")
@click.option("--witnesses", type=Count(), default=8, show_default=True, help="First divergent pairs to keep.")
@click.option("--backend", type=str, help="cpu | cuda | reference  [default: QENGINE_BACKEND, else cpu]")
@click.option("--threads", type=Count(), help="Workers.  [default: all processors]")
@click.option(
    "--tile", "tile_pairs", type=Count(), help="Pairs a tile; does not change the result.  [default: by the sweep]"
)
@cluster_option
@checkpoint_options
@click.option("--plan", "planned", is_flag=True, help="Run nothing: tell tiles and time, from a calibration of 2 s.")
@click.option("--workers", type=Count(), multiple=True, help="With --plan: for so many workers too; repeatable.")
@click.option("--price", type=float, metavar="PER_HOUR", help="With --plan: price of a worker; tell the cost.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def command(
    schemes: tuple[str, ...], pairs: int | None, seed: int, scales: str | None, multiplier: str | None,
    shift: int | None, multiplier_range: tuple[float, float] | None, log_uniform: bool, acc: str | None,
    dtype: str | None, zero_point: int | None, qmin: int | None, qmax: int | None, witnesses: int,
    backend: str | None, threads: int | None, tile_pairs: int | None, cluster: str | None, checkpoint: str | None,
    resume: bool, planned: bool, workers: tuple[int, ...], price: float | None, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Count how often two or more schemes disagree, over pairs (multiplier, accumulator).

    The digest is the same for every back end, number of threads and tile size.

    \b
    Example:
      qengine sweep single double fp32 --range 0.01 0.99 --pairs 33.4M --seed 42
      qengine sweep single double --pairs 100M --plan --workers 64 --price 0.05
    """
    from ..report.sweep import parts
    from ..sweeps.sweep import plan_of, run_plan

    given: Any = read_multiplier(multiplier, shift)
    plan = plan_of(
        *schemes, pairs=pairs, seed=seed, multiplier=given, multiplier_range=multiplier_range,
        distribution="log-uniform" if log_uniform else "uniform",
        scales=None if scales is None else parse_scales(scales), acc=acc, zero_point=zero_point, dtype=dtype,
        qmin=qmin, qmax=qmax, witnesses=witnesses,
    )  # fmt: skip
    if planned:
        if cluster is not None:
            raise click.UsageError("--plan measures this machine: leave out --cluster, and see --workers.")
        if resume and checkpoint is None:
            raise click.UsageError("--resume needs a checkpoint: the folder of the run that is to go on.")
        _tell(plan, scales, backend, threads, tile_pairs, workers, price, checkpoint, as_json)
        return
    if workers or price is not None:
        raise click.UsageError("--workers and --price are for --plan, which tells what a sweep would take.")
    with progress_bar("sweep", "pairs", quiet) as progress, checkpoint_warnings():
        result = run_plan(
            plan, backend=backend, threads=threads, tile_pairs=tile_pairs, cluster=cluster, checkpoint=checkpoint,
            resume=resume, progress=progress,
        )  # fmt: skip
    say_notes(result.notes, result.complete, checkpoint)
    if as_json:
        emit_json(result.to_dict())
    else:
        emit(parts(result))
    if not result.complete:
        sys.exit(1)


def _tell(
    plan: SweepPlan, scales: str | None, backend: str | None, threads: int | None, tile_pairs: int | None,
    workers: tuple[int, ...], price: float | None, checkpoint: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Print what a sweep would take."""
    from ..report.estimate import parts
    from ..sweeps.estimate import estimate

    told = estimate(
        plan, backend=backend, threads=threads, tile_pairs=tile_pairs, workers=workers, price=price,
        checkpoint=checkpoint,
    )  # fmt: skip
    if as_json:
        emit_json(told.to_dict(scales))
    else:
        emit(parts(told, scales))
