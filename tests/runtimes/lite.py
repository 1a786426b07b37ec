"""Models of one operator, run by the real interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

PATHS = ("xnnpack", "opt", "ref")
#: The release whose arithmetic the profiles hold. Others differ: XNNPACK's MEAN before 2.1.4.
VERSION = "2.3.0"


@dataclass
class Tensor:
    """A tensor of a model; with `data` it is a constant."""

    shape: tuple[int, ...]
    dtype: str
    scale: Any = None
    zero_point: int = 0
    data: npt.NDArray[Any] | None = None
    axis: int = 0


def litert() -> Any:
    """Return the interpreter's package, or skip the test with the reason."""
    return pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra: pip install '.[runtimes]'")


def profiled() -> None:
    """Skip the test with the reason unless the interpreter is of the release whose arithmetic the profiles hold."""
    litert()
    found = metadata.version("ai-edge-litert")
    if not found.startswith(VERSION.rpartition(".")[0] + "."):
        pytest.skip(f"profiles are of ai-edge-litert {VERSION}; installed is {found}")


def build(op: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: dict[str, Any] | None = None) -> bytes:
    """Return the file of a model with one operator; `options` are the fields of its builtin options."""
    litert()
    flatbuffers = pytest.importorskip("flatbuffers")
    from ai_edge_litert import schema_py_generated as s

    model, graph, node, code = s.ModelT(), s.SubGraphT(), s.OperatorT(), s.OperatorCodeT()
    code.builtinCode = getattr(s.BuiltinOperator, op)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), (options or {}).pop("version", 2)
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [s.BufferT()]
    graph.tensors, graph.operators = [], [node]
    for k, given in enumerate((*inputs, *outputs)):
        tensor, buffer = s.TensorT(), s.BufferT()
        tensor.shape, tensor.name, tensor.buffer = list(given.shape), f"t{k}", len(model.buffers)
        tensor.type = getattr(s.TensorType, given.dtype.upper())
        if given.data is not None:
            buffer.data = np.frombuffer(np.ascontiguousarray(given.data).tobytes(), np.uint8)
        if given.scale is not None:
            quantization = s.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(given.scale, np.float32))
            quantization.zeroPoint = np.full(quantization.scale.size, given.zero_point, np.int64)
            quantization.quantizedDimension = given.axis
            tensor.quantization = quantization
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    node.inputs, node.outputs = list(range(len(inputs))), [len(inputs) + k for k in range(len(outputs))]
    graph.inputs = [k for k, given in enumerate(inputs) if given.data is None]
    graph.outputs = node.outputs
    name = (options or {}).pop("table", None)
    if name is not None:
        node.builtinOptionsType = getattr(s.BuiltinOptions, name)
        node.builtinOptions = getattr(s, f"{name}T")()
        for field, value in (options or {}).items():
            assert hasattr(node.builtinOptions, field), field
            setattr(node.builtinOptions, field, value)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def build_lstm(
    shape: tuple[int, int, int], codes: tuple[float, int], hidden: tuple[float, int], weights: tuple[Any, Any, Any],
    scales: tuple[Any, Any], cell_clip: float,
) -> bytes:  # fmt: skip
    """Return the file of an int8 LSTM; weights are (input, recurrent, bias) of the gates in the operator's order."""
    litert()
    flatbuffers = pytest.importorskip("flatbuffers")
    from ai_edge_litert import schema_py_generated as s

    model, graph, node, code = s.ModelT(), s.SubGraphT(), s.OperatorT(), s.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    code.version, model.version = 3, 3
    model.operatorCodes, model.subgraphs, model.buffers = [code], [graph], [s.BufferT()]
    graph.tensors, graph.operators = [], [node]

    def tensor(
        shape: tuple[int, ...], kind: str, scale: Any, zero: int = 0, data: Any = None, state: bool = False
    ) -> int:
        tensor, buffer, quantization = s.TensorT(), s.BufferT(), s.QuantizationParametersT()
        tensor.shape, tensor.name, tensor.buffer = list(shape), f"t{len(graph.tensors)}", len(model.buffers)
        tensor.type, tensor.isVariable = getattr(s.TensorType, kind), state
        if data is not None:
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        quantization.scale, quantization.zeroPoint = np.float32([scale]), np.array([zero], np.int64)
        tensor.quantization = quantization
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    time, batch, inputs = shape
    cells, (sw, sr) = weights[2].shape[1], scales
    absent = -1
    node.inputs = [tensor((time, batch, inputs), "INT8", *codes)]
    node.inputs += [tensor((cells, inputs), "INT8", sw[k], 0, weights[0][k].astype(np.int8)) for k in range(4)]
    node.inputs += [tensor((cells, cells), "INT8", sr[k], 0, weights[1][k].astype(np.int8)) for k in range(4)]
    node.inputs += [absent] * 3
    node.inputs += [
        tensor((cells,), "INT32", np.float32(codes[0]) * sw[k], 0, weights[2][k].astype(np.int32)) for k in range(4)
    ]
    node.inputs += [absent] * 2
    node.inputs += [
        tensor((batch, cells), "INT8", *hidden, state=True), tensor((batch, cells), "INT16", 2.0**-12, state=True)
    ]  # fmt: skip
    node.inputs += [absent] * 4
    node.outputs = [tensor((time, batch, cells), "INT8", *hidden)]
    node.intermediates = [*(tensor((0,), "INT16", 2.0**-12) for _ in range(4)), tensor((0,), "INT8", *hidden)]
    graph.inputs, graph.outputs = [node.inputs[0]], node.outputs
    node.builtinOptionsType = s.BuiltinOptions.UnidirectionalSequenceLSTMOptions
    options = s.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.timeMajor, options.cellClip = 4, True, cell_clip
    node.builtinOptions = options
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def run(content: bytes, path: str, *inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return the outputs of a model on one path."""
    package = litert()
    kind = package.OpResolverType
    resolver = {"xnnpack": kind.AUTO, "opt": kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES, "ref": kind.BUILTIN_REF}[path]
    interpreter = package.Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
