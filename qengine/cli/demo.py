"""``qengine demo``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import click

from .options import emit, emit_json, json_option

#: Columns of the text: what a reader takes in at once.
WIDTH = 110


@click.command("demo")
@click.option("--no-pause", is_flag=True, help="Do not wait for Enter between the steps (as where nobody can type).")
@click.option(
    "--notebook", "folder", is_flag=False, flag_value=".", default=None, metavar="[FOLDER]",
    help="Put the tour into a folder as qengine-tour.ipynb, and open it in JupyterLab.",
)  # fmt: skip
@json_option
def command(no_pause: bool, folder: str | None, as_json: bool) -> None:
    """Walk through the ±1 of quantized inference: each step is some lines of Python, and what they print here and now.

    \b
    Example:
      qengine demo --no-pause
    """
    from ..demo import tour

    if folder is not None:
        if as_json or no_pause:
            raise click.UsageError("--notebook opens the tour elsewhere: give it alone.")
        _open_notebook(folder)
        return
    if as_json:
        emit_json([{"title": s.title, "text": s.text, "code": s.code, "output": out} for s, out in tour.run()])
        return
    from rich.console import Group
    from rich.constrain import Constrain
    from rich.markdown import Markdown
    from rich.padding import Padding
    from rich.rule import Rule
    from rich.syntax import Syntax
    from rich.text import Text

    from ..demo.steps import STEPS

    pause = not no_pause and sys.stdin.isatty() and sys.stdout.isatty()
    for number, (step, output) in enumerate(tour.run(), 1):
        title = Rule(f"{number}/{len(STEPS)}  {step.title}", align="left")
        code = Syntax(step.code.rstrip("\n"), "python", background_color="default", word_wrap=True)
        shown = Padding(Text(output.rstrip("\n"), style="bold"), (1, 0, 1, 4))
        emit([Constrain(Group(title, Markdown(step.text), "", code, shown), WIDTH)])
        asked = pause and number < len(STEPS)
        if asked and click.prompt("Enter goes on, q leaves", default="", show_default=False).strip().lower() == "q":
            return
    click.echo("The same in a notebook: qengine demo --notebook. All commands: qengine --help")


def _open_notebook(folder: str) -> None:
    """Write the notebook, unless one stands there, and run JupyterLab until the user ends it."""
    from ..demo.tour import stored_notebook
    from ..exceptions import BackendError
    from ..report.files import check_target, write_file

    target = check_target(Path(folder) / "qengine-tour.ipynb")
    if not target.exists():  # what the user changed in it is theirs
        write_file(target, stored_notebook().encode())
    if importlib.util.find_spec("jupyterlab") is None:
        raise BackendError(
            f"{target} is written; to open it needs JupyterLab: pip install 'qengine-numerics[notebook]', or open "
            "the file in an editor that runs notebooks."
        )
    click.echo(f"{target}: JupyterLab opens it; Ctrl-C here ends it.")
    sys.exit(subprocess.run([sys.executable, "-m", "jupyterlab", str(target)], check=False).returncode)
