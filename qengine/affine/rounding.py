"""Rounding rules, real to integer: the rows.

Every nearest rule is exact: it decides on the fraction ``v - floor(v)``, which floating point holds exactly, and
never on ``floor(v + 0.5)``, which turns 0.49999999999999994 into 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from qengine.kernels.codes import (
    HALF_AWAY,
    HALF_DOWN,
    HALF_EVEN,
    HALF_TOWARD_ZERO,
    HALF_UP,
    ROUND_CEIL,
    ROUND_FLOOR,
    ROUND_TRUNC,
    STOCHASTIC,
)

from ..arguments import chosen


@dataclass(frozen=True, slots=True)
class Rounding:
    """One rounding rule.

    Attributes
    ----------
    name, aliases : str, tuple of str
    formula : str
        What it does to a real v.
    ties : tuple of int
        Results for 0.5, 1.5, 2.5, -0.5, -1.5; empty for `stochastic`.
    code : int
        Number that the kernels know it by.
    used_by : str
        Who rounds like this.
    """

    name: str
    aliases: tuple[str, ...]
    formula: str
    ties: tuple[int, ...]
    code: int
    used_by: str


_ROWS = (
    Rounding(
        "half-even", ("rne", "rint", "bankers", "nearest-even"), "nearest integer, ties to the even one",
        (0, 2, 2, 0, -2), HALF_EVEN, "ONNX, ONNX Runtime, XNNPACK, PyTorch, FBGEMM, oneDNN, TensorRT, StableHLO",
    ),
    Rounding(
        "half-away", ("round", "half-away-from-zero"), "sign(v) * floor(|v| + 1/2)",
        (1, 2, 3, -1, -2), HALF_AWAY, "C round(): TFLite reference QUANTIZE, TVM TONEAREST, ncnn, MNN, NVDLA",
    ),
    Rounding(
        "half-up", ("half-toward-positive",), "floor(v + 1/2)",
        (1, 2, 3, 0, -1), HALF_UP, "ruy, XNNPACK rndnu, TOSA, TVM UPWARD, TensorFlow uniform_quantize",
    ),
    Rounding(
        "half-down", ("half-toward-negative",), "ceil(v - 1/2)",
        (0, 1, 2, -1, -2), HALF_DOWN, "HiFi OUT16, first stage",
    ),
    Rounding(
        "half-toward-zero", ("half-zero",), "sign(v) * ceil(|v| - 1/2)",
        (0, 1, 2, 0, -1), HALF_TOWARD_ZERO, "TFLITE_EMULATE_FLOAT mantissas",
    ),
    Rounding("floor", ("down",), "floor(v)", (0, 1, 2, -1, -2), ROUND_FLOOR, "arithmetic shift right"),
    Rounding("ceil", ("up",), "ceil(v)", (1, 2, 3, 0, -1), ROUND_CEIL, "sizes and shapes"),
    Rounding(
        "trunc", ("toward-zero", "truncate"), "sign(v) * floor(|v|)", (0, 1, 2, 0, -1), ROUND_TRUNC,
        "C casts, Ethos-U TRUNCATE, Arm Compute Library TO_ZERO",
    ),
    Rounding(
        "stochastic", (), "floor(v) + 1 with probability v - floor(v), else floor(v); element i has a word of its own "
        "of Philox4x32-10 keyed by the seed", (), STOCHASTIC, "training; oneDNN rounding_mode stochastic",
    ),
)  # fmt: skip
ROUNDINGS: dict[str, Rounding] = {row.name: row for row in _ROWS}
_NAMES = {name: row for row in _ROWS for name in (row.name, *row.aliases)}


def get_rounding(name: str) -> Rounding:
    """Return the rounding rule of that name or alias.

    Examples
    --------
    >>> from qengine.affine.rounding import get_rounding
    >>> get_rounding("half-away").ties        # 0.5, 1.5, 2.5, -0.5, -1.5
    (1, 2, 3, -1, -2)
    >>> get_rounding("rne").name
    'half-even'
    """
    return _NAMES[chosen("rounding rule", name, _NAMES)]
