"""What a source has sent and nobody has looked at yet, within a limit."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple

from neuromoco.app.live.source import Source, joined
from neuromoco.errors import NeuromocoError
from neuromoco.events import Recording

MOST_EVENTS = 2_000_000  # that wait; 13 bytes each
TOGETHER = 1 << 16  # events that are taken at once, approximately


class Batch(NamedTuple):
    """Events that were taken together.

    Attributes:
        events: of all chunks.
        arrived: when the first of them came, by `time.monotonic`.
        dropped: events that were dropped since the batch before.
    """

    events: Recording
    arrived: float
    dropped: int


class Inbox:
    """Takes chunks from a source in a thread.

    Where the source can wait, it does while too many events wait here. Where it cannot, as a camera or a network, the
    oldest are dropped and counted, so that answers stay those of now.

    Args:
        source: its chunks are taken from `start` on.
        most_events: that may wait.
    """

    def __init__(self, source: Source, most_events: int = MOST_EVENTS) -> None:
        self._source, self._most = source, most_events
        self._held: deque[tuple[float, Recording]] = deque()
        self._events = self._dropped = 0
        self._notes: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._error: NeuromocoError | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._take, name="neuromoco-source", daemon=True)

    def start(self) -> None:
        """Begins to take chunks."""
        self._thread.start()

    def close(self) -> None:
        """Ends the source."""
        self._source.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(5)

    def notes(self) -> list[str]:
        """What the source said since the last call."""
        with self._changed:
            notes, self._notes = self._notes, []
        return notes

    def next(self, seconds: float) -> Batch | None:
        """The chunks that wait, together; None if none came within a time.

        Raises:
            EOFError: there will be no more.
            NeuromocoError: of the source, after everything that came before.
        """
        with self._changed:
            if not self._held and not self._ended and not self._notes:
                self._changed.wait(seconds)
            if not self._held:
                if self._ended and not self._notes:
                    if self._error is not None:
                        raise self._error
                    raise EOFError
                return None
            arrived, first = self._held.popleft()
            parts, count = [first], len(first)
            while self._held and count < TOGETHER:
                parts.append(self._held.popleft()[1])
                count += len(parts[-1])
            self._events -= count
            dropped, self._dropped = self._dropped, 0
            self._changed.notify_all()
        return Batch(joined(parts), arrived, dropped)

    def _take(self) -> None:
        error: NeuromocoError | None = None
        try:
            for chunk in self._source.chunks():
                if isinstance(chunk, str):
                    with self._changed:
                        self._notes.append(chunk)
                        self._changed.notify_all()
                elif not self._put(chunk):
                    return
        except NeuromocoError as raised:
            error = raised
        except Exception as raised:  # of a library of a camera's, for example
            error = NeuromocoError(f"{self._source.name}: {type(raised).__name__}: {' '.join(str(raised).split())}")
        finally:
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()

    def _put(self, chunk: Recording) -> bool:
        now = time.monotonic()
        with self._changed:
            while self._source.waits and self._events > self._most and not self._ended:
                self._changed.wait(1.0)
            if self._ended:
                return False
            self._held.append((now, chunk))
            self._events += len(chunk)
            while not self._source.waits and self._events > self._most and len(self._held) > 1:
                _, oldest = self._held.popleft()
                self._events -= len(oldest)
                self._dropped += len(oldest)
                self.dropped += len(oldest)
            self._changed.notify_all()
        return True
