"""``qengine replay``."""

from __future__ import annotations

import time

import click

from .options import emit, emit_json, json_option
from .progress import progress_bar


@click.command("replay")
@click.argument("model", metavar="MODEL.tflite")
@click.option(
    "--input", "source", default="random:1", show_default=True, metavar="FILE|random:SEED",
    help="The model's input: a .npy or .npz file of codes (arrays by tensor name or in order), or uniform codes.",
)  # fmt: skip
@click.option(
    "--path", default="xnnpack", show_default=True, type=click.Choice(["xnnpack", "opt", "ref"]),
    help="The default interpreter, the one without delegates, or the reference kernels.",
)  # fmt: skip
@click.option("--against", type=click.Choice(["litert"]), help="Compare every tensor with the real interpreter.")
@click.option(
    "--instead", metavar="SCHEME", help="What if every operator rounded by this scheme: single, double, floor-port ..."
)
@json_option
def command(model: str, source: str, path: str, against: str | None, instead: str | None, as_json: bool) -> int:
    """Run a quantized model with the exact arithmetic of a LiteRT path, tensor by tensor.

    With --against, operators are replayed twice: "forced", each fed the runtime's own tensors, and "chained", given the
    model's input alone; any difference makes the exit code 1, and the first of each tensor is explained. With
    --instead, the differences are those that the scheme causes: against the runtime, or against its profiles.
    Operators that are not covered are listed, and taken from the runtime in --against mode.

    \b
    Example:
      qengine replay tests/data/network.tflite --input random:1 --path xnnpack --instead double
    """
    from ..models import replay as room
    from ..models.graph import read_graph
    from ..models.replay_inputs import read_inputs
    from ..models.replay_operators import Choice
    from ..report import replay as report
    from ..requant.schemes import get_scheme

    if instead is not None:
        instead = get_scheme(instead).name
    graph = read_graph(model)
    inputs = read_inputs(graph, source)
    runner = room.Model(graph)
    with progress_bar("replay", "operators", as_json) as progress:
        begun = time.perf_counter()
        if against is not None:
            from ..models.replay_runtime import record, runtime_version

            name, real = f"litert {runtime_version()}", record(graph, inputs, path)
        else:
            name, real = f"the profiles of path {path}", runner.run(inputs, Choice(path), progress=progress)
        seconds = time.perf_counter() - begun
        compared = None
        if against is not None or instead is not None:
            compared = room.compare(runner, inputs, real, Choice(path, instead), name, progress)
    if compared is None:
        assert isinstance(real, room.Replayed)
        if as_json:
            emit_json(report.replay_data(graph, real, path, seconds))
        else:
            emit(report.replay_parts(graph, real, path, seconds))
        return 0
    if as_json:
        emit_json(compared.to_dict())
    else:
        emit(report.comparison_parts(compared))
    return 1 if instead is None and (compared.forced or compared.chained) else 0
