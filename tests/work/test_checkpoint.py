"""Checkpoints: what is recorded comes back, and nothing else does."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from qengine.exceptions import DomainError, InputFileError
from qengine.work import checkpoint, lock
from qengine.work.checkpoint import FILE, Checkpoint, CheckpointWarning, open_checkpoint

RUN = {"schemes": ["a", "b"], "low": -(2**31)}


def write(folder: Path, values: dict[str, Any], run: dict[str, Any] = RUN) -> None:
    with Checkpoint(folder, run, resume=True) as kept:
        for key, value in values.items():
            assert kept.put(key, value)


def read(folder: Path, run: dict[str, Any] = RUN) -> tuple[dict[str, Any], int, int]:
    """All parts, and how many lines were foreign and damaged."""
    with Checkpoint(folder, run, resume=True) as kept:
        return {key: kept.get(key) for key in kept.keys()}, kept.foreign, kept.damaged  # noqa: SIM118


def test_values_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    values = {"p": [0, -1, 2**100], "q": {"x": None}, "r\n": "é\n", "empty": []}
    write(folder, values)
    write(folder, {"p": [7]})  # the last one counts
    with Checkpoint(folder, dict(reversed(RUN.items())), resume=True) as again:
        assert {key: again.get(key) for key in values} == values | {"p": [7]}
        assert again.get("other") is None
        assert (again.parts, again.foreign, again.damaged, again.notes()) == (4, 0, 0, ())
        assert again.keys("r") == ["r\n"]


def test_a_checkpoint_is_not_resumed_unasked(tmp_path: Path) -> None:
    Checkpoint(tmp_path, RUN).close()  # an empty one is none
    Checkpoint(tmp_path, RUN).close()
    write(tmp_path, {"p": 1})
    with pytest.raises(InputFileError, match="there is a checkpoint: resume it, or choose another folder"):
        Checkpoint(tmp_path, RUN)
    assert read(tmp_path) == ({"p": 1}, 0, 0)  # and the folder is free again


def test_no_folder() -> None:
    with open_checkpoint(None, RUN, resume=False) as kept:
        assert kept is None
    with pytest.raises(DomainError, match="resume needs a checkpoint"), open_checkpoint(None, RUN, resume=True):
        pass


def test_lines_of_other_runs_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, {"p": 1})
    write(tmp_path, {"p": 2}, RUN | {"low": 0})
    with Checkpoint(tmp_path, RUN, resume=True) as again:
        assert (again.get("p"), again.foreign) == (1, 2)
        assert again.notes()[0].endswith("2 lines of other runs (other low) left out.")


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is in the file, not of when."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("no_fsync")
def test_a_file_cut_anywhere_gives_its_whole_lines(tmp_path: Path) -> None:
    """Every prefix of a file: the lines that end in it count, a torn one does not, and the next one is readable."""
    write(tmp_path, {f"part {k}": [k, 10 * k] for k in range(3)})
    content = (tmp_path / FILE).read_bytes()
    ends = [k for k, byte in enumerate(content) if byte == 10]
    for size in range(len(content) + 1):
        (tmp_path / FILE).write_bytes(content[:size])
        parts, _, damaged = read(tmp_path)
        whole = sum(end <= size for end in ends)  # a line without its end of line is whole too
        torn = size > 0 and size not in ends and content[size - 1] != 10
        assert (len(parts), damaged) == (max(whole - 1, 0), int(torn)), size  # the first line says what the run is
        write(tmp_path, {"next": "value"})
        assert read(tmp_path)[0] == parts | {"next": "value"}


@pytest.mark.usefixtures("no_fsync")
def test_an_altered_line_is_dropped(tmp_path: Path) -> None:
    """Any byte altered in any way: a value never comes back as another one, and what is intact is used."""
    write(tmp_path, {"part": [12345], "other": ["x"]})
    content = (tmp_path / FILE).read_bytes()
    chance = random.Random(3)
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= chance.randrange(1, 256)
        (tmp_path / FILE).write_bytes(bytes(altered))
        parts, _, damaged = read(tmp_path)
        assert parts.items() <= {"part": [12345], "other": ["x"]}.items(), place
        assert len(parts) + (damaged > 0) >= 2 or content[place] == 10, place
        assert damaged or altered[-1] != 10 or content == altered, place


def test_blocks_of_zeros_after_a_power_loss(tmp_path: Path) -> None:
    """What the disk had not yet is zero bytes: at the end, or in the middle once a later run has gone on."""
    write(tmp_path, {"a": 1, "b": 2})
    content = (tmp_path / FILE).read_bytes()
    for size in (1, 511, 4096, 3_000_000):
        (tmp_path / FILE).write_bytes(content + bytes(size))
        assert read(tmp_path) == ({"a": 1, "b": 2}, 0, 1)
        write(tmp_path, {"c": 3})
        assert read(tmp_path) == ({"a": 1, "b": 2, "c": 3}, 0, 1)
    (tmp_path / FILE).write_bytes(bytes(700))  # nothing but zeros
    assert read(tmp_path) == ({}, 0, 1)


@pytest.mark.usefixtures("no_fsync")
def test_noise(tmp_path: Path) -> None:
    """Random bytes before, between and after the lines change nothing but the count of damaged ones."""
    write(tmp_path, {"a": 1, "b": 2})
    lines = (tmp_path / FILE).read_bytes().splitlines()
    chance = random.Random(9)
    for _ in range(60):
        pieces: list[bytes] = []
        for line in lines:
            pieces += [chance.randbytes(chance.randrange(200)), line]
        (tmp_path / FILE).write_bytes(b"\n".join([*pieces, chance.randbytes(50)]))
        parts, foreign, damaged = read(tmp_path)
        assert (parts, foreign) == ({"a": 1, "b": 2}, 0)
        assert damaged > 0


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "7", '"text"', "[1,2,3]", "[" * 2000, '["a","b"]', '[null,"a",1]', '["a",null,1]', "\x00", "NaN"],
)
@pytest.mark.parametrize("signed", [False, True])
def test_other_lines_are_damage(text: str, signed: bool, tmp_path: Path) -> None:
    """Also with a checksum that is right."""
    line = text.encode()
    (tmp_path / FILE).write_bytes((checkpoint._checksum(line) + b" " + line if signed else line) + b"\n")
    assert read(tmp_path) == ({}, 0, 1)


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is damage, and what follows is read; memory holds its beginning alone."""
    monkeypatch.setattr(checkpoint, "LONGEST", 1000)
    monkeypatch.setattr(checkpoint, "BLOCK", 64)
    write(tmp_path, {"a": 1})
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"x" * 5000 + b"\n")
    write(tmp_path, {"b": ["y" * 300]})
    assert read(tmp_path) == ({"a": 1, "b": ["y" * 300]}, 0, 1)


def test_folders_that_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="got an empty one"):
        Checkpoint("", RUN)
    with pytest.raises(InputFileError, match=r"cannot hold a checkpoint: .*embedded null"):
        Checkpoint("a\0b", RUN)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputFileError, match="cannot hold a checkpoint"):
        Checkpoint(tmp_path / "file", RUN)
    (tmp_path / FILE).mkdir()
    with pytest.raises(InputFileError, match=r"cannot hold a checkpoint: checkpoint.log in it is not a regular file"):
        Checkpoint(tmp_path, RUN, resume=True)


def test_a_refused_write_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full for a while: one warning; then everything is on it, each part once."""
    full = False
    original = os.write

    def writing(file: int, data: Any) -> int:
        if full:
            original(file, data[:10])
            raise OSError(28, "No space left on device")
        return original(file, data)

    with Checkpoint(tmp_path, RUN) as kept:
        monkeypatch.setattr(os, "write", writing)
        assert kept.put("a", 1)
        full = True
        with pytest.warns(CheckpointWarning, match="No space left on device. The run goes on"):
            assert not kept.put("b", 2)
        assert not kept.put("c", 3)  # it has been said
        assert not kept.put("mine", 4, hold=False)
        assert kept.notes()[0].endswith("on device. The checkpoint is incomplete: the last parts are not in it.")
        assert (kept.get("b"), kept.get("mine"), kept.parts) == (2, None, 3)
        assert (tmp_path / FILE).read_bytes().count(b"\n") == 2
        full = False
        assert kept.put("d", 5)
        assert kept.notes() == ()
    assert read(tmp_path) == ({"a": 1, "b": 2, "c": 3, "d": 5}, 0, 0)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete an open file")
def test_a_file_that_is_deleted_meanwhile(tmp_path: Path) -> None:
    """What is written to a file without a name is lost with the process: that is said."""
    with Checkpoint(tmp_path, RUN) as kept:
        assert kept.put("a", 1)
        (tmp_path / FILE).unlink()
        with pytest.warns(CheckpointWarning, match=r"checkpoint.log: cannot be written: it has been deleted"):
            assert not kept.put("b", 2)
        assert "The checkpoint is incomplete" in kept.notes()[0]
        assert (kept.get("a"), kept.get("b")) == (1, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_neither_keeps_nor_gives_back_the_folder(tmp_path: Path) -> None:
    held = lock.FolderLock(tmp_path)
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        held.release()  # as at the end of a process
        os.write(write_end, b"released")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(read_end, 8) == b"released"
        with pytest.raises(lock.FolderTakenError):
            lock.FolderLock(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    try:
        held.release()
        lock.FolderLock(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read_end)
        os.close(write_end)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_is_no_file(tmp_path: Path) -> None:
    """A device has no end: it is not read."""
    (tmp_path / FILE).symlink_to("/dev/full")
    with pytest.raises(InputFileError, match=r"checkpoint.log in it is not a regular file"):
        Checkpoint(tmp_path, RUN, resume=True)
    with pytest.raises(InputFileError, match="cannot hold a checkpoint: it is not a folder"):
        Checkpoint("/dev/full", RUN)


def test_lazy_parts_wait_for_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LEAST", 3600.0)
    with Checkpoint(tmp_path, RUN) as kept:
        for k in range(100):
            assert kept.put(f"part {k}", k, lazy=True)
        assert (tmp_path / FILE).read_bytes().count(b"\n") == 2
        assert (kept.get("part 99"), kept.parts) == (99, 100)
    assert read(tmp_path)[0] == {f"part {k}": k for k in range(100)}


def test_one_at_a_time(tmp_path: Path) -> None:
    with Checkpoint(tmp_path, RUN):
        taken = (
            rf"in use by process {os.getpid()} on {socket.gethostname()}. Wait for its end, or choose another folder"
        )
        with pytest.raises(InputFileError, match=taken):
            Checkpoint(tmp_path, RUN, resume=True)
    Checkpoint(tmp_path, RUN).close()


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel's locks are there")
def test_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file names the owner: a running one is respected, one that is known to be gone is not, a strange one is."""

    def none(descriptor: int) -> None:
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_kernel_lock", none)
    owner = tmp_path / lock.OWNER
    with Checkpoint(tmp_path, RUN):
        assert owner.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(InputFileError, match=rf"process {os.getpid()} .*; if that has ended, delete .*owner"):
            Checkpoint(tmp_path, RUN)
    assert not owner.exists()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owner.write_text(f"process {gone.pid} on {socket.gethostname()}")
    Checkpoint(tmp_path, RUN).close()
    for text in (
        f"process {gone.pid} on another-host",
        "",
        "nonsense",
        f"process 9{'9' * 30} on {socket.gethostname()}",
    ):
        owner.write_text(text)
        with pytest.raises(InputFileError, match="in use by"):
            Checkpoint(tmp_path, RUN)


def test_other_errors_of_locks_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lock, "_kernel_lock", broken)
    with pytest.raises(InputFileError, match="cannot hold a checkpoint: Input/output error"):
        Checkpoint(tmp_path, RUN)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX signals")
def test_signals_have_their_handlers_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with Checkpoint(tmp_path, RUN) as kept:
        assert signal.getsignal(signal.SIGTERM) == kept._terminate
        assert not kept.terminated
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


WRITER = """
import itertools, sys
from qengine.work.checkpoint import Checkpoint
with Checkpoint(sys.argv[1], {"run": 1}, resume=True) as kept:
    for k in itertools.count(kept.parts):
        kept.put(f"part {k}", [k, "x" * 5000])
"""


def test_a_killed_process_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    """SIGKILL at any moment, several times: the parts are 0, 1, 2 ... without a gap."""
    parts = damaged = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=tmp_path)
        end = time.monotonic() + 60
        while not (tmp_path / FILE).exists() or (tmp_path / FILE).read_bytes().count(b"\n") < parts + 6:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        with Checkpoint(tmp_path, {"run": 1}, resume=True) as found:
            assert found.parts >= parts + 5
            assert [found.get(f"part {k}")[0] for k in range(found.parts)] == list(range(found.parts))
            parts, damaged = found.parts, found.damaged
    assert damaged <= 3  # at most one torn line a kill


def test_a_resume_that_finds_nothing_says_so(tmp_path: Path) -> None:
    with Checkpoint(tmp_path / "mistyped", {"seed": 1}, resume=True) as kept:
        (note,) = kept.notes()
        assert "nothing to resume" in note
    with Checkpoint(tmp_path / "new", {"seed": 1}) as kept:
        assert kept.notes() == ()
