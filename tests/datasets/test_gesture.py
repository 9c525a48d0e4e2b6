"""DVS128 Gesture, from copies of its layout that the tests write: both copies that go round, and their parts."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from neuromoco import ConfigError, EventFileError
from neuromoco.config import FrameConfig
from neuromoco.datasets import cached_frames, list_data
from neuromoco.datasets.folders import Part
from neuromoco.datasets.gesture import GESTURES
from neuromoco.support.console import say_once
from tests.helpers.dvs128_files import counted, some_events, write_aedat3

PARTS: tuple[Part, Part] = ("train", "test")
CONFIG = FrameConfig(steps=2, height=16, width=16)
LIGHTS = ("fluorescent", "fluorescent_led", "lab", "led", "natural")
TRIALS = [f"user{user:02d}_{light}" for user in range(1, 31) for light in LIGHTS]
# The authors' numbers of trials, with 12 gestures each: class 8 comes twice.
TRAIN, TEST = TRIALS[:98], TRIALS[98:122]
TWELVE = (1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11)


def write_authors_copy(root: Path, first_us: int = 80_000_000) -> Path:
    """Trials of 12 gestures a second each, half a second apart; recordings are empty files."""
    folder = root / "dvs128-gesture" / "DvsGesture"
    folder.mkdir(parents=True)
    for part, trials in (("train", TRAIN), ("test", TEST)):
        (folder / f"trials_to_{part}.txt").write_text("".join(f"{trial}.aedat\n" for trial in reversed(trials)) + "\n")
        for trial in trials:
            (folder / f"{trial}.aedat").touch()
            starts = [first_us + 1_500_000 * place for place in range(12)]
            rows = [f"{label},{start},{start + 1_000_000}" for label, start in zip(TWELVE, starts, strict=True)]
            (folder / f"{trial}_labels.csv").write_text("\n".join(["class,startTime_usec,endTime_usec", *rows]) + "\n")
    return folder


def test_dvs128_gesture_as_its_authors_give_it(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_once.cache_clear()
    folder = write_authors_copy(data_root)
    train, test = (list_data("dvs128-gesture", part) for part in PARTS)
    said = capsys.readouterr().err
    assert said == "dvs128-gesture: the authors' copy, 1,176 gestures to train on and 288 to test on\n"
    assert (len(train), len(test)) == (1176, 288)
    assert (train.root, train.class_names, len(GESTURES)) == (folder, GESTURES, 11)
    assert train.labels[:12] == tuple(label - 1 for label in TWELVE)
    assert list(train.names)[:2] == [
        "user01_fluorescent.aedat[80000000:81000000]",
        "user01_fluorescent.aedat[81500000:82500000]",
    ]
    assert len(set(train.names)) == 1176
    assert not {file[:6] for file in train.files} & {file[:6] for file in test.files if file[:6] != "user20"}
    assert train.paths[0] == folder / "user01_fluorescent.aedat"


def test_gestures_are_cut_by_the_clock_of_the_recording(data_root: Path) -> None:
    folder = write_authors_copy(data_root)
    # The recording begins well before its first gesture, and not at 0.
    events = some_events(5, 75_000_000, 99_000_000, 6000)
    write_aedat3(folder / "user01_fluorescent.aedat", events)
    train = list_data("dvs128-gesture", "train")
    first = dataclasses.replace(train, files=train.files[:12], labels=train.labels[:12], spans=train.spans[:12])
    store = cached_frames(first, CONFIG)
    assert store.sensors.tolist() == [[128, 128]] * 12
    for row, (start, stop) in enumerate(first.spans):
        inside = events[(events[:, 0] >= start) & (events[:, 0] < stop)]
        assert store.events[row] == len(inside) > 100
        assert np.array_equal(store.frames[row], counted(inside, CONFIG))
    silent = dataclasses.replace(first, spans=(*first.spans[1:], (1, 2)))
    with pytest.raises(EventFileError, match=r"user01_fluorescent.aedat: holds no events from 1 to 2 us"):
        cached_frames(silent, CONFIG)


def test_mistakes_about_dvs128_gesture(data_root: Path) -> None:
    folder = write_authors_copy(data_root)
    (folder / "user02_lab_labels.csv").unlink()
    with pytest.raises(
        ConfigError, match=r"^dvs128-gesture: 1 of 98 recordings or their labels are missing, .*user02_lab"
    ):
        list_data("dvs128-gesture", "train")
    (folder / "user02_lab_labels.csv").write_text("class,startTime_usec,endTime_usec\n1,5,4\n")
    with pytest.raises(EventFileError, match=r"user02_lab_labels.csv: line 2 runs from 5 to 4 us"):
        list_data("dvs128-gesture", "train")
    (folder / "user02_lab_labels.csv").write_text("class,startTime_usec,endTime_usec\n1,5,6\n")
    with pytest.raises(ConfigError, match=r"DvsGesture holds 1,165 gestures to train, the authors' copy 1,176; get"):
        list_data("dvs128-gesture", "train")
    (folder / "trials_to_train.txt").unlink()
    with pytest.raises(ConfigError, match=r"^dvs128-gesture: no file .*trials_to_train.txt; get DvsGesture.tar.gz"):
        list_data("dvs128-gesture", "train")


def test_dvs128_gesture_as_tonic_gives_it(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = some_events(6, 0, 6000)
    for part, trials, lacking in (("Train", TRAIN, 1), ("Test", TEST, 0)):
        samples = list(product(trials, range(11)))
        for trial, label in samples[: len(samples) - lacking]:
            folder = data_root / "dvs128-gesture" / f"ibmGesture{part}" / trial
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{label}.npy").touch()
    first = data_root / "dvs128-gesture" / "ibmGestureTrain" / "user01_fluorescent"
    np.save(first / "10.npy", events[:, [1, 2, 3, 0]].astype(float))
    train, test = (list_data("dvs128-gesture", part) for part in PARTS)
    assert (len(train), len(test)) == (1077, 264)
    assert "tonic's copy, 1,077 gestures to train on and 264 to test on" in capsys.readouterr().err
    assert [Path(name).stem for name in train.names[:11]] == [str(label) for label in range(11)]
    one = dataclasses.replace(train, files=train.files[10:11], labels=train.labels[10:11])
    store = cached_frames(one, CONFIG)
    assert store.durations.tolist() == [(events[-1, 0] - events[0, 0]) * 1000]
    assert np.array_equal(store.frames[0], counted(events, CONFIG))
    (first / "11.npy").touch()
    with pytest.raises(ConfigError, match=r"11.npy is not named after a gesture, 0 to 10"):
        list_data("dvs128-gesture", "train")
