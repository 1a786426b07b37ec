"""One sweep tile in NumPy: draw pairs, evaluate the schemes, tally where they differ.

``tile(work, start, stop)`` depends on (work, pair index) alone, so any cut of the index range into tiles merges to
the same tally. `work` is a record of plain arrays (`qengine.sweeps.plan.Work`).
"""

import numpy as np

from ..codes import (
    ACC_QUANTILE,
    ACC_SEQUENTIAL,
    ACC_UNSATURATED,
    BIN_ORIGIN,
    BINS,
    DIFFERENCE_CELLS,
    DIFFERENCE_LIMIT,
    EXP2_COEFFICIENTS,
    FLOAT,
    FLOOR,
    GROUP,
    MANTISSA_M15,
    MANTISSA_M24,
    MANTISSA_M24_LEFT7,
    MANTISSA_Q15_SATURATED,
    NUDGE_SATURATES,
    QUANTILE_BITS,
    RANGE,
    RUN,
    SHIFTS_ACCUMULATOR,
)
from . import requantize
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


def q31(real):
    """QuantizeMultiplier on positive reals: (value, shift), flushed to (0, 0)."""
    fraction, exponent = np.frexp(real)
    value = (np.ldexp(fraction, 53).astype(np.int64) + (1 << 21)) >> 22
    carry = value == 1 << 31
    value, exponent = np.where(carry, 1 << 30, value), exponent + carry.astype(np.int64)
    flush = exponent < -31
    return np.where(flush, 0, value), np.where(flush, 0, exponent)


def mantissa(real, code):
    """(mantissa, exponent) of positive reals for a rule's mantissa code."""
    if code in (MANTISSA_M24, MANTISSA_M24_LEFT7):
        fraction, exponent = np.frexp(real.astype(np.float32).astype(np.float64))
        return np.ldexp(fraction, 24).astype(np.int64) << (7 if code == MANTISSA_M24_LEFT7 else 0), exponent.astype(
            np.int64
        )
    if code == MANTISSA_M15:
        fraction, exponent = np.frexp(real)
        value = (np.ldexp(fraction, 53).astype(np.int64) + (1 << 37)) >> 38
        carry = value == 1 << 15
        return np.where(carry, 1 << 14, value), exponent + carry.astype(np.int64)
    value, exponent = q31(real)
    return (requantize.reduce_to_15_bits(value) if code == MANTISSA_Q15_SATURATED else value), exponent


def evaluate(work, k, x, channel, real):
    """Return (output, in domain?) of scheme k; the output of pairs outside the domain is arbitrary."""
    rule = work.rules[k]
    scale = real if work.kind == RANGE else work.scale[k][channel]
    if rule[0] == FLOOR:
        if work.kind == RANGE:
            a, e = mantissa(real, rule[1])
            if rule[1] in (MANTISSA_M24, MANTISSA_M24_LEFT7):
                single = real.astype(np.float32)
                fits = (single >= work.scale_low[k]) & (single < work.scale_high[k])
            else:
                fits = (e >= work.shift_low[k]) & (e <= work.shift_high[k])
            e = np.clip(e, rule[2] - 62, rule[2] - 1)
            bp, bn, t = requantize.floor_parameters(a, e, rule)
            y = (a * x + np.where(x >= 0, bp, bn)) >> t
            fits &= (y >= INT32_MIN) & (y <= INT32_MAX)
            if rule[3] & SHIFTS_ACCUMULATOR:
                left = np.maximum(e, 0)
                fits &= (x >= INT32_MIN >> left) & (x <= INT32_MAX >> left)
            if rule[3] & NUDGE_SATURATES:
                nudge = np.where(e < 0, np.int64(1) << np.maximum(-e - 1, 0), 0)
                fits &= ((a * x) >> 31) + nudge <= INT32_MAX
        else:
            a, bp, bn, t = (p[k][channel] for p in (work.a, work.bp, work.bn, work.t))
            y = (a * x + np.where(x >= 0, bp, bn)) >> t
            fits = (x >= work.domain_low[k][channel]) & (x <= work.domain_high[k][channel])
        y = np.clip(y, INT32_MIN, INT32_MAX)
    elif rule[0] == FLOAT:
        v = requantize.float_product(x, scale, rule[1])
        scale = scale.astype(v.dtype)
        if rule[3]:
            v = v + work.z[channel].astype(v.dtype)
        y = requantize.round_float(v, rule[2])
        if work.kind == RANGE:
            fits = (scale >= work.scale_low[k]) & (scale < work.scale_high[k])
            if not (work.clamped and rule[4]):
                fits &= (y >= -(2.0**31)) & (y < 2.0**31)
        else:
            fits = (x >= work.domain_low[k][channel]) & (x <= work.domain_high[k][channel])
        y = np.clip(y.astype(np.float64), INT32_MIN, INT32_MAX).astype(np.int64)
    else:
        if work.kind == RANGE:
            scale = real.astype(np.float32).astype(np.float64)
            fits = (scale >= work.scale_low[k]) & (scale < work.scale_high[k])
            a, e = requantize.nested16_parameters(scale)
            e = np.clip(e, -32, 16)
        else:
            a, e = work.a[k][channel], work.t[k][channel]
            fits = (x >= work.domain_low[k][channel]) & (x <= work.domain_high[k][channel])
        y = requantize.nested16(x[None, :, None], a, e, work.z[channel])[0, :, 0]
    y = np.clip(y, work.low[k][channel], work.high[k][channel]) + work.add[k] * work.z[channel]
    return y, fits


def tile(work, start, stop):
    """Return the tally of pairs ``[start, stop)``: a dict of integer arrays (see `qengine.sweeps.tally`)."""
    schemes = work.rules.shape[0]
    couples = [(i, j) for i in range(schemes) for j in range(i + 1, schemes)]
    tally = {
        "counts": np.zeros((len(couples), BINS, 2), np.int64),
        "differences": np.zeros((len(couples), DIFFERENCE_CELLS), np.int64),
        "largest": np.zeros(len(couples), np.int64),
        "outside": np.zeros(schemes, np.int64),
        "witnesses": np.full((len(couples), work.witnesses), -1, np.int64),
    }
    step = 32 * GROUP
    for begin in range(start, stop, step):
        end = min(begin + step, stop)
        x, channel, real = draw(work, begin, end)
        if work.kind == RANGE:
            value, exponent = q31(real)
            bins = np.where(value == 0, 0, exponent + BIN_ORIGIN)
        else:
            bins = work.bins[channel]
        outputs = [evaluate(work, k, x, channel, real) for k in range(schemes)]
        for k, (_, fits) in enumerate(outputs):
            tally["outside"][k] += int((~fits).sum())
        for c, (i, j) in enumerate(couples):
            both = outputs[i][1] & outputs[j][1]
            d = np.where(both, outputs[i][0] - outputs[j][0], 0)
            np.add.at(tally["counts"][c], (bins[both], (d[both] != 0).astype(np.int64)), 1)
            hits = np.flatnonzero(d)
            cells = np.clip(d[hits], -DIFFERENCE_LIMIT - 1, DIFFERENCE_LIMIT + 1) + DIFFERENCE_LIMIT + 1
            np.add.at(tally["differences"][c], cells, 1)
            if hits.size:
                tally["largest"][c] = max(int(tally["largest"][c]), int(np.abs(d[hits]).max()))
                free = np.flatnonzero(tally["witnesses"][c] < 0)[: hits.size]
                tally["witnesses"][c, free] = begin + hits[: free.size]
    return tally
