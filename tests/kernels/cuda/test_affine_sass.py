"""Budgets of the loops over arrays in machine code: memory-bound kernels with room to spare.

At 3.0 TB/s an H100 moves 600e9 float32 and bytes a second, and issues 29.6e12 instructions: 49 an element.
"""

from __future__ import annotations

import pytest

from . import build, sass

pytestmark = pytest.mark.usefixtures("nvdisasm")

#: Instructions an element of the loops that store bytes of codes.
QUANTIZE = {
    "quantize_fused_tensor": 10.5,
    "quantize_divide_tensor": 15.5,
    "quantize_double_tensor": 17.0,
    "quantize_fused_columns": 10.5,
    "quantize_divide_columns": 15.5,
    "quantize_double_columns": 17.0,
}
#: And of those that read bytes of codes: (budget, values in a 16-byte store).
DEQUANTIZE = {"dequantize_tensor_f32": (8.0, 4), "dequantize_tensor_f64": (10.0, 2), "dequantize_columns_f32": (8.0, 4)}
#: With these, 768 threads fit a multiprocessor, which is enough of them to hide the memory's latency.
REGISTERS = 80


@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_budgets(arch: str, nvcc: build.Nvcc) -> None:
    cubin, resources = nvcc("affine", arch)
    found = sass.loops(cubin)
    for kernel, budget in QUANTIZE.items():
        # Four codes are one 4-byte store; the loops that find the numbers of their columns hold more loads.
        main = [loop for loop in found[kernel] if loop.elements(4) >= 8 and loop.elements(4) == 4 * loop.count("LDG")]
        byte = [loop for loop in main if 4 * loop.count("STG") == loop.elements(4)]
        assert byte, kernel
        for loop in byte:
            assert sass.tell(arch, kernel, loop, loop.elements(4)) <= budget, kernel
            assert not loop.count("CALL", "MUFU"), kernel  # no division
        assert resources[kernel].registers <= REGISTERS, kernel
    for kernel, (budget, values) in DEQUANTIZE.items():
        main = [loop for loop in found[kernel] if loop.count("LDG") >= 2 and loop.elements(4) == 0]
        wide = [loop for loop in main if values * loop.count("STG.E.EF.128") == 4 * loop.count("LDG")]
        assert wide, kernel
        for loop in wide:
            elements = 4 * loop.count("LDG")
            assert sass.tell(arch, kernel, loop, elements) <= budget, kernel
        assert resources[kernel].registers <= REGISTERS, kernel


def test_a_cast_keeps_up_with_the_memory(nvcc: build.Nvcc) -> None:
    """float32 to a small float, ties to even, four at a time: fewer than the 49 instructions an element of the head."""
    cubin, _ = nvcc("formats", "sm_90")
    main = [loop for loop in sass.loops(cubin)["encode_f32"] if loop.elements(4) == 4 and loop.count("LDG") == 1]
    assert len(main) == 1
    assert main[0].count() / 4 <= 42
    assert not main[0].count("CALL", "MUFU", "BAR")
