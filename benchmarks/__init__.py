"""Benchmarks of qengine, for asv and for the report of README's figures.

From a fresh clone::

    pip install -e ".[bench]"
    python benchmarks/report.py --quick    # a choice of figures with their goals, under 3 minutes on two cores
    python benchmarks/report.py            # all of them; --match REGEX: some; --json: to a file too
    python benchmarks/figures.py --write   # every table of figures in README, of what this machine has

and, with asv, in the same environment (`asv machine --yes` once before)::

    QENGINE_BENCH_QUICK=1 asv run --config benchmarks/asv.conf.json --python=same --quick \\
        --bench "$(python benchmarks/choices.py smoke)"
    asv run --config benchmarks/asv.conf.json --python=same [--bench NAME]

(asv keeps the results of an existing environment only with ``--set-commit-hash $(git rev-parse HEAD)``.)

`bench_requantize`, `bench_sweep`, `bench_errors`, `bench_exact` (counts, staircases, the census, identification),
`bench_peers` (other packages, the machine's limits, short calls, the grid of schemes, back ends, sizes and threads),
`bench_audit` (audits and replays; real models where ``../shared`` is), `bench_cold` (import, every command),
`bench_cluster` (one worker and two on this machine), `bench_long` (10^10 pairs with a checkpoint; minutes),
`bench_cuda` (skips without a device). `choices` says which rows ``--quick`` takes, and ``--smoke``: the few of
``.ci/run`` that compare results, whatever their times.

``time_*`` are asv's own timings. ``track_*`` are rates and ratios whose two sides are timed in turn in one
process, so that a busy machine disturbs both alike; `report.py` runs these. Warm-up is outside every timing but
those of `bench_cold`. ``QENGINE_BENCH_QUICK=1`` takes fewer samples.
"""
