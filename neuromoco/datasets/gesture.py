"""DVS128 Gesture (Amir et al. 2017): 11 gestures of 29 people before a DVS128, split by people.

Two copies go round, and their figures cannot be compared:

    the authors'   `DvsGesture/user01_led.aedat` holds many gestures, `user01_led_labels.csv` says which when, and
                   `trials_to_train.txt` and `trials_to_test.txt` name the recordings of both parts: 1,176 and 288
    tonic's        `ibmGestureTrain/user01_led/0.npy` and `ibmGestureTest/...`: cut already, one gesture of a class and
                   recording, times in milliseconds: 1,077 and 264

The first is taken where both are there.
"""

from __future__ import annotations

from pathlib import Path

from neuromoco.datasets.fixed_splits import Counts
from neuromoco.datasets.folders import Listing, Part, Span
from neuromoco.datasets.gesture_labels import read_segments
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import ReadOptions
from neuromoco.support.console import say_once

GESTURES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)
AUTHORS = Counts(1176, 288)
TONICS = Counts(1077, 264)
# Plain arrays [E, 4] that do not say so themselves.
TONICS_FILES = ReadOptions(sensor=(128, 128), columns="xypt", time_unit="ms")


def dvs128_gesture(folder: Path, part: Part) -> Listing:
    """The gestures of a part, from the copy that is there.

    Raises:
        ConfigError: neither copy is there, or it is not whole. The message does not name the set.
        EventFileError: a table of labels cannot be read.
    """
    authors, tonics = folder / "DvsGesture", folder / f"ibmGesture{part.capitalize()}"
    if authors.is_dir():
        listing, counts, whose = _from_authors(authors, part), AUTHORS, "the authors'"
    elif tonics.is_dir():
        listing, counts, whose = _from_tonic(tonics), TONICS, "tonic's"
    else:
        raise ConfigError(f"no folder {authors}")
    wanted = getattr(counts, part)
    if len(listing) != wanted:
        raise ConfigError(f"{listing.root} holds {len(listing):,} gestures to {part}, {whose} copy {wanted:,}")
    say_once(f"dvs128-gesture: {whose} copy, {counts.train:,} gestures to train on and {counts.test:,} to test on")
    return listing


def _from_authors(root: Path, part: Part) -> Listing:
    trials = root / f"trials_to_{part}.txt"
    if not trials.is_file():
        raise ConfigError(f"no file {trials}")
    names = sorted({line.strip() for line in trials.read_text(encoding="utf-8").splitlines() if line.strip()})
    missing = [name for name in names if not (root / name).is_file() or not _labels_of(root / name).is_file()]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(names)} recordings or their labels lack, such as {root / missing[0]}"
        )
    files: list[str] = []
    labels: list[int] = []
    spans: list[Span] = []
    for name in names:
        try:
            segments = read_segments(_labels_of(root / name))
        except EventFileError as error:
            raise EventFileError(f"{_labels_of(root / name)}: {error}") from error
        files += [name] * len(segments)
        labels += [segment.label - 1 for segment in segments]
        spans += [(segment.start, segment.stop) for segment in segments]
    return Listing(root, tuple(files), tuple(labels), GESTURES, tuple(spans))


def _labels_of(recording: Path) -> Path:
    return recording.with_name(f"{recording.stem}_labels.csv")


def _from_tonic(root: Path) -> Listing:
    files = sorted(root.glob("user*/*.npy"), key=lambda file: (file.parent.name, file.stem.zfill(2)))
    unknown = [file for file in files if file.stem not in map(str, range(len(GESTURES)))]
    if unknown:
        raise ConfigError(f"{unknown[0]} is named after no gesture, 0 to {len(GESTURES) - 1}")
    names = tuple(file.relative_to(root).as_posix() for file in files)
    return Listing(root, names, tuple(int(file.stem) for file in files), GESTURES, options=TONICS_FILES)
