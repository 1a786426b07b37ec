"""Recorded rows: checked columns of one length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends import as_numpy
from ..backends.forms import I64, INT32_MAX, INT32_MIN
from ..exceptions import DomainError, DTypeError
from ..requant.binding import CLAMPED, RAW_ZERO_POINT
from ..requant.multiplier import QuantizedMultiplier

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

#: Widest accumulators of any scheme.
ACC_BITS = 48
SCALES = ("in_scale", "w_scale", "out_scale")
#: Rows evaluated at once: bounds the memory of all candidates' outputs.
BLOCK = 1 << 15
Place = Callable[[int], str]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Checked rows, one element each.

    Attributes
    ----------
    acc, output, zero_point : int64 arrays
        Accumulators (48 bits at most), recorded outputs, output zero points.
    scales : three float32 arrays, or None
    multiplier : QuantizedMultiplier, float64 array, or None
        One of `scales` and `multiplier` is given.
    dtype : dtype
        Output type: int8, uint8, int16, or int32 for raw results.
    qmin, qmax : int64 arrays or None
        Closed clamp of each row, within the type.
    name : str
        Where the rows come from.
    lines : int64 array or None
        Line of each row in a text file.
    """

    acc: I64
    output: I64
    zero_point: I64
    scales: tuple[F32, F32, F32] | None
    multiplier: QuantizedMultiplier | F64 | None
    dtype: np.dtype[Any]
    qmin: I64 | None
    qmax: I64 | None
    name: str
    lines: I64 | None

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.acc.size)

    @property
    def limits(self) -> tuple[int, int]:
        """Lowest and highest code of the output type."""
        return type_limits(self.dtype)

    def place(self, k: int) -> str:
        """Say where row k is."""
        return f"line {int(self.lines[k])}" if self.lines is not None else f"row {k}"

    def clamp(self, k: int) -> tuple[int, int]:
        """Return the closed clamp of row k."""
        low, high = self.limits
        return (low if self.qmin is None else int(self.qmin[k])), (high if self.qmax is None else int(self.qmax[k]))

    def real(self, k: int) -> float:
        """Return the real multiplier of row k that was given; only where no scales were."""
        if isinstance(self.multiplier, QuantizedMultiplier):
            return float(self.multiplier.real[k])
        assert self.multiplier is not None
        return float(self.multiplier[k])

    def blocks(self) -> Iterator[tuple[int, Rows]]:
        """Yield (index of the first row, rows) of pieces of at most `BLOCK` rows."""
        for start in range(0, self.size, BLOCK):
            yield start, self.part(slice(start, start + BLOCK)) if self.size > BLOCK else self

    def part(self, chosen: slice | npt.NDArray[np.intp]) -> Rows:
        """Return some of the rows."""

        def cut(array: Any) -> Any:
            return None if array is None else array[chosen]

        multiplier = self.multiplier
        if isinstance(multiplier, QuantizedMultiplier):
            multiplier = QuantizedMultiplier(multiplier.value[chosen], multiplier.shift[chosen])
        elif multiplier is not None:
            multiplier = multiplier[chosen]
        scales = None
        if self.scales is not None:
            i, w, o = (s[chosen] for s in self.scales)
            scales = (i, w, o)
        return Rows(
            self.acc[chosen], self.output[chosen], self.zero_point[chosen], scales, multiplier, self.dtype,
            cut(self.qmin), cut(self.qmax), self.name, cut(self.lines),
        )  # fmt: skip


def type_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the lowest and the highest code of an output type."""
    info = CLAMPED.get(dtype)
    return (int(info.min), int(info.max)) if info is not None else (INT32_MIN, INT32_MAX)


def output_type(dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """Return the output type by name, int32 for a raw result."""
    try:
        chosen = np.dtype(np.int32 if dtype is None else dtype)
    except TypeError:
        chosen = np.dtype(np.void)
    if chosen not in CLAMPED and chosen != np.int32:
        raise DTypeError(f"dtype must be int8, uint8, int16, or None for raw int32 results; got {dtype!r}.")
    return chosen


def integers(name: str, value: Any) -> npt.NDArray[Any]:
    """Return a column of integers, of any integer type."""
    array = as_numpy(name, value)
    if array.dtype.kind not in "iu" and array.size:  # an empty list has no type
        raise DTypeError(f"{name} must hold integers; got dtype {array.dtype}.")
    return array


def _number(name: str, value: Any) -> npt.NDArray[Any]:
    array = as_numpy(name, value)
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"{name} must hold real numbers; got dtype {array.dtype}.")
    return array


def _refuse(bad: npt.NDArray[np.bool_], values: npt.NDArray[Any], name: str, rule: str, place: Place) -> None:
    if bad.any():
        k = int(bad.argmax())
        raise DomainError(f"{place(k)}: {name} must {rule}; got {values[k].item()!r}.")


def _within(name: str, values: npt.NDArray[Any], low: int, high: int, rule: str, place: Place) -> I64:
    """Return integers as int64, or name the first outside a closed range; unsigned 64-bit ones are compared as such."""
    bad = values > high if values.dtype.kind == "u" and low <= 0 else (values < low) | (values > high)
    _refuse(bad, values, name, rule, place)
    return np.ascontiguousarray(values, dtype=np.int64)


def make_rows(
    acc: Any, output: Any, multiplier: Any = None, scales: Any = None, zero_point: Any = 0,
    dtype: npt.DTypeLike | None = "int8", qmin: Any = None, qmax: Any = None, *, name: str = "arrays",
    lines: I64 | None = None,
) -> Rows:  # fmt: skip
    """Broadcast columns to one length and check every value.

    Raises
    ------
    DomainError, DTypeError
        A value outside its range, wrong types, shapes that do not broadcast, no rows, or not exactly one of
        `multiplier` and `scales`; names the row.
    """
    chosen = output_type(dtype)
    low, high = type_limits(chosen)
    if (multiplier is None) == (scales is None):
        raise DomainError("give a multiplier or scales=(input, weight, output): exactly one of the two.")
    columns: dict[str, npt.NDArray[Any]] = {
        "acc": integers("acc", acc),
        "output": integers("output", output),
        "zero_point": integers("zero_point", zero_point),
    }
    for label, value in (("qmin", qmin), ("qmax", qmax)):
        if value is not None:
            columns[label] = integers(label, value)
    if scales is not None:
        if not isinstance(scales, (tuple, list)) or len(scales) != 3:
            raise DomainError(f"scales must be (input, weight, output); got {scales!r}.")
        columns |= {label: _number(label, value) for label, value in zip(SCALES, scales, strict=True)}
    elif isinstance(multiplier, QuantizedMultiplier):
        columns |= {"multiplier": np.asarray(multiplier.value), "shift": np.asarray(multiplier.shift)}
    else:
        columns["multiplier"] = _number("multiplier", multiplier)
    try:
        spread = np.broadcast_arrays(*columns.values())
    except ValueError:
        shapes = ", ".join(f"{label} {array.shape}" for label, array in columns.items())
        raise DomainError(f"the shapes of the columns do not broadcast: {shapes}.") from None
    columns = {label: array.reshape(-1) for label, array in zip(columns, spread, strict=True)}
    if not columns["acc"].size:
        raise DomainError("there are no rows: identify needs at least one.")

    def place(k: int) -> str:
        return f"line {int(lines[k])}" if lines is not None else f"row {k}"

    top = 1 << (ACC_BITS - 1)
    wide = _within("acc", columns["acc"], -top, top - 1, f"have at most {ACC_BITS} bits", place)
    recorded = _within(
        "output", columns["output"], low, high, f"be in [{low}, {high}], the type {chosen.name}; choose the type of "
        "the recorded outputs with dtype", place,
    )  # fmt: skip
    zero_range = (low, high) if chosen in CLAMPED else RAW_ZERO_POINT
    zero = _within("zero_point", columns["zero_point"], *zero_range, f"be in {list(zero_range)} for dtype "
                   f"{chosen.name}", place)  # fmt: skip
    clamp = {
        label: _within(label, columns[label], low, high, f"be in [{low}, {high}] for dtype {chosen.name}", place)
        for label in ("qmin", "qmax") if label in columns
    }  # fmt: skip
    if len(clamp) == 2:
        _refuse(clamp["qmin"] > clamp["qmax"], clamp["qmin"], "qmin", "not exceed qmax", place)
    stored: tuple[F32, F32, F32] | None = None
    given: QuantizedMultiplier | F64 | None = None
    if scales is not None:
        i, w, o = (_scales(label, columns[label], place) for label in SCALES)
        stored = (i, w, o)
    elif "shift" in columns:
        given = QuantizedMultiplier(columns["multiplier"], columns["shift"])
    else:
        given = columns["multiplier"].astype(np.float64)
        _refuse(~(np.isfinite(given) & (given >= 0)), given, "multiplier", "be finite and not negative", place)
    return Rows(wide, recorded, zero, stored, given, chosen, clamp.get("qmin"), clamp.get("qmax"), name, lines)


def _scales(name: str, values: npt.NDArray[Any], place: Place) -> F32:
    """Return stored scales as float32, as files hold them."""
    with np.errstate(over="ignore", under="ignore"):
        stored = values.astype(np.float32)
    _refuse(
        ~(np.isfinite(stored) & (stored > 0)), values, name, "be finite, > 0 and representable in float32", place
    )  # fmt: skip
    return np.ascontiguousarray(stored)
