"""What the proofs without a device need; each says why it is skipped where that is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from qengine import backends

from . import build
from .device import HostDevice, install


@pytest.fixture(scope="session")
def shim() -> Callable[..., build.Shim]:
    """``shim(room, order=0)``: the kernels of a room on the host."""
    if build.gxx() is None:
        pytest.skip("no g++ on this machine: the kernels cannot be run on the host")
    return build.shim


@pytest.fixture
def nvrtc() -> Callable[..., build.Compiled]:
    """``nvrtc(text, options)``: compile as CuPy does."""
    if build.nvrtc_library() is None:
        pytest.skip("no NVRTC on this machine: pip install nvidia-cuda-nvrtc-cu12")
    return build.compile_nvrtc


@pytest.fixture
def nvcc() -> Callable[..., object]:
    """``nvcc(room, arch, folder)``: compile to a cubin, with the resources of each kernel."""
    if build.nvcc() is None:
        pytest.skip("no nvcc on this machine")
    return build.compile_nvcc


@pytest.fixture(params=[0, 1, 7], ids=["forward", "backward", "shuffled"])
def device(
    request: pytest.FixtureRequest, shim: Callable[..., build.Shim], monkeypatch: pytest.MonkeyPatch
) -> Iterator[HostDevice]:
    """A device in host memory, in the place of CuPy: ``backend="cuda"`` serves. In three orders of threads."""
    yield install(HostDevice(request.param), monkeypatch)
    backends.load.cache_clear()
    backends._serving.discard("cuda")
