"""Timelines: what a long recording shows, and when.

The rule. Cells of a fifth of a stride have activity or are quiet (`neuromoco.runtime.activity`); where it is quiet for
a while there is a pause. Activity between two pauses is classified as a whole if it lasts no longer than a window, else
by windows, one a stride. A cell takes the class with the largest mean probability over the windows around it, the near
ones counting more, and those that are unlike the training recordings not at all. Segments are equal cells in a row;
shorter ones than allowed join the longer neighbour. What is not sure is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.checkpoint import SeenRecordings
from neuromoco.config.frames import Crop
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import ReadOptions, Recording
from neuromoco.events.reader import read_parts
from neuromoco.events.recording import NOTHING_ODD, Oddities
from neuromoco.frames import cropped, part_of
from neuromoco.runtime.activity import active_spans, count_events, quiet_limits, usual_rate

if TYPE_CHECKING:
    from neuromoco.runtime.load import AnyClassifier

CELLS = 5  # of a stride
BATCH = 32  # windows that are classified at once
WHOLE = 1.25  # windows that activity may last to be classified as a whole
EDGE = 0.1  # weight of a window for the cells at its ends; it is 1 in the middle
FEW = 0.25  # of the fewest events of a training recording: with less, a window is not classified
Span = tuple[int, int]  # microseconds from the first event
Why = Literal["pause", "unlike", "unsure", "short", "few events"]


@dataclass(frozen=True)
class TimelineRule:
    """Settings of the rule; times in microseconds.

    Attributes:
        window_us: length of the parts that are classified.
        stride_us: from one to the next.
        pause_us: how long it is quiet in a pause, at least.
        shortest_us: length of a segment, at least.
        least: probability of a class below which a segment is unknown.
        quiet: events per second of a pause, at most; None finds it from the recording and the training recordings.
    """

    window_us: int
    stride_us: int
    pause_us: int
    shortest_us: int
    least: float = 0.5
    quiet: float | None = None

    @classmethod
    def for_recordings(cls, seen: SeenRecordings, given: Mapping[str, Any]) -> TimelineRule:
        """The given settings, and defaults by the training recordings.

        A window lasts midway between the shortest and the longest of them, a stride a sixth of it, a pause a third, a
        segment half of the shortest training recording, at least.

        Raises:
            ConfigError: a setting that is not allowed.
        """
        window = given.get("window_us") or max(CELLS, (seen.shortest_us + seen.longest_us) // 2)
        defaults = {
            "window_us": window,
            "stride_us": max(CELLS, window // 6),
            "pause_us": max(1, window // 3),
            "shortest_us": max(1, min(window, seen.shortest_us) // 2),
        }
        rule = cls(**{**defaults, **given})
        if not CELLS <= rule.stride_us <= rule.window_us:
            raise ConfigError(
                f"a stride of {rule.stride_us / 1e3:g} ms with windows of {rule.window_us / 1e3:g} ms; it is at most "
                "as long, and 5 us or more"
            )
        if not 0.0 <= rule.least <= 1.0:
            raise ConfigError(f"a least probability of {rule.least}; it is 0 to 1")
        if rule.quiet is not None and not 0.0 <= rule.quiet < np.inf:
            raise ConfigError(f"a pause of at most {rule.quiet} events per second; it is a number, 0 or more")
        return rule

    @property
    def cell_us(self) -> int:
        """Length of a cell."""
        return self.stride_us // CELLS


@dataclass(frozen=True)
class Segment:
    """A part of a recording that shows one thing.

    Attributes:
        begin_us: microseconds from the first event of the recording.
        end_us: excluded.
        label: the class; None if it is unknown.
        confidence: mean probability of the class; None if nothing was classified.
        why: of an unknown class, the reason.
    """

    begin_us: int
    end_us: int
    label: str | None
    confidence: float | None = None
    why: Why | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Timeline:
    """What a recording shows, and when.

    Attributes:
        first_us: time of the first event, by the file's clock.
        duration_us: from the first event to the last.
        rule: how the segments were found.
        segments: all of the recording, without gaps.
        oddities: what was done to the events to read them.
    """

    first_us: int
    duration_us: int
    rule: TimelineRule
    segments: tuple[Segment, ...]
    oddities: Oddities = NOTHING_ODD

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "first_us": self.first_us,
            "duration_us": self.duration_us,
            "rule": asdict(self.rule),
            "segments": [segment.to_json() for segment in self.segments],
        }


class Answer(NamedTuple):
    """The answer for a window."""

    span: Span
    shares: NDArray[np.float64] | None  # probability of each class; None if the window was not classified
    why: Why | None = None  # it does not count


def make_timeline(
    classifier: AnyClassifier, file: Path, rule: TimelineRule, options: ReadOptions | None = None, crop: Crop = None
) -> Timeline:
    """Classifies a long recording part by part. Memory grows with its duration only: 8 bytes a cell.

    Args:
        classifier: of any backend.
        file: the recording, which is read twice.
        rule: how segments are found.
        options: for reading it.
        crop: the part of the sensor, in pixels, that is used instead of the network's.

    Raises:
        EventFileError: the file cannot be read, lacks the part, or its events are in no order of time.
    """
    header = classifier.header
    oddities = NOTHING_ODD

    def part(recording: Recording) -> Recording:
        nonlocal oddities
        oddities = oddities.and_of(recording.oddities)
        try:
            return part_of(recording, crop)  # type: ignore[arg-type] # in pixels
        except EventFileError as error:
            raise EventFileError(f"{file}: {error}") from None

    reading = header.read_options(options)
    activity = count_events(file, rule.cell_us, reading, lambda recording: cropped(part(recording), header.frames))
    of_file = oddities
    cell_s = rule.cell_us / 1e6
    if rule.quiet is None:
        low, high = quiet_limits(activity.counts, usual_rate(header.seen) * cell_s)
    else:
        low, high = rule.quiet * cell_s, 2 * rule.quiet * cell_s
    cells = active_spans(activity.counts, low, high, max(1, rule.pause_us // rule.cell_us))
    spans = [(a * rule.cell_us, min(b * rule.cell_us, activity.duration_us)) for a, b in cells]
    windows = [window for span in spans for window in _windows(span, rule)]
    shifted = [(activity.first_us + a, activity.first_us + b) for a, b in windows]
    answers = _answers(classifier, map(part, read_parts(file, shifted, reading)), windows)
    segments: list[Segment] = []
    for span in spans:
        begin = segments[-1].end_us if segments else 0
        if begin < span[0]:
            segments.append(Segment(begin, span[0], None, why="pause"))
        mine = list(islice(answers, len(_windows(span, rule))))
        segments += _segments(span, mine, header.class_names, rule)
    begin = segments[-1].end_us if segments else 0
    if begin < activity.duration_us:
        segments.append(Segment(begin, activity.duration_us, None, why="pause"))
    return Timeline(activity.first_us, activity.duration_us, rule, tuple(segments), of_file)


def _windows(span: Span, rule: TimelineRule) -> list[Span]:
    """The windows of a span of activity; the last one ends with it."""
    begin, end = span
    if end - begin <= WHOLE * rule.window_us:
        return [span]
    last = end - rule.window_us
    begins = [*range(begin, last, rule.stride_us), last]
    return [(a, a + rule.window_us) for a in begins]


def _answers(classifier: AnyClassifier, recordings: Iterator[Recording], windows: Sequence[Span]) -> Iterator[Answer]:
    """The answers for windows, in their order."""
    header = classifier.header
    fewest = max(1.0, FEW * header.seen.fewest_events)
    pairs = zip(windows, recordings, strict=True)
    while batch := list(islice(pairs, BATCH)):
        enough = [len(cropped(recording, header.frames)) >= fewest for _, recording in batch]
        some = [recording for (_, recording), is_enough in zip(batch, enough, strict=True) if is_enough]
        predictions = iter(classifier.predict(some, windows=True) if some else ())
        for (window, _), is_enough in zip(batch, enough, strict=True):
            if not is_enough:
                yield Answer(window, None, "few events")
                continue
            prediction = next(predictions)
            shares = np.array([prediction.probabilities[name] for name in header.class_names])
            yield Answer(window, shares, None if prediction.fit is None or prediction.fit.fits else "unlike")


def _segments(span: Span, answers: Sequence[Answer], class_names: Sequence[str], rule: TimelineRule) -> list[Segment]:
    """The segments of a span of activity."""
    begin, end = span
    middles = np.arange(begin, end, rule.cell_us) + rule.cell_us / 2  # [C]
    evidence = np.zeros((middles.size, len(class_names)))
    weights = np.zeros(middles.size)
    for (first, last), shares, why in answers:
        if shares is None or why is not None:
            continue
        inside = slice(*np.searchsorted(middles, (first, last)))
        distance = np.abs(middles[inside] - (first + last) / 2) / ((last - first) / 2)
        weight = np.maximum(1.0 - (1.0 - EDGE) * distance, EDGE)
        evidence[inside] += weight[:, None] * shares
        weights[inside] += weight
    evidence /= np.maximum(weights, 1e-9)[:, None]
    labels = np.where(weights > 0, evidence.argmax(1), -1)
    runs = _join_short(_runs(labels), max(1, rule.shortest_us // rule.cell_us))
    edges = [begin, *(begin + stop * rule.cell_us for _, stop, _ in runs[:-1]), end]
    reasons = Counter(answer.why for answer in answers if answer.why is not None)
    refused = reasons.most_common(1)[0][0] if reasons else None
    return [
        _segment(edges[number], edges[number + 1], label, evidence[start:stop], class_names, rule, refused)
        for number, (start, stop, label) in enumerate(runs)
    ]


def _segment(
    begin: int, end: int, label: int, evidence: NDArray[np.float64], class_names: Sequence[str], rule: TimelineRule,
    refused: Why | None,
) -> Segment:  # fmt: skip
    if label < 0:
        return Segment(begin, end, None, why=refused)
    confidence = float(evidence[:, label].mean())
    if end - begin < rule.shortest_us:
        return Segment(begin, end, None, confidence, "short")
    if confidence < rule.least:
        return Segment(begin, end, None, confidence, "unsure")
    return Segment(begin, end, class_names[label], confidence)


Run = tuple[int, int, int]  # first and excluded last cell, and the class, -1 for none


def _runs(labels: NDArray[np.int64]) -> list[Run]:
    """Runs of equal labels [C]."""
    cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), labels.size]
    return [(a, b, int(labels[a])) for a, b in pairwise(cuts)]


def _join_short(runs: list[Run], shortest: int) -> list[Run]:
    """Gives runs of fewer than `shortest` cells, the shortest first, to the longer neighbour."""
    runs = list(runs)
    while len(runs) > 1:
        number = min(range(len(runs)), key=lambda i: runs[i][1] - runs[i][0])
        start, stop, _ = runs[number]
        if stop - start >= shortest:
            break
        near = [i for i in (number - 1, number + 1) if 0 <= i < len(runs)]
        to = max(near, key=lambda i: runs[i][1] - runs[i][0])
        runs[to] = (min(start, runs[to][0]), max(stop, runs[to][1]), runs[to][2])
        del runs[number]
        joined: list[Run] = []
        for run in runs:
            if joined and joined[-1][2] == run[2]:
                joined[-1] = (joined[-1][0], run[1], run[2])
            else:
                joined.append(run)
        runs = joined
    return runs
