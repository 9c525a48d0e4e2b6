"""What a set says of its files: options, one sensor, damage, tables of labels, windows, groups, crops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuromoco import ConfigError, EventFileError, Recording, load_classifier, read_recording
from neuromoco.checkpoint import read_header
from neuromoco.config import FrameConfig, RecordingsConfig, parse_settings
from neuromoco.datasets import Listing, frames_of, hold_out, list_data, split_by_class
from neuromoco.datasets.label_table import read_label_table
from neuromoco.datasets.splits import NoSplitError, budget_split
from neuromoco.events import ReadOptions, write_atis, write_npz
from neuromoco.events.occupied import occupied
from neuromoco.frames import cropped, recording_frames
from tests.conftest import make_recording
from tests.helpers.cli import SMALL, error_line, run

Folders = Callable[[int, int], Path]
FRAMES = FrameConfig(steps=2, height=16, width=16)


def write_text_events(file: Path, x: list[int], y: list[int]) -> None:
    """A recording as text, in seconds, whose header names no sensor."""
    rows = [f"{i / 100:.6f},{a},{b},{i % 2}" for i, (a, b) in enumerate(zip(x, y, strict=True))]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["t,x,y,p", *rows]) + "\n")


@pytest.fixture
def unnamed(tmp_path: Path) -> Path:
    """Two classes of recordings without a sensor, one of which reaches less far."""
    rng = np.random.default_rng(0)
    for label, reach in enumerate((64, 40)):
        for number in range(6):
            x, y = rng.integers(0, reach, (2, 400)).tolist()
            write_text_events(tmp_path / f"data/c{label}/{number}.csv", [5, *x, reach - 1], [5, *y, reach - 1])
    return tmp_path / "data"


def test_files_that_name_no_sensor_get_one_for_the_set(unnamed: Path) -> None:
    found = frames_of(list_data(str(unnamed), "train", recordings=RecordingsConfig(time_unit="s")), FRAMES)
    assert found.store.sensors.tolist() == [[64, 64]] * 12
    assert found.listing.options.default_sensor == (64, 64)
    alone = read_recording(unnamed / "c1/0.csv", options=ReadOptions(time_unit="s"))
    assert (alone.width, alone.height) == (40, 40)  # one column of pixels would land in another place


def test_stray_events_make_no_sensor_of_a_set(unnamed: Path) -> None:
    write_text_events(unnamed / "c0/9.csv", [*range(64)] * 10 + [3000], [*range(64)] * 10 + [7])
    found = frames_of(list_data(str(unnamed), "train", recordings=RecordingsConfig(time_unit="s")), FRAMES)
    assert set(map(tuple, found.store.sensors.tolist())) == {(64, 64)}


def test_the_frames_of_files_that_name_their_sensor_are_what_they_were(class_folders: Folders, tmp_path: Path) -> None:
    listing = list_data(str(class_folders(2, 3)), "train")
    found = frames_of(listing, FRAMES)
    alone = [recording_frames(read_recording(path), FRAMES) for path in listing.paths]
    assert np.array_equal(found.store.frames, np.stack(alone))
    for number in range(3):
        (tmp_path / "npz").mkdir(exist_ok=True)
        write_npz(tmp_path / f"npz/{number}.npz", make_recording(number))
    assert frames_of(list_data(str(tmp_path / "npz"), "train", labelled=False), FRAMES).listing.options == ReadOptions()


def test_a_file_beside_the_set_says_what_its_files_do_not(unnamed: Path) -> None:
    (unnamed / "recordings.yaml").write_text("sensor: 80x60\ntime_unit: s\n")
    assert list_data(str(unnamed), "train").options == ReadOptions(sensor=(80, 60), time_unit="s")
    given = RecordingsConfig(sensor=(90, 90))
    assert list_data(str(unnamed), "train", recordings=given).options == ReadOptions(sensor=(90, 90), time_unit="s")
    for text, words in (
        ("sensr: 3", "sensr: no such name"),
        ("window: 5", "a duration of 5"),
        ("flip: z", "should be"),
    ):
        (unnamed / "recordings.yaml").write_text(text)
        with pytest.raises(ConfigError, match=words):
            list_data(str(unnamed), "train")


def test_files_of_several_sensors_and_of_none_are_asked_about(unnamed: Path) -> None:
    for side in (70, 90):
        place = np.arange(60)
        write_npz(
            unnamed / f"c0/{side}.npz", Recording.from_columns(place, place, place, place % 2, width=side, height=80)
        )
    with pytest.raises(ConfigError, match=r"12 files do not name their sensor, and the others name .*70 x 80"):
        frames_of(list_data(str(unnamed), "train"), FRAMES)


def test_files_that_lie_about_do_not_stop_a_folder(class_folders: Folders) -> None:
    folder = class_folders(2, 2)
    names = list_data(str(folder), "train").names
    for place in ("notes.txt", "Thumbs.db", "class0/README.md", "class1/desktop.ini"):
        (folder / place).write_text("x")
    assert list_data(str(folder), "train").names == names


def test_damaged_files_are_left_out_on_request_and_listed(class_folders: Folders, tmp_path: Path) -> None:
    folder = class_folders(3, 4)
    for number in range(4):
        (folder / f"class1/00{number}.bin").write_bytes(b"")
    given = RecordingsConfig(skip_damaged=True)
    for _ in range(2):  # the second time from the cache
        found = frames_of(list_data(str(folder), "train", recordings=given), FRAMES)
        assert [problem.file for problem in found.left_out] == [f"class1/00{number}.bin" for number in range(4)]
        assert found.listing.class_names == ("class0", "class2")
        assert found.listing.labels == (0,) * 4 + (1,) * 4
        assert len(found.store.frames) == 8
    for number in range(4):
        for label in (0, 2):
            (folder / f"class{label}/00{number}.bin").write_bytes(b"")
    with pytest.raises(EventFileError, match=r"12 of 12 files cannot be used; .*lists them"):
        frames_of(list_data(str(folder), "train", recordings=given), FRAMES)


def test_tables_of_labels_and_their_mistakes(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,begin [ms],end [ms],class,subject\na.bin,0.5,20,walk,anna\n\nb.bin,1,2,run,ben\n")
    first, second = read_label_table(table, "subject")
    assert (first.file, first.span, first.class_name, first.group) == ("a.bin", (500, 20_000), "walk", "anna")
    assert second.line.endswith("line 4")
    for text, words in (
        ("file,class\n", "holds no labels"),
        ("a,b\n", "file, class missing"),
        ("file,begin_s,class\n", "begin and end, or neither"),
        ("file,begin,end,class\n", "the unit of begin is not known"),
        ("file,begin_s,end_s,class\na,1,x,w\n", "line 2 has the time x"),
        ("file,begin_s,end_s,class\na,1,nan,w\n", "line 2 has the time nan"),
        ("file,begin_s,end_s,class\na,1,1e30,w\n", "line 2 has the time 1e30"),
        ("file,begin_s,end_s,class\na,2,1,w\n", "line 2 runs from 2 to 1"),
        ("file,class\na,\n", "line 2 has no class"),
        ("file,class\na\n", "line 2 has 1 columns"),
        ("file,class\n../a,w\n", "line 2 names ../a"),
    ):
        table.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_label_table(table)
    table.write_text("file,class\na,w\n")
    with pytest.raises(ConfigError, match="no column 'subject'"):
        read_label_table(table, "subject")


def long_recording(seed: int, seconds: int) -> Recording:
    """Events of which the quarter of the sensor in which they lie changes every second."""
    parts = [make_recording(seed * 100 + second, 1200, second % 2) for second in range(seconds)]
    t = np.concatenate([part.t * 3 + 1_000_000 * second for second, part in enumerate(parts)])
    x, y, p = (np.concatenate([getattr(part, name) for part in parts]) for name in "xyp")
    return Recording.from_columns(t, x, y, p, width=34, height=34)


@pytest.fixture
def long_set(tmp_path: Path) -> Path:
    """Two long recordings of two classes each, and a table that says when."""
    folder = tmp_path / "long"
    folder.mkdir()
    lines = ["file,begin_s,end_s,class,subject"]
    for seed, subject in enumerate(("anna", "ben")):
        write_atis(folder / f"{subject}.bin", long_recording(seed, 8))
        lines += [
            f"{subject}.bin,{second},{second + 0.9},{('left', 'right')[second % 2]},{subject}" for second in range(8)
        ]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_windows_of_labelled_parts_stay_together(long_set: Path) -> None:
    given = parse_settings(RecordingsConfig, {"labels": "labels.csv", "window": "300ms", "group": "subject"}, "test")
    listing = list_data(str(long_set), "train", recordings=given)
    assert len(listing) == 2 * 8 * 3
    assert listing.class_names == ("left", "right")
    assert set(listing.groups) == {"anna", "ben"}
    assert listing.spans[:3] == ((0, 300_000), (300_000, 600_000), (600_000, 900_000))
    for split in (
        hold_out(listing, 2, 0),
        split_by_class(listing.labels, 0.5, None, 3, listing.class_names, listing.group_of),
        split_by_class(listing.labels, 0.5, 2, 4, listing.class_names, listing.group_of),
    ):
        sides = [{listing.groups[i] for i in part} for part in (split.train, split.validation)]
        assert not sides[0] & sides[1]
        assert all(sides)
    with pytest.raises(ConfigError, match="parts of 2 groups for 3 folds"):
        hold_out(listing, 3, 0)


def test_recordings_of_a_class_are_cut_and_never_divided(class_folders: Folders) -> None:
    given = parse_settings(RecordingsConfig, {"window": "100ms", "stride": "50ms"}, "test")
    listing = list_data(str(class_folders(2, 6)), "train", recordings=given)
    assert len(listing) == 12 * 5
    split = split_by_class(listing.labels, 0.3, None, 0, listing.class_names, listing.group_of)
    assert split.validation
    assert not {listing.files[i] for i in split.train} & {listing.files[i] for i in split.validation}
    with pytest.raises(NoSplitError, match="share groups"):
        split_by_class([0, 0, 1, 1], 0.5, None, 0, ["a", "b"], ["one"] * 4)
    assert budget_split([0] * 40 + [1] * 40, 0.5, None, 0, ["a", "b"], ["one"] * 80).validation == ()


def test_windows_without_events_are_left_out(tmp_path: Path) -> None:
    t = np.concatenate([np.arange(0, 100_000, 100), np.arange(500_000, 600_000, 100)])
    recording = Recording.from_columns(t, t % 30, t % 30, t % 2, width=34, height=34)
    (tmp_path / "data").mkdir()
    write_npz(tmp_path / "data/a.npz", recording)
    given = parse_settings(RecordingsConfig, {"window": "100ms"}, "test")
    listing = list_data(str(tmp_path / "data"), "train", labelled=False, recordings=given)
    begins = [a for a, _ in listing.spans]
    assert begins == [0, 500_000]
    assert len(frames_of(listing, FRAMES).store.frames) == len(begins)


def test_long_recordings_are_trained_measured_exported_and_answered(long_set: Path, tmp_path: Path) -> None:
    options = ["--data", long_set, "--labels", "labels.csv", "--window", "300ms", "--group", "subject"]
    small = ["--recipe=tiny", *SMALL]
    out = tmp_path / "run"
    trained = run("train", "--stage", "supervised", *options, "--epochs", 2, "--out", out, *small)
    assert trained.exit_code == 0, trained.stderr
    split = json.loads((out / "split.json").read_text())
    sides = [{name.split("[")[0] for name in split[part]} for part in ("train", "validation")]
    assert not sides[0] & sides[1]
    measured = run("evaluate", out, *options, "--json")
    assert measured.exit_code == 0, measured.stderr
    assert json.loads(measured.stdout)["recordings"] == 48
    exported = run("export", out, "--out", tmp_path / "long.onnx")
    assert exported.exit_code == 0, exported.stderr
    answered = run("predict", long_set / "anna.bin", "--model", tmp_path / "long.onnx", "--window", "300ms", "--json")
    assert answered.exit_code == 0, answered.stderr
    assert len(answered.stdout.splitlines()) == 27


def test_what_was_settled_is_kept_and_applied_when_it_answers(unnamed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--data", unnamed, "--time-unit", "s", "--stage", "supervised", "--epochs", 1, "--out", out]
    trained = run("train", *options, "--recipe=tiny", *SMALL)
    assert trained.exit_code == 0, trained.stderr
    assert "all are read as 64 x 64" in " ".join(trained.stderr.split())
    header = read_header(out)
    assert (header.reading.sensor, header.reading.time_unit) == ((64, 64), "s")
    assert run("export", out, "--out", tmp_path / "a.onnx").exit_code == 0
    recording = read_recording(unnamed / "c1/0.csv", options=header.read_options())
    assert (recording.width, recording.duration) == (64, 4_010_000)
    answers = [
        json.loads(run("predict", unnamed / "c1/0.csv", "--model", model, "--json").stdout)["logits_per_step"]
        for model in (out, tmp_path / "a.onnx")
    ]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)


def test_crops(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    t = np.arange(3000)
    x, y = rng.integers(40, 70, 3000), rng.integers(50, 74, 3000)
    noise = rng.random(3000) < 0.05
    x[noise], y[noise] = rng.integers(0, 128, (2, int(noise.sum())))
    recording = Recording.from_columns(t, x, y, t % 2, width=128, height=128)
    for number in range(3):
        (tmp_path / "data").mkdir(exist_ok=True)
        write_npz(tmp_path / f"data/{number}.npz", recording)
    asked = FRAMES.model_copy(update={"crop": "activity"})
    found = frames_of(list_data(str(tmp_path / "data"), "train", labelled=False), asked)
    assert found.frames.crop == (40, 50, 30, 24)
    part = cropped(recording, found.frames)
    assert (part.width, part.height) == (30, 24)
    assert len(part) == np.count_nonzero((x >= 40) & (x < 70) & (y >= 50) & (y < 74))
    assert found.store.events.tolist() == [len(part)] * 3
    with pytest.raises(EventFileError, match="does not fit its sensor of 34 x 34"):
        cropped(make_recording(0), found.frames)
    with pytest.raises(ConfigError, match="is settled by a set"):
        recording_frames(recording, asked)


def test_a_hot_pixel_and_noise_are_not_activity() -> None:
    counts = np.full(128, 3)
    counts[30:60] = 200
    counts[100] = 5000
    assert occupied(counts) == (30, 30)
    assert occupied(np.full(34, 7)) == (0, 34)
    assert occupied(np.zeros(5)) == (0, 5)


def test_listings_keep_their_columns_together() -> None:
    listing = Listing(Path("x"), ("a", "b", "c"), (0, 1, 0), ("p", "q"), groups=("g", "h", "g"))
    assert listing.only([0, 2]) == Listing(Path("x"), ("a", "c"), (0, 0), ("p", "q"), groups=("g", "g"))


def test_a_crop_is_kept_in_exports_of_frames_of_events_and_of_steps(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for label in range(2):
        for number in range(4):
            t = np.sort(rng.integers(0, 300_000, 900))
            x, y = rng.integers(40, 60 + 10 * label, 900), rng.integers(50, 74, 900)
            x[::25], y[::25] = rng.integers(0, 128, (2, 36))
            (tmp_path / f"data/c{label}").mkdir(parents=True, exist_ok=True)
            write_npz(
                tmp_path / f"data/c{label}/{number}.npz", Recording.from_columns(t, x, y, t % 2, width=128, height=128)
            )
    out = tmp_path / "run"
    options = ["--data", tmp_path / "data", "--crop", "activity", "--stage", "supervised", "--epochs", 2, "--out", out]
    trained = run("train", *options, "--recipe=tiny", "--set=frames.steps=2", *SMALL[1:])
    assert trained.exit_code == 0, trained.stderr
    crop = read_header(out).frames.crop
    assert crop is not None
    assert crop[2] <= 34
    recording = read_recording(tmp_path / "data/c1/0.npz")
    expected = load_classifier(out).predict([recording])[0].logits_per_step
    for target, words in (("onnx", []), ("onnx", ["--input", "events"]), ("onnx-step", [])):
        file = tmp_path / "".join([target, *words, ".onnx"])
        exported = run("export", out, "--target", target, *words, "--out", file)
        assert exported.exit_code == 0, exported.stderr
        found = load_classifier(file).predict([recording])[0].logits_per_step
        np.testing.assert_allclose(found, expected, atol=1e-3)
        small = run("predict", "models/examples/3.bin", "--model", file, "--any-length")
        assert "does not fit its sensor of 34 x 34" in error_line(small)
