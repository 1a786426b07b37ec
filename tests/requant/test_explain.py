"""`qe.explain`: every field against literal arithmetic, the issue's command, domains, JSON, errors."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from typing import Any

import pytest

import qengine as qe
from qengine import QuantizedMultiplier
from tests import oracle
from tests.requant import cases

ISSUE = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
MULTIPLIERS = ((1_527_099_593, -6), (1_431_655_765, -1), (1 << 30, 0), (1_610_612_736, 2), (2**31 - 1, -20))
ACCS = (0, 1, -1, 45, -45, 585, -585, 2**20 + 3, -(2**28), 2**28 - 1)
TWO_STAGES = ("double", "double-up", "floor-port", "hifi-out16", "q31")


@pytest.mark.parametrize("value_shift", MULTIPLIERS)
@pytest.mark.parametrize("acc", ACCS)
def test_outputs_are_the_oracle_s(value_shift: tuple[int, int], acc: int) -> None:
    for dtype, limits in ((None, None), ("int8", (-128, 127)), ("uint8", (0, 255)), ("int16", (-32768, 32767))):
        found = qe.explain(acc, QuantizedMultiplier(*value_shift), zero_point=7, dtype=dtype)
        assert [row.scheme.name for row in found] == [row.name for row in qe.schemes()]
        for row in found:
            expected = cases.expected(row.scheme.name, acc, value_shift, zero_point=7, limits=limits)
            assert row.output == expected, row.scheme.name
            assert (row.trace is None) == (row.outside is not None) == (expected is None)
            assert row.real == value_shift[0] * 2.0 ** (value_shift[1] - 31)


@pytest.mark.parametrize(("value", "shift"), MULTIPLIERS)
@pytest.mark.parametrize("acc", ACCS)
def test_steps_of_the_integer_schemes(value: int, shift: int, acc: int) -> None:
    found = qe.explain(acc, QuantizedMultiplier(value, shift), zero_point=-3)
    for row in found:
        t, name = row.trace, row.scheme.name
        if row.scheme.form != "floor" or t is None:
            continue
        # Mantissa and exponent of the scheme, from the oracle's own pieces.
        mantissa, exponent, base = value, shift, 31
        if name == "int16x8":
            mantissa, base = oracle.reduce15(value), 15
        elif name == "tosa-scale16":
            fraction, exponent = oracle.frexp_exact(value * Fraction(2) ** (shift - 31))
            mantissa, base = oracle.round_real("half-away", fraction * 2**15), 15
            if mantissa == 2**15:
                mantissa, exponent = 2**14, exponent + 1
        elif name == "vcvt":
            mantissa = oracle.multiplier8(oracle.to_float32(value * Fraction(2) ** (shift - 31)))
            exponent, base = 0, 8
        elif name in oracle._MANTISSA:
            bits, power = oracle._mantissa24(oracle.to_float32(value * Fraction(2) ** (shift - 31)), 256)
            mantissa, exponent, base = (bits << 7, power + 1, 31) if name == "q31" else (bits, power + 1, 24)
        total = base - exponent
        assert t.total_shift == total, name
        assert t.left_shift == max(exponent, 0)
        assert t.product == acc * mantissa
        assert t.exact == Fraction(acc * mantissa, 2**total)
        assert t.remainder == (acc * mantissa) % 2**total
        assert t.threshold == 2 ** (total - 1)
        assert t.tie_distance == min(
            abs(t.exact - k - Fraction(1, 2))
            for k in (math.floor(t.exact) - 1, math.floor(t.exact), math.floor(t.exact) + 1)
        )
        assert (t.high_mul is not None) == (name in TWO_STAGES)
        assert t.with_zero_point == t.result - 3
        assert t.clamped == t.with_zero_point
        assert str(mantissa) in t.parameter
        if name in ("double", "double-up"):
            assert t.high_mul == oracle.srdhm(acc << max(shift, 0), value)
        if name == "floor-port":
            assert t.high_mul == oracle.srdhm_floor_port(acc << max(shift, 0), value)
        if name == "hifi-out16":
            assert t.high_mul == -oracle.srdhm(acc << max(shift, 0), -value)
        if name == "single":
            assert t.result == (t.product >> total) + (t.remainder >= t.threshold)  # type: ignore[operator]


@pytest.mark.parametrize("real", [0.0111111, 0.25, 0.7, 1.5])
@pytest.mark.parametrize("acc", ACCS)
def test_steps_of_the_float_schemes(real: float, acc: int) -> None:
    for row in qe.explain(acc, real, zero_point=5):
        t = row.trace
        if row.scheme.form != "float" or t is None:
            continue
        wide = row.scheme.parameter == "float64"
        scale = real if wide else oracle.to_float32(real)
        x = float(acc) if wide else oracle.to_float32(acc)
        assert t.exact == Fraction(x) * Fraction(scale)
        assert t.product == (x * scale if wide else oracle.multiply_float32(x, scale))
        assert repr(scale) in t.parameter
        assert (t.left_shift, t.total_shift, t.high_mul, t.remainder, t.threshold) == (None,) * 5
        rule = "half-away" if "away" in row.scheme.name else "half-even"
        if row.scheme.name == "fp32-zp-inside":
            assert t.with_zero_point == oracle.round_real(rule, oracle.add_float32(float(t.product), 5.0))
            assert t.result == t.with_zero_point - 5
        else:
            assert t.result == oracle.round_real(rule, t.product)
            assert t.with_zero_point == t.result + 5


def test_steps_of_rndnu16() -> None:
    t = qe.explain(12_345, 0.37, schemes=["rndnu16"])["rndnu16"].trace
    assert t is not None
    bits, power = oracle._mantissa24(oracle.to_float32(0.37), 256)
    mantissa, right = (bits + 256) >> 9, -(power + 1)
    pre = oracle.rounding_right_shift(12_345, right)
    assert (t.high_mul, t.product, t.total_shift) == (pre, pre * mantissa, 15)
    assert t.result == (pre * mantissa + 2**14) >> 15


def test_the_issue_s_tie() -> None:
    found = qe.explain(585, scales=ISSUE, zero_point=-126)
    outputs = found.by_output()
    assert outputs[-120] >= ("fp32",)
    assert {"single", "double", "double-up", "half-away", "floor-port", "fp64-away", "fp32-away"} <= set(outputs[-119])
    assert "fp32" in outputs[-120]
    t = found["fp32"].trace
    assert t is not None
    assert (t.product, t.result) == (6.5, 6)
    assert t.tie_distance == abs(585 * Fraction(oracle.recipe("float32", *ISSUE)) - Fraction(13, 2)) > 0
    assert found["fp32"].real == oracle.recipe("float32", *ISSUE)
    assert found["single"].real == oracle.recipe("double", *ISSUE)
    assert found.scales == ISSUE
    for row in found:
        if row.trace is not None:
            real = oracle.recipe(row.scheme.recipe, *ISSUE)
            assert row.output == oracle.requantize(row.scheme.name, 585, real=real, zero_point=-126)


def test_classic_difference_of_the_port() -> None:
    found = qe.explain(-1_032_852_841, QuantizedMultiplier(1_578_349_059, 0), schemes=["single", "floor-port"])
    assert (found["single"].output, found["floor-port"].output) == (-759_122_106, -759_122_107)


def test_by_output_orders_by_frequency() -> None:
    found = qe.explain(585, scales=ISSUE, zero_point=-126)
    groups = found.by_output()
    sizes = [len(names) for names in groups.values()]
    assert sizes == sorted(sizes, reverse=True)
    listed = [name for names in groups.values() for name in names]
    assert sorted(listed) == sorted(row.scheme.name for row in found if row.output is not None)
    tie = qe.explain(2, 0.25, schemes=["single", "fp32"])
    assert tie.by_output() == {0: ("fp32",), 1: ("single",)}


def test_lookup_by_name_and_alias() -> None:
    found = qe.explain(5, 0.5, schemes=["gemmlowp", "xnnpack"])
    assert found["double"] is found["gemmlowp"] is found["tflite"]
    assert [row.scheme.name for row in found] == ["double", "fp32"]
    with pytest.raises(KeyError, match="'single' was not asked for"):
        found["single"]
    with pytest.raises(qe.UnknownNameError):
        found["nonsense"]


def test_is_plain_data() -> None:
    found = qe.explain(585, scales=ISSUE, zero_point=-126, dtype="int8")
    assert dataclasses.is_dataclass(found)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.acc = 1  # type: ignore[misc]
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (data["acc"], data["zero_point"], data["dtype"], data["multiplier"]) == (585, -126, "int8", None)
    assert data["scales"] == list(ISSUE)
    assert len(data["schemes"]) == len(qe.schemes())
    by_name = {row["scheme"]: row for row in data["schemes"]}
    assert by_name["fp32"]["clamped"] == -120
    assert by_name["single"]["clamped"] == -119
    numerator, denominator = map(int, by_name["single"]["exact_fraction"].split("/"))
    assert float(Fraction(numerator, denominator)) == by_name["single"]["exact"]
    assert by_name["single"]["total_shift"] == 37
    assert [group["output"] for group in data["outputs"]] == list(found.by_output())
    assert any(
        "XNNPACK" in runtime for group in data["outputs"] if group["output"] == -120 for runtime in group["runs_in"]
    )
    other = qe.explain(5, QuantizedMultiplier(1 << 30, -1)).to_dict()
    assert other["multiplier"] == {"value": 1 << 30, "shift": -1}
    assert other["scales"] is None


def test_text() -> None:
    text = str(qe.explain(585, scales=ISSUE, zero_point=-126))
    assert "\x1b" not in text
    for row in qe.schemes():
        assert row.name in text
    assert "-119" in text
    assert "-120" in text
    assert "zero point -126" in text
    outside = str(qe.explain(2**31 - 1, QuantizedMultiplier(1 << 30, 5)))
    assert "overflows int32" in " ".join(outside.split())


def test_domain_is_an_answer() -> None:
    found = qe.explain(2**30, QuantizedMultiplier(1 << 30, 4))
    assert found["double"].output is None
    assert (
        found["double"].outside == "acc 1073741824 is outside the domain of scheme 'double': acc << 4 overflows int32."
    )
    assert "outside_domain" in found["double"].to_dict()
    shifted = qe.explain(1, QuantizedMultiplier(1 << 30, 31))
    assert shifted["single"].outside == "shift must be in [-31, 30] for scheme 'single'; got 31."
    assert shifted["fp32"].output == 2**30
    assert qe.explain(3, 300.0)["rndnu"].outside is not None
    assert qe.explain(3, 1.0)["q31"].outside is not None
    assert qe.explain(2**40, 0.25, schemes=["int16x8", "single"])["int16x8"].outside is not None
    assert qe.explain(2**40, 2.0**-12, schemes=["int16x8"])["int16x8"].output == 2**28
    assert qe.explain(2**40, 2.0**-12, schemes=["single"])["single"].outside is not None


@pytest.mark.parametrize("real", [0.0, 5e-324, 2.0**-40, 1e30, 1e38, 1e39, 1e300, 1.7976931348623157e308])
@pytest.mark.parametrize("dtype", [None, "int8"])
def test_extreme_multipliers(real: float, dtype: str | None) -> None:
    found = qe.explain(5, real, dtype=dtype)
    for row in found:
        limits = (-128, 127) if dtype else None
        assert row.output == cases.expected(row.scheme.name, 5, real, limits=limits), row.scheme.name
    json.dumps(found.to_dict(), allow_nan=False)
    assert str(found)


@pytest.mark.parametrize("shift", [-(2**31), -2000, 2000, 2**31 - 1])
def test_shifts_far_outside(shift: int) -> None:
    found = qe.explain(5, QuantizedMultiplier(1 << 30, shift))
    assert found["single"].outside == f"shift must be in [-31, 30] for scheme 'single'; got {shift}."


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((1,), {}, qe.DomainError, "explain takes a multiplier or scales"),
        ((1, 0.5), {"scales": ISSUE}, qe.DomainError, "explain takes a multiplier or scales"),
        ((1.0, 0.5), {}, qe.DTypeError, "acc must be an integer; got 1.0."),
        ((True, 0.5), {}, qe.DTypeError, "acc must be an integer; got True."),
        ((1, 0.5), {"zero_point": 1.5}, qe.DTypeError, "zero_point must be an integer; got 1.5."),
        (
            (1, 0.5),
            {"zero_point": 128, "dtype": "int8"},
            qe.DomainError,
            "zero_point must be in [-128, 127] for dtype int8; got 128.",
        ),
        (
            (1, 0.5),
            {"dtype": "int64"},
            qe.DTypeError,
            "dtype must be int8, uint8 or int16, or None for a raw result; got 'int64'.",
        ),
        (
            (1, 0.5),
            {"dtype": "nonsense"},
            qe.DTypeError,
            "dtype must be int8, uint8 or int16, or None for a raw result; got 'nonsense'.",
        ),
        ((1, math.nan), {}, qe.DomainError, "multiplier must be finite; got nan."),
        ((1, math.inf), {}, qe.DomainError, "multiplier must be finite; got inf."),
        ((1, -0.5), {}, qe.DomainError, "multiplier must not be negative; got -0.5."),
        ((1,), {"scales": (0.1, 0.2)}, qe.DomainError, "scales must be three numbers (input, weight, output); got ("),
        (
            (1,),
            {"scales": (0.1, math.nan, 0.1)},
            qe.DomainError,
            "weight_scale must be finite, > 0 and representable in float32; got nan.",
        ),
        (
            (1,),
            {"scales": (0.1, 0.1, 0.0)},
            qe.DomainError,
            "output_scale must be finite, > 0 and representable in float32; got 0.0.",
        ),
        ((1, 0.5), {"schemes": ["singel"]}, qe.UnknownNameError, "unknown scheme 'singel'; did you mean 'single'"),
    ],
)
def test_errors(arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        qe.explain(*arguments, **options)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "bad", ["abc", [0.5, 0.25], QuantizedMultiplier([1 << 30], [0]), QuantizedMultiplier([1 << 30] * 2, [0, 1])]
)
def test_multipliers_that_are_no_number(bad: Any) -> None:
    with pytest.raises(qe.QEngineError):
        qe.explain(1, bad)
