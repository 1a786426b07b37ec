"""``qengine sweep``."""

from __future__ import annotations

import sys
from typing import Any

import click

from .explain import read_multiplier
from .options import Count, Integer, ScalesCommand, emit, emit_json, json_option, parse_scales
from .progress import progress_bar


@click.command("sweep", cls=ScalesCommand)
@click.argument("schemes", nargs=-1, required=True)
@click.option("--pairs", type=Count(), help="Pairs: 33400000, 33.4M, 1e9, 2^32.  [default: 1M; all of one multiplier]")
@click.option("--seed", type=Count(), default=0, show_default=True, help="Key of the draws.")
@click.option("--scales", metavar="FILE | S_IN S_W S_OUT", help="CSV of scales, one channel a row, or one triple.")
@click.option("--multiplier", type=str, help="One multiplier: mantissa in Q0.31 (with --shift), or a real number.")
@click.option("--shift", type=Integer(), help="TFLite shift of the mantissa: positive is left.")
@click.option("--range", "multiplier_range", type=float, nargs=2, help="Draw real multipliers from LOW HIGH.")
@click.option("--log-uniform", is_flag=True, help="Draw them uniformly in the logarithm.")
@click.option(
    "--acc", type=str,
    help="uniform[:LOW:HIGH] | normal:SD[:CENTER] | laplace:B[:CENTER] | output-normal:SD | output-laplace:B | "
    "unsaturated | all[:LOW:HIGH]",
)  # fmt: skip
@click.option("--dtype", type=click.Choice(["int8", "uint8", "int16"]), help="Compare outputs clamped to this type.")
@click.option("--zero-point", type=Integer(), help="Output zero point.  [default: the file's, else 0]")
@click.option("--qmin", type=Integer(), help="Lower clamp.")
@click.option("--qmax", type=Integer(), help="Upper clamp.")
@click.option("--witnesses", type=Count(), default=8, show_default=True, help="First divergent pairs to keep.")
@click.option("--backend", type=str, help="cpu | cuda | reference")
@click.option("--threads", type=Count(), help="Workers.  [default: all processors]")
@click.option("--tile", "tile_pairs", type=Count(), help="Pairs a tile; does not change the result.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def command(
    schemes: tuple[str, ...], pairs: int | None, seed: int, scales: str | None, multiplier: str | None,
    shift: int | None, multiplier_range: tuple[float, float] | None, log_uniform: bool, acc: str | None,
    dtype: str | None, zero_point: int | None, qmin: int | None, qmax: int | None, witnesses: int,
    backend: str | None, threads: int | None, tile_pairs: int | None, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Count how often two or more schemes disagree, over pairs (multiplier, accumulator).

    The digest is the same for every back end, number of threads and tile size.

    \b
    Example:
      qengine sweep single double fp32 --range 0.01 0.99 --pairs 33.4M --seed 42
    """
    from ..report.sweep import parts
    from ..sweeps.sweep import sweep

    given: Any = read_multiplier(multiplier, shift)
    with progress_bar("sweep", "pairs", quiet) as progress:
        result = sweep(
            *schemes, pairs=pairs, seed=seed, multiplier=given, multiplier_range=multiplier_range,
            distribution="log-uniform" if log_uniform else "uniform",
            scales=None if scales is None else parse_scales(scales), acc=acc, zero_point=zero_point, dtype=dtype,
            qmin=qmin, qmax=qmax, witnesses=witnesses, backend=backend, threads=threads, tile_pairs=tile_pairs,
            progress=progress,
        )  # fmt: skip
    if as_json:
        emit_json(result.to_dict())
    else:
        emit(parts(result))
    if not result.complete:
        sys.exit(1)
