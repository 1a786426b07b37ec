"""Tables, CSV and pictures of exact comparisons."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

import qengine as qe
from qengine.exact.comparison import SchemeComparison
from qengine.report.divergence import divergent, layers, parts, to_csv
from qengine.report.terminal import Grid, to_text
from qengine.requant.scales import ScaleTable

#: Near 1/90: no divergent accumulator that an 8-bit output shows.
NINETIETH = qe.QuantizedMultiplier(1_527_099_593, -6)
SIX = ("single", "double", "double-up", "fp32", "fp32-zp-inside", "fp64-away")


def table(layer: tuple[str, ...], operator: tuple[str, ...] | None = None) -> ScaleTable:
    count = len(layer)
    columns = (np.full(count, 0.0078, np.float32), np.geomspace(1e-3, 0.9, count).astype(np.float32))
    return ScaleTable(
        *columns, np.full(count, 0.0235, np.float32), np.zeros(count, np.int64), "made up", layer, operator
    )


def grids(result: SchemeComparison, listed: int = 0) -> list[Grid]:
    return [part for part in parts(result, listed) if isinstance(part, Grid)]


def test_pairs_of_one_multiplier() -> None:
    result = qe.compare_schemes("single", "double", multiplier=qe.QuantizedMultiplier(1 << 30, -1))
    (pairs, witnesses) = grids(result)
    assert pairs.lines == (
        ("single / double", "4,294,967,296", "1,073,741,824", "25.0000 %", "1", "-1: 536,870,912, +1: 536,870,912",
         "lattice"),
    )  # fmt: skip
    assert [line[1] for line in witnesses.lines] == ["-2,147,483,646", "2,147,483,645"]
    text = str(result)
    assert "value 1073741824, shift -1" in text
    assert "every one in [-2,147,483,648, 2,147,483,647]" in text
    assert "raw int32" in text
    assert "\x1b" not in text


def test_classes_share_a_line_of_the_matrix() -> None:
    result = qe.compare_schemes("single", "rndnu", "double", "vcvt", multiplier=2.0**-9, dtype="int8")
    text = str(result)
    assert "equal everywhere: single, rndnu" in text
    assert "outside the domain, not compared: vcvt 4,294,967,296" in text
    matrix = next(grid for grid in grids(result) if "every two" in (grid.title or ""))
    assert [name for name, *_ in matrix.columns] == ["", "single +1", "double", "vcvt"]
    count = f"{result.couple('single', 'double').divergent:,}"
    assert matrix.lines == (
        ("single +1", ".", count, "-"), ("double", count, ".", "-"), ("vcvt", "-", "-", "."),
    )  # fmt: skip


def test_layers() -> None:
    result = qe.compare_schemes(
        *SIX, scales=table(("1", "1", "2=x", "1"), ("CONV", "CONV", "DW", "CONV")), dtype="int8"
    )
    found = layers(result)
    assert {key: channels.tolist() for key, channels in found.items()} == {("1", "CONV"): [0, 1, 3], ("2=x", "DW"): [2]}
    grid = next(grid for grid in grids(result) if "by layer" in (grid.title or ""))
    couple = result.couple("single", "double")
    assert grid.lines[0][:4] == ("1", "CONV", "3", f"{int(couple.by_channel[[0, 1, 3]].sum()):,}")
    assert grid.caption == "10 more pairs: --csv writes every one, channel by channel."
    assert not layers(qe.compare_schemes("single", "double", multiplier=0.3))


def test_hostile_names() -> None:
    result = qe.compare_schemes("single", "double", scales=table(("\x1b[31m", "=1+1")), dtype="int8")
    assert "\x1b" not in str(result)
    lines = list(csv.reader(io.StringIO(to_csv(result), newline="")))
    assert [line[0] for line in lines] == ["layer", r"\x1b[31m", "'=1+1"]


def test_listing() -> None:
    result = qe.compare_schemes("single", "double", multiplier=[0.25, 0.1], acc_range=(-30, 30))
    counts = result.divergent[0]
    found = list(divergent(result, int(counts[0]) + 1))
    assert [item.channel for item in found] == [0] * int(counts[0]) + [1]
    assert all(item.outputs[0] != item.outputs[1] for item in found)
    grid = next(grid for grid in grids(result, 5) if (grid.title or "").startswith("First 5 of"))
    assert [line[1] for line in grid.lines] == [str(item.acc) for item in found[:5]]
    assert sum(1 for _ in divergent(result, 10**6)) == counts.sum()
    equal = qe.compare_schemes("single", "double", multiplier=NINETIETH, dtype="int8")
    assert list(divergent(equal, 5)) == []
    assert "nothing to list: single and double agree on every accumulator" in to_text(*parts(equal, 5))


def test_nothing_compared() -> None:
    result = qe.compare_schemes("single", "double", "vcvt", multiplier=1e-5, acc_range=(0, 9))
    pairs = grids(result)[0]
    assert pairs.lines[1] == ("single / vcvt", "0", "0", "-", "-", "", "lattice")


def test_csv() -> None:
    result = qe.compare_schemes("single", "double", "vcvt", multiplier=[0.001, 0.5], dtype="int8", zero_point=[-3, 4])
    text = to_csv(result)
    assert text.count("\r\n") == 3
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert (first["multiplier"], first["right_shift"], first["zero_point"]) == ("0.001", "9", "-3")
    assert first["unsaturated"] == str(len(range(-125000, 130001)))
    assert first["single/vcvt"] == "", "not compared is not 0"
    assert second["single/vcvt"] == str(int(result.divergent[1, 1]))
    assert second["single/double"] == str(qe.count_divergence("single", "double", 0.5, dtype="int8", zero_point=4))


def test_unsaturated_and_shares() -> None:
    result = qe.compare_schemes("single", "double", multiplier=[0.25, 0.0, 3.0], dtype="int8", acc_range=(-600, 600))
    assert result.unsaturated.tolist() == [512 + 508 + 1, 1201, 42 + 42 + 1]
    assert result.share(0) == result.divergent[0].sum() / (1021 + 1201 + 85)
    zero = {"multiplier": 0.0, "dtype": "int8", "acc_range": (-3, 3)}
    for z, qmin, qmax, size in ((5, 5, 9, 7), (5, 0, 5, 7), (5, 6, 9, 0), (5, 0, 4, 0)):
        few = qe.compare_schemes("single", "double", zero_point=z, qmin=qmin, qmax=qmax, **zero)
        assert few.unsaturated.tolist() == [size]
    assert qe.compare_schemes("single", "double", multiplier=2.0**-31, dtype="int8", qmin=2).unsaturated.tolist() == [0]
    raw = qe.compare_schemes("single", "double", multiplier=0.25, acc_range=(0, 9))
    assert raw.share(0) == 0.3
    assert np.isnan(qe.compare_schemes("single", "double", "vcvt", multiplier=1e-5).share(1))


# --- pictures -----------------------------------------------------------------------------------------------------

PICTURES = {
    "two": {"schemes": ("single", "double"), "multiplier": 0.0123},
    "floats, raw": {"schemes": ("fp32", "fp64-away"), "multiplier": 0.0123, "acc_range": (0, 99)},
    "six": {"schemes": SIX, "multiplier": 0.25, "dtype": "int8"},
    "never": {"schemes": ("single", "double"), "multiplier": NINETIETH, "dtype": "int8"},
    "zero": {"schemes": ("single", "double"), "multiplier": 0.0},
    "all": {"schemes": tuple(row.name for row in qe.schemes()), "multiplier": 0.003, "dtype": "uint8"},
    "channels": {"schemes": SIX, "multiplier": [0.5, 0.01, 0.02, 1e-4], "dtype": "int8"},
    "far": {"schemes": ("single", "truncate"), "multiplier": [1.7, 3.9, 8.8]},
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str) -> None:
    pytest.importorskip("matplotlib")
    from qengine.report.heat import divergence_picture

    given = dict(PICTURES[name])
    result = qe.compare_schemes(*given.pop("schemes"), **given)  # type: ignore[arg-type, misc]
    png = divergence_picture(result, "png")
    assert png.startswith(b"\x89PNG")
    assert divergence_picture(result, "png") == png


def test_what_a_picture_shows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from qengine.report.heat import divergence_figure, percentage
    from qengine.report.style import style

    result = qe.compare_schemes("single", "double", "fp32", multiplier=0.0123, dtype="int8")
    with style():
        figure = divergence_figure(result)
    heat, _, lines = figure.axes
    written = {tuple(text.get_position()): text.get_text() for text in heat.texts}
    for p, (i, j) in enumerate(result.pairs):
        assert written[i, j] == written[j, i] == percentage(result.share(p))
    assert [label.get_text() for label in heat.get_yticklabels()] == ["single  1", "double  2", "fp32  3"]
    drawn = {line.get_label(): line for line in lines.get_lines()}
    law = drawn["law 2^\u2212(n+1)"]
    assert np.array_equal(law.get_ydata(), 2.0 ** -(law.get_xdata() + 1))
    n, y = drawn["single / double"].get_data()
    at = int(np.flatnonzero(np.asarray(n) == 6)[0])
    assert y[at] == pytest.approx(result.share(0), rel=1e-9)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "100 %"), (0.251, "25 %"), (0.0312, "3.1 %"), (4.4e-4, "0.044 %"), (2.13e-6, "2.1e\u22126"),
     (1e-8, "1e\u22128")],
)  # fmt: skip
def test_percentage(value: float, text: str) -> None:
    from qengine.report.heat import percentage

    assert percentage(value) == text
