"""Tiles on a cluster of real processes: workers that die, come, stop and differ; schedulers that go."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import qengine as qe
from qengine.exceptions import BackendError, ClusterError, DomainError, DTypeError, InputFileError, TileError
from qengine.work import cluster, scheduler
from qengine.work.cluster import connect
from qengine.work.run import Tile, cut, run
from tests.clusters import Processes, until

pytest.importorskip("distributed", reason="dask is not installed: pip install 'qengine-numerics[cluster]'")

PAIRS, TILE = 48 << 20, 1 << 20
SWEEP: dict[str, Any] = {"pairs": PAIRS, "seed": 9, "multiplier": 0.37, "acc": "uniform:-1048576:1048575"}


@pytest.fixture(scope="module", autouse=True)
def by_value() -> Iterator[None]:
    """Tasks of this module go to workers by value: they have no tests."""
    import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def local_digest() -> str:
    return qe.sweep("single", "double", threads=2, **SWEEP).digest


def wait_for(processes: Processes, workers: int) -> None:
    """Wait until so many workers are at the scheduler."""
    import distributed

    with distributed.Client(scheduler_file=str(processes.file), set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=60)


class Meddler:
    """A progress callback that does something once, when some of the work is done."""

    def __init__(self, act: Callable[[], None], after: int = 0) -> None:
        self.act, self.after, self.seen = act, after, [0]

    def __call__(self, done: int, total: int) -> None:
        assert self.seen[-1] < done <= total == PAIRS
        self.seen.append(done)
        if self.after < done and self.act is not None:
            act, self.act = self.act, None  # type: ignore[assignment]
            act()


def test_same_digest_as_here(processes: Processes, local_digest: str) -> None:
    far = qe.sweep("single", "double", cluster=str(processes.file), tile_pairs=TILE * 4, **SWEEP)
    assert (far.digest, far.complete) == (local_digest, True)
    assert far.workers >= 1
    import json

    address = json.loads(processes.file.read_text())["address"]
    few: dict[str, Any] = {"scales": (0.05, 0.02, 0.11), "acc": "normal:2000", "dtype": "int8", "pairs": 100_001}
    assert qe.sweep("single", "fp32", cluster=address, **few).digest == qe.sweep("single", "fp32", **few).digest


def test_a_worker_dies_and_another_comes(processes: Processes, local_digest: str) -> None:
    victim = processes.alive()[0]

    def meddle() -> None:
        victim.kill()
        processes.add(threads=2)

    watch = Meddler(meddle, after=4 * TILE)
    far = qe.sweep("single", "double", cluster=str(processes.file), tile_pairs=TILE, progress=watch, **SWEEP)
    assert victim.wait() == -signal.SIGKILL
    assert watch.seen == [TILE * n for n in range(PAIRS // TILE + 1)], "every tile once"
    assert (far.digest, far.complete) == (local_digest, True)


def test_a_worker_that_hangs_does_not_stall_the_end(processes: Processes, local_digest: str) -> None:
    wait_for(processes, 2)
    stuck = processes.alive()[-1]
    watch = Meddler(lambda: stuck.send_signal(signal.SIGSTOP))
    try:
        far = qe.sweep("single", "double", cluster=str(processes.file), tile_pairs=TILE, progress=watch, **SWEEP)
    finally:
        stuck.send_signal(signal.SIGCONT)
    assert watch.seen == [TILE * n for n in range(PAIRS // TILE + 1)], "every tile once"
    assert (far.digest, far.complete) == (local_digest, True)


def test_a_lost_scheduler_is_an_error_and_the_checkpoint_goes_on(
    processes: Processes, local_digest: str, tmp_path: Path
) -> None:
    short = Processes(tmp_path, workers=1)
    try:
        watch = Meddler(short.scheduler.kill, after=9 * TILE)
        with pytest.raises(ClusterError, match=r"scheduler at tcp://[\d.:]+ .*--resume") as caught:
            qe.sweep(
                "single", "double", cluster=str(short.file), tile_pairs=TILE, progress=watch,
                checkpoint=tmp_path / "kept", **SWEEP,
            )  # fmt: skip
        assert not isinstance(caught.value, TileError)
    finally:
        short.stop()
    again = qe.sweep(
        "single", "double", cluster=str(processes.file), checkpoint=tmp_path / "kept", resume=True, **SWEEP
    )
    assert again.resumed >= 9 * TILE
    assert (again.digest, again.complete) == (local_digest, True)


def test_all_workers_die_and_one_comes(tmp_path: Path) -> None:
    """Nobody is there for a while: tiles wait."""
    short = Processes(tmp_path, workers=1)
    done: dict[Tile, Any] = {}

    def on_result(tile: Tile, value: Any) -> None:
        assert tile not in done
        done[tile] = value
        if len(done) == 10:
            short.workers[0].kill()
            short.workers[0].wait()
            short.add(threads=2)

    try:
        with connect(str(short.file)) as executor:
            assert run(cut(400, 10), names_itself, on_result, executor=executor)
            assert set(done) == set(cut(400, 10))
            assert executor.workers() == 2
    finally:
        short.stop()
    assert {pid for pid, _ in done.values()} == {worker.pid for worker in short.workers}


def raises(start: int, stop: int) -> int:
    if start <= 555 < stop:
        raise ZeroDivisionError("no such luck")
    return stop - start


def kills(start: int, stop: int) -> int:
    if start <= 555 < stop:
        os._exit(7)
    return stop - start


def refuses(start: int, stop: int) -> int:
    from qengine.exceptions import DomainError

    raise DomainError(f"tile {start} is out of bounds.")


def names_itself(start: int, stop: int) -> tuple[int, int]:
    return os.getpid(), threading.active_count()


def test_a_poisoned_tile_fails_alone() -> None:
    """On processes of this machine: one tile raises, or kills whoever tries it; the 99 others are handed over."""
    done: dict[Tile, Any] = {}
    with connect("local:2") as executor:
        assert executor.workers() == 2
        for task, text in ((raises, "raises.*ZeroDivisionError: no such luck"), (kills, "workers die.*KilledWorker")):
            done.clear()
            with pytest.raises(TileError, match=rf"(?s)tile \[550, 560\) .*{text}.*{task.__name__}"):
                run(cut(1000, 10), task, done.__setitem__, executor=executor)
            assert set(done) == set(cut(1000, 10)) - {Tile(550, 560)}
            assert set(done.values()) == {10}
        assert run(cut(60, 1), names_itself, done.__setitem__, executor=executor)
    pids = {value[0] for value in done.values() if isinstance(value, tuple)}
    assert os.getpid() not in pids
    for pid in pids:  # nobody is left
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"the end of process {pid}")


def test_an_error_of_the_question_stops_the_run(processes: Processes) -> None:
    """Bad input is bad for every tile: it is raised as it is, at once."""
    done: list[Tile] = []
    with (
        connect(str(processes.file)) as executor,
        pytest.raises(DomainError, match=r"tile \d+ is out of bounds") as caught,
    ):
        run(cut(10**9, 1), refuses, lambda tile, value: done.append(tile), executor=executor)
    assert done == []
    assert not isinstance(caught.value, TileError)


def test_a_tile_that_exits(processes: Processes) -> None:
    """What ends a process ends no worker: it would be started again and again. And an endless recursion comes back."""

    def leaves(start: int, stop: int) -> int:
        raise SystemExit(4)

    def recurs(start: int, stop: int) -> int:
        return recurs(stop, start)

    with connect(str(processes.file)) as executor:
        for task, text in ((leaves, "RuntimeError: SystemExit: 4"), (recurs, "RuntimeError: RecursionError: ")):
            with pytest.raises(TileError, match=text):
                run(cut(1, 1), task, lambda tile, value: None, executor=executor)


def test_too_many_poisoned_tiles_stop_the_run(processes: Processes) -> None:
    taken = 0

    def tiles() -> Iterator[Tile]:
        nonlocal taken
        for tile in cut(10**9, 1, 0):
            taken += 1
            yield Tile(555, 556) if tile.start else tile

    with connect(str(processes.file)) as executor, pytest.raises(TileError):
        run(tiles(), raises, lambda tile, value: None, executor=executor)
    assert taken < 100


def test_interrupted(processes: Processes) -> None:
    """What is done is kept, nothing of the rest is left on the workers, and the cluster serves on."""
    done: list[Tile] = []

    def on_result(tile: Tile, value: int) -> None:
        done.append(tile)
        if len(done) == 5:
            raise KeyboardInterrupt

    with connect(str(processes.file)) as executor:
        assert run(cut(10**9, 10), raises, on_result, executor=executor) is False
        assert 5 <= len(done) < 40
        done.clear()
        assert run(cut(100, 10), raises, lambda tile, value: done.append(tile), executor=executor)
        assert len(done) == 10


def test_an_open_client_stays_open(processes: Processes) -> None:
    import distributed

    with distributed.Client(scheduler_file=str(processes.file), set_as_default=False) as client:
        done: list[int] = []
        with connect(client) as executor:
            assert run(cut(50, 10), raises, lambda tile, value: done.append(value), executor=executor)
        assert sum(done) == 50
        assert client.submit(abs, -3).result() == 3


def test_other_sources_are_refused(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "stamp", lambda: "9.9.9 (0123456789ab)")
    with pytest.raises(ClusterError, match=r"client's qengine, 9\.9\.9 .*tcp://\S+ has \d+\.\d+\.\d+ \([0-9a-f]{12}\)"):
        qe.sweep("single", "double", cluster=str(processes.file), **SWEEP)


def test_cuda_needs_a_worker_that_has_it(processes: Processes) -> None:
    if qe.backends.unavailable("cuda") is None:
        pytest.skip("this machine has a GPU, and so have its workers")
    with pytest.raises(BackendError, match=r"none of the \d workers at tcp.* has a GPU: back end 'cuda' needs"):
        qe.sweep("single", "double", cluster=str(processes.file), backend="cuda", **SWEEP)


def test_no_worker(tmp_path: Path) -> None:
    lonely = Processes(tmp_path)
    try:
        text = r"no worker for 0\.2 s; start some with `dask worker tcp:"
        with pytest.raises(ClusterError, match=text), connect(str(lonely.file), patience=0.2):
            pass
    finally:
        lonely.stop()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ("local:0", DomainError, r"local:N with N in \[1, 1024\]; got 'local:0'"),
        ("local:", DomainError, "local:N"),
        ("local:2.5", DomainError, "local:N"),
        ("local:-1", DomainError, "local:N"),
        ("nonsense", DomainError, "must be tcp://HOST:PORT"),
        ("", DomainError, "must be tcp://HOST:PORT"),
        ("missing.json", InputFileError, "no such scheduler file"),
        (7, DTypeError, "distributed.Client; got int"),
    ],
)
def test_what_is_no_cluster(given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        qe.sweep("single", "double", cluster=given, pairs=100)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "CONNECT", 0.3)
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9 within 0\.3 s"):
        qe.sweep("single", "double", cluster="tcp://127.0.0.1:9", pairs=100)


def test_logs_of_dask_are_quiet_for_a_while() -> None:
    logger = logging.getLogger("distributed.client")
    before = logger.level
    with scheduler.quiet():
        assert before < logger.level == logging.CRITICAL
    assert logger.level == before


def test_a_mute_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that takes connections and says nothing: another service, a scheduler that is stopped."""
    monkeypatch.setattr(scheduler, "CONNECT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"no scheduler answers at {address} within 0.3 s"):
            qe.sweep("single", "double", cluster=address, pairs=100)


def test_a_worker_is_no_scheduler(processes: Processes) -> None:
    import distributed

    with distributed.Client(scheduler_file=str(processes.file), set_as_default=False) as client:
        client.wait_for_workers(1)
        address = next(iter(client.ncores()))
    with pytest.raises(ClusterError, match=f"{address} is a Worker, not a scheduler"):
        qe.sweep("single", "double", cluster=address, pairs=100)


def test_threads_are_the_workers(processes: Processes) -> None:
    with pytest.raises(DomainError, match="threads are those of the cluster's workers"):
        qe.sweep("single", "double", cluster=str(processes.file), threads=2, pairs=100)
