"""PyTorch's tensors on a real device, and streams that are not the default one; needs a GPU."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import qengine as qe
from tests.conftest import serving

pytestmark = pytest.mark.cuda

M = qe.QuantizedMultiplier(1_527_099_593, -6)
PARAMS = qe.QuantParams(0.03, -3, -128, 127)
SHAPE = (61, 67)


@pytest.fixture(autouse=True)
def _served() -> None:
    serving("cuda")


@pytest.fixture
def torch() -> Any:
    package = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not package.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA device")
    return package


@pytest.fixture
def acc(rng: np.random.Generator) -> npt.NDArray[np.int32]:
    return rng.integers(-40_000, 40_000, SHAPE, dtype=np.int32)


@pytest.fixture
def x(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return rng.standard_normal(SHAPE).astype(np.float32)


def is_tensor(torch: Any, result: Any, wanted: npt.NDArray[Any]) -> None:
    assert isinstance(result, torch.Tensor)
    assert result.is_cuda
    host = result.cpu().numpy()
    assert host.dtype == wanted.dtype
    assert np.array_equal(host, wanted)


def test_requantize(torch: Any, acc: npt.NDArray[Any]) -> None:
    given = torch.from_numpy(acc).cuda()
    wanted = qe.requantize(acc, M, dtype="int8", backend="reference")
    is_tensor(torch, qe.requantize(given, M, dtype="int8"), wanted)
    out = torch.empty(SHAPE, dtype=torch.int8, device="cuda")
    assert qe.requantize(given, M, out=out) is out
    is_tensor(torch, out, wanted)
    assert torch.equal(given.cpu(), torch.from_numpy(acc))
    is_tensor(torch, qe.requantize(given.T, M), qe.requantize(acc.T, M, backend="reference"))


def test_quantize(torch: Any, x: npt.NDArray[Any]) -> None:
    given = torch.from_numpy(x).cuda()
    codes = qe.quantize(x, PARAMS, backend="reference")
    is_tensor(torch, qe.quantize(given, PARAMS), codes)
    out = torch.empty(SHAPE, dtype=torch.int8, device="cuda")
    assert qe.quantize(given, PARAMS, out=out) is out
    is_tensor(torch, out, codes)
    is_tensor(torch, qe.dequantize(torch.from_numpy(codes).cuda(), PARAMS), qe.dequantize(codes, PARAMS))
    is_tensor(torch, qe.fake_quantize(given, PARAMS), qe.fake_quantize(x, PARAMS, backend="reference"))
    is_tensor(
        torch, qe.quantize_blocks(given, "mxfp4").codes, qe.quantize_blocks(x, "mxfp4", backend="reference").codes
    )


def test_error_report(torch: Any, x: npt.NDArray[Any]) -> None:
    specs = qe.QuantSpec.grid(bits=(4, 8))
    found = qe.error_report(torch.from_numpy(x).cuda(), specs)
    wanted = qe.error_report(x, specs, backend="reference")
    for row, other in zip(found.rows, wanted.rows, strict=True):
        assert row.max_abs == other.max_abs
        assert row.mse == pytest.approx(other.mse, rel=1e-12)
        assert np.array_equal(row.code_counts, other.code_counts)


def test_gradients(torch: Any) -> None:
    given = torch.zeros(3, device="cuda", requires_grad=True)
    with pytest.raises(qe.DTypeError, match="x must not record gradients: codes have none"):
        qe.quantize(given, PARAMS)
    assert qe.quantize(given.detach(), PARAMS).tolist() == [-3, -3, -3]


def test_the_stream_of_pytorch_is_waited_for(torch: Any) -> None:
    """What another stream of PyTorch's writes is seen, and what is handed back may be read there at once."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        given = torch.zeros(1 << 20, dtype=torch.int32, device="cuda")
        torch.cuda._sleep(50_000_000)
        given += 4000
        found = qe.requantize(given, qe.QuantizedMultiplier(1 << 30, -1), dtype="int32")
        total = int(found.sum())
    assert total == 1000 << 20


# ---------------------------------------------------------------------------------------------------------
# The caller's stream


@contextlib.contextmanager
def held(cupy: Any) -> Iterator[tuple[Any, threading.Event]]:
    """Yield (stream, gate): current, waiting for no other stream, and at a standstill until the gate is set."""
    gate = threading.Event()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.launch_host_func(lambda _: gate.wait(20), None)
        try:
            yield stream, gate
        finally:
            gate.set()
            stream.synchronize()


def test_requantize_on_the_current_stream(acc: npt.NDArray[Any]) -> None:
    """Nothing is written while the stream is held, and all of it once the stream has gone on."""
    cupy = pytest.importorskip("cupy")
    wanted = qe.requantize(acc, M, dtype="int8", backend="reference")
    given, out = cupy.asarray(acc), cupy.full(SHAPE, 77, np.int8)
    qe.requantize(given, M, out=out)  # compiled: loading a module waits for the device
    out.fill(77)
    cupy.cuda.Device().synchronize()
    look = cupy.cuda.Stream(non_blocking=True)
    with held(cupy) as (stream, gate):
        assert qe.requantize(given, M, out=out) is out
        done = stream.record()
        assert not done.done
        with look:
            assert (out.get(stream=look) == 77).all()
        gate.set()
        stream.synchronize()
        assert done.done
    assert np.array_equal(out.get(), wanted)


def test_quantize_on_the_current_stream(x: npt.NDArray[Any]) -> None:
    """What the stream writes into x before is what is quantized, though no other stream is waited for."""
    cupy = pytest.importorskip("cupy")
    wanted = qe.quantize(x, PARAMS, backend="reference")
    there, given = cupy.asarray(x), cupy.zeros(SHAPE, np.float32)
    qe.quantize(given, PARAMS)
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.launch_host_func(lambda _: time.sleep(0.2), None)
        cupy.copyto(given, there)
        codes = qe.quantize(given, PARAMS)
        back = qe.dequantize(codes, PARAMS)
        stream.synchronize()
    assert np.array_equal(codes.get(), wanted)
    assert np.array_equal(back.get(), qe.dequantize(wanted, PARAMS, backend="reference"))


def test_sweep_on_the_current_stream() -> None:
    """One worker is the caller's thread: what it launches waits for the caller's stream."""
    cupy = pytest.importorskip("cupy")
    choice: dict[str, Any] = {"multiplier_range": (0.01, 0.99), "pairs": 20_000, "seed": 5}
    wanted = qe.sweep("single", "double", backend="reference", **choice)
    qe.sweep("single", "double", backend="cuda", **choice)  # compiled: what follows takes less than the stream's work
    order = []
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.launch_host_func(lambda _: (time.sleep(0.2), order.append("stream")), None)
        found = qe.sweep("single", "double", backend="cuda", threads=1, **choice)
        order.append("sweep")
    assert order == ["stream", "sweep"]
    assert found.digest == wanted.digest
