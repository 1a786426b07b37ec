"""Cut an index range into tiles and run them on workers, in constant memory.

A tile is a pure function of its range, so tiles may finish in any order, on any worker.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from ..exceptions import TileError

T = TypeVar("T")
#: Tiles that may fail by themselves before the others are given up.
FAILURES = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """Indices ``[start, stop)``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def cut(stop: int, size: int, start: int = 0) -> Iterator[Tile]:
    """Yield the tiles of ``[start, stop)``, each of `size` indices but the last."""
    for begin in range(start, stop, size):
        yield Tile(begin, min(begin + size, stop))


@contextmanager
def _interrupts_noted() -> Iterator[list[int]]:
    """Note the first Ctrl-C instead of raising it, so that no result is half handed over; the second raises."""
    noted: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if in_main else None
    if before is not signal.default_int_handler:  # another thread, or somebody else's handler: leave it
        yield noted
        return

    def note(signum: int, frame: FrameType | None) -> None:
        noted.append(signum)
        if len(noted) > 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


class CallersThread(Executor):
    """One worker: the thread that submits, whose context variables, device and stream are those of the work."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call at once; an interruption is the caller's, other errors are kept in the future."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Elastic(Executor):
    """An executor whose workers come and go."""

    def workers(self) -> int:
        """Return how many tiles run at the same time now; at least 1."""
        raise NotImplementedError


def _drop(pending: dict[Future[T], tuple[int, Tile]]) -> None:
    """Cancel the tiles that have not started."""
    for future in [f for f in pending if f.cancel()]:
        del pending[future]


def run(
    tiles: Iterable[Tile],
    evaluate: Callable[[int, int], T],
    on_result: Callable[[Tile, T], None],
    *,
    workers: int = 1,
    executor: Executor | None = None,
    stopped: Callable[[], bool] | None = None,
    ahead: int | None = None,
) -> bool:
    """Evaluate tiles and hand each result to `on_result`, in order of completion, in the calling thread.

    `stopped` is asked after each tile: once it says True, it is as if the user had interrupted.

    At most two tiles a worker are in flight, whatever the number of tiles; one, if the worker is the caller's thread.
    An `Elastic` executor says how many workers it has. With `ahead`, no tile starts before all but so many a worker of
    those before it are done: for who has to keep results until the ones before them have come.

    Returns
    -------
    bool
        True if all tiles were done; False if the user interrupted (Ctrl-C): tiles in flight are waited for and
        handed over, the others are dropped.

    Raises
    ------
    TileError
        At the end, if a tile failed by itself (the first of them): the others are handed over before. After
        `FAILURES` of them at once; with `ahead` after one, as no result behind it can be used. Other errors of a tile
        are raised at once.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="qengine-tile") if executor is None else executor
    pending: dict[Future[T], tuple[int, Tile]] = {}  # in the order in which they were started, with a number each
    started = 0
    remaining = iter(tiles)
    complete = True
    failed: list[TileError] = []
    try:
        with _interrupts_noted() as interrupts:
            while True:
                try:
                    if complete and (interrupts or (stopped is not None and stopped())):
                        complete = False
                        _drop(pending)
                    many = pool.workers() if isinstance(pool, Elastic) else workers
                    most = 1 if isinstance(pool, CallersThread) else 2 * many
                    while complete and len(pending) < most:
                        if ahead is not None and pending and started - next(iter(pending.values()))[0] >= ahead * many:
                            break
                        tile = next(remaining, None)
                        if tile is None:
                            break
                        pending[pool.submit(evaluate, tile.start, tile.stop)] = started, tile
                        started += 1
                    if not pending:
                        if failed and complete:
                            raise failed[0]
                        return complete
                    done = wait(pending, return_when=FIRST_COMPLETED).done
                    # By start: when a tile failed, what finished before it is handed over first.
                    for future in sorted(done, key=lambda f: pending[f][1].start):
                        _, tile = pending.pop(future)
                        try:
                            result = future.result()
                        except TileError as error:
                            failed.append(error)
                            if len(failed) == (FAILURES if ahead is None else 1):
                                raise
                            continue
                        on_result(tile, result)
                except KeyboardInterrupt:  # raised by on_result, or where no signal can be noted
                    complete = False
                    _drop(pending)
    finally:
        for future in pending:
            future.cancel()
        if executor is None:
            pool.shutdown(wait=True)
