"""Quantize real tensors, and reconstruct them: the public functions."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels import codes

from .. import backends
from ..arguments import first_index, first_value, index_text, integer
from ..backends import outputs
from ..backends.quantizers import KEPT_SETS, Quantizer
from ..exceptions import DomainError, DTypeError
from .conventions import DEQUANTIZATIONS, STEPS, ZERO_POINTS, Convention, get_convention
from .params import QuantParams
from .rounding import get_rounding
from .segments import samples

#: float32 conventions multiply by the reciprocal of the scale, which must be a normal number.
SCALE32 = 2.0**-126, 2.0**126
_NEAREST = ("half-even", "half-away", "half-up", "half-down", "half-toward-zero")
_FAST = {(64, "float64"): codes.FAST_FLOAT64, (32, "subtract"): codes.FAST_FLOAT32}
#: Bounds of scales for which the fused loop of the error pass neither over- nor underflows.
_FAST_SCALES = {32: (2.0**-100, 2.0**100), 64: (2.0**-400, 2.0**400)}


def layout(shape: tuple[int, ...], axis: int | None, group: int | None) -> tuple[int, int, int, int]:
    """Return (length, group, groups a row, rows) of parameters along an axis; groups need the last axis."""
    size = max(math.prod(shape), 1)
    if axis is None:
        return size, size, 1, 1
    channels, inner = max(shape[axis], 1), max(math.prod(shape[axis + 1 :]), 1)
    if group is not None:
        return channels, group, -(-channels // group), max(math.prod(shape[:axis]), 1)
    return (channels, 1, channels, 1) if inner == 1 else (inner, inner, 1, channels)


def rule_of(convention: str | Convention, rounding: str | None) -> tuple[Convention, str]:
    """Return the convention, and its own rounding rule unless another is asked for."""
    row = get_convention(convention)
    return row, row.rounding if rounding is None else get_rounding(rounding).name


def _checked(params: QuantParams, row: Convention) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return flat scales and zero points as the convention uses them, or raise where it has no such parameters."""
    scale = np.asarray(params.scale, np.float64)
    zero_point = np.asarray(params.zero_point, np.int64)
    if row.bits == 32 or row.dequantization != "float64":
        with np.errstate(over="ignore", under="ignore"):
            narrow = scale.astype(np.float32).astype(np.float64)
        bad = (narrow < SCALE32[0]) | (narrow > SCALE32[1])
        if bad.any():
            raise DomainError(
                f"convention {row.name!r} computes in float32: the scale must be in [2**-126, 2**126]; "
                f"got {first_value(scale, bad)!r}{first_index(bad)}."
            )
        if row.bits == 32:
            scale = narrow
    if row.symmetric_only and zero_point.any():
        bad = zero_point != 0
        raise DomainError(
            f"convention {row.name!r} demands zero point 0; got {first_value(zero_point, bad)}{first_index(bad)}. "
            "Choose parameters with mode='symmetric'."
        )
    if not row.any_zero_point:
        bad = (zero_point < params.qmin) | (zero_point > params.qmax)
        if bad.any():
            raise DomainError(
                f"convention {row.name!r} stores the zero point as a code: it must be in [{params.qmin}, "
                f"{params.qmax}]; got {first_value(zero_point, bad)}{first_index(bad)}. Choose parameters with "
                "include_zero=True."
            )
    return scale.reshape(-1), zero_point.reshape(-1).astype(np.float64)


def _fast(row: Convention, rounding: str, scales: npt.NDArray[np.float64]) -> int:
    """Tell which fused loop of the error pass finds this quantizer's codes, but for near-ties."""
    kind = _FAST.get((row.bits, row.dequantization), codes.NOT_FAST)
    low, high = _FAST_SCALES[row.bits]
    return kind if rounding in _NEAREST and ((scales > low) & (scales < high)).all() else codes.NOT_FAST


def quantizer(
    params: QuantParams, shape: tuple[int, ...], convention: str | Convention, rounding: str | None, seed: int
) -> Quantizer:
    """Return what the back ends evaluate for parameters over an x of that shape (groups along its last axis)."""
    if type(seed) is not int:
        seed = integer("seed", seed)
    # Names are checked by what is cached below, which takes nothing that has no hash.
    if not isinstance(convention, str):
        convention = get_convention(convention)
    if not (rounding is None or isinstance(rounding, str)):
        rounding = get_rounding(rounding).name
    if params.axis is None:
        return _of_tensor(params, math.prod(shape), convention, rounding, seed)
    places = layout(shape, params.check_shape(shape), params.group)
    if params.scale.size > KEPT_SETS:
        return _quantizer(params, places, convention, rounding, seed)
    return _of_channels(params, places, convention, rounding, seed)


@functools.lru_cache(maxsize=1024)
def _of_tensor(
    params: QuantParams, size: int, convention: str | Convention, rounding: str | None, seed: int
) -> Quantizer:
    """Make the quantizer of one scale; cached, since the same few come again and again."""
    return _quantizer(params, layout((size,), None, None), convention, rounding, seed)


@functools.lru_cache(maxsize=64)
def _of_channels(
    params: QuantParams, places: tuple[int, int, int, int], convention: str | Convention, rounding: str | None,
    seed: int,
) -> Quantizer:  # fmt: skip
    """Make the quantizer of few sets of parameters; cached for layer after layer."""
    return _quantizer(params, places, convention, rounding, seed)


def _quantizer(
    params: QuantParams, places: tuple[int, int, int, int], convention: str | Convention, rounding: str | None,
    seed: int,
) -> Quantizer:  # fmt: skip
    row, rule = rule_of(convention, rounding)
    if not 0 <= seed < 2**63:
        raise DomainError(f"seed must be in [0, 2**63 - 1]; got {seed}.")
    scales, zero_points = _checked(params, row)
    numbers = np.zeros(codes.AFFINE_ROW, np.int64)
    numbers[codes.AFFINE_FAMILY] = codes.INTEGER_FAMILY
    numbers[codes.AFFINE_BITS] = row.bits
    numbers[codes.AFFINE_STEP] = STEPS[row.step]
    numbers[codes.AFFINE_ZERO_POINT] = ZERO_POINTS[row.zero_point]
    numbers[codes.AFFINE_ROUNDING] = get_rounding(rule).code
    numbers[codes.AFFINE_DEQUANTIZATION] = DEQUANTIZATIONS[row.dequantization][0]
    numbers[codes.AFFINE_QMIN], numbers[codes.AFFINE_QMAX] = params.qmin, params.qmax
    numbers[codes.AFFINE_SEED] = seed
    numbers[codes.AFFINE_FAST] = _fast(row, rule, scales)
    return Quantizer(
        numbers, places, scales, zero_points, params.levels,
        np.zeros(codes.FORMAT_ROW, np.int64), np.zeros(codes.FORMAT_NUMBERS),
    )  # fmt: skip


def group_last(
    x: npt.NDArray[Any], params: QuantParams, arrays: Any = np
) -> tuple[npt.NDArray[Any], QuantParams, int | None]:
    """Return x and its parameters with the axis of the groups last, and that axis (None: nothing moved).

    `arrays` is the package of x, NumPy or CuPy.
    """
    if params.group is None:
        return x, params, None
    axis = params.check_shape(x.shape)
    if axis is None or axis == x.ndim - 1:
        return x, params, None
    moved = QuantParams(
        np.moveaxis(params.scale, axis, -1), np.moveaxis(params.zero_point, axis, -1), params.qmin, params.qmax,
        x.ndim - 1, params.group,
    )  # fmt: skip
    return arrays.moveaxis(x, axis, -1), moved, axis


def _target(
    arrays: Any, out: npt.NDArray[Any] | None, shape: tuple[int, ...], moved: int | None, dtype: Any,
    source: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any]]:  # fmt: skip
    """Return (what the caller gets, if it is there already, and what a kernel that reads `source` writes).

    `shape` has the axis that `group_last` moved at its end.
    """
    if out is None:
        return None, arrays.empty(shape, dtype)
    if moved is None:
        return outputs.target(arrays, out, shape, dtype, source)
    given = list(shape[:-1])
    given.insert(moved, shape[-1])
    result, _ = outputs.target(arrays, out, tuple(given), dtype, source)
    return result, arrays.empty(shape, dtype)


def _finished(
    arrays: Any, result: npt.NDArray[Any] | None, target: npt.NDArray[Any], moved: int | None
) -> npt.NDArray[Any]:
    """Return the result in the caller's order of axes: what the kernel wrote, or what is copied of it."""
    if target is result:
        return target
    ordered = target if moved is None else arrays.moveaxis(target, -1, moved)
    if result is None:
        fresh: npt.NDArray[Any] = ordered if moved is None else arrays.ascontiguousarray(ordered)
        return fresh
    result[...] = ordered
    return result


def _refuse_nonfinite(arrays: Any, x: npt.NDArray[Any]) -> None:
    bad = ~arrays.isfinite(x)
    raise DomainError(
        f"x must be finite; got {int(bad.sum())} NaN or infinite values, the first {first_value(x, bad)}"
        f"{first_index(bad)}. Replace them, or clip infinities, first."
    )


def quantize(
    x: Any,
    params: QuantParams,
    *,
    rounding: str | None = None,
    convention: str | Convention = "calculator",
    seed: int = 0,
    backend: str | None = None,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Quantize real numbers to integer codes, bit for bit as a convention does.

    ``q = clamp(round(x / scale + zero_point), qmin, qmax)`` for the default convention, in float64; others in
    float32, with the zero point after the rounding, a reciprocal, or a fused multiply-add:
    ``qe.get_convention(name).formula``.

    Parameters
    ----------
    x : array_like of finite real numbers
        float32, float64, what widens to them exactly (float16, bfloat16, integers), any shape, any strides; never
        written. A strided x is made contiguous first. A float64 x is rounded to float32 first by float32 conventions.
        Arrays on a CUDA device (CuPy, PyTorch, anything with ``__cuda_array_interface__`` or DLPack) stay there, on the
        caller's current stream.
    params : QuantParams
        Per tensor, per channel or per group; float32 conventions round the scale to float32.
    rounding : str, optional
        ``half-even``, ``half-away``, ``half-up``, ``half-down``, ``half-toward-zero``, ``floor``, ``ceil``,
        ``trunc``, ``stochastic``; by default the convention's own (`calculator`: half-even). Another one keeps the
        convention's arithmetic and replaces its rounding: then no runtime's any more.
    convention : str or Convention
        `qengine.conventions` lists them.
    seed : int
        Key of stochastic rounding, in ``[0, 2**63 - 1]``. The draw of element i (in C order, with the axis of groups
        moved last) depends on the seed and i alone: the same bits on every back end.
    backend : {"reference", "cpu", "cuda"}, optional
    out : array, optional
        Array for the codes, of x's shape and of ``params.dtype``, writable; on the device of a device x. Repeated calls
        save the time that new memory takes. It may overlap x. Where x is refused for a NaN or an infinity, which is
        known only at the end, it holds nothing of use.

    Returns
    -------
    ndarray
        Codes in ``[qmin, qmax]``, of x's shape and of ``params.dtype``. What lies beyond the codes saturates. Of a
        device array: on its device, of its kind where its package takes DLPack (PyTorch, JAX), else CuPy's.

    Raises
    ------
    DomainError
        NaN or infinity in x (how many, and where the first is); parameters that do not fit x's shape, or that the
        convention cannot have.
    DTypeError, UnknownNameError, BackendError

    Notes
    -----
    On a device the call waits once, to know whether all of x is finite. With ``backend="cuda"`` a host array is copied
    to the device piece by piece, and its codes back.

    Examples
    --------
    >>> import numpy as np
    >>> import qengine as qe
    >>> p = qe.QuantParams(0.5, 0, -128, 127)
    >>> x = [0.25, 0.75, -0.25, -0.75, 100.0]                        # ties at 0.5, 1.5, -0.5, -1.5; and beyond
    >>> qe.quantize(x, p)
    array([  0,   2,   0,  -2, 127], dtype=int8)
    >>> qe.quantize(x, p, rounding="half-away")
    array([  1,   2,  -1,  -2, 127], dtype=int8)
    >>> qe.quantize([-1.25, 0.14, 1.46], qe.choose_qparams((-1.5, 1.5)))
    array([-106,   12,  124], dtype=int8)
    >>> codes = np.empty(5, np.int8)                                 # memory for call after call
    >>> qe.quantize(x, p, out=codes) is codes
    True
    """

    def work(arrays: Any, name: str, array: npt.NDArray[Any], given: Any) -> npt.NDArray[Any]:
        return _quantize(arrays, name, array, params, rounding, convention, seed, given)

    result: npt.NDArray[Any] = outputs.call_into(backend, "x", x, out, work)
    return result


def _quantize(
    arrays: Any, name: str, x: npt.NDArray[Any], params: QuantParams, rounding: str | None,
    convention: str | Convention, seed: int, out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:  # fmt: skip
    """Quantize an array of one package, NumPy or CuPy, which `arrays` is."""
    given = samples(x)
    array, params, moved = group_last(given, _params(params), arrays)
    plan = quantizer(params, array.shape, convention, rounding, seed)
    flat = arrays.ascontiguousarray(array).reshape(-1)
    result, target = _target(arrays, out, array.shape, moved, params.dtype, flat)
    if flat.size and not backends.load(name).quantize(flat, plan, target.reshape(-1)):
        _refuse_nonfinite(arrays, given)
    return _finished(arrays, result, target, moved)


def _params(params: Any) -> QuantParams:
    if not isinstance(params, QuantParams):
        raise DTypeError(f"params must be a QuantParams; got {type(params).__name__}. See qengine.choose_qparams.")
    return params


def dequantize(
    q: Any,
    params: QuantParams,
    *,
    convention: str | Convention = "calculator",
    backend: str | None = None,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Return the real numbers that codes stand for.

    ``(q - zero_point) * scale``, in float64 for the default convention; in float32 for those of runtimes
    (``qe.get_convention(name).dequantize_formula``).

    Parameters
    ----------
    q : integer array_like
        Codes in the closed range ``[qmin, qmax]``, any strides: a strided q is made contiguous first. Arrays on a CUDA
        device stay there, as in `quantize`; the call waits for the device only where q's type has codes outside that
        range.
    params : QuantParams
    convention : str or Convention
    backend : {"reference", "cpu", "cuda"}, optional
    out : array, optional
        Array for the numbers, of q's shape and of the type below, writable; on the device of a device q. It may overlap
        q, and is not written where q or the parameters are refused.

    Returns
    -------
    float64 or float32 ndarray of q's shape
        Of a device array: where and of what kind the codes are.

    Raises
    ------
    DomainError
        A code outside ``[qmin, qmax]``; parameters that do not fit q's shape.
    DTypeError
        Codes that are no integers.

    Examples
    --------
    >>> import qengine as qe
    >>> qe.dequantize([-128, 0, 127], qe.QuantParams(0.5, -3, -128, 127))
    array([-62.5,   1.5,  65. ])
    >>> qe.dequantize([-1, 2], qe.QuantParams(0.1, 0, -128, 127), convention="onnx")
    array([-0.1,  0.2], dtype=float32)
    """

    def work(arrays: Any, name: str, array: npt.NDArray[Any], given: Any) -> npt.NDArray[Any]:
        return _dequantize(arrays, name, array, params, convention, True, given)

    result: npt.NDArray[Any] = outputs.call_into(backend, "q", q, out, work)
    return result


def _dequantize(
    arrays: Any, name: str, array: npt.NDArray[Any], params: QuantParams, convention: str | Convention, check: bool,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:  # fmt: skip
    """Dequantize an array of one package; `check` says that codes outside the range may occur."""
    if array.dtype.kind not in "iu":
        raise DTypeError(f"q must hold integer codes; got dtype {array.dtype}.")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    array, params, moved = group_last(array, _params(params), arrays)
    flat = arrays.ascontiguousarray(array).reshape(-1)
    if check:
        _check_codes(array, flat, params)
    plan = quantizer(params, array.shape, convention, None, 0)
    dtype = np.float64 if get_convention(convention).dequantization == "float64" else np.float32
    result, target = _target(arrays, out, array.shape, moved, dtype, flat)
    if array.size:
        backends.load(name).dequantize(flat, plan, target.reshape(-1))
    return _finished(arrays, result, target, moved)


@functools.cache
def _extremes(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _check_codes(array: npt.NDArray[Any], flat: npt.NDArray[Any], params: QuantParams) -> None:
    """Raise `DomainError` if there is a code outside ``[qmin, qmax]``."""
    low, high = _extremes(array.dtype)
    if params.qmin <= low and high <= params.qmax:
        return
    if not isinstance(array, np.ndarray):
        found = backends.device_backend().codes_outside(flat, params.qmin, params.qmax)
    elif array.size and (int(array.min()) < params.qmin or int(array.max()) > params.qmax):
        found = int(((flat < params.qmin) | (flat > params.qmax)).argmax())
    else:
        found = None
    if found is not None:
        raise DomainError(
            f"q must hold codes in [{params.qmin}, {params.qmax}]; got {flat[found].item()}"
            f"{index_text(found, array.shape)}."
        )


def fake_quantize(
    x: Any,
    params: QuantParams,
    *,
    rounding: str | None = None,
    convention: str | Convention = "calculator",
    seed: int = 0,
    backend: str | None = None,
) -> npt.NDArray[Any]:
    """Quantize and reconstruct: ``dequantize(quantize(x))``.

    Parameters
    ----------
    x, params, rounding, convention, seed, backend
        As in `quantize`, errors too.

    Returns
    -------
    float32 or float64 array
        Of the type that `dequantize` gives.

    Examples
    --------
    >>> import qengine as qe
    >>> qe.fake_quantize([0.75, -0.75, 0.25, 100.0], qe.QuantParams(0.5, 0, -8, 7))    # two ties to even, a tie to 0
    array([ 1. , -1. ,  0. ,  3.5])
    """

    def work(arrays: Any, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        q = _quantize(arrays, name, array, params, rounding, convention, seed)
        return _dequantize(arrays, name, q, params, convention, False)

    result: npt.NDArray[Any] = backends.call_where_it_lives(backend, "x", x, work)
    return result
