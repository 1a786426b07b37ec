"""Graphs of many: choices that were compared, and tensors of a file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..affine.error_report import ErrorReport, ErrorRow
from ..affine.formats import get_format
from ..affine.metrics import HIGHER_IS_BETTER
from .errors import TITLES, metric
from .style import BLUE, GREY, RED, SERIES, label, message, new_figure, padded, picture, plain_ticks
from .tensors import Measured, shape_text

#: Lines of a ranking; tensors of an overview.
RANKED, TENSORS = 25, 50
_LEADER = {"arrowstyle": "-", "color": RED, "linewidth": 0.4, "alpha": 0.5, "shrinkA": 0, "shrinkB": 3}


def format_bits(row: ErrorRow) -> float:
    """Return the bits that an element of a format takes, its share of the block's scale included."""
    form = get_format(row.spec.format or "")
    if form.block and row.spec.group is not None:
        form = get_format(form, block=row.spec.group)
    return form.bits_per_element


def _left_margin(labels: Sequence[str]) -> float:
    """Return the share of a figure's width that labels take at the left."""
    return min(0.55, 0.04 + 0.0078 * max(map(len, labels), default=0))


def _dots(axes: Any, labels: Sequence[str], values: Sequence[float], name: str, texts: Sequence[str]) -> None:
    """Draw one dot a line, best at the top; what is infinite lies at the edge, and its text says so."""
    y = np.arange(len(values))[::-1]
    finite = np.array([v for v in values if math.isfinite(v)])
    if finite.size and name not in ("sqnr", "psnr", "cosine", "bias") and finite.min() > 0:
        logarithmic = finite.max() / finite.min() > 50
    else:
        logarithmic = False
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        if logarithmic:
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
            axes.set_xlim(low / 1.5, high * 6)
        else:
            start, stop = padded(low, high, 0.06, 1.0)
            axes.set_xlim(start, stop + 0.18 * (stop - start))
    else:
        axes.set_xlim(0, 1)
        axes.set_xticks([])
    edge = axes.get_xlim()
    for k, value in enumerate(values):
        inside = math.isfinite(value)
        x = value if inside else edge[1 if value > 0 else 0]
        axes.plot([x], [y[k]], marker="o" if inside else ">", color=BLUE, markersize=4, clip_on=False)
        right = not inside and value > 0
        axes.annotate(
            texts[k], (x, y[k]), xytext=(-6 if right else 6, 0), textcoords="offset points", va="center", fontsize=6.5,
            ha="right" if right else "left", color="#333333",
        )  # fmt: skip
    axes.set_yticks(y, labels)
    axes.set_ylim(-0.7, len(values) - 0.3)
    axes.tick_params(axis="y", length=0)


def _row_label(row: ErrorRow) -> str:
    return label(row.label, 58)


def comparison_picture(item: Measured, rank: str, kind: str) -> bytes:
    """Return the ranking and SQNR against bits of the choices of a tensor as a ``png`` or ``svg`` file."""
    return picture(lambda: comparison_figure(item, rank), kind)


def comparison_figure(item: Measured, rank: str) -> Any:
    """Draw the ranking and SQNR against bits."""
    rows = item.report.ranked(rank)
    shown = rows[:RANKED]
    ranking = 0.9 + 0.19 * len(shown)
    height = ranking + 5.2
    figure = new_figure(height)
    source = item.source
    figure.text(
        0.03, 1 - 0.12 / height, f"{label(source.name, 60)}, shape {shape_text(source.shape)}, {source.dtype}",
        fontsize=11, va="top", fontweight="bold",
    )  # fmt: skip
    labels = [_row_label(row) for row in shown]
    left = _left_margin(labels)
    top = 1 - 0.75 / height
    axes = figure.add_axes((left, top - (ranking - 0.5) / height, 0.97 - left, (ranking - 0.5) / height))
    best = "highest" if HIGHER_IS_BETTER[rank] else "smallest"
    more = f", the best {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
    axes.set_title(f"Choices by {TITLES[rank]} ({best} first{more})")
    values = [float(getattr(row, rank)) for row in shown]
    _dots(axes, labels, values, rank, [metric(rank, value) for value in values])
    axes.set_xlabel(unit(rank))
    _against_bits(figure.add_axes((0.09, 0.5 / height, 0.88, 3.6 / height)), item.report)
    return figure


def unit(name: str) -> str:
    """Return the title of an axis of that metric."""
    units = {
        "mse": "MSE (units of x, squared)", "sqnr": "SQNR (dB)", "psnr": "PSNR (dB)", "cosine": "cosine (1 is best)",
        "clip_rate": "clipped (share of samples)",
    }  # fmt: skip
    return units.get(name, f"{TITLES[name]} (units of x)")


def series(report: ErrorReport) -> dict[str, list[tuple[float, float]]]:
    """Return (bits, SQNR) of the choices that differ in nothing but bits, best first."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        if row.spec.format is None and row.spec.params is None:
            plain = dataclasses.replace(row.spec, bits=8, name=None).label
            words = plain.split(" ", 1)
            name = ("unsigned " if words[0].startswith("u") else "") + (words[1] if len(words) > 1 else "")
            lines.setdefault(name, []).append((row.spec.bits, row.sqnr))
    return dict(sorted(lines.items(), key=lambda pair: -max(sqnr for _, sqnr in pair[1])))


def _against_bits(axes: Any, report: ErrorReport) -> None:
    lines = series(report)
    shown = list(lines.items())[: len(SERIES)]
    more = f", the best {len(shown)} of {len(lines)} kinds of integers" if len(lines) > len(shown) else ""
    axes.set_title(f"SQNR against bits an element{more}")
    drawn = False
    for (name, measured), (colour, marker, line) in zip(shown, SERIES, strict=False):
        finite = sorted((bits, sqnr) for bits, sqnr in measured if math.isfinite(sqnr))
        if finite:
            axes.plot(
                [p[0] for p in finite],
                [p[1] for p in finite],
                color=colour,
                marker=marker,
                linestyle=line,
                markersize=4,
                label=label(name, 60),
            )
            drawn = True
    formats = [row for row in report.rows if row.spec.format is not None and math.isfinite(row.sqnr)]
    best: dict[str, ErrorRow] = {}
    for row in formats:
        key = f"{row.spec.format} {format_bits(row)}"
        if key not in best or row.sqnr > best[key].sqnr:
            best[key] = row
    points = sorted((format_bits(row), row.sqnr, row.spec.format or "") for row in best.values())
    if points:
        axes.plot(
            [p[0] for p in points], [p[1] for p in points], linestyle="none", marker="d", markersize=6, color=RED,
            markerfacecolor="none", label="formats (best of each)",
        )  # fmt: skip
        drawn = True
    if not drawn:
        message(axes, "no error: SQNR is infinite for every choice")
        return
    axes.set_xlabel("bits an element (formats: with their block's scale)")
    axes.set_ylabel("SQNR (dB)")
    axes.margins(y=0.08)
    low, high = (edge(axes.dataLim.intervalx) for edge in (np.min, np.max))
    low, high = math.floor(low) - 0.5, math.ceil(high) + 0.75
    axes.set_xlim(low, high)
    axes.set_xticks(range(math.ceil(low), math.floor(high) + 1))
    _name_formats(axes, points)
    axes.legend(loc="upper left", borderaxespad=0.1)


def _name_formats(axes: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Write the names of formats beside their points, those of about the same width under one another."""
    low, high = axes.get_ylim()
    apart = 0.036 * (high - low)
    for width in sorted({round(p[0]) for p in points}):
        column = sorted((p for p in points if round(p[0]) == width), key=lambda p: -p[1])
        x = max(p[0] for p in column) + 0.12
        ceiling = math.inf
        for bits, sqnr, name in column:
            y = ceiling = min(sqnr, ceiling - apart)
            axes.annotate(
                name, (bits, sqnr), xytext=(x, y), fontsize=6, va="center", ha="left", color=RED,
                arrowprops=_LEADER, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4},
            )  # fmt: skip


def tensors_picture(measured: Sequence[Measured], kind: str) -> bytes:
    """Return the SQNR of many tensors as a ``png`` or ``svg`` file."""
    return picture(lambda: tensors_figure(measured), kind)


def tensors_figure(measured: Sequence[Measured]) -> Any:
    """Draw the SQNR of each tensor under its first choice, worst first."""
    shown = measured[:TENSORS]
    height = 1.5 + 0.19 * len(shown)
    figure = new_figure(height)
    labels = [f"{label(item.source.name, 46)} {shape_text(item.source.shape)}" for item in shown]
    values = [float(item.report.rows[0].sqnr) for item in shown]
    left = _left_margin(labels)
    axes = figure.add_axes((left, 0.55 / height, 0.97 - left, (height - 1.15) / height))
    choices = {item.report.rows[0].label for item in measured}
    of = label(next(iter(choices)), 50) if len(choices) == 1 else "the best choice of each"
    more = f", the worst {len(shown)} of {len(measured)}" if len(measured) > len(shown) else ""
    figure.text(0.03, 1 - 0.12 / height, f"SQNR of {len(measured)} tensors, worst first{more}", fontsize=11, va="top")
    axes.set_title(of)
    _dots(axes, labels, values, "sqnr", [metric("sqnr", value) for value in values])
    axes.set_xlabel("SQNR (dB)")
    axes.grid(axis="y", color=GREY, alpha=0.2)
    return figure
