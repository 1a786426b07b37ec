"""The CUDA kernels for calibration on the host: the suites of the other back ends."""

from __future__ import annotations

from tests.affine import test_calibrate, test_histogram

from .suites import on_the_stand_in

#: What takes longer here than it tells.
ELSEWHERE = {"test_per_group_is_a_loop_over_groups"}

globals().update(on_the_stand_in(test_calibrate, test_histogram, elsewhere=ELSEWHERE))
weights = test_calibrate.weights
