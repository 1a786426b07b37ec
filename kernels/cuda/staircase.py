"""Staircases on a device, from host arrays to host arrays: what `qengine.kernels.cpu.staircase` writes."""

from __future__ import annotations

import numpy as np

from ..codes import FLOAT, FLOOR, HALF_AWAY
from . import load

THREADS = 256
#: Kind of a rule row whose thresholds the caller gives.
GIVEN = -1
#: Whether rules have closed forms here; where not, the caller gives all thresholds.
CLOSED = True
#: Channels of a tile, and thresholds: 64 MiB.
TILE, THRESHOLDS = 1 << 20, 1 << 23
FORM_FLOOR, FORM_FLOAT32, FORM_FLOAT64, FORM_NESTED16, FORM_GIVEN = range(5)


def blocks(threads):
    """Return the blocks of a launch for so many independent threads."""
    return max(1, min(-(-threads // THREADS), 32 * load.multiprocessors()))


def forms(rules):
    """Return (form, away, inside) of each rule row, int32, as the kernels number them."""
    of_float = np.where(rules[:, 1] == 64, FORM_FLOAT64, FORM_FLOAT32)
    form = np.where(rules[:, 0] == FLOOR, FORM_FLOOR, np.where(rules[:, 0] == FLOAT, of_float, FORM_NESTED16))
    form[rules[:, 0] == GIVEN] = FORM_GIVEN
    is_float = rules[:, 0] == FLOAT
    away, inside = is_float & (rules[:, 2] == HALF_AWAY), is_float & (rules[:, 3] != 0)
    return np.stack([form, away, inside], axis=1).astype(np.int32)


def _table(rules, a, bp, bn, t, scale, z, shift, low, high, given, first, n):
    """Return the thresholds on the device: (K, n + 1, C), flat."""
    arrays = load.array_module()
    sides, channels = z.shape
    numbers = np.stack([a, bp, bn, t, z, shift, low, high]).astype(np.int64)
    table = arrays.empty(sides * (n + 1) * channels, np.int64)
    load.launch(
        "staircase", "thresholds", blocks(table.size), THREADS, sides, channels, first, n,
        arrays.asarray(forms(rules).ravel()), arrays.asarray(numbers.ravel()),
        arrays.asarray(np.ascontiguousarray(scale, np.float64).ravel()),
        arrays.asarray(np.append(given.ravel(), 0) if given.size == 0 else given.ravel()), table,
    )  # fmt: skip
    return table


def thresholds(rules, a, bp, bn, t, scale, z, shift, low, high, given, first, n, out):
    """Write the thresholds of K sides in C channels: row ``k C + c`` of n + 1 columns, the first ``-2**31``."""
    table = _table(rules, a, bp, bn, t, scale, z, shift, low, high, given, first, n).get()
    out[...] = table.reshape(z.shape[0], n + 1, z.shape[1]).transpose(0, 2, 1).reshape(out.shape)


def compare(
    rules, a, bp, bn, t, scale, z, shift, low, high, given, domain_low, domain_high, first, n, values, cumulative,
    full, out,
):  # fmt: skip
    """Compare every pair of sides in every channel, as `qengine.kernels.cpu.staircase.compare` does."""
    arrays = load.array_module()
    sides, channels = z.shape
    table = _table(rules, a, bp, bn, t, scale, z, shift, low, high, given, first, n)
    size, own = values.shape[1], int(values.shape[0] > 1)
    values = arrays.asarray(values.ravel() if size else np.zeros(1, np.int64))
    cumulative = arrays.asarray(np.ascontiguousarray(cumulative).ravel())
    if size:
        load.launch(
            "staircase", "weigh", blocks(table.size), THREADS, table.size, channels, own, size, values, cumulative,
            table,
        )  # fmt: skip
    result = arrays.empty(out.size, np.int64)
    load.launch(
        "staircase", "compare", blocks(max(out.shape[1] * out.shape[2], 1)), THREADS, sides, channels, n, table,
        arrays.asarray(domain_low.ravel()), arrays.asarray(domain_high.ravel()), own, size, values, cumulative,
        bool(full), result,
    )  # fmt: skip
    out[...] = result.get().reshape(out.shape)
