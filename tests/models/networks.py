"""Small TensorFlow Lite models with operators, written with the package tflite alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest


@dataclass
class Tensor:
    """A tensor; with `data` a constant. `scale`: one, or one a channel of `axis`."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: Any = None
    zero_point: int = 0
    data: npt.NDArray[Any] | None = None
    axis: int = 0


@dataclass
class Op:
    """An operator: `options` are fields of the table that bears the name `table`."""

    name: str
    inputs: list[int]
    output: int
    table: str = ""
    version: int = 2
    options: dict[str, int | float | bool] = field(default_factory=dict)


def _vector(builder: Any, start: Callable[[Any, int], None], prepend: Callable[[Any], None], items: Any) -> int:
    start(builder, len(items))
    for item in reversed(items):
        prepend(item)
    return int(builder.EndVector())


def _tensor(tflite: Any, b: Any, k: int, tensor: Tensor) -> int:
    name = b.CreateString(f"t{k}")
    shape = _vector(b, tflite.TensorStartShapeVector, b.PrependInt32, list(tensor.shape))
    quantization = None
    if tensor.scale is not None:
        scale = np.atleast_1d(np.asarray(tensor.scale, np.float32))
        scales = _vector(b, tflite.QuantizationParametersStartScaleVector, b.PrependFloat32, scale.tolist())
        zeros = [tensor.zero_point] * scale.size
        zero_points = _vector(b, tflite.QuantizationParametersStartZeroPointVector, b.PrependInt64, zeros)
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scales)
        tflite.QuantizationParametersAddZeroPoint(b, zero_points)
        tflite.QuantizationParametersAddQuantizedDimension(b, tensor.axis)
        quantization = tflite.QuantizationParametersEnd(b)
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddType(b, getattr(tflite.TensorType, tensor.dtype.upper()))
    tflite.TensorAddBuffer(b, k + 1)
    tflite.TensorAddName(b, name)
    if quantization is not None:
        tflite.TensorAddQuantization(b, quantization)
    return int(tflite.TensorEnd(b))


def _code(tflite: Any, b: Any, op: Op) -> int:
    number = getattr(tflite.BuiltinOperator, op.name)
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
    tflite.OperatorCodeAddBuiltinCode(b, number)
    tflite.OperatorCodeAddVersion(b, op.version)
    return int(tflite.OperatorCodeEnd(b))


def _operator(tflite: Any, b: Any, k: int, op: Op) -> int:
    inputs = _vector(b, tflite.OperatorStartInputsVector, b.PrependInt32, op.inputs)
    outputs = _vector(b, tflite.OperatorStartOutputsVector, b.PrependInt32, [op.output])
    options = None
    if op.table:
        getattr(tflite, f"{op.table}Start")(b)
        for name, value in op.options.items():
            getattr(tflite, f"{op.table}Add{name}")(b, value)
        options = getattr(tflite, f"{op.table}End")(b)
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, k)
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    if options is not None:
        tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, op.table))
        tflite.OperatorAddBuiltinOptions(b, options)
    return int(tflite.OperatorEnd(b))


def network(tensors: list[Tensor], ops: list[Op], inputs: list[int], outputs: list[int]) -> bytes:
    """Return the file of a model; each operator has an operator code of its own."""
    tflite = pytest.importorskip("tflite")
    import flatbuffers

    b = flatbuffers.Builder(1024)
    buffers = []
    for data in [None, *(tensor.data for tensor in tensors)]:
        at = None
        if data is not None:
            b.StartVector(1, data.nbytes, 16)  # runtimes read weights where they lie
            b.head = b.head - data.nbytes
            b.Bytes[b.head : b.head + data.nbytes] = np.ascontiguousarray(data).tobytes()
            at = b.EndVector()
        tflite.BufferStart(b)
        if at is not None:
            tflite.BufferAddData(b, at)
        buffers.append(tflite.BufferEnd(b))
    offsets = b.PrependUOffsetTRelative
    built = [_tensor(tflite, b, k, tensor) for k, tensor in enumerate(tensors)]
    nodes = [_operator(tflite, b, k, op) for k, op in enumerate(ops)]
    codes = [_code(tflite, b, op) for op in ops]
    listed = _vector(b, tflite.SubGraphStartTensorsVector, offsets, built)
    running = _vector(b, tflite.SubGraphStartOperatorsVector, offsets, nodes)
    given = _vector(b, tflite.SubGraphStartInputsVector, b.PrependInt32, inputs)
    written = _vector(b, tflite.SubGraphStartOutputsVector, b.PrependInt32, outputs)
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, listed)
    tflite.SubGraphAddOperators(b, running)
    tflite.SubGraphAddInputs(b, given)
    tflite.SubGraphAddOutputs(b, written)
    graphs = _vector(b, tflite.ModelStartSubgraphsVector, offsets, [tflite.SubGraphEnd(b)])
    known = _vector(b, tflite.ModelStartOperatorCodesVector, offsets, codes)
    held = _vector(b, tflite.ModelStartBuffersVector, offsets, buffers)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, known)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, held)
    b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
    return bytes(b.Output())


SAME, VALID = 0, 1
RELU6 = 3


def window(op: str, height: int, width: int, **options: int) -> dict[str, int | float | bool]:
    """Options of a convolution or a pool."""
    given: dict[str, int | float | bool] = {"Padding": SAME, "StrideH": height, "StrideW": width}
    if op != "pool":
        given |= {"DilationHFactor": 1, "DilationWFactor": 1}
    return given | options


def tiny() -> bytes:
    """A network of every kind of sum: convolutions, ADD, MEAN, FULLY_CONNECTED, SOFTMAX; int8, per channel."""
    rng = np.random.default_rng(7)

    def codes(*shape: int) -> npt.NDArray[np.int8]:
        return rng.integers(-127, 128, shape, np.int8)

    def bias(n: int) -> npt.NDArray[np.int32]:
        return rng.integers(-2000, 2000, n, np.int32)

    def scales(n: int) -> npt.NDArray[np.float32]:
        return rng.uniform(0.002, 0.02, n).astype(np.float32)

    s0, s1, s2, s3 = scales(19), scales(19), scales(19), scales(5)
    tensors = [
        Tensor((1, 9, 8, 3), "int8", 0.05, 4),
        Tensor((19, 3, 3, 3), "int8", s0, 0, codes(19, 3, 3, 3)),
        Tensor((19,), "int32", np.float32(0.05) * s0, 0, bias(19)),
        Tensor((1, 5, 4, 19), "int8", 0.1, -5),
        Tensor((1, 3, 3, 19), "int8", s1, 0, codes(1, 3, 3, 19), 3),
        Tensor((19,), "int32", np.float32(0.1) * s1, 0, bias(19)),
        Tensor((1, 5, 4, 19), "int8", 0.2, 3),
        Tensor((19, 1, 1, 19), "int8", s2, 0, codes(19, 1, 1, 19)),
        Tensor((19,), "int32", np.float32(0.2) * s2, 0, bias(19)),
        Tensor((1, 5, 4, 19), "int8", 0.25, 1),
        Tensor((1, 5, 4, 19), "int8", 0.3, -2),
        Tensor((2,), "int32", data=np.array([1, 2], np.int32)),
        Tensor((1, 1, 1, 19), "int8", 0.15, 7),
        Tensor((5, 19), "int8", s3[0], 0, codes(5, 19)),
        Tensor((5,), "int32", np.float32(0.15) * s3[0], 0, bias(5)),
        Tensor((1, 5), "int8", 0.3, -9),
        Tensor((1, 5), "int8", 1 / 256, -128),
    ]
    ops = [
        Op("CONV_2D", [0, 1, 2], 3, "Conv2DOptions", 3, window("conv", 2, 2)),
        Op("DEPTHWISE_CONV_2D", [3, 4, 5], 6, "DepthwiseConv2DOptions", 3, window("dw", 1, 1, DepthMultiplier=1)),
        Op("CONV_2D", [6, 7, 8], 9, "Conv2DOptions", 3, window("conv", 1, 1, FusedActivationFunction=RELU6)),
        Op("ADD", [6, 9], 10, "AddOptions"),
        Op("MEAN", [10, 11], 12, "ReducerOptions", 2, {"KeepDims": True}),
        Op("FULLY_CONNECTED", [12, 13, 14], 15, "FullyConnectedOptions", 4),
        Op("SOFTMAX", [15], 16, "SoftmaxOptions", 2, {"Beta": 1.0}),
    ]
    return network(tensors, ops, [0], [16])
