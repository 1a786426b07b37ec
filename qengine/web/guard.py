"""What stands before every route: who may ask, how much may be sent, and the headers of every answer."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Only this server's own files, and no script or style inside a page.
POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:",
        "font-src 'self'", "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # Not "no-referrer": with that a browser sends the page's own forms with the origin "null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
#: Names of this machine. Another name in a request means that a foreign page had its name point here.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
#: Longest body of the type application/x-www-form-urlencoded; the pages send multipart/form-data.
URLENCODED = 1 << 18


def too_long(limit: int) -> str:
    """Return the message for a request beyond the limit."""
    return (
        f"The request is longer than {limit:,} bytes, the most that is taken. Send fewer samples, or a file, "
        "or use the command line, which reads files of any size."
    )


class Guard:
    """ASGI middleware: refuses foreign hosts and origins and long bodies, and adds the headers.

    Parameters
    ----------
    app : ASGI application
    body_bytes : int
        Longest body; one that declares no length is counted while it comes.
    held_bytes : int
        Longest bodies together that are under way: memory stays bounded however many clients there are.
    """

    def __init__(self, app: ASGIApp, body_bytes: int, held_bytes: int) -> None:
        self._app = app
        self._limit = body_bytes
        self._most = held_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                extra = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in known]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        problem = self._problem(scope["path"], headers)
        if problem is not None:
            await _answer(send_with_headers, *problem)
            return
        # Fields in one line are taken apart letter by letter on the event loop, which all requests share: only few.
        single = headers.get(b"content-type", "").lower().startswith("application/x-www-form-urlencoded")
        limit = min(self._limit, URLENCODED) if single else self._limit
        taken = 0

        async def receive_counted() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            self._held += size
            if taken > limit:
                raise HTTPException(413, too_long(limit))
            if self._held > self._most:
                raise HTTPException(429, "Too many long requests at once. Send this one again in a while.")
            return message

        try:
            await self._app(scope, receive_counted, send_with_headers)
        finally:
            self._held -= taken

    def _problem(self, path: str, headers: dict[bytes, str]) -> tuple[int, str] | None:
        """Return (status, message) of a request that goes no further."""
        if "\0" in path:  # what names files cannot hold: looking for one fails
            return 404, "There is nothing at this address."
        if _hostname(headers.get(b"host", "")) not in LOOPBACK:
            return 421, "This server answers to 127.0.0.1 and localhost only."
        origin = headers.get(b"origin")
        if origin is not None and _netloc(origin) != headers.get(b"host"):
            return 403, "A page of another site may not send requests to this server."
        length = headers.get(b"content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "The length of the request is no number."
        if len(length) > 18 or int(length) > self._limit:
            return 413, too_long(self._limit)
        return None


def _netloc(origin: str) -> str | None:
    """Return host and port of an origin, None where there are none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": {"message": message, "fields": {}}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
