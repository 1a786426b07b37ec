"""The top-level graph of an ONNX model: nodes, constants, shapes, and which tensors hold codes of which scale.

Source: onnx/onnx.proto; operators QuantizeLinear and DequantizeLinear (opsets 10, 13, 19, 21 and later).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..affine.params import QuantParams
from ..affine.quantize import quantize
from ..exceptions import DomainError
from .onnx_file import read_model
from .replay_node import NotCovered
from .source import Array, optional, reading

#: ONNX element types that codes of activations and weights have here, and biases.
CODE_TYPES = ("int8", "uint8")
Q, DQ = "QuantizeLinear", "DequantizeLinear"
#: Operators of com.microsoft -> a standard one with the same output shape, and which inputs it takes.
_SHAPED_LIKE: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearLeakyRelu": ("Identity", (0,)),
    "QLinearSigmoid": ("Identity", (0,)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QGemm": ("Gemm", (0, 3)),
}
_POOLED = ("kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "count_include_pad")
_GEMM = ("transA", "transB")
#: Constants up to this many elements take part in shape inference: shapes, axes, sizes.
_SHAPE_ELEMENTS = 1024


@dataclass(frozen=True, eq=False, slots=True)
class Codes:
    """A tensor of codes with the scale and zero point under which an operator reads or writes it.

    Attributes
    ----------
    name, dtype : str
    scale : 1-D float32 array
    zero_point : 1-D int64 array
        As many as scales, or one.
    axis : int or None
        None where one scale serves all.
    values : ndarray or None
        The codes of a constant, in their own type.
    """

    name: str
    dtype: str
    scale: Array
    zero_point: Array
    axis: int | None = None
    values: Array | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest code of the type."""
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    def unsigned(self) -> Codes:
        """Return the same reals as uint8 codes: code and zero point 128 higher."""
        if self.dtype == "uint8":
            return self
        values = None if self.values is None else (self.values.astype(np.int16) + 128).astype(np.uint8)
        return Codes(self.name, "uint8", self.scale, self.zero_point + 128, self.axis, values)


class Node:
    """One node: `op` without its domain where that is ONNX's or Microsoft's, attributes as Python values."""

    __slots__ = ("_attributes", "index", "inputs", "op", "outputs", "proto")

    def __init__(self, index: int, proto: Any) -> None:
        self.index, self.proto = index, proto
        domain, op = proto.domain[:200], proto.op_type[:200]
        self.op = op if domain in ("", "ai.onnx", "com.microsoft") else f"{domain}.{op}"
        self.inputs, self.outputs = tuple(proto.input), tuple(proto.output)
        self._attributes = {attribute.name: attribute for attribute in proto.attribute}

    @property
    def output(self) -> str:
        """Name of the first output."""
        return self.outputs[0] if self.outputs else ""

    def input(self, k: int) -> str:
        """Return the name of an input; empty where it is left out."""
        return self.inputs[k] if k < len(self.inputs) else ""

    @property
    def given(self) -> int:
        """Number of inputs that are given."""
        return sum(map(bool, self.inputs))

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self._attributes[name].i) if name in self._attributes else default

    def real(self, name: str, default: float) -> float:
        """Return a float attribute: the float32 that is stored."""
        return float(self._attributes[name].f) if name in self._attributes else default

    def integers(self, name: str) -> tuple[int, ...]:
        """Return an attribute of integers; empty where it is left out."""
        return tuple(self._attributes[name].ints) if name in self._attributes else ()

    def text(self, name: str, default: str) -> str:
        """Return a text attribute."""
        return self._attributes[name].s.decode("utf-8", "replace") if name in self._attributes else default


class OnnxGraph:
    """The top-level graph of a model.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    nodes : list of Node
        In the file's order, which is one in which they can run.
    producer, consumers : dict
        Tensor name -> the node that writes it, the nodes that read it (one entry an input).
    outputs : set of str
        Names of the model's outputs.
    functions : set of (str, str)
        Domain and name of the model's own functions.

    Raises
    ------
    InputFileError
        The file is missing, no ONNX model, truncated or contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        model, self._constants = read_model(path)
        with reading(path, ValueError, RecursionError):
            graph = model.graph
            self.nodes = [Node(k, proto) for k, proto in enumerate(graph.node)]
            self.producer: dict[str, Node] = {}
            self.consumers: dict[str, list[Node]] = {}
            for node in self.nodes:
                for name in filter(None, node.outputs):
                    self.producer.setdefault(name, node)
                for name in filter(None, node.inputs):
                    self.consumers.setdefault(name, []).append(node)
            self.outputs = {value.name for value in graph.output}
            self.functions = {(function.domain, function.name) for function in model.functions}
            inputs = {value.name for value in graph.input}
            # Since IR version 4 an initializer that is an input too is a default, which a caller may replace.
            self._open = inputs if model.ir_version >= 4 else inputs - {tensor.name for tensor in graph.initializer}
            self._shapes, self._types = _inferred(model)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; ``()`` where it is not known. A dimension that is open counts as 1."""
        if name in self._constants.named:
            return tuple(self._constants.named[name].dims)
        return self._shapes.get(name, ())

    def type(self, name: str) -> str:
        """Return the element type of a tensor in small letters; empty where it is not known."""
        if name in self._constants.named:
            return self._constants.kind(self._constants.named[name])
        return self._types.get(name, "")

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor stands in the file, and nobody can replace it."""
        return name in self._constants.named and name not in self._open

    def constant(self, name: str, what: str) -> Array:
        """Return a constant in its own type.

        Raises
        ------
        NotCovered
            It is computed, an input of the model, or of a type that is not read.
        InputFileError
            The file contradicts itself.
        """
        if not self.is_constant(name):
            raise NotCovered(f"{what} is computed, or an input of the model")
        source = self._constants.stored(name, self._constants.named[name])
        if source.refusal:
            raise NotCovered(f"{what}: {source.refusal.rstrip('.')}")
        if source.dtype not in ("float32", "int32", *CODE_TYPES):
            raise NotCovered(f"{what} is of type {source.dtype}")
        return source.read(source.dtype)

    def parameters(self, scale: str, zero: str, dtype: str, what: str) -> tuple[Array, Array, str]:
        """Return scales, zero points and the type of the codes; `dtype` where there is no zero point.

        Raises
        ------
        NotCovered
            They are computed, not float32, not positive, or the codes have another width than 8 bits.
        """
        scales = self.constant(scale, f"the scale of {what}")
        if scales.dtype != np.float32:
            raise NotCovered(f"the scale of {what} is {scales.dtype}, not float32")
        if scales.ndim > 1 or not scales.size:
            raise NotCovered(f"the scale of {what} has shape {scales.shape}: neither per tensor nor per channel")
        bad = ~(np.isfinite(scales) & (scales > 0))
        if bad.any():
            raise NotCovered(f"the scale of {what} must be finite and positive; got {scales[bad].reshape(-1)[0]}")
        zeros: Array = np.zeros(1, np.int64)
        if zero:
            stored = self.constant(zero, f"the zero point of {what}")
            if stored.shape != scales.shape and not stored.size == scales.size == 1:
                raise NotCovered(f"{what} has scales of shape {scales.shape}, zero points of shape {stored.shape}")
            dtype, zeros = stored.dtype.name, stored.reshape(-1).astype(np.int64)
        if not dtype:
            raise NotCovered(f"the type of {what} is not known: there is no zero point, and no value information")
        if dtype not in (*CODE_TYPES, "int32"):
            raise NotCovered(f"{what} has codes of type {dtype}")
        return scales.reshape(-1), zeros, dtype

    def codes(
        self, name: str, scale: str, zero: str, what: str, axis: int | None = None, weights: bool = False
    ) -> Codes:
        """Return a tensor of codes; `weights`: with its values, and scales along `axis` where there are several.

        Raises
        ------
        NotCovered
        InputFileError
        """
        scales, zeros, dtype = self.parameters(scale, zero, self._types.get(name, ""), what)
        values = None
        if weights:
            values = self._weight_values(name, what)
            if values.dtype != dtype:
                raise NotCovered(f"{what} is {values.dtype}, its zero point {dtype}")
        if scales.size == 1:
            return Codes(name, dtype, scales, zeros, None, values)
        if not weights:
            raise NotCovered(f"{what} has {scales.size} scales")
        assert values is not None
        axis = 0 if axis is None else axis
        if not 0 <= axis < values.ndim or values.shape[axis] != scales.size:
            raise NotCovered(f"{scales.size} scales do not fit axis {axis} of {what}, shape {values.shape}")
        return Codes(name, dtype, scales, zeros, axis, values)

    def operand(self, node: Node, k: int, what: str, axis: int | None = None, weights: bool = False) -> Codes:
        """Return the codes that a node reads at its inputs k to k + 2: codes, scale, zero point. As `codes`."""
        return self.codes(node.input(k), node.input(k + 1), node.input(k + 2), what, axis, weights)

    def _weight_values(self, name: str, what: str) -> Array:
        """Return constant codes: stored ones, or float32 that a QuantizeLinear node turns into codes."""
        node = self.producer.get(name)
        if node is None or node.op != Q or name in self._constants.named:
            return self.constant(name, what)
        x = self.constant(node.input(0), what)
        if x.dtype != np.float32 or not np.isfinite(x).all():
            raise NotCovered(f"{what} is quantized from {x.dtype}, or not finite")
        scales, zeros, dtype = self.parameters(node.input(1), node.input(2), "uint8", what)
        axis = _axis(node, x.ndim)
        if scales.size > 1 and (
            not 0 <= axis < x.ndim or x.shape[axis] != scales.size or node.integer("block_size", 0)
        ):
            raise NotCovered(f"{scales.size} scales do not fit axis {axis} of {what}, shape {x.shape}")
        info = np.iinfo(dtype)
        one = scales.size == 1
        params = QuantParams(
            scales[0] if one else scales, zeros[0] if one else zeros, int(info.min), int(info.max),
            axis=None if one else axis,
        )  # fmt: skip
        try:
            return quantize(x, params, convention="onnx").astype(dtype)
        except DomainError as error:
            raise NotCovered(f"{what}: {error}") from error

    def dequantized(self, name: str, what: str, weights: bool = False) -> Codes:
        """Return the codes from which a DequantizeLinear node makes a tensor.

        Raises
        ------
        NotCovered
            No such node writes it, or its parameters are not covered.
        """
        node = self.producer.get(name)
        if node is None or node.op != DQ:
            raise NotCovered(f"{what} is not dequantized codes")
        if node.integer("block_size", 0):
            raise NotCovered(f"{what} is quantized in blocks")
        rank = len(self.shape(node.input(0))) if weights else 0
        if weights and not rank:
            quantizer = self.producer.get(node.input(0))
            rank = len(self.shape(quantizer.input(0))) if quantizer is not None and quantizer.op == Q else 0
        return self.codes(node.input(0), node.input(1), node.input(2), what, _axis(node, rank), weights)

    def quantized(self, node: Node, what: str) -> Codes:
        """Return the codes that a QuantizeLinear node writes. Raises NotCovered."""
        if node.integer("block_size", 0):
            raise NotCovered(f"{what} is quantized in blocks")
        scales, zeros, dtype = self.parameters(node.input(1), node.input(2), "uint8", what)
        if not node.input(2) and node.integer("output_dtype", 0):
            dtype = self._types.get(node.output, "")
        if scales.size != 1 or dtype not in CODE_TYPES:
            raise NotCovered(f"{what} has {scales.size} scales and codes of type {dtype or 'unknown'}")
        return Codes(node.output, dtype, scales, zeros)


def _axis(node: Node, rank: int) -> int:
    """Return the axis of scales of a QuantizeLinear or DequantizeLinear node: 1 unless said; opset 10 has none."""
    axis = node.integer("axis", 1)
    if rank == 1 and axis == 1:  # of a vector there is one axis
        return 0
    return axis + rank if axis < 0 else axis


def _shadow(model: Any, onnx: Any) -> Any:
    """Return the model without what shape inference does not need: weights, nested graphs, functions."""
    shadow = onnx.ModelProto()
    shadow.ir_version = max(model.ir_version, 3)
    shadow.opset_import.extend(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    graph = shadow.graph
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    known = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SHAPE_ELEMENTS and not tensor.external_data:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for node in model.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            continue
        if node.domain == "com.microsoft" and node.op_type in _SHAPED_LIKE:
            op, inputs = _SHAPED_LIKE[node.op_type]
            if node.op_type.endswith("Pool") and any(a.name == "channels_last" and a.i for a in node.attribute):
                continue
            kept = {"AveragePool": _POOLED, "Gemm": _GEMM}.get(op, ())
            added = graph.node.add()
            added.op_type, added.name = op, node.name
            added.input.extend(node.input[k] if k < len(node.input) else "" for k in inputs)
            added.output.extend(node.output[:1])
            added.attribute.extend(a for a in node.attribute if a.name in kept)
        elif node.domain in ("", "ai.onnx"):
            graph.node.append(node)
    return shadow


def _inferred(model: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return shapes and element types of tensors as far as they are said or can be inferred.

    Inference helps: where it fails, what the file says stands alone.
    """
    onnx = optional("onnx", "shape inference")
    found = model
    inference = optional("onnx.shape_inference", "shape inference")
    # The package raises its own error for contradictions, and others for what it cannot even read.
    errors = (inference.InferenceError, ValueError, TypeError, RuntimeError, UnicodeError, OverflowError, MemoryError)
    with contextlib.suppress(*errors):
        found = inference.infer_shapes(_shadow(model, onnx))
    kinds = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    shapes, types = {}, {}
    for value in (*found.graph.value_info, *found.graph.input, *found.graph.output):
        kind = value.type.tensor_type
        types[value.name] = kinds.get(kind.elem_type, "")
        if kind.HasField("shape"):
            dimensions = [d.dim_value if d.HasField("dim_value") else 1 for d in kind.shape.dim]
            if len(dimensions) <= 64 and all(0 <= n < 1 << 31 for n in dimensions):
                shapes[value.name] = tuple(dimensions)
    return shapes, {name: kind for name, kind in types.items() if kind}
