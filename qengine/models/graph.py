"""The operators of a TensorFlow Lite model as plain rows: what a replay or an audit walks over.

Source: tensorflow/lite/schema/schema.fbs (Model, SubGraph, Operator, OperatorCode).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import arguments
from ..exceptions import InputFileError
from .source import Array, file_size, optional, reading, shape_of
from .tflite_file import DAMAGE, TYPES, buffer_place, contents_of

#: Names of fused activations by their number in the file.
FUSED = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
_STRIDES = ("StrideH", "StrideW")
#: Operator -> its options in the file, and the fields that are read.
OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": (
        "Conv2DOptions",
        ("Padding", *_STRIDES, "DilationHFactor", "DilationWFactor", "FusedActivationFunction", "QuantizedBiasType"),
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        ("Padding", *_STRIDES, "DilationHFactor", "DilationWFactor", "FusedActivationFunction", "DepthMultiplier"),
    ),
    "FULLY_CONNECTED": (
        "FullyConnectedOptions",
        ("FusedActivationFunction", "WeightsFormat", "KeepNumDims", "QuantizedBiasType"),
    ),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "AVERAGE_POOL_2D": (
        "Pool2DOptions",
        ("Padding", *_STRIDES, "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    ),
    "MAX_POOL_2D": ("Pool2DOptions", ("Padding", *_STRIDES, "FilterHeight", "FilterWidth", "FusedActivationFunction")),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", ("AlignCorners", "HalfPixelCenters")),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
    "MIRROR_PAD": ("MirrorPadOptions", ("Mode",)),
    "PACK": ("PackOptions", ("Axis",)),
}


@dataclass(frozen=True, eq=False, slots=True)
class GraphTensor:
    """One tensor of a subgraph.

    Attributes
    ----------
    index, name, shape, dtype
        ``dtype`` as NumPy names it, else the file's name in small letters (``string``, ``resource`` ...).
    scale, zero_point : 1-D ndarray
        float32 and int64, one element or one a channel of `axis`; empty where the tensor is not quantized.
    data : ndarray or None
        Values of a constant.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: Array
    zero_point: Array
    axis: int
    data: Array | None = None

    @property
    def quantized(self) -> bool:
        """Whether codes of the tensor stand for real numbers."""
        return bool(self.scale.size)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: ``name`` as TFLite's BuiltinOperator (the custom code of a custom one), tensors by index.

    A missing optional input is -1. `options` holds the fields that `OPTIONS` names; activations as words.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, slots=True)
class Graph:
    """Subgraph 0 of a model; operators in the order in which they run.

    `content` is the file in memory, biases' quantized_dimension set to 0 where it was another: a 1-D tensor has only
    one, and runtimes refuse to load such a model (`repaired` counts them).
    """

    where: str
    tensors: tuple[GraphTensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    content: bytes
    repaired: int


def _names(enumeration: Any) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if name.isupper() and type(number) is int}


def _quantization(tensor: Any, shape: tuple[int, ...], where: str) -> tuple[Array, Array, int]:
    stored = tensor.Quantization()
    if stored is None or not stored.ScaleLength():
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    scale = np.array(stored.ScaleAsNumpy(), np.float32)
    zero_point = np.array(stored.ZeroPointAsNumpy(), np.int64) if stored.ZeroPointLength() else np.zeros(1, np.int64)
    if zero_point.size not in (1, scale.size):
        raise InputFileError(f"{where}: {scale.size} scales need as many zero points, or one; got {zero_point.size}.")
    zero_point = np.broadcast_to(zero_point, scale.shape)
    axis = 0 if len(shape) == 1 else int(stored.QuantizedDimension())
    if scale.size > 1 and (not 0 <= axis < len(shape) or shape[axis] != scale.size):
        raise InputFileError(f"{where}: {scale.size} scales do not fit axis {axis} of shape {shape}.")
    return scale, zero_point, axis


def _tensor(index: int, tensor: Any, model: Any, contents: bytes, kinds: Mapping[int, str], path: str) -> GraphTensor:
    name = (tensor.Name() or b"").decode("utf-8", "replace")[:200] or f"tensor_{index}"
    where = f"{path}, tensor {index} {name!r}"
    shape = shape_of(tensor.ShapeAsNumpy().tolist() if tensor.ShapeLength() else [], where)
    kind = kinds.get(tensor.Type(), f"number {tensor.Type()}")
    dtype = {"BOOL": "bool"}.get(kind, TYPES.get(kind, kind.lower()))
    if tensor.Buffer() >= model.BuffersLength():
        raise InputFileError(f"{where}: buffer {tensor.Buffer()} of {model.BuffersLength()}.")
    offset, length = buffer_place(model.Buffers(tensor.Buffer()), contents, len(contents), where)
    data = None
    if length and tensor.Sparsity() is None and dtype.startswith(("int", "uint", "float", "bool")) and dtype != "int4":
        data = np.frombuffer(contents, np.dtype(dtype).newbyteorder("<"), length // np.dtype(dtype).itemsize, offset)
        if data.size != math.prod(shape) or data.nbytes != length:
            raise InputFileError(f"{where}: shape {shape} of {dtype} does not fill its buffer of {length} bytes.")
        data = data.reshape(shape)
    return GraphTensor(index, name, shape, dtype, *_quantization(tensor, shape, where), data)


def _options(tflite: Any, node: Any, name: str, where: str) -> dict[str, Any]:
    if name not in OPTIONS:
        return {}
    table, fields = OPTIONS[name]
    kind, union = node.BuiltinOptionsType(), node.BuiltinOptions()
    if union is None or kind != getattr(tflite.BuiltinOptions, table):
        if kind:
            raise InputFileError(f"{where}: its options must be of type {table}; got type {kind}.")
        found: dict[str, Any] = dict.fromkeys(fields, 0)  # absent: the runtime's parameters start as zeros
    else:
        stored = getattr(tflite, table)()
        stored.Init(union.Bytes, union.Pos)
        found = {field: getattr(stored, field)() for field in fields}
    if "FusedActivationFunction" in found:
        number = found["FusedActivationFunction"]
        if not 0 <= number < len(FUSED):
            raise InputFileError(f"{where}: fused activation must be in [0, {len(FUSED) - 1}]; got {number}.")
        found["FusedActivationFunction"] = FUSED[number]
    if "Padding" in found and found["Padding"] not in (0, 1):
        raise InputFileError(f"{where}: padding must be 0 (SAME) or 1 (VALID); got {found['Padding']}.")
    positive = (*_STRIDES, "DilationHFactor", "DilationWFactor", "FilterHeight", "FilterWidth")
    for field_name in positive:
        if field_name in found and found[field_name] < 1:
            raise InputFileError(f"{where}: {field_name} must be at least 1; got {found[field_name]}.")
    return found


def _indices(values: Any, length: int, tensors: int, least: int, where: str) -> tuple[int, ...]:
    found = tuple(values.tolist()) if length else ()
    for index in found:
        if not least <= index < tensors:
            raise InputFileError(f"{where}: tensor {index} of {tensors}.")
    return found


def _operator(tflite: Any, model: Any, index: int, node: Any, tensors: int, path: str) -> Operator:
    where = f"{path}, operator {index}"
    if node.OpcodeIndex() >= model.OperatorCodesLength():
        raise InputFileError(f"{where}: operator code {node.OpcodeIndex()} of {model.OperatorCodesLength()}.")
    code = model.OperatorCodes(node.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # newer numbers stand in the former alone
    name = _names(tflite.BuiltinOperator).get(number, f"operator {number}")
    if name == "CUSTOM":
        name = (code.CustomCode() or b"CUSTOM").decode("utf-8", "replace")[:200]
    inputs = _indices(node.InputsAsNumpy(), node.InputsLength(), tensors, -1, f"{where} ({name}), input")
    outputs = _indices(node.OutputsAsNumpy(), node.OutputsLength(), tensors, 0, f"{where} ({name}), output")
    return Operator(index, name, inputs, outputs, _options(tflite, node, name, f"{where} ({name})"))


def _repair(model: Any, contents: bytes) -> tuple[bytes, int]:
    """Set quantized_dimension of 1-D tensors to 0; return the new file and how many there were."""
    repaired, count = bytearray(contents), 0
    for graph in (model.Subgraphs(k) for k in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(k) for k in range(graph.TensorsLength())):
            stored = tensor.Quantization()
            if tensor.ShapeLength() == 1 and stored is not None and stored.QuantizedDimension() != 0:
                at = stored._tab.Pos + stored._tab.Offset(16)  # the field's slot in the table's directory
                repaired[at : at + 4] = bytes(4)
                count += 1
    return (bytes(repaired), count) if count else (contents, 0)


def read_graph(path: os.PathLike[str] | str) -> Graph:
    """Read subgraph 0 of a ``.tflite`` file.

    Parameters
    ----------
    path : path
        A file of at most 2 GiB, which a flatbuffer cannot exceed.

    Returns
    -------
    Graph

    Raises
    ------
    InputFileError
        The file is missing, no TensorFlow Lite model, truncated or contradicts itself; names tensor or operator.
    """
    path = Path(arguments.path("model", path))
    if file_size(path) >= 1 << 31:
        raise InputFileError(f"{path}: a TensorFlow Lite file is smaller than 2 GiB.")
    tflite = optional("tflite", path)
    contents = contents_of(path)
    with reading(path, *DAMAGE, KeyError):
        model = tflite.Model.GetRootAs(contents)
        if not model.SubgraphsLength():
            raise InputFileError(f"{path}: the model has no subgraph.")
        graph, kinds = model.Subgraphs(0), _names(tflite.TensorType)
        count = graph.TensorsLength()
        tensors = tuple(_tensor(k, graph.Tensors(k), model, contents, kinds, str(path)) for k in range(count))
        operators = tuple(
            _operator(tflite, model, k, graph.Operators(k), count, str(path)) for k in range(graph.OperatorsLength())
        )
        inputs = _indices(graph.InputsAsNumpy(), graph.InputsLength(), count, 0, f"{path}, input of the model")
        outputs = _indices(graph.OutputsAsNumpy(), graph.OutputsLength(), count, 0, f"{path}, output of the model")
        content, repaired = _repair(model, contents)
        return Graph(str(path), tensors, operators, inputs, outputs, model.SubgraphsLength(), content, repaired)
