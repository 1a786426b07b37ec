"""Requantization of device arrays: what is launched, where results live, what is waited for, and every value."""

from __future__ import annotations

import mmap
import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine import backends
from qengine.backends import cuda
from qengine.backends.forms import FloorRule
from qengine.kernels.cuda import grid
from qengine.kernels.cuda import requantize as kernels
from qengine.requant.schemes import Scheme
from tests.requant import cases
from tests.requant.cases import INT32
from tests.requant.test_equivalence import inside

from . import build
from .device import Cuda, DeviceArray, HostDevice, install

Device = HostDevice | Cuda
QUARTER = qe.QuantizedMultiplier(1 << 30, -1)
M = qe.QuantizedMultiplier(1_527_099_593, -6)
OUTPUTS = ("int8", "uint8", "int16", "int32", "int64")
HOT = {"single": "floor", "fp32": "float32"}


def accumulators(rng: np.random.Generator, shape: Any, reach: int = 40_000) -> npt.NDArray[np.int32]:
    return rng.integers(-reach, reach, shape, dtype=np.int32)


def multipliers(rng: np.random.Generator, count: int) -> qe.QuantizedMultiplier:
    return qe.QuantizedMultiplier(rng.integers(2**30, 2**31, count), rng.integers(-7, -1, count))


def check(device: Device, acc: npt.NDArray[Any], multiplier: Any, **options: Any) -> Any:
    """The device's answer is the reference's, and lives on the device; the accumulators stay as they are."""
    x = device.asarray(acc)
    y = qe.requantize(x, multiplier, **options)
    wanted = qe.requantize(acc, multiplier, backend="reference", **options)
    assert isinstance(y, device.ndarray)
    assert y.dtype == wanted.dtype
    assert y.shape == wanted.shape
    bad = np.flatnonzero(y.get().ravel() != wanted.ravel())
    assert not bad.size, f"{bad.size} of {wanted.size} differ, first at {bad[0]}"
    assert np.array_equal(x.get(), acc)
    return y


# ---------------------------------------------------------------------------------------------------------
# Values: every scheme, type of results, and path through the kernels


@pytest.mark.parametrize("dtype", OUTPUTS)
def test_one_multiplier(scheme: Scheme, dtype: str, device: Device, rng: np.random.Generator) -> None:
    for n in (1, 3, 4, 5, 1000, 1024, 4099):
        check(device, accumulators(rng, n), M, scheme=scheme, dtype=dtype, zero_point=-3 if dtype != "uint8" else 3)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8, 64, 100, 1030])
def test_channels_last(
    channels: int, dtype: str, scheme: Scheme, stand_in: HostDevice, rng: np.random.Generator
) -> None:
    """Threads keep their four channels, whatever the number of channels."""
    for outer in (1, 7, 50):
        options = {"scheme": scheme, "axis": 1, "dtype": dtype, "zero_point": rng.integers(-128, 128, channels)}
        check(stand_in, accumulators(rng, (outer, channels)), multipliers(rng, channels), **options)
    if channels > 1:
        assert any("_rows" in name for _, name in stand_in.launches)
        assert not any("_places" in name for _, name in stand_in.launches)


def test_more_channels_than_threads(scheme: Scheme, stand_in: HostDevice, rng: np.random.Generator) -> None:
    """The stride is no multiple of the channels: each unit reads its own."""
    channels = 2 * grid.FEW + 3
    options = {"scheme": scheme, "axis": 1, "dtype": "int8"}
    check(stand_in, accumulators(rng, (5, channels)), multipliers(rng, channels), **options)
    assert stand_in.launches[-1][1].startswith("requantize_")
    assert "_rows" in stand_in.launches[-1][1]


@pytest.mark.parametrize("shape", [(3, 5, 2), (2, 5, 3), (3, 7, 4), (2, 3, 49), (1, 6, 16), (5, 3, 1027), (40, 3, 36)])
def test_channels_in_the_middle(
    shape: tuple[int, ...], scheme: Scheme, device: Device, rng: np.random.Generator
) -> None:
    """Units of four that end inside a row, at its end, and beyond it."""
    for dtype in ("int8", "int32"):
        zero_points = rng.integers(-128, 128, shape[1])
        options = {"scheme": scheme, "axis": 1, "dtype": dtype, "zero_point": zero_points}
        check(device, accumulators(rng, shape), multipliers(rng, shape[1]), **options)


def test_a_multiplier_for_each_element(scheme: Scheme, device: Device, rng: np.random.Generator) -> None:
    shape = (9, 5, 67)
    m = qe.QuantizedMultiplier(rng.integers(2**30, 2**31, shape), rng.integers(-7, -1, shape))
    check(device, accumulators(rng, shape), m, scheme=scheme, dtype="int16")


@pytest.mark.parametrize("lead", range(4))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_alignment(lead: int, axis: int | None, scheme: Scheme, stand_in: HostDevice, rng: np.random.Generator) -> None:
    """Arrays that start between vectors go element by element, and nothing beside the result is written."""
    shape = (10, 12)
    m = M if axis is None else multipliers(rng, shape[axis])
    acc = accumulators(rng, 120 + lead)
    x = stand_in.asarray(acc)[lead:].reshape(shape)
    for dtype in OUTPUTS:
        for shift in (0, 1, 3, 4):
            memory = stand_in.full(shift + 120 + 9, 77, dtype)
            out = memory[shift : shift + 120].reshape(shape)
            options = {"scheme": scheme, "axis": axis, "dtype": dtype}
            assert qe.requantize(x, m, out=out, **options) is out
            wanted = qe.requantize(acc[lead:].reshape(shape), m, backend="reference", **options)
            whole = memory.get()
            assert np.array_equal(whole[shift : shift + 120].reshape(shape), wanted)
            assert (whole[:shift] == 77).all()
            assert (whole[shift + 120 :] == 77).all()


@pytest.mark.parametrize("name", ["single", "fp32", "int16x8", "fp64-away", "rndnu16"])
def test_int64_accumulators(name: str, device: Device, rng: np.random.Generator) -> None:
    for shape, axis in (((401,), None), ((33, 12), 1), ((3, 4, 41), 1), ((3, 4, 44), 1)):
        m = M if axis is None else multipliers(rng, shape[axis])
        for dtype in OUTPUTS:
            check(device, accumulators(rng, shape).astype(np.int64), m, scheme=name, axis=axis, dtype=dtype)


def test_adversarial_values(scheme: Scheme, device: Device, rng: np.random.Generator) -> None:
    """Structured values and ties at every shift that the scheme takes, in vectors and one by one."""
    draw = random.Random(int(rng.integers(2**31)))
    for shift in cases.ALL_SHIFTS[::3]:
        for value in (2**30, 2**31 - 1, int(rng.integers(2**30, 2**31))):
            if not cases.admits(scheme.name, (value, shift)):
                continue
            m = qe.QuantizedMultiplier(value, shift)
            values = np.array([*cases.structured(), *cases.ties(scheme.name, (value, shift), draw)])
            for dtype in ("int8", "int32"):
                kept = inside(scheme, m, values[(values >= INT32[0]) & (values <= INT32[1])], dtype=dtype)
                kept = kept.astype(np.int32)
                check(device, kept, m, scheme=scheme, dtype=dtype)
                check(device, kept[1:], m, scheme=scheme, dtype=dtype)


@pytest.mark.parametrize("dtype", ["int8", "int32"])
def test_wrapping(scheme: Scheme, dtype: str, device: Device, rng: np.random.Generator) -> None:
    """Left shifts, sums and conversions that overflow, one multiplier and many."""
    if scheme.name in ("q31", "vcvt"):
        pytest.skip("no left shift in this scheme's domain")
    channels = 12
    shifts = rng.integers(-3, 7, channels)
    m = qe.QuantizedMultiplier(rng.integers(2**30, 2**31 - 200, channels), shifts)
    acc = rng.integers(-(2**31), 2**31, (40, channels), dtype=np.int32)
    options = {"scheme": scheme, "dtype": dtype, "overflow": "wrap", "zero_point": 5}
    try:
        qe.requantize(acc, m, axis=1, backend="reference", **options)
    except qe.DomainError:
        pytest.skip("this scheme saturates, and raises all the same")
    check(device, acc, m, axis=1, **options)
    check(device, np.ascontiguousarray(acc.T), m, axis=0, **options)
    check(device, acc, qe.QuantizedMultiplier(2**31 - 200, 6), **options)


@pytest.mark.parametrize("name", ["fp32", "fp32-away", "fp64-away"])
def test_clamp_bounds_are_exact(name: str, device: Device) -> None:
    """Bounds that float32 cannot hold still bound the result."""
    acc = np.array([2**31 - 1, 2**31 - 65, 2**24 + 3, -(2**31), 0, 7], np.int32)
    low, high = -(2**24) - 1, 2**24 + 1
    y = qe.requantize(device.asarray(acc), 1.0, scheme=name, dtype="int32", qmin=low, qmax=high)
    assert y.get().tolist() == [high, high, high, low, 0, 7]


# ---------------------------------------------------------------------------------------------------------
# Launches


@pytest.mark.parametrize("name", ["single", "fp32", "fp32-away", "rndnu16"])
def test_which_kernel(name: str, stand_in: HostDevice, rng: np.random.Generator) -> None:
    hot = HOT.get(name)
    for shape, axis, layout in (((64,), None, "tensor"), ((8, 8), 1, "rows"), ((2, 8, 4), 1, "places")):
        m = M if axis is None else multipliers(rng, 8)
        for dtype in (np.int32, np.int64):
            stand_in.launches.clear()
            check(stand_in, accumulators(rng, shape).astype(dtype), m, scheme=name, axis=axis, dtype="int8")
            special = hot and dtype == np.int32
            wanted = f"requantize_{hot}_{layout}" if special else f"requantize_{layout}_i{8 * np.dtype(dtype).itemsize}"
            assert [k for _, k in stand_in.launches if k.startswith("requantize")] == [wanted]


def test_every_kernel_is_reached(stand_in: HostDevice, rng: np.random.Generator) -> None:
    for name in ("single", "fp32", "rndnu16"):
        for shape, axis in (((64,), None), ((8, 8), 1), ((2, 8, 4), 1)):
            for dtype in (np.int32, np.int64):
                m = M if axis is None else multipliers(rng, 8)
                qe.requantize(stand_in.asarray(accumulators(rng, shape).astype(dtype)), m, scheme=name, axis=axis)
    deep = qe.QuantizedMultiplier(2**30, 3)
    for dtype in (np.int32, np.int64):
        qe.requantize(stand_in.asarray(np.ones(8, dtype)), deep, scheme="single")
    from qengine.kernels.cuda import sources

    assert {name for _, name in stand_in.launches} == set(sources.kernels("requantize"))


def test_nothing_is_waited_for_where_the_domain_is_total(stand_in: HostDevice, rng: np.random.Generator) -> None:
    for options in ({}, {"scheme": "double"}, {"scheme": "fp32", "dtype": "int8"}, {"dtype": "uint8", "zero_point": 9}):
        stand_in.launches.clear()
        qe.requantize(stand_in.asarray(accumulators(rng, (5, 6))), M, **options)
        qe.requantize(stand_in.asarray(accumulators(rng, (5, 6))), multipliers(rng, 6), axis=1, **options)
        assert len(stand_in.launches) == 2
    assert stand_in.waits == 0


def test_one_wait_where_it_is_not(stand_in: HostDevice, rng: np.random.Generator) -> None:
    left = qe.QuantizedMultiplier(2**30, 4)
    qe.requantize(stand_in.asarray(accumulators(rng, 50)), left)
    assert [name for _, name in stand_in.launches] == ["accumulators_outside_i32", "requantize_floor_tensor"]
    assert stand_in.waits == 1


def test_empty(scheme: Scheme, device: Device) -> None:
    for shape, multiplier, axis in (((0,), M, None), ((4, 0), multipliers(np.random.default_rng(1), 4), 0)):
        y = qe.requantize(device.empty(shape, np.int32), multiplier, scheme=scheme, axis=axis, dtype="int8")
        assert y.shape == shape
    if isinstance(device, HostDevice):
        assert device.launches == []


class Pages:
    """A huge array of which only the pages that are touched take memory."""

    def __init__(self, nbytes: int) -> None:
        no_reserve = 0x4000  # Linux; named in `mmap` from Python 3.13 on
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
        try:
            self.map = mmap.mmap(-1, nbytes, flags=flags)
        except OSError as error:
            pytest.skip(f"no address space for {nbytes >> 30} GiB: {error}")

    def array(self, dtype: Any) -> npt.NDArray[Any]:
        return np.frombuffer(self.map, dtype)


def test_indices_beyond_32_bits(shim: Any) -> None:
    """The last elements of more than 2**32, without computing the others."""
    n = 2**32 + 4097
    x, y = Pages(4 * n).array(np.int32), Pages(n).array(np.int8)
    tail = np.arange(-300, 301, dtype=np.int32)
    x[-tail.size :] = tail
    run: build.Shim = shim("requantize")
    form, wanted = (2**30, 1 << 33, 1 << 33, 34), (tail + 8) >> 4
    blocks = (n // 4 + 255) // 256
    numbers = (form[1], form[2], form[0], form[3], -128, 127, 0)
    arguments = (n, x, y, 0, 1, *numbers, kernels.FLOOR, -128, 127)
    run.launch("requantize_floor_tensor", blocks, 256, *arguments, part=slice(blocks - 2, blocks))
    run.launch("requantize_floor_tensor", blocks, 256, *arguments, part=slice(0, 1))
    assert np.array_equal(y[-tail.size :], wanted)

    y[-tail.size :] = 99
    table = np.zeros(3, kernels.CHANNEL)
    for name, value in zip(("p", "q", "a", "t", "low", "high"), numbers, strict=False):
        table[name] = value
    table["zero_point"] = 0, 1, 2
    records = table.view(np.int32)
    channel = np.arange(n - tail.size, n) % 3
    stride = blocks * 256
    rest = (n, x, y, 0)
    rows = (records, 3, stride, 4 * stride % 3, kernels.FLOOR, -128, 127)
    run.launch("requantize_floor_rows", blocks, 256, *rest, *rows, part=slice(blocks - 2, blocks))
    run.launch("requantize_floor_rows", blocks, 256, *rest, *rows, part=slice(0, 1))
    assert np.array_equal(y[-tail.size :], wanted + channel)

    y[-tail.size :] = 99
    inner = 5
    channel = np.arange(n - tail.size, n) // inner % 3
    place = (1, records, inner, 3, *kernels._place(4 * stride, inner, 3), kernels.FLOOR, -128, 127)
    run.launch("requantize_floor_places", blocks, 256, *rest, *place, part=slice(blocks - 2, blocks))
    run.launch("requantize_floor_places", blocks, 256, *rest, *place, part=slice(0, 1))
    assert np.array_equal(y[-tail.size :], wanted + channel)

    first = np.array([n], np.uint64)
    low, high = np.array([-400], np.int32), np.array([299], np.int32)
    search = (n, x, 1, low, high, n, 1, 0, 0, first)
    run.launch("accumulators_outside_i32", blocks, 256, *search, part=slice(blocks - 2, blocks))
    run.launch("accumulators_outside_i32", blocks, 256, *search, part=slice(0, 1))
    assert first.tolist() == [n - 1]


# ---------------------------------------------------------------------------------------------------------
# The domain


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_errors_are_those_of_the_host(axis: int | None, dtype: Any, device: Device, rng: np.random.Generator) -> None:
    """The same text with the same first index, wherever the accumulators outside lie."""
    shape = (6, 5, 9)
    count = 1 if axis is None else shape[axis]
    m = qe.QuantizedMultiplier(rng.integers(2**30, 2**31, count), rng.integers(1, 8, count))
    if axis is None:
        m = qe.QuantizedMultiplier(int(m.value[0]), int(m.shift[0]))
    for places in ([0], [269], [137, 138, 140], [7, 255], [256], list(range(270))):
        acc = accumulators(rng, shape, 1000).astype(dtype)
        acc.ravel()[places] = rng.choice([2**31 - 1, -(2**31)], len(places))
        texts = []
        for x, backend in ((acc, "reference"), (device.asarray(acc), None), (device.asarray(acc.ravel()), None)):
            if x.ndim == 1 and axis is not None:
                continue
            with pytest.raises(qe.DomainError, match="acc must be in") as caught:
                qe.requantize(x, m, axis=axis, backend=backend)
            texts.append(str(caught.value))
        assert texts[0] == texts[1]
        assert f"at index {places[0]}:" in texts[-1] or axis is not None


def test_the_first_of_many_is_found_in_any_order(device: Device, rng: np.random.Generator) -> None:
    acc = np.zeros(5000, np.int32)
    for first in (0, 3, 1023, 1024, 4999):
        acc[:] = 0
        acc[first:] = 2**31 - 1
        x = device.asarray(acc).reshape((1, 1, 5000))
        assert kernels.outside(x, np.array([-5]), np.array([5])) == first
        assert kernels.outside(x.reshape((1, 5000, 1)), np.full(5000, -5), np.full(5000, 5)) == first
    assert kernels.outside(x, np.array([-5]), np.array([2**31 - 1])) is None
    assert kernels.outside(x, np.array([-(2**47)]), np.array([2**47])) is None


# ---------------------------------------------------------------------------------------------------------
# Arrays


def test_layouts_of_device_arrays(device: Device, rng: np.random.Generator) -> None:
    acc = accumulators(rng, (6, 8, 10))
    x = device.asarray(acc)
    for cut in (np.s_[::2], np.s_[:, ::-1], np.s_[..., 1::3], np.s_[2], np.s_[:0], np.s_[1:, 3:, 1:]):
        y = qe.requantize(x[cut], M, dtype="int8")
        assert np.array_equal(y.get(), qe.requantize(acc[cut], M, dtype="int8", backend="reference"))


def test_out(device: Device, rng: np.random.Generator) -> None:
    acc = accumulators(rng, (5, 8))
    wanted = qe.requantize(acc, M, dtype="int8", backend="reference")
    memory = device.full((5, 16), 77, np.int8)
    out = memory[:, ::2]
    assert qe.requantize(device.asarray(acc), M, out=out) is out
    assert np.array_equal(memory.get()[:, ::2], wanted)
    assert (memory.get()[:, 1::2] == 77).all()
    x = device.asarray(acc)  # in place
    assert qe.requantize(x, M, out=x) is x
    assert np.array_equal(x.get(), qe.requantize(acc, M, backend="reference"))
    x = device.asarray(acc).ravel()  # one element apart
    qe.requantize(x[:-1], M, out=x[1:])
    assert np.array_equal(x.get()[1:], qe.requantize(acc.ravel()[:-1], M, backend="reference"))


def test_wrong_arrays(device: Device, rng: np.random.Generator) -> None:
    x = device.asarray(accumulators(rng, 8))
    with pytest.raises(qe.DTypeError, match=r"out must be an array on a CUDA device, as acc is; got ndarray"):
        qe.requantize(x, M, out=np.empty(8, np.int32))
    with pytest.raises(qe.BackendError, match=r"'cpu' was asked for, but an array .* lives on a CUDA device"):
        qe.requantize(np.zeros(8, np.int32), M, backend="cpu", out=x)
    with pytest.raises(qe.DTypeError, match="out must be a NumPy array; got"):
        qe.requantize(np.zeros(8, np.int32), M, out=x)
    with pytest.raises(qe.DomainError, match=r"out must have shape \(8,\) and dtype int32; got \(4,\) and int32"):
        qe.requantize(x, M, dtype="int32", out=device.empty(4, np.int32))
    with pytest.raises(qe.DTypeError, match=r"multiplier must be on the host, .* copy it first"):
        qe.requantize(x, device.asarray(np.full(8, 0.25)))
    with pytest.raises(qe.DTypeError, match="zero_point must be on the host"):
        qe.requantize(x, M, zero_point=device.asarray(np.zeros(8, np.int64)))
    with pytest.raises(qe.DTypeError, match="acc must hold integers"):
        qe.requantize(device.asarray(np.zeros(8)), M)
    with pytest.raises(qe.BackendError, match="copy it to the host first"):
        qe.requantize(x, M, backend="cpu")


def test_narrow_and_unsigned_accumulators(device: Device) -> None:
    for dtype in ("int8", "uint8", "int16", "uint16", "uint32", "uint64", "int64"):
        acc = np.array([0, 1, 100, 127], dtype)
        check(device, acc, QUARTER)
    with pytest.raises(qe.DomainError, match=f"acc must fit int64; got {2**63} at index 2"):
        qe.requantize(device.asarray(np.array([1, 2, 2**63, 2**63 + 1], np.uint64)), QUARTER)


class Foreign:
    """An array of another package: the interface, and `from_dlpack` as PyTorch has it."""

    def __init__(self, array: DeviceArray) -> None:
        self.array = array
        self.dtype = array.dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.array.__cuda_array_interface__


def test_other_kinds_of_device_arrays(stand_in: HostDevice, rng: np.random.Generator) -> None:
    """No copy on the way in, and the result in the caller's kind."""
    acc = accumulators(rng, (3, 8))
    y = qe.requantize(Foreign(stand_in.asarray(acc)), M, dtype="int8")
    assert isinstance(y, Foreign)
    assert np.array_equal(y.array.get(), qe.requantize(acc, M, dtype="int8", backend="reference"))
    out = Foreign(stand_in.empty((3, 8), np.int8))
    assert qe.requantize(Foreign(stand_in.asarray(acc)), M, out=out) is out
    assert np.array_equal(out.array.get(), y.array.get())


def test_results_on_another_device(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Kernels run where the accumulators are; memory elsewhere is refused before anything is launched."""
    host = install(HostDevice(devices=2), monkeypatch)
    try:
        with host.device(1):
            acc = host.asarray(accumulators(rng, (3, 8)))
            there = host.empty((3, 8), np.int32)
        wanted = qe.requantize(acc.get(), M, backend="reference")
        y = qe.requantize(acc, M)
        assert (y.number, host.device_number()) == (1, 0)
        assert np.array_equal(y.get(), wanted)
        assert np.array_equal(qe.requantize(acc, M, out=there).get(), wanted)
        launched = len(host.launches)
        for out in (host.empty((3, 8), np.int32), Foreign(host.empty((3, 8), np.int32))):
            with pytest.raises(qe.DomainError, match="out must be on the device of acc, 1; got an array on device 0"):
                qe.requantize(acc, M, out=out)
        assert len(host.launches) == launched
    finally:
        backends.load.cache_clear()
        backends._serving.discard("cuda")


def test_read_only_results(stand_in: HostDevice, rng: np.random.Generator) -> None:
    acc, out = stand_in.asarray(accumulators(rng, 9)), stand_in.full(9, 7, np.int32)
    out._host.flags.writeable = False
    for given in (out, Foreign(out)):
        with pytest.raises(qe.DomainError, match="out must be writable; got a read-only array"):
            qe.requantize(acc, M, out=given)
    assert (out.get() == 7).all()


def test_misaligned_items(stand_in: HostDevice) -> None:
    raw = np.zeros(41, np.uint8)[1:].view(np.int32)
    with pytest.raises(qe.DTypeError, match="acc must start at a multiple of its item size, 4 bytes"):
        qe.requantize(DeviceArray(raw, stand_in), M)


@pytest.mark.parametrize("shape", [(1, 1, 101), (7, 3, 11), (1, 9, 30), (40, 6, 1), (2, 2, 50)])
def test_host_arrays_piece_by_piece(
    shape: tuple[int, ...], device: Device, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for piece in (1, 7, 30, 64, 1000):
        monkeypatch.setattr(cuda, "PIECE", piece)
        acc = accumulators(rng, shape)
        m = multipliers(rng, shape[1])
        if piece == 1 and acc.size > 120:
            continue
        y = qe.requantize(acc, m, axis=1, dtype="int8", backend="cuda")
        assert isinstance(y, np.ndarray)
        assert np.array_equal(y, qe.requantize(acc, m, axis=1, dtype="int8", backend="reference"))


@pytest.mark.parametrize("shape", [(1, 1, 101), (7, 3, 11), (40, 6, 1), (3, 0, 4)])
@pytest.mark.parametrize("piece", [1, 5, 30, 64, 10_000])
def test_pieces_cover_an_array_once(shape: tuple[int, ...], piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "PIECE", piece)
    seen = np.zeros(shape, int)
    for box in cuda._pieces(shape):
        assert 0 < seen[box].size <= piece
        seen[box] += 1
    assert (seen == 1).all()


def test_forms_of_every_rule_have_a_code(scheme: Scheme) -> None:
    from qengine.requant.requantize import _prepare_one

    prepared, _ = _prepare_one(scheme, M, 3, np.dtype(np.int8), None, None, False)
    table, rule = cuda._plan(prepared.form, prepared.epilogue)
    assert table.size == 1
    assert (rule == kernels.FLOOR) == isinstance(scheme.rule, FloorRule)
