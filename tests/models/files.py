"""Small files of every format, written by the formats' own packages or by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def safetensors_bytes(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@dataclass
class Lite:
    """One tensor of a TensorFlow Lite model."""

    name: str
    kind: str
    shape: tuple[int, ...]
    data: bytes | None
    scale: list[float] = field(default_factory=list)
    zero_point: list[int] = field(default_factory=list)
    axis: int = 0
    sparse: bool = False


def _vector(builder: Any, start: Callable[[Any, int], None], prepend: Callable[[Any], None], items: list[Any]) -> int:
    start(builder, len(items))
    for item in reversed(items):
        prepend(item)
    return int(builder.EndVector())


def tflite_bytes(tensors: list[Lite]) -> bytes:
    tflite = pytest.importorskip("tflite")
    import flatbuffers

    b = flatbuffers.Builder(1024)
    buffers, built = [], []
    for data in [None, *(t.data for t in tensors)]:
        at = b.CreateByteVector(data) if data is not None else None
        tflite.BufferStart(b)
        if at is not None:
            tflite.BufferAddData(b, at)
        buffers.append(tflite.BufferEnd(b))
    for k, t in enumerate(tensors):
        name = b.CreateString(t.name)
        shape = _vector(b, tflite.TensorStartShapeVector, b.PrependInt32, list(t.shape))
        quantization = sparsity = None
        if t.scale:
            scale = _vector(b, tflite.QuantizationParametersStartScaleVector, b.PrependFloat32, t.scale)
            zero = _vector(b, tflite.QuantizationParametersStartZeroPointVector, b.PrependInt64, t.zero_point)
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scale)
            tflite.QuantizationParametersAddZeroPoint(b, zero)
            tflite.QuantizationParametersAddQuantizedDimension(b, t.axis)
            quantization = tflite.QuantizationParametersEnd(b)
        if t.sparse:
            tflite.SparsityParametersStart(b)
            sparsity = tflite.SparsityParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, getattr(tflite.TensorType, t.kind))
        tflite.TensorAddBuffer(b, k + 1)
        tflite.TensorAddName(b, name)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        if sparsity is not None:
            tflite.TensorAddSparsity(b, sparsity)
        built.append(tflite.TensorEnd(b))
    listed = _vector(b, tflite.SubGraphStartTensorsVector, b.PrependUOffsetTRelative, built)
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, listed)
    graphs = _vector(b, tflite.ModelStartSubgraphsVector, b.PrependUOffsetTRelative, [tflite.SubGraphEnd(b)])
    held = _vector(b, tflite.ModelStartBuffersVector, b.PrependUOffsetTRelative, buffers)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, held)
    b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
    return bytes(b.Output())


def onnx_model(initializers: list[Any], nodes: list[Any] | None = None) -> Any:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(nodes or [], "g", [], [], initializers)
    return onnx.helper.make_model(graph)


def npy_bytes(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def every_format(folder: Path) -> dict[str, Path]:
    """Write one healthy file of each format; those whose package is missing are left out."""
    w = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    paths = {}
    for name, array in {"c": w, "f": np.asfortranarray(w), "i": np.arange(-20, 20)}.items():
        np.save(folder / f"{name}.npy", array)
        paths[f"{name}.npy"] = folder / f"{name}.npy"
    np.savez(folder / "s.npz", a=w, b=np.asfortranarray(w), c=np.arange(9))
    np.savez_compressed(folder / "z.npz", a=w, b=np.asfortranarray(w), c=np.arange(9))
    (folder / "t.csv").write_text("a,b\n" + "\n".join(f"{x:.3f},{-x:.3f}" for x in w.ravel()))
    header = {
        "__metadata__": {"format": "pt"},
        "w": {"dtype": "F32", "shape": [3, 4, 5], "data_offsets": [0, 240]},
        "q": {"dtype": "I64", "shape": [2], "data_offsets": [240, 256]},
    }
    (folder / "w.safetensors").write_bytes(safetensors_bytes(header, w.tobytes() + struct.pack("<qq", -7, 7)))
    for file in ("s.npz", "z.npz", "t.csv", "w.safetensors"):
        paths[file] = folder / file
    return paths


def lite_file(folder: Path) -> Path:
    path = folder / "m.tflite"
    codes = np.arange(-12, 12, dtype=np.int8)
    path.write_bytes(
        tflite_bytes(
            [
                Lite("x", "FLOAT32", (1, 4), None),
                Lite("f", "FLOAT32", (2, 3), np.arange(6, dtype="<f4").tobytes()),
                Lite("q", "INT8", (4, 6), codes.tobytes(), [0.5, 0.25, 1, 2], [0, 0, 0, 0], 0),
                Lite("bias", "INT32", (4,), np.arange(4, dtype="<i4").tobytes(), [0.5], [0]),
            ]
        )
    )
    return path


def onnx_file(folder: Path) -> Path:
    onnx = pytest.importorskip("onnx")
    make = onnx.numpy_helper.from_array
    model = onnx_model(
        [
            make(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "w"),
            make(np.arange(-6, 6, dtype=np.int8).reshape(3, 4), "q"),
            make(np.array([0.5, 0.25, 2], np.float32), "s"),
            make(np.array([0, 1, -1], np.int8), "z"),
        ],
        [onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"], axis=0)],
    )
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path
