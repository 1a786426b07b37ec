"""What a sweep compares, on which pairs: the choices of people, validated.

A pair is (multiplier, accumulator). Pair number i is a function of (plan, i) alone: its Philox4x32-10 block is
keyed by the seed and counted by i, so every back end, tile size and number of workers sees the same pairs.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..arguments import chosen, integer
from ..backends.forms import INT32_MAX, INT32_MIN
from ..canonical import canonical
from ..exceptions import DomainError, DTypeError, UnknownNameError, brief
from ..requant.binding import clamped_type
from ..requant.forms import derive, multiplier_fits
from ..requant.multiplier import QuantizedMultiplier
from ..requant.scales import ScaleTable
from ..requant.schemes import Scheme, get_scheme

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
#: Real multipliers of a range lie between these: wider than any scheme's domain, well inside float32.
REAL_LIMITS = (2.0**-60, 2.0**40)
DISTRIBUTIONS = ("uniform", "log-uniform")
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
    zero_point = None if zero_point is None else integer("zero_point", zero_point)
    _check_multipliers(multipliers)
    many = multipliers.table is not None and multipliers.table.zero_point.size > 1
    if dtype is None and (many or qmin is not None or qmax is not None or zero_point):
        dtype = np.int8
    name, low, high = (None, INT32_MIN, INT32_MAX) if dtype is None else clamped_type(dtype)
    qmin = low if qmin is None else integer("qmin", qmin, low, high)
    qmax = high if qmax is None else integer("qmax", qmax, low, high)
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
        pairs = size if pairs is None else integer("pairs", pairs, 1, size)
    if pairs is None:
        pairs = 1_000_000
    return SweepPlan(
        schemes=rows, pairs=integer("pairs", pairs, 1, 2**62), seed=integer("seed", seed, 0, 2**64 - 1),
        multipliers=multipliers, accumulators=accumulators, zero_point=zero_point, dtype=name,
        qmin=qmin, qmax=qmax, witnesses=integer("witnesses", witnesses, 0, 10_000),
    )  # fmt: skip


def _check_multipliers(m: Multipliers) -> None:
    given = (m.fixed is not None) + (m.table is not None) + (m.low is not None or m.high is not None)
    if given != 1:
        raise DomainError("a sweep takes one multiplier, a range (low, high) or a table of scales, one of them.")
    chosen("distribution", m.distribution, DISTRIBUTIONS)
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
    return integer("zero_point", zero_point, low, high)


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
        raise DTypeError(f"acc must be a distribution such as 'uniform:-100:100'; got {brief(given)}.")
    chosen("accumulator distribution", given.kind, ACCUMULATORS)
    integer("the lowest accumulator", given.low, INT32_MIN, INT32_MAX)
    integer("the highest accumulator", given.high, INT32_MIN, INT32_MAX)
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
        f"cannot read the accumulator distribution {brief(text)}; use uniform[:LOW:HIGH], normal:SD[:CENTER], "
        "laplace:B[:CENTER], output-normal:SD, output-laplace:B, unsaturated or all[:LOW:HIGH]."
    )
