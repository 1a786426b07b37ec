"""Cutting and running tiles: exact cover, bounded flight, errors and interruptions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from qengine.exceptions import TileError
from qengine.work.run import Tile, cut, run


class Manual(Executor):
    """Runs nothing by itself: the newest tile is evaluated when the next is handed in, the rest at the wait."""

    def __init__(self) -> None:
        self.submitted: list[tuple[int, int]] = []
        self.shut = False

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        self.submitted.append(args)  # type: ignore[arg-type]
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.shut = True


@pytest.mark.parametrize(
    ("total", "size"),
    [(t, s) for t in (0, 1, 2, 9, 10, 11, 100, 2**40) for s in (1, 2, 10, 99, 2**39 + 1, 2**41) if t // s < 1000],
)
def test_cut_covers_exactly(total: int, size: int) -> None:
    tiles = list(cut(total, size))
    edges = [0, *(tile.stop for tile in tiles)]
    assert [tile.start for tile in tiles] == edges[:-1]
    assert edges[-1] == total
    assert all(len(tile) == size for tile in tiles[:-1])
    assert all(0 < len(tile) <= size for tile in tiles)
    assert sum(map(len, tiles)) == total


def test_cut_is_lazy() -> None:
    tiles = cut(2**62, 1)
    assert [next(tiles), next(tiles)] == [Tile(0, 1), Tile(1, 2)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_tile_once(workers: int) -> None:
    got: dict[Tile, int] = {}
    caller = threading.get_ident()

    def on_result(tile: Tile, value: int) -> None:
        assert threading.get_ident() == caller
        assert tile not in got
        got[tile] = value

    assert run(cut(1000, 7), lambda a, b: sum(range(a, b)), on_result, workers=workers)
    assert set(got) == set(cut(1000, 7))
    assert all(value == sum(range(tile.start, tile.stop)) for tile, value in got.items())


def test_no_tiles() -> None:
    assert run([], lambda a, b: None, lambda tile, value: pytest.fail("nothing to do"))


@pytest.mark.parametrize("workers", [1, 3])
def test_flight_is_bounded(workers: int) -> None:
    """At most two tiles a worker are taken from the iterator before one is done."""
    taken = done = most = 0

    def tiles() -> Iterator[Tile]:
        nonlocal taken, most
        for tile in cut(200, 1):
            taken += 1
            most = max(most, taken - done)
            yield tile

    def on_result(tile: Tile, value: None) -> None:
        nonlocal done
        done += 1

    assert run(tiles(), lambda a, b: None, on_result, workers=workers)
    assert taken == done == 200
    assert most <= 2 * workers


def test_workers_run_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=20)
    assert run(cut(3, 1), lambda a, b: barrier.wait(), lambda tile, value: None, workers=3)


def test_error_of_a_tile_propagates() -> None:
    """What was handed over before stays; nothing runs afterwards."""
    got: list[Tile] = []
    running: list[int] = []

    def evaluate(start: int, stop: int) -> int:
        running.append(start)
        if start == 50:
            raise ZeroDivisionError("tile 50")
        return start

    with pytest.raises(ZeroDivisionError, match="tile 50"):
        run(cut(1000, 10), evaluate, lambda tile, value: got.append(tile), workers=1)
    assert got == list(cut(50, 10)), "one worker: every tile before it"
    assert max(running) <= 70
    assert threading.active_count() < 50


def test_error_of_the_consumer_propagates() -> None:
    def on_result(tile: Tile, value: int) -> None:
        raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        run(cut(100, 10), lambda a, b: a, on_result, workers=2)


def test_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    run(cut(100, 10), lambda a, b: a, lambda tile, value: None, workers=4)
    assert not [t for t in threading.enumerate() if t.name.startswith("qengine-tile")]


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_consumer(workers: int) -> None:
    """Tiles in flight are waited for and handed over, the others dropped."""
    got: list[Tile] = []

    def on_result(tile: Tile, value: int) -> None:
        got.append(tile)
        if len(got) == 4:
            raise KeyboardInterrupt

    assert run(cut(1000, 10), lambda a, b: a, on_result, workers=workers) is False
    assert 4 <= len(got) <= 4 + 2 * workers
    assert len(set(got)) == len(got)


def test_interrupted_wait() -> None:
    """Ctrl-C while a tile runs: that tile is still handed over; those not begun are dropped."""
    begun, release = threading.Event(), threading.Event()
    got: list[Tile] = []

    def tiles() -> Iterator[Tile]:
        yield Tile(0, 1)
        assert begun.wait(20)
        threading.Timer(0.05, release.set).start()
        raise KeyboardInterrupt

    def evaluate(start: int, stop: int) -> int:
        begun.set()
        assert release.wait(20)
        return start

    assert run(tiles(), evaluate, lambda tile, value: got.append(tile), workers=1) is False
    assert got == [Tile(0, 1)]


def test_interrupted_twice() -> None:
    got: list[Tile] = []

    def on_result(tile: Tile, value: int) -> None:
        got.append(tile)
        raise KeyboardInterrupt

    assert run(cut(1000, 10), lambda a, b: a, on_result, workers=2) is False
    assert 1 <= len(got) <= 4
    assert len(set(got)) == len(got)


def test_given_executor_is_used_and_left_open() -> None:
    executor = Manual()
    got: list[Tile] = []
    assert run(cut(95, 10), lambda a, b: a, lambda tile, value: got.append(tile), workers=2, executor=executor)
    assert executor.submitted == [(tile.start, tile.stop) for tile in cut(95, 10)]
    assert sorted(got, key=lambda tile: tile.start) == list(cut(95, 10))
    assert not executor.shut
    with ThreadPoolExecutor(2) as pool:
        assert run(cut(20, 10), lambda a, b: a, lambda tile, value: None, workers=2, executor=pool)
        assert pool.submit(lambda: 5).result() == 5


def test_error_with_a_given_executor() -> None:
    executor = Manual()
    with pytest.raises(KeyError):
        run(cut(20, 1), lambda a, b: {}[a], lambda tile, value: None, executor=executor)
    assert len(executor.submitted) <= 2


def test_tiles_do_not_run_ahead() -> None:
    """The first tile hangs: others are done up to a bound, and go on when it comes."""
    first, seen = threading.Event(), list[int]()
    highest = 0

    def evaluate(start: int, stop: int) -> int:
        nonlocal highest
        highest = max(highest, start)
        if start == 0:
            assert first.wait(60)
        return start

    def on_result(tile: Tile, value: int) -> None:
        seen.append(value)
        if len(seen) == 5:  # 1 to 5: no other may start while the first one is not done
            assert highest == 5
            first.set()

    assert run(cut(40, 1), evaluate, on_result, workers=2, ahead=3)
    assert sorted(seen) == list(range(40))
    assert seen.index(0) >= 5


def test_in_order_the_first_failure_ends_a_run() -> None:
    got: list[int] = []

    def evaluate(start: int, stop: int) -> int:
        if start == 3:
            raise TileError("no")
        return start

    with pytest.raises(TileError):
        run(cut(1000, 1), evaluate, lambda tile, value: got.append(value), ahead=2)
    assert len(got) < 10
