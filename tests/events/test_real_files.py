"""Real files of every camera format, where a folder of them is named: the counts that independent decoders give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuromoco import EventFileError, Recording, read_recording
from neuromoco.events import ReadOptions, read_windows, survey_recording

VGA = ReadOptions(sensor=(640, 480))  # where the file does not name its sensor

FILES = {
    "prophesee-dat2/cube_10ms_cd.dat": (323_449, 1280, 720, 1.10),
    "prophesee-dat2/rect_1ms_cd.dat": (566_878, 1280, 720, 1.41),
    "prophesee-evt2/faery_evt2.raw": (521_252, 640, 480, 0.0959),
    "prophesee-evt3/ecp_test_events_1_evt3.raw": (343_474, 640, 480, 2.08),
    "rosbag/test_events_1.bag": (343_474, 640, 480, 2.08),
    "aedat4/dvprocessing_test-minimal.aedat4": (255_283, 640, 480, 2.7),
    "aedat4/dvprocessing_sample_data.aedat4": (9_193, 346, 260, 3.81),
    "aedat4/aestream_davis.aedat4": (117_667, 346, 260, 0.13),
    "event-stream/dvs.es": (473_225, 320, 240, 1.0),
}
REFUSED = {
    "aedat4/dvprocessing_test-frame.aedat4": "holds no events; its streams are: frame",
    "aedat4/dvprocessing_empty_stereo.aedat4": "holds no events",
    "event-stream/color.es": "holds color events; those of a DVS are read",
    "event-stream/generic.es": "holds generic events",
    "prophesee-evt2/faery_evt2.raw": "give --sensor WIDTHxHEIGHT",
}


def equal(a: Recording, b: Recording) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in "txyp")


@pytest.mark.parametrize("name", FILES)
def test_counts_of_independent_decoders(event_files: Path, name: str) -> None:
    events, width, height, seconds = FILES[name]
    options = VGA if name in REFUSED else None  # what a user gives wins over what a file names
    recording = read_recording(event_files / name, options=options)
    assert len(recording) == events
    assert (recording.width, recording.height) == (width, height)
    assert recording.duration / 1e6 == pytest.approx(seconds, rel=0.01)
    facts = survey_recording(event_files / name, options).facts()
    assert facts["events"] == events
    assert facts["outside_sensor"] == 0
    assert sum(map(len, read_windows(event_files / name, 100_000, options))) == events


@pytest.mark.parametrize("name", REFUSED)
def test_files_without_events_of_a_known_sensor_are_named(event_files: Path, name: str) -> None:
    with pytest.raises(EventFileError) as caught:
        read_recording(event_files / name)
    assert REFUSED[name] in str(caught.value)


def test_the_same_events_in_every_format_are_equal(event_files: Path) -> None:
    files = sorted((event_files / "transcoded").iterdir())
    assert len(files) == 8
    first = read_recording(files[0])
    assert len(first) == 20_000
    for file in files[1:]:
        assert equal(read_recording(file), first), file.name


def test_a_bag_holds_the_events_of_the_raw_file(event_files: Path) -> None:
    raw = read_recording(event_files / "prophesee-evt3/ecp_test_events_1_evt3.raw")
    bag, database = (read_recording(event_files / f"rosbag/test_events_1.{kind}") for kind in ("bag", "db3"))
    assert equal(bag, raw)
    assert equal(database, raw)
