"""Budgets of the requantization loops in machine code: memory-bound kernels with room to spare.

At 3.0 TB/s an H100 moves 600e9 int32 -> int8 elements a second, and issues 29.6e12 instructions: 49 an element.
"""

from __future__ import annotations

import pytest

from . import build, sass

pytestmark = pytest.mark.usefixtures("nvdisasm")

#: Instructions an element of the loops that store bytes.
BUDGETS = {
    "requantize_floor_tensor": 14.0,
    "requantize_float32_tensor": 9.5,
    "requantize_floor_rows": 14.0,
    "requantize_float32_rows": 10.0,
}
#: With these, 768 and 1024 threads fit a multiprocessor, which is enough of them to hide the memory's latency.
REGISTERS = 80
ROW_REGISTERS = 64


@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_budgets(arch: str, nvcc: build.Nvcc) -> None:
    cubin, resources = nvcc("requantize", arch)
    found = sass.loops(cubin)
    for kernel, budget in BUDGETS.items():
        # Four bytes of results are one 4-byte store.
        main = [loop for loop in found[kernel] if loop.elements(4) >= 8 and not loop.count("STG.E.EF.128")]
        byte = [loop for loop in main if 4 * loop.count("STG") == loop.elements(4)]
        assert byte, kernel
        for loop in byte:
            assert sass.tell(arch, kernel, loop, loop.elements(4)) <= budget, kernel
        assert resources[kernel].registers <= (ROW_REGISTERS if "rows" in kernel else REGISTERS), kernel
