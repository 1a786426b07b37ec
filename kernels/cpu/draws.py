"""The draws of a sweep on the CPU: words of Philox into accumulators and multipliers (layout: `codes.GROUP`)."""

import numpy as np

from ..codes import ACC_QUANTILE, ACC_UNSATURATED, EXP2_COEFFICIENTS, QUANTILE_BITS
from .jit import inner, wide

HALF, WORD = np.uint64(32), np.uint64(0xFFFFFFFF)
(_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12) = EXP2_COEFFICIENTS
REST = 52 - QUANTILE_BITS
FRACTION_SCALE = 2.0**-REST


@inner
def _exp2(v):
    """``2**v`` by the polynomial of `EXP2_COEFFICIENTS`; ``|v| < 1000``."""
    k = np.rint(v)
    f = v - k
    p = _C0 * f + _C1
    p = p * f + _C2
    p = p * f + _C3
    p = p * f + _C4
    p = p * f + _C5
    p = p * f + _C6
    p = p * f + _C7
    p = p * f + _C8
    p = p * f + _C9
    p = p * f + _C10
    p = p * f + _C11
    p = p * f + _C12
    # p lies in [0.7, 1.42]: adding k to its exponent field is exact.
    return np.int64(np.float64(p).view(np.int64) + (np.int64(k) << 52)).view(np.float64)


@inner
def _scaled(high, low, span):
    """``floor(w * span / 2**64)`` for w = high:low, uint64 throughout, ``span <= 2**32``."""
    return (high * span + ((low * span) >> HALF)) >> HALF


@inner
def draw_word(w, acc_low, word_shift, x):
    """One word a pair: a range whose size is a power of two."""
    wide()
    for i in range(x.size):
        x[i] = acc_low + (np.int64(w[i]) >> word_shift)


@inner
def _deviate(high, low, table):
    tail = ((np.int64(high) & 0x7FFFFFFF) << 32) | np.int64(low)
    bits = np.float64(min(tail, 0x7FFFFFFFFFFFFFFE) + 1).view(np.int64)
    cell = (bits >> REST) - (1023 << QUANTILE_BITS)
    fraction = np.float64(bits & ((1 << REST) - 1)) * FRACTION_SCALE
    size = table[cell] + fraction * (table[cell + 1] - table[cell])
    return -size if high >> 31 else size


@inner
def draw_uniform(high, low, run, run_channel, acc_low, acc_span, zero, x):
    """Two words a pair, uniform over the channel's range of ``span <= 2**32`` accumulators."""
    wide()
    hidden = np.uint64(zero)
    for r in range(x.size // run):
        c = run_channel[r]
        bottom, span = acc_low[c], np.uint64(acc_span[c])
        if span > WORD:  # 2**32: the high word itself
            for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
                x[i] = bottom + np.int64(high[i])
        else:
            for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
                s = span & WORD  # see `jit.ZERO`
                span += hidden
                x[i] = bottom + np.int64(_scaled(np.uint64(high[i]), np.uint64(low[i]), s))


@inner
def draw_quantile(high, low, run, run_channel, acc_low, acc_span, center, spread, table, x):
    """Two words a pair, a deviate from the quantile table."""
    wide()
    for r in range(x.size // run):
        c = run_channel[r]
        middle, s = center[c], spread[c]
        bottom, top = np.float64(acc_low[c]), np.float64(acc_low[c] + acc_span[c] - 1)
        for i in range(np.uint64(r * run), np.uint64((r + 1) * run)):
            v = np.rint(middle + s * _deviate(high[i], low[i], table))
            x[i] = np.int64(min(max(v, bottom), top))


@inner
def draw_real(w, real_low, real_width, real):
    """One word a pair: ``low + (w + 1/2) / 2**32 * width``."""
    wide()
    for i in range(w.size):
        real[i] = real_low + ((np.float64(np.int64(w[i])) + 0.5) * 2.0**-32) * real_width


@inner
def exponentiate(real):
    """Two to the power of what was drawn: uniform in the logarithm."""
    wide()
    for i in range(real.size):
        real[i] = _exp2(real[i])


@inner
def draw_with_real(high, low, acc_kind, real, output_units, qmin, qmax, z, acc_low, acc_span, center, spread, table, x):
    """Two words a pair; accumulators that may depend on the drawn multiplier."""
    wide()
    if acc_kind == ACC_QUANTILE:
        bottom, top = np.float64(acc_low), np.float64(acc_low + acc_span - 1)
        for i in range(high.size):
            s = spread / real[i] if output_units else spread
            v = np.rint(center + s * _deviate(high[i], low[i], table))
            x[i] = np.int64(min(max(v, bottom), top))
    elif acc_kind == ACC_UNSATURATED:
        for i in range(high.size):
            bottom = np.int64(np.ceil(max((qmin - z) / real[i], -2147483648.0)))
            top = np.int64(np.floor(min((qmax - z) / real[i], 2147483647.0)))
            span = np.uint64(top - bottom + 1)
            x[i] = bottom + np.int64(_scaled(np.uint64(high[i]), np.uint64(low[i]), span))
    else:
        span = np.uint64(acc_span)
        for i in range(high.size):
            x[i] = acc_low + np.int64(_scaled(np.uint64(high[i]), np.uint64(low[i]), span))
