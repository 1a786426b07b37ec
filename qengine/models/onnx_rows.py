"""Rows of an audit from operators on ONNX codes, whichever format holds them.

Source: onnx operators QLinearConv and QLinearMatMul; onnxruntime docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..runtimes.tflite import VADD
from .attainable import accumulator_range, spans
from .onnx_graph import Codes, Node, OnnxGraph
from .replay_accumulating import LARGEST_SCALE
from .replay_elementwise import MULTIPLIED
from .replay_node import require
from .requantizing import ACCUMULATORS, CODES, PAIRS, SUMS, Requantizing, integers, scales
from .source import Array

INT32 = -(2**31), 2**31 - 1
#: Pixels along one axis of an output, and codes in a sum.
LARGEST_SIDE = 1 << 18
LARGEST_COUNT = 1 << 22


def _row(node: Node, op: str, y: Codes, graph: OnnxGraph, mark: str, **more: Any) -> Requantizing:
    low, high = y.limits
    return Requantizing(
        index=node.index, op=op, name=y.name + mark, runtime="onnxruntime", dtype=y.dtype, qmin=low, qmax=high,
        out_scale=scales(y.scale[0]), out_zp=integers(int(y.zero_point[0])),
        **{"shape": graph.shape(y.name), **more},
    )  # fmt: skip


def same_type(*tensors: Codes) -> None:
    """Require that codes are all of one type."""
    types = [tensor.dtype for tensor in tensors]
    require(len(set(types)) == 1, f"inputs and outputs of types {', '.join(types)}: ONNX Runtime has no kernel for it")


def weight_type(x: Codes, w: Codes) -> None:
    """Require types of inputs and weights for which there is a kernel."""
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


def convolution(
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
        require(max(outs) <= LARGEST_SIDE, f"an output of shape {outs}")
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


def matrix_product(node: Node, graph: OnnxGraph, x: Codes, w: Codes, y: Codes, mark: str) -> Requantizing:
    """MatMul on codes with stored weights (inputs, columns)."""
    assert w.values is not None
    require(w.values.ndim == 2, f"weights of shape {w.values.shape}")
    kind = "u8" if x.dtype == "uint8" else "s8"
    variant = f"{kind}s8_{'percol' if w.scale.size > 1 else 'pertensor'}"
    batch = math.prod(graph.shape(y.name)[:-1])
    facts = {"batch": batch, "pixels": 1}
    matrix = _centred(w, 1)[None, None]
    return _products(node, "QLinearMatMul", graph, x, w, y, integers(0), matrix, variant, facts, mark)


def gemm(node: Node, graph: OnnxGraph, x: Codes, w: Codes, bias: Array, y: Codes, mark: str) -> Requantizing:
    """Gemm on codes with stored weights; transB: (columns, inputs)."""
    assert w.values is not None
    require(w.values.ndim == 2, f"weights of shape {w.values.shape}")
    require(
        node.real("alpha", 1.0) == 1.0,
        f"alpha {node.real('alpha', 1.0):g}: what it does to the scales was not recorded",
    )
    turned = bool(node.integer("transB", 0))
    matrix = _centred(w, 0).T if turned else _centred(w, 1)
    kind = "u8" if x.dtype == "uint8" else "s8"
    variant = f"{kind}s8_{'percol' if w.scale.size > 1 else 'pertensor'}"
    facts = {"batch": math.prod(graph.shape(y.name)[:-1]), "pixels": 1}
    return _products(node, "QGemm", graph, x, w, y, bias, matrix[None, None], variant, facts, mark)


def int32_bias(values: Array, what: str = "the bias") -> Array:
    """Return a stored bias as one element a channel, or one for all."""
    require(values.dtype == np.int32, f"{what} is {values.dtype}")
    shape = tuple(n for n in values.shape if n != 1)
    fits = len(shape) <= 1 and (not shape or values.shape[-1] == values.size)
    require(fits, f"{what} has shape {values.shape}: not one element a channel")
    return values.reshape(-1).astype(np.int64)


def _codes_in(tensor: Codes) -> Array:
    low, high = tensor.limits
    return (
        np.arange(low, high + 1, dtype=np.int64) if tensor.values is None else np.unique(tensor.values).astype(np.int64)
    )


def pair(
    node: Node, op: str, graph: OnnxGraph, a: Codes, b: Codes, y: Codes, mark: str = "", turned: bool = False
) -> Requantizing:  # fmt: skip
    """QLinearAdd and QLinearMul; `turned`: the file's int8 codes run as uint8."""
    same_type(a, b, y)
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
    if graph.shape(a.name) != graph.shape(b.name):
        if op == "QLinearMul":
            routes["opt"] = "ref"  # TFLite's optimized kernel takes equal shapes alone
        else:
            refused["opt"] = "which kernel adds tensors of two shapes depends on TFLite's order of the axes"
    first = _codes_in(a)
    second = integers(0) if twins else _codes_in(b)
    require(first.size > 0 and second.size > 0, "it has no element")
    return _row(
        node, op, y, graph, mark, states=CODES if twins else PAIRS, code_dtype=a.dtype,
        variant="u8" if a.dtype == "uint8" else "s8", granularity="elementwise", in_scale=scales(a.scale[0]),
        in_zp=integers(int(a.zero_point[0])), w_scale=scales(b.scale[0]), second_zp=integers(int(b.zero_point[0])),
        first_codes=first, second_codes=second, low=first[:1], high=first[-1:], twins=twins, routes=routes,
        refused=refused, facts={"turned": turned},
    )  # fmt: skip


def global_pool(
    node: Node, graph: OnnxGraph, x: Codes, y: Codes, shape: tuple[int, ...], last: bool, mark: str
) -> Requantizing:
    """QLinearGlobalAveragePool: sums over all pixels of a channel."""
    same_type(x, y)
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
