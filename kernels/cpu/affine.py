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
from .jit import fence, fma, inlined, inner, kernel, stream, wide
from .streams import LINE, aligned_block, ask_ahead, lead

#: Elements a block: half a group of draws, so that eight buffers of float64 fit the first-level cache.
BLOCK = DRAW_GROUP // 2
#: Codes a block where the values leave past the caches.
STREAM_BLOCK = 1024
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


@kernel
def _quantize_single(x, scale, zero_point, divide, mode, low, high, out):
    """float32 arithmetic, ties to even, one scale: everything in one loop of float32 lanes.

    Clamping to whole numbers before the rounding gives what clamping after it does: rounding is monotone. Numba's
    ``|=`` would widen `odd` to int64, and with it every lane of the loop.
    """
    wide()
    inf = f32(np.inf)
    s, r, z = f32(scale), f32(1) / f32(scale), f32(zero_point)
    after = mode == ZERO_POINT_AFTER
    bottom, top = f32(low - zero_point if after else low), f32(high - zero_point if after else high)
    rest = np.int32(zero_point if after else 0.0)
    odd = np.int32(0)
    if mode == ZERO_POINT_FUSED:
        for i in range(u64(x.size)):
            odd = np.int32(odd | np.int32(not abs(x[i]) < inf))
            out[i] = np.int32(np.rint(min(max(fma(x[i], r, z), bottom), top)))
    elif after:
        if divide:
            for i in range(u64(x.size)):
                odd = np.int32(odd | np.int32(not abs(x[i]) < inf))
                out[i] = np.int32(np.rint(min(max(x[i] / s, bottom), top))) + rest
        else:
            for i in range(u64(x.size)):
                odd = np.int32(odd | np.int32(not abs(x[i]) < inf))
                out[i] = np.int32(np.rint(min(max(x[i] * r, bottom), top))) + rest
    else:
        for i in range(u64(x.size)):
            odd = np.int32(odd | np.int32(not abs(x[i]) < inf))
            v = f32(x[i] / s) if divide else f32(x[i] * r)
            out[i] = np.int32(np.rint(min(max(f32(v + z), bottom), top)))
    return odd == 0


@kernel
def _quantize_double(x, exact, scale, inverse, zero_point, after, low, high, out):
    """float64 arithmetic, ties to even, one scale; `exact` says that `_quotients` need not divide."""
    wide()
    inf = f64(np.inf)
    z = 0.0 if after else zero_point
    rest = zero_point if after else 0.0
    bottom, top = low - rest, high - rest  # whole numbers below 2**33
    odd = np.int64(0)
    if exact:
        for i in range(u64(x.size)):
            v = f64(x[i])
            odd |= np.int64(not abs(v) < inf)
            q = v * inverse
            q = fma(fma(-q, scale, v), inverse, q)
            q = fma(fma(-q, scale, v), inverse, q)
            out[i] = np.int32(np.rint(min(max(q + z, bottom), top)) + rest)
    else:
        for i in range(u64(x.size)):
            v = f64(x[i])
            odd |= np.int64(not abs(v) < inf)
            out[i] = np.int32(np.rint(min(max(v / scale + z, bottom), top)) + rest)
    return odd == 0


@kernel
def _quantize(x, first, row, layout, scales, zero_points, buffers, words, out):
    wide()
    buffer, scale, inverse, zero_point = buffers[0], buffers[1], buffers[2], buffers[3]
    uniform, v = buffers[4], buffers[5]
    numbers = quantizer(row, 0)
    qmin, qmax = f64(numbers[AFFINE_QMIN]), f64(numbers[AFFINE_QMAX])
    odd = np.int64(0)
    start = np.int64(0)
    while start < x.size:
        i0 = first + start
        n = min(BLOCK - i0 % BLOCK, x.size - start)
        for i in range(u64(n)):
            buffer[i] = x[u64(start) + i]
        for i in range(u64(n)):
            odd |= np.int64(not abs(buffer[i]) < np.inf)
        if scales.size > 1 or start == 0:
            size = n if scales.size > 1 else BLOCK
            fill_parameters(i0, size, layout, 0, scales, zero_points, numbers[AFFINE_BITS], scale, inverse, zero_point)
        whole_block(buffer, n, i0, x.itemsize == 4, numbers, scale, inverse, zero_point, words, uniform, v)
        for i in range(u64(n)):
            out[u64(start) + i] = np.int32(min(max(v[i], qmin), qmax))
        start += n
    return odd == 0


def quantizing(quantizer, dtype):
    """Return the call that quantizes, ``run(x, first, out)``: x flat, of that dtype, `first` the number of its first.

    It returns whether all of x is finite.
    """
    numbers, scales, zero_points = quantizer.row.tolist(), quantizer.scales, quantizer.zero_points
    low, high = float(numbers[AFFINE_QMIN]), float(numbers[AFFINE_QMAX])
    if scales.size == 1 and numbers[AFFINE_ROUNDING] == HALF_EVEN:
        scale, zero_point = scales.item(), zero_points.item()
        divide, mode = numbers[AFFINE_STEP] == DIVIDE, numbers[AFFINE_ZERO_POINT]
        if numbers[AFFINE_BITS] == 64:
            exact = dtype == f32 and 2.0**-400 < scale < 2.0**400
            fixed = exact, scale, 1.0 / scale if exact else 0.0, zero_point, mode == ZERO_POINT_AFTER, low, high
            return lambda x, first, out: _quantize_double(x, *fixed, out)
        # Codes and zero points that float32 holds exactly, and their differences too.
        if dtype == f32 and max(-low, low, high, -high, abs(zero_point)) <= 2**22:
            return lambda x, first, out: _quantize_single(x, scale, zero_point, divide, mode, low, high, out)
    row, layout = quantizer.row.reshape(1, -1), np.array(quantizer.layout, np.int64)

    def run(x, first, out):
        words = np.empty((4, DRAW_GROUP // 4), np.uint32)
        return _quantize(x, first, row, layout, scales, zero_points, block_buffers(6), words, out)

    return run


@inner
def _values_part(q, start, count, single, scale, zero_point, out, at):
    """Write ``(q - z) * s`` for ``q[start : start + count]`` into ``out[at :]``, in the type of the values."""
    wide()
    first, to = u64(start), u64(at)
    if single and abs(zero_point) < 2.0**30:  # codes have 16 bits: int32 holds the difference
        s, z = f32(scale), np.int32(zero_point)
        for i in range(u64(count)):
            out[to + i] = f32(np.int32(np.int32(q[first + i]) - z)) * s
    elif single:
        s, z = f32(scale), np.int32(zero_point)
        for i in range(u64(count)):
            out[to + i] = f32(np.int32(q[first + i]) - z) * s
    else:
        for i in range(u64(count)):
            out[to + i] = (f64(q[first + i]) - zero_point) * scale


@kernel
def _dequantize_one(q, single, scale, zero_point, out):
    """One scale for all."""
    p = lead(q, out)
    _values_part(q, np.int64(0), p, single, scale, zero_point, out, np.int64(0))
    if p < q.size:
        last = p + (q.size - p) // STREAM_BLOCK * STREAM_BLOCK
        buffer, address = aligned_block(out, STREAM_BLOCK)
        source, target, step, width = q.ctypes.data, out.ctypes.data, out.itemsize, q.itemsize
        for start in range(p, last, STREAM_BLOCK):
            ask_ahead(source + width * start, width * STREAM_BLOCK)
            _values_part(q, start, STREAM_BLOCK, single, scale, zero_point, buffer, np.int64(0))
            stream(target + step * start, address, STREAM_BLOCK * step // LINE)
        fence()
        _values_part(q, last, q.size - last, single, scale, zero_point, out, last)


@kernel
def _dequantize(q, first, rule, layout, scales, zero_points, buffers, out):
    wide()
    buffer, scale, inverse, zero_point, value = buffers[0], buffers[1], buffers[2], buffers[3], buffers[4]
    for start in range(0, q.size, BLOCK):
        n = min(BLOCK, q.size - start)
        for i in range(u64(n)):
            buffer[i] = q[u64(start) + i]
        if scales.size > 1 or start == 0:
            size = n if scales.size > 1 else BLOCK
            fill_parameters(first + start, size, layout, 0, scales, zero_points, 64, scale, inverse, zero_point)
        values(buffer, n, rule, scale, zero_point, value)
        for i in range(u64(n)):
            out[u64(start) + i] = value[i]


def dequantizing(quantizer, dtype):
    """Return the call that dequantizes integer codes of that dtype into float64 or float32: ``run(q, first, out)``."""
    rule = int(quantizer.row[AFFINE_DEQUANTIZATION])
    scales, zero_points = quantizer.scales, quantizer.zero_points
    if scales.size == 1 and dtype.itemsize <= 2 and rule in (DEQUANTIZE_FLOAT64, DEQUANTIZE_SUBTRACT):
        single, scale, zero_point = rule == DEQUANTIZE_SUBTRACT, scales.item(), zero_points.item()
        return lambda q, first, out: _dequantize_one(q, single, scale, zero_point, out)
    layout = np.array(quantizer.layout, np.int64)
    return lambda q, first, out: _dequantize(q, first, rule, layout, scales, zero_points, block_buffers(5), out)
