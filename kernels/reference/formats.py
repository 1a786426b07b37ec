"""Floating and block number formats in NumPy: scales, codes, and what codes stand for."""

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

#: Products and quotients below this count as this: a directed rounding must see that they are not zero.
TINY = 1e-300


def _single(v):
    """Round to float32, and back to float64."""
    with np.errstate(over="ignore"):
        return np.float32(v).astype(np.float64)


def block_maxima(x, block):
    """Return the largest magnitude of each block along the last axis; the last block may be shorter."""
    return np.maximum.reduceat(np.abs(x), np.arange(0, x.shape[-1], block), axis=-1)


def e8m0_exponents(amax, row):
    """Return the exponents of E8M0 scales for largest magnitudes (0 has the least)."""
    fraction, exponent = np.frexp(amax)
    exponent = np.where(amax == 0, -E8M0_LIMIT - row[FORMAT_EMAX], exponent - 1)
    bits = np.ldexp(2 * fraction - 1, 52).astype(np.int64)
    exponent = exponent + (bits > row[FORMAT_SCALE_THRESHOLD]) - row[FORMAT_EMAX]
    return np.clip(exponent, -E8M0_LIMIT, E8M0_LIMIT)


def e4m3_scales(amax, tensor_scale):
    """Return ``e4m3fn(float32(float32(amax / 6) / tensor_scale))``, saturating, ties to even."""
    q = np.minimum(_single(_single(amax / E2M1_LARGEST) / tensor_scale), E4M3_LARGEST)
    k = np.maximum(np.frexp(q)[1] - 1, E4M3_MIN_EXPONENT)
    k = np.where(q == 0, E4M3_MIN_EXPONENT, k)
    return np.ldexp(np.rint(np.ldexp(q, E4M3_MANTISSA - k)), k - E4M3_MANTISSA)


def block_scales(amax, row, tensor_scale):
    """Return what the elements of each block are scaled by, float64, for largest magnitudes of blocks."""
    if row[FORMAT_SCALE] == SCALE_E8M0:
        return np.ldexp(1.0, e8m0_exponents(amax, row))
    if row[FORMAT_SCALE] == SCALE_E4M3:
        return _single(e4m3_scales(amax, tensor_scale) * tensor_scale)
    return _single(amax)


def scaled(x, scale, row):
    """Return v, that is x over its scale, as the format computes it; zero where the scale is."""
    divisor = np.where(scale == 0, np.inf, scale)
    with np.errstate(over="ignore", under="ignore"):
        if row[FORMAT_SCALE] == SCALE_E4M3:
            return _single(x / divisor)
        if row[FORMAT_SCALE] == SCALE_ABSMAX:
            exact = 1.0 / divisor
            reciprocal = _single(exact)
            return _single(x * np.where(np.isinf(reciprocal), exact, reciprocal))
        v = x / divisor
    return np.where((x != 0) & (np.abs(v) < TINY), np.copysign(TINY, x), v)


def round_to_grid(v, row, numbers):
    """Return (values, codes, overflowed) of finite or infinite v on a grid of a small float or fixed point."""
    m, low = row[FORMAT_MANTISSA], row[FORMAT_MIN_EXPONENT]
    a = np.minimum(np.abs(v), numbers[FORMAT_CAP])
    k = np.where(a == 0, low, np.maximum(np.frexp(a)[1] - 1, low))
    y = np.copysign(np.ldexp(a, m - k), v)
    if row[FORMAT_ROUNDING] == HALF_EVEN:
        whole = np.rint(y)
    else:
        whole = np.trunc(y)
        rest = y - whole
        whole = whole + (rest >= numbers[FORMAT_UP]) - (rest <= numbers[FORMAT_DOWN])
    whole = np.abs(whole)
    code = whole.astype(np.int64) + ((k - low) << m)
    over = code > row[FORMAT_MAX_CODE]
    code = np.where(over, row[FORMAT_OVER_CODE], code)
    value = np.where(over, numbers[FORMAT_OVER_VALUE], np.ldexp(whole, k - m))
    value = np.copysign(value, v) + numbers[FORMAT_ZERO]
    flip = np.where(np.signbit(v), row[FORMAT_FLIP], 0)
    code = ((code ^ flip) - flip + np.where(np.signbit(v), row[FORMAT_SIGN], 0)) & 0xFF
    return value, code, over


def look_up(v, row, numbers):
    """Return (values, codes, outside) of the codebook: a midpoint goes to the lower code."""
    thresholds = numbers[FORMAT_THRESHOLDS : FORMAT_THRESHOLDS + CODEBOOK - 1]
    values = numbers[FORMAT_VALUES : FORMAT_VALUES + CODEBOOK]
    code = np.searchsorted(thresholds, v, side="left")
    outside = ((v < values[0]) | (v > values[-1])) & (row[FORMAT_SCALE] == SCALE_TENSOR)
    return values[code], code, outside


def code_and_value(x, row, numbers, scale):
    """Return (codes, values) of finite float64 x, each with its scale (of its block, where there are blocks).

    A code (int32) is in ``[0, levels)``, or ``-1 - code`` where x lies beyond the largest finite value. The value is
    ``element * scale``: exact for E8M0 scales, otherwise rounded to float32.
    """
    v = scaled(x, scale, row)
    value, code, over = look_up(v, row, numbers) if row[FORMAT_CODEBOOK] else round_to_grid(v, row, numbers)
    with np.errstate(invalid="ignore", over="ignore"):
        product = value * scale
    value = product if row[FORMAT_SCALE] == SCALE_E8M0 else _single(product)
    return np.where(over, -1 - code, code).astype(np.int32), value


def reconstruct_format(x, n, row, numbers, tensor_scale, recon, codes):
    """Write values and codes of the first n elements of float64 x, which starts at a block of its row."""
    if n == 0:
        return
    x, block = x[:n], row[FORMAT_BLOCK]
    if row[FORMAT_SCALE] == SCALE_TENSOR:
        scale = np.full(n, tensor_scale)
    else:
        scale = np.repeat(block_scales(block_maxima(x, block), row, tensor_scale), block)[:n]
    codes[:n], recon[:n] = code_and_value(x, row, numbers, scale)


def reconstruct(x, row, numbers, tensor_scale, recon, codes):
    """Rows of a 2-D float array, blocks along the last axis, into float64 `recon` and int32 `codes`."""
    for r in range(x.shape[0]):
        reconstruct_format(x[r].astype(np.float64), x.shape[1], row, numbers, tensor_scale, recon[r], codes[r])
