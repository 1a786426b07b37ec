"""Histograms of real samples that merge exactly: any split into batches, any order, the same counts.

A sample is rounded to float32 (half to even), then to ``mantissa_bits`` bits after the leading one (to nearest,
ties away from zero); the top bits of that pattern (sign, exponent, mantissa) are its key. Cells are ``2**-m`` of an
octave wide, so the relative error of a sample is at most ``2**-(m+1)``; below ``2**-126``, where float32 itself has
a fixed step, the absolute error is at most ``2**-(127+m)``. Zero, small integers and every number of at most
``m + 1`` significant bits are exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import first_value, integer, real
from ..exceptions import DomainError, DTypeError, brief
from .params import normal_axis
from .segments import Segments, samples

#: Mantissa bits of a histogram of a whole tensor, and of one a channel.
TENSOR_BITS, CHANNEL_BITS = 11, 7
#: Samples converted to float32 at a time; float32 samples counted at a time.
_CONVERTED, _COUNTED = 1 << 22, 1 << 30
#: A cell is ``channel << _CHANNEL | key``.
_CHANNEL = 32
#: Most samples of a cell or a channel, so that sums of a few fit int64.
_MOST = (1 << 62) - 1
_FIELDS = ("mantissa_bits", "axis", "min", "max", "nonfinite", "keys", "counts")


def calibration_kernels(backend: str | None, *arrays: Any) -> Any:
    """Return the kernel module of the back end that serves a call, imported on first use."""
    return backends.kernels(backends.choose(backend, *arrays), "calibrate")


class Histogram:
    """Counts of the samples of a tensor, or of each channel along an axis, mergeable bit for bit.

    Parameters
    ----------
    axis : int, optional
        Count each channel along this axis of the batches by itself.
    mantissa_bits : int, optional
        ``m`` in [3, 11]: 11 for a tensor and 7 with `axis` where it is left out. Memory: 16 bytes a used cell. A
        float32 tensor of any size that spans k octaves on both sides of 0 uses at most ``2 * k * 2**m`` cells:
        1.3 MB for 20 octaves and m = 11; 82 kB a channel, 84 MB for 1,024 channels, at m = 7.

    Notes
    -----
    `min` and `max` are exact, not cells. No float sum is kept, since that would depend on the order. NaN and
    infinities are counted in `nonfinite` and nowhere else.

    Examples
    --------
    >>> import numpy as np
    >>> from qengine.affine.histogram import Histogram
    >>> left, right = Histogram().update(np.float32([-1.5, 0.25])), Histogram().update(np.float32([3.0, 0.25]))
    >>> both = left + right
    >>> both.count, both.min, both.max, both == right + left
    (4, -1.5, 3.0, True)
    >>> values, counts = both.weighted()
    >>> values.tolist(), counts.tolist()
    ([-1.5, 0.25, 3.0], [1, 2, 1])
    """

    def __init__(self, *, axis: int | None = None, mantissa_bits: int | None = None) -> None:
        if mantissa_bits is None:
            mantissa_bits = TENSOR_BITS if axis is None else CHANNEL_BITS
        self.mantissa_bits = integer("mantissa_bits", mantissa_bits, 3, 11)
        self.axis = None if axis is None else integer("axis", axis, -64, 63)
        self._cells = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        channels = 1 if axis is None else 0
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)
        self._nonfinite = np.zeros(channels, np.int64)

    @property
    def channels(self) -> int:
        """Number of channels; 1 for a tensor, 0 before the first batch with an axis."""
        return self._low.size

    @property
    def count(self) -> Any:
        """Number of finite samples: an int, or int64 a channel."""
        counts = np.zeros(self.channels, np.int64)
        np.add.at(counts, self._cells >> _CHANNEL, self._counts)
        return self._shaped(counts)

    @property
    def nonfinite(self) -> Any:
        """Number of NaN and infinite samples: an int, or int64 a channel."""
        return self._shaped(self._nonfinite)

    @property
    def min(self) -> Any:
        """Least finite sample, exact: a float, or float64 a channel; `DomainError` while there is none."""
        return self._shaped(self.extremes()[0])

    @property
    def max(self) -> Any:
        """Greatest finite sample, exact: a float, or float64 a channel; `DomainError` while there is none."""
        return self._shaped(self.extremes()[1])

    @property
    def amax(self) -> Any:
        """Greatest magnitude of a finite sample, exact; `DomainError` while there is none."""
        low, high = self.extremes()
        return self._shaped(np.maximum(np.abs(low), np.abs(high)))

    def _shaped(self, values: npt.NDArray[Any]) -> Any:
        return values[0].item() if self.axis is None else values.copy()

    def extremes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (min, max) of every channel; `DomainError` if one has no finite sample.

        Returns
        -------
        minimum, maximum : 1-D float64 arrays
        """
        bad = self._low > self._high
        if self.channels == 0 or bad.any():
            where = "" if self.axis is None or not bad.any() else f" of channel {int(np.argmax(bad))}"
            raise DomainError(f"the histogram{where} holds no finite sample; update it with data first.")
        return self._low, self._high

    def weighted(self, channel: int = 0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return (values ascending, counts) of a channel.

        Parameters
        ----------
        channel : int
            Counted from 0; 0 of a histogram without axis.

        Returns
        -------
        values, counts : float64 and int64 arrays
            A cell's value is its key read as a float32, clipped to the exact ``[min, max]``.
        """
        channel = integer("channel", channel, 0, self.channels - 1)
        span = slice(*np.searchsorted(self._cells, [channel << _CHANNEL, (channel + 1) << _CHANNEL]))
        words = (self._cells[span] & 0xFFFFFFFF).astype(np.uint32) << np.uint32(23 - self.mantissa_bits)
        values = np.clip(words.view(np.float32).astype(np.float64), self._low[channel], self._high[channel])
        values, place = np.unique(values + 0.0, return_inverse=True)  # + 0.0: minus zero is zero
        counts = np.zeros(values.size, np.int64)
        np.add.at(counts, place, self._counts[span])
        return values, counts

    def update(self, batch: Any, *, backend: str | None = None) -> Histogram:
        """Count a batch; return self.

        Parameters
        ----------
        batch : array
            Samples of any shape; with `axis`, as many channels as before.
        backend : str, optional
            Where they are counted; the counts are the same.

        Returns
        -------
        Histogram

        Raises
        ------
        DTypeError, DomainError
            Samples that are no real numbers, finite ones beyond float32, another number of channels. Nothing is
            counted then.
        """
        kernels = calibration_kernels(backend, batch)
        array = backends.adopt("batch", batch)
        with backends.device_of(array):
            return self._update(samples(array, "batch"), kernels)

    def _update(self, x: npt.NDArray[Any], kernels: Any) -> Histogram:
        arrays = backends.arrays_of(x)
        if self.axis is not None:
            axis = normal_axis(self.axis, x.ndim, x.shape)
            self._check_channels(x.shape[axis], f"a batch of shape {x.shape}")
        if x.size == 0:
            return self
        rows = Segments.of(x, self.axis, None).rows
        low, high = (part[:, 0].astype(np.float64) + 0.0 for part in kernels.extrema(rows, rows.shape[1]))
        holes = ~(np.isfinite(low) & np.isfinite(high))
        clean = {int(c): rows[int(c)][arrays.isfinite(rows[int(c)])] for c in np.flatnonzero(holes)}
        for c, row in clean.items():
            low[c], high[c] = (float(row.min()) + 0.0, float(row.max()) + 0.0) if row.size else (np.inf, -np.inf)
        with np.errstate(over="ignore", under="ignore"):
            wide = np.isinf(np.float32(high)) & np.isfinite(high) | np.isinf(np.float32(low)) & np.isfinite(low)
        if wide.any():
            raise DomainError(
                f"a histogram holds float32 samples; channel {int(np.argmax(wide))} spans "
                f"[{first_value(low, wide)!r}, {first_value(high, wide)!r}]. Rescale the samples."
            )
        self._grow(rows.shape[0])
        cells, counts = [], []
        for c in range(rows.shape[0]):
            row = clean[c] if c in clean else rows[c]
            step = _COUNTED if row.dtype == np.float32 else _CONVERTED
            for start in range(0, row.size, step):
                part = row[start : start + step].astype(np.float32, copy=False)
                keys, count = kernels.count_keys(part, self.mantissa_bits)
                cells.append(keys | (c << _CHANNEL))
                counts.append(count)
            self._nonfinite[c] += rows.shape[1] - row.size
        if cells:
            self._add(np.concatenate(cells), np.concatenate(counts))
        np.minimum(self._low, low, out=self._low)
        np.maximum(self._high, high, out=self._high)
        return self

    def merge(self, other: Histogram) -> Histogram:
        """Add the counts of another histogram of the same axis and mantissa bits; return self.

        Parameters
        ----------
        other : Histogram
            Left as it is.

        Returns
        -------
        Histogram
        """
        if not isinstance(other, Histogram):
            raise DTypeError(f"only a Histogram can be merged into a Histogram; got {type(other).__name__}.")
        if (self.axis, self.mantissa_bits) != (other.axis, other.mantissa_bits):
            raise DomainError(
                f"histograms of one kind merge; got axis {self.axis}, {self.mantissa_bits} mantissa bits and "
                f"axis {other.axis}, {other.mantissa_bits} mantissa bits."
            )
        if other.channels:
            self._check_channels(other.channels, "the other histogram")
            self._grow(other.channels)
            self._add(other._cells, other._counts)
            np.minimum(self._low, other._low, out=self._low)
            np.maximum(self._high, other._high, out=self._high)
            self._nonfinite += other._nonfinite
        return self

    def __add__(self, other: object) -> Histogram:
        if not isinstance(other, Histogram):
            return NotImplemented
        return Histogram(axis=self.axis, mantissa_bits=self.mantissa_bits).merge(self).merge(other)

    def _check_channels(self, channels: int, what: str) -> None:
        if self.channels not in (0, channels):
            raise DomainError(f"{what} has {channels} channels; this histogram has {self.channels}.")

    def _grow(self, channels: int) -> None:
        if self.channels == 0:
            self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
            self._nonfinite = np.zeros(channels, np.int64)

    def _add(self, cells: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        if self._cells.size:  # after a few batches nearly every cell is there already
            place = np.minimum(np.searchsorted(self._cells, cells), self._cells.size - 1)
            known = self._cells[place] == cells
            np.add.at(self._counts, place[known], counts[known])
            cells, counts = cells[~known], counts[~known]
        if cells.size:
            self._cells, place = np.unique(np.concatenate([self._cells, cells]), return_inverse=True)
            total = np.zeros(self._cells.size, np.int64)
            np.add.at(total, place, np.concatenate([self._counts, counts]))
            self._counts = total

    def to_dict(self) -> dict[str, Any]:
        """Return the histogram as plain data for JSON; `from_dict` gives it back, bit for bit.

        Returns
        -------
        dict
            Keys and counts are lists a channel, keys ascending; an empty channel has min and max None.
        """
        spans = np.searchsorted(self._cells, np.arange(self.channels + 1) << _CHANNEL)
        pairs = list(itertools.pairwise(spans.tolist()))
        empty = self._low > self._high
        ends = [
            [None if none else float(end) for none, end in zip(empty, side, strict=True)]
            for side in (self._low, self._high)
        ]
        return {
            "mantissa_bits": self.mantissa_bits, "axis": self.axis, "min": ends[0], "max": ends[1],
            "nonfinite": self._nonfinite.tolist(),
            "keys": [(self._cells[a:b] & 0xFFFFFFFF).tolist() for a, b in pairs],
            "counts": [self._counts[a:b].tolist() for a, b in pairs],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Histogram:
        """Return the histogram that `to_dict` wrote; `DomainError` if it is not one.

        Parameters
        ----------
        fields : mapping
            Read back from JSON.

        Returns
        -------
        Histogram
        """
        if not isinstance(fields, Mapping) or set(fields) != set(_FIELDS):
            raise DomainError(f"a histogram has the fields {_FIELDS}; got {brief(fields)}.")
        new = cls(axis=fields["axis"], mantissa_bits=fields["mantissa_bits"])
        for name in _FIELDS[2:]:
            if not isinstance(fields[name], list):
                raise DTypeError(f"{name} must be a list, one entry a channel; got {brief(fields[name])}.")
        lengths = {len(fields[name]) for name in _FIELDS[2:]}
        if len(lengths) != 1 or (new.axis is None and lengths != {1}):
            raise DomainError(f"a histogram's lists have one entry a channel; got lengths {sorted(lengths)}.")
        new._low = np.array([np.inf if v is None else real("min", v) for v in fields["min"]], np.float64)
        new._high = np.array([-np.inf if v is None else real("max", v) for v in fields["max"]], np.float64)
        new._nonfinite = np.array([integer("nonfinite", n, 0, _MOST) for n in fields["nonfinite"]], np.int64)
        limit = 1 << (9 + new.mantissa_bits)
        for c, (keys, counts) in enumerate(zip(fields["keys"], fields["counts"], strict=True)):
            if not isinstance(keys, list) or not isinstance(counts, list) or len(keys) != len(counts):
                raise DomainError(f"channel {c} needs a list of keys and one of counts, of one length.")
            keys = [integer(f"a key of channel {c}", key, 0, limit - 1) for key in keys]
            counts = [integer(f"a count of channel {c}", count, 1, _MOST) for count in counts]
            if bool(keys) != bool(new._low[c] <= new._high[c]):
                raise DomainError(f"channel {c} needs min <= max exactly where it has counts.")
            new._add(np.array(keys, np.int64) | (c << _CHANNEL), np.array(counts, np.int64))
        return new

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, Histogram) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        total = int(np.sum(self._counts))
        where = "" if self.axis is None else f", axis={self.axis}, {self.channels} channels"
        return f"Histogram({total} samples in {self._cells.size} cells{where}, mantissa_bits={self.mantissa_bits})"
