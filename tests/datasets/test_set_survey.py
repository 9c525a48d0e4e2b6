"""What a survey of a set finds: figures, damage, copies and pictures; and in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuromoco import Recording
from neuromoco.datasets import list_recordings
from neuromoco.datasets.fingerprints import KEPT, Fingerprint, find_twins, fingerprint
from neuromoco.datasets.set_survey import survey_set
from neuromoco.errors import ConfigError
from neuromoco.events import read_recording, write_npz
from tests.conftest import make_recording

Folders = Callable[[int, int], Path]


def kept(recording: Recording, part: slice | np.ndarray, later: int = 0) -> Recording:
    columns = {name: getattr(recording, name)[part] for name in "txyp"}
    return dataclasses.replace(recording, **columns | {"t": columns["t"] + later})


def shared(a: Recording, b: Recording) -> float:
    pairs = find_twins([fingerprint(a), fingerprint(b)])
    return pairs[0].shared if pairs else 0.0


def test_copies_are_found_whatever_the_clock_the_beginning_and_lost_events() -> None:
    one = make_recording(1, events=4000)
    assert shared(one, kept(one, slice(None), later=1_234_567)) == 1.0
    assert shared(one, kept(one, slice(300, None))) > 0.9
    assert shared(one, kept(one, slice(0, 1000))) > 0.7  # a quarter, wholly within
    assert shared(one, kept(one, np.arange(4000) % 100 != 7)) > 0.8
    assert shared(one, make_recording(2, events=4000)) == 0.0


def test_a_fingerprint_is_the_same_however_many_events_are_hashed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = make_recording(1, events=1000)
    at_once = fingerprint(one)
    monkeypatch.setattr("neuromoco.datasets.fingerprints.PIECE", 64)
    in_pieces = fingerprint(one)
    assert np.array_equal(at_once.hashes, in_pieces.hashes)
    assert (len(at_once.hashes), at_once.runs) == (KEPT, 993)


def test_recordings_without_events_enough_have_no_copies() -> None:
    few = fingerprint(make_recording(1, events=5))
    assert few.runs == 0
    assert find_twins([few, few]) == []


def test_many_copies_of_one_recording_are_compared_in_a_chain() -> None:
    one = fingerprint(make_recording(1))
    assert [(a, b) for a, b, _ in find_twins([one] * 100)] == [(i, i + 1) for i in range(99)]
    assert len(find_twins([Fingerprint(one.hashes, one.runs)] * 4)) == 6


def test_a_survey_finds_counts_durations_damage_and_copies(class_folders: Folders) -> None:
    folder = class_folders(3, 4)
    (folder / "class1" / "001.bin").write_bytes(b"")
    copy = read_recording(folder / "class0" / "001.bin")
    write_npz(folder / "class2" / "copy.npz", kept(copy, slice(None), later=99))
    found = survey_set("mine", list_recordings(folder, labelled=True), pictures=2)
    assert (found.recordings, len(found.samples)) == (13, 12)
    assert {name: len(samples) for name, samples in found.by_class().items()} == {"class0": 4, "class1": 3, "class2": 5}
    assert found.sensors == {(34, 34): 12}
    assert set(found.values("events")) == {600}
    assert set(found.values("duration_us")) == {300_000}
    assert [problem.split(": ")[0].rpartition("/")[2] for problem in found.problems] == ["001.bin"]
    (twins,) = found.copies
    assert (twins.first, twins.second, twins.classes_differ) == ("class0/001.bin", "class2/copy.npz", True)
    assert [picture.label for picture in found.pictures] == [0, 0, 1, 1, 2, 2]
    assert found.pictures[0].counts.shape == (2, 34, 34)
    assert found.pictures[0].counts.sum() == 600


def test_copies_are_found_in_other_sets(class_folders: Folders, tmp_path: Path) -> None:
    listing = list_recordings(class_folders(2, 3), labelled=True)
    other = tmp_path / "test"
    for label in ("class0", "class1"):
        write_npz(other / label / "one.npz", read_recording(listing.root / "class0" / "000.bin"))
    found = survey_set("mine", listing, against=[list_recordings(other, labelled=True)])
    assert [(one.second, one.classes_differ) for one in found.copies] == [
        ("test/class0/one.npz", False),
        ("test/class1/one.npz", True),
    ]
    assert found.compared == 2


def test_the_occupied_area_and_what_moves() -> None:
    found = survey_set("mine", list_recordings("models/examples", labelled=False))
    left, top, width, height = found.occupied()
    assert 0 < left < 10
    assert 0 < top < 10
    assert 15 < width < 34
    assert 15 < height < 34
    across, down = np.median(found.values("moving"), axis=0)
    assert across < width / 34 + 1e-9
    assert down < height / 34 + 1e-9


def test_a_part_of_each_class_is_read(class_folders: Folders) -> None:
    listing = list_recordings(class_folders(3, 10), labelled=True)
    found = survey_set("mine", listing, most=12)
    assert [len(samples) for samples in found.by_class().values()] == [4, 4, 4]
    assert found.recordings == 30


def test_several_processes_find_what_one_finds(class_folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = list_recordings(class_folders(2, 3), labelled=True)
    one = survey_set("mine", listing)
    monkeypatch.setattr("neuromoco.datasets.prepare.BYTES_PER_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert survey_set("mine", listing).samples == one.samples


def test_a_set_that_cannot_be_read_is_refused(class_folders: Folders) -> None:
    folder = class_folders(2, 2)
    for file in folder.rglob("*.bin"):
        file.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^mine: none of 4 recordings can be read; the first: .*is empty"):
        survey_set("mine", list_recordings(folder, labelled=True))
