"""The CUDA requantization on the host: the suites of the other back ends."""

from __future__ import annotations

from tests.requant import test_equivalence, test_layouts

from .suites import on_the_stand_in

globals().update(on_the_stand_in(test_equivalence, test_layouts))
acc = test_layouts.acc
