"""A choice of quantization, as data: what `qengine.error_report` measures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..arguments import chosen, flag, integer, real
from ..exceptions import DomainError, DTypeError, brief
from .conventions import get_convention
from .formats import OVERFLOWS, get_format
from .params import QuantParams
from .rounding import get_rounding


@dataclass(frozen=True, kw_only=True)
class QuantSpec:
    """One choice: integers of some width and range, or a number format.

    Parameters
    ----------
    bits, mode, signed, narrow, method, percentile, axis, group, include_zero
        As in `qengine.choose_qparams`.
    range : (float, float), optional
        Custom real range, instead of one that `method` finds in the data.
    rounding, convention, seed
        As in `qengine.quantize`.
    scale_dtype : str, optional
        Type that the scale is rounded to; by default that of the convention's arithmetic.
    format : str, optional
        A number format instead of integers (`qengine.formats`): then bits, mode, signed, narrow, include_zero and
        the convention mean nothing. Formats with blocks scale each block by itself, along `axis` (default: the
        last), `group` elements each (default: the format's); others are scaled by the largest magnitude of the
        tensor, channel or group, or of `range`.
    scale : float, optional
        With a format without blocks: this scale instead (1: a plain cast).
    scale_rounding, overflow
        As in `qengine.quantize_blocks`.
    params : QuantParams, optional
        Parameters as they are, instead of bits, mode, signed, narrow, method and range.
    name : str, optional
        What tables call it; by default a text made of the other fields.

    Examples
    --------
    >>> import qengine as qe
    >>> print(qe.QuantSpec(bits=4, mode="asymmetric", axis=0))
    int4 asymmetric minmax channel(axis 0)
    >>> [spec.label for spec in qe.QuantSpec.grid(bits=(4, 8), mode=("symmetric", "asymmetric"))]
    ['int4 symmetric minmax', 'int4 asymmetric minmax', 'int8 symmetric minmax', 'int8 asymmetric minmax']
    """

    bits: int = 8
    mode: str = "symmetric"
    signed: bool = True
    narrow: bool = False
    rounding: str | None = None
    convention: str = "calculator"
    method: str = "minmax"
    range: tuple[float, float] | None = None
    percentile: float = 99.99
    axis: int | None = None
    group: int | None = None
    include_zero: bool = False
    scale_dtype: str | None = None
    seed: int = 0
    format: str | None = None
    scale: float | None = None
    scale_rounding: str | None = None
    overflow: str = "saturate"
    params: QuantParams | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        get_convention(self.convention)
        if self.rounding is not None:
            get_rounding(self.rounding)
        for field in ("signed", "narrow", "include_zero"):
            flag(field, getattr(self, field))
        chosen("overflow", self.overflow, OVERFLOWS)
        for field in ("mode", "method", "scale_rounding"):
            value = getattr(self, field)
            if not isinstance(value, str) and (value is not None or field != "scale_rounding"):
                raise DTypeError(f"{field} must be a name; got {brief(value)}.")
        if self.name is not None and not isinstance(self.name, str):
            raise DTypeError(f"name must be text; got {self.name!r}.")
        for field in ("axis", "group"):
            if getattr(self, field) is not None:
                integer(field, getattr(self, field))
        self._check_reals()
        self._check_together()

    def _check_reals(self) -> None:
        ends = self.range
        if ends is not None and (not isinstance(ends, tuple) or len(ends) != 2):
            raise DomainError(f"range must be a tuple (lo, hi); got {ends!r}.")
        given = {"percentile": self.percentile, "scale": self.scale}
        given |= {} if ends is None else {"range[0]": ends[0], "range[1]": ends[1]}
        for field, value in given.items():
            if value is not None or field != "scale":
                real(field, value)

    def _check_together(self) -> None:
        """Refuse fields that would be passed over."""
        if self.range is not None and self.method != "minmax":
            raise DomainError(f"range is the range itself; method {self.method!r} would find one. Give one of them.")
        if self.format is None:
            for field in ("scale", "scale_rounding", "overflow"):
                if getattr(self, field) != type(self).__dataclass_fields__[field].default:
                    raise DomainError(f"{field} is for number formats; this spec has integers (format is None).")
        else:
            get_format(self.format)
            if self.params is not None:
                raise DomainError(f"params are for integers; this spec has the number format {self.format!r}.")
        if self.params is not None and not isinstance(self.params, QuantParams):
            raise DTypeError(f"params must be a QuantParams; got {type(self.params).__name__}.")

    @property
    def label(self) -> str:
        """One line that tells this choice from others."""
        if self.name is not None:
            return self.name
        words: list[str] = []
        if self.params is not None:
            p = self.params
            words.append(f"params [{p.qmin}, {p.qmax}]")
        elif self.format is None:
            words += [f"{'' if self.signed else 'u'}int{self.bits}{' narrow' if self.narrow else ''}", self.mode]
            words.append(self._range_word())
        else:
            row = get_format(self.format)
            words.append(row.name)
            if not row.block:
                words.append(f"scale {self.scale:g}" if self.scale is not None else self._range_word())
            words += [f"scale-{self.scale_rounding}"] * (self.scale_rounding is not None)
            words += [self.overflow] * (self.overflow != "saturate")
        if self.group is not None:
            words.append(f"group {self.group}" + (f"(axis {self.axis})" if self.axis is not None else ""))
        elif self.axis is not None:
            words.append(f"channel(axis {self.axis})")
        words += [get_convention(self.convention).name] * (get_convention(self.convention).name != "calculator")
        words += [get_rounding(self.rounding).name] if self.rounding is not None else []
        return " ".join(words)

    def _range_word(self) -> str:
        if self.range is not None:
            return f"[{self.range[0]:g}, {self.range[1]:g}]"
        return f"percentile {self.percentile:g}" if self.method == "percentile" else self.method

    def __str__(self) -> str:
        return self.label

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, and the label, as plain data for JSON.

        Returns
        -------
        dict
        """
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if self.range is not None:
            given["range"] = list(self.range)
        if self.params is not None:
            given["params"] = self.params.to_dict()
        if self.format is None and self.params is None:
            given |= {"bits": self.bits, "mode": self.mode, "signed": self.signed, "method": self.method}
        return {"label": self.label, **given}

    @classmethod
    def grid(cls, **choices: Any) -> tuple[QuantSpec, ...]:
        """Return every combination of fields given as lists or tuples of values; the last field varies fastest.

        Parameters
        ----------
        **choices : any
            Values by the name of the field. `range` takes a list of ranges; a tuple is one range.
        """
        known = {f.name for f in fields(cls)}
        for name in choices:
            if name not in known:
                raise TypeError(f"QuantSpec has no field {name!r}; it has {', '.join(sorted(known))}.")
        lists = [
            list(value)
            if isinstance(value, list) or (isinstance(value, (tuple, range)) and name != "range")
            else [value]
            for name, value in choices.items()
        ]
        return tuple(cls(**dict(zip(choices, values, strict=True))) for values in itertools.product(*lists))


def as_specs(specs: Any) -> tuple[QuantSpec, ...]:
    """Return a tuple of specs from one or many of `QuantSpec`, `QuantParams`, or mappings of fields."""
    if isinstance(specs, (QuantSpec, QuantParams, Mapping)):
        specs = [specs]
    if not isinstance(specs, Iterable) or getattr(specs, "ndim", 1) == 0:
        raise DTypeError(f"specs must be QuantSpec objects, QuantParams or mappings; got {type(specs).__name__}.")
    found: list[QuantSpec] = []
    for k, spec in enumerate(specs):
        if isinstance(spec, QuantParams):
            spec = QuantSpec(params=spec)
        elif isinstance(spec, Mapping):
            try:
                spec = QuantSpec(**spec)
            except TypeError as error:
                raise DTypeError(f"specs[{k}]: {str(error).rstrip('.')}.") from None
        if not isinstance(spec, QuantSpec):
            raise DTypeError(f"specs[{k}] must be a QuantSpec, QuantParams or a mapping; got {type(spec).__name__}.")
        found.append(spec)
    if not found:
        raise DomainError("specs must name at least one choice; got none.")
    return tuple(found)
