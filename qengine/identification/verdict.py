"""What a ranking means: one arithmetic, several, none that is listed, or noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..requant.multiplier import QuantizedMultiplier
from ..requant.schemes import get_scheme
from .candidates import OVERFLOWS, Candidate, Flags, multipliers, outputs
from .ranking import COVERS, Ranked, at_end
from .result import Kind, Match
from .rows import Rows

#: A difference of counts means something from this many standard deviations on.
SIGNIFICANT = 4.0
#: Rows whose exact product lies within this of a half-integer are near a rounding boundary.
NEAR_TIE = 1 / 16


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a ranking means: the kind of verdict, its sentence, and the share of flipped outputs where it is noise."""

    kind: Kind
    verdict: str
    flipped: float | None


def rows_text(count: int) -> str:
    """Write a number of rows."""
    return f"{count:,} row{'s' * (count != 1)}"


def _runtimes(match: Match) -> str:
    runs_in = get_scheme(match.scheme).runs_in
    return f" It runs in: {'; '.join(runs_in)}." if runs_in else ""


def judge(rows: Rows, ranked: Ranked, backend: str | None) -> Judgement:
    """Say what a ranking means, the rows being what they are called."""
    best, total = ranked.ranking[0], ranked.total
    if not total:
        return Judgement(
            "clamped",
            f"Nothing can be told: on all {rows_text(rows.size)} every candidate gives the recorded end of the clamp. "
            "Record rows with smaller accumulators.",
            None,
        )
    if not best.matches:
        return Judgement("none", "No scheme gives a single row.", None)
    if not best.mismatches and best.matches >= COVERS * total:
        return _clean(ranked)
    return _noisy(rows, ranked, backend)


def _clean(ranked: Ranked) -> Judgement:
    best, total = ranked.ranking[0], ranked.total
    equal = [
        (m, c) for m, c in zip(ranked.ranking, ranked.order, strict=True)
        if not m.mismatches and m.matches == best.matches
    ]  # fmt: skip
    if not ranked.informative:
        return Judgement(
            "ambiguous",
            f"All candidates give every one of the {rows_text(total)}: these rows cannot tell them apart.", None,
        )  # fmt: skip
    why = "that may overflow int32 follow neither its contract nor its original's wrapping and"
    why = why if best.overflow == "outside" else "outside what it is specified for"
    beyond = f"; {rows_text(best.outside)} {why} were not judged" if best.outside else ""
    text = f"{best.name} gives all {rows_text(best.matches)} that tell anything{beyond}."
    distinct = {c.arithmetic: m for m, c in reversed(equal)}  # of those equal by construction the first remains
    others = [m.name for m, c in equal if distinct[c.arithmetic] is m][1:]
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        text += f" These rows do not tell it from {', '.join(others[:5])}{more}."
    kind: Kind = "ambiguous" if others else "partial" if best.outside else "exact"
    return Judgement(kind, text + _runtimes(best), None)


def _correct(rows: Rows, candidate: Candidate, overflow: str, backend: str | None) -> Flags:
    """Return the rows that a candidate gives in one reading of overflows."""
    reading = OVERFLOWS.index(overflow)
    flags = np.zeros(rows.size, np.bool_)
    for start, part in rows.blocks():
        one = outputs(candidate, part, *multipliers(part, candidate.recipe), backend)[reading]
        flags[start : start + part.size] = one.defined & (one.codes == part.output)
    return flags


def _rivals(rows: Rows, ranked: Ranked, backend: str | None) -> list[Match]:
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


def _noisy(rows: Rows, ranked: Ranked, backend: str | None) -> Judgement:
    best = ranked.ranking[0]
    share = best.mismatches / (best.matches + best.mismatches)
    closest = f"Closest is {best.name}: {rows_text(best.matches)} given, {best.mismatches:,} not ({100 * share:.3g} %)"
    if share > 0.5:
        return Judgement("none", f"No scheme accounts for the rows. {closest}.", None)
    far, expected, spread = _far_mismatches(rows, ranked.order[0], best, backend)
    if expected >= 1 and far < expected - SIGNIFICANT * max(1.0, spread):
        return Judgement(
            "unlisted",
            f"No scheme accounts for all rows. {closest}, and its mismatches lie near rounding boundaries: not noise, "
            "rather an arithmetic that is not on the list, or another order of operations.",
            None,
        )
    rivals = _rivals(rows, ranked, backend)
    if rivals:
        names = ", ".join(m.name for m in rivals[:5]) + (f" and {len(rivals) - 5} more" if len(rivals) > 5 else "")
        return Judgement(
            "none",
            f"No scheme accounts for all rows. {closest}, but {names} are as close: the rows do not decide.",
            None,
        )
    if not far:
        return Judgement(
            "unlisted",
            f"No scheme accounts for all rows. {closest}, and all its mismatches lie near rounding boundaries.", None,
        )  # fmt: skip
    margin = 1.96 * math.sqrt(share * (1 - share) / (best.matches + best.mismatches))
    return Judgement(
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
    for _, part in rows.blocks():
        made, fits = multipliers(part, candidate.recipe)
        one = outputs(candidate, part, made, fits, backend)[OVERFLOWS.index(match.overflow)]
        real = np.asarray(made.real) if isinstance(made, QuantizedMultiplier) else made
        with np.errstate(all="ignore"):
            product = part.acc * real
            distance = np.abs(product - np.floor(product) - 0.5)
        inside = one.defined & ~(at_end(part, one.codes) & (one.codes == part.output))
        away = inside & (distance > NEAR_TIE)
        far += int(np.count_nonzero(away & (one.codes != part.output)))
        far_rows += int(np.count_nonzero(away))
        counted += int(np.count_nonzero(inside))
    rate = far_rows / max(1, counted)
    return far, match.mismatches * rate, math.sqrt(match.mismatches * rate * (1 - rate))
