"""The arithmetic that profiles name: recipe, stages and epilogue as data, evaluated on columns.

Notation: S = f32(f32(si * sw) / so); (m, e) = QuantizeMultiplier of a real multiplier (``qe.quantize_multiplier``);
f32() rounds to float32; SRDHM, RDPOT, HU as in `qengine.requant.schemes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from qengine.kernels import codes as k

from .. import backends
from ..arguments import first_index, first_value
from ..backends.forms import ROUNDING_CODES, FloatRule
from ..exceptions import DomainError
from ..requant import recipes
from ..requant.multiplier import split_real
from ..requant.requantize import requantize
from ..requant.schemes import get_scheme
from .columns import LIMITS, Array, finite, lay

F32 = np.float32
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
ROUNDINGS = {**ROUNDING_CODES, "half-up": k.HALF_UP, "floor": k.ROUND_FLOOR}


@dataclass(frozen=True, slots=True)
class Target:
    """Type and closed range of the output, and the back end that computes."""

    dtype: str
    qmin: int
    qmax: int
    backend: str

    def empty(self, shape: tuple[int, ...]) -> Array:
        """Return an array for results."""
        return np.empty(shape, self.dtype)

    def clamped(self, values: Array) -> Array:
        """Return whole numbers clamped, as the output's type."""
        result: Array = np.clip(values, self.qmin, self.qmax).astype(self.dtype, copy=False)
        return result

    @property
    def kernels(self) -> Any:
        """The back end's kernels of this room."""
        return backends.kernels(self.backend, "runtimes")


class Description(NamedTuple):
    """Arithmetic in words: real multiplier, what is rounded and how, zero point and clamp."""

    recipe: str
    formula: str
    epilogue: str


class Arithmetic(Protocol):
    """What a profile names: data that describes itself."""

    def describe(self) -> Description:
        """Return the arithmetic in words."""


AFTER = "+ z after the rounding, clamp"
INSIDE = "z inside the rounding, clamp"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A scheme of `qengine.requant.schemes`; `overflow` as in `qengine.requantize`."""

    scheme: str
    recipe: str | None = None
    overflow: Literal["error", "wrap"] = "error"

    def run(self, acc: Array, scales: tuple[Array, Array, Array], zero_point: Array, to: Target) -> Array:
        """Return the output codes."""
        row = get_scheme(self.scheme)
        real = recipes.apply(self.recipe or row.recipe, *scales)
        # The product of an int32 and less than 1/2 fits int32 with any zero point: nothing wraps, and the other path
        # is faster.
        safe = row.parameter != "q31" and np.size(real) > 0 and float(np.max(real)) < SMALL
        return requantize(
            acc, real, scheme=row, zero_point=zero_point, dtype=to.dtype, qmin=to.qmin, qmax=to.qmax,
            overflow="error" if safe else self.overflow, backend=to.backend,
        )  # fmt: skip

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        row = get_scheme(self.scheme)
        recipe = recipes.get_recipe(self.recipe or row.recipe).formula
        inside = isinstance(row.rule, FloatRule) and row.rule.zero_point_inside
        wraps = "; int32 overflow as on x86-64 (overflow='wrap')" if self.overflow == "wrap" else ""
        return Description(recipe, f"{row.name}: {row.formula}", (INSIDE if inside else AFTER) + wraps)


@dataclass(frozen=True, slots=True)
class Order:
    """Where the stages of a fixed-point requantization shift, and how they round.

    The high half of a product is rounded half up (`rounds`) or floored; a multiplier of 1 or more shifts left
    before the multiplication, or after it (`left_after`); at least `least_right` of the right shift stays behind the
    multiplication, and what that leaves over goes left before it.
    """

    rounds: bool
    right: Literal["half-up", "half-away"]
    left_after: bool = False
    least_right: int = 0
    left_saturates: bool = False
    mantissa: Literal["q31", "m24"] = "q31"


#: Orders of stages by name.
ORDERS = {
    "double": Order(True, "half-away"),
    "double-up": Order(True, "half-up"),
    "double-up-left-after": Order(True, "half-up", left_after=True),
    "single-neon": Order(False, "half-up", least_right=1),
    "rndnu-neon": Order(False, "half-up", least_right=1, left_saturates=True, mantissa="m24"),
}
#: Multipliers below this one have an exponent of -1 at most, also where the rounding of their mantissa carries.
SMALL = 0.499
#: Order -> the scheme that it equals for multipliers below `SMALL`.
SAME_BELOW_HALF = {
    "double": "double",
    "double-up": "double-up",
    "double-up-left-after": "double-up",
    "single-neon": "single",
    "rndnu-neon": "rndnu",
}
FORMULAS = {
    "double": "RDPOT(SRDHM(wrap32(x << max(e,0)), m), max(-e,0))",
    "double-up": "HU(SRDHM(wrap32(x << max(e,0)), m), max(-e,0))",
    "double-up-left-after": "HU(sat32(SRDHM(x, m) << max(e,0)), max(-e,0))",
    "single-neon": "HU(floor(wrap32(x << (e+r)) m / 2^31), r),  r = max(-e, 1)",
    "rndnu-neon": "HU(floor(sat32(x << (e+r)) m / 2^31), r),  r = max(-e, 1), m = 24-bit mantissa << 7",
}
SUMS = {
    "int32": "+ z in int32 (wraps), clamp",
    "int16-wraps": "saturate to int16, + z in int16 (wraps), clamp",
    "int16-saturates": "saturate to int16, + z saturating, clamp",
    "int16-cut": "the low 16 bits, + z in int16 (wraps), clamp",
}
ADDITIONS = {
    "int32": k.ADD_INT32,
    "int16-wraps": k.ADD_INT16_WRAPS,
    "int16-saturates": k.ADD_INT16_SATURATES,
    "int16-cut": k.ADD_INT16_CUT,
}


def stage_table(multiplier: F64, order: Order, zero_point: I64, to: Target) -> I64:
    """Return the table of `kernels.staged` for real multipliers, one row a channel.

    Shifts are at most 31: QuantizeMultiplier flushes exponents below -31 to the multiplier 0, and larger ones than
    30 are refused.
    """
    if order.mantissa == "q31":
        mantissa, exponent = split_real(multiplier)
    else:
        fraction, power = np.frexp(multiplier)
        mantissa, exponent = np.ldexp(fraction, 24).astype(np.int64) << 7, power.astype(np.int64)
    bad = (exponent > 30) | (exponent < -31)
    if bad.any():
        got = first_value(multiplier, bad)
        raise DomainError(f"the multiplier in * w / out must be in [2**-32, 2**30); got {got}{first_index(bad)}.")
    right = np.maximum(-exponent, order.least_right)
    left = exponent + right
    table = np.zeros((mantissa.size, k.STAGE_COLUMNS), np.int64)
    table[:, k.STAGE_HIGH_LEFT if order.left_after else k.STAGE_LEFT] = left
    table[:, k.STAGE_MULTIPLIER], table[:, k.STAGE_RIGHT] = mantissa, right
    table[:, k.STAGE_ZERO_POINT], table[:, k.STAGE_QMIN], table[:, k.STAGE_QMAX] = zero_point, to.qmin, to.qmax
    return table


def stage_rule(order: Order, addition: str) -> I64:
    """Return the rule of `kernels.staged`."""
    rule = np.zeros(k.STAGE_RULE, np.int64)
    rule[k.STAGE_SATURATES], rule[k.STAGE_ROUNDS] = order.left_saturates, order.rounds
    rule[k.STAGE_ROUNDING], rule[k.STAGE_ADDITION] = ROUNDINGS[order.right], ADDITIONS[addition]
    return rule


def run_staged(
    acc: Array, multiplier: F64, order: str, addition: str, zero_point: I64, to: Target, shape: tuple[int, ...]
) -> Array:
    """Requantize laid-out accumulators by a named order of stages."""
    out = to.empty(acc.shape)
    table = stage_table(multiplier, ORDERS[order], zero_point, to)
    to.kernels.staged(acc.astype(np.int32, copy=False), table, stage_rule(ORDERS[order], addition), out)
    return out.reshape(shape)


@dataclass(frozen=True, slots=True)
class Staged:
    """Fixed point stage by stage, with the overflow of each: what no scheme's closed form reproduces.

    ``x << left`` wraps or saturates in int32; the high half of ``2 x m``; a right shift; the zero point.
    """

    order: str
    recipe: str = "double"
    addition: str = "int32"

    def run(self, acc: Array, scales: tuple[Array, Array, Array], zero_point: Array, to: Target) -> Array:
        """Return the output codes."""
        multiplier = np.asarray(recipes.apply(self.recipe, *scales), np.float64)
        if self.addition not in ("int16-wraps", "int16-cut") and multiplier.size and float(multiplier.max()) < SMALL:
            # Nothing is shifted left, and what saturates is beyond the 8-bit clamp: a scheme, whose form is faster.
            return Scheme(SAME_BELOW_HALF[self.order], self.recipe).run(acc, scales, zero_point, to)
        laid = lay({"acc": acc}, {"multiplier": multiplier, "zero_point": zero_point})
        real, z = laid.parameters
        return run_staged(laid.codes[0], real, self.order, self.addition, z, to, laid.shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        return Description(recipes.get_recipe(self.recipe).formula, FORMULAS[self.order], SUMS[self.addition])


def run_chain(
    x: Array, factors: list[Array], offset: Array, zero_point: Array, rule: tuple[int, bool, str], to: Target,
    shape: tuple[int, ...],
) -> Array:  # fmt: skip
    """Evaluate ``kernels.float_chain`` on laid-out codes; `rule` is (bits, fused, rounding)."""
    channels = x.shape[1]
    table = np.ones((k.CHAIN_FACTORS, channels), np.float64)
    for row, factor in zip(table[k.CHAIN_FACTORS - len(factors) :], factors, strict=True):
        row[:] = factor
    bits, fused, rounding = rule
    numbers = np.zeros(k.CHAIN_RULE, np.int64)
    numbers[k.CHAIN_BITS], numbers[k.CHAIN_FUSED], numbers[k.CHAIN_ROUNDING] = bits, fused, ROUNDINGS[rounding]
    offset = np.ascontiguousarray(np.broadcast_to(offset, channels), np.float64)
    zero_point = np.ascontiguousarray(np.broadcast_to(zero_point, channels), np.int64)
    out = to.empty(x.shape)
    narrow = x.astype(np.int32, copy=False)
    to.kernels.float_chain(narrow, table, offset, zero_point, numbers, to.qmin, to.qmax, out)
    return out.reshape(shape)


@dataclass(frozen=True, slots=True)
class FloatChain:
    """One product in floating point, rounded and saturated to int32, plus the zero point modulo 2**32.

    With `inside` the zero point is added before the rounding, in one fused multiply-add.
    """

    bits: Literal[32, 64]
    rounding: str
    recipe: str
    inside: bool = False

    def run(self, acc: Array, scales: tuple[Array, Array, Array], zero_point: Array, to: Target) -> Array:
        """Return the output codes."""
        multiplier = np.asarray(recipes.apply(self.recipe, *scales), np.float64)
        laid = lay({"acc": acc}, {"multiplier": multiplier, "zero_point": zero_point})
        real, z = laid.parameters
        zero = np.zeros(1)
        offset, after = (z.astype(np.float64), zero) if self.inside else (zero, z)
        rule = (self.bits, self.inside, self.rounding)
        return run_chain(laid.codes[0], [real], offset, after, rule, to, laid.shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        f, name = f"f{self.bits}", "RNE" if self.rounding == "half-even" else "half_away"
        recipe = recipes.get_recipe(self.recipe).formula
        if self.inside:
            return Description(recipe, f"{name}(fma{self.bits}({f}(x), S, z))", INSIDE)
        return Description(recipe, f"sat32({name}({f}({f}(x) * S)))", "+ z in int32 (wraps), clamp")


@dataclass(frozen=True, slots=True)
class OneDnn:
    """oneDNN's matrix product: scales are reciprocals of reciprocals, and three roundings follow the accumulator.

    ``s' = f32(1 / f32(1 / s))``; ``rint(f32(f32(f32(acc * f32(si' * sw')) * f32(1 / so)) + z))``, or
    ``f32(f32(acc * si') * sw')`` in place of the first product (`separate`).
    """

    separate: bool

    def run(self, acc: Array, scales: tuple[Array, Array, Array], zero_point: Array, to: Target) -> Array:
        """Return the output codes."""
        one = F32(1)
        with np.errstate(over="ignore", divide="ignore"):
            si, sw, inverse = one / (one / scales[0]), one / (one / scales[1]), one / scales[2]
        for name, values in (("in_scale", si), ("w_scale", sw), ("1 / out_scale", inverse)):
            finite(name, values)
        laid = lay({"acc": acc}, {"si": si, "sw": sw, "inverse": inverse, "zero_point": zero_point})
        si, sw, inverse, z = laid.parameters
        with np.errstate(over="ignore", under="ignore"):
            factors = [si, sw, inverse] if self.separate else [finite("in_scale w_scale", si * sw), inverse]
        return run_chain(laid.codes[0], factors, z, np.zeros(1), (32, False, "half-even"), to, laid.shape)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        x = "f32(f32(x * i') * w')" if self.separate else "f32(x * f32(i' * w'))"
        return Description("s' = f32(1 / f32(1 / s))", f"RNE(f32(f32({x} * f32(1 / o)) + z))", INSIDE)


def difference_of_codes(name: str, codes: Array, zero_point: Array) -> Array:
    """Return ``codes - zero_point`` of int32 arrays: below 2**9 in magnitude."""
    try:
        return codes - zero_point
    except ValueError:
        raise DomainError(
            f"the shapes of {name} {codes.shape} and its zero point {zero_point.shape} do not broadcast."
        ) from None


def limits_of(dtype: str) -> tuple[int, int]:
    """Return the closed range of an integer type."""
    return LIMITS[dtype]
