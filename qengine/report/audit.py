"""The report of an audit as a file: HTML or PDF."""

from __future__ import annotations

import os
import string
from pathlib import PurePath
from typing import TYPE_CHECKING

from .audit_data import PAIRS, arithmetics, state_text
from .audit_html import audit_html
from .audit_tables import cell, reach, titles
from .escape import shortened, shown
from .files import check_target, write_file
from .terminal import Grid, integer, share, table

if TYPE_CHECKING:
    from ..models.audit_result import AuditResult

#: Lines of first differing states for a pair of sides on paper.
WITNESSES = 24


def write_html(result: AuditResult, path: str | os.PathLike[str]) -> None:
    """Write one HTML file that needs no other; whole or not at all.

    Raises
    ------
    InputFileError
        If it cannot be written.
    """
    check_target(path, ".html", ".htm")
    write_file(path, audit_html(result).encode())


def write_pdf(result: AuditResult, path: str | os.PathLike[str]) -> None:
    """Write a PDF; whole or not at all. The same result gives the same bytes.

    Raises
    ------
    BackendError
        If the packages of the `report` extra are missing.
    InputFileError
        If it cannot be written.
    """
    check_target(path, ".pdf")
    write_file(path, audit_pdf(result))


def audit_pdf(result: AuditResult) -> bytes:
    """Return the report as the bytes of a PDF."""
    from .audit_figures import divergence_figures, largest_figure, ppm_figure
    from .pdf import Document
    from .style import style

    letters = pair_letters(len(result.couples))
    covered = [layer for layer in result.requantizing if layer.covered]
    with style():
        document = Document(f"Audit of {shortened(shown(PurePath(result.model).name or result.model), 80)}")
        document.paragraph(f"Sides: {', '.join(result.sides)}")
        document.paragraph(_summary(result, len(covered)))
        if result.requantizing:
            document.grid(_totals(result, letters))
        if covered:
            for figure in divergence_figures(result):
                document.figure(figure)
            if len(result.couples) > PAIRS:
                document.paragraph(f"The first {PAIRS} of {len(result.couples)} pairs are drawn; the tables have all.")
            document.figure(largest_figure(result))
            errors = ppm_figure(result)
            if errors is not None:
                document.figure(errors)
            for start in range(0, len(letters), 6):
                document.grid(_operators(result, letters, range(start, min(start + 6, len(letters)))))
            for k, letter in enumerate(letters):
                grid = _witnesses(result, k, letter)
                if grid.lines:
                    document.grid(grid)
            document.grid(_arithmetic(result))
        missing = _missing(result)
        if missing.lines:
            document.grid(missing)
        plain = sum(layer.row.plain for layer in result.layers)
        if plain:
            document.paragraph(f"{plain:,} more without requantization: codes are moved, or reals computed.")
        for note in result.notes:
            document.paragraph(note)
        return document.bytes()


def pair_letters(count: int) -> list[str]:
    """Return short names of pairs: A to Z, then A1 to Z1 ..."""
    alphabet = string.ascii_uppercase
    return [alphabet[k % 26] + (str(k // 26) if k >= 26 else "") for k in range(count)]


def _summary(result: AuditResult, covered: int) -> str:
    count = len(result.requantizing)
    if not count:
        return "Nothing in this model is requantized: there is nothing on which runtimes could round differently."
    states = sum(layer.states for layer in result.requantizing if layer.covered)
    return (
        f"Operators that requantize: {count:,}; covered: {covered:,}, with {states:,} states between them. Nothing is "
        "sampled, and no input is needed. 'Proven equal' holds for every input of the model; 'may differ' says that an "
        "input which produces one of the states gives different codes there, not that a given input does."
    )


def _totals(result: AuditResult, letters: list[str]) -> Grid:
    listing = table("In all")
    listing.add_column("pair")
    listing.add_column("sides", wrap=True)
    for name in ("proven equal", "may differ", "not covered", "states", "differ", "share", "largest"):
        listing.add_column(name, right=True)
    for letter, title, total in zip(letters, titles(result), result.totals, strict=True):
        listing.add_row(
            letter, title, integer(total.equal), integer(total.different), integer(total.unknown),
            integer(total.states), integer(total.divergent), share(total.divergent / max(1, total.states)),
            str(total.largest),
        )  # fmt: skip
    return listing


def _operators(result: AuditResult, letters: list[str], chosen: range) -> Grid:
    which = f"pairs {letters[chosen[0]]} to {letters[chosen[-1]]}"
    listing = table(f"Operators: states on which the codes differ, and the largest difference ({which})")
    listing.add_column("#", right=True)
    listing.add_column("operator")
    listing.add_column("output tensor")
    for name in ("channels", "states", "least .. greatest", *(letters[k] for k in chosen)):
        listing.add_column(name, right=True)
    for layer in result.requantizing:
        if layer.covered:
            row = layer.row
            listing.add_row(
                str(row.index), shortened(shown(row.op), 40), shortened(shown(row.name), 26), integer(row.channels),
                integer(layer.states), reach(layer), *(cell(layer.pairs[k]) for k in chosen),
            )  # fmt: skip
    return listing


def _witnesses(result: AuditResult, k: int, letter: str) -> Grid:
    found = [(layer, layer.pairs[k].witness) for layer in result.requantizing if len(layer.pairs) > k]
    found = [(layer, witness) for layer, witness in found if witness is not None]
    more = f" (of the first {WITNESSES} of {len(found)} operators)" if len(found) > WITNESSES else ""
    listing = table(f"First differing states, {letter}: {titles(result)[k]}{more}")
    for name in ("#", "channel", "state", "codes"):
        listing.add_column(name, right=True)
    listing.add_column("why", wrap=True)
    for layer, witness in found[:WITNESSES]:
        assert witness is not None
        codes = " / ".join(map(str, witness.outputs))
        listing.add_row(
            str(layer.row.index), integer(witness.channel), state_text(layer, witness), codes, witness.why
        )  # fmt: skip
    return listing


def _arithmetic(result: AuditResult) -> Grid:
    listing = table("What each side computes")
    listing.add_column("side")
    listing.add_column("operator")
    for name in ("multiplier", "arithmetic", "then"):
        listing.add_column(name, wrap=True)
    for line in arithmetics(result):
        listing.add_row(*line)
    return listing


def _missing(result: AuditResult) -> Grid:
    listing = table("Not covered")
    listing.add_column("#", right=True)
    listing.add_column("operator")
    listing.add_column("output tensor", wrap=True)
    listing.add_column("why", wrap=True)
    for layer in result.requantizing:
        if not layer.covered:
            reason = layer.row.reason or "; ".join(dict.fromkeys(pair.reason for pair in layer.pairs))
            name = shortened(shown(layer.row.name), 60)
            listing.add_row(str(layer.row.index), shortened(shown(layer.row.op), 40), name, reason)
    return listing
