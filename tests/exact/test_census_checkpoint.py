"""A census, and a count that scans, go on where they were killed, and count what one without a break counts."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qengine as qe
from qengine.exact import scan
from qengine.exact.census_question import Question
from qengine.exceptions import DomainError, InputFileError
from qengine.work import checkpoint
from qengine.work.checkpoint import FILE
from tests.cli.running import qengine
from tests.killing import OFTEN, Forks

FIRST = 2**30
TILED: dict[str, Any] = {"shifts": (-9, -3), "multipliers": (FIRST, FIRST + 60_000), "method": "tiles"}
RAW: dict[str, Any] = {"shift": -6, "acc_range": (-90_000, 70_000), "dtype": None, "method": "closed"}
CODES: dict[str, Any] = {"shifts": (-4, -5)}


@pytest.fixture
def every_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each tile."""
    for name in ("LEAST", "SHARE", "COST"):
        monkeypatch.setattr(checkpoint, name, 0)


@pytest.mark.usefixtures("every_tile")
@pytest.mark.parametrize(
    ("schemes", "options"), [(("single", "fp32"), TILED), (("single", "double"), RAW), (("single", "double"), CODES)]
)
def test_parts_are_counted_once(
    schemes: tuple[str, str], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lines are there, the rest is counted; with all of them nothing is."""
    whole = qe.census(*schemes, **options)
    assert qe.census(*schemes, **options, checkpoint=tmp_path).digest == whole.digest
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    assert len(lines) > 10
    counts = []
    for name in ("tile", "accumulators"):
        original = getattr(Question, name)
        monkeypatch.setattr(Question, name, lambda self, *part, f=original: counts.append(part) or f(self, *part))
    for kept in (range(0, 10_000, 2), range(1, 4), range(10_000)):
        counts.clear()
        (tmp_path / FILE).write_bytes(b"".join(line for k, line in enumerate(lines) if k in kept))
        result = qe.census(*schemes, **options, checkpoint=tmp_path, resume=True)
        assert (result.digest, result.notes) == (whole.digest, ())
        assert result.to_dict() | {"seconds": 0} == whole.to_dict() | {"seconds": 0}
        assert bool(counts) == (len(kept) < 10_000 and options is not CODES)


def test_a_finished_shift_serves_other_questions(tmp_path: Path) -> None:
    whole = qe.census("single", "double", shifts=(-4, -5))
    qe.census("single", "double", shift=-4, checkpoint=tmp_path)
    again = qe.census("single", "double", shifts=(-4, -5), checkpoint=tmp_path, resume=True)
    assert (again.digest, again.notes) == (whole.digest, ())


def test_other_questions_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    """The same folder with another clamp; then a line torn by hand."""
    qe.census("single", "fp32", **TILED, checkpoint=tmp_path)
    other = {**TILED, "qmin": -100}
    result = qe.census("single", "fp32", **other, checkpoint=tmp_path, resume=True)
    assert result.digest == qe.census("single", "fp32", **other).digest
    (note,) = result.notes
    assert "lines of other runs (other output) left out." in note
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:-7])
    result = qe.census("single", "fp32", **other, checkpoint=tmp_path, resume=True)
    assert result.digest == qe.census("single", "fp32", **other).digest
    assert "and 1 line torn or altered left out." in result.notes[0]


def test_what_an_interrupted_census_has_is_recorded(tmp_path: Path) -> None:
    whole = qe.census("single", "fp32", **TILED)

    def interrupt(done: int, total: int) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    broken = qe.census("single", "fp32", **TILED, checkpoint=tmp_path, progress=interrupt)
    assert not broken.complete
    assert broken.digest != whole.digest
    seen: list[int] = []
    again = qe.census(
        "single", "fp32", **TILED, checkpoint=tmp_path, resume=True, progress=lambda done, total: seen.append(done)
    )
    assert again.digest == whole.digest
    assert min(seen) > 0.5 * max(seen)


#: What is killed: about a second of work each, and how its result is known.
KILLED = {
    "tiles": ("census('single', 'fp32', shift=-9, multipliers=(2**30, 2**30 + 999_999), method='tiles'", 6),
    "raw": ("census('single', 'double', shift=-6, acc_range=(-600_000, 700_000), dtype=None, method='closed'", 5),
    "codes": ("census('single', 'double', shifts=range(-1, -15, -1)", 4),
    "scan": ("compare_schemes('single', 'fp32', multiplier=0.011, acc_range=(-200_000_000, 300_000_000)", 6),
}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    if not hasattr(os, "fork"):
        pytest.skip("kills need fork")
    warm = "; ".join(
        (
            OFTEN, "import qengine as qe", "from qengine.exact import scan", "scan.TILE = 1 << 20",
            "qe.census('single', 'fp32', shift=-9, multipliers=(2**30, 2**30), method='tiles')",
            "qe.census('single', 'double', shift=-6, acc_range=(0, 9), dtype=None, method='closed')",
            "qe.census('single', 'double', shift=-1, acc_range=(0, 9))",
            "qe.compare_schemes('single', 'fp32', multiplier=0.011, acc_range=(0, 9))",
        )
    )  # fmt: skip
    with Forks(warm) as process:
        yield process


@pytest.mark.parametrize("name", KILLED)
def test_killed_again_and_again(name: str, forks: Forks, tmp_path: Path) -> None:
    """SIGKILL at random moments; at the end the digest is that of a run without a break."""
    call, kills = KILLED[name]
    whole = eval(f"qe.{call})", {"qe": qe})
    chance, folder, killed = random.Random(name), tmp_path / "0", 0
    while killed < kills:
        program = f"import qengine as qe\nr = qe.{call}, checkpoint={str(folder)!r}, resume=True)\n"
        program += f"open({str(folder) + '.digest'!r}, 'w').write(r.digest)"
        status = forks.run(program, kill_after=chance.uniform(0.0, 0.25))
        assert status in (0, -signal.SIGKILL)
        killed += status < 0
        if status == 0:  # finished before the signal came: begin anew
            assert folder.with_suffix(".digest").read_text() == whole.digest
            folder = tmp_path / str(int(folder.name) + 1)
    again = eval(f"qe.{call}, checkpoint=folder, resume=True)", {"qe": qe, "folder": folder})
    assert again.digest == whole.digest
    assert not [note for note in again.notes if "other runs" in note or "cannot be written" in note]


@pytest.mark.usefixtures("every_tile")
def test_a_scan_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, largest differences, histogram, first and last witness, of any lines that are there."""
    monkeypatch.setattr(scan, "TILE", 1 << 16)
    given: dict[str, Any] = {"multiplier": [0.011, 0.3], "acc_range": (-300_000, 400_000)}
    whole = qe.compare_schemes("single", "fp32", "double", **given)
    qe.compare_schemes("single", "fp32", "double", **given, checkpoint=tmp_path)
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * 11
    for kept in (lines, lines[::2], lines[3:5]):
        (tmp_path / FILE).write_bytes(b"".join(kept))
        again = qe.compare_schemes("single", "fp32", "double", **given, checkpoint=tmp_path, resume=True)
        assert again.to_dict() | {"timing": 0} == whole.to_dict() | {"timing": 0}
    other = qe.compare_schemes("single", "fp32", multiplier=0.011, checkpoint=tmp_path, resume=True, dtype="int8")
    assert "lines of other runs" in other.notes[0]
    assert other.to_dict()["notes"] == list(other.notes)


def test_commands(tmp_path: Path) -> None:
    args = ("census", "single", "double", "--shift", "-4", "--quiet", "--json", "--checkpoint", tmp_path)
    first = qengine(*args)
    assert (first.code, first.err) == (0, "")
    refused = qengine(*args)
    assert refused.code == 2
    assert "there is a checkpoint" in refused.err
    again = qengine(*args, "--resume")
    assert again.code == 0
    assert '"divergent": 190017723866' in again.out
    assert json.loads(again.out)["digest"] == json.loads(first.out)["digest"]
    with (tmp_path / FILE).open("ab") as file:
        file.write(bytes(100))
    again = qengine(*args, "--resume")
    assert json.loads(again.out)["notes"] == [f"{tmp_path / FILE}: 1 line torn or altered left out."]
    assert again.err == f"note: {tmp_path / FILE}: 1 line torn or altered left out.\n"
    count = ("count", "single", "fp32", "--multiplier", "0.3", "--range", "-9", "9", "--checkpoint", tmp_path / "count")
    for resume in ((), ("--resume",)):
        ran = qengine(*count, *resume)
        assert (ran.code, ran.out.count("digest ")) == (0, 1)


def test_errors(tmp_path: Path) -> None:
    for call in (
        lambda **how: qe.census("single", "double", shift=-4, **how),
        lambda **how: qe.compare_schemes("single", "double", multiplier=0.3, **how),
    ):
        with pytest.raises(DomainError, match="resume needs a checkpoint"):
            call(resume=True)
        (tmp_path / "file").write_text("")
        with pytest.raises(InputFileError, match="cannot hold a checkpoint"):
            call(checkpoint=tmp_path / "file")


def test_a_command_that_is_killed(tmp_path: Path) -> None:
    """The command line itself: SIGKILL, then --resume in a new process."""
    command = [
        sys.executable, "-m", "qengine", "count", "single", "fp32", "--multiplier", "0.3", "--json", "--quiet",
        "--range", "-150000000", "150000000", "--checkpoint", str(tmp_path / "kept"), "--resume",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    log = tmp_path / "kept" / FILE
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 1):
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = qe.compare_schemes("single", "fp32", multiplier=0.3, acc_range=(-150_000_000, 150_000_000)).digest
    assert json.loads(done.stdout)["digest"] == expected


def test_columns_of_a_scan_that_do_not_fit() -> None:
    """A line whose checksum is right and whose columns are too short: no result of fewer pairs."""
    none = scan._Found.none(3)
    assert none.unpack(none.pack()).divergent.tolist() == [0, 0, 0]
    for column in range(4):
        data = none.pack()
        data[column] = data[column][:-1]
        with pytest.raises(ValueError, match="columns of other lengths"):
            none.unpack(data)
