"""``qengine census``: table, JSON, CSV, interruption, errors."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qengine.report.census import COLUMNS
from tests.cli.running import qengine

FEW = ("--multipliers", "2^30", str(2**30 + 999))


def test_table() -> None:
    ran = qengine("census", "single", "double", "--shift", "-4")
    assert (ran.code, ran.err) == (0, "")
    for word in ("190,017,723,866", "176.967796", "closed", "every mantissa", "4,611,686,018,427,387,904"):
        assert word in ran.out
    assert "divergent multipliers" not in ran.out


def test_json_of_several_shifts_and_methods() -> None:
    found = []
    for method in ("tiles", "closed"):
        ran = qengine("census", "single", "double", "--shifts", "-3", "-5", *FEW, "--method", method, "--json")
        assert (ran.code, ran.err) == (0, "")
        data = json.loads(ran.out)
        assert data["complete"] is True
        assert [row["shift"] for row in data["by_shift"]] == [-3, -4, -5]
        assert [row["method"] for row in data["by_shift"]] == [method] * 3
        found.append([(row["divergent"], row["signed"], row["compared"]) for row in data["by_shift"]])
    assert found[0] == found[1]


def test_repeated_shift_and_options() -> None:
    ran = qengine(
        "census", "double", "half-away", "--shift", "-2", "--shift", "1", *FEW, "--range", "-2^20", "2^20", "--dtype",
        "uint8", "--zero-point", "128", "--qmin", "10", "--qmax", "200", "--json",
    )  # fmt: skip
    data = json.loads(ran.out)
    assert data["shifts"] == [-2, 1]
    assert data["accumulators"] == [-(2**20), 2**20]
    assert data["output"] == {"dtype": "uint8", "zero_point": 128, "qmin": 10, "qmax": 200}
    assert data["total"]["compared"] == 2 * 1000 * (2**21 + 1)


def test_csv(tmp_path: Path) -> None:
    target = tmp_path / "census.csv"
    ran = qengine("census", "single", "fp32", "--shifts", "-14", "-13", *FEW, "--csv", target)
    assert ran.code == 0, ran.err
    text = target.read_bytes().decode()
    assert text.count("\r\n") == 3
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    assert [row["shift"] for row in rows] == ["-14", "-13"]
    assert all(row["finished"] == "true" and row["method"] == "tiles" for row in rows)
    assert int(rows[0]["divergent_multipliers"]) <= 1000
    ran = qengine("census", "single", "double", "--shift", "-4", "--csv", target, "--method", "closed", *FEW)
    assert ran.code == 0, ran.err
    (row,) = csv.DictReader(io.StringIO(target.read_bytes().decode()))
    assert row["divergent_multipliers"] == row["most"] == row["most_at"] == ""
    assert int(row["divergent"]) > 0


def test_raw_outputs() -> None:
    ran = qengine("census", "single", "double", "--shift", "-4", "--range", "-16", "16", "--dtype", "raw", "--json")
    data = json.loads(ran.out)
    assert data["output"]["dtype"] == "raw"
    assert data["by_shift"][0]["method"] == "closed"
    assert data["total"]["compared"] == 33 * 2**30


def test_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextmanager
    def bar(label: str, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        yield stop

    monkeypatch.setattr("qengine.cli.census.progress_bar", bar)
    target = tmp_path / "census.csv"
    few = ("--multipliers", "2^30", "1073841824", "--method", "tiles")
    ran = qengine("census", "single", "double", "--shift", "-4", *few, "--csv", target)
    assert ran.code == 1
    assert "INTERRUPTED" in ran.out
    (row,) = csv.DictReader(io.StringIO(target.read_bytes().decode()))
    assert row["finished"] == "false"
    assert 0 < int(row["multipliers"]) < 100_001
    ran = qengine("census", "single", "double", "--shift", "-4", *few, "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["complete"] is False


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("single",), "2 values"),
        (("single", "dubble"), "double"),
        (("single", "double", "--shift", "-40"), "shift must be in [-31, 30]"),
        (("single", "double", "--shift", "-4", "--shifts", "0", "-3"), "--shift or --shifts"),
        (("single", "double", "--shift", "x"), "'x' is not an integer"),
        (("single", "double", "--multipliers", "1", "2"), "mantissas within"),
        (("single", "fp32", "--dtype", "raw", "--shift", "-4"), "has to be clamped"),
        (("single", "fp32", "--method", "closed", "--shift", "-4"), "Q0.31 mantissa itself"),
        (("single", "double", "--shift", "-4", "--csv", "/nowhere/x.csv"), "no folder"),
    ],
)
def test_bad_input(args: tuple[str, ...], text: str) -> None:
    ran = qengine("census", *args)
    assert ran.code == 2
    assert text in ran.err
    assert "Traceback" not in ran.err
