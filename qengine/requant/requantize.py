"""The public functions: validate once, derive the form, choose the back end, call it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import first_index, first_value, index_text, integer, real
from ..backends import outputs
from ..backends.forms import INT32_MAX, INT32_MIN, FloorRule
from ..backends.quantizers import KEPT_SETS
from ..exceptions import DomainError, DTypeError, brief
from . import recipes
from .binding import Bound, bind, checked_zero_points, clamp_limits, output_dtype, take_channels, wraps
from .forms import derive, wrapped_left_shift
from .layout import channel_axis, fold
from .multiplier import QuantizedMultiplier
from .schemes import Scheme, get_scheme

_INT32 = np.dtype(np.int32)


def _accumulators(acc: Any, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array that was made of `acc` as int32 or int64."""
    if array.dtype == _INT32:
        return array
    if array.dtype == np.int64:
        # Python integers arrive as int64: they mean int32 accumulators wherever they fit.
        typed = hasattr(acc, "dtype") or not isinstance(array, np.ndarray)
        typed = typed or bool(array.size and (array.min() < INT32_MIN or array.max() > INT32_MAX))
        return array if typed else array.astype(np.int32)
    if array.dtype.kind not in "iu":
        advice = " Round explicitly before you requantize." if array.dtype.kind == "f" else ""
        raise DTypeError(f"acc must hold integers (int32 or int64 accumulators); got dtype {array.dtype}.{advice}")
    if array.dtype == np.uint64:
        bad = array > np.uint64(2**63 - 1)
        if bad.any():
            raise DomainError(f"acc must fit int64; got {first_value(array, bad)}{first_index(bad)}.")
    narrow = array.dtype.itemsize < 4 or (array.dtype.itemsize == 4 and array.dtype.kind == "i")
    return array.astype(np.int32 if narrow else np.int64)


def _first_outside(acc: npt.NDArray[Any], low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> int | None:
    """Return the flat index of the first accumulator outside its channel's range."""
    if low.size == 1:
        fits = int(acc.min()) >= int(low[0]) and int(acc.max()) <= int(high[0])
    else:
        fits = bool((acc.min(axis=(0, 2)) >= low).all() and (acc.max(axis=(0, 2)) <= high).all())
    return None if fits else int(np.argmax((acc < low[:, None]) | (acc > high[:, None])))


def _check_accumulators(
    scheme: Scheme,
    acc: npt.NDArray[Any],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
    shape: tuple[int, ...],
    exponent: npt.NDArray[np.int64],
    wrap: bool,
) -> None:
    info = np.iinfo(acc.dtype)
    if acc.size == 0 or (int(low.max()) <= info.min and int(high.min()) >= info.max):
        return
    find = _first_outside if isinstance(acc, np.ndarray) else backends.device_backend().outside
    at = find(acc, low, high)
    if at is None:
        return
    channel = at // acc.shape[2] % acc.shape[1]
    got = int(acc.reshape(-1)[at])
    shifts = isinstance(scheme.rule, FloorRule) and scheme.rule.shifts_accumulator
    left = int(exponent[channel]) if shifts else 0
    why = f"a left shift by {left} overflows int32" if left > 0 else "the result leaves int32"
    if not -(1 << (scheme.acc_bits - 1)) <= got < 1 << (scheme.acc_bits - 1):
        why = f"accumulators of this scheme have {scheme.acc_bits} bits"
    raise DomainError(
        f"acc must be in [{int(low[channel])}, {int(high[channel])}] for scheme {scheme.name!r} with this "
        f"multiplier; got {got}{index_text(at, shape)}: {why} (the original: {scheme.overflow})."
        + (" Use overflow='wrap' to reproduce the original." if wraps(scheme) and not wrap else "")
    )


def _overflow(overflow: str, row: Scheme) -> bool:
    if not isinstance(overflow, str) or overflow not in ("error", "wrap"):
        raise DomainError(f"overflow must be 'error' or 'wrap'; got {brief(overflow)}.")
    return overflow == "wrap" and wraps(row)


@functools.lru_cache(maxsize=4096)
def _prepare_one(
    scheme: str | Scheme, multiplier: QuantizedMultiplier | float, zero_point: int,
    chosen: np.dtype[Any], qmin: int | None, qmax: int | None, wrap: bool,
) -> tuple[Bound, bool]:  # fmt: skip
    """Prepare one multiplier with one zero point; cached, since the same few come again and again."""
    row = get_scheme(scheme)
    zero_points = checked_zero_points(zero_point, chosen).reshape(1)
    limits = clamp_limits(chosen, qmin, qmax)
    form = derive(row, multiplier)
    prepared = bind(row, form, zero_points, chosen, limits, wrap)
    return prepared, prepared.total


def requantize(
    acc: Any,
    multiplier: Any,
    *,
    scheme: str | Scheme = "single",
    zero_point: Any = 0,
    dtype: npt.DTypeLike | None = None,
    qmin: int | None = None,
    qmax: int | None = None,
    axis: int | None = None,
    backend: str | None = None,
    out: npt.NDArray[Any] | None = None,
    overflow: str = "error",
) -> npt.NDArray[Any]:
    """Requantize integer accumulators with one scheme, bit for bit.

    ``clamp(round_scheme(acc * M) + zero_point, qmin, qmax)``, where the scheme says how ``acc * M`` is
    multiplied and rounded (see ``qe.get_scheme(name).formula``), and where the zero point enters.

    Parameters
    ----------
    acc : integer array_like
        Accumulators, bias added; int32, or int64 for the 48-bit schemes (``int16x8``, ``tosa-scale16``).
        Never written; strided and read-only arrays work. Arrays on a CUDA device (CuPy, PyTorch, anything with
        ``__cuda_array_interface__`` or DLPack) stay there, on the caller's current stream.
    multiplier : QuantizedMultiplier, float or float array
        Fixed point (``value`` Q0.31, ``shift > 0`` is left), or the real number from which every scheme takes
        what it needs: Q0.31, a float32 scale or a float64.
    scheme : str or Scheme
        Name or alias; `qengine.schemes` lists them.
    zero_point : int or integer array
        Output zero point, added (after the rounding unless the scheme says inside). Closed range: that of
        `dtype`; ``[-32768, 65535]`` for raw outputs.
    dtype : {int8, uint8, int16, int32, int64}, optional
        The first three clamp to the type; int32 and int64 are raw. Default: raw, the type of `acc`.
    qmin, qmax : int, optional
        Narrower closed clamp, within the type.
    axis : int, optional
        Channel axis: multiplier and zero_point are 1-D along it. Default: they broadcast as in NumPy.
    backend : {"reference", "cpu", "cuda"}, optional
        See `qengine.backends`.
    out : array, optional
        Result array of the right shape and dtype, writable; on the device of a device `acc`. What a package exports as
        read-only by DLPack alone CuPy takes without a word: it is written.
    overflow : {"error", "wrap"}
        What to do where the original's contract ends: raise, or reproduce what the original's int32 arithmetic
        gives on x86-64 (``x << e`` and the sum with the zero point modulo 2**32, conversion to INT32_MIN).
        Schemes whose original saturates have nothing to wrap and raise all the same.

    Returns
    -------
    ndarray
        Shape of acc broadcast with the multiplier; values in ``[qmin, qmax]``. The same bits on every back end. Of
        a device array: on its device, of its kind where its package takes DLPack (PyTorch, JAX), else CuPy's.

    Raises
    ------
    DomainError
        A multiplier, zero point or accumulator outside the scheme's domain; names the value and its index.
    DTypeError, UnknownNameError, BackendError
        Wrong types; unknown names; a back end that cannot serve.

    Notes
    -----
    The first call for a combination of types compiles a kernel (kept on disk). A strided acc is made contiguous
    first. Arrays of 2**20 elements and more are split over threads (``QENGINE_NUM_THREADS``).

    On a device the call returns before the work is done, but where the domain leaves out some accumulators of the
    type (``qe.get_scheme(name).overflow``): one kernel looks for them, and the call waits for its answer. With
    ``backend="cuda"`` a host array is copied to the device and its result back.

    Examples
    --------
    >>> import qengine as qe
    >>> quarter = qe.QuantizedMultiplier(1 << 30, -1)
    >>> qe.requantize([2, -2, 1, -3], quarter, scheme="single")      # ties 0.5, -0.5: toward +inf
    array([ 1,  0,  0, -1], dtype=int32)
    >>> qe.requantize([2, -2, 1, -3], quarter, scheme="double")      # 0.25 -> 0.5 -> 1: rounded twice
    array([ 1, -1,  1, -1], dtype=int32)
    >>> qe.requantize([2, -2, 1, -3], quarter, scheme="fp32", zero_point=-128, dtype="int8")
    array([-128, -128, -128, -128], dtype=int8)
    """
    if not isinstance(scheme, str):
        scheme = get_scheme(scheme)
    if type(multiplier) is not float:
        backends.refuse_device("multiplier", multiplier)
    if type(zero_point) is not int:
        backends.refuse_device("zero_point", zero_point)
    if not isinstance(multiplier, (QuantizedMultiplier, int, float, np.number)):
        multiplier = backends.parameter("multiplier", multiplier)

    def work(arrays: Any, name: str, array: npt.NDArray[Any], given: Any) -> npt.NDArray[Any]:
        array = _accumulators(acc, array)
        return _requantize(
            arrays, name, array, multiplier, scheme, zero_point, dtype, qmin, qmax, axis, given, overflow
        )

    result: npt.NDArray[Any] = outputs.call_into(backend, "acc", acc, out, work)
    return result


def _requantize(
    arrays: Any, name: str, array: npt.NDArray[Any], multiplier: Any, scheme: str | Scheme, zero_point: Any, dtype: Any,
    qmin: int | None, qmax: int | None, axis: int | None, out: npt.NDArray[Any] | None, overflow: str,
) -> npt.NDArray[Any]:  # fmt: skip
    """Requantize arrays of one package, NumPy or CuPy, which `arrays` is."""
    if dtype is None and out is not None:
        dtype = out.dtype
    # Checked before they are keys of a cache, to which True and 1.0 are 1.
    row, chosen = get_scheme(scheme), output_dtype(dtype, array.dtype)
    qmin = None if qmin is None else integer("qmin", qmin)
    qmax = None if qmax is None else integer("qmax", qmax)
    wrap = _overflow(overflow, row)
    scalar = type(multiplier) is float
    if isinstance(multiplier, QuantizedMultiplier):
        scalar = multiplier.shape == ()
    elif not scalar and np.ndim(multiplier) == 0:
        multiplier, scalar = _real(multiplier), True
    if scalar and type(zero_point) is int:
        prepared, total = _prepare_one(scheme, multiplier, zero_point, chosen, qmin, qmax, wrap)
        if axis is not None:
            channel_axis(axis, array.ndim)
        shape: tuple[int, ...] = array.shape
        folded = (1, 1, array.size)
    else:
        total = False
        others = chosen, qmin, qmax, axis, wrap
        keys = _keys(multiplier, zero_point) if axis is None or type(axis) is int else None
        if keys is None:
            shape, folded, prepared = _prepare_many(scheme, array.shape, multiplier, zero_point, *others)
        else:
            shape, folded, prepared = _prepare_again(scheme, array.shape, *keys, *others)
        if array.shape != shape:
            array = arrays.broadcast_to(array, shape)

    # Kernels read two int32 as one int64 and write whole cache lines: both sides start at their own alignment.
    work = (arrays.ascontiguousarray(array) if outputs.aligned(array) else array.copy()).reshape(folded)
    form, epilogue = prepared.form, prepared.epilogue
    if not (total and work.dtype == _INT32):
        _check_accumulators(prepared.row, work, *prepared.domain, shape, form.exponent, epilogue.wrap)
    if epilogue.wrap:
        split = wrapped_left_shift(form)
        if split is not None:
            work = (work.astype(np.int64) << arrays.asarray(split[0])[:, None]).astype(np.int32)
            form = split[1]

    result, target = outputs.target(arrays, out, shape, prepared.dtype, work)
    backends.load(name).requantize(work, form, epilogue, target.reshape(folded))
    if target is not result:
        result[...] = target
    return result


def _real(multiplier: Any) -> float:
    return real("multiplier", multiplier[()] if isinstance(multiplier, np.ndarray) else multiplier)


def _keys(multiplier: Any, zero_point: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """Return keys of a cache by content: an array that is written over is another.

    None where what follows is much (many sets, or more than one axis of them), or a content does not say all.
    """
    first, second = _key(multiplier), _key(zero_point)
    if first is None or second is None:
        return None
    shape = multiplier.shape if isinstance(multiplier, QuantizedMultiplier) else np.shape(multiplier)
    return (first, second) if len({shape, np.shape(zero_point)} - {()}) == 1 else None


def _key(value: Any) -> tuple[Any, ...] | None:
    """Return what `_of_key` makes a value from again."""
    if isinstance(value, QuantizedMultiplier):
        value, shift = _key(value.value), _key(value.shift)
        return None if value is None or shift is None else ("multiplier", value, shift)
    plain = isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
    if plain and value.size == max(value.shape, default=1) <= KEPT_SETS:
        return "array", value.dtype, value.shape, value.tobytes()
    return ("number", type(value), value) if type(value) in (int, float) else None


def _of_key(key: tuple[Any, ...]) -> Any:
    kind, *parts = key
    if kind == "multiplier":
        return QuantizedMultiplier(*map(_of_key, parts))
    if kind == "array":
        dtype, shape, content = parts
        return np.frombuffer(content, dtype).reshape(shape)
    return parts[1]


@functools.lru_cache(maxsize=128)
def _prepare_again(
    scheme: str | Scheme, array_shape: tuple[int, ...], multiplier: tuple[Any, ...], zero_point: tuple[Any, ...],
    *others: Any,
) -> tuple[tuple[int, ...], tuple[int, int, int], Bound]:  # fmt: skip
    """Prepare keys; cached, for layer after layer of a network."""
    return _prepare_many(scheme, array_shape, _of_key(multiplier), _of_key(zero_point), *others)


def _prepare_many(
    scheme: str | Scheme, array_shape: tuple[int, ...], multiplier: Any, zero_point: Any, chosen: np.dtype[Any],
    qmin: int | None, qmax: int | None, axis: int | None, wrap: bool,
) -> tuple[tuple[int, ...], tuple[int, int, int], Bound]:  # fmt: skip
    """Lay multipliers and zero points out over channels."""
    row, limits = get_scheme(scheme), clamp_limits(chosen, qmin, qmax)
    zero_points = checked_zero_points(zero_point, chosen)
    own_shape = multiplier.shape if isinstance(multiplier, QuantizedMultiplier) else np.shape(multiplier)
    try:
        parameter_shape = np.broadcast_shapes(own_shape, zero_points.shape)
    except ValueError:
        raise DomainError(f"multiplier {own_shape} and zero_point {zero_points.shape} do not broadcast.") from None
    shape, folded, target = fold(array_shape, parameter_shape, axis)
    form = derive(row, multiplier)

    def spread(values: npt.NDArray[Any], values_shape: tuple[int, ...]) -> npt.NDArray[Any]:
        values = np.broadcast_to(values.reshape(values_shape), parameter_shape)
        values = values.ravel() if len(target) == 1 else values
        return np.ascontiguousarray(np.broadcast_to(values, target)).ravel()

    form = take_channels(form, spread(np.arange(form.channels), own_shape))
    spread_zero_points = spread(zero_points, zero_points.shape)
    return shape, folded, bind(row, form, spread_zero_points, chosen, limits, wrap)


def requantize_scales(
    acc: Any,
    input_scale: npt.ArrayLike,
    weight_scale: npt.ArrayLike,
    output_scale: npt.ArrayLike,
    *,
    scheme: str | Scheme,
    zero_point: Any = 0,
    dtype: npt.DTypeLike | None = "int8",
    qmin: int | None = None,
    qmax: int | None = None,
    axis: int | None = None,
    recipe: str | None = None,
    backend: str | None = None,
    out: npt.NDArray[Any] | None = None,
    overflow: str = "error",
) -> npt.NDArray[Any]:
    """Requantize from the stored scales, with the scheme's own recipe.

    The recipe, ``in * w / out`` in a given order and width, is part of a scheme: see `qengine.requant.recipes`.

    Parameters
    ----------
    acc : integer array_like
        Accumulators, as in `requantize`.
    input_scale, weight_scale, output_scale : float or array
        Stored float32 scales, ``> 0``; weight_scale may be per channel.
    scheme, zero_point, dtype, qmin, qmax, axis, backend, out, overflow
        As in `requantize`; `dtype` is int8 by default.
    recipe : str, optional
        Another recipe than the scheme's, e.g. ``"float-product"`` for TFLite's per-tensor FULLY_CONNECTED.

    Returns
    -------
    ndarray
        As `requantize`.

    Raises
    ------
    DomainError
        A scale that is NaN, infinite or not positive, and all that `requantize` raises.

    Examples
    --------
    The case of tensorflow#102943: a tie in float32 alone, as XNNPACK computes it.

    >>> import qengine as qe
    >>> issue = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
    >>> [int(qe.requantize_scales(585, *issue, scheme=s, zero_point=-126)) for s in ("single", "double", "fp32")]
    [-119, -119, -120]
    >>> int(qe.requantize_scales(-585, *issue, scheme="fp32", zero_point=0))
    -6
    """
    row = get_scheme(scheme)
    real = recipes.apply(row.recipe if recipe is None else recipe, input_scale, weight_scale, output_scale)
    return requantize(
        acc, real, scheme=row, zero_point=zero_point, dtype=dtype, qmin=qmin, qmax=qmax, axis=axis,
        backend=backend, out=out, overflow=overflow,
    )  # fmt: skip
