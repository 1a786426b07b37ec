"""Explain one value: every intermediate of every scheme, and who runs which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError, DTypeError
from . import recipes, spec
from .binding import RAW_ZERO_POINT, clamped_type
from .forms import derive
from .multiplier import QuantizedMultiplier, as_reals
from .schemes import Scheme, get_scheme
from .schemes import schemes as all_schemes


@dataclass(frozen=True, slots=True)
class SchemeExplanation:
    """One scheme's steps, or why it has none.

    Attributes
    ----------
    scheme : Scheme
    real : float
        The real multiplier handed to the scheme (after its recipe).
    trace : Trace or None
        Intermediates (`qengine.requant.spec.Trace`); None outside the scheme's domain.
    outside : str or None
        Why the value is outside the domain.
    """

    scheme: Scheme
    real: float
    trace: spec.Trace | None
    outside: str | None

    @property
    def output(self) -> int | None:
        """The clamped output, or None outside the domain."""
        return None if self.trace is None else self.trace.clamped

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; integers beyond 2**53 stay integers."""
        real = self.real if math.isfinite(self.real) else None
        head: dict[str, Any] = {"scheme": self.scheme.name, "real_multiplier": real}
        if self.trace is None:
            return {**head, "outside_domain": self.outside}
        t = self.trace
        return {
            **head,
            "parameter": t.parameter,
            "exact": float(t.exact),
            "exact_fraction": f"{t.exact.numerator}/{t.exact.denominator}",
            "product": t.product,
            "left_shift": t.left_shift,
            "total_shift": t.total_shift,
            "high_mul": t.high_mul,
            "remainder": t.remainder,
            "threshold": t.threshold,
            "tie_distance": float(t.tie_distance),
            "result": t.result,
            "with_zero_point": t.with_zero_point,
            "clamped": t.clamped,
            "runs_in": list(self.scheme.runs_in),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """All schemes on one accumulator; iterable, and indexable by scheme name or alias."""

    acc: int
    multiplier: QuantizedMultiplier | float | None
    scales: tuple[float, float, float] | None
    zero_point: int
    dtype: str | None
    rows: tuple[SchemeExplanation, ...]

    def __getitem__(self, scheme: str) -> SchemeExplanation:
        name = get_scheme(scheme).name
        for row in self.rows:
            if row.scheme.name == name:
                return row
        raise KeyError(f"scheme {name!r} was not asked for")

    def __iter__(self) -> Any:
        return iter(self.rows)

    def by_output(self) -> dict[int, tuple[str, ...]]:
        """Return the schemes that give each output, the commonest output first."""
        groups: dict[int, list[str]] = {}
        for row in self.rows:
            if row.output is not None:
                groups.setdefault(row.output, []).append(row.scheme.name)
        ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        return {output: tuple(names) for output, names in ordered}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        multiplier: Any = self.multiplier
        if isinstance(multiplier, QuantizedMultiplier):
            multiplier = {"value": multiplier.value, "shift": multiplier.shift}
        return {
            "acc": self.acc,
            "multiplier": multiplier,
            "scales": list(self.scales) if self.scales else None,
            "zero_point": self.zero_point,
            "dtype": self.dtype,
            "outputs": [
                {
                    "output": output,
                    "schemes": list(names),
                    "runs_in": [r for name in names for r in get_scheme(name).runs_in],
                }
                for output, names in self.by_output().items()
            ],
            "schemes": [row.to_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        from ..report.explain import render_text

        return render_text(self)


def _limits(dtype: npt.DTypeLike | None, zero_point: int) -> tuple[str | None, int | None, int | None]:
    if dtype is None:
        low, high, name = *RAW_ZERO_POINT, None
        limits: tuple[int | None, int | None] = (None, None)
    else:
        name, low, high = clamped_type(dtype)
        limits = (low, high)
    if not low <= zero_point <= high:
        raise DomainError(f"zero_point must be in [{low}, {high}] for dtype {name or 'int32'}; got {zero_point}.")
    return name, *limits


def _one_multiplier(multiplier: Any) -> QuantizedMultiplier | float:
    """Return one multiplier, or raise: an invalid one is the caller's error, not an answer."""
    if isinstance(multiplier, QuantizedMultiplier):
        if multiplier.shape != ():
            raise DomainError(f"explain takes one multiplier; got an array of shape {multiplier.shape}.")
        return multiplier
    if isinstance(multiplier, bool) or not isinstance(multiplier, (int, float, np.number)):
        raise DTypeError(f"multiplier must be a QuantizedMultiplier or a real number; got {multiplier!r}.")
    return float(as_reals(float(multiplier)))


def _three_numbers(scales: Any) -> bool:
    return len(scales) == 3 and all(np.ndim(scale) == 0 for scale in scales)


def check_some_output(explanation: Explanation) -> None:
    """Raise if the input, not a scheme, is at fault: the first scheme refuses the shift, or none has an output."""
    first = next((row.scheme for row in explanation.rows if row.scheme.parameter == "q31"), None)
    if first is not None and isinstance(explanation.multiplier, QuantizedMultiplier):
        derive(first, explanation.multiplier)
    if all(row.trace is None for row in explanation.rows):
        raise DomainError(str(explanation.rows[0].outside))


def explain(
    acc: int,
    multiplier: QuantizedMultiplier | float | None = None,
    *,
    scales: tuple[float, float, float] | None = None,
    zero_point: int = 0,
    dtype: npt.DTypeLike | None = None,
    schemes: Any = None,
) -> Explanation:
    """Show every intermediate of every scheme for one accumulator.

    Parameters
    ----------
    acc : int
        Accumulator.
    multiplier : QuantizedMultiplier or float
        One multiplier for all schemes, or
    scales : (input_scale, weight_scale, output_scale)
        stored float32 scales, from which each scheme takes its multiplier by its own recipe.
    zero_point : int
        Output zero point, added.
    dtype : {int8, uint8, int16}, optional
        Output type to clamp to. Default: raw.
    schemes : iterable of str, optional
        Names (one or more); default all.

    Returns
    -------
    Explanation
        ``.rows``, one a scheme; ``str()`` is the table of the terminal; ``.to_dict()`` is JSON.

    Raises
    ------
    DomainError
        If neither or both of multiplier and scales are given, or a value is out of range. A scheme whose domain
        excludes the value does not raise: its row says why.

    Examples
    --------
    >>> import qengine as qe
    >>> issue = (0.05296124517917633, 0.024093778803944588, 0.11484327912330627)
    >>> e = qe.explain(585, scales=issue, zero_point=-126, schemes=["single", "double", "fp32"])
    >>> e.by_output()
    {-119: ('single', 'double'), -120: ('fp32',)}
    >>> e["fp32"].trace.product, e["single"].trace.result        # a tie, in float32 alone
    (6.5, 7)
    >>> qe.explain(-585, scales=issue, schemes=["fp32"])["fp32"].output
    -6
    """
    if isinstance(acc, bool) or not isinstance(acc, (int, np.integer)):
        raise DTypeError(f"acc must be an integer; got {acc!r}.")
    if isinstance(zero_point, bool) or not isinstance(zero_point, (int, np.integer)):
        raise DTypeError(f"zero_point must be an integer; got {zero_point!r}.")
    if (multiplier is None) == (scales is None):
        raise DomainError("explain takes a multiplier or scales=(input, weight, output), one of the two.")
    name, qmin, qmax = _limits(dtype, int(zero_point))
    if scales is not None and not (isinstance(scales, (tuple, list, np.ndarray)) and _three_numbers(scales)):
        raise DomainError(f"scales must be three numbers (input, weight, output); got {scales!r}.")
    if scales is not None:
        for label, scale in zip(("input_scale", "weight_scale", "output_scale"), scales, strict=True):
            recipes.as_scales(label, scale)
    else:
        multiplier = _one_multiplier(multiplier)
    wanted = all_schemes() if schemes is None else [schemes] if isinstance(schemes, str) else schemes
    wanted = list(wanted)
    if not wanted:
        raise DomainError("explain needs at least one scheme; got none.")
    rows = []
    for scheme in map(get_scheme, wanted):
        given, real = multiplier, math.nan
        try:
            if scales is not None:
                given = recipes.apply(scheme.recipe, *scales)
            assert given is not None
            real = float(given.real)
            trace = spec.trace(scheme, int(acc), given, int(zero_point), qmin, qmax)
            rows.append(SchemeExplanation(scheme, real, trace, None))
        except DomainError as error:
            rows.append(SchemeExplanation(scheme, real, None, str(error)))
    kept = tuple(float(np.float32(s)) for s in scales) if scales is not None else None
    return Explanation(int(acc), multiplier, kept, int(zero_point), name, tuple(rows))  # type: ignore[arg-type]
