"""Dask arrays and files on a cluster: the digits of the array whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.affine import windows
from qengine.affine.error_report import ErrorReport
from qengine.exceptions import ClusterError, DomainError, InputFileError
from qengine.models.tensors import FileTensor
from qengine.work.cluster import connect
from tests.clusters import Processes

da = pytest.importorskip("dask.array", reason="dask is not installed: pip install 'qengine-numerics[cluster]'")

X = np.random.default_rng(8).normal(size=(60, 14, 33)).astype(np.float32)
SPECS: list[dict[str, Any]] = [{"bits": 8}, {"bits": 4, "axis": 1}, {"bits": 4, "group": 10}, {"format": "mxfp4"}]


def assert_same(a: ErrorReport, b: ErrorReport) -> None:
    assert a.to_dict() == b.to_dict()
    for one, other in zip(a.rows, b.rows, strict=True):
        np.testing.assert_array_equal(one.code_counts, other.code_counts)
        np.testing.assert_array_equal(one.error_counts, other.error_counts)


@pytest.mark.parametrize("chunks", [(60, 14, 33), (25, 14, 33), (7, 5, 20), (1, 14, 33)])
def test_blocks_give_the_digits_of_the_whole(chunks: tuple[int, ...]) -> None:
    assert_same(qe.error_report(da.from_array(X, chunks=chunks), SPECS, axis=0), qe.error_report(X, SPECS, axis=0))


def test_dask_arrays_of_all_sorts() -> None:
    for x in (X.reshape(-1), X[0, 0, 0], X.astype(np.int32), X[:, ::-2]):
        if x.any():
            assert_same(qe.error_report(da.asarray(x), {"bits": 5}), qe.error_report(x, {"bits": 5}))
    unknown = da.from_array(X.reshape(-1), chunks=100)
    with pytest.raises(DomainError, match=r"must know its shape.*compute_chunk_sizes"):
        qe.error_report(unknown[unknown > 0], {"bits": 8})
    hole = X.copy()
    hole[3, 2, 1] = np.nan
    with pytest.raises(DomainError, match=r"1 NaN or infinite values, the first at index \(3, 2, 1\)|nonfinite sample"):
        qe.error_report(da.from_array(hole, chunks=(9, 9, 9)), {"params": qe.QuantParams(0.1, 0, -8, 7)})


def test_memory_is_bounded_by_a_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever rows of blocks are too much, they are read in parts; the numbers stay."""
    asked: list[int] = []

    def get(at: tuple[Any, ...]) -> np.ndarray:
        asked.append(X[at].size)
        return X[at]

    for slab in (1, 33, 34, 33 * 14, 5000, 10**9):
        monkeypatch.setattr(windows, "SLAB", slab)
        asked.clear()
        pieces = list(windows.slabs(get, X.shape, 11, 100))
        np.testing.assert_array_equal(np.concatenate(pieces), X.reshape(-1))
        assert max(asked) <= max(slab, 33 if slab >= 33 else 1)
        assert max(asked) <= 11 * 14 * 33
    for start, stop in ((0, X.size), (100, 101), (450, 470), (461, 463), (0, 462), (32, 34), (5, 900)):
        asked.clear()
        np.testing.assert_array_equal(windows.window(get, X.shape, start, stop), X.reshape(-1)[start:stop])
        assert sum(asked) <= 3 * (stop - start)


def test_on_a_cluster(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of files and of dask arrays, statistics too; a few small tiles are enough."""
    from qengine.affine import resolve

    monkeypatch.setattr(resolve, "PART", 1 << 12)
    y = np.random.default_rng(2).normal(size=(3, 1 << 20)).astype(np.float32)
    y[1] *= 7
    folder = tmp_path / "y"
    folder.mkdir()
    for k in range(3):
        np.save(folder / f"{k}.npy", y[k : k + 1])
    specs = [{"bits": 8}, {"bits": 4, "axis": 0}, {"format": "e4m3fn"}]
    here = qe.error_report(y, specs, axis=0)
    monkeypatch.setattr(resolve, "PART", 1 << 20)
    with connect(str(processes.file)) as executor:
        for x in (FileTensor.of(folder, "y"), da.from_array(y, chunks=(1, 1 << 18)) if y.nbytes < 1 << 22 else None):
            if x is not None:
                assert_same(qe.error_report(x, specs, axis=0, cluster=executor), here)
        lazy = da.random.default_rng(3).normal(size=(4, 1 << 18), chunks=(1, 1 << 18)).astype("f4")
        assert_same(qe.error_report(lazy, specs, cluster=executor), qe.error_report(lazy, specs))
        with pytest.raises(DomainError, match=r"a tensor that its workers read themselves.*got ndarray"):
            qe.error_report(y, specs, cluster=executor)
        (folder / "1.npy").unlink()
        with pytest.raises((InputFileError, ClusterError), match=r"1\.npy|must have shape"):
            qe.error_report(FileTensor(str(folder), "y", (3, 1 << 20)), specs, cluster=executor)


def test_large_tasks_are_not_sent(processes: Processes) -> None:
    lazy = da.zeros((1 << 20, 4), chunks=(1 << 18, 4), dtype="f4")
    given = qe.QuantParams(np.full(1 << 20, 0.5), np.zeros(1 << 20, np.int64), -8, 7, axis=0)
    with pytest.raises(DomainError, match=r"at most 8,388,608 are sent"), connect(str(processes.file)) as executor:
        qe.error_report(lazy, given, cluster=executor)
