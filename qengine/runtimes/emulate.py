"""The public function: find the profile, check the columns, compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..arguments import chosen, integer
from ..exceptions import BackendError, DomainError
from .activations import activation_range
from .arithmetic import Target
from .columns import LIMITS, check_names
from .fronts import ALIASES, FRONTS
from .profiles import candidates, choose
from .row import X86, Profile

POSITIONS = ("body", "tensor")


def _clamp(
    row: Profile, columns: Mapping[str, Any], activation: str | None, qmin: int | None, qmax: int | None
) -> tuple[int, int]:
    """Return the closed range of the output codes."""
    if row.dtype not in LIMITS:
        if activation is not None or qmin is not None or qmax is not None:
            raise DomainError(f"{row.op} gives {row.dtype}: it has no activation, qmin or qmax.")
        return 0, 0
    low, high = LIMITS[row.dtype]
    if activation is not None:
        clamps = FRONTS[row.front].clamps
        missing = [name for name in clamps or () if name not in columns]
        if clamps is None or missing:
            needs = f" without the columns {', '.join(missing)}" if missing else ""
            raise DomainError(f"{row.op} of {row.runtime} takes no fused activation{needs}.")
        scale, zero = (columns[name] for name in clamps)
        low, high = activation_range(activation, scale, zero, row.dtype, xnnpack=row.delegated)
    for name, value in (("qmin", qmin), ("qmax", qmax)):
        if value is None:
            continue
        integer(name, value, low, high)
    low, high = low if qmin is None else int(qmin), high if qmax is None else int(qmax)
    if low > high:
        raise DomainError(f"qmin must not exceed qmax; got {low} > {high}.")
    return low, high


def _run(row: Profile, columns: Mapping[str, Any], clamp: tuple[int, int], backend: str) -> npt.NDArray[Any]:
    return FRONTS[row.front].run(row.arithmetic, row, columns, Target(row.dtype, *clamp, backend))


def _rest(value: Any, shape: tuple[int, ...], part: slice, along: str) -> Any:
    """Return the part of a column behind the body of a tensor of that shape."""
    array = np.broadcast_to(np.asarray(value), shape)
    return array.reshape(-1)[part] if along == "elements" else array[..., part]


def emulate(
    runtime: str,
    op: str,
    path: str,
    *,
    version: str | None = None,
    isa: str = X86,
    variant: str | None = None,
    positions: str = "body",
    activation: str | None = None,
    qmin: int | None = None,
    qmax: int | None = None,
    backend: str | None = None,
    **columns: Any,
) -> npt.NDArray[Any]:
    """Compute what an operator of a runtime returns, bit for bit.

    ``qe.get_profile(...)`` with the same names says by which recipe, arithmetic and epilogue, and on how many recorded
    outputs that holds.

    Parameters
    ----------
    runtime, op, path : str
        ``"litert"`` or ``"tensorflow"``, ``"CONV_2D"``, ``"xnnpack"``, ``"opt"`` or ``"ref"``; ``"onnxruntime"``,
        ``"QLinearConv"``, ``"cpu"``; ``"torch"``, ``"quantized_linear"``, ``"fbgemm"`` ... `qengine.profiles` lists
        them.
    version : str, optional
        Default: the newest that was measured.
    isa : {"x86-64", "aarch64"}
        Default: x86-64, whatever this machine is.
    variant : str, optional
        E.g. ``"perchannel"``, ``"i16x8_biasint32"``, ``"keepdims"``. Default: the first one that takes the columns
        given and the type of their codes.
    positions : {"body", "tensor"}
        Where vector code leaves a rest to scalar code with other arithmetic (``qe.get_profile(...).body``): every
        element as in the body, as recordings hold them; or elements by their place in the tensor that the columns
        make (channels last). A rest alone is a variant, e.g. ``"tail"``.
    activation : {"NONE", "RELU", "RELU6", "RELU_N1_TO_1"}, optional
        Fused activation; needs one output scale and zero point.
    qmin, qmax : int, optional
        Another closed clamp of the output codes.
    backend : {"reference", "cpu", "cuda"}, optional
        See `qengine.backends`; ``cuda`` computes schemes of accumulators alone.
    **columns : array_like
        The operator's inputs and parameters, by the names in ``qe.get_profile(...).columns``; shapes broadcast. Codes
        and zero points are in the closed range of the row's type; ``acc`` in that of int32 (int48 where the bias has
        64 bits); scales are float32, ``> 0``; ``sum`` is the raw sum of ``count`` codes, ``count`` in ``[1, 2**24]``.
        ``kind`` and ``output``, which recordings hold beside, are not read.

    Returns
    -------
    ndarray
        Output codes (int8, uint8, int16), or float32 for dequantization, of the columns' common shape.

    Raises
    ------
    UnknownNameError
        For a runtime, operator, path, version, ISA or variant without a profile; the text lists those that exist.
    DomainError, DTypeError
        A column that is missing, unknown, of another type, or outside its range; names the value and its index.

    Examples
    --------
    The case of tensorflow#102943: an exact tie in float32 alone.

    >>> import qengine as qe
    >>> scales = {"in_scale": 0.05296124517917633, "w_scale": 0.024093778803944588, "out_scale": 0.11484327912330627}
    >>> for path in ("xnnpack", "opt", "ref"):
    ...     print(path, int(qe.emulate("litert", "CONV_2D", path, acc=585, zero_point=-126, **scales)))
    xnnpack -120
    opt -119
    ref -119

    -1 and 1 halved: XNNPACK rounds half up, TFLite's reference away from zero.

    >>> half = {"a_scale": 0.5, "b_scale": 0.5, "out_scale": 1.0, "a_zp": 0, "b_zp": 0, "out_zp": 0}
    >>> qe.emulate("litert", "ADD", "xnnpack", a=[1, -1, -3], b=0, **half)
    array([ 1,  0, -1], dtype=int8)
    >>> qe.emulate("litert", "ADD", "ref", a=[1, -1, -3], b=0, **half)
    array([ 1, -1, -2], dtype=int8)
    """
    rows = candidates(runtime, op, path, version=version, isa=isa, variant=variant)
    row = choose(rows, columns)
    front, aliases = FRONTS[row.front], ALIASES.get(row.front, {})
    given = {aliases.get(name, name): value for name, value in columns.items()}
    check_names(f"{row.op} of {row.runtime}", front.columns, given, front.optional)
    chosen("positions", positions, POSITIONS)
    if any(backends.on_device(value) for value in given.values()):
        raise BackendError("columns must be on the host; copy them there first.")
    name = backends.choose(backend)
    clamp = _clamp(row, given, activation, qmin, qmax)
    result = _run(row, given, clamp, name)
    if positions == "body" or row.body is None or result.ndim == 0:
        return result
    body, tail = row.body, _tail(row)
    length = result.size if body.along == "elements" else result.shape[-1]
    part = slice(length - length % body.width, length)
    if part.start < part.stop:
        rest = {name: _rest(value, result.shape, part, body.along) for name, value in given.items()}
        target = result.reshape(-1) if body.along == "elements" else result
        target[..., part] = _run(tail, rest, clamp, name)
    return result


def _tail(row: Profile) -> Profile:
    assert row.body is not None
    (tail,) = candidates(row.runtime, row.op, row.path, version=row.versions[-1], isa=row.isa, variant=row.body.rest)
    return tail
