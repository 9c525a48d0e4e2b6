"""Scores of timelines against labelled parts, as in temporal action segmentation (Lea et al. 2016 and 2017, with the
code of MS-TCN, Farha and Gall 2019): frame accuracy, F1 of segments at overlaps, edit score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.datasets import Listing
from neuromoco.datasets.extents import file_extents
from neuromoco.datasets.label_table import read_label_table
from neuromoco.errors import ConfigError
from neuromoco.events.reader import recording_extent
from neuromoco.support.console import say_once

OVERLAPS = (0.1, 0.25, 0.5)
RESAMPLES = 2_000
SEED = 0
PERCENTILES = (2.5, 97.5)
MOST_NAMES = 5  # of classes in a message


class Part(NamedTuple):
    """A labelled part of a recording: begin and excluded end in microseconds, and the class."""

    begin: int
    end: int
    label: str


@dataclass(frozen=True)
class RecordingCounts:
    """What the scores of one recording are made of.

    Attributes:
        right_us: time in which answer and truth are equal; time without a label is a class of its own.
        total_us: duration.
        hits: answered segments that overlap a true one of their class enough, by overlap; each true one counts once.
        answered: segments of the answer.
        true: true segments.
        edit: edit score, 0 to 1.
    """

    right_us: int
    total_us: int
    hits: tuple[int, ...]
    answered: int
    true: int
    edit: float


@dataclass(frozen=True)
class SegmentScores:
    """Scores of R recordings, 0 to 1, each with its 95 % interval by bootstrap over the recordings.

    Attributes:
        frame_accuracy: share of the time with the right class, none included.
        f1: F1 of segments, by overlap.
        edit: mean edit score.
        intervals: lower and upper end by name of the score; empty for a single recording.
        recordings: R.
        answered: segments of the answers.
        true: true segments.
    """

    frame_accuracy: float
    f1: dict[float, float]
    edit: float
    intervals: dict[str, tuple[float, float]]
    recordings: int
    answered: int
    true: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "frame_accuracy": self.frame_accuracy,
            "segment_f1": {f"{overlap:g}": value for overlap, value in self.f1.items()},
            "edit_score": self.edit,
            "intervals_95": {name: list(ends) for name, ends in self.intervals.items()},
            "recordings": self.recordings,
            "segments": {"answered": self.answered, "true": self.true},
        }


def score_recording(answer: Sequence[Part], truth: Sequence[Part], span: tuple[int, int]) -> RecordingCounts:
    """Compares the answer for one recording with the truth.

    Args:
        answer: parts in order of time, which do not overlap.
        truth: the same.
        span: begin and end of the recording, in which time counts.
    """
    return RecordingCounts(
        _equal_time(answer, truth, span),
        span[1] - span[0],
        tuple(_hits(answer, truth, overlap) for overlap in OVERLAPS),
        len(answer),
        len(truth),
        edit_score([part.label for part in answer], [part.label for part in truth]),
    )


def summarise(counts: Sequence[RecordingCounts], seed: int = SEED) -> SegmentScores:
    """The scores of recordings together: times and segments are summed, edit scores averaged, as MS-TCN does."""
    table = np.array([(c.right_us, c.total_us, c.edit, c.answered, c.true, *c.hits) for c in counts])  # [R, 5 + O]
    values = _scores(table[None])[0]
    intervals: dict[str, tuple[float, float]] = {}
    if len(counts) > 1:
        rows = np.random.default_rng(seed).integers(0, len(counts), (RESAMPLES, len(counts)))
        low, high = np.percentile(_scores(table[rows]), PERCENTILES, axis=0)
        names = ("frame_accuracy", "edit_score", *(f"segment_f1_{overlap:g}" for overlap in OVERLAPS))
        intervals = {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}
    return SegmentScores(
        float(values[0]),
        {overlap: float(value) for overlap, value in zip(OVERLAPS, values[2:], strict=True)},
        float(values[1]),
        intervals,
        len(counts),
        sum(c.answered for c in counts),
        sum(c.true for c in counts),
    )


def score_timelines(table: Path, listing: Listing) -> SegmentScores:
    """Scores timelines, as `predict --labels-out` writes them, against labelled parts of the same recordings.

    Files of the table without labelled parts are not scored, and a line says how many; labelled ones that the table
    does not have are scored as empty answers.

    Args:
        table: the timelines, with times of the files' own clocks.
        listing: the true parts; a file without times is one part.

    Raises:
        ConfigError: a damaged table, parts that overlap, or no file in common.
        EventFileError: a labelled recording cannot be read.
    """
    extents = {
        file: extent or recording_extent(listing.root / file, listing.options, whole=True)  # raises as for damage
        for file, extent in file_extents(listing, whole=True).items()
    }
    spans = {file: (extent.first_us, extent.last_us + 1) for file, extent in extents.items()}
    truth: dict[str, list[Part]] = {file: [] for file in spans}
    for row, file in enumerate(listing.files):
        begin, end = listing.spans[row] if listing.spans else spans[file]
        truth[file].append(Part(begin, end, listing.class_names[listing.labels[row]]))
    answer: dict[str, list[Part]] = {file: [] for file in spans}
    unlabelled = set()
    for part in read_label_table(table):
        if part.span is None:
            raise ConfigError(f"{part.line} has no times; a timeline has begin and end")
        if part.file in answer:
            answer[part.file].append(Part(*part.span, part.class_name))
        else:
            unlabelled.add(part.file)
    if not any(answer.values()):
        raise ConfigError(f"{table}: names no labelled file of {listing.root}, but such as {min(unlabelled)}")
    classes = {part.label for parts in truth.values() for part in parts}
    if others := sorted({part.label for parts in answer.values() for part in parts} - classes):
        names = ", ".join(others[:MOST_NAMES]) + (", ..." if len(others) > MOST_NAMES else "")
        say_once(f"{table}: classes that no label has, which count as wrong: {names}")
    if unlabelled:
        say_once(f"{table}: {len(unlabelled)} files without labels are not scored, such as {min(unlabelled)}")
    return summarise(
        [
            score_recording(_in_order(answer[file], table, file), _in_order(truth[file], listing.root, file), span)
            for file, span in spans.items()
        ]
    )


def _in_order(parts: Sequence[Part], where: Path, file: str) -> list[Part]:
    """Parts of a file in order of time; ConfigError if two overlap."""
    ordered = sorted(parts)
    for part, following in pairwise(ordered):
        if following.begin < part.end:
            times = f"{following.begin} us, before the end of the one before at {part.end} us"
            raise ConfigError(f"{where}: {file} has a part from {times}; parts of a timeline do not overlap")
    return ordered


def _scores(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frame accuracy, edit score and F1 by overlap [B, 2 + O] of B sets of R recordings [B, R, 5 + O]."""
    total = table.sum(1)
    right, duration, _, answered, true = total.T[:5]
    both = np.maximum(answered + true, 1)
    # 2 TP / (2 TP + FP + FN), and 1 where there is nothing to find and nothing was found.
    f1 = np.where((answered + true > 0)[:, None], 2 * total[:, 5:] / both[:, None], 1.0)
    return np.column_stack([right / np.maximum(duration, 1), table[:, :, 2].mean(1), f1])


def _equal_time(answer: Sequence[Part], truth: Sequence[Part], span: tuple[int, int]) -> int:
    """Microseconds of a span in which answer and truth have the same class, or both none."""
    begin, end = span
    edges = np.unique([begin, end, *(t for part in (*answer, *truth) for t in part[:2] if begin < t < end)])
    names = sorted({part.label for part in (*answer, *truth)})
    same = _label_at(answer, edges[:-1], names) == _label_at(truth, edges[:-1], names)
    return int(np.diff(edges)[same].sum())


def _label_at(parts: Sequence[Part], times: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """Index of the class at each time [N]; -1 for none."""
    labels = np.full(times.size, -1)
    for part in parts:
        labels[slice(*np.searchsorted(times, part[:2]))] = names.index(part.label)
    return labels


def _hits(answer: Sequence[Part], truth: Sequence[Part], overlap: float) -> int:
    """Answered segments whose best true segment of their class overlaps by at least `overlap` and is not taken yet."""
    if not truth:
        return 0
    begins, ends = np.array([part[:2] for part in truth]).T
    labels = np.array([part.label for part in truth])
    taken: set[int] = set()
    for part in answer:
        both = np.minimum(ends, part.end) - np.maximum(begins, part.begin)
        shares = both / (np.maximum(ends, part.end) - np.minimum(begins, part.begin)) * (labels == part.label)
        best = int(shares.argmax())
        if shares[best] >= overlap:
            taken.add(best)
    return len(taken)


def edit_score(answer: Sequence[str], truth: Sequence[str]) -> float:
    """1 less the Levenshtein distance of two orders of classes, by the length of the longer; 1 if both are empty.

    Examples:
        >>> from neuromoco.evaluation.segments import edit_score
        >>> edit_score(["walk", "wave"], ["walk", "sit", "wave", "walk"])
        0.5
    """
    row = list(range(len(truth) + 1))
    for number, label in enumerate(answer, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(truth, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (label != other))
    longest = max(len(answer), len(truth))
    return 1.0 - row[-1] / longest if longest else 1.0
