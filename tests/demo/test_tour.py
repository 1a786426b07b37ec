"""The tour in the terminal and as a notebook."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from qengine.cli.demo import command
from qengine.demo import tour
from qengine.demo.steps import STEPS


def test_the_installed_notebook_is_made_from_the_steps() -> None:
    assert tour.stored_notebook() == tour.notebook(), "python -m qengine.demo.tour > qengine/demo/tour.ipynb"


def test_a_real_kernel_prints_what_the_notebook_holds() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    stored = nbformat.reads(tour.stored_notebook(), as_version=4)
    nbformat.validate(stored)
    run = nbclient.NotebookClient(nbformat.from_dict(stored), timeout=120, kernel_name="python3").execute()
    outputs = ["".join(o["text"] for o in cell["outputs"]) for cell in run.cells if cell["cell_type"] == "code"]
    assert outputs == ["".join(o["text"] for o in c["outputs"]) for c in stored.cells if c["cell_type"] == "code"]
    assert len(outputs) == len(STEPS)
    assert all(outputs)


def test_the_story_has_its_numbers() -> None:
    printed = {step.title: text for step, text in tour.run()}
    assert printed["One accumulator, two answers"].split() == ["single", "-119", "double", "-119", "fp32", "-120"]
    law = printed["The law 2^-(n+1)"].splitlines()
    assert [line.split()[3].replace(",", "") for line in law[:3]] == ["0", "1073741833", "536870911"]
    assert "fp32       " in printed["Which arithmetic was it?"]
    assert ", 0 mismatches" in printed["Which arithmetic was it?"].splitlines()[0]


def test_the_terminal_shows_every_step_and_does_not_wait() -> None:
    shown = CliRunner().invoke(command, ["--no-pause"])
    assert shown.exit_code == 0, shown.output
    for number, step in enumerate(STEPS, 1):
        assert f"{number}/{len(STEPS)}  {step.title}" in shown.output
    assert max(map(len, map(str.rstrip, shown.output.splitlines()))) <= 110


def test_json_holds_code_and_output() -> None:
    steps = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert [step["title"] for step in steps] == [step.title for step in STEPS]
    assert all(step["output"] for step in steps)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_q_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("\nq\n"))
    monkeypatch.setattr(sys, "stdout", out)
    command.main([], standalone_mode=False)
    assert STEPS[1].title in out.getvalue()
    assert STEPS[2].title not in out.getvalue()


def test_the_notebook_is_put_beside_the_user_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def run(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        started.append(arguments)
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    shown = CliRunner().invoke(command, ["--notebook", str(tmp_path)])
    target = tmp_path / "qengine-tour.ipynb"
    assert shown.exit_code == 0, shown.output
    assert target.read_text() == tour.stored_notebook()
    assert started == [[sys.executable, "-m", "jupyterlab", str(target)]]
    target.write_text("changed by the user")
    CliRunner().invoke(command, ["--notebook", str(tmp_path)])
    assert target.read_text() == "changed by the user"


def test_without_jupyterlab_the_file_is_written_and_the_way_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    shown = CliRunner().invoke(command, ["--notebook", str(tmp_path)])
    assert "qengine-numerics[notebook]" in str(shown.exception)
    assert (tmp_path / "qengine-tour.ipynb").exists()


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    shown = CliRunner().invoke(command, ["--notebook", str(tmp_path / "no")])
    assert "there is no folder" in str(shown.exception)


@pytest.mark.parametrize("also", ["--json", "--no-pause"])
def test_the_notebook_is_given_alone(also: str, tmp_path: Path) -> None:
    shown = CliRunner().invoke(command, ["--notebook", str(tmp_path), also])
    assert shown.exit_code == 2
    assert not list(tmp_path.iterdir())
