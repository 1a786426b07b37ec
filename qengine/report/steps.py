"""The outputs of schemes for the accumulators around one: a staircase to draw, and where two of them differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..backends.forms import INT32_MAX, INT32_MIN
from ..exact.comparison import SchemeComparison

I64 = npt.NDArray[np.int64]
#: Output codes to either side; accumulators to either side at least and at most.
CODES, NEAR, FAR = 4, 6, 1 << 16


@dataclass(frozen=True, eq=False)
class Steps:
    """What schemes give around an accumulator.

    Attributes
    ----------
    acc : int
    accumulators : int64 array
        All that are shown, ascending.
    lines : list of (names, accumulators, outputs)
        Schemes that agree wherever they are defined among those shown are together; the largest group comes first.
    first, second : str
        The two that are compared.
    differing, outputs : int64 arrays
        Accumulators shown on which the two differ, and what the first gives there.
    """

    acc: int
    accumulators: I64
    lines: list[tuple[tuple[str, ...], I64, I64]]
    first: str
    second: str
    differing: I64
    outputs: I64

    @classmethod
    def around(cls, comparison: SchemeComparison, acc: int, first: str, second: str) -> Steps:
        """Evaluate the sides of a comparison of one channel, `CODES` output codes to either side of `acc`."""
        real = float(comparison.reals[0])
        reach = max(math.ceil(CODES / real), NEAR) if real > CODES / FAR else FAR
        x = np.arange(max(acc - reach, INT32_MIN), min(acc + reach, INT32_MAX) + 1, dtype=np.int64)
        groups: dict[bytes, tuple[list[str], I64, I64]] = {}
        found: dict[str, tuple[I64, I64]] = {}
        for side in comparison.sides:
            inside = x[(x >= side.low[0]) & (x <= side.high[0])]
            if inside.size:
                given = side.evaluate(inside[None], "cpu")[0]
                found[side.scheme.name] = inside, given
                key = inside[:1].tobytes() + given.tobytes()
                groups.setdefault(key, ([], inside, given))[0].append(side.scheme.name)
        lines = [(tuple(names), accs, outputs) for names, accs, outputs in groups.values()]
        lines.sort(key=lambda line: -len(line[0]))
        differing = outputs = np.empty(0, np.int64)
        if first in found and second in found:
            (a, left), (b, right) = found[first], found[second]
            both = np.intersect1d(a, b)
            left, right = left[np.isin(a, both)], right[np.isin(b, both)]
            differing, outputs = both[left != right], left[left != right]
        return cls(acc, x, lines, first, second, differing, outputs)

    def nearest(self, most: int) -> list[int]:
        """Return up to so many of the differing accumulators, the nearest ones to `acc`, ascending."""
        order = np.argsort(np.abs(self.differing - self.acc), kind="stable")[:most]
        return sorted(self.differing[order].tolist())
