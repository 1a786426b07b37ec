"""Ranges, histograms and parameters of device arrays: those that the reference finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.affine.calibrate import METHODS, RangeFinder, choose_qparams
from qengine.affine.histogram import Histogram
from qengine.exceptions import DomainError
from qengine.kernels.cuda import calibrate, load
from qengine.kernels.reference import calibrate as reference

from .device import HostDevice

F32 = np.float32


@pytest.fixture(params=[F32, np.float64])
def x(request: pytest.FixtureRequest, rng: np.random.Generator) -> Any:
    values = rng.standard_t(3, (3, 4, 20)) * 2.0 ** rng.integers(-3, 4, (3, 1, 1))
    return values.astype(request.param)


@pytest.mark.parametrize("mode", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("method", METHODS)
def test_methods(method: str, mode: str, x: Any, device: Any) -> None:
    places: tuple[dict[str, Any], ...] = ({}, {"axis": 1}, {"axis": 0, "group": 2}, {"axis": -1, "group": 13})
    finder, expected = RangeFinder(device.asarray(x)), RangeFinder(x, backend="reference")
    for place in places:
        if method == "entropy" and "group" in place:
            continue
        options = {**place, "method": method, "mode": mode, "bits": 4, "candidates": 9, "percentile": 97.0}
        assert finder.params(**options) == expected.params(**options), place


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite(method: str, x: Any, device: Any) -> None:
    x[0, 0, 0], x[1, 2, 1], x[2, 3, 19] = np.nan, np.inf, -np.inf
    with pytest.raises(DomainError, match=r"3 nonfinite samples, the first is nan at index \(0, 0, 0\)"):
        choose_qparams(device.asarray(x), method=method)
    options: dict[str, Any] = {"method": method, "nonfinite": "ignore", "axis": 0, "percentile": 99.0, "candidates": 5}
    assert choose_qparams(device.asarray(x), **options) == choose_qparams(x, backend="reference", **options)
    with pytest.raises(DomainError, match="all 4 samples"):
        choose_qparams(device.asarray(np.full(4, np.inf)), method=method, nonfinite="ignore")


@pytest.mark.parametrize("axis", [None, 0, 2])
def test_histograms(axis: int | None, x: Any, device: Any) -> None:
    x[2, 1, 4:9] = np.nan, np.inf, -0.0, 0.0, 0.0
    ours, theirs = Histogram(axis=axis), Histogram(axis=axis)
    for part in (x[:, :3], x[:, 3:]):
        ours.update(device.asarray(np.ascontiguousarray(part)))
        theirs.update(part, backend="reference")
    assert ours == theirs
    for method in ("percentile", "mse", "entropy"):
        options: dict[str, Any] = {"nonfinite": "ignore", "method": method, "candidates": 9, "axis": axis}
        assert choose_qparams(ours, backend="cuda", **options) == choose_qparams(theirs, backend="reference", **options)


@pytest.mark.parametrize(("rows", "length", "group"), [(1, 17_001, 17_001), (2, 9000, 8500), (4, 33, 8), (1, 1, 1)])
def test_kernels_cut_segments_anywhere(rows: int, length: int, group: int, device: Any, rng: Any) -> None:
    """Segments longer than a piece, the last one of a row shorter; NaN samples left out of the costs."""
    for dtype in (F32, np.float64):
        x = rng.normal(0, 1, (rows, length)).astype(dtype)
        found, wanted = calibrate.extrema(device.asarray(x), group), reference.extrema(x, group)
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        if length > 1:
            x[:, 1] = np.nan
        segments = -(-length // group)
        scale = rng.uniform(0.01, 0.2, (rows, segments, 11))
        scale[..., 7] = scale[..., 2]
        zero_point = np.round(rng.normal(0, 3, scale.shape))
        results = []
        for kernels, samples in ((calibrate, device.asarray(x)), (reference, x)):
            best, index = np.full((rows, segments), np.inf), np.zeros((rows, segments), np.int64)
            kernels.search(
                samples, group, scale, zero_point, -8, 7, 3.0, 1 - 1e-12, np.full(best.shape, 4.0), best, index
            )
            results.append((best, index))
        np.testing.assert_array_equal(results[0][1], results[1][1])
        np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-13)


def test_weights_and_magnitudes(device: Any, rng: np.random.Generator) -> None:
    values, weight = np.sort(rng.normal(0, 1, 3000)), rng.integers(1, 1 << 40, 3000).astype(np.float64)
    scale, zero_point = rng.uniform(0.01, 0.3, 9), np.zeros(9)
    numbers: tuple[Any, ...] = (scale, zero_point, -8, 7, 2.0, 1 - 1e-12, 1.0, np.inf)
    ours, theirs = (
        calibrate.search_weighted(values, weight, *numbers),
        reference.search_weighted(values, weight, *numbers),
    )
    assert ours[0] == theirs[0]
    assert ours[1] == pytest.approx(theirs[1], rel=1e-13, abs=0)
    amax = float(np.abs(values).max())
    counts = calibrate.entropy_counts(device.asarray(np.append(values, np.nan)), amax, 2048)
    bins = np.minimum((np.abs(values) / amax * 2048).astype(np.int64), 2047)
    np.testing.assert_array_equal(counts, np.bincount(bins, minlength=2048))


def test_keys(device: Any, rng: np.random.Generator) -> None:
    x = np.concatenate([rng.normal(0, 1, 5000), np.zeros(3000), -np.zeros(7), [3.4e38, -1e-44, 5e-39]]).astype(F32)
    for bits in (3, 7, 11):
        for a, b in zip(calibrate.count_keys(device.asarray(x), bits), reference.count_keys(x, bits), strict=True):
            assert a.dtype == b.dtype == np.int64
            np.testing.assert_array_equal(a, b)
    assert [part.size for part in calibrate.count_keys(device.asarray(x[:0]), 7)] == [0, 0]


def test_parameters_for_quantize(device: Any, x: Any) -> None:
    """What was chosen from a device array serves any array."""
    params = qe.choose_qparams(device.asarray(x), bits=8, axis=0)
    assert isinstance(params.scale, np.ndarray)
    assert qe.quantize(x, params).shape == x.shape


SHAPES = [((3, 50), 50), ((3, 50), 7), ((1, 500), 40), ((2, 260), 250), ((1, 20_000), 20_000), ((2, 9000), 8500)]


@pytest.mark.parametrize(("shape", "group"), SHAPES)
@pytest.mark.parametrize("piece", [16, 96, 8192])
def test_host_arrays_go_in_pieces(
    shape: tuple[int, int], group: int, piece: int, stand_in: Any, monkeypatch: pytest.MonkeyPatch, rng: Any
) -> None:
    """Extremes and costs are the same bits for pieces of any size; those of costs begin at a warp's."""
    x = rng.normal(0, 1, shape)
    segments = shape[0], -(-shape[1] // group)
    scale = rng.uniform(0.01, 0.2, (*segments, 3))
    zero_point, unit = np.zeros(scale.shape), np.ones(segments)
    results = []
    for samples in (stand_in.asarray(x), x):
        before = len(stand_in.launches)
        results.append([*calibrate.extrema(samples, group), np.full(segments, np.inf), np.zeros(segments, np.int64)])
        numbers = -8, 7, 3.0, 1 - 1e-12, unit
        calibrate.search(calibrate.held(samples), group, scale, zero_point, *numbers, *results[-1][2:])
        monkeypatch.setattr(load, "PIECE", piece)
    assert len(stand_in.launches) - before > 4 or x.size <= piece
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(results[0], reference.extrema(x, group), strict=False):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", [{}, {"axis": 0}, {"axis": 1, "group": 9000}])
def test_a_host_array_may_be_larger_than_the_memory(
    place: dict[str, Any], method: str, stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch, rng: Any
) -> None:
    """No array of the device grows with the samples, and the answer is that of a device array."""
    x = rng.normal(0, 1, (2, 10_000)).astype(F32)
    if method == "entropy" and "group" in place:
        return
    options: dict[str, Any] = {**place, "method": method, "candidates": 2, "percentile": 99.0}
    expected = choose_qparams(stand_in.asarray(x), **options)
    limit_memory(monkeypatch, 8192)
    monkeypatch.setattr(load, "PIECE", 8192)
    launched = len(stand_in.launches)
    assert choose_qparams(x, **options, backend="cuda") == expected
    assert ("calibrate", "magnitudes_f32") in stand_in.launches[launched:] or method != "entropy"


def test_histograms_of_large_host_arrays(stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch, rng: Any) -> None:
    x = rng.normal(0, 1, 40_000).astype(F32)
    expected = Histogram(mantissa_bits=5).update(x, backend="reference")
    limit_memory(monkeypatch, 1 << 14)  # counts of a table
    monkeypatch.setattr(load, "PIECE", 9000)
    assert Histogram(mantissa_bits=5).update(x, backend="cuda") == expected


def limit_memory(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    new = HostDevice._new

    def counted(self: HostDevice, shape: Any, dtype: Any) -> Any:
        assert np.prod(shape) <= elements
        return new(self, shape, dtype)

    monkeypatch.setattr(HostDevice, "_new", counted)
