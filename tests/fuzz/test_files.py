"""Damaged and hostile files: a correct read or an error of this package, in little memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import qengine as qe
from qengine.exceptions import QEngineError
from qengine.models.replay_inputs import read_inputs
from qengine.models.tensors import open_tensors
from tests.fuzz import harness

#: Damaged lines are left out; what is no count is a ValueError, which click shows.
NEVER_REFUSED = ("checkpoint.lines", "count.txt")


def _needs(name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")


def _rounds(name: str, rounds: int, folder: Path, rng: np.random.Generator) -> Counter[str]:
    _needs(name)
    whole = harness.seeds(name, folder)
    assert {harness.outcome(name, content, folder) for content in whole} <= {"read", "DTypeError"}
    found = Counter[str]()
    for _ in range(rounds):
        found[harness.outcome(name, harness.damaged(whole[int(rng.integers(len(whole)))], rng), folder)] += 1
    return found


@pytest.mark.parametrize("name", harness.PARSERS)
def test_damage(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    found = _rounds(name, 200, tmp_path, rng)
    assert (set(found) == {"read"}) == (name in NEVER_REFUSED)


@pytest.mark.slow
@pytest.mark.parametrize("name", harness.PARSERS)
def test_damage_at_length(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    assert _rounds(name, 20_000, tmp_path, rng).total() == 20_000


def _zip_bomb() -> bytes:
    out = io.BytesIO()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 27,)})
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(1 << 24))
    # The directory declares the gigabyte that the header promises.
    return out.getvalue().replace(struct.pack("<I", (1 << 24) + len(header.getvalue())), struct.pack("<I", 1 << 30))


def _npy(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _deep_onnx(depth: int) -> bytes:
    pytest.importorskip("onnx")
    inner = b""
    # AttributeProto.g, NodeProto.attribute, GraphProto.node, again and again; the last is ModelProto.graph.
    for tag in (*(0x32, 0x2A, 0x0A) * depth, 0x3A):
        size, length = len(inner), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        inner = bytes([tag]) + length + bytes([size]) + inner
    return inner


HOSTILE = {
    "zip bomb": ("t.npz", _zip_bomb),
    "header of a petabyte": ("t.npy", lambda: _npy("(1 << 50,)")),
    "shape of 2**47": ("t.npy", lambda: _npy(f"({1 << 47},)")),
    "shape of 2**200": ("t.npy", lambda: _npy(f"({1 << 100}, {1 << 100})")),
    "nested header": ("t.npy", lambda: _npy("(" * 5000 + ")" * 5000)),
    "header longer than the file": ("t.npy", lambda: b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f"),
    "nested JSON": ("t.safetensors", lambda: harness.nested(100_000)),
    "tensors of terabytes": ("t.safetensors", lambda: harness.overlapping(100)),
    "header of 2**63 bytes": ("t.safetensors", lambda: b"\xff" * 7 + b"\x7f{}"),
    "nested graphs": ("t.onnx", lambda: _deep_onnx(2000)),
    "offsets that point at themselves": ("t.tflite", lambda: b"\x04\0\0\0TFL3" + b"\x04\0\0\0" * 2000),
    "offsets beyond the file": ("t.tflite", lambda: b"\xf0\xff\xff\x7fTFL3" + b"\xff" * 400),
    "a model of offsets that point at themselves": ("network.tflite", lambda: b"\x04\0\0\0TFL3" + b"\x04\0\0\0" * 2000),
    "a model of nested graphs": ("audit.onnx", lambda: _deep_onnx(2000)),
    "an input that is a zip bomb": ("inputs.npz", _zip_bomb),
    "an input of 2**47": ("inputs.npy", lambda: _npy(f"({1 << 47},)")),
    "nested checkpoint": ("checkpoint.lines", lambda: b"[" * 100_000 + b"\n"),
    "a cell of a megabyte": ("scales.csv", lambda: b"input_scale,weight_scale,output_scale\n1,2," + b"3" * (1 << 20)),
    "a count of a megabyte": ("count.txt", lambda: b"9" * (1 << 20)),
    "a field of a megabyte": ("t.csv", lambda: b"1,2\n" + b"9" * (1 << 20)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_little_memory(case: str, tmp_path: Path) -> None:
    name, content = HOSTILE[case]
    hostile = content()
    tracemalloc.start()
    try:
        found = harness.outcome(name, hostile, tmp_path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found == "read") == (name in NEVER_REFUSED)
    assert most < 48 << 20


@pytest.mark.parametrize("name", ["\0", "\ud800", "x" * 5000, "", ".", "/", "t.npy/", "nul\0.npy", "\ud800.npy"])
def test_names_that_no_file_has(name: str) -> None:
    with pytest.raises(QEngineError):
        open_tensors(name)
    with pytest.raises(QEngineError):
        read_inputs(harness.network(), name)
    for model in (name, f"{name}.onnx"):
        with pytest.raises(QEngineError):
            qe.audit(model)
    for reader in (harness.read_scales, harness.read_rows):
        with pytest.raises(QEngineError):
            reader(name)
        with pytest.raises(QEngineError):
            reader(f"{name}.csv")
