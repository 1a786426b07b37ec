"""A real server on a free port of this machine, in this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import uvicorn

from qengine.cli.serve import listening
from qengine.web.app import create_app
from qengine.web.limits import Limits

WORKED = [-1.25, -0.92, -0.51, -0.10, 0, 0.14, 0.37, 0.79, 1.12, 1.46]
TEXT = "-1.25, -0.92, -0.51, -0.10, 0, 0.14, 0.37, 0.79, 1.12, 1.46"
CUSTOM = {"range": "custom", "low": -1.5, "high": 1.5}
ISSUE = {
    "source": "scales", "input_scale": 0.05296124517917633, "weight_scale": 0.024093778803944588,
    "output_scale": 0.11484327912330627, "acc": 585, "zero_point": -126, "dtype": "int8",
}  # fmt: skip


@contextlib.contextmanager
def server(limits: Limits | None = None) -> Iterator[str]:
    """Serve, and yield the address without a slash at its end."""
    sock = listening("127.0.0.1", 0)
    running = uvicorn.Server(uvicorn.Config(create_app(limits), log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(20)
        sock.close()
        assert not thread.is_alive(), "the server did not end"


def answer(response: httpx.Response) -> Any:
    """The body of a success."""
    assert response.status_code == 200, response.text[:600]
    return response.json()


def refusal(response: httpx.Response, status: int = 422) -> Any:
    """The error of a request that was refused."""
    assert response.status_code == status, response.text[:600]
    return response.json()["error"]
