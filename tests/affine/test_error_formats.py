"""error_report of number formats: elements under scales, casts, blocks."""

import itertools
import math

import numpy as np
import pytest

import qengine as qe
from qengine.affine.blocks import decode, encode, quantize_blocks
from qengine.exceptions import DomainError, DTypeError

from .reports import alike
from .test_metrics import close, error_bins, metrics

F32 = np.float32


def check_format(row, x, codes, values, levels):
    """Compare with codes and values that were found the long way."""
    np.testing.assert_array_equal(row.code_counts, np.bincount(codes.reshape(-1), minlength=levels))
    x, values = x.astype(np.float64).reshape(-1), values.astype(np.float64).reshape(-1)
    e = x - values
    np.testing.assert_array_equal(row.error_counts, error_bins(e, row.error_edges))
    want = metrics(x, values, np.zeros(x.size, bool))
    for name in ("count", "mse", "rmse", "mae", "max_abs", "bias", "sqnr", "psnr", "cosine"):
        close(getattr(row, name), want[name], name, 2.0**-53 * want["mae"] if name == "bias" else 0.0)


BLOCK_FORMATS = ("mxfp8", "mxfp8-e5m2", "mxfp6", "mxfp6-e2m3", "mxfp4", "mxint8", "nvfp4", "nf4")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_block_formats(name, dtype, backend, rng):
    x = (rng.normal(0, 1, (6, 7, 45)) * np.exp(rng.normal(0, 2, (6, 7, 1)))).astype(dtype)
    x[0, 0], x[1, 1, :5] = 0, -0.0
    row = qe.get_format(name)
    for axis, group in itertools.product((None, 0, 1, 2, -1), (None, 1, 5, 8)):
        spec = qe.QuantSpec(format=name, axis=axis, group=group)
        report = qe.error_report(x, spec, backend=backend)
        form = row if group is None else qe.get_format(row, block=group)
        tensor = quantize_blocks(x, form, axis=-1 if axis is None else axis, backend="reference")
        exact = np.float64 if form.scale == "e8m0" else np.float32
        check_format(report.rows[0], x, tensor.codes, tensor.dequantize(exact), row.element.levels)
        assert report.rows[0].params is None


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8", "mxint8"])
@pytest.mark.parametrize("scale_rounding", ["floor", "ceil", "even", "rceil"])
def test_scale_rounding_of_formats(name, scale_rounding, backend, rng):
    x = rng.normal(0, 1, (5, 96)).astype(F32)
    for rounding in (None, "half-away", "trunc"):
        spec = qe.QuantSpec(format=name, scale_rounding=scale_rounding, rounding=rounding)
        row = qe.error_report(x, spec, backend=backend).rows[0]
        tensor = quantize_blocks(x, name, scale_rounding=scale_rounding, rounding=rounding, backend="reference")
        check_format(row, x, tensor.codes, tensor.dequantize(np.float64), tensor.format.element.levels)


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e3m2", "e2m3", "e2m1"])
def test_scaled_elements(name, backend, rng):
    x = rng.normal(0, 1, (4, 50)).astype(F32)
    largest = F32(qe.get_format(name).element.largest)
    levels = qe.get_format(name).element.levels
    amax = {
        (None, None): np.abs(x).max(),
        (0, None): np.abs(x).max(axis=1, keepdims=True),
        (1, None): np.abs(x).max(axis=0, keepdims=True),
        (1, 10): np.repeat(np.abs(x).reshape(4, 5, 10).max(axis=2), 10, axis=1),
        (0, 2): np.repeat(np.abs(x).reshape(2, 2, 50).max(axis=1), 2, axis=0),
    }
    for (axis, group), largest_x in amax.items():
        scale = (largest_x / largest).astype(F32)
        row = qe.error_report(x, qe.QuantSpec(format=name, axis=axis, group=group), backend=backend).rows[0]
        codes = encode(x.astype(np.float64) / scale.astype(np.float64), name, backend="reference")
        check_format(row, x, codes, decode(codes, name) * scale, levels)
    # A given scale, and one that follows from a range.
    for spec, scale in (({"scale": 1.0}, F32(1)), ({"range": (-0.5, 2.0)}, F32(2) / largest)):
        row = qe.error_report(x, qe.QuantSpec(format=name, **spec), backend=backend).rows[0]
        codes = encode(x.astype(np.float64) / np.float64(scale), name, backend="reference")
        check_format(row, x, codes, decode(codes, name) * scale, levels)


def test_a_plain_cast_counts_what_saturates(backend):
    x = np.array([0.0, 447.0, 448.0, 463.9, 464.0, 464.1, 1e6, -1e6])
    row = qe.error_report(x, qe.QuantSpec(format="e4m3fn", scale=1.0), backend=backend).rows[0]
    assert row.clip_count == 3
    assert row.code_counts[0x7E] == 6
    close(row.mse_clipping, ((464.1 - 448) ** 2 + 2 * (1e6 - 448) ** 2) / 8, "mse_clipping")


@pytest.mark.parametrize(("name", "overflow"), [("e4m3fn", "nan"), ("e5m2", "ieee")])
@pytest.mark.parametrize("histograms", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_overflow_to_nan_or_infinity_is_counted_and_left_out(name, overflow, histograms, axis, backend):
    """Where a code stands for no number there is no error: all else is as if the sample were not there."""
    spec = qe.QuantSpec(format=name, scale=1.0, overflow=overflow)
    x = np.array([[1.02, 1e6, -3.3], [2.25, 0.7, -1e6]] * 700)
    fine = qe.error_report(x[np.abs(x) < 1e5], spec, histograms=histograms, backend=backend).rows[0]
    row = qe.error_report(x, spec, axis=axis, histograms=histograms, backend=backend).rows[0]
    assert (row.count, row.overflow_count, row.clip_count) == (fine.count, 1400, 0) == (2800, 1400, 0)
    for metric in ("mse", "mae", "max_abs", "bias", "sqnr", "cosine"):
        close(getattr(row, metric), getattr(fine, metric), metric)
    if histograms:
        assert (row.code_counts == fine.code_counts).all()
        assert (row.error_counts == fine.error_counts).all()
    if axis == 1:
        assert row.channels.overflow_count.tolist() == [0, 700, 700]
        assert row.channels.count.tolist() == [1400, 700, 700]
    with pytest.raises(DomainError, match="every sample overflows"):
        qe.error_report([1e6, -1e7], spec, histograms=histograms, backend=backend)


def test_a_channel_that_overflows_as_a_whole_has_no_metrics(backend):
    spec = qe.QuantSpec(format="e4m3fn", scale=1.0, overflow="nan")
    row = qe.error_report([[1.02, 2.0], [1e6, 1e7]], spec, axis=0, backend=backend).rows[0]
    assert row.channels.count.tolist() == [2, 0]
    assert np.isnan(row.channels.mse).tolist() == [False, True]
    assert row.to_dict()["channels"]["mse"][1] is None


def test_formats_beside_integers_and_across_back_ends(other_backend, rng):
    x = rng.normal(0, 1, (30, 700)).astype(F32)
    specs = [
        *(qe.QuantSpec(format=name) for name in (*BLOCK_FORMATS, "e4m3fn", "e5m2", "e2m1")),
        qe.QuantSpec(bits=4, group=32),
        qe.QuantSpec(format="e4m3fn", axis=0),
        qe.QuantSpec(format="nvfp4", axis=0),
    ]
    ours, theirs = (qe.error_report(x, specs, axis=0, backend=name) for name in ("reference", other_backend))
    for a, b in zip(ours.rows, theirs.rows, strict=True):
        alike(b, a)


def test_formats_with_fields_that_they_cannot_have(backend):
    x = np.ones((4, 4))
    cases = [
        ({"format": "mxfp4", "scale": 1.0}, "scale"),
        ({"format": "mxfp4", "range": (-1.0, 1.0)}, "range"),
        ({"format": "e4m3fn", "scale": 1.0, "axis": 0}, "scale"),
        ({"format": "e4m3fn", "scale": 1.0, "range": (-1.0, 1.0)}, "exclude"),
        ({"format": "e4m3fn", "scale": 0.0}, "positive"),
        ({"format": "e4m3fn", "scale": math.nan}, "positive"),
        ({"format": "e4m3fn", "method": "mse"}, "minmax"),
        ({"format": "mxfp4", "rounding": "stochastic"}, "deterministic"),
        ({"format": "mxfp4", "overflow": "nan"}, "saturate"),
        ({"format": "nvfp4", "scale_rounding": "ceil"}, "E8M0"),
        ({"format": "mxfp4", "group": 0}, "at least 1"),
        ({"format": "e4m3fn", "range": (2.0, 1.0)}, "lo"),
        ({"format": "e4m3fn", "range": (math.nan, 1.0)}, "finite"),
    ]
    for fields, text in cases:
        with pytest.raises(DomainError, match=text):
            qe.error_report(x, fields, backend=backend)
    with pytest.raises(DomainError, match="axis"):
        qe.error_report(1.5, {"format": "mxfp4"}, backend=backend)
    with pytest.raises(DTypeError, match="scale"):
        qe.error_report(x, {"format": "e4m3fn", "scale": "1"}, backend=backend)
