"""Write README's figures, or print them: ``python benchmarks/figures.py [SECTION ...] [--write] [--quick]``.

A section of README stands between two comments that name it. What a machine lacks (a package, a model beside the
repository) leaves its section, or its cell, as it is said there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numba
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
NOTHING = "–"
#: Row of README's tables of models: title, file.
MODELS = {
    "MobileNetV2, int8, per channel": "tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "MobileNetV2, uint8, per tensor": "mobilenet_v2_1.0_224_quant.tflite",
    "MobileNetV1 0.25/128, uint8": "mobilenet_v1_0.25_128_quant.tflite",
    "person detection, int8": "person_detect.tflite",
}
PATHS = ("xnnpack", "opt", "ref")
EMULATIONS = ("single", "double", "floor-port")
#: Commands whose start is in README, of `bench_cold.COMMANDS`.
STARTED = ("explain", "sweep, one multiplier", "sweep, table of scales", "count, one multiplier", "analyze", "compare")
PEERS = ("plain C++", "NumPy", "torch", "onnxruntime", "ml_dtypes", "gfloat", "apytypes", "fxpmath", "pure Python")
Rows = Iterable[list[str]]


class Lacking(Exception):
    """This machine cannot measure a section."""


def figure(value: float | None, unit: str = "") -> str:
    """Two significant digits, more where the number is long anyway."""
    if value is None:
        return NOTHING
    text = f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}" if value < 9.95 else f"{value:.0f}"
    return f"{text} {unit}".rstrip()


def share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f} %"


def table(head: Iterable[str], rows: Rows) -> list[str]:
    """Lines of a table; each row is said on stderr when it is there."""
    head = list(head)
    lines = [head, ["---"] * len(head)]
    for row in rows:
        print(" | ".join(row), file=sys.stderr, flush=True)
        lines.append(row)
    return [f"| {' | '.join(cells)} |" for cells in lines]


def track(name: str, *parameters: Any) -> float | None:
    """Return the value of ``module.Class.method`` of the benchmarks, or None where it skips."""
    import importlib

    from benchmarks import report

    module, cls, method = name.split(".")
    try:
        found = getattr(importlib.import_module(f"benchmarks.bench_{module}"), cls)
        return float(report.measure(found, f"track_{method}", parameters)["value"])
    except NotImplementedError as reason:
        print(f"{name}: {reason}", file=sys.stderr, flush=True)
        return None


def about(*more: str) -> str:
    """Return the line that says when and where."""
    from benchmarks import common, report

    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = ", ".join(
        (f"Python {platform.python_version()}", f"NumPy {np.__version__}", f"Numba {numba.__version__}")
    )
    return (
        f"{datetime.date.today().isoformat()}, {report.cpu_model()}, {common.processors()} of {os.cpu_count()} cores, "
        f"{report.vector_width()}{load};\n" + ", ".join((versions, *more)) + "."
    )


# --- models --------------------------------------------------------------------------------------------------


def model(name: str) -> Path:
    path = ROOT.parent / "shared" / "models" / MODELS[name]
    if not path.exists():
        raise Lacking(f"{path.name} is not in shared/models beside the repository")
    return path


def command(*words: Any) -> Any:
    """Run ``qengine ... --json`` and return what it says; 1, that something differs, is no failure."""
    done = subprocess.run(
        [sys.executable, "-m", "qengine", *map(str, words), "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise Lacking(f"qengine {' '.join(map(str, words))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def replays() -> list[str]:
    """Elements that differ from the interpreter, forced and chained together."""

    def rows() -> Rows:
        for name in MODELS:
            cells, elements = [], set()
            for path in PATHS:
                inputs = ("--input=random:1", "--input=random:2")
                found = command("replay", model(name), "--path", path, "--against", "litert", *inputs)
                (found,) = found if isinstance(found, list) else (found,)
                cells.append(f"{found['forced'] + found['chained']:,}")
                elements.add(found["elements"])
            yield [name, " / ".join(f"{count:,}" for count in sorted(elements)), *cells]

    return table(("model", "elements compared", *PATHS), rows())


def emulations() -> list[str]:
    """Rounding every operator of a model by one scheme, against the interpreter."""

    def rows() -> Rows:
        instead = [f"--instead={name}" for name in EMULATIONS]
        inputs = [f"--input=random:{seed}" for seed in range(1, 6)]
        path_of = model("MobileNetV2, int8, per channel")
        found = {
            path: command("replay", path_of, "--path", path, "--against", "litert", *inputs, *instead) for path in PATHS
        }
        for k, name in enumerate(EMULATIONS):
            cells = [f"`{name}`"]
            for path in PATHS:
                row = found[path][k]
                part = row["chained"] / row["elements"]
                cells += [f"{row['accumulators']['different']:,}", f"{100 * part:.1f} %" if part else "0"]
            yield cells

    return table(("emulation", *(cell for path in PATHS for cell in (f"{path}: wrong accumulators", "share"))), rows())


def audits() -> list[str]:
    """States on which two sides differ."""
    couples = {
        "MobileNetV2, int8, per channel": (
            ("xnnpack", "opt"), ("xnnpack", "ref"), ("opt", "ref"), ("xnnpack", "single"), ("ref", "double"),
        ),
        "MobileNetV2, uint8, per tensor": (("xnnpack", "ref"),),
        "MobileNetV1 0.25/128, uint8": (("xnnpack", "ref"),),
        "person detection, int8": (("xnnpack", "ref"),),
    }  # fmt: skip

    def side(name: str) -> str:
        return f"litert:{name}" if name in PATHS else name

    def rows() -> Rows:
        for name, of_model in couples.items():
            for k, sides in enumerate(of_model):
                (found,) = command("audit", model(name), "--schemes", *map(side, sides))["totals"]
                title = [name, f"{found['states']:,}"] if k == 0 else ["", ""]
                words = " / ".join(word if word in PATHS else f"`{word}`" for word in sides)
                numbers = (found["equal"], found["different"], found["divergent"], found["largest"])
                yield [*title, words, *(f"{number:,}" for number in numbers)]

    head = ("model", "states", "sides", "operators proven equal", "may differ", "states that differ", "largest")
    return table(head, rows())


# --- speed ---------------------------------------------------------------------------------------------------


def requantizing() -> list[str]:
    schemes = ("single", "double", "fp32")
    rate = "requantize.RequantizeRate."
    lines: tuple[tuple[str, str, Callable[..., str], str], ...] = (
        ("requantize to int8 in cache, G elements/s a core", rate + "elements_per_second_per_core", figure, ""),
        ("... times the NumPy reference", rate + "ratio_to_reference", figure, ""),
        (
            "... times a plain Numba loop of the normal form",
            "requantize.RequantizePlainLoop.ratio_to_plain_numba_loop", figure, "",
        ),
        (
            "2^26 elements, all threads, share of a copy's bandwidth",
            "requantize.RequantizeMemory.share_of_copy_bandwidth", share, "all",
        ),
    )  # fmt: skip
    rows = (
        [title, *(form(track(name, scheme, *filter(None, (more,)))) for scheme in schemes)]
        for title, name, form, more in lines
    )
    return table(("what", *schemes), rows)


def sweeping() -> list[str]:
    from benchmarks import bench_sweep

    cases = [
        name for name in bench_sweep.CASES if name.endswith(("single double", "single fp32", "single double fp32"))
    ]

    def rows() -> Rows:
        for name in cases:
            rate = track("sweep.SweepRate.pairs_per_second_per_core", name, "one")
            yield [name, figure(rate), figure(track("sweep.SweepReference.ratio_to_reference", name))]

    return table(("sweep, pairs compared", "G pairs/s a core", "times the reference"), rows())


def quantizing() -> list[str]:
    conventions = ("calculator", "onnx", "xnnpack", "torch")
    tensor = ["float32 to int8, 2^22 samples, all threads"]
    tensor += [figure(track("errors.Quantize.rate", name)) for name in conventions]
    rows = [tensor]
    for layout in ("rows of channels", "channels side by side", "groups of 128"):
        rates = (track("errors.QuantizeChannels.rate", name, layout) for name in conventions)
        rows.append([f"... {layout}", *map(figure, rates)])
    rows.append(
        ["times the NumPy reference", *(figure(track("errors.Quantize.against_numpy", n)) for n in conventions)]
    )
    return table(("quantize, G elements/s", *(f"`{name}`" for name in conventions)), rows)


def measuring() -> list[str]:
    kinds = ("moments", "with histograms")
    rows = [
        ["one choice on 2^27 samples, share of the bandwidth that reading them alone reaches"]
        + [
            share(100 * (track("errors.ErrorReport.share_of_read_bandwidth", kind, "all threads") or 0))
            for kind in kinds
        ]
    ]
    for peer in ("torch", "onnxruntime"):
        rows.append(
            [f"times faster than {peer}", *(figure(track("errors.Peers.times_faster", peer, kind)) for kind in kinds)]
        )
    rows.append(
        ["24 choices in one pass, times the NumPy reference", "", figure(track("errors.ErrorReportMany.24_specs"))]
    )
    return table(("error of int8, float32 samples", "metrics alone", "codes and errors counted too"), rows)


def exact() -> list[str]:
    from benchmarks import bench_exact

    def rows() -> Rows:
        for name in bench_exact.COUNTS:
            ratio = track("exact.Count.ratio_to_brute_force", name)
            yield [name, figure(track("exact.Count.time", name)), figure(ratio)]
        yield [
            "six schemes, all 15 pairs, with witnesses, int8",
            figure(track("exact.CountFew.six_schemes_all_pairs")),
            "",
        ]

    return table(("every int32 accumulator of a multiplier", "us a multiplier", "times the brute-force sweep"), rows())


def answering() -> list[str]:
    """What the exact engine is asked for beside one count."""
    listing = track("exact.Listing.time", "single double")
    rows = [
        ["listing divergent accumulators, single / double, n = 6: a million", figure(listing, "ms")],
        [
            "... times the sweep, which passes over the others too",
            figure(track("exact.Listing.ratio_to_brute_force", "single double")),
        ],
        [
            "`qengine count`, six schemes, 18,057 channels, from start to table",
            figure(track("exact.CountCommand.seconds", "../shared"), "s"),
        ],
        ["`qe.identify`, 8,000 rows with scales", figure(track("exact.Identify.8000_rows"), "s")],
    ]
    for n in (1, 9, 20):
        rows.append(
            [f"`qe.census` of 2^30 mantissas, int8, n = {n}", figure(track("exact.Census.closed_sums", -n), "s")]
        )
    for couple in (("single", "double"), ("single", "fp32")):
        rows.append(
            [
                f"... multiplier by multiplier, {' / '.join(couple)}",
                figure(track("exact.CensusTiles.time", couple), "us each"),
            ]
        )
    return table(("exact answers", ""), rows)


def modelling() -> list[str]:
    """Whole models: replay and audit."""
    from benchmarks import bench_audit

    rows = []
    for name in bench_audit.LARGE:
        seconds = [track("audit.Replay.seconds", name, path) for path in PATHS]
        seconds.append(track("audit.Interpreter.seconds", name))
        cells = (figure(value and 1e3 * value) for value in seconds)
        rows.append([name, *cells, figure(track("audit.Audit.seconds", name))])
    head = (
        *(f"file to tensors, {path}, ms" for path in PATHS),
        "the interpreter alone, reference path, ms",
        "audit of three paths, s",
    )
    return table(("model", *head), rows)


def starting() -> list[str]:
    from benchmarks import bench_cold

    rows = [
        ["`import qengine`", "", figure(track("cold.Start.import"))],
        ["`qengine --help`", "", figure(track("cold.Start.help"))],
    ]
    for name in filter(STARTED.__contains__, bench_cold.COMMANDS):
        first, second = (track(f"cold.Command.{which}_call", name) for which in ("first", "second"))
        rows.append(
            [
                f"`qengine {name.partition(',')[0]}`{name.removeprefix(name.partition(',')[0])}",
                figure(first),
                figure(second),
            ]
        )
    return table(("seconds from start to end", "first call, kernels compiled", "later calls"), rows)


def lasting() -> list[str]:
    rows = [
        ["10^10 drawn pairs with a checkpoint, two threads", figure(track("long.LongSweep.seconds"), "s")],
        ["... largest resident set", figure(track("long.LongSweep.largest_resident_set"), "MiB")],
        ["... a resume of all of it, the same digest", figure(track("long.LongSweep.seconds_of_a_resume"), "s")],
        ["two dask workers against twice one", figure(track("cluster.ClusterScaling.scaling_from_one_worker_to_two"))],
        ["one dask worker against one thread", figure(track("cluster.ClusterScaling.one_worker_against_one_thread"))],
    ]
    return table(("long runs", ""), rows)


# --- peers ---------------------------------------------------------------------------------------------------


def ratios() -> list[str]:
    from benchmarks import bench_peers, common, peers

    def rows() -> Rows:
        for job, row in peers.JOBS.items():
            with common.threads(1):
                (seconds,) = common.best_seconds(row.ours(row.size), sample=bench_peers.SAMPLE)
            limit = None
            if job in bench_peers.JOBS_OF_MEMORY:
                limit = track("peers.Memory.share_of_copy_bandwidth", job)
            elif job.startswith("sweep"):
                limit = track("peers.Limits.sweep_of_one_multiplier")
            cells = [job, figure(row.size / seconds / 1e9), share(limit)]
            for peer in PEERS:
                name = f"{job} / {peer}"
                found = track("peers.Peers.times_faster", name) if peer in row.peers else None
                differ = found is not None and track("peers.Peers.differing", name)
                cells.append(figure(found) + "*" * bool(differ))
            yield cells

    return table(("job", "G/s", "of the limit", *PEERS), rows())


def calls() -> list[str]:
    from benchmarks import bench_peers

    jobs, sizes = bench_peers.Small.params

    def rows() -> Rows:
        for job in jobs:
            cells = [job]
            for size in sizes:
                ours, against = (track(f"peers.Small.{name}", job, size) for name in ("call", "against_torch"))
                cells.append(f"{figure(ours)} ({figure(against)})")
            yield cells

    return table(("microseconds a call (times torch's rate)", *(f"{size:,}" for size in sizes)), rows())


def beside() -> list[str]:
    from benchmarks import peers

    versions = [f"{name} {version}" for name, version in peers.versions().items()]
    meaning = (
        "Times faster than each peer, one thread, in cache, the same result (`*`: some outputs differ); elements, or\n"
        "pairs of a sweep, in G/s. The limit: of arrays of 2^24, bytes that a copy moves on all threads; of sweeps,\n"
        f"{peers.OF_A_PAIR} vector instructions a pair at the rate that the machine shows."
    )
    return [meaning, "", *ratios(), "", *calls(), "", about(*versions)]


def speed() -> list[str]:
    """Every table of qengine's own speed."""
    tables = [requantizing(), sweeping(), quantizing(), measuring(), modelling(), starting(), lasting()]
    return [line for lines in tables for line in (*lines, "")] + [about()]


SECTIONS: dict[str, Callable[[], list[str]]] = {
    "replay": replays,
    "emulations": emulations,
    "audit": audits,
    "exact": lambda: [*exact(), "", *answering(), "", about()],
    "speed": speed,
    "peers": beside,
}


def marks(name: str) -> tuple[str, str]:
    return f"<!-- figures: {name} (python benchmarks/figures.py {name} --write) -->", f"<!-- end of figures: {name} -->"


def replaced(readme: str, name: str, section: str) -> str:
    """Return README with what stands between a section's marks replaced."""
    begin, end = marks(name)
    head, rest = readme.split(begin)
    return f"{head}{begin}\n{section}\n{end}{rest.split(end)[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure README's figures, and print them or write them there.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}  [default: all]")
    parser.add_argument("--write", action="store_true", help="write them into README")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}: there are {', '.join(SECTIONS)}")
    if options.quick:
        os.environ["QENGINE_BENCH_QUICK"] = "1"
    path, left = ROOT / "README.md", 0
    for name in options.sections or SECTIONS:
        try:
            section = "\n".join(SECTIONS[name]())
        except Lacking as reason:
            print(f"{name}: left as it is: {reason}", file=sys.stderr)
            left += 1
            continue
        if options.write:
            path.write_text(replaced(path.read_text(encoding="utf-8"), name, section), encoding="utf-8")
        else:
            print(section, end="\n\n")
    return 1 if left else 0


if __name__ == "__main__":
    # At the end of the path: an installed qengine comes before the one beside this folder.
    sys.path.append(str(ROOT))
    sys.exit(main())
