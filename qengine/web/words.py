"""What numbers mean, in plain words: one row a tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..affine.error_report import ErrorRow
from ..report.errors import percent
from ..report.formulas import spread
from .answers import Tile


def _six(value: float) -> str:
    return f"{value:.6g}"


def _scale(row: ErrorRow) -> str:
    return "" if row.params is None else spread(row.params.scale, 8)


def _zero_point(row: ErrorRow) -> str:
    return "" if row.params is None else spread(row.params.zero_point, 12)


def _codes(row: ErrorRow) -> str:
    return "" if row.params is None else f"{row.params.qmin} … {row.params.qmax}"


@dataclass(frozen=True, slots=True)
class Word:
    """A number of a result, and what it says."""

    id: str
    name: str
    unit: str
    value: Callable[[ErrorRow], str]
    meaning: str


WORDS = (
    Word("scale", "Scale", "units of x a step", _scale, "The distance between two neighbouring codes."),
    Word("zero_point", "Zero point", "a code", _zero_point, "The code that stands for the real number 0."),
    Word("codes", "Codes qmin … qmax", "", _codes, "The integers that a sample can become."),
    Word("sqnr", "SQNR", "dB", lambda r: f"{r.sqnr:.2f}",
         "Signal over noise. More is better; each bit is worth about 6 dB."),
    Word("mse", "MSE", "units of x, squared", lambda r: _six(r.mse),
         "The mean of the squared error. Large errors weigh most."),
    Word("rmse", "RMSE", "units of x", lambda r: _six(r.rmse), "The root of the MSE: the size of a usual error."),
    Word("mae", "MAE", "units of x", lambda r: _six(r.mae), "The mean of the error's magnitude."),
    Word("max_abs", "Max error", "units of x", lambda r: _six(r.max_abs),
         "The worst sample. Without clipping it is half a step at most where ties go to the nearest code."),
    Word("clip_rate", "Clip rate", "of samples", lambda r: percent(r.clip_rate),
         "Samples beyond the range, held at its end. Clipping often costs more accuracy than rounding."),
    Word("bias", "Bias", "units of x", lambda r: _six(r.bias), "The mean error: above 0 the codes lie too low."),
    Word("codes_used", "Codes used", "of all codes",
         lambda r: f"{r.codes_used:,} / {0 if r.code_counts is None else r.code_counts.size:,}",
         "Codes that occur. Few of them: the range is wider than the samples need."),
    Word("entropy", "Entropy", "bits a sample", lambda r: f"{r.entropy:.3f}",
         "What an ideal coder would need to store a code."),
)  # fmt: skip


def tiles(row: ErrorRow) -> list[Tile]:
    """Return the numbers of a row in large letters."""
    return [
        Tile(id=word.id, name=word.name, value=value, unit=word.unit, meaning=word.meaning)
        for word in WORDS
        if (value := word.value(row))
    ]
