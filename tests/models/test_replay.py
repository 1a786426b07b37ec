"""Replays: sums against plain loops, models against the real interpreter, what is not covered, damaged files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine.exceptions import QEngineError
from qengine.models.graph import read_graph
from qengine.models.replay import Model, compare, named_inputs, random_inputs
from qengine.models.replay_inputs import read_inputs
from qengine.models.replay_node import Choice
from tests.cli.running import qengine
from tests.runtimes.lite import litert, profiled

from .networks import SAME, VALID, Op, Tensor, network, tiny, window

PATHS = ("xnnpack", "opt", "ref")
DATA = Path(__file__).parents[2] / "qengine" / "demo" / "network.tflite"
MODELS = {
    "tf2_mobilenet_v2_1.0_224_ptq": 7_050_308, "person_detect": 231_814,
    "mobilenet_v2_1.0_224_quant": 6_898_779, "mobilenet_v1_0.25_128_quant": 414_907,
}  # fmt: skip


def limits(dtype: str) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def geometry(rng: np.random.Generator) -> dict[str, Any]:
    """A window: strides or dilation, never both, as TFLite asks."""
    dilated = rng.random() < 0.3
    stride = (1, 1) if dilated else tuple(int(v) for v in rng.integers(1, 4, 2))
    dilation = tuple(int(v) for v in rng.integers(1, 4, 2)) if dilated else (1, 1)
    return {
        "Padding": SAME if rng.random() < 0.5 else VALID, "StrideH": stride[0], "StrideW": stride[1],
        "DilationHFactor": dilation[0], "DilationWFactor": dilation[1],
    }  # fmt: skip


def out_size(n: int, k: int, stride: int, dilation: int, padding: int) -> int:
    return -(-n // stride) if padding == SAME else (n - ((k - 1) * dilation + 1)) // stride + 1


class Convolution:
    """A random convolution: its file, input, and accumulators by plain loops."""

    def __init__(self, rng: np.random.Generator, op: str, dtype: str, channels: bool = True) -> None:
        low, high = limits(dtype)
        self.op, self.dtype = op, dtype
        g = geometry(rng)
        kh, kw = (int(v) for v in rng.integers(1, 4, 2))
        h, w = (int(v) for v in rng.integers(9, 14, 2))
        depth, groups = int(rng.integers(1, 7)), 1
        if op == "DEPTHWISE_CONV_2D":
            multiplier = int(rng.choice([1, 1, 2, 3]))
            count, filters = depth * multiplier, (1, kh, kw, depth * multiplier)
        else:
            count, filters = int(rng.integers(1, 20)), (0, kh, kw, depth)
            if dtype == "int8" and rng.random() < 0.3:
                groups, count = 2, 2 * count
                depth *= 2
            filters = (count, kh, kw, depth // groups)
        per_channel = dtype == "int8" and channels and count > 1
        self.zi, self.zo = (int(v) for v in rng.integers(low, high + 1, 2))
        self.wz = 0 if dtype == "int8" else int(rng.integers(low, high + 1))
        self.si, self.so = np.float32(0.05), np.float32(rng.uniform(0.5, 2))
        self.sw = rng.uniform(0.002, 0.02, count if per_channel else 1).astype(np.float32)
        weights = rng.integers(low, high + 1, filters).astype(dtype)
        if dtype == "int8":
            weights[weights == -128] = 0
        bias = rng.integers(-3000, 3000, count).astype(np.int32)
        self.x = rng.integers(low, high + 1, (1, h, w, depth)).astype(dtype)
        oh = out_size(h, kh, g["StrideH"], g["DilationHFactor"], g["Padding"])
        ow = out_size(w, kw, g["StrideW"], g["DilationWFactor"], g["Padding"])
        self.sums(weights, bias, g, groups, (1, oh, ow, count))
        axis = (3 if op == "DEPTHWISE_CONV_2D" else 0) if per_channel else 0
        table = "DepthwiseConv2DOptions" if op == "DEPTHWISE_CONV_2D" else "Conv2DOptions"
        options = {**g, "FusedActivationFunction": int(rng.choice([0, 0, 1, 3]))}
        if op == "DEPTHWISE_CONV_2D":
            options["DepthMultiplier"] = count // depth
        tensors = [
            Tensor(self.x.shape, dtype, self.si, self.zi),
            Tensor(weights.shape, dtype, self.sw, self.wz, weights, axis),
            Tensor((count,), "int32", self.si * self.sw, 0, bias),
            Tensor(self.acc.shape, dtype, self.so, self.zo),
        ]
        self.activation = {0: "NONE", 1: "RELU", 3: "RELU6"}[options["FusedActivationFunction"]]
        version = (5 if groups > 1 else 3) if dtype == "int8" else 1
        self.content = network(tensors, [Op(op, [0, 1, 2], 3, table, version, options)], [0], [3])

    def sums(self, weights: Any, bias: Any, g: dict[str, Any], groups: int, shape: tuple[int, ...]) -> None:
        """Accumulators, one by one, in Python integers."""
        _, oh, ow, count = shape
        h, w, depth = self.x.shape[1:]
        kh, kw = weights.shape[1:3]
        before = []
        for n, o, k, s, d in (
            (h, oh, kh, g["StrideH"], g["DilationHFactor"]), (w, ow, kw, g["StrideW"], g["DilationWFactor"]),
        ):  # fmt: skip
            before.append(max(0, (o - 1) * s + (k - 1) * d + 1 - n) // 2 if g["Padding"] == SAME else 0)
        x, f = self.x[0].astype(int) - self.zi, weights.astype(int) - self.wz
        acc = np.zeros(shape, np.int32)
        for r, c, o in np.ndindex(oh, ow, count):
            total = int(bias[o])
            for i, j in np.ndindex(kh, kw):
                y = r * g["StrideH"] + i * g["DilationHFactor"] - before[0]
                z = c * g["StrideW"] + j * g["DilationWFactor"] - before[1]
                if not (0 <= y < h and 0 <= z < w):
                    continue
                if self.op == "DEPTHWISE_CONV_2D":
                    total += int(x[y, z, o // (count // depth)]) * int(f[0, i, j, o])
                else:
                    first = o // (count // groups) * (depth // groups)
                    total += sum(int(x[y, z, first + k]) * int(f[o, i, j, k]) for k in range(depth // groups))
            acc[0, r, c, o] = total
        self.acc = acc

    def expected(self, path: str) -> npt.NDArray[Any]:
        variant = "u8" if self.dtype == "uint8" else "perchannel"
        if variant == "perchannel" and self.sw.size == 1 and self.op == "CONV_2D":
            variant = "pertensor"
        sw = self.sw if self.sw.size > 1 else self.sw[0]
        return qe.emulate(
            "litert", self.op, path, variant=variant, positions="tensor", activation=self.activation,
            acc=self.acc, in_scale=self.si, w_scale=sw, out_scale=self.so, zero_point=self.zo,
        )  # fmt: skip


@pytest.mark.parametrize("wing", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_sums_are_those_of_plain_loops(
    op: str, dtype: str, wing: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    for k in range(6):
        case = Convolution(rng, op, dtype, channels=k % 2 == 0)
        path = tmp_path / "m.tflite"
        path.write_bytes(case.content)
        got = qe.replay(path, case.x, path=PATHS[k % 3], backend=wing)
        assert not got.skipped
        assert np.array_equal(got[3], case.expected(PATHS[k % 3])), f"{op} {dtype} case {k}"


def test_sums_beyond_float32(tmp_path: Path, rng: np.random.Generator) -> None:
    """1,000 products of 255 * 127: float32 would lose units, and the sums are exact all the same."""
    x = np.full((2, 1000), -128, np.int8)
    x[1] = rng.integers(-128, 128, 1000)
    w = rng.integers(100, 128, (3, 1000)).astype(np.int8)
    w[1] = -w[1]
    acc = (x.astype(np.int64) - 127) @ w.T.astype(np.int64)
    assert np.abs(acc).max() > 1 << 24
    tensors = [
        Tensor((2, 1000), "int8", 0.5, 127), Tensor((3, 1000), "int8", 2.0**-18, 0, w), Tensor((2, 3), "int8", 0.5, 0)
    ]  # fmt: skip
    path = tmp_path / "m.tflite"
    path.write_bytes(network(tensors, [Op("FULLY_CONNECTED", [0, 1, -1], 2, "FullyConnectedOptions", 4)], [0], [2]))
    for way in PATHS:
        expected = qe.emulate(
            "litert", "FULLY_CONNECTED", way, variant="pertensor", acc=acc.astype(np.int32),
            in_scale=0.5, w_scale=2.0**-18, out_scale=0.5, zero_point=0,
        )  # fmt: skip
        assert np.array_equal(qe.replay(path, x, path=way)[2], expected)


def agreed(content: bytes, folder: Path, seed: int, way: str, what: str) -> None:
    """Replay and run a model, and require that every tensor is covered and equal."""
    profiled()
    from qengine.models.replay_runtime import record

    path = folder / "m.tflite"
    path.write_bytes(content)
    graph = read_graph(path)
    inputs = random_inputs(graph, seed)
    result = compare(Model(graph), inputs, record(graph, inputs, way), Choice(way), "litert")
    assert not result.skipped, f"{what}: {result.skipped}"
    firsts = [row.first for row in result.rows if row.first]
    assert (result.forced, result.chained) == (0, 0), f"{what} {way}: {firsts}"


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions_live(op: str, dtype: str, way: str, tmp_path: Path, rng: np.random.Generator) -> None:
    for k in range(8):
        case = Convolution(rng, op, dtype, channels=k % 4 != 3)
        agreed(case.content, tmp_path, k, way, f"{op} {dtype} case {k}")


def single(op: Op, tensors: list[Tensor]) -> bytes:
    return network(tensors, [op], [k for k, t in enumerate(tensors[:-1]) if t.data is None], [len(tensors) - 1])


def small_models(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for dtype in ("int8", "uint8"):
        zero = 5
        image = Tensor((1, 7, 9, 5), dtype, 0.1, zero)
        for padding in (SAME, VALID):
            for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
                options = window(
                    "pool", 2, 1, Padding=padding, FilterHeight=3, FilterWidth=2, FusedActivationFunction=1
                )
                out = (1, 4, 9, 5) if padding == SAME else (1, 3, 8, 5)
                content = single(Op(op, [0], 1, "Pool2DOptions", 2, options), [image, Tensor(out, dtype, 0.1, zero)])
                yield f"{op} {dtype} {padding}", content
        pads = Tensor((4, 2), "int32", data=np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32))
        yield f"PAD {dtype}", single(Op("PAD", [0, 1], 2), [image, pads, Tensor((1, 10, 12, 5), dtype, 0.1, zero)])
        order = Tensor((4,), "int32", data=np.array([0, 2, 1, 3], np.int32))
        content = single(Op("TRANSPOSE", [0, 1], 2), [image, order, Tensor((1, 9, 7, 5), dtype, 0.1, zero)])
        yield f"TRANSPOSE {dtype}", content
        both = Tensor((1, 7, 9, 10), dtype, 0.1, zero)
        joined = Op("CONCATENATION", [0, 1], 2, "ConcatenationOptions", 2, {"Axis": 3})
        yield f"CONCATENATION {dtype}", single(joined, [image, image, both])
        numbers = [np.array(v, np.int32) for v in ([0, 2, 1, 0], [1, -1, 4, 5], [0, 6, -1, 0], [1, 2, 3, -1])]
        begin, size, end, step = (Tensor((4,), "int32", data=v) for v in numbers)
        part = Tensor((1, 5, 4, 5), dtype, 0.1, zero)
        yield f"SLICE {dtype}", single(Op("SLICE", [0, 1, 2], 3), [image, begin, size, part])
        masks: dict[str, int | float | bool] = {"BeginMask": 8, "EndMask": 8, "ShrinkAxisMask": 1}
        strided = Op("STRIDED_SLICE", [0, 1, 2, 3], 4, "StridedSliceOptions", 2, masks)
        part = Tensor((2, 3, 5), dtype, 0.1, zero)
        yield f"STRIDED_SLICE {dtype}", single(strided, [image, begin, end, step, part])
        for op in ("MAXIMUM", "MINIMUM"):
            yield f"{op} {dtype}", single(Op(op, [0, 1], 2, "MaximumMinimumOptions"), [image, image, image])
        for mode in (0, 1):
            mirror = Op("MIRROR_PAD", [0, 1], 2, "MirrorPadOptions", 2, {"Mode": mode})
            yield f"MIRROR_PAD {dtype}", single(mirror, [image, pads, Tensor((1, 10, 12, 5), dtype, 0.1, zero)])
        for op in ("RELU", "RELU6"):
            yield f"{op} {dtype}", single(Op(op, [0], 1), [image, image])
        low = limits(dtype)[0]
        out = Tensor(image.shape, dtype, 1 / 256, low)
        yield f"LOGISTIC {dtype}", single(Op("LOGISTIC", [0], 1), [image, out])
        for keep in (True, False):
            axes = Tensor((2,), "int32", data=np.array([1, 2], np.int32))
            out = Tensor((1, 1, 1, 5) if keep else (1, 5), dtype, 0.07, 2)
            yield (
                f"MEAN {dtype} {keep}",
                single(Op("MEAN", [0, 1], 2, "ReducerOptions", 2, {"KeepDims": keep}), [image, axes, out]),
            )
        for op in ("ADD", "SUB", "MUL"):
            other = Tensor(image.shape, dtype, 0.13, -3 if dtype == "int8" else 3)
            out = Tensor(image.shape, dtype, 0.2 if op != "MUL" else 0.9, 1)
            yield f"{op} {dtype}", single(Op(op, [0, 1], 2, f"{op.title()}Options"), [image, other, out])
        size = Tensor((2,), "int32", data=np.array([11, 5], np.int32))
        options = {"AlignCorners": False, "HalfPixelCenters": True}
        resize = Op("RESIZE_BILINEAR", [0, 1], 2, "ResizeBilinearOptions", 3, options)
        yield f"RESIZE_BILINEAR {dtype}", single(resize, [image, size, Tensor((1, 11, 5, 5), dtype, 0.1, zero)])
        real = Tensor((1, 7, 9, 5), "float32")
        yield f"QUANTIZE {dtype}", single(Op("QUANTIZE", [0], 1), [real, Tensor(image.shape, dtype, 0.03, 5)])
        yield f"DEQUANTIZE {dtype}", single(Op("DEQUANTIZE", [0], 1), [image, real])
    for kind in ("int32", "int64"):
        number = 2 if kind == "int32" else 4
        scale = rng.uniform(0.002, 0.02, 7).astype(np.float32)
        codes = rng.integers(-127, 128, (7, 3, 3, 5)).astype(np.int8)
        bias = Tensor((7,), kind, np.float32(0.001) * scale, 0, rng.integers(-3000, 3000, 7).astype(kind))
        given, out = Tensor((1, 7, 9, 5), "int16", 0.001, 0), Tensor((1, 7, 9, 7), "int16", 0.01, 0)
        options = window("conv", 1, 1, QuantizedBiasType=number)
        conv = Op("CONV_2D", [0, 1, 2], 3, "Conv2DOptions", 4, options)
        content = network([given, Tensor(codes.shape, "int8", scale, 0, codes), bias, out], [conv], [0], [3])
        yield f"CONV_2D int16 {kind}", content
        matrix = Tensor((7, 45), "int8", scale, 0, codes.reshape(7, 45))
        full = Op("FULLY_CONNECTED", [0, 1, 2], 3, "FullyConnectedOptions", 11, {"QuantizedBiasType": number})
        sides = Tensor((3, 45), "int16", 0.001, 0), Tensor((3, 7), "int16", 0.01, 0)
        yield f"FULLY_CONNECTED int16 {kind}", network([sides[0], matrix, bias, sides[1]], [full], [0], [3])
    yield "tiny", tiny()


@pytest.mark.parametrize("way", PATHS)
def test_small_models_live(way: str, tmp_path: Path, rng: np.random.Generator) -> None:
    for k, (what, content) in enumerate(small_models(rng)):
        agreed(content, tmp_path, k, way, what)


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", MODELS)
def test_real_models(name: str, way: str, shared: Path) -> None:
    """Every tensor of a real model, forced and chained: not one element differs."""
    profiled()
    from qengine.models.replay_runtime import record

    graph = read_graph(shared / "models" / f"{name}.tflite")
    assert bool(graph.repaired) == (name == "person_detect")
    inputs, model = random_inputs(graph, 2), Model(graph)
    real = record(graph, inputs, way)
    result = compare(model, inputs, real, Choice(way), "litert")
    assert not result.skipped
    assert result.elements == MODELS[name]
    assert (result.forced, result.chained) == (0, 0), [row.first for row in result.rows if row.first]
    # The zeros mean something: one changed bias shows.
    wrong = {k: (v + 1 if v.dtype.kind in "iu" else v) for k, v in real.items()}
    assert compare(model, inputs, wrong, Choice(way), "litert").forced > result.elements // 2


def test_what_a_scheme_costs(shared: Path) -> None:
    """Single rounding in place of XNNPACK's: a handful of codes, and after a whole network a twentieth of them."""
    graph = read_graph(shared / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
    inputs, model = random_inputs(graph, 1), Model(graph)
    real = model.run(inputs, Choice("xnnpack"))
    result = compare(model, inputs, real, Choice("xnnpack", "single"), "profiles")
    assert (result.forced, result.accumulators) == (34, (14, 6_679_113))
    assert result.chained == 415_027
    # XNNPACK's own scheme errs nowhere but in ADD and MEAN, which it does in other ways.
    fp32 = compare(model, inputs, real, Choice("xnnpack", "fp32"), "profiles")
    assert fp32.accumulators == (0, 6_679_113)
    assert {row.op for row in fp32.rows if row.forced} <= {"ADD", "MEAN"}
    real = model.run(inputs, Choice("ref"))
    assert compare(model, inputs, real, Choice("ref", "double"), "profiles").chained == 0


def test_the_first_difference_is_explained() -> None:
    graph = read_graph(DATA)
    inputs, model = random_inputs(graph, 1), Model(graph)
    real = dict(model.run(inputs, Choice("xnnpack")))
    real[3] = real[3].copy()
    real[3][0, 1, 2, 3] ^= 1
    row = next(row for row in compare(model, inputs, real, Choice("xnnpack"), "x").rows if row.tensor == 3)
    assert (row.forced, row.chained, row.largest) == (1, 1, 1)
    for text in ("at (0, 1, 2, 3)", "acc ", "in_scale 0.05", "before the zero point", "xnnpack ", "opt ", "ref "):
        assert text in row.first


def test_an_operator_that_is_not_covered_is_listed(tmp_path: Path) -> None:
    tensors = [Tensor((1, 4), "int8", 0.1, 0), *(Tensor((1, 4), "int8", 0.1, 0) for _ in range(3))]
    ops = [Op("RELU", [0], 1), Op("FLOOR_DIV", [1, 1], 2), Op("RELU", [2], 3)]
    path = tmp_path / "m.tflite"
    path.write_bytes(network(tensors, ops, [0], [3]))
    got = qe.replay(path, np.array([[-3, 0, 1, 2]], np.int8))
    assert got[1].tolist() == [[0, 0, 1, 2]]
    assert sorted(got) == [0, 1]
    assert [(row.index, row.name, row.reason) for row in got.skipped] == [
        (1, "FLOOR_DIV", "no profile"), (2, "RELU", "input 0 (tensor 2) has no value"),
    ]  # fmt: skip
    ops[1] = Op("UNIDIRECTIONAL_SEQUENCE_LSTM", [1, 1], 2)
    path.write_bytes(network(tensors, ops, [0], [3]))
    assert qe.replay(path, got[0]).skipped[0].reason == "no replay, though a profile"
    # From the runtime's recording the rest goes on.
    model = Model(read_graph(path))
    recorded = {2: np.array([[-7, 7, 1, 1]], np.int8)}
    chained = model.run({0: got[0]}, Choice("ref"), recorded=recorded)
    assert chained[3].tolist() == [[0, 7, 1, 1]]


def test_what_is_not_covered_comes_from_the_runtime(tmp_path: Path) -> None:
    litert()
    image = Tensor((1, 4, 5, 3), "int8", 0.05, 0)
    real = Tensor(image.shape, "float32")
    ops = [Op("HARD_SWISH", [0], 1, "", 1), Op("DEQUANTIZE", [1], 2), Op("EXP", [2], 3, "", 1), Op("QUANTIZE", [3], 4)]
    path = tmp_path / "m.tflite"
    path.write_bytes(network([image, image, real, real, image], ops, [0], [4]))
    ran = qengine("replay", path, "--against", "litert", "--path", "ref", "--json")
    assert ran.code == 0, ran.err
    data = json.loads(ran.out)
    assert [row["name"] for row in data["not_covered"]] == ["HARD_SWISH", "EXP"]
    assert [row["chained"] for row in data["tensors"]] == [None, 0, None, 0]
    assert data["elements"] == 2 * 60  # what is taken from the runtime is not compared
    table = qengine("replay", path, "--against", "litert", "--path", "ref").out
    assert "not covered" in table
    assert "not done" in table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((1, 9, 8, 3), np.uint8), "input tensor 0 't0' must be of int8; got uint8."),
        (np.zeros((1, 9, 8), np.int8), "input tensor 0 't0' must have shape (1, 9, 8, 3); got (1, 9, 8)."),
        ({"x": np.zeros((1, 9, 8, 3), np.int8)}, "the model has no input 'x'; known: 0 't0'."),
        ({}, "no value for input tensor 0 't0'."),
    ],
)
def test_wrong_inputs(value: Any, text: str) -> None:
    with pytest.raises(QEngineError) as caught:
        qe.replay(DATA, value)
    assert str(caught.value) == text


def test_a_model_of_giants_is_refused_at_once(tmp_path: Path) -> None:
    """A batch that only a damaged file declares: nothing is drawn, nothing is computed."""
    shape = (1 << 20, 2, 4, 4)
    tensors = [Tensor(shape, "int8", 0.5, 1), Tensor(shape, "int8", 0.5, 1)]
    path = tmp_path / "giant.tflite"
    path.write_bytes(single(Op("ADD", [0, 0], 1, "AddOptions"), tensors))
    ran = qengine("replay", path, "--input", "random:1")
    assert (ran.code, ran.out) == (2, "")
    assert "takes tensors of up to 33,554,431 elements" in ran.err
    assert "declares 33,554,432, the largest tensor 1" in ran.err
    with pytest.raises(QEngineError, match=r"drawn up to 16,777,216 elements; the model declares \[\(1048576, 2"):
        random_inputs(read_graph(path), 1)


def test_unknown_path() -> None:
    with pytest.raises(qe.UnknownNameError, match=r"unknown path 'tpu'; known: opt, ref, xnnpack\."):
        qe.replay(DATA, np.zeros((1, 9, 8, 3), np.int8), path="tpu")


def test_input_files(tmp_path: Path) -> None:
    graph = read_graph(DATA)
    x = random_inputs(graph, 4)[0]
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", t0=x)
    np.savez(tmp_path / "y.npz", x)
    for name in ("x.npy", "x.npz", "y.npz"):
        assert np.array_equal(read_inputs(graph, str(tmp_path / name))[0], x)
    assert np.array_equal(read_inputs(graph, "random:4")[0], x)
    assert np.array_equal(named_inputs(graph, [x])[0], x)
    (tmp_path / "bad.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:60])
    for source in (
        "random:",
        "random:-1",
        "random:1.5",
        "x.bin",
        str(tmp_path / "none.npy"),
        str(tmp_path / "bad.npy"),
    ):
        with pytest.raises(qe.InputFileError):
            read_inputs(graph, source)


def outcome(path: Path) -> str:
    try:
        graph = read_graph(path)
        Model(graph).run(random_inputs(graph, 1), Choice("opt"))
    except QEngineError as error:
        return type(error).__name__
    return "replayed"


def test_truncated_at_every_place(tmp_path: Path) -> None:
    whole, path = DATA.read_bytes(), tmp_path / "m.tflite"
    found = set()
    for length in range(0, len(whole) - 6, 37):
        path.write_bytes(whole[:length])
        found.add(outcome(path))
    assert "InputFileError" in found
    path.write_bytes(whole)
    assert outcome(path) == "replayed"


def test_flipped_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    whole, path = DATA.read_bytes(), tmp_path / "m.tflite"
    found = set()
    for _ in range(300):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 6)):
            broken[place] = rng.choice([broken[place] ^ (1 << int(rng.integers(8))), 0, 255])
        path.write_bytes(bytes(broken))
        found.add(outcome(path))
    assert {"InputFileError", "replayed"} <= found


def test_command(tmp_path: Path) -> None:
    ran = qengine("replay", DATA, "--input", "random:3", "--path", "ref", "--json")
    assert (ran.code, ran.err) == (0, "")
    data = json.loads(ran.out)
    graph = read_graph(DATA)
    tensors = Model(graph).run(random_inputs(graph, 3), Choice("ref"))
    assert data["outputs"] == {"16": tensors[16].reshape(-1).tolist()}
    assert [row["op"] for row in data["tensors"]] == [operator.name for operator in graph.operators]
    listed = qengine("replay", DATA, "--input", "random:3", "--path", "ref")
    assert listed.code == 0
    assert data["tensors"][0]["sha256"][:16] in listed.out
    what_if = json.loads(qengine("replay", DATA, "--instead", "double", "--json").out)
    assert what_if["instead"] == "double"
    several = qengine("replay", DATA, "--instead", "double", "--instead", "single", "--input", "random:1", "--input",
                      "random:2", "--json")  # fmt: skip
    both = json.loads(several.out)
    assert [row["instead"] for row in both] == ["double", "single"]
    assert both[0]["elements"] == 2 * what_if["elements"]
    assert both[0]["forced"] >= what_if["forced"]
    assert qengine("replay", DATA, "--input", "random:1", "--input", "random:2").code == 2
    assert what_if["elements"] == sum(int(np.prod(row["shape"])) for row in data["tensors"])


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("no.tflite",), "no.tflite: cannot be read"),
        ((DATA, "--instead", "doubel"), "did you mean"),
        ((DATA, "--input", "random:x"), "random:SEED takes an integer"),
    ],
)
def test_command_refuses(args: tuple[Any, ...], text: str) -> None:
    ran = qengine("replay", *args)
    assert ran.code == 2
    assert text in ran.err


SHAPES = [
    ((1, 6, 5, 37), (1, 1, 1, 37)), ((1, 1, 1, 37), (1, 6, 5, 37)), ((1, 6, 5, 37), (1, 6, 5, 1)), ((1, 5, 37), (1,)),
    ((1, 6, 1, 37), (1, 1, 5, 37)), ((1, 6, 5, 37), (1, 6, 1, 1)), ((4, 1, 5, 1), (1, 6, 1, 21)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("op", ["ADD", "SUB", "MUL"])
def test_broadcasts_live(op: str, dtype: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Scales in ratios of small integers: sums meet ties, where rows, their tails and single codes differ."""
    for k, (a, b) in enumerate(SHAPES * 3):
        unit = rng.uniform(0.005, 0.02)
        sa, sb, so = (float(unit * v) for v in rng.integers(1, 12, 3))
        so = sa * sb * 2 * int(rng.integers(1, 120)) if op == "MUL" else 2 * so
        out = Tensor(np.broadcast_shapes(a, b), dtype, so, 1)
        tensors = [Tensor(a, dtype, sa, 5), Tensor(b, dtype, sb, 3), out]
        options = {"FusedActivationFunction": k % 2}
        content = single(Op(op, [0, 1], 2, f"{op.title()}Options", 2, options), tensors)
        for way in PATHS:
            agreed(content, tmp_path, k, way, f"{op} {dtype} {a} {b}")


@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_sums_below_int32_live(multiplier: int, tmp_path: Path) -> None:
    """Products below -2**31: a grouped convolution wraps where the zero point is added, a depthwise one saturates."""
    channels = 5 * multiplier
    tensors = [
        Tensor((1, 3, 4, 5), "int8", 4.0, -128),
        Tensor((1, 2, 2, channels), "int8", 0.2, 0, np.ones((1, 2, 2, channels), np.int8), 3),
        Tensor((channels,), "int32", 0.8, 0, np.full(channels, -(10**8), np.int32)),
        Tensor((1, 3, 4, channels), "int8", 2.0**-7, -7),
    ]  # fmt: skip
    options = window("dw", 1, 1, DepthMultiplier=multiplier)
    content = single(Op("DEPTHWISE_CONV_2D", [0, 1, 2], 3, "DepthwiseConv2DOptions", 3, options), tensors)
    agreed(content, tmp_path, 1, "xnnpack", f"multiplier {multiplier}")


def test_axes_of_one_element_that_the_runtime_drops_live(tmp_path: Path) -> None:
    """XNNPACK gives the sum of (1, 1) and (1, 1, 1) with a fused clamp two axes: the codes are what is compared."""
    constant = Tensor((1, 1, 1), "int8", 0.5, 0, np.ones((1, 1, 1), np.int8))
    tensors = [Tensor((1, 1), "int8", 0.5, 0), constant, Tensor((1, 1, 1), "int8", 1.0, 0)]
    op = Op("ADD", [0, 1], 2, "AddOptions", 2, {"FusedActivationFunction": 1})
    agreed(single(op, tensors), tmp_path, 1, "xnnpack", "ADD")


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_products_beyond_16_bits_live(dtype: str, way: str, tmp_path: Path) -> None:
    """Products of thousands of codes: bodies, their rests, rows and single codes overflow each in its own way."""
    for k, (a, b) in enumerate([((1, 6, 5, 37),) * 2, ((11,), (11,)), ((25,), (1,)), *SHAPES]):
        zeros = (111, -5, 100) if dtype == "int8" else (239, 128, 128)
        shapes = a, b, np.broadcast_shapes(a, b)
        tensors = [
            Tensor(shape, dtype, scale, zero)
            for shape, scale, zero in zip(shapes, (1.9, 0.9, 0.08), zeros, strict=True)
        ]
        content = single(Op("MUL", [0, 1], 2, "MulOptions"), tensors)
        agreed(content, tmp_path, k, way, f"MUL {dtype} {a} {b}")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_where_xnnpack_declines_live(dtype: str, tmp_path: Path) -> None:
    """At the ends of the ratios that XNNPACK takes, and beyond, where its path runs the optimized kernel."""
    image, zero = (1, 6, 7, 21), 5
    for ratio in (2.0**-8, 2.0**-8.001, 2.0**7, 2.0**7.001):
        tensors = [Tensor(image, dtype, 0.5 * ratio, zero), Tensor(image, dtype, 0.5, 2)]
        agreed(single(Op("QUANTIZE", [0], 1), tensors), tmp_path, 1, "xnnpack", f"QUANTIZE {ratio}")
    for op, ratios in (("MUL", (2.0**-16, 2.0**-16.01, 2.0**7.99, 2.0**8)), ("ADD", (2.0**-10, 2.0**-10.01))):
        for ratio in ratios:
            scales = (0.5 * ratio, 0.5, 0.25) if op == "MUL" else (0.25 * ratio, 0.5, 0.25)
            tensors = [Tensor(image, dtype, scale, zero) for scale in scales]
            agreed(single(Op(op, [0, 1], 2, f"{op.title()}Options"), tensors), tmp_path, 1, "xnnpack", f"{op} {ratio}")


def test_what_leaves_a_kernel_is_not_covered(tmp_path: Path) -> None:
    image, path = (1, 6, 7, 21), tmp_path / "m.tflite"
    tensors = [Tensor(image, "int8", scale, 0) for scale in (50.0, 0.1, 0.1)]
    path.write_bytes(single(Op("ADD", [0, 1], 2, "AddOptions"), tensors))
    codes = [np.zeros(image, np.int8)] * 2
    assert "leave the 16 bits" in qe.replay(path, codes, path="opt").skipped[0].reason
    assert not qe.replay(path, codes, path="ref").skipped
    weights = Tensor((3, 4), "int8", 1.0, 0, np.ones((3, 4), np.int8))
    tensors = [Tensor((2, 4), "int8", 1.0, 0), weights, Tensor((2, 3), "int8", 2.0**-8, 0)]
    path.write_bytes(network(tensors, [Op("FULLY_CONNECTED", [0, 1, -1], 2, "FullyConnectedOptions", 4)], [0], [2]))
    codes = [np.zeros((2, 4), np.int8)]
    assert "XNNPACK does not start" in qe.replay(path, codes).skipped[0].reason
    assert qe.replay(path, codes, path="ref")[2].tolist() == [[0] * 3] * 2


def test_int16_with_one_scale_takes_the_product_in_float32(tmp_path: Path) -> None:
    """FULLY_CONNECTED with an int32 bias: f32(0.0003 * 0.007) and its double lie on either side of ties."""
    path, n = tmp_path / "m.tflite", 4000
    si, sw, so = np.float32(3e-4), np.float32(7e-3), np.float32(0.02)
    bias = np.rint((np.arange(n) * 8 + 0.5) * np.float64(so) / (np.float64(si) * np.float64(sw))).astype(np.int32)
    tensors = [
        Tensor((1, 1), "int16", si, 0), Tensor((n, 1), "int8", sw, 0, np.ones((n, 1), np.int8)),
        Tensor((n,), "int32", si * sw, 0, bias), Tensor((1, n), "int16", so, 0),
    ]  # fmt: skip
    op = Op("FULLY_CONNECTED", [0, 1, 2], 3, "FullyConnectedOptions", 11, {"QuantizedBiasType": 2})
    path.write_bytes(network(tensors, [op], [0], [3]))
    columns: dict[str, Any] = {"acc": bias, "in_scale": si, "w_scale": sw, "out_scale": so, "zero_point": 0}
    for way in PATHS:
        got = qe.replay(path, np.zeros((1, 1), np.int16), path=way)[3][0]
        one, many = (
            qe.emulate("litert", "FULLY_CONNECTED", way, variant=f"{kind}_i16x8_biasint32", **columns)
            for kind in ("pert", "perch")
        )
        assert np.array_equal(got, one)
        assert (one != many).any() == (way != "ref")


def test_weights_that_are_an_input_are_not_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "m.tflite"
    tensors = [Tensor((2, 4), "int8", 0.5, 3), Tensor((3, 4), "int8", 0.5, 0), Tensor((2, 3), "int8", 0.5, 0)]
    path.write_bytes(network(tensors, [Op("FULLY_CONNECTED", [0, 1, -1], 2, "FullyConnectedOptions", 4)], [0, 1], [2]))
    model = Model(read_graph(path))
    for _ in range(2):
        x, w = (rng.integers(-9, 10, shape).astype(np.int8) for shape in ((2, 4), (3, 4)))
        acc = (x.astype(np.int32) - 3) @ w.T.astype(np.int32)
        expected = qe.emulate(
            "litert", "FULLY_CONNECTED", "opt", variant="pertensor", acc=acc, in_scale=0.5, w_scale=0.5,
            out_scale=0.5, zero_point=0,
        )  # fmt: skip
        assert np.array_equal(model.run({0: x, 1: w}, Choice("opt"))[2], expected)
