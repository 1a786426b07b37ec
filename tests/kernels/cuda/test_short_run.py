"""The program for the sanitizer reaches every kernel; on a device it runs under the sanitizer."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qengine.kernels.cuda import sources
from tests.conftest import serving

from . import short_run
from .device import HostDevice


def test_every_kernel_is_launched(stand_in: HostDevice) -> None:
    short_run.main()
    launched = set(stand_in.launches)
    every = {(room, name) for room in sources.rooms() if room != "primitives" for name in sources.kernels(room)}
    assert every - launched == set()


def test_it_needs_no_more_than_what_is_installed() -> None:
    """It is run by path: the repository is not on the path, and of its packages qengine alone is installed."""
    found = set()
    for node in ast.walk(ast.parse(Path(short_run.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).partition(".")[0])
    assert found - set(sys.stdlib_module_names) == {"numpy", "qengine"}


def test_the_benchmarks_run_it_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import device

    commands: list[list[str]] = []
    monkeypatch.setattr(device.shutil, "which", lambda name, path=None: "/tool")
    monkeypatch.setattr(device, "run", lambda command: (commands.append(command), (0, "no errors"))[1])
    assert device.sanitizer(True)["passed"]
    assert [command[2] for command in commands] == ["memcheck", "racecheck"]
    for command in commands:
        assert command[5:] == [sys.executable, short_run.__file__]


@pytest.mark.cuda
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_sanitizer(tool: str) -> None:
    serving("cuda")
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        pytest.skip("no compute-sanitizer on this machine: it comes with the CUDA toolkit")
    script = Path(__file__).with_name("short_run.py")
    command = [program, "--tool", tool, "--error-exitcode", "86", sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
