"""What a sweep would take: tiles, time and cost, from a short calibration on this machine; nothing else is run.

It also says when nobody needs the sweep, because the exact engine has the answer at once.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qengine.kernels.codes import GROUP

from .. import arguments
from ..exact.divergence import engines_of
from ..exceptions import DomainError
from ..requant.multiplier import QuantizedMultiplier
from ..work.checkpoint import recorded
from ..work.ledger import Spans, ranges_of
from ..work.run import Tile, run
from .plan import SweepPlan
from .sweep import evaluator, run_of, tiling
from .work import make_work

#: Seconds of the calibration, in all, and of a tile in it.
SECONDS, TILE_SECONDS = 2.0, 0.02


@dataclass(frozen=True, slots=True)
class Estimate:
    """What so many workers would take.

    Attributes
    ----------
    workers : int
        Processors, or GPUs on back end ``cuda``.
    here : bool
        Whether these are this machine's workers, measured together; others are taken to be as fast as one of them each.
    seconds : float
    cost : float or None
        ``workers * hours * price``.
    """

    workers: int
    here: bool
    seconds: float
    cost: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"workers": self.workers, "here": self.here, "seconds": self.seconds, "cost": self.cost}


@dataclass(frozen=True, slots=True)
class SweepEstimate:
    """A sweep before it is run.

    Attributes
    ----------
    plan : SweepPlan
    backend : str
    tiles, tile_pairs : int
    speed, speed_of_one : float
        Pairs a second of all workers of this machine, and of one of them alone.
    seconds : float
        What the calibration took.
    rows : tuple of Estimate
        This machine first.
    exact : tuple of str
        Engines of `qengine.count_divergence` that count the same pairs of schemes over every accumulator at once; empty
        where they cannot, or would have to try every accumulator too.
    done : int
        Pairs that a checkpoint holds already; tiles and times are of the others.
    """

    plan: SweepPlan
    backend: str
    tiles: int
    tile_pairs: int
    speed: float
    speed_of_one: float
    seconds: float
    rows: tuple[Estimate, ...]
    exact: tuple[str, ...]
    done: int = 0

    def exact_command(self, scales: str | None = None) -> str:
        """Return the command of the exact count; `scales` is what ``--scales`` was given."""
        plan, fixed, acc = self.plan, self.plan.multipliers.fixed, self.plan.accumulators
        words = ["qengine", "count", *(scheme.name for scheme in plan.schemes)]
        if fixed is None:
            words += ["--scales", *(scales or plan.multipliers.describe()["name"]).split(",")]
        elif isinstance(fixed, QuantizedMultiplier):
            words += ["--multiplier", str(fixed.value), "--shift", str(fixed.shift)]
        else:
            words += ["--multiplier", repr(fixed)]
        if acc.kind != "unsaturated":
            last = min(acc.high, acc.low + plan.pairs - 1) if acc.kind == "all" else acc.high
            words += ["--range", str(acc.low), str(last)]
        words += ["--dtype", plan.dtype or "raw"]
        if plan.dtype is not None:
            if plan.zero_point is not None:
                words += ["--zero-point", str(plan.zero_point)]
            words += ["--qmin", str(plan.qmin), "--qmax", str(plan.qmax)]
        return shlex.join(words)

    def to_dict(self, scales: str | None = None) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "plan": self.plan.describe(), "plan_digest": self.plan.digest, "pairs": self.plan.pairs,
            "done": self.done, "tiles": self.tiles, "tile_pairs": self.tile_pairs, "backend": self.backend,
            "calibration": {
                "seconds": self.seconds, "pairs_per_second": self.speed,
                "pairs_per_second_of_one_worker": self.speed_of_one,
            },
            "estimates": [row.to_dict() for row in self.rows],
            "exact": {"command": self.exact_command(scales), "engines": list(self.exact)} if self.exact else None,
        }  # fmt: skip


def estimate(
    plan: SweepPlan, *, backend: str | None = None, threads: int | None = None, tile_pairs: int | None = None,
    workers: Sequence[int] = (), price: float | None = None, seconds: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> SweepEstimate:  # fmt: skip
    """Measure for some seconds how fast this machine runs a plan, and say what the whole would take.

    Parameters
    ----------
    plan : SweepPlan
    backend, threads, tile_pairs
        As in `qengine.sweep`.
    workers : sequence of int
        Other numbers of workers, each taken to be as fast as one worker of this machine alone; hand-over, network and
        shared memory bandwidth are not in it.
    price : float, optional
        Of a worker, an hour.
    seconds : float, optional
        Length of the calibration: 2.
    checkpoint : path, optional
        What it holds of this sweep need not be done; it is read, and nothing is written.

    Raises
    ------
    DomainError
        A price that is not a finite number of at least 0; workers below 1.
    InputFileError
        A checkpoint that cannot be read.

    Examples
    --------
    >>> from qengine.sweeps.estimate import estimate
    >>> from qengine.sweeps.plan import Multipliers, make_plan
    >>> plan = make_plan(("single", "double"), multipliers=Multipliers(fixed=0.25), zero_point=-1, dtype="int8")
    >>> told = estimate(plan, workers=(64,), price=0.05, tile_pairs=2**24, seconds=0.05)
    >>> told.tiles, [row.workers for row in told.rows][1:], told.rows[1].cost > 0
    (256, [64], True)
    >>> told.exact, told.exact_command()[:47]
    (('lattice',), 'qengine count single double --multiplier 0.25 -')
    """
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise DomainError(f"a price must be a finite number of at least 0; got {price!r}.")
    if any(count < 1 for count in workers):
        raise DomainError(f"workers must be at least 1; got {min(workers)}.")
    seconds = SECONDS if seconds is None else seconds
    done = 0 if checkpoint is None else _done(plan, checkpoint)
    name, engine, here, size = tiling(plan, backend, threads, tile_pairs)
    work = make_work(plan)
    evaluate = evaluator(name, engine, work)
    step = _step(evaluate, plan.pairs, size)
    begun = time.perf_counter()
    parts = 1 if here == 1 else 2
    one = _speed(evaluate, plan.pairs, step, 1, seconds / parts)
    all_of_them = one if here == 1 else _speed(evaluate, plan.pairs, step, here, seconds / parts)
    spent = time.perf_counter() - begun
    rows = []
    for count, speed, local in ((here, all_of_them, True), *((n, n * one, False) for n in workers)):
        expected = (plan.pairs - done) / speed
        rows.append(Estimate(count, local, expected, None if price is None else count * expected / 3600 * price))
    return SweepEstimate(
        plan, name, -(-(plan.pairs - done) // size), size, all_of_them, one, spent, tuple(rows), exact_engines(plan),
        done,
    )  # fmt: skip


def _done(plan: SweepPlan, folder: str | os.PathLike[str]) -> int:
    """Return the pairs that a checkpoint holds, by the keys of its lines; a run alone looks at what they hold."""
    spans = Spans()
    for key in recorded(arguments.path("checkpoint", folder), run_of(plan)):
        with contextlib.suppress(ValueError):
            for start, stop in ranges_of(key):
                if stop <= plan.pairs:
                    spans.add(start, stop)
    return spans.size


def _step(evaluate: Callable[[int, int], Any], pairs: int, size: int) -> int:
    """Return a length of tiles that take about `TILE_SECONDS`: many in a calibration, and no longer than real ones."""
    step = min(GROUP, size, pairs)
    evaluate(0, step)  # loads or compiles the kernel: its time is not that of a tile
    while step < min(size, pairs) and min(_seconds(evaluate, step), _seconds(evaluate, step)) < TILE_SECONDS:
        step = min(2 * step, size, pairs)
    return step


def _seconds(evaluate: Callable[[int, int], Any], step: int) -> float:
    begun = time.perf_counter()
    evaluate(0, step)
    return time.perf_counter() - begun


def _speed(evaluate: Callable[[int, int], Any], pairs: int, step: int, workers: int, seconds: float) -> float:
    """Return the pairs a second of so many workers, over tiles from the beginning, in turn."""
    done = 0
    begun = time.perf_counter()

    def tiles() -> Iterator[Tile]:
        for k in itertools.count():
            start = k * step % max(pairs - step + 1, 1)
            yield Tile(start, start + step)
            if time.perf_counter() - begun >= seconds:
                return

    def on_result(tile: Tile, raw: Any) -> None:
        nonlocal done
        done += len(tile)

    if not run(tiles(), evaluate, on_result, workers=workers):
        raise KeyboardInterrupt
    return done / (time.perf_counter() - begun)


def exact_engines(plan: SweepPlan) -> tuple[str, ...]:
    """Return the engines that count a plan's question exactly without trying every accumulator; empty if none do."""
    m, kind = plan.multipliers, plan.accumulators.kind
    if (m.fixed is None and m.table is None) or kind not in ("all", "uniform", "unsaturated"):
        return ()
    found = engines_of(
        plan.schemes, m.fixed, scales=m.table, dtype=plan.dtype, zero_point=plan.zero_point,
        qmin=plan.qmin if plan.dtype else None, qmax=plan.qmax if plan.dtype else None,
    )  # fmt: skip
    return () if "scan" in found else tuple(dict.fromkeys(found))
