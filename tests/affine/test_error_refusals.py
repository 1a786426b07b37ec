"""error_report: what is not finite, and what is refused."""

import math

import numpy as np
import pytest

import qengine as qe
from qengine import backends
from qengine.affine.metrics import METRICS
from qengine.exceptions import BackendError, DomainError, DTypeError, UnknownNameError

from . import reports
from .reports import LENGTH, TILE, Pieces, same_counts
from .test_metrics import close

F32 = np.float32
small_tiles, long = reports.small_tiles, reports.long

# --- what is not finite ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_samples_are_left_out(bad, axis, backend, rng):
    x = rng.normal(0, 1, (40, 60)).astype(F32)
    holes = rng.random(x.shape) < 0.02
    holes[3, 5] = True
    with_holes = np.where(holes, F32(bad), x)
    p = qe.QuantParams(0.013, 3, -128, 127)
    specs = [
        qe.QuantSpec(params=p),
        qe.QuantSpec(params=p, convention="onnx"),
        qe.QuantSpec(params=p, rounding="floor"),
    ]
    report = qe.error_report(with_holes, specs, nonfinite="ignore", axis=axis, backend=backend)
    assert report.nonfinite == np.count_nonzero(holes)
    kept = qe.error_report(x[~holes], specs, backend=backend)
    for a, b in zip(report.rows, kept.rows, strict=True):
        same_counts(a, b)
        for name in METRICS:
            close(getattr(a, name), getattr(b, name), name)
        assert (a.tensor.low, a.tensor.high) == (b.tensor.low, b.tensor.high)
    if axis is not None:
        assert report.rows[0].channels.count.tolist() == (~holes).sum(axis=1 - axis).tolist()


def test_ranges_of_the_finite_samples(backend, rng):
    x = rng.normal(0, 1, 1000)
    with_holes = np.insert(x, [0, 500, 1000], [np.nan, np.inf, -np.inf])
    specs = [{"bits": 8}, {"bits": 4, "mode": "asymmetric"}, {"method": "percentile"}, {"method": "mse"}]
    report = qe.error_report(with_holes, specs, nonfinite="ignore", backend=backend)
    for a, b in zip(report.rows, qe.error_report(x, specs, backend=backend).rows, strict=True):
        assert a.params == b.params
        same_counts(a, b)


@pytest.mark.parametrize(
    "specs", [{"bits": 8}, {"range": (-1.0, 1.0)}, {"format": "mxfp4"}, {"axis": 0, "group": 2}], ids=str
)
def test_nonfinite_samples_are_named(specs, backend):
    x = np.zeros((3, 4, 5))
    x[1, 2, 3], x[2, 0, 0] = np.inf, np.nan
    with pytest.raises(DomainError, match=r"got 2 .*first .*\(1, 2, 3\)"):
        qe.error_report(x, specs, backend=backend)
    with pytest.raises(DomainError, match=r"got 2 .*first .*\(1, 2, 3\)"):
        qe.error_report(x, specs, axis=2, backend=backend)
    with pytest.raises(DomainError, match="index 2"):
        qe.error_report([0.0, 1.0, np.nan], {"range": (-1.0, 1.0)}, backend=backend)


def test_the_first_nonfinite_sample_of_many_tiles(long):
    x = long.copy()
    x[[2 * TILE + 5, LENGTH - 1]] = np.nan
    for source in (x, Pieces(x, 2_431)):
        for threads in (1, 3):
            with pytest.raises(DomainError, match=f"got 2 .*index {2 * TILE + 5}"):
                qe.error_report(source, {"range": (-1.0, 1.0)}, threads=threads)


@pytest.mark.parametrize("x", [[np.nan], [np.inf, -np.inf, np.nan], np.full((3, 600), np.nan, F32)], ids=str)
@pytest.mark.parametrize("specs", [{"bits": 8}, {"range": (-1.0, 1.0)}, {"format": "e5m2"}], ids=str)
def test_nothing_finite(x, specs, backend):
    with pytest.raises(DomainError, match=r"all|nothing|finite"):
        qe.error_report(x, specs, nonfinite="ignore", backend=backend)


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_empty_tensors(shape, backend):
    with pytest.raises(DomainError, match="at least one sample"):
        qe.error_report(np.zeros(shape), {"bits": 8}, backend=backend)


@pytest.mark.parametrize(
    "x",
    [np.array([True]), [True, False], np.array([1j]), np.array([1.0, None], object), np.array(["1"]), None,
     np.array([1.0], np.longdouble), [[1.0], [1.0, 2.0]]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_tensor_of_reals(x, backend):
    for specs in ({"bits": 8}, {"range": (-1.0, 1.0)}):
        with pytest.raises(DTypeError, match="x must"):
            qe.error_report(x, specs, backend=backend)


def test_what_pieces_may_hold():
    for piece in (np.array([True, False]), np.array([1j, 2j]), np.array(["1", "2"])):
        with pytest.raises(DTypeError):
            qe.error_report(Pieces(piece, 1), {"range": (-1.0, 1.0)})


@pytest.mark.parametrize(
    ("specs", "kind", "text"),
    [
        ([], DomainError, "at least one"),
        (3, DTypeError, "specs"),
        ("int8", DTypeError, "specs"),
        ([3], DTypeError, r"specs\[0\]"),
        ([{"bits": 8}, {"bitz": 8}], DTypeError, r"specs\[1\].*bitz"),
        ({"bits": 1}, DomainError, "bits"),
        ({"bits": 17}, DomainError, "bits"),
        ({"bits": 8.0}, DTypeError, "bits"),
        ({"mode": "sym"}, UnknownNameError, "mode"),
        ({"method": "max"}, UnknownNameError, "method"),
        ({"rounding": "nearest"}, UnknownNameError, "rounding"),
        ({"convention": "onx"}, UnknownNameError, "convention"),
        ({"format": "fp8"}, UnknownNameError, "format"),
        ({"scale_dtype": "float16"}, UnknownNameError, "scale_dtype"),
        ({"range": (1.0, -1.0)}, DomainError, "lo must be below hi"),
        ({"range": (1.0, 1.0), "mode": "asymmetric"}, DomainError, "lo must be below hi"),
        ({"range": (0.0, 0.0)}, DomainError, "range"),
        ({"range": (math.nan, 1.0)}, DomainError, "finite"),
        ({"range": (-math.inf, 1.0)}, DomainError, "finite"),
        ({"range": (-1.0, 1.0), "axis": 0}, DomainError, "whole tensor"),
        ({"range": [-1.0, 1.0]}, DomainError, "tuple"),
        ({"range": (1.0, 2.0, 3.0)}, DomainError, "tuple"),
        ({"axis": 2}, DomainError, "axis"),
        ({"axis": 1, "group": 0}, DomainError, "group"),
        ({"percentile": 40.0, "method": "percentile"}, DomainError, "percentile"),
        ({"seed": -1, "rounding": "stochastic"}, DomainError, "seed"),
        ({"scale": 1.0}, DomainError, "formats"),
        ({"scale_rounding": "ceil"}, DomainError, "formats"),
        ({"params": (0.5, 0)}, DTypeError, "QuantParams"),
        ({"params": qe.QuantParams(0.5, 0, -8, 7), "format": "mxfp4"}, DomainError, "format"),
        ({"params": qe.QuantParams([0.5], 0, -8, 7, axis=0)}, DomainError, "channels"),
        ({"params": qe.QuantParams(0.5, 99, -8, 7), "convention": "onnx"}, DomainError, "zero point"),
        ({"params": qe.QuantParams(1e-300, 0, -8, 7), "convention": "onnx"}, DomainError, "float32"),
        ({"convention": "tensorrt", "mode": "asymmetric"}, DomainError, "tensorrt"),
    ],
    ids=repr,
)  # fmt: skip
def test_bad_specs(specs, kind, text, backend, rng):
    with pytest.raises(kind, match=text):
        qe.error_report(rng.normal(0.5, 1, (4, 6)), specs, backend=backend)


def test_the_spec_that_is_wrong_is_named(rng):
    x = rng.normal(0, 1, 10)
    with pytest.raises(DomainError, match=r"spec 1 \(int8 symmetric minmax channel\(axis 3\)\): axis"):
        qe.error_report(x, [{"bits": 8}, {"axis": 3}])


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_bad_threads(threads):
    with pytest.raises((DomainError, DTypeError), match="threads"):
        qe.error_report([1.0], {"bits": 8}, threads=threads)


def test_other_bad_arguments(backend):
    with pytest.raises((DomainError, UnknownNameError), match="nonfinite"):
        qe.error_report([1.0], {"bits": 8}, nonfinite="skip", backend=backend)
    for axis in (1, -2):
        with pytest.raises(DomainError, match="axis must be in"):
            qe.error_report([1.0], {"bits": 8}, axis=axis, backend=backend)
    for axis in ("0", 0.0, True):
        with pytest.raises(DTypeError, match="axis"):
            qe.error_report([1.0], {"bits": 8}, axis=axis, backend=backend)
    with pytest.raises(UnknownNameError):
        qe.error_report([1.0], {"bits": 8}, backend="gpu")


def test_a_back_end_that_cannot_serve(monkeypatch):
    monkeypatch.setattr(backends, "unavailable", lambda name: f"{name} is not here: get one.")
    monkeypatch.setattr(backends, "_serving", set())
    backends.load.cache_clear()
    with pytest.raises(BackendError, match="cuda is not here: get one"):
        qe.error_report([1.0], {"bits": 8}, backend="cuda")
