"""Probes: the fewest accumulators that tell schemes apart for given parameters, and schemes that none tells apart.

The merged staircases of K sides cut the accumulators into pieces on which every side is constant. A piece splits the
pairs of schemes whose values differ there; a set of probes separates all that can be separated if together its pieces
split every such pair: a set cover, solved exactly (few pieces split in a way of their own).
"""

from __future__ import annotations

import csv
import functools
import io
import operator
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.forms import I64
from ..exceptions import DomainError, DTypeError, InputFileError
from ..requant.binding import clamped_type
from ..requant.multiplier import QuantizedMultiplier
from ..requant.schemes import get_scheme
from ..requant.schemes import schemes as all_schemes
from .sides import Side, as_range, side
from .staircase import atoms

#: Pieces looked at together: bounds the memory of their pairs.
_PIECES = 1 << 16
#: File endings to which probes are written.
ENDINGS = (".npy", ".csv", ".h")


@dataclass(frozen=True, slots=True, eq=False)
class Probes:
    """The fewest accumulators that tell schemes apart.

    Attributes
    ----------
    names : tuple of str
        The K schemes.
    accumulators : int64 array, shape (n,)
        The probes, by magnitude; empty where nothing can be told apart.
    outputs : int64 array, shape (K, n)
        What each scheme gives.
    classes : tuple of tuples of str
        Schemes that give the same on the whole domain, together: no accumulator ever tells them apart there.
    domain : (int, int)
        Closed range of the accumulators on which all of them are defined, within the range asked for.
    refused : dict
        Schemes whose domain excludes the multiplier, and their reason.
    zero_point : int
    dtype : str
    multipliers : dict
        The multiplier of each scheme, as text.
    """

    names: tuple[str, ...]
    accumulators: I64
    outputs: I64
    classes: tuple[tuple[str, ...], ...]
    domain: tuple[int, int]
    refused: dict[str, str]
    zero_point: int
    dtype: str
    multipliers: dict[str, str]

    @property
    def inseparable(self) -> tuple[tuple[str, ...], ...]:
        """The classes of more than one scheme: equal on the whole domain."""
        return tuple(group for group in self.classes if len(group) > 1)

    def __len__(self) -> int:
        return int(self.accumulators.size)

    def __iter__(self) -> Any:
        return iter(self.accumulators.tolist())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "accumulators": self.accumulators.tolist(),
            "outputs": {name: row.tolist() for name, row in zip(self.names, self.outputs, strict=True)},
            "classes": [list(group) for group in self.classes],
            "inseparable": [list(group) for group in self.inseparable],
            "domain": list(self.domain),
            "refused": self.refused,
            "zero_point": self.zero_point,
            "dtype": self.dtype,
            "multipliers": self.multipliers,
        }

    def to_csv(self) -> str:
        """Return CSV: a line a probe with the accumulator and the output of each scheme; lines end in CR LF."""
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow(["acc", *self.names])
        writer.writerows(
            [acc, *row] for acc, row in zip(self.accumulators.tolist(), self.outputs.T.tolist(), strict=True)
        )
        return out.getvalue()

    def to_npy(self) -> bytes:
        """Return the accumulators as the bytes of an .npy file of int32."""
        out = io.BytesIO()
        np.save(out, self.accumulators.astype(np.int32))
        return out.getvalue()

    def to_header(self) -> str:
        """Return a C header: the accumulators, and the outputs of each scheme in an array of its own."""
        n = len(self)
        lines = [
            "/* Accumulators that tell requantization schemes apart, and what each scheme gives (qengine probes).",
            f"   Output {self.dtype}, zero point {self.zero_point}. */",
            "#ifndef QENGINE_PROBES_H",
            "#define QENGINE_PROBES_H",
            "",
            "#include <stdint.h>",
            "",
            f"#define QENGINE_PROBES {n}",
        ]
        kind = f"{self.dtype}_t"
        if n:  # C has no empty arrays
            lines.append(f"static const int32_t qengine_probes[{n}] = {{{', '.join(map(_literal, self))}}};")
            for name, row in zip(self.names, self.outputs.tolist(), strict=True):
                symbol = re.sub(r"\W", "_", name)
                lines.append(f"static const {kind} qengine_probes_{symbol}[{n}] = {{{', '.join(map(str, row))}}};")
        return "\n".join([*lines, "", "#endif", ""])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the probes: ``.npy`` (int32 accumulators), ``.csv`` or ``.h`` (a C header), by the ending.

        Raises
        ------
        InputFileError
            For another ending, or a file that cannot be written.
        """
        try:
            Path(path).write_bytes(self.content(Path(path).suffix.lower()))
        except OSError as error:
            raise InputFileError(f"{path}: cannot be written: {error.strerror or error}.") from error

    def content(self, ending: str) -> bytes:
        """Return the bytes of a file of that ending."""
        if ending == ".npy":
            return self.to_npy()
        if ending == ".csv":
            return self.to_csv().encode()
        if ending == ".h":
            return self.to_header().encode()
        raise InputFileError(f"probes are written to {', '.join(ENDINGS)}; got the ending {ending!r}.")

    def __str__(self) -> str:
        from ..report.probes import render_text

        return render_text(self)


def _literal(acc: int) -> str:
    """Write an int32 in C, where -2147483648 is no literal."""
    return str(acc) if acc > -(2**31) else "(-2147483647 - 1)"


def probes(
    schemes: Any = None,
    multiplier: Any = None,
    *,
    scales: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
    zero_point: int = 0,
    dtype: npt.DTypeLike = "int8",
    qmin: int | None = None,
    qmax: int | None = None,
    acc_range: tuple[int, int] | None = None,
) -> Probes:
    """Return the fewest accumulators that tell schemes apart for one multiplier and zero point.

    The accumulators ``x1 ... xn`` are such that any two schemes which differ anywhere in the domain differ at one of
    them; no fewer do. Of accumulators that serve alike the smallest in magnitude is taken.

    Parameters
    ----------
    schemes : str or iterable of str, optional
        Names; default: all.
    multiplier : QuantizedMultiplier or float
        One multiplier for all schemes, or
    scales : (input_scale, weight_scale, output_scale)
        stored float32 scales, from which each scheme takes its multiplier by its own recipe.
    zero_point : int
        Output zero point, added; within the closed range of `dtype`.
    dtype : {int8, uint8, int16}
        Output type to which results are clamped.
    qmin, qmax : int, optional
        Narrower closed clamp.
    acc_range : (int, int), optional
        Closed range of accumulators, for instance those that a layer attains; all of int32 by default.

    Returns
    -------
    Probes
        ``.accumulators``, ``.outputs``, ``.classes``, ``.inseparable``; ``.save(path)`` writes .npy, .csv, .h.

    Raises
    ------
    DomainError, DTypeError, UnknownNameError
        As `qengine.requantize`; if no scheme admits the multiplier, or no accumulator is in all domains.

    Examples
    --------
    >>> import qengine as qe
    >>> quarter = qe.QuantizedMultiplier(1 << 30, -1)
    >>> p = qe.probes(["single", "double", "double-up", "half-away"], quarter)      # ties at 2 and -2; 1 goes up twice
    >>> p.accumulators.tolist(), p.classes
    ([1, -2], (('single',), ('double',), ('double-up',), ('half-away',)))
    >>> p.outputs.T.tolist()
    [[0, 1, 1, 0], [0, -1, 0, -1]]
    """
    names = (
        [row.name for row in all_schemes()] if schemes is None else [schemes] if isinstance(schemes, str) else schemes
    )
    rows = list(dict.fromkeys(map(get_scheme, names)))
    if not rows:
        raise DomainError("probes needs at least one scheme; got none.")
    if (multiplier is None) == (scales is None):
        raise DomainError("probes takes a multiplier or scales=(input, weight, output), one of the two.")
    if dtype is None:
        raise DTypeError("dtype must be int8, uint8 or int16: probes tell clamped codes apart; got None.")
    clamped_type(dtype)
    many = multiplier.shape if isinstance(multiplier, QuantizedMultiplier) else np.shape(multiplier)
    if scales is not None:
        many = max((np.shape(scale) for scale in scales), key=len)
    if many != () or np.shape(zero_point) != ():
        raise DomainError("probes takes one multiplier and one zero point; call it once for each channel.")
    taken: dict[str, Side] = {}
    refused: dict[str, str] = {}
    for row in rows:
        options: dict[str, Any] = {"zero_point": zero_point, "dtype": dtype, "qmin": qmin, "qmax": qmax}
        one = side(row, multiplier, scales=scales, outside="empty", **options)
        if one.low[0] > one.high[0]:
            try:
                side(row, multiplier, scales=scales, **options)
                refused[row.name] = "no accumulator is in its domain."
            except DomainError as error:
                refused[row.name] = str(error)
        else:
            taken[row.name] = one
    if not taken:
        raise DomainError(f"no scheme admits these parameters: {next(iter(refused.values()))}")
    return probes_of(taken, refused, acc_range)


def probes_of(
    sides: dict[str, Side], refused: dict[str, str] | None = None, acc_range: tuple[int, int] | None = None
) -> Probes:  # fmt: skip
    """Return the probes of sides of one channel, under the names given."""
    names, rows = tuple(sides), list(sides.values())
    lo, hi = (int(bound[0]) for bound in as_range(acc_range, 1))
    pieces = atoms(rows, 0, lo, hi)
    if not pieces.starts.size:
        raise DomainError(
            f"no accumulator in the range is in the domains of all of {', '.join(names)}; leave some out."
        )
    groups, member = _classes(pieces.values)
    chosen = _smallest(pieces.starts, pieces.ends, pieces.values[member])
    first = rows[0]
    return Probes(
        names, chosen, np.concatenate([one.evaluate(chosen[None]) for one in rows]),
        tuple(tuple(names[k] for k in group) for group in groups),
        (int(pieces.starts[0]), int(pieces.ends[-1])), refused or {}, int(first.epilogue.zero_point[0]),
        first.dtype.name, {name: one.text(0) for name, one in sides.items()},
    )  # fmt: skip


def _classes(values: I64) -> tuple[list[list[int]], list[int]]:
    """Group the rows that are equal, in order; return the groups and one row of each."""
    groups: dict[bytes, list[int]] = {}
    for k, row in enumerate(values):
        groups.setdefault(np.ascontiguousarray(row).tobytes(), []).append(k)
    return list(groups.values()), [group[0] for group in groups.values()]


def _nearest(starts: I64, ends: I64) -> I64:
    """Return the accumulator of least magnitude in each closed piece."""
    return np.where(starts > 0, starts, np.where(ends < 0, ends, 0))


def _smallest(starts: I64, ends: I64, values: I64) -> I64:
    """Return the fewest accumulators whose pieces split every pair of rows (all rows differ somewhere)."""
    count = values.shape[0]
    if count < 2:
        return np.zeros(0, np.int64)
    i, j = np.triu_indices(count, 1)
    found: dict[int, int] = {}  # the pairs that a piece splits, as the bits of an integer -> accumulator
    for start in range(0, starts.size, _PIECES):
        cut = slice(start, start + _PIECES)
        split = np.packbits(values[i, cut] != values[j, cut], axis=0, bitorder="little").T
        at = _nearest(starts[cut], ends[cut])
        order = np.lexsort((at < 0, np.abs(at)))
        patterns, first = np.unique(split[order], axis=0, return_index=True)
        for pattern, acc in zip(patterns, at[order][first], strict=True):
            bits = int.from_bytes(pattern.tobytes(), "little")
            if bits and (bits not in found or _before(int(acc), found[bits])):
                found[bits] = int(acc)
    chosen = _cover(found, (1 << i.size) - 1)
    return np.array(sorted((found[bits] for bits in chosen), key=_magnitude), dtype=np.int64)


def _magnitude(acc: int) -> tuple[int, bool]:
    return abs(acc), acc < 0


def _before(a: int, b: int) -> bool:
    return _magnitude(a) < _magnitude(b)


def _cover(found: dict[int, int], universe: int) -> list[int]:
    """Return the fewest patterns whose union is the universe.

    Iterative deepening: some pattern must split the pair that fewest patterns split, so the search branches on these
    alone; it ends as soon as the pairs that are left exceed what the patterns that are left can split.
    """
    ordered = sorted(found, key=lambda bits: _magnitude(found[bits]))
    kept = [a for a in ordered if not any(a | b == b for b in ordered if b != a)]  # not inside another
    by_pair: list[list[int]] = [[] for _ in range(universe.bit_length())]
    for bits in kept:
        for pair in _bits(bits):
            by_pair[pair].append(bits)
    rarest = sorted(range(len(by_pair)), key=lambda pair: len(by_pair[pair]))

    def search(left: int, depth: int) -> list[int] | None:
        if not left:
            return []
        if not depth or left.bit_count() > depth * max((bits & left).bit_count() for bits in kept):
            return None
        pair = next(pair for pair in rarest if left >> pair & 1)
        for bits in by_pair[pair]:
            rest = search(left & ~bits, depth - 1)
            if rest is not None:
                return [bits, *rest]
        return None

    depth = 1
    while (answer := search(universe, depth)) is None:
        depth += 1
    # As few, but smaller: a pattern inside another may do for what the others leave.
    for k in range(depth - 1, -1, -1):
        others = functools.reduce(operator.or_, answer[:k] + answer[k + 1 :], 0)
        answer[k] = next(bits for bits in ordered if not universe & ~others & ~bits)
    return answer


def _bits(value: int) -> Sequence[int]:
    return [k for k in range(value.bit_length()) if value >> k & 1]
