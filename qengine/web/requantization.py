"""One accumulator under every scheme; and how many accumulators two schemes disagree on."""

from __future__ import annotations

from typing import Any

from ..exact.divergence import compare_schemes
from ..exceptions import DomainError
from ..report.divergence import parts as divergence_parts
from ..report.explain import parts as explain_parts
from ..report.steps import Steps
from ..report.terminal import share
from ..requant.explain import check_some_output, explain
from ..requant.multiplier import QuantizedMultiplier
from ..requant.schemes import SCHEMES
from . import figures
from .answers import Answer, Section, Tile, parted
from .errors import refused_field
from .form import Form, looks
from .work import Token

MULTIPLIER, OUTPUT, PAIR = "Multiplier", "Accumulator and output", "Two schemes"
RAW = "raw"
SOURCES = (
    ("scales", "three stored scales"), ("fixed", "multiplier and shift"), ("real", "a real multiplier"),
)  # fmt: skip
DTYPES = (("int8", "int8"), ("uint8", "uint8"), ("int16", "int16"), (RAW, "raw: the int32 result, no clamp"))
NAMES = tuple((row.name, f"{row.name}: {row.rounding}") for row in SCHEMES.values())
#: Divergent accumulators that are listed.
LISTED = 8


class Multiplied(Form):
    """Where a multiplier comes from."""

    source: str = looks(
        "scales", "Given as", "What a model file stores, or what a kernel gets.", MULTIPLIER, "select",
        options=SOURCES,
    )  # fmt: skip
    input_scale: float | None = looks(
        None, "Input scale", "Scale of the layer's input.", MULTIPLIER, when={"source": ["scales"]},
    )  # fmt: skip
    weight_scale: float | None = looks(
        None, "Weight scale", "Scale of the weights, of one channel.", MULTIPLIER, when={"source": ["scales"]},
    )  # fmt: skip
    output_scale: float | None = looks(
        None, "Output scale", "Scale of the layer's output. The multiplier is input * weight / output.", MULTIPLIER,
        when={"source": ["scales"]},
    )  # fmt: skip
    multiplier: int | None = looks(
        None, "Multiplier", "Mantissa in Q0.31, as kernels store it.", MULTIPLIER, when={"source": ["fixed"]},
        ge=-(2**31), le=2**31 - 1,
    )  # fmt: skip
    shift: int = looks(
        0, "Shift", "TFLite's sign: positive is left. Real multiplier = multiplier * 2^(shift - 31).", MULTIPLIER,
        unit="bits", when={"source": ["fixed"]}, ge=-64, le=64,
    )  # fmt: skip
    real: float | None = looks(
        None, "Real multiplier", "Each scheme makes its own fixed point of it.", MULTIPLIER, when={"source": ["real"]},
    )  # fmt: skip

    def given(self) -> tuple[QuantizedMultiplier | float | None, tuple[float, float, float] | None]:
        """Return (multiplier, scales), one of them None."""
        needed = {"scales": ("input_scale", "weight_scale", "output_scale"), "fixed": ("multiplier",)}
        for field in needed.get(self.source, ("real",)):
            if getattr(self, field) is None:
                raise refused_field(field, "A number is needed here.")
        if self.source == "scales":
            assert self.input_scale is not None
            assert self.weight_scale is not None
            assert self.output_scale is not None
            return None, (self.input_scale, self.weight_scale, self.output_scale)
        if self.source == "fixed":
            assert self.multiplier is not None
            return QuantizedMultiplier(self.multiplier, self.shift), None
        return self.real, None


class Requantization(Multiplied):
    """An accumulator, its multiplier and its output."""

    acc: int = looks(
        585, "Accumulator", "The int32 sum of products, bias added.", OUTPUT, ge=-(2**31), le=2**31 - 1,
    )  # fmt: skip
    zero_point: int = looks(
        0, "Zero point", "Of the output. It is added after the rounding, by nearly every scheme.", OUTPUT,
        ge=-(2**31), le=2**31 - 1,
    )  # fmt: skip
    dtype: str = looks("int8", "Output type", "What the output is clamped to.", OUTPUT, "select", options=DTYPES)
    first: str = looks(
        "single", "First scheme", "Its outputs are held against those of the second.", PAIR, "select", options=NAMES,
    )  # fmt: skip
    second: str = looks(
        "fp32", "Second scheme", "All accumulators on which the two differ are counted, and drawn near this one.", PAIR,
        "select", options=NAMES,
    )  # fmt: skip

    @property
    def clamp(self) -> str | None:
        """The output type, None for a raw result."""
        return None if self.dtype == RAW else self.dtype

    def compared(self, *schemes: str, token: Token, acc_range: tuple[int, int] | None = None) -> Any:
        """Compare schemes exactly with this multiplier."""
        multiplier, scales = self.given()
        return compare_schemes(
            *schemes, multiplier=multiplier, scales=scales, zero_point=self.zero_point, dtype=self.clamp,
            acc_range=acc_range, progress=token.progress,
        )  # fmt: skip

    def pair(self) -> tuple[str, str]:
        """Return the two schemes that are counted."""
        if self.first == self.second:
            raise refused_field("second", "Choose another scheme than the first.")
        return self.first, self.second


def explained(form: Requantization, token: Token) -> Answer:
    """Return every scheme's steps, who gives what, and the staircase around the accumulator."""
    multiplier, scales = form.given()
    first, second = form.pair()
    found = explain(form.acc, multiplier, scales=scales, zero_point=form.zero_point, dtype=form.clamp)
    check_some_output(found)
    text, tables = parted(explain_parts(found))
    outputs, steps = [t for t in tables if t.title], [t for t in tables if not t.title]
    token.check()
    tiles = [
        Tile(
            id=f"output{k}", name="Output" if k else "Most schemes", value=str(output), unit=f"{len(names)} schemes",
            meaning=", ".join(names),
        )
        for k, (output, names) in enumerate(found.by_output().items())
    ]  # fmt: skip
    sections = [
        Section(id="outputs", title="Who gives what", tables=outputs),
        Section(id="steps", title="Every scheme, step by step", text=text[1:], tables=steps),
    ]
    for table in (*outputs, *steps):
        table.title = ""
    near = _staircase(form, first, second, token)
    if near is not None:
        sections.insert(1, near)
    return Answer(summary=text[0], tiles=tiles, sections=sections, data=found.to_dict())


def _staircase(form: Requantization, first: str, second: str, token: Token) -> Section | None:
    """Return the graph around the accumulator; None where no two schemes admit the multiplier."""
    try:
        comparison = form.compared(*SCHEMES, token=token, acc_range=(form.acc, form.acc))
    except DomainError:
        return None
    steps = Steps.around(comparison, form.acc, first, second)
    if not steps.lines:
        return None
    low, high = int(steps.accumulators[0]), int(steps.accumulators[-1])
    n = steps.differing.size
    text = (
        f"{first} and {second} differ on {n:,} of the {steps.accumulators.size:,} accumulators from {low:,} to {high:,}"
    )
    text += f": {', '.join(map(str, steps.nearest(LISTED)))}{' ...' if n > LISTED else ''}." if n else "."
    return Section(id="staircase", title="Around this accumulator", text=[text], figures=[figures.of_steps(steps)])


def largest_tile(difference: int) -> Tile:
    """Return the tile of the largest difference of two outputs."""
    return Tile(
        id="largest", name="Largest difference", value=str(difference), unit="code" if difference == 1 else "codes",
        meaning="How far the two outputs are apart at most.",
    )  # fmt: skip


def counted(form: Requantization, token: Token) -> Answer:
    """Return the exact number of accumulators on which the two schemes differ, of all 2^32; and of every two."""
    first, second = form.pair()
    result = form.compared(first, second, token=token)
    couple = result.couple(first, second)
    text, tables = parted(divergence_parts(result, 0))
    token.check()
    near = couple.inputs().next(form.acc) if couple.divergent and couple.engine != "scan" else None
    lines = [] if near is None else [f"From {form.acc:,} upward the next differing accumulator is {near:,}."]
    tiles = [
        Tile(id="divergent", name="Differing accumulators", value=f"{couple.divergent:,}",
             unit=f"of {couple.compared:,}", meaning=f"Counted exactly ({couple.engine} engine); none is sampled."),
        Tile(id="rate", name="Share", value=share(couple.rate) if couple.compared else "none",
             meaning="Of all accumulators on which both schemes are defined."),
        largest_tile(couple.max_abs_diff),
    ]  # fmt: skip
    sections = [
        Section(id="counts", title=f"{first} against {second}: all accumulators", text=[*text, *lines], tables=tables)
    ]
    data: dict[str, Any] = {"pair": result.to_dict()}
    if form.clamp is not None:
        every = form.compared(*SCHEMES, token=token)
        more, matrix = parted(divergence_parts(every, 0))
        for table in matrix:
            table.title = ""
        sections.append(Section(id="matrix", title="Every two schemes", text=more[3:], tables=matrix, folded=True))
        data["matrix"] = {"schemes": list(every.schemes), "divergent": every.matrix()}
    summary = f"{first} and {second} differ on {couple.divergent:,} of {couple.compared:,} accumulators."
    return Answer(summary=summary, tiles=tiles, sections=sections, data=data)


def both(form: Requantization, token: Token) -> Answer:
    """Return the explanation and the count in one answer."""
    one, other = explained(form, token), counted(form, token)
    data = {"explanation": one.data, "count": other.data}
    tiles, sections = [*one.tiles, *other.tiles], [*one.sections, *other.sections]
    return Answer(summary=one.summary, tiles=tiles, sections=sections, data=data)


EXAMPLE: dict[str, Any] = {
    "source": "scales", "input_scale": "0.05296124517917633", "weight_scale": "0.024093778803944588",
    "output_scale": "0.11484327912330627", "acc": "585", "zero_point": "-126", "dtype": "int8", "first": "single",
    "second": "fp32",
}  # fmt: skip
