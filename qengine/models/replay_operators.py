"""What each operator of a model computes: integer sums here, everything after them by the runtime's profile."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import backends
from ..backends.forms import FloatRule
from ..exceptions import DomainError, DTypeError, UnknownNameError
from ..requant import recipes
from ..requant.multiplier import QuantizedMultiplier, split_real
from ..requant.requantize import requantize
from ..requant.schemes import get_scheme
from ..runtimes.columns import LIMITS
from ..runtimes.emulate import emulate
from ..runtimes.profiles import PROFILES, get_profile
from ..runtimes.sums import LEFT_SHIFT, AffineSum
from ..runtimes.tflite import ONE_CODE
from .graph import GraphTensor
from .replay_movers import MOVERS
from .replay_node import EIGHT, RUNTIME, Geometry, Node, NotCovered, bounded, eight, per_tensor, require, same_codes
from .source import Array

#: Sums below this one are whole in float32, whatever their order: every partial sum is.
WHOLE32 = 1 << 24
#: Sums of 8-bit and 16-bit products stay below this one, and so whole in float64.
WHOLE64 = 1 << 53
#: Elements of the matrix of patches that are made at once.
PATCHES = 1 << 22
PROFILED = frozenset(row.op for row in PROFILES if row.runtime == RUNTIME)
#: TFLite's number of the type int32.
INT32 = 2


def _kernels(node: Node) -> Any:
    return backends.load(backends.choose(node.choice.backend)).convolutions()


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
#: Ratios of scales that XNNPACK's conversion of codes, and its product, take; others run the optimized kernel.
CONVERTED, MULTIPLIED = (2.0**-8, 2.0**7), (2.0**-16, 2.0**8)


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
        return _instead(node, acc, real, zero, node.output.dtype, low, high)
    return node.emulated(
        op, variant, path, acc=acc, in_scale=in_scale, w_scale=w_scale, out_scale=out_scale, zero_point=zero
    )


def _instead(
    node: Node, acc: Array, multiplier: Any, zero: int = 0, dtype: str | None = None,
    low: int | None = None, high: int | None = None,
) -> Array:  # fmt: skip
    assert node.choice.instead is not None
    return requantize(
        acc, multiplier, scheme=node.choice.instead, zero_point=zero, dtype=dtype, qmin=low, qmax=high,
        overflow="wrap", backend=node.choice.backend,
    )  # fmt: skip


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


def elementwise(node: Node) -> Array:
    """ADD, SUB and MUL."""
    (a, left), (b, right) = node.given(0), node.given(1)
    variant = eight(a, b, node.output)
    try:
        shape = np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        raise NotCovered(f"shapes {left.shape} and {right.shape}") from None
    bounded(shape)
    (sa, za), (sb, zb), (so, zo) = per_tensor(a), per_tensor(b), per_tensor(node.output)
    op, path = node.operator.name, node.choice.path
    if node.choice.instead is not None:
        return _sum_instead(node, left, right) if op != "MUL" else _product_instead(node, left, right)
    row = get_profile(RUNTIME, op, path, variant=variant)
    if isinstance(row.arithmetic, AffineSum):
        ratios = float(sa / so), float(sb / so)
        if not all(row.arithmetic.ratios[0] <= ratio < row.arithmetic.ratios[1] for ratio in ratios):
            path = "opt"
    if op == "MUL" and path == "xnnpack" and not MULTIPLIED[0] <= float(sa * sb / so) < MULTIPLIED[1]:
        path = "opt"
    if op == "ADD" and path == "opt":
        # The vector body drops all but 16 bits of the sum before the zero point.
        reach = 256.0 * (float(sa) + float(sb)) / float(so)
        require(reach < (1 << 15) - 256, f"sums of up to {reach:.6g} codes leave the 16 bits of the optimized kernel")
    columns = {
        "a": left,
        "b": right,
        "a_scale": sa,
        "b_scale": sb,
        "out_scale": so,
        "a_zp": za,
        "b_zp": zb,
        "out_zp": zo,
    }
    if left.shape != right.shape and path == "opt" and op != "SUB":
        return _broadcast(node, variant, columns)
    return node.emulated(op, variant, path, **columns)


def broadcast_rows(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, bool] | None:
    """Return the length of the rows that a broadcast runs in, and whether one side is a single code in each.

    TFLite's fivefold loop: axes that broadcast alike are one; from the innermost outwards they are alike, one side 1,
    alike, the other side 1, alike, each of them or none. Anything else (None) runs element by element.

    Examples
    --------
    >>> from qengine.models.replay_operators import broadcast_rows
    >>> broadcast_rows((1, 7, 9, 21), (21,)), broadcast_rows((1, 7, 9, 21), (1, 7, 1, 1))
    ((21, False), (189, True))
    >>> broadcast_rows((2, 4, 1), (2, 1, 5)), broadcast_rows((4, 1, 5, 1), (1, 3, 1, 2)) is None
    ((5, True), True)
    """
    axes = max(len(a), len(b))
    groups: list[list[Any]] = []
    for n, m in zip((1,) * (axes - len(a)) + a, (1,) * (axes - len(b)) + b, strict=True):
        if n == m == 1:
            continue
        kind = "both" if n == m else "a" if n == 1 else "b"
        if groups and groups[-1][0] == kind:
            groups[-1][1] *= max(n, m)
        else:
            groups.append([kind, max(n, m)])
    ones = [kind for kind, _ in groups if kind != "both"]
    if not groups or len(ones) > 2 or len(set(ones)) < len(ones):
        return None
    kind, length = groups[-1]
    return length, kind != "both"


def _broadcast(node: Node, variant: str, columns: dict[str, Any]) -> Array:
    """ADD and MUL of the optimized kernel on shapes that differ: each row has a vector body and a tail of its own.

    In ADD a row against one code takes the arithmetic of uint8 codes for int8 ones too (add.h, AddScalarBroadcast); in
    MUL of uint8 codes it drops the high bits of what it narrows (optimized_ops.h, MulSimpleBroadcast).
    """
    op = node.operator.name
    tail = node.emulated(op, variant, "ref", **columns)
    rows = broadcast_rows(columns["a"].shape, columns["b"].shape)
    if rows is None:
        return tail
    length, one = rows
    signed = op == "ADD" and variant == "" and one
    if signed:
        columns = dict(columns)
        for name in ("a", "b"):
            columns[name] = columns[name].view(np.uint8) ^ np.uint8(0x80)
        for name in ("a_zp", "b_zp", "out_zp"):
            columns[name] += 128
    body_variant = "u8" if signed else ONE_CODE if op == "MUL" and variant == "u8" and one else variant
    width = 16 if body_variant == "" else 8
    low, high = node.clamp()
    body = emulate(
        RUNTIME, op, "opt", variant=body_variant, qmin=low + 128 * signed, qmax=high + 128 * signed,
        backend=node.choice.backend, **columns,
    )  # fmt: skip
    if signed:
        body = (body ^ np.uint8(0x80)).view(np.int8)
    cut = length - length % width
    result = tail.copy()
    result.reshape(-1, length)[:, :cut] = body.reshape(-1, length)[:, :cut]
    return result


def _sum_instead(node: Node, left: Array, right: Array) -> Array:
    (a, _), (b, _) = node.given(0), node.given(1)
    (sa, za), (sb, zb), (so, zo) = per_tensor(a), per_tensor(b), per_tensor(node.output)
    twice = 2.0 * max(float(sa), float(sb))
    shifted = [(q.astype(np.int32) - z) << LEFT_SHIFT for q, z in ((left, za), (right, zb))]  # below 2**29
    y = [_instead(node, x, float(s) / twice) for x, s in zip(shifted, (sa, sb), strict=True)]
    total = y[0] - y[1] if node.operator.name == "SUB" else y[0] + y[1]
    low, high = node.clamp()
    return _instead(node, total, twice / (2.0**LEFT_SHIFT * float(so)), zo, node.output.dtype, low, high)


def _product_instead(node: Node, left: Array, right: Array) -> Array:
    (a, _), (b, _) = node.given(0), node.given(1)
    (sa, za), (sb, zb), (so, zo) = per_tensor(a), per_tensor(b), per_tensor(node.output)
    acc = (left.astype(np.int32) - za) * (right.astype(np.int32) - zb)
    return _instead(node, acc, recipes.apply("float32", sa, sb, so), zo, node.output.dtype, *node.clamp())


def mean(node: Node) -> Array:
    """MEAN over any axes; the optimized kernel takes 4-D input over (1, 2) with kept axes."""
    x, codes = node.given(0)
    _, axes = node.given(1)
    variant = eight(x, node.output)
    given = [int(v) for v in axes.reshape(-1)]
    require(all(-codes.ndim <= axis < codes.ndim for axis in given), f"axes {given} of shape {codes.shape}")
    over = tuple(sorted({axis % codes.ndim for axis in given}))
    require(bool(over), "no axis")
    keep = bool(node.options["KeepDims"])
    count = math.prod(codes.shape[axis] for axis in over)
    total = codes.sum(axis=over, dtype=np.int64)
    if keep:
        total = np.expand_dims(total, over)
    (si, zi), (so, zo) = per_tensor(x), per_tensor(node.output)
    kept = keep and codes.ndim == 4 and over == (1, 2)
    name = ("keepdims" if kept else "nokeep") + (variant and f"_{variant}")
    if node.choice.instead is not None:
        # As TFLite's reference: the mantissa divided by the count, truncated; (m << power) is below 2**62.
        m, e = (int(v[0]) for v in split_real(np.array([float(si) / float(so)])))
        power = min(count.bit_length() - 1, 32, 31 + e)
        multiplier = QuantizedMultiplier((m << power) // count, e - power)
        acc = (total - zi * count).astype(np.int32)
        return _instead(node, acc, multiplier, zo, node.output.dtype, *LIMITS[node.output.dtype])
    return node.emulated("MEAN", name, sum=total, count=count, in_scale=si, out_scale=so, in_zp=zi, out_zp=zo)


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


def requantized(node: Node) -> Array:
    """QUANTIZE: real numbers to codes, or codes to codes."""
    x, values = node.given(0)
    (so, zo), out = per_tensor(node.output), node.output
    if x.dtype == "float32":
        require(out.dtype in EIGHT, f"types {x.dtype} and {out.dtype}")
        return node.emulated("QUANTIZE", f"f32{out.dtype[0]}8", input=values, out_scale=so, out_zp=zo)
    require(x.dtype in EIGHT and out.dtype in EIGHT, f"types {x.dtype} and {out.dtype}")
    si, zi = per_tensor(x)
    if x.dtype != out.dtype and si == so and zi - zo == (128 if x.dtype == "uint8" else -128):
        return (values ^ 0x80).view(out.dtype) if x.dtype == "uint8" else values.view("uint8") ^ np.uint8(0x80)
    if node.choice.instead is not None:
        acc = values.astype(np.int32) - zi
        return _instead(node, acc, float(si) / float(so), zo, out.dtype, *LIMITS[out.dtype])
    variant, path = f"{x.dtype[0]}8{out.dtype[0]}8", node.choice.path
    if path == "xnnpack" and not CONVERTED[0] <= float(si / so) <= CONVERTED[1]:
        path = "opt"
    return node.emulated("QUANTIZE", variant, path, input=values, in_scale=si, in_zp=zi, out_scale=so, out_zp=zo)


def dequantized(node: Node) -> Array:
    """DEQUANTIZE: codes to float32."""
    x, values = node.given(0)
    require(x.dtype in EIGHT and node.output.dtype == "float32", f"types {x.dtype} and {node.output.dtype}")
    si, zi = per_tensor(x)
    return node.emulated("DEQUANTIZE", f"{x.dtype[0]}8f32", input=values, in_scale=si, in_zp=zi)


def softmax(node: Node) -> Array:
    """SOFTMAX along the last axis."""
    x, values = node.given(0)
    variant = eight(x, node.output)
    (si, zi), (so, zo) = per_tensor(x), per_tensor(node.output)
    beta = float(node.options["Beta"])
    return node.emulated("SOFTMAX", variant, input=values, in_scale=si, in_zp=zi, out_scale=so, out_zp=zo, beta=beta)


def logistic(node: Node) -> Array:
    """LOGISTIC."""
    x, values = node.given(0)
    variant = eight(x, node.output)
    (si, zi), (so, zo) = per_tensor(x), per_tensor(node.output)
    return node.emulated("LOGISTIC", variant, input=values, in_scale=si, in_zp=zi, out_scale=so, out_zp=zo)


def resize_bilinear(node: Node) -> Array:
    """RESIZE_BILINEAR."""
    x, values = node.given(0)
    _, size = node.given(1)
    variant = eight(x, node.output)
    same_codes(node, 0)
    require(size.size == 2 and values.ndim == 4, f"size {size.tolist()} of shape {values.shape}")
    height, width = (int(v) for v in size.reshape(-1))
    bounded((values.shape[0], max(height, 1), max(width, 1), values.shape[3]))
    flags = {"align_corners": "AlignCorners", "half_pixel_centers": "HalfPixelCenters"}
    more: dict[str, Any] = {name: bool(node.options[stored]) for name, stored in flags.items()}
    return node.emulated("RESIZE_BILINEAR", variant, input=values, height=height, width=width, **more)


OPERATORS: Mapping[str, Callable[[Node], Array]] = {
    **MOVERS,
    "CONV_2D": convolution, "DEPTHWISE_CONV_2D": depthwise, "FULLY_CONNECTED": fully_connected,
    "ADD": elementwise, "SUB": elementwise, "MUL": elementwise, "MEAN": mean, "AVERAGE_POOL_2D": average_pool,
    "QUANTIZE": requantized, "DEQUANTIZE": dequantized,
    "SOFTMAX": softmax, "LOGISTIC": logistic, "RESIZE_BILINEAR": resize_bilinear,
}  # fmt: skip


def compute(node: Node) -> Array:
    """Return the operator's output, or raise NotCovered with the reason."""
    run = OPERATORS.get(node.operator.name)
    require(run is not None, "no replay, though a profile" if node.operator.name in PROFILED else "no profile")
    assert run is not None
    require(len(node.operator.outputs) == 1, f"{len(node.operator.outputs)} outputs")
    try:
        with np.errstate(over="ignore", under="ignore"):  # ratios of scales: infinite or 0 is in no range
            return run(node)
    except (DomainError, DTypeError, UnknownNameError) as error:
        raise NotCovered(str(error)) from error
