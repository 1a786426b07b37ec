"""The tables of an error report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from ..affine.metrics import HIGHER_IS_BETTER
from .escape import shown
from .formulas import Line, metric_lines, parameter_lines, setting_lines, spread, variant_lines
from .terminal import Grid, integer, table

if TYPE_CHECKING:
    from ..affine.error_report import ErrorReport, ErrorRow

#: Rows of the table of channels.
WORST = 8
#: What tables call the metrics that they rank by.
TITLES = {
    "mse": "MSE", "rmse": "RMSE", "mae": "MAE", "max_abs": "max |e|", "bias": "bias", "sqnr": "SQNR dB",
    "psnr": "PSNR dB", "cosine": "cosine", "clip_rate": "clipped",
}  # fmt: skip
COLUMNS = ("scale", "zero point", "SQNR dB", "MSE", "RMSE", "MAE", "max |e|", "bias", "clipped", "codes", "entropy")


def decibel(value: float) -> str:
    """Write decibels."""
    return f"{value:.2f}"


def percent(value: float) -> str:
    """Write a rate in percent; a small one in full magnitude."""
    return "0 %" if value == 0 else f"{100 * value:.3g} %"


def metric(name: str, value: float) -> str:
    """Write the value of a metric as tables show it."""
    if name in ("sqnr", "psnr"):
        return decibel(value)
    if name == "clip_rate":
        return percent(value)
    return f"{value:.9f}" if name == "cosine" else f"{value:.4g}"


def cells(row: ErrorRow) -> tuple[str, ...]:
    """Return the texts under `COLUMNS`."""
    scale = "" if row.params is None else spread(row.params.scale)
    zero_point = "" if row.params is None else spread(row.params.zero_point, 12)
    codes = entropy = ""
    if row.code_counts is not None:
        codes, entropy = f"{integer(row.codes_used)}/{integer(row.code_counts.size)}", f"{row.entropy:.3f}"
    return (
        scale, zero_point, decibel(row.sqnr),
        *(f"{v:.4g}" for v in (row.mse, row.rmse, row.mae, row.max_abs, row.bias)),
        percent(row.clip_rate), codes, entropy,
    )  # fmt: skip


def rows_table(rows: Sequence[ErrorRow], title: str | None = None, ranks: bool = False) -> Grid:
    """Return a table of choices, one a line."""
    grid = table(title)
    if ranks:
        grid.add_column("#", right=True)
    grid.add_column("choice", wrap=True)
    for name in COLUMNS:
        grid.add_column(name, right=True)
    for k, row in enumerate(rows, 1):
        grid.add_row(*([str(k)] if ranks else []), shown(row.label), *cells(row))
    return grid


def best_table(report: ErrorReport) -> Grid:
    """Return what is best under each metric, and how many others are equal to it."""
    grid = table("Best under each metric")
    grid.add_column("metric")
    grid.add_column("best", right=True)
    grid.add_column("choice", wrap=True)
    grid.add_column("as good", right=True)
    for name in HIGHER_IS_BETTER:
        best = report.best(name)
        value = getattr(best, name)
        size = abs(value) if name == "bias" else value
        equal = sum((abs(v) if name == "bias" else v) == size for v in (getattr(row, name) for row in report.rows)) - 1
        grid.add_row(TITLES[name], metric(name, value), shown(best.label), f"{equal} more" if equal else "")
    return grid


def channels_table(row: ErrorRow, axis: int) -> Grid | None:
    """Return the worst channels of a choice by SQNR, or None where the report has no channels."""
    if row.channels is None:
        return None
    errors = row.channels
    sqnr = np.asarray(errors.sqnr)
    worst = np.argsort(sqnr, kind="stable")[:WORST]
    shape = f"{len(worst)} of {sqnr.size}" if sqnr.size > len(worst) else str(sqnr.size)
    grid = table(f"Worst channels along axis {axis} by SQNR, {shape}: {shown(row.label)}")
    for name in ("channel", "samples", "least", "greatest", "SQNR dB", "MSE", "MAE", "max |e|", "bias", "clipped"):
        grid.add_column(name, right=True)
    for c in worst.tolist():
        grid.add_row(
            str(c), integer(int(errors.count[c])), *(f"{v[c]:.6g}" for v in (errors.low, errors.high)),
            decibel(sqnr[c]), *(f"{v[c]:.4g}" for v in (errors.mse, errors.mae, errors.max_abs, errors.bias)),
            percent(errors.clip_rate[c]),
        )  # fmt: skip
    return grid


def parts(report: ErrorReport) -> list[RenderableType]:
    """Return the table of choices, what is best under each metric, and the worst channels of the best choice."""
    size = int(np.prod(report.shape, dtype=object))
    shape = "x".join(map(str, report.shape)) or "scalar"
    text = f"{integer(size)} sample{'s' * (size != 1)} ({shape})"
    if report.nonfinite:
        text += f", {integer(report.nonfinite)} NaN or infinite ones left out"
    drawn: list[RenderableType] = [Text(text), rows_table(report.rows)]
    if len(report.rows) > 1:
        drawn.append(best_table(report))
    if report.axis is not None:
        channels = channels_table(report.best(), report.axis)
        assert channels is not None
        drawn.append(channels)
    return drawn


def lines_table(title: str, lines: Iterable[Line]) -> Grid:
    """Return lines of (what, value, formula) as a table."""
    grid = table(title)
    grid.add_column("")
    grid.add_column("value")
    grid.add_column("how", wrap=True)
    for line in lines:
        grid.add_row(*map(shown, line))
    return grid


def detail_parts(row: ErrorRow) -> list[RenderableType]:
    """Return everything about one choice: settings, parameters and metrics, with their formulas filled in."""
    return [
        lines_table("Settings", setting_lines(row)),
        lines_table("Parameters", parameter_lines(row)),
        lines_table("Error", metric_lines(row)),
        lines_table("The same error as other tools print it", variant_lines(row)),
    ]
