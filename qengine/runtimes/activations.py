"""Fused activations: the clamp that a runtime derives from the output's scale and zero point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arguments import chosen
from ..exceptions import DomainError
from .columns import LIMITS, integers, scales

#: Bounds of the real output; None leaves the type's.
ACTIVATIONS: Mapping[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def activation_range(
    activation: str, scale: Any, zero_point: Any, dtype: str, *, xnnpack: bool = False
) -> tuple[int, int]:
    """Return the closed range of codes that a fused activation leaves.

    TFLite: ``lo = max(tmin, z + round(f32(bound / s)))``, half away from zero, and ``hi = min(tmax, ...)`` alike.
    XNNPACK: ``rint(f32(f32(bound / s) + z))``, the zero point inside the rounding.

    Parameters
    ----------
    activation : {"NONE", "RELU", "RELU6", "RELU_N1_TO_1"}
    scale, zero_point : float, int
        Of the output; one each.
    dtype : {"int8", "uint8", "int16"}
    xnnpack : bool
        The bounds of an operator that XNNPACK runs.

    Returns
    -------
    (int, int)

    Raises
    ------
    UnknownNameError, DomainError
        For an unknown activation; for arrays of scales, or a scale that is not positive.

    References
    ----------
    TensorFlow Lite ``kernels/kernel_util.cc``, CalculateActivationRangeQuantized; XNNPACK, xnn_qs8_quantize.

    Examples
    --------
    >>> from qengine.runtimes.activations import activation_range
    >>> activation_range("RELU6", 0.5, -3, "int8")
    (-3, 9)
    >>> activation_range("RELU_N1_TO_1", 0.4, 0, "int8")         # +-2.5: a tie, away from zero
    (-3, 3)
    >>> activation_range("RELU_N1_TO_1", 0.4, 1, "int8", xnnpack=True)                      # -1.5 and 3.5: to even
    (-2, 4)
    """
    chosen("activation", activation, ACTIVATIONS)
    low, high = LIMITS[dtype]
    s, z = scales("scale", scale), integers("zero_point", zero_point, low, high)
    if s.size != 1 or z.size != 1:
        raise DomainError(
            f"an activation needs one output scale and one zero point; got {s.size} and {z.size}. "
            "Pass qmin= and qmax= instead."
        )
    zero = int(z.reshape(()))

    def code(bound: float | None, edge: int) -> int:
        if bound is None:
            return edge
        with np.errstate(over="ignore"):  # infinite for the smallest scales: beyond the type either way
            v = np.float32(bound) / s.reshape(())
        if xnnpack:
            return int(np.clip(np.rint(v + np.float32(zero)), low, high))
        v = np.clip(v, np.float32(-1e6), np.float32(1e6)).astype(np.float64)
        return min(max(zero + int(np.trunc(v + np.copysign(0.5, v))), low), high)

    bottom, top = ACTIVATIONS[activation]
    return code(bottom, low), code(top, high)
