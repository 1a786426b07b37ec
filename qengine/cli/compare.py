"""``qengine compare``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .options import Count, Integer
from .progress import progress_bar
from .tensors import Outputs, RangeCommand, Selection, input_options, progress_from, run_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..affine.spec import QuantSpec
    from ..models.source import TensorSource
    from ..report.tensors import Measured

#: Choices of one call at most; and bytes of counted codes and errors, over all tensors.
MOST = 5000
MOST_BYTES = 2 << 30
#: The fields of a choice that say what shares a scale.
Scales = dict[str, Any]
GRANULARITIES = ("tensor", "channel", "group")
MODES = ("symmetric", "asymmetric")
CODES = ("signed", "unsigned")


def words(text: str, what: str, known: Iterable[str], canonical: Callable[[str], str]) -> list[str]:
    """Return the names of a list such as ``half-even,floor`` or ``all``, each once."""
    found: list[str] = []
    for word in text.split(","):
        word = word.strip()
        if not word:
            raise click.UsageError(f"--{what}: a name is required between commas; got {text!r}.")
        found += list(known) if word == "all" else [canonical(word)]
    return list(dict.fromkeys(found))


def one_of(kind: str, known: Iterable[str]) -> Callable[[str], str]:
    """Return a function that gives a known name back and refuses others."""
    from ..exceptions import UnknownNameError

    names = tuple(known)

    def check(word: str) -> str:
        if word not in names:
            raise UnknownNameError.of(kind, word, (*names, "all"))
        return word

    return check


def whole_numbers(text: str, what: str, least: int, most: int) -> list[int]:
    """Return the numbers of a list such as ``2:4,8``; both ends of a span belong to it."""
    found: list[int] = []
    for word in text.split(","):
        ends = word.split(":")
        try:
            low, high = int(ends[0]), int(ends[-1])
        except ValueError:
            raise click.UsageError(f"--{what}: write 8, 2:8 or 4,8; got {text!r}.") from None
        if len(ends) > 2 or low > high:
            raise click.UsageError(f"--{what}: a span is LOW:HIGH, both ends included; got {word!r}.")
        if low < least or high > most:
            raise click.UsageError(f"--{what}: numbers must be in [{least}, {most}]; got {word!r}.")
        found += range(low, high + 1)
    return list(dict.fromkeys(found))


def ranges_and_methods(ranges: tuple[str, ...], method: str | None) -> tuple[list[tuple[float, float]], list[str]]:
    """Return the given ranges, and the methods that ``--method`` and ``--range NAME`` name."""
    from ..affine.calibrate import METHODS

    given: list[tuple[float, float]] = []
    names: list[str] = [] if method is None else words(method, "method", METHODS, one_of("method", METHODS))
    for text in ranges:
        ends = text.split(",")
        try:
            low, high = map(float, ends)
        except ValueError:
            names += words(text, "range", METHODS, one_of("method", METHODS))
        else:
            given.append((low, high))
    if not given and not names:
        names = ["minmax"]
    return given, list(dict.fromkeys(names))


def scale_groups(granularity: str | None, axis: int | None, group: str | None) -> list[Scales]:
    """Return what (axis, group) the scales run along, one entry a granularity and group size."""
    sizes = [] if group is None else whole_numbers(group, "group", 1, 1 << 62)
    if granularity is None:
        wanted = ["group"] if sizes else ["channel"] if axis is not None else ["tensor"]
    else:
        wanted = words(granularity, "granularity", GRANULARITIES, one_of("granularity", GRANULARITIES))
    if sizes and "group" not in wanted:
        raise click.UsageError("--group is for --granularity group; add it there.")
    if axis is not None and wanted == ["tensor"]:
        raise click.UsageError("--axis is for channels and groups; add them to --granularity.")
    entries: list[Scales] = []
    for name in wanted:
        if name == "tensor":
            entries.append({"axis": None, "group": None})
        elif name == "channel":
            entries.append({"axis": axis or 0, "group": None})
        else:
            entries += [{"axis": -1 if axis is None else axis, "group": size} for size in sizes or [128]]
    return entries


def choices(options: Mapping[str, Any]) -> list[QuantSpec]:
    """Return every combination that the options name, integers first."""
    from ..affine.conventions import CONVENTIONS, get_convention
    from ..affine.formats import FORMATS, get_format
    from ..affine.rounding import ROUNDINGS, get_rounding
    from ..affine.spec import QuantSpec

    roundings: list[str | None] = [None]
    if options["rounding"] is not None:
        roundings = [*words(options["rounding"], "rounding", ROUNDINGS, lambda word: get_rounding(word).name)]
    ranges, methods = ranges_and_methods(options["range"], options["method"])
    scales = scale_groups(options["granularity"], options["axis"], options["group"])
    rows = words(options["convention"], "convention", CONVENTIONS, lambda word: get_convention(word).name)
    modes = words(options["mode"], "mode", MODES, one_of("mode", MODES))
    signs = words(options["codes"], "codes", CODES, one_of("codes", CODES))
    form = options["format"]
    bits_text = options["bits"] or ("8" if form is None else None)
    widths = [] if bits_text is None else whole_numbers(bits_text, "bits", 2, 16)
    specs = [
        QuantSpec(
            bits=bits, mode=mode, signed=sign == "signed", narrow=options["narrow"], convention=row, rounding=rounding,
            percentile=options["percentile"], seed=options["seed"], **scale, **way,
        )
        for bits in widths
        for mode in modes
        for sign in signs
        for way in [{"range": ends} for ends in ranges] + [{"method": method} for method in methods]
        for scale in scales
        for row in rows
        for rounding in roundings
    ]  # fmt: skip
    if form is not None:
        names = words(form, "format", FORMATS, lambda word: get_format(word).name)
        specs += _formats(names, scales, ranges, roundings, options)
    if len(specs) > MOST:
        raise click.UsageError(f"{len(specs):,} combinations; at most {MOST:,} are compared at once; name fewer.")
    return specs


def _formats(
    names: list[str], scales: list[Scales], ranges: list[tuple[float, float]],
    roundings: list[str | None], options: Mapping[str, Any],
) -> list[QuantSpec]:  # fmt: skip
    """Return the choices of formats. One with blocks has its own granularity: only sizes of groups change it."""
    from ..affine.formats import SCALE_ROUNDINGS, get_format
    from ..affine.spec import QuantSpec

    rules: list[str | None] = [None]
    if options["scale_rounding"] is not None:
        known = one_of("scale rounding", SCALE_ROUNDINGS)
        rules = [*words(options["scale_rounding"], "scale-rounding", SCALE_ROUNDINGS, known)]
    specs: list[QuantSpec] = []
    for name in names:
        blocks, powers = bool(get_format(name).block), get_format(name).scale == "e8m0"
        ends: list[tuple[float, float] | None] = [None] if blocks or not ranges else [*ranges]
        for scale in scales:
            for end in ends:
                for rounding in roundings:
                    specs += [
                        QuantSpec(
                            format=name, rounding=rounding, scale_rounding=rule if powers else None,
                            overflow=options["overflow"], range=end, **scale,
                        )
                        for rule in rules
                    ]  # fmt: skip
    return list(dict.fromkeys(dataclasses.replace(spec, method="minmax") for spec in specs))


@click.command("compare", cls=RangeCommand)
@input_options
@click.option("--bits", metavar="LIST", help="2:8 or 4,8.  [default: 8; no integers where --format is given alone]")
@click.option("--mode", default="symmetric", show_default=True, metavar="LIST", help="symmetric,asymmetric or all.")
@click.option(
    "--codes", default="signed", show_default=True, metavar="LIST",
    help="signed (from -2^(b-1)), unsigned (from 0) or all.",
)  # fmt: skip
@click.option("--narrow", is_flag=True, help="Leave out the lowest code.")
@click.option("--method", metavar="LIST", help="minmax,percentile,mse,sqnr,entropy or all.  [default: minmax]")
@click.option("--percentile", type=float, default=99.99, show_default=True, help="In (50, 100].")
@click.option("--range", multiple=True, metavar="LO HIGH | LIST", help="A range itself (may repeat); or as --method.")
@click.option("--rounding", metavar="LIST", help="half-even,floor ... or all.  [default: the convention's]")
@click.option("--convention", default="calculator", show_default=True, metavar="LIST", help="onnx,torch ... or all.")
@click.option(
    "--granularity", metavar="LIST",
    help="tensor,channel,group or all.  [default: tensor; channel with --axis; group with --group]",
)  # fmt: skip
@click.option("--axis", type=Integer(), help="Axis of channels and groups.  [default: 0 of channels, -1 of groups]")
@click.option("--group", metavar="LIST", help="Sizes of groups: 32,128.  [default: 128]")
@click.option("--format", metavar="LIST", help="Number formats too: e4m3fn,mxfp4 ... or all.")
@click.option("--scale-rounding", metavar="LIST", help="Of E8M0 block scales: floor,ceil,even,rceil or all.")
@click.option("--overflow", type=str, default="saturate", show_default=True, help="Of formats: saturate, nan, ieee.")
@click.option("--seed", type=Count(), default=0, show_default=True, help="Key of stochastic rounding.")
@click.option("--rank", default="sqnr", show_default=True, help="Metric: sqnr, mse, mae, max_abs, clip_rate ...")
@click.option("--top", type=Count(), default=20, show_default=True, help="Rows of the table; JSON and CSV have all.")
@run_options
def command(
    file: str, only: tuple[str, ...], rank: str, top: int, nonfinite: str, backend: str | None, threads: int | None,
    as_json: bool, csv: str | None, pdf: str | None, plot: str | None, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Measure every combination of choices on the tensors of FILE, and rank them.

    FILE as in analyze. Combinations that cannot be are left out, with the reason.

    \b
    Example:
      qengine compare tests/data/worked_example.csv --bits 4,8 --mode all --method all --format e4m3fn,mxfp4
    """
    outputs = Outputs.of(file, as_json, csv, pdf, plot)
    from ..affine.metrics import HIGHER_IS_BETTER
    from ..exceptions import UnknownNameError

    if rank not in HIGHER_IS_BETTER:
        raise UnknownNameError.of("metric", rank, HIGHER_IS_BETTER)
    if top < 1:
        raise click.UsageError(f"--top must be at least 1; got {top}.")
    specs = choices(options)
    selection = Selection.of(file, only)
    _check_memory(specs, len(selection.sources))
    with progress_bar("compare", "elements", quiet) as progress:

        def measure(source: TensorSource, before: int) -> Measured:
            from ..affine.combinations import report_possible
            from ..report.tensors import Measured, load

            moved = progress_from(progress, before, selection.elements)
            share = None if moved is None else lambda done, total: moved(done * source.size // total, total)
            report, left_out = report_possible(
                load(source), specs, nonfinite=nonfinite, backend=backend, threads=threads, progress=share
            )
            ranked = dataclasses.replace(report, rows=report.ranked(rank))
            return Measured(source, ranked, left_out)

        measured = selection.measured(measure)
    from ..report.csv_table import to_csv

    def data() -> dict[str, Any]:
        tensors = [{**item.to_dict(), "left_out": [left.to_dict() for left in item.left_out]} for item in measured]
        return {"file": file, "rank": rank, "combinations": len(specs), "tensors": tensors, **selection.to_dict()}

    def drawn_pdf() -> bytes:
        from ..report.pdf import comparison_pdf

        skipped = selection.skipped_text()
        return comparison_pdf(file, measured, rank, top, selection.refused, skipped, nonfinite)

    def drawn(kind: str) -> bytes:
        from ..report.charts import comparison_picture

        return comparison_picture(measured[0], rank, kind) if len(measured) == 1 else _many(measured, kind)

    outputs.deliver(data, lambda: to_csv(measured), lambda: _parts(measured, selection, rank, top), drawn_pdf, drawn)


def _check_memory(specs: list[QuantSpec], tensors: int) -> None:
    """Refuse what would count more codes than memory should hold."""
    from ..affine.combinations import counted_bytes

    needed = tensors * counted_bytes(specs)
    if needed > MOST_BYTES:
        raise click.UsageError(
            f"{len(specs):,} combinations of {tensors:,} tensor{'s' * (tensors != 1)} need {needed / 2**30:.1f} GiB "
            f"for their histograms; at most {MOST_BYTES >> 30} are taken. Name fewer choices, or tensors by --tensor."
        )


def _many(measured: list[Measured], kind: str) -> bytes:
    from ..report.charts import tensors_picture
    from ..report.tensors import worst_first

    return tensors_picture(worst_first(measured), kind)


def _parts(measured: list[Measured], selection: Selection, rank: str, top: int) -> Iterator[RenderableType]:
    from rich.text import Text

    from ..report.errors import TITLES, best_table, rows_table
    from ..report.tensors import best_of_tensors, left_out_table, wins_table

    if len(measured) == 1:
        (item,) = measured
        rows = item.report.rows
        yield Text(item.header())
        yield rows_table(rows[:top], f"By {TITLES[rank]}, best first", ranks=True)
        if len(rows) > top:
            yield Text(f"{len(rows) - top:,} more choices are not shown; --top, --json and --csv show them.")
        if len(rows) > 1:
            yield best_table(item.report)
    else:
        yield Text(f"{len(measured)} tensors, each by {TITLES[rank]}; --tensor NAME shows the whole table of one")
        yield best_of_tensors(measured, rank)
        yield wins_table(measured, rank)
    left_out = measured[0].left_out
    if left_out:
        yield left_out_table(left_out)
    yield from selection.parts()
