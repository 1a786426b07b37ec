"""Without dask, a cluster is an error that says what to install, and nothing else changes."""

from __future__ import annotations

import sys

import pytest

import qengine as qe
from qengine.exceptions import ClusterError


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    for given in ("local:2", "tcp://127.0.0.1:9"):
        with pytest.raises(
            ClusterError, match=r"needs the packages dask and distributed .*qengine-numerics\[cluster\]"
        ):
            qe.sweep("single", "double", cluster=given, pairs=100)
    assert qe.sweep("single", "double", pairs=100).complete
