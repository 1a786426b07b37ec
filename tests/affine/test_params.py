"""Quantization parameters: what is accepted, what is refused and how, and the formulas of a given range."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qengine.affine.calibrate import choose_qparams
from qengine.affine.params import QuantParams
from qengine.exceptions import DomainError, DTypeError, UnknownNameError

TINY32, TINY64 = 2.0**-126, 2.0**-1022
FMAX = sys.float_info.max


def rint(v: Fraction) -> int:
    return round(v)  # Python rounds a Fraction half to even, exactly


def test_importing_the_parameters_imports_no_compiler() -> None:
    code = "import sys, qengine.affine.params, qengine.affine.calibrate; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_scalars_are_python_numbers_and_arrays_are_read_only_copies() -> None:
    p = QuantParams(np.float32(0.5), np.int8(3), np.int64(-128), 127)
    assert (type(p.scale), type(p.zero_point), type(p.qmin)) == (float, int, int)
    scale = np.array([0.5, 0.25])
    p = QuantParams(scale, 1, -128, 127, axis=0)
    scale[0] = 9
    assert p.scale.tolist() == [0.5, 0.25]
    assert p.zero_point.tolist() == [1, 1]
    assert p.zero_point.dtype == np.int64
    for array in (p.scale, p.zero_point):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("qmin", "qmax", "bits", "dtype"),
    [
        (-128, 127, 8, "int8"), (-127, 127, 8, "int8"), (0, 255, 8, "uint8"), (1, 255, 8, "uint8"),
        (-8, 7, 4, "int8"), (0, 15, 4, "int8"), (-2, 1, 2, "int8"), (0, 128, 8, "uint8"), (-128, 128, 9, "int16"),
        (-32768, 32767, 16, "int16"), (0, 65535, 16, "uint16"), (-1, 65534, 16, "int32"), (0, 1, 1, "int8"),
    ],
)  # fmt: skip
def test_bits_and_storage(qmin: int, qmax: int, bits: int, dtype: str) -> None:
    p = QuantParams(1.0, 0, qmin, qmax)
    assert (p.bits, p.dtype.name, p.levels) == (bits, dtype, qmax - qmin + 1)


def test_real_ends() -> None:
    p = QuantParams([0.5, 2.0], [-3, 10], -128, 127, axis=0)
    assert p.real_min.tolist() == [-62.5, -276.0]
    assert p.real_max.tolist() == [65.0, 234.0]
    assert QuantParams(FMAX, 0, -128, 127).real_min == -np.inf


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"scale": 0.0}, DomainError, "scale must be positive and finite; got 0.0"),
        ({"scale": -1.0}, DomainError, "got -1.0"),
        ({"scale": np.inf}, DomainError, "got inf"),
        ({"scale": [1.0, np.nan], "axis": 0}, DomainError, "got nan at index 1"),
        ({"scale": [[1.0, 1.0], [1.0, 0.0]], "axis": 0, "group": 4}, DomainError, r"at index \(1, 1\)"),
        ({"scale": True}, DTypeError, "bool"),
        ({"scale": 1j}, DTypeError, "complex"),
        ({"scale": "1"}, DTypeError, "dtype"),
        ({"scale": [Fraction(1)], "axis": 0}, DTypeError, "object"),
        ({"zero_point": 0.0}, DTypeError, "zero_point must be an integer"),
        ({"zero_point": True}, DTypeError, "bool"),
        ({"zero_point": 2**31}, DomainError, "got 2147483648"),
        ({"zero_point": -(2**31)}, DomainError, "got -2147483648"),
        ({"zero_point": 2**70}, DomainError, "got 1180591620717411303424"),
        ({"scale": [1.0, 1.0], "zero_point": [0, 2**40], "axis": 0}, DomainError, "at index 1"),
        ({"qmin": 127}, DomainError, "qmax - qmin must be in"),
        ({"qmin": -128.0}, DTypeError, "qmin must be an integer"),
        ({"qmax": True}, DTypeError, "qmax must be an integer"),
        ({"qmin": 0, "qmax": 65536}, DomainError, "65535"),
        ({"qmin": 2**31 - 10, "qmax": 2**31}, DomainError, "int32"),
        ({"scale": [1.0]}, DomainError, "needs the axis"),
        ({"axis": 0}, DomainError, "1-D along axis 0"),
        ({"scale": [[1.0]], "axis": 0}, DomainError, r"1-D along axis 0; got shape \(1, 1\)"),
        ({"scale": [1.0], "axis": 0.0}, DTypeError, "axis must be an integer"),
        ({"scale": [1.0], "group": 4}, DomainError, "needs an axis"),
        ({"scale": [1.0], "axis": 0, "group": 0}, DomainError, "group must be at least 1"),
        ({"axis": 0, "group": 4}, DomainError, "got a scalar"),
        ({"scale": [1.0], "axis": 1, "group": 4}, DomainError, "axis must be in"),
        ({"scale": [1.0, 2.0], "zero_point": [0, 0, 0], "axis": 0}, DomainError, r"\(2,\).*\(3,\)"),
    ],
)
def test_refused(kwargs: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        QuantParams(**{"scale": 1.0, "zero_point": 0, "qmin": -128, "qmax": 127, **kwargs})


def test_expand_broadcasts_against_x() -> None:
    scale, zero_point = QuantParams(0.5, 3, -128, 127).expand((2, 3))
    assert (scale.shape, scale.dtype, zero_point.dtype) == ((), np.float64, np.int64)
    scale, zero_point = QuantParams([1.0, 2.0, 3.0], [0, 1, 2], -128, 127, axis=-1).expand((5, 2, 3))
    assert (scale.shape, zero_point.ravel().tolist()) == ((1, 1, 3), [0, 1, 2])
    grouped = QuantParams([[1.0, 2.0], [3.0, 4.0]], [[0, 1], [2, 3]], -8, 7, axis=1, group=3)
    scale, zero_point = grouped.expand((2, 5))
    assert scale.tolist() == [[1, 1, 1, 2, 2], [3, 3, 3, 4, 4]]
    assert zero_point.tolist() == [[0, 0, 0, 1, 1], [2, 2, 2, 3, 3]]


def test_shapes_that_do_not_fit_are_named() -> None:
    p = QuantParams([1.0, 2.0], 0, -128, 127, axis=1)
    with pytest.raises(DomainError, match=r"\(2, 3\) has 3 channels along axis 1.*\(2,\)"):
        p.check_shape((2, 3))
    with pytest.raises(DomainError, match="axis must be in"):
        p.check_shape((2,))
    p = QuantParams([[1.0, 2.0]], 0, -128, 127, axis=-1, group=4)
    assert p.axis == 1
    assert p.check_shape((1, 5)) == 1
    with pytest.raises(DomainError, match=r"\(1, 9\) in groups of 4 along axis 1 needs scales of shape \(1, 3\)"):
        p.check_shape((1, 9))


def test_equal_by_value_and_round_trip_through_json() -> None:
    p = QuantParams([0.1, 1 / 3], [1, -2], -128, 127, axis=0)
    same = QuantParams.from_dict(json.loads(json.dumps(p.to_dict())))
    assert same == p
    assert hash(same) == hash(p)
    scalar = QuantParams(0.1, 1, -128, 127)
    assert QuantParams.from_dict(json.loads(json.dumps(scalar.to_dict()))) == scalar
    assert repr(scalar) == "QuantParams(scale=0.1, zero_point=1, qmin=-128, qmax=127)"
    assert repr(p) == "QuantParams(2 scales of shape (2,), axis=0, qmin=-128, qmax=127)"
    others = [
        QuantParams([0.1, 1 / 3], [1, -2], -127, 127, axis=0),
        QuantParams([0.1, 1 / 3], [1, -2], -128, 127, axis=1),
        QuantParams([0.1, 1 / 3], [1, -2], -128, 127, axis=0, group=2),
        QuantParams([0.1, 0.5], [1, -2], -128, 127, axis=0),
        scalar,
    ]
    assert all(p != other for other in others)
    assert p != "x"
    with pytest.raises(DomainError, match=r"missing \['qmax'\], unknown \['z'\]"):
        QuantParams.from_dict({"scale": 1.0, "zero_point": 0, "qmin": 0, "z": 1})


# --- ranges ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "scale", "zero_point", "qmin", "qmax"),
    [
        ({}, 1.5 / 127, 0, -128, 127),
        ({"narrow": True}, 1.5 / 127, 0, -127, 127),
        ({"signed": False}, 1.5 / 255, 0, 0, 255),
        ({"mode": "asymmetric", "signed": False}, 3 / 255, 128, 0, 255),  # rint(127.5)
        ({"mode": "asymmetric"}, 3 / 255, 0, -128, 127),  # rint(-0.5)
        ({"mode": "asymmetric", "narrow": True}, 3 / 254, 0, -127, 127),
        ({"mode": "asymmetric", "signed": False, "narrow": True}, 3 / 254, 128, 1, 255),
        ({"bits": 2}, 1.5, 0, -2, 1),
        ({"bits": 16, "mode": "asymmetric"}, 3 / 65535, 0, -32768, 32767),
    ],
)
def test_the_worked_range(kwargs: dict[str, Any], scale: float, zero_point: int, qmin: int, qmax: int) -> None:
    assert choose_qparams((-1.5, 1.5), **kwargs) == QuantParams(scale, zero_point, qmin, qmax)


finite = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(low=finite, high=finite, bits=st.integers(2, 16), signed=st.booleans(), zero=st.booleans())
def test_formulas_in_rationals(low: float, high: float, bits: int, signed: bool, zero: bool) -> None:
    low, high = sorted((low, high))
    if high - low < 1e-3:
        high = low + 1.0
    steps, bottom = 2**bits - 1, -(2 ** (bits - 1)) if signed else 0
    p = choose_qparams((low, high), bits=bits, mode="asymmetric", signed=signed, include_zero=zero)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    exact = (Fraction(high) - Fraction(low)) / steps
    assert abs(Fraction(p.scale) - exact) <= exact * Fraction(2, 2**53)
    wanted = bottom - Fraction(low) / Fraction(p.scale)
    # Two roundings lie between this and the float64 formula: within an ulp of a tie either integer is right.
    assert abs(p.zero_point - wanted) <= Fraction(1, 2) + abs(wanted) * Fraction(1, 2**50)
    if low <= 0 <= high:
        assert p.qmin <= p.zero_point <= p.qmax
    s = choose_qparams((low, high), bits=bits, signed=signed)
    top = 2 ** (bits - 1) - 1 if signed else steps
    assert s.scale == max(abs(low), abs(high)) / top
    assert (s.zero_point, s.qmax) == (0, top)


def test_zero_points_of_ties_go_to_even() -> None:
    # lo / scale is an exact half: scale 1, lo = -0.5, -1.5, -2.5
    got = [choose_qparams((lo, lo + 255.0), mode="asymmetric", signed=False).zero_point for lo in (-0.5, -1.5, -2.5)]
    assert got == [rint(Fraction(n, 2)) for n in (1, 3, 5)] == [0, 2, 2]


def test_the_zero_point_follows_from_the_rounded_scale() -> None:
    rng = np.random.default_rng(5)
    differs = 0
    for _ in range(4000):
        low, high = -float(rng.uniform(0, 4)), float(rng.uniform(0, 4))
        p = choose_qparams((low, high), bits=16, mode="asymmetric", signed=False, scale_dtype="float32")
        assert p.scale == float(np.float32((high - low) / 65535))
        assert p.zero_point == rint(Fraction(-low / p.scale))
        differs += p.zero_point != choose_qparams((low, high), bits=16, mode="asymmetric", signed=False).zero_point
    assert differs > 0


def test_arrays_of_ranges() -> None:
    p = choose_qparams(([-1.0, -3.0], [2.0, 1.0]), axis=1, mode="asymmetric", signed=False)
    assert p == QuantParams([3 / 255, 4 / 255], [85, 191], 0, 255, axis=1)
    p = choose_qparams(([[-1.0, -3.0]], [[2.0, 1.0]]), axis=1, group=32)
    assert p == QuantParams([[2 / 127, 3 / 127]], 0, -128, 127, axis=1, group=32)


def test_extremes_of_floats() -> None:
    p = choose_qparams((-FMAX, FMAX), mode="asymmetric", signed=False)
    assert p.scale == FMAX / 255 + FMAX / 255  # rounded twice: an ulp above 2 FMAX / 255,
    assert p.zero_point == rint(Fraction(FMAX) / Fraction(p.scale)) == 127  # and so not the tie 127.5
    assert choose_qparams((-FMAX, FMAX)).scale == FMAX / 127
    assert choose_qparams((0.0, 5e-324), mode="asymmetric").scale == TINY64
    assert choose_qparams((0.0, 5e-324), scale_dtype="float32").scale == TINY32
    assert choose_qparams((-TINY32, TINY32), scale_dtype=np.float32).scale == TINY32
    with pytest.raises(DomainError, match="too wide for a float32 scale"):
        choose_qparams((-1e300, 1.0), scale_dtype="float32")
    with pytest.raises(DomainError, match=r"\[-1e\+300, 1.0\] at index 1 is too wide"):
        choose_qparams(([-1.0, -1e300], [1.0, 1.0]), axis=0, scale_dtype="float32")
    with pytest.raises(DomainError, match="include_zero=True"):
        choose_qparams((1e6, 1e6 + 1e-3), mode="asymmetric")
    assert choose_qparams((1e6, 1e6 + 1e-3), mode="asymmetric", include_zero=True).zero_point == -128
    assert choose_qparams((5.0, 10.0), mode="asymmetric", signed=False).zero_point == -255


@pytest.mark.parametrize(
    ("x", "kwargs", "error", "text"),
    [
        ((1.0, 1.0), {"mode": "asymmetric"}, DomainError, "lo must be below hi; got lo 1.0, hi 1.0"),
        ((2.0, 1.0), {"mode": "asymmetric"}, DomainError, "lo must be below hi"),
        ((2.0, 1.0), {}, DomainError, "lo must be below hi"),
        (([0.0, 3.0], [1.0, 2.0]), {"axis": 0}, DomainError, "at index 1"),
        ((0.0, 0.0), {}, DomainError, "lo must be below hi"),
        ((np.nan, 1.0), {}, DomainError, "lo of the range must be finite; got nan"),
        ((0.0, np.inf), {}, DomainError, "hi of the range must be finite; got inf"),
        (([0.0], [1.0, 2.0]), {"axis": 0}, DomainError, "same shape"),
        (([0.0], [1.0]), {}, DomainError, "needs the axis"),
        ((0.0, 1.0), {"axis": 0}, DomainError, "1-D along axis 0"),
        ((True, 1.0), {}, DTypeError, "bool"),
        ((0j, 1.0), {}, DTypeError, "complex"),
        ((0.0, 1.0), {"method": "mse"}, DomainError, "needs samples"),
        ((0.0, 1.0), {"bits": 1}, DomainError, r"bits must be in \[2, 16\]; got 1"),
        ((0.0, 1.0), {"bits": 17}, DomainError, "got 17"),
        ((0.0, 1.0), {"bits": 8.0}, DTypeError, "bits must be an integer"),
        ((0.0, 1.0), {"mode": "symetric"}, UnknownNameError, "did you mean"),
        ((0.0, 1.0), {"method": "kl"}, UnknownNameError, "calibration method"),
        ((0.0, 1.0), {"scale_dtype": "float16"}, UnknownNameError, "scale_dtype"),
        ((0.0, 1.0), {"scale_dtype": object()}, UnknownNameError, "scale_dtype"),
        ((0.0, 1.0), {"signed": 1}, DTypeError, "signed must be True or False"),
        ((0.0, 1.0), {"signed": False, "narrow": True}, DomainError, "narrow must be False"),
        ((0.0, 1.0), {"percentile": 50}, DomainError, r"\(50, 100\]"),
        ((0.0, 1.0), {"percentile": "99"}, DTypeError, "percentile"),
        ((0.0, 1.0), {"gamma": 0}, DomainError, "gamma"),
        ((0.0, 1.0), {"candidates": 0}, DomainError, "candidates"),
    ],
)
def test_ranges_refused(x: Any, kwargs: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        choose_qparams(x, **kwargs)
