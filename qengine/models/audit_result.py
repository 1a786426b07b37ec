"""What an audit returns: per operator and pair of runtimes, the exact number of states on which they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .requantizing import ACCUMULATORS, Requantizing
from .source import Array

EQUAL, DIFFERENT, OPEN, UNKNOWN = "equal", "different", "open", "not covered"


@dataclass(frozen=True, slots=True)
class Witness:
    """One state on which two sides differ.

    Attributes
    ----------
    channel : int
    state : tuple of int or float
        ``(accumulator,)``, ``(code,)``, ``(a, b)``, ``(sum, count)``, or one float32 number.
    outputs : (int, int)
    region : str
        Where in the tensor: ``""`` everywhere, else ``body`` or ``rest`` of the vector code.
    why : str
    """

    channel: int
    state: tuple[Any, ...]
    outputs: tuple[int, int]
    region: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "channel": self.channel, "state": list(self.state), "outputs": list(self.outputs), "region": self.region,
            "why": self.why,
        }  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Pair:
    """One operator under two sides; differences are ``second - first``.

    Attributes
    ----------
    sides : (str, str)
    states : int
        Attainable states, over all channels.
    divergent : int
        Those on which the outputs differ, counted exactly.
    undecided : int
        Those that were not compared: an intermediate of one side can overflow there, and they are too many to try.
    by_channel, least_by_channel : int64 arrays
        Divergent states of each channel; the least of them (0 where there is none, or the states are pairs).
    least, greatest : int
        Extremes of the difference; 0 where nothing differs.
    regions : mapping
        Divergent states by place in the tensor (``body``, ``rest``), where one side has such places.
    witness : Witness or None
        The first channel that differs, its least state.
    reason : str
        Why there is no answer; empty where there is one.
    """

    sides: tuple[str, str]
    states: int = 0
    divergent: int = 0
    undecided: int = 0
    by_channel: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    least_by_channel: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    least: int = 0
    greatest: int = 0
    regions: Mapping[str, int] = field(default_factory=dict)
    witness: Witness | None = None
    reason: str = ""

    @property
    def status(self) -> str:
        """One of ``equal``, ``different``, ``open`` (equal where decided) and ``not covered``."""
        if self.reason:
            return UNKNOWN
        return DIFFERENT if self.divergent else OPEN if self.undecided else EQUAL

    @property
    def largest(self) -> int:
        """Largest absolute difference."""
        return max(-self.least, self.greatest)

    @property
    def direction(self) -> str:
        """Whether the second side's code is ``higher``, ``lower`` or ``both``; empty where nothing differs."""
        names = [name for name, at in (("lower", self.least < 0), ("higher", self.greatest > 0)) if at]
        return "both" if len(names) > 1 else "".join(names)

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if self.status == UNKNOWN:
            return f"not covered: {self.reason}"
        rest = f"; {self.undecided:,} undecided" if self.undecided else ""
        if self.divergent:
            return f"may differ in {self.divergent:,} of {self.states:,} states{rest}"
        return f"equal on {self.states - self.undecided:,} states{rest}" if rest else "proven equal"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "sides": list(self.sides), "status": self.status, "verdict": self.verdict, "states": self.states,
            "divergent": self.divergent, "undecided": self.undecided,
            "divergent_channels": int(np.count_nonzero(self.by_channel)), "least_difference": self.least,
            "greatest_difference": self.greatest, "direction": self.direction, "regions": dict(self.regions),
            "witness": self.witness.to_dict() if self.witness else None,
        }  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Parameters:
    """What a side makes of the scales of an operator whose states are accumulators; one element a channel.

    Attributes
    ----------
    side : str
    recipe, formula, epilogue : str
    base : int
        Fixed point: `represented` is ``multiplier * 2**(shift - base)``, base 31 for Q0.31. 0: floating point.
    multiplier, shift : arrays
        Mantissa and TFLite's shift, positive to the left; the float multiplier and 0 in floating point. Empty, as
        the following, where an operator has no one multiplier (ADD, MEAN, tables).
    represented : float64 array
        The real number that the side multiplies by.
    ppm : float64 array
        Its error against ``in_scale * w_scale / out_scale`` of the stored scales, in parts per million.
    """

    side: str
    recipe: str
    formula: str
    epilogue: str
    base: int
    multiplier: Array
    shift: Array
    represented: Array
    ppm: Array


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """One operator of the model: its row, what each side makes of its scales, and every pair's answer."""

    row: Requantizing
    parameters: tuple[Parameters, ...] = ()
    pairs: tuple[Pair, ...] = ()

    @property
    def covered(self) -> bool:
        """Whether at least one pair of sides was compared."""
        return any(not pair.reason for pair in self.pairs)

    @property
    def states(self) -> int:
        """Attainable states over all channels."""
        return int(self.row.sizes().sum(dtype=object)) if self.row.covered else 0

    def channel_columns(self) -> dict[str, list[Any]]:
        """Return the facts of every channel as columns of equal length, by name; empty where nothing is covered."""
        row, count = self.row, self.row.channels
        if not row.covered:
            return {}

        def column(values: Any) -> list[Any]:
            found: list[Any] = np.broadcast_to(np.asarray(values), count).tolist()
            return found

        names = ("in_scale", "w_scale", "out_scale", "in_zp", "out_zp", "bias", "count", "low", "high")
        columns: dict[str, list[Any]] = {"channel": list(range(count))}
        columns |= {name: column(getattr(row, name)) for name in names}
        columns["states"] = column(row.sizes())
        for found in self.parameters:
            for name in ("multiplier", "shift", "represented", "ppm") if found.multiplier.size else ():
                columns[f"{name} {found.side}"] = column(getattr(found, name))
        for pair in self.pairs:
            if not pair.reason:
                name = " / ".join(pair.sides)
                columns[f"divergent {name}"] = column(pair.by_channel)
                if row.states == ACCUMULATORS:
                    least = zip(column(pair.by_channel), column(pair.least_by_channel), strict=True)
                    columns[f"first {name}"] = [first if k else None for k, first in least]
        return columns

    def to_dict(self, full: bool = True) -> dict[str, Any]:
        """Return plain data for JSON; `full`: with every channel."""
        row = self.row
        data: dict[str, Any] = {
            "index": row.index, "op": row.op, "name": row.name, "tensor": row.tensor, "covered": self.covered,
            "plain": row.plain, "reason": row.reason,
        }  # fmt: skip
        if row.covered:
            data |= {
                "kind": row.states, "channels": row.channels, "states": self.states, "input_dtype": row.code_dtype,
                "dtype": row.dtype, "granularity": row.granularity, "variant": row.variant,
                "activation": row.activation, "qmin": row.qmin, "qmax": row.qmax, "shape": list(row.shape),
                "arithmetic": {
                    p.side: {"recipe": p.recipe, "formula": p.formula, "epilogue": p.epilogue} for p in self.parameters
                },
                "pairs": [pair.to_dict() for pair in self.pairs],
            }  # fmt: skip
            if full:
                data["by_channel"] = self.channel_columns()
        return data


@dataclass(frozen=True, eq=False, slots=True)
class Total:
    """One pair of sides over the whole model."""

    sides: tuple[str, str]
    equal: int
    different: int
    unknown: int
    states: int
    divergent: int
    undecided: int
    largest: int

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if self.different:
            return f"may differ in {self.different} of {self.equal + self.different + self.unknown} operators"
        return "proven equal" if not self.unknown else f"equal in {self.equal} operators, {self.unknown} not covered"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        names = ("equal", "different", "unknown", "states", "divergent", "undecided", "largest", "verdict")
        return {"sides": list(self.sides), **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, eq=False, slots=True)
class AuditResult:
    """What `qengine.audit` returns.

    Attributes
    ----------
    model : str
        Path of the file.
    sides : tuple of str
        Names of what was compared.
    layers : tuple of Layer
        Every operator of the model in order; those without anything to requantize too.
    notes : tuple of str
        What was left out, in sentences.
    seconds : float
    """

    model: str
    sides: tuple[str, ...]
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def couples(self) -> list[tuple[str, str]]:
        """Every pair of sides, in the order of each layer's `pairs`."""
        return [(a, b) for k, a in enumerate(self.sides) for b in self.sides[k + 1 :]]

    @property
    def requantizing(self) -> tuple[Layer, ...]:
        """The operators that requantize: covered, or not covered."""
        return tuple(layer for layer in self.layers if not layer.row.plain)

    @property
    def totals(self) -> tuple[Total, ...]:
        """Every pair of sides over all operators that requantize."""
        found = []
        for k, sides in enumerate(self.couples):
            pairs = [layer.pairs[k] for layer in self.requantizing if layer.pairs]
            decided = [pair for pair in pairs if not pair.reason]
            missing = len(self.requantizing) - sum(pair.status in (EQUAL, DIFFERENT) for pair in pairs)
            found.append(
                Total(
                    sides, sum(pair.status == EQUAL for pair in pairs), sum(pair.divergent > 0 for pair in pairs),
                    missing, sum(pair.states for pair in decided), sum(pair.divergent for pair in decided),
                    sum(pair.undecided for pair in decided), max((pair.largest for pair in decided), default=0),
                )
            )  # fmt: skip
        return tuple(found)

    def layer(self, key: int | str) -> Layer:
        """Return the operator of that index, or the one that writes the tensor of that name.

        Raises
        ------
        KeyError
        """
        for layer in self.layers:
            if key in (layer.row.index, layer.row.name):
                return layer
        raise KeyError(key)

    def to_dict(self, full: bool = True) -> dict[str, Any]:
        """Return plain data for JSON; `full`: with every channel."""
        return {
            "model": self.model, "sides": list(self.sides), "notes": list(self.notes),
            "totals": [total.to_dict() for total in self.totals],
            "operators": [layer.to_dict(full) for layer in self.layers], "timing": {"seconds": self.seconds},
        }  # fmt: skip

    def to_json(self, indent: int | None = 2, full: bool = True) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(full), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        from ..report.audit_tables import render_text

        return render_text(self)


def ranked(layers: Sequence[Layer], pair: int) -> list[Layer]:
    """Return the operators that differ under a pair of sides, most divergent states first."""
    found = [layer for layer in layers if len(layer.pairs) > pair and layer.pairs[pair].divergent]
    return sorted(found, key=lambda layer: -layer.pairs[pair].divergent)
