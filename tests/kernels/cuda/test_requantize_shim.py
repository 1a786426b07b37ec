"""The CUDA requantization on the host: the suite of the other back ends, and what only this one does."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from tests.requant import test_equivalence, test_layouts

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


globals().update(_of_a_back_end(test_equivalence))
globals().update(_of_a_back_end(test_layouts))
acc = test_layouts.acc
