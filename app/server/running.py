"""How the page and the server listen, run and end, in one place."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config, Server

from neuromoco.app.server.access import Access
from neuromoco.app.server.protocol import BoundedProtocol
from neuromoco.errors import ConfigError

GRACE_SECONDS = 5.0  # after SIGTERM, to finish files; those that are not finished by then are refused
# Connections that the kernel completes before they are accepted. All of them are accepted at once, before the limit of
# connections is seen to, so more would exhaust the open files.
BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: cannot listen there.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host"
        raise ConfigError(f"--host {host} --port {port}: {reason}; give another --port") from None


def address_of(listening: socket.socket) -> str:
    """`http://` with the address and port of a socket."""
    address, number = listening.getsockname()[:2]
    return f"http://[{address}]:{number}" if ":" in address else f"http://{address}:{number}"


def warning_of(host: str, listening: socket.socket, access: Access) -> str | None:
    """What to say of a socket that other machines reach, if they do."""
    if ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
        return None
    asked = "with the token" if access.token else "and no password is asked for; --token sets one"
    return f"--host {host}: other machines can reach this program, {asked}"


def end_on_sigterm() -> None:
    """Lets SIGTERM end the program in order, with exit code 0. Uvicorn raises the signal again after its cleanup."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def run(app: ASGIApp, listening: socket.socket, refuse: Callable[[], Any], largest_message: int = 0) -> None:
    """Serves until a signal; see `BoundedServer`."""
    BoundedServer(app, refuse, largest_message).run([listening])


class BoundedServer(Server):
    """Uvicorn with limits, and with an end in bounded time.

    Args:
        app: what to serve; the lifespan protocol starts and ends it.
        refuse: called a few seconds after the end was asked for, to refuse the requests that are still under way.
        largest_message: bytes of a message of a WebSocket; 0 offers none.
    """

    def __init__(self, app: ASGIApp, refuse: Callable[[], Any], largest_message: int = 0) -> None:
        self._refuse = refuse
        sockets: Any = "none"
        if largest_message:
            from neuromoco.app.server.socket_protocol import RefusingSocketProtocol as sockets  # noqa: N813 # needs websockets
        config = Config(
            app,
            http=BoundedProtocol,
            ws=sockets,
            ws_max_size=largest_message,
            ws_per_message_deflate=False,  # a small message could unpack to a large one
            lifespan="on",
            log_level="error",  # below it are lines that any sender can cause
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=round(3 * GRACE_SECONDS),
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets requests finish, refuses those that do not, and cuts off what is left."""
        loop = asyncio.get_running_loop()
        late = [loop.call_later(GRACE_SECONDS, self._refuse), loop.call_later(2 * GRACE_SECONDS, self._abort)]
        await super().shutdown(sockets)
        for call in late:
            call.cancel()

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
