"""Which indices of a long run are done, and the merged result of those: in memory, and in a checkpoint.

Results of index ranges merge in any order, so it does not matter which tiles the ranges came in: a run that goes on
cuts what is left into tiles of its own.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from .checkpoint import Checkpoint
from .run import Tile, cut

T = TypeVar("T")


class Spans:
    """Disjoint ranges ``[start, stop)`` of indices, neighbours joined.

    Examples
    --------
    >>> spans = Spans()
    >>> [spans.add(*one) for one in ((0, 4), (8, 9), (4, 6), (5, 8), (8, 9))]      # the last two overlap
    [True, True, True, False, False]
    >>> str(spans), spans.size, spans.gaps(10)
    ('0-6 8-9', 7, [(6, 8), (9, 10)])
    """

    def __init__(self) -> None:
        self._edges: list[int] = []  # start, stop, start, stop ... ascending

    def add(self, start: int, stop: int) -> bool:
        """Add a range; False, and nothing changes, if some of it is there already."""
        edges = self._edges
        k = bisect_right(edges, start)
        if k % 2 or (k < len(edges) and edges[k] < stop) or start >= stop:
            return False
        before, after = k > 0 and edges[k - 1] == start, k < len(edges) and edges[k] == stop
        edges[k - before : k + after] = [start] * (not before) + [stop] * (not after)
        return True

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._edges[::2], self._edges[1::2], strict=True)

    @property
    def size(self) -> int:
        """Number of indices; not the length, which lists are made for beforehand."""
        return sum(self._edges[1::2]) - sum(self._edges[::2])

    def __str__(self) -> str:
        return " ".join(f"{start}-{stop}" for start, stop in self)

    def gaps(self, end: int) -> list[tuple[int, int]]:
        """Return what is missing of ``[0, end)``."""
        edges = [0, *self._edges, end]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def ranges_of(key: str) -> list[tuple[int, int]]:
    """Return the ranges that a line of a ledger is of, in the order of its key; ValueError if it is none."""
    return [(int(start), int(stop)) for start, stop in (one.split("-") for one in key.split(" ")[1:])]


class Ledger(Generic[T]):
    """The merged result of the finished ranges of ``[0, end)``, each counted once.

    Parameters
    ----------
    end : int
        Number of indices.
    empty : T
        The result of no index.
    merge : callable(T, T) -> T
        Associative and commutative; leaves both as they are.
    kept : Checkpoint, optional
        Where results are recorded, and those of an earlier run are found.
    scope : str
        Which of the ledgers of a checkpoint this is; no space in it.
    pack, unpack : callable
        A result as plain data, and back (ValueError, TypeError or LookupError where it is none).

    A context manager: what is finished when it ends, by an error too, is recorded.

    Attributes
    ----------
    total : T
    resumed : int
        Indices that the checkpoint held.

    Examples
    --------
    >>> with Ledger(10, 0, int.__add__) as ledger:
    ...     for tile in ledger.tiles(4):
    ...         ledger.add(tile, len(tile))
    >>> ledger.total
    10
    """

    def __init__(
        self, end: int, empty: T, merge: Callable[[T, T], T], *, kept: Checkpoint | None = None, scope: str = "tiles",
        pack: Callable[[T], Any] | None = None, unpack: Callable[[Any], T] | None = None,
    ) -> None:  # fmt: skip
        self.total = empty
        self._end, self._empty, self._merge, self._kept, self._scope = end, empty, merge, kept, scope
        self._pack, self._spans, self._new, self._fresh = pack, Spans(), Spans(), empty
        self._half = False
        if kept is not None and unpack is not None:
            for key in kept.keys(f"{scope} "):
                self._take_over(kept, key, unpack)
        self.resumed = self._spans.size

    def _take_over(self, kept: Checkpoint, key: str, unpack: Callable[[Any], T]) -> None:
        """Count what a line holds, unless some of its indices are counted already: those are done again."""
        try:
            ranges = ranges_of(key)
            total = self._merge(self.total, unpack(kept.get(key)))
        except (ValueError, TypeError, LookupError, OverflowError):
            kept.left_out()
            return
        line, spans = Spans(), [*self._spans]
        if not all(stop <= self._end and line.add(start, stop) for start, stop in ranges):
            kept.left_out()
            return
        joined = Spans()
        for start, stop in spans:
            joined.add(start, stop)
        if all(joined.add(start, stop) for start, stop in line):
            self._spans, self.total = joined, total

    def tiles(self, size: int) -> Iterator[Tile]:
        """Return tiles of at most `size` indices of what is missing now."""
        return itertools.chain.from_iterable(cut(stop, size, start) for start, stop in self._spans.gaps(self._end))

    def stopped(self) -> bool:
        """Tell whether the process was asked to end."""
        return self._kept is not None and self._kept.terminated

    def add(self, tile: Tile, value: T) -> None:
        """Count the result of a tile, once, and record what is new if it is time."""
        half, self._half = self._half, True
        if self._spans.add(tile.start, tile.stop):
            self.total = self._merge(self.total, value)
            if self._kept is not None:
                self._new.add(tile.start, tile.stop)
                self._fresh = self._merge(self._fresh, value)
        self._half = half
        if self._kept is not None and self._kept.due():
            self.flush()

    def flush(self, *, hold: bool = False) -> None:
        """Record what is new; nothing, if an interruption has left it half counted. `hold`: as `Checkpoint.put`."""
        if self._kept is None or self._pack is None or self._half or not self._new.size:
            return
        if self._kept.put(f"{self._scope} {self._new}", self._pack(self._fresh), hold=hold, lazy=True) or hold:
            self._new, self._fresh = Spans(), self._empty

    def __enter__(self) -> Ledger[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self.flush(hold=True)
