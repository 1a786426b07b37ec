"""What each operator of a model computes: integers here, everything after them by the runtime's profile."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..exceptions import DomainError, DTypeError, UnknownNameError
from ..requant.multiplier import QuantizedMultiplier, split_real
from ..runtimes.columns import LIMITS
from ..runtimes.profiles import PROFILES
from .replay_accumulating import average_pool, convolution, depthwise, fully_connected
from .replay_elementwise import elementwise
from .replay_instead import instead
from .replay_movers import MOVERS
from .replay_node import EIGHT, RUNTIME, Node, NotCovered, bounded, eight, per_tensor, require, same_codes
from .source import Array

PROFILED = frozenset(row.op for row in PROFILES if row.runtime == RUNTIME)
#: Ratios of scales that XNNPACK's conversion of codes takes; others run the optimized kernel.
CONVERTED = 2.0**-8, 2.0**7


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
        return instead(node, acc, multiplier, zo, node.output.dtype, *LIMITS[node.output.dtype])
    return node.emulated("MEAN", name, sum=total, count=count, in_scale=si, out_scale=so, in_zp=zi, out_zp=zo)


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
        return instead(node, acc, float(si) / float(so), zo, out.dtype, *LIMITS[out.dtype])
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
