"""What the tests of error_report share: tensors in pieces, and what it means that two rows are the same."""

import itertools

import numpy as np
import pytest

import qengine as qe
from qengine.affine import measure
from qengine.affine.metrics import METRICS

from .test_metrics import close

#: Tiles of the tests: of the real length they would be the same but longer.
TILE = 1 << 15
SUMS = (
    "count", "clip_count", "sum_e2_inside", "sum_e2_clipped", "sum_abs", "max_abs", "sum_e", "sum_x2", "sum_value2",
    "sum_cross", "low", "high",
)  # fmt: skip


class Pieces:
    """A tensor that is read in pieces of given lengths, the last one repeated."""

    def __init__(self, x, *lengths):
        self.x, self.shape, self.lengths = x, x.shape, lengths
        self.reads = 0

    def chunks(self, elements=1 << 20):
        self.reads += 1
        flat = self.x.reshape(-1)
        lengths = itertools.chain(self.lengths, itertools.repeat(self.lengths[-1]))
        start = 0
        while start < flat.size:
            stop = start + next(lengths)
            yield flat[start:stop]
            start = stop


def same_bits(a, b):
    """Every number of two rows, and of their channels, is the same float."""
    for name in SUMS:
        assert getattr(a.tensor, name) == getattr(b.tensor, name), name
        if a.channels is not None or b.channels is not None:
            np.testing.assert_array_equal(getattr(a.channels, name), getattr(b.channels, name), err_msg=name)
    assert a.params == b.params
    np.testing.assert_array_equal(a.code_counts, b.code_counts)
    np.testing.assert_array_equal(a.error_counts, b.error_counts)


def same_counts(a, b):
    np.testing.assert_array_equal(a.code_counts, b.code_counts)
    np.testing.assert_array_equal(a.error_counts, b.error_counts)
    assert (a.count, a.clip_count) == (b.count, b.clip_count)


def alike(a, b, noise=0.0):
    """Counts are equal, metrics to one part in 10**12."""
    same_counts(a, b)
    for name in METRICS:
        close(getattr(a, name), getattr(b, name), name, noise if name == "bias" else 0.0)
    if a.channels is not None:
        np.testing.assert_array_equal(a.channels.clip_count, b.channels.clip_count)
        for name in METRICS:
            x, y = np.broadcast_arrays(getattr(a.channels, name), getattr(b.channels, name))
            for u, v in zip(x.tolist(), y.tolist(), strict=True):
                close(u, v, name, noise if name == "bias" else 0.0)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Many tiles in little memory."""
    monkeypatch.setattr(measure, "TILE", TILE)


#: One of every kind that sums in its own way.
BIT_SPECS = [
    qe.QuantSpec(bits=8),
    qe.QuantSpec(bits=4, mode="asymmetric", signed=False),
    qe.QuantSpec(bits=8, convention="xnnpack", mode="asymmetric"),
    qe.QuantSpec(params=qe.QuantParams(0.003, 0, -128, 127), name="clips"),
    qe.QuantSpec(bits=3, rounding="stochastic", seed=4),
    qe.QuantSpec(format="e4m3fn"),
    qe.QuantSpec(format="mxfp4"),
]
LENGTH = 3 * TILE + 17


@pytest.fixture(scope="module")
def long():
    x = np.random.default_rng(8).normal(0.01, 1, LENGTH)
    x[12345], x[TILE - 1], x[2 * TILE] = 7.0, -8.5, 0.25
    return x
