"""The tensors of a file that were measured, and those that were not: tables and plain data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..affine.combinations import LeftOut
from ..affine.error_report import ErrorReport
from ..models.source import TensorSource
from .errors import cells
from .escape import shown
from .samples import Samples
from .terminal import Grid, integer, table

#: Elements up to which a tensor is read into memory, where every method works; longer ones are read in pieces.
IN_MEMORY = 1 << 26


def load(source: TensorSource) -> npt.NDArray[Any] | TensorSource:
    """Return what `qengine.error_report` takes: the array, or the tensor that reads itself in pieces."""
    return source.read() if source.size <= IN_MEMORY else source


@dataclass(frozen=True, eq=False)
class Measured:
    """A tensor and its errors.

    Attributes
    ----------
    source : TensorSource
    report : ErrorReport
    left_out : tuple of LeftOut
        Choices that were not possible.
    samples : Samples or None
        All samples under the first choice, of a small tensor.
    """

    source: TensorSource
    report: ErrorReport
    left_out: tuple[LeftOut, ...] = ()
    samples: Samples | None = None

    def header(self) -> str:
        """Return one line about the tensor."""
        errors = self.report.rows[0].tensor
        note = f", {shown(self.source.note)}" if self.source.note else ""
        skipped = self.report.nonfinite
        return (
            f"{shown(self.source.name)}: {shape_text(self.source.shape)}, {self.source.dtype}{note}, "
            f"{integer(errors.count)} sample{'s' * (errors.count != 1)} in [{errors.low!r}, {errors.high!r}]"
            + (f", {integer(skipped)} NaN or infinite left out" if skipped else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        source, errors = self.source, self.report.rows[0].tensor
        return {
            "name": source.name, "dtype": source.dtype, "note": source.note, "low": errors.low, "high": errors.high,
            **self.report.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refused:
    """A tensor that was not measured, and why."""

    source: TensorSource
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "name": self.source.name, "dtype": self.source.dtype, "shape": list(self.source.shape),
            "reason": self.reason,
        }  # fmt: skip


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape: ``32x3x3``."""
    return "x".join(map(str, shape)) or "scalar"


def tensors_table(measured: Sequence[Measured]) -> Grid:
    """Return a table of tensors, each under its first choice."""
    grid = table()
    grid.add_column("tensor", wrap=True)
    grid.add_column("shape")
    grid.add_column("type")
    for name in ("scale", "zero point", "SQNR dB", "MSE", "RMSE", "max |e|", "bias", "clipped", "codes", "entropy"):
        grid.add_column(name, right=True)
    for item in measured:
        scale, zero_point, sqnr, mse, rmse, _, largest, *rest = cells(item.report.rows[0])
        source = item.source
        grid.add_row(
            shown(source.name), shape_text(source.shape), source.dtype, scale, zero_point, sqnr, mse, rmse, largest,
            *rest,
        )  # fmt: skip
    return grid


def refused_table(refused: Sequence[Refused]) -> Grid:
    """Return a table of tensors that were not measured."""
    grid = table("Not measured")
    grid.add_column("tensor", wrap=True)
    grid.add_column("shape")
    grid.add_column("type")
    grid.add_column("why", wrap=True)
    for item in refused:
        source = item.source
        grid.add_row(shown(source.name), shape_text(source.shape), shown(source.dtype), shown(item.reason))
    return grid


def best_of_tensors(measured: Sequence[Measured], rank: str) -> Grid:
    """Return the best choice of each tensor under a metric."""
    grid = table("Best choice of each tensor")
    grid.add_column("tensor", wrap=True)
    grid.add_column("shape")
    grid.add_column("choice", wrap=True)
    for name in ("scale", "SQNR dB", "MSE", "max |e|", "clipped"):
        grid.add_column(name, right=True)
    for item in measured:
        best = item.report.best(rank)
        scale, _, sqnr, mse, _, _, largest, _, clipped, *_ = cells(best)
        name, shape = shown(item.source.name), shape_text(item.source.shape)
        grid.add_row(name, shape, shown(best.label), scale, sqnr, mse, largest, clipped)
    return grid


def wins_table(measured: Sequence[Measured], rank: str) -> Grid:
    """Return how often each choice is the best of a tensor."""
    wins: dict[str, int] = {}
    for item in measured:
        label = item.report.best(rank).label
        wins[label] = wins.get(label, 0) + 1
    grid = table("How often a choice is best")
    grid.add_column("choice", wrap=True)
    grid.add_column("tensors", right=True)
    for label, count in sorted(wins.items(), key=lambda pair: -pair[1]):
        grid.add_row(shown(label), integer(count))
    return grid


def left_out_table(left_out: Sequence[LeftOut]) -> Grid:
    """Return the reasons for which choices were left out, and how many by each."""
    reasons: dict[str, list[LeftOut]] = {}
    for item in left_out:
        reasons.setdefault(re.sub(r"-?\d[\d.]*", "0", item.reason), []).append(item)  # the same but for its numbers
    grid = table(f"Left out: {len(left_out)} combination{'s' * (len(left_out) != 1)} that cannot be")
    grid.add_column("how many", right=True)
    grid.add_column("the first", wrap=True)
    grid.add_column("why", wrap=True)
    for items in reasons.values():
        grid.add_row(integer(len(items)), shown(items[0].spec.label), shown(items[0].reason))
    return grid


def worst_first(measured: Sequence[Measured]) -> list[Measured]:
    """Return the tensors by the SQNR of their first choice, worst first; equals keep their order."""
    return sorted(measured, key=lambda item: float(np.asarray(item.report.rows[0].sqnr)))
