"""Blocks against the OCP text in fractions, and against the published formulas of NVFP4, NF4 and torchao."""

import math
from fractions import Fraction

import numpy as np
import pytest

from qengine.affine.blocks import BlockTensor, decode, format_kernels, quantize_blocks
from qengine.affine.elements import NF4_THRESHOLDS, NF4_VALUES
from qengine.affine.formats import SCALE_ROUNDINGS, formats, get_format
from qengine.exceptions import DomainError

from .format_oracle import LIMITS, code_of, magnitudes, nearest_fraction

BLOCKED = [row.name for row in formats() if row.block]
MX = [row.name for row in formats() if row.scale == "e8m0"]
BACKENDS = ("reference", "cpu")


def slow_scale_exponent(amax, name, how):
    """Return the exponent of an E8M0 scale in real arithmetic."""
    element = get_format(name).element.name
    largest = Fraction(LIMITS[element][0])
    emax = {"e4m3fn": 8, "e5m2": 15, "e3m2": 4, "e2m3": 2, "e2m1": 2, "mxint8": 0}[element]
    if amax == 0:
        return -127
    a = Fraction(amax)
    log = math.frexp(amax)[1] - 1
    assert Fraction(2) ** log <= a < Fraction(2) ** (log + 1)
    if how == "floor":
        e = log - emax
    elif how == "ceil":
        e = log - emax + (a > Fraction(2) ** log)
    elif how == "even":
        fraction_bits = 6 if element == "mxint8" else int(element[3])
        step = Fraction(2) ** (log - fraction_bits)
        rounded = math.floor(a / step + Fraction(1, 2)) * step
        e = log - emax + (rounded >= Fraction(2) ** (log + 1))
    else:
        e = log - emax - 2
        while largest * Fraction(2) ** e < a:
            e += 1
    return min(max(e, -127), 127)


def slow_mx(x, name, how):
    """Return (exponent, codes, values) of a block by MX v1.0, 6.3: a scale, then every element to the nearest."""
    element = get_format(name).element.name
    grid = magnitudes(element)
    e = slow_scale_exponent(max(abs(v) for v in x), name, how)
    codes, values = [], []
    for v in x:
        scaled = Fraction(v) / Fraction(2) ** e
        i, beyond = nearest_fraction(scaled, grid)
        i = len(grid) - 2 if beyond else i
        negative = math.copysign(1.0, v) < 0
        codes.append((-i if negative else i) % 256 if element == "mxint8" else i + negative * LIMITS[element][3] // 2)
        values.append((-1 if negative else 1) * grid[i] * Fraction(2) ** e)
    return e, codes, values


def blocks_of_interest(dtype):
    rng = np.random.default_rng(9)
    rows = [rng.standard_normal(70) * scale for scale in (1, 1e-6, 1e6, 2.0**-120, 2.0**-126, 2.0**120)]
    rows.append(rng.standard_t(2, 70))
    rows += [np.exp2(rng.integers(-6, 3, 70)) * f for f in (1.0, 1.75, 1.875, 1.9375, 1.96875, 1.984375, 1.9921875)]
    rows += [np.zeros(70), np.full(70, -0.0), np.full(70, 2.0**-149), np.full(70, -(2.0**-127)), np.full(70, 2.0**-125)]
    rows.append(np.where(np.arange(70) % 3, 0.0, -3.4028234663852886e38))
    if dtype is np.float64:
        rows += [rng.standard_normal(70) * 1e300, np.full(70, 5e-324), rng.standard_normal(70) * 1e-310]
    return np.array(rows).astype(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", SCALE_ROUNDINGS)
@pytest.mark.parametrize("name", MX)
def test_mx_blocks_by_the_text(name, how, backend):
    for dtype in (np.float32, np.float64):
        x = blocks_of_interest(dtype)
        t = quantize_blocks(x, name, scale_rounding=how, backend=backend)
        assert t.codes.shape == x.shape
        assert t.scales.shape == (len(x), 3)
        values = t.dequantize(np.float64)
        for r, row in enumerate(x.tolist()):
            for b in range(3):
                part = slice(32 * b, min(32 * b + 32, 70))
                e, codes, expected = slow_mx(row[part], name, how)
                assert t.scale_codes[r, b] == e + 127
                assert t.scales[r, b] == np.ldexp(np.float32(1), e)
                assert t.codes[r, part].tolist() == codes
                assert [Fraction(v) for v in values[r, part].tolist()] == expected


def test_scale_roundings_are_those_of_torchao():
    """The modes of to_mx in torchao's mx_tensor.py, on the bits of float32, with numpy's integers."""
    rng = np.random.default_rng(2)
    starts = np.concatenate([rng.integers(1, 0x7F7FFFFF, 20_000), np.arange(1, 0x7F7FFFFF, 0x7FFFF)]).astype(np.int32)
    specials = [np.float32(f * 2.0**k) for f in (1, 1.5, 1.75, 1.875, 1.9375) for k in range(-120, 120, 7)]
    exact = np.array(specials, np.float32).view(np.int32)
    patterns = np.concatenate([starts, exact, exact - 1, exact + 1])
    amax = patterns.view(np.float32)
    blocks = np.repeat(amax[:, None], 2, axis=1)
    for name, emax, mantissa_bits, largest in [
        ("mxfp8", 8, 3, 448.0), ("mxfp8-e5m2", 15, 2, 57344.0), ("mxfp6", 4, 2, 28.0), ("mxfp6-e2m3", 2, 3, 7.5),
        ("mxfp4", 2, 1, 6.0),
    ]:  # fmt: skip
        floor = (patterns >> 23) - 127 - emax
        ceil = floor + ((patterns & 0x7FFFFF) > 0)
        even = ((patterns + (1 << (22 - mantissa_bits))) >> 23) - 127 - emax
        descale = (amax * np.float32(1.0 / largest)).view(np.int32)
        exponent, mantissa = descale >> 23, descale & 0x7FFFFF
        rceil = exponent + np.where(exponent == 0, mantissa > 0x400000, mantissa != 0) - 127
        for how, expected in (("floor", floor), ("ceil", ceil), ("even", even), ("rceil", rceil)):
            t = quantize_blocks(blocks, name, scale_rounding=how)
            np.testing.assert_array_equal(
                t.scale_codes[:, 0], np.clip(expected, -127, 127) + 127, err_msg=f"{name} {how}"
            )


def e4m3(v):
    """Return the e4m3fn number nearest to ``0 <= v``, saturating."""
    grid = magnitudes("e4m3fn")
    i, beyond = nearest_fraction(Fraction(float(v)), grid)
    return np.float32(float(grid[len(grid) - 2 if beyond else i]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nvfp4_by_its_formula(backend):
    f = np.float32
    rng = np.random.default_rng(4)
    for gain in (1, 1e-3, 2.0**-140, 1e36):
        x = (rng.standard_normal((6, 40)) * gain * np.array([[1], [1e-1], [3], [1e-4], [0], [1e-6]])).astype(f)
        x[0, 5], x[1, 6] = 0.0, -0.0
        t = quantize_blocks(x, "nvfp4", backend=backend)
        tensor_scale = f(np.abs(x).max()) / f(2688) or f(1)
        assert t.tensor_scale == tensor_scale
        values = t.dequantize()
        for r in range(6):
            for b in range(3):
                part = slice(16 * b, min(16 * b + 16, 40))
                with np.errstate(under="ignore", over="ignore"):
                    s = e4m3(min(f(np.abs(x[r, part]).max()) / f(6) / tensor_scale, f(1e6)))
                    total = s * tensor_scale
                    assert t.scales[r, b] == s
                    assert decode(t.scale_codes, "e4m3fn")[r, b] == s
                    for j in range(part.start, part.stop):
                        v = f(math.copysign(0.0, x[r, j])) if total == 0 else x[r, j] / total
                        code = code_of(float(v), "e2m1")
                        assert t.codes[r, j] == code
                        assert values[r, j] == decode(code, "e2m1") * total


@pytest.mark.parametrize("backend", BACKENDS)
def test_nf4_by_bitsandbytes(backend):
    """The tree of dQuantizeNF4 as a count of thresholds, on ``x * (1 / absmax)`` in float32."""
    f = np.float32
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((5, 150)) * np.array([[1], [1e-3], [1e30], [3e-38], [0]])).astype(f)
    t = quantize_blocks(x, "nf4", backend=backend)
    assert t.scale_codes is None
    values = t.dequantize()
    for r in range(4):
        for b in range(3):
            part = slice(64 * b, min(64 * b + 64, 150))
            absmax = np.abs(x[r, part]).max()
            v = x[r, part] * (f(1) / absmax)
            codes = (v[:, None] > f(NF4_THRESHOLDS)).sum(axis=1)
            assert t.scales[r, b] == absmax
            np.testing.assert_array_equal(t.codes[r, part], codes)
            np.testing.assert_array_equal(values[r, part], f(NF4_VALUES)[codes] * absmax)
    assert (t.codes[4] == 7).all()
    assert (t.scales[4] == 0).all()
    assert (values[4] == 0).all()
    ulps = np.float32([7 * 2.0**-149, -7 * 2.0**-149, 0.0, 4 * 2.0**-149])  # 1/absmax overflows; 4/7 = 0.571
    assert quantize_blocks(ulps, "nf4", backend=backend).codes.tolist() == [15, 0, 7, 13]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BLOCKED)
def test_axes_and_short_blocks(name, backend):
    x = np.random.default_rng(6).standard_normal((3, 37, 2)).astype(np.float32)
    t = quantize_blocks(x, name, axis=1, backend=backend)
    block = get_format(name).block
    assert isinstance(t, BlockTensor)
    assert t.scales.shape == (3, -(-37 // block), 2)
    assert t.axis == 1
    moved = quantize_blocks(np.ascontiguousarray(np.moveaxis(x, 1, -1)), name, backend=backend)
    np.testing.assert_array_equal(np.moveaxis(t.dequantize(), 1, -1), moved.dequantize())
    np.testing.assert_array_equal(np.moveaxis(t.codes, 1, -1), moved.codes)
    assert quantize_blocks(np.zeros((0, 5)), name).codes.shape == (0, 5)
    assert quantize_blocks(np.zeros((2, 0)), name).dequantize().shape == (2, 0)
    custom = quantize_blocks(x, get_format(name, block=7), axis=1, backend=backend)
    assert custom.scales.shape == (3, 6, 2)


def test_ends_of_the_scale():
    assert quantize_blocks([0.0, -0.0], "mxfp4").scale_codes.tolist() == [0]
    assert quantize_blocks([0.0, -0.0], "mxfp4").codes.tolist() == [0, 8]
    assert quantize_blocks([0.0, -0.0], "mxint8").codes.tolist() == [0, 0]
    huge = quantize_blocks([1e300, -1.0], "mxfp8")
    assert huge.scale_codes.tolist() == [254]
    assert huge.dequantize(np.float64).tolist() == [448 * 2.0**127, -0.0]
    with pytest.raises(DomainError, match=r"448.0 \* 1.7014\d*e\+38 at index 0 is beyond the range of float32"):
        huge.dequantize()
    rounded_up = quantize_blocks(np.float32([3.4028235e38]), "mxfp8", scale_rounding="ceil")
    with pytest.raises(DomainError, match="float64"):
        rounded_up.dequantize()
    infinite = quantize_blocks(np.float32([2.0**-3, 1.9999 * 2.0**3]), "mxfp8", overflow="nan")
    assert np.isnan(infinite.dequantize()[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", BLOCKED)
def test_dequantized_is_what_the_kernels_reconstruct(name, backend):
    x = np.random.default_rng(8).standard_normal((5, 300)).astype(np.float32)
    form = get_format(name)
    row, numbers = form.encode_row()
    recon, codes = np.empty(x.shape), np.empty(x.shape, np.int32)
    kernels = format_kernels(backend)
    kernels.reconstruct(x, row, numbers, form.tensor_scale(float(np.abs(x).max())), recon, codes)
    t = quantize_blocks(x, name, backend=backend)
    np.testing.assert_array_equal(t.dequantize(np.float64), recon)
    np.testing.assert_array_equal(np.where(codes < 0, -1 - codes, codes), t.codes)
