"""What a sweep compares: a plan for people, and the plain arrays (`Work`) that kernels read.

A pair is (multiplier, accumulator). Pair number i is a function of (plan, i) alone: its Philox4x32-10 block is
keyed by the seed and counted by i, so every back end, tile size and number of workers sees the same pairs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import statistics
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Literal

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

from ..exceptions import DomainError, DTypeError, UnknownNameError
from ..requant import recipes
from ..requant.forms import INT32_MAX, INT32_MIN, FloatRule, FloorRule, derive, multiplier_fits
from ..requant.multiplier import QuantizedMultiplier, split_real
from ..requant.requantize import CLAMPED
from ..requant.schemes import Scheme, get_scheme
from .scales import ScaleTable

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
#: Real multipliers of a range lie between these: wider than any scheme's domain, well inside float32.
REAL_LIMITS = (2.0**-60, 2.0**40)
ACCUMULATORS = ("uniform", "normal", "laplace", "unsaturated", "all")


@dataclass(frozen=True, slots=True)
class Multipliers:
    """Where multipliers come from: one of four sources.

    Attributes
    ----------
    fixed : QuantizedMultiplier or float, optional
        One multiplier for all pairs.
    low, high : float, optional
        Real range ``[low, high)``, drawn uniformly in the number or in its logarithm.
    distribution : {"uniform", "log-uniform"}
    table : ScaleTable, optional
        Channels, in turn with equal shares (runs of 64 pairs); each scheme applies its recipe to the scales.
    """

    fixed: QuantizedMultiplier | float | None = None
    low: float | None = None
    high: float | None = None
    distribution: Literal["uniform", "log-uniform"] = "uniform"
    table: ScaleTable | None = None

    def describe(self) -> dict[str, Any]:
        """Return what identifies the source, for the digest and for reports."""
        if self.table is not None:
            content = hashlib.sha256()
            for column in (*self.table.scales, self.table.zero_point):
                content.update(np.ascontiguousarray(column).tobytes())
            return {
                "source": "scales", "name": self.table.name, "channels": int(self.table.zero_point.size),
                "sha256": content.hexdigest(),
            }  # fmt: skip
        if isinstance(self.fixed, QuantizedMultiplier):
            return {"source": "fixed", "value": self.fixed.value, "shift": self.fixed.shift}
        if self.fixed is not None:
            return {"source": "fixed", "real": self.fixed}
        return {"source": "range", "low": self.low, "high": self.high, "distribution": self.distribution}


@dataclass(frozen=True, slots=True)
class Accumulators:
    """How accumulators are drawn.

    Attributes
    ----------
    kind : {"uniform", "normal", "laplace", "unsaturated", "all"}
        ``uniform`` over the closed range; ``normal``/``laplace`` around `center`, rounded half to even and
        clipped to the range; ``unsaturated`` uniform over the accumulators whose exact output lies inside the
        clamp, per multiplier; ``all``: each accumulator of the range once, in order.
    low, high : int
        Closed range.
    spread : float
        Standard deviation (normal) or scale b (laplace).
    center : float
    output_units : bool
        `spread` counts output codes: it is divided by the multiplier.
    """

    kind: str = "uniform"
    low: int = INT32_MIN
    high: int = INT32_MAX
    spread: float = 0.0
    center: float = 0.0
    output_units: bool = False

    def describe(self) -> dict[str, Any]:
        """Return what identifies the distribution."""
        if self.kind == "unsaturated":
            return {"kind": self.kind}
        base: dict[str, Any] = {"kind": self.kind, "low": self.low, "high": self.high}
        if self.kind in ("normal", "laplace"):
            base |= {"center": self.center, "spread": self.spread, "output_units": self.output_units}
        return base


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A validated sweep: what is compared, on which pairs. Build it with `make_plan`."""

    schemes: tuple[Scheme, ...]
    pairs: int
    seed: int
    multipliers: Multipliers
    accumulators: Accumulators
    zero_point: int | None
    dtype: str | None
    qmin: int
    qmax: int
    witnesses: int

    def describe(self) -> dict[str, Any]:
        """Return everything that decides the result, as plain data."""
        return {
            "schemes": [scheme.name for scheme in self.schemes],
            "pairs": self.pairs,
            "seed": self.seed,
            "multipliers": self.multipliers.describe(),
            "accumulators": self.accumulators.describe(),
            "zero_point": self.zero_point,
            "output": {"dtype": self.dtype or "raw", "qmin": self.qmin, "qmax": self.qmax},
            "witnesses": self.witnesses,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of `describe`."""
        return hashlib.sha256(canonical(self.describe())).hexdigest()


def canonical(data: Any) -> bytes:
    """Return the one JSON text of plain data: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The plan as plain arrays, the only thing a sweep kernel sees. K schemes, C channels.

    ``a, bp, bn, t, scale, domain_low, domain_high, low, high`` are (K, C); ``low``/``high`` clamp a result before
    ``add[k] * z`` is added. A multiplier outside a scheme's domain has an empty accumulator domain.
    """

    kind: int
    key0: int
    key1: int
    pairs_per_block: int
    channels: int
    stride: int
    acc_kind: int
    acc_low: I64
    acc_span: I64
    word_shift: int
    center: F64
    spread: F64
    output_units: bool
    table: F64
    real_low: float
    real_width: float
    log_uniform: bool
    z: I64
    qmin: int
    qmax: int
    clamped: bool
    rules: I64
    a: I64
    bp: I64
    bn: I64
    t: I64
    scale: F64
    domain_low: I64
    domain_high: I64
    low: I64
    high: I64
    add: I64
    bins: I64
    shift_low: I64
    shift_high: I64
    scale_low: F64
    scale_high: F64
    total: npt.NDArray[np.bool_]
    witnesses: int


def _count(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise DTypeError(f"{name} must be an integer; got {value!r}.")
    if not low <= value <= high:
        raise DomainError(f"{name} must be in [{low}, {high}]; got {value}.")
    return int(value)


def make_plan(
    schemes: Any,
    *,
    pairs: int | None = None,
    seed: int = 0,
    multipliers: Multipliers | None = None,
    accumulators: Accumulators | str | None = None,
    zero_point: int | None = None,
    dtype: npt.DTypeLike | None = None,
    qmin: int | None = None,
    qmax: int | None = None,
    witnesses: int = 8,
) -> SweepPlan:
    """Validate the choices of a sweep and fill in its defaults.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError
        For choices that are out of range, contradict each other, or name nothing.
    """
    rows = tuple(get_scheme(s) for s in schemes)
    if len(rows) < 2:
        raise DomainError(f"a sweep compares two or more schemes; got {len(rows)}.")
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise DomainError(f"the schemes must differ; got {', '.join(names)} (aliases count as the same).")
    multipliers = multipliers or Multipliers(low=0.01, high=0.99)
    _check_multipliers(multipliers)
    many = multipliers.table is not None and multipliers.table.zero_point.size > 1
    if dtype is None and (many or qmin is not None or qmax is not None or zero_point):
        dtype = np.int8
    if dtype is None:
        name, low, high = None, INT32_MIN, INT32_MAX
    else:
        try:
            chosen = np.dtype(dtype)
        except TypeError:
            chosen = np.dtype(np.void)
        if chosen not in CLAMPED:
            raise DTypeError(f"a sweep's dtype must be int8, uint8 or int16, or None for raw; got {dtype!r}.")
        name, low, high = chosen.name, int(CLAMPED[chosen].min), int(CLAMPED[chosen].max)
    qmin = low if qmin is None else _count("qmin", qmin, low, high)
    qmax = high if qmax is None else _count("qmax", qmax, low, high)
    if qmin > qmax:
        raise DomainError(f"qmin must not exceed qmax; got qmin {qmin}, qmax {qmax}.")
    if multipliers.fixed is not None:
        refused = [row for row in rows if not multiplier_fits(row, multipliers.fixed).all()]
        if len(rows) - len(refused) < 2:
            derive(refused[0], multipliers.fixed)  # raises: at most one scheme is left, nothing to compare
    zero_point = _zero_point(zero_point, name, low, high, multipliers)
    accumulators = _accumulators(accumulators, name, multipliers, pairs)
    if accumulators.kind == "unsaturated" and zero_point is not None and not qmin <= zero_point <= qmax:
        raise DomainError(
            f"unsaturated accumulators need qmin <= zero_point <= qmax; got {zero_point} in [{qmin}, {qmax}]."
        )
    if accumulators.kind == "all":
        size = accumulators.high - accumulators.low + 1
        pairs = size if pairs is None else _count("pairs", pairs, 1, size)
    if pairs is None:
        pairs = 1_000_000
    return SweepPlan(
        schemes=rows, pairs=_count("pairs", pairs, 1, 2**62), seed=_count("seed", seed, 0, 2**64 - 1),
        multipliers=multipliers, accumulators=accumulators, zero_point=zero_point, dtype=name,
        qmin=qmin, qmax=qmax, witnesses=_count("witnesses", witnesses, 0, 10_000),
    )  # fmt: skip


def _check_multipliers(m: Multipliers) -> None:
    given = (m.fixed is not None) + (m.table is not None) + (m.low is not None or m.high is not None)
    if given != 1:
        raise DomainError("a sweep takes one multiplier, a range (low, high) or a table of scales, one of them.")
    if m.distribution not in ("uniform", "log-uniform"):
        raise UnknownNameError.of("distribution", m.distribution, ("uniform", "log-uniform"))
    if m.fixed is not None:
        if isinstance(m.fixed, QuantizedMultiplier):
            if m.fixed.shape != ():
                raise DomainError("a sweep takes one fixed multiplier; for many, pass a table of scales.")
        elif not (math.isfinite(m.fixed) and m.fixed >= 0):
            raise DomainError(f"multiplier must be finite and not negative; got {m.fixed!r}.")
    elif m.table is None:
        low, high = m.low, m.high
        if low is None or high is None or not (REAL_LIMITS[0] <= low < high <= REAL_LIMITS[1]):
            raise DomainError(f"a multiplier range must satisfy 2^-60 <= low < high <= 2^40; got ({low!r}, {high!r}).")


def _zero_point(zero_point: int | None, dtype: str | None, low: int, high: int, multipliers: Multipliers) -> int | None:
    if zero_point is None:
        if multipliers.table is None or dtype is None:
            return 0
        bad = (multipliers.table.zero_point < low) | (multipliers.table.zero_point > high)
        if bad.any():
            got = int(multipliers.table.zero_point[np.argmax(bad)])
            raise DomainError(
                f"the table's zero point {got} (row {int(np.argmax(bad)) + 1}) lies outside {dtype} [{low}, {high}]."
            )
        return None
    if dtype is None and zero_point != 0:
        raise DomainError(f"a raw sweep has no zero point (pass dtype='int8'); got {zero_point}.")
    return _count("zero_point", zero_point, low, high)


def _accumulators(
    given: Accumulators | str | None, dtype: str | None, multipliers: Multipliers, pairs: int | None
) -> Accumulators:
    table = multipliers.table
    one = multipliers.fixed is not None or (table is not None and table.zero_point.size == 1)
    if given is None:
        if one and pairs is None:
            given = Accumulators("all")
        elif dtype is not None:
            given = Accumulators("unsaturated")
        else:
            given = Accumulators("uniform", -(1 << 20), (1 << 20) - 1)
    if isinstance(given, str):
        given = parse_accumulators(given)
    if not isinstance(given, Accumulators):
        raise DTypeError(f"acc must be a distribution such as 'uniform:-100:100'; got {given!r}.")
    if given.kind not in ACCUMULATORS:
        raise UnknownNameError.of("accumulator distribution", given.kind, ACCUMULATORS)
    _count("the lowest accumulator", given.low, INT32_MIN, INT32_MAX)
    _count("the highest accumulator", given.high, INT32_MIN, INT32_MAX)
    if given.low > given.high:
        raise DomainError(f"the accumulator range is empty: {given.low} > {given.high}.")
    spreads = math.isfinite(given.spread) and given.spread > 0 and math.isfinite(given.center)
    if given.kind in ("normal", "laplace") and not spreads:
        raise DomainError(
            f"{given.kind} accumulators need a finite spread > 0 and a finite center; "
            f"got spread {given.spread!r}, center {given.center!r}."
        )
    if given.kind == "unsaturated" and dtype is None:
        raise DomainError("unsaturated accumulators need a clamp: pass dtype='int8', 'uint8' or 'int16'.")
    if given.kind == "all" and not one:
        raise DomainError("accumulators 'all' need one fixed multiplier; draw them for a range or a table.")
    return given


def parse_accumulators(text: str) -> Accumulators:
    """Read an accumulator distribution.

    ``uniform[:LOW:HIGH]``, ``normal:SD[:CENTER]``, ``laplace:B[:CENTER]``, ``output-normal:SD``,
    ``output-laplace:B`` (spread in output codes), ``unsaturated``, ``all[:LOW:HIGH]``.

    Examples
    --------
    >>> from qengine.sweeps.plan import parse_accumulators
    >>> parse_accumulators("uniform:-100:100").low
    -100
    """
    kind, *rest = text.split(":")
    output_units = kind.startswith("output-")
    base = kind.removeprefix("output-")
    if base not in ACCUMULATORS or (output_units and base not in ("normal", "laplace")):
        known = (*ACCUMULATORS, "output-normal", "output-laplace")
        raise UnknownNameError.of("accumulator distribution", kind, known)
    try:
        if base in ("uniform", "all") and len(rest) in (0, 2):
            return Accumulators(base, int(rest[0]), int(rest[1])) if rest else Accumulators(base)
        if base in ("normal", "laplace") and len(rest) in ((1,) if output_units else (1, 2)):
            spread, center = float(rest[0]), float(rest[1]) if len(rest) == 2 else 0.0
            return Accumulators(base, spread=spread, center=center, output_units=output_units)
        if base == "unsaturated" and not rest:
            return Accumulators(base)
    except ValueError:
        pass
    raise DomainError(
        f"cannot read the accumulator distribution {text!r}; use uniform[:LOW:HIGH], normal:SD[:CENTER], "
        "laplace:B[:CENTER], output-normal:SD, output-laplace:B, unsaturated or all[:LOW:HIGH]."
    )


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
        saturate = rule.saturate_bits if isinstance(rule, FloorRule) and rule.saturate_bits else 32
        floor, ceiling = -(1 << (saturate - 1)), (1 << (saturate - 1)) - 1
        after = isinstance(rule, FloorRule) or (isinstance(rule, FloatRule) and not rule.zero_point_inside)
        add[k] = after
        low[k] = np.clip(plan.qmin - (z if after else 0), floor, ceiling) if clamped else floor
        high[k] = np.clip(plan.qmax - (z if after else 0), floor, ceiling) if clamped else ceiling
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
    reach = max(abs(acc.low), abs(acc.high)) if acc.kind in ("uniform", "normal", "laplace") else 2**31
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
            fits &= result_fits and (shifts or not rule.shifts_accumulator)
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
