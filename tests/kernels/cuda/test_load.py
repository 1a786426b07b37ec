"""The door to CuPy, with packages in its and PyTorch's place: who is asked for what, on which device and stream."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from qengine import backends
from qengine.backends import cuda
from qengine.kernels.cuda import load

LEGACY, PER_THREAD = 1, 2


class Array:
    """CuPy's array."""

    def __init__(self, host: npt.NDArray[Any], number: int = 0) -> None:
        self.host, self.device = host, SimpleNamespace(id=number)
        self.data = SimpleNamespace(ptr=host.ctypes.data)
        self.dtype = host.dtype

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.id

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> npt.NDArray[Any]:
        return self.host


class CuPy(ModuleType):
    """CuPy, as far as `load` uses it, with what it was asked for."""

    ndarray = Array

    def __init__(self, stream: int = 0) -> None:
        super().__init__("cupy")
        self.device, self.streams, self.calls = 0, [stream], []
        self.cuda = SimpleNamespace(
            Device=self._device, ExternalStream=self._stream,
            get_current_stream=lambda: SimpleNamespace(ptr=self.streams[-1]),
            runtime=SimpleNamespace(streamPerThread=PER_THREAD, streamLegacy=LEGACY),
        )  # fmt: skip

    @contextlib.contextmanager
    def _device(self, number: int) -> Iterator[None]:
        before, self.device = self.device, number
        try:
            yield
        finally:
            self.device = before

    @contextlib.contextmanager
    def _stream(self, pointer: int) -> Iterator[None]:
        self.streams.append(pointer)
        try:
            yield
        finally:
            self.streams.pop()

    def from_dlpack(self, value: Any) -> Array:
        self.calls.append(("from_dlpack", self.device, self.streams[-1]))
        host = value.__dlpack__(stream=self.streams[-1] or LEGACY, max_version=(1, 0), copy=None)
        return Array(host, value.__dlpack_device__()[1])

    def asarray(self, value: Any) -> Array:
        self.calls.append(("asarray", self.device, self.streams[-1]))
        return Array(np.asarray(SimpleNamespace(__array_interface__=value.__cuda_array_interface__)))


class Tensor:
    """PyTorch's tensor on a CUDA device, and its rules of export."""

    def __init__(self, host: npt.NDArray[Any], number: int = 0, requires_grad: bool = False) -> None:
        self.host, self.number, self.requires_grad = host, number, requires_grad
        self.exported: list[int | None] = []

    @property
    def __cuda_array_interface__(self) -> Any:
        if self.requires_grad:
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")
        return {**self.host.__array_interface__, "version": 2}

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.number

    def __dlpack__(self, *, stream: int | None = -1, **options: Any) -> npt.NDArray[Any]:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if sys.modules["cupy"].device != self.number:
            raise BufferError("Can't export tensors on a different CUDA device index.")
        if stream == PER_THREAD:
            raise BufferError("per-thread default stream is not supported.")
        self.exported.append(stream)
        return self.host


Tensor.__module__ = "torch.some"


class OnlyInterface:
    """An array of a package that has no DLPack, such as Numba's."""

    def __init__(self, host: npt.NDArray[Any]) -> None:
        self.__cuda_array_interface__ = {**host.__array_interface__, "version": 3}


def put(package: CuPy, monkeypatch: pytest.MonkeyPatch) -> CuPy:
    monkeypatch.setitem(sys.modules, "cupy", package)
    return package


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> CuPy:
    return put(CuPy(), monkeypatch)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package = ModuleType("torch")
    package.Tensor, package.from_dlpack = Tensor, lambda array: Tensor(array.__dlpack__(stream=1))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", package)
    return package


def test_own_arrays_are_taken_as_they_are(cupy: CuPy) -> None:
    array = Array(np.arange(3))
    assert load.adopt(array) is array
    assert cupy.calls == []


def test_dlpack_comes_before_the_interface(cupy: CuPy) -> None:
    """With it the stream is told to the owner; and it is asked on the owner's device, as PyTorch wants."""
    tensor = Tensor(np.arange(5, dtype=np.int32), number=1)
    array = load.adopt(tensor)
    assert isinstance(array, Array)
    assert np.shares_memory(array.host, tensor.host)
    assert load.device_number_of(array) == 1
    assert cupy.calls == [("from_dlpack", 1, 0)]
    assert tensor.exported == [LEGACY]
    assert cupy.device == 0


@pytest.mark.parametrize("stream", [0, LEGACY, 0x7F00])
def test_the_current_stream_is_told(stream: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put(CuPy(stream), monkeypatch)
    tensor = Tensor(np.arange(5))
    load.adopt(tensor)
    assert tensor.exported == [stream or LEGACY]


def test_per_thread_default_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch refuses it: the legacy default stream, with which it is in order, takes its place."""
    package = put(CuPy(PER_THREAD), monkeypatch)
    tensor = Tensor(np.arange(5))
    assert np.shares_memory(load.adopt(tensor).host, tensor.host)
    assert tensor.exported == [LEGACY]
    assert package.streams == [PER_THREAD]


def test_interface_alone(cupy: CuPy) -> None:
    host = np.arange(6, dtype=np.float32)
    array = cuda.adopt("x", OnlyInterface(host))
    assert np.shares_memory(array.host, host)
    assert cupy.calls == [("asarray", 0, 0)]


class Refuses(Tensor):
    def __init__(self, error: Exception) -> None:
        super().__init__(np.arange(3))
        self.error = error

    def __dlpack__(self, **options: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        BufferError("sparse"), TypeError("no dtype"), ValueError("lanes"), RuntimeError("ROCm."),
        NotImplementedError("CuPy does not support bfloat16 yet"),
    ],
)  # fmt: skip
def test_what_cupy_cannot_take(error: Exception, cupy: CuPy) -> None:
    with pytest.raises(qe.DTypeError) as caught:
        cuda.adopt("x", Refuses(error))
    assert str(caught.value) == f"x must be a device array that CuPy takes; got Refuses: {str(error).rstrip('.')}."


def test_misaligned(cupy: CuPy) -> None:
    raw = np.zeros(41, np.uint8)[1:].view(np.int32)
    with pytest.raises(qe.DTypeError, match="acc must start at a multiple of its item size, 4 bytes"):
        cuda.adopt("acc", Tensor(raw))


def test_gradients(cupy: CuPy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "load", lambda name: cuda)
    tensor = Tensor(np.zeros(3, np.float32), requires_grad=True)
    assert backends.on_device(tensor)
    for ask in (lambda: backends.adopt("x", tensor), lambda: qe.quantize(tensor, qe.QuantParams(0.5, 0, -8, 7))):
        with pytest.raises(qe.DTypeError, match="x must not record gradients: codes have none"):
            ask()
    assert cupy.calls == []


def test_hand_over_to_cupy(cupy: CuPy) -> None:
    array = Array(np.arange(4))
    assert load.hand_over(array, Array(np.arange(2))) is array


def test_hand_over_to_the_package_of_the_array(cupy: CuPy, torch: ModuleType) -> None:
    """Found by the name of the class's module: nothing is imported for it."""
    array = Array(np.arange(4))
    tensor = load.hand_over(array, Tensor(np.arange(2)))
    assert isinstance(tensor, Tensor)
    assert np.shares_memory(tensor.host, array.host)


def test_hand_over_to_a_namespace(cupy: CuPy) -> None:
    """Arrays of the array API name their package themselves: JAX's class lives in another."""

    class Jax:
        def __array_namespace__(self) -> Any:
            return SimpleNamespace(from_dlpack=lambda array: ("jax", array))

    array = Array(np.arange(4))
    assert load.hand_over(array, Jax()) == ("jax", array)


def test_hand_over_where_nothing_takes_dlpack(cupy: CuPy, torch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    array = Array(np.arange(4))
    assert load.hand_over(array, OnlyInterface(np.arange(3))) is array
    monkeypatch.delitem(sys.modules, "torch")
    assert load.hand_over(array, Tensor(np.arange(2))) is array
