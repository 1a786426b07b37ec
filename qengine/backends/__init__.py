"""Back ends by name, and the one rule that chooses among them.

Choice, first that applies: the ``backend=`` argument; ``with qengine.use_backend(name)``; the environment
variable ``QENGINE_BACKEND``; the device that the array lives on; ``cpu``. A back end that was asked for and
cannot serve is an error, never a fallback; ``reference`` runs only when it is named. No array is copied between
host and device behind the caller's back.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..exceptions import BackendError, DTypeError, UnknownNameError
from .forms import Epilogue, Form
from .quantizers import ErrorPlan, ErrorTile, Quantizer

ENVIRONMENT = "QENGINE_BACKEND"


class Backend(Protocol):
    """What a back end module provides."""

    def requantize(self, acc: npt.NDArray[Any], form: Form, epilogue: Epilogue, out: npt.NDArray[Any]) -> None:
        """Requantize a C-contiguous (outer, channels, inner) array into `out` of the same shape."""

    def sweep_tile(self, work: Any, start: int, stop: int) -> Any:
        """Return the tally of the pairs with indices in ``[start, stop)``."""

    def quantize(self, x: npt.NDArray[Any], quantizer: Quantizer, out: npt.NDArray[Any]) -> bool:
        """Quantize flat x into codes; return whether all of x is finite (if not, the codes mean nothing)."""

    def dequantize(self, q: npt.NDArray[Any], quantizer: Quantizer, out: npt.NDArray[Any]) -> None:
        """Write what flat codes stand for, float32 or float64."""

    def error_tile(self, x: npt.NDArray[Any], first: int, plan: ErrorPlan) -> ErrorTile:
        """Sum up the errors of flat x, whose element 0 is element `first` of its tensor."""

    def calibration(self) -> Any:
        """Return the module of kernels for calibration: extrema, count_keys, search, search_weighted."""

    def formats(self) -> Any:
        """Return the module of kernels for number formats: reconstruct."""

    def staircase(self) -> Any:
        """Return the module of kernels for staircases: compare, whether rules are CLOSED there, sizes of tiles."""

    def census(self) -> Any:
        """Return the module of kernels for the census: by_thresholds, or `tile` where multipliers are made there."""


class DeviceBackend(Backend, Protocol):
    """What a back end whose arrays live on a device provides beside that."""

    def adopt(self, name: str, value: Any) -> Any:
        """Return the back end's own array over the memory of a device array."""

    def hand_over(self, array: Any, like: Any) -> Any:
        """Return one of its arrays as the kind of `like` where that is cheap."""

    def on_device_of(self, array: Any) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the array's device is the current one."""

    def array_module(self) -> Any:
        """Return the package of its arrays, which has NumPy's functions."""

    def outside(self, acc: Any, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> int | None:
        """Return the flat index of the first accumulator outside its channel's closed range; waits for it."""

    def codes_outside(self, q: Any, low: int, high: int) -> int | None:
        """Return the flat index of the first code outside the closed range; waits for it."""

    def tiles_at_once(self, plan: ErrorPlan, size: int) -> int:
        """Return how many tiles of that size one call of `error_tiles` should be given."""

    def error_tiles(self, x: Any, first: int, plan: ErrorPlan, size: int) -> list[ErrorTile]:
        """Sum up the errors of every tile of flat x, of device or host."""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    runs_on: str
    module: str
    needs: str
    install: str
    probe: str | None = None  # a module whose `problem()` says whether the machine has what the packages need


BACKENDS: dict[str, _Row] = {
    row.name: row
    for row in (
        _Row("reference", "NumPy; readable before fast", ".reference", "numpy", "pip install numpy"),
        _Row("cpu", "Numba, SIMD and threads", ".cpu", "numba", "pip install numba"),
        _Row(
            "cuda", "CuPy raw CUDA kernels", ".cuda", "cupy",
            "pip install 'qengine-numerics[cuda12]' or 'qengine-numerics[cuda13]', by the CUDA version of the driver",
            "qengine.kernels.cuda.load",
        ),
    )
}  # fmt: skip
_serving: set[str] = set()
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("qengine_backend", default=None)


def _row(name: str) -> _Row:
    try:
        return BACKENDS[name]
    except KeyError:
        raise UnknownNameError.of("back end", name, BACKENDS) from None


def unavailable(name: str) -> str | None:
    """Return None if the back end can serve, or a sentence saying why not and what to do."""
    row = _row(name)
    if importlib.util.find_spec(row.needs) is None:
        return f"back end {name!r} needs {row.needs}: {row.install}."
    problem = importlib.import_module(row.probe).problem() if row.probe else None
    if problem is not None:
        return f"back end {name!r} needs a CUDA device and its driver: {problem}; run it where nvidia-smi lists one."
    return None


@functools.cache
def load(name: str) -> Backend:
    """Return the back end, imported on first use, or raise `BackendError`."""
    reason = unavailable(name)
    if reason is not None:
        raise BackendError(reason)
    module = cast(Backend, importlib.import_module(_row(name).module, __name__))
    _serving.add(name)
    return module


def device_backend() -> DeviceBackend:
    """Return the back end of device arrays."""
    return cast(DeviceBackend, load("cuda"))


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the back end for a block of code (per thread and per task).

    Raises
    ------
    UnknownNameError, BackendError
        At once, if the name is unknown or the back end cannot serve.

    Examples
    --------
    >>> import qengine as qe
    >>> with qe.use_backend("reference"):
    ...     qe.requantize([-2, 2], qe.QuantizedMultiplier(1 << 30, -1), scheme="single")   # ties: toward +inf
    array([0, 1], dtype=int32)
    """
    load(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def on_device(array: Any) -> bool:
    """Tell whether an array lives on a CUDA device, without importing anything."""
    if isinstance(array, np.ndarray):
        return False
    if hasattr(array, "__cuda_array_interface__"):
        return True
    device = getattr(array, "__dlpack_device__", None)
    return device is not None and int(device()[0]) in (2, 13)


def choose(backend: str | None, *arrays: Any) -> str:
    """Return the name of the back end that serves a call, by the module's rule."""
    name = backend or _chosen.get() or os.environ.get(ENVIRONMENT) or None
    device = next((a for a in arrays if on_device(a)), None)
    if name is None:
        name = "cuda" if device is not None else "cpu"
    _row(name)
    if device is not None and name != "cuda":
        raise BackendError(
            f"back end {name!r} was asked for, but an array ({type(device).__name__}) lives on a CUDA device; "
            "copy it to the host first."
        )
    if name not in _serving:
        load(name)
    return name


def adopt(name: str, value: Any) -> npt.NDArray[Any]:
    """Return an array where it lives, without a copy: NumPy's on the host, CuPy's on a device.

    Device arrays are typed as NumPy's, whose methods and dtypes they have.
    """
    return cast(npt.NDArray[Any], device_backend().adopt(name, value)) if on_device(value) else as_numpy(name, value)


def arrays_of(array: Any) -> Any:
    """Return the package whose functions take an array: NumPy, or that of the device's arrays."""
    return device_backend().array_module() if on_device(array) else np


def device_of(array: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which a device array's device is the current one; one without effect for host arrays."""
    return device_backend().on_device_of(array) if on_device(array) else contextlib.nullcontext()


def to_host(array: Any) -> npt.NDArray[Any]:
    """Return an array on the host; one of a device is copied and waited for."""
    return cast(npt.NDArray[Any], array.get()) if on_device(array) else cast(npt.NDArray[Any], array)


def as_numpy(name: str, value: Any) -> npt.NDArray[Any]:
    """Return a host array without a copy where that is possible: NumPy, DLPack, or anything array-like."""
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError(f"{name} must not be a masked array: pass x.compressed(), or x.filled(value).")
    if isinstance(value, np.ndarray):
        return value
    if value is None:
        raise DTypeError(f"{name} must be an array of numbers; got None.")
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DTypeError(f"{name} must be an array of numbers; got {type(value).__name__}: {error}.") from None
    if array.dtype.kind == "O":
        raise DTypeError(f"{name} must hold numbers that fit int64; got {type(value).__name__} of objects.")
    return array


def call_where_it_lives(backend: str | None, name: str, value: Any, work: Callable[[Any, str, Any], Any]) -> Any:
    """Call ``work(array package, back end's name, array)`` where an array lives, and return its result there.

    On a device: with the array's device as the current one, and the result handed over as the kind of `value`.
    """
    chosen = choose(backend, value)
    array = adopt(name, value)
    if isinstance(array, np.ndarray):
        return work(np, chosen, array)
    engine = device_backend()
    with engine.on_device_of(array):
        return engine.hand_over(work(engine.array_module(), chosen, array), value)
