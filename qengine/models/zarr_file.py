"""Zarr: the arrays of a store in a folder, read chunk by chunk. Needs zarr."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..affine.windows import slabs, window
from ..exceptions import InputFileError
from .elements import ELEMENTS
from .source import Array, TensorSource, optional, reading

#: Elements of a chunk, which is held whole.
LARGEST_CHUNK = 1 << 28


def open_zarr(path: Path) -> list[TensorSource]:
    """Return the array, or all arrays of the group, in a ``.zarr`` folder."""
    zarr = optional("zarr", path, "zarr")
    with reading(path, Exception):
        found = zarr.open(str(path), mode="r")
        if isinstance(found, zarr.Array):
            arrays = [(path.stem, found)]
        else:
            members = sorted(found.members(max_depth=None))
            arrays = [(name, one) for name, one in members if isinstance(one, zarr.Array)]
    if not arrays:
        raise InputFileError(f"{path}: the store holds no array.")
    return [_array(path, name, one) for name, one in arrays]


def _array(path: Path, name: str, array: Any) -> TensorSource:
    where = f"{path}, array {name!r}"
    dtype, shape = np.dtype(array.dtype), tuple(int(n) for n in array.shape)
    element = ELEMENTS.get(dtype.name)
    if element is None or dtype.kind not in "iuf":
        reason = f"dtype {dtype} is not read: float16, float32, float64 and integers of 8 to 64 bits are."
        return TensorSource(name, shape, str(dtype), "float64", lambda _: iter(()), refusal=reason)
    if math.prod(array.chunks) > LARGEST_CHUNK:
        reason = f"a chunk of more than {LARGEST_CHUNK:,} elements is not read: store the array in smaller ones."
        return TensorSource(name, shape, str(dtype), "float64", lambda _: iter(()), refusal=reason)

    def get(at: tuple[Any, ...]) -> Array:
        with reading(where, Exception):
            return np.asarray(array[at])

    def pieces(elements: int) -> Iterator[Array]:
        if not shape:
            yield windows(0, 1)
            return
        start = 0
        for piece in slabs(get, shape, int(array.chunks[0]), elements):
            yield element.widen(piece, piece.size, start, where)
            start += piece.size

    def windows(start: int, stop: int) -> Array:
        flat = window(get, shape, start, stop)
        return element.widen(flat, flat.size, start, where)

    return TensorSource(name, shape, element.name, element.values, pieces, windows=windows)
