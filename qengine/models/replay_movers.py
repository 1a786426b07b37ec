"""Operators that move or choose codes and round nothing: their inputs and output have one scale and zero point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..runtimes.activations import activation_range
from .replay_node import Geometry, Node, NotCovered, bounded, eight, per_tensor, require, same_codes
from .source import Array


def max_pool(node: Node) -> Array:
    """MAX_POOL_2D: the largest code of the window, clamped."""
    x, codes = node.given(0)
    eight(x, node.output)
    same_codes(node, 0)
    require(codes.ndim == 4, f"shape {codes.shape}")
    g = Geometry.of(node.options, codes.shape, (int(node.options["FilterHeight"]), int(node.options["FilterWidth"])))
    info = np.iinfo(codes.dtype)
    after = [
        max(0, (count - 1) * s + k - before - n)
        for n, count, k, s, before in zip(codes.shape[1:3], g.out, g.size, g.stride, g.before, strict=True)
    ]
    padded_shape = (codes.shape[0], *(n + b + a for n, b, a in zip(codes.shape[1:3], g.before, after, strict=True)))
    bounded((*padded_shape, codes.shape[3]))
    pads = [(0, 0), *zip(g.before, after, strict=True), (0, 0)]
    padded = np.pad(codes, pads, constant_values=info.min)
    result = np.full((codes.shape[0], *g.out, codes.shape[3]), info.min, codes.dtype)
    for i in range(min(g.size[0], padded.shape[1])):
        for j in range(min(g.size[1], padded.shape[2])):
            seen = padded[
                :, i : i + (g.out[0] - 1) * g.stride[0] + 1 : g.stride[0],
                j : j + (g.out[1] - 1) * g.stride[1] + 1 : g.stride[1],
            ]  # fmt: skip
            np.maximum(result, seen, out=result)
    return np.clip(result, *node.clamp(node.choice.path))


def reshaped(node: Node) -> Array:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the shape that the model states."""
    _, values = node.given(0)
    same_codes(node, 0)
    shape = node.output.shape
    require(math.prod(shape) == values.size, f"{values.size} elements as shape {shape}")
    return values.reshape(shape)


def transposed(node: Node) -> Array:
    """TRANSPOSE."""
    _, values = node.given(0)
    _, order = node.given(1)
    same_codes(node, 0)
    places = [int(v) for v in order.reshape(-1)]
    require(sorted(places) == list(range(values.ndim)), f"order {places} of {values.ndim} axes")
    return np.ascontiguousarray(values.transpose(places))


def padded(node: Node) -> Array:
    """PAD and PADV2: the zero point of the output, or a code that is given, around the tensor."""
    x, values = node.given(0)
    _, pads = node.given(1)
    same_codes(node, 0)
    require(pads.shape == (values.ndim, 2), f"paddings of shape {pads.shape} for {values.ndim} axes")
    widths = [(int(a), int(b)) for a, b in pads]
    require(all(n >= 0 for pair in widths for n in pair), f"paddings {widths}")
    bounded(tuple(n + a + b for n, (a, b) in zip(values.shape, widths, strict=True)))
    fill: Any = per_tensor(x)[1] if x.quantized else 0
    if node.operator.name == "PADV2":
        other, code = node.given(2)
        same = not x.quantized or (
            np.array_equal(other.scale, x.scale) and np.array_equal(other.zero_point, x.zero_point)
        )
        require(same and code.size == 1, "the padded value has another scale")
        fill = code.reshape(-1)[0]
    return np.pad(values, widths, constant_values=fill)


def concatenated(node: Node) -> Array:
    """CONCATENATION of tensors with one scale and zero point."""
    places = range(len(node.operator.inputs))
    require(bool(places), "no input")
    same_codes(node, *places)
    require(node.activation == "NONE", "a fused activation")
    parts = [node.given(place)[1] for place in places]
    axis = int(node.options["Axis"])
    try:
        return np.concatenate(parts, axis=axis)
    except ValueError as error:  # AxisError is one
        raise NotCovered(str(error)) from None


def packed(node: Node) -> Array:
    """PACK of tensors with one scale and zero point."""
    places = range(len(node.operator.inputs))
    require(bool(places), "no input")
    same_codes(node, *places)
    try:
        return np.stack([node.given(place)[1] for place in places], axis=int(node.options["Axis"]))
    except ValueError as error:
        raise NotCovered(str(error)) from None


def activated(node: Node) -> Array:
    """RELU, RELU6 and RELU_N1_TO_1 on their own, where the scale stays: a clamp."""
    x, values = node.given(0)
    eight(x, node.output)
    same_codes(node, 0)
    scale, zero = per_tensor(x)
    xnnpack = node.choice.path == "xnnpack"
    return np.clip(values, *activation_range(node.operator.name, scale, zero, x.dtype, xnnpack=xnnpack))


def _starts(values: Array, axes: int, what: str) -> list[int]:
    found = [int(v) for v in values.reshape(-1)]
    require(len(found) == axes, f"{len(found)} numbers in {what} for {axes} axes")
    return found


def sliced(node: Node) -> Array:
    """SLICE: from a start, a size; -1 is all that follows."""
    _, values = node.given(0)
    same_codes(node, 0)
    first = _starts(node.given(1)[1], values.ndim, "begin")
    size = _starts(node.given(2)[1], values.ndim, "size")
    stop = [n if count == -1 else start + count for n, start, count in zip(values.shape, first, size, strict=True)]
    inside = all(0 <= a <= b <= n for a, b, n in zip(first, stop, values.shape, strict=True))
    require(inside, f"begin {first}, size {size} of shape {values.shape}")
    return np.ascontiguousarray(values[tuple(slice(a, b) for a, b in zip(first, stop, strict=True))])


def strided_slice(node: Node) -> Array:
    """STRIDED_SLICE with masks of begin, end and shrunk axes."""
    _, values = node.given(0)
    same_codes(node, 0)
    begin, end, step = (_starts(node.given(k)[1], values.ndim, "begin, end or strides") for k in (1, 2, 3))
    options = node.options
    require(not (options["EllipsisMask"] or options["NewAxisMask"] or options["Offset"]), "ellipsis, new axes, offset")
    require(0 not in step, "a stride of 0")
    parts: list[Any] = []
    for k, (a, b, s) in enumerate(zip(begin, end, step, strict=True)):
        if options["ShrinkAxisMask"] >> k & 1:
            require(-values.shape[k] <= a < values.shape[k], f"index {a} of axis {k} of shape {values.shape}")
            parts.append(a)
        else:
            parts.append(
                slice(None if options["BeginMask"] >> k & 1 else a, None if options["EndMask"] >> k & 1 else b, s)
            )
    return np.ascontiguousarray(values[tuple(parts)])


def extreme(node: Node) -> Array:
    """MAXIMUM and MINIMUM of codes with one scale and zero point."""
    same_codes(node, 0, 1)
    left, right = node.given(0)[1], node.given(1)[1]
    choose = np.maximum if node.operator.name == "MAXIMUM" else np.minimum
    try:
        bounded(np.broadcast_shapes(left.shape, right.shape))
    except ValueError:
        raise NotCovered(f"shapes {left.shape} and {right.shape}") from None
    require(left.dtype.kind in "iu", f"type {left.dtype}: zeros and NaN of floating point have rules of their own")
    return np.asarray(choose(left, right))


def mirrored(node: Node) -> Array:
    """MIRROR_PAD."""
    _, values = node.given(0)
    _, pads = node.given(1)
    same_codes(node, 0)
    require(pads.shape == (values.ndim, 2), f"paddings of shape {pads.shape} for {values.ndim} axes")
    widths = [(int(a), int(b)) for a, b in pads]
    spare = 1 if node.options["Mode"] == 0 else 0  # REFLECT leaves the edge out
    fits = all(0 <= n <= size - spare for size, pair in zip(values.shape, widths, strict=True) for n in pair)
    require(fits, f"paddings {widths} of shape {values.shape}")
    return np.pad(values, widths, mode="reflect" if spare else "symmetric")


MOVERS: Mapping[str, Callable[[Node], Array]] = {
    "MAX_POOL_2D": max_pool, "RESHAPE": reshaped, "SQUEEZE": reshaped, "EXPAND_DIMS": reshaped, "TRANSPOSE": transposed,
    "PAD": padded, "PADV2": padded, "MIRROR_PAD": mirrored, "CONCATENATION": concatenated, "PACK": packed,
    "SLICE": sliced, "STRIDED_SLICE": strided_slice, "MAXIMUM": extreme, "MINIMUM": extreme,
    "RELU": activated, "RELU6": activated, "RELU_N1_TO_1": activated,
}  # fmt: skip
