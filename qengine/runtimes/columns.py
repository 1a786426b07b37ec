"""Columns of an operator's call: read, checked against what they stand for, and laid out for the kernels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import first_index, first_value
from ..backends import as_numpy
from ..exceptions import DomainError, DTypeError
from ..requant.layout import fold
from ..requant.recipes import as_scales

Array = npt.NDArray[Any]
#: Closed ranges of the integer types that operators carry.
LIMITS = {name: (int(np.iinfo(name).min), int(np.iinfo(name).max)) for name in ("int8", "uint8", "int16", "int32")}
#: What a recording holds beside the inputs; accepted, and not read.
LABELS = frozenset({"kind", "output"})


def integers(name: str, value: Any, low: int, high: int, dtype: npt.DTypeLike = np.int64) -> Array:
    """Return integers of the closed range [low, high] as `dtype`; not a copy where they are of it already."""
    array = as_numpy(name, value)
    if array.dtype == bool or array.dtype.kind not in "iu":
        raise DTypeError(f"column {name!r} must hold integers; got dtype {array.dtype}.")
    info = np.iinfo(array.dtype)
    if (info.min < low or info.max > high) and array.size and (array.min() < low or array.max() > high):
        bad = (array < low) | (array > high)
        raise DomainError(
            f"column {name!r} must be in [{low}, {high}]; got {first_value(array, bad)}{first_index(bad)}."
        )
    return array.astype(dtype, copy=False)


def scales(name: str, value: Any) -> npt.NDArray[np.float32]:
    """Return stored scales as float32, finite and positive."""
    return as_scales(f"column {name!r}", as_numpy(name, value))


def reals(name: str, value: Any) -> npt.NDArray[np.float32]:
    """Return finite real numbers as float32."""
    array = as_numpy(name, value)
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"column {name!r} must hold real numbers; got dtype {array.dtype}.")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # a signalling NaN is a NaN
        stored = array.astype(np.float32)
    bad = ~np.isfinite(stored)
    if bad.any():
        raise DomainError(
            f"column {name!r} must be finite in float32; got {first_value(array, bad)}{first_index(bad)}. "
            "What the runtime makes of NaN and infinity was not recorded."
        )
    return stored


def finite(what: str, values: Array) -> Array:
    """Return values computed from scales, or raise where they left the range of their type."""
    bad = ~np.isfinite(values)
    if bad.any():
        raise DomainError(f"{what} leaves the range of float32; got {first_value(values, bad)}{first_index(bad)}.")
    return values


def check_names(what: str, wanted: Iterable[str], given: Mapping[str, Any], optional: Iterable[str] = ()) -> None:
    """Raise unless exactly the wanted columns are given; labels of recordings and optional ones may stand beside."""
    wanted = tuple(wanted)
    missing = [name for name in wanted if name not in given]
    extra = [name for name in given if name not in wanted and name not in optional and name not in LABELS]
    if missing or extra:
        problem = [f"missing {', '.join(missing)}"] if missing else []
        problem += [f"unknown {', '.join(extra)}"] if extra else []
        raise DomainError(f"{what} takes the columns {', '.join(wanted)}; {'; '.join(problem)}.")


@dataclass(frozen=True, slots=True)
class Laid:
    """Codes folded to (outer, channels, inner), parameters to one element a channel, and the result's shape."""

    shape: tuple[int, ...]
    codes: tuple[Array, ...]
    parameters: tuple[Array, ...]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.codes[0].shape[1])


def lay(codes: Mapping[str, Array], parameters: Mapping[str, Array]) -> Laid:
    """Broadcast codes and parameters as NumPy does, and fold them for the kernels."""
    try:
        code_shape = np.broadcast_shapes(*(array.shape for array in codes.values()))
        parameter_shape = np.broadcast_shapes(*(array.shape for array in parameters.values()))
        np.broadcast_shapes(code_shape, parameter_shape)
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in {**codes, **parameters}.items())
        raise DomainError(f"the shapes of the columns do not broadcast: {shapes}.") from None
    shape, folded, target = fold(code_shape, parameter_shape, None)

    def spread(values: Array) -> Array:
        values = np.broadcast_to(values, parameter_shape)
        values = values.ravel() if len(target) == 1 else values
        return np.ascontiguousarray(np.broadcast_to(values, target)).ravel()

    return Laid(
        shape,
        tuple(np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(folded) for array in codes.values()),
        tuple(spread(array) for array in parameters.values()),
    )
