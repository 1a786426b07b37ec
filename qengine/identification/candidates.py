"""What recorded rows are compared with: every scheme by every recipe, evaluated by a back end where it is defined."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..backends.forms import FloatRule
from ..exceptions import DomainError
from ..requant import recipes
from ..requant.binding import bind, wraps
from ..requant.forms import derive, multiplier_fits, wrapped_left_shift
from ..requant.multiplier import QuantizedMultiplier
from ..requant.schemes import SCHEMES, Scheme, get_scheme
from .rows import F64, Rows

#: How the runtimes whose outputs were recorded begin in `Scheme.runs_in`.
_RECORDED = ("TFLite", "LiteRT", "XNNPACK", "ONNX Runtime", "torch")

Flags = npt.NDArray[np.bool_]
Multipliers = QuantizedMultiplier | F64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A scheme with a recipe (None where the multiplier itself was recorded)."""

    scheme: Scheme
    recipe: str | None

    @property
    def name(self) -> str:
        """Scheme and, where it is not the scheme's own, the recipe."""
        return self.scheme.name if self.usual else f"{self.scheme.name} ({self.recipe})"

    @property
    def usual(self) -> bool:
        """Whether the recipe is the scheme's own."""
        return self.recipe in (None, self.scheme.recipe)

    @property
    def widespread(self) -> bool:
        """Whether a runtime whose outputs were recorded runs the scheme."""
        return any(runtime.startswith(_RECORDED) for runtime in self.scheme.runs_in)

    @property
    def arithmetic(self) -> tuple[Any, ...]:
        """Equal for candidates that are the same by construction, wherever nothing overflows.

        A scheme that rounds its multiplier to float32 makes the same of ``double`` and ``float32-of-double``, and of
        ``float-product`` and ``float32``: a quotient of two 24-bit numbers, rounded to 53 >= 2 * 24 + 2 bits, lies on
        the same side of every midpoint of fewer bits as before.
        """
        rule: Any = self.scheme.rule
        if isinstance(rule, FloatRule):
            rule = dataclasses.replace(rule, clamps_before_conversion=False)
        recipe = self.recipe
        if self.scheme.parameter == "float32":
            recipe = {"double": "float32-of-double", "float-product": "float32"}.get(recipe or "", recipe)
        return rule, self.scheme.parameter, self.scheme.acc_bits, recipe


def get_candidate(scheme: str, recipe: str | None) -> Candidate:
    """Return the candidate of a scheme's name and a recipe's."""
    return Candidate(get_scheme(scheme), recipe)


def candidates(schemes: Any, recipe_names: Any, scaled: bool) -> list[Candidate]:
    """Return the candidates: those with a scheme's own recipe first, of these those that recorded runtimes run.

    Raises
    ------
    DomainError, UnknownNameError
        No scheme, no recipe, an unknown one, or recipes where multipliers were recorded.
    """
    rows = [get_scheme(name) for name in _names("schemes", schemes, SCHEMES)]
    rows = list(dict.fromkeys(rows))
    if not scaled:
        if recipe_names is not None:
            raise DomainError("recipes need scales=(input, weight, output); got a multiplier.")
        return sorted((Candidate(row, None) for row in rows), key=lambda one: not one.widespread)
    wanted = [recipes.get_recipe(name).name for name in _names("recipes", recipe_names, recipes.RECIPES)]
    found = [Candidate(row, name) for row in rows for name in wanted]
    return sorted(found, key=lambda one: (not one.usual, not one.widespread))


def _names(kind: str, given: Any, known: Iterable[str]) -> list[Any]:
    names = list(known) if given is None else [given] if isinstance(given, (str, Scheme)) else list(given)
    if not names:
        raise DomainError(f"{kind} must name at least one; got none.")
    return names


def multipliers(rows: Rows, recipe: str | None) -> tuple[Multipliers, Flags]:
    """Return the multiplier of each row by a recipe, and where it is in the range of the recipe's type."""
    if rows.scales is None:
        assert rows.multiplier is not None
        return rows.multiplier, np.ones(rows.size, dtype=np.bool_)
    assert recipe is not None
    with np.errstate(all="ignore"):
        real = np.asarray(recipes.get_recipe(recipe).compute(*rows.scales), dtype=np.float64)
    return real, np.isfinite(real) & (real > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What one candidate gives: codes, and where it has any."""

    codes: npt.NDArray[np.int32]
    defined: Flags


#: Readings of rows near the overflow of int32: the scheme by its contract, as its original wraps, not at all.
OVERFLOWS = ("error", "wrap", "outside")


def outputs(
    candidate: Candidate, rows: Rows, given: Multipliers, fits: Flags, backend: str | None
) -> tuple[Outputs, Outputs, Outputs]:  # fmt: skip
    """Evaluate a candidate on all rows in the three readings of `OVERFLOWS`; they differ where int32 may overflow."""
    scheme = candidate.scheme
    fits = fits & multiplier_fits(
        scheme, given if isinstance(given, QuantizedMultiplier) else np.where(fits, given, 0.5)
    )
    plain = _evaluate(scheme, rows, given, fits, False, backend)
    # An overflow needs |acc * M| >= 2**29: some kernels shift left by e + 1, 2**e <= 2 M; a zero point adds 2**17.
    real = np.asarray(given.real) if isinstance(given, QuantizedMultiplier) else given
    with np.errstate(all="ignore"):
        far = fits & (np.abs(rows.acc) * np.maximum(real, 1.0) >= 2.0**29)
    if not far.any():
        return plain, plain, plain
    near = Outputs(np.where(far, 0, plain.codes), plain.defined & ~far)
    if not wraps(scheme):
        return plain, plain, near
    wrapped = _evaluate(scheme, rows, given, far, True, backend)
    return plain, Outputs(near.codes + wrapped.codes, near.defined | wrapped.defined), near


def _evaluate(
    scheme: Scheme, rows: Rows, given: Multipliers, chosen: Flags, wrap: bool, backend: str | None
) -> Outputs:  # fmt: skip
    """Requantize the chosen rows, one channel each; the others are undefined."""
    codes = np.zeros(rows.size, dtype=np.int32)
    defined = np.zeros(rows.size, dtype=np.bool_)
    at = slice(None) if chosen.all() else np.flatnonzero(chosen)
    acc, zero_point = rows.acc[at], rows.zero_point[at]
    if not acc.size:
        return Outputs(codes, defined)
    multiplier = (
        QuantizedMultiplier(given.value[at], given.shift[at]) if isinstance(given, QuantizedMultiplier) else given[at]
    )
    form = derive(scheme, multiplier)
    prepared = bind(scheme, form, zero_point, rows.dtype, rows.limits, wrap)
    low, high = prepared.domain
    inside = (acc >= low) & (acc <= high)
    acc = np.where(inside, acc, 0)
    if wrap:
        split = wrapped_left_shift(form)
        if split is not None:  # |acc| < 2**31 shifted by 30 at most: below 2**62
            acc, form = (acc << split[0]).astype(np.int32).astype(np.int64), split[1]
    acc = np.ascontiguousarray(acc if scheme.acc_bits > 32 else acc.astype(np.int32))
    out = np.empty(acc.size, dtype=rows.dtype)
    name = backends.choose(backend, acc)
    backends.load(name).requantize(acc.reshape(1, -1, 1), form, prepared.epilogue, out.reshape(1, -1, 1))
    codes[at] = np.where(inside, out, 0)
    defined[at] = inside
    if rows.qmin is not None or rows.qmax is not None:
        # Both clamps keep what lies between: the narrower may follow the wider.
        low_code, high_code = rows.limits
        codes = np.clip(
            codes,
            low_code if rows.qmin is None else rows.qmin,
            high_code if rows.qmax is None else rows.qmax,
        ).astype(np.int32)
        codes[~defined] = 0
    return Outputs(codes, defined)
