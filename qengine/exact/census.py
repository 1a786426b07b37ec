"""The census: on how many pairs (multiplier, accumulator) two schemes disagree, over all mantissas; nothing is sampled.

A multiplier is ``value * 2**(shift - 31)`` with a mantissa of ``[2**30, 2**31 - 1]``: there are 2**30 a shift. Three
ways, all exact, chosen shift by shift:

* ``closed``, a clamped output, two schemes that multiply by the Q0.31 mantissa itself: the least accumulator of each
  code is a floor of a constant by the mantissa, so its sum over all mantissas is a divisor sum;
* ``closed``, a raw output: the roles change, and floor sums along the mantissas serve one accumulator at a time;
* ``tiles``, any two schemes: every mantissa is counted, by thresholds where the output is clamped, else by floor sums.
  A tile is a pure function of its range. Back end ``cuda`` has the thresholds.

Source: for divisor sums, `qengine.kernels.cpu.census`. That the thresholds settle the count is the identity
``sum |A - B| = sum over codes of |T_A - T_B|`` of monotone functions.
"""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.cpu import census as kernels

from .. import backends
from .._version import __version__
from ..backends.cpu import thread_count
from ..exceptions import DomainError, DTypeError, UnknownNameError
from ..requant.schemes import Scheme, get_scheme
from ..work.checkpoint import Checkpoint
from ..work.run import Tile, cut, run
from .census_question import Question
from .census_result import CensusResult, Tally
from .divisor_sums import divisor_sums
from .sides import as_range

#: All normalized mantissas, closed.
MANTISSAS = (1 << 30, (1 << 31) - 1)
#: The shifts of multipliers below 1, and 1/2 to 1 itself: TFLite's sign, positive is left.
SHIFTS = range(0, -31, -1)
METHODS = ("auto", "closed", "tiles")
#: Accumulators a tile of a closed raw census; divisor sums a tile.
ACCUMULATORS, SUMS = 1 << 13, 32
#: Tiles between two entries of a checkpoint: a second or so, against a millisecond that an entry takes.
RECORDED = 1 << 10

Progress = Callable[[int, int], None] | None


def census(
    a: str | Scheme,
    b: str | Scheme,
    *,
    shift: int | None = None,
    shifts: Iterable[int] | None = None,
    multipliers: tuple[int, int] = MANTISSAS,
    acc_range: tuple[int, int] | None = None,
    dtype: npt.DTypeLike | None = "int8",
    zero_point: int = 0,
    qmin: int | None = None,
    qmax: int | None = None,
    method: str = "auto",
    backend: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress = None,
) -> CensusResult:
    """Count the pairs (multiplier, accumulator) on which two schemes differ: exact, over all of them.

    ``#{(m, x) : A_m(x) != B_m(x)}`` over the multipliers ``m 2**(shift - 31)``.

    Parameters
    ----------
    a, b : str or Scheme
        Names, aliases or rows.
    shift : int, optional
        One TFLite shift (positive is left); or
    shifts : iterable of int, optional
        several, none twice. Default: 0 to -30, every multiplier in ``[2**-31, 1)``.
    multipliers : (first, last)
        Closed range of Q0.31 mantissas within ``[2**30, 2**31 - 1]``; all by default.
    acc_range : (lowest, highest), optional
        Closed range of accumulators within int32; all of int32 by default.
    dtype : {None, int8, uint8, int16, int32}
        Output type to clamp to; None and int32 compare raw results.
    zero_point, qmin, qmax : int, optional
        As in `qengine.requantize`.
    method : {"auto", "closed", "tiles"}
        Who counts, see the module; the totals do not depend on it. "auto" takes the faster one; where there are at
        most 2**18 multipliers it prefers tiles, which also tell how many multipliers diverge and which most.
    backend : str, optional
        Where it counts: ``cpu``, which has both methods; ``cuda`` or ``reference``, by tiles and clamped outputs alone.
    checkpoint : path, optional
        A folder where finished parts are recorded, each on the disk before the next: a killed run loses seconds.
    resume : bool
        Take over what `checkpoint` holds of the same question, also of other shifts.
    progress : callable, optional
        Called as ``progress(done, total)``, in pairs.

    Returns
    -------
    CensusResult
        ``.total``, ``.signed``, ``.rate``, ``.divergent_multipliers``, ``.by_shift``, ``.complete``, ``.to_dict()``;
        ``str()`` draws the table.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError
        As `qengine.requantize`; mantissas, shifts or ranges outside their bounds; a method that does not apply (the
        text says why); `resume` without `checkpoint`.
    InputFileError
        A folder that cannot hold a checkpoint, or that has one which is not to be resumed.

    Notes
    -----
    Interrupted (Ctrl-C), the result holds what is done: by tiles the first so many mantissas of a shift, in closed
    form the shifts that are finished; ``.complete`` is False then. Of a checkpoint, lines of other questions and torn
    ones are not used; ``.notes`` says so. Parts are as long as the tiles of the back end: those of another one are
    counted again.

    Examples
    --------
    2**30 multipliers times 2**32 accumulators; of the 256 codes one more is negative, hence the sum:

    >>> import qengine as qe
    >>> r = qe.census("single", "double", shift=-4)
    >>> r.total, r.signed, round(r.by_shift[-4].mean, 6)
    (190017723866, -744392556, 176.967796)

    Float32 differs at its ties, which need mantissas with trailing zeros:

    >>> few = (2**30, 2**30 + 999)
    >>> r = qe.census("single", "fp32", shift=-9, multipliers=few)
    >>> r.total, r.divergent_multipliers, r.most
    (8320, 65, (128, 1073741824, -9))
    >>> one = (2**30, 2**30)                                            # 1/4: ties at 2 mod 4, -2 goes to 0 or -1
    >>> qe.census("single", "half-away", shift=-1, multipliers=one, acc_range=(-2, 2), dtype=None).signed
    -1
    """
    begun = time.perf_counter()
    asked, chosen = _question(
        a, b, shift, shifts, multipliers, acc_range, dtype, zero_point, qmin, qmax, backends.choose(backend)
    )
    if method not in METHODS:
        raise UnknownNameError.of("method", method, METHODS)
    methods = {one: asked.method(one, method) for one in chosen}
    if resume and checkpoint is None:
        raise DomainError("resume needs a checkpoint: the folder of the run that is to go on.")
    kept = None if checkpoint is None else Checkpoint(checkpoint, _run_of(asked, chosen[0]), resume=resume)
    by_shift: dict[int, Tally] = {}
    whole = asked.multipliers * (asked.high - asked.low + 1)
    complete = True
    for place, one in enumerate(chosen):

        def advance(share: float, place: int = place) -> None:
            if progress is not None:
                progress(place * whole + int(share * whole), len(chosen) * whole)

        try:
            tally, complete = (_tiles if methods[one] == "tiles" else _closed)(asked, one, advance, kept)
        except KeyboardInterrupt:  # between tiles: what this shift has counted so far is dropped
            tally, complete = Tally(), False
        if tally.multipliers:
            by_shift[one] = tally
        if not complete:
            break
    return CensusResult(
        (asked.schemes[0].name, asked.schemes[1].name), chosen, asked, by_shift,
        {one: methods[one] for one in by_shift}, complete, time.perf_counter() - begun,
        (kept.dropped(),) if kept is not None and kept.dropped() else (),
    )  # fmt: skip


def _integer(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise DTypeError(f"{name} must be an integer; got {value!r}.")
    try:
        return operator.index(value)
    except TypeError:
        raise DTypeError(f"{name} must be an integer; got {value!r}.") from None


def _question(
    a: str | Scheme, b: str | Scheme, shift: Any, shifts: Any, multipliers: Any, acc_range: Any,
    dtype: npt.DTypeLike | None, zero_point: Any, qmin: int | None, qmax: int | None,
    backend: str,
) -> tuple[Question, tuple[int, ...]]:  # fmt: skip
    """Check what was asked; every shift is bound once, so that a bad one is named before the work begins."""
    rows = get_scheme(a), get_scheme(b)
    if rows[0].name == rows[1].name:
        raise DomainError(f"the schemes must differ; got {rows[0].name} twice (aliases count as the same).")
    if shift is not None and shifts is not None:
        raise DomainError("give shift or shifts, not both.")
    if shift is not None:
        shifts = (_integer("shift", shift),)
    elif shifts is not None and (isinstance(shifts, (str, Mapping)) or not isinstance(shifts, Iterable)):
        raise DTypeError(f"shifts must be several integers; got {shifts!r}.")
    least, most = max(row.shift_range[0] for row in rows), min(row.shift_range[1] for row in rows)
    chosen: list[int] = []
    for given in SHIFTS if shifts is None else shifts:
        one = _integer("shift", given)
        if not least <= one <= most:
            raise DomainError(
                f"shift must be in [{least}, {most}] for schemes {rows[0].name!r} and {rows[1].name!r}; got {one}."
            )
        if one in chosen:
            raise DomainError(f"no shift may be given twice; got {one} again.")
        chosen.append(one)
    if not chosen:
        raise DomainError("give at least one shift; got none.")
    if not isinstance(multipliers, (tuple, list)) or len(multipliers) != 2:
        raise DomainError(f"multipliers must be (first mantissa, last mantissa); got {multipliers!r}.")
    first, last = (_integer("a mantissa", one) for one in multipliers)
    if not MANTISSAS[0] <= first <= last <= MANTISSAS[1]:
        raise DomainError(
            f"multipliers must be an ascending range of mantissas within [{MANTISSAS[0]}, {MANTISSAS[1]}]; "
            f"got [{first}, {last}]."
        )
    low, high = (int(bound[0]) for bound in as_range(acc_range, 1))
    output = {"dtype": dtype, "zero_point": _integer("zero_point", zero_point), "qmin": qmin, "qmax": qmax}
    asked = Question(rows, first, last, low, high, output, backend)
    for one in chosen:
        asked.ends(one)
    return asked, tuple(chosen)


def _run_of(asked: Question, shift: int) -> dict[str, Any]:
    """Return what decides the counts of every part, as plain data."""
    clamp = asked.ends(shift)[0]
    e = clamp.epilogue
    return {
        "census": __version__, "schemes": [row.name for row in asked.schemes], "mantissas": [asked.first, asked.last],
        "accumulators": [asked.low, asked.high],
        "output": [clamp.dtype.name, clamp.clamped, e.qmin, e.qmax, int(e.zero_point[0])],
    }  # fmt: skip


def _recorded(
    kept: Checkpoint | None, key: str, count: Callable[[], tuple[tuple[Any, ...], bool]]
) -> tuple[tuple[Any, ...], bool]:
    """Return the numbers of a part and whether it is finished: those recorded, or counted now and recorded."""
    if kept is not None and (known := kept.get(key)) is not None:
        return tuple(known), True
    numbers, complete = count()
    if complete and kept is not None:
        kept.put(key, list(numbers))
    return numbers, complete


def _tiles(
    asked: Question, shift: int, advance: Callable[[float], None], kept: Checkpoint | None
) -> tuple[Tally, bool]:
    """Count a shift mantissa by mantissa; tiles start in order and those that started finish: the first ones."""
    total, size = Tally(), asked.tile_size(shift)
    for part in cut(asked.multipliers, asked.multipliers if kept is None else RECORDED * size):

        def count(part: Tile = part) -> tuple[tuple[Any, ...], bool]:
            found = Tally()

            def merge(tile: Tile, one: Tally) -> None:
                nonlocal found
                found = found.merge(one)
                advance((part.start + found.multipliers) / asked.multipliers)

            complete = run(
                cut(part.stop, size, part.start), lambda start, stop: asked.tile(shift, start, stop), merge,
                workers=thread_count() if asked.backend == "cpu" else 1,
            )  # fmt: skip
            return astuple(found), complete

        key = f"shift {shift}, mantissas {part.start} to {part.stop - 1} from the first"
        numbers, complete = _recorded(kept, key, count)
        total = total.merge(Tally(*numbers))
        if not complete:
            return total, False
        advance(total.multipliers / asked.multipliers)
    return total, True


def _closed(
    asked: Question, shift: int, advance: Callable[[float], None], kept: Checkpoint | None
) -> tuple[Tally, bool]:
    """Count a shift in closed form; nothing, if it was not finished."""
    sides = asked.ends(shift)
    low, high = (int(bound[0]) for bound in asked.domain(sides))
    if low > high:
        return Tally(asked.multipliers), True
    divergent = signed = 0
    size = high - low + 1
    # The sums over codes are one part, the accumulators of a raw output many.
    step = size if sides[0].clamped or kept is None else RECORDED * ACCUMULATORS
    for part in cut(size, step):

        def count(part: Tile = part) -> tuple[tuple[Any, ...], bool]:
            if sides[0].clamped:
                return _over_codes(asked, shift, low, high, advance)
            return _over_accumulators(asked, shift, part, lambda done: advance(done / size))

        key = f"shift {shift}, closed, accumulators {low + part.start} to {low + part.stop - 1}"
        numbers, complete = _recorded(kept, key, count)
        if not complete:
            return Tally(), False
        divergent, signed = divergent + numbers[0], signed + numbers[1]
    return Tally(asked.multipliers, asked.multipliers * size, divergent, signed), True


def _over_accumulators(
    asked: Question, shift: int, part: Tile, advance: Callable[[int], None]
) -> tuple[tuple[int, int], bool]:
    """Count a raw output accumulator by accumulator: ((divergent, sum of differences), whether all were done)."""
    divergent = signed = 0
    done = part.start

    def add(tile: Tile, one: tuple[int, int]) -> None:
        nonlocal divergent, signed, done
        divergent, signed, done = divergent + one[0], signed + one[1], done + len(tile)
        advance(done)

    complete = run(
        cut(part.stop, ACCUMULATORS, part.start), lambda start, stop: asked.accumulators(shift, start, stop), add,
        workers=thread_count(),
    )  # fmt: skip
    return (divergent, signed), complete


def _over_codes(
    asked: Question, shift: int, low: int, high: int, advance: Callable[[float], None]
) -> tuple[tuple[int, int], bool]:
    """Count a clamped output by divisor sums: ((divergent, sum of differences), whether all were done)."""
    sides = asked.ends(shift)
    numbers = []
    for one in sides:
        form, e = one.form, one.epilogue
        fields = (form.bp, form.bn, form.t, e.low, e.high, e.zero_point)
        numbers.append(tuple(int(values[0]) for values in fields))
    clamp = sides[0].epilogue
    sums = divisor_sums(numbers[0], numbers[1], clamp.qmin, clamp.qmax, low, high, asked.last)  # type: ignore[arg-type]
    divergent = signed = done = 0

    def evaluate(start: int, stop: int) -> list[int]:
        out = np.empty(stop - start, np.int64)
        w, bottom, top = (column[start:stop] for column in (sums.w, sums.low, sums.high))
        kernels.clipped_sums(w, bottom, top, asked.first, asked.last, kernels.DEPTH, kernels.CHEAPEST, out)
        values: list[int] = out.tolist()
        return values

    def add(tile: Tile, values: list[int]) -> None:
        nonlocal divergent, signed, done
        divergent += sum(map(operator.mul, sums.count[tile.start : tile.stop], values))
        signed += sum(map(operator.mul, sums.signed[tile.start : tile.stop], values))
        done += len(tile)
        advance(done / sums.w.size)

    complete = run(cut(sums.w.size, SUMS), evaluate, add, workers=thread_count())
    return (divergent, signed), complete
