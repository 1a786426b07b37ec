"""The graphs of one tensor under one choice: samples, errors, staircase, histograms, and the effect of bits."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import ERROR_LINEAR, ERROR_SIDE

from ..affine.combinations import bits_curve
from ..affine.error_report import ErrorRow
from ..affine.formats import get_format
from ..affine.spec import QuantSpec
from ..arguments import Progress
from .charts import format_bits
from .errors import percent
from .samples import Samples, Tracer
from .style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    counted_ticks,
    label,
    message,
    new_figure,
    padded,
    picture,
    plain_ticks,
    symmetric_log,
    whole_ticks,
)
from .tensors import Measured, load, shape_text

#: Samples that graphs show one by one; points of a staircase; steps beyond which an inset shows a few of them.
SHOWN, CURVE, MANY_STEPS = 200, 4000, 48
F64 = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class TensorGraphs:
    """What the graphs show.

    Attributes
    ----------
    title, subtitle : str
    row : ErrorRow
    samples : Samples
        Up to `SHOWN`.
    total : int
        Samples of the tensor.
    tracer : Tracer
    curve : list of (bits, SQNR)
        Of integers with the same settings.
    curve_title : str
    """

    title: str
    subtitle: str
    row: ErrorRow
    samples: Samples
    total: int
    tracer: Tracer
    curve: list[tuple[int, float]]
    curve_title: str

    @classmethod
    def of(cls, item: Measured, row: ErrorRow, nonfinite: str, progress: Progress | None = None) -> TensorGraphs:
        """Gather what is shown of a measured tensor under one of its rows; `progress` as in `qengine.error_report`."""
        tensor = load(item.source)
        tracer = Tracer(tensor, row)
        base = row.spec
        note = "the same settings"
        if row.spec.format is not None:
            base = QuantSpec(axis=row.spec.axis, group=row.spec.group)
            note = "symmetric integers"
        elif row.spec.params is not None:
            note = ""
        curve = bits_curve(tensor, base, nonfinite=nonfinite, progress=progress) if note else []
        shape = shape_text(item.source.shape)
        return cls(
            f"{label(item.source.name, 60)}, shape {shape}, {item.source.dtype}",
            f"{label(row.label)}: SQNR {row.sqnr:.2f} dB, RMSE {row.rmse:.4g}, max |e| {row.max_abs:.4g}, "
            f"clipped {percent(row.clip_rate)}",
            row, tracer.samples(SHOWN), item.source.size, tracer, curve, note,
        )  # fmt: skip

    @property
    def which(self) -> str:
        """Words that say which samples are shown."""
        n = self.samples.index.size
        if n == self.total == 1:
            return "the only sample"
        if n < min(self.total, SHOWN):
            return f"{n:,} finite samples shown"
        return f"all {n:,} samples" if n == self.total else f"{n:,} of {self.total:,} samples, evenly spaced"


def tensor_picture(item: Measured, nonfinite: str, kind: str, progress: Progress | None = None) -> bytes:
    """Return the graphs of a tensor under its first choice as a ``png`` or ``svg`` file."""
    graphs = TensorGraphs.of(item, item.report.rows[0], nonfinite, progress)
    return picture(lambda: tensor_figure(graphs), kind)


def tensor_figure(graphs: TensorGraphs) -> Any:
    """Draw the six graphs."""
    figure = new_figure(10.4)
    figure.text(0.07, 0.982, graphs.title, fontsize=11, va="top", fontweight="bold")
    figure.text(0.07, 0.962, graphs.subtitle, fontsize=8, va="top")
    panels = figure.subplots(3, 2)
    figure.subplots_adjust(left=0.09, right=0.975, top=0.90, bottom=0.05, hspace=0.38, wspace=0.24)
    for axes, draw in zip(
        panels.reshape(-1), (_values, _errors, _staircase, _histogram, _codes, _bits), strict=True
    ):  # fmt: skip
        draw(axes, graphs)
    return figure


def _index_axis(axes: Any, graphs: TensorGraphs) -> None:
    index = graphs.samples.index
    axes.set_xlabel("sample (flat index)")
    if index.size:
        axes.set_xlim(*padded(float(index[0]), float(index[-1]), 0.03))
    counted_ticks(axes.xaxis)


def _values(axes: Any, graphs: TensorGraphs) -> None:
    s = graphs.samples
    axes.set_title(f"Original and reconstructed\n({graphs.which})")
    many = s.index.size > 60
    axes.plot(
        s.index, s.x, linestyle="none", marker="o", markersize=3.5 if many else 6, markerfacecolor="none",
        markeredgecolor=BLUE, markeredgewidth=0.8, label="original x",
    )  # fmt: skip
    axes.plot(
        s.index, s.value, linestyle="none", marker="x", markersize=2.5 if many else 4, color=RED, markeredgewidth=0.8,
        label="reconstructed",
    )  # fmt: skip
    axes.set_ylabel("value (units of x)")
    _index_axis(axes, graphs)
    if s.index.size:
        both = np.concatenate([s.x, s.value[np.isfinite(s.value)]])
        low, high = padded(float(both.min()), float(both.max()))
        axes.set_ylim(low, high + 0.14 * (high - low))
    axes.legend(loc="upper left", ncols=2, borderaxespad=0.1, handletextpad=0.2, columnspacing=1.0)


def _errors(axes: Any, graphs: TensorGraphs) -> None:
    s, row = graphs.samples, graphs.row
    axes.set_title(f"Error of each sample, e = x \u2212 reconstructed\n({graphs.which})")
    inside = ~s.clipped
    for chosen, colour, marker, name in ((inside, BLUE, "o", "inside the range"), (s.clipped, RED, "v", "clipped")):
        if chosen.any():
            axes.vlines(s.index[chosen], 0, s.error[chosen], color=colour, linewidth=0.6)
            axes.plot(
                s.index[chosen], s.error[chosen], linestyle="none", marker=marker, color=colour,
                markersize=2 if s.index.size > 60 else 4, label=name,
            )  # fmt: skip
    axes.axhline(0, color=BLACK, linewidth=0.6)
    largest = float(np.abs(s.error[np.isfinite(s.error)]).max(initial=0.0))
    half = half_step(graphs)
    if half is not None:
        for sign in (-1, 1):
            axes.axhline(
                sign * half, color=GREY, linewidth=0.8, linestyle="--", label="\u00b1 half a step" if sign > 0 else None
            )
        largest = max(largest, half)
    top = 1.1 * largest or row.step
    axes.set_ylim(-top, 1.3 * top)
    axes.set_ylabel("error (units of x)")
    _index_axis(axes, graphs)
    axes.legend(loc="upper left", ncols=3, borderaxespad=0.1, handletextpad=0.3, columnspacing=1.0)


def half_step(graphs: TensorGraphs) -> float | None:
    """Return half a step, where one step holds for all samples and errors are of its size."""
    row = graphs.row
    if row.params is None or row.params.axis is not None:
        return None
    return 0.5 * row.step


def _staircase(axes: Any, graphs: TensorGraphs) -> None:
    s, tracer = graphs.samples, graphs.tracer
    segment = tracer.commonest(s.index)
    here = tracer.segment_of(s.index) == segment
    one_of = tracer.segments > 1
    what = f"scale {segment} of {tracer.segments:,}; " if one_of else ""
    count = int(here.sum())
    axes.set_title(f"Transfer staircase\n({what}{count:,} sample{'s' * (count != 1)} on it)")
    x, value = s.x[here], s.value[here]
    low, high = reach(graphs, segment, x)
    xs = np.linspace(low, high, CURVE)
    _draw_steps(axes, tracer, segment, xs)
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.7, linestyle=":", label="x = reconstructed")
    axes.plot(
        x, value, linestyle="none", marker="o", markersize=3 if count > 60 else 4.5, markerfacecolor="none",
        markeredgecolor=RED, markeredgewidth=0.9, label="samples",
    )  # fmt: skip
    axes.set_xlim(low, high)
    axes.set_xlabel("x")
    axes.set_ylabel("reconstructed (units of x)")
    axes.legend(loc="upper left", borderaxespad=0.1, handletextpad=0.4)
    steps = (high - low) / graphs.row.step
    if steps > MANY_STEPS and not tracer.is_format:
        _inset(axes, graphs, segment)


def reach(graphs: TensorGraphs, segment: int, x: F64) -> tuple[float, float]:
    """Return what part of the staircase is shown: the samples, and the ends of the range where they are near."""
    p, scale = graphs.row.params, graphs.tracer.scale(segment)
    low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
    if p is not None:
        ends = (p.qmin - scale[1]) * scale[0], (p.qmax - scale[1]) * scale[0]
    else:
        largest = get_format(graphs.row.spec.format or "").element.largest * scale[0]
        ends = -largest, largest
    width = high - low if high - low > 2 * scale[0] else math.inf
    near = [end for end in ends if math.isfinite(end) and low - 2 * width <= end <= high + 2 * width]
    low, high = min([low, *near]), max([high, *near])
    return padded(low, high, 0.06, max(scale[0], 1e-300))


def _draw_steps(axes: Any, tracer: Tracer, segment: int, xs: F64) -> None:
    if tracer.is_stochastic:
        step = tracer.scale(segment)[0]
        axes.fill_between(xs, xs - step, xs + step, color=GREEN, alpha=0.25, linewidth=0, label="either neighbour")
        return
    _, _, _, value, _ = tracer.evaluate(xs, segment)
    axes.plot(xs, value, color=GREEN, linewidth=1.0, label="Q(x)")


def few_steps(graphs: TensorGraphs, segment: int) -> F64:
    """Return reals that span 11 steps of the staircase, around the middle one of the samples shown."""
    samples, tracer, p = graphs.samples, graphs.tracer, graphs.row.params
    assert p is not None
    x = np.sort(samples.x[tracer.segment_of(samples.index) == segment])
    scale, zero = tracer.scale(segment)
    middle = float(x[x.size // 2]) if x.size else 0.0
    code = min(max(round(middle / scale + zero), p.qmin + 3), p.qmax - 3)
    center = (code - zero) * scale
    return np.linspace(center - 5.5 * scale, center + 5.5 * scale, 2000)


def _inset(axes: Any, graphs: TensorGraphs, segment: int) -> None:
    """Show a few steps, around the middle sample, where all of them would be a line."""
    s, tracer = graphs.samples, graphs.tracer
    here = tracer.segment_of(s.index) == segment
    xs = few_steps(graphs, segment)
    small = axes.inset_axes((0.56, 0.10, 0.42, 0.40))
    _draw_steps(small, tracer, segment, xs)
    small.plot(xs[[0, -1]], xs[[0, -1]], color=GREY, linewidth=0.7, linestyle=":")
    inside = here & (s.x >= xs[0]) & (s.x <= xs[-1])
    small.plot(
        s.x[inside], s.value[inside], linestyle="none", marker="o", markersize=4, markerfacecolor="none",
        markeredgecolor=RED, markeredgewidth=0.9,
    )  # fmt: skip
    small.set_xlim(xs[0], xs[-1])
    small.set_title("11 steps of it", fontsize=7, pad=2)
    small.tick_params(labelsize=5.5, length=2, pad=1)
    small.locator_params(nbins=3)
    small.set_facecolor("#FAFAFA")


def error_bars(row: ErrorRow) -> tuple[F64, F64]:
    """Return (edges, counts) of the error histogram with few bins, from the finest that the report has.

    Linear up to one step on either side of 0, wider beyond.
    """
    assert row.error_counts is not None
    edges, counts = row.error_edges, row.error_counts
    n = int(counts.sum())
    merge = 8 if n >= 5000 else 16 if n >= 500 else 32
    middle = ERROR_SIDE
    fine = counts[middle - ERROR_LINEAR : middle + ERROR_LINEAR].reshape(-1, merge).sum(axis=1)
    places = edges[middle - ERROR_LINEAR : middle + ERROR_LINEAR + 1 : merge]
    low, high = counts[: middle - ERROR_LINEAR], counts[middle + ERROR_LINEAR :]
    used = np.flatnonzero(fine)
    if not low.any() and not high.any():
        reach = max(len(fine) // 4, int(np.abs(used - (len(fine) - 1) / 2).max(initial=0.0)) + 1)
        part = slice(len(fine) // 2 - reach, len(fine) // 2 + reach)
        start, stop, _ = part.indices(len(fine))
        return np.asarray(places[start : stop + 1]), np.asarray(fine[start:stop], np.float64)
    lowest = int(np.flatnonzero(low)[0]) if low.any() else low.size
    highest = int(np.flatnonzero(high)[-1]) + 1 if high.any() else 0
    left, right = edges[lowest : middle - ERROR_LINEAR], edges[middle + ERROR_LINEAR + 1 :][:highest]
    right = np.where(np.isinf(right), 2 * edges[-2], right)
    left = np.where(np.isinf(left), 2 * edges[1], left)
    return np.concatenate([left, places, right]), np.concatenate([low[lowest:], fine, high[:highest]]).astype(float)


def _histogram(axes: Any, graphs: TensorGraphs) -> None:
    row = graphs.row
    total = row.count
    axes.set_title(f"Error histogram\n(all {total:,} finite samples)" if total > 1 else "Error histogram\n(1 sample)")
    edges, counts = error_bars(row)
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.75)
    step = row.step
    axes.set_xlabel("error e (units of x)")
    axes.set_ylabel("samples (count)")
    if edges[-1] > 1.5 * step or edges[0] < -1.5 * step:
        axes.set_xscale("symlog", linthresh=step, linscale=1.5)
        symmetric_log(axes.xaxis, step, float(edges[0]), float(edges[-1]))
        axes.set_yscale("log")
        axes.set_ylim(0.5, None)
        plain_ticks(axes.yaxis)
        axes.set_xlabel("error e (units of x; logarithmic beyond \u00b1 one step)")
    else:
        axes.locator_params(axis="x", nbins=6)
        if total >= 1000 and counts.max() > total / 3:  # few bins hold nearly all
            axes.set_yscale("log")
            axes.set_ylim(0.5, None)
            plain_ticks(axes.yaxis)
        else:
            counted_ticks(axes.yaxis)
            axes.set_ylim(0, None)
    for sign in (-1, 1):
        axes.axvline(
            sign * row.rmse, color=RED, linewidth=0.9, linestyle="--", label="\u00b1 RMSE" if sign > 0 else None
        )
    axes.axvline(row.bias, color=ORANGE, linewidth=0.9, linestyle="-", label="bias (mean error)")
    axes.legend(loc="upper left", borderaxespad=0.1, ncols=2, handletextpad=0.4)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.12 if axes.get_yscale() == "log" else 1.14 * high)


def code_bars(row: ErrorRow) -> tuple[F64, npt.NDArray[np.int64], int]:
    """Return (edges, counts, codes a bar) of the histogram of codes: at most 512 bars."""
    assert row.code_counts is not None
    counts = row.code_counts
    first = 0 if row.params is None else row.params.qmin
    merge = max(1, counts.size // 256)
    bars = np.append(counts, np.zeros(-counts.size % merge, np.int64)).reshape(-1, merge).sum(axis=1, dtype=np.int64)
    return first - 0.5 + merge * np.arange(bars.size + 1, dtype=np.float64), bars, merge


def ideal_line(curve: list[tuple[int, float]], bits: int) -> list[tuple[int, float]]:
    """Return the line of 6.02 dB a bit through the point of a curve that is nearest to a width."""
    if not curve:
        return []
    anchor = min(curve, key=lambda point: abs(point[0] - bits))
    return [(b, anchor[1] + 20 * math.log10(2) * (b - anchor[0])) for b, _ in curve]


def _codes(axes: Any, graphs: TensorGraphs) -> None:
    row = graphs.row
    assert row.code_counts is not None
    counts, p = row.code_counts, row.params
    first = 0 if p is None else p.qmin
    edges, bars, merge = code_bars(row)
    each = f", {merge} codes a bar" if merge > 1 else ""
    axes.set_title(
        f"Codes\n({row.codes_used:,} of {counts.size:,} used, entropy {row.entropy:.2f} bits{each})"
    )  # fmt: skip
    axes.stairs(bars, edges, fill=True, color=BLUE, alpha=0.75)
    used = np.flatnonzero(bars)
    if used.size <= 40 < bars.size:  # single bars are too thin to see
        middle = first - 0.5 + merge * (used + 0.5)
        axes.vlines(middle, 0, bars[used], color=BLUE, linewidth=1.2)
        axes.plot(middle, bars[used], linestyle="none", marker="o", markersize=3, color=BLUE)
    axes.set_xlim(first - 0.5 - 0.01 * counts.size, first + counts.size - 0.5 + 0.01 * counts.size)
    axes.set_ylim(0, 1.08 * max(float(bars.max()), 1.0))
    counted_ticks(axes.yaxis)
    whole_ticks(axes.xaxis)
    axes.set_xlabel("code q" if p is not None else "code of the format (bit pattern)")
    axes.set_ylabel("samples (count)")


def _bits(axes: Any, graphs: TensorGraphs) -> None:
    row = graphs.row
    axes.set_title(f"SQNR against bits\n({graphs.curve_title or 'parameters given'})")
    finite = [(bits, sqnr) for bits, sqnr in graphs.curve if math.isfinite(sqnr)]
    exact = [bits for bits, sqnr in graphs.curve if sqnr == math.inf]
    if not finite:
        given = "parameters were given:\nthere is no other width"
        message(axes, "no error at any width:\nSQNR is infinite" if exact else given)
        return
    bits, sqnr = (np.array(column) for column in zip(*finite, strict=True))
    axes.plot(bits, sqnr, color=BLUE, marker="o", markersize=3.5, label="measured")
    axes.plot(
        *zip(*ideal_line(finite, row.spec.bits), strict=True), color=GREY, linewidth=0.8, linestyle=":",
        label="6.02 dB a bit",
    )  # fmt: skip
    here = graphs.row.spec.bits if row.spec.format is None else format_bits(row)
    name = "this choice" if row.spec.format is None else label(row.label, 30)
    if math.isfinite(row.sqnr):
        axes.plot(
            [here], [row.sqnr], linestyle="none", marker="s", markersize=8, markerfacecolor="none",
            markeredgecolor=RED, markeredgewidth=1.3, label=name,
        )  # fmt: skip
    shown = [*sqnr.tolist(), row.sqnr] if math.isfinite(row.sqnr) else sqnr.tolist()
    low, high = padded(min(shown), max(shown), 0.08, 10.0)
    slack = max(0.0, 10.0 - (high - low)) / 2  # a flat curve looks flat
    axes.set_ylim(low - slack, high + slack)
    axes.set_xlim(1.5, 16.5)
    axes.set_xticks(range(2, 17, 2))
    axes.set_xlabel("bits of a code" if row.spec.format is None else "bits of a code (format: with its block's scale)")
    axes.set_ylabel("SQNR (dB)")
    axes.legend(loc="upper left", borderaxespad=0.1)
    if exact:
        text = f"infinite at {', '.join(map(str, exact))} bits"
        axes.text(0.98, 0.04, text, transform=axes.transAxes, ha="right", fontsize=7)
