"""HTTP connections within limits: of their number, of the time for headers, and of the time that an answer may wait."""

from __future__ import annotations

import asyncio
import contextlib
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from neuromoco.app.server.errors import error_body

MOST_CONNECTIONS = 128
HEADER_SECONDS = 10.0
READ_AT_ONCE = 1 << 15  # bytes; asyncio's own 256 KiB are held several times for each of many senders
SEND_SECONDS = 30.0  # longest time for which a reader may take nothing of an answer


class BoundedProtocol(H11Protocol):
    """Uvicorn's protocol with the limits above, which uvicorn lacks.

    A connection too many closes the one that has been idle for longest. None is refused while one is idle, so
    whoever opens connections and sends nothing keeps nobody out.
    """

    _header_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    _idle_since = 0.0
    _upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        with contextlib.suppress(AttributeError):  # another event loop reads in pieces of its own
            transport.max_size = READ_AT_ONCE  # type: ignore[attr-defined]
        self._update_timer()
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_timer()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._upgraded = True  # its own protocol and the application limit it from here on
        self._cancel_timer()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, in the shape of all errors."""
        body = json.dumps(error_body("bad_request", msg)).encode()
        length, close = (b"content-length", b"%d" % len(body)), (b"connection", b"close")
        headers = [(b"content-type", b"application/json"), length, close]
        for part in (h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(data=body)):
            self.transport.write(self.conn.send(part) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel_timer()
        if self._send_timer is not None:
            self._send_timer.cancel()

    def _make_room(self) -> None:
        idle = [one for one in self.connections if isinstance(one, BoundedProtocol) and not one._answering()]
        victim = min(idle, key=lambda one: one._idle_since, default=self)  # itself is idle too, but not for long
        self.connections.discard(victim)  # now, for the next connection may come before its end is noticed
        victim.transport.abort()

    def _update_timer(self) -> None:
        if self._upgraded or self._answering():
            self._cancel_timer()  # the headers are complete; the application limits the rest
        elif self._header_timer is None:
            self._idle_since = self.loop.time()
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self._on_timeout)

    def _cancel_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_timeout(self) -> None:
        self._header_timer = None
        if not self._answering():
            self.transport.abort()  # `close` would wait for a reader who takes nothing

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete
