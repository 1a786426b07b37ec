"""Encode reals into number formats, element by element or in blocks that share a scale, and decode them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import E8M0_LIMIT
from qengine.kernels.reference import formats as scales_in_numpy

from .. import backends
from ..arguments import first_index, first_value, index_text, integer
from ..exceptions import DomainError, DTypeError
from .elements import Element, get_element
from .formats import Format, element_format, get_format
from .params import normal_axis
from .rounding import get_rounding
from .segments import samples


@dataclass(frozen=True, slots=True, eq=False)
class BlockTensor:
    """A tensor in a block format.

    Attributes
    ----------
    codes : uint8 array of x's shape
        One element's code each, not packed. Of a tensor on a CUDA device all arrays are there.
    scales : float32 array
        Scale of each block, of x's shape but ``ceil(length / block)`` along the axis; without `tensor_scale`.
    scale_codes : uint8 array or None
        The same as stored: E8M0 or e4m3fn codes; None where scales are stored as float32.
    tensor_scale : float
        The float32 number that multiplies all block scales (`nvfp4`); 1.0 in other formats.
    format : Format
    axis : int
        Axis that the blocks run along, counted from the front.
    """

    codes: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    scale_codes: npt.NDArray[np.uint8] | None
    tensor_scale: float
    format: Format
    axis: int

    def dequantize(self, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """Return what the codes stand for, an array of x's shape.

        ``float32(element * scale)``, with ``scale = float32(block scale * tensor scale)`` for `nvfp4`; E8M0 products
        are exact in float32 unless they overflow.

        Parameters
        ----------
        dtype : float32 or float64
            float64 also holds E8M0 products beyond float32's range.

        Raises
        ------
        DomainError
            A product of finite numbers beyond the range of the dtype.

        Examples
        --------
        >>> from qengine.affine.blocks import quantize_blocks
        >>> quantize_blocks([5.0, -0.25, 0.75, -6.0], "mxfp4").dequantize()     # 5 is a tie of 4 and 6
        array([ 4., -0.,  1., -6.], dtype=float32)
        """
        target = np.dtype(dtype)
        if target not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise DTypeError(f"dtype must be float32 or float64; got {dtype!r}.")
        if backends.on_device(self.codes):
            return self._dequantize_on_device(target)
        element = decode(self.codes, self.format.element)
        with np.errstate(over="ignore", invalid="ignore"):
            scales = self.scales * np.float32(self.tensor_scale)
            of_element = np.arange(self.codes.shape[self.axis]) // self.format.block
            scales = np.take(scales, of_element, axis=self.axis)
            exact = self.format.scale == "e8m0" and target == np.float64
            product = element.astype(np.float64) * scales if exact else element * scales
        bad = np.isfinite(element) & ~np.isfinite(product)
        if bad.any():
            raise self._beyond(first_value(element, bad), first_value(scales, bad), first_index(bad), target)
        return product.astype(target, copy=False)

    def _beyond(self, element: float, scale: float, where: str, target: np.dtype[Any]) -> DomainError:
        return DomainError(
            f"{self.format.name} value {element} * {scale}{where} is beyond the range of {target}. Scale the values "
            "down, or dequantize an E8M0 format to float64."
        )

    def _dequantize_on_device(self, target: np.dtype[Any]) -> npt.NDArray[Any]:
        """Dequantize where the codes live; waits for the device, to know whether a product was too large."""
        engine, block = backends.device_backend(), self.format.block
        codes, scales = backends.adopt("codes", self.codes), backends.adopt("scales", self.scales)
        with engine.on_device_of(codes):
            arrays, table = engine.array_module(), _table(self.format.element)
            (rows, shape), (of_rows, _) = (_rows(arrays, array, self.axis) for array in (codes, scales))
            exact = self.format.scale == "e8m0"
            values, found = backends.kernels("cuda", "formats").decode_blocks(
                rows, table, of_rows, block, self.tensor_scale, exact, target
            )  # fmt: skip
            place = int(found[0])
            if place < rows.size:
                row, column = divmod(place, rows.shape[1])
                element = float(table[int(rows[row, column])])
                scale = np.float32(of_rows[row, column // block].item()) * np.float32(self.tensor_scale)
                index = [int(i) for i in np.unravel_index(place, shape)]
                index.insert(self.axis, index.pop())
                where = index_text(int(np.ravel_multi_index(index, codes.shape)), codes.shape)
                raise self._beyond(element, float(scale), where, target)
            result: npt.NDArray[Any] = engine.hand_over(_unrows(arrays, values, shape, self.axis), self.codes)
            return result


def format_kernels(backend: str | None, *arrays: Any) -> Any:
    """Return the kernels' module of the back end that serves the call."""
    return backends.kernels(backends.choose(backend, *arrays), "formats")


def _rows(arrays: Any, array: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
    """Return contiguous 2-D rows that run along an axis, and the shape with that axis last."""
    moved = arrays.moveaxis(array, axis, -1)
    shape = moved.shape
    return arrays.ascontiguousarray(moved).reshape(math.prod(shape[:-1]), shape[-1]), shape


def _unrows(arrays: Any, rows: npt.NDArray[Any], shape: tuple[int, ...], axis: int) -> npt.NDArray[Any]:
    """Undo `_rows`, for rows of any length."""
    shaped = rows.reshape((*shape[:-1], rows.shape[-1]))
    result: npt.NDArray[Any] = arrays.ascontiguousarray(arrays.moveaxis(shaped, -1, axis))
    return result


def _refuse_nonfinite(arrays: Any, array: npt.NDArray[Any]) -> None:
    """Raise if there is a NaN or an infinity."""
    bad = ~arrays.isfinite(array)
    if bad.any():
        raise DomainError(
            f"x must be finite; got {int(bad.sum())} NaN or infinite values, the first {first_value(array, bad)}"
            f"{first_index(bad)}. Replace or drop them first."
        )


def _codes(
    x: npt.NDArray[Any], name: str, encoded: npt.NDArray[np.int64], numbers: npt.NDArray[np.float64],
    tensor_scale: float,
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """Return the codes of 2-D x on the host, blocks along the last axis."""
    recon, found = np.empty(x.shape), np.empty(x.shape, np.int32)
    format_kernels(name).reconstruct(np.ascontiguousarray(x), encoded, numbers, tensor_scale, recon, found)
    return np.where(found < 0, -1 - found, found).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _small_table(element: Element, overflow: str, rounding: str | None) -> npt.NDArray[np.uint8]:
    """Return the codes of ``encode_by_table``: of numbers by their upper 16 bits, the lower ones zero, or not."""
    words = np.arange(1 << 17, dtype=np.uint32) << np.uint32(15)
    values = words.view(np.float32)
    finite = np.isfinite(values)
    encoded, numbers = _encode_row(element_format(element), {"overflow": overflow, "rounding": rounding})
    codes = _codes(np.where(finite, values, np.float32(0)).reshape(1, -1), "reference", encoded, numbers, 1.0)
    return codes.reshape(-1)


@functools.lru_cache(maxsize=64)
def _float_numbers(element: Element, overflow: str) -> tuple[float, ...]:
    """Return what ``encode_float`` needs: shift, rebase, normal, magic, cap, sign."""
    largest = next(code for code in range(element.levels) if element.value(code) == element.largest)
    normal = int(np.float32(element.smallest_normal).view(np.int32))
    return (
        23 - element.mantissa_bits, (127 - element.bias) << element.mantissa_bits, normal,
        element.smallest_subnormal * 2.0**23, largest + (overflow != "saturate"), element.levels >> 1,
    )  # fmt: skip


def _encode_small(
    x: npt.NDArray[np.float32], element: Element, overflow: str, rounding: str | None
) -> npt.NDArray[np.uint8]:
    """Encode float32 to floats or fixed point of at most 8 bits."""
    from ..backends import cpu

    flat, out = np.ascontiguousarray(x).reshape(-1), np.empty(x.shape, np.uint8)
    # Without a mantissa the last bit that stays is the exponent's: such ties go by the table.
    if element.kind == "float" and element.mantissa_bits and rounding in (None, "half-even"):
        finite = cpu.encode_float(flat, _float_numbers(element, overflow), out.reshape(-1))
    else:
        finite = cpu.encode_by_table(flat, _small_table(element, overflow, rounding), out.reshape(-1))
    if not finite:
        _refuse_nonfinite(np, x)
    return out


def _encode_row(row: Format, options: dict[str, str | None]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    return row.encode_row(**{name: value for name, value in options.items() if value is not None})


def _refuse_nonpositive(x: npt.NDArray[Any]) -> None:
    bad = ~(x > 0)
    if bad.any():
        raise DomainError(
            f"e8m0 has neither zero nor sign: x must be positive; got {first_value(x, bad)}{first_index(bad)}."
        )


def _encode_exponents(arrays: Any, x: npt.NDArray[Any], overflow: str, rounding: str) -> npt.NDArray[np.uint8]:
    """Encode positive x as E8M0; a tie lies midway between two powers of two."""
    if overflow != "saturate":
        raise DomainError(f"e8m0 scales saturate: overflow must be 'saturate'; got {overflow!r}.")
    chosen = get_rounding(rounding)
    if not chosen.ties:
        raise DomainError(f"rounding of a number format must be deterministic; got {rounding!r}.")
    if not isinstance(x, np.ndarray):
        flat = arrays.ascontiguousarray(x).reshape(-1)
        codes, odd = backends.kernels("cuda", "formats").exponents(flat, chosen.code)
        if int(odd[0]) < flat.size:
            _refuse_nonfinite(arrays, x)
            _refuse_nonpositive(x)
        on_device: npt.NDArray[np.uint8] = codes.reshape(x.shape)
        return on_device
    _refuse_nonfinite(np, x)
    _refuse_nonpositive(x)
    fraction, exponent = np.frexp(x.astype(np.float64))
    rest, code = 2 * fraction - 1, exponent - 1 + E8M0_LIMIT
    never = np.zeros(rest.shape, np.bool_)
    up = {
        "half-even": (rest > 0.5) | ((rest == 0.5) & (code % 2 == 1)),
        "half-away": rest >= 0.5,
        "half-up": rest >= 0.5,
        "half-down": rest > 0.5,
        "half-toward-zero": rest > 0.5,
        "floor": never,
        "trunc": never,
        "ceil": rest > 0,
    }
    found: npt.NDArray[np.uint8] = np.clip(code + up[chosen.name], 0, 2 * E8M0_LIMIT).astype(np.uint8)
    return found


def encode(
    x: Any,
    format: str | Element,
    *,
    overflow: str = "saturate",
    rounding: str | None = None,
    backend: str | None = None,
) -> npt.NDArray[np.uint8]:
    """Cast reals to codes of an element format, rounding once.

    Parameters
    ----------
    x : array_like of real numbers, finite
        float64 is not narrowed on the way; integers up to ``2**53``; bfloat16 and smaller floats of ml_dtypes.
    format : str or Element
        ``e4m3fn``, ``e5m2``, ``e3m2``, ``e2m3``, ``e2m1``, ``mxint8``, ``nf4``, ``e8m0`` or an alias.
    overflow : {"saturate", "nan", "ieee"}
        What a value becomes whose rounding lies beyond the largest finite one: that value with x's sign, or
        (`nan` and `ieee` mean the same) NaN in e4m3fn and infinity in e5m2. Others only saturate.
    rounding : str, optional
        A deterministic rule of `qengine.affine.rounding`, applied to the real value among the element's neighbours,
        a tie to even being one to an even code; by default half-even, and half-down for `nf4`.
    backend : str, optional

    Returns
    -------
    uint8 array of x's shape
        One code an element, in the low bits. A zero result keeps x's sign where there is a negative zero. Of an array
        on a CUDA device: there, of its kind where its package takes DLPack; the call waits once, to know whether x is
        finite.

    Raises
    ------
    DomainError
        NaN or infinity in x (count and first index); an option that the element does not have; for `e8m0`, x <= 0.
    DTypeError, UnknownNameError

    Examples
    --------
    >>> from qengine.affine.blocks import decode, encode
    >>> codes = encode([0.25, -0.75, 2.5, -0.1, 100.0], "e2m1")     # three ties: 0, -1, 2
    >>> codes
    array([ 0, 10,  4,  8,  7], dtype=uint8)
    >>> decode(codes, "e2m1")
    array([ 0., -1.,  2., -0.,  6.], dtype=float32)
    >>> encode([464.0, 465.0], "e4m3fn", overflow="nan")            # the tie of 448 and 480 goes to 448
    array([126, 127], dtype=uint8)
    """
    element = get_element(format)

    def work(arrays: Any, name: str, value: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        array = samples(value)
        if element.kind == "exponent":
            return _encode_exponents(arrays, array, overflow, rounding or "half-even")
        options: dict[str, str | None] = {"overflow": overflow, "rounding": rounding}
        encoded, numbers = _encode_row(element_format(element), options)
        if isinstance(array, np.ndarray):
            if name == "cpu" and array.dtype == np.float32 and element.kind in ("float", "integer"):
                return _encode_small(array, element, overflow, rounding)
            _refuse_nonfinite(np, array)
            return _codes(array.reshape(1, -1), name, encoded, numbers, 1.0).reshape(array.shape)
        rows = arrays.ascontiguousarray(array).reshape(1, -1)
        codes, _, _, odd = backends.kernels("cuda", "formats").encode(rows, encoded, numbers, 1.0)
        if odd[0]:
            _refuse_nonfinite(arrays, array)
        on_device: npt.NDArray[np.uint8] = codes.reshape(array.shape)
        return on_device

    result: npt.NDArray[np.uint8] = backends.call_where_it_lives(backend, "x", x, work)
    return result


@functools.cache
def _table(element: Element) -> npt.NDArray[np.float32]:
    table = np.array([element.value(code) for code in range(element.levels)], np.float32)
    table.flags.writeable = False
    return table


def decode(codes: Any, format: str | Element) -> npt.NDArray[np.float32]:
    """Return what codes of an element format stand for, exactly.

    Parameters
    ----------
    codes : array_like of integers in ``[0, levels - 1]``
    format : str or Element

    Returns
    -------
    float32 array of the same shape
        NaN and infinities for the codes that mean them.

    Examples
    --------
    >>> from qengine.affine.blocks import decode
    >>> decode([0x7E, 0x81, 0x7F], "e4m3fn")
    array([ 4.480000e+02, -1.953125e-03,           nan], dtype=float32)
    """
    element = get_element(format)
    if backends.on_device(codes):
        result: npt.NDArray[np.float32] = backends.call_where_it_lives(
            None, "codes", codes, lambda arrays, name, array: _decode_on_device(arrays, array, element)
        )
        return result
    array = backends.as_numpy("codes", codes)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"codes must be integers; got dtype {array.dtype}.")
    bad = (array < 0) | (array >= element.levels)
    if bad.any():
        raise _no_code(element, first_value(array, bad), first_index(bad))
    return np.asarray(_table(element)[array])


def _no_code(element: Element, code: int, where: str) -> DomainError:
    return DomainError(f"codes of {element.name} must be in [0, {element.levels - 1}]; got {code}{where}.")


def _decode_on_device(arrays: Any, array: npt.NDArray[Any], element: Element) -> npt.NDArray[np.float32]:
    if array.dtype.kind not in "iu":
        raise DTypeError(f"codes must be integers; got dtype {array.dtype}.")
    engine, flat = backends.device_backend(), arrays.ascontiguousarray(array).reshape(-1)
    found = engine.codes_outside(flat, 0, element.levels - 1)
    if found is not None:
        raise _no_code(element, flat[found].item(), index_text(found, array.shape))
    values = backends.kernels("cuda", "formats").decode(flat.astype(np.uint8, copy=False), _table(element))
    result: npt.NDArray[np.float32] = values.reshape(array.shape)
    return result


def quantize_blocks(
    x: Any,
    format: str | Format,
    *,
    axis: int = -1,
    scale_rounding: str | None = None,
    overflow: str = "saturate",
    rounding: str | None = None,
    backend: str | None = None,
) -> BlockTensor:
    """Quantize a tensor in blocks along an axis, each with a scale of its own.

    Parameters
    ----------
    x : array_like of real numbers, finite, at least 1-D
    format : str or Format
        ``mxfp8-e4m3`` (``mxfp8``), ``mxfp8-e5m2``, ``mxfp6-e3m2`` (``mxfp6``), ``mxfp6-e2m3``, ``mxfp4``, ``mxint8``,
        ``nvfp4``, ``nf4``, or `get_format` of one with another block size.
    axis : int
        Axis that blocks run along; its last block may be shorter.
    scale_rounding : {"floor", "ceil", "even", "rceil"}, optional
        Rule of E8M0 scales, by default floor (OCP); other formats have none.
    overflow, rounding, backend
        As in `encode`.

    Returns
    -------
    BlockTensor

    Raises
    ------
    DomainError
        NaN or infinity in x; a format without blocks; magnitudes beyond float32's range where scales are float32;
        an option that the format does not have.
    DTypeError, UnknownNameError

    Notes
    -----
    A tensor on a CUDA device is encoded there, and the arrays of the result stay there, of its kind where its package
    takes DLPack. The call waits once, to know whether x is finite; for `nvfp4`, and for `nf4` of float64, also for x's
    largest magnitude.

    A block of zeros: scale ``2**-127`` in MX formats, else 0; codes of zero. A block of `nvfp4` whose scale is 0
    because the others are larger by far becomes zeros too. Subnormal and very large magnitudes meet the ends of
    E8M0, ``2**-127`` and ``2**127``.

    Examples
    --------
    >>> from qengine.affine.blocks import quantize_blocks
    >>> t = quantize_blocks([5.0, -0.25, 0.75, -6.0], "mxfp4")     # 5 is a tie of 4 and 6
    >>> t.codes, t.scales, t.scale_codes
    (array([ 6,  8,  2, 15], dtype=uint8), array([1.], dtype=float32), array([127], dtype=uint8))
    >>> quantize_blocks([5.0, -0.25, 0.75, -6.0], "mxfp4", scale_rounding="ceil").scales
    array([2.], dtype=float32)
    """
    row = get_format(format)
    if not row.block:
        raise DomainError(f"{row.name} has no blocks; use encode for a cast, or a format with blocks such as mxfp4.")
    options = {"overflow": overflow, "rounding": rounding, "scale_rounding": scale_rounding}
    name, value = backends.choose(backend, x), backends.adopt("x", x)
    if not isinstance(value, np.ndarray):
        with backends.device_backend().on_device_of(value):
            return _blocks_on_device(x, samples(value), row, axis, options)
    array = samples(value)
    axis = _block_axis(array, axis)
    encoded, numbers = _encode_row(row, options)
    _refuse_nonfinite(np, array)
    rows, shape = _rows(np, array, axis)
    tensor_scale = row.tensor_scale(float(np.abs(rows).max(initial=0.0)))
    codes = _codes(rows, name, encoded, numbers, tensor_scale)
    amax = np.zeros((len(rows), -(-shape[-1] // row.block)))
    if rows.size:
        amax = scales_in_numpy.block_maxima(rows.astype(np.float64), row.block)
    scale_codes: npt.NDArray[np.uint8] | None = None
    if row.scale == "e8m0":
        exponents = scales_in_numpy.e8m0_exponents(amax, encoded)
        scale_codes, scales = (exponents + E8M0_LIMIT).astype(np.uint8), np.ldexp(np.float32(1), exponents)
    elif row.scale == "e4m3":
        scales = scales_in_numpy.e4m3_scales(amax, tensor_scale).astype(np.float32)
        scale_codes = encode(scales, "e4m3fn", backend=backend)
    else:
        scales = amax.astype(np.float32)
    return BlockTensor(
        codes=_unrows(np, codes, shape, axis), scales=_unrows(np, scales, shape, axis),
        scale_codes=None if scale_codes is None else _unrows(np, scale_codes, shape, axis),
        tensor_scale=tensor_scale, format=row, axis=axis,
    )  # fmt: skip


def _block_axis(array: npt.NDArray[Any], axis: int) -> int:
    if array.ndim == 0:
        raise DomainError("x must have at least one dimension: blocks run along an axis.")
    return normal_axis(integer("axis", axis), array.ndim, array.shape)


def _blocks_on_device(
    x: Any, array: npt.NDArray[Any], row: Format, axis: int, options: dict[str, str | None]
) -> BlockTensor:
    """Quantize a device array in blocks; x is that array as it was given."""
    engine = backends.device_backend()
    arrays = engine.array_module()
    axis = _block_axis(array, axis)
    encoded, numbers = _encode_row(row, options)
    rows, shape = _rows(arrays, array, axis)
    amax = 0.0
    if rows.size and (row.scale == "e4m3" or (row.scale == "absmax" and rows.dtype == np.float64)):
        amax = max(float(rows.max()), -float(rows.min()))
        if not math.isfinite(amax):
            _refuse_nonfinite(arrays, array)
    tensor_scale = row.tensor_scale(amax)
    codes, scales, scale_codes, odd = backends.kernels("cuda", "formats").encode(rows, encoded, numbers, tensor_scale)
    if odd[0]:
        _refuse_nonfinite(arrays, array)

    def back(values: Any) -> Any:
        return engine.hand_over(_unrows(arrays, values, shape, axis), x)

    return BlockTensor(
        codes=back(codes), scales=back(scales), scale_codes=None if row.scale == "absmax" else back(scale_codes),
        tensor_scale=tensor_scale, format=row, axis=axis,
    )  # fmt: skip
