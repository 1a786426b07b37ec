"""``qengine runtimes``."""

from __future__ import annotations

import json

import pytest

import qengine as qe
from tests.cli.running import qengine


def test_json_is_the_rows() -> None:
    ran = qengine("runtimes", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == [row.to_dict() for row in qe.profiles()]


def test_filters() -> None:
    args = ("litert", "FC", "opt", "--isa", "arm64", "--version", "2.3")
    rows = json.loads(qengine("runtimes", *args, "--json").out)
    assert {(row["op"], row["path"], row["isa"]) for row in rows} == {("FULLY_CONNECTED", "opt", "aarch64")}
    assert "perchannel-1row" in {row["variant"] for row in rows}
    listed = qengine("runtimes", *args).out
    assert "litert FULLY_CONNECTED" in listed
    assert "CONV_2D" not in listed


def test_one_row_in_full() -> None:
    out = qengine("runtimes", "litert", "MEAN", "opt", "--isa", "x86-64", "--variant", "keepdims").out
    for text in ("f32(i / f32(n * o))", "245760", "width: 16", "optimized/integer_ops/mean.h"):
        assert text in out


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("tflite",), "unknown runtime 'tflite'; known: litert, onnxruntime"),
        (("litert", "GELU"), "unknown op 'GELU' of litert; known: ADD"),
        (("litert", "ADD", "gpu"), "unknown path 'gpu' of litert ADD; known: opt, ref, xnnpack"),
        (("litert", "--isa", "riscv"), "unknown isa 'riscv' of litert; known: aarch64, x86-64"),
        (("--version", "9"), "unknown version '9'; known:"),
        (("--variant", "perrow"), "unknown variant 'perrow'; known:"),
    ],
)
def test_unknown_names(args: tuple[str, ...], text: str) -> None:
    ran = qengine("runtimes", *args)
    assert ran.code == 2
    assert ran.out == ""
    assert text in ran.err
