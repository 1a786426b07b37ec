"""Parameters of affine quantization: ``real = (q - zero_point) * scale``, q an integer in ``[qmin, qmax]``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import chosen, first_index, first_value, flag, integer
from ..exceptions import DomainError, DTypeError, brief

MODES = ("symmetric", "asymmetric")
SCALE_DTYPES = ("float32", "float64")
#: Zero points lie below this in magnitude.
ZERO_POINT_LIMIT = 2**31
_STORAGE = ("int8", "uint8", "int16", "uint16", "int32")


def normal_axis(axis: int, ndim: int, shape: object) -> int:
    """Return the axis counted from the front, or raise `DomainError`."""
    if not -ndim <= axis < ndim:
        raise DomainError(f"axis must be in [{-ndim}, {ndim - 1}] for an array of shape {shape}; got {brief(axis)}.")
    return axis % ndim


def _scales(value: Any) -> npt.NDArray[np.float64]:
    array = backends.parameter("scale", value)
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"scale must be a real number or an array of them; got dtype {array.dtype}.")
    array = array.astype(np.float64)
    bad = ~(np.isfinite(array) & (array > 0))
    if bad.any():
        raise DomainError(f"scale must be positive and finite; got {first_value(array, bad)}{first_index(bad)}.")
    return array


def _zero_points(value: Any) -> npt.NDArray[np.int64]:
    array = backends.parameter("zero_point", value)
    if array.dtype.kind == "O" and array.ndim == 0 and isinstance(value, int):
        raise DomainError(f"zero_point must be in (-2**31, 2**31); got {brief(value)}.")
    if array.dtype.kind not in "iu":
        raise DTypeError(f"zero_point must be an integer or an array of them; got dtype {array.dtype}.")
    bad = (array <= -ZERO_POINT_LIMIT) | (array >= ZERO_POINT_LIMIT)
    if bad.any():
        raise DomainError(f"zero_point must be in (-2**31, 2**31); got {first_value(array, bad)}{first_index(bad)}.")
    return array.astype(np.int64)


@dataclass(frozen=True, eq=False, repr=False)
class QuantParams:
    """Scale, zero point and integer range of an affine quantizer, checked and read-only.

    ``real = (q - zero_point) * scale``, ``qmin <= q <= qmax`` (both ends are codes).

    Parameters
    ----------
    scale : float or float array
        Positive and finite. A scalar: one for the tensor. 1-D with `axis`: one a channel. With `group`: the
        shape of x, but ``ceil(length / group)`` along `axis`.
    zero_point : int or integer array
        The code of the real 0, in ``(-2**31, 2**31)``; same shape as `scale`, or one for all. It may lie outside
        ``[qmin, qmax]`` (a range without 0); most runtimes refuse that.
    qmin, qmax : int
        Codes, ``1 <= qmax - qmin < 2**16``, inside int32.
    axis : int, optional
        Axis of x along which the parameters vary.
    group : int, optional
        Samples along `axis` that share a scale, at least 1; the last group may be shorter.

    Raises
    ------
    DTypeError
        A field is of the wrong type (booleans are no integers, complex and object arrays no reals).
    DomainError
        A value outside the ranges above, or shapes that do not fit `axis` and `group`; names the index.

    Examples
    --------
    >>> from qengine.affine.params import QuantParams
    >>> p = QuantParams(0.5, -3, -128, 127)
    >>> p.real_min, p.real_max, p.bits, p.dtype.name
    (-62.5, 65.0, 8, 'int8')
    >>> QuantParams([0.5, 0.0], 0, -128, 127, axis=0)
    Traceback (most recent call last):
        ...
    qengine.exceptions.DomainError: scale must be positive and finite; got 0.0 at index 1.
    """

    scale: Any
    zero_point: Any
    qmin: int
    qmax: int
    axis: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        qmin, qmax = integer("qmin", self.qmin), integer("qmax", self.qmax)
        if not 1 <= qmax - qmin < 2**16:
            raise DomainError(f"qmax - qmin must be in [1, 65535]; got qmin {brief(qmin)}, qmax {brief(qmax)}.")
        if qmin < -(2**31) or qmax > 2**31 - 1:
            raise DomainError(f"qmin and qmax must fit int32; got qmin {brief(qmin)}, qmax {brief(qmax)}.")
        scale, zero_point = _scales(self.scale), _zero_points(self.zero_point)
        axis = None if self.axis is None else integer("axis", self.axis)
        group = None if self.group is None else integer("group", self.group)
        if group is not None and (axis is None or group < 1):
            raise DomainError(
                f"group must be at least 1 and needs an axis; got group {brief(group)}, axis {brief(axis)}."
            )
        if axis is None and scale.ndim:
            raise DomainError(f"an array of scales, shape {scale.shape}, needs the axis that it runs along.")
        if axis is not None and group is None and scale.ndim != 1:
            raise DomainError(f"scale must be 1-D along axis {axis}; got shape {scale.shape}.")
        if group is not None:
            if scale.ndim == 0:
                raise DomainError(f"scale must be an array for group {group} along axis {axis}; got a scalar.")
            axis = normal_axis(axis or 0, scale.ndim, scale.shape)
        if zero_point.ndim and zero_point.shape != scale.shape:
            raise DomainError(
                f"zero_point must have the shape of scale, {scale.shape}, or be one integer; got {zero_point.shape}."
            )
        zero_point = np.broadcast_to(zero_point, scale.shape).copy()
        for array in (scale, zero_point):
            array.flags.writeable = False
        fields = {
            "scale": scale if scale.ndim else float(scale),
            "zero_point": zero_point if scale.ndim else int(zero_point),
            "qmin": qmin, "qmax": qmax, "axis": axis, "group": group,
        }  # fmt: skip
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the scales; ``()`` for one."""
        return np.shape(self.scale)

    @property
    def levels(self) -> int:
        """Number of codes, ``qmax - qmin + 1``."""
        return self.qmax - self.qmin + 1

    @property
    def bits(self) -> int:
        """Bits that tell the codes apart: 8 for [-128, 127] and for the narrow [-127, 127]."""
        return (self.levels - 1).bit_length()

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """Smallest of int8, uint8, int16, uint16 and int32 that holds ``[qmin, qmax]``."""
        infos = (np.iinfo(name) for name in _STORAGE)
        return next(info.dtype for info in infos if info.min <= self.qmin and self.qmax <= info.max)

    @property
    def real_min(self) -> Any:
        """Real number of `qmin`, ``(qmin - zero_point) * scale`` in float64; infinite beyond its range."""
        return self._real(self.qmin)

    @property
    def real_max(self) -> Any:
        """Real number of `qmax`, ``(qmax - zero_point) * scale`` in float64; infinite beyond its range."""
        return self._real(self.qmax)

    def _real(self, code: int) -> Any:
        with np.errstate(over="ignore"):
            return (code - self.zero_point) * self.scale

    def check_shape(self, shape: tuple[int, ...]) -> int | None:
        """Return the axis counted from the front (None per tensor) if the parameters fit an x of that shape.

        Parameters
        ----------
        shape : tuple of int
            Shape of x.

        Returns
        -------
        int or None

        Raises
        ------
        DomainError
            If they do not; names both shapes.
        """
        if not isinstance(shape, tuple) or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
            raise DTypeError(f"shape must be a tuple of lengths; got {brief(shape)}.")
        if self.axis is None:
            return None
        axis = normal_axis(self.axis, len(shape), shape)
        if self.group is None:
            if shape[axis] != self.shape[0]:
                raise DomainError(
                    f"x of shape {shape} has {shape[axis]} channels along axis {axis}, "
                    f"but scale has shape {self.shape}."
                )
            return axis
        wanted = (*shape[:axis], -(-shape[axis] // self.group), *shape[axis + 1 :])
        if self.shape != wanted:
            raise DomainError(
                f"x of shape {shape} in groups of {self.group} along axis {axis} needs scales of shape {wanted}; "
                f"got {self.shape}."
            )
        return axis

    def expand(self, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return (scale, zero_point) that broadcast against an x of that shape, float64 and int64.

        Parameters
        ----------
        shape : tuple of int
            Shape of x.

        Returns
        -------
        scale, zero_point : float64 and int64 arrays
            0-D per tensor, ``(1, .., channels, .., 1)`` per channel, the full shape of x per group.

        Raises
        ------
        DomainError
            If the parameters do not fit; names both shapes.

        Examples
        --------
        >>> from qengine.affine.params import QuantParams
        >>> scale, zero_point = QuantParams([0.5, 2.0], [0, -1], -128, 127, axis=1).expand((4, 2, 3))
        >>> scale.shape
        (1, 2, 1)
        """
        axis = self.check_shape(shape)
        pair = np.asarray(self.scale, np.float64), np.asarray(self.zero_point, np.int64)
        if axis is None:
            return pair
        if self.group is None:
            ones = [1] * len(shape)
            ones[axis] = shape[axis]
            return pair[0].reshape(ones), pair[1].reshape(ones)
        owner = np.arange(shape[axis]) // self.group
        return np.take(pair[0], owner, axis=axis), np.take(pair[1], owner, axis=axis)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data for JSON; `from_dict` gives the same parameters back, bit for bit.

        Returns
        -------
        dict
        """
        return {
            "scale": np.asarray(self.scale).tolist(), "zero_point": np.asarray(self.zero_point).tolist(),
            "qmin": self.qmin, "qmax": self.qmax, "axis": self.axis, "group": self.group,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> QuantParams:
        """Return the parameters that `to_dict` wrote.

        Parameters
        ----------
        fields : mapping
            Read back from JSON.

        Returns
        -------
        QuantParams
        """
        if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
            raise DTypeError(f"parameters are a mapping of names to values; got {brief(fields)}.")
        names = ("scale", "zero_point", "qmin", "qmax", "axis", "group")
        missing = [name for name in names[:4] if name not in fields]
        unknown = sorted(set(fields) - set(names))
        if missing or unknown:
            raise DomainError(f"parameters need the fields {names}; missing {missing}, unknown {unknown}.")
        return cls(**fields)

    def __repr__(self) -> str:
        if self.axis is None:
            what = f"scale={self.scale!r}, zero_point={self.zero_point}"
        else:
            what = f"{self.scale.size} scales of shape {self.shape}, axis={self.axis}"
            what += "" if self.group is None else f", group={self.group}"
        return f"QuantParams({what}, qmin={self.qmin}, qmax={self.qmax})"

    @functools.cached_property
    def _key(self) -> tuple[Any, ...]:
        arrays = (np.asarray(self.scale, np.float64), np.asarray(self.zero_point, np.int64))
        return (*(a.tobytes() for a in arrays), self.shape, self.qmin, self.qmax, self.axis, self.group)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, QuantParams) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)


@dataclass(frozen=True, slots=True)
class Target:
    """The integers that a range is mapped to, checked: what the formulas of scale and zero point need."""

    bits: int
    mode: str
    signed: bool
    narrow: bool
    qmin: int
    qmax: int
    scale_dtype: str

    @classmethod
    def of(cls, bits: Any, mode: Any, signed: Any, narrow: Any, scale_dtype: Any) -> Target:
        """Check the arguments of `choose_qparams` that name the integer type."""
        bits = integer("bits", bits, 2, 16)
        chosen("mode", mode, MODES)
        for name, value in (("signed", signed), ("narrow", narrow)):
            flag(name, value)
        try:
            scale_type = np.dtype(scale_dtype).name
        except (TypeError, ValueError):
            scale_type = brief(scale_dtype)
        chosen("scale_dtype", scale_type, SCALE_DTYPES)
        if mode == "symmetric" and narrow and not signed:
            raise DomainError("symmetric unsigned codes start at 0, their zero point: narrow must be False.")
        low = -(1 << (bits - 1)) if signed else 0
        return cls(
            bits, mode, bool(signed), bool(narrow), low + bool(narrow), low + (1 << bits) - 1, scale_type
        )  # fmt: skip

    def affine(
        self, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (scale, zero point) of closed real ranges ``low <= high``, both float64, unchecked.

        A range ``[0, 0]`` has scale 1. The scale is rounded to `scale_dtype` (half to even), is at least its
        smallest normal number, and is infinite where it exceeds it; the zero point follows from that scale.
        """
        with np.errstate(over="ignore", under="ignore"):
            if self.mode == "symmetric":
                scale = np.maximum(np.abs(low), np.abs(high)) / self.qmax
            else:
                steps = self.qmax - self.qmin
                width = high - low
                scale = np.where(np.isinf(width), high / steps - low / steps, width / steps)
            scale = np.where((low == 0) & (high == 0), 1.0, scale).astype(self.scale_dtype).astype(np.float64)
        scale = np.maximum(scale, float(np.finfo(self.scale_dtype).smallest_normal))
        if self.mode == "symmetric":
            return scale, np.zeros(scale.shape)
        with np.errstate(over="ignore", under="ignore"):
            return scale, np.rint(self.qmin - low / scale)

    def params(
        self, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], axis: int | None, group: int | None
    ) -> QuantParams:
        """Return the parameters of closed real ranges, or raise `DomainError` where they have none."""
        scale, zero_point = self.affine(low, high)
        bad = np.isinf(scale)
        if bad.any():
            raise DomainError(
                f"the range [{first_value(low, bad)!r}, {first_value(high, bad)!r}]{first_index(bad)} is too wide for "
                f"a {self.scale_dtype} scale at {self.bits} bits."
            )
        bad = np.abs(zero_point) >= ZERO_POINT_LIMIT
        if bad.any():
            raise DomainError(
                f"the range [{first_value(low, bad)!r}, {first_value(high, bad)!r}]{first_index(bad)} lies so far from "
                f"0 that its zero point {first_value(zero_point, bad):.4g} does not fit int32; pass include_zero=True."
            )
        return QuantParams(scale, zero_point.astype(np.int64), self.qmin, self.qmax, axis, group)
