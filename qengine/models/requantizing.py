"""One requantizing operator of a model as an audit sees it: what goes into its rounding, and what can arrive there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .source import Array

#: Kinds of states: what one rounding of the operator depends on.
ACCUMULATORS, CODES, PAIRS, SUMS, NONE = "accumulators", "codes", "pairs of codes", "sums", ""
REALS = "real numbers"
#: Real inputs of a quantizer are float32 numbers up to this many output scales: as far as recordings reach.
REACH = 30000


def integers(*values: int) -> Array:
    """Return an int64 array, one element a channel."""
    return np.array(values, np.int64)


def scales(*values: Any) -> Array:
    """Return a float32 array, one element a channel."""
    return np.array(values, np.float32)


def real_numbers(places: Array) -> Array:
    """Return the float32 numbers of places: 0 is at 0, the next greater number at 1, the next smaller one at -1.

    Examples
    --------
    >>> import numpy as np
    >>> from qengine.models.requantizing import place_of, real_numbers
    >>> real_numbers(np.array([0, 0x3F800000, -0x3F800000])).tolist(), place_of(-1.5) == -0x3FC00000
    ([0.0, 1.0, -1.0], True)
    """
    magnitudes = np.abs(places).astype(np.uint32).view(np.float32)
    return np.where(places < 0, -magnitudes, magnitudes)


def place_of(number: Any) -> int:
    """Return the place of a finite float32 number."""
    magnitude = int(np.abs(np.float32(number)).view(np.uint32))
    return -magnitude if number < 0 else magnitude


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
        ``pairs of codes``: that, and a second one; ``sums``: of `count` codes, in ``[low, high]``, zero points not
        subtracted; ``real numbers``: the float32 inputs of a quantizer up to `REACH` output scales, by their places
        (`real_numbers`); empty where `reason` says why there is nothing to compare.
    reason : str
    plain : bool
        Nothing is requantized: codes are moved or clamped, or all is floating point. (Not covered otherwise.)
    code_dtype, dtype : str
        Types of input and output codes.
    granularity, variant : str
        ``per-channel``, ``per-tensor`` or ``elementwise``; variant of the runtime's profiles.
    in_scale, w_scale, out_scale : float32 arrays
        As stored; `w_scale` is that of the weights, of the second input, or 1 where there is neither.
    in_zp, second_zp, out_zp, bias, low, high, count : int64 arrays
        `low`, `high`: the closed range of the states; for codes and pairs the hull of `first_codes`.
    first_codes, second_codes : int64 arrays
        The input codes that can arrive, ascending: ``codes`` and ``pairs of codes`` only.
    twins : bool
        Both inputs are the same tensor: only pairs of equal codes arrive (`states` is then ``codes``).
    activation, qmin, qmax
        Fused activation, and the closed range of codes that it leaves (as the reference derives it).
    shape : tuple of int
        Of the output tensor: vector code and its rest depend on it.
    facts : mapping
        Geometry: ``filter``, ``stride`` (pairs), ``padding``, ``pixels`` (of one image), ``inputs`` (products of one
        accumulator), ``batch``. Which kernel runs depends on it.
    routes : mapping
        Path to the path whose kernel runs instead (XNNPACK does not take every operator).
    refused : mapping
        Path to why nothing is known of it there.
    """

    index: int
    op: str
    name: str
    tensor: int = -1
    runtime: str = "litert"
    states: str = NONE
    reason: str = ""
    plain: bool = False
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
    first_codes: Array = field(default_factory=lambda: integers())
    second_codes: Array = field(default_factory=lambda: integers())
    twins: bool = False
    count: Array = field(default_factory=lambda: integers(1))
    shape: tuple[int, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    routes: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

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
        if self.states == CODES:
            return integers(self.first_codes.size)
        if self.states == PAIRS:
            return integers(self.first_codes.size * self.second_codes.size)
        return np.broadcast_to(np.maximum(self.high - self.low + 1, 0), self.channels)
