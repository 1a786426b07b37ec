"""Binding a scheme's form to zero points, an output type and a clamp: checks, epilogue, defined accumulators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import first_index, first_value, integer
from ..backends.forms import INT32_MAX, INT32_MIN, Epilogue, FloatRule, FloorRule, Form
from ..exceptions import DomainError, DTypeError, brief
from .forms import accumulator_range, float_accumulator_range, result_bounds, saturation
from .schemes import Scheme

CLAMPED: dict[np.dtype[Any], np.iinfo[Any]] = {np.dtype(name): np.iinfo(name) for name in ("int8", "uint8", "int16")}
RAW = (np.dtype(np.int32), np.dtype(np.int64))
#: A raw result takes any zero point that a quantized type of at most 16 bits can have.
RAW_ZERO_POINT = (-(1 << 15), (1 << 16) - 1)


def _as_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype, or void for what names none: no list of accepted types holds void."""
    try:
        return np.dtype(dtype)
    except (TypeError, ValueError):
        return np.dtype(np.void)


def output_dtype(dtype: npt.DTypeLike | None, acc_dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the output type: clamped or raw, that of the accumulators by default."""
    if dtype is None:
        return acc_dtype
    chosen = _as_dtype(dtype)
    if chosen not in CLAMPED and chosen not in RAW:
        raise DTypeError(f"dtype must be int8, uint8, int16 (clamped) or int32, int64 (raw); got {brief(dtype)}.")
    return chosen


def clamped_type(dtype: npt.DTypeLike) -> tuple[str, int, int]:
    """Return (name, lowest, highest code) of a clamped output type."""
    chosen = _as_dtype(dtype)
    if chosen not in CLAMPED:
        raise DTypeError(f"dtype must be int8, uint8 or int16, or None for a raw result; got {brief(dtype)}.")
    return chosen.name, int(CLAMPED[chosen].min), int(CLAMPED[chosen].max)


def clamp_limits(dtype: np.dtype[Any], qmin: int | None, qmax: int | None) -> tuple[int, int]:
    """Return the closed range of outputs: that of the type, int32 for a raw one, or narrower."""
    info = CLAMPED.get(dtype)
    low, high = (int(info.min), int(info.max)) if info else (INT32_MIN, INT32_MAX)
    for name, value in (("qmin", qmin), ("qmax", qmax)):
        if value is None:
            continue
        if not low <= integer(name, value) <= high:
            raise DomainError(f"{name} must be in [{low}, {high}] for dtype {dtype.name}; got {brief(value)}.")
    chosen = (low if qmin is None else int(qmin), high if qmax is None else int(qmax))
    if chosen[0] > chosen[1]:
        raise DomainError(f"qmin must not exceed qmax; got qmin {chosen[0]}, qmax {chosen[1]}.")
    return chosen


def checked_zero_points(zero_point: Any, dtype: np.dtype[Any]) -> npt.NDArray[np.int64]:
    """Return zero points as int64, in their own shape; they fit the output type."""
    array = backends.parameter("zero_point", zero_point)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"zero_point must be an integer; got dtype {array.dtype}.")
    info = CLAMPED.get(dtype)
    low, high = (int(info.min), int(info.max)) if info else RAW_ZERO_POINT
    bad = (array < low) | (array > high)
    if bad.any():
        raise DomainError(
            f"zero_point must be in [{low}, {high}] for dtype {dtype.name}; "
            f"got {first_value(array, bad)}{first_index(bad)}."
        )
    return array.astype(np.int64)


def take_channels(form: Form, index: npt.NDArray[np.intp]) -> Form:
    """Return the form with channels picked by `index`."""
    names = ("a", "bp", "bn", "t", "scale", "exponent", "acc_min", "acc_max")
    arrays = {name: getattr(form, name) for name in names}
    return replace(form, **{name: array[index] if array.size else array for name, array in arrays.items()})


def _epilogue(
    form: Form, zero_point: npt.NDArray[np.int64], dtype: np.dtype[Any], limits: tuple[int, int], wrap: bool
) -> Epilogue:
    clamped = dtype in CLAMPED or limits != (INT32_MIN, INT32_MAX)
    if wrap:
        low, high = (np.full(zero_point.shape, bound, dtype=np.int64) for bound in saturation(form.rule))
    else:
        low, high = result_bounds(form.rule, zero_point, *limits)
    return Epilogue(zero_point, low, high, *limits, clamped, wrap)


def _accumulator_domain(
    scheme: Scheme, form: Form, epilogue: Epilogue
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the closed range of accumulators, per channel, that has a defined output."""
    rule, z = form.rule, epilogue.zero_point
    if isinstance(rule, FloatRule) and epilogue.clamped and rule.saturates:
        full = np.full(z.shape, INT32_MAX, dtype=np.int64)
        return -full - 1, full
    low, high = form.acc_min, form.acc_max
    if epilogue.clamped or not z.any() or (isinstance(rule, FloorRule) and rule.saturate_bits):
        return low, high
    # The raw result with its zero point must fit int32 too.
    if isinstance(rule, FloatRule):
        return float_accumulator_range(form.scale, rule, z)
    if isinstance(rule, FloorRule):
        result = INT32_MIN - np.minimum(z, 0), INT32_MAX - np.maximum(z, 0)
        tight = accumulator_range(form.a, form.bp, form.bn, form.t, scheme.acc_bits, *result)
        low, high = np.maximum(low, tight[0]), np.minimum(high, tight[1])
    return low, high


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A scheme with multipliers, zero points and a clamp: all that a call needs beside its accumulators."""

    row: Scheme
    form: Form
    epilogue: Epilogue
    domain: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    dtype: np.dtype[Any]

    @property
    def total(self) -> bool:
        """Whether every int32 accumulator is in the domain."""
        return int(self.domain[0].max()) <= INT32_MIN and int(self.domain[1].min()) >= INT32_MAX


def bind(
    row: Scheme, form: Form, zero_points: npt.NDArray[np.int64], dtype: np.dtype[Any],
    limits: tuple[int, int], wrap: bool,
) -> Bound:  # fmt: skip
    """Bind a form to zero points, one a channel, and a clamp; `wrap` as the original wraps."""
    epilogue = _epilogue(form, zero_points, dtype, limits, wrap)
    if wrap:
        bound = np.full(form.exponent.shape, 1 << (row.acc_bits - 1), dtype=np.int64)
        top = bound - 1
        if isinstance(row.rule, FloorRule) and row.rule.nudge_saturates:
            # Where the nudge saturates, sources disagree on what follows: nothing is reproduced.
            top = np.where(form.exponent < 0, form.acc_max, top)
        return Bound(row, form, epilogue, (-bound, top), dtype)
    return Bound(row, form, epilogue, _accumulator_domain(row, form, epilogue), dtype)


def wraps(row: Scheme) -> bool:
    """Tell whether the original can wrap: those that saturate before they convert cannot."""
    inside = isinstance(row.rule, FloatRule) and row.rule.zero_point_inside
    return row.form != "nested" and not inside
