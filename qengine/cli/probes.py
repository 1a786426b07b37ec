"""``qengine probes``."""

from __future__ import annotations

from typing import Any

import click

from .explain import read_multiplier
from .options import Integer, ScalesCommand, emit, emit_json, json_option, parse_triple


@click.command("probes", cls=ScalesCommand)
@click.argument("schemes", nargs=-1)
@click.option("--multiplier", type=str, help="Mantissa in Q0.31 (with --shift), or a real multiplier.")
@click.option("--shift", type=Integer(), help="TFLite shift of the mantissa: positive is left.")
@click.option("--scales", metavar="S_IN S_W S_OUT", help="Stored scales; each scheme uses its own recipe.")
@click.option("--zero-point", type=Integer(), default=0, show_default=True, help="Output zero point, added.")
@click.option(
    "--dtype", type=click.Choice(["int8", "uint8", "int16"]), default="int8", show_default=True, help="Output type."
)
@click.option("--qmin", type=Integer(), help="Lower clamp.")
@click.option("--qmax", type=Integer(), help="Upper clamp.")
@click.option(
    "--range",
    "acc_range",
    type=Integer(),
    nargs=2,
    metavar="LOW HIGH",
    help="Attainable accumulators, closed.  [default: int32]",
)
@json_option
@click.option("--export", multiple=True, metavar="PATH", help="Write .npy, .csv or .h (C header); repeatable.")
def command(
    schemes: tuple[str, ...], multiplier: str | None, shift: int | None, scales: str | None, zero_point: int,
    dtype: str, qmin: int | None, qmax: int | None, acc_range: tuple[int, int] | None, as_json: bool,
    export: tuple[str, ...],
) -> None:  # fmt: skip
    """Find the fewest accumulators that tell SCHEMES (default: all) apart for one multiplier.

    Schemes that are equal on the whole range are named: nothing can tell them apart there.

    \b
    Example:
      qengine probes single double double-up fp32 --multiplier 1717986918 --shift -3
    """
    from ..exact.probes import ENDINGS, probes
    from ..report.files import check_target, write_file
    from ..report.probes import parts

    targets = [check_target(path, *ENDINGS) for path in export]
    triple = None if scales is None else parse_triple(scales)
    given: Any = read_multiplier(multiplier, shift)
    result = probes(
        schemes or None, given, scales=triple, zero_point=zero_point, dtype=dtype, qmin=qmin, qmax=qmax,
        acc_range=acc_range,
    )  # fmt: skip
    for target in targets:
        write_file(target, result.content(target.suffix.lower()))
    if as_json:
        emit_json(result.to_dict())
    else:
        emit(parts(result))
