"""The NumPy back end: evaluates the forms with `qengine.kernels.reference`. Never chosen by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.reference import requantize as kernels

from .forms import ROUNDING_CODES, Epilogue, FloatRule, FloorRule, Form


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
            q = np.full(z.shape, epilogue.qmin), np.full(z.shape, epilogue.qmax)
            y = kernels.float_clamped(acc, form.scale, rule.bits, rounding, rule.zero_point_inside, z, *q)
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
