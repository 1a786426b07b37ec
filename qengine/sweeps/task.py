"""A sweep's tile as something to send: the plan goes to a worker, which makes the arrays and the code there."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from .. import backends
from ..backends.pairs import Work
from ..canonical import canonical
from .plan import SweepPlan
from .work import make_work


@dataclass(frozen=True, slots=True, eq=False)
class SweepTask:
    """The tally of the pairs ``[start, stop)`` of a plan, as raw arrays: a pure function, of any process.

    Attributes
    ----------
    plan : SweepPlan
    backend : str
        Back end of the process that does the tile.
    digest : str
        The plan's.
    """

    plan: SweepPlan
    backend: str
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SweepTask) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __call__(self, start: int, stop: int) -> Any:
        """Count a tile."""
        return backends.load(self.backend).sweep_tile(_work(self), start, stop)

    def __str__(self) -> str:
        return f"the sweep {canonical(self.plan.describe()).decode()} on back end {self.backend!r}"


@functools.lru_cache(maxsize=4)
def _work(task: SweepTask) -> Work:
    """Return the plan's arrays, made once a process."""
    return make_work(task.plan)
