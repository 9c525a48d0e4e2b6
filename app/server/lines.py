"""Answers in lines of JSON (NDJSON), sent as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "application/x-ndjson"


class LinesResponse(Response):
    """Sends lines until they end, or the client leaves.

    Args:
        first: lines that are known already.
        lines: all others, some at a time.
        held: closed when the response ends, such as the files that are read.
    """

    def __init__(
        self, first: Sequence[dict[str, Any]], lines: AsyncGenerator[Sequence[dict[str, Any]]], held: AsyncExitStack
    ) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._first, self._lines, self._held = first, lines, held
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response."""
        async with self._held:
            sending = asyncio.create_task(self._send(send))
            leaving = asyncio.create_task(_until_gone(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                leaving.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)
                await self._lines.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": _encoded(self._first), "more_body": True})
        async for some in self._lines:
            await send({"type": "http.response.body", "body": _encoded(some), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _encoded(lines: Sequence[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
