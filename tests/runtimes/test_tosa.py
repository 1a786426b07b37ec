"""TOSA RESCALE against its definition in whole numbers, and its domain."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import qengine as qe

BITS = {"i8": 8, "i16": 16, "i32": 32, "i48": 48}


def oracle(v: int, m: int, shift: int, double: bool) -> int:
    """Half up of the exact product; double rounding adds a quarter of the first stage's unit away from zero."""
    product = Fraction(v * m, 1 << shift) + Fraction(1, 2)
    if double and shift > 31:
        product += Fraction(1 << 30, 1 << shift) * (1 if v >= 0 else -1)
    return math.floor(product)


def call(x: Any, multiplier: Any, shift: Any, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "input_zp": 0, "output_zp": 0, "input_dtype": "i32", "output_dtype": "i32", "scale32": True,
        "per_channel": False,
    }  # fmt: skip
    return qe.tosa_rescale(x, multiplier=multiplier, shift=shift, **{**options, **changes})


@pytest.mark.parametrize(
    ("x", "multiplier", "shift", "single", "double"),
    [(1, 1 << 30, 32, 0, 1), (-2, 1 << 30, 32, 0, -1), (-6, 1 << 30, 32, -1, -2), (7984, 1583594044, 40, 11, 12)],
)
def test_examples_of_the_catalogue(x: int, multiplier: int, shift: int, single: int, double: int) -> None:
    assert call(x, multiplier, shift) == single
    assert call(x, multiplier, shift, rounding_mode="DOUBLE_ROUND") == double


@pytest.mark.parametrize(
    ("x", "multiplier", "shift", "y"),
    [(1000, 16384, 15, 500), (-1, 16384, 15, 0), (1, 16384, 15, 1), (-3, 16384, 15, -1), (-70000, 20000, 20, -1335)],
)
def test_examples_of_scale_16(x: int, multiplier: int, shift: int, y: int) -> None:
    assert call(x, multiplier, shift, scale32=False, input_dtype="i48") == y


@given(st.data())
def test_equals_the_definition(data: st.DataObject) -> None:
    scale32, double = data.draw(st.booleans()), data.draw(st.booleans())
    double &= scale32
    kind = data.draw(st.sampled_from(["i8", "i16", "i32"] if scale32 else ["i8", "i16", "i32", "i48"]))
    shift = data.draw(st.integers(2, 62))
    reach = min(1 << (shift - 1), 1 << (BITS[kind] - 1)) if scale32 else 1 << (BITS[kind] - 1)
    x = data.draw(st.integers(-reach, reach - 1))
    multiplier = data.draw(st.integers(0, (1 << (31 if scale32 else 15)) - 1))
    expected = oracle(x, multiplier, shift, double)
    options = {
        "scale32": scale32, "input_dtype": kind, "rounding_mode": "DOUBLE_ROUND" if double else "SINGLE_ROUND",
    }  # fmt: skip
    if -(2**31) <= expected < 2**31:
        assert call(x, multiplier, shift, **options) == expected
        out = data.draw(st.sampled_from(["i8", "i16"]))
        info = np.iinfo(f"int{BITS[out]}")
        got = call([x], multiplier, shift, **options, output_dtype=out)
        assert got.tolist() == [min(max(expected, info.min), info.max)]
        assert got.dtype == info.dtype
    else:
        with pytest.raises(qe.DomainError, match="must fit int32"):
            call(x, multiplier, shift, **options)


@pytest.mark.parametrize("shift", [2, 31, 32, 33, 62])
def test_double_rounding_is_the_scheme_double(shift: int, rng: np.random.Generator) -> None:
    bound = 1 << (min(shift, 32) - 1)
    x = np.concatenate([rng.integers(-bound, bound, 5000), [-bound, bound - 1, 0, 1, -1]])
    m = int(rng.integers(1 << 30, 1 << 31)) if shift >= 31 else 1 << (shift - 1)
    y = call(x, m, shift, rounding_mode="DOUBLE_ROUND")
    expected = [oracle(int(v), m, shift, True) for v in x]
    assert y.tolist() == expected
    if shift >= 31:
        scheme = qe.requantize(x.astype(np.int32), qe.QuantizedMultiplier(m, 31 - shift), scheme="double")
        assert y.tolist() == scheme.tolist()


def test_unsigned_values_and_zero_points() -> None:
    half: dict[str, Any] = {"multiplier": 1 << 30, "shift": 31}
    same = {"input_dtype": "i8", "output_dtype": "i8", "input_zp": 128, "output_zp": -3, "input_unsigned": True}
    assert call([0, 127, 128, 129, 255], **half, **same).tolist() == [-67, -3, -3, -2, 61]
    # The same bytes as two's complement, the zero point too.
    stored = np.array([0, 127, 128, 129, 255], np.uint8).view(np.int8)
    assert call(stored, **half, **{**same, "input_zp": -128}).tolist() == [-67, -3, -3, -2, 61]
    out = {"input_dtype": "i8", "output_dtype": "i8", "input_zp": -3, "output_zp": 200, "output_unsigned": True}
    got = call([-128, -3, 0, 127], **half, **out)
    assert got.dtype == np.uint8
    assert got.tolist() == [138, 200, 202, 255]
    wide = {"input_dtype": "i16", "output_dtype": "i16", "input_zp": 32768, "input_unsigned": True}
    assert call([0, 32768, 65535], **half, **wide).tolist() == [-16384, 0, 16384]


def test_per_channel() -> None:
    x = np.arange(-12, 12, dtype=np.int32).reshape(4, 6)
    m, shift = np.array([1 << 30] * 3 + [3] * 3), np.array([31, 32, 33, 5, 6, 7])
    got = call(x, m, shift, per_channel=True, output_dtype="i16")
    for row, channel in itertools.product(range(4), range(6)):
        assert got[row, channel] == oracle(int(x[row, channel]), int(m[channel]), int(shift[channel]), False)
    assert call(np.empty((0, 6), np.int32), m, shift, per_channel=True).shape == (0, 6)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"input_dtype": "i48"}, "scale32 takes no i48"),
        ({"scale32": False, "rounding_mode": "DOUBLE_ROUND", "multiplier": 1}, "DOUBLE_ROUND needs scale32"),
        ({"input_unsigned": True, "output_unsigned": True, "input_dtype": "i8", "output_dtype": "i8"}, "exclude"),
        ({"input_unsigned": True}, "i32 has no unsigned input"),
        ({"output_unsigned": True}, "i32 has no unsigned output"),
        ({"input_unsigned": True, "input_dtype": "i8"}, "an unsigned input takes no i32 output"),
        ({"output_unsigned": True, "output_dtype": "i8"}, "an unsigned output takes no i32 input"),
        ({"input_zp": 1}, "input_zp must be 0 for i32; got 1"),
        ({"output_zp": 1}, "output_zp must be 0 for i32; got 1"),
        ({"input_zp": 128, "input_dtype": "i8"}, r"input_zp must be in \[-128, 127\]; got 128"),
        (
            {"input_zp": 5, "input_dtype": "i16", "output_dtype": "i8", "input_unsigned": True},
            "0 or 32768 for unsigned",
        ),
        ({"multiplier": -1}, r"multiplier must be in \[0, 2147483647\]; got -1"),
        ({"multiplier": 1 << 15, "scale32": False}, r"multiplier must be in \[0, 32767\]"),
        ({"shift": 1}, r"shift must be in \[2, 62\]; got 1"),
        ({"shift": 63}, r"shift must be in \[2, 62\]; got 63"),
        ({"x": [0, 2, 1], "shift": 2}, r"x - input_zp must be in .*; got 2 at index 1"),
        ({"x": [128], "input_dtype": "i8"}, r"x must be in \[-128, 127\]; got 128 at index 0"),
        ({"per_channel": True}, "per_channel needs an x with at least one axis"),
        ({"per_channel": True, "x": [1, 2]}, r"multiplier must have shape \(2,\)"),
        ({"multiplier": [1, 2]}, "multiplier must have one number"),
        ({"input_zp": [1, 2], "input_dtype": "i8"}, "input_zp must be one number"),
    ],
)
def test_domain(changes: dict[str, Any], text: str) -> None:
    options: dict[str, Any] = {"x": 0, "multiplier": 1 << 30, "shift": 31, **changes}
    with pytest.raises(qe.DomainError, match=text):
        call(**options)


def test_names_and_types() -> None:
    with pytest.raises(qe.UnknownNameError, match="unknown input_dtype 'i64'; did you mean 'i48' or 'i16'"):
        call(0, 1, 31, input_dtype="i64")
    with pytest.raises(qe.UnknownNameError, match="rounding_mode"):
        call(0, 1, 31, rounding_mode="INEXACT_ROUND")
    with pytest.raises(qe.DTypeError, match="scale32 must be True or False; got 1"):
        call(0, 1, 31, scale32=1)
    with pytest.raises(qe.DTypeError, match="x must hold integers; got dtype float64"):
        call(0.5, 1, 31)
    with pytest.raises(qe.DomainError, match="x must fit int64"):
        call(np.array([2**64 - 1], np.uint64), 1, 31)
