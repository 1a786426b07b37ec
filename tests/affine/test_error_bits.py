"""error_report: the same bits for any number of threads, length of pieces and order in memory."""

import subprocess
import sys

import numpy as np
import pytest

import qengine as qe
from qengine.exceptions import DomainError, DTypeError

from . import reports
from .reports import BIT_SPECS, LENGTH, TILE, Pieces, alike, same_bits

F32 = np.float32
small_tiles, long = reports.small_tiles, reports.long


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
