"""From sums to the metrics of a quantization error, each with its convention.

``e = x - value`` where value is what the code of x stands for, n the number of samples:

============== ================================================================= ==============================
mse            ``sum(e**2) / n``                                                 units of x, squared
rmse           ``sqrt(mse)``                                                     units of x
mae            ``sum(|e|) / n``                                                  units of x
max_abs        ``max(|e|)``                                                      units of x
bias           ``sum(e) / n``: positive where values lie below x                 units of x
sqnr           ``10 log10(sum(x**2) / sum(e**2))``; +inf where e is 0            dB
psnr           ``20 log10(max(|x|) / rmse)``; +inf where e is 0                  dB
cosine         ``sum(x value) / sqrt(sum(x**2) sum(value**2))``; 1 for two zero tensors, 0 for one
clip_count     samples whose rounded code lies outside ``[qmin, qmax]``          ``clip_rate = clip_count / n``
overflow_count samples that a format makes NaN or infinite: left out of all other metrics
mse_clipping   ``sum(e**2 of clipped samples) / n``; ``mse = mse_rounding + mse_clipping``
============== ================================================================= ==============================

Other tools call other numbers by these names; `Errors.variants` has them:

=================== ===========================================================================================
``ort-sqnr``        ``20 log10(max(|x|_2, eps) / max(|e|_2, eps))``, finite on a perfect match (ONNX Runtime
                    quantization/qdq_loss_debug.py)
``torchao-sqnr``    ``20 log10(|x|_2 / |e|_2)`` (torchao quantization/utils.py)
``aeq-snr``         ``mean(x**2) / (mse + 1e-9)``, a ratio, not dB (AI Edge Quantizer utils/validation_utils.py)
``ppq-snr``         ``sum(e**2) / sum(x**2)``: noise over signal (PPQ quantization/measure/norm.py)
``llama-rmse``      ``sqrt(sum(e**2)) / n`` (llama.cpp tests/test-quantize-fns.cpp)
=================== ===========================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels import codes

from ..exceptions import DomainError

F64 = npt.NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
#: Per sample, the least largest square whose sum is right to 2**-43; of float32 samples none is smaller.
SMALLEST_SQUARE = 2.0**-1031
#: Metrics that a table ranks by, and whether more is better.
HIGHER_IS_BETTER = {
    "mse": False, "rmse": False, "mae": False, "max_abs": False, "bias": False, "sqnr": True, "psnr": True,
    "cosine": True, "clip_rate": False,
}  # fmt: skip
METRICS = (
    "mse", "rmse", "mae", "max_abs", "bias", "sqnr", "psnr", "cosine", "clip_count", "clip_rate", "overflow_count",
    "mse_rounding", "mse_clipping",
)  # fmt: skip


def _decibel(signal: Any, noise: Any) -> F64:
    """Return ``10 log10(signal / noise)``; +inf where the noise is 0, finite where only the quotient is not."""
    signal, noise = np.asarray(signal), np.asarray(noise)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        found = 10.0 * np.log10(np.where(noise == 0, np.inf, signal / noise))
        apart = 10.0 * np.log10(signal) - 10.0 * np.log10(noise)
    return np.asarray(np.where(np.isinf(found) & (noise > 0) & (signal > 0), apart, found))


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Sums of one error, or of one a channel (arrays), and the metrics that follow.

    Attributes
    ----------
    count, clip_count, overflow_count : int64
        Samples measured; those of them whose code was clamped; samples left out of everything else because their
        value is NaN or infinite, which only formats that overflow make.
    sum_e2_inside, sum_e2_clipped, sum_abs, max_abs, sum_e, sum_x2, sum_value2, sum_cross : float64
        Sums of ``e**2`` over samples inside and over clipped ones, of ``|e|``, ``e``, ``x**2``, ``value**2`` and
        ``x value``.
    low, high : float64
        Least and greatest sample.
    """

    count: Any
    clip_count: Any
    overflow_count: Any
    sum_e2_inside: Any
    sum_e2_clipped: Any
    sum_abs: Any
    max_abs: Any
    sum_e: Any
    sum_x2: Any
    sum_value2: Any
    sum_cross: Any
    low: Any
    high: Any

    @property
    def sum_e2(self) -> Any:
        """``sum(e**2)``."""
        return self.sum_e2_inside + self.sum_e2_clipped

    @property
    def mse(self) -> Any:
        """Mean squared error."""
        return _mean(self.sum_e2, self.count)

    @property
    def mse_rounding(self) -> Any:
        """Part of the mean squared error that comes from samples inside the range."""
        return _mean(self.sum_e2_inside, self.count)

    @property
    def mse_clipping(self) -> Any:
        """Part of the mean squared error that comes from clipped samples."""
        return _mean(self.sum_e2_clipped, self.count)

    @property
    def rmse(self) -> Any:
        """Root mean squared error."""
        return _plain(np.sqrt(self.mse))

    @property
    def mae(self) -> Any:
        """Mean absolute error."""
        return _mean(self.sum_abs, self.count)

    @property
    def bias(self) -> Any:
        """Mean error, ``mean(x - value)``."""
        return _mean(self.sum_e, self.count)

    @property
    def clip_rate(self) -> Any:
        """Share of clipped samples, in [0, 1]."""
        return _mean(self.clip_count, self.count)

    @property
    def sqnr(self) -> Any:
        """Signal to quantization noise in dB; +inf where the error is 0."""
        return _plain(_decibel(self.sum_x2, self.sum_e2))

    @property
    def psnr(self) -> Any:
        """Peak signal to noise in dB, the peak being ``max(|x|)``; +inf where the error is 0."""
        return _plain(2.0 * _decibel(np.maximum(np.abs(self.low), np.abs(self.high)), self.rmse))

    @property
    def cosine(self) -> Any:
        """Cosine of the angle between the tensor and its values; 1 where both are 0, 0 where one is."""
        x2, v2 = np.asarray(self.sum_x2), np.asarray(self.sum_value2)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = self.sum_cross / (np.sqrt(x2) * np.sqrt(v2))
        cosine = np.where(np.asarray(self.sum_e2) == 0, 1.0, np.where((x2 == 0) | (v2 == 0), 0.0, cosine))
        return _plain(np.clip(cosine, -1.0, 1.0))

    @property
    def variants(self) -> dict[str, Any]:
        """What other tools print under similar names; the module says how each is defined."""
        x, e = np.sqrt(self.sum_x2), np.sqrt(self.sum_e2)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ppq = np.where(np.asarray(self.sum_x2) == 0, np.inf, np.asarray(self.sum_e2) / self.sum_x2)
        return {
            "ort-sqnr": _plain(2.0 * _decibel(np.maximum(x, EPS), np.maximum(e, EPS))),
            "torchao-sqnr": _plain(2.0 * _decibel(x, e)),
            "aeq-snr": _plain(_mean(self.sum_x2, self.count) / (self.mse + 1e-9)),
            "ppq-snr": _plain(np.where(np.asarray(self.sum_e2) == 0, 0.0, ppq)),
            "llama-rmse": _plain(_mean(e, self.count)),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain data for JSON; what is infinite becomes None."""
        return {name: _json(getattr(self, name)) for name in METRICS}


def _mean(total: Any, count: Any) -> Any:
    """Return a mean; NaN for a channel of which no sample was measured."""
    if np.ndim(count) == 0:
        return total / count
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total) / count


def _plain(value: Any) -> Any:
    """Return a Python float for a number, the array otherwise."""
    return float(value) if np.ndim(value) == 0 else value


def _json(value: Any) -> Any:
    if np.ndim(value):
        return [_json(item) for item in np.asarray(value).tolist()]
    number = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


class Totals:
    """Sums of all tiles so far, in tile order: float64 pairs, so that the order of addition hardly matters."""

    def __init__(self, quantizers: int, channels: int, histograms: bool, levels: int) -> None:
        self.high = np.zeros((quantizers, channels, codes.FIELDS))
        self.low = np.zeros_like(self.high)
        self.counts = np.zeros((quantizers, channels, codes.COUNTS), np.int64)
        self.extremes = np.tile([np.inf, -np.inf], (channels, 1))
        self.codes = np.zeros(levels if histograms else 0, np.int64)
        self.bins = np.zeros((quantizers if histograms else 0, codes.ERROR_BINS), np.int64)
        self.nonfinite, self.first_nonfinite = 0, -1

    def empty(self) -> Totals:
        """Return the totals of nothing, of the same shapes."""
        quantizers, channels = self.high.shape[:2]
        return Totals(quantizers, channels, bool(self.bins.size), self.codes.size)

    def pack(self) -> list[npt.NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        bad = np.array([self.nonfinite, self.first_nonfinite], np.int64)
        return [self.high, self.low, self.counts, self.extremes, self.codes, self.bins, bad]

    def unpack(self, contents: list[bytes]) -> None:
        """Take over what `pack` gave of totals of the same shapes, in little-endian bytes; ValueError if it is not."""
        here = self.pack()
        parts: list[npt.NDArray[Any]] = [
            np.frombuffer(content, one.dtype.newbyteorder("<")).astype(one.dtype).reshape(one.shape)
            for one, content in zip(here, contents, strict=True)
        ]
        self.high, self.low, self.counts, self.extremes, self.codes, self.bins, bad = parts
        self.nonfinite, self.first_nonfinite = (int(number) for number in bad)

    def add(self, tile: Any) -> None:
        """Add the next tile."""
        self.codes += tile.codes
        self.bins += tile.bins
        seen = tile.sums.shape[1]
        before_end = min(seen, self.high.shape[1] - tile.channel)
        self._add(slice(tile.channel, tile.channel + before_end), tile, slice(0, before_end))
        if before_end < seen:
            self._add(slice(0, seen - before_end), tile, slice(before_end, seen))
        if tile.nonfinite:
            if not self.nonfinite:
                self.first_nonfinite = tile.first_nonfinite
            self.nonfinite += tile.nonfinite

    def _add(self, here: slice, tile: Any, there: slice) -> None:
        """Add some channels of a tile to the same ones of all."""
        self.counts[:, here] += tile.counts[:, there]
        ends, high, sums = self.extremes[here], self.high[:, here], tile.sums[:, there]
        np.minimum(ends[:, 0], tile.extremes[there, 0], out=ends[:, 0])
        np.maximum(ends[:, 1], tile.extremes[there, 1], out=ends[:, 1])
        largest = np.maximum(high[..., codes.MAX_ABS], sums[..., codes.MAX_ABS])
        with np.errstate(over="ignore", invalid="ignore"):
            total = high + sums
            back = total - high
            self.low[:, here] += (high - (total - back)) + (sums - back)
        self.high[:, here] = total
        self.high[:, here, codes.MAX_ABS], self.low[:, here, codes.MAX_ABS] = largest, 0.0

    def errors(self, quantizer: int, channel: int | slice | None) -> Errors:
        """Return the sums of one quantizer, over all channels (None), or of one or each of them."""
        high, low, counts = self.high[quantizer], self.low[quantizer], self.counts[quantizer]
        extremes = self.extremes
        # The sum of e is itself a pair of numbers.
        high, low = high.copy(), low.copy()
        low[:, codes.SUM_E_HIGH] += high[:, codes.SUM_E_LOW] + low[:, codes.SUM_E_LOW]
        if channel is None:
            channels = range(high.shape[0])
            total = [math.fsum(v for c in channels for v in (high[c, f], low[c, f])) for f in range(codes.FIELDS)]
            total[codes.MAX_ABS] = float(high[:, codes.MAX_ABS].max())
            sums, numbers = np.array(total), counts.sum(axis=0)
            ends = np.array([extremes[:, 0].min(), extremes[:, 1].max()])
        else:
            sums, numbers, ends = (high + low)[channel], counts[channel], extremes[channel]
        pick = [_scalar(sums[..., field]) for field in range(codes.FIELDS)]
        return Errors(
            count=_scalar(numbers[..., codes.COUNT]), clip_count=_scalar(numbers[..., codes.COUNT_CLIPPED]),
            overflow_count=_scalar(numbers[..., codes.COUNT_OVERFLOWED]),
            sum_e2_inside=pick[codes.SUM_E2], sum_e2_clipped=pick[codes.SUM_CLIPPED_E2], sum_abs=pick[codes.SUM_ABS],
            max_abs=pick[codes.MAX_ABS], sum_e=pick[codes.SUM_E_HIGH], sum_x2=pick[codes.SUM_X2],
            sum_value2=pick[codes.SUM_VALUE2], sum_cross=pick[codes.SUM_CROSS], low=_scalar(ends[..., 0]),
            high=_scalar(ends[..., 1]),
        )  # fmt: skip

    def check(self, names: list[str]) -> None:
        """Raise where a square has left float64's range: the metrics would be wrong without a sign of it."""
        squares = self.high[..., [codes.SUM_E2, codes.SUM_CLIPPED_E2, codes.SUM_X2, codes.SUM_VALUE2]]
        empty = self.counts[..., codes.COUNT].sum(axis=1) == 0
        if empty.any():
            raise DomainError(
                f"every sample overflows to NaN or infinity (spec {names[int(np.argmax(empty))]!r}); use a larger "
                "scale, or overflow='saturate'."
            )
        over = ~np.isfinite(squares).all(axis=(1, 2))
        largest = np.minimum(self.high[..., codes.MAX_ABS], 2.0**511)
        # Squares are multiples of 2**-1074: a sum of n is off by n times that, of at least the largest square.
        small = self.counts[..., codes.COUNT] * SMALLEST_SQUARE
        under = ((largest**2 < small) & (largest > 0)).any(axis=1)
        peak = np.abs(self.extremes).max(axis=1)
        peak[np.isinf(peak)] = 0.0  # a channel of which nothing is finite
        complete = self.counts[..., codes.COUNT_OVERFLOWED] == 0
        under |= ((np.minimum(peak, 2.0**511) ** 2 < small) & (peak > 0) & complete).any(axis=1)
        for bad, what in ((over, "overflow"), (under, "underflow")):
            if bad.any():
                raise DomainError(
                    f"squares of x or of its error {what} float64 (spec {names[int(np.argmax(bad))]!r}): multiply x "
                    "by a power of two first, and the metrics by what follows from it."
                )


def _scalar(value: Any) -> Any:
    return value.item() if np.ndim(value) == 0 else value


def bin_edges(step: float) -> F64:
    """Return the ``ERROR_BINS + 1`` ascending edges of the error histogram, in units of x; the ends are infinite.

    Linear, ``step / 256`` wide, up to one step on either side of 0; beyond, eight bins an octave.

    Examples
    --------
    >>> from qengine.affine.metrics import bin_edges
    >>> edges = bin_edges(0.5)
    >>> middle = edges.size // 2
    >>> edges[middle - 1 : middle + 2] * 256                    # symmetric about 0
    array([-0.5,  0. ,  0.5])
    >>> float(edges[middle + 256 + 8])                          # an octave above one step
    1.0
    """
    linear = np.arange(codes.ERROR_LINEAR) / codes.ERROR_LINEAR
    octaves = np.arange(codes.ERROR_OCTAVE * codes.ERROR_OCTAVES)
    place = 1 + octaves % codes.ERROR_OCTAVE / codes.ERROR_OCTAVE
    outer = np.ldexp(place, octaves // codes.ERROR_OCTAVE)
    with np.errstate(over="ignore"):  # an edge beyond float64 is infinite
        side = np.concatenate([linear, outer]) * step
    edges = np.concatenate([-side[:0:-1], side])
    return np.concatenate([[-np.inf], edges, [np.inf]])
