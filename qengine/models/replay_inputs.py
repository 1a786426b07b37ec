"""What a replay is fed: arrays of a file, or seeded codes."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..exceptions import InputFileError
from .graph import Graph
from .replay import named_inputs, random_inputs
from .source import Array, file_size, reading

_RANDOM = "random:"


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
            raise InputFileError(f"random:SEED takes an integer in [0, 2**63); got {seed!r}.")
        return random_inputs(graph, int(seed))
    path = Path(source)
    if path.suffix not in (".npy", ".npz"):
        raise InputFileError(f"{source}: an input is a .npy or .npz file, or random:SEED.")
    file_size(path)
    damage = (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError, NotImplementedError)
    with reading(path, *damage):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays: dict[str, Array] | list[Array] = [loaded]
        else:
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    if isinstance(arrays, dict):
        names = {graph.tensors[k].name for k in graph.inputs}
        if not set(arrays) <= names:  # arr_0, arr_1 ...: in the model's order
            arrays = list(arrays.values())
    return named_inputs(graph, arrays)
