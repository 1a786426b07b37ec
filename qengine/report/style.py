"""How figures look, and how they become bytes: the same ones for the same input."""

from __future__ import annotations

import functools
import io
import logging
import math
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

from .escape import shortened, shown
from .files import optional

#: Colours that stay apart for colour-blind readers (Okabe and Ito), used with markers and line styles.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#7F7F7F",
)  # fmt: skip
SERIES = (
    (BLUE, "o", "-"), (RED, "s", "--"), (GREEN, "^", "-."), (ORANGE, "D", ":"), (PURPLE, "v", "-"), (SKY, "P", "--"),
    (BLACK, "X", "-."), (GREY, "*", ":"),
)  # fmt: skip
#: Width of a page's text in inches, and pixels an inch.
WIDTH, DPI = 8.0, 150
_SETTINGS = {
    "font.family": ["DejaVu Sans"], "font.size": 8.0, "axes.titlesize": 9.0, "axes.labelsize": 8.0,
    "legend.fontsize": 7.0, "xtick.labelsize": 7.0, "ytick.labelsize": 7.0, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#D9D9D9",
    "grid.linewidth": 0.5, "axes.axisbelow": True, "lines.linewidth": 1.2, "legend.frameon": True,
    "legend.framealpha": 0.9, "legend.edgecolor": "none", "legend.fancybox": False,
    "text.parse_math": False, "axes.unicode_minus": True, "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": False, "svg.hashsalt": "qengine", "savefig.dpi": DPI, "figure.dpi": DPI,
    "agg.path.chunksize": 20000,
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Draw with these settings and none of the user's; put the user's back afterwards."""
    matplotlib = optional("matplotlib")
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)  # that a cache of fonts is built is no news
    try:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_SETTINGS)
            yield
    finally:
        log.setLevel(level)


@functools.cache
def glyphs() -> Container[int]:
    """Return the code points that the figures' font has."""
    manager, ft2font = optional("matplotlib.font_manager"), optional("matplotlib.ft2font")
    with style():
        return frozenset(ft2font.FT2Font(manager.findfont("DejaVu Sans")).get_charmap())


def label(text: object, width: int = 90) -> str:
    """Return a text that a figure can show: escaped, and without its middle if it is long."""
    return shortened(shown(text, glyphs()), width)


def picture(draw: Callable[[], Any], kind: str) -> bytes:
    """Return the figure that `draw` returns as the bytes of a ``png`` or ``svg`` file."""
    with style():
        return rendered(draw(), kind)


def rendered(figure: Any, kind: str) -> bytes:
    """Return a figure's bytes, without dates and versions; inside `style`."""
    out = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


def new_figure(height: float, width: float = WIDTH) -> Any:
    """Return an empty figure; inside `style`."""
    return optional("matplotlib.figure").Figure(figsize=(width, height))


def message(axes: Any, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, wrap=True)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)


def whole_ticks(axis: Any) -> None:
    """Let the ticks of an axis be whole numbers."""
    ticker = optional("matplotlib.ticker")
    axis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


def plain_ticks(axis: Any) -> None:
    """Let the ticks of a logarithmic axis be plain numbers: text is never read as mathematics."""
    ticker = optional("matplotlib.ticker")
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\u2212")))
    axis.set_minor_formatter(ticker.NullFormatter())


def counted_ticks(axis: Any) -> None:
    """Let the ticks of an axis be few whole numbers with thousands separators."""
    ticker = optional("matplotlib.ticker")
    axis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))


def tick_text(value: float) -> str:
    """Write the number of a tick."""
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.6g}"
    return text.replace("-", "\u2212")


def stretched_ticks(step: float, low: float, high: float) -> list[float]:
    """Return ticks of a symmetric logarithmic axis: 0, one step to either side, and a few powers of ten beyond."""
    ticks = [-step, 0.0, step]
    for sign, reach in ((-1.0, -low), (1.0, high)):
        exponents = [k for k in range(math.floor(math.log10(step)) + 1, 309) if 20 * step < 10.0**k <= reach]
        ticks += [sign * 10.0**k for k in exponents[:: -max(1, -(-len(exponents) // 2))]]
    return sorted(ticks)


def symmetric_log(axis: Any, step: float, low: float, high: float) -> None:
    """Label a symmetric logarithmic axis."""
    axis.set_ticks(stretched_ticks(step, low, high))
    ticker = optional("matplotlib.ticker")
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: tick_text(value)))
    axis.set_minor_locator(ticker.NullLocator())


def padded(low: float, high: float, share: float = 0.05, least: float = 1.0) -> tuple[float, float]:
    """Return limits around a closed range, wide enough for an axis also where it is one point."""
    width = high - low
    if width <= 1e-12 * max(abs(low), abs(high)):
        width = max(abs(high), least if high == 0 else 0.0)
        return low - 0.5 * width, high + 0.5 * width
    return low - share * width, high + share * width
