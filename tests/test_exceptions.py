"""The designed errors: their types, their texts, and that nothing is half-written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.requant.schemes import Scheme

QUARTER = qe.QuantizedMultiplier(1 << 30, -1)
ACC = np.zeros((4, 2), np.int32)


def text_of(error: type[Exception], **options: Any) -> str:
    """The text of the error that a call raises; `out` stays as it was."""
    arguments: dict[str, Any] = {"acc": ACC, "multiplier": QUARTER, "backend": "cpu", **options}
    out = np.full(np.shape(arguments["acc"]), 77, np.int32)
    with pytest.raises(error) as caught:
        qe.requantize(arguments.pop("acc"), arguments.pop("multiplier"), **arguments)
    if "dtype" not in arguments and "out" not in arguments:
        with pytest.raises(error):
            qe.requantize(options.get("acc", ACC), options.get("multiplier", QUARTER), out=out, **arguments)
        assert np.all(out == 77), "half-written"
    return str(caught.value)


def test_tree() -> None:
    for name, base in {
        "DomainError": ValueError, "DTypeError": TypeError, "UnknownNameError": ValueError,
        "InputFileError": ValueError, "BackendError": RuntimeError,
    }.items():  # fmt: skip
        assert issubclass(getattr(qe, name), base)
        assert issubclass(getattr(qe, name), qe.QEngineError)


def test_shift_out_of_range_text() -> None:
    shift = np.zeros((4, 1), np.int32)
    shift[3, 0] = 31
    text = text_of(qe.DomainError, multiplier=qe.QuantizedMultiplier(np.full((4, 1), 1 << 30), shift), scheme="single")
    assert text == "shift must be in [-31, 30] for scheme 'single'; got 31 at index (3, 0)."


@pytest.mark.parametrize(
    ("shift", "text"),
    [
        (31, "shift must be in [-31, 30] for scheme 'single'; got 31."),
        (-32, "shift must be in [-31, 30] for scheme 'single'; got -32."),
        ([0, 40], "shift must be in [-31, 30] for scheme 'single'; got 40 at index 1."),
    ],
)
def test_shift_out_of_range(shift: Any, text: str) -> None:
    assert text_of(qe.DomainError, multiplier=qe.QuantizedMultiplier(1 << 30, shift), scheme="single") == text


def test_shift_range_of_each_scheme(scheme: Scheme, backend: str) -> None:
    if scheme.parameter != "q31":
        return
    low, high = scheme.shift_range
    for shift in (low, high):
        qe.requantize(0, qe.QuantizedMultiplier(1 << 30, shift), scheme=scheme, backend=backend)
    for shift in (low - 1, high + 1):
        with pytest.raises(qe.DomainError, match=rf"shift must be in \[{low}, {high}\] .*; got {shift}\.$"):
            qe.requantize(0, qe.QuantizedMultiplier(1 << 30, shift), scheme=scheme, backend=backend)


def test_scale_range_of_each_scheme(scheme: Scheme, backend: str) -> None:
    if scheme.parameter == "q31" or scheme.scale_range == (0.0, math.inf):
        return
    low, high = scheme.scale_range
    for scale in (low, math.nextafter(high, 0) if scheme.parameter == "float64" else high * (1 - 2**-24)):
        qe.requantize(0, scale, scheme=scheme, backend=backend)
    for scale in (low / 2, high, 0.0):
        with pytest.raises(qe.DomainError, match=r"multiplier must be in \[.*\) for scheme .*; got .*\.$"):
            qe.requantize(0, scale, scheme=scheme, backend=backend)
    with pytest.raises(qe.DomainError, match=r"at index 1\.$"):
        qe.requantize([0, 0], [low, high], scheme=scheme, backend=backend)


@pytest.mark.parametrize(
    ("multiplier", "text"),
    [
        (math.nan, "multiplier must be finite; got nan."),
        (math.inf, "multiplier must be finite; got inf."),
        (-0.25, "multiplier must not be negative; got -0.25."),
        ([0.5, math.nan], "multiplier must be finite; got nan at index 1."),
        (
            [[0.5, 0.5], [0.5, 0.5], [0.5, -1.0], [0.5, 0.5]],
            "multiplier must not be negative; got -1.0 at index (2, 1).",
        ),
    ],
)
def test_bad_multipliers(multiplier: Any, text: str, scheme: Scheme) -> None:
    assert text_of(qe.DomainError, multiplier=multiplier, scheme=scheme).startswith(text)


@pytest.mark.parametrize("multiplier", [True, "0.5", None, 1j, [True, False], ["a", "b"]])
def test_multipliers_of_a_wrong_type(multiplier: Any, scheme: Scheme) -> None:
    assert "multiplier must be" in text_of(qe.DTypeError, multiplier=multiplier, scheme=scheme)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "complex64", "U3", "O", "M8[s]"])
def test_acc_of_a_wrong_type(dtype: str) -> None:
    text = text_of(qe.DTypeError, acc=np.zeros(3, dtype))
    assert text.startswith("acc must hold ")


@pytest.mark.parametrize("acc", [1.5, [1.5], "1", None, True, [[1], [2, 3]], 2**70, [object()]])
def test_acc_that_is_no_integer(acc: Any) -> None:
    with pytest.raises(qe.DTypeError, match=r"^acc must "):
        qe.requantize(acc, QUARTER)


def test_acc_beyond_int64() -> None:
    acc = np.array([1, 2**63], np.uint64)
    assert text_of(qe.DomainError, acc=acc, scheme="int16x8").startswith(
        "acc must fit int64; got 9223372036854775808 at index 1."
    )


def test_acc_outside_the_type_of_the_scheme(scheme: Scheme, backend: str) -> None:
    limit = 1 << (scheme.acc_bits - 1)
    for acc in (limit, -limit - 1):
        for overflow in ("error", "wrap"):
            with pytest.raises(
                qe.DomainError, match=rf"acc must be in \[-?\d+, \d+\] for scheme .*got {acc} at index 1: "
            ):
                qe.requantize(np.array([0, acc]), QUARTER, scheme=scheme, overflow=overflow, backend=backend)


@pytest.mark.parametrize("name", ["double", "double-up", "floor-port", "avx2-int16", "hifi-out16"])
def test_overflowed_left_shift(name: str, backend: str) -> None:
    acc = np.zeros((3, 2), np.int32)
    acc[2, 1] = 2**28
    text = text_of(qe.DomainError, acc=acc, multiplier=qe.QuantizedMultiplier(1 << 30, 3), scheme=name, backend=backend)
    row = qe.get_scheme(name)
    assert text == (
        f"acc must be in [-268435456, 268435455] for scheme {name!r} with this multiplier; got 268435456 "
        f"at index (2, 1): a left shift by 3 overflows int32 (the original: {row.overflow}). "
        "Use overflow='wrap' to reproduce the original."
    )


def test_result_that_leaves_int32(backend: str) -> None:
    text = text_of(
        qe.DomainError, acc=np.array([5, -(2**30) - 1], np.int32), scheme="single",
        multiplier=qe.QuantizedMultiplier(1 << 30, 2), backend=backend,
    )  # fmt: skip
    assert "got -1073741825 at index 1: " in text
    assert "overflow='wrap'" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"zero_point": 128, "dtype": "int8"}, "zero_point must be in [-128, 127] for dtype int8; got 128."),
        ({"zero_point": -1, "dtype": "uint8"}, "zero_point must be in [0, 255] for dtype uint8; got -1."),
        (
            {"zero_point": [0, -40000], "dtype": "int16"},
            "zero_point must be in [-32768, 32767] for dtype int16; got -40000 at index 1.",
        ),
        ({"zero_point": 70000}, "zero_point must be in [-32768, 65535] for dtype int32; got 70000."),
        ({"qmin": -200, "dtype": "int8"}, "qmin must be in [-128, 127] for dtype int8; got -200."),
        ({"qmax": 2**31}, "qmax must be in [-2147483648, 2147483647] for dtype int32; got 2147483648."),
        ({"qmin": 5, "qmax": 4, "dtype": "int8"}, "qmin must not exceed qmax; got qmin 5, qmax 4."),
        ({"axis": 2}, "axis must be in [-2, 1] for 2-dimensional acc; got 2."),
        ({"axis": -3, "zero_point": [1, 2]}, "axis must be in [-2, 1] for 2-dimensional acc; got -3."),
        ({"axis": 1, "zero_point": [1, 2, 3]}, "with axis=1, multiplier and zero_point must have shape (2,)"),
        (
            {"zero_point": [1, 2, 3]},
            "the shape of multiplier and zero_point, (3,), does not broadcast against acc, (4, 2)",
        ),
        (
            {"zero_point": [1, 2, 3], "multiplier": [0.5, 0.25]},
            "multiplier (2,) and zero_point (3,) do not broadcast.",
        ),
        ({"overflow": "saturate"}, "overflow must be 'error' or 'wrap'; got 'saturate'."),
    ],
)
def test_bad_values(options: dict[str, Any], text: str) -> None:
    assert text_of(qe.DomainError, **options).startswith(text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"zero_point": 0.5}, "zero_point must be an integer; got dtype float64."),
        ({"zero_point": True}, "zero_point must be an integer"),
        ({"zero_point": None}, "zero_point must be an integer"),
        (
            {"dtype": "float32"},
            "dtype must be int8, uint8, int16 (clamped) or int32, int64 (raw); got 'float32'.",
        ),
        ({"dtype": "uint16"}, "dtype must be int8"),
        ({"dtype": "no such type"}, "dtype must be int8"),
        ({"qmin": 0.5}, "qmin must be an integer; got 0.5."),
        ({"qmax": True}, "qmax must be an integer; got True."),
        ({"out": [1]}, "out must be a NumPy array; got list."),
    ],
)
def test_wrong_types(options: dict[str, Any], text: str) -> None:
    assert text_of(qe.DTypeError, **options).startswith(text)


def test_unknown_scheme() -> None:
    assert text_of(qe.UnknownNameError, scheme="gemlowp").startswith(
        "unknown scheme 'gemlowp'; did you mean 'gemmlowp'"
    )
    assert text_of(qe.UnknownNameError, scheme="zzz").startswith("unknown scheme 'zzz'; known: ")


def test_nothing_is_half_written(scheme: Scheme, backend: str) -> None:
    """One bad value at the very end; the good ones before it must not reach out=."""
    limit = 1 << (scheme.acc_bits - 1)
    acc = np.full(5000, 100, np.int64)
    acc[-1] = limit
    out = np.full(5000, 77, np.int64)
    with pytest.raises(qe.DomainError):
        qe.requantize(acc, QUARTER, scheme=scheme, out=out, backend=backend)
    assert np.all(out == 77)
    with pytest.raises(qe.DomainError):
        qe.requantize(acc[:3], QUARTER, scheme=scheme, zero_point=[0, 0, 10**6], out=out[:3], backend=backend)
    assert np.all(out == 77)


def test_no_error_leaves_the_engine_unusable(scheme: Scheme, backend: str) -> None:
    with pytest.raises(qe.DomainError):
        qe.requantize(1, math.nan, scheme=scheme, backend=backend)
    assert int(qe.requantize(400, 0.25, scheme=scheme, backend=backend)) == 100
