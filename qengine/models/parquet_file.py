"""Parquet: every column of numbers is a tensor, read row group by row group. Needs pyarrow."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import InputFileError, brief
from .elements import ELEMENTS
from .source import Array, TensorSource, file_size, optional, reading

#: Values of a row group, which is held whole: 1 GiB of float64.
LARGEST_GROUP = 1 << 27
#: Arrow's names of types -> ours, where they differ.
_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}


def open_parquet(path: Path) -> list[TensorSource]:
    """Return the columns of a ``.parquet`` file: numbers as (rows,), lists of one fixed length as (rows, length)."""
    file_size(path)
    parquet = optional("pyarrow.parquet", path, "parquet")
    arrow = optional("pyarrow", path, "parquet")
    with reading(path, arrow.ArrowException, ValueError), parquet.ParquetFile(path) as file:
        schema, about = file.schema_arrow, file.metadata
        if (twice := [name for name in schema.names if schema.names.count(name) > 1]) != []:
            raise InputFileError(f"{path}: columns are read by name, and {brief(twice[0])} is the name of several.")
        rows = [about.row_group(k).num_rows for k in range(about.num_row_groups)]
    return [_column(path, field, rows, parquet, arrow) for field in schema]


def _column(path: Path, field: Any, rows: list[int], parquet: Any, arrow: Any) -> TensorSource:
    where = f"{path}, column {field.name!r}"
    is_list = arrow.types.is_fixed_size_list(field.type)
    kind = str(field.type.value_type if is_list else field.type)
    element, width = ELEMENTS.get(_NAMES.get(kind, kind)), field.type.list_size if is_list else 1
    shape = (sum(rows), width) if is_list else (sum(rows),)
    if element is None or kind in ("int4", "uint4"):
        reason = f"a column of type {field.type} is not read: numbers are, and lists of one fixed length of them."
        return TensorSource(field.name, shape, str(field.type), "float64", lambda _: iter(()), refusal=reason)
    if max(rows, default=0) * width > LARGEST_GROUP:
        reason = f"a row group of more than {LARGEST_GROUP:,} values is not read: write the file with smaller ones."
        return TensorSource(field.name, shape, str(field.type), "float64", lambda _: iter(()), refusal=reason)
    edges = [0, *itertools.accumulate(n * width for n in rows)]

    def group(k: int) -> Array:
        with (
            reading(where, arrow.ArrowException, ValueError),
            parquet.ParquetFile(path, page_checksum_verification=True) as file,
        ):
            column = file.read_row_group(k, columns=[field.name]).column(0)
            values = column.combine_chunks()
            if is_list:
                values = arrow.concat_arrays([one.flatten() for one in column.chunks])
        if column.null_count or values.null_count or len(values) != edges[k + 1] - edges[k]:
            raise InputFileError(f"{where}: row group {k} holds null values: fill them, or leave those rows out.")
        stored = np.asarray(values.to_numpy(zero_copy_only=False))
        return element.widen(stored, stored.size, edges[k], where)

    def pieces(elements: int) -> Iterator[Array]:
        for k in range(len(rows)):
            values = group(k)
            for begin in range(0, values.size, elements):
                yield values[begin : begin + elements]

    def windows(start: int, stop: int) -> Array:
        parts = []
        for k in range(bisect_right(edges, start) - 1, len(rows)):
            if edges[k] >= stop:
                break
            parts.append(group(k)[max(start - edges[k], 0) : stop - edges[k]])
        return np.concatenate(parts)

    return TensorSource(field.name, shape, element.name, element.values, pieces, windows=windows)
