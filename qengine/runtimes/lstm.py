"""UNIDIRECTIONAL_SEQUENCE_LSTM with int8 codes and an int16 cell (8x8_16), without projection, peepholes or layer norm.

Gates are Q3.12; sigmoid and tanh are gemmlowp's for int16. dbl() is scheme ``double``, s16() saturates to int16,
RDPOT(v, n) divides by ``2**n`` half away from zero.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError
from ..requant.requantize import requantize
from .arithmetic import Description, Target
from .columns import Array
from .fixed_point import FixedPoint, divide_by_power

I64 = npt.NDArray[np.int64]
#: Gates in the order of their weights: input, forget, cell (modulation), output.
GATES = ("input", "forget", "cell", "output")
GATE_BITS = 3


@functools.cache
def _table(function: str, integer_bits: int) -> I64:
    """Return a function of every int16 raw value, lowest first."""
    raw = np.arange(-(1 << 15), 1 << 15, dtype=np.int64)
    f = FixedPoint(16)
    return f.logistic(raw, integer_bits) if function == "logistic" else f.tanh(raw, integer_bits)


def sigmoid(gate: I64) -> I64:
    """Return the logistic function of Q3.12 gates in Q0.15."""
    result: I64 = _table("logistic", GATE_BITS)[gate + (1 << 15)]
    return result


def tanh(value: I64, integer_bits: int = GATE_BITS) -> I64:
    """Return tanh of raw int16 values with `integer_bits`, in Q0.15."""
    result: I64 = _table("tanh", integer_bits)[value + (1 << 15)]
    return result


def _saturate(v: I64) -> I64:
    return np.clip(v, -(1 << 15), (1 << 15) - 1)


def gate(acc: I64, recurrent: I64, multiplier: float, recurrent_multiplier: float, backend: str) -> I64:
    """Return a gate before its function: ``s16(dbl(recurrent) + s16(dbl(acc)))``.

    `acc` is ``W_x (x - z_x) + b`` and `recurrent` ``W_h (h - z_h)``, in int32; multipliers are
    ``f32(f32(s_w s) / 2**-12)``.
    """
    same: dict[str, Any] = {"scheme": "double", "dtype": "int64", "backend": backend, "overflow": "wrap"}
    first = _saturate(requantize(acc.astype(np.int32), multiplier, **same))
    return _saturate(requantize(recurrent.astype(np.int32), recurrent_multiplier, **same) + first)


def cell_update(forget: I64, cell: I64, entering: I64, modulation: I64, cell_power: int, clip: int) -> I64:
    """Return the next cell: ``s16(RDPOT(f c, 15) + s16(RDPOT(i g, 30 + cell_power)))``, clipped where clip > 0.

    All products are of two int16, below 2**31.
    """
    kept = divide_by_power(forget * cell, 15)
    result = _saturate(kept + _saturate(divide_by_power(entering * modulation, 30 + cell_power)))
    return np.clip(result, -clip, clip) if clip > 0 else result


def hidden_update(opening: I64, cell: I64, cell_power: int, scale: np.float32, zero: int, backend: str) -> I64:
    """Return the next hidden codes: ``dbl(o tanh(c))`` with ``2**-30 / s_h``, plus the zero point, clamped to int8."""
    product = opening * tanh(cell, 15 + cell_power)
    real = 2.0**-30 / float(scale)
    out = requantize(
        product.astype(np.int32), real, scheme="double", zero_point=zero, dtype="int8", backend=backend, overflow="wrap"
    )
    result: I64 = out.astype(np.int64)
    return result


@dataclass(frozen=True, slots=True)
class Lstm:
    """The whole operator: steps along the first axis."""

    def run(self, c: Mapping[str, Any], to: Target) -> Array:
        """Return the hidden codes of every step."""
        x, weights, recurrent = c["input"], c["input_weights"], c["recurrent_weights"]
        if x.ndim != 3 or weights.ndim != 3 or weights.shape[0] != len(GATES) or weights.shape[2] != x.shape[2]:
            raise DomainError(
                "input must be (time, batch, inputs) and input_weights (4, cells, inputs); got "
                f"{x.shape} and {weights.shape}."
            )
        cells = weights.shape[1]
        if recurrent.shape != (len(GATES), cells, cells) or c["bias"].shape != (len(GATES), cells):
            raise DomainError(
                f"recurrent_weights must be (4, {cells}, {cells}) and bias (4, {cells}); got {recurrent.shape} and "
                f"{c['bias'].shape}."
            )
        power = np.frexp(float(c["cell_scale"]))[1] - 1
        if float(c["cell_scale"]) != 2.0 ** int(power) or not -15 <= power <= -9:
            raise DomainError(f"cell_scale must be a power of two in [2**-15, 2**-9]; got {float(c['cell_scale'])!r}.")
        f32 = np.float32
        with np.errstate(over="ignore", under="ignore"):
            entering = (c["input_weight_scale"] * c["in_scale"] / f32(2.0**-12)).astype(np.float64)
            feeding = (c["recurrent_weight_scale"] * c["hidden_scale"] / f32(2.0**-12)).astype(np.float64)
        zero, out = int(c["hidden_zp"]), np.empty((*x.shape[:2], cells), np.int64)
        hidden, cell = np.full((x.shape[1], cells), zero, np.int64), np.zeros((x.shape[1], cells), np.int64)
        for step, codes in enumerate(x - int(c["in_zp"])):
            gates = [
                gate(
                    codes @ weights[k].T + c["bias"][k], (hidden - zero) @ recurrent[k].T,
                    float(entering[k]), float(feeding[k]), to.backend,
                )
                for k in range(len(GATES))
            ]  # fmt: skip
            i, f, g, o = sigmoid(gates[0]), sigmoid(gates[1]), tanh(gates[2]), sigmoid(gates[3])
            cell = cell_update(f, cell, i, g, int(power), int(c["cell_clip"]))
            hidden = hidden_update(o, cell, int(power), c["hidden_scale"], zero, to.backend)
            out[step] = hidden
        return out.astype(to.dtype)

    def describe(self) -> Description:
        """Return the arithmetic in words."""
        recipe = "f32(f32(s_w * s_x) / 2^-12), f32(f32(s_w * s_h) / 2^-12); output 2^-30 / s_h"
        formula = (
            "gate = s16(dbl(W_h h) + s16(dbl(W_x x + b))); c = s16(RDPOT(f c, 15) + s16(RDPOT(i g, 30 + log2 s_c))); "
            "h = dbl(o tanh(c)); sigmoid, tanh: gemmlowp int16"
        )
        return Description(recipe, formula, "+ z_h, clamp")
