"""The cpu back end's loops over runs against the reference: ties, their neighbours, every layout of parameters."""

import dataclasses
import tracemalloc
import warnings

import numpy as np
import pytest

import qengine as qe

F32 = np.float32
CONVENTIONS = ("calculator", "torch-cuda", "onnx", "stablehlo", "xnnpack", "torch", "tflite-ref", "tf-uniform")
#: name: shape, shape of the scales, axis, group. The longest go past the caches; some runs are shorter than a vector.
LAYOUTS = {
    "tensor": ((1234,), (), None, None),
    "long tensor": ((300_017,), (), None, None),
    "rows": ((7, 1500), (7,), 0, None),
    "short rows": ((3, 11, 5), (11,), 1, None),
    "last axis": ((40, 37), (37,), 1, None),
    "long last axis": ((9, 3000), (3000,), 1, None),
    "large last axis": ((4700, 64), (64,), 1, None),
    "groups": ((6, 500), (6, 4), 1, 128),
    "small groups": ((30, 100), (30, 7), 1, 16),
}


def codes_of(layout, low, high, largest_zero_point, rng):
    """Parameters of a layout: odd scales and powers of two, zero points inside the codes or anywhere."""
    _, sets, axis, group = LAYOUTS[layout]
    scale = np.ldexp(rng.uniform(1, 2, sets), rng.integers(-9, 3)).astype(F32).astype(float)
    scale = np.where(rng.random(sets) < 0.3, 2.0**-4, scale)
    zero_point = rng.integers(max(low, -largest_zero_point), min(high, largest_zero_point) + 1, sets)
    if not sets:
        scale, zero_point = float(scale), int(zero_point)
    return qe.QuantParams(scale, zero_point, low, high, axis=axis, group=group)


def steps_of(p, shape):
    """The scale of every element."""
    scale = np.asarray(p.scale)
    if p.axis is None:
        return np.broadcast_to(scale, shape)
    if p.group is not None:
        return np.repeat(scale, p.group, axis=p.axis)[..., : shape[-1]]
    return np.broadcast_to(np.expand_dims(scale, tuple(k for k in range(len(shape)) if k != p.axis)), shape)


def near_ties(p, shape, dtype, rng):
    """Ties, the numbers up to three units beside them, whole steps, and numbers far outside."""
    x = (rng.integers(p.qmin - 40, p.qmax + 40, shape) + rng.choice([0.0, 0.5], shape)) * steps_of(p, shape)
    word = f"i{np.dtype(dtype).itemsize}"
    beside = rng.integers(-3, 4, shape, word) * (x != 0)
    near = (x.astype(dtype).view(word) + beside.astype(word)).view(dtype)
    near.reshape(-1)[:3] = (np.finfo(F32).max, -np.finfo(F32).max, 1e-45)
    assert np.isfinite(near).all()
    return near


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_codes_near_ties(convention, layout, rng):
    row, (shape, *_) = qe.get_convention(convention), LAYOUTS[layout]
    p = codes_of(layout, -128, 127, 0 if row.symmetric_only else 128, rng)
    x = near_ties(p, shape, F32, rng)
    expected = qe.quantize(x, p, convention=convention, backend="reference")
    assert len(np.unique(expected)) > 20
    np.testing.assert_array_equal(qe.quantize(x, p, convention=convention, backend="cpu"), expected)
    got, wanted = (qe.dequantize(expected, p, convention=convention, backend=name) for name in ("cpu", "reference"))
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("rounding", ["half-even", "half-away", "half-up", "half-down", "half-toward-zero"])
@pytest.mark.parametrize("convention", ["calculator", "onnx", "xnnpack"])
@pytest.mark.parametrize("dtype", [F32, np.float64])
def test_rules_near_ties(dtype, convention, rounding, rng):
    p = codes_of("tensor", 0, 255, 255, rng)
    x = near_ties(p, (5000,), dtype, rng)
    a, b = (qe.quantize(x, p, convention=convention, rounding=rounding, backend=name) for name in ("cpu", "reference"))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("low", "high"), [(-2, 1), (-512, 511), (-32768, 32767), (0, 65535), (-1, 65000), (70_000, 70_255)]
)
@pytest.mark.parametrize("convention", ["calculator", "onnx", "torch"])
def test_codes_of_other_widths(convention, low, high, rng):
    p = qe.QuantParams(0.0371, (low + high) // 2, low, high)
    x = near_ties(p, (4000,), F32, rng) - F32(p.zero_point * p.scale)
    a, b = (qe.quantize(x, p, convention=convention, backend=name) for name in ("cpu", "reference"))
    np.testing.assert_array_equal(a, b)
    a, b = (qe.dequantize(b, p, convention=convention, backend=name) for name in ("cpu", "reference"))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("exponent", [-126, -61, -60, -59, 0, 59, 60, 61, 126])
@pytest.mark.parametrize("convention", ["calculator", "onnx", "xnnpack"])
def test_scales_from_end_to_end(convention, exponent, rng):
    """At the ends float32's quotients overflow or lose bits: other loops take them."""
    p = qe.QuantParams(float(np.ldexp(F32(1.7) if exponent < 126 else 1.0, exponent)), 3, -128, 127)
    with np.errstate(over="ignore"):
        x = (rng.integers(-300, 300, 2000) / 2 * p.scale).astype(F32)
    x[~np.isfinite(x)] = np.finfo(F32).max
    x[:2] = np.finfo(F32).max, -1e-45
    a, b = (qe.quantize(x, p, convention=convention, backend=name) for name in ("cpu", "reference"))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("place", [0, 700, 300_000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [F32, np.float64])
def test_what_is_not_finite_is_found_anywhere(dtype, bad, place, rng):
    x = rng.normal(size=300_001).astype(dtype)
    x[place] = bad
    for convention in ("calculator", "onnx", "tflite-ref"):
        with pytest.raises(qe.DomainError, match=f"the first .* at index {place}"):
            qe.quantize(x, qe.QuantParams(0.1, 0, -128, 127), convention=convention, backend="cpu")


@pytest.mark.parametrize("base", ["onnx", "tflite-opt", "tflite-opt-arm"])
@pytest.mark.parametrize("low", [2**22, 2**24 + 1, -(2**31)])
def test_numbers_of_codes_far_from_their_zero_point(low, base):
    """A caller's own convention may have them: float32 does not hold every such code, and its difference is rounded."""
    row = dataclasses.replace(qe.get_convention(base), name="own", any_zero_point=True)
    p, codes = qe.QuantParams(0.1, 3, low, low + 255), np.arange(low, low + 256)
    a, b = (qe.dequantize(codes, p, convention=row, backend=name) for name in ("cpu", "reference"))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("convention", ["tflite-opt", "tflite-opt-arm"])
def test_zero_points_too_large_for_float32_warn_of_nothing(convention):
    p = qe.QuantParams([2.0**125, 0.5], [100, -3], -128, 127, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = qe.dequantize([[0], [-128]], p, convention=convention, backend="cpu")
    np.testing.assert_array_equal(got, [[-np.inf], [-62.5]])


@pytest.mark.parametrize("convention", ["calculator", "onnx"])
def test_little_is_kept_of_sets_written_out(convention):
    x = np.ones((1024, 63), F32)
    tracemalloc.start()
    try:
        for k in range(24):
            p = qe.QuantParams(np.full(1024, 0.1 + k * 1e-5), 0, -128, 127, axis=0)
            codes = qe.quantize(x, p, convention=convention, backend="cpu")
            assert (codes == codes[0, 0]).all()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 30 * 2**20
