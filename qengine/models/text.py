"""Numbers as text: CSV, plain text and what is pasted into standard input."""

from __future__ import annotations

import io
import re
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import numpy.typing as npt

from ..exceptions import InputFileError
from .source import Array, TensorSource, reading

#: Told how many numbers have been read; what it raises ends the work.
Tell = Callable[[int], None]
#: Characters read at once.
_BLOCK = 1 << 20
#: Bytes of parsed numbers that stay in memory; more go to a temporary file.
_IN_MEMORY = 1 << 26
_LONGEST = 4096
_TOKEN = re.compile(r"[,;]|[^\s,;]+")
#: What the quick path leaves to the careful one: these characters, and empty fields. Searches that begin with one
#: character are the fast ones.
_DOUBTFUL = "_\0"
_COMMENT = re.compile(r"#[^\n]*")
_EMPTY = (re.compile(r",[^\S\n]*,"), re.compile(r"\n[^\S\n]*,"))


class NumberReader:
    """Parse numbers from pieces of a text, knowing line and column.

    Parameters
    ----------
    where : str
        Name of the text in messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._line = 1
        self._column = 1  # characters, from 1
        self._begun = False  # a field or a header has been met
        self._field = False  # a number stands since the last separator of this line
        self._separator = ""  # the comma or semicolon of this line
        self._comment = False
        self.header = ""

    def feed(self, text: str, ends_line: bool = False) -> npt.NDArray[np.float64]:
        """Return the numbers of the next piece, which ends behind a line end, white space or a separator.

        `ends_line`: the piece ends a line without saying so (the end of the text).
        """
        values = self._quick(text)
        return np.array(self._careful(text, ends_line), np.float64) if values is None else values

    def _error(self, problem: str, column: int) -> InputFileError:
        return InputFileError(f"{self._where}: line {self._line}, column {column}: {problem}.")

    def _next_line(self) -> None:
        self._line += 1
        self._column = 1
        self._field = self._comment = False
        self._separator = ""

    def _quick(self, text: str) -> npt.NDArray[np.float64] | None:
        """Return the numbers if there is nothing to say about the text, else None and leave the state."""
        if self._comment or "#" in text[text.rfind("\n") + 1 :]:
            return None
        if "#" in text:  # lines that are over here: no column behind a comment is ever told
            text = _COMMENT.sub("", text)
        separator = ";" if ";" in text else ","
        if self._separator not in ("", separator) or not text.isascii() or any(c in text for c in _DOUBTFUL):
            return None
        if separator == ";":
            if "," in text:
                return None
            text = text.replace(";", ",")
        if text.lstrip(" \t\r\f\v\x1c\x1d\x1e\x1f")[:1] == "," or any(empty.search(text) for empty in _EMPTY):
            return None
        tokens = text.replace(",", " ").split()
        try:
            values = np.fromiter(map(float, tokens), np.float64, len(tokens))
        except ValueError:
            return None
        if np.isinf(values).any():
            return None  # the word, or a number beyond float64?
        self._begun |= bool(tokens)
        lines = text.count("\n")
        if lines:
            self._next_line()
            self._line += lines - 1
        last = text[text.rfind("\n") + 1 :]
        self._column += len(last)
        if last.strip():
            self._field = not last.rstrip().endswith(",")
        if "," in last:
            self._separator = separator
        return values

    def _careful(self, text: str, ends_line: bool) -> list[float]:
        lines = text.split("\n")
        out: list[float] = []
        for k, part in enumerate(lines):
            if k:
                self._next_line()
            out += self._part_of_line(part, whole=self._column == 1 and (k < len(lines) - 1 or ends_line))
            self._column += len(part)
        return out

    def _part_of_line(self, part: str, whole: bool) -> list[float]:
        if self._comment:
            return []
        part, hash_sign, _ = part.partition("#")
        self._comment = bool(hash_sign)
        tokens = list(_TOKEN.finditer(part))
        if not tokens:
            return []
        if not self._begun and whole and self._is_header([m.group() for m in tokens]):
            self._begun = True
            self.header = part.strip()
            return []
        self._begun = True
        out = []
        for m in tokens:
            token, column = m.group(), self._column + m.start()
            if token in ",;":
                self._pass_separator(token, column)
            else:
                out.append(self._number(token, column))
                self._field = True
        return out

    @staticmethod
    def _is_header(tokens: list[str]) -> bool:
        """Tell whether a first line is words only; one that begins like a number is a mistake in a number."""
        words = [re.sub(r"^\W+|\W+$", "", token) for token in tokens if token not in ",;"]
        return any(words) and not any(
            "\0" in word or word[:1].isdigit() or word.lower() in ("nan", "inf", "infinity") for word in words
        )

    def _pass_separator(self, token: str, column: int) -> None:
        if self._separator not in ("", token):
            raise self._error(
                "',' and ';' separate numbers in the same line; a decimal comma is not read: write 1.5, not 1,5", column
            )
        if not self._field:
            raise self._error(f"a number is required before {token!r}; the field is empty", column)
        self._separator, self._field = token, False

    def _number(self, token: str, column: int) -> float:
        shown = repr(token if len(token) <= 40 else token[:40] + "...")
        if "\0" in token:
            raise self._error("text is required; got a NUL byte (a binary file, or UTF-16: save it as UTF-8)", column)
        foreign = re.search("[\udc80-\udcff]", token)
        if foreign:
            byte = ord(foreign.group()) & 0xFF
            raise self._error(f"UTF-8 is required; got the byte 0x{byte:02x}", column + foreign.start())
        try:
            if not token.isascii() or "_" in token:  # Python would read 1_000, and digits of every script
                raise ValueError
            value = float(token)
        except ValueError:
            raise self._error(f"a number is required; got {shown}", column) from None
        if np.isinf(value) and any(c.isdigit() for c in token):
            raise self._error(f"{shown} is beyond float64 (at most 1.797...e308)", column)
        return value

    def overlong(self, text: str) -> bool:
        """Tell whether a long text without white space may go on: it is a comment."""
        if self._comment or "#" in text:
            return True
        raise self._error(f"a field of more than {len(text) - 1} characters is no number", self._column)


def _arrays(text: TextIO, reader: NumberReader) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the numbers of a text, a block of whole lines (or of whole fields, in a long line) at a time."""
    tail = text.read(1).removeprefix("\ufeff")
    while block := text.read(_BLOCK):
        tail += block
        cut = tail.rfind("\n") + 1 or max(tail.rfind(c) for c in " \t,;") + 1
        if not cut and len(tail) > _BLOCK and reader.overlong(tail):
            cut = len(tail)
        if cut:
            yield reader.feed(tail[:cut])
            tail = tail[cut:]
    yield reader.feed(tail, ends_line=True)


class _Spool:
    """Parsed numbers: in memory while they are few, then in a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with this object
        weakref.finalize(self, self._file.close)
        self.size = 0

    def append(self, values: npt.NDArray[np.float64]) -> None:
        self._file.write(values.tobytes())
        self.size += values.size

    def pieces(self, elements: int) -> Iterator[Array]:
        for start in range(0, self.size, elements):
            n = min(elements, self.size - start)
            self._file.seek(8 * start)
            yield np.frombuffer(bytearray(self._file.read(8 * n)), np.float64)


def _open_text(text: TextIO, name: str, where: str, progress: Tell | None = None) -> list[TensorSource]:
    reader, spool = NumberReader(where), _Spool()
    with reading(where):
        for values in _arrays(text, reader):
            spool.append(values)
            if progress is not None:
                progress(spool.size)
    if not spool.size:
        skipped = f" (only a header line, {reader.header[:80]!r})" if reader.header else ""
        raise InputFileError(f"{where}: at least one number is required; the text has none{skipped}.")
    note = f"decimal text, nearest float64; header line {reader.header[:80]!r} passed over" if reader.header else ""
    return [TensorSource(name, (spool.size,), "text", "float64", spool.pieces, note or "decimal text, nearest float64")]


def _decoded(stream: BinaryIO) -> io.TextIOWrapper:
    # A byte that is not UTF-8 becomes a lone surrogate, so that its line and column can be told.
    return io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline=None)


def open_text_file(path: Path, progress: Tell | None = None) -> list[TensorSource]:
    """Return the numbers of a text file as one 1-D tensor of the file's stem; parsed once, now.

    `progress` is as in `parse_numbers`.
    """
    with reading(path):
        stream = path.open("rb")
    with stream, _decoded(stream) as text:
        return _open_text(text, path.stem, str(path), progress)


def open_stdin() -> list[TensorSource]:
    """Return the numbers of standard input as one 1-D tensor named ``stdin``."""
    if sys.stdin is None:
        raise InputFileError("<stdin>: standard input is closed.")
    raw = getattr(sys.stdin, "buffer", None)
    if raw is None:
        return _open_text(sys.stdin, "stdin", "<stdin>")
    text = _decoded(raw)
    try:
        return _open_text(text, "stdin", "<stdin>")
    finally:
        text.detach()  # standard input stays open


def parse_numbers(text: str, where: str = "<stdin>", progress: Tell | None = None) -> npt.NDArray[np.float64]:
    r"""Return the numbers of a text, flat.

    Numbers are separated by white space, line ends, commas or semicolons (one of the two in a line; one at the end of
    a line is passed over). ``#`` starts a comment. A first line of words only is a header and is passed over. ``nan``
    and ``inf`` are numbers. A decimal comma and a thousands separator are not read.

    Parameters
    ----------
    text : str
        Decimal numbers; each becomes the nearest float64.
    where : str
        Name of the text in messages.
    progress : callable(numbers), optional
        Called now and then with how many numbers have been read; what it raises ends the work.

    Returns
    -------
    float64 array, 1-D

    Raises
    ------
    InputFileError
        For a text that is no number, an empty field, a number beyond float64, or no number at all; names line and
        column, both counted from 1, the column in characters.

    Examples
    --------
    >>> parse_numbers("scale, offset  # a header\n-0.5, 2.5\n1e-3 nan")
    array([-5.0e-01,  2.5e+00,  1.0e-03,      nan])
    >>> parse_numbers("1, 2\n3, x5")
    Traceback (most recent call last):
    qengine.exceptions.InputFileError: <stdin>: line 2, column 4: a number is required; got 'x5'.
    """
    (source,) = _open_text(io.StringIO(text, newline=None), "text", where, progress)
    out: npt.NDArray[np.float64] = source.read()
    return out
