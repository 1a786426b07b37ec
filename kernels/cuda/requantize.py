"""Requantization on a device: one kernel launch for an array, chosen by rule, layout and alignment."""

from __future__ import annotations

import numpy as np

from ..codes import HALF_AWAY
from . import grid, load
from .grid import THREADS

#: What a channel needs, as requantize.cuh reads it: floor forms keep their biases in p and q, float forms the bits of
#: the float64 scale and of what a product is cut to on wrap-around.
CHANNEL = np.dtype(
    [
        ("p", np.int64), ("q", np.int64), ("a", np.int32), ("t", np.int32), ("low", np.int32), ("high", np.int32),
        ("zero_point", np.int32), ("spare", np.int32, 3),
    ]
)  # fmt: skip
FLOOR, FLOOR_WRAPPED, NESTED16 = 0, 1, 2
_FLOAT, _FLOAT64, _HALF_AWAY, _INSIDE, _WRAPPED = 16, 1, 2, 4, 8
#: Rules with loops of their own for int32 accumulators.
_HOT = {FLOOR: "floor", _FLOAT: "float32"}
_KINDS = {1: 0, 2: 1, 4: 2, 8: 3}


def float_rule(bits, rounding, inside, wrapped):
    """Return the code of a float rule."""
    return (
        _FLOAT + _FLOAT64 * (bits == 64) + _HALF_AWAY * (rounding == HALF_AWAY) + _INSIDE * inside + _WRAPPED * wrapped
    )


def floor_table(a, bp, bn, t, low, high, zero_point):
    """Return the records of a floor form: 1-D arrays over channels."""
    table = np.zeros(zero_point.size, CHANNEL)
    table["p"], table["q"], table["a"], table["t"] = bp, bn, a, t
    table["low"], table["high"], table["zero_point"] = low, high, zero_point
    return table


def float_table(scale, top, low, high, zero_point):
    """Return the records of a float form; `scale` and `top` are float64, exact in the rule's type."""
    table = np.zeros(zero_point.size, CHANNEL)
    table["p"], table["q"] = scale.view(np.int64), np.broadcast_to(top, scale.shape).astype(np.float64).view(np.int64)
    with np.errstate(over="ignore"):
        table["a"] = scale.astype(np.float32).view(np.int32)
    table["low"], table["high"], table["zero_point"] = low, high, zero_point
    return table


def nested_table(mantissa, exponent, zero_point):
    """Return the records of the nested form."""
    table = np.zeros(zero_point.size, CHANNEL)
    table["a"], table["t"], table["zero_point"] = mantissa, exponent, zero_point
    return table


def _in_vectors(x, out):
    """Whether units of four elements start at multiples of the vectors that they are moved in."""
    return x.data.ptr % 16 == 0 and out.data.ptr % min(16, 4 * out.dtype.itemsize) == 0


def _place(stride, inner, channels):
    """Return how far the place in a row, and the channel, move on with `stride` elements."""
    return stride % inner, stride // inner % channels


def _name(kernel, rule, x):
    if x.dtype == np.int32 and rule in _HOT:
        return f"requantize_{_HOT[rule]}_{kernel}"
    return f"requantize_{kernel}_i{8 * x.dtype.itemsize}"


def requantize(x, table, rule, qmin, qmax, out):
    """Requantize a contiguous (outer, channels, inner) device array into `out`; nothing waits for the device.

    Parameters
    ----------
    x : int32 or int64 device array, in the rule's domain
    table : array of `CHANNEL` on the host
        One record a channel.
    rule : int
        `FLOOR`, `FLOOR_WRAPPED`, `NESTED16` or a `float_rule`.
    qmin, qmax : int
        Clamp after the zero point, of wrapped rules and of the nested one.
    out : int8, uint8, int16, int32 or int64 device array, contiguous
        Apart from x.
    """
    n, (_, channels, inner) = x.size, x.shape
    if n == 0:
        return
    kind, last = _KINDS[out.dtype.itemsize], (rule, qmin, qmax)
    vectors = _in_vectors(x, out)
    units = n // 4 if vectors else n
    if channels == 1:
        numbers = table[0].item()[:7]
        blocks = grid.blocks(-(-units // 4), 2 * grid.MANY)
        load.launch("requantize", _name("tensor", rule, x), blocks, THREADS, n, x, out, kind, vectors, *numbers, *last)
        return
    records = load.array_module().asarray(table.view(np.int32))
    if inner == 1 and vectors:
        stride = grid.turning_stride(units, channels)
        load.launch(
            "requantize", _name("rows", rule, x), grid.blocks(stride), THREADS, n, x, out, kind, records, channels,
            stride, 4 * stride % channels, *last,
        )  # fmt: skip
        return
    blocks = grid.blocks(-(-n // 4) if vectors else n, grid.MANY)
    step = _place(blocks * THREADS * (4 if vectors else 1), inner, channels)
    load.launch(
        "requantize", _name("places", rule, x), blocks, THREADS, n, x, out, kind, vectors, records, inner, channels,
        *step, *last,
    )  # fmt: skip


def outside(x, low, high):
    """Return the flat index of the first accumulator outside its channel's closed range, or None.

    Waits for the device: the answer decides whether an error is raised.

    Parameters
    ----------
    x : contiguous (outer, channels, inner) device array of int32 or int64
    low, high : int64 arrays over channels, on the host
    """
    n, (_, channels, inner) = x.size, x.shape
    limits = np.iinfo(x.dtype)
    if n == 0 or (int(low.max()) <= limits.min and int(high.min()) >= limits.max):
        return None
    arrays = load.array_module()
    low, high = (arrays.asarray(np.clip(bound, limits.min, limits.max).astype(x.dtype)) for bound in (low, high))
    first = arrays.full(1, n, np.uint64)
    vectors = x.data.ptr % 16 == 0
    blocks = grid.blocks(-(-n // 4) if vectors and channels == 1 else n, grid.MANY)
    load.launch(
        "requantize", f"accumulators_outside_i{8 * x.dtype.itemsize}", blocks, THREADS, n, x, vectors, low, high, inner,
        channels, *_place(blocks * THREADS, inner, channels), first,
    )  # fmt: skip
    found = int(first[0])
    return found if found < n else None
