"""--checkpoint, --resume and --plan of the command line."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.exceptions import DomainError
from qengine.sweeps.estimate import _step, estimate
from qengine.sweeps.sweep import plan_of, run_of
from qengine.work.checkpoint import FILE, Checkpoint
from tests.cli.running import SAMPLE, qengine
from tests.killing import OFTEN, Forks

SWEEP = ("sweep", "single", "double", "--pairs", "1M", "--seed", "7", "--json")


def test_a_sweep_goes_on(tmp_path: Path) -> None:
    first = qengine(*SWEEP, "--checkpoint", tmp_path)
    assert (first.code, first.err) == (0, "")
    refused = qengine(*SWEEP, "--checkpoint", tmp_path)
    assert refused.code == 2
    assert "there is a checkpoint: resume it, or choose another folder" in refused.err
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-9])
    again = qengine(*SWEEP, "--checkpoint", tmp_path, "--resume", "--threads", "1", "--tile", "30k")
    assert again.code == 0
    note = f"{tmp_path / FILE}: 1 line torn or altered left out."
    assert again.err == f"note: {note}\n"
    data = json.loads(again.out)
    assert data["notes"] == [note]
    assert data["digest"] == json.loads(first.out)["digest"]
    text = qengine(*SWEEP[:-1], "--checkpoint", tmp_path, "--resume")
    assert "1,000,000 from the checkpoint" in text.out
    assert text.out.rstrip().endswith("digest " + data["digest"])


def test_what_does_not_go_together(tmp_path: Path) -> None:
    assert "resume needs a checkpoint" in qengine(*SWEEP, "--resume").err
    assert "--resume needs a checkpoint" in qengine(*SWEEP, "--plan", "--resume").err
    for option in (("--workers", "3"), ("--price", "1")):
        assert "are for --plan" in qengine(*SWEEP, *option).err
    (tmp_path / "file").write_text("")
    bad = qengine(*SWEEP, "--checkpoint", tmp_path / "file")
    assert bad.code == 2
    assert "cannot hold a checkpoint" in bad.err


def test_a_full_disk_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        ran = qengine(*SWEEP, "--checkpoint", tmp_path)
    assert ran.code == 0
    warned, noted = ran.err.splitlines()
    assert warned.startswith(f"warning: {tmp_path / FILE}: cannot be written: No space left on device.")
    assert noted.startswith("note: ")
    assert json.loads(ran.out)["digest"] == json.loads(qengine(*SWEEP).out)["digest"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c(tmp_path: Path) -> None:
    """The tables are of what is done, the exit code is 1, and the text says how to go on."""
    options = ("--pairs", "1e12", "--tile", "1M", "--checkpoint", str(tmp_path / "kept"), "--quiet", "--json")
    command = [sys.executable, "-m", "qengine", "sweep", "single", "double", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "kept" / FILE
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"interrupted: what is finished is recorded in {tmp_path / 'kept'}; --resume goes on from there." in err
    data = json.loads(out)
    assert not data["complete"]
    assert 0 < data["pairs"] < 10**12
    lines = log.read_bytes().splitlines()
    spans = [json.loads(line[33:])[1].split(" ")[1:] for line in lines[1:]]
    pairs = sum(int(b) - int(a) for line in spans for a, b in (one.split("-") for one in line))
    assert pairs == data["pairs"]  # all that was counted is recorded


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    if not hasattr(os, "fork"):
        pytest.skip("kills need fork")
    warm = OFTEN + "; import qengine as qe; qe.error_report([1.0, 2.0], qe.QuantSpec(bits=8))"
    with Forks(warm) as process:
        yield process


def test_analyze_is_killed_again_and_again(forks: Forks, tmp_path: Path) -> None:
    """SIGKILL at random moments of tensors of several tiles; at the end every bit is that of a run without a break."""
    rng = np.random.default_rng(4)
    tensors = {name: rng.normal(size=(6, 900_001)).astype(np.float32) for name in ("a", "b")} | {"c": np.ones(3)}
    np.savez(tmp_path / "x.npz", **tensors)
    expected = json.loads(qengine("analyze", tmp_path / "x.npz", "--json", "--range", "-4", "4").out)
    program = (
        "import contextlib, io; from qengine.cli import main\nwith contextlib.redirect_stdout(io.StringIO()):\n"
        f" main(['analyze', {str(tmp_path / 'x.npz')!r}, '--json', '--range', '-4', '4', '--quiet', '--checkpoint',"
        f" {str(tmp_path / 'kept')!r}, '--resume'])\n"
    )
    chance = random.Random(5)
    for _ in range(8):
        assert forks.run(program, kill_after=chance.uniform(0.0, 0.2)) in (0, -signal.SIGKILL)
    again = json.loads(
        qengine(
            "analyze", tmp_path / "x.npz", "--json", "--range", "-4", "4", "--checkpoint", tmp_path / "kept", "--resume"
        ).out
    )
    assert (again["digest"], again["tensors"]) == (expected["digest"], expected["tensors"])


def test_analyze_of_a_file_that_has_changed(tmp_path: Path) -> None:
    """Samples other than those recorded are noticed, and measured anew."""
    x = np.random.default_rng(1).uniform(-1, 1, 2_500_000).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    args = ("analyze", tmp_path / "x.npy", "--json", "--range", "-1", "1", "--checkpoint", tmp_path / "kept")
    first = json.loads(qengine(*args).out)
    same = qengine(*args, "--resume", "--threads", "1")
    assert (json.loads(same.out)["digest"], same.err) == (first["digest"], "")
    x[2_400_000] += 0.25
    np.save(tmp_path / "x.npy", x)
    other = qengine(*args, "--resume")
    assert other.err == f"note: {tmp_path / 'kept' / FILE}: 1 line of samples that have changed left out.\n"
    assert json.loads(other.out)["digest"] == json.loads(qengine(*args[:-2]).out)["digest"] != first["digest"]


def test_error_report_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any number of tiles, with other threads; an array on the host is read again up to there."""
    x = np.random.default_rng(2).normal(size=(5, 1_000_003)).astype(np.float32)
    specs = qe.QuantSpec.grid(bits=(4, 8))
    whole = qe.error_report(x, specs, axis=0)
    for stop in (1, 3, 5):
        folder = tmp_path / str(stop)

        def interrupt(done: int, total: int, stop: int = stop) -> None:
            if done >= stop << 20 or done == total:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            qe.error_report(x, specs, axis=0, checkpoint=folder, threads=2, progress=interrupt)
        again = qe.error_report(x, specs, axis=0, checkpoint=folder, resume=True, threads=1)
        assert (again.digest, again.notes) == (whole.digest, ())
    with pytest.raises(DomainError, match="resume needs a checkpoint"):
        qe.error_report(x, specs, resume=True)


def test_plan() -> None:
    ran = qengine(
        "sweep", "single", "double", "--pairs", "1e11", "--plan", "--workers", "10", "--price", "0.5", "--json"
    )
    assert (ran.code, ran.err) == (0, "")
    data = json.loads(ran.out)
    assert (data["pairs"], data["tile_pairs"] * data["tiles"] >= 10**11, data["exact"]) == (10**11, True, None)
    here, ten = data["estimates"]
    assert (here["here"], ten["here"], ten["workers"]) == (True, False, 10)
    assert here["seconds"] == pytest.approx(10**11 / data["calibration"]["pairs_per_second"])
    assert ten["seconds"] == pytest.approx(10**10 / data["calibration"]["pairs_per_second_of_one_worker"])
    assert ten["cost"] == pytest.approx(10 * ten["seconds"] / 3600 * 0.5)
    plan = plan_of("single", "double", pairs=10**11)
    assert data["plan_digest"] == plan.digest


def test_plan_of_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the checkpoint holds of this sweep is not planned again; the folder may be in use and is not written."""
    monkeypatch.setattr("qengine.sweeps.estimate.SECONDS", 0.01)
    args = ("sweep", "single", "double", "--pairs", "4M", "--tile", "1M", "--plan", "--checkpoint")
    assert json.loads(qengine(*args, tmp_path / "none", "--json").out)["done"] == 0
    assert not (tmp_path / "none").exists()
    plan = plan_of("single", "double", pairs=4_000_000)
    with Checkpoint(tmp_path, run_of(plan)) as kept:
        for key in ("pairs 0-1000000", "pairs 2000000-2500000 3000000-3500000", "pairs 0-9000000", "pairs x", "y 0-9"):
            kept.put(key, 0)
        before = (tmp_path / FILE).read_bytes()
        told = json.loads(qengine(*args, tmp_path, "--resume", "--json").out)
        assert (told["done"], told["tiles"]) == (2_000_000, 2)
        speed = told["calibration"]["pairs_per_second"]
        assert told["estimates"][0]["seconds"] == pytest.approx(2_000_000 / speed)
        assert "2,000,000 of them in the checkpoint, the others in 2 tiles" in qengine(*args, tmp_path).out
        assert (tmp_path / FILE).read_bytes() == before
    assert json.loads(qengine(*args, tmp_path, "--seed", "5", "--json").out)["done"] == 0


@pytest.mark.parametrize(
    "question",
    [
        ("--multiplier", "1518500250", "--shift", "-6", "--acc", "all:-3000:2999"),
        ("--multiplier", "1518500250", "--shift", "-6", "--acc", "all:-3000:2999", "--pairs", "2000"),
        (
            "--multiplier",
            "0.013",
            "--acc",
            "all:-70000:69999",
            "--dtype",
            "uint8",
            "--zero-point",
            "3",
            "--qmax",
            "200",
        ),
        ("--scales", "0.05", "0.02", "0.11", "--acc", "all:-9000:9000", "--dtype", "int8", "--zero-point", "-3"),
    ],
)
def test_the_exact_command_answers_the_same_question(
    question: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qengine.sweeps.estimate.SECONDS", 0.01)
    args = ("sweep", "single", "double", "double-up", *question)
    told = json.loads(qengine(*args, "--plan", "--json").out)["exact"]
    assert told["command"] in " ".join(qengine(*args, "--plan").out.split())
    exact = json.loads(qengine(*shlex.split(told["command"])[1:], "--json").out)
    swept = json.loads(qengine(*args, "--json").out)
    assert [pair["divergent"] for pair in swept["couples"]] == [pair["divergent"] for pair in exact["couples"]]
    assert any(pair["divergent"] for pair in swept["couples"])


@pytest.mark.parametrize(
    ("question", "engines"),
    [
        ({"multiplier": 0.25}, ("lattice",)),
        ({"multiplier": 0.25, "dtype": "int8", "acc": "uniform:-9:9"}, ("lattice",)),
        ({"scales": SAMPLE, "dtype": "int8"}, ("lattice",)),
        ({"multiplier": 0.25, "acc": "normal:100"}, ()),  # the exact engine counts every accumulator alike
        ({"multiplier_range": (0.1, 0.2)}, ()),
    ],
)
def test_where_nobody_needs_a_sweep(question: dict[str, Any], engines: tuple[str, ...]) -> None:
    told = estimate(plan_of("single", "double", **question), seconds=0.01)
    assert told.exact == engines


def test_a_scan_is_no_faster_than_a_sweep() -> None:
    assert estimate(plan_of("single", "fp32", multiplier=0.25), seconds=0.01).exact == ()


def test_the_calibration_is_not_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first tile waits for, or one in between, does not make all so short that they are hand-over."""
    clock, calls = [0.0], [0]

    def evaluate(start: int, stop: int) -> None:
        calls[0] += 1
        clock[0] += 5.0 if calls[0] in (1, 4) else (stop - start) * 1e-9

    monkeypatch.setattr("qengine.sweeps.estimate.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert _step(evaluate, 10**10, 2**30) >= 0.02 / 1e-9
    assert _step(evaluate, 5000, 2**30) == 5000


def test_bad_estimates() -> None:
    plan = plan_of("single", "double", pairs=1000)
    for price in (-1.0, float("nan"), float("inf")):
        with pytest.raises(DomainError, match="price must be a finite number of at least 0"):
            estimate(plan, price=price)
    with pytest.raises(DomainError, match="workers must be at least 1; got 0"):
        estimate(plan, workers=(3, 0))
