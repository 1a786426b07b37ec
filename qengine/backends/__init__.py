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

from ..arguments import chosen
from ..exceptions import BackendError, DTypeError, brief
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


class DeviceBackend(Backend, Protocol):
    """What a back end whose arrays live on a device provides beside that."""

    def adopt(self, name: str, value: Any) -> Any:
        """Return the back end's own array over the memory of a device array."""

    def hand_over(self, array: Any, like: Any) -> Any:
        """Return one of its arrays as the kind of `like` where that is cheap."""

    def on_device_of(self, array: Any) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the array's device is the current one."""

    def device_number_of(self, array: Any) -> int:
        """Return the number of the device that one of its arrays lives on."""

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
    probe: str | None = None  # a module whose `problem()` says what the machine lacks beside the packages


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
#: Rooms of kernels that callers take as modules, ``qengine.kernels.<back end>.<room>``, and what each is for.
ROOMS = {
    "calibrate": "calibration",  # extrema, count_keys, search, search_weighted
    "census": "the census",  # by_thresholds, or `tile` where multipliers are made there
    "convolutions": "the sums of convolutions",  # patches, totals, depthwise
    "formats": "number formats",  # reconstruct
    "runtimes": "operators of runtimes",  # staged, staged_sum, affine_sum, float_chain ...
    "staircase": "staircases",  # compare, whether rules are CLOSED there, sizes of tiles
}
_serving: set[str] = set()
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("qengine_backend", default=None)


def _row(name: str) -> _Row:
    return BACKENDS[chosen("back end", name, BACKENDS)]


def unavailable(name: str) -> str | None:
    """Return None if the back end can serve, or a sentence saying why not and what to do."""
    row = _row(name)
    if importlib.util.find_spec(row.needs) is None:
        return f"back end {name!r} needs {row.needs}: {row.install}."
    problem = importlib.import_module(row.probe).problem() if row.probe else None
    return None if problem is None else f"back end {name!r} needs {problem}."


@functools.cache
def load(name: str) -> Backend:
    """Return the back end, imported on first use, or raise `BackendError`."""
    reason = unavailable(name)
    if reason is not None:
        raise BackendError(reason)
    module = cast(Backend, importlib.import_module(_row(name).module, __name__))
    _serving.add(name)
    return module


def kernels(name: str, room: str) -> Any:
    """Return a back end's module of kernels, one of `ROOMS`, imported on first use.

    Raises
    ------
    BackendError
        The back end cannot serve, or has no such room.
    """
    load(name)
    return _kernels(name, room)


@functools.cache
def _kernels(name: str, room: str) -> Any:
    if importlib.util.find_spec(f"qengine.kernels.{name}.{room}") is None:
        raise BackendError(f"back end {name!r} has no kernels for {ROOMS[room]}: use backend='cpu'.")
    return importlib.import_module(f"qengine.kernels.{name}.{room}")


def device_backend() -> DeviceBackend:
    """Return the back end of device arrays."""
    return cast(DeviceBackend, load("cuda"))


def use_backend(name: str) -> contextlib.AbstractContextManager[None]:
    """Choose the back end for a block of code (per thread and per task); without ``with`` it changes nothing.

    Parameters
    ----------
    name : str
        ``reference``, ``cpu`` or ``cuda``.

    Returns
    -------
    context manager
        The choice before holds again when the block ends.

    Raises
    ------
    UnknownNameError, BackendError
        At once, before the block, if the name is unknown or the back end cannot serve.

    Examples
    --------
    >>> import qengine as qe
    >>> with qe.use_backend("reference"):
    ...     qe.requantize([-2, 2], qe.QuantizedMultiplier(1 << 30, -1), scheme="single")   # ties: toward +inf
    array([0, 1], dtype=int32)
    """
    load(_row(name).name)
    return _chosen_is(name)


@contextlib.contextmanager
def _chosen_is(name: str) -> Iterator[None]:
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def _interface(array: Any) -> Any:
    """Return the ``__cuda_array_interface__``: None without one, False where its package refuses to give it."""
    try:
        return getattr(array, "__cuda_array_interface__", None)
    except Exception:  # whatever a package raises: PyTorch a RuntimeError for tensors that record gradients
        return False


def on_device(array: Any) -> bool:
    """Tell whether an array lives on a CUDA device, without importing anything."""
    if isinstance(array, np.ndarray):
        return False
    device = getattr(array, "__dlpack_device__", None)
    if device is not None:
        # Asked first: it answers for tensors that record gradients too, which refuse everything else.
        with contextlib.suppress(Exception):  # a package may have devices that DLPack has no number for
            return int(device()[0]) in (2, 13)
    return _interface(array) is not None


def read_only(array: Any) -> bool:
    """Tell whether a device array says that it must not be written, which not every package does."""
    interface = _interface(array)
    return isinstance(interface, dict) and bool(interface["data"][1])


def refuse_device(name: str, value: Any) -> None:
    """Raise if a value that is checked on the host lives on a device."""
    if on_device(value):
        raise DTypeError(
            f"{name} must be on the host, where it is checked; got {type(value).__name__} on a CUDA device: copy it "
            "first."
        )


def parameter(name: str, value: Any) -> npt.NDArray[Any]:
    """Return a number or an array of numbers, of the host, as a NumPy array of whatever dtype."""
    if isinstance(value, np.ndarray):
        return _plain(name, value)
    refuse_device(name, value)
    _refuse_gradients(name, value)
    return _converted(name, value)


def _plain(name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array whose methods are NumPy's own: a matrix stays 2-D whatever its shape is set to."""
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError(f"{name} must not be a masked array: pass x.compressed(), or x.filled(value).")
    return np.asarray(value)


def _refuse_gradients(name: str, value: Any) -> None:
    if getattr(value, "requires_grad", False) is True:
        raise DTypeError(f"{name} must not record gradients: codes have none. Detach it first: x.detach().")


def _converted(name: str, value: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        some = value if isinstance(value, (list, tuple)) else ()
        advice = " Join the arrays where they are, or copy them to the host first." * any(map(on_device, some))
        why = str(error).rstrip(".")
        raise DTypeError(f"{name} must be an array of numbers; got {type(value).__name__}: {why}.{advice}") from None


def named(backend: str | None) -> str | None:
    """Return the name that was asked for, if any: whether this machine has it is not looked at."""
    name = backend if backend is not None else _chosen.get() or os.environ.get(ENVIRONMENT) or None
    return name if name is None else _row(name).name


def choose(backend: str | None, *arrays: Any) -> str:
    """Return the name of the back end that serves a call, by the module's rule."""
    name = backend if backend is not None else _chosen.get() or os.environ.get(ENVIRONMENT) or None
    device = None
    for array in arrays:
        if type(array) is not np.ndarray and on_device(array):
            device = array
            break
    if name is None:
        name = "cuda" if device is not None else "cpu"
    if type(name) is not str or name not in _serving:
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
    if type(value) is np.ndarray:
        return value
    if not on_device(value):
        return as_numpy(name, value)
    _refuse_gradients(name, value)
    return cast(npt.NDArray[Any], device_backend().adopt(name, value))


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
    if isinstance(value, np.ndarray):
        return _plain(name, value)
    if value is None:
        raise DTypeError(f"{name} must be an array of numbers; got None.")
    _refuse_gradients(name, value)
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    array = _converted(name, value)
    if array.dtype.kind == "O":
        raise DTypeError(f"{name} must hold numbers that fit 64 bits; got {brief(value)}.")
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
