"""The tables of what a sweep would take."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from ..sweeps.estimate import SweepEstimate
from .terminal import integer, table

#: Seconds of the units that a time is told in, longest first.
_UNITS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it.

    Examples
    --------
    >>> from qengine.report.estimate import duration
    >>> [duration(t) for t in (0.00025, 0.5, 90, 7200, 200_000)]
    ['0.25 ms', '500 ms', '1.5 min', '2 h', '2.31 days']
    """
    size, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def parts(told: SweepEstimate, scales: str | None) -> Iterator[RenderableType]:
    """Yield the tiles, the times, and whether the exact engine answers at once."""
    already = f", {integer(told.done)} of them in the checkpoint, the others" if told.done else ""
    yield Text(
        f"{integer(told.plan.pairs)} pairs{already} in {integer(told.tiles)} tile{'s' * (told.tiles != 1)} of at most "
        f"{integer(told.tile_pairs)} ({told.backend})"
    )
    yield Text(
        f"measured for {told.seconds:.1f} s: {told.speed / 1e9:.3g} G pairs/s here, {told.speed_of_one / 1e9:.3g} "
        "by one worker alone"
    )
    grid = table()
    grid.add_column("workers")
    grid.add_column("expected time", right=True)
    priced = any(row.cost is not None for row in told.rows)
    if priced:
        grid.add_column("cost", right=True)
    for row in told.rows:
        where = f"{integer(row.workers)}, this machine" if row.here else integer(row.workers)
        grid.add_row(where, duration(row.seconds), *([f"{row.cost:.4g}"] if row.cost is not None else []))
    yield grid
    if len(told.rows) > 1:
        yield Text("Other workers are taken to be as fast as one of this machine alone; nothing is lost between them.")
    if told.exact:
        yield Text(
            f"No sweep is needed: the exact engine ({', '.join(told.exact)}) counts every accumulator at once:\n"
            f"  {told.exact_command(scales)}",
            style="bold",
        )
