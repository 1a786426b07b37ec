"""Brute force: every accumulator of an interval through the sweep kernel.

Exact for every scheme and every output, at a few pairs a nanosecond: the fall-back where neither the lattice nor the
staircase engine applies (a float or nested form whose output is wide), and what both are held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import ACC_SEQUENTIAL, DIFFERENCE_CELLS, DIFFERENCE_LIMIT, TABLE

from .. import backends
from ..backends.forms import FloorRule
from ..backends.pairs import Work
from ..requant.forms import adds_zero_point_after
from ..work.checkpoint import Checkpoint
from ..work.cluster import ClusterExecutor
from ..work.ledger import Ledger
from ..work.run import Tile, cut, run
from .sides import Side

I64 = npt.NDArray[np.int64]
#: Accumulators a tile of the kernel, and a block that is listed.
TILE, BLOCK = 1 << 24, 1 << 16
#: Tiles of this machine that make one of a cluster at most.
REMOTE = 16
#: Above every accumulator.
NONE = 1 << 62


def scan_work(sides: Sequence[Side], channel: int, low: int, high: int, witnesses: int = 1) -> Work:
    """Return what the sweep kernel reads to pass over accumulators ``[low, high]`` of one channel in order.

    The sides have one zero point and one clamp.
    """
    shape = (len(sides), 1)

    def column(name: str, of: str, fill: float, dtype: Any = np.int64) -> npt.NDArray[Any]:
        values = np.full(shape, fill, dtype=dtype)
        for k, side in enumerate(sides):
            array = getattr(getattr(side, of), name) if of else getattr(side, name)
            if array.size:
                values[k, 0] = array[channel]
        return values

    domain_low, domain_high = column("low", "", 1), column("high", "", 0)
    first = sides[0].epilogue
    zero, none = np.zeros(1, np.float64), np.zeros(0, np.int64)
    return Work(
        kind=TABLE, key0=0, key1=0, pairs_per_block=4, channels=1, stride=1, acc_kind=ACC_SEQUENTIAL,
        acc_low=np.array([low]), acc_span=np.array([high - low + 1]), word_shift=-1, center=zero, spread=zero,
        output_units=False, table=np.zeros(2), real_low=0.0, real_width=0.0, log_uniform=False,
        z=first.zero_point[channel : channel + 1].copy(), qmin=first.qmin, qmax=first.qmax, clamped=first.clamped,
        rules=np.stack([side.form.rule.encode() for side in sides]),
        a=column("a", "form", 0), bp=column("bp", "form", 0), bn=column("bn", "form", 0), t=column("t", "form", 1),
        scale=column("scale", "form", 1.0, np.float64), domain_low=domain_low, domain_high=domain_high,
        low=column("low", "epilogue", 0), high=column("high", "epilogue", 0),
        add=np.array([adds_zero_point_after(side.form.rule) for side in sides], np.int64),
        bins=np.zeros(1, np.int64), shift_low=none, shift_high=none, scale_low=zero, scale_high=zero,
        total=np.asarray(((domain_low <= low) & (domain_high >= high)).all(axis=1)), witnesses=witnesses,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan found of two sides.

    Attributes
    ----------
    divergent, largest : int
        Accumulators with different outputs; the largest absolute difference.
    histogram : dict, optional
        ``{B - A: accumulators}`` without 0, or None where `largest` exceeds what the kernel tells apart.
    first : int, optional
        The least divergent accumulator.
    last_tile : int, optional
        Where the last tile with a divergent accumulator begins.
    """

    divergent: int = 0
    largest: int = 0
    histogram: dict[int, int] | None = field(default_factory=dict)
    first: int | None = None
    last_tile: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What the tiles of some ranges found of all couples; merges in any order.

    ``first`` and ``last_tile`` are relative to the lowest accumulator, and `NONE` or -1 where nothing differs.
    """

    divergent: I64
    largest: I64
    differences: I64
    first: I64
    last_tile: I64

    @classmethod
    def none(cls, couples: int) -> _Found:
        zero = np.zeros(couples, np.int64)
        return cls(zero, zero, np.zeros((couples, DIFFERENCE_CELLS), np.int64), zero + NONE, zero - 1)

    @classmethod
    def of(cls, start: int, raw: dict[str, I64]) -> _Found:
        divergent = raw["counts"][:, :, 1].sum(axis=1)
        differ = divergent > 0
        first, last_tile = np.where(differ, raw["witnesses"][:, 0], NONE), np.where(differ, start, -1)
        return cls(divergent, raw["largest"], raw["differences"], first, last_tile)

    def merged(self, other: _Found) -> _Found:
        return _Found(
            self.divergent + other.divergent, np.maximum(self.largest, other.largest),
            self.differences + other.differences, np.minimum(self.first, other.first),
            np.maximum(self.last_tile, other.last_tile),
        )  # fmt: skip

    def pack(self) -> list[Any]:
        couples, cells = np.nonzero(self.differences)
        columns = (self.divergent, self.largest, self.first, self.last_tile, couples, cells)
        return [*(column.tolist() for column in columns), self.differences[couples, cells].tolist()]

    def unpack(self, data: Any) -> _Found:
        """Return what `pack` wrote, of as many pairs as this one; ValueError and the like if it is none."""
        divergent, largest, first, last_tile, couples, cells, counts = (np.array(one, np.int64) for one in data)
        if not divergent.shape == largest.shape == first.shape == last_tile.shape == (self.divergent.size,):
            raise ValueError("columns of other lengths than there are pairs of schemes")
        differences = np.zeros((divergent.size, DIFFERENCE_CELLS), np.int64)
        differences[couples, cells] = counts
        return _Found(divergent, largest, differences, first, last_tile)


@dataclass(frozen=True, slots=True, eq=False)
class ScanTask:
    """What a tile of a scan finds: the kernel's plain arrays, of one channel, are all that it needs."""

    work: Work
    names: tuple[str, ...]

    def __call__(self, start: int, stop: int) -> _Found:
        """Scan a tile, in steps of `TILE`."""
        engine, found = backends.load("cpu"), _Found.none(len(self.names) * (len(self.names) - 1) // 2)
        for tile in cut(stop, TILE, start):
            found = found.merged(_Found.of(tile.start, engine.sweep_tile(self.work, tile.start, tile.stop)))
        return found

    def __str__(self) -> str:
        return f"the scan of {', '.join(self.names)} from accumulator {int(self.work.acc_low[0])}"


def scan(
    sides: Sequence[Side], channel: int, low: int, high: int, workers: int = 1,
    progress: Callable[[int], None] | None = None, kept: Checkpoint | None = None,
    executor: ClusterExecutor | None = None,
) -> dict[tuple[int, int], Scanned]:  # fmt: skip
    """Compare every two sides over accumulators ``[low, high]`` of one channel, all in one pass.

    Returns
    -------
    dict
        ``{(i, j): Scanned}`` for i != j, over the accumulators of both domains.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C: half a count is none; a checkpoint keeps it.
    """
    couples = [(i, j) for i in range(len(sides)) for j in range(i + 1, len(sides))]
    if low > high:
        return {(i, j): Scanned() for i in range(len(sides)) for j in range(len(sides)) if i != j}
    task = ScanTask(scan_work(sides, channel, low, high), tuple(one.scheme.name for one in sides))
    size = TILE if executor is None else executor.share(high - low + 1, TILE, REMOTE * TILE)
    with Ledger(
        high - low + 1, _Found.none(len(couples)), _Found.merged, kept=kept, scope=f"channel={channel}",
        pack=_Found.pack, unpack=_Found.none(len(couples)).unpack,
    ) as ledger:  # fmt: skip
        if progress is not None and ledger.resumed:
            progress(ledger.resumed)

        def add(tile: Tile, one: _Found) -> None:
            ledger.add(tile, one)
            if progress is not None:
                progress(len(tile))

        if not run(ledger.tiles(size), task, add, workers=workers, executor=executor, stopped=ledger.stopped):
            raise KeyboardInterrupt
    total = ledger.total
    found: dict[tuple[int, int], Scanned] = {}
    for c, (i, j) in enumerate(couples):
        size, differences = int(total.largest[c]), total.differences[c]
        cells = {int(k) - DIFFERENCE_LIMIT - 1: int(differences[k]) for k in np.flatnonzero(differences)}
        ends = (low + int(total.first[c]), low + int(total.last_tile[c])) if total.divergent[c] else (None, None)
        for pair, sign in (((i, j), -1), ((j, i), 1)):  # the kernel counts the earlier side minus the later
            told = {sign * d: n for d, n in cells.items()} if size <= DIFFERENCE_LIMIT else None
            found[pair] = Scanned(int(total.divergent[c]), size, told, *ends)
    return found


def scan_pairs(
    sides: Sequence[Side], pairs: Sequence[tuple[int, int]], channel: int, low: int, high: int, workers: int = 1,
    progress: Callable[[int], None] | None = None, kept: Checkpoint | None = None,
    executor: ClusterExecutor | None = None,
) -> list[Scanned]:  # fmt: skip
    """Compare some pairs of sides in one pass; sides with the same numbers are evaluated once."""
    place: dict[Any, int] = {}
    distinct: list[Side] = []
    for k in sorted({k for pair in pairs for k in pair}):
        key = _numbers(sides[k], channel)
        if key not in place:
            place[key] = len(distinct)
            distinct.append(sides[k])
        place[k] = place[key]
    if not distinct:
        return []
    low, high = (
        max(low, min(int(one.low[channel]) for one in distinct)),
        min(high, max(int(one.high[channel]) for one in distinct)),
    )
    found = scan(distinct, channel, low, high, workers, progress, kept, executor)
    return [found[place[i], place[j]] if place[i] != place[j] else Scanned() for i, j in pairs]


def _numbers(side: Side, channel: int) -> tuple[Any, ...]:
    """Return all that decides a side's outputs and domain in a channel."""
    form, e, rule = side.form, side.epilogue, side.form.rule
    arrays = (form.a, form.bp, form.bn, form.t, form.scale, e.zero_point, e.low, e.high, side.low, side.high)
    row = rule.encode()
    kind = row[:1].tolist() if isinstance(rule, FloorRule) else row.tolist()
    return (*kind, *(array[channel].item() if array.size else None for array in arrays))


def blocks(a: Side, b: Side, channel: int, low: int, high: int) -> Iterator[I64]:
    """Yield the divergent accumulators in ``[low, high]`` of one channel, ascending, block by block."""
    low = max(low, int(a.low[channel]), int(b.low[channel]))
    high = min(high, int(a.high[channel]), int(b.high[channel]))
    pair = a.take(np.array([channel])), b.take(np.array([channel]))
    for start in range(low, high + 1, BLOCK):
        x = np.arange(start, min(start + BLOCK, high + 1), dtype=np.int64)
        y, z = (side.evaluate(x[None], "cpu")[0] for side in pair)
        found = x[y != z]
        if found.size:
            yield found
