"""The audit of a model: on how many attainable states runtimes differ, operator by operator, exactly."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import arguments
from ..arguments import Progress
from ..exact import staircase
from ..exact.sides import Side as Bound
from ..exceptions import DomainError, QEngineError
from ..requant import spec
from .audit_compare import Counts, count_accumulators, multiplier_of, pieces, thresholds
from .audit_result import AuditResult, Layer, Pair, Parameters, Witness
from .audit_sides import Kernel, Region, Side, parse_sides
from .graph import read_graph
from .requantizing import ACCUMULATORS, CODES, PAIRS, REALS, SUMS, Requantizing, real_numbers
from .source import Array

#: States of an operator that are tabulated.
TABULATED = 1 << 24
#: What regions of a tensor are called: one, two or three of them.
PLACES = {1: ("",), 2: ("body", "rest"), 3: ("body", "between", "rest")}


def _segments(sides: Sequence[tuple[Region, ...]], whole: int) -> list[tuple[int, int, list[Kernel | None]]]:
    """Cut the axis where any side's vector code ends: (start, stop, kernel of each side)."""
    cuts = {0, whole}
    for regions in sides:
        if len(regions) > 1:
            cuts |= {edge for region in regions for edge in (region.start, region.stop) if edge <= whole}
    edges = sorted(cuts)
    found = []
    for start, stop in itertools.pairwise(edges):
        kernels = [
            next((r.kernel for r in regions if len(regions) == 1 or r.start <= start < r.stop), None)
            for regions in sides
        ]
        found.append((start, stop, kernels))
    return found


def _regions(row: Requantizing, sides: Sequence[Side]) -> tuple[list[tuple[Region, ...]], list[str]]:
    """Return what each side runs, and why nothing is known where that is so."""
    found: list[tuple[Region, ...]] = []
    reasons = []
    for side in sides:
        reason = ""
        regions: tuple[Region, ...] = ()
        try:
            regions = side.regions(row)
            for region in regions:
                _try(row, region)
        except QEngineError as error:
            regions, reason = (), str(error)
        found.append(regions)
        reasons.append(reason)
    return found, reasons


def _try(row: Requantizing, region: Region) -> None:
    """Evaluate one state a channel: raises where the scales are outside of the arithmetic's domain."""
    if row.states == ACCUMULATORS:
        region.kernel.accumulated(row, np.arange(row.channels), np.zeros((1, row.channels), np.int64))
    elif row.states == REALS:
        region.kernel.quantized(row, np.zeros(1, np.int64))
    else:
        states = int(row.sizes().sum())
        if states > TABULATED:
            raise DomainError(f"{states:,} states are too many to try")
        region.kernel.tabulated(row)


def audit_row(row: Requantizing, sides: Sequence[Side]) -> Layer:
    """Return the answers for one operator."""
    if not row.covered:
        why = row.reason or "nothing is known of it"
        unknown = () if row.plain else tuple(Pair(sides=names, reason=why) for names in _names(sides))
        return Layer(row, (), unknown)
    regions, reasons = _regions(row, sides)
    parameters = []
    for side, parts in zip(sides, regions, strict=True):
        if parts:
            kernel = parts[0].kernel
            numbers = multiplier_of(kernel, row) if row.states in (ACCUMULATORS, CODES, PAIRS) else None
            words = kernel.description
            parameters.append(
                Parameters(
                    side=side.name, recipe=words.recipe, formula=words.formula, epilogue=words.epilogue,
                    **(numbers or _NO_MULTIPLIER),
                )
            )  # fmt: skip
    compared = _accumulated if row.states == ACCUMULATORS else _tabulated
    pairs = compared(row, sides, regions)
    states = int(row.sizes().sum(dtype=object))
    finished = []
    for (i, j), names, pair in zip(staircase.pairs(len(sides)), _names(sides), pairs, strict=True):
        reason = reasons[i] and f"{sides[i].name}: {reasons[i]}"
        other = reasons[j] and f"{sides[j].name}: {reasons[j]}"
        reason = "; ".join(filter(None, (reason, other)))
        finished.append(Pair(sides=names, reason=reason, states=states) if reason else Pair(sides=names, **pair))
    return Layer(row, tuple(parameters), tuple(finished))


_NOTHING = np.zeros(0)
_NO_MULTIPLIER: dict[str, Any] = {
    "base": 0, "multiplier": _NOTHING, "shift": _NOTHING, "represented": _NOTHING, "ppm": _NOTHING,
}  # fmt: skip


def _names(sides: Sequence[Side]) -> list[tuple[str, str]]:
    return [(sides[i].name, sides[j].name) for i, j in staircase.pairs(len(sides))]


def _accumulated(
    row: Requantizing, sides: Sequence[Side], regions: Sequence[tuple[Region, ...]]
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the fields of every pair of an operator of accumulators; regions are channels."""
    couples = staircase.pairs(len(sides))
    total = [Counts.empty(row.channels) for _ in couples]
    segments = _segments(regions, row.channels)
    by_place: list[dict[str, int]] = [{} for _ in couples]
    kernels_at: list[list[Kernel | None]] = []
    bound_at: list[list[Bound | None]] = []
    for (start, stop, kernels), place in zip(segments, PLACES[len(segments)], strict=True):
        channels = np.arange(start, stop)
        counts, bound = count_accumulators(row, kernels, channels)
        kernels_at.append(kernels)
        bound_at.append(bound)
        for whole, part, places in zip(total, counts, by_place, strict=True):
            whole.put(channels, part)
            if place:
                places[place] = int(part.count.sum(dtype=object))
    found = []
    for (i, j), sums, places in zip(couples, total, by_place, strict=True):
        witness = None
        if sums.count.any():
            channel = int(np.flatnonzero(sums.count)[0])
            s = next(k for k, (start, stop, _) in enumerate(segments) if start <= channel < stop)
            place = PLACES[len(segments)][s]
            a, b = kernels_at[s][i], kernels_at[s][j]
            assert a is not None
            assert b is not None
            within = channel - segments[s][0]
            witness = _accumulator_witness(
                row, (a, b), (bound_at[s][i], bound_at[s][j]), (sides[i].name, sides[j].name), channel, within,
                int(sums.first[channel]), place,
            )  # fmt: skip
        found.append({
            "states": int(row.sizes().sum(dtype=object)), "divergent": int(sums.count.sum(dtype=object)),
            "undecided": int(sums.undecided.sum(dtype=object)), "by_channel": sums.count,
            "least_by_channel": sums.first, "least": int(sums.least.min(initial=0)),
            "greatest": int(sums.greatest.max(initial=0)), "regions": places, "witness": witness,
        })  # fmt: skip
    return found


def _accumulator_witness(
    row: Requantizing, kernels: tuple[Kernel, Kernel], bound: tuple[Bound | None, Bound | None],
    names: tuple[str, str], channel: int, within: int, acc: int, place: str,
) -> Witness:  # fmt: skip
    at = np.array([channel])
    outputs = [int(kernel.accumulated(row, at, np.array([[acc]]))[0, 0]) for kernel in kernels]
    why = _formulas(kernels, names, outputs)
    a, b = bound
    if a is not None and b is not None:
        try:
            traces = [_trace(one, acc, within) for one in (a, b)]
        except DomainError:  # beyond the contract of the scheme: the kernel's overflow decides
            traces = []
        if [trace.clamped for trace in traces] == outputs:
            why = spec.why(traces[0], traces[1], names)
    return Witness(channel, (acc,), (outputs[0], outputs[1]), place, why)


def _trace(one: Bound, acc: int, channel: int) -> spec.Trace:
    given = np.asarray(one.multiplier)
    real = float(given[channel if given.size > 1 else 0])
    e = one.epilogue
    return spec.trace(one.scheme, acc, real, int(e.zero_point[channel]), e.qmin, e.qmax)


def _formulas(kernels: Sequence[Kernel], names: tuple[str, str], outputs: Sequence[int]) -> str:
    parts = zip(names, kernels, outputs, strict=True)
    return "; ".join(f"{name}: {kernel.description.formula} -> {value}" for name, kernel, value in parts)


def _tabulated(
    row: Requantizing, sides: Sequence[Side], regions: Sequence[tuple[Region, ...]]
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the fields of every pair of an operator whose states can be tried; regions are elements or channels."""
    whole = max((region.stop for parts in regions if len(parts) > 1 for region in parts), default=1)
    segments = _segments(regions, whole)
    names = PLACES.get(len(segments)) or tuple(f"elements {a} to {b - 1}" for a, b, _ in segments)
    tables: dict[tuple[int, int], Array] = {}
    found = []
    sizes = row.sizes()
    places_at, weights = _real_pieces(row, segments) if row.states == REALS else (_NOTHING, np.ones(1, np.int64))

    def table(kernel: Kernel, channel: int) -> Array:
        key = id(kernel), channel
        if key not in tables:
            real = row.states == REALS
            tables[key] = kernel.quantized(row, places_at) if real else kernel.tabulated(row, channel)
        return tables[key]

    def weight(where: Array) -> int:
        return int((where * weights).sum())

    def state(channel: int, k: int) -> tuple[Any, ...]:
        if row.states == REALS:
            return (float(real_numbers(places_at[k : k + 1])[0]),)
        return _state(row, channel, k)

    for i, j in staircase.pairs(len(sides)):
        fields: dict[str, Any] = {"by_channel": np.zeros(sizes.size, np.int64), "least": 0, "greatest": 0}
        places: dict[str, int] = dict.fromkeys(names, 0) if len(segments) > 1 else {}
        witness = None
        first = np.zeros(sizes.size, np.int64)
        for channel in range(sizes.size if regions[i] and regions[j] else 0):
            union = np.zeros(1, bool)
            for (_, _, kernels), place in zip(segments, names, strict=True):
                a, b = kernels[i], kernels[j]
                if a is None or b is None or a.same(b):
                    continue
                y, z = table(a, channel), table(b, channel)
                differ = (y != z) & (weights > 0)
                if not differ.any():
                    continue
                union = union | differ
                if place:
                    places[place] += weight(differ)
                apart = (z - y)[differ]
                fields["least"] = min(fields["least"], int(apart.min()))
                fields["greatest"] = max(fields["greatest"], int(apart.max()))
                if witness is None:
                    k = int(differ.argmax())
                    outputs = int(y[k]), int(z[k])
                    why = _formulas((a, b), (sides[i].name, sides[j].name), outputs)
                    witness = Witness(channel, state(channel, k), outputs, place, why)
            fields["by_channel"][channel] = weight(union)
            if union.any() and row.states != REALS:
                first[channel] = _state(row, channel, int(union.argmax()))[0]
        found.append(fields | {
            "states": int(sizes.sum()), "divergent": int(fields["by_channel"].sum()), "least_by_channel": first,
            "regions": places, "witness": witness,
        })  # fmt: skip
    return found


def _real_pieces(row: Requantizing, segments: list[tuple[int, int, list[Kernel | None]]]) -> tuple[Array, Array]:
    """Return real numbers, by place, one of each piece on which all kernels are constant, and the pieces' sizes."""
    kernels = {id(kernel): kernel for _, _, side in segments for kernel in side if kernel is not None}
    codes = np.arange(row.qmin + 1, row.qmax + 1, dtype=np.int64)
    cuts = [thresholds(functools.partial(k.quantized, row), codes, row.low, row.high) for k in kernels.values()]
    at, sizes = pieces(cuts, row.low, row.high)
    return at[:, 0], sizes[:, 0]


def _state(row: Requantizing, channel: int, k: int) -> tuple[int, ...]:
    """Return the k-th state."""
    if row.states == SUMS:
        return int(row.low[channel]) + k, int(row.count[channel])
    if row.states == PAIRS:
        return int(row.first_codes[k // row.second_codes.size]), int(row.second_codes[k % row.second_codes.size])
    code = int(row.first_codes[k])
    return (code, code) if row.twins else (code,)


def audit(model: os.PathLike[str] | str, schemes: Any = None, *, progress: Progress | None = None) -> AuditResult:
    """Count exactly, operator by operator, on how many attainable states runtimes give different codes.

    A state is what one rounding depends on: an accumulator between the least and the greatest that the stored weights,
    the bias and the input's codes allow (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED), an input code (QUANTIZE,
    LOGISTIC), a pair of codes (ADD, SUB, MUL), a sum of codes (MEAN, AVERAGE_POOL_2D), a float32 number (QUANTIZE).
    Nothing is sampled; no image is needed. "Proven equal" holds for every input of the model, as far as the profiles
    do; "may differ in k of n states" says that inputs that produce one of the k give different codes there, not that a
    given image does.

    Parameters
    ----------
    model : path
        A ``.tflite`` or ``.onnx`` file.
    schemes : sequence of str, optional
        What to compare: ``runtime:path[@isa][/version]``, as ``litert:xnnpack``, ``litert:opt@aarch64``,
        ``tensorflow:xnnpack/2.20``, ``onnxruntime:cpu``, or a scheme (``single``, ``double``, ``fp32`` ...) in the
        place of every rounding. One name is compared with what the file's own runtime does by default. Default: the
        three paths of LiteRT; for ONNX, ONNX Runtime and the three.
    progress : callable, optional
        Called with (operators done, operators).

    Returns
    -------
    AuditResult
        ``str()`` of it is the table that ``qengine audit`` prints; ``layers`` in the model's order.

    Raises
    ------
    InputFileError
        The file is missing, no such model, damaged or contradicts itself.
    UnknownNameError, DomainError, DTypeError
        For sides that do not exist, or are the same.

    Notes
    -----
    An interval of accumulators is the hull of those that arise: that each number in between arises is not claimed.
    Operators that are not covered are listed with the reason. Subgraph 0 alone is read.

    References
    ----------
    Profiles: ``qengine runtimes``. Intervals: `qengine.models.attainable`. Counts: `qengine.exact.staircase`.

    Examples
    --------
    At the multiplier 1/4 both paths round twice: -3 by way of -1.5, which is a tie, to 0 or to -1; -2 is a tie itself.

    >>> from qengine.models.audit import audit_row
    >>> from qengine.models.audit_sides import parse_sides
    >>> from qengine.models.requantizing import ACCUMULATORS, Requantizing, integers, scales
    >>> row = Requantizing(
    ...     index=0, op="CONV_2D", name="y", states=ACCUMULATORS, code_dtype="int8", dtype="int8",
    ...     granularity="per-tensor", variant="pertensor", qmin=-128, qmax=127, in_scale=scales(0.5),
    ...     w_scale=scales(0.5), out_scale=scales(1), low=integers(-3), high=integers(3))
    >>> (pair,) = audit_row(row, parse_sides(["litert:opt", "litert:ref"], "litert")).pairs
    >>> pair.verdict, pair.witness.state, pair.witness.outputs
    ('may differ in 2 of 7 states', (-3,), (0, -1))
    """
    begun = time.perf_counter()
    path = arguments.path("model", model)
    arguments.callback("progress", progress)
    notes: list[str] = []
    if path.lower().endswith(".onnx"):
        from .audit_onnx import read_rows

        sides = parse_sides(schemes, "onnxruntime")
        rows = read_rows(path)
    else:
        from .audit_tflite import rows as tflite_rows

        sides = parse_sides(schemes, "litert")
        graph = read_graph(path)
        rows = tflite_rows(graph)
        if graph.subgraphs > 1:
            notes.append(f"{graph.subgraphs - 1} more subgraphs of the model were not read.")
    layers = []
    for done, row in enumerate(rows, 1):
        layers.append(audit_row(row, sides))
        if progress is not None:
            progress(done, len(rows))
    names = tuple(side.name for side in sides)
    return AuditResult(path, names, tuple(layers), tuple(notes), time.perf_counter() - begun)
