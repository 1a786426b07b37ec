"""The public sweep: plan, cut into tiles, run on workers, merge."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import GROUP

from .. import backends
from ..backends.pairs import Work
from ..exceptions import DomainError, DTypeError
from ..requant.multiplier import QuantizedMultiplier
from ..requant.scales import scale_table
from ..requant.schemes import Scheme
from ..work.run import CallersThread, Tile, cut, run
from .plan import Accumulators, Multipliers, SweepPlan, make_plan
from .result import SweepResult
from .tally import Tally
from .work import make_work

#: Pairs a tile: long enough to hide the hand-over, short enough for smooth progress and prompt interruption.
TILE_PAIRS = {"cpu": 1 << 24, "cuda": 1 << 32, "reference": 1 << 18}


def _multipliers(multiplier: Any, multiplier_range: Any, distribution: str, scales: Any) -> Multipliers | None:
    given = [v is not None for v in (multiplier, multiplier_range, scales)]
    if sum(given) > 1:
        raise DomainError("pass one of multiplier, multiplier_range and scales.")
    if distribution != "uniform" and (multiplier is not None or scales is not None):
        raise DomainError(f"distribution {distribution!r} is of a range of multipliers; nothing is drawn here.")
    if scales is not None:
        return Multipliers(table=scale_table(scales))
    if multiplier is not None:
        if isinstance(multiplier, QuantizedMultiplier):
            return Multipliers(fixed=multiplier)
        if isinstance(multiplier, bool) or not isinstance(multiplier, (int, float, np.number)):
            raise DTypeError(f"multiplier must be a QuantizedMultiplier or a real number; got {multiplier!r}.")
        return Multipliers(fixed=float(multiplier))
    ends = (0.01, 0.99) if multiplier_range is None else multiplier_range
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        raise DTypeError(f"multiplier_range must be two numbers (low, high); got {ends!r}.") from None
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
    progress: Callable[[int, int], None] | None = None,
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
        a real range ``[low, high)``, drawn ``distribution="uniform"`` or ``"log-uniform"`` in steps of 2**-32 of
        the range (default: uniform in (0.01, 0.99)); or
    scales : path, ScaleTable or (input, weight, output), optional
        stored scales, one channel a row: channels in turn, equal shares, each scheme by its own recipe.
    acc : str or Accumulators, optional
        ``uniform[:LOW:HIGH]``, ``normal:SD[:CENTER]``, ``laplace:B[:CENTER]``, ``output-normal:SD``,
        ``output-laplace:B``, ``unsaturated`` or ``all[:LOW:HIGH]``. Default: unsaturated where outputs are
        clamped, else uniform in [-2**20, 2**20 - 1].
    zero_point, dtype, qmin, qmax
        Clamped output: ``int8`` (default for tables), ``uint8`` or ``int16``; without, raw results are compared.
        The zero point defaults to the table's.
    witnesses : int
        First differing pairs to keep, by index.
    backend : str, optional
        ``cpu`` (default), ``cuda`` (tiles are split over all visible devices) or ``reference``.
    threads, tile_pairs : int, optional
        Workers (default: one a processor or a device) and pairs a tile; they do not change the result.
    progress : callable, optional
        Called as ``progress(done, total)`` after each tile.

    Returns
    -------
    SweepResult
        ``.divergent .rate .max_abs_diff .histogram .witnesses`` of the first two schemes, ``.couples`` of all,
        ``.digest``, ``.to_json()``. On Ctrl-C the result holds what was done, with ``complete`` False.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError, InputFileError, BackendError
        For choices that are out of range, contradict each other or name nothing; a bad CSV names its line.

    Notes
    -----
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
    plan = make_plan(
        schemes, pairs=pairs, seed=seed, accumulators=acc, zero_point=zero_point, dtype=dtype, qmin=qmin, qmax=qmax,
        multipliers=_multipliers(multiplier, multiplier_range, distribution, scales), witnesses=witnesses,
    )  # fmt: skip
    return run_plan(plan, backend=backend, threads=threads, tile_pairs=tile_pairs, progress=progress)


def run_plan(
    plan: SweepPlan,
    *,
    backend: str | None = None,
    threads: int | None = None,
    tile_pairs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SweepResult:
    """Run a validated plan."""
    name = backends.choose(backend)
    engine = backends.load(name)
    workers = _workers(name, threads)
    size = TILE_PAIRS[name] if tile_pairs is None else tile_pairs
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size <= 2**40:
        raise DomainError(f"tile_pairs must be in [1, 2^40]; got {size!r}.")
    if tile_pairs is None and plan.pairs < size * workers:
        # A short sweep still uses every worker; tiles of whole groups draw nothing twice.
        size = max(GROUP, -(-plan.pairs // (2 * workers) + GROUP - 1) // GROUP * GROUP)
    work = make_work(plan)
    merged = Tally.of(engine.sweep_tile(work, 0, 0), 0)  # an empty tile: shapes, and the compilation
    start = time.perf_counter()

    def on_result(tile: Tile, raw: Any) -> None:
        nonlocal merged
        merged = merged.merged(Tally.of(raw, len(tile)))
        if progress is not None:
            progress(merged.pairs, plan.pairs)

    evaluate = _evaluator(name, engine, work)
    here = CallersThread() if name == "cuda" and workers == 1 else None  # on the caller's device and stream
    complete = run(cut(plan.pairs, int(size)), evaluate, on_result, workers=workers, executor=here)
    seconds = time.perf_counter() - start
    return SweepResult(plan, work, merged, complete, seconds, name, workers)


def _workers(name: str, threads: int | None) -> int:
    if threads is not None:
        if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or not 1 <= threads <= 4096:
            raise DomainError(f"threads must be in [1, 4096]; got {threads!r}.")
        return int(threads)
    if name == "cpu":
        from ..backends.cpu import thread_count

        return thread_count()
    if name == "cuda":
        from ..backends.cuda import devices

        return devices()
    return 1


def _evaluator(name: str, engine: backends.Backend, work: Work) -> Callable[[int, int], Any]:
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
