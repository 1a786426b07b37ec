"""Element types of tensor files, widened exactly to float32 or float64, and read as a stream of bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..exceptions import DomainError, InputFileError
from .source import Array, reading

#: Bytes asked of a file at once: a compressed stream needs as much again.
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Element:
    """How one element type is stored (little endian unless `storage` says so) and what it is widened to."""

    name: str
    storage: str
    values: str
    bits: int

    def nbytes(self, count: int) -> int:
        """Bytes of `count` elements (4-bit elements: two a byte, the last byte may be half used)."""
        return (count * self.bits + 7) // 8

    def widen(self, stored: Array, count: int, start: int, where: str) -> Array:
        """Return `count` stored elements, the first of flat index `start`, exactly as float32 or float64."""
        if self.bits == 4:
            nibbles = np.stack([stored & 15, stored >> 4], axis=-1).reshape(-1)[:count]
            return (nibbles ^ 8).astype(np.float64) - 8 if self.name == "int4" else nibbles.astype(np.float64)
        if self.name == "bfloat16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        if self.name.startswith("float8"):
            return np.asarray(_float8_values(self.name)[stored])
        if self.bits == 64 and stored.dtype.kind in "iu":
            beyond = (stored > 1 << 53) | (stored < -(1 << 53) if stored.dtype.kind == "i" else False)
            if beyond.any():
                k = int(np.argmax(beyond))
                raise DomainError(
                    f"{where}: an integer must lie in [-2**53, 2**53] to be exact in float64; "
                    f"got {int(stored.flat[k])} at flat index {start + k}."
                )
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
            widened: Array = stored.astype(self.values, copy=False)
        return widened


def _row(name: str, storage: str, values: str = "float64", bits: int = 0) -> tuple[str, Element]:
    return name, Element(name, storage, values, bits or 8 * np.dtype(storage).itemsize)


#: Every element type that is read.
ELEMENTS = dict(
    [
        _row("float64", "<f8"),
        _row("float32", "<f4", "float32"),
        _row("float16", "<f2", "float32"),
        _row("bfloat16", "<u2", "float32"),
        _row("float8_e4m3fn", "u1", "float32"),
        _row("float8_e5m2", "u1", "float32"),
        _row("float8_e4m3fnuz", "u1", "float32"),
        _row("float8_e5m2fnuz", "u1", "float32"),
        *(_row(f"{sign}int{8 * n}", f"<{kind}{n}") for n in (1, 2, 4, 8) for sign, kind in (("", "i"), ("u", "u"))),
        _row("int4", "u1", bits=4),
        _row("uint4", "u1", bits=4),
    ]
)


@functools.cache
def _float8_values(name: str) -> Array:
    """Return the 256 values of an 8-bit float: (-1)^s * 2^max(e - bias, 1 - bias) * (e > 0 + mantissa)."""
    mantissa_bits, bias = {
        "float8_e4m3fn": (3, 7),
        "float8_e5m2": (2, 15),
        "float8_e4m3fnuz": (3, 8),
        "float8_e5m2fnuz": (2, 16),
    }[name]
    code = np.arange(256)
    exponent = (code & 127) >> mantissa_bits
    fraction = (code & ((1 << mantissa_bits) - 1)) + np.where(exponent > 0, 1 << mantissa_bits, 0)
    magnitude = np.ldexp(fraction.astype(np.float64), np.maximum(exponent, 1) - bias - mantissa_bits)
    values = np.where(code < 128, magnitude, -magnitude)
    if name.endswith("uz"):
        values[128] = np.nan  # one zero, and its negative is the only NaN
    elif name == "float8_e4m3fn":
        values[[127, 255]] = np.nan
    else:
        top = exponent == 31
        values[top] = np.where(fraction[top] > 4, np.nan, np.copysign(np.inf, values[top]))
    table: Array = values.astype(np.float32)
    return table


Opener = Callable[[], AbstractContextManager[BinaryIO]]


def file_at(path: Path, offset: int) -> Opener:
    """Return what opens `path` at a byte."""

    def opened() -> BinaryIO:
        with reading(path):
            stream = path.open("rb")
            stream.seek(offset)
        return stream

    return opened


def read_exactly(stream: BinaryIO, count: int, where: str) -> Array:
    """Read `count` bytes, or raise InputFileError that names both numbers."""
    out = np.empty(count, np.uint8)
    done = 0
    while done < count:
        piece = stream.read(min(_READ, count - done))
        if not piece:
            raise InputFileError(f"{where}: {count} more bytes are required; the file ends after {done} of them.")
        out[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    return out


def stream(
    opened: Opener, element: Element, count: int, where: str, *damage: type[Exception]
) -> Callable[[int], Iterator[Array]]:
    """Return what yields `count` contiguous elements in pieces; `damage`: errors of a damaged stream."""

    def pieces(elements: int) -> Iterator[Array]:
        step = max(2, elements - elements % 2) if element.bits < 8 else elements
        with opened() as source:
            for start in range(0, count, step):
                n = min(step, count - start)
                with reading(where, *damage):
                    stored = read_exactly(source, element.nbytes(n), where).view(element.storage)
                widened = element.widen(stored, n, start, where)
                yield from np.split(widened, range(elements, n, elements)) if n > elements else (widened,)

    return pieces


def anywhere(path: Path, offset: int, element: Element, where: str) -> Callable[[int, int], Array] | None:
    """Return what reads elements ``[start, stop)`` of those that begin at a byte of a file; None below a byte each."""
    if element.bits < 8:
        return None

    def windows(start: int, stop: int) -> Array:
        with file_at(path, offset + element.nbytes(start))() as source, reading(where):
            stored = read_exactly(source, element.nbytes(stop - start), where).view(element.storage)
        return element.widen(stored, stop - start, start, where)

    return windows


@dataclass(frozen=True, eq=False, slots=True)
class StoredScale:
    """Scales and zero points that stand in a file: ``real = (q - zero_point) * scale``.

    Both are 1-D. One element: per tensor. Else, of a tensor of shape ``(..., shape[axis], inner)``, with groups of
    `block` along the axis, element k of the C order belongs to the scale of its own (outer,) block and inner index.
    """

    scale: Array
    zero_point: Array
    axis: int | None = None
    block: int = 0

    def note(self, element: Element) -> str:
        """Say what was done, in one line."""
        if self.axis is None:
            how = f"per tensor (scale {self.scale[0]:.9g}, zero point {self.zero_point[0]:g})"
        elif self.block:
            how = f"in blocks of {self.block} (axis {self.axis}, {self.scale.size} scales)"
        else:
            how = f"per channel (axis {self.axis}, {self.scale.size} scales)"
        return f"{element.name}, dequantized {how}"

    def applied(
        self, pieces: Callable[[int], Iterator[Array]], shape: tuple[int, ...]
    ) -> Callable[[int], Iterator[Array]]:
        """Return `pieces` of integers, dequantized in float64: exact up to 16 bits, else rounded once."""

        def dequantized(elements: int) -> Iterator[Array]:
            start = 0
            for piece in pieces(elements):
                if self.axis is None:
                    scale, zero_point = self.scale[0], self.zero_point[0]
                else:
                    index = self._index(np.arange(start, start + piece.size), shape)
                    scale, zero_point = self.scale[index], self.zero_point[index]
                start += piece.size
                yield (piece.astype(np.float64) - zero_point) * scale

        return dequantized

    def _index(self, flat: Array, shape: tuple[int, ...]) -> Array:
        assert self.axis is not None
        inner = int(np.prod(shape[self.axis + 1 :], dtype=np.int64))
        channel: Array = flat // inner % shape[self.axis]
        if not self.block:
            return channel
        blocks = -(-shape[self.axis] // self.block)
        return np.asarray((flat // (inner * shape[self.axis]) * blocks + channel // self.block) * inner + flat % inner)
