"""Quantization and dequantization on a device: records of parameters, the choice of a rule, and one launch an array."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..codes import (
    AFFINE_BITS,
    AFFINE_DEQUANTIZATION,
    AFFINE_QMAX,
    AFFINE_QMIN,
    AFFINE_ROUNDING,
    AFFINE_SEED,
    AFFINE_STEP,
    AFFINE_ZERO_POINT,
    DEQUANTIZE_FLOAT64,
    DEQUANTIZE_SUBTRACT,
    DIVIDE,
    DRAW_GROUP,
    HALF_EVEN,
    STOCHASTIC,
    ZERO_POINT_AFTER,
    ZERO_POINT_FUSED,
)
from . import grid, load
from .grid import THREADS

#: Records as affine_quantize.cuh reads them. Single: float32 elements and arithmetic, doubles: float32 elements and
#: float64 arithmetic, general: the rest. Bounds are of x, rest is added to the bits of the rounded sum.
SINGLE = np.dtype(
    [
        ("low", np.float32), ("high", np.float32), ("negative_scale", np.float32), ("inverse", np.float32),
        ("zero_point", np.float32), ("rest", np.int32), ("spare", np.int32, 2),
    ]
)  # fmt: skip
DOUBLE = np.dtype(
    [
        ("scale", np.float64), ("inverse", np.float64), ("low", np.float32), ("high", np.float32),
        ("zero_point", np.float32), ("rest", np.int32),
    ]
)  # fmt: skip
GENERAL = np.dtype(
    [
        ("scale", np.float64), ("inverse", np.float64), ("zero_point", np.float64), ("exact", np.int32),
        ("spare", np.int32),
    ]
)  # fmt: skip
#: Records of dequantization, as affine_dequantize.cuh reads them.
CODE_SINGLE = np.dtype(
    [("scale", np.float32), ("product", np.float32), ("zero_point", np.int32), ("spare", np.int32)]
)  # fmt: skip
CODE_DOUBLE = np.dtype([("scale", np.float64), ("zero_point", np.float64)])
#: As DEQUANTIZE_SUBTRACT, where q - z may leave int32.
DEQUANTIZE_WIDE = 4

#: Zero points and codes of the fast rules lie within +-LIMIT.
LIMIT = 1 << 19
#: Closed ranges of scales in which the fast rules' proofs hold.
FUSED_SCALES, DIVIDED_SCALES, DOUBLE_SCALES = (2.0**-126, 2.0**126), (2.0**-70, 2.0**100), (2.0**-120, 2.0**120)
#: Open range of scales in which a remainder of float32 numbers divided in float64 is exact.
EXACT_SCALES = 2.0**-400, 2.0**400
#: Bits of 3 * 2**22 as float32: what stands above a whole number that is added to it.
_WHOLE_BITS = 0x4B400000
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_KINDS = {1: 0, 2: 1, 4: 2}
#: Dtypes of codes that `dequantize` reads.
CODES = tuple(np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32"))
#: Threads that a group of draws takes: four blocks each, of four words.
_DRAW_THREADS = DRAW_GROUP // 16


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A quantizer as the kernels take it.

    Attributes
    ----------
    rule : str
        Of quantization: ``fused``, ``divide``, ``double``, ``rounded``, ``any``, ``draws``; of dequantization ``f32``
        or ``f64``.
    records : structured array on the host, one record for each scale
    layout : (length, group, groups a row, rows)
        In its shortest form; records of row r start at ``r % rows * groups``.
    numbers : tuple of int
        What the kernels take of the quantizer beside its records.
    seed : int
    """

    rule: str
    records: np.ndarray
    layout: tuple
    numbers: tuple
    seed: int = 0


def short_layout(layout):
    """Return the layout with whole groups as rows of their own."""
    length, group, groups, rows = (int(number) for number in layout)
    if groups > 1 and length % group == 0 and not _columns((length, group, groups, rows)):
        return group, group, 1, rows * groups
    return length, group, groups, rows


def _columns(layout):
    """Tell whether elements in rows have a record a column."""
    return layout[1] == 1 and layout[2] == layout[0] and layout[3] == 1


def _inside(values, bounds):
    return bool((values >= bounds[0]).all() and (values <= bounds[1]).all())


def _rule(row, scales, zero_points, narrow):
    """Return the name of the fastest rule whose proof covers these parameters."""
    bits, step, mode, rounding = (int(row[k]) for k in (AFFINE_BITS, AFFINE_STEP, AFFINE_ZERO_POINT, AFFINE_ROUNDING))
    if rounding == STOCHASTIC:
        return "draws"
    largest = max(abs(int(row[AFFINE_QMIN])), abs(int(row[AFFINE_QMAX])), float(np.abs(zero_points).max()))
    if not narrow or largest > LIMIT:
        return "any"
    if bits == 64:
        return "double" if rounding == HALF_EVEN and _inside(scales, DOUBLE_SCALES) else "any"
    if step == DIVIDE and mode != ZERO_POINT_FUSED:
        rule, bounds = "divide", DIVIDED_SCALES
    elif mode in (ZERO_POINT_FUSED, ZERO_POINT_AFTER):
        rule, bounds = "fused", FUSED_SCALES
    else:
        return "any"
    with np.errstate(over="ignore", under="ignore"):
        if not _inside(scales.astype(np.float32), bounds):
            return "any"
    return rule if rounding == HALF_EVEN else "rounded"


def _bounds(records, scale, zero_points, qmin, qmax, slack):
    """Write the float32 numbers next to what the outermost codes (and `slack` codes more) stand for."""
    with np.errstate(over="ignore", under="ignore"):
        for name, code in (("low", qmin - slack), ("high", qmax + slack)):
            records[name] = np.clip((code - zero_points) * scale, -_FLOAT32_MAX, _FLOAT32_MAX)


def plan(row, layout, scales, zero_points, dtype):
    """Return the `Plan` of a quantization.

    Parameters
    ----------
    row : int64 array
        ``AFFINE_...`` of `codes`.
    layout : (length, group, groups a row, rows)
    scales, zero_points : float64 arrays over parameters
    dtype : float32 or float64
        Type of the elements.
    """
    bits, step, mode, rounding = (int(row[k]) for k in (AFFINE_BITS, AFFINE_STEP, AFFINE_ZERO_POINT, AFFINE_ROUNDING))
    qmin, qmax = int(row[AFFINE_QMIN]), int(row[AFFINE_QMAX])
    narrow = np.dtype(dtype) == np.float32
    rule = _rule(row, scales, zero_points, narrow)
    inside, behind = (0.0, zero_points) if mode == ZERO_POINT_AFTER else (zero_points, 0.0)
    with np.errstate(over="ignore", under="ignore"):
        single = scales.astype(np.float32)
        inverse = np.divide(np.float32(1), single, out=np.zeros_like(single), where=single > 0)
    if rule in ("any", "draws"):
        records = np.zeros(scales.size, GENERAL)
        records["scale"], records["zero_point"] = scales, zero_points
        if bits == 64:
            exact = narrow & (scales > EXACT_SCALES[0]) & (scales < EXACT_SCALES[1])
            records["inverse"], records["exact"] = np.divide(1.0, scales, out=np.zeros_like(scales), where=exact), exact
        else:
            records["inverse"] = inverse
    elif rule == "double":
        records = np.zeros(scales.size, DOUBLE)
        records["scale"], records["inverse"] = scales, 1.0 / scales
        records["zero_point"], records["rest"] = inside, behind
        _bounds(records, scales, zero_points, qmin, qmax, 0)
    else:
        records = np.zeros(scales.size, SINGLE)
        records["negative_scale"], records["inverse"], records["zero_point"] = -single, inverse, inside
        records["rest"] = behind - np.float64(_WHOLE_BITS)
        _bounds(records, single.astype(np.float64), zero_points, qmin, qmax, int(rule == "rounded"))
    numbers = (bits, step, mode, rounding, qmin, qmax)
    return Plan(rule, records, short_layout(layout), numbers, int(row[AFFINE_SEED]))


def code_plan(row, layout, scales, zero_points, dtype):
    """Return the `Plan` of a dequantization of codes of that dtype; parameters as of `plan`."""
    rule = int(row[AFFINE_DEQUANTIZATION])
    if rule == DEQUANTIZE_FLOAT64:
        records = np.zeros(scales.size, CODE_DOUBLE)
        records["scale"], records["zero_point"] = scales, zero_points
        return Plan("f64", records, short_layout(layout), ())
    info = np.iinfo(dtype)
    low, high = max(int(row[AFFINE_QMIN]), int(info.min)), min(int(row[AFFINE_QMAX]), int(info.max))
    if np.dtype(dtype).itemsize < 4:
        low, high = int(info.min), int(info.max)
    if rule == DEQUANTIZE_SUBTRACT and max(abs(low), abs(high)) + float(np.abs(zero_points).max()) >= 2**31:
        rule = DEQUANTIZE_WIDE
    records = np.zeros(scales.size, CODE_SINGLE)
    with np.errstate(over="ignore", under="ignore"):
        single = scales.astype(np.float32)
        records["scale"], records["product"] = single, zero_points.astype(np.float32) * single
    records["zero_point"] = zero_points
    return Plan("f32", records, short_layout(layout), (rule,))


def part(whole, first, n):
    """Return (plan, place of the first element in its row) for elements ``first .. first + n - 1`` alone.

    Only their rows' records are kept, unless they come round again within the elements.
    """
    length, group, groups, rows = whole.layout
    row, last = first // length, (first + n - 1) // length
    if whole.records.size == 1 or _columns(whole.layout) or last - row >= rows:
        return whole, first % (length * rows)
    start, stop = row % rows, last % rows + 1
    if start >= stop:
        records = np.concatenate([whole.records[start * groups :], whole.records[: stop * groups]])
    else:
        records = whole.records[start * groups : stop * groups]
    return replace(whole, records=records, layout=(length, group, groups, records.size // groups)), first % length


def _in_vectors(array, width):
    """Whether an array starts at a multiple of what four elements of `width` bytes are moved in."""
    return array.data.ptr % min(16, 4 * width) == 0


def _table(records):
    return load.array_module().asarray(records.view(np.int32))


def _runs(layout, start, stride):
    """Return the kernels' numbers of a layout: with them, where a thread stands moves on without a division."""
    length, group, groups, rows = layout
    magic = shift = 0
    if groups > 1 and length < 2**31:
        bits = (group - 1).bit_length()
        magic, shift = -(-(1 << (31 + bits)) // group), 31 + bits
    return length, group, groups, rows, start, stride % length, stride // length % rows, magic, shift


def _launch(name, n, before, vectors, records, layout, start, after):
    """Launch a kernel of the three layouts: ``{name}_tensor``, ``{name}_columns`` or ``{name}_runs``.

    `name` is a format; `before` are the arguments behind n, `after` the last ones.
    """
    units = n // 4 if vectors else n
    if records.size == 1:
        blocks = grid.blocks(-(-units // 4), 2 * grid.MANY)
        load.launch("affine", name.format("tensor"), blocks, THREADS, n, *before, vectors, *_numbers(records), *after)
        return
    if _columns(layout) and vectors:
        columns = layout[0]
        stride = grid.turning_stride(units, columns)
        load.launch(
            "affine", name.format("columns"), grid.blocks(max(stride, 3)), THREADS, n, *before, _table(records),
            columns, start % columns, stride, 4 * stride % columns, *after,
        )  # fmt: skip
        return
    blocks = grid.blocks(-(-n // 4), grid.MANY)
    runs = _runs(layout, start, 4 * blocks * THREADS)
    load.launch("affine", name.format("runs"), blocks, THREADS, n, *before, vectors, _table(records), *runs, *after)


def _numbers(records):
    """Return one record as a kernel's scalars."""
    if records.dtype in (CODE_SINGLE, CODE_DOUBLE):
        return [value for name, value in zip(records.dtype.names, records[0].item(), strict=True) if name != "spare"]
    return records.view(np.int32).tolist()


def quantize(x, first, whole, out, flag):
    """Quantize flat device x, whose element 0 is element `first` of its tensor; nothing waits for the device.

    Parameters
    ----------
    x : contiguous float32 or float64 device array, not empty
    first : int
        A multiple of 4, and of `DRAW_GROUP` where rounding is stochastic.
    whole : Plan
        Of the tensor, by `plan`.
    out : int8, uint8, int16, uint16 or int32 device array, contiguous
        Codes.
    flag : uint32 device array
        One number, which becomes 1 if an element is NaN or infinite.
    """
    n, (some, start) = x.size, part(whole, first, x.size)
    kind, vectors = _KINDS[out.dtype.itemsize], _in_vectors(x, x.itemsize) and _in_vectors(out, out.itemsize)
    if some.rule == "draws":
        blocks = grid.blocks(-(-n // DRAW_GROUP) * _DRAW_THREADS, grid.MANY)
        step = blocks * THREADS // _DRAW_THREADS * DRAW_GROUP - DRAW_GROUP
        runs = _runs(some.layout, start, step)
        length, rows, quarter = some.layout[0], some.layout[3], DRAW_GROUP // 4
        load.launch(
            "affine", f"quantize_draws_f{8 * x.itemsize}", blocks, THREADS, n, first // DRAW_GROUP, x, out, kind,
            vectors, _table(some.records), *runs, quarter % length, quarter // length % rows, some.seed, *some.numbers,
            flag,
        )  # fmt: skip
        return
    name = f"quantize_{some.rule}_{{}}" + (f"_f{8 * x.itemsize}" if some.rule == "any" else "")
    _launch(name, n, (x, out, kind), vectors, some.records, some.layout, start, (*some.numbers, flag))


def dequantize(q, first, whole, out):
    """Write what flat device codes stand for; nothing waits for the device.

    Parameters
    ----------
    q : contiguous device array of a dtype of `CODES`, not empty
    first : int
        Which element of its tensor the first one is: a multiple of 4.
    whole : Plan
        Of the tensor, by `code_plan`.
    out : float32 or float64 device array, contiguous
        As the plan's rule says.
    """
    some, start = part(whole, first, q.size)
    kind, bias = _KINDS[q.dtype.itemsize], -int(np.iinfo(q.dtype).min) if q.dtype.itemsize < 4 else 0
    vectors = _in_vectors(q, q.itemsize) and _in_vectors(out, out.itemsize)
    name = f"dequantize_{{}}_{some.rule}"
    _launch(name, q.size, (q, kind, bias, out), vectors, some.records, some.layout, start, some.numbers)


def outside(q, low, high):
    """Return the flat index of the first code of a contiguous device array outside [low, high], or None.

    Waits for the device where the type can hold such a code: the answer decides whether an error is raised.
    """
    info = np.iinfo(q.dtype)
    if q.size == 0 or (low <= info.min and info.max <= high):
        return None
    first = load.array_module().full(1, q.size, np.uint64)
    kind = (q.itemsize.bit_length() - 1) + 4 * (q.dtype.kind == "u")
    blocks = grid.blocks(-(-q.size * q.itemsize // 16), grid.MANY)
    load.launch("affine", "codes_outside", blocks, THREADS, q.size, q, kind, q.data.ptr % 16 == 0, low, high, first)
    found = int(first[0])
    return found if found < q.size else None
