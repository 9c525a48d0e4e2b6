"""WebSockets as uvicorn speaks them, in silence where they are refused."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class RefusingSocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's protocol, which takes a refusal with a body for a bug and prints a line, as any sender could cause."""

    async def send(self, message: Any) -> None:
        """Sends a message of the application."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True
