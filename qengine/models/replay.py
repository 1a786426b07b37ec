"""A whole model, run with the arithmetic of a runtime's profiles, and compared with the runtime tensor by tensor."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import Progress, chosen
from ..backends import as_numpy
from ..exceptions import DomainError, DTypeError, QEngineError, UnknownNameError, brief
from ..runtimes.emulate import emulate
from .graph import Graph, GraphTensor, Operator, read_graph
from .replay_node import DRAWN, RUNTIME, Choice, Node, NotCovered, refuse_giants
from .replay_operators import compute
from .source import Array

PATHS = ("xnnpack", "opt", "ref")
#: Operators after which one element of the output stands for one accumulator.
ACCUMULATING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
#: Columns that are no single number for an element of the output.
WHOLE = frozenset({"SOFTMAX", "RESIZE_BILINEAR"})


@dataclass(frozen=True, slots=True)
class Skipped:
    """An operator that was not replayed, and why."""

    index: int
    name: str
    reason: str


class Replayed(dict[int, Array]):
    """Tensor index to its value; `skipped` lists the operators that were not done."""

    skipped: tuple[Skipped, ...] = ()


class Model:
    """A model that can be run again and again: what depends on its weights alone is kept."""

    def __init__(self, graph: Graph) -> None:
        refuse_giants(graph)
        self.graph = graph
        self._weights: dict[int, dict[Any, Any]] = {}

    def node(self, operator: Operator, values: Mapping[int, Array], choice: Choice) -> Node:
        """Return an operator with the values of its inputs."""
        tensors = self.graph.tensors
        given = [None if k < 0 else values.get(k, tensors[k].data) for k in operator.inputs]
        return Node(self.graph, operator, given, choice, self._weights.setdefault(operator.index, {}))

    def run(
        self,
        inputs: Mapping[int, Array],
        choice: Choice,
        *,
        recorded: Mapping[int, Array] | None = None,
        forced: bool = False,
        progress: Progress | None = None,
    ) -> Replayed:
        """Run all operators.

        Parameters
        ----------
        inputs : mapping
            Tensor index to codes, one for each of the model's inputs.
        recorded : mapping, optional
            What a runtime computed: the outputs of operators that are not covered are taken from there.
        forced : bool
            Feed every operator the recorded inputs, so that one difference stays one.
        """
        values: dict[int, Array] = dict(inputs)
        result, skipped = Replayed(inputs), []
        operators = self.graph.operators
        for operator in operators:
            try:
                written = compute(self.node(operator, values, choice))
            except NotCovered as error:
                skipped.append(Skipped(operator.index, operator.name, str(error)))
                values |= {k: recorded[k] for k in operator.outputs if recorded is not None and k in recorded}
            else:
                result[operator.outputs[0]] = written
                truth = recorded.get(operator.outputs[0]) if forced and recorded is not None else None
                values[operator.outputs[0]] = written if truth is None else truth
            if progress is not None:
                progress(operator.index + 1, len(operators))
        result.skipped = tuple(skipped)
        return result


def _checked(tensor: GraphTensor, value: Any) -> Array:
    where = f"input tensor {tensor.index} {tensor.name!r}"
    array = as_numpy(where, value)
    if array.dtype.name != tensor.dtype:
        raise DTypeError(f"{where} must be of {tensor.dtype}; got {array.dtype}.")
    if array.shape != tensor.shape:
        raise DomainError(f"{where} must have shape {tensor.shape}; got {array.shape}.")
    return np.ascontiguousarray(array).reshape(array.shape)


def named_inputs(graph: Graph, inputs: Any) -> dict[int, Array]:
    """Return the values of the model's inputs by tensor index, checked.

    `inputs`: one array, a sequence in the model's order, or a mapping by tensor index or name.
    """
    tensors = [graph.tensors[k] for k in graph.inputs]
    if isinstance(inputs, Mapping):
        known = {key: tensor for tensor in tensors for key in (tensor.index, tensor.name)}
        found: dict[int, Array] = {}
        for key, value in inputs.items():
            if key not in known:
                listing = ", ".join(f"{t.index} {t.name!r}" for t in tensors)
                raise UnknownNameError(f"the model has no input {brief(key)}; known: {listing}.")
            found[known[key].index] = _checked(known[key], value)
    else:
        several = isinstance(inputs, Sequence) and len(tensors) != 1
        values = list(inputs) if several or (isinstance(inputs, Sequence) and len(inputs) == 1) else [inputs]
        if len(values) != len(tensors):
            raise DomainError(f"the model has {len(tensors)} inputs; got {len(values)}.")
        found = {tensor.index: _checked(tensor, value) for tensor, value in zip(tensors, values, strict=True)}
    missing = [tensor for tensor in tensors if tensor.index not in found]
    if missing:
        raise DomainError(f"no value for input tensor {missing[0].index} {missing[0].name!r}.")
    return found


def random_inputs(graph: Graph, seed: int) -> dict[int, Array]:
    """Return uniform codes of each input's whole type, or standard normal float32, from ``default_rng(seed)``."""
    rng = np.random.default_rng(seed)
    found: dict[int, Array] = {}
    tensors = [graph.tensors[k] for k in graph.inputs]
    if sum(math.prod(tensor.shape) for tensor in tensors) > DRAWN:
        raise DomainError(
            f"random inputs are drawn up to {DRAWN:,} elements; the model declares "
            f"{brief([tensor.shape for tensor in tensors])}. Give a file, or the model a smaller batch."
        )
    for tensor in tensors:
        if tensor.dtype == "float32":
            found[tensor.index] = rng.standard_normal(tensor.shape, np.float32)
        elif tensor.dtype.startswith(("int", "uint")) and tensor.dtype not in ("int4", "uint4"):
            info = np.iinfo(tensor.dtype)
            found[tensor.index] = rng.integers(info.min, info.max, tensor.shape, tensor.dtype, endpoint=True)
        else:
            raise DTypeError(f"input tensor {tensor.index} {tensor.name!r} of {tensor.dtype}: give a file.")
    return found


def replay(
    model: os.PathLike[str] | str, inputs: Any, *, path: str = "xnnpack", backend: str | None = None
) -> Replayed:
    """Run a quantized TensorFlow Lite model with the exact arithmetic of LiteRT on x86-64.

    Parameters
    ----------
    model : path
        A ``.tflite`` file.
    inputs : ndarray, sequence or mapping
        Codes of the model's input; for several inputs a sequence in the model's order, or a mapping by tensor index or
        name. Shapes and types as the model states.
    path : {"xnnpack", "opt", "ref"}
        The default interpreter (operators that XNNPACK declines run the optimized kernel), the one without delegates,
        the reference kernels.
    backend : {"reference", "cpu"}, optional
        See `qengine.backends`.

    Returns
    -------
    Replayed
        A dict: index of a tensor in subgraph 0 to its value, for the inputs and for every tensor that was computed.
        ``.skipped`` lists the operators that are not covered, those after them included.

    Raises
    ------
    InputFileError
        The file is missing, damaged or no model.
    DomainError, DTypeError, UnknownNameError
        An input of another shape or type; an unknown path.

    Notes
    -----
    Integer sums are computed in float32 where every partial sum stays below 2**24, else in float64 below 2**53, so
    that they are exact; what follows them is `qengine.emulate`.

    References
    ----------
    TensorFlow Lite ``kernels/`` and XNNPACK, as each profile says (`qengine.get_profile`).

    Examples
    --------
    >>> import qengine as qe
    >>> tensors = qe.replay("mobilenet.tflite", codes, path="ref")                  # doctest: +SKIP
    >>> tensors[176].shape                                                          # doctest: +SKIP
    (1, 1001)
    """
    chosen("path", path, PATHS)
    graph = read_graph(model)
    return Model(graph).run(named_inputs(graph, inputs), Choice(path, backend=backend))


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor, replayed and real.

    `forced` and `chained` count elements that differ when the operator is fed the real inputs, and when only the
    model's input is given; None where the replay has no such tensor. `first` explains the first forced difference.
    """

    operator: int
    op: str
    tensor: int
    name: str
    elements: int
    forced: int | None
    chained: int | None
    largest: int | float
    first: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tensors of a model, against what they should be."""

    model: str
    path: str
    instead: str | None
    against: str
    rows: tuple[TensorRow, ...]
    skipped: tuple[Skipped, ...]
    outputs: tuple[int, ...]
    repaired: int

    def _sum(self, kind: str, rows: Sequence[TensorRow] | None = None) -> int:
        """Add up over the tensors that were replayed: what is taken from the runtime is not compared."""
        return sum(getattr(row, kind) or 0 for row in (self.rows if rows is None else rows) if row.forced is not None)

    @property
    def elements(self) -> int:
        """Elements compared."""
        return self._sum("elements")

    @property
    def forced(self) -> int:
        """Elements that differ, each operator fed the real inputs."""
        return self._sum("forced")

    @property
    def chained(self) -> int:
        """Elements that differ, only the model's input given."""
        return self._sum("chained")

    @property
    def final(self) -> tuple[int, int]:
        """Elements of the model's outputs that differ, chained, and their number."""
        rows = [row for row in self.rows if row.tensor in self.outputs]
        return self._sum("chained", rows), self._sum("elements", rows)

    @property
    def accumulators(self) -> tuple[int, int]:
        """Accumulators of convolutions and matrix products whose code differs, forced, and their number."""
        rows = [row for row in self.rows if row.op in ACCUMULATING]
        return self._sum("forced", rows), self._sum("elements", rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "model": self.model, "path": self.path, "instead": self.instead, "against": self.against,
            "elements": self.elements, "forced": self.forced, "chained": self.chained,
            "final_outputs": {"different": self.final[0], "elements": self.final[1]},
            "accumulators": {"different": self.accumulators[0], "elements": self.accumulators[1]},
            "repaired_quantized_dimensions": self.repaired,
            "tensors": [dataclasses.asdict(row) for row in self.rows],
            "not_covered": [dataclasses.asdict(row) for row in self.skipped],
        }  # fmt: skip


def merged(parts: Sequence[Comparison]) -> Comparison:
    """Return the comparison of several inputs of one model as one: counts add up."""
    rows = []
    for same in zip(*(part.rows for part in parts), strict=True):
        counts = [[getattr(row, kind) for row in same] for kind in ("forced", "chained")]
        forced, chained = (None if None in values else sum(values) for values in counts)
        rows.append(
            dataclasses.replace(
                same[0], elements=sum(row.elements for row in same), forced=forced, chained=chained,
                largest=max(row.largest for row in same), first=next((row.first for row in same if row.first), ""),
            )
        )  # fmt: skip
    return dataclasses.replace(parts[0], rows=tuple(rows))


def _alike(got: Array, real: Array) -> bool:
    """Return whether types and shapes agree; XNNPACK drops axes of one element where shapes of other ranks meet."""
    shapes = [[n for n in array.shape if n != 1] for array in (got, real)]
    return shapes[0] == shapes[1] and got.dtype == real.dtype


def _different(got: Array, real: Array) -> Array:
    """Return flat places that differ; NaN equals NaN."""
    if not _alike(got, real):
        return np.arange(max(real.size, 1))
    left, right = got.reshape(-1), real.reshape(-1)
    different = left != right
    if left.dtype.kind == "f":
        different &= ~(np.isnan(left) & np.isnan(right))
    return np.flatnonzero(different)


def _element(value: Any, shape: tuple[int, ...], place: tuple[int, ...]) -> Any:
    array = np.asarray(value)
    return array.item() if array.ndim == 0 else np.broadcast_to(array, shape)[place].item()


def _explain(node: Node, got: Array, real: Array, at: int) -> str:
    """Say what the first different element was made of, and what each path makes of it."""
    if not _alike(got, real):
        return f"the replay gives {got.dtype} {got.shape}, the other side {real.dtype} {real.shape}"
    got = got.reshape(real.shape)
    place = tuple(int(k) for k in np.unravel_index(at, real.shape)) if real.ndim else ()
    text = f"at {place}: replay {got[place]}, there {real[place]}"
    node.trace = {}
    node.choice = dataclasses.replace(node.choice, instead=None)
    compute(node)
    if not node.trace or node.trace["op"] in WHOLE:
        return text
    op, variant = node.trace["op"], node.trace["variant"]
    columns = {name: _element(value, real.shape, place) for name, value in node.trace["columns"].items()}
    text += "; " + ", ".join(f"{name} {value!r}" for name, value in columns.items())
    if "acc" in columns:
        exact = columns["acc"] * (columns["in_scale"] * columns["w_scale"] / columns["out_scale"])
        text += f"; acc * scales = {exact:.9g} before the zero point"
    typed: dict[str, Any] = {
        name: value if isinstance(value, float) else np.int64(value) for name, value in columns.items()
    }
    activation = {"activation": node.trace["activation"]} if "activation" in node.trace else {}
    answers = []
    for path in PATHS:
        try:
            answers.append(f"{path} {emulate(RUNTIME, op, path, variant=variant, **activation, **typed)}")
        except QEngineError:
            continue
    return f"{text}; one such element alone: {', '.join(answers)}"


def _rows(
    model: Model, forced: Replayed, chained: Replayed, real: Mapping[int, Array], choice: Choice
) -> Iterator[TensorRow]:
    for operator in model.graph.operators:
        for index in operator.outputs:
            if index not in real:
                continue
            tensor, truth = model.graph.tensors[index], real[index]
            done = index in forced
            bad = _different(forced[index], truth) if done else None
            first = ""
            largest: int | float = 0
            if done and bad is not None and bad.size:
                first = _explain(model.node(operator, real, choice), forced[index], truth, int(bad[0]))
            later = _different(chained[index], truth) if index in chained else None
            if later is not None and later.size and _alike(chained[index], truth):
                got = chained[index].reshape(truth.shape)
                gap = np.abs(got.astype(np.float64) - truth.astype(np.float64)).max()
                largest = int(gap) if truth.dtype.kind in "iu" else float(gap)
            yield TensorRow(
                operator.index, operator.name, index, tensor.name, int(truth.size), None if bad is None else bad.size,
                None if later is None else later.size, largest, first,
            )  # fmt: skip


def compare(
    model: Model,
    inputs: Mapping[int, Array],
    real: Mapping[int, Array],
    choice: Choice,
    against: str,
    progress: Progress | None = None,
) -> Comparison:
    """Replay forced and chained, and compare every tensor with `real`."""
    forced = model.run(inputs, choice, recorded=real, forced=True, progress=progress)
    chained = model.run(inputs, choice, recorded=real, progress=progress)
    rows = tuple(_rows(model, forced, chained, real, choice))
    graph = model.graph
    return Comparison(
        graph.where, choice.path, choice.instead, against, rows, forced.skipped, graph.outputs, graph.repaired
    )
