"""``qengine serve``."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import sys
import threading
import time
import webbrowser
from types import FrameType

import click

from .options import emit_json, json_option


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address of this machine.

    Raises
    ------
    DomainError
        For an address that others could reach, or that is taken.
    """
    from ..exceptions import DomainError

    name = "127.0.0.1" if host == "localhost" else host
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        raise DomainError(f"--host must be an address such as 127.0.0.1 or ::1; got {host!r}.") from None
    if not address.is_loopback:
        raise DomainError(
            f"--host must be a loopback address: the page asks for no password; got {host}. To reach it from another "
            "machine, forward the port over ssh."
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # The protocol is named because asyncio sends small answers at once only where it reads IPPROTO_TCP here; with
    # 0 an answer of two packets waits 40 ms for the client's delayed acknowledgement.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((name, port))
    except OSError as error:
        found.close()
        raise DomainError(f"port {port} of {host} cannot be used: {error.strerror}. Take another by --port.") from None
    found.listen(512)
    return found


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes one that is free."
)
@click.option("--open/--no-browser", "opens", default=False, help="Open the page in the browser.  [default: do not]")
@json_option
def command(host: str, port: int, opens: bool, as_json: bool) -> None:
    """Serve the calculator, its graphs and its JSON API to this machine; Ctrl-C ends it.

    \b
    Example:
      qengine serve --port 0
    """
    from ..exceptions import BackendError

    try:
        import uvicorn

        from ..web.app import create_app
    except ImportError as error:
        raise BackendError(f"the page needs more packages ({error}); pip install 'qengine-numerics[web]'.") from error
    sock = listening(host, port)
    name, number = sock.getsockname()[:2]
    url = f"http://{f'[{name}]' if ':' in name else name}:{number}/"
    app = create_app(warm=True)

    class Server(uvicorn.Server):
        """Tells calculations at the signal itself: uvicorn waits for their answers before it ends the application."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.shop.stopping.set()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that requests are cut off is meant
            super().handle_exit(sig, frame)

    server = Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1, lifespan="on"
        )
    )
    if as_json:
        emit_json({"url": url})
    else:
        click.echo(f"qengine calculator: {url}  (Ctrl-C ends it)")
    if opens:
        threading.Thread(target=_open, args=(server, url), daemon=True).start()
    with sock, contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once everything is closed
        server.run(sockets=[sock])
    # Everything is closed. The interpreter would still join kernels that nobody waits for, and take compiled code
    # apart piece by piece, which lasts longer than all the rest.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _open(server: object, url: str) -> None:
    """Open the page once the server answers."""
    while not getattr(server, "started", False):
        time.sleep(0.05)
    webbrowser.open(url)
