"""ONNX Runtime against its profiles: operators in models of their own, near-ties and powers of two among the rows."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe

VERSION = "1.31"
onnx = pytest.importorskip("onnx", reason="needs the extra: pip install '.[models]'")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra: pip install '.[runtimes]'")
pytestmark = [
    pytest.mark.skipif(
        not runtime.__version__.startswith(f"{VERSION}."),
        reason=f"profiles are of onnxruntime {VERSION}; installed is {runtime.__version__}",
    ),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="profiles of x86-64"),
]
DTYPES = {"s8": "int8", "u8": "uint8"}
KINDS = {"int8": onnx.TensorProto.INT8, "uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}


def run(
    op: str, inputs: dict[str, npt.NDArray[Any] | None], constants: dict[str, npt.NDArray[Any]], output: str, order: str
) -> npt.NDArray[Any]:
    """Run one operator; `order` names its inputs and constants in their order."""
    helper = onnx.helper
    domain = "com.microsoft" if op in ("QLinearAdd", "QLinearMul") else ""
    node = helper.make_node(op, order.split(), ["y"], domain=domain)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info(n, KINDS[v.dtype.name], v.shape) for n, v in inputs.items() if v is not None],
        [helper.make_tensor_value_info("y", KINDS[output], None)],
        [onnx.numpy_helper.from_array(v, n) for n, v in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: npt.NDArray[Any] = session.run(None, inputs)[0]
    return result


def same(got: npt.NDArray[Any], real: npt.NDArray[Any], what: str) -> None:
    bad = np.flatnonzero(got.reshape(-1) != real.reshape(-1))
    assert got.dtype == real.dtype, what
    assert not bad.size, f"{what}: {bad.size} of {real.size} differ, first at {bad[0]}"


def scale(value: float) -> npt.NDArray[np.float32]:
    return np.array(value, np.float32)


@pytest.mark.parametrize("sign", DTYPES)
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_elementwise(op: str, sign: str, rng: np.random.Generator) -> None:
    dtype = DTYPES[sign]
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    for k in range(40):
        a, b = (rng.integers(low, high + 1, (1, 997)).astype(dtype) for _ in "ab")
        sa, sb = (scale(v) for v in rng.uniform(0.005, 0.1, 2))
        so = scale(rng.uniform(0.5, 2) * (sa + sb) if op == "QLinearAdd" else rng.uniform(20, 400) * sa * sb)
        if k % 2:
            sa, sb, so = scale(0.5), scale(2.0 ** -int(rng.integers(1, 4))), scale(2.0 ** int(rng.integers(-1, 3)))
        za, zb, zo = (np.array(v, dtype) for v in rng.integers(low, high + 1, 3))
        constants = {"sa": sa, "za": za, "sb": sb, "zb": zb, "so": so, "zo": zo}
        real = run(op, {"a": a, "b": b}, constants, dtype, "a sa za b sb zb so zo")
        got = qe.emulate(
            "onnxruntime", op, "cpu", a=a, b=b, a_scale=sa, b_scale=sb, out_scale=so, a_zp=za, b_zp=zb, out_zp=zo
        )
        same(got, real, f"{op} {sign} {constants}")


@pytest.mark.parametrize("sign", DTYPES)
@pytest.mark.parametrize("percol", [True, False])
def test_matmul(percol: bool, sign: str, rng: np.random.Generator) -> None:
    dtype = DTYPES[sign]
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    for k in range(15):
        m, depth, n = int(rng.integers(1, 20)), int(rng.integers(1, 70)), int(rng.integers(1, 40))
        a, w = (
            rng.integers(low, high + 1, (m, depth)).astype(dtype),
            rng.integers(-127, 128, (depth, n)).astype(np.int8),
        )
        sa, so = scale(0.5 if k % 2 else rng.uniform(0.01, 0.1)), scale(64.0 if k % 2 else rng.uniform(1, 20))
        columns = n if percol else 1
        sw = (2.0 ** -rng.integers(1, 5, columns) if k % 2 else rng.uniform(0.001, 0.05, columns)).astype(np.float32)
        sw = sw if percol else sw.reshape(())
        za, zo = (np.array(v, dtype) for v in rng.integers(low, high + 1, 2))
        zw = np.zeros(sw.shape, np.int8)
        constants = {"sa": sa, "za": za, "w": w, "sw": sw, "zw": zw, "so": so, "zo": zo}
        real = run("QLinearMatMul", {"a": a}, constants, dtype, "a sa za w sw zw so zo")
        acc = (a.astype(np.int32) - za.astype(np.int32)) @ w.astype(np.int32)
        got = qe.emulate(
            "onnxruntime", "QLinearMatMul", "cpu", variant=f"{sign}s8_{'percol' if percol else 'pertensor'}", acc=acc,
            in_scale=sa, w_scale=sw, out_scale=so, zero_point=zo,
        )  # fmt: skip
        same(got, real, f"QLinearMatMul {sign} {percol} {(m, depth, n)}")


@pytest.mark.parametrize("sign", DTYPES)
def test_conv(sign: str, rng: np.random.Generator) -> None:
    dtype = DTYPES[sign]
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    for _ in range(10):
        channels, out = int(rng.integers(1, 20)), int(rng.integers(1, 30))
        x = rng.integers(low, high + 1, (1, channels, 5, 4)).astype(dtype)
        w = rng.integers(-127, 128, (out, channels, 1, 1)).astype(np.int8)
        bias = rng.integers(-5000, 5000, out).astype(np.int32)
        sx, so = scale(rng.uniform(0.01, 0.1)), scale(rng.uniform(0.5, 5))
        sw = rng.uniform(0.001, 0.05, out).astype(np.float32)
        zx, zo = (np.array(v, dtype) for v in rng.integers(low, high + 1, 2))
        constants = {"sx": sx, "zx": zx, "w": w, "sw": sw, "zw": np.zeros(out, np.int8), "so": so, "zo": zo, "b": bias}
        real = run("QLinearConv", {"x": x}, constants, dtype, "x sx zx w sw zw so zo b")
        centred = x.astype(np.int32) - zx.astype(np.int32)
        acc = np.einsum("nchw,oc->nohw", centred, w[..., 0, 0].astype(np.int32)) + bias[:, None, None]
        got = qe.emulate(
            "onnxruntime", "QLinearConv", "cpu", variant=f"{sign}s8_perch", acc=acc.astype(np.int32), in_scale=sx,
            w_scale=sw[:, None, None], out_scale=so, zero_point=zo,
        )  # fmt: skip
        same(got, real, f"QLinearConv {sign} {channels} -> {out}")


@pytest.mark.parametrize("sign", DTYPES)
def test_quantize_and_back(sign: str, rng: np.random.Generator) -> None:
    dtype = DTYPES[sign]
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    for k in range(20):
        s, z = scale(0.5 ** (k % 3) if k % 2 else rng.uniform(0.01, 0.2)), np.array(rng.integers(low, high + 1), dtype)
        x = (s * (rng.integers(-200, 200, 501) + np.float32(0.5))).astype(np.float32)
        real = run("QuantizeLinear", {"x": x}, {"s": s, "z": z}, dtype, "x s z")
        got = qe.emulate("onnxruntime", "QuantizeLinear", "cpu", variant=sign, input=x, out_scale=s, zero_point=z)
        same(got, real, f"QuantizeLinear {sign} {s, z}")
        back = run("DequantizeLinear", {"x": real}, {"s": s, "z": z}, "float32", "x s z")
        got = qe.emulate("onnxruntime", "DequantizeLinear", "cpu", variant=sign, input=real, in_scale=s, zero_point=z)
        same(got, back, f"DequantizeLinear {sign} {s, z}")
