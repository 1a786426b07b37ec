"""The operators of an ONNX model as rows of an audit: QOperator format, and QDQ format as ONNX Runtime fuses it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import DomainError, DTypeError, UnknownNameError
from .onnx_graph import CODE_TYPES, DQ, Codes, Node, OnnxGraph, Q
from .onnx_qdq import REASONS, Group, written_by
from .onnx_rows import convolution, gemm, global_pool, int32_bias, matrix_product, pair, same_type, weight_type
from .replay_node import NotCovered, require
from .requantizing import Requantizing, integers

#: Operators that move or choose values and round nothing.
MOVING = frozenset({
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Gather", "GatherND",
    "GatherElements", "Expand", "Tile", "MaxPool", "Pad", "DepthToSpace", "SpaceToDepth", "Concat", "ReverseSequence",
    "ReduceMax", "ReduceMin", "Max", "Min", "Dropout", "NhwcMaxPool", "ScatterND", "ScatterElements", "TopK", "Where",
})  # fmt: skip
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
#: Operators that make float32 or int32 of codes, or codes of float32.
REALS: Mapping[str, str] = {
    "ConvInteger": "it gives accumulators", "MatMulInteger": "it gives accumulators",
    "MatMulIntegerToFloat": "it gives real numbers", "DynamicQuantizeMatMul": "it gives real numbers",
    "DynamicQuantizeLinear": "real numbers become codes of a scale found while it runs",
    Q: "real numbers become codes", DQ: "it gives real numbers",
}  # fmt: skip


def _output(graph: OnnxGraph, node: Node, k: int) -> Codes:
    return graph.codes(node.output, node.input(k), node.input(k + 1), "its output")


def _explicit_conv(node: Node, graph: OnnxGraph) -> Requantizing:
    x, y = graph.operand(node, 0, "its input"), _output(graph, node, 6)
    w = graph.operand(node, 3, "its weights", 0, weights=True)
    same_type(x, y)
    weight_type(x, w)
    bias = int32_bias(graph.constant(node.input(8), "the bias")) if node.input(8) else integers(0)
    last = bool(node.integer("channels_last", 0))
    require(not last, "channels are the last axis of its tensors: an operator of a model that was optimized already")
    return convolution(node, graph, x, w, bias, y, graph.shape(x.name), graph.shape(y.name), "")


def _explicit_matmul(node: Node, graph: OnnxGraph) -> Requantizing:
    x, y = graph.operand(node, 0, "its input"), _output(graph, node, 6)
    w = graph.operand(node, 3, "its second input", 1, weights=True)
    same_type(x, y)
    weight_type(x, w)
    return matrix_product(node, graph, x, w, y, "")


def _explicit_gemm(node: Node, graph: OnnxGraph) -> Requantizing:
    x = graph.operand(node, 0, "its input")
    if not node.input(7):
        raise NotCovered("it gives real numbers")
    y = _output(graph, node, 7)
    axis = 0 if node.integer("transB", 0) else 1
    w = graph.operand(node, 3, "its weights", axis, weights=True)
    same_type(x, y)
    weight_type(x, w)
    bias = int32_bias(graph.constant(node.input(6), "the bias")) if node.input(6) else integers(0)
    return gemm(node, graph, x, w, bias, y, "")


def _explicit_pair(node: Node, graph: OnnxGraph) -> Requantizing:
    a, b = (
        graph.operand(node, k, what, weights=graph.is_constant(node.input(k)))
        for k, what in ((0, "its first input"), (3, "its second input"))
    )
    return pair(node, node.op, graph, a, b, _output(graph, node, 6), "")


def _explicit_pool(node: Node, graph: OnnxGraph) -> Requantizing:
    x, y = graph.operand(node, 0, "its input"), _output(graph, node, 3)
    return global_pool(node, graph, x, y, graph.shape(x.name), bool(node.integer("channels_last", 0)), "")


#: Operators on codes: how their rows are read, and how many inputs they need.
READERS: Mapping[str, tuple[Callable[[Node, OnnxGraph], Requantizing], int]] = {
    "QLinearConv": (_explicit_conv, 8), "QLinearMatMul": (_explicit_matmul, 8), "QGemm": (_explicit_gemm, 6),
    "QLinearAdd": (_explicit_pair, 7), "QLinearMul": (_explicit_pair, 7),
    "QLinearGlobalAveragePool": (_explicit_pool, 4),
}  # fmt: skip


def _plain(graph: OnnxGraph, node: Node) -> str:
    """Return why a node requantizes nothing; empty where it does, or may."""
    if node.op == Q and written_by(graph, node.input(0), DQ):
        return ""
    if node.op in REALS:
        return REALS[node.op]
    sandwiched = any(written_by(graph, name, DQ) for name in node.inputs) and any(
        reader.op == Q for name in node.outputs for reader in graph.consumers.get(name, [])
    )
    if sandwiched:
        return "codes are moved or chosen, not rounded" if node.op in MOVING and _same_scale(graph, node) else ""
    if node.op in MOVING:
        return "values are moved or chosen, not rounded"
    held = [graph.type(name) for name in (*node.inputs, *node.outputs) if name]
    return "" if any(kind in CODE_TYPES for kind in held) else "no tensor of it holds codes"


def _same_scale(graph: OnnxGraph, node: Node) -> bool:
    """Tell whether a node between DequantizeLinear and QuantizeLinear nodes keeps scale and zero point."""
    try:
        tensors = [graph.dequantized(name, "an input") for name in node.inputs if written_by(graph, name, DQ)]
        readers = (reader for name in node.outputs for reader in graph.consumers.get(name, []) if reader.op == Q)
        tensors += [graph.quantized(reader, "its output") for reader in readers]
    except NotCovered:
        return False
    return len({(t.dtype, t.scale.tobytes(), t.zero_point.tobytes()) for t in tensors}) == 1


def _missing(graph: OnnxGraph, node: Node) -> str:
    """Return why a node is not covered that has no reader."""
    if (node.proto.domain, node.proto.op_type) in graph.functions:
        return "a function of the model: it is not unfolded"
    if node.op in CONTROL:
        return "control flow: it runs other graphs"
    if node.op in REASONS:
        return REASONS[node.op]
    if node.op == Q:
        return "codes of one scale become codes of another through float32: no profile"
    if any(written_by(graph, name, DQ) for name in node.inputs):
        return "ONNX Runtime computes it in float32 between DequantizeLinear and QuantizeLinear"
    return "no profile"


def _read(graph: OnnxGraph, node: Node, group: Group | None, owners: Mapping[int, Node]) -> Requantizing:
    bare: dict[str, Any] = {
        "index": node.index, "op": node.op, "name": node.output, "runtime": "onnxruntime",
        "shape": graph.shape(node.output),
    }  # fmt: skip
    if group is None and node.op not in READERS:
        if node.index in owners:
            owner = owners[node.index]
            return Requantizing(plain=True, reason=f"part of operator {owner.index} ({owner.op})", **bare)
        control = node.op in CONTROL or (node.proto.domain, node.proto.op_type) in graph.functions
        plain = "" if control else _plain(graph, node)
        return Requantizing(plain=bool(plain), reason=plain or _missing(graph, node), **bare)
    try:
        if group is not None:
            assert group.quantizer is not None
            bare["name"] = group.quantizer.output
            return group.row()
        reader, least = READERS[node.op]
        require(len(node.inputs) >= least and len(node.outputs) == 1, f"{len(node.inputs)} inputs")
        return reader(node, graph)
    except (NotCovered, DomainError, DTypeError, UnknownNameError) as error:
        return Requantizing(reason=str(error), **bare)


def rows(graph: OnnxGraph) -> list[Requantizing]:
    """Return the rows of all nodes of the top-level graph but constants, in order.

    A QDQ group is one row, at the place of its operator; the nodes that it takes in are listed as part of it. Codes of
    tensors are all of their type's; of a constant, those that it holds.

    Raises
    ------
    InputFileError
        If a constant contradicts itself; names it.
    """
    groups = {node.index: Group.of(graph, node) for node in graph.nodes}
    owners = {part.index: group.node for group in groups.values() if group is not None for part in group.parts}
    return [_read(graph, node, groups[node.index], owners) for node in graph.nodes if node.op != "Constant"]


def read_rows(path: os.PathLike[str] | str) -> list[Requantizing]:
    """Read a model, and return `rows` of its graph. Raises InputFileError for a damaged file."""
    # Ratios of scales: in no range if infinite; a signalling NaN is a NaN.
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        return rows(OnnxGraph(Path(path)))
