"""Every convention under every rounding rule: reference == cpu == oracle, bit for bit."""

import functools
import json
import math
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import qengine as qe
from qengine.affine.rounding import ROUNDINGS, get_rounding
from qengine.exceptions import DomainError, UnknownNameError

from . import oracle

F32 = np.float32
TINY32, MAX32 = float(np.finfo(F32).smallest_subnormal), float(np.finfo(F32).max)
#: scale, zero point, qmin, qmax, and whether every k + 1/2 is tried or only those near the ends and near zero.
PARAMETERS = {
    "int8": (0.5, 0, -128, 127, True),
    "int8 0.1": (0.1, -3, -128, 127, True),
    "uint8": (0.0123456789, 128, 0, 255, True),
    "float32(0.1)": (float(F32(0.1)), 0, -128, 127, False),
    "int8 1e-30": (1e-30, 127, -128, 127, False),
    "int8 3e4": (3e4, -128, -128, 127, False),
    "int8 1/3": (1 / 3, 7, -128, 127, False),
    "narrow int8": (1.5 / 127, 0, -127, 127, False),
    "narrow uint8": (1 / 7, 1, 1, 255, False),
    "int2": (0.7, -1, -2, 1, True),
    "uint2": (0.7, 2, 0, 3, True),
    "narrow int3": (0.3, 0, -3, 3, True),
    "int4": (1 / 7, -8, -8, 7, True),
    "uint5": (2.0**-20 / 3, 31, 0, 31, True),
    "int12": (0.01, 1000, -2048, 2047, False),
    "int16": (1 / 32767, 5, -32768, 32767, False),
    "uint16": (0.1, 40000, 0, 65535, False),
    "own range": (0.3, 12, 10, 20, True),
    "negative range": (0.3, -2, -5, -2, True),
    "within 2**22": (0.3, 2**22 - 8, 2**22 - 255, 2**22, False),
    "around 2**24": (0.3, 2**24 + 1, 2**24 - 100, 2**24 + 101, False),
    "below -2**22": (0.3, -(2**22) - 3, -(2**22) - 255, -(2**22), False),
    "far range": (0.3, 2**30 + 1, 2**30, 2**30 + 255, False),
    "outside": (0.1, 300, -128, 127, False),
    "far outside": (0.1, -1000, -128, 127, False),
    "farthest": (3e-9, 2**31 - 1, -128, 127, False),
    "least float32": (2.0**-126, 3, -128, 127, False),
    "largest float32": (2.0**126, -3, -128, 127, False),
    "beyond float32": (1e-200, 1, -128, 127, False),
    "above float32": (1e200, 1, -128, 127, False),
    "subnormal": (5e-324, 0, -128, 127, False),
}
#: schemes.md section 6: float32 x and scale, codes by division and by reciprocal.
DIVISION_OR_RECIPROCAL = [
    (1.55, 0.1, 15, 16),
    (2.35, 0.1, 23, 24),
    (4.95, 0.1, 49, 50),
    (5.95, 0.1, 59, 60),
    (8.15, 0.1, 81, 82),
    (-17.9285717, 1 / 7, -126, -125),
]


@functools.cache
def values(name, dtype):
    """Zeros, ends of the type, every tie and its neighbours, and random numbers, as an array of the dtype."""
    scale, zero_point, qmin, qmax, all_ties = PARAMETERS[name]
    dtype = np.dtype(dtype)
    info = np.finfo(dtype)
    if all_ties:
        steps = range(qmin - 2, qmax + 2)
    else:
        middle = min(max(zero_point, qmin), qmax)
        steps = sorted(
            {k + d for k in (qmin, qmax, middle, (qmin + qmax) // 2, (3 * qmin + qmax) // 4) for d in range(-3, 3)}
        )
    with np.errstate(over="ignore"):
        ties = np.array([float(Fraction(2 * (k - zero_point) + 1, 2) * Fraction(scale)) for k in steps])
        small = [math.nextafter(0.5, 0), math.nextafter(0.5, 1), 0.5, 0.25, float(np.nextafter(F32(0.5), F32(0)))]
        points = np.concatenate([ties, np.array(small) * scale, [0.0, 1.0, 1e-3, 1e3, float(info.max)]])
        points = np.concatenate([points, -points]).astype(dtype)
        points = np.concatenate(
            [points, np.nextafter(points, dtype.type(np.inf)), np.nextafter(points, dtype.type(-np.inf))]
        )
        tiny = [info.smallest_subnormal, info.smallest_normal, info.tiny / 2, info.max, info.max / 3]
        points = np.concatenate([points, np.array([*tiny, *(-t for t in tiny)], dtype)])
        if dtype == np.float64:
            points = np.concatenate([points, [1e300, -1e300, 3.5e38, -3.5e38, MAX32, TINY32 / 2, -TINY32 / 2]])
        rng = np.random.default_rng(len(name))
        width = (qmax - qmin + 4) * scale
        uniform = rng.uniform(-0.6, 0.6, 200) * width + ((qmin + qmax) / 2 - zero_point) * scale
        sizes = scale * 2.0 ** rng.uniform(-30, 30, 100) * rng.choice([-1.0, 1.0], 100)
        points = np.concatenate([points, uniform.astype(dtype), sizes.astype(dtype)])
    return points[np.isfinite(points)]


@functools.cache
def rounded_values(name, dtype, convention):
    """What the oracle rounds, one for each of `values`."""
    scale, zero_point = PARAMETERS[name][:2]
    return [oracle.scaled(x, scale, zero_point, convention) for x in values(name, dtype).tolist()]


@functools.cache
def expected_codes(name, dtype, convention, rule, seed=0):
    """What the oracle says of `values`: of every back end's test the same."""
    _, zero_point, qmin, qmax, _ = PARAMETERS[name]
    out = []
    for i, v in enumerate(rounded_values(name, dtype, convention)):
        word = oracle.draw(i, seed) if rule == "stochastic" else None
        out.append(oracle.clamp(oracle.whole_of(v, zero_point, convention, rule, word), qmin, qmax))
    return np.array(out, np.int64)


def params_of(name):
    return qe.QuantParams(*PARAMETERS[name][:4])


# --- the oracle itself ----------------------------------------------------------------------------------------


def test_the_oracle_rounds_as_the_formats_do():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        a, b = (struct.unpack("<d", rng.bytes(8))[0] for _ in range(2))
        if not (math.isfinite(a) and math.isfinite(b) and b):
            continue
        a, b = math.ldexp(a, -int(rng.integers(0, 60))), b
        try:
            quotient = Fraction(a) / Fraction(b)
            expected = quotient.numerator / quotient.denominator  # Python divides integers correctly rounded
        except OverflowError:
            expected = math.copysign(math.inf, a) * math.copysign(1.0, b)
        assert oracle.divide(Fraction(a), Fraction(b), 64) == expected
        with np.errstate(over="ignore"):
            assert oracle.rounded(Fraction(a), 32) == float(F32(a))
            assert oracle.rounded(Fraction(a), 16) == float(np.float16(a))
    for pattern in (0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0x7F7FFFFF):
        x = Fraction(struct.unpack("<f", struct.pack("<I", pattern))[0])
        assert oracle.rounded(x, 32) == x
    half = Fraction(TINY32) / 2
    assert (oracle.rounded(half, 32), oracle.rounded(3 * half, 32)) == (0, 4 * half)
    top = Fraction(2) ** 128 - Fraction(2) ** 103
    assert (oracle.rounded(top, 32), oracle.rounded(top - 1, 32)) == (math.inf, Fraction(MAX32))


def test_the_oracle_draws_as_random123():
    path = Path(__file__).parents[1] / "data" / "philox.kat"
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("philox4x32 ")]
    assert rows
    for row in rows:
        words = [int(word, 16) for word in row[2:]]
        assert oracle.philox4x32_10(words[:4], words[4:6]) == tuple(words[6:])


def test_the_oracle_agrees_with_the_catalogue():
    for x, scale, divided, multiplied in DIVISION_OR_RECIPROCAL:
        arguments = F32(x), F32(scale), 0, -128, 127
        assert oracle.quantize(*arguments, "onnx") == divided
        assert oracle.quantize(*arguments, "xnnpack") == multiplied


# --- the rows -------------------------------------------------------------------------------------------------


def test_the_oracle_knows_every_convention():
    assert [row.name for row in qe.conventions()] == list(oracle.CONVENTIONS)
    assert {alias: row.name for row in qe.conventions() for alias in row.aliases} == oracle.ALIASES


@pytest.mark.parametrize("row", qe.conventions(), ids=lambda row: row.name)
def test_a_row_says_what_the_oracle_computes(row):
    known = oracle.CONVENTIONS[row.name]
    assert (row.rounding, row.bits, row.any_zero_point, row.symmetric_only) == (
        known.rule, known.bits, known.any_zero_point, known.symmetric,
    )  # fmt: skip
    assert (row.zero_point in ("inside", "fused")) == known.inside
    assert row.runs_in
    assert row.evidence
    assert row.source
    assert json.loads(json.dumps(row.to_dict()))["dequantize_formula"] == row.dequantize_formula
    for name in (row.name, *row.aliases):
        assert qe.get_convention(name) is row
    assert qe.get_convention(row) is row


@pytest.mark.parametrize("name", ["onx", "", None, 3, ["onnx"], "ONNX"])
def test_unknown_convention(name):
    with pytest.raises(UnknownNameError, match="convention"):
        qe.get_convention(name)
    with pytest.raises(UnknownNameError, match="convention"):
        qe.quantize([1.0], qe.QuantParams(0.5, 0, -8, 7), convention=name)


def test_suggests_the_name_that_was_meant():
    with pytest.raises(UnknownNameError, match=r"did you mean.*'onnx'"):
        qe.get_convention("onx")


#: schemes.md section 13: results for 0.5, 1.5, 2.5, -0.5, -1.5.
TIES = {
    "half-even": (0, 2, 2, 0, -2),
    "half-away": (1, 2, 3, -1, -2),
    "half-up": (1, 2, 3, 0, -1),
    "half-down": (0, 1, 2, -1, -2),
    "half-toward-zero": (0, 1, 2, 0, -1),
    "floor": (0, 1, 2, -1, -2),
    "ceil": (1, 2, 3, 0, -1),
    "trunc": (0, 1, 2, 0, -1),
}


@pytest.mark.parametrize("rule", TIES)
def test_ties_of_the_catalogue(rule, backend):
    x = [0.5, 1.5, 2.5, -0.5, -1.5]
    assert tuple(oracle.to_integer(Fraction(v), rule) for v in x) == TIES[rule] == get_rounding(rule).ties
    p = qe.QuantParams(1.0, 0, -8, 7)
    for name in (rule, *get_rounding(rule).aliases):
        assert tuple(qe.quantize(x, p, rounding=name, backend=backend).tolist()) == TIES[rule]


def test_the_rules_are_those_of_the_oracle():
    assert set(ROUNDINGS) == {*oracle.ROUNDINGS, "stochastic"}


@pytest.mark.parametrize("rule", oracle.ROUNDINGS)
def test_rounding_is_exact_next_to_ties(rule, backend):
    """Numbers whose ``v + 1/2`` or ``v - floor(v)`` is not a float."""
    v = [0.49999999999999994, 0.5, 0.5000000000000001, 1.4999999999999998, 4503599627370495.5, 4503599627370497.0]
    v += [1e-17, 5e-324, 1e-300, 2.0**-54, 2.0**-53, 0.9999999999999999, 2.4999999999999996, 32766.499999999996]
    v += [math.nextafter(k + 0.5, side) for k in range(40) for side in (-math.inf, math.inf)]
    x = np.array([*v, *(-a for a in v)])
    p = qe.QuantParams(1.0, 0, -32768, 32767)
    want = [oracle.clamp(oracle.to_integer(Fraction(a), rule), -32768, 32767) for a in x.tolist()]
    assert qe.quantize(x, p, rounding=rule, backend=backend).tolist() == want


# --- quantize -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", oracle.CONVENTIONS)
@pytest.mark.parametrize("name", PARAMETERS)
def test_quantize_equals_the_oracle(name, convention, backend):
    scale, zero_point, qmin, qmax, _ = PARAMETERS[name]
    p = params_of(name)
    if not oracle.admits(convention, scale, zero_point, qmin, qmax):
        with pytest.raises(DomainError, match="convention"):
            qe.quantize([1.0], p, convention=convention, backend=backend)
        return
    for dtype in (np.float32, np.float64):
        x = values(name, dtype)
        assert x.size >= 100
        for rule in (None, *oracle.ROUNDINGS, "stochastic"):
            got = qe.quantize(x, p, convention=convention, rounding=rule, seed=7, backend=backend)
            assert got.dtype == p.dtype
            assert got.shape == x.shape
            want = expected_codes(name, dtype, convention, rule, seed=7)
            bad = np.flatnonzero(got != want)
            assert not bad.size, (
                f"{rule} {np.dtype(dtype)}: {bad.size} of {x.size}, first x={x[bad[0]]!r} at {bad[0]}: "
                f"{got[bad[0]]}, not {want[bad[0]]}"
            )


@pytest.mark.parametrize("convention", oracle.CONVENTIONS)
@pytest.mark.parametrize("name", ["int8 0.1", "float32(0.1)", "int4", "uint8", "int16"])
def test_float16_and_bfloat16_widen_exactly(name, convention, backend):
    scale, zero_point, qmin, qmax, _ = PARAMETERS[name]
    if not oracle.admits(convention, scale, zero_point, qmin, qmax):
        pytest.skip("the convention has no such parameters")
    x = values(name, np.float16)
    got = qe.quantize(x, params_of(name), convention=convention, backend=backend)
    np.testing.assert_array_equal(got, expected_codes(name, np.float16, convention, None))
    ml_dtypes = pytest.importorskip("ml_dtypes")
    narrow = x.astype(ml_dtypes.bfloat16)
    wide = narrow.astype(np.float64)
    keep = np.isfinite(wide)
    got = qe.quantize(narrow[keep], params_of(name), convention=convention, backend=backend)
    arguments = scale, zero_point, qmin, qmax, convention
    assert got.tolist() == [oracle.quantize(v, *arguments) for v in wide[keep].tolist()]


@pytest.mark.parametrize(("x", "scale", "divided", "multiplied"), DIVISION_OR_RECIPROCAL)
def test_division_or_reciprocal(x, scale, divided, multiplied, backend):
    p = qe.QuantParams(float(F32(scale)), 0, -128, 127)
    x = np.array([x], F32)
    for names, want in (
        (("onnx", "tflite-ref", "tensorrt", "stablehlo"), divided),
        (("xnnpack", "tflite-opt", "tflite-opt-arm", "tf-uniform"), multiplied),
    ):
        for name in names:
            if name == "tf-uniform" and want < 0:
                continue
            assert qe.quantize(x, p, convention=name, backend=backend).tolist() == [want], name


def test_parity_of_the_zero_point_decides_ties_where_it_is_inside(backend):
    """runtimes.md section 3: rint(fma(x, 1/s, z)); QuantizeLinear adds z to an integer that is already rounded."""
    x = np.array([0.25, -0.25, 0.75, -0.75], F32)
    for z, inside, after in ((0, [0, 0, 2, -2], [0, 0, 2, -2]), (1, [2, 0, 2, 0], [1, 1, 3, -1])):
        p = qe.QuantParams(0.5, z, -128, 127)
        for name in ("torch", "stablehlo", "calculator"):
            assert qe.quantize(x, p, convention=name, backend=backend).tolist() == inside, name
        for name in ("onnx", "xnnpack", "torch-cuda", "tflite-opt"):
            assert qe.quantize(x, p, convention=name, backend=backend).tolist() == after, name


def test_random_quotients_are_correctly_rounded(backend, rng):
    """The CPU divides float32 x by a float64 scale without a division: here by every kind of scale, at ties."""
    for scale in (*(2.0 ** rng.uniform(-300, 300, 40)), 0.1, 1 / 3, 1e-45, 1e30, 2.0**-399, 2.0**399):
        x = (rng.integers(-200, 200, 4000) + rng.choice([0.0, 0.5], 4000)) * scale
        with np.errstate(over="ignore", under="ignore"):
            x = x.astype(F32)
        x = x[np.isfinite(x)]
        got = qe.quantize(x, qe.QuantParams(scale, 3, -128, 127), backend=backend)
        want = np.clip(np.rint(x.astype(np.float64) / scale + 3), -128, 127)
        np.testing.assert_array_equal(got, want)


def test_quotients_next_to_ties_are_correctly_rounded(backend, rng):
    """Scales so that x / scale is within a unit in the last place of k + 1/2: a product with 1 / scale will not do."""
    n = 4000
    x = (rng.normal(0, 1, n) * 10.0 ** rng.integers(-20, 20, n)).astype(F32)
    half = rng.integers(0, 120, n) + 0.5
    scale = np.abs(x.astype(np.float64)) / half
    for _ in range(3):
        p = qe.QuantParams(scale, 0, -128, 127, axis=0)
        want = {rule: [] for rule in ("half-even", "half-away", "floor", "half-toward-zero")}
        for v, s in zip(x.tolist(), scale.tolist(), strict=True):
            quotient = oracle.divide(Fraction(v), Fraction(s), 64)
            for rule, codes in want.items():
                codes.append(oracle.clamp(oracle.to_integer(quotient, rule), -128, 127))
        for rule, codes in want.items():
            for data in (x, x.astype(np.float64)):
                got = qe.quantize(data, p, convention="torch-cuda", rounding=rule, backend=backend)
                np.testing.assert_array_equal(got, codes)
            k = int(rng.integers(n))
            alone = qe.QuantParams(scale[k], 0, -128, 127)
            one = qe.quantize(x[k], alone, convention="torch-cuda", rounding=rule, backend=backend)
            assert one == codes[k]
        scale = np.nextafter(scale, rng.choice([0.0, np.inf], n))


#: x and float32 scale: ``x * f32(1/s) + 40000`` lies next to a float32 midpoint, so that a sum that is rounded to
#: float64 first gives 40000; the fused one gives 40001.
FUSED = [
    ("0x1.0d32060000000p-2", "0x1.0c25e00000000p-1"),
    ("0x1.5d25720000000p-2", "0x1.5bc9a80000000p-1"),
    ("0x1.78dfa20000000p-2", "0x1.77683a0000000p-1"),
    ("0x1.e8ce060000000p-2", "0x1.e6e71e0000000p-1"),
    ("0x1.0b941a0000000p-2", "0x1.0a89900000000p-1"),
]


@pytest.mark.parametrize(("x", "scale"), FUSED)
def test_a_fused_sum_is_rounded_once(x, scale, backend):
    x, scale = float.fromhex(x), float.fromhex(scale)
    assert F32(np.float64(x) * np.float64(F32(1) / F32(scale)) + 40000) == 40000.5
    assert oracle.quantize(x, scale, 40000, 0, 65535, "torch") == 40001
    p = qe.QuantParams(scale, 40000, 0, 65535)
    channels = qe.QuantParams([scale, scale], 40000, 0, 65535, axis=0)
    for dtype in (np.float32, np.float64):
        assert qe.quantize(np.full(9, x, dtype), p, convention="torch", backend=backend).tolist() == [40001] * 9
        assert qe.quantize(np.full(2, x, dtype), channels, convention="torch", backend=backend).tolist() == [40001] * 2
    row = qe.error_report(np.full(16, x), qe.QuantSpec(params=p, convention="torch"), backend=backend).rows[0]
    assert row.code_counts[40001] == 16


# --- dequantize -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", oracle.CONVENTIONS)
@pytest.mark.parametrize("name", PARAMETERS)
def test_dequantize_equals_the_oracle(name, convention, backend):
    scale, zero_point, qmin, qmax, _ = PARAMETERS[name]
    p = params_of(name)
    if not oracle.admits(convention, scale, zero_point, qmin, qmax):
        with pytest.raises(DomainError, match="convention"):
            qe.dequantize([qmin], p, convention=convention, backend=backend)
        return
    if qmax - qmin < 256:
        q = np.arange(qmin, qmax + 1)
    else:
        q = np.unique(np.concatenate([[qmin, qmax, zero_point], np.linspace(qmin, qmax, 997).astype(np.int64)]))
    q = q.astype(p.dtype)
    got = qe.dequantize(q, p, convention=convention, backend=backend)
    want = [float(oracle.value(k, scale, zero_point, convention)) for k in q.tolist()]
    assert got.dtype == (np.float64 if convention == "calculator" else np.float32)
    assert got.shape == q.shape
    assert got.tolist() == want
    assert not np.signbit(got[got == 0]).any()


def test_three_ways_to_dequantize_differ(backend):
    """runtimes.md section 2 and arm.md: the last bit of q * s - z * s, rounded twice, fused, and of (q - z) * s."""
    p = qe.QuantParams(float(F32(0.1)), 77, -128, 127)
    q = np.arange(-128, 128)
    found = [qe.dequantize(q, p, convention=name, backend=backend) for name in ("onnx", "tflite-opt", "tflite-opt-arm")]
    differ = [
        int(np.count_nonzero(a != b)) for a, b in ((found[0], found[1]), (found[0], found[2]), (found[1], found[2]))
    ]
    assert all(count > 20 for count in differ)
    assert all(np.abs(a - found[0]).max() < 4e-6 for a in found)


@pytest.mark.parametrize("convention", ["calculator", "onnx", "torch", "tflite-ref"])
def test_fake_quantize_is_both(convention, backend):
    name = "int8 0.1"
    x = values(name, np.float32)
    p = params_of(name)
    for rule in (None, "floor", "stochastic"):
        q = qe.quantize(x, p, convention=convention, rounding=rule, seed=3, backend=backend)
        want = qe.dequantize(q, p, convention=convention, backend=backend)
        got = qe.fake_quantize(x, p, convention=convention, rounding=rule, seed=3, backend=backend)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
