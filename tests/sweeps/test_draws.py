"""Draws: the documented layout written again in plain Python, and the distributions that come out."""

from __future__ import annotations

import functools
import math
import statistics
import struct
from decimal import Decimal, getcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from qengine.kernels import codes
from qengine.kernels.reference import draws as reference
from qengine.requant.multiplier import QuantizedMultiplier
from qengine.sweeps.plan import SweepPlan, make_plan, parse_accumulators
from qengine.sweeps.work import make_work
from tests import oracle
from tests.sweeps.plans import ALL, INT32, PLANS, TAME, USUAL, drawn, plan, table, work

GROUP, RUN, CELLS = 2048, 64, 256


# --- the layout, again ----------------------------------------------------------------------------------------


def reals_of(p: SweepPlan) -> list[float] | None:
    """float64 multiplier of each channel, None for a range."""
    m = p.multipliers
    if m.table is not None:
        return [float(i) * float(w) / float(o) for i, w, o in zip(*m.table.scales, strict=True)]
    if isinstance(m.fixed, QuantizedMultiplier):
        return [float(m.fixed.value * Fraction(2) ** (m.fixed.shift - 31))]
    return None if m.fixed is None else [float(m.fixed)]


def step_of(channels: int) -> int:
    """A step near C / phi that visits every channel."""
    step = max(1, round(channels * 0.6180339887498949))
    while math.gcd(step, channels) != 1:
        step += 1
    return step


@functools.cache
def deviate_at(kind: str, cell: int) -> float:
    """Size of the deviate whose tail probability is ``2**-63 * 2**octave * (1 + i / 256)``."""
    tail = min((1 + cell % CELLS / CELLS) * 2.0 ** (cell // CELLS - 63), 1.0)
    size = -math.log(tail) if kind == "laplace" else -statistics.NormalDist().inv_cdf(tail / 2)
    return abs(oracle.to_float32(size))


def deviate(kind: str, w: int) -> float:
    """Standard deviate of a 64-bit word."""
    tail = float(min(w & (2**63 - 1), 2**63 - 2) + 1)
    bits = struct.unpack("<q", struct.pack("<d", tail))[0]
    cell = (bits >> 44) - (1023 << 8)
    fraction = (bits & (2**44 - 1)) / 2**44
    here, after = deviate_at(kind, cell), deviate_at(kind, cell + 1)
    size = here + fraction * (after - here)
    return -size if w >> 63 else size


def power_of_two(v: float) -> float:
    """``2**v`` by the polynomial, each operation rounded."""
    k = round(v)
    f = v - k
    p = codes.EXP2_COEFFICIENTS[0]
    for c in codes.EXP2_COEFFICIENTS[1:]:
        p = p * f + c
    return math.ldexp(p, k)


def log2(value: float) -> float:
    """Base-2 logarithm, rounded once."""
    getcontext().prec = 40
    return float(Decimal(value).ln() / Decimal(2).ln())


def draw_again(p: SweepPlan, i: int) -> tuple[int, int, float | None]:
    """(acc, channel, multiplier of a range) of pair i."""
    acc, m, reals = p.accumulators, p.multipliers, reals_of(p)
    channels = len(reals) if reals is not None else 1
    channel = i // RUN % channels * step_of(channels) % channels
    if acc.kind == "all":
        return acc.low + i, channel, None
    span = acc.high - acc.low + 1
    short = channels == 1 and acc.kind == "uniform" and span & (span - 1) == 0
    pairs = (2 if short else 1) if reals is None else (4 if short else 2)
    blocks, size = GROUP // pairs, 4 // pairs
    group, place = divmod(i, GROUP)
    block = group * blocks + place % blocks
    words = oracle.philox4x32_10((block % 2**32, block >> 32, 0, 0), (p.seed % 2**32, p.seed >> 32))
    own = list(words[size * (place // blocks) :][:size])
    real = None
    if reals is None:
        assert m.low is not None
        assert m.high is not None
        low, high = (log2(m.low), log2(m.high)) if m.distribution == "log-uniform" else (m.low, m.high)
        real = low + ((own.pop(0) + 0.5) / 2**32) * (high - low)
        if m.distribution == "log-uniform":
            real = power_of_two(real)
    if short:
        return acc.low + own[0] * span // 2**32, channel, real
    w = own[0] << 32 | own[1]
    scale = real if reals is None else reals[channel]
    assert scale is not None
    if acc.kind in ("normal", "laplace"):
        spread = acc.spread
        if acc.output_units:
            spread /= scale if reals is None else max(scale, 2.0**-60)
        x = acc.center + spread * deviate(acc.kind, w)
        return round(min(max(x, acc.low), acc.high)), channel, real
    if acc.kind == "uniform":
        return acc.low + w * span // 2**64, channel, real
    z = p.zero_point
    if z is None:
        assert m.table is not None
        z = int(m.table.zero_point[channel])
    bottom = math.ceil(max((p.qmin - z) / scale, INT32[0]))
    top = math.floor(min((p.qmax - z) / scale, INT32[1]))
    return bottom + w * (top - bottom + 1) // 2**64, channel, real


WINDOWS = (0, 60, 500, 1010, 2030, 4090, 2048 * 7 - 3, 10**6 + 3, 2**32 - 20, 2**44 + 1001, 2**61 + 2040)


@pytest.mark.parametrize("name", PLANS)
def test_layout(name: str) -> None:
    p, w = plan(name), work(name)
    starts = [s for s in WINDOWS if s < p.pairs - 40] if p.accumulators.kind == "all" else WINDOWS
    for start in starts:
        x, channel, real = reference.draw(w, start, start + 36)
        expected = [draw_again(p, i) for i in range(start, start + 36)]
        assert x.tolist() == [e[0] for e in expected], start
        assert channel.tolist() == [e[1] for e in expected]
        assert real.tolist() == [e[2] for e in expected if e[2] is not None]


@pytest.mark.parametrize(
    "name", ["right, one word", "right, odd span", "table, wild, int8", "range", "range, int8, unsaturated"]
)
def test_any_window_draws_the_same(name: str, rng: np.random.Generator) -> None:
    w = work(name)
    x, channel, real = reference.draw(w, 0, 9000)
    for _ in range(20):
        start, stop = sorted(int(i) for i in rng.integers(0, 9001, 2))
        part = reference.draw(w, start, stop)
        np.testing.assert_array_equal(part[0], x[start:stop])
        np.testing.assert_array_equal(part[1], channel[start:stop])
        np.testing.assert_array_equal(part[2], real[start:stop])


def test_layout_constants() -> None:
    assert (codes.GROUP, codes.RUN, codes.QUANTILE_BITS, codes.QUANTILE_OCTAVES) == (GROUP, RUN, 8, 64)


def test_exp2_coefficients() -> None:
    getcontext().prec = 60
    assert len(codes.EXP2_COEFFICIENTS) == 13
    for k, coefficient in enumerate(reversed(codes.EXP2_COEFFICIENTS)):
        exact = Decimal(2).ln() ** k / math.factorial(k)
        assert abs(Decimal(coefficient) - exact) <= Decimal(math.ulp(coefficient))


def test_exp2_is_close_and_monotonic() -> None:
    v = np.concatenate([np.linspace(-60, 40, 20_001), np.arange(-60, 41) + 0.5])
    got = reference.exp2(np.sort(v))
    np.testing.assert_allclose(got, np.exp2(np.sort(v)), rtol=4e-16)
    assert (np.diff(got) >= 0).all()
    assert reference.exp2(np.arange(-60.0, 41.0)).tolist() == [2.0**k for k in range(-60, 41)]


def test_seeds_draw_different_numbers() -> None:
    accs = [
        tuple(
            reference.draw(make_work(make_plan(("single", "double"), seed=seed, **PLANS["right, one word"])), 0, 8)[0]
        )
        for seed in (0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1)
    ]
    assert len(set(accs)) == len(accs)


# --- distributions --------------------------------------------------------------------------------------------

MANY = 200_000


def drawn_of(acc: str, pairs: int = MANY, **options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(acc, channel, multiplier) of many pairs."""
    p = make_plan(("single", "double"), pairs=pairs, seed=5, accumulators=acc, **options)
    return reference.draw(make_work(p), 0, pairs)


def chi_square(counts: np.ndarray) -> float:
    """Standardised chi-square of equal shares: about normal(0, 1)."""
    mean = counts.sum() / counts.size
    degrees = counts.size - 1
    return float((((counts - mean) ** 2 / mean).sum() - degrees) / math.sqrt(2 * degrees))


@pytest.mark.parametrize("multipliers", [USUAL, table([0.1]), table(TAME)], ids=["range", "one", "table"])
@pytest.mark.parametrize(("low", "high"), [(0, 0), (-1, 0), (-50, 49), (0, 63), (-(2**31), 2**31 - 1), (-(2**31), -7)])
def test_uniform(multipliers: Any, low: int, high: int) -> None:
    x, _, _ = drawn_of(f"uniform:{low}:{high}", multipliers=multipliers)
    assert x.min() >= low
    assert x.max() <= high
    span = high - low + 1
    if span <= 100:
        counts = np.bincount(x - low, minlength=span)
        assert counts.min() > 0
    else:
        counts = np.bincount((x - low) * 64 // span, minlength=64)
    if span > 1:
        assert abs(chi_square(counts)) < 4.5
        deviation = (x.mean() - (low + high) / 2) / math.sqrt((span**2 - 1) / 12 / MANY)
        assert abs(deviation) < 4


@pytest.mark.parametrize("multipliers", [USUAL, table(TAME)], ids=["range", "table"])
@pytest.mark.parametrize("center", [0, -12_345])
def test_normal(multipliers: Any, center: int) -> None:
    x, _, _ = drawn_of(f"normal:50000:{center}", multipliers=multipliers)
    v = (x - center) / 50_000
    assert abs(v.mean()) < 4 / math.sqrt(MANY)
    assert abs(v.var() - 1) < 4 * math.sqrt(2 / MANY)
    assert abs((v**3).mean()) < 4 * math.sqrt(15 / MANY)
    assert abs((v**4).mean() - 3) < 4 * math.sqrt(96 / MANY)
    normal = statistics.NormalDist()
    for edge in (-3.5, -3, -2, -1, -0.5, 0.1, 0.7, 1.5, 2.5, 3.3):
        share = normal.cdf(edge)
        assert abs((v < edge).mean() - share) < 4.5 * math.sqrt(share * (1 - share) / MANY)


@pytest.mark.parametrize("multipliers", [USUAL, table(TAME)], ids=["range", "table"])
def test_laplace(multipliers: Any) -> None:
    x, _, _ = drawn_of("laplace:20000", multipliers=multipliers)
    v = x / 20_000
    assert abs(v.mean()) < 4 * math.sqrt(2 / MANY)
    assert abs(v.var() - 2) < 4 * math.sqrt(20 / MANY)
    for edge in (0.01, 0.1, 0.5, 1, 2, 4, 7):
        for side in (v > edge, v < -edge):
            share = math.exp(-edge) / 2
            assert abs(side.mean() - share) < 4.5 * math.sqrt(share / MANY)


def test_deviates_reach_far_tails_and_the_median() -> None:
    """Extreme words: the table is finite everywhere and symmetric."""
    for kind, limit in (("normal", 9.2), ("laplace", 43.7)):
        words = [0, 1, 2, 2**31, 2**32 - 1, 2**62, 2**63 - 513, 2**63 - 2, 2**63 - 1]
        w = make_work(make_plan(("single", "double"), accumulators=f"{kind}:1", multipliers=USUAL))
        both = np.array([*words, *(x | 2**63 for x in words)], np.uint64)
        got = reference.quantile(both >> np.uint64(32), both & np.uint64(0xFFFFFFFF), w.table)
        assert got.tolist() == [deviate(kind, int(x)) for x in both]
        assert (got[: len(words)] == -got[len(words) :]).all()
        assert limit - 0.3 < got.max() < limit
        assert abs(got[len(words) - 1]) < 1e-9
        assert (np.diff(np.abs(got[: len(words)])) <= 0).all()


def test_clipped_at_int32() -> None:
    x, _, _ = drawn_of("normal:3e9", multipliers=USUAL)
    assert (x.min(), x.max()) == INT32
    share = statistics.NormalDist().cdf(-(2**31) / 3e9)
    assert abs((x == INT32[0]).mean() - share) < 4.5 * math.sqrt(share / MANY)


@pytest.mark.parametrize(
    "multipliers", [USUAL, drawn(1e-6, 300.0, "log-uniform"), table(TAME)], ids=["range", "log", "table"]
)
@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -128), ("int8", 3), ("uint8", 0), ("int16", 1000)])
def test_unsaturated_stays_inside(multipliers: Any, dtype: str, zero_point: int) -> None:
    p = make_plan(
        ("single", "double"),
        pairs=20_000,
        seed=6,
        accumulators="unsaturated",
        multipliers=multipliers,
        dtype=dtype,
        zero_point=zero_point,
    )
    x, channel, real = reference.draw(make_work(p), 0, 20_000)
    reals = reals_of(p)
    m = real if reals is None else np.array(reals)[channel]
    outputs = []
    for acc, scale in zip(x[:3000].tolist(), m.tolist(), strict=False):
        exact = acc * Fraction(scale) + zero_point
        assert p.qmin <= exact <= p.qmax
        outputs.append(float(exact))
    if float(m.max()) < 1:
        # Uniform over the whole clamp: its two ends are within reach.
        width = p.qmax - p.qmin
        assert min(outputs) < p.qmin + 0.02 * width
        assert max(outputs) > p.qmax - 0.02 * width
        assert abs(np.mean(outputs) - (p.qmin + p.qmax) / 2) < 4 * width / math.sqrt(12 * 3000)


def test_output_units_spread_in_codes() -> None:
    for multipliers in (drawn(1e-3, 0.5, "log-uniform"), table(TAME)):
        p = make_plan(("single", "double"), pairs=MANY, accumulators="output-normal:40", multipliers=multipliers)
        x, channel, real = reference.draw(make_work(p), 0, MANY)
        reals = reals_of(p)
        v = x * (real if reals is None else np.array(reals)[channel]) / 40
        assert abs(v.mean()) < 5 / math.sqrt(MANY)
        assert abs(v.var() - 1) < 5 * math.sqrt(2 / MANY)


@pytest.mark.parametrize("channels", [2, 3, 7, 64, 301, 1000])
def test_channels_get_equal_shares(channels: int) -> None:
    multipliers = table([0.1 + 0.001 * k for k in range(channels)])
    p = make_plan(("single", "double"), multipliers=multipliers)
    w = make_work(p)
    assert math.gcd(w.stride, channels) == 1
    for pairs in (1, 64, 65, 1000, 64 * channels, 64 * channels + 1, 3 * 64 * channels - 40):
        _, channel, _ = reference.draw(w, 0, pairs)
        counts = np.bincount(channel, minlength=channels)
        assert counts.max() - counts.min() <= RUN, pairs
        assert (np.diff(channel)[np.arange(pairs - 1) % RUN != RUN - 1] == 0).all(), "a run is whole"
    _, channel, _ = reference.draw(w, 0, 64 * channels)
    assert (np.bincount(channel) == RUN).all()


@pytest.mark.parametrize(("low", "high"), [(2.0**-12, 1.0), (0.01, 0.99), (1e-9, 1e9)])
def test_log_uniform(low: float, high: float) -> None:
    _, _, real = drawn_of("uniform:-99:99", multipliers=drawn(low, high, "log-uniform"))
    assert real.min() >= low * (1 - 1e-15)
    assert real.max() < high
    place = (np.log2(real) - math.log2(low)) / (math.log2(high) - math.log2(low))
    assert abs(chi_square(np.bincount((place * 64).astype(int).clip(0, 63), minlength=64))) < 4.5


def test_uniform_multipliers() -> None:
    x, _, real = drawn_of("uniform:-500:500", multipliers=USUAL)
    assert real.min() >= 0.01
    assert real.max() < 0.99
    assert abs(chi_square(np.bincount(((real - 0.01) / 0.98 * 64).astype(int), minlength=64))) < 4.5
    assert abs(np.corrcoef(x, real)[0, 1]) < 4.5 / math.sqrt(MANY)
    steps = (real - 0.01) / 0.98 * 2.0**32 - 0.5
    assert np.abs(steps - np.rint(steps)).max() < 1e-4, "steps of 2**-32 of the range"


def test_all_is_in_order() -> None:
    p = make_plan(("single", "double"), multipliers=PLANS["all, low end"]["multipliers"])
    assert p.accumulators.kind == "all"
    assert p.pairs == 2**32
    w = make_work(p)
    assert reference.draw(w, 0, 3)[0].tolist() == [INT32[0], INT32[0] + 1, INT32[0] + 2]
    assert reference.draw(w, 2**32 - 2, 2**32)[0].tolist() == [INT32[1] - 1, INT32[1]]


def test_every_kind_is_covered() -> None:
    kinds = {(plan(name).accumulators.kind, reals_of(plan(name)) is None) for name in PLANS}
    assert {kind for kind, _ in kinds} == {"uniform", "normal", "laplace", "unsaturated", "all"}
    assert {kind for kind, ranged in kinds if ranged} == {"uniform", "normal", "laplace", "unsaturated"}
    assert ALL
    assert parse_accumulators("output-laplace:3").output_units
