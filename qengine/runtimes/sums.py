"""ADD and SUB: what each runtime makes of two codes.

Notation: za, zb, zo zero points; (m, e) = QuantizeMultiplier of a real multiplier; half = a rounding right shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qengine.kernels import codes as k
from qengine.kernels.reference.affine import fma32

from ..arguments import first_index, first_value
from ..exceptions import DomainError
from ..requant.multiplier import split_real
from .arithmetic import AFTER, INSIDE, ROUNDINGS, SUMS, Description, Target
from .columns import Array, finite, lay

F32, F64 = np.float32, np.float64
I64 = npt.NDArray[np.int64]
#: Bits that TFLite shifts 8-bit inputs left before it scales them.
LEFT_SHIFT = 20


@dataclass(frozen=True, slots=True)
class Operands:
    """The columns of an addition: codes, and per channel of their common layout scales and zero points."""

    a: Array
    b: Array
    a_scale: npt.NDArray[np.float32]
    b_scale: npt.NDArray[np.float32]
    out_scale: npt.NDArray[np.float32]
    a_zp: I64
    b_zp: I64
    out_zp: I64
    shape: tuple[int, ...]

    @classmethod
    def of(cls, columns: dict[str, Array]) -> Operands:
        """Lay the columns out."""
        names = ("a_scale", "b_scale", "out_scale", "a_zp", "b_zp", "out_zp")
        laid = lay({name: columns[name] for name in ("a", "b")}, {name: columns[name] for name in names})
        arrays: dict[str, Any] = dict(zip(("a", "b", *names), (*laid.codes, *laid.parameters), strict=True))
        return cls(**arrays, shape=laid.shape)


def _refuse(bad: npt.NDArray[np.bool_], values: Array, what: str) -> None:
    if bad.any():
        raise DomainError(f"{what}; got {first_value(values, bad)}{first_index(bad)}.")


def _ratios(x: Operands) -> tuple[Array, Array]:
    """Return the inputs' scales over the output's, in float32: infinite or 0 beyond its range."""
    with np.errstate(over="ignore", under="ignore"):
        return x.a_scale / x.out_scale, x.b_scale / x.out_scale


@dataclass(frozen=True, slots=True)
class StagedSum:
    """TFLite: inputs scaled by ``s_i / (2 max(s_a, s_b))``, their sum by ``2 max / (2**20 s_o)``.

    ``separate``: ``y_i = RDPOT(SRDHM((q_i - z_i) << 20, m_i), -e_i)``; ``merged``:
    ``y_i = SRDHM((q_i - z_i) << (20 + e_i), m_i)``; ``floored``: as separate, the right shift floored. Then
    ``RDPOT(SRDHM(y_a +- y_b, m_o), -e_o) + z_o``, clamped.
    """

    inputs: Literal["separate", "merged", "floored"]
    subtracts: bool = False

    def run(self, x: Operands, to: Target) -> Array:
        """Return the output codes."""
        twice_max = F64(2) * np.maximum(x.a_scale, x.b_scale).astype(F64)
        table = np.zeros((twice_max.size, k.SUM_COLUMNS), np.int64)
        for first, scale, zero in ((k.SUM_A_ZERO, x.a_scale, x.a_zp), (k.SUM_B_ZERO, x.b_scale, x.b_zp)):
            m, e = split_real(scale.astype(F64) / twice_max)
            merged = self.inputs == "merged"
            columns = zero, LEFT_SHIFT + e * merged, m, -e * (not merged)  # e <= 0: the ratio is at most 1/2
            for column, values in enumerate(columns):
                table[:, first + column] = values
        ratio = twice_max / (2.0**LEFT_SHIFT * x.out_scale.astype(F64))
        m, e = split_real(ratio)
        _refuse(e > 30, ratio, "2 max(a_scale, b_scale) / (2**20 out_scale) must be below 2**30")
        table[:, k.SUM_LEFT], table[:, k.SUM_MULTIPLIER], table[:, k.SUM_RIGHT] = np.maximum(e, 0), m, -np.minimum(e, 0)
        table[:, k.SUM_ZERO_POINT], table[:, k.SUM_QMIN], table[:, k.SUM_QMAX] = x.out_zp, to.qmin, to.qmax
        out = to.empty(x.a.shape)
        rounding = ROUNDINGS["floor" if self.inputs == "floored" else "half-away"]
        to.kernels.staged_sum(x.a, x.b, table, rounding, -1 if self.subtracts else 1, out)
        return out.reshape(x.shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        y = {
            "separate": "RDPOT(SRDHM(d << 20, m), -e)",
            "merged": "SRDHM(d << (20 + e), m)",
            "floored": "floor(SRDHM(d << 20, m) / 2^-e)",
        }[self.inputs]
        recipe = "f64(s_i) / f64(2 max(s_a, s_b)); output f64(2 max(s_a, s_b)) / f64(2^20 s_o)"
        sign = "-" if self.subtracts else "+"
        return Description(recipe, f"double(y_a {sign} y_b),  y = {y},  d = q - z", AFTER)


@dataclass(frozen=True, slots=True)
class AffineSum:
    """Fixed point in one step: ``half((a - za) ma + (b - zb) mb, sh)`` saturated to int16, plus zo, clamped.

    ``r_i = f32(s_i / s_o)``; ``sh = bits - exponent of max(r_a, r_b)``; ``m_i = rint(r_i 2**sh)``, at most
    ``2**(bits + 1)``. `ratios` is the closed range of ratios that this path takes.
    """

    bits: int
    rounding: Literal["half-up", "half-away"]
    ratios: tuple[float, float]
    otherwise: str
    subtracts: bool = False

    def run(self, x: Operands, to: Target) -> Array:
        """Return the output codes."""
        ratio_a, ratio_b = _ratios(x)
        for name, ratio in (("a_scale / out_scale", ratio_a), ("b_scale / out_scale", ratio_b)):
            low, high = self.ratios
            bad = (ratio < low) | (ratio >= high)
            _refuse(bad, ratio, f"{name} must be in [{low:g}, {high:g}): {self.otherwise}")
        # frexp counts from [1/2, 1): the IEEE exponent is one less.
        shift = self.bits - (np.frexp(np.maximum(ratio_a, ratio_b))[1].astype(np.int64) - 1)
        multipliers = [np.rint(np.ldexp(ratio.astype(F64), shift)).astype(np.int64) for ratio in (ratio_a, ratio_b)]
        table = np.zeros((shift.size, k.PAIR_COLUMNS), np.int64)
        table[:, k.PAIR_A_ZERO], table[:, k.PAIR_A_MULTIPLIER] = x.a_zp, multipliers[0]
        table[:, k.PAIR_B_ZERO] = x.b_zp
        table[:, k.PAIR_B_MULTIPLIER] = -multipliers[1] if self.subtracts else multipliers[1]
        table[:, k.PAIR_SHIFT], table[:, k.PAIR_ZERO_POINT] = shift, x.out_zp
        table[:, k.PAIR_QMIN], table[:, k.PAIR_QMAX] = to.qmin, to.qmax
        out = to.empty(x.a.shape)
        to.kernels.affine_sum(x.a, x.b, table, ROUNDINGS[self.rounding], out)
        return out.reshape(x.shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        recipe = f"m_i = RNE(f32(s_i / s_o) * 2^sh),  sh = {self.bits} - exponent of the larger ratio"
        sign = "-" if self.subtracts else "+"
        name = "half_up" if self.rounding == "half-up" else "half_away"
        return Description(recipe, f"{name}((d_a m_a {sign} d_b m_b) / 2^sh),  d = q - z", SUMS["int16-saturates"])


@dataclass(frozen=True, slots=True)
class FusedSum:
    """ONNX Runtime with AVX2 and FMA: ``rint(fma(a, ra, fma(b, rb, c)))``, the zero point inside.

    ``r_i = f32(s_i / s_o)``, ``c = f32(zo - fma(ra, za, f32(rb zb)))``.
    """

    def run(self, x: Operands, to: Target) -> Array:
        """Return the output codes."""
        ratio_a, ratio_b = (finite("a_scale / out_scale", ratio) for ratio in _ratios(x))
        a_zp, b_zp, out_zp = (zero.astype(F32) for zero in (x.a_zp, x.b_zp, x.out_zp))
        with np.errstate(over="ignore", invalid="ignore"):
            offset = finite("the zero points' share", out_zp - fma32(ratio_a, a_zp, ratio_b * b_zp))
        numbers: list[Any] = [np.ascontiguousarray(v, F64) for v in (ratio_a, ratio_b, offset)]
        out = to.empty(x.a.shape)
        to.kernels.fused_sum(x.a, x.b, *numbers, to.qmin, to.qmax, out)
        return out.reshape(x.shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        recipe = "r_i = f32(s_i / s_o),  c = f32(z_o - fma32(r_a, z_a, f32(r_b z_b)))"
        return Description(recipe, "RNE(fma32(a, r_a, fma32(b, r_b, c)))", INSIDE)
