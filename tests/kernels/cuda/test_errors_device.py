"""The CUDA error pass on device arrays: against the reference, in any order of threads, layouts, tiles and streams."""

from __future__ import annotations

import gc
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import qengine as qe
from qengine.affine import measure as module
from qengine.exceptions import DomainError, DTypeError
from qengine.kernels.codes import ERROR_BINS, NOT_FAST
from qengine.kernels.cuda import errors
from tests.affine.reports import SUMS, alike, same_bits
from tests.affine.test_metrics import close

from .device import HostDevice

F32 = np.float32
#: Clamped by hundreds, by none, with zero points; every fast loop and the general one.
SPECS = [
    qe.QuantSpec(bits=8),
    qe.QuantSpec(bits=4, mode="asymmetric", signed=False),
    qe.QuantSpec(bits=8, convention="onnx", mode="asymmetric"),
    qe.QuantSpec(bits=8, convention="torch", range=(-0.7, 0.8)),
    qe.QuantSpec(bits=4, range=(-1.0, 1.0)),
    qe.QuantSpec(bits=8, convention="tflite-opt"),
    qe.QuantSpec(bits=7, rounding="half-away"),
    qe.QuantSpec(bits=8, rounding="stochastic", seed=5),
    qe.QuantSpec(bits=16),
    qe.QuantSpec(format="e4m3fn"),
    qe.QuantSpec(format="mxfp4"),
    qe.QuantSpec(bits=4, group=32),
    qe.QuantSpec(params=qe.QuantParams(0.5, 0, -8, 7), name="ties"),
]


def compare(ours: qe.ErrorReport, theirs: qe.ErrorReport) -> None:
    assert (ours.shape, ours.axis, ours.nonfinite) == (theirs.shape, theirs.axis, theirs.nonfinite)
    for a, b in zip(ours.rows, theirs.rows, strict=True):
        assert a.params == b.params
        if b.code_counts is not None:
            alike(a, b, 1e-14 * a.mae)
        for name in SUMS:
            for u, v in ((getattr(a.tensor, name), getattr(b.tensor, name)),):
                exact = name in ("count", "clip_count", "max_abs", "low", "high")
                assert u == v if exact else abs(u - v) <= 1e-13 * max(abs(v), a.tensor.sum_abs * (name == "sum_e")), (
                    name
                )


def samples(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    x = rng.normal(0.05, 1, shape)
    flat = x.reshape(-1)
    flat[:: max(flat.size // 50, 1)] *= 40.0  # far beyond given ranges
    flat[1::7] = np.round(flat[1::7] * 4) / 4  # ties of `ties`, and codes
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [F32, np.float64])
@pytest.mark.parametrize("histograms", [True, False])
def test_a_tensor_of_some_pieces(dtype: Any, histograms: bool, device: Any, rng: np.random.Generator) -> None:
    x = samples(rng, (3 * errors.PIECE + 1234,), dtype)
    x[[5, 9000, -1]] = np.nan, np.inf, -np.inf
    options: dict[str, Any] = {"nonfinite": "ignore", "histograms": histograms}
    some = SPECS if histograms else SPECS[:9]
    compare(
        qe.error_report(device.asarray(x), some, **options), qe.error_report(x, some, backend="reference", **options)
    )
    with pytest.raises(DomainError, match=r"got 3 .*index 5\b"):
        qe.error_report(device.asarray(x), {"range": (-1.0, 1.0)}, histograms=histograms)


CUTS = [
    ((2, 3, 700), 0),
    ((2, 3, 700), 1),
    ((5, 130), 0),
    ((90, 5), 1),
    ((4, 3, 9), 1),
    ((1, 20_000), 0),
    ((6, 128), 0),
]


@pytest.mark.parametrize(("shape", "axis"), CUTS)
def test_channels(shape: tuple[int, ...], axis: int, device: Any, rng: np.random.Generator) -> None:
    """Long runs of a channel go to warps, short ones to columns; per-channel scales beside scales of the tensor."""
    x = samples(rng, shape, F32)
    x.reshape(-1)[17] = np.nan
    specs = [*SPECS[:8], qe.QuantSpec(bits=8, axis=axis), qe.QuantSpec(bits=4, axis=-1, group=7), SPECS[10]]
    options: dict[str, Any] = {"axis": axis, "nonfinite": "ignore"}
    compare(
        qe.error_report(device.asarray(x), specs, **options), qe.error_report(x, specs, backend="reference", **options)
    )


@pytest.mark.parametrize("name", ["mxfp8", "mxfp6", "mxint8", "nvfp4", "nf4", "e5m2"])
def test_formats(name: str, device: Any, rng: np.random.Generator) -> None:
    x = samples(rng, (6, 45), F32)
    specs = [qe.QuantSpec(format=name, axis=axis) for axis in (0, 1)]
    compare(qe.error_report(device.asarray(x), specs), qe.error_report(x, specs, backend="reference"))


def test_every_convention(device: Any, rng: np.random.Generator) -> None:
    x = samples(rng, (700,), F32)
    specs = [
        qe.QuantSpec(params=qe.QuantParams(0.021, 0, -128, 127), convention=row.name, rounding=rule)
        for row, rule in itertools.product(qe.conventions(), (None, "floor", "half-down"))
    ]
    compare(qe.error_report(device.asarray(x), specs), qe.error_report(x, specs, backend="reference"))


def test_the_way_taken_changes_counts_by_nothing_and_sums_by_last_bits(
    stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """The fast loops against the conventions' own arithmetic on the same device."""
    x = samples(rng, (errors.PIECE + 77,), F32)
    p = [qe.QuantParams(s, z, -128, 127) for s in (0.0313, 2.0**-5, 0.7) for z in (0, 100)]
    specs = [qe.QuantSpec(params=q, convention=c) for q in p for c in ("calculator", "onnx", "torch")]
    fast = qe.error_report(stand_in.asarray(x), specs)
    assert {("errors", "errors_fast64_counted_f32"), ("errors", "errors_fast32_counted_f32")} <= set(stand_in.launches)
    monkeypatch.setattr(errors, "LARGEST_CODE", 0.0)
    before = len(stand_in.launches)
    slow = qe.error_report(stand_in.asarray(x), specs)
    assert not any("fast" in kernel for _, kernel in stand_in.launches[before:])
    compare(fast, slow)


def test_tiles_and_calls(stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Sums depend neither on how many tiles one call holds, nor on the grid, nor on the memory's alignment."""
    monkeypatch.setattr(module, "TILE", 3000)
    x = samples(rng, (5 * 3000 + 321,), F32)
    x[[4000, 12_000]] = np.nan
    specs = [*SPECS[:6], SPECS[9], qe.QuantSpec(bits=4, group=32)]
    found = []
    for axis, shape in ((None, x.shape), (1, (3, 5107)), (0, (1, x.size))):
        reports = []
        for tiles, processors, shift in ((1, 1, 0), (2, 3, 1), (64, 7, 3)):
            monkeypatch.setattr(errors, "TILES", tiles)
            stand_in.processors = processors
            raw = stand_in.empty((x.size + shift,), F32)
            raw[shift:] = stand_in.asarray(x)
            reports.append(qe.error_report(raw[shift:].reshape(shape), specs, axis=axis, nonfinite="ignore"))
        for other in reports[1:]:
            assert other.nonfinite == 2
            for a, b in zip(reports[0].rows, other.rows, strict=True):
                same_bits(a, b)
        found.append(reports[0])
        compare(
            reports[0], qe.error_report(x.reshape(shape), specs, axis=axis, nonfinite="ignore", backend="reference")
        )
    for a, b in zip(found[0].rows, found[2].rows, strict=True):
        assert (a.mse, a.clip_count) == (b.mse, b.clip_count)


def test_pieces_of_the_host_and_strides(stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch, rng: Any) -> None:
    monkeypatch.setattr(module, "TILE", 2048)
    monkeypatch.setattr(errors, "TILES", 2)
    x = samples(rng, (37, 301), F32)
    specs = [SPECS[0], SPECS[3], SPECS[9]]
    whole = qe.error_report(stand_in.asarray(x), specs, axis=0)

    def chunks(elements: int) -> Any:
        yield from np.array_split(x.reshape(-1), 7)

    source = SimpleNamespace(shape=x.shape, chunks=chunks)
    turned = stand_in.moveaxis(stand_in.asarray(np.ascontiguousarray(x.T)), 0, 1)
    assert not turned.flags.c_contiguous
    for other in (x, turned):
        for a, b in zip(whole.rows, qe.error_report(other, specs, axis=0, backend="cuda").rows, strict=True):
            same_bits(a, b)
    given = [qe.QuantSpec(params=whole.rows[0].params), SPECS[3]]
    for a, b in zip(whole.rows, qe.error_report(source, given, axis=0, backend="cuda").rows, strict=False):
        assert (a.mse, a.bias, a.max_abs) == (b.mse, b.bias, b.max_abs)


def test_results_are_plain_and_x_stays_where_it_is(device: Any, rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, 500).astype(F32)
    on_device = device.asarray(x)
    row = qe.error_report(on_device, {"bits": 8, "axis": 0, "group": 50}).rows[0]
    assert isinstance(row.mse, float)
    assert isinstance(row.code_counts, np.ndarray)
    np.testing.assert_array_equal(on_device.get(), x)


@pytest.mark.parametrize("dtype", ["<f2", "i1", "<u2", "<i4", "<i8"])
def test_dtypes(dtype: str, device: Any, rng: np.random.Generator) -> None:
    x = np.abs(rng.normal(0, 30, (20, 60))).clip(0, 120).astype(dtype)
    specs = [{"bits": 4}, {"bits": 8, "convention": "onnx"}]
    compare(qe.error_report(device.asarray(x), specs), qe.error_report(x, specs, backend="reference"))


def test_what_is_refused(device: Any) -> None:
    with pytest.raises(DTypeError, match="x must"):
        qe.error_report(device.asarray(np.array([True])), {"bits": 8})
    with pytest.raises(DomainError, match="at least one sample"):
        qe.error_report(device.asarray(np.zeros((3, 0))), {"bits": 8})
    with pytest.raises(DomainError, match="all 2"):
        qe.error_report(device.asarray(np.full(2, np.nan)), {"range": (-1.0, 1.0)}, nonfinite="ignore")


def test_many_launches_read_back_once_a_call(stand_in: HostDevice, rng: np.random.Generator) -> None:
    """The results of a call come in six arrays, however many quantizers there are."""
    x = stand_in.asarray(rng.normal(0, 1, 9000).astype(F32))
    before = stand_in.waits
    qe.error_report(x, qe.QuantSpec.grid(bits=[4, 5, 6, 7, 8], range=(-1.0, 1.0)))
    assert stand_in.waits == before + 6


def prepared(specs: int, channels: int, length: int) -> Any:
    rows = np.zeros((specs, 16), np.int64)
    rows[:, 9] = NOT_FAST
    numbers = np.ones((specs, 3))
    layouts = np.tile(np.array([1 << 30, 1 << 30, 1, 1], np.int64), (specs, 1))
    return errors.Prepared(
        (length, channels, rows, layouts, np.arange(specs), np.ones(specs), np.zeros(specs), numbers, None, None,
         np.arange(specs + 1))
    )  # fmt: skip


def test_memory_of_a_call_is_bounded(stand_in: HostDevice) -> None:
    assert errors.tiles_at_once(prepared(8, 1, 1 << 30), 1 << 20) == errors.TILES
    assert 1 <= errors.tiles_at_once(prepared(8, 10_000, 1), 1 << 20) < errors.TILES
    assert errors.tiles_at_once(prepared(500, 100_000, 1), 1 << 20) == 1
    assert ERROR_BINS == 1152


SHORT = [((300, 9), 0), ((1, 700), 1), ((3, 40, 11), 1), ((2, 5), 0), ((7, 90), 0)]


@pytest.mark.parametrize("wide", [1, 1 << 16])
@pytest.mark.parametrize(("shape", "axis"), SHORT)
def test_tiles_of_few_of_many_channels(
    shape: tuple[int, ...], axis: int, wide: int, stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch, rng: Any
) -> None:
    """Tiles that end within runs, rows and channels; columns one by one or those of a run together."""
    monkeypatch.setattr(errors, "WIDE", wide)
    x = samples(rng, shape, F32)
    x.reshape(-1)[3] = np.nan if x.size > shape[axis] else 0.0
    specs = [SPECS[0], SPECS[4], qe.QuantSpec(bits=8, axis=axis), qe.QuantSpec(bits=4, axis=-1, group=4)]
    options: dict[str, Any] = {"axis": axis, "nonfinite": "ignore"}
    theirs = qe.error_report(x, specs, backend="reference", **options)
    for size in (7, 64, 101):
        monkeypatch.setattr(module, "TILE", size)
        reports = []
        for tiles, processors in ((1, 1), (5, 3)):
            monkeypatch.setattr(errors, "TILES", tiles)
            stand_in.processors = processors
            reports.append(qe.error_report(stand_in.asarray(x), specs, **options))
        compare(reports[0], theirs)
        for a, b, c in zip(*(report.rows for report in (*reports, theirs)), strict=True):
            same_bits(a, b)
            np.testing.assert_array_equal(a.channels.count, c.channels.count)
            np.testing.assert_array_equal(a.channels.max_abs, c.channels.max_abs)
            np.testing.assert_array_equal(a.channels.low, c.channels.low)
            np.testing.assert_allclose(a.channels.sum_abs, c.channels.sum_abs, rtol=1e-13)


@pytest.mark.parametrize("shape", [(1_000_000, 64), (1_000_000, 1), (1_000_000, 127), (1_000_000, 128), (64, 1000)])
def test_memory_of_a_tile_is_that_of_its_elements(
    shape: tuple[int, int], stand_in: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a call asks for does not grow with the channels that its tile does not meet."""
    size, specs = 1 << 12, 8
    taken = []
    new = HostDevice._new

    def counted(self: HostDevice, shape: Any, dtype: Any) -> Any:
        taken.append(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        assert taken[-1] <= 512 * specs * size, "more than an element and quantizer are worth"
        return new(self, shape, dtype)

    there, plan = stand_in.asarray(np.zeros(size, F32)), prepared(specs, *shape)
    monkeypatch.setattr(HostDevice, "_new", counted)
    sums, counts, *_, firsts = errors.tiles(plan, there, 5 * size, size)
    assert sum(taken) <= 1024 * specs * size
    assert counts.sum() == specs * size
    assert sums.shape[2] <= size + 1
    assert firsts == [5 * size // shape[1] % shape[0]]


def test_a_report_leaves_nothing_on_the_device(stand_in: HostDevice, rng: np.random.Generator) -> None:
    x = stand_in.asarray(rng.normal(0, 1, (30, 40)).astype(F32))
    qe.error_report(x, [{"bits": 8, "axis": 0}, {"bits": 4}])
    gc.collect()
    assert len(errors._prepared) == 0


def test_cancelling_errors(device: Any, rng: np.random.Generator) -> None:
    """Errors of both signs that all but cancel: the sum is theirs, not that of rounding."""
    x = rng.normal(0, 1, errors.PIECE).astype(F32)
    x = np.concatenate([x, -x, F32([1e-3])])
    p = qe.QuantParams(0.1, 0, -128, 127)
    row = qe.error_report(device.asarray(x), p, histograms=False).rows[0]
    close(row.bias, float(F32(1e-3)) / x.size, "bias", 1e-20)
