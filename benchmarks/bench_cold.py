"""What a user waits for: import, start of a command, its first call (compiling included) and its second."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from . import common

#: What a user types; the first four are the ones of `--quick`.
COMMANDS = {
    "explain": "explain --acc 585 --scales 0.05296124517917633 0.024093778803944588 0.11484327912330627",
    "sweep, one multiplier": "sweep single double fp32 --multiplier 0.37 --acc uniform --pairs 33.4M --seed 42",
    "sweep, multiplier a pair": "sweep single double fp32 --range 0.01 0.99 --pairs 33.4M --seed 42",
    "sweep, table of scales": "sweep single double fp32 --scales {scales} --pairs 33.4M --seed 42",
    "schemes": "schemes",
    "multiplier": "multiplier 0.37",
    "count, one multiplier": "count single double --multiplier 1527099593 --shift -6",
    "count, table of scales": "count single double fp32 --scales {scales}",
    "census": "census single double --shifts -1 -1",
    "probes": "probes single double fp32 --multiplier 1717986918 --shift -3",
    "identify": "identify {rows}",
    "analyze": "analyze {tensor}",
    "compare": "compare {tensor}",
    "backends": "backends",
    "selftest": "selftest",
}  # fmt: skip


def _seconds(arguments: list[str], cache: str | Path) -> float:
    """Wall-clock seconds of a fresh interpreter that keeps its compiled kernels in `cache`."""
    environment = os.environ | {"QENGINE_CACHE_DIR": str(cache)}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} exited with {done.returncode}: {done.stderr.strip()}")
    return seconds


def _best(arguments: list[str], cache: str | Path) -> float:
    return min(_seconds(arguments, cache) for _ in range(3 if common.QUICK else 7))


def _command(name: str, folder: str | Path) -> list[str]:
    def file(word: str) -> str:
        if word == "{scales}":
            return str(common.scales_file(folder))
        if word == "{rows}":
            return str(common.SAMPLE_SCALES.with_name("identify_example.csv"))
        if word == "{tensor}":
            path = Path(folder) / "tensor.npy"
            np.save(path, np.random.default_rng(2**18 + 9).standard_normal(1 << 16, dtype=np.float32))
            return str(path)
        return word

    return ["-m", "qengine", *map(file, COMMANDS[name].split())]


class Start:
    """Seconds of the whole process, the interpreter's own start included."""

    timeout = 120

    def timeraw_import(self) -> str:
        return "import qengine"

    @common.tracked("s", lambda: 0.15)
    def track_import(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return _best(["-c", "import qengine"], folder)

    @common.tracked("s", lambda: 0.3)
    def track_help(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return _best(["-m", "qengine", "--help"], folder)


class Command:
    """Seconds of the whole process; a first call starts with no compiled kernels."""

    params = (tuple(COMMANDS)[: 4 if common.QUICK else None],)
    param_names = ("command",)
    timeout = 300

    @common.tracked("s", lambda name: None if name == "selftest" else 5.0)
    def track_first_call(self, name: str) -> float:
        seconds = []
        for _ in range(1 if common.QUICK else 3):
            with tempfile.TemporaryDirectory() as folder:
                seconds.append(_seconds(_command(name, folder), Path(folder) / "kernels"))
        return min(seconds)

    @common.tracked("s", lambda name: None if name == "selftest" else 1.0)
    def track_second_call(self, name: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            arguments, cache = _command(name, folder), Path(folder) / "kernels"
            _seconds(arguments, cache)
            return _best(arguments, cache)
