"""``qengine identify`` and ``qengine probes``: what they print and write is what the functions say."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.identification.identify import identify_rows
from qengine.identification.row_files import read_rows
from qengine.report.identify import COLUMNS
from tests.cli.running import ISSUE, ROOT, Ran, process, qengine

EXAMPLE = ROOT / "tests" / "data" / "identify_example.csv"
TENTH = ("--multiplier", "1717986918", "--shift", "-3")


def as_json(ran: Ran, code: int = 0) -> Any:
    assert ran.code == code, ran.err
    assert ran.err == ""
    return json.loads(ran.out, parse_constant=pytest.fail)


@pytest.fixture
def clamped(tmp_path: Path) -> Path:
    path = tmp_path / "clamped.csv"
    path.write_text("acc,output\n99999,127\n-99999,-128\n")
    return path


# --- identify ---------------------------------------------------------------------------------------------------


def test_the_example() -> None:
    """Rows that LiteRT's builtin optimized CONV_2D returned."""
    ran = qengine("identify", EXAMPLE)
    assert ran.code == 0
    assert ran.err == ""
    assert "double-up with recipe 'double' gives all" in ran.out
    assert "LiteRT without XNNPACK" in ran.out
    for row in qe.schemes():
        assert row.name in ran.out
    assert "\x1b" not in ran.out


def test_json_equals_the_function() -> None:
    data = as_json(qengine("identify", EXAMPLE, "--json"))
    assert data == json.loads(json.dumps(identify_rows(read_rows(EXAMPLE)).to_dict()))
    assert data["ranking"][0]["scheme"] == "double-up"
    assert data["found"] is True
    restricted = as_json(
        qengine("identify", EXAMPLE, "--scheme", "gemmlowp", "--scheme", "fp32", "--recipe", "float32", "--json"), 1
    )
    assert {(m["scheme"], m["recipe"]) for m in restricted["ranking"]} == {("double", "float32"), ("fp32", "float32")}


def test_csv(tmp_path: Path) -> None:
    ran = qengine("identify", EXAMPLE, "--csv", "-")
    assert ran.code == 0
    rows = list(csv.DictReader(io.StringIO(ran.out, newline="")))
    result = identify_rows(read_rows(EXAMPLE))
    assert tuple(rows[0]) == COLUMNS
    assert [(r["scheme"], r["recipe"], int(r["matches"]), int(r["mismatches"])) for r in rows] == [
        (m.scheme, m.recipe, m.matches, m.mismatches) for m in result.ranking
    ]
    rejected = next(m for m in result.ranking if m.counterexample)
    assert rows[result.ranking.index(rejected)]["explanation"] == rejected.counterexample.text  # type: ignore[union-attr]
    path = tmp_path / "ranking.csv"
    both = qengine("identify", EXAMPLE, "--csv", path)
    assert both.code == 0
    assert path.read_bytes() == ran.out.encode()
    assert "double-up" in both.out


def test_every_recipe_on_demand() -> None:
    short, full = qengine("identify", EXAMPLE).out, qengine("identify", EXAMPLE, "--all").out
    assert len(full.splitlines()) > len(short.splitlines())
    assert full.count("float32-reciprocal") >= len(qe.schemes())


def test_exit_codes(clamped: Path, tmp_path: Path) -> None:
    """0 found, 1 nothing accounts for the rows, 2 bad input."""
    assert qengine("identify", EXAMPLE, "--json").code == 0
    ran = qengine("identify", clamped, "--multiplier", "0.5")
    assert ran.code == 1
    assert "Nothing can be told" in ran.out
    path = tmp_path / "random.csv"
    path.write_text("acc,output\n" + "".join(f"{k},{k * 37 % 100}\n" for k in range(200)))
    assert qengine("identify", path, "--multiplier", "0.3").code == 1
    assert qengine("identify", tmp_path / "nowhere.csv").code == 2


def test_a_wrong_sign_is_said(tmp_path: Path) -> None:
    acc = np.arange(-900, 900, 3)
    output = qe.requantize(acc, 0.1, scheme="single", zero_point=-9, dtype="int8")
    path = tmp_path / "sign.csv"
    path.write_text("acc,output\n" + "".join(f"{a},{o}\n" for a, o in zip(acc, output, strict=True)))
    ran = qengine("identify", path, "--multiplier", "0.1", "--zero-point", "9")
    assert ran.code == 1
    assert "With the sign of the zero point changed" in ran.out
    data = as_json(qengine("identify", path, "--multiplier", "0.1", "--zero-point", "9", "--json"), 1)
    assert data["kind"] == "sign"
    assert data["correction"]["kind"] == "sign"
    assert qengine("identify", path, "--multiplier", "0.1", "--zero-point", "-9").code == 0


def test_parameters_by_option(tmp_path: Path) -> None:
    acc = np.array([585, 585, 45, 225, 617, 1000])
    output = qe.requantize_scales(acc, *map(float, ISSUE), scheme="fp32", zero_point=-126)
    path = tmp_path / "issue.csv"
    path.write_text("acc,output_runtime\n" + "".join(f"{a},{o}\n" for a, o in zip(acc, output, strict=True)))
    ran = qengine(
        "identify", path, "--output", "output_runtime", "--scales", *ISSUE, "--zero-point", "-126", "--dtype", "int8",
        "--qmin", "-127", "--qmax", "100", "--json",
    )  # fmt: skip
    data = as_json(ran)
    assert data["ranking"][0]["scheme"] == "fp32"
    text = qengine("identify", path, "--output", "output_runtime", "--scales", *ISSUE, "--zero-point", "-126").out
    assert "to decide" in text or "equal" in text


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "Missing argument 'FILE'"),
        (("nowhere.csv",), "nowhere.csv: no such file."),
        ((EXAMPLE, "--json", "--csv", "-"), "both write to stdout"),
        ((EXAMPLE, "--csv", EXAMPLE), "would overwrite the input file"),
        ((EXAMPLE, "--csv", "nowhere/x.csv"), "there is no folder"),
        ((EXAMPLE, "--scheme", "doubel"), "did you mean 'double'"),
        ((EXAMPLE, "--recipe", "dubble"), "unknown recipe 'dubble'"),
        ((EXAMPLE, "--dtype", "int4"), "int4"),
        ((EXAMPLE, "--dtype", "uint8"), "line 2: output must be in [0, 255], the type uint8"),
        ((EXAMPLE, "--zero-point", "3"), "leave one out"),
        ((EXAMPLE, "--multiplier", "0.5"), "keep what the outputs were made from"),
        ((EXAMPLE, "--shift", "3"), "--shift needs --multiplier"),
        ((EXAMPLE, "--multiplier", "half"), "'half' is not a real number"),
        ((EXAMPLE, "--multiplier", "0.5", "--shift", "1"), "'0.5' is not an integer mantissa"),
        ((EXAMPLE, "--scales", "x.csv"), "takes three numbers"),
        ((EXAMPLE, "--output", "outputs"), "there is no column 'outputs' of recorded outputs"),
        ((EXAMPLE, "--backend", "gpu"), "unknown back end 'gpu'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_input(args: tuple[Any, ...], text: str) -> None:
    ran = qengine("identify", *args)
    assert ran.code == 2
    assert ran.out == ""
    assert text in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_fresh_process() -> None:
    ran = process("identify", EXAMPLE, "--json")
    assert as_json(ran)["ranking"][0]["scheme"] == "double-up"


# --- probes -----------------------------------------------------------------------------------------------------


def test_probes() -> None:
    data = as_json(qengine("probes", "single", "gemmlowp", "fp32", *TENTH, "--zero-point", "-5", "--json"))
    p = qe.probes(["single", "double", "fp32"], qe.QuantizedMultiplier(1717986918, -3), zero_point=-5)
    assert data == p.to_dict()
    assert len(data["accumulators"]) == 2
    text = qengine("probes", "single", "double", *TENTH).out
    assert "acc 5" in text
    assert "1 probe tells 2 classes apart" in text
    assert "can never be told apart" not in text


def test_probes_of_the_issue_and_a_range() -> None:
    data = as_json(
        qengine(
            "probes", "--scales", *ISSUE, "--zero-point", "-126", "--range", "-2^15", "2^15", "--dtype", "int8",
            "--json",
        )
    )  # fmt: skip
    assert data["domain"] == [-(2**15), 2**15]
    assert all(abs(acc) <= 2**15 for acc in data["accumulators"])
    text = qengine("probes", "single", "double", "--multiplier", "1527099593", "--shift", "-6").out
    assert "can never be told apart here: single, double" in text


def test_export(tmp_path: Path) -> None:
    paths = [tmp_path / f"p{ending}" for ending in (".npy", ".csv", ".h")]
    ran = qengine("probes", "single", "double", *TENTH, *(a for path in paths for a in ("--export", path)))
    assert ran.code == 0
    p = qe.probes(["single", "double"], qe.QuantizedMultiplier(1717986918, -3))
    assert np.load(paths[0]).tolist() == p.accumulators.tolist()
    assert paths[1].read_bytes() == p.to_csv().encode()
    assert paths[2].read_text() == p.to_header()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("single", "double"), "one of the two"),
        (("single", "double", "--multiplier", "0.5", "--scales", *ISSUE), "one of the two"),
        (("singel", "--multiplier", "0.5"), "did you mean 'single'"),
        (("--multiplier", "0.5", "--export", "x.txt"), "the name must end in .npy or .csv or .h"),
        (("--multiplier", "0.5", "--export", "nowhere/x.h"), "there is no folder"),
        (("--multiplier", "0.5", "--range", "5", "4"), "acc_range must not be empty"),
        (("--scales", "x.csv"), "takes three numbers"),
        (("--multiplier", "0.5", "--dtype", "int32"), "int32"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_input_of_probes(args: tuple[Any, ...], text: str) -> None:
    ran = qengine("probes", *args)
    assert ran.code == 2
    assert ran.out == ""
    assert text in " ".join(ran.err.split())
