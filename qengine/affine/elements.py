"""Elements of number formats: sets of values with codes, such as a small float, a fixed-point byte, a codebook."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from ..arguments import chosen

#: NF4, as published: quantiles of a normal distribution, as float32 (QLoRA, arXiv 2305.14314, appendix E).
NF4_VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
    0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
#: Code c + 1 begins above threshold c (bitsandbytes csrc/kernels.cu, dQuantizeNF4): midpoints, as float32.
NF4_THRESHOLDS = (
    -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
    -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
    0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """A set of values and their codes.

    Attributes
    ----------
    name, aliases : str, tuple of str
    kind : {"float", "integer", "codebook", "exponent"}
    bits : int
        Width of a code; codes are in ``[0, 2**bits - 1]``.
    exponent_bits, mantissa_bits, bias : int
        Fields of a float, 0 where there are none; for an integer, mantissa_bits is its fraction.
    largest, smallest_normal, smallest_subnormal : float
        Largest finite magnitude that is encoded, and the smallest ones above zero.
    special : str
        Codes that stand for no finite number, and whether there is a negative zero.
    overflow : {"", "nan", "ieee"}
        What an overflow can become instead of the largest finite value: nothing, NaN, infinity.
    formula, source : str
    """

    name: str
    aliases: tuple[str, ...] = ()
    kind: Literal["float", "integer", "codebook", "exponent"] = "float"
    bits: int
    exponent_bits: int = 0
    mantissa_bits: int = 0
    bias: int = 0
    largest: float
    smallest_normal: float
    smallest_subnormal: float
    special: str
    overflow: Literal["", "nan", "ieee"] = ""
    formula: str
    source: str

    @property
    def levels(self) -> int:
        """Number of codes, special ones included."""
        return 1 << self.bits

    @property
    def emax(self) -> int:
        """Exponent of the largest finite magnitude."""
        return math.frexp(self.largest)[1] - 1

    def value(self, code: int) -> float:
        """Return what a code in ``[0, levels - 1]`` stands for; NaN and infinities for special codes.

        Examples
        --------
        >>> from qengine.affine.elements import get_element
        >>> e2m1 = get_element("e2m1")
        >>> [e2m1.value(code) for code in (0, 1, 7, 8, 15)]
        [0.0, 0.5, 6.0, -0.0, -6.0]
        """
        if self.kind == "codebook":
            return NF4_VALUES[code]
        if self.kind == "exponent":
            return math.nan if code == self.levels - 1 else 2.0 ** (code - self.bias)
        if self.kind == "integer":
            return (code - self.levels if code >= self.levels // 2 else code) / 2.0**self.mantissa_bits
        sign, magnitude = -1.0 if code >= self.levels // 2 else 1.0, code % (self.levels // 2)
        exponent, fraction = divmod(magnitude, 1 << self.mantissa_bits)
        if self.overflow == "ieee" and exponent == (1 << self.exponent_bits) - 1:
            return math.nan if fraction else sign * math.inf
        if self.overflow == "nan" and magnitude == self.levels // 2 - 1:
            return math.nan
        significand = Fraction(fraction, 1 << self.mantissa_bits) + (1 if exponent else 0)
        return sign * float(significand * Fraction(2) ** (max(exponent, 1) - self.bias))

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data for JSON."""
        return {
            "name": self.name, "aliases": list(self.aliases), "kind": self.kind, "bits": self.bits,
            "codes": self.levels, "exponent_bits": self.exponent_bits, "mantissa_bits": self.mantissa_bits,
            "bias": self.bias, "largest": self.largest, "smallest_normal": self.smallest_normal,
            "smallest_subnormal": self.smallest_subnormal, "special": self.special,
            "overflow": ["saturate", *([self.overflow] if self.overflow else [])], "formula": self.formula,
            "source": self.source,
        }  # fmt: skip


_OFP8 = "OCP 8-bit floating point (OFP8) v1.0, section 5"
_MX = "OCP Microscaling formats (MX) v1.0, section 5.3"
_FLOAT = "(-1)**s * 2**(max(E, 1) - {bias}) * ((E > 0) + M / {steps})"


def _small_float(
    name: str, aliases: tuple[str, ...], exponent_bits: int, mantissa_bits: int, largest: float, special: str,
    overflow: Literal["", "nan", "ieee"], source: str,
) -> Element:  # fmt: skip
    bias = (1 << (exponent_bits - 1)) - 1
    normal = 2.0 ** (1 - bias)
    return Element(
        name=name, aliases=aliases, bits=1 + exponent_bits + mantissa_bits, exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits, bias=bias, largest=largest, smallest_normal=normal,
        smallest_subnormal=normal / 2**mantissa_bits, special=special, overflow=overflow,
        formula=_FLOAT.format(bias=bias, steps=1 << mantissa_bits), source=source,
    )  # fmt: skip


_NO_SPECIAL = "no NaN, no infinity; -0 is a code"
_ROWS = (
    _small_float("e4m3fn", ("fp8-e4m3", "e4m3", "float8_e4m3fn"), 4, 3, 448.0,
                 "NaN 0x7f and 0xff, no infinity; -0 is a code", "nan", _OFP8),
    _small_float("e5m2", ("fp8-e5m2", "float8_e5m2"), 5, 2, 57344.0,
                 "infinity 0x7c and 0xfc, NaN above; -0 is a code", "ieee", _OFP8),
    _small_float("e3m2", ("fp6-e3m2", "float6_e3m2fn"), 3, 2, 28.0, _NO_SPECIAL, "", _MX),
    _small_float("e2m3", ("fp6-e2m3", "float6_e2m3fn"), 2, 3, 7.5, _NO_SPECIAL, "", _MX),
    _small_float("e2m1", ("fp4", "fp4-e2m1", "float4_e2m1fn"), 2, 1, 6.0, _NO_SPECIAL, "", _MX),
    Element(
        name="mxint8", kind="integer", bits=8, mantissa_bits=6, largest=127 / 64, smallest_normal=1 / 64,
        smallest_subnormal=1 / 64, special="code 0x80 decodes to -2 and is never written", formula="code * 2**-6",
        source=_MX + ".4; the symmetric clamp is that of microsoft/microxcaling",
    ),
    Element(
        name="nf4", kind="codebook", bits=4, largest=1.0, smallest_normal=NF4_VALUES[8],
        smallest_subnormal=NF4_VALUES[8], special="16 values, zero is code 7; a midpoint goes to the lower code",
        formula="values[code]; code = number of midpoints below v",
        source="QLoRA, arXiv 2305.14314, appendix E; bitsandbytes csrc/kernels.cu dQuantizeNF4",
    ),
    Element(
        name="e8m0", aliases=("ue8m0", "float8_e8m0fnu"), kind="exponent", bits=8, exponent_bits=8, bias=127,
        largest=2.0**127, smallest_normal=2.0**-127, smallest_subnormal=2.0**-127,
        special="NaN 0xff; no sign, no zero, no infinity", formula="2**(code - 127)", source=_MX + ", 5.4.1: scales",
    ),
)  # fmt: skip

ELEMENTS: dict[str, Element] = {row.name: row for row in _ROWS}
_NAMES = {name: row for row in _ROWS for name in (row.name, *row.aliases)}


def get_element(name: str | Element) -> Element:
    """Return the element of that name or alias.

    Examples
    --------
    >>> from qengine.affine.elements import get_element
    >>> get_element("fp8-e4m3").largest
    448.0
    """
    if isinstance(name, Element):
        return name
    return _NAMES[chosen("element format", name, _NAMES)]
