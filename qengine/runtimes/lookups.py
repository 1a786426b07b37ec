"""LOGISTIC and SOFTMAX of 8-bit codes: functions of one code, or of the distance from a row's largest code.

expf is exp in float64 rounded to float32: the C libraries' expf differs from it in about one argument of thousands, by
one unit in the last place, which reaches a code only beside a tie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError
from .arithmetic import Description, Target
from .columns import Array, finite
from .fixed_point import FixedPoint, divide_by_power

F32 = np.float32
I64 = npt.NDArray[np.int64]
#: Integer bits of the scaled differences and of their exponentials' sum, in TFLite's reference SOFTMAX.
DIFFERENCE_BITS, SUM_BITS = 5, 12


def expf(x: Array) -> npt.NDArray[np.float32]:
    """Return exp of float32 values, correctly rounded but for ties in float64."""
    with np.errstate(over="ignore", under="ignore"):
        result: npt.NDArray[np.float32] = np.exp(x.astype(np.float64)).astype(F32)
    return result


def bounded(v: Array) -> Array:
    """Clamp float32 to what int64 holds by far, and no code reaches."""
    return np.clip(v, F32(-(2.0**31)), F32(2.0**31))


def half_away(v: Array) -> I64:
    """Round float32 half away from zero; ``v - trunc(v)`` is exact."""
    v = bounded(v)
    whole = np.trunc(v)
    up = np.abs(v - whole) >= F32(0.5)
    result: I64 = np.where(up, whole + np.copysign(F32(1), v), whole).astype(np.int64)
    return result


@dataclass(frozen=True, slots=True)
class Logistic:
    """The logistic function of the real input, ``sig = f32(1 / f32(1 + expf(-x)))``, requantized.

    ``multiplied`` (TFLite): ``half_away(f32(sig f32(1 / so)))``; ``divided`` (XNNPACK): ``rint(f32(sig / so))``. The
    output's scale is 1/256 in TFLite, so that the quotient and the product are one.
    """

    output: Literal["multiplied", "divided"]

    def run(self, columns: Mapping[str, Array], to: Target) -> Array:
        """Return the output codes; columns broadcast."""
        q, z = columns["input"], columns["in_zp"]
        one, so = F32(1), columns["out_scale"]
        with np.errstate(over="ignore", under="ignore"):
            inverse = finite("1 / out_scale", one / so)
            sigmoid = one / (one + expf(-((q - z).astype(F32) * columns["in_scale"])))
            y = half_away(sigmoid * inverse) if self.output == "multiplied" else np.rint(bounded(sigmoid / so))
        return to.clamped(y + columns["out_zp"])

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        y = "half_away(f32(sig * f32(1 / o)))" if self.output == "multiplied" else "RNE(f32(sig / o))"
        return Description("x = f32(i * (q - z_i))", f"{y},  sig = f32(1 / (1 + expf(-x)))", "+ z_o, clamp")


@dataclass(frozen=True, slots=True)
class FloatSoftmax:
    """TFLite optimized: a table of exponentials, a sequential float32 sum, one reciprocal.

    ``t_d = expf(f32(-f32(si beta) d))``, d the distance from the row's largest code; ``inv = f32(1 / f32(sum so))``;
    int8 ``half_away(f32(t inv)) + z``, uint8 ``trunc(f32(f32(t inv) + 0.5))``.
    """

    def run(self, columns: Mapping[str, Array], to: Target) -> Array:
        """Return the output codes of rows along the last axis."""
        q = columns["input"]
        distance = q.max(axis=-1, keepdims=True) - q
        with np.errstate(over="ignore", under="ignore"):
            slope = finite("in_scale beta", columns["in_scale"] * columns["beta"])
            table = expf(-slope * np.arange(256, dtype=F32))
        values = table[distance]
        total = np.cumsum(values, axis=-1, dtype=F32)[..., -1:]  # one addition after the other
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            scaled = values * finite("1 / (sum out_scale)", F32(1) / (total * columns["out_scale"]))
        y = half_away(scaled) if to.dtype == "int8" else np.trunc(bounded(scaled) + F32(0.5)).astype(np.int64)
        return to.clamped(y + columns["out_zp"])

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        formula = "half_away(f32(t_d * inv)),  t_d = expf(-f32(i * beta) d),  inv = f32(1 / f32(sum t * o))"
        return Description("f32(i * beta)", formula, "+ z_o, clamp")


@dataclass(frozen=True, slots=True)
class FixedSoftmax:
    """TFLite reference: gemmlowp fixed point, 5 integer bits for differences and 12 for the sum.

    The output's scale is 1/256 and its zero point the type's least value, whatever the columns say.
    """

    def run(self, columns: Mapping[str, Array], to: Target) -> Array:
        """Return the output codes of rows along the last axis."""
        q = columns["input"]
        real = float(columns["in_scale"].astype(np.float64) * columns["beta"].astype(np.float64)) * 2.0**26
        real = min(real, 2.0**31 - 1)
        if real <= 1:
            raise DomainError(f"in_scale * beta must exceed 2**-26 for the reference SOFTMAX; got {real * 2.0**-26}.")
        fraction, shift = np.frexp(real)
        multiplier = int(np.floor(fraction * 2.0**31 + 0.5))
        if multiplier == 1 << 31:
            multiplier, shift = 1 << 30, shift + 1
        f = FixedPoint(32)
        # The least difference with a place in 5 integer bits; a difference shifted left then fits int32.
        least = -int(np.floor(((1 << DIFFERENCE_BITS) - 1) * 2.0 ** (31 - DIFFERENCE_BITS) / 2.0 ** int(shift)))
        distance = np.arange(256, dtype=np.int64)
        near = -distance >= least
        scaled = f.multiply(np.where(near, -distance, 0) << int(shift), multiplier)
        table = np.where(near, f.exp_on_negative_values(scaled, DIFFERENCE_BITS), 0)
        d = q.max(axis=-1, keepdims=True) - q
        total = divide_by_power(table, SUM_BITS)[d].sum(axis=-1, keepdims=True)  # raw, 12 integer bits: below 2**31
        leading = 31 - (np.frexp(total.astype(np.float64))[1].astype(np.int64) - 1)
        reciprocal = f.one_over_one_plus((total << leading) - (1 << 31))
        if (bad := leading < 4).any():
            raise DomainError(
                "the reference SOFTMAX aborts where the exponentials of a row sum up to 512 or more: rows of "
                f"{q.shape[-1]} codes at in_scale * beta = {real * 2.0**-26:g}, row {int(bad.argmax())}."
            )
        bits = np.iinfo(to.dtype).bits
        y = divide_by_power(f.multiply(reciprocal, table[d]), SUM_BITS - leading + 31 - bits)
        y = np.where(near[d], y + int(np.iinfo(to.dtype).min), np.iinfo(to.dtype).min)
        return to.clamped(y)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        recipe = "min(f64(i) * f64(beta) * 2^26, 2^31 - 1)"
        return Description(recipe, "gemmlowp exp_on_negative_values, one_over_one_plus_x: Q5.26, sum Q12.19", "clamp")
