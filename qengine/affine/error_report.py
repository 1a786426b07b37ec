"""The error of many choices of quantization on one tensor, in one pass over it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from .. import backends
from ..backends.quantizers import ErrorPlan
from ..exceptions import DomainError, DTypeError, UnknownNameError
from ..work.run import Tile, run
from .metrics import HIGHER_IS_BETTER, METRICS, Errors, Totals, bin_edges
from .params import QuantParams, integer, normal_axis
from .ranges import Progress
from .resolve import Resolved, resolve
from .segments import samples
from .spec import QuantSpec, as_specs

#: Elements a tile. It belongs to the definition of the sums: the same bits for every number of threads and chunks.
TILE = 1 << 20
Array = npt.NDArray[Any]


@runtime_checkable
class Chunked(Protocol):
    """A tensor that is read in pieces: its shape, and flat pieces that follow one another in C order."""

    shape: tuple[int, ...]

    def chunks(self, elements: int = ...) -> Iterator[Array]:
        """Yield flat pieces of at most `elements` elements; each call starts anew."""


@dataclass(frozen=True, eq=False)
class ErrorRow:
    """The error of one choice.

    The metrics of the tensor are attributes: ``count mse rmse mae max_abs bias sqnr psnr cosine clip_count clip_rate
    mse_rounding mse_clipping`` (`qengine.affine.metrics` defines them), and ``variants``, those of other tools.

    Attributes
    ----------
    spec : QuantSpec
    params : QuantParams or None
        What the spec chose; None for a number format.
    tensor : Errors
        Sums over the tensor.
    channels : Errors or None
        Arrays, one number a channel, if the report has an axis: ``row.channels.mse[3]``.
    step : float
        Largest distance between neighbouring values, the unit of the error histogram.
    code_counts : int64 array or None
        How often each code occurs: ``qmin .. qmax``, or the codes of the format.
    error_counts : int64 array or None
        How often ``e = x - value`` falls between two `error_edges`, the lower one included for e >= 0, the upper one
        for e < 0.
    """

    spec: QuantSpec
    params: QuantParams | None
    tensor: Errors
    channels: Errors | None
    step: float
    code_counts: npt.NDArray[np.int64] | None
    error_counts: npt.NDArray[np.int64] | None

    def __getattr__(self, name: str) -> Any:
        if name in METRICS or name in ("count", "variants"):
            return getattr(self.tensor, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def label(self) -> str:
        """The spec in one line."""
        return self.spec.label

    def _codes(self) -> npt.NDArray[np.int64]:
        if self.code_counts is None:
            raise DomainError("codes and errors were not counted: histograms=False. Ask for them.")
        return self.code_counts

    @property
    def codes_used(self) -> int:
        """Number of codes that occur."""
        return int(np.count_nonzero(self._codes()))

    @property
    def dead_codes(self) -> int:
        """Number of codes that never occur."""
        return int(np.count_nonzero(self._codes() == 0))

    @property
    def entropy(self) -> float:
        """Entropy of the codes in bits, ``-sum(p log2 p)``: what an ideal coder would need a sample."""
        counts = self._codes()
        p = counts[counts > 0] / counts.sum()
        return float(-np.sum(p * np.log2(p))) + 0.0

    @property
    def error_edges(self) -> npt.NDArray[np.float64]:
        """Edges of the error histogram, one more than bins, in units of x; the outer ones are infinite."""
        return bin_edges(self.step)

    def percentile(self, p: float) -> float:
        """Return the p-th percentile of ``|e|``, from the histogram: linear inside a bin, at most `max_abs`.

        The bins are ``step / 256`` wide up to one step, an eighth of an octave beyond.
        """
        self._codes()
        if isinstance(p, bool) or not isinstance(p, (int, float, np.number)):
            raise DTypeError(f"a percentile must be a real number; got {p!r}.")
        if not 0 <= p <= 100:
            raise DomainError(f"a percentile must be in [0, 100]; got {p}.")
        assert self.error_counts is not None
        half = self.error_counts.size // 2
        counts = self.error_counts[half:] + self.error_counts[:half][::-1]
        edges = np.append(self.error_edges[half:-1], np.inf)
        edges = np.minimum(edges, self.tensor.max_abs)
        below = np.concatenate([[0], np.cumsum(counts)])
        rank = p / 100 * below[-1]
        # The bin that the rank falls into; a rank of 0 lies at the lower edge of the first bin in use.
        k = max(min(int(np.searchsorted(below, rank, side="left")), counts.size), 1 + int(np.argmax(counts > 0)))
        share = (rank - below[k - 1]) / counts[k - 1]
        return float(edges[k - 1] + share * (edges[k] - edges[k - 1]))

    @property
    def percentiles(self) -> dict[float, float]:
        """Percentiles 50, 90, 99, 99.9 and 100 of ``|e|``."""
        return {p: self.percentile(p) for p in (50.0, 90.0, 99.0, 99.9, 100.0)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; infinities become None."""
        data: dict[str, Any] = {
            "spec": self.spec.to_dict(), "params": None if self.params is None else self.params.to_dict(),
            "count": self.tensor.count, **self.tensor.to_dict(),
            "variants": {name: value if np.isfinite(value) else None for name, value in self.variants.items()},
        }  # fmt: skip
        if self.code_counts is not None:
            data |= {
                "codes_used": self.codes_used, "dead_codes": self.dead_codes, "entropy": self.entropy,
                "percentiles": {f"{p:g}": value for p, value in self.percentiles.items()},
            }  # fmt: skip
        if self.channels is not None:
            data["channels"] = self.channels.to_dict()
        return data


@dataclass(frozen=True, eq=False)
class ErrorReport:
    """The errors of all choices.

    Attributes
    ----------
    rows : tuple of ErrorRow
        One a spec, in the order given.
    shape : tuple of int
    axis : int or None
        Channel axis of `ErrorRow.channels`.
    nonfinite : int
        NaN and infinite samples left out.
    """

    rows: tuple[ErrorRow, ...]
    shape: tuple[int, ...]
    axis: int | None
    nonfinite: int

    def best(self, metric: str = "sqnr") -> ErrorRow:
        """Return the row that is best under a metric: the first of equals.

        Raises
        ------
        UnknownNameError
            If there is no such metric; `qengine.affine.metrics` lists them.
        """
        return self.ranked(metric)[0]

    def ranked(self, metric: str = "sqnr") -> tuple[ErrorRow, ...]:
        """Return the rows by a metric, best first; `bias` by its magnitude."""
        if not isinstance(metric, str) or metric not in HIGHER_IS_BETTER:
            raise UnknownNameError.of("metric", metric, HIGHER_IS_BETTER)
        sign = -1.0 if HIGHER_IS_BETTER[metric] else 1.0
        size = abs if metric == "bias" else float
        return tuple(sorted(self.rows, key=lambda row: sign * size(getattr(row, metric))))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "shape": list(self.shape), "axis": self.axis, "nonfinite": self.nonfinite,
            "best": {metric: self.best(metric).label for metric in HIGHER_IS_BETTER},
            "rows": [row.to_dict() for row in self.rows],
        }  # fmt: skip

    def __str__(self) -> str:
        from ..report.errors import parts
        from ..report.terminal import to_text

        return to_text(*parts(self))


def _flat_reader(x: Array) -> Callable[[int, int], Array]:
    """Return a function that gives elements ``start .. stop - 1`` in C order as float32 or float64."""
    if x.flags.c_contiguous or backends.on_device(x):
        flat = backends.arrays_of(x).ascontiguousarray(x).reshape(-1)
        return lambda start, stop: samples(flat[start:stop])
    if x.ndim and x[0].flags.c_contiguous and x.strides[0] > 0 and x[0].size >= TILE:
        rows, size = x, x[0].size

        def read(start: int, stop: int) -> Array:
            pieces = []
            while start < stop:
                row, place = divmod(start, size)
                end = min(stop, (row + 1) * size)
                pieces.append(rows[row].reshape(-1)[place : place + end - start])
                start = end
            return samples(np.concatenate(pieces) if len(pieces) > 1 else pieces[0])

        return read
    return lambda start, stop: samples(x.flat[start:stop])


def _regrouped(source: Chunked, size: int, length: int) -> Iterator[Array]:
    """Yield a tensor's pieces again in pieces of `length` elements, whatever pieces it comes in."""
    buffer: Array | None = None
    filled = done = 0
    for piece in source.chunks(length):
        piece = samples(np.asarray(piece).reshape(-1))
        while piece.size:
            if buffer is None:
                if done == size:
                    raise DomainError(f"the tensor has more than the {size} elements of its shape.")
                buffer, filled = np.empty(min(length, size - done), piece.dtype), 0
            elif buffer.dtype != piece.dtype:
                buffer = buffer.astype(np.float64)
            take = min(buffer.size - filled, piece.size)
            buffer[filled : filled + take] = piece[:take]
            piece, filled = piece[take:], filled + take
            if filled == buffer.size:
                yield buffer
                done, buffer = done + filled, None
    if buffer is not None or done != size:
        raise DomainError(f"the tensor ended after {done + filled} of {size} elements.")


def _measure(
    x: Array | Chunked, size: int, plan: ErrorPlan, name: str, threads: int | None, progress: Progress | None
) -> Totals:
    """Run the tiles and add them up in their order."""
    backend = backends.load(name)
    totals = Totals(plan.rows.shape[0], plan.channels, plan.histograms, int(plan.starts[-1]))
    workers = threads or _workers(name)
    waiting: dict[int, list[Any]] = {}
    done = 0

    def on_result(task: Tile, results: list[Any]) -> None:
        nonlocal done
        waiting[task.start] = results
        while (ready := waiting.pop(done, None)) is not None:
            for result in ready:
                totals.add(result)
            done = min(done + TILE * len(ready), size)
            if progress is not None:
                progress(done, size)

    held: dict[int, Array] = {}
    if name == "cuda":
        together = backends.device_backend().tiles_at_once(plan, TILE)
    else:
        # Handing out a task costs as much as a tenth of a tile: tensors of many tiles go several at a time.
        together = max(1, min(8, size // TILE // (8 * workers)))
    span = TILE * together

    def tasks() -> Iterator[Tile]:
        if is_array:
            yield from (Tile(start, min(start + span, size)) for start in range(0, size, span))
            return
        piece_size = span if name == "cuda" else TILE
        for k, piece in enumerate(_regrouped(cast(Chunked, x), size, piece_size)):
            held[k * piece_size] = piece
            yield Tile(k * piece_size, k * piece_size + piece.size)

    is_array = _in_memory(x)
    read = _flat_reader(cast(Array, x)) if is_array else lambda start, stop: held.pop(start)

    def evaluate(start: int, stop: int) -> list[Any]:
        if name == "cuda":
            return backends.device_backend().error_tiles(read(start, stop), start, plan, TILE)
        return [
            backend.error_tile(read(first, min(first + TILE, stop)), first, plan) for first in range(start, stop, TILE)
        ]

    if name == "cuda":  # in the caller's thread: a device and a stream are current for one thread
        for task in tasks():
            on_result(task, evaluate(task.start, task.stop))
    elif not run(tasks(), evaluate, on_result, workers=workers):
        raise KeyboardInterrupt
    return totals


def _in_memory(x: Any) -> bool:
    """Tell an array, of host or device, from a tensor that is read in pieces."""
    return isinstance(x, np.ndarray) or backends.on_device(x)


def _workers(name: str) -> int:
    if name != "cpu":
        return 1
    from ..backends.cpu import thread_count

    return thread_count()


def _as_tensor(x: Any) -> Array | Chunked:
    if backends.on_device(x):
        device_array = backends.adopt("x", x)
        samples(device_array[..., :0] if device_array.ndim else device_array)
        return device_array
    if not isinstance(x, np.ndarray) and isinstance(x, Chunked) and not hasattr(x, "__array__"):
        return x
    array = backends.as_numpy("x", x)
    samples(array[..., :0] if array.ndim else array)  # refuses what is no tensor of reals
    return array


def error_report(
    x: Any,
    specs: Any,
    *,
    axis: int | None = None,
    nonfinite: str = "raise",
    histograms: bool = True,
    backend: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ErrorReport:
    """Measure the error of one or many choices of quantization on a tensor.

    The error of a sample is ``e = x - value``, x as given, value what its code stands for. The tensor is read once to
    find ranges (not at all where specs give `params` or `range`) and once to measure all specs side by side.

    Parameters
    ----------
    x : array_like of real numbers, or an object with ``shape`` and ``chunks(elements)``
        Any shape and strides; never copied as a whole unless groups run along another axis than the last. A chunked
        tensor is read in pieces and may be larger than memory. A device array is measured where it lives, a strided one
        after a contiguous copy; a host array that is sent to a device (``backend="cuda"``) goes in pieces, and may be
        larger than the device's memory.
    specs : QuantSpec, QuantParams, a mapping of QuantSpec's fields, or several of them
    axis : int, optional
        Report every metric for each channel along this axis too.
    nonfinite : {"raise", "ignore"}
        What NaN and infinities do: an error that says how many and where the first is, or leave them out.
    histograms : bool
        Count codes and errors too: entropy, dead codes, percentiles. Without them the pass is about three times
        faster.
    backend : {"reference", "cpu", "cuda"}, optional
    threads : int, optional
        Workers; every number of them gives the same bits.
    progress : callable(done, total), optional
        Called with elements; with none of them while ranges are sought. What it raises ends the work.

    Returns
    -------
    ErrorReport
        ``.rows``, one a spec: ``.mse .rmse .mae .max_abs .bias .sqnr .psnr .cosine .clip_rate ...``; ``.best(metric)``.

    Raises
    ------
    DomainError
        An empty tensor; NaN or infinity; parameters that a convention cannot have; squares beyond float64.
    DTypeError, UnknownNameError, BackendError

    Notes
    -----
    Sums run in float64 over fixed tiles and lanes, and are added in a fixed order: the same bits for any number of
    threads and any chunks; `histograms` changes the blocks, and with them last bits. Back ends agree to about 1e-14,
    codes and counts exactly. Samples that a format makes NaN or infinite (``overflow="nan"``) are left out of all
    metrics and counted in ``overflow_count``.

    Examples
    --------
    >>> import qengine as qe
    >>> x = [-1.25, -0.92, -0.51, -0.10, 0, 0.14, 0.37, 0.79, 1.12, 1.46]
    >>> report = qe.error_report(x, qe.QuantSpec.grid(bits=(4, 8), range=(-1.5, 1.5)))
    >>> [(row.label, round(row.sqnr, 2)) for row in report.rows]
    [('int4 symmetric [-1.5, 1.5]', 22.41), ('int8 symmetric [-1.5, 1.5]', 49.06)]
    >>> row = qe.error_report([0.25, -0.75, 9.0], qe.QuantParams(0.5, 0, -8, 7)).rows[0]      # two ties, one clipped
    >>> row.max_abs, row.clip_count, row.mse_rounding
    (5.5, 1, 0.041666666666666664)
    """
    wanted = as_specs(specs)
    name = backends.choose(backend, x)
    if nonfinite not in ("raise", "ignore"):
        raise DomainError(f"nonfinite must be 'raise' or 'ignore'; got {nonfinite!r}.")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise DomainError(f"threads must be an integer of at least 1; got {threads!r}.")
    tensor = _as_tensor(x)
    shape = tuple(tensor.shape)
    size = functools.reduce(lambda a, b: a * b, shape, 1)
    if size == 0:
        raise DomainError(f"x must hold at least one sample; got shape {shape}.")
    if not isinstance(histograms, bool):
        raise DTypeError(f"histograms must be True or False; got {histograms!r}.")
    if axis is not None:
        axis = normal_axis(integer("axis", axis), len(shape), shape)
    with backends.device_of(tensor):
        return _report(tensor, shape, wanted, axis, nonfinite, histograms, name, threads, progress)


def before(progress: Progress | None, size: int) -> Progress | None:
    """Return what is told while ranges are sought: that nothing of the tensor is measured yet."""
    return None if progress is None else lambda done, total: progress(0, size)


def _report(
    tensor: Array | Chunked, shape: tuple[int, ...], wanted: Sequence[QuantSpec], axis: int | None, nonfinite: str,
    histograms: bool, name: str, threads: int | None, progress: Progress | None,
) -> ErrorReport:  # fmt: skip
    size = functools.reduce(lambda a, b: a * b, shape, 1)
    resolved = resolve(tensor, shape, wanted, nonfinite, name, before(progress, size))
    rows: dict[int, ErrorRow] = {}
    left_out = 0
    # Groups along an axis that is not the last see the tensor with that axis moved last: a pass of its own.
    for moved in sorted({item.moved for item in resolved}, key=lambda m: (m is not None, m)):
        some = [(k, item) for k, item in enumerate(resolved) if item.moved == moved]
        left_out = _pass(tensor, shape, some, moved, axis, nonfinite, histograms, name, threads, progress, rows)
    return ErrorReport(tuple(rows[k] for k in range(len(wanted))), shape, axis, left_out)


def _pass(
    tensor: Array | Chunked, shape: tuple[int, ...], some: list[tuple[int, Resolved]], moved: int | None,
    axis: int | None, nonfinite: str, histograms: bool, name: str, threads: int | None, progress: Progress | None,
    rows: dict[int, ErrorRow],
) -> int:  # fmt: skip
    order = list(range(len(shape)))
    if moved is not None:
        if not _in_memory(tensor):
            raise DomainError(
                f"groups along axis {moved} of a tensor of shape {shape} need it in memory; read in pieces, they run "
                "along the last axis."
            )
        order.append(order.pop(moved))
        arrays = backends.arrays_of(tensor)
        tensor = arrays.ascontiguousarray(arrays.moveaxis(tensor, moved, -1))
    seen = tuple(shape[k] for k in order)
    size = functools.reduce(lambda a, b: a * b, shape, 1)
    length, channels = size, 1
    if axis is not None:
        place = order.index(axis)
        length = functools.reduce(lambda a, b: a * b, seen[place + 1 :], 1)
        channels = seen[place]
    numbers = np.stack([item.numbers for _, item in some])
    plan = ErrorPlan.of([item.quantizer for _, item in some], numbers, length, channels, histograms)
    totals = _measure(tensor, size, plan, name, threads, progress)
    if totals.nonfinite and nonfinite == "raise":
        at = [int(i) for i in np.unravel_index(totals.first_nonfinite, seen)]
        place_of = tuple(at[order.index(k)] for k in range(len(shape)))
        raise DomainError(
            f"x must be finite; got {totals.nonfinite} NaN or infinite values, the first at index "
            f"{place_of if len(place_of) != 1 else place_of[0]}. Replace them, or pass nonfinite='ignore'."
        )
    if totals.nonfinite == size:
        raise DomainError(f"x must hold a finite sample; all {size} are NaN or infinite.")
    totals.check([item.spec.label for _, item in some])
    for j, (k, item) in enumerate(some):
        start, stop = (int(v) for v in plan.starts[j : j + 2])
        rows[k] = ErrorRow(
            spec=item.spec, params=item.params, tensor=totals.errors(j, None),
            channels=None if axis is None else totals.errors(j, slice(None)), step=item.step,
            code_counts=totals.codes[start:stop].copy() if histograms else None,
            error_counts=totals.bins[j].copy() if histograms else None,
        )  # fmt: skip
    return totals.nonfinite
