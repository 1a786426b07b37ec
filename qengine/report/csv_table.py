"""Errors as CSV (RFC 4180): one line a tensor and choice, every figure in full."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..affine.conventions import get_convention
from ..affine.error_report import ErrorRow
from ..affine.metrics import METRICS
from .escape import text_cell
from .formulas import VARIANTS
from .tensors import Measured, shape_text

_PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
_TENSOR = ("tensor", "dtype", "shape", "count", "nonfinite", "low", "high")
_SPEC = (
    "choice", "bits", "mode", "signed", "narrow", "method", "percentile", "range_low", "range_high", "convention",
    "rounding", "seed", "axis", "group", "format", "scale_rounding", "overflow",
)  # fmt: skip
_PARAMS = (
    "scales", "scale_min", "scale_max", "zero_point_min", "zero_point_max", "qmin", "qmax",
)  # fmt: skip
_CODES = ("levels", "codes_used", "dead_codes", "entropy", *(f"abs_error_p{p:g}" for p in _PERCENTILES))
#: Header of the file.
COLUMNS = (*_TENSOR, *_SPEC, *_PARAMS, *METRICS, *_CODES, *VARIANTS)


def _cell(value: Any) -> str:
    """Write a cell: nothing for None, numbers as `repr` (``inf`` too), text so that it is no formula."""
    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    return str(int(value)) if isinstance(value, (int, np.integer)) else text_cell(value)


def _spec_cells(row: ErrorRow) -> list[Any]:
    spec = row.spec
    integers, found = spec.format is None, spec.params is None and spec.range is None
    rounding = spec.rounding
    if rounding is None and integers:
        rounding = get_convention(spec.convention).rounding
    low, high = spec.range or (None, None)
    chosen = integers and spec.params is None
    return [
        spec.label, *((v if chosen else None) for v in (spec.bits, spec.mode, spec.signed, spec.narrow)),
        spec.method if found and integers else None,
        spec.percentile if found and integers and spec.method == "percentile" else None, low, high,
        spec.convention if integers else None, rounding, spec.seed if rounding == "stochastic" else None, spec.axis,
        spec.group, spec.format, spec.scale_rounding, None if integers else spec.overflow,
    ]  # fmt: skip


def _params_cells(row: ErrorRow) -> list[Any]:
    p = row.params
    if p is None:
        return [None] * len(_PARAMS)
    scale, zero = np.asarray(p.scale), np.asarray(p.zero_point)
    return [scale.size, scale.min(), scale.max(), zero.min(), zero.max(), p.qmin, p.qmax]


def _code_cells(row: ErrorRow) -> list[Any]:
    if row.code_counts is None:
        return [None] * len(_CODES)
    percentiles = [row.percentile(p) for p in _PERCENTILES]
    return [row.code_counts.size, row.codes_used, row.dead_codes, row.entropy, *percentiles]


def to_csv(measured: Iterable[Measured]) -> str:
    """Return the lines of all tensors and choices under `COLUMNS`, ended by CR LF."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for item in measured:
        source = item.source
        for row in item.report.rows:
            errors = row.tensor
            about = [
                source.name, source.dtype, shape_text(source.shape), errors.count, item.report.nonfinite,
                float(errors.low), float(errors.high),
            ]  # fmt: skip
            metrics = [getattr(row, name) for name in METRICS]
            variants = [float(row.variants[name]) for name in VARIANTS]
            line = [*about, *_spec_cells(row), *_params_cells(row), *metrics, *_code_cells(row), *variants]
            writer.writerow([_cell(value) for value in line])
    return out.getvalue()
