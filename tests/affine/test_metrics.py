"""Every metric of a quantization error against exact fractions, and against numbers worked out by hand."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import qengine as qe
from qengine.affine import error_report
from qengine.affine.metrics import HIGHER_IS_BETTER, METRICS, bin_edges
from qengine.exceptions import DomainError

from . import oracle

F32 = np.float32
DECIBELS = ("sqnr", "psnr", "ort-sqnr", "torchao-sqnr")
COUNTS = ("count", "clip_count")


def measured(x, params, convention="calculator", rule=None, seed=0):
    """Return (values, codes, clipped) of every sample in C order by the oracle, as lists."""
    x = np.asarray(x)
    scale, zero_point = (tuple(np.broadcast_to(a, x.shape).reshape(-1).tolist()) for a in params.expand(x.shape))
    return _measured(tuple(x.reshape(-1).tolist()), scale, zero_point, params.qmin, params.qmax, convention, rule, seed)


@functools.lru_cache(maxsize=256)  # one back end after the other asks the same
def _measured(x, scale, zero_point, qmin, qmax, convention, rule, seed):
    known = {}
    values, codes, clipped = [], [], []
    for i, (v, s, z) in enumerate(zip(x, scale, zero_point, strict=True)):
        word = oracle.draw(i, seed) if rule == "stochastic" else None
        whole = oracle.whole(v, s, z, convention, rule, word)
        q = oracle.clamp(whole, qmin, qmax)
        if (q, s, z) not in known:
            known[q, s, z] = oracle.value(q, s, z, convention)
        values.append(known[q, s, z])
        codes.append(q)
        clipped.append(q != whole)
    return tuple(values), tuple(codes), tuple(clipped)


def metrics(x, values, clipped):
    """Return the oracle's metrics of samples in C order; the same question is answered once."""
    x, clipped = np.asarray(x), np.asarray(clipped, bool)
    reals = np.array([float(v) for v in values])  # a code stands for a float: nothing is lost
    return _metrics(x.dtype.str, x.tobytes(), reals.tobytes(), clipped.tobytes())


@functools.lru_cache(maxsize=4096)
def _metrics(dtype, x, values, clipped):
    parts = np.frombuffer(x, dtype), np.frombuffer(values), np.frombuffer(clipped, bool)
    return oracle.metrics(*(part.tolist() for part in parts))


def close(got, want, name, noise=0.0):
    """Counts exactly, decibels to 1e-11 dB, everything else to one part in 10**12."""
    if name in COUNTS:
        assert got == want, name
        assert isinstance(got, int)
        return
    if math.isinf(want):
        assert got == want, name
        return
    tolerance = 1e-12 * abs(want) + noise + (1e-11 if name in DECIBELS else 0.0)
    assert abs(got - want) <= tolerance, f"{name}: {got!r}, not {want!r}, off by {abs(got - want):.3g}"


def check_row(row, want, noise=0.0):
    """Compare a row with the oracle's metrics; `noise` is what the rounding of ``x - value`` may add to the bias."""
    for name, value in want.items():
        if name == "variants":
            assert row.variants.keys() == value.keys()
            for variant, number in value.items():
                close(row.variants[variant], number, variant)
        else:
            close(getattr(row, name), value, name, noise if name == "bias" else 0.0)
    assert row.mse == pytest.approx(row.mse_rounding + row.mse_clipping, rel=1e-15, abs=0)


def error_bins(e, edges):
    """Counts between edges: the lower one belongs to a bin for e >= 0, the upper one for e < 0."""
    place = np.where(e < 0, np.searchsorted(edges, e, "left"), np.searchsorted(edges, e, "right")) - 1
    return np.bincount(place, minlength=edges.size - 1)


def check_counts(row, x, values, codes):
    """Compare both histograms of a row, and what follows from them, with all samples."""
    p = row.params
    np.testing.assert_array_equal(row.code_counts, np.bincount(np.array(codes) - p.qmin, minlength=p.levels))
    assert (row.codes_used, row.dead_codes) == (len(set(codes)), p.levels - len(set(codes)))
    close(row.entropy, oracle.entropy(codes), "entropy", 1e-12)
    e = np.asarray(x, np.float64).reshape(-1) - np.array([float(v) for v in values])
    np.testing.assert_array_equal(row.error_counts, error_bins(e, row.error_edges))


# --- by hand --------------------------------------------------------------------------------------------------

SAMPLES = [-1.25, -0.92, -0.51, -0.10, 0, 0.14, 0.37, 0.79, 1.12, 1.46]


def test_the_worked_example(backend):
    """Range -1.5 .. 1.5, 8 bits, symmetric: scale 1.5/127 = 3/254, so a code q stands for 3q/254.

    Errors are (254 x - 3 q) / 254: for -1.25, (-317.5 + 318) / 254.
    """
    row = qe.error_report(SAMPLES, qe.QuantSpec(range=(-1.5, 1.5)), backend=backend).rows[0]
    p = row.params
    assert (p.scale, p.zero_point, p.qmin, p.qmax) == (1.5 / 127, 0, -128, 127)
    codes = [-106, -78, -43, -8, 0, 12, 31, 67, 95, 124]
    assert qe.quantize(SAMPLES, p, backend=backend).tolist() == codes
    values = [-318 / 254, -234 / 254, -129 / 254, -24 / 254, 0, 36 / 254, 93 / 254, 201 / 254, 285 / 254, 372 / 254]
    np.testing.assert_allclose(qe.dequantize(codes, p, backend=backend), values, rtol=1e-15)
    errors = [0.5, 0.32, -0.54, -1.4, 0, -0.44, 0.98, -0.34, -0.52, -1.16]  # in 1/254
    np.testing.assert_allclose(np.array(SAMPLES) - values, np.array(errors) / 254, rtol=1e-12, atol=1e-16)
    by_hand = {
        "count": 10,
        "mse": 5.4896 / 10 / 254**2,
        "rmse": math.sqrt(0.54896) / 254,
        "mae": 6.2 / 10 / 254,
        "max_abs": 1.4 / 254,
        "bias": -2.6 / 10 / 254,
        "sqnr": 10 * math.log10(6.8456 * 254**2 / 5.4896),  # sum of x**2: 6.8456
        "psnr": 20 * math.log10(1.46 * 254 / math.sqrt(0.54896)),
        "cosine": 580.51 / math.sqrt(6.8456 * 49228),  # sums of x q and of q**2
        "clip_count": 0,
        "clip_rate": 0.0,
        "mse_rounding": 5.4896 / 10 / 254**2,
        "mse_clipping": 0.0,
    }
    for name, value in by_hand.items():
        assert getattr(row, name) == pytest.approx(value, rel=1e-12, abs=0), name
    assert (round(row.sqnr, 4), round(row.psnr, 4)) == (49.0554, 53.9883)
    assert (row.codes_used, row.dead_codes) == (10, 246)
    assert row.entropy == pytest.approx(math.log2(10), rel=1e-15, abs=0)
    assert row.code_counts[np.array(codes) + 128].tolist() == [1] * 10
    assert row.percentile(100) == row.max_abs
    variants = {
        "ort-sqnr": by_hand["sqnr"],
        "torchao-sqnr": by_hand["sqnr"],
        "aeq-snr": 0.68456 / (by_hand["mse"] + 1e-9),
        "ppq-snr": 5.4896 / 254**2 / 6.8456,
        "llama-rmse": math.sqrt(5.4896) / 254 / 10,
    }
    for name, value in variants.items():
        assert row.variants[name] == pytest.approx(value, rel=1e-12, abs=0), name


def test_clipping_by_hand(backend):
    """Scale 1/2, codes -2 .. 1: 1.75 and 0.8 are clamped to 0.5, -2 to -1; 0.75 is 1.5, a tie to even: clamped too."""
    row = qe.error_report([1.75, 0.8, 0.25, -0.3, -2.0, 0.75], qe.QuantParams(0.5, 0, -2, 1), backend=backend).rows[0]
    assert (row.count, row.clip_count, row.clip_rate) == (6, 4, 4 / 6)
    rounding = [0.25, 0.2]
    clipping = [1.25, 0.3, -1.0, 0.25]
    assert row.mse_rounding == pytest.approx(sum(e * e for e in rounding) / 6, rel=1e-14, abs=0)
    assert row.mse_clipping == pytest.approx(sum(e * e for e in clipping) / 6, rel=1e-14, abs=0)
    assert row.bias == pytest.approx((0.25 + 0.2 + 1.25 + 0.3 - 1.0 + 0.25) / 6, rel=1e-14, abs=0)
    assert row.max_abs == 1.25
    assert row.code_counts.tolist() == [1, 1, 1, 3]


def test_clamped_without_an_error(backend):
    """-0.5 is a tie to even, 0; for half-away it is -1, clamped to 0: an error either way, counted only there."""
    p = qe.QuantParams(1.0, 0, 0, 3)
    even = qe.error_report([-0.5, 3.5], qe.QuantSpec(params=p), backend=backend).rows[0]
    away = qe.error_report([-0.5, 3.5], qe.QuantSpec(params=p, rounding="half-away"), backend=backend).rows[0]
    assert (even.clip_count, away.clip_count) == (1, 2)  # 3.5 goes to 4 by both
    assert even.mse == away.mse == 0.25


# --- against the oracle ---------------------------------------------------------------------------------------

SIZES = (1, 7, 8, 9, 511, 512, 513, 1023, 1024, 1025)
SPECS = [
    {"bits": 8},
    {"bits": 4, "mode": "asymmetric"},
    {"bits": 2, "rounding": "half-away"},
    {"bits": 16, "mode": "asymmetric", "signed": False},
    {"bits": 8, "rounding": "stochastic", "seed": 3},
    {"bits": 5, "rounding": "floor", "narrow": True},
    {"bits": 8, "method": "percentile", "percentile": 90.0},
    {"bits": 8, "convention": "onnx", "mode": "asymmetric"},
    {"bits": 4, "convention": "xnnpack", "method": "percentile", "percentile": 80.0},
    {"bits": 8, "convention": "torch", "mode": "asymmetric", "signed": False},
    {"bits": 8, "convention": "tflite-opt", "mode": "asymmetric"},
    {"bits": 8, "convention": "tflite-ref", "range": (-0.5, 0.4), "mode": "asymmetric"},
    {"bits": 6, "convention": "stablehlo", "rounding": "half-down"},
    {"bits": 8, "convention": "tf-uniform", "rounding": "trunc"},
]


@functools.cache
def tensor(size, dtype, kind="normal"):
    rng = np.random.default_rng([size, len(kind)])
    return rng.normal(0.1, 1, size).astype(dtype)


def check_report(x, specs, backend, noise=0.0, **options):
    rows = qe.error_report(x, specs, backend=backend, **options).rows
    for spec, row in zip(specs, rows, strict=True):
        arguments = row.spec.convention, row.spec.rounding, row.spec.seed
        values, codes, clipped = measured(x, row.params, *arguments)
        assert row.spec == (spec if isinstance(spec, qe.QuantSpec) else qe.QuantSpec(**spec))
        check_row(row, metrics(x, values, clipped), noise)
        check_counts(row, x, values, codes)
    return rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_sizes(size, dtype, backend):
    specs = [s for s in SPECS if size > 1 or s.get("method") != "percentile"]
    check_report(tensor(size, dtype), specs, backend)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: qe.QuantSpec(**s).label)
def test_five_thousand_samples(spec, backend):
    check_report(tensor(5000, np.float64), [spec], backend)
    check_report(tensor(5000, np.float32).reshape(5, 1000), [spec], backend)


@pytest.mark.parametrize("convention", oracle.CONVENTIONS)
def test_every_convention_and_rule(convention, backend):
    x = tensor(1300, np.float32)
    zero_point = 0 if convention == "tensorrt" else 17
    p = qe.QuantParams(0.021, zero_point, -128, 127)
    specs = [
        qe.QuantSpec(params=p, convention=convention, rounding=rule, seed=11)
        for rule in (None, *oracle.ROUNDINGS, "stochastic")
    ]
    check_report(x, specs, backend)


@pytest.mark.parametrize(
    ("scale", "zero_point", "qmin", "qmax"),
    [
        (0.1, 500, -128, 127),
        (0.1, -(2**31) + 1, -128, 127),
        (1e-9, 2**31 - 1, -128, 127),
        (0.3, 2**30, 2**30 - 9, 2**30 + 9),
        (1e-150, 3, -128, 127),
        (1e150, -3, -128, 127),
        (2.0**-401, 0, -8, 7),
        (2.0**401, 0, -8, 7),
    ],
)
def test_far_parameters(scale, zero_point, qmin, qmax, backend):
    """Zero points outside the codes, and scales on both sides of what the fused loop takes."""
    rng = np.random.default_rng(5)
    middle = ((qmin + qmax) / 2 - zero_point) * scale
    x = middle + rng.normal(0, 0.4, 1100) * (qmax - qmin) * scale
    check_report(x, [qe.QuantSpec(params=qe.QuantParams(scale, zero_point, qmin, qmax))], backend, abs(middle) * 1e-15)


def test_structured_values(backend):
    """Ties, codes and zeros at scales where e / step is exact; -0.0 among them."""
    for scale, z in itertools.product((0.5, 2.0**-20, 4.0), (0, 3)):
        p = qe.QuantParams(scale, z, -8, 7)
        x = np.concatenate([np.arange(-80, 81) / 8 * scale, [-0.0], np.arange(-3, 4) * 100 * scale])
        for rule in (None, *oracle.ROUNDINGS):
            check_report(x, [qe.QuantSpec(params=p, rounding=rule)], backend)


# --- unusual tensors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3.7, -0.2, 1e-20, 1e20, F32(0.1)])
@pytest.mark.parametrize("n", [1, 8, 600])
def test_constant_tensors(value, n, backend):
    x = np.full(n, value)
    specs = [{"bits": b, "mode": m} for b in (4, 8) for m in ("symmetric", "asymmetric")]
    for row in check_report(x, specs, backend):
        assert row.codes_used == 1
        assert row.entropy == 0.0
        assert math.copysign(1.0, row.entropy) == 1.0
        close(row.rmse, abs(row.bias), "rmse", 1e-15 * abs(value))


@pytest.mark.parametrize("n", [1, 8, 600])
def test_all_zero(n, backend):
    for x in (np.zeros(n), np.zeros(n, F32), -np.zeros(n)):
        for row in check_report(x, [{"bits": 8}, {"mode": "asymmetric", "convention": "onnx"}], backend):
            assert (row.mse, row.sqnr, row.psnr, row.cosine, row.clip_count) == (0.0, math.inf, math.inf, 1.0, 0)
            assert row.percentiles == dict.fromkeys((50.0, 90.0, 99.0, 99.9, 100.0), 0.0)
        # A range without 0 has no code for it.
        p = qe.QuantParams(0.5, -10, 0, 15)
        (row,) = check_report(x, [qe.QuantSpec(params=p)], backend)
        assert (row.sqnr, row.cosine, row.clip_rate, row.max_abs) == (-math.inf, 0.0, 1.0, 5.0)


def test_a_perfect_match(backend):
    x = np.arange(-8, 8) * 0.25
    (row,) = check_report(x, [qe.QuantSpec(params=qe.QuantParams(0.25, 0, -8, 7))], backend)
    assert (row.mse, row.sqnr, row.psnr, row.cosine) == (0.0, math.inf, math.inf, 1.0)
    assert row.variants["ort-sqnr"] < math.inf
    assert row.entropy == 4.0


def test_all_far_smaller_than_the_scale(backend):
    x = tensor(700, np.float64) * 1e-40
    (row,) = check_report(x, [qe.QuantSpec(params=qe.QuantParams(1.0, 0, -128, 127))], backend)
    assert (row.sqnr, row.cosine, row.codes_used) == (0.0, 0.0, 1)


def test_everything_clipped(backend):
    x = 10 + np.abs(tensor(700, np.float64))
    (row,) = check_report(x, [qe.QuantSpec(params=qe.QuantParams(0.01, 0, -128, 127))], backend)
    assert (row.clip_rate, row.mse_rounding, row.codes_used) == (1.0, 0.0, 1)
    assert row.mse == row.mse_clipping
    both = np.concatenate([x, -x])
    (row,) = check_report(both, [qe.QuantSpec(params=qe.QuantParams(0.01, 0, -128, 127))], backend, 1e-15)
    assert row.codes_used == 2


@pytest.mark.parametrize("order", ["random", "ascending", "alternating"])
def test_mixed_magnitudes(order, backend):
    rng = np.random.default_rng(1)
    x = 10.0 ** rng.uniform(-30, 30, 1200) * rng.choice([-1.0, 1.0], 1200)
    if order == "ascending":
        x = np.sort(x)
    elif order == "alternating":
        x = np.sort(np.abs(x))
        x = x * np.where(np.arange(x.size) % 2, 1.0, -1.0)
    noise = float(np.abs(x).mean()) * 2.0**-50
    check_report(x, [{"bits": 8}, {"bits": 16, "mode": "asymmetric"}], backend, noise)
    check_report(x, [qe.QuantSpec(params=qe.QuantParams(1.0, 0, -128, 127))], backend, noise)
    check_report(x.astype(F32), [{"bits": 8, "convention": "onnx"}, {"bits": 4, "convention": "torch"}], backend, noise)


@pytest.mark.parametrize("exponent", [-150, -140, 140, 150])
def test_magnitudes_whose_squares_are_float64_numbers(exponent, backend):
    x = tensor(600, np.float64) * 10.0**exponent
    check_report(x, [{"bits": 8}, {"bits": 4, "mode": "asymmetric", "rounding": "floor"}], backend)


def test_float32_subnormals(backend):
    x = (np.arange(-300, 300) * np.finfo(F32).smallest_subnormal).astype(F32)
    (row,) = check_report(x, [{"bits": 4}], backend)
    assert row.codes_used == 15


@pytest.mark.parametrize("exponent", [-154, -157, -160, -161])
def test_squares_that_lose_digits_are_refused_or_exact(exponent, backend):
    """Near 1e-154 the squares become subnormal, before they vanish: no metric may be wrong without a sign of it."""
    x = tensor(600, np.float64) * 10.0**exponent
    try:
        check_report(x, [{"bits": 4}], backend)
    except DomainError as error:
        assert "underflow" in str(error)  # noqa: PT017


@pytest.mark.parametrize("exponent", [-165, -200, -300])
def test_squares_that_vanish_are_refused(exponent, backend):
    with pytest.raises(DomainError, match="underflow"):
        qe.error_report(tensor(600, np.float64) * 10.0**exponent, {"bits": 4}, backend=backend)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 2.0**-1030])
def test_subnormal_scales(scale, backend):
    """1 / scale is infinite: the histogram of errors may not be reached by it."""
    p = qe.QuantParams(scale, 0, -128, 127)
    for x in (np.zeros(16), np.array([0.0, scale, -3 * scale]), np.ones(16)):
        try:
            row = qe.error_report(x, p, backend="reference").rows[0]
        except DomainError:
            with pytest.raises(DomainError):
                qe.error_report(x, p, backend=backend)
            continue
        assert row.error_counts.sum() == row.count == x.size
        other = qe.error_report(x, p, backend=backend).rows[0]
        np.testing.assert_array_equal(other.error_counts, row.error_counts)


@pytest.mark.parametrize("scale", [1e300, 1e305, 2.0**1023, 1.7e308])
def test_huge_scales(scale, backend):
    x = np.array([0.0, 1e100, -3e99, 2.0] * 4)
    (row,) = check_report(x, [qe.QuantSpec(params=qe.QuantParams(scale, 0, -128, 127))], backend)
    assert row.code_counts[128] == 16


def test_squares_that_overflow_are_refused(backend):
    for x in ([1e160, 1.0], [1e200] * 16, [1.7e308, -1.7e308]):
        with pytest.raises(DomainError, match="overflow"):
            qe.error_report(x, qe.QuantParams(1.0, 0, -128, 127), backend=backend)


def test_the_bias_of_errors_that_cancel(backend, rng):
    """Positive and negative errors of 1e6 and a rest of 1e-6: the sum keeps what a plain one loses."""
    n = 1 << 16
    x = rng.normal(0, 1e6, n // 2)
    x = np.concatenate([x, -x])
    rng.shuffle(x)
    x = np.concatenate([x, rng.uniform(0, 1e-3, 64)])
    for scale in (1.0, 1e-3):
        p = qe.QuantParams(scale, 0, -128, 127)
        values = qe.fake_quantize(x, p, backend="reference")
        errors = [Fraction(a) - Fraction(b) for a, b in zip(x.tolist(), values.tolist(), strict=True)]
        want = float(sum(errors, Fraction(0)) / x.size)
        # What each e = x - value was rounded by is not the sum's fault.
        rounded = sum(abs(Fraction(float(e)) - e) for e in errors) / x.size
        (row,) = qe.error_report(x, p, backend=backend).rows
        assert abs(row.bias - want) <= 1e-12 * abs(want) + float(rounded)


def test_the_bias_of_tiles_that_cancel(backend, rng, monkeypatch):
    """A large sum, a small one, and the large one taken away: what is between must not be lost."""
    tile = 1 << 15
    monkeypatch.setattr(error_report, "TILE", tile)
    large = rng.normal(1e6, 1e6, tile)
    small = rng.normal(1e-7, 1e-7, tile)
    x = np.concatenate([large, small, -large[::-1]])
    p = qe.QuantParams(1e12, 0, -8, 7)  # every code is 0: e = x
    row = qe.error_report(x, p, backend=backend, histograms=False).rows[0]
    want = math.fsum(small.tolist()) / x.size
    assert math.fsum(x.tolist()) / x.size == want
    assert row.bias == pytest.approx(want, rel=1e-10, abs=0)


# --- histograms -----------------------------------------------------------------------------------------------


def test_bin_edges():
    edges = bin_edges(3.0)
    middle = edges.size // 2
    assert (edges[0], edges[-1], edges[middle]) == (-math.inf, math.inf, 0.0)
    assert (np.diff(edges[1:-1]) > 0).all()
    np.testing.assert_array_equal(edges[::-1], -edges)
    np.testing.assert_array_equal(edges[middle : middle + 257], np.arange(257) * 3 / 256)
    octaves = edges[middle + 256 : -1]
    np.testing.assert_allclose(octaves[:9], 3 * (1 + np.arange(9) / 8), rtol=1e-15)
    np.testing.assert_array_equal(octaves[8:], 2 * octaves[:-8])
    assert edges[-2] > 3 * 2.0**39


def test_histograms_of_many_clipped_magnitudes(backend):
    """Errors from far below a step to beyond the last octave."""
    rng = np.random.default_rng(3)
    x = 2.0 ** rng.uniform(-30, 60, 3000) * rng.choice([-1.0, 1.0], 3000)
    for scale in (1.0, 0.37):
        row = qe.error_report(x, qe.QuantParams(scale, 0, -128, 127), backend=backend).rows[0]
        e = x - qe.fake_quantize(x, row.params, backend="reference")
        np.testing.assert_array_equal(row.error_counts, error_bins(e, row.error_edges))
        assert row.error_counts[0] > 0
        assert row.error_counts[-1] > 0


@pytest.mark.parametrize("scale", [0.1, 0.37, 1 / 3, 1e-7])
def test_errors_on_an_edge(scale, backend):
    """Multiples of a step / 256: an error is on the side of an edge that `error_edges` says, to an ulp or two."""
    x = np.arange(-3000, 3000) * (scale / 256)
    row = qe.error_report(x, qe.QuantParams(scale, 0, -8, 7), backend=backend).rows[0]
    e = np.sort(x - qe.fake_quantize(x, row.params, backend="reference"))
    edges = row.error_edges[1:-1]
    slack = 1e-14 * np.abs(edges)
    below = np.cumsum(row.error_counts)[:-1]
    assert (below >= np.searchsorted(e, edges - slack, "left")).all()
    assert (below <= np.searchsorted(e, edges + slack, "right")).all()
    assert row.error_counts.sum() == x.size
    reference = qe.error_report(x, row.params, backend="reference").rows[0]
    np.testing.assert_array_equal(row.error_counts, reference.error_counts)


@pytest.mark.parametrize("spec", SPECS[:9], ids=lambda s: qe.QuantSpec(**s).label)
def test_percentiles_are_within_a_bin(spec, backend):
    x = tensor(5000, np.float64)
    (row,) = qe.error_report(x, spec, backend=backend).rows
    values = measured(x, row.params, row.spec.convention, row.spec.rounding, row.spec.seed)[0]
    e = np.abs(x - np.array([float(v) for v in values]))
    edges = row.error_edges[row.error_edges.size // 2 :]
    for p in (0.0, 1e-9, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0):
        want = np.percentile(e, p, method="inverted_cdf")
        k = int(np.searchsorted(edges, want, "right")) - 1
        assert edges[k] - 1e-12 <= row.percentile(p) <= min(edges[k + 1], e.max()) + 1e-12, p
    assert row.percentile(100.0) == row.max_abs
    assert list(row.percentiles) == [50.0, 90.0, 99.0, 99.9, 100.0]
    for p in (-1e-9, 100.1, math.nan):
        with pytest.raises(DomainError, match="percentile"):
            row.percentile(p)


def test_low_percentiles_of_errors_that_are_all_large(backend):
    """Every |e| is 0.3, 0.35 or 0.4: the least is no percentile of 0, to a bin of 1/256."""
    row = qe.error_report([0.3, 0.35, 0.4] * 5, qe.QuantParams(1.0, 0, -8, 7), backend=backend).rows[0]
    for p, want in ((100.0, 0.4), (50.0, 0.35), (20.0, 0.3), (1e-9, 0.3), (0.0, 0.3)):
        assert abs(row.percentile(p) - want) <= 1 / 256, p


@pytest.mark.parametrize("bits", [2, 3, 8, 12, 13, 16])
def test_code_counts_are_those_of_quantize(bits, backend, rng):
    """Tables of up to 4096 codes are kept in copies, larger ones are not."""
    x = rng.normal(0, 1, 20_000).astype(F32)
    specs = [
        qe.QuantSpec(bits=bits, convention=c, method="percentile", percentile=97.0) for c in ("calculator", "onnx")
    ]
    for row in qe.error_report(x, specs, backend=backend).rows:
        q = qe.quantize(x, row.params, convention=row.spec.convention, backend="reference").astype(np.int64)
        want = np.bincount(q - row.params.qmin, minlength=row.params.levels)
        np.testing.assert_array_equal(row.code_counts, want)
        assert row.code_counts.dtype == np.int64
        p = want[want > 0] / want.sum()
        assert row.entropy == pytest.approx(-np.sum(p * np.log2(p)), rel=1e-12, abs=0)


def test_without_histograms(backend):
    (row,) = qe.error_report(tensor(513, F32), {"bits": 8}, histograms=False, backend=backend).rows
    (full,) = qe.error_report(tensor(513, F32), {"bits": 8}, backend=backend).rows
    assert row.code_counts is None
    assert row.error_counts is None
    for name in METRICS:
        assert getattr(row, name) == getattr(full, name)
    assert "entropy" not in row.to_dict()
    for ask in ("codes_used", "dead_codes", "entropy", "percentiles"):
        with pytest.raises(DomainError, match="histograms"):
            getattr(row, ask)
    with pytest.raises(AttributeError, match="no attribute 'snr'"):
        _ = row.snr


def test_names_of_metrics():
    assert set(HIGHER_IS_BETTER) < set(METRICS)
    assert {name for name, more in HIGHER_IS_BETTER.items() if more} == {"sqnr", "psnr", "cosine"}
