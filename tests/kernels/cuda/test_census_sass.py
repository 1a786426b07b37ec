"""Budgets of the census in machine code: instructions a code of one multiplier.

Of an H100 multiprocessor's clock: 128 instructions issue, 64 of them on the integer ALU.
"""

from __future__ import annotations

import pytest

from . import build, sass

pytestmark = pytest.mark.usefixtures("nvdisasm")

#: Codes of a turn of the loop over residues.
STEP = 16
#: Its instructions a code at most, and those on the ALU; a step of residues, its comparison, and a sum.
BUDGET, ALU = 5.5, 2.5
#: Instructions of the loops over codes of any two forms: all their branches together, of which a pair runs a part.
LOOPS = {"census_floor": 180, "census_any": 520}
#: Four blocks of 128 threads a multiprocessor.
REGISTERS = 128


@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_budgets(arch: str, nvcc: build.Nvcc) -> None:
    cubin, resources = nvcc("census", arch)
    found = sass.loops(cubin)
    # Two loops, one for each sign of the accumulators: those without a conversion or a branch but their own.
    main = [loop for loop in found["census_like"] if loop.count("BRA") == 1 and loop.count() >= 4 * STEP - 8]
    main = [loop for loop in main if not loop.count("I2F", "F2I", "D", "LD", "ST", "CALL")]
    assert len(main) == 2
    for loop in main:
        assert sass.tell(arch, "census_like", loop, STEP) <= BUDGET
        assert loop.count(*sass.ALU) / STEP <= ALU
        assert not loop.count(*sass.WIDE)
    for kernel, most in LOOPS.items():
        (loop,) = found[kernel]
        assert sass.tell(arch, kernel, loop, 1) <= most
    assert all(one.registers <= REGISTERS for one in resources.values())
