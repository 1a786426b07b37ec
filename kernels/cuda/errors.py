"""Error statistics of many quantizers on a device: all tiles of a piece of a tensor in a few launches."""

from __future__ import annotations

import weakref

import numpy as np

from ..codes import (
    AFFINE_FAST,
    AFFINE_QMAX,
    AFFINE_QMIN,
    COUNTS,
    ERROR_BINS,
    FAST_FLOAT32,
    FAST_FLOAT64,
    FIELDS,
)
from . import load

THREADS, FAST_THREADS, WARP = 256, 128, 32
#: Elements of a piece, and quantizers that the fast loop takes together (errors.cuh, errors_fast.cuh).
PIECE, TOGETHER = 8192, 4
#: Runs of one channel of at least this many elements are cut into pieces for warps; shorter ones make columns.
LONG_RUN = 4 * WARP
#: Parts of a tile that columns are cut into, about: 256 elements a thread.
COLUMN_PARTS = 4096
#: Where a row of columns is wider than this, a part takes all columns of a run.
WIDE = 1 << 16
#: Codes without their zero point up to this: a lane's sum of 256 squares is exact in float32.
LARGEST_CODE = 256.0
#: Scales whose float32 numbers are normal, and their squares too.
LEAST_SCALE, LARGEST_SCALE = 2.0**-60, 2.0**60
#: Tiles a launch, and bytes of what its parts find.
TILES, ROOM = 64, 1 << 28
_ENDLESS = 1 << 62


class _Plan:
    """A plan's numbers on the device, and which quantizers the fast loops take."""

    def __init__(self, length, channels, rows, layouts, places, scales, zero_points, numbers, format_rows,
                 format_numbers, starts):  # fmt: skip
        arrays = load.array_module()
        self.channels = channels
        self.length = _ENDLESS if channels == 1 else length
        self.quantizers, self.levels = rows.shape[0], 0 if starts is None else int(starts[-1])
        self.counting = starts is not None
        nothing = np.zeros(1, np.int64)
        self.numbers = [
            arrays.asarray(np.ascontiguousarray(array).reshape(-1))
            for array in (
                rows, layouts, places, scales, zero_points, numbers,
                nothing if format_rows is None else format_rows,
                nothing.astype(np.float64) if format_numbers is None else format_numbers,
            )
        ]  # fmt: skip
        self.starts = arrays.asarray(starts if self.counting else nothing)
        self._fast = {64: [], 32: []}
        ends = [*places[1:].tolist(), scales.size]
        for k in range(self.quantizers):
            kind = {FAST_FLOAT64: 64, FAST_FLOAT32: 32}.get(int(rows[k, AFFINE_FAST]))
            mine = slice(int(places[k]), int(ends[k]))
            if kind and self.length >= LONG_RUN and self._small(rows[k], layouts[k], scales[mine], zero_points[mine]):
                self._fast[kind].append(k)
        self._lists = {}

    def _small(self, row, layout, scales, zero_points):
        """Whether the fast loop holds a quantizer's codes exactly, and its pieces have one scale each."""
        reach = np.maximum(np.abs(row[AFFINE_QMIN] - zero_points), np.abs(row[AFFINE_QMAX] - zero_points)).max()
        inside = scales.min() > LEAST_SCALE and scales.max() < LARGEST_SCALE
        whole = scales.size == 1 or (layout[1] >= layout[0] and layout[0] == self.length)
        return bool(reach <= LARGEST_CODE and inside and whole)

    def lists(self, single):
        """Return (float64 fast, float32 fast, other) quantizers, each a list and the same as a device array."""
        if single not in self._lists:
            fast64, fast32 = self._fast[64], self._fast[32] if single else []
            other = sorted(set(range(self.quantizers)) - {*fast64, *fast32})
            arrays = load.array_module()
            self._lists[single] = [(k, arrays.asarray(np.array(k, np.int32))) for k in (fast64, fast32, other)]
        return self._lists[single]


class Prepared:
    """A plan that tiles are measured by, prepared once for each device that it meets."""

    def __init__(self, arguments):
        self._arguments = arguments
        self._on = {}

    def here(self):
        """Return the plan's numbers on the current device."""
        device = load.device_number()
        if device not in self._on:
            self._on[device] = _Plan(*self._arguments)
        return self._on[device]


def _cuts(plan, size):
    """Return (pieces a run, pieces a tile, slices a tile): the last is 0 where warps take pieces.

    Of columns: (columns of a part, parts of a slice, slices a tile). A tile has no more parts than elements. Which
    element is in which part depends on `size` in no other way than how many parts there are.
    """
    if plan.length >= LONG_RUN:
        per_run = -(-min(plan.length, size) // PIECE)
        return per_run, per_run * (1 if plan.channels == 1 else (size - 1) // plan.length + 2), 0
    width = plan.length * plan.channels
    if width > WIDE:
        return plan.length, _channels_seen(plan, size), 1
    return 1, min(width, size), max(1, min(-(-size // width), COLUMN_PARTS // width))


def _channels_seen(plan, size):
    """Return how many channels a tile meets at most."""
    return min(plan.channels, (size - 1) // plan.length + 2)


def tiles_at_once(prepared, size):
    """Return how many tiles of `size` elements a call should be given."""
    plan = prepared.here()
    _, per_tile, slices = _cuts(plan, size)
    left = 0 if slices else 8 * WARP
    item = plan.quantizers * (8 * FIELDS + 4 * COUNTS + left) + 16
    results = _channels_seen(plan, size) * (plan.quantizers * (8 * FIELDS + 8 * COUNTS) + 16)
    return max(1, min(TILES, ROOM // (max(slices, 1) * per_tile * item + results)))


def tiles(prepared, x, first, size):
    """Return (sums, counts, extremes, code counts, error bins, bad, firsts) of the tiles of flat x.

    Waits for the device. What it takes there beside x grows with the elements of x times the quantizers, at most.

    Parameters
    ----------
    prepared : Prepared
    x : contiguous 1-D float32 or float64 device array
        Its element 0 is element `first` of the tensor, and begins a tile.
    size : int
        Elements of a tile; the last tile may be shorter.

    Returns
    -------
    sums, counts, extremes : (tiles, quantizers, channels, ...) and (tiles, channels, 2) arrays
        Of the channels that a tile meets, from that of its first element on; behind the last one comes the first.
    code_counts, bins : int64 arrays
        Of all tiles together.
    bad : (tiles, 2) int64 array
        (count, first index) of what is not finite.
    firsts : list of int
        The channel of each tile's first element.
    """
    plan, arrays, n = prepared.here(), load.array_module(), x.size
    size = min(size, n)
    per_run, per_tile, slices = _cuts(plan, size)
    count = -(-n // size)
    parts, seen = count * max(slices, 1) * per_tile, _channels_seen(plan, size)
    sums = arrays.empty((parts, plan.quantizers, FIELDS), np.float64)
    counts = arrays.empty((parts, plan.quantizers, COUNTS), np.uint32)
    ends = arrays.empty((parts, 2), np.float64)
    bad = arrays.full((count, 2), 0, np.uint64)
    bad[:, 1] = 2**63 - 1
    codes = arrays.zeros(max(plan.levels, 1), np.uint64)
    bins = arrays.zeros((plan.quantizers if plan.counting else 1, ERROR_BINS), np.uint64)
    left = arrays.empty(1 if slices else parts * plan.quantizers * WARP, np.uint64)
    shape = size, plan.length, plan.channels, per_run, per_tile, slices
    last = sums, counts, ends, bad, plan.counting, plan.starts, codes, bins
    suffix = f"f{8 * x.dtype.itemsize}"
    fast64, fast32, other = plan.lists(x.dtype == np.float32)
    watches = True

    def start(name, threads, together, list_, leftovers, watching):
        served, which = list_
        groups = -(-len(served) // together)
        each = 1 if slices else WARP  # threads a part
        threads = min(threads, -(-parts * each // WARP) * WARP)
        items = -(-parts * each // threads)
        blocks = groups * max(1, min(items, 2048 // threads * load.multiprocessors()))
        load.launch(
            "errors", f"{name}_{suffix}", blocks, threads, first, n, x, *shape, plan.quantizers, len(served), which,
            *plan.numbers, leftovers, left, watching, *last,
        )  # fmt: skip

    for list_, name in ((fast64, "errors_fast64"), (fast32, "errors_fast32")):
        if list_[0]:
            start(name + "_counted" * plan.counting, FAST_THREADS, TOGETHER, list_, False, watches)
            start("errors_runs", THREADS, 1, list_, True, watches)
            watches = False
    if other[0]:
        if slices:
            start("errors_columns", FAST_THREADS, 1, other, False, watches)
        else:
            start("errors_runs", THREADS, 1, other, False, watches)
    cells = count * plan.quantizers * seen
    out = arrays.empty((count, plan.quantizers, seen, FIELDS), np.float64)
    out_counts = arrays.empty((count, plan.quantizers, seen, COUNTS), np.int64)
    extremes = arrays.empty((count, seen, 2), np.float64)
    most = 16 * load.multiprocessors()
    blocks = min(-(-cells * (FIELDS + COUNTS) // 128), most)
    load.launch(
        "errors", "errors_combine", blocks, 128, first, n, *shape, plan.quantizers, sums, counts, out, out_counts
    )
    load.launch("errors", "errors_ends", min(-(-count * seen // 128), most), 128, first, n, *shape, ends, extremes)
    found = out.get(), out_counts.get(), extremes.get(), codes.get(), bins.get(), bad.get()
    code_counts = found[3].view(np.int64)[: plan.levels]
    bins = found[4].view(np.int64)[: plan.quantizers * plan.counting]
    firsts = [(first + k * size) // plan.length % plan.channels for k in range(count)]
    return *found[:3], code_counts, bins, found[5].view(np.int64), firsts


_prepared: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def prepare(plan):
    """Return what `tiles` takes for an error plan, once a plan: what is on devices goes where the plan goes."""
    if plan not in _prepared:
        _prepared[plan] = Prepared(plan.arguments)
    return _prepared[plan]
