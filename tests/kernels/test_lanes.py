"""The fused loop over nearest codes against the long way: next to ties, ends, block edges, and what is not finite.

The CPU's error pass takes blocks of 512 through one loop that knows nothing of conventions, and falls back to the
convention's own arithmetic where that could decide otherwise. Here single elements of otherwise plain blocks are
such that it must.
"""

import itertools
import math

import numpy as np
import pytest

import qengine as qe

F32 = np.float32
BLOCK = 512
NEAREST = ("half-even", "half-away", "half-up", "half-down", "half-toward-zero")
CONVENTIONS = [row.name for row in qe.conventions()]


def agree(x, specs, **options):
    """Codes, clips and errors counted by the CPU are those of the reference, and of `quantize`; sums to 1e-12."""
    ours = qe.error_report(x, specs, backend="reference", **options)
    theirs = qe.error_report(x, specs, backend="cpu", threads=1, **options)
    bare = qe.error_report(x, specs, backend="cpu", threads=1, histograms=False, **options)
    assert ours.nonfinite == theirs.nonfinite == bare.nonfinite
    for a, b, c in zip(ours.rows, theirs.rows, bare.rows, strict=True):
        label = a.label
        assert (a.count, a.clip_count) == (b.count, b.clip_count) == (c.count, c.clip_count), label
        np.testing.assert_array_equal(a.code_counts, b.code_counts, err_msg=label)
        np.testing.assert_array_equal(a.error_counts, b.error_counts, err_msg=label)
        for name in ("mse", "mae", "max_abs", "mse_rounding", "mse_clipping", "cosine"):
            # Without counts, blocks are longer: sums in another order.
            assert getattr(c, name) == pytest.approx(getattr(b, name), rel=1e-13, abs=0), name
            assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-12, abs=0), name
        assert b.bias == pytest.approx(a.bias, rel=1e-12, abs=1e-15 * a.mae)
        assert (a.tensor.low, a.tensor.high) == (b.tensor.low, b.tensor.high)
        if a.channels is not None:
            np.testing.assert_array_equal(a.channels.clip_count, b.channels.clip_count)
            np.testing.assert_array_equal(a.channels.count, b.channels.count)
            np.testing.assert_allclose(b.channels.mse, a.channels.mse, rtol=1e-12)
            np.testing.assert_array_equal(b.channels.low, a.channels.low)
    return ours


def one_a_block(specials, plain, rng):
    """Put each special number alone into a block of plain ones, at a random place of it."""
    x = rng.choice(plain, specials.size * BLOCK).reshape(-1, BLOCK)
    x[np.arange(specials.size), rng.integers(0, BLOCK, specials.size)] = specials
    return x.reshape(-1)


def near_ties(p, dtype, relative, ulps, step=1):
    """Numbers at and about every (k + 1/2 - z) * scale, by relative distances and by units in the last place.

    Of more than 20 codes every `step`-th, and those at both ends, about zero, and at powers of two.
    """
    k = np.arange(p.qmin - 2, p.qmax + 2)
    far = np.abs(k - p.zero_point)
    marked = (far < 4) | (k < p.qmin + 2) | (k > p.qmax - 2) | (far & (far - 1) == 0)
    k = k[marked | (k % step == 0) | (k.size <= 20)] + 0.5
    with np.errstate(over="ignore"):
        exact = (k - p.zero_point) * p.scale
        spread = np.concatenate([exact, *(exact * (1 + s * r) for r in relative for s in (1, -1))]).astype(dtype)
        found = [spread]
        up = down = exact.astype(dtype)
        for _ in range(ulps):
            up, down = np.nextafter(up, dtype(np.inf)), np.nextafter(down, dtype(-np.inf))
            found += [up, down]
    return np.concatenate(found)


def plain_values(p, dtype, rng):
    """Numbers far from ties, most of them inside."""
    k = rng.integers(p.qmin, p.qmax + 1, 4000)
    return ((k - p.zero_point + rng.uniform(-0.4, 0.4, k.size)) * p.scale).astype(dtype)


PARAMETERS = [
    qe.QuantParams(0.1, 0, -8, 7),
    qe.QuantParams(1 / 3, -5, -8, 7),
    qe.QuantParams(0.5, 3, -8, 7),
    qe.QuantParams(1.1e-5, 100, 0, 255),
    qe.QuantParams(float(F32(0.1)), 0, -128, 127),
    qe.QuantParams(37.7, -128, -128, 127),
]


#: Every code's ties take a block of 512 for each: minutes, and one after another the same arithmetic.
STEPS = [11, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("p", PARAMETERS, ids=str)
def test_near_ties_of_the_calculator(p, step, rng):
    """Within 1e-9 to 1e-17 steps of a tie, one a block."""
    specials = near_ties(p, np.float64, [10.0**-e for e in (6, 9, 12, 13, 14, 15, 16, 17)], 2, step)
    x = one_a_block(specials, plain_values(p, np.float64, rng), rng)
    specs = [qe.QuantSpec(params=p, rounding=rule) for rule in (None, *NEAREST)]
    specs += [qe.QuantSpec(params=p, convention=name) for name in ("torch-cuda", "tflite-opt-tail")]
    report = agree(x, specs)
    for row in report.rows:
        q = qe.quantize(x, p, convention=row.spec.convention, rounding=row.spec.rounding, backend="reference").astype(
            int
        )
        np.testing.assert_array_equal(row.code_counts, np.bincount(q - p.qmin, minlength=p.levels))
    assert any((a.code_counts != b.code_counts).any() for a, b in itertools.combinations(report.rows, 2))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", PARAMETERS, ids=str)
def test_near_ties_of_runtimes(p, dtype, step, rng):
    """Within a few float32 units of a tie, one a block; float64 numbers between float32 ones too."""
    specials = near_ties(p, F32, [1e-7, 3e-7, 1e-6], 4, step).astype(dtype)
    if dtype is np.float64:
        specials = np.concatenate([specials, near_ties(p, np.float64, [2.0**-25, 2.0**-24, 1e-8], 2, step)])
    x = one_a_block(specials, plain_values(p, dtype, rng), rng)
    names = [name for name in CONVENTIONS if name != "tensorrt" or p.zero_point == 0]
    report = agree(x, [qe.QuantSpec(params=p, convention=name) for name in names])
    for row in report.rows:
        q = qe.quantize(x, p, convention=row.spec.convention, backend="reference").astype(int)
        np.testing.assert_array_equal(row.code_counts, np.bincount(q - p.qmin, minlength=p.levels))
    agree(x[: 200 * BLOCK], [qe.QuantSpec(params=p, convention="xnnpack", rounding=rule) for rule in NEAREST])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", PARAMETERS, ids=str)
def test_blocks_of_nothing_but_near_ties(p, dtype, rng):
    x = rng.permutation(near_ties(p, F32, [1e-7, 1e-6, 1e-3], 3).astype(dtype))
    names = [name for name in CONVENTIONS if name != "tensorrt" or p.zero_point == 0]
    agree(x, [qe.QuantSpec(params=p, convention=name) for name in names])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("convention", ["calculator", "onnx", "xnnpack", "torch"])
def test_clipping_at_the_last_half_step(convention, dtype, rng):
    """What lies at qmax + 1/2 and qmin - 1/2, to the unit in the last place, among clamped and plain blocks."""
    for p, far in itertools.product(PARAMETERS, (False, True)):
        ends = np.array([p.qmax + 0.5, p.qmin - 0.5, p.qmax + 1.5, p.qmin - 1.5])
        exact = ((ends - p.zero_point) * p.scale).astype(dtype)
        specials = [exact]
        up = down = exact
        for _ in range(8):
            up, down = np.nextafter(up, dtype(np.inf)), np.nextafter(down, dtype(-np.inf))
            specials += [up, down]
        plain = plain_values(p, dtype, rng)
        if far:  # blocks that the clamping loop takes
            plain = np.concatenate([plain, plain * dtype(3)])
        x = one_a_block(np.concatenate(specials), plain, rng)
        agree(
            x,
            [qe.QuantSpec(params=p, convention=convention, rounding=rule) for rule in (None, "half-away", "half-down")],
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_clamp_in_turns(dtype, rng):
    """Clamped and plain blocks alternate in every rhythm; huge numbers, whose product with 1 / scale is infinite."""
    p = qe.QuantParams(0.01, 3, -128, 127)
    x = plain_values(p, dtype, rng)[: 4 * BLOCK].repeat(16).reshape(-1, BLOCK)
    x[::3, 5] = 99.0
    x[1::5, 511] = -1e6
    x[::7, 0] = 1e18
    x[3::11] = 7.5
    agree(
        x.reshape(-1),
        [
            qe.QuantSpec(params=p),
            qe.QuantSpec(params=p, convention="onnx"),
            qe.QuantSpec(params=p, convention="tflite-opt"),
        ],
    )
    tiny = qe.QuantParams(2.0**-390, 0, -128, 127)
    y = np.zeros(BLOCK * 4)
    y[7], y[600], y[2047] = 1e150, -1e150, 2.0**-390
    agree(y, [qe.QuantSpec(params=tiny)])


def test_negative_zero(rng):
    for dtype, convention in itertools.product((np.float32, np.float64), ("calculator", "onnx", "torch")):
        x = np.zeros(3 * BLOCK + 5, dtype)
        x[::3] = -0.0
        for z in (0, 3):
            rows = agree(x, [qe.QuantSpec(params=qe.QuantParams(0.3, z, -8, 7), convention=convention)]).rows
            assert rows[0].code_counts[8 + z] == x.size
            assert rows[0].error_counts[rows[0].error_counts.size // 2] == x.size


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_bad_number_in_a_plain_block(bad, dtype, rng):
    p = qe.QuantParams(0.01, 3, -128, 127)
    specs = [
        qe.QuantSpec(params=p),
        qe.QuantSpec(params=p, convention="onnx"),
        qe.QuantSpec(bits=8),
        qe.QuantSpec(format="e4m3fn"),
    ]
    base = plain_values(p, dtype, rng)[: 5 * BLOCK]
    for at in (0, 7, 8, BLOCK - 1, BLOCK, 2 * BLOCK + 77, base.size - 1):
        x = base.copy()
        x[at] = bad
        report = agree(x, specs, nonfinite="ignore")
        assert report.nonfinite == 1
        assert report.rows[0].count == x.size - 1
        for spec in specs:
            with pytest.raises(qe.DomainError, match=f"index {at}"):
                qe.error_report(x, spec, backend="cpu")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 8, 503, 504, 511, 512, 513, 520, 1016, 1023, 1024, 1025, 1031, 4095])
def test_lengths_about_blocks(n, dtype, rng):
    p = qe.QuantParams(0.01, 3, -128, 127)
    x = plain_values(p, dtype, rng)
    x[rng.integers(0, x.size, 5)] = (np.arange(5) + 0.5) * dtype(0.01)
    specs = [qe.QuantSpec(params=p), qe.QuantSpec(params=p, convention="xnnpack"), qe.QuantSpec(bits=4, group=8)]
    agree(x[:n], specs)
    agree(x[x.size - n :], specs)  # runs that start at any address


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(9, 520), (7, 513), (300, 8), (33, 24), (5, 1024), (2, 3, 512), (3, 512, 4), (700, 3), (4, 1), (1, 4096)]
)
def test_channels_and_groups_that_end_inside_blocks(shape, dtype, rng):
    x = (rng.normal(0, 1, shape) * np.exp(rng.normal(0, 1, (shape[0], *[1] * (len(shape) - 1))))).astype(dtype)
    ties = rng.random(shape) < 0.002
    x[ties] = (np.floor(x[ties] * 50) + 0.5) / 50
    fixed = qe.QuantParams(0.02, 1, -100, 100)
    specs = [qe.QuantSpec(params=fixed), qe.QuantSpec(params=fixed, convention="onnx")]
    for axis in range(len(shape)):
        specs += [
            qe.QuantSpec(bits=8, axis=axis),
            qe.QuantSpec(bits=4, axis=axis, convention="torch", mode="asymmetric"),
        ]
    for group in (8, 96, 512, 700):
        specs += [qe.QuantSpec(bits=4, group=group), qe.QuantSpec(bits=8, group=group, convention="onnx")]
    for axis in (None, *range(len(shape))):
        agree(x, specs, axis=axis)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scales_about_the_limits_of_the_fused_loop(dtype, rng):
    """It takes scales within 2**-100 .. 2**100 (float32) and 2**-400 .. 2**400; zero points and widths of all sizes."""
    cases = [(2.0**e * s, z) for e in (-101, -100, -99, 0, 99, 100, 101) for s in (1.0, 1.3) for z in (0, 5)]
    for (scale, z), (qmin, qmax) in itertools.product(cases, [(-8, 7), (-128, 127), (-2048, 2047), (-32768, 32767)]):
        p = qe.QuantParams(scale, z, qmin, qmax)
        x = rng.uniform(qmin - 2 - z, qmax + 2 - z, 2 * BLOCK)
        x[rng.integers(0, x.size, 20)] = np.round(x[:20]) + 0.5
        with np.errstate(over="ignore"):
            x = (x * scale).astype(dtype)
        agree(
            x,
            [
                qe.QuantSpec(params=p),
                qe.QuantSpec(params=p, convention="onnx"),
                qe.QuantSpec(params=p, convention="torch"),
            ],
        )
    if dtype is np.float64:
        for e in (-401, -400, -399, 399, 400, 401):
            x = (rng.integers(-20, 20, 2 * BLOCK) + rng.choice([0.5, 0.3], 2 * BLOCK)) * 2.0**e
            agree(
                x,
                [
                    qe.QuantSpec(params=qe.QuantParams(2.0**e, 0, -8, 7)),
                    qe.QuantSpec(params=qe.QuantParams(1.1 * 2.0**e, 0, -8, 7)),
                ],
            )


@pytest.mark.parametrize("zero_point", [300, -(2**20), 2**31 - 1, -(2**31) + 1])
def test_far_zero_points_of_the_calculator(zero_point, rng):
    for scale in (0.5, 0.1):
        p = qe.QuantParams(scale, zero_point, -128, 127)
        k = rng.integers(-130, 130, 8 * BLOCK) + rng.choice([0.0, 0.25, 0.5, 0.5 + 1e-7, 0.5 - 1e-7], 8 * BLOCK)
        agree((k - zero_point) * scale, [qe.QuantSpec(params=p), qe.QuantSpec(params=p, rounding="half-away")])


def test_many_random_layouts(rng):
    """Shapes, axes, groups, conventions and rules drawn at random."""
    for _ in range(60):
        shape = tuple(rng.integers(1, 40, rng.integers(1, 4)).tolist())
        if rng.random() < 0.3:
            shape = (*shape[:-1], int(rng.integers(500, 1100)))
        x = rng.normal(0, 1, shape).astype(rng.choice([np.float32, np.float64]))
        flat = x.reshape(-1)
        flat[rng.integers(0, flat.size, flat.size // 50 + 1)] = rng.integers(-30, 30) / 20
        specs = []
        for _ in range(4):
            axis = None if rng.random() < 0.4 else int(rng.integers(0, len(shape)))
            group = int(rng.choice([1, 3, 8, 64, 512])) if axis is not None and rng.random() < 0.5 else None
            fields = {
                "bits": int(rng.integers(2, 13)),
                "mode": str(rng.choice(["symmetric", "asymmetric"])),
                "convention": str(rng.choice(["calculator", "onnx", "xnnpack", "torch", "tflite-opt", "stablehlo"])),
                "rounding": None if rng.random() < 0.5 else str(rng.choice([*NEAREST, "floor", "stochastic"])),
                "seed": int(rng.integers(0, 100)),
            }
            specs.append(qe.QuantSpec(axis=axis, group=group, **fields))
        agree(x, specs, axis=None if rng.random() < 0.5 else int(rng.integers(0, len(shape))))


def test_the_largest_magnitudes_that_have_squares(rng):
    x = np.full(4 * BLOCK, 0.01)
    x[5], x[BLOCK], x[2000] = 1e150, -1e153, 1e-150
    agree(x, [qe.QuantSpec(params=qe.QuantParams(0.01, 0, -8, 7))])
    x[5] = math.sqrt(np.finfo(np.float64).max) * 1.01
    for backend in ("reference", "cpu"):
        with pytest.raises(qe.DomainError, match="overflow"):
            qe.error_report(x, qe.QuantParams(0.01, 0, -8, 7), backend=backend)
