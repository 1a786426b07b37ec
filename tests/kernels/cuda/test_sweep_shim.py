"""The CUDA sweep on the host: the suite of the other back ends, on a stand-in for the device."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from tests.sweeps import test_tiles

from .device import HostDevice


@pytest.fixture
def backend(stand_in: HostDevice) -> str:
    return "cuda"


@pytest.fixture
def other_backend(stand_in: HostDevice) -> str:
    return "cuda"


def _of_a_back_end(module: ModuleType) -> dict[str, object]:
    return {
        name: function
        for name, function in vars(module).items()
        if name.startswith("test_") and {"backend", "other_backend"} & set(inspect.signature(function).parameters)
    }


globals().update(_of_a_back_end(test_tiles))
