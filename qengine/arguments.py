"""What callers pass beside arrays, checked in one place: names, integers, reals, flags, callbacks, lists.

And where in an array the first bad value stands, for the text of an error.

NumPy answers a comparison with an array by an array, `bool` is an `int`, `np.timedelta64` is an `np.integer`, and
Python refuses to print an integer of more than 4300 digits: each turns a plain ``if`` into another package's error.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from .exceptions import DomainError, DTypeError, InputFileError, UnknownNameError, brief

#: Bytes of the longest path that Linux takes, its end included.
_LONGEST_PATH = 4096
#: Told (done, total) while a call works, in whatever it counts; what it raises ends the work.
Progress = Callable[[int, int], None]


def index_text(flat: int, shape: tuple[int, ...]) -> str:
    """Return ``" at index (i, j)"`` of a flat index, or nothing for a scalar."""
    if not shape:
        return ""
    place = tuple(int(i) for i in np.unravel_index(flat, shape))
    return f" at index {place if len(place) > 1 else place[0]}"


def first_index(bad: npt.NDArray[np.bool_]) -> str:
    """Return ``" at index (i, j)"`` of the first true element, or nothing for a scalar."""
    return index_text(int(bad.argmax()), bad.shape)


def first_value(values: npt.NDArray[Any], bad: npt.NDArray[np.bool_]) -> Any:
    """Return the first offending element as a Python scalar."""
    flat = values.flat if isinstance(values, np.ndarray) else values.reshape(-1)  # one of a device has no `flat`
    found = flat[int(bad.argmax())]
    return found.item() if hasattr(found, "item") else found  # arrays of objects hold Python's own numbers


def chosen(kind: str, value: Any, known: Iterable[str]) -> str:
    """Return a name that is one of `known`, or raise `UnknownNameError`."""
    names = tuple(known)
    if not isinstance(value, str) or value not in names:
        raise UnknownNameError.of(kind, value, names)
    return value


def integer(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> int:
    """Return a Python int in ``[low, high]``: booleans and floats are refused.

    Examples
    --------
    >>> integer("bits", 8, 2, 16)
    8
    >>> integer("bits", -2, 2, 16)
    Traceback (most recent call last):
        ...
    qengine.exceptions.DomainError: bits must be in [2, 16]; got -2.
    """
    if isinstance(value, (bool, np.timedelta64)) or not isinstance(value, (int, np.integer)):
        raise DTypeError(f"{name} must be an integer; got {brief(value)}.")
    number = int(value)
    if not low <= number <= high:
        raise DomainError(f"{name} must be in [{low}, {high}]; got {brief(number)}.")
    return number


def real(name: str, value: Any) -> float:
    """Return a Python float, NaN and infinity too: booleans, complex numbers and texts are refused."""
    if isinstance(value, (bool, np.timedelta64)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DTypeError(f"{name} must be a real number; got {brief(value)}.")
    try:
        return float(value)
    except OverflowError:
        raise DomainError(f"{name} must fit float64; got {brief(value)}.") from None


def flag(name: str, value: Any) -> bool:
    """Return True or False: nothing else is taken for one."""
    if not isinstance(value, (bool, np.bool_)):
        raise DTypeError(f"{name} must be True or False; got {brief(value)}.")
    return bool(value)


def callback(name: str, value: Callable[..., Any] | None) -> None:
    """Raise unless `value` can be called, or is None: before the work begins, not at its first tile."""
    if value is not None and not callable(value):
        raise DTypeError(f"{name} must be a function or None; got {brief(value)}.")


def several(name: str, value: Any, *one: type) -> Iterable[Any]:
    """Return what is given to be iterated: an iterable, or a single text (or object of a type of `one`)."""
    if isinstance(value, (str, *one)):
        return [value]
    if not isinstance(value, Iterable) or (isinstance(value, np.ndarray) and value.ndim == 0):
        raise DTypeError(f"{name} must be a name or a list of them; got {brief(value)}.")
    return value


def path(name: str, value: Any) -> str:
    """Return the name of a file or folder as text: not empty, and one that the operating system can hold."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise DTypeError(f"{name} must be the name of a file or folder; got {brief(value)}.")
    text = os.fspath(value)
    try:
        coded = os.fsencode(text)
        sound = 0 < len(coded) < _LONGEST_PATH and b"\0" not in coded
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise InputFileError(
            f"{name} must be the name of a file or folder, of 1 to {_LONGEST_PATH - 1} bytes without NUL and lone "
            f"surrogates; got {brief(text)}."
        )
    return text
