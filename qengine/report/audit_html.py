"""The report of an audit as one HTML file: no script, nothing from outside; light, dark and on paper."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from .._version import __version__
from .audit_data import BARS, PAIRS, STEPS, Bar, Spread, arithmetics, bars, power, spreads, state_text
from .audit_tables import cell, reach, titles
from .escape import shortened, shown
from .terminal import share

if TYPE_CHECKING:
    from ..models.audit_result import AuditResult, Layer, Pair, Total

#: Geometry of a picture in its own units.
WIDTH, LEFT, RIGHT, WIDEST = 1000, 62, 8, 34
STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #16191d; --faint: #5c6570; --line: #d9dee4;
  --panel: #f6f8fa; --bar: #0072b2; --warm: #d98200; --hot: #c8500a; --good: #00805e; --none: #9aa3ad;
  --wash: #e7f3ee; --wash2: #fdf1df; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e8ebee; --faint: #9aa4af; --line: #343b43;
  --panel: #1c2127; --bar: #56b4e9; --warm: #f0b040; --hot: #ff7f45; --good: #3fcf9f; --none: #6d7681;
  --wash: #16302a; --wash2: #3a2a12; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, Helvetica,
  Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 6px; }
p { margin: 4px 0 10px; max-width: 82ch; }
.faint { color: var(--faint); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 12px; margin: 20px 0 8px; }
.tile { background: var(--panel); border: 1px solid var(--line); border-left: 4px solid var(--none); border-radius: 6px;
  padding: 12px 14px; }
.tile.good { border-left-color: var(--good); } .tile.warm { border-left-color: var(--warm); }
.tile h3 { font-size: 13px; font-weight: 600; margin: 0; color: var(--faint); overflow-wrap: anywhere; }
.tile b { display: block; font-size: 20px; line-height: 1.35; }
.tile span { display: block; font-size: 13px; color: var(--faint); }
.wide { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 640px; height: auto; margin: 6px 0 2px; }
svg text { font: 11px system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: var(--faint); }
svg .name { font-weight: 600; fill: var(--ink); font-size: 12px; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .axis { stroke: var(--faint); stroke-width: 1; }
svg .d0 { fill: var(--good); } svg .d1 { fill: var(--bar); } svg .d2 { fill: var(--warm); }
svg .d3 { fill: var(--hot); }
svg .dn { fill: none; stroke: var(--none); stroke-width: 1.3; } svg .cell0 { fill: var(--wash); }
svg .celln { fill: none; stroke: var(--none); stroke-dasharray: 2 2; }
svg .range { stroke: var(--bar); stroke-linecap: round; } svg .mid { fill: var(--hot); }
svg text.in { fill: var(--paper); font-weight: 600; text-anchor: middle; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--faint); margin: 2px 0 8px; }
.key i { display: inline-block; width: 11px; height: 11px; margin-right: 6px; border-radius: 2px;
  vertical-align: -1px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: 4px 9px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--faint); vertical-align: bottom; white-space: nowrap; }
th.pair { white-space: normal; }
td.n, th.n { text-align: right; white-space: nowrap; }
td small { display: block; color: var(--faint); font-size: 11px; overflow-wrap: anywhere; }
td.why { min-width: 20em; } td.code, td.why { font-size: 12px; }
td.code { font-family: ui-monospace, "DejaVu Sans Mono", Consolas, monospace; overflow-wrap: anywhere;
  min-width: 12em; }
td.equal { color: var(--good); } td.differ { background: var(--wash2); } td.none { color: var(--none); }
details { margin: 8px 0; } summary { cursor: pointer; font-weight: 600; padding: 3px 0; }
footer { margin-top: 40px; font-size: 12px; color: var(--faint); }
@media print { :root { --paper: #ffffff; --ink: #16191d; --faint: #5c6570; --line: #d9dee4;
  --panel: #f6f8fa; --bar: #0072b2; --warm: #d98200; --hot: #c8500a; --good: #00805e; --none: #9aa3ad;
  --wash: #e7f3ee; --wash2: #fdf1df; }
  body { font-size: 11px; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { max-width: none; padding: 0; } table { font-size: 8.5px; } th, td { padding: 2px 4px; }
  td small { font-size: 7px; } .tiles { grid-template-columns: repeat(3, 1fr); } .key { font-size: 9px; }
  .tile b { font-size: 13px; } .tile h3, .tile span { font-size: 9px; }
  td.why, td.code { min-width: 0; font-size: 8px; } thead { display: table-header-group; }
  tr, svg, .tile { break-inside: avoid; } h2 { break-after: avoid; } .wide { overflow: visible; }
  svg { min-width: 0; } details::details-content { content-visibility: visible; block-size: auto; } }
"""


def _text(value: object, width: int = 300) -> str:
    """Return a text in which nothing acts, neither in a terminal nor in HTML."""
    return html.escape(shortened(shown(value), width))


def _shade(largest: int) -> str:
    return f"d{sum(largest > step for step in (0, *STEPS))}"


def _scale(count: int) -> tuple[float, float]:
    """Return the distance of neighbouring bars, and their width."""
    pitch = min((WIDTH - LEFT - RIGHT) / max(1, count), WIDEST * 1.35)
    return pitch, min(WIDEST, max(1.2, 0.74 * pitch))


def _numbers(items: Sequence[Bar] | Sequence[Spread], y: float) -> Iterator[str]:
    """Yield the operators' numbers below an axis, as many as have room."""
    pitch, _ = _scale(len(items))
    every = max(1, math.ceil(30 / pitch))
    for k in range(0, len(items), every):
        x = LEFT + (k + 0.5) * pitch
        yield f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{items[k].first}</text>'


def _panel(title: str, items: Sequence[Bar], top: float, height: float, decades: int) -> Iterator[str]:
    """Yield one panel: bars on a logarithmic axis from 1 to a power of ten; below 1 lie the marks of none."""
    base = top + height

    def place(value: float) -> float:
        return base - 10 - (height - 10) * math.log10(value) / decades

    pitch, width = _scale(len(items))
    for exponent in range(0, decades + 1, max(1, math.ceil(decades / 4))):
        y = place(10.0**exponent)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{power(exponent)}</text>'
    yield f'<text class="name" x="{LEFT}" y="{top - 7:.1f}">{_text(title)}</text>'
    for k, item in enumerate(items):
        x = LEFT + (k + 0.5) * pitch
        tip = f"<title>{_text(item.text)}</title>"
        if item.divergent is None:
            r = min(3.0, width / 2)
            yield (
                f'<g class="dn">{tip}<path d="M{x - r:.1f} {base - 4 - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}'
                f'l{-2 * r:.1f} {2 * r:.1f}"/></g>'
            )
        elif not item.divergent:
            yield f'<circle class="d0" cx="{x:.1f}" cy="{base - 4:.1f}" r="{min(3.0, width / 2):.1f}">{tip}</circle>'
        else:
            y = min(place(item.divergent), base - 12)
            shade = _shade(item.largest or 0)
            yield (
                f'<rect class="{shade}" x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" '
                f'height="{base - 10 - y:.1f}">{tip}</rect>'
            )
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base - 10:.1f}" y2="{base - 10:.1f}"/>'


def _svg(height: float, label: str, content: Iterator[str]) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{_text(label)}">'
        + "".join(content)
        + "</svg></div>"
    )


def divergence_svg(panels: dict[str, list[Bar]]) -> str:
    """Draw the divergent states of each operator, one panel a pair of sides."""
    most = max((item.divergent or 0 for items in panels.values() for item in items), default=0)
    decades = max(1, math.ceil(math.log10(max(most, 2))))
    height, gap = (128, 34) if len(panels) <= 3 else (88, 30)

    def content() -> Iterator[str]:
        top = 24.0
        for title, items in panels.items():
            yield from _panel(title, items, top, height, decades)
            top += height + gap
        yield from _numbers(next(iter(panels.values())), top - gap + 14)

    return _svg(24 + len(panels) * (height + gap), "divergent states by operator", content())


def largest_svg(panels: dict[str, list[Bar]]) -> str:
    """Draw the largest difference of each operator: a row a pair of sides, a cell an operator."""
    tall, gap = 20, 26

    def content() -> Iterator[str]:
        y = 22.0
        for title, items in panels.items():
            pitch, _ = _scale(len(items))
            yield f'<text class="name" x="{LEFT}" y="{y - 5:.1f}">{_text(title)}</text>'
            for k, item in enumerate(items):
                x, width = LEFT + k * pitch, max(1.0, pitch - (2 if pitch > 6 else 0))
                kind = "celln" if item.largest is None else "cell0" if item.largest == 0 else _shade(item.largest)
                yield (
                    f'<rect class="{kind}" x="{x + 0.5:.1f}" y="{y:.1f}" width="{width - 0.5:.1f}" height="{tall}" '
                    f'rx="2"><title>{_text(item.text)}</title></rect>'
                )
                if item.largest and pitch >= 13:
                    yield f'<text class="in" x="{x + width / 2:.1f}" y="{y + 14:.1f}">{item.largest}</text>'
            y += tall + gap
        yield from _numbers(next(iter(panels.values())), y - gap + 14)

    return _svg(22 + len(panels) * (tall + gap), "largest difference by operator", content())


def ppm_svg(sides: dict[str, list[Spread]]) -> str:
    """Draw the errors of the multipliers: a line from least to greatest over the channels, a dot at the median."""
    values = [v for parts in sides.values() for p in parts for v in (p.least, p.greatest) if v]
    low = math.floor(math.log10(min(values))) if values else -6
    high = max(low + 1, math.ceil(math.log10(max(values)))) if values else 0
    low = max(low, high - 12)  # what is smaller yet lies with what is exact
    height, gap = (150, 34) if len(sides) <= 2 else (110, 32)

    def content() -> Iterator[str]:
        top = 24.0
        for title, parts in sides.items():
            base = top + height

            def place(value: float | None, base: float = base) -> float:
                if not value or value < 10.0**low:
                    return base - 4
                return base - 14 - (height - 14) * (math.log10(value) - low) / (high - low)

            pitch, width = _scale(len(parts))
            for exponent in range(low, high + 1, max(1, math.ceil((high - low) / 5))):
                y = place(10.0**exponent)
                yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{power(exponent)}</text>'
            yield f'<text x="{LEFT - 6}" y="{base:.1f}" text-anchor="end">exact</text>'
            yield f'<text class="name" x="{LEFT}" y="{top - 7:.1f}">{_text(title)}</text>'
            for k, part in enumerate(parts):
                if part.greatest is None:
                    continue
                x, tip = LEFT + (k + 0.5) * pitch, f"<title>{_text(part.text)}</title>"
                thick = min(6.0, max(1.0, 0.45 * width))
                yield (
                    f'<g>{tip}<line class="range" stroke-width="{thick:.1f}" x1="{x:.1f}" x2="{x:.1f}" '
                    f'y1="{place(part.least):.1f}" y2="{place(part.greatest):.1f}"/>'
                    f'<circle class="mid" cx="{x:.1f}" cy="{place(part.middle):.1f}" r="{min(2.4, thick / 1.6):.1f}"/>'
                    "</g>"
                )
            yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base - 10:.1f}" y2="{base - 10:.1f}"/>'
            top += height + gap
        yield from _numbers(next(iter(sides.values())), top - gap + 14)

    return _svg(24 + len(sides) * (height + gap), "error of the multipliers by operator", content())


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _tile(title: str, total: Total) -> str:
    kind = "warm" if total.different else "good" if total.equal and not total.unknown else ""
    operators = total.equal + total.different + total.unknown
    if total.different:
        verdict = f"may differ in {total.different:,} of {operators:,} operators"
        lines = [
            f"{total.divergent:,} of {total.states:,} states ({share(total.divergent / max(1, total.states))})",
            f"largest difference {total.largest}",
        ]
    elif total.equal:
        verdict = "proven equal" if not total.unknown else f"equal in {total.equal:,} operators"
        lines = [f"{total.states - total.undecided:,} states"]
    else:
        verdict, lines = "not covered", []
    if total.unknown:
        lines.append(f"{_plural(total.unknown, 'operator')} not covered or undecided")
    spans = "".join(f"<span>{line}</span>" for line in lines)
    return f'<div class="tile {kind}"><h3>{_text(title)}</h3><b>{verdict}</b>{spans}</div>'


def _key(entries: Sequence[tuple[str, str]]) -> str:
    parts = (f'<span><i style="background:{colour}"></i>{words}</span>' for colour, words in entries)
    return f'<div class="key">{"".join(parts)}</div>'


def _table(head: Sequence[tuple[str, str]], lines: Iterator[str]) -> str:
    """Return a table; `head`: (class, text) of each column."""
    cells = "".join(f'<th class="{kind}">{text}</th>' for kind, text in head)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _td(text: object, kind: str = "") -> str:
    return f'<td class="{kind}">{_text(text)}</td>' if kind else f"<td>{_text(text)}</td>"


def _named(layer: Layer) -> str:
    """Return a cell with the operator, and its output tensor below; all of a long name as a hint."""
    row = layer.row
    return f'<td title="{_text(row.name)}">{_text(row.op, 60)}<small>{_text(row.name, 52)}</small></td>'


def _answer(pair: Pair) -> str:
    kind = "n none" if pair.reason else "n differ" if pair.divergent else "n equal"
    return f'<td class="{kind}" title="{_text(pair.verdict)}">{_text(cell(pair))}</td>'


def _operators(result: AuditResult) -> str:
    names = titles(result)
    head = [("n", "#"), ("", "operator, output tensor"), ("n", "channels"), ("n", "states")]
    head += [("n", "least .. greatest"), ("", "activation")]
    head += [("n pair", _text(name).replace(" / ", "&nbsp;/<br>")) for name in names]

    def lines() -> Iterator[str]:
        for layer in result.requantizing:
            row = layer.row
            if not layer.covered:
                continue
            activation = row.activation if row.activation != "NONE" else ""
            cells = [
                _td(row.index, "n"), _named(layer), _td(f"{row.channels:,}", "n"), _td(f"{layer.states:,}", "n"),
                _td(reach(layer), "n"), _td(activation),
            ]  # fmt: skip
            yield f"<tr>{''.join(cells)}{''.join(map(_answer, layer.pairs))}</tr>"

    return _table(head, lines())


def _witnesses(result: AuditResult, k: int) -> str:
    head = [("n", "#"), ("", "operator"), ("n", "channel"), ("n", "state"), ("n", "codes"), ("", "why")]

    def lines() -> Iterator[str]:
        for layer in result.requantizing:
            found = layer.pairs[k].witness if len(layer.pairs) > k else None
            if found is None:
                continue
            cells = [
                _td(layer.row.index, "n"), _td(layer.row.op), _td(f"{found.channel:,}", "n"),
                _td(state_text(layer, found), "n"),
                _td(" / ".join(map(str, found.outputs)), "n"), _td(found.why, "why"),
            ]  # fmt: skip
            yield f"<tr>{''.join(cells)}</tr>"

    return _table(head, lines())


def _reason(layer: Layer) -> str:
    return layer.row.reason or "; ".join(dict.fromkeys(pair.reason for pair in layer.pairs))


def _pictures(result: AuditResult) -> Iterator[str]:
    panels = bars(result)
    shared = f" Neighbouring operators share a bar: there are {len(result.requantizing):,}."
    crowd = shared if len(result.requantizing) > BARS else ""
    yield "<h2>Divergent states by operator</h2>"
    yield (
        "<p class='faint'>How many of the states that the stored weights allow give different codes, on a logarithmic "
        f"axis; below, the operators' numbers.{crowd}</p>"
    )
    if len(result.couples) > PAIRS:
        yield f"<p class='faint'>The first {PAIRS} of {len(result.couples)} pairs are drawn; tables have all.</p>"
    yield _key([
        ("var(--bar)", f"largest difference {STEPS[0]}"),
        ("var(--warm)", f"{STEPS[0] + 1} to {STEPS[1]}"),
        ("var(--hot)", f"{STEPS[1] + 1} and more"),
        ("var(--good)", "dot: proven equal"),
        ("var(--none)", "cross: not covered"),
    ])  # fmt: skip
    yield divergence_svg(panels)
    yield "<h2>Largest difference</h2>"
    yield "<p class='faint'>In codes of the output; pale cells are proven equal, dashed ones are not covered.</p>"
    yield largest_svg(panels)
    errors = spreads(result)
    if errors:
        yield "<h2>Error of the multipliers</h2>"
        yield (
            "<p class='faint'>What each side multiplies by, against input scale × weight scale ÷ output scale in "
            "float64, in parts per million, without sign: from the least to the greatest over an operator's channels, "
            "the dot at the median. This is not what decides codes alone: most differences come from where a side "
            "rounds.</p>"
        )
        yield ppm_svg(errors)


def _body(result: AuditResult) -> Iterator[str]:
    name = PurePath(result.model).name or result.model
    yield f"<h1>Audit of {_text(name)}</h1>"
    operators = len(result.requantizing)
    yield f"<p class='faint'>{_text(result.model)} · sides: {_text(', '.join(result.sides), 1000)}</p>"
    if not operators:
        yield "<p>Nothing in this model is requantized: there is nothing on which runtimes could round differently.</p>"
    else:
        covered = [layer for layer in result.requantizing if layer.covered]
        states = sum(layer.states for layer in covered)
        yield (
            f"<p>Operators that requantize: {operators:,}; covered: {len(covered):,}, with {states:,} states between "
            "them. Nothing is sampled, and no input is needed. “Proven equal” holds for every "
            "input of the model; “may differ” says that an input which produces one of the states gives different "
            "codes there, not that a given input does.</p>"
        )
        tiles = (_tile(title, total) for title, total in zip(titles(result), result.totals, strict=True))
        yield f'<div class="tiles">{"".join(tiles)}</div>'
        if covered:
            yield from _pictures(result)
            yield "<h2>Operators</h2>"
            yield (
                "<p class='faint'>Under each pair of sides: states on which the codes differ, and the largest "
                "difference, second less first.</p>"
            )
            yield _operators(result)
            yield "<h2>First differing states</h2>"
            yield "<p class='faint'>Of each operator that differs: its first channel, and the least state there.</p>"
            for k, title in enumerate(titles(result)):
                if result.totals[k].different:
                    count = _plural(result.totals[k].different, "operator")
                    yield f"<details><summary>{_text(title)} ({count})</summary>{_witnesses(result, k)}</details>"
                else:
                    yield f"<p class='faint'>{_text(title)}: no state differs.</p>"
            yield "<h2>What each side computes</h2>"
            head = [("", "side"), ("", "operator"), ("", "multiplier"), ("", "arithmetic"), ("", "then")]
            rows = (
                f"<tr>{_td(side)}{_td(op)}{''.join(_td(words, 'code') for words in rest)}</tr>"
                for side, op, *rest in arithmetics(result)
            )
            yield _table(head, rows)
        missing = [layer for layer in result.requantizing if not layer.covered]
        if missing:
            yield "<h2>Not covered</h2>"
            lines = (f"<tr>{_td(m.row.index, 'n')}{_named(m)}{_td(_reason(m), 'why')}</tr>" for m in missing)
            yield _table([("n", "#"), ("", "operator, output tensor"), ("", "why")], lines)
    plain = sum(layer.row.plain for layer in result.layers)
    if plain:
        more = _plural(plain, "more operator")
        yield f"<p class='faint'>{more} without requantization: codes are moved, or reals computed.</p>"
    for note in result.notes:
        yield f"<p class='faint'>{_text(note)}</p>"
    yield f"<footer>qengine {__version__}</footer>"


def audit_html(result: AuditResult) -> str:
    """Return the report as one HTML document."""
    title = _text(f"Audit of {PurePath(result.model).name or result.model}")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body><main>\n"
        + "\n".join(_body(result))
        + "\n</main></body>\n</html>\n"
    )
