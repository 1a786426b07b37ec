"""The benchmarks of the device make calls that work, and their goals belong to their parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
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
    tracks = [row for row in report.tracks("", ("bench_cuda",)) if row[1] is not bench_cuda.DevicePeers]
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


def test_torch_is_a_peer_where_it_sees_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(bench_cuda.TORCH) <= set(bench_cuda.MATERIALIZED)
    monkeypatch.setattr(bench_cuda, "require_device", lambda: None)
    monkeypatch.setattr(bench_cuda, "find_spec", lambda name: None)
    with pytest.raises(NotImplementedError, match="torch is not installed"):
        report.measure(bench_cuda.DevicePeers, "track_times_faster_than_torch", ("quantize torch",))
    monkeypatch.setattr(bench_cuda, "find_spec", lambda name: name)
    blind = SimpleNamespace(__version__="9.9", cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setattr(bench_cuda.peers, "torch_package", lambda: blind)
    with pytest.raises(NotImplementedError, match=r"torch 9\.9 sees no CUDA device"):
        report.measure(bench_cuda.DevicePeers, "track_times_faster_than_torch", ("quantize torch",))
