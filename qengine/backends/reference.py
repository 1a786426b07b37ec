"""The NumPy back end: evaluates the forms with `qengine.kernels.reference`. Never chosen by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import AFFINE_DEQUANTIZATION
from qengine.kernels.reference import requantize as kernels

from .forms import ROUNDING_CODES, Epilogue, FloatRule, FloorRule, Form
from .quantizers import ErrorPlan, ErrorTile, Quantizer


def requantize(acc: npt.NDArray[Any], form: Form, epilogue: Epilogue, out: npt.NDArray[Any]) -> None:
    """Requantize a C-contiguous (outer, channels, inner) array into `out`."""
    rule, z = form.rule, epilogue.zero_point
    low, high = epilogue.low[:, None], epilogue.high[:, None]
    if isinstance(rule, FloorRule):
        y = kernels.floor(acc, form.a, form.bp, form.bn, form.t)
        if epilogue.wrap:
            y = kernels.wrap32(np.clip(kernels.wrap32(y), low, high) + z[:, None])
            y = np.clip(y, epilogue.qmin, epilogue.qmax)
        else:
            y = np.clip(y, low, high) + z[:, None]
    elif isinstance(rule, FloatRule):
        rounding = ROUNDING_CODES[rule.rounding]
        if epilogue.wrap:
            top = epilogue.qmax - z if rule.clamps_before_conversion else np.full(z.shape, 2.0**62)
            y = kernels.float_wrapped(acc, form.scale, rule.bits, rounding, np.asarray(top, np.float64), z)
            y = np.clip(y, epilogue.qmin, epilogue.qmax)
        elif epilogue.clamped:
            bounds = epilogue.low, epilogue.high
            y = kernels.float_clamped(acc, form.scale, rule.bits, rounding, rule.zero_point_inside, z, *bounds)
        else:
            y = kernels.float_raw(acc, form.scale, rule.bits, rounding, rule.zero_point_inside, z)
    else:
        y = kernels.nested16(acc, form.a, form.t, z)
        y = np.clip(y, epilogue.qmin, epilogue.qmax)
    out[...] = y


def sweep_tile(work: Any, start: int, stop: int) -> Any:
    """Return the tally of the pairs with indices in ``[start, stop)``."""
    from qengine.kernels.reference import sweep

    return sweep.tile(work, start, stop)


def quantize(x: npt.NDArray[Any], quantizer: Quantizer, out: npt.NDArray[Any]) -> bool:
    """Quantize flat x into codes; return whether all of x is finite (if not, nothing is written)."""
    from qengine.kernels.reference import affine, errors

    if not np.isfinite(x).all():
        return False
    at = errors.parameter_index(np.arange(x.size), quantizer.layout)
    out[...] = affine.quantize(x, quantizer.row, quantizer.scales[at], quantizer.zero_points[at])
    return True


def dequantize(q: npt.NDArray[Any], quantizer: Quantizer, out: npt.NDArray[Any]) -> None:
    """Write what flat codes stand for, float32 or float64."""
    from qengine.kernels.reference import affine, errors

    at = errors.parameter_index(np.arange(q.size), quantizer.layout)
    rule = quantizer.row[AFFINE_DEQUANTIZATION]
    out[...] = affine.dequantize(q, rule, quantizer.scales[at], quantizer.zero_points[at])


def error_tile(x: npt.NDArray[Any], first: int, plan: ErrorPlan) -> ErrorTile:
    """Sum up the errors of flat x, whose element 0 is element `first` of its tensor."""
    from qengine.kernels.reference import errors

    bad = np.zeros(2, np.int64)
    parts: tuple[Any, ...] = errors.tile(*(x, first, *plan.arguments, bad))
    return ErrorTile(*parts, *bad.tolist())
