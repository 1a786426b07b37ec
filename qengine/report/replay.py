"""The tables of a replayed model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from .terminal import integer, share, table

if TYPE_CHECKING:
    from ..models.graph import Graph
    from ..models.replay import Comparison, Replayed, Skipped

#: Accumulators of the question whose answer is usually quoted as "8 of 33.4 million".
QUOTED = 33_400_000


def _digest(value: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()


def replay_data(graph: Graph, tensors: Replayed, path: str, seconds: float) -> dict[str, Any]:
    """Return a replay as plain data; digests are SHA-256 of a tensor's bytes in C order."""
    written = [(operator, operator.outputs[0]) for operator in graph.operators if operator.outputs]
    return {
        "model": graph.where, "path": path, "seconds": seconds,
        "elements": sum(int(tensors[k].size) for _, k in written if k in tensors),
        "tensors": [
            {
                "operator": operator.index, "op": operator.name, "tensor": k, "name": graph.tensors[k].name,
                "shape": list(tensors[k].shape), "dtype": tensors[k].dtype.name, "sha256": _digest(tensors[k]),
            }
            for operator, k in written if k in tensors
        ],
        "outputs": {str(k): tensors[k].reshape(-1)[:1024].tolist() for k in graph.outputs if k in tensors},
        "not_covered": [{"index": s.index, "name": s.name, "reason": s.reason} for s in tensors.skipped],
    }  # fmt: skip


def _skipped(skipped: tuple[Skipped, ...]) -> Iterator[RenderableType]:
    if not skipped:
        return
    listing = table("not covered")
    listing.add_column("operator", right=True)
    listing.add_column("op")
    listing.add_column("why", wrap=True)
    for row in skipped:
        listing.add_row(str(row.index), row.name, row.reason)
    yield listing


def replay_parts(graph: Graph, tensors: Replayed, path: str, seconds: float) -> Iterator[RenderableType]:
    """Yield every tensor's shape, range and digest."""
    listing = table(f"{graph.where}, path {path}")
    for name, right in (("operator", True), ("op", False), ("tensor", True), ("shape", False), ("type", False)):
        listing.add_column(name, right=right)
    for name in ("least", "largest"):
        listing.add_column(name, right=True)
    listing.add_column("sha256")
    for row in replay_data(graph, tensors, path, seconds)["tensors"]:
        value = tensors[row["tensor"]]
        edges = (str(value.min()), str(value.max())) if value.size else ("-", "-")
        shape = "x".join(map(str, row["shape"]))
        listing.add_row(
            str(row["operator"]), row["op"], str(row["tensor"]), shape, row["dtype"], *edges, row["sha256"][:16]
        )
    yield listing
    yield from _skipped(tensors.skipped)
    yield Text(f"{seconds:.3f} s")


def _totals(result: Comparison) -> Mapping[str, str]:
    final, outputs = result.final
    different, accumulators = result.accumulators
    rate = different / accumulators if accumulators else 0.0
    return {
        "elements compared": integer(result.elements),
        "different, forced (each operator fed the other side's tensors)": f"{integer(result.forced)}",
        "different, chained (only the model's input given)": (
            f"{integer(result.chained)} ({share(result.chained / max(1, result.elements))})"
        ),
        "final outputs different": f"{integer(final)} of {integer(outputs)}",
        "codes of accumulators different, forced": (
            f"{integer(different)} of {integer(accumulators)}: {rate * QUOTED:.1f} per 33.4 M"
        ),
        "operators not covered": integer(len(result.skipped)),
    }


def comparison_parts(result: Comparison) -> Iterator[RenderableType]:
    """Yield the tensors, the first difference of each explained, and the totals."""
    what = f"{result.instead} instead of path {result.path}" if result.instead else f"path {result.path}"
    listing = table(f"{result.model}: {what}, against {result.against}")
    for name in ("operator", "op", "tensor", "elements", "forced", "chained", "largest"):
        listing.add_column(name, right=name != "op")
    for row in result.rows:
        counts = ["not done" if count is None else integer(count) for count in (row.forced, row.chained)]
        listing.add_row(
            str(row.operator), row.op, str(row.tensor), integer(row.elements), *counts, f"{row.largest:g}"
        )  # fmt: skip
    yield listing
    firsts = [row for row in result.rows if row.first]
    if firsts:
        explained = table("first difference of each tensor, forced")
        explained.add_column("tensor", right=True)
        explained.add_column("op")
        explained.add_column("what", wrap=True)
        for row in firsts:
            explained.add_row(str(row.tensor), row.op, row.first)
        yield explained
    yield from _skipped(result.skipped)
    if result.repaired:
        yield Text(
            f"{result.repaired} one-dimensional tensors name a quantized_dimension that they do not have; "
            "it was set to 0 in memory."
        )
    totals = table()
    totals.add_column("in all")
    totals.add_column("")
    for name, value in _totals(result).items():
        totals.add_row(name, value)
    yield totals


def summary_parts(results: list[Comparison]) -> Iterator[RenderableType]:
    """Yield what each of several schemes costs, one line a scheme."""
    first = results[0]
    listing = table(
        f"{first.model}: schemes instead of path {first.path}, against {first.against}",
        f"of {integer(first.elements)} elements, {integer(first.accumulators[1])} of them codes of accumulators",
    )
    listing.add_column("scheme")
    for name in ("forced", "of accumulators", "per 33.4 M", "chained", "share", "final outputs"):
        listing.add_column(name, right=True)
    for result in results:
        different, accumulators = result.accumulators
        final, outputs = result.final
        listing.add_row(
            str(result.instead), integer(result.forced), integer(different),
            f"{different / max(1, accumulators) * QUOTED:,.1f}", integer(result.chained),
            share(result.chained / max(1, result.elements)), f"{integer(final)} of {integer(outputs)}",
        )  # fmt: skip
    yield listing
    yield from _skipped(first.skipped)
