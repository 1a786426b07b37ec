"""``.tflite``: constant tensors of a TensorFlow Lite flatbuffer, dequantized with their own parameters.

Source: tensorflow/lite/schema/schema.fbs (Tensor, QuantizationParameters, Buffer).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import InputFileError
from .elements import ELEMENTS, StoredScale, file_at, stream
from .source import TensorSource, file_size, optional, reading, shape_of

TYPES = {
    "FLOAT64": "float64",
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "INT4": "int4",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "U")},
}
#: What reading a damaged flatbuffer raises.
DAMAGE = (struct.error, IndexError, TypeError, ValueError, OverflowError, AttributeError, MemoryError)


def buffer_place(buffer: Any, contents: bytes, size: int, where: str) -> tuple[int, int]:
    """Return offset and length of a buffer's bytes in the file; (0, 0) if it has none."""
    length = int(buffer.DataLength())
    if length:
        view = buffer.DataAsNumpy()
        base = np.frombuffer(contents, np.uint8).__array_interface__["data"][0]
        return view.__array_interface__["data"][0] - base, length
    offset, length = int(buffer.Offset()), int(buffer.Size())
    if offset <= 1 or not length:  # 1 is a placeholder of the writer
        return 0, 0
    if offset + length > size:
        raise InputFileError(f"{where}: its buffer is bytes {offset} to {offset + length} of a file of {size}.")
    return offset, length


def _parameters(tensor: Any, shape: tuple[int, ...], where: str) -> StoredScale | None:
    """Return a tensor's scales and zero points, None if it has none."""
    quantization = tensor.Quantization()
    if quantization is None or not quantization.ScaleLength():
        return None
    scale = np.array(quantization.ScaleAsNumpy(), np.float64)
    zero_point = np.zeros(scale.size, np.int64)
    if quantization.ZeroPointLength():
        stored = np.array(quantization.ZeroPointAsNumpy(), np.int64)
        if stored.size not in (1, scale.size):
            raise InputFileError(f"{where}: {scale.size} scales need as many zero points, or one; got {stored.size}.")
        zero_point = np.broadcast_to(stored, scale.shape)
    if not np.isfinite(scale).all():
        raise InputFileError(f"{where}: scales must be finite; got {scale[~np.isfinite(scale)][0]}.")
    if scale.size == 1:
        return StoredScale(scale, zero_point)
    # Old converters give a bias the axis of its weights; a 1-D tensor has only one.
    axis = 0 if len(shape) == 1 else int(quantization.QuantizedDimension())
    if not 0 <= axis < len(shape) or shape[axis] != scale.size:
        raise InputFileError(f"{where}: {scale.size} scales do not fit axis {axis} of shape {shape}.")
    return StoredScale(scale, zero_point, axis)


def _constant(path: Path, tensor: Any, name: str, kind: str, at: tuple[int, int]) -> TensorSource:
    where = f"{path}, tensor {name[:200]!r}"
    dimensions = tensor.ShapeAsNumpy().tolist() if tensor.ShapeLength() else []
    shape = shape_of(dimensions, where)
    refusal = "" if kind in TYPES else f"TFLite type {kind} is not read; known: {', '.join(TYPES)}."
    if tensor.Sparsity() is not None:
        refusal = "a sparse TFLite tensor is not read; convert the model with dense weights."
    if refusal:
        return TensorSource(name, shape, kind.lower(), "float64", lambda _: iter(()), refusal=refusal)
    element, count = ELEMENTS[TYPES[kind]], math.prod(shape)
    offset, length = at
    if element.nbytes(count) != length:
        raise InputFileError(
            f"{where}: shape {shape} of {kind} is {element.nbytes(count)} bytes; its buffer has {length}."
        )
    pieces = stream(file_at(path, offset), element, count, where)
    stored = _parameters(tensor, shape, where)
    if stored is None or "float" in element.name:
        return TensorSource(name, shape, element.name, element.values, pieces)
    return TensorSource(name, shape, element.name, "float64", stored.applied(pieces, shape), stored.note(element))


def contents_of(path: Path) -> bytes:
    """Return the bytes of a TensorFlow Lite model; of any other file, InputFileError."""
    with reading(path):
        contents = path.read_bytes()
    if contents[4:8] != b"TFL3":
        raise InputFileError(
            f"{path}: not a TensorFlow Lite model: bytes 4 to 8 must be b'TFL3'; got {contents[4:8]!r}."
        )
    return contents


def open_tflite(path: Path) -> list[TensorSource]:
    """Return the constant tensors of a TensorFlow Lite model, in the file's order.

    Tensors with int4 to int32 and uint8 codes and a scale are dequantized, ``(q - zero_point) * scale`` in float64
    (exact up to 16 bits; the scales are float32). Tensors that the model computes have no values and are not listed.
    """
    size = file_size(path)
    tflite = optional("tflite", path)
    contents = contents_of(path)
    kinds = {number: name for name, number in vars(tflite.TensorType).items() if name.isupper()}
    sources = []
    with reading(path, *DAMAGE):
        model = tflite.Model.GetRootAs(contents)
        for graph in (model.Subgraphs(k) for k in range(model.SubgraphsLength())):
            for k, tensor in ((k, graph.Tensors(k)) for k in range(graph.TensorsLength())):
                name = (tensor.Name() or b"").decode("utf-8", "replace") or f"tensor_{k}"
                if tensor.Buffer() >= model.BuffersLength():
                    raise InputFileError(
                        f"{path}, tensor {name[:200]!r}: buffer {tensor.Buffer()} of {model.BuffersLength()}."
                    )
                at = buffer_place(model.Buffers(tensor.Buffer()), contents, size, f"{path}, tensor {name[:200]!r}")
                if at[1]:
                    kind = kinds.get(tensor.Type(), f"number {tensor.Type()}")
                    sources.append(_constant(path, tensor, name, kind, at))
    return sources
