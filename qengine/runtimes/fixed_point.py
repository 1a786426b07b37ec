"""gemmlowp's fixed-point functions on raw integers: exp, reciprocals, logistic, tanh, in 16 or 32 bits.

A number with i integer bits of w has the raw value ``x 2**(w - 1 - i)``. A product of two numbers is
``SRDHM(a, b)`` and has the sum of their integer bits. Raw values are int64 arrays within w bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
#: exp of -2**power, power from -2 to 4, raw in 32 bits without integer bits.
_EXP_STEPS = (
    (-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401), (4, 242),
)  # fmt: skip
_EXP_EIGHTH, _THIRD = 1895147668, 715827883
_48_OVER_17, _NEG_32_OVER_17 = 1515870810, -1010580540


def divide_by_power(x: I64, n: int | I64) -> I64:
    """Divide by ``2**n``, half away from zero."""
    half = np.int64(1) << np.maximum(n - 1, 0)
    result: I64 = np.where(np.asarray(n) == 0, x, (x + half - (x < 0)) >> n)
    return result


class FixedPoint:
    """The functions for raw values of `bits` bits, 16 or 32."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.one = (1 << (bits - 1)) - 1

    def constant(self, raw32: int) -> int:
        """Return a 32-bit raw constant rounded to this width."""
        return int(divide_by_power(np.int64(raw32), 32 - self.bits)) if self.bits < 32 else raw32  # type: ignore[arg-type]

    def saturate(self, x: I64) -> I64:
        """Clamp to the width."""
        return np.clip(x, -self.one - 1, self.one)

    def multiply(self, a: I64 | int, b: I64 | int) -> I64:
        """Return the rounding doubling high product; both below 2**31, and not both the lowest value."""
        return (np.asarray(a, np.int64) * b + (1 << (self.bits - 2))) >> (self.bits - 1)

    def rescale(self, x: I64, shift: int) -> I64:
        """Multiply by ``2**shift``: saturating to the left, rounding half away to the right."""
        return self.saturate(x << shift) if shift >= 0 else divide_by_power(x, -shift)

    def add(self, a: I64 | int, b: I64) -> I64:
        """Add; 16-bit sums saturate, 32-bit ones fit."""
        return self.saturate(a + b)

    def _exp_between_minus_quarter_and_0(self, a: I64) -> I64:
        """Return exp of a in [-1/4, 0), both without integer bits: Taylor's polynomial about -1/8."""
        x = a + (1 << (self.bits - 4))
        x2 = self.multiply(x, x)
        x3, x4 = self.multiply(x2, x), self.multiply(x2, x2)
        inner = self.multiply(self.rescale(x4, -2) + x3, self.constant(_THIRD)) + x2
        term = self.constant(_EXP_EIGHTH)
        return self.add(term, self.multiply(term, x + self.rescale(inner, -1)))

    def exp_on_negative_values(self, a: I64, integer_bits: int) -> I64:
        """Return exp of ``a <= 0`` with `integer_bits` (5 at most), without integer bits."""
        fraction = self.bits - 1 - integer_bits
        quarter = 1 << (fraction - 2)
        within = (a & (quarter - 1)) - quarter
        result = self._exp_between_minus_quarter_and_0(self.rescale(within, integer_bits))
        rest = within - a
        for power, value in _EXP_STEPS:
            if integer_bits > power:
                bit = rest & (1 << (fraction + power))
                result = np.where(bit != 0, self.multiply(result, self.constant(value)), result)
        return np.where(a == 0, self.one, result)

    def _half_sum_with_one(self, a: I64) -> I64:
        total = a + self.one
        return np.where(total >= 0, (total + 1) // 2, -((1 - total) // 2))

    def _reciprocal(self, half_denominator: I64) -> I64:
        """Return 1 / half_denominator, of [1/2, 1], with 2 integer bits: three Newton-Raphson steps."""
        x = self.add(self.constant(_48_OVER_17), self.multiply(half_denominator, self.constant(_NEG_32_OVER_17)))
        for _ in range(3):
            rest = (1 << (self.bits - 3)) - self.multiply(half_denominator, x)
            x = self.add(x, self.rescale(self.multiply(x, rest), 2))
        return x

    def one_over_one_plus(self, a: I64) -> I64:
        """Return 1 / (1 + a) for a in [0, 1], without integer bits."""
        return self.rescale(self._reciprocal(self._half_sum_with_one(a)), 1)  # half of it, 2 integer bits to none

    def one_minus_over_one_plus(self, a: I64) -> I64:
        """Return (1 - a) / (1 + a) for a in [0, 1], without integer bits."""
        return self.rescale(self._reciprocal(self._half_sum_with_one(a)) - (1 << (self.bits - 3)), 2)

    def logistic(self, a: I64, integer_bits: int) -> I64:
        """Return the logistic function of a with `integer_bits`, without integer bits."""
        negative = -np.abs(a)
        positive = self.one_over_one_plus(
            self.exp_on_negative_values(np.maximum(negative, -self.one - 1), integer_bits)
        )
        result = np.where(a < 0, self.one - positive, positive)
        return np.where(a == 0, (self.one + 1) // 2, result)

    def tanh(self, a: I64, integer_bits: int) -> I64:
        """Return tanh of a with `integer_bits`, without integer bits: twice a has one bit more."""
        negative = np.maximum(-np.abs(a), -self.one - 1)
        positive = self.one_minus_over_one_plus(self.exp_on_negative_values(negative, integer_bits + 1))
        result = np.where(a < 0, -positive, positive)
        return np.where(a == 0, 0, result)
