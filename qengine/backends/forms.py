"""What a back end evaluates: the normal forms, their rules as data, and the epilogue.

*Floor form* (almost every integer scheme), in int64::

    y = floor((a * x + (bp if x >= 0 else bn)) / 2**t)

A `FloorRule` says as data how (a, bp, bn, t) follow from a mantissa and an exponent e of the real multiplier
``M = mantissa * 2**(e - base)``: ``a = mantissa``, ``t = base - e``, and each bias is ``h * 2**(t-1) + c`` with
(h, c) by the sign of x and by the regime: right shift (e < 0), none (e = 0), left shift (e > 0).

*Float form*: one float32 or float64 multiplication, a rounding rule, the zero point after it or inside it.

*Nested form*: a rounding pre-shift to int16, then a 15-bit multiplication (rndnu16): no single floor.

Sources: `floor` is TOSA's apply_scale_32 generalised; that TFLite's two-stage rounding equals the form with
``+-2**30`` is proved in the README ("what the +-1 really is") and tested against the literal stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import (
    FLOAT,
    FLOOR,
    HALF_AWAY,
    HALF_EVEN,
    MANTISSA_M15,
    MANTISSA_M24,
    MANTISSA_M24_LEFT7,
    MANTISSA_Q8,
    MANTISSA_Q15_SATURATED,
    MANTISSA_Q31,
    NESTED16,
    NUDGE_SATURATES,
    RULE_LENGTH,
    SHIFTS_ACCUMULATOR,
)

I64 = npt.NDArray[np.int64]
Mantissa = Literal["q31", "q15-saturated", "m15", "m24", "m24<<7", "q8"]
MANTISSA_CODES: dict[str, int] = {
    "q31": MANTISSA_Q31,
    "q15-saturated": MANTISSA_Q15_SATURATED,
    "m15": MANTISSA_M15,
    "m24": MANTISSA_M24,
    "m24<<7": MANTISSA_M24_LEFT7,
    "q8": MANTISSA_Q8,
}
ROUNDING_CODES: dict[str, int] = {"half-even": HALF_EVEN, "half-away": HALF_AWAY}
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True)
class Bias:
    """Biases of one regime: ``bp = hp * 2**(t-1) + cp`` for x >= 0, ``bn = hn * 2**(t-1) + cn`` for x < 0."""

    hp: int
    cp: int
    hn: int
    cn: int

    @classmethod
    def same(cls, h: int, c: int = 0) -> Bias:
        """Return the bias that does not depend on the sign of x."""
        return cls(h, c, h, c)


@dataclass(frozen=True, slots=True)
class FloorRule:
    """How (a, bp, bn, t) follow from the multiplier.

    Attributes
    ----------
    mantissa : str
        Which mantissa: ``q31`` (QuantizeMultiplier), ``q15-saturated`` (REDUCE15 of it), ``m15`` (rounded,
        renormalised), ``m24`` (that of the float32 scale), ``m24<<7`` (the same widened to Q31), ``q8`` (the
        float32 scale in 8.8 fixed point: e = 0 whatever the scale).
    base : int
        ``t = base - e`` where ``M = mantissa * 2**(e - base)``.
    right, none, left : Bias
        Biases for e < 0, e = 0, e > 0.
    shifts_accumulator : bool
        The original computes ``x << e`` in int32 first when e > 0, which can overflow.
    saturate_bits : int
        Width to which the original saturates the rounded result (before the zero point); 0 if it does not.
    nudge_saturates : bool
        For e < 0 the original adds its rounding nudge in saturating int32 to ``floor(m x / 2**31)``: larger
        accumulators are outside its contract.
    """

    mantissa: Mantissa
    base: int
    right: Bias
    none: Bias
    left: Bias
    shifts_accumulator: bool = False
    saturate_bits: int = 0
    nudge_saturates: bool = False

    def encode(self) -> I64:
        """Return the rule as the int64 row that every kernel wing reads (`qengine.kernels.codes`)."""
        flags = SHIFTS_ACCUMULATOR * self.shifts_accumulator + NUDGE_SATURATES * self.nudge_saturates
        row = [FLOOR, MANTISSA_CODES[self.mantissa], self.base, flags]
        for bias in (self.right, self.none, self.left):
            row += [bias.hp, bias.cp, bias.hn, bias.cn]
        return np.array(row, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class FloatRule:
    """One floating-point multiplication and a rounding.

    Attributes
    ----------
    bits : 32 | 64
        Type of the multiplication; a 32-bit rule rounds the accumulator to float32 first.
    rounding : str
        ``half-even`` or ``half-away``.
    zero_point_inside : bool
        Add the zero point in floating point before the rounding (a second float32 rounding).
    clamps_before_conversion : bool
        On wrap-around, whether the original takes ``min(v, qmax - zero_point)`` before it converts to int32.
    saturates : bool
        Whether a clamped output has a defined value when the rounded product leaves int32.
    """

    bits: Literal[32, 64]
    rounding: Literal["half-even", "half-away"]
    zero_point_inside: bool = False
    clamps_before_conversion: bool = False
    saturates: bool = True

    def encode(self) -> I64:
        """Return the rule as the int64 row that every kernel wing reads."""
        row = np.zeros(RULE_LENGTH, dtype=np.int64)
        row[:5] = (
            FLOAT, self.bits, ROUNDING_CODES[self.rounding], int(self.zero_point_inside), int(self.saturates)
        )  # fmt: skip
        return row


@dataclass(frozen=True, slots=True)
class NestedRule:
    """Rounding pre-shift to int16, 15-bit multiplication, saturating int16 zero point (rndnu16)."""

    def encode(self) -> I64:
        """Return the rule as the int64 row that every kernel wing reads."""
        row = np.zeros(RULE_LENGTH, dtype=np.int64)
        row[0] = NESTED16
        return row


Rule = FloorRule | FloatRule | NestedRule


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A rule with its numbers: 1-D arrays, one element a channel.

    Attributes
    ----------
    rule : Rule
    a, bp, bn, t : int64 arrays
        Floor form; for the nested form a = mantissa (15 bits) and t = exponent. Empty for float forms.
    scale : float64 array
        Float forms: the scale, exact in the type of the rule.
    exponent : int64 array
        Power of two of the multiplier, TFLite's sign; ``right shift = max(0, -exponent)``.
    acc_min, acc_max : int64 arrays
        Closed range of accumulators that the original handles without overflow, raw result.
    """

    rule: Rule
    a: I64
    bp: I64
    bn: I64
    t: I64
    scale: npt.NDArray[np.float64]
    exponent: I64
    acc_min: I64
    acc_max: I64

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.exponent.size)


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """What follows the rounding, per channel: bounds before the zero point, the zero point, the clamp.

    ``low``/``high`` bound the rounded result before the zero point (the clamp moved in front of it, and the
    saturation of the original); on wrap-around they are the saturation alone.
    """

    zero_point: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    qmin: int
    qmax: int
    clamped: bool
    wrap: bool
