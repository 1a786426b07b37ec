"""Identify: rank every candidate on recorded rows, and try the usual mistakes in the columns where none fits."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .candidates import Candidate, candidates, multipliers, outputs
from .ranking import COVERS, Ranked, at_end, rank
from .result import Correction, Identification, Kind
from .rows import Rows, make_rows
from .verdict import SIGNIFICANT, Judgement, judge, rows_text


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
    ranked = rank(rows, found, backend)
    judged = judge(rows, ranked, backend)
    if judged.kind not in ("none", "unlisted", "noise"):
        return _result(ranked, judged, None, None, rows)
    corrected = _corrected(rows, found, ranked, backend)
    if corrected is not None:
        correction, again, answer = corrected
        inner = _result(again, answer, None, None, rows)
        kind: Kind = "sign" if correction.kind == "sign" else "offset"
        verdict = f"Nothing accounts for the rows as they are. {_capital(correction.text)}: {answer.verdict}"
        return _result(ranked, Judgement(kind, verdict, None), correction, inner, rows)
    return _result(ranked, _below_one(rows, found, ranked, judged, backend), None, None, rows)


def _below_one(rows: Rows, found: list[Candidate], ranked: Ranked, judged: Judgement, backend: str | None) -> Judgement:
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
    again = rank(part, found, backend)
    best, first = again.ranking[0], ranked.ranking[0]
    share = first.mismatches / max(1, first.matches + first.mismatches)
    # Of as many rows that noise flips some would have to be here.
    few = share * best.matches < SIGNIFICANT**2
    if few or not again.informative or best.mismatches or best.matches < COVERS * again.total:
        return judged
    return Judgement(
        "unlisted",
        f"No scheme accounts for all rows. {best.name} gives all {rows_text(best.matches)} with a multiplier below 1 "
        "that tell anything; multipliers of 1 and above are treated otherwise.",
        None,
    )


def _result(
    ranked: Ranked, judged: Judgement, correction: Correction | None, corrected: Identification | None, rows: Rows
) -> Identification:  # fmt: skip
    return Identification(
        ranked.ranking, rows.size, ranked.clamped, ranked.informative, ranked.groups, judged.kind, judged.verdict,
        judged.flipped, correction, corrected, rows.dtype.name, rows.name, rows,
    )  # fmt: skip


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _corrected(
    rows: Rows, found: list[Candidate], ranked: Ranked, backend: str | None
) -> tuple[Correction, Ranked, Judgement] | None:  # fmt: skip
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
        again = rank(other, found, backend)
        judged = judge(other, again, backend)
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
    _, part = next(rows.blocks())
    most, offset = 0, 0
    for candidate in order[:: max(1, len(order) // 16)]:
        made, fits = multipliers(part, candidate.recipe)
        one = outputs(candidate, part, made, fits, backend)[0]
        kept = one.defined
        if inner:
            kept = kept & ~at_end(part, one.codes) & ~at_end(part, part.output.astype(np.int32))
        if not kept.any():
            continue
        values, counts = np.unique(part.output[kept] - one.codes[kept], return_counts=True)
        k = int(counts.argmax())
        if int(counts[k]) > most:
            most, offset = int(counts[k]), int(values[k])
    return offset
