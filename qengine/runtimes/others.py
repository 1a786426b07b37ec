"""Rows of ONNX Runtime and of torch on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .arithmetic import FloatChain, OneDnn, Scheme
from .fronts import Convention
from .means import PooledMean
from .row import ARM, X86, Evidence, Profile
from .sums import AffineSum, FusedSum

MEASURED, LATER = "2026-11-21", "2026-11-22"
FP32, QNNPACK = Scheme("fp32"), Scheme("fp32-qnnpack")
ADD_NEON = AffineSum(21, "half-away", (2.0**-14, 2.0**8), "what ONNX Runtime computes there was not recorded")
MUL_X86, MUL_ARM = Scheme("fp32-zp-inside"), FloatChain(32, "half-even", "float32", inside=True)
ONNX, ONNX_BACK = Convention("onnx"), Convention("onnx", dequantizes=True)
SIGNS = {"s8": "int8", "u8": "uint8"}


@dataclass(frozen=True, slots=True)
class _Operator:
    """An operator with its variants: name -> (type of the codes, recorded outputs)."""

    op: str
    path: str
    front: str
    granularity: str
    arithmetic: Any
    variants: tuple[tuple[str, str, int], ...]
    source: str
    how: str = ""
    date: str = MEASURED


def _both(count: int) -> tuple[tuple[str, str, int], ...]:
    return tuple((name, dtype, count) for name, dtype in SIGNS.items())


def _pairs(pattern: str, count: int) -> tuple[tuple[str, str, int], ...]:
    return tuple((pattern.format(f"{name}s8"), dtype, count) for name, dtype in SIGNS.items())


def _onnxruntime(arm: bool) -> Iterator[_Operator]:
    requantize = "onnxruntime core/mlas/lib/quantize.cpp MlasRequantizeOutput"
    # Of the recordings on Arm, the totals over operators are known: `how`. Counts are those of the rows kept.
    conv, columns, tensors, depthwise = (4_000, 4_000, 4_000, 3_041) if arm else (3_145_728, 786_432, 2_424_832, 32_768)
    all_products = "4,980,000 outputs of QLinearConv and QLinearMatMul together" if arm else ""
    yield _Operator(
        "QLinearConv", "cpu", "accumulator", "per-channel", FP32, _pairs("{}_perch", conv), requantize, all_products
    )
    yield _Operator(
        "QLinearConv",
        "cpu",
        "accumulator",
        "per-channel",
        FP32,
        _pairs("depthwise_{}", depthwise),
        requantize,
        all_products,
    )
    yield _Operator(
        "QLinearMatMul",
        "cpu",
        "accumulator",
        "per-channel",
        FP32,
        _pairs("{}_percol", columns),
        requantize,
        all_products,
    )
    yield _Operator(
        "QLinearMatMul",
        "cpu",
        "accumulator",
        "per-tensor",
        FP32,
        _pairs("{}_pertensor", tensors),
        requantize,
        all_products,
    )
    if not arm:
        how = "weights of both types, transposed or not, with bias; 3,538,944 outputs of all variants together"
        source = "onnxruntime contrib_ops/cpu/quantization/quant_gemm.cc"
        for pattern, granularity in (("{}_percol", "per-channel"), ("{}_pertensor", "per-tensor")):
            yield _Operator(
                "QGemm", "cpu", "accumulator", granularity, FP32, _pairs(pattern, 589_824), source, how, LATER
            )
        yield _Operator(
            "QLinearGlobalAveragePool", "cpu", "mean", "per-tensor", PooledMean(), _both(47_000),
            "onnxruntime core/mlas/lib/qlgavgpool.cpp",
            "both orders of the axes; and 128,898 sums of both types on which other orders of the scales, or half away "
            "from zero, give another code", LATER,
        )  # fmt: skip
    yield _Operator(
        "QLinearAdd", "cpu", "addition", "elementwise", ADD_NEON if arm else FusedSum(),
        _both(4_000 if arm else 2_621_440),
        f"onnxruntime core/mlas/lib/{'qladd.cpp' if arm else 'intrinsics/avx2/qladd_avx2.cpp'}",
        "3,100,000 outputs of both types together" if arm else "",
    )  # fmt: skip
    yield _Operator(
        "QLinearMul", "cpu", "product", "elementwise", MUL_ARM if arm else MUL_X86,
        _both(3_854 if arm else 2_621_440), "onnxruntime core/mlas/lib/qlmul.cpp",
        "3,100,000 random pairs, and 902 that tell the two roundings of x86-64 apart" if arm else "",
    )  # fmt: skip
    yield _Operator(
        "QuantizeLinear", "cpu", "quantization", "per-tensor", ONNX, _both(491_490),
        "onnxruntime core/mlas/lib/quantize.cpp MlasQuantizeLinear",
    )  # fmt: skip
    yield _Operator(
        "DequantizeLinear", "cpu", "dequantization", "per-tensor", ONNX_BACK, _both(15_360),
        "onnxruntime core/providers/cpu/quantization/quantize_linear.cc",
    )  # fmt: skip


def _torch() -> Iterator[_Operator]:
    quantizer = "ATen/native/quantized/AffineQuantizer.cpp"
    yield _Operator(
        "quantize_per_tensor", "cpu", "quantization", "per-tensor", Convention("torch"), _both(491_490), quantizer
    )
    yield _Operator(
        "fake_quantize_per_tensor", "cpu", "quantization", "per-tensor", Convention("torch-fake"), _both(491_490),
        "ATen/native/quantized/cpu/kernels/QuantizedOpKernels.cpp fake_quantize_tensor_cachemask_kernel",
        "codes, before they are dequantized again",
    )  # fmt: skip
    yield _Operator(
        "dequantize", "cpu", "dequantization", "per-tensor", Convention("torch", dequantizes=True), _both(491_490),
        quantizer,
    )  # fmt: skip
    counts = {"percol": ("per-channel", 983_040), "pertensor": ("per-tensor", 1_228_800)}
    for name, (granularity, count) in counts.items():
        for engine, arithmetic, source in (
            ("fbgemm", FP32, "fbgemm QuantUtilsAvx2.cc requantizeOutputProcessingAvx2"),
            ("x86", FP32, "ATen/native/quantized/cpu/qlinear.cpp; fbgemm QuantUtilsAvx2.cc"),
            ("qnnpack", QNNPACK, "ATen/native/quantized/cpu/qnnpack/src/requantization"),
        ):
            yield _Operator(
                "quantized_linear", engine, "accumulator", granularity, arithmetic, ((name, "uint8", count),), source
            )
        for variant, separate, how in (
            (
                name,
                False,
                "no bias; AMX, K > 16, more than about 256 outputs (on rows that tell the orders apart)",
            ),
            (f"{name}-separate", True, "no bias; K <= 16, or few outputs (1 row, 16 x 16)"),
        ):
            yield _Operator(
                "quantized_linear", "onednn", "accumulator", granularity, OneDnn(separate),
                ((variant, "uint8", count),), "oneDNN src/cpu/simple_q10n.hpp; matmul", how,
            )  # fmt: skip


def rows() -> Iterator[Profile]:
    """Yield all rows."""
    xeon = "Xeon with AVX512-VNNI and AMX"
    emulated = "the shipped aarch64 machine code under QEMU 11 (neoverse-n1), no Arm hardware"
    for runtime, version, isa, operators, how in (
        ("onnxruntime", "1.31.1", X86, _onnxruntime(False), xeon),
        ("onnxruntime", "1.31.1", ARM, _onnxruntime(True), emulated),
        ("torch", "2.13.0", X86, _torch(), xeon),
    ):
        for operator in operators:
            for variant, dtype, count in operator.variants:
                yield Profile(
                    runtime=runtime, versions=(version,), isa=isa, op=operator.op, path=operator.path,
                    variants=(variant,), dtype="float32" if operator.front == "dequantization" else dtype,
                    code_dtype=dtype, granularity=operator.granularity, front=operator.front,
                    arithmetic=operator.arithmetic, body=None,
                    evidence=Evidence(count, operator.date, "; ".join(filter(None, (how, operator.how)))),
                    source=operator.source,
                )  # fmt: skip
