"""Calibration: every method against a plain oracle, channels and groups, degenerate data."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qengine.affine.calibrate import METHODS, RangeFinder, choose_qparams
from qengine.affine.histogram import Histogram
from qengine.affine.params import QuantParams
from qengine.exceptions import DomainError, DTypeError, UnknownNameError

SAMPLES = [-1.25, -0.92, -0.51, -0.10, 0.0, 0.14, 0.37, 0.79, 1.12, 1.46]
ALL = ["minmax", "percentile", "mse", "sqnr", "entropy"]


@pytest.fixture
def weights(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    x = rng.standard_t(3, (6, 5, 24)).astype(np.float32)
    return x * np.float32(2.0) ** rng.integers(-3, 4, (6, 1, 1)).astype(np.float32)


# --- oracles: plain Python over numbers -----------------------------------------------------------------------


def squared_error(xs: list[float], p: QuantParams, gamma: int = 1) -> Fraction:
    """Exact sum of squared errors of the quantizer with half-even rounding of the exact quotient."""
    scale, total = Fraction(p.scale), Fraction(0)
    for x in map(Fraction, xs):
        q = round(x / scale) + p.zero_point
        clipped = min(max(q, p.qmin), p.qmax)
        total += (x - (clipped - p.zero_point) * scale) ** 2 * (1 if q == clipped else gamma)
    return total


def brute_search(xs: list[float], n: int, gamma: int = 1, **kwargs: Any) -> QuantParams:
    """Walk the stated candidates, wide to narrow, with exact costs and strict gains."""
    low, high = min(xs), max(xs)
    best: tuple[Fraction, QuantParams, tuple[float, float]] | None = None

    def sweep(ranges: list[tuple[float, float]]) -> bool:
        nonlocal best
        gained = False
        for lo, hi in ranges:
            p = choose_qparams((lo, hi), **kwargs)
            cost = squared_error(xs, p, gamma)
            if best is None or cost < best[0] * (1 - Fraction(1, 10**12)):
                best, gained = (cost, p, (lo, hi)), True
        return gained

    fractions = [k / n for k in range(n, 0, -1)]
    if kwargs["mode"] == "symmetric":
        top = max(-low, high)
        sweep([(-top * f, top * f) for f in fractions])
    else:
        c = 0.0 if low <= 0 <= high else low + (high / 2 - low / 2)
        lows, highs = ([end if f == 1 else c + (end - c) * f for f in fractions] for end in (low, high))
        sweep(list(zip(lows, highs, strict=True)))
        for _ in range(8):
            a = sweep([(best[2][0], hi) for hi in highs])  # type: ignore[index]
            b = sweep([(lo, best[2][1]) for lo in lows])  # type: ignore[index]
            if not (a or b):
                break
    assert best is not None
    return best[1]


def brute_entropy(xs: list[float], bits: int) -> float:
    """Return the threshold, from lists of 2048 bins, written as the method is stated."""
    amax = max(abs(x) for x in xs)
    counts = [0] * 2048
    for x in xs:
        counts[min(math.floor(abs(x) / amax * 2048), 2047)] += 1
    n, levels, best = len(xs), 2 ** (bits - 1), (math.inf, 0)
    filled = [j for j in range(2048) if counts[j]]  # bins without a sample have no term in any sum
    for i in range(2048, levels - 1, -1):
        kept = [j for j in filled if j < i]
        total = sum(counts[j] for j in kept)
        if not total:
            continue
        reference = {j: counts[j] / n for j in kept}
        reference[i - 1] = reference.get(i - 1, 0.0) + (n - total) / n
        cost = 0.0
        spread = dict.fromkeys(reference, 0.0)
        for _, bins in itertools.groupby(kept, key=lambda j: j * levels // i):
            full = list(bins)
            spread |= dict.fromkeys(full, sum(counts[j] for j in full) / len(full) / total)
        for j, p in reference.items():
            if p > 0:
                cost += p * math.log(p / ((1 - 1e-4) * spread[j] + 1e-4 / i))
        if cost < best[0] - 1e-12:
            best = (cost, i)
    return amax * best[1] / 2048


# --- methods --------------------------------------------------------------------------------------------------


def test_the_worked_samples(backend: str) -> None:
    assert choose_qparams(SAMPLES, backend=backend) == QuantParams(1.46 / 127, 0, -128, 127)
    p = choose_qparams(SAMPLES, mode="asymmetric", signed=False, backend=backend)
    assert p == QuantParams((1.46 + 1.25) / 255, 118, 0, 255)  # 1.25 / scale = 117.6
    assert choose_qparams([[x] for x in SAMPLES], axis=-1, backend=backend).scale.tolist() == [1.46 / 127]


@pytest.mark.parametrize("gamma", [1, 3])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("mode", "bits"), [("symmetric", 2), ("symmetric", 4), ("asymmetric", 3), ("asymmetric", 8)])
def test_search_against_exact_brute_force(
    mode: str, bits: int, signed: bool, gamma: int, backend: str, rng: np.random.Generator
) -> None:
    method = "mse" if gamma == 1 else "sqnr"
    for data in (rng.standard_normal(40), rng.standard_t(2, 40), rng.uniform(0, 1, 40), rng.uniform(5, 6, 25)):
        xs = [float(x) for x in data.astype(np.float32)]
        kwargs: dict[str, Any] = {"bits": bits, "mode": mode, "signed": signed}
        got = choose_qparams(
            np.float32(xs), method=method, gamma=gamma, candidates=20, backend=backend, **kwargs
        )  # fmt: skip
        assert got == brute_search(xs, 20, gamma, **kwargs)


def test_search_comes_close_to_a_dense_grid(rng: np.random.Generator) -> None:
    xs = rng.standard_normal(60)
    dense = min(
        squared_error(xs.tolist(), choose_qparams((-t, t), bits=4)) for t in np.linspace(0.05, 1, 400) * abs(xs).max()
    )
    got = squared_error(xs.tolist(), choose_qparams(xs, bits=4, method="mse"))
    assert dense * Fraction(95, 100) <= got <= dense * Fraction(106, 100)


def test_ties_go_to_the_larger_range(backend: str) -> None:
    # 3 levels a side; with 4 candidates, amax 6 has no error, and neither has 6 * 2/4 = 3 without its outlier.
    x = np.float32([-2, 0, 2, 4, 6])
    assert choose_qparams(x, bits=3, method="mse", candidates=4, backend=backend).scale == 2.0


def test_gamma_one_is_mse_and_large_gamma_clips_nothing(rng: np.random.Generator) -> None:
    x = rng.standard_t(2, 3000)
    for mode in ("symmetric", "asymmetric"):
        mse = choose_qparams(x, bits=4, mode=mode, method="mse")
        assert choose_qparams(x, bits=4, mode=mode, method="sqnr", gamma=1.0) == mse
        assert mse.scale < choose_qparams(x, bits=4, mode=mode, method="sqnr", gamma=1e9).scale
        assert mse.scale < choose_qparams(x, bits=4, mode=mode).scale


@pytest.mark.parametrize("p", [50.5, 90, 99, 99.99, 100])
def test_percentile_is_numpys(p: float, backend: str, rng: np.random.Generator) -> None:
    for x in (rng.standard_normal(1001), rng.standard_normal((7, 11)), rng.uniform(2, 3, 2)):
        low, high = np.percentile(x, [100 - p, p])
        kwargs = {"method": "percentile", "percentile": p, "backend": backend}
        got = choose_qparams(x, mode="asymmetric", signed=False, **kwargs)
        assert got.scale == pytest.approx((high - low) / 255, rel=1e-13)
        assert choose_qparams(x, **kwargs).scale == pytest.approx(np.percentile(abs(x), p) / 127, rel=1e-13)


def test_percentile_does_not_overflow() -> None:
    x = np.array([-1.7e308, 1.7e308])
    assert choose_qparams(x, mode="asymmetric", method="percentile", percentile=75).scale == pytest.approx(
        1.7e308 / 255
    )


@pytest.mark.parametrize(("bits", "shape"), [(4, "normal"), (8, "relu"), (8, "normal"), (11, "heavy")])
def test_entropy_against_lists(bits: int, shape: str, rng: np.random.Generator) -> None:
    data = rng.standard_t(2, 250) if shape == "heavy" else rng.standard_normal(250)
    data = np.maximum(data, 0) if shape == "relu" else data
    xs = [float(x) for x in data]
    threshold = brute_entropy(xs, bits)
    assert choose_qparams(data, bits=bits, method="entropy").scale == threshold / (2 ** (bits - 1) - 1)
    low, high = max(min(0, *xs), -threshold), min(max(xs), threshold)
    got = choose_qparams(data, bits=bits, mode="asymmetric", method="entropy")
    assert got == choose_qparams((low, high), bits=bits, mode="asymmetric")


def test_entropy_clips_an_outlier_and_refuses_what_it_cannot_do(rng: np.random.Generator) -> None:
    x = np.append(rng.standard_normal(20_000), 60.0)
    assert choose_qparams(x, method="entropy").scale < 10 / 127
    with pytest.raises(DomainError, match=r"2048 levels.*got 12"):
        choose_qparams(x, method="entropy", bits=12)
    with pytest.raises(DomainError, match="not for groups"):
        choose_qparams(x, method="entropy", axis=0, group=32)


# --- channels and groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("mode", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_per_channel_is_a_loop_over_channels(
    axis: int, mode: str, method: str, backend: str, weights: npt.NDArray[np.float32]
) -> None:
    kwargs: dict[str, Any] = {"mode": mode, "method": method, "bits": 4, "candidates": 10, "backend": backend}
    got = choose_qparams(weights, axis=axis, **kwargs)
    assert got.axis == axis % 3
    for c, x in enumerate(np.moveaxis(weights, axis, 0)):
        one = choose_qparams(x, **kwargs)
        assert (got.scale[c], got.zero_point[c]) == (one.scale, one.zero_point)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("mode", ["symmetric", "asymmetric"])
@pytest.mark.parametrize(("axis", "group"), [(2, 8), (2, 7), (2, 24), (2, 100), (1, 2), (0, 4), (-1, 1)])
def test_per_group_is_a_loop_over_groups(
    axis: int, group: int, mode: str, method: str, backend: str, weights: npt.NDArray[np.float32]
) -> None:
    kwargs: dict[str, Any] = {"mode": mode, "method": method, "bits": 4, "candidates": 8, "backend": backend}
    got = choose_qparams(weights, axis=axis, group=group, **kwargs)
    assert got.check_shape(weights.shape) == axis % 3
    scale, zero_point = (np.moveaxis(a, axis, -1) for a in (got.scale, got.zero_point))
    moved = np.moveaxis(weights, axis, -1)
    for i, j, k in np.ndindex(scale.shape):
        one = choose_qparams(moved[i, j, k * group : (k + 1) * group], **kwargs)
        assert (scale[i, j, k], zero_point[i, j, k]) == (one.scale, one.zero_point)


def test_one_row_of_many_groups_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(3).standard_normal(1001)
    whole = choose_qparams(x, bits=3, axis=0, group=10, method="mse", mode="asymmetric")
    monkeypatch.setattr("qengine.affine.ranges._HELD", 700)
    assert choose_qparams(x, bits=3, axis=0, group=10, method="mse", mode="asymmetric") == whole


def test_a_million_groups(rng: np.random.Generator) -> None:
    x = rng.standard_normal((1000, 32_000), dtype=np.float32)
    p = choose_qparams(x, axis=1, group=32, bits=4)
    assert p.shape == (1000, 1000)
    assert np.array_equal(p.scale, abs(x).reshape(1000, 1000, 32).max(axis=2).astype(np.float64) / 7)


# --- histograms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("mode", ["symmetric", "asymmetric"])
def test_a_histogram_answers_like_its_cells(method: str, mode: str, backend: str, rng: np.random.Generator) -> None:
    """Samples that are their own cells: the histogram and the exact path agree."""
    x = rng.integers(-1500, 2000, 4000).astype(np.float64) / 64
    kwargs: dict[str, Any] = {"method": method, "mode": mode, "percentile": 99.3, "backend": backend, "bits": 4}
    exact = choose_qparams(x, **kwargs)
    assert choose_qparams(Histogram().update(x), **kwargs) == exact
    assert choose_qparams(x, source="histogram", **kwargs) == exact
    y = x.reshape(4, 1000)[:, ::3]
    h = Histogram(axis=0, mantissa_bits=11).update(y)
    assert choose_qparams(h, **kwargs) == choose_qparams(y, axis=0, **kwargs)


def test_a_histogram_is_close_for_other_samples(rng: np.random.Generator) -> None:
    x = rng.standard_normal(100_000)
    for method, mode in itertools.product(METHODS, ["symmetric", "asymmetric"]):
        exact = choose_qparams(x, method=method, mode=mode)
        cells = choose_qparams(x, method=method, mode=mode, source="histogram")
        assert cells.scale == pytest.approx(exact.scale, rel=0.15 if method in ("mse", "sqnr", "entropy") else 3e-4)
        if method == "mse":  # flat near its minimum: what counts is the error
            errors = [squared_error(x[:3000].tolist(), p) for p in (cells, exact)]
            assert errors[0] <= errors[1] * Fraction(103, 100)


# --- degenerate data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["exact", "histogram"])
@pytest.mark.parametrize("method", ALL)
def test_degenerate_data(method: str, source: str, backend: str) -> None:
    kwargs: dict[str, Any] = {"method": method, "source": source, "backend": backend}
    asymmetric = {"mode": "asymmetric", "signed": False, **kwargs}
    assert choose_qparams([0.0] * 5, **kwargs) == QuantParams(1.0, 0, -128, 127)
    assert choose_qparams([0.0, -0.0], **asymmetric) == QuantParams(1.0, 0, 0, 255)
    assert choose_qparams([0.0], mode="asymmetric", **kwargs) == QuantParams(1.0, -128, -128, 127)
    for c in ([3.0], [3.0] * 9):
        assert choose_qparams(c, **kwargs) == QuantParams(3 / 127, 0, -128, 127)
        assert choose_qparams(c, **asymmetric) == QuantParams(3 / 255, 0, 0, 255)
    assert choose_qparams([-3.0], **asymmetric) == QuantParams(3 / 255, 255, 0, 255)
    mixed = choose_qparams(np.array([[0.0, 0], [2, 2], [-1, 1]]), axis=0, **asymmetric)
    assert mixed.scale[:2].tolist() == [1.0, 2 / 255]
    assert mixed.scale[2] == pytest.approx(2 / 255, rel=1e-2)
    assert mixed.zero_point[:2].tolist() == [0, 0]
    tiny = choose_qparams(np.array([5e-324, -5e-324]) if source == "exact" else np.float32([1e-40, -1e-40]), **kwargs)
    assert tiny.scale == 2.0**-1022 if source == "exact" else 0 < tiny.scale <= 1e-41


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
@pytest.mark.parametrize("mode", ["symmetric", "asymmetric"])
def test_the_largest_floats(method: str, mode: str, backend: str) -> None:
    big = float(np.finfo(np.float64).max)
    x = np.concatenate([np.linspace(-1, 1, 999) * big, [-big, big]])
    p = choose_qparams(x, mode=mode, method=method, percentile=100, backend=backend)
    assert 0.4 < p.scale / big * 127 <= 1 + 1e-15


def test_nonfinite_samples(backend: str) -> None:
    x = np.float32([[1.0, -2.0, 0.5], [np.nan, np.inf, 4.0]])
    with pytest.raises(DomainError, match=r"2 nonfinite samples, the first is nan at index \(1, 0\)"):
        choose_qparams(x, backend=backend)
    with pytest.raises(DomainError, match="1 nonfinite sample, the first is -inf at index 2"):
        choose_qparams([1.0, 2.0, -np.inf], axis=0, backend=backend)
    for method in ALL:
        kwargs: dict[str, Any] = {"nonfinite": "ignore", "method": method, "percentile": 80, "backend": backend}
        assert choose_qparams(x, **kwargs) == choose_qparams([1.0, -2.0, 0.5, 4.0], method=method, percentile=80)
        got = choose_qparams(x, axis=0, **kwargs)
        assert got.scale[0] == choose_qparams(x[0], method=method, percentile=80).scale
        assert got.scale[1] == 4 / 127
        assert choose_qparams(x, source="histogram", **kwargs).bits == 8
    y = np.float32([[1.0, -2.0, 0.5], [np.nan, -8.0, 4.0]])
    grouped = choose_qparams(y, nonfinite="ignore", axis=1, group=2, backend=backend)
    assert grouped.scale.tolist() == [[2 / 127, 0.5 / 127], [8 / 127, 4 / 127]]
    with pytest.raises(DomainError, match="all 2 samples of x are nonfinite"):
        choose_qparams([np.nan, np.inf], nonfinite="ignore", backend=backend)
    with pytest.raises(DomainError, match=r"segment at index \(1, 0\) holds no finite sample"):
        choose_qparams(x, nonfinite="ignore", axis=1, group=2, backend=backend)
    assert np.isnan(x[1, 0])  # the caller's array is as it was
    with pytest.raises(UnknownNameError, match="policy"):
        choose_qparams(x, nonfinite="skip")


@pytest.mark.parametrize(
    ("x", "kwargs", "error", "text"),
    [
        ([], {}, DomainError, "at least one sample"),
        (np.ones((0, 3)), {"axis": 1}, DomainError, r"shape \(0, 3\)"),
        ([True], {}, DTypeError, "bool"),
        ([1j], {}, DTypeError, "complex"),
        (["a"], {}, DTypeError, "dtype"),
        ([Fraction(1)], {}, DTypeError, "fit 64 bits"),
        (np.ones(2, np.longdouble), {}, DTypeError, "up to float64"),
        ([2**53 + 1], {}, DomainError, r"got 9007199254740993 at index 0"),
        ([1.0], {"group": 2}, DomainError, "group needs the axis"),
        ([1.0], {"axis": 0, "group": 0}, DomainError, "at least 1"),
        ([1.0], {"axis": 1}, DomainError, "axis must be in"),
        ([1.0], {"axis": True}, DTypeError, "axis must be an integer"),
        ([1.0], {"source": "cells"}, UnknownNameError, "source"),
        ([1.0, 2.0], {"axis": 0, "group": 2, "source": "histogram"}, DomainError, "no groups"),
        ([0.0] * 99_999 + [1.0], {"method": "percentile"}, DomainError, "leaves an empty range at 0.0"),
    ],
)
def test_samples_refused(x: Any, kwargs: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        choose_qparams(x, **kwargs)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "uint64"])
def test_types_of_samples(dtype: str, backend: str) -> None:
    x = np.array([0, 3, 100, 7], dtype)
    for method in ("minmax", "mse"):
        assert choose_qparams(x, method=method, backend=backend) == choose_qparams(x.astype(float), method=method)


def test_small_floats_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        assert choose_qparams(np.array([-1.5, 1.0], getattr(ml_dtypes, name))).scale == 1.5 / 127


def test_memory_orders_and_reversed_views(backend: str, weights: npt.NDArray[np.float32]) -> None:
    for view in (np.asfortranarray(weights), weights[::-1, :, ::-2], weights.transpose(2, 0, 1)):
        same = np.ascontiguousarray(view)
        for kwargs in ({}, {"axis": 1}, {"axis": 1, "group": 2}):
            assert choose_qparams(view, backend=backend, **kwargs) == choose_qparams(same, backend=backend, **kwargs)


def test_a_finder_answers_many_questions_from_one_pass(
    monkeypatch: pytest.MonkeyPatch, weights: npt.NDArray[np.float32]
) -> None:
    finder = RangeFinder(weights)
    grid = list(itertools.product([2, 4, 8], ["symmetric", "asymmetric"], [None, 0], ALL))
    ask = [{"bits": b, "mode": m, "axis": a, "method": w, "source": "histogram"} for b, m, a, w in grid]
    wanted = [choose_qparams(weights, **kwargs) for kwargs in ask]
    assert [finder.params(**kwargs) for kwargs in ask] == wanted
    monkeypatch.setattr(finder, "_x", np.full_like(weights, np.nan))  # not read again
    assert [finder.params(**kwargs) for kwargs in ask] == wanted


class Enough(Exception):
    """What a caller ends the work with."""


@pytest.mark.parametrize(("method", "source"), [("mse", "exact"), ("entropy", "exact"), ("mse", "histogram")])
def test_progress_is_told_of_scales_and_may_end_the_work(
    rng: np.random.Generator, backend: str, method: str, source: str
) -> None:
    x = rng.normal(size=(6, 40))
    told: list[tuple[int, int]] = []

    def once(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) > 1:
            raise Enough

    question: dict[str, Any] = {"axis": 0, "method": method, "source": source, "backend": backend}
    heard: list[tuple[int, int]] = []
    same = choose_qparams(x, **question, progress=lambda *pair: heard.append(pair))
    assert same == choose_qparams(x, **question)
    assert heard[0] == (0, 6)
    assert heard == sorted(heard)
    with pytest.raises(Enough):
        choose_qparams(x, mode="asymmetric", **question, progress=once)
    assert len(told) == 2
