"""The same jobs with other packages: a row names the job, the peer, and how one would do it with that package.

Everything runs on one thread; `bench_peers` compares results before it compares times.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import qengine as qe

from . import common

SOURCE = Path(__file__).with_name("plain.cpp")
MULTIPLIER = qe.quantize_multiplier(common.MULTIPLIER)
VALUE, RIGHT, Z = int(MULTIPLIER.value), -int(MULTIPLIER.shift), common.ZERO_POINT
SCALE32 = np.float32(common.MULTIPLIER)
#: A power of two, so that fixed-point packages have it too.
STEP = np.float32(1 / 16)
PARAMS = qe.QuantParams(float(STEP), Z, -128, 127)
CENTRED = qe.QuantParams(float(STEP), 0, -128, 127)
SWEPT = 1 << 24
#: Vector instructions that evaluating a pair of single and double takes at least, where accumulators come in order:
#: an addition and a shift for either, a difference, a sum.
OF_A_PAIR = 6
Call = Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """What is done: qengine's call for `size` elements, and the peers' (by name), each with a size of its own."""

    ours: Callable[[int], Call]
    size: int
    peers: dict[str, tuple[Callable[[int], Call], int]]


def samples(size: int) -> np.ndarray:
    return np.random.default_rng(2**18 + 7).standard_normal(size, dtype=np.float32) * np.float32(2)


def codes(size: int) -> np.ndarray:
    return np.random.default_rng(2**18 + 8).integers(-128, 128, size).astype(np.int8)


# --- plain C++ -----------------------------------------------------------------------------------------------


@functools.cache
def library() -> ctypes.CDLL:
    """Build the plain formulation for this processor."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise NotImplementedError("the plain C++ formulation needs g++")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.so"
        options = ["-O3", "-march=native", "-std=c++17", "-shared", "-fPIC"]
        subprocess.run([compiler, *options, "-o", str(path), str(SOURCE)], check=True, capture_output=True)
        loaded = ctypes.CDLL(str(path))
    i32, i64, f32, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
    for name, arguments in {
        "requantize_single": (pointer, i64, i32, i32, i32, pointer),
        "requantize_double": (pointer, i64, i32, i32, i32, pointer),
        "requantize_fp32": (pointer, i64, f32, i32, pointer),
        "quantize": (pointer, i64, f32, i32, pointer),
        "dequantize": (pointer, i64, f32, i32, pointer),
        "sweep": (i32, i64, i32, i32),
        "multiplications": (i64, pointer),
    }.items():
        getattr(loaded, name).argtypes = arguments
    loaded.sweep.restype = loaded.multiplications.restype = i64
    return loaded


def _cpp(name: str, data: Callable[[int], np.ndarray], dtype: Any, *numbers: Any) -> Callable[[int], Call]:
    def make(size: int) -> Call:
        function, x = getattr(library(), name), data(size)
        out = np.empty(size, dtype)
        fixed = x.ctypes.data, size, *numbers, out.ctypes.data

        def call(x: np.ndarray = x) -> np.ndarray:  # x as a default keeps it alive
            function(*fixed)
            return out

        return call

    return make


def multiplications_per_second() -> float:
    """Products of 32 by 32 bits that one core finishes a second, in vectors as wide as it has.

    Multiplications run on the ports of all vector arithmetic: this is also the rate of other instructions, in lanes.
    """
    rounds, sink = 1 << 15, ctypes.c_int64()
    width = library().multiplications(1, ctypes.byref(sink))
    if width == 0:
        raise NotImplementedError("the limit of multiplications needs AVX2")
    (seconds,) = common.best_seconds(lambda: library().multiplications(rounds, ctypes.byref(sink)))
    return rounds * width / seconds


# --- requantize ----------------------------------------------------------------------------------------------


def _ours_requantize(scheme: str) -> Callable[[int], Call]:
    def make(size: int) -> Call:
        acc, out = common.accumulators(size), np.empty(size, np.int8)
        real = common.MULTIPLIER if scheme == "fp32" else MULTIPLIER
        return lambda: qe.requantize(acc, real, scheme=scheme, zero_point=Z, dtype="int8", out=out)

    return make


def _numpy_single(size: int) -> Call:
    acc, shift = common.accumulators(size), 31 + RIGHT
    half = np.int64(1) << (shift - 1)
    return lambda: np.clip(((acc.astype(np.int64) * VALUE + half) >> shift) + Z, -128, 127).astype(np.int8)


def _numpy_double(size: int) -> Call:
    acc, mask = common.accumulators(size), (1 << RIGHT) - 1

    def call() -> np.ndarray:
        product = acc.astype(np.int64) * VALUE
        product += np.where(product >= 0, 1 << 30, 1 - (1 << 30))
        high = np.where(product >= 0, product >> 31, -((-product) >> 31))  # C++ divides toward zero
        high = (high >> RIGHT) + ((high & mask) > (mask >> 1) + (high < 0))
        return np.clip(high + Z, -128, 127).astype(np.int8)

    return call


def _numpy_fp32(size: int) -> Call:
    acc = common.accumulators(size)
    return lambda: np.clip(np.rint(acc.astype(np.float32) * SCALE32) + Z, -128, 127).astype(np.int8)


def _torch_single(size: int) -> Call:
    torch = torch_package()
    acc, shift = torch.from_numpy(common.accumulators(size)), 31 + RIGHT
    half = 1 << (shift - 1)
    return lambda: (((acc.to(torch.int64) * VALUE + half) >> shift) + Z).clamp(-128, 127).to(torch.int8)


def _torch_fp32(size: int) -> Call:
    torch = torch_package()
    acc, scale = torch.from_numpy(common.accumulators(size)), float(SCALE32)
    return lambda: ((acc.to(torch.float32) * scale).round() + Z).clamp(-128, 127).to(torch.int8)


def _onnxruntime_fp32(size: int) -> Call:
    session = _session("INT32", "INT8", ("DequantizeLinear", SCALE32, 0, "INT32"), ("QuantizeLinear", 1.0, Z, "INT8"))
    acc = common.accumulators(size)
    return lambda: session.run(None, {"x": acc})[0]


def _apytypes_single(size: int) -> Call:
    import apytypes

    acc = apytypes.APyFixedArray.from_array(common.accumulators(size), int_bits=32, frac_bits=0)
    real = apytypes.APyFixed(VALUE, int_bits=1 - RIGHT, frac_bits=31 + RIGHT)
    offset = apytypes.APyFixed(Z & 0xFF, int_bits=8, frac_bits=0)
    rule, limit = apytypes.QuantizationMode.RND, apytypes.OverflowMode.SAT
    return lambda: (acc * real + offset).cast(int_bits=8, frac_bits=0, quantization=rule, overflow=limit)


def _python_single(size: int) -> Call:
    acc, shift = common.accumulators(size).tolist(), 31 + RIGHT
    half = 1 << (shift - 1)
    return lambda: [min(max(((x * VALUE + half) >> shift) + Z, -128), 127) for x in acc]


# --- quantize, dequantize ------------------------------------------------------------------------------------


def _ours_quantize(params: qe.QuantParams, convention: str = "onnx") -> Callable[[int], Call]:
    def make(size: int) -> Call:
        x, out = samples(size), np.empty(size, np.int8)
        return lambda: qe.quantize(x, params, convention=convention, out=out)

    return make


def _numpy_quantize(size: int) -> Call:
    x = samples(size)
    return lambda: np.clip(np.rint(x / STEP) + Z, -128, 127).astype(np.int8)


def _numpy_quantize64(size: int) -> Call:
    x, step = samples(size), np.float64(STEP)
    return lambda: np.clip(np.rint(x / step + Z), -128, 127).astype(np.int8)


def _torch_quantize(size: int) -> Call:
    torch = torch_package()
    x, scale = torch.from_numpy(samples(size)), float(STEP)
    return lambda: torch.quantize_per_tensor(x, scale, Z, torch.qint8).int_repr()


def _onnxruntime_quantize(size: int) -> Call:
    session, x = _session("FLOAT", "INT8", ("QuantizeLinear", STEP, Z, "INT8")), samples(size)
    return lambda: session.run(None, {"x": x})[0]


def _python_quantize(size: int) -> Call:
    x, step = samples(size).tolist(), float(STEP)
    return lambda: [min(max(round(v / step) + Z, -128), 127) for v in x]


def _apytypes_quantize(size: int) -> Call:
    import apytypes

    x, rule, limit = samples(size), apytypes.QuantizationMode.RND_CONV, apytypes.OverflowMode.SAT
    wide = apytypes.APyFixedArray.from_float(x, int_bits=8, frac_bits=24)
    return lambda: wide.cast(int_bits=4, frac_bits=4, quantization=rule, overflow=limit)


def _fxpmath_quantize(size: int) -> Call:
    from fxpmath import Fxp

    x = samples(size)
    return lambda: Fxp(x, True, 8, 4, rounding="around", overflow="saturate").val


def _ours_dequantize(size: int) -> Call:
    q, out = codes(size), np.empty(size, np.float32)
    return lambda: qe.dequantize(q, PARAMS, convention="onnx", out=out)


def _numpy_dequantize(size: int) -> Call:
    q = codes(size)
    return lambda: (q.astype(np.float32) - np.float32(Z)) * STEP


def _torch_dequantize(size: int) -> Call:
    torch = torch_package()
    q = torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes(size)), float(STEP), Z)
    return lambda: q.dequantize()


def _onnxruntime_dequantize(size: int) -> Call:
    session, q = _session("INT8", "FLOAT", ("DequantizeLinear", STEP, Z, "INT8")), codes(size)
    return lambda: session.run(None, {"x": q})[0]


# --- small floats --------------------------------------------------------------------------------------------


def _ours_e4m3(size: int) -> Call:
    x = samples(size)
    return lambda: qe.encode(x, "e4m3fn")


def _ml_dtypes_e4m3(size: int) -> Call:
    import ml_dtypes

    x = samples(size)
    return lambda: x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)


def _gfloat_e4m3(size: int) -> Call:
    import gfloat
    import gfloat.formats

    x, form = samples(size), gfloat.formats.format_info_ocp_e4m3
    return lambda: gfloat.encode_ndarray(form, gfloat.round_ndarray(form, x))


def _torch_e4m3(size: int) -> Call:
    torch = torch_package()
    x = torch.from_numpy(samples(size))
    return lambda: x.to(torch.float8_e4m3fn).view(torch.uint8)


# --- sweep ---------------------------------------------------------------------------------------------------


def _ours_sweep(size: int) -> Call:
    span = f"all:{-size // 2}:{size // 2 - 1}"
    return lambda: qe.sweep("single", "double", multiplier=MULTIPLIER, acc=span, pairs=size, threads=1).divergent


def _cpp_sweep(size: int) -> Call:
    return lambda: library().sweep(-size // 2, size, VALUE, RIGHT)


def _numpy_sweep(size: int) -> Call:
    shift, mask = 31 + RIGHT, (1 << RIGHT) - 1
    half = np.int64(1) << (shift - 1)

    def call() -> int:
        product = np.arange(-size // 2, size // 2) * VALUE
        nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
        high = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
        twice = (high >> RIGHT) + ((high & mask) > (mask >> 1) + (high < 0))
        return int(np.count_nonzero(((product + half) >> shift) != twice))

    return call


def _python_sweep(size: int) -> Call:
    shift, mask = 31 + RIGHT, (1 << RIGHT) - 1
    half = 1 << (shift - 1)

    def call() -> int:
        count = 0
        for x in range(-size // 2, size // 2):
            product = x * VALUE
            high = (product + (1 << 30)) >> 31 if product >= 0 else -((-product - 1 + (1 << 30)) >> 31)
            twice = (high >> RIGHT) + ((high & mask) > (mask >> 1) + (high < 0))
            count += (product + half) >> shift != twice
        return count

    return call


# --- packages ------------------------------------------------------------------------------------------------


def torch_package() -> Any:
    """Return torch, on one thread of the host, without its warning about what it will replace."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
    return torch


def _session(given: str, result: str, *steps: tuple[str, Any, int, str]) -> Any:
    """Return an ONNX Runtime session of (operator, scale, zero point, type of it) in turn."""
    import onnxruntime
    from onnx import TensorProto, helper

    nodes, numbers, last = [], [], "x"
    for k, (operator, scale, zero_point, kind) in enumerate(steps):
        name = "y" if k == len(steps) - 1 else f"t{k}"
        nodes.append(helper.make_node(operator, [last, f"s{k}", f"z{k}"], [name]))
        numbers.append(helper.make_tensor(f"s{k}", TensorProto.FLOAT, [], [float(scale)]))
        numbers.append(helper.make_tensor(f"z{k}", getattr(TensorProto, kind), [], [zero_point]))
        last = name
    ends = [helper.make_tensor_value_info(n, getattr(TensorProto, k), [None]) for n, k in (("x", given), ("y", result))]
    graph = helper.make_graph(nodes, "steps", [ends[0]], [ends[1]], numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


#: Peer -> modules that it needs.
NEEDS = {
    "NumPy": (), "torch": ("torch",), "onnxruntime": ("onnxruntime", "onnx"), "ml_dtypes": ("ml_dtypes",),
    "gfloat": ("gfloat",), "apytypes": ("apytypes",), "fxpmath": ("fxpmath",), "pure Python": (), "plain C++": (),
}  # fmt: skip
L2, SMALL, TINY = common.IN_CACHE, 1 << 14, 1 << 12
JOBS: dict[str, Job] = {
    "requantize, single": Job(_ours_requantize("single"), L2, {
        "plain C++": (_cpp("requantize_single", common.accumulators, np.int8, VALUE, RIGHT, Z), L2),
        "NumPy": (_numpy_single, L2), "torch": (_torch_single, L2), "apytypes": (_apytypes_single, SMALL),
        "pure Python": (_python_single, TINY),
    }),
    "requantize, double": Job(_ours_requantize("double"), L2, {
        "plain C++": (_cpp("requantize_double", common.accumulators, np.int8, VALUE, RIGHT, Z), L2),
        "NumPy": (_numpy_double, L2),
    }),
    "requantize, fp32": Job(_ours_requantize("fp32"), L2, {
        "plain C++": (_cpp("requantize_fp32", common.accumulators, np.int8, SCALE32, Z), L2),
        "NumPy": (_numpy_fp32, L2), "torch": (_torch_fp32, L2), "onnxruntime": (_onnxruntime_fp32, L2),
    }),
    "quantize float32 to int8": Job(_ours_quantize(PARAMS), L2, {
        "plain C++": (_cpp("quantize", samples, np.int8, STEP, Z), L2),
        "NumPy": (_numpy_quantize, L2), "torch": (_torch_quantize, L2), "onnxruntime": (_onnxruntime_quantize, L2),
        "pure Python": (_python_quantize, TINY),
    }),
    "quantize in float64": Job(_ours_quantize(PARAMS, "calculator"), L2, {
        "NumPy": (_numpy_quantize64, L2),
    }),
    "quantize to 4.4 fixed point": Job(_ours_quantize(CENTRED), L2, {
        "apytypes": (_apytypes_quantize, SMALL), "fxpmath": (_fxpmath_quantize, TINY),
    }),
    "dequantize int8": Job(_ours_dequantize, L2, {
        "plain C++": (_cpp("dequantize", codes, np.float32, STEP, Z), L2),
        "NumPy": (_numpy_dequantize, L2), "torch": (_torch_dequantize, L2),
        "onnxruntime": (_onnxruntime_dequantize, L2),
    }),
    "encode FP8 e4m3": Job(_ours_e4m3, L2, {
        "ml_dtypes": (_ml_dtypes_e4m3, L2), "gfloat": (_gfloat_e4m3, SMALL), "torch": (_torch_e4m3, L2),
    }),
    "sweep, single / double": Job(_ours_sweep, SWEPT, {
        "plain C++": (_cpp_sweep, SWEPT), "NumPy": (_numpy_sweep, 1 << 18), "pure Python": (_python_sweep, TINY),
    }),
}  # fmt: skip
#: Of these, the outputs are not all qengine's: torch adds the zero point before it rounds, so ties differ.
ANOTHER_ARITHMETIC = ("quantize float32 to int8 / torch",)
COUPLES = tuple(f"{job} / {peer}" for job, row in JOBS.items() for peer in row.peers)


def couple(name: str) -> tuple[Job, str]:
    """Return the job and the peer of one of `COUPLES`, or skip, as asv understands it, where the peer is missing."""
    job, _, peer = name.rpartition(" / ")
    missing = [module for module in NEEDS[peer] if find_spec(module) is None]
    if missing:
        raise NotImplementedError(f"{peer} needs {', '.join(missing)}")
    if peer == "plain C++":
        library()
    return JOBS[job], peer


def result(value: Any) -> np.ndarray:
    """Return a peer's result as integers or floats of NumPy."""
    if hasattr(value, "to_bits"):  # apytypes
        bits = np.asarray(value.to_bits(numpy=True)).astype(np.int64)
        return np.where(bits >= 1 << (value.bits - 1), bits - (1 << value.bits), bits)
    return np.asarray(value)


def versions() -> dict[str, str]:
    """Return the versions of the peers that are here."""
    found = {}
    for names in NEEDS.values():
        for name in names:
            if find_spec(name) is not None:
                found[name] = importlib.metadata.version(name)
    return found
