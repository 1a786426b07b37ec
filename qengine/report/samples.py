"""What a choice of quantization does to single samples: scaled, rounded, clamped, reconstructed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import AFFINE_FAMILY, AFFINE_QMIN, AFFINE_ROUNDING, FORMAT_FAMILY, STOCHASTIC
from qengine.kernels.reference import affine, formats
from qengine.kernels.reference.errors import parameter_index

from ..affine.error_report import ErrorRow
from ..affine.resolve import resolve
from .escape import shown
from .terminal import Grid, table

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of one tensor and what became of each; arrays of one length.

    Attributes
    ----------
    index : int64
        Flat, in C order.
    x, value, error : float64
        The sample, what its code stands for, and ``x - value``.
    scaled : float64
        What is rounded: x over its scale, in the convention's arithmetic, with the zero point where it is inside.
    rounded : float64
        The code before the clamp; NaN for number formats.
    code : int64
    clipped : bool
    shape : tuple of int
        Of the tensor.
    single : bool
        Whether the tensor holds float32, so that its samples are written with float32's digits.
    """

    index: I64
    x: F64
    scaled: F64
    rounded: F64
    code: I64
    value: F64
    error: F64
    clipped: npt.NDArray[np.bool_]
    shape: tuple[int, ...]
    single: bool = False

    def place(self, k: int) -> str:
        """Return the index of sample k as it is written in the tensor's shape."""
        where = np.unravel_index(int(self.index[k]), self.shape) if self.shape else ()
        return ", ".join(str(int(i)) for i in where)

    def _original(self, k: int) -> str:
        return str(np.float32(self.x[k])) if self.single else repr(float(self.x[k]))

    def to_list(self) -> list[dict[str, Any]]:
        """Return plain data for JSON, one entry a sample."""
        names = ("index", "x", "scaled", "rounded", "code", "value", "error", "clipped")
        columns = [getattr(self, name).tolist() for name in names]
        return [dict(zip(names, map(_plain, line), strict=True)) for line in zip(*columns, strict=True)]

    def cells(self) -> Iterator[tuple[str, ...]]:
        """Yield the texts of a table's line for each sample, under `HEADER`."""
        for k in range(self.index.size):
            clipped = ""
            if self.clipped[k]:
                clipped = "yes" if math.isnan(self.rounded[k]) else f"from {self.rounded[k]:.0f}"
            yield (
                self.place(k), self._original(k), _scaled_text(float(self.scaled[k])), str(int(self.code[k])),
                f"{self.value[k]:.9g}", f"{self.error[k]:.4g}", clipped,
            )  # fmt: skip


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scaled_text(value: float) -> str:
    """Write a scaled value so that what is near to a tie does not look like one."""
    text = f"{value:.9g}"
    return repr(value) if abs(float(text)) % 1 == 0.5 and float(text) != value else text


HEADER = ("index", "original", "scaled", "code", "reconstructed", "error", "clipped")


class Tracer:
    """Evaluates single samples of a tensor under a choice that was measured on it.

    Parameters
    ----------
    tensor : array or chunked tensor
        As it was measured.
    row : ErrorRow
        Its parameters are taken as they are; those of number formats are found again.
    """

    def __init__(self, tensor: Any, row: ErrorRow) -> None:
        self._tensor = tensor
        self.shape = tuple(tensor.shape)
        spec = row.spec if row.params is None else dataclasses.replace(row.spec, params=row.params)
        (self._resolved,) = resolve(tensor, self.shape, [spec], "ignore", "reference")

    @property
    def segments(self) -> int:
        """How many scales there are."""
        return int(self._resolved.quantizer.scales.size)

    def commonest(self, index: I64) -> int:
        """Return the segment that most of the elements are in; of equals the one with the largest scale."""
        counts = np.bincount(self.segment_of(index), minlength=self.segments)
        return int(np.argmax(np.where(counts == counts.max(), self._resolved.quantizer.scales, -1.0)))

    @property
    def is_format(self) -> bool:
        """Whether the choice is a number format."""
        return int(self._resolved.quantizer.row[AFFINE_FAMILY]) == FORMAT_FAMILY

    @property
    def is_stochastic(self) -> bool:
        """Whether the rounding draws."""
        return not self.is_format and int(self._resolved.quantizer.row[AFFINE_ROUNDING]) == STOCHASTIC

    def scale(self, segment: int) -> tuple[float, float]:
        """Return (scale, zero point) of a segment."""
        plan = self._resolved.quantizer
        return float(plan.scales[segment]), float(plan.zero_points[segment])

    def _places(self, index: I64) -> I64:
        """Return where elements stand once the axis of the groups is last."""
        moved = self._resolved.moved
        if moved is None:
            return index
        order = [k for k in range(len(self.shape)) if k != moved] + [moved]
        where = np.unravel_index(index, self.shape)
        return np.asarray(
            np.ravel_multi_index(tuple(where[k] for k in order), tuple(self.shape[k] for k in order)), np.int64
        )

    def segment_of(self, index: I64) -> I64:
        """Return which scale each element has."""
        found: I64 = parameter_index(self._places(index), self._resolved.quantizer.layout)
        return found

    def _values(self, index: I64) -> F64:
        if isinstance(self._tensor, np.ndarray):
            return np.asarray(self._tensor.reshape(-1)[index], np.float64)
        out, done = np.empty(index.size), 0
        for piece in self._tensor.chunks():
            here = (index >= done) & (index < done + piece.size)
            out[here] = np.asarray(piece).reshape(-1)[index[here] - done]
            done += piece.size
        return out

    def evaluate(self, x: F64, segment: I64 | int, place: I64 | None = None) -> tuple[F64, F64, I64, F64, Any]:
        """Return (scaled, rounded, code, value, clipped) of reals under the scales of segments.

        `place` is where they stand in the tensor: stochastic rounding draws by it.
        """
        plan = self._resolved.quantizer
        scale, zero = plan.scales[segment], plan.zero_points[segment]
        if self.is_format:
            v = formats.scaled(x, scale, plan.format_row)
            index, value = formats.code_and_value(x, plan.format_row, plan.format_numbers, scale)
            code = np.where(index < 0, -1 - index, index).astype(np.int64)
            return v, np.full(x.shape, np.nan), code, value, index < 0
        v = affine.scaled(x, plan.row, scale, zero)
        if place is None or not self.is_stochastic:
            whole = affine.whole(x, plan.row, scale, zero)
            index, value = affine.code_and_value(x, plan.row, scale, zero)
        else:  # a draw belongs to one element
            scale, zero = np.broadcast_to(scale, x.shape), np.broadcast_to(zero, x.shape)
            one = [slice(k, k + 1) for k in range(x.size)]
            at = [(x[k], plan.row, scale[k], zero[k], int(place[k][0])) for k in one]
            whole = np.concatenate([affine.whole(*a) for a in at])
            pairs = [affine.code_and_value(*a) for a in at]
            index, value = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        code = np.where(index < 0, -1 - index, index).astype(np.int64) + int(plan.row[AFFINE_QMIN])
        return v, whole, code, value, index < 0

    def samples(self, most: int) -> Samples:
        """Return up to `most` samples, all of a smaller tensor, else evenly spaced ones; none that is not finite."""
        size = math.prod(self.shape)
        index = np.arange(size) if size <= most else np.unique(np.linspace(0, size - 1, most).round().astype(np.int64))
        x = self._values(index)
        index, x = index[np.isfinite(x)], x[np.isfinite(x)]
        place = self._places(index)
        segment = parameter_index(place, self._resolved.quantizer.layout)
        v, whole, code, value, clipped = self.evaluate(x, segment, place)
        single = (self._tensor.values if hasattr(self._tensor, "values") else self._tensor.dtype.name) == "float32"
        return Samples(index, x, v, whole, code, value, x - value, clipped, self.shape, single)


def sample_table(samples: Samples) -> Grid:
    """Return the table of samples, one a line."""
    grid = table("Samples")
    for name in HEADER:
        grid.add_column(name, right=name != "clipped")
    for cells in samples.cells():
        grid.add_row(*map(shown, cells))
    return grid
