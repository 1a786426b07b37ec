"""Running the command line in this process and in a fresh one."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from qengine.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "data" / "mobilenet_v2_scales_sample.csv"
ISSUE = ["0.05296124517917633", "0.024093778803944588", "0.11484327912330627"]
NAMES = tuple(COMMANDS)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def qengine(*args: Any) -> Ran:
    """Run `main`, the entry point itself, in the isolation of click's runner."""
    with CliRunner().isolation() as (out, err, _):
        try:
            main([str(arg) for arg in args])
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        with contextlib.suppress(io.UnsupportedOperation, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        return Ran(code, out.getvalue().decode(), err.getvalue().decode())


def process(*args: Any, **options: Any) -> Ran:
    """Run ``python -m qengine`` in a fresh process, away from the tree's root."""
    done = subprocess.run(
        [sys.executable, "-m", "qengine", *map(str, args)], capture_output=True, text=True, check=False,
        **{"env": os.environ | {"COLUMNS": "120"}, "timeout": 120, **options},
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def examples(help_text: str) -> list[list[str]]:
    """The runnable examples of a help text: lines that begin with ``qengine``, with their continuations."""
    _, _, rest = help_text.partition("Example")
    joined = re.sub(r"\\\n\s*", " ", rest)
    lines = [line.strip() for line in joined.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("qengine ")]
