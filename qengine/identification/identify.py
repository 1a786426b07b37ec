"""Identify: evaluate every candidate on recorded rows, rank them, and say what the ranking means."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..exceptions import DomainError
from ..requant import spec
from ..requant.multiplier import QuantizedMultiplier
from ..requant.schemes import get_scheme
from .candidates import OVERFLOWS, Candidate, Flags, candidates, multipliers, outputs
from .result import Correction, Counterexample, Identification, Kind, Match
from .rows import Rows, make_rows

#: Rows evaluated at once: bounds the memory of all candidates' outputs.
BLOCK = 1 << 15
#: A difference of counts means something from this many standard deviations on.
SIGNIFICANT = 4.0
#: Rows whose exact product lies within this of a half-integer are near a rounding boundary.
NEAR_TIE = 1 / 16
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
    for start in range(0, rows.size, BLOCK):
        part = rows.part(slice(start, start + BLOCK)) if rows.size > BLOCK else rows
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
        at_end = _at_end(part, lowest) & agreed & (lowest == recorded)
        clamped += int(at_end.sum())
        informative += int(part.size - agreed.sum())
        counted = ~at_end
        matches += np.count_nonzero(right & counted, axis=2)
        mismatches += np.count_nonzero(wrong, axis=2)
    return _Tally(
        found, matches, mismatches, first, given, [[h.digest() for h in three] for three in hashes], clamped,
        informative,
    )  # fmt: skip


def _at_end(rows: Rows, codes: npt.NDArray[np.int32]) -> Flags:
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
class _Ranked:
    """A ranking and the candidates behind it, in the same order."""

    ranking: tuple[Match, ...]
    order: list[Candidate]
    digests: list[bytes]
    clamped: int
    informative: int
    total: int


def _rank(rows: Rows, tally: _Tally) -> _Ranked:
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
    return _Ranked(tuple(ranking), order, digests, tally.clamped, tally.informative, total)


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


def _groups(ranked: _Ranked) -> tuple[tuple[Match, ...], ...]:
    groups: dict[bytes, list[Match]] = {}
    for match, digest in zip(ranked.ranking, ranked.digests, strict=True):
        groups.setdefault(digest, []).append(match)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def identify(
    acc: Any,
    output: Any,
    *,
    multiplier: Any = None,
    scales: Any = None,
    zero_point: Any = 0,
    dtype: npt.DTypeLike | None = "int8",
    qmin: Any = None,
    qmax: Any = None,
    schemes: Any = None,
    recipes: Any = None,
    backend: str | None = None,
) -> Identification:
    """Tell from recorded rows which scheme, with which recipe, produced them.

    Each row says ``output = clamp(round_scheme(acc * M) + zero_point, qmin, qmax)`` for an unknown scheme; every
    scheme of `qengine.schemes` is evaluated on every row and the equal outputs are counted.

    Parameters
    ----------
    acc : integer array
        Accumulators, bias added; 48 bits at most. All columns broadcast against each other.
    output : integer array
        What was recorded.
    multiplier : QuantizedMultiplier, float or array
        The multiplier of each row, or
    scales : (input_scale, weight_scale, output_scale)
        the stored float32 scales, from which each of the `recipes` makes one.
    zero_point : int or integer array
        Output zero point, added; within the closed range of `dtype`.
    dtype : {int8, uint8, int16, None}
        Output type; None is a raw int32 result.
    qmin, qmax : int or integer array, optional
        Narrower closed clamps.
    schemes, recipes : str or iterable of str, optional
        Candidates; default: all.
    backend : {"cpu", "reference"}, optional
        Who evaluates.

    Returns
    -------
    Identification
        ``.ranking``, best first, each with ``.scheme .recipe .matches .mismatches .counterexample``; ``.verdict``,
        ``.clamped``, ``.equivalent``, ``.separation``; ``str()`` is the table of the terminal.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError
        A bad value (names the row), wrong types or shapes, an unknown name.

    Notes
    -----
    Rows on which every candidate gives the same end of the clamp, as recorded, say nothing and are not counted.
    Where int32 arithmetic of an original wraps, both the scheme's contract and the wrapping are tried. A verdict of
    noise needs a best candidate that leads by four standard deviations and whose mismatches lie as often far from a
    rounding boundary as all rows do; if they lie near boundaries alone, an arithmetic that is not listed is likelier.

    Examples
    --------
    >>> import qengine as qe
    >>> quarter = qe.QuantizedMultiplier(1 << 30, -1)
    >>> r = qe.identify(acc=[2, -2, 1, -3, 6], output=[1, 0, 0, -1, 2], multiplier=quarter)  # ties 0.5, -0.5, 1.5
    >>> r.ranking[0].scheme, r.ranking[0].matches
    ('single', 5)
    >>> next(m for m in r.ranking if m.scheme == "half-away").counterexample.text
    'row 1: acc -2 * 0.25 is -0.5; half-away (rounded once, half away from zero) goes to -1; recorded was 0.'
    """
    rows = make_rows(acc, output, multiplier, scales, zero_point, dtype, qmin, qmax)
    return identify_rows(rows, schemes=schemes, recipes=recipes, backend=backend)


def identify_rows(
    rows: Rows, *, schemes: Any = None, recipes: Any = None, backend: str | None = None
) -> Identification:  # fmt: skip
    """Identify checked rows; see `identify`."""
    found = candidates(schemes, recipes, rows.scales is not None)
    ranked = _rank(rows, _tally(rows, found, backend))
    judged = _judge(rows, ranked, backend)
    if judged.kind not in ("none", "unlisted", "noise"):
        return _result(ranked, judged, None, None, rows)
    corrected = _corrected(rows, found, ranked, backend)
    if corrected is not None:
        correction, again, answer = corrected
        inner = _result(again, answer, None, None, rows)
        kind: Kind = "sign" if correction.kind == "sign" else "offset"
        verdict = f"Nothing accounts for the rows as they are. {_capital(correction.text)}: {answer.verdict}"
        return _result(ranked, _Judgement(kind, verdict, None), correction, inner, rows)
    return _result(ranked, _below_one(rows, found, ranked, judged, backend), None, None, rows)


def _below_one(
    rows: Rows, found: list[Candidate], ranked: _Ranked, judged: _Judgement, backend: str | None
) -> _Judgement:
    """Say whether one candidate gives all rows that shift right: kernels may treat left shifts otherwise."""
    if rows.scales is not None:
        i, w, o = (s.astype(np.float64) for s in rows.scales)
        real = i * w / o
    else:
        assert rows.multiplier is not None
        real = np.asarray(rows.multiplier.real)
    below = np.flatnonzero(real < 1)
    if not 0 < below.size < rows.size:
        return judged
    part = rows.part(below)
    again = _rank(part, _tally(part, found, backend))
    best, first = again.ranking[0], ranked.ranking[0]
    share = first.mismatches / max(1, first.matches + first.mismatches)
    # Of as many rows that noise flips some would have to be here.
    few = share * best.matches < SIGNIFICANT**2
    if few or not again.informative or best.mismatches or best.matches < COVERS * again.total:
        return judged
    return _Judgement(
        "unlisted",
        f"No scheme accounts for all rows. {best.name} gives all {_rows_text(best.matches)} with a multiplier below 1 "
        "that tell anything; multipliers of 1 and above are treated otherwise.",
        None,
    )


@dataclass(frozen=True, slots=True)
class _Judgement:
    kind: Kind
    verdict: str
    flipped: float | None


def _result(
    ranked: _Ranked, judged: _Judgement, correction: Correction | None, corrected: Identification | None, rows: Rows
) -> Identification:  # fmt: skip
    return Identification(
        ranked.ranking, rows.size, ranked.clamped, ranked.informative, _groups(ranked), judged.kind, judged.verdict,
        judged.flipped, correction, corrected, rows.dtype.name, rows.name, rows,
    )  # fmt: skip


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _rows_text(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _runtimes(match: Match) -> str:
    runs_in = get_scheme(match.scheme).runs_in
    return f" It runs in: {'; '.join(runs_in)}." if runs_in else ""


def _judge(rows: Rows, ranked: _Ranked, backend: str | None) -> _Judgement:
    """Say what a ranking means, the rows being what they are called."""
    best, total = ranked.ranking[0], ranked.total
    if not total:
        return _Judgement(
            "clamped",
            f"Nothing can be told: on all {_rows_text(rows.size)} every candidate gives the recorded end of the clamp. "
            "Record rows with smaller accumulators.",
            None,
        )
    if not best.matches:
        return _Judgement("none", "No scheme gives a single row.", None)
    if not best.mismatches and best.matches >= COVERS * total:
        return _clean(ranked)
    return _noisy(rows, ranked, backend)


def _clean(ranked: _Ranked) -> _Judgement:
    best, total = ranked.ranking[0], ranked.total
    equal = [
        (m, c) for m, c in zip(ranked.ranking, ranked.order, strict=True)
        if not m.mismatches and m.matches == best.matches
    ]  # fmt: skip
    if not ranked.informative:
        return _Judgement(
            "ambiguous",
            f"All candidates give every one of the {_rows_text(total)}: these rows cannot tell them apart.", None,
        )  # fmt: skip
    why = "that may overflow int32 follow neither its contract nor its original's wrapping and"
    why = why if best.overflow == "outside" else "outside what it is specified for"
    beyond = f"; {_rows_text(best.outside)} {why} were not judged" if best.outside else ""
    text = f"{best.name} gives all {_rows_text(best.matches)} that tell anything{beyond}."
    distinct = {c.arithmetic: m for m, c in reversed(equal)}  # of those equal by construction the first remains
    others = [m.name for m, c in equal if distinct[c.arithmetic] is m][1:]
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        text += f" These rows do not tell it from {', '.join(others[:5])}{more}."
    kind: Kind = "ambiguous" if others else "partial" if best.outside else "exact"
    return _Judgement(kind, text + _runtimes(best), None)


def _correct(rows: Rows, candidate: Candidate, overflow: str, backend: str | None) -> Flags:
    """Return the rows that a candidate gives in one reading of overflows."""
    reading = OVERFLOWS.index(overflow)
    flags = np.zeros(rows.size, np.bool_)
    for start in range(0, rows.size, BLOCK):
        part = rows.part(slice(start, start + BLOCK)) if rows.size > BLOCK else rows
        one = outputs(candidate, part, *multipliers(part, candidate.recipe), backend)[reading]
        flags[start : start + BLOCK] = one.defined & (one.codes == part.output)
    return flags


def _rivals(rows: Rows, ranked: _Ranked, backend: str | None) -> list[Match]:
    """Return the candidates that differ from the best and yet may be what ran, flips making the difference.

    Of the rows that one of two gives and the other does not, flips give half to each: a sign test. Only candidates
    within its bound for all mismatches of both are looked at row by row.
    """
    best = ranked.ranking[0]
    mine = _correct(rows, ranked.order[0], best.overflow, backend)
    found = []
    for match, candidate, digest in zip(ranked.ranking[1:], ranked.order[1:], ranked.digests[1:], strict=True):
        behind = match.mismatches - best.mismatches
        bound = SIGNIFICANT * math.sqrt(max(1, match.mismatches + best.mismatches))
        if digest == ranked.digests[0] or match.matches + match.mismatches < COVERS * ranked.total or behind >= bound:
            continue
        other = _correct(rows, candidate, match.overflow, backend)
        ahead, against = int(np.count_nonzero(mine & ~other)), int(np.count_nonzero(other & ~mine))
        if ahead - against < SIGNIFICANT * math.sqrt(max(1, ahead + against)):
            found.append(match)
    return found


def _noisy(rows: Rows, ranked: _Ranked, backend: str | None) -> _Judgement:
    best = ranked.ranking[0]
    share = best.mismatches / (best.matches + best.mismatches)
    closest = f"Closest is {best.name}: {_rows_text(best.matches)} given, {best.mismatches:,} not ({100 * share:.3g} %)"
    if share > 0.5:
        return _Judgement("none", f"No scheme accounts for the rows. {closest}.", None)
    far, expected, spread = _far_mismatches(rows, ranked.order[0], best, backend)
    if expected >= 1 and far < expected - SIGNIFICANT * max(1.0, spread):
        return _Judgement(
            "unlisted",
            f"No scheme accounts for all rows. {closest}, and its mismatches lie near rounding boundaries: not noise, "
            "rather an arithmetic that is not on the list, or another order of operations.",
            None,
        )
    rivals = _rivals(rows, ranked, backend)
    if rivals:
        names = ", ".join(m.name for m in rivals[:5]) + (f" and {len(rivals) - 5} more" if len(rivals) > 5 else "")
        return _Judgement(
            "none",
            f"No scheme accounts for all rows. {closest}, but {names} are as close: the rows do not decide.",
            None,
        )
    if not far:
        return _Judgement(
            "unlisted",
            f"No scheme accounts for all rows. {closest}, and all its mismatches lie near rounding boundaries.", None,
        )  # fmt: skip
    margin = 1.96 * math.sqrt(share * (1 - share) / (best.matches + best.mismatches))
    return _Judgement(
        "noise",
        f"{best.name} is far above all others and its mismatches are spread as noise is: about "
        f"{100 * share:.3g} % of the outputs are flipped (95 %: {100 * max(0.0, share - margin):.3g} to "
        f"{100 * (share + margin):.3g} %).{_runtimes(best)}",
        share,
    )


def _far_mismatches(rows: Rows, candidate: Candidate, match: Match, backend: str | None) -> tuple[int, float, float]:
    """Return mismatches far from a rounding boundary; how many noise would put there; the standard deviation of that.

    Noise flips a row without regard to where its exact product lies, so it keeps the share of far rows.
    """
    far = far_rows = counted = 0
    for start in range(0, rows.size, BLOCK):
        part = rows.part(slice(start, start + BLOCK)) if rows.size > BLOCK else rows
        made, fits = multipliers(part, candidate.recipe)
        one = outputs(candidate, part, made, fits, backend)[OVERFLOWS.index(match.overflow)]
        real = np.asarray(made.real) if isinstance(made, QuantizedMultiplier) else made
        with np.errstate(all="ignore"):
            product = part.acc * real
            distance = np.abs(product - np.floor(product) - 0.5)
        inside = one.defined & ~(_at_end(part, one.codes) & (one.codes == part.output))
        away = inside & (distance > NEAR_TIE)
        far += int(np.count_nonzero(away & (one.codes != part.output)))
        far_rows += int(np.count_nonzero(away))
        counted += int(np.count_nonzero(inside))
    rate = far_rows / max(1, counted)
    return far, match.mismatches * rate, math.sqrt(match.mismatches * rate * (1 - rate))


def _corrected(
    rows: Rows, found: list[Candidate], ranked: _Ranked, backend: str | None
) -> tuple[Correction, _Ranked, _Judgement] | None:  # fmt: skip
    """Return the correction of the columns that accounts for the rows, if it does so far better than none."""
    tried: list[tuple[Correction, Rows]] = []
    if rows.zero_point.any():
        tried.append((Correction("sign", 0), dataclasses.replace(rows, zero_point=-rows.zero_point)))
    for inner in (True, False):
        offset = _offset(rows, ranked.order, inner, backend)
        if not offset:
            continue
        if inner:
            tried.append(
                (Correction("zero-point", offset), dataclasses.replace(rows, zero_point=rows.zero_point + offset))
            )
        else:
            tried.append((Correction("output", offset), dataclasses.replace(rows, output=rows.output - offset)))
    answers = []
    for correction, other in tried:
        again = _rank(other, _tally(other, found, backend))
        judged = _judge(other, again, backend)
        # A clamped row is given too, whichever candidate: rows count, not those that tell anything.
        given = again.ranking[0].matches + again.clamped
        if judged.kind in ("exact", "partial", "ambiguous", "noise"):
            answers.append((given, correction, again, judged))
    if not answers:
        return None
    given, correction, again, judged = max(answers, key=lambda answer: answer[0])
    before = ranked.ranking[0].matches + ranked.clamped
    if given - before < SIGNIFICANT * math.sqrt(max(1, rows.size - given + rows.size - before)):
        return None
    return correction, again, judged


def _offset(rows: Rows, order: list[Candidate], inner: bool, backend: str | None) -> int:
    """Return the commonest ``recorded - expected``, over the first rows and the likeliest candidates.

    `inner`: only where neither is at an end of the clamp, as an offset of the zero point is seen there alone.
    """
    part = rows.part(slice(0, BLOCK))
    most, offset = 0, 0
    for candidate in order[:: max(1, len(order) // 16)]:
        made, fits = multipliers(part, candidate.recipe)
        one = outputs(candidate, part, made, fits, backend)[0]
        kept = one.defined
        if inner:
            kept = kept & ~_at_end(part, one.codes) & ~_at_end(part, part.output.astype(np.int32))
        if not kept.any():
            continue
        values, counts = np.unique(part.output[kept] - one.codes[kept], return_counts=True)
        k = int(counts.argmax())
        if int(counts[k]) > most:
            most, offset = int(counts[k]), int(values[k])
    return offset
