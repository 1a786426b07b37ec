"""Threads, forks, signals and hostile surroundings, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.cli.running import process

SWEEP = ["sweep", "single", "double", "--pairs", "1000", "--json"]
#: One thread runs each public question on few numbers; all threads must get the same bits.
TOGETHER = """
import os, sys, threading, warnings
warnings.simplefilter("error")
import qengine as qe, numpy as np

acc, x = np.arange(-500, 500, dtype=np.int32), np.linspace(-3, 3, 500).astype(np.float32)

def answers():
    p = qe.choose_qparams(x)
    found = [
        qe.requantize(acc, 0.0113, scheme="fp32", dtype="int8").tobytes(),
        qe.sweep("single", "double", pairs=5000, seed=3).digest,
        qe.count_divergence("single", "fp32", 0.0113, dtype="int8"),
        qe.quantize(x, p).tobytes(),
        qe.identify([2, -2, 1], [1, 0, 0], multiplier=0.25).ranking[0].scheme,
        qe.encode(x, "e4m3fn").tobytes(),
        qe.explain(5, 0.25).by_output(),
    ]
    with qe.use_backend("reference"):
        found.append(qe.requantize(acc, 0.0113, scheme="fp32", dtype="int8").tobytes())
    return found

many, found = threading.Barrier(16), []

def one():
    many.wait()
    found.append(answers())

threads = [threading.Thread(target=one) for _ in range(16)]
[t.start() for t in threads]
[t.join() for t in threads]
assert len(found) == 16 and all(f == found[0] for f in found), found
big = np.arange(1 << 20, dtype=np.int32)  # split over a pool of threads
before = qe.requantize(big, 0.0113).tobytes()
if hasattr(os, "fork"):
    warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside threads
    child = os.fork()
    if not child:
        same = answers() == found[0] and qe.requantize(big, 0.0113).tobytes() == before
        os._exit(0 if same else 9)
    assert os.waitpid(child, 0)[1] == 0
print("the same")
"""


def _together(cache: str | None) -> None:
    environment = os.environ | ({} if cache is None else {"QENGINE_CACHE_DIR": cache})
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TOGETHER)], capture_output=True, text=True, timeout=300, check=False,
        env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "the same\n", "")


def test_sixteen_threads_and_a_fork() -> None:
    _together(None)


@pytest.mark.slow
def test_sixteen_threads_compile_at_once(tmp_path: Path) -> None:
    _together(str(tmp_path))


@pytest.mark.slow
def test_processes_that_start_at_once_share_an_empty_cache(tmp_path: Path) -> None:
    environment = os.environ | {"QENGINE_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-m", "qengine", *SWEEP], env=environment, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert len({json.loads(one.communicate()[0])["digest"] for one in started}) == 1
    assert {one.returncode for one in started} == {0}
    assert not list(tmp_path.rglob(".partial*"))


@pytest.mark.skipif(os.name != "posix", reason="shells of POSIX close descriptors")
@pytest.mark.parametrize(("closed", "code", "prints"), [("2>&-", 0, True), ("<&-", 0, True), (">&-", 1, False)])
def test_closed_streams(closed: str, code: int, prints: bool) -> None:
    command = f"{sys.executable} -m qengine {' '.join(SWEEP)} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, bool(done.stdout)) == (code, prints)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "setuid") or os.name != "posix" or os.geteuid() != 0, reason="needs root")
def test_a_user_without_a_home() -> None:
    program = """
        import os
        os.environ.pop("HOME", None); os.environ.pop("XDG_CACHE_HOME", None); os.environ.pop("QENGINE_CACHE_DIR", None)
        from qengine.kernels.cpu import jit
        jit.source_digest()
        os.setuid(54321)
        print(jit.cache_directory.__wrapped__())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"QENGINE_CACHE_DIR": ""},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


@pytest.mark.parametrize(("variable", "value"), [("QENGINE_NUM_THREADS", "9" * 5000), ("QENGINE_BACKEND", "x" * 3000)])
def test_bad_settings_are_told_in_a_line(variable: str, value: str) -> None:
    ran = process(*SWEEP, env=os.environ | {variable: value})
    assert ran.code == 2
    assert re.fullmatch(r"error: .*\n", ran.err)


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is sent to one process")
@pytest.mark.parametrize("phase", ["click", "qengine.cli.sweep", "numba"])
def test_ctrl_c_while_modules_are_imported(phase: str) -> None:
    program = f"""
        import importlib.abc, os, signal, sys
        class Interrupting(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == {phase!r}:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupting())
        from qengine.cli import main
        main({SWEEP!r})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "interrupted"
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc")
def test_a_sweep_of_ten_to_the_eleven_pairs_runs_in_constant_memory() -> None:
    command = [sys.executable, "-m", "qengine", "sweep", "single", "double", "--pairs", "1e11", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        seen = []
        for _ in range(4):
            time.sleep(8)
            seen.append(int(Path(f"/proc/{run.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        run.send_signal(signal.SIGINT)
        assert run.stdout is not None
        data = json.loads(run.stdout.read())
    assert data["complete"] is False
    assert data["pairs"] > 10**9
    assert max(seen[1:]) < seen[1] + (8 << 20)
