"""Quantization of reals on flat arrays: scaled value, rounding, code, and the value that the code stands for.

A quantizer is an int64 row (`qengine.kernels.codes`). Scale and zero point come per element (or as scalars), in
float64; a 32-bit convention rounds the scale to float32 first. Rounding happens in float64 on the scaled value.
"""

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
    STOCHASTIC,
    ZERO_POINT_AFTER,
    ZERO_POINT_FUSED,
)
from .rounding import round_real, uniforms


def fma32(a, b, c):
    """Return ``f32(a * b + c)`` rounded once, of float32 arrays.

    The product is exact in float64 (48 bits). The sum is rounded to odd there, which makes the second rounding,
    53 to 24 bits, harmless.
    """
    p, c = np.float64(a) * np.float64(b), np.float64(c)
    with np.errstate(invalid="ignore"):
        s = p + c
        t = s - p
        error = (p - (s - t)) + (c - t)
        s = np.asarray(s)
        bits = s.view(np.int64)
        inexact = (error != 0) & np.isfinite(s) & (bits & 1 == 0)
        away = (error > 0) == (s > 0)
        odd = np.where(inexact, bits + np.where(away, 1, -1), bits)
    with np.errstate(over="ignore"):
        return odd.view(np.float64).astype(np.float32)


def scaled(x, row, scale, zero_point):
    """Return the value that is rounded, as float64, of float32 or float64 x."""
    f32 = np.float32
    with np.errstate(over="ignore", under="ignore"):  # beyond float32 is infinite, and saturates
        if row[AFFINE_BITS] == 64:
            v = np.asarray(x, np.float64) / scale
            return v if row[AFFINE_ZERO_POINT] == ZERO_POINT_AFTER else v + zero_point
        x, s, z = np.asarray(x).astype(f32), np.asarray(scale).astype(f32), np.asarray(zero_point).astype(f32)
        if row[AFFINE_ZERO_POINT] == ZERO_POINT_FUSED:
            return fma32(x, f32(1) / s, z).astype(np.float64)
        v = x / s if row[AFFINE_STEP] == DIVIDE else x * (f32(1) / s)
        if row[AFFINE_ZERO_POINT] != ZERO_POINT_AFTER:
            v = v + z
        return v.astype(np.float64)


def whole(x, row, scale, zero_point, first=0):
    """Return the code before the clamp, as a whole float64; element 0 of x is element `first` of its tensor."""
    v = scaled(x, row, scale, zero_point)
    draws = uniforms(int(row[AFFINE_SEED]), first, v.size) if row[AFFINE_ROUNDING] == STOCHASTIC else None
    r = round_real(v, row[AFFINE_ROUNDING], draws)
    return r + zero_point if row[AFFINE_ZERO_POINT] == ZERO_POINT_AFTER else r


def quantize(x, row, scale, zero_point, first=0):
    """Return codes in ``[qmin, qmax]`` as float64."""
    return np.clip(whole(x, row, scale, zero_point, first), row[AFFINE_QMIN], row[AFFINE_QMAX])


def dequantize(q, rule, scale, zero_point):
    """Return what the codes q (whole float64) stand for, as float64."""
    f32 = np.float32
    q, z = np.asarray(q, np.float64), np.asarray(zero_point, np.float64)
    if rule == DEQUANTIZE_FLOAT64:
        return (q - z) * scale
    s = np.asarray(scale).astype(f32)
    with np.errstate(over="ignore", under="ignore"):
        if rule == DEQUANTIZE_SUBTRACT:
            y = (q - z).astype(f32) * s
        elif rule == DEQUANTIZE_EXPANDED:
            y = q.astype(f32) * s - z.astype(f32) * s
        else:
            y = fma32(q.astype(f32), s, -(z.astype(f32) * s))
    return y.astype(np.float64)


def code_and_value(x, row, scale, zero_point, first=0):
    """Return (index, value): ``q - qmin``, or its complement ``-1 - index`` where clamped; what the code stands for."""
    w = whole(x, row, scale, zero_point, first)
    q = np.clip(w, row[AFFINE_QMIN], row[AFFINE_QMAX])
    index = (q - row[AFFINE_QMIN]).astype(np.int32)
    return np.where(q != w, -1 - index, index), dequantize(q, row[AFFINE_DEQUANTIZATION], scale, zero_point)
