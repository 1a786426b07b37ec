"""Run the steps of the tour, for a terminal or for a notebook."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from .steps import STEPS, Step

NOTEBOOK = "tour.ipynb"
_INTRODUCTION = (
    "# The ±1 of quantized inference\n",
    "\n",
    "Two programs quantize the same numbers, and some outputs differ by one. Why, how often and where, in live "
    "numbers: each cell can be changed and run again. The same tour runs in a terminal: `qengine demo`.",
)


def run() -> Iterator[tuple[Step, str]]:
    """Yield each step with what its code printed, just as it is run; the steps share their names.

    Examples
    --------
    >>> from qengine.demo import tour
    >>> step, printed = next(tour.run())
    >>> step.title, printed.split()
    ('One accumulator, two answers', ['single', '-119', 'double', '-119', 'fp32', '-120'])
    """
    names: dict[str, Any] = {"__name__": "tour"}
    for step in STEPS:
        if step.needs and importlib.util.find_spec(step.needs) is None:
            yield step, f"needs the package {step.needs}: pip install 'qengine-numerics[models]'\n"
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(step.code, f"<{step.title}>", "exec"), names)
        yield step, printed.getvalue()


def _cell(kind: str, number: str, source: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": kind, "id": number, "metadata": {}, "source": source.splitlines(keepends=True), **more}


def notebook() -> str:
    """Return the tour as a notebook (nbformat 4.5), with what each cell prints.

    `python -m qengine.demo.tour > qengine/demo/tour.ipynb` writes the one that is installed.
    """
    cells = [_cell("markdown", "introduction", "".join(_INTRODUCTION))]
    for number, (step, printed) in enumerate(run(), 1):
        output = {"name": "stdout", "output_type": "stream", "text": printed.splitlines(keepends=True)}
        cells.append(_cell("markdown", f"text-{number}", f"## {number}. {step.title}\n\n{step.text}"))
        cells.append(
            _cell("code", f"code-{number}", step.code.rstrip("\n"), execution_count=number, outputs=[output])
        )  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def stored_notebook() -> str:
    """Return the notebook that is installed."""
    return resources.files(__package__).joinpath(NOTEBOOK).read_text(encoding="utf-8")


if __name__ == "__main__":
    print(notebook(), end="")
