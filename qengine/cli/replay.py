"""``qengine replay``."""

from __future__ import annotations

import time

import click

from .options import emit, emit_json, json_option
from .progress import progress_bar


@click.command("replay")
@click.argument("model", metavar="MODEL.tflite")
@click.option(
    "--input", "sources", multiple=True, default=["random:1"], show_default=True, metavar="FILE|random:SEED",
    help="The model's input: a .npy or .npz file of codes (arrays by tensor name or in order), or uniform codes. "
    "Several times: comparisons add up.",
)  # fmt: skip
@click.option(
    "--path", default="xnnpack", show_default=True, type=click.Choice(["xnnpack", "opt", "ref"]),
    help="The default interpreter, the one without delegates, or the reference kernels.",
)  # fmt: skip
@click.option("--against", type=click.Choice(["litert"]), help="Compare every tensor with the real interpreter.")
@click.option(
    "--instead", "schemes", multiple=True, metavar="SCHEME",
    help="What if every operator rounded by this scheme: single, double, floor-port ... Several times: one line each.",
)  # fmt: skip
@json_option
def command(
    model: str, sources: tuple[str, ...], path: str, against: str | None, schemes: tuple[str, ...], as_json: bool
) -> int:
    """Run a quantized model with the exact arithmetic of a LiteRT path, tensor by tensor.

    With --against, operators are replayed twice: "forced", each fed the runtime's own tensors, and "chained", given the
    model's input alone; any difference makes the exit code 1, and the first of each tensor is explained. With
    --instead, the differences are those that the scheme causes: against the runtime, or against its profiles.
    Operators that are not covered are listed, and taken from the runtime in --against mode.

    \b
    Example:
      qengine replay qengine/demo/network.tflite --input random:1 --path xnnpack --instead double
    """
    from ..models import replay as room
    from ..models.graph import read_graph
    from ..models.replay_inputs import read_inputs
    from ..models.replay_node import Choice
    from ..report import replay as report
    from ..requant.schemes import get_scheme

    choices = [Choice(path, get_scheme(scheme).name) for scheme in schemes] or [Choice(path)]
    comparing = against is not None or bool(schemes)
    if len(sources) > 1 and not comparing:
        raise click.UsageError("several --input add up in comparisons: give --against or --instead.")
    graph = read_graph(model)
    runner = room.Model(graph)
    parts: list[list[room.Comparison]] = [[] for _ in choices]
    with progress_bar("replay", "operators", as_json) as progress:
        for inputs in [read_inputs(graph, source) for source in sources]:
            begun = time.perf_counter()
            if against is not None:
                from ..models.replay_runtime import record_apart, runtime_version

                name, real = f"litert {runtime_version()}", record_apart(graph, inputs, path)
            else:
                name, real = f"the profiles of path {path}", runner.run(inputs, Choice(path), progress=progress)
            seconds = time.perf_counter() - begun
            for found, choice in zip(parts, choices, strict=True):
                if comparing:
                    found.append(room.compare(runner, inputs, real, choice, name, progress))
    if not comparing:
        assert isinstance(real, room.Replayed)
        if as_json:
            emit_json(report.replay_data(graph, real, path, seconds))
        else:
            emit(report.replay_parts(graph, real, path, seconds))
        return 0
    results = [room.merged(found) for found in parts]
    if as_json:
        data = [result.to_dict() for result in results]
        emit_json(data if len(data) > 1 else data[0])
    else:
        emit(report.comparison_parts(results[0]) if len(results) == 1 else report.summary_parts(results))
    return 1 if not schemes and (results[0].forced or results[0].chained) else 0
