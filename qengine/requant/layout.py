"""How accumulators and per-channel parameters lie: any layout folded to (outer, channels, inner)."""

from __future__ import annotations

import numpy as np

from ..arguments import integer
from ..exceptions import DomainError, brief


def channel_axis(axis: int, ndim: int) -> int:
    """Return the axis counted from the front, or raise."""
    axis = integer("axis", axis)
    if ndim == 0:
        raise DomainError(f"axis={axis} names a channel axis, but acc has no dimensions.")
    if not -ndim <= axis < ndim:
        raise DomainError(f"axis must be in [{-ndim}, {ndim - 1}] for {ndim}-dimensional acc; got {brief(axis)}.")
    return axis % ndim


def fold(
    acc_shape: tuple[int, ...], parameter_shape: tuple[int, ...], axis: int | None
) -> tuple[tuple[int, ...], tuple[int, int, int], tuple[int, ...]]:
    """Return (result shape, (outer, channels, inner), shape to broadcast the parameters to)."""
    if axis is not None and parameter_shape:
        axis = channel_axis(axis, len(acc_shape))
        length = acc_shape[axis]
        if parameter_shape not in ((length,), (1,)):
            raise DomainError(
                f"with axis={axis}, multiplier and zero_point must have shape ({length},) or be scalars, as acc "
                f"has shape {acc_shape}; got {parameter_shape}."
            )
        outer, inner = int(np.prod(acc_shape[:axis])), int(np.prod(acc_shape[axis + 1 :]))
        return acc_shape, (outer, length, inner), (length,)
    try:
        shape = np.broadcast_shapes(acc_shape, parameter_shape)
    except ValueError:
        raise DomainError(
            f"the shape of multiplier and zero_point, {parameter_shape}, does not broadcast against acc, "
            f"{acc_shape}; pass axis= to name the channel axis."
        ) from None
    padded = (1,) * (len(shape) - len(parameter_shape)) + parameter_shape
    varying = [k for k, extent in enumerate(padded) if extent != 1]
    if not varying:
        return shape, (1, 1, int(np.prod(shape))), (1,)
    if len(varying) == 1:
        k = varying[0]
        outer, inner = int(np.prod(shape[:k])), int(np.prod(shape[k + 1 :]))
        return shape, (outer, shape[k], inner), (shape[k],)
    return shape, (1, int(np.prod(shape)), 1), shape
