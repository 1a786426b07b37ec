"""`qengine.sweep` on a cluster of this machine's processes: what a second worker adds, and what the scheduler costs.

A share of 1 is perfect. Both need processors that do nothing else: ``python benchmarks/report.py --match Cluster``
prints the load beside them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from typing import Any

import qengine as qe

from . import common

#: Seconds of work on one thread: a multiplier and an accumulator a pair, both drawn.
SWEEP: dict[str, Any] = {"pairs": 1_600_000_000, "seed": 42, "multiplier_range": (0.01, 0.99)}

if importlib.util.find_spec("distributed"):

    class ClusterScaling:
        """Workers of one thread each, warm, in turns."""

        timeout = 600

        def setup(self) -> None:
            from qengine.work.cluster import connect

            self.stack = contextlib.ExitStack()
            self.places = {n: self.stack.enter_context(connect(f"local:{n}")) for n in (1, 2)}
            for place in self.places.values():
                self._seconds(cluster=place, pairs=1 << 26)

        def teardown(self) -> None:
            self.stack.close()

        @staticmethod
        def _seconds(**options: Any) -> float:
            begun = time.perf_counter()
            result = qe.sweep("single", "double", **SWEEP | options)
            assert result.complete
            return time.perf_counter() - begun

        def _shares(self, *kinds: dict[str, Any]) -> list[float]:
            rounds = 2 if common.QUICK else 4
            turns = [[self._seconds(**kind) for kind in kinds] for _ in range(rounds)]
            return [min(column) for column in zip(*turns, strict=True)]

        @common.tracked("of perfect", lambda: 0.9)
        def track_scaling_from_one_worker_to_two(self) -> float:
            one, two = self._shares({"cluster": self.places[1]}, {"cluster": self.places[2]})
            return one / two / 2

        @common.tracked("of a thread", lambda: 0.9)
        def track_one_worker_against_one_thread(self) -> float:
            worker, thread = self._shares({"cluster": self.places[1]}, {"threads": 1})
            return thread / worker
