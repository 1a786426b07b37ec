"""Codes of real numbers, element by element, in runs of one set of parameters.

A run goes through one loop:

- arithmetic of float32 to the nearest code: ties to even, or by another rule (`_even`, `_ruled`);
- arithmetic of float64, ties to even: by way of float32 (`_near`), and in float64 where that comes near a tie
  (`_double`);
- everything else: `affine.whole_block`.

A kernel compiles the loop that it needs: arguments that are None cut the others off before they are typed.
"""

import numpy as np

from ..codes import (
    AFFINE_BITS,
    AFFINE_QMAX,
    AFFINE_QMIN,
    AFFINE_ROUNDING,
    AFFINE_STEP,
    AFFINE_ZERO_POINT,
    DIVIDE,
    DRAW_GROUP,
    HALF_AWAY,
    HALF_DOWN,
    HALF_EVEN,
    HALF_TOWARD_ZERO,
    HALF_UP,
    ZERO_POINT_AFTER,
    ZERO_POINT_FUSED,
)
from .affine import BLOCK, block_buffers, fill_parameters, quantizer, whole_block
from .jit import bits_of, fence, fma, inlined, inner, kernel, magnitude_bits, stream, wide
from .runs import CHUNK, run_of, side_by_side
from .streams import LINE, aligned_block, ask_ahead, lead

f32, f64, u64 = np.float32, np.float64, np.uint64
#: Lines of the parameters of codes, float32: scale and its rounded inverse, what is added before and after the
#: rounding, and the closed range to which x is clamped first: it saturates to the same codes, and nothing overflows.
SCALE, INVERSE, BEFORE, AFTER, LOW, HIGH = range(6)
#: Adding it to a float32 of at most 2**22 rounds to a whole number, ties to even, which its low 22 bits then hold in
#: two's complement: 16 of them are a code.
WHOLE = f32(1.5 * 2**23)
#: The loops take scales of this open range, and zero points, codes and their differences up to this magnitude:
#: quotients and remainders of float32 are then normal wherever a code depends on them.
SCALES, LARGEST = (2.0**-60, 2.0**60), 2**19
#: How far x may lie outside the codes, in steps: it rounds to the last code by every rule to the nearest.
OUTSIDE = 0.25
#: Elements that are done again where one of them is near a tie; the margin from which on that would be most of them.
AGAIN, WIDEST_MARGIN = 128, 2.0**-11
#: By rule: the least fraction above the even neighbour that adds one, and the least below it that takes one away, for
#: numbers from zero on and for those below. Ties to even need none of it.
TIE, NEVER = f32(0.5), f32(1.0)
RULES = {
    HALF_EVEN: None,
    HALF_AWAY: (TIE, NEVER, NEVER, TIE),
    HALF_UP: (TIE, NEVER, TIE, NEVER),
    HALF_DOWN: (NEVER, TIE, NEVER, TIE),
    HALF_TOWARD_ZERO: (NEVER, TIE, TIE, NEVER),
}


@inner
def _finite(largest, width):
    """Tell whether magnitudes up to these bits (`magnitude_bits`) are finite."""
    return largest < (0x7F800000 if width == 4 else 0x7FF00000)


# --- codes of arithmetic in float32 --------------------------------------------------------------------------


@inlined
def _clamped(x, low, high):
    return min(max(f32(x), low), high)


@inlined
def _divided(v, s, r, before):
    """Return ``v / s + before``, each rounded, without dividing (as `affine._quotients`): r is 1 / s, rounded.

    For ``2**-60 < s < 2**60`` and ``1/8 <= |v / s| < 2**21`` remainders are multiples of 2**-109: nothing underflows.
    Below 1/8 the last bits may be wrong; no nearest code depends on them.
    """
    q = f32(v * r)
    q = fma(fma(-q, s, v), r, q)
    return f32(fma(fma(-q, s, v), r, q) + before)


@inlined
def _even(u, after):
    """Round ``|u| < 2**21``, ties to even, and add: the code is what the low bits are."""
    return bits_of(f32(f32(u + WHOLE) + after))


@inlined
def _ruled(u, after, rule):
    """Round by the thresholds of a rule: u's distance from t is exact."""
    above, below, above_negative, below_negative = rule
    t = f32(u + WHOLE)
    d = f32(u - f32(t - WHOLE))
    up, down = (above, below) if u >= f32(0) else (above_negative, below_negative)
    return np.int32(bits_of(f32(t + after)) + np.int32(d >= up) - np.int32(d <= -down))


@inner
def _codes32(x, start, n, divide, rule, s, r, before, after, low, high, out, to):
    """Write the codes of a run; return the largest magnitude's bits."""
    wide()
    first, target = u64(start), u64(to)
    largest = np.int32(0)
    for i in range(u64(n)):
        largest = max(largest, magnitude_bits(x[first + i]))
        v = _clamped(x[first + i], low, high)
        if divide is None:
            u = fma(v, r, before)
        else:
            u = _divided(v, s, r, before)
        if rule is None:
            out[target + i] = _even(u, after)
        else:
            out[target + i] = _ruled(u, after, rule)
    return largest


@inner
def _each32(x, start, n, divide, rule, p, at, out, to):
    """As `_codes32`, parameters side by side from column `at` on."""
    wide()
    first, place, target = u64(start), u64(at), u64(to)
    largest = np.int32(0)
    for i in range(u64(n)):
        k = place + i
        largest = max(largest, magnitude_bits(x[first + i]))
        v = _clamped(x[first + i], p[LOW, k], p[HIGH, k])
        if divide is None:
            u = fma(v, p[INVERSE, k], p[BEFORE, k])
        else:
            u = _divided(v, p[SCALE, k], p[INVERSE, k], p[BEFORE, k])
        if rule is None:
            out[target + i] = _even(u, p[AFTER, k])
        else:
            out[target + i] = _ruled(u, p[AFTER, k], rule)
    return largest


@inner
def _part32(x, first, start, n, layout, p, each, divide, rule, out, to):
    """Write the codes of elements ``start .. start + n - 1``, run by run; return the largest magnitude's bits."""
    largest, done = np.int32(0), np.int64(0)
    while done < n:
        i = start + done
        at, run = run_of(first + i, n - done, layout)
        if each is None:
            k = u64(at)
            found = _codes32(
                x, i, run, divide, rule, p[SCALE, k], p[INVERSE, k], p[BEFORE, k], p[AFTER, k], p[LOW, k], p[HIGH, k],
                out, to + done,
            )  # fmt: skip
        else:
            found = _each32(x, i, run, divide, rule, p, at, out, to + done)
        largest = max(largest, found)
        done += run
    return largest


@inner
def _stream32(x, first, start, stop, layout, p, each, divide, rule, buffer, target):
    """As `_part32`, for whole chunks and through `buffer` past the caches to the address `target` of element 0."""
    largest = np.int32(0)
    for i in range(start, stop, CHUNK):
        ask_ahead(x.ctypes.data + x.itemsize * i, x.itemsize * CHUNK)
        largest = max(largest, _part32(x, first, i, CHUNK, layout, p, each, divide, rule, buffer, np.int64(0)))
        stream(target + buffer.itemsize * i, buffer.ctypes.data, CHUNK * buffer.itemsize // LINE)
    return largest


@kernel
def _quantize32(x, first, layout, p, each, divide, rule, out):
    """Arithmetic of float32 to the nearest code; return whether all of x is finite.

    `each`: parameters stand side by side; `divide`: by the scale, else times its inverse; each of these and of `rule`
    may be None.
    """
    begin = lead(x, out)
    largest = _part32(x, first, np.int64(0), begin, layout, p, each, divide, rule, out, np.int64(0))
    if begin < x.size:
        stop = begin + (x.size - begin) // CHUNK * CHUNK
        buffer, _ = aligned_block(out, CHUNK)
        found = _stream32(x, first, begin, stop, layout, p, each, divide, rule, buffer, out.ctypes.data)
        fence()
        rest = _part32(x, first, stop, x.size - stop, layout, p, each, divide, rule, out, stop)
        largest = max(largest, found, rest)
    return _finite(largest, x.itemsize)


# --- codes of arithmetic in float64 --------------------------------------------------------------------------


@inlined
def _near(v, r, before, after):
    """Return the code by way of float32 and the bits of its fraction.

    Where that is less than 1/2 less `_margin`, it is the code by every rule to the nearest.
    """
    u = fma(v, r, before)
    t = f32(u + WHOLE)
    return bits_of(f32(t + after)), magnitude_bits(f32(u - f32(t - WHOLE)))


@inner
def _codes64(x, start, n, r, before, after, low, high, out, to):
    """Write codes by way of float32; return the bits of the largest magnitude, and of the largest fraction."""
    wide()
    first, target = u64(start), u64(to)
    largest = farthest = np.int32(0)
    for i in range(u64(n)):
        largest = max(largest, magnitude_bits(x[first + i]))
        code, fraction = _near(_clamped(x[first + i], low, high), r, before, after)
        farthest = max(farthest, fraction)
        out[target + i] = code
    return largest, farthest


@inner
def _each64(x, start, n, p, at, out, to):
    """As `_codes64`, parameters side by side from column `at` on."""
    wide()
    first, place, target = u64(start), u64(at), u64(to)
    largest = farthest = np.int32(0)
    for i in range(u64(n)):
        k = place + i
        largest = max(largest, magnitude_bits(x[first + i]))
        code, fraction = _near(_clamped(x[first + i], p[LOW, k], p[HIGH, k]), p[INVERSE, k], p[BEFORE, k], p[AFTER, k])
        farthest = max(farthest, fraction)
        out[target + i] = code
    return largest, farthest


@inner
def _double(x, start, n, after, low, high, numbers, at, each, out, to):
    """Write codes in float64; float32 is divided as in `affine._quotients`. Bounds and zero points are below 2**20."""
    wide()
    first, target, place = u64(start), u64(to), u64(at)
    for i in range(u64(n)):
        k = place if each is None else place + i
        v, s, z = f64(x[first + i]), numbers[0, k], numbers[2, k]
        if x.itemsize == 4:
            q = v * numbers[1, k]
            q = fma(fma(-q, s, v), numbers[1, k], q)
            q = fma(fma(-q, s, v), numbers[1, k], q)
        else:
            q = v / s
        y = np.rint(q) + z if after else np.rint(q + z)
        out[target + i] = np.int32(min(max(y, low), high))


@inner
def _part64(x, first, start, n, layout, p, each, sure, after, low, high, numbers, out, to):
    """Write the codes of elements ``start .. start + n - 1``; return the largest magnitude's bits.

    `sure` are the bits of the fraction up to which float32 is; `numbers` are scales, their inverses and zero points in
    float64, by place.
    """
    largest, done = np.int32(0), np.int64(0)
    while done < n:
        i = start + done
        at, run = run_of(first + i, min(n - done, AGAIN), layout)
        if each is None:
            k = u64(at)
            magnitude, fraction = _codes64(
                x, i, run, p[INVERSE, k], p[BEFORE, k], p[AFTER, k], p[LOW, k], p[HIGH, k], out, to + done
            )  # fmt: skip
        else:
            magnitude, fraction = _each64(x, i, run, p, at, out, to + done)
        if fraction > sure:
            _double(x, i, run, after, low, high, numbers, at, each, out, to + done)
        largest = max(largest, magnitude)
        done += run
    return largest


@inner
def _stream64(x, first, start, stop, layout, p, each, sure, after, low, high, numbers, buffer, target):
    """As `_stream32`."""
    largest = np.int32(0)
    for i in range(start, stop, CHUNK):
        ask_ahead(x.ctypes.data + x.itemsize * i, x.itemsize * CHUNK)
        found = _part64(
            x, first, i, CHUNK, layout, p, each, sure, after, low, high, numbers, buffer, np.int64(0)
        )  # fmt: skip
        largest = max(largest, found)
        stream(target + buffer.itemsize * i, buffer.ctypes.data, CHUNK * buffer.itemsize // LINE)
    return largest


@kernel
def _quantize64(x, first, layout, p, each, sure, after, low, high, numbers, out):
    """Arithmetic of float64, ties to even; return whether all of x is finite."""
    begin = lead(x, out)
    fixed = layout, p, each, sure, after, low, high, numbers
    largest = _part64(x, first, np.int64(0), begin, *fixed, out, np.int64(0))
    if begin < x.size:
        stop = begin + (x.size - begin) // CHUNK * CHUNK
        buffer, _ = aligned_block(out, CHUNK)
        found = _stream64(x, first, begin, stop, *fixed, buffer, out.ctypes.data)
        fence()
        largest = max(largest, found, _part64(x, first, stop, x.size - stop, *fixed, out, stop))
    return _finite(largest, x.itemsize)


# --- codes of any arithmetic ---------------------------------------------------------------------------------


@kernel
def _quantize(x, first, row, layout, scales, zero_points, buffers, words, out):
    """Any arithmetic and any rule; return whether all of x is finite."""
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


def _table(scales, zero_points, low, high, mode):
    """Return the lines of parameters of codes, one column a set, or None where the loops of float32 cannot serve.

    Codes must fit 16 bits, signed or not: they are the low bits of a float32.
    """
    words = (low >= -(2**15) and high < 2**15) or (low >= 0 and high < 2**16)
    reach = max(np.abs(zero_points).max(), (high - zero_points).max(), (zero_points - low).max())
    if not words or scales.min() <= SCALES[0] or scales.max() >= SCALES[1] or reach > LARGEST:
        return None
    after = zero_points if mode == ZERO_POINT_AFTER else np.zeros_like(zero_points)
    bottom, top = (low - zero_points - OUTSIDE) * scales, (high - zero_points + OUTSIDE) * scales
    return np.stack([scales, 1 / scales, zero_points - after, after, bottom, top]).astype(f32)


def _margin(low, high, zero_points):
    """Return how far `_near` may be off, or more.

    x, 1/scale and what is rounded are each off by half a unit in the last place, 2**-24 of themselves: the first two of
    the quotient, the third of the sum with the zero point. The bound leaves half as much again for clamped x, and for
    float64's own errors.
    """
    quotient = max(np.abs(low - zero_points).max(), np.abs(high - zero_points).max()) + 1
    return 2.0**-24 * 1.5 * (2 * quotient + max(abs(low), abs(high), quotient) + 1)


def quantizing(quantizer, dtype):
    """Return the call that quantizes, ``run(x, first, out)``: x flat, of that dtype, `first` the number of its first.

    It returns whether all of x is finite.
    """
    numbers, scales, zero_points = quantizer.row.tolist(), quantizer.scales, quantizer.zero_points
    low, high = float(numbers[AFFINE_QMIN]), float(numbers[AFFINE_QMAX])
    mode, rounding, divide = numbers[AFFINE_ZERO_POINT], numbers[AFFINE_ROUNDING], numbers[AFFINE_STEP] == DIVIDE
    table = _table(scales, zero_points, low, high, mode)
    fused = mode == ZERO_POINT_FUSED
    if table is not None and numbers[AFFINE_BITS] == 32 and rounding in RULES:
        if divide or fused or mode == ZERO_POINT_AFTER:
            layout, (table,), each = side_by_side(quantizer.layout, table)
            fixed32 = layout, table, each, True if divide and not fused else None, RULES[rounding]
            return lambda x, first, out: _quantize32(x, first, *fixed32, out)
    margin = _margin(low, high, zero_points)
    if table is not None and numbers[AFFINE_BITS] == 64 and rounding == HALF_EVEN and margin <= WIDEST_MARGIN:
        exact = np.stack([scales, 1 / scales, zero_points])
        layout, (table, exact), each = side_by_side(quantizer.layout, table, exact)
        sure = f32(TIE - f32(margin)).view(np.int32)
        fixed64 = layout, table, each, sure, mode == ZERO_POINT_AFTER, low, high, exact
        return lambda x, first, out: _quantize64(x, first, *fixed64, out)
    row, layout = quantizer.row.reshape(1, -1), np.array(quantizer.layout, np.int64)

    def run(x, first, out):
        words = np.empty((4, DRAW_GROUP // 4), np.uint32)
        return _quantize(x, first, row, layout, scales, zero_points, block_buffers(6), words, out)

    return run
