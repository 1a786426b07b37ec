"""One sweep tile on the CPU: groups of `GROUP` pairs stay in the first-level cache from draw to tally.

A fixed multiplier is a table of one channel whose run is the whole group; a table of channels has runs of `RUN`
pairs, so that every loop has scalar parameters; a range of multipliers derives its parameters pair by pair.
"""

import functools

import numpy as np

from ..codes import (
    ACC_QUANTILE,
    ACC_SEQUENTIAL,
    BINS,
    DIFFERENCE_CELLS,
    DIFFERENCE_LIMIT,
    FLOAT,
    FLOOR,
    GROUP,
    MANTISSA_Q31,
    NESTED16,
    RANGE,
    RUN,
)
from . import philox
from .draws import draw_quantile, draw_real, draw_uniform, draw_with_real, draw_word, exponentiate
from .evaluate import (
    count_zeros,
    differences_in_order,
    domain_runs,
    finish_runs,
    float32_drawn,
    float32_drawn_fits,
    float32_runs,
    float64_drawn,
    float64_drawn_fits,
    float64_runs,
    floor_drawn,
    floor_drawn_fits,
    floor_drawn_within,
    floor_in_order,
    floor_runs,
    nested_drawn,
    nested_runs,
    split,
    split_q31,
)
from .jit import ZERO, inner, kernel
from .tally import DIFFERS, OUTSIDE, compare_keys, compare_runs

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

# How a table's accumulators are drawn: constants of the compiled kernel.
_IN_ORDER, _ONE_WORD, _UNIFORM, _QUANTILE = 0, 1, 2, 3


@inner
def _differ_by_units(rules, a, bp, bn, t, bare):
    """Tell whether two floor forms, unclamped, differ by at most 1, and on each side of 0 with one sign.

    They share mantissa and shift, as all do that take the same Q0.31 multiplier: the difference of the two lines is
    ``(b1 - b2) / 2**t`` everywhere on a side, ``|b1 - b2| < 2**63``.
    """
    if rules.shape[0] != 2 or not (bare[0] and bare[1]) or rules[0, 0] != FLOOR or rules[1, 0] != FLOOR:
        return False
    if a[0, 0] != a[1, 0] or t[0, 0] != t[1, 0]:
        return False
    up, down = (bp[0, 0] - bp[1, 0]) >> t[0, 0], (bn[0, 0] - bn[1, 0]) >> t[0, 0]
    return -1 <= up <= 0 and -1 <= down <= 0


@inner
def _count_units(first, last, a, bp, bn, t, counts, differences, largest, witnesses):
    """Count the accumulators ``first .. last - 1`` by sums alone; False if a witness has to be looked for."""
    zero = min(max(np.int64(0), first), last)
    below = differences_in_order(first, zero - first, a[0, 0], bn[0, 0], bn[1, 0], t[0, 0])
    above = differences_in_order(zero, last - zero, a[0, 0], bp[0, 0], bp[1, 0], t[0, 0])
    differ = abs(below) + abs(above)
    if differ and witnesses.shape[1] and witnesses[0, witnesses.shape[1] - 1] < 0:
        return False
    up = max(below, 0) + max(above, 0)
    differences[0, 0, DIFFERENCE_LIMIT + 2] += up
    differences[0, 0, DIFFERENCE_LIMIT] += differ - up
    if differ:
        largest[0] = max(largest[0], 1)
    counts[0] += last - first - differ
    counts[1] += differ
    return True


@functools.cache
def table_kernel(draw, masked, floor, float32, float64, nested):
    """Return the kernel for a fixed multiplier or a table of channels, holding just the branches asked for.

    The arguments are constants to the compiler, which drops the other branches before it types them.
    """

    def tile_table(
        start, stop, key0, key1, stride, run, acc_low, acc_span, word_shift, center, spread, table,
        z, rules, a, bp, bn, t, scale, domain_low, domain_high, low, high, add, bins_of, total, bare, zero,
        counts, differences, largest, outside, witnesses,
    ):  # fmt: skip
        schemes, channels = rules.shape[0], bins_of.size
        blocks = GROUP // 4 if draw == _ONE_WORD else GROUP // 2
        words = np.empty((4, blocks), np.uint32)
        x = np.empty(GROUP, np.int32)
        run_channel = np.zeros(GROUP // run, np.int64)
        y = np.zeros((schemes, GROUP), np.int32)
        fits = np.empty((schemes, GROUP), np.uint8)
        keys = np.empty(GROUP, np.uint8)
        all_fit = np.ones(schemes, np.uint8)
        units = False
        if draw == _IN_ORDER:
            if floor and not masked:
                units = _differ_by_units(rules, a, bp, bn, t, bare)
        for group in range(start // GROUP, (stop + GROUP - 1) // GROUP):
            base = group * GROUP
            p, q = max(start - base, 0), min(stop - base, GROUP)
            if draw == _IN_ORDER:
                if floor and not masked:
                    if units:
                        first = acc_low[0] + base
                        if _count_units(
                            first + p, first + q, a, bp, bn, t, counts[0, bins_of[0]], differences, largest, witnesses
                        ):  # fmt: skip
                            continue
            if channels > 1:
                for r in range(run_channel.size):
                    run_channel[r] = (base // run + r) % channels * stride % channels
            if draw == _IN_ORDER:
                if masked or float32 or float64 or nested:
                    for i in range(GROUP):
                        x[i] = acc_low[0] + base + i
            else:
                philox.fill(key0, key1, np.uint64(group * blocks), words)
            if draw == _ONE_WORD:
                for slot in range(4):
                    draw_word(words[slot], acc_low[0], word_shift, x[slot * blocks : (slot + 1) * blocks])
            if draw == _UNIFORM:
                for slot in range(2):
                    draw_uniform(
                        words[2 * slot], words[2 * slot + 1], min(run, blocks),
                        run_channel[slot * (run_channel.size // 2) :], acc_low, acc_span,
                        zero,
x[slot * blocks : (slot + 1) * blocks],
                    )  # fmt: skip
            if draw == _QUANTILE:
                for slot in range(2):
                    draw_quantile(
                        words[2 * slot], words[2 * slot + 1], min(run, blocks),
                        run_channel[slot * (run_channel.size // 2) :], acc_low, acc_span, center, spread, table,
                        x[slot * blocks : (slot + 1) * blocks],
                    )  # fmt: skip
            for k in range(schemes):
                form = rules[k, 0]
                if masked:
                    all_fit[k] = 1
                    if not total[k]:
                        out = domain_runs(x, run, run_channel, domain_low[k], domain_high[k], p, q, fits[k])
                        outside[k] += out
                        all_fit[k] = out == 0
                    else:
                        fits[k, :] = 1
                if floor:
                    if form == FLOOR:
                        if draw == _IN_ORDER:
                            floor_in_order(acc_low[0] + base, a[k, 0], bp[k, 0], bn[k, 0], t[k, 0], y[k])
                        else:
                            floor_runs(x, run, run_channel, a[k], bp[k], bn[k], t[k], zero, y[k])
                if float32:
                    if form == FLOAT and rules[k, 1] == 32:
                        float32_runs(x, run, run_channel, scale[k], rules[k, 2], rules[k, 3], z, y[k])
                if float64:
                    if form == FLOAT and rules[k, 1] == 64:
                        float64_runs(x, run, run_channel, scale[k], y[k])
                if nested:
                    if form == NESTED16:
                        nested_runs(x, run, run_channel, a[k], t[k], z, y[k])
                if not bare[k]:
                    finish_runs(y[k], run, run_channel, low[k], high[k], z, add[k])
            compare_runs(
                y, fits, p, q, all_fit, run, run_channel, bins_of, base, keys,
                counts, differences, largest, witnesses,
            )  # fmt: skip

    return kernel(tile_table)


@functools.cache
def range_kernel(one_word, log_uniform, masked, floor, float32, float64, nested):
    """Return the kernel for a fresh real multiplier a pair, holding just the branches asked for."""

    def tile_range(
        start, stop, key0, key1, acc_kind, acc_low, acc_span, word_shift, center, spread, table, output_units,
        real_low, real_width, z, qmin, qmax, clamped, rules, low, high, add,
        shift_low, shift_high, scale_low, scale_high, total, bare, one_run,
        lanes, differences, largest, outside, witnesses,
    ):  # fmt: skip
        schemes = rules.shape[0]
        slots = 2 if one_word else 1
        blocks = GROUP // slots
        words = np.empty((4, blocks), np.uint32)
        x, real = np.empty(GROUP, np.int32), np.empty(GROUP, np.float64)
        q31, value = np.empty(GROUP, np.int32), np.empty(GROUP, np.int32)
        q31_exponent, exponent = np.empty(GROUP, np.int8), np.empty(GROUP, np.int8)
        bins, keys = np.empty(GROUP, np.uint8), np.empty(GROUP, np.uint8)
        y = np.zeros((schemes, GROUP), np.int32)
        fits = np.empty((schemes, GROUP), np.uint8)
        all_fit = np.ones(schemes, np.uint8)
        for group in range(start // GROUP, (stop + GROUP - 1) // GROUP):
            base = group * GROUP
            p, q = max(start - base, 0), min(stop - base, GROUP)
            philox.fill(key0, key1, np.uint64(group * blocks), words)
            for slot in range(slots):
                here = real[slot * blocks : (slot + 1) * blocks]
                draw_real(words[2 * slot], real_low, real_width, here)
                if log_uniform:
                    exponentiate(here)
                if one_word:
                    there = x[slot * blocks : (slot + 1) * blocks]
                    draw_word(words[2 * slot + 1], acc_low[0], word_shift, there)
                else:
                    draw_with_real(
                        words[1], words[2], acc_kind, here, output_units, qmin, qmax, z[0],
                        acc_low[0], acc_span[0], center[0], spread[0], table, x,
                    )  # fmt: skip
            split_q31(real, q31, q31_exponent, bins)
            for k in range(schemes):
                rule, form = rules[k], rules[k, 0]
                checked = masked and not total[k]
                if floor:
                    if form == FLOOR:
                        if rule[1] != MANTISSA_Q31:
                            split(real, rule[1], q31, q31_exponent, value, exponent)
                        m, e = (q31, q31_exponent) if rule[1] == MANTISSA_Q31 else (value, exponent)
                        if masked:
                            if checked:
                                floor_drawn(x, m, e, rule, y[k])
                                floor_drawn_fits(
                                    x, real, m, e, rule, shift_low[k], shift_high[k], scale_low[k], scale_high[k],
                                    y[k], fits[k],
                                )  # fmt: skip
                            else:
                                floor_drawn_within(x, m, e, rule, y[k])
                        else:
                            floor_drawn_within(x, m, e, rule, y[k])
                if float32:
                    if form == FLOAT and rule[1] == 32:
                        float32_drawn(x, real, rule[2], rule[3], z[0], y[k])
                        if masked:
                            if checked:
                                float32_drawn_fits(
                                    x, real, rule[2], rule[3], z[0], not (clamped and rule[4]),
                                    scale_low[k], scale_high[k], fits[k],
                                )  # fmt: skip
                if float64:
                    if form == FLOAT and rule[1] == 64:
                        float64_drawn(x, real, y[k])
                        if masked:
                            if checked:
                                float64_drawn_fits(
                                    x, real, not (clamped and rule[4]), scale_low[k], scale_high[k], fits[k]
                                )  # fmt: skip
                if nested:
                    if form == NESTED16:
                        nested_drawn(x, real, z[0], scale_low[k], scale_high[k], y[k], fits[k])
                if masked:
                    all_fit[k] = 1
                    if checked:
                        out = count_zeros(fits[k, p:q])
                        outside[k] += out
                        all_fit[k] = out == 0
                    else:
                        fits[k, :] = 1
                if not bare[k]:
                    finish_runs(y[k], GROUP, one_run, low[k], high[k], z, add[k])
            compare_keys(
                y, fits, p, q, all_fit, bins, keys, base, lanes, differences, largest, witnesses
            )  # fmt: skip

    return kernel(tile_range)


def _forms(rules):
    """Which evaluators a set of rules needs: floor, float32, float64, nested."""
    form, width = rules[:, 0], rules[:, 1]
    return (
        bool((form == FLOOR).any()),
        bool(((form == FLOAT) & (width == 32)).any()),
        bool(((form == FLOAT) & (width == 64)).any()),
        bool((form == NESTED16).any()),
    )


def tile(work, start, stop):
    """Return the tally of pairs ``[start, stop)``: a dict of integer arrays, equal to the reference's."""
    schemes = work.rules.shape[0]
    couples = schemes * (schemes - 1) // 2
    counts = np.zeros((couples, BINS, 2), np.int64)
    rest = {
        "differences": np.zeros((couples, 8, 256), np.int64),
        "largest": np.zeros(couples, np.int64),
        "outside": np.zeros(schemes, np.int64),
        "witnesses": np.full((couples, work.witnesses), -1, np.int64),
    }
    bare = ((work.low <= INT32_MIN) & (work.high >= INT32_MAX)).all(axis=1) & ~(work.add[:, None] * work.z).any(1)
    key = np.uint64(work.key0), np.uint64(work.key1)
    masked, forms = not work.total.all(), _forms(work.rules)
    if work.kind == RANGE:
        lanes = np.zeros((couples, 8, 256), np.int64)
        range_kernel(work.word_shift >= 0, work.log_uniform, masked, *forms)(
            start, stop, *key, work.acc_kind, work.acc_low, work.acc_span, work.word_shift, work.center, work.spread,
            work.table, work.output_units, work.real_low, work.real_width, work.z, work.qmin,
            work.qmax, work.clamped, work.rules, work.low, work.high, work.add, work.shift_low, work.shift_high,
            work.scale_low, work.scale_high, work.total, bare, np.zeros(1, np.int64), lanes, *rest.values(),
        )  # fmt: skip
        by_key = lanes.sum(axis=1)
        counts[:, :, 0], counts[:, :, 1] = by_key[:, :DIFFERS], by_key[:, DIFFERS:]
        counts[:, OUTSIDE - DIFFERS, 1] = 0
    else:
        draw = _UNIFORM if work.word_shift < 0 else _ONE_WORD
        if work.acc_kind in (ACC_QUANTILE, ACC_SEQUENTIAL):
            draw = _QUANTILE if work.acc_kind == ACC_QUANTILE else _IN_ORDER
        table_kernel(draw, masked, *forms)(
            start, stop, *key, work.stride, RUN if work.channels > 1 else GROUP, work.acc_low, work.acc_span,
            work.word_shift, work.center, work.spread, work.table, work.z, work.rules, work.a, work.bp, work.bn,
            work.t, work.scale, work.domain_low, work.domain_high, work.low, work.high, work.add, work.bins,
            work.total, bare, ZERO, counts, *rest.values(),
        )  # fmt: skip
    cells = rest["differences"].sum(axis=1)[:, :DIFFERENCE_CELLS]
    cells[:, DIFFERENCE_LIMIT + 1] = 0
    return {"counts": counts, **rest, "differences": cells}
