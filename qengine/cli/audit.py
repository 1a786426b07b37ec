"""``qengine audit``."""

from __future__ import annotations

import click

from .options import emit, emit_json, json_option
from .progress import progress_bar


class AuditCommand(click.Command):
    """A command whose ``--schemes`` takes all names up to the next option, or up to the model."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each name its own ``--schemes``, then parse as usual."""
        spread: list[str] = []
        names = False
        for arg, following in zip(args, [*args[1:], "-"], strict=True):
            if arg.startswith("-"):
                names = arg == "--schemes"
                if names and following.startswith("-"):
                    raise click.BadOptionUsage("--schemes", "Option '--schemes' requires an argument.", ctx)
                spread += [] if names else [arg]
            else:
                names = names and not arg.lower().endswith((".tflite", ".onnx"))
                spread += ["--schemes", arg] if names else [arg]
        return super().parse_args(ctx, spread)


@click.command("audit", cls=AuditCommand)
@click.argument("model", metavar="MODEL.tflite|.onnx")
@click.option(
    "--schemes", "--against", "schemes", multiple=True, metavar="RUNTIME:PATH|SCHEME ...",
    help="The sides to compare: litert:opt, litert:xnnpack@aarch64, tensorflow:xnnpack/2.20, single ...  "
    "[default: the three paths of LiteRT; for ONNX, ONNX Runtime and these]",
)  # fmt: skip
@click.option("--csv", "csv_path", type=str, metavar="FILE", help="Write every channel, one a line.")
@click.option("--report", "report_path", type=str, metavar="FILE", help="Write a report with pictures: .html or .pdf.")
@click.option("--summary", is_flag=True, help="With --json: without the channels.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def command(
    model: str, schemes: tuple[str, ...], csv_path: str | None, report_path: str | None, summary: bool, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Tell where runtimes will disagree on a quantized model.

    Count exactly, operator by operator and channel by channel, on how many of the accumulators that the model's weights
    allow they give different codes. No image is needed, and nothing is sampled. "Proven equal" holds for every input.

    If --schemes names one side alone, it is compared with what the file's own runtime does by default.

    \b
    Example:
      qengine audit qengine/demo/network.tflite
      qengine audit qengine/demo/network.tflite --schemes litert:xnnpack single --json --summary
    """
    from ..models.audit import audit
    from ..report.audit_tables import parts, to_csv
    from ..report.files import check_target, write_file

    if summary and not as_json:
        raise click.UsageError("--summary shortens --json: give both, or neither.")
    if csv_path is not None:
        check_target(csv_path)
    if report_path is not None:
        check_target(report_path, ".html", ".pdf")
    with progress_bar("audit", "operators", quiet or as_json) as progress:
        result = audit(model, schemes or None, progress=progress)
    if csv_path is not None:
        write_file(csv_path, to_csv(result).encode())
    if report_path is not None:
        from ..report.audit import write_html, write_pdf

        write = write_pdf if report_path.lower().endswith(".pdf") else write_html
        write(result, report_path)
    if as_json:
        emit_json(result.to_dict(not summary))
    else:
        emit(parts(result))
