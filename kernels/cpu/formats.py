"""Floating and block number formats on the CPU: what a buffer of reals becomes, and its codes.

Two passes over a buffer in the first-level cache: the scale of every block, written to each of its elements' places
in `recon`; then one long loop over elements, whatever the block size, which reads its scale there.
"""

import math

import numpy as np

from ..codes import (
    CODEBOOK,
    E2M1_LARGEST,
    E4M3_LARGEST,
    E4M3_MANTISSA,
    E4M3_MIN_EXPONENT,
    E8M0_LIMIT,
    FORMAT_BLOCK,
    FORMAT_CAP,
    FORMAT_CODEBOOK,
    FORMAT_DOWN,
    FORMAT_EMAX,
    FORMAT_FLIP,
    FORMAT_MANTISSA,
    FORMAT_MAX_CODE,
    FORMAT_MIN_EXPONENT,
    FORMAT_OVER_CODE,
    FORMAT_OVER_VALUE,
    FORMAT_ROUNDING,
    FORMAT_SCALE,
    FORMAT_SCALE_THRESHOLD,
    FORMAT_SIGN,
    FORMAT_THRESHOLDS,
    FORMAT_UP,
    FORMAT_VALUES,
    FORMAT_ZERO,
    HALF_EVEN,
    SCALE_ABSMAX,
    SCALE_E4M3,
    SCALE_E8M0,
    SCALE_TENSOR,
)
from .jit import bits_of, inner, kernel, magnitude_bits, wide

f32, f64, i64, u64 = np.float32, np.float64, np.int64, np.uint64
BIAS, FRACTION, MAGNITUDE = 1023, (1 << 52) - 1, (1 << 63) - 1
#: Adding 2**52 to ``0 <= y < 2**52`` rounds y to an integer, ties to even, and its low bits are that integer.
ROUNDER, ROUNDER_BITS = 2.0**52, (BIAS + 52) << 52
#: Bits of ``1/s`` for a power of two s are these less the bits of s.
RECIPROCAL = 2 * BIAS << 52
#: Products and quotients below this count as this: a directed rounding must see that they are not zero.
TINY = 1e-300
#: A tensor scale that is a power of two within these exponents is multiplied by; no float32 under- or overflows.
POWER_LIMIT = 100
RUN = 16
CHUNK = 4096
DIVIDE, POWER, QUOTIENT32 = 0, 1, 2


@inner
def _bits(real):
    return f64(real).view(i64)


@inner
def _real(bits):
    return i64(bits).view(f64)


@inner
def _power(exponent):
    return _real((exponent + BIAS) << 52)


@inner
def _top_of_run(x, start):
    """Bits of the largest magnitude of RUN elements: as integers, since a maximum of floats does not vectorize."""
    wide()
    top = i64(0)
    for j in range(u64(RUN)):
        top = max(top, _bits(x[u64(start) + j]) & MAGNITUDE)
    return top


@inner
def _e8m0(top, row):
    """Scale of a block from the bits of its largest magnitude, rounded by a threshold on the fraction."""
    exponent = (top >> 52) - BIAS + (1 if (top & FRACTION) > row[FORMAT_SCALE_THRESHOLD] else 0) - row[FORMAT_EMAX]
    return _power(min(max(exponent, -E8M0_LIMIT), E8M0_LIMIT))


@inner
def _e4m3(amax, tensor_scale):
    """``float32(e4m3fn(float32(float32(amax / 6) / tensor_scale)) * tensor_scale)``."""
    q = f64(f32(f64(f32(amax / E2M1_LARGEST)) / tensor_scale))
    q = min(q, E4M3_LARGEST)
    k = max((_bits(q) >> 52) - BIAS, E4M3_MIN_EXPONENT)
    rounded = np.rint(q * _power(E4M3_MANTISSA - k)) * _power(k - E4M3_MANTISSA)
    return f64(f32(rounded * tensor_scale))


@inner
def _fill_scales(x, n, row, tensor_scale, recon):
    """Write the scale of its block in the place of each element."""
    wide()
    block, kind = row[FORMAT_BLOCK], row[FORMAT_SCALE]
    for start in range(0, n, block):
        stop = min(start + block, n)
        run_stop = start + (stop - start) // RUN * RUN
        top = i64(0)
        for j in range(start, run_stop, RUN):
            top = max(top, _top_of_run(x, j))
        for j in range(u64(run_stop), u64(stop)):
            top = max(top, _bits(x[j]) & MAGNITUDE)
        if kind == SCALE_E8M0:
            s = _e8m0(top, row)
        elif kind == SCALE_E4M3:
            s = _e4m3(_real(top), tensor_scale)
        else:
            s = f64(f32(_real(top)))
        for j in range(u64(start), u64(stop)):
            recon[j] = s


def _grid_loop(kind, even):
    """Build the loop for one way to scale and for ties to even or any other rule: both are constants in it."""

    @inner
    def loop(x, n, row, numbers, recon, codes):
        wide()
        m, low = row[FORMAT_MANTISSA] & 63, row[FORMAT_MIN_EXPONENT] + BIAS
        max_code, over_code = row[FORMAT_MAX_CODE], row[FORMAT_OVER_CODE]
        flip, sign_code = row[FORMAT_FLIP], row[FORMAT_SIGN]
        over_value, cap, zero = numbers[FORMAT_OVER_VALUE], numbers[FORMAT_CAP], numbers[FORMAT_ZERO]
        up, down = numbers[FORMAT_UP], numbers[FORMAT_DOWN]
        for j in range(u64(n)):
            s = recon[j]
            if kind == DIVIDE:
                v = x[j] / s
            elif kind == POWER:
                v = x[j] * _real(RECIPROCAL - _bits(s))
            else:
                v = f64(f32(x[j] / (np.inf if s == 0.0 else s)))
            if not even:
                if kind != QUOTIENT32:
                    v = math.copysign(TINY, x[j]) if (x[j] != 0.0 and abs(v) < TINY) else v
            a = min(abs(v), cap)
            k = max(_bits(a) >> 52, low)
            y = a * _real((2 * BIAS + m - k) << 52)
            if even:
                z = y + ROUNDER
            else:
                y = math.copysign(y, v)
                t = np.trunc(y)
                d = y - t
                z = abs(t + (1.0 if d >= up else 0.0) - (1.0 if d <= down else 0.0)) + ROUNDER
            code = _bits(z) - ROUNDER_BITS + ((k - low) << m)
            r = (z - ROUNDER) * _real((k - m) << 52)
            over = code > max_code
            code = over_code if over else code
            r = math.copysign(over_value if over else r, v) + zero
            if kind == POWER:
                recon[j] = r * s
            else:
                recon[j] = f64(f32(r * s))
            sign = _bits(v) >> 63
            f = flip & sign
            code = ((code ^ f) - f + (sign_code & sign)) & 0xFF
            codes[j] = np.int32(code ^ (-1 if over else 0))

    return loop


def _codebook_loop(blocks):
    """Build the loop for a codebook with a scale a block, or with one scale for all."""

    @inner
    def loop(x, n, numbers, recon, codes):
        wide()
        low, high = numbers[FORMAT_VALUES], numbers[FORMAT_VALUES + CODEBOOK - 1]
        for j in range(u64(n)):
            s = recon[j]
            if blocks:
                exact = 1.0 / (np.inf if s == 0.0 else s)
                reciprocal = f64(f32(exact))
                v = f64(f32(x[j] * (exact if reciprocal == np.inf else reciprocal)))
            else:
                v = x[j] / s
            code, value = i64(0), low
            for c in range(CODEBOOK - 1):
                above, following = v > numbers[u64(FORMAT_THRESHOLDS + c)], numbers[u64(FORMAT_VALUES + 1 + c)]
                code += i64(above)
                value = following if above else value
            recon[j] = f64(f32(value * s))
            over = False if blocks else (v < low) | (v > high)  # the largest magnitude of a block is the scale
            codes[j] = np.int32(code ^ (-1 if over else 0))

    return loop


_divide_even, _divide_any = _grid_loop(DIVIDE, True), _grid_loop(DIVIDE, False)
_power_even, _power_any = _grid_loop(POWER, True), _grid_loop(POWER, False)
_quotient_even, _quotient_any = _grid_loop(QUOTIENT32, True), _grid_loop(QUOTIENT32, False)
_codebook_blocks, _codebook_tensor = _codebook_loop(True), _codebook_loop(False)


@inner
def _are_powers(scale, n):
    """Tell whether all scales are powers of two whose products with float32 neither under- nor overflow."""
    wide()
    other = i64(0)
    for j in range(u64(n)):
        bits = _bits(scale[j])
        exponent = (bits >> 52) - BIAS
        other |= bits & FRACTION
        other |= i64(exponent > POWER_LIMIT) | i64(exponent < -POWER_LIMIT)
    return other == 0


@inner
def code_and_value(x, n, row, numbers, recon, codes):
    """Write what n elements of finite float64 x become, each with the scale that stands in its place of `recon`.

    ``codes[j]`` is the element's code (int32), or ``-1 - code`` where it lies beyond the largest finite value.
    ``recon[j]`` becomes ``element * scale``: exact for E8M0 scales, otherwise rounded to float32.
    """
    wide()
    kind, even = row[FORMAT_SCALE], row[FORMAT_ROUNDING] == HALF_EVEN
    if row[FORMAT_CODEBOOK]:
        if kind == SCALE_ABSMAX:
            _codebook_blocks(x, n, numbers, recon, codes)
        else:
            _codebook_tensor(x, n, numbers, recon, codes)
        return
    if kind == SCALE_E8M0 or (kind == SCALE_TENSOR and _are_powers(recon, n)):
        if even:
            _power_even(x, n, row, numbers, recon, codes)
        else:
            _power_any(x, n, row, numbers, recon, codes)
    elif kind == SCALE_E4M3:
        if even:
            _quotient_even(x, n, row, numbers, recon, codes)
        else:
            _quotient_any(x, n, row, numbers, recon, codes)
    else:
        if even:
            _divide_even(x, n, row, numbers, recon, codes)
        else:
            _divide_any(x, n, row, numbers, recon, codes)


@inner
def reconstruct_format(x, n, row, numbers, tensor_scale, recon, codes):
    """Write values and codes of the first n elements of float64 x, which starts at a block of its row."""
    wide()
    if row[FORMAT_SCALE] == SCALE_TENSOR:
        for j in range(u64(n)):
            recon[j] = tensor_scale
    else:
        _fill_scales(x, n, row, tensor_scale, recon)
    code_and_value(x, n, row, numbers, recon, codes)


@kernel
def encode_by_table(words, table, out):
    """Codes of float32 numbers, given by their bits as uint32; return whether all are finite.

    Values and midpoints of small formats have eight significant bits at most, so that a code depends on the upper 16
    bits, and on whether the lower ones are zero.
    """
    odd = np.uint32(0)
    for i in range(u64(words.size)):
        word = words[i]
        odd |= np.uint32((word & np.uint32(0x7F800000)) == np.uint32(0x7F800000))
        out[i] = table[u64(word >> np.uint32(16)) * u64(2) + u64((word & np.uint32(0xFFFF)) != 0)]
    return odd == 0


@kernel
def encode_float(x, shift, rebase, normal, magic, cap, sign, out):
    """Codes of float32 numbers in a smaller float format, ties to even; return whether all are finite.

    `shift` bits of the fraction go, with half a unit added first, less one where the last bit that stays is even.
    `rebase` is the difference of the biases in units of the code, `normal` the bits of the smallest normal magnitude:
    what is less rounds as a sum with `magic`, whose last place is the smallest magnitude. `cap` is the code of what
    lies beyond the largest, `sign` where the sign's bit goes. Sums stay below 2**31.
    """
    wide()
    one, last = np.int32(1), np.int32((1 << (shift - 1)) - 1)
    shift, rebase, normal = np.int32(shift), np.int32(rebase), np.int32(normal)
    cap, sign, base = np.int32(cap), np.int32(sign), bits_of(f32(magic))
    largest = np.int32(0)
    for i in range(u64(x.size)):
        u = magnitude_bits(x[i])
        largest = max(largest, u)
        kept = np.int32(np.int32(np.int32(u + (np.int32(u >> shift) & one)) + last) >> shift)
        code = np.int32(kept - rebase) if u >= normal else np.int32(bits_of(f32(abs(x[i]) + f32(magic))) - base)
        out[i] = np.int32(min(code, cap) | (np.int32(bits_of(x[i]) >> np.int32(31)) & sign))
    return largest < 0x7F800000


@kernel
def reconstruct(x, row, numbers, tensor_scale, recon, codes):
    """Rows of a 2-D float array, blocks along the last axis, into float64 `recon` and int32 `codes`."""
    wide()
    block = row[FORMAT_BLOCK]
    step = max(CHUNK // block * block, block) if block else CHUNK
    width = min(step, x.shape[1])
    buffer, value, code = np.empty(width), np.empty(width), np.empty(width, np.int32)
    for r in range(x.shape[0]):
        for start in range(0, x.shape[1], step):
            n = min(step, x.shape[1] - start)
            for j in range(u64(n)):
                buffer[j] = x[u64(r), u64(start) + j]
            reconstruct_format(buffer, n, row, numbers, tensor_scale, value, code)
            for j in range(u64(n)):
                recon[u64(r), u64(start) + j] = value[j]
                codes[u64(r), u64(start) + j] = code[j]
