"""Every candidate evaluated on every row, and the ranking of what that gives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError
from ..requant import spec
from ..requant.multiplier import QuantizedMultiplier
from .candidates import OVERFLOWS, Candidate, Flags, multipliers, outputs
from .result import Counterexample, Match
from .rows import Rows

#: A candidate without a mismatch goes before all with one if it is defined on this share of the rows.
COVERS = 0.5
#: Weight of a row that a reading of overflows gets wrong against one that it gets right.
_WRONG = 20
_DIGEST = 16


@dataclass(frozen=True, slots=True, eq=False)
class _Tally:
    """Counts of each candidate in each reading of overflows."""

    found: list[Candidate]
    matches: npt.NDArray[np.int64]  # (candidates, readings)
    mismatches: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]  # first mismatch, -1 for none
    given: npt.NDArray[np.int64]  # what the candidate gives there
    digests: list[list[bytes]]  # of everything that the candidate gives
    clamped: int
    informative: int


def _tally(rows: Rows, found: list[Candidate], backend: str | None) -> _Tally:
    count = len(found)
    shape = (count, len(OVERFLOWS))
    matches, mismatches = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    first, given = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    hashes = [[hashlib.blake2b(digest_size=_DIGEST) for _ in OVERFLOWS] for _ in found]
    clamped = informative = 0
    for start, part in rows.blocks():
        recorded = part.output.astype(np.int32)
        made = {recipe: multipliers(part, recipe) for recipe in dict.fromkeys(c.recipe for c in found)}
        lowest = np.full(part.size, np.iinfo(np.int32).max, np.int32)
        highest = np.full(part.size, np.iinfo(np.int32).min, np.int32)
        right = np.zeros((*shape, part.size), np.bool_)
        wrong = np.zeros((*shape, part.size), np.bool_)
        for k, candidate in enumerate(found):
            for v, one in enumerate(outputs(candidate, part, *made[candidate.recipe], backend)):
                np.minimum(lowest, one.codes, out=lowest, where=one.defined)
                np.maximum(highest, one.codes, out=highest, where=one.defined)
                equal = one.codes == recorded
                np.logical_and(equal, one.defined, out=right[k, v])
                np.logical_and(~equal, one.defined, out=wrong[k, v])
                if first[k, v] < 0 and wrong[k, v].any():
                    at = int(wrong[k, v].argmax())
                    first[k, v], given[k, v] = start + at, one.codes[at]
                hashes[k][v].update(one.codes.tobytes())
                hashes[k][v].update(one.defined.tobytes())
        agreed = lowest >= highest  # also where no candidate, or one, is defined
        settled = at_end(part, lowest) & agreed & (lowest == recorded)
        clamped += int(settled.sum())
        informative += int(part.size - agreed.sum())
        counted = ~settled
        matches += np.count_nonzero(right & counted, axis=2)
        mismatches += np.count_nonzero(wrong, axis=2)
    return _Tally(
        found, matches, mismatches, first, given, [[h.digest() for h in three] for three in hashes], clamped,
        informative,
    )  # fmt: skip


def at_end(rows: Rows, codes: npt.NDArray[np.int32]) -> Flags:
    """Tell which codes are an end of the clamp; raw results have none."""
    if rows.dtype == np.int32 and rows.qmin is None and rows.qmax is None:
        return np.zeros(rows.size, np.bool_)
    low, high = rows.limits
    ends = (low if rows.qmin is None else rows.qmin, high if rows.qmax is None else rows.qmax)
    return np.asarray((codes == ends[0]) | (codes == ends[1]))


def _reading(tally: _Tally, k: int) -> int:
    """Return the reading of overflows that accounts for most rows; rows that it gets wrong must be few.

    Where only overflowing rows are wrong, neither reading is what ran: those rows are left out.
    """
    matches, mismatches = tally.matches[k], tally.mismatches[k]
    chosen = int((matches - _WRONG * mismatches).argmax())
    return 2 if mismatches[chosen] and not mismatches[2] and matches[2] else chosen


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """A ranking and the candidates behind it, in the same order."""

    ranking: tuple[Match, ...]
    order: list[Candidate]
    digests: list[bytes]
    clamped: int
    informative: int
    total: int

    @property
    def groups(self) -> tuple[tuple[Match, ...], ...]:
        """Candidates that give the same on every row, together."""
        found: dict[bytes, list[Match]] = {}
        for match, digest in zip(self.ranking, self.digests, strict=True):
            found.setdefault(digest, []).append(match)
        return tuple(tuple(group) for group in found.values() if len(group) > 1)


def rank(rows: Rows, found: list[Candidate], backend: str | None) -> Ranked:
    """Evaluate the candidates on all rows and put the likeliest first."""
    tally = _tally(rows, found, backend)
    total = rows.size - tally.clamped
    entries = []
    for k, candidate in enumerate(tally.found):
        v = _reading(tally, k)
        matches, mismatches = int(tally.matches[k, v]), int(tally.mismatches[k, v])
        clean = not mismatches and matches >= COVERS * total
        entries.append(((not clean, -matches, mismatches, k), k, v, matches, mismatches, candidate))
    entries.sort(key=lambda entry: entry[0])
    ranking, order, digests = [], [], []
    for _, k, v, matches, mismatches, candidate in entries:
        at = int(tally.first[k, v])
        example = None if at < 0 else _counterexample(rows, candidate, at, int(tally.given[k, v]))
        outside = total - matches - mismatches
        ranking.append(
            Match(candidate.scheme.name, candidate.recipe, OVERFLOWS[v], matches, mismatches, outside, example)
        )
        order.append(candidate)
        digests.append(tally.digests[k][v])
    return Ranked(tuple(ranking), order, digests, tally.clamped, tally.informative, total)


def _counterexample(rows: Rows, candidate: Candidate, k: int, given: int) -> Counterexample:
    """Explain one row that a candidate does not give, by the stages of the executable specification."""
    one = rows.part(slice(k, k + 1))
    made, _ = multipliers(one, candidate.recipe)
    multiplier: QuantizedMultiplier | float
    if isinstance(made, QuantizedMultiplier):
        multiplier = QuantizedMultiplier(int(made.value[0]), int(made.shift[0]))
        real = float(multiplier.real)
    else:
        multiplier = real = float(made[0])
    acc, zero_point, recorded = int(rows.acc[k]), int(rows.zero_point[k]), int(rows.output[k])
    scheme, place = candidate.scheme, rows.place(k)
    raw = rows.dtype == np.int32 and rows.qmin is None and rows.qmax is None
    limits = (None, None) if raw else rows.clamp(k)
    try:
        trace = spec.trace(scheme, acc, multiplier, zero_point, *limits)
    except DomainError:
        trace = None
    if trace is None or trace.clamped != given:
        text = (
            f"{place}: acc {acc} * {real!r} lies beyond what {scheme.name} is specified for; its original "
            f"({scheme.overflow}) gives {given}; recorded was {recorded}."
        )
        return Counterexample(k, place, acc, zero_point, real, None, given, recorded, text)
    steps = f"{trace.result}"
    if zero_point:
        steps += f", with the zero point {trace.with_zero_point}"
    if trace.clamped != trace.with_zero_point:
        steps += f", clamped {trace.clamped}"
    first = "" if trace.high_mul is None or trace.high_mul == trace.result else f" over {trace.high_mul}"
    text = (
        f"{place}: acc {acc} * {real!r} is {float(trace.exact):.12g}; {scheme.name} (rounded {scheme.rounding}) goes"
        f"{first} to {steps}; recorded was {recorded}."
    )
    return Counterexample(k, place, acc, zero_point, real, float(trace.exact), given, recorded, text)
