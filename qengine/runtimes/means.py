"""MEAN over height and width, and AVERAGE_POOL_2D: sums of raw codes, their count, and what comes out.

Notation: n = count, zi and zo zero points, si and so scales; (m, e) = QuantizeMultiplier of a real multiplier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from qengine.kernels import codes as k
from qengine.kernels.reference.affine import fma32

from ..arguments import first_index, first_value
from ..exceptions import DomainError
from ..requant.multiplier import split_real
from .arithmetic import AFTER, INSIDE, ORDERS, Description, Target, run_chain, run_staged, stage_rule
from .columns import Array, finite, lay

F32, F64 = np.float32, np.float64
#: A bias of this size still fits int32 with a zero point.
LARGEST_SHIFT = 2.0**30


def _laid(columns: dict[str, Array]) -> tuple[tuple[int, ...], Array, tuple[Array, ...]]:
    names = ("count", "in_scale", "out_scale", "in_zp", "out_zp")
    laid = lay({"sum": columns["sum"]}, {name: columns[name] for name in names})
    return laid.shape, laid.codes[0].astype(np.int32), laid.parameters


@dataclass(frozen=True, slots=True)
class ReducedMean:
    """TFLite reference: ``double(sum - n zi)`` with the mantissa divided by the count, truncated.

    (m, e) of ``f64(si) / f64(so)``; ``k = min(floor(log2 n), 32, 31 + e)``, ``m' = trunc((m << k) / n)``,
    ``e' = e - k``; then SRDHM, RDPOT, zo.
    """

    def run(self, columns: dict[str, Array], to: Target) -> Array:
        """Return the output codes."""
        shape, total, (count, in_scale, out_scale, in_zp, out_zp) = _laid(columns)
        m, e = split_real(in_scale.astype(F64) / out_scale.astype(F64))
        power = np.minimum(np.minimum(np.frexp(count.astype(F64))[1].astype(np.int64) - 1, 32), 31 + e)
        m, e = (m << power) // count, e - power  # m << power: below 2**31 2**31
        centred = total.astype(np.int64) - (in_zp * count)[:, None]
        bad = (centred < -(2**31)) | (centred > 2**31 - 1)
        if bad.any():
            raise DomainError(f"sum - count * in_zp must fit int32; got {first_value(centred, bad)}{first_index(bad)}.")
        if (bad := e > 30).any():
            raise DomainError(f"in_scale / out_scale must be below 2**30; got an exponent {first_value(e, bad)}.")
        table = np.zeros((m.size, k.STAGE_COLUMNS), np.int64)
        table[:, k.STAGE_LEFT], table[:, k.STAGE_MULTIPLIER] = np.maximum(e, 0), m
        table[:, k.STAGE_RIGHT], table[:, k.STAGE_ZERO_POINT] = -np.minimum(e, 0), out_zp
        table[:, k.STAGE_QMIN], table[:, k.STAGE_QMAX] = to.qmin, to.qmax
        out = to.empty(centred.shape)
        to.kernels.staged(centred.astype(np.int32), table, stage_rule(ORDERS["double"], "int32"), out)
        return out.reshape(shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        recipe = "f64(i) / f64(o);  k = min(floor(log2 n), 32, 31 + e),  m' = trunc((m << k) / n),  e' = e - k"
        return Description(recipe, "double(sum - n z_i) with (m', e')", AFTER)


@dataclass(frozen=True, slots=True)
class BiasedMean:
    """TFLite optimized, 4-D and keep_dims: the raw sum with ``f32(si / f32(n so))``, the zero points in a bias.

    ``bias = zo - trunc(f32(f32(f32(zi si) / so) + 0.5))``, minus for negative; the sum through `order`.
    """

    order: Literal["double", "double-up"]

    def run(self, columns: dict[str, Array], to: Target) -> Array:
        """Return the output codes."""
        shape, total, (count, in_scale, out_scale, in_zp, out_zp) = _laid(columns)
        with np.errstate(over="ignore", under="ignore"):
            multiplier = finite("in_scale / (count out_scale)", in_scale / (count.astype(F32) * out_scale)).astype(F64)
            shift = finite("in_zp in_scale / out_scale", in_zp.astype(F32) * in_scale / out_scale)
        bad = np.abs(shift) >= LARGEST_SHIFT
        if bad.any():
            raise DomainError(
                f"in_zp in_scale / out_scale must fit int32; got {first_value(shift, bad)}{first_index(bad)}."
            )
        bias = np.trunc(np.where(shift > 0, shift + F32(0.5), shift - F32(0.5))).astype(np.int64)
        return run_staged(total, multiplier, self.order, "int32", out_zp - bias, to, shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        after = "+ z_o - trunc(f32(f32(z_i * i) / o) +- 0.5), clamp"
        return Description("f32(i / f32(n * o))", f"{self.order}(sum)", after)


@dataclass(frozen=True, slots=True)
class FloatMean:
    """XNNPACK: ``round(f32(f32(sum) s) + z')`` with the zero points inside the rounding.

    ``s = f32(f32(si / so) * f32(1 / n))``, ``z' = f32(zo - f32(f32(n zi) s))``; with `fused`, both sums of products
    are fused multiply-adds.
    """

    rounding: Literal["half-even", "half-away"] = "half-even"
    fused: bool = False

    def run(self, columns: dict[str, Array], to: Target) -> Array:
        """Return the output codes."""
        shape, total, (count, in_scale, out_scale, in_zp, out_zp) = _laid(columns)
        zeros, zero = (count * in_zp).astype(F32), out_zp.astype(F32)
        with np.errstate(over="ignore", under="ignore"):
            scale = finite("in_scale / out_scale", in_scale / out_scale * (F32(1) / count.astype(F32)))
            offset = fma32(-zeros, scale, zero) if self.fused else zero - zeros * scale
        offset = finite("count in_zp in_scale / out_scale", offset)
        return run_chain(total, [scale], offset, np.zeros(1), (32, self.fused, self.rounding), to, shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        name = "RNE" if self.rounding == "half-even" else "half_away"
        offset = "fma32(-f32(n z_i), s, z_o)" if self.fused else "f32(z_o - f32(f32(n z_i) * s))"
        total = "fma32(f32(sum), s, z')" if self.fused else "f32(f32(f32(sum) * s) + z')"
        return Description(f"s = f32(f32(i / o) * f32(1 / n)),  z' = {offset}", f"{name}({total})", INSIDE)


@dataclass(frozen=True, slots=True)
class PooledMean:
    """ONNX Runtime: ``rint(f32(f32(sum - n zi) S))`` with ``S = f32(si / f32(so f32(n)))``, plus zo, clamped.

    ``sum - n zi`` has to fit int32.
    """

    def run(self, columns: dict[str, Array], to: Target) -> Array:
        """Return the output codes."""
        shape, total, (count, in_scale, out_scale, in_zp, out_zp) = _laid(columns)
        centred = total.astype(np.int64) - (in_zp * count)[:, None]
        bad = (centred < -(2**31)) | (centred > 2**31 - 1)
        if bad.any():
            raise DomainError(f"sum - count * in_zp must fit int32; got {first_value(centred, bad)}{first_index(bad)}.")
        with np.errstate(over="ignore", under="ignore"):
            scale = finite("in_scale / (count out_scale)", in_scale / (out_scale * count.astype(F32)))
        rule = 32, False, "half-even"
        return run_chain(centred.astype(np.int32), [scale], np.zeros(1), out_zp, rule, to, shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        return Description("S = f32(i / f32(o * f32(n)))", "RNE(f32(f32(sum - n z_i) * S))", AFTER)


@dataclass(frozen=True, slots=True)
class IntegerAverage:
    """``(sum +- n / 2) / n`` truncated toward zero: half away from zero on raw codes, no zero point, no scale."""

    def run(self, columns: dict[str, Array], to: Target) -> Array:
        """Return the output codes."""
        laid = lay({"sum": columns["sum"]}, {"count": columns["count"]})
        total = laid.codes[0].astype(np.int32)
        out = to.empty(total.shape)
        to.kernels.average(total, laid.parameters[0], to.qmin, to.qmax, out)
        return out.reshape(laid.shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        return Description("none", "trunc((sum +- floor(n / 2)) / n)", "clamp")
