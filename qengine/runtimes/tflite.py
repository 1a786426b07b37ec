"""Rows of TFLite's kernels: LiteRT and TensorFlow on x86-64, LiteRT and tflite-runtime on 64-bit Arm.

Paths: ``xnnpack`` is the default interpreter (operators that XNNPACK declines run the optimized kernel there),
``opt`` BUILTIN_WITHOUT_DEFAULT_DELEGATES, ``ref`` BUILTIN_REF.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .arithmetic import FloatChain, Scheme, Staged
from .fronts import Convention
from .lookups import FixedSoftmax, FloatSoftmax, Logistic
from .lstm import Lstm
from .means import BiasedMean, FloatMean, IntegerAverage, ReducedMean
from .resizing import FixedWeights, FloatLerp, TenBits
from .row import ARM, X86, Body, Evidence, Profile
from .sums import AffineSum, StagedSum

MEASURED, CHECKED = "2026-11-21", "2026-11-22"
#: Fronts of operators that were not run on TensorFlow.
NOT_RUN = frozenset({"lookup", "rows", "resizing", "sequence"})
PATHS = ("xnnpack", "opt", "ref")
#: Variant of MUL: rows of uint8 codes against one code each.
ONE_CODE = "u8-one"

FP32, FP32_WRAPS = Scheme("fp32"), Scheme("fp32", overflow="wrap")
UP, AWAY = Scheme("double-up", overflow="wrap"), Scheme("double", overflow="wrap")
UP_PRODUCT = Scheme("double-up", "float-product", "wrap")
AWAY_PRODUCT = Scheme("double", "float-product", "wrap")
AWAY_FLOAT32 = Scheme("double", "float32", "wrap")
FP64_X86, FP64_ARM = Scheme("fp64-away", overflow="wrap"), FloatChain(64, "half-away", "double")
NEON, NEON_PRODUCT = Staged("single-neon"), Staged("single-neon", "float-product")
RNDNU, RNDNU16 = Staged("rndnu-neon", "float32", "int16-saturates"), Scheme("rndnu16")
SME2 = FloatChain(32, "half-even", "float32")
DW_3X3 = Staged("double-up-left-after", addition="int16-saturates")
INT16X8, VCVT = Scheme("int16x8", overflow="wrap"), Scheme("vcvt")
MUL_OPT, MUL_ONE = Staged("double", "float32", "int16-wraps"), Staged("double", "float32", "int16-cut")
VADD = AffineSum(
    20, "half-up", (2.0**-10, 2.0**8), "XNNPACK declines such an operator, and the builtin kernel runs (path 'opt')"
)
VSUB = replace(VADD, subtracts=True)
SEPARATE, MERGED, FLOORED = StagedSum("separate"), StagedSum("merged"), StagedSum("floored")
SUBTRACT = StagedSum("separate", subtracts=True)
MEAN_X86, MEAN_TF, MEAN_ARM = FloatMean(), FloatMean("half-away"), FloatMean(fused=True)
MEAN_REF, MEAN_BODY, MEAN_TAIL = ReducedMean(), BiasedMean("double-up"), BiasedMean("double")
POOL = IntegerAverage()
QUANTIZE = Convention("xnnpack"), Convention("tflite-opt"), Convention("tflite-ref")
QUANTIZE_TAIL = Convention("tflite-opt-tail")
SUBTRACTING = Convention("tflite-ref", dequantizes=True)
EXPANDED = Convention("tflite-opt", dequantizes=True)
FUSED = Convention("tflite-opt-arm", dequantizes=True)

_KERNELS = "tensorflow/lite/kernels/internal/"
#: Operator -> where XNNPACK, the optimized kernel and the reference compute (the latter two below `_KERNELS`);
#: nothing where XNNPACK takes no such operator.
SOURCES: Mapping[str, tuple[str, str, str]] = {
    "CONV_2D": (
        "XNNPACK src/operators/convolution-nhwc.c, qs8-qc8w-gemm minmax fp32",
        "optimized/integer_ops/conv.h ConvPerChannel (ruy/apply_multiplier.cc)",
        "reference/integer_ops/conv.h ConvPerChannel",
    ),
    "FULLY_CONNECTED": (
        "XNNPACK src/operators/fully-connected-nc.c, qs8-qc8w-gemm minmax fp32",
        "optimized/integer_ops/fully_connected.h FullyConnected (ruy/apply_multiplier.cc)",
        "reference/integer_ops/fully_connected.h FullyConnected",
    ),
    "DEPTHWISE_CONV_2D": (
        "XNNPACK src/operators/convolution-nhwc.c, qs8-qc8w-dwconv minmax fp32",
        "optimized/integer_ops/depthwise_conv.h DepthwiseConvPerChannel",
        "reference/integer_ops/depthwise_conv.h DepthwiseConvPerChannel",
    ),
    "ADD": (
        "XNNPACK src/microparams-init.c xnn_init_qs8_add_minmax_scalar_params",
        "optimized/integer_ops/add.h AddElementwise",
        "reference/add.h AddElementwise",
    ),
    "SUB": (
        "XNNPACK src/microparams-init.c xnn_init_qs8_add_minmax_scalar_params",
        "optimized/optimized_ops.h SubWithActivation",
        "reference/sub.h SubElementwise",
    ),
    "MUL": (
        "XNNPACK qs8-vmul minmax", "optimized/integer_ops/mul.h MulElementwise", "reference/mul.h MulElementwise",
    ),
    "MEAN": (
        "XNNPACK src/operators/reduce-nd.c",
        "optimized/integer_ops/mean.h Mean; reference/reduce.h QuantizedMeanOrSum",
        "reference/reduce.h QuantizedMeanOrSum",
    ),
    "AVERAGE_POOL_2D": (
        "", "optimized/integer_ops/pooling.h AveragePool",
        "reference/integer_ops/pooling.h AveragePool",
    ),
    "QUANTIZE": (
        "XNNPACK qs8-vcvt, f32-qs8-vcvt", "optimized/optimized_ops.h Requantize, AffineQuantize",
        "reference/requantize.h Requantize; reference/quantize.h AffineQuantize",
    ),
    "LOGISTIC": (
        "XNNPACK src/operators/unary-elementwise-nc.c (lookup table)",
        "kernels/activations.cc SigmoidPrepare (lookup table)",
        "kernels/activations.cc SigmoidPrepare (lookup table)",
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (
        "", "reference/portable_tensor_utils.cc; kernels/lstm_eval.cc EvalInteger8x8_16",
        "reference/portable_tensor_utils.cc; kernels/lstm_eval.cc EvalInteger8x8_16",
    ),
    "SOFTMAX": (
        "", "optimized/optimized_ops.h Softmax",
        "reference/softmax.h Softmax",
    ),
    "RESIZE_BILINEAR": (
        "XNNPACK src/indirection.c, s8-ibilinear, u8-ibilinear",
        "optimized/resize_bilinear.h ResizeBilinear", "reference/resize_bilinear.h ResizeBilinear",
    ),
    "DEQUANTIZE": (
        "XNNPACK qs8-f32-vcvt", "optimized/optimized_ops.h Dequantize", "reference/dequantize.h Dequantize",
    ),
}  # fmt: skip
MULTIPLIED, DIVIDED = Logistic("multiplied"), Logistic("divided")
LSTM = Lstm()
SOFTMAX, FIXED_SOFTMAX = FloatSoftmax(), FixedSoftmax()
RESIZE, RESIZE_INT8 = FixedWeights(), TenBits()
RESIZE_OPT, RESIZE_REF = FloatLerp("paired"), FloatLerp("stepwise")
SHORT = {"c": ("accumulator", "per-channel"), "t": ("accumulator", "per-tensor")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Rows of one variant of an operator on the three paths (a missing path is None).

    `count` is the number of recorded outputs on each path; `tail` is what runs beyond `body` on the path ``opt``.
    """

    op: str
    variants: tuple[str, ...]
    front: str
    granularity: str
    run: tuple[Any, Any, Any]
    count: int
    dtype: str = "int8"
    code_dtype: str = "int8"
    body: tuple[int, str] | None = None
    tail: Any = None
    tail_count: int = 0
    tail_names: tuple[str, ...] = ()
    how: str = ""
    date: str = MEASURED


def _family(op: str, variant: str, front: str, run: tuple[Any, Any, Any], count: int, **more: Any) -> Family:
    kind, granularity = SHORT.get(front, (front, "elementwise" if front in ("product", "addition") else "per-tensor"))
    return Family(
        op=op, variants=tuple(variant.split("|")), front=kind, granularity=granularity, run=run, count=count, **more
    )


U8: dict[str, Any] = {"dtype": "uint8", "code_dtype": "uint8"}
I16: dict[str, Any] = {"dtype": "int16", "code_dtype": "int16"}
CONV, FC, DW = "CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"
_UNDELEGATED = "XNNPACK takes no such operator: path 'xnnpack' equals 'opt'"
_UNSEPARATED = "the recorded rows do not separate half up from half away: sums of uint8 codes are not negative"


#: Recorded outputs a path, on x86-64 and on Arm.
_COUNTS = {
    "ADD": (7_864_320, 6_200_000), "SUB": (7_864_320, 5_000_000), "POOL": (163_840, 82_000),
    "f32i8": (1_310_720, 655_000), "i8i8": (2_453_504, 817_000), "tail": (17_970, 0),
}  # fmt: skip


def _common(arm: bool) -> Iterator[Family]:
    """Yield what both ISAs compute alike."""
    count = {name: counts[arm] for name, counts in _COUNTS.items()}
    yield _family("ADD", "|adversarial", "addition", (VADD, MERGED, SEPARATE), count["ADD"],
                  body=(16, "elements"), tail=SEPARATE, tail_count=1_800)  # fmt: skip
    yield _family("ADD", "u8", "addition", (VADD, FLOORED, SEPARATE), 74_286,
                  body=(8, "elements"), tail=SEPARATE, tail_count=0, **U8,
                  how="width of the body taken from the source where few rows separate")  # fmt: skip
    yield _family("SUB", "|adversarial", "addition", (VSUB, SUBTRACT, SUBTRACT), count["SUB"])
    yield _family("SUB", "u8", "addition", (VSUB, SUBTRACT, SUBTRACT), 3_900_000, **U8)
    yield _family("AVERAGE_POOL_2D", "", "pool", (POOL, POOL, POOL), count["POOL"], how=_UNDELEGATED)
    yield _family("AVERAGE_POOL_2D", "u8", "pool", (POOL, POOL, POOL), 11_000, **U8, how=_UNDELEGATED)
    tail: dict[str, Any] = {"body": (16, "elements"), "tail": AWAY}
    yield _family("QUANTIZE", "f32i8", "quantization", QUANTIZE, count["f32i8"],
                  body=(8, "elements"), tail=QUANTIZE_TAIL, tail_count=1_120)  # fmt: skip
    yield _family("QUANTIZE", "f32u8", "quantization", QUANTIZE, 182_000, **U8,
                  body=(8, "elements"), tail=QUANTIZE_TAIL)  # fmt: skip
    yield _family("QUANTIZE", "i8i8", "rescaling", (VCVT, UP, AWAY), count["i8i8"], **tail,
                  tail_count=count["tail"])  # fmt: skip
    yield _family("QUANTIZE", "u8u8", "rescaling", (VCVT, UP, AWAY), 182_000, **U8, **tail)
    both: dict[str, Any] = {**tail, "how": _UNDELEGATED}
    yield _family("QUANTIZE", "i8u8", "rescaling", (UP, UP, AWAY), 182_000, dtype="uint8", **both)
    yield _family("QUANTIZE", "u8i8", "rescaling", (UP, UP, AWAY), 182_000, code_dtype="uint8", **both)


def _x86(mean: FloatMean) -> Iterator[Family]:
    """Yield LiteRT's and TensorFlow's families on x86-64; `mean` is what XNNPACK's MEAN computes there."""
    yield _family(CONV, "perchannel", "c", (FP32_WRAPS, UP, AWAY), 5_308_416)
    yield _family(CONV, "pertensor", "t", (FP32_WRAPS, UP, AWAY), 1_310_720)
    yield _family(CONV, "u8", "t", (FP32, UP_PRODUCT, AWAY_PRODUCT), 164_000, **U8)
    yield _family(CONV, "i16x8_biasint64", "c", (INT16X8, INT16X8, INT16X8), 8_000, **I16, how=_UNDELEGATED)
    yield _family(CONV, "i16x8_biasint32", "c", (UP, UP, AWAY), 8_000, **I16, how=_UNDELEGATED)
    yield _family(FC, "perchannel", "c", (FP32_WRAPS, UP, FP64_X86), 5_308_416)
    yield _family(FC, "pertensor", "t", (FP32_WRAPS, UP_PRODUCT, FP64_X86), 1_310_720)
    yield _family(FC, "u8", "t", (FP32, UP_PRODUCT, FP64_X86), 205_000, **U8)
    yield _family(FC, "perch_i16x8_biasint64|i16x8_biasint64", "c", (FP64_X86, FP64_X86, FP64_X86), 8_000, **I16,
                  how=_UNDELEGATED)  # fmt: skip
    yield _family(FC, "perch_i16x8_biasint32|i16x8_biasint32", "c", (UP, UP, FP64_X86), 8_000, **I16, how=_UNDELEGATED)
    yield _family(DW, "perchannel", "c", (FP32, UP, AWAY), 1_769_472,
                  body=(8, "channels"), tail=AWAY, tail_count=483_800)  # fmt: skip
    yield _family(DW, "u8|u8-3x3|u8-5x5", "t", (FP32, AWAY_PRODUCT, AWAY_PRODUCT), 195_825, **U8,
                  how="XNNPACK declines a filter whose quantized_dimension is not 0: then as opt")  # fmt: skip
    yield _family(DW, "i16x8_biasint64", "c", (INT16X8, INT16X8, INT16X8), 8_000, **I16, how=_UNDELEGATED)
    yield from _common(arm=False)
    yield _family("MUL", "", "product", (FP32, MUL_OPT, AWAY_FLOAT32), 10_485_760,
                  body=(16, "elements"), tail=AWAY_FLOAT32, tail_count=2_400)  # fmt: skip
    yield _family("MUL", "u8", "product", (FP32, MUL_OPT, AWAY_FLOAT32), 300_900, **U8, date=CHECKED,
                  body=(8, "elements"), tail=AWAY_FLOAT32)  # fmt: skip
    yield _family("MUL", ONE_CODE, "product", (None, MUL_ONE, None), 57_360, **U8, date=CHECKED,
                  body=(8, "elements"), tail=AWAY_FLOAT32, how="rows of codes against one code each")  # fmt: skip
    yield _family("MEAN", "keepdims", "mean", (mean, MEAN_BODY, MEAN_REF), 245_760,
                  body=(16, "channels"), tail=MEAN_TAIL, tail_count=840)  # fmt: skip
    yield _family("MEAN", "nokeep", "mean", (mean, MEAN_REF, MEAN_REF), 245_760)
    yield _family("MEAN", "nokeep_u8", "mean", (mean, MEAN_REF, MEAN_REF), 24_000, **U8, date=CHECKED)
    yield _family("MEAN", "keepdims_u8", "mean", (mean, MEAN_BODY, MEAN_REF), 41_000, **U8,
                  body=(16, "channels"), tail=MEAN_TAIL, how=_UNSEPARATED)  # fmt: skip
    for variant, kind in (("", {}), ("u8", U8)):
        yield _family("LOGISTIC", variant, "lookup", (DIVIDED, MULTIPLIED, MULTIPLIED), 192_000, **kind,
                      date=CHECKED, how="output scale 1/256")  # fmt: skip
        yield _family("SOFTMAX", variant, "rows", (SOFTMAX, SOFTMAX, FIXED_SOFTMAX), 27_147, **kind,
                      how=f"{_UNDELEGATED}; 31 more outputs (2026-11-22) tell the two arithmetics apart")  # fmt: skip
    yield _family("UNIDIRECTIONAL_SEQUENCE_LSTM", "8x8_16", "sequence", (LSTM, LSTM, LSTM), 3_360, how=_UNDELEGATED)
    yield _family("RESIZE_BILINEAR", "", "resizing", (RESIZE, RESIZE_INT8, RESIZE_INT8), 205_983)
    yield _family("RESIZE_BILINEAR", "u8", "resizing", (RESIZE, RESIZE_OPT, RESIZE_REF), 862_820, **U8)
    yield _family("DEQUANTIZE", "i8f32", "dequantization", (SUBTRACTING, EXPANDED, SUBTRACTING), 81_920,
                  dtype="float32", body=(8, "elements"), tail=SUBTRACTING)  # fmt: skip
    yield _family("DEQUANTIZE", "u8f32", "dequantization", (SUBTRACTING, EXPANDED, SUBTRACTING), 30_000,
                  dtype="float32", code_dtype="uint8", body=(8, "elements"), tail=SUBTRACTING)  # fmt: skip


def _litert() -> Iterator[Family]:
    """Yield what was run on LiteRT alone, on x86-64."""
    more: dict[str, Any] = {**I16, "date": CHECKED, "how": _UNDELEGATED}
    yield _family(FC, "pert_i16x8_biasint64", "t", (FP64_X86, FP64_X86, FP64_X86), 4_800, **more)
    yield _family(FC, "pert_i16x8_biasint32", "t", (UP_PRODUCT, UP_PRODUCT, FP64_X86), 4_800, **more)


def _arm() -> Iterator[Family]:
    """Yield LiteRT's families on 64-bit Arm."""
    yield _family(CONV, "perchannel|perchannel-overflow", "c", (FP32, NEON, AWAY), 442_000)
    yield _family(CONV, "pertensor", "t", (FP32, NEON, AWAY), 1_310_000)
    yield _family(CONV, "perchannel-1px|pertensor-1px", "c", (None, UP, None), 4_000,
                  how="one output pixel, K >= 8 and N >= 4 (CustomGemv)")  # fmt: skip
    yield _family(CONV, "perchannel-sme2", "c", (SME2, None, None), 4_000, how="processors with SME2")
    yield _family(CONV, "u8", "t", (RNDNU, NEON_PRODUCT, AWAY_PRODUCT), 164_000, **U8)
    yield _family(CONV, "u8-cortexa53", "t", (RNDNU16, None, None), 17_662, **U8, how="Cortex-A53 and A55")
    yield _family(CONV, "i16x8_biasint64", "c", (INT16X8, INT16X8, INT16X8), 393_000, **I16, how=_UNDELEGATED)
    yield _family(CONV, "i16x8_biasint32", "c", (NEON, NEON, AWAY), 393_000, **I16, how=_UNDELEGATED)
    yield _family(FC, "perchannel|perchannel-overflow", "c", (FP32, NEON, FP64_ARM), 442_000)
    yield _family(FC, "pertensor", "t", (FP32, NEON_PRODUCT, FP64_ARM), 1_310_000)
    yield _family(FC, "perchannel-1row", "c", (None, UP, None), 4_000,
                  how="batch 1, K >= 8 and N >= 4 (CustomGemv)")  # fmt: skip
    yield _family(FC, "pertensor-1row", "t", (None, UP_PRODUCT, None), 4_000,
                  how="batch 1, K >= 8 and N >= 4 (CustomGemv)")  # fmt: skip
    yield _family(FC, "perchannel-sme2", "c", (SME2, None, None), 4_000, how="processors with SME2")
    yield _family(FC, "u8", "t", (RNDNU, NEON_PRODUCT, FP64_ARM), 164_000, **U8)
    yield _family(FC, "u8-1row", "t", (None, UP_PRODUCT, None), 164_000, **U8, how="batch 1, K = 32 (CustomGemv)")
    yield _family(FC, "u8-cortexa53", "t", (RNDNU16, None, None), 17_662, **U8, how="Cortex-A53 and A55")
    yield _family(FC, "perch_i16x8_biasint64|i16x8_biasint64", "c", (FP64_ARM, FP64_ARM, FP64_ARM), 393_000, **I16,
                  how=_UNDELEGATED)  # fmt: skip
    yield _family(FC, "perch_i16x8_biasint32|i16x8_biasint32", "c", (NEON, NEON, FP64_ARM), 393_000, **I16,
                  how=_UNDELEGATED)  # fmt: skip
    yield _family(FC, "pert_i16x8_biasint64", "t", (FP64_ARM, FP64_ARM, FP64_ARM), 123_000, **I16, how=_UNDELEGATED)
    yield _family(FC, "pert_i16x8_biasint32", "t", (NEON_PRODUCT, NEON_PRODUCT, FP64_ARM), 123_000, **I16,
                  how=_UNDELEGATED)  # fmt: skip
    yield _family(DW, "perchannel|perchannel-3x3", "c", (FP32, DW_3X3, AWAY), 442_000,
                  how="opt: 3x3 filter, C % 8 == 0, stride 1, VALID")  # fmt: skip
    yield _family(DW, "perchannel-general5x5|perchannel-general", "c", (FP32, UP, AWAY), 4_000,
                  body=(8, "channels"), tail=AWAY, tail_count=2_807, tail_names=("perchannel-tailCmod8",),
                  how="opt: shapes that the 3x3 kernel does not take")  # fmt: skip
    yield _family(DW, "u8|u8-3x3", "t", (RNDNU, Staged("double-up", "float-product"), AWAY_PRODUCT), 164_000, **U8,
                  how="opt: 3x3 filter, C % 8 == 0")  # fmt: skip
    yield _family(DW, "u8-5x5|u8-general", "t", (RNDNU, AWAY_PRODUCT, AWAY_PRODUCT), 164_000, **U8,
                  how="opt: shapes that the 3x3 kernel does not take")  # fmt: skip
    yield _family(DW, "i16x8_biasint64", "c", (INT16X8, INT16X8, INT16X8), 393_000, **I16, how=_UNDELEGATED)
    yield from _common(arm=True)
    yield _family("MUL", "", "product", (RNDNU, MUL_OPT, AWAY_FLOAT32), 3_900_000,
                  body=(16, "elements"), tail=AWAY_FLOAT32)  # fmt: skip
    yield _family("MUL", "u8", "product", (RNDNU, MUL_OPT, AWAY_FLOAT32), 3_900_000, **U8,
                  body=(8, "elements"), tail=AWAY_FLOAT32, how="width of the body as on x86-64")  # fmt: skip
    yield _family("MEAN", "keepdims", "mean", (MEAN_ARM, MEAN_BODY, MEAN_REF), 123_000,
                  body=(16, "channels"), tail=MEAN_TAIL)  # fmt: skip
    yield _family("MEAN", "nokeep", "mean", (MEAN_ARM, MEAN_REF, MEAN_REF), 123_000)
    yield _family("MEAN", "keepdims_u8", "mean", (MEAN_ARM, MEAN_BODY, MEAN_REF), 41_000, **U8,
                  body=(16, "channels"), tail=MEAN_TAIL, how=_UNSEPARATED)  # fmt: skip
    for variant, code, count in (("i8f32", "int8", 41_000), ("u8f32", "uint8", 30_000)):
        yield _family("DEQUANTIZE", variant, "dequantization", (SUBTRACTING, FUSED, SUBTRACTING), count,
                      dtype="float32", code_dtype=code, body=(8, "elements"), tail=SUBTRACTING)  # fmt: skip


def _old_arm() -> Iterator[Family]:
    """Yield tflite-runtime's families on 64-bit Arm: nothing of int8 is delegated there."""
    how = "cortex-a72; a left shift that overflows int32 is not settled"
    yield _family(CONV, "perchannel", "c", (AWAY, AWAY, AWAY), 442_000, how=how)
    yield _family(CONV, "pertensor", "t", (AWAY_PRODUCT, AWAY_PRODUCT, AWAY), 655_000, how=how)
    yield _family(CONV, "perchannel-1px", "c", (UP, UP, None), 442_000, how=f"one pixel, K >= 8, N >= 4; {how}")
    yield _family(FC, "pertensor", "t", (AWAY_PRODUCT, AWAY_PRODUCT, AWAY_PRODUCT), 655_000, how=how)
    yield _family(FC, "pertensor-1row", "t", (UP_PRODUCT, UP_PRODUCT, None), 655_000,
                  how=f"batch 1, K >= 8, N >= 4; {how}")  # fmt: skip
    yield _family(DW, "perchannel|perchannel-3x3", "c", (DW_3X3, DW_3X3, AWAY), 442_000,
                  how=f"3x3 filter, C % 8 == 0; {how}")  # fmt: skip


def _profiles(runtime: str, versions: tuple[str, ...], isa: str, family: Family, how: str) -> Iterator[Profile]:
    along = family.body and f"{family.variants[0]}-tail".lstrip("-")
    note = "; ".join(text for text in (how, family.how) if text)
    same: dict[str, Any] = {
        "runtime": runtime, "versions": versions, "isa": isa, "op": family.op, "dtype": family.dtype,
        "code_dtype": family.code_dtype, "granularity": family.granularity, "front": family.front,
    }  # fmt: skip
    for place, (path, run) in enumerate(zip(PATHS, family.run, strict=True)):
        if run is None:
            continue
        declined = path == "xnnpack" and _UNDELEGATED in note
        source = SOURCES[family.op][1 if declined else place]
        same |= {"path": path, "source": source if place == 0 and not declined else _KERNELS + source}
        # XNNPACK has no tails; where it declines, its path runs the optimized kernel, tail and all.
        split = family.body if path == "opt" or declined else None
        body = Body(*split, along) if split and along else None
        yield Profile(
            variants=family.variants, arithmetic=run, body=body,
            evidence=Evidence(family.count, family.date, note), **same,
        )  # fmt: skip
        if body is not None:
            note = f"{note}; {_TAIL if family.tail_count else _NO_TAIL}"
            yield Profile(
                variants=(body.rest, *family.tail_names), arithmetic=family.tail, body=None,
                evidence=Evidence(family.tail_count, family.date, note),
                **same,
            )  # fmt: skip


_TAIL, _NO_TAIL = "scalar tail", "scalar tail: as the same operator's recorded tails, no rows of its own"
_EMULATED = "the shipped aarch64 machine code under QEMU 11 (cortex-a72), no Arm hardware"
_SKYLAKE = "Xeon with AVX512-VNNI and AMX"


def rows() -> Iterator[Profile]:
    """Yield all rows, newest runtime first."""
    for family in (*_x86(MEAN_X86), *_litert()):
        yield from _profiles("litert", ("2.3.0",), X86, family, _SKYLAKE)
    for family in _arm():
        yield from _profiles("litert", ("2.3.0",), ARM, family, _EMULATED)
    for family in _x86(MEAN_TF):
        both = "2.20.0", "2.21.0"
        for row in _profiles("tensorflow", both, X86, family, f"{_SKYLAKE}; the sweeps of LiteRT 2.3.0"):
            if "uint8" in (row.dtype, row.code_dtype) or row.front in NOT_RUN:
                continue
            # The reference FULLY_CONNECTED per channel came with 2.21.
            new = row.op == FC and row.path == "ref" and row.granularity == "per-channel"
            yield replace(row, versions=both[1:] if new else both)
    for family in _old_arm():
        yield from _profiles("tflite-runtime", ("2.14.0",), ARM, family, _EMULATED)
