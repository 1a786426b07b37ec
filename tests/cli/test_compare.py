"""``qengine compare``: every combination, ranked; what cannot be, with its reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.affine.metrics import HIGHER_IS_BETTER
from tests.cli.running import qengine
from tests.cli.test_analyze import EXAMPLE, as_json, many, table

__all__ = ["many"]


def test_compare_ranks_every_combination(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 50))
    np.save(tmp_path / "x.npy", x)
    args = ("--bits", "4,8", "--mode", "all", "--method", "minmax,mse", "--format", "mxfp4,e4m3fn", "--rank", "mse")
    data = as_json(qengine("compare", tmp_path / "x.npy", *args, "--json"))
    specs = [
        *qe.QuantSpec.grid(bits=(4, 8), mode=("symmetric", "asymmetric"), method=("minmax", "mse")),
        qe.QuantSpec(format="mxfp4"), qe.QuantSpec(format="e4m3fn"),
    ]  # fmt: skip
    report = qe.error_report(x, specs)
    report = dataclasses.replace(report, rows=report.ranked("mse"))
    (tensor,) = data["tensors"]
    assert data["combinations"] == len(specs) == len(tensor["rows"])
    assert [row["mse"] for row in tensor["rows"]] == [row.mse for row in report.rows]
    assert tensor["best"] == {name: report.best(name).label for name in HIGHER_IS_BETTER}
    assert tensor["left_out"] == []


def test_compare_prints_the_best() -> None:
    ran = qengine("compare", EXAMPLE, "--bits", "2:8", "--top", "3")
    assert ran.code == 0
    assert "Best under each metric" in ran.out
    assert "4 more choices are not shown" in ran.out
    lines = [line.split("│")[2].strip() for line in ran.out.splitlines() if line.startswith("│ ") and " int" in line]
    assert lines[:3] == ["int8 symmetric minmax", "int7 symmetric minmax", "int6 symmetric minmax"]


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ((), ["int8 symmetric minmax"]),
        (("--format", "mxfp4"), ["mxfp4"]),
        (("--format", "mxfp4", "--bits", "4"), ["int4 symmetric minmax", "mxfp4"]),
        (("--range", "-1", "1"), ["int8 symmetric [-1, 1]"]),
        (("--range", "-1", "1", "--range", "mse"), ["int8 symmetric [-1, 1]", "int8 symmetric mse"]),
        (("--range", "minmax,mse"), ["int8 symmetric minmax", "int8 symmetric mse"]),
        (("--axis", "1"), ["int8 symmetric minmax channel(axis 1)"]),
        (("--group", "4,8"), [f"int8 symmetric minmax group {n}(axis -1)" for n in (4, 8)]),
        (
            ("--granularity", "all", "--group", "5"),
            [f"int8 symmetric minmax{scales}" for scales in ("", " channel(axis 0)", " group 5(axis -1)")],
        ),
        (("--convention", "calculator,ort"), ["int8 symmetric minmax", "int8 symmetric minmax onnx"]),
        (("--rounding", "rne,floor"), [f"int8 symmetric minmax {name}" for name in ("half-even", "floor")]),
        (("--format", "mxfp4,e4m3fn", "--scale-rounding", "floor,ceil"),
         ["mxfp4 scale-floor", "mxfp4 scale-ceil", "e4m3fn minmax"]),
        (("--format", "e4m3fn", "--range", "-2", "2"), ["e4m3fn [-2, 2]"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_is_compared(options: tuple[str, ...], labels: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(3).normal(size=(6, 20)))
    (tensor,) = as_json(qengine("compare", tmp_path / "x.npy", *options, "--json"))["tensors"]
    assert sorted(row["spec"]["label"] for row in tensor["rows"]) == sorted(labels)


def test_all_is_every_row() -> None:
    from qengine.affine.calibrate import METHODS
    from qengine.affine.rounding import ROUNDINGS

    def seen(*options: str) -> list[dict[str, Any]]:
        (tensor,) = as_json(qengine("compare", EXAMPLE, *options, "--json"))["tensors"]
        return [row["spec"] for row in [*tensor["rows"], *tensor["left_out"]]]

    def of(specs: list[dict[str, Any]], name: str, default: str) -> list[str]:
        return sorted(spec.get(name, default) for spec in specs if "spec" not in spec)

    assert of(seen("--rounding", "all"), "rounding", "") == sorted(ROUNDINGS)
    assert of(seen("--method", "all"), "method", "") == sorted(METHODS)
    assert seen("--range", "all") == seen("--method", "all")
    assert of(seen("--format", "all"), "format", "") == sorted(row.name for row in qe.formats())
    assert of(seen("--convention", "all"), "convention", "calculator") == sorted(row.name for row in qe.conventions())


def test_what_cannot_be_is_left_out_with_its_reason() -> None:
    args = (
        "compare",
        EXAMPLE,
        "--bits",
        "10:13",
        "--mode",
        "all",
        "--method",
        "entropy",
        "--codes",
        "unsigned",
        "--narrow",
    )
    data = as_json(qengine(*args, "--json"))
    (tensor,) = data["tensors"]
    assert data["combinations"] == 8
    assert len(tensor["rows"]) == 2
    assert len(tensor["left_out"]) == 6
    reasons = [item["reason"] for item in tensor["left_out"]]
    assert sum("narrow must be False" in reason for reason in reasons) == 4
    assert sum("fewer than 2048 levels" in reason for reason in reasons) == 2
    text = qengine(*args).out
    assert "Left out: 6 combinations that cannot be" in text
    assert "narrow must be False" in text


def test_compare_of_many_tensors(many: Path) -> None:
    ran = qengine("compare", many, "--bits", "4", "--mode", "all")
    assert ran.code == 0
    for text in ("Best choice of each tensor", "How often a choice is best", "Not measured"):
        assert text in ran.out
    lines = table(qengine("compare", many, "--bits", "4", "--mode", "all", "--csv", "-").out)
    assert len(lines) == 6
    assert {line["tensor"] for line in lines} == {"good", "better", "exact"}
