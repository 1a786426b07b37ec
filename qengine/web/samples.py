"""The samples of a request: pasted text, a list of numbers or an uploaded file, within the caps."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from starlette.datastructures import UploadFile

from ..exceptions import QEngineError
from ..models.source import TensorSource
from ..models.tensors import open_tensors
from ..models.text import open_text_file, parse_numbers
from .errors import RequestRefusedError, refused_field
from .limits import Limits

#: Endings of files that are taken.
ENDINGS = (".csv", ".txt", ".tsv", ".npy")
_SEPARATORS = re.compile(r"[\s,x×*;()\[\]]+")
Array = npt.NDArray[Any]


def _in_memory(name: str, array: Array, dtype: str, note: str) -> TensorSource:
    def pieces(elements: int) -> Iterator[Array]:
        flat = array.reshape(-1)
        return (flat[start : start + elements] for start in range(0, flat.size, elements))

    return TensorSource(name, array.shape, dtype, str(array.dtype), pieces, note)


def _within(count: int, limits: Limits, field: str, more: str = "") -> None:
    if count > limits.elements:
        raise refused_field(
            field,
            f"At most {limits.elements:,} samples are taken here; these are {count:,}{more}. The command line "
            "(qengine analyze) takes files of any size.",
            413,
        )


def parse_shape(shape: str | Sequence[int], count: int) -> tuple[int, ...]:
    """Return the shape that was given for so many samples; one dimension where none was."""
    if isinstance(shape, str):
        words = [word for word in _SEPARATORS.split(shape) if word]
        if not all(word.isascii() and word.isdigit() and len(word) < 12 for word in words):
            raise refused_field("shape", "A shape is written as whole numbers, such as 4, 8.")
        shape = [int(word) for word in words]
    if not shape:
        return (count,)
    if len(shape) > 8:
        raise refused_field("shape", f"A shape has at most 8 dimensions here; this has {len(shape)}.")
    if any(n < 1 for n in shape) or math.prod(shape) != count:
        text = " x ".join(map(str, shape))
        raise refused_field("shape", f"A shape of {text} is {math.prod(shape):,} samples; there are {count:,}.")
    return tuple(shape)


def pasted(name: str, values: str | list[float], shape: str | Sequence[int], limits: Limits) -> TensorSource:
    """Return the tensor of pasted text, or of a list of numbers.

    Raises
    ------
    RequestRefusedError, InputFileError
        No samples, too many, a shape that does not fit; text that is no number, with its line and column.
    """
    if isinstance(values, str):
        if not values.strip():
            raise refused_field("values", "Samples are needed: paste numbers, choose a file, or load the example.")
        # The brackets of a list that Python prints mean nothing here; blanks keep the columns of messages.
        text = values.replace("[", " ").replace("]", " ")
        array = parse_numbers(text, "values", lambda count: _within(count, limits, "values", " or more"))
    else:
        array = np.array(values, np.float64)
    if not array.size:
        raise refused_field("values", "At least one sample is needed.")
    _within(array.size, limits, "values")
    return _in_memory(name, array.reshape(parse_shape(shape, array.size)), "float64", "")


def uploaded(name: str, filename: str, stream: BinaryIO, shape: str | Sequence[int], limits: Limits) -> TensorSource:
    """Return the tensor of an uploaded file; the client's name for it says its kind and nothing else.

    Raises
    ------
    RequestRefusedError
        For another kind of file, a damaged one, or one with too many samples.
    """
    ending = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
    if ending not in ENDINGS:
        raise refused_field("file", f"A file that ends in {', '.join(ENDINGS)} is needed; got {filename[-60:]!r}.")
    with tempfile.TemporaryDirectory(prefix="qengine-") as folder:
        path = Path(folder, f"samples{ending}")
        with path.open("wb") as copy:
            while block := stream.read(1 << 20):
                copy.write(block)
        try:
            if ending == ".npy":
                (source,) = open_tensors(path)
            else:
                (source,) = open_text_file(path, lambda count: _within(count, limits, "file", " or more"))
            _within(source.size, limits, "file")
            array = source.read()
        except QEngineError as error:
            raise refused_field("file", str(error).replace(str(path), "The file")) from None
    if not array.size:
        raise refused_field("file", "The file holds no sample.")
    if shape:
        array = array.reshape(parse_shape(shape, array.size))
    return _in_memory(name, array, source.dtype, "" if source.dtype == "text" else source.note)


def as_text(array: Array) -> str:
    """Return samples as they can be pasted; reading them gives the same numbers."""
    return ", ".join(map(repr, array.reshape(-1).astype(np.float64).tolist()))


def check_work(elements: int, choices: int, limits: Limits) -> None:
    """Refuse a comparison of too many choices on too many samples."""
    if elements * choices > limits.work:
        raise RequestRefusedError(
            f"{choices:,} choices on {elements:,} samples are {elements * choices:,} to measure; at most "
            f"{limits.work:,} are taken here. Name fewer choices, or use qengine compare.",
            status=413,
        )


def check_scales(
    shape: Sequence[int], granularity: str, axis: int | None, group: int, methods: Container[str], limits: Limits
) -> None:
    """Refuse more scales than are found in time; an axis that is none is left to the engine, which says so."""
    if granularity == "tensor" or not shape:
        return
    axis = (0 if granularity == "channel" else -1) if axis is None else axis
    if not -len(shape) <= axis < len(shape):
        return
    length = shape[axis]
    scales = length if granularity == "channel" else math.prod(shape) // max(length, 1) * -(-length // group)
    most = limits.scales // (64 if "entropy" in methods else 1)
    if scales > most:
        raise refused_field(
            "granularity", f"At most {most:,} scales are taken here; these settings have {scales:,}. Take "
            "larger groups, or use the command line.", 413,
        )  # fmt: skip


def tensor_of(form: Any, file: UploadFile | None, caps: Limits) -> TensorSource:
    """Return the tensor that a form holds: its file if one was sent, or its values."""
    if file is None:
        return pasted(form.name, form.values, form.shape, caps)
    return uploaded(form.name, file.filename or "", file.file, form.shape, caps)
