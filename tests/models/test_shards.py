"""Tensors in many files, in Parquet and in Zarr: the same numbers as the array whole, from any place."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.exceptions import DomainError, DTypeError, InputFileError
from qengine.models import parquet_file
from qengine.models.tensors import FileTensor, open_tensors

X = np.random.default_rng(5).normal(size=(23, 7, 3)).astype(np.float32)


def assert_same_as(path: Any, expected: np.ndarray, name: str | None = None) -> None:
    """All of it, in pieces of every kind, and windows from any place to any other."""
    (source,) = open_tensors(path, only=name)
    assert source.shape == expected.shape
    flat = expected.reshape(-1)
    np.testing.assert_array_equal(source.read(), expected)
    assert source.read().dtype == source.values
    for elements in (1, 5, 100, 10**6):
        pieces = list(source.chunks(elements))
        assert max(piece.size for piece in pieces) <= elements
        np.testing.assert_array_equal(np.concatenate(pieces), flat)
    rng = np.random.default_rng(1)
    for start, stop in [(0, flat.size), (0, 0), (flat.size, flat.size), *np.sort(rng.integers(0, flat.size, (30, 2)))]:
        np.testing.assert_array_equal(source.window(int(start), int(stop)), flat[start:stop])
    for start, stop in ((-1, 2), (3, 2), (0, flat.size + 1)):
        with pytest.raises(DomainError, match=r"a window must lie within"):
            source.window(start, stop)


def shards(folder: Path, x: np.ndarray, sizes: list[int]) -> None:
    """Write parts of an array; their numbers have no leading zeros."""
    edges = np.cumsum([0, *sizes])
    for k, (start, stop) in enumerate(itertools.pairwise(edges)):
        np.save(folder / f"w-{k}.npy", x[start:stop])


def test_windows_of_one_file(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", X)
    assert_same_as(tmp_path / "w.npy", X)
    np.save(tmp_path / "i.npy", np.arange(-20, 40, dtype=np.int16).reshape(3, 20))
    assert_same_as(tmp_path / "i.npy", np.arange(-20, 40, dtype=np.float64).reshape(3, 20))
    torch = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    torch.save_file({"a": X, "b": X[:2].astype(np.float16)}, tmp_path / "w.safetensors")
    assert_same_as(tmp_path / "w.safetensors", X, "a")
    assert_same_as(tmp_path / "w.safetensors", X[:2].astype(np.float16).astype(np.float32), "b")


def test_shards_are_one_tensor(tmp_path: Path) -> None:
    """Twelve of them, so that 10 comes after 9; one is empty."""
    folder = tmp_path / "weights"
    folder.mkdir()
    shards(folder, X, [2, 1, 3, 0, 2, 1, 1, 4, 2, 2, 1, 4])
    assert_same_as(folder, X)
    assert_same_as(folder / "w-*.npy", X)
    assert_same_as(folder / "w-[0-2].npy", X[:6])
    (source,) = open_tensors(folder)
    assert (source.name, source.note) == ("weights", "12 shards")
    assert open_tensors(folder / "w-*.npy")[0].name == "w"
    spec = {"bits": 4, "axis": 0}
    assert qe.error_report(source, spec).to_dict() == qe.error_report(X, spec).to_dict()
    (folder / "other.csv").write_text("1\n")
    with pytest.raises(InputFileError, match=r"several endings \(\.csv, \.npy\), and shards have one.*\*\.csv"):
        open_tensors(folder)


def test_shards_that_do_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "w0.npy", X)
    np.save(tmp_path / "w1.npy", X[:, :6])
    with pytest.raises(InputFileError, match=r"w1\.npy: shards have one type.*this one is float32 of \(23, 6, 3\)"):
        open_tensors(tmp_path / "w*.npy")
    np.save(tmp_path / "w1.npy", X.astype(np.float64))
    with pytest.raises(InputFileError, match=r"w1\.npy: .*this one is float64"):
        open_tensors(tmp_path / "w*.npy")
    np.save(tmp_path / "w1.npy", np.float32(3))
    with pytest.raises(InputFileError, match=r"w1\.npy: .*of \(\)"):
        open_tensors(tmp_path / "w*.npy")
    with pytest.raises(InputFileError, match=r"no file of tensors here has a name of this pattern"):
        open_tensors(tmp_path / "v*.npy")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputFileError, match="this is a folder without a file of tensors"):
        open_tensors(tmp_path / "none")


def test_files_that_are_read_from_the_beginning_alone(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", w=X)
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    for path in (tmp_path / "w.npz", tmp_path / "f.npy"):
        (source,) = open_tensors(path)
        with pytest.raises(DomainError, match=r"read from its beginning alone.*save the tensor as \.npy"):
            source.window(0, 5)


def test_a_file_by_name(tmp_path: Path) -> None:
    """It says where the tensor is, and sees that the file is another one now."""
    np.save(tmp_path / "w.npy", X)
    tensor = FileTensor.of(tmp_path / "w.npy", "w")
    np.testing.assert_array_equal(tensor.window(5, 50), X.reshape(-1)[5:50])
    np.testing.assert_array_equal(np.concatenate(list(tensor.chunks(9))), X.reshape(-1))
    np.save(tmp_path / "w.npy", X[:3])
    with pytest.raises(InputFileError, match=r"must have shape \(23, 7, 3\).*here it has \(3, 7, 3\)"):
        tensor.window(5, 50)


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'qengine-numerics[parquet]'")
    from pyarrow import parquet

    flat = X.reshape(-1)
    columns = {
        "f": arrow.array(flat), "i": arrow.array(np.arange(flat.size, dtype=np.int8)),
        "v": arrow.FixedSizeListArray.from_arrays(arrow.array(np.repeat(flat, 2)), 2),
        "t": arrow.array(["x"] * flat.size), "n": arrow.array([None, *flat[1:].tolist()], arrow.float32()),
    }  # fmt: skip
    path = tmp_path / "t.parquet"
    parquet.write_table(arrow.table(columns), path, row_group_size=100)
    assert_same_as(path, flat, "f")
    assert_same_as(path, np.arange(flat.size).astype(np.int8).astype(np.float64), "i")
    assert_same_as(path, np.repeat(flat, 2).reshape(-1, 2), "v")
    with pytest.raises(InputFileError, match=r"column 'n': row group 0 holds null values"):
        open_tensors(path, only="n")[0].read()
    with pytest.raises(DTypeError, match="a column of type string is not read"):
        open_tensors(path, only="t")
    for k in (2, 10):
        parquet.write_table(arrow.table({"a": flat[k:], "b": flat[:-k]}), tmp_path / f"s-{k}.parquet")
    assert_same_as(tmp_path / "s-*.parquet", np.concatenate([flat[2:], flat[10:]]), "a")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputFileError, match=r"t\.parquet: "):
        open_tensors(path)


def test_parquet_that_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns of one name would be the first twice; a row group is held whole."""
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'qengine-numerics[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table([arrow.array([1.0, 2.0]), arrow.array([3.0, 4.0])], names=["a", "a"])
    parquet.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(InputFileError, match="'a' is the name of several"):
        open_tensors(tmp_path / "twice.parquet")
    parquet.write_table(arrow.table({"a": [1.0, 2.0, 3.0]}), tmp_path / "w.parquet")
    monkeypatch.setattr(parquet_file, "LARGEST_GROUP", 2)
    with pytest.raises(DTypeError, match="row group of more than 2 values is not read: write the file with smaller"):
        open_tensors(tmp_path / "w.parquet")


def test_a_zarr_of_one_giant_chunk(tmp_path: Path) -> None:
    """Nothing is stored, 64 GiB would be held."""
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'qengine-numerics[zarr]'")
    zarr.open(str(tmp_path / "w.zarr"), mode="w", shape=(2**34,), chunks=(2**34,), dtype="f4")
    with pytest.raises(DTypeError, match="store the array in smaller ones"):
        open_tensors(tmp_path / "w.zarr")


def test_zarr(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'qengine-numerics[zarr]'")
    path = tmp_path / "x.zarr"
    stored = zarr.create_array(str(path), shape=X.shape, chunks=(5, 7, 2), dtype="f4")
    stored[:] = X
    assert_same_as(path, X)
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    for name, values in (("a", X), ("inner/b", np.arange(30, dtype=np.int16).reshape(5, 6))):
        one = group.create_array(name, shape=values.shape, chunks=values.shape, dtype=values.dtype)
        one[:] = values
    assert [source.name for source in open_tensors(tmp_path / "g.zarr")] == ["a", "inner/b"]
    assert_same_as(tmp_path / "g.zarr", np.arange(30).reshape(5, 6).astype(np.float64), "inner/b")
    (tmp_path / "no.zarr").mkdir()
    with pytest.raises(InputFileError, match=r"no\.zarr: "):
        open_tensors(tmp_path / "no.zarr")
