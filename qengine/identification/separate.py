"""What to record next: accumulators that tell the remaining candidates apart, with parameters that the rows have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exact.probes import Probes, probes_of
from ..exact.sides import Side, side
from ..exceptions import DomainError
from ..requant.binding import CLAMPED
from ..requant.multiplier import QuantizedMultiplier
from .candidates import Candidate, get_candidate
from .result import Match
from .rows import Rows

#: Sets of parameters that are tried, spread over the rows.
TRIED = 48


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """How far the remaining candidates can be told apart.

    Attributes
    ----------
    place : str
        The row whose parameters separate most.
    parameters : dict
        These parameters, as numbers.
    probes : Probes
        Accumulators for them, by candidate.
    undecided : tuple of tuples of str
        Candidates that these probes leave together: equal on all accumulators, with these parameters.
    tried : int
        Sets of parameters that were looked at.
    """

    place: str
    parameters: dict[str, float]
    probes: Probes
    undecided: tuple[tuple[str, ...], ...]
    tried: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "place": self.place, "parameters": self.parameters, "probes": self.probes.to_dict(),
            "undecided": [list(group) for group in self.undecided], "tried": self.tried,
        }  # fmt: skip


def separate(rows: Rows, remaining: Sequence[Match]) -> Separation | None:
    """Return the probes of the set of parameters that separates most candidates; None where they are one arithmetic.

    Candidates that are the same by construction count as one. A raw result is looked at within 16 bits.
    """
    distinct: dict[tuple[Any, ...], Candidate] = {}
    for match in remaining:
        candidate = get_candidate(match.scheme, match.recipe)
        distinct.setdefault(candidate.arithmetic, candidate)
    if len(distinct) < 2:
        return None
    best: tuple[int, int, Probes] | None = None
    chosen = _spread(rows)
    for k in chosen:
        try:
            found = probes_of({c.name: _side(rows, c, k) for c in distinct.values()})
        except DomainError:  # some candidate is not defined with these parameters
            continue
        if best is None or len(found.classes) > best[0]:
            best = (len(found.classes), k, found)
        if best[0] == len(distinct):
            break
    if best is None:
        return None
    _, k, found = best
    return Separation(rows.place(k), _parameters(rows, k), found, found.inseparable, len(chosen))


def _spread(rows: Rows) -> list[int]:
    """Return rows with different parameters, at most `TRIED`, spread over all."""
    columns = [rows.zero_point.astype(np.float64)]
    if rows.scales is not None:
        columns += [scale.astype(np.float64) for scale in rows.scales]
    elif isinstance(rows.multiplier, QuantizedMultiplier):
        columns += [rows.multiplier.value.astype(np.float64), rows.multiplier.shift.astype(np.float64)]
    else:
        columns.append(np.asarray(rows.multiplier))
    first = np.sort(np.unique(np.stack(columns), axis=1, return_index=True)[1])
    return [int(k) for k in first[:: max(1, -(-first.size // TRIED))]]


def _side(rows: Rows, candidate: Candidate, k: int) -> Side:
    multiplier: Any = None
    scales: Any = None
    if rows.scales is not None:
        scales = tuple(scale[k] for scale in rows.scales)
    elif isinstance(rows.multiplier, QuantizedMultiplier):
        multiplier = QuantizedMultiplier(int(rows.multiplier.value[k]), int(rows.multiplier.shift[k]))
    else:
        multiplier = rows.real(k)
    clamped = rows.dtype in CLAMPED
    low, high = rows.clamp(k)
    info = np.iinfo(rows.dtype if clamped else np.int16)
    return side(
        candidate.scheme, multiplier, scales=scales, recipe=candidate.recipe,
        zero_point=int(np.clip(rows.zero_point[k], info.min, info.max)), dtype=info.dtype,
        qmin=max(low, int(info.min)), qmax=min(high, int(info.max)),
    )  # fmt: skip


def _parameters(rows: Rows, k: int) -> dict[str, float]:
    found: dict[str, float] = {}
    if rows.scales is not None:
        found |= {name: float(s[k]) for name, s in zip(("in_scale", "w_scale", "out_scale"), rows.scales, strict=True)}
    elif isinstance(rows.multiplier, QuantizedMultiplier):
        found |= {"multiplier": int(rows.multiplier.value[k]), "shift": int(rows.multiplier.shift[k])}
    else:
        found["multiplier"] = rows.real(k)
    return {**found, "zero_point": int(rows.zero_point[k])}
