"""The benchmark of instruction rates compiles, and its loops hold the instruction that each is to measure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import device_rates
from qengine.kernels.cuda import sources

from . import build, sass

#: Instructions beside those that are measured: what a loop needs, and what some need for each on average (moves of
#: 64-bit numbers, sums of the uniform datapath): all of a faster kind.
OVERHEAD = 6
BESIDE = {"imad_wide": 0.3, "imad_wide_uniform": 1.5, "imad_hi_uniform": 1, "bit_count": 1, "shared_add": 3}


def test_nvrtc(nvrtc: Callable[..., build.Compiled]) -> None:
    options = (*sources.OPTIONS, "-arch=sm_90", "--device-as-default-execution-space", "-ftz=true")
    compiled = nvrtc(device_rates.text(), options)
    assert compiled.log == ""
    for name in device_rates.RATES:
        assert f".text.rate_{name}".encode() in compiled.binary


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_loops(arch: str, tmp_path: Path) -> None:
    if build.nvcc() is None or sass.disassembler() is None:
        pytest.skip("no nvcc or no nvdisasm on this machine")
    compiler = build.nvcc()
    assert compiler is not None
    source, target = tmp_path / "rates.cu", tmp_path / "rates.cubin"
    source.write_text(device_rates.text())
    options = [f"-arch={arch}", *sources.OPTIONS, "-Werror", "all-warnings", "-Xptxas", "-v"]
    report = build.run([compiler, "-cubin", *options, str(source), "-o", str(target)])
    used = build.parse_resources(report)
    found = sass.loops(target)
    assert set(used) == {f"rate_{name}" for name in device_rates.RATES}
    for name, (instructions, _) in device_rates.RATES.items():
        # As CuPy compiles it a full block must fit: 64 registers a thread.
        assert used[f"rate_{name}"].registers <= 64
        assert not used[f"rate_{name}"].stack
        loop = max(found[f"rate_{name}"], key=lambda loop: loop.count())
        assert loop.count(*instructions) == device_rates.UNROLLED, (name, arch, loop.instructions)
        most = device_rates.UNROLLED * (1 + BESIDE.get(name, 0)) + OVERHEAD
        assert loop.count() <= most, (name, arch, loop.count())


def test_slow_instructions_stand_apart() -> None:
    """What is assumed falls into the classes that the loops' budgets know."""
    lanes = sorted({assumed for _, assumed in device_rates.RATES.values() if assumed is not None})
    assert all(b == 2 * a for a, b in itertools.pairwise(lanes))


@pytest.mark.parametrize("kernel", device_rates.LOOPS)
def test_timed_loops_run_over_nearly_all_accumulators(kernel: str) -> None:
    segments = device_rates.segments(kernel)
    assert sum(segment.last - segment.first + 1 for segment in segments) > 0.999 * 2**32
    assert len({segment.kind for segment in segments}) == 1
