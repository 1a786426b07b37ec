"""The census: on how many pairs (multiplier, accumulator) two schemes disagree, over all mantissas; nothing is sampled.

A multiplier is ``value * 2**(shift - 31)`` with a mantissa of ``[2**30, 2**31 - 1]``: there are 2**30 a shift. Three
ways, all exact, chosen shift by shift:

* ``closed``, a clamped output, two schemes that multiply by the Q0.31 mantissa itself: the least accumulator of each
  code is a floor of a constant by the mantissa, so its sum over all mantissas is a divisor sum;
* ``closed``, a raw output: the roles change, and floor sums along the mantissas serve one accumulator at a time;
* ``tiles``, any two schemes: every mantissa is counted, by thresholds where the output is clamped, else by floor sums.
  A tile is a pure function of its range.

Source: for divisor sums, `qengine.kernels.cpu.census`. That the thresholds settle the count is the identity
``sum |A - B| = sum over codes of |T_A - T_B|`` of monotone functions.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qengine.kernels.cpu import census as kernels

from ..backends.cpu import thread_count
from ..backends.forms import I64, FloorRule
from ..exceptions import DomainError, DTypeError, UnknownNameError
from ..requant.multiplier import QuantizedMultiplier
from ..requant.schemes import Scheme, get_scheme
from ..work.run import Tile, cut, run
from . import lattice, staircase
from .sides import Side, as_range, common_domain, side

#: All normalized mantissas, closed.
MANTISSAS = (1 << 30, (1 << 31) - 1)
#: The shifts of multipliers below 1, and 1/2 to 1 itself: TFLite's sign, positive is left.
SHIFTS = range(0, -31, -1)
METHODS = ("auto", "closed", "tiles")
#: Multipliers a tile: some milliseconds of work in the cache; fewer where outputs have many codes.
TILE, CODES_A_TILE = 1 << 12, 1 << 23
#: Accumulators a tile of a closed raw census; divisor sums a tile.
ACCUMULATORS, SUMS = 1 << 13, 32
#: Multipliers up to which tiles are chosen where both ways apply: a moment's work, and they tell more.
FEW = 1 << 18

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True, slots=True)
class Tally:
    """What a census counts over some multipliers of one shift; tallies of disjoint ranges merge in any order.

    Attributes
    ----------
    multipliers, compared : int
        Multipliers, and the pairs (multiplier, accumulator) on which both schemes are defined.
    divergent : int
        Pairs with different outputs.
    signed : int
        Sum over all pairs of the second output minus the first.
    divergent_multipliers : int or None
        Multipliers with any divergent accumulator; None where multipliers were not counted one by one.
    most, most_at : int or None
        Most divergent accumulators of one multiplier, and the least mantissa that has so many.
    """

    multipliers: int = 0
    compared: int = 0
    divergent: int = 0
    signed: int = 0
    divergent_multipliers: int | None = None
    most: int | None = None
    most_at: int | None = None

    @property
    def rate(self) -> float:
        """Share of the compared pairs that diverge."""
        return self.divergent / self.compared if self.compared else 0.0

    @property
    def mean(self) -> float:
        """Divergent accumulators a multiplier."""
        return self.divergent / self.multipliers if self.multipliers else 0.0

    def merge(self, other: Tally) -> Tally:
        """Return the tally of both; the empty tally changes nothing."""
        if not self.multipliers or not other.multipliers:
            return self if self.multipliers else other
        counted = self.divergent_multipliers, other.divergent_multipliers
        best = min(
            ((t.most, t.most_at) for t in (self, other) if t.most is not None and t.most_at is not None),
            key=lambda pair: (-pair[0], pair[1]), default=(None, None),
        )  # fmt: skip
        both = counted[0] is not None and counted[1] is not None
        return Tally(
            self.multipliers + other.multipliers, self.compared + other.compared, self.divergent + other.divergent,
            self.signed + other.signed, (counted[0] or 0) + (counted[1] or 0) if both else None,
            *(best if both else (None, None)),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "multipliers": self.multipliers, "compared": self.compared, "divergent": self.divergent,
            "signed": self.signed, "rate": self.rate, "mean": self.mean,
            "divergent_multipliers": self.divergent_multipliers,
            "most": None if self.most is None else {"divergent": self.most, "value": self.most_at},
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Which pairs are compared: two schemes, mantissas, accumulators, the output. Tiles are functions of it.

    Attributes
    ----------
    schemes : (Scheme, Scheme)
    first, last : int
        Closed range of mantissas.
    low, high : int
        Closed range of accumulators; those on which a scheme has no defined output are left out.
    output : dict
        ``dtype``, ``zero_point``, ``qmin`` and ``qmax`` as in `qengine.requantize`.
    """

    schemes: tuple[Scheme, Scheme]
    first: int
    last: int
    low: int
    high: int
    output: dict[str, Any]

    @property
    def multipliers(self) -> int:
        """Number of mantissas."""
        return self.last - self.first + 1

    def sides(self, shift: int, mantissas: I64) -> tuple[Side, Side]:
        """Bind both schemes to some mantissas of a shift."""
        given = QuantizedMultiplier(mantissas, np.full(mantissas.size, shift, dtype=np.int64))
        a, b = (side(scheme, given, **self.output) for scheme in self.schemes)
        return a, b

    def domain(self, sides: tuple[Side, Side]) -> tuple[I64, I64]:
        """Return the accumulators that are compared, a closed range for each mantissa."""
        return common_domain(sides, (self.low, self.high))

    def ends(self, shift: int) -> tuple[Side, Side]:
        """Bind both schemes to the first and the last mantissa."""
        return self.sides(shift, np.array([self.first, self.last]))

    def not_closed(self, shift: int) -> str | None:
        """Return why no closed form applies, or None."""
        sides = self.ends(shift)
        for one in sides:
            rule = one.form.rule
            if not isinstance(rule, FloorRule) or rule.mantissa != "q31":
                return f"scheme {one.scheme.name!r} does not multiply by the Q0.31 mantissa itself"
            if not one.monotone.all():
                return f"scheme {one.scheme.name!r} falls between the accumulators -1 and 0"
        # Domains shrink as the mantissa grows: equal at both ends is equal throughout.
        low, high = self.domain(sides)
        if low[0] != low[1] or high[0] != high[1]:
            return (
                f"at shift {shift} the accumulators with a defined output depend on the mantissa; "
                f"[{max(low)}, {min(high)}] are common to all"
            )
        return None

    def not_tiled(self, shift: int) -> str | None:
        """Return why mantissas cannot be counted one by one, or None."""
        sides = self.ends(shift)
        if _few_codes(sides) or (sides[0].floor and sides[1].floor):
            return None
        other = next((one for one in sides if not one.floor), sides[0])
        return (
            f"scheme {other.scheme.name!r} is a {other.scheme.form} form: its output has to be clamped to int8, uint8 "
            "or int16"
        )

    def method(self, shift: int, wanted: str) -> str:
        """Return the way that is taken at a shift, ``closed`` or ``tiles``, or raise."""
        closed, tiles = self.not_closed(shift), self.not_tiled(shift)
        if wanted == "auto":
            if closed is None and tiles is None:
                low, high = self.domain(self.ends(shift))
                clamped = self.ends(shift)[0].clamped
                few = self.multipliers <= FEW if clamped else self.multipliers < int(high[0]) - int(low[0]) + 1
                return "tiles" if few else "closed"
            wanted = "closed" if closed is None else "tiles"
        reason = closed if wanted == "closed" else tiles
        if reason is not None:
            raise DomainError(f"the census by method {wanted!r} is not possible: {reason}.")
        return wanted

    def tile_size(self, shift: int) -> int:
        """Return how many mantissas make a tile."""
        sides = self.ends(shift)
        if not _few_codes(sides):
            return TILE
        return max(1, min(TILE, CODES_A_TILE // max(1, staircase.covering_codes(sides)[1])))

    def tile(self, shift: int, start: int, stop: int) -> Tally:
        """Count the mantissas ``first + start .. first + stop - 1`` of a shift one by one: a pure function."""
        mantissas = np.arange(self.first + start, self.first + stop, dtype=np.int64)
        size = mantissas.size
        counts, sums = np.empty(size, np.int64), np.empty(size, np.int64)
        if (like := _alike(self, shift)) is not None:
            # All numbers but the slope are those of the first mantissa.
            sides, low, high = like, *(np.repeat(bound[:1], size) for bound in self.domain(like))
        else:
            sides = self.sides(shift, mantissas)
            low, high = self.domain(sides)
        if _few_codes(sides):
            first, n = staircase.covering_codes(sides)
            rules, *numbers = staircase.kernel_numbers(sides)
            if like is not None:
                numbers = [np.repeat(array[:, :1], size, axis=1) for array in numbers]
                numbers[0][:] = mantissas
            kernels.by_thresholds(rules, *numbers, low, high, first, n, counts, sums)
        else:
            rows = [lattice.kernel_rows(one, slice(None)) for one in sides]
            if like is not None:
                rows = [np.repeat(array[:1], size, axis=0) for array in rows]
                for array in rows:
                    array[:, 0] = mantissas
            kernels.by_lattice(*rows, low, high, counts, sums)
        at = int(counts.argmax())
        return Tally(
            size, int(np.maximum(high - low + 1, 0).sum()), int(counts.sum()), _exact_sum(sums),
            int(np.count_nonzero(counts)), int(counts[at]), int(mantissas[at]),
        )  # fmt: skip

    def accumulators(self, shift: int, start: int, stop: int) -> tuple[int, int]:
        """Count and sum, over all mantissas, the raw outputs of the accumulators ``start .. stop - 1`` of the range.

        Needs ``not_closed(shift) is None``.
        """
        sides = self.ends(shift)
        a, b = (lattice.kernel_rows(one, slice(0, 1)) for one in sides)
        bottom = int(self.domain(sides)[0][0])
        counts, sums = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
        kernels.along_multipliers(a, b, self.first, self.last, bottom + start, counts, sums)
        return int(counts.sum()), _exact_sum(sums)


@functools.lru_cache(maxsize=64)
def _alike(asked: Question, shift: int) -> tuple[Side, Side] | None:
    """Return the sides of the first and last mantissa if no other differs from them but in its slope."""
    return asked.ends(shift) if asked.not_closed(shift) is None else None


def _few_codes(sides: tuple[Side, Side]) -> bool:
    """Tell whether both outputs have thresholds in closed form."""
    lowest, highest = staircase.CODES
    return all(
        one.clamped and one.epilogue.qmin >= lowest and one.epilogue.qmax <= highest
        and staircase.closed_form(one.form.rule)
        for one in sides
    )  # fmt: skip


def _exact_sum(values: I64) -> int:
    """Sum int64 values that may leave int64 together: at most 2**31 of them, high and low words apart."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


@dataclass(frozen=True, slots=True)
class DivisorSums:
    """Sums ``sum over m of clip(floor(w / m), low, high)`` and how often each enters the two totals."""

    w: I64
    low: I64
    high: I64
    count: tuple[int, ...]
    signed: tuple[int, ...]


#: Biases for x >= 0 and x < 0, shift, bounds of the result, zero point.
Numbers = tuple[int, int, int, int, int, int]


def divisor_sums(a: Numbers, b: Numbers, qmin: int, qmax: int, lo: int, hi: int, last: int) -> DivisorSums:
    """Write the divergent pairs of two clamped floor forms over mantissas up to `last` as divisor sums.

    A result of r or more begins at ``floor(w / m) + 1``, ``w = r 2**t - bp - 1``, where that is not negative, and at
    ``-floor(u / m)``, ``u = bn - r 2**t``, where that is: so at ``floor(max(w, -1) / m) + 1 - floor(max(u, 0) / m)``,
    for at most one of the two is not zero, the forms being monotone. Both parts are clipped to the accumulators.
    (w, u) stands for the threshold; of two thresholds the greater has the greater w and the less u, for every m. Code
    by code, A and B differ between their two thresholds, but for what lies below the greater one of the code before.

    Parameters
    ----------
    a, b : (bp, bn, t, low, high, z)
        ``clip(floor((m x + (bp if x >= 0 else bn)) / 2**t), low, high) + z``, monotone for every mantissa.
    qmin, qmax : int
        Closed range of all outputs.
    lo, hi : int
        Closed range of accumulators within int32, not empty.
    last : int
        Greatest mantissa, at most ``2**31 - 1``.

    Returns
    -------
    DivisorSums
        ``-1 <= w <= 2**62 + 2**31``, ``-1 <= low <= high <= 2**31``.
    """
    stop = hi + 1
    above = max(lo, 0) - 1, max(stop, 0) - 1
    below = max(-stop, 0), max(-lo, 0)
    # Where the quotient by every mantissa exceeds what it is clipped to.
    never, always = (above[1] + 1) * last, (below[1] + 1) * last

    def threshold(numbers: Numbers, k: int) -> tuple[int, int]:
        bp, bn, t, low, high, z = numbers
        if k - z <= low:
            return -1, always
        if k - z > high:
            return never, 0
        edge = (k - z) << t
        return min(max(edge - bp - 1, -1), never), min(max(bn - edge, 0), always)

    parts: dict[tuple[int, bool], list[int]] = {}

    def add(at: tuple[int, int], total: int, factor: int) -> None:
        parts.setdefault((at[0], True), [0, 0])[total] += factor
        parts.setdefault((at[1], False), [0, 0])[total] -= factor

    before = (-1, always)
    for k in range(qmin + 1, qmax + 1):
        p, q = threshold(a, k), threshold(b, k)
        greater, less = (max(p[0], q[0]), min(p[1], q[1])), (min(p[0], q[0]), max(p[1], q[1]))
        add(greater, 0, 1)
        add((max(less[0], before[0]), min(less[1], before[1])), 0, -1)
        add(p, 1, 1)
        add(q, 1, -1)
        before = greater
    kept = [(key, factors) for key, factors in parts.items() if any(factors)]
    bounds = [above if upward else below for (_, upward), _ in kept]
    return DivisorSums(
        np.array([w for (w, _), _ in kept], dtype=np.int64),
        np.array([low for low, _ in bounds], dtype=np.int64),
        np.array([high for _, high in bounds], dtype=np.int64),
        tuple(factors[0] for _, factors in kept),
        tuple(factors[1] for _, factors in kept),
    )


@dataclass(frozen=True, slots=True, eq=False)
class CensusResult:
    """The totals of a census.

    Attributes
    ----------
    schemes : (str, str)
    shifts : tuple of int
        Those asked for; `by_shift` has those that were begun.
    question : Question
        Schemes, mantissas, accumulators, output.
    by_shift : dict of int to Tally
    methods : dict of int to str
        ``closed`` or ``tiles``.
    complete : bool
        False where the user interrupted: a tally is then of the first `Tally.multipliers` mantissas, exact for those.
    seconds : float
    """

    schemes: tuple[str, str]
    shifts: tuple[int, ...]
    question: Question
    by_shift: dict[int, Tally] = field(default_factory=dict)
    methods: dict[int, str] = field(default_factory=dict)
    complete: bool = True
    seconds: float = 0.0

    @property
    def tally(self) -> Tally:
        """All shifts together; of whose the most are, `most` tells."""
        total = Tally()
        for one in self.by_shift.values():
            total = total.merge(one)
        return total

    @property
    def most(self) -> tuple[int, int, int] | None:
        """Most divergent accumulators of one multiplier, its mantissa and its shift; None unless tiles counted all."""
        if self.divergent_multipliers is None:
            return None
        counted = [(-(t.most or 0), place, t.most_at or 0) for place, t in enumerate(self.by_shift.values())]
        count, place, value = min(counted)
        return -count, value, list(self.by_shift)[place]

    @property
    def total(self) -> int:
        """Pairs with different outputs."""
        return self.tally.divergent

    @property
    def signed(self) -> int:
        """Sum over all pairs of the second output minus the first."""
        return self.tally.signed

    @property
    def compared(self) -> int:
        """Pairs on which both schemes are defined."""
        return self.tally.compared

    @property
    def multipliers(self) -> int:
        """Multipliers that were counted."""
        return self.tally.multipliers

    @property
    def divergent_multipliers(self) -> int | None:
        """Multipliers with any divergent accumulator; None unless all shifts were counted by tiles."""
        return self.tally.divergent_multipliers

    @property
    def rate(self) -> float:
        """Share of the compared pairs that diverge."""
        return self.tally.rate

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        asked = self.question
        clamp = asked.ends(self.shifts[0])[0]
        most = None if self.most is None else dict(zip(("divergent", "value", "shift"), self.most, strict=True))
        return {
            "schemes": list(self.schemes), "shifts": list(self.shifts), "mantissas": [asked.first, asked.last],
            "accumulators": [asked.low, asked.high],
            "output": {
                "dtype": clamp.dtype.name if clamp.clamped else "raw", "zero_point": asked.output["zero_point"],
                "qmin": clamp.epilogue.qmin if clamp.clamped else None,
                "qmax": clamp.epilogue.qmax if clamp.clamped else None,
            },
            "complete": self.complete, "seconds": self.seconds, "total": self.tally.to_dict() | {"most": most},
            "by_shift": [
                {"shift": shift, "method": self.methods[shift], **tally.to_dict()}
                for shift, tally in self.by_shift.items()
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        from ..report.census import render_text

        return render_text(self)


def census(
    a: str | Scheme,
    b: str | Scheme,
    *,
    shift: int | None = None,
    shifts: Iterable[int] | None = None,
    multipliers: tuple[int, int] = MANTISSAS,
    acc_range: tuple[int, int] | None = None,
    dtype: npt.DTypeLike | None = "int8",
    zero_point: int = 0,
    qmin: int | None = None,
    qmax: int | None = None,
    method: str = "auto",
    progress: Progress = None,
) -> CensusResult:
    """Count the pairs (multiplier, accumulator) on which two schemes differ: exact, over all of them.

    ``#{(m, x) : A_m(x) != B_m(x)}`` over the multipliers ``m 2**(shift - 31)``.

    Parameters
    ----------
    a, b : str or Scheme
        Names, aliases or rows.
    shift : int, optional
        One TFLite shift (positive is left); or
    shifts : iterable of int, optional
        several, none twice. Default: 0 to -30, every multiplier in ``[2**-31, 1)``.
    multipliers : (first, last)
        Closed range of Q0.31 mantissas within ``[2**30, 2**31 - 1]``; all by default.
    acc_range : (lowest, highest), optional
        Closed range of accumulators within int32; all of int32 by default.
    dtype : {None, int8, uint8, int16, int32}
        Output type to clamp to; None and int32 compare raw results.
    zero_point, qmin, qmax : int, optional
        As in `qengine.requantize`.
    method : {"auto", "closed", "tiles"}
        Who counts, see the module; the totals do not depend on it. "auto" takes the faster one; where there are at
        most 2**18 multipliers it prefers tiles, which also tell how many multipliers diverge and which most.
    progress : callable, optional
        Called as ``progress(done, total)``, in pairs.

    Returns
    -------
    CensusResult
        ``.total``, ``.signed``, ``.rate``, ``.divergent_multipliers``, ``.by_shift``, ``.complete``, ``.to_dict()``;
        ``str()`` draws the table.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError
        As `qengine.requantize`; mantissas, shifts or ranges outside their bounds; a method that does not apply (the
        text says why).

    Notes
    -----
    Interrupted (Ctrl-C), the result holds what is done: by tiles the first so many mantissas of a shift, in closed
    form the shifts that are finished; ``.complete`` is False then.

    Examples
    --------
    2**30 multipliers times 2**32 accumulators; of the 256 codes one more is negative, hence the sum:

    >>> import qengine as qe
    >>> r = qe.census("single", "double", shift=-4)
    >>> r.total, r.signed, round(r.by_shift[-4].mean, 6)
    (190017723866, -744392556, 176.967796)

    Float32 differs at its ties, which need mantissas with trailing zeros:

    >>> few = (2**30, 2**30 + 999)
    >>> r = qe.census("single", "fp32", shift=-9, multipliers=few)
    >>> r.total, r.divergent_multipliers, r.most
    (8320, 65, (128, 1073741824, -9))
    >>> one = (2**30, 2**30)                                            # 1/4: ties at 2 mod 4, -2 goes to 0 or -1
    >>> qe.census("single", "half-away", shift=-1, multipliers=one, acc_range=(-2, 2), dtype=None).signed
    -1
    """
    begun = time.perf_counter()
    asked, chosen = _question(a, b, shift, shifts, multipliers, acc_range, dtype, zero_point, qmin, qmax)
    if method not in METHODS:
        raise UnknownNameError.of("method", method, METHODS)
    methods = {one: asked.method(one, method) for one in chosen}
    by_shift: dict[int, Tally] = {}
    whole = asked.multipliers * (asked.high - asked.low + 1)
    complete = True
    for place, one in enumerate(chosen):

        def advance(share: float, place: int = place) -> None:
            if progress is not None:
                progress(place * whole + int(share * whole), len(chosen) * whole)

        try:
            tally, complete = (_tiles if methods[one] == "tiles" else _closed)(asked, one, advance)
        except KeyboardInterrupt:  # between tiles: what this shift has counted so far is dropped
            tally, complete = Tally(), False
        if tally.multipliers:
            by_shift[one] = tally
        if not complete:
            break
    return CensusResult(
        (asked.schemes[0].name, asked.schemes[1].name), chosen, asked, by_shift,
        {one: methods[one] for one in by_shift}, complete, time.perf_counter() - begun,
    )  # fmt: skip


def _integer(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise DTypeError(f"{name} must be an integer; got {value!r}.")
    try:
        return operator.index(value)
    except TypeError:
        raise DTypeError(f"{name} must be an integer; got {value!r}.") from None


def _question(
    a: str | Scheme, b: str | Scheme, shift: Any, shifts: Any, multipliers: Any, acc_range: Any,
    dtype: npt.DTypeLike | None, zero_point: Any, qmin: int | None, qmax: int | None,
) -> tuple[Question, tuple[int, ...]]:  # fmt: skip
    """Check what was asked; every shift is bound once, so that a bad one is named before the work begins."""
    rows = get_scheme(a), get_scheme(b)
    if rows[0].name == rows[1].name:
        raise DomainError(f"the schemes must differ; got {rows[0].name} twice (aliases count as the same).")
    if shift is not None and shifts is not None:
        raise DomainError("give shift or shifts, not both.")
    if shift is not None:
        shifts = (_integer("shift", shift),)
    elif shifts is not None and (isinstance(shifts, (str, Mapping)) or not isinstance(shifts, Iterable)):
        raise DTypeError(f"shifts must be several integers; got {shifts!r}.")
    least, most = max(row.shift_range[0] for row in rows), min(row.shift_range[1] for row in rows)
    chosen: list[int] = []
    for given in SHIFTS if shifts is None else shifts:
        one = _integer("shift", given)
        if not least <= one <= most:
            raise DomainError(
                f"shift must be in [{least}, {most}] for schemes {rows[0].name!r} and {rows[1].name!r}; got {one}."
            )
        if one in chosen:
            raise DomainError(f"no shift may be given twice; got {one} again.")
        chosen.append(one)
    if not chosen:
        raise DomainError("give at least one shift; got none.")
    if not isinstance(multipliers, (tuple, list)) or len(multipliers) != 2:
        raise DomainError(f"multipliers must be (first mantissa, last mantissa); got {multipliers!r}.")
    first, last = (_integer("a mantissa", one) for one in multipliers)
    if not MANTISSAS[0] <= first <= last <= MANTISSAS[1]:
        raise DomainError(
            f"multipliers must be an ascending range of mantissas within [{MANTISSAS[0]}, {MANTISSAS[1]}]; "
            f"got [{first}, {last}]."
        )
    low, high = (int(bound[0]) for bound in as_range(acc_range, 1))
    output = {"dtype": dtype, "zero_point": _integer("zero_point", zero_point), "qmin": qmin, "qmax": qmax}
    asked = Question(rows, first, last, low, high, output)
    for one in chosen:
        asked.ends(one)
    return asked, tuple(chosen)


def _tiles(asked: Question, shift: int, advance: Callable[[float], None]) -> tuple[Tally, bool]:
    """Count a shift mantissa by mantissa; tiles start in order and those that started finish: the first ones."""
    total = Tally()

    def merge(tile: Tile, part: Tally) -> None:
        nonlocal total
        total = total.merge(part)
        advance(total.multipliers / asked.multipliers)

    size = asked.tile_size(shift)
    complete = run(
        cut(asked.multipliers, size), lambda start, stop: asked.tile(shift, start, stop), merge,
        workers=thread_count(),
    )  # fmt: skip
    return total, complete


def _closed(asked: Question, shift: int, advance: Callable[[float], None]) -> tuple[Tally, bool]:
    """Count a shift in closed form; nothing, if it was not finished."""
    sides = asked.ends(shift)
    low, high = (int(bound[0]) for bound in asked.domain(sides))
    if low > high:
        return Tally(asked.multipliers), True
    by = _over_codes if sides[0].clamped else _over_accumulators
    divergent, signed, complete = by(asked, shift, low, high, advance)
    if not complete:
        return Tally(), False
    return Tally(asked.multipliers, asked.multipliers * (high - low + 1), divergent, signed), True


def _over_accumulators(
    asked: Question, shift: int, low: int, high: int, advance: Callable[[float], None]
) -> tuple[int, int, bool]:
    """Count a raw output accumulator by accumulator: (divergent, sum of differences, whether all were done)."""
    divergent = signed = done = 0
    size = high - low + 1

    def add(tile: Tile, part: tuple[int, int]) -> None:
        nonlocal divergent, signed, done
        divergent, signed, done = divergent + part[0], signed + part[1], done + len(tile)
        advance(done / size)

    complete = run(
        cut(size, ACCUMULATORS), lambda start, stop: asked.accumulators(shift, start, stop), add,
        workers=thread_count(),
    )  # fmt: skip
    return divergent, signed, complete


def _over_codes(
    asked: Question, shift: int, low: int, high: int, advance: Callable[[float], None]
) -> tuple[int, int, bool]:
    """Count a clamped output by divisor sums: (divergent, sum of differences, whether all were done)."""
    sides = asked.ends(shift)
    numbers = []
    for one in sides:
        form, e = one.form, one.epilogue
        fields = (form.bp, form.bn, form.t, e.low, e.high, e.zero_point)
        numbers.append(tuple(int(values[0]) for values in fields))
    clamp = sides[0].epilogue
    sums = divisor_sums(numbers[0], numbers[1], clamp.qmin, clamp.qmax, low, high, asked.last)  # type: ignore[arg-type]
    divergent = signed = done = 0

    def evaluate(start: int, stop: int) -> list[int]:
        out = np.empty(stop - start, np.int64)
        w, bottom, top = (column[start:stop] for column in (sums.w, sums.low, sums.high))
        kernels.clipped_sums(w, bottom, top, asked.first, asked.last, kernels.DEPTH, kernels.CHEAPEST, out)
        values: list[int] = out.tolist()
        return values

    def add(tile: Tile, values: list[int]) -> None:
        nonlocal divergent, signed, done
        divergent += sum(map(operator.mul, sums.count[tile.start : tile.stop], values))
        signed += sum(map(operator.mul, sums.signed[tile.start : tile.stop], values))
        done += len(tile)
        advance(done / sums.w.size)

    complete = run(cut(sums.w.size, SUMS), evaluate, add, workers=thread_count())
    return divergent, signed, complete
