"""Schedulers and workers of dask as processes of their own, on loopback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Processes:
    """A scheduler and its workers. Whatever happens, `stop` ends them; left alone, they end by themselves."""

    def __init__(self, folder: Path, workers: int = 0) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start(
            "scheduler", "--port", "0", "--scheduler-file", str(self.file), "--idle-timeout", "900 s",
            "--no-show", "--no-dashboard",
        )  # fmt: skip
        until(lambda: self.file.exists() and self.file.read_text().endswith("}"), "the scheduler's file")
        for _ in range(workers):
            self.add()

    def _start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{kind}-{len(self.processes)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options], cwd=self.folder, stdout=log,
                stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def add(self, threads: int = 1) -> subprocess.Popen[bytes]:
        """Start a worker; it comes when it comes."""
        worker = self._start(
            "worker", "--scheduler-file", str(self.file), "--nthreads", str(threads), "--no-nanny", "--no-dashboard",
            "--death-timeout", "60 s", "--local-directory", str(self.folder),
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """Return the workers that run."""
        return [worker for worker in self.workers if worker.poll() is None]

    def stop(self) -> None:
        """End every process."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Wait for a condition, which the operating system brings about sooner or later."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)
