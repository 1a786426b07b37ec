"""Methods that choose a real range: percentile, search of the least squared error, entropy.

Results are (low, high), float64, one a segment; `qengine.affine.calibrate` states each method in full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import Progress
from ..exceptions import DomainError
from .params import Target
from .segments import Segments

Reals = npt.NDArray[np.float64]
Pair = tuple[Reals, Reals]
#: A run of the search: (scale, zero point, unit, best cost, index), all a segment, the last two changed in place.
Run = Callable[[Reals, Reals, Reals, Reals, npt.NDArray[np.int64]], None]

#: A candidate wins only if its cost is less than this times the least cost before it.
MARGIN = 1.0 - 1e-12
#: Sweeps over one end and the other, after the one over both.
ROUNDS = 8
#: Candidate scales held at a time.
_HELD = 1 << 20
#: Float64 samples above this are searched at 2**-64 of their size: no product overflows.
_LARGE = 2.0**1000
ENTROPY_BINS, ENTROPY_BITS, ENTROPY_SMOOTHING = 2048, 11, 1e-4
_CONVERTED = 1 << 22


def interpolate(a: Reals, b: Reals, t: float) -> Reals:
    """Return ``a + (b - a) t`` for ``a <= b``, from the nearer end as NumPy does, without overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        width = b - a
        near = a + width * t if t < 0.5 else b - width * (1.0 - t)
        return np.where(np.isinf(width), a * (1.0 - t) + b * t, near)


def _quantile(values: npt.NDArray[Any], fraction: float) -> Reals:
    """Return the quantile along the last axis, linear between ranks ``floor`` and ``ceil`` of ``(n - 1) fraction``."""
    rank = (values.shape[-1] - 1) * fraction
    below = int(rank)
    above = min(below + 1, values.shape[-1] - 1)
    parted = backends.arrays_of(values).partition(values, sorted({below, above}), axis=-1)
    a, b = (backends.to_host(parted[..., k]).astype(np.float64) for k in (below, above))
    return interpolate(a, b, rank - below)


def percentile(segments: Segments, holes: bool, symmetric: bool, p: float) -> Pair:
    """Return the range of a percentile of each segment; with `holes`, NaN samples are left out."""
    arrays = backends.arrays_of(segments.rows)

    def one(values: npt.NDArray[Any]) -> tuple[Any, Any]:
        if symmetric:
            high = _quantile(arrays.abs(values), p / 100)
            return -high, high
        return _quantile(values, (100 - p) / 100), _quantile(values, p / 100)

    low, high = np.empty(segments.count), np.empty(segments.count)
    for view, place in segments.blocks():
        if not holes:
            low[place], high[place] = one(view)
            continue
        flat = view.reshape(-1, view.shape[-1])
        pairs = np.array([one(row[~arrays.isnan(row)]) for row in flat])
        low[place], high[place] = (pairs[:, k].reshape(view.shape[:-1]) for k in range(2))
    return low, high


def weighted_percentile(values: Reals, counts: npt.NDArray[np.int64], symmetric: bool, p: float) -> tuple[float, float]:
    """Return the range of a percentile of values that occur `counts` times."""
    if symmetric:
        values = np.abs(values)
        order = np.argsort(values, kind="stable")
        values, counts = values[order], counts[order]
    ends = np.cumsum(counts)

    def quantile(fraction: float) -> float:
        rank = (int(ends[-1]) - 1) * fraction
        below = int(rank)
        a, b = (values[np.searchsorted(ends, min(k, ends[-1] - 1), side="right")] for k in (below, below + 1))
        return float(interpolate(a, b, rank - below))

    high = quantile(p / 100)
    return (-high, high) if symmetric else (quantile((100 - p) / 100), high)


def _shrunk(end: Reals, pivot: Reals, fractions: Reals) -> Reals:
    """Return the candidates of an end, from the end itself towards the pivot, on a new last axis."""
    end, pivot = end[..., None], pivot[..., None]
    return np.where(fractions == 1.0, end, pivot + (end - pivot) * fractions)


def search(low: Reals, high: Reals, target: Target, candidates: int, run: Run) -> Pair:
    """Search shrunk ranges for the least cost; `run` evaluates candidates of every segment."""
    fractions = np.arange(candidates, 0, -1) / candidates
    best, index = np.full(low.shape, np.inf), np.empty(low.shape, np.int64)

    def attempt(lows: Reals, highs: Reals) -> tuple[Pair, bool]:
        lows, highs = np.broadcast_arrays(lows, highs)
        scale, zero_point = target.affine(lows, highs)
        exponent = np.frexp(scale[..., 0])[1]
        unit = np.ldexp(1.0, np.clip(-exponent, -1021, 1022)) if not fixed else fixed[0]
        fixed[:] = [unit]
        run(scale, zero_point, unit, best, index)
        chosen = np.maximum(index, 0)[..., None]
        won = index >= 0
        ends = tuple(np.take_along_axis(end, chosen, axis=-1)[..., 0] for end in (lows, highs))
        return (np.where(won, ends[0], low), np.where(won, ends[1], high)), bool(won.any())

    fixed: list[Reals] = []
    if target.mode == "symmetric":
        both = _shrunk(np.maximum(np.abs(low), np.abs(high)), np.zeros(low.shape), fractions)
        return attempt(-both, both)[0]
    inside = (low <= 0) & (high >= 0)
    pivot = np.where(inside, 0.0, low + (high / 2 - low / 2))
    all_low, all_high = _shrunk(low, pivot, fractions), _shrunk(high, pivot, fractions)
    (low, high), _ = attempt(all_low, all_high)
    for _ in range(ROUNDS):
        (low, high), narrower = attempt(low[..., None], all_high)
        (low, high), other = attempt(all_low, high[..., None])
        if not (narrower or other):
            break
    return low, high


def search_segments(
    segments: Segments, low: Reals, high: Reals, target: Target, candidates: int, gamma: float, kernels: Any,
    progress: Progress | None = None,
) -> Pair:  # fmt: skip
    """Search the range of every segment on its samples."""
    done = 0
    factor = 2.0**-64 if max(-low.min(), high.max()) > _LARGE else 1.0
    lows, highs = low * factor, high * factor
    for rows, place in segments.parts(max(1, _HELD // candidates)):
        part = kernels.held(rows if factor == 1.0 else rows * factor)

        def run(
            scale: Reals, zero_point: Reals, unit: Reals, best: Reals, index: Any, part: npt.NDArray[Any] = part,
            done: int = done,
        ) -> None:  # fmt: skip
            if progress is not None:
                progress(done, low.size)
            kernels.search(
                part, segments.group, scale, zero_point, target.qmin, target.qmax, gamma, MARGIN, unit, best, index
            )

        lows[place], highs[place] = search(lows[place], highs[place], target, candidates, run)
        done += lows[place].size
    return lows / factor, highs / factor


def search_weighted(
    values: Reals, counts: npt.NDArray[np.int64], low: float, high: float, target: Target, candidates: int,
    gamma: float, kernels: Any, ask: Callable[[], None] = lambda: None,
) -> tuple[float, float]:  # fmt: skip
    """Search the range of values that occur `counts` times."""
    values, weight = kernels.held(values), kernels.held(counts.astype(np.float64))

    def run(scale: Reals, zero_point: Reals, unit: Reals, best: Reals, index: Any) -> None:
        ask()
        index[0], best[0] = kernels.search_weighted(
            values, weight, scale[0], zero_point[0], target.qmin, target.qmax, gamma, MARGIN, unit[0], best[0]
        )

    found = search(np.array([low]), np.array([high]), target, candidates, run)
    return float(found[0][0]), float(found[1][0])


def entropy_counts(
    values: npt.NDArray[Any], amax: float, weights: npt.NDArray[np.int64] | None, device: Any = None
) -> npt.NDArray[Any]:
    """Count magnitudes in 2048 bins: ``min(floor(|x| / amax * 2048), 2047)`` in float64.

    `device` are the kernels of a device that counts values without weights; NaN in them is left out.
    """
    if device is not None and weights is None:
        table: npt.NDArray[Any] = device.entropy_counts(values, amax, ENTROPY_BINS)
        return table
    total = np.zeros(ENTROPY_BINS, np.int64)
    for start in range(0, values.size, _CONVERTED):
        part = np.abs(values[start : start + _CONVERTED].astype(np.float64))
        bins = np.minimum((part / amax * ENTROPY_BINS).astype(np.int64), ENTROPY_BINS - 1)
        if weights is None:
            total += np.bincount(bins, minlength=ENTROPY_BINS)
        else:
            np.add.at(total, bins, weights[start : start + _CONVERTED])
    return total


def entropy_threshold(counts: npt.NDArray[Any], bits: int) -> float:
    """Return the fraction of amax whose clipped and quantized histogram diverges least.

    With L = 2**(bits-1) levels, i = L .. 2048 bins kept, N samples: P is the first i counts over N, all later counts
    added to the last of them. Q: bin j belongs to level ``floor(j L / i)``; the counts of a level (without the added
    ones) are spread evenly over its bins that are not empty, and divided by their sum. The cost is
    ``sum(P ln(P / ((1 - e) Q + e / i)))`` over P > 0, e = 1e-4. Ties go to the larger i; i / 2048 is returned.
    """
    if bits > ENTROPY_BITS:
        raise DomainError(
            f"entropy needs fewer than {ENTROPY_BINS} levels, 2**(bits-1): bits must be in [2, {ENTROPY_BITS}]; "
            f"got {bits}. Use mse, sqnr, percentile or minmax."
        )
    levels, e = 1 << (bits - 1), ENTROPY_SMOOTHING
    total = int(counts.sum())
    kept = np.arange(levels, ENTROPY_BINS + 1)
    share = counts / total
    sums = np.concatenate([[0], np.cumsum(counts)])
    used = np.concatenate([[0], np.cumsum(counts > 0)])
    own = np.zeros(ENTROPY_BINS + 1)  # sum of P ln P over the first bins
    own[1:] = np.cumsum(share * np.log(np.where(share > 0, share, 1.0)))
    edges = -(-np.arange(levels + 1) * kept[:, None] // levels)
    mass, cells = np.diff(sums[edges], axis=1), np.diff(used[edges], axis=1)
    inside = sums[kept]
    q = mass / np.maximum(cells, 1) / np.maximum(inside, 1)[:, None]
    log_q = np.log((1 - e) * q + e / kept[:, None])
    outside = (total - inside) / total
    last = share[kept - 1] + outside
    cost = own[kept - 1] + last * np.log(np.where(last > 0, last, 1.0)) - np.sum(mass / total * log_q, axis=1)
    cost -= outside * np.where(counts[kept - 1] > 0, log_q[:, -1], np.log(e / kept))
    cost = np.where(inside > 0, cost, np.inf)
    best = kept.size - 1
    for k in range(kept.size - 1, -1, -1):
        if cost[k] < cost[best] - 1e-12:
            best = k
    return float(kept[best]) / ENTROPY_BINS
