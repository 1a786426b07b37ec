"""NumPy files, safetensors, and what every format has in common: names, streaming, limits."""

from __future__ import annotations

import math
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qengine.exceptions import DomainError, DTypeError, InputFileError, UnknownNameError
from qengine.models.tensors import FORMATS, TensorSource, open_tensors
from tests.models.files import every_format, npy_bytes, safetensors_bytes

MIB = 1 << 20


def only(path: Path) -> TensorSource:
    (source,) = open_tensors(path)
    return source


def write(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path


# --- NumPy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "i1", "u1", "<i2", ">u2", "<i4", ">i8", "<u8"]
)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3), (2, 3, 4, 5), (3, 1, 5), (0, 4), (1, 9), (9, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("file", ["w.npy", "s.npz", "z.npz"])
def test_numpy_files_give_the_array(
    file: str, order: Any, shape: tuple[int, ...], dtype: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    expected = np.array(rng.integers(0, 100, shape), dtype, order=order)
    save = {"w.npy": np.save, "s.npz": np.savez, "z.npz": np.savez_compressed}[file]
    save(tmp_path / file, expected)
    source = only(tmp_path / file)
    assert source.name == ("w" if file == "w.npy" else "arr_0")
    assert (source.shape, source.size, source.dtype) == (shape, expected.size, expected.dtype.newbyteorder("=").name)
    assert source.values == ("float32" if expected.dtype.itemsize <= 4 and expected.dtype.kind == "f" else "float64")
    for elements in (1, 2, 4, 7, 1000):
        pieces = list(source.chunks(elements))
        assert all(p.dtype == source.values and p.ndim == 1 and 1 <= p.size <= elements for p in pieces)
        flat = [x for piece in pieces for x in piece.tolist()]
        assert flat == expected.ravel(order="C").astype(float).tolist()
    whole = source.read()
    assert whole.dtype == source.values
    np.testing.assert_array_equal(whole, expected.astype(float))


def test_every_float16_and_special_value_is_kept(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    np.save(tmp_path / "h.npy", bits.view(np.float16))
    got = only(tmp_path / "h.npy").read()
    sign, exponent, fraction = bits >> 15, (bits >> 10).astype(int) & 31, bits.astype(int) & 1023
    finite = exponent < 31
    value = np.where(exponent > 0, (1024 + fraction), fraction) * 2.0 ** (np.maximum(exponent, 1) - 25)
    np.testing.assert_array_equal(got[finite], np.where(sign == 1, -value, value)[finite])
    np.testing.assert_array_equal(np.isnan(got), ~finite & (fraction > 0))
    np.testing.assert_array_equal(np.isinf(got), ~finite & (fraction == 0))


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, -(2**63), 2**63 - 1])
def test_integers_beyond_float64(value: int, tmp_path: Path) -> None:
    array = np.zeros((3, 5), np.int64)
    array[0, 0], array[0, 1], array[2, 3] = 2**53, -(2**53), value
    np.save(tmp_path / "i.npy", array)
    source = only(tmp_path / "i.npy")
    assert next(source.chunks(2)).tolist() == [2.0**53, -(2.0**53)]
    for elements in (2, 100):
        with pytest.raises(DomainError, match=rf"got {value} at flat index 13"):
            list(source.chunks(elements))


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (np.array([True]), "bool"),
        (np.array([1j]), "complex128"),
        (np.array(["a"]), "<U1"),
        (np.array([b"a"]), "S1"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        (np.array([1], "m8[s]"), "timedelta64"),
        (np.array([1], np.longdouble), "longdouble|float128"),
        (np.array([(1, 2.0)], "i4,f4"), "f0"),
        (np.array([{}], object), "never unpickled"),
    ],
)
def test_types_that_are_refused(array: Any, part: str, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", array)
    with pytest.raises(DTypeError, match=part):
        open_tensors(tmp_path / "w.npy")
    np.savez(tmp_path / "w.npz", good=np.ones(3), bad=array)
    good, bad = open_tensors(tmp_path / "w.npz")
    assert good.read().tolist() == [1, 1, 1]
    assert bad.refusal
    with pytest.raises(DTypeError, match=part):
        bad.read()
    with pytest.raises(DTypeError, match=part):
        bad.chunks()
    with pytest.raises(DTypeError, match=part):
        open_tensors(tmp_path / "w.npz", only="bad")


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"


@pytest.mark.parametrize(
    ("contents", "part"),
    [
        (npy_bytes(HEADER.replace("(3,)", "(1000000000000,)"), bytes(140)), r"4000000000000 bytes; the file holds 140"),
        (npy_bytes(HEADER.replace("(3,)", "(10**12,)"), bytes(140)), "damaged"),
        (npy_bytes(HEADER, bytes(11)), "12 bytes; the file holds 11"),
        (npy_bytes(HEADER, bytes(13)), "12 bytes; the file holds 13"),
        (npy_bytes(HEADER.replace("3", "-3"), bytes(12)), "shape"),
        (npy_bytes(HEADER.replace("3", "True"), bytes(4)), "shape"),
        (npy_bytes(HEADER.replace("(3,)", "3"), bytes(12)), "tuple"),
        (npy_bytes(HEADER.replace("(3,)", "(0, 2**70)"), b""), "damaged"),
        (npy_bytes(HEADER.replace("(3,)", f"(0, {2**62}, {2**62})"), b""), "2\\*\\*60"),
        (npy_bytes(HEADER.replace("False", "0"), bytes(12)), "bool"),
        (npy_bytes("{'descr': '<f4'}", bytes(12)), "must hold descr"),
        (npy_bytes("[" * 5000, bytes(12)), "damaged"),
        (npy_bytes("__import__('os').getcwd()", bytes(12)), r"damaged: its header .* got \"__import__"),
        (npy_bytes(HEADER, bytes(12), version=9), "version 9"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "4294967295"),
        (b"\x93NUMP", "ends after 5"),
        (b"PK\x03\x04 something", "must begin with"),
        (b"", r"empty \(0 bytes\)"),
    ],
)
def test_damaged_npy(contents: bytes, part: str, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=part):
        open_tensors(write(tmp_path / "w.npy", contents))


def test_versions_of_npy(tmp_path: Path) -> None:
    data = struct.pack("<3f", 1, -2, 3)
    for version in (1, 2, 3):
        assert only(write(tmp_path / "w.npy", npy_bytes(HEADER, data, version))).read().tolist() == [1, -2, 3]


def test_npz_members(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "text")
        archive.writestr("a.npy", npy_bytes(HEADER, struct.pack("<3f", 1, 2, 3)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", npy_bytes(HEADER, struct.pack("<3f", 4, 5, 6)))
    notes, first, second = open_tensors(path)
    assert (first.name, first.read().tolist()) == ("a", [1, 2, 3])
    assert (second.name, second.read().tolist()) == ("a#2", [4, 5, 6])
    assert "not an array" in notes.refusal
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("a.npy", npy_bytes(HEADER, bytes(12)))
        with pytest.raises(InputFileError, match=f"its method is {method}"):
            open_tensors(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(InputFileError, match="no members"):
        open_tensors(path)


def test_an_archive_that_declares_more_than_it_can_hold(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(8))
    contents = bytearray((tmp_path / "w.npz").read_bytes())
    entry = contents.rindex(b"PK\x01\x02")
    struct.pack_into("<I", contents, entry + 24, 4_000_000_000)  # the declared size of the unpacked member
    with pytest.raises(InputFileError, match=r"declares 4000000000 bytes, packed into \d+, in a file of \d+ bytes"):
        open_tensors(write(tmp_path / "w.npz", bytes(contents)))


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.arange(1000.0))
    contents = bytearray((tmp_path / "w.npz").read_bytes())
    contents[2000] ^= 1
    with pytest.raises(InputFileError, match="CRC"):
        only(write(tmp_path / "w.npz", bytes(contents))).read()


# --- safetensors ----------------------------------------------------------------------------------------------


def test_safetensors_against_the_reference_reader(tmp_path: Path, rng: np.random.Generator) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    library = pytest.importorskip("safetensors.numpy")
    numbers = ["float64", "float32", "float16", "int8", "int16", "int32", "int64"]
    numbers += ["uint8", "uint16", "uint32", "uint64"]
    arrays: dict[str, Any] = {name: rng.integers(0, 100, (3, 5)).astype(name) for name in numbers}
    arrays |= {f"normal {name}": rng.normal(size=(3, 5)).astype(name) for name in numbers[:3]}
    arrays["bfloat16"] = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    arrays["float8_e4m3fn"] = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    arrays["float8_e5m2"] = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e5m2)
    arrays["scalar"], arrays["empty"] = np.array(2.5), np.zeros((0, 3), np.float32)
    library.save_file(arrays, tmp_path / "w.safetensors", {"format": "np"})
    sources = {source.name: source for source in open_tensors(tmp_path / "w.safetensors")}
    assert set(sources) == set(arrays)
    for name, expected in arrays.items():
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(sources[name].read(), expected.astype(np.float64))
        assert sources[name].dtype == expected.dtype.name


def entry(dtype: str, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "data", "part"),
    [
        ({"w": entry("F32", [10**12], 0, 4 * 10**12)}, 8, r"\[0, 8\]; got \[0, 4000000000000\]"),
        ({"w": entry("F32", [10**12], 0, 8)}, 8, "4000000000000 bytes; data_offsets .* are 8"),
        ({"w": entry("F32", [2], 0, 8), "v": entry("F32", [2], 4, 12)}, 12, "'v': begins at byte 4 .* overlaps"),
        ({"w": entry("F32", [1], 0, 4), "v": entry("F32", [1], 8, 12)}, 12, "gap"),
        ({"w": entry("F32", [1], 0, 4)}, 12, "4 bytes; 12 stand behind"),
        ({"w": entry("F32", [1], 8, 4)}, 12, "in order"),
        ({"w": entry("F32", [1], -4, 0)}, 12, "in order"),
        ({"w": entry("F32", [1], 0, True)}, 12, "two integers"),
        ({"w": entry("F32", [1], 0, 4.0)}, 4, "two integers"),
        ({"w": entry("F32", [-1], 0, 4)}, 4, "shape"),
        ({"w": entry("F32", [1.0], 0, 4)}, 4, "shape"),
        ({"w": entry("F32", 1, 0, 4)}, 4, "shape"),
        ({"w": {"dtype": "F32", "shape": [1]}}, 4, "must give"),
        ({"w": 3}, 4, "must give"),
        ([1, 2], 0, "object"),
        (b'{"w": {}, "w": {}}', 0, "twice"),
        (b"[" * 100_000, 0, "damaged"),
        (b'{"w": \xff}', 0, "damaged"),
        (b"{nonsense}", 0, "damaged"),
        ({}, 0, "no tensor"),
    ],
)
def test_damaged_safetensors(header: Any, data: int, part: str, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=part):
        open_tensors(write(tmp_path / "w.safetensors", safetensors_bytes(header, bytes(data))))


def test_safetensors_header_beyond_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"in a file of 10; it declares 72340172838076673"):
        open_tensors(write(tmp_path / "w.safetensors", b"\1" * 10))
    with pytest.raises(InputFileError):
        open_tensors(write(tmp_path / "w.safetensors", b"\1" * 3))


def test_safetensors_types_that_are_refused(tmp_path: Path) -> None:
    header = {"b": entry("BOOL", [4], 0, 4), "w": entry("F32", [1], 4, 8), "c": entry("F4", [8], 8, 12)}
    b, w, c = open_tensors(write(tmp_path / "w.safetensors", safetensors_bytes(header, bytes(12))))
    assert w.read().tolist() == [0]
    for refused in (b, c):
        with pytest.raises(DTypeError, match=r"safetensors dtype \w+ is not read; known: F64"):
            refused.read()


# --- every format ---------------------------------------------------------------------------------------------


def test_only(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, **{"a.weight": np.ones(1), "b.weight": np.ones(2), "b.bias": np.ones(3), "[x]": np.ones(4)})
    assert [s.size for s in open_tensors(path, only="b.bias")] == [3]
    assert [s.size for s in open_tensors(path, only="*.weight")] == [1, 2]
    assert [s.size for s in open_tensors(path, only=["b.*", "a*"])] == [1, 2, 3]
    assert [s.size for s in open_tensors(path, only="[x]")] == [4]
    with pytest.raises(UnknownNameError, match=r"'b\.wieght'.*'b\.weight'"):
        open_tensors(path, only=["a.weight", "b.wieght"])


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones(3))
    for ending in FORMATS:
        with pytest.raises(InputFileError, match=rf"missing\{ending}: cannot be read: No such file"):
            open_tensors(tmp_path / f"missing{ending}")
        (tmp_path / f"folder{ending}").mkdir()
        with pytest.raises(InputFileError, match=rf"folder\{ending}: cannot be read: Is a directory"):
            open_tensors(tmp_path / f"folder{ending}")
        with pytest.raises(InputFileError, match=r"empty \(0 bytes\)|at least one number"):
            open_tensors(write(tmp_path / f"zero{ending}", b""))
        with pytest.raises(InputFileError):
            open_tensors(f"nul\0byte{ending}")
    with pytest.raises(InputFileError, match="this is a folder"):
        open_tensors(tmp_path)
    with pytest.raises(InputFileError, match=r"w\.pt: the ending must say the format; known: \.npy, \.npz, \.csv"):
        open_tensors(write(tmp_path / "w.pt", b"x"))
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InputFileError, match="a regular file is required"):
        open_tensors(tmp_path / "pipe.npy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "w.npy", b"x")
    path.chmod(0)
    with pytest.raises(InputFileError, match="Permission denied"):
        open_tensors(path)


def test_elements_of_a_piece(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones(3))
    source = only(tmp_path / "w.npy")
    with pytest.raises(DomainError, match="at least 1; got 0"):
        source.chunks(0)
    assert [p.size for p in source.chunks(np.int64(2))] == [2, 1]


@pytest.mark.parametrize("file", ["c.npy", "f.npy", "s.npz", "z.npz", "w.safetensors"])
def test_a_file_that_shrinks_after_it_was_opened(file: str, tmp_path: Path) -> None:
    path = every_format(tmp_path)[file]
    sources = open_tensors(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputFileError):
        [source.read() for source in sources]


@pytest.mark.parametrize("file", ["w.npy", "f.npy", "s.npz", "z.npz", "f.npz", "w.safetensors"])
def test_streaming_takes_the_memory_of_a_piece(file: str, tmp_path: Path) -> None:
    """200 MiB in pieces of 4 MiB: the peak stays at a few pieces."""
    rows, columns = 1 << 14, 3200
    path = tmp_path / file
    data = np.lib.format.open_memmap(tmp_path / "m.npy", "w+", np.float32, (rows, columns), file[0] == "f")
    data[-1, -1] = 3
    data.flush()
    del data
    if file.endswith("npy"):
        (tmp_path / "m.npy").rename(path)
    elif file.endswith("npz"):
        method = zipfile.ZIP_DEFLATED if file[0] == "z" else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
            archive.write(tmp_path / "m.npy", "m.npy")
    else:
        with path.open("wb") as out:
            out.write(safetensors_bytes({"m": entry("F32", [rows, columns], 0, 4 * rows * columns)}))
            out.truncate(out.tell() + 4 * rows * columns - 4)
            out.seek(0, os.SEEK_END)
            out.write(struct.pack("<f", 3))
    tracemalloc.start()
    try:
        total, last = 0, math.nan
        for piece in only(path).chunks(MIB):
            total, last = total + piece.size, float(piece[-1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (total, last) == (rows * columns, 3)
    assert peak < 20 * MIB
