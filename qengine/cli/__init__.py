"""The command line. Commands are imported when they run, so ``qengine --help`` imports neither numpy nor numba."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from .._version import __version__
from ..exceptions import QEngineError

#: Command name -> (module, one line for the list). The module holds a click command named `command`.
COMMANDS = {
    "schemes": (".schemes", "List the schemes, or show one."),
    "multiplier": (".multiplier", "Write a real multiplier, or three scales, as fixed point."),
    "explain": (".explain", "Show every intermediate of every scheme for one accumulator."),
    "sweep": (".sweep", "Count how often schemes disagree."),
    "count": (".count", "Count exactly where schemes disagree, and list it."),
    "census": (".census", "Count exactly over all multipliers of one or all shifts."),
    "probes": (".probes", "Find the fewest accumulators that tell schemes apart."),
    "identify": (".identify", "Tell from recorded rows which scheme produced them."),
    "analyze": (".analyze", "Quantize tensors of a file and report the error."),
    "compare": (".compare", "Measure many choices of quantization side by side, ranked."),
    "serve": (".serve", "Serve the calculator page to this machine."),
    "backends": (".backends", "List the back ends and why one cannot serve."),
    "selftest": (".selftest", "Check this installation against the specification."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0], __name__).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="qengine")
def group() -> None:
    """Exact arithmetic of quantized inference: every requantization scheme, bit for bit.

    \b
    Example:
      qengine explain --acc 585 --scales 0.05296124517917633 0.024093778803944588 0.11484327912330627 \\
          --zero-point -126
    """


def _abandon_stdout() -> None:
    """Point standard output to nowhere, so that Python does not flush into what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(args: list[str] | None = None) -> Any:
    """Run the command line: exit code 0, 1 (a check failed) or 2 (bad input)."""
    if sys.stdout is None:
        click.echo("error: standard output is closed.", err=True)
        sys.exit(1)
    try:
        code = group.main(args=args, prog_name="qengine", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(1)
    except QEngineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except SystemExit as done:
        # click turns a closed pipe into exit code 1, and says so by wrapping the stream.
        sys.exit(0 if "PacifyFlush" in type(sys.stdout).__name__ else done.code)
    except OSError as error:
        _abandon_stdout()
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has gone: that is no error
            sys.exit(0)
        click.echo(f"error: cannot write the output: {error.strerror or error}.", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
