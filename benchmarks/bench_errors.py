"""`qengine.error_report` and `qengine.quantize`: shares of the bandwidth for reading, and peers in the same run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np

import qengine as qe

from . import common

#: Far outside every cache.
LARGE = 1 << 26 if common.QUICK else 1 << 27
SOME = 1 << 22
RANGE = (-6.0, 6.0)
CONVENTIONS = ("calculator", "onnx", "xnnpack", "torch")
SPECS = qe.QuantSpec.grid(bits=(2, 3, 4, 5, 6, 8), mode=("symmetric", "asymmetric"), range=[(-3.0, 3.0), RANGE])


def normal(size: int) -> np.ndarray:
    """Return standard normal float32 samples, made of 2**22 distinct ones."""
    some = np.random.default_rng(2**18 + 4).standard_normal(min(size, SOME), dtype=np.float32)
    return np.tile(some, size // some.size)


@numba.njit(nogil=True, fastmath=True)
def _read(x):
    total = np.float32(0)
    for i in range(x.size):
        total += x[i]
    return total


def reader(x: np.ndarray, count: int) -> Callable[[], None]:
    """Return a call that reads an array on `count` threads and keeps one sum a thread: the measure of bandwidth."""
    step = -(-x.size // count)
    parts = [x[i : i + step] for i in range(0, x.size, step)]
    pool = ThreadPoolExecutor(count)

    def read() -> None:
        for future in [pool.submit(_read, part) for part in parts]:
            future.result()

    return read


class ErrorReport:
    """One integer spec on a large tensor, its range given: share of what reading alone would take."""

    params = (("moments", "with histograms"), ("1 thread", "all threads"))
    param_names = ("metrics", "threads")
    timeout = 600

    @common.tracked(
        "of reading", lambda metrics, threads: 0.6 if (metrics, threads) == ("moments", "all threads") else None
    )
    def track_share_of_read_bandwidth(self, metrics: str, threads: str) -> float:
        x, count = normal(LARGE), 1 if threads == "1 thread" else common.processors()
        params, histograms = qe.choose_qparams(RANGE), metrics != "moments"
        report = lambda: qe.error_report(x, params, histograms=histograms, threads=count)  # noqa: E731
        read, measured = common.best_seconds(reader(x, count), report, rounds=4)
        return read / measured


class ErrorReportMany:
    """24 specs in one pass, everything counted, all threads, against the NumPy reference."""

    timeout = 600

    @common.tracked("x NumPy", lambda: 30.0)
    def track_24_specs(self) -> float:
        x = normal(1 << 22)
        small = x[: 1 << 18]
        ours, numpy = common.best_seconds(
            lambda: qe.error_report(x, SPECS), lambda: qe.error_report(small, SPECS, backend="reference"), rounds=2
        )
        return (numpy / small.size) / (ours / x.size)

    @common.tracked("G spec elements/s")
    def track_rate(self) -> float:
        x = normal(1 << 22)
        return x.size * len(SPECS) / common.best_seconds(lambda: qe.error_report(x, SPECS), rounds=2)[0] / 1e9


_MEMORY = """
import resource, numpy as np, qengine as qe
x = np.zeros({size}, np.float32)
x[::7] = 1.25
params = qe.choose_qparams((-6.0, 6.0))
qe.error_report(x[: 1 << 22], params)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
qe.error_report(x, params)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


class ErrorReportMemory:
    """Memory beyond the input."""

    timeout = 600

    @common.tracked("MiB left of 64", lambda: 0.0)
    def track_headroom(self) -> float:
        code = _MEMORY.format(size=LARGE)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
        return 64.0 - float(done.stdout)


class Quantize:
    """float32 to int8 codes, one scale."""

    params = (CONVENTIONS,)
    param_names = ("convention",)

    @common.tracked("G elements/s")
    def track_rate(self, convention: str) -> float:
        x, params = normal(1 << 22), qe.choose_qparams(RANGE)
        call = lambda: qe.quantize(x, params, convention=convention)  # noqa: E731
        return x.size / common.best_seconds(call)[0] / 1e9

    @common.tracked("x NumPy")
    def track_against_numpy(self, convention: str) -> float:
        x, params = normal(1 << 20), qe.choose_qparams(RANGE)
        calls = [
            lambda backend=backend: qe.quantize(x, params, convention=convention, backend=backend)
            for backend in ("cpu", "reference")
        ]
        ours, numpy = common.best_seconds(*calls)
        return numpy / ours


LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, int | None]] = {
    # shape of x, of the scales, their axis, samples a group
    "rows of channels": ((512, 8192), (512,), 0, None),
    "channels side by side": ((8192, 512), (512,), 1, None),
    "groups of 128": ((512, 8192), (512, 64), 1, 128),
}


class QuantizeChannels:
    """float32 to int8 codes of 2^22 samples, a scale a channel or a group."""

    params = (CONVENTIONS, tuple(LAYOUTS))
    param_names = ("convention", "layout")

    @common.tracked("G elements/s", lambda convention, layout: None)
    def track_rate(self, convention: str, layout: str) -> float:
        shape, sets, axis, group = LAYOUTS[layout]
        x, scale = normal(1 << 22).reshape(shape), np.random.default_rng(2**18 + 11).uniform(0.01, 0.05, sets)
        params = qe.QuantParams(scale.astype(np.float32).astype(float), 0, -128, 127, axis=axis, group=group)
        out = np.empty(shape, np.int8)
        call = lambda: qe.quantize(x, params, convention=convention, out=out)  # noqa: E731
        return x.size / common.best_seconds(call)[0] / 1e9


def _torch(x: np.ndarray, scale: float) -> Callable[[], Any]:
    """torch's fake_quantize and the metrics that one would take of it."""
    import torch

    torch.set_num_threads(common.processors())
    tensor = torch.from_numpy(x)

    def call() -> list[float]:
        y = torch.fake_quantize_per_tensor_affine(tensor, scale, 0, -128, 127)
        e = tensor - y
        mse = (e * e).mean()
        sqnr = 20 * torch.log10(tensor.norm() / e.norm())
        cosine = torch.nn.functional.cosine_similarity(tensor, y, dim=0)
        return [v.item() for v in (mse, e.abs().mean(), e.abs().max(), e.mean(), sqnr, cosine)]

    return call


def _onnxruntime(x: np.ndarray, scale: float) -> Callable[[], Any]:
    """A session of QuantizeLinear and DequantizeLinear, and the same metrics in NumPy."""
    import onnxruntime
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [helper.make_tensor("s", TensorProto.FLOAT, [], [scale]), helper.make_tensor("z", TensorProto.INT8, [], [0])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = common.processors()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def call() -> list[float]:
        y = session.run(None, {"x": x})[0]
        e = x - y
        squares, energy = float(np.dot(e, e)), float(np.dot(x, x))
        size = np.abs(e)
        cosine = float(np.dot(x, y)) / (energy * float(np.dot(y, y))) ** 0.5
        return [squares / x.size, float(size.mean()), float(size.max()), float(e.mean()), energy / squares, cosine]

    return call


class Peers:
    """The error of int8 on 2**24 samples: quantize, reconstruct and six metrics, as one would with each library."""

    params = (("torch", "onnxruntime"), ("moments", "with histograms"))
    param_names = ("peer", "metrics")
    timeout = 600

    @common.tracked("x the peer", lambda peer, metrics: 1.0 if find_spec(peer) else None)
    def track_times_faster(self, peer: str, metrics: str) -> float:
        if find_spec(peer) is None or (peer == "onnxruntime" and find_spec("onnx") is None):
            return float("nan")
        x, convention = normal(1 << 24), "onnx" if peer == "onnxruntime" else "torch-fake"
        params = qe.choose_qparams(RANGE, scale_dtype="float32")
        theirs = {"torch": _torch, "onnxruntime": _onnxruntime}[peer](x, params.scale)
        spec = qe.QuantSpec(params=params, convention=convention)
        ours, peer_seconds = common.best_seconds(
            lambda: qe.error_report(x, spec, histograms=metrics != "moments"), theirs, rounds=3
        )
        return peer_seconds / ours
