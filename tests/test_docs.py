"""What README and the docstrings say is true today."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import qengine as qe
from qengine.cli import COMMANDS

README = Path(__file__).parent.parent / "README.md"
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(qe.__path__, "qengine.")
    if not module.name.endswith(".__main__") and ".kernels" not in module.name
)


def table_rows() -> list[list[str]]:
    section = README.read_text().split("## Schemes")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_table_of_schemes_is_the_rows() -> None:
    expected = [
        [
            f"`{row.name}`",
            ", ".join(f"`{alias}`" for alias in row.aliases),
            f"`{row.formula}`".replace("|", r"\|"),
            row.rounding,
            row.recipe,
        ]
        for row in qe.schemes()
    ]
    assert table_rows() == expected


def test_readme_examples() -> None:
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted >= 4
    assert result.failed == 0


def test_readme_names_every_command_and_no_other() -> None:
    line = next(line for line in README.read_text().splitlines() if re.match(r"`qengine \w+ \| ", line))
    named = line.split("`")[1].removeprefix("qengine ").split(" | ")
    assert named == list(COMMANDS)


def test_readme_has_two_commands_to_install_and_test() -> None:
    commands = re.findall(r"^(?:python3 -m venv \.venv|\.venv/bin/pip install) .*$", README.read_text(), re.M)
    assert len(commands) == 2
    assert "qengine sweep" in commands[0]
    assert "pytest" in commands[1]


def test_readme_figures_of_the_rate_law() -> None:
    """Points 4 and 5 of "what the ±1 really is": exact over all accumulators, here over a 2**20 stretch."""
    for n, percent in ((1, 25.0), (2, 12.5), (6, 0.7812)):
        multiplier = qe.QuantizedMultiplier(1518500251, -n)
        result = qe.sweep("single", "double", multiplier=multiplier, acc=f"all:{-(2**19)}:{2**19 - 1}")
        assert 100 * result.rate == pytest.approx(percent, rel=1e-2)
    result = qe.sweep(
        "single", "double", "floor-port", multiplier=qe.QuantizedMultiplier(1518500251, 0), acc="all:-99999:99999"
    )
    assert result.divergent == 0
    assert result.pairs_of("single", "floor-port").rate == pytest.approx(0.5, rel=1e-2)


def test_aliases_are_unique() -> None:
    names = [name for row in qe.schemes() for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_every_public_function_has_an_example_and_sections() -> None:
    for name in qe.__all__:
        value = getattr(qe, name)
        if not callable(value) or (isinstance(value, type) and issubclass(value, Exception)):
            continue
        text = value.__doc__ or ""
        assert ">>>" in text, f"{name} has no example"


#: What numpydoc asks of every public docstring here: sections, every parameter named, what is returned, an example.
DEMANDED = {
    "GL03", "GL05", "GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "SS04", "PR01", "PR02", "PR05", "PR10", "RT01",
    "YD01", "EX01",
}  # fmt: skip


def public_names() -> list[str]:
    functions = [name for name in qe.__all__ if callable(getattr(qe, name))]
    methods = [
        f"{name}.{attribute}"
        for name in functions
        if inspect.isclass(getattr(qe, name))
        for attribute, value in vars(getattr(qe, name)).items()
        if not attribute.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
    ]
    return functions + methods


@pytest.mark.parametrize("name", public_names())
def test_public_docstrings_are_complete(name: str) -> None:
    validate = pytest.importorskip("numpydoc.validate")
    demanded = DEMANDED if not ("." in name or name.endswith("Error")) else DEMANDED - {"EX01"}
    found = [f"{code}: {text}" for code, text in validate.validate(f"qengine.{name}")["errors"] if code in demanded]
    assert not found


def test_every_section_of_figures_stands_between_its_marks_once() -> None:
    from benchmarks import figures

    text = README.read_text(encoding="utf-8")
    assert text.count("<!-- figures: ") == len(figures.SECTIONS)
    for name in figures.SECTIONS:
        begin, end = figures.marks(name)
        assert f"{begin}\nx\n{end}" in figures.replaced(text, name, "x")
        section = text.split(begin)[1].split(end)[0]
        assert re.search(r"^\| --- \|( --- \|)+\n\| ", section, re.MULTILINE), name


def test_the_table_of_peers() -> None:
    """Its shape, not its numbers: a row a job, a figure or a dash a peer, then the calls, then the machine."""
    from benchmarks import bench_peers, peers
    from benchmarks import figures as written

    begin, end = written.marks("peers")
    section = README.read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:2] == "| "
    ]
    figures = re.compile(r"[\d,.]+(e[+-]\d+)?\*?")
    jobs = rows[: rows.index(next(row for row in rows if row[0].startswith("microseconds")))]
    assert jobs[0] == ["job", "G/s", "of the limit", *written.PEERS]
    assert [row[0] for row in jobs[2:]] == list(peers.JOBS)
    for job, *cells in jobs[2:]:
        assert figures.fullmatch(cells[0])
        assert cells[1] == written.NOTHING or re.fullmatch(r"\d+ %", cells[1])
        for peer, cell in zip(written.PEERS, cells[2:], strict=True):
            assert bool(figures.fullmatch(cell)) == (peer in peers.JOBS[job].peers), (job, peer, cell)
    calls = rows[len(jobs) + 2 :]
    assert [row[0] for row in calls] == list(bench_peers.Small.params[0])
    assert all(re.fullmatch(r"[\d,.]+ \([\d,.]+\)", cell) for row in calls for cell in row[1:])
    assert re.search(r"^\d{4}-\d\d-\d\d, .* cores, .*load [\d.]+;\nPython", section, re.MULTILINE)
