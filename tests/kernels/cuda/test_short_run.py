"""The program for the sanitizer reaches every kernel; on a device it runs under the sanitizer."""

from __future__ import annotations

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
