"""Recorded rows from a CSV, .npz or Parquet file."""

from __future__ import annotations

import csv
import importlib
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.forms import I64, INT32_MAX, INT32_MIN
from ..exceptions import BackendError, DomainError, DTypeError, InputFileError, brief, clipped
from ..requant.multiplier import QuantizedMultiplier
from ..requant.scales import rows_below
from .rows import SCALES, Rows, integers, make_rows, output_type, type_limits

Columns = Mapping[str, npt.NDArray[Any]]

#: Names under which a column is found in a file, the first that is there.
NAMES: dict[str, tuple[str, ...]] = {
    "acc": ("acc", "accumulator"),
    "in_scale": ("in_scale", "input_scale", "a_scale"),
    "w_scale": ("w_scale", "weight_scale", "b_scale"),
    "out_scale": ("out_scale", "output_scale"),
    "zero_point": ("zero_point", "out_zp", "output_zero_point"),
    "multiplier": ("multiplier",),
    "shift": ("shift",),
    "qmin": ("qmin",),
    "qmax": ("qmax",),
    "activation": ("activation",),
    "input": ("input",),
    "in_zp": ("in_zp", "input_zero_point"),
}
_INTEGERS = ("acc", "output", "zero_point", "shift", "qmin", "qmax", "input", "in_zp")
#: Fused activations by their names in a .tflite file: the closed real interval that they keep.
ACTIVATIONS: dict[str, tuple[float, float]] = {
    "NONE": (-np.inf, np.inf),
    "RELU": (0.0, np.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
MAX_ROWS = 20_000_000


def read_rows(
    path: str | Path, *, output: str | None = None, dtype: str | None = None,
    given: Mapping[str, int | float] | None = None,
) -> Rows:  # fmt: skip
    """Read recorded rows from a CSV, .npz or Parquet file.

    Columns: acc, output; in_scale, w_scale, out_scale (or multiplier, with shift if it is a Q0.31 mantissa);
    optionally zero_point, qmin, qmax, activation. `NAMES` lists other accepted names. A file with `input` and
    `in_zp` instead of acc (a QUANTIZE operator) has ``acc = input - in_zp`` and a weight scale of 1. Scalars of an
    .npz apply to all rows. Other columns are ignored.

    Parameters
    ----------
    path : path
    output : str, optional
        Column of the recorded outputs; ``output`` by default.
    dtype : str, optional
        Output type; by default that of the column, or what its values say where the column is wider.
    given : mapping, optional
        Columns that the file lacks, one number for all rows.

    Raises
    ------
    InputFileError
        A file that is missing, damaged, lacks a column, or holds a bad value; names the line or the row.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".npz": _read_npz, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputFileError(f"{path}: the name must end in .csv, .npz or .parquet.")
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise InputFileError(
            f"{path}: " + ("a file is required; this is a folder." if os.path.isdir(path) else "no such file.")
        )
    try:
        columns, lines = reader(path)
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read: {error.strerror or error}.") from None
    found = _resolve(path, columns, output, given or {})
    chosen = dtype or output_dtype(found["output"], found.get("zero_point", np.zeros(1, np.int64)))
    if "activation" in found:
        _activations(path, found, lines, type_limits(output_type(chosen)))
    scales = tuple(found[name] for name in SCALES) if "in_scale" in found else None
    multiplier: Any = found.get("multiplier")
    try:
        if "shift" in found:
            multiplier = QuantizedMultiplier(integers("multiplier", multiplier), integers("shift", found["shift"]))
        return make_rows(
            found["acc"], found["output"], multiplier, scales, found.get("zero_point", 0), chosen, found.get("qmin"),
            found.get("qmax"), name=path.name, lines=lines,
        )  # fmt: skip
    except (DomainError, DTypeError) as error:
        raise InputFileError(f"{path}: {error}") from error


def output_dtype(output: npt.NDArray[Any], zero_point: npt.NDArray[Any]) -> str:
    """Return the output type that a column tells: its own if it is 8 bits wide, else the narrowest that holds it.

    Examples
    --------
    >>> import numpy as np
    >>> output_dtype(np.array([0, 255], np.int16), np.array(3)), output_dtype(np.array([-5, 90]), np.array(0))
    ('uint8', 'int8')
    """
    if output.dtype.kind not in "iu" or zero_point.dtype.kind not in "iu" or not output.size:
        return "int8"
    if output.dtype in (np.int8, np.uint8):
        return str(output.dtype)
    low = min(int(output.min()), int(zero_point.min()))
    high = max(int(output.max()), int(zero_point.max()))
    for name in ("int8", "uint8", "int16"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return name
    return "int32"


def _resolve(
    path: Path, columns: Columns, output: str | None, given: Mapping[str, int | float]
) -> dict[str, npt.NDArray[Any]]:  # fmt: skip
    """Return the columns under their own names, those of a QUANTIZE operator put as the others' are."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name, accepted in NAMES.items():
        there = next((other for other in accepted if other in columns), None)
        if there is not None:
            found[name] = columns[there]
            if name in given:
                raise InputFileError(f"{path}: has a column {there!r}, and {name} was given besides: leave one out.")
        elif name in given:
            found[name] = np.asarray(given[name])
    wanted = output or "output"
    if wanted not in columns:
        others = [name for name in columns if name.startswith("output")]
        hint = (
            f"choose one of {clipped(', '.join(map(repr, others)))}"
            if others
            else f"it has {clipped(', '.join(columns)) or 'nothing'}"
        )
        raise InputFileError(f"{path}: there is no column {wanted!r} of recorded outputs; {hint}.")
    found["output"] = columns[wanted]
    _check_lengths(path, found)
    if "acc" not in found and {"input", "in_zp"} <= set(found):
        for name in ("input", "in_zp"):
            if found[name].dtype.kind not in "iu":
                raise InputFileError(f"{path}: {name} must hold integers; got dtype {found[name].dtype}.")
            beyond = (found[name] < INT32_MIN) | (found[name] > INT32_MAX)
            if beyond.any():
                raise InputFileError(f"{path}: {name} must fit int32; got {found[name][beyond].item(0)}.")
        found["acc"] = np.subtract(found["input"], found["in_zp"], dtype=np.int64)
        found.setdefault("w_scale", np.float32(1.0))  # type: ignore[arg-type]
    for name in ("input", "in_zp"):
        found.pop(name, None)
    if "acc" not in found:
        raise InputFileError(f"{path}: there is no column 'acc' of accumulators; it has {clipped(', '.join(columns))}.")
    scales = [name for name in SCALES if name in found]
    if "multiplier" in found and scales:
        raise InputFileError(
            f"{path}: has a multiplier and the scales {', '.join(scales)}: keep what the outputs were made from."
        )
    if "multiplier" not in found and len(scales) < 3:
        missing = [name for name in SCALES if name not in found]
        raise InputFileError(
            f"{path}: there is no column {', '.join(missing)}; needed are {', '.join(SCALES)}, or multiplier (with "
            "shift where it is a Q0.31 mantissa)."
        )
    if "shift" in found and "multiplier" not in found:
        raise InputFileError(f"{path}: a column 'shift' needs a column 'multiplier'.")
    return found


def _check_lengths(path: Path, found: Mapping[str, npt.NDArray[Any]]) -> None:
    sizes = {name: array.size for name, array in found.items() if array.ndim}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputFileError(f"{path}: columns must have one length; got {listed}.")
    if any(size > MAX_ROWS for size in sizes.values()):
        raise InputFileError(f"{path}: more than {MAX_ROWS} rows; split the file.")


def _activations(
    path: Path, found: dict[str, npt.NDArray[Any]], lines: I64 | None, limits: tuple[int, int]
) -> None:  # fmt: skip
    """Turn names of fused activations into qmin and qmax: ``zero_point + half_away(f32(bound / out_scale))``."""
    if "qmin" in found or "qmax" in found:
        raise InputFileError(f"{path}: has an activation and qmin or qmax: keep one of the two.")
    if "out_scale" not in found:
        raise InputFileError(f"{path}: an activation needs the column out_scale.")
    for name, kinds in (("out_scale", "fiu"), ("zero_point", "iu")):
        if name in found and found[name].dtype.kind not in kinds:
            raise InputFileError(f"{path}: {name} must hold numbers; got dtype {found[name].dtype}.")
    names, scale, zero = np.broadcast_arrays(
        found.pop("activation"), found["out_scale"], found.get("zero_point", np.int64(0))
    )
    names = np.char.upper(names.astype(str))
    bad = ~np.isin(names, list(ACTIVATIONS))
    if bad.any():
        k = int(bad.argmax())
        where = f"line {int(lines[k])}" if lines is not None else f"row {k}"
        raise InputFileError(
            f"{path}: {where}: activation must be one of {', '.join(ACTIVATIONS)}; "
            f"got {brief(str(names.reshape(-1)[k]))}."
        )
    ends = []
    for side in (0, 1):
        bound = np.choose(
            np.array([list(ACTIVATIONS).index(str(name)) for name in names.reshape(-1)], np.intp),
            [np.float32(interval[side]) for interval in ACTIVATIONS.values()],
        )
        with np.errstate(all="ignore"):
            steps = (bound / scale.reshape(-1).astype(np.float32)).astype(np.float64)
        steps = np.nan_to_num(np.trunc(steps + np.copysign(0.5, steps)), nan=0.0, posinf=2.0**40, neginf=-(2.0**40))
        total = zero.reshape(-1).astype(np.int64) + np.clip(steps, -(2.0**40), 2.0**40).astype(np.int64)
        ends.append(np.clip(total, *limits))
    found["qmin"], found["qmax"] = ends


def _read_csv(path: Path) -> tuple[dict[str, npt.NDArray[Any]], I64]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if not any(header):
                raise InputFileError(f"{path}: line 1: a header with the names of the columns is required.")
            doubled = {name for name in header if name and header.count(name) > 1}
            if doubled:
                raise InputFileError(f"{path}: line 1: the column {brief(sorted(doubled)[0])} is there twice.")
            rows: list[list[str]] = []
            lines: list[int] = []
            for line, row in rows_below(path, reader, header):
                if len(rows) == MAX_ROWS:
                    raise InputFileError(f"{path}: line {line}: more than {MAX_ROWS} rows; split the file.")
                rows.append(row)
                lines.append(line)
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path}: cannot be read as text: {error}.") from None
    except csv.Error as error:
        raise InputFileError(f"{path}: not a CSV file: {clipped(str(error))}.") from None
    if not rows:
        raise InputFileError(f"{path}: no rows below the header.")
    known = {accepted: name for name, names in NAMES.items() for accepted in names}
    with_shift = "shift" in header
    columns = {}
    for k, heading in enumerate(header):
        name = "output" if heading.startswith("output") and heading not in known else known.get(heading)
        if name is None:
            continue
        whole = name in _INTEGERS or (name == "multiplier" and with_shift)
        columns[heading] = _cells(path, heading, name, [row[k].strip() for row in rows], lines, whole)
    return columns, np.array(lines, dtype=np.int64)


def _cells(
    path: Path, heading: str, name: str, texts: Sequence[str], lines: Sequence[int], whole: bool
) -> npt.NDArray[Any]:  # fmt: skip
    """Convert the texts of one column, or name the first that is no number."""
    if name == "activation":
        return np.array(texts)
    kind = int if whole else float
    try:
        if any("_" in text for text in texts):  # Python would read 1_000
            raise ValueError
        return np.array([kind(text) for text in texts], dtype=np.int64 if whole else np.float64)
    except (ValueError, OverflowError):
        what = "an integer that fits int64" if whole else "a number"
        for text, line in zip(texts, lines, strict=True):
            try:
                if "_" in text or (whole and not -(2**63) <= int(text) < 2**63):
                    raise ValueError
                kind(text)
            except ValueError:
                raise InputFileError(f"{path}: line {line}: {heading} must be {what}; got {brief(text)}.") from None
        raise


def _read_npz(path: Path) -> tuple[dict[str, npt.NDArray[Any]], None]:
    damage = (
        zipfile.BadZipFile, zlib.error, ValueError, TypeError, KeyError, EOFError, MemoryError, NotImplementedError
    )  # fmt: skip
    columns: dict[str, npt.NDArray[Any]] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            wanted = {accepted for names in NAMES.values() for accepted in names}
            for name in archive.files:
                if name in wanted or name.startswith("output"):
                    columns[name] = archive[name]
                    if columns[name].ndim > 1:
                        columns[name] = columns[name].reshape(-1)
    except damage as error:
        raise InputFileError(f"{path}: not a readable .npz file: {clipped(str(error))}.") from None
    return columns, None


def _read_parquet(path: Path) -> tuple[dict[str, npt.NDArray[Any]], None]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        damage = importlib.import_module("pyarrow").ArrowException
    except ImportError as error:
        raise BackendError(
            f"reading {path} needs pyarrow ({error}); pip install 'qengine-numerics[parquet]', or give a CSV or .npz."
        ) from error
    columns: dict[str, npt.NDArray[Any]] = {}
    wanted = {accepted for names in NAMES.values() for accepted in names}
    try:
        with parquet.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in wanted or name.startswith("output")]
            table = file.read(columns=names)
        for name in names:
            column = table.column(name)
            if column.null_count:
                k = column.is_null().to_pylist().index(True)
                raise InputFileError(f"{path}: row {k}: {name} must not be null.")
            columns[name] = np.asarray(column.to_numpy())
    except (damage, UnicodeDecodeError) as error:  # a name in its schema may be no UTF-8
        raise InputFileError(f"{path}: not a readable Parquet file: {clipped(str(error))}.") from None
    if "activation" in columns:
        columns["activation"] = columns["activation"].astype(str)
    return columns, None
