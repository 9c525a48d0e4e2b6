"""DVS128 Gesture (Amir et al. 2017): 11 gestures of 29 people in front of a DVS128, split by people.

Two copies exist, whose results cannot be compared:

    the authors'   `DvsGesture/user01_led.aedat` holds many gestures, `user01_led_labels.csv` their times, and
                   `trials_to_train.txt` and `trials_to_test.txt` the recordings of both parts: 1,176 and 288 gestures
    tonic's        `ibmGestureTrain/user01_led/0.npy` and `ibmGestureTest/...`: one gesture per file, at most one per
                   class and recording, times in milliseconds: 1,077 and 264 gestures

The authors' copy is preferred.
"""

from __future__ import annotations

from pathlib import Path

from neuromoco.datasets.fixed_splits import Counts
from neuromoco.datasets.folders import Listing, Part
from neuromoco.datasets.gesture_labels import read_segments
from neuromoco.errors import ConfigError
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
# Plain arrays [E, 4] without a header.
TONICS_FILES = ReadOptions(sensor=(128, 128), columns="xypt", time_unit="ms")


def dvs128_gesture(folder: Path, part: Part) -> Listing:
    """The gestures of a part, from the copy in the folder; messages of errors do not name the set."""
    authors, tonics = folder / "DvsGesture", folder / f"ibmGesture{part.capitalize()}"
    if authors.is_dir():
        listing, counts, whose = _from_authors(authors, part), AUTHORS, "the authors'"
    elif tonics.is_dir():
        listing, counts, whose = _from_tonic(tonics), TONICS, "tonic's"
    else:
        raise ConfigError(f"no folder {authors}")
    expected = getattr(counts, part)
    if len(listing) != expected:
        raise ConfigError(f"{listing.root} holds {len(listing):,} gestures to {part}, {whose} copy {expected:,}")
    say_once(f"dvs128-gesture: {whose} copy, {counts.train:,} gestures to train on and {counts.test:,} to test on")
    return listing


def _from_authors(root: Path, part: Part) -> Listing:
    trials = root / f"trials_to_{part}.txt"
    if not trials.is_file():
        raise ConfigError(f"no file {trials}")
    names = sorted({line.strip() for line in trials.read_text(encoding="utf-8").splitlines() if line.strip()})
    missing = [name for name in names if not (root / name).is_file() or not _label_file(root / name).is_file()]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(names)} recordings or their labels are missing, such as {root / missing[0]}"
        )
    segments = [(name, segment) for name in names for segment in read_segments(_label_file(root / name))]
    return Listing(
        root,
        files=tuple(name for name, _ in segments),
        labels=tuple(segment.label - 1 for _, segment in segments),
        class_names=GESTURES,
        spans=tuple((segment.start, segment.stop) for _, segment in segments),
    )


def _label_file(recording: Path) -> Path:
    return recording.with_name(f"{recording.stem}_labels.csv")


def _from_tonic(root: Path) -> Listing:
    files = sorted(root.glob("user*/*.npy"), key=lambda file: (file.parent.name, file.stem.zfill(2)))
    unknown = [file for file in files if file.stem not in map(str, range(len(GESTURES)))]
    if unknown:
        raise ConfigError(f"{unknown[0]} is not named after a gesture, 0 to {len(GESTURES) - 1}")
    names = tuple(file.relative_to(root).as_posix() for file in files)
    return Listing(root, names, tuple(int(file.stem) for file in files), GESTURES, options=TONICS_FILES)
