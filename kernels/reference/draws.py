"""The draws of a sweep in NumPy: words of Philox into accumulators and multipliers (layout: `codes.GROUP`)."""

import numpy as np

from ..codes import ACC_QUANTILE, ACC_SEQUENTIAL, ACC_UNSATURATED, EXP2_COEFFICIENTS, GROUP, QUANTILE_BITS, RANGE, RUN
from .philox import HALF, words

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def exp2(v):
    """``2**v`` by the polynomial of `EXP2_COEFFICIENTS`: multiplications and additions, each rounded."""
    k = np.rint(v)
    f = v - k
    p = np.full(v.shape, EXP2_COEFFICIENTS[0])
    for coefficient in EXP2_COEFFICIENTS[1:]:
        p = p * f + coefficient
    return np.ldexp(p, k.astype(np.int32))


def scaled(high, low, span):
    """``floor(w * span / 2**64)`` for the 64-bit words w = high:low and ``span <= 2**32``."""
    return (high * span + ((low * span) >> HALF)) >> HALF


def quantile(high, low, table):
    """Standard deviate of 64-bit words: sign from the top bit, size from the table of the tail.

    The other 63 bits p give the tail probability ``(p + 1) / 2**63``; the exponent and the top mantissa bits of
    that float64 pick a cell, its remaining bits interpolate.
    """
    tail = (((high & np.uint64(0x7FFFFFFF)) << HALF) | low).astype(np.int64)
    bits = np.minimum(tail, 2**63 - 2)
    bits = (bits + 1).astype(np.float64).view(np.int64)
    rest = 52 - QUANTILE_BITS
    cell = (bits >> rest) - (1023 << QUANTILE_BITS)
    fraction = (bits & ((1 << rest) - 1)).astype(np.float64) * 2.0**-rest
    size = table[cell] + fraction * (table[cell + 1] - table[cell])
    return np.where(high >> np.uint64(31) != 0, -size, size)


def draw(work, start, stop):
    """Return (x int64, channel int64, M float64) of pairs ``[start, stop)``; M is empty for tables."""
    index = np.arange(start, stop, dtype=np.int64)
    channel, real = np.zeros(index.size, np.int64), np.zeros(0)
    if work.channels > 1:
        channel = (index // RUN % work.channels) * work.stride % work.channels
    if work.acc_kind == ACC_SEQUENTIAL or not index.size:
        return work.acc_low[0] + index, channel, real
    group, place = index // GROUP, index % GROUP
    blocks, size = GROUP // work.pairs_per_block, 4 // work.pairs_per_block
    first = int(group[0]) * blocks
    w = words((work.key0, work.key1), first, (int(group[-1]) + 1) * blocks - first)
    block, word = group * blocks + place % blocks - first, place // blocks * size
    if work.kind == RANGE:
        real = work.real_low + ((w[word, block].astype(np.float64) + 0.5) * 2.0**-32) * work.real_width
        if work.log_uniform:
            real = exp2(real)
        word = word + 1
    if work.word_shift >= 0:
        return (
            work.acc_low[0] + (w[word, block] >> np.uint64(work.word_shift)).astype(np.int64),
            channel,
            real,
        )
    high, low = w[word, block], w[word + 1, block]
    if work.acc_kind == ACC_QUANTILE:
        spread = work.spread[channel]
        if work.output_units and work.kind == RANGE:
            spread = spread / real
        x = np.rint(work.center[channel] + spread * quantile(high, low, work.table))
        acc_low = work.acc_low[channel]
        x = np.clip(x, acc_low, acc_low + work.acc_span[channel] - 1).astype(np.int64)
    elif work.acc_kind == ACC_UNSATURATED and work.kind == RANGE:
        bottom = np.ceil(np.maximum((work.qmin - work.z[0]) / real, INT32_MIN)).astype(np.int64)
        top = np.floor(np.minimum((work.qmax - work.z[0]) / real, INT32_MAX)).astype(np.int64)
        x = bottom + scaled(high, low, (top - bottom + 1).astype(np.uint64)).astype(np.int64)
    else:
        x = work.acc_low[channel] + scaled(high, low, work.acc_span[channel].astype(np.uint64)).astype(np.int64)
    return x, channel, real
