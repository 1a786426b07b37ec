"""What a replay is fed: arrays of a file, or seeded codes."""

from __future__ import annotations

from pathlib import Path

from .. import arguments
from ..exceptions import DomainError, DTypeError, InputFileError, brief
from .graph import Graph, GraphTensor
from .npy_file import open_npy, open_npz
from .replay import named_inputs, random_inputs
from .source import Array, TensorSource

_RANDOM = "random:"
_OPENERS = {".npy": open_npy, ".npz": open_npz}


def read_inputs(graph: Graph, source: str) -> dict[int, Array]:
    """Return the model's inputs from ``random:SEED`` or a ``.npy`` / ``.npz`` file.

    Raises
    ------
    InputFileError
        A seed that is no integer in [0, 2**63); a file that is missing, damaged or of another kind.
    DomainError, DTypeError
        Arrays of another shape or type than the model's inputs.
    """
    if source.startswith(_RANDOM):
        seed = source.removeprefix(_RANDOM)
        if not (seed.isascii() and seed.isdecimal() and len(seed) < 20 and int(seed) < 1 << 63):
            raise InputFileError(f"random:SEED takes an integer in [0, 2**63); got {brief(seed)}.")
        return random_inputs(graph, int(seed))
    path = Path(arguments.path("input", source))
    if path.suffix not in _OPENERS:
        raise InputFileError(f"{brief(source)}: an input is a .npy or .npz file, or random:SEED.")
    found = _OPENERS[path.suffix](path)
    tensors = [graph.tensors[k] for k in graph.inputs]
    names, given = {tensor.name: tensor for tensor in tensors}, {one.name: one for one in found}
    # Shapes and types are compared before the values are read: a header may declare any size.
    if path.suffix == ".npz" and set(given) <= set(names) and len(given) == len(found):
        return named_inputs(graph, {name: _values(path, one, names[name]) for name, one in given.items()})
    if len(found) != len(tensors):
        raise DomainError(f"{path}: the model has {len(tensors)} inputs; the file holds {len(found)} arrays.")
    return named_inputs(graph, [_values(path, one, tensor) for one, tensor in zip(found, tensors, strict=True)])


def _values(path: Path, stored: TensorSource, tensor: GraphTensor) -> Array:
    where = f"{path}, {brief(stored.name)}"
    wanted = f"input tensor {tensor.index} {tensor.name!r} must be of {tensor.dtype} with shape {tensor.shape}"
    if stored.refusal:
        raise DTypeError(f"{where}: {stored.refusal}")
    if stored.dtype != tensor.dtype:
        raise DTypeError(f"{where}: {wanted}; got {stored.dtype}.")
    if stored.shape != tensor.shape:
        raise DomainError(f"{where}: {wanted}; got shape {stored.shape}.")
    return stored.read(stored.dtype)
