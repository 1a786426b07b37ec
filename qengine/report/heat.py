"""The picture of an exact comparison: every two schemes, and divergence against the right shift."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import optional
from .style import BLACK, SERIES, label, message, new_figure, picture, whole_ticks

if TYPE_CHECKING:
    from ..exact.comparison import SchemeComparison
    from ..exact.couple import Couple

#: Schemes up to which every cell bears its share; the least share that has a colour of its own.
WRITTEN, LEAST = 14, 1e-8


def divergence_picture(result: SchemeComparison, kind: str) -> bytes:
    """Return the heat map of all pairs and the shares against the right shift as a ``png`` or ``svg`` file."""
    return picture(lambda: divergence_figure(result), kind)


def divergence_figure(result: SchemeComparison) -> Any:
    """Draw the heat map of all pairs over the shares against the right shift."""
    count = len(result.schemes)
    side = min(5.6, 1.2 + 0.36 * count)
    height = 0.95 + side + 0.75 + 3.6
    figure = new_figure(height)
    width = figure.get_figwidth()
    figure.text(0.03, 1 - 0.12 / height, _title(result), fontsize=11, va="top", fontweight="bold")
    figure.text(0.03, 1 - 0.36 / height, _subtitle(result), fontsize=8, va="top")
    left = 0.45 + 0.065 * max(map(len, result.schemes))
    bottom = 1 - (0.95 + side) / height
    axes = figure.add_axes((left / width, bottom, side / width, side / height))
    bar = figure.add_axes((left / width + side / width + 0.03, bottom, 0.018, side / height))
    _heat(axes, bar, result)
    _against_shift(figure.add_axes((0.105, 0.5 / height, 0.865, 3.0 / height)), result)
    return figure


def _title(result: SchemeComparison) -> str:
    described = result.describe()["multipliers"]
    if result.channels > 1:
        return label(f"{result.channels:,} channels of {described.get('name', 'multipliers')}", 80)
    if "value" in described:
        return f"multiplier {described['value']}, shift {described['shift']}".replace("-", "\u2212")
    return f"multiplier {float(result.reals[0]):.10g}"


def _subtitle(result: SchemeComparison) -> str:
    described = result.describe()
    output, acc = described["output"], described["accumulators"]
    kind = "raw int32" if output["dtype"] == "raw" else f"{output['dtype']} [{output['qmin']}, {output['qmax']}]"
    return f"exact counts over accumulators {acc['low']:,} to {acc['high']:,}, outputs {kind}".replace("-", "\u2212")


def _whole(result: SchemeComparison) -> str:
    """Say what the shares are shares of."""
    if result.weights is not None:
        return "the weight"
    return "the accumulators whose output is not clamped" if result.sides[0].clamped else "all accumulators"


def percentage(value: float) -> str:
    """Write a share in a few characters: ``0``, ``12 %``, ``0.39 %``, ``2.1e-6``."""
    if value == 0:
        return "0"
    if value >= 9.95e-6:
        return f"{100 * value:.2g} %" if value < 0.0995 else f"{100 * value:.0f} %"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e\u2212{-int(exponent)}"


def _heat(axes: Any, bar: Any, result: SchemeComparison) -> None:
    """Colour the share of every two schemes, on a logarithmic scale; white agrees everywhere."""
    count, names = len(result.schemes), result.schemes
    shares = np.full((count, count), np.nan)
    for p, (i, j) in enumerate(result.pairs):
        shares[i, j] = shares[j, i] = result.share(p)
    positive = shares[np.isfinite(shares) & (shares > 0)]
    low = max(LEAST, 10.0 ** math.floor(math.log10(positive.min()))) if positive.size else LEAST
    colors = optional("matplotlib.colors")
    scale = colors.LogNorm(min(low, 0.1), 1.0)
    shades = optional("matplotlib").colormaps["viridis_r"].with_extremes(under="white", bad="#E8E8E8")
    image = axes.imshow(np.where(shares == 0, low / 100, shares), cmap=shades, norm=scale)
    axes.set_title(f"Divergent share of {_whole(result)}")
    numbers = [str(k + 1) for k in range(count)]
    axes.set_xticks(range(count), numbers)
    axes.set_yticks(range(count), [f"{name}  {number}" for name, number in zip(names, numbers, strict=True)])
    axes.xaxis.tick_bottom()
    axes.grid(False)
    axes.tick_params(length=0)
    size = max(5.0, min(7.0, 42.0 / count))
    for i in range(count):
        for j in range(count):
            if i == j or (count > WRITTEN and shares[i, j] != 0):
                continue
            dark = shares[i, j] > math.sqrt(scale.vmin * scale.vmax)
            text = "\u2013" if math.isnan(shares[i, j]) else percentage(shares[i, j])
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else BLACK)
    ticks = axes.figure.colorbar(image, cax=bar)
    ticks.outline.set_visible(False)
    powers = range(round(math.log10(scale.vmin)), 1)
    ticks.set_ticks([10.0**k for k in powers], labels=[percentage(10.0**k) for k in powers])
    ticks.minorticks_off()


def leading(result: SchemeComparison) -> list[Couple]:
    """Return the couples that are drawn: the first scheme with each other, as many as there are line styles."""
    return [result.couples[result.schemes[0], name] for name in result.schemes[1 : len(SERIES) + 1]]


def _against_shift(axes: Any, result: SchemeComparison) -> None:
    from ..exact.divergence import across_shifts

    shown, what = result, "of the channels"
    if np.unique(result.right_shift).size < 2:
        varied = across_shifts(result)
        if varied is None:
            message(axes, "divergence against the right shift needs two schemes of floor form, or a clamped output")
            return
        shown, what = varied, "of the same mantissa"
    axes.set_title(f"Divergent share against the right shift {what}")
    drawn = np.unique(shown.right_shift)
    for couple, (colour, marker, line) in zip(leading(shown), SERIES, strict=False):
        points = []
        for n in drawn.tolist():
            value = shown.share(couple.pair, shown.right_shift == n)
            if value > 0:
                points.append((n, value))
        name = f"{couple.schemes[0]} / {couple.schemes[1]}" + ("" if points else ": never")
        axes.plot(
            [p[0] for p in points], [p[1] for p in points], color=colour, marker=marker, linestyle=line, markersize=4,
            markerfacecolor="none", label=name,
        )  # fmt: skip
    first, last = max(0, int(drawn[0])), max(1, int(drawn[-1]))
    law = np.arange(first, last + 1)
    axes.plot(law, 2.0 ** -(law + 1), color=BLACK, linestyle=(0, (1, 1)), linewidth=1.6, label="law 2^\u2212(n+1)")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Room above for the legend: a row takes about a sixteenth of the height.
    rows = -(-(len(leading(shown)) + 1) // 3)
    low, high = max(low, 1e-11), min(max(high, 0.6), 1.5)
    axes.set_ylim(low, high * (high / low) ** (rows / (16 - rows)))
    axes.set_xlabel("right shift n of the multiplier")
    axes.set_ylabel("divergent share")
    axes.yaxis.set_major_formatter(
        optional("matplotlib.ticker").FuncFormatter(lambda value, _: percentage(value) if value <= 1 else "")
    )
    axes.yaxis.set_minor_locator(optional("matplotlib.ticker").NullLocator())
    whole_ticks(axes.xaxis)
    axes.legend(loc="upper right", ncols=3, borderaxespad=0.1)
