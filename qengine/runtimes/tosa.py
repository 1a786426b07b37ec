"""The RESCALE operator of TOSA: the specification's definition, its domain included."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import chosen, first_index, first_value, flag
from ..backends import as_numpy
from ..exceptions import DomainError, DTypeError

I64 = npt.NDArray[np.int64]
BITS = {"i8": 8, "i16": 16, "i32": 32, "i48": 48}
OUTPUTS = ("i8", "i16", "i32")
ROUNDING_MODES = ("SINGLE_ROUND", "DOUBLE_ROUND")


def _whole(name: str, value: Any) -> I64:
    array = as_numpy(name, value)
    if array.dtype == bool or array.dtype.kind not in "iu":
        raise DTypeError(f"{name} must hold integers; got dtype {array.dtype}.")
    if array.dtype == np.uint64 and (bad := array > np.uint64(2**63 - 1)).any():
        raise DomainError(f"{name} must fit int64; got {first_value(array, bad)}{first_index(bad)}.")
    return array.astype(np.int64)


def _require(fits: npt.NDArray[np.bool_], values: I64, what: str) -> None:
    if not fits.all():
        bad = ~fits
        values = np.broadcast_to(values, bad.shape)
        raise DomainError(f"{what}; got {first_value(values, bad)}{first_index(bad)}.")


def _stored(name: str, value: Any, bits: int, unsigned: bool) -> I64:
    """Return stored values as numbers: an unsigned one may come as its two's complement of the same bits."""
    array = _whole(name, value)
    low, high = -(1 << (bits - 1)), (1 << (bits if unsigned else bits - 1)) - 1
    _require((array >= low) & (array <= high), array, f"{name} must be in [{low}, {high}]")
    return array + ((array < 0).astype(np.int64) << bits) if unsigned else array


def _zero_point(name: str, value: Any, kind: str, unsigned: bool) -> int:
    array = _stored(name, value, BITS[kind], unsigned)
    if array.size != 1:
        raise DomainError(f"{name} must be one number; got shape {array.shape}.")
    zero = int(array.reshape(()))
    allowed = kind == "i8" or zero == 0 or (kind == "i16" and unsigned and zero == 32768)
    if not allowed:
        also = " or 32768" if kind == "i16" and unsigned else ""
        raise DomainError(f"{name} must be 0{also} for {'unsigned ' if unsigned else ''}{kind}; got {zero}.")
    return zero


def apply_scale_32(value: I64, multiplier: I64, shift: I64, double_round: bool) -> I64:
    """Return ``(v m + 2**(sh-1) [+- 2**30]) >> sh``; the caller has checked ``|v| <= 2**(sh-1)``, below 2**33.

    ``|v m| <= 2**62`` since v lies in ``[-2**(sh-1), 2**(sh-1))`` and is an int32 less an 8-bit or no zero point; the
    sum with ``2**61 + 2**30`` stays below 2**63.
    """
    nudge = np.int64(1) << (shift - 1)
    if double_round:
        nudge = nudge + np.where(shift > 31, np.where(value >= 0, 1 << 30, -(1 << 30)), 0)
    result: I64 = (value * multiplier + nudge) >> shift
    return result


def tosa_rescale(
    x: Any,
    *,
    multiplier: Any,
    shift: Any,
    input_zp: Any,
    output_zp: Any,
    input_dtype: str,
    output_dtype: str,
    scale32: bool,
    rounding_mode: str = "SINGLE_ROUND",
    per_channel: bool,
    input_unsigned: bool = False,
    output_unsigned: bool = False,
) -> npt.NDArray[Any]:
    """Evaluate TOSA's RESCALE.

    ``clamp(apply_scale(x - input_zp, multiplier, shift) + output_zp)`` with
    ``apply_scale_32 = (v m + 2**(sh-1) + d) >> sh``, d = ``+-2**30`` (by the sign of v) for DOUBLE_ROUND and sh > 31,
    else 0; ``apply_scale_16`` the same without d for a 48-bit v and a 16-bit m.

    Parameters
    ----------
    x : integer array_like
        Values as stored: two's complement, or unsigned with `input_unsigned` (a negative number then means its bits).
        Closed range: that of `input_dtype`.
    multiplier : int or integer array
        ``[0, 2**31 - 1]`` with `scale32`, else ``[0, 2**15 - 1]``; 1-D along the last axis with `per_channel`.
    shift : int or integer array
        Right shift, ``[2, 62]``; shaped as `multiplier`.
    input_zp, output_zp : int
        8-bit types: any of the type's values; unsigned 16-bit ones: 0 or 32768; others: 0.
    input_dtype : {"i8", "i16", "i32", "i48"}
    output_dtype : {"i8", "i16", "i32"}
    scale32 : bool
        Scale by `apply_scale_32` (not for i48), else by `apply_scale_16`.
    rounding_mode : {"SINGLE_ROUND", "DOUBLE_ROUND"}
        The second needs `scale32`.
    per_channel : bool
    input_unsigned, output_unsigned : bool
        Not both; not for 32-bit and 48-bit types, nor toward or from them.

    Returns
    -------
    int8, int16 or int32 ndarray; uint8 or uint16 with `output_unsigned`

    Raises
    ------
    DomainError
        Where the specification says ERROR_IF, or REQUIRE of a value: multiplier, shift, a scaled value outside
        ``[-2**(sh-1), 2**(sh-1) - 1]`` or a result outside int32.
    UnknownNameError, DTypeError

    References
    ----------
    TOSA specification 1.0, ``operators/RESCALE`` and ``library/scale_helpers``.

    Examples
    --------
    1/4 of 2 and of -2: ties. Double rounding takes -2 away from zero.

    >>> import qengine as qe
    >>> quarter = {"multiplier": 1 << 30, "shift": 32, "input_zp": 0, "output_zp": 0, "per_channel": False,
    ...            "input_dtype": "i32", "output_dtype": "i8", "scale32": True}
    >>> qe.tosa_rescale([1, 2, -1, -2], **quarter)
    array([0, 1, 0, 0], dtype=int8)
    >>> qe.tosa_rescale([1, 2, -1, -2], rounding_mode="DOUBLE_ROUND", **quarter)
    array([ 1,  1,  0, -1], dtype=int8)
    """
    chosen("input_dtype", input_dtype, BITS)
    chosen("output_dtype", output_dtype, OUTPUTS)
    chosen("rounding_mode", rounding_mode, ROUNDING_MODES)
    flags = {"scale32": scale32, "per_channel": per_channel}
    flags |= {"input_unsigned": input_unsigned, "output_unsigned": output_unsigned}
    flags = {name: flag(name, value) for name, value in flags.items()}
    for broken, text in (
        (scale32 and input_dtype == "i48", "scale32 takes no i48 input: pass scale32=False"),
        (not scale32 and rounding_mode == "DOUBLE_ROUND", "DOUBLE_ROUND needs scale32=True"),
        (input_unsigned and output_unsigned, "input_unsigned and output_unsigned exclude one another"),
        (input_unsigned and input_dtype in ("i32", "i48"), f"{input_dtype} has no unsigned input"),
        (output_unsigned and output_dtype == "i32", "i32 has no unsigned output"),
        (input_unsigned and output_dtype == "i32", "an unsigned input takes no i32 output"),
        (output_unsigned and input_dtype in ("i32", "i48"), f"an unsigned output takes no {input_dtype} input"),
    ):
        if broken:
            raise DomainError(f"TOSA RESCALE: {text}.")
    value = _stored("x", x, BITS[input_dtype], input_unsigned) - _zero_point(
        "input_zp", input_zp, input_dtype, input_unsigned
    )
    zero = _zero_point("output_zp", output_zp, output_dtype, output_unsigned)
    m, right = _parameters(multiplier, shift, scale32, per_channel, value.shape)
    if scale32:
        half = np.int64(1) << (right - 1)
        what = "x - input_zp must be in [-2**(shift - 1), 2**(shift - 1) - 1]"
        _require((value >= -half) & (value < half), value, what)
    result = apply_scale_32(value, m, right, rounding_mode == "DOUBLE_ROUND")
    _require(np.abs(result + (result < 0)) < 2**31, result, "the scaled value must fit int32")
    result = result + zero
    _require(np.abs(result + (result < 0)) < 2**31, result, "the scaled value plus output_zp must fit int32")
    info = np.iinfo(f"{'uint' if output_unsigned else 'int'}{BITS[output_dtype]}")
    return np.clip(result, info.min, info.max).astype(info.dtype)


def _parameters(
    multiplier: Any, shift: Any, scale32: bool, per_channel: bool, shape: tuple[int, ...]
) -> tuple[I64, I64]:
    """Return checked multipliers and shifts that broadcast along the last axis."""
    m, right = _whole("multiplier", multiplier), _whole("shift", shift)
    if per_channel and not shape:
        raise DomainError("per_channel needs an x with at least one axis; got a scalar.")
    wanted = (shape[-1],) if per_channel else (1,)
    for name, array in (("multiplier", m), ("shift", right)):
        if array.shape != wanted and not (array.ndim == 0 and not per_channel):
            kind = f"shape {wanted}, one a channel" if per_channel else "one number"
            raise DomainError(f"{name} must have {kind}; got shape {array.shape}.")
    top = (1 << (31 if scale32 else 15)) - 1
    _require((m >= 0) & (m <= top), m, f"multiplier must be in [0, {top}]")
    _require((right >= 2) & (right <= 62), right, "shift must be in [2, 62]")
    return (m, right) if per_channel else (m.reshape(()), right.reshape(()))
