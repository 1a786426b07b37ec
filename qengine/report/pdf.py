"""Reports as PDF: settings, formulas with their numbers, tables and graphs. The same input gives the same bytes."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from .._version import __version__
from ..affine.error_report import ErrorRow
from ..arguments import Progress
from .charts import comparison_figure, tensors_figure
from .errors import TITLES, best_table, channels_table, lines_table, rows_table
from .escape import shown
from .figures import SHOWN, TensorGraphs, tensor_figure
from .files import optional
from .formulas import metric_lines, parameter_lines, setting_lines, variant_lines, worked_lines
from .samples import sample_table
from .style import glyphs, rendered, style
from .tensors import (
    Measured,
    Refused,
    best_of_tensors,
    left_out_table,
    refused_table,
    tensors_table,
    wins_table,
    worst_first,
)
from .terminal import Grid

#: Tensors of a file that are shown in detail, the worst ones.
DETAILED = 6
#: Lines of a ranking.
RANKED = 60
_SIZES = (7.5, 6.8, 6.0, 5.2, 4.6)
_NARROWEST = 60.0
#: Samples that stand above the graphs, on the same page.
ABOVE = 12


@functools.cache
def _fonts() -> tuple[str, str]:
    """Register the figures' font, which has mathematics and most alphabets, and return the names of its two weights."""
    metrics, ttfonts = optional("reportlab.pdfbase.pdfmetrics"), optional("reportlab.pdfbase.ttfonts")
    folder = Path(optional("matplotlib").get_data_path(), "fonts", "ttf")
    names = ("DejaVuSans", "DejaVuSans-Bold")
    for name in names:
        metrics.registerFont(ttfonts.TTFont(name, str(folder / f"{name}.ttf")))
    return names


def _text(text: object) -> str:
    return escape(shown(text, glyphs()))


class Document:
    """The story of a report, piece by piece."""

    def __init__(self, title: str) -> None:
        self._platypus = optional("reportlab.platypus")
        self._styles = optional("reportlab.lib.styles")
        self._units = optional("reportlab.lib.units")
        self._pages = optional("reportlab.lib.pagesizes")
        self._metrics = optional("reportlab.pdfbase.pdfmetrics")
        self._plain, self._bold = _fonts()
        self._title = title
        margin = 0.55 * self._units.inch
        self._margin = margin
        self._width = self._pages.A4[0] - 2 * margin - 12  # a frame has 6 points of padding on either side
        self._height = self._pages.A4[1] - 2 * margin - 12
        self._story: list[Any] = []
        self.paragraph(title, 15, bold=True)

    def paragraph(self, text: str, size: float = 8.5, bold: bool = False) -> None:
        """Add a paragraph."""
        self._story.append(self._platypus.Paragraph(_text(text), self._style(size, bold)))
        self._story.append(self._platypus.Spacer(1, 4))

    def _style(self, size: float, bold: bool = False, right: bool = False, title: bool = False) -> Any:
        return self._styles.ParagraphStyle(
            "text", fontName=self._bold if bold else self._plain, fontSize=size, leading=1.25 * size,
            alignment=2 if right else 0, splitLongWords=1, keepWithNext=int(title), spaceAfter=3 if title else 0,
        )  # fmt: skip

    def page(self) -> None:
        """Begin a page."""
        self._story.append(self._platypus.PageBreak())

    def grid(self, grid: Grid) -> float:
        """Add a table; its font shrinks, and its prose wraps, until it fits. Return its height in points."""
        first = len(self._story)
        if grid.title:
            self._story.append(self._platypus.Paragraph(_text(grid.title), self._style(9.5, True, title=True)))
        columns = grid.columns
        header = [name for name, *_ in columns]
        size, widths = self._fitted(header, grid.lines, [wrap for *_, wrap in columns])
        lines: list[list[Any]] = [
            [self._platypus.Paragraph(_text(name), self._style(size, True, right)) for name, right, _ in columns]
        ]
        for cells in grid.lines:
            lines.append(
                [
                    self._platypus.Paragraph(_text(cell), self._style(size, right=right))
                    for cell, (_, right, _) in zip(cells, columns, strict=True)
                ]
            )
        table = self._platypus.Table(lines, colWidths=widths, repeatRows=1, hAlign="LEFT")
        rule = optional("reportlab.lib.colors").HexColor("#BBBBBB")
        table.setStyle(
            self._platypus.TableStyle(
                [
                    ("LINEBELOW", (0, 0), (-1, 0), 0.8, rule), ("LINEBELOW", (0, 1), (-1, -1), 0.25, rule),
                    ("TOPPADDING", (0, 0), (-1, -1), 1.2), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.8),
                    ("LEFTPADDING", (0, 0), (-1, -1), 2.5), ("RIGHTPADDING", (0, 0), (-1, -1), 2.5),
                    ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ]
            )
        )  # fmt: skip
        self._story += [table, self._platypus.Spacer(1, 10)]
        return sum(float(part.wrap(self._width, self._height)[1]) for part in self._story[first:]) + 3

    def _fitted(
        self, header: Sequence[str], lines: Sequence[Sequence[str]], wraps: Sequence[bool]
    ) -> tuple[float, list[float]]:
        """Return the largest font at which the columns fit, and their widths in points."""
        for size in _SIZES:
            natural = [
                6.5 + max(self._length(text, size, k == 0) for k, text in enumerate(column))
                for column in zip(header, *lines, strict=True)
            ]
            least = [min(n, _NARROWEST) if wrap else n for n, wrap in zip(natural, wraps, strict=True)]
            if sum(natural) <= self._width:
                return size, natural
            if sum(least) <= self._width:
                share = (self._width - sum(least)) / (sum(natural) - sum(least))
                return size, [low + share * (n - low) for low, n in zip(least, natural, strict=True)]
        share = self._width / sum(natural)  # nothing fits: then everything wraps
        return _SIZES[-1], [share * n for n in natural]

    def _length(self, text: str, size: float, bold: bool) -> float:
        return float(self._metrics.stringWidth(shown(text, glyphs()), self._bold if bold else self._plain, size)) + 0.5

    def figure(self, figure: Any, taken: float = 0.0) -> None:
        """Add a figure, beneath what has taken so many points of the page; inside `style`."""
        width, height = figure.get_size_inches() * self._units.inch
        scale = min(self._width / width, (self._height - 4 - taken) / height)
        content = io.BytesIO(rendered(figure, "png"))
        self._story.append(self._platypus.Image(content, width=scale * width, height=scale * height))

    def bytes(self) -> bytes:
        """Return the finished file: no dates, no random names."""
        out = io.BytesIO()
        document = self._platypus.SimpleDocTemplate(
            out, pagesize=self._pages.A4, leftMargin=self._margin, rightMargin=self._margin, topMargin=self._margin,
            bottomMargin=self._margin, title=shown(self._title), author="qengine", creator="qengine", invariant=1,
        )  # fmt: skip

        def footer(canvas: Any, _: Any) -> None:
            canvas.setFont(self._plain, 6.5)
            canvas.drawString(self._margin + 6, 0.6 * self._margin, f"qengine {__version__}")
            right = self._pages.A4[0] - self._margin - 6
            canvas.drawRightString(right, 0.6 * self._margin, str(canvas.getPageNumber()))

        document.build(self._story, onFirstPage=footer, onLaterPages=footer)
        return out.getvalue()


def analysis_pdf(
    file: str, measured: Sequence[Measured], refused: Sequence[Refused], skipped: str, nonfinite: str,
    progress: Progress | None = None,
) -> bytes:  # fmt: skip
    """Return the report of ``qengine analyze``; `progress` is as in `qengine.error_report`."""
    with style():
        document = Document(f"Quantization of {shown(file)}")
        if len(measured) == 1:
            _detail(document, measured[0], measured[0].report.rows[0], nonfinite, progress)
        else:
            row = measured[0].report.rows[0]
            document.paragraph(f"{len(measured)} tensors as {row.label}, worst SQNR first")
            document.grid(lines_table("Settings", setting_lines(row)))
            document.grid(tensors_table(measured))
            document.page()
            document.figure(tensors_figure(measured))
            if len(measured) > DETAILED:
                document.paragraph(f"In detail: the {DETAILED} tensors of worst SQNR.")
        _unmeasured(document, refused, skipped)
        if len(measured) > 1:
            for item in measured[:DETAILED]:
                document.page()
                _detail(document, item, item.report.rows[0], nonfinite, progress)
        return document.bytes()


def comparison_pdf(
    file: str, measured: Sequence[Measured], rank: str, top: int, refused: Sequence[Refused], skipped: str,
    nonfinite: str, progress: Progress | None = None,
) -> bytes:  # fmt: skip
    """Return the report of ``qengine compare``: the ranking, and the best choice in detail."""
    with style():
        document = Document(f"Choices of quantization for {shown(file)}")
        if len(measured) == 1:
            _ranking(document, measured[0], rank, top)
        else:
            document.paragraph(f"{len(measured)} tensors, each by {TITLES[rank]}")
            document.grid(best_of_tensors(measured, rank))
            document.grid(wins_table(measured, rank))
            document.page()
            document.figure(tensors_figure(worst_first(measured)))
        if measured[0].left_out:
            document.grid(left_out_table(measured[0].left_out))
        _unmeasured(document, refused, skipped)
        for item in itertools.islice(worst_first(measured), DETAILED):
            document.page()
            if len(measured) > 1:
                _ranking(document, item, rank, top)
                document.page()
            document.paragraph(f"The best choice by {TITLES[rank]}: {item.report.best(rank).label}", 12, bold=True)
            _detail(document, item, item.report.best(rank), nonfinite, progress)
        return document.bytes()


def _ranking(document: Document, item: Measured, rank: str, top: int) -> None:
    rows = item.report.ranked(rank)
    count = min(top, RANKED)
    document.paragraph(item.header())
    document.grid(rows_table(rows[:count], f"By {TITLES[rank]}, best first", ranks=True))
    if len(rows) > count:
        document.paragraph(f"{len(rows) - count:,} more choices are not shown.")
    if len(rows) > 1:
        document.grid(best_table(item.report))
    document.page()
    document.figure(comparison_figure(item, rank))


def _unmeasured(document: Document, refused: Sequence[Refused], skipped: str) -> None:
    if refused:
        document.grid(refused_table(refused))
    if skipped:
        document.paragraph(skipped)


def _detail(document: Document, item: Measured, row: ErrorRow, nonfinite: str, progress: Progress | None) -> None:
    """Add everything about one tensor under one choice."""
    graphs = TensorGraphs.of(item, row, nonfinite, progress)
    document.paragraph(item.header())
    samples = sample_table(graphs.samples) if item.source.size <= SHOWN else None
    short = samples is not None and len(samples.lines) <= ABOVE
    tables: Iterable[Grid | None] = (
        lines_table("Settings", setting_lines(row)),
        lines_table("Parameters", parameter_lines(row)),
        lines_table("One sample", worked_lines(row, graphs.samples)),
        lines_table("Error", metric_lines(row)),
        lines_table("The same error as other tools print it", variant_lines(row)),
        None if item.report.axis is None else channels_table(row, item.report.axis),
        None if samples is None or short else samples,
    )
    for table in tables:
        if table is not None and table.lines:
            document.grid(table)
    document.page()
    taken = document.grid(samples) if samples is not None and short else 0.0
    document.figure(tensor_figure(graphs), taken)
