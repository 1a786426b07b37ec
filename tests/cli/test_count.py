"""``qengine count``: the same counts as the function, its files, its errors, and the speed of a whole model."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qengine as qe
from qengine.cli.options import emit_json, emit_json_list
from tests.cli.running import ISSUE, SAMPLE, Ran, process, qengine

MULTIPLIER = ("--multiplier", "1583594044", "--shift", "-9")
SIX = ("single", "double", "double-up", "fp32", "fp32-zp-inside", "fp64-away")


def as_json(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return json.loads(ran.out, parse_constant=pytest.fail)


def untimed(data: dict[str, Any]) -> dict[str, Any]:
    assert data.pop("timing")["seconds"] > 0
    return data


def test_one_multiplier() -> None:
    data = as_json(qengine("count", "single", "gemmlowp", *MULTIPLIER, "--json"))
    result = qe.compare_schemes("single", "double", multiplier=qe.QuantizedMultiplier(1583594044, -9))
    assert untimed(data) == untimed(result.to_dict())
    (couple,) = data["couples"]
    assert (couple["divergent"], couple["compared"], couple["engine"]) == (4_194_310, 2**32, "lattice")
    assert couple["histogram"] == {"-1": 2_097_155, "1": 2_097_155}
    assert couple["last"]["acc"] == 2_147_483_219
    text = qengine("count", "single", "gemmlowp", *MULTIPLIER).out
    assert "4,194,310" in text
    assert "-1: 2,097,155, +1: 2,097,155" in text
    assert "2,147,483,219" in text


def test_every_option() -> None:
    options = ("--range", "-2^16", "65536", "--dtype", "uint8", "--zero-point", "7", "--qmin", "3", "--qmax", "200")
    data = as_json(
        qengine("count", "single", "fp32", "double", *MULTIPLIER, *options, "--engine", "staircase", "--json")
    )
    result = qe.compare_schemes(
        "single", "fp32", "double", multiplier=qe.QuantizedMultiplier(1583594044, -9), acc_range=(-(2**16), 2**16),
        dtype="uint8", zero_point=7, qmin=3, qmax=200,
    )  # fmt: skip
    assert untimed(data) == untimed(result.to_dict())
    assert data["accumulators"] == {"low": -(2**16), "high": 2**16, "weighted": False}
    assert data["output"] == {"dtype": "uint8", "qmin": 3, "qmax": 200}
    assert data["zero_point"] == 7


def test_clamp_by_default() -> None:
    """A zero point, a clamp or a file of channels mean int8, as in a sweep; --dtype raw says otherwise."""
    for options, dtype in (((), "raw"), (("--zero-point", "3"), "int8"), (("--qmin", "-9"), "int8")):
        assert (
            as_json(qengine("count", "single", "double", *MULTIPLIER, *options, "--json"))["output"]["dtype"] == dtype
        )
    assert as_json(qengine("count", "single", "double", "--scales", SAMPLE, "--json"))["output"]["dtype"] == "int8"
    raw = as_json(qengine("count", "single", "double", "--scales", SAMPLE, "--dtype", "raw", "--json"))
    assert (raw["output"]["dtype"], raw["zero_point"]) == ("raw", 0)


def test_list() -> None:
    ran = qengine("count", "single", "fp32", "--scales", *ISSUE, "--zero-point", "-126", "--list", "4")
    assert "First 4 of" in ran.out
    data = as_json(
        qengine("count", "single", "fp32", "--scales", *ISSUE, "--zero-point", "-126", "--list", "1k", "--json")
    )
    found = {item["acc"]: item for item in data["listed"]}
    assert len(found) == data["couples"][0]["divergent"]
    assert found[585]["outputs"] == [-119, -120]
    assert list(found) == sorted(found)
    channels = as_json(qengine("count", "single", "double", "--scales", SAMPLE, "--list", "300", "--json"))["listed"]
    assert len(channels) == 300
    assert {item["channel"] for item in channels} >= {0, 1}
    assert qengine("count", "single", "double", *MULTIPLIER, "--list", "2").code == 0


def test_long_lists_are_lines_of_csv() -> None:
    wanted = as_json(qengine("count", "single", "double", "--scales", SAMPLE, "--list", "1200", "--json"))["listed"]
    ran = qengine("count", "single", "double", "--scales", SAMPLE, "--list", "1200")
    title, text = ran.out.split("channel,acc,exact,", 1)
    assert "First 1,200 of" in title.splitlines()[-1]
    rows = list(csv.DictReader(io.StringIO(f"channel,acc,exact,{text}")))
    assert len(rows) == 1200
    for row, item in zip(rows, wanted, strict=True):
        assert [int(row[name]) for name in ("channel", "acc", "single", "double")] == [
            item["channel"], item["acc"], *item["outputs"]
        ]  # fmt: skip
        assert (float(row["exact"]), row["why"]) == (item["exact"], item["why"])
    equal = qengine("count", "single", "double", *MULTIPLIER, "--range", "0", "9", "--list", "2000")
    assert "nothing to list" in equal.out
    assert "channel,acc" not in equal.out


def test_a_list_of_json_is_printed_as_it_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """The text of the whole; what has been listed is out before the next is made."""
    items = [{"acc": k, "outputs": [k, None]} for k in range(3)]
    for some in (items, []):
        emit_json({"a": {"b": []}, "listed": some})
        whole = capsys.readouterr().out
        emit_json_list({"a": {"b": []}}, "listed", iter(some))
        assert capsys.readouterr().out == whole

    def made() -> Iterator[int]:
        yield 11
        assert capsys.readouterr().out.endswith("\n    11")

    emit_json_list({"a": 1}, "listed", made())
    assert capsys.readouterr().out == "\n  ]\n}\n"


def test_all_schemes() -> None:
    assert qengine("count", "--all", "--help").code == 0
    data = as_json(qengine("count", "--all-schemes", *MULTIPLIER, "--dtype", "int8", "--json"))
    names = [row.name for row in qe.schemes()]
    assert data["schemes"] == names
    assert len(data["couples"]) == len(names) * (len(names) - 1) // 2
    matrix = data["matrix"]
    assert matrix[0][1] == 173
    assert all(matrix[i][j] == matrix[j][i] for i in range(len(names)) for j in range(len(names)))
    assert data["excluded"]["vcvt"] == 2**32
    text = qengine("count", "--all-schemes", *MULTIPLIER, "--dtype", "int8").out
    assert "equal everywhere: double, q31, hifi-out16" in text
    assert "outside the domain, not compared: vcvt 4,294,967,296" in text
    assert re.search(r"single \+\d+ +│ +\. │ +173 │", text)


def test_file_of_scales(tmp_path: Path) -> None:
    """The table by layer and the CSV hold the function's counts."""
    target = tmp_path / "counts.csv"
    ran = qengine("count", *SIX, "--scales", SAMPLE, "--csv", target)
    assert ran.code == 0, ran.err
    result = qe.compare_schemes(*SIX, scales=SAMPLE, dtype="int8")
    lines = list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8"), newline="")))
    assert len(lines) == result.channels
    for couple in result.ordered:
        assert [int(line["/".join(couple.schemes)]) for line in lines] == couple.by_channel.tolist()
    assert result.table is not None
    assert [line["layer"] for line in lines] == list(result.table.layer or ())
    layer = lines[0]["layer"]
    total = sum(int(line["single/double"]) for line in lines if line["layer"] == layer)
    row = next(row for row in ran.out.splitlines() if re.match(rf"│ +{layer} │", row))
    assert f" {total:,} " in row
    assert "10 more pairs" in ran.out
    by_layer = as_json(qengine("count", *SIX, "--scales", SAMPLE, "--json"))["layers"]
    assert sum(entry["channels"] for entry in by_layer) == result.channels
    assert by_layer[0]["divergent"][0] == total
    for k, couple in enumerate(result.ordered):
        assert sum(entry["divergent"][k] for entry in by_layer) == couple.divergent


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_picture(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / f"out.{ending}"
    ran = qengine("count", "single", "double", *MULTIPLIER, "--picture", target)
    assert ran.code == 0, ran.err
    assert target.read_bytes().startswith(b"\x89PNG" if ending == "png" else b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "name two or more schemes"),
        (("single", "double", "--all-schemes", *MULTIPLIER), "one of the two"),
        (("single", *MULTIPLIER), "two or more schemes; got 1"),
        (("single", "gemlowp", *MULTIPLIER), "did you mean 'gemmlowp'"),
        (("single", "double"), "give a multiplier or scales"),
        (("single", "double", "--shift", "-9"), "--shift needs --multiplier"),
        (("single", "double", *MULTIPLIER, "--range", "5", "4"), "must not be empty"),
        (("single", "double", *MULTIPLIER, "--range", "0", "2^31"), "highest accumulator must be in"),
        (("single", "double", *MULTIPLIER, "--list", "2M"), "at most 1,000,000"),
        (("single", "double", *MULTIPLIER, "--engine", "staircase"), "the output is raw"),
        (("single", "double", *MULTIPLIER, "--engine", "x"), "unknown engine"),
        (("single", "double", *MULTIPLIER, "--picture", "out.gif"), "must end in .png or .svg"),
        (("single", "double", *MULTIPLIER, "--csv", "no/such/folder.csv"), "no folder"),
        (("single", "double", "--scales", "1", "2"), "takes a file or three numbers"),
        (("single", "double", "--scales", "missing.csv"), "no such file"),
        (("single", "double", *MULTIPLIER, "--dtype", "int8", "--zero-point", "200"), "zero_point must be in"),
    ],
)
def test_errors(arguments: tuple[str, ...], text: str) -> None:
    ran = qengine("count", *arguments)
    assert ran.code == 2
    assert text in ran.err
    assert ran.out == ""


def test_whole_model(shared: Path) -> None:
    """All pairs of the six schemes on every channel of MobileNet v2, by a fresh process."""
    ran = process("count", *SIX, "--scales", shared / "data" / "mobilenet_v2_ptq_scales.csv", "--json")
    data = as_json(ran)
    assert data["multipliers"]["channels"] == 18_057
    assert all(couple["compared"] == 18_057 * 2**32 for couple in data["couples"])
    assert data["timing"]["seconds"] < 3
    assert data["matrix"][0] == [0, 3_305_462, 3_305_331, 36_292, 43_705, 211]
