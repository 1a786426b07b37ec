"""Elements code point by code point, and casts, against fractions and ml_dtypes."""

import dataclasses
import json
import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from qengine.affine.blocks import decode, encode, quantize_blocks
from qengine.affine.elements import ELEMENTS, NF4_THRESHOLDS, NF4_VALUES, get_element
from qengine.affine.formats import FORMATS, formats, get_format
from qengine.exceptions import DomainError, DTypeError, UnknownNameError

from .format_oracle import GRIDS, LIMITS, code_of, critical, magnitudes

ML_DTYPES = {
    "e4m3fn": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
    "e8m0": "float8_e8m0fnu",
}
BACKENDS = ("reference", "cpu")
RULES = ("half-even", "half-away", "half-up", "half-down", "half-toward-zero", "floor", "ceil", "trunc")


def bits(array):
    return np.asarray(array).view(np.uint32 if array.dtype == np.float32 else np.uint64)


@pytest.mark.parametrize("name", ELEMENTS)
def test_rows_state_the_limits(name):
    row = get_element(name)
    assert (row.largest, row.smallest_normal, row.smallest_subnormal, row.levels) == LIMITS[name]
    finite = np.array([row.value(code) for code in range(row.levels)])
    finite = finite[np.isfinite(finite)]
    written = finite[finite != -2.0] if name == "mxint8" else finite
    assert np.abs(written).max() == row.largest
    assert finite[finite > 0].min() == row.smallest_subnormal


@pytest.mark.parametrize("name", ML_DTYPES)
def test_every_code_decodes_as_in_ml_dtypes(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    codes = np.arange(LIMITS[name][3], dtype=np.uint8)
    expected = codes.view(getattr(ml_dtypes, ML_DTYPES[name])).astype(np.float32)
    got = decode(codes, name)
    np.testing.assert_array_equal(got, expected)
    finite = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(expected[finite]))


@pytest.mark.parametrize("name", GRIDS)
def test_every_code_decodes_as_the_fields_say(name):
    grid = [float(v) for v in magnitudes(name)[:-1]]
    half = LIMITS[name][3] // 2
    np.testing.assert_array_equal(decode(np.arange(len(grid)), name), np.float32(grid))
    if name == "mxint8":
        np.testing.assert_array_equal(decode([128, 129, 255], name), np.float32([-2.0, -127 / 64, -1 / 64]))
    else:
        np.testing.assert_array_equal(bits(decode(np.arange(len(grid)) + half, name)), bits(-np.float32(grid)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", GRIDS)
def test_encode_around_every_midpoint(name, rule, backend):
    x = critical(name)
    expected = [code_of(v, name, rule) for v in x]
    np.testing.assert_array_equal(encode(x, name, rounding=rule, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "overflow"), [("e4m3fn", "nan"), ("e4m3fn", "ieee"), ("e5m2", "ieee"), ("e5m2", "nan")]
)
def test_encode_with_overflow(name, overflow, backend):
    x = critical(name)
    expected = [code_of(v, name, overflow=overflow) for v in x]
    got = encode(x, name, overflow=overflow, backend=backend)
    np.testing.assert_array_equal(got, expected)
    assert not np.isfinite(decode(got, name)[np.abs(x) > 70000]).any()


@pytest.mark.parametrize("overflow", ["saturate", "nan"])
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e3m2", "e2m3", "e2m1"])
def test_encode_every_upper_half_of_a_float32(name, overflow):
    """All of a small float's code is in 16 bits and whether lower ones follow; the table is the reference's."""
    if overflow == "nan" and not get_element(name).overflow:
        pytest.skip(f"{name} only saturates")
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    x = np.concatenate([upper, upper | np.uint32(1), upper | np.uint32(0xFFFF)]).view(np.float32)
    x = x[np.isfinite(x)]
    np.testing.assert_array_equal(
        encode(x, name, overflow=overflow, backend="cpu"), encode(x, name, overflow=overflow, backend="reference")
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", GRIDS)
def test_encode_a_million_reals(name, backend):
    grid = magnitudes(name)
    values = np.array([float(v) for v in grid])
    middles = (values[1:] + values[:-1]) / 2  # exact: a few bits each
    assert all(Fraction(float(m)) == (a + b) / 2 for m, a, b in zip(middles, grid, grid[1:], strict=False))
    rng = np.random.default_rng(20)
    for dtype in (np.float32, np.float64):
        spread = np.exp2(rng.uniform(-20, np.log2(values[-1]) + 1, 500_000)) * rng.choice([-1, 1], 500_000)
        x = np.concatenate([spread, rng.uniform(-1.1, 1.1, 500_000) * values[-1]]).astype(dtype)
        a = np.abs(x).astype(np.float64)
        i = np.searchsorted(middles, a, side="left")
        tie = a == middles[np.minimum(i, len(middles) - 1)]
        i = np.minimum(i + (tie & (i % 2 == 1)), len(grid) - 2)
        expected = np.where(x < 0, -i % 256, i) if name == "mxint8" else i + (x < 0) * (LIMITS[name][3] // 2)
        np.testing.assert_array_equal(encode(x, name, backend=backend), expected)


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e3m2", "e2m3", "e2m1"])
def test_encode_as_ml_dtypes(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    target = getattr(ml_dtypes, ML_DTYPES[name])
    overflow = {"e4m3fn": "nan", "e5m2": "ieee"}.get(name, "saturate")  # the smaller ones saturate there too
    rng = np.random.default_rng(3)
    near = critical(name)
    near = near[np.abs(near) < 3e38].astype(np.float32)
    x = np.concatenate([near, rng.standard_normal(100_000).astype(np.float32) * np.float32(LIMITS[name][0] / 3)])
    expected = x.astype(target)
    got = encode(x, name, overflow=overflow)
    nan = np.isnan(expected.astype(np.float32))
    np.testing.assert_array_equal(got[~nan], expected[~nan].view(np.uint8))
    assert np.isnan(decode(got[nan], name)).all()


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16"])
def test_small_floats_of_ml_dtypes_are_read_exactly(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    codes = np.arange(256, dtype=np.uint16)
    wide = (codes << 8).view(getattr(ml_dtypes, dtype)) if dtype == "bfloat16" else codes.astype(np.uint8).view(dtype)
    wide = wide[np.isfinite(wide.astype(np.float32))]
    np.testing.assert_array_equal(encode(wide, "e2m3"), encode(wide.astype(np.float64), "e2m3"))


def test_float64_is_rounded_once():
    # Through float32, 1.25 + 2**-40 would become the tie 1.25 and go down to 1.
    assert encode([1.25, 1.25 + 2.0**-40, 1.25 - 2.0**-40], "e2m1").tolist() == [2, 3, 2]
    assert encode(np.float16([1.25, 1.75]), "e2m1").tolist() == [2, 4]
    assert encode([1, -6, 2**40], "e2m1").tolist() == [2, 15, 7]


def test_e8m0():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.exp2(np.random.default_rng(1).uniform(-126, 126, 10_000)).astype(np.float32)
    expected = x.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)  # ties, which are not among x: to even before 0.5.1
    np.testing.assert_array_equal(encode(x, "e8m0", rounding="half-away"), expected)
    exponents = np.arange(-120, 120)
    np.testing.assert_array_equal(encode(np.ldexp(1.5, exponents), "e8m0", rounding="half-away"), exponents + 128)
    assert encode([1.5, 3.0, 1.4, 1e-300, 1e300], "e8m0").tolist() == [128, 128, 127, 0, 254]
    assert encode([1.5, 3.0, 1.4, 1.0], "e8m0", rounding="ceil").tolist() == [128, 129, 128, 127]
    assert encode([1.5, 3.0, 1.4, 1.0], "e8m0", rounding="floor").tolist() == [127, 128, 127, 127]
    with pytest.raises(DomainError, match=r"must be positive; got 0.0 at index 1"):
        encode([1.0, 0.0], "e8m0")
    with pytest.raises(DomainError, match="saturate"):
        encode([1.0], "e8m0", overflow="nan")
    with pytest.raises(DomainError, match="deterministic"):
        encode([1.0], "e8m0", rounding="stochastic")


def test_nf4_constants():
    """Thresholds are the midpoints as float32; values are quantiles of a normal distribution (QLoRA, 3)."""
    values = np.float32(NF4_VALUES)
    middles = (values[1:].astype(np.float64) + values[:-1]) / 2
    np.testing.assert_array_equal(middles.astype(np.float32), np.float32(NF4_THRESHOLDS))
    offset, quantile = 0.9677083, NormalDist().inv_cdf
    positive = [quantile(p) for p in np.linspace(offset, 0.5, 9)[:-1]]
    negative = [-quantile(p) for p in np.linspace(offset, 0.5, 8)[:-1]]
    computed = np.array(sorted([*positive, 0.0, *negative]))
    np.testing.assert_allclose(values, computed / computed.max(), atol=2e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nf4_decides_at_midpoints(backend):
    middles = np.float32(NF4_THRESHOLDS)
    below, above = (np.nextafter(middles, np.float32(side)) for side in (-2, 2))
    codes = np.arange(15)
    np.testing.assert_array_equal(encode(middles, "nf4", backend=backend), codes)
    np.testing.assert_array_equal(encode(below, "nf4", backend=backend), codes)
    np.testing.assert_array_equal(encode(above, "nf4", backend=backend), codes + 1)
    assert encode([-9.0, -1.0, -0.0, 0.0, 1.0, 9.0], "nf4", backend=backend).tolist() == [0, 0, 7, 7, 15, 15]


def test_options_and_inputs_that_are_refused():
    with pytest.raises(DomainError, match=r"2 NaN or infinite values, the first nan at index \(0, 1\)"):
        encode([[1.0, math.nan], [math.inf, 0.0]], "e4m3fn")
    with pytest.raises(DomainError, match="1 NaN or infinite values, the first -inf at index 2"):
        quantize_blocks([1.0, 2.0, -math.inf], "mxfp4")
    for name in ("e3m2", "e2m3", "e2m1", "mxint8"):
        with pytest.raises(DomainError, match="neither NaN nor infinity"):
            encode([1.0], name, overflow="nan")
    with pytest.raises(UnknownNameError, match="overflow 'wrap'"):
        encode([1.0], "e4m3fn", overflow="wrap")
    with pytest.raises(UnknownNameError, match="e4m3fn"):
        encode([1.0], "e4m3f")
    with pytest.raises(UnknownNameError, match="mxfp4"):
        quantize_blocks([1.0], "mxpf4")
    with pytest.raises(UnknownNameError, match="scale rounding 'flor'"):
        quantize_blocks([1.0], "mxfp4", scale_rounding="flor")
    with pytest.raises(DomainError, match="no E8M0 scale"):
        quantize_blocks([1.0], "nvfp4", scale_rounding="floor")
    with pytest.raises(DomainError, match="no blocks"):
        quantize_blocks([1.0], "e4m3fn")
    with pytest.raises(DomainError, match="at least one dimension"):
        quantize_blocks(1.0, "mxfp4")
    with pytest.raises(DomainError, match="axis must be in"):
        quantize_blocks([1.0], "mxfp4", axis=1)
    with pytest.raises(DomainError, match="half-down"):
        encode([1.0], "nf4", rounding="half-even")
    with pytest.raises(DomainError, match="deterministic"):
        encode([1.0], "e2m1", rounding="stochastic")
    with pytest.raises(DTypeError, match="complex"):
        encode([1j], "e2m1")
    with pytest.raises(DomainError, match=r"codes of e2m1 must be in \[0, 15\]; got 16 at index 1"):
        decode([1, 16], "e2m1")
    with pytest.raises(DTypeError, match="integers"):
        decode([1.0], "e2m1")
    with pytest.raises(DTypeError, match="float32 or float64"):
        quantize_blocks([1.0], "mxfp4").dequantize(np.float16)
    with pytest.raises(DomainError, match="float32 scales"):
        quantize_blocks([1e40], "nf4")
    with pytest.raises(DomainError, match="not negative"):
        get_format("nvfp4").tensor_scale(math.inf)
    with pytest.raises(DomainError, match="block must be at least 1"):
        get_format("mxfp4", block=0)


def test_rows_are_plain_data_and_names_unique():
    assert [row.name for row in formats()] == list(FORMATS)
    names = [name for row in formats() for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))
    data = json.loads(json.dumps([row.to_dict() for row in formats()]))
    assert {row["name"]: row["block"] for row in data if row["block"]} == {
        "mxfp8-e4m3": 32, "mxfp8-e5m2": 32, "mxfp6-e3m2": 32, "mxfp6-e2m3": 32, "mxfp4": 32, "mxint8": 32,
        "nvfp4": 16, "nf4": 64,
    }  # fmt: skip
    assert [get_format(name).bits_per_element for name in ("mxfp4", "nvfp4", "nf4", "e4m3fn")] == [4.25, 4.5, 4.5, 8]
    assert get_format("mxfp8").name == "mxfp8-e4m3"
    assert get_format("mxfp6").name == "mxfp6-e3m2"
    assert get_format("fp8-e5m2").name == "e5m2"
    assert get_format("fp8-e4m3").tensor_scale(0.0) == 1.0
    assert get_format("nvfp4").tensor_scale(2688.0) == 1.0


@pytest.mark.parametrize("rounding", RULES)
@pytest.mark.parametrize("name", [n for n, row in ELEMENTS.items() if row.kind in ("float", "integer")])
def test_float32_by_table_is_the_reference(name, rounding):
    """The table looks at the upper 16 bits: every one of them, with lower bits 0 and their least and greatest."""
    words = (np.arange(1 << 16, dtype=np.uint32)[:, None] << 16) + np.array([0, 1, 0xFFFF], np.uint32)
    x = words.view(np.float32)
    x = np.where(np.isfinite(x), x, 0)
    got = encode(x, name, rounding=rounding, backend="cpu")
    np.testing.assert_array_equal(got, encode(x, name, rounding=rounding, backend="reference"))
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(DomainError, match=r"1 NaN or infinite values, the first .* at index 2"):
            encode(np.array([1, 2, wrong], np.float32), name, rounding=rounding, backend="cpu")


@pytest.mark.parametrize("bias", [1, 2])
def test_an_element_without_a_mantissa_is_the_reference(bias):
    """The last bit of its codes is the exponent's, whose parity a float32's bits do not tell."""
    row = dataclasses.replace(
        get_element("e2m1"), name="own", aliases=(), bits=3, mantissa_bits=0, bias=bias, largest=2.0 ** (3 - bias),
        smallest_normal=2.0 ** (1 - bias), smallest_subnormal=2.0 ** (1 - bias),
    )  # fmt: skip
    x = np.ldexp(np.float32([0.75, 1.0, 1.25, 1.5, 1.75]), np.arange(-3, 4)[:, None])
    a, b = (encode(x, row, backend=name) for name in ("cpu", "reference"))
    np.testing.assert_array_equal(a, b)
