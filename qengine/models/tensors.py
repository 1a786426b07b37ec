"""The tensors of any file that holds some, streamed: .npy, .npz, text, .safetensors, .onnx, .tflite, .parquet, .zarr.

A folder or a pattern (``w-*.npy``) of files of one kind is one tensor in shards.

for source in open_tensors("model.safetensors", only="*.weight"):
    for piece in source.chunks():
        ...
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import arguments
from ..exceptions import DTypeError, InputFileError, UnknownNameError
from .npy_file import open_npy, open_npz
from .onnx_file import open_onnx
from .parquet_file import open_parquet
from .safetensors_file import open_safetensors
from .shards import PATTERN, open_shards, shard_paths
from .source import PIECE, Array, TensorSource
from .text import open_stdin, open_text_file, parse_numbers
from .tflite_file import open_tflite
from .zarr_file import open_zarr

__all__ = ["FORMATS", "FileTensor", "TensorSource", "open_tensors", "parse_numbers"]

#: Ending of the file's name -> what opens it.
FORMATS: dict[str, Callable[[Path], list[TensorSource]]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".csv": open_text_file,
    ".txt": open_text_file,
    ".tsv": open_text_file,
    ".safetensors": open_safetensors,
    ".onnx": open_onnx,
    ".tflite": open_tflite,
    ".parquet": open_parquet,
}
#: The ending of a folder that is a store.
STORE = ".zarr"


def _distinct(sources: list[TensorSource]) -> list[TensorSource]:
    """Give tensors of the same name the names ``w``, ``w#2``, ``w#3`` ..."""
    taken: set[str] = set()
    next_number: dict[str, int] = {}
    out = []
    for source in sources:
        name = source.name
        while name in taken:
            number = next_number[source.name] = next_number.get(source.name, 1) + 1
            name = f"{source.name}#{number}"
        taken.add(name)
        out.append(source if name == source.name else dataclasses.replace(source, name=name))
    return out


def _selected(sources: list[TensorSource], only: Iterable[str]) -> list[TensorSource]:
    """Return the tensors of these names and patterns, in the file's order."""
    names = {source.name for source in sources}
    wanted: set[str] = set()
    for pattern in only:
        found = {pattern} if pattern in names else {name for name in names if fnmatch.fnmatchcase(name, pattern)}
        if not found:
            some = difflib.get_close_matches(pattern, names, n=5, cutoff=0.3) or sorted(names)[:5]
            raise UnknownNameError(
                f"no tensor of the file is named {pattern!r} or matches it; it holds {len(names)}, "
                f"for instance {', '.join(map(repr, some))}."
            )
        wanted |= found
    return [source for source in sources if source.name in wanted]


def open_tensors(path: str | os.PathLike[str], *, only: str | Iterable[str] | None = None) -> list[TensorSource]:
    r"""Return the tensors of a file; their values are read when they are asked for.

    Parameters
    ----------
    path : str or path
        The ending says the format: .npy, .npz, .csv, .txt, .tsv, .safetensors, .onnx (initializers and constants),
        .tflite (constant tensors), .parquet (columns of numbers), .zarr (a folder). ``-`` is text from standard input.
        Another folder, or a pattern with ``* ? [`` in its last part, names shards: files of one ending, in the order of
        the numbers in their names, that follow one another along the first axis.
    only : str, or several
        Names, or patterns with ``*``, ``?`` and ``[...]``; an exact name comes first. Each must find something.

    Returns
    -------
    list of TensorSource
        In the file's order, names distinct. Integer codes that carry a scale of their own are dequantized, and
        `note` says so. Tensors that are no numbers are listed with a `refusal`.

    Raises
    ------
    InputFileError
        If the file is missing, unreadable, of an unknown ending, empty, damaged, holds no tensor, or needs a package
        that is not installed.
    DTypeError
        If no selected tensor is of a type that is read.
    UnknownNameError
        If a name or pattern of `only` finds nothing.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "w.csv")
    ...     _ = path.write_text("-0.5, 0.5\n1, 2.5\n")
    ...     (w,) = open_tensors(path)
    >>> w.name, w.shape, w.read().tolist()
    ('w', (4,), [-0.5, 0.5, 1.0, 2.5])
    """
    path = arguments.path("path", path)
    if path == "-":
        sources = open_stdin()
    else:
        path = Path(path)
        opener = FORMATS.get(path.suffix.lower())
        # os.path: methods of Path raise for a name that is too long.
        if path.suffix.lower() == STORE and os.path.isdir(path):
            opener = open_zarr
        elif (opener is None and os.path.isdir(path)) or (PATTERN.search(path.name) and not os.path.exists(path)):
            files = shard_paths(path, FORMATS)
            one, opener = FORMATS[files[0].suffix.lower()], lambda path: open_shards(path, one, files)
        if opener is None:
            missing = "" if os.path.exists(path) else "no such file or folder; "
            raise InputFileError(
                f"{path}: {missing}the ending must say the format; known: {', '.join(FORMATS)}, and folders in "
                f"{STORE}; '-' is text from standard input."
            )
        sources = opener(path)
    if not sources:
        raise InputFileError(f"{path}: the file holds no tensor with values.")
    sources = _distinct(sources)
    if only is not None:
        sources = _selected(sources, [only] if isinstance(only, str) else only)
    if all(source.refusal for source in sources):
        raise DTypeError(f"{path}: {sources[0].name}: {sources[0].refusal}")
    return sources


def _opened(path: str, name: str) -> TensorSource:
    """Return a tensor; a file that has not changed is not opened again for every window."""
    try:
        status = os.stat(path)
    except OSError:
        return _known(path, name, None)
    return _known(path, name, (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=64)
def _known(path: str, name: str, version: tuple[int, int] | None) -> TensorSource:
    (source,) = open_tensors(path, only=name)
    return source


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor of a file by its name: small enough to send to a worker, which opens the file itself.

    Attributes
    ----------
    path : str
        As `open_tensors` takes it; absolute, where workers have another folder than the client.
    name : str
    shape : tuple of int

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "w.npy")
    ...     np.save(path, np.float32([[-1.5, 0.5], [2.5, 3.5]]))
    ...     FileTensor.of(path, "w").window(1, 3).tolist()
    [0.5, 2.5]
    """

    path: str
    name: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, path: str | os.PathLike[str], name: str) -> FileTensor:
        """Return a tensor of a file; raises as `open_tensors` does."""
        whole = os.path.abspath(path)
        return cls(whole, name, _opened(whole, name).shape)

    def _source(self) -> TensorSource:
        source = _opened(self.path, self.name)
        if source.shape != self.shape:
            raise InputFileError(
                f"{self.path}: tensor {self.name!r} must have shape {self.shape}, as where it was opened first; here "
                f"it has {source.shape}."
            )
        return source

    def chunks(self, elements: int = PIECE) -> Iterator[Array]:
        """Return flat pieces, as `TensorSource.chunks` does."""
        return self._source().chunks(elements)

    def window(self, start: int, stop: int) -> Array:
        """Return the flat elements ``start .. stop - 1``, as `TensorSource.window` does."""
        return self._source().window(start, stop)
