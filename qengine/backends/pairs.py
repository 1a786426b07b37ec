"""What a back end compares: schemes on pairs (multiplier, accumulator), as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Work:
    """Everything that a sweep kernel sees. K schemes, C channels.

    ``a, bp, bn, t, scale, domain_low, domain_high, low, high`` are (K, C); ``low``/``high`` clamp a result before
    ``add[k] * z`` is added. A multiplier outside a scheme's domain has an empty accumulator domain.
    """

    kind: int
    key0: int
    key1: int
    pairs_per_block: int
    channels: int
    stride: int
    acc_kind: int
    acc_low: I64
    acc_span: I64
    word_shift: int
    center: F64
    spread: F64
    output_units: bool
    table: F64
    real_low: float
    real_width: float
    log_uniform: bool
    z: I64
    qmin: int
    qmax: int
    clamped: bool
    rules: I64
    a: I64
    bp: I64
    bn: I64
    t: I64
    scale: F64
    domain_low: I64
    domain_high: I64
    low: I64
    high: I64
    add: I64
    bins: I64
    shift_low: I64
    shift_high: I64
    scale_low: F64
    scale_high: F64
    total: npt.NDArray[np.bool_]
    witnesses: int
