"""``qengine audit``."""

from __future__ import annotations

import click

from .options import emit, emit_json, json_option
from .progress import progress_bar


@click.command("audit")
@click.argument("model", metavar="MODEL.tflite|.onnx")
@click.option(
    "--against", multiple=True, metavar="RUNTIME:PATH|SCHEME",
    help="A side to compare, several times: litert:opt, litert:xnnpack@aarch64, tensorflow:xnnpack/2.20, single ...  "
    "[default: the three paths of LiteRT; for ONNX, ONNX Runtime and these]",
)  # fmt: skip
@click.option("--csv", "csv_path", type=str, metavar="FILE", help="Write every channel, one a line.")
@click.option("--report", "report_path", type=str, metavar="FILE", help="Write a report with pictures: .html or .pdf.")
@click.option("--summary", is_flag=True, help="With --json: without the channels.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def command(
    model: str, against: tuple[str, ...], csv_path: str | None, report_path: str | None, summary: bool, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Tell where runtimes will disagree on a quantized model.

    Count exactly, operator by operator and channel by channel, on how many of the accumulators that the model's weights
    allow they give different codes. No image is needed, and nothing is sampled. "Proven equal" holds for every input.

    With one --against, it is compared with what the file's own runtime does by default.

    \b
    Example:
      qengine audit tests/data/network.tflite
      qengine audit tests/data/network.tflite --against litert:xnnpack --against single --json --summary
    """
    from ..models.audit import audit
    from ..report.audit_tables import parts, to_csv
    from ..report.files import check_target, write_file

    if csv_path is not None:
        check_target(csv_path)
    if report_path is not None:
        check_target(report_path, ".html", ".pdf")
    with progress_bar("audit", "operators", quiet or as_json) as progress:
        result = audit(model, against or None, progress=progress)
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
