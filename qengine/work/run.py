"""Cut an index range into tiles and run them on workers, in constant memory.

A tile is a pure function of its range, so tiles may finish in any order, on any worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tile:
    """Indices ``[start, stop)``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def cut(total: int, size: int) -> Iterator[Tile]:
    """Yield the tiles of ``[0, total)``, each of `size` indices but the last."""
    for start in range(0, total, size):
        yield Tile(start, min(start + size, total))


def run(
    tiles: Iterable[Tile],
    evaluate: Callable[[int, int], T],
    on_result: Callable[[Tile, T], None],
    *,
    workers: int = 1,
    executor: Executor | None = None,
) -> bool:
    """Evaluate tiles and hand each result to `on_result`, in order of completion, in the calling thread.

    At most two tiles a worker are in flight, whatever the number of tiles.

    Returns
    -------
    bool
        True if all tiles were done; False if the user interrupted (Ctrl-C): tiles in flight are waited for and
        handed over, the others are dropped.
    """
    own = ThreadPoolExecutor(workers, thread_name_prefix="qengine-tile") if executor is None else None
    pool = own if own is not None else executor
    assert pool is not None
    pending: dict[Future[T], Tile] = {}
    remaining = iter(tiles)
    complete = True

    def collect(done: Iterable[Future[T]]) -> None:
        # By start: when a tile failed, what finished before it is handed over first.
        for future in sorted(done, key=lambda f: pending[f].start):
            tile = pending.pop(future)
            on_result(tile, future.result())

    try:
        while True:
            try:
                while complete and len(pending) < 2 * workers:
                    tile = next(remaining, None)
                    if tile is None:
                        break
                    pending[pool.submit(evaluate, tile.start, tile.stop)] = tile
                if not pending:
                    return complete
                collect(wait(pending, return_when=FIRST_COMPLETED).done)
            except KeyboardInterrupt:
                complete = False
                for future in [f for f in pending if f.cancel()]:
                    del pending[future]
    finally:
        for future in pending:
            future.cancel()
        if own is not None:
            own.shutdown(wait=True)
