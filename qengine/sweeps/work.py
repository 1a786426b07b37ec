"""A plan as the plain arrays (`Work`) that sweep kernels read."""

from __future__ import annotations

import functools
import math
import statistics
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import (
    ACC_QUANTILE,
    ACC_SEQUENTIAL,
    ACC_UNIFORM,
    ACC_UNSATURATED,
    BIN_ORIGIN,
    QUANTILE_BITS,
    QUANTILE_OCTAVES,
    RANGE,
    TABLE,
)

from ..backends.forms import INT32_MAX, INT32_MIN, FloatRule, FloorRule
from ..backends.pairs import Work
from ..exceptions import DomainError
from ..requant import recipes
from ..requant.forms import adds_zero_point_after, derive, multiplier_fits, result_bounds
from ..requant.multiplier import QuantizedMultiplier, split_real
from .plan import REAL_LIMITS, SweepPlan

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


@functools.cache
def quantile_table(kind: str) -> F64:
    """Return deviates at the tail probabilities ``2**-63 * 2**o * (1 + i/256)``, float32 values.

    float32, so that a last-bit difference between mathematical libraries cannot change a draw.
    """
    cells = QUANTILE_OCTAVES << QUANTILE_BITS
    normal = statistics.NormalDist()
    sizes = np.empty(cells + 1)
    for j in range(cells + 1):
        octave, place = divmod(j, 1 << QUANTILE_BITS)
        tail = min(math.ldexp(1 + place / (1 << QUANTILE_BITS), octave - 63), 1.0)
        sizes[j] = -normal.inv_cdf(tail / 2) if kind == "normal" else -math.log(tail)
    return np.abs(sizes.astype(np.float32).astype(np.float64))


def _log2(value: float) -> float:
    """Base-2 logarithm, correctly rounded whatever the mathematical library."""
    with localcontext() as context:
        context.prec = 40
        return float(Decimal(value).ln() / Decimal(2).ln())


def _reals(plan: SweepPlan, recipe: str) -> Any:
    table = plan.multipliers.table
    if table is not None:
        return np.atleast_1d(recipes.apply(recipe, *table.scales))
    return plan.multipliers.fixed


def make_work(plan: SweepPlan) -> Work:
    """Turn a plan into the arrays that kernels read."""
    m, acc = plan.multipliers, plan.accumulators
    kind = RANGE if m.fixed is None and m.table is None else TABLE
    channels = int(m.table.zero_point.size) if m.table is not None else 1
    count = len(plan.schemes)
    z = np.full(channels, plan.zero_point or 0, dtype=np.int64)
    if m.table is not None and plan.zero_point is None:
        z = m.table.zero_point.copy()
    shape = (count, channels)
    a, bp, bn = (np.zeros(shape, np.int64) for _ in range(3))
    t, scale = np.ones(shape, np.int64), np.ones(shape, np.float64)
    domain_low, domain_high = np.ones(shape, np.int64), np.zeros(shape, np.int64)
    low, high = np.empty(shape, np.int64), np.empty(shape, np.int64)
    add = np.zeros(count, np.int64)
    clamped = (plan.qmin, plan.qmax) != (INT32_MIN, INT32_MAX)
    for k, scheme in enumerate(plan.schemes):
        rule = scheme.rule
        add[k] = adds_zero_point_after(rule)
        low[k], high[k] = result_bounds(rule, z, plan.qmin, plan.qmax)
        if kind == RANGE:
            continue
        multiplier = _reals(plan, scheme.recipe)
        fits = multiplier_fits(scheme, multiplier)
        if m.table is not None:
            multiplier = np.where(fits, multiplier, 0.5)
        if not fits.any():
            continue
        form = derive(scheme, multiplier)
        if isinstance(rule, FloatRule):
            scale[k] = form.scale
        elif isinstance(rule, FloorRule):
            a[k], bp[k], bn[k], t[k] = form.a, form.bp, form.bn, form.t
        else:
            a[k], t[k] = form.a, form.t
        total = isinstance(rule, FloatRule) and rule.saturates and clamped
        domain_low[k] = np.where(fits, INT32_MIN if total else np.maximum(form.acc_min, INT32_MIN), 1)
        domain_high[k] = np.where(fits, INT32_MAX if total else np.minimum(form.acc_max, INT32_MAX), 0)
    acc_low, acc_span, spread = _draw_parameters(plan, channels, z)
    sequential = acc.kind == "all"
    acc_kind = {
        "uniform": ACC_UNIFORM, "normal": ACC_QUANTILE, "laplace": ACC_QUANTILE,
        "unsaturated": ACC_UNSATURATED, "all": ACC_SEQUENTIAL,
    }[acc.kind]  # fmt: skip
    span = int(acc_span[0])
    single_word = (channels == 1 and acc_kind == ACC_UNIFORM) and span & (span - 1) == 0
    pairs_per_block = (2 if single_word else 1) if kind == RANGE else (4 if single_word else 2)
    real_low, real_width = 0.0, 0.0
    if kind == RANGE:
        assert m.low is not None
        assert m.high is not None
        ends = (_log2(m.low), _log2(m.high)) if m.distribution == "log-uniform" else (m.low, m.high)
        real_low, real_width = ends[0], ends[1] - ends[0]
    limits = np.array([s.scale_range for s in plan.schemes], dtype=np.float64)
    shifts = np.array([s.shift_range for s in plan.schemes], dtype=np.int64)
    return Work(
        kind=kind, key0=plan.seed & 0xFFFFFFFF, key1=plan.seed >> 32,
        pairs_per_block=4 if sequential else pairs_per_block, channels=channels, stride=_stride(channels),
        acc_kind=acc_kind,
        acc_low=acc_low, acc_span=acc_span, word_shift=32 - (span.bit_length() - 1) if single_word else -1,
        center=np.full(channels, acc.center), spread=spread, output_units=acc.output_units,
        table=quantile_table(acc.kind) if acc_kind == ACC_QUANTILE else np.zeros(2),
        real_low=real_low, real_width=real_width, log_uniform=m.distribution == "log-uniform",
        z=z, qmin=plan.qmin, qmax=plan.qmax, clamped=clamped,
        rules=np.stack([s.rule.encode() for s in plan.schemes]),
        a=a, bp=bp, bn=bn, t=t, scale=scale, domain_low=domain_low, domain_high=domain_high,
        low=low, high=high, add=add, bins=_bins(plan, channels),
        shift_low=shifts[:, 0].copy(), shift_high=shifts[:, 1].copy(),
        scale_low=limits[:, 0].copy(), scale_high=limits[:, 1].copy(),
        total=_total(plan, clamped) if kind == RANGE
        else np.asarray(((domain_low <= acc_low) & (domain_high >= acc_low + acc_span - 1)).all(axis=1)),
        witnesses=plan.witnesses,
    )  # fmt: skip


def _total(plan: SweepPlan, clamped: bool) -> npt.NDArray[np.bool_]:
    """Tell for each scheme whether every pair of a range of multipliers is in its domain (never falsely true)."""
    m, acc = plan.multipliers, plan.accumulators
    assert m.low is not None
    assert m.high is not None
    reach = max(abs(acc.low), abs(acc.high))
    if acc.kind == "unsaturated":
        # Exact outputs inside the clamp; the quotient and its rounding are less than 2 off.
        output = max(abs(plan.qmin - (plan.zero_point or 0)), abs(plan.qmax - (plan.zero_point or 0)))
        reach = int(min(output / m.low + 2, 2.0**31))
    # One exponent and one part in 2**20 of margin cover every rounding of the multiplier.
    first, last = math.frexp(m.low)[1], math.frexp(m.high)[1] + 1
    result_fits = reach * m.high * (1 + 2.0**-20) < 2**31 - 1 and reach * m.high < 2.0**40
    shifts = max(last, 0) == 0 or (reach << max(last, 0)) < 2**31
    totals = []
    for scheme in plan.schemes:
        rule = scheme.rule
        low, high = scheme.scale_range
        fits = low <= m.low * (1 - 2.0**-20) and m.high * (1 + 2.0**-20) < high
        if scheme.parameter == "q31":
            fits = scheme.shift_range[0] <= first and last <= scheme.shift_range[1]
        if isinstance(rule, FloorRule):
            # 8 fraction bits put a mantissa up to 2**-9 above the multiplier: more than one part in 2**20.
            within = result_fits and (rule.mantissa != "q8" or reach * (m.high + 2.0**-8) < 2**31 - 1)
            fits &= within and (shifts or not rule.shifts_accumulator)
            fits &= not rule.nudge_saturates or reach + 2 ** max(-first - 1, 0) < 2**31
        elif isinstance(rule, FloatRule):
            fits &= result_fits or (clamped and rule.saturates)
        totals.append(fits)
    return np.array(totals)


def _stride(channels: int) -> int:
    """Return a step through all channels that spreads short sweeps over the table: coprime, near C / phi."""
    step = max(1, round(channels * 0.6180339887498949))
    while math.gcd(step, channels) != 1:
        step += 1
    return step


def _double_reals(plan: SweepPlan) -> F64:
    """Return the multipliers in float64, by the recipe ``double`` (tables) or as given."""
    value = _reals(plan, "double")
    return np.atleast_1d(np.asarray(value.real if isinstance(value, QuantizedMultiplier) else value, np.float64))


def _bins(plan: SweepPlan, channels: int) -> I64:
    m = plan.multipliers
    if isinstance(m.fixed, QuantizedMultiplier):
        exponent = np.clip(np.array([m.fixed.shift], dtype=np.int64), 1 - BIN_ORIGIN, BIN_ORIGIN - 1)
        return np.where(m.fixed.value == 0, 0, exponent + BIN_ORIGIN)
    if m.fixed is None and m.table is None:
        return np.zeros(channels, np.int64)
    value, exponent = split_real(_double_reals(plan))
    return np.where(value == 0, 0, np.clip(exponent + BIN_ORIGIN, 1, 2 * BIN_ORIGIN - 1))


def _draw_parameters(plan: SweepPlan, channels: int, z: I64) -> tuple[I64, I64, F64]:
    acc, m = plan.accumulators, plan.multipliers
    acc_low = np.full(channels, acc.low, dtype=np.int64)
    acc_span = np.full(channels, acc.high - acc.low + 1, dtype=np.int64)
    spread = np.full(channels, acc.spread)
    drawn = m.fixed is None and m.table is None
    if acc.kind == "unsaturated" and not drawn:
        reals = _double_reals(plan)
        if (reals == 0).any():
            raise DomainError("unsaturated accumulators of a zero multiplier are unbounded; pass a range.")
        bottom = np.ceil(np.maximum((plan.qmin - z) / reals, INT32_MIN)).astype(np.int64)
        top = np.floor(np.minimum((plan.qmax - z) / reals, INT32_MAX)).astype(np.int64)
        acc_low, acc_span = bottom, top - bottom + 1
        # With the zero point inside [qmin, qmax], accumulator 0 is always inside; a narrower clamp may exclude it.
        empty = acc_span < 1
        if empty.any():
            raise DomainError(
                f"no accumulator keeps the output of channel {int(np.argmax(empty))} inside [{plan.qmin}, {plan.qmax}]."
            )
    if acc.output_units and not drawn:
        reals = _double_reals(plan)
        spread = acc.spread / np.maximum(reals, REAL_LIMITS[0])
    return acc_low, acc_span, spread
