"""``--cluster`` of every command that has it: the same digests, clean ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import qengine as qe
from qengine.cli.commands import group
from qengine.exceptions import InputFileError
from qengine.work.checkpoint import FILE
from tests.clusters import Processes, until


def outcome(*args: str) -> Any:
    result = CliRunner().invoke(group, [*args, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    "command",
    [
        "sweep single double fp32 --range 0.01 0.99 --pairs 3M --seed 4",
        "count single fp32 double --multiplier 0.37 --range -30000000 30000000",
        "census single double --shift -4 --multipliers 2^30 1073751823 --method tiles",
        "census single double --shift -6 --qmin -2 --qmax 2 --method closed",
        "census single double --shift -3 --multipliers 2^30 1073751823 --range -9000 9000 --dtype raw --method closed",
    ],
)
def test_same_digest(command: str, processes: Processes) -> None:
    here, there = outcome(*command.split()), outcome(*command.split(), "--cluster", str(processes.file))
    assert here["digest"] == there["digest"]


def test_analyze(processes: Processes, tmp_path: Path) -> None:
    w = np.random.default_rng(3).normal(size=(7, 300_000)).astype(np.float32)
    for k in range(7):
        np.save(tmp_path / f"w-{k}.npy", w[k : k + 1])
    command = ("analyze", str(tmp_path / "w-*.npy"), "--bits", "4", "--axis", "0", "--per-channel")
    here, there = outcome(*command), outcome(*command, "--cluster", str(processes.file))
    assert here["digest"] == there["digest"]
    assert here["tensors"] == there["tensors"]


def test_a_cluster_and_what_it_excludes() -> None:
    for args, text in (
        (("sweep", "single", "double", "--cluster", "local:2", "--plan"), "--plan measures this machine"),
        (("sweep", "single", "double", "--cluster", "local:2", "--threads", "2"), "threads are those of the cluster"),
        (("sweep", "single", "double", "--cluster", "elsewhere"), "tcp://HOST:PORT"),
        (("sweep", "single", "double", "--cluster", "http://127.0.0.1:1"), "tcp://HOST:PORT"),
        (("sweep", "single", "double", "--cluster", "tls://127.0.0.1:1"), "tls needs certificates"),
        (("analyze", "-", "--cluster", "local:2"), "workers read the file themselves"),
    ):
        result = subprocess.run([sys.executable, "-m", "qengine", *args], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (2, ""), result.stderr
        assert text in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b'{"address": 5}', b'{"address": "inproc://1"}', b"\xff"])
def test_a_file_of_no_scheduler(tmp_path: Path, content: bytes) -> None:
    """Half written, foreign: an error at once, not what a client that waits for a scheduler does."""
    pytest.importorskip("distributed", reason="dask is not installed: pip install 'qengine-numerics[cluster]'")
    path = tmp_path / "cluster.json"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match="this is no file of a scheduler"):
        qe.sweep("single", "double", pairs=9, cluster=str(path))


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C goes to all processes of a terminal: the command ends with what is done, and no worker is left."""
    pytest.importorskip("distributed", reason="dask is not installed: pip install 'qengine-numerics[cluster]'")
    kept = tmp_path / "kept"
    command = ["sweep", "single", "double", "--pairs", "1e13", "--cluster", "local:1", "--checkpoint", str(kept)]
    with subprocess.Popen(
        [sys.executable, "-m", "qengine", *command, "--json"], start_new_session=True, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        until(lambda: ((kept / FILE).exists() and (kept / FILE).read_bytes()) or process.poll() is not None, "a line")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    told = json.loads(out)
    assert told["complete"] is False
    assert 0 < told["pairs"] < 10**13
    assert "--resume goes on from there" in err
    assert "Traceback" not in err
    until(lambda: not group_lives(process.pid), "the end of its processes")


def group_lives(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True
