"""The divergent pairs of two clamped floor forms over all mantissas, written as divisor sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backends.forms import I64


@dataclass(frozen=True, slots=True)
class DivisorSums:
    """Sums ``sum over m of clip(floor(w / m), low, high)`` and how often each enters the two totals."""

    w: I64
    low: I64
    high: I64
    count: tuple[int, ...]
    signed: tuple[int, ...]


#: Biases for x >= 0 and x < 0, shift, bounds of the result, zero point.
Numbers = tuple[int, int, int, int, int, int]


def divisor_sums(a: Numbers, b: Numbers, qmin: int, qmax: int, lo: int, hi: int, last: int) -> DivisorSums:
    """Write the divergent pairs of two clamped floor forms over mantissas up to `last` as divisor sums.

    A result of r or more begins at ``floor(w / m) + 1``, ``w = r 2**t - bp - 1``, where that is not negative, and at
    ``-floor(u / m)``, ``u = bn - r 2**t``, where that is: so at ``floor(max(w, -1) / m) + 1 - floor(max(u, 0) / m)``,
    for at most one of the two is not zero, the forms being monotone. Both parts are clipped to the accumulators.
    (w, u) stands for the threshold; of two thresholds the greater has the greater w and the less u, for every m. Code
    by code, A and B differ between their two thresholds, but for what lies below the greater one of the code before.

    Parameters
    ----------
    a, b : (bp, bn, t, low, high, z)
        ``clip(floor((m x + (bp if x >= 0 else bn)) / 2**t), low, high) + z``, monotone for every mantissa.
    qmin, qmax : int
        Closed range of all outputs.
    lo, hi : int
        Closed range of accumulators within int32, not empty.
    last : int
        Greatest mantissa, at most ``2**31 - 1``.

    Returns
    -------
    DivisorSums
        ``-1 <= w <= 2**62 + 2**31``, ``-1 <= low <= high <= 2**31``.
    """
    stop = hi + 1
    above = max(lo, 0) - 1, max(stop, 0) - 1
    below = max(-stop, 0), max(-lo, 0)
    # Where the quotient by every mantissa exceeds what it is clipped to.
    never, always = (above[1] + 1) * last, (below[1] + 1) * last

    def threshold(numbers: Numbers, k: int) -> tuple[int, int]:
        bp, bn, t, low, high, z = numbers
        if k - z <= low:
            return -1, always
        if k - z > high:
            return never, 0
        edge = (k - z) << t
        return min(max(edge - bp - 1, -1), never), min(max(bn - edge, 0), always)

    parts: dict[tuple[int, bool], list[int]] = {}

    def add(at: tuple[int, int], total: int, factor: int) -> None:
        parts.setdefault((at[0], True), [0, 0])[total] += factor
        parts.setdefault((at[1], False), [0, 0])[total] -= factor

    before = (-1, always)
    for k in range(qmin + 1, qmax + 1):
        p, q = threshold(a, k), threshold(b, k)
        greater, less = (max(p[0], q[0]), min(p[1], q[1])), (min(p[0], q[0]), max(p[1], q[1]))
        add(greater, 0, 1)
        add((max(less[0], before[0]), min(less[1], before[1])), 0, -1)
        add(p, 1, 1)
        add(q, 1, -1)
        before = greater
    kept = [(key, factors) for key, factors in parts.items() if any(factors)]
    bounds = [above if upward else below for (_, upward), _ in kept]
    return DivisorSums(
        np.array([w for (w, _), _ in kept], dtype=np.int64),
        np.array([low for low, _ in bounds], dtype=np.int64),
        np.array([high for _, high in bounds], dtype=np.int64),
        tuple(factors[0] for _, factors in kept),
        tuple(factors[1] for _, factors in kept),
    )
