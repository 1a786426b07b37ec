"""Real multipliers as integers: TFLite's QuantizeMultiplier and its relatives.

A requantization multiplies the accumulator by a real number ``M = in_scale * w_scale / out_scale``. The
integer schemes carry it as a mantissa in Q0.31 and a power of two, with TFLite's sign of the shift::

    M  ~  value * 2**(shift - 31),    value = 0 or 2**30 <= value < 2**31,    shift > 0 is a LEFT shift
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import first_index, first_value, flag
from ..exceptions import DomainError, DTypeError, brief

INT32_MAX = 2**31 - 1
#: Exponents below this flush the multiplier to zero (QuantizeMultiplier step 4).
FLUSH_BELOW = -31
#: A build with single rounding saturates the shift here (QuantizeMultiplier step 5).
SINGLE_SHIFT_MAX = 30


def _integers(name: str, value: Any) -> npt.NDArray[np.int64]:
    array = backends.parameter(name, value)
    if array.dtype == bool or array.dtype.kind not in "iu":
        if array.dtype.kind == "O":
            raise DTypeError(f"{name} must hold integers that fit int64; got {brief(value)}.")
        raise DTypeError(f"{name} must be an integer or an integer array; got dtype {array.dtype}.")
    if array.dtype == np.uint64 and (array > np.uint64(2**63 - 1)).any():
        raise DomainError(f"{name} must fit int64; got {int(array.max())}.")
    return array.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QuantizedMultiplier:
    """A real multiplier in fixed point: ``real = value * 2**(shift - 31)``.

    Parameters
    ----------
    value : int or integer array
        Mantissa in Q0.31, in ``[0, 2**31 - 1]``. `quantize_multiplier` yields 0 or ``[2**30, 2**31 - 1]``.
    shift : int or integer array, same shape
        Power of two, TFLite's sign: **positive shifts left**. Each scheme states the range that it takes.

    Raises
    ------
    DTypeError
        If a field is not integer.
    DomainError
        If `value` lies outside ``[0, 2**31 - 1]``, `shift` outside int32, or the shapes differ.

    Examples
    --------
    >>> from qengine import QuantizedMultiplier
    >>> QuantizedMultiplier(1 << 30, -1).real       # 0.5 * 2**-1: a tie for every odd multiple of 2
    0.25
    >>> QuantizedMultiplier(-5, 0)
    Traceback (most recent call last):
        ...
    qengine.exceptions.DomainError: multiplier value must be in [0, 2147483647] (Q0.31); got -5.
    """

    value: Any
    shift: Any

    def __post_init__(self) -> None:
        value, shift = _integers("multiplier value", self.value), _integers("shift", self.shift)
        bad = (value < 0) | (value > INT32_MAX)
        if bad.any():
            got = first_value(value, bad)
            raise DomainError(f"multiplier value must be in [0, {INT32_MAX}] (Q0.31); got {got}{first_index(bad)}.")
        bad = (shift < -(2**31)) | (shift > INT32_MAX)
        if bad.any():
            raise DomainError(f"shift must fit int32; got {first_value(shift, bad)}{first_index(bad)}.")
        if value.shape != shift.shape:
            try:
                value, shift = np.broadcast_arrays(value, shift)
            except ValueError:
                raise DomainError(
                    f"multiplier value and shift must have the same shape; got {value.shape} and {shift.shape}."
                ) from None
        for field, array in (("value", value), ("shift", shift)):
            if array.ndim == 0:
                object.__setattr__(self, field, int(array))
            else:
                stored = array.astype(np.int32)
                stored.flags.writeable = False
                object.__setattr__(self, field, stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the fields; ``()`` for one multiplier."""
        return () if type(self.value) is int else self.value.shape

    @property
    def real(self) -> Any:
        """The real number that the integers stand for, exact in float64; infinite beyond its range."""
        with np.errstate(over="ignore", under="ignore"):
            real = np.ldexp(np.asarray(self.value, dtype=np.float64), np.asarray(self.shift, dtype=np.int64) - 31)
        return float(real) if self.shape == () else real

    def error_ppm(self, real: npt.ArrayLike) -> Any:
        """Return the relative error of the representation of `real`, in parts per million.

        ``1e6 * (self.real - real) / real``; positive where the integers overstate `real`.

        Parameters
        ----------
        real : float or array
            What the integers stand for; broadcast against `value`.

        Returns
        -------
        float or float64 array

        Examples
        --------
        >>> from qengine import quantize_multiplier
        >>> round(quantize_multiplier(0.1).error_ppm(0.1), 9)
        -0.000232831
        """
        exact = _reals("real", real)
        if np.any(exact == 0):
            raise DomainError("the relative error of a zero multiplier is undefined; got real = 0.")
        with np.errstate(over="ignore"):
            error = 1e6 * ((np.asarray(self.real) - exact) / exact)
        return float(error) if error.ndim == 0 else error

    def __repr__(self) -> str:
        return f"QuantizedMultiplier(value={self.value!r}, shift={self.shift!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantizedMultiplier):
            return NotImplemented
        if type(self.value) is int and type(other.value) is int:
            return self.value == other.value and bool(self.shift == other.shift)
        return bool(np.array_equal(self.value, other.value) and np.array_equal(self.shift, other.shift))

    def __hash__(self) -> int:
        if self.shape != ():
            raise TypeError("an array of multipliers is not hashable")
        return hash((self.value, self.shift))

    def __iter__(self) -> Iterator[Any]:
        yield self.value
        yield self.shift


def _reals(name: str, real: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = backends.parameter(name, real)
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"{name} must be real numbers; got dtype {array.dtype}.")
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        raise DomainError(f"{name} must be finite; got {first_value(array, bad)}{first_index(bad)}.")
    bad = array < 0
    if bad.any():
        raise DomainError(
            f"{name} must not be negative; got {first_value(array, bad)}{first_index(bad)}. "
            "Scales are positive; put a sign into the accumulator."
        )
    return array


def split_real(real: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split non-negative finite reals into (Q0.31 mantissa, exponent), flushed below 2**-32.

    The mantissa is rounded half away from zero; ``2**31`` is renormalised to ``2**30`` with the next exponent
    *before* the test for the flush.
    """
    fraction, exponent = np.frexp(real)
    # fraction * 2**53 is an integer; adding half of 2**22 before the shift rounds half away (it is >= 0).
    value = (np.ldexp(fraction, 53).astype(np.int64) + (1 << 21)) >> 22
    shift = exponent.astype(np.int64)
    carry = value == 1 << 31
    value = np.where(carry, 1 << 30, value)
    shift = np.where(carry, shift + 1, shift)
    flush = (shift < FLUSH_BELOW) | (value == 0)
    return np.where(flush, 0, value), np.where(flush, 0, shift)


def quantize_multiplier(real: npt.ArrayLike, *, single_rounding: bool = False) -> QuantizedMultiplier:
    """Write real multipliers as Q0.31 mantissa and power of two, as TFLite's QuantizeMultiplier does.

    ``fraction, shift = frexp(real)``; ``value = round_half_away(fraction * 2**31)``; a value of ``2**31``
    becomes ``2**30`` with ``shift + 1``; a shift below -31 then flushes to ``(0, 0)``.

    Parameters
    ----------
    real : float or array
        Multipliers, finite and ``>= 0``. float32 is widened exactly.
    single_rounding : bool
        Also saturate a shift above 30 to ``(2**31 - 1, 30)``, as builds with TFLITE_SINGLE_ROUNDING do.

    Returns
    -------
    QuantizedMultiplier
        ``value`` in ``{0} | [2**30, 2**31 - 1]``, ``shift >= -31`` (positive is left); ints for a scalar,
        int32 arrays of the shape of `real` otherwise.

    Raises
    ------
    DomainError
        If a multiplier is NaN, infinite or negative.

    References
    ----------
    TensorFlow Lite, ``tensorflow/lite/kernels/internal/quantization_util.cc``, ``QuantizeMultiplier``.

    Examples
    --------
    >>> from qengine import quantize_multiplier
    >>> quantize_multiplier(0.25)
    QuantizedMultiplier(value=1073741824, shift=-1)
    >>> quantize_multiplier(1 - 2**-33)             # the mantissa rounds to 2**31: renormalised
    QuantizedMultiplier(value=1073741824, shift=1)
    >>> quantize_multiplier(0.5 + 2**-32)           # a tie: away from zero
    QuantizedMultiplier(value=1073741825, shift=0)
    >>> quantize_multiplier(-0.5)
    Traceback (most recent call last):
        ...
    qengine.exceptions.DomainError: multiplier must not be negative; got -0.5. Scales are positive; put a sign \
into the accumulator.
    """
    value, shift = split_real(_reals("multiplier", real))
    if flag("single_rounding", single_rounding):
        over = shift > SINGLE_SHIFT_MAX
        value, shift = np.where(over, INT32_MAX, value), np.where(over, SINGLE_SHIFT_MAX, shift)
    return QuantizedMultiplier(value, shift)


def _quantize_checked(
    real: npt.ArrayLike, *, name: str, inside: str, low: float, high: float, shift_low: int, shift_high: int
) -> QuantizedMultiplier:
    array = _reals("multiplier", real)
    bad = ~((array > low) & (array < high))
    if bad.any():
        raise DomainError(f"{name} takes {inside}; got {first_value(array, bad)!r}{first_index(bad)}.")
    value, shift = split_real(array)
    bad = (shift < shift_low) | (shift > shift_high)
    if bad.any():
        raise DomainError(
            f"{name}: {first_value(array, bad)!r}{first_index(bad)} rounds to 1.0, so its shift would be "
            f"{first_value(shift, bad)}; TFLite aborts here. Use quantize_multiplier."
        )
    return QuantizedMultiplier(value, shift)


def quantize_multiplier_smaller_than_one(real: npt.ArrayLike) -> QuantizedMultiplier:
    """Quantize multipliers of the open interval (0, 1), as QuantizeMultiplierSmallerThanOneExp does.

    Like `quantize_multiplier`, with TFLite's checks: ``0 < real < 1`` and ``shift <= 0``.

    Parameters
    ----------
    real : float or array
        Within the open interval (0, 1).

    Returns
    -------
    QuantizedMultiplier

    Raises
    ------
    DomainError
        Outside (0, 1); or so close to 1 that the mantissa carries to shift +1, where TFLite aborts.

    References
    ----------
    TensorFlow Lite, ``quantization_util.cc``, ``QuantizeMultiplierSmallerThanOneExp``.

    Examples
    --------
    >>> from qengine import quantize_multiplier_smaller_than_one
    >>> quantize_multiplier_smaller_than_one(0.1)
    QuantizedMultiplier(value=1717986918, shift=-3)
    >>> quantize_multiplier_smaller_than_one(-0.1)
    Traceback (most recent call last):
        ...
    qengine.exceptions.DomainError: multiplier must not be negative; got -0.1. Scales are positive; put a sign \
into the accumulator.
    """
    return _quantize_checked(
        real, name="quantize_multiplier_smaller_than_one", inside="0 < real < 1",
        low=0.0, high=1.0, shift_low=-(2**31), shift_high=0,
    )  # fmt: skip


def quantize_multiplier_greater_than_one(real: npt.ArrayLike) -> QuantizedMultiplier:
    """Quantize multipliers above 1, as QuantizeMultiplierGreaterThanOne does.

    Like `quantize_multiplier`, with TFLite's checks: ``real > 1`` and ``shift >= 0``.

    Parameters
    ----------
    real : float or array
        Above 1.

    Returns
    -------
    QuantizedMultiplier

    Raises
    ------
    DomainError
        For ``real <= 1``, NaN or infinity.

    References
    ----------
    TensorFlow Lite, ``quantization_util.cc``, ``QuantizeMultiplierGreaterThanOne``.

    Examples
    --------
    >>> from qengine import quantize_multiplier_greater_than_one
    >>> quantize_multiplier_greater_than_one(1.5)
    QuantizedMultiplier(value=1610612736, shift=1)
    >>> quantize_multiplier_greater_than_one(1.0)
    Traceback (most recent call last):
        ...
    qengine.exceptions.DomainError: quantize_multiplier_greater_than_one takes real > 1; got 1.0.
    """
    return _quantize_checked(
        real, name="quantize_multiplier_greater_than_one", inside="real > 1",
        low=1.0, high=math.inf, shift_low=0, shift_high=2**31,
    )  # fmt: skip


@overload
def as_reals(multiplier: QuantizedMultiplier) -> npt.NDArray[np.float64]: ...
@overload
def as_reals(multiplier: npt.ArrayLike) -> npt.NDArray[np.float64]: ...
def as_reals(multiplier: Any) -> npt.NDArray[np.float64]:
    """Return multipliers, fixed-point or real, as validated float64 reals."""
    if isinstance(multiplier, QuantizedMultiplier):
        return np.asarray(multiplier.real, dtype=np.float64)
    return _reals("multiplier", multiplier)
