"""Operators of QDQ format, as ONNX Runtime fuses them into operators on codes.

In QDQ format an operator computes reals between DequantizeLinear and QuantizeLinear nodes. ONNX Runtime replaces such a
group by the operator on codes where it can. On x86-64 it first turns int8 activations into uint8, 128 higher, but not
those that several operators read: then types disagree, and the group stays in float32.

Source: onnxruntime core/optimizer/qdq_transformer: qdq_s8_to_u8.cc, selectors_actions/qdq_selectors.cc.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .onnx_graph import DQ, Codes, Node, OnnxGraph, Q
from .onnx_rows import convolution, gemm, global_pool, int32_bias, matrix_product, pair, weight_type
from .replay_node import NotCovered, require
from .requantizing import Requantizing, integers
from .source import Array

#: Operators on codes of which more is needed than a state can hold, or than is known.
REASONS: Mapping[str, str] = {
    "QLinearSoftmax": "a code depends on its whole row",
    "QLinearAveragePool": "it adds float32 numbers in the window's order: a code depends on more than a sum of codes",
    "QLinearLeakyRelu": "a table of 256 codes, of which no other runtime has a profile to compare it with",
    "QLinearSigmoid": "its approximation of the logistic function in float32 is not known bit for bit",
}
#: Operator of reals -> the one on codes that replaces it.
FUSED: Mapping[str, str] = {
    "Conv": "QLinearConv", "MatMul": "QLinearMatMul", "Gemm": "QGemm", "Add": "QLinearAdd", "Mul": "QLinearMul",
    "AveragePool": "QLinearAveragePool", "GlobalAveragePool": "QLinearGlobalAveragePool",
    "LeakyRelu": "QLinearLeakyRelu", "Sigmoid": "QLinearSigmoid", "Softmax": "QLinearSoftmax",
}  # fmt: skip
#: Operators of QDQ format that ONNX Runtime fuses on x86-64 with uint8 activations alone.
UNSIGNED_ONLY = frozenset({"Conv", "MatMul"})
#: By how much the scale of a Conv's bias may differ from input scale times weight scale: relative, and in itself.
BIAS_SCALE = 0.01, 1e-6
LARGEST_COUNT = 1 << 22
MIXED = (
    "ONNX Runtime leaves it in float32 on x86-64: int8 codes become uint8 there, but not those that several operators "
    "read, or that the model takes or gives"
)


def written_by(graph: OnnxGraph, name: str, op: str) -> bool:
    """Tell whether a node of that operator writes the tensor."""
    node = graph.producer.get(name)
    return node is not None and node.op == op


class Group:
    """An operator of reals between DequantizeLinear nodes and a QuantizeLinear node."""

    def __init__(self, graph: OnnxGraph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.clip, self.quantizer = self._behind()

    @classmethod
    def of(cls, graph: OnnxGraph, node: Node) -> Group | None:
        """Return the group of an operator that ONNX Runtime would look at; None where there is none."""
        if node.op not in FUSED or not any(written_by(graph, name, DQ) for name in node.inputs):
            return None
        group = cls(graph, node)
        return group if group.quantizer is not None else None

    def _behind(self) -> tuple[Node | None, Node | None]:
        """Return the Relu or Clip after the operator, if any, and the QuantizeLinear node that follows."""
        clip, node = None, self._only_reader(self.node)
        if node is not None and node.op in ("Relu", "Clip"):
            clip, node = node, self._only_reader(node)
        return clip, node if node is not None and node.op == Q else None

    def _only_reader(self, node: Node) -> Node | None:
        readers = self.graph.consumers.get(node.output, [])
        return readers[0] if len(readers) == 1 and node.output not in self.graph.outputs else None

    @property
    def parts(self) -> list[Node]:
        """The nodes that a fusion takes in, but for DequantizeLinear nodes of which others read too."""
        graph, found = self.graph, [part for part in (self.clip, self.quantizer) if part is not None]
        for name in self.node.inputs:
            before = graph.producer.get(name)
            if before is not None and before.op == DQ and len(graph.consumers.get(name, [])) == 1:
                found.append(before)
        return found

    def _redundant(self, y: Codes) -> None:
        """Require that the QuantizeLinear node clamps at least as much as the Relu or Clip before it."""
        if self.clip is None:
            return
        scale, zero = float(y.scale[0]), int(y.zero_point[0])
        ends = [(end - zero) * scale for end in y.limits]
        low, high = 0.0, math.inf
        if self.clip.op == "Clip":
            low, high = self.clip.real("min", -math.inf), self.clip.real("max", math.inf)
            bounds = [self.clip.input(k) for k in (1, 2)]
            found = [self.graph.constant(name, "a bound of Clip") if name else None for name in bounds]
            require(all(v is None or v.size == 1 for v in found), "a bound of Clip has several elements")
            low = low if found[0] is None else float(found[0].reshape(-1)[0])
            high = high if found[1] is None else float(found[1].reshape(-1)[0])
        inside = low <= ends[0] and ends[1] <= high
        require(inside, f"{self.clip.op} clamps more than its codes do: ONNX Runtime leaves both in float32")

    def row(self) -> Requantizing:
        """Return the row. Raises NotCovered."""
        graph, node = self.graph, self.node
        assert self.quantizer is not None
        op = FUSED[node.op]
        y = graph.quantized(self.quantizer, "its output")
        self._redundant(y)
        x = graph.dequantized(node.input(0), "its input", weights=self._constant(0))
        bias: Array | None = None
        if node.op in ("Conv", "Gemm") and node.input(2):
            bias = self._bias_values
        others = [name for name in node.inputs[1:2] if name]
        require(all(written_by(graph, name, DQ) for name in others), "its second input is float32")
        require(node.given <= (3 if node.op in ("Conv", "Gemm") else 2), f"{node.given} inputs")
        if op in REASONS:
            raise NotCovered(REASONS[op])
        types = {_effective(graph, x), _effective(graph, y)}
        if node.op in ("Conv", "MatMul", "Gemm"):
            require(len(types) == 1 and not (node.op in UNSIGNED_ONLY and "int8" in types), MIXED)
            w = graph.dequantized(node.input(1), "its weights", weights=True)
            weight_type(x.unsigned() if types == {"uint8"} else x, w)
            if x.dtype != y.dtype:  # both run as uint8
                x, y = x.unsigned(), y.unsigned()
            values = integers(0) if bias is None else bias
            return self._product(x, w, values, y)
        if node.op in ("Add", "Mul"):
            b = graph.dequantized(node.input(1), "its second input", weights=self._constant(1))
            types.add(_effective(graph, b))
            require(len(types) == 1, MIXED)
            if types == {"uint8"}:
                turned = "int8" in (x.dtype, b.dtype, y.dtype)
                x, b, y = x.unsigned(), b.unsigned(), y.unsigned()
                mark = " (QDQ, int8 as uint8)" if turned else " (QDQ)"
                return pair(node, op, graph, x, b, y, mark, turned)
            return pair(node, op, graph, x, b, y, " (QDQ)")
        require(len(types) == 1, MIXED)
        if types == {"uint8"} and x.dtype != y.dtype:
            x, y = x.unsigned(), y.unsigned()
        return global_pool(node, graph, x, y, graph.shape(node.input(0)) or graph.shape(x.name), False, " (QDQ)")

    def _constant(self, k: int) -> bool:
        before = self.graph.producer.get(self.node.input(k))
        return before is not None and self.graph.is_constant(before.input(0))

    @property
    def _bias_values(self) -> Array:
        """Return the int32 bias: stored, or float32 divided by the product of the scales, as ONNX Runtime does it."""
        graph, name = self.graph, self.node.input(2)
        x, w = (self.graph.dequantized(self.node.input(k), "its input", k == 1) for k in (0, 1))
        if written_by(graph, name, DQ):
            before = graph.producer[name]
            if self.node.op == "Conv":  # a Gemm takes the bias's codes whatever their scale
                self._fitting(before, x, w)
            return int32_bias(graph.constant(before.input(0), "the bias"))
        values = graph.constant(name, "the bias")
        require(values.dtype == np.float32 and values.ndim == 1, f"its bias is {values.dtype} of shape {values.shape}")
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            codes = np.rint(values / (x.scale[0] * w.scale))
        require(bool((np.abs(codes) < 2.0**31).all()), "its bias leaves int32")
        found: Array = codes.astype(np.int64)
        return found

    def _fitting(self, bias: Node, x: Codes, w: Codes) -> None:
        """Require that a bias has the accumulators' scale, up to a tolerance, and no zero point."""
        stored = self.graph.constant(bias.input(1), "the bias's scale").reshape(-1).astype(np.float64)
        expected = x.scale[0].astype(np.float64) * w.scale
        require(stored.size in (1, expected.size) or expected.size == 1, f"its bias has {stored.size} scales")
        close = bool((np.abs(stored - expected) <= BIAS_SCALE[0] * expected + BIAS_SCALE[1]).all())
        zero = bias.input(2) and self.graph.constant(bias.input(2), "the bias's zero point").any()
        require(close and not zero, "its bias has not the scale of its accumulators: ONNX Runtime leaves it in float32")

    def _product(self, x: Codes, w: Codes, bias: Array, y: Codes) -> Requantizing:
        node, graph = self.node, self.graph
        if node.op == "Conv":
            pixels = graph.shape(node.input(0)) or graph.shape(x.name)
            return convolution(node, graph, x, w, bias, y, pixels, graph.shape(node.output), " (QDQ)")
        if node.op == "MatMul":
            return matrix_product(node, graph, x, w, y, " (QDQ)")
        require(not node.input(2) or node.real("beta", 1.0) == 1.0, "beta is not 1: ONNX Runtime leaves it in float32")
        return gemm(node, graph, x, w, bias, y, " (QDQ)")


def _effective(graph: OnnxGraph, tensor: Codes) -> str:
    """Return the type that ONNX Runtime gives codes of a QDQ graph on x86-64.

    A QuantizeLinear node and the one DequantizeLinear node that reads it change from int8 to uint8 together. Before,
    each reader of dequantized values gets a DequantizeLinear node of its own.
    """
    writer = graph.producer.get(tensor.name)
    if tensor.dtype != "int8" or writer is None or writer.op != Q or len(writer.inputs) != 3 or not writer.input(2):
        return tensor.dtype
    if tensor.name in graph.outputs:
        return tensor.dtype
    edges = 0
    for reader in graph.consumers.get(tensor.name, []):
        if reader.op != DQ or len(reader.inputs) != 3 or not reader.input(2):
            return tensor.dtype
        edges += max(1, len(graph.consumers.get(reader.output, [])) + (reader.output in graph.outputs))
    return "uint8" if edges == 1 else tensor.dtype
