"""Write README's table of peers: ``python benchmarks/table.py [--write] [--quick]``; without --write it is printed."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- written by: python benchmarks/table.py --write -->"
END = "<!-- end of what benchmarks/table.py writes -->"
COLUMNS = ("plain C++", "NumPy", "torch", "onnxruntime", "ml_dtypes", "gfloat", "apytypes", "fxpmath", "pure Python")
NOTHING = "–"


def figure(value: float) -> str:
    """Two significant digits, more where the number is long anyway."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}" if value < 9.95 else f"{value:.0f}"


def table(head: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def measured(cls: type, method: str, *parameters: Any) -> float | None:
    """Return a track's value, or None where it skips."""
    from benchmarks import report

    try:
        return float(report.measure(cls, method, parameters)["value"])
    except NotImplementedError:
        return None


def ratios() -> Iterator[list[str]]:
    from benchmarks import bench_peers, common, peers

    for job, row in peers.JOBS.items():
        with common.threads(1):
            (seconds,) = common.best_seconds(row.ours(row.size), sample=bench_peers.SAMPLE)
        share = measured(bench_peers.Memory, "track_share_of_copy_bandwidth", job) if job in _shared() else None
        if job.startswith("sweep"):
            share = measured(bench_peers.Limits, "track_sweep_of_one_multiplier")
        cells = [job, figure(row.size / seconds / 1e9), NOTHING if share is None else f"{share:.0f} %"]
        for peer in COLUMNS:
            name = f"{job} / {peer}"
            found = measured(bench_peers.Peers, "track_times_faster", name) if peer in row.peers else None
            differ = found is not None and measured(bench_peers.Peers, "track_differing", name)
            cells.append(NOTHING if found is None else figure(found) + ("*" if differ else ""))
        print(" | ".join(cells), file=sys.stderr, flush=True)
        yield cells


def _shared() -> tuple[str, ...]:
    from benchmarks import bench_peers

    return tuple(bench_peers.JOBS_OF_MEMORY)


def calls() -> Iterator[list[str]]:
    from benchmarks import bench_peers

    jobs, sizes = bench_peers.Small.params
    for job in jobs:
        cells = [job]
        for size in sizes:
            ours = measured(bench_peers.Small, "track_call", job, size)
            against = measured(bench_peers.Small, "track_against_torch", job, size)
            cells.append(f"{figure(ours or 0)} ({NOTHING if against is None else figure(against)})")
        print(" | ".join(cells), file=sys.stderr, flush=True)
        yield cells


def text() -> str:
    """Measure, and return what stands between the markers."""
    from benchmarks import common, peers, report

    before = os.getloadavg()[0]
    first = table(("job", "G/s", "of the limit", *COLUMNS), list(ratios()))
    second = table(("microseconds a call (times torch's rate)", "1", "100", "10,000"), list(calls()))
    versions = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
    about = (
        f"{datetime.date.today().isoformat()}, {report.cpu_model()}, {common.processors()} of {os.cpu_count()} cores, "
        f"{report.vector_width()},\nload {before:.1f} to {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, Numba {numba.__version__},\n{versions}."
    )
    meaning = (
        "Times faster than each peer, one thread, in cache, the same result (`*`: some outputs differ); elements, or\n"
        "pairs of a sweep, in G/s. The limit: of arrays of 2^24, bytes that a copy moves on all threads; of sweeps,\n"
        f"{peers.OF_A_PAIR} vector instructions a pair at the rate that the machine shows."
    )
    return "\n".join([meaning, "", *first, "", *second, "", about])


def replaced(readme: str, section: str) -> str:
    """Return README with what stands between the markers replaced."""
    head, rest = readme.split(BEGIN)
    tail = rest.split(END)[1]
    return f"{head}{BEGIN}\n{section}\n{END}{tail}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure peers and print README's table of them.")
    parser.add_argument("--write", action="store_true", help="write it into README")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    options = parser.parse_args()
    if options.quick:
        os.environ["QENGINE_BENCH_QUICK"] = "1"
    section = text()
    path = ROOT / "README.md"
    if options.write:
        path.write_text(replaced(path.read_text(encoding="utf-8"), section), encoding="utf-8")
    else:
        print(section)
    return 0


if __name__ == "__main__":
    # At the end of the path: an installed qengine comes before the one beside this folder.
    sys.path.append(str(ROOT))
    sys.exit(main())
