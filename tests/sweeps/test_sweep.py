"""The public sweep: digests, laws, exact counts, witnesses, interruption, errors."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine import QuantizedMultiplier, backends
from qengine.kernels.codes import DIFFERENCE_LIMIT
from qengine.requant.scales import read_scales
from qengine.sweeps.plan import Accumulators, Multipliers, make_plan
from qengine.sweeps.result import SweepResult, wilson_interval
from qengine.sweeps.sweep import sweep
from tests import oracle
from tests.requant import cases
from tests.sweeps.plans import ALL, ISSUE, SAMPLE

#: A mantissa without structure: near 2/3 * 2**31, say, double rounding breaks its law.
FIXED = QuantizedMultiplier(1_395_864_371, -6)
#: One of every form: kernels are compiled for the forms that are there.
SCHEMES = ("single", "double", "fp32", "rndnu16", "fp64-away")

#: A few choices of every kind; all must give one digest whatever runs them.
CHOICES: dict[str, dict[str, Any]] = {
    "fixed": {"multiplier": FIXED, "acc": "uniform", "pairs": 9_000},
    "all": {"multiplier": FIXED, "acc": "all:-4000:3999"},
    "range": {"multiplier_range": (0.01, 0.99), "pairs": 9_000},
    "log, int8": {"multiplier_range": (1e-4, 2.0), "distribution": "log-uniform", "dtype": "int8", "pairs": 9_000},
    "triple": {"scales": ISSUE, "acc": "laplace:3000", "pairs": 9_000, "zero_point": -126},
    "table": {"scales": SAMPLE, "pairs": 9_000},
}


def small(*schemes: str, **options: Any) -> SweepResult:
    """A sweep of one multiplier over a few accumulators."""
    return sweep(*(schemes or ("single", "double")), **{"multiplier": FIXED, "acc": "all:-3000:2999", **options})


# --- the same result whatever runs it -------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHOICES)
def test_digest_does_not_depend_on_how_it_runs(name: str) -> None:
    choice = {"seed": 42, **CHOICES[name]}
    reference = sweep(*SCHEMES, backend="reference", **choice)
    results = [
        sweep(*SCHEMES, backend=backend, threads=threads, tile_pairs=tile, **choice)
        for backend, threads, tile in (
            ("cpu", 1, None),
            ("cpu", 2, None),
            ("cpu", 2, 777),
            ("cpu", 1, 4099),
            ("cpu", 2, 2048),
            ("reference", 2, 777),
        )
    ]
    assert {result.digest for result in results} == {reference.digest}
    for result in results:
        ours, theirs = result.to_dict(), reference.to_dict()
        assert ours.pop("timing") != {}
        theirs.pop("timing")
        assert ours == theirs
        assert result.complete
        assert result.pairs == reference.pairs == result.plan.pairs


def test_tiles_of_one_pair() -> None:
    for name in ("fixed", "range", "table"):
        choice = {**CHOICES[name], "pairs": 150}
        assert (
            len(
                {
                    small_tiles.digest
                    for small_tiles in (
                        sweep("single", "double", tile_pairs=1, threads=2, **choice),
                        sweep("single", "double", **choice),
                    )
                }
            )
            == 1
        )


def test_digest_changes_with_every_choice() -> None:
    base: dict[str, Any] = {"multiplier_range": (0.01, 0.99), "pairs": 3000, "seed": 1, "dtype": "int8"}
    variants: list[dict[str, Any]] = [
        {},
        {"seed": 2},
        {"seed": 1 + 2**32},
        {"pairs": 3001},
        {"multiplier_range": (0.01, 0.98)},
        {"distribution": "log-uniform"},
        {"dtype": "int16"},
        {"dtype": "uint8"},
        {"zero_point": 1},
        {"qmin": -127},
        {"qmax": 126},
        {"witnesses": 7},
        {"acc": "uniform"},
        {"acc": "uniform:-5:5"},
        {"acc": "normal:50"},
        {"acc": "laplace:50"},
        {"acc": "normal:51"},
        {"acc": "normal:50:1"},
        {"acc": "output-normal:50"},
        {"multiplier_range": None, "multiplier": 0.25},
        {"multiplier_range": None, "multiplier": QuantizedMultiplier(1 << 30, -1)},
        {"multiplier_range": None, "scales": ISSUE},
        {"multiplier_range": None, "scales": SAMPLE},
        {"multiplier_range": None, "scales": (0.1, (0.1, 0.2), 0.1)},
        {"multiplier_range": None, "scales": (0.1, (0.2, 0.1), 0.1)},
    ]
    digests = [sweep("single", "double", backend="reference", **{**base, **variant}).digest for variant in variants]
    digests += [
        sweep(*schemes, backend="reference", **base).digest
        for schemes in (("double", "single"), ("single", "fp32"), ("single", "double", "fp32"))
    ]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in digests)


def test_names_and_aliases_give_one_digest() -> None:
    assert small("tflite-single", "gemmlowp").digest == small().digest
    assert small("tflite-single", "gemmlowp").schemes == ("single", "double")


#: Digests of the sample of real scales: a line that every back end and every later version must repeat.
PINNED = {
    ("single", "double", "fp32"): "27edad6092afc97e14e4f0e90c18591cbf438fe7c074b6ba84d5cb0bf81d862d",
    (
        "double",
        "double-up",
        "floor-port",
        "rndnu",
        "rndna",
        "fp32-away",
        "fp64-away",
    ): "44d30311f502c0e7e5def9fee039394abb09d940c5f242da5d1050d7bbfcda51",
}


@pytest.mark.parametrize("schemes", PINNED, ids=" ".join)
def test_pinned_digests_of_real_scales(schemes: tuple[str, ...], backend: str) -> None:
    result = sweep(*schemes, scales=SAMPLE, pairs=100_000, seed=42, backend=backend)
    assert result.outside == dict.fromkeys(schemes, 0)
    assert result.digest == PINNED[schemes]


def test_full_table(shared: Path) -> None:
    """The issue's table: one digest on both back ends and any tile size."""
    choice: dict[str, Any] = {"scales": shared / "data" / "mobilenet_v2_ptq_scales.csv", "seed": 42, "pairs": 200_000}
    schemes = ("single", "double", "fp32")
    digests = {
        sweep(*schemes, backend="reference", **choice).digest,
        sweep(*schemes, backend="cpu", threads=1, **choice).digest,
        sweep(*schemes, backend="cpu", threads=2, tile_pairs=12_345, **choice).digest,
    }
    assert len(digests) == 1


# --- numbers ---------------------------------------------------------------------------------------------------


def test_law_of_double_rounding() -> None:
    """Right shift n: double leaves single on 2**-(n+1) of all accumulators, by one."""
    result = sweep(
        "single",
        "double",
        multiplier_range=(2.0**-9, 0.5),
        distribution="log-uniform",
        pairs=4_000_000,
        seed=7,
        acc="uniform:-1073741824:1073741823",
    )
    split = result.couples["single", "double"].by_right_shift
    assert sorted(split) == list(range(1, 9))  # type: ignore[type-var]
    for n, (compared, divergent) in split.items():
        assert n is not None
        low, high = wilson_interval(divergent, compared)
        middle, half = (low + high) / 2, (high - low) / 2
        assert abs(2.0 ** -(n + 1) - middle) < 2 * half, n
        assert abs(compared - 500_000) < 5000
    assert result.max_abs_diff == 1


@pytest.mark.parametrize("n", range(1, 9))
def test_law_of_one_multiplier(n: int) -> None:
    result = sweep(
        "single", "double", multiplier=QuantizedMultiplier(FIXED.value, -n), pairs=300_000, seed=n, acc="uniform"
    )
    low, high = wilson_interval(result.divergent, result.pairs)
    half = (high - low) / 2
    assert low - half < 2.0 ** -(n + 1) < high + half
    assert (
        sweep("single", "double", multiplier=QuantizedMultiplier(FIXED.value, 0), pairs=50_000, acc="uniform").divergent
        == 0
    )


@pytest.mark.parametrize(
    ("multiplier", "low", "high", "options"),
    [
        (FIXED, -3000, 2999, {}),
        (QuantizedMultiplier(1_431_655_765, -1), 0, 1500, {}),
        (QuantizedMultiplier(1_610_612_737, 2), -700, 700, {}),
        (0.0111, -2000, 2000, {"dtype": "int8", "zero_point": -126}),
        (0.3, -600, 600, {"dtype": "uint8", "zero_point": 128, "qmin": 10, "qmax": 250}),
    ],
)
def test_exact_counts(multiplier: Any, low: int, high: int, options: dict[str, Any], backend: str) -> None:
    """Every accumulator of a small range, against a loop over the oracle."""
    schemes = ("single", "double", "floor-port", "fp32", "truncate")
    result = sweep(*schemes, multiplier=multiplier, acc=f"all:{low}:{high}", backend=backend, **options)
    given = tuple(multiplier) if isinstance(multiplier, QuantizedMultiplier) else multiplier
    limits = None
    if "dtype" in options:
        info = np.iinfo(options["dtype"])
        limits = (options.get("qmin", int(info.min)), options.get("qmax", int(info.max)))
    z = options.get("zero_point", 0)
    outputs = {
        s: [cases.expected(s, x, given, zero_point=z, limits=limits) for x in range(low, high + 1)] for s in schemes
    }
    assert result.pairs == high - low + 1
    for a, b in itertools.permutations(schemes, 2):
        pair = result.pairs_of(a, b)
        differences = [u - v for u, v in zip(outputs[a], outputs[b], strict=True)]  # type: ignore[operator]
        divergent = [d for d in differences if d]
        assert pair.compared == len(differences)
        assert pair.divergent == len(divergent)
        assert pair.max_abs_diff == max((abs(d) for d in divergent), default=0)
        assert pair.histogram == {d: divergent.count(d) for d in set(divergent)}
        assert list(pair.histogram) == sorted(pair.histogram)
        assert pair.interval is None, "counted, not estimated"
        first = [i for i, d in enumerate(differences) if d][:8]
        assert [w.index for w in pair.witnesses] == first
        assert [w.acc for w in pair.witnesses] == [low + i for i in first]
        assert [w.outputs for w in pair.witnesses] == [(outputs[a][i], outputs[b][i]) for i in first]


def test_part_of_all() -> None:
    """Fewer pairs than the range holds: its first accumulators."""
    assert small(pairs=1000).to_dict()["couples"] == small(acc="all:-3000:-2001").to_dict()["couples"]


def test_head_is_the_first_two() -> None:
    result = small("floor-port", "single", "double")
    pair = result.pairs_of("floor-port", "single")
    assert (result.divergent, result.rate, result.max_abs_diff) == (pair.divergent, pair.rate, pair.max_abs_diff)
    assert result.histogram == pair.histogram
    assert result.witnesses == pair.witnesses
    assert result.rate == result.divergent / result.pairs


@pytest.mark.parametrize("name", CHOICES)
def test_ordered_pairs_mirror(name: str) -> None:
    result = sweep(*SCHEMES, **CHOICES[name])
    assert set(result.couples) == set(itertools.permutations(result.schemes, 2))
    for (a, b), pair in result.couples.items():
        mirror = result.couples[b, a]
        assert (pair.first, pair.second) == (a, b)
        assert (pair.compared, pair.divergent, pair.interval, pair.max_abs_diff, pair.by_right_shift) == (
            mirror.compared,
            mirror.divergent,
            mirror.interval,
            mirror.max_abs_diff,
            mirror.by_right_shift,
        )
        assert pair.histogram == {-d: n for d, n in mirror.histogram.items()}
        assert list(pair.histogram) == sorted(pair.histogram)
        assert sum(pair.histogram.values()) == pair.divergent
        assert 0 not in pair.histogram
        assert sum(c for c, _ in pair.by_right_shift.values()) == pair.compared
        assert sum(d for _, d in pair.by_right_shift.values()) == pair.divergent
        for ours, theirs in zip(pair.witnesses, mirror.witnesses, strict=True):
            assert (ours.index, ours.acc, ours.channel) == (theirs.index, theirs.acc, theirs.channel)
            assert ours.outputs == theirs.outputs[::-1]
            assert ours.multiplier == theirs.multiplier[::-1]


@pytest.mark.parametrize("name", CHOICES)
def test_witnesses_diverge(name: str) -> None:
    """Each witness, from what it says of itself alone, through the oracle."""
    choice = CHOICES[name]
    result = sweep(*SCHEMES, witnesses=20, **choice)
    table = None if "scales" not in choice else read_scales(SAMPLE) if choice["scales"] == SAMPLE else None
    seen = 0
    for (a, b), pair in result.couples.items():
        indices = [w.index for w in pair.witnesses]
        assert indices == sorted(set(indices))
        assert len(indices) == min(20, pair.divergent)
        for w in pair.witnesses:
            assert w.outputs[0] != w.outputs[1]
            assert 0 <= w.index < result.pairs
            limits = (result.plan.qmin, result.plan.qmax) if result.plan.dtype else None
            for scheme, real, output in zip((a, b), w.multiplier, w.outputs, strict=True):
                assert cases.expected(scheme, w.acc, real, zero_point=w.zero_point, limits=limits) == output
                if table is not None:
                    scales = (float(column[w.channel]) for column in table.scales)
                    assert real == oracle.recipe(qe.get_scheme(scheme).recipe, *scales)
                    assert w.zero_point == table.zero_point[w.channel]
            assert w.exact == float(Fraction(w.acc) * Fraction(w.multiplier[0]))
            assert a in w.why
            assert b in w.why
            json.dumps(w.to_dict(), allow_nan=False)
            seen += 1
    assert seen


def test_outside_is_counted_apart(backend: str) -> None:
    """rndnu ends at 256: a range across it is compared where both are defined."""
    result = sweep(
        "single", "rndnu", "q31", multiplier_range=(0.5, 512.0), pairs=8000, acc="uniform:-99:99", backend=backend
    )
    assert result.outside["single"] == 0
    assert abs(result.outside["rndnu"] - 4000) < 300
    assert abs(result.outside["q31"] - 8000) < 100
    for (a, b), pair in result.couples.items():
        assert pair.compared == result.pairs - max(result.outside[a], result.outside[b])


def test_nothing_compared() -> None:
    with pytest.raises(qe.DomainError, match=r"multiplier must be in .* for scheme 'q31'; got 2.5"):
        sweep("single", "q31", multiplier=2.5, acc="uniform:-9:9", pairs=100)
    result = sweep("single", "q31", multiplier_range=(2.0, 3.0), acc="uniform:-9:9", pairs=100)
    pair = result.pairs_of("single", "q31")
    assert result.outside == {"single": 0, "q31": 100}
    assert (pair.compared, pair.divergent, pair.witnesses, pair.histogram) == (0, 0, (), {})
    assert math.isnan(pair.rate)
    assert pair.interval == (0.0, 1.0)
    parsed = json.loads(result.to_json(), parse_constant=pytest.fail)
    assert parsed["couples"][0]["rate"] is None
    assert "q31" in str(result)


def test_difference_beyond_the_histogram() -> None:
    result = sweep("hifi-out16", "single", multiplier=FIXED, acc="uniform", pairs=3000)
    ends = {DIFFERENCE_LIMIT + 1, -DIFFERENCE_LIMIT - 1}
    assert ends <= set(result.histogram)
    assert result.max_abs_diff > 10**6
    assert sum(result.histogram.values()) == result.divergent


@pytest.mark.parametrize(
    ("divergent", "compared", "low", "high"),
    [
        (0, 10, 0.0, 0.27753),
        (1, 10, 0.01788, 0.40415),
        (5, 10, 0.23659, 0.76341),
        (10, 10, 0.72247, 1.0),
        (15, 148, 0.06240, 0.16053),
        (263, 2000, 0.11743, 0.14701),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval(divergent: int, compared: int, low: float, high: float) -> None:
    got = wilson_interval(divergent, compared)
    assert got == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))
    if compared:
        # Its ends solve (p - share)**2 = z**2 p (1 - p) / n.
        z, share = 1.959963984540054, divergent / compared
        for p in got:
            assert (p - share) ** 2 == pytest.approx(z * z * p * (1 - p) / compared, abs=1e-12)


def test_interval_holds_the_rate() -> None:
    pair = sweep("single", "double", multiplier_range=(0.1, 0.9), pairs=5000).pairs_of("single", "double")
    assert pair.interval is not None
    assert pair.interval == wilson_interval(pair.divergent, pair.compared)
    assert pair.interval[0] < pair.rate < pair.interval[1]


# --- JSON, text, progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHOICES)
def test_json(name: str) -> None:
    result = sweep(*SCHEMES, **CHOICES[name])
    data = json.loads(result.to_json(), parse_constant=pytest.fail)
    assert next(iter(data)) == "digest"
    assert data["digest"] == result.digest
    assert data["complete"] is True
    assert data["pairs"] == result.pairs
    assert data["plan"]["schemes"] == list(SCHEMES)
    assert [c["schemes"] for c in data["couples"]] == [list(c) for c in itertools.combinations(SCHEMES, 2)]
    assert data == result.to_dict() == json.loads(result.to_json(indent=None))
    head = data["couples"][0]
    assert head["divergent"] == result.divergent
    assert {int(d): n for d, n in head["histogram"].items()} == result.histogram
    assert data["outside_domain"] == result.outside
    assert data["timing"]["backend"] == "cpu"


def test_text_shows_the_digest_and_the_counts() -> None:
    result = small("single", "double", "fp32")
    text = str(result)
    assert result.digest in text
    assert f"{result.divergent:,}" in text
    assert all(name in text for name in result.schemes)
    assert "\x1b" not in text


def test_progress_totals() -> None:
    for threads in (1, 2):
        calls: list[tuple[int, int]] = []

        def progress(done: int, total: int, calls: list[tuple[int, int]] = calls) -> None:
            calls.append((done, total))

        sweep("single", "double", pairs=10_000, tile_pairs=999, threads=threads, progress=progress)
        assert len(calls) == 11
        assert [total for _, total in calls] == [10_000] * 11
        done = [at for at, _ in calls]
        assert done == sorted(set(done))
        assert done[-1] == 10_000


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("after", [1, 3])
def test_interruption(threads: int, after: int) -> None:
    """Ctrl-C in the progress callback: what was done is there, whole tiles, and says that it is not all."""
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt

    result = sweep(
        "single",
        "double",
        "fp32",
        multiplier=FIXED,
        acc="uniform",
        pairs=100_000,
        tile_pairs=1000,
        seed=3,
        threads=threads,
        progress=progress,
    )
    assert not result.complete
    assert after * 1000 <= result.pairs <= (after + 2 * threads) * 1000
    assert result.pairs % 1000 == 0
    assert json.loads(result.to_json())["complete"] is False
    assert "double" in str(result)
    for pair in result.couples.values():
        assert pair.compared == result.pairs
        assert sum(pair.histogram.values()) == pair.divergent
    # Tiles are handed out in order and those in flight are waited for: the result is that of a prefix.
    prefix = backends.load("cpu").sweep_tile(result.work, 0, result.pairs)
    np.testing.assert_array_equal(result.tally.counts, prefix["counts"])
    np.testing.assert_array_equal(result.tally.witnesses, prefix["witnesses"])
    whole = sweep("single", "double", "fp32", multiplier=FIXED, acc="uniform", pairs=100_000, seed=3)
    assert result.digest != whole.digest


def test_error_of_a_tile_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = backends.load("reference")
    true_tile = engine.sweep_tile

    def tile(work: Any, start: int, stop: int) -> Any:
        if start >= 5000:
            raise MemoryError("tile")
        return true_tile(work, start, stop)

    monkeypatch.setattr(engine, "sweep_tile", tile)
    with pytest.raises(MemoryError, match="tile"):
        sweep("single", "double", pairs=10_000, tile_pairs=1000, threads=2, backend="reference")


# --- the function under its public name -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    ["qengine.sweeps.plan", "qengine.sweeps", "qengine.sweeps.result", "qengine.selftest", "qengine.sweeps.sweep"],
)
def test_public_name_is_the_function(first: str) -> None:
    """`qe.sweep` is the function even where the package of that name was imported before."""
    code = f"import {first}, qengine; assert callable(qengine.sweep), qengine.sweep"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-300:]


# --- errors -----------------------------------------------------------------------------------------------------


def error_of(error: type[Exception], *schemes: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        sweep(*schemes, **options)
    assert isinstance(caught.value, qe.QEngineError)
    return str(caught.value)


@pytest.mark.parametrize(
    ("schemes", "text"),
    [
        ((), "a sweep compares two or more schemes; got 0."),
        (("single",), "a sweep compares two or more schemes; got 1."),
        (("double", "gemmlowp"), "the schemes must differ; got double, double (aliases count as the same)."),
        (
            ("single", "double", "single"),
            "the schemes must differ; got single, double, single (aliases count as the same).",
        ),
    ],
)
def test_schemes_that_cannot_be_compared(schemes: tuple[str, ...], text: str) -> None:
    assert error_of(qe.DomainError, *schemes) == text


def test_unknown_scheme_is_suggested() -> None:
    assert error_of(qe.UnknownNameError, "single", "duoble").startswith(
        "unknown scheme 'duoble'; did you mean 'double'"
    )


PAIR = ("single", "double")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pairs": 0}, "pairs must be in [1, 4611686018427387904]; got 0."),
        ({"pairs": -3}, "pairs must be in [1, 4611686018427387904]; got -3."),
        ({"seed": -1}, "seed must be in [0, 18446744073709551615]; got -1."),
        ({"seed": 2**64}, "seed must be in [0, 18446744073709551615]; got 18446744073709551616."),
        ({"witnesses": -1}, "witnesses must be in [0, 10000]; got -1."),
        ({"multiplier": math.nan}, "multiplier must be finite and not negative; got nan."),
        ({"multiplier": math.inf}, "multiplier must be finite and not negative; got inf."),
        ({"multiplier": -0.5}, "multiplier must be finite and not negative; got -0.5."),
        ({"multiplier": 0.5, "scales": ISSUE}, "pass one of multiplier, multiplier_range and scales."),
        (
            {"multiplier_range": (0.5, 0.5)},
            "a multiplier range must satisfy 2^-60 <= low < high <= 2^40; got (0.5, 0.5).",
        ),
        (
            {"multiplier_range": (0.9, 0.1)},
            "a multiplier range must satisfy 2^-60 <= low < high <= 2^40; got (0.9, 0.1).",
        ),
        (
            {"multiplier_range": (math.nan, 1)},
            "a multiplier range must satisfy 2^-60 <= low < high <= 2^40; got (nan, 1.0).",
        ),
        (
            {"multiplier_range": (0.0, 1)},
            "a multiplier range must satisfy 2^-60 <= low < high <= 2^40; got (0.0, 1.0).",
        ),
        (
            {"multiplier_range": (1, math.inf)},
            "a multiplier range must satisfy 2^-60 <= low < high <= 2^40; got (1.0, inf).",
        ),
        (
            {"multiplier": QuantizedMultiplier([1, 2], [0, 0])},
            "a sweep takes one fixed multiplier; for many, pass a table of scales.",
        ),
        ({"zero_point": 200, "dtype": "int8"}, "zero_point must be in [-128, 127]; got 200."),
        ({"zero_point": -1, "dtype": "uint8"}, "zero_point must be in [0, 255]; got -1."),
        ({"qmin": 5, "qmax": 4}, "qmin must not exceed qmax; got qmin 5, qmax 4."),
        ({"qmin": -129}, "qmin must be in [-128, 127]; got -129."),
        ({"qmax": 300, "dtype": "uint8"}, "qmax must be in [0, 255]; got 300."),
        ({"acc": "unsaturated"}, "unsaturated accumulators need a clamp: pass dtype='int8', 'uint8' or 'int16'."),
        ({"acc": "all"}, "accumulators 'all' need one fixed multiplier; draw them for a range or a table."),
        (
            {"acc": "all", "scales": SAMPLE},
            "accumulators 'all' need one fixed multiplier; draw them for a range or a table.",
        ),
        ({"acc": "all:0:9", "multiplier": 0.5, "pairs": 11}, "pairs must be in [1, 10]; got 11."),
        ({"acc": "uniform:9:3"}, "the accumulator range is empty: 9 > 3."),
        (
            {"acc": "uniform:0:2147483648"},
            "the highest accumulator must be in [-2147483648, 2147483647]; got 2147483648.",
        ),
        (
            {"acc": "normal:0"},
            "normal accumulators need a finite spread > 0 and a finite center; got spread 0.0, center 0.0.",
        ),
        (
            {"acc": "laplace:nan"},
            "laplace accumulators need a finite spread > 0 and a finite center; got spread nan, center 0.0.",
        ),
        ({"scales": (0.1, math.nan, 0.1)}, "weight_scale must be finite, > 0 and representable in float32; got nan."),
        ({"scales": (0.1, 0.1, -1.0)}, "output_scale must be finite, > 0 and representable in float32; got -1.0."),
        (
            {"scales": ([0.1, 0.0], 0.1, 1.0)},
            "input_scale must be finite, > 0 and representable in float32; got 0.0 at index 1.",
        ),
        ({"scales": ([0.1, 0.2], [0.1, 0.2, 0.3], 1.0)}, "the three scale columns must have one length; got 2, 3, 1."),
        ({"scales": ([], [], [])}, "scales must hold at least one channel; got none."),
        ({"tile_pairs": 0}, "tile_pairs must be in [1, 1099511627776]; got 0."),
        ({"threads": 0}, "threads must be in [1, 4096]; got 0."),
        (
            {"multiplier": 0.0, "dtype": "int8", "acc": "unsaturated"},
            "unsaturated accumulators of a zero multiplier are unbounded; pass a range.",
        ),
        ({"dtype": "int8", "qmin": 5}, "unsaturated accumulators need qmin <= zero_point <= qmax; got 0 in [5, 127]."),
    ],
)
def test_values_out_of_range(options: dict[str, Any], text: str) -> None:
    assert error_of(qe.DomainError, *PAIR, **options) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "int32"}, "dtype must be int8, uint8 or int16, or None for a raw result; got 'int32'."),
        ({"dtype": "float32"}, "dtype must be int8, uint8 or int16, or None for a raw result; got 'float32'."),
        ({"dtype": "nonsense"}, "dtype must be int8, uint8 or int16, or None for a raw result; got 'nonsense'."),
        ({"pairs": 1e6}, "pairs must be an integer; got 1000000.0."),
        ({"pairs": True}, "pairs must be an integer; got True."),
        ({"seed": "7"}, "seed must be an integer; got '7'."),
        ({"multiplier": "0.5"}, "multiplier must be a real number; got '0.5'."),
        ({"zero_point": 0.5, "dtype": "int8"}, "zero_point must be an integer; got 0.5."),
        ({"scales": 3}, "scales must be a path to a CSV, or (input_scale, weight_scale, output_scale); got 3."),
        (
            {"scales": (0.1, 0.2)},
            "scales must be a path to a CSV, or (input_scale, weight_scale, output_scale); got (0.1, 0.2).",
        ),
    ],
)
def test_values_of_wrong_type(options: dict[str, Any], text: str) -> None:
    assert error_of(qe.DTypeError, *PAIR, **options) == text


def test_multiplier_range_that_is_no_pair() -> None:
    for bad in ((0.5,), (0.1, 0.2, 0.3), ("a", "b"), 0.5):
        with pytest.raises(qe.QEngineError):
            sweep(*PAIR, multiplier_range=bad)  # type: ignore[arg-type]


def test_accumulators_that_are_no_distribution() -> None:
    with pytest.raises(qe.QEngineError):
        sweep(*PAIR, acc=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("acc", "text"),
    [
        ("unifrom", "unknown accumulator distribution 'unifrom'; did you mean 'uniform'?"),
        ("output-uniform", "unknown accumulator distribution 'output-uniform'; did you mean"),
        ("", "unknown accumulator distribution ''; known: "),
    ],
)
def test_unknown_distribution(acc: str, text: str) -> None:
    assert error_of(qe.UnknownNameError, *PAIR, acc=acc).startswith(text)
    with pytest.raises(qe.UnknownNameError, match=r"unknown distribution 'triangular'; .*uniform"):
        sweep(*PAIR, distribution="triangular")
    with pytest.raises(qe.UnknownNameError, match="unknown accumulator distribution 'no'"):
        sweep(*PAIR, acc=Accumulators("no"))


@pytest.mark.parametrize(
    "acc",
    [
        "uniform:1",
        "uniform:a:b",
        "normal",
        "normal:x",
        "normal:1:2:3",
        "output-normal:1:2",
        "unsaturated:1",
        "all:1",
        "uniform:0.5:1",
    ],
)
def test_unreadable_distribution(acc: str) -> None:
    text = error_of(qe.DomainError, *PAIR, acc=acc)
    assert text.startswith(
        f"cannot read the accumulator distribution {acc!r}; use uniform[:LOW:HIGH], normal:SD[:CENTER]"
    )


def test_back_ends() -> None:
    assert error_of(qe.UnknownNameError, *PAIR, backend="gpu").startswith("unknown back end 'gpu'; ")
    if backends.unavailable("cuda"):
        assert "cuda" in error_of(qe.BackendError, *PAIR, backend="cuda")


def test_zero_points_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("input_scale,weight_scale,output_scale,output_zero_point\n0.1,0.1,0.1,3\n0.1,0.1,0.1,200\n")
    assert (
        error_of(qe.DomainError, *PAIR, scales=path)
        == "the table's zero point 200 (row 2) lies outside int8 [-128, 127]."
    )
    assert sweep(*PAIR, scales=path, dtype="uint8", pairs=200).complete
    assert sweep(*PAIR, scales=path, zero_point=1, pairs=200).complete


# --- CSV --------------------------------------------------------------------------------------------------------

HEADER = "input_scale,weight_scale,output_scale,output_zero_point\n"
GOOD = "0.5,0.25,0.125,-7\n"


@pytest.fixture
def csv_error(tmp_path: Path) -> Callable[[str | bytes], str]:
    """The text of the error that a CSV's content raises, without the path."""

    def read(content: str | bytes) -> str:
        path = tmp_path / "bad.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(qe.InputFileError) as caught:
            sweep(*PAIR, scales=path, pairs=1)
        assert str(caught.value).startswith(f"{path}: ")
        return str(caught.value).removeprefix(f"{path}: ")

    return read


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            "",
            "line 1: the header lacks input_scale, weight_scale, output_scale; it has nothing. Required columns: "
            "input_scale, weight_scale, output_scale; optional: output_zero_point.",
        ),
        (
            "input_scale,w,output_scale\n1,2,3\n",
            "line 1: the header lacks weight_scale; it has input_scale, w, output_scale. Required columns: "
            "input_scale, weight_scale, output_scale; optional: output_zero_point.",
        ),
        (HEADER, "no rows below the header."),
        (HEADER + "\n\n", "no rows below the header."),
        (HEADER + GOOD + "0.5,abc,0.125,-7\n", "line 3: weight_scale must be a number; got 'abc'."),
        (HEADER + GOOD + "\n" + "0.5,,0.125,-7\n", "line 4: weight_scale must be a number; got ''."),
        (HEADER + "nan,1,1,0\n", "line 2: input_scale must be finite, > 0 and representable in float32; got 'nan'."),
        (HEADER + "1,inf,1,0\n", "line 2: weight_scale must be finite, > 0 and representable in float32; got 'inf'."),
        (HEADER + "1,1,0,0\n", "line 2: output_scale must be finite, > 0 and representable in float32; got '0'."),
        (
            HEADER + GOOD * 3 + "1,-0.5,1,0\n",
            "line 5: weight_scale must be finite, > 0 and representable in float32; got '-0.5'.",
        ),
        (
            HEADER + "1,1e-46,1,0\n",
            "line 2: weight_scale must be finite, > 0 and representable in float32; got '1e-46'.",
        ),
        (HEADER + "1,1e39,1,0\n", "line 2: weight_scale must be finite, > 0 and representable in float32; got '1e39'."),
        (HEADER + GOOD + "0.5,0.25\n", "line 3: 2 cells where the header has 4."),
        (HEADER + GOOD + "0.5,0.25,0.5,1,9\n", "line 3: 5 cells where the header has 4."),
        (HEADER + GOOD + "0.5,0.25,0.5,1.5\n", "line 3: output_zero_point must be an integer; got '1.5'."),
        (HEADER + GOOD + "0.5,0.25,0.5,\n", "line 3: output_zero_point must be an integer; got ''."),
        (HEADER + GOOD + "0.5,0.25,0.5,70000\n", "line 3: output_zero_point must be in [-32768, 65535]; got 70000."),
        (HEADER + GOOD + '"0.\n5",0.25,0.5,0\n', "line 3: input_scale must be a number; got '0.\\n5'."),
    ],
)
def test_malformed_csv(content: str, text: str, csv_error: Callable[[str | bytes], str]) -> None:
    assert csv_error(content) == text


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", HEADER.encode("utf-16"), HEADER.encode() + b"\xff\xff,1,1,1\n"]
)
def test_binary_content(content: bytes, csv_error: Callable[[str | bytes], str]) -> None:
    assert csv_error(content).startswith("cannot be read as text: ")


def test_nul_bytes_and_huge_cells(csv_error: Callable[[str | bytes], str]) -> None:
    assert csv_error(b"\x00\x01\x02\x00\n\x00") != ""
    assert csv_error(HEADER + GOOD + "1" * 200_000 + ",1,1,1\n") != ""


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.csv"
    assert error_of(qe.InputFileError, *PAIR, scales=path) == f"{path}: no such file."
    assert error_of(qe.InputFileError, *PAIR, scales=str(path)) == f"{path}: no such file."
    assert error_of(qe.InputFileError, *PAIR, scales=tmp_path).startswith(f"{tmp_path}: cannot be read as text: ")


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + HEADER + GOOD,
        HEADER + "\n" + GOOD + "\n,,,\n",
        (HEADER + GOOD).replace("\n", "\r\n"),
        HEADER + GOOD.rstrip("\n"),
        "output_zero_point , output_scale,note,weight_scale, input_scale\n-7,0.125,any text,0.25,0.5\n",
        'layer,input_scale,weight_scale,output_scale,output_zero_point\n"a, b",0.5,0.25,0.125, -7 \n',
        HEADER + "5e-1,+0.25,.125,-7\n",
    ],
)
def test_accepted_csv(content: str, tmp_path: Path) -> None:
    """A mark of UTF-8, blank lines, any line ends, columns in any order, further columns."""
    path = tmp_path / "good.csv"
    path.write_bytes(content.encode())
    table = read_scales(path)
    assert [column.tolist() for column in (*table.scales, table.zero_point)] == [[0.5], [0.25], [0.125], [-7]]
    assert all(column.dtype == np.float32 for column in table.scales)
    assert table.name == "good.csv"


def test_scales_are_rounded_to_float32(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("input_scale,weight_scale,output_scale\n0.1,1e-45,3e38\n")
    table = read_scales(path)
    assert [float(column[0]) for column in table.scales] == [oracle.to_float32(v) for v in (0.1, 1e-45, 3e38)]
    assert table.zero_point.tolist() == [0]


def test_sample_is_what_it_says() -> None:
    table = read_scales(SAMPLE)
    assert table.zero_point.size == 301
    assert len(SAMPLE.read_text().splitlines()) == 302


def test_plan_defaults() -> None:
    assert make_plan(PAIR).multipliers == Multipliers(low=0.01, high=0.99)
    assert make_plan(PAIR).pairs == 1_000_000
    assert make_plan(PAIR).accumulators == Accumulators("uniform", -(1 << 20), (1 << 20) - 1)
    assert make_plan(PAIR, dtype="int8").accumulators.kind == "unsaturated"
    assert make_plan(PAIR, multipliers=Multipliers(fixed=0.5)).pairs == 2**32
    table = make_plan(PAIR, multipliers=Multipliers(table=read_scales(SAMPLE)))
    assert (table.dtype, table.zero_point, table.accumulators.kind) == ("int8", None, "unsaturated")
    assert make_plan(ALL).digest != make_plan(PAIR).digest
