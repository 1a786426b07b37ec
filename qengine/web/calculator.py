"""The calculator: one tensor, one choice; its metrics, graphs, formulas and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from ..affine.calibrate import METHODS
from ..affine.conventions import CONVENTIONS
from ..affine.error_report import error_report
from ..affine.rounding import ROUNDINGS
from ..affine.spec import QuantSpec
from ..models.source import TensorSource
from ..report.errors import channels_table, lines_table
from ..report.figures import SHOWN, TensorGraphs
from ..report.formulas import metric_lines, parameter_lines, setting_lines, variant_lines, worked_lines
from ..report.samples import sample_table
from ..report.tensors import Measured
from . import figures
from .answers import Answer, Section, table_of
from .errors import refused_field
from .form import Form, looks
from .limits import Limits
from .samples import check_scales, pasted
from .words import tiles
from .work import Token

SAMPLES, INTEGERS, RANGE = "Samples", "Integers", "Range and scales"
MAPPINGS = (
    ("symmetric-signed", "symmetric signed"), ("symmetric-unsigned", "symmetric unsigned"),
    ("asymmetric-signed", "asymmetric signed"), ("asymmetric-unsigned", "asymmetric unsigned"),
)  # fmt: skip
CUSTOM = "custom"
WAYS = {
    CUSTOM: "custom: the two ends below", "minmax": "min-max: the ends of the samples",
    "percentile": "percentile: without the largest", "mse": "MSE: least squared error",
    "sqnr": "MSE, clipping weighted", "entropy": "entropy: least divergence",
}  # fmt: skip
RANGES = tuple((name, WAYS.get(name, name)) for name in (CUSTOM, *METHODS))
SHARED = (("tensor", "one scale for the tensor"), ("channel", "one a channel"), ("group", "one a group"))
ROUNDING_OPTIONS = (
    ("", "as the convention says"),
    *((r.name, f"{r.name}: {r.formula[:48]}") for r in ROUNDINGS.values()),
)
NONFINITE = (("raise", "an error that says where"), ("ignore", "left out and counted"))
WORKED = "-1.25, -0.92, -0.51, -0.10, 0, 0.14, 0.37, 0.79, 1.12, 1.46"


class Samples(Form):
    """The samples of a tensor."""

    name: str = looks(
        "tensor", "Tensor name", "What tables, files and the report call it.", SAMPLES, "text",
    )  # fmt: skip
    values: str | Annotated[list[float], Field(fail_fast=True)] = looks(
        "", "Sample values", "Numbers, separated by commas, spaces or lines; # begins a comment.", SAMPLES, "area",
        wide=True,
    )  # fmt: skip
    shape: str | Annotated[list[int], Field(fail_fast=True)] = looks(
        "", "Shape", "4, 8 is 4 rows of 8 samples. Empty: one row.", SAMPLES, "text",
        when={"granularity": ["channel", "group"]},
    )  # fmt: skip
    nonfinite: str = looks(
        "raise", "NaN and infinity", "What to do with samples that are no finite numbers.", SAMPLES, "select",
        options=NONFINITE,
    )  # fmt: skip

    def source(self, limits: Limits) -> TensorSource:
        """Return the tensor that was pasted."""
        return pasted(self.name, self.values, self.shape, limits)


class Calculation(Samples):
    """A choice of quantization, and the samples that it is tried on."""

    bits: int = looks(8, "Bit depth", "Bits of a code, 2 to 16.", INTEGERS, link="scale", ge=2, le=16)
    mapping: str = looks(
        "symmetric-signed", "Integer mapping",
        "Symmetric: 0 is code 0. Asymmetric: a zero point moves the codes to where the samples are.",
        INTEGERS, "select", options=MAPPINGS, link="zero-point",
    )  # fmt: skip
    narrow: bool = looks(
        False, "Narrow range", "Leave out the lowest code: -127 to 127 instead of -128 to 127.", INTEGERS, "check",
    )  # fmt: skip
    rounding: str = looks(
        "", "Rounding rule", "How a scaled sample becomes a whole number.", INTEGERS, "select",
        options=ROUNDING_OPTIONS, link="quantization",
    )  # fmt: skip
    seed: int = looks(
        0, "Seed", "Key of the random draws.", INTEGERS, when={"rounding": ["stochastic"]}, ge=0, le=2**63 - 1,
    )  # fmt: skip
    convention: str = looks(
        "calculator", "Convention", "Whose arithmetic: the textbook's, or a runtime's, step by step.", INTEGERS,
        "select", options=tuple((row.name, f"{row.name}: {row.formula}") for row in CONVENTIONS.values()),
        link="quantization",
    )  # fmt: skip
    range: str = looks(
        "minmax", "Range", "The real numbers that the codes span: given, or found in the samples.", RANGE, "select",
        options=RANGES, link="scale",
    )  # fmt: skip
    low: float | None = looks(
        None, "Range minimum", "Least real number of the range.", RANGE, unit="units of x",
        when={"range": [CUSTOM]},
    )  # fmt: skip
    high: float | None = looks(
        None, "Range maximum", "Greatest real number of the range.", RANGE, unit="units of x",
        when={"range": [CUSTOM]},
    )  # fmt: skip
    percentile: float = looks(
        99.99, "Percentile", "The share of samples that stay inside, above 50.", RANGE, unit="%",
        when={"range": ["percentile"]},
    )  # fmt: skip
    include_zero: bool = looks(
        False, "Range holds 0", "Widen the range until it holds 0, as runtimes with padding need.", RANGE, "check",
    )  # fmt: skip
    granularity: str = looks(
        "tensor", "Granularity", "What shares a scale. Finer is more exact and stores more scales.", RANGE, "select",
        options=SHARED,
    )  # fmt: skip
    axis: int | None = looks(
        None, "Axis", "Which dimension of the shape holds channels (default 0) or groups (default: the last).", RANGE,
        when={"granularity": ["channel", "group"]}, ge=-64, le=63,
    )  # fmt: skip
    group: int = looks(
        32, "Group size", "Samples along the axis that share a scale.", RANGE, unit="samples",
        when={"granularity": ["group"]}, ge=1, le=2**31,
    )  # fmt: skip

    def spec(self) -> QuantSpec:
        """Return the choice."""
        mode, sign = self.mapping.split("-")
        custom = self.range == CUSTOM
        return QuantSpec(
            bits=self.bits, mode=mode, signed=sign == "signed", narrow=self.narrow, rounding=self.rounding or None,
            convention=self.convention, method="minmax" if custom else self.range, seed=self.seed,
            range=ends(self.low, self.high) if custom else None, percentile=self.percentile,
            include_zero=self.include_zero, **scales_of(self.granularity, self.axis, self.group),
        )  # fmt: skip


def ends(low: float | None, high: float | None) -> tuple[float, float]:
    """Return a custom range, both ends of which must be given, in order."""
    for field, end, word in (("low", low, "least"), ("high", high, "greatest")):
        if end is None:
            raise refused_field(field, f"A custom range needs its {word} value.")
    assert low is not None
    assert high is not None
    if low > high:
        raise refused_field("high", f"The range must not end below its beginning, {low:g}; got {high:g}.")
    return low, high


def scales_of(granularity: str, axis: int | None, group: int) -> dict[str, Any]:
    """Return the fields of a spec that say what shares a scale."""
    if granularity == "tensor":
        return {}
    if granularity == "channel":
        return {"axis": 0 if axis is None else axis}
    return {"axis": -1 if axis is None else axis, "group": group}


@dataclass(frozen=True, slots=True)
class Calculated:
    """A tensor under a choice, measured."""

    measured: Measured
    nonfinite: str

    @classmethod
    def of(cls, form: Calculation, source: TensorSource, limits: Limits, token: Token) -> Calculated:
        """Measure."""
        spec = form.spec()
        check_scales(source.shape, form.granularity, form.axis, form.group, (form.range,), limits)
        channels = spec.axis if form.granularity == "channel" else None
        report = error_report(source.read(), spec, axis=channels, nonfinite=form.nonfinite, progress=token.progress)
        return cls(Measured(source, report), form.nonfinite)

    def answer(self, token: Token) -> Answer:
        """Return what the page shows."""
        item = self.measured
        row = item.report.rows[0]
        graphs = TensorGraphs.of(item, row, self.nonfinite, token.progress)
        which = graphs.which if item.source.size > SHOWN else ""
        sections = [
            Section(id="graphs", title="Graphs", figures=figures.of_tensor(graphs)),
            Section(
                id="samples", title="Sample by sample", text=[f"{which[:1].upper()}{which[1:]}."] if which else [],
                tables=[table_of(sample_table(graphs.samples))],
            ),
            Section(
                id="formulas", title="The formulas with these numbers",
                tables=[
                    table_of(lines_table("Settings", setting_lines(row))),
                    table_of(lines_table("Parameters", parameter_lines(row))),
                    table_of(lines_table("The first sample, step by step", worked_lines(row, graphs.samples))),
                    table_of(lines_table("Error metrics", metric_lines(row))),
                    table_of(lines_table("The same error as other tools print it", variant_lines(row))),
                ],
            ),
        ]  # fmt: skip
        if item.report.axis is not None and (worst := channels_table(row, item.report.axis)) is not None:
            sections.insert(1, Section(id="channels", title="Channels", tables=[table_of(worst)]))
        data = item.to_dict() | {"samples": graphs.samples.to_list(), "sqnr_by_bits": graphs.curve}
        return Answer(summary=f"{row.label}. {item.header()}.", tiles=tiles(row), sections=sections, data=data)

    def csv(self) -> bytes:
        """Return the file that ``qengine analyze --csv`` writes."""
        from ..report.csv_table import to_csv

        return to_csv([self.measured]).encode()

    def pdf(self, token: Token) -> bytes:
        """Return the file that ``qengine analyze --pdf`` writes."""
        from ..report.pdf import analysis_pdf

        return analysis_pdf(self.measured.source.name, [self.measured], [], "", self.nonfinite, token.progress)

    def picture(self, token: Token) -> bytes:
        """Return the graphs as a PNG, for a page without script."""
        from ..report.figures import tensor_picture

        return tensor_picture(self.measured, self.nonfinite, "png", token.progress)


EXAMPLE: dict[str, Any] = {
    "name": "activations", "values": WORKED, "bits": "8", "mapping": "symmetric-signed", "range": CUSTOM,
    "low": "-1.5", "high": "1.5",
}  # fmt: skip
