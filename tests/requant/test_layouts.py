"""Shapes, strides, types and `out=`: the layout of an array never changes a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine.backends import cpu
from qengine.requant.schemes import Scheme

SCHEMES = ("single", "double", "int16x8", "fp32", "fp32-away", "fp32-zp-inside", "fp64-away", "rndnu16")
M = qe.QuantizedMultiplier(1_527_099_593, -6)


def same(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> None:
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert np.array_equal(left, right)


def flat(acc: npt.NDArray[Any], multiplier: Any, **options: Any) -> npt.NDArray[Any]:
    """Element by element: nothing that a layout could disturb."""
    shape = np.broadcast_shapes(acc.shape, np.shape(options.get("zero_point", 0)))
    shape = np.broadcast_shapes(shape, getattr(multiplier, "shape", ()))
    value, shift = (np.broadcast_to(field, shape) for field in multiplier)
    zero_point = np.broadcast_to(options.pop("zero_point", 0), shape)
    acc = np.broadcast_to(acc, shape)
    y = np.empty(shape, options.get("dtype") or acc.dtype)
    for at in np.ndindex(shape):
        m = qe.QuantizedMultiplier(int(value[at]), int(shift[at]))
        one = np.array(acc[at], dtype=acc.dtype.newbyteorder("="))
        y[at] = qe.requantize(one, m, zero_point=int(zero_point[at]), backend="reference", **options)
    return y


def multipliers(rng: np.random.Generator, shape: tuple[int, ...]) -> qe.QuantizedMultiplier:
    """Multipliers that every scheme takes: vcvt's smallest is 2**-8."""
    return qe.QuantizedMultiplier(rng.integers(2**30, 2**31, shape), rng.integers(-7, -1, shape))


@pytest.fixture
def acc(rng: np.random.Generator) -> npt.NDArray[np.int32]:
    return rng.integers(-40_000, 40_000, (3, 5, 4), dtype=np.int32)


# ---------------------------------------------------------------------------------------------------------
# Channels


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("dtype", [None, "int8", "int64"])
def test_axis(
    name: str,
    axis: int,
    dtype: str | None,
    backend: str,
    acc: npt.NDArray[np.int32],
    rng: np.random.Generator,
) -> None:
    channels = acc.shape[axis]
    m, z = multipliers(rng, (channels,)), rng.integers(-128, 128, channels)
    shape = [1, 1, 1]
    shape[axis] = channels
    wide = qe.QuantizedMultiplier(m.value.reshape(shape), m.shift.reshape(shape))
    options = {"scheme": name, "dtype": dtype}
    wanted = flat(acc, wide, zero_point=z.reshape(shape), **options)
    same(qe.requantize(acc, m, zero_point=z, axis=axis, backend=backend, **options), wanted)
    same(qe.requantize(acc, wide, zero_point=z.reshape(shape), backend=backend, **options), wanted)
    # One of the two may be a scalar.
    wanted = flat(acc, wide, zero_point=-3, **options)
    same(qe.requantize(acc, m, zero_point=-3, axis=axis, backend=backend, **options), wanted)
    wanted = flat(acc, M, zero_point=z.reshape(shape), **options)
    same(qe.requantize(acc, M, zero_point=z, axis=axis, backend=backend, **options), wanted)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize(
    ("of_multiplier", "of_zero_point"),
    [
        ((4,), ()), ((4,), (4,)), ((5, 1), ()), ((5, 1), (5, 1)), ((3, 1, 1), ()), ((3, 5, 4), ()),
        ((3, 5, 4), (4,)),
        ((), (3, 5, 4)), ((1,), (4,)), ((1, 1, 1), (3, 1, 1)), ((3, 1, 4), ()), ((5, 4), ()), ((5, 1), (4,)),
        ((3, 1, 1), (5, 1)), ((1, 1, 4), (1, 5, 1)), ((2, 3, 5, 4), ()), ((2, 1, 1, 1), ()),
        ((), (2, 1, 1, 4)),
        ((1,), ()), ((1, 1, 1, 1), ()),
    ],
)  # fmt: skip
def test_broadcasting(
    name: str, of_multiplier: tuple[int, ...], of_zero_point: tuple[int, ...], backend: str,
    acc: npt.NDArray[np.int32], rng: np.random.Generator,
) -> None:  # fmt: skip
    m, z = multipliers(rng, of_multiplier), rng.integers(-128, 128, of_zero_point)
    for dtype in (None, "int8"):
        wanted = flat(acc, m, zero_point=z, scheme=name, dtype=dtype)
        same(qe.requantize(acc, m, scheme=name, zero_point=z, dtype=dtype, backend=backend), wanted)


@pytest.mark.parametrize("name", SCHEMES)
def test_acc_broadcasts_against_the_multipliers(name: str, backend: str, rng: np.random.Generator) -> None:
    m = multipliers(rng, (3, 4))
    for acc in (
        np.array(585, np.int32),
        np.array([[585], [-90], [45]], np.int32),
        np.arange(4, dtype=np.int32),
    ):
        same(qe.requantize(acc, m, scheme=name, backend=backend), flat(acc, m, scheme=name))


def test_real_multipliers_per_channel(backend: str, acc: npt.NDArray[np.int32]) -> None:
    real = np.array([0.01, 0.25, 0.5, 0.011111111380159855])
    for dtype in (np.float64, np.float32):
        for name in SCHEMES:
            y = qe.requantize(acc, real.astype(dtype), scheme=name, backend=backend)
            for c in range(4):
                one = qe.requantize(acc[..., c], float(real.astype(dtype)[c]), scheme=name, backend="reference")
                same(y[..., c], one)


@pytest.mark.parametrize("shape", [(7, 1), (1, 7), (7, 15), (7, 16), (7, 17), (2, 7, 4100), (33, 7)])
def test_inner_extents_around_the_block_sizes(
    shape: tuple[int, ...], scheme: Scheme, other_backend: str, rng: np.random.Generator
) -> None:
    """The engine runs short inner extents another way than long ones."""
    axis = shape.index(7)
    acc = rng.integers(-40_000, 40_000, shape, dtype=np.int32)
    m = multipliers(rng, (7,))
    options = {"scheme": scheme, "axis": axis, "zero_point": 7, "dtype": "uint8"}
    same(
        qe.requantize(acc, m, backend=other_backend, **options),
        qe.requantize(acc, m, backend="reference", **options),
    )


# ---------------------------------------------------------------------------------------------------------
# Memory


def views(acc: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[Any]]:
    """The same accumulators, and views of them, in every layout."""
    read_only = acc.copy()
    read_only.flags.writeable = False
    padded = np.zeros((*acc.shape[:-1], acc.shape[-1] * 3), dtype=np.int32)
    padded[..., 1::3] = acc
    odd = np.zeros(acc.nbytes + 3, dtype=np.uint8)[3:].view(np.int32) if acc.size else acc.ravel()
    odd[:] = acc.ravel()
    return {
        "contiguous": acc,
        "strided": padded[..., 1::3],
        "reversed": acc[::-1, ::-1, ::-1],
        "every second": acc[:, ::2, 1::2],
        "Fortran": np.asfortranarray(acc),
        "transposed": acc.T,
        "read-only": read_only,
        "stride 0": np.broadcast_to(acc[:, :1, :], acc.shape),
        "all stride 0": np.broadcast_to(np.int32(585), acc.shape),
        "from the second": acc.ravel()[1:],
        "from the fourth": acc.ravel()[3:],
        "odd length": acc.ravel()[: 2 * (acc.size // 2) - 1],
        "unaligned": odd,
        "big-endian": acc.astype(">i4"),
        "big-endian int64": acc.astype(">i8"),
        "int64": acc.astype(np.int64),
        "int16": (acc >> 2).astype(np.int16),
        "int8": (acc >> 9).astype(np.int8),
        "uint8": (acc & 255).astype(np.uint8),
        "uint16": (acc & 65535).astype(np.uint16),
        "uint32": (acc & 65535).astype(np.uint32),
        "uint64": (acc & 65535).astype(np.uint64),
        "0-d": acc[0, 0, 0:1].reshape(()),
        "one": acc[:1, :1, :1],
        "empty": acc[:0],
        "empty inside": acc[:, :0],
    }


LAYOUTS = list(views(np.zeros((3, 5, 4), np.int32)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SCHEMES)
def test_layout(layout: str, name: str, backend: str, acc: npt.NDArray[np.int32]) -> None:
    x = views(acc)[layout]
    before = x.copy()
    values = np.array(x.tolist(), dtype=np.int64).reshape(x.shape)
    for dtype in ("int8", "int32", "int64"):
        y = qe.requantize(x, M, scheme=name, zero_point=-5, dtype=dtype, backend=backend)
        same(y, flat(values, M, scheme=name, zero_point=-5, dtype=dtype))
        assert y.flags.writeable
        assert not np.shares_memory(y, x)
    same(x, before)


@pytest.mark.parametrize(("of_acc", "of_result"), [
    ("int8", "int32"), ("uint8", "int32"), ("int16", "int32"), ("uint16", "int32"), ("int32", "int32"),
    (">i4", "int32"), ("uint32", "int64"), ("int64", "int64"), ("uint64", "int64"), (">i8", "int64"),
])  # fmt: skip
def test_raw_type_follows_acc(of_acc: str, of_result: str, backend: str) -> None:
    y = qe.requantize(np.array([1, 100], dtype=of_acc), M, backend=backend)
    assert y.dtype == np.dtype(of_result)
    assert y.dtype.isnative


@pytest.mark.parametrize("acc", [585, np.int32(585), np.int64(585), np.array(585)])
def test_scalars(acc: Any, backend: str) -> None:
    y = qe.requantize(acc, M, scheme="double", zero_point=-126, dtype="int8", backend=backend)
    assert isinstance(y, np.ndarray)
    assert y.shape == ()
    assert int(y) == -119


def test_lists(backend: str) -> None:
    same(qe.requantize([585, -585], M, backend=backend), np.array([7, -7], np.int32))
    same(qe.requantize([[585], [0]], M, backend=backend), np.array([[7], [0]], np.int32))
    same(qe.requantize([2**40, 5], qe.QuantizedMultiplier(2**30, -20), scheme="int16x8", backend=backend),
         np.array([2**19, 0]))  # fmt: skip


class OnlyDLPack:
    """A host array that offers nothing but the DLPack protocol."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


@pytest.mark.parametrize("name", ["double", "fp32"])
def test_dlpack(name: str, backend: str, acc: npt.NDArray[np.int32]) -> None:
    y = qe.requantize(OnlyDLPack(acc), M, scheme=name, dtype="int8", backend=backend)
    same(y, qe.requantize(acc, M, scheme=name, dtype="int8", backend=backend))
    y = qe.requantize(OnlyDLPack(acc[:, ::2]), M, scheme=name, backend=backend)
    same(y, qe.requantize(acc[:, ::2], M, scheme=name, backend=backend))


@pytest.mark.parametrize("name", SCHEMES)
def test_inputs_stay_as_they_are(name: str, backend: str, acc: npt.NDArray[np.int32], rng: np.random.Generator) -> None:
    real, z = rng.uniform(0.01, 0.9, 4), rng.integers(-10, 10, 4)
    kept = acc.copy(), real.copy(), z.copy()
    qe.requantize(acc, real, scheme=name, zero_point=z, axis=-1, dtype="int8", backend=backend)
    for now, then in zip((acc, real, z), kept, strict=True):
        same(now, then)


# ---------------------------------------------------------------------------------------------------------
# out=


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_out(name: str, dtype: str, backend: str, acc: npt.NDArray[np.int32], rng: np.random.Generator) -> None:
    m = multipliers(rng, (5,))
    options = {"scheme": name, "zero_point": 3, "dtype": dtype, "axis": 1, "backend": backend}
    wanted = qe.requantize(acc, m, **options)
    big = np.full((3, 5, 9), 77, dtype=dtype)
    for out in (
        np.full(acc.shape, 77, dtype=dtype),
        np.full(acc.shape, 77, dtype=dtype, order="F"),
        big[..., 1::2],
        np.full(acc.shape, 77, dtype=dtype)[::-1],
        np.full((5, 3, 4), 77, dtype=dtype).transpose(1, 0, 2),
    ):
        y = qe.requantize(acc, m, out=out, **options)
        assert y is out
        same(out, wanted)
    assert np.all(big[..., ::2] == 77)


def test_out_says_the_type(backend: str, acc: npt.NDArray[np.int32]) -> None:
    out = np.empty(acc.shape, np.int8)
    assert qe.requantize(acc, M, out=out, backend=backend) is out
    same(out, qe.requantize(acc, M, dtype="int8", backend=backend))


@pytest.mark.parametrize("name", SCHEMES)
def test_out_in_place(name: str, backend: str, acc: npt.NDArray[np.int32], rng: np.random.Generator) -> None:
    m = multipliers(rng, (4,))
    wanted = qe.requantize(acc, m, scheme=name, axis=-1, backend=backend)
    x = acc.copy()
    assert qe.requantize(x, m, scheme=name, axis=-1, backend=backend, out=x) is x
    same(x, wanted)
    wide = acc.astype(np.int64)
    qe.requantize(wide, m, scheme=name, axis=-1, backend=backend, out=wide)
    same(wide, wanted.astype(np.int64))


@pytest.mark.parametrize("name", SCHEMES)
def test_out_overlaps_acc(name: str, backend: str, rng: np.random.Generator) -> None:
    x = rng.integers(-40_000, 40_000, 5001, dtype=np.int32)
    for source, target in ((slice(0, -1), slice(1, None)), (slice(1, None), slice(0, -1))):
        memory = x.copy()
        wanted = qe.requantize(x[source], M, scheme=name, backend=backend)
        qe.requantize(memory[source], M, scheme=name, backend=backend, out=memory[target])
        same(memory[target], wanted)
    memory = x.copy()
    wanted = qe.requantize(x[::-1], M, scheme=name, backend=backend)
    qe.requantize(memory[::-1], M, scheme=name, backend=backend, out=memory)
    same(memory, wanted)
    # The int8 results written over the front of their own accumulators.
    memory = x.copy()
    out = memory.view(np.int8)[: x.size]
    qe.requantize(memory, M, scheme=name, dtype="int8", backend=backend, out=out)
    same(out, qe.requantize(x, M, scheme=name, dtype="int8", backend=backend))


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (
            np.empty((3, 5, 5), np.int8),
            qe.DomainError,
            r"out must have shape \(3, 5, 4\) and dtype int8; got \(3, 5, 5\)",
        ),
        (np.empty(60, np.int8), qe.DomainError, r"out must have shape \(3, 5, 4\)"),
        (np.empty((3, 5, 4), np.int32), qe.DomainError, "dtype int8; got .* and int32"),
        (np.empty((3, 5, 4), np.float32), qe.DomainError, "dtype int8; got .* and float32"),
        (np.empty((1, 3, 5, 4), np.int8), qe.DomainError, "shape"),
        ([[0]], qe.DTypeError, "out must be a NumPy array; got list"),
    ],
)
def test_wrong_out(out: Any, error: type[Exception], text: str, backend: str, acc: npt.NDArray[np.int32]) -> None:
    with pytest.raises(error, match=text):
        qe.requantize(acc, M, dtype="int8", out=out, backend=backend)


def test_read_only_out(backend: str, acc: npt.NDArray[np.int32]) -> None:
    out = np.zeros(acc.shape, np.int8)
    out.flags.writeable = False
    with pytest.raises(qe.DomainError, match="out must be writable; got a read-only array"):
        qe.requantize(acc, M, dtype="int8", out=out, backend=backend)
    assert not out.any()


def test_empty(scheme: Scheme, backend: str) -> None:
    m = qe.QuantizedMultiplier(np.full(4, 2**30), np.full(4, -3))
    for shape, multiplier, axis in (((0,), M, None), ((0, 4), m, -1), ((4, 0), m, 0), ((2, 4, 0), m, 1)):
        y = qe.requantize(
            np.zeros(shape, np.int32), multiplier, scheme=scheme, dtype="int8", axis=axis, backend=backend
        )
        assert y.shape == shape
        assert y.dtype == np.int8
    none = qe.QuantizedMultiplier(np.zeros(0, np.int32), np.zeros(0, np.int32))
    y = qe.requantize(np.zeros((3, 0), np.int32), none, scheme=scheme, axis=-1, backend=backend)
    assert y.shape == (3, 0)


# ---------------------------------------------------------------------------------------------------------
# Threads


@pytest.mark.parametrize("name", ["single", "double", "fp32", "fp32-away", "fp64-away", "rndnu16", "int16x8"])
@pytest.mark.parametrize("shape", [(2**14 + 77,), (325, 53), (3, 7, 5001), (16_391, 1)])
def test_threads(name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Large arrays are split over threads, here from 2**14 elements: the same bits for 1, 2 and 5."""
    monkeypatch.setattr(cpu, "PARALLEL_FROM", 1 << 14)
    acc = rng.integers(-40_000, 40_000, shape, dtype=np.int32)
    for axis in (None, *range(len(shape))):
        channels = shape[axis] if axis is not None else 1
        if channels > 5000:
            continue
        m = M if axis is None else multipliers(rng, (channels,))
        for dtype in ("int8", None):
            options = {"scheme": name, "dtype": dtype, "axis": axis}
            monkeypatch.setenv("QENGINE_NUM_THREADS", "1")
            one = qe.requantize(acc, m, backend="cpu", **options)
            for threads in ("2", "5"):
                monkeypatch.setenv("QENGINE_NUM_THREADS", threads)
                same(qe.requantize(acc, m, backend="cpu", **options), one)
            if axis is None:
                few = acc[-1:]
                same(one[-1:], qe.requantize(few, m, backend="reference", **options))


def test_errors_in_large_arrays_name_the_place(backend: str) -> None:
    acc = np.zeros((3, 2**19), np.int32)
    acc[2, 12_345] = 2**30
    with pytest.raises(qe.DomainError, match=r"got 1073741824 at index \(2, 12345\)"):
        qe.requantize(acc, qe.QuantizedMultiplier(2**30, 5), scheme="double", backend=backend)


@pytest.mark.parametrize("name", ["double", "fp32"])
@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_addresses_that_are_no_multiple_of_the_item(name: str, dtype: str, backend: str) -> None:
    """Bytes cut at an odd place: small and large, as input and as output."""
    multiplier = qe.QuantizedMultiplier(1527099593, -6)
    for length in (5, 2**18 + 501):
        acc = np.arange(length, dtype=np.int32) - 300
        odd = np.zeros(4 * length + 1, np.uint8)[1:].view(np.int32)
        odd[:] = acc
        size = np.dtype(dtype).itemsize
        out = np.zeros(size * length + 1, np.uint8)[1:].view(dtype)
        assert not odd.flags.aligned
        assert not out.flags.aligned
        expected = qe.requantize(acc, multiplier, scheme=name, dtype=dtype, zero_point=1, backend="reference")
        qe.requantize(odd, multiplier, scheme=name, dtype=dtype, zero_point=1, backend=backend, out=out)
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("name", ["single", "double", "fp32", "fp32-away", "fp32-zp-inside"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_large_arrays_stream_from_any_address(name: str, dtype: str, rng: np.random.Generator) -> None:
    """Beyond the caches blocks leave past them, from the first cache line on: every start, end and length."""
    multiplier = qe.QuantizedMultiplier(1527099593, -6)
    acc = rng.integers(-(2**31), 2**31, 2**18 + 4000).astype(np.int32)
    buffer = np.empty(acc.size + 64, dtype)
    for start, length in ((0, 2**18 + 1), (1, 2**18 + 257), (3, 2**18 + 3001), (17, 2**18 + 64), (63, 2**18 + 255)):
        x, out = acc[start : start + length], buffer[start : start + length]
        buffer[:] = 77
        options = {
            "scheme": name,
            "zero_point": 5 if dtype != "int32" else 0,
            "overflow": "wrap" if start == 3 else "error",
        }
        qe.requantize(x, multiplier, dtype=dtype, backend="cpu", out=out, **options)
        assert np.array_equal(out, qe.requantize(x, multiplier, dtype=dtype, backend="reference", **options))
        assert (buffer[:start] == 77).all()
        assert (buffer[start + length :] == 77).all()
    rows = acc[: 2 * (2**17 + 1000)].reshape(2, -1)
    pair = qe.QuantizedMultiplier(np.array([1527099593, 1293543092]), np.array([-6, -8]))
    got = qe.requantize(np.tile(rows, (1, 3)), pair, dtype=dtype, axis=0, scheme=name)
    assert np.array_equal(
        got, qe.requantize(np.tile(rows, (1, 3)), pair, dtype=dtype, axis=0, scheme=name, backend="reference")
    )


def test_parameters_that_are_written_over_between_calls(backend):
    """What follows from arrays of parameters is kept by their content."""
    acc = np.arange(-600, 600, dtype=np.int32).reshape(300, 4)
    real, zero_point = np.array([0.25, 0.5, 0.11, 0.03]), np.array([0, 1, -3, 5])
    options = {"scheme": "single", "dtype": "int8", "axis": 1, "backend": backend}
    first = qe.requantize(acc, real, zero_point=zero_point, **options)
    real[0], zero_point[1] = 0.5, -1
    second = qe.requantize(acc, real, zero_point=zero_point, **options)
    for k in range(4):
        alone = qe.requantize(acc[:, k], float(real[k]), scheme="single", zero_point=int(zero_point[k]), dtype="int8")
        np.testing.assert_array_equal(second[:, k], alone)
    assert (first[:, 0] != second[:, 0]).any()
    assert (first[:, 1] != second[:, 1]).any()
    again = qe.QuantizedMultiplier([1 << 30, 1 << 30], [-1, 0])
    for _ in range(2):
        with pytest.raises(qe.QEngineError):
            qe.requantize(acc[:, :2], again, scheme="single", axis=True, backend=backend)
        qe.requantize(acc[:, :2], again, scheme="single", axis=1, backend=backend)
