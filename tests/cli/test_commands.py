"""Every command: help and its example, JSON, tables, exit codes, designed errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner

import qengine as qe
from qengine import backends, selftest
from qengine.cli.commands import group
from qengine.cli.options import parse_count, parse_scales
from qengine.sweeps.sweep import sweep
from tests import oracle
from tests.cli.running import ISSUE, NAMES, ROOT, SAMPLE, Ran, examples, process, qengine

EXPLAIN = ("explain", "--acc", "585", "--scales", *ISSUE, "--zero-point", "-126")
FAST = ("sweep", "single", "double", "--pairs", "3000")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-test with few values, and a server that ends at once: tests/test_selftest.py and tests/web run them."""
    monkeypatch.setattr(selftest, "structured_values", lambda: [-585, -1, 0, 1, 2, 585])
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    monkeypatch.setattr(os, "_exit", sys.exit)


def as_json(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return json.loads(ran.out, parse_constant=pytest.fail)


# --- help -------------------------------------------------------------------------------------------------------


def test_commands_are_listed() -> None:
    ran = qengine("--help")
    assert ran.code == 0
    for name in NAMES:
        assert f"  {name} " in ran.out
    assert qengine("-h").out == ran.out


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_with_an_example_that_runs(
    name: str, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # examples write files, and read those of the repository
    for folder in ("tests", "qengine"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    ran = qengine(*([name] if name else []), "--help")
    assert ran.code == 0
    assert ran.err == ""
    found = examples(ran.out)
    assert found, "no runnable example"
    for example in found:
        assert example[0] == (name or example[0])
        done = qengine(*example)
        assert done.code == 0, done.err
        assert done.out
        assert done.err == ""


@pytest.mark.parametrize("name", NAMES)
def test_json_option_is_documented(name: str) -> None:
    assert "--json" in qengine(name, "--help").out


def test_runner_of_click() -> None:
    """The group works under click's own runner too."""
    result = CliRunner().invoke(group, ["multiplier", "0.1", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["value"] == 1_717_986_918


def test_version() -> None:
    assert qengine("--version").out.strip().endswith(qe.__version__)


def test_unknown_command() -> None:
    ran = qengine("swep")
    assert ran.code == 2
    assert "swep" in ran.err
    assert ran.out == ""


# --- JSON -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ("schemes",),
        ("schemes", "gemmlowp"),
        ("multiplier", "0.1"),
        ("multiplier", "0"),
        ("multiplier", "--scales", *ISSUE),
        EXPLAIN,
        ("explain", "--acc", "7", "--multiplier", "0.5"),
        ("backends",),
        ("selftest", "--backend", "reference"),
        FAST,
    ],
    ids=" ".join,
)
def test_json_on_stdout_alone(args: tuple[str, ...], quick: None) -> None:
    assert as_json(qengine(*args, "--json"))
    ran = qengine(*args)
    assert ran.code == 0
    assert ran.out
    assert ran.err == ""
    assert "\x1b" not in ran.out, "no colours where it is not a terminal"


def test_schemes() -> None:
    rows = as_json(qengine("schemes", "--json"))
    assert [row["name"] for row in rows] == [row.name for row in qe.schemes()]
    one = as_json(qengine("schemes", "gemmlowp", "--json"))
    assert one["name"] == "double"
    text = qengine("schemes").out
    for row in qe.schemes():
        assert row.name in text
    assert "gemmlowp" in qengine("schemes", "double").out


def test_multiplier() -> None:
    data = as_json(qengine("multiplier", "0.1", "--json"))
    assert (data["value"], data["shift"]) == oracle.quantize_multiplier(0.1)
    assert as_json(qengine("multiplier", "0", "--json"))["error_ppm"] is None
    data = as_json(qengine("multiplier", "--scales", *ISSUE, "--json"))
    for name, row in data["recipes"].items():
        real = oracle.recipe(name, *map(float, ISSUE))
        assert row["real"] == real
        assert (row["value"], row["shift"]) == oracle.quantize_multiplier(real)
    large = as_json(qengine("multiplier", "1e12", "--single", "--json"))
    assert (large["value"], large["shift"]) == (2**31 - 1, 30)


@pytest.mark.parametrize("real", ["1e-300", "5e-324", "1e300", "1.7976931348623157e308"])
def test_multiplier_at_the_ends(real: str) -> None:
    data = as_json(qengine("multiplier", real, "--json"))
    assert (data["value"], data["shift"]) == oracle.quantize_multiplier(float(real))


def test_explain_of_the_issue() -> None:
    """The exact command: -119 in integers, -120 in float32, and who runs which."""
    text = qengine(*EXPLAIN).out
    assert "-119" in text
    assert "-120" in text
    assert "XNNPACK" in text
    rows = {row["scheme"]: row for row in as_json(qengine(*EXPLAIN, "--json"))["schemes"]}
    for row in qe.schemes():
        if row.form == "floor" and row.name not in ("int16x8", "truncate", "tosa-scale16", "avx2-int16"):
            assert rows[row.name]["clamped"] == -119, row.name
    assert rows["fp32"]["clamped"] == -120
    lines = [line for line in text.splitlines() if " fp32 " in line or " single " in line]
    assert any("-120" in line for line in lines)
    assert any("-119" in line for line in lines)


def test_explain_options() -> None:
    data = as_json(
        qengine(
            "explain", "--acc", "-2^20", "--multiplier", "1073741824", "--shift", "-1", "--scheme", "double", "--json"
        )
    )
    assert data["acc"] == -(2**20)
    assert data["multiplier"] == {"value": 2**30, "shift": -1}
    assert [row["scheme"] for row in data["schemes"]] == ["double"]
    assert data["schemes"][0]["clamped"] == -(2**18)
    clamped = as_json(qengine("explain", "--acc", "-9999", "--multiplier", "0.5", "--dtype", "int8", "--json"))
    assert all(group["output"] == -128 for group in clamped["outputs"])


def test_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QENGINE_BACKEND", raising=False)
    data = as_json(qengine("backends", "--json"))
    rows = {row["name"]: row for row in data["backends"]}
    assert rows.keys() == backends.BACKENDS.keys()
    assert [name for name, row in rows.items() if row["default"]] == ["cpu"]
    assert all(row["available"] == (row["reason"] is None) for row in rows.values())
    monkeypatch.setenv("QENGINE_BACKEND", "nonsense")
    ran = qengine("backends", "--json")
    assert ran.code == 1
    assert "nonsense" in json.loads(ran.out)["problem"]


def test_failed_selftest_has_exit_code_1(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(selftest.DIGESTS, "range", "0" * 64)
    ran = qengine("selftest", "--backend", "reference", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["passed"] is False
    ran = qengine("selftest", "--backend", "reference")
    assert ran.code == 1
    assert "FAILED" in ran.out


# --- sweep ------------------------------------------------------------------------------------------------------


def test_sweep_equals_the_function() -> None:
    options = (
        "--range",
        "0.1",
        "0.9",
        "--log-uniform",
        "--pairs",
        "5k",
        "--seed",
        "7",
        "--dtype",
        "int8",
        "--zero-point",
        "-7",
    )
    more = (
        "--acc",
        "output-normal:40",
        "--qmin",
        "-100",
        "--qmax",
        "100",
        "--witnesses",
        "3",
        "--threads",
        "1",
        "--tile",
        "777",
    )
    data = as_json(qengine("sweep", "single", "gemmlowp", "fp32", *options, *more, "--quiet", "--json"))
    result = sweep(
        "single",
        "double",
        "fp32",
        multiplier_range=(0.1, 0.9),
        distribution="log-uniform",
        pairs=5000,
        seed=7,
        dtype="int8",
        zero_point=-7,
        acc="output-normal:40",
        qmin=-100,
        qmax=100,
        witnesses=3,
    )
    assert next(iter(data)) == "digest"
    assert data["digest"] == result.digest
    data.pop("timing")
    expected = result.to_dict()
    expected.pop("timing")
    assert data == expected
    assert (
        qengine("sweep", "single", "double", "fp32", *options, *more, "--backend", "reference").out.count(result.digest)
        == 1
    )


def test_scales_by_three_numbers_or_by_file() -> None:
    triple = as_json(qengine("sweep", "single", "fp32", "--scales", *ISSUE, "--pairs", "3000", "--json"))
    assert triple["plan"]["multipliers"]["channels"] == 1
    assert triple["digest"] == sweep("single", "fp32", scales=tuple(map(float, ISSUE)), pairs=3000).digest
    listed = as_json(qengine("sweep", "--scales", *ISSUE, "single", "fp32", "--pairs", "3000", "--json"))
    assert listed["digest"] == triple["digest"], "the schemes may follow"
    file = as_json(qengine("sweep", "single", "fp32", "--scales", SAMPLE, "--pairs", "3000", "--json"))
    assert file["plan"]["multipliers"]["channels"] == 301
    assert file["digest"] == sweep("single", "fp32", scales=SAMPLE, pairs=3000).digest


@pytest.mark.parametrize(
    ("text", "pairs"),
    [("3_000", 3000), ("3,000", 3000), ("3k", 3000), ("3e3", 3000), ("2^11", 2048), ("2**11", 2048), ("0.003M", 3000)],
)
def test_counts_of_a_command(text: str, pairs: int) -> None:
    assert as_json(qengine("sweep", "single", "double", "--pairs", text, "--json"))["pairs"] == pairs


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("33.4M", 33_400_000),
        ("33400000", 33_400_000),
        ("1e9", 10**9),
        ("2^32", 2**32),
        ("1G", 10**9),
        ("1B", 10**9),
        ("2T", 2 * 10**12),
        ("1.5k", 1500),
        ("1K", 1000),
        ("0", 0),
        (" 7 ", 7),
        ("1e+3", 1000),
        ("0.5e1", 5),
        ("1.000", 1),
    ],
)
def test_parse_count(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "M",
        "1.5",
        "33.4",
        "-5",
        "1e",
        "2^",
        "^3",
        "1e999",
        "2^999999",
        "nan",
        "inf",
        "1 000",
        "1m",
        "0x10",
        "1e-3",
        "²",
        "٣^٢x",
    ],
)
def test_parse_count_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_count(text)


def test_parse_scales() -> None:
    assert parse_scales("1,2,0.5") == (1.0, 2.0, 0.5)
    assert parse_scales("some,file.csv") == "some,file.csv"
    assert parse_scales("scales.csv") == "scales.csv"


def test_sweep_of_the_issue(shared: Path) -> None:
    """33.4 million pairs over the real scales of a model."""
    path = shared / "data" / "mobilenet_v2_ptq_scales.csv"
    args = ("sweep", "single", "double", "fp32", "--scales", path, "--pairs", "33.4M", "--seed", "42")
    ran = qengine(*args)
    assert ran.code == 0
    assert ran.err == ""
    assert "33,400,000" in ran.out
    for name in ("single / double", "single / fp32", "double / fp32"):
        assert name in ran.out
    data = as_json(qengine(*args, "--threads", "1", "--tile", "1M", "--json"))
    assert data["digest"] in ran.out
    assert data["complete"]
    assert data["pairs"] == 33_400_000
    assert data["outside_domain"] == {"single": 0, "double": 0, "fp32": 0}


def test_interrupted_sweep_has_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C prints what is done."""
    engine = backends.load("reference")
    true_tile = engine.sweep_tile

    def tile(work: Any, start: int, stop: int) -> Any:
        if start >= 2000:
            raise KeyboardInterrupt
        return true_tile(work, start, stop)

    monkeypatch.setattr(engine, "sweep_tile", tile)
    ran = qengine(*FAST, "--backend", "reference", "--threads", "1", "--tile", "1000", "--json")
    assert ran.code == 1
    data = json.loads(ran.out)
    assert data["complete"] is False
    assert data["pairs"] == 2000


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("sweep", "single"), "a sweep compares two or more schemes; got 1."),
        (("sweep",), "Missing argument"),
        (("sweep", "single", "tflite-single"), "the schemes must differ"),
        (("sweep", "single", "doubel"), "unknown scheme 'doubel'; did you mean 'double'"),
        (("schemes", "singel"), "unknown scheme 'singel'; did you mean 'single'"),
        (
            ("explain", "--acc", "1", "--multiplier", "0.5", "--scheme", "fp23"),
            "unknown scheme 'fp23'; did you mean 'fp32'",
        ),
        (("sweep", "single", "double", "--pairs", "0"), "pairs must be in [1, "),
        (("sweep", "single", "double", "--pairs", "-5"), "'-5' is not a count; write 33400000, 33.4M, 1e9 or 2^32."),
        (("sweep", "single", "double", "--pairs", "1.5"), "'1.5' is not a whole number."),
        (("sweep", "single", "double", "--pairs", "many"), "'many' is not a count"),
        (("sweep", "single", "double", "--seed", "2^64"), "seed must be in [0, 18446744073709551615]"),
        (("sweep", "single", "double", "--threads", "0"), "threads must be in [1, 4096]; got 0."),
        (("sweep", "single", "double", "--tile", "0"), "tile_pairs must be in [1, 1099511627776]; got 0."),
        (("sweep", "single", "double", "--backend", "gpu"), "unknown back end 'gpu'; did you mean 'cpu'?"),
        (("sweep", "single", "double", "--acc", "unifrom"), "did you mean 'uniform'?"),
        (("sweep", "single", "double", "--dtype", "int32"), "int32"),
        (("sweep", "single", "double", "--zero-point", "300"), "zero_point must be in [-128, 127]; got 300."),
        (("sweep", "single", "double", "--multiplier", "nan"), "multiplier must be finite and not negative; got nan."),
        (
            ("sweep", "single", "double", "--multiplier", "-0.5"),
            "multiplier must be finite and not negative; got -0.5.",
        ),
        (
            ("sweep", "single", "double", "--multiplier", "-5", "--shift", "0"),
            "multiplier value must be in [0, 2147483647] (Q0.31); got -5.",
        ),
        (("sweep", "single", "double", "--multiplier", "0.5", "--shift", "0"), "'0.5' is not an integer mantissa."),
        (("sweep", "single", "double", "--multiplier", "half"), "'half' is not a real number."),
        (("sweep", "single", "double", "--shift", "3"), "--shift needs --multiplier."),
        (("sweep", "single", "double", "--multiplier", "1527099593"), "a mantissa in Q0.31, which needs --shift"),
        (("scheems",), "unknown command 'scheems'; did you mean 'schemes'"),
        (("sweep", "single", "double", "--range", "0.9", "0.1"), "a multiplier range must satisfy"),
        (("sweep", "single", "double", "--range", "nan", "1"), "a multiplier range must satisfy"),
        (("sweep", "single", "double", "--multiplier", "0.5", "--range", "0.1", "0.9"), "pass one of"),
        (
            ("sweep", "single", "double", "--scales", "nan", "0.1", "0.1"),
            "input_scale must be finite, > 0 and representable in float32; got nan.",
        ),
        (("sweep", "single", "double", "--scales", "0.1", "-0.1", "0.1"), "weight_scale must be finite, > 0"),
        (
            ("sweep", "single", "double", "--scales", "0.1", "0.2"),
            "takes a file or three numbers S_IN S_W S_OUT; got 2.",
        ),
        (("sweep", "single", "double", "--scales", "0.1"), "takes a file or three numbers S_IN S_W S_OUT; got 1."),
        (("sweep", "single", "double", "--scales", "nowhere.csv"), "nowhere.csv: no such file."),
        (("explain", "--multiplier", "0.5"), "Missing option '--acc'"),
        (("explain", "--acc", "1.5", "--multiplier", "0.5"), "'1.5' is not an integer."),
        (("explain", "--acc", "1"), "explain takes a multiplier or scales"),
        (("explain", "--acc", "1", "--multiplier", "0.5", "--scales", *ISSUE), "explain takes a multiplier or scales"),
        (("explain", "--acc", "1", "--multiplier", "nan"), "multiplier must be finite; got nan."),
        (("explain", "--acc", "1", "--multiplier", "-0.5"), "multiplier must not be negative; got -0.5."),
        (("explain", "--acc", "1", "--scales", "nan", "1", "1"), "input_scale must be finite, > 0"),
        (("explain", "--acc", "1", "--scales", "1", "1"), "takes three numbers S_IN S_W S_OUT; got 2."),
        (("explain", "--acc", "1", "--scales", "file.csv"), "takes three numbers S_IN S_W S_OUT; got 'file.csv'."),
        (
            ("explain", "--acc", "1", "--multiplier", "1073741824", "--shift", "99999999999"),
            "shift must fit int32; got 99999999999.",
        ),
        (
            ("explain", "--acc", "1", "--multiplier", "0.5", "--zero-point", "128", "--dtype", "int8"),
            "zero_point must be in [-128, 127]",
        ),
        (("multiplier",), "give one real multiplier, or --scales"),
        (("multiplier", "0.5", "--scales", *ISSUE), "give one real multiplier, or --scales"),
        (("multiplier", "nan"), "multiplier must be finite; got nan."),
        (("multiplier", "--", "-0.5"), "multiplier must not be negative; got -0.5."),
        (("multiplier", "--scales", "1", "0", "1"), "weight_scale must be finite, > 0"),
        (("multiplier", "--scales", "file.csv"), "takes three numbers S_IN S_W S_OUT; got 'file.csv'."),
        (("selftest", "--backend", "gpu"), "unknown back end 'gpu'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input(args: tuple[str, ...], text: str) -> None:
    ran = qengine(*args)
    assert ran.code == 2
    assert ran.out == ""
    assert text in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("shift", ["31", "-32", "2000", "-2000"])
def test_shift_out_of_range(shift: str) -> None:
    """A shift that no integer scheme takes is bad input, for explain and for sweep."""
    fixed = ("--multiplier", "1073741824", "--shift", shift)
    for arguments in (("explain", "--acc", "1", *fixed), ("sweep", "single", "double", *fixed)):
        ran = qengine(*arguments)
        assert ran.code == 2
        assert ran.out == ""
        assert ran.err == f"error: shift must be in [-31, 30] for scheme 'single'; got {shift}.\n"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a,b\n1,2\n", "line 1: the header lacks input_scale, weight_scale, output_scale; it has a, b."),
        ("input_scale,weight_scale,output_scale\n1,2,3\n1,x,3\n", "line 3: weight_scale must be a number; got 'x'."),
        ("input_scale,weight_scale,output_scale\n\n1,2\n", "line 3: 2 cells where the header has 3."),
        ("input_scale,weight_scale,output_scale\n", "no rows below the header."),
    ],
)
def test_malformed_csv(content: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    ran = qengine("sweep", "single", "double", "--scales", path)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(f"error: {path}: {text}")


@pytest.mark.skipif(backends.unavailable("cuda") is None, reason="the CUDA back end serves here")
def test_missing_back_end_is_no_fallback() -> None:
    ran = qengine(*FAST, "--backend", "cuda")
    assert ran.code == 2
    assert "cuda" in ran.err


# --- real processes ---------------------------------------------------------------------------------------------


def test_process_of_the_issue() -> None:
    ran = process(*EXPLAIN)
    assert ran.code == 0
    assert ran.err == ""
    assert "-119" in ran.out
    assert "-120" in ran.out
    assert json.loads(process(*EXPLAIN, "--json").out)["acc"] == 585


def test_process_with_bad_input() -> None:
    ran = process("sweep", "single", "double", "--scales", "nan", "1", "1")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: input_scale must be finite, > 0 and representable in float32; got nan.\n"


def test_installed_script() -> None:
    script = Path(sys.executable).with_name("qengine")
    if not script.exists():
        pytest.skip("the package's script is not installed beside this Python")
    done = subprocess.run([script, "multiplier", "0.1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "1717986918" in done.stdout


HEAVY = ("numpy", "numba", "rich", "llvmlite", "cupy")


@pytest.mark.parametrize(
    "code",
    [
        "from qengine.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "import qengine",
        "import qengine.cli",
    ],
)
def test_help_imports_neither_numpy_nor_numba(code: str) -> None:
    code += f"\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


def test_import_times_of_help() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "qengine", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("args", [("schemes", "--json"), ("schemes",), (*FAST, "--quiet"), ("--help",)], ids=" ".join)
def test_closed_pipe(args: tuple[str, ...]) -> None:
    """The reader has gone (``| head -1``): no traceback, no complaint, no failure."""
    read, write = os.pipe()
    os.close(read)
    try:
        started = subprocess.Popen(
            [sys.executable, "-m", "qengine", *args], stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT.parent
        )
    finally:
        os.close(write)
    _, err = started.communicate(timeout=60)
    assert err == ""
    assert started.returncode == 0


def test_head_of_a_pipe() -> None:
    first = subprocess.Popen(
        [sys.executable, "-m", "qengine", "schemes", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stderr is not None
    assert first.stdout.readline() == b"[\n"
    first.stdout.close()
    err = first.stderr.read()
    first.stderr.close()
    assert first.wait(60) == 0
    assert err == b""
