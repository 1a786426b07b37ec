"""Damage for every parser: seeds, mutations, and what may come out."""

from __future__ import annotations

import functools
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import qengine as qe
from qengine.cli.options import parse_count
from qengine.exceptions import QEngineError
from qengine.identification.row_files import read_rows
from qengine.models import replay
from qengine.models.audit import audit
from qengine.models.graph import Graph, read_graph
from qengine.models.replay_inputs import read_inputs
from qengine.models.replay_node import Choice
from qengine.models.tensors import open_tensors
from qengine.requant.scales import read_scales
from qengine.sweeps.plan import parse_accumulators
from qengine.work.checkpoint import FILE, Checkpoint
from tests.models.files import every_format, lite_file, onnx_file

NETWORK = Path(qe.__file__).parent / "demo" / "network.tflite"
PARTS = {"a": [1, 2**70], "b": {"x": None}, "c": "text"}
WORDS = [
    b"nan", b"-inf", b"1e400", b"-0", b"99999999999999999999", b"9" * 5000, b"1_0", b"1e", b"\xff", b"\0", b'"', b"\n",
    b"\r", b",", b";", b"\xef\xbb\xbf", "١٢".encode(), b"-9223372036854775809", b"[" * 3000, b"(1," * 200, b"|O", b"-1",
    b"<M8[s]", b"True", b"^", b"E999999999", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"#", b"null", b"RELU6", b"acc",
]  # fmt: skip


def _tensors(path: Path) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        for source in open_tensors(path):
            if not source.refusal:
                assert sum(piece.size for piece in source.chunks(16)) == math.prod(source.shape)


def _replayed(path: Path) -> None:
    graph = read_graph(path)
    if any(math.prod(graph.tensors[k].shape) > 1 << 16 for k in graph.inputs):
        return  # a batch of thousands is no damage, and the reference takes a minute for it
    found = replay.Model(graph).run(replay.random_inputs(graph, 1), Choice("ref", backend="reference"))
    written = {k for operator in graph.operators for k in operator.outputs}
    assert set(found) <= {*graph.inputs, *written}


def _audited(path: Path) -> None:
    for layer in audit(path, ("litert:ref", "single")).layers:
        for pair in layer.pairs:
            assert 0 <= pair.divergent + pair.undecided <= pair.states


@functools.cache
def network() -> Graph:
    """Return the model of the demo."""
    return read_graph(NETWORK)


def _inputs(path: Path) -> None:
    (codes,) = read_inputs(network(), str(path)).values()
    assert codes.shape == (1, 9, 8, 3)
    assert codes.dtype == np.int8


def _checkpoint(path: Path) -> None:
    (path.parent / FILE).write_bytes(path.read_bytes())
    with Checkpoint(path.parent, {"seed": 1}, resume=True) as kept:
        assert all(kept.get(key) in (None, value) for key, value in PARTS.items())
        kept.put("again", 1)
    with Checkpoint(path.parent, {"seed": 1}, resume=True) as again:
        assert again.get("again") == 1


def _count(path: Path) -> None:
    value, text = 0, ""
    try:
        value = parse_count(path.read_bytes().decode("latin-1"))
    except ValueError as error:
        text = f"{type(error).__name__}: {error}"
    assert 0 <= value < 10**1300
    assert not text or text.startswith("ValueError: ")
    assert len(text) < 1000


def _accumulators(path: Path) -> None:
    parse_accumulators(path.read_bytes().decode("latin-1"))


#: Name of the file -> what reads it.
PARSERS: dict[str, Callable[[Path], object]] = {
    **{f"t.{ending}": _tensors for ending in ("npy", "npz", "csv", "safetensors", "tflite", "onnx")},
    **{f"rows.{ending}": read_rows for ending in ("csv", "npz", "parquet")},
    "network.tflite": _replayed,
    "audit.tflite": _audited,
    "audit.onnx": _audited,
    "inputs.npy": _inputs,
    "inputs.npz": _inputs,
    "scales.csv": read_scales,
    "checkpoint.lines": _checkpoint,
    "count.txt": _count,
    "accumulators.txt": _accumulators,
}


def _all_kinds() -> bytes:
    """Return a TensorFlow Lite model with most operators that a replay knows, on few codes."""
    from tests.models.networks import VALID, Op, Tensor, network, window

    def constant(*values: Any) -> Tensor:
        data = np.array(values, np.int32)
        return Tensor(data.shape, "int32", data=data)

    image, half = (1, 4, 4, 3), (1, 2, 2, 3)
    pool = window("pool", 2, 2, FilterHeight=2, FilterWidth=2)
    steps: list[tuple[str, list[Any], Tensor, str, dict[str, Any]]] = [
        ("QUANTIZE", [], Tensor(image, "int8", 0.1, 3), "", {}),
        ("LOGISTIC", [], Tensor(image, "int8", 1 / 256, -128), "", {}),
        ("MUL", [0], Tensor(image, "int8", 0.01, 1), "MulOptions", {}),
        ("SUB", [0], Tensor(image, "int8", 0.02, -1), "SubOptions", {"FusedActivationFunction": 1}),
        ("PAD", [constant([0, 0], [0, 1], [1, 0], [0, 0])], Tensor((1, 5, 5, 3), "int8", 0.02, -1), "", {}),
        ("STRIDED_SLICE", [constant(0, 1, 0, 0), constant(1, 5, 4, 3), constant(1, 1, 1, 1)],
         Tensor(image, "int8", 0.02, -1), "StridedSliceOptions", {}),
        ("MIRROR_PAD", [constant([0, 0], [1, 1], [0, 0], [0, 0])], Tensor((1, 6, 4, 3), "int8", 0.02, -1),
         "MirrorPadOptions", {}),
        ("SLICE", [constant(0, 1, 0, 0), constant(1, 4, -1, 3)], Tensor(image, "int8", 0.02, -1), "", {}),
        ("TRANSPOSE", [constant(0, 2, 1, 3)], Tensor(image, "int8", 0.02, -1), "", {}),
        ("MAX_POOL_2D", [], Tensor(half, "int8", 0.02, -1), "Pool2DOptions", pool),
        ("RESIZE_BILINEAR", [constant(4, 4)], Tensor(image, "int8", 0.02, -1), "ResizeBilinearOptions",
         {"HalfPixelCenters": True}),
        ("AVERAGE_POOL_2D", [], Tensor(half, "int8", 0.02, -1), "Pool2DOptions", pool | {"Padding": VALID}),
        ("RESHAPE", [], Tensor((4, 3), "int8", 0.02, -1), "", {}),
        ("RELU6", [], Tensor((4, 3), "int8", 0.02, -1), "", {}),
        ("CONCATENATION", [-1], Tensor((8, 3), "int8", 0.02, -1), "ConcatenationOptions", {"Axis": 0}),
        ("MAXIMUM", [-1], Tensor((8, 3), "int8", 0.02, -1), "", {}),
        ("PACK", [-1], Tensor((2, 8, 3), "int8", 0.02, -1), "PackOptions", {}),
        ("DEQUANTIZE", [], Tensor((2, 8, 3), "float32"), "", {}),
    ]  # fmt: skip
    tensors, ops, last = [Tensor(image, "uint8", 0.2, 7)], list[Op](), 0
    for op, more, out, table, options in steps:
        given = [last]
        for one in more:  # an earlier tensor by its number, the last one again, or a constant
            if isinstance(one, Tensor):
                tensors.append(one)
            given.append(len(tensors) - 1 if isinstance(one, Tensor) else 1 if one == 0 else last)
        tensors.append(out)
        last = len(tensors) - 1
        ops.append(Op(op, given, last, table, 3, options))
    return network(tensors, ops, [0], [last])


def _onnx_networks() -> list[bytes]:
    from tests.models.onnx_models import Products

    rng = np.random.default_rng(5)
    one = Products.random(rng, "Conv", "u8", group=2), Products.random(rng, "Gemm", "s8", transposed=True)
    return [model.SerializeToString() for two in one for model in (two.qoperator(1), two.qdq(1))]


def seeds(name: str, folder: Path) -> list[bytes]:
    """Return sound contents of a file of this name."""
    ending = name.rpartition(".")[2]
    if name == "t.tflite":
        return [lite_file(folder).read_bytes()]
    if name == "t.onnx":
        return [onnx_file(folder).read_bytes()]
    if name in ("network.tflite", "audit.tflite"):
        return [NETWORK.read_bytes(), _all_kinds()]
    if name == "audit.onnx":
        return _onnx_networks()
    if name.startswith("inputs."):
        out = io.BytesIO()
        codes = np.arange(216, dtype=np.int8).reshape(1, 9, 8, 3)
        np.save(out, codes) if ending == "npy" else np.savez(out, codes)
        return [out.getvalue()]
    if name.startswith("t."):
        return [path.read_bytes() for path in every_format(folder).values() if path.suffix == f".{ending}"]
    if name == "rows.csv":
        return [
            b"acc,output,in_scale,w_scale,out_scale,zero_point,activation\n1,0,.1,.2,.3,-5,NONE\n-3,1,.1,.2,.3,4,RELU6\n",
            b"acc,output,multiplier,shift,qmin,qmax\n1,0,1073741824,-1,-5,5\n",
            b"input,in_zp,output,in_scale,out_scale\n5,3,2,.1,.2\n",
        ]
    if name.startswith("rows."):
        columns = {
            "acc": np.array([1, 2, -3]), "output": np.array([0, 1, -1], np.int8), "in_scale": np.full(3, 0.1),
            "w_scale": np.full(3, 0.1), "out_scale": np.full(3, 0.05), "activation": np.array(["NONE", "RELU", "NONE"]),
        }  # fmt: skip
        out = io.BytesIO()
        if ending == "npz":
            np.savez(out, **columns)
        else:
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.table({k: v.tolist() for k, v in columns.items()}), out)
        return [out.getvalue()]
    if name == "scales.csv":
        return [b"input_scale,weight_scale,output_scale,output_zero_point,layer\n.1,.2,.3,5,conv1\n.1,.2,.4,-5,conv1\n"]
    if name == "checkpoint.lines":
        kept = Checkpoint(folder / "kept", {"seed": 1}, resume=True)
        for key, value in PARTS.items():
            kept.put(key, value)
        return [kept.path.read_bytes()]
    if name == "count.txt":
        return [b"33.4M", b"2^32", b"1_000", b"1e9", b"2.5k"]
    return [b"uniform:-100:100", b"normal:5:3", b"output-laplace:3", b"all:-5:5", b"unsaturated"]


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """Return a content with one to four places changed."""
    out = bytearray(whole)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(0, max(len(out), 1)))
        end = at + int(random.choice([0, 1, 2, 4, 8, 64]))
        kind = int(random.integers(6))
        if kind == 0 and out[at : at + 1]:
            out[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            out[at:end] = WORDS[int(random.integers(len(WORDS)))]
        elif kind == 2:
            del out[at:end]
        elif kind == 3:
            value = int(random.choice([0, 1, -1, 2**31 - 1, -(2**31), len(out), len(out) - at, at, 4]))
            out[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
        elif kind == 4:
            out[at:at] = out[at:end]
        else:
            words = list(re.finditer(rb"[-\w.+]+", bytes(out)))
            if words:
                match = words[int(random.integers(len(words)))]
                out[match.start() : match.end()] = WORDS[int(random.integers(len(WORDS)))]
    return bytes(out)


def outcome(name: str, content: bytes, folder: Path) -> str:
    """Read a content; "read", or the name of the error of this package. Every other error passes through."""
    path = folder / name
    path.write_bytes(content)
    found, text = "read", ""
    try:
        PARSERS[name](path)
    except QEngineError as error:
        found, text = type(error).__name__, str(error)
    assert len(text) < 2000 + len(str(path))
    return found


def nested(depth: int) -> bytes:
    """Return a .safetensors file whose header is `depth` lists in each other."""
    text = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    return len(text).to_bytes(8, "little") + text


def overlapping(count: int) -> bytes:
    """Return a .safetensors file whose header declares `count` tensors of 2**40 elements without a byte behind it."""
    entry = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
    text = json.dumps({f"t{k}": entry for k in range(count)}).encode()
    return len(text).to_bytes(8, "little") + text
