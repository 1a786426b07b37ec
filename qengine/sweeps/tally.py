"""What tiles count, and how counts merge: associative, independent of the order of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import BIN_ORIGIN, DIFFERENCE_LIMIT

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts of one or more tiles; couples (i, j) with i < j in lexicographic order.

    Attributes
    ----------
    counts : (couples, bins, 2)
        Pairs that agree and that differ, by the exponent of the multiplier.
    differences : (couples, cells)
        Differing pairs by ``output_i - output_j``: ``-LIMIT .. LIMIT`` one by one, the ends hold the rest.
    largest : (couples,)
        Largest absolute difference.
    outside : (schemes,)
        Pairs outside each scheme's domain.
    witnesses : (couples, W)
        Smallest indices of differing pairs, ascending, padded with -1.
    pairs : int
        Pairs drawn.
    """

    counts: I64
    differences: I64
    largest: I64
    outside: I64
    witnesses: I64
    pairs: int

    @classmethod
    def of(cls, raw: dict[str, I64], pairs: int) -> Tally:
        """Wrap the arrays that a kernel returned for a tile of `pairs` pairs."""
        return cls(**raw, pairs=pairs)

    def merged(self, other: Tally) -> Tally:
        """Return the tally of the pairs of both, which are of one plan and share none."""
        both = np.concatenate([self.witnesses, other.witnesses], axis=1)
        unsigned = np.sort(both.view(np.uint64), axis=1)  # -1 is the largest: padding stays at the end
        return Tally(
            counts=self.counts + other.counts,
            differences=self.differences + other.differences,
            largest=np.maximum(self.largest, other.largest),
            outside=self.outside + other.outside,
            witnesses=unsigned[:, : self.witnesses.shape[1]].view(np.int64).copy(),
            pairs=self.pairs + other.pairs,
        )

    def pack(self) -> list[Any]:
        """Return what is not zero as plain data, for a checkpoint."""
        couples = []
        for c in range(self.largest.size):
            bins, cells = np.flatnonzero(self.counts[c].any(axis=1)), np.flatnonzero(self.differences[c])
            found = self.witnesses[c][self.witnesses[c] >= 0]
            couples.append(
                [
                    bins.tolist(), self.counts[c, bins].ravel().tolist(), cells.tolist(),
                    self.differences[c, cells].tolist(), int(self.largest[c]), found.tolist(),
                ]
            )  # fmt: skip
        return [self.pairs, self.outside.tolist(), couples]

    def unpack(self, data: Any) -> Tally:
        """Return the tally that `pack` wrote, of the plan of this one; ValueError and the like if it is none."""
        pairs, outside, couples = data
        one = Tally(
            np.zeros_like(self.counts), np.zeros_like(self.differences), np.zeros_like(self.largest),
            np.zeros_like(self.outside), np.full_like(self.witnesses, -1), int(pairs),
        )  # fmt: skip
        one.outside[:] = outside
        for c, (bins, counts, cells, differences, largest, witnesses) in zip(
            range(one.largest.size), couples, strict=True
        ):
            one.counts[c, bins] = np.array(counts, np.int64).reshape(-1, 2)
            one.differences[c, cells] = differences
            one.largest[c] = largest
            one.witnesses[c, : len(witnesses)] = witnesses
        return one

    def by_right_shift(self, couple: int) -> dict[int | None, tuple[int, int]]:
        """Return {right shift: (compared, divergent)}; negative is a left shift, None a zero multiplier."""
        split: dict[int | None, tuple[int, int]] = {}
        for b in np.flatnonzero(self.counts[couple].any(axis=1))[::-1]:
            same, differ = (int(n) for n in self.counts[couple, b])
            split[BIN_ORIGIN - int(b) if b else None] = (same + differ, differ)
        return split

    def histogram(self, couple: int) -> dict[int, int]:
        """Return {difference: pairs}; the two ends, ``+-(LIMIT + 1)``, hold everything beyond."""
        cells = np.flatnonzero(self.differences[couple])
        return {int(c) - DIFFERENCE_LIMIT - 1: int(self.differences[couple, c]) for c in cells}

    def describe(self) -> dict[str, Any]:
        """Return all counts as plain data, for the digest."""
        return {
            "pairs": self.pairs,
            "outside": self.outside.tolist(),
            "couples": [
                {
                    "by_right_shift": [
                        ["zero" if n is None else n, *counts] for n, counts in self.by_right_shift(c).items()
                    ],
                    "histogram": [[d, n] for d, n in self.histogram(c).items()],
                    "largest": int(self.largest[c]),
                    "witnesses": [int(i) for i in self.witnesses[c] if i >= 0],
                }
                for c in range(self.largest.size)
            ],
        }
