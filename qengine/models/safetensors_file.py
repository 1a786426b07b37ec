"""``.safetensors``: a JSON header and the bytes behind it. Parsed here, so that tensors are streamed.

Source: https://github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..exceptions import InputFileError
from .elements import ELEMENTS, anywhere, file_at, read_exactly, stream
from .source import TensorSource, file_size, reading, shape_of

#: The limit of the reference implementation.
_MAX_HEADER = 100_000_000
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    **{
        f"{letter}{bits}": f"{kind}{bits}" for bits in (8, 16, 32, 64) for letter, kind in (("I", "int"), ("U", "uint"))
    },
}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key of the header occurs twice")
    return fields


def _header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """Return the header and the place of the first byte behind it."""
    where = str(path)
    with file_at(path, 0)() as file:
        length = int.from_bytes(bytes(read_exactly(file, min(8, size), where)), "little")
        limit = min(size - 8, _MAX_HEADER)
        if not 2 <= length <= limit:
            raise InputFileError(
                f"{where}: the header must have 2 to {max(limit, 2)} bytes in a file of {size}; it declares {length}."
            )
        text = bytes(read_exactly(file, length, where))
    with reading(where, ValueError, RecursionError):
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise InputFileError(f"{where}: the header must be a JSON object; got {text[:40]!r}.")
    header.pop("__metadata__", None)
    return header, 8 + length


def _tensor(path: Path, name: str, fields: Any, data: int, available: int) -> tuple[int, int, TensorSource]:
    """Return where a tensor begins and ends in the data, and the tensor."""
    where = f"{path}, tensor {name[:200]!r}"
    if not isinstance(fields, dict) or not {"dtype", "shape", "data_offsets"} <= set(fields):
        raise InputFileError(f"{where}: the header must give dtype, shape and data_offsets; got {str(fields)[:120]}.")
    offsets, kind = fields["data_offsets"], fields["dtype"]
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(n) is int for n in offsets)):
        raise InputFileError(f"{where}: data_offsets must be two integers; got {str(offsets)[:120]}.")
    begin, end = offsets
    if not 0 <= begin <= end <= available:
        raise InputFileError(f"{where}: data_offsets must lie in order in [0, {available}]; got [{begin}, {end}].")
    if not isinstance(kind, str) or not isinstance(fields["shape"], list):
        raise InputFileError(f"{where}: dtype must be a string and shape a list; got {str(fields)[:120]}.")
    shape = shape_of(fields["shape"], where)
    if kind not in _TYPES:
        refusal = f"safetensors dtype {kind[:40]} is not read; known: {', '.join(_TYPES)}."
        return begin, end, TensorSource(name, shape, kind, "float64", lambda _: iter(()), refusal=refusal)
    element, count = ELEMENTS[_TYPES[kind]], math.prod(shape)
    if end - begin != element.nbytes(count):
        raise InputFileError(
            f"{where}: shape {shape} of {kind} is {element.nbytes(count)} bytes; "
            f"data_offsets [{begin}, {end}] are {end - begin}."
        )
    pieces = stream(file_at(path, data + begin), element, count, where)
    windows = anywhere(path, data + begin, element, where)
    return begin, end, TensorSource(name, shape, element.name, element.values, pieces, windows=windows)


def open_safetensors(path: Path) -> list[TensorSource]:
    """Return the tensors of a ``.safetensors`` file, in the order of their bytes, which must fill the file."""
    size = file_size(path)
    header, data = _header(path, size)
    tensors = [_tensor(path, name, fields, data, size - data) for name, fields in header.items()]
    tensors.sort(key=lambda tensor: tensor[:2])
    reached = 0
    for begin, end, source in tensors:
        if begin != reached:
            what = "overlaps the tensor before it" if begin < reached else "leaves a gap behind the tensor before it"
            raise InputFileError(
                f"{path}, tensor {source.name[:200]!r}: begins at byte {begin} of the data and {what}, "
                f"which ends at {reached}."
            )
        reached = end
    if reached != size - data:
        raise InputFileError(f"{path}: the tensors are {reached} bytes; {size - data} stand behind the header.")
    return [source for _, _, source in tensors]
