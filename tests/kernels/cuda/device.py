"""A device without a device: arrays in host memory that refuse to be taken for host arrays, kernels through the shim.

`HostDevice` takes the place of `qengine.kernels.cuda.load`, so that all of the CUDA back end's own Python runs: which
kernel, which grid, which numbers. Its arrays have what the back end uses of CuPy's, and nothing else.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qengine import backends
from qengine.kernels.cuda import load

from . import build

_FILL = 0xA5


class DeviceArray:
    """An array as CuPy shows it: its own methods, no conversion to a host array but by `get`."""

    def __init__(self, host: npt.NDArray[Any], device: HostDevice, number: int | None = None) -> None:
        self._host = host
        self.device = device
        self.number = device.device_number() if number is None else number

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self._host.__array_interface__, "version": 3}

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __getattr__(self, name: str) -> Any:
        if name in ("dtype", "shape", "size", "ndim", "nbytes", "itemsize", "strides"):
            return getattr(self._host, name)
        raise AttributeError(f"the stand-in for a CuPy array has no {name!r}")

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._host.ctypes.data)

    @property
    def flags(self) -> Any:
        return SimpleNamespace(c_contiguous=self._host.flags.c_contiguous, f_contiguous=self._host.flags.f_contiguous)

    def _wrap(self, host: Any) -> DeviceArray:
        return DeviceArray(np.asarray(host), self.device, self.number)

    def get(self, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Copy to the host."""
        self.device.waits += 1
        if out is None:
            return self._host.copy()
        out[...] = self._host
        return out

    def item(self) -> Any:
        self.device.waits += 1
        return self._host.item()

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def reshape(self, *shape: Any) -> DeviceArray:
        return self._wrap(self._host.reshape(*shape))

    def ravel(self) -> DeviceArray:
        return self._wrap(self._host.ravel())

    def view(self, dtype: Any) -> DeviceArray:
        return self._wrap(self._host.view(dtype))

    def astype(self, dtype: Any, copy: bool = True) -> DeviceArray:
        return self._wrap(self._host.astype(dtype, copy=copy))

    def copy(self) -> DeviceArray:
        return self._wrap(self._host.copy())

    def any(self) -> DeviceArray:
        return self._wrap(self._host.any())

    def argmax(self) -> DeviceArray:
        return self._wrap(self._host.argmax())

    def sum(self) -> DeviceArray:
        return self._wrap(self._host.sum())

    def max(self) -> DeviceArray:
        return self._wrap(self._host.max())

    def min(self) -> DeviceArray:
        return self._wrap(self._host.min())

    def __getitem__(self, key: Any) -> DeviceArray:
        return self._wrap(self._host[key._host if isinstance(key, DeviceArray) else key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[key] = value._host if isinstance(value, DeviceArray) else value

    def __len__(self) -> int:
        return len(self._host)

    def _operator(self, other: Any, apply: Callable[..., Any]) -> DeviceArray:
        if isinstance(other, np.ndarray) and other.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")  # as CuPy: no mixing
        if self.dtype.kind == "u" and isinstance(other, int) and not 0 <= other <= np.iinfo(self.dtype).max:
            raise OverflowError(f"Python integer {other} out of bounds for {self.dtype}")  # as CuPy: no promotion
        return self._wrap(apply(self._host, other._host if isinstance(other, DeviceArray) else other))

    def __lshift__(self, other: Any) -> DeviceArray:
        return self._operator(other, np.left_shift)

    def __gt__(self, other: Any) -> DeviceArray:
        return self._operator(other, np.greater)

    def __lt__(self, other: Any) -> DeviceArray:
        return self._operator(other, np.less)

    def __or__(self, other: Any) -> DeviceArray:
        return self._operator(other, np.bitwise_or)

    def __invert__(self) -> DeviceArray:
        return self._wrap(~self._host)


class HostDevice:
    """What `load` offers, on the host; `order` is the order in which the shim runs blocks and threads.

    Attributes
    ----------
    launches : list of (room, kernel)
    waits : int
        How often something was read back.
    """

    ndarray = DeviceArray

    def __init__(self, order: int = 0, processors: int = 1, devices: int = 1) -> None:
        self.order, self.processors, self.number_of_devices = order, processors, devices
        self._current = threading.local()
        self._one_at_a_time = threading.Lock()
        self.launches: list[tuple[str, str]] = []
        self.waits = 0

    # --- the package of arrays

    def _new(self, shape: Any, dtype: Any) -> npt.NDArray[Any]:
        # Filled with garbage, and at multiples of 256 bytes, as device memory comes.
        host = np.empty(shape, dtype)
        raw = np.full(host.nbytes + 256, _FILL, np.uint8)
        lead = -raw.ctypes.data % 256
        return raw[lead : lead + host.nbytes].view(host.dtype).reshape(host.shape)

    def empty(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        return DeviceArray(self._new(shape, dtype), self)

    def zeros(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        return self.full(shape, 0, dtype)

    def full(self, shape: Any, value: Any, dtype: Any) -> DeviceArray:
        array = self.empty(shape, dtype)
        array._host[...] = value
        return array

    def asarray(self, value: Any, dtype: Any = None) -> DeviceArray:
        if isinstance(value, DeviceArray):
            return value if dtype is None else value.astype(dtype, copy=False)
        host = np.asarray(value, dtype)
        array = self.empty(host.shape, host.dtype)
        array._host[...] = host
        return array

    def ascontiguousarray(self, value: DeviceArray) -> DeviceArray:
        return value if value._host.flags.c_contiguous else self.asarray(value._host)

    def moveaxis(self, value: DeviceArray, source: int, target: int) -> DeviceArray:
        return DeviceArray(np.moveaxis(value._host, source, target), self)

    def isfinite(self, value: DeviceArray) -> DeviceArray:
        return DeviceArray(np.isfinite(value._host), self)

    def isnan(self, value: DeviceArray) -> DeviceArray:
        return DeviceArray(np.isnan(value._host), self)

    def abs(self, value: DeviceArray) -> DeviceArray:
        return DeviceArray(np.abs(value._host), self)

    def count_nonzero(self, value: DeviceArray) -> DeviceArray:
        return DeviceArray(np.asarray(np.count_nonzero(value._host)), self)

    def where(self, condition: DeviceArray, a: Any, b: DeviceArray) -> DeviceArray:
        return DeviceArray(np.where(condition._host, a, b._host), self)

    def partition(self, value: DeviceArray, kth: Any, axis: int) -> DeviceArray:
        return DeviceArray(np.partition(value._host, kth, axis=axis), self)

    def broadcast_to(self, value: DeviceArray, shape: Any) -> DeviceArray:
        return DeviceArray(np.broadcast_to(value._host, shape), self)

    def may_share_memory(self, left: DeviceArray, right: DeviceArray) -> bool:
        return np.may_share_memory(left._host, right._host)

    # --- what `load` offers

    def array_module(self) -> HostDevice:
        return self

    def problem(self) -> None:
        return None

    def devices(self) -> int:
        return self.number_of_devices

    def device_number(self) -> int:
        return getattr(self._current, "number", 0)

    @contextlib.contextmanager
    def device(self, number: int) -> Iterator[None]:
        assert 0 <= number < self.number_of_devices
        before = self.device_number()
        self._current.number = number
        try:
            yield
        finally:
            self._current.number = before

    def multiprocessors(self) -> int:
        return self.processors

    def device_of(self, array: Any) -> contextlib.AbstractContextManager[None]:
        assert isinstance(array, DeviceArray)
        return self.device(array.number)

    def device_number_of(self, array: DeviceArray) -> int:
        return array.number

    def adopt(self, value: Any) -> DeviceArray:
        if isinstance(value, DeviceArray):
            return value
        return DeviceArray(np.asarray(SimpleNamespace(__array_interface__=value.__cuda_array_interface__)), self)

    def hand_over(self, array: DeviceArray, like: Any) -> Any:
        return array if isinstance(like, DeviceArray) else type(like)(array)

    def launch(self, room: str, name: str, blocks: int, threads: int, *values: Any) -> None:
        """Run a kernel of the shim; results must not depend on the order of blocks and threads."""
        self.launches.append((room, name))
        here = self.device_number()
        assert all(value.number == here for value in values if isinstance(value, DeviceArray)), "memory elsewhere"
        plain = [value._host if isinstance(value, DeviceArray) else value for value in values]
        with self._one_at_a_time:  # the shim's threads and blocks are its own globals
            build.shim(room, self.order).launch(name, blocks, threads, *plain)


class Cuda:
    """The real device, with the same few names."""

    def __init__(self) -> None:
        arrays = load.array_module()
        self.asarray, self.empty, self.zeros, self.full = arrays.asarray, arrays.empty, arrays.zeros, arrays.full
        self.ndarray = arrays.ndarray
        self.launch = load.launch


REPLACED = (
    "array_module", "problem", "devices", "device_number", "device", "multiprocessors", "device_of",
    "device_number_of", "adopt", "hand_over", "launch",
)  # fmt: skip


def install(device: HostDevice, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """Put a host device in the place of `load`, for one test."""
    for name in REPLACED:
        monkeypatch.setattr(load, name, getattr(device, name))
    monkeypatch.setattr(backends, "unavailable", lambda name: None)
    backends.load.cache_clear()
    return device
