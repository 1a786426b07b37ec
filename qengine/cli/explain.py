"""``qengine explain``."""

from __future__ import annotations

from typing import Any

import click

from .options import Integer, ScalesCommand, emit, emit_json, json_option, parse_triple


@click.command("explain", cls=ScalesCommand)
@click.option("--acc", type=Integer(), required=True, help="Accumulator.")
@click.option("--multiplier", type=str, help="Mantissa in Q0.31 (with --shift), or a real multiplier.")
@click.option("--shift", type=Integer(), help="TFLite shift of the mantissa: positive is left.")
@click.option("--scales", metavar="S_IN S_W S_OUT", help="Stored scales; each scheme uses its own recipe.")
@click.option("--zero-point", type=Integer(), default=0, show_default=True, help="Output zero point, added.")
@click.option("--dtype", type=click.Choice(["int8", "uint8", "int16"]), help="Clamp to this type.")
@click.option("--scheme", "schemes", multiple=True, help="Only this scheme; repeatable.")
@json_option
def command(
    acc: int, multiplier: str | None, shift: int | None, scales: str | None, zero_point: int, dtype: str | None,
    schemes: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Show every intermediate of every scheme for one accumulator, and which runtimes give which output.

    \b
    Example (tensorflow#102943: -119 in integers, -120 in float32):
      qengine explain --acc 585 --scales 0.05296124517917633 0.024093778803944588 0.11484327912330627 \\
          --zero-point -126
    """
    from ..report.explain import parts
    from ..requant.explain import check_some_output, explain

    triple = None if scales is None else parse_triple(scales)
    given: Any = read_multiplier(multiplier, shift)
    result = explain(
        acc, given, scales=triple, zero_point=zero_point, dtype=dtype, schemes=schemes or None
    )  # fmt: skip
    check_some_output(result)
    if as_json:
        emit_json(result.to_dict())
    else:
        emit(parts(result))


def read_multiplier(multiplier: str | None, shift: int | None) -> Any:
    """Return what ``--multiplier`` and ``--shift`` mean: fixed point with a shift, a real number without."""
    from ..requant.multiplier import QuantizedMultiplier

    if multiplier is None:
        if shift is not None:
            raise click.UsageError("--shift needs --multiplier.")
        return None
    try:
        if shift is not None:
            return QuantizedMultiplier(int(multiplier), shift)
        real = float(multiplier)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        kind = "a real number" if shift is None else "an integer mantissa"
        raise click.BadParameter(f"{multiplier!r} is not {kind}.", param_hint="--multiplier") from None
    if 2**30 <= real < 2**31:  # above what any scheme takes as a real number
        raise click.BadParameter(
            f"{multiplier!r} looks like a mantissa in Q0.31, which needs --shift; a real multiplier is below 2^30.",
            param_hint="--multiplier",
        )
    return real
