"""Recipes: how a runtime turns three stored float32 scales into one real multiplier.

The order and the width of ``in * w / out`` is part of a scheme: it decides tensorflow#102943, where only
``f32(f32(in * w) / out)`` gives the recorded -120. Each recipe is a row; `apply` evaluates it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import chosen, first_index, first_value
from ..exceptions import DomainError, DTypeError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


def _double(i: F32, w: F32, o: F32) -> F64:
    return i.astype(np.float64) * w.astype(np.float64) / o.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to compute the real multiplier from the scales.

    Attributes
    ----------
    name, formula : str
        `formula` writes ``f32(.)``/``f64(.)`` for each rounding; i, w, o are the stored float32 scales.
    used_by : str
        Operators known to use it.
    compute : callable
        float32 arrays (i, w, o) to float64 (values of a float32 recipe are exact in it).
    """

    name: str
    formula: str
    used_by: str
    compute: Callable[[F32, F32, F32], F64]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "double", "f64(i) * f64(w) / f64(o)",
            "TFLite CONV_2D, DEPTHWISE_CONV_2D, per-channel FULLY_CONNECTED, reference FULLY_CONNECTED",
            _double,
        ),
        Recipe(
            "float-product", "f64(f32(i * w)) / f64(o)",
            "TFLite per-tensor FULLY_CONNECTED (optimized), uint8 CONV_2D and DEPTHWISE_CONV_2D",
            lambda i, w, o: (i * w).astype(np.float64) / o.astype(np.float64),
        ),
        Recipe(
            "float32", "f32(f32(i * w) / o)",
            "XNNPACK, ONNX Runtime, FBGEMM, TFLite MUL, Arm Compute Library",
            lambda i, w, o: ((i * w) / o).astype(np.float64),
        ),
        Recipe(
            "float32-reciprocal", "f32(f32(i * w) * f32(1 / o))",
            "torch quantized::linear with the qnnpack engine",
            lambda i, w, o: ((i * w) * (np.float32(1) / o)).astype(np.float64),
        ),
        Recipe(
            "float32-of-double", "f32(f64(i) * f64(w) / f64(o))",
            "exports that store one float32 multiplier computed in double",
            lambda i, w, o: _double(i, w, o).astype(np.float32).astype(np.float64),
        ),
    )
}  # fmt: skip


def get_recipe(name: str) -> Recipe:
    """Return the recipe of that name, or raise `UnknownNameError`."""
    return RECIPES[chosen("recipe", name, RECIPES)]


def as_scales(name: str, scale: npt.ArrayLike) -> F32:
    """Return stored scales as float32, checked to be finite and positive.

    Scales are float32 in the files: a Python float is rounded to float32 first, as the file would hold it.
    """
    array = backends.parameter(name, scale)
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"{name} must be real numbers; got dtype {array.dtype}.")
    with np.errstate(over="ignore", under="ignore"):
        stored = array.astype(np.float32)
    bad = ~(np.isfinite(stored) & (stored > 0))
    if bad.any():
        raise DomainError(
            f"{name} must be finite, > 0 and representable in float32; got {first_value(array, bad)}{first_index(bad)}."
        )
    return stored


def apply(name: str, input_scale: npt.ArrayLike, weight_scale: npt.ArrayLike, output_scale: npt.ArrayLike) -> Any:
    """Return the real multiplier that recipe `name` makes of the scales, as float64.

    Parameters
    ----------
    name : str
        A key of `RECIPES`.
    input_scale, weight_scale, output_scale : float or array
        Stored scales, ``> 0``; rounded to float32 first; broadcast against each other.

    Returns
    -------
    float or float64 array
        Multipliers; a float32 recipe yields values that are exact in float32.

    Raises
    ------
    UnknownNameError, DomainError
        For an unknown recipe; for a scale that is NaN, infinite, zero or negative, or a product that leaves
        the range of the recipe's type.

    Examples
    --------
    >>> from qengine.requant import recipes
    >>> issue = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
    >>> recipes.apply("double", *issue)
    0.011111111910680305
    >>> recipes.apply("float32", *issue)            # 585 times this is 6.5 exactly in float32: a tie
    0.011111111380159855
    """
    recipe = get_recipe(name)
    scales = (
        as_scales("input_scale", input_scale),
        as_scales("weight_scale", weight_scale),
        as_scales("output_scale", output_scale),
    )
    try:
        i, w, o = np.broadcast_arrays(*scales)
    except ValueError:
        shapes = ", ".join(str(s.shape) for s in scales)
        raise DomainError(f"the shapes of the scales do not broadcast: {shapes}.") from None
    with np.errstate(all="ignore"):
        real = np.asarray(recipe.compute(i, w, o), dtype=np.float64)
    bad = ~(np.isfinite(real) & (real > 0))
    if bad.any():
        raise DomainError(
            f"recipe {name!r} leaves the range of its type: {recipe.formula} = {first_value(real, bad)}"
            f"{first_index(bad)}."
        )
    return float(real) if real.ndim == 0 else real
