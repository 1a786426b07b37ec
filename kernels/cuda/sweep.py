"""One sweep tile on a device: the tally of the reference, counted by blocks and put together on the host."""

from __future__ import annotations

import itertools
import weakref

import numpy as np

from ..codes import (
    ACC_UNIFORM,
    ACC_UNSATURATED,
    BIN_ORIGIN,
    BINS,
    DIFFERENCE_CELLS,
    FLOAT,
    FLOOR,
    GROUP,
    HALF_AWAY,
    HALF_EVEN,
    MANTISSA_Q31,
    RANGE,
    RUN,
)
from ..reference.requantize import floor_parameters
from . import exhaustive, load

THREADS = 256
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
#: Schemes and cells of one launch, as sweep.cu and sweep_cells.cuh lay out the shared memory.
SCHEMES, CELLS = 16, 7424
FIXED_CELLS = 1 + DIFFERENCE_CELLS
#: With more schemes, evaluating each of them once is cheaper than a kernel for each couple.
FAST_SCHEMES = 4
#: Blocks a multiprocessor, a segment each: enough that the last ones to end leave little idle.
BLOCKS = 32
#: Tasks of one launch that looks for witnesses.
TASKS = 1 << 16
GROUP_RUNS = GROUP // RUN

PLAN = np.dtype(
    [
        ("turn", np.uint64), ("real_low", np.float64), ("real_width", np.float64), ("clamp_low", np.float64),
        ("clamp_high", np.float64), ("key0", np.uint32), ("key1", np.uint32), ("drawn", np.int32),
        ("pairs_per_block", np.int32), ("acc_kind", np.int32), ("word_shift", np.int32), ("output_units", np.int32),
        ("log_uniform", np.int32), ("first_bin", np.int32), ("bins", np.int32),
    ]
)  # fmt: skip
SOURCE = np.dtype(
    [
        ("acc_low", np.int32), ("span", np.uint32), ("bin", np.int32), ("size", np.uint32), ("center", np.float64),
        ("spread", np.float64),
    ]
)  # fmt: skip
SCHEME = np.dtype(
    [
        ("form", np.int32), ("away", np.int32), ("inside", np.int32), ("row", np.int32), ("counted", np.int32),
        ("limited", np.int32), ("mantissa", np.int32), ("base", np.int32), ("flags", np.int32),
        ("shift_low", np.int32), ("shift_high", np.int32), ("low", np.int32), ("high", np.int32), ("z", np.int32),
        ("add", np.int32), ("spare", np.int32), ("scale_low", np.float64), ("scale_high", np.float64),
        ("bias", np.int64, 12),
    ]
)  # fmt: skip
SLOT = np.dtype(
    [
        ("p", np.int64), ("q", np.int64), ("a", np.int32), ("t", np.int32), ("domain_low", np.int32),
        ("domain_high", np.int32), ("low", np.int32), ("high", np.int32), ("z", np.int32), ("add", np.int32),
    ]
)  # fmt: skip
COUPLE = np.dtype([("first", SLOT), ("second", SLOT), ("source", SOURCE)])
_FLOOR, _FLOAT32, _FLOAT64, _NESTED16 = 0, 1, 2, 3


def _int32(values):
    return np.clip(values, INT32_MIN, INT32_MAX).astype(np.int32)


def _forms(work):
    """Return the form of each scheme, as the kernels number them."""
    float_form = np.where(work.rules[:, 1] == 64, _FLOAT64, _FLOAT32)
    return np.where(
        work.rules[:, 0] == FLOOR, _FLOOR, np.where(work.rules[:, 0] == FLOAT, float_form, _NESTED16)
    )  # fmt: skip


def _bins(work):
    """Return (first bin, cells): bin b is counted in cell ``b - first + 1``, bin 0 in cell 0."""
    if work.kind != RANGE:
        used = work.bins[work.bins > 0]
        return (int(used.min()), int(used.max() - used.min()) + 2) if used.size else (1, 1)
    ends = np.array([work.real_low, work.real_low + work.real_width])
    if work.log_uniform:
        first, last = int(np.floor(ends[0])), int(np.ceil(ends[1])) + 1
    else:
        first, last = (int(e) for e in np.frexp(ends)[1])
    # One exponent on each side covers the roundings of the draw and of the mantissa.
    first = max(first - 1, -31)
    return first + BIN_ORIGIN, max(last + 1 - first, 0) + 2


def _plan(work):
    plan = np.zeros(1, PLAN)
    first_bin, bins = _bins(work)
    plan["turn"], plan["key0"], plan["key1"] = work.channels, work.key0, work.key1
    plan["real_low"], plan["real_width"] = work.real_low, work.real_width * 2.0**-32
    plan["clamp_low"], plan["clamp_high"] = work.qmin - work.z[0], work.qmax - work.z[0]
    plan["drawn"], plan["pairs_per_block"] = work.kind == RANGE, work.pairs_per_block
    plan["acc_kind"], plan["word_shift"] = work.acc_kind, work.word_shift
    plan["output_units"], plan["log_uniform"] = work.output_units, work.log_uniform
    plan["first_bin"], plan["bins"] = first_bin, bins
    return plan


def _order(work):
    """Return the channel of each place: runs take channels in the order of a stride; a group's runs in a row."""
    place = np.arange(work.channels + GROUP_RUNS, dtype=np.int64) % work.channels
    return place * work.stride % work.channels


def _sources(work, plan, order):
    sources = np.zeros(order.size, SOURCE)
    sources["acc_low"], sources["span"] = work.acc_low[order], work.acc_span[order] - 1
    sources["size"] = work.acc_span[order] % 2**32
    bins = work.bins[order]
    sources["bin"] = np.where(bins > 0, bins - int(plan["first_bin"][0]) + 1, 0)
    sources["center"], sources["spread"] = work.center[order], work.spread[order]
    return sources


def _slots(work, forms, order):
    """Return the numbers of every scheme and place; a range of multipliers has none."""
    if work.kind == RANGE:
        return np.zeros((1, 1), SLOT)
    slots = np.zeros((forms.size, order.size), SLOT)
    for k, form in enumerate(forms):
        row = slots[k]
        row["a"], row["t"] = _int32(work.a[k, order]), work.t[k, order]
        row["p"], row["q"] = work.bp[k, order], work.bn[k, order]
        scale = work.scale[k, order]
        if form == _FLOAT32:
            row["a"] = scale.astype(np.float32).view(np.int32)
        elif form == _FLOAT64:
            row["p"] = scale.view(np.int64)
        low, high = work.domain_low[k, order], work.domain_high[k, order]
        empty = (low > high) | (low > INT32_MAX) | (high < INT32_MIN)
        row["domain_low"], row["domain_high"] = np.where(empty, 1, _int32(low)), np.where(empty, 0, _int32(high))
        row["low"], row["high"] = _int32(work.low[k, order]), _int32(work.high[k, order])
        row["z"], row["add"] = work.z[order], work.add[k] * work.z[order]
    return slots


def _schemes(work, forms):
    schemes = np.zeros(forms.size, SCHEME)
    rules = work.rules
    schemes["form"], schemes["row"] = forms, np.arange(forms.size)
    schemes["away"] = (rules[:, 0] == FLOAT) & (rules[:, 2] == HALF_AWAY)
    schemes["inside"] = (rules[:, 0] == FLOAT) & (rules[:, 3] != 0)
    schemes["limited"] = (rules[:, 4] == 0) | (not work.clamped)
    schemes["mantissa"], schemes["base"], schemes["flags"] = rules[:, 1], rules[:, 2], rules[:, 3]
    schemes["shift_low"], schemes["shift_high"] = work.shift_low, work.shift_high
    schemes["low"], schemes["high"] = _int32(work.low[:, 0]), _int32(work.high[:, 0])
    schemes["z"], schemes["add"] = work.z[0], work.add * work.z[0]
    schemes["scale_low"], schemes["scale_high"] = work.scale_low, work.scale_high
    schemes["bias"] = rules[:, 4:16]
    return schemes


def chunks(schemes, most):
    """Cut the couples of schemes into launches: at most `SCHEMES` of them and `most` couples a launch."""
    size = schemes if schemes <= SCHEMES else SCHEMES // 2
    groups = [range(k, min(k + size, schemes)) for k in range(0, schemes, size)]
    result = []
    for a, b in itertools.combinations_with_replacement(groups, 2):
        couples = [(i, j) for i in a for j in b if i < j]
        result += [couples[k : k + most] for k in range(0, len(couples), most)]
    return result


class Launch:
    """What one launch counts: some couples, and the schemes that they need.

    Attributes
    ----------
    couples : list of (int, int)
    rows : list of int
        Places of the couples among all.
    """

    def __init__(self, arrays, schemes, couples, counted):
        self.couples, self.arrays = couples, arrays
        used = sorted({k for couple in couples for k in couple})
        records = schemes[used]
        records["counted"] = [k not in counted for k in used]
        counted.update(used)
        self.count = len(used)
        self.schemes = arrays.asarray(records.view(np.uint8))
        self.local = arrays.asarray(np.array([[used.index(k) for k in couple] for couple in couples], np.uint8).ravel())


class Tables:
    """A sweep's numbers in the memory of one device."""

    def __init__(self, work, arrays):
        self.plan = _plan(work)
        self.bins = int(self.plan["bins"][0])
        self.width = FIXED_CELLS + 2 * self.bins
        forms, order = _forms(work), _order(work)
        schemes, slots, sources = _schemes(work, forms), _slots(work, forms, order), _sources(work, self.plan, order)
        self.places = slots.shape[1]
        self.plan_there, self.sources, self.schemes, self.slots = (
            arrays.asarray(np.ascontiguousarray(part).view(np.uint8)) for part in (self.plan, sources, schemes, slots)
        )
        self.table = arrays.asarray(work.table)
        count = forms.size
        self.couples = list(itertools.combinations(range(count), 2))
        counted: set[int] = set()
        self.launches = [Launch(arrays, schemes, couples, counted) for couples in chunks(count, CELLS // self.width)]
        self.order = [couple for launch in self.launches for couple in launch.couples]
        self.fast = self._fast(work, sources, schemes, slots, arrays) if count <= FAST_SCHEMES else []
        # Another thread may read all this on a stream of its own: it is there from here on.
        self.table[:1].get()

    def _fast(self, work, sources, schemes, slots, arrays):
        """Return the kernel of each couple, in the order of the launches; none if one couple has none."""
        fast = [Fast.of(work, couple, self, sources, schemes, slots, arrays) for couple in self.order]
        return [] if None in fast else fast


_there: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _tables(work, arrays, device):
    """Copy a sweep's numbers to a device once; they go where the sweep's work goes.

    Each worker thread has a device of its own, so that no two of them make the same tables.
    """
    on = _there.setdefault(work, {})
    if device not in on:
        on[device] = Tables(work, arrays)
    return on[device]


def _plain_floor(work, k):
    return work.rules[k, 0] == FLOOR


def _plain_float(work, k):
    """Whether scheme k is a float32 product rounded half to even, with nothing added inside."""
    rule = work.rules[k]
    return rule[0] == FLOAT and rule[1] == 32 and rule[2] == HALF_EVEN and rule[3] == 0


def _bare(work, order):
    """Whether the schemes' results stand as they are: no clamp, no zero point."""
    rows = list(order)
    whole = (work.low[rows] <= INT32_MIN).all() and (work.high[rows] >= INT32_MAX).all()
    return bool(whole and not (work.add[rows] * work.z[0]).any())


def _biases(work, order):
    """Return the biases of two floor forms by bin, by the sign of the accumulator, by scheme."""
    biases = np.zeros((BINS, 2, 2), np.int64)
    exponents = np.arange(BINS) - BIN_ORIGIN
    for place, k in enumerate(order):
        rule = work.rules[k]
        if rule[0] != FLOOR:
            continue
        mantissas, inside = np.ones(BINS, np.int64), np.clip(exponents, rule[2] - 62, rule[2] - 1)
        biases[:, 0, place], biases[:, 1, place], _ = floor_parameters(mantissas, inside, rule)
    return biases


class Fast:
    """A couple's own kernel, at whole groups of pairs.

    Attributes
    ----------
    name : str
    swapped : int
        Whether the kernel's first scheme is the couple's second.
    """

    def __init__(self, name, order, arguments):
        self.name, self.swapped, self.arguments = name, int(order[0] > order[1]), arguments

    @classmethod
    def of(cls, work, couple, tables, sources, schemes, slots, arrays):
        """Return the kernel of a couple, or None: two schemes that take every pair, one of them floor."""
        first = next((k for k in couple if _plain_floor(work, k)), None)
        if first is None or not work.total[list(couple)].all():
            return None
        second = couple[0] if first == couple[1] else couple[1]
        if not (_plain_floor(work, second) or _plain_float(work, second)):
            return None
        order = (first, second)
        other = "floor" if _plain_floor(work, second) else "float"
        if work.kind == RANGE:
            q31 = all(work.rules[k, 1] == MANTISSA_Q31 for k in order if _plain_floor(work, k))
            # Away from the exponents that are flushed every mantissa has 31 bits.
            normal = np.frexp(work.real_low)[1] >= -30
            if not (q31 and normal):
                return None
            biases = arrays.asarray(_biases(work, order).ravel())
            if not _bare(work, order) or work.word_shift < 0 or work.log_uniform:
                two = arrays.asarray(schemes[list(couple)].view(np.uint8))
                return cls(f"sweep_drawn_{other}", order, (
                    tables.plan_there, tables.sources, tables.table, two, biases,
                ))  # fmt: skip
            return cls(f"sweep_range_{other}", order, (
                work.key0, work.key1, work.real_low, work.real_width * 2.0**-32, work.acc_low[0], work.word_shift,
                tables.plan["first_bin"][0], tables.bins, biases,
            ))  # fmt: skip
        if work.acc_kind not in (ACC_UNIFORM, ACC_UNSATURATED):
            return None
        if work.word_shift >= 0:
            draw, serves = "word", _bare(work, order)
        else:
            draw, serves = "table", int(work.acc_span.max()) < 1 << 32
        if not serves:
            return None
        couples = np.zeros(sources.size, COUPLE)
        couples["first"], couples["second"], couples["source"] = slots[first], slots[second], sources
        return cls(f"sweep_{draw}_{other}", order, (
            work.key0, work.key1, max(work.word_shift, 0), arrays.asarray(couples.view(np.uint8)), work.channels,
            tables.bins,
        ))  # fmt: skip

    def launch(self, first, groups, size, segments, seen, totals, found):
        """Count `groups` whole groups from group `first` on, `size` of them a segment."""
        sums = (seen, totals) if self.name.startswith(("sweep_range", "sweep_drawn")) else (totals,)
        load.launch(
            "sweep", self.name, segments, THREADS, first, groups, size, *self.arguments, self.swapped, *sums, found
        )


def _segments(start, stop, processors):
    """Return (size, count): whole groups, less than 2**32 pairs, about `BLOCKS` a multiprocessor."""
    first = start // GROUP
    groups = max(-(-stop // GROUP) - first, 1)
    size = min(-(-groups // (BLOCKS * processors)), (1 << 31) // GROUP)
    return size * GROUP, -(-groups // size)


def _seen_in_table(work, start, stop):
    """Count the pairs of each bin where channels take turns: whole turns, and what is left of one."""
    seen = np.zeros(BINS, np.int64)
    channels = work.channels
    if channels == 1:
        seen[work.bins[0]] = stop - start
        return seen
    pairs = np.zeros(channels, np.int64)
    for edge, sign in ((stop, 1), (start, -1)):
        runs, rest = divmod(edge, RUN)
        turns, place = divmod(runs, channels)
        by_place = np.full(channels, turns * RUN, np.int64)
        by_place[:place] += RUN
        by_place[place] += rest
        pairs += sign * by_place
    np.add.at(seen, work.bins[_order(work)[:channels]], pairs)
    return seen


def _parts(start, stop, fast):
    """Cut a tile into (start, stop, fast?): whole groups where a kernel of its own takes them, and the two ends."""
    first, last = -(-start // GROUP) * GROUP, stop // GROUP * GROUP
    if not fast or first >= last:
        return [(start, stop, False)]
    parts = [(start, first, False), (first, last, True), (last, stop, False)]
    return [part for part in parts if part[0] < part[1]]


def tile(work, start, stop):
    """Return the tally of pairs ``[start, stop)``: a dict of integer arrays, equal to the reference's.

    Runs on the current device and stream, and waits for it: the tally lives on the host. In the worker threads of a
    sweep over several devices the current stream is the default one of each; one worker is the caller's thread.
    """
    if exhaustive.serves(work):
        return exhaustive.tile(work, start, stop)
    arrays, processors = load.array_module(), load.multiprocessors()
    tables = _tables(work, arrays, load.device_number())
    count, couples, bins, width = work.rules.shape[0], tables.couples, tables.bins, tables.width
    parts = [(*part, *_segments(part[0], part[1], processors)) for part in _parts(start, stop, tables.fast)]
    segments = sum(part[-1] for part in parts)
    sums = arrays.zeros(bins + count + width * len(couples), np.uint64)
    seen, outside, totals = sums[:bins], sums[bins : bins + count], sums[bins + count :]
    found = arrays.empty(len(couples) * segments, np.uint32)
    edges, place = [np.array([start])], 0
    for begin, end, fast, size, number in parts:
        edges.append(np.minimum(begin // GROUP * GROUP + size * np.arange(1, number + 1), end))
        if fast:
            for k, kernel in enumerate(tables.fast):
                kernel.launch(
                    begin // GROUP, (end - begin) // GROUP, size // GROUP, number,
                    arrays.zeros(bins, np.uint64) if k else seen,  # pairs of a bin are counted once
                    totals[k * width :], found[k * segments + place :],
                )  # fmt: skip
        else:
            _launch_any(tables, begin, end, size, number, seen, outside, totals, found[place:], segments)
        place += number
    rows = [tables.order.index(couple) for couple in couples]
    sums = sums.get().astype(np.int64)
    cells = sums[bins + count :].reshape(len(couples), width)[rows]
    by_bin = _spread(tables, sums[:bins]) if work.kind == RANGE else _seen_in_table(work, start, stop)
    differ = _spread(tables, cells[:, FIXED_CELLS + bins :])
    counts = np.stack([by_bin - _spread(tables, cells[:, FIXED_CELLS : FIXED_CELLS + bins]) - differ, differ], axis=2)
    witnesses = np.full((len(couples), work.witnesses), -1, np.int64)
    if work.witnesses and differ.any():
        by_segment = found.get().reshape(len(couples), segments)[rows]
        _witnesses(tables, arrays, by_segment.astype(np.int64), np.concatenate(edges), witnesses)
    return {
        "counts": counts,
        "differences": np.ascontiguousarray(cells[:, 1:FIXED_CELLS]),
        "largest": np.maximum(cells[:, 0], differ.any(axis=1)),
        "outside": sums[bins : bins + count],
        "witnesses": witnesses,
    }


def _launch_any(tables, start, stop, size, number, seen, outside, totals, found, segments):
    """Count pairs of any schemes, some couples a launch."""
    done = 0
    for launch in tables.launches:
        here = len(launch.couples)
        load.launch(
            "sweep", "sweep_any", number, THREADS, start, stop, size, tables.plan_there, tables.sources, tables.table,
            launch.schemes, launch.count, tables.slots, tables.places, launch.local, here, done == 0, seen, outside,
            totals[done * tables.width :], found[done * segments :], segments,
        )  # fmt: skip
        done += here


def _spread(tables, cells):
    """Return counts by cell as counts by bin."""
    by_bin = np.zeros((*cells.shape[:-1], BINS), np.int64)
    first = int(tables.plan["first_bin"][0])
    by_bin[..., first : first + tables.bins - 1] = cells[..., 1:]
    by_bin[..., 0] += cells[..., 0]
    return by_bin


def _witnesses(tables, arrays, by_segment, edges, witnesses):
    """Fill in the smallest indices of differing pairs: the first segments in which they lie are gone through again."""
    most = witnesses.shape[1]
    before = np.cumsum(by_segment, axis=1) - by_segment
    couple, segment = np.nonzero((by_segment > 0) & (before < most))
    wanted = np.minimum(by_segment[couple, segment], most - before[couple, segment])
    pair = np.array(tables.couples, np.int64)[couple]
    where = couple * most + before[couple, segment]
    tasks = np.column_stack([edges[segment], edges[segment + 1], wanted, where, pair]).astype(np.uint64)
    there = arrays.full(witnesses.size, -1, np.int64)
    for k in range(0, len(tasks), TASKS):
        part = arrays.asarray(np.ascontiguousarray(tasks[k : k + TASKS]))
        load.launch(
            "sweep", "sweep_witnesses", len(tasks[k : k + TASKS]), THREADS, part, tables.plan_there, tables.sources,
            tables.table, tables.schemes, tables.slots, tables.places, there,
        )  # fmt: skip
    witnesses[...] = there.get().reshape(witnesses.shape)
