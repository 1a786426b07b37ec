"""Checkpoints: what is recorded comes back, and nothing else does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qengine.exceptions import InputFileError
from qengine.work.checkpoint import FILE, Checkpoint

RUN = {"schemes": ["a", "b"], "low": -(2**31)}


def test_values_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    first = Checkpoint(folder, RUN)
    values = {"p": [0, -1, 2**100], "q": {"x": None}, "r\n": "é\n", "empty": []}
    for key, value in values.items():
        first.put(key, value)
    first.put("p", [7])  # the last one counts
    again = Checkpoint(folder, dict(reversed(RUN.items())), resume=True)
    assert [again.get(key) for key in values] == [[7], *list(values.values())[1:]]
    assert again.get("other") is None
    assert (again.parts, again.foreign, again.damaged, again.dropped()) == (4, 0, 0, "")


def test_a_checkpoint_is_not_resumed_unasked(tmp_path: Path) -> None:
    Checkpoint(tmp_path, RUN)  # an empty one is none
    Checkpoint(tmp_path, RUN).put("p", 1)
    with pytest.raises(InputFileError, match="there is a checkpoint: resume it, or choose another folder"):
        Checkpoint(tmp_path, RUN)


def test_lines_of_other_runs_are_left_alone(tmp_path: Path) -> None:
    Checkpoint(tmp_path, RUN).put("p", 1)
    other = Checkpoint(tmp_path, RUN | {"low": 0}, resume=True)
    assert other.get("p") is None
    other.put("p", 2)
    again = Checkpoint(tmp_path, RUN, resume=True)
    assert (again.get("p"), again.foreign) == (1, 1)
    assert again.dropped().endswith("1 line of other runs left out.")


def test_a_file_cut_anywhere_gives_its_whole_lines(tmp_path: Path) -> None:
    """Every prefix of a file: the lines that end in it count, a torn one does not, and the next one is readable."""
    first = Checkpoint(tmp_path, RUN)
    for k in range(3):
        first.put(f"part {k}", [k, 10 * k])
    content = (tmp_path / FILE).read_bytes()
    ends = [k for k, byte in enumerate(content) if byte == 10]
    for size in range(len(content) + 1):
        (tmp_path / FILE).write_bytes(content[:size])
        again = Checkpoint(tmp_path, RUN, resume=True)
        whole = sum(end <= size for end in ends)  # a line without its end of line is whole too
        torn = size > 0 and size not in ends and content[size - 1] != 10
        assert (again.parts, again.damaged) == (whole, int(torn)), size
        again.put("next", "value")
        assert Checkpoint(tmp_path, RUN, resume=True).get("next") == "value"


def test_an_altered_line_is_dropped(tmp_path: Path) -> None:
    """Any byte of a line altered: its value never comes back as another one."""
    Checkpoint(tmp_path, RUN).put("part", [12345])
    content = (tmp_path / FILE).read_bytes()
    for place in range(len(content) - 1):
        altered = bytearray(content)
        altered[place] ^= 1
        (tmp_path / FILE).write_bytes(bytes(altered))
        again = Checkpoint(tmp_path, RUN, resume=True)
        assert again.get("part") in (None, [12345]), place
        if again.get("part") is None:
            assert again.damaged >= 1
            assert "torn or altered" in again.dropped()


@pytest.mark.parametrize(
    "line", ["[]", "{}", "7", '"text"', "[1,2,3,4]", "[" * 2000, '{"a":1,"b":2,"c":3,"d":4}', "\x00"]
)
def test_other_lines_are_damage(line: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(line + "\n")
    assert Checkpoint(tmp_path, RUN, resume=True).damaged == 1


def test_folders_that_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="got an empty one"):
        Checkpoint("", RUN)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputFileError, match="cannot hold a checkpoint"):
        Checkpoint(tmp_path / "file", RUN)
    (tmp_path / FILE).mkdir()
    with pytest.raises(InputFileError, match="cannot hold a checkpoint"):
        Checkpoint(tmp_path, RUN, resume=True)


WRITER = """
import itertools, sys
from qengine.work.checkpoint import Checkpoint
kept = Checkpoint(sys.argv[1], {"run": 1}, resume=True)
for k in itertools.count(kept.parts):
    kept.put(f"part {k}", [k, "x" * 5000])
"""


def test_a_killed_process_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    """SIGKILL at any moment, several times: the parts are 0, 1, 2 ... without a gap."""
    parts = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=tmp_path)
        end = time.monotonic() + 60
        while not (tmp_path / FILE).exists() or (tmp_path / FILE).read_bytes().count(b"\n") < parts + 5:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        found = Checkpoint(tmp_path, {"run": 1}, resume=True)
        assert found.parts >= parts + 5
        assert [found.get(f"part {k}")[0] for k in range(found.parts)] == list(range(found.parts))
        parts = found.parts
    lines = (tmp_path / FILE).read_bytes().splitlines()
    assert len(lines) - sum(_readable(line) for line in lines) <= 3  # at most one torn line a kill


def _readable(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), list)
    except ValueError:
        return False
