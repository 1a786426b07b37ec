"""Arrays that a caller gives for results (``out=``): checked before anything is computed, written where they lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError, DTypeError
from . import DeviceBackend, adopt, choose, device_backend, on_device, read_only

Array = npt.NDArray[Any]


def call_into(backend: str | None, name: str, value: Any, out: Any, work: Callable[[Any, str, Array, Any], Any]) -> Any:
    """Call ``work(array package, back end's name, array, out)`` where an array lives; return `out` or the result there.

    On a device: with the array's device as the current one, the result handed over as the kind of `value`. `out` may be
    None; it lives where the array does, or `DTypeError` says so.
    """
    chosen = choose(backend, value) if out is None else choose(backend, value, out)
    array = adopt(name, value)
    if isinstance(array, np.ndarray):
        if out is not None and not isinstance(out, np.ndarray):
            raise DTypeError(f"out must be a NumPy array; got {type(out).__name__}.")
        return work(np, chosen, array, out)
    if out is not None and not on_device(out):
        raise DTypeError(f"out must be an array on a CUDA device, as {name} is; got {type(out).__name__}.")
    engine = device_backend()
    given = None if out is None else _on_same_device(engine, name, array, out)
    with engine.on_device_of(array):
        result = work(engine.array_module(), chosen, array, given)
        handed = engine.hand_over(result, value if out is None else out)
    return handed if out is None else out


def _on_same_device(engine: DeviceBackend, name: str, array: Any, out: Any) -> Any:
    """Return a caller's device array to write into, once it is where `array` is and says that it is writable."""
    if read_only(out):
        raise DomainError("out must be writable; got a read-only array.")
    given = adopt("out", out)
    numbers = engine.device_number_of(array), engine.device_number_of(given)
    if numbers[0] != numbers[1]:
        raise DomainError(f"out must be on the device of {name}, {numbers[0]}; got an array on device {numbers[1]}.")
    return given


def aligned(array: Array) -> bool:
    """Tell whether elements lie at multiples of their size; those of a device always do."""
    return not isinstance(array, np.ndarray) or array.flags.aligned


def target(arrays: Any, out: Array | None, shape: tuple[int, ...], dtype: Any, source: Array) -> tuple[Array, Array]:
    """Return (result, what a kernel that reads `source` writes): C-contiguous, and of no memory that it reads.

    Where the two differ the caller copies the second into the first.
    """
    if out is None:
        fresh: Array = arrays.empty(shape, dtype)
        return fresh, fresh
    if out.shape != shape or out.dtype != dtype:
        wanted = np.dtype(dtype).name
        raise DomainError(f"out must have shape {shape} and dtype {wanted}; got {out.shape} and {out.dtype.name}.")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise DomainError("out must be writable; got a read-only array.")
    direct = out.flags.c_contiguous and aligned(out) and not arrays.may_share_memory(out, source)
    return out, out if direct else arrays.empty(shape, dtype)
