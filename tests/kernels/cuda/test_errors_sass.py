"""Budgets of the error pass in machine code, sm_90: what a float32 element and one quantizer cost, without counting.

At 1.755 GHz, 132 multiprocessors issue 29.7e12 instructions a second, half as many float64 ones. With 8 quantizers, n
instructions are 3.7e12 / n elements a second: 27.7 make 134e9, and 11.5 float64 ones allow 161e9 (float32 values: 27.2,
136e9; 10.5, 176e9). Those are ceilings of a model, predicted, not measured. The 400e9 that float32 partial sums promise
are out of reach while sums must be right to 1e-13 and the sum of e, which cancels, to the last digits.
"""

from __future__ import annotations

import pytest

from . import build, sass

pytestmark = pytest.mark.usefixtures("nvdisasm")

TOGETHER, STEP = 4, 4
#: (instructions, float64 instructions) an element and quantizer.
BUDGETS = {"errors_fast64_f32": (28.5, 11.6), "errors_fast32_f32": (28.0, 10.6)}
#: With these, three blocks of 128 threads fit a multiprocessor: three warps a scheduler, sixteen chains each.
REGISTERS = 170
#: Instructions, and float64 ones, that 132 multiprocessors issue in a second at 1.755 GHz.
ISSUED, DOUBLES = 132 * 128 * 1.755e9, 132 * 64 * 1.755e9


def test_budgets(nvcc: build.Nvcc) -> None:
    cubin, resources = nvcc("errors", "sm_90")
    found = sass.loops(cubin)
    for kernel, (instructions, doubles) in BUDGETS.items():
        (loop,) = (loop for loop in found[kernel] if loop.elements(4) == STEP)
        pairs = TOGETHER * STEP
        assert sass.tell("sm_90", kernel, loop, pairs) <= instructions, kernel
        double = loop.count("DFMA", "DADD", "DMUL", "DSETP") / pairs
        seconds = max(loop.count() / pairs / ISSUED, double / DOUBLES)  # an element and quantizer
        print(f"  of these {double:.2f} float64; predicted: {1e-9 / (8 * seconds):.0f}e9 elements/s with 8 quantizers")
        assert double <= doubles, kernel
        assert resources[kernel].registers <= REGISTERS, kernel
