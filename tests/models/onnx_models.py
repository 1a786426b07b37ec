"""ONNX models of quantized operators, in QOperator and in QDQ format, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install '.[models]'")
TYPES = {"u8": np.uint8, "s8": np.int8}
Array = npt.NDArray[Any]


@dataclass
class Builder:
    """A graph in the making: constants, nodes, inputs and outputs."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def constant(self, name: str, value: Any) -> str:
        """Add a constant, and return its name."""
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: str, output: str, **attributes: Any) -> str:
        """Add a node; names of its inputs are parted by spaces, ``-`` is one that is left out."""
        microsoft = {"QLinearAdd", "QLinearMul", "QGemm", "QLinearGlobalAveragePool", "QLinearSigmoid"}
        names = ["" if name == "-" else name for name in inputs.split()]
        domain = "com.microsoft" if op in microsoft else ""
        self.nodes.append(
            onnx.helper.make_node(op, names, [output], domain=domain, name=f"{op}_{output}", **attributes)
        )
        return output

    def input(self, name: str, dtype: Any, shape: tuple[int, ...]) -> str:
        """Add an input of the model."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(onnx.helper.make_tensor_value_info(name, kind, shape))
        return name

    def scale(self, name: str, scale: Any, zero: Any, dtype: Any) -> str:
        """Add scale and zero point, and return their two names."""
        zeros = np.full(np.shape(scale), zero, dtype)
        return f"{self.constant(f'{name}_scale', np.float32(scale))} {self.constant(f'{name}_zero', zeros)}"

    def quantize(self, x: str, name: str, parameters: str) -> str:
        """Add QuantizeLinear and DequantizeLinear; return the name of the reals."""
        self.node("QuantizeLinear", f"{x} {parameters}", f"{name}_codes")
        return self.node("DequantizeLinear", f"{name}_codes {parameters}", f"{name}_reals")

    def model(self, opset: int = 17) -> Any:
        """Return the model; every name in `outputs` is an output of a type to be inferred."""
        outputs = [onnx.ValueInfoProto(name=name) for name in self.outputs]
        graph = onnx.helper.make_graph(self.nodes, "g", self.inputs, outputs, self.constants)
        opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("com.microsoft", 1)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


@dataclass
class Products:
    """Weights, scales and bias of Conv, MatMul or Gemm with one output place an image or row."""

    op: str
    kind: str
    weights: Array
    zero: int
    w_scale: Array
    bias: Array | None
    x_scale: float
    x_zero: int
    y_scale: float
    y_zero: int
    group: int = 1
    transposed: bool = False

    @classmethod
    def random(
        cls, rng: np.random.Generator, op: str, kind: str, weight_kind: str = "s8", per_channel: bool = True,
        group: int = 1, transposed: bool = False,
    ) -> Products:  # fmt: skip
        """Return random ones: 8 filters of 3x3x4, or a matrix of 24 x 8."""
        info = np.iinfo(TYPES[weight_kind])
        shape = (8, 4 // min(group, 4), 3, 3) if op == "Conv" else (8, 24) if transposed else (24, 8)
        weights = rng.integers(info.min, info.max + 1, shape).astype(TYPES[weight_kind])
        scale = rng.lognormal(np.log(0.006), 0.5, 8 if per_channel else 1).astype(np.float32)
        bias = rng.integers(-9000, 9000, 8).astype(np.int32) if op != "MatMul" else None
        x_zero, y_zero = (int(v) for v in rng.integers(*((20, 230) if kind == "u8" else (-100, 100)), 2))
        x_scale, y_scale = (float(np.float32(rng.uniform(*ends))) for ends in ((0.01, 0.1), (0.05, 0.3)))
        zero = 128 if weight_kind == "u8" else 0
        return cls(op, kind, weights, zero, scale, bias, x_scale, x_zero, y_scale, y_zero, group, transposed)

    @property
    def dtype(self) -> Any:
        """Type of inputs and outputs."""
        return TYPES[self.kind]

    @property
    def taps(self) -> Array:
        """Weights less zero point as (channels, products of one accumulator), in the order of `inputs`."""
        centred = self.weights.astype(np.int64) - self.zero
        if self.op == "Conv":
            return centred.reshape(8, -1)
        return centred if self.transposed else centred.T

    def extremes(self) -> tuple[Array, Array]:
        """Return (inputs, accumulators): for every channel the input of its least and of its greatest accumulator."""
        info = np.iinfo(self.dtype)
        taps = self.taps
        rows, sums = [], []
        for channel in range(8):
            for low, high in ((info.max, info.min), (info.min, info.max)):
                codes = np.where(taps[channel] > 0, high, low)
                total = int(((codes - self.x_zero) * taps[channel]).sum())
                sums.append(total + (int(self.bias[channel]) if self.bias is not None else 0))
                rows.append(self.placed(codes, channel))
        return np.array(rows, self.dtype), np.array(sums).reshape(8, 2)

    def placed(self, codes: Array, channel: int) -> Array:
        """Return one image or row of the input in which the channel's products meet these codes."""
        if self.op != "Conv":
            return codes
        depth = self.weights.shape[1]
        image = np.full((depth * self.group, 3, 3), self.x_zero, np.int64)
        first = channel // (8 // self.group) * depth
        image[first : first + depth] = codes.reshape(depth, 3, 3)
        return image

    def accumulators(self, x: Array) -> Array:
        """Return the accumulators of every row or image of an input: (n, channels)."""
        centred = x.astype(np.int64) - self.x_zero
        columns = []
        for channel in range(8):
            part = centred
            if self.op == "Conv":
                depth = self.weights.shape[1]
                first = channel // (8 // self.group) * depth
                part = centred[:, first : first + depth].reshape(len(x), -1)
            bias = 0 if self.bias is None else int(self.bias[channel])
            columns.append(part @ self.taps[channel] + bias)
        return np.stack(columns, axis=1)

    @property
    def image(self) -> tuple[int, ...]:
        """Shape of one image or row."""
        return (self.weights.shape[1] * self.group, 3, 3) if self.op == "Conv" else (24,)

    def _attributes(self) -> dict[str, Any]:
        if self.op == "Conv":
            return {"group": self.group}
        return {"transB": 1} if self.transposed else {}

    def _scale(self) -> Array:
        return self.w_scale if self.w_scale.size > 1 else self.w_scale[0]

    def qoperator(self, rows: int) -> Any:
        """Return the model in QOperator format, codes in and out."""
        b = Builder()
        x = b.input("x", self.dtype, (rows, *self.image))
        xs, ys = (
            b.scale(n, s, z, self.dtype)
            for n, s, z in (("x", self.x_scale, self.x_zero), ("y", self.y_scale, self.y_zero))
        )
        ws = b.scale("w", self._scale(), self.zero, self.weights.dtype)
        w = b.constant("w", self.weights)
        bias = b.constant("bias", self.bias) if self.bias is not None else "-"
        op = {"Conv": "QLinearConv", "MatMul": "QLinearMatMul", "Gemm": "QGemm"}[self.op]
        inputs = f"{x} {xs} {w} {ws} {bias} {ys}" if op == "QGemm" else f"{x} {xs} {w} {ws} {ys}"
        b.node(op, inputs + (f" {bias}" if op == "QLinearConv" else ""), "y", **self._attributes())
        b.outputs.append("y")
        return b.model()

    def qdq(self, rows: int, opset: int = 17) -> Any:
        """Return the model in QDQ format, reals in and out."""
        b = Builder()
        x = b.input("x", np.float32, (rows, *self.image))
        reals = b.quantize(x, "x", b.scale("x", self.x_scale, self.x_zero, self.dtype))
        axis = {"Conv": 0, "MatMul": 1, "Gemm": 0 if self.transposed else 1}[self.op]
        w = b.constant("w", self.weights)
        along = {"axis": axis} if self.w_scale.size > 1 else {}
        ws = b.scale("w", self._scale(), self.zero, self.weights.dtype)
        inputs = f"{reals} {b.node('DequantizeLinear', f'{w} {ws}', 'w_reals', **along)}"
        if self.bias is not None:
            scale = np.broadcast_to(np.float32(self.x_scale) * self.w_scale, 8).astype(np.float32)
            bs = b.scale("bias", scale, 0, np.int32)
            inputs += " " + b.node("DequantizeLinear", f"{b.constant('bias', self.bias)} {bs}", "bias_reals", axis=0)
        b.node(self.op, inputs, "sum", **self._attributes())
        b.outputs.append(b.quantize("sum", "y", b.scale("y", self.y_scale, self.y_zero, self.dtype)))
        return b.model(opset)


def saved(model: Any, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model, and return the path."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path
