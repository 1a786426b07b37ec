"""The tables of a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from qengine.kernels.codes import DIFFERENCE_LIMIT

from .terminal import integer, share, table, to_text

if TYPE_CHECKING:
    from ..sweeps.result import PairResult, SweepResult


def _source(described: dict[str, Any]) -> str:
    if described["source"] == "scales":
        channels = described["channels"]
        return f"{integer(channels)} channel{'s' * (channels != 1)} of scales ({described['name']})"
    if described["source"] == "range":
        return f"{described['distribution']} in [{described['low']:.6g}, {described['high']:.6g})"
    if "value" in described:
        return f"value {described['value']}, shift {described['shift']}"
    return f"{described['real']!r}"


def _accumulators(described: dict[str, Any]) -> str:
    kind = described["kind"]
    if kind == "unsaturated":
        return "uniform where the output is not clamped"
    span = f"[{integer(described['low'])}, {integer(described['high'])}]"
    if kind == "all":
        return f"every one in {span}"
    if kind == "uniform":
        return f"uniform in {span}"
    unit = " output codes" if described["output_units"] else ""
    return f"{kind}, spread {described['spread']:.6g}{unit}, center {described['center']:.6g}"


def _histogram(pair: PairResult) -> str:
    def name(d: int) -> str:
        if abs(d) > DIFFERENCE_LIMIT:
            return f"{'>' if d > 0 else '<'} {'+' if d > 0 else '-'}{DIFFERENCE_LIMIT}"
        return f"{d:+d}"

    commonest = sorted(pair.histogram.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name(d)}: {integer(n)}" for d, n in sorted(commonest[:4]))
    return shown + (", ..." if len(commonest) > 4 else "")


def _couples(result: SweepResult) -> list[PairResult]:
    names = result.schemes
    return [result.couples[names[i], names[j]] for i in range(len(names)) for j in range(i + 1, len(names))]


def parts(result: SweepResult) -> Iterator[RenderableType]:
    """Yield the header, the counts, the split by shift, the witnesses and the digest."""
    plan = result.plan.describe()
    output = plan["output"]
    clamp = "raw int32" if output["dtype"] == "raw" else f"{output['dtype']} [{output['qmin']}, {output['qmax']}]"
    if output["dtype"] != "raw":
        zero = plan["zero_point"]
        clamp += ", zero point " + ("of each channel" if zero is None else str(zero))
    yield Text(f"multipliers   {_source(plan['multipliers'])}")
    drawn = plan["accumulators"]["kind"] != "all"
    yield Text(f"accumulators  {_accumulators(plan['accumulators'])}" + f", seed {plan['seed']}" * drawn)
    yield Text(f"outputs       {clamp}")
    if not result.complete:
        yield Text(
            f"INTERRUPTED   {integer(result.pairs)} of {integer(plan['pairs'])} pairs done; the counts are of those",
            style="bold red",
        )
    counts = table()
    for name in ("schemes", "compared", "divergent", "rate", "95 % interval", "max |diff|", "first - second"):
        counts.add_column(name, right=name not in ("schemes", "first - second"), wrap=name == "first - second")
    couples = _couples(result)
    for pair in couples:
        interval = "exact" if pair.interval is None else f"{share(pair.interval[0])} .. {share(pair.interval[1])}"
        counts.add_row(
            f"{pair.first} / {pair.second}", integer(pair.compared), integer(pair.divergent),
            share(pair.rate) if pair.compared else "-", interval, integer(pair.max_abs_diff), _histogram(pair),
        )  # fmt: skip
    yield counts
    outside = {name: n for name, n in result.outside.items() if n}
    if outside:
        listed = ", ".join(f"{name} {integer(n)}" for name, n in outside.items())
        yield Text(f"outside the domain, not compared: {listed}")
    shifts = sorted(
        {n for pair in couples for n in pair.by_right_shift}, key=lambda n: (n is None, 0 if n is None else n)
    )
    if len(shifts) > 1:
        split = table("Divergent, by right shift of the multiplier")
        split.add_column("right shift", right=True)
        split.add_column("pairs", right=True)
        for pair in couples[:6]:
            split.add_column(f"{pair.first} / {pair.second}", right=True)
        for n in shifts:
            most = max(pair.by_right_shift.get(n, (0, 0))[0] for pair in couples)
            cells = []
            for pair in couples[:6]:
                compared, divergent = pair.by_right_shift.get(n, (0, 0))
                cells.append(f"{integer(divergent)}  {share(divergent / compared)}" if compared else "-")
            split.add_row("M = 0" if n is None else str(n), integer(most), *cells)
        yield split
    if any(pair.witnesses for pair in couples):
        seen = table("First divergent pairs")
        for name in ("schemes", "pair", "acc", "multiplier", "outputs", "why"):
            seen.add_column(name, right=name not in ("schemes", "why"), wrap=name == "why")
        for pair in couples:
            for witness in pair.witnesses[:2]:
                seen.add_row(
                    f"{pair.first} / {pair.second}", integer(witness.index), integer(witness.acc),
                    f"{witness.multiplier[0]:.9g}", f"{witness.outputs[0]}, {witness.outputs[1]}", witness.why,
                )  # fmt: skip
        yield seen
    if result.speed is not None:
        now = result.pairs - result.resumed
        yield Text(
            f"{integer(now)} pairs in {result.seconds:.3f} s: {result.speed / 1e9:.3f} G "
            f"pairs/s ({result.backend}, {result.workers} worker{'s' * (result.workers != 1)})"
            + (f"; {integer(result.resumed)} from the checkpoint" if result.resumed else "")
        )
    yield Text(f"digest {result.digest}")


def render_text(result: SweepResult) -> str:
    """Return the tables as plain text."""
    return to_text(*parts(result))
