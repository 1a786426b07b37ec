"""The tensors of any file that holds some, streamed: .npy, .npz, text, .safetensors, .onnx, .tflite.

for source in open_tensors("model.safetensors", only="*.weight"):
    for piece in source.chunks():
        ...
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from .. import arguments
from ..exceptions import DTypeError, InputFileError, UnknownNameError
from .npy_file import open_npy, open_npz
from .onnx_file import open_onnx
from .safetensors_file import open_safetensors
from .source import TensorSource
from .text import open_stdin, open_text_file, parse_numbers
from .tflite_file import open_tflite

__all__ = ["FORMATS", "TensorSource", "open_tensors", "parse_numbers"]

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
}


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
        .tflite (constant tensors). ``-`` is text from standard input.
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
        if opener is None and os.path.isdir(path):  # Path.is_dir raises for a name that is too long
            raise InputFileError(f"{path}: a file is required; this is a folder.")
        if opener is None:
            raise InputFileError(
                f"{path}: the ending must say the format; known: {', '.join(FORMATS)}; '-' is text from standard input."
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
