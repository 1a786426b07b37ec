"""A sweep that says how far it is while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from ..cli.options import parse_count
from ..report.sweep import parts
from ..report.terminal import share
from ..requant.schemes import SCHEMES
from ..sweeps.result import SweepResult
from ..sweeps.sweep import sweep
from . import figures
from .answers import Answer, Section, Tile, parted
from .errors import refused_field
from .form import looks, same
from .limits import Limits
from .requantization import DTYPES, RAW, Multiplied, largest_tile
from .work import CancelledWorkError, Token

SCHEME, DRAWN, PAIRS = "Schemes", "Multiplier", "Accumulators and output"
SOURCES = (
    ("range", "drawn from a real range"), ("scales", "three stored scales"), ("fixed", "one multiplier and shift"),
    ("real", "one real multiplier"),
)  # fmt: skip
#: Longest tile, so that the first words about progress come soon; seconds between two of them.
TILE, OFTEN = 1 << 22, 0.1


class Sweep(Multiplied):
    """Pairs of multipliers and accumulators on which schemes are compared."""

    order: ClassVar[tuple[str, ...]] = (SCHEME, DRAWN, PAIRS)
    schemes: list[str] = looks(
        ["single", "double"], "Schemes", "Two or more; every two are compared.", SCHEME, "checks",
        options=same(SCHEMES), wide=True,
    )  # fmt: skip
    source: str = looks(
        "range", "Multipliers", "Where the multipliers come from.", DRAWN, "select", options=SOURCES,
    )  # fmt: skip
    low: float = looks(0.01, "Least multiplier", "Draws begin here.", DRAWN, when={"source": ["range"]})
    high: float = looks(0.99, "Greatest multiplier", "Draws end below this.", DRAWN, when={"source": ["range"]})
    pairs: str = looks(
        "1M", "Pairs", "How many: 1M, 33.4M, 1e9, 2^32.", PAIRS, "text",
    )  # fmt: skip
    seed: int = looks(
        0, "Seed", "Key of the draws: the same seed gives the same pairs, on every machine.", PAIRS, ge=0,
        le=2**64 - 1,
    )  # fmt: skip
    acc: str = looks(
        "uniform", "Accumulators", "How they are drawn.", PAIRS, "select",
        options=(
            ("uniform", "uniform in ±2^20"), ("unsaturated", "uniform where the output is not clamped"),
            ("normal:20000", "normal, deviation 20,000"), ("laplace:20000", "Laplace, scale 20,000"),
        ),
    )  # fmt: skip
    dtype: str = looks(RAW, "Output type", "What the output is clamped to.", PAIRS, "select", options=DTYPES)
    zero_point: int = looks(
        0, "Zero point", "Of the output.", PAIRS, ge=-(2**31), le=2**31 - 1,
        when={"dtype": [name for name, _ in DTYPES if name != RAW]},
    )  # fmt: skip

    def arguments(self, limits: Limits) -> dict[str, Any]:
        """Return the arguments of `qengine.sweep` but for the schemes, within the caps."""
        if len(self.schemes) < 2:
            raise refused_field("schemes", "Tick two schemes or more.")
        if len(self.schemes) > limits.sweep_schemes:
            raise refused_field("schemes", f"At most {limits.sweep_schemes} schemes are swept here.", 413)
        try:
            pairs = parse_count(self.pairs)
        except ValueError as error:
            raise refused_field("pairs", f"{error}.") from None
        if not 1 <= pairs <= limits.sweep_pairs:
            raise refused_field(
                "pairs", f"From 1 to {limits.sweep_pairs:,} pairs are swept here; qengine sweep takes any number.", 413
            )
        multiplier = scales = drawn = None
        if self.source == "range":
            drawn = (self.low, self.high)
        else:
            multiplier, scales = self.given()
        raw = self.dtype == RAW
        acc = None if self.acc == "uniform" and raw else self.acc
        return {
            "pairs": pairs, "seed": self.seed, "multiplier": multiplier, "scales": scales, "multiplier_range": drawn,
            "acc": "uniform:-1048576:1048575" if acc == "uniform" else acc, "dtype": None if raw else self.dtype,
            "zero_point": None if raw else self.zero_point, "tile_pairs": min(TILE, pairs),
        }  # fmt: skip


def swept(form: Sweep, limits: Limits, token: Token, say: Callable[[dict[str, Any]], None]) -> Answer:
    """Run the sweep; `say` is told how far it is. It returns what it has when cancelled or when its time is over.

    Raises
    ------
    CancelledWorkError
        When nobody waits any more.
    """
    arguments = form.arguments(limits)
    begun = said = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said
        if token.abandoned or token.late or token.enough:
            raise KeyboardInterrupt  # the engine stops between two tiles and returns what it has
        now = time.monotonic()
        if now - said > OFTEN or done == total:
            said = now
            say({"progress": {"done": done, "total": total, "seconds": round(now - begun, 2)}})

    result = sweep(*form.schemes, progress=progress, **arguments)
    if token.abandoned:
        raise CancelledWorkError
    stopped = ""
    if token.enough:
        stopped = f"Cancelled: {result.pairs:,} of {arguments['pairs']:,} pairs."
    elif not result.complete:
        stopped = f"Stopped after {token.seconds:g} s, the longest that the page allows: "
        stopped += f"{result.pairs:,} of {arguments['pairs']:,} pairs."
    return _answer(result, stopped)


def _answer(result: SweepResult, stopped: str) -> Answer:
    text, tables = parted(parts(result))
    names = result.schemes
    couples = [result.couples[a, b] for k, a in enumerate(names) for b in names[k + 1 :]]
    head = couples[0]
    shown = [
        Tile(id="divergent", name=f"{head.first} ≠ {head.second}", value=f"{head.divergent:,}",
             unit=f"of {head.compared:,} pairs", meaning="Pairs on which the two outputs differ."),
        Tile(id="rate", name="Share", value=share(head.rate) if head.compared else "none",
             meaning="Of the pairs on which both schemes are defined."),
        largest_tile(head.max_abs_diff),
        Tile(id="digest", name="Digest", value=result.digest[:16],
             meaning="The beginning of a fingerprint of all counts: the same on every machine."),
    ]  # fmt: skip
    sections = [Section(id="counts", title="Counts", text=text, tables=tables)]
    compared = [couple for couple in couples if couple.compared]
    if compared:
        labels = [f"{couple.first} / {couple.second}" for couple in compared]
        figure = figures.of_rates(labels, [couple.rate for couple in compared])
        sections.insert(0, Section(id="graphs", title="Graph", figures=[figure]))
    summary = f"{result.pairs:,} pairs swept."
    if not result.complete:
        summary = f"{stopped} The counts are of these alone."
    return Answer(summary=summary, tiles=shown, sections=sections, data=result.to_dict())


EXAMPLE: dict[str, Any] = {
    "schemes": ["single", "double", "fp32"], "source": "range", "low": "0.01", "high": "0.99", "pairs": "33.4M",
    "seed": "42", "acc": "uniform", "dtype": RAW,
}  # fmt: skip
