"""One requantizing operator of a model as an audit sees it: what goes into its rounding, and what can arrive there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .source import Array

#: Kinds of states: what one rounding of the operator depends on.
ACCUMULATORS, CODES, PAIRS, SUMS, NONE = "accumulators", "codes", "pairs of codes", "sums", ""


def integers(*values: int) -> Array:
    """Return an int64 array, one element a channel."""
    return np.array(values, np.int64)


def scales(*values: Any) -> Array:
    """Return a float32 array, one element a channel."""
    return np.array(values, np.float32)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Requantizing:
    """An operator that turns integers of one scale into codes of another, or one that is not covered.

    Arrays have one element a channel (of a pool: one a number of codes in the window); one element serves all.

    Attributes
    ----------
    index, op, name, tensor
        Place among the operators; the operator's name in its runtime (``CONV_2D``, ``QLinearConv``); the output
        tensor's name, and its number.
    runtime : str
        The runtime of the file's format: ``litert`` or ``onnxruntime``.
    states : str
        ``accumulators``: an integer in ``[low, high]``; ``codes``: one input code in ``[low, high]``;
        ``pairs of codes``: that, and a second one in ``[second_low, second_high]``; ``sums``: of `count` codes, in
        ``[low, high]``, zero points not subtracted; empty where `reason` says why the operator is not covered.
    code_dtype, dtype : str
        Types of input and output codes.
    granularity, variant : str
        ``per-channel``, ``per-tensor`` or ``elementwise``; variant of the runtime's profiles.
    in_scale, w_scale, out_scale : float32 arrays
        As stored; `w_scale` is that of the weights, of the second input, or 1 where there is neither.
    in_zp, second_zp, out_zp, bias, low, high, second_low, second_high, count : int64 arrays
    products : int64 array
        Products in each accumulator.
    activation, qmin, qmax
        Fused activation, and the closed range of codes that it leaves (as the reference derives it).
    shape : tuple of int
        Of the output tensor: vector code and its rest depend on it.
    routes : mapping
        Path to the path whose kernel runs instead (XNNPACK does not take every operator).
    refused : mapping
        Path to why nothing is known of it there.
    more : mapping
        Further columns of the profile.
    """

    index: int
    op: str
    name: str
    tensor: int = -1
    runtime: str = "litert"
    states: str = NONE
    reason: str = ""
    code_dtype: str = ""
    dtype: str = ""
    granularity: str = ""
    variant: str = ""
    activation: str = "NONE"
    qmin: int = 0
    qmax: int = 0
    in_scale: Array = field(default_factory=lambda: scales(1))
    w_scale: Array = field(default_factory=lambda: scales(1))
    out_scale: Array = field(default_factory=lambda: scales(1))
    in_zp: Array = field(default_factory=lambda: integers(0))
    second_zp: Array = field(default_factory=lambda: integers(0))
    out_zp: Array = field(default_factory=lambda: integers(0))
    bias: Array = field(default_factory=lambda: integers(0))
    low: Array = field(default_factory=lambda: integers(0))
    high: Array = field(default_factory=lambda: integers(-1))
    second_low: Array = field(default_factory=lambda: integers(0))
    second_high: Array = field(default_factory=lambda: integers(0))
    count: Array = field(default_factory=lambda: integers(1))
    products: Array = field(default_factory=lambda: integers(0))
    shape: tuple[int, ...] = ()
    routes: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def covered(self) -> bool:
        """Whether its states can be compared."""
        return bool(self.states)

    @property
    def channels(self) -> int:
        """Number of channels that have states of their own."""
        return max(self.low.size, self.w_scale.size)

    def sizes(self) -> Array:
        """Return the number of attainable states of each channel."""
        first = np.maximum(self.high - self.low + 1, 0)
        if self.states == PAIRS:
            first = first * np.maximum(self.second_high - self.second_low + 1, 0)
        return np.broadcast_to(first, self.channels)
