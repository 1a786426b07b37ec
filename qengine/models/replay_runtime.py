"""The real interpreter: every tensor of a model as LiteRT computes it."""

from __future__ import annotations

import importlib
import warnings
from importlib.metadata import PackageNotFoundError, version
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
    package = _package()
    resolver = getattr(package.OpResolverType, RESOLVERS[path])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that kept tensors take memory
            interpreter = package.Interpreter(
                model_content=graph.content, experimental_op_resolver_type=resolver, num_threads=1,
                experimental_preserve_all_tensors=True,
            )  # fmt: skip
        interpreter.allocate_tensors()
        for index, value in inputs.items():
            interpreter.set_tensor(index, value)
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:300]
        raise DomainError(f"{graph.where}: ai-edge-litert {runtime_version()} cannot run it: {detail}.") from error
    kept: dict[int, Array] = {}
    for index in (*graph.inputs, *(k for operator in graph.operators for k in operator.outputs)):
        try:
            kept[index] = np.array(interpreter.get_tensor(index))
        except (ValueError, RuntimeError):  # dynamic or temporary tensors of some operators have no memory
            continue
    return kept
