"""The loop of `neuromoco live`: chunks from an inbox, answers and segments to whoever prints them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from neuromoco.app.live.inbox import Inbox
from neuromoco.app.live.source import Source
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.runtime.live_segments import LiveSegments
from neuromoco.runtime.timeline import Segment
from neuromoco.runtime.window_classifier import WindowAnswer, WindowClassifier

WAIT_SECONDS = 0.05
SILENT_SECONDS = 0.2  # without events, after which a camera's clock goes on by this machine's
BEHIND_SECONDS = 0.1  # by which it then stays behind, for what is still on its way
MOST_LATENCIES = 100_000
MOST_FAILURES = 10  # streams one after another without an answer, where a source goes on


@dataclass(frozen=True)
class Told:
    """An answer, with what happened on its way.

    Attributes:
        answer: for a window.
        latency_ms: from the arrival of the chunk that completed it; None if the clock did.
        dropped: events that were dropped since the answer before.
    """

    answer: WindowAnswer
    latency_ms: float | None
    dropped: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**self.answer.to_json(), "latency_ms": self.latency_ms, "dropped": self.dropped}


News: TypeAlias = Told | Segment | str  # a str is a note for people


@dataclass
class Totals:
    """What came, and what became of it.

    Attributes:
        events: that were answered.
        dropped: events that nobody had time for.
        losses: what the source lost, see `Source`.
        late: events that came late, and counted when they came.
        labels: windows by label.
    """

    events: int = 0
    dropped: int = 0
    windows: int = 0
    still: int = 0
    unlike: int = 0
    late: int = 0
    seconds: float = 0.0
    losses: dict[str, int] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    _latencies: list[float] = field(default_factory=list)

    def add(self, told: Told) -> None:
        """Counts an answer."""
        self.windows += 1
        prediction = told.answer.prediction
        if prediction is None:
            self.still += 1
        else:
            self.labels[prediction.label] += 1
            self.unlike += prediction.fit is not None and not prediction.fit.fits
        if told.latency_ms is not None:
            if len(self._latencies) == MOST_LATENCIES:
                del self._latencies[: MOST_LATENCIES // 2]
            self._latencies.append(told.latency_ms)

    def latency(self, percent: float) -> float | None:
        """A percentile of the latencies of the last answers, in milliseconds."""
        return round(float(np.percentile(self._latencies, percent)), 3) if self._latencies else None

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            **{name: getattr(self, name) for name in ("events", "dropped", "windows", "still", "unlike", "late")},
            **self.losses,
            "seconds": round(self.seconds, 3),
            "latency_ms": {"median": self.latency(50), "p99": self.latency(99)},
            "labels": dict(self.labels.most_common()),
        }


class LiveAnswers:
    """Answers a source until it ends, or `close` is called.

    Args:
        source: of events.
        classifier: of their windows.
        segments: of its answers.
    """

    def __init__(self, source: Source, classifier: WindowClassifier, segments: LiveSegments) -> None:
        self._source, self._classifier, self._segments = source, classifier, segments
        self._inbox = Inbox(source)
        self._dropped = 0  # since the last answer
        self._seen: tuple[int, float] | None = None  # time of the latest event, and when it came
        self.totals = Totals()

    def news(self) -> Generator[News]:
        """Answers, segments that ended, and notes, as they come.

        Raises:
            NeuromocoError: of the source, or of events that fit no stream.
        """
        begin, failures = time.monotonic(), 0
        self._inbox.start()
        try:
            while True:
                try:
                    batch = self._inbox.next(WAIT_SECONDS)
                except EOFError:
                    return
                yield from self._inbox.notes()
                if batch is None:
                    yield from self._told(self._classifier.advance(self._camera_time()), None)
                    continue
                self._dropped += batch.dropped
                self.totals.events += len(batch.events)
                try:
                    answers = self._classifier.feed(batch.events)
                except (EventFileError, ConfigError) as error:
                    failures += 1
                    if not self._source.goes_on or failures > MOST_FAILURES:
                        raise
                    yield from self.last()
                    yield f"{self._source.name}: {error}; from here on, it is another stream"
                    continue
                failures = 0 if answers else failures
                self._seen = self._classifier.latest, batch.arrived
                yield from self._told(answers, batch.arrived)
        finally:
            self._inbox.close()
            self.totals.seconds = time.monotonic() - begin
            self.totals.dropped, self.totals.late = self._inbox.dropped, self._classifier.late
            self.totals.losses = self._source.losses()

    def last(self) -> Iterator[News]:
        """The answer for the window that had begun, and the segments that had not ended."""
        yield from self._told(self._classifier.finish(), None)
        yield from self._segments.finish(self._classifier.elapsed_us)

    def _told(self, answers: list[WindowAnswer], arrived: float | None) -> Iterator[News]:
        latency = None if arrived is None else round(1e3 * (time.monotonic() - arrived), 3)
        for answer in answers:
            told = Told(answer, latency, self._dropped)
            self._dropped = 0
            self.totals.add(told)
            yield told
            yield from self._segments.add(answer)

    def _camera_time(self) -> int:
        """What a camera's clock says where nothing has come for a while; before every event if that is not known."""
        if self._seen is None or not self._source.clock_rate:
            return 0
        time_us, arrived = self._seen
        silent = time.monotonic() - arrived
        if silent < SILENT_SECONDS:
            return time_us
        return time_us + round(1e6 * (silent - BEHIND_SECONDS) * self._source.clock_rate)
