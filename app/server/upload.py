"""Receives files from untrusted senders, within limits of size, time and number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from neuromoco.app.server.bodies import Body, FormBody, RawBody, too_large
from neuromoco.app.server.errors import RefusedError

LARGEST_FRAME = 1 << 16  # bytes of a body besides the files: fields, headers, boundaries
DRAIN_SECONDS = 1.0
DRAIN_BYTES = 1 << 24
logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # it would print a line of any damaged form
MOMENT = 0.5  # seconds until an upload can be called slow
HOW = "send the file as multipart/form-data, for example: curl -F file=@walk.aedat4 URL/classify"


@dataclass(frozen=True)
class Limits:
    """Limits of a server."""

    max_bytes: int = 64 << 20  # of the files of a request
    most_files: int = 100  # of a request
    waiting: int = 16  # uploads that may wait for a worker; further ones are refused
    receiving: int = 32  # uploads under way; the slowest gives way to a further one
    body_seconds: float = 60.0  # longest duration of an upload
    idle_seconds: float = 10.0  # longest pause within an upload
    seconds: float = 20.0  # of an analysis, see `sandbox.Sandbox`
    memory: int = 1 << 30  # bytes of an analysis


class Receiver:
    """Receives the files of a server, several requests at a time.

    Senders take no place in the queue for a worker until their body is complete; when too many send at a time, the
    slowest of those that had a moment to send gives way.

    Args:
        folder: for the files; exists.
        limits: of each body, and of their number.
        field: the form's field with files.
        takes_bytes: whether the bytes of one file may come without a form, with fields in the query.
    """

    def __init__(self, folder: Path, limits: Limits, field: str = "file", takes_bytes: bool = False) -> None:
        self._folder, self.limits, self._field, self._takes_bytes = folder, limits, field, takes_bytes
        self._senders: set[_Sender] = set()
        self._ended: RefusedError | None = None

    def __len__(self) -> int:
        return len(self._senders)

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[Body]:
        """The body of a request; its files are deleted when the context ends.

        Raises:
            RefusedError: no form and no bytes, too large, too slow, or damaged.
            ClientDisconnect: the sender disconnected.
        """
        body = self._begin(request)
        try:
            await self._receive(request, body)
            yield body
        finally:
            body.delete()

    def end(self) -> None:
        """Refuses the uploads under way, and those to come."""
        self._ended = RefusedError(503, "ending", "the server is ending; try again soon")
        for sender in list(self._senders):
            sender.end(self._ended)

    def _begin(self, request: Request) -> Body:
        kind, options = parse_options_header(request.headers.get("content-type"))
        boundary = options.get(b"boundary") if kind == b"multipart/form-data" else None
        if not boundary and not (self._takes_bytes and kind == b"application/octet-stream"):
            or_bytes = ", or its bytes as application/octet-stream" if self._takes_bytes else ""
            raise RefusedError(415, "media_type", HOW + or_bytes)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(415, "media_type", "compressed bodies are not accepted")
        claimed = request.headers.get("content-length", "0")
        if claimed.isdecimal() and int(claimed[:20]) > self.limits.max_bytes + LARGEST_FRAME:
            raise too_large(self.limits.max_bytes)
        if boundary:
            if self._takes_bytes and request.query_params:
                raise RefusedError(400, "bad_argument", "fields in the query of a form: give them in the form")
            form = FormBody(self._folder, self.limits.max_bytes)
            form.begin(boundary, self._field, self.limits.most_files)
            return form
        raw = RawBody(self._folder, self.limits.max_bytes)
        raw.begin(request.query_params.multi_items())
        return raw

    async def _receive(self, request: Request, body: Body) -> None:
        loop = asyncio.get_running_loop()
        end, request.state.unread = loop.time() + self.limits.body_seconds, True
        sender = None
        try:
            async with asyncio.timeout(None) as clock:
                with self._place(clock) as sender:
                    while request.state.unread:
                        sender.wait_until(min(end, loop.time() + self.limits.idle_seconds))
                        message = await request.receive()
                        if message["type"] == "http.disconnect":
                            raise ClientDisconnect
                        data = message.get("body", b"")
                        request.state.unread = message.get("more_body", False)
                        sender.size += len(data)
                        if sender.size > self.limits.max_bytes + LARGEST_FRAME:
                            raise too_large(self.limits.max_bytes)
                        body.write(data)
        except TimeoutError:
            slow = RefusedError(408, "slow", "the upload took too long")
            raise (sender and sender.refusal) or slow from None
        except OSError as error:
            raise RefusedError(503, "disk", f"the upload could not be stored: {error.strerror}") from None
        finally:
            body.close()
        body.check_complete()

    @contextmanager
    def _place(self, clock: asyncio.Timeout) -> Iterator[_Sender]:
        if self._ended:
            raise self._ended
        now = asyncio.get_running_loop().time()
        if len(self._senders) >= self.limits.receiving:
            slow = [sender for sender in self._senders if now - sender.begin > MOMENT]
            if not slow:
                raise RefusedError(503, "busy", "too many files are being sent; try again soon")
            slowest = min(slow, key=lambda sender: sender.size / (now - sender.begin))
            self._senders.discard(slowest)
            slowest.end(RefusedError(408, "slow", "the upload was slower than others that wait for its place"))
        sender = _Sender(clock, now)
        self._senders.add(sender)
        try:
            yield sender
        finally:
            self._senders.discard(sender)


class _Sender:
    """An upload under way: when it began, how much came, and the clock that ends it."""

    def __init__(self, clock: asyncio.Timeout, begin: float) -> None:
        self._clock, self.begin, self.size = clock, begin, 0
        self.refusal: RefusedError | None = None

    def wait_until(self, when: float) -> None:
        if self.refusal is None:
            self._clock.reschedule(when)

    def end(self, refusal: RefusedError) -> None:
        if not self._clock.expired():
            self.refusal = refusal
            self._clock.reschedule(0)


async def drain(request: Request) -> None:
    """Reads and drops more of a refused body, so that a sender who is still sending gets to see the answer."""
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while getattr(request.state, "unread", True) and size < DRAIN_BYTES:
                message = await request.receive()
                size += len(message.get("body", b""))
                request.state.unread = message.get("more_body", False)
