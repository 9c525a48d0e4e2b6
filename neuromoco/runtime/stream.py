"""Classification of a stream of events, chunk by chunk, with a file of one time step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.confidence import abstention
from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.fit.verdict import Fit
from neuromoco.frames import cropped, to_frames
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.runtime.prediction import Floats, Prediction, answer


class StreamClassifier:
    """Classifies events as they come in: one answer per window of T steps.

    The steps of a window hold equal numbers of events or last equally long, as in training. For the events of one
    recording the answer is that of the whole recording, if its steps are the same.

    Attributes:
        step_size: events per step, or microseconds per step.

    Examples:
        >>> import neuromoco
        >>> from neuromoco.events import read_windows
        >>> report = neuromoco.export(
        ...     "models/sew_resnet_tiny-digits.safetensors", "digits-step.onnx", target="onnx-step", recordings=[]
        ... )
        >>> stream = neuromoco.StreamClassifier("digits-step.onnx")
        >>> chunks = read_windows("models/examples/3.bin", 50_000)  # of 50 ms
        >>> [answer.label for chunk in chunks for answer in stream.feed(chunk)]
        ['3']
    """

    def __init__(
        self,
        path: Path | str,
        step_size: int | None = None,
        stop_at: float | None = None,
        threads: int = 0,
        abstain: float | None = None,
    ) -> None:
        """Opens a file.

        Args:
            path: a file that `neuromoco export --target onnx-step` wrote.
            step_size: events per step (microseconds, if the network's frames are cut by time); by default midway
                between the shortest and the longest training recording.
            stop_at: answer as soon as a class has this probability, and start the next window there.
            threads: of ONNX Runtime; 0 uses one per core.
            abstain: share of errors among the answers that are given, see `neuromoco.confidence.abstention`.

        Raises:
            CheckpointError: not such a file.
            ConfigError: a file of all steps, a number that is not allowed, or a level without enough recordings.
        """
        self._network = OnnxNetwork(path, threads)
        header = self._network.header
        if header.target != "onnx-step":
            raise ConfigError(f"{path}: computes all steps at once; write one with --target onnx-step")
        self._by_count = header.frames.slice_by == "count"
        seen = header.seen
        twice = seen.fewest_events + seen.most_events if self._by_count else seen.shortest_us + seen.longest_us
        self.step_size = max(1, twice // (2 * header.frames.steps)) if step_size is None else step_size
        if self.step_size < 1 or (stop_at is not None and not 0.0 < stop_at <= 1.0):
            raise ConfigError(f"a step of {step_size}, stop at {stop_at}; a step is at least 1, a probability 0 to 1")
        if abstain is not None:
            abstention(header.calibration, abstain)
        self._stop_at, self._abstain = stop_at, abstain
        self._pending: Recording | None = None
        self._last_time: int | None = None
        # Of the current window: the network's state, the logits so far, and the time at which it started.
        self._state = self._network.rest(1)
        self._logits: list[Floats] = []
        self._start: int | None = None
        # And what tells whether it fits: its events so far, step by step, and the sensor's rows and columns.
        self._events: list[Recording] = []
        self._sensor = (0, 0)

    def feed(self, chunk: Recording) -> list[Prediction]:
        """Takes the next events, and returns the answers that they complete.

        Args:
            chunk: events that follow those of earlier chunks, from the same sensor.

        Raises:
            ConfigError: an event is earlier than the last one, or the sensor has another size.
            EventFileError: the part of the sensor that the network uses lies outside this one.
        """
        self._sensor = (chunk.height, chunk.width)
        chunk = cropped(chunk, self._network.header.frames)
        if not len(chunk):
            return []
        if self._last_time is not None and int(chunk.t[0]) < self._last_time:
            raise ConfigError(f"a chunk begins at {int(chunk.t[0])} us, the one before ended at {self._last_time} us")
        self._last_time = int(chunk.t[-1])
        self._pending = chunk if self._pending is None else _joined(self._pending, chunk)
        given = (self._step(size) for size in iter(self._complete, None))
        return [one for one in given if one is not None]

    def finish(self) -> Prediction | None:
        """Ends the stream, and answers for the events since the last answer; None if there are none."""
        last = self._step(len(self._pending)) if self._pending is not None and len(self._pending) else None
        if last is None and self._logits:
            last = replace(self._answer(), fit=self._fit())
        self._pending = self._last_time = None
        self._begin_window()
        return last

    def _complete(self) -> int | None:
        """Number of pending events in the current step, or None while it is not complete."""
        pending = self._pending
        if pending is None or not len(pending):
            return None
        if self._by_count:
            return self.step_size if len(pending) >= self.step_size else None
        if self._start is None:
            self._start = int(pending.t[0])
        end = self._start + self.step_size * (len(self._logits) + 1)
        return int(np.searchsorted(pending.t, end)) if int(pending.t[-1]) >= end else None

    def _step(self, size: int) -> Prediction | None:
        """Runs one step on the first pending events; returns an answer if the window is complete."""
        assert self._pending is not None
        frames = self._network.header.frames
        events, self._pending = _cut(self._pending, size)
        counts = to_frames(events, 1, "count", (frames.height, frames.width)).astype(np.float32)
        logits, self._state = self._network.step(counts, self._state)
        self._logits.append(logits[0])
        self._events.append(events)
        now = self._answer()
        sure = self._stop_at is not None and now.confidence >= self._stop_at
        if not sure and len(self._logits) < frames.steps:
            return None
        now = replace(now, fit=self._fit())
        self._begin_window()
        return now

    def _answer(self) -> Prediction:
        return answer(np.stack(self._logits), self._network.header, abstain=self._abstain)

    def _fit(self) -> Fit | None:
        """The verdict on the events of the window so far: cut into all T steps, since those of the training were."""
        header = self._network.header
        if header.fit is None:
            return None
        events, config = _joined(*self._events), header.frames
        frames = to_frames(events, config.steps, config.slice_by, (config.height, config.width))
        return header.fit.judge(frames, events.duration, self._sensor, window=True)

    def _begin_window(self) -> None:
        self._state, self._logits, self._start, self._events = self._network.rest(1), [], None, []


def _joined(*parts: Recording) -> Recording:
    first = parts[0]
    for part in parts[1:]:
        if (part.width, part.height) != (first.width, first.height):
            sensor, before = f"{part.width} x {part.height}", f"{first.width} x {first.height}"
            raise ConfigError(f"a chunk of a {sensor} sensor after one of {before}")
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in "txyp"}
    return replace(first, **columns)


def _cut(recording: Recording, size: int) -> tuple[Recording, Recording]:
    """The first events, and the rest."""
    parts = (slice(None, size), slice(size, None))
    first, rest = (replace(recording, **{n: getattr(recording, n)[part] for n in "txyp"}) for part in parts)
    return first, rest
