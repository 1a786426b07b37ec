"""The real interpreter: every tensor of a model as LiteRT computes it."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import BackendError, DomainError
from .graph import Graph
from .source import Array

#: Path -> the resolver of the interpreter that takes it.
RESOLVERS = {"xnnpack": "AUTO", "opt": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "ref": "BUILTIN_REF"}


def _package() -> Any:
    try:
        return importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise BackendError(
            f"running the model needs ai-edge-litert ({error}); pip install 'qengine-numerics[runtimes]'."
        ) from error


def runtime_version() -> str:
    """Return the installed runtime's version."""
    try:
        return version("ai-edge-litert")
    except PackageNotFoundError:
        return "unknown"


def _run(content: bytes, inputs: Mapping[int, Array], path: str, wanted: Sequence[int]) -> dict[int, Array]:
    """Run a model once and return the wanted tensors that have memory; ValueError and RuntimeError are its refusals."""
    package = _package()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that kept tensors take memory
        interpreter = package.Interpreter(
            model_content=content, experimental_op_resolver_type=getattr(package.OpResolverType, RESOLVERS[path]),
            num_threads=1, experimental_preserve_all_tensors=True,
        )  # fmt: skip
    interpreter.allocate_tensors()
    for index, value in inputs.items():
        interpreter.set_tensor(index, value)
    interpreter.invoke()
    kept: dict[int, Array] = {}
    for index in wanted:
        try:
            kept[index] = np.array(interpreter.get_tensor(index))
        except (ValueError, RuntimeError):  # dynamic or temporary tensors of some operators have no memory
            continue
    return kept


def _wanted(graph: Graph) -> tuple[int, ...]:
    return (*graph.inputs, *(k for operator in graph.operators for k in operator.outputs))


def _refused(graph: Graph, text: str) -> DomainError:
    detail = " ".join(text.split())[:300].rstrip(".")
    return DomainError(f"{graph.where}: ai-edge-litert {runtime_version()} cannot run it: {detail}.")


def record(graph: Graph, inputs: dict[int, Array], path: str) -> dict[int, Array]:
    """Run the model once and return every tensor that its operators write, and its inputs.

    Intermediate tensors are kept, so that operators keep their own memory; the delegate runs all the same.

    Raises
    ------
    BackendError
        ai-edge-litert is not installed.
    DomainError
        The interpreter refuses the model or an input.
    """
    try:
        return _run(graph.content, inputs, path, _wanted(graph))
    except (ValueError, RuntimeError) as error:
        raise _refused(graph, str(error)) from error


def _save(path: Path, tensors: Mapping[int, Array]) -> None:
    named: dict[str, Any] = {str(k): value for k, value in tensors.items()}
    np.savez(path, **named)


def record_apart(graph: Graph, inputs: dict[int, Array], path: str) -> dict[int, Array]:
    """Record as `record` does, in a process of its own: a model that brings the interpreter down is an error then.

    Raises
    ------
    BackendError
        ai-edge-litert is not installed.
    DomainError
        The interpreter refuses the model or an input, or crashes on it.
    """
    _package()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model").write_bytes(graph.content)
        _save(place / "inputs.npz", inputs)
        (place / "wanted").write_text(" ".join(map(str, _wanted(graph))))
        command = [sys.executable, "-P", "-m", __name__, folder, path]
        ran = subprocess.run(command, capture_output=True, check=False)
        if ran.returncode < 0:
            raise _refused(graph, f"it was ended by {signal.Signals(-ran.returncode).name}")
        if (place / "refused").exists():
            raise _refused(graph, (place / "refused").read_text())
        if ran.returncode:
            raise _refused(graph, ran.stderr.decode("utf-8", "replace")[-200:])
        with np.load(place / "tensors.npz") as found:
            return {int(k): found[k] for k in found.files}


def _main(folder: str, path: str) -> None:
    """Be the process that `record_apart` starts."""
    place = Path(folder)
    with np.load(place / "inputs.npz") as given:
        inputs = {int(k): given[k] for k in given.files}
    wanted = [int(k) for k in (place / "wanted").read_text().split()]
    try:
        found = _run((place / "model").read_bytes(), inputs, path, wanted)
    except (ValueError, RuntimeError) as error:
        (place / "refused").write_text(str(error))
        return
    _save(place / "tensors.npz", found)


if __name__ == "__main__":
    _main(*sys.argv[1:])
