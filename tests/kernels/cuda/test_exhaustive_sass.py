"""Budgets of the exhaustive loops in machine code, an instruction of each kind counted.

An H100 multiprocessor issues 128 thread instructions a clock, of them 64 of the ALU and 32 wide multiply-adds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qengine.kernels.cuda import sources

from . import build, sass

pytestmark = pytest.mark.usefixtures("nvdisasm")

#: Pairs of a turn of the loop.
STEP = 16
#: Kernel: instructions a pair at most, wide multiply-adds a pair, and instructions a pair on the ALU at most.
BUDGETS = {
    "exhaustive_floor": (6.5, 2, 3.2),
    "exhaustive_window": (4.5, 1, 2.2),
    "exhaustive_packed": (7.5, 2, 3.5),
    "exhaustive_float": (10.0, 1, 2.2),
}
#: With 32 registers a thread all 2048 threads of a multiprocessor run at a time; two more leave 1792.
REGISTERS = 34


def within_budgets(arch: str, found: dict[str, list[sass.Loop]]) -> None:
    for kernel, (budget, products, alu) in BUDGETS.items():
        # The loop over whole steps is the one with a product for each of its pairs.
        main = [loop for loop in found[kernel] if loop.count(*sass.WIDE) >= STEP]
        assert len(main) == 1, kernel
        (loop,) = main
        assert loop.count(*sass.WIDE) == products * STEP, kernel
        assert sass.tell(arch, kernel, loop, STEP) <= budget, kernel
        assert loop.count(*sass.ALU) / STEP <= alu, (kernel, loop.count(*sass.ALU))
        # What would be the slow pipe, and memory.
        assert not loop.count("I2F", "F2I", "LD", "ST", "CALL", "MUFU", "POPC"), kernel


@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_budgets(arch: str, nvcc: build.Nvcc) -> None:
    cubin, resources = nvcc("exhaustive", arch)
    within_budgets(arch, sass.loops(cubin))
    assert all(resources[kernel].registers <= REGISTERS for kernel in BUDGETS)


@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_budgets_of_nvrtc(arch: str, nvrtc: build.Nvrtc, tmp_path: Path) -> None:
    """As CuPy compiles it."""
    cubin = tmp_path / "exhaustive.cubin"
    cubin.write_bytes(nvrtc(sources.assemble("exhaustive"), build.nvrtc_options(arch)).binary)
    within_budgets(arch, sass.loops(cubin))


def test_conversions_are_seen(nvcc: build.Nvcc) -> None:
    """A product with conversions would be found: the requantization has them."""
    cubin, _ = nvcc("requantize", "sm_90")
    assert any(loop.count("I2F", "F2I") for loop in sass.loops(cubin)["requantize_float32_tensor"])
