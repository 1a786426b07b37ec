"""The operators of an ONNX model as rows of an audit: QOperator format, and QDQ format as ONNX Runtime fuses it.

In QDQ format an operator computes reals between DequantizeLinear and QuantizeLinear nodes. ONNX Runtime replaces such a
group by the operator on codes where it can. On x86-64 it first turns int8 activations into uint8, 128 higher, but not
those that several operators read: then types disagree, and the group stays in float32.

Source: onnxruntime core/optimizer/qdq_transformer: qdq_s8_to_u8.cc, selectors_actions/qdq_selectors.cc.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import DomainError, DTypeError, UnknownNameError
from ..runtimes.tflite import VADD
from .attainable import accumulator_range, spans
from .onnx_graph import CODE_TYPES, DQ, Codes, Node, OnnxGraph, Q
from .replay_node import NotCovered, require
from .replay_operators import LARGEST_SCALE, MULTIPLIED
from .requantizing import ACCUMULATORS, CODES, PAIRS, SUMS, Requantizing, integers, scales
from .source import Array

#: Operators that move or choose values and round nothing.
MOVING = frozenset({
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Gather", "GatherND",
    "GatherElements", "Expand", "Tile", "MaxPool", "Pad", "DepthToSpace", "SpaceToDepth", "Concat", "ReverseSequence",
    "ReduceMax", "ReduceMin", "Max", "Min", "Dropout", "NhwcMaxPool", "ScatterND", "ScatterElements", "TopK", "Where",
})  # fmt: skip
CONTROL = frozenset({"If", "Loop", "Scan", "SequenceMap"})
#: Operators on codes of which more is needed than a state can hold, or than is known.
REASONS: Mapping[str, str] = {
    "QLinearSoftmax": "a code depends on its whole row",
    "QLinearAveragePool": "it adds float32 numbers in the window's order: a code depends on more than a sum of codes",
    "QLinearLeakyRelu": "a table of 256 codes, of which no other runtime has a profile to compare it with",
    "QLinearSigmoid": "its approximation of the logistic function in float32 is not known bit for bit",
}
#: Operators that make float32 or int32 of codes, or codes of float32.
REALS: Mapping[str, str] = {
    "ConvInteger": "it gives accumulators", "MatMulInteger": "it gives accumulators",
    "MatMulIntegerToFloat": "it gives real numbers", "DynamicQuantizeMatMul": "it gives real numbers",
    "DynamicQuantizeLinear": "real numbers become codes of a scale found while it runs",
    Q: "real numbers become codes", DQ: "it gives real numbers",
}  # fmt: skip
#: Operator of reals -> the one on codes that replaces it.
FUSED: Mapping[str, str] = {
    "Conv": "QLinearConv", "MatMul": "QLinearMatMul", "Gemm": "QGemm", "Add": "QLinearAdd", "Mul": "QLinearMul",
    "AveragePool": "QLinearAveragePool", "GlobalAveragePool": "QLinearGlobalAveragePool",
    "LeakyRelu": "QLinearLeakyRelu", "Sigmoid": "QLinearSigmoid", "Softmax": "QLinearSoftmax",
}  # fmt: skip
#: Operators of QDQ format that ONNX Runtime fuses on x86-64 with uint8 activations alone.
UNSIGNED_ONLY = frozenset({"Conv", "MatMul"})
INT32 = -(2**31), 2**31 - 1
LARGEST_COUNT = 1 << 22
MIXED = "ONNX Runtime leaves it in float32 on x86-64, where int8 codes become uint8 unless several operators read them"


def _row(node: Node, op: str, y: Codes, graph: OnnxGraph, mark: str, **more: Any) -> Requantizing:
    low, high = y.limits
    return Requantizing(
        index=node.index, op=op, name=y.name + mark, runtime="onnxruntime", dtype=y.dtype, qmin=low, qmax=high,
        out_scale=scales(y.scale[0]), out_zp=integers(int(y.zero_point[0])),
        **{"shape": graph.shape(y.name), **more},
    )  # fmt: skip


def _same_type(*tensors: Codes) -> None:
    types = [tensor.dtype for tensor in tensors]
    require(len(set(types)) == 1, f"inputs and outputs of types {', '.join(types)}: ONNX Runtime has no kernel for it")


def _weight_type(x: Codes, w: Codes) -> None:
    fits = x.dtype == "uint8" or w.dtype == "int8"
    require(fits, f"{x.dtype} inputs with {w.dtype} weights: ONNX Runtime has no kernel for it")


def _products(
    node: Node, op: str, graph: OnnxGraph, x: Codes, w: Codes, y: Codes, bias: Array, matrix: Array, variant: str,
    facts: Mapping[str, Any], mark: str, windows: tuple[list[tuple[int, int]], ...] = (),
) -> Requantizing:  # fmt: skip
    """Return the row of sums of products; `matrix`: weights less zero point as (height, width, inputs, channels)."""
    require(matrix.size > 0, f"weights of shape {matrix.shape}")
    channels = matrix.shape[3]
    require(bias.size in (1, channels), f"a bias of {bias.size} elements for {channels} channels")
    require(w.scale.size in (1, channels), f"{w.scale.size} scales for {channels} channels")
    ends = tuple(end - int(x.zero_point[0]) for end in x.limits)
    low, high = accumulator_range(matrix, (ends[0], ends[1]), np.broadcast_to(bias, channels), *windows)
    least, greatest = int(low.min()), int(high.max())
    paths = _tflite_paths(x, w, y)
    wraps = f"accumulators can reach {least if least < INT32[0] else greatest}, beyond int32, and wrap"
    require(INT32[0] <= least and greatest <= INT32[1], wraps)
    return _row(
        node, op, y, graph, mark, states=ACCUMULATORS, code_dtype=x.dtype, variant=variant,
        granularity="per-channel" if w.scale.size > 1 else "per-tensor", in_scale=scales(x.scale[0]), w_scale=w.scale,
        in_zp=integers(int(x.zero_point[0])), bias=np.broadcast_to(bias, channels).astype(np.int64), low=low, high=high,
        facts={"inputs": math.prod(matrix.shape[:3]), "weights": w.dtype, **facts}, refused=paths,
    )  # fmt: skip


def _tflite_paths(x: Codes, w: Codes, y: Codes) -> dict[str, str]:
    """Return why paths of TFLite cannot be asked about sums of products."""
    every = ("xnnpack", "opt", "ref")
    if w.dtype == "int8" and w.zero_point.any():
        return dict.fromkeys(every, "TFLite has no int8 weights with a zero point")
    if w.dtype == "uint8" and (w.scale.size > 1 or x.dtype != "uint8"):
        return dict.fromkeys(every, "TFLite has uint8 weights with one scale and uint8 inputs alone")
    largest = float(np.max(x.scale[0] * w.scale / y.scale[0]))
    if largest >= LARGEST_SCALE:
        return {"xnnpack": f"XNNPACK does not start with a multiplier of {LARGEST_SCALE:g} or more, here {largest:g}"}
    return {}


def _centred(w: Codes, axis: int) -> Array:
    """Return weights less their zero points: [-255, 255]."""
    assert w.values is not None
    require(w.scale.size == 1 or w.axis == axis, f"scales along axis {w.axis} of the weights, channels along {axis}")
    shape = [1] * w.values.ndim
    if w.zero_point.size > 1:
        shape[axis] = -1
    return w.values.astype(np.int16) - w.zero_point.astype(np.int16).reshape(shape)


def _begins(node: Node, inputs: tuple[int, ...], outs: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the places of padding before each spatial axis."""
    strides, dilations = _spatial(node, "strides", len(size)), _spatial(node, "dilations", len(size))
    auto = node.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (out - 1) * stride + dilation * (taps - 1) + 1 - pixels)
            for out, stride, dilation, taps, pixels in zip(outs, strides, dilations, size, inputs, strict=True)
        ]
        return tuple((n + (auto == "SAME_LOWER")) // 2 for n in total)
    pads = node.integers("pads") or (0,) * (2 * len(size))
    require(len(pads) == 2 * len(size) and min(pads) >= 0, f"pads {list(pads)[:8]}")
    return (0,) * len(size) if auto == "VALID" else pads[: len(size)]


def _spatial(node: Node, name: str, rank: int) -> tuple[int, ...]:
    found = node.integers(name) or (1,) * rank
    require(len(found) == rank and min(found) >= 1, f"{name} {list(found)[:8]}")
    return found


def _convolution(
    node: Node, graph: OnnxGraph, x: Codes, w: Codes, bias: Array, y: Codes, pixels: tuple[int, ...],
    outs: tuple[int, ...], mark: str,
) -> Requantizing:  # fmt: skip
    """Conv on codes: filters (channels, inputs of a group, ...); `pixels` and `outs`: shapes of input and output."""
    assert w.values is not None
    require(w.values.ndim >= 3, f"filters of shape {w.values.shape}")
    matrix, size = _centred(w, 0), w.values.shape[2:]
    channels, depth, rank = w.values.shape[0], w.values.shape[1], len(size)
    group = node.integer("group", 1)
    require(group >= 1 and channels % group == 0, f"{channels} filters in {group} groups")
    strides, dilations = _spatial(node, "strides", rank), _spatial(node, "dilations", rank)
    windows: tuple[list[tuple[int, int]], ...] = ()
    known = len(pixels) == len(outs) == rank + 2 and rank <= 2 and 0 not in (*pixels, *outs)
    facts: dict[str, Any] = {}
    if known:
        before = _begins(node, pixels[2:], outs[2:], size)
        require(max(outs) < 1 << 24 and max(size) < 1 << 24, f"an output of shape {outs}")
        windows = tuple(
            spans(*values)
            for values in zip(pixels[2:], outs[2:], size, strides, dilations, before, strict=True)
        )  # fmt: skip
        windows = ([(0, 1)], *windows) if rank == 1 else windows
        facts = {"pixels": math.prod(outs[2:]), "batch": outs[0]}
    if rank != 2:  # windows of other ranks as rows of taps; in three dimensions all taps are taken to be inside
        matrix = matrix.reshape(channels, depth, 1, -1)
    if rank == 2:
        facts |= {"filter": size, "stride": strides, "dilation": dilations}
    depthwise = depth == 1 and group > 1
    facts |= {"multiplier": channels // group if depthwise else 1}
    kind = "u8" if x.dtype == "uint8" else "s8"
    variant = f"depthwise_{kind}s8" if depthwise else f"{kind}s8_perch"
    matrix = matrix.transpose(2, 3, 1, 0)
    return _products(node, "QLinearConv", graph, x, w, y, bias, matrix, variant, facts, mark, windows)


def _matrix(node: Node, graph: OnnxGraph, x: Codes, w: Codes, y: Codes, mark: str) -> Requantizing:
    """MatMul on codes with stored weights (inputs, columns)."""
    assert w.values is not None
    require(w.values.ndim == 2, f"weights of shape {w.values.shape}")
    kind = "u8" if x.dtype == "uint8" else "s8"
    variant = f"{kind}s8_{'percol' if w.scale.size > 1 else 'pertensor'}"
    batch = math.prod(graph.shape(y.name)[:-1])
    facts = {"batch": batch, "pixels": 1}
    matrix = _centred(w, 1)[None, None]
    return _products(node, "QLinearMatMul", graph, x, w, y, integers(0), matrix, variant, facts, mark)


def _gemm(node: Node, graph: OnnxGraph, x: Codes, w: Codes, bias: Array, y: Codes, mark: str) -> Requantizing:
    """Gemm on codes with stored weights; transB: (columns, inputs)."""
    assert w.values is not None
    require(w.values.ndim == 2, f"weights of shape {w.values.shape}")
    require(node.real("alpha", 1.0) == 1.0, f"alpha {node.real('alpha', 1.0):g}: what it does to the scales was not recorded")
    turned = bool(node.integer("transB", 0))
    matrix = _centred(w, 0).T if turned else _centred(w, 1)
    kind = "u8" if x.dtype == "uint8" else "s8"
    variant = f"{kind}s8_{'percol' if w.scale.size > 1 else 'pertensor'}"
    facts = {"batch": math.prod(graph.shape(y.name)[:-1]), "pixels": 1}
    return _products(node, "QGemm", graph, x, w, y, bias, matrix[None, None], variant, facts, mark)


def _bias(values: Array, what: str = "the bias") -> Array:
    require(values.dtype == np.int32, f"{what} is {values.dtype}")
    shape = tuple(n for n in values.shape if n != 1)
    fits = len(shape) <= 1 and (not shape or values.shape[-1] == values.size)
    require(fits, f"{what} has shape {values.shape}: not one element a channel")
    return values.reshape(-1).astype(np.int64)


def _codes_in(tensor: Codes) -> Array:
    low, high = tensor.limits
    return np.arange(low, high + 1, dtype=np.int64) if tensor.values is None else np.unique(tensor.values).astype(np.int64)


def _pair(node: Node, op: str, graph: OnnxGraph, a: Codes, b: Codes, y: Codes, mark: str) -> Requantizing:
    """QLinearAdd and QLinearMul."""
    _same_type(a, b, y)
    twins = a.name == b.name
    routes, refused = {}, {}
    sa, sb, so = (tensor.scale[0] for tensor in (a, b, y))
    if op == "QLinearMul":
        if not MULTIPLIED[0] <= float(sa * sb / so) < MULTIPLIED[1]:
            routes["xnnpack"] = "opt"
    elif not all(VADD.ratios[0] <= float(s / so) < VADD.ratios[1] for s in (sa, sb)):
        routes["xnnpack"] = "opt"
    if op == "QLinearAdd" and 256.0 * (float(sa) + float(sb)) / float(so) >= (1 << 15) - 256:
        refused["opt"] = "sums leave the 16 bits of the optimized kernel"
    first = _codes_in(a)
    second = integers(0) if twins else _codes_in(b)
    require(first.size > 0 and second.size > 0, "it has no element")
    return _row(
        node, op, y, graph, mark, states=CODES if twins else PAIRS, code_dtype=a.dtype,
        variant="u8" if a.dtype == "uint8" else "s8", granularity="elementwise", in_scale=scales(a.scale[0]),
        in_zp=integers(int(a.zero_point[0])), w_scale=scales(b.scale[0]), second_zp=integers(int(b.zero_point[0])),
        first_codes=first, second_codes=second, low=first[:1], high=first[-1:], twins=twins, routes=routes,
        refused=refused,
    )  # fmt: skip


def _global_pool(
    node: Node, graph: OnnxGraph, x: Codes, y: Codes, shape: tuple[int, ...], last: bool, mark: str
) -> Requantizing:
    """QLinearGlobalAveragePool: sums over all pixels of a channel."""
    _same_type(x, y)
    require(len(shape) >= 3, f"the shape of its input is not known: {shape}")
    count = math.prod(shape[1:-1] if last else shape[2:])
    require(0 < count < LARGEST_COUNT, f"{count} codes in a sum")
    low, high = x.limits
    return _row(
        node, "QLinearGlobalAveragePool", y, graph, mark, states=SUMS, code_dtype=x.dtype,
        variant="u8" if x.dtype == "uint8" else "s8", granularity="per-tensor", in_scale=scales(x.scale[0]),
        in_zp=integers(int(x.zero_point[0])), count=integers(count), low=integers(count * low),
        high=integers(count * high),
        shape=(shape[0], *(1,) * (len(shape) - 2), shape[-1 if last else 1]),  # channels last, where vector code ends
    )  # fmt: skip


def _operand(graph: OnnxGraph, node: Node, k: int, what: str) -> Codes:
    """Return the tensor at inputs k to k + 2: codes, scale, zero point; with its values where it is constant."""
    return graph.codes(*(node.input(n) for n in (k, k + 1, k + 2)), what, weights=graph.is_constant(node.input(k)))


def _output(graph: OnnxGraph, node: Node, k: int) -> Codes:
    return graph.codes(node.output, node.input(k), node.input(k + 1), "its output")


def _explicit_conv(node: Node, graph: OnnxGraph) -> Requantizing:
    x, y = graph.codes(*node.inputs[:3], "its input"), _output(graph, node, 6)
    w = graph.codes(*node.inputs[3:6], "its weights", 0, weights=True)
    _same_type(x, y)
    _weight_type(x, w)
    bias = _bias(graph.constant(node.input(8), "the bias")) if node.input(8) else integers(0)
    last = bool(node.integer("channels_last", 0))
    require(not last, "channels are the last axis of its tensors: an operator of a model that was optimized already")
    return _convolution(node, graph, x, w, bias, y, graph.shape(x.name), graph.shape(y.name), "")


def _explicit_matmul(node: Node, graph: OnnxGraph) -> Requantizing:
    x, y = graph.codes(*node.inputs[:3], "its input"), _output(graph, node, 6)
    w = graph.codes(*node.inputs[3:6], "its second input", 1, weights=True)
    _same_type(x, y)
    _weight_type(x, w)
    return _matrix(node, graph, x, w, y, "")


def _explicit_gemm(node: Node, graph: OnnxGraph) -> Requantizing:
    x = graph.codes(*node.inputs[:3], "its input")
    if not node.input(7):
        raise NotCovered("it gives real numbers")
    y = _output(graph, node, 7)
    axis = 0 if node.integer("transB", 0) else 1
    w = graph.codes(*node.inputs[3:6], "its weights", axis, weights=True)
    _same_type(x, y)
    _weight_type(x, w)
    bias = _bias(graph.constant(node.input(6), "the bias")) if node.input(6) else integers(0)
    return _gemm(node, graph, x, w, bias, y, "")


def _explicit_pair(node: Node, graph: OnnxGraph) -> Requantizing:
    a, b = _operand(graph, node, 0, "its first input"), _operand(graph, node, 3, "its second input")
    return _pair(node, node.op, graph, a, b, _output(graph, node, 6), "")


def _explicit_pool(node: Node, graph: OnnxGraph) -> Requantizing:
    x, y = graph.codes(*node.inputs[:3], "its input"), _output(graph, node, 3)
    return _global_pool(node, graph, x, y, graph.shape(x.name), bool(node.integer("channels_last", 0)), "")


#: Operators on codes: how their rows are read, and how many inputs they need.
READERS: Mapping[str, tuple[Callable[[Node, OnnxGraph], Requantizing], int]] = {
    "QLinearConv": (_explicit_conv, 8), "QLinearMatMul": (_explicit_matmul, 8), "QGemm": (_explicit_gemm, 6),
    "QLinearAdd": (_explicit_pair, 7), "QLinearMul": (_explicit_pair, 7),
    "QLinearGlobalAveragePool": (_explicit_pool, 4),
}  # fmt: skip


class Group:
    """An operator of reals between DequantizeLinear nodes and a QuantizeLinear node."""

    def __init__(self, graph: OnnxGraph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.clip, self.quantizer = self._behind()

    @classmethod
    def of(cls, graph: OnnxGraph, node: Node) -> Group | None:
        """Return the group of an operator that ONNX Runtime would look at; None where there is none."""
        if node.op not in FUSED or not any(_written_by(graph, name, DQ) for name in node.inputs):
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
        require(all(_written_by(graph, name, DQ) for name in others), "its second input is float32")
        require(node.given <= (3 if node.op in ("Conv", "Gemm") else 2), f"{node.given} inputs")
        if op in REASONS or op not in READERS:
            raise NotCovered(REASONS.get(op, "no profile"))
        types = {_effective(graph, x), _effective(graph, y)}
        if node.op in ("Conv", "MatMul", "Gemm"):
            require(len(types) == 1 and not (node.op in UNSIGNED_ONLY and "int8" in types), MIXED)
            w = graph.dequantized(node.input(1), "its weights", weights=True)
            _weight_type(x.unsigned() if types == {"uint8"} else x, w)
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
                return _pair(node, op, graph, x, b, y, " (QDQ, int8 as uint8)" if turned else " (QDQ)")
            return _pair(node, op, graph, x, b, y, " (QDQ)")
        require(len(types) == 1, MIXED)
        if types == {"uint8"} and x.dtype != y.dtype:
            x, y = x.unsigned(), y.unsigned()
        return _global_pool(node, graph, x, y, graph.shape(node.input(0)) or graph.shape(x.name), False, " (QDQ)")

    def _constant(self, k: int) -> bool:
        before = self.graph.producer.get(self.node.input(k))
        return before is not None and self.graph.is_constant(before.input(0))

    @property
    def _bias_values(self) -> Array:
        """Return the int32 bias: stored, or float32 divided by the product of the scales, as ONNX Runtime does it."""
        graph, name = self.graph, self.node.input(2)
        if _written_by(graph, name, DQ):
            before = graph.producer[name]
            if before.input(2):
                require(not graph.constant(before.input(2), "the bias's zero point").any(), "its bias has a zero point")
            return _bias(graph.constant(before.input(0), "the bias"))
        values = graph.constant(name, "the bias")
        require(values.dtype == np.float32 and values.ndim == 1, f"its bias is {values.dtype} of shape {values.shape}")
        x, w = (self.graph.dequantized(self.node.input(k), "its input", k == 1) for k in (0, 1))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            codes = np.rint(values / (x.scale[0] * w.scale))
        require(bool((np.abs(codes) < 2.0**31).all()), "its bias leaves int32")
        return codes.astype(np.int64)

    def _product(self, x: Codes, w: Codes, bias: Array, y: Codes) -> Requantizing:
        node, graph = self.node, self.graph
        if node.op == "Conv":
            pixels = graph.shape(node.input(0)) or graph.shape(x.name)
            return _convolution(node, graph, x, w, bias, y, pixels, graph.shape(node.output), " (QDQ)")
        if node.op == "MatMul":
            return _matrix(node, graph, x, w, y, " (QDQ)")
        require(not node.input(2) or node.real("beta", 1.0) == 1.0, "beta is not 1: ONNX Runtime leaves it in float32")
        return _gemm(node, graph, x, w, bias, y, " (QDQ)")


def _written_by(graph: OnnxGraph, name: str, op: str) -> bool:
    node = graph.producer.get(name)
    return node is not None and node.op == op


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


def _plain(graph: OnnxGraph, node: Node) -> str:
    """Return why a node requantizes nothing; empty where it does, or may."""
    if node.op == Q and _written_by(graph, node.input(0), DQ):
        return ""
    if node.op in REALS:
        return REALS[node.op]
    sandwiched = any(_written_by(graph, name, DQ) for name in node.inputs) and any(
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
        tensors = [graph.dequantized(name, "an input") for name in node.inputs if _written_by(graph, name, DQ)]
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
    if any(_written_by(graph, name, DQ) for name in node.inputs):
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
    with np.errstate(over="ignore", under="ignore"):  # ratios of scales: in no range if infinite
        return rows(OnnxGraph(Path(path)))
