"""Run ``track_*`` without asv and print one table: ``python benchmarks/report.py [--quick | --smoke] [--json [FILE]]``.

Exit code 1 if a benchmark raises or outputs differ that should be equal; times and missed goals of time decide nothing.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import inspect
import itertools
import json
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODULES = (
    "bench_requantize", "bench_sweep", "bench_errors", "bench_exact", "bench_audit", "bench_peers", "bench_cold",
    "bench_cluster", "bench_long",
)  # fmt: skip
#: Outputs that differ where none may: the one unit whose goal is a matter of right and wrong.
WRONG = "outputs"
#: Units of which less is better.
TIMES = ("s", "ms", "us", "ns", WRONG)


def cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return " ".join((found.group(1) if found else platform.processor() or platform.machine()).split())


def vector_width() -> str:
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return "unknown"
    return next((name for name in ("avx512f", "avx2", "asimd") if name in flags), "unknown")


def environment(quick: bool) -> dict[str, Any]:
    from benchmarks import common

    names = ("qengine-numerics", "numpy", "numba", "llvmlite")
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
        "vectors": vector_width(),
        "cores": os.cpu_count(),
        "threads": common.processors(),
        "system": platform.system(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "quick": quick,
        "versions": {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names},
    }


def tracks(pattern: str, modules: tuple[str, ...] = MODULES) -> Iterator[tuple[str, type, str, tuple[Any, ...]]]:
    """Yield (name, class, method, parameters) of every track whose name matches."""
    for module_name in modules:
        module = importlib.import_module(f"benchmarks.{module_name}")
        for class_name, cls in vars(module).items():
            if not inspect.isclass(cls) or cls.__module__ != module.__name__:
                continue
            for method in (m for m in vars(cls) if m.startswith("track_")):
                for parameters in itertools.product(*getattr(cls, "params", ())):
                    name = f"{module_name}.{class_name}.{method}({'; '.join(map(str, parameters))})"
                    if re.search(pattern, name):
                        yield name, cls, method, parameters


def measure(cls: type, method: str, parameters: tuple[Any, ...]) -> dict[str, Any]:
    instance = cls()
    if hasattr(instance, "setup"):
        instance.setup(*parameters)
    track = getattr(instance, method)
    try:
        value = track(*parameters)
    finally:
        if hasattr(instance, "teardown"):
            instance.teardown(*parameters)
    goal = track.goal(*parameters)
    met = None if goal is None else bool(value <= goal if track.unit.split()[0] in TIMES else value >= goal)
    return {"value": float(f"{value:.4g}"), "unit": track.unit, "goal": goal, "met": met}


def line(name: str, row: dict[str, Any], seconds: float) -> str:
    sign = "<=" if row["unit"].split()[0] in TIMES else ">="
    goal = "" if row["goal"] is None else f"{sign} {row['goal']:g}"
    verdict = {None: "", True: "met", False: "MISSED"}[row["met"]]
    subject = name.partition(".")[2].replace("track_", "").removesuffix("()")
    return f"{subject:<104} {row['value']:>9.4g} {row['unit']:<15} {goal:<8} {verdict:<7} {seconds:5.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every track_* benchmark and print one table.")
    few = parser.add_mutually_exclusive_group()
    few.add_argument("--quick", action="store_true", help="fewer rows (choices.QUICK), fewer samples: under 3 minutes")
    few.add_argument("--smoke", action="store_true", help="a few rows that compare results (choices.SMOKE)")
    parser.add_argument("--match", default="", metavar="REGEX", help="only benchmarks whose name matches")
    parser.add_argument(
        "--json", nargs="?", const="", metavar="FILE",
        help="also write JSON  [default file: benchmarks/results/<cpu>-<date>.json]",
    )  # fmt: skip
    options = parser.parse_args()
    short = "quick" if options.quick else "smoke" if options.smoke else ""
    if short:
        os.environ["QENGINE_BENCH_QUICK"] = "1"
    from benchmarks import choices

    chosen = re.compile(choices.pattern(short) if short else "")
    about = environment(bool(short))
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    cores = f"{about['threads']} of {about['cores']} cores"
    print(f"{about['cpu']}, {about['vectors']}, {cores}, {about['date']}, load {about['load']}")
    print(versions, flush=True)
    results, wrong, begun = [], [], time.perf_counter()
    for name, cls, method, parameters in tracks(options.match):
        if not chosen.search(name):
            continue
        start = time.perf_counter()
        try:
            row = measure(cls, method, parameters)
        except NotImplementedError as reason:
            print(f"{name}: skipped, {reason}", flush=True)
            continue
        except Exception:  # the others still run; the exit code tells
            traceback.print_exc()
            wrong.append(f"{name} raised")
            continue
        if row["unit"] == WRONG and row["met"] is False:
            wrong.append(f"{name}: {row['value']:g} outputs differ, where {row['goal']:g} may")
        results.append({"name": f"{cls.__name__}.{method}", "parameters": parameters} | row)
        print(line(name, row, time.perf_counter() - start), flush=True)
    about["load_after"] = environment(bool(short))["load"]
    missed = sum(row["met"] is False for row in results)
    print(f"{len(results)} figures, {missed} goals missed, {time.perf_counter() - begun:.0f} s")
    if options.json is not None:
        slug = re.sub(r"[^a-z0-9]+", "-", f"{about['cpu']} {about['cores']} cores".lower()).strip("-")
        path = Path(options.json or HERE / "results" / f"{slug}-{about['date']}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about | {"results": results}, indent=1) + "\n", encoding="utf-8")
    if not results:
        wrong.append("no benchmark matches, or all skip")
    for text in wrong:
        print(f"wrong: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    # At the end of the path: an installed qengine comes before the one beside this folder.
    sys.path.append(str(HERE.parent))
    sys.exit(main())
