"""The schemes: one row each, the only list of them.

The executable spec, the back ends, the tests, the sweep, the command line and README's table iterate `SCHEMES`.
A new scheme is a new row (README, "Add a scheme").

Notation of the formulas: x int32 accumulator, m Q0.31 mantissa, e TFLite shift (positive is left),
``t = 31 - e``, ``n = max(-e, 0)``; SRDHM = rounding doubling high multiply, half up; RDPOT = rounding divide by
a power of two, half away from zero; HU = rounding right shift, half up; RNE = round to nearest, ties to even;
z zero point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from ..backends.forms import Bias, FloatRule, FloorRule, NestedRule, Rule
from ..exceptions import DTypeError, UnknownNameError, brief

HALF = Bias.same(1)
#: Two-stage rounding of TFLite: the first stage adds 2**30; for x < 0 the second one, half away, takes 2**31 away.
UP_THEN_AWAY = Bias(1, 1 << 30, 1, -(1 << 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One requantization scheme.

    Attributes
    ----------
    name, aliases : str, tuple of str
        Every name means exactly this arithmetic; runtimes' own names are aliases.
    formula : str
        One line, before the zero point unless it stands inside.
    rule : FloorRule | FloatRule | NestedRule
        The normal form and its parameters, as data.
    parameter : str
        What the arithmetic multiplies by: ``q31`` (mantissa and shift), ``float32`` or ``float64`` scale.
    recipe : str
        Default recipe from stored scales (`qengine.requant.recipes`).
    rounding, ties : str
        Rounding stages, and where a tie goes.
    shift_range : (int, int)
        Closed range of the TFLite shift (q31 parameters).
    scale_range : (float, float)
        Half-open range of the scale (float parameters).
    acc_bits : int
        Accumulators are in ``[-2**(acc_bits-1), 2**(acc_bits-1) - 1]``.
    overflow : str
        What the original does outside its contract (``overflow="wrap"`` reproduces it).
    runs_in : tuple of str
        Runtimes and operators that run it.
    source : str
        File and function of the original.
    """

    name: str
    aliases: tuple[str, ...] = ()
    formula: str
    rule: Rule
    parameter: Literal["q31", "float32", "float64"]
    recipe: str
    rounding: str
    ties: str
    shift_range: tuple[int, int] = (-31, 30)
    scale_range: tuple[float, float] = (0.0, float("inf"))
    acc_bits: int = 32
    overflow: str
    runs_in: tuple[str, ...]
    source: str

    @property
    def form(self) -> str:
        """Kind of normal form: ``floor``, ``float`` or ``nested``."""
        return {FloorRule: "floor", FloatRule: "float", NestedRule: "nested"}[type(self.rule)]

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data for JSON."""
        rule: dict[str, Any] = {"kind": self.form}
        for field in self.rule.__dataclass_fields__:
            value = getattr(self.rule, field)
            rule[field] = (
                {"hp": value.hp, "cp": value.cp, "hn": value.hn, "cn": value.cn}
                if isinstance(value, Bias) else value
            )  # fmt: skip
        return {
            "name": self.name, "aliases": list(self.aliases), "formula": self.formula, "rule": rule,
            "parameter": self.parameter, "recipe": self.recipe, "rounding": self.rounding, "ties": self.ties,
            "shift_range": list(self.shift_range) if self.parameter == "q31" else None,
            "scale_range": [s if s != float("inf") else None for s in self.scale_range]
            if self.parameter != "q31" else None,
            "acc_bits": self.acc_bits, "overflow": self.overflow, "runs_in": list(self.runs_in),
            "source": self.source,
        }  # fmt: skip


_ROWS = (
    Scheme(
        name="single",
        aliases=("tflite-single", "ruy", "cmsis-nn-single", "tosa-single", "tvm-upward", "ethos-u-natural"),
        formula="floor((m*x + 2^(t-1)) / 2^t)",
        rule=FloorRule("q31", 31, right=HALF, none=HALF, left=HALF),
        parameter="q31",
        recipe="double",
        rounding="once, half up",
        ties="toward +inf",
        overflow="keeps the low 32 bits of the result (checked only in debug builds)",
        runs_in=(
            "TFLite built with TFLITE_SINGLE_ROUNDING=1 (no released build)",
            "ruy on Arm and its portable path",
            "CMSIS-NN with CMSIS_NN_USE_SINGLE_ROUNDING",
            "TOSA RESCALE SINGLE_ROUND",
            "TVM UPWARD (int64)",
            "Ethos-U NATURAL",
        ),
        source="TFLite internal/common.cc MultiplyByQuantizedMultiplier (single); "
        "ruy/apply_multiplier.cc; TOSA scale_helpers apply_scale_32",
    ),
    Scheme(
        name="double",
        aliases=("tflite", "gemmlowp", "cmsis-nn", "tosa-double", "ethos-u-tfl"),
        formula="RDPOT(SRDHM(x << max(e,0), m), n)",
        rule=FloorRule("q31", 31, right=UP_THEN_AWAY, none=HALF, left=HALF, shifts_accumulator=True),
        parameter="q31",
        recipe="double",
        rounding="twice: half up, then half away from zero",
        ties="away from zero; near-ties within 2^-(n+1) too",
        overflow="x << e wraps in int32",
        runs_in=(
            "TFLite/LiteRT reference CONV_2D, DEPTHWISE_CONV_2D, MUL, QUANTIZE int8",
            "TFLite Micro",
            "CMSIS-NN (default)",
            "gemmlowp",
            "TOSA RESCALE DOUBLE_ROUND",
            "Ethos-U TFL rounding",
        ),
        source="TFLite internal/common.cc MultiplyByQuantizedMultiplier; gemmlowp fixedpoint.h "
        "SaturatingRoundingDoublingHighMul, RoundingDivideByPOT",
    ),
    Scheme(
        name="double-up",
        aliases=("ruy-x86", "tflite-neon", "tvm-arm", "hexagon-nn"),
        formula="HU(SRDHM(x << max(e,0), m), n)",
        rule=FloorRule("q31", 31, right=Bias.same(1, 1 << 30), none=HALF, left=HALF, shifts_accumulator=True),
        parameter="q31",
        recipe="double",
        rounding="twice: half up, then half up",
        ties="toward +inf; near-ties below by 2^-(n+1) too",
        overflow="x << e wraps in int32",
        runs_in=(
            "LiteRT without XNNPACK on x86-64: CONV_2D, FULLY_CONNECTED (ruy), DEPTHWISE_CONV_2D body",
            "LiteRT without XNNPACK: QUANTIZE int8 body",
            "TFLite NEON kernels (4 rows)",
            "TVM q_multiply_shift on AArch64",
            "Hexagon NN",
        ),
        source="ruy/kernel_avx512.cc; TFLite internal/common.h MultiplyByQuantizedMultiplier4Rows",
    ),
    Scheme(
        name="half-away",
        aliases=("tvm-tonearest",),
        formula="sign(x) * floor((m*|x| + 2^(t-1)) / 2^t)",
        rule=FloorRule("q31", 31, right=Bias(1, 0, 1, -1), none=Bias(1, 0, 1, -1), left=Bias(1, 0, 1, -1)),
        parameter="q31",
        recipe="double",
        rounding="once, half away from zero",
        ties="away from zero",
        overflow="keeps the low 32 bits of the result",
        runs_in=("TVM TONEAREST (int64)",),
        source="TVM src/target/intrin_rule.cc q_multiply_shift, TONEAREST",
    ),
    Scheme(
        name="floor-port",
        aliases=("python-port",),
        formula="RDPOT(floor((m*x + (2^30 if m*x >= 0 else 1 - 2^30)) / 2^31), n)",
        rule=FloorRule(
            "q31", 31,
            right=Bias(1, 1 << 30, 1, 1 - (1 << 30) - (1 << 31)),
            none=Bias(1, 0, -1, 1),
            left=Bias(1, 0, -1, 0),
            shifts_accumulator=True,
        ),
        parameter="q31",
        recipe="double",
        rounding="twice, the first stage wrong: the sign-dependent nudge of C++ with a flooring shift",
        ties="one too low for nearly every negative product before the right shift",
        overflow="Python integers do not overflow",
        runs_in=("Python ports of gemmlowp (no runtime)",),
        source="the widespread port of SaturatingRoundingDoublingHighMul with >> 31 instead of C++'s "
        "truncating division",
    ),
    Scheme(
        name="int16x8",
        aliases=("tflite-int16x8", "cmsis-nn-s64"),
        formula="floor((r*x + 2^(14-e)) / 2^(15-e)),  r = min((m + 2^15) >> 16, 32767)",
        rule=FloorRule("q15-saturated", 15, right=HALF, none=HALF, left=HALF),
        parameter="q31",
        recipe="double",
        rounding="once, half up, 15-bit multiplier",
        ties="toward +inf",
        shift_range=(-31, 7),
        acc_bits=48,
        overflow="keeps the low 32 bits of the result (asserted only in debug builds)",
        runs_in=(
            "TFLite/LiteRT int16x8 CONV_2D and DEPTHWISE_CONV_2D with int64 bias",
            "CMSIS-NN arm_nn_requantize_s64",
        ),
        source="TFLite internal/common.cc MultiplyByQuantizedMultiplier(int64_t)",
    ),
    Scheme(
        name="rndnu",
        aliases=("xnnpack-rndnu",),
        formula="floor((m24*x + 2^(t-1)) / 2^t),  scale = m24 * 2^-t",
        rule=FloorRule("m24", 24, right=HALF, none=HALF, left=HALF),
        parameter="float32",
        recipe="float32",
        rounding="once, half up, exact mantissa of the float32 scale",
        ties="toward +inf",
        scale_range=(2.0**-32, 256.0),
        overflow="scalar code keeps the low 32 bits; NEON saturates",
        runs_in=("XNNPACK qu8 conv/gemm and qs8 vmul on Arm",),
        source="XNNPACK src/xnnpack/requantization.h, rndnu",
    ),
    Scheme(
        name="rndnu16",
        aliases=("xnnpack-rndnu16",),
        formula="floor((sat16(HU(x, -e)) * m15 + 2^14) / 2^15),  z added in saturating int16",
        rule=NestedRule(),
        parameter="float32",
        recipe="float32",
        rounding="twice: pre-shift half up, then half up",
        ties="toward +inf in both stages",
        scale_range=(2.0**-32, 256.0),
        overflow="saturates to int16",
        runs_in=("XNNPACK qu8 gemm/igemm on Cortex-A53",),
        source="XNNPACK src/xnnpack/requantization.h, rndnu16",
    ),
    Scheme(
        name="rndna",
        aliases=("xnnpack-rndna", "qnnpack-precise"),
        formula="sign(x) * floor((m24*|x| + 2^(t-1)) / 2^t),  scale = m24 * 2^-t",
        rule=FloorRule("m24", 24, right=Bias(1, 0, 1, -1), none=Bias(1, 0, 1, -1), left=Bias(1, 0, 1, -1)),
        parameter="float32",
        recipe="float32",
        rounding="once, half away from zero, exact mantissa of the float32 scale",
        ties="away from zero",
        scale_range=(2.0**-32, 256.0),
        overflow="keeps the low 32 bits of the result",
        runs_in=("XNNPACK before 2024-10 (rndna)", "QNNPACK precise"),
        source="QNNPACK src/requantization/precise-scalar.c",
    ),
    Scheme(
        name="q31",
        aliases=("qnnpack-q31", "xnnpack-gemmlowp"),
        formula="RDPOT(SRDHM(x, m24 << 7), n),  scale = m24 * 2^(e-24)",
        rule=FloorRule("m24<<7", 31, right=UP_THEN_AWAY, none=HALF, left=HALF),
        parameter="float32",
        recipe="float32",
        rounding="twice: half up, then half away from zero; mantissa of the float32 scale",
        ties="away from zero; near-ties within 2^-(n+1) too",
        scale_range=(2.0**-32, 1.0),
        overflow="none within its domain",
        runs_in=("QNNPACK (2019) conv, gemm, dwconv", "XNNPACK before 2024-10 (gemmlowp)"),
        source="QNNPACK src/qnnpack/requantization.h pytorch_qnnp q31",
    ),
    Scheme(
        name="vcvt",
        aliases=("xnnpack-vcvt",),
        formula="floor((m*x + 128) / 256),  m = RNE(256*S)",
        rule=FloorRule("q8", 8, right=HALF, none=HALF, left=HALF),
        parameter="float32",
        recipe="float32",
        rounding="once, half up, the float32 scale in 8.8 fixed point",
        ties="toward +inf",
        scale_range=(2.0**-8, 2.0**7 + 2.0**-16),  # 2**7 is inside: the bound is the next float32
        overflow="does not occur: x is the difference of two 8-bit codes",
        runs_in=(
            "TFLite/LiteRT default interpreter (XNNPACK): QUANTIZE int8 to int8 and uint8 to uint8 "
            "(x = code - input zero point, weight_scale = 1)",
        ),
        source="XNNPACK src/microparams-init.c xnn_init_qs8_cvt_scalar_params; src/qs8-vcvt/scalar.c.in",
    ),
    Scheme(
        name="tosa-scale16",
        aliases=("tosa-apply-scale-16",),
        formula="floor((m15*x + 2^(t-1)) / 2^t),  M = m15 * 2^-t",
        rule=FloorRule("m15", 15, right=HALF, none=HALF, left=HALF),
        parameter="q31",
        recipe="double",
        rounding="once, half up, 15-bit multiplier",
        ties="toward +inf",
        shift_range=(-47, 13),
        acc_bits=48,
        overflow="undefined: the specification requires that the result fits int32",
        runs_in=("TOSA RESCALE with scale32 = false (int48 accumulators)",),
        source="TOSA specification, scale_helpers apply_scale_16",
    ),
    Scheme(
        name="truncate",
        aliases=("ethos-u-truncate",),
        formula="sign(x) * floor(m*|x| / 2^t)",
        rule=FloorRule("q31", 31, right=Bias(0, 0, 2, -1), none=Bias(0, 0, 2, -1), left=Bias(0, 0, 2, -1)),
        parameter="q31",
        recipe="double",
        rounding="toward zero",
        ties="toward zero",
        overflow="hardware; out-of-contract results are not documented",
        runs_in=("Ethos-U TRUNCATE",),
        source="ethos-u-vela, rounding mode TRUNCATE of the command stream",
    ),
    Scheme(
        name="avx2-int16",
        aliases=("tflite-avx2",),
        formula="floor((m*x << max(e,0)) / 2^31) if e >= 0 else floor((m*x + 2^(t-1)) / 2^t)",
        rule=FloorRule(
            "q31", 31, right=HALF, none=Bias.same(0), left=Bias.same(0),
            shifts_accumulator=True, nudge_saturates=True,
        ),
        parameter="q31",
        recipe="double",
        rounding="floor for e >= 0, once half up for e < 0",
        ties="toward -inf for e >= 0, toward +inf for e < 0",
        overflow="x << e wraps in int32; where the nudge would overflow, sources disagree: refused",
        runs_in=("TFLite AVX2 int16 ADD, SUB, LEAKY_RELU, body of 16",),
        source="TFLite optimized/avx2_quantization_utils.h MultiplyByQuantizedMultiplier",
    ),
    Scheme(
        name="hifi-out16",
        aliases=("xtensa-hifi-out16",),
        formula="sat16(RDPOT(half_down(m*x / 2^31), n))",
        rule=FloorRule(
            "q31", 31,
            right=Bias(1, (1 << 30) - 1, 1, -(1 << 30) - 1),
            none=Bias.same(1, -1),
            left=Bias.same(1, -1),
            shifts_accumulator=True,
            saturate_bits=16,
        ),
        parameter="q31",
        recipe="double",
        rounding="twice: half down, then half away from zero; result saturated to int16",
        ties="toward -inf in the first stage",
        overflow="x << e wraps or saturates by macro; the result saturates to int16",
        runs_in=("Cadence HiFi4/5 nnlib OUT16 macros (semantics read, not run)",),
        source="nnlib-hifi4 xa_nnlib_quant_macros.h, OUT16",
    ),
    Scheme(
        name="fp32",
        aliases=("xnnpack", "xnnpack-fp32", "onnxruntime", "fbgemm"),
        formula="RNE(f32(f32(x) * S))",
        rule=FloatRule(32, "half-even", clamps_before_conversion=True),
        parameter="float32",
        recipe="float32",
        rounding="the product to float32, then half to even",
        ties="to even; float32 near-ties count as ties",
        overflow="XNNPACK gemm on x86: conversion gives INT32_MIN and adding z wraps; others saturate",
        runs_in=(
            "TFLite/LiteRT default interpreter (XNNPACK): CONV_2D, FULLY_CONNECTED, DEPTHWISE_CONV_2D, MUL",
            "ONNX Runtime QLinearConv, QLinearMatMul",
            "torch quantized::linear with fbgemm and x86",
        ),
        source="XNNPACK src/xnnpack/requantization.h fp32; MLAS MlasRequantizeOutput; FBGEMM QuantUtils.h",
    ),
    Scheme(
        name="fp32-qnnpack",
        aliases=("torch-qnnpack",),
        formula="RNE(f32(f32(x) * S)),  S = f32(f32(i*w) * f32(1/o))",
        rule=FloatRule(32, "half-even"),
        parameter="float32",
        recipe="float32-reciprocal",
        rounding="the product to float32, then half to even",
        ties="to even; float32 near-ties count as ties",
        overflow="conversion gives INT32_MIN on x86; NEON saturates",
        runs_in=("torch quantized::linear with the qnnpack engine",),
        source="PyTorch aten/src/ATen/native/quantized/cpu/qnnpack, requantization",
    ),
    Scheme(
        name="fp32-away",
        aliases=("mnn",),
        formula="half_away(f32(f32(x) * S))",
        rule=FloatRule(32, "half-away"),
        parameter="float32",
        recipe="float32",
        rounding="the product to float32, then half away from zero",
        ties="away from zero; float32 near-ties count as ties",
        overflow="clamps before the conversion",
        runs_in=("MNN int8 kernels",),
        source="MNN source/backend/cpu/compute/Int8FunctionsOpt.cpp",
    ),
    Scheme(
        name="fp32-zp-inside",
        aliases=("ort-qlinearmul",),
        formula="RNE(f32(f32(f32(x) * S) + z))",
        rule=FloatRule(32, "half-even", zero_point_inside=True),
        parameter="float32",
        recipe="float32",
        rounding="product and sum to float32, then half to even with the zero point inside",
        ties="to even of result + z: depends on the parity of z",
        overflow="clamps before the conversion",
        runs_in=("ONNX Runtime QLinearMul", "oneDNN-style epilogues"),
        source="onnxruntime core/mlas/lib/qlmul.cpp",
    ),
    Scheme(
        name="fp64-away",
        aliases=("tflite-fc-ref",),
        formula="half_away(f64(x) * M)",
        rule=FloatRule(64, "half-away", saturates=False),
        parameter="float64",
        recipe="double",
        rounding="the product to float64, then half away from zero",
        ties="away from zero",
        overflow="conversion gives INT32_MIN on x86 and adding z wraps",
        runs_in=("TFLite/LiteRT reference FULLY_CONNECTED (TensorFlow >= 2.20)",),
        source="LiteRT kernels/internal/reference/integer_ops/fully_connected.h",
    ),
)  # fmt: skip

#: Every scheme by its name, in the order of README's table.
SCHEMES: Mapping[str, Scheme] = MappingProxyType({row.name: row for row in _ROWS})
ALIASES: Mapping[str, str] = MappingProxyType({alias: row.name for row in _ROWS for alias in row.aliases})


def schemes() -> tuple[Scheme, ...]:
    """Return all rows, in order.

    Returns
    -------
    tuple of Scheme

    Examples
    --------
    >>> import qengine as qe
    >>> [row.name for row in qe.schemes()][:3]
    ['single', 'double', 'double-up']
    """
    return tuple(SCHEMES.values())


def get_scheme(name: str | Scheme) -> Scheme:
    """Return the row of a scheme by name or alias.

    Parameters
    ----------
    name : str or Scheme
        A row is returned as it is.

    Returns
    -------
    Scheme

    Raises
    ------
    UnknownNameError
        For an unknown name; the text lists the closest ones.

    Examples
    --------
    >>> import qengine as qe
    >>> qe.get_scheme("gemmlowp").name              # -0.25 * 2 -> a tie: away from zero
    'double'
    """
    if isinstance(name, Scheme):
        return name
    if not isinstance(name, str):
        several = "; give each name by itself, not in a list" if isinstance(name, list | tuple) else ""
        raise DTypeError(f"a scheme is given by its name; got {brief(name)}{several}.")
    row = SCHEMES.get(name) or SCHEMES.get(ALIASES.get(name, ""))
    if row is None:
        raise UnknownNameError.of("scheme", name, [*SCHEMES, *ALIASES])
    return row
