"""The drop-in module: it prints what the notebooks printed, and says beside it what C++ gives."""

from __future__ import annotations

import doctest
import random
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from qengine import tflite_quant_math as tqm
from qengine.exceptions import DomainError, DTypeError
from qengine.requant import multiplier as engine_multiplier
from qengine.tflite_quant_math import (
    QuantizedMultiplier,
    debug_multiply_intermediates,
    multiply_by_quantized_multiplier_double_round,
    multiply_by_quantized_multiplier_single_round,
    quantize_multiplier,
    quantize_multiplier_greater_than_one,
    quantize_multiplier_smaller_than_one,
    requantize_layer_output,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from tests import oracle

ISSUE_SCALES = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
BOUNDARY = -1032852841, QuantizedMultiplier(1578349059, 0)
KEYS = {
    "x", "multiplier_value", "multiplier_shift", "left_shift", "right_shift", "x_shifted", "prod",
    "total_shift", "mask", "remainder", "threshold", "single_round_result", "double_round_result",
    "single_round_with_zp", "double_round_with_zp", "difference", "gemmlowp_result",
}  # fmt: skip

INT32_MIN, INT32_MAX = oracle.INT32
STRUCTURED = sorted(
    {0, INT32_MIN, INT32_MAX, -1032852841, 585, -7984}
    | {
        near
        for i, sign, step in product(range(32), (1, -1), (-2, -1, 0, 1, 2))
        if INT32_MIN <= (near := sign * 2**i + step) <= INT32_MAX
    }
)
VALUES = (0, 1 << 30, (1 << 30) + 1, 3 << 29, 1527099593, 1578349059, (1 << 31) - 1)
SHIFTS = (-31, -30, -9, -6, -2, -1, 0, 1, 2, 7, 30)


def _call(function: Callable[..., int], *args: Any, **kwargs: Any) -> int | str:
    try:
        return function(*args, **kwargs)
    except (DomainError, oracle.OutsideDomain):
        return "outside"


def test_names() -> None:
    assert set(tqm.__all__) <= set(vars(tqm))
    for name in (
        "QuantizedMultiplier", "quantize_multiplier", "quantize_multiplier_smaller_than_one",
        "quantize_multiplier_greater_than_one",
    ):  # fmt: skip
        assert getattr(tqm, name) is getattr(engine_multiplier, name)


def test_docstring_examples() -> None:
    result = doctest.testmod(tqm)
    assert result.attempted > 0
    assert result.failed == 0


# ---------------------------------------------------------------------------------------------------------
# What the notebooks printed


def test_boundary_case() -> None:
    x, multiplier = BOUNDARY
    assert multiply_by_quantized_multiplier_single_round(x, multiplier) == -759122106
    assert multiply_by_quantized_multiplier_double_round(x, multiplier) == -759122107
    steps = debug_multiply_intermediates(x, multiplier, verbose=False)
    assert steps["gemmlowp_result"] == steps["single_round_result"] == -759122106
    assert steps["double_round_result"] == -759122107
    assert steps["difference"] == 1
    # Not a rounding boundary at all: the exact product stands 0.0966 from an integer, a tie 0.5.
    assert round(steps["remainder"] / (steps["mask"] + 1), 4) == 0.9034


def test_issue_case() -> None:
    in_scale, weight_scale, out_scale = ISSUE_SCALES
    multiplier = quantize_multiplier_smaller_than_one(in_scale * weight_scale / out_scale)
    assert multiplier == QuantizedMultiplier(1527099593, -6)
    steps = debug_multiply_intermediates(x=585, multiplier=multiplier, zero_point=-126, verbose=False)
    assert set(steps) == KEYS
    assert (steps["left_shift"], steps["right_shift"], steps["total_shift"]) == (0, 6, 37)
    assert steps["x_shifted"] == steps["x"] == 585
    assert steps["prod"] == 585 * 1527099593
    assert steps["remainder"] - steps["threshold"] == 64337  # of 2**37: the true near-tie of the story
    assert steps["single_round_result"] == steps["double_round_result"] == steps["gemmlowp_result"] == 7
    # The notebooks print 133: they subtract the zero point. TFLite adds it: its integer kernels answer
    # 7 + (-126) = -119 (133 is no int8), and the runtime of the issue -120, because it ran fp32.
    assert steps["single_round_with_zp"] == steps["double_round_with_zp"] == 7 - (-126) == 133
    for scheme, expected in (("single", -119), ("double", -119), ("floor-port", -119)):
        got = oracle.requantize(
            scheme, 585, multiplier=(multiplier.value, multiplier.shift), zero_point=-126, qmin=-128, qmax=127
        )
        assert got == expected
    scale = oracle.recipe("float32", *ISSUE_SCALES)
    assert oracle.requantize("fp32", 585, real=scale, zero_point=-126, qmin=-128, qmax=127) == -120


def test_classic_experiment() -> None:
    rng = random.Random(42)
    port = true_double = largest = 0
    for _ in range(10_000):
        multiplier = quantize_multiplier_smaller_than_one(rng.uniform(0.01, 0.99))
        steps = debug_multiply_intermediates(rng.randint(-1_000_000, 1_000_000), multiplier, verbose=False)
        port += steps["difference"] != 0
        true_double += steps["single_round_result"] != steps["gemmlowp_result"]
        largest = max(largest, abs(steps["difference"]))
    assert port == 4267  # 42.67 %
    assert true_double == 842  # 8.42 %
    assert largest == 1


def test_notebook_script(capsys: pytest.CaptureFixture[str]) -> None:
    """A script in the notebooks' manner, with their names, arguments and module-level random state."""
    script = """
import random
from {module} import (
    quantize_multiplier_smaller_than_one,
    multiply_by_quantized_multiplier_single_round,
    multiply_by_quantized_multiplier_double_round,
    debug_multiply_intermediates,
    requantize_layer_output,
    QuantizedMultiplier,
)

a, b, c = {scales}
qm = quantize_multiplier_smaller_than_one((a * b) / c)
print(qm.value, qm.shift)
for f in multiply_by_quantized_multiplier_single_round, multiply_by_quantized_multiplier_double_round:
    print(f(585, qm), f(585, qm) - (-126))
r = debug_multiply_intermediates(x=585, multiplier=qm, zero_point=-126, verbose=False)
print(r['remainder'] > r['threshold'], r['single_round_with_zp'], r['difference'])
edge = QuantizedMultiplier(1578349059, 0)
r = debug_multiply_intermediates(x=-1032852841, multiplier=edge, zero_point=0, verbose=False)
print(r['single_round_result'], r['double_round_result'], r['difference'])

random.seed(42)
same = 0
for _ in range(10000):
    q = quantize_multiplier_smaller_than_one(random.uniform(0.01, 0.99))
    x = random.randint(-1000000, 1000000)
    same += (multiply_by_quantized_multiplier_single_round(x, q)
             == multiply_by_quantized_multiplier_double_round(x, q))
print(f"{{100 * same / 10000:.1f}}%")
print(requantize_layer_output(accumulator=12345, in_scale=0.05, weight_scale=0.02, out_scale=0.1,
                              out_zero_point=-128))
"""
    state = random.getstate()
    try:
        exec(script.format(module=tqm.__name__, scales=ISSUE_SCALES), {})
    finally:
        random.setstate(state)
    assert capsys.readouterr().out.splitlines() == [
        "1527099593 -6", "7 133", "7 133", "True 133 0", "-759122106 -759122107 1", "57.3%", "127",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------
# Against the oracle


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("value", VALUES)
def test_against_oracle(value: int, shift: int) -> None:
    multiplier = QuantizedMultiplier(value, shift)
    computed = 0
    for x in STRUCTURED:
        expected = {
            scheme: _call(oracle.requantize, scheme, x, multiplier=(value, shift))
            for scheme in ("single", "floor-port", "double")
        }
        assert _call(multiply_by_quantized_multiplier_single_round, x, multiplier) == expected["single"]
        assert _call(multiply_by_quantized_multiplier_double_round, x, multiplier) == expected["floor-port"]
        if expected["double"] == "outside":
            with pytest.raises(DomainError, match="x << left_shift must be in"):
                debug_multiply_intermediates(x, multiplier, verbose=False)
            continue
        steps = debug_multiply_intermediates(x, multiplier, zero_point=5, verbose=False)
        assert set(steps) == KEYS
        assert steps["single_round_result"] == expected["single"]
        assert steps["double_round_result"] == expected["floor-port"]
        assert steps["gemmlowp_result"] == expected["double"]
        assert steps["difference"] == expected["single"] - expected["floor-port"]
        assert steps["single_round_with_zp"] == expected["single"] - 5
        assert steps["double_round_with_zp"] == expected["floor-port"] - 5
        assert steps["prod"] == steps["x_shifted"] * value == x * 2 ** max(shift, 0) * value
        assert steps["total_shift"] == 31 + max(-shift, 0)
        assert steps["prod"] - steps["remainder"] == (steps["prod"] >> steps["total_shift"]) * (steps["mask"] + 1)
        up = steps["remainder"] >= steps["threshold"]
        assert steps["single_round_result"] == (steps["prod"] >> steps["total_shift"]) + up
        computed += 1
    assert computed > 1


def test_primitives_against_oracle() -> None:
    for a, b in product([*STRUCTURED[::5], INT32_MIN, INT32_MAX], repeat=2):
        expected = INT32_MAX if a == b == INT32_MIN else oracle.srdhm_floor_port(a, b)
        assert saturating_rounding_doubling_high_mul(a, b) == expected
        assert tqm._high_mul_truncating(a, b) == oracle.srdhm(a, b)
    for x, exponent in product(STRUCTURED, range(32)):
        assert rounding_divide_by_pot(x, exponent) == oracle.rdpot(x, exponent)


def test_where_the_port_is_right() -> None:
    """The port equals C++ for a negative product only at 2**30 - 1 modulo 2**31."""
    for remainder in (0, 1, 2**30 - 2, 2**30 - 1, 2**30, 2**31 - 1):
        for a, b in ((remainder - 2**31, 1), (2**31 - remainder, -1)):
            if a <= INT32_MAX:
                wrong = oracle.srdhm(a, b) - saturating_rounding_doubling_high_mul(a, b)
                assert wrong == (remainder != 2**30 - 1)


def test_no_difference_at_shift_zero() -> None:
    rng = random.Random(7)
    for _ in range(5_000):
        multiplier = QuantizedMultiplier(rng.randrange(1 << 30, 1 << 31), 0)
        steps = debug_multiply_intermediates(rng.randint(INT32_MIN, INT32_MAX), multiplier, verbose=False)
        assert steps["gemmlowp_result"] == steps["single_round_result"]


# ---------------------------------------------------------------------------------------------------------
# Arguments and output


def test_listing(capsys: pytest.CaptureFixture[str]) -> None:
    x, multiplier = BOUNDARY
    steps = debug_multiply_intermediates(x, multiplier)
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == list(steps)
    assert [int(line.split()[1]) for line in lines] == list(steps.values())
    columns = {line.index("  " + tqm._GLOSS[key]) for key, line in zip(steps, lines, strict=True)}
    assert len(columns) == 1  # aligned
    debug_multiply_intermediates(x, multiplier, verbose=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.uint8])
def test_numpy_integers(kind: type[np.integer[Any]]) -> None:
    multiplier = QuantizedMultiplier(np.int32(1527099593), np.int64(-6))
    result = multiply_by_quantized_multiplier_double_round(kind(100), multiplier)
    assert type(result) is int
    assert result == multiply_by_quantized_multiplier_double_round(100, multiplier)
    assert multiply_by_quantized_multiplier_single_round(kind(100), multiplier) == 1
    steps = debug_multiply_intermediates(kind(100), multiplier, kind(3), verbose=False)
    assert all(type(entry) is int for entry in steps.values())
    assert steps == debug_multiply_intermediates(100, multiplier, 3, verbose=False)
    assert saturating_rounding_doubling_high_mul(kind(3), np.int32(1 << 30)) == 2
    assert rounding_divide_by_pot(kind(5), kind(1)) == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((12345, 0.05, 0.02, 0.1, -128), 127),
        ((12345, 0.05, 0.02, 0.1, 100), 23),
        ((-12345, 0.05, 0.02, 0.1, 100), -128),
        ((585, *ISSUE_SCALES, -120), 127),
        ((-6, 0.5, 0.5, 1.0, 0), -1),
        ((6, 0.5, 0.5, 1.0, 0), 2),
        ((7, 1.0, 1.0, 1.0, 0), 7),
        ((7, 1.5, 2.0, 1.0, 1), 20),
        ((7, 1 - 2**-33, 1.0, 1.0, 0), 7),  # rounds to 1.0: the notebooks' own call refuses it
        ((np.int32(-6), np.float32(0.5), 0.5, 1, np.int8(3)), -4),
    ],
)
def test_requantize_layer_output(arguments: tuple[Any, ...], expected: int) -> None:
    result = requantize_layer_output(*arguments)
    assert type(result) is int
    assert result == expected


def test_float64_scales() -> None:
    """Scales of a lesser type are widened before they are multiplied."""
    tenth = np.float32(0.1)
    wide = quantize_multiplier(float(tenth) * float(tenth))
    narrow = quantize_multiplier(float(tenth * tenth))
    assert multiply_by_quantized_multiplier_single_round(INT32_MAX, narrow) == 21474838
    assert multiply_by_quantized_multiplier_single_round(INT32_MAX, wide) == 21474837
    assert requantize_layer_output(INT32_MAX, tenth, tenth, np.float32(1), 21474837) == 0


def test_quantizers_agree() -> None:
    assert quantize_multiplier_smaller_than_one(0.3) == quantize_multiplier(0.3)
    assert quantize_multiplier_greater_than_one(1.5) == quantize_multiplier(1.5)


HALF = QuantizedMultiplier(1 << 30, 0)


@pytest.mark.parametrize(
    "function",
    [
        multiply_by_quantized_multiplier_single_round,
        multiply_by_quantized_multiplier_double_round,
        lambda x, multiplier: debug_multiply_intermediates(x, multiplier, verbose=False),
    ],
)
def test_bad_arguments(function: Callable[[Any, Any], Any]) -> None:
    x: Any
    for x in (2**31, -(2**31) - 1, np.int64(2**40), np.uint32(2**32 - 1)):
        with pytest.raises(DomainError, match=rf"x must be in \[-2147483648, 2147483647\]; got {int(x)}\."):
            function(x, HALF)
    for x in (1.0, np.float32(2), "3", None, True, np.array([1, 2]), np.bool_(True)):
        with pytest.raises(DTypeError, match="x must be a Python or NumPy integer; got"):
            function(x, HALF)
    for multiplier in ((1 << 30, 0), 0.5, None):
        with pytest.raises(DTypeError, match="multiplier must be a QuantizedMultiplier; got"):
            function(1, multiplier)
    with pytest.raises(DTypeError, match=r"must be one multiplier; got an array of shape \(2,\)"):
        function(1, QuantizedMultiplier([1 << 30, 1 << 30], [0, 0]))
    for shift in (-32, 31):
        with pytest.raises(DomainError, match=rf"shift must be in \[-31, 30\]; got {shift}\."):
            function(1, QuantizedMultiplier(1 << 30, shift))
    with pytest.raises(DomainError, match="must be in"):
        function(INT32_MAX, QuantizedMultiplier(INT32_MAX, 30))


def test_bad_arguments_of_the_rest() -> None:
    with pytest.raises(DomainError, match=r"exponent must be in \[0, 31\]; got 32\."):
        rounding_divide_by_pot(1, 32)
    with pytest.raises(DomainError, match=r"exponent must be in \[0, 31\]; got -1\."):
        rounding_divide_by_pot(1, -1)
    with pytest.raises(DTypeError, match="exponent must be"):
        rounding_divide_by_pot(1, 1.0)  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="b must be in"):
        saturating_rounding_doubling_high_mul(1, 2**31)
    with pytest.raises(DTypeError, match="a must be"):
        saturating_rounding_doubling_high_mul(0.5, 1)  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="zero_point must be in"):
        debug_multiply_intermediates(1, HALF, 2**31, verbose=False)
    with pytest.raises(DTypeError, match="zero_point must be"):
        debug_multiply_intermediates(1, HALF, -1.0, verbose=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((1.5, 1.0, 1.0, 1.0, 0), DTypeError, "accumulator must be"),
        ((2**31, 1.0, 1.0, 1.0, 0), DomainError, "accumulator must be in"),
        ((1, float("nan"), 1.0, 1.0, 0), DomainError, "in_scale must be finite and > 0; got nan."),
        ((1, 1.0, -0.5, 1.0, 0), DomainError, "weight_scale must be finite and > 0; got -0.5."),
        ((1, 1.0, 1.0, 0.0, 0), DomainError, "out_scale must be finite and > 0; got 0.0."),
        ((1, 1.0, 1.0, float("inf"), 0), DomainError, "out_scale must be finite"),
        ((1, "1", 1.0, 1.0, 0), DTypeError, "in_scale must be a real number; got str."),
        ((1, True, 1.0, 1.0, 0), DTypeError, "in_scale must be a real number"),
        ((1, 1.0, 1.0, 1.0, 0.5), DTypeError, "out_zero_point must be"),
        ((1, 1e300, 1e300, 1.0, 0), DomainError, "multiplier must be finite; got inf"),
        ((1, 2.0**40, 1.0, 1.0, 0), DomainError, "shift must be in"),
        ((INT32_MAX, 2.0, 1.0, 1.0, 0), DomainError, "result of single rounding must be in"),
    ],
)
def test_bad_layer_arguments(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        requantize_layer_output(*arguments)
    assert text in str(caught.value)
