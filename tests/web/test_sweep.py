"""Work that lasts: a sweep tells how far it is, and what nobody waits for any more ends."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest

import qengine as qe
from qengine.web.limits import Limits
from tests.web.serving import ISSUE, answer, refusal, server


def lines(response: httpx.Response) -> list[Any]:
    return [json.loads(line) for line in response.text.splitlines()]


def test_sweep_tells_progress_and_then_the_counts(client: httpx.Client) -> None:
    response = client.post("/api/sweep", json={
        "schemes": ["single", "double", "fp32"], "source": "range", "low": 0.01, "high": 0.99, "pairs": "9M", "seed": 3,
    })  # fmt: skip
    assert response.headers["content-type"] == "application/x-ndjson"
    *before, last = lines(response)
    told = [line["progress"] for line in before if "progress" in line]
    assert told[-1]["done"] == told[-1]["total"] == 9_000_000
    expected = qe.sweep("single", "double", "fp32", multiplier_range=(0.01, 0.99), pairs=9_000_000, seed=3)
    assert last["answer"]["data"]["digest"] == expected.digest


def test_sweep_of_given_multipliers(client: httpx.Client) -> None:
    fields = {**ISSUE, "schemes": ["single", "fp32"], "pairs": "1e5", "acc": "unsaturated", "seed": 1}
    *_, last = lines(client.post("/api/sweep", json=fields))
    scales = (ISSUE["input_scale"], ISSUE["weight_scale"], ISSUE["output_scale"])
    expected = qe.sweep(
        "single", "fp32", scales=scales, pairs=100_000, acc="unsaturated", seed=1, dtype="int8", zero_point=-126
    )
    assert last["answer"]["data"]["digest"] == expected.digest


def test_sweep_refuses_plainly(client: httpx.Client) -> None:
    assert "schemes" in refusal(client.post("/api/sweep", json={"schemes": ["single"]}))["fields"]
    assert "pairs" in refusal(client.post("/api/sweep", json={"pairs": "many"}))["fields"]
    assert "pairs" in refusal(client.post("/api/sweep", json={"pairs": "1e15"}), 413)["fields"]
    _, line = [line for line in lines(client.post("/api/sweep", json={"low": 0.5, "high": 0.1})) if line]
    assert "0.5" in line["error"]["message"]


def tile_threads() -> set[threading.Thread]:
    """The threads that calculate tiles now."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("qengine-tile")}


def they_end(before: set[threading.Thread]) -> None:
    """Wait until no thread calculates that did not before."""
    for _ in range(80):
        if tile_threads() <= before:
            return
        time.sleep(0.05)
    pytest.fail("the calculation goes on after its client has gone")


def test_sweep_ends_when_the_client_hangs_up(url: str) -> None:
    before = tile_threads()
    with httpx.stream("POST", f"{url}/api/sweep", json={"pairs": "2^33"}, timeout=30, trust_env=False) as response:
        for line in response.iter_lines():
            if "progress" in line:
                break
    they_end(before)


def test_a_cancelled_sweep_answers_with_what_it_has(client: httpx.Client, url: str) -> None:
    last: Any = None
    with httpx.stream("POST", f"{url}/api/sweep", json={"pairs": "2^33"}, timeout=60, trust_env=False) as response:
        for line in response.iter_lines():
            last = json.loads(line)
            if "sweep" in last:
                name = last["sweep"]
            elif "progress" in last:
                answer(client.post(f"/api/sweep/{name}/cancel"))
    found = last["answer"]
    assert found["data"]["complete"] is False
    assert found["summary"].startswith(f"Cancelled: {found['data']['pairs']:,} of 8,589,934,592 pairs.")
    assert 0 < found["data"]["pairs"] < 2**33
    assert "No sweep" in refusal(client.post(f"/api/sweep/{name}/cancel"), 404)["message"]


def test_a_count_ends_when_the_client_leaves(url: str) -> None:
    fields = {**ISSUE, "dtype": "raw", "zero_point": 0, "first": "fp32", "second": "fp64-away"}
    before = tile_threads()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/api/count", json=fields, timeout=1.0, trust_env=False)
    they_end(before)


def test_sweep_returns_what_it_has_when_its_time_is_over() -> None:
    with server(Limits(sweep_seconds=0.5)) as url:
        *_, last = lines(httpx.post(f"{url}/api/sweep", json={"pairs": "2^33"}, timeout=60, trust_env=False))
    assert "Stopped after 0.5 s" in last["answer"]["summary"]
    assert 0 < last["answer"]["data"]["pairs"] < 2**33
    assert last["answer"]["data"]["complete"] is False
