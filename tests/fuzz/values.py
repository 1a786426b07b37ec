"""Values that no function asked for, drawn by hypothesis."""

from __future__ import annotations

import decimal
import fractions
from typing import Any

import hypothesis.strategies as st
import numpy as np

import qengine as qe

QUARTER = qe.QuantizedMultiplier(1 << 30, -1)


class Subclass(np.ndarray):
    """An array that is not NumPy's own."""


class Refusing:
    """Cannot be an array, and says so in its own way."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise RuntimeError("no array")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


PLAIN: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 8, 31, 32, 127, 128, -128, -129, 255, 256, 2**31 - 1, 2**31, -(2**31), 2**53 + 1,
    2**63 - 1, 2**63, -(2**63), 2**64, 10**400, -(10**5000), 0.0, -0.0, 0.5, 1.0, -0.5, 1e-45, 5e-324, 1e300, -1e300,
    3.5e38, float("nan"), float("inf"), -float("inf"), 1 + 2j, "", "single", "int8", "nan", "x" * 10000, "\0", "\ud800",
    b"bytes", "i4,i4", "M8[s]", ">i4", np.int8(-128), np.uint8(255), np.uint64(2**64 - 1), np.float16(0.5),
    np.float32("inf"), np.longdouble(0.25), np.bool_(True), np.complex64(1), np.str_("single"),
    np.datetime64("2020-01-01"), np.timedelta64(1, "s"), np.void(b"ab"), decimal.Decimal("0.5"),
    fractions.Fraction(1, 3), int, np.float32, object(), ..., slice(1, 2), set(), {1, 2}, {}, {"a": 1}, Refusing(),
    (), [], [[]], [None], [1], [1, 2], (0.1, 0.2), (0.1, 0.2, 0.3), (2, 1), (-5, 5), (float("nan"), 1.0),
    [[1, 2], [3]], ["a"], [1, "a"], [10**30], [True, False], [2**63, -1], ["single", "nope"], ("single", "double"),
    QUARTER, qe.QuantizedMultiplier([1 << 30, 1 << 30], [-1, -2]), np.dtype("int8"), np.dtype([("a", "i4")]),
]  # fmt: skip

_BASES = ([0, 1, 2, 3, 4, 5], [-128, 127, 0, 1, -1, 3], [0.5, -0.5, 1.5, np.nan, np.inf, 1e30], [0.1, 0.2, 7, 1, 2, 3])
_TYPES = ("i1", "u1", "i2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", "F", "?", "O", "U8", "S8", ">i4", ">f8")
_LAYOUTS = (
    lambda a: a, lambda a: a[:0], lambda a: a.reshape(2, 3), lambda a: a.reshape(3, 2).T, lambda a: a[::-1],
    lambda a: a[::2], lambda a: a[:1].reshape(()), lambda a: np.broadcast_to(a, (4, 6)), lambda a: a.view(Subclass),
    lambda a: np.ma.array(a, mask=[0, 1, 0, 0, 0, 0]), lambda a: np.asfortranarray(a.reshape(2, 3)),
    lambda a: np.zeros((0, 3), a.dtype),
)  # fmt: skip


def _array(base: list[float], kind: str, layout: Any) -> np.ndarray:
    with np.errstate(all="ignore"):
        array = layout(np.array(base).astype(kind))
    array.flags.writeable = False
    return array


def anything() -> st.SearchStrategy[Any]:
    """Plain objects, and arrays of every type and layout."""
    arrays = st.builds(_array, st.sampled_from(_BASES), st.sampled_from(_TYPES), st.sampled_from(_LAYOUTS))
    return st.one_of(st.sampled_from(PLAIN), arrays)
