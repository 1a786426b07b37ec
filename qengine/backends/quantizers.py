"""What a back end evaluates of quantization: rows of numbers that every wing of the kernels reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import AFFINE_FAMILY, FORMAT_FAMILY

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
#: Sets of parameters up to which what follows from them is kept for the next call.
KEPT_SETS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Quantizer:
    """One quantizer over a flat tensor.

    Attributes
    ----------
    row : int64 array
        What it does (`qengine.kernels.codes`, ``AFFINE_...``); the number format's row and numbers follow in
        `format_row`, `format_numbers` (empty for integers).
    layout : (int, int, int, int)
        (length, group, groups a row, rows): element i lies in row ``i // length`` at place ``j = i % length``, and
        its parameters have index ``(row % rows) * groups + j // group``.
    scales, zero_points : float64 arrays
        1-D, by that index. Scales of float32 arithmetic are float32 numbers.
    levels : int
        Number of codes.
    """

    row: I64
    layout: tuple[int, int, int, int]
    scales: F64
    zero_points: F64
    levels: int
    format_row: I64
    format_numbers: F64


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ErrorPlan:
    """Many quantizers over one tensor, and how the error of each is summed up.

    Attributes
    ----------
    length, channels : int
        Element i belongs to metric channel ``i // length % channels``.
    rows, layouts, format_rows : int64 arrays, one line a quantizer
    places : int64 array
        Where a quantizer's parameters start in `scales` and `zero_points`.
    scales, zero_points : float64 arrays
    numbers, format_numbers : float64 arrays, one line a quantizer
        ``ERROR_...`` of `qengine.kernels.codes`.
    histograms : bool
        Whether codes and errors are counted.
    starts : int64 array
        Where a quantizer's codes start in the code counts; one more than there are quantizers.
    """

    length: int
    channels: int
    rows: I64
    layouts: I64
    places: I64
    scales: F64
    zero_points: F64
    numbers: F64
    format_rows: I64
    format_numbers: F64
    histograms: bool
    starts: I64

    @classmethod
    def of(cls, quantizers: list[Quantizer], numbers: F64, length: int, channels: int, histograms: bool) -> ErrorPlan:
        """Lay the quantizers' numbers end to end."""
        sizes = [quantizer.scales.size for quantizer in quantizers]
        levels = [quantizer.levels for quantizer in quantizers]
        return cls(
            length=length, channels=channels, numbers=numbers, histograms=histograms,
            rows=np.stack([quantizer.row for quantizer in quantizers]),
            layouts=np.array([quantizer.layout for quantizer in quantizers], np.int64),
            places=np.cumsum([0, *sizes[:-1]], dtype=np.int64),
            scales=np.concatenate([quantizer.scales for quantizer in quantizers]),
            zero_points=np.concatenate([quantizer.zero_points for quantizer in quantizers]),
            format_rows=np.stack([quantizer.format_row for quantizer in quantizers]),
            format_numbers=np.stack([quantizer.format_numbers for quantizer in quantizers]),
            starts=np.cumsum([0, *levels], dtype=np.int64),
        )  # fmt: skip

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What every wing's ``errors.tile`` takes after the tile itself: None for what no quantizer needs."""
        formats = (self.rows[:, AFFINE_FAMILY] == FORMAT_FAMILY).any()
        return (
            self.length, self.channels, self.rows, self.layouts, self.places, self.scales, self.zero_points,
            self.numbers, self.format_rows if formats else None, self.format_numbers if formats else None,
            self.starts if self.histograms else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ErrorTile:
    """Sums and counts of one tile (`qengine.kernels.codes`: ``SUM_...``, ``COUNT...``, ``ERROR_BINS``).

    `extremes` are the least and the greatest finite x of each metric channel. Where a tile lists fewer channels than
    there are, they are those from `channel` on, the first one behind the last; no other has an element in it.
    """

    sums: F64
    counts: I64
    extremes: F64
    codes: I64
    bins: I64
    nonfinite: int
    first_nonfinite: int
    channel: int = 0
