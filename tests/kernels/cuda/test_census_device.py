"""Staircases and the census on a device: the numbers of the CPU and of the definition."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine import backends
from qengine.backends.forms import Bias, FloatRule, FloorRule
from qengine.exact import staircase
from qengine.exact.census_question import Question
from qengine.exact.census_result import Tally
from qengine.exact.sides import side
from qengine.exceptions import BackendError, DomainError
from qengine.kernels.cpu import staircase as cpu
from qengine.kernels.cuda import census as kernels
from qengine.kernels.cuda import staircase as cuda
from tests.cli.running import qengine
from tests.exact.test_staircase import SCHEMES, custom, hard_reals

from .device import HostDevice

FIRST, LAST = 1 << 30, (1 << 31) - 1
INT32 = (-(2**31), 2**31 - 1)
OUTPUTS: list[dict[str, Any]] = [
    {"dtype": "int8"},
    {"dtype": "uint8", "zero_point": 131},
    {"dtype": "int8", "zero_point": -100, "qmin": -90, "qmax": 3},
    {"dtype": "int16", "qmin": -300, "qmax": 299},
]


# --- staircases ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("output", OUTPUTS)
def test_thresholds_of_every_scheme(output: dict[str, Any], device: Any, rng: np.random.Generator) -> None:
    reals = hard_reals(rng, 52)
    sides = [side(scheme, reals, outside="empty", **output) for scheme in SCHEMES]
    first, n = staircase.covering_codes(sides)
    numbers = staircase._tile(sides, staircase.kernel_numbers(sides), first, n, slice(0, reals.size))
    found, expected = (np.empty((len(sides) * reals.size, n + 1), np.int64) for _ in range(2))
    cuda.thresholds(*numbers, first, n, found)
    cpu.thresholds(*numbers, first, n, expected)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bounds", [INT32, (-1000, 77), (5, 4)])
def test_all_pairs(bounds: tuple[int, int], device: Any, rng: np.random.Generator) -> None:
    reals = hard_reals(rng, 39)
    sides = [side(scheme, reals, dtype="int8", zero_point=-7, outside="empty") for scheme in SCHEMES]
    found, expected = (staircase.compare(sides, *bounds, backend=name) for name in ("cuda", "cpu"))
    for field in ("count", "first", "last", "least", "greatest"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)
    assert (expected.count.sum() > 0) == (bounds[0] < bounds[1])
    assert bounds != INT32 or expected.largest.max() > 1


@pytest.mark.parametrize("rows", [1, 3])
def test_weights(rows: int, device: Any, rng: np.random.Generator) -> None:
    sides = [
        side(scheme, [0.1, 1 / 3, 0.0078125], dtype="int8") for scheme in ("single", "double", "fp32", "floor-port")
    ]
    values = np.sort(rng.choice(np.arange(-3000, 3000), (rows, 500), replace=False), axis=1)
    weights = values, rng.integers(0, 1 << 40, values.shape)
    results = [staircase.counts(sides, -2500, 2900, weights=weights, backend=name) for name in ("cuda", "cpu")]
    np.testing.assert_array_equal(*results)
    assert (results[0] > 0).any()


def test_given_thresholds(device: Any) -> None:
    """A rule without a closed form comes with its thresholds, found by bisection."""
    rule = FloatRule(64, "half-even", zero_point_inside=True)
    sides = [side(scheme, [0.25, 0.3], dtype="int8") for scheme in (custom("fp64-away", rule), "single")]
    np.testing.assert_array_equal(*(staircase.counts(sides, backend=name) for name in ("cuda", "cpu")))


def test_reference_back_end(rng: np.random.Generator) -> None:
    """By bisection and NumPy, code by code: what both kernels are held against."""
    reals = hard_reals(rng, 13)
    sides = [
        side(s, reals, dtype="int8", zero_point=3, outside="empty") for s in ("single", "double", "fp32", "rndnu16")
    ]
    found, expected = (staircase.compare(sides, -(10**6), 10**8, backend=name) for name in ("reference", "cpu"))
    for field in ("count", "first", "last", "least", "greatest"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)
    weights = np.arange(-50, 50) * 997, np.arange(100)
    np.testing.assert_array_equal(
        *(staircase.counts(sides, weights=weights, backend=name) for name in ("reference", "cpu"))
    )


def test_comparison_of_schemes(device: Any) -> None:
    """From the table of scales to the counts; what a device has no engine for is an error, not another back end."""
    scales = np.linspace(0.02, 0.4, 9), np.full(9, 0.013), np.full(9, 0.11)
    schemes = "single", "double", "fp32", "fp64-away"
    found, expected = (
        qe.compare_schemes(*schemes, scales=scales, dtype="int8", backend=name) for name in ("cuda", "cpu")
    )
    assert found.matrix() == expected.matrix()
    np.testing.assert_array_equal(found.divergent, expected.divergent)
    assert set(found.engines) == {"staircase"}
    assert qe.count_divergence("single", "double", 0.25, dtype="int8", backend="cuda") == 255
    with pytest.raises(BackendError, match="back end 'cuda' cannot compare 'single' with 'double': the output is raw"):
        qe.count_divergence("single", "double", 0.25, backend="cuda")
    with pytest.raises(BackendError, match="engine 'lattice' runs on back end 'cpu' alone"):
        qe.count_divergence("single", "double", 0.25, dtype="int8", engine="lattice", backend="cuda")


# --- census ---------------------------------------------------------------------------------------------------------
def tallies(asked: dict[str, Any], shift: int, names: tuple[str, ...] = ("cuda", "cpu")) -> list[Tally]:
    return [Question(**asked, backend=name).tile(shift, 0, asked["last"] - asked["first"] + 1) for name in names]


def question(a: str, b: str, first: int, last: int, bounds: tuple[int, int] = INT32, **output: Any) -> dict[str, Any]:
    plain = {"dtype": "int8", "zero_point": 0, "qmin": None, "qmax": None}
    return {
        "schemes": (qe.get_scheme(a), qe.get_scheme(b)), "first": first, "last": last, "low": bounds[0],
        "high": bounds[1], "output": plain | output,
    }  # fmt: skip


RANGES = [INT32, (LAST - 5, 2**31 - 1), (-(2**31), -(2**31) + 9), (-900, 1234), (7, 10**6), (-(10**6), -3), (0, 0)]


@pytest.mark.parametrize("shift", [0, -1, -4, -9, -17, -24, -30, 3, 12])
def test_two_like_forms(shift: int, device: Any, rng: np.random.Generator) -> None:
    """Counted by residues, code by code; mantissas at both ends and sparse ones, all clips of the accumulators."""
    places = [FIRST, LAST - 8, 3 << 29, 1527099590, int(rng.integers(FIRST, LAST - 8))]
    pairs = [("single", "double"), ("double", "half-away"), ("truncate", "single"), ("floor-port", "double-up")]
    divergent = 0
    for (a, b), first in itertools.product(pairs, places):
        bounds = RANGES[int(rng.integers(len(RANGES)))] if first != FIRST else INT32
        output = OUTPUTS[int(rng.integers(len(OUTPUTS)))]
        asked = question(a, b, first, first + 8, bounds, **output)
        found, expected = tallies(asked, shift)
        assert found == expected, (a, b, first, bounds, output)
        divergent += found.divergent
    assert divergent > 0 or shift > 3
    if isinstance(device, HostDevice):
        assert ("census", "census_like") in device.launches


@pytest.mark.parametrize("other", [name for name in SCHEMES if name != "single"])
def test_single_and_every_scheme(other: str, device: Any, rng: np.random.Generator) -> None:
    """Mantissas whose 24 bits carry into the next power of two among them."""
    row = qe.get_scheme(other)
    for shift in (-1, -6, -13):
        if not row.scale_range[0] <= 2.0 ** (shift - 1) < row.scale_range[1] / 2:
            continue
        for first in (FIRST, LAST - 9, int(rng.integers(FIRST, LAST - 9))):
            output = OUTPUTS[int(rng.integers(len(OUTPUTS)))]
            asked = question("single", other, first, first + 9, RANGES[int(rng.integers(len(RANGES)))], **output)
            found, expected = tallies(asked, shift)
            assert found == expected, (shift, first, output)


@pytest.mark.parametrize(("a", "b"), [("fp32", "fp64-away"), ("rndnu16", "fp32-zp-inside"), ("double", "fp32")])
def test_unlike_forms(a: str, b: str, device: Any) -> None:
    for shift, bounds in ((-2, INT32), (-15, (-(10**8), 10**9)), (1, (-30, 2000))):
        asked = question(a, b, 1717986918 - 20, 1717986918 + 20, bounds, zero_point=-3)
        found, expected = tallies(asked, shift)
        assert found == expected
        assert found.multipliers == 41


@pytest.mark.parametrize("far", [False, True])
def test_any_biases(far: bool, device: Any, rng: np.random.Generator) -> None:
    """Two like forms at any distance: up to a step by residues, beyond it by the union."""
    launched = set()
    for _ in range(12):
        shift = -int(rng.integers(1, 20))
        step = 1 << (31 - shift)
        base = int(rng.integers(-step, step))
        sides = []
        for _ in range(2):
            gap = rng.integers(-3 * step if far else -step, step, 2, endpoint=True) // 2
            above = base + int(gap[0])
            bias = Bias(0, above, 0, min(base + int(gap[1]), above))  # not greater below zero: monotone
            sides.append(custom("single", FloorRule("q31", 31, bias, bias, bias)))
        first = int(rng.choice([FIRST, LAST - 6, rng.integers(FIRST, LAST - 6)]))
        bounds = RANGES[int(rng.integers(len(RANGES)))]
        asked = question("single", "double", first, first + 6, bounds, **OUTPUTS[int(rng.integers(len(OUTPUTS)))])
        asked["schemes"] = tuple(sides)
        before = len(device.launches) if isinstance(device, HostDevice) else 0
        found, expected = tallies(asked, shift)
        assert found == expected, (sides, first, bounds)
        if isinstance(device, HostDevice):
            launched |= {name for _, name in device.launches[before:]}
    if isinstance(device, HostDevice):
        assert "census_like" in launched
        assert ("census_floor" in launched) == far


def test_sixteen_bits(device: Any) -> None:
    for other in ("double", "fp32"):
        asked = question("single", other, 1717986918, 1717986919, dtype="int16", zero_point=-99)
        found, expected = tallies(asked, -3)
        assert found == expected
        assert found.divergent > 1000


def test_sums_that_might_leave_64_bits_are_not_taken_by_residues() -> None:
    rows = [[0, 0], [(1 << 61) + 1, 0], [(1 << 61) + 1, 0], [62, 62], [0, 0], [0, 0], [-128, -128], [127, 127]]
    rules = np.zeros((2, 16), np.int64)
    arguments: tuple[Any, ...] = (rules, *INT32, -128, 255, LAST)
    assert kernels._halves(rows, *arguments) is None
    rows[1], rows[2] = [1 << 30, 0], [0, 1 << 30]
    parts, signs = kernels._halves(rows, *arguments)
    assert parts[0] == (-1, 1 << 30, -1, 2**31 - 1, -127, 127)
    assert parts[1] == (1 << 30, 1 << 30, 0, 2**31, -127, 127)
    assert signs == (-1, 1)


def test_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for and not there: an error, whichever way it was asked for."""
    if backends.unavailable("cuda") is None:
        pytest.skip("there is a device")
    calls: list[Any] = [
        lambda **options: qe.count_divergence("single", "double", 0.25, dtype="int8", **options),
        lambda **options: qe.compare_schemes("single", "double", multiplier=0.25, dtype="int8", **options),
        lambda **options: qe.census("single", "double", shift=-4, multipliers=(FIRST, FIRST + 9), **options),
    ]
    for call in calls:
        with pytest.raises(BackendError, match="back end 'cuda' needs"):
            call(backend="cuda")
        with monkeypatch.context() as patch:
            patch.setenv("QENGINE_BACKEND", "cuda")
            with pytest.raises(BackendError, match="back end 'cuda' needs"):
                call()
        call()


def test_commands(stand_in: HostDevice) -> None:
    for command in (
        "count single double --multiplier 0.25 --dtype int8 --quiet --json --backend",
        "census single double --shift -4 --multipliers 2^30 1073742000 --method tiles --quiet --json --backend",
    ):
        results = [qengine(*command.split(), name) for name in ("cuda", "cpu")]
        assert [(result.code, result.err) for result in results] == [(0, "")] * 2
        found, expected = (re.findall(r'"(?:divergent|compared)": (\d+)', result.out) for result in results)
        assert found == expected
        assert int(found[-1]) > 0
    assert {room for room, _ in stand_in.launches} == {"staircase", "census"}


def test_tallies_by_definition() -> None:
    """The reference finds every threshold by bisection."""
    for a, b in (("single", "double"), ("fp32", "half-away")):
        asked = question(a, b, FIRST, FIRST + 3, (-(10**6), 10**7), qmin=-9, qmax=8)
        found, expected = tallies(asked, -9, ("reference", "cpu"))
        assert found == expected
        assert found.divergent > 0


def test_accumulators_that_depend_on_the_mantissa(device: Any) -> None:
    """Each mantissa has a range of its own: a left shift leaves int32 sooner for the greater ones."""
    asked = question("single", "fp32", FIRST, FIRST + 2000, dtype="int8")
    low, high = Question(**asked).domain(Question(**asked).ends(8))
    found, expected = tallies(asked, 8)
    assert found == expected
    assert (low[0] != low[1]) or (high[0] != high[1]) or found.compared % 2001 == 0


def test_tiles_add_up(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles, the most divergent multiplier found among equals; the whole agrees with the closed form."""
    monkeypatch.setattr(kernels, "TILE", 100)
    options: dict[str, Any] = {"shift": -4, "multipliers": (FIRST, FIRST + 1234)}
    found = qe.census("single", "double", backend="cuda", **options)
    expected = qe.census("single", "double", backend="cpu", method="tiles", **options)
    assert (found.tally, found.most) == (expected.tally, expected.most)
    closed = qe.census("single", "double", backend="cpu", method="closed", **options)
    assert (found.total, found.signed) == (closed.total, closed.signed)
    assert found.methods == {-4: "tiles"}


def test_what_a_device_does_not_count(device: Any) -> None:
    with pytest.raises(DomainError, match="back end 'cuda' counts multiplier by multiplier"):
        qe.census("single", "double", shift=-4, method="closed", backend="cuda")
    with pytest.raises(DomainError, match="back end 'cuda' counts by thresholds"):
        qe.census("single", "double", shift=-4, dtype=None, backend="cuda")
