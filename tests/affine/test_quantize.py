"""quantize, dequantize, fake_quantize: inputs of every kind, channels, groups, draws, threads, errors."""

import itertools
import math

import numpy as np
import pytest

import qengine as qe
from qengine.backends import cpu
from qengine.exceptions import DomainError, DTypeError, UnknownNameError

from . import oracle

F32 = np.float32
#: Conventions that between them take every branch of the kernels.
SOME = ("calculator", "onnx", "xnnpack", "torch", "stablehlo", "torch-cuda", "tflite-opt-tail", "tf-uniform")


def oracle_codes(x, p, convention="calculator", rule=None):
    """Codes of a flat array under one scale."""
    codes = [
        oracle.quantize(v, p.scale, p.zero_point, p.qmin, p.qmax, convention, rule) for v in x.reshape(-1).tolist()
    ]
    return np.array(codes, p.dtype).reshape(x.shape)


# --- kinds of input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["calculator", "onnx"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "i1", "u1", "<i4", "<i8", "<u8", ">i2"])
def test_every_dtype(dtype, convention, backend, rng):
    x = (rng.normal(0, 20, 1000).clip(0 if np.dtype(dtype).kind == "u" else -100, 100)).astype(dtype)
    p = qe.QuantParams(0.37, 5, -128, 127)
    before = x.copy()
    got = qe.quantize(x, p, convention=convention, backend=backend)
    np.testing.assert_array_equal(got, oracle_codes(x.astype(np.float64), p, convention))
    assert got.dtype == np.int8
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strides_orders_and_writability_do_not_matter(dtype, backend, rng):
    base = rng.normal(0, 20, (7, 9, 11)).astype(dtype)
    p = qe.QuantParams(0.37, 5, -128, 127)
    want = oracle_codes(base, p)
    wide = np.zeros((14, 9, 33), dtype)
    wide[::2, :, ::3] = base
    read_only = base.copy()
    read_only.flags.writeable = False
    raw = np.zeros(base.nbytes + 1, np.uint8)
    raw[1:] = base.reshape(-1).view(np.uint8)
    unaligned = raw[1:].view(dtype).reshape(base.shape)
    assert not unaligned.flags.aligned
    reverse = np.ascontiguousarray(base[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    views = {
        "Fortran": np.asfortranarray(base), "strided": wide[::2, :, ::3], "read-only": read_only,
        "unaligned": unaligned, "reversed": reverse,
        "transposed": np.ascontiguousarray(base.transpose(2, 0, 1)).transpose(1, 2, 0),
    }  # fmt: skip
    q = qe.quantize(base, p, backend=backend)
    np.testing.assert_array_equal(q, want)
    for name, view in views.items():
        got = qe.quantize(view, p, backend=backend)
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, want, err_msg=name)
    values = qe.dequantize(q, p, backend=backend)
    for codes in (np.asfortranarray(q), q[::-1][::-1], q.astype(np.int64), q.astype(">i2"), q.tolist()):
        np.testing.assert_array_equal(qe.dequantize(codes, p, backend=backend), values)
    broadcast = np.broadcast_to(base[0, 0], (3, 4, 11))
    np.testing.assert_array_equal(qe.quantize(broadcast, p, backend=backend), np.broadcast_to(want[0, 0], (3, 4, 11)))


def test_scalars_lists_and_empty_arrays(backend):
    p = qe.QuantParams(0.5, -3, 0, 255)
    for x in (4.25, F32(4.25), np.array(4.25), 4.25):
        got = qe.quantize(x, p, backend=backend)
        assert (got.shape, got.dtype, got.item()) == ((), np.uint8, 6)  # 8.5 - 3 = 5.5, to even
    assert qe.quantize([[1, 2.5], [-1, 1e9]], p, backend=backend).tolist() == [[0, 2], [0, 255]]
    assert qe.dequantize(3, p, backend=backend).item() == 3.0
    for shape in ((0,), (3, 0, 2)):
        assert qe.quantize(np.zeros(shape), p, backend=backend).shape == shape
        assert qe.quantize(np.zeros(shape), p, backend=backend).dtype == np.uint8
        assert qe.dequantize(np.zeros(shape, int), p, backend=backend).shape == shape
    channels = qe.QuantParams([0.5, 1.0], 0, -8, 7, axis=1)
    assert qe.quantize(np.zeros((0, 2)), channels, backend=backend).shape == (0, 2)
    groups = qe.QuantParams(np.ones((0, 2)), 0, -8, 7, axis=1, group=3)
    assert qe.quantize(np.zeros((0, 5)), groups, backend=backend).shape == (0, 5)


@pytest.mark.parametrize(
    ("bits", "signed", "dtype"),
    [(2, True, "int8"), (8, True, "int8"), (8, False, "uint8"), (9, True, "int16"), (9, False, "int16"),
     (16, True, "int16"), (16, False, "uint16")],
)  # fmt: skip
def test_dtype_of_codes(bits, signed, dtype, backend):
    p = qe.choose_qparams((-1.5, 1.5), bits=bits, signed=signed, mode="asymmetric")
    got = qe.quantize([-2.0, 0.0, 2.0], p, backend=backend)
    assert got.dtype == dtype
    assert got[[0, 2]].tolist() == [p.qmin, p.qmax]
    wide = qe.QuantParams(0.5, 0, -40000, 20000)
    assert qe.quantize([-1e9, 1e9], wide, backend=backend).tolist() == [-40000, 20000]
    assert wide.dtype == np.int32


def test_blocks_and_tails(backend, rng):
    """Lengths about the kernels' blocks of 512 and lanes of 8."""
    p = qe.QuantParams(0.011, 3, -128, 127)
    x = rng.normal(0, 1, 2100)
    want = oracle_codes(x, p)
    for n in (1, 7, 8, 9, 511, 512, 513, 1023, 1024, 1025, 2047, 2100):
        np.testing.assert_array_equal(qe.quantize(x[:n], p, backend=backend), want[:n])
        np.testing.assert_array_equal(qe.quantize(x[2100 - n :], p, backend=backend), want[2100 - n :])


# --- channels and groups --------------------------------------------------------------------------------------


def channel_params(shape, axis, rng, group=None):
    shape = [*shape]
    axis %= len(shape)
    if group is None:
        shape = [shape[axis]]
    else:
        shape[axis] = -(-shape[axis] // group)
    return qe.QuantParams(
        np.exp(rng.uniform(-5, 1, shape)), rng.integers(-128, 128, shape), -128, 127, axis=axis, group=group
    )


def some(channels, rng):
    """All of a few channels; of many both ends, those about a block of 512, and ten others."""
    if channels <= 20:
        return range(channels)
    about = {c for c in (0, 1, 7, 8, 510, 511, 512, 513) if c < channels}
    return sorted({*about, channels - 2, channels - 1, *rng.integers(0, channels, 10).tolist()})


@pytest.mark.parametrize("convention", SOME)
@pytest.mark.parametrize(
    "shape", [(5,), (3, 4), (3, 1), (1, 4), (2, 3, 5), (2, 3, 4, 5), (3, 600), (600, 3), (2, 600, 2)]
)
def test_channels_equal_a_loop_over_channels(shape, convention, backend, rng):
    x = rng.normal(0, 3, shape)
    for axis in range(-1, len(shape)):
        p = channel_params(shape, axis, rng)
        given = qe.QuantParams(p.scale, p.zero_point, p.qmin, p.qmax, axis=axis)
        for rule, data in itertools.product((None, "floor"), (x, x.astype(F32), np.asfortranarray(x))):
            options = {"convention": convention, "rounding": rule}
            got = qe.quantize(data, given, **options, backend=backend)
            back = qe.dequantize(got, given, convention=convention, backend=backend)
            if backend != "reference":
                every = qe.quantize(data, given, **options, backend="reference")
                np.testing.assert_array_equal(got, every)
                np.testing.assert_array_equal(
                    back, qe.dequantize(every, given, convention=convention, backend="reference")
                )
            for c in some(shape[axis], rng):
                alone = qe.QuantParams(p.scale[c], int(p.zero_point[c]), p.qmin, p.qmax)
                part = np.take(data, c, axis=axis)
                want = qe.quantize(part, alone, convention=convention, rounding=rule, backend="reference")
                np.testing.assert_array_equal(np.take(got, c, axis=axis), want)
                want = qe.dequantize(want, alone, convention=convention, backend="reference")
                np.testing.assert_array_equal(np.take(back, c, axis=axis), want)


@pytest.mark.parametrize("convention", SOME)
@pytest.mark.parametrize(
    ("shape", "group"),
    [
        ((10,), 3),
        ((10,), 1),
        ((10,), 10),
        ((10,), 64),
        ((4, 10), 4),
        ((2, 7, 3), 2),
        ((3, 1300), 512),
        ((1300, 2), 500),
    ],
)
def test_groups_equal_a_loop_over_groups(shape, group, convention, backend, rng):
    x = rng.normal(0, 3, shape)
    for axis in range(-1, len(shape)):
        p = channel_params(shape, axis, rng, group)
        for data in (x, x.astype(F32), np.asfortranarray(x)):
            got = qe.quantize(data, p, convention=convention, backend=backend)
            back = qe.dequantize(got, p, convention=convention, backend=backend)
            assert got.shape == back.shape == shape
            assert got.flags.c_contiguous
            scale, zero_point = p.expand(shape)
            for s in np.unique(scale):
                here = scale == s
                alone = qe.QuantParams(s, int(zero_point[here][0]), p.qmin, p.qmax)
                want = qe.quantize(data[here], alone, convention=convention, backend="reference")
                np.testing.assert_array_equal(got[here], want)
                want = qe.dequantize(want, alone, convention=convention, backend="reference")
                np.testing.assert_array_equal(back[here], want)


def test_channels_against_the_oracle(backend, rng):
    x = rng.normal(0, 3, (4, 5)).astype(F32)
    p = channel_params(x.shape, 1, rng)
    for convention in oracle.CONVENTIONS:
        if convention == "tensorrt":
            continue
        got = qe.quantize(x, p, convention=convention, backend=backend)
        back = qe.dequantize(got, p, convention=convention, backend=backend)
        for (i, c), code in np.ndenumerate(got):
            s, z = p.scale[c], int(p.zero_point[c])
            assert code == oracle.quantize(x[i, c], s, z, -128, 127, convention)
            assert back[i, c] == float(oracle.value(code, s, z, convention))


def test_parameters_that_do_not_fit(backend):
    x = np.zeros((3, 4, 5))
    per_channel = qe.QuantParams([1.0, 2.0], 0, -8, 7, axis=1)
    for call in (qe.quantize, qe.dequantize, qe.fake_quantize):
        data = x.astype(int) if call is qe.dequantize else x
        with pytest.raises(DomainError, match=r"\(3, 4, 5\) has 4 channels along axis 1.*\(2,\)"):
            call(data, per_channel, backend=backend)
        with pytest.raises(DomainError, match=r"needs scales of shape \(3, 4, 2\); got \(3, 4, 3\)"):
            call(data, qe.QuantParams(np.ones((3, 4, 3)), 0, -8, 7, axis=2, group=3), backend=backend)
        with pytest.raises(DomainError, match=r"axis must be in \[-3, 2\]"):
            call(data, qe.QuantParams([1.0], 0, -8, 7, axis=3), backend=backend)
        with pytest.raises(DomainError, match=r"axis must be in"):
            call(data.sum().astype(data.dtype), qe.QuantParams([1.0], 0, -8, 7, axis=0), backend=backend)
        with pytest.raises(DTypeError, match="QuantParams"):
            call(data, (1.0, 0), backend=backend)


# --- stochastic rounding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**63 - 1])
@pytest.mark.parametrize("convention", ["calculator", "onnx", "torch"])
def test_stochastic_equals_the_oracle(convention, seed, backend, rng):
    """Element i of the whole draws word i, wherever blocks begin."""
    p = qe.QuantParams(0.1, 2, -128, 127)
    x = rng.normal(0, 3, 3001).astype(F32)
    got = qe.quantize(x, p, rounding="stochastic", convention=convention, seed=seed, backend=backend)
    want = [
        oracle.quantize(v, 0.1, 2, -128, 127, convention, "stochastic", oracle.draw(i, seed))
        for i, v in enumerate(x.tolist())
    ]
    assert got.tolist() == want
    assert (
        qe.quantize(x.reshape(3001, 1)[:, 0], p, rounding="stochastic", convention=convention, seed=seed).tolist()
        == want
    )
    head = qe.quantize(x[:777], p, rounding="stochastic", convention=convention, seed=seed, backend=backend)
    assert head.tolist() == want[:777]


def test_stochastic_channels_and_groups_draw_by_position(backend, rng):
    x = rng.normal(0, 3, (6, 50, 11))
    p = channel_params(x.shape, 1, rng)
    got = qe.quantize(x, p, rounding="stochastic", seed=5, backend=backend)
    scale, zero_point = (np.broadcast_to(a, x.shape).reshape(-1).tolist() for a in p.expand(x.shape))
    rows = zip(x.reshape(-1).tolist(), scale, zero_point, strict=True)
    want = [
        oracle.quantize(v, s, z, -128, 127, "calculator", "stochastic", oracle.draw(i, 5))
        for i, (v, s, z) in enumerate(rows)
    ]
    assert got.reshape(-1).tolist() == want
    # Groups along axis 1: the draws go by C order with that axis moved last.
    p = channel_params(x.shape, 1, rng, 7)
    got = np.moveaxis(qe.quantize(x, p, rounding="stochastic", seed=5, backend=backend), 1, -1)
    scale, zero_point = (np.moveaxis(a, 1, -1).reshape(-1).tolist() for a in p.expand(x.shape))
    rows = zip(np.moveaxis(x, 1, -1).reshape(-1).tolist(), scale, zero_point, strict=True)
    want = [
        oracle.quantize(v, s, z, -128, 127, "calculator", "stochastic", oracle.draw(i, 5))
        for i, (v, s, z) in enumerate(rows)
    ]
    assert got.reshape(-1).tolist() == want


def test_stochastic_is_unbiased_and_depends_on_the_seed(backend):
    p = qe.QuantParams(1.0, 0, -128, 127)
    n = 200_000
    for fraction in (0.25, 0.5, 0.9, 1e-3):
        for base in (0.0, -3.0):
            x = np.full(n, base + fraction)
            q = qe.quantize(x, p, rounding="stochastic", seed=1, backend=backend)
            assert set(np.unique(q)) <= {base, base + 1}
            spread = 5 * np.sqrt(fraction * (1 - fraction) / n)
            assert abs(q.mean() - x[0]) < spread
    x = np.full(n, 0.5)
    first, again, other = (
        qe.quantize(x, p, rounding="stochastic", seed=seed, backend=backend) for seed in (1, 1, 2)
    )  # fmt: skip
    np.testing.assert_array_equal(first, again)
    assert abs(np.mean(first == other) - 0.5) < 5 * np.sqrt(0.25 / n)
    whole = qe.quantize(np.arange(-128.0, 128.0), p, rounding="stochastic", seed=1, backend=backend)
    assert whole.tolist() == list(range(-128, 128))  # nothing to draw for


def test_a_fraction_that_equals_its_draw_goes_down(backend, rng):
    """Up with the probability of the fraction: word / 2**32 below it, not at it."""
    n, seed = 2500, 12
    words = np.array([oracle.draw(i, seed) for i in range(n)], np.float64)
    base = rng.integers(-100, 100, n).astype(np.float64)
    p = qe.QuantParams(1.0, 0, -128, 127)
    at = base + words * 2.0**-32
    above = base + (words + 1) * 2.0**-32
    for x, want in ((at, base), (above, base + 1), (base, base)):
        np.testing.assert_array_equal(qe.quantize(x, p, rounding="stochastic", seed=seed, backend=backend), want)


def test_seeds_outside_the_range(backend):
    p = qe.QuantParams(1.0, 0, -8, 7)
    for seed in (-1, 2**63):
        with pytest.raises(DomainError, match="seed"):
            qe.quantize([0.5], p, rounding="stochastic", seed=seed, backend=backend)
    for seed in (0.5, True, "1", None):
        with pytest.raises(DTypeError, match="seed"):
            qe.quantize([0.5], p, rounding="stochastic", seed=seed, backend=backend)


# --- threads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", [None, "stochastic"])
def test_threads_do_not_change_bits(rounding, monkeypatch, rng):
    """The CPU splits large arrays, here from 2**14 elements; per tensor, channel and group."""
    monkeypatch.setattr(cpu, "PARALLEL_FROM", 1 << 14)
    x = rng.normal(0, 1, (131, 131)).astype(F32)
    assert x.size > cpu.PARALLEL_FROM
    cases = [
        qe.QuantParams(0.01, 3, -128, 127),
        channel_params(x.shape, 0, rng),
        channel_params(x.shape, 1, rng),
        channel_params(x.shape, 1, rng, 32),
        channel_params(x.shape, 0, rng, 100),
    ]
    for convention, p in itertools.product(("calculator", "xnnpack"), cases):
        options = {"rounding": rounding, "convention": convention, "seed": 9}
        want = qe.quantize(x, p, backend="reference", **options)
        values = qe.dequantize(want, p, convention=convention, backend="reference")
        for threads in ("1", "2", "3"):
            monkeypatch.setenv("QENGINE_NUM_THREADS", threads)
            np.testing.assert_array_equal(qe.quantize(x, p, backend="cpu", **options), want)
            got = qe.dequantize(want, p, convention=convention, backend="cpu")
            np.testing.assert_array_equal(got, values)


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_numbers_are_named(bad, backend):
    p = qe.QuantParams(0.5, 0, -8, 7)
    x = np.zeros((3, 4, 5), F32)
    x[1, 2, 3] = bad
    x[2, 0, 0] = np.nan
    with pytest.raises(DomainError, match=r"got 2 .*\(?-?(nan|inf)\)?.* at index \(1, 2, 3\)"):
        qe.quantize(x, p, backend=backend)
    with pytest.raises(DomainError, match="at index 2"):
        qe.fake_quantize([0.0, 1.0, bad], p, backend=backend)
    with pytest.raises(DomainError, match="finite"):
        qe.quantize(bad, p, backend=backend)


@pytest.mark.parametrize(
    "x",
    [np.array([True, False]), np.array([1 + 2j]), np.array([None, 1.0], object), np.array(["1.0"]), [True],
     np.array([1.0], np.longdouble), np.array(["2020-01-01"], "datetime64[D]"), [[1.0], [1.0, 2.0]], None, "1.0"],
    ids=repr,
)  # fmt: skip
def test_what_is_no_array_of_reals(x, backend):
    with pytest.raises(DTypeError, match="x must"):
        qe.quantize(x, qe.QuantParams(0.5, 0, -8, 7), backend=backend)


def test_codes_must_be_integers_in_the_range(backend):
    p = qe.QuantParams(0.5, 0, -8, 7)
    for q in ([0.0], [True], [None], ["1"]):
        with pytest.raises(DTypeError, match="q must"):
            qe.dequantize(q, p, backend=backend)
    with pytest.raises(DomainError, match=r"\[-8, 7\]; got 8 at index \(1, 0\)"):
        qe.dequantize([[0, 1], [8, -9]], p, backend=backend)
    with pytest.raises(DomainError, match="got 18446744073709551615"):
        qe.dequantize(np.array([2**64 - 1], np.uint64), p, backend=backend)


def test_integers_beyond_float64(backend):
    p = qe.QuantParams(0.5, 0, -8, 7)
    assert qe.quantize(np.array([2**53, -(2**53)]), p, backend=backend).tolist() == [7, -8]
    with pytest.raises(DomainError, match=r"2\*\*53.*at index 1"):
        qe.quantize(np.array([0, 2**53 + 1]), p, backend=backend)


def test_parameters_that_a_convention_cannot_have(backend):
    outside = qe.QuantParams([0.5, 0.5], [0, 200], -128, 127, axis=0)
    for name in oracle.CONVENTIONS:
        if name == "calculator":
            assert qe.quantize([0.0, 0.0], outside, convention=name, backend=backend).tolist() == [0, 127]
            continue
        with pytest.raises(DomainError, match=rf"{name}.*200 at index 1"):
            qe.quantize([0.0, 0.0], outside, convention=name, backend=backend)
    for scale in (1e-39, 2.0**-126 * 0.999, 2.0**126 * 1.001, 1e300):
        with pytest.raises(DomainError, match=r"float32.*scale"):
            qe.quantize([0.0], qe.QuantParams(scale, 0, -8, 7), convention="onnx", backend=backend)
    with pytest.raises(DomainError, match=r"tensorrt.*zero point 0"):
        qe.quantize([0.0], qe.QuantParams(0.5, 1, -8, 7), convention="tensorrt", backend=backend)


def test_unknown_names(backend):
    p = qe.QuantParams(0.5, 0, -8, 7)
    with pytest.raises(UnknownNameError, match="rounding rule"):
        qe.quantize([1.0], p, rounding="half-evn", backend=backend)
    with pytest.raises(UnknownNameError):
        qe.quantize([1.0], p, backend="gpu")


# ---------------------------------------------------------------------------------------------------------
# out=


def outs(shape, dtype):
    """Arrays of a shape, each with its memory: contiguous, transposed, strided, reversed, misaligned."""
    raw = np.full(math.prod(shape) * np.dtype(dtype).itemsize + 1, 77, np.uint8)
    wide = np.full((*shape[:-1], 2 * shape[-1]), 77, dtype)
    return (
        np.full(shape, 77, dtype), np.full(shape, 77, dtype, order="F"), wide[..., 1::2],
        np.full(shape, 77, dtype)[::-1], raw[1:].view(dtype).reshape(shape),
    )  # fmt: skip


OUT_PARAMS = {
    "one": qe.QuantParams(0.37, 5, -128, 127),
    "channels": qe.QuantParams([0.37, 0.11, 2.0, 0.05], [5, -3, 0, 127], -128, 127, axis=1),
    "groups of the first axis": qe.QuantParams(np.full((2, 4, 9), 0.37), 5, -128, 127, axis=0, group=2),
}


@pytest.mark.parametrize("convention", ["calculator", "onnx"])
@pytest.mark.parametrize("kind", OUT_PARAMS)
def test_out(kind, convention, backend, rng):
    p, x = OUT_PARAMS[kind], rng.standard_normal((3, 4, 9)).astype(np.float32) * 20
    wanted = qe.quantize(x, p, convention=convention, backend=backend)
    values = qe.dequantize(wanted, p, convention=convention, backend=backend)
    for out in outs(x.shape, np.int8):
        assert qe.quantize(x, p, convention=convention, backend=backend, out=out) is out
        np.testing.assert_array_equal(out, wanted)
    for out in outs(x.shape, values.dtype):
        assert qe.dequantize(wanted, p, convention=convention, backend=backend, out=out) is out
        np.testing.assert_array_equal(out, values)
    memory = np.full((3, 4, 18), 77, np.int8)
    qe.quantize(x, p, convention=convention, backend=backend, out=memory[..., ::2])
    assert (memory[..., 1::2] == 77).all()


def test_out_overlaps_what_is_read(backend, rng):
    p, x = OUT_PARAMS["one"], rng.standard_normal(5001).astype(np.float32) * 20
    wanted = qe.quantize(x, p, backend=backend)
    memory = x.copy()
    front = memory.view(np.int8)[:5001]
    qe.quantize(memory, p, backend=backend, out=front)
    np.testing.assert_array_equal(front, wanted)
    values = qe.dequantize(wanted, p, convention="onnx", backend=backend)
    room = np.zeros(5001, np.float32)
    codes = room.view(np.int8)[-5001:]
    codes[:] = wanted
    qe.dequantize(codes, p, convention="onnx", backend=backend, out=room)
    np.testing.assert_array_equal(room, values)
    whole = qe.QuantParams(1.0, 0, -128, 127)  # the same type in and out
    reals = np.arange(-100.0, 100.0)
    assert qe.dequantize(qe.quantize(reals, whole, backend=backend), whole, backend=backend, out=reals) is reals
    np.testing.assert_array_equal(reals, np.arange(-100.0, 100.0))


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (np.zeros(7, np.int8), DomainError, r"out must have shape \(8,\) and dtype int8; got \(7,\) and int8"),
        (np.zeros((8, 1), np.int8), DomainError, r"got \(8, 1\) and int8"),
        (np.zeros(8, np.uint8), DomainError, r"dtype int8; got \(8,\) and uint8"),
        (np.zeros(8, np.float32), DomainError, r"got .* and float32"),
        ([0] * 8, DTypeError, "out must be a NumPy array; got list"),
    ],
)
def test_wrong_out(out, error, text, backend):
    p = OUT_PARAMS["one"]
    with pytest.raises(error, match=text):
        qe.quantize(np.ones(8), p, backend=backend, out=out)
    with pytest.raises(error, match=text.replace("int8;", "float64;")):
        qe.dequantize(np.ones(8, np.int8), p, backend=backend, out=out)


def test_out_is_not_written_where_arguments_are_refused(backend):
    p, codes, values = OUT_PARAMS["one"], np.full(4, 77, np.int8), np.full(4, 77.0)
    for out in (codes, values):
        out.flags.writeable = False
    with pytest.raises(DomainError, match="out must be writable; got a read-only array"):
        qe.quantize(np.ones(4), p, backend=backend, out=codes)
    with pytest.raises(DomainError, match="out must be writable"):
        qe.dequantize(np.ones(4, np.int8), p, backend=backend, out=values)
    for out in (codes, values):
        out.flags.writeable = True
    with pytest.raises(DomainError, match=r"q must hold codes in \[-128, 127\]; got 300 at index 2"):
        qe.dequantize(np.array([1, 2, 300, 4]), p, backend=backend, out=values)
    with pytest.raises(DTypeError, match="x must"):
        qe.quantize(np.ones(4, complex), p, backend=backend, out=codes)
    with pytest.raises(DomainError, match="seed must be"):
        qe.quantize(np.ones(4), p, seed=-1, backend=backend, out=codes)
    assert (codes == 77).all()
    assert (values == 77.0).all()
    with pytest.raises(DomainError, match="x must be finite; got 1 NaN"):
        qe.quantize([1.0, np.nan, 2.0, 3.0], p, backend=backend, out=codes)


def test_out_of_a_large_array_on_threads(rng):
    p, x = OUT_PARAMS["one"], rng.standard_normal((1 << 20) + 77, np.float32)
    for convention in ("onnx", "calculator"):
        q = qe.quantize(x, p, convention=convention)
        for lead in (0, 1, 63):
            room = np.full(x.size + 128, 77, np.int8)
            qe.quantize(x, p, convention=convention, out=room[lead : lead + x.size])
            np.testing.assert_array_equal(room[lead : lead + x.size], q)
            assert (room[:lead] == 77).all()
            assert (room[lead + x.size :] == 77).all()
            back = qe.dequantize(q, p, convention=convention)
            numbers = np.full(x.size + 128, 77, back.dtype)
            qe.dequantize(q, p, convention=convention, out=numbers[lead : lead + x.size])
            np.testing.assert_array_equal(numbers[lead : lead + x.size], back)
            assert (numbers[:lead] == 77).all()
            assert (numbers[lead + x.size :] == 77).all()
    want = qe.dequantize(q[:5000], p, convention="calculator", backend="reference")
    np.testing.assert_array_equal(back[:5000], want)
