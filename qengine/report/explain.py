"""The table of `qengine.explain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from ..requant.multiplier import QuantizedMultiplier
from ..requant.schemes import get_scheme
from .terminal import table, to_text

if TYPE_CHECKING:
    from ..requant.explain import Explanation


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def parts(explanation: Explanation) -> Iterator[RenderableType]:
    """Yield the header, the table of steps and the table of outputs."""
    if explanation.scales is not None:
        i, w, o = explanation.scales
        source = f"scales {i!r} * {w!r} / {o!r}"
    elif isinstance(explanation.multiplier, QuantizedMultiplier):
        m = explanation.multiplier
        source = f"multiplier value {m.value}, shift {m.shift} (real {m.real!r})"
    else:
        source = f"multiplier {explanation.multiplier!r}"
    output = explanation.dtype or "raw"
    yield Text(f"acc {explanation.acc}, {source}, zero point {explanation.zero_point}, output {output}")
    steps = table()
    for name in ("scheme", "parameter", "product", "shift", "1st stage", "remainder", "threshold", "to tie",
                 "result", "+ zero point", "clamped"):  # fmt: skip
        left = name in ("scheme", "parameter")
        steps.add_column(name, right=not left)
    refused: list[Text] = []
    commonest = next(iter(explanation.by_output()), None)
    for row in explanation.rows:
        t = row.trace
        if t is None:
            refused.append(Text(f"{row.scheme.name}: {row.outside}", style="dim"))
            continue
        shift = "" if t.total_shift is None else f">> {t.total_shift}"
        if t.left_shift:
            shift = f"<< {t.left_shift} {shift}"
        steps.add_row(
            row.scheme.name, t.parameter, _cell(t.product), shift, _cell(t.high_mul), _cell(t.remainder),
            _cell(t.threshold), f"{float(t.tie_distance):.3g}", str(t.result), str(t.with_zero_point),
            Text(str(t.clamped), style="" if t.clamped == commonest else "bold red"),
        )  # fmt: skip
    yield steps
    yield from refused
    outputs = table("Who gives what")
    outputs.add_column("output", right=True)
    outputs.add_column("schemes", wrap=True)
    outputs.add_column("runtimes that run them", wrap=True)
    for output_value, names in explanation.by_output().items():
        runtimes = [runtime for name in names for runtime in get_scheme(name).runs_in]
        outputs.add_row(str(output_value), ", ".join(names), "; ".join(runtimes))
    yield outputs


def render_text(explanation: Explanation) -> str:
    """Return the tables as plain text."""
    return to_text(*parts(explanation))
