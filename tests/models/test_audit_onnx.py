"""Rows of ONNX models: against ONNX Runtime at the ends of their intervals, and for damaged files."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.exceptions import InputFileError
from qengine.models.audit_onnx import read_rows
from qengine.models.requantizing import ACCUMULATORS, CODES, PAIRS, SUMS, Requantizing
from tests.models.onnx_models import TYPES, Array, Builder, Products, onnx, saved

VERSION = "1.31."
COVERED = {"QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool"}
CASES = [
    ("Conv", "u8", "s8", True, 1, False), ("Conv", "s8", "s8", True, 1, False), ("Conv", "u8", "u8", False, 1, False),
    ("Conv", "u8", "s8", True, 2, False), ("Conv", "s8", "s8", True, 4, False), ("MatMul", "u8", "s8", True, 1, False),
    ("MatMul", "s8", "s8", False, 1, False), ("Gemm", "u8", "s8", True, 1, False), ("Gemm", "s8", "s8", True, 1, True),
    ("Gemm", "u8", "u8", False, 1, True),
]  # fmt: skip


def session(model: Any, optimized: Path | None = None) -> Any:
    """Return a session of ONNX Runtime on one thread; skip where that version is not installed."""
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra: pip install '.[runtimes]'")
    if not runtime.__version__.startswith(VERSION) or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"profiles are of onnxruntime {VERSION}x on x86-64; this is {runtime.__version__}")
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def covered(model: Any, folder: Path) -> list[Requantizing]:
    return [row for row in read_rows(saved(model, folder)) if row.covered]


def emulated(row: Requantizing, acc: Array) -> Array:
    return qe.emulate(
        row.runtime, row.op, "cpu", variant=row.variant, acc=acc.astype(np.int32), in_scale=row.in_scale,
        w_scale=row.w_scale, out_scale=row.out_scale, zero_point=row.out_zp,
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
@pytest.mark.parametrize("form", ["qoperator", "qdq"])
def test_ends_of_intervals_are_attained(
    form: str, case: tuple[Any, ...], rng: np.random.Generator, tmp_path: Path
) -> None:
    """Inputs that reach the least and the greatest accumulator exist, and the runtime's codes there are the row's."""
    op, kind, weight_kind, per_channel, group, transposed = case
    p = Products.random(rng, op, kind, weight_kind, per_channel, group, transposed)
    extreme, sums = p.extremes()
    info = np.iinfo(p.dtype)
    x = np.concatenate([extreme, rng.integers(info.min, info.max + 1, (200, *p.image)).astype(p.dtype)])
    model = getattr(p, form)(len(x))
    (row,) = covered(model, tmp_path)
    assert row.states == ACCUMULATORS
    assert row.op == {"Conv": "QLinearConv", "MatMul": "QLinearMatMul", "Gemm": "QGemm"}[op]
    assert (row.code_dtype, row.dtype, row.channels) == (p.dtype.__name__, p.dtype.__name__, 8)
    assert row.name.endswith(" (QDQ)") == (form == "qdq")
    np.testing.assert_array_equal(row.low, sums[:, 0])
    np.testing.assert_array_equal(row.high, sums[:, 1])
    acc = p.accumulators(x)
    assert (acc >= row.low).all()
    assert (acc <= row.high).all()
    np.testing.assert_array_equal(acc[:16].reshape(8, 2, 8)[np.arange(8), :, np.arange(8)], sums)
    if form == "qdq":
        reals = session(model).run(None, {"x": (x.astype(np.float32) - p.x_zero) * np.float32(p.x_scale)})[0]
        real = np.rint(reals / np.float32(p.y_scale)).astype(np.int64) + p.y_zero
    else:
        real = session(model).run(None, {"x": x})[0]
    np.testing.assert_array_equal(real.reshape(len(x), 8), emulated(row, acc))


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 1, 2, 1]])
def test_padded_taps_add_nothing(pads: list[int], rng: np.random.Generator, tmp_path: Path) -> None:
    """A window of 3x3 over one pixel: one tap is inside at a time, whatever the filter holds."""
    p = Products.random(rng, "Conv", "u8")
    model = p.qoperator(1)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 1
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("pads", pads))
    (row,) = covered(model, tmp_path)
    inside = [(1, 1)] if pads[0] else [(0, 1)]
    taps = p.weights.astype(np.int64)
    low, high = -p.x_zero, 255 - p.x_zero
    assert p.bias is not None
    for channel in range(8):
        sums = [
            (np.minimum(w * low, w * high).sum(), np.maximum(w * low, w * high).sum())
            for w in (taps[channel, :, y, x] for y, x in inside)
        ]
        assert row.low[channel] == min(a for a, _ in sums) + p.bias[channel]
        assert row.high[channel] == max(b for _, b in sums) + p.bias[channel]


def pair_model(op: str, kind: str, form: str, rng: np.random.Generator) -> Any:
    """QLinearAdd or QLinearMul, or Add or Mul between DequantizeLinear and QuantizeLinear, on 65,536 elements."""
    b, dtype = Builder(), TYPES[kind]
    zeros = [int(v) for v in rng.integers(*((20, 230) if kind == "u8" else (-100, 100)), 3)]
    scales = [0.031, 0.017, 0.0437 if op == "Add" else 0.004]
    names = [b.scale(n, s, z, dtype) for n, s, z in zip("xwy", scales, zeros, strict=True)]
    shape = (256, 256)
    if form == "qoperator":
        x, w = b.input("x", dtype, shape), b.input("w", dtype, shape)
        b.outputs.append(b.node(f"QLinear{op}", f"{x} {names[0]} {w} {names[1]} {names[2]}", "y"))
    else:
        x, w = b.input("x", np.float32, shape), b.input("w", np.float32, shape)
        inputs = [b.quantize(n, n, names[k]) for k, n in enumerate((x, w))]
        b.node(op, " ".join(inputs), "result")
        b.outputs.append(b.quantize("result", "y", names[2]))
    return b.model()


@pytest.mark.parametrize("form", ["qoperator", "qdq"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_all_pairs_of_codes(op: str, kind: str, form: str, rng: np.random.Generator, tmp_path: Path) -> None:
    """ONNX Runtime turns int8 codes of QDQ graphs into uint8 on x86-64: the row is that of uint8 codes then."""
    model = pair_model(op, kind, form, rng)
    (row,) = covered(model, tmp_path)
    turned = form == "qdq" and kind == "s8"
    assert row.states == PAIRS
    assert row.op == f"QLinear{op}"
    assert row.dtype == row.code_dtype == ("uint8" if turned or kind == "u8" else "int8")
    assert row.sizes().tolist() == [65536]
    a, b = (codes.reshape(256, 256) for codes in np.meshgrid(row.first_codes, row.second_codes, indexing="ij"))
    expected = qe.emulate(
        "onnxruntime", row.op, "cpu", variant=row.variant, a=a, b=b, a_scale=row.in_scale, b_scale=row.w_scale,
        out_scale=row.out_scale, a_zp=row.in_zp, b_zp=row.second_zp, out_zp=row.out_zp,
    )  # fmt: skip
    if form == "qoperator":
        real = session(model).run(None, {"x": a.astype(TYPES[kind]), "w": b.astype(TYPES[kind])})[0]
    else:
        inputs = {
            name: ((codes - zero) * scale).astype(np.float32)
            for name, codes, zero, scale in (("x", a, row.in_zp, row.in_scale), ("w", b, row.second_zp, row.w_scale))
        }
        real = np.rint(session(model).run(None, inputs)[0] / row.out_scale).astype(np.int64) + row.out_zp
    np.testing.assert_array_equal(real, expected)


def test_twins_and_constants(tmp_path: Path) -> None:
    b = Builder()
    x, s = b.input("x", np.uint8, (2, 3)), b.scale("x", 0.05, 7, np.uint8)
    c = b.constant("c", np.array([[3, 9, 9]], np.uint8))
    b.outputs += [b.node("QLinearMul", f"{x} {s} {x} {s} {s}", "y"), b.node("QLinearAdd", f"{x} {s} {c} {s} {s}", "z")]
    twin, constant = covered(b.model(), tmp_path)
    assert (twin.twins, twin.states, twin.sizes().tolist()) == (True, CODES, [256])
    assert (constant.refused.keys(), twin.routes) == ({"opt"}, {})
    assert (constant.states, constant.second_codes.tolist(), constant.sizes().tolist()) == (PAIRS, [3, 9], [512])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("last", [0, 1])
def test_global_pool(kind: str, last: int, rng: np.random.Generator, tmp_path: Path) -> None:
    b, info = Builder(), np.iinfo(TYPES[kind])
    shape = (3, 5, 7, 11) if last else (3, 11, 5, 7)
    x = b.input("x", TYPES[kind], shape)
    names = [b.scale(n, s, z, TYPES[kind]) for n, s, z in (("x", 0.031, 9), ("y", 0.0117, 60))]
    b.outputs.append(b.node("QLinearGlobalAveragePool", f"{x} {names[0]} {names[1]}", "y", channels_last=last))
    (row,) = covered(b.model(), tmp_path)
    assert row.states == SUMS
    assert (row.low[0], row.high[0], row.count[0]) == (35 * info.min, 35 * info.max, 35)
    codes = rng.integers(info.min, info.max + 1, shape).astype(TYPES[kind])
    codes[0], codes[1] = info.min, info.max
    real = session(b.model()).run(None, {"x": codes})[0].reshape(3, 11)
    total = codes.astype(np.int64).sum(axis=(1, 2) if last else (2, 3))
    expected = qe.emulate(
        "onnxruntime", row.op, "cpu", variant=row.variant, sum=total, count=35, in_scale=row.in_scale,
        out_scale=row.out_scale, in_zp=row.in_zp, out_zp=row.out_zp,
    )  # fmt: skip
    np.testing.assert_array_equal(real, expected)


def test_order_of_the_scales_of_a_global_pool(rng: np.random.Generator) -> None:
    """Sums on which another order of the two divisions, or half away from zero, would give another code."""
    count, told_apart = 45, 0
    for _ in range(12):
        x_scale = np.float32(rng.uniform(0.01, 0.1))
        y_scale = np.float32(float(x_scale) * 2 * int(rng.integers(1, 4 * count)) / count)
        acc = np.arange(-7 * count, 248 * count + 1)
        factor = x_scale / (y_scale * np.float32(count))
        expected = np.rint(acc.astype(np.float32) * factor)
        other = np.rint(acc.astype(np.float32) * (x_scale / y_scale / np.float32(count)))
        away = np.copysign(np.floor(np.abs(acc.astype(np.float32) * factor) + np.float32(0.5)), acc)
        chosen = acc[(other != expected) | (away != expected)][:64]
        told_apart += chosen.size
        if not chosen.size:
            continue
        total = chosen + 7 * count
        codes = np.repeat(total[:, None] // count, count, axis=1) + (np.arange(count) < (total % count)[:, None])
        b = Builder()
        x = b.input("x", np.uint8, (1, chosen.size, 5, 9))
        names = [b.scale("x", x_scale, 7, np.uint8), b.scale("y", y_scale, 60, np.uint8)]
        b.outputs.append(b.node("QLinearGlobalAveragePool", f"{x} {names[0]} {names[1]}", "y"))
        real = session(b.model()).run(None, {"x": codes.reshape(1, -1, 5, 9).astype(np.uint8)})[0].reshape(-1)
        found = qe.emulate(
            "onnxruntime", "QLinearGlobalAveragePool", "cpu", variant="u8", sum=total, count=count, in_scale=x_scale,
            out_scale=y_scale, in_zp=7, out_zp=60,
        )  # fmt: skip
        np.testing.assert_array_equal(real, found)
    assert told_apart > 100


def network(kind: str, activation: tuple[str, int] | None = None, bias: float = 1.0, shared: bool = True) -> Any:
    """Conv, Add of its output (shared) or its input, pool, Flatten and Gemm in QDQ format."""
    rng, b, dtype = np.random.default_rng(7), Builder(), TYPES[kind]
    zero = 0 if kind == "s8" else 128
    xs = b.scale("x", 0.03, zero, dtype)
    x = b.quantize(b.input("image", np.float32, (1, 4, 6, 6)), "x", xs)
    w = rng.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8)
    w_reals = b.node("DequantizeLinear", f"{b.constant('w', w)} {b.scale('w', 0.01, 0, np.int8)}", "w_reals")
    bs = b.scale("b", np.full(4, np.float32(0.03) * np.float32(0.01) * bias, np.float32), 0, np.int32)
    b_reals = b.node("DequantizeLinear", f"{b.constant('b', np.arange(4, dtype=np.int32))} {bs}", "b_reals", axis=0)
    c = b.node("Conv", f"{x} {w_reals} {b_reals}", "c")
    y_zero = zero
    if activation is not None:
        c, y_zero = b.node(activation[0], c, "active"), activation[1]
    c = b.quantize(c, "c", b.scale("c", 0.05, y_zero, dtype))
    if shared:
        c = b.quantize(b.node("Add", f"{c} {x}", "a"), "a", b.scale("a", 0.06, zero, dtype))
    ps = b.scale("p", 0.02, zero, dtype)
    p = b.quantize(b.node("GlobalAveragePool", c, "p"), "p", ps)
    f = b.quantize(b.node("Flatten", p, "f"), "f", ps)
    g = rng.integers(-127, 128, (5, 4)).astype(np.int8)
    g_reals = b.node("DequantizeLinear", f"{b.constant('g', g)} {b.scale('g', 0.02, 0, np.int8)}", "g_reals")
    last = b.quantize(b.node("Gemm", f"{f} {g_reals}", "h", transB=1), "h", b.scale("h", 0.1, zero, dtype))
    b.outputs.append(b.node("Softmax", last, "probabilities"))
    return b.model()


NETWORKS: dict[str, dict[str, Any]] = {
    "uint8": {"kind": "u8"}, "int8": {"kind": "s8"}, "int8, nothing shared": {"kind": "s8", "shared": False},
    "Relu that codes imply": {"kind": "u8", "activation": ("Relu", 0)},
    "Relu that codes do not imply": {"kind": "u8", "activation": ("Relu", 100)},
    "LeakyRelu": {"kind": "u8", "activation": ("LeakyRelu", 0)},
    "a bias of nearly its scale": {"kind": "u8", "bias": 1.004}, "a bias of another scale": {"kind": "u8", "bias": 3.0},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_what_onnxruntime_fuses_is_covered(name: str, tmp_path: Path) -> None:
    """The operators on codes are those of the graph that ONNX Runtime itself makes; all others are listed."""
    model = network(**NETWORKS[name])
    session(model, tmp_path / "optimized.onnx")
    real = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node if node.op_type in COVERED]
    rows = read_rows(saved(model, tmp_path))
    assert sorted(row.op for row in rows if row.covered) == sorted(real)
    assert len(rows) == len(model.graph.node)
    assert all(row.reason for row in rows if not row.covered)
    assert any(row.reason.startswith("part of operator") for row in rows)


def test_float_bias_is_quantized_as_onnxruntime_does(rng: np.random.Generator, tmp_path: Path) -> None:
    p = Products.random(rng, "Conv", "u8")
    model = p.qdq(4)
    nodes = {node.output[0]: node for node in model.graph.node}
    model.graph.node.remove(nodes["bias_reals"])
    reals = rng.normal(0, 1, 8).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(reals, "float_bias"))
    nodes["sum"].input[2] = "float_bias"
    (row,) = covered(model, tmp_path)
    session(model, tmp_path / "optimized.onnx")
    optimized = onnx.load(tmp_path / "optimized.onnx").graph
    (node,) = (node for node in optimized.node if node.op_type == "QLinearConv")
    stored = {tensor.name: tensor for tensor in optimized.initializer}[node.input[8]]
    np.testing.assert_array_equal(row.bias, onnx.numpy_helper.to_array(stored))


@pytest.mark.parametrize("opset", [13, 19, 21, 23])
def test_weights_that_are_quantized_in_the_graph(opset: int, rng: np.random.Generator, tmp_path: Path) -> None:
    """As a fake quantization is exported: float weights, QuantizeLinear along an axis, DequantizeLinear."""
    p = Products.random(rng, "Conv", "u8")
    model = p.qdq(4, opset)
    plain = covered(model, tmp_path)[0]
    reals = (p.weights.astype(np.float32) + rng.uniform(-0.4, 0.4, p.weights.shape)) * p.w_scale.reshape(8, 1, 1, 1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(reals.astype(np.float32), "float_weights"))
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    model.graph.initializer.remove(stored)
    node = onnx.helper.make_node("QuantizeLinear", ["float_weights", "w_scale", "w_zero"], ["w"], axis=-4)
    model.graph.node.insert(0, node)
    (row,) = covered(model, tmp_path)
    np.testing.assert_array_equal(row.low, plain.low)
    np.testing.assert_array_equal(row.high, plain.high)


def test_weights_in_a_file_beside(rng: np.random.Generator, tmp_path: Path) -> None:
    p = Products.random(rng, "MatMul", "s8")
    inside = covered(p.qoperator(4), tmp_path)[0]
    onnx.save(
        p.qoperator(4), tmp_path / "out.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (outside,) = (row for row in read_rows(tmp_path / "out.onnx") if row.covered)
    np.testing.assert_array_equal(outside.low, inside.low)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(InputFileError, match=r"weights\.bin"):
        read_rows(tmp_path / "out.onnx")


def refusals() -> dict[str, tuple[Any, str]]:
    """Models whose operator is not covered, and a part of the reason."""
    rng = np.random.default_rng(3)
    found = {}
    p = Products.random(rng, "Conv", "u8")
    p.w_scale[3] = np.nan
    found["a scale that is no number"] = p.qoperator(1), "must be finite and positive; got nan"
    p = Products.random(rng, "MatMul", "u8")
    p.w_scale[0] = -1
    found["a negative scale"] = p.qdq(1), "must be finite and positive; got -1.0"
    p = Products.random(rng, "Conv", "s8", "u8", False)
    found["no kernel"] = p.qoperator(1), "int8 inputs with uint8 weights"
    p = Products.random(rng, "Gemm", "u8")
    assert p.bias is not None
    p.bias[:] = 2**31 - 1
    found["accumulators that wrap"] = p.qoperator(1), "beyond int32"
    model = Products.random(rng, "Conv", "u8").qoperator(1)
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.INT8, (8, 4, 3, 3)))
    found["weights that a caller may replace"] = model, "an input of the model"
    b = Builder()
    x, s = b.input("x", np.uint8, (4, 4)), b.scale("x", 0.1, 3, np.uint8)
    b.outputs.append(b.node("QLinearSigmoid", f"{x} {s} {s}", "y"))
    found["an operator without a profile"] = b.model(), "not known bit for bit"
    b = Builder()
    q = b.quantize(b.input("x", np.float32, (4,)), "x", b.scale("x", 0.1, 3, np.uint8))
    b.outputs.append(b.quantize(q, "y", b.scale("y", 0.2, 5, np.uint8)))
    found["codes to codes"] = b.model(), "codes of one scale become codes of another"
    return found


@pytest.mark.parametrize("name", refusals())
def test_reasons(name: str, tmp_path: Path) -> None:
    model, part = refusals()[name]
    rows = [row for row in read_rows(saved(model, tmp_path)) if not row.plain]
    assert rows
    assert not any(row.covered for row in rows)
    assert any(part in row.reason for row in rows)


def test_audit_of_a_model(tmp_path: Path) -> None:
    result = qe.audit(saved(network("u8"), tmp_path), ["onnxruntime:cpu", "litert:xnnpack", "litert:opt", "double"])
    assert [layer.row.op for layer in result.requantizing] == [
        "QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm",
    ]  # fmt: skip
    assert all(layer.covered for layer in result.requantizing)
    conv = result.requantizing[0]
    assert conv.pairs[0].verdict == "proven equal"
    assert conv.pairs[1].divergent > 0


def test_sides_that_were_not_recorded(rng: np.random.Generator, tmp_path: Path) -> None:
    """int8 codes that run as uint8 were seen on x86-64, and QGemm too: 64-bit Arm is not guessed."""
    sides = ["onnxruntime:cpu", "onnxruntime:cpu@aarch64"]
    for model, part in (
        (pair_model("Add", "s8", "qdq", rng), "on x86-64 alone"),
        (Products.random(rng, "Gemm", "u8").qoperator(1), "QGemm"),
    ):
        (layer,) = qe.audit(saved(model, tmp_path), sides).requantizing
        assert part in layer.pairs[0].reason
    (layer,) = qe.audit(saved(Products.random(rng, "Conv", "u8").qdq(1), tmp_path), sides).requantizing
    assert layer.pairs[0].verdict == "proven equal"


def outcome(contents: bytes, path: Path) -> str:
    """Read a file, and audit what it holds: only InputFileError may come of it."""
    path.write_bytes(contents)
    try:
        rows = read_rows(path)
    except InputFileError:
        return "damaged"
    assert all(row.covered or row.reason for row in rows)
    assert all((row.low <= row.high).all() for row in rows if row.covered)
    return "read"


def test_truncated_and_flipped(rng: np.random.Generator, tmp_path: Path) -> None:
    whole = [network("u8").SerializeToString(), Products.random(rng, "Conv", "s8").qoperator(2).SerializeToString()]
    found = []
    for k in range(240):
        contents = bytearray(whole[k % 2])
        if k % 4 == 0:
            contents = contents[: int(rng.integers(len(contents)))]
        else:
            for place in rng.integers(0, len(contents), int(rng.integers(1, 4))):
                contents[place] = int(rng.choice([contents[place] ^ (1 << int(rng.integers(8))), 0, 127, 128, 255]))
        found.append(outcome(bytes(contents), tmp_path / "broken.onnx"))
    assert {"damaged", "read"} == set(found)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(network("u8").SerializeToString().replace(b"image", b"im\xffge"))
    with pytest.raises(InputFileError, match="damaged"):
        read_rows(path)


def test_sizes_that_are_only_said(tmp_path: Path) -> None:
    """Shapes without contents cost nothing: neither huge images nor huge tensors are made."""
    model = Products.random(np.random.default_rng(1), "Conv", "u8").qoperator(1)
    for place in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = 2**31 - 1
    (row,) = read_rows(saved(model, tmp_path))
    assert not row.covered
    model.graph.initializer[-1].dims[0] = 2**40
    with pytest.raises(InputFileError, match="bytes"):
        read_rows(saved(model, tmp_path))
