"""How many sessions the page keeps: names of sessions are the visitors', so anyone can invent any number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

MOST_SESSIONS = 32
SESSION_SECONDS = 900.0  # without a call; recordings are gone before that
UNREAD_SECONDS = 30.0  # visitors read the answers to their calls at once


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
        self._unread: set[str] = set()  # those that nobody has read at all

    def is_read(self, session: str) -> bool:
        """Whether a visitor reads the messages of a session."""
        return session in self._read

    @contextmanager
    def read(self, session: str) -> Iterator[None]:
        """Marks a session as read for a while."""
        self._read.add(session)
        self._unread.discard(session)
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
        if session not in self._called:
            self._unread.add(session)
        self._called[session] = time.monotonic()
        self._called.move_to_end(session)
        return True

    async def drop(self, session: str) -> None:
        """Forgets a session."""
        self._called.pop(session, None)
        self._unread.discard(session)
        await self._forget(session)

    async def drop_old(self) -> None:
        """Forgets the sessions that have not called for long, and those whose answers nobody reads."""
        now = time.monotonic()
        for session, when in list(self._called.items()):
            most = UNREAD_SECONDS if session in self._unread else SESSION_SECONDS
            if now - when > most and session not in self._read:
                await self.drop(session)
