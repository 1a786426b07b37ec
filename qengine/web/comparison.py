"""Many choices side by side on the same samples."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..affine.combinations import LeftOut, counted_bytes, report_possible
from ..affine.conventions import CONVENTIONS
from ..affine.error_report import ErrorReport, ErrorRow
from ..affine.formats import FORMATS
from ..affine.metrics import HIGHER_IS_BETTER
from ..affine.rounding import ROUNDINGS
from ..affine.spec import QuantSpec
from ..exceptions import DomainError
from ..models.source import TensorSource
from ..report.errors import COLUMNS, TITLES, best_table, rows_table
from ..report.tensors import Measured, left_out_table
from . import figures
from .answers import Answer, Section, Tile, table_of
from .calculator import CUSTOM, MAPPINGS, RANGES, SHARED, WORKED, Samples, ends, scales_of
from .errors import RequestRefusedError, refused_field
from .form import looks, same
from .limits import Limits
from .samples import check_scales, check_work
from .work import Token

CHOICES, FORMS = "What to compare", "Formats and order"
WIDTHS = tuple((str(bits), f"{bits}") for bits in range(2, 17))
#: Choices that are measured between two looks whether anybody still waits; rows of the table.
BATCH, LISTED = 16, 100
#: Bytes of counted codes and errors.
MOST_BYTES = 1 << 28
#: Column of the table -> the metric in it.
METRIC_OF = {TITLES[name]: name for name in HIGHER_IS_BETTER}


class Comparison(Samples):
    """Lists of settings; every combination is measured."""

    bits: list[str] = looks(
        ["4", "6", "8"], "Bit depths", "Widths of a code.", CHOICES, "checks", options=WIDTHS, wide=True,
    )  # fmt: skip
    mapping: list[str] = looks(
        ["symmetric-signed", "asymmetric-signed"], "Integer mappings", "Which integers, and where 0 lies.", CHOICES,
        "checks", options=MAPPINGS,
    )  # fmt: skip
    range: list[str] = looks(
        ["minmax"], "Ranges", "How the range is found; custom takes the two ends beside.", CHOICES, "checks",
        options=RANGES,
    )  # fmt: skip
    low: float | None = looks(None, "Range minimum", "Of the custom range.", CHOICES, when={"range": [CUSTOM]})
    high: float | None = looks(None, "Range maximum", "Of the custom range.", CHOICES, when={"range": [CUSTOM]})
    percentile: float = looks(
        99.99, "Percentile", "Share of samples inside.", CHOICES, unit="%", when={"range": ["percentile"]},
    )  # fmt: skip
    rounding: list[str] = looks(
        [], "Rounding rules", "None ticked: the convention's own.", FORMS, "checks", options=same(ROUNDINGS),
    )  # fmt: skip
    convention: list[str] = looks(
        [], "Conventions", "None ticked: calculator.", FORMS, "checks", options=same(CONVENTIONS),
    )  # fmt: skip
    format: list[str] = looks(
        [], "Number formats", "Beside the integers: floating point and block formats.", FORMS, "checks",
        options=same(FORMATS), wide=True,
    )  # fmt: skip
    granularity: list[str] = looks(
        ["tensor"], "Granularity", "What shares a scale.", CHOICES, "checks", options=SHARED,
    )  # fmt: skip
    axis: int | None = looks(
        None, "Axis", "Of channels (default 0) and groups (default: the last).", CHOICES, ge=-64, le=63,
        when={"granularity": ["channel", "group"]},
    )  # fmt: skip
    group: int = looks(
        32, "Group size", "Samples that share a scale.", CHOICES, when={"granularity": ["group"]}, ge=1, le=2**31,
    )  # fmt: skip
    rank: str = looks(
        "sqnr", "Order by", "The metric that the table is sorted by.", FORMS, "select",
        options=tuple((name, TITLES[name]) for name in HIGHER_IS_BETTER),
    )  # fmt: skip

    def specs(self, limits: Limits) -> list[QuantSpec]:
        """Return every combination, integers first."""
        ways: list[dict[str, Any]] = [
            {"range": ends(self.low, self.high)} if name == CUSTOM else {"method": name} for name in self.range
        ]
        scales = [scales_of(name, self.axis, self.group) for name in self.granularity]
        roundings: Sequence[str | None] = self.rounding or [None]
        rows = self.convention or ["calculator"]
        count = len(self.bits) * len(self.mapping) * len(ways) * len(scales) * len(roundings) * len(rows)
        count += len(self.format) * len(scales) * len(roundings)
        if count > limits.choices:
            raise RequestRefusedError(
                f"These are {count:,} combinations; at most {limits.choices:,} are compared at once. Tick fewer.",
                status=413,
            )
        specs = []
        for bits, mapping, way, scale, row, rounding in itertools.product(
            self.bits, self.mapping, ways, scales, rows, roundings
        ):
            mode, sign = mapping.split("-")
            specs.append(
                QuantSpec(
                    bits=int(bits), mode=mode, signed=sign == "signed", convention=row, rounding=rounding,
                    percentile=self.percentile, **way, **scale,
                )
            )  # fmt: skip
        specs += [
            QuantSpec(format=name, rounding=rounding, **scale)
            for name, scale, rounding in itertools.product(self.format, scales, roundings)
        ]
        for field, chosen in (("bits", self.bits), ("mapping", self.mapping), ("range", self.range), ("granularity", self.granularity)):  # fmt: skip # noqa: E501
            if not chosen and not (self.format and field != "granularity"):
                raise refused_field(field, "Tick at least one.")
        if not specs:
            raise refused_field("bits", "Tick at least one bit depth or number format.")
        return list(dict.fromkeys(specs))


def best_columns(rows: Sequence[ErrorRow], report: ErrorReport, lead: int) -> list[list[int]]:
    """Return, for each row, the columns of the table in which no other choice is better; `lead` columns come first."""
    places = {lead + COLUMNS.index(title): name for title, name in METRIC_OF.items() if title in COLUMNS}
    marked: list[list[int]] = [[] for _ in rows]
    for column, name in places.items():
        size = abs if name == "bias" else float
        best = size(getattr(report.best(name), name))
        for row, columns in zip(rows, marked, strict=True):
            if size(getattr(row, name)) == best:
                columns.append(column)
    return marked


@dataclass(frozen=True, slots=True)
class Compared:
    """A tensor under many choices, ranked."""

    measured: Measured
    rank: str
    nonfinite: str

    @classmethod
    def of(cls, form: Comparison, source: TensorSource, limits: Limits, token: Token) -> Compared:
        """Measure a few choices at a time, so that the work can be ended between them."""
        specs = form.specs(limits)
        check_work(source.size, len(specs), limits)
        for name in form.granularity:
            check_scales(source.shape, name, form.axis, form.group, form.range, limits)
        if counted_bytes(specs) > MOST_BYTES:
            raise RequestRefusedError(
                f"The histograms of {len(specs)} choices this wide do not fit; tick fewer of 14 to 16 bits.", status=413
            )
        x = source.read()
        report: ErrorReport | None = None
        left_out: list[LeftOut] = []
        problem: DomainError | None = None
        for start in range(0, len(specs), BATCH):
            batch = specs[start : start + BATCH]
            token.check()
            try:
                part, refused = report_possible(x, batch, nonfinite=form.nonfinite, progress=token.progress)
            except DomainError as error:  # none of these is possible
                problem = error
                left_out += [LeftOut(spec, str(error)) for spec in batch]
                continue
            left_out += refused
            report = part if report is None else dataclasses.replace(report, rows=report.rows + part.rows)
        if report is None:
            assert problem is not None
            raise problem
        ranked = dataclasses.replace(report, rows=report.ranked(form.rank))
        return cls(Measured(source, ranked, tuple(left_out)), form.rank, form.nonfinite)

    def answer(self, token: Token) -> Answer:
        """Return what the page shows."""
        item, report = self.measured, self.measured.report
        rows = report.rows[:LISTED]
        title = f"By {TITLES[self.rank]}, best first"
        if len(rows) < len(report.rows):
            title += f": {len(rows)} of {len(report.rows)}; the CSV has all"
        table = table_of(rows_table(rows, title, ranks=True), best_columns(rows, report, 2))
        table.caption = "★ best of all choices under this metric"
        sections = [
            Section(id="ranking", title="All choices", tables=[table]),
            Section(id="graphs", title="Graphs", figures=figures.of_choices(report.rows, report, self.rank)),
            Section(id="best", title="Best choices", tables=[table_of(best_table(report))]),
        ]
        if item.left_out:
            sections.append(Section(
                id="left-out", title="Left out", tables=[table_of(left_out_table(item.left_out))],
            ))  # fmt: skip
        best = report.rows[0]
        tiles = [
            Tile(id="choices", name="Choices", value=f"{len(report.rows):,}", meaning="Combinations measured."),
            Tile(id="best", name="Best", value=best.label, meaning=f"The first by {TITLES[self.rank]}."),
            Tile(id="sqnr", name="Its SQNR", value=f"{best.sqnr:.2f}", unit="dB", meaning="Signal over noise."),
            Tile(id="rmse", name="Its RMSE", value=f"{best.rmse:.6g}", unit="units of x", meaning="A usual error."),
        ]  # fmt: skip
        data = item.to_dict() | {"rank": self.rank, "left_out": [left.to_dict() for left in item.left_out]}
        return Answer(summary=f"{item.header()}.", tiles=tiles, sections=sections, data=data)

    def csv(self) -> bytes:
        """Return the file that ``qengine compare --csv`` writes."""
        from ..report.csv_table import to_csv

        return to_csv([self.measured]).encode()

    def pdf(self, token: Token) -> bytes:
        """Return the file that ``qengine compare --pdf`` writes."""
        from ..report.pdf import comparison_pdf

        return comparison_pdf(
            self.measured.source.name, [self.measured], self.rank, LISTED, [], "", self.nonfinite, token.progress
        )

    def picture(self, token: Token) -> bytes:
        """Return the graphs as a PNG, for a page without script."""
        from ..report.charts import comparison_picture

        return comparison_picture(self.measured, self.rank, "png")


EXAMPLE: dict[str, Any] = {
    "name": "activations", "values": WORKED, "bits": ["3", "4", "6", "8"],
    "mapping": ["symmetric-signed", "asymmetric-signed"], "range": [CUSTOM, "minmax", "mse"], "low": "-1.5",
    "high": "1.5", "granularity": ["tensor"], "format": ["e4m3fn", "e5m2"], "rank": "sqnr",
}  # fmt: skip
