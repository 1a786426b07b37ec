"""The CUDA kernels for calibration on the host: the suites of the other back ends, run on the stand-in for a device."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from tests.affine import test_calibrate, test_histogram

from .device import HostDevice

#: What takes longer here than it tells.
ELSEWHERE = {"test_per_group_is_a_loop_over_groups"}


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
        if name.startswith("test_")
        and name not in ELSEWHERE
        and {"backend", "other_backend"} & set(inspect.signature(function).parameters)
    }


globals().update(_of_a_back_end(test_calibrate))
globals().update(_of_a_back_end(test_histogram))
weights = test_calibrate.weights
