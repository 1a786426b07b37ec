"""Operators that add up products over a window: exact integer sums, then the runtime's profile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import backends
from ..backends.forms import FloatRule
from ..requant import recipes
from ..requant.schemes import get_scheme
from ..runtimes.columns import LIMITS
from ..runtimes.profiles import get_profile
from .graph import GraphTensor
from .replay_instead import instead
from .replay_node import RUNTIME, Geometry, Node, bounded, eight, per_tensor, require
from .source import Array

#: Sums below this one are whole in float32, whatever their order: every partial sum is.
WHOLE32 = 1 << 24
#: Sums of 8-bit and 16-bit products stay below this one, and so whole in float64.
WHOLE64 = 1 << 53
#: Elements of the matrix of patches that are made at once.
PATCHES = 1 << 22
#: TFLite's number of the type int32.
INT32 = 2


def _kernels(node: Node) -> Any:
    return backends.kernels(backends.choose(node.choice.backend), "convolutions")


@dataclass(frozen=True, eq=False, slots=True)
class Weights:
    """Centred weights of an accumulating operator, the bias, and what its sums can reach."""

    matrix: Array
    bias: Array
    scale: Array
    narrow: bool
    casts: dict[Any, Array] = field(default_factory=dict)

    def cast(self, dtype: Any, columns: slice = slice(None)) -> Array:
        """Return the matrix, or columns of it, contiguous in the type that multiplies; kept."""
        key = np.dtype(dtype), columns.start
        if key not in self.casts:
            self.casts[key] = np.ascontiguousarray(self.matrix[..., columns], dtype)
        return self.casts[key]


def weights_of(node: Node, shape: tuple[int, ...], reach: int, channels_last: bool) -> Weights:
    """Return weights as (inputs, channels), or for a depthwise filter as (height, width, channels).

    `reach` bounds ``|x - zero|``; sums are whole in float32 where ``reach sum|w| < 2**24`` for every channel.
    """
    if 0 in node.weights:
        kept: Weights = node.weights[0]
        return kept
    stored, codes = node.given(1)
    require(stored.dtype in ("int8", "uint8"), f"weights of type {stored.dtype}")
    channels = codes.shape[-1] if channels_last else codes.shape[0]
    require(stored.scale.size in (1, channels), f"{channels} channels need as many weight scales, or one")
    usable = bool(np.all(np.isfinite(stored.scale) & (stored.scale > 0)))
    require(usable, f"tensor {stored.index} has a weight scale that is not positive and finite")
    zero = stored.zero_point[0] if stored.zero_point.size else np.int64(0)
    require(bool((stored.zero_point == zero).all()), "weights have several zero points")
    centred = codes.astype(np.int64) - zero
    matrix = centred.reshape(shape) if channels_last else centred.reshape(channels, -1).T
    total = np.abs(matrix).sum(axis=tuple(range(matrix.ndim - 1)))
    largest = int(total.max(initial=0)) * reach
    require(largest < WHOLE64, "the sums leave 2**53")
    bias = np.zeros(channels, np.int64)
    if node.tensor(2) is not None:
        _, values = node.given(2)
        require(values.dtype in (np.int32, np.int64) and values.size == channels, f"a bias of {values.dtype}")
        bias = values.reshape(-1).astype(np.int64)
    weights = Weights(matrix, bias, stored.scale, largest < WHOLE32)
    if node.graph.tensors[node.operator.inputs[1]].data is not None and (
        node.tensor(2) is None or node.graph.tensors[node.operator.inputs[2]].data is not None
    ):
        node.weights[0] = weights
    return weights


#: Variants of accumulating operators that XNNPACK takes, and what their multiplier stays below.
EIGHT_BITS, LARGEST_SCALE = frozenset({"perchannel", "pertensor", "u8"}), 256.0


def variant_of(node: Node, x: GraphTensor, op: str) -> tuple[str, bool]:
    """Return the variant of an accumulating operator's profile, and whether its sums have 64 bits."""
    weights, out = node.tensor(1), node.output
    assert weights is not None
    bias = node.tensor(2)
    kinds = x.dtype, weights.dtype, out.dtype
    if kinds == ("int16", "int8", "int16"):
        wide = bias is None or bias.dtype == "int64"
        # Kernels read the bias as int64 unless the options say int32, whatever its tensor says.
        said = node.options.get("QuantizedBiasType", 0) == INT32
        require(wide or said, "a bias of int32 that the options do not announce is read as int64")
        single = "pert_" if op == "FULLY_CONNECTED" and weights.scale.size == 1 else ""
        return f"{single}i16x8_biasint{64 if wide else 32}", wide
    require(bias is None or bias.dtype == "int32", f"a bias of type {bias.dtype if bias else ''}")
    if kinds == ("uint8",) * 3:
        return "u8", False
    require(kinds == ("int8",) * 3, f"types {', '.join(kinds)}")
    return ("perchannel" if weights.scale.size > 1 or op == "DEPTHWISE_CONV_2D" else "pertensor"), False


def _accumulated(node: Node, op: str, acc: Array, variant: str, path: str, w_scale: Array) -> Array:
    x, _ = node.given(0)
    in_scale, _ = per_tensor(x)
    out_scale, zero = per_tensor(node.output)
    w_scale = w_scale if w_scale.size > 1 else w_scale[0]
    if path == "xnnpack" and variant in EIGHT_BITS:
        largest = float(np.max(in_scale * w_scale / out_scale, initial=0))
        require(largest < LARGEST_SCALE, f"XNNPACK does not start with a multiplier of 256 or more, here {largest:g}")
    if node.choice.instead is not None and acc.dtype == np.int32:
        row = get_profile(RUNTIME, op, "ref", variant=variant)
        scheme = get_scheme(node.choice.instead)
        # A scheme in floating point is its recipe too; fixed point takes the multiplier that the reference derives.
        fixed = getattr(row.arithmetic, "recipe", None) or "double"
        recipe = scheme.recipe if isinstance(scheme.rule, FloatRule) else fixed
        low, high = node.clamp()
        real = recipes.apply(recipe, in_scale, w_scale, out_scale)
        return instead(node, acc, real, zero, node.output.dtype, low, high)
    return node.emulated(
        op, variant, path, acc=acc, in_scale=in_scale, w_scale=w_scale, out_scale=out_scale, zero_point=zero
    )


def _product(node: Node, left: Array, weights: Weights, columns: slice, out: Array) -> None:
    """Write ``left @ weights + bias``; left is (rows, inputs) of floats."""
    kernels = _kernels(node)
    bias = weights.bias[columns].astype(out.dtype)
    sums = left @ weights.cast(left.dtype, columns)
    if out.dtype == np.int32 and weights.narrow:
        kernels.totals32(sums, bias, out)
    else:
        kernels.totals(sums, bias, out)


def _reach(x: GraphTensor) -> int:
    low, high = LIMITS[x.dtype]
    _, zero = per_tensor(x)
    return max(high - zero, zero - low)


def convolution(node: Node) -> Array:
    """CONV_2D: patches times weights, exactly, in floating point that holds every partial sum."""
    x, codes = node.given(0)
    stored, filters = node.given(1)
    require(codes.ndim == 4 and filters.ndim == 4, f"shapes {codes.shape} and {filters.shape}")
    variant, wide = variant_of(node, x, "CONV_2D")
    count, height, width, depth = filters.shape
    require(depth > 0 and count > 0 and codes.shape[3] % depth == 0, f"shapes {codes.shape} and {filters.shape}")
    groups = codes.shape[3] // depth
    require(groups > 0 and count % groups == 0, f"{count} filters of {depth} channels on {codes.shape[3]}")
    weights = weights_of(node, (), _reach(x), False)
    g = Geometry.of(node.options, codes.shape, (height, width))
    _, zero = per_tensor(x)
    bounded((codes.shape[0], *g.out, count))
    acc = np.empty((codes.shape[0], *g.out, count), np.int64 if wide else np.int32)
    kind = np.float32 if weights.narrow else np.float64
    inputs, kernels = height * width * depth, _kernels(node)
    rows = max(1, min(g.out[0], PATCHES // max(1, g.out[1] * inputs)))
    buffer = np.empty((rows, g.out[1], inputs), kind)
    for image, target in zip(codes, acc, strict=True):
        for group in range(groups):
            part = slice(group * (count // groups), (group + 1) * (count // groups))
            seen = image if groups == 1 else np.ascontiguousarray(image[:, :, group * depth : (group + 1) * depth])
            for first in range(0, g.out[0], rows):
                block = buffer[: min(rows, g.out[0] - first)]
                kernels.patches(seen, zero, g.size, g.stride, g.dilation, g.before, first, block)
                place = target[first : first + len(block), :, part]
                sums = np.empty(place.shape, acc.dtype) if groups > 1 else place
                _product(node, block.reshape(-1, inputs), weights, part, sums.reshape(-1, count // groups))
                if groups > 1:
                    place[...] = sums
    return _accumulated(node, "CONV_2D", acc, variant, node.choice.path, stored.scale)


def depthwise(node: Node) -> Array:
    """DEPTHWISE_CONV_2D."""
    x, codes = node.given(0)
    stored, filters = node.given(1)
    require(codes.ndim == 4 and filters.ndim == 4 and filters.shape[0] == 1, f"shapes {codes.shape}, {filters.shape}")
    _, height, width, channels = filters.shape
    require(codes.shape[3] > 0 and channels % codes.shape[3] == 0, f"shapes {codes.shape} and {filters.shape}")
    variant, wide = variant_of(node, x, "DEPTHWISE_CONV_2D")
    weights = weights_of(node, (height, width, channels), _reach(x), True)
    g = Geometry.of(node.options, codes.shape, (height, width))
    _, zero = per_tensor(x)
    kind = np.int64 if wide else np.int32
    bounded((codes.shape[0], *g.out, channels))
    acc = np.empty((codes.shape[0], *g.out, channels), kind)
    matrix = weights.cast(kind)
    bias = weights.bias.astype(kind)
    for image, target in zip(codes, acc, strict=True):
        _kernels(node).depthwise(image, zero, matrix, bias, g.stride, g.dilation, g.before, target)
    path = node.choice.path
    # XNNPACK takes an uint8 filter only with quantized_dimension 0; a filter with one scale per tensor has it mostly.
    if variant == "u8" and path == "xnnpack" and stored.axis != 0:
        path = "opt"
    # XNNPACK runs more than one output a channel as a grouped convolution, which overflows otherwise.
    grouped = path == "xnnpack" and variant == "perchannel" and channels > codes.shape[3]
    return _accumulated(node, "CONV_2D" if grouped else "DEPTHWISE_CONV_2D", acc, variant, path, stored.scale)


def fully_connected(node: Node) -> Array:
    """FULLY_CONNECTED."""
    x, codes = node.given(0)
    stored, filters = node.given(1)
    require(filters.ndim == 2 and node.options["WeightsFormat"] == 0, f"weights of shape {filters.shape}, shuffled")
    count, inputs = filters.shape
    require(inputs > 0 and codes.size % inputs == 0, f"{codes.size} codes for {inputs} inputs")
    variant, wide = variant_of(node, x, "FULLY_CONNECTED")
    weights = weights_of(node, (), _reach(x), False)
    _, zero = per_tensor(x)
    left: Array = codes.reshape(-1, inputs).astype(np.float32 if weights.narrow else np.float64)
    left = np.subtract(left, zero, dtype=left.dtype)
    bounded((len(left), count))
    acc = np.empty((len(left), count), np.int64 if wide else np.int32)
    _product(node, left, weights, slice(0, count), acc)
    result = _accumulated(node, "FULLY_CONNECTED", acc, variant, node.choice.path, stored.scale)
    return result.reshape((*codes.shape[:-1], count) if node.options["KeepNumDims"] else (-1, count))


def average_pool(node: Node) -> Array:
    """AVERAGE_POOL_2D: sums of raw codes over what of the window lies inside the image."""
    x, codes = node.given(0)
    variant = eight(x, node.output)
    require(codes.ndim == 4, f"shape {codes.shape}")
    g = Geometry.of(node.options, codes.shape, (int(node.options["FilterHeight"]), int(node.options["FilterWidth"])))
    bounded((codes.shape[0], *g.out, codes.shape[3]))
    bounded((*g.size, codes.shape[3]))
    total = np.empty((codes.shape[0], *g.out, codes.shape[3]), np.int32)
    ones, bias = np.ones((*g.size, codes.shape[3]), np.int32), np.zeros(codes.shape[3], np.int32)
    for image, target in zip(codes, total, strict=True):
        _kernels(node).depthwise(image, 0, ones, bias, g.stride, g.dilation, g.before, target)
    inside = []
    for n, count, k, s, before in zip(codes.shape[1:3], g.out, g.size, g.stride, g.before, strict=True):
        first = np.arange(count) * s - before
        inside.append(np.minimum(first + k, n) - np.maximum(first, 0))
    count = (inside[0][:, None] * inside[1])[:, :, None]
    same = node.output
    require(np.array_equal(x.scale, same.scale) and np.array_equal(x.zero_point, same.zero_point), "two scales")
    more: dict[str, Any] = {}
    if node.activation != "NONE":
        scale, zero = per_tensor(same)
        more = {"scale": scale, "zp": zero}
    return node.emulated("AVERAGE_POOL_2D", variant, sum=total, count=count, **more)
