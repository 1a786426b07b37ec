"""error_report: channels, groups, formats, pieces, threads, what is not finite, what is refused, and its tables."""

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest

import qengine as qe
from qengine import backends
from qengine.affine import error_report
from qengine.affine.blocks import decode, encode, quantize_blocks
from qengine.affine.metrics import HIGHER_IS_BETTER, METRICS
from qengine.exceptions import BackendError, DomainError, DTypeError, UnknownNameError

from .test_metrics import check_counts, check_row, close, error_bins, measured, metrics

F32 = np.float32
LENGTH_OF_A_TILE = error_report.TILE
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
    monkeypatch.setattr(error_report, "TILE", TILE)


def test_the_length_of_a_tile_is_part_of_the_sums():
    """Another one would change last digits that are promised."""
    assert LENGTH_OF_A_TILE == 1 << 20


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


# --- bits -----------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_pieces_and_strides_give_the_same_bits(dtype, long, rng):
    x = long.astype(dtype)
    whole = qe.error_report(x, BIT_SPECS, backend="cpu", threads=1)
    sources = {
        "threads 2": (x, {"threads": 2}),
        "threads 5": (x, {"threads": 5}),
        "threads by default": (x, {}),
        "strided": (np.repeat(x, 2)[::2], {"threads": 2}),
        "reversed twice": (x[::-1].copy()[::-1], {"threads": 2}),
        "pieces of 1000": (Pieces(x, 1000), {"threads": 2}),
        "pieces of TILE - 1": (Pieces(x, TILE - 1), {"threads": 5}),
        "pieces of TILE + 1": (Pieces(x, TILE + 1), {"threads": 1}),
        "pieces at random": (Pieces(x, *rng.integers(1, TILE // 2, 40).tolist()), {"threads": 2}),
        "one piece": (Pieces(x, LENGTH), {"threads": 2}),
        "with empty pieces": (Pieces(x, 5, 0, 0, 2_100), {"threads": 2}),
    }
    for name, (source, options) in sources.items():
        report = qe.error_report(source, BIT_SPECS, backend="cpu", **options)
        assert report.shape == (LENGTH,), name
        for a, b in zip(report.rows, whole.rows, strict=True):
            same_bits(a, b)


def test_pieces_of_one_element(rng):
    x = rng.normal(0, 1, TILE + 5)
    specs = [{"range": (-3.0, 3.0)}, {"range": (-1.0, 2.0), "bits": 4, "mode": "asymmetric", "convention": "onnx"}]
    pairs = zip(qe.error_report(Pieces(x, 1), specs).rows, qe.error_report(x, specs).rows, strict=True)
    for a, b in pairs:
        same_bits(a, b)


@pytest.mark.parametrize("shape", [(3, 2, TILE // 4 + 3), (270, 190), (TILE + 9, 2)])
def test_orders_of_memory_give_the_same_bits(shape, rng):
    x = rng.normal(0, 1, shape).astype(F32)
    specs = [*BIT_SPECS[:4], qe.QuantSpec(bits=8, axis=0), qe.QuantSpec(bits=4, axis=-1, group=100)]
    whole = qe.error_report(x, specs, axis=1)
    wide = np.zeros((*shape[:-1], shape[-1] + 5), F32)
    wide[..., 2:-3] = x
    views = (
        np.asfortranarray(x),
        wide[..., 2:-3],
        np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
        x[::-1].copy()[::-1],
    )
    for view in views:
        assert not view.flags.c_contiguous or view is x
        for threads in (1, 3):
            for a, b in zip(qe.error_report(view, specs, axis=1, threads=threads).rows, whole.rows, strict=True):
                same_bits(a, b)
    for a, b in zip(qe.error_report(Pieces(x, 3_121), specs, axis=1, threads=2).rows, whole.rows, strict=True):
        same_bits(a, b)


def test_one_spec_alone_has_the_bits_that_it_has_among_others(long):
    x = long[: TILE + 100].astype(F32)
    for spec, row in zip(BIT_SPECS, qe.error_report(x, BIT_SPECS, backend="cpu").rows, strict=True):
        same_bits(qe.error_report(x, spec, backend="cpu").rows[0], row)


def test_reference_and_cpu(long, other_backend):
    x = long[: TILE + 4321]
    specs = [*BIT_SPECS, *qe.QuantSpec.grid(convention=["onnx", "torch", "tflite-opt", "tflite-ref"], bits=[8, 5])]
    for data in (x, x.astype(F32)):
        ours = qe.error_report(data, specs, backend="reference")
        theirs = qe.error_report(data, specs, backend=other_backend)
        for a, b in zip(ours.rows, theirs.rows, strict=True):
            alike(b, a)


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


# --- pieces ---------------------------------------------------------------------------------------------------


def test_pieces_of_channels_and_groups(rng):
    x = rng.normal(0, 1, (37, 130)).astype(F32)
    specs = [
        qe.QuantSpec(axis=0),
        qe.QuantSpec(axis=1, mode="asymmetric"),
        qe.QuantSpec(group=16),
        qe.QuantSpec(format="nvfp4"),
    ]
    for a, b in zip(
        qe.error_report(Pieces(x, 41), specs, axis=0).rows, qe.error_report(x, specs, axis=0).rows, strict=True
    ):
        same_bits(a, b)


def test_a_tensor_is_read_as_often_as_it_must(rng):
    x = rng.normal(0, 1, 5000)
    given = Pieces(x, 100)
    qe.error_report(given, [{"range": (-1.0, 1.0)}, qe.QuantParams(0.1, 0, -8, 7)])
    assert given.reads == 1
    found = Pieces(x, 100)
    qe.error_report(found, qe.QuantSpec.grid(bits=(4, 8), mode=("symmetric", "asymmetric")))
    assert found.reads == 2


def test_pieces_that_cannot(rng):
    x = rng.normal(0, 1, (4, 6, 5))
    with pytest.raises(DomainError, match=r"groups along axis 0.*in memory"):
        qe.error_report(Pieces(x, 10), {"axis": 0, "group": 2})
    for method in ("percentile", "mse"):
        with pytest.raises(DomainError, match=f"'{method}'.*in memory"):
            qe.error_report(Pieces(x, 10), {"axis": 0, "method": method})
    with pytest.raises(DomainError, match="axis 1"):
        qe.error_report(Pieces(x, 10), qe.QuantParams(np.ones((4, 3, 5)), 0, -8, 7, axis=1, group=2))


def test_a_tensor_that_ends_too_early(rng):
    source = Pieces(rng.normal(0, 1, 100), 30)
    source.shape = (101,)
    with pytest.raises(DomainError, match="100 of 101"):
        qe.error_report(source, qe.QuantParams(0.1, 0, -8, 7))


def test_a_tensor_that_does_not_end():
    """In a process of its own, with a time limit: a reader that goes on for ever would stop the whole suite."""
    program = """
import numpy as np, qengine as qe
class TooLong:
    shape = (100,)
    def chunks(self, elements=1 << 20):
        yield np.ones(90)
        yield np.ones(90)
try:
    qe.error_report(TooLong(), qe.QuantParams(0.1, 0, -8, 7))
except qe.DomainError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert "refused:" in done.stdout
    assert "100" in done.stdout


def test_pieces_of_several_dtypes_are_not_narrowed():
    a, b = np.array([0.1, 0.2], F32), np.array([0.1, 0.2, 0.3])

    class Mixed:
        shape = (5,)

        def chunks(self, elements=1 << 20):
            yield from (a, b)

    p = qe.QuantParams(1e-3, 0, -500, 500)
    want = qe.error_report(np.concatenate([a.astype(np.float64), b]), p).rows[0]
    try:
        same_bits(qe.error_report(Mixed(), p).rows[0], want)
    except DTypeError as error:
        assert "float32" in str(error)  # noqa: PT017


def test_an_error_of_the_source_comes_through(rng):
    class Broken(Pieces):
        def chunks(self, elements=1 << 20):
            yield self.x.reshape(-1)[:10]
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        qe.error_report(Broken(rng.normal(0, 1, 100), 30), qe.QuantParams(0.1, 0, -8, 7))


def test_progress(long):
    seen = []
    qe.error_report(long, {"range": (-1.0, 1.0)}, threads=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(min(k * TILE, LENGTH), LENGTH) for k in range(1, 5)]


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


# --- formats --------------------------------------------------------------------------------------------------


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
