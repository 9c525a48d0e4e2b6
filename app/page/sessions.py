"""How many sessions the page keeps: names of sessions are the visitors', so anyone can invent any number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

MOST_SESSIONS = 64
SESSION_SECONDS = 900.0  # without a call; recordings are gone before that


class Sessions:
    """The sessions that called, the one that called last at the end.

    One too many drops the oldest that nobody reads at the moment.

    Args:
        forget: drops all that is kept for a session.
    """

    def __init__(self, forget: Callable[[str], Awaitable[None]]) -> None:
        self._forget = forget
        self._called: OrderedDict[str, float] = OrderedDict()
        self._read: set[str] = set()

    def is_read(self, session: str) -> bool:
        """Whether a visitor reads the messages of a session."""
        return session in self._read

    @contextmanager
    def read(self, session: str) -> Iterator[None]:
        """Marks a session as read for a while."""
        self._read.add(session)
        try:
            yield
        finally:
            self._read.discard(session)

    async def touch(self, session: str) -> bool:
        """Notes a call; False if there is no room for its session."""
        if session not in self._called and len(self._called) >= MOST_SESSIONS:
            unread = next((one for one in self._called if one not in self._read), None)
            if unread is None:
                return False
            await self.drop(unread)
        self._called[session] = time.monotonic()
        self._called.move_to_end(session)
        return True

    async def drop(self, session: str) -> None:
        """Forgets a session."""
        self._called.pop(session, None)
        await self._forget(session)

    async def drop_old(self) -> None:
        """Forgets the sessions that have not called for long."""
        latest = time.monotonic() - SESSION_SECONDS
        for session in [one for one, when in self._called.items() if when < latest and one not in self._read]:
            await self.drop(session)
