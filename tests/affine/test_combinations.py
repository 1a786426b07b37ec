"""Many choices at once: what cannot be is left out with its reason, and the rest is measured as alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import qengine as qe
from qengine.affine import combinations
from qengine.affine.combinations import bits_curve, report_possible
from qengine.models.source import TensorSource


def in_pieces(x: np.ndarray) -> TensorSource:
    def pieces(n: int):  # type: ignore[no-untyped-def]
        return iter([x.reshape(-1)[k : k + n] for k in range(0, x.size, n)])

    return TensorSource("w", x.shape, x.dtype.name, x.dtype.name, pieces)


def test_what_cannot_be_is_left_out(rng: np.random.Generator) -> None:
    x = rng.normal(size=(20, 6))
    specs = (
        *qe.QuantSpec.grid(bits=(8, 12), method=("minmax", "entropy"), signed=False, narrow=True,
                           mode=("symmetric", "asymmetric")),
        qe.QuantSpec(format="mxfp4"),
        qe.QuantSpec(format="mxfp4", rounding="stochastic"),
        qe.QuantSpec(group=4, method="entropy"),
        qe.QuantSpec(range=(-1.0, 1.0), axis=0),
        qe.QuantSpec(axis=2),
        qe.QuantSpec(mode="asymmetric", convention="tensorrt"),
    )  # fmt: skip
    report, left_out = report_possible(x, specs)
    assert [row.label for row in report.rows] == [
        "uint8 narrow asymmetric minmax", "uint8 narrow asymmetric entropy", "uint12 narrow asymmetric minmax", "mxfp4",
    ]  # fmt: skip
    reasons = {item.spec.label: item.reason for item in left_out}
    assert len(report.rows) + len(left_out) == len(specs)
    assert "narrow must be False" in reasons["uint8 narrow symmetric minmax"]
    assert "entropy needs fewer than 2048 levels" in reasons["uint12 narrow asymmetric entropy"]
    assert "must be deterministic" in reasons["mxfp4 stochastic"]
    assert "not for groups" in reasons["int8 symmetric entropy group 4"]
    assert "axis must be in [-2, 1]" in reasons["int8 symmetric minmax channel(axis 2)"]
    assert "demands zero point 0" in reasons["int8 asymmetric minmax tensorrt"]
    for row in report.rows:
        assert row.mse == qe.error_report(x, row.spec).rows[0].mse


def test_what_depends_on_the_values_is_asked_of_all_of_them() -> None:
    """Of the first samples the zero point would be 0, of all of them it is not; and the other way round."""
    specs = [qe.QuantSpec(mode="asymmetric", signed=False, convention="tensorrt"), qe.QuantSpec()]
    positive = np.linspace(0.0, 1.0, 100)
    report, left_out = report_possible(np.append(positive, -1.0), specs)
    assert (len(report.rows), len(left_out)) == (1, 1)
    report, left_out = report_possible(positive, specs)
    assert (len(report.rows), len(left_out)) == (2, 0)


@pytest.mark.parametrize("limit", [1, 300, 1 << 21])
def test_batches_do_not_matter(limit: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    x = rng.normal(size=999)
    specs = qe.QuantSpec.grid(bits=range(2, 9), mode=("symmetric", "asymmetric"))
    monkeypatch.setattr(combinations, "BATCH_CODES", limit)
    done: list[tuple[int, int]] = []
    report, _ = report_possible(x, specs, progress=lambda *pair: done.append(pair))
    assert [row.spec for row in report.rows] == list(specs)
    plain = qe.error_report(x, specs)
    assert [row.sqnr for row in report.rows] == [row.sqnr for row in plain.rows]
    assert done[-1][0] == done[-1][1]
    assert [pair[0] for pair in done] == sorted(pair[0] for pair in done)


def test_a_tensor_in_pieces(rng: np.random.Generator) -> None:
    x = rng.normal(size=(30, 100)).astype(np.float32)
    specs = [qe.QuantSpec(axis=0, method="mse"), qe.QuantSpec(), qe.QuantSpec(axis=1)]
    report, left_out = report_possible(in_pieces(x), specs)
    assert [row.spec for row in report.rows] == specs[1:]
    assert "needs the tensor in memory" in left_out[0].reason


@pytest.mark.parametrize("x", [[np.nan, 1.0], [1.0] * 50 + [np.inf]])
def test_a_tensor_that_is_refused(x: list[float]) -> None:
    for specs in (qe.QuantSpec.grid(bits=(4, 8)), qe.QuantSpec.grid(bits=(4, 8), range=(-1.0, 1.0))):
        with pytest.raises(qe.DomainError, match=r"^x must be finite; got 1 "):
            report_possible(np.array(x), specs)
        report, _ = report_possible(np.array(x), specs, nonfinite="ignore")
        assert report.nonfinite == 1


def test_no_sample_and_no_choice() -> None:
    with pytest.raises(qe.DomainError, match="at least one sample"):
        report_possible(np.zeros((0, 3)), [qe.QuantSpec()])
    with pytest.raises(qe.DomainError, match=r"none of the 2 choices is possible; the first, uint4 narrow symmetric"):
        report_possible(np.ones(3), qe.QuantSpec.grid(bits=(4, 8), signed=False, narrow=True))
    with pytest.raises(qe.DomainError, match="axis must be in"):
        report_possible(np.ones(3), qe.QuantSpec.grid(bits=(4, 8)), axis=1)


def test_errors_whose_squares_leave_float64_are_left_out() -> None:
    x = np.array([1e-150, -3e-150, 2e-150])
    report, left_out = report_possible(x, qe.QuantSpec.grid(bits=(4, 16)))
    assert [row.spec.bits for row in report.rows] + [item.spec.bits for item in left_out] == [4, 16]


def test_bits_curve(rng: np.random.Generator) -> None:
    x = rng.normal(size=5000)
    curve = bits_curve(x, qe.QuantSpec(bits=3, mode="asymmetric", name="mine"))
    assert [bits for bits, _ in curve] == list(range(2, 17))
    assert dict(curve)[3] == qe.error_report(x, qe.QuantSpec(bits=3, mode="asymmetric")).rows[0].sqnr
    assert [bits for bits, _ in bits_curve(x, qe.QuantSpec(method="entropy"))] == list(range(2, 12))


class Enough(Exception):
    """What a caller ends the work with."""


def test_progress_ends_the_search_of_ranges(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 50))
    spec = qe.QuantSpec(mode="asymmetric", method="mse", axis=0)
    told: list[tuple[int, int]] = []

    def thrice(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 3:
            raise Enough

    def one(x: np.ndarray, spec: qe.QuantSpec, progress: Callable[[int, int], None]) -> None:
        report_possible(x, [spec], progress=progress)

    for measure in (qe.error_report, bits_curve, one):
        told.clear()
        with pytest.raises(Enough):
            measure(x, spec, progress=thrice)
        assert told == [(0, told[0][1])] * 3  # nothing was measured yet
