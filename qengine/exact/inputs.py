"""The accumulators on which two schemes differ, as an ascending sequence that is worked out on demand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..backends.cpu import thread_count
from ..exceptions import DomainError, DTypeError
from . import lattice, scan, staircase
from .sides import Side

I64 = npt.NDArray[np.int64]
#: Accumulators that a scan passes over at a time while it looks for a rank.
STRIDE = scan.TILE


class _Finder(Protocol):
    """What an engine knows about one channel's divergent accumulators in ``[low, high]``."""

    @property
    def count(self) -> int:
        """How many there are."""

    def next(self, x: int) -> int | None:
        """Return the least one that is >= x."""

    def ranked(self, ranks: I64) -> I64:
        """Return those of the given ranks, each in ``[0, count)``, in any order."""

    def blocks(self, low: int, high: int) -> Iterator[I64]:
        """Yield those in ``[low, high]``, ascending."""


class _Lattice:
    def __init__(self, a: Side, b: Side, low: int, high: int) -> None:
        self.a, self.b, self.low, self.high = a, b, low, high
        self.count = int(lattice.count(a, b, np.array([low]), np.array([high]))[0])

    def next(self, x: int) -> int | None:
        return lattice.next_divergent(self.a, self.b, 0, max(x, self.low), self.high)

    def ranked(self, ranks: I64) -> I64:
        return lattice.ranked(self.a, self.b, 0, self.low, self.high, ranks)

    def blocks(self, low: int, high: int) -> Iterator[I64]:
        return lattice.iterate(self.a, self.b, 0, low, high)


class _Staircase:
    def __init__(self, a: Side, b: Side, low: int, high: int) -> None:
        pieces = staircase.intervals(a, b, 0, low, high) if low <= high else []
        self.starts = np.array([piece.first for piece in pieces], dtype=np.int64)
        self.sizes = np.array([piece.size for piece in pieces], dtype=np.int64)
        self.before = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self.count = int(self.before[-1])

    def next(self, x: int) -> int | None:
        at = int(np.searchsorted(self.starts + self.sizes, x, "right"))
        return None if at == self.starts.size else max(x, int(self.starts[at]))

    def ranked(self, ranks: I64) -> I64:
        at = np.searchsorted(self.before, ranks, "right") - 1
        return np.asarray(self.starts[at] + ranks - self.before[at])

    def blocks(self, low: int, high: int) -> Iterator[I64]:
        for start, size in zip(self.starts.tolist(), self.sizes.tolist(), strict=True):
            stop = min(start + size, high + 1)
            for begin in range(max(start, low), stop, scan.BLOCK):
                yield np.arange(begin, min(begin + scan.BLOCK, stop), dtype=np.int64)


class _Scan:
    def __init__(self, a: Side, b: Side, low: int, high: int) -> None:
        self.a, self.b, self.low, self.high = a, b, low, high

    @cached_property
    def counts(self) -> I64:
        """Divergent accumulators of each stride."""
        starts = range(self.low, self.high + 1, STRIDE)
        return np.array([self._scan(x, min(x + STRIDE - 1, self.high)).divergent for x in starts], dtype=np.int64)

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def _scan(self, low: int, high: int) -> scan.Scanned:
        return scan.scan((self.a, self.b), 0, low, high, thread_count())[0, 1]

    def next(self, x: int) -> int | None:
        x, size = max(x, self.low), scan.BLOCK
        while x <= self.high:
            found = self._scan(x, min(x + size - 1, self.high)).first
            if found is not None:
                return found
            x, size = x + size, min(2 * size, 1 << 28)
        return None

    def ranked(self, ranks: I64) -> I64:
        before = np.concatenate([[0], np.cumsum(self.counts)])
        at = np.searchsorted(before, ranks, "right") - 1
        out = np.zeros(ranks.size, np.int64)
        for stride in np.unique(at):
            start = self.low + int(stride) * STRIDE
            inside = np.concatenate([*self.blocks(start, min(start + STRIDE - 1, self.high))])
            chosen = at == stride
            out[chosen] = inside[ranks[chosen] - before[stride]]
        return out

    def blocks(self, low: int, high: int) -> Iterator[I64]:
        return scan.blocks(self.a, self.b, 0, low, high)


_FINDERS: dict[str, type[Any]] = {"lattice": _Lattice, "staircase": _Staircase, "scan": _Scan}


class DivergentInputs:
    """The divergent accumulators of two schemes in one channel: ascending, counted, never all in memory.

    Make one with `qengine.divergent_inputs`.

    Attributes
    ----------
    low, high : int
        Closed range on which both schemes are defined and which was asked for; empty where low > high.
    engine : str
        Who finds them: ``lattice``, ``staircase`` or ``scan``.
    channel : int
        Which channel of the parameters.
    """

    def __init__(self, a: Side, b: Side, low: int, high: int, engine: str, channel: int = 0) -> None:
        self.low, self.high, self.engine, self.channel = low, high, engine, channel
        self._a, self._b = a, b

    @cached_property
    def _finder(self) -> _Finder:
        found: _Finder = _FINDERS[self.engine](self._a, self._b, self.low, self.high)
        return found

    @property
    def count(self) -> int:
        """How many there are."""
        return self._finder.count if self.low <= self.high else 0

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return self.next(self.low) is not None

    def __iter__(self) -> Iterator[int]:
        for block in self.blocks():
            yield from block.tolist()

    def blocks(self) -> Iterator[I64]:
        """Yield them in int64 arrays, ascending, none empty."""
        if self.low <= self.high:
            yield from (block for block in self._finder.blocks(self.low, self.high) if block.size)

    def intervals(self) -> Iterator[tuple[int, int]]:
        """Yield them as closed intervals that do not touch."""
        start = stop = None
        for block in self.blocks():
            cuts = np.flatnonzero(np.diff(block) > 1)
            firsts = block[np.concatenate([[0], cuts + 1])].tolist()
            lasts = block[np.concatenate([cuts, [block.size - 1]])].tolist()
            for first, last in zip(firsts, lasts, strict=True):
                if stop is not None and first == stop + 1:
                    stop = last
                    continue
                if start is not None and stop is not None:
                    yield start, stop
                start, stop = first, last
        if start is not None and stop is not None:
            yield start, stop

    @property
    def first(self) -> int | None:
        """The least one, or None."""
        return self.next(self.low)

    @property
    def last(self) -> int | None:
        """The greatest one, or None."""
        return self[-1] if self.count else None

    def next(self, x: int) -> int | None:
        """Return the least one that is ``>= x``, or None."""
        if isinstance(x, bool) or not isinstance(x, (int, np.integer)):
            raise DTypeError(f"x must be an integer; got {x!r}.")
        start = max(int(x), self.low)
        return self._finder.next(start) if start <= self.high else None

    def __getitem__(self, k: int) -> int:
        """Return the one of rank k, 0 the least; negative ranks count from the end.

        Raises
        ------
        DomainError
            If there are not as many.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
            raise DTypeError(f"a rank must be an integer; got {k!r}.")
        if not -self.count <= k < self.count:
            raise DomainError(f"a rank must be in [{-self.count}, {self.count - 1}]; got {int(k)}.")
        return int(self._finder.ranked(np.array([k % self.count], dtype=np.int64))[0])

    def random(self, size: int, seed: int = 0) -> I64:
        """Return independent draws, each uniform over all of them; the same for the same seed.

        Raises
        ------
        DomainError
            If there are none to draw from, or for a size or seed out of range.
        """
        for name, value, most in (("size", size, 1 << 30), ("seed", seed, (1 << 64) - 1)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise DTypeError(f"{name} must be an integer; got {value!r}.")
            if not 0 <= value <= most:
                raise DomainError(f"{name} must be in [0, {most}]; got {value}.")
        if not self.count:
            raise DomainError(f"no accumulator in [{self.low}, {self.high}] is divergent: there is none to draw.")
        generator = np.random.Generator(np.random.Philox(seed))
        return self._finder.ranked(generator.integers(0, self.count, size=size, dtype=np.int64))

    def outputs(self, x: int) -> tuple[int, int]:
        """Return the outputs of both schemes for an accumulator in ``[low, high]``, divergent or not."""
        if isinstance(x, bool) or not isinstance(x, (int, np.integer)):
            raise DTypeError(f"x must be an integer; got {x!r}.")
        if not self.low <= x <= self.high:
            raise DomainError(f"x must be in [{self.low}, {self.high}]; got {int(x)}.")
        one = np.array([[x]], dtype=np.int64)
        return int(self._a.evaluate(one)[0, 0]), int(self._b.evaluate(one)[0, 0])
