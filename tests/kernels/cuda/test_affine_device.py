"""Quantization and dequantization of device arrays: values, launches, waits, layouts, errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine.affine.quantize import quantizer
from qengine.backends import cuda
from qengine.kernels import codes
from qengine.kernels.cuda import affine as kernels
from qengine.kernels.cuda import sources
from qengine.kernels.reference import affine as reference
from qengine.kernels.reference.errors import parameter_index

from .device import Cuda, DeviceArray, HostDevice
from .test_requantize_device import Foreign, Pages

Device = HostDevice | Cuda
CONVENTIONS = tuple(row.name for row in qe.conventions())
RULES = (
    "half-even", "half-away", "half-up", "half-down", "half-toward-zero", "floor", "ceil", "trunc", "stochastic",
)  # fmt: skip
#: (qmin, qmax) of each dtype of codes.
RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-2000, 30000), "uint16": (0, 65535), "int32": (-40000, 9)}
FLOAT32_MAX = float(np.finfo(np.float32).max)


def hard(rng: np.random.Generator, scale: float, zero_point: int, ends: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Ties and their neighbours, the outermost codes, float32's ends, subnormals of both signs."""
    whole = rng.integers(ends[0] - zero_point - 2, ends[1] - zero_point + 3, 150).astype(np.float64)
    near = np.concatenate([whole + half for half in (0.0, 0.5, -0.5)]) * scale
    ends64 = np.array([ends[0] - zero_point, ends[1] - zero_point], np.float64)
    near = np.concatenate([near, ends64 * scale, (ends64 + 0.5) * scale, (ends64 - 0.5) * scale])
    with np.errstate(over="ignore", under="ignore"):
        single = np.clip(near, -FLOAT32_MAX, FLOAT32_MAX).astype(np.float32)
        beside = [np.nextafter(single, np.float32(side) * np.float32(np.inf)) for side in (-1, 1)]
        tiny = np.float32([0.0, -0.0, 2.0**-149, -(2.0**-149), 3e-39, -1e-38, 2.0**-126, -FLOAT32_MAX, FLOAT32_MAX])
        wide = (rng.standard_normal(300) * np.exp2(rng.integers(-149, 127, 300))).astype(np.float32)
    values = np.concatenate([single, *beside, tiny, wide])
    return np.asarray(values[np.isfinite(values)])


def check(device: Device, x: Any, p: qe.QuantParams, convention: str, rule: str | None = None, seed: int = 0) -> Any:
    """Codes and values are the reference's, on the device, and x stays as it is."""
    options: dict[str, Any] = {"convention": convention, "rounding": rule, "seed": seed}
    given = device.asarray(x)
    q = qe.quantize(given, p, **options)
    wanted = qe.quantize(x, p, backend="reference", **options)
    assert isinstance(q, device.ndarray)
    assert (q.dtype, q.shape) == (wanted.dtype, wanted.shape)
    bad = np.flatnonzero(q.get().ravel() != wanted.ravel())
    assert not bad.size, (convention, rule, p, x.ravel()[bad[0]], q.get().ravel()[bad[0]], wanted.ravel()[bad[0]])
    assert np.array_equal(given.get(), x)
    back = qe.dequantize(q, p, convention=convention)
    with np.errstate(invalid="ignore"):  # products that are infinite, and their difference
        values = qe.dequantize(wanted, p, convention=convention, backend="reference")
    assert isinstance(back, device.ndarray)
    assert back.dtype == values.dtype
    got, bits = back.get(), f"u{back.itemsize}"
    assert ((got.view(bits) == values.view(bits)) | (np.isnan(got) & np.isnan(values))).all()
    return q


def admitted(convention: str, zero_point: int) -> int:
    return 0 if convention == "tensorrt" else zero_point


# ---------------------------------------------------------------------------------------------------------
# Values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_rule_and_scale(convention: str, dtype: Any, device: Device, rng: np.random.Generator) -> None:
    """From scales whose numbers are subnormal up to those that overflow."""
    bits = qe.get_convention(convention).bits
    scales = [0.1, 1.0, 3e-5, 2.0**-126, 2.0**-71, 2.0**-69, 2.0**101, 2.0**126, 2.0**-121, 1e20]
    if bits == 64 and convention == "calculator":
        scales += [1e-300, 1e300, 5e-324, 2.0**-401]
    for rule in RULES:
        for scale in scales if rule in ("half-even", "floor") else scales[:2]:
            for name in ("int8", "uint16") if rule == "half-even" else ("int8",):
                ends = RANGES[name]
                z = admitted(convention, 7)
                x = hard(rng, scale, z, ends).astype(dtype)
                if dtype == np.float64:
                    x = np.concatenate([x, rng.standard_normal(200) * scale * 40, [1e308, -1e308, 5e-324, -2e-310]])
                check(device, x, qe.QuantParams(scale, z, *ends), convention, rule, seed=3)


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("convention", ["calculator", "onnx", "xnnpack", "torch", "stablehlo", "tflite-ref"])
def test_every_type_of_codes(convention: str, name: str, device: Device, rng: np.random.Generator) -> None:
    ends = RANGES[name]
    for n in (1, 3, 4, 5, 1023, 4100):
        for z in (ends[0], ends[1], 0):
            x = (rng.standard_normal(n) * 0.7 * (ends[1] - ends[0])).astype(np.float32)
            check(device, x, qe.QuantParams(1.37, z, *ends), convention)


def test_zero_points_beyond_the_fast_rules(device: Device, rng: np.random.Generator) -> None:
    for z in (2**19, 2**19 + 1, 2**24 + 1, -(2**31) + 1, 2**31 - 1):
        x = (rng.standard_normal(500) * 100 - z * 0.5).astype(np.float32)
        check(device, x, qe.QuantParams(0.5, z, -128, 127), "calculator")
    far = qe.QuantParams(0.5, 2**30 + 5, 2**30 - 5, 2**30 + 60000)
    for convention in ("onnx", "torch", "tflite-opt", "tflite-opt-arm", "calculator"):
        check(device, (rng.standard_normal(500) * 20000).astype(np.float32), far, convention)
    opposite = qe.QuantParams(0.5, 2**31 - 1, 2**31 - 60000, 2**31 - 1)
    check(device, (rng.standard_normal(500) * 20000).astype(np.float32), opposite, "onnx")


@pytest.mark.parametrize("convention", ["calculator", "onnx", "xnnpack"])
def test_what_widens(convention: str, device: Device, rng: np.random.Generator) -> None:
    p = qe.QuantParams(0.37, 5, -128, 127)
    for dtype in ("f2", "i1", "u1", "i2", "i4", "i8", "u8"):
        x = (rng.normal(0, 20, 1000).clip(0 if dtype[0] == "u" else -100, 100)).astype(dtype)
        check(device, x, p, convention)
    with pytest.raises(qe.DomainError, match=r"2\*\*53.*at index 1"):
        qe.quantize(device.asarray(np.array([0, 2**53 + 1])), p)
    for x in (np.array([True]), np.array([1j])):
        with pytest.raises(qe.DTypeError, match="x must hold real numbers"):
            qe.quantize(device.asarray(x), p)


# ---------------------------------------------------------------------------------------------------------
# Layouts


def parameters(rng: np.random.Generator, shape: tuple[int, ...], axis: int, group: int | None) -> qe.QuantParams:
    own = [shape[axis]] if group is None else [*shape]
    if group is not None:
        own[axis] = -(-shape[axis] // group)
    return qe.QuantParams(
        np.exp(rng.uniform(-5, 1, own)), rng.integers(-128, 128, own), -128, 127, axis=axis, group=group
    )


@pytest.mark.parametrize("convention", ["calculator", "onnx", "xnnpack", "tflite-ref", "torch-cuda"])
@pytest.mark.parametrize(
    "shape",
    [(7,), (3, 5), (5, 1), (50, 4), (33, 6), (9, 100), (3, 1030), (2, 3, 5), (3, 4, 16), (2, 5, 37), (1, 3, 1027),
     (1, 2060)],
)  # fmt: skip
def test_channels(shape: tuple[int, ...], convention: str, device: Device, rng: np.random.Generator) -> None:
    x = (rng.standard_normal(shape) * 20).astype(np.float32)
    for axis in range(len(shape)):
        p = parameters(rng, shape, axis, None)
        check(device, x, p, convention)
        check(device, x, p, convention, "stochastic", seed=5)
        check(device, x.astype(np.float64), p, convention)


@pytest.mark.parametrize("convention", ["calculator", "onnx", "xnnpack"])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 7, 32, 64, 5000])
@pytest.mark.parametrize("shape", [(65,), (3, 128), (5, 130), (2, 33, 6), (40, 64)])
def test_groups(shape: tuple[int, ...], group: int, convention: str, device: Device, rng: np.random.Generator) -> None:
    """Units that lie inside a group, end with it, and reach beyond it; rows that end in a shorter group."""
    x = (rng.standard_normal(shape) * 20).astype(np.float32)
    for axis in range(len(shape)):
        p = parameters(rng, shape, axis, group)
        check(device, x, p, convention)
        check(device, x, p, convention, "stochastic", seed=2**40 + 5)


@pytest.mark.parametrize("lead", range(4))
def test_alignment(lead: int, stand_in: HostDevice, rng: np.random.Generator) -> None:
    """Arrays that start between vectors go element by element, and nothing beside the result is written."""
    shape, n = (10, 12), 120
    for dtype in (np.float32, np.float64):
        values = (rng.standard_normal(n + lead) * 20).astype(dtype)
        x = stand_in.asarray(values)[lead:]
        for p in (qe.QuantParams(0.3, 3, -128, 127), parameters(rng, shape, 1, None), parameters(rng, shape, 1, 5)):
            for rule in (None, "stochastic"):
                plan = quantizer(p, shape, "onnx", rule, 9)
                wanted = qe.quantize(values[lead:].reshape(shape), p, convention="onnx", rounding=rule, seed=9)
                back = qe.dequantize(wanted, p, convention="onnx")
                for shift in (0, 1, 2, 4):
                    memory = stand_in.full(shift + n + 9, 77, np.int8)
                    assert cuda.quantize(x, plan, memory[shift : shift + n])
                    whole = memory.get()
                    assert np.array_equal(whole[shift : shift + n].reshape(shape), wanted)
                    assert (whole[:shift] == 77).all()
                    assert (whole[shift + n :] == 77).all()
                    real = stand_in.full(lead + n + 9, 77, np.float32)
                    cuda.dequantize(memory[shift : shift + n], plan, real[lead : lead + n])
                    assert np.array_equal(real.get()[lead : lead + n].reshape(shape), back)
                    assert (real.get()[lead + n :] == 77).all()


def test_strided_arrays(device: Device, rng: np.random.Generator) -> None:
    base = (rng.standard_normal((6, 8, 10)) * 20).astype(np.float32)
    x, p = device.asarray(base), qe.QuantParams(0.37, 5, -128, 127)
    for cut in (np.s_[::2], np.s_[:, ::-1], np.s_[..., 1::3], np.s_[2], np.s_[:0], np.s_[1:, 3:, 1:], np.s_[1, 2, 3]):
        wanted = qe.quantize(base[cut], p, backend="reference")
        q = qe.quantize(x[cut], p)
        assert np.array_equal(q.get(), wanted)
        assert np.array_equal(qe.dequantize(q, p).get(), qe.dequantize(wanted, p, backend="reference"))
        assert np.array_equal(qe.fake_quantize(x[cut], p).get(), qe.fake_quantize(base[cut], p, backend="reference"))


@pytest.mark.parametrize("piece", [1024, 5000, 1 << 20])
def test_host_arrays_piece_by_piece(
    piece: int, device: Device, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces begin inside rows, groups and turns through the channels; each has the records of its rows alone."""
    monkeypatch.setattr(cuda, "PIECE", piece)
    for shape, axis, group in (
        ((5000,), None, None), ((70, 100), 1, None), ((7, 1000), 0, None), ((3, 5, 401), 1, None), ((90, 70), 1, 32),
        ((64, 96), 1, 32), ((3000,), 0, 7), ((5, 1200), 1, 1),
    ):  # fmt: skip
        p = qe.QuantParams(0.2, 3, -128, 127) if axis is None else parameters(rng, shape, axis, group)
        x = (rng.standard_normal(shape) * 20).astype(np.float32)
        for rule in (None, "stochastic", "half-away"):
            options: dict[str, Any] = {"convention": "onnx", "rounding": rule, "seed": 1}
            q = qe.quantize(x, p, backend="cuda", **options)
            assert isinstance(q, np.ndarray)
            assert np.array_equal(q, qe.quantize(x, p, backend="reference", **options))
        for convention in ("onnx", "calculator"):
            got = qe.dequantize(q, p, convention=convention, backend="cuda")
            assert np.array_equal(got, qe.dequantize(q, p, convention=convention, backend="reference"))


def test_places_without_a_division(rng: np.random.Generator) -> None:
    """x / group by a product, for every group and the numbers next to its multiples."""
    groups = {
        *range(1, 300),
        *(2**k + d for k in range(2, 31) for d in (-1, 0, 1)),
        *rng.integers(1, 2**31, 200).tolist(),
    }
    for group in groups:
        magic, shift = kernels._runs((2**31 - 1, group, 2, 1), 0, 4)[-2:]
        assert magic < 2**32
        top = (2**31 - 1) // group
        for k in {0, 1, 2, top // 2, top - 1, top, *rng.integers(0, top + 1, 5).tolist()}:
            for x in (k * group - 1, k * group, k * group + 1):
                if 0 <= x < 2**31:
                    assert x * magic >> shift == x // group
    assert kernels._runs((2**31, 5, 2**31 // 5 + 1, 3), 0, 4)[-2:] == (0, 0)


# ---------------------------------------------------------------------------------------------------------
# Launches


def test_which_rule_and_every_kernel(stand_in: HostDevice, rng: np.random.Generator) -> None:
    """Each kernel of the room is reached, and by the arrays it is for."""
    expected = {
        "calculator": "double", "torch-cuda": "double", "onnx": "divide", "stablehlo": "divide", "tensorrt": "divide",
        "xnnpack": "fused", "torch": "fused", "tflite-opt": "fused", "tflite-ref": "rounded", "tf-uniform": "rounded",
        "tflite-opt-tail": "any",
    }  # fmt: skip
    layouts: list[tuple[str, tuple[int, ...], int | None]] = [
        ("tensor", (64,), None), ("columns", (8, 8), 1), ("runs", (2, 8, 4), 1),
    ]  # fmt: skip
    for convention, rule in expected.items():
        for layout, shape, axis in layouts:
            p = qe.QuantParams(0.3, 0, -128, 127) if axis is None else parameters(rng, shape, axis, None)
            if axis is not None and convention == "tensorrt":
                p = qe.QuantParams(p.scale, 0, -128, 127, axis=axis)
            for dtype in (np.float32, np.float64):
                before = len(stand_in.launches)
                q = check(stand_in, rng.standard_normal(shape).astype(dtype), p, convention)
                name = f"quantize_{rule}_{layout}" if rule != "any" else f"quantize_any_{layout}_f32"
                found = name if dtype == np.float32 else f"quantize_any_{layout}_f64"
                kind = 64 if qe.get_convention(convention).dequantization == "float64" else 32
                assert stand_in.launches[before:] == [("affine", found), ("affine", f"dequantize_{layout}_f{kind}")]
                check(stand_in, rng.standard_normal(shape).astype(dtype), p, convention, "stochastic")
    with pytest.raises(qe.DomainError, match="q must hold codes"):
        qe.dequantize(q, qe.QuantParams(0.3, 0, -1, 0), convention="onnx")
    assert {name for room, name in stand_in.launches if room == "affine"} == set(sources.kernels("affine"))


def test_one_wait_to_quantize_and_none_to_dequantize(stand_in: HostDevice, rng: np.random.Generator) -> None:
    p = qe.QuantParams(0.3, 0, -128, 127)
    x = stand_in.asarray(rng.standard_normal((5, 6)).astype(np.float32))
    q = qe.quantize(x, p)
    assert stand_in.waits == 1
    qe.dequantize(q, p)
    assert stand_in.waits == 1
    qe.fake_quantize(x, p)
    assert stand_in.waits == 2
    narrow = qe.QuantParams(0.3, 0, -8, 7)
    qe.dequantize(qe.quantize(x, narrow), narrow)  # int8 has codes that are none of 4 bits
    assert stand_in.waits == 4


def test_indices_beyond_32_bits(shim: Any) -> None:
    """The last elements of more than 2**32, without computing the others."""
    n = 2**32 + 4097
    x, y = Pages(4 * n).array(np.float32), Pages(n).array(np.int8)
    tail = np.arange(-300, 301, dtype=np.float32)
    x[-tail.size :] = tail
    run, flag, blocks = shim("affine"), np.zeros(1, np.uint32), (n // 4 + 255) // 256
    p = qe.QuantParams([0.5, 1.0, 2.0], [0, 1, 2], -128, 127, axis=1)
    plan = quantizer(p, (n // 3 + 1, 3), "onnx", None, 0)
    whole = kernels.plan(plan.row, plan.layout, plan.scales, plan.zero_points, np.float32)
    at = np.arange(n - tail.size, n)
    wanted = reference.quantize(tail, plan.row, plan.scales[at % 3], plan.zero_points[at % 3])
    table, stride = whole.records.view(np.int32), blocks * 256
    columns = (n, x, y, 0, table, 3, 0, stride, 4 * stride % 3, *whole.numbers, flag)
    runs = (n, x, y, 0, 1, table, *kernels._runs((3, 1, 3, 1), 0, 4 * stride), *whole.numbers, flag)
    for name, arguments in (("quantize_divide_columns", columns), ("quantize_divide_runs", runs)):
        y[-tail.size :] = 99
        run.launch(name, blocks, 256, *arguments, part=slice(blocks - 2, blocks))
        run.launch(name, blocks, 256, *arguments, part=slice(0, 1))
        assert np.array_equal(y[-tail.size :], wanted), name
    first = np.array([n], np.uint64)
    blocks = (n // 16 + 255) // 256
    for part in (slice(blocks - 1, blocks), slice(0, 1)):
        run.launch("codes_outside", blocks, 256, n, y, 0, 1, -128, int(wanted.max()) - 1, first, part=part)
    assert first[0] == n - tail.size + np.argmax(wanted == wanted.max())


# ---------------------------------------------------------------------------------------------------------
# Errors and kinds of arrays


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("convention", ["calculator", "onnx", "xnnpack", "tflite-ref"])
def test_nonfinite_numbers_are_named(convention: str, bad: float, device: Device) -> None:
    for dtype in (np.float32, np.float64):
        x = np.zeros((3, 8, 8), dtype)
        for place in ((1, 2, 3), (0, 0, 0), (2, 7, 7)):
            x[:] = 0
            x[place] = bad
            for p in (qe.QuantParams(0.5, 0, -8, 7), qe.QuantParams(np.ones(8), 0, -8, 7, axis=2),
                      qe.QuantParams(np.ones(8), 0, -8, 7, axis=1)):  # fmt: skip
                for rule in (None, "stochastic"):
                    with pytest.raises(
                        qe.DomainError, match=rf"got 1 NaN.* first {bad} at index {re.escape(str(place))}"
                    ):
                        qe.quantize(device.asarray(x), p, convention=convention, rounding=rule)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_codes_outside_are_named(dtype: str, device: Device) -> None:
    p = qe.QuantParams(0.5, 0, 0, 7)
    info = np.iinfo(dtype)
    for n in (1, 37, 1000):
        for place in (0, n // 2, n - 1):
            for value in {8, int(info.max), -1 if info.min else 8}:
                q = np.full(n, 3, dtype)
                q[place:] = value
                with pytest.raises(qe.DomainError, match=rf"codes in \[0, 7\]; got {value} at index {place}\b"):
                    qe.dequantize(device.asarray(q), p)
                with pytest.raises(qe.DomainError, match=rf"got {value} at index {place}\b"):
                    qe.dequantize(device.asarray(np.concatenate([q[:1] * 0, q]))[1:], p)
    q = np.arange(8, dtype=dtype).repeat(5)
    assert np.array_equal(qe.dequantize(device.asarray(q), p).get(), q * 0.5)
    if np.dtype(dtype).itemsize > 1:
        wide = qe.QuantParams(0.5, 3, -100 if info.min else 0, 30000)
        q = np.array([0, 1, 30000], dtype)
        for convention in ("onnx", "calculator", "tflite-opt"):
            got = qe.dequantize(device.asarray(q), wide, convention=convention).get()
            assert np.array_equal(got, qe.dequantize(q, wide, convention=convention, backend="reference"))


def test_wrong_arrays(device: Device) -> None:
    p = qe.QuantParams(0.5, 0, -8, 7)
    x = device.asarray(np.zeros(8, np.float32))
    with pytest.raises(qe.BackendError, match="copy it to the host first"):
        qe.quantize(x, p, backend="cpu")
    with pytest.raises(qe.DTypeError, match="q must hold integer codes"):
        qe.dequantize(x, p)
    with pytest.raises(qe.DTypeError, match="params must be a QuantParams"):
        qe.quantize(x, 0.5)  # type: ignore[arg-type]


def test_other_kinds_of_device_arrays(stand_in: HostDevice, rng: np.random.Generator) -> None:
    p = qe.QuantParams(0.5, 0, -128, 127)
    x = (rng.standard_normal((3, 8)) * 9).astype(np.float32)
    q = qe.quantize(Foreign(stand_in.asarray(x)), p)
    assert isinstance(q, Foreign)
    back = qe.dequantize(q, p)
    assert isinstance(back, Foreign)
    assert isinstance(qe.fake_quantize(Foreign(stand_in.asarray(x)), p), Foreign)
    assert np.array_equal(back.array.get(), qe.fake_quantize(x, p, backend="reference"))
    with pytest.raises(qe.DTypeError, match="x must start at a multiple of its item size"):
        qe.quantize(DeviceArray(np.zeros(41, np.uint8)[1:].view(np.float32), stand_in), p)


# ---------------------------------------------------------------------------------------------------------
# The texts


def test_numbers_of_the_texts_are_those_of_the_codes() -> None:
    for name in ("affine.cuh", "formats.cuh"):
        defined = dict(re.findall(r"#define QE_(\w+) (-?\d+)$", sources.texts()[name], re.MULTILINE))
        known = {key: value for key, value in defined.items() if key != "F64_BIAS"}
        assert len(known) > 20
        assert {key: int(value) for key, value in known.items()} == {key: getattr(codes, key) for key in known}
    wide = re.search(r"#define QE_DEQUANTIZE_WIDE (\d+)", sources.texts()["affine_dequantize.cuh"])
    assert wide is not None
    assert int(wide[1]) == kernels.DEQUANTIZE_WIDE


def test_records_have_the_sizes_of_the_text() -> None:
    assert {record.itemsize for record in (kernels.SINGLE, kernels.DOUBLE, kernels.GENERAL)} == {32}
    assert {record.itemsize for record in (kernels.CODE_SINGLE, kernels.CODE_DOUBLE)} == {16}


def test_short_layouts_have_the_same_parameters(rng: np.random.Generator) -> None:
    index = np.arange(4000)
    for layout in ((10, 3, 4, 5), (12, 3, 4, 5), (7, 1, 7, 1), (7, 1, 7, 9), (50, 50, 1, 3), (4000, 4000, 1, 1)):
        short = kernels.short_layout(layout)
        assert np.array_equal(parameter_index(index, layout), parameter_index(index, short))


@pytest.mark.parametrize("kind", ["<u8", "<i8"])
def test_wide_integers(kind: str, device: Any) -> None:
    """No negative number meets an unsigned array; what float64 does not hold is refused."""
    x = np.array([0, 3, 2**53], kind)
    params = qe.QuantParams(0.5, 0, -128, 127)
    assert qe.quantize(device.asarray(x), params).get().tolist() == qe.quantize(x, params).tolist() == [0, 6, 127]
    for bad in (2**53 + 1, *([-(2**53) - 1] if kind == "<i8" else [2**64 - 1])):
        with pytest.raises(qe.DomainError, match=str(bad)):
            qe.quantize(device.asarray(np.array([1, bad], kind)), params)


# ---------------------------------------------------------------------------------------------------------
# out=


def test_out(device: Device, rng: np.random.Generator) -> None:
    x = rng.standard_normal((6, 8)).astype(np.float32) * 20
    for p in (
        qe.QuantParams(0.37, 5, -128, 127),
        qe.QuantParams(np.full((3, 8), 0.37), 5, -128, 127, axis=0, group=2),
    ):
        wanted = qe.quantize(x, p, backend="reference")
        values = qe.dequantize(wanted, p, convention="onnx", backend="reference")
        memory = device.full((6, 16), 77, np.int8)
        for out in (device.full((6, 8), 77, np.int8), memory[:, ::2]):
            assert qe.quantize(device.asarray(x), p, out=out) is out
            assert np.array_equal(out.get(), wanted)
        assert (memory.get()[:, 1::2] == 77).all()
        numbers = device.full((6, 16), 77, np.float32)
        for out in (device.full((6, 8), 77, np.float32), numbers[:, ::2]):
            assert qe.dequantize(device.asarray(wanted), p, convention="onnx", out=out) is out
            assert np.array_equal(out.get(), values)
        assert (numbers.get()[:, 1::2] == 77).all()
    memory = device.asarray(x.ravel())  # codes over the front of their own numbers
    front = memory.view(np.int8)[:48]
    p = qe.QuantParams(0.37, 5, -128, 127)
    qe.quantize(memory, p, out=front)
    assert np.array_equal(front.get(), qe.quantize(x.ravel(), p, backend="reference"))


def test_wrong_out(device: Device) -> None:
    p, x, q = qe.QuantParams(0.37, 5, -128, 127), device.asarray(np.ones(8, np.float32)), np.ones(8, np.int8)
    with pytest.raises(qe.DTypeError, match="out must be an array on a CUDA device, as x is; got ndarray"):
        qe.quantize(x, p, out=np.empty(8, np.int8))
    with pytest.raises(qe.DTypeError, match="out must be an array on a CUDA device, as q is; got ndarray"):
        qe.dequantize(device.asarray(q), p, out=np.empty(8))
    with pytest.raises(qe.DTypeError, match="out must be a NumPy array; got"):
        qe.dequantize(q, p, out=device.empty(8, np.float64))
    with pytest.raises(qe.BackendError, match=r"'cpu' was asked for, but an array .* lives on a CUDA device"):
        qe.quantize(np.ones(8), p, backend="cpu", out=device.empty(8, np.int8))
    with pytest.raises(qe.DomainError, match=r"out must have shape \(8,\) and dtype int8; got \(4,\) and int8"):
        qe.quantize(x, p, out=device.empty(4, np.int8))
    with pytest.raises(qe.DomainError, match=r"and dtype float64; got .* and float32"):
        qe.dequantize(device.asarray(q), p, out=device.empty(8, np.float32))


def test_out_of_other_kinds(stand_in: HostDevice) -> None:
    p, x = qe.QuantParams(0.5, 0, -128, 127), np.float32([0.25, 0.75, -0.25, -0.75])  # ties to even
    out = Foreign(stand_in.empty(4, np.int8))
    assert qe.quantize(Foreign(stand_in.asarray(x)), p, out=out) is out
    assert out.array.get().tolist() == [0, 2, 0, -2]
    values = Foreign(stand_in.empty(4, np.float64))
    assert qe.dequantize(out, p, out=values) is values
    assert values.array.get().tolist() == [0.0, 1.0, 0.0, -1.0]
    out.array._host.flags.writeable = False
    with pytest.raises(qe.DomainError, match="out must be writable; got a read-only array"):
        qe.quantize(Foreign(stand_in.asarray(x)), p, out=out)
