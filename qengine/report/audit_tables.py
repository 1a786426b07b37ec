"""The tables of an audit, and its channels as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from ..models.requantizing import REALS, real_numbers
from .escape import shortened, shown, text_cell
from .terminal import integer, share, table, to_text

if TYPE_CHECKING:
    from ..models.audit_result import AuditResult, Layer, Pair

#: Facts of a channel, as `Layer.channel_columns` names them.
FACTS = (
    "channel", "in_scale", "w_scale", "out_scale", "in_zp", "out_zp", "bias", "count", "low", "high", "states",
)  # fmt: skip
NUMBERS = ("multiplier", "shift", "represented", "ppm")
#: Operators whose first differing state is shown for each pair of sides.
SHOWN = 3
SIGNS = {"higher": "+", "lower": "-", "both": "±"}


def titles(result: AuditResult) -> list[str]:
    """Return a short name for each pair of sides: without a runtime that all of them share."""
    prefix = {name.partition(":")[0] for name in result.sides if ":" in name}
    alone = len(prefix) == 1 and all(":" in name for name in result.sides)
    return [" / ".join(name.partition(":")[2] if alone else name for name in pair) for pair in result.couples]


def cell(pair: Pair) -> str:
    """Return a pair's answer in a few characters: divergent states with sign and size of the difference."""
    if pair.reason:
        return "-"
    open_ = f" ({integer(pair.undecided)} open)" if pair.undecided else ""
    if not pair.divergent:
        return f"equal{open_}"
    return f"{integer(pair.divergent)} {SIGNS[pair.direction]}{pair.largest}{open_}"


def reach(layer: Layer) -> str:
    """Return the hull of the states of all channels."""
    row = layer.row
    if row.states == REALS:
        least, greatest = real_numbers(np.array([row.low[0], row.high[0]])).tolist()
        return f"{least:.6g} .. {greatest:.6g}"
    return f"{integer(int(row.low.min()))} .. {integer(int(row.high.max()))}"


def parts(result: AuditResult) -> Iterator[RenderableType]:
    """Yield the operators, the totals, first differing states, and what was not covered."""
    yield from _layers(result)
    yield from _totals(result)
    yield from _witnesses(result)
    missing: dict[tuple[str, str], list[int]] = {}
    for layer in result.requantizing:
        reasons = dict.fromkeys(filter(None, (layer.row.reason, *(pair.reason for pair in layer.pairs))))
        both = {f"{a}; {b}" for a in reasons for b in reasons}  # what is said of either side already
        for why in reasons:
            if why not in both:
                missing.setdefault((layer.row.op, why), []).append(layer.row.index)
    if missing:
        listing = table("not covered")
        listing.add_column("operators", wrap=True)
        listing.add_column("op")
        listing.add_column("why", wrap=True)
        for (op, why), indices in missing.items():
            listing.add_row(", ".join(map(str, indices)), shown(op), shown(why))
        yield listing
    plain = sum(layer.row.plain for layer in result.layers)
    if plain:
        yield Text(f"{plain} more operator{'s requantize' if plain != 1 else ' requantizes'} nothing.")
    for note in result.notes:
        yield Text(shown(note))
    yield Text(f"{result.seconds:.2f} s")


def _layers(result: AuditResult) -> Iterator[RenderableType]:
    covered = [layer for layer in result.layers if layer.covered]
    if not covered:
        return
    listing = table(
        shown(result.model),
        "States: accumulators, codes, pairs of codes or sums that can arise. Under each pair of sides: states on which "
        "the codes differ, with the sign (second less first) and size of the largest difference.",
    )
    listing.add_column("operator", right=True)
    listing.add_column("op")
    for name in ("channels", "states", "least .. greatest"):
        listing.add_column(name, right=True)
    listing.add_column("activation")
    for title in titles(result):
        listing.add_column(title, right=True)
    for layer in covered:
        row = layer.row
        listing.add_row(
            str(row.index), shown(row.op), integer(row.channels), integer(layer.states), reach(layer),
            row.activation if row.activation != "NONE" else "", *(cell(pair) for pair in layer.pairs),
        )  # fmt: skip
    yield listing


def _totals(result: AuditResult) -> Iterator[RenderableType]:
    listing = table("totals")
    listing.add_column("sides")
    for name in ("operators", "proven equal", "may differ", "not covered", "states", "differ", "share", "largest"):
        listing.add_column(name, right=True)
    for title, total in zip(titles(result), result.totals, strict=True):
        listing.add_row(
            title, integer(total.equal + total.different + total.unknown), integer(total.equal),
            integer(total.different), integer(total.unknown), integer(total.states), integer(total.divergent),
            share(total.divergent / max(1, total.states)), str(total.largest),
        )  # fmt: skip
    yield listing


def _witnesses(result: AuditResult) -> Iterator[RenderableType]:
    listing = table(f"first differing states (of the first {SHOWN} operators that differ)")
    for name, right in (("sides", False), ("operator", True), ("channel", True), ("state", True), ("codes", True)):
        listing.add_column(name, right=right)
    listing.add_column("why", wrap=True)
    for k, title in enumerate(titles(result)):
        found = [layer for layer in result.layers if layer.pairs and layer.pairs[k].witness]
        for layer in found[:SHOWN]:
            witness = layer.pairs[k].witness
            assert witness is not None
            place = f" ({witness.region})" if witness.region else ""
            listing.add_row(
                title, str(layer.row.index), str(witness.channel), ", ".join(map(str, witness.state)) + place,
                " / ".join(map(str, witness.outputs)), shown(witness.why),
            )  # fmt: skip
    if listing.lines:
        yield listing


def render_text(result: AuditResult) -> str:
    """Return the tables as plain text."""
    return to_text(*parts(result))


def to_csv(result: AuditResult) -> str:
    """Return one line a channel of every covered operator, ended by CR LF; every number in full."""
    pairs = [" / ".join(pair) for pair in result.couples]
    numbers = [f"{name} {side}" for side in result.sides for name in NUMBERS]
    answers = [f"{name} {pair}" for pair in pairs for name in ("divergent", "first")]
    about = ("operator", "op", "name", "kind", "input_dtype", "dtype", "granularity", "activation", "qmin", "qmax")
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([text_cell(name) for name in (*about, *FACTS, *numbers, *answers)])
    for layer in result.layers:
        row = layer.row
        columns = layer.channel_columns() if layer.covered else {}
        fixed = [
            row.index, text_cell(row.op), text_cell(shortened(row.name, 200)), row.states, row.code_dtype, row.dtype,
            row.granularity, row.activation, row.qmin, row.qmax,
        ]  # fmt: skip
        given = [columns.get(name) for name in (*FACTS, *numbers, *answers)]
        for channel in range(row.channels if columns else 0):
            writer.writerow([*fixed, *(_number(column[channel]) if column else "" for column in given)])
    return out.getvalue()


def _number(value: Any) -> str:
    return "" if value is None else repr(value)
