"""The server that the tests of the page share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from qengine.web.app import warm_up
from tests.web.serving import server


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Address of a server with the usual caps, its kernels compiled."""
    warm_up()
    with server() as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=url, timeout=180, trust_env=False) as found:
        yield found
