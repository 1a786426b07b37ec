"""Quantization of reals on the CPU, in blocks that stay in the first-level cache.

A block goes through three short loops, each a choice of one: scaled value, rounding, code and value. Scale,
reciprocal and zero point stand in buffers, one number an element, so that per-tensor, per-channel and per-group
parameters are one code. All buffers are float64; 32-bit conventions compute in float32 and widen.
"""

import math

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
    DEQUANTIZE_EXPANDED,
    DEQUANTIZE_FLOAT64,
    DEQUANTIZE_SUBTRACT,
    DIVIDE,
    DRAW_GROUP,
    HALF_AWAY,
    HALF_DOWN,
    HALF_EVEN,
    HALF_TOWARD_ZERO,
    HALF_UP,
    ROUND_CEIL,
    ROUND_FLOOR,
    ROUND_TRUNC,
    STOCHASTIC,
    ZERO_POINT_AFTER,
    ZERO_POINT_FUSED,
)
from . import philox
from .jit import fma, inlined, inner, wide

#: Elements a block: half a group of draws, so that eight buffers of float64 fit the first-level cache.
BLOCK = DRAW_GROUP // 2
f32, f64, u64 = np.float32, np.float64, np.uint64


@inner
def quantizer(rows, k):
    """Return row k as a tuple: slices of arrays count references, atomically."""
    return (
        rows[k, 0], rows[k, 1], rows[k, 2], rows[k, 3], rows[k, 4], rows[k, 5], rows[k, 6], rows[k, 7], rows[k, 8],
        rows[k, 9],
    )  # fmt: skip


@inner
def layout_of(layouts, k):
    """Return layout k as a tuple."""
    return layouts[k, 0], layouts[k, 1], layouts[k, 2], layouts[k, 3]


def block_buffers(count):
    """Return (count, BLOCK) float64 buffers that start at cache lines: split stores cost a third of the speed."""
    raw = np.empty(count * BLOCK + 8)
    lead = -raw.ctypes.data % 64 // 8
    return raw[lead : lead + count * BLOCK].reshape(count, BLOCK)


@inner
def fill_parameters(first, n, layout, place, scales, zero_points, bits, scale, inverse, zero_point):
    """Write the parameters of elements ``first .. first + n - 1``; the inverse is rounded to the type of `bits`.

    `layout` is (length, group, groups a row, rows): element i lies in row ``i // length`` at place
    ``j = i % length``; its parameters have index ``place + (row % rows) * groups + j // group``.
    """
    wide()
    length, group, groups, rows = layout[0], layout[1], layout[2], layout[3]
    done = np.int64(0)
    while done < n:
        i = first + done
        row, column = i // length, i % length
        at = place + (row % rows) * groups + column // group
        if group == 1:
            run = min(length - column, n - done)
            for k in range(u64(run)):
                s = scales[u64(at) + k]
                scale[u64(done) + k] = s
                inverse[u64(done) + k] = f64(f32(1) / f32(s)) if bits == 32 else 1.0 / s
                zero_point[u64(done) + k] = zero_points[u64(at) + k]
        else:
            run = min(min(group - column % group, length - column), n - done)
            s, z = scales[at], zero_points[at]
            r = f64(f32(1) / f32(s)) if bits == 32 else 1.0 / s
            for k in range(u64(run)):
                scale[u64(done) + k] = s
                inverse[u64(done) + k] = r
                zero_point[u64(done) + k] = z
        done += run


@inner
def _quotients(x, n, narrow, scale, inverse, v):
    """Write ``f64(x / scale)``.

    For x of float32 (`narrow`) without dividing: with r the rounded inverse, ``q = x r`` is off by two units in the
    last place at most, one exact remainder makes it faithful, and a second one correctly rounded (Markstein, 1990).
    Nothing over- or underflows for ``2**-149 <= |x| < 2**128`` and ``2**-400 < scale < 2**400``.
    """
    wide()
    exact = narrow
    for i in range(u64(n)):
        exact &= (scale[i] > 2.0**-400) & (scale[i] < 2.0**400)
    if exact:
        for i in range(u64(n)):
            q = x[i] * inverse[i]
            q = fma(fma(-q, scale[i], x[i]), inverse[i], q)
            v[i] = fma(fma(-q, scale[i], x[i]), inverse[i], q)
    else:
        for i in range(u64(n)):
            v[i] = x[i] / scale[i]


@inner
def _scaled32(x, n, step, mode, scale, inverse, zero_point, v):
    wide()
    if mode == ZERO_POINT_FUSED:
        for i in range(u64(n)):
            v[i] = f64(fma(f32(x[i]), f32(inverse[i]), f32(zero_point[i])))
    elif mode == ZERO_POINT_AFTER:
        if step == DIVIDE:
            for i in range(u64(n)):
                v[i] = f64(f32(x[i]) / f32(scale[i]))
        else:
            for i in range(u64(n)):
                v[i] = f64(f32(x[i]) * f32(inverse[i]))
    else:
        if step == DIVIDE:
            for i in range(u64(n)):
                v[i] = f64(f32(f32(x[i]) / f32(scale[i])) + f32(zero_point[i]))
        else:
            for i in range(u64(n)):
                v[i] = f64(f32(f32(x[i]) * f32(inverse[i])) + f32(zero_point[i]))


@inner
def round_block(v, n, rounding, uniform):
    """Round n numbers in place by a rule; infinities stay (their fraction is NaN, which compares false)."""
    wide()
    if rounding == HALF_EVEN:
        for i in range(u64(n)):
            v[i] = np.rint(v[i])
    elif rounding == ROUND_FLOOR:
        for i in range(u64(n)):
            v[i] = np.floor(v[i])
    elif rounding == ROUND_CEIL:
        for i in range(u64(n)):
            v[i] = np.ceil(v[i])
    elif rounding == ROUND_TRUNC:
        for i in range(u64(n)):
            v[i] = np.trunc(v[i])
    elif rounding == HALF_AWAY:
        for i in range(u64(n)):
            t = np.trunc(v[i])
            v[i] = t + math.copysign(1.0 if abs(v[i] - t) >= 0.5 else 0.0, v[i])
    elif rounding == HALF_TOWARD_ZERO:
        for i in range(u64(n)):
            t = np.trunc(v[i])
            v[i] = t + math.copysign(1.0 if abs(v[i] - t) > 0.5 else 0.0, v[i])
    elif rounding == HALF_UP:
        for i in range(u64(n)):
            t = np.floor(v[i])
            v[i] = t + (1.0 if v[i] - t >= 0.5 else 0.0)
    elif rounding == HALF_DOWN:
        for i in range(u64(n)):
            t = np.ceil(v[i])
            v[i] = t - (1.0 if t - v[i] >= 0.5 else 0.0)
    else:
        for i in range(u64(n)):
            t = np.floor(v[i])
            v[i] = t + (1.0 if v[i] - t > uniform[i] else 0.0)


@inner
def fill_uniforms(seed, first, n, words, uniform):
    """Write the draws of elements ``first .. first + n - 1``, all of one group, as numbers in [0, 1)."""
    quarter = DRAW_GROUP // 4
    seed = u64(seed)
    philox.fill(seed & philox.MASK, seed >> philox.HALF, u64(first // DRAW_GROUP * quarter), words)
    place = first % DRAW_GROUP
    for i in range(n):
        uniform[i] = words[(place + i) // quarter, (place + i) % quarter] * 2.0**-32


@inlined
def whole_block(x, n, first, narrow, row, scale, inverse, zero_point, words, uniform, v):
    """Write the codes before the clamp, as whole float64; `narrow` says that x came from float32."""
    wide()
    after = row[AFFINE_ZERO_POINT] == ZERO_POINT_AFTER
    if row[AFFINE_BITS] == 64:
        _quotients(x, n, narrow, scale, inverse, v)
        if not after:
            for i in range(u64(n)):
                v[i] += zero_point[i]
    else:
        _scaled32(x, n, row[AFFINE_STEP], row[AFFINE_ZERO_POINT], scale, inverse, zero_point, v)
    if row[AFFINE_ROUNDING] == STOCHASTIC:
        fill_uniforms(row[AFFINE_SEED], first, n, words, uniform)
    round_block(v, n, row[AFFINE_ROUNDING], uniform)
    if after:
        for i in range(u64(n)):
            v[i] += zero_point[i]


@inner
def values(q, n, rule, scale, zero_point, value):
    """Write what codes (whole float64) stand for."""
    wide()
    if rule == DEQUANTIZE_FLOAT64:
        for i in range(u64(n)):
            value[i] = (q[i] - zero_point[i]) * scale[i]
    elif rule == DEQUANTIZE_SUBTRACT:
        for i in range(u64(n)):
            value[i] = f64(f32(q[i] - zero_point[i]) * f32(scale[i]))
    elif rule == DEQUANTIZE_EXPANDED:
        for i in range(u64(n)):
            value[i] = f64(f32(f32(q[i]) * f32(scale[i])) - f32(f32(zero_point[i]) * f32(scale[i])))
    else:
        for i in range(u64(n)):
            value[i] = f64(fma(f32(q[i]), f32(scale[i]), -f32(f32(zero_point[i]) * f32(scale[i]))))


@inner
def _encode(v, n, qmin, qmax, code):
    """Clamp whole numbers in place and write their indices."""
    wide()
    for i in range(u64(n)):
        w = v[i]
        q = min(max(w, qmin), qmax)
        index = np.int32(q - qmin)
        code[i] = index if q == w else np.int32(-1) - index
        v[i] = q


@inlined
def code_and_value(x, n, first, narrow, row, scale, inverse, zero_point, words, uniform, v, code, value):
    """Write code indices (``-1 - index`` where clamped) and what the codes stand for; v is left with the codes."""
    wide()
    whole_block(x, n, first, narrow, row, scale, inverse, zero_point, words, uniform, v)
    _encode(v, n, f64(row[AFFINE_QMIN]), f64(row[AFFINE_QMAX]), code)
    values(v, n, row[AFFINE_DEQUANTIZATION], scale, zero_point, value)
