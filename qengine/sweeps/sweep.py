"""The public sweep: plan, cut into tiles, run on workers, merge."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from qengine.kernels.codes import GROUP

from .. import backends
from .._version import __version__
from ..arguments import Progress, callback, chosen, integer, real
from ..backends.pairs import Work
from ..exceptions import DomainError, DTypeError, brief
from ..requant.multiplier import QuantizedMultiplier
from ..requant.scales import scale_table
from ..requant.schemes import Scheme
from ..work.checkpoint import Checkpoint, open_checkpoint
from ..work.cluster import connect
from ..work.ledger import Ledger
from ..work.run import CallersThread, Elastic, Tile, run
from .plan import DISTRIBUTIONS, Accumulators, Multipliers, SweepPlan, make_plan
from .result import SweepResult
from .tally import Tally
from .task import SweepTask
from .work import make_work

#: Pairs a tile: long enough to hide the hand-over, short enough for smooth progress and prompt interruption.
TILE_PAIRS = {"cpu": 1 << 24, "cuda": 1 << 32, "reference": 1 << 18}
#: Times as many a tile of a cluster at most: seconds hide a millisecond of scheduling.
REMOTE = 8


def _multipliers(multiplier: Any, multiplier_range: Any, distribution: str, scales: Any) -> Multipliers | None:
    given = [v is not None for v in (multiplier, multiplier_range, scales)]
    if sum(given) > 1:
        raise DomainError("pass one of multiplier, multiplier_range and scales.")
    chosen("distribution", distribution, DISTRIBUTIONS)
    if distribution != "uniform" and (multiplier is not None or scales is not None):
        raise DomainError(f"distribution {distribution!r} is of a range of multipliers; nothing is drawn here.")
    if scales is not None:
        return Multipliers(table=scale_table(scales))
    if multiplier is not None:
        if isinstance(multiplier, QuantizedMultiplier):
            return Multipliers(fixed=multiplier)
        return Multipliers(fixed=real("multiplier", multiplier))
    ends = (0.01, 0.99) if multiplier_range is None else multiplier_range
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        raise DTypeError(f"multiplier_range must be two numbers (low, high); got {brief(ends)}.") from None
    return Multipliers(low=low, high=high, distribution=distribution)  # type: ignore[arg-type]


def sweep(
    *schemes: str | Scheme,
    pairs: int | None = None,
    seed: int = 0,
    multiplier: Any = None,
    multiplier_range: tuple[float, float] | None = None,
    distribution: str = "uniform",
    scales: Any = None,
    acc: Accumulators | str | None = None,
    zero_point: int | None = None,
    dtype: npt.DTypeLike | None = None,
    qmin: int | None = None,
    qmax: int | None = None,
    witnesses: int = 8,
    backend: str | None = None,
    threads: int | None = None,
    tile_pairs: int | None = None,
    cluster: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> SweepResult:
    """Count how often two or more schemes disagree over pairs (multiplier, accumulator).

    Parameters
    ----------
    *schemes : str or Scheme
        Two or more; every ordered pair is counted.
    pairs : int, optional
        Pairs to draw. Default 1,000,000; for one multiplier every int32 accumulator once (2**32 pairs), exactly.
    seed : int
        Key of the draws, in ``[0, 2**64 - 1]``. Pair i depends on (seed, i) and the choices below alone.
    multiplier : QuantizedMultiplier or float, optional
        One multiplier for all pairs; or
    multiplier_range : (float, float), optional
        a real range ``[low, high)`` to draw from, by default (0.01, 0.99); or
    scales : path, ScaleTable or (input, weight, output), optional
        stored scales, one channel a row: channels in turn, equal shares, each scheme by its own recipe.
    distribution : {"uniform", "log-uniform"}
        How multipliers of a range are drawn, in steps of 2**-32 of the range.
    acc : str or Accumulators, optional
        ``uniform[:LOW:HIGH]``, ``normal:SD[:CENTER]``, ``laplace:B[:CENTER]``, ``output-normal:SD``,
        ``output-laplace:B``, ``unsaturated`` or ``all[:LOW:HIGH]``. Default: all of one multiplier if `pairs` is not
        given; else unsaturated where outputs are clamped, uniform in [-2**20, 2**20 - 1] where they are not.
    zero_point, dtype, qmin, qmax
        Clamped output: ``int8`` (default for tables of several rows, and with a zero point or a clamp), ``uint8`` or
        ``int16``; without, raw results are compared.
        The zero point defaults to the table's.
    witnesses : int
        First differing pairs to keep, by index.
    backend : str, optional
        ``cpu`` (default), ``cuda`` (tiles are split over all visible devices) or ``reference``.
    threads, tile_pairs : int, optional
        Workers (default: one a processor or a device) and pairs a tile; they do not change the result.
    cluster : str or distributed.Client, optional
        Count on the workers of a dask cluster: the address of its scheduler (``tcp://HOST:PORT``), a scheduler file,
        ``local:N`` for N processes here, or an open client (`qengine.work.cluster`). With ``backend="cuda"`` on those
        that have a GPU; `threads` are theirs.
    checkpoint : path, optional
        A folder where finished pairs are recorded, on the disk about every second: a run that is killed loses no more.
    resume : bool
        Go on from what `checkpoint` holds of the same sweep, whatever back end, threads and tiles it was counted with.
    progress : callable, optional
        Called as ``progress(done, total)`` after each tile.

    Returns
    -------
    SweepResult
        ``.divergent .rate .max_abs_diff .histogram .witnesses`` of the first two schemes, ``.couples`` of all,
        ``.digest``, ``.to_json()``. On Ctrl-C the result holds what was done, with ``complete`` False. ``.notes``
        says what of a checkpoint was not used, and whether its disk failed.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError, InputFileError, BackendError
        For choices that are out of range, contradict each other or name nothing; a bad CSV names its line; a folder
        that cannot hold a checkpoint, that another process uses, or that holds one which is not to be resumed.
    ClusterError, TileError
        A cluster that cannot be reached, has another qengine, or is lost; at the end, pairs that no worker could count
        (all others are in the checkpoint).

    Notes
    -----
    With a checkpoint, SIGTERM in the main thread records what is finished before it ends the process. Where the disk is
    full there is a `CheckpointWarning`, and the sweep goes on.

    Rates of drawn pairs come with a 95 % Wilson interval; ``acc="all"`` counts every accumulator and is exact.

    On ``cuda`` one worker (one visible device, or ``threads=1``) is the caller's thread, on its current device and
    stream. Several are threads of their own, each on the default stream of its device: they wait for nothing that the
    caller has put on a stream, and need not, since a sweep reads no device array. The result lives on the host.

    Examples
    --------
    One right shift: double rounding leaves single on a quarter of all accumulators, by 1, away from zero.

    >>> import qengine as qe
    >>> r = qe.sweep("single", "double", multiplier=qe.QuantizedMultiplier(1518500250, -1), acc="all:-3000:2999")
    >>> r.pairs, r.divergent, r.histogram
    (6000, 1502, {-1: 751, 1: 751})
    >>> r.witnesses[0].acc, r.witnesses[0].outputs
    (-2999, (-1060, -1061))
    """
    plan = plan_of(
        *schemes, pairs=pairs, seed=seed, multiplier=multiplier, multiplier_range=multiplier_range,
        distribution=distribution, scales=scales, acc=acc, zero_point=zero_point, dtype=dtype, qmin=qmin, qmax=qmax,
        witnesses=witnesses,
    )  # fmt: skip
    return run_plan(
        plan, backend=backend, threads=threads, tile_pairs=tile_pairs, cluster=cluster, checkpoint=checkpoint,
        resume=resume, progress=progress,
    )  # fmt: skip


def plan_of(
    *schemes: str | Scheme, multiplier: Any = None, multiplier_range: Any = None, distribution: str = "uniform",
    scales: Any = None, acc: Accumulators | str | None = None, **choices: Any,
) -> SweepPlan:  # fmt: skip
    """Return the validated plan of what `sweep` was given; it takes no back end and no tiles."""
    return make_plan(
        schemes, accumulators=acc, multipliers=_multipliers(multiplier, multiplier_range, distribution, scales),
        **choices,
    )  # fmt: skip


def run_plan(
    plan: SweepPlan,
    *,
    backend: str | None = None,
    threads: int | None = None,
    tile_pairs: int | None = None,
    cluster: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> SweepResult:
    """Run a validated plan."""
    callback("progress", progress)
    work = make_work(plan)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_place(plan, work, backend, threads, tile_pairs, cluster))
        empty = Tally.of(backends.load(place.empty).sweep_tile(work, 0, 0), 0)  # shapes, and here the compilation
        kept = stack.enter_context(open_checkpoint(checkpoint, run_of(plan), resume))
        start = time.perf_counter()
        with _ledger(plan, empty, kept) as ledger:

            def on_result(tile: Tile, raw: Any) -> None:
                ledger.add(tile, Tally.of(raw, len(tile)))
                if progress is not None:
                    progress(ledger.total.pairs, plan.pairs)

            complete = run(
                ledger.tiles(place.size), place.evaluate, on_result, workers=place.workers,
                executor=place.executor, stopped=ledger.stopped,
            )  # fmt: skip
        seconds = time.perf_counter() - start
        workers = place.executor.workers() if isinstance(place.executor, Elastic) else place.workers
    notes = () if kept is None else kept.notes()
    return SweepResult(plan, work, ledger.total, complete, seconds, place.name, workers, ledger.resumed, notes)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where tiles are counted: on which back end, by what, in which pieces; `empty` makes the tally of none."""

    name: str
    empty: str
    evaluate: Callable[[int, int], Any]
    size: int
    workers: int
    executor: Executor | None


def tiling(
    plan: SweepPlan, backend: str | None, threads: int | None, tile_pairs: int | None
) -> tuple[str, backends.Backend, int, int]:
    """Return (back end's name, back end, workers, pairs a tile) of a sweep on this machine."""
    name = backends.choose(backend)
    workers, size = _workers(name, threads), _tile_pairs(tile_pairs)
    if size is None:
        size = TILE_PAIRS[name]
        if plan.pairs < size * workers:  # a short sweep still uses every worker
            size = _groups(-(-plan.pairs // (2 * workers)))
    return name, backends.load(name), workers, size


def _tile_pairs(given: Any) -> int | None:
    if given is None:
        return None
    return integer("tile_pairs", given, 1, 2**40)


@contextlib.contextmanager
def _place(
    plan: SweepPlan, work: Work, backend: str | None, threads: int | None, tile_pairs: int | None, cluster: Any
) -> Iterator[_Place]:
    if cluster is None:
        name, engine, workers, size = tiling(plan, backend, threads, tile_pairs)
        here = CallersThread() if name == "cuda" and workers == 1 else None  # on the caller's device and stream
        yield _Place(name, name, evaluator(name, engine, work), size, workers, here)
        return
    if threads is not None:
        raise DomainError(f"threads are those of the cluster's workers; leave them out (got {threads!r}).")
    name, given = backends.named(backend) or "cpu", _tile_pairs(tile_pairs)
    with connect(cluster, backend=name) as executor:
        workers = executor.workers()
        size = given or _groups(executor.share(plan.pairs, GROUP, REMOTE * TILE_PAIRS[name]))
        yield _Place(name, "reference", SweepTask(plan, name, plan.digest), size, workers, executor)


def _groups(pairs: int) -> int:
    """Return at least so many pairs, in whole groups: nothing is drawn twice."""
    return max(GROUP, (pairs + GROUP - 1) // GROUP * GROUP)


def run_of(plan: SweepPlan) -> dict[str, Any]:
    """Return what decides the counts of every pair, as plain data: also of scales whose file has moved."""
    described = plan.describe()
    described["multipliers"].pop("name", None)
    return {"sweep": __version__, **described}


def _ledger(plan: SweepPlan, empty: Tally, kept: Checkpoint | None) -> Ledger[Tally]:
    def unpack(data: Any) -> Tally:
        return empty.unpack(data)

    return Ledger(plan.pairs, empty, Tally.merged, kept=kept, scope="pairs", pack=Tally.pack, unpack=unpack)


def _workers(name: str, threads: int | None) -> int:
    if threads is not None:
        return integer("threads", threads, 1, 4096)
    if name == "cpu":
        from ..backends.cpu import thread_count

        return thread_count()
    if name == "cuda":
        from ..backends.cuda import devices

        return devices()
    return 1


def evaluator(name: str, engine: backends.Backend, work: Work) -> Callable[[int, int], Any]:
    """Return what evaluates a tile; workers of ``cuda`` take the visible devices in turn, the caller's first."""
    if name != "cuda":
        return lambda start, stop: engine.sweep_tile(work, start, stop)
    from ..backends import cuda

    first, count, turns, bound = cuda.device_number(), cuda.devices(), itertools.count(), threading.local()

    def evaluate(start: int, stop: int) -> Any:
        if not hasattr(bound, "device"):
            bound.device = (first + next(turns)) % count
        with cuda.use_device(bound.device):
            return engine.sweep_tile(work, start, stop)

    return evaluate
