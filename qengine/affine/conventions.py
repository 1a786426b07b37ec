"""How runtimes turn a real number into a code and back: the rows.

``q = clamp(round(v) + z, qmin, qmax)`` with ``v = x / s``, or the zero point inside the rounding,
``q = clamp(round(x / s + z), qmin, qmax)``; runtimes differ in the type of the arithmetic, in dividing or
multiplying by a reciprocal, in where z enters and in the rounding rule. f32(), f64() round to that type; s32 is
the scale rounded to float32; fma rounds once. A float64 input of a float32 convention is rounded to float32 first.

What lies beyond the codes saturates, also where the original's conversion to an integer would be undefined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from qengine.kernels.codes import (
    DEQUANTIZE_EXPANDED,
    DEQUANTIZE_FLOAT64,
    DEQUANTIZE_FUSED,
    DEQUANTIZE_SUBTRACT,
    DIVIDE,
    RECIPROCAL,
    ZERO_POINT_AFTER,
    ZERO_POINT_FUSED,
    ZERO_POINT_INSIDE,
)

from ..arguments import chosen

STEPS = {"divide": DIVIDE, "reciprocal": RECIPROCAL}
ZERO_POINTS = {"after": ZERO_POINT_AFTER, "inside": ZERO_POINT_INSIDE, "fused": ZERO_POINT_FUSED}
DEQUANTIZATIONS: dict[str, tuple[int, str]] = {
    "float64": (DEQUANTIZE_FLOAT64, "f64((q - z) * s)"),
    "subtract": (DEQUANTIZE_SUBTRACT, "f32(f32(q - z) * s32)"),
    "expanded": (DEQUANTIZE_EXPANDED, "f32(f32(q * s32) - f32(z * s32))"),
    "fused": (DEQUANTIZE_FUSED, "fma32(q, s32, -f32(z * s32))"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """One way to quantize a real number and to dequantize its code.

    Attributes
    ----------
    name, aliases : str, tuple of str
        Every name means exactly this arithmetic.
    formula : str
        The code before the clamp.
    bits : 32 | 64
        Type of the arithmetic.
    step : "divide" | "reciprocal"
        ``x / s``, or ``x * (1 / s)`` with the reciprocal rounded to the same type.
    zero_point : "after" | "inside" | "fused"
        Added to the rounded integer; added before the rounding; in one fused multiply-add.
    rounding : str
        The rule of the original.
    dequantization : str
        Key of `DEQUANTIZATIONS`.
    symmetric_only : bool
        Whether the original demands zero point 0.
    any_zero_point : bool
        Whether the zero point may lie outside ``[qmin, qmax]``.
    runs_in : tuple of str
        Runtimes and operators.
    evidence : str
        Recorded outputs that it reproduced, or that it was read.
    source : str
        File and function, or specification.
    """

    name: str
    aliases: tuple[str, ...] = ()
    formula: str
    bits: Literal[32, 64]
    step: Literal["divide", "reciprocal"]
    zero_point: Literal["after", "inside", "fused"]
    rounding: str = "half-even"
    dequantization: Literal["float64", "subtract", "expanded", "fused"] = "subtract"
    symmetric_only: bool = False
    any_zero_point: bool = False
    runs_in: tuple[str, ...]
    evidence: str
    source: str

    @property
    def dequantize_formula(self) -> str:
        """The value that a code stands for."""
        return DEQUANTIZATIONS[self.dequantization][1]

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data for JSON."""
        names = [name for name in self.__dataclass_fields__ if name != "dequantization"]
        row = {name: getattr(self, name) for name in names}
        row["aliases"], row["runs_in"] = list(self.aliases), list(self.runs_in)
        return {**row, "dequantize_formula": self.dequantize_formula}


_X86 = "0 mismatches on {} recorded outputs (2026-11-21, x86-64)"
_ROWS = (
    Convention(
        name="calculator",
        aliases=("textbook", "float64"),
        formula="round(f64(f64(x / s) + z))",
        bits=64, step="divide", zero_point="inside",
        dequantization="float64", any_zero_point=True,
        runs_in=("calculators and textbooks",),
        evidence="by definition",
        source="scaled = x / scale + zero_point; q = clamp(round(scaled)); x_hat = (q - zero_point) * scale",
    ),
    Convention(
        name="onnx",
        aliases=("onnxruntime", "ort"),
        formula="rint(f32(x / s32)) + z",
        bits=32, step="divide", zero_point="after",
        runs_in=("ONNX QuantizeLinear", "ONNX Runtime QuantizeLinear, DequantizeLinear (x86-64 and Arm)"),
        evidence=_X86.format("982,980 (QuantizeLinear) and 30,720 (DequantizeLinear)"),
        source="ONNX operator QuantizeLinear; onnxruntime mlas/lib/quantize.cpp MlasQuantizeLinear",
    ),
    Convention(
        name="xnnpack",
        aliases=("litert", "torch-fake", "fbgemm"),
        formula="rint(f32(x * f32(1 / s32))) + z",
        bits=32, step="reciprocal", zero_point="after",
        runs_in=(
            "LiteRT QUANTIZE and DEQUANTIZE through XNNPACK (x86-64 and Arm)",
            "torch.fake_quantize_per_tensor_affine on the CPU",
            "FBGEMM Quantize",
        ),
        evidence=_X86.format("1,311,840 (QUANTIZE), 982,980 (fake_quantize), 81,920 (DEQUANTIZE)"),
        source="XNNPACK f32-qs8-vcvt; ATen fake_quant_per_tensor_affine; fbgemm QuantUtils.h",
    ),
    Convention(
        name="torch",
        aliases=("torch-quantize", "quantize_per_tensor"),
        formula="rint(fma32(x, f32(1 / s32), z))",
        bits=32, step="reciprocal", zero_point="fused",
        runs_in=("torch.quantize_per_tensor, dequantize on the CPU",),
        evidence=_X86.format("982,980 (quantize_per_tensor) and as many codes (dequantize)"),
        source="ATen native/quantized/AffineQuantizer, vectorized",
    ),
    Convention(
        name="torch-cuda",
        formula="rint(f64(x / s)) + z",
        bits=64, step="divide", zero_point="after",
        runs_in=("torch.quantize_per_tensor on CUDA",),
        evidence="read, not run",
        source="ATen native/quantized/cuda/AffineQuantizer.cu (double scale)",
    ),
    Convention(
        name="tflite-ref",
        aliases=("tflite",),
        formula="half_away(f32(x / s32)) + z",
        bits=32, step="divide", zero_point="after", rounding="half-away",
        runs_in=("TFLite/LiteRT reference QUANTIZE and DEQUANTIZE (BUILTIN_REF)",),
        evidence=_X86.format("1,311,840 (QUANTIZE), 81,920 (DEQUANTIZE)"),
        source="tensorflow/lite/kernels/internal/reference/quantize.h AffineQuantize",
    ),
    Convention(
        name="tflite-opt",
        formula="rint(f32(x * f32(1 / s32))) + z",
        bits=32, step="reciprocal", zero_point="after", dequantization="expanded",
        runs_in=("TFLite/LiteRT optimized QUANTIZE and DEQUANTIZE on x86-64, 8-wide body",),
        evidence=_X86.format("1,310,720 (QUANTIZE), 81,920 (DEQUANTIZE)"),
        source="tensorflow/lite/kernels/internal/optimized/optimized_ops.h AffineQuantize, Dequantize",
    ),
    Convention(
        name="tflite-opt-arm",
        formula="rint(f32(x * f32(1 / s32))) + z",
        bits=32, step="reciprocal", zero_point="after", dequantization="fused",
        runs_in=("TFLite/LiteRT optimized QUANTIZE and DEQUANTIZE on 64-bit Arm, 8-wide body",),
        evidence="0 mismatches on 655,000 (QUANTIZE) and 41,000 (DEQUANTIZE) recorded outputs (aarch64, emulated)",
        source="tensorflow/lite/kernels/internal/optimized/optimized_ops.h AffineQuantize, Dequantize (NEON)",
    ),
    Convention(
        name="tflite-opt-tail",
        formula="half_away(f64(x / s)) + z",
        bits=64, step="divide", zero_point="after", rounding="half-away",
        runs_in=("TFLite/LiteRT optimized QUANTIZE, the last size % 8 elements",),
        evidence=_X86.format("1,120"),
        source="tensorflow/lite/kernels/internal/optimized/optimized_ops.h AffineQuantize, scalar tail",
    ),
    Convention(
        name="stablehlo",
        aliases=("onednn", "xnnpack-scalar"),
        formula="rint(f32(f32(x / s32) + z))",
        bits=32, step="divide", zero_point="inside",
        runs_in=("StableHLO uniform_quantize", "oneDNN reference", "XNNPACK's quantization of parameters"),
        evidence="read, not run",
        source="StableHLO specification, uniform_quantize; oneDNN src/cpu/simple_q10n.hpp; XNNPACK xnn_qs8_quantize",
    ),
    Convention(
        name="tensorrt",
        formula="rint(f32(x / s32))",
        bits=32, step="divide", zero_point="after", symmetric_only=True,
        runs_in=("TensorRT IQuantizeLayer, IDequantizeLayer",),
        evidence="documented, not run",
        source="TensorRT operator reference, Quantize: zero point 0 required",
    ),
    Convention(
        name="tf-uniform",
        aliases=("tensorflow-uniform",),
        formula="half_up(f32(x * f32(1 / s32))) + z",
        bits=32, step="reciprocal", zero_point="after", rounding="half-up",
        runs_in=("TensorFlow UniformQuantize",),
        evidence="read, not run; exact half up where the original adds 0.5 in float32",
        source="tensorflow/core/util/quantization/uniform_quant_ops AffineQuantize",
    ),
)  # fmt: skip
CONVENTIONS: Mapping[str, Convention] = MappingProxyType({row.name: row for row in _ROWS})
_NAMES = {name: row for row in _ROWS for name in (row.name, *row.aliases)}


def conventions() -> tuple[Convention, ...]:
    """Return all conventions of quantize and dequantize.

    Returns
    -------
    tuple of Convention

    Examples
    --------
    >>> import qengine as qe
    >>> x = [0.25, -0.25, 0.75]                                 # ties at scale 0.5
    >>> p = qe.QuantParams(0.5, 1, -128, 127)
    >>> for name in ("onnx", "torch", "tflite-ref"):            # even; even with z inside; away from zero
    ...     print(name, qe.quantize(x, p, convention=name))
    onnx [1 1 3]
    torch [2 0 2]
    tflite-ref [2 0 3]
    """
    return _ROWS


def get_convention(name: str | Convention) -> Convention:
    """Return the convention of that name or alias.

    Parameters
    ----------
    name : str or Convention
        A row is returned as it is.

    Returns
    -------
    Convention

    Examples
    --------
    >>> import qengine as qe
    >>> qe.get_convention("onnxruntime").formula
    'rint(f32(x / s32)) + z'
    """
    if isinstance(name, Convention):
        return name
    return _NAMES[chosen("convention", name, _NAMES)]
