"""What long commands say while they work."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds before a bar is drawn: what is done sooner needs none.
DELAY = 1.0


def _si(number: float) -> str:
    """Write up to three digits and a prefix: 2.5e9 is ``2.5 G``."""
    prefix, power = next((p, e) for p, e in (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)) if number >= e or not p)
    return f"{number / power:.3g} {prefix}"


def announce_compiling() -> None:
    """From now on, say on a terminal's stderr that kernels are compiled, where that takes longer than `DELAY`."""
    from qengine.kernels import compiling

    if sys.stderr is not None and sys.stderr.isatty() and not compiling.listeners:
        compiling.listeners.append(_Announcer())


class _Announcer:
    """Says once that kernels are compiled: `DELAY` seconds after one begins, if it is not done by then."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._said = False

    def __call__(self, begins: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if begins and not self._said:
            self._timer = threading.Timer(DELAY, self._say)
            self._timer.daemon = True
            self._timer.start()

    def _say(self) -> None:
        self._said = True
        print("compiling kernels for this processor: seconds, and once; later runs load them", file=sys.stderr)


@contextmanager
def progress_bar(label: str, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that draws done/total, units a second and the time left on stderr, where that is a terminal."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from ..report.terminal import console

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    progress = Progress(*columns, console=console(sys.stderr), transient=True)
    task = progress.add_task(label, total=None, rate="")
    begun, drawn = time.monotonic(), False

    def update(done: int, total: int) -> None:
        nonlocal drawn
        if not drawn and time.monotonic() - begun > DELAY:
            progress.start()
            drawn = True
        speed = progress.tasks[0].speed
        rate = f"{_si(speed)}{unit}/s" if speed else ""
        progress.update(task, completed=done, total=total, rate=rate)

    try:
        yield update
    finally:
        if drawn:
            progress.stop()
