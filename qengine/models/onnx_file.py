"""``.onnx``: initializers and constants of a model; quantized ones are dequantized as its DequantizeLinear nodes do.

Source: onnx/onnx.proto (TensorProto), docs/ExternalData.md, operator DequantizeLinear.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import InputFileError
from .elements import ELEMENTS, Element, Opener, StoredScale, file_at, stream
from .source import Array, TensorSource, file_size, optional, reading, shape_of

_TYPES = {
    "DOUBLE": "float64",
    "FLOAT": "float32",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "FLOAT8E4M3FN": "float8_e4m3fn",
    "FLOAT8E5M2": "float8_e5m2",
    "FLOAT8E4M3FNUZ": "float8_e4m3fnuz",
    "FLOAT8E5M2FNUZ": "float8_e5m2fnuz",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for bits in (4, 8, 16, 32, 64) for sign in ("", "U")},
}
_EXTERNAL = 1  # TensorProto.DataLocation


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and the graphs in its nodes' attributes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graphs(inner)


def _check_names(graph: Any, path: Path) -> None:
    """Raise InputFileError for a name that is no UTF-8: the package gives bytes for it."""
    named = [*graph.initializer, *graph.input, *graph.output, *graph.value_info, *graph.node]
    names = [item.name for item in named]
    for node in graph.node:
        names += [node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    bad = next((name for name in names if not isinstance(name, str)), None)
    if bad is not None:
        raise InputFileError(f"{path}: the file is damaged: the name {bad[:80]!r} is no UTF-8 text.")


def _constants(graph: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and TensorProtos of what a graph holds."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            yield from ((node.output[0], a.t) for a in node.attribute if a.name == "value" and a.HasField("t"))


def _external(path: Path, tensor: Any, needed: int, where: str) -> Opener:
    """Return what opens the bytes of a tensor in a file beside the model."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.parent.resolve()
    with reading(where, ValueError):
        file = (folder / location).resolve()
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or needed)
    if not location or ".." in Path(location).parts or Path(location).is_absolute() or folder not in file.parents:
        raise InputFileError(
            f"{where}: external data must be a file in the model's folder; its location is {location[:200]!r}."
        )
    size = file_size(file)
    if offset < 0 or length != needed or offset + needed > size:
        raise InputFileError(
            f"{where}: {needed} bytes are required; external data gives offset {offset} and length {length} "
            f"of {location!r}, a file of {size} bytes."
        )
    return file_at(file, offset)


def _packed(tensor: Any, element: Element, where: str) -> bytes:
    """Return the bytes of a tensor that stands in the model, from raw_data or from the typed fields."""
    if tensor.HasField("raw_data"):
        raw: bytes = tensor.raw_data
        return raw
    if element.name in ("float32", "float64"):
        field = tensor.float_data if element.name == "float32" else tensor.double_data
        return np.array(field, element.storage).tobytes()
    if element.bits == 64:
        return np.array(tensor.int64_data if element.name == "int64" else tensor.uint64_data, element.storage).tobytes()
    # int32_data holds integers of up to 32 bits, and the bits of 16-, 8- and 4-bit types.
    target = element.storage.replace("f", "u")
    wide = np.array(tensor.uint64_data if element.name == "uint32" else tensor.int32_data, np.int64)
    stored = wide.astype(target)
    if (stored != wide).any():
        k = int(np.argmax(stored != wide))
        raise InputFileError(f"{where}: {int(wide[k])} at index {k} of int32_data is no {element.name}.")
    return stored.tobytes()


class Constants:
    """The constants of a model by name, and which of them its DequantizeLinear nodes read."""

    def __init__(self, path: Path, model: Any, types: Any) -> None:
        self._path = path
        self._types = types
        graphs = list(_graphs(model.graph))
        for graph in graphs:
            _check_names(graph, path)
        self.constants: list[tuple[str, Any]] = [pair for graph in graphs for pair in _constants(graph)]
        self.sparse = [
            TensorSource(
                tensor.values.name or "sparse",
                shape_of(tensor.dims, str(path)),
                "sparse",
                "float64",
                lambda _: iter(()),
                refusal="a sparse ONNX initializer is not read; convert the model with dense weights.",
            )
            for graph in graphs
            for tensor in graph.sparse_initializer
        ]
        self.named = dict(self.constants)
        self._nodes: dict[str, list[Any]] = {}
        self._parameters: dict[str, str] = {}
        for node in (node for graph in graphs for node in graph.node if node.op_type == "DequantizeLinear"):
            if len(node.input) > 1:
                self._nodes.setdefault(node.input[0], []).append(node)
                self._parameters[node.input[1]] = "scale of a DequantizeLinear"
            if len(node.input) > 2:
                self._parameters[node.input[2]] = "zero point of a DequantizeLinear"

    def source(self, name: str, tensor: Any) -> TensorSource:
        """Return one constant, dequantized if a DequantizeLinear with constant parameters reads it."""
        plain = self.stored(name, tensor)
        nodes = self._nodes.get(name, [])
        if not nodes or plain.refusal:
            return plain
        node = nodes[0]
        if any(n.input[1:] != node.input[1:] or n.attribute != node.attribute for n in nodes[1:]):
            return dataclasses.replace(plain, note="codes: several DequantizeLinear nodes read it differently")
        if not all(parameter in self.named for parameter in node.input[1:] if parameter):
            return dataclasses.replace(plain, note="codes: the scale or zero point of its DequantizeLinear is computed")
        stored = self._stored_scale(node, plain.shape, f"{self._path}, tensor {name[:200]!r}")
        return dataclasses.replace(
            plain,
            values="float64",
            pieces=stored.applied(plain.pieces, plain.shape),
            note=stored.note(ELEMENTS[plain.dtype]),
        )

    def kind(self, tensor: Any) -> str:
        """Return the element type of a constant in small letters."""
        return str(self._types.get(tensor.data_type, "")).lower()

    def stored(self, name: str, tensor: Any) -> TensorSource:
        """Return a constant as it is stored."""
        where = f"{self._path}, tensor {name[:200]!r}"
        shape = shape_of(tensor.dims, where)
        kind = self._types.get(tensor.data_type, f"number {tensor.data_type}")
        if kind not in _TYPES or tensor.HasField("segment"):
            refusal = f"ONNX type {kind} is not read; known: {', '.join(_TYPES)}."
            if kind in _TYPES:
                refusal = "a tensor in segments is not read."
            return TensorSource(name, shape, kind.lower(), "float64", lambda _: iter(()), refusal=refusal)
        element, count = ELEMENTS[_TYPES[kind]], math.prod(shape)
        needed = element.nbytes(count)
        if tensor.data_location == _EXTERNAL and count:
            opened = _external(self._path, tensor, needed, where)
        else:
            found = len(_packed(tensor, element, where))
            if found != needed:
                raise InputFileError(f"{where}: shape {shape} of {kind} is {needed} bytes; the model holds {found}.")

            def opened() -> io.BytesIO:
                return io.BytesIO(_packed(tensor, element, where))

        note = self._parameters.get(name, "")
        return TensorSource(name, shape, element.name, element.values, stream(opened, element, count, where), note)

    def _stored_scale(self, node: Any, shape: tuple[int, ...], where: str) -> StoredScale:
        """Return the constant parameters of a DequantizeLinear node for an input of this shape."""
        options = {attribute.name: attribute.i for attribute in node.attribute}
        scales = self.stored(node.input[1], self.named[node.input[1]])
        zero: Array = np.zeros(1)
        if scales.refusal:
            raise InputFileError(f"{where}: its scale: {scales.refusal}")
        scale = scales.read().astype(np.float64)
        if len(node.input) > 2 and node.input[2]:
            zeros = self.stored(node.input[2], self.named[node.input[2]])
            if zeros.shape != scales.shape or zeros.refusal:
                raise InputFileError(f"{where}: its scale has shape {scales.shape}, its zero point {zeros.shape}.")
            zero = zeros.read().astype(np.float64)
        if not np.isfinite(scale).all():
            raise InputFileError(f"{where}: scales must be finite; got {scale[~np.isfinite(scale)][0]}.")
        zero_point = np.broadcast_to(zero.reshape(-1), (scale.size,)) if scale.size else zero
        if scale.size == 1 and scale.ndim <= 1:
            return StoredScale(scale.reshape(-1), zero_point)
        axis, block = options.get("axis", 1), options.get("block_size", 0)
        axis += len(shape) if axis < 0 else 0
        expected: tuple[int, ...] = ()
        if 0 <= axis < len(shape) and block >= 0:
            expected = (shape[axis],)
            if block:
                expected = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])
        if scale.shape != expected:
            raise InputFileError(
                f"{where}: scales of shape {scale.shape} do not fit axis {axis} (block size {block}) of shape {shape}."
            )
        return StoredScale(scale.reshape(-1), zero_point, axis, block)


def read_model(path: Path) -> tuple[Any, Constants]:
    """Return the ModelProto of a file, and its constants. Raises InputFileError."""
    file_size(path)
    onnx = optional("onnx", path)
    decode_error = optional("google.protobuf.message", path).DecodeError
    with reading(path, decode_error, ValueError):
        model = onnx.load_model_from_string(path.read_bytes())
    kinds = {number: name for name, number in onnx.TensorProto.DataType.items()}
    with reading(path, ValueError, RecursionError):
        return model, Constants(path, model, kinds)


def open_onnx(path: Path) -> list[TensorSource]:
    """Return the initializers and constants of an ONNX model, of nested graphs too, in the file's order.

    One that a DequantizeLinear with constant scale and zero point reads is dequantized, ``(q - zero_point) * scale``
    in float64, per tensor, per axis or in blocks. External data lies in files in the model's own folder.
    """
    _, constants = read_model(path)
    with reading(path, ValueError, RecursionError):
        return [*(constants.source(name, tensor) for name, tensor in constants.constants), *constants.sparse]
