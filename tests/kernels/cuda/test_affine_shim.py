"""The CUDA quantization on the host: the suites of the other back ends."""

from __future__ import annotations

import pytest

from tests.affine import test_conventions, test_golden_affine, test_quantize

from .device import HostDevice
from .test_requantize_shim import _of_a_back_end


@pytest.fixture
def backend(stand_in: HostDevice) -> str:
    return "cuda"


@pytest.fixture
def other_backend(stand_in: HostDevice) -> str:
    return "cuda"


#: Loops over every channel and group alone, on the reference: test_affine_device.py compares whole arrays.
SLOW = {"test_channels_equal_a_loop_over_channels", "test_groups_equal_a_loop_over_groups"}
for module in (test_quantize, test_conventions, test_golden_affine):
    globals().update({name: test for name, test in _of_a_back_end(module).items() if name not in SLOW})
committed = test_golden_affine.committed
