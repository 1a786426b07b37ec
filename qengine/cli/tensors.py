"""What commands on tensors share: their options, opening files, and where results go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..arguments import Progress
from ..exceptions import DomainError, DTypeError, InputFileError, UnknownNameError
from .options import Count, emit, emit_json, is_number, json_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..models.source import TensorSource
    from ..report.tensors import Measured, Refused

Command = TypeVar("Command", bound=Callable[..., Any])
#: Files of models, in which integers that carry no scale are shapes and indices rather than data.
MODEL_FILES = (".onnx", ".tflite", ".safetensors")

_INPUT = (
    click.argument("file"),
    click.option("--tensor", "only", multiple=True, metavar="NAME", help="Only these; NAME may hold * ? [..]."),
)
_RUN = (
    click.option(
        "--nonfinite", type=click.Choice(["raise", "ignore"]), default="raise", show_default=True,
        help="NaN and infinities: an error, or left out.",
    ),
    click.option("--backend", type=str, help="cpu | reference  [default: QENGINE_BACKEND, else cpu]"),
    click.option("--threads", type=Count(), help="Workers.  [default: all processors]"),
    json_option,
    click.option("--csv", metavar="PATH|-", help="Write every figure as CSV; - is stdout."),
    click.option("--pdf", metavar="PATH", help="Write a report with formulas, tables and graphs."),
    click.option("--plot", metavar="PATH", help="Draw the graphs: .png or .svg."),
    click.option("--quiet", is_flag=True, help="No progress bar."),
)  # fmt: skip


def input_options(command: Command) -> Command:
    """Add FILE and --tensor."""
    return _added(command, _INPUT)


def run_options(command: Command) -> Command:
    """Add what says how to run and where results go."""
    return _added(command, _RUN)


def _added(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go, checked before the work begins."""

    as_json: bool
    csv: str | None
    pdf: str | None
    plot: str | None

    @classmethod
    def of(cls, file: str, as_json: bool, csv: str | None, pdf: str | None, plot: str | None) -> Outputs:
        """Check the targets: writable, not twice the same, not the input; and that the packages are there."""
        if as_json and csv == "-":
            raise click.UsageError("--json and --csv - both write to stdout; give one of them a file.")
        if not any(target not in (None, "-") for target in (csv, pdf, plot)):
            return cls(as_json, csv, pdf, plot)
        from ..report.files import check_target, optional

        taken: dict[Path, str] = {} if file == "-" else {Path(os.path.realpath(file)): "the input file"}
        for name, target, endings in (
            ("--csv", csv, ()),
            ("--pdf", pdf, (".pdf",)),
            ("--plot", plot, (".png", ".svg")),
        ):
            if target is None or (name == "--csv" and target == "-"):
                continue
            if "\0" not in file + target and (path := Path(os.path.realpath(target))) in taken:
                raise InputFileError(f"{target}: {name} would overwrite {taken[path]}; choose another name.")
            taken[check_target(target, *endings)] = f"what {name} writes"
        if pdf is not None or plot is not None:
            optional("matplotlib")
        if pdf is not None:
            optional("reportlab")
        return cls(as_json, csv, pdf, plot)

    def deliver(
        self, data: Callable[[], Any], csv: Callable[[], str], parts: Callable[[], Iterator[RenderableType]],
        pdf: Callable[[], bytes], plot: Callable[[str], bytes],
    ) -> None:  # fmt: skip
        """Make everything that was asked for, then write the files, then print."""
        from ..report.files import write_file

        files: list[tuple[str, bytes]] = []
        if self.csv not in (None, "-"):
            files.append((str(self.csv), csv().encode()))
        if self.pdf is not None:
            files.append((self.pdf, pdf()))
        if self.plot is not None:
            files.append((self.plot, plot(Path(self.plot).suffix.lower()[1:])))
        printed = csv() if self.csv == "-" else ""
        for path, content in files:
            write_file(path, content)
        if self.as_json:
            emit_json(data())
        elif self.csv == "-":
            click.echo(printed.encode(), nl=False)  # as bytes: CR LF stays CR LF everywhere
        else:
            emit(parts())


@dataclass(frozen=True, slots=True)
class Selection:
    """The tensors of a file: to measure, refused, and passed over."""

    file: str
    sources: list[TensorSource]
    refused: list[Refused]
    skipped: list[str]

    @classmethod
    def of(cls, file: str, only: tuple[str, ...]) -> Selection:
        """Open a file. Integers of a model that carry no scale are passed over unless they are named."""
        from ..models.tensors import open_tensors
        from ..report.escape import shown
        from ..report.tensors import Refused

        try:
            found = open_tensors(file, only=only or None)
        except (InputFileError, DTypeError, UnknownNameError) as error:
            raise type(error)(shown(error)) from error  # names of a file are not to act on the terminal
        refused = [Refused(source, source.refusal) for source in found if source.refusal]
        sources = [source for source in found if not source.refusal]
        skipped: list[str] = []
        if not only and Path(file).suffix.lower() in MODEL_FILES:
            skipped = [source.name for source in sources if _is_constant(source)]
            sources = [source for source in sources if not _is_constant(source)]
        if not sources:
            raise InputFileError(
                f"{shown(file)}: its {len(skipped)} tensors are integers without a scale (shapes, indices, codes), "
                f"which are passed over; choose some with --tensor, for instance --tensor {shown(skipped[0])!r}."
            )
        return cls(file, sources, refused, skipped)

    def measured(self, measure: Callable[[TensorSource, int], Measured]) -> list[Measured]:
        """Measure tensor after tensor; one of several that cannot be is refused, a single one raises.

        `measure` is called with the tensor and the number of elements before it.
        """
        from ..report.escape import shown
        from ..report.tensors import Refused

        done, before = [], 0
        problems: list[DomainError | DTypeError] = []
        for source in self.sources:
            try:
                done.append(measure(source, before))
            except (DomainError, DTypeError) as error:
                problems.append(error)
                self.refused.append(Refused(source, str(error)))
            before += source.size
        if not done:
            name = f"{shown(self.sources[0].name)}: " if len(self.sources) > 1 or self.skipped else ""
            more = f" ({len(problems)} tensors, each refused)" if len(problems) > 1 else ""
            raise type(problems[0])(f"{name}{shown(problems[0])}{more}")
        return done

    @property
    def elements(self) -> int:
        """Elements of all tensors to measure."""
        return sum(source.size for source in self.sources)

    def skipped_text(self) -> str:
        """Return one line about what was passed over, empty if nothing was."""
        from ..report.escape import shown

        n = len(self.skipped)
        if not n:
            return ""
        some = ", ".join(repr(shown(name)) for name in self.skipped[:3]) + (", ..." if n > 3 else "")
        return (
            f"passed over: {n} integer constant{'s' * (n != 1)} without a scale ({some}); --tensor NAME selects one, "
            "--tensor '*' all."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON about what was not measured."""
        return {
            "refused": [item.to_dict() for item in self.refused],
            "skipped": {"count": len(self.skipped), "names": self.skipped, "select_with": "--tensor NAME"},
        }

    def parts(self) -> Iterator[RenderableType]:
        """Yield what is said about tensors that were not measured."""
        from rich.text import Text

        from ..report.tensors import refused_table

        if self.refused:
            yield refused_table(self.refused)
        if self.skipped:
            yield Text(self.skipped_text())


def _is_constant(source: TensorSource) -> bool:
    return source.dtype.startswith(("int", "uint")) and "dequantized" not in source.note


class RangeCommand(click.Command):
    """A command whose ``--range`` takes two numbers, or one word: two numbers become one token."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the numbers that follow ``--range``, then parse as usual."""
        joined: list[str] = []
        i = 0
        while i < len(args):
            joined.append(args[i])
            i += 1
            if joined[-1] == "--":
                joined += args[i:]
                break
            if joined[-1] == "--range" and i + 1 < len(args) and is_number(args[i]) and is_number(args[i + 1]):
                joined.append(f"{args[i]},{args[i + 1]}")
                i += 2
        return super().parse_args(ctx, joined)


def progress_from(progress: Progress | None, before: int, total: int) -> Any:
    """Return the progress of one tensor of several: `before` elements of `total` came before it."""
    return None if progress is None else lambda done, size: progress(before + done, total)
