"""`qengine.sweep` on the CPU: one multiplier, a fresh random multiplier a pair, a table of scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qengine as qe

from . import common


@dataclass(frozen=True)
class Case:
    """A sweep at full size, and how many of its pairs the reference can do in a second or so."""

    schemes: tuple[str, ...]
    pairs: int
    reference_pairs: int
    goal: float | None
    options: dict[str, Any]


def _scales() -> Any:
    return common.SAMPLE_SCALES if common.SAMPLE_SCALES.exists() else common.scale_columns()


ONE = {"multiplier": 0.37}
DRAWN = {"multiplier_range": (0.01, 0.99)}
CASES = {
    "one multiplier, every accumulator, single double":
        Case(("single", "double"), 1 << 29, 1 << 23, 2.5, ONE | {"acc": "all"}),
    "one multiplier, every accumulator, single fp32":
        Case(("single", "fp32"), 1 << 29, 1 << 23, 2.5, ONE | {"acc": "all"}),
    "one multiplier, uniform draws, single double":
        Case(("single", "double"), 1 << 28, 1 << 23, 2.5, ONE | {"acc": "uniform"}),
    "one multiplier, uniform draws, single fp32":
        Case(("single", "fp32"), 1 << 28, 1 << 23, 2.5, ONE | {"acc": "uniform"}),
    "multiplier a pair, single double":
        Case(("single", "double"), 1 << 26, 1 << 22, 0.4, DRAWN),
    "multiplier a pair, single double fp32":
        Case(("single", "double", "fp32"), 1 << 26, 1 << 22, 0.4, DRAWN),
    "table of scales, single double":
        Case(("single", "double"), 1 << 24, 1 << 22, None, {"scales": _scales}),
    "table of scales, single double fp32":
        Case(("single", "double", "fp32"), 1 << 24, 1 << 22, None, {"scales": _scales}),
}  # fmt: skip


def _call(name: str, pairs: int, **options: Any) -> Callable[[], Any]:
    """Return the timed call: the whole sweep, from choices to result."""
    case = CASES[name]
    chosen = {key: value() if callable(value) else value for key, value in case.options.items()}
    if chosen.get("acc") == "all":
        chosen["acc"] = f"all:{-pairs // 2}:{pairs // 2 - 1}"
    elif chosen.get("acc") == "uniform":
        chosen["acc"] = f"uniform:{-(1 << 20)}:{(1 << 20) - 1}"
    return lambda: qe.sweep(*case.schemes, pairs=pairs, seed=42, **chosen, **options)


class Sweep(common.Timed):
    """The whole call, on one thread and on all."""

    params = (tuple(CASES), ("one", "all"))
    param_names = ("sweep", "threads")
    repeat = (3, 5, 2.0)

    def setup(self, name: str, threads: str) -> None:
        count = 1 if threads == "one" else common.processors()
        self.call = _call(name, CASES[name].pairs, threads=count)
        _call(name, 1 << 16, threads=count)()

    def time_sweep(self, name: str, threads: str) -> None:
        self.call()


class SweepRate:
    """Pairs/s a core: with all threads, the rate divided by their number."""

    params = (tuple(CASES), ("one", "all"))
    param_names = ("sweep", "threads")
    timeout = 300

    @common.tracked("G pairs/s", lambda name, threads: CASES[name].goal)
    def track_pairs_per_second_per_core(self, name: str, threads: str) -> float:
        count = 1 if threads == "one" else common.processors()
        pairs = CASES[name].pairs
        (seconds,) = common.best_seconds(_call(name, pairs, threads=count), rounds=3)
        return pairs / seconds / count / 1e9


class SweepReference:
    """The same plan on the reference back end, both on one thread."""

    params = (tuple(CASES),)
    param_names = ("sweep",)
    timeout = 300

    @common.tracked("times", lambda name: 50.0)
    def track_ratio_to_reference(self, name: str) -> float:
        pairs = CASES[name].reference_pairs
        calls = [_call(name, pairs, threads=1, backend=backend) for backend in ("cpu", "reference")]
        if calls[0]().digest != calls[1]().digest:
            raise AssertionError(f"the back ends disagree on {name!r}")
        ours, reference = common.best_seconds(*calls, rounds=3)
        return reference / ours
