"""From choices to numbers: the parameters that each spec takes on a tensor, ready for the back ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels import codes
from qengine.kernels.reference.formats import block_scales

from ..arguments import Progress
from ..backends.quantizers import Quantizer
from ..exceptions import DomainError
from ..work.cluster import ClusterExecutor
from ..work.run import Tile, cut, run
from .calibrate import RangeFinder, choose_qparams
from .conventions import get_convention
from .formats import Format, get_format
from .histogram import Histogram
from .measure import in_memory
from .params import QuantParams, Target, normal_axis
from .quantize import group_last, layout, quantizer
from .spec import QuantSpec
from .tasks import ExtremesTask, HistogramTask, extremes

F64 = npt.NDArray[np.float64]
#: The running sum of errors starts at this many steps: above any sum of a tile's errors, so that its low part is
#: exact; float64 then resolves 2**-32 of a step, and what is finer goes to the low part.
OFFSET_STEPS = 2.0**20
#: Elements of a worker's share of a statistic, and extremes that one answer holds at most.
PART, SENT = 1 << 24, 1 << 16
#: It starts no higher: errors whose squares float64 holds lie below ``2**512``.
LARGEST_OFFSET = 2.0**600


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A spec with its numbers.

    `moved` is the axis that has to stand last (groups along it), None if the tensor stays as it is; `step` the
    largest distance between neighbouring values; `numbers` the ``ERROR_...`` line of `qengine.kernels.codes`.
    """

    spec: QuantSpec
    params: QuantParams | None
    quantizer: Quantizer
    moved: int | None
    step: float
    numbers: F64


def resolve(
    tensor: Any, shape: tuple[int, ...], specs: Sequence[QuantSpec], nonfinite: str, backend: str,
    executor: ClusterExecutor | None = None, progress: Progress | None = None,
) -> list[Resolved]:  # fmt: skip
    """Return every spec with its numbers on a tensor; ranges are found in one pass over it where any needs them.

    `progress` is told of scales while they are sought, as `choose_qparams` tells it.
    """
    found = Ranges(tensor, shape, nonfinite, backend, executor, progress)
    resolved = []
    for k, spec in enumerate(specs):
        try:
            resolved.append(_format(spec, shape, found) if spec.format is not None else _integers(spec, shape, found))
        except DomainError as error:
            if len(specs) == 1:
                raise
            raise DomainError(f"spec {k} ({spec.label}): {error}") from None
    return resolved


class Ranges:
    """Statistics of a tensor, found when they are first asked for: of an array, or of a tensor read in pieces."""

    def __init__(
        self, tensor: Any, shape: tuple[int, ...], nonfinite: str, backend: str,
        executor: ClusterExecutor | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self._executor, self._progress = executor, progress
        self._tensor, self._shape, self._nonfinite, self._backend = tensor, shape, nonfinite, backend
        self._in_memory = in_memory(tensor)
        self._finder: RangeFinder | None = None

    def _statistics(self) -> RangeFinder:
        if self._finder is None:
            source = self._tensor if self._in_memory else self._read_histogram()
            self._finder = RangeFinder(source, nonfinite=self._nonfinite, backend=self._backend)
        return self._finder

    def params(self, *, axis: int | None, group: int | None, method: str, **question: Any) -> QuantParams:
        """Answer as `choose_qparams` does."""
        if self._in_memory or axis is None:
            return self._statistics().params(axis=axis, group=group, method=method, progress=self._progress, **question)
        if method != "minmax":
            raise DomainError(
                f"method {method!r} for channels or groups needs the tensor in memory; read in pieces it has 'minmax'."
            )
        low, high = self._extremes_of_pieces(axis, group)
        del question["percentile"]
        widen = (low == high) | bool(question.pop("include_zero"))
        low, high = np.where(widen, np.minimum(low, 0.0), low), np.where(widen, np.maximum(high, 0.0), high)
        return Target.of(**question).params(low, high, normal_axis(axis, len(self._shape), self._shape), group)

    def _read_histogram(self) -> Histogram:
        histogram = Histogram()
        if self._executor is not None:
            self._on_workers(HistogramTask(self._tensor, self._backend), lambda tile, one: histogram.merge(one))
            return histogram
        for piece in self._tensor.chunks():
            histogram.update(np.asarray(piece), backend=self._backend)
        return histogram

    def _on_workers(self, task: Callable[[int, int], Any], merge: Callable[[Tile, Any], Any]) -> None:
        if not run(cut(math.prod(self._shape), PART), task, merge, executor=self._executor):
            raise KeyboardInterrupt

    def extremes(self, axis: int | None, group: int | None) -> tuple[Any, Any]:
        """Return (least, greatest) sample of the tensor, of each channel or group."""
        if self._in_memory or axis is None:
            return self._statistics().extremes(axis, group)
        return self._extremes_of_pieces(axis, group)

    def _extremes_of_pieces(self, axis: int, group: int | None) -> tuple[F64, F64]:
        axis = normal_axis(axis, len(self._shape), self._shape)
        if group is not None and axis != len(self._shape) - 1:
            raise DomainError(
                f"groups along axis {axis} of a tensor of shape {self._shape} need it in memory; read in pieces, "
                "they run along the last axis."
            )
        length, run_length, groups, rows = layout(self._shape, axis, group)
        low, high = np.full(groups * rows, np.inf), np.full(groups * rows, -np.inf)

        def merge(one: tuple[Any, Any]) -> None:
            np.minimum(low, one[0], out=low)
            np.maximum(high, one[1], out=high)

        places = length, run_length, groups, rows
        if self._executor is not None and low.size <= SENT:
            self._on_workers(ExtremesTask(self._tensor, places), lambda tile, one: merge(one))
        else:
            done = 0
            for piece in self._tensor.chunks():
                merge(extremes(piece, done, places))
                done += np.asarray(piece).size
        empty = low > high  # nothing finite in it
        shape = (self._shape[axis],) if group is None else (*self._shape[:axis], groups)
        return np.where(empty, 0.0, low).reshape(shape), np.where(empty, 0.0, high).reshape(shape)


def _numbers(step: float, tolerance: float) -> F64:
    numbers = np.zeros(codes.ERROR_NUMBERS)
    step = max(step, 2.0**-1000)  # its reciprocal is the unit of the histogram
    numbers[codes.ERROR_STEP] = step
    numbers[codes.ERROR_OFFSET] = min(OFFSET_STEPS * 2.0 ** min(math.ceil(math.log2(step)), 600), LARGEST_OFFSET)
    numbers[codes.ERROR_TOLERANCE] = tolerance
    return numbers


def _tolerance(spec: QuantSpec, params: QuantParams) -> float:
    """Bound, in steps, on what rounding errors of a convention's scaled value and of its values amount to.

    Each operation errs by half a unit in the last place of numbers up to ``|q - z|`` (or q where z is inside); the
    float64 arithmetic of the fused loop itself is negligible beside float32's, and covered for float64's.
    """
    row = get_convention(spec.convention)
    zero_point = np.abs(np.asarray(params.zero_point, np.float64)).max()
    reach = max(abs(params.qmin), abs(params.qmax)) + float(zero_point) + 1.0
    # A rounded x, a reciprocal, a product, a sum, the value itself: five at most, and one to spare.
    return 6.0 * reach * 2.0 ** (-24 if row.bits == 32 else -50)


def _integers(spec: QuantSpec, shape: tuple[int, ...], found: Ranges) -> Resolved:
    params = spec.params
    if params is None:
        row = get_convention(spec.convention)
        scale_dtype = spec.scale_dtype or f"float{row.bits}"
        same: dict[str, Any] = {
            "bits": spec.bits, "mode": spec.mode, "signed": spec.signed, "narrow": spec.narrow,
            "include_zero": spec.include_zero or not row.any_zero_point, "scale_dtype": scale_dtype,
        }  # fmt: skip
        if spec.range is not None:
            if spec.axis is not None or spec.group is not None:
                raise DomainError(
                    "a custom range holds for the whole tensor: leave axis and group out, or give params."
                )
            params = choose_qparams(spec.range, **same)
        else:
            axis = -1 if spec.axis is None and spec.group is not None else spec.axis
            params = found.params(
                **same, method=spec.method, percentile=spec.percentile, axis=axis, group=spec.group
            )  # fmt: skip
    view, moved_params, moved = group_last(_shape_only(shape), params)
    plan = quantizer(moved_params, view.shape, spec.convention, spec.rounding, spec.seed)
    tolerance = _tolerance(spec, params)
    if tolerance * 2048 > 0.5:  # every other block would hold a near-tie: the long way at once
        plan.row[codes.AFFINE_FAST] = codes.NOT_FAST
    step = float(plan.scales.max())
    return Resolved(spec, params, plan, moved, step, _numbers(step, tolerance))


def _shape_only(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an array of that shape that takes no memory."""
    return np.broadcast_to(np.zeros((), np.int8), shape)


def _gap(row: Format) -> float:
    """Largest distance between neighbouring values of an element."""
    values = np.array([row.element.value(code) for code in range(row.element.levels)])
    return float(np.diff(np.unique(values[np.isfinite(values)])).max())


def _format(spec: QuantSpec, shape: tuple[int, ...], found: Ranges) -> Resolved:
    row = get_format(spec.format or "", block=None)
    if row.block and spec.group is not None:
        row = get_format(row, block=spec.group)
    group = row.block or spec.group
    if group and not shape:
        raise DomainError(f"{row.name}: blocks run along an axis; x has none (its shape is ()).")
    axis = -1 if group and spec.axis is None else spec.axis
    axis = None if axis is None else normal_axis(axis, len(shape), shape)
    options = {"rounding": spec.rounding, "scale_rounding": spec.scale_rounding, "overflow": spec.overflow}
    encoded, numbers = row.encode_row(**{name: value for name, value in options.items() if value is not None})
    scales = (
        _given_scales(spec, row, axis) if _is_given(spec) else _found_scales(spec, row, encoded, axis, group, found)
    )
    moved = axis if group and axis != len(shape) - 1 else None
    if moved is not None:
        scales = np.moveaxis(scales, moved, -1)
        shape = (*shape[:moved], *shape[moved + 1 :], shape[moved])
    line = np.zeros(codes.AFFINE_ROW, np.int64)
    line[codes.AFFINE_FAMILY] = codes.FORMAT_FAMILY
    flat = np.ascontiguousarray(scales, np.float64).reshape(-1)
    place = len(shape) - 1 if moved is not None else axis
    plan = Quantizer(
        line, layout(shape, place, group or None), flat, np.zeros(flat.size), row.element.levels, encoded, numbers
    )  # fmt: skip
    step = _gap(row) * float(flat.max()) or 1.0
    return Resolved(spec, None, plan, moved, step, _numbers(step, 0.0))


def _is_given(spec: QuantSpec) -> bool:
    return spec.scale is not None or spec.range is not None


def _given_scales(spec: QuantSpec, row: Format, axis: int | None) -> F64:
    """Return the scale that a spec states, itself or by the range that the largest value reaches."""
    if row.block or axis is not None:
        raise DomainError(f"{row.name}: a given scale or range holds for a whole tensor without blocks or channels.")
    if spec.scale is None:
        assert spec.range is not None
        low, high = (float(end) for end in spec.range)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DomainError(f"both ends of the range must be finite; got {spec.range}.")
        if low >= high:
            raise DomainError(f"of the range, lo must be below hi; got lo {low!r}, hi {high!r}.")
        return np.array(row.tensor_scale(max(abs(low), abs(high))))
    if spec.range is not None:
        raise DomainError("scale and range exclude one another; give one.")
    if not (math.isfinite(spec.scale) and spec.scale > 0):
        raise DomainError(f"scale must be positive and finite; got {spec.scale!r}.")
    return np.array(float(spec.scale))


def _found_scales(
    spec: QuantSpec, row: Format, encoded: npt.NDArray[np.int64], axis: int | None, group: int | None, found: Ranges
) -> F64:
    """Return the scales that follow from the largest magnitudes of the tensor, its channels, groups or blocks."""
    if spec.method != "minmax":
        raise DomainError(f"{row.name} is scaled by largest magnitudes: method must be 'minmax'; got {spec.method!r}.")
    low, high = found.extremes(axis, group)
    amax = np.maximum(np.abs(low), np.abs(high))
    if row.scale == "tensor":
        for magnitude in {0.0, float(amax.max())}:
            row.tensor_scale(magnitude)
        scale = (amax / row.element.largest).astype(np.float32).astype(np.float64)
        return np.where(scale == 0, 1.0, scale)
    return np.asarray(block_scales(amax, encoded, row.tensor_scale(float(amax.max()))), np.float64)
