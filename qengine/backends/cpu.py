"""The Numba back end: `qengine.kernels.cpu` over threads."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.cpu import requantize as kernels
from qengine.kernels.cpu import runs
from qengine.kernels.cpu.jit import ZERO, read_only

from ..exceptions import DomainError
from .forms import INT32_MAX, INT32_MIN, ROUNDING_CODES, Epilogue, FloatRule, FloorRule, Form
from .quantizers import KEPT_SETS, ErrorPlan, ErrorTile, Quantizer

#: Arrays of at least this many elements are split over threads; below, starting threads costs more.
PARALLEL_FROM = 1 << 20
#: float32 holds every whole number up to this one; bounds beyond it are applied after the rounding.
FLOAT32_WHOLE = 1 << 24
_Call = Callable[[npt.NDArray[Any], npt.NDArray[Any]], None]


def thread_count() -> int:
    """Return the number of threads: ``QENGINE_NUM_THREADS``, or the processors this process may use."""
    setting = os.environ.get("QENGINE_NUM_THREADS", "")
    if setting:
        if not (setting.isdecimal() and len(setting) <= 4 and 1 <= int(setting) <= 4096):
            raise DomainError(f"QENGINE_NUM_THREADS must be an integer in [1, 4096]; got {setting!r}.")
        return int(setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="qengine")


if hasattr(os, "register_at_fork"):  # a forked child has no threads: let it make its own pool
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _split(length: int, parts: int) -> list[slice]:
    # Multiples of 64 elements keep the cache lines of the output apart.
    step = max(64, -(-length // parts + 63) // 64 * 64)
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def _threaded(run: Callable[[slice], None], length: int, size: int) -> None:
    workers = thread_count() if size >= PARALLEL_FROM else 1
    if workers == 1 or length < 2:
        run(slice(0, length))
        return
    parts = _split(length, workers) if length >= 64 * workers else [slice(i, i + 1) for i in range(length)]
    for future in [_pool(workers).submit(run, part) for part in parts]:
        future.result()


def requantize(acc: npt.NDArray[Any], form: Form, epilogue: Epilogue, out: npt.NDArray[Any]) -> None:
    """Requantize a C-contiguous (outer, channels, inner) array into `out`."""
    if acc.size == 0:
        return
    if form.channels == 1:
        x = acc.reshape(-1)  # a view of its own
        x.flags.writeable = False
        run = _tensor(form, epilogue, x.dtype, out.dtype)
        if x.size < PARALLEL_FROM:
            run(x, out.reshape(-1))
            return
        y = out.reshape(-1)
        _threaded(lambda part: run(x[part], y[part]), x.size, x.size)
        return
    acc = read_only(acc)
    whole = _all_channels(form, epilogue) if form.channels <= KEPT_SETS else _channels(form, epilogue, slice(None))
    if acc.size < PARALLEL_FROM:
        whole(acc, out)
    elif acc.shape[0] >= thread_count():
        _threaded(lambda part: whole(acc[part], out[part]), acc.shape[0], acc.size)
    else:
        _threaded(lambda part: _channels(form, epilogue, part)(acc[:, part], out[:, part]), acc.shape[1], acc.size)


@functools.lru_cache(maxsize=128)
def _all_channels(form: Form, epilogue: Epilogue) -> _Call:
    """Return the kernel call for all channels; forms of few are cached by their callers."""
    return _channels(form, epilogue, slice(None))


@functools.lru_cache(maxsize=4096)
def _tensor(form: Form, epilogue: Epilogue, acc: np.dtype[Any], out: np.dtype[Any]) -> _Call:
    """Return the kernel call for one multiplier, taking flat (acc, out); forms are cached by their callers."""
    if not (isinstance(form.rule, FloorRule) and acc == np.int32 and out.itemsize < 8):
        channels = _channels(form, epilogue, slice(None))
        return lambda x, y: channels(x.reshape(1, 1, -1), y.reshape(1, 1, -1))
    arrays = (form.a, form.bp, form.bn, form.t, epilogue.low, epilogue.high, epilogue.zero_point)
    a, bp, bn, t, low, high, z = (int(array[0]) for array in arrays)
    wrap, qmin, qmax = epilogue.wrap, epilogue.qmin, epilogue.qmax
    whole = z == 0 and low == INT32_MIN and high == INT32_MAX
    bare = (qmin == INT32_MIN and qmax == INT32_MAX) or not wrap
    if out == np.int32 and whole and bare:
        return lambda x, y: kernels.floor_words_tensor(x, a, bp, bn, t, ZERO, y)
    return lambda x, y: kernels.floor_tensor(x, a, bp, bn, t, low, high, z, wrap, qmin, qmax, ZERO, y)


def _channels(form: Form, epilogue: Epilogue, part: slice) -> _Call:
    """Return the kernel call for the channels of `part`, taking (acc, out); one channel has no rows."""
    many = form.channels > 1
    rule, z = form.rule, epilogue.zero_point[part]
    low, high = epilogue.low[part], epilogue.high[part]
    wrap, qmin, qmax = epilogue.wrap, epilogue.qmin, epilogue.qmax
    if isinstance(rule, FloorRule):
        numbers = (form.a[part].astype(np.int32), form.bp[part], form.bn[part], form.t[part], low, high, z)

        def floor(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
            if many and x.shape[2] == 1:
                kernels.floor_rows(x[..., 0], *numbers, wrap, qmin, qmax, y[..., 0])
                return
            narrow = x.dtype == np.int32 and y.itemsize < 8
            kernel = kernels.floor_channels if narrow else kernels.floor_channels64
            kernel(x, *numbers, wrap, qmin, qmax, ZERO, y)

        return floor
    if isinstance(rule, FloatRule):
        rounding = ROUNDING_CODES[rule.rounding]
        scale = form.scale[part]
        if wrap:
            top = (qmax - z).astype(np.float64) if rule.clamps_before_conversion else np.full(z.shape, 2.0**62)
            return lambda x, y: kernels.float_wrapped(x, scale, rule.bits, rounding, top, z, qmin, qmax, y)
        clamped = epilogue.clamped
        last: tuple[Any, ...]
        if rule.bits == 32 and clamped and max(np.abs(low).max(), np.abs(high).max()) > FLOAT32_WHOLE:
            last = scale.astype(np.float32), rounding, rule.zero_point_inside, low, high, z
            return lambda x, y: kernels.float32_bounded(x, *last, y)
        if rule.bits == 32:
            last = (
                scale.astype(np.float32), rounding, rule.zero_point_inside, low, high, z, clamped
            )  # fmt: skip
            kernel, rows = kernels.float32_channels, kernels.float32_rows
        else:
            last = (scale, low, high, z, clamped)
            kernel, rows = kernels.float64_channels, kernels.float64_rows
        return lambda x, y: rows(x[..., 0], *last, y[..., 0]) if many and x.shape[2] == 1 else kernel(x, *last, y)
    nested = (form.a[part], form.t[part], z, qmin, qmax)

    def nested16(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
        if many and x.shape[2] == 1:
            kernels.nested16_rows(x[..., 0], *nested, y[..., 0])
        else:
            kernels.nested16(x, *nested, y)

    return nested16


def sweep_tile(work: Any, start: int, stop: int) -> Any:
    """Return the tally of the pairs with indices in ``[start, stop)``."""
    from qengine.kernels.cpu import sweep

    return sweep.tile(work, start, stop)


def _elementwise(step: str, quantizer: Quantizer, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """Return the call of `kernels.cpu.quantize` or `dequantize` for a quantizer and a type of elements."""
    from qengine.kernels.cpu import dequantize, quantize

    making: dict[str, Callable[..., Any]] = {
        "quantize": quantize.quantizing, "dequantize": dequantize.dequantizing
    }  # fmt: skip
    run: Callable[..., Any] = making[step](quantizer, dtype)
    return run


#: Kept where quantizers are kept (`qengine.affine.quantize`): of one scale many, of channels few, and fewer of those
#: whose tables are written out at length, to 3 MiB each.
_of_one_scale = functools.lru_cache(maxsize=1024)(_elementwise)
_of_channels = functools.lru_cache(maxsize=64)(_elementwise)
_written_out = functools.lru_cache(maxsize=8)(_elementwise)


def _kept(step: str, quantizer: Quantizer, dtype: np.dtype[Any]) -> Callable[..., Any]:
    if quantizer.scales.size == 1:
        return _of_one_scale(step, quantizer, dtype)
    if quantizer.scales.size > KEPT_SETS:
        return _elementwise(step, quantizer, dtype)
    kept = _written_out if runs.columns(quantizer.layout) > KEPT_SETS else _of_channels
    return kept(step, quantizer, dtype)


def quantize(x: npt.NDArray[Any], quantizer: Quantizer, out: npt.NDArray[Any]) -> bool:
    """Quantize flat x into codes; return whether all of x is finite (if not, the codes mean nothing)."""
    x = read_only(x)
    run = _kept("quantize", quantizer, x.dtype)
    if x.size < PARALLEL_FROM:
        return bool(run(x, 0, out))
    finite: list[bool] = []
    _threaded(lambda part: finite.append(run(x[part], part.start, out[part])), x.size, x.size)
    return all(finite)


def dequantize(q: npt.NDArray[Any], quantizer: Quantizer, out: npt.NDArray[Any]) -> None:
    """Write what flat codes stand for, float32 or float64."""
    q = read_only(q)
    run = _kept("dequantize", quantizer, q.dtype)
    if q.size < PARALLEL_FROM:
        run(q, 0, out)
    else:
        _threaded(lambda part: run(q[part], part.start, out[part]), q.size, q.size)


def encode_by_table(x: npt.NDArray[np.float32], table: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> bool:
    """Encode flat x by a table of `qengine.kernels.cpu.formats.encode_by_table`; return whether all is finite."""
    from qengine.kernels.cpu import formats

    words, table = read_only(x.view(np.uint32)), read_only(table)
    finite: list[bool] = []
    _threaded(lambda part: finite.append(formats.encode_by_table(words[part], table, out[part])), x.size, x.size)
    return all(finite)


def encode_float(x: npt.NDArray[np.float32], numbers: tuple[float, ...], out: npt.NDArray[np.uint8]) -> bool:
    """Encode flat x, ties to even, by the numbers of `formats.encode_float`; return whether all is finite."""
    from qengine.kernels.cpu import formats

    x = read_only(x)
    finite: list[bool] = []
    _threaded(lambda part: finite.append(formats.encode_float(x[part], *numbers, out[part])), x.size, x.size)
    return all(finite)


def error_tile(x: npt.NDArray[Any], first: int, plan: ErrorPlan) -> ErrorTile:
    """Sum up the errors of flat x, whose element 0 is element `first` of its tensor."""
    from qengine.kernels.cpu import errors

    bad = np.zeros(2, np.int64)
    parts: tuple[Any, ...] = errors.tile(*(read_only(x), first, *plan.arguments, bad))
    return ErrorTile(*parts, *bad.tolist())
