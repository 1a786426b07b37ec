"""The pictures of an audit for print: divergent states, largest differences, errors of multipliers, by operator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .audit_data import STEPS, Bar, Spread, bars, power, spreads
from .files import optional
from .style import BLUE, GREEN, GREY, ORANGE, RED, label, new_figure

if TYPE_CHECKING:
    from ..models.audit_result import AuditResult

#: Panels in one figure: two figures fill a page.
PANELS = 3


def _colour(largest: int) -> str:
    return (BLUE, ORANGE, RED)[sum(largest > step for step in STEPS)]


def _operator_axis(axes: Any, items: list[Bar] | list[Spread], named: bool) -> None:
    """Write operators' numbers along the x axis."""
    count = len(items)
    every = max(1, math.ceil(count / 34))
    places = list(range(0, count, every))
    axes.set_xticks(places, [str(items[k].first) for k in places] if named else [""] * len(places))
    axes.set_xlim(-0.8, max(count, 12) - 0.2)
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=2)
    if named:
        axes.set_xlabel("operator (its number in the model)")


def _panel(axes: Any, title: str, items: list[Bar], top: float) -> None:
    axes.set_title(label(title, 100))
    differing = [k for k, item in enumerate(items) if item.divergent]
    heights = [items[k].divergent or 0 for k in differing]
    axes.bar(
        differing, np.array(heights, float) - 0.5, bottom=0.5, width=0.76,
        color=[_colour(items[k].largest or 0) for k in differing],
    )  # fmt: skip
    for kind, marker, colour in ((0, "o", GREEN), (None, "x", GREY)):
        at = [
            k for k, item in enumerate(items) if item.divergent == kind and (item.divergent is None) == (kind is None)
        ]
        axes.plot(
            at, np.full(len(at), 0.34), linestyle="none", marker=marker, color=colour, markersize=2.6, clip_on=False
        )
    axes.set_yscale("log")
    axes.set_ylim(0.2, top)
    exponents = range(0, round(math.log10(top)) + 1, 1 + (top > 1e5))
    axes.set_yticks([10.0**k for k in exponents], [power(k) for k in exponents])
    axes.minorticks_off()
    axes.axhline(0.5, color=GREY, linewidth=0.6)
    axes.set_ylabel("states")


def divergence_figures(result: AuditResult) -> list[Any]:
    """Draw the divergent states, `PANELS` pairs of sides a figure; inside `style`."""
    panels = list(bars(result).items())
    most = max((item.divergent or 0 for _, items in panels for item in items), default=0)
    top = 10.0 ** max(1, math.ceil(math.log10(max(most, 2))))
    figures = []
    for start in range(0, len(panels), PANELS):
        part = panels[start : start + PANELS]
        height = 0.95 + 1.5 * len(part)
        figure = new_figure(height)
        _heading(
            figure, height, "Divergent states by operator",
            "attainable states on which the codes differ; orange: by 2 or 3, red: by more; dot: proven equal; "
            "cross: not covered",
        )  # fmt: skip
        grid = figure.subplots(len(part), 1, squeeze=False)[:, 0]
        figure.subplots_adjust(
            left=0.085, right=0.985, top=1 - 0.72 / height, bottom=0.42 / height, hspace=0.42
        )  # fmt: skip
        for k, (axes, (title, items)) in enumerate(zip(grid, part, strict=True)):
            _panel(axes, title, items, top)
            _operator_axis(axes, items, k == len(part) - 1)
        figures.append(figure)
    return figures


def _heading(figure: Any, height: float, title: str, words: str) -> None:
    figure.text(0.0, 1 - 0.08 / height, title, fontsize=11, va="top", fontweight="bold")
    figure.text(0.0, 1 - 0.29 / height, words, fontsize=7.5, va="top", color="#444444")


def largest_figure(result: AuditResult) -> Any:
    """Draw the largest differences: a row a pair of sides, a cell an operator; inside `style`."""
    panels = bars(result)
    count = max(len(items) for items in panels.values())
    height = 1.0 + 0.42 * len(panels)
    figure = new_figure(height)
    _heading(figure, height, "Largest difference by operator", "in codes; pale: proven equal; hatched: not covered")
    axes = figure.add_axes((0.005, 0.38 / height, 0.97, (height - 0.38 - 0.55) / height))
    patches = optional("matplotlib.patches")
    for row, (title, items) in enumerate(panels.items()):
        axes.text(-0.4, row - 0.33, label(title, 100), fontsize=7, va="bottom")
        for k, item in enumerate(items):
            cell: dict[str, Any] = {"facecolor": "#E3F2EC", "edgecolor": "white", "linewidth": 0.4}
            if item.largest is None:
                cell = {"facecolor": "white", "edgecolor": "#AAAAAA", "linewidth": 0.4, "hatch": "/////"}
            elif item.largest:
                cell["facecolor"] = _colour(item.largest)
            axes.add_patch(patches.Rectangle((k - 0.45, row - 0.28), 0.9, 0.5, **cell))
            if item.largest and count <= 90:
                axes.text(k, row - 0.03, str(item.largest), fontsize=5.5, color="white", ha="center", va="center")
    _operator_axis(axes, next(iter(panels.values())), True)
    axes.set_ylim(len(panels) - 0.7, -0.72)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    return figure


def ppm_figure(result: AuditResult) -> Any:
    """Draw the errors of the multipliers; None where there is nothing to draw. Inside `style`."""
    sides = spreads(result)
    if not sides:
        return None
    values = [v for parts in sides.values() for p in parts for v in (p.least, p.greatest) if v]
    low = math.floor(math.log10(min(values))) if values else -6
    high = max(low + 1, math.ceil(math.log10(max(values)))) if values else 0
    low = max(low, high - 12)
    height = 0.95 + 1.75 * len(sides)
    figure = new_figure(height)
    _heading(
        figure, height, "Error of the multipliers by operator",
        "parts per million of input scale × weight scale / output scale, without sign: from the least to the greatest "
        "over the channels, dot: the median",
    )  # fmt: skip
    grid = figure.subplots(len(sides), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.085, right=0.985, top=1 - 0.72 / height, bottom=0.42 / height, hspace=0.4)
    floor = 10.0 ** (low - 1.2 * (high - low) / 8)
    for k, (axes, (title, parts)) in enumerate(zip(grid, sides.items(), strict=True)):
        axes.set_title(label(title, 100))
        shown = [(n, p) for n, p in enumerate(parts) if p.greatest is not None]
        at = [n for n, _ in shown]
        least, middle, greatest = (
            [max(value or 0.0, floor) for value in column]
            for column in zip(*((p.least, p.middle, p.greatest) for _, p in shown), strict=True)
        )
        axes.vlines(at, least, greatest, color=BLUE, linewidth=min(3.0, max(0.8, 150 / max(1, len(parts)))))
        axes.plot(at, middle, linestyle="none", marker="o", markersize=2.4, color=RED)
        axes.set_yscale("log")
        axes.set_ylim(floor / 3, 10.0**high * 1.5)
        ticks = list(range(low, high + 1, max(1, math.ceil((high - low) / 5))))
        axes.set_yticks([floor, *(10.0**n for n in ticks)], ["exact", *(power(n) for n in ticks)])
        axes.minorticks_off()
        axes.set_ylabel("ppm")
        _operator_axis(axes, parts, k == len(sides) - 1)
    return figure
