"""Benchmarks of qengine, for asv and for the report of README's figures.

From a fresh clone::

    pip install -e ".[bench]"
    python benchmarks/report.py            # all figures with their goals; --quick: under 3 minutes; --json: to a file

and, to time the whole grid or one benchmark with asv (`asv machine --yes` once before)::

    asv run --config benchmarks/asv.conf.json -E existing [--quick] [--bench NAME]

(asv keeps the results of an existing environment only with ``--set-commit-hash $(git rev-parse HEAD)``.)

``time_*`` are asv's own timings. ``track_*`` are rates and ratios whose two sides are timed in turn in one
process, so that a busy machine disturbs both alike; `report.py` runs these. Warm-up is outside every timing but
those of `bench_cold`. ``QENGINE_BENCH_QUICK=1`` takes fewer samples.
"""
