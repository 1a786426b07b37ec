"""Floating and block number formats beside integers: the rows.

A *format* is an element (`qengine.affine.elements`), the block of elements that share a scale, and how that scale is
chosen and stored. `qengine.affine.blocks` encodes and decodes them; the error engine takes them as
`Format.encode_row`.

A real x becomes the element nearest to ``v = x / scale``, rounded once:

========== ============================================= ==========================================================
scale      value of a block's scale s                    v, and what a code stands for
========== ============================================= ==========================================================
``tensor`` one number given for all elements             ``v = float64(x / s)``; ``float32(element * s)``
``e8m0``   ``2**e``, e from the block's largest          ``v = x / s`` and ``element * s``, both exact
           magnitude by a scale rounding
``e4m3``   ``float32(b * t)``, t one float32 a tensor,   ``v = float32(x / s)``; ``float32(element * s)``
           ``b = e4m3fn(float32(float32(amax/6) / t))``
``absmax`` ``float32(amax)``                             ``v = float32(x * float32(1/s))``; ``float32(element * s)``
========== ============================================= ==========================================================

For float32 inputs and scales the quotient in float64 decides as the exact quotient does: a quotient of two 24-bit
numbers is a tie between elements, or is further from it than float64 resolves.

Scale roundings of E8M0, for an element whose largest finite value is ``L`` in ``[2**emax, 2**(emax + 1))`` and which
has m bits of fraction (6 for the integer element); the result is clamped to [-127, 127]:

========== ========================================================================================================
``floor``  ``floor(log2(amax)) - emax`` (OCP MX v1.0, 6.3)
``ceil``   ``ceil(log2(amax)) - emax``
``even``   ``floor(log2(amax rounded half up to m bits of fraction)) - emax``
``rceil``  ``ceil(log2(amax / L))``, exactly (cuBLAS: round the quotient up)
========== ========================================================================================================

They are the modes FLOOR, CEIL, EVEN and RCEIL of torchao's ``ScaleCalculationMode``. A block of zeros takes
``2**-127``, and zero codes with their signs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qengine.kernels import codes

from ..arguments import chosen, integer
from ..exceptions import DomainError, UnknownNameError, brief
from .elements import ELEMENTS, NF4_THRESHOLDS, NF4_VALUES, Element
from .rounding import get_rounding

SCALE_ROUNDINGS = ("floor", "ceil", "even", "rceil")
OVERFLOWS = ("saturate", "nan", "ieee")
FLOAT32_MAX = float(np.finfo(np.float32).max)
_SCALE_CODES = {
    "tensor": codes.SCALE_TENSOR, "e8m0": codes.SCALE_E8M0, "e4m3": codes.SCALE_E4M3, "absmax": codes.SCALE_ABSMAX,
}  # fmt: skip
_AFTER_HALF = math.nextafter(0.5, 1.0)
_SMALLEST = math.ulp(0.0)
#: For each rule that is not ties to even: an exact fraction d, of the sign of v, rounds up from the first number on
#: and down to the second; 2 is never reached.
_ROUND_UP_DOWN = {
    codes.HALF_EVEN: (0.5, -0.5),
    codes.HALF_AWAY: (0.5, -0.5),
    codes.HALF_UP: (0.5, -_AFTER_HALF),
    codes.HALF_DOWN: (_AFTER_HALF, -0.5),
    codes.HALF_TOWARD_ZERO: (_AFTER_HALF, -_AFTER_HALF),
    codes.ROUND_FLOOR: (2.0, -_SMALLEST),
    codes.ROUND_CEIL: (_SMALLEST, -2.0),
    codes.ROUND_TRUNC: (2.0, -2.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """An element, the block that shares a scale, and how that scale is chosen and stored.

    Attributes
    ----------
    name, aliases : str, tuple of str
    element : Element
    block : int
        Elements that share a scale, along one axis; 0: none, one scale is given for all.
    scale : {"tensor", "e8m0", "e4m3", "absmax"}
        Kind of scale; the module's table.
    formula, source : str
    """

    name: str
    aliases: tuple[str, ...] = ()
    element: Element
    block: int = 0
    scale: Literal["tensor", "e8m0", "e4m3", "absmax"] = "tensor"
    formula: str
    source: str

    @property
    def bits_per_element(self) -> float:
        """Storage of one element with its share of a whole block's scale; not of what a tensor stores once."""
        return self.element.bits + {"tensor": 0, "e8m0": 8, "e4m3": 8, "absmax": 32}[self.scale] / max(self.block, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data for JSON."""
        return {
            "name": self.name, "aliases": list(self.aliases), "element": self.element.to_dict(),
            "block": self.block, "scale": self.scale, "bits_per_element": self.bits_per_element,
            "formula": self.formula, "source": self.source,
        }  # fmt: skip

    def tensor_scale(self, amax: float) -> float:
        """Return the number that a whole tensor (or channel, or group) of largest magnitude `amax` is scaled by.

        ``float32(amax / largest)`` for formats without blocks, ``float32(amax / (6 * 448))`` for `nvfp4`, and 1.0
        where a format stores no such number, where amax is 0, or where the quotient is 0 in float32.

        Raises
        ------
        DomainError
            amax negative or not finite; amax beyond float32's range where the format's scales are float32.

        Examples
        --------
        >>> from qengine.affine.formats import get_format
        >>> get_format("fp8-e4m3").tensor_scale(896.0), get_format("mxfp4").tensor_scale(896.0)
        (2.0, 1.0)
        """
        if not 0.0 <= amax < math.inf:
            raise DomainError(f"amax must be finite and not negative; got {amax}.")
        if self.scale == "e8m0":
            return 1.0
        if amax > FLOAT32_MAX:
            raise DomainError(
                f"{self.name} has float32 scales: magnitudes must be at most {FLOAT32_MAX}; got {amax}. Scale the "
                "values down first."
            )
        if self.scale == "absmax":
            return 1.0
        largest = self.element.largest * (codes.E4M3_LARGEST if self.scale == "e4m3" else 1.0)
        return float(np.float32(amax / largest)) or 1.0

    def encode_row(
        self, *, overflow: str = "saturate", rounding: str | None = None, scale_rounding: str | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the format with its options as the kernels read it: (row, numbers).

        Parameters
        ----------
        overflow : {"saturate", "nan", "ieee"}
            What a value becomes whose rounding lies beyond the largest finite value: that value, or (`nan` and
            `ieee` mean the same) NaN in e4m3fn and infinity in e5m2. Other elements only saturate.
        rounding : str, optional
            Rule of the element, any deterministic one of `qengine.affine.rounding`; by default half-even, and
            half-down for `nf4`, which has no other.
        scale_rounding : {"floor", "ceil", "even", "rceil"}, optional
            Rule of an E8M0 scale, by default floor; for other scales there is none to choose.

        Returns
        -------
        row : int64 array of shape (FORMAT_ROW,)
        numbers : float64 array of shape (FORMAT_NUMBERS,)
            Positions: `qengine.kernels.codes`.
        """
        e = self.element
        if e.kind == "exponent":
            raise DomainError(f"{e.name} is a format of scales; it has no reals to reconstruct.")
        rule = _rounding_code(e, rounding)
        row = np.zeros(codes.FORMAT_ROW, np.int64)
        numbers = np.zeros(codes.FORMAT_NUMBERS)
        row[codes.FORMAT_BLOCK] = self.block
        row[codes.FORMAT_SCALE] = _SCALE_CODES[self.scale]
        row[codes.FORMAT_ROUNDING] = rule
        row[codes.FORMAT_EMAX] = e.emax
        row[codes.FORMAT_SCALE_THRESHOLD] = self._scale_threshold(scale_rounding)
        over = _overflow_value(e, overflow)
        if e.kind == "codebook":
            row[codes.FORMAT_CODEBOOK] = e.levels
            numbers[codes.FORMAT_THRESHOLDS : codes.FORMAT_VALUES] = np.array([*NF4_THRESHOLDS, math.inf], np.float32)
            numbers[codes.FORMAT_VALUES :] = NF4_VALUES
            return row, numbers
        integer = e.kind == "integer"
        # A fixed point is a float whose lowest binade reaches to the largest value.
        low = e.emax + 1 if integer else 1 - e.bias
        m = e.mantissa_bits + (low if integer else 0)
        row[codes.FORMAT_MANTISSA], row[codes.FORMAT_MIN_EXPONENT] = m, low
        top = max(e.emax, low)
        largest_code = ((top - low) << m) + int(Fraction(e.largest) / Fraction(2) ** (top - m))
        row[codes.FORMAT_MAX_CODE] = largest_code
        row[codes.FORMAT_OVER_CODE] = largest_code + (0 if math.isfinite(over) else 1)
        row[codes.FORMAT_SIGN], row[codes.FORMAT_FLIP] = (0, -1) if integer else (e.levels // 2, 0)
        numbers[codes.FORMAT_OVER_VALUE] = over
        numbers[codes.FORMAT_CAP] = 2.0 ** (e.emax + 2)
        numbers[codes.FORMAT_UP], numbers[codes.FORMAT_DOWN] = _ROUND_UP_DOWN[rule]
        numbers[codes.FORMAT_ZERO] = 0.0 if integer else -0.0
        return row, numbers

    def _scale_threshold(self, name: str | None) -> int:
        """Return the 52-bit fraction of amax above which the scale's exponent is one more."""
        if self.scale != "e8m0":
            if name is not None:
                raise DomainError(
                    f"{self.name} has no E8M0 scale to round; got scale_rounding {brief(name)}. Leave it out."
                )
            return 0
        e = self.element
        thresholds = {
            "floor": 1 << 52,
            "ceil": 0,
            "even": (1 << 52) - (1 << (51 - e.mantissa_bits)) - 1,
            "rceil": int((Fraction(e.largest) / Fraction(2) ** e.emax - 1) * (1 << 52)),
        }
        if name is None:
            return thresholds["floor"]
        return thresholds[chosen("scale rounding", name, thresholds)]


def _rounding_code(element: Element, name: str | None) -> int:
    rule = get_rounding(name if name is not None else ("half-down" if element.kind == "codebook" else "half-even"))
    if element.kind == "codebook" and rule.code != codes.HALF_DOWN:
        raise DomainError(
            f"{element.name} decides at midpoints, which go to the lower code: rounding must be 'half-down' or left "
            f"out; got {name!r}."
        )
    if rule.code not in _ROUND_UP_DOWN:
        raise DomainError(f"rounding of a number format must be deterministic; got {name!r}.")
    return rule.code


def _overflow_value(element: Element, name: str) -> float:
    chosen("overflow", name, OVERFLOWS)
    if name == "saturate":
        return element.largest
    if not element.overflow:
        raise DomainError(f"{element.name} has neither NaN nor infinity: overflow must be 'saturate'; got {name!r}.")
    return math.nan if element.overflow == "nan" else math.inf


def element_format(element: Element) -> Format:
    """Return the format of an element alone, under one given scale."""
    return Format(
        name=element.name, aliases=element.aliases, element=element, formula=f"s * {element.formula}",
        source=element.source,
    )  # fmt: skip


def _mx(name: str, element: str, *aliases: str) -> Format:
    return Format(
        name=name, aliases=aliases, element=ELEMENTS[element], block=32, scale="e8m0",
        formula=f"2**e * {element}", source="OCP Microscaling formats (MX) v1.0, sections 5.1 to 6.3",
    )  # fmt: skip


_FORMAT_ROWS = (
    *(element_format(ELEMENTS[name]) for name in ("e4m3fn", "e5m2", "e3m2", "e2m3", "e2m1")),
    _mx("mxfp8-e4m3", "e4m3fn", "mxfp8"),
    _mx("mxfp8-e5m2", "e5m2"),
    _mx("mxfp6-e3m2", "e3m2", "mxfp6"),
    _mx("mxfp6-e2m3", "e2m3"),
    _mx("mxfp4", "e2m1", "mxfp4-e2m1"),
    _mx("mxint8", "mxint8"),
    Format(
        name="nvfp4", element=ELEMENTS["e2m1"], block=16, scale="e4m3", formula="float32(b * t) * e2m1",
        source="NVIDIA, Pretraining with NVFP4, arXiv 2509.25149, appendix C; the order of float32 operations is that "
        "of torchao nvfp4_quantize, without its lower bound 2**-6 of the block scale",
    ),
    Format(
        name="nf4", element=ELEMENTS["nf4"], block=64, scale="absmax", formula="absmax * nf4",
        source="QLoRA, arXiv 2305.14314; bitsandbytes csrc/kernels.cu kQuantizeBlockwise (one level of scales)",
    ),
)  # fmt: skip
FORMATS: dict[str, Format] = {row.name: row for row in _FORMAT_ROWS}
_FORMAT_NAMES = {name: row for row in _FORMAT_ROWS for name in (row.name, *row.aliases)}


def formats() -> tuple[Format, ...]:
    """Return every number format.

    Returns
    -------
    tuple of Format

    Examples
    --------
    >>> import qengine as qe
    >>> [row.name for row in qe.formats() if row.block == 32]
    ['mxfp8-e4m3', 'mxfp8-e5m2', 'mxfp6-e3m2', 'mxfp6-e2m3', 'mxfp4', 'mxint8']
    >>> qe.get_format("mxfp4").element.value(15)                    # the most negative code
    -6.0
    """
    return _FORMAT_ROWS


def get_format(name: str | Format, *, block: int | None = None) -> Format:
    """Return the format of that name or alias.

    Parameters
    ----------
    name : str or Format
        E.g. ``"mxfp4"``.
    block : int, optional
        Elements a block, instead of the format's own number.

    Returns
    -------
    Format

    Examples
    --------
    >>> from qengine.affine.formats import get_format
    >>> get_format("mxfp8").block, get_format("nf4", block=128).block
    (32, 128)
    """
    if isinstance(name, str) and name not in _FORMAT_NAMES and name.removeprefix("u").startswith("int"):
        raise UnknownNameError(
            f"unknown number format {brief(name)}: integers are no format; use bits=, and group= for groups."
        )
    row = name if isinstance(name, Format) else _FORMAT_NAMES[chosen("number format", name, _FORMAT_NAMES)]
    if block is None:
        return row
    block = integer("block", block)
    if not row.block or block < 1:
        raise DomainError(f"block must be at least 1, for a format with blocks; got {block} for {row.name}.")
    return replace(row, block=block)
