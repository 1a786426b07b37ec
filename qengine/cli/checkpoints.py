"""What long commands share: where they record what is finished, and what they say of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def checkpoint_options(command: Command) -> Command:
    """Add --checkpoint and --resume."""
    command = click.option("--resume", is_flag=True, help="Go on from what the checkpoint holds.")(command)
    return click.option(
        "--checkpoint", metavar="FOLDER", help="Record what is finished there, for a run that may be killed."
    )(command)


@contextmanager
def checkpoint_warnings() -> Iterator[None]:
    """Say on stderr at once when a checkpoint cannot be written."""
    from ..work.checkpoint import CheckpointWarning

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        click.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CheckpointWarning)
        warnings.showwarning = show
        yield


def say_notes(notes: tuple[str, ...], complete: bool, checkpoint: str | None) -> None:
    """Say on stderr what of a checkpoint was not used, and how an interrupted run goes on."""
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if not complete and checkpoint is not None:
        click.echo(f"interrupted: what is finished is recorded in {checkpoint}; --resume goes on from there.", err=True)
