"""Tables of stored scales, one channel a row: from CSV, or given as three arrays."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError, DTypeError, InputFileError, QEngineError, brief, clipped
from .recipes import as_scales

COLUMNS = ("input_scale", "weight_scale", "output_scale")
ZERO_POINT = "output_zero_point"
#: Optional columns of text: where a channel belongs.
LAYER, OPERATOR = "layer", "op"
MAX_ROWS = 10_000_000


@dataclass(frozen=True, slots=True, eq=False)
class ScaleTable:
    """Stored scales of many channels, float32, and their output zero points.

    Attributes
    ----------
    input_scale, weight_scale, output_scale : float32 arrays, one element a channel
    zero_point : int64 array
        0 where the source has none.
    name : str
        Where the table comes from (a file name), for reports.
    layer, operator : tuple of str, optional
        Layer and operator of each channel, from columns ``layer`` and ``op``; None without such a column.
    """

    input_scale: npt.NDArray[np.float32]
    weight_scale: npt.NDArray[np.float32]
    output_scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    name: str
    layer: tuple[str, ...] | None = None
    operator: tuple[str, ...] | None = None

    @property
    def scales(self) -> tuple[npt.NDArray[np.float32], ...]:
        """The three scale columns."""
        return self.input_scale, self.weight_scale, self.output_scale


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        if "_" in text:  # Python would read 1_000
            raise ValueError
        return float(text)
    except ValueError:
        raise InputFileError(f"{path}: line {line}: {column} must be a number; got {brief(text)}.") from None


def _stored(
    path: Path, values: npt.NDArray[np.float64], texts: list[list[str]], lines: list[int]
) -> npt.NDArray[np.float32]:
    """Return the scales as float32, rows by columns, or name the first that is not a scale."""
    with np.errstate(over="ignore", under="ignore"):
        stored = values.astype(np.float32)
    bad = ~(np.isfinite(stored) & (stored > 0))
    if bad.any():
        row, column = (int(k) for k in np.unravel_index(int(np.argmax(bad)), bad.shape))
        raise InputFileError(
            f"{path}: line {lines[row]}: {COLUMNS[column]} must be finite, > 0 and representable in float32; "
            f"got {brief(texts[row][column])}."
        )
    return stored


def read_scales(path: str | Path) -> ScaleTable:
    """Read a CSV of scales: columns input_scale, weight_scale, output_scale; optional: output_zero_point, layer, op.

    Other columns are ignored; a header line is required; scales are rounded to float32, as files hold them.

    Raises
    ------
    InputFileError
        If the file is missing, not text, has no such columns or no rows, or a value is bad; names the line.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _parse(path, file)
    except FileNotFoundError:
        raise InputFileError(f"{path}: no such file.") from None
    except csv.Error as error:
        raise InputFileError(f"{path}: not a CSV file: {clipped(str(error))}.") from None
    except QEngineError:
        raise
    except (OSError, ValueError) as error:  # of bytes that are no text; a name that no file can have
        raise InputFileError(f"{path}: cannot be read as text: {clipped(str(error))}.") from None


def rows_below(path: Path, reader: Any, header: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row that a `csv.reader` finds below the header; empty rows are passed over.

    Raises
    ------
    InputFileError
        A row has another number of cells than the header.
    """
    end = reader.line_num
    for row in reader:
        line, end = end + 1, reader.line_num  # a quoted cell may span lines: name the first
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise InputFileError(f"{path}: line {line}: {len(row)} cells where the header has {len(header)}.")
        yield line, row


def _parse(path: Path, file: Iterable[str]) -> ScaleTable:
    reader = csv.reader(file)
    header = [name.strip() for name in next(reader, [])]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputFileError(
            f"{path}: line 1: the header lacks {', '.join(missing)}; it has {clipped(', '.join(header)) or 'nothing'}. "
            f"Required columns: {', '.join(COLUMNS)}; optional: {ZERO_POINT}."
        )
    places = [header.index(name) for name in COLUMNS]
    at_zero = header.index(ZERO_POINT) if ZERO_POINT in header else None
    labels: dict[str, list[str]] = {name: [] for name in (LAYER, OPERATOR) if name in header}
    label_places = [(header.index(name), cells) for name, cells in labels.items()]
    rows: list[tuple[float, ...]] = []
    zero_points: list[int] = []
    texts: list[list[str]] = []
    lines: list[int] = []
    for line, row in rows_below(path, reader, header):
        if len(rows) == MAX_ROWS:
            raise InputFileError(f"{path}: line {line}: more than {MAX_ROWS} channels.")
        lines.append(line)
        texts.append([row[i] for i in places])
        rows.append(tuple(_number(path, line, c, text) for c, text in zip(COLUMNS, texts[-1], strict=True)))
        for at, cells in label_places:
            cells.append(row[at].strip())
        if at_zero is not None:
            text = row[at_zero].strip()
            try:
                zero = int(text)
            except ValueError:
                raise InputFileError(
                    f"{path}: line {line}: {ZERO_POINT} must be an integer; got {brief(text)}."
                ) from None
            if not -32768 <= zero <= 65535:
                raise InputFileError(f"{path}: line {line}: {ZERO_POINT} must be in [-32768, 65535]; got {zero}.")
            zero_points.append(zero)
    if not rows:
        raise InputFileError(f"{path}: no rows below the header.")
    columns = np.ascontiguousarray(_stored(path, np.array(rows, dtype=np.float64), texts, lines).T)
    zeros = np.array(zero_points, dtype=np.int64) if at_zero is not None else np.zeros(len(rows), np.int64)
    layer, operator = (tuple(labels[name]) if name in labels else None for name in (LAYER, OPERATOR))
    return ScaleTable(columns[0], columns[1], columns[2], zeros, path.name, layer, operator)


def scale_table(scales: Any) -> ScaleTable:
    """Return a table from a CSV path, a table, or a triple (input, weight, output) of scalars or arrays."""
    if isinstance(scales, ScaleTable):
        return scales
    if isinstance(scales, (str, Path)):
        return read_scales(scales)
    if not isinstance(scales, (tuple, list)) or len(scales) != 3:
        raise DTypeError(
            f"scales must be a path to a CSV, or (input_scale, weight_scale, output_scale); got {brief(scales)}."
        )
    names = ("input_scale", "weight_scale", "output_scale")
    columns = [np.atleast_1d(as_scales(name, value)).ravel() for name, value in zip(names, scales, strict=True)]
    try:
        i, w, o = (np.ascontiguousarray(c) for c in np.broadcast_arrays(*columns))
    except ValueError:
        shapes = ", ".join(str(c.size) for c in columns)
        raise DomainError(f"the three scale columns must have one length; got {shapes}.") from None
    if i.size == 0:
        raise DomainError("scales must hold at least one channel; got none.")
    return ScaleTable(i, w, o, np.zeros(i.size, np.int64), "given")
