"""What the host runs kernels with: barriers, a deadlock that is told, and blocks that follow a failed one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from qengine.kernels.cuda import sources

from . import build

KERNEL = """
#include "runtime.h"
// Each thread adds what its left neighbour wrote before the barrier; thread `missing` does not come to the second one.
void turn(int *out, int missing, int thrower) {
    static int shared[256];
    const int k = (int)threadIdx.x;
    shared[k] = k + (int)blockIdx.x;
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] += shared[(k + (int)blockDim.x - 1) % (int)blockDim.x];
    if (k == thrower) throw std::runtime_error("thrown in a fiber");
    if (k != missing) __syncthreads();
}
QE_SHIM(turn, true)
"""


def test_barriers_and_failures(tmp_path: Path) -> None:
    compiler = build.gxx()
    if compiler is None:
        pytest.skip("no g++ on this machine: the kernels cannot be run on the host")
    (tmp_path / "turn.cpp").write_text(KERNEL)
    include = [f"-I{sources.FOLDER}", f"-I{build.SHIM}"]
    build.run([compiler, *build.GXX_OPTIONS, *include, str(tmp_path / "turn.cpp"), "-o", str(tmp_path / "turn.so")])
    launch = ctypes.CDLL(str(tmp_path / "turn.so")).launch_turn
    launch.restype = ctypes.c_char_p
    out = np.zeros((3, 96), np.int32)

    def run(order: int, missing: int = -1, thrower: int = -1) -> str:
        values = ctypes.c_void_p(out.ctypes.data), ctypes.c_int(missing), ctypes.c_int(thrower)
        pointers = (ctypes.c_void_p * 3)(*(ctypes.addressof(value) for value in values))
        shape, part = (ctypes.c_uint32 * 6)(3, 1, 1, 96, 1, 1), (ctypes.c_uint64 * 2)(0, 3)
        return (launch(shape, part, ctypes.c_uint32(order), ctypes.c_uint32(3), pointers) or b"").decode()

    wanted = (np.arange(96) - 1) % 96 + np.arange(3)[:, None]
    for times, order in enumerate((0, 1, 7), 1):
        assert run(order) == ""
        assert np.array_equal(out, times * wanted)
    assert "deadlock" in run(1, missing=5)
    out[:] = 0
    assert run(1) == "", "the next block starts afresh"
    assert np.array_equal(out, wanted)
    assert run(7, thrower=17) == "thrown in a fiber"
    out[:] = 0
    assert run(0) == ""
    assert np.array_equal(out, wanted)


def test_what_nobody_uses_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_cache", lambda: tmp_path)

    def make(folder: Path) -> None:
        (folder / "text").write_text("made")

    old, used = build.kept("old", ["1"], make), build.kept("used", ["2"], make)
    for folder in (old, used):
        os.utime(folder, (0, 0))
    assert build.kept("used", ["2"], make) == used
    new = build.kept("new", ["3"], make)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted([new.name, used.name])
    assert (used / "text").read_text() == "made"
    assert build.kept("old", ["1"], make) == old
