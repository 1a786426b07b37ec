"""A sweep of minutes in a process of its own, with a checkpoint: time, memory, and the same digest after a resume.

``python benchmarks/report.py --match bench_long``; part of no short choice.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from . import common

#: Pairs, each with a multiplier and an accumulator of its own.
PAIRS = 10**8 if common.QUICK else 10**10


#: Runs a command and says its largest resident set in KiB, which for a child begins at its parent's: this one is small.
MEASURING = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Run(NamedTuple):
    """A finished process: seconds, the largest resident set in MiB, and what it printed."""

    seconds: float
    peak: float
    result: dict[str, Any]


def _sweep(folder: str, *more: str) -> Run:
    command = [
        sys.executable, "-m", "qengine", "sweep", "single", "double", "--pairs", str(PAIRS), "--seed", "42",
        "--range", "0.01", "0.99", "--checkpoint", folder, "--json", *more,
    ]  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURING, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
    peak = int(done.stderr.splitlines()[-1]) / 1024
    return Run(time.perf_counter() - begun, peak, json.loads(done.stdout))


@functools.cache
def _runs() -> tuple[Run, Run]:
    """Return the sweep, and its resume from the checkpoint, which has nothing left to do."""
    with tempfile.TemporaryDirectory() as folder:
        return _sweep(folder), _sweep(folder, "--resume")


class LongSweep:
    """All pairs drawn, two schemes, all threads."""

    timeout = 1800

    @common.tracked("s", lambda: None)
    def track_seconds(self) -> float:
        return _runs()[0].seconds

    @common.tracked("MiB", lambda: None)
    def track_largest_resident_set(self) -> float:
        return _runs()[0].peak

    @common.tracked("s of a resume", lambda: None)
    def track_seconds_of_a_resume(self) -> float:
        return _runs()[1].seconds

    @common.tracked("outputs", lambda: 0.0)
    def track_digests_that_differ(self) -> float:
        first, second = (run.result["digest"] for run in _runs())
        return float(first != second)
