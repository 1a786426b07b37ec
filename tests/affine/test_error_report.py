"""error_report: channels, groups, other inputs, and its tables."""

import json
import math

import numpy as np
import pytest

import qengine as qe
from qengine.affine import measure
from qengine.affine.metrics import HIGHER_IS_BETTER, METRICS
from qengine.exceptions import UnknownNameError

from .reports import same_bits
from .test_metrics import check_counts, check_row, close, measured, metrics

F32 = np.float32


def test_the_length_of_a_tile_is_part_of_the_sums():
    """Another one would change last digits that are promised."""
    assert measure.TILE == 1 << 20


# --- channels -------------------------------------------------------------------------------------------------

CHANNEL_SPECS = [
    qe.QuantSpec(bits=8),
    qe.QuantSpec(bits=4, mode="asymmetric", method="percentile", percentile=95.0),
    qe.QuantSpec(bits=8, axis=0),
    qe.QuantSpec(bits=8, axis=-1, mode="asymmetric", convention="onnx"),
    qe.QuantSpec(bits=4, group=3, axis=-1),
    qe.QuantSpec(bits=6, rounding="stochastic", seed=2, axis=0),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(7,), (3, 5), (1, 9), (9, 1), (2, 3, 4), (3, 521), (521, 3), (3, 17, 11), (2, 3, 2, 5)]
)
def test_channels_against_the_oracle(shape, dtype, backend, rng):
    sizes = np.exp(rng.normal(0, 1, (shape[0], *[1] * (len(shape) - 1))))
    x = (rng.normal(0.1, 1, shape) * sizes).astype(dtype)
    found = {}
    for axis in range(-1, len(shape)):
        report = qe.error_report(x, CHANNEL_SPECS, axis=axis, backend=backend)
        assert (report.shape, report.axis) == (shape, axis % len(shape))
        for spec, row in zip(CHANNEL_SPECS, report.rows, strict=True):
            if spec not in found:
                found[spec] = measured(x, row.params, spec.convention, spec.rounding, spec.seed)
                check_row(row, metrics(x, found[spec][0], found[spec][2]))
                check_counts(row, x, *found[spec][:2])
            values, _, clipped = found[spec]
            parts = [np.moveaxis(np.reshape(a, shape), axis, 0) for a in (x, np.array(values, float), clipped)]
            e = (parts[0].astype(np.float64) - parts[1]).reshape(shape[axis], -1)
            np.testing.assert_allclose(row.channels.mse, (e**2).mean(axis=1), rtol=1e-9)
            np.testing.assert_array_equal(row.channels.clip_count, np.reshape(parts[2], e.shape).sum(axis=1))
            many = (0, 1, 7, 8, 63, 64, 510, 511, 512, 513, *rng.integers(0, shape[axis], 10).tolist(), shape[axis] - 1)
            for c in range(shape[axis]) if shape[axis] <= 20 else sorted({*many}):
                want = metrics(*(np.ravel(part[c]) for part in parts))
                for name, value in want.items():
                    if name != "variants":
                        close(np.asarray(getattr(row.channels, name))[c].item(), value, name)
            assert row.channels.clip_count.dtype == np.int64
            assert row.channels.clip_count.sum() == row.clip_count


def test_channels_equal_reports_of_their_slices(backend, rng):
    x = rng.normal(0, 1, (5, 40, 33)).astype(F32)
    p = qe.QuantParams(0.02, 3, -100, 100)
    for axis in range(3):
        row = qe.error_report(x, p, axis=axis, backend=backend).rows[0]
        for c in range(x.shape[axis]):
            alone = qe.error_report(np.take(x, c, axis=axis), p, backend=backend).rows[0]
            for name in METRICS:
                close(np.asarray(getattr(row.channels, name))[c].item(), getattr(alone, name), name)
        assert row.channels.low.tolist() == np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).min(axis=1).tolist()
        assert row.channels.high.tolist() == np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).max(axis=1).tolist()
    assert qe.error_report(x, p, backend=backend).rows[0].channels is None


def test_a_constant_channel_among_others(backend):
    x = np.array([[0.0] * 9, [1.0] * 9, [0.3] * 9])
    row = qe.error_report(x, qe.QuantSpec(params=qe.QuantParams(0.5, 0, -8, 7)), axis=0, backend=backend).rows[0]
    assert row.channels.sqnr.tolist()[:2] == [math.inf, math.inf]
    assert row.channels.cosine.tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert row.channels.variants["ppq-snr"].tolist()[:2] == [0.0, 0.0]
    json.dumps(row.to_dict(), allow_nan=False)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("group", [1, 3, 8, 100])
def test_groups_along_every_axis(axis, group, backend, rng):
    """Groups along another axis than the last see the tensor with that axis moved; the metrics stay where they are."""
    x = rng.normal(0, 1, (6, 11, 10)).astype(F32)
    specs = [
        qe.QuantSpec(bits=4, axis=axis, group=group),
        qe.QuantSpec(bits=8, axis=axis, group=group, mode="asymmetric", convention="xnnpack"),
        qe.QuantSpec(bits=4, axis=axis, group=group, rounding="stochastic"),
        qe.QuantSpec(bits=8),
    ]
    for channel_axis in (None, 0, 1, 2):
        report = qe.error_report(x, specs, axis=channel_axis, backend=backend)
        for row in report.rows:
            p = row.params
            q = qe.quantize(x, p, convention=row.spec.convention, rounding=row.spec.rounding, backend="reference")
            e = x - qe.dequantize(q, p, convention=row.spec.convention, backend="reference").astype(np.float64)
            np.testing.assert_array_equal(
                row.code_counts, np.bincount(q.reshape(-1).astype(int) - p.qmin, minlength=p.levels)
            )
            close(row.mse, float(np.mean(e**2)), "mse", 1e-18)
            close(row.bias, math.fsum(e.reshape(-1).tolist()) / e.size, "bias", 1e-18)
            if channel_axis is not None:
                others = tuple(k for k in range(3) if k != channel_axis)
                np.testing.assert_allclose(row.channels.mse, np.mean(e**2, axis=others), rtol=1e-12)
                np.testing.assert_array_equal(row.channels.low, x.min(axis=others))


def test_a_group_without_an_axis_runs_along_the_last(rng):
    x = rng.normal(0, 1, (3, 10))
    a, b = qe.error_report(x, [qe.QuantSpec(group=4), qe.QuantSpec(group=4, axis=1)]).rows
    same_bits(a, b)
    assert a.params.group == 4


# --- other inputs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f2", ">f4", ">f8", "i1", "<u2", "<i4", "<i8"])
def test_other_dtypes(dtype, backend, rng):
    x = np.abs(rng.normal(0, 30, (20, 60))).clip(0, 120).astype(dtype)
    native = x.astype(F32 if np.dtype(dtype) in (np.dtype("<f2"), np.dtype(">f4")) else np.float64)
    specs = [{"bits": 4}, {"bits": 8, "convention": "onnx"}]
    for a, b in zip(
        qe.error_report(x, specs, backend=backend).rows,
        qe.error_report(native, specs, backend=backend).rows,
        strict=True,
    ):
        same_bits(a, b)


def test_inputs_of_other_kinds(backend):
    p = qe.QuantParams(0.5, 0, -8, 7)
    (row,) = qe.error_report(1.3, p, backend=backend).rows
    assert (row.count, row.max_abs) == (1, 1.5 - 1.3)
    (row,) = qe.error_report([[1, 2], [3, 90]], p, backend=backend).rows
    assert (row.count, row.clip_count, row.max_abs) == (4, 1, 86.5)
    raw = np.zeros(8 * 100 + 1, np.uint8)
    unaligned = raw[1:].view(np.float64)
    unaligned[:] = np.linspace(-3, 3, 100)
    assert not unaligned.flags.aligned
    same_bits(
        qe.error_report(unaligned, p, backend=backend).rows[0],
        qe.error_report(unaligned.copy(), p, backend=backend).rows[0],
    )
    ml_dtypes = pytest.importorskip("ml_dtypes")
    narrow = np.linspace(-3, 3, 100).astype(ml_dtypes.bfloat16)
    wide = narrow.astype(F32)
    same_bits(qe.error_report(narrow, p, backend=backend).rows[0], qe.error_report(wide, p, backend=backend).rows[0])


# --- the table ------------------------------------------------------------------------------------------------


def test_best_and_ranked(backend, rng):
    x = rng.normal(0, 1, 2000)
    report = qe.error_report(
        x, qe.QuantSpec.grid(bits=[4, 8, 2, 16], mode=["symmetric", "asymmetric"]), backend=backend
    )
    assert report.best() is report.best("sqnr") is report.ranked()[0]
    for metric, more in HIGHER_IS_BETTER.items():
        numbers = [
            abs(getattr(row, metric)) if metric == "bias" else getattr(row, metric) for row in report.ranked(metric)
        ]
        assert numbers == sorted(numbers, reverse=more)
        assert set(report.ranked(metric)) == set(report.rows)
        assert report.best(metric) is report.ranked(metric)[0]
    assert report.best("sqnr").spec.bits == 16
    twice = qe.error_report(x, [{"bits": 8}, {"bits": 8, "name": "again"}], backend=backend)
    assert twice.best("mse") is twice.rows[0]
    for metric in ("snr", "clip", "", None):
        with pytest.raises(UnknownNameError, match="metric"):
            report.best(metric)


def test_the_bias_is_ranked_by_its_size(backend):
    """Of 0.3, 0.3, -0.2, 0.4: means of x - ceil(x), x - floor(x), x - 0."""
    p = qe.QuantParams(1.0, 0, -8, 7)
    specs = [qe.QuantSpec(params=p, rounding=rule) for rule in ("ceil", "floor", "half-even")]
    report = qe.error_report([0.3, 0.3, -0.2, 0.4], specs, backend=backend)
    assert [round(row.bias, 12) for row in report.rows] == [-0.55, 0.45, 0.2]
    assert [row.spec.rounding for row in report.ranked("bias")] == ["half-even", "floor", "ceil"]


@pytest.mark.parametrize(
    "x", [np.linspace(-3, 3, 60), np.zeros(60), np.ones(60), np.full(60, 1e-30)], ids=["line", "0", "1", "1e-30"]
)
def test_to_dict_is_json(x, backend):
    specs = [
        {"bits": 8},
        {"bits": 4, "mode": "asymmetric", "axis": 1, "convention": "onnx"},
        {"group": 4, "bits": 4},
        {"format": "mxfp4"},
        {"range": (-1.0, 2.0), "rounding": "stochastic"},
        {"params": qe.QuantParams(0.5, -1, -8, 7), "name": "mine"},
    ]
    for axis in (None, 0):
        report = qe.error_report(x.reshape(6, 10), specs, axis=axis, backend=backend)
        data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert data["shape"] == [6, 10]
        assert data["axis"] == axis
        assert [row["spec"]["label"] for row in data["rows"]] == [row.label for row in report.rows]
        assert set(data["best"]) == set(HIGHER_IS_BETTER)
        for row, item in zip(report.rows, data["rows"], strict=True):
            for name in METRICS:
                number = getattr(row, name)
                assert item[name] == (number if math.isfinite(number) else None)
            assert (item["entropy"], item["codes_used"]) == (row.entropy, row.codes_used)
            assert ("channels" in item) == (axis is not None)
            if axis is not None:
                assert len(item["channels"]["mse"]) == 6


def test_str_shows_every_row(backend):
    specs = qe.QuantSpec.grid(bits=[4, 8])
    text = str(qe.error_report(np.linspace(-3, 3, 60), specs, backend=backend))
    for spec in specs:
        assert spec.label in text


def test_default_back_end(rng):
    x = rng.normal(0, 1, 3000)
    same_bits(qe.error_report(x, {"bits": 8}).rows[0], qe.error_report(x, {"bits": 8}, backend="cpu").rows[0])
    with qe.use_backend("reference"):
        same_bits(qe.error_report(x, {"bits": 8}).rows[0], qe.error_report(x, {"bits": 8}, backend="reference").rows[0])
