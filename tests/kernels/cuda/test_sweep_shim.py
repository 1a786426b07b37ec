"""The CUDA sweep on the host: the suite of the other back ends."""

from __future__ import annotations

from tests.sweeps import test_tiles

from .suites import on_the_stand_in

globals().update(on_the_stand_in(test_tiles))
