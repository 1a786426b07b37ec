"""Every room compiles without a warning: NVRTC with exactly CuPy's options, nvcc for three architectures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qengine.kernels.cuda import sources

from . import build

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


@pytest.mark.parametrize("room", sources.rooms())
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nvrtc(room: str, arch: str, nvrtc: Callable[..., build.Compiled]) -> None:
    compiled = nvrtc(sources.assemble(room), build.nvrtc_options(arch))
    assert compiled.log == ""
    for name in sources.kernels(room):
        assert f".text.{name}".encode() in compiled.binary


@pytest.mark.parametrize("room", sources.rooms())
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nvcc(room: str, arch: str, nvcc: Callable[..., tuple[Path, dict[str, build.Resources]]]) -> None:
    _, resources = nvcc(room, arch)
    assert set(resources) == set(sources.kernels(room))
    spilling = {name: used for name, used in resources.items() if used.spill_stores or used.spill_loads or used.stack}
    assert not spilling
