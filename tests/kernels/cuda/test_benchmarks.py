"""The benchmarks of the device make calls that work, and their goals belong to their parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import bench_cuda, common, report

from .device import HostDevice


def _once(call: Callable[[], Any], **options: Any) -> float:
    call()
    return 1.0


def test_every_track(stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_cuda, "ELEMENTS", 1 << 12)
    monkeypatch.setattr(bench_cuda, "copy_bandwidth", lambda: 1.0)
    monkeypatch.setattr(bench_cuda, "clock_rate", lambda: 1.0)
    monkeypatch.setattr(bench_cuda, "device_seconds", _once)
    monkeypatch.setattr(common, "best_seconds", lambda call, **options: [_once(call)])
    monkeypatch.setattr(common, "QUICK", True)
    tracks = list(report.tracks("", ("bench_cuda",)))
    classes = {cls for _, cls, _, _ in tracks}
    assert len(tracks) == sum(
        len([m for m in vars(cls) if m.startswith("track_")]) * len(list(itertools.product(*cls.params)))  # type: ignore[attr-defined]
        for cls in classes
    )
    for name, cls, method, parameters in tracks:
        before = len(stand_in.launches)
        row = report.measure(cls, method, parameters)
        assert row["value"] > 0, name
        assert len(stand_in.launches) > before, name


def test_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_cuda.backends, "unavailable", lambda name: "no device here")
    with pytest.raises(NotImplementedError, match="no device here"):
        bench_cuda.require_device()
