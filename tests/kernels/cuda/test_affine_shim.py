"""The CUDA quantization on the host: the suites of the other back ends."""

from __future__ import annotations

from tests.affine import test_conventions, test_golden_affine, test_quantize

from .suites import on_the_stand_in

#: Loops over every channel and group alone, on the reference: test_affine_device.py compares whole arrays.
SLOW = {"test_channels_equal_a_loop_over_channels", "test_groups_equal_a_loop_over_groups"}

globals().update(on_the_stand_in(test_quantize, test_conventions, test_golden_affine, elsewhere=SLOW))
committed = test_golden_affine.committed
