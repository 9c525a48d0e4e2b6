"""Receives a form with one file from an untrusted sender, within limits of size, time and number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

MOST_FIELDS = 16
LARGEST_FIELD = 1024  # bytes
LARGEST_FRAME = 1 << 16  # bytes of a form besides the file: fields, headers, boundaries
LONGEST_NAME = 100
LONGEST_NAME_BYTES = 200  # file systems take 255
DRAIN_SECONDS = 1.0
DRAIN_BYTES = 1 << 24
logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # it would print a line of any damaged form
MOMENT = 0.5  # seconds until an upload can be called slow


@dataclass(frozen=True)
class Limits:
    """Limits of a server."""

    max_bytes: int = 64 << 20  # of a file
    waiting: int = 16  # uploads that may wait for a worker; further ones are refused
    receiving: int = 32  # uploads under way; the slowest gives way to a further one
    body_seconds: float = 60.0  # longest duration of an upload
    idle_seconds: float = 10.0  # longest pause within an upload
    seconds: float = 20.0  # of an analysis, see `sandbox.Sandbox`
    memory: int = 1 << 30  # bytes of an analysis


class RefusedError(Exception):
    """The server refuses a request, with an HTTP status and an outcome for the metrics."""

    def __init__(self, status: int, outcome: str, message: str) -> None:
        super().__init__(message)
        self.status, self.outcome = status, outcome


@dataclass(frozen=True)
class Upload:
    """A received form."""

    file: Path | None  # None if the form had no file
    name: str  # the sender's name of the file; safe to print, never opened
    fields: dict[str, str]
    size: int  # of the file in bytes


def clean_name(name: str) -> str:
    """The last part of a path, without characters that move a cursor or make it look like an option."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(letter for letter in last if letter.isprintable()).strip()[:LONGEST_NAME]
    short = printable.encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")
    return short.rstrip(" .").lstrip(" .-") or "upload"


class Receiver:
    """Receives the forms of a server, several at a time.

    Senders take no place in the queue for a worker until their form is complete; when too many send at a time, the
    slowest of those that had a moment to send gives way.

    Args:
        folder: for the files; exists.
        limits: of each form, and of their number.
        field: the form's field with the file.
    """

    def __init__(self, folder: Path, limits: Limits, field: str = "file") -> None:
        self._folder, self.limits, self._field = folder, limits, field
        self._senders: set[_Sender] = set()
        self._ended: RefusedError | None = None

    def __len__(self) -> int:
        return len(self._senders)

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[Upload]:
        """The form of a request; the file is deleted when the context ends.

        Raises:
            RefusedError: not a form, too large, too slow, or damaged.
            ClientDisconnect: the sender disconnected.
        """
        path = self._folder / secrets.token_hex(16)
        form = _Form(path, self.limits, self._field)
        try:
            await self._receive(request, form)
            yield Upload(path if form.has_file else None, form.file_name, form.fields, form.size)
        finally:
            path.unlink(missing_ok=True)

    def end(self) -> None:
        """Refuses the uploads under way, and those to come."""
        self._ended = RefusedError(503, "ending", "the server is ending; try again soon")
        for sender in list(self._senders):
            sender.end(self._ended)

    async def _receive(self, request: Request, form: _Form) -> None:
        parser = _parser(request, form)
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
                        body = message.get("body", b"")
                        request.state.unread = message.get("more_body", False)
                        sender.size += len(body)
                        if sender.size > self.limits.max_bytes + LARGEST_FRAME:
                            raise _too_large(self.limits)
                        parser.write(body)
        except TimeoutError:
            slow = RefusedError(408, "slow", "the upload took too long")
            raise (sender and sender.refusal) or slow from None
        except FormParserError as error:
            raise RefusedError(400, "bad_form", f"the form is damaged: {' '.join(str(error).split())[:200]}") from None
        except OSError as error:
            raise RefusedError(503, "disk", f"the upload could not be stored: {error.strerror}") from None
        finally:
            form.close()
        if not form.ended:
            raise RefusedError(400, "bad_form", "the form is truncated: its last boundary is missing")

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


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, "too_large", f"the file is too large; at most {limits.max_bytes:,} bytes are accepted")


def _parser(request: Request, form: _Form) -> MultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise RefusedError(
            415, "no_form", "send the file as multipart/form-data, for example: curl -F file=@walk.aedat4 URL/classify"
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "no_form", "compressed bodies are not accepted")
    claimed = request.headers.get("content-length", "0")
    if claimed.isdecimal() and int(claimed[:20]) > form.limits.max_bytes + LARGEST_FRAME:
        raise _too_large(form.limits)
    try:
        return MultipartParser(options[b"boundary"], form.callbacks())  # type: ignore[arg-type]
    except FormParserError as error:
        raise RefusedError(400, "bad_form", str(error)) from None


class _Form:
    """Collects the parts of a form from a parser's callbacks."""

    def __init__(self, path: Path, limits: Limits, file_field: str) -> None:
        self._path, self.limits, self._file_field = path, limits, file_field
        self._file: IO[bytes] | None = None
        self._header, self._value, self._text = bytearray(), bytearray(), bytearray()
        self._disposition, self._field, self._parts = "", "", 0
        self.fields: dict[str, str] = {}
        self.file_name, self.size = "upload", 0
        self.has_file, self.ended = False, False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": lambda: setattr(self, "ended", True),
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_FIELDS:
            raise RefusedError(400, "bad_form", f"more than {MOST_FIELDS} fields")
        self._disposition = ""
        self._text.clear()

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or not options.get(b"name"):
            raise RefusedError(400, "bad_form", "a part of the form has no name")
        self._field = options[b"name"].decode("utf-8", "replace")
        if self._field != self._file_field:
            return
        if self.has_file:
            raise RefusedError(400, "bad_form", "more than one file; send one at a time")
        self.has_file = True
        self.file_name = clean_name(options.get(b"filename", b"").decode("utf-8", "replace"))
        self._file = os.fdopen(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            self._text += data[start:end]
            if len(self._text) > LARGEST_FIELD:
                raise RefusedError(400, "bad_form", f"a field of more than {LARGEST_FIELD} bytes")
            return
        self.size += end - start
        if self.size > self.limits.max_bytes:
            raise _too_large(self.limits)
        self._file.write(data[start:end])

    def _part_end(self) -> None:
        if self._file is None:
            self.fields[self._field] = self._text.decode("utf-8", "replace")
        self.close()
