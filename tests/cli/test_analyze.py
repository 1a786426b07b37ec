"""``qengine analyze``: what it prints and writes is what the functions say. Errors of ``compare`` too."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.cli import progress
from qengine.report import tensors
from qengine.report.csv_table import COLUMNS
from tests.cli.running import ROOT, Ran, process, qengine

EXAMPLE = ROOT / "tests" / "data" / "worked_example.csv"
WORKED = [-1.25, -0.92, -0.51, -0.10, 0, 0.14, 0.37, 0.79, 1.12, 1.46]
GIVEN = ("--range", "-1.5", "1.5")


def as_json(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return json.loads(ran.out, parse_constant=pytest.fail)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def many(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "many.npz"
    np.savez(
        path, good=rng.normal(size=(8, 30)).astype(np.float32), better=np.linspace(-1, 1, 100), exact=np.full(4, 2.0),
        empty=np.zeros((0, 2)), bad=np.array([1.0, np.nan]), flags=np.array([True, False]),
    )  # fmt: skip
    return path


# --- analyze ----------------------------------------------------------------------------------------------------


def test_the_worked_example() -> None:
    ran = qengine("analyze", EXAMPLE, "--bits", "8", *GIVEN)
    assert ran.code == 0
    assert ran.err == ""
    for figure in (
        "0.011811023622047244", "8.508897017794076e-06", "49.0553825150", "-105.833333", "-106", "[-128, 127]",
        "10 samples in [-1.25, 1.46]", "max(|-1.5|, |1.5|) / 127",
    ):  # fmt: skip
        assert figure in ran.out


def test_json_is_the_report() -> None:
    data = as_json(qengine("analyze", EXAMPLE, *GIVEN, "--json"))
    report = qe.error_report(WORKED, qe.QuantSpec(range=(-1.5, 1.5)))
    (tensor,) = data["tensors"]
    expected = json.loads(json.dumps(report.to_dict()))
    assert {name: tensor[name] for name in expected} == expected
    assert (tensor["name"], tensor["dtype"], tensor["low"], tensor["high"]) == ("worked_example", "text", -1.25, 1.46)
    assert [sample["code"] for sample in tensor["samples"]] == [-106, -78, -43, -8, 0, 12, 31, 67, 95, 124]
    assert [sample["x"] for sample in tensor["samples"]] == WORKED
    assert (data["refused"], data["skipped"]["count"]) == ([], 0)
    assert data["spec"]["range"] == [-1.5, 1.5]


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        (("--bits", "4", "--mode", "asymmetric"), qe.QuantSpec(bits=4, mode="asymmetric")),
        (
            ("--unsigned", "--narrow", "--mode", "asymmetric"),
            qe.QuantSpec(signed=False, narrow=True, mode="asymmetric"),
        ),
        (("--rounding", "floor", "--convention", "ort"), qe.QuantSpec(rounding="floor", convention="ort")),
        (("--rounding", "stochastic", "--seed", "7"), qe.QuantSpec(rounding="stochastic", seed=7)),
        (("--method", "mse", "--bits", "3"), qe.QuantSpec(method="mse", bits=3)),
        (("--percentile", "90"), qe.QuantSpec(method="percentile", percentile=90.0)),
        (("--axis", "0"), qe.QuantSpec(axis=0)),
        (("--axis", "-1", "--group", "7"), qe.QuantSpec(axis=-1, group=7)),
        (("--group", "7"), qe.QuantSpec(group=7)),
        (("--format", "mxfp4", "--scale-rounding", "ceil"), qe.QuantSpec(format="mxfp4", scale_rounding="ceil")),
        (("--format", "e4m3fn", "--overflow", "saturate"), qe.QuantSpec(format="e4m3fn")),
        (("--backend", "reference"), qe.QuantSpec()),
        (("--threads", "1", "--quiet"), qe.QuantSpec()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_make_a_spec(options: tuple[str, ...], spec: qe.QuantSpec, tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(6, 20))
    np.save(tmp_path / "x.npy", x)
    (tensor,) = as_json(qengine("analyze", tmp_path / "x.npy", *options, "--json"))["tensors"]
    backend = "reference" if "reference" in options else None
    row = qe.error_report(x, spec, backend=backend).rows[0]
    assert tensor["rows"][0]["spec"] == json.loads(json.dumps(row.spec.to_dict()))
    assert tensor["rows"][0]["mse"] == row.mse
    assert tensor["samples"] is None


def test_numbers_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qengine", "analyze", "-", *GIVEN, "--json"], input="\n".join(map(str, WORKED)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert json.loads(done.stdout)["tensors"][0]["rows"][0]["mse"] == 8.508897017794076e-06


def test_a_mistake_on_stdin_has_line_and_column() -> None:
    command = [sys.executable, "-m", "qengine", "analyze", "-"]
    done = subprocess.run(command, input="1, 2\n3, x5\n", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: <stdin>: line 2, column 4: a number is required; got 'x5'.\n"


def test_many_tensors_worst_first(many: Path) -> None:
    data = as_json(qengine("analyze", many, "--bits", "4", "--json"))
    names = [tensor["name"] for tensor in data["tensors"]]
    sqnr = {tensor["name"]: tensor["rows"][0]["sqnr"] for tensor in data["tensors"]}
    assert names == ["good", "better", "exact"]
    assert sqnr["good"] < sqnr["better"]
    assert sqnr["exact"] is None
    reasons = {item["name"]: item["reason"] for item in data["refused"]}
    assert set(reasons) == {"empty", "bad", "flags"}
    assert "at least one sample" in reasons["empty"]
    assert "the first is nan at index 1" in reasons["bad"]
    ran = qengine("analyze", many, "--bits", "4")
    assert ran.out.index("good") < ran.out.index("better") < ran.out.index("exact") < ran.out.index("Not measured")
    chosen = as_json(qengine("analyze", many, "--tensor", "g*", "--tensor", "bad", "--nonfinite", "ignore", "--json"))
    assert sorted(tensor["name"] for tensor in chosen["tensors"]) == ["bad", "good"]


def test_nothing_left(many: Path) -> None:
    ran = qengine("analyze", many, "--tensor", "bad")
    assert ran.code == 2
    assert "the first is nan at index 1" in ran.err
    ran = qengine("analyze", many, "--tensor", "bad", "--tensor", "empty")
    assert ran.code == 2
    assert "2 tensors, each refused" in ran.err
    ran = qengine("analyze", many, "--tensor", "godo")
    assert ran.code == 2
    assert "'good'" in ran.err


def test_constants_of_a_model_are_passed_over(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "m.safetensors"
    numpy_files.save_file({"w": np.ones(5, np.float32), "idx": np.arange(5), "shape": np.arange(2)}, path)
    data = as_json(qengine("analyze", path, "--json"))
    assert [tensor["name"] for tensor in data["tensors"]] == ["w"]
    assert data["skipped"]["count"] == 2
    assert sorted(data["skipped"]["names"]) == ["idx", "shape"]
    assert "passed over: 2 integer constants" in qengine("analyze", path).out
    assert len(as_json(qengine("analyze", path, "--tensor", "*", "--json"))["tensors"]) == 3
    numpy_files.save_file({"idx": np.arange(5)}, path)
    ran = qengine("analyze", path)
    assert ran.code == 2
    assert "--tensor 'idx'" in ran.err


def test_per_channel(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 11, 3))
    np.save(tmp_path / "x.npy", x)
    args = ("analyze", tmp_path / "x.npy", "--axis", "1", "--per-channel")
    (tensor,) = as_json(qengine(*args, "--json"))["tensors"]
    assert tensor["axis"] == 1
    report = qe.error_report(x, qe.QuantSpec(axis=1), axis=1)
    assert tensor["rows"][0]["channels"]["mse"] == report.rows[0].channels.mse.tolist()
    assert "Worst channels along axis 1 by SQNR, 8 of 11" in qengine(*args).out


def test_a_long_tensor_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    whole = as_json(qengine("analyze", tmp_path / "x.npy", "--axis", "0", "--json"))
    monkeypatch.setattr(tensors, "IN_MEMORY", 10)
    assert as_json(qengine("analyze", tmp_path / "x.npy", "--axis", "0", "--json")) == whole
    ran = qengine("analyze", tmp_path / "x.npy", "--axis", "0", "--method", "mse")
    assert ran.code == 2
    assert "needs the tensor in memory" in ran.err


def test_names_from_files_do_not_act(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "m.safetensors"
    name = "a\x1b[31m\n[bold]b"
    numpy_files.save_file(
        {name: np.ones(5, np.float32), "=1+1": np.ones(3, np.float32), "\x07": np.ones(2, bool)}, path
    )
    for args in (
        ("analyze", path),
        ("compare", path),
        ("analyze", path, "--csv", "-"),
        ("analyze", path, "--tensor", "?"),
    ):
        ran = qengine(*args)
        assert not set("\x1b\x07") & set(ran.out + ran.err), args
    assert r"a\x1b[31m\n[bold]b" in qengine("analyze", path).out
    assert "\x1b" not in qengine("analyze", path, "--tensor", "nothing").err
    names = {line["tensor"] for line in table(qengine("analyze", path, "--csv", "-").out)}
    assert names == {r"a\x1b[31m\n[bold]b", "'=1+1"}
    assert name in {tensor["name"] for tensor in as_json(qengine("analyze", path, "--json"))["tensors"]}


# --- files ------------------------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    ran = qengine("analyze", EXAMPLE, *GIVEN, "--csv", tmp_path / "out.csv", "--json")
    as_json(ran)
    written = (tmp_path / "out.csv").read_bytes().decode()
    (line,) = table(written)
    assert tuple(line) == COLUMNS
    assert (line["mse"], line["tensor"]) == ("8.508897017794076e-06", "worked_example")
    assert process("analyze", EXAMPLE, *GIVEN, "--csv", "-").out.splitlines() == written.splitlines()
    assert os.listdir(tmp_path) == ["out.csv"]


def test_graphs_and_pdf_are_the_same_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("reportlab")
    targets = {"--plot": "a.png", "--pdf": "a.pdf", "--csv": "a.csv"}
    first: dict[str, bytes] = {}
    for _ in range(2):
        args = [word for option, name in targets.items() for word in (option, tmp_path / name)]
        assert qengine("analyze", EXAMPLE, *args).code == 0
        found = {name: (tmp_path / name).read_bytes() for name in targets.values()}
        first = first or found
        assert found == first
    assert first["a.png"].startswith(b"\x89PNG")
    assert first["a.pdf"].startswith(b"%PDF-")
    svg = tmp_path / "a.SVG"
    assert qengine("compare", EXAMPLE, "--bits", "2:4", "--plot", svg).code == 0
    assert b"<svg" in svg.read_bytes()


def test_graphs_of_many(many: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("reportlab")
    for command in ("analyze", "compare"):
        ran = qengine(command, many, "--bits", "4", "--plot", tmp_path / "a.png", "--pdf", tmp_path / "a.pdf")
        assert ran.code == 0, ran.err
        assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--csv", "{tmp}/missing/a.csv"), "cannot be written: there is no folder"),
        (("--pdf", "{tmp}"), "this is a folder"),
        (("--plot", "{tmp}/a.jpg"), "must end in .png or .svg"),
        (("--pdf", "{tmp}/a.png"), "must end in .pdf"),
        (("--csv", "{file}"), "--csv would overwrite the input file"),
        (("--csv", "{tmp}/a.png", "--plot", "{tmp}/a.png"), "--plot would overwrite what --csv writes"),
        (("--csv", "-", "--json"), "both write to stdout"),
    ],
)
def test_targets_that_cannot_be(args: tuple[str, ...], text: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("reportlab")
    file = tmp_path / "w.txt"
    file.write_text("1 2 3")
    ran = qengine("analyze", file, *(arg.format(tmp=tmp_path, file=file) for arg in args))
    assert (ran.code, ran.out) == (2, "")
    assert text in " ".join(ran.err.split())
    assert os.listdir(tmp_path) == ["w.txt"]
    assert file.read_text() == "1 2 3"


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for option, name in (("--pdf", "a.pdf"), ("--plot", "a.png")):
        ran = qengine("analyze", EXAMPLE, option, tmp_path / name)
        assert ran.code == 2
        assert "pip install 'qengine-numerics[report]'" in ran.err
    assert qengine("analyze", EXAMPLE, "--csv", tmp_path / "a.csv").code == 0


def test_tables_need_no_extra() -> None:
    code = (
        "from qengine.cli import main\ntry: main(['analyze', 'tests/data/worked_example.csv', '--csv', '-'])\n"
        "except SystemExit: pass\nimport sys\nassert not {'matplotlib', 'reportlab', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("analyze", "nowhere.npy"), "nowhere.npy"),
        (("analyze", str(ROOT / "README.md")), "the ending must say the format"),
        (("analyze", "{x}", "--bits", "1"), "bits must be in [2, 16]; got 1."),
        (("analyze", "{x}", "--bits", "8.5"), "'8.5' is not an integer."),
        (("analyze", "{x}", "--range", "1", "-1"), "lo must be below hi; got lo 1.0, hi -1.0."),
        (("analyze", "{x}", "--range", "nan", "1"), "must be finite"),
        (("analyze", "{x}", "--range", "-1", "1", "--method", "mse"), "--range is the range itself"),
        (("analyze", "{x}", "--percentile", "99", "--method", "mse"), "--percentile is for --method percentile"),
        (("analyze", "{x}", "--rounding", "half-evne"), "did you mean 'half-even'"),
        (("analyze", "{x}", "--convention", "onxx"), "did you mean 'onnx'"),
        (("analyze", "{x}", "--format", "mxfp5"), "unknown number format 'mxfp5'"),
        (("analyze", "{x}", "--format", "mxfp4", "--bits", "4"), "--bits is for integers"),
        (("analyze", "{x}", "--scale-rounding", "ceil"), "--scale-rounding is for number formats"),
        (("analyze", "{x}", "--per-channel"), "--per-channel needs --axis"),
        (("analyze", "{x}", "--axis", "1"), "axis must be in [-1, 0]"),
        (("analyze", "{x}", "--unsigned", "--narrow"), "narrow must be False"),
        (("analyze", "{x}", "--backend", "gpu"), "unknown back end 'gpu'"),
        (("analyze", "{x}", "--threads", "0"), "threads must be"),
        (("compare", "{x}", "--rank", "sqrn"), "unknown metric 'sqrn'; did you mean 'sqnr'"),
        (("compare", "{x}", "--bits", "1:4"), "numbers must be in [2, 16]"),
        (("compare", "{x}", "--bits", "8:4"), "a span is LOW:HIGH"),
        (("compare", "{x}", "--bits", "four"), "write 8, 2:8 or 4,8; got 'four'."),
        (("compare", "{x}", "--bits", "4,,8"), "write 8, 2:8 or 4,8"),
        (("compare", "{x}", "--mode", "symetric"), "did you mean 'symmetric'"),
        (("compare", "{x}", "--method", "minmax,"), "a name is required between commas"),
        (("compare", "{x}", "--range", "minmx"), "did you mean 'minmax'"),
        (("compare", "{x}", "--range", "1", "-1"), "lo must be below hi"),
        (("compare", "{x}", "--group", "0"), "numbers must be in [1, "),
        (("compare", "{x}", "--granularity", "tensor", "--group", "4"), "--group is for --granularity group"),
        (("compare", "{x}", "--granularity", "tensor", "--axis", "0"), "--axis is for channels and groups"),
        (("compare", "{x}", "--top", "0"), "--top must be at least 1"),
        (("compare", "{x}", "--bits", "2:16", "--rounding", "all", "--convention", "all", "--method", "all"),
         "8,100 combinations; at most 5,000"),
        (("compare", "{x}", "--bits", "16", "--rounding", "all", "--convention", "all", "--mode", "all",
          "--method", "all", "--granularity", "all", "--group", "2,3"), "GiB for their histograms"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_bad_input(args: tuple[str, ...], text: str) -> None:
    ran = qengine(*(arg.format(x=EXAMPLE) for arg in args))
    assert (ran.code, ran.out) == (2, "")
    assert text in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_a_bad_number_in_a_file_has_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("0.5, 0.25\n1.5, 1e400\n")
    for command in ("analyze", "compare"):
        ran = qengine(command, path)
        assert ran.code == 2
        assert ran.err.startswith(f"error: {path}: line 2, column 6: '1e400' is beyond float64")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_when_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for delay, quiet, drawn in ((0.0, False, True), (3600.0, False, False), (0.0, True, False)):
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(progress, "DELAY", delay)
        with progress.progress_bar("analyze", "elements", quiet) as update:
            assert (update is None) == quiet
            if update is not None:
                update(1 << 20, 1 << 21)
                update(1 << 21, 1 << 21)
        assert ("analyze" in stream.getvalue()) == drawn
