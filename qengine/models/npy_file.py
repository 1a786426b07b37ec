"""NumPy's files: ``.npy`` (one array) and ``.npz`` (a zip of them), streamed. Nothing is ever unpickled."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import lzma
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..exceptions import DTypeError, InputFileError
from .elements import ELEMENTS, Element, Opener, anywhere, file_at, read_exactly, stream
from .source import Array, TensorSource, file_size, reading, shape_of

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 1 << 16
#: Deflate never packs more than this many bytes into one.
_MAX_RATIO = 1040
_NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248])")
_NAMED = re.compile(r"[<>|=]?([bcfimMOSuUV]\d{0,6})(\[\w+\])?")
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    OverflowError,
)


@dataclass(frozen=True, slots=True)
class _Header:
    shape: tuple[int, ...]
    descr: object
    fortran: bool
    length: int

    @property
    def type_name(self) -> str:
        """NumPy's name of the dtype where there is one, for messages."""
        if isinstance(self.descr, str) and _NAMED.fullmatch(self.descr):
            with contextlib.suppress(TypeError, ValueError):
                return str(np.dtype(self.descr).newbyteorder("="))
        return str(self.descr)[:80]

    @property
    def element(self) -> Element | None:
        """How the numbers are stored; None for what is not read."""
        if not isinstance(self.descr, str) or not _NUMBERS.fullmatch(self.descr):
            return None
        return dataclasses.replace(ELEMENTS[np.dtype(self.descr).name], storage=self.descr)


def _header(source: BinaryIO, where: str) -> _Header:
    """Parse the header of an array; `source` stands behind it afterwards."""
    start = bytes(read_exactly(source, 8, where))
    if start[:6] != _MAGIC:
        raise InputFileError(f"{where}: not a .npy array: it must begin with {_MAGIC!r}; got {start[:6]!r}.")
    if start[6] not in (1, 2, 3):
        raise InputFileError(f"{where}: .npy versions 1, 2 and 3 are known; the file is of version {start[6]}.")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(bytes(read_exactly(source, width, where)), "little")
    if length > _MAX_HEADER:
        raise InputFileError(f"{where}: a header has at most {_MAX_HEADER} bytes; the file declares {length}.")
    text = bytes(read_exactly(source, length, where))
    try:
        fields = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin-1").strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        # What Python says of it may name an object of its own by its address.
        shown = text[:60].decode("latin-1")
        raise InputFileError(
            f"{where}: the file is damaged: its header must be a dictionary of plain values; got {shown!r}."
        ) from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise InputFileError(f"{where}: the header must hold descr, fortran_order and shape; got {str(fields)[:120]}.")
    if not isinstance(fields["shape"], tuple) or type(fields["fortran_order"]) is not bool:
        raise InputFileError(f"{where}: shape must be a tuple and fortran_order a bool; got {str(fields)[:120]}.")
    return _Header(shape_of(fields["shape"], where), fields["descr"], fields["fortran_order"], 8 + width + length)


def _c_order(array: Array, elements: int) -> Iterator[Array]:
    """Yield an array of any memory layout flat in C order, copying at most `elements` at once."""
    inner = array.size // array.shape[0] if array.ndim else 1
    if array.size <= elements:
        yield np.array(array, order="C", subok=False).reshape(-1)
    elif inner <= elements:
        rows = elements // inner
        for first in range(0, array.shape[0], rows):
            yield np.array(array[first : first + rows], order="C", subok=False).reshape(-1)
    else:
        for row in array:
            yield from _c_order(row, elements)


def _fortran(
    mapped: Callable[[], AbstractContextManager[Array]], element: Element, where: str
) -> Callable[[int], Iterator[Array]]:
    """Return what yields a mapped Fortran-ordered array in C order."""

    def pieces(elements: int) -> Iterator[Array]:
        start = 0
        with mapped() as array:
            for piece in _c_order(array, elements):
                yield element.widen(piece, piece.size, start, where)
                start += piece.size

    return pieces


def _source(
    name: str, header: _Header, available: int, where: str, opened: Opener, mapped: Callable[[], Array] | None = None
) -> TensorSource:
    """Build the tensor of a header; `available`: bytes that follow it. `mapped` maps the file if it is one."""
    element = header.element
    size = int(np.prod(header.shape, dtype=object))
    if element is None:
        what = header.type_name
        reason = f"dtype {what} is not read: float16, float32, float64 and integers of 8 to 64 bits are."
        if "O" in str(header.descr) or "object" in what:
            reason = f"dtype {what}: arrays of Python objects are never unpickled; save numbers."
        return TensorSource(name, header.shape, what, "float64", lambda _: iter(()), refusal=reason)
    if element.nbytes(size) != available:
        raise InputFileError(
            f"{where}: shape {header.shape} of {element.name} is {element.nbytes(size)} bytes; "
            f"the file holds {available} behind the header."
        )
    if not header.fortran or sum(n > 1 for n in header.shape) < 2:
        pieces = stream(opened, element, size, where, *_DAMAGE)
        return TensorSource(name, header.shape, element.name, element.values, pieces)

    @contextmanager
    def from_stream() -> Iterator[Array]:
        # C order needs the last axis first: the member is unpacked to a file that can be mapped.
        with tempfile.TemporaryFile() as file:
            with reading(where, *_DAMAGE), opened() as packed:
                shutil.copyfileobj(packed, file)
                file.flush()
                array = np.memmap(file, element.storage, "r", 0, header.shape, "F")
            yield array

    @contextmanager
    def from_file() -> Iterator[Array]:
        with reading(where, ValueError):
            array = mapped() if mapped else np.empty(0)
        yield array

    pieces = _fortran(from_file if mapped else from_stream, element, where)
    return TensorSource(name, header.shape, element.name, element.values, pieces)


def open_npy(path: Path) -> list[TensorSource]:
    """Return the one array of a ``.npy`` file."""
    size, where = file_size(path), str(path)
    with file_at(path, 0)() as file:
        header = _header(file, where)
    element = header.element
    storage = element.storage if element else "u1"
    source = _source(
        path.stem,
        header,
        size - header.length,
        where,
        file_at(path, header.length),
        lambda: np.memmap(path, storage, "r", header.length, header.shape, "F"),
    )
    if source.refusal:
        raise DTypeError(f"{where}: {source.refusal}")
    if element is not None and (not header.fortran or sum(n > 1 for n in header.shape) < 2):
        source = dataclasses.replace(source, windows=anywhere(path, header.length, element, where))
    return [source]


def _member(path: Path, info: zipfile.ZipInfo) -> TensorSource:
    """Return one member of an archive: its header is read now, its numbers when they are wanted."""
    where = f"{path}, member {info.filename!r}"
    if not info.filename.endswith(".npy"):
        refusal = "not an array: members of an .npz end in .npy."
        return TensorSource(info.filename, (), "bytes", "float64", lambda _: iter(()), refusal=refusal)
    if info.flag_bits & 1:
        raise InputFileError(f"{where}: the member is encrypted.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputFileError(f"{where}: stored and deflated members are read; its method is {info.compress_type}.")
    # The sizes are only declared: they must be possible in this file before anything relies on them.
    packed = info.file_size if info.compress_type == zipfile.ZIP_STORED else info.file_size // _MAX_RATIO
    if packed > info.compress_size or info.compress_size > path.stat().st_size:
        raise InputFileError(
            f"{where}: declares {info.file_size} bytes, packed into {info.compress_size}, "
            f"in a file of {path.stat().st_size} bytes."
        )

    @contextmanager
    def opened(skip: int) -> Iterator[BinaryIO]:
        with reading(where, *_DAMAGE):
            archive = zipfile.ZipFile(path)
        with archive:
            with reading(where, *_DAMAGE):
                member = archive.open(info)
            with member:
                with reading(where, *_DAMAGE):
                    read_exactly(member, skip, where)  # type: ignore[arg-type]
                yield member  # type: ignore[misc]

    with opened(0) as member, reading(where, *_DAMAGE):
        header = _header(member, where)
    available = info.file_size - header.length
    return _source(info.filename[:-4], header, available, where, lambda: opened(header.length))


def open_npz(path: Path) -> list[TensorSource]:
    """Return the arrays of a ``.npz`` archive; members are read as streams, never whole."""
    file_size(path)
    with reading(path, *_DAMAGE), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if not members:
        raise InputFileError(f"{path}: the archive has no members.")
    return [_member(path, info) for info in members]
