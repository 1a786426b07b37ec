"""Exact divergence: how many accumulators two schemes disagree on, and which; nothing is sampled.

Who counts is chosen pair by pair, and named in the result:

* ``lattice``: two floor forms, any output (`qengine.exact.lattice`);
* ``staircase``: any two monotone schemes with at most 2**17 output codes (`qengine.exact.staircase`);
* ``scan``: what neither can do, a float or nested form with a wide output: every accumulator is evaluated, at some
  pairs a nanosecond (`qengine.exact.scan`).

All three are exact, and tests hold them against each other.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import arguments, backends
from ..arguments import Progress
from ..backends.cpu import thread_count
from ..exceptions import BackendError, DomainError
from ..requant.multiplier import QuantizedMultiplier, split_real
from ..requant.scales import ScaleTable, scale_table
from ..requant.schemes import Scheme, get_scheme
from ..work.checkpoint import Checkpoint, open_checkpoint
from ..work.cluster import ClusterExecutor, connect
from . import lattice, scan, staircase
from .comparison import SchemeComparison, sizes
from .couple import Couple, Divergence
from .inputs import DivergentInputs
from .sides import Side, as_range, common_domain, side

I64 = npt.NDArray[np.int64]
ENGINES = ("lattice", "staircase", "scan")
#: Codes up to which thresholds of K > 2 schemes cost less than a floor sum a pair.
FEW_CODES = 1 << 9


def count_divergence(
    a: str | Scheme,
    b: str | Scheme,
    multiplier: Any = None,
    *,
    scales: Any = None,
    acc_range: Any = None,
    dtype: npt.DTypeLike | None = None,
    zero_point: Any = None,
    qmin: int | None = None,
    qmax: int | None = None,
    weights: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    engine: str | None = None,
    backend: str | None = None,
    progress: Progress | None = None,
) -> int | I64:
    """Count the accumulators on which two schemes give different outputs: ``#{x : A(x) != B(x)}``.

    Parameters
    ----------
    a, b : str or Scheme
        Names, aliases or rows.
    multiplier : QuantizedMultiplier, float or array, optional
        One channel or many, as in `qengine.requantize`; or
    scales : (input, weight, output), path of a CSV or ScaleTable, optional
        stored float32 scales; each scheme applies its own recipe.
    acc_range : (lowest, highest), optional
        Closed range of accumulators within int32, integers or one a channel. Default: all 2**32.
    dtype : {None, int8, uint8, int16, int32}
        Output type to clamp to; None and int32 compare raw results.
    zero_point : int or integer array, optional
        One or one a channel. Default: that of the table, else 0.
    qmin, qmax : int, optional
        Narrower closed clamp.
    weights : (values, counts), optional
        A histogram of accumulators, ascending int32 values (1-D, or a row a channel) and their int64 counts: the
        result is the sum of the counts where the outputs differ.
    engine : {"lattice", "staircase", "scan"}, optional
        Who counts; the result does not depend on it.
    backend : str, optional
        Where it counts: ``cpu``; ``cuda`` or ``reference``, clamped outputs alone (engine ``staircase``).
    progress : callable, optional
        Called as ``progress(done, total)``.

    Returns
    -------
    int or int64 array
        An int for one channel, else one count a channel. Only accumulators on which both schemes are defined count
        (``x << e`` must fit int32, say): `compare_schemes` tells how many those are.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError, InputFileError
        As `qengine.requantize`; also for a multiplier outside a scheme's domain, a bad range, weights that are not
        ascending, and an engine that cannot do it (the text says why).
    BackendError
        A back end that cannot serve, or not this: ``lattice`` and ``scan`` run on the CPU alone.

    Notes
    -----
    Floor forms: floor sums, O(log) a channel (`qengine.exact.lattice`). Clamped outputs: exact thresholds of every
    code (`qengine.exact.staircase`). A wide output of a float form: every accumulator is evaluated.

    Examples
    --------
    The multiplier 1/4 puts a tie on every ``x = 4 k + 2``. Double rounding takes negative ties away from zero, and
    positive quarters up, to a tie and then on: every fourth accumulator differs.

    >>> import qengine as qe
    >>> quarter = qe.QuantizedMultiplier(1 << 30, -1)
    >>> qe.count_divergence("single", "double", quarter)
    1073741824
    >>> qe.count_divergence("single", "double", quarter, acc_range=(-3, 2))          # -2 and 1
    2
    >>> qe.count_divergence("single", "fp32", [0.25, 0.1], dtype="int8")
    array([128, 127])
    """
    result = _compare(
        [get_scheme(a), get_scheme(b)], multiplier, scales, acc_range, dtype, zero_point, qmin, qmax, weights, engine,
        "error", progress, backends.choose(backend),
    )  # fmt: skip
    counts = result.divergent[0]
    return int(counts[0]) if counts.size == 1 else counts


def compare_schemes(
    *schemes: str | Scheme,
    multiplier: Any = None,
    scales: Any = None,
    acc_range: Any = None,
    dtype: npt.DTypeLike | None = None,
    zero_point: Any = None,
    qmin: int | None = None,
    qmax: int | None = None,
    weights: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    engine: str | None = None,
    backend: str | None = None,
    cluster: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> SchemeComparison:
    """Count exactly, for every pair of K schemes and every channel, where they differ.

    Parameters
    ----------
    *schemes : str or Scheme
        Two or more, none twice.
    multiplier, scales, acc_range, dtype, zero_point, qmin, qmax, weights, engine, backend, progress
        As in `count_divergence`. A channel whose multiplier a scheme does not admit has no accumulators there: it
        is counted as excluded.
    cluster : str or distributed.Client, optional
        Scan on the workers of a dask cluster, as in `qengine.sweep`. What the other engines answer is answered here.
    checkpoint : path, optional
        A folder where a scan of many accumulators records what is finished, on the disk about every second; the other
        engines take seconds, and are done again.
    resume : bool
        Go on from what `checkpoint` holds of the same comparison.

    Returns
    -------
    SchemeComparison
        ``.matrix()``, ``.couple(a, b)`` (counts, largest difference, histogram, first and last witness), ``.classes``
        (schemes that agree everywhere), ``.excluded``, ``.to_dict()``; ``str()`` draws the tables.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError, InputFileError
        As `count_divergence`; fewer than two schemes, or one twice; a multiplier that at most one scheme admits; a
        folder that cannot hold a checkpoint, that another process uses, or that holds one which is not to be resumed.
    ClusterError, TileError
        As `qengine.sweep`.

    Notes
    -----
    Ctrl-C raises KeyboardInterrupt; a checkpoint keeps what was finished. So does SIGTERM, in the main thread.

    Examples
    --------
    On 8-bit outputs with the multiplier 1/4, "single" takes ties up and "fp32" to even. The multiplier 0.01111111
    has divergent accumulators, but none that an 8-bit output shows.

    >>> import qengine as qe
    >>> r = qe.compare_schemes("single", "double", "fp32", multiplier=0.25, dtype="int8")
    >>> r.matrix()
    [[0, 255, 128], [255, 0, 255], [128, 255, 0]]
    >>> pair = r.couple("single", "fp32")
    >>> pair.divergent, pair.max_abs_diff, pair.histogram, pair.first.acc, pair.first.outputs
    (128, 1, {1: 128}, -510, (-127, -128))
    >>> ninetieth = qe.QuantizedMultiplier(1527099593, -6)
    >>> qe.count_divergence("single", "double", ninetieth)
    33522942
    >>> qe.compare_schemes("single", "double", multiplier=ninetieth, dtype="int8").classes
    (('single', 'double'),)
    """
    rows = [get_scheme(scheme) for scheme in schemes]
    names = [row.name for row in rows]
    if len(rows) < 2:
        raise DomainError(f"a comparison takes two or more schemes; got {len(rows)}.")
    if len(set(names)) < len(names):
        raise DomainError(f"the schemes must differ; got {', '.join(names)} (aliases count as the same).")
    return _compare(
        rows, multiplier, scales, acc_range, dtype, zero_point, qmin, qmax, weights, engine, "empty", progress,
        backends.choose(backend), cluster, checkpoint, resume,
    )  # fmt: skip


def engines_of(
    schemes: Sequence[str | Scheme], multiplier: Any = None, *, scales: Any = None, dtype: npt.DTypeLike | None = None,
    zero_point: Any = None, qmin: int | None = None, qmax: int | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Return who would count each pair in `compare_schemes`, whose parameters these are; nothing is counted.

    Examples
    --------
    >>> from qengine.exact.divergence import engines_of
    >>> engines_of(("single", "double", "fp32"), 0.25)
    ('lattice', 'scan', 'scan')
    """
    rows = [get_scheme(scheme) for scheme in schemes]
    sides, _ = _sides(rows, multiplier, scales, dtype, zero_point, qmin, qmax, "empty")
    return tuple(_choose((sides[i], sides[j]), len(sides), None, "cpu") for i, j in staircase.pairs(len(sides)))


def across_shifts(result: SchemeComparison, right_shifts: Sequence[int] = range(25)) -> SchemeComparison | None:
    """Compare the same schemes at other shifts: channel n has the first channel's mantissa shifted right by n.

    Parameters
    ----------
    result : SchemeComparison
        Its first channel gives the mantissa, the range, the zero point and the clamp.
    right_shifts : sequence of int
        Right shifts, negative ones to the left.

    Returns
    -------
    SchemeComparison or None
        Over the schemes that need no scan; None where fewer than two are left, or the multiplier is zero.
    """
    mantissa, _ = split_real(result.reals[:1])
    sides = result.sides
    if not sides[0].clamped:
        sides = tuple(one for one in sides if one.floor)
    if len(sides) < 2 or not mantissa[0]:
        return None
    count, e = len(right_shifts), sides[0].epilogue
    multiplier = QuantizedMultiplier(np.full(count, int(mantissa[0])), -np.asarray(right_shifts, dtype=np.int64))
    return _compare(
        [one.scheme for one in sides], multiplier, None, (int(result.low[0]), int(result.high[0])), sides[0].dtype,
        int(e.zero_point[0]), e.qmin if sides[0].clamped else None, e.qmax if sides[0].clamped else None, None, None,
        "empty", None, "cpu",
    )  # fmt: skip


def divergent_inputs(
    a: str | Scheme,
    b: str | Scheme,
    multiplier: Any = None,
    *,
    scales: Any = None,
    channel: int | None = None,
    acc_range: Any = None,
    dtype: npt.DTypeLike | None = None,
    zero_point: Any = None,
    qmin: int | None = None,
    qmax: int | None = None,
    engine: str | None = None,
) -> DivergentInputs:
    """Return the accumulators on which two schemes give different outputs, as an ascending sequence.

    Nothing is listed before it is asked for: the sequence may hold 2**32 accumulators.

    Parameters
    ----------
    a, b, multiplier, scales, acc_range, dtype, zero_point, qmin, qmax, engine
        As in `count_divergence`.
    channel : int, optional
        Which channel, in ``[0, C - 1]``, where there are many.

    Returns
    -------
    DivergentInputs
        ``.count``, ``.first``, ``.last``, ``.next(x)``, ``[k]``, ``.random(n, seed)``, iteration, ``.blocks()``,
        ``.intervals()``, ``.outputs(x)``.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError, InputFileError
        As `count_divergence`; no `channel` where there are many, or one that is not there.

    Examples
    --------
    >>> import qengine as qe
    >>> found = qe.divergent_inputs("single", "double", qe.QuantizedMultiplier(1 << 30, -1), acc_range=(-8, 8))
    >>> list(found)                                            # -2 is the tie -0.5: up to 0, or away to -1
    [-6, -2, 1, 5]
    >>> found.count, found.next(2), found[-1], list(found.intervals())
    (4, 5, 5, [(-6, -6), (-2, -2), (1, 1), (5, 5)])
    >>> found.outputs(-2)
    (0, -1)
    """
    sides, _ = _sides(
        [get_scheme(a), get_scheme(b)], multiplier, scales, dtype, zero_point, qmin, qmax, "error"
    )  # fmt: skip
    channels = sides[0].channels
    if channel is None:
        if channels > 1:
            raise DomainError(f"channel must be one of 0 to {channels - 1}; none was given.")
        channel = 0
    channel = arguments.integer("channel", channel, 0, channels - 1)
    low, high = common_domain(sides, acc_range)
    pair = [one.take(np.array([channel])) for one in sides]
    name = _choose(pair, 2, engine, "cpu")
    return DivergentInputs(pair[0], pair[1], int(low[channel]), int(high[channel]), name, int(channel))


def _sides(
    rows: Sequence[Scheme], multiplier: Any, scales: Any, dtype: npt.DTypeLike | None, zero_point: Any,
    qmin: int | None, qmax: int | None, outside: str,
) -> tuple[list[Side], ScaleTable | None]:  # fmt: skip
    """Bind the schemes; all have as many channels, one zero point and one clamp."""
    table = None if scales is None else scale_table(scales)
    if zero_point is None:
        zero_point = 0 if table is None else table.zero_point
    common: dict[str, Any] = {
        "scales": None if table is None else table.scales, "zero_point": zero_point, "dtype": dtype, "qmin": qmin,
        "qmax": qmax,
    }  # fmt: skip
    sides = [side(row, multiplier, **common, outside=outside) for row in rows]
    if sum(bool((one.low <= one.high).any()) for one in sides) < min(2, len(sides)):
        # At most one scheme is left: binding the first of the others strictly says why.
        refused = next(row for row, one in zip(rows, sides, strict=True) if not (one.low <= one.high).any())
        side(refused, multiplier, **common)
    return sides, table


def _choose(pair: Sequence[Side], schemes: int, engine: str | None, backend: str) -> str:
    """Return who compares two sides."""
    a, b = pair
    engine = None if engine is None else arguments.chosen("engine", engine, ENGINES)
    clamp = a.epilogue
    codes = clamp.qmax - clamp.qmin + 1 if a.clamped else 1 << 32
    reasons: dict[str, str] = {}
    if not (a.floor and b.floor):
        other = a if not a.floor else b
        reasons["lattice"] = f"scheme {other.scheme.name!r} is a {other.scheme.form} form; it takes two floor forms"
    if not a.clamped or clamp.qmin < staircase.CODES[0] or clamp.qmax > staircase.CODES[1]:
        reasons["staircase"] = (
            f"the output is {'raw' if not a.clamped else f'[{clamp.qmin}, {clamp.qmax}]'}; it takes codes within "
            f"[{staircase.CODES[0]}, {staircase.CODES[1]}] (pass dtype='int8', 'uint8' or 'int16')"
        )
    if backend != "cpu" and engine in (None, "lattice", "scan") and (engine or "staircase" in reasons):
        why = f"engine {engine!r} runs on back end 'cpu' alone" if engine else reasons["staircase"]
        raise BackendError(
            f"back end {backend!r} cannot compare {a.scheme.name!r} with {b.scheme.name!r}: {why}. Back end 'cpu' can."
        )
    if engine is not None:
        if engine in reasons:
            raise DomainError(
                f"engine {engine!r} cannot compare {a.scheme.name!r} with {b.scheme.name!r}: {reasons[engine]}."
            )
        return engine
    many = schemes > 2 and codes <= FEW_CODES
    prefer = ("staircase", "lattice", "scan") if many or backend != "cpu" else ENGINES
    return next(name for name in prefer if name not in reasons)


def _compare(
    rows: Sequence[Scheme], multiplier: Any, scales: Any, acc_range: Any, dtype: npt.DTypeLike | None,
    zero_point: Any, qmin: int | None, qmax: int | None, weights: Any, engine: str | None, outside: str,
    progress: Progress | None, backend: str, cluster: Any = None, checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> SchemeComparison:  # fmt: skip
    begun = time.perf_counter()
    arguments.callback("progress", progress)
    sides, table = _sides(rows, multiplier, scales, dtype, zero_point, qmin, qmax, outside)
    channels = sides[0].channels
    low, high = as_range(acc_range, channels)
    histogram = None if weights is None else staircase.cumulative_weights(weights, channels)
    pairs = staircase.pairs(len(sides))
    shape = (len(pairs), channels)
    if histogram is None:
        engines = tuple(_choose((sides[i], sides[j]), len(sides), engine, backend) for i, j in pairs)
    else:
        engines = _weighted_engines(sides, pairs, engine, backend)
    result = SchemeComparison(
        schemes=tuple(row.name for row in rows), sides=tuple(sides), table=table, low=low, high=high,
        weights=histogram, divergent=np.zeros(shape, np.int64), compared=np.zeros(shape, np.int64), engines=engines,
    )  # fmt: skip
    domains = [common_domain([sides[i], sides[j]], (low, high)) for i, j in pairs]
    for p, domain in enumerate(domains):
        result.compared[p] = sizes(*domain, histogram)
    with contextlib.ExitStack() as stack:
        executor = None if cluster is None else stack.enter_context(connect(cluster))
        kept = stack.enter_context(open_checkpoint(checkpoint, {} if checkpoint is None else result.run_of(), resume))
        _fill(result, pairs, domains, weights, progress, backend, kept, executor)
    result.notes = () if kept is None else kept.notes()
    result.seconds = time.perf_counter() - begun
    return result


def _weighted_engines(
    sides: Sequence[Side], pairs: Sequence[tuple[int, int]], engine: str | None, backend: str
) -> tuple[str, ...]:
    """Return who weighs each pair: thresholds where there are any, else the values are evaluated one by one."""
    if isinstance(engine, str) and engine == "lattice":
        raise DomainError("engine 'lattice' takes no weights; use 'staircase' or 'scan', or none.")
    chosen = (_choose((sides[i], sides[j]), 3, engine, backend) for i, j in pairs)
    return tuple("scan" if name == "lattice" else name for name in chosen)


def _fill(
    result: SchemeComparison, pairs: Sequence[tuple[int, int]], domains: Sequence[tuple[I64, I64]], given: Any,
    progress: Progress | None, backend: str, kept: Checkpoint | None, executor: ClusterExecutor | None,
) -> None:  # fmt: skip
    """Count every pair by its engine."""
    sides, weights = result.sides, result.weights
    by_engine = {name: [p for p, chosen in enumerate(result.engines) if chosen == name] for name in ENGINES}
    done, total = 0, int((result.high - result.low + 1).sum())

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    if by_engine["staircase"]:
        some = by_engine["staircase"]
        taking = sorted({k for p in some for k in pairs[p]})
        place = {pair: n for n, pair in enumerate(staircase.pairs(len(taking)))}
        chosen = [sides[k] for k in taking]
        if weights is None:
            found = staircase.compare(chosen, result.low, result.high, backend=backend)
            counts = found.count
            for p in some:
                column = place[taking.index(pairs[p][0]), taking.index(pairs[p][1])]
                result.extents[p] = (
                    found.first[:, column], found.last[:, column], found.least[:, column], found.greatest[:, column]
                )  # fmt: skip
        else:
            counts = staircase.counts(chosen, result.low, result.high, weights=given, backend=backend)
        for p in some:
            result.divergent[p] = counts[:, place[taking.index(pairs[p][0]), taking.index(pairs[p][1])]]
    for p in by_engine["lattice"]:
        i, j = pairs[p]
        result.divergent[p] = lattice.count(sides[i], sides[j], *domains[p])
    if by_engine["scan"] and weights is not None:
        for p in by_engine["scan"]:
            for c in range(result.channels):
                result.divergent[p, c] = result.weighed(p, c)[2].sum()
    elif by_engine["scan"]:
        some = by_engine["scan"]
        for c in range(result.channels):
            bounds = int(result.low[c]), int(result.high[c])
            taken = [pairs[p] for p in some]
            found_here = scan.scan_pairs(sides, taken, c, *bounds, thread_count(), advance, kept, executor)
            for p, one in zip(some, found_here, strict=True):
                result.divergent[p, c] = one.divergent
                result.scanned[p, c] = one


__all__ = [
    "Couple", "Divergence", "DivergentInputs", "SchemeComparison", "compare_schemes", "count_divergence",
    "divergent_inputs",
]  # fmt: skip
