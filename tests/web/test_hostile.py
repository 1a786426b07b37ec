"""What is not meant well: random and hostile input is refused with 4xx and never costs the server its answer."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qengine.web.calculator import Calculation
from qengine.web.errors import RequestRefusedError
from qengine.web.guard import URLENCODED
from qengine.web.limits import Limits
from qengine.web.pages import PAGES
from tests.web.serving import ISSUE, TEXT, answer, refusal, server

JSON_ADDRESSES = ("/api/analyze", "/api/compare", "/api/explain", "/api/count", "/api/sweep")
FORM_ADDRESSES = ("/", "/compare", "/requantize", "/api/analyze/form", "/api/compare/form", "/api/values")
FORMS = {address: page for page in PAGES for address in page.api}
NASTY = (
    None, True, -1, 2**31, 2**64, 10**30, 0.5, 1e308, 5e-324, "nan", "-inf", "1e999", "1_000", "½", "\x00", "a" * 5000,
    "<script>alert(1)</script>", "../../etc", [], [[]], {}, [None], ["8"] * 70, "=1+1", "8\r\nX: 1",
)  # fmt: skip


def fine(response: httpx.Response) -> None:
    """An answer, or a refusal in the shape of all refusals."""
    assert response.status_code < 500, (response.status_code, response.text[:500])
    assert "content-security-policy" in response.headers
    if response.status_code >= 400 and "json" in response.headers["content-type"]:
        error = response.json()["error"]
        assert error["message"]
        assert len(error["message"]) <= 600
        assert "Traceback" not in error["message"]


def fields_of(address: str) -> list[str]:
    return list(FORMS[address].form.model_fields)


@pytest.mark.parametrize("address", JSON_ADDRESSES)
def test_nasty_values_in_every_field(client: httpx.Client, address: str) -> None:
    base = {"values": TEXT} if address in ("/api/analyze", "/api/compare") else {**ISSUE}
    if address == "/api/sweep":
        base["pairs"] = "1000"
    form, seen = FORMS[address].form, set()
    for name in fields_of(address):
        for value in NASTY:
            body = json.dumps({**base, name: value}).encode()
            try:  # what reads as the same form is asked once, and a refusal by the form needs no server
                key = repr(form.of_json(body))
            except RequestRefusedError:
                continue
            if key not in seen:
                seen.add(key)
                fine(client.post(address, content=body, headers={"content-type": "application/json"}))
    assert seen


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_fields(client: httpx.Client, data: st.DataObject) -> None:
    address = data.draw(st.sampled_from(JSON_ADDRESSES))
    form = FORMS[address].form
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    chosen: dict[str, Any] = {"pairs": "500"} if address == "/api/sweep" else {}
    chosen |= {"values": data.draw(st.lists(st.floats(), max_size=6))} if "values" in form.model_fields else {**ISSUE}
    for name in data.draw(st.lists(st.sampled_from(fields_of(address)), max_size=5, unique=True)):
        look = form.look(name)
        options = [option for option, _ in look.options] if look is not None else []
        meant = st.sampled_from(options) if options else st.floats(-300, 300) | st.integers(-70000, 70000)
        chosen[name] = data.draw(meant | st.lists(meant, max_size=3) | leaves)
    if address == "/api/sweep":
        chosen["pairs"] = data.draw(st.sampled_from(["500", "-1", "1e400", "x"]))
    body = json.dumps(chosen).encode("utf-8", "surrogatepass")
    fine(client.post(address, content=body, headers={"content-type": "application/json"}))


@pytest.mark.parametrize("address", [*JSON_ADDRESSES, *FORM_ADDRESSES])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"17", b'"text"', b"\xff\xfe\x00", b"{}", b'{"values": "\\ud800"}', b"[" * 100_000,
        b'{"a":' * 5000, b'{"bits": ' + b"9" * 50_000 + b"}", b'{"values": [1e400, -1e400]}', b'{"bits": 2, "bits": 3}',
        b"--x\r\nContent-Disposition: form-data; name=\"values\"\r\n\r\n1\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\"\r\n\r\n\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data; name=\"bits\"; filename=\"a.csv\"\r\n\r\n1\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: nonsense\r\n\r\n1\r\n", b"--x", b"values=1&bits=%FF%FE&%00=1",
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
def test_bodies_that_are_no_form(client: httpx.Client, address: str, body: bytes) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "\xff"):
        fine(client.post(address, content=body, headers={"content-type": kind.encode("latin-1")}))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"values":[' + b"1," * (1 << 22) + b"1,1]}", 200), (b'{"values":[' + b'"",' * (5 << 20) + b'""]}', 413),
        (b'{"values":[' + b"[]," * (1 << 20) + b"1]}", 400), (b'{"values":[' + b"{}," * 9999 + b"1]}", 400),
        (b"{" + b'"a":1,' * 9999 + b'"b":1}', 400), (b'{"values":[' + b'"",' * (1 << 20) + b"1]}", 422),
    ],
    ids=["numbers", "texts", "lists", "objects", "names", "first error"],
)  # fmt: skip
def test_json_beyond_all_measure_is_not_read(body: bytes, status: int) -> None:
    """A list of empty texts or lists once took gigabytes, and the server with it."""
    if status == 200:
        assert len(Calculation.of_json(body, 1 << 23).values) == (1 << 22) + 2
        return
    with pytest.raises(RequestRefusedError) as refused:
        Calculation.of_json(body)
    assert refused.value.status == status
    assert len(refused.value.fields) <= 2


def test_long_requests_together_are_bounded() -> None:
    with (
        server(Limits(body_bytes=30_000, held_bytes=40_000)) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        with socket.create_connection(("127.0.0.1", int(client.base_url.port or 0)), timeout=5) as slow:
            slow.sendall(
                b"POST /api/analyze HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30000\r\n\r\n" + b" " * 29_000
            )
            assert answer(client.post("/api/analyze", json={"values": TEXT}))
            long = {"values": TEXT + " " * 20_000}
            assert "Send this one again" in refusal(client.post("/api/analyze", json=long), 429)["message"]
        for _ in range(100):  # the slow client has left, and what it had sent is forgotten
            if client.post("/api/analyze", json=long).status_code == 200:
                return
            time.sleep(0.05)
    pytest.fail("the bytes of a client that left are still counted")


@pytest.mark.parametrize("address", FORM_ADDRESSES)
def test_forms_of_strange_shape(client: httpx.Client, address: str) -> None:
    fine(client.post(address, data={f"f{k}": "1" for k in range(700)}))
    assert client.post(address, data={"values": "1," * URLENCODED}).status_code == 413  # no file was sent
    fine(client.post(address, data={"values": ["1", "2"], "bits": ["8", "9"], "name": ["a", "b"]}))
    fine(client.post(address, files=[("file", (f"{k}.csv", b"1")) for k in range(6)]))
    fine(client.post(address, files={"values": ("a.csv", b"1 2")}))
    fine(client.post(address, files={"file": ("a" * 5000 + ".npy", b"\x93NUMPY\x01\x00\xff\xff")}))
    fine(client.post(address, files={"file": ("\x00.csv", b"1")}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_with_nonsense(client: httpx.Client, page: Any) -> None:
    for query in ("?values=%FF&bits=", "?bits=<script>alert(1)</script>", "?" + "a=1&" * 3000, "?mapping=x&x", "?%00"):
        response = client.get(page.path + query)
        fine(response)
        assert "<script>alert" not in response.text


def test_what_was_typed_is_never_markup(client: httpx.Client) -> None:
    evil = '"><script>alert(1)</script>'
    for fields in ({"name": evil, "values": TEXT}, {"values": evil}, {"values": TEXT, "mapping": evil}):
        response = client.post("/", data=fields, files={"file": ("", b"")})
        assert "<script>alert" not in response.text


@pytest.mark.parametrize("path", [
    "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/....//app.py", "/static/%00",
    "/nowhere", "/api/nowhere", "/docs", "/redoc", "/openapi.json", "/static/", "//etc/passwd", "/%ff",
])  # fmt: skip
def test_paths_that_lead_nowhere(client: httpx.Client, path: str) -> None:
    response = client.send(httpx.Request("GET", str(client.base_url).rstrip("/") + path))
    assert 400 <= response.status_code < 500
    assert "def create_app" not in response.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW"])
def test_other_methods(client: httpx.Client, method: str) -> None:
    for address in (*JSON_ADDRESSES, "/", "/api/about"):
        assert client.request(method, address).status_code < 500


def test_foreign_hosts_and_origins(client: httpx.Client) -> None:
    assert refusal(client.get("/", headers={"host": "evil.example"}), 421)
    assert refusal(client.get("/", headers={"host": "127.0.0.1.evil.example:80"}), 421)
    assert refusal(client.get("/", headers={"host": "[::"}), 421)
    body = {"values": TEXT}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://[", ""):
        assert refusal(client.post("/api/analyze", json=body, headers={"origin": origin}), 403)
    assert answer(client.post("/api/analyze", json=body, headers={"origin": str(client.base_url)}))
    port = client.base_url.port
    assert client.get("/", headers={"host": f"localhost:{port}"}).status_code == 200


def test_lengths_that_lie(client: httpx.Client) -> None:
    address = ("127.0.0.1", int(client.base_url.port or 0))
    for raw in (
        b"POST /api/analyze HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/analyze HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999\r\n\r\n{}",
        b"POST /api/analyze HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{}",
        b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /" + b"a" * 100_000,
    ):  # fmt: skip
        with socket.create_connection(address, timeout=5) as sock:
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            assert b" 500 " not in sock.recv(4096).split(b"\r\n")[0]
    assert answer(client.post("/api/analyze", json={"values": TEXT}))


def test_headers_of_every_answer(client: httpx.Client) -> None:
    for path in ("/", "/api/about", "/static/app.js", "/nowhere", "/api/docs"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
