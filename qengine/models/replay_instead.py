"""A scheme of the caller's in the place of a runtime's own arithmetic."""

from __future__ import annotations

from typing import Any

from ..requant.requantize import requantize
from .replay_node import Node
from .source import Array


def instead(
    node: Node, acc: Array, multiplier: Any, zero: int = 0, dtype: str | None = None,
    low: int | None = None, high: int | None = None,
) -> Array:  # fmt: skip
    """Return accumulators by the scheme that the caller chose, wrapping as the runtime's do."""
    assert node.choice.instead is not None
    return requantize(
        acc, multiplier, scheme=node.choice.instead, zero_point=zero, dtype=dtype, qmin=low, qmax=high,
        overflow="wrap", backend=node.choice.backend,
    )  # fmt: skip
