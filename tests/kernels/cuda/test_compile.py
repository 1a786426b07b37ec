"""Every room compiles without a warning for three architectures: NVRTC with exactly CuPy's options, and nvcc.

For sm_90 by both compilers; for the others by one, and by both with ``--runslow``: they compile the same text.
"""

from __future__ import annotations

from typing import Any

import pytest

from qengine.kernels.cuda import sources

from . import build

#: Rooms that nvcc compiles for every architecture all the same, for the budgets of their machine code.
BUDGETED = {"affine", "census", "exhaustive", "requantize", "sweep"}


def cases(compiler: str) -> list[Any]:
    """Every room and architecture; slow is what the other compiler does."""
    return [
        pytest.param(
            arch, room,
            marks=[pytest.mark.slow]
            if build.nvcc() and arch != "sm_90" and (room in BUDGETED) == (compiler == "nvrtc")
            else [],
        )
        for arch in build.ARCHITECTURES
        for room in sources.rooms()
    ]  # fmt: skip


@pytest.mark.parametrize(("arch", "room"), cases("nvrtc"))
def test_nvrtc(room: str, arch: str, nvrtc: build.Nvrtc) -> None:
    compiled = nvrtc(sources.assemble(room), build.nvrtc_options(arch))
    assert compiled.log == ""
    for name in sources.kernels(room):
        assert f".text.{name}".encode() in compiled.binary


@pytest.mark.parametrize("room", sources.rooms())
@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_nvcc(room: str, arch: str, nvcc: build.Nvcc) -> None:
    _, resources = nvcc(room, arch)
    assert set(resources) == set(sources.kernels(room))
    spilling = {name: used for name, used in resources.items() if used.spill_stores or used.spill_loads or used.stack}
    assert not spilling
