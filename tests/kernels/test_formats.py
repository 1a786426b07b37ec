"""Both wings write the same bits, from any length, options and scale; saturation is flagged."""

import numpy as np
import pytest

from qengine.affine.elements import ELEMENTS
from qengine.affine.formats import element_format, formats, get_format
from qengine.kernels.cpu import formats as cpu
from qengine.kernels.reference import formats as reference

RULES = ("half-even", "half-away", "half-up", "half-down", "half-toward-zero", "floor", "ceil", "trunc")


def inputs():
    rng = np.random.default_rng(11)
    wide = rng.standard_normal(4099) * np.exp2(rng.integers(-150, 100, 4099))
    rows = [rng.standard_normal(4099), wide, np.round(rng.standard_normal(4099) * 8) / 8]
    rows += [np.where(rng.random(4099) < 0.9, 0.0, rng.standard_normal(4099)) * rng.choice([1, 1e-300, 1e-310], 4099)]
    rows += [rng.choice([0.0, -0.0, 5e-324, -5e-324, 1e-45, -1e-38, 3e38, 448, -464, 480, 7, 1.0], 4099)]
    return np.array(rows)


def both(x, row, numbers, tensor_scale):
    results = []
    for wing in (reference, cpu):
        recon, codes = np.full(x.shape, 7.0), np.full(x.shape, 99, np.int32)
        wing.reconstruct(x, row, numbers, tensor_scale, recon, codes)
        results.append((recon, codes))
    return results


def options(row):
    overflows = ["saturate", *([row.element.overflow] if row.element.overflow else [])]
    rules = ["half-down"] if row.element.kind == "codebook" else RULES
    scale_roundings = ("floor", "ceil", "even", "rceil") if row.scale == "e8m0" else (None,)
    return [(o, r, s) for o in overflows for r in rules for s in scale_roundings]


@pytest.mark.parametrize("name", [row.name for row in formats()])
def test_wings_agree(name):
    form = get_format(name)
    x = inputs()
    for overflow, rounding, scale_rounding in options(form):
        row, numbers = form.encode_row(overflow=overflow, rounding=rounding, scale_rounding=scale_rounding)
        scales = (1.0, 0.25, form.tensor_scale(3e38), 0.1, 1e-5) if form.scale in ("tensor", "e4m3") else (1.0,)
        for tensor_scale in scales:
            a, b = both(x, row, numbers, tensor_scale)
            np.testing.assert_array_equal(a[1], b[1])
            np.testing.assert_array_equal(a[0], b[0])
            finite = ~np.isnan(a[0])
            np.testing.assert_array_equal(np.signbit(a[0][finite]), np.signbit(b[0][finite]))


@pytest.mark.parametrize("name", ["mxint8", "nf4"])
@pytest.mark.parametrize("tensor_scale", [1.0, 0.3, 2.0])
def test_elements_under_one_scale(name, tensor_scale):
    row, numbers = element_format(ELEMENTS[name]).encode_row()
    a, b = both(inputs(), row, numbers, tensor_scale)
    np.testing.assert_array_equal(a[1], b[1])
    np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("length", [0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200])
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "nf4", "e4m3fn"])
def test_lengths(name, length):
    form = get_format(name)
    row, numbers = form.encode_row()
    x = np.random.default_rng(length).standard_normal((2, length)).astype(np.float32)
    a, b = both(x, row, numbers, 0.01)
    np.testing.assert_array_equal(a[1], b[1])
    np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("wing", [reference, cpu])
def test_saturation_is_flagged(wing):
    x = np.array([[448.0, 463.0, 464.0, 465.0, -480.0, 1e30, -1e300, 0.0]])
    recon, codes = np.empty(x.shape), np.empty(x.shape, np.int32)
    row, numbers = get_format("e4m3fn").encode_row()
    wing.reconstruct(x, row, numbers, 1.0, recon, codes)
    assert codes[0].tolist() == [126, 126, 126, -127, -255, -127, -255, 0]
    assert recon[0].tolist() == [448.0, 448.0, 448.0, 448.0, -448.0, 448.0, -448.0, 0.0]
    row, numbers = get_format("e5m2").encode_row(overflow="ieee")
    wing.reconstruct(100 * x, row, numbers, 1.0, recon, codes)
    assert codes[0].tolist() == [121, 122, 122, 122, 250, -125, -253, 0]
    assert recon[0].tolist() == [40960.0, 49152.0, 49152.0, 49152.0, -49152.0, np.inf, -np.inf, 0.0]


@pytest.mark.parametrize("wing", [reference, cpu])
def test_the_sign_of_zero(wing):
    x = np.array([[-0.0, -0.001, 0.0, 1.0, -0.0]])
    recon, codes = np.empty(x.shape), np.empty(x.shape, np.int32)
    for name, zero, negative in [("mxfp4", 8, True), ("nvfp4", 8, True), ("mxint8", 0, False), ("nf4", 7, False)]:
        row, numbers = get_format(name).encode_row()
        wing.reconstruct(x, row, numbers, 1 / 2688, recon, codes)
        assert codes[0, [0, 1, 4]].tolist() == [zero] * 3
        assert (recon[0, [0, 1, 2, 4]] == 0).all()
        assert np.signbit(recon[0]).tolist() == [negative, negative, False, False, negative]
