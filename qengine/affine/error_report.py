"""The error of many choices of quantization on one tensor, in one pass over it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backends
from .._version import __version__
from ..arguments import Progress, callback, chosen, flag, integer, real
from ..backends.quantizers import ErrorPlan
from ..exceptions import DomainError
from ..work.checkpoint import Checkpoint, open_checkpoint
from ..work.cluster import ClusterExecutor, connect
from .measure import Array, Chunked, in_memory, measure
from .metrics import HIGHER_IS_BETTER, METRICS, Errors, bin_edges
from .params import QuantParams, normal_axis
from .resolve import Resolved, resolve
from .segments import samples
from .spec import QuantSpec, as_specs
from .windows import DaskTensor, Windowed, is_dask


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
        p = real("a percentile", p)
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
    notes : tuple of str
        What of a checkpoint was not used, and whether it could not be written.
    """

    rows: tuple[ErrorRow, ...]
    shape: tuple[int, ...]
    axis: int | None
    nonfinite: int
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of `to_dict`: the same for any number of threads and any chunks; last bits depend on the back end."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

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
        chosen("metric", metric, HIGHER_IS_BETTER)
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


def _as_tensor(x: Any) -> Array | Chunked:
    if backends.on_device(x):
        device_array = backends.adopt("x", x)
        samples(device_array[..., :0] if device_array.ndim else device_array)
        return device_array
    if is_dask(x):
        return DaskTensor(x)
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
    cluster: Any = None,
    checkpoint: str | os.PathLike[str] | Shared | None = None,
    resume: bool = False,
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
    cluster : str or distributed.Client, optional
        Measure on the workers of a dask cluster, as in `qengine.sweep`: x is a dask array, or the tensor of a file that
        all of them reach (`qengine.models.tensors.FileTensor`); workers read the samples, sums come back.
    checkpoint : path, optional
        A folder where the sums so far are recorded, on the disk about every second, for a run that may be killed; or a
        checkpoint that several tensors share.
    resume : bool
        Go on from what `checkpoint` holds of the same specs on the same tensor: its samples are read again up to there,
        and compared with a checksum. Ranges are found anew.
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
    InputFileError
        A folder that cannot hold a checkpoint, that another process uses, or that holds one which is not to be resumed.
    KeyboardInterrupt
        On Ctrl-C; a checkpoint keeps what is finished. So does SIGTERM, in the main thread.

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
    name = backends.choose(backend, x) if cluster is None else backends.named(backend) or "cpu"
    chosen("policy for nonfinite samples", nonfinite, ("raise", "ignore"))
    if threads is not None:
        threads = integer("threads", threads, 1, 4096)
    callback("progress", progress)
    tensor = _as_tensor(x)
    if cluster is not None and not isinstance(tensor, Windowed):
        raise DomainError(
            f"a cluster needs a tensor that its workers read themselves, a dask array or one of a file "
            f"(qengine.models.tensors.FileTensor); got {type(x).__name__}. Measure it here: leave cluster out."
        )
    if cluster is not None and threads is not None:
        raise DomainError(f"threads are those of the cluster's workers; leave them out (got {threads!r}).")
    shape = tuple(tensor.shape)
    size = math.prod(shape)
    if size == 0:
        raise DomainError(f"x must hold at least one sample; got shape {shape}.")
    histograms = flag("histograms", histograms)
    if axis is not None:
        axis = normal_axis(integer("axis", axis), len(shape), shape)
    if checkpoint is not None and backends.on_device(tensor):
        raise DomainError("a checkpoint needs the samples on the host; this tensor is on a device. Copy it first.")
    with backends.device_of(tensor), contextlib.ExitStack() as stack:
        executor = None if cluster is None else stack.enter_context(connect(cluster, backend=name))
        resolved = resolve(tensor, shape, wanted, nonfinite, name, executor, progress=before(progress, size))
        if not isinstance(checkpoint, Shared):
            run = {} if checkpoint is None else run_of(wanted, axis, nonfinite, histograms, name) | {"shape": shape}
            kept = stack.enter_context(open_checkpoint(checkpoint, run, resume))
            checkpoint = Shared(kept, "tensor")
        report = _report(
            tensor, shape, resolved, axis, nonfinite, histograms, name, threads, progress, checkpoint, executor
        )
    return dataclasses.replace(report, notes=() if checkpoint.kept is None else checkpoint.kept.notes())


@dataclass(frozen=True, slots=True)
class Shared:
    """A tensor's part of an open checkpoint: `name` is its own among those that share it."""

    kept: Checkpoint | None
    name: str


def run_of(
    specs: Sequence[QuantSpec], axis: int | None, nonfinite: str, histograms: bool, backend: str
) -> dict[str, Any]:
    """Return what decides the sums of a tensor beside its samples, as plain data."""
    return {
        "errors": __version__, "specs": [repr(spec) for spec in specs], "axis": axis, "nonfinite": nonfinite,
        "histograms": histograms, "backend": backend,
    }  # fmt: skip


def before(progress: Progress | None, size: int) -> Progress | None:
    """Return what is told while ranges are sought: that nothing of the tensor is measured yet."""
    return None if progress is None else lambda done, total: progress(0, size)


def _report(
    tensor: Array | Chunked, shape: tuple[int, ...], resolved: list[Resolved], axis: int | None, nonfinite: str,
    histograms: bool, name: str, threads: int | None, progress: Progress | None, shared: Shared,
    executor: ClusterExecutor | None,
) -> ErrorReport:  # fmt: skip
    rows: dict[int, ErrorRow] = {}
    left_out = 0
    # Groups along an axis that is not the last see the tensor with that axis moved last: a pass of its own.
    for moved in sorted({item.moved for item in resolved}, key=lambda m: (m is not None, m)):
        some = [(k, item) for k, item in enumerate(resolved) if item.moved == moved]
        left_out = _pass(
            tensor, shape, some, moved, axis, nonfinite, histograms, name, threads, progress, rows, shared, executor
        )
    return ErrorReport(tuple(rows[k] for k in range(len(resolved))), shape, axis, left_out)


def _pass(
    tensor: Array | Chunked, shape: tuple[int, ...], some: list[tuple[int, Resolved]], moved: int | None,
    axis: int | None, nonfinite: str, histograms: bool, name: str, threads: int | None, progress: Progress | None,
    rows: dict[int, ErrorRow], shared: Shared, executor: ClusterExecutor | None,
) -> int:  # fmt: skip
    order = list(range(len(shape)))
    if moved is not None:
        if not in_memory(tensor):
            raise DomainError(
                f"groups along axis {moved} of a tensor of shape {shape} need it in memory; read in pieces, they run "
                "along the last axis."
            )
        order.append(order.pop(moved))
        arrays = backends.arrays_of(tensor)
        tensor = arrays.ascontiguousarray(arrays.moveaxis(tensor, moved, -1))
    seen = tuple(shape[k] for k in order)
    size = math.prod(shape)
    length, channels = size, 1
    if axis is not None:
        place = order.index(axis)
        length = math.prod(seen[place + 1 :])
        channels = seen[place]
    numbers = np.stack([item.numbers for _, item in some])
    plan = ErrorPlan.of([item.quantizer for _, item in some], numbers, length, channels, histograms)
    key = "" if shared.kept is None else f"{shared.name} {_numbers_of(some)}"
    totals = measure(tensor, size, plan, name, threads, progress, shared.kept, key, executor)
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


def _numbers_of(some: list[tuple[int, Resolved]]) -> str:
    """Return a digest of the numbers that specs take on a tensor."""
    digest = hashlib.blake2b(digest_size=16)
    for _, item in some:
        plan = item.quantizer
        columns = (plan.row, np.array(plan.layout), plan.scales, plan.zero_points, item.numbers)
        digest.update(b"".join(np.ascontiguousarray(column).tobytes() for column in columns))
        digest.update(repr(item.moved).encode())
    return digest.hexdigest()
