"""ADD, SUB and MUL, and how the optimized kernel broadcasts."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..requant import recipes
from ..runtimes.emulate import emulate
from ..runtimes.profiles import get_profile
from ..runtimes.sums import LEFT_SHIFT, AffineSum
from ..runtimes.tflite import ONE_CODE
from .replay_instead import instead
from .replay_node import RUNTIME, Node, NotCovered, bounded, eight, per_tensor, require
from .source import Array

#: Ratios of scales that XNNPACK's product takes; others run the optimized kernel.
MULTIPLIED = 2.0**-16, 2.0**8


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
    >>> from qengine.models.replay_elementwise import broadcast_rows
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
    y = [instead(node, x, float(s) / twice) for x, s in zip(shifted, (sa, sb), strict=True)]
    total = y[0] - y[1] if node.operator.name == "SUB" else y[0] + y[1]
    low, high = node.clamp()
    return instead(node, total, twice / (2.0**LEFT_SHIFT * float(so)), zo, node.output.dtype, low, high)


def _product_instead(node: Node, left: Array, right: Array) -> Array:
    (a, _), (b, _) = node.given(0), node.given(1)
    (sa, za), (sb, zb), (so, zo) = per_tensor(a), per_tensor(b), per_tensor(node.output)
    acc = (left.astype(np.int32) - za) * (right.astype(np.int32) - zb)
    return instead(node, acc, recipes.apply("float32", sa, sb, so), zo, node.output.dtype, *node.clamp())
