"""What the proofs without a device need; each says why it is skipped where that is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from qengine import backends
from tests.conftest import serving

from . import build, sass
from .device import Cuda, HostDevice, install


@pytest.fixture(scope="session")
def shim() -> Callable[..., build.Shim]:
    """``shim(room, order=0)``: the kernels of a room on the host."""
    if build.gxx() is None:
        pytest.skip("no g++ on this machine: the kernels cannot be run on the host")
    return build.shim


@pytest.fixture
def nvrtc() -> build.Nvrtc:
    """``nvrtc(text, options)``: compile as CuPy does."""
    if build.nvrtc_library() is None:
        pytest.skip("no NVRTC on this machine: pip install nvidia-cuda-nvrtc-cu12")
    return build.compile_nvrtc


@pytest.fixture
def nvcc() -> build.Nvcc:
    """``nvcc(room, arch)``: compile to a cubin, with the resources of each kernel."""
    if build.nvcc() is None:
        pytest.skip("no nvcc on this machine")
    return build.compile_nvcc


@pytest.fixture
def nvdisasm() -> None:
    """What `sass` reads machine code with."""
    if sass.disassembler() is None:
        pytest.skip("no nvdisasm on this machine: pip install nvidia-cuda-nvdisasm")


ORDERS = {"backward": 1, "shuffled": 7}


#: Whole suites run these rooms backward on the stand-in alone: there what takes any device runs shuffled, and in both
#: orders with ``--runslow``.
BACKWARD_ELSEWHERE = {
    "test_affine_device.py", "test_calibrate_device.py", "test_errors_device.py", "test_exhaustive.py",
    "test_requantize_device.py", "test_sweep_device.py",
}  # fmt: skip


def pytest_itemcollected(item: pytest.Item) -> None:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if item.path.name in BACKWARD_ELSEWHERE and parameters.get("device") == "backward":
        item.add_marker(pytest.mark.slow)


def _stand_in(order: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostDevice]:
    if build.gxx() is None:
        pytest.skip("no g++ on this machine: the kernels cannot be run on the host")
    yield install(HostDevice(order), monkeypatch)
    backends.load.cache_clear()
    backends._serving.discard("cuda")


@pytest.fixture(params=[*ORDERS, pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostDevice | Cuda]:
    """The real device, and one in host memory that takes CuPy's place, in two orders of threads."""
    if request.param == "cuda":
        serving("cuda")
        yield Cuda()
    else:
        yield from _stand_in(ORDERS[request.param], monkeypatch)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostDevice]:
    """The device in host memory alone, which knows what was launched and waited for."""
    yield from _stand_in(1, monkeypatch)
