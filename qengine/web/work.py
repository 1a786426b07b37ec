"""Calculations off the event loop: bounded in number and time, and ended when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request

from .errors import RequestRefusedError

T = TypeVar("T")
#: Requests longer than this wait for each other, so that short ones never wait for them.
LONG_BYTES = 1 << 18
#: Seconds after which it is first looked whether the client is still there, and between such looks.
LOOK = 0.2


class CancelledWorkError(Exception):
    """The client has gone, or the server stops: there is nobody to answer."""


class Token:
    """Tells a running calculation whether to go on; the engine asks between tiles.

    Parameters
    ----------
    seconds : float
        Time that the calculation may take, counted from its start.
    stopping : threading.Event
        Set when the server stops.
    """

    def __init__(self, seconds: float, stopping: threading.Event) -> None:
        self.seconds = seconds
        self._stopping = stopping
        self._left, self._enough = threading.Event(), threading.Event()
        self._deadline: float | None = None

    def start(self) -> None:
        """Begin to count the time."""
        self._deadline = time.monotonic() + self.seconds

    def cancel(self) -> None:
        """Say that nobody waits any more."""
        self._left.set()

    def finish(self) -> None:
        """Say that what there is by now is enough: a sweep answers with it."""
        self._enough.set()

    @property
    def enough(self) -> bool:
        """Whether what there is by now is enough."""
        return self._enough.is_set()

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return self._left.is_set() or self._stopping.is_set()

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def check(self) -> None:
        """Go on, or raise."""
        if self.abandoned:
            raise CancelledWorkError
        if self.late:
            raise RequestRefusedError(
                f"The calculation was stopped after {self.seconds:g} s, the longest that the page allows. Take fewer "
                "samples or choices, or use the command line, which has no such limit.",
                status=413,
            )

    def progress(self, done: int, total: int) -> None:
        """Be the `progress` of an engine's function."""
        self.check()


class Workshop:
    """Threads for calculations: many short ones, few long ones, and one at a time that draws.

    Matplotlib's settings belong to the process, so PDFs are drawn one after the other.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.stopping = threading.Event()
        #: Sweeps under way, by the names that their clients were told.
        self.sweeps: dict[str, Token] = {}
        self._short, self._long, self._drawing = (anyio.CapacityLimiter(n) for n in (8, 2, 1))

    def limiter(self, size: int, draws: bool = False, slow: bool = False) -> anyio.CapacityLimiter:
        """Return the queue for a request of that many bytes."""
        return self._drawing if draws else self._long if slow or size > LONG_BYTES else self._short

    async def run(
        self, request: Request, function: Callable[[Token], T], limiter: anyio.CapacityLimiter,
        seconds: float | None = None,
    ) -> T:  # fmt: skip
        """Run a function in a thread; it is told when the client leaves, the time is over or the server stops."""
        token = Token(self._seconds if seconds is None else seconds, self.stopping)

        def timed() -> T:
            token.start()
            token.check()
            return function(token)

        watch = asyncio.create_task(_watch(request, token))
        try:
            # When the server stops it cancels this task: the thread is told so below, and nobody waits for it.
            return await anyio.to_thread.run_sync(timed, abandon_on_cancel=True, limiter=limiter)
        finally:
            token.cancel()
            watch.cancel()

    async def stream(
        self, function: Callable[[Token, Callable[[Any], None]], None], seconds: float
    ) -> AsyncIterator[Any]:
        """Run a function that says things while it works, and yield them; None where it was silent for a while.

        The function ends when the iterator is closed, which happens when the client leaves.
        """
        token = Token(seconds, self.stopping)
        loop, said = asyncio.get_running_loop(), asyncio.Queue[Any]()
        finished = object()

        def say(item: Any) -> None:
            loop.call_soon_threadsafe(said.put_nowait, item)

        def work() -> None:
            try:
                token.start()
                function(token, say)
            finally:
                say(finished)

        task = asyncio.create_task(anyio.to_thread.run_sync(work, limiter=self._long))
        try:
            while True:
                try:
                    item = await asyncio.wait_for(said.get(), LOOK)
                except TimeoutError:
                    item = None
                if item is finished:
                    break
                yield item
            await task
        finally:
            token.cancel()
            if not task.done():
                task.add_done_callback(_read)


def _read(task: asyncio.Task[Any]) -> None:
    """Look at the outcome of a task that nobody waits for, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


async def _watch(request: Request, token: Token) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(LOOK)
    token.cancel()
