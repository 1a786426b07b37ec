"""The CUDA back end: `qengine.kernels.cuda` on CuPy arrays, or on anything that lives on a CUDA device.

Work goes to the caller's current device and stream, and nothing waits for it, but for what each function says. A host
array that is sent here by name (``backend="cuda"``) is copied to the device and its result back, piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import DRAW_GROUP
from qengine.kernels.cuda import affine, errors, load
from qengine.kernels.cuda import requantize as kernels
from qengine.kernels.cuda.load import PIECE

from ..exceptions import DTypeError
from .forms import ROUNDING_CODES, Epilogue, FloatRule, FloorRule, Form
from .quantizers import ErrorPlan, ErrorTile, Quantizer


def adopt(name: str, value: Any) -> Any:
    """Return a CuPy array over the memory of a device array (``__cuda_array_interface__`` or DLPack), not a copy."""
    try:
        array = load.adopt(value)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        why = str(error).rstrip(".")
        raise DTypeError(f"{name} must be a device array that CuPy takes; got {type(value).__name__}: {why}.") from None
    if array.data.ptr % array.dtype.itemsize:
        raise DTypeError(f"{name} must start at a multiple of its item size, {array.dtype.itemsize} bytes.")
    return array


def hand_over(array: Any, like: Any) -> Any:
    """Return a device array as the kind of `like` where its package takes DLPack, else as a CuPy array."""
    return load.hand_over(array, like)


def on_device_of(array: Any) -> AbstractContextManager[Any]:
    """Return a context in which the array's device is the current one."""
    context: AbstractContextManager[Any] = load.device_of(array)
    return context


def device_number_of(array: Any) -> int:
    """Return the number of the device that a CuPy array lives on."""
    number: int = load.device_number_of(array)
    return number


def array_module() -> Any:
    """Return CuPy."""
    return load.array_module()


def _plan(form: Form, epilogue: Epilogue) -> tuple[npt.NDArray[Any], int]:
    """Return the kernels' records, one a channel, and the code of the rule."""
    rule, z, wrap = form.rule, epilogue.zero_point, epilogue.wrap
    bounds = epilogue.low, epilogue.high
    if isinstance(rule, FloorRule):
        table = kernels.floor_table(form.a, form.bp, form.bn, form.t, *bounds, z)
        return table, kernels.FLOOR_WRAPPED if wrap else kernels.FLOOR
    if isinstance(rule, FloatRule):
        code = kernels.float_rule(rule.bits, ROUNDING_CODES[rule.rounding], rule.zero_point_inside, wrap)
        top = epilogue.qmax - z if rule.clamps_before_conversion else np.full(z.shape, 2.0**62)
        return kernels.float_table(form.scale, top, *bounds, z), code
    return kernels.nested_table(form.a, form.t, z), kernels.NESTED16


def requantize(acc: Any, form: Form, epilogue: Epilogue, out: Any) -> None:
    """Requantize a C-contiguous (outer, channels, inner) array, of device or host, into `out` of the same kind."""
    table, rule = _plan(form, epilogue)
    limits = epilogue.qmin, epilogue.qmax
    if not isinstance(acc, np.ndarray):
        kernels.requantize(acc, table, rule, *limits, out)
        return
    arrays = load.array_module()
    for outer, channels, inner in _pieces(acc.shape):
        part = table if table.size == 1 else table[channels]
        source = np.ascontiguousarray(acc[outer, channels, inner])
        result = arrays.empty(source.shape, out.dtype)
        kernels.requantize(arrays.asarray(source), part, rule, *limits, result)
        out[outer, channels, inner] = result.get()


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    """Cut (outer, channels, inner) into boxes of at most `PIECE` elements, outermost axis first."""
    outer, channels, inner = shape
    k = min(inner, PIECE)
    c = min(channels, max(1, PIECE // max(k, 1)))
    o = max(1, PIECE // max(k * c, 1))
    for i in range(0, outer, o):
        for j in range(0, channels, max(c, 1)):
            for at in range(0, inner, max(k, 1)):
                yield slice(i, i + o), slice(j, j + c), slice(at, at + k)


def outside(acc: Any, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> int | None:
    """Return the flat index of the first accumulator of a device array that is outside its channel's closed range.

    The one function of a requantization that waits for the device, since its answer decides whether an error is
    raised. It is not called where every accumulator of the type is inside.
    """
    found: int | None = kernels.outside(acc, low, high)
    return found


def sweep_tile(work: Any, start: int, stop: int) -> Any:
    """Return the tally of the pairs with indices in ``[start, stop)``; it lives on the host, so this waits."""
    from qengine.kernels.cuda import sweep

    return sweep.tile(work, start, stop)


def devices() -> int:
    """Return how many devices are visible."""
    count: int = load.devices()
    return count


def device_number() -> int:
    """Return the number of the current device."""
    number: int = load.device_number()
    return number


def use_device(number: int) -> AbstractContextManager[Any]:
    """Return a context in which the device of that number is the current one of this thread."""
    context: AbstractContextManager[Any] = load.device(number)
    return context


def quantize(x: npt.NDArray[Any], quantizer: Quantizer, out: npt.NDArray[Any]) -> bool:
    """Quantize flat x into codes; return whether all of x is finite (if not, the codes mean nothing).

    Waits for the device once, for that answer. Pieces of host arrays begin at groups of draws.
    """
    q = quantizer
    plan = affine.plan(q.row, q.layout, q.scales, q.zero_points, x.dtype)
    arrays = load.array_module()
    flag = arrays.zeros(1, np.uint32)
    if not isinstance(x, np.ndarray):
        affine.quantize(x, 0, plan, out, flag)
        return not flag[0]
    for part in _parts(x.size):
        source = arrays.asarray(x[part])
        result = arrays.empty(source.shape, out.dtype)
        affine.quantize(source, part.start, plan, result, flag)
        result.get(out=out[part])
    return not flag[0]


def dequantize(q: npt.NDArray[Any], quantizer: Quantizer, out: npt.NDArray[Any]) -> None:
    """Write what flat codes stand for, float32 or float64; codes of a device array are not waited for."""
    width = q.dtype if q.dtype in affine.CODES else np.dtype(np.int32)  # every code fits int32
    plan = affine.code_plan(quantizer.row, quantizer.layout, quantizer.scales, quantizer.zero_points, width)
    if not isinstance(q, np.ndarray):
        affine.dequantize(q.astype(width, copy=False), 0, plan, out)
        return
    arrays = load.array_module()
    for part in _parts(q.size):
        source = arrays.asarray(q[part].astype(width, copy=False))
        result = arrays.empty(source.shape, out.dtype)
        affine.dequantize(source, part.start, plan, result)
        result.get(out=out[part])


def codes_outside(q: Any, low: int, high: int) -> int | None:
    """Return the flat index of the first code of a contiguous device array outside the closed range, or None.

    Waits for the device, but where the type holds no such code.
    """
    found: int | None = affine.outside(q, low, high)
    return found


def _parts(size: int) -> Iterator[slice]:
    """Cut a flat array into pieces of about `PIECE` elements that begin at groups of draws."""
    step = max(PIECE // DRAW_GROUP, 1) * DRAW_GROUP
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def error_tile(x: npt.NDArray[Any], first: int, plan: ErrorPlan) -> ErrorTile:
    """Sum up the errors of flat x, whose element 0 is element `first` of its tensor; waits for the device."""
    (tile,) = error_tiles(x, first, plan, x.size)
    return tile


def error_tiles(x: Any, first: int, plan: ErrorPlan, size: int) -> list[ErrorTile]:
    """Sum up the errors of every tile of `size` elements of flat x, of device or host; waits for the device.

    Element 0 of x is element `first` of its tensor and begins a tile. Codes and errors are counted over all tiles
    together, and stand in the first one's result.
    """
    prepared = errors.prepare(plan)
    parts = errors.tiles(prepared, load.array_module().asarray(x), first, size)
    sums, counts, extremes, codes, bins, bad, firsts = parts
    none = np.zeros_like(codes), np.zeros_like(bins)
    return [
        ErrorTile(
            sums[k],
            counts[k],
            extremes[k],
            *((codes, bins) if k == 0 else none),
            int(bad[k, 0]),
            int(bad[k, 1]),
            firsts[k],
        )
        for k in range(sums.shape[0])
    ]


def tiles_at_once(plan: ErrorPlan, size: int) -> int:
    """Return how many tiles of `size` elements one call of `error_tiles` should be given."""
    number: int = errors.tiles_at_once(errors.prepare(plan), size)
    return number
