"""WebSockets as uvicorn speaks them, in silence where they are refused, and with an end for those who do not read."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

END_SECONDS = 1.0  # at the end of the server, for a reader to take what is on its way


class RefusingSocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's protocol, which takes a refusal with a body for a bug and prints a line, as any sender could cause."""

    def shutdown(self) -> None:
        """Ends the connection, also that of a reader who takes nothing."""
        super().shutdown()
        self.loop.call_later(END_SECONDS, self.transport.abort)

    async def send(self, message: Any) -> None:
        """Sends a message of the application."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True
