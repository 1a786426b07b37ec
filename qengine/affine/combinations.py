"""Many choices on one tensor, without those that cannot be: symmetric unsigned narrow, entropy at 12 bits ..."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.codes import ERROR_BINS

from .. import backends
from ..arguments import Progress
from ..exceptions import DomainError
from .error_report import ErrorReport, ErrorRow, before, error_report
from .formats import get_format
from .resolve import resolve
from .spec import QuantSpec

#: Codes that are counted at once, over all choices of a batch; and choices.
BATCH_CODES = 1 << 21
BATCH = 256
#: Elements of a probe along each axis.
_CORNER = 4


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A choice that is not possible on the tensor, and why."""

    spec: QuantSpec
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"spec": self.spec.to_dict(), "reason": self.reason}


def _problem(
    tensor: Any, spec: QuantSpec, nonfinite: str, backend: str, progress: Progress | None = None
) -> str | None:
    try:
        resolve(tensor, tuple(tensor.shape), [spec], nonfinite, backend, progress=progress)
    except DomainError as error:
        return str(error)
    return None


def _probes(tensor: Any) -> list[npt.NDArray[Any]]:
    """Return small tensors of the same rank: a corner of the tensor, of both signs or one; and a plain one."""
    shape = tuple(min(n, _CORNER) for n in tensor.shape)
    if isinstance(tensor, np.ndarray):
        corner = np.asarray(tensor[tuple(slice(0, n) for n in shape)], np.float64)
    else:
        size = math.prod(shape)
        corner = np.asarray(next(iter(tensor.chunks(size))), np.float64).reshape(shape)
    corner = np.where(np.isfinite(corner), corner, 1.0)
    plain = np.linspace(-1.0, 1.0, corner.size).reshape(shape)
    return [corner, np.abs(corner), -np.abs(corner), plain]


def _possible(
    tensor: Any, specs: Sequence[QuantSpec], nonfinite: str, backend: str, progress: Progress | None
) -> tuple[list[QuantSpec], list[LeftOut]]:
    """Part the choices; only what depends on the values themselves is tried on the whole tensor."""
    probes = _probes(tensor)
    possible, left_out = [], []
    for spec in specs:
        problem = _problem(probes[0], spec, "raise", backend)
        if problem is not None and any(_problem(probe, spec, "raise", backend) is None for probe in probes[1:]):
            problem = _problem(tensor, spec, nonfinite, backend, progress)
        if problem is None:
            possible.append(spec)
        else:
            left_out.append(LeftOut(spec, problem))
    return possible, left_out


def _all_finite(tensor: Any) -> bool:
    pieces = [tensor] if isinstance(tensor, np.ndarray) else tensor.chunks()
    return all(bool(np.isfinite(piece).all()) for piece in pieces)


def _unmeasurable(
    tensor: Any, spec: QuantSpec, nonfinite: str, backend: str | None, progress: Progress | None
) -> LeftOut | None:
    try:
        error_report(tensor, spec, nonfinite=nonfinite, backend=backend, histograms=False, progress=progress)
    except DomainError as error:
        return LeftOut(spec, str(error))
    return None


def _levels(spec: QuantSpec) -> int:
    if spec.format is not None:
        return get_format(spec.format).element.levels
    return 1 << spec.bits if spec.params is None else spec.params.levels


def counted_bytes(specs: Sequence[QuantSpec]) -> int:
    """Return the memory that the counted codes and errors of a report take."""
    return 8 * sum(_levels(spec) + ERROR_BINS for spec in specs)


def _batches(specs: Sequence[QuantSpec]) -> list[list[QuantSpec]]:
    batches: list[list[QuantSpec]] = [[]]
    codes = 0
    for spec in specs:
        levels = _levels(spec)
        if batches[-1] and (codes + levels > BATCH_CODES or len(batches[-1]) == BATCH):
            batches.append([])
            codes = 0
        batches[-1].append(spec)
        codes += levels
    return batches


def report_possible(
    x: Any, specs: Sequence[QuantSpec], *, axis: int | None = None, nonfinite: str = "raise",
    backend: str | None = None, threads: int | None = None, progress: Progress | None = None,
) -> tuple[ErrorReport, tuple[LeftOut, ...]]:  # fmt: skip
    """Measure the choices that are possible on a tensor, and return the others with their reasons.

    Parameters
    ----------
    x : array of real numbers, or an object with ``shape`` and ``chunks(elements)``
    specs : sequence of QuantSpec
        At least one; measured in batches, so that the memory for counted codes is bounded.
    axis, nonfinite, backend, threads, progress
        As in `qengine.error_report`.

    Raises
    ------
    DomainError
        If none is possible, or the tensor itself is refused (NaN, empty ...).

    Examples
    --------
    >>> import numpy as np
    >>> import qengine as qe
    >>> specs = qe.QuantSpec.grid(bits=8, signed=False, narrow=True, mode=("symmetric", "asymmetric"))
    >>> report, left_out = report_possible(np.array([-0.5, 0.25, 1.0]), specs)
    >>> len(report.rows), left_out[0].reason
    (1, 'symmetric unsigned codes start at 0, their zero point: narrow must be False.')
    """
    name = backends.choose(backend, x) if isinstance(x, np.ndarray) else backends.choose(backend)
    if math.prod(x.shape) == 0:
        raise DomainError(f"x must hold at least one sample; got shape {tuple(x.shape)}.")
    sought = before(progress, math.prod(x.shape))
    possible, left_out = _possible(x, specs, nonfinite, name, sought)
    while possible:
        try:
            return _measured(x, possible, axis, nonfinite, backend, threads, progress), tuple(left_out)
        except DomainError:
            found = [
                LeftOut(spec, why)
                for spec in possible
                if (why := _problem(x, spec, nonfinite, name, sought)) is not None
            ]
            if not found and (len(possible) == 1 or (nonfinite == "raise" and not _all_finite(x))):
                raise
            if not found:  # squares of some errors leave float64
                found = [
                    item
                    for spec in possible
                    if (item := _unmeasurable(x, spec, nonfinite, backend, sought)) is not None
                ]
            if not found:
                raise
            if len({item.reason for item in found}) == 1 and len(found) == len(possible):
                raise DomainError(found[0].reason) from None  # it is the tensor
            left_out += found
            possible = [spec for spec in possible if all(item.spec is not spec for item in found)]
    raise DomainError(
        f"none of the {len(specs)} choices is possible; the first, {specs[0].label}: {left_out[0].reason}"
    )


def _measured(
    x: Any, specs: Sequence[QuantSpec], axis: int | None, nonfinite: str, backend: str | None, threads: int | None,
    progress: Progress | None,
) -> ErrorReport:  # fmt: skip
    batches = _batches(specs)
    reports = []
    for k, batch in enumerate(batches):
        moved = None if progress is None else _nth(progress, k, len(batches))
        reports.append(
            error_report(x, batch, axis=axis, nonfinite=nonfinite, backend=backend, threads=threads, progress=moved)
        )
    rows: tuple[ErrorRow, ...] = sum((report.rows for report in reports), ())
    return dataclasses.replace(reports[0], rows=rows)


def _nth(progress: Progress, k: int, parts: int) -> Progress:
    """Return the progress of part k of several equal ones."""
    return lambda done, total: progress(k * total + done, parts * total)


def bits_curve(
    x: Any, spec: QuantSpec, *, nonfinite: str = "raise", backend: str | None = None, threads: int | None = None,
    progress: Progress | None = None,
) -> list[tuple[int, float]]:  # fmt: skip
    """Return (bits, SQNR in dB) of a choice of integers at every width from 2 to 16 at which it is possible.

    Examples
    --------
    >>> import numpy as np
    >>> import qengine as qe
    >>> curve = bits_curve(np.array([-1.0, 0.3, 0.5]), qe.QuantSpec(method="entropy"))
    >>> curve[0][0], curve[-1][0]                                   # entropy goes up to 11 bits
    (2, 11)
    """
    specs = [dataclasses.replace(spec, bits=bits, params=None, name=None) for bits in range(2, 17)]
    report, _ = report_possible(x, specs, nonfinite=nonfinite, backend=backend, threads=threads, progress=progress)
    return [(row.spec.bits, row.sqnr) for row in report.rows]
