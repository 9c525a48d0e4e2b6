"""Surveys a set of recordings: what there is, what is damaged, what is there twice, and what training depends on.

Each recording is read once, whole, by one of several processes, and only figures of fixed size are kept of it: memory
grows by some 700 bytes a recording.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.datasets.fingerprints import Fingerprint, find_twins, fingerprint
from neuromoco.datasets.folders import Listing
from neuromoco.datasets.prepare import FileJob, file_jobs, read_files, recordings_of
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import Recording
from neuromoco.frames import slice_bounds, to_frames
from neuromoco.support.console import track

PICTURE_SIDE = 96  # pixels of a picture's longer side, at most
MOMENTS = 10  # parts of a recording in which its activity is looked at
STRAY = 0.01  # share of the events on each side of a box that may lie outside it
QUIET = 0.2  # of the mean number of events: a moment with fewer is quiet


class Sample(NamedTuple):
    """What is kept of a recording.

    `box` holds its events but for stray ones: first column, first row, and the columns and rows it has. `moving` is the
    mean size of that box in `MOMENTS` of equally many events, as shares of the sensor's width and height. `quiet` is
    the share of moments of equal duration that have few events.
    """

    name: str
    label: int  # -1 without classes
    format: str
    events: int
    duration_us: int
    on_share: float
    width: int
    height: int
    outside: int
    box: tuple[int, int, int, int]
    moving: tuple[float, float]
    quiet: float


class Picture(NamedTuple):
    """Events by pixel of a recording, int [P, rows, columns]."""

    name: str
    label: int
    counts: NDArray[np.int32]


class Copies(NamedTuple):
    """Two recordings that share events: their names, the share of the smaller one's, whether their classes differ."""

    first: str
    second: str
    shared: float
    classes_differ: bool


@dataclass(frozen=True)
class SetSurvey:
    """What a survey finds.

    Attributes:
        data: the set.
        class_names: of its classes; empty without any.
        recordings: how many it has, read or not.
        samples: what was read.
        problems: for each file that cannot be read, a line that begins with its name.
        copies: recordings that share half of their events or more.
        compared: recordings of another set that were compared with these.
        pictures: of some recordings of each class.
    """

    data: str
    class_names: tuple[str, ...]
    recordings: int
    samples: tuple[Sample, ...]
    problems: tuple[str, ...]
    copies: tuple[Copies, ...]
    compared: int
    pictures: tuple[Picture, ...]

    @property
    def sensors(self) -> dict[tuple[int, int], int]:
        """Recordings by width and height of the sensor, the most frequent first."""
        return dict(Counter((sample.width, sample.height) for sample in self.samples).most_common())

    def values(self, name: str) -> NDArray[Any]:
        """A figure of all samples, by its name in `Sample`."""
        return np.array([getattr(sample, name) for sample in self.samples])

    def by_class(self) -> dict[str, list[Sample]]:
        """The samples of each class; without classes, all under an empty name."""
        names = self.class_names or ("",)
        groups: dict[str, list[Sample]] = {name: [] for name in names}
        for sample in self.samples:
            groups[names[max(0, sample.label)]].append(sample)
        return groups

    def occupied(self) -> tuple[int, int, int, int]:
        """The smallest box of the most frequent sensor that has most recordings' boxes: column, row, width, height."""
        sensor = next(iter(self.sensors))
        boxes = np.array([sample.box for sample in self.samples if (sample.width, sample.height) == sensor])
        begin = np.quantile(boxes[:, :2], STRAY, axis=0, method="lower")
        end = np.quantile(boxes[:, :2] + boxes[:, 2:], 1 - STRAY, axis=0, method="higher")
        left, top, right, bottom = (int(side) for side in (*begin, *end))
        return left, top, right - left, bottom - top


def survey_set(
    data: str, listing: Listing, *, most: int | None = None, pictures: int = 0, against: Sequence[Listing] = ()
) -> SetSurvey:
    """Surveys the recordings of a listing; damaged ones are listed in the result.

    Args:
        data: what the set is called.
        listing: its recordings.
        most: recordings to read at most, the same share of each class, evenly spread; None reads all.
        pictures: recordings of each class to make a picture of.
        against: recordings of which copies are looked for among these, such as those of a test.

    Raises:
        ConfigError: no recording can be read.
    """
    rows = _spread(listing, most)
    shown = set(_first_of_each(listing, rows, pictures))
    samples, prints, problems, drawn = [], list[Fingerprint](), list[str](), list[Picture]()
    for found in _look(listing, rows, shown, "surveying recordings"):
        samples += found.samples
        prints += found.prints
        drawn += found.pictures
        problems += found.problems
    if not samples:
        raise ConfigError(f"{data}: none of {len(rows)} recordings can be read; the first: {problems[0]}")
    names, labels = [sample.name for sample in samples], [_class_of(listing, sample.label) for sample in samples]
    for other in against:
        for found in _look(other, range(len(other)), set(), f"comparing with {other.root.name}"):
            names += [f"{other.root.name}/{sample.name}" for sample in found.samples]
            labels += [_class_of(other, sample.label) for sample in found.samples]
            prints += found.prints
    copies = [
        Copies(names[a], names[b], shared, labels[a] != labels[b])
        for a, b, shared in find_twins(prints)
        if a < len(samples)
    ]
    compared = len(names) - len(samples)
    every = (tuple(samples), tuple(problems), tuple(copies), compared, tuple(drawn))
    return SetSurvey(data, listing.class_names, len(listing), *every)


def _class_of(listing: Listing, label: int) -> str:
    return listing.class_names[label] if label >= 0 else ""


def _spread(listing: Listing, most: int | None) -> list[int]:
    """Positions of the recordings to read: all, or the same share of each class, evenly spread."""
    if most is None or len(listing) <= most:
        return list(range(len(listing)))
    labels = np.array(listing.labels or [0] * len(listing))
    chosen: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, min(len(members), most * len(members) // len(listing)))
        chosen += members[np.arange(count) * len(members) // count].tolist()
    return sorted(chosen)


def _first_of_each(listing: Listing, rows: Sequence[int], count: int) -> Iterator[int]:
    """Of each class, `count` of these positions, evenly spread."""
    members = defaultdict(list)
    for row in rows:
        members[listing.labels[row] if listing.labels else -1].append(row)
    for group in members.values():
        number = min(count, len(group))
        yield from (group[i * len(group) // number] for i in range(number))


class _Job(NamedTuple):
    """A file to look at, and which of its recordings to draw."""

    file: FileJob
    names: tuple[str, ...]
    labels: tuple[int, ...]
    shown: frozenset[int]


class _Found(NamedTuple):
    samples: list[Sample]
    prints: list[Fingerprint]
    pictures: list[Picture]
    problems: list[str]


def _look(listing: Listing, rows: Sequence[int], shown: set[int], what: str) -> Iterator[_Found]:
    names, labels = listing.names, listing.labels or (-1,) * len(listing)
    jobs = [
        _Job(job, tuple(names[r] for r in job.rows), tuple(labels[r] for r in job.rows), frozenset(shown & {*job.rows}))
        for job in file_jobs(listing, rows)
    ]
    files = [job.file.path for job in jobs]
    results = read_files(_look_at, jobs, files, lambda job, problem: _Found([], [], [], [problem]))
    for _, found in zip(track(jobs, what), results, strict=True):
        yield found


def _look_at(job: _Job) -> _Found:
    found = _Found([], [], [], [])
    try:
        parts = recordings_of(job.file)
        for row, name, label, recording in zip(job.file.rows, job.names, job.labels, parts, strict=True):
            found.samples.append(_sample(name, label, recording))
            found.prints.append(fingerprint(recording))
            if row in job.shown:
                found.pictures.append(Picture(name, label, event_picture(recording)))
    except EventFileError as error:
        found.problems.append(str(error))
    return found


def _sample(name: str, label: int, recording: Recording) -> Sample:
    left, top, right, bottom = _box(recording, slice(None))
    moments = [_box(recording, slice(*ends)) for ends in pairwise(slice_bounds(recording, MOMENTS, "count").tolist())]
    sizes = np.array([(box[2] - box[0], box[3] - box[1]) for box in moments]) / (recording.width, recording.height)
    counts = np.diff(slice_bounds(recording, MOMENTS, "time"))
    return Sample(
        name,
        label,
        recording.source,
        len(recording),
        recording.duration,
        round(recording.on_share, 4),
        recording.width,
        recording.height,
        recording.oddities.outside,
        (left, top, right - left, bottom - top),
        (float(sizes[:, 0].mean()), float(sizes[:, 1].mean())),
        float((counts < QUIET * counts.mean()).mean()),
    )


def _box(recording: Recording, part: slice) -> tuple[int, int, int, int]:
    """Left, top, and excluded right and bottom of the events but for stray ones; zeros without events."""
    sides = []
    for places in (recording.x[part], recording.y[part]):
        if not places.size:
            return 0, 0, 0, 0
        share = np.cumsum(np.bincount(places)) / places.size
        sides.append((int(np.searchsorted(share, STRAY, "right")), int(np.searchsorted(share, 1 - STRAY)) + 1))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def event_picture(recording: Recording) -> NDArray[np.int32]:
    """Events by pixel, [P, rows, columns], of at most `PICTURE_SIDE` a side."""
    # Of a share of a pixel more or less, columns would be lighter and darker by turns.
    shrink = -(-max(recording.width, recording.height) // PICTURE_SIDE)
    size = (-(-recording.height // shrink), -(-recording.width // shrink))
    counts: NDArray[np.int32] = to_frames(recording, 1, "count", size)[0]
    return counts
