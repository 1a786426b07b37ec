"""Every kernel of the CUDA back end on short arrays of awkward sizes: for a sanitizer, and for `test_short_run`.

``python tests/kernels/cuda/short_run.py`` runs it on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import qengine as qe
from qengine.kernels.cuda import load

SIZE = 4 * 1024 + 3


def requantize(arrays: Any) -> None:
    """One multiplier, channels last, channels first; each family of rules; int32 and int64 accumulators."""
    rng = np.random.default_rng(1)
    for scheme in ("single", "fp32", "rndnu16"):
        for shape, axis in (((SIZE,), None), ((61, 8), 1), ((3, 8, 17), 1)):
            multiplier: Any = 0.0037 if axis is None else rng.uniform(0.001, 0.01, 8)
            for dtype in (np.int32, np.int64):
                acc = arrays.asarray(rng.integers(-(1 << 15), 1 << 15, shape).astype(dtype))
                qe.requantize(acc, multiplier, scheme=scheme, axis=axis, dtype="int8")
                qe.requantize(acc, multiplier, scheme=scheme, axis=axis, dtype="int64")
    # Accumulators of which a part may lie outside the domain: they are looked through first.
    for dtype in (np.int32, np.int64):
        qe.requantize(arrays.asarray(np.arange(SIZE, dtype=dtype)), qe.QuantizedMultiplier(1 << 30, 3), scheme="double")


def main() -> None:
    """Run all of it on the device."""
    arrays = load.array_module()
    requantize(arrays)


if __name__ == "__main__":
    main()
