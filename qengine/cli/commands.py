"""The group of all commands; each is imported when it runs."""

from __future__ import annotations

import importlib

import click

from .._version import __version__
from ..exceptions import UnknownNameError
from . import COMMANDS


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0], __package__).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        if not ctx.resilient_parsing and args[0] not in COMMANDS:
            raise UnknownNameError.of("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

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
