"""Where the scheduler of a cluster is: addresses, scheduler files, workers of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..exceptions import ClusterError, DomainError, InputFileError

LOCAL = "local:"
ADDRESS = re.compile(r"((tcp|tls)://)?[^/\s]+:\d+")
FORMS = "tcp://HOST:PORT, the file of a scheduler (.json), or local:N"
#: Seconds to wait for a scheduler to answer.
CONNECT = 10.0
#: Bytes of a scheduler's file at most.
BIGGEST_FILE = 1 << 20
#: A worker of this machine leaves Ctrl-C to the process that started it.
_NO_INTERRUPT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def package() -> Any:
    """Return the package of dask's clusters, or say how to install it."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise ClusterError(
            f"a cluster needs the packages dask and distributed ({error}): pip install 'qengine-numerics[cluster]'."
        ) from error


def processes_of(text: str) -> int:
    """Return the N of ``local:N``."""
    number = text.removeprefix(LOCAL)
    if not number.isdecimal() or not 1 <= int(number) <= 1024:
        raise DomainError(f"a cluster of this machine is local:N with N in [1, 1024]; got {text!r}.")
    return int(number)


def on_this_machine(processes: int, distributed: Any) -> Any:
    """Return a cluster of processes of this machine."""
    import dask

    # A tile that kills its worker is to fail soon: nobody shares this cluster.
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        return distributed.LocalCluster(
            n_workers=processes, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50,
            preload=_NO_INTERRUPT,
        )  # fmt: skip


def _from_file(path: str) -> str:
    """Return the address that a scheduler has written to its file."""
    try:
        if os.path.getsize(path) > BIGGEST_FILE:
            raise ValueError("it is too long")
        address = json.loads(Path(path).read_text(encoding="utf-8"))["address"]
    except FileNotFoundError:
        raise InputFileError(
            f"{path}: there is no such scheduler file; `dask scheduler --scheduler-file` makes it."
        ) from None
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, LookupError, RecursionError):
        address = None
    if not isinstance(address, str) or not ADDRESS.fullmatch(address):
        raise InputFileError(f"{path}: this is no file of a scheduler, which holds its address; start it again.")
    return address


def client_of(given: Any, distributed: Any) -> Any:
    """Return a client of a scheduler at an address, of a scheduler file, or of a cluster object."""
    address = _from_file(given) if isinstance(given, str) and given.endswith(".json") else given
    late = f"no scheduler answers at {given} within {CONNECT:g} s"
    if isinstance(address, str):
        keys = distributed.Security().get_connection_args("client")
        if address.startswith("tls://") and keys.get("ssl_context") is None:
            raise ClusterError(
                f"{address}: tls needs certificates: name them in dask's configuration (distributed.comm.tls), or give "
                "a distributed.Client."
            )
        # In a thread, where no loop runs yet. A client waits without end for what takes a connection and is mute.
        with ThreadPoolExecutor(1) as thread:
            kind = thread.submit(asyncio.run, _kind(address, keys, distributed)).result()
        if kind != "Scheduler":
            raise ClusterError(
                f"{late if kind is None else f'{given} is a {kind}, not a scheduler'}; `dask scheduler` starts one and "
                "prints its address."
            )
    try:
        return distributed.Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"{late} ({type(error).__name__}); `dask scheduler` starts one.") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep dask's own tracebacks of a lost scheduler off stderr, where what it means is told."""
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    before = {name: level for name in known if (level := logging.getLogger(name).level)}
    for name in before:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


async def _kind(address: str, keys: dict[str, Any], distributed: Any) -> str | None:
    """Return what a server of dask says that it is; None where there is none, or it does not say so in time."""

    async def ask() -> str:
        async with distributed.rpc(address, connection_args=keys) as server:
            return str((await server.identity()).get("type"))

    try:
        return await asyncio.wait_for(ask(), CONNECT)
    except Exception:  # refused, cut off, mute, of another protocol: what each raises is of many types
        return None
