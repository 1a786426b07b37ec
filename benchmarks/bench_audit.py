"""`qengine.audit` and `qengine.replay`: the model of the demonstration, and where ``../shared`` is here real ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

import qengine as qe
from qengine.models.graph import read_graph
from qengine.models.replay import random_inputs

from . import common

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "models"
MODELS = {
    "demo": ROOT / "qengine" / "demo" / "network.tflite",
    "MobileNetV2 int8": SHARED / "tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "MobileNetV2 uint8": SHARED / "mobilenet_v2_1.0_224_quant.tflite",
}
LARGE = tuple(name for name in MODELS if name != "demo")


def model(name: str) -> Path:
    """Return a model's file, or skip, as asv understands it, where it is not here."""
    if not MODELS[name].exists():
        raise NotImplementedError(f"{name} is not in {SHARED.relative_to(ROOT.parent)}, beside the repository")
    return MODELS[name]


def inputs(name: str) -> dict[int, np.ndarray]:
    return random_inputs(read_graph(model(name)), 2**18 + 10)


def products(name: str) -> int:
    """Return the products that one input costs: an output element needs as many as its filter has weights."""
    graph, total = read_graph(model(name)), 0
    for operator in graph.operators:
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weights = graph.tensors[operator.inputs[1]].shape
            filter_shape = weights[1:-1] if operator.name == "DEPTHWISE_CONV_2D" else weights[1:]
            total += math.prod(graph.tensors[operator.outputs[0]].shape) * math.prod(filter_shape)
    return total


class Audit:
    """A whole model, the three paths of LiteRT: seconds from file to result."""

    params = (tuple(MODELS),)
    param_names = ("model",)
    timeout = 300

    def setup(self, name: str) -> None:
        self.path = model(name)

    @common.tracked("s", lambda name: 10.0)
    def track_seconds(self, name: str) -> float:
        return common.best_seconds(lambda: qe.audit(self.path), rounds=3)[0]

    @common.tracked("states")
    def track_divergent(self, name: str) -> float:
        """States on which some pair of paths differs, summed over pairs: a count, not a rate."""
        return float(sum(total.divergent for total in qe.audit(self.path).totals))

    @common.tracked("G states/s")
    def track_states(self, name: str) -> float:
        found = qe.audit(self.path)
        states = len(found.couples) * sum(layer.states for layer in found.layers)
        return states / common.best_seconds(lambda: qe.audit(self.path), rounds=3)[0] / 1e9


class Replay:
    """One input through a whole model, every tensor kept."""

    params = (tuple(MODELS), ("xnnpack", "opt", "ref"))
    param_names = ("model", "path")
    timeout = 300

    def setup(self, name: str, path: str) -> None:
        self.path, self.inputs = model(name), inputs(name)

    @common.tracked("s")
    def track_seconds(self, name: str, path: str) -> float:
        return common.best_seconds(lambda: qe.replay(self.path, self.inputs, path=path), rounds=3)[0]


class Interpreter:
    """The same input through ai-edge-litert's reference kernels."""

    params = (LARGE,)
    param_names = ("model",)
    timeout = 300

    def setup(self, name: str) -> None:
        try:
            from ai_edge_litert import interpreter
        except ImportError:
            raise NotImplementedError("the interpreter needs ai-edge-litert") from None
        kind = interpreter.OpResolverType.BUILTIN_REF
        self.runtime = interpreter.Interpreter(str(model(name)), experimental_op_resolver_type=kind, num_threads=1)
        self.runtime.allocate_tensors()
        for index, codes in inputs(name).items():
            self.runtime.set_tensor(index, codes)

    @common.tracked("s")
    def track_seconds(self, name: str) -> float:
        return common.best_seconds(self.runtime.invoke, rounds=3)[0]


class ReplayRoofline:
    """Products a second of a replay, beside those of a matrix product of NumPy on as many threads."""

    params = (LARGE,)
    param_names = ("model",)
    timeout = 300

    def setup(self, name: str) -> None:
        self.path, self.inputs, self.products = model(name), inputs(name), products(name)

    @common.tracked("% of a float32 matrix product")
    def track_share(self, name: str) -> float:
        square = np.random.default_rng(2**18 + 11).standard_normal((1024, 1024), dtype=np.float32)
        ours, product = common.best_seconds(
            lambda: qe.replay(self.path, self.inputs), lambda: np.matmul(square, square), rounds=3
        )
        return 100 * (self.products / ours) / (1024**3 / product)


class ReplayWings:
    """The demonstration's tensors on ``cpu`` and on ``reference``: elements that differ."""

    @common.tracked("outputs", lambda: 0)
    def track_differing(self) -> float:
        given, differ = inputs("demo"), 0
        for path in ("xnnpack", "opt", "ref"):
            ours, reference = (
                qe.replay(MODELS["demo"], given, path=path, backend=backend) for backend in ("cpu", "reference")
            )
            differ += sum(int(np.count_nonzero(ours[k] != reference[k])) for k in reference)
        return float(differ)
