"""The tables and the CSV of an exact comparison."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from .escape import shown, text_cell
from .terminal import Grid, integer, share, table, to_text

if TYPE_CHECKING:
    from ..exact.comparison import SchemeComparison
    from ..exact.couple import Couple, Divergence

#: Pairs that are listed one by one; channels up to which differences are told apart; columns of the layers' table.
LISTED_PAIRS, FEW_CHANNELS, LAYER_COLUMNS = 28, 64, 6
#: Rows of a list that are drawn as a table, which takes all of them at once; more are lines of text.
TABLE_ROWS = 1000


def _plural(count: int, noun: str) -> str:
    return f"{integer(count)} {noun}{'s' * (count != 1)}"


def _source(result: SchemeComparison) -> str:
    described = result.describe()["multipliers"]
    channels = _plural(result.channels, "channel")
    shifts = np.unique(result.right_shift)
    span = f"right shift {shifts[0]}" if shifts.size == 1 else f"right shifts {shifts[0]} to {shifts[-1]}"
    if described["source"] == "scales":
        return f"{channels} of scales ({shown(described['name'])}), {span}"
    if "value" in described:
        return f"value {described['value']}, shift {described['shift']}"
    return f"{described['real']!r}, {span}" if "real" in described else f"{channels}, {span}"


def _header(result: SchemeComparison) -> Iterator[Text]:
    described = result.describe()
    output, zero, acc = described["output"], described["zero_point"], described["accumulators"]
    clamp = "raw int32" if output["dtype"] == "raw" else f"{output['dtype']} [{output['qmin']}, {output['qmax']}]"
    if output["dtype"] != "raw" or zero != 0:
        clamp += ", zero point " + ("of each channel" if zero is None else str(zero))
    which = "those of the histogram" if acc["weighted"] else "every one"
    yield Text(f"multipliers   {_source(result)}")
    yield Text(f"accumulators  {which} in [{integer(acc['low'])}, {integer(acc['high'])}]")
    yield Text(f"outputs       {clamp}")


def differences(couple: Couple, most: int = 4) -> str:
    """Write the commonest differences of a pair, first minus second."""
    if not couple.tallied:
        return "-"
    commonest = sorted(couple.histogram.items(), key=lambda item: -item[1])
    text = ", ".join(f"{d:+d}: {integer(n)}" for d, n in sorted(commonest[:most]))
    return text + (", ..." if len(commonest) > most else "")


def _couples(result: SchemeComparison) -> Grid:
    few, clamped = result.channels <= FEW_CHANNELS, result.sides[0].clamped and result.weights is None
    many = result.channels > 1
    grid = table()
    names = ["schemes", "compared", "divergent", "share", *(["of unclamped"] if clamped else [])]
    names += [*(["channels"] if many else []), "max |diff|", *(["first - second"] if few else []), "engine"]
    for name in names:
        grid.add_column(name, right=name not in ("schemes", "first - second", "engine"), wrap=name == "first - second")
    unclamped = sum(map(int, result.unsaturated)) if clamped else 0
    for couple in result.ordered:
        cells = [f"{couple.schemes[0]} / {couple.schemes[1]}", integer(couple.compared), integer(couple.divergent)]
        cells.append(share(couple.rate) if couple.compared else "-")
        if clamped:
            cells.append(share(couple.divergent / unclamped) if unclamped else "-")
        if many:
            cells.append(integer(couple.channels))
        cells.append(integer(couple.max_abs_diff) if couple.compared else "-")
        if few:
            cells.append(differences(couple))
        grid.add_row(*cells, couple.engine)
    return grid


def _classes(result: SchemeComparison) -> Iterator[Text]:
    groups = [group for group in result.classes if len(group) > 1]
    for group in groups:
        yield Text(f"equal everywhere: {', '.join(group)}")


def _matrix(result: SchemeComparison) -> Grid:
    """Draw the counts of every two classes: schemes that agree everywhere share a line."""
    counts, names = result.matrix(), result.schemes
    first = [names.index(group[0]) for group in result.classes]
    labels = [group[0] + (f" +{len(group) - 1}" if len(group) > 1 else "") for group in result.classes]
    grid = table(
        "Divergent accumulators of every two" + (" (+n: and n equal ones)" if len(labels) < len(names) else "")
    )
    grid.add_column("")
    for label in labels:
        grid.add_column(label, right=True)
    for label, i in zip(labels, first, strict=True):
        cells = []
        for j in first:
            compared = i == j or result.couples[names[i], names[j]].compared
            cells.append("." if i == j else integer(counts[i][j]) if compared else "-")
        grid.add_row(label, *cells)
    return grid


def layers(result: SchemeComparison) -> dict[tuple[str, str], np.ndarray[Any, np.dtype[np.intp]]]:
    """Return the channels of each (layer, operator) of the table, in order; empty without a column of layers."""
    scales = result.table
    if scales is None or scales.layer is None:
        return {}
    operators: Sequence[str] = scales.operator or [""] * len(scales.layer)
    return result.grouped(list(zip(scales.layer, operators, strict=True)))


def layer_counts(result: SchemeComparison) -> list[dict[str, Any]]:
    """Return the counts of each layer as plain data, pairs in the order of the couples."""
    return [
        {
            "layer": layer, "op": op, "channels": int(channels.size),
            "divergent": [int(couple.by_channel[channels].sum()) for couple in result.ordered],
        }
        for (layer, op), channels in layers(result).items()
    ]  # fmt: skip


def _layer_table(result: SchemeComparison) -> Grid | None:
    groups = layers(result)
    if not groups:
        return None
    leading = [result.couples[result.schemes[0], name] for name in result.schemes[1 : LAYER_COLUMNS + 1]]
    more = len(result.ordered) - len(leading)
    caption = f"{_plural(more, 'more pair')}: --csv writes every one, channel by channel." if more else None
    grid = table("Divergent accumulators by layer", caption)
    operators = any(op for _, op in groups)
    grid.add_column("layer", right=True)
    if operators:
        grid.add_column("op")
    grid.add_column("channels", right=True)
    for couple in leading:
        grid.add_column(f"{couple.schemes[0]} / {couple.schemes[1]}", right=True)
    for (layer, op), channels in groups.items():
        cells = [shown(layer), *([shown(op)] if operators else []), integer(channels.size)]
        grid.add_row(*cells, *(integer(int(couple.by_channel[channels].sum())) for couple in leading))
    return grid


def _witnesses(result: SchemeComparison) -> Grid | None:
    grid = table("First and last divergent accumulators")
    channel = result.channels > 1
    for name in ("schemes", *(["channel"] if channel else []), "acc", "outputs", "why"):
        grid.add_column(name, right=name not in ("schemes", "why"), wrap=name == "why")
    rows = 0
    for couple in result.ordered:
        seen = [couple.first] if couple.divergent == 1 else [couple.first, couple.last]
        for found in seen:
            if found is not None:
                rows += 1
                grid.add_row(f"{couple.schemes[0]} / {couple.schemes[1]}", *_cells(found, channel))
    return grid if rows else None


def _cells(found: Divergence, channel: bool) -> list[str]:
    return [
        *([str(found.channel)] if channel else []), integer(found.acc), f"{found.outputs[0]}, {found.outputs[1]}",
        found.why,
    ]  # fmt: skip


def parts(result: SchemeComparison, listed: int = 0) -> Iterator[RenderableType]:
    """Yield the header, the pairs or their matrix, layers, witnesses, and the first `listed` of the first pair.

    Of more than `TABLE_ROWS` the title alone comes, last: `lines` follow it.
    """
    yield from _header(result)
    if len(result.ordered) <= LISTED_PAIRS:
        yield _couples(result)
    yield from _classes(result)
    excluded = {name: n for name, n in result.excluded.items() if n}
    if excluded:
        named = ", ".join(f"{name} {integer(n)}" for name, n in excluded.items())
        yield Text(f"outside the domain, not compared: {named}")
    if len(result.schemes) > 2:
        yield _matrix(result)
    by_layer = _layer_table(result)
    if by_layer is not None:
        yield by_layer
    if listed and result.ordered[0].equal:
        a, b = result.ordered[0].schemes
        yield Text(f"nothing to list: {a} and {b} agree on every accumulator")
    elif 0 < listed <= TABLE_ROWS:
        yield listing(result, listed)
    elif not listed and len(result.ordered) <= LISTED_PAIRS:
        seen = _witnesses(result)
        if seen is not None:
            yield seen
    decided = sum(couple.compared for couple in result.ordered)
    yield Text(
        f"{integer(decided)} {'weights' if result.weights is not None else 'accumulators'} of "
        f"{_plural(len(result.ordered), 'pair')} of schemes decided in {result.seconds:.3f} s"
    )
    yield Text(f"digest {result.digest}")
    if listed > TABLE_ROWS and not result.ordered[0].equal:
        yield Text(_title(result, listed))


def divergent(result: SchemeComparison, most: int) -> Iterator[Divergence]:
    """Yield the first divergent accumulators of the first two schemes, channel by channel, explained."""
    couple = result.ordered[0]
    every = (
        (acc, int(channel)) for channel in np.flatnonzero(couple.by_channel) for acc in couple.inputs(int(channel))
    )
    return (couple.explained(acc, channel) for acc, channel in itertools.islice(every, most))


def _title(result: SchemeComparison, most: int) -> str:
    couple = result.ordered[0]
    of = _plural(couple.divergent, "divergent accumulator")
    return f"First {integer(min(most, couple.divergent))} of {of}: {couple.schemes[0]} / {couple.schemes[1]}"


def lines(result: SchemeComparison, most: int) -> Iterator[str]:
    """Yield a header and one line of CSV for each of the first divergent accumulators, some hundred lines at a time."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["channel", "acc", "exact", *result.ordered[0].schemes, "why"])
    for number, item in enumerate(divergent(result, most), 1):
        writer.writerow([item.channel, item.acc, repr(item.exact), *item.outputs, item.why])
        if number % 512 == 0:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def listing(result: SchemeComparison, most: int) -> Grid:
    """Draw the first divergent accumulators of the first two schemes."""
    grid = table(_title(result, most))
    channel = result.channels > 1
    for name in (*(["channel"] if channel else []), "acc", "exact", "outputs", "why"):
        grid.add_column(name, right=name != "why", wrap=name == "why")
    for item in divergent(result, most):
        cells = _cells(item, channel)
        grid.add_row(*cells[:-2], f"{item.exact:.12g}", *cells[-2:])
    return grid


def render_text(result: SchemeComparison) -> str:
    """Return the tables as plain text."""
    return to_text(*parts(result))


def to_csv(result: SchemeComparison) -> str:
    """Return one line a channel under a header, ended by CR LF: where it belongs, its numbers, every pair's count."""
    scales = result.table
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    labels: dict[str, tuple[str, ...]] = {}
    if scales is not None:
        columns = (("layer", scales.layer), ("op", scales.operator))
        labels = {name: values for name, values in columns if values is not None}
    pairs = [f"{couple.schemes[0]}/{couple.schemes[1]}" for couple in result.ordered]
    writer.writerow(
        [*labels, "channel", "multiplier", "right_shift", "zero_point", "low", "high", "unsaturated", *pairs]
    )
    fields = (result.right_shift, result.sides[0].epilogue.zero_point, result.low, result.high, result.unsaturated)
    numbers = np.stack(fields, axis=1).tolist()
    reals, compared = result.reals.tolist(), (result.compared > 0).T.tolist()
    for c, divergent in enumerate(result.divergent.T.tolist()):
        cells = [text_cell(values[c]) for values in labels.values()]
        counts = [n if known else "" for n, known in zip(divergent, compared[c], strict=True)]
        writer.writerow([*cells, c, repr(reals[c]), *numbers[c], *counts])
    return out.getvalue()
