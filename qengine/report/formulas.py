"""The formulas behind one row of a report, with its own numbers filled in: lines of (what, value, formula)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..affine.conventions import get_convention
from ..affine.error_report import ErrorRow
from ..affine.formats import get_format
from ..affine.params import QuantParams
from ..affine.rounding import get_rounding
from .samples import Samples


class Line(NamedTuple):
    """One line of a table."""

    what: str
    value: str
    formula: str = ""


def number(value: float) -> str:
    """Write a number that a formula is filled in with."""
    return f"{value:.9g}"


def spread(values: Any, digits: int = 7) -> str:
    """Write one number, or the least and greatest of several and how many they are."""
    array = np.asarray(values)
    if array.ndim == 0:
        return f"{array.item():.{digits}g}"
    low, high = array.min().item(), array.max().item()
    ends = f"{low:.{digits}g}" if low == high else f"{low:.{digits}g} .. {high:.{digits}g}"
    return f"{ends} ({array.size})"


def setting_lines(row: ErrorRow) -> Iterator[Line]:
    """Yield what was chosen."""
    spec = row.spec
    if spec.format is None:
        convention = get_convention(spec.convention)
        rounding = get_rounding(spec.rounding or convention.rounding)
        if spec.params is None:
            sign = "signed" if spec.signed else "unsigned"
            yield Line("integers", f"{spec.bits} bits, {sign}{', narrow' if spec.narrow else ''}, {spec.mode}")
            if spec.range is not None:
                yield Line("range", f"[{spec.range[0]!r}, {spec.range[1]!r}], given")
            else:
                more = f" {spec.percentile:g}" if spec.method == "percentile" else ""
                yield Line("range", f"found by {spec.method}{more}")
        else:
            yield Line("parameters", "given")
        yield Line("convention", convention.name, f"q = clamp({convention.formula}, qmin, qmax)")
        yield Line("", "", f"value = {convention.dequantize_formula}")
        yield Line("rounding", rounding.name, rounding.formula)
        if rounding.name == "stochastic":
            yield Line("seed", str(spec.seed))
    else:
        form = get_format(spec.format)
        blocks = f", blocks of {spec.group or form.block}" if form.block else ""
        yield Line("format", f"{form.name}, {form.element.bits} bits an element{blocks}", form.formula)
        if spec.scale is not None:
            yield Line("scale", repr(spec.scale), "given")
        if spec.range is not None:
            yield Line("range", f"[{spec.range[0]!r}, {spec.range[1]!r}], given")
        if spec.rounding is not None:
            yield Line("rounding", spec.rounding)
        if spec.scale_rounding is not None:
            yield Line("scale rounding", spec.scale_rounding)
        yield Line("overflow", spec.overflow)
    if spec.group is not None:
        yield Line("scales", f"one for {spec.group} samples along axis {-1 if spec.axis is None else spec.axis}")
    elif spec.axis is not None:
        yield Line("scales", f"one a channel, axis {spec.axis}")


def parameter_lines(row: ErrorRow) -> Iterator[Line]:
    """Yield scale, zero point and ranges, and how they follow."""
    p = row.params
    if p is None:
        yield Line("largest gap", number(row.step), "between neighbouring values, over all scales")
        return
    scale = repr(p.scale) if p.axis is None else spread(p.scale, 9)
    yield Line("scale", scale, _scale_formula(row, p))
    yield Line("zero point", spread(p.zero_point, 12), _zero_formula(row, p))
    yield Line("codes", f"[{p.qmin}, {p.qmax}]", f"{p.levels:,} codes, {p.bits} bits, stored as {p.dtype.name}")
    low, high = np.min(p.real_min), np.max(p.real_max)
    yield Line("values", f"[{number(low)}, {number(high)}]", "(qmin - z) * scale .. (qmax - z) * scale")


def _ends(row: ErrorRow) -> tuple[float, float] | None:
    """Return the range that the parameters follow from, where it is known: given, or that of the samples."""
    spec, errors = row.spec, row.tensor
    if spec.params is not None or spec.axis is not None or spec.group is not None:
        return None
    if spec.range is not None:
        low, high = map(float, spec.range)
    elif spec.method == "minmax":
        low, high = float(errors.low), float(errors.high)
    else:
        return None
    constant = spec.range is None and low == high
    if constant or spec.include_zero or not get_convention(spec.convention).any_zero_point:
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high


def _scale_formula(row: ErrorRow, p: QuantParams) -> str:
    spec, ends = row.spec, _ends(row)
    if spec.params is not None:
        return "given"
    symmetric = spec.mode == "symmetric"
    formula = "max(|lo|, |hi|) / qmax" if symmetric else "(hi - lo) / (qmax - qmin)"
    if ends is None:
        return formula if p.axis is not None else f"{formula}, the range found by {spec.method}"
    low, high = ends
    if low == high == 0:
        return "1 where all samples are 0"
    steps = p.qmax if symmetric else p.qmax - p.qmin
    found = (max(-low, high) if symmetric else high - low) / steps
    if not math.isclose(found, p.scale, rel_tol=1e-6):  # at the ends of the scale's type
        return formula
    width = f"max(|{low!r}|, |{high!r}|)" if symmetric else f"({high!r} - {_signed(low)})"
    return f"{formula} = {width} / {steps if symmetric else f'({p.qmax} - {_signed(p.qmin)})'}"


def _signed(value: float) -> str:
    return f"({value!r})" if value < 0 else repr(value)


def _zero_formula(row: ErrorRow, p: QuantParams) -> str:
    spec, ends = row.spec, _ends(row)
    if spec.params is not None:
        return "given"
    if spec.mode == "symmetric":
        return "symmetric"
    formula = "rint(qmin - lo / scale)"
    return formula if ends is None else f"{formula} = rint({p.qmin} - {_signed(ends[0])} / {number(p.scale)})"


def metric_lines(row: ErrorRow) -> Iterator[Line]:
    """Yield every metric with its formula."""
    e = row.tensor
    n = e.count
    x2, e2 = number(e.sum_x2), number(e.sum_e2)
    peak = number(max(abs(e.low), abs(e.high)))
    yield Line("SQNR", f"{e.sqnr!r} dB", f"10 log10(sum(x^2) / sum(e^2)) = 10 log10({x2} / {e2})")
    yield Line("PSNR", f"{e.psnr!r} dB", f"20 log10(max|x| / RMSE) = 20 log10({peak} / {number(e.rmse)})")
    yield Line("MSE", repr(e.mse), f"sum(e^2) / n = {e2} / {n}")
    yield Line("  of rounding", repr(e.mse_rounding), f"over samples inside = {number(e.sum_e2_inside)} / {n}")
    yield Line("  of clipping", repr(e.mse_clipping), f"over clipped samples = {number(e.sum_e2_clipped)} / {n}")
    yield Line("RMSE", repr(e.rmse), "sqrt(MSE)")
    yield Line("MAE", repr(e.mae), f"sum(|e|) / n = {number(e.sum_abs)} / {n}")
    yield Line("max |e|", repr(e.max_abs), "largest error; e = x - value")
    yield Line("bias", repr(e.bias), f"sum(e) / n = {number(e.sum_e)} / {n}")
    yield Line("cosine", repr(e.cosine), "sum(x value) / sqrt(sum(x^2) sum(value^2))")
    yield Line("clipped", f"{e.clip_count:,} ({100 * e.clip_rate:.6g} %)", f"of {n:,}: rounded codes beyond the ends")
    if row.code_counts is not None:
        yield Line("codes used", f"{row.codes_used:,}", f"of {row.code_counts.size:,}")
        yield Line("entropy", f"{row.entropy:.6g} bits", "-sum(p log2 p) over codes")
        within = f"from a histogram of bins {number(row.step / 256)} wide"
        for p, value in row.percentiles.items():
            yield Line(f"{p:g} % of |e|", number(value), "max |e|" if p == 100 else within)


VARIANTS = {
    "ort-sqnr": "ONNX Runtime, dB: 20 log10(max(|x|, eps) / max(|e|, eps))",
    "torchao-sqnr": "torchao, dB: 20 log10(|x| / |e|)",
    "aeq-snr": "AI Edge Quantizer, a ratio: mean(x^2) / (MSE + 1e-9)",
    "ppq-snr": "PPQ, noise over signal: sum(e^2) / sum(x^2)",
    "llama-rmse": "llama.cpp: sqrt(sum(e^2)) / n",
}


def variant_lines(row: ErrorRow) -> Iterator[Line]:
    """Yield the numbers that other tools print under similar names."""
    for name, value in row.variants.items():
        yield Line(name, repr(float(value)), VARIANTS[name])


def worked_lines(row: ErrorRow, samples: Samples) -> Iterator[Line]:
    """Yield the way of the first sample from x to its error."""
    if not samples.index.size:
        return
    x, scaled, value = (float(a[0]) for a in (samples.x, samples.scaled, samples.value))
    yield Line("x", f"{x!r}", f"sample ({samples.place(0)})")
    spec, p = row.spec, row.params
    if p is None:
        form = get_format(spec.format or "")
        yield Line("scaled", number(scaled), "x / scale of its block" if form.block else "x / scale")
        yield Line("code", str(int(samples.code[0])), "nearest element" if spec.rounding is None else spec.rounding)
    else:
        inner = get_convention(spec.convention)
        yield Line("scaled", number(scaled), f"what is rounded in {inner.formula}")
        rule = get_rounding(spec.rounding or inner.rounding).name
        yield Line("code", str(int(samples.code[0])), f"{rule}; clamped to [{p.qmin}, {p.qmax}]")
        if p.axis is None:
            filled = f" = ({int(samples.code[0])} - {_signed(int(p.zero_point))}) * {number(p.scale)}"
        else:
            filled = ""
        yield Line("value", number(value), f"(q - z) * scale{filled}")
    if p is None:
        yield Line("value", number(value), "element * scale")
    yield Line("error", number(x - value), f"x - value = {number(x)} - {_signed_text(value)}")


def _signed_text(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)
