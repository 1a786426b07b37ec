"""The operators of a TensorFlow Lite model as rows of an audit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..exceptions import DomainError, DTypeError, UnknownNameError
from ..runtimes.activations import ACTIVATIONS, activation_range
from ..runtimes.columns import LIMITS
from ..runtimes.tflite import VADD
from .attainable import accumulator_range, spans
from .graph import Graph, GraphTensor, Operator
from .replay_accumulating import EIGHT_BITS, LARGEST_SCALE, variant_of, weights_of
from .replay_elementwise import MULTIPLIED, broadcast_rows
from .replay_movers import MOVERS
from .replay_node import EIGHT, Choice, Geometry, Node, NotCovered, eight, per_tensor, require
from .replay_operators import CONVERTED
from .requantizing import ACCUMULATORS, CODES, PAIRS, REACH, REALS, SUMS, Requantizing, integers, place_of, scales
from .source import Array

#: Operators beside `MOVERS` that move codes, where all of their tensors have one scale and zero point.
MOVING = frozenset({
    "SPLIT", "SPLIT_V", "UNPACK", "GATHER", "GATHER_ND", "TILE", "REVERSE_V2", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE",
    "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "RESIZE_NEAREST_NEIGHBOR", "BROADCAST_TO", "TOPK_V2", "WHERE", "CAST",
    "RESHAPE", "SELECT", "SELECT_V2", "REDUCE_MAX", "REDUCE_MIN", "ASSIGN_VARIABLE", "READ_VARIABLE",
})  # fmt: skip
CONTROL = frozenset({"IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE"})
#: Operators whose codes depend on more than a state of this kind can hold.
WHOLE = {
    "SOFTMAX": "a code depends on its whole row",
    "RESIZE_BILINEAR": "a code depends on four codes and their weights",
}
#: Distinct counts of codes in the windows of a pool.
COUNTS = 4096
#: Longest axis of an image.
LONGEST = 1 << 20
Range = tuple[int, int]


def code_range(tensor: GraphTensor, ranges: Mapping[int, Range]) -> Range:
    """Return the closed range of codes that a tensor can hold."""
    if tensor.data is not None and tensor.data.size and tensor.data.dtype.kind in "iu":
        return int(tensor.data.min()), int(tensor.data.max())
    return ranges.get(tensor.index, LIMITS[tensor.dtype])


def codes_of(tensor: GraphTensor, ranges: Mapping[int, Range]) -> Array:
    """Return the codes that a tensor of 8 bits can hold, ascending: of a constant, those that it holds."""
    if tensor.data is not None:
        return np.unique(tensor.data).astype(np.int64)
    low, high = code_range(tensor, ranges)
    return np.arange(low, high + 1, dtype=np.int64)


def clipped(activation: str, tensor: GraphTensor, codes: Range) -> Range:
    """Return the closed range of codes that a fused activation leaves of others, whichever path derived its bounds."""
    scale, zero = per_tensor(tensor)
    found = [activation_range(activation, scale, zero, tensor.dtype, xnnpack=of) for of in (False, True)]
    ends = [min(max(code, low), high) for low, high in found for code in codes]
    return min(ends), max(ends)


def _common(node: Node, **more: Any) -> Requantizing:
    operator, out = node.operator, node.output
    low, high = node.clamp()
    out_scale, zero = per_tensor(out)
    return Requantizing(
        index=operator.index, op=operator.name, name=out.name, tensor=out.index, dtype=out.dtype,
        activation=node.activation, qmin=low, qmax=high, out_scale=scales(out_scale), out_zp=integers(zero),
        shape=out.shape, **more,
    )  # fmt: skip


def _input(node: Node, place: int = 0) -> GraphTensor:
    tensor = node.tensor(place)
    require(tensor is not None, f"input {place} is missing")
    assert tensor is not None
    return tensor


def _geometry(node: Node, x: GraphTensor, size: Range) -> Geometry:
    """Return the window of a tensor of four axes, of a size that only a damaged file exceeds."""
    require(max(x.shape) <= LONGEST, f"shape {x.shape}")
    return Geometry.of(node.options, x.shape, size)


def accumulating(node: Node, ranges: Mapping[int, Range]) -> Requantizing:
    """CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED."""
    op, x = node.operator.name, _input(node)
    stored, filters = node.given(1)
    variant, wide = variant_of(node, x, op)
    in_scale, zero = per_tensor(x)
    low, high = code_range(x, ranges)
    low, high = low - zero, high - zero
    reach = max(abs(bound - zero) for bound in LIMITS[x.dtype])
    facts: dict[str, Any] = {"bias64": wide}
    vertical = horizontal = None
    if op == "FULLY_CONNECTED":
        require(filters.ndim == 2 and node.options["WeightsFormat"] == 0, f"weights of shape {filters.shape}, shuffled")
        require(filters.size > 0, f"weights of shape {filters.shape}")
        weights = weights_of(node, (), reach, False)
        shaped = weights.matrix[None, None]
        facts |= {"inputs": filters.shape[1], "batch": math.prod(x.shape) // filters.shape[1], "pixels": 1}
    else:
        require(filters.ndim == 4 and len(x.shape) == 4 and filters.size > 0, f"shapes {x.shape} and {filters.shape}")
        depthwise = op == "DEPTHWISE_CONV_2D"
        size = filters.shape[1], filters.shape[2]
        if depthwise:
            channels = filters.shape[3]
            fits = filters.shape[0] == 1 and x.shape[3] > 0 and channels % x.shape[3] == 0
            require(fits, f"shapes {x.shape} and {filters.shape}")
            weights = weights_of(node, (*size, channels), reach, True)
            shaped = weights.matrix[:, :, None, :]
        else:
            count, depth = filters.shape[0], filters.shape[3]
            groups = x.shape[3] // depth
            fits = x.shape[3] % depth == 0 and groups > 0 and count % groups == 0
            require(fits, f"shapes {x.shape} and {filters.shape}")
            weights = weights_of(node, (), reach, False)
            shaped = weights.matrix.reshape(*size, depth, count)
        g = _geometry(node, x, size)
        vertical, horizontal = (
            spans(*values) for values in zip(x.shape[1:3], g.out, size, g.stride, g.dilation, g.before, strict=True)
        )
        facts |= {
            "filter": size, "stride": g.stride, "dilation": g.dilation, "pixels": math.prod(g.out),
            "padding": "SAME" if node.options["Padding"] == 0 else "VALID", "batch": x.shape[0],
            "inputs": math.prod(shaped.shape[:3]), "multiplier": shaped.shape[3] // x.shape[3] if depthwise else 1,
            # XNNPACK runs several outputs a channel as a grouped convolution.
            "grouped": depthwise and variant == "perchannel" and channels > x.shape[3],
        }  # fmt: skip
    least, greatest = accumulator_range(shaped, (low, high), weights.bias, vertical, horizontal)
    routes, refused = {}, {}
    if variant == "u8" and op == "DEPTHWISE_CONV_2D" and stored.axis != 0:
        routes["xnnpack"] = "opt"  # XNNPACK takes an uint8 filter only with quantized_dimension 0
    out_scale, _ = per_tensor(node.output)
    largest = float(np.max(in_scale * stored.scale / out_scale, initial=0))
    if variant in EIGHT_BITS and largest >= LARGEST_SCALE and "xnnpack" not in routes:
        refused["xnnpack"] = f"XNNPACK does not start with a multiplier of 256 or more, here {largest:g}"
    return _common(
        node, states=ACCUMULATORS, code_dtype=x.dtype, variant=variant,
        granularity="per-channel" if stored.scale.size > 1 else "per-tensor", in_scale=scales(in_scale),
        w_scale=stored.scale.astype(np.float32), in_zp=integers(zero), bias=weights.bias, low=least, high=greatest,
        facts=facts, routes=routes, refused=refused,
    )  # fmt: skip


def elementwise(node: Node, ranges: Mapping[int, Range]) -> Requantizing:
    """ADD, SUB and MUL of 8-bit codes."""
    op, a, b, out = node.operator.name, _input(node), _input(node, 1), node.output
    variant = eight(a, b, out)
    (sa, za), (sb, zb), (so, _) = per_tensor(a), per_tensor(b), per_tensor(out)
    routes, refused, facts = {}, {}, {}
    if op == "MUL":
        if not MULTIPLIED[0] <= float(sa * sb / so) < MULTIPLIED[1]:
            routes["xnnpack"] = "opt"
    elif not all(VADD.ratios[0] <= float(s / so) < VADD.ratios[1] for s in (sa, sb)):
        routes["xnnpack"] = "opt"
    if op == "ADD" and 256.0 * (float(sa) + float(sb)) / float(so) >= (1 << 15) - 256:
        refused["opt"] = "sums leave the 16 bits of the optimized kernel"
    if a.shape != b.shape:
        try:
            shape = np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise NotCovered(f"shapes {a.shape} and {b.shape}") from None
        require(shape == out.shape or math.prod(shape) == math.prod(out.shape), f"shapes {a.shape} and {b.shape}")
        if op != "SUB":
            facts["broadcast"] = broadcast_rows(a.shape, b.shape)
    twins = a.index == b.index
    first = codes_of(a, ranges)
    require(first.size > 0, "it has no element")
    second = integers(0) if twins else codes_of(b, ranges)
    return _common(
        node, states=CODES if twins else PAIRS, code_dtype=a.dtype, variant=variant, granularity="elementwise",
        in_scale=scales(sa), in_zp=integers(za), w_scale=scales(sb), second_zp=integers(zb), first_codes=first,
        second_codes=second, low=first[:1], high=first[-1:], twins=twins, facts=facts, routes=routes, refused=refused,
    )  # fmt: skip


def mean(node: Node, ranges: Mapping[int, Range]) -> Requantizing:
    """MEAN of 8-bit codes."""
    x = _input(node)
    _, axes = node.given(1)
    variant, rank = eight(x, node.output), len(x.shape)
    given = [int(v) for v in axes.reshape(-1)]
    require(bool(given) and all(-rank <= axis < rank for axis in given), f"axes {given} of shape {x.shape}")
    over = tuple(sorted({axis % rank for axis in given}))
    count = math.prod(x.shape[axis] for axis in over)
    kept = bool(node.options["KeepDims"]) and rank == 4 and over == (1, 2)
    return _summed(node, x, ranges, [count], ("keepdims" if kept else "nokeep") + (variant and f"_{variant}"))


def average_pool(node: Node, ranges: Mapping[int, Range]) -> Requantizing:
    """AVERAGE_POOL_2D of 8-bit codes: as many channels as there are numbers of codes in a window."""
    x, out = _input(node), node.output
    variant = eight(x, out)
    require(len(x.shape) == 4, f"shape {x.shape}")
    g = _geometry(node, x, (int(node.options["FilterHeight"]), int(node.options["FilterWidth"])))
    require(same_parameters(x, out), "two scales")
    inside = [
        {stop - start for start, stop in spans(*values)}
        for values in zip(x.shape[1:3], g.out, g.size, g.stride, g.dilation, g.before, strict=True)
    ]
    counts = sorted({v * h for v in inside[0] for h in inside[1]})
    require(len(counts) <= COUNTS and counts[0] > 0, f"windows of {counts[0]} to {counts[-1]} codes")
    return _summed(node, x, ranges, counts, variant)


def _summed(node: Node, x: GraphTensor, ranges: Mapping[int, Range], counts: list[int], variant: str) -> Requantizing:
    scale, zero = per_tensor(x)
    low, high = code_range(x, ranges)
    number = integers(*counts)
    require(0 < counts[-1] < 1 << 22, f"{counts[-1]} codes in a sum")
    return _common(
        node, states=SUMS, code_dtype=x.dtype, variant=variant, granularity="per-tensor", in_scale=scales(scale),
        in_zp=integers(zero), count=number, low=number * low, high=number * high,
    )  # fmt: skip


def requantized(node: Node, ranges: Mapping[int, Range]) -> Requantizing:
    """QUANTIZE of codes or real numbers, and LOGISTIC."""
    x, out = _input(node), node.output
    routes = {}
    if node.operator.name == "QUANTIZE" and x.dtype == "float32":
        require(out.dtype in EIGHT, f"types {x.dtype} and {out.dtype}")
        with np.errstate(over="ignore"):
            edge = min(np.float32(REACH) * per_tensor(out)[0], np.finfo(np.float32).max)
        place = integers(place_of(edge))
        return _common(
            node, states=REALS, code_dtype=out.dtype, variant=f"f32{out.dtype[0]}8", granularity="per-tensor",
            low=-place, high=place,
        )  # fmt: skip
    if node.operator.name == "LOGISTIC":
        variant = eight(x, out)
    else:
        require(x.dtype in EIGHT and out.dtype in EIGHT, f"types {x.dtype} and {out.dtype}")
        variant = f"{x.dtype[0]}8{out.dtype[0]}8"
        if not CONVERTED[0] <= float(per_tensor(x)[0] / per_tensor(out)[0]) <= CONVERTED[1]:
            routes["xnnpack"] = "opt"
    scale, zero = per_tensor(x)
    codes = codes_of(x, ranges)
    return _common(
        node, states=CODES, code_dtype=x.dtype, variant=variant, granularity="per-tensor", in_scale=scales(scale),
        in_zp=integers(zero), first_codes=codes, low=codes[:1], high=codes[-1:], routes=routes,
    )  # fmt: skip


READERS: Mapping[str, Callable[[Node, Mapping[int, Range]], Requantizing]] = {
    "CONV_2D": accumulating, "DEPTHWISE_CONV_2D": accumulating, "FULLY_CONNECTED": accumulating,
    "ADD": elementwise, "SUB": elementwise, "MUL": elementwise, "MEAN": mean, "AVERAGE_POOL_2D": average_pool,
    "QUANTIZE": requantized, "LOGISTIC": requantized,
}  # fmt: skip


def same_parameters(*tensors: GraphTensor) -> bool:
    """Return whether codes of all tensors mean the same."""
    first = tensors[0]
    return all(
        x.dtype == first.dtype
        and np.array_equal(x.scale, first.scale)
        and np.array_equal(x.zero_point, first.zero_point)
        for x in tensors[1:]
    )


def _plain(graph: Graph, operator: Operator) -> str:
    """Return why an operator requantizes nothing; empty where it does."""
    places = [k for k in (*operator.inputs, *operator.outputs) if k >= 0]
    quantized = [graph.tensors[k] for k in places if graph.tensors[k].quantized]
    outputs = [graph.tensors[k] for k in operator.outputs]
    if not quantized:
        return "no tensor of it is quantized"
    if operator.name in MOVERS or operator.name in MOVING:
        return "codes are moved or chosen, not rounded" if same_parameters(*quantized) else ""
    if operator.name == "DEQUANTIZE":
        return "it gives real numbers"
    if outputs and not any(tensor.quantized or tensor.dtype.startswith("float") for tensor in outputs):
        return "it gives no codes"
    if operator.name == "QUANTIZE" and len(quantized) == 2:
        x, out = quantized
        flips = x.dtype != out.dtype and {x.dtype, out.dtype} == set(EIGHT) and np.array_equal(x.scale, out.scale)
        if flips and x.scale.size == 1 and x.zero_point[0] - out.zero_point[0] == (128 if x.dtype == "uint8" else -128):
            return "codes change their sign bit alone"
    return ""


def _missing(operator: Operator) -> str:
    """Return why an operator without a reader is not covered."""
    if operator.name in CONTROL:
        return "control flow: it runs other subgraphs"
    if operator.name in WHOLE:
        return WHOLE[operator.name]
    if operator.name in MOVERS or operator.name in MOVING:
        return "its tensors have several scales or zero points"
    return "no profile"


def _left(node: Node, row: Requantizing, ranges: dict[int, Range]) -> None:
    """Note the range of codes that an operator leaves in its outputs, where it is known to be a part of the type's."""
    graph, operator = node.graph, node.operator
    name = operator.name
    outputs = [graph.tensors[k] for k in operator.outputs]
    if not outputs or any(tensor.dtype not in LIMITS for tensor in outputs):
        return
    activation = name if name in ACTIVATIONS else str(node.options.get("FusedActivationFunction", "NONE"))
    if name in READERS and name not in ("QUANTIZE", "LOGISTIC"):
        codes = LIMITS[outputs[0].dtype]
        if name == "AVERAGE_POOL_2D" and row.covered:
            codes = int(row.low[0] // row.count[0]), int(row.high[0] // row.count[0])
    elif row.plain and name in MOVERS and name != "PADV2":
        inputs = [graph.tensors[k] for k in operator.inputs if k >= 0 and graph.tensors[k].quantized]
        if not inputs or any(x.dtype not in LIMITS for x in inputs):
            return
        parts = [code_range(x, ranges) for x in inputs]
        if name == "PAD":
            zero = int(inputs[0].zero_point[0])
            parts.append((zero, zero))
        codes = min(low for low, _ in parts), max(high for _, high in parts)
    else:
        return
    try:
        found = clipped(activation, outputs[0], codes)
    except (NotCovered, DomainError, UnknownNameError):
        return
    for tensor in outputs:
        before = ranges.get(tensor.index, found)  # a tensor that several operators write holds what any of them leaves
        ranges[tensor.index] = min(before[0], found[0]), max(before[1], found[1])


def read_row(node: Node, ranges: Mapping[int, Range]) -> Requantizing:
    """Return the row of one operator; never raises for what a model may hold."""
    graph, operator = node.graph, node.operator
    first = graph.tensors[operator.outputs[0]] if operator.outputs else None
    bare: dict[str, Any] = {
        "index": operator.index, "op": operator.name, "name": first.name if first else "",
        "tensor": first.index if first else -1, "shape": first.shape if first else (),
    }  # fmt: skip
    plain = _plain(graph, operator)
    if plain:
        return Requantizing(plain=True, reason=plain, **bare)
    reader = READERS.get(operator.name)
    if reader is None:
        return Requantizing(reason=_missing(operator), **bare)
    if len(operator.outputs) != 1:
        return Requantizing(reason=f"{len(operator.outputs)} outputs", **bare)
    try:
        with np.errstate(over="ignore", under="ignore", divide="ignore"):  # ratios of scales: in no range if infinite
            return reader(node, ranges)
    except (NotCovered, DomainError, DTypeError, UnknownNameError) as error:
        return Requantizing(reason=str(error), **bare)


def rows(graph: Graph) -> list[Requantizing]:
    """Return the rows of all operators of subgraph 0, in order.

    A tensor's codes are all of its type's, unless the operator that wrote it clamps them.
    """
    ranges: dict[int, Range] = {}
    found = []
    for operator in graph.operators:
        values = [None if k < 0 else graph.tensors[k].data for k in operator.inputs]
        node = Node(graph, operator, values, Choice("ref"))
        row = read_row(node, ranges)
        _left(node, row, ranges)
        found.append(row)
    return found
