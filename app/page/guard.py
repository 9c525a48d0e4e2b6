"""Stands between visitors and Gradio: passes on what the page needs, and nothing that names a file or an address.

Gradio's own routes take any body, open any path in its folder and fetch any address. Here each route and method is
listed, each body is read within limits and written anew from values that were checked, uploads are received by the
server's own `Receiver`, and what Gradio keeps for a session is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuromoco.app.page.gradio_parts import API, MOST_QUEUED, GradioSessions
from neuromoco.app.page.sessions import Sessions
from neuromoco.app.page.uploads import KEPT_SECONDS, Uploads
from neuromoco.app.server.access import CLOSED
from neuromoco.app.server.bodies import clean_name
from neuromoco.app.server.errors import RefusedError
from neuromoco.app.server.upload import Receiver, drain

LARGEST_CALL = 1 << 14  # bytes of JSON
CALL_SECONDS = 10.0  # longest duration until a call's body is there
LONGEST_TEXT = 200
LARGEST_NUMBER = 1e12
TEXTS = ("radio", "dropdown", "textbox")
TIDY_SECONDS = 15.0
MADE_AT_ONCE = 4
SESSION = r"[0-9A-Za-z-]{1,64}"
PASSED = re.compile(rf"/config|/theme\.css|/favicon\.ico|{API}/info")
FILES = re.compile(r"/(assets|static)/([\w-][\w.-]*/)*[\w-][\w.-]*")  # no part begins with a dot
RESULT = re.compile(rf"{API}/call/classify/([0-9a-f]{{32}})")
# Gradio's HTML control evaluates the page's own templates, so evaluation cannot be forbidden; other scripts can.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' {scripts}; style-src 'self' 'unsafe-inline'; "
    f"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; base-uri 'self'; {CLOSED}"
)
MANIFEST = '<link rel="manifest" href="/manifest.json" />'  # of an app to install, which the page is not
# What Gradio is told of a visitor's request.
TOLD = {b"host", b"accept", b"if-none-match", b"if-modified-since"}


class Call(BaseModel):
    """The body of a call, as far as it is passed on."""

    data: list[Any] = Field(max_length=16)
    fn_index: int | None = Field(None, ge=0, le=10_000)
    session_hash: str | None = Field(None, pattern=f"^{SESSION}$")
    trigger_id: int | None = Field(None, ge=0, le=1_000_000)


class Guard:
    """The application that visitors ask.

    Args:
        gradio: Gradio's application.
        kept: what Gradio keeps of sessions.
        uploads: visitors' files.
        receiver: receives them.
    """

    def __init__(self, gradio: ASGIApp, kept: GradioSessions, uploads: Uploads, receiver: Receiver) -> None:
        self._gradio, self._kept, self._uploads, self._receiver = gradio, kept, uploads, receiver
        self._sessions = Sessions(kept.forget)
        self._making = asyncio.Semaphore(MADE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or keeps things tidy while the application runs."""
        if scope["type"] == "lifespan":
            tidying = asyncio.create_task(self._tidy())
            await self._gradio(scope, receive, send)
            tidying.cancel()
            return
        request = Request(scope, receive)
        try:
            answer = await self._answer(request, send)
        except RefusedError as error:
            answer = JSONResponse({"detail": str(error)}, error.status)
            if error.status == 503:
                answer.headers["retry-after"] = "1"
            if getattr(request.state, "unread", True) and request.method == "POST":
                if error.code not in ("slow", "ending"):
                    await drain(request)
                answer.headers["connection"] = "close"
        except ClientDisconnect:
            return
        if answer is not None:
            await answer(scope, receive, send)

    async def _answer(self, request: Request, send: Send) -> Response | None:
        """The answer, or None if Gradio sent one."""
        path = request.scope["path"]
        match request.method, path:
            case "GET" | "HEAD", "/":
                return await self._front(request)
            case "GET", "/gradio_api/upload_progress":
                return Response(status_code=204)  # there is none to watch; the browser stops asking
            case "POST", "/gradio_api/upload":
                return await self._upload(request)
            case "GET", _ if PASSED.fullmatch(path):
                return await self._collected(request)
            case "GET", _ if FILES.fullmatch(path):
                await self._pass(request, send)
            case "GET", "/gradio_api/queue/data":
                await self._messages(request, send, request.query_params.get("session_hash", ""))
            case "GET", _ if match := RESULT.fullmatch(path):
                session = self._kept.session_of(match[1]) or ""
                await self._messages(request, send, session)
                await self._sessions.drop(session)  # it was this call's alone
            case "POST", "/gradio_api/queue/join":
                await self._call(request, send, None)
            case "POST", "/gradio_api/call/classify" | "/gradio_api/call/classify/":
                await self._call(request, send, "classify")
            case _:
                request.state.unread = request.method == "POST"
                raise RefusedError(404, "no_route", "there is nothing here")
        return None

    async def _pass(self, request: Request, send: Send, query: bytes = b"", body: bytes = b"") -> None:
        told: list[Message] = [{"type": "http.request", "body": body}]

        async def receive() -> Message:
            return told.pop() if told else await request.receive()

        headers = [pair for pair in request.scope["headers"] if pair[0] in TOLD]
        if body:
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if FILES.fullmatch(request.scope["path"]):
            headers += [pair for pair in request.scope["headers"] if pair[0] == b"accept-encoding"]
        scope = {**request.scope, "query_string": query, "headers": headers, "state": {}}
        await self._gradio(scope, receive, send)

    async def _collected(self, request: Request) -> Response:
        """A small answer as a whole, of which only a few are made at a time: each takes megabytes in Gradio."""
        answer = Response()
        answer.body = b""

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status_code, answer.raw_headers = message["status"], list(message["headers"])
            answer.body = bytes(answer.body) + message.get("body", b"")

        async with self._making:
            await self._pass(request, collect)
        return answer

    async def _front(self, request: Request) -> Response:
        """The page, whose own scripts carry a word that nobody can guess: others do not run."""
        made, word = await self._collected(request), secrets.token_urlsafe(16)
        html = bytes(made.body).decode().replace("<script", f'<script nonce="{word}"').replace(MANIFEST, "")
        policy = {"content-security-policy": POLICY.format(scripts=f"'nonce-{word}'")}
        return Response(html, made.status_code, policy, "text/html; charset=utf-8")

    async def _upload(self, request: Request) -> Response:
        async with self._receiver.received(request) as upload:
            if not upload.files:
                raise RefusedError(400, "invalid", "the form has no file in its field `files`")
            return JSONResponse([self._uploads.keep(upload.files[0].path, upload.files[0].name)])

    async def _call(self, request: Request, send: Send, name: str | None) -> None:
        call = await _read(request)
        found = self._kept.inputs(None, name) if name else self._kept.inputs(call.fn_index, None)
        if found is not None and name:  # programs may leave out the texts at the end, which came later
            texts = [control for control in found[1][len(call.data) :] if control.get_block_name() == "textbox"]
            call.data += [control.value for control in texts]
        if found is None or len(found[1]) != len(call.data):
            raise RefusedError(400, "invalid", "there is no such function with so many inputs")
        if call.session_hash is None or name:
            call.session_hash = secrets.token_hex(16)
        call.fn_index = found[0]
        call.data = [self._checked(control, value) for control, value in zip(found[1], call.data, strict=True)]
        if len(queued := self._kept.queued()) >= MOST_QUEUED - 1:  # those who do not listen for the answer give way
            deaf = next((session for session in queued if not self._sessions.is_read(session)), None)
            if deaf is not None:
                await self._sessions.drop(deaf)
        if not await self._sessions.touch(call.session_hash):
            raise RefusedError(503, "busy", "too many visitors wait for answers; try again soon")
        await self._pass(request, send, body=call.model_dump_json().encode())

    def _checked(self, control: Any, value: Any) -> Any:
        kind = control.get_block_name()
        if kind == "state" or value is None:
            return None
        if kind == "file":
            place = value.get("path") if isinstance(value, dict) else None
            if self._uploads.find(place) is None:
                raise RefusedError(400, "invalid", f"not the place of an upload; send the file to {API}/upload first")
            name = clean_name(str(place))
            return {"path": place, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        is_text = isinstance(value, str) and len(value) <= LONGEST_TEXT
        if not (kind == "number" and is_number and abs(value) <= LARGEST_NUMBER) and not (kind in TEXTS and is_text):
            raise RefusedError(400, "invalid", f"not a value of a {kind}")
        return value

    async def _messages(self, request: Request, send: Send, session: str) -> None:
        if not self._kept.awaits(session):
            raise RefusedError(404, "no_session", "nothing is awaited by this session")
        if self._sessions.is_read(session):
            raise RefusedError(409, "read", "this session is read already")
        with self._sessions.read(session):
            await self._pass(request, send, query=f"session_hash={session}".encode())

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._uploads.tidy, KEPT_SECONDS - 2 * TIDY_SECONDS)
            await self._sessions.drop_old()


async def _read(request: Request) -> Call:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":  # the kinds that forms elsewhere can send are others
        raise RefusedError(415, "no_json", "send application/json")
    body = b""
    request.state.unread = True
    try:
        async with asyncio.timeout(CALL_SECONDS):
            async for part in _parts(request):
                body += part
                if len(body) > LARGEST_CALL:
                    raise RefusedError(413, "too_large", f"a call has at most {LARGEST_CALL} bytes")
    except TimeoutError:
        raise RefusedError(408, "slow", "the call took too long") from None
    try:
        return Call.model_validate_json(body)
    except (ValidationError, ValueError, RecursionError):
        raise RefusedError(400, "invalid", "not the JSON of a call") from None


async def _parts(request: Request) -> AsyncIterator[bytes]:
    while request.state.unread:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        request.state.unread = message.get("more_body", False)
        yield message.get("body", b"")
