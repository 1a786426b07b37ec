"""Single samples: the public functions give the same codes and values, and their sums are the report's."""

from __future__ import annotations

import math

import numpy as np
import pytest

import qengine as qe
from qengine.report.formulas import metric_lines, parameter_lines, setting_lines, worked_lines
from qengine.report.samples import Tracer, sample_table
from qengine.report.terminal import to_text
from tests.report.test_tables import WORKED, source

SPECS = [
    qe.QuantSpec(range=(-1.5, 1.5)),
    qe.QuantSpec(bits=4, mode="asymmetric", signed=False),
    qe.QuantSpec(bits=4, range=(-0.5, 0.5)),
    qe.QuantSpec(convention="onnx", mode="asymmetric"),
    qe.QuantSpec(convention="torch", bits=5, mode="asymmetric"),
    qe.QuantSpec(convention="tflite-opt-arm", rounding="floor"),
    qe.QuantSpec(axis=1, bits=4, mode="asymmetric"),
    qe.QuantSpec(group=3, bits=4),
    qe.QuantSpec(axis=0, group=2, bits=3, mode="asymmetric"),
    qe.QuantSpec(rounding="stochastic", seed=11, bits=3),
    qe.QuantSpec(axis=0, group=2, rounding="stochastic", seed=11, bits=3),
    qe.QuantSpec(params=qe.QuantParams(0.25, 3, -8, 7)),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_of_integers(spec: qe.QuantSpec, dtype: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 7, 3)).astype(dtype)
    report = qe.error_report(x, spec)
    row = report.rows[0]
    found = Tracer(x, row).samples(1000)
    options = {"convention": spec.convention}
    codes = qe.quantize(x, row.params, rounding=spec.rounding, seed=spec.seed, **options)
    values = qe.dequantize(codes, row.params, **options).astype(np.float64)
    assert np.array_equal(found.code, codes.reshape(-1))
    assert np.array_equal(found.value, values.reshape(-1))
    assert np.array_equal(found.x, x.reshape(-1))
    assert np.array_equal(found.error, found.x - found.value)
    assert int(found.clipped.sum()) == row.clip_count
    assert math.fsum(found.error**2) / x.size == pytest.approx(row.mse, rel=1e-9)
    clamped = np.clip(found.rounded, row.params.qmin, row.params.qmax)
    assert np.array_equal(clamped, found.code)
    assert np.array_equal(clamped != found.rounded, found.clipped)


@pytest.mark.parametrize("name", [row.name for row in qe.formats()])
@pytest.mark.parametrize("axis", [0, 1])
def test_samples_of_formats(name: str, axis: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=(40, 33)).astype(np.float32)
    form = qe.get_format(name)
    spec = qe.QuantSpec(format=name, axis=axis if form.block else None)
    row = qe.error_report(x, spec).rows[0]
    found = Tracer(x, row).samples(10_000)
    if form.block:
        tensor = qe.quantize_blocks(x, name, axis=axis)
        codes, values = tensor.codes, tensor.dequantize()
        assert np.array_equal(found.code, codes.reshape(-1))
        assert np.array_equal(found.value, values.reshape(-1))
    assert math.fsum(found.error**2) / x.size == pytest.approx(row.mse, rel=1e-9)
    assert int(found.clipped.sum()) == row.clip_count


def test_evenly_spaced_samples_of_a_larger_tensor(rng: np.random.Generator) -> None:
    x = rng.normal(size=(100, 100))
    x[3, 3] = np.nan
    row = qe.error_report(x, qe.QuantSpec(axis=1), nonfinite="ignore").rows[0]
    found = Tracer(x, row).samples(200)
    assert found.index.size == 200
    assert found.index[0] == 0
    assert found.index[-1] == 9999
    assert np.array_equal(found.x, x.reshape(-1)[found.index])
    every = Tracer(x, row).samples(10_000)
    assert every.index.size == 9999
    assert 303 not in every.index
    assert np.array_equal(found.code, every.code[np.isin(every.index, found.index)])


@pytest.mark.parametrize("spec", [qe.QuantSpec(), qe.QuantSpec(format="e4m3fn"), qe.QuantSpec(method="mse", bits=4)])
def test_a_tensor_in_pieces_has_the_same_samples(spec: qe.QuantSpec, rng: np.random.Generator) -> None:
    x = rng.normal(size=5000).astype(np.float32)
    whole = qe.error_report(x, spec).rows[0]
    pieces = source("w", x)
    row = qe.error_report(pieces, qe.QuantSpec(params=whole.params) if whole.params else spec).rows[0]
    a, b = Tracer(x, whole).samples(100), Tracer(pieces, row).samples(100)
    assert np.array_equal(a.code, b.code)
    assert np.array_equal(a.value, b.value)


def test_the_worked_example() -> None:
    row = qe.error_report(WORKED, qe.QuantSpec(range=(-1.5, 1.5))).rows[0]
    found = Tracer(np.array(WORKED), row).samples(64)
    assert found.code.tolist() == [-106, -78, -43, -8, 0, 12, 31, 67, 95, 124]
    text = to_text(sample_table(found))
    for figure in ("-105.833333", "-1.2519685", "0.001969", "1.46456693", "-0.004567"):
        assert figure in text
    assert found.to_list()[9] == {
        "index": 9, "x": 1.46, "scaled": float(found.scaled[9]), "rounded": 124.0, "code": 124,
        "value": float(found.value[9]), "error": float(found.error[9]), "clipped": False,
    }  # fmt: skip
    lines = [" | ".join(line) for line in (*setting_lines(row), *parameter_lines(row), *metric_lines(row))]
    joined = "\n".join([*lines, *(" | ".join(line) for line in worked_lines(row, found))])
    for text in (
        "scale | 0.011811023622047244 | max(|lo|, |hi|) / qmax = max(|-1.5|, |1.5|) / 127",
        "10 log10(6.8456 / 8.50889702e-05)",
        "half-even; clamped to [-128, 127]",
        "(q - z) * scale = (-106 - 0) * 0.0118110236",
        "x - value = -1.25 - (-1.2519685)",
    ):
        assert text in joined


def test_what_is_near_a_tie_does_not_look_like_one() -> None:
    below = math.nextafter(0.5, 0.0)
    row = qe.error_report([below, 0.5], qe.QuantParams(1.0, 0, -8, 7)).rows[0]
    text = to_text(sample_table(Tracer(np.array([below, 0.5]), row).samples(8)))
    assert repr(below) in text


def test_clipped_samples_say_from_where() -> None:
    row = qe.error_report([9.0, -0.5], qe.QuantParams(0.5, 0, -8, 7)).rows[0]
    text = to_text(sample_table(Tracer(np.array([9.0, -0.5]), row).samples(8)))
    assert "from 18" in text


@pytest.mark.parametrize(
    ("spec", "formula"),
    [
        (qe.QuantSpec(mode="asymmetric"), "(hi - lo) / (qmax - qmin) = (1.46 - (-1.25)) / (127 - (-128))"),
        (qe.QuantSpec(mode="asymmetric"), "rint(qmin - lo / scale) = rint(-128 - (-1.25) / 0.010627451)"),
        (qe.QuantSpec(method="mse"), "the range found by mse"),
        (qe.QuantSpec(params=qe.QuantParams(0.5, 0, -8, 7)), "given"),
    ],
)
def test_formulas_are_filled_in(spec: qe.QuantSpec, formula: str) -> None:
    row = qe.error_report(WORKED, spec).rows[0]
    assert any(formula in line.formula for line in parameter_lines(row))


def test_a_formula_is_filled_in_only_with_what_it_gives() -> None:
    """Conventions of runtimes widen the range to hold 0: then the formula has 0 in it."""
    row = qe.error_report([1.0, 2.0], qe.QuantSpec(mode="asymmetric", convention="onnx")).rows[0]
    assert "(2.0 - 0.0) / (127 - (-128))" in next(iter(parameter_lines(row))).formula
