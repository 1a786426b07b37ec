"""A tensor that is read from its file when it is wanted, piece by piece."""

from __future__ import annotations

import importlib
import math
import operator
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError, DTypeError, InputFileError, QEngineError

Array = npt.NDArray[Any]
#: Elements of one piece when nothing is said.
PIECE = 1 << 22


@dataclass(frozen=True, eq=False, slots=True)
class TensorSource:
    """One tensor of a file: what is known about it, and its values when they are wanted.

    Attributes
    ----------
    name : str
        Unique within the file; the file's stem where the format names nothing.
    shape : tuple of int
        ``()`` is a scalar.
    dtype : str
        Type as it is stored: ``float32``, ``bfloat16``, ``int8``, ``int4`` ...
    values : str
        dtype of the pieces: ``float32`` or ``float64``; every stored value is exact in it.
    note : str
        What was done to the stored numbers, for instance ``int8, dequantized per channel (axis 0, 32 scales)``.
    refusal : str
        Why the values cannot be had (bool, strings ...); empty if they can.
    windows : callable(start, stop), optional
        What reads any range of elements, where the format allows it.

    Examples
    --------
    >>> import numpy as np
    >>> source = TensorSource("w", (2, 2), "int8", "float64", lambda elements: iter([np.array([-128.0, 0, 1, 127])]))
    >>> source.size, [piece.tolist() for piece in source.chunks()]
    (4, [[-128.0, 0.0, 1.0, 127.0]])
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    values: str
    pieces: Callable[[int], Iterator[Array]] = field(repr=False)
    note: str = ""
    refusal: str = ""
    windows: Callable[[int, int], Array] | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def chunks(self, elements: int = PIECE) -> Iterator[Array]:
        """Return the values as 1-D arrays; one after the other they are the tensor, flat, in C order.

        Parameters
        ----------
        elements : int
            At least 1: no piece is longer. An empty tensor has no piece. Each call reads the file anew.

        Raises
        ------
        DTypeError
            If the tensor is of a type that is not read; see `refusal`.
        DomainError
            If `elements` is below 1, or (while it runs) a 64-bit integer beyond 2**53 is met.
        InputFileError
            While it runs, if the file is damaged or has changed.
        """
        elements = operator.index(elements)
        if elements < 1:
            raise DomainError(f"elements must be at least 1; got {elements}.")
        if self.refusal:
            raise DTypeError(f"{self.name}: {self.refusal}")
        return self.pieces(elements) if self.size else iter(())

    def window(self, start: int, stop: int) -> Array:
        """Return the flat elements ``start .. stop - 1``; raises as `chunks` does.

        Raises
        ------
        DomainError
            A range outside ``[0, size]``, or a format that is read from its beginning alone.
        """
        if not 0 <= start <= stop <= self.size:
            raise DomainError(f"a window must lie within [0, {self.size}]; got [{start}, {stop}).")
        if self.refusal:
            raise DTypeError(f"{self.name}: {self.refusal}")
        if self.windows is None:
            raise DomainError(
                f"{self.name}: this file is read from its beginning alone (compressed, text, a model's, or in Fortran "
                "order): save the tensor as .npy, .safetensors, .parquet or .zarr, or measure it without a cluster."
            )
        return self.windows(start, stop) if start < stop else np.empty(0, self.values)

    def read(self, dtype: str | None = None) -> Array:
        """Return the whole tensor in its shape, as one array of dtype `values` or a given one. Raises as `chunks`."""
        pieces = self.chunks()
        out = np.empty(self.size, dtype or self.values)
        done = 0
        for piece in pieces:
            out[done : done + piece.size] = piece
            done += piece.size
        return out.reshape(self.shape)


@contextmanager
def reading(where: object, *damage: type[Exception]) -> Iterator[None]:
    """Turn the operating system's errors, and errors of types `damage`, into InputFileError."""
    try:
        yield
    except QEngineError:
        raise
    except OSError as error:
        raise InputFileError(f"{where}: cannot be read: {str(error.strerror or error).strip().rstrip('.')}.") from error
    except damage as error:
        detail = " ".join(str(error).split())[:200]
        raise InputFileError(f"{where}: the file is damaged ({type(error).__name__}: {detail}).") from error


def file_size(path: Path) -> int:
    """Return the length of a regular file in bytes; anything else, and an empty one, is InputFileError."""
    with reading(path):
        status = path.stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # opening a pipe would wait for a writer
        raise InputFileError(f"{path}: a regular file is required: tensors are read from several places of it.")
    with reading(path), path.open("rb"):
        pass
    if status.st_size == 0:
        raise InputFileError(f"{path}: the file is empty (0 bytes).")
    return status.st_size


def shape_of(dimensions: Any, where: str) -> tuple[int, ...]:
    """Return the dimensions as ints >= 0."""
    shape = tuple(dimensions)
    if len(shape) > 64 or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
        raise InputFileError(f"{where}: a shape is up to 64 integers in [0, 2**63 - 1]; the file says {shape[:65]}.")
    if math.prod(n for n in shape if n) >= 1 << 60:  # even of an empty array NumPy refuses this
        raise InputFileError(f"{where}: a shape has fewer than 2**60 elements; the file says {shape}.")
    return shape


def optional(package: str, path: os.PathLike[str] | str, extra: str = "models") -> Any:
    """Import a package of an extra; `path` is the file that needs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputFileError(
            f"{path}: reading this needs the package {package} ({error}); pip install 'qengine-numerics[{extra}]'."
        ) from error
