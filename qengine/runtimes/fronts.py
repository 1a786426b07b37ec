"""From an operator's columns to its arithmetic: which columns there are, what they hold, what is computed first.

Column names are those of the recordings; codes and parameters broadcast against each other as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..affine.conventions import get_convention
from ..affine.params import QuantParams
from ..affine.quantize import dequantize, quantize
from ..arguments import first_index, first_value, flag
from ..exceptions import DomainError
from .arithmetic import Description, Target, difference_of_codes, limits_of
from .columns import Array, integers, reals, scales
from .resizing import Image
from .sums import Operands

#: Accumulators of kernels with 64-bit bias: what a 48-bit scheme takes.
ACC48 = -(2**47), 2**47 - 1
#: Elements that a mean or a pool may run over: counts up to here are whole in float32.
LARGEST_COUNT = 1 << 24


@dataclass(frozen=True, slots=True)
class Convention:
    """A convention of `qengine.affine.conventions`, of quantize or dequantize."""

    name: str
    dequantizes: bool = False

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        row = get_convention(self.name)
        if self.dequantizes:
            return Description("none", row.dequantize_formula, "none")
        return Description("none", f"{row.name}: {row.formula}", "clamp")


def _zero_point(name: str, value: Any, dtype: str) -> Array:
    return integers(name, value, *limits_of(dtype))


def accumulator(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Take ``acc`` with ``in_scale, w_scale, out_scale``, and the output's ``zero_point``."""
    wide = row.acc_bits == 48
    bounds, kind = (ACC48, "int64") if wide else (limits_of("int32"), "int32")
    acc = integers("acc", columns["acc"], *bounds, kind)
    stored = tuple(scales(name, columns[name]) for name in ("in_scale", "w_scale", "out_scale"))
    z = _zero_point("zero_point", columns["zero_point"], to.dtype)
    result: Array = arithmetic.run(acc, stored, z, to)
    return result


def product(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Take ``(a - a_zp) (b - b_zp)``, below 2**17 in magnitude, as an accumulator with the scales of a, b and out."""
    terms = [_centred(columns, name, f"{name}_zp", row.code_dtype) for name in ("a", "b")]
    try:
        acc = terms[0] * terms[1]
    except ValueError:
        raise DomainError(f"a {terms[0].shape} and b {terms[1].shape} do not broadcast.") from None
    stored = tuple(scales(name, columns[name]) for name in ("a_scale", "b_scale", "out_scale"))
    result: Array = arithmetic.run(acc, stored, _zero_point("out_zp", columns["out_zp"], to.dtype), to)
    return result


def _centred(columns: Mapping[str, Any], name: str, zero: str, dtype: str) -> Array:
    low, high = limits_of(dtype)
    codes = integers(name, columns[name], low, high, np.int32)
    return difference_of_codes(name, codes, integers(zero, columns[zero], low, high, np.int32))


def rescaling(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Turn codes of one scale into codes of another: ``input - in_zp`` as an accumulator, a weight scale of 1."""
    acc = _centred(columns, "input", "in_zp", row.code_dtype)
    in_scale, out_scale = (scales(name, columns[name]) for name in ("in_scale", "out_scale"))
    z = _zero_point("out_zp", columns["out_zp"], to.dtype)
    result: Array = arithmetic.run(acc, (in_scale, np.ones((), np.float32), out_scale), z, to)
    return result


def addition(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Take codes ``a`` and ``b`` with scales and zero points."""
    low, high = limits_of(row.code_dtype)
    given: dict[str, Array] = {name: integers(name, columns[name], low, high) for name in ("a_zp", "b_zp")}
    given |= {name: integers(name, columns[name], low, high, np.int16) for name in ("a", "b")}
    given |= {name: scales(name, columns[name]) for name in ("a_scale", "b_scale", "out_scale")}
    given["out_zp"] = _zero_point("out_zp", columns["out_zp"], to.dtype)
    result: Array = arithmetic.run(Operands.of(given), to)
    return result


def _summed(columns: Mapping[str, Any], dtype: str) -> dict[str, Array]:
    low, high = limits_of(dtype)
    count = integers("count", columns["count"], 1, LARGEST_COUNT)
    total = integers("sum", columns["sum"], *limits_of("int32"))
    try:
        bad = (total < count * low) | (total > count * high)
    except ValueError:
        raise DomainError(f"sum {total.shape} and count {count.shape} do not broadcast.") from None
    if bad.any():
        raise DomainError(
            f"sum must be that of count codes of {dtype}, in [{low} count, {high} count]; got "
            f"{first_value(np.broadcast_to(total, bad.shape), bad)}{first_index(bad)}."
        )
    return {"sum": total, "count": count}


def mean(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Take the raw ``sum`` of ``count`` codes, with scales and zero points of both sides."""
    given = _summed(columns, row.code_dtype)
    given |= {name: scales(name, columns[name]) for name in ("in_scale", "out_scale")}
    given |= {name: _zero_point(name, columns[name], row.code_dtype) for name in ("in_zp", "out_zp")}
    result: Array = arithmetic.run(given, to)
    return result


def pool(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Take the raw ``sum`` of ``count`` codes; ``scale`` and ``zp``, the same on both sides, do not enter."""
    result: Array = arithmetic.run(_summed(columns, row.code_dtype), to)
    return result


def _parameters(scale: Array, zero_point: Array, shape: tuple[int, ...], dtype: str) -> tuple[QuantParams, bool]:
    """Return parameters for a tensor, or for every element of its flat form (then True)."""
    low, high = limits_of(dtype)
    if scale.size == 1 and zero_point.size == 1:
        return QuantParams(scale.reshape(()), zero_point.reshape(()), low, high), False
    try:
        scale, zero_point = (np.broadcast_to(values, shape).reshape(-1) for values in (scale, zero_point))
    except ValueError:
        raise DomainError(
            f"scale {scale.shape} and zero point {zero_point.shape} do not broadcast to input {shape}."
        ) from None
    return QuantParams(scale, zero_point, low, high, axis=0), True


def quantization(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Turn real ``input`` into codes with ``out_scale`` and the output's zero point (``out_zp`` or ``zero_point``)."""
    x = reals("input", columns["input"])
    z = _zero_point("out_zp", columns["out_zp"], to.dtype)
    params, flat = _parameters(scales("out_scale", columns["out_scale"]), z, x.shape, to.dtype)
    codes = quantize(x.reshape(-1) if flat else x, params, convention=arithmetic.name, backend=to.backend)
    return to.clamped(codes.reshape(x.shape))


def dequantization(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Turn codes ``input`` into float32 with ``in_scale`` and the input's zero point (``in_zp`` or ``zero_point``)."""
    q = integers("input", columns["input"], *limits_of(row.code_dtype))
    z = _zero_point("in_zp", columns["in_zp"], row.code_dtype)
    params, flat = _parameters(scales("in_scale", columns["in_scale"]), z, q.shape, row.code_dtype)
    values = dequantize(q.reshape(-1) if flat else q, params, convention=arithmetic.name, backend=to.backend)
    return values.reshape(q.shape)


def lookup(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Take codes ``input`` through a function of one code, with scales and zero points of both sides."""
    given = {name: _zero_point(name, columns[name], row.code_dtype) for name in ("input", "in_zp", "out_zp")}
    given |= {name: scales(name, columns[name]) for name in ("in_scale", "out_scale")}
    try:
        result: Array = arithmetic.run(given, to)
    except ValueError as error:
        if isinstance(error, DomainError):
            raise
        raise DomainError(f"the shapes of the columns do not broadcast: {error}.") from None
    return result


def _single(name: str, values: Array) -> Array:
    if values.size != 1:
        raise DomainError(f"column {name!r} must be one number; got shape {values.shape}.")
    return values.reshape(())


def rows_of_codes(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Take rows of codes ``input`` along the last axis; the parameters are one number each."""
    q = _zero_point("input", columns["input"], row.code_dtype)
    if q.ndim == 0 or q.shape[-1] == 0:
        raise DomainError(f"column 'input' must have rows along its last axis; got shape {q.shape}.")
    given = {name: _single(name, scales(name, columns[name])) for name in ("in_scale", "out_scale")}
    given["beta"] = _single("beta", scales("beta", columns.get("beta", 1.0)))
    given["out_zp"] = _single("out_zp", _zero_point("out_zp", columns["out_zp"], to.dtype))
    result: Array = arithmetic.run({"input": q, **given}, to)
    return result


def resizing(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Resize the images ``input`` (batch, height, width, channels) to ``height`` times ``width``."""
    q = _zero_point("input", columns["input"], row.code_dtype)
    if q.ndim != 4 or 0 in q.shape:
        raise DomainError(f"column 'input' must be (batch, height, width, channels); got shape {q.shape}.")
    # Positions up to 2**14 in 10 fractional bits, and in float32 with 9 bits to spare.
    size = [int(_single(name, integers(name, columns[name], 1, 1 << 14))) for name in ("height", "width")]
    align_corners, half_pixel_centers = (
        flag(name, columns.get(name, False)) for name in ("align_corners", "half_pixel_centers")
    )
    if align_corners and half_pixel_centers:
        raise DomainError("align_corners and half_pixel_centers exclude one another.")
    result: Array = arithmetic.run(Image(q, size[0], size[1], align_corners, half_pixel_centers), to)
    return result


def sequence(arithmetic: Any, row: Any, columns: Mapping[str, Any], to: Target) -> Array:
    """Run an LSTM over ``input`` (time, batch, inputs), states at zero; weights of its four gates are stacked."""
    given: dict[str, Any] = {
        name: _zero_point(name, columns[name], "int8") for name in ("input", "input_weights", "recurrent_weights")
    }
    given["bias"] = integers("bias", columns["bias"], *limits_of("int32"))
    for name in ("in_scale", "hidden_scale", "cell_scale"):
        given[name] = _single(name, scales(name, columns[name]))
    for name in ("input_weight_scale", "recurrent_weight_scale"):
        given[name] = scales(name, columns[name])
        if given[name].shape != (4,):
            raise DomainError(f"column {name!r} must hold 4 scales, one a gate; got shape {given[name].shape}.")
    for name in ("in_zp", "hidden_zp"):
        given[name] = _single(name, _zero_point(name, columns[name], "int8"))
    given["cell_clip"] = _single("cell_clip", integers("cell_clip", columns.get("cell_clip", 0), 0, 32767))
    result: Array = arithmetic.run(given, to)
    return result


@dataclass(frozen=True, slots=True)
class Front:
    """How an operator's columns reach its arithmetic.

    Attributes
    ----------
    columns, optional : tuple of str
        Names that have to be given, and that may be.
    run : callable
        (arithmetic, row, columns, target) to the result.
    codes : tuple of str
        The columns that hold the tensor's elements: the first of them gives its type.
    clamps : tuple of str
        Scale and zero point of the output, where a fused activation can clamp it.
    """

    columns: tuple[str, ...]
    run: Callable[[Any, Any, Mapping[str, Any], Target], Array]
    codes: tuple[str, ...]
    clamps: tuple[str, str] | None = None
    optional: tuple[str, ...] = ()


_PAIR = ("a", "b", "a_scale", "b_scale", "out_scale", "a_zp", "b_zp", "out_zp")
_RESCALED = ("input", "in_scale", "in_zp", "out_scale", "out_zp")
FRONTS: Mapping[str, Front] = {
    "accumulator": Front(
        ("acc", "in_scale", "w_scale", "out_scale", "zero_point"), accumulator, ("acc",), ("out_scale", "zero_point")
    ),
    "product": Front(_PAIR, product, ("a", "b"), ("out_scale", "out_zp"), ("acc",)),
    "addition": Front(_PAIR, addition, ("a", "b"), ("out_scale", "out_zp")),
    "mean": Front(("sum", "count", "in_scale", "out_scale", "in_zp", "out_zp"), mean, ("sum",)),
    "pool": Front(("sum", "count"), pool, ("sum",), ("scale", "zp"), ("scale", "zp")),
    "rescaling": Front(_RESCALED, rescaling, ("input",)),
    "lookup": Front(_RESCALED, lookup, ("input",)),
    "rows": Front(("input", "in_scale", "out_scale", "out_zp"), rows_of_codes, ("input",), None, ("beta", "in_zp")),
    "resizing": Front(
        ("input", "height", "width"), resizing, ("input",), None, ("align_corners", "half_pixel_centers")
    ),
    "sequence": Front(
        (
            "input",
            "in_scale",
            "in_zp",
            "input_weights",
            "input_weight_scale",
            "recurrent_weights",
            "recurrent_weight_scale",
            "bias",
            "cell_scale",
            "hidden_scale",
            "hidden_zp",
        ),
        sequence,
        ("input",),
        None,
        ("cell_clip",),
    ),
    "quantization": Front(("input", "out_scale", "out_zp"), quantization, ("input",)),
    "dequantization": Front(("input", "in_scale", "in_zp"), dequantization, ("input",)),
}
#: Names under which some runtimes' recordings hold a column.
ALIASES: Mapping[str, Mapping[str, str]] = {
    "quantization": {"zero_point": "out_zp"},
    "dequantization": {"zero_point": "in_zp"},
}
