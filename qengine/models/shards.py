"""One tensor in many files: shards of a folder or a pattern, one after the other along the first axis."""

from __future__ import annotations

import dataclasses
import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import InputFileError
from .source import Array, TensorSource

PATTERN = re.compile(r"[*?\[]")


def _natural(path: Path) -> list[Any]:
    """Return what sorts ``w_2`` before ``w_10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name)]


def shard_paths(path: Path, endings: dict[str, Any]) -> list[Path]:
    """Return the files of a folder, or of a pattern whose last part has ``* ? [``, in the order of their numbers."""
    folder = path.is_dir()
    found = path.iterdir() if folder else path.parent.glob(path.name)
    files = [one for one in found if one.suffix.lower() in endings and not one.name.startswith(".")]
    kinds = sorted({one.suffix.lower() for one in files})
    if not files and folder:
        raise InputFileError(f"{path}: a file is required, or shards; this is a folder without a file of tensors.")
    if not files:
        raise InputFileError(
            f"{path}: no file of tensors here has a name of this pattern; its ending may be {', '.join(endings)}."
        )
    if len(kinds) > 1:
        what = "this is a folder" if folder else "the pattern finds files"
        raise InputFileError(
            f"{path}: {what} of several endings ({', '.join(kinds)}), and shards have one: choose them by a pattern, "
            f"such as '{(path if folder else path.parent) / ('*' + kinds[0])}'."
        )
    return sorted(files, key=lambda one: (_natural(one), one.name))


def open_shards(path: Path, opened: Callable[[Path], list[TensorSource]], files: list[Path]) -> list[TensorSource]:
    """Return the tensors of shards: by name, or the only one of each file under the name of the folder or pattern."""
    tensors = [opened(one) for one in files]
    if all(len(one) == 1 for one in tensors):
        name = path.name if path.is_dir() else PATTERN.split(path.name)[0].rstrip("-_.") or path.parent.name
        return [joined(name, [one[0] for one in tensors], files)]
    names = [source.name for source in tensors[0]]
    for file, one in zip(files, tensors, strict=True):
        if [source.name for source in one] != names:
            raise InputFileError(
                f"{file}: every shard holds the tensors of the first, {', '.join(names[:5])}; this one has "
                f"{', '.join(source.name for source in one[:5])}."
            )
    return [joined(name, [one[k] for one in tensors], files) for k, name in enumerate(names)]


def joined(name: str, parts: list[TensorSource], files: list[Path]) -> TensorSource:
    """Return tensors that differ in nothing but their first axis as one."""
    first = parts[0]
    for file, part in zip(files, parts, strict=True):
        if part.refusal:
            return dataclasses.replace(part, name=name, refusal=f"{file}: {part.refusal}")
        if not part.shape or part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
            raise InputFileError(
                f"{file}: shards have one type, and one shape but for the first axis: {first.dtype} of "
                f"(..., {', '.join(map(str, first.shape[1:]))}) in {files[0].name}; this one is {part.dtype} of "
                f"{part.shape}."
            )
    edges = [0, *itertools.accumulate(part.size for part in parts)]

    def pieces(elements: int) -> Iterator[Array]:
        for part in parts:
            yield from part.chunks(elements)

    def windows(start: int, stop: int) -> Array:
        out = np.empty(stop - start, first.values)
        k, done = bisect_right(edges, start) - 1, 0
        while done < stop - start:
            begin, end = start + done - edges[k], min(stop, edges[k + 1]) - edges[k]
            out[done : done + end - begin] = parts[k].window(begin, end)
            done, k = done + end - begin, k + 1
        return out

    shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
    many = f"{len(parts)} shard{'s' * (len(parts) != 1)}"
    return TensorSource(
        name, shape, first.dtype, first.values, pieces, "; ".join(filter(None, (many, first.note))),
        windows=windows if all(part.windows for part in parts) else None,
    )  # fmt: skip
