"""Budgets of the sweep's loops for two schemes in machine code, without a device.

Of an H100 multiprocessor's clock: 128 instructions issue, 64 of them on the ALU, 64 on the integer multiplier, on
which a wide product takes two places. Philox4x32-10 alone is 18 to 20 wide products a block of four words, so that a
pair with two words, for multiplier and accumulator or for an accumulator, spends 9 to 10 before anything else.
"""

from __future__ import annotations

import pytest

from . import build, sass

pytestmark = pytest.mark.usefixtures("nvdisasm")

#: Kernel -> (pairs of the loop's body, instructions a pair at most, ALU ones, wide products, pairs a clock that an
#: H100's three pipes allow).
BUDGETS = {
    "sweep_range_floor": (8, 53.0, 27.0, 11.25, 2.4),
    "sweep_range_float": (8, 54.0, 27.0, 10.25, 2.4),
    "sweep_word_floor": (8, 29.0, 15.0, 6.75, 4.2),
    "sweep_word_float": (8, 30.0, 15.0, 5.75, 4.2),
    "sweep_table_floor": (4, 58.0, 27.5, 14.0, 1.9),
    "sweep_table_float": (4, 58.0, 25.5, 13.0, 1.9),
}
#: 1024 threads fit a multiprocessor with these: enough to hide the latency of independent chains.
REGISTERS = 64


@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_budgets(arch: str, nvcc: build.Nvcc) -> None:
    cubin, resources = nvcc("sweep", arch)
    found = sass.stretches(cubin)
    for kernel, (pairs, most, alu, wide, fastest) in BUDGETS.items():
        loop = found[kernel]
        # The body of the loop: all pairs are drawn and counted in it, each by one operation on shared memory.
        assert loop.count("ATOMS.POPC.INC") == pairs, (kernel, loop.count("ATOMS"))
        assert sass.tell(arch, kernel, loop, pairs) <= most, kernel
        assert loop.count(*sass.ALU) <= alu * pairs, (kernel, loop.count(*sass.ALU) / pairs)
        assert loop.count(*sass.WIDE) <= wide * pairs, (kernel, loop.count(*sass.WIDE) / pairs)
        if arch == "sm_90":
            assert sass.rate(loop, pairs) >= fastest, (kernel, sass.rate(loop, pairs))
        assert resources[kernel].registers <= REGISTERS, kernel
