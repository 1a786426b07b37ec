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

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple
from typing import Any

import numpy.typing as npt

from .. import arguments, backends
from .._version import __version__
from ..arguments import Progress
from ..backends.cpu import thread_count
from ..exceptions import DomainError, DTypeError, brief
from ..requant.schemes import Scheme, get_scheme
from ..work.checkpoint import Checkpoint, open_checkpoint
from ..work.cluster import ClusterExecutor, connect
from ..work.ledger import Ledger
from ..work.run import Tile, run
from . import tasks
from .census_question import TILE, Question
from .census_result import CensusResult, Tally
from .sides import as_range
from .tasks import Sums

#: All normalized mantissas, closed.
MANTISSAS = (1 << 30, (1 << 31) - 1)
#: The shifts of multipliers below 1, and 1/2 to 1 itself: TFLite's sign, positive is left.
SHIFTS = range(0, -31, -1)
METHODS = ("auto", "closed", "tiles")
#: Accumulators a tile of a closed raw census; divisor sums a tile.
ACCUMULATORS, SUMS = 1 << 13, 32
#: Multipliers a tile of a cluster at most; of closed forms, tiles of this machine.
REMOTE_MULTIPLIERS, REMOTE = {"cpu": 1 << 20, "cuda": 1 << 28, "reference": 1 << 14}, 64


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
    cluster: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
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
        Who counts, see the module; the totals do not depend on it. "auto" takes the faster one; where there are few
        multipliers (2**18 of a clamped output, fewer than accumulators of a raw one) it prefers tiles, which also tell
        how many multipliers diverge and which most.
    backend : str, optional
        Where it counts: ``cpu``, which has both methods; ``cuda`` or ``reference``, by tiles and clamped outputs alone.
    cluster : str or distributed.Client, optional
        Count on the workers of a dask cluster, as in `qengine.sweep`.
    checkpoint : path, optional
        A folder where finished parts are recorded, on the disk about every second: a killed run loses no more.
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
    ClusterError, TileError
        As `qengine.sweep`.
    InputFileError
        A folder that cannot hold a checkpoint, or that has one which is not to be resumed.

    Notes
    -----
    Interrupted (Ctrl-C), the result holds what is done: by tiles the first so many mantissas of a shift, in closed
    form the shifts that are finished; ``.complete`` is False then. (With a checkpoint of a killed run, mantissas beyond
    the first ones may be among them.) Of a checkpoint, lines of other questions and torn ones are not used, and a full
    disk does not stop the run; ``.notes`` says so. With a checkpoint, SIGTERM in the main thread records what is
    finished before it ends the process.

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
    arguments.callback("progress", progress)
    arguments.chosen("method", method, METHODS)
    name = backends.choose(backend) if cluster is None else backends.named(backend) or "cpu"
    asked, chosen = _question(a, b, shift, shifts, multipliers, acc_range, dtype, zero_point, qmin, qmax, name)
    methods = {one: asked.method(one, method) for one in chosen}
    by_shift: dict[int, Tally] = {}
    whole = asked.multipliers * (asked.high - asked.low + 1)
    complete = True
    with contextlib.ExitStack() as stack:
        executor = None if cluster is None else stack.enter_context(connect(cluster, backend=name))
        kept = stack.enter_context(open_checkpoint(checkpoint, _run_of(asked, chosen[0]), resume))
        for place, one in enumerate(chosen):

            def advance(share: float, place: int = place) -> None:
                if progress is not None:
                    progress(place * whole + int(share * whole), len(chosen) * whole)

            try:
                way = _tiles if methods[one] == "tiles" else _closed
                tally, complete = way(asked, one, advance, kept, executor)
            except KeyboardInterrupt:  # between tiles: what this shift has counted so far is dropped
                tally, complete = Tally(), False
            if tally.multipliers:
                by_shift[one] = tally
            if not complete or (kept is not None and kept.terminated):
                break
    return CensusResult(
        (asked.schemes[0].name, asked.schemes[1].name), chosen, asked, by_shift,
        {one: methods[one] for one in by_shift}, complete, time.perf_counter() - begun,
        () if kept is None else kept.notes(),
    )  # fmt: skip


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
        shifts = (arguments.integer("shift", shift),)
    elif shifts is not None and (isinstance(shifts, (str, Mapping)) or not isinstance(shifts, Iterable)):
        raise DTypeError(f"shifts must be several integers; got {brief(shifts)}.")
    least, most = max(row.shift_range[0] for row in rows), min(row.shift_range[1] for row in rows)
    chosen: list[int] = []
    for given in SHIFTS if shifts is None else shifts:
        one = arguments.integer("shift", given)
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
        raise DomainError(f"multipliers must be (first mantissa, last mantissa); got {brief(multipliers)}.")
    first, last = (arguments.integer("a mantissa", one) for one in multipliers)
    if not MANTISSAS[0] <= first <= last <= MANTISSAS[1]:
        raise DomainError(
            f"multipliers must be an ascending range of mantissas within [{MANTISSAS[0]}, {MANTISSAS[1]}]; "
            f"got [{first}, {last}]."
        )
    low, high = (int(bound[0]) for bound in as_range(acc_range, 1))
    output = {"dtype": dtype, "zero_point": arguments.integer("zero_point", zero_point), "qmin": qmin, "qmax": qmax}
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


def _tiles(
    asked: Question, shift: int, advance: Callable[[float], None], kept: Checkpoint | None,
    executor: ClusterExecutor | None,
) -> tuple[Tally, bool]:  # fmt: skip
    """Count a shift mantissa by mantissa; tiles start in order and those that started finish: the first ones."""
    if executor is None:
        size = asked.tile_size(shift)
    else:
        size = executor.share(asked.multipliers, TILE, REMOTE_MULTIPLIERS[asked.backend])
    with Ledger(
        asked.multipliers, Tally(), Tally.merge, kept=kept, scope=f"shift={shift}:mantissas", pack=astuple,
        unpack=lambda data: Tally(*data),
    ) as ledger:  # fmt: skip

        def add(tile: Tile, one: Tally) -> None:
            ledger.add(tile, one)
            advance(ledger.total.multipliers / asked.multipliers)

        complete = run(
            ledger.tiles(size), tasks.Mantissas(asked, shift), add,
            workers=thread_count() if asked.backend == "cpu" else 1, executor=executor, stopped=ledger.stopped,
        )  # fmt: skip
    return ledger.total, complete


def _closed(
    asked: Question, shift: int, advance: Callable[[float], None], kept: Checkpoint | None,
    executor: ClusterExecutor | None,
) -> tuple[Tally, bool]:  # fmt: skip
    """Count a shift in closed form; nothing, if it was not finished."""
    sides = asked.ends(shift)
    low, high = (int(bound[0]) for bound in asked.domain(sides))
    if low > high:
        return Tally(asked.multipliers), True
    size = high - low + 1
    task: tasks.Codes | tasks.Accumulators
    if sides[0].clamped:
        task = tasks.Codes(asked, shift)
        end, step = int(task.sums().w.size), SUMS
    else:
        task, end, step = tasks.Accumulators(asked, shift), size, ACCUMULATORS
    if executor is not None:
        step = executor.share(end, step, REMOTE * step)
    done = 0

    def add(tile: Tile, one: Sums) -> None:
        nonlocal done
        ledger.add(tile, one)
        done += len(tile)
        advance(done / end)

    with Ledger(
        end, (0, 0), lambda one, other: (one[0] + other[0], one[1] + other[1]), kept=kept,
        scope=f"shift={shift}:{'codes' if sides[0].clamped else 'accumulators'}", pack=list,
        unpack=lambda data: (int(data[0]), int(data[1])),
    ) as ledger:  # fmt: skip
        done = ledger.resumed
        complete = run(ledger.tiles(step), task, add, workers=thread_count(), executor=executor, stopped=ledger.stopped)
    return (Tally(asked.multipliers, asked.multipliers * size, *ledger.total), True) if complete else (Tally(), False)
