"""Texts of reports: escapes, tables, CSV, and files that are written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest

import qengine as qe
from qengine.affine.metrics import METRICS
from qengine.models.source import TensorSource
from qengine.report import csv_table, files
from qengine.report.errors import parts
from qengine.report.escape import shortened, shown, text_cell
from qengine.report.tensors import Measured
from qengine.report.terminal import to_text

WORKED = [-1.25, -0.92, -0.51, -0.10, 0, 0.14, 0.37, 0.79, 1.12, 1.46]


def source(name: str, values: object) -> TensorSource:
    array = np.asarray(values)
    return TensorSource(name, array.shape, array.dtype.name, array.dtype.name, lambda n: iter([array.reshape(-1)]))


def measured(name: str, values: object, *specs: qe.QuantSpec) -> Measured:
    return Measured(source(name, values), qe.error_report(np.asarray(values), specs))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("conv/weight:0", "conv/weight:0"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31m\x9b0m\x07", r"\x1b[31m\x9b0m\x07"),
        ("left\u202eright\u2066", r"left\u202eright\u2066"),
        ("\udc80", r"\udc80"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("gewicht_ä_重み", "gewicht_ä_重み"),
    ],
)
def test_shown(text: str, safe: str) -> None:
    assert shown(text) == safe


def test_glyphs_that_a_font_lacks() -> None:
    assert shown("ä重", range(256)) == r"ä\u91cd"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "  -"])
def test_cells_of_text_are_no_formulas(start: str) -> None:
    assert text_cell(start + "1+1")[0] == "'"


def test_other_cells_stay() -> None:
    assert text_cell("w=1") == "w=1"
    assert text_cell("") == ""


def test_shortened() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("a" * 50 + "b" * 50, 21) == "a" * 9 + "..." + "b" * 9


def test_str_of_a_report() -> None:
    report = qe.error_report(WORKED, qe.QuantSpec.grid(bits=(4, 8), range=(-1.5, 1.5)))
    text = str(report)
    assert "10 samples (10)" in text
    for figure in ("int4 symmetric [-1.5, 1.5]", "49.06", "22.41", "8.509e-06", "0.01181102", "10/256", "3.322"):
        assert figure in text
    assert "Best under each metric" in text
    assert "\x1b" not in text


def test_one_row_has_no_table_of_the_best() -> None:
    assert "Best under" not in str(qe.error_report(WORKED, qe.QuantSpec()))


def test_equal_choices_are_counted() -> None:
    report = qe.error_report([0.0, 1.0], [qe.QuantSpec(bits=bits) for bits in (4, 5, 6)])
    line = next(line for line in to_text(*parts(report)).splitlines() if "clipped" in line and "int4" in line)
    assert "2 more" in line


def test_worst_channels_come_first() -> None:
    x = np.stack([np.full(4, 1.0), np.array([0.9, -0.3, 0.1, 0.2])])
    x[0, 1] = 1.0 / 127 / 2  # half a step: the largest error there is
    report = qe.error_report(x, qe.QuantSpec(), axis=0)
    text = to_text(*parts(report))
    lines = [line for line in text[text.index("Worst channels") :].splitlines() if "│" in line]
    order = np.argsort(report.rows[0].channels.sqnr)
    assert [int(line.split("│")[1]) for line in lines] == order.tolist()


def test_labels_are_escaped() -> None:
    text = str(qe.error_report(WORKED, qe.QuantSpec(name="a\x1b[31mb\n[bold]")))
    assert r"a\x1b[31mb\n[bold]" in text
    assert "\x1b" not in text


def test_csv_holds_every_metric_in_full() -> None:
    specs = (qe.QuantSpec(range=(-1.5, 1.5)), qe.QuantSpec(format="mxfp4"), qe.QuantSpec(axis=0, mode="asymmetric"))
    item = measured("=w", WORKED, *specs)
    text = csv_table.to_csv([item])
    assert text.endswith("\r\n")
    assert text.count("\r\n") == 1 + len(specs)
    assert "\n" not in text.replace("\r\n", "")
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    assert tuple(header) == csv_table.COLUMNS
    assert len(set(header)) == len(header)
    for line, row in zip(lines, item.report.rows, strict=True):
        cells = dict(zip(header, line, strict=True))
        assert cells["tensor"] == "'=w"
        for name in METRICS:
            assert float(cells[name]) == getattr(row, name), name
        assert cells["sqnr"] == repr(row.sqnr)
        assert float(cells["entropy"]) == row.entropy
        assert float(cells["ppq-snr"]) == row.variants["ppq-snr"]
    first, block, channels = (dict(zip(header, line, strict=True)) for line in lines)
    assert (first["scale_min"], first["qmin"], first["range_low"]) == ("0.011811023622047244", "-128", "-1.5")
    assert (first["signed"], first["method"], first["rounding"]) == ("true", "", "half-even")
    assert (block["format"], block["bits"], block["scale_min"], block["overflow"]) == ("mxfp4", "", "", "saturate")
    assert (channels["scales"], channels["axis"], channels["method"]) == ("10", "0", "minmax")


def test_csv_of_an_exact_reconstruction() -> None:
    _, line = csv.reader(io.StringIO(csv_table.to_csv([measured("w", [1.0, -1.0], qe.QuantSpec())])))
    assert dict(zip(csv_table.COLUMNS, line, strict=True))["sqnr"] == "inf"


# --- files ------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    files.write_file(path, b"old")
    path.chmod(0o640)
    files.write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    files.write_file(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(qe.InputFileError, match=r"out\.csv: cannot be written: No space left on device\."):
        files.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no /dev/null here")
def test_a_device_is_not_replaced() -> None:
    files.write_file("/dev/null", b"gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing/out.pdf", "there is no folder"),
        (".", "a file is required to write to; this is a folder"),
        ("out.jpg", r"must end in \.png or \.svg"),
        ("out\0.png", "no NUL"),
    ],
)
def test_targets_that_cannot_be(name: str, text: str, tmp_path: Path) -> None:
    endings = (".png", ".svg") if "out." in name and "missing" not in name else ()
    with pytest.raises(qe.InputFileError, match=text):
        files.check_target(f"{tmp_path}/{name}", *endings)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind here")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(qe.InputFileError, match="no permission"):
        files.check_target(tmp_path / "out.csv")
    tmp_path.chmod(0o700)


def test_a_package_that_is_missing() -> None:
    with pytest.raises(qe.BackendError, match=r"pip install 'qengine-numerics\[report\]'"):
        files.optional("no_such_package_at_all.part")
