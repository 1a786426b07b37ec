"""The same tiles on the workers of a dask cluster: an executor for `qengine.work.run.run`.

A task is a small callable ``task(start, stop)``: names and frozen dataclasses, a few kilobytes. It travels pickled with
each tile, since what lives on one worker alone is out of reach when that worker hangs, and a worker restores it once.
Tiles are pure functions of their range: doing one twice changes nothing, so lost ones are repeated, and late ones are
duplicated.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import itertools
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import backends
from .._version import __version__
from ..exceptions import BackendError, ClusterError, DomainError, DTypeError, QEngineError, TileError
from . import scheduler
from .run import Elastic

#: Seconds to wait for a first (or another) worker to come.
PATIENCE = 60.0
#: Seconds between two looks at the workers; a tile is late after LATE seconds and LATER times the usual time.
TICK, LATE, LATER = 0.25, 2.0, 4.0
#: Bytes of a task at most; tasks that are kept pickled, and restored on a worker.
LARGEST, REMEMBERED = 1 << 23, 8
#: Tiles a worker: enough for an even end.
SHARES = 32
#: Times that a tile is started at most, late ones included.
STARTS = 3

Task = Callable[[int, int], Any]


@functools.cache
def stamp() -> str:
    """Return the version and a digest of the sources that run: equal stamps are equal code."""
    digest = hashlib.sha256()
    for package in ("qengine", "qengine.kernels"):
        (folder,) = importlib.import_module(package).__path__
        for path in sorted(Path(folder).rglob("*.*")):
            if path.suffix in (".py", ".cu", ".cuh"):
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__} ({digest.hexdigest()[:12]})"


# --- what runs on a worker ---


@functools.lru_cache(maxsize=REMEMBERED)
def _restored(pickled: bytes) -> Task:
    task: Task = pickle.loads(pickled)
    return task


def _tile(client: str, pickled: bytes, start: int, stop: int) -> Any:
    """Do a tile, if the code is the client's."""
    if client != stamp():
        from distributed import get_worker

        raise _different({get_worker().address: stamp()}, client)
    try:
        return _restored(pickled)(start, stop)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, RecursionError):
            raise
        text = f"{type(error).__name__}: {error}"
    # What ends a process would end the worker, and the next ones, without end; a trace of a thousand frames does not
    # arrive.
    raise RuntimeError(text)


def about() -> tuple[str, str | None]:
    """Return the stamp of a worker, and why it has no GPU."""
    return stamp(), backends.unavailable("cuda")


def _asking() -> Callable[[], tuple[str, str | None]]:
    """Return `about` for any worker: pickled by value, as it is no module's, it runs where there is no qengine."""

    def ask() -> tuple[str, str | None]:
        try:
            from qengine.work.cluster import about
        except ImportError:
            return "none, or an older one", None
        return about()

    return ask


# --- what runs on the client ---


def _different(workers: dict[str, str], client: str) -> ClusterError:
    some = ", ".join(f"{address} has {version}" for address, version in sorted(workers.items())[:3])
    more = f" and {len(workers) - 3} others" if len(workers) > 3 else ""
    return ClusterError(
        f"every worker must have the client's qengine, {client}; {some}{more}. Install the same one everywhere and "
        "start the workers again."
    )


@dataclass(eq=False, slots=True)
class _Job:
    """A tile in flight: what the caller waits for, and the attempts at it, any of which may come first."""

    task: Task
    start: int
    stop: int
    outer: Future[Any] = field(default_factory=Future)
    attempts: dict[str, Future[Any]] = field(default_factory=dict)
    starts: int = 0
    since: float = 0.0
    #: Workers died with it (or beside it): it runs again when nothing else does.
    suspect: bool = False
    cause: BaseException | None = None


class ClusterExecutor(Elastic):
    """Hands tiles to the workers of a client, through ``Client.get_executor``; made by `connect`.

    Parameters
    ----------
    client : distributed.Client
    backend : str
        With ``cuda``, tiles go to the workers that have a GPU.
    patience : float
        Seconds without any worker after which the run is given up.

    Notes
    -----
    A thread settles what comes back and looks after the rest, four times a second:

    * a tile whose worker is lost is repeated by the scheduler; one that workers died with more often than the scheduler
      allows runs again when all others are done, alone, so that it cannot be blamed for another one's sins, nor take
      others with it; if it fails then, it fails with a `TileError`, as does at once a tile that raises;
    * where workers idle, tiles that take much longer than usual are started on another worker too, and the first result
      counts;
    * a scheduler that is lost, or no worker for `patience` seconds, is a `ClusterError` of all tiles in flight.
    """

    def __init__(self, client: Any, backend: str = "cpu", patience: float = PATIENCE) -> None:
        self._client, self._backend, self._patience = client, backend, patience
        self.address: str = client.scheduler.address
        self._payloads: dict[int, tuple[Task, bytes]] = {}
        self._jobs: set[_Job] = set()
        self._lock = threading.RLock()
        self._events: queue.SimpleQueue[tuple[_Job, str] | None] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._probed: dict[str, tuple[str, str | None]] = {}
        self._threads: dict[str, int] = {}
        self._usual = 0.0
        self._done = 0
        self._last_seen = time.monotonic()
        self._lost: QEngineError | None = None
        self._wait_for_workers()
        self._keeper = threading.Thread(target=self._keep, name="qengine-cluster", daemon=True)
        self._keeper.start()

    def workers(self) -> int:
        """Return the number of threads of the workers that take tiles now."""
        return max(1, sum(self._threads.values()))

    def share(self, total: int, least: int, most: int) -> int:
        """Return a length of tiles that gives every worker `SHARES` of them, within bounds."""
        return max(least, min(most, total // (SHARES * self.workers())))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(start, stop)``; `fn` is pickled when it first comes."""
        start, stop = args
        job = _Job(fn, start, stop)
        job.outer.add_done_callback(lambda outer: self._events.put((job, "")) if outer.cancelled() else None)
        with self._lock:
            if self._lost is not None:
                job.outer.set_exception(self._lost)
            else:
                self._jobs.add(job)
                self._launch(job)
        return job.outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the keeper and drop the tiles in flight; the client stays open."""
        self._events.put(None)
        self._keeper.join()
        with self._lock:
            for job in self._jobs:
                self._drop_attempts(job)
            self._jobs.clear()
            self._payloads.clear()

    # --- workers ---

    def _wait_for_workers(self) -> None:
        from distributed import TimeoutError as Late

        with contextlib.suppress(Late, TimeoutError):
            self._client.wait_for_workers(1, timeout=self._patience)
        self._check_versions()
        self._look()
        if self._threads:
            return
        if self._probed:
            why = next(iter(self._probed.values()))[1]
            raise BackendError(
                f"none of the {len(self._probed)} workers at {self.address} has a GPU: {why} Start some that have, or "
                "leave --backend cuda out."
            )
        raise self._nobody()

    def _nobody(self) -> ClusterError:
        return ClusterError(
            f"the scheduler at {self.address} has had no worker for {self._patience:g} s; start some with "
            f"`dask worker {self.address}`."
        )

    def _check_versions(self) -> None:
        """Ask every worker which qengine it has."""
        stamps = {a: one[0] for a, one in self._client.run(_asking()).items()}
        if bad := {a: one for a, one in stamps.items() if one != stamp()}:
            raise _different(bad, stamp())

    def _look(self) -> None:
        """Note the workers that take tiles, and their threads."""
        found = self._client.sync(self._client.scheduler.ncores, callback_timeout=scheduler.CONNECT)
        threads = {address: int(n) for address, n in found.items()}
        if self._backend == "cuda":
            new = [address for address in threads if address not in self._probed]
            if new:
                self._probed |= self._client.run(_asking(), workers=new, on_error="ignore")
            threads = {a: n for a, n in threads.items() if a in self._probed and self._probed[a][1] is None}
        self._threads = threads
        if threads:
            self._last_seen = time.monotonic()

    # --- tiles ---

    def _pickled(self, task: Task) -> bytes:
        known = self._payloads.get(id(task))
        if known is None:
            pickled: bytes = importlib.import_module("cloudpickle").dumps(task)
            if len(pickled) > LARGEST:
                raise DomainError(
                    f"a task goes to the workers with every tile; this one has {len(pickled):,} bytes, and at most "
                    f"{LARGEST:,} are sent: {task}. Use fewer scales or channels, or leave the cluster out."
                )
            if len(self._payloads) == REMEMBERED:
                del self._payloads[next(iter(self._payloads))]
            known = self._payloads[id(task)] = (task, pickled)
        return known[1]

    def _launch(self, job: _Job, where: list[str] | None = None) -> None:
        """Start an attempt at a tile, on one of some workers."""
        if where is None and self._backend == "cuda":
            where = list(self._threads) or None
        executor = self._client.get_executor(pure=False, retries=0, workers=where)
        key = f"qengine-tile-{id(self):x}-{next(self._numbers)}"
        job.starts, job.since = job.starts + 1, time.monotonic()
        attempt = executor.submit(_tile, stamp(), self._pickled(job.task), job.start, job.stop, key=key)
        job.attempts[key] = attempt
        attempt.add_done_callback(lambda _: self._events.put((job, key)))

    def _drop_attempts(self, job: _Job) -> None:
        for attempt in job.attempts.values():
            attempt.cancel()
        job.attempts.clear()

    def _keep(self) -> None:
        """Settle what comes back, and look after the rest."""
        next_look = time.monotonic() + TICK
        while True:
            try:
                event = self._events.get(timeout=max(0.0, next_look - time.monotonic()))
            except queue.Empty:
                next_look = time.monotonic() + TICK
                self._look_after()
                continue
            if event is None:
                return
            with self._lock:
                self._settle(*event)

    def _settle(self, job: _Job, key: str) -> None:
        if job not in self._jobs:
            return
        if job.outer.cancelled():
            self._jobs.discard(job)
            self._drop_attempts(job)
            return
        attempt = job.attempts.pop(key, None)
        if attempt is None:
            return
        if attempt.cancelled():
            self._give_up(
                ClusterError(
                    f"the scheduler at {self.address} was lost or restarted, and the tiles in flight with it. Start it "
                    "and its workers again; a run with a checkpoint goes on with --resume."
                )
            )
            return
        error = attempt.exception()
        if error is None:
            self._done += 1
            self._usual += (time.monotonic() - job.since - self._usual) / min(self._done, 20)
            self._finish(job, lambda outer: outer.set_result(attempt.result()))
        elif isinstance(error, QEngineError):
            self._finish(job, lambda outer: outer.set_exception(error))
        elif isinstance(error, ModuleNotFoundError) and error.name == "qengine":
            self._finish(job, lambda outer: outer.set_exception(_different({"a worker": "none"}, stamp())))
        elif type(error).__name__ == "KilledWorker":
            if job.attempts:  # another attempt is on its way
                return
            if not job.suspect:
                job.suspect, job.cause = True, error
            else:
                self._fail(job, error, "its workers die with it")
        else:
            self._fail(job, error, "it raises on a worker")

    def _finish(self, job: _Job, deliver: Callable[[Future[Any]], None]) -> None:
        self._jobs.discard(job)
        self._drop_attempts(job)
        if job.outer.set_running_or_notify_cancel():
            deliver(job.outer)

    def _fail(self, job: _Job, error: BaseException, how: str) -> None:
        text = TileError(
            f"the tile [{job.start}, {job.stop}) cannot be done, {how}: {type(error).__name__}: {error} It is part of "
            f"{job.task}."
        )
        text.__cause__ = error
        self._finish(job, lambda outer: outer.set_exception(text))

    def _give_up(self, error: QEngineError) -> None:
        """Fail every tile in flight, and those to come."""
        self._lost = error
        for job in list(self._jobs):
            self._finish(job, lambda outer: outer.set_exception(error))

    def _look_after(self) -> None:
        """Count the workers; start suspects, duplicates of late tiles, and tiles whose workers are gone."""
        if not self._jobs:
            return
        try:
            self._look()
        except Exception as error:
            with self._lock:
                gone = time.monotonic() - self._last_seen > self._patience
                if self._lost is None and (gone or self._client.status != "running"):
                    self._give_up(
                        ClusterError(
                            f"the scheduler at {self.address} does not answer any more ({type(error).__name__}: "
                            f"{error}). Start it and its workers again; a run with a checkpoint goes on with --resume."
                        )
                    )
            return
        with self._lock:
            now = time.monotonic()
            if not self._threads:
                if now - self._last_seen > self._patience:
                    self._give_up(self._nobody())
                return
            running = [job for job in self._jobs if job.attempts]
            suspects = [job for job in self._jobs if not job.attempts]
            if not running and suspects:
                self._launch(min(suspects, key=lambda job: job.start))
                return
            late = [
                job for job in running
                if self._done and job.starts < STARTS and not job.suspect
                and now - job.since > max(LATE, LATER * self._usual)
            ]  # fmt: skip
        if late:
            self._duplicate(sorted(late, key=lambda job: job.since))

    def _duplicate(self, late: list[_Job]) -> None:
        """Start late tiles on workers that have a thread to spare."""
        try:
            places = self._client.sync(self._client.scheduler.processing, callback_timeout=scheduler.CONNECT)
        except Exception:  # the next look finds what is wrong
            return
        with self._lock:
            spare = {a: n - len(places.get(a, ())) for a, n in self._threads.items()}
            for job in late:
                there = frozenset(a for a, keys in places.items() if any(key in job.attempts for key in keys))
                idle = [address for address, n in spare.items() if n > 0 and address not in there]
                if job in self._jobs and job.attempts and idle:
                    spare[idle[0]] -= 1
                    self._launch(job, idle)


@contextlib.contextmanager
def connect(cluster: Any, *, backend: str = "cpu", patience: float = PATIENCE) -> Iterator[ClusterExecutor]:
    """Return an executor on a cluster, for a ``with`` statement.

    Parameters
    ----------
    cluster : str or distributed.Client
        ``tcp://HOST:PORT`` (or ``tls://``, ``HOST:PORT``) of a scheduler, the path of a scheduler file (``.json``),
        ``local:N`` for N processes on this machine while the work runs; or an open client, which stays open.
    backend : str
        Where tiles are done: with ``cuda``, on the workers that have a GPU.
    patience : float
        Seconds to wait for a worker, at the beginning and whenever none is left.

    Raises
    ------
    ClusterError
        Without dask; no scheduler or no worker there; workers with another qengine.
    BackendError
        ``cuda``, and no worker has a GPU.
    DomainError, DTypeError, InputFileError
        A text that is no cluster; a scheduler file that is missing.

    Examples
    --------
    >>> from qengine.work.cluster import connect
    >>> with connect("local:0"):
    ...     pass
    Traceback (most recent call last):
        ...
    qengine.exceptions.DomainError: a cluster of this machine is local:N with N in [1, 1024]; got 'local:0'.
    """
    if isinstance(cluster, ClusterExecutor):  # open already, by who wants it for more than this
        yield cluster
        return
    if not isinstance(cluster, str) and not hasattr(cluster, "get_executor"):
        raise DTypeError(f"cluster must be {scheduler.FORMS}, or a distributed.Client; got {type(cluster).__name__}.")
    processes = 0
    if isinstance(cluster, str) and cluster.startswith(scheduler.LOCAL):
        processes = scheduler.processes_of(cluster)
    elif isinstance(cluster, str) and not cluster.endswith(".json") and not scheduler.ADDRESS.fullmatch(cluster):
        raise DomainError(f"cluster must be {scheduler.FORMS}; got {cluster!r}.")
    distributed = scheduler.package()
    with contextlib.ExitStack() as closing:
        client = cluster
        if isinstance(cluster, str):
            closing.enter_context(scheduler.quiet())
            where = closing.enter_context(scheduler.on_this_machine(processes, distributed)) if processes else cluster
            client = closing.enter_context(scheduler.client_of(where, distributed))
        executor = ClusterExecutor(client, backend, patience)
        closing.callback(executor.shutdown)
        yield executor
