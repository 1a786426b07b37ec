"""A sweep that is killed goes on where it was, on any number of workers, and counts every pair once."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qengine as qe
from qengine.exceptions import DomainError, InputFileError
from qengine.sweeps.sweep import _ledger, make_work, plan_of, run_of
from qengine.sweeps.tally import Tally
from qengine.work import checkpoint
from qengine.work.checkpoint import FILE, Checkpoint, CheckpointWarning
from tests.killing import OFTEN, Forks

if not hasattr(os, "fork"):
    pytest.skip("kills need fork", allow_module_level=True)

WARM = OFTEN + "; import qengine as qe; qe.sweep('single', 'double', pairs=9, backend='cpu')"
#: Some tenths of a second of work each, in tiles of milliseconds: random multipliers, all accumulators, a table.
SWEEPS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "drawn": (("single", "double", "fp32"), {"pairs": 60_000_000, "seed": 5}),
    "all": (("single", "double"), {"multiplier": 0.011, "acc": "all:-200000000:199999999"}),
    "clamped": (("single", "fp32"), {"pairs": 80_000_001, "scales": (0.05, 0.02, 0.11), "dtype": "int8", "seed": 1}),
}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks(WARM) as process:
        yield process


def code(schemes: tuple[str, ...], options: dict[str, Any], folder: Path, **how: Any) -> str:
    """A program that runs or resumes a sweep and writes its digest beside the folder."""
    given = {**options, **how, "checkpoint": str(folder), "resume": True}
    return (
        f"import qengine as qe; r = qe.sweep(*{schemes!r}, **{given!r})\n"
        f"open({str(folder) + '.digest'!r}, 'w').write(r.digest)"
    )


def recorded(schemes: tuple[str, ...], options: dict[str, Any], folder: Path) -> int:
    """The pairs that a checkpoint holds, each counted once."""
    plan = plan_of(*schemes, **options)
    empty = Tally.of(qe.backends.load("reference").sweep_tile(make_work(plan), 0, 0), 0)  # type: ignore[attr-defined]
    with Checkpoint(folder, run_of(plan), resume=True) as kept:
        ledger = _ledger(plan, empty, kept)
        assert ledger.total.pairs == ledger.resumed
        assert kept.foreign == 0
        return ledger.resumed


@pytest.mark.parametrize(("name", "kills"), [("drawn", 16), ("all", 14), ("clamped", 10)])
def test_killed_again_and_again(name: str, kills: int, forks: Forks, tmp_path: Path) -> None:
    """SIGKILL at random moments, each time with other workers and tiles: nothing is lost, nothing counted twice."""
    schemes, options = SWEEPS[name]
    chance = random.Random(name)
    folder, done, killed = tmp_path / "kept", 0, 0
    expected = qe.sweep(*schemes, **options).digest
    while killed < kills:
        how = {"threads": chance.randint(1, 3), "tile_pairs": chance.choice([1 << 17, 300_001, 1 << 19])}
        if chance.random() < 0.2:
            how = {"backend": "reference", "tile_pairs": 4096}
        status = forks.run(code(schemes, options, folder, **how), kill_after=chance.uniform(0.0, 0.12))
        assert status in (0, -signal.SIGKILL)
        killed += status < 0
        now = recorded(schemes, options, folder)
        assert now >= done
        done = now
        if status == 0:  # finished before the signal came: begin anew
            assert (tmp_path / "kept.digest").read_text() == expected
            shutil.rmtree(folder)
            done = 0
    assert forks.run(code(schemes, options, folder)) == 0
    assert (tmp_path / "kept.digest").read_text() == expected
    result = qe.sweep(*schemes, **options, checkpoint=folder, resume=True)
    assert (result.digest, result.resumed, result.seconds < 60) == (expected, result.pairs, True)


#: Dies at the n-th call of a function on the checkpoint's file, before it, in the middle of it, or after it.
FAULT = """
import os, signal
from qengine.work import checkpoint
checkpoint.LEAST = checkpoint.SHARE = checkpoint.COST = 0
original, calls = os.{name}, []
def dying(file, *rest):
    if b"checkpoint.log" not in os.readlink(f"/proc/self/fd/{{file}}".encode()):
        return original(file, *rest)
    calls.append(file)
    if len(calls) == {call}:
        if {share}:
            original(file, *(part[: int(len(part) * {share})] for part in rest))
        os.kill(os.getpid(), signal.SIGKILL)
    return original(file, *rest)
os.{name} = dying
"""
SHORT: tuple[tuple[str, ...], dict[str, Any]] = (("single", "double"), {"pairs": 40_000, "tile_pairs": 4096})


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names open files by /proc")
@pytest.mark.parametrize(
    ("name", "share"),
    [("write", 0.0), ("write", 0.3), ("write", 0.9), ("write", 1.0), ("fsync", 0.0), ("fsync", 1.0)],
)
def test_killed_at_every_step_of_a_line(name: str, share: float, forks: Forks, tmp_path: Path) -> None:
    """The first lines, each torn at the same place: after each kill the next process takes over what is whole."""
    folder, (schemes, options) = tmp_path / "kept", SHORT
    plain = {key: value for key, value in options.items() if key != "tile_pairs"}
    done = 0
    for call in (1, 2, 1, 3):
        fault = FAULT.format(name=name, call=call, share=share)
        assert forks.run(fault + code(schemes, options, folder, threads=1)) == -signal.SIGKILL
        now = recorded(schemes, plain, folder)
        assert now >= done + 4096 * (call - 2)
        done = now
    result = qe.sweep(*schemes, **options, checkpoint=folder, resume=True)
    assert result.digest == qe.sweep(*schemes, **plain).digest
    torn = name == "write" and 0 < share < 1
    assert (len(result.notes) == 1) == torn
    assert not torn or "4 lines torn or altered left out" in result.notes[0]


TERMINATED = """
import os, signal
import qengine as qe
from qengine.work import checkpoint
checkpoint.LEAST = 3600.0  # no line is due but the first
def progress(done, total):
    if done > total // 3:
        os.kill(os.getpid(), signal.{name})
qe.sweep(*{schemes!r}, **{options!r}, checkpoint={folder!r}, progress=progress)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_terminated(name: str, forks: Forks, tmp_path: Path) -> None:
    """What is finished is recorded, then the process ends by the signal, as it would without a checkpoint."""
    schemes, options = SHORT
    program = TERMINATED.format(name=name, schemes=schemes, options=options, folder=str(tmp_path))
    assert forks.run(program) == -getattr(signal, name)
    plain = {key: value for key, value in options.items() if key != "tile_pairs"}
    assert 40_000 // 3 < recorded(schemes, plain, tmp_path) < 40_000
    assert (tmp_path / FILE).read_bytes().count(b"\n") == 3  # what the run is, the first tile, and the rest
    result = qe.sweep(*schemes, **plain, checkpoint=tmp_path, resume=True)
    assert (result.digest, result.notes) == (qe.sweep(*schemes, **plain).digest, ())


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C: the result is of what is done, all of that is recorded, and a resumed sweep counts the rest."""
    schemes, options = SHORT

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    part = qe.sweep(*schemes, **options, checkpoint=tmp_path, progress=interrupt)
    assert not part.complete
    plain = {key: value for key, value in options.items() if key != "tile_pairs"}
    assert recorded(schemes, plain, tmp_path) == part.pairs < 40_000
    whole = qe.sweep(*schemes, **options, checkpoint=tmp_path, resume=True)
    assert (whole.complete, whole.resumed, whole.digest) == (True, part.pairs, qe.sweep(*schemes, **plain).digest)


def test_a_failing_tile_leaves_the_others_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qengine.backends import reference

    schemes, options = SHORT
    tile = reference.sweep_tile

    def failing(work: Any, start: int, stop: int) -> Any:
        if start >= 20_000:
            raise ZeroDivisionError("no such tile")
        return tile(work, start, stop)

    monkeypatch.setattr(reference, "sweep_tile", failing)
    with pytest.raises(ZeroDivisionError):
        qe.sweep(*schemes, **options, backend="reference", checkpoint=tmp_path)
    plain = {key: value for key, value in options.items() if key != "tile_pairs"}
    assert recorded(schemes, plain, tmp_path) == 5 * 4096
    monkeypatch.undo()
    assert qe.sweep(*schemes, **options, checkpoint=tmp_path, resume=True).digest == qe.sweep(*schemes, **plain).digest


def test_lines_in_any_order_twice_and_overlapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile that is in the file twice counts once; of two lines that overlap, one counts."""
    for name in ("LEAST", "SHARE", "COST"):
        monkeypatch.setattr(checkpoint, name, 0)
    schemes, options = SHORT
    plain = {key: value for key, value in options.items() if key != "tile_pairs"}
    expected = qe.sweep(*schemes, **plain).digest
    for number, size in enumerate((4096, 5000)):
        qe.sweep(*schemes, **plain, tile_pairs=size, threads=1, checkpoint=tmp_path / str(number))
    lines = [(tmp_path / str(number) / FILE).read_bytes().splitlines(keepends=True) for number in range(2)]
    assert [len(some) for some in lines] == [11, 9]
    mixed = [*lines[0][1:7], *lines[1], *lines[0], *lines[1]]
    random.Random(1).shuffle(mixed)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / FILE).write_bytes(b"".join(mixed))
    result = qe.sweep(*schemes, **plain, checkpoint=tmp_path / "mixed", resume=True)
    assert result.digest == expected
    assert 0 < result.resumed <= 40_000


def test_other_sweeps_are_left_alone(tmp_path: Path) -> None:
    first = qe.sweep("single", "double", pairs=5000, checkpoint=tmp_path)
    other = qe.sweep("single", "double", pairs=5000, seed=1, checkpoint=tmp_path, resume=True)
    assert other.digest == qe.sweep("single", "double", pairs=5000, seed=1).digest != first.digest
    assert re.search(r"checkpoint.log: \d lines of other runs \(other seed\) left out.$", other.notes[0])
    assert other.to_dict()["notes"] == list(other.notes)
    again = qe.sweep("single", "double", pairs=5000, checkpoint=tmp_path, resume=True)
    assert (again.digest, again.resumed) == (first.digest, 5000)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="resume needs a checkpoint"):
        qe.sweep("single", "double", pairs=9, resume=True)
    qe.sweep("single", "double", pairs=9, checkpoint=tmp_path)
    with pytest.raises(InputFileError, match="there is a checkpoint: resume it"):
        qe.sweep("single", "double", pairs=9, checkpoint=tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "qengine-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here (needs the right to)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning names it, the sweep ends whole; what was recorded before serves the next, which has room."""
    for name in ("LEAST", "SHARE", "COST"):
        monkeypatch.setattr(checkpoint, name, 0)
    options: dict[str, Any] = {"pairs": 400_000, "seed": 3}
    expected = qe.sweep("single", "double", "fp32", **options).digest
    folder = small_disk / "kept"
    with pytest.warns(CheckpointWarning, match=r"checkpoint.log: cannot be written: No space left on device"):
        result = qe.sweep("single", "double", "fp32", **options, tile_pairs=2000, threads=1, checkpoint=folder)
    assert (result.digest, result.complete) == (expected, True)
    assert result.notes == (
        f"{folder / FILE}: cannot be written: No space left on device. The checkpoint is incomplete: the last parts "
        "are not in it.",
    )
    assert (folder / FILE).read_bytes().endswith(b"\n")  # nothing of the refused line stays
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    again = qe.sweep("single", "double", "fp32", **options, checkpoint=folder, resume=True)
    assert (again.digest, again.notes) == (expected, ())
    assert 0 < again.resumed < 400_000
    third = qe.sweep("single", "double", "fp32", **options, checkpoint=folder, resume=True)
    assert (third.digest, third.resumed) == (expected, 400_000)


def test_a_file_that_may_not_grow(forks: Forks, tmp_path: Path) -> None:
    """The same by a limit on the length of files, in a process of its own."""
    schemes, options = SHORT
    limit = (
        "import resource, warnings; warnings.simplefilter('ignore')\n"
        "from qengine.work import checkpoint; checkpoint.LEAST = checkpoint.SHARE = checkpoint.COST = 0\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))\n"
    )
    folder = tmp_path / "kept"
    assert forks.run(limit + code(schemes, options, folder)) == 0
    plain = {key: value for key, value in options.items() if key != "tile_pairs"}
    expected = qe.sweep(*schemes, **plain).digest
    assert (tmp_path / "kept.digest").read_text() == expected
    assert 0 < recorded(schemes, plain, folder) < 40_000
    assert qe.sweep(*schemes, **plain, checkpoint=folder, resume=True).digest == expected


def test_two_processes(tmp_path: Path) -> None:
    """The second is told who has the folder; a killed one leaves it free."""
    holder = (
        "import sys, time; from qengine.work.checkpoint import Checkpoint\n"
        "kept = Checkpoint(sys.argv[1], {}); print('open', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    try:
        with pytest.raises(InputFileError, match=rf"in use by process {process.pid} on .*Wait for its end"):
            qe.sweep("single", "double", pairs=9, checkpoint=tmp_path, resume=True)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert qe.sweep("single", "double", pairs=9, checkpoint=tmp_path, resume=True).complete


MEMORY = """
import json, resource
import qengine as qe
from qengine.backends import cpu
from qengine.work import checkpoint
checkpoint.LEAST = 0.02
tile = cpu.sweep_tile
nothing = {}
def empty(work, start, stop):
    if not nothing:
        nothing["tally"] = tile(work, 0, 0)
    return nothing["tally"]
cpu.sweep_tile = empty
peaks = []
def progress(done, total):
    if done in (total // 10, total):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
r = qe.sweep("single", "double", pairs=10**10, tile_pairs=10**6, backend="cpu", checkpoint=FOLDER, progress=progress)
again = qe.sweep("single", "double", pairs=10**10, backend="cpu", checkpoint=FOLDER, resume=True)
assert (again.digest, again.resumed) == (r.digest, 10**10)
peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
open(FOLDER + ".peaks", "w").write(json.dumps([r.pairs, *peaks]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KiB")
def test_memory_is_constant(forks: Forks, tmp_path: Path) -> None:
    """10**10 pairs in 10,000 tiles that do nothing: the peak after all, and of a resumed one, is that after a tenth."""
    folder = str(tmp_path / "kept")
    assert forks.run(f"FOLDER = {folder!r}\n" + MEMORY) == 0
    pairs, early, late, resumed = json.loads(Path(folder + ".peaks").read_text())
    assert pairs == 10**10
    assert late - early < 2048
    assert resumed - early < 4096
