"""Number formats of device arrays: encode, decode, blocks and their dequantization, waits, errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine.affine.blocks import BlockTensor, decode, encode, quantize_blocks
from qengine.affine.elements import ELEMENTS
from qengine.affine.formats import SCALE_ROUNDINGS, formats, get_format
from qengine.kernels.cuda import sources

from .device import Cuda, HostDevice
from .test_requantize_device import Foreign

Device = HostDevice | Cuda
BLOCKED = [row.name for row in formats() if row.block]
ENCODED = [name for name in ELEMENTS if name != "e8m0"]
RULES = ("half-even", "half-away", "half-up", "half-down", "half-toward-zero", "floor", "ceil", "trunc")


def values(rng: np.random.Generator, shape: Any, dtype: Any = np.float32) -> npt.NDArray[Any]:
    """Magnitudes of a few binades, float32's subnormals, zeros of both signs."""
    x = rng.standard_normal(shape) * np.exp2(rng.integers(-8, 4, shape))
    kind = rng.integers(0, 12, shape)
    x = np.where(kind == 0, rng.choice([0.0, -0.0, 2.0**-149, -(2.0**-140), 1e-30], shape), x)
    return x.astype(dtype)


def same(device: Device, got: Any, wanted: Any) -> None:
    """Equal bits, on the device."""
    assert isinstance(got, device.ndarray)
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    bits = f"u{wanted.itemsize}"
    host = got.get()
    number = ~np.isnan(wanted)
    assert np.array_equal(np.isnan(host), ~number)
    assert np.array_equal(
        np.ascontiguousarray(host).view(bits)[number], np.ascontiguousarray(wanted).view(bits)[number]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", ENCODED)
def test_casts(name: str, dtype: Any, device: Device, rng: np.random.Generator) -> None:
    element = ELEMENTS[name]
    for shape in ((0,), (), (1,), (5,), (3, 4, 7), (1024,)):
        x = values(rng, shape, dtype)
        for rounding in RULES if element.kind != "codebook" else (None,):
            for overflow in ("saturate", element.overflow or "saturate"):
                wanted = encode(x, name, rounding=rounding, overflow=overflow, backend="reference")
                given = device.asarray(x)
                codes = encode(given, name, rounding=rounding, overflow=overflow)
                same(device, codes, wanted)
                assert np.array_equal(given.get(), x)
        same(device, decode(codes, name), decode(wanted, name))


@pytest.mark.parametrize("name", ELEMENTS)
def test_every_code_is_decoded(name: str, device: Device) -> None:
    levels = ELEMENTS[name].levels
    for dtype in (np.uint8, np.int32, np.int64):
        codes = np.arange(levels, dtype=dtype)
        for part in (codes, codes[3:], codes[:0], codes[::2]):
            same(device, decode(device.asarray(part), name), decode(part, name))
        wrong = np.arange(300).astype(np.int64)
        with pytest.raises(qe.DomainError, match=rf"in \[0, {levels - 1}\]; got {levels} at index {levels}\b"):
            decode(device.asarray(wrong), name)
    with pytest.raises(qe.DTypeError, match="codes must be integers"):
        decode(device.asarray(np.zeros(3)), name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponents(dtype: Any, device: Device, rng: np.random.Generator) -> None:
    x = np.exp2(rng.uniform(-140, 127, 500))
    ties = 1.5 * np.exp2(np.arange(-130, 127))
    x = np.concatenate([x, ties, np.nextafter(ties, 0), np.nextafter(ties, 1e300), [2.0**-149, 2.0**127]]).astype(dtype)
    if dtype == np.float64:
        x = np.concatenate([x, [5e-324, 1e308]])
    for rounding in RULES:
        same(device, encode(device.asarray(x), "e8m0", rounding=rounding), encode(x, "e8m0", rounding=rounding))
    x = x.reshape(1, -1)
    for bad, match in (
        (0.0, "x must be positive; got 0.0"),
        (-2.0, "got -2.0"),
        (np.nan, "x must be finite; got 1 NaN"),
    ):
        wrong = x.copy()
        wrong[0, 77] = bad
        with pytest.raises(qe.DomainError, match=rf"{match}.* at index \(0, 77\)"):
            encode(device.asarray(wrong), "e8m0")
    with pytest.raises(qe.DomainError, match="must be deterministic"):
        encode(device.asarray(x), "e8m0", rounding="stochastic")
    with pytest.raises(qe.DomainError, match="overflow must be 'saturate'"):
        encode(device.asarray(x), "e8m0", overflow="nan")


def check_blocks(device: Device, x: npt.NDArray[Any], form: Any, **options: Any) -> BlockTensor:
    wanted = quantize_blocks(x, form, backend="reference", **options)
    t = quantize_blocks(device.asarray(x), form, **options)
    assert (t.tensor_scale, t.format, t.axis) == (wanted.tensor_scale, wanted.format, wanted.axis)
    same(device, t.codes, wanted.codes)
    same(device, t.scales, wanted.scales)
    assert (t.scale_codes is None) == (wanted.scale_codes is None)
    if wanted.scale_codes is not None:
        same(device, t.scale_codes, wanted.scale_codes)
    for dtype in (np.float32, np.float64):
        same(device, t.dequantize(dtype), wanted.dequantize(dtype))
    return t


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BLOCKED)
def test_blocks(name: str, dtype: Any, device: Device, rng: np.random.Generator) -> None:
    for shape, axis in (
        ((5, 96), -1),
        ((64,), 0),
        ((3, 37, 2), 1),
        ((4, 65), 1),
        ((70, 3), 0),
        ((0, 5), 1),
        ((2, 0), 1),
    ):
        check_blocks(device, values(rng, shape, dtype), name, axis=axis)
    for block in (1, 7, 8, 128, 200):
        check_blocks(device, values(rng, (3, 130), dtype), get_format(name, block=block))
    for gain in (0.0, 2.0**-130, 2.0**-149, 2.0**100):
        check_blocks(device, (values(rng, (3, 64), np.float64) * gain).astype(dtype), name)
    if get_format(name).scale == "e8m0":
        for how in SCALE_ROUNDINGS:
            check_blocks(device, values(rng, (8, 64), dtype), name, scale_rounding=how, rounding="floor")
    base = values(rng, (8, 129), dtype)
    for cut in (np.s_[::2], np.s_[:, 1:], np.s_[:, ::-1], np.s_[1:, ::2]):
        wanted = quantize_blocks(base[cut], name, backend="reference")
        same(device, quantize_blocks(device.asarray(base)[cut], name).codes, wanted.codes)


def test_products_beyond_the_range(device: Device) -> None:
    x = np.zeros((2, 40, 3))
    x[1, 33, 2] = 1e300
    host, t = (quantize_blocks(array, "mxfp8", axis=1) for array in (x, device.asarray(x)))
    same(device, t.dequantize(np.float64), host.dequantize(np.float64))
    texts = []
    for tensor in (host, t):
        with pytest.raises(qe.DomainError, match=r"at index \(1, 33, 2\) is beyond the range of float32") as caught:
            tensor.dequantize()
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    with pytest.raises(qe.DomainError, match="magnitudes must be at most"):
        quantize_blocks(device.asarray(x), "nf4")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [*BLOCKED, "e4m3fn", "nf4"])
def test_nonfinite_numbers_are_named(name: str, bad: float, device: Device) -> None:
    for dtype in (np.float32, np.float64):
        x = np.ones((3, 8, 8), dtype)
        for place in ((1, 2, 3), (0, 0, 0), (2, 7, 7)):
            x[:] = 1
            x[place] = bad
            match = rf"got 1 NaN.* first {bad} at index {re.escape(str(place))}"
            with pytest.raises(qe.DomainError, match=match):
                (quantize_blocks if name in BLOCKED else encode)(device.asarray(x), name)


def test_waits_and_launches(stand_in: HostDevice, rng: np.random.Generator) -> None:
    x = stand_in.asarray(values(rng, (4, 64)))
    codes = encode(x, "e2m1")
    assert stand_in.waits == 1
    decode(encode(x, "e5m2"), "e5m2")
    assert stand_in.waits == 2
    decode(codes, "e2m1")  # bytes hold codes that are none of 4 bits
    assert stand_in.waits == 3
    t = quantize_blocks(x, "mxfp4")
    assert stand_in.waits == 4
    t.dequantize()
    assert stand_in.waits == 5
    quantize_blocks(x, "nvfp4")
    assert stand_in.waits == 8
    t.dequantize(np.float64)
    wide = stand_in.asarray(values(rng, (4, 64), np.float64))
    quantize_blocks(wide, "mxint8")
    encode(wide, "e3m2")
    for given in (x, wide):
        host = np.abs(given.get()) + 1
        encode(stand_in.asarray(host), "e8m0")
        encode(host, "e4m3fn", backend="cuda")
        quantize_blocks(host, "mxfp4", backend="cuda")
    assert {name for room, name in stand_in.launches if room == "formats"} == set(sources.kernels("formats"))


def test_other_kinds_of_device_arrays(stand_in: HostDevice, rng: np.random.Generator) -> None:
    x = values(rng, (3, 64))
    t = quantize_blocks(Foreign(stand_in.asarray(x)), "mxfp4")
    for array in (t.codes, t.scales, t.scale_codes, t.dequantize(), encode(Foreign(stand_in.asarray(x)), "e2m1")):
        assert isinstance(array, Foreign)
    wanted = quantize_blocks(x, "mxfp4").dequantize()
    assert np.array_equal(t.dequantize().array.get(), wanted)  # type: ignore[attr-defined]
    assert isinstance(decode(t.codes, "e2m1"), Foreign)


@pytest.mark.parametrize("x", [[1.0, np.nan, -2.0], [1.0, -2.0, 0.0]], ids=["NaN", "finite"])
@pytest.mark.parametrize(
    ("quantized", "name", "options"),
    [
        (encode, "e4m3fn", {"overflow": "flow"}),
        (encode, "e2m1", {"overflow": "nan"}),
        (encode, "e2m1", {"rounding": "stochastic"}),
        (encode, "e8m0", {"rounding": "stochastic"}),
        (encode, "e8m0", {"rounding": "nonsense"}),
        (encode, "e8m0", {"overflow": "nan"}),
        (quantize_blocks, "mxfp4", {"scale_rounding": "flor"}),
        (quantize_blocks, "mxfp4", {"axis": 3}),
        (quantize_blocks, "nvfp4", {"scale_rounding": "floor"}),
        (quantize_blocks, "nf4", {"rounding": "half-even"}),
        (quantize_blocks, "mxfp8", {"rounding": "stochastic"}),
    ],
)
def test_options_are_refused_before_samples(
    x: list[float], quantized: Any, name: str, options: dict[str, Any], device: Device
) -> None:
    """The same error for arrays of the host and of a device, whatever is wrong beside it."""
    host = np.float32(x)
    texts = []
    for array, backend in ((host, "reference"), (device.asarray(host), None), (host, "cuda")):
        with pytest.raises(qe.QEngineError) as caught:
            quantized(array, name, backend=backend, **options)
        texts.append((type(caught.value), str(caught.value)))
    assert texts[0] == texts[1] == texts[2]
    assert "finite" not in texts[0][1]
