"""The command line. Commands are imported when they run, so ``qengine --help`` imports neither numpy nor numba."""

from __future__ import annotations

import os
import sys
from typing import Any

#: Command name -> (module, one line for the list). The module holds a click command named `command`.
COMMANDS = {
    "demo": (".demo", "Walk through the ±1 story in live numbers."),
    "schemes": (".schemes", "List the schemes, or show one."),
    "runtimes": (".runtimes", "List what the operators of runtimes compute, with the evidence."),
    "multiplier": (".multiplier", "Write a real multiplier, or three scales, as fixed point."),
    "explain": (".explain", "Show every intermediate of every scheme for one accumulator."),
    "sweep": (".sweep", "Count how often schemes disagree."),
    "replay": (".replay", "Run a model with a runtime's exact arithmetic, and compare every tensor."),
    "audit": (".audit", "Count exactly where runtimes disagree on a model's attainable accumulators."),
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


def _abandon_stdout() -> None:
    """Point standard output to nowhere, so that Python does not flush into what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(args: list[str] | None = None) -> Any:
    """Run the command line: exit code 0, 1 (a check failed, or Ctrl-C) or 2 (bad input)."""
    try:
        _run(args)
    except KeyboardInterrupt:  # while click and the command are imported, too
        if sys.stderr is not None:
            print("interrupted", file=sys.stderr)
        sys.exit(1)


def _run(args: list[str] | None) -> None:
    import click

    from ..exceptions import QEngineError
    from .commands import group

    if sys.stdout is None:
        click.echo("error: standard output is closed.", err=True)
        sys.exit(1)
    if "--quiet" not in (sys.argv[1:] if args is None else args):
        from .progress import announce_compiling

        announce_compiling()
    try:
        code = group.main(args=args, prog_name="qengine", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:  # what click makes of a Ctrl-C
        raise KeyboardInterrupt from None
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
