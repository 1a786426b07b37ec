"""Outputs that cannot be written, narrow terminals, and settings of the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qengine.cli import progress
from qengine.cli.options import emit
from qengine.kernels import compiling
from qengine.report.terminal import Grid, to_text

RUN = [sys.executable, "-m", "qengine"]


def test_closed_standard_output() -> None:
    ran = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *RUN, "schemes"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == "error: standard output is closed.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk() -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run([*RUN, "schemes"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: cannot write the output: No space left")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("setting", ["abc", "0", "-3", "1e3"])
def test_thread_setting_that_is_no_count(setting: str) -> None:
    environment = {**os.environ, "QENGINE_NUM_THREADS": setting}
    command = [*RUN, "sweep", "single", "double", "--pairs", "10"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr == f"error: QENGINE_NUM_THREADS must be an integer in [1, 4096]; got '{setting}'.\n"


@pytest.mark.parametrize("width", ["40", "80", "120", "200"])
def test_no_number_or_name_is_cut(width: str) -> None:
    """A pseudo-terminal of each width shows every figure whole."""
    pty = pytest.importorskip("pty")
    command = [*RUN, "explain", "--acc", "585", "--multiplier", "1527099593", "--shift", "-6"]
    pid, handle = pty.fork()
    if pid == 0:  # pragma: no cover
        os.environ.update(COLUMNS=width, TERM="dumb")
        os.execv(command[0], command)
    text = b""
    while True:
        try:
            part = os.read(handle, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    os.waitpid(pid, 0)
    shown = text.decode()
    assert "…" not in shown
    for figure in ("893353261905", "68719541073", "68719476736", "floor-port", "1527099593"):
        assert figure in shown


def test_a_grid_that_does_not_fit_becomes_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    grid = Grid("Title", "Caption")
    for name in ("first", "second"):
        grid.add_column(name, right=True)
    grid.add_row("1" * 100, "2" * 100)
    lines = to_text(grid).splitlines()
    assert lines[0] == "Title"
    assert lines[1] == "1" * 100
    assert lines[2] == "  second  " + "2" * 100
    assert lines[3] == "Caption"
    small = Grid()
    small.add_column("a")
    small.add_row("b")
    emit([small])
    assert "│ b │" in capsys.readouterr().out


def test_compiling_is_announced_on_a_terminal_once_it_takes_long(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    announcer = progress._Announcer()
    announcer(True)
    announcer._timer.join()
    announcer(False)
    announcer(True)  # the second kernel of a run
    assert announcer._timer is None
    assert capsys.readouterr().err.count("compiling kernels") == 1

    monkeypatch.setattr(progress, "DELAY", 3600.0)
    quick = progress._Announcer()
    quick(True)
    timer = quick._timer
    quick(False)
    timer.join()
    assert capsys.readouterr().err == ""


def test_compiling_is_announced_on_terminals_alone(monkeypatch) -> None:
    monkeypatch.setattr(compiling, "listeners", [])
    progress.announce_compiling()
    assert compiling.listeners == []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress.announce_compiling()
    progress.announce_compiling()
    assert len(compiling.listeners) == 1
