"""Which benchmarks a short run takes: regular expressions of names as `report.py` and asv match them.

``python benchmarks/choices.py [quick|smoke]`` prints one set as a single expression, for ``asv run --bench``.
"""

from __future__ import annotations

import re
import sys

#: `report.py --quick`: each room's own figures, what README's Speed quotes; under 3 minutes on two cores.
QUICK = (
    r"bench_requantize\.RequantizeRate\.track_elements_per_second_per_core.*\b(single|double|fp32)\b(?!-)",
    r"bench_requantize\.RequantizeRate\.track_ratio_to_reference.*\b(single|double|fp32)\b(?!-)",
    r"bench_requantize\.RequantizePlainLoop\..*\b(single|double|fp32)\b(?!-)",
    r"bench_requantize\.RequantizeMemory\..*\ball\b",
    r"bench_requantize\.RequantizeChannelsRate\..*single.*last axis",
    r"bench_sweep\.SweepRate\..*(accumulator|uniform draws|a pair), single double\W+one\W*$",
    r"bench_sweep\.SweepRate\..*scales, single double fp32\W+one\W*$",
    r"bench_sweep\.SweepReference\..*(accumulator|a pair), single double\W*$",
    r"bench_errors\.ErrorReport\..*moments.*all threads",
    r"bench_errors\.Quantize\.track_rate",
    r"bench_exact\.Count\.track_time.*(lattice, single double|staircase, single double, int8)\W*$",
    r"bench_exact\.(CountFew|Identify)\.",
    r"bench_exact\.Census\..*-4",
    r"bench_audit\.(Audit|Replay)\.track_seconds.*(demo|MobileNetV2 int8\W*$|int8\W+xnnpack)",
    r"bench_audit\.ReplayWings",
    r"bench_peers\.Peers\..*(plain C\+\+|NumPy|onnxruntime)\W*$",
    r"bench_peers\.(Limits|Memory)\.",
    r"bench_peers\.Small\.track_call.*\b100\b",
    r"bench_cold\.Start\.",
    r"bench_cold\.Command\.(.*explain|track_first_call.*sweep, one multiplier)",
)

#: `report.py --smoke`, part of .ci/run: one row a room that also compares results. Its times mean nothing.
SMOKE = (
    r"bench_requantize\.RequantizeRate\.track_ratio_to_reference.*\bdouble\b(?!-)",
    r"bench_sweep\.SweepReference\..*one multiplier, uniform draws, single fp32",
    r"bench_errors\.Quantize\.track_against_numpy.*xnnpack",
    r"bench_exact\.Count\.track_ratio_to_brute_force.*lattice, single double\W*$",
    r"bench_audit\.ReplayWings",
    r"bench_audit\.Audit\.track_divergent.*demo",
    r"bench_peers\.Peers\.track_differing.*(plain C\+\+|NumPy)\W*$",
    r"bench_peers\.Small\.track_call.*requantize, single.*\b100\b",
    r"bench_cold\.Start\.track_help",
)
SETS = {"quick": QUICK, "smoke": SMOKE}


def pattern(name: str) -> str:
    """Return a set as one expression."""
    return "|".join(SETS[name])


def unmatched(name: str, names: list[str]) -> list[str]:
    """Return the expressions of a set that none of the names matches."""
    return [row for row in SETS[name] if not any(re.search(row, given) for given in names)]


if __name__ == "__main__":
    print(pattern(sys.argv[1] if len(sys.argv) > 1 else "quick"))
