"""A census that is killed goes on where it was, and counts what one without a break counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import qengine as qe
from qengine.exact import census
from qengine.exact.census_question import TILE, Question
from qengine.exceptions import DomainError, InputFileError
from qengine.work.checkpoint import FILE
from tests.cli.running import qengine

FIRST = 2**30
TILED: dict[str, Any] = {"shifts": (-9, -3), "multipliers": (FIRST, FIRST + 60_000), "method": "tiles"}
RAW: dict[str, Any] = {"shift": -6, "acc_range": (-90_000, 70_000), "dtype": None, "method": "closed"}


def counted(result: census.CensusResult) -> dict[str, Any]:
    data = result.to_dict()
    del data["seconds"], data["notes"]
    return data


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "RECORDED", 3)


@pytest.mark.parametrize(("schemes", "options"), [(("single", "fp32"), TILED), (("single", "double"), RAW)])
def test_parts_are_counted_once(
    schemes: tuple[str, str], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lines are there, the rest is counted; with all of them nothing is."""
    whole = counted(qe.census(*schemes, **options))
    assert counted(qe.census(*schemes, **options, checkpoint=tmp_path)) == whole
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    assert len(lines) == (10 if options is TILED else 7)
    counts = []
    for name in ("tile", "accumulators"):
        original = getattr(Question, name)
        monkeypatch.setattr(Question, name, lambda self, *part, f=original: counts.append(part) or f(self, *part))
    for kept in (range(0, 10, 2), range(1, 4), range(10)):
        counts.clear()
        (tmp_path / FILE).write_bytes(b"".join(lines[k] for k in kept if k < len(lines)))
        result = qe.census(*schemes, **options, checkpoint=tmp_path, resume=True)
        assert counted(result) == whole
        assert result.notes == ()
        assert bool(counts) == (kept != range(10))
        assert len(counts) <= 3 * (len(lines) - len([k for k in kept if k < len(lines)]))


def test_closed_sums_of_codes_are_one_part(tmp_path: Path) -> None:
    whole = qe.census("single", "double", shifts=(-4, -5))
    qe.census("single", "double", shift=-4, checkpoint=tmp_path)
    again = qe.census("single", "double", shifts=(-4, -5), checkpoint=tmp_path, resume=True)
    assert counted(again) == counted(whole)
    assert (tmp_path / FILE).read_bytes().count(b"\n") == 2


def test_other_questions_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    """The same folder with another clamp; then a line torn by hand."""
    qe.census("single", "fp32", **TILED, checkpoint=tmp_path)
    other = {**TILED, "qmin": -100}
    result = qe.census("single", "fp32", **other, checkpoint=tmp_path, resume=True)
    assert counted(result) == counted(qe.census("single", "fp32", **other))
    (note,) = result.notes
    assert note.endswith("10 lines of other runs left out.")
    assert note in str(result)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:-7])
    result = qe.census("single", "fp32", **other, checkpoint=tmp_path, resume=True)
    assert counted(result) == counted(qe.census("single", "fp32", **other))
    assert result.notes[0].endswith("10 lines of other runs and 1 line torn or altered left out.")


def test_an_interrupted_part_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = counted(qe.census("single", "fp32", **TILED))

    def interrupt(done: int, total: int) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    broken = qe.census("single", "fp32", **TILED, checkpoint=tmp_path, progress=interrupt)
    assert not broken.complete
    before = (tmp_path / FILE).read_bytes().count(b"\n")
    assert 0 < before < 10
    assert counted(qe.census("single", "fp32", **TILED, checkpoint=tmp_path, resume=True)) == whole
    assert (tmp_path / FILE).read_bytes().count(b"\n") == 10


TILES = 120
KILLED: dict[str, Any] = {"shift": -9, "multipliers": (FIRST, FIRST + TILES * TILE - 1), "method": "tiles"}
#: Tiles that take their time, so that there is a middle to be killed in.
RUN = f"""
import sys, time
import qengine as qe
from qengine.exact import census
from qengine.exact.census_question import Question
census.RECORDED = 3
tile = Question.tile
Question.tile = lambda *part: time.sleep(0.05) or tile(*part)
qe.census("single", "fp32", **{KILLED!r}, checkpoint=sys.argv[1], resume=True)
"""


def test_a_killed_census_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL twice in the middle: what was recorded is not counted again, and the totals are those of one run."""
    recorded = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=tmp_path)
        end = time.monotonic() + 100
        while not (tmp_path / FILE).exists() or (tmp_path / FILE).read_bytes().count(b"\n") < recorded + 4:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        recorded = (tmp_path / FILE).read_bytes().count(b"\n")
    counts = []
    tile = Question.tile
    monkeypatch.setattr(Question, "tile", lambda self, *part: counts.append(part) or tile(self, *part))
    again = qe.census("single", "fp32", **KILLED, checkpoint=tmp_path, resume=True)
    assert 0 < len(counts) <= TILES - 3 * (recorded - 1)  # one line of those may be torn
    assert counted(again) == counted(qe.census("single", "fp32", **KILLED))


def test_command(tmp_path: Path) -> None:
    args = ("census", "single", "double", "--shift", "-4", "--quiet", "--json", "--checkpoint", tmp_path)
    assert qengine(*args).code == 0
    refused = qengine(*args)
    assert refused.code == 2
    assert "there is a checkpoint" in refused.err
    again = qengine(*args, "--resume")
    assert again.code == 0
    assert '"divergent": 190017723866' in again.out


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="resume needs a checkpoint"):
        qe.census("single", "double", shift=-4, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputFileError, match="cannot hold a checkpoint"):
        qe.census("single", "double", shift=-4, checkpoint=tmp_path / "file")
