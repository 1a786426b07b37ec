"""An operator at work: its tensors, the values of its inputs, whose arithmetic runs, and what it must not ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..exceptions import DomainError, QEngineError, brief
from ..runtimes.activations import ACTIVATIONS, activation_range
from ..runtimes.columns import LIMITS
from ..runtimes.emulate import emulate
from .graph import Graph, GraphTensor, Operator
from .source import Array

RUNTIME = "litert"
#: Elements of a tensor that is replayed, of all of a model, and of the inputs that are drawn for it: networks stay far
#: below, and a damaged file that asks for more would take minutes and gigabytes.
LARGEST, TOGETHER, DRAWN = 1 << 25, 1 << 28, 1 << 24
#: Types of the operators that a profile covers, and their variants.
EIGHT = {"int8": "", "uint8": "u8"}


class NotCovered(QEngineError):
    """An operator that a replay cannot do, with the reason."""


def require(condition: bool, reason: str) -> None:
    """Raise NotCovered unless the condition holds."""
    if not condition:
        raise NotCovered(reason)


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose arithmetic is replayed: a path of the runtime, or a scheme in place of it (the counterfactual)."""

    path: str
    instead: str | None = None
    backend: str | None = None


@dataclass(eq=False, slots=True)
class Node:
    """One operator at work: its tensors, its inputs' values, and whose arithmetic runs.

    `weights` keeps what depends on constants alone, between runs.
    """

    graph: Graph
    operator: Operator
    values: list[Array | None]
    choice: Choice
    weights: dict[Any, Any] = field(default_factory=dict)
    trace: dict[str, Any] | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """Fields of the operator's options."""
        return self.operator.options

    def tensor(self, place: int) -> GraphTensor | None:
        """Return the input of that place, or None where it is absent."""
        inputs = self.operator.inputs
        if place >= len(inputs) or inputs[place] < 0:
            return None
        return self.graph.tensors[inputs[place]]

    def given(self, place: int) -> tuple[GraphTensor, Array]:
        """Return tensor and value of an input that has to be there."""
        tensor = self.tensor(place)
        require(tensor is not None, f"input {place} is missing")
        value = self.values[place]
        assert tensor is not None
        stored = f" of {tensor.dtype}" if tensor.dtype == "int4" else ""  # packed codes are not read
        require(value is not None, f"input {place} (tensor {tensor.index}{stored}) has no value")
        assert value is not None
        return tensor, value

    @property
    def output(self) -> GraphTensor:
        """The first output."""
        require(bool(self.operator.outputs), "it has no output")
        return self.graph.tensors[self.operator.outputs[0]]

    @property
    def activation(self) -> str:
        """The fused activation."""
        name = str(self.options.get("FusedActivationFunction", "NONE"))
        require(name in ACTIVATIONS, f"the fused activation {name} is not definable on codes")
        return name

    def clamp(self, path: str = "opt") -> tuple[int, int]:
        """Return the closed range of codes that the activation leaves."""
        scale, zero = per_tensor(self.output)
        return activation_range(self.activation, scale, zero, self.output.dtype, xnnpack=path == "xnnpack")

    def emulated(self, op: str, variant: str, path: str | None = None, **columns: Any) -> Array:
        """Return what the profile computes; the fused activation is applied where the operator has one."""
        path = path or self.choice.path
        more: dict[str, Any] = {}
        if self.activation != "NONE":
            more["activation"] = self.activation
        if self.trace is not None:
            self.trace.update(op=op, variant=variant, path=path, columns=columns, **more)
        return emulate(
            RUNTIME, op, path, variant=variant, positions="tensor", backend=self.choice.backend, **more, **columns
        )


def per_tensor(tensor: GraphTensor) -> tuple[np.float32, int]:
    """Return the one scale and zero point of a tensor."""
    require(tensor.scale.size == 1, f"tensor {tensor.index} needs one scale; it has {tensor.scale.size}")
    scale, zero = np.float32(tensor.scale[0]), int(tensor.zero_point[0])
    require(tensor.dtype in LIMITS, f"tensor {tensor.index} is of type {tensor.dtype}")
    low, high = LIMITS[tensor.dtype]
    require(bool(np.isfinite(scale) and scale > 0), f"tensor {tensor.index} has the scale {scale}")
    require(low <= zero <= high, f"tensor {tensor.index} of {tensor.dtype} has the zero point {zero}")
    return scale, zero


def bounded(shape: tuple[int, ...]) -> None:
    """Refuse tensors that only a damaged file asks for."""
    require(math.prod(shape) < LARGEST, f"a tensor of shape {shape} has more than {LARGEST - 1:,} elements")


def refuse_giants(graph: Graph) -> None:
    """Refuse a model whose tensors, as it declares them, are more than a replay takes, before anything is computed."""
    sizes = {k: math.prod(graph.tensors[k].shape) for operator in graph.operators for k in operator.outputs if k >= 0}
    if sum(sizes.values()) < TOGETHER and max(sizes.values(), default=0) < LARGEST:
        return
    most = graph.tensors[max(sizes, key=lambda k: sizes[k])]
    raise DomainError(
        f"{graph.where}: a replay takes tensors of up to {LARGEST - 1:,} elements, {TOGETHER - 1:,} in all; this model "
        f"declares {sum(sizes.values()):,}, the largest tensor {most.index} {brief(most.name)} of shape "
        f"{brief(most.shape)}. Give it a smaller batch."
    )


def eight(*tensors: GraphTensor) -> str:
    """Return the variant of a profile of 8-bit codes: all tensors are of one such type."""
    kinds = {tensor.dtype for tensor in tensors}
    require(len(kinds) == 1 and kinds <= set(EIGHT), f"types {', '.join(tensor.dtype for tensor in tensors)}")
    return EIGHT[kinds.pop()]


def same_codes(node: Node, *places: int) -> None:
    """Require that the output has the parameters of the inputs: then codes move, and nothing is rounded."""
    out = node.output
    for place in places:
        x, _ = node.given(place)
        require(x.dtype == out.dtype, f"types {x.dtype} and {out.dtype}")
        if x.quantized or out.quantized:
            same = np.array_equal(x.scale, out.scale) and np.array_equal(x.zero_point, out.zero_point)
            require(same, f"tensors {x.index} and {out.index} have other scales or zero points")


@dataclass(frozen=True, slots=True)
class Geometry:
    """Output size of a sliding window, and its pairs (vertical, horizontal)."""

    out: tuple[int, int]
    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]

    @classmethod
    def of(cls, options: Mapping[str, Any], shape: tuple[int, ...], size: tuple[int, int]) -> Geometry:
        """Compute TFLite's: SAME pads the smaller half first."""
        stride = int(options["StrideH"]), int(options["StrideW"])
        dilation = int(options.get("DilationHFactor", 1)), int(options.get("DilationWFactor", 1))
        out, before = [], []
        for n, k, s, d in zip(shape[1:3], size, stride, dilation, strict=True):
            reach = (k - 1) * d + 1
            count = -(-n // s) if options["Padding"] == 0 else (n - reach) // s + 1
            require(count > 0, f"a window of {reach} does not fit an image of {n}")
            out.append(count)
            before.append(max(0, (count - 1) * s + reach - n) // 2 if options["Padding"] == 0 else 0)
        return cls((out[0], out[1]), size, stride, dilation, (before[0], before[1]))
