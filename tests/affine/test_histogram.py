"""Histograms that merge exactly: cells, splits and orders, channels, storage, refusals."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qengine.affine.calibrate import choose_qparams
from qengine.affine.histogram import Histogram
from qengine.exceptions import DomainError, DTypeError


def key(x: float, bits: int) -> float:
    """Return the cell's value of a float32: to nearest, ties away, at `bits` bits after the leading one."""
    if x == 0:
        return 0.0
    exponent = max(math.frexp(x)[1] - 1, -126)
    step = Fraction(2) ** (exponent - bits)
    return float(math.copysign(1, x) * math.floor(abs(Fraction(x)) / step + Fraction(1, 2)) * step)


@pytest.mark.parametrize("bits", [3, 7, 11])
def test_cells_round_to_nearest(bits: int, backend: str, rng: np.random.Generator) -> None:
    x = (rng.standard_normal(500) * 2.0 ** rng.integers(-140, 120, 500)).astype(np.float32)
    x = np.concatenate(
        [x, np.float32([0.0, -0.0, 1.0, -1.0, 255.0, 1 + 2.0 ** -(bits + 1), -1 - 2.0 ** -(bits + 1), 1e-45])]
    )
    h = Histogram(mantissa_bits=bits).update(x, backend=backend)
    values, counts = h.weighted()
    wanted = Counter(min(max(key(float(v), bits), float(x.min())), float(x.max())) for v in x)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == dict(wanted)
    assert (h.count, h.min, h.max, h.amax) == (x.size, float(x.min()), float(x.max()), float(abs(x).max()))


def test_the_largest_floats_have_a_cell(backend: str) -> None:
    big = np.finfo(np.float32).max
    h = Histogram().update(np.array([big, -big, 1], np.float32), backend=backend)
    assert h.weighted()[0].tolist() == [-float(big), 1.0, float(big)]
    with pytest.raises(DomainError, match="channel 0 spans"):
        h.update(np.array([3.5e38]))
    assert h.count == 3


batches = st.lists(
    st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, math.inf, math.nan]), max_size=12), max_size=6
)


@given(batches=batches, seed=st.randoms(use_true_random=False))
def test_any_split_and_any_order_give_the_same_counts(batches: list[list[float]], seed: Any) -> None:
    flat = [x for batch in batches for x in batch]
    whole = Histogram().update(np.array(flat, np.float32))
    parts = [Histogram().update(np.array(batch, np.float32)) for batch in batches]
    seed.shuffle(parts)
    while len(parts) > 1:  # merge in a random tree
        a, b = (parts.pop(seed.randrange(len(parts))) for _ in range(2))
        parts.append(a + b)
    merged = parts[0] if parts else Histogram()
    seed.shuffle(flat)
    cut = seed.randint(0, len(flat))
    again = Histogram().update(np.array(flat[:cut], np.float32)).update(np.array(flat[cut:], np.float32))
    loaded = Histogram.from_dict(json.loads(json.dumps(merged.to_dict())))
    for other in (merged, again, loaded):
        assert other == whole
    finite = [x for x in flat if math.isfinite(x)]
    assert whole.count == len(finite)
    assert whole.nonfinite == len(flat) - len(finite)
    if finite:
        assert (whole.min, whole.max) == (min(finite), max(finite))
        reference = Histogram().update(np.array(flat, np.float32), backend="reference")
        assert reference == whole
        for method, mode in itertools.product(["percentile", "mse"], ["symmetric", "asymmetric"]):
            kwargs = {"method": method, "mode": mode, "percentile": 100, "nonfinite": "ignore", "include_zero": True}
            assert choose_qparams(again, **kwargs) == choose_qparams(whole, **kwargs)


def test_channels_of_a_histogram_are_histograms(backend: str, rng: np.random.Generator) -> None:
    weights = rng.standard_normal((6, 5, 24), dtype=np.float32)
    h = Histogram(axis=1).update(weights[:2], backend=backend).update(weights[2:], backend=backend)
    assert h == Histogram(axis=1).update(weights[2:]) + Histogram(axis=1).update(weights[:2])
    assert h.channels == 5
    for c in range(5):
        one = Histogram(mantissa_bits=7).update(weights[:, c])
        for a, b in zip(h.weighted(c), one.weighted(), strict=True):
            assert np.array_equal(a, b)
        assert (h.min[c], h.max[c], h.amax[c], h.count[c]) == (one.min, one.max, one.amax, one.count)
    assert Histogram.from_dict(json.loads(json.dumps(h.to_dict()))) == h


def test_a_histogram_of_1024_channels_is_small(rng: np.random.Generator) -> None:
    h = Histogram(axis=0).update(rng.standard_normal((1024, 2000), dtype=np.float32))
    assert (h._cells.nbytes + h._counts.nbytes) < 32 << 20


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: Histogram(mantissa_bits=12), DomainError, r"\[3, 11\]; got 12"),
        (lambda: Histogram(axis=1.0), DTypeError, "axis must be an integer"),
        (lambda: Histogram().min, DomainError, "no finite sample"),
        (lambda: Histogram(axis=0).amax, DomainError, "no finite sample"),
        (lambda: Histogram(axis=0).update([[np.nan], [1.0]]).max, DomainError, "channel 0 holds no finite"),
        (lambda: Histogram(axis=0).update(np.ones((2, 3))).update(np.ones((3, 3))), DomainError, "3 channels.*has 2"),
        (lambda: Histogram(axis=2).update(np.ones((2, 3))), DomainError, "axis must be in"),
        (lambda: Histogram().merge(Histogram(mantissa_bits=7)), DomainError, "one kind"),
        (lambda: Histogram().merge(Histogram(axis=0)), DomainError, "one kind"),
        (lambda: Histogram().merge(3), DTypeError, "only a Histogram"),
        (lambda: Histogram().update(np.array([True])), DTypeError, "bool"),
        (lambda: Histogram().update([1.0]).weighted(1), DomainError, r"\[0, 0\]; got 1"),
        (lambda: Histogram.from_dict({}), DomainError, "has the fields"),
        (lambda: Histogram.from_dict({**Histogram().to_dict(), "counts": [[1]]}), DomainError, "one of counts"),
        (lambda: Histogram.from_dict({**Histogram().to_dict(), "min": []}), DomainError, "one entry a channel"),
        (
            lambda: Histogram.from_dict({**Histogram().to_dict(), "keys": [[1]], "counts": [[1]]}),
            DomainError,
            "min <= max",
        ),
        (lambda: Histogram.from_dict({**Histogram().to_dict(), "nonfinite": [-1]}), DomainError, "must be in \\[0"),
        (lambda: choose_qparams(Histogram()), DomainError, "no finite sample"),
        (lambda: choose_qparams(Histogram().update([1.0, np.inf])), DomainError, "1 nonfinite"),
        (lambda: choose_qparams(Histogram().update([1.0]), axis=0), DomainError, "along axis None; axis 0"),
        (lambda: choose_qparams(Histogram().update([1.0]), axis=0, group=2), DomainError, "no groups"),
        (lambda: choose_qparams(Histogram().update([1.0]), source="exact"), DomainError, "needs the samples"),
    ],
)
def test_histograms_refuse(act: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        act()
