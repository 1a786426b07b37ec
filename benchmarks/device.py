"""Everything that wants a GPU, in one run: tests, sanitizer, instruction rates, benchmarks.

``python benchmarks/device.py [--quick] [--only STEP ...] [--json FILE]`` writes
``benchmarks/results/<device>-<date>.json`` and exits with 1 if a step failed; later steps run all the same. Needs the
extras ``cuda12`` or ``cuda13``, and ``test``.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHORT_RUN = ROOT / "tests" / "kernels" / "cuda" / "short_run.py"
STEPS: dict[str, Callable[[bool], dict[str, Any]]] = {}
Step = Callable[[bool], dict[str, Any]]


def step(name: str) -> Callable[[Step], Step]:
    """Register a step: it takes `quick` and returns figures, among them ``passed``."""

    def register(run: Step) -> Step:
        STEPS[name] = run
        return run

    return register


def run(command: list[str], **environment: str) -> tuple[int, str]:
    """Run a command in the repository, show its output as it comes, and return its exit code and last line."""
    last = ""
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, last


@step("tests")
def tests(quick: bool) -> dict[str, Any]:
    """Run the equivalence suite on the device."""
    chosen = ["tests/kernels/cuda", "tests/test_selftest.py"] if quick else []
    code, last = run(
        [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "--import-mode=importlib", *chosen],
        QENGINE_REQUIRE_BACKENDS="cuda",
    )
    return {"passed": code == 0, "summary": last}


@step("sanitizer")
def sanitizer(quick: bool) -> dict[str, Any]:
    """Run every kernel once on short arrays under memcheck and racecheck."""
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        return {"passed": False, "summary": "compute-sanitizer is not on this machine: nothing was checked"}
    results = {}
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "86", sys.executable, str(SHORT_RUN)]
        results[check] = dict(zip(("exit_code", "summary"), run(command), strict=True))
    return {"passed": all(result["exit_code"] == 0 for result in results.values()), **results}


@step("rates")
def rates(quick: bool) -> dict[str, Any]:
    """Measure the instruction rates that ceilings of loops rest on."""
    from benchmarks import device_rates

    return {"passed": True, **device_rates.measure()}


@step("benchmarks")
def benchmarks(quick: bool) -> dict[str, Any]:
    """Measure arrays, error statistics and sweeps against the device's own limits."""
    from benchmarks import bench_cuda, report

    found = []
    for name, cls, method, parameters in report.tracks(r"^bench_cuda\.", ("bench_cuda",)):
        start = time.perf_counter()
        row = report.measure(cls, method, parameters)
        found.append({"name": f"{cls.__name__}.{method}", "parameters": parameters} | row)
        print(report.line(name, row, time.perf_counter() - start), flush=True)
    return {"passed": True, "copy_bytes_per_second": bench_cuda.copy_bandwidth(), "results": found}


def device() -> dict[str, Any]:
    """Describe the device, its driver and the packages."""
    from qengine.kernels.cuda import load

    arrays = load.array_module()
    runtime = arrays.cuda.runtime
    properties = runtime.getDeviceProperties(arrays.cuda.Device().id)
    packages = ("qengine-numerics", "numpy", "cupy-cuda12x", "cupy-cuda13x")
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "device": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "versions": versions,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short arrays, the tests of the kernels alone")
    parser.add_argument("--only", nargs="+", choices=sorted(STEPS), help="only these steps")
    parser.add_argument("--json", metavar="FILE", help="[default: benchmarks/results/<device>-<date>.json]")
    options = parser.parse_args()
    if options.quick:
        os.environ["QENGINE_BENCH_QUICK"] = "1"
    from qengine import backends

    reason = backends.unavailable("cuda")
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    report: dict[str, Any] = device() | {"date": datetime.date.today().isoformat(), "quick": options.quick}
    slug = re.sub(r"[^a-z0-9]+", "-", report["device"].lower()).strip("-")
    path = Path(options.json or HERE / "results" / f"{slug}-{report['date']}.json")
    for name in options.only or STEPS:
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        try:
            outcome = STEPS[name](options.quick)
        except Exception:  # a step that breaks is a result; those after it still run
            traceback.print_exc()
            outcome = {"passed": False, "error": traceback.format_exc(limit=3)}
        report[name] = outcome | {"seconds": round(time.perf_counter() - start, 1)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    passed = {name: report[name]["passed"] for name in options.only or STEPS}
    print(json.dumps(passed), f"written to {path}")
    return 0 if all(passed.values()) else 1


if __name__ == "__main__":
    # At the end of the path: an installed qengine comes before the one beside this folder.
    sys.path.append(str(ROOT))
    sys.exit(main())
