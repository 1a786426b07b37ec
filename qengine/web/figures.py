"""The graphs of the page, as data for Plotly. What they show is worked out by `qengine.report`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..affine.error_report import ErrorReport, ErrorRow
from ..affine.metrics import HIGHER_IS_BETTER
from ..report.charts import format_bits, series, unit
from ..report.errors import TITLES, metric
from ..report.escape import shortened, shown
from ..report.figures import (
    CURVE,
    MANY_STEPS,
    TensorGraphs,
    code_bars,
    error_bars,
    few_steps,
    half_step,
    ideal_line,
    reach,
)
from ..report.steps import Steps
from ..report.style import stretched_ticks, tick_text
from .answers import Figure

#: Colours of lines that are compared; the page turns names into the colours of its theme.
LINES = ("@blue", "@red", "@green", "@orange", "@purple", "@sky", "@text", "@muted")
MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
DASHES = ("solid", "dash", "dashdot", "dot")
#: Axis of flat indices.
INDEX = {"tickformat": ",d"}
#: Choices of a ranking that are drawn.
RANKED = 20
#: Accumulators up to which each is a point.
POINTS = 160


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, **more}


def _layout(x: str, y: str, x_axis: dict[str, Any] | None = None, y_axis: dict[str, Any] | None = None) -> Any:
    return {"xaxis": _axis(x, **(x_axis or {})), "yaxis": _axis(y, **(y_axis or {}))}


def _counted(most: float) -> dict[str, Any]:
    """Return an axis of whole numbers."""
    return {"rangemode": "tozero", "tickformat": ",d"} | ({"dtick": 1} if most <= 8 else {})


def _numbers(values: Any) -> list[Any]:
    return [v if math.isfinite(v) else None for v in np.asarray(values, np.float64).tolist()]


def _marks(x: Any, y: Any, name: str, colour: str, symbol: str, size: float = 8) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": x, "y": y,
        "marker": {"color": colour, "symbol": symbol, "size": size, "line": {"color": colour, "width": 1.5}},
    }  # fmt: skip


def _size(samples: int) -> int:
    return 9 if samples <= 60 else 5


def _line(x: Any, y: Any, name: str, colour: str, dash: str = "solid", **more: Any) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y,
        "line": {"color": colour, "dash": dash, "width": 1.6}, **more,
    }  # fmt: skip


def of_tensor(graphs: TensorGraphs) -> list[Figure]:
    """Return the graphs of one tensor under one choice."""
    return [
        _values(graphs), _errors(graphs), *_staircases(graphs), _histogram(graphs), _bits(graphs), _codes(graphs),
    ]  # fmt: skip


def _values(graphs: TensorGraphs) -> Figure:
    s = graphs.samples
    size = _size(s.index.size)
    index = s.index.tolist()
    return Figure(
        id="values", title=f"Original and reconstructed ({graphs.which})",
        alt="The samples and what their codes stand for, by index.",
        data=[
            _marks(index, _numbers(s.x), "original", "@blue", "circle-open", size),
            _marks(index, _numbers(s.value), "reconstructed", "@red", "x-thin-open", size - 2),
        ],
        layout=_layout("sample (flat index)", "value (units of x)", INDEX),
    )  # fmt: skip


def _errors(graphs: TensorGraphs) -> Figure:
    s = graphs.samples
    data: list[dict[str, Any]] = []
    gap = int(np.diff(s.index).min()) if s.index.size > 1 else 1
    for chosen, colour, name in ((~s.clipped, "@blue", "inside the range"), (s.clipped, "@red", "clipped")):
        if chosen.any():
            data.append({
                "type": "bar", "name": name, "x": s.index[chosen].tolist(), "y": _numbers(s.error[chosen]),
                "marker": {"color": colour}, "width": 0.5 * gap,
            })  # fmt: skip
    half = half_step(graphs)
    if half is not None and s.index.size:
        ends = [int(s.index[0]), int(s.index[-1])]
        for k, level in enumerate((half, -half)):
            more = {"showlegend": k == 0, "hoverinfo": "skip"}
            data.append(_line(ends, [level, level], "± half a step", "@muted", "dash", **more))
    return Figure(
        id="errors", title="Error of each sample, x − reconstructed", data=data,
        alt="The error of each sample by index, clipped ones apart, between lines at half a step.",
        layout=_layout("sample (flat index)", "error (units of x)", INDEX) | {"barmode": "overlay"},
    )  # fmt: skip


def _staircases(graphs: TensorGraphs) -> list[Figure]:
    """Return the staircase, and where its steps are too many to see, a few of them close up."""
    s, tracer = graphs.samples, graphs.tracer
    segment = tracer.commonest(s.index)
    here = tracer.segment_of(s.index) == segment
    low, high = reach(graphs, segment, s.x[here])
    which = f" (scale {segment} of {tracer.segments:,})" if tracer.segments > 1 else ""
    found = [_staircase(graphs, segment, np.linspace(low, high, CURVE), f"Transfer staircase{which}")]
    if (high - low) / graphs.row.step > MANY_STEPS and not tracer.is_format:
        found.append(
            _staircase(graphs, segment, few_steps(graphs, segment), "Close up: 11 steps around the middle sample")
        )
    return found


def _staircase(graphs: TensorGraphs, segment: int, xs: npt.NDArray[np.float64], title: str) -> Figure:
    s, tracer = graphs.samples, graphs.tracer
    low, high = float(xs[0]), float(xs[-1])
    here = (tracer.segment_of(s.index) == segment) & (s.x >= low) & (s.x <= high)
    data: list[dict[str, Any]] = []
    if not tracer.is_stochastic:
        _, _, _, ys, _ = tracer.evaluate(xs, segment)
        turns = np.flatnonzero(np.diff(ys))
        kept = np.unique(np.concatenate([[0], turns, turns + 1, [xs.size - 1]]))
        data.append(_line(_numbers(xs[kept]), _numbers(ys[kept]), "Q(x)", "@green"))
    data.append(_line([low, high], [low, high], "x = reconstructed", "@muted", "dot", hoverinfo="skip"))
    data.append(
        _marks(_numbers(s.x[here]), _numbers(s.value[here]), "samples", "@red", "circle-open", _size(int(here.sum())))
    )
    return Figure(
        id="staircase-near" if title.startswith("Close") else "staircase", title=title, data=data,
        alt="What each real number is reconstructed as, a staircase, with the samples on it.",
        layout=_layout("x", "reconstructed (units of x)", {"range": [low, high]}),
    )  # fmt: skip


def _filled(edges: Any, counts: npt.NDArray[Any], name: str) -> dict[str, Any]:
    heights = np.append(counts, counts[-1:])
    return _line(
        _numbers(edges), _numbers(heights), name, "@blue", fill="tozeroy", fillcolor="@blue-soft"
    ) | {"line": {"shape": "hv", "color": "@blue", "width": 1.2}}  # fmt: skip


def _histogram(graphs: TensorGraphs) -> Figure:
    row = graphs.row
    edges, counts = error_bars(row)
    wide = bool(edges[-1] > 1.5 * row.step or edges[0] < -1.5 * row.step)
    top = float(counts.max())

    def place(x: Any) -> Any:
        return np.arcsinh(np.asarray(x) / row.step) if wide else np.asarray(x)

    data = [_filled(place(edges), counts, "samples")]
    for at, name, colour, dash in (
        (-row.rmse, "± RMSE", "@red", "dash"), (row.rmse, "", "@red", "dash"), (row.bias, "bias", "@orange", "solid"),
    ):  # fmt: skip
        x = float(place(at))
        data.append(_line([x, x], [0, top], name, colour, dash, showlegend=bool(name), hoverinfo="skip"))
    axis = {"type": "log"} if wide or (row.count >= 1000 and top > row.count / 3) else _counted(top)
    x_axis: dict[str, Any] = {}
    title = "error (units of x)"
    if wide:
        low, high = float(edges[0]), float(edges[-1])
        ticks = sorted(
            {*stretched_ticks(row.step, low, high), *(end for end in (low, high) if abs(end) > 4 * row.step)}
        )
        x_axis = {"tickvals": _numbers(place(ticks)), "ticktext": [tick_text(tick) for tick in ticks]}
        title = "error (units of x; logarithmic beyond ± one step)"
    return Figure(
        id="histogram", title="Error histogram", data=data, layout=_layout(title, "samples", x_axis, axis),
        alt="How many samples have which error, with lines at the RMSE and at the mean error.",
    )  # fmt: skip


def _bits(graphs: TensorGraphs) -> Figure:
    row = graphs.row
    curve = [(bits, sqnr) for bits, sqnr in graphs.curve if math.isfinite(sqnr)]
    ideal = ideal_line(curve, row.spec.bits)
    data = []
    if curve:
        bits, sqnr = ([point[k] for point in curve] for k in (0, 1))
        data.append(_line(bits, sqnr, "measured", "@blue") | {"mode": "lines+markers"})
        data.append(_line([b for b, _ in ideal], [v for _, v in ideal], "6.02 dB a bit", "@muted", "dot"))
    if math.isfinite(row.sqnr) and row.spec.format is None:
        data.append(_marks([row.spec.bits], [row.sqnr], "this choice", "@red", "square-open", 14))
    note = "" if curve else ": no error at any width"
    return Figure(
        id="bits", title=f"SQNR against bit depth{note}", data=data,
        alt="Signal to noise ratio of the same settings at every bit depth from 2 to 16.",
        layout=_layout("bits", "SQNR (dB)", {"dtick": 2, "range": [1.5, 16.5]}),
    )  # fmt: skip


def _codes(graphs: TensorGraphs) -> Figure:
    edges, counts, merge = code_bars(graphs.row)
    each = f", {merge} codes a bar" if merge > 1 else ""
    largest = int(counts.max())
    return Figure(
        id="codes", title=f"Codes in use{each}", data=[_filled(edges, counts, "samples")],
        alt="How many samples have which code.",
        layout=_layout("code q", "samples", {"range": [float(edges[0]), float(edges[-1])]}, _counted(largest)),
    )  # fmt: skip


def _sides(values: Sequence[float]) -> list[str]:
    """Return where the words of bars stand: inside, but beside a bar that is shorter than about half of the longest."""
    longest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return ["inside" if 0.55 * longest <= abs(v) < math.inf else "outside" for v in values]


def of_choices(rows: Sequence[ErrorRow], report: ErrorReport, rank: str) -> list[Figure]:
    """Return the graphs of choices that were compared: the ranking, and SQNR against bits."""
    first = rows[:RANKED]
    labels = [f"{k}. {shortened(shown(row.label), 44)}" for k, row in enumerate(first, 1)]
    values = [float(getattr(row, rank)) for row in first]
    texts = [metric(rank, value) for value in values]
    order = "highest" if HIGHER_IS_BETTER[rank] else "smallest"
    more = f", the best {len(first)} of {len(rows)}" if len(rows) > len(first) else ""
    ranking = Figure(
        id="ranking", title=f"Choices by {TITLES[rank]}, {order} first{more}",
        alt="A bar for each choice, the best at the top.",
        data=[{
            "type": "bar", "orientation": "h", "x": _numbers(values), "y": labels, "text": texts, "name": TITLES[rank],
            "textposition": _sides(values), "textangle": 0, "constraintext": "none", "cliponaxis": False,
            "insidetextfont": {"color": "@card"}, "marker": {"color": "@blue"},
            "showlegend": False,
        }],
        layout=_layout(unit(rank), "", y_axis={"autorange": "reversed", "automargin": True, "showgrid": False}),
    )  # fmt: skip
    lines = list(series(report).items())[: len(LINES)]
    data: list[dict[str, Any]] = []
    for k, (name, points) in enumerate(lines):
        finite = sorted((bits, sqnr) for bits, sqnr in points if math.isfinite(sqnr))
        if finite:
            data.append(_line(
                [b for b, _ in finite], [v for _, v in finite], shortened(shown(name), 60), LINES[k],
                DASHES[k % len(DASHES)], mode="lines+markers", marker={"symbol": MARKERS[k], "size": 8},
            ))  # fmt: skip
    formats = [row for row in report.rows if row.spec.format is not None and math.isfinite(row.sqnr)]
    if formats:
        places = [format_bits(row) for row in formats], [row.sqnr for row in formats]
        names = [shown(row.label) for row in formats]
        data.append(_marks(*places, "formats", "@red", "diamond-open", 10) | {"text": names})
    title = "SQNR against bits an element"
    alt = "Signal to noise ratio of each kind of choice, by the bits of an element."
    layout = _layout("bits an element, shared scales included", "SQNR (dB)")
    return [ranking, Figure(id="against-bits", title=title, alt=alt, data=data, layout=layout)]


def of_steps(steps: Steps) -> Figure:
    """Return the staircase of all schemes around an accumulator: those that agree on all of it share a line."""
    few = steps.accumulators.size <= POINTS
    data: list[dict[str, Any]] = []
    for k, (names, accs, outputs) in enumerate(steps.lines):
        turns = np.flatnonzero(np.diff(outputs))
        kept = np.arange(accs.size) if few else np.unique(np.concatenate([[0], turns, turns + 1, [accs.size - 1]]))
        label = shortened(", ".join(names), 46)
        line = _line(
            accs[kept].tolist(), outputs[kept].tolist(), label, LINES[k % len(LINES)], DASHES[k % len(DASHES)],
            mode="lines+markers" if few else "lines",
        )  # fmt: skip
        line["line"]["shape"] = "hv"
        data.append(line | {"marker": {"symbol": MARKERS[k % len(MARKERS)], "size": 5}})
    if steps.differing.size:
        name = f"{steps.first} and {steps.second} differ"
        data.append(_marks(steps.differing.tolist(), steps.outputs.tolist(), name, "@red", "circle-open", 13))
    layout = _layout("accumulator", "output", {"tickformat": ",d"}, {"tickformat": "d"})
    layout["shapes"] = [{
        "type": "line", "x0": steps.acc, "x1": steps.acc, "yref": "paper", "y0": 0, "y1": 1,
        "line": {"color": "@muted", "width": 1, "dash": "dot"},
    }]  # fmt: skip
    return Figure(
        id="steps", title=f"Outputs around accumulator {steps.acc:,}", data=data, layout=layout,
        alt="The output of every scheme for the accumulators around this one, a staircase a group of equal schemes.",
    )  # fmt: skip


def of_rates(names: Sequence[str], rates: Sequence[float]) -> Figure:
    """Return the rates of a sweep as bars."""
    return Figure(
        id="rates", title="Share of pairs on which two schemes differ",
        alt="A bar for each two schemes: the share of pairs on which they differ.",
        data=[{
            "type": "bar", "orientation": "h", "x": _numbers([100 * rate for rate in rates]), "y": list(names),
            "name": "share", "showlegend": False, "marker": {"color": "@blue"},
            "text": [f"{100 * rate:.4g} %" for rate in rates],
            "textposition": _sides(rates), "textangle": 0, "constraintext": "none", "cliponaxis": False,
            "insidetextfont": {"color": "@card"},
        }],
        layout=_layout("% of the compared pairs", "", {"rangemode": "tozero"}, {
            "autorange": "reversed", "automargin": True, "showgrid": False,
        }),
    )  # fmt: skip
