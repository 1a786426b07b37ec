"""Cut a tensor into the segments that share a scale: the whole of it, its channels, or groups along an axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import first_index, first_value, integer
from ..exceptions import DomainError, DTypeError
from .params import normal_axis

#: float16, bfloat16 and the 8-bit and smaller floats of ml_dtypes widen to float32 exactly.
_SMALL_FLOATS = ("float16", "bfloat16", "float8_", "float6_", "float4_")
_EXACT_INTEGERS = 2**53
_SAMPLES = np.dtype(np.float32), np.dtype(np.float64)


def samples(x: npt.NDArray[Any], name: str = "x") -> npt.NDArray[Any]:
    """Return an array of real samples as float32 or float64, exactly; no copy of an array that is one.

    Raises
    ------
    DTypeError
        Booleans, complex numbers, objects, strings, and floats wider than float64.
    DomainError
        Integers beyond ``2**53`` in magnitude, which float64 does not hold.
    """
    if x.dtype in _SAMPLES:
        return x
    if x.dtype.name.startswith(_SMALL_FLOATS) or (x.dtype.kind == "f" and x.dtype.itemsize < 8):
        return x.astype(np.float32)
    if x.dtype.kind not in "iuf" or (x.dtype.kind == "f" and x.dtype.itemsize > 8):
        raise DTypeError(
            f"{name} must hold real numbers (floats up to float64, or integers); got dtype {x.dtype}. "
            "Convert it explicitly."
        )
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        bad = x > _EXACT_INTEGERS
        if x.dtype.kind == "i":  # CuPy takes no negative number beside unsigned ones
            bad = bad | (x < -_EXACT_INTEGERS)
        if bad.any():
            raise DomainError(
                f"{name} must hold integers in [-2**53, 2**53]; got {first_value(x, bad)}{first_index(bad)}."
            )
    return x.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Segments:
    """Samples as C-contiguous rows (R, L), each cut into segments of `group` samples (the last may be shorter).

    Attributes
    ----------
    rows : float32 or float64 array
        Of the host, or of a device.
    group : int
    shape : tuple of int
        Shape of one number a segment, as `QuantParams` wants it.
    axis, params_group : int or None
        What `QuantParams` wants for `axis` and `group`.
    """

    rows: npt.NDArray[Any]
    group: int
    shape: tuple[int, ...]
    axis: int | None
    params_group: int | None

    @classmethod
    def of(cls, x: npt.NDArray[Any], axis: int | None, group: int | None) -> Segments:
        """Cut x; it is copied only where the axis is not already the innermost (groups) or outermost (channels)."""
        if x.size == 0:
            raise DomainError(f"x must hold at least one sample; got shape {x.shape}.")
        arrays = backends.arrays_of(x)
        if axis is None:
            if group is not None:
                raise DomainError(f"group needs the axis that it runs along; got group {group} and no axis.")
            return cls(arrays.ascontiguousarray(x).reshape(1, -1), x.size, (), None, None)
        axis = normal_axis(integer("axis", axis), x.ndim, x.shape)
        if group is None:
            rows = arrays.ascontiguousarray(arrays.moveaxis(x, axis, 0)).reshape(x.shape[axis], -1)
            return cls(rows, rows.shape[1], (x.shape[axis],), axis, None)
        group = integer("group", group)
        if group < 1:
            raise DomainError(f"group must be at least 1; got {group}.")
        length = x.shape[axis]
        shape = (*x.shape[:axis], -(-length // group), *x.shape[axis + 1 :])
        rows = arrays.ascontiguousarray(arrays.moveaxis(x, axis, -1)).reshape(-1, length)
        if length % group == 0:  # rows of one segment each
            rows = rows.reshape(-1, group)
        return cls(rows, min(group, length), shape, axis, group)

    @property
    def count(self) -> tuple[int, int]:
        """Rows, and segments a row: the shape of the kernels' results."""
        return self.rows.shape[0], -(-self.rows.shape[1] // self.group)

    def restore(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return one number a segment, in the kernels' shape, in the shape that `QuantParams` wants."""
        if self.params_group is None or self.axis is None:
            return values.reshape(self.shape)
        moved = (*self.shape[: self.axis], *self.shape[self.axis + 1 :], self.shape[self.axis])
        return np.moveaxis(values.reshape(moved), -1, self.axis)

    def parts(self, limit: int) -> Iterator[tuple[npt.NDArray[Any], tuple[slice, slice]]]:
        """Yield (rows, place in the kernels' results) of at most `limit` segments each, but at least one."""
        rows, segments = self.count
        if segments <= limit:
            step = max(1, limit // segments)
            for r in range(0, rows, step):
                yield self.rows[r : r + step], (slice(r, min(r + step, rows)), slice(0, segments))
            return
        for r in range(rows):
            for j in range(0, segments, limit):
                place = slice(j, min(j + limit, segments))
                yield self.rows[r : r + 1, j * self.group : place.stop * self.group], (slice(r, r + 1), place)

    def blocks(self) -> Iterator[tuple[npt.NDArray[Any], tuple[Any, slice]]]:
        """Yield (3-D array (R, segments, samples), place in the kernels' results): whole segments, then the rest."""
        length = self.rows.shape[1]
        whole = length // self.group
        rows = self.rows.shape[0]
        if whole:
            view = self.rows[:, : whole * self.group].reshape(rows, whole, self.group)
            yield view, (slice(None), slice(0, whole))
        if whole * self.group < length:
            yield self.rows[:, None, whole * self.group :], (slice(None), slice(whole, whole + 1))
