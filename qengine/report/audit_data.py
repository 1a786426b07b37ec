"""What the pictures of an audit show, as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .audit_tables import titles

if TYPE_CHECKING:
    from ..models.audit_result import AuditResult, Layer, Pair, Witness

#: Bars of a picture: of more operators, neighbours share one. Pairs of sides and sides that are drawn.
BARS, PAIRS, SIDES = 160, 15, 8
#: Colours of the largest difference: up to 1, 3, and more.
STEPS = (1, 3)


@dataclass(frozen=True, slots=True)
class Bar:
    """One operator, or a few neighbours, under one pair of sides.

    `divergent` and `largest` are None where nothing was compared.
    """

    first: int
    last: int
    text: str
    divergent: int | None
    largest: int | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Absolute errors of an operator's multipliers in ppm, over its channels; None where there is no multiplier."""

    first: int
    last: int
    text: str
    least: float | None
    middle: float | None
    greatest: float | None


def groups(result: AuditResult) -> list[Sequence[Layer]]:
    """Return the operators that requantize, in as many neighbouring groups as there are bars."""
    layers = result.requantizing
    size = -(-len(layers) // BARS) or 1
    return [layers[k : k + size] for k in range(0, len(layers), size)]


def _name(layers: Sequence[Layer]) -> str:
    first, last = layers[0].row, layers[-1].row
    if len(layers) == 1:
        return f"#{first.index} {first.op} {first.name}"
    return f"#{first.index} to #{last.index}, {len(layers)} operators"


def _answer(pairs: Sequence[Pair], layers: Sequence[Layer]) -> Bar:
    decided = [pair for pair in pairs if not pair.reason]
    name, first, last = _name(layers), layers[0].row.index, layers[-1].row.index
    if not decided:
        return Bar(first, last, f"{name}: not covered", None, None)
    divergent, states = sum(p.divergent for p in decided), sum(p.states for p in decided)
    largest = max(p.largest for p in decided)
    if not divergent:
        return Bar(first, last, f"{name}: equal on {states - sum(p.undecided for p in decided):,} states", 0, 0)
    return Bar(
        first, last, f"{name}: {divergent:,} of {states:,} states, largest difference {largest}", divergent, largest
    )


def bars(result: AuditResult) -> dict[str, list[Bar]]:
    """Return the bars of each pair of sides that is drawn, by its title."""
    parts = groups(result)
    return {
        title: [_answer([layer.pairs[k] for layer in part if len(layer.pairs) > k], part) for part in parts]
        for k, title in enumerate(titles(result)[:PAIRS])
    }


def spreads(result: AuditResult) -> dict[str, list[Spread]]:
    """Return the errors of multipliers of each side; sides with the same multipliers everywhere share an entry."""
    found: dict[bytes, tuple[list[str], list[Spread]]] = {}
    for side in result.sides[:SIDES]:
        parts, key = [], b""
        for layers in groups(result):
            ppm = [np.abs(p.ppm) for layer in layers for p in layer.parameters if p.side == side and p.ppm.size]
            values = np.concatenate(ppm) if ppm else np.zeros(0)
            values = values[np.isfinite(values)]
            key += values.tobytes() + b";"
            first, last = layers[0].row.index, layers[-1].row.index
            if not values.size:
                parts.append(Spread(first, last, _name(layers), None, None, None))
                continue
            least, middle, greatest = (float(np.quantile(values, q)) for q in (0, 0.5, 1))
            text = f"{_name(layers)}: {least:.3g} to {greatest:.3g} ppm, median {middle:.3g}, {values.size:,} channels"
            parts.append(Spread(first, last, text, least, middle, greatest))
        if any(part.greatest is not None for part in parts):
            found.setdefault(key, ([], parts))[0].append(side)
    return {", ".join(names): parts for names, parts in found.values()}


def arithmetics(result: AuditResult) -> list[tuple[str, str, str, str, str]]:
    """Return (side, operator, recipe, formula, epilogue) of everything that runs, each once, in order."""
    found: dict[tuple[str, str, str, str, str], None] = {}
    for side in result.sides:
        for layer in result.layers:
            for p in layer.parameters:
                if p.side == side:
                    found[(side, layer.row.op, p.recipe, p.formula, p.epilogue)] = None
    return list(found)


def power(exponent: int) -> str:
    """Write a power of ten: plainly from 0.001 to 1,000, else as ``10`` with an exponent.

    Examples
    --------
    >>> from qengine.report.audit_data import power
    >>> [power(k) for k in (-6, -2, 3, 12)]
    ['10⁻⁶', '0.01', '1,000', '10¹²']
    """
    if -3 <= exponent <= 3:
        return f"{10.0**exponent:g}" if exponent < 0 else f"{10**exponent:,}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def state_text(layer: Layer, witness: Witness) -> str:
    """Write a state: an accumulator, a code, two codes, or a sum and how many codes are in it."""
    numbers = [f"{value:,}" for value in witness.state]
    text = f"{numbers[0]} of {numbers[1]} codes" if layer.row.states == "sums" else ", ".join(numbers)
    return f"{text} ({witness.region})" if witness.region else text
