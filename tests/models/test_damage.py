"""Damaged files of every format: an error of this package or a correct read, never anything else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from qengine.exceptions import DomainError, DTypeError, InputFileError
from qengine.models.graph import read_graph
from qengine.models.replay import random_inputs
from qengine.models.replay_runtime import record, record_apart
from qengine.models.tensors import open_tensors
from tests.cli.running import qengine
from tests.models.files import every_format, lite_file, onnx_file
from tests.models.networks import Op, Tensor, network, tiny

FILES = ["c.npy", "f.npy", "i.npy", "s.npz", "z.npz", "t.csv", "w.safetensors", "m.tflite", "m.onnx"]


def healthy(file: str, folder: Path) -> bytes:
    if file == "m.tflite":
        return lite_file(folder).read_bytes()
    if file == "m.onnx":
        return onnx_file(folder).read_bytes()
    return every_format(folder)[file].read_bytes()


def outcome(path: Path) -> str:
    """Open a file and read all of it; what is read has to have the shape that was said."""
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            for source in open_tensors(path):
                if source.refusal:
                    continue
                pieces = list(source.chunks(16))
                assert sum(piece.size for piece in pieces) == math.prod(source.shape)
                assert all(piece.dtype == source.values for piece in pieces)
        except (InputFileError, DomainError, DTypeError) as error:
            return type(error).__name__
    return "read"


@pytest.mark.parametrize("file", FILES)
def test_truncated_at_every_place(file: str, tmp_path: Path) -> None:
    whole = healthy(file, tmp_path)
    path = tmp_path / f"broken.{file.split('.')[1]}"
    found = set()
    # The last bytes of the TensorFlow Lite file describe its empty buffer 0, which nothing reads.
    for length in range(0, len(whole) - (6 if file == "m.tflite" else 0), max(1, len(whole) // 400)):
        path.write_bytes(whole[:length])
        found.add(outcome(path))
    path.write_bytes(whole)
    assert outcome(path) == "read"
    assert "InputFileError" in found
    if file not in ("t.csv", "m.onnx"):  # a shorter text is a text, and some prefixes of a protobuf are one
        assert "read" not in found


@pytest.mark.parametrize("file", FILES)
def test_flipped_bytes(file: str, tmp_path: Path, rng: np.random.Generator) -> None:
    whole = healthy(file, tmp_path)
    path = tmp_path / f"broken.{file.split('.')[1]}"
    found = set()
    for _ in range(400):
        broken = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 4000), rng.integers(1, 4)):
            broken[place] = rng.choice([broken[place] ^ (1 << int(rng.integers(8))), 0, 255, int(rng.integers(256))])
        path.write_bytes(bytes(broken))
        found.add(outcome(path))
    assert {"InputFileError", "read"} <= found


def test_a_model_that_brings_the_interpreter_down(tmp_path: Path) -> None:
    """LiteRT aborts on codes without scales: the command says so, and lives."""
    pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra: pip install '.[runtimes]'")
    path = tmp_path / "m.tflite"
    path.write_bytes(network([Tensor((1, 4))] * 3, [Op("ADD", [0, 1], 2, "AddOptions")], [0, 1], [2]))
    ran = qengine("replay", path, "--against", "litert", "--path", "opt")
    assert ran.code == 2
    assert "cannot run it: it was ended by SIGABRT" in ran.err


def test_a_process_of_its_own_records_the_same(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra: pip install '.[runtimes]'")
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny())
    graph = read_graph(path)
    inputs = random_inputs(graph, 3)
    here, apart = (run(graph, inputs, "ref") for run in (record, record_apart))
    assert list(here) == list(apart)
    assert all(np.array_equal(here[k], apart[k]) and here[k].dtype == apart[k].dtype for k in here)
    with pytest.raises(DomainError, match=r"ai-edge-litert .* cannot run it: "):
        record_apart(graph, {0: inputs[0][:, :1]}, "ref")
