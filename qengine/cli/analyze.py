"""``qengine analyze``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .checkpoints import checkpoint_options, checkpoint_warnings, say_notes
from .options import Count, Integer, cluster_option
from .progress import progress_bar
from .tensors import Outputs, Selection, input_options, progress_from, run_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..affine.spec import QuantSpec
    from ..models.source import TensorSource
    from ..report.tensors import Measured

#: Samples up to which each is listed.
LISTED = 64
_OF_INTEGERS = ("bits", "mode", "signed", "narrow", "method", "percentile", "convention")
_OF_FORMATS = ("scale_rounding", "overflow")


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE


def read_spec(ctx: click.Context, options: dict[str, Any]) -> QuantSpec:
    """Return the choice that the options make; one that means nothing beside another is an error."""
    from ..affine.spec import QuantSpec

    form = options["format"]
    for name in _OF_INTEGERS if form is not None else _OF_FORMATS:
        if _given(ctx, name):
            kinds = ("integers", "a number format") if form is not None else ("number formats", "integers")
            option = "--signed/--unsigned" if name == "signed" else f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} is for {kinds[0]}; this is {kinds[1]}.")
    if _given(ctx, "range") and (_given(ctx, "method") or _given(ctx, "percentile")):
        raise click.UsageError("--range is the range itself; --method and --percentile find one. Give one of them.")
    if _given(ctx, "percentile"):
        if _given(ctx, "method") and options["method"] != "percentile":
            raise click.UsageError(f"--percentile is for --method percentile; this is {options['method']}.")
        options = {**options, "method": "percentile"}
    return QuantSpec(**options)


@click.command("analyze")
@input_options
@click.option("--bits", type=Integer(), default=8, show_default=True, help="2 to 16.")
@click.option("--mode", type=click.Choice(["symmetric", "asymmetric"]), default="symmetric", show_default=True)
@click.option("--signed/--unsigned", default=True, show_default=True, help="Codes from -2^(b-1), or from 0.")
@click.option("--narrow", is_flag=True, help="Leave out the lowest code.")
@click.option("--rounding", type=str, help="half-even, half-away, floor ...  [default: the convention's]")
@click.option("--convention", type=str, default="calculator", show_default=True, help="onnx, torch, tflite-ref ...")
@click.option(
    "--method", type=click.Choice(["minmax", "percentile", "mse", "sqnr", "entropy"]), default="minmax",
    show_default=True, help="How the range is found.",
)  # fmt: skip
@click.option("--percentile", type=float, default=99.99, show_default=True, help="In (50, 100].")
@click.option("--range", type=float, nargs=2, metavar="LO HIGH", help="The range itself.")
@click.option("--axis", type=Integer(), help="One scale a channel along this axis.")
@click.option("--group", type=Count(), help="One scale for so many samples along --axis (default: the last).")
@click.option("--format", type=str, help="A number format instead: e4m3fn, mxfp4, nvfp4 ...")
@click.option("--scale-rounding", type=str, help="Of block scales: floor, ceil, even, rceil.")
@click.option("--overflow", type=str, default="saturate", show_default=True, help="Of formats: saturate, nan, ieee.")
@click.option("--seed", type=Count(), default=0, show_default=True, help="Key of stochastic rounding.")
@click.option("--per-channel", is_flag=True, help="Report every metric for each channel along --axis too.")
@cluster_option
@checkpoint_options
@run_options
def command(
    file: str, only: tuple[str, ...], per_channel: bool, nonfinite: str, backend: str | None,
    threads: int | None, as_json: bool, csv: str | None, pdf: str | None, plot: str | None, quiet: bool,
    cluster: str | None, checkpoint: str | None, resume: bool, **options: Any,
) -> None:  # fmt: skip
    """Quantize the tensors of FILE, reconstruct them, and report the error.

    FILE is .npy, .npz, .csv, .txt, .safetensors, .onnx, .tflite, .parquet, .zarr, a folder or quoted pattern of shards
    of one tensor, or - for numbers on stdin. With --cluster, workers read it themselves: all have to reach it.

    \b
    Example:
      qengine analyze tests/data/worked_example.csv --bits 8 --range -1.5 1.5
    """
    outputs = Outputs.of(file, as_json, csv, pdf, plot)
    spec = read_spec(click.get_current_context(), options)
    if per_channel and spec.axis is None:
        raise click.UsageError("--per-channel needs --axis, the axis of the channels.")
    if cluster is not None and file == "-":
        raise click.UsageError("--cluster: workers read the file themselves; numbers on stdin are measured here.")
    selection = Selection.of(file, only)
    from ..affine.error_report import Shared, error_report, run_of
    from ..backends import choose, named
    from ..models.tensors import FileTensor
    from ..work.checkpoint import open_checkpoint
    from ..work.cluster import connect

    axis = spec.axis if per_channel else None
    name = choose(backend) if cluster is None else named(backend) or "cpu"
    run = run_of((spec,), axis, nonfinite, True, name) | {"file": Path(file).name}
    with (
        progress_bar("analyze", "elements", quiet) as progress,
        nullcontext() if cluster is None else connect(cluster, backend=name) as executor,
        checkpoint_warnings(),
        open_checkpoint(checkpoint, run, resume) as kept,
    ):

        def measure(source: TensorSource, before: int) -> Measured:
            from ..report.samples import Tracer
            from ..report.tensors import Measured, load

            tensor = load(source) if executor is None else FileTensor.of(file, source.name)
            report = error_report(
                tensor, spec, axis=axis, nonfinite=nonfinite, backend=backend, threads=threads, cluster=executor,
                checkpoint=None if kept is None else Shared(kept, source.name),
                progress=progress_from(progress, before, selection.elements),
            )  # fmt: skip
            small = source.size <= LISTED
            return Measured(
                source, report, samples=Tracer(load(source), report.rows[0]).samples(LISTED) if small else None
            )

        measured = selection.measured(measure)
    notes = () if kept is None else kept.notes()
    say_notes(notes, True, checkpoint)
    digest = hashlib.sha256("".join(item.report.digest for item in measured).encode()).hexdigest()
    from ..report.csv_table import to_csv
    from ..report.tensors import worst_first

    measured = worst_first(measured)

    def data() -> dict[str, Any]:
        tensors = []
        for item in measured:
            samples = None if item.samples is None else item.samples.to_list()
            tensors.append({**item.to_dict(), "samples": samples})
        return {
            "digest": digest, "file": file, "spec": spec.to_dict(), "tensors": tensors, **selection.to_dict(),
            "notes": list(notes),
        }  # fmt: skip

    def drawn_pdf() -> bytes:
        from ..report.pdf import analysis_pdf

        return analysis_pdf(file, measured, selection.refused, selection.skipped_text(), nonfinite)

    def drawn(kind: str) -> bytes:
        from ..report.charts import tensors_picture
        from ..report.figures import tensor_picture

        return tensor_picture(measured[0], nonfinite, kind) if len(measured) == 1 else tensors_picture(measured, kind)

    outputs.deliver(data, lambda: to_csv(measured), lambda: _parts(measured, selection, digest), drawn_pdf, drawn)


def _parts(measured: list[Measured], selection: Selection, digest: str) -> Iterator[RenderableType]:
    from rich.text import Text

    from ..report.errors import channels_table, detail_parts
    from ..report.escape import shown
    from ..report.samples import sample_table
    from ..report.tensors import tensors_table

    if len(measured) == 1:
        (item,) = measured
        row = item.report.rows[0]
        yield Text(item.header())
        yield from detail_parts(row)
    else:
        yield Text(f"{len(measured)} tensors as {shown(measured[0].report.rows[0].label)}, worst SQNR first")
        yield tensors_table(measured)
    for item in measured:
        if item.report.axis is not None and (channels := channels_table(item.report.rows[0], item.report.axis)):
            if len(measured) > 1:
                yield Text(item.header())
            yield channels
    if len(measured) == 1 and measured[0].samples is not None:
        yield sample_table(measured[0].samples)
    yield from selection.parts()
    yield Text(f"digest {digest}")
