"""Tensors that are larger than memory and can be read from any place: dask arrays, and whatever gives slabs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError

Array = npt.NDArray[Any]
#: Elements that are held at once, beside a chunk of what is read: 256 MiB of float32.
SLAB = 1 << 26
Get = Callable[[tuple[Any, ...]], Array]


@runtime_checkable
class Windowed(Protocol):
    """A tensor that is read in pieces, and from any place; to be sent to workers it can be pickled."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""

    def chunks(self, elements: int = ...) -> Iterator[Array]:
        """Yield flat pieces of at most `elements` elements, in C order; each call starts anew."""

    def window(self, start: int, stop: int) -> Array:
        """Return the flat elements ``start .. stop - 1``."""


def window(get: Get, shape: tuple[int, ...], start: int, stop: int, at: tuple[int, ...] = ()) -> Array:
    """Return the flat elements ``[start, stop)`` of what `get` gives slabs of.

    `get` takes indices and slices of the first axes. Beside what lies behind `get`, at most three times the window is
    held.

    Examples
    --------
    >>> import numpy as np
    >>> from qengine.affine.windows import window
    >>> x = np.arange(24).reshape(2, 3, 4)
    >>> window(x.__getitem__, x.shape, 10, 14).tolist()
    [10, 11, 12, 13]
    """
    if not shape:
        return np.asarray(get(at)).reshape(-1)[start:stop]
    inner = math.prod(shape[1:])
    first, last = start // inner, -(-stop // inner)
    if inner <= stop - start or len(shape) == 1:
        return np.asarray(get((*at, slice(first, last)))).reshape(-1)[start - first * inner : stop - first * inner]
    parts = [
        window(get, shape[1:], max(start - row * inner, 0), min(stop - row * inner, inner), (*at, row))
        for row in range(first, last)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def slabs(get: Get, shape: tuple[int, ...], rows: int, elements: int, at: tuple[int, ...] = ()) -> Iterator[Array]:
    """Yield all elements flat, in C order, in pieces: `rows` of the first axis are read at a time, or fewer.

    So that chunks of `rows` rows are read once; where that is more than `SLAB` elements they are read again and again.
    """
    inner = math.prod(shape[1:])
    if inner > SLAB and len(shape) > 1:
        for row in range(shape[0]):
            yield from slabs(get, shape[1:], shape[1], elements, (*at, row))
        return
    step = max(1, min(rows, SLAB // max(inner, 1)))
    for first in range(0, shape[0], step):
        flat = np.asarray(get((*at, slice(first, min(first + step, shape[0]))))).reshape(-1)
        for begin in range(0, flat.size, elements):
            yield flat[begin : begin + elements]


def is_dask(x: Any) -> bool:
    """Tell a dask array, without importing anything."""
    return type(x).__module__.startswith("dask.array") and hasattr(x, "dask")


@dataclass(frozen=True, eq=False)
class DaskTensor:
    """A dask array, block by block.

    Rows of blocks are computed by the scheduler that dask is set to; a window in the thread that asks for it, since
    that is a task of a worker itself.

    Attributes
    ----------
    array : dask.array.Array
        Of known shape.
    """

    array: Any

    def __post_init__(self) -> None:
        if not all(isinstance(n, (int, np.integer)) for n in self.array.shape):
            raise DomainError(
                f"a dask array must know its shape; got {self.array.shape}: call its compute_chunk_sizes() first."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(int(n) for n in self.array.shape)

    def chunks(self, elements: int = 1 << 22) -> Iterator[Array]:
        """Yield flat pieces in C order; a row of blocks is held at a time, or part of one."""
        if not self.shape:
            yield np.asarray(self.array.compute()).reshape(-1)
            return
        yield from slabs(lambda at: self.array[at].compute(), self.shape, max(self.array.chunks[0]), elements)

    def window(self, start: int, stop: int) -> Array:
        """Return the flat elements ``start .. stop - 1``."""
        return window(lambda at: self.array[at].compute(scheduler="synchronous"), self.shape, start, stop)
