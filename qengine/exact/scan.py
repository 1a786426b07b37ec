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
from ..work.run import Tile, cut, run
from .sides import Side

I64 = npt.NDArray[np.int64]
#: Accumulators a tile of the kernel, and a block that is listed.
TILE, BLOCK = 1 << 24, 1 << 16


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


def scan(
    sides: Sequence[Side], channel: int, low: int, high: int, workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[tuple[int, int], Scanned]:  # fmt: skip
    """Compare every two sides over accumulators ``[low, high]`` of one channel, all in one pass.

    Returns
    -------
    dict
        ``{(i, j): Scanned}`` for i != j, over the accumulators of both domains.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C: half a count is none.
    """
    couples = [(i, j) for i in range(len(sides)) for j in range(i + 1, len(sides))]
    if low > high:
        return {(i, j): Scanned() for i in range(len(sides)) for j in range(len(sides)) if i != j}
    engine, work = backends.load("cpu"), scan_work(sides, channel, low, high)
    divergent, largest = (np.zeros(len(couples), np.int64) for _ in range(2))
    differences = np.zeros((len(couples), DIFFERENCE_CELLS), np.int64)
    first, last_tile = dict[int, int](), dict[int, int]()

    def merge(tile: Tile, raw: dict[str, I64]) -> None:
        differ = raw["counts"][:, :, 1].sum(axis=1)
        divergent[:] += differ
        differences[:] += raw["differences"]
        np.maximum(largest, raw["largest"], out=largest)
        for c in np.flatnonzero(differ).tolist():
            x = low + int(raw["witnesses"][c, 0])
            first[c] = min(x, first.get(c, x))
            last_tile[c] = max(low + tile.start, last_tile.get(c, low + tile.start))
        if progress is not None:
            progress(len(tile))

    if not run(cut(high - low + 1, TILE), lambda p, q: engine.sweep_tile(work, p, q), merge, workers=workers):
        raise KeyboardInterrupt
    found: dict[tuple[int, int], Scanned] = {}
    for c, (i, j) in enumerate(couples):
        size = int(largest[c])
        cells = {int(k) - DIFFERENCE_LIMIT - 1: int(differences[c, k]) for k in np.flatnonzero(differences[c])}
        for pair, sign in (((i, j), -1), ((j, i), 1)):  # the kernel counts the earlier side minus the later
            told = {sign * d: n for d, n in cells.items()} if size <= DIFFERENCE_LIMIT else None
            found[pair] = Scanned(int(divergent[c]), size, told, first.get(c), last_tile.get(c))
    return found


def scan_pairs(
    sides: Sequence[Side], pairs: Sequence[tuple[int, int]], channel: int, low: int, high: int, workers: int = 1,
    progress: Callable[[int], None] | None = None,
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
    found = scan(distinct, channel, low, high, workers, progress)
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
