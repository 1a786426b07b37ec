"""Choose the parameters of an affine quantizer from samples, from a histogram, or from a given range.

The range ``[lo, hi]`` comes from a method, the parameters from the range (all in float64)::

    symmetric    scale = max(|lo|, |hi|) / qmax                z = 0
    asymmetric   scale = (hi - lo) / (qmax - qmin)             z = rint(qmin - lo / scale), ties to even

where the scale is rounded to `scale_dtype` before z is derived, and is at least that type's smallest normal number.

Methods, on n samples of a segment (a tensor, a channel, or a group):

``minmax``
    lo = min, hi = max.
``percentile``
    Linear between the ranks around ``(n - 1) p / 100``, as numpy.percentile, in float64. Asymmetric: lo the
    ``100 - p``, hi the ``p`` percentile. Symmetric: ``hi = -lo`` the ``p`` percentile of ``|x|``.
``mse``
    Least ``sum((x - clamp(rint(x / scale), qmin - z, qmax - z) * scale)**2)`` over shrunk min-max ranges, with N =
    `candidates`. Symmetric: ``max|x| * k/N``, k = N .. 1. Asymmetric: each end at ``c + (end - c) * k/N`` about
    c = 0 (the middle, if 0 lies outside): first both ends with the same k, then hi alone and lo alone in turn, until
    neither gains, at most 8 times. Each sweep goes from wide to narrow, and a range replaces the best so far only if
    its cost is smaller by more than one part in 10**12: ties go to the larger range.
``sqnr``
    The range of the highest SQNR, ``10 log10(sum(x**2) / sum(e**2))``: for given samples that of the least squared
    error, so the same search. With `gamma` above 1 the squared error of a clamped sample counts that many times (AIMET
    weighs clipping noise by 3).
``entropy``
    ``T = max|x| * i / 2048`` of least Kullback-Leibler divergence between the clipped histogram of ``|x|`` and its
    version in ``2**(bits-1)`` levels (`qengine.affine.ranges.entropy_threshold`), at most 11 bits, not for groups;
    lo = max(min(x, 0), -T), hi = min(max(x, 0), T), symmetric -T and T.

``source="histogram"`` puts the cells of a `Histogram` in place of the samples: the answer is then the same, bit for
bit, for any split into batches and any order, and differs from the exact one by about a cell (min-max does not differ).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import Progress, chosen, first_index, first_value, flag, integer, real
from ..exceptions import DomainError, DTypeError
from . import ranges
from .histogram import Histogram, calibration_kernels
from .params import QuantParams, Target, normal_axis
from .segments import Segments, samples

METHODS = ("minmax", "percentile", "mse", "sqnr", "entropy")
SOURCES = ("exact", "histogram")
POLICIES = ("raise", "ignore")
Reals = npt.NDArray[np.float64]


class _Method(NamedTuple):
    name: str
    percentile: float
    gamma: float
    candidates: int

    @classmethod
    def of(cls, name: Any, percentile: Any, gamma: Any, candidates: Any) -> _Method:
        name = chosen("calibration method", name, METHODS)
        percentile, gamma = real("percentile", percentile), real("gamma", gamma)
        if not 50 < percentile <= 100:
            raise DomainError(f"percentile must be in (50, 100]; got {percentile}.")
        if not 0 < gamma < math.inf:
            raise DomainError(f"gamma must be positive and finite; got {gamma}.")
        candidates = integer("candidates", candidates, 1, 10_000)
        return cls(name, percentile, gamma if name == "sqnr" else 1.0, candidates)


class RangeFinder:
    """Statistics of one tensor, gathered once, that answer many questions about scales.

    Minima and maxima are found once per (axis, group), a histogram once per axis. The methods percentile, mse and
    sqnr with ``source="exact"`` read the samples again; with ``source="histogram"`` nothing does.

    Parameters
    ----------
    x : array-like or Histogram
        Samples: floats up to float64, or integers up to ``2**53``, of the host or of a device. Not copied where it is a
        float32 or float64 array: do not change it in between.
    nonfinite : {"raise", "ignore"}
        NaN and infinities are an error, or are left out.
    backend : str, optional
        Back end of the kernels (`qengine.backends`). "cuda" takes a host array to the device in pieces, so that it may
        be larger than the device's memory, once for the extremes and once for each sweep of ``mse`` and ``sqnr``; the
        exact percentile of a host array is found on the host.

    Examples
    --------
    >>> import numpy as np
    >>> from qengine.affine.calibrate import RangeFinder
    >>> finder = RangeFinder(np.float32([-1.5, -0.5, 0.5, 1.0]))
    >>> finder.params(bits=8, mode="asymmetric").zero_point     # rint(-128 + 1.5 / (2.5 / 255)) = rint(25.0)
    25
    >>> [finder.params(bits=bits).qmax for bits in (2, 4, 8)]
    [1, 7, 127]
    """

    def __init__(self, x: Any, *, nonfinite: str = "raise", backend: str | None = None) -> None:
        self._ignore = chosen("policy for nonfinite samples", nonfinite, POLICIES) == "ignore"
        self._backend = backends.choose(backend) if isinstance(x, Histogram) else backends.choose(backend, x)
        self._kernels = calibration_kernels(self._backend)
        self._x: npt.NDArray[Any] | None = None
        self._holes = False
        self._extremes: dict[tuple[int | None, int | None], tuple[Segments, Reals, Reals]] = {}
        self._histograms: dict[int | None, Histogram] = {}
        if isinstance(x, Histogram):
            self._histograms[x.axis] = x
            skipped = int(np.sum(x.nonfinite))
            if skipped and not self._ignore:
                raise DomainError(f"the histogram met {skipped} nonfinite samples; pass nonfinite='ignore'.")
            return
        array = backends.adopt("x", x)
        with backends.device_of(array):
            self._x = samples(array)
        if self._x.size == 0:
            raise DomainError(f"x must hold at least one sample; got shape {self._x.shape}.")
        self._segments(None, None)  # one pass: refuses or marks nonfinite samples

    def _segments(self, axis: int | None, group: int | None) -> tuple[Segments, Reals, Reals]:
        """Return the segments with the (low, high) of each, from the cache or by one pass."""
        assert self._x is not None
        if axis is not None:
            axis = normal_axis(integer("axis", axis), self._x.ndim, self._x.shape)
        group = None if group is None else integer("group", group)
        key = (axis, group)
        if key not in self._extremes:
            with backends.device_of(self._x):
                segments = Segments.of(self._x, axis, group)
                low, high = self._extrema(segments)
            if not self._holes and not (np.isfinite(low).all() and np.isfinite(high).all()):
                with backends.device_of(self._x):
                    self._mark_nonfinite()
                return self._segments(axis, group)
            bad = segments.restore(np.isnan(low))
            if bad.any():
                raise DomainError(f"the segment{first_index(bad)} holds no finite sample; leave it out or repair it.")
            self._extremes[key] = (segments, low, high)
        return self._extremes[key]

    def _extrema(self, segments: Segments) -> tuple[Reals, Reals]:
        if self._holes and backends.on_device(segments.rows):
            low, high = self._kernels.extrema(segments.rows, segments.group, holes=True)
        elif self._holes:  # NaN marks what is left out: fmin and fmax pass over it
            starts = np.arange(0, segments.rows.shape[1], segments.group)
            low, high = (f.reduceat(segments.rows, starts, axis=1) for f in (np.fmin, np.fmax))
        else:
            low, high = self._kernels.extrema(segments.rows, segments.group)
        return low.astype(np.float64) + 0.0, high.astype(np.float64) + 0.0

    def _mark_nonfinite(self) -> None:
        assert self._x is not None
        arrays = backends.arrays_of(self._x)
        bad = ~arrays.isfinite(self._x)
        count = int(arrays.count_nonzero(bad))
        if not self._ignore:
            raise DomainError(
                f"x must be finite; got {count} nonfinite sample{'s' if count > 1 else ''}, the first is "
                f"{first_value(self._x, bad)}{first_index(bad)}. Pass nonfinite='ignore' to leave them out."
            )
        if count == bad.size:
            raise DomainError(f"all {count} samples of x are nonfinite: there is nothing to leave in.")
        self._x = arrays.where(bad, self._x.dtype.type(np.nan), self._x)
        self._holes = True

    def histogram(self, axis: int | None = None) -> Histogram:
        """Return the histogram of the tensor, or of its channels, counted once."""
        if self._x is None:
            if axis not in self._histograms:
                (only,) = self._histograms
                raise DomainError(f"the histogram counts along axis {only}; axis {axis} was asked for.")
            return self._histograms[axis]
        if axis is not None:
            axis = normal_axis(integer("axis", axis), self._x.ndim, self._x.shape)
        if axis not in self._histograms:
            self._histograms[axis] = Histogram(axis=axis).update(self._x, backend=self._backend)
        return self._histograms[axis]

    def params(
        self, *, bits: int = 8, mode: str = "symmetric", signed: bool = True, narrow: bool = False,
        method: str = "minmax", axis: int | None = None, group: int | None = None, percentile: float = 99.99,
        gamma: float = 1.0, candidates: int = 100, include_zero: bool = False, scale_dtype: str = "float64",
        source: str | None = None, progress: Progress | None = None,
    ) -> QuantParams:  # fmt: skip
        """Return the parameters that a method chooses; arguments and errors as in `choose_qparams`."""
        target = Target.of(bits, mode, signed, narrow, scale_dtype)
        way = _Method.of(method, percentile, gamma, candidates)
        include_zero = flag("include_zero", include_zero)
        if source is None:
            source = "histogram" if self._x is None else "exact"
        chosen("source", source, SOURCES)
        if source == "histogram":
            if group is not None:
                raise DomainError(f"a histogram has no groups; got group {group}. Use source='exact' on samples.")
            low, high = self._from_histogram(target, way, axis, include_zero, progress)
            return (
                target.params(low, high, axis, None) if axis is not None else target.params(low[0], high[0], None, None)
            )
        if self._x is None:
            raise DomainError("source='exact' needs the samples; only their histogram was given.")
        segments, low, high = self._segments(axis, group)
        with backends.device_of(self._x):
            low, high = self._from_samples(target, way, segments, low, high, include_zero, progress)
        low, high = segments.restore(low), segments.restore(high)
        return target.params(low, high, segments.axis, segments.params_group)

    def extremes(self, axis: int | None = None, group: int | None = None) -> tuple[Reals, Reals]:
        """Return (least, greatest) sample of the tensor, each channel or each group, in the shape of its scales."""
        if self._x is None:
            if axis is not None:
                raise DomainError("channels and groups need the samples; only their histogram was given.")
            low, high = self.histogram().extremes()
            return low[0], high[0]
        segments, low, high = self._segments(axis, group)
        return segments.restore(low), segments.restore(high)

    def _from_samples(
        self, target: Target, way: _Method, segments: Segments, low: Reals, high: Reals, include_zero: bool,
        progress: Progress | None,
    ) -> tuple[Reals, Reals]:  # fmt: skip
        if way.name == "entropy" and segments.params_group is not None:
            raise DomainError("entropy compares histograms of 2048 bins: not for groups. Use mse, sqnr or minmax.")

        def find(low: Reals, high: Reals) -> tuple[Reals, Reals]:
            if way.name == "percentile":
                return ranges.percentile(segments, self._holes, target.mode == "symmetric", way.percentile)
            if way.name == "entropy":
                rows = _told(segments.rows, progress)
                device = self._kernels if self._backend == "cuda" else None
                holes = self._holes and device is None  # kernels of a device pass over NaN
                pairs = [
                    _entropy(row[~np.isnan(row)] if holes else row, None, lo, hi, target, device)
                    for row, lo, hi in zip(rows, low[:, 0], high[:, 0], strict=True)
                ]
                return _columns(pairs, low.shape)
            return ranges.search_segments(
                segments, low, high, target, way.candidates, way.gamma, self._kernels, progress
            )

        return _range(target, way, low, high, include_zero, find, segments.restore)

    def _from_histogram(
        self, target: Target, way: _Method, axis: int | None, include_zero: bool, progress: Progress | None
    ) -> tuple[Reals, Reals]:
        histogram = self.histogram(axis)
        low, high = histogram.extremes()

        def one(channel: int, lo: float, hi: float) -> tuple[float, float]:
            def ask() -> None:
                if progress is not None:
                    progress(channel, low.size)

            ask()
            values, counts = histogram.weighted(channel)
            if way.name == "percentile":
                return ranges.weighted_percentile(values, counts, target.mode == "symmetric", way.percentile)
            if way.name == "entropy":
                return _entropy(values, counts, lo, hi, target)
            return ranges.search_weighted(values, counts, lo, hi, target, way.candidates, way.gamma, self._kernels, ask)

        def find(low: Reals, high: Reals) -> tuple[Reals, Reals]:
            pairs = [one(c, float(lo), float(hi)) for c, (lo, hi) in enumerate(zip(low, high, strict=True))]
            return _columns(pairs, low.shape)

        return _range(target, way, low, high, include_zero, find, lambda values: values)


def _told(rows: npt.NDArray[Any], progress: Progress | None) -> Iterator[npt.NDArray[Any]]:
    """Yield the rows, and say before each how many are done."""
    for r in range(rows.shape[0]):
        if progress is not None:
            progress(r, rows.shape[0])
        yield rows[r]


def _columns(pairs: list[tuple[float, float]], shape: tuple[int, ...]) -> tuple[Reals, Reals]:
    table = np.array(pairs, np.float64)
    return table[:, 0].reshape(shape), table[:, 1].reshape(shape)


def _entropy(
    values: npt.NDArray[Any], counts: npt.NDArray[np.int64] | None, low: float, high: float, target: Target,
    device: Any = None,
) -> tuple[float, float]:  # fmt: skip
    low, high = min(low, 0.0), max(high, 0.0)
    amax = max(-low, high)
    if amax == 0.0:
        return 0.0, 0.0
    fraction = ranges.entropy_threshold(ranges.entropy_counts(values, amax, counts, device), target.bits)
    threshold = amax * fraction
    return (-threshold, threshold) if target.mode == "symmetric" else (max(low, -threshold), min(high, threshold))


def _range(
    target: Target, way: _Method, low: Reals, high: Reals, include_zero: bool,
    find: Callable[[Reals, Reals], tuple[Reals, Reals]], restore: Callable[[Any], Any],
) -> tuple[Reals, Reals]:  # fmt: skip
    """Return the range of a method, with what is special about constants and about 0."""
    constant = low == high
    widened = constant | bool(include_zero)
    low, high = np.where(widened, np.minimum(low, 0.0), low), np.where(widened, np.maximum(high, 0.0), high)
    if way.name == "minmax" or np.isinf(target.affine(low, high)[0]).any():  # the latter is refused by `params`
        return low, high
    found_low, found_high = find(low, high)
    empty = (found_low == found_high) & ~constant
    if empty.any():
        bad, value = restore(empty), restore(found_high)
        raise DomainError(
            f"method {way.name!r}"
            + (f" with the {way.percentile} percentile" if way.name == "percentile" else "")
            + f" leaves an empty range at {first_value(value, bad)!r}{first_index(bad)}; use another method"
            + (" or a higher percentile." if way.name == "percentile" else ".")
        )
    if include_zero:
        found_low, found_high = np.minimum(found_low, 0.0), np.maximum(found_high, 0.0)
    return np.where(constant, low, found_low), np.where(constant, high, found_high)


def _given(name: str, value: Any) -> Reals:
    array = backends.parameter(f"{name} of the range", value)
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"{name} of the range must be real; got dtype {array.dtype}.")
    array = samples(array, f"{name} of the range").astype(np.float64) + 0.0
    bad = ~np.isfinite(array)
    if bad.any():
        raise DomainError(f"{name} of the range must be finite; got {first_value(array, bad)}{first_index(bad)}.")
    return array


def _from_range(
    low: Any, high: Any, target: Target, way: _Method, axis: Any, group: Any, include_zero: bool
) -> QuantParams:
    if way.name != "minmax":
        raise DomainError(f"method {way.name!r} needs samples or a Histogram; got a range (lo, hi).")
    low, high = _given("lo", low), _given("hi", high)
    if low.shape != high.shape:
        raise DomainError(f"lo and hi must have the same shape; got {low.shape} and {high.shape}.")
    bad = low >= high
    if bad.any():
        raise DomainError(
            f"of the range, lo must be below hi; got lo {first_value(low, bad)!r}, hi {first_value(high, bad)!r}"
            f"{first_index(bad)}."
        )
    if flag("include_zero", include_zero):
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    return target.params(low, high, axis, group)


def choose_qparams(
    x: Any, *, bits: int = 8, mode: str = "symmetric", signed: bool = True, narrow: bool = False,
    method: str = "minmax", axis: int | None = None, group: int | None = None, percentile: float = 99.99,
    gamma: float = 1.0, candidates: int = 100, include_zero: bool = False, scale_dtype: str = "float64",
    nonfinite: str = "raise", source: str | None = None, backend: str | None = None,
    progress: Progress | None = None,
) -> QuantParams:  # fmt: skip
    """Choose scale and zero point for samples, a histogram, or a real range.

    Formulas of the parameters and of every method: `qengine.affine.calibrate`.

    Parameters
    ----------
    x : (lo, hi), Histogram, or array-like
        A **tuple** of two is the closed real range itself, scalars or arrays (1-D with `axis`; any shape with `axis`
        and `group`). Anything else is samples: floats up to float64 (also float16, bfloat16, float8), or integers.
    bits : int
        2 to 16.
    mode : {"symmetric", "asymmetric"}
    signed : bool
        Codes ``[-2**(b-1), 2**(b-1) - 1]``, or ``[0, 2**b - 1]``. Symmetric unsigned clips negative samples to 0.
    narrow : bool
        Leave out the lowest code (not symmetric unsigned).
    method : {"minmax", "percentile", "mse", "sqnr", "entropy"}
    axis : int, optional
        One scale a channel along this axis.
    group : int, optional
        One scale for each `group` consecutive samples along `axis`; the last group may be shorter.
    percentile : float
        In (50, 100].
    gamma : float
        Weight of clipped samples in ``sqnr``; with 1 it is the range of the highest SQNR, which is that of the least
        squared error.
    candidates : int
        Ranges a sweep of ``mse`` and ``sqnr``, 1 to 10000.
    include_zero : bool
        Widen the range to hold 0, so that ``qmin <= zero_point <= qmax``. ``entropy`` always does.
    scale_dtype : {"float64", "float32"}
        Type that the scale is rounded to (half to even) before the zero point is derived; stored as float64.
    nonfinite : {"raise", "ignore"}
        What NaN and infinite samples do.
    source : {"exact", "histogram"}, optional
        What the method sees: all samples (default for samples), or the cells of a histogram of them.
    backend : str, optional
        "cuda" takes a host array to the device in pieces, so that it may be larger than the device's memory. Only
        ``percentile`` with ``source="exact"`` is then found on the host: it orders all samples. A device array stays
        where it is, whatever the method.
    progress : callable(done, total), optional
        Called with scales, before each channel of ``entropy`` and each sweep of ``mse`` and ``sqnr`` over its
        candidates. What it raises ends the work and reaches the caller.

    Returns
    -------
    QuantParams

    Raises
    ------
    DTypeError
        Boolean, complex, object or text samples.
    DomainError
        No samples; NaN or infinities (count and first index; also if none is left to ignore); a given range with
        ``lo >= hi``; a percentile that leaves an empty range; a range too wide for
        the scale's type or so far from 0 that the zero point does not fit int32.
    UnknownNameError
        An unknown mode, method, scale_dtype, policy or source.

    Notes
    -----
    A constant c (one sample too) has the range from 0 to c; all zeros have scale 1 and the zero point of lo = 0.

    Examples
    --------
    >>> from qengine.affine.calibrate import choose_qparams
    >>> choose_qparams((-1.5, 1.5), mode="asymmetric", signed=False).zero_point     # rint(127.5), a tie: to even
    128
    >>> choose_qparams((-1.5, 1.5), mode="asymmetric").zero_point                   # rint(-0.5), a tie: to even
    0
    >>> choose_qparams([[-1.0, 0.5], [2.0, -4.0]], bits=4, axis=0).scale.tolist()   # max|x| / 7
    [0.14285714285714285, 0.5714285714285714]
    """
    if isinstance(x, tuple) and len(x) == 2:
        target = Target.of(bits, mode, signed, narrow, scale_dtype)
        way = _Method.of(method, percentile, gamma, candidates)
        if backend is not None:  # no kernel runs, but what was asked for by name must be there as elsewhere
            backends.choose(backend)
        return _from_range(x[0], x[1], target, way, axis, group, include_zero)
    if isinstance(x, Histogram) and axis is None:
        axis = x.axis
    finder = RangeFinder(x, nonfinite=nonfinite, backend=backend)
    return finder.params(
        bits=bits, mode=mode, signed=signed, narrow=narrow, method=method, axis=axis, group=group,
        percentile=percentile, gamma=gamma, candidates=candidates, include_zero=include_zero,
        scale_dtype=scale_dtype, source=source, progress=progress,
    )  # fmt: skip
