"""``qengine multiplier``."""

from __future__ import annotations

import math
from typing import Any

import click

from .options import ScalesCommand, emit, emit_json, json_option, parse_triple


@click.command("multiplier", cls=ScalesCommand)
@click.argument("real", type=float, required=False)
@click.option("--scales", metavar="S_IN S_W S_OUT", help="Stored scales: every recipe is shown.")
@click.option("--single", is_flag=True, help="Saturate the shift at 30, as builds with single rounding do.")
@json_option
def command(real: float | None, scales: str | None, single: bool, as_json: bool) -> None:
    """Write a real multiplier as Q0.31 mantissa and shift (positive is left), with its error.

    \b
    Example:
      qengine multiplier --scales 0.05296124517917633 0.024093778803944588 0.11484327912330627
    """
    from ..report.schemes import pairs_parts
    from ..report.terminal import table
    from ..requant import recipes
    from ..requant.multiplier import quantize_multiplier

    if (real is None) == (scales is None):
        raise click.UsageError("give one real multiplier, or --scales S_IN S_W S_OUT.")

    def describe(value: float) -> dict[str, Any]:
        m = quantize_multiplier(value, single_rounding=single)
        held = None if math.isinf(m.real) else m.real  # the largest float64 rounds to 2^1024
        error = None if value == 0 or held is None else m.error_ppm(value)
        return {"real": value, "value": m.value, "shift": m.shift, "represented": held, "error_ppm": error}

    if real is not None:
        found = describe(real)
        if as_json:
            emit_json(found)
        else:
            emit(pairs_parts("real = value * 2^(shift - 31)", found))
        return
    triple = parse_triple(scales or "")
    rows = {name: describe(recipes.apply(name, *triple)) for name in recipes.RECIPES}
    if as_json:
        emit_json({"scales": list(triple), "recipes": rows})
        return
    listing = table("real = value * 2^(shift - 31)")
    for column in ("recipe", "formula", "real", "value", "shift", "error ppm"):
        listing.add_column(column, right=column not in ("recipe", "formula"))
    for name, row in rows.items():
        listing.add_row(
            name, recipes.RECIPES[name].formula, repr(row["real"]), str(row["value"]), str(row["shift"]),
            f"{row['error_ppm']:.3g}",
        )  # fmt: skip
    emit([listing])
