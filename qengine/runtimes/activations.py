"""Fused activations: the clamp that a runtime derives from the output's scale and zero point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..exceptions import DomainError, UnknownNameError
from .columns import LIMITS, integers, scales

#: Bounds of the real output; None leaves the type's.
ACTIVATIONS: Mapping[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def activation_range(activation: str, scale: Any, zero_point: Any, dtype: str) -> tuple[int, int]:
    """Return the closed range of codes that a fused activation leaves.

    ``lo = max(tmin, z + round(f32(bound / s)))`` and ``hi = min(tmax, ...)`` alike, half away from zero.

    Parameters
    ----------
    activation : {"NONE", "RELU", "RELU6", "RELU_N1_TO_1"}
    scale, zero_point : float, int
        Of the output; one each.
    dtype : {"int8", "uint8", "int16"}

    Returns
    -------
    (int, int)

    Raises
    ------
    UnknownNameError, DomainError
        For an unknown activation; for arrays of scales, or a scale that is not positive.

    References
    ----------
    TensorFlow Lite ``kernels/kernel_util.cc``, CalculateActivationRangeQuantized.

    Examples
    --------
    >>> from qengine.runtimes.activations import activation_range
    >>> activation_range("RELU6", 0.5, -3, "int8")
    (-3, 9)
    >>> activation_range("RELU_N1_TO_1", 0.4, 0, "int8")         # +-2.5: a tie, away from zero
    (-3, 3)
    """
    if activation not in ACTIVATIONS:
        raise UnknownNameError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}.")
    low, high = LIMITS[dtype]
    s, z = scales("scale", scale), integers("zero_point", zero_point, low, high)
    if s.size != 1 or z.size != 1:
        raise DomainError(
            f"an activation needs one output scale and one zero point; got {s.size} and {z.size}. "
            "Pass qmin= and qmax= instead."
        )
    # Bounds up to 6 by a normal scale: below 2**130 at most, clamped at once.
    with np.errstate(over="ignore"):
        reals = [None if b is None else float(np.float32(b) / s.reshape(())) for b in ACTIVATIONS[activation]]
    whole = [None if v is None else int(np.trunc(np.clip(v, -1e9, 1e9) + np.copysign(0.5, v))) for v in reals]
    bottom, top = (None if w is None else int(z.reshape(())) + w for w in whole)
    return (low if bottom is None else max(low, bottom)), (high if top is None else min(high, top))
