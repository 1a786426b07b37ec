"""``qengine serve``: loopback alone, one line with the address, an end without noise."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from qengine.cli.serve import listening
from qengine.exceptions import DomainError
from tests.cli.running import qengine
from tests.web.serving import TEXT, answer


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_serves_and_ends(tmp_path: Path, ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "qengine", "serve", "--port", "0", "--json", "--no-browser"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert running.stdout is not None
    text = ""
    while not text.rstrip().endswith("}"):
        line = running.stdout.readline()
        assert line, running.communicate()[1]
        text += line
    url = json.loads(text)["url"]
    assert url.startswith("http://127.0.0.1:")
    for _ in range(200):
        try:
            assert httpx.get(url, trust_env=False).status_code == 200
            break
        except httpx.TransportError:
            time.sleep(0.05)
    assert answer(httpx.post(f"{url}api/analyze", json={"values": TEXT}, timeout=60, trust_env=False))
    with httpx.stream("POST", f"{url}api/sweep", json={"pairs": "2^33"}, timeout=60, trust_env=False) as sweep:
        next(line for line in sweep.iter_lines() if "progress" in line)
        begun = time.monotonic()
        os.kill(running.pid, ending)  # while a sweep runs
        out, err = running.communicate(timeout=30)
    assert time.monotonic() - begun < 20
    # uvicorn raises SIGTERM again once everything is closed; a calculation that is still at work is cut off before.
    assert running.returncode in (0, -ending), err
    assert err == ""
    assert out == ""


def test_address_in_words() -> None:
    ran = qengine("serve", "--help")
    assert "--port" in ran.out
    assert "--open" in ran.out


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", ""])
def test_only_this_machine(host: str) -> None:
    ran = qengine("serve", "--host", host, "--port", "0")
    assert ran.code == 2
    assert "--host" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_loopback_addresses(host: str) -> None:
    with listening(host, 0) as sock:
        assert sock.getsockname()[0].startswith("127.")
        assert sock.proto == socket.IPPROTO_TCP  # else asyncio leaves Nagle's algorithm on: 40 ms an answer


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DomainError, match=f"port {port} of 127.0.0.1 cannot be used"):
            listening("127.0.0.1", port)
