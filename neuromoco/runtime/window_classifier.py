"""Classification of a stream of events, chunk by chunk, in windows of equal duration, with any model that takes frames.

`neuromoco.runtime.stream` has steps of equal numbers of events and keeps the network's state between them; here each
window is answered as if it were a recording, so answers are those of `neuromoco predict --window`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neuromoco.confidence import abstention
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import Recording
from neuromoco.events.clock import Clock
from neuromoco.frames import Grid, bounds_in, cropped
from neuromoco.runtime.activity import usual_rate
from neuromoco.runtime.counted_events import CountedEvents, Rolling
from neuromoco.runtime.load import LoihiClassifier, OnnxClassifier
from neuromoco.runtime.prediction import FrameNetwork, Prediction, answer, timed
from neuromoco.runtime.timeline import TimelineRule

if TYPE_CHECKING:
    from neuromoco.runtime.load import AnyClassifier

QUIET = 0.1  # of the usual events per second; with fewer, nothing moves in a window
MOST_EVENTS = 16_000_000  # that are held for a window: 16 bytes each
SHORTEST_US = 1000  # of a window and of a stride


@dataclass(frozen=True)
class WindowAnswer:
    """The answer for a window of a stream.

    Attributes:
        window: begin and end in microseconds from the first event; several windows without events are one.
        events: how many there are.
        prediction: None where nothing moves: there are no events, or less than a tenth of the usual ones.
        by_us: time of the event, or of the clock, that completed it, from the first event.
    """

    window: tuple[int, int]
    events: int
    prediction: Prediction | None
    by_us: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON: as `neuromoco predict --window --json`, with the number of events."""
        facts: dict[str, Any] = {"window_us": list(self.window), "events": self.events}
        return facts | ({"label": None} if self.prediction is None else self.prediction.to_json())


class WindowClassifier:
    """Answers for each window of a stream as soon as an event after it comes.

    Events are counted into frames as they come, so that the end of a window costs little, however many there are.
    Those that are late by up to 10 ms count when they come; a clock that was set back goes on.

    Attributes:
        window_us, stride_us: length of a window, and from one to the next.
        late: events that came late.

    Examples:
        >>> import neuromoco
        >>> from neuromoco.events import read_windows
        >>> from neuromoco.runtime.window_classifier import WindowClassifier
        >>> stream = WindowClassifier(neuromoco.load_classifier("models/sew_resnet_tiny-digits.onnx"), 310_000)
        >>> chunks = read_windows("models/examples/3.bin", 5_000)  # of 5 ms
        >>> answers = [answer for chunk in chunks for answer in stream.feed(chunk)] + stream.finish()
        >>> [answer.prediction.label for answer in answers]
        ['3']
    """

    def __init__(
        self,
        classifier: AnyClassifier,
        window_us: int | None = None,
        stride_us: int | None = None,
        abstain: float | None = None,
        most_events: int = MOST_EVENTS,
    ) -> None:
        """Begins a stream.

        Args:
            classifier: of any backend; its network takes frames.
            window_us: 1 ms or more; by default midway between the shortest and the longest training recording.
            stride_us: from one window to the next, 1 ms or more; by default the length of a window.
            abstain: share of errors among the answers that are given, see `neuromoco.confidence.abstention`.
            most_events: that are held for a window.

        Raises:
            ConfigError: a network that takes events, a length that is not allowed, or a level without recordings.
        """
        header = classifier.header
        if getattr(header, "input", "frames") == "events":
            raise ConfigError("this model takes events and cuts them itself: export it with --input frames")
        if abstain is not None:
            abstention(header.calibration, abstain)
        self.window_us = window_us or max(SHORTEST_US, TimelineRule.for_recordings(header.seen, {}).window_us)
        self.stride_us = stride_us or self.window_us
        if self.window_us < SHORTEST_US:
            raise ConfigError(f"windows of {self.window_us / 1e3:g} ms; they last 1 ms or more")
        if not SHORTEST_US <= self.stride_us <= self.window_us:
            raise ConfigError(
                f"a stride of {self.stride_us / 1e3:g} ms with windows of {self.window_us / 1e3:g} ms; it is at most "
                "as long, and 1 ms or more"
            )
        self._header, self._abstain, self._most_events = header, abstain, most_events
        is_export = isinstance(classifier, OnnxClassifier | LoihiClassifier)
        self._network: FrameNetwork = classifier.network if is_export else classifier  # type: ignore[assignment]
        self._fewest = QUIET * usual_rate(header.seen) * self.window_us / 1e6
        self._clock = Clock()
        self._sensor = (0, 0)
        self._events: CountedEvents | None = None  # in the part of the sensor that the network sees
        self._all = Rolling(np.int64)  # times of all events, if it sees a part only
        self._first = self._latest = 0  # times of the first event, and of the latest or the clock
        self._begin = 0  # of the current window, from the first event
        self.late = 0

    @property
    def latest(self) -> int:
        """Time of the latest event, or of the camera's clock."""
        return self._latest

    @property
    def elapsed_us(self) -> int:
        """Microseconds from the first event to there."""
        return self._latest - self._first

    def feed(self, chunk: Recording) -> list[WindowAnswer]:
        """Takes the next events, and returns the answers that they complete.

        Args:
            chunk: events that follow those of earlier chunks, from the same sensor.

        Raises:
            ConfigError: the sensor has another size, or a window has too many events.
            EventFileError: the part of the sensor that the network uses lies outside this one, or times are damaged.
        """
        return list(self.answers(chunk))

    def answers(self, chunk: Recording) -> Iterator[WindowAnswer]:
        """The same, one by one: a chunk may complete thousands of windows, and each is answered when it is asked for.

        Args:
            chunk: is taken when the first answer is asked for; the next chunk may come after the last one.

        Raises:
            ConfigError, EventFileError: as `feed`.
        """
        if not len(chunk):
            return
        events = self._events or self._start(chunk)
        if (chunk.height, chunk.width) != self._sensor:
            before = f"{self._sensor[1]} x {self._sensor[0]}"
            raise ConfigError(f"a chunk of a {chunk.width} x {chunk.height} sensor after one of {before}")
        chunk = self._in_order(chunk)
        part = cropped(chunk, self._header.frames)
        events.add(part.t, part.x, part.y, part.p)
        if part is not chunk:
            self._all.add(chunk.t)
        self._latest = int(chunk.t[-1])
        yield from self._complete(self._latest)
        if len(events) + len(self._all) > self._most_events:
            most = f"{self._most_events:,} events in a window of {self.window_us / 1e3:g} ms"
            raise ConfigError(f"more than {most}: choose shorter windows")

    def advance(self, time: int) -> list[WindowAnswer]:
        """Takes the time of the camera's clock, for a camera that sends nothing while nothing moves."""
        if self._events is None or time <= self._latest:
            return []
        self._latest = time
        return list(self._complete(time))

    def finish(self) -> list[WindowAnswer]:
        """Ends the stream, and returns the answer for the window that has begun, if it has events."""
        if self._events is None:
            return []
        answers, by = [], self._latest - self._first
        if self._latest >= self._first + self._begin:
            answers = [one for one in [self._answer(self._begin, by)] if one.events]
        self._events = None
        return answers

    def _start(self, chunk: Recording) -> CountedEvents:
        frames = self._header.frames
        part = cropped(chunk, frames)
        self._sensor = (chunk.height, chunk.width)
        self._events = CountedEvents(Grid((part.height, part.width), (frames.height, frames.width)))
        self._all, self._clock = Rolling(np.int64), Clock()
        self._first = self._latest = int(chunk.t[0])
        self._begin = 0
        return self._events

    def _in_order(self, chunk: Recording) -> Recording:
        t = chunk.t
        if self._clock.in_order and int(t[0]) >= self._latest and bool(np.all(t[1:] >= t[:-1])):
            self._clock.continued(t)
            return chunk
        t = self._clock.continued(t)
        if self._clock.disordered:
            raise EventFileError("times of the stream run back again and again: they are those of no clock")
        ordered = np.maximum(np.maximum.accumulate(t), self._latest)
        self.late += int(np.count_nonzero(ordered != t))
        return Recording(ordered, chunk.x, chunk.y, chunk.p, chunk.width, chunk.height, chunk.source)

    def _complete(self, latest: int) -> Iterator[WindowAnswer]:
        while latest >= self._first + self._begin + self.window_us:
            now = self._answer(self._begin, latest - self._first)
            steps = 1
            if not now.events:  # what is empty is one answer, up to the next event
                following = self._next_time(latest) - self._first
                steps = max(1, 1 + (following - self._begin - self.window_us) // self.stride_us)
                end = self._begin + (steps - 1) * self.stride_us + self.window_us
                now = WindowAnswer((self._begin, end), 0, None, now.by_us)
            self._begin += steps * self.stride_us
            assert self._events is not None
            self._events.drop(self._events.number_at(self._first + self._begin))
            self._all.drop(int(np.searchsorted(self._all.held, self._first + self._begin)))
            yield now

    def _next_time(self, latest: int) -> int:
        """Time of the first event of the current window and later; that of the clock if there is none."""
        assert self._events is not None
        held = self._all.held if len(self._all) else self._events.times(*self._numbers(self._begin, None))
        at = int(np.searchsorted(held, self._first + self._begin))
        return int(held[at]) if at < len(held) else latest

    def _numbers(self, begin: int, end: int | None) -> tuple[int, int]:
        """Numbers of the first event of a span and of the first after it."""
        assert self._events is not None
        last = self._events.end if end is None else self._events.number_at(self._first + end)
        return self._events.number_at(self._first + begin), last

    def _answer(self, begin: int, by_us: int) -> WindowAnswer:
        assert self._events is not None
        window = (begin, begin + self.window_us)
        first, last = self._numbers(*window)
        if last - first < max(1.0, self._fewest):
            return WindowAnswer(window, last - first, None, by_us)
        config = self._header.frames
        bounds = first + bounds_in(self._events.times(first, last), config.steps, config.slice_by)
        frames, framing = timed(self._events.frames, bounds)
        logits, running = timed(self._network.frame_logits, frames[:, None])
        timings = {"frames": framing, "network": running}
        fit = None
        if self._header.fit is not None:
            duration = self._duration(window, first, last)
            judge = partial(self._header.fit.judge, frames, duration, self._sensor, window=True)
            fit, timings["fit"] = timed(judge)
        prediction = answer(logits[:, 0], self._header, timings, fit, self._abstain)
        return WindowAnswer(window, last - first, prediction, by_us)

    def _duration(self, window: tuple[int, int], first: int, last: int) -> int:
        """From the first event of a window to the last, on the whole sensor."""
        assert self._events is not None
        times = self._events.times(first, last)
        if len(self._all):
            times = self._all.held[slice(*np.searchsorted(self._all.held, [self._first + edge for edge in window]))]
        return int(times[-1]) - int(times[0])
