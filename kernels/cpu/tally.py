"""Counting where schemes differ, on the CPU.

Whole arrays are passed with rows i, j and places [p, q): a slice costs a reference count, an index does not.
"""

import numpy as np

from ..codes import DIFFERENCE_LIMIT
from .jit import inner, wide

#: Bit of a key (see `_keys`) that says that a pair differs; the lower bits are its bin.
DIFFERS = 128
#: Key of a pair outside a domain: the last bin, of an exponent that no multiplier of a range has.
OUTSIDE = 255


@inner
def _differing(y, i, j, p, q):
    wide()
    count = np.int32(0)
    for k in range(np.uint64(p), np.uint64(q)):
        count += np.int32(y[i, k] != y[j, k])
    return np.int64(count)


@inner
def _both_and_differing(y, fits, i, j, p, q):
    wide()
    both, differ = np.int32(0), np.int32(0)
    for k in range(np.uint64(p), np.uint64(q)):
        ok = np.int32(fits[i, k] & fits[j, k])
        both += ok
        differ += ok & np.int32(y[i, k] != y[j, k])
    return np.int64(both), np.int64(differ)


@inner
def _unit_differences(y, i, j, p, q):
    """Counts of differences of exactly +1 and -1 (modulo 2**32 those are true ones: |d| <= 2**32 - 2)."""
    wide()
    up, down = np.int32(0), np.int32(0)
    for k in range(np.uint64(p), np.uint64(q)):
        d = np.int32(y[i, k] - y[j, k])
        up += np.int32(d == 1)
        down += np.int32(d == -1)
    return np.int64(up), np.int64(down)


@inner
def _count_keys(keys, p, q, lanes, couple):
    """Histogram of keys in eight interleaved copies, so that no addition waits for the one before."""
    k = p
    while k + 8 <= q:
        lanes[couple, 0, keys[k]] += 1
        lanes[couple, 1, keys[k + 1]] += 1
        lanes[couple, 2, keys[k + 2]] += 1
        lanes[couple, 3, keys[k + 3]] += 1
        lanes[couple, 4, keys[k + 4]] += 1
        lanes[couple, 5, keys[k + 5]] += 1
        lanes[couple, 6, keys[k + 6]] += 1
        lanes[couple, 7, keys[k + 7]] += 1
        k += 8
    while k < q:
        lanes[couple, 0, keys[k]] += 1
        k += 1


@inner
def _difference_keys(y, fits, i, j, masked, p, q, keys):
    """Write a cell of the histogram of differences for each place; return the largest size."""
    wide()
    largest = np.int64(0)
    limit = DIFFERENCE_LIMIT + 1
    if masked:
        for k in range(np.uint64(p), np.uint64(q)):
            d = (np.int64(y[i, k]) - np.int64(y[j, k])) * np.int64(fits[i, k] & fits[j, k])
            largest = max(largest, abs(d))
            keys[k] = np.uint8(min(max(d, -limit), limit) + limit)
    else:
        for k in range(np.uint64(p), np.uint64(q)):
            d = np.int64(y[i, k]) - np.int64(y[j, k])
            largest = max(largest, abs(d))
            keys[k] = np.uint8(min(max(d, -limit), limit) + limit)
    return largest


@inner
def _record(y, fits, i, j, masked, p, q, base, differ, up, down, keys, lanes, couple, largest, witnesses):
    """Count the differences by size and keep the first witnesses; return the largest size so far.

    `up` and `down` count the differences of +1 and -1, or are 0 where that was not looked at. `lanes` counts by
    cell in interleaved copies; the cell of difference 0 counts pairs that agree, or are outside
    a domain, where some difference is not +-1: it means nothing.
    """
    if up + down == differ:
        lanes[couple, 0, DIFFERENCE_LIMIT + 2] += up
        lanes[couple, 0, DIFFERENCE_LIMIT] += down
        largest = max(largest, 1)
    else:
        largest = max(largest, _difference_keys(y, fits, i, j, masked, p, q, keys))
        _count_keys(keys, p, q, lanes, couple)
    taken = 0
    while taken < witnesses.shape[1] and witnesses[couple, taken] >= 0:
        taken += 1
    k = p
    while taken < witnesses.shape[1] and k < q:
        if y[i, k] != y[j, k] and (not masked or (fits[i, k] and fits[j, k])):
            witnesses[couple, taken] = base + k
            taken += 1
        k += 1
    return largest


@inner
def compare_runs(
    y, fits, p, q, all_fit, run, run_channel, bins_of, base, keys, counts, differences, largest, witnesses
):  # fmt: skip
    """Tally every couple of schemes over places ``[p, q)`` of a group, run by run."""
    couple = np.int64(0)  # typed: a literal 0 would compile what takes it twice
    for i in range(y.shape[0]):
        for j in range(i + 1, y.shape[0]):
            masked = not (all_fit[i] and all_fit[j])
            total = np.int64(0)
            for r in range(p // run, (q + run - 1) // run):
                u, v = max(p, r * run), min(q, (r + 1) * run)
                if masked:
                    both, differ = _both_and_differing(y, fits, i, j, u, v)
                else:
                    both, differ = v - u, _differing(y, i, j, u, v)
                b = bins_of[run_channel[r]]
                counts[couple, b, 0] += both - differ
                counts[couple, b, 1] += differ
                total += differ
            if total:
                up, down = np.int64(0), np.int64(0)
                if not masked:
                    up, down = _unit_differences(y, i, j, p, q)
                largest[couple] = _record(
                    y, fits, i, j, masked, p, q, base, total, up, down, keys,
                    differences, couple, largest[couple], witnesses,
                )  # fmt: skip
            couple += 1


@inner
def _keys(y, i, j, bins, p, q, keys):
    """Write each pair's key; return how many differ, and by +1 and -1 (see `_unit_differences`)."""
    wide()
    differ, up, down = np.int32(0), np.int32(0), np.int32(0)
    for k in range(np.uint64(p), np.uint64(q)):
        d = np.int32(y[i, k] - y[j, k])
        keys[k] = bins[k] + np.uint8(DIFFERS if d != 0 else 0)
        differ += np.int32(d != 0)
        up += np.int32(d == 1)
        down += np.int32(d == -1)
    return np.int64(differ), np.int64(up), np.int64(down)


@inner
def _masked_keys(y, fits, i, j, bins, keys):
    """Like `_keys`; pairs outside a domain go to a key of their own."""
    wide()
    for k in range(y.shape[1]):
        key = bins[k] + DIFFERS * (y[i, k] != y[j, k])
        keys[k] = np.uint8(key if fits[i, k] & fits[j, k] else OUTSIDE)


@inner
def compare_keys(y, fits, p, q, all_fit, bins, keys, base, lanes, differences, largest, witnesses):
    """Tally every couple of schemes over places ``[p, q)``, each pair into its own bin."""
    couple = np.int64(0)  # typed: a literal 0 would compile what takes it twice
    for i in range(y.shape[0]):
        for j in range(i + 1, y.shape[0]):
            masked = not (all_fit[i] and all_fit[j])
            up, down = np.int64(0), np.int64(0)
            if masked:
                _, differ = _both_and_differing(y, fits, i, j, p, q)
                _masked_keys(y, fits, i, j, bins, keys)
            else:
                differ, up, down = _keys(y, i, j, bins, p, q, keys)
            _count_keys(keys, p, q, lanes, couple)
            if differ:
                largest[couple] = _record(
                    y, fits, i, j, masked, p, q, base, differ, up, down, keys,
                    differences, couple, largest[couple], witnesses,
                )  # fmt: skip
            couple += 1
