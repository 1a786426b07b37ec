"""What tiles of a tensor compute, as something to send: a worker reads the samples itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from ..backends.quantizers import ErrorPlan
from .histogram import Histogram
from .measure import TILE, checksum
from .segments import samples
from .windows import Windowed

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ErrorTask:
    """The sums of some tiles, and their checksums if there is a checkpoint, which has counted `known` elements."""

    tensor: Windowed
    plan: ErrorPlan
    backend: str
    known: int
    checked: bool

    def __call__(self, start: int, stop: int) -> list[tuple[bytes, Any]]:
        """Measure the tiles of a range."""
        piece = samples(self.tensor.window(start, stop))
        parts = [piece[first : first + TILE] for first in range(0, piece.size, TILE)]
        checks = [checksum(part) if self.checked else b"" for part in parts]
        results: list[Any] = [None] * len(parts)
        if self.backend == "cuda" and stop > self.known:
            results = backends.device_backend().error_tiles(piece, start, self.plan, TILE)
        elif self.backend != "cuda":
            engine = backends.load(self.backend)
            for k, part in enumerate(parts):
                first = start + k * TILE
                if first + part.size > self.known:
                    results[k] = engine.error_tile(part, first, self.plan)
        return list(zip(checks, results, strict=True))

    def __str__(self) -> str:
        return f"the errors of {self.tensor} of shape {self.tensor.shape} on back end {self.backend!r}"


@dataclass(frozen=True, slots=True, eq=False)
class HistogramTask:
    """The histogram of the samples ``[start, stop)``."""

    tensor: Windowed
    backend: str

    def __call__(self, start: int, stop: int) -> Histogram:
        """Count a range."""
        return Histogram().update(self.tensor.window(start, stop), backend=self.backend)

    def __str__(self) -> str:
        return f"the histogram of {self.tensor} of shape {self.tensor.shape}"


@dataclass(frozen=True, slots=True, eq=False)
class ExtremesTask:
    """Least and greatest finite sample of each channel or group, infinite where a range has none.

    `layout` says where element i belongs: (elements a row, elements a group, groups a row, rows).
    """

    tensor: Windowed
    layout: tuple[int, int, int, int]

    def __call__(self, start: int, stop: int) -> tuple[Array, Array]:
        """Look at a range."""
        return extremes(self.tensor.window(start, stop), start, self.layout)

    def __str__(self) -> str:
        return f"the extremes of {self.tensor} of shape {self.tensor.shape}"


def extremes(piece: Array, start: int, layout: tuple[int, int, int, int]) -> tuple[Array, Array]:
    """Return what `ExtremesTask` does for a piece that begins at element `start`."""
    length, run, groups, rows = layout
    low, high = np.full(groups * rows, np.inf), np.full(groups * rows, -np.inf)
    values = np.asarray(piece).reshape(-1).astype(np.float64)
    at = start + np.arange(values.size, dtype=np.int64)
    index = (at // length % rows) * groups + at % length // run
    finite = np.isfinite(values)
    np.minimum.at(low, index[finite], values[finite])
    np.maximum.at(high, index[finite], values[finite])
    return low, high
