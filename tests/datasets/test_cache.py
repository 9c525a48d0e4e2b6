"""Cached frames: equal to fresh ones, never stale, gone on with after a kill, alike from one process or several."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from neuromoco import ConfigError, EventFileError, Recording, read_recording, to_frames
from neuromoco.config import FrameConfig
from neuromoco.datasets import Listing, cached_frames, frame_files, list_recordings, prepare
from neuromoco.errors import DiskError
from neuromoco.events import write_atis, write_npz
from neuromoco.support.cache import cache_folder
from tests.conftest import make_recording

Folders = Callable[[int, int], Path]
CONFIG = FrameConfig(steps=3, height=20, width=17)
KILLED = """
import os, signal, sys
from neuromoco.config import FrameConfig
from neuromoco.datasets import cached_frames, list_recordings, prepare

read, left = prepare.read_recording, [4]

def read_or_die(*args, **options):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(*args, **options)

prepare.read_recording = read_or_die
cached_frames(list_recordings(sys.argv[1], labelled=True), FrameConfig(steps=3, height=20, width=17))
"""


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMOCO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    names: list[str] = []

    def counted(path: Path, *args: Any, **options: Any) -> Recording:
        names.append(path.name)
        return read_recording(path, *args, **options)

    monkeypatch.setattr(prepare, "read_recording", counted)
    return names


def fresh(listing: Listing) -> np.ndarray:
    return np.stack([to_frames(read_recording(path), 3, "count", (20, 17)) for path in listing.paths])


def sets() -> list[str]:
    return sorted(folder.name for folder in (cache_folder() / "frames").glob("*/*") if folder.is_dir())


def test_cached_frames_equal_fresh_ones_and_are_read_once(class_folders: Folders, read: list[str]) -> None:
    listing = list_recordings(class_folders(2, 3), labelled=True)
    store = cached_frames(listing, CONFIG)
    assert np.array_equal(store.frames, fresh(listing))
    assert (store.frames.dtype, type(store.frames)) == (np.uint8, np.memmap)
    assert store.events.tolist() == [600] * 6
    assert store.durations.tolist() == [300_000] * 6
    assert store.sensors.tolist() == [[34, 34]] * 6
    assert len(read) == 6
    assert np.array_equal(cached_frames(listing, CONFIG).frames, store.frames)
    assert len(read) == 6
    assert len(sets()) == 1


@pytest.mark.parametrize(
    "change", [{"steps": 4}, {"height": 21}, {"width": 18}, {"slice_by": "time"}], ids=lambda change: next(iter(change))
)
def test_another_setting_makes_other_frames(class_folders: Folders, read: list[str], change: dict[str, Any]) -> None:
    listing = list_recordings(class_folders(1, 2), labelled=True)
    cached_frames(listing, CONFIG)
    other = CONFIG.model_copy(update=change)
    store = cached_frames(listing, other)
    assert len(read) == 4
    for row, path in enumerate(listing.paths):
        wanted = to_frames(read_recording(path), other.steps, other.slice_by, (other.height, other.width))
        assert np.array_equal(store.frames[row], wanted)


def test_another_version_of_the_readers_makes_frames_anew(
    class_folders: Folders, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = list_recordings(class_folders(1, 2), labelled=True)
    cached_frames(listing, CONFIG)
    monkeypatch.setattr("neuromoco.datasets.cache.FRAMES_VERSION", 99)
    cached_frames(listing, CONFIG)
    assert len(read) == 4


def test_of_a_changed_set_only_what_changed_is_read_again(class_folders: Folders, read: list[str]) -> None:
    folder = class_folders(2, 3)
    cached_frames(list_recordings(folder, labelled=True), CONFIG)
    read.clear()
    write_atis(folder / "class0" / "001.bin", make_recording(99, events=10))
    write_atis(folder / "class0" / "0005.bin", make_recording(98, events=20))
    (folder / "class1" / "002.bin").unlink()
    listing = list_recordings(folder, labelled=True)
    store = cached_frames(listing, CONFIG)
    assert sorted(read) == ["0005.bin", "001.bin"]
    assert store.events.tolist() == [600, 20, 10, 600, 600, 600]
    assert np.array_equal(store.frames, fresh(listing))


def test_a_file_of_other_content_is_met_though_size_and_time_of_change_are_the_same(
    class_folders: Folders, read: list[str]
) -> None:
    folder = class_folders(1, 1)
    file = folder / "class0" / "000.bin"
    cached_frames(list_recordings(folder, labelled=True), CONFIG)
    before = file.stat()
    write_atis(file, make_recording(99))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    listing = list_recordings(folder, labelled=True)
    assert np.array_equal(cached_frames(listing, CONFIG).frames, fresh(listing))
    assert len(read) == 2


def test_a_moved_set_is_not_decoded_again(class_folders: Folders, read: list[str]) -> None:
    folder = class_folders(2, 2)
    first = cached_frames(list_recordings(folder, labelled=True), CONFIG)
    moved = folder.rename(folder.with_name("elsewhere"))
    assert np.array_equal(cached_frames(list_recordings(moved, labelled=True), CONFIG).frames, first.frames)
    assert len(read) == 4


def test_a_killed_preparation_goes_on_where_it_was(class_folders: Folders, read: list[str]) -> None:
    folder = class_folders(2, 4)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    assert [name.startswith(".") for name in sets()] == [True]
    listing = list_recordings(folder, labelled=True)
    store = cached_frames(listing, CONFIG)
    assert read == ["000.bin", "001.bin", "002.bin", "003.bin"]  # of the second class: the first four were done
    assert np.array_equal(store.frames, fresh(listing))
    assert store.events.tolist() == [600] * 8
    assert [name.startswith(".") for name in sets()] == [False]


def test_counts_above_255_are_kept_as_uint16(class_folders: Folders, read: list[str]) -> None:
    folder = class_folders(2, 3)
    hot = Recording.from_columns(np.arange(3000), np.zeros(3000, int), np.zeros(3000, int), np.ones(3000, int))
    write_npz(folder / "class1" / "001.bin", hot)
    listing = list_recordings(folder, labelled=True)
    store = cached_frames(listing, CONFIG)
    assert store.frames.dtype == np.uint16
    assert store.frames[4].max() == 1000
    assert np.array_equal(store.frames, fresh(listing))
    assert len(read) == 6
    (folder / "class1" / "000.bin").unlink()  # rows are copied from the wide set
    assert cached_frames(list_recordings(folder, labelled=True), CONFIG).frames.dtype == np.uint16
    assert len(read) == 6


def test_counts_above_65535_are_refused(tmp_path: Path) -> None:
    many = Recording.from_columns(10 * np.arange(70_000), *np.zeros((2, 70_000), int), np.ones(70_000, int))
    write_npz(tmp_path / "data" / "many.npz", many)
    with pytest.raises(EventFileError, match=r"many.npz: 70000 events in one pixel and slice; use more steps"):
        cached_frames(list_recordings(tmp_path / "data", labelled=False), FrameConfig(steps=1, height=1, width=1))


def test_damaged_files_of_a_set_are_named_and_the_others_are_kept(class_folders: Folders, read: list[str]) -> None:
    folder = class_folders(2, 5)
    for number in range(4):
        (folder / "class1" / f"00{number}.bin").write_bytes(b"")
    with pytest.raises(
        EventFileError, match=r"4 of 10 files cannot be used; .*class1/000.bin: is empty.*class1/003.bin: is empty"
    ):
        cached_frames(list_recordings(folder, labelled=True), CONFIG)
    read.clear()
    for number in range(4):
        write_atis(folder / "class1" / f"00{number}.bin", make_recording(number))
    listing = list_recordings(folder, labelled=True)
    assert np.array_equal(cached_frames(listing, CONFIG).frames, fresh(listing))
    assert read == [f"00{number}.bin" for number in range(4)]
    assert [name.startswith(".") for name in sets()] == [False]  # what was begun is used up


def test_several_processes_make_what_one_makes(class_folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = class_folders(3, 4)
    (folder / "class1" / "002.bin").write_bytes(b"")
    listing = list_recordings(folder, labelled=True)
    tasks = [prepare.FrameJob(job, CONFIG) for job in prepare.file_jobs(listing, range(len(listing)))]
    serial = list(prepare.make_frames(tasks))
    monkeypatch.setattr(prepare, "BYTES_PER_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    several = list(prepare.make_frames(tasks))
    for one, other in zip(serial, several, strict=True):
        assert (one.rows, one.problem) == (other.rows, other.problem)
        assert np.array_equal(one.frames, other.frames)
        assert np.array_equal(one.facts, other.facts)
    assert sum(result.problem is not None for result in several) == 1


def end_at_the_second(job: prepare.FrameJob) -> prepare.FileFrames:
    if job.file.path.name == "002.bin":
        os.kill(os.getpid(), signal.SIGSEGV)
    return prepare.read_frames(job)


def test_a_file_that_ends_its_process_is_named_and_the_others_are_read(
    class_folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = list_recordings(class_folders(2, 3), labelled=True)
    tasks = [prepare.FrameJob(job, CONFIG) for job in prepare.file_jobs(listing, range(len(listing)))]
    serial = list(prepare.make_frames(tasks))
    monkeypatch.setattr(prepare, "BYTES_PER_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(prepare, "read_frames", end_at_the_second)
    several = list(prepare.make_frames(tasks))
    assert [result.rows for result in several] == [result.rows for result in serial]
    for task, one, other in zip(tasks, serial, several, strict=True):
        if task.file.path.name == "002.bin":
            assert (
                other.problem
                == f"{task.file.path}: damaged, or made to do harm: the process that read it crashed (SIGSEGV)"
            )
        else:
            assert np.array_equal(one.frames, other.frames)
    with pytest.raises(EventFileError, match=r"002.bin: damaged"):
        cached_frames(listing, CONFIG)


def test_of_two_that_want_the_same_frames_one_makes_them(
    class_folders: Folders, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = list_recordings(class_folders(2, 3), labelled=True)
    at_work, go_on = Event(), Event()
    counted = prepare.read_recording

    def slow(*args: Any, **options: Any) -> Recording:
        at_work.set()
        assert go_on.wait(10)
        return counted(*args, **options)

    monkeypatch.setattr(prepare, "read_recording", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cached_frames, listing, CONFIG)
        assert at_work.wait(10)
        second = pool.submit(cached_frames, listing, CONFIG)
        go_on.set()
        assert np.array_equal(first.result().frames, second.result().frames)
    assert len(read) == 6


def test_no_room_on_the_disk_is_said_before_anything_is_read(
    class_folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(
        ConfigError, match=r"frames of 2 recordings take .* are free; free some space, or set NEUROMOCO_CACHE"
    ):
        cached_frames(list_recordings(class_folders(1, 2), labelled=True), CONFIG)


def damage_row(folder: Path, row: int) -> None:
    """Flips a bit of a row's frames."""
    frames = np.load(folder / "frames.npy", mmap_mode="r+")
    frames[row, 0, 0, 0, 0] ^= 1
    frames.flush()


def the_set() -> Path:
    (folder,) = (place for place in (cache_folder() / "frames").glob("*/*") if place.is_dir())
    return folder


@pytest.mark.parametrize("begun", [False, True], ids=["finished", "unfinished"])
def test_damaged_rows_are_made_anew_and_the_others_are_kept(
    class_folders: Folders, read: list[str], begun: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = list_recordings(class_folders(2, 3), labelled=True)
    cached_frames(listing, CONFIG)
    read.clear()
    damage_row(the_set(), 4)
    if begun:
        the_set().rename(the_set().with_name(f".{the_set().name}.part"))
    assert np.array_equal(cached_frames(listing, CONFIG).frames, fresh(listing))
    assert read == ["001.bin"]  # of the second class
    assert [name.startswith(".") for name in sets()] == [False]
    assert ("damaged" in capsys.readouterr().err) is not begun


@pytest.mark.parametrize("file", ["frames.npy", "facts.npy", "keys.npy"])
@pytest.mark.parametrize("how", ["cut", "empty", "missing", "zero", "header", "link"])
def test_damaged_files_of_the_cache_are_made_anew(
    class_folders: Folders, read: list[str], tmp_path: Path, file: str, how: str
) -> None:
    listing = list_recordings(class_folders(2, 2), labelled=True)
    cached_frames(listing, CONFIG)
    read.clear()
    path = the_set() / file
    content = path.read_bytes()
    path.unlink()
    if how == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif how != "missing":
        header = 128
        damaged = {
            "cut": content[:-7],
            "empty": b"",
            "zero": content[:header] + bytes(len(content) - header),  # as after a power cut
            "header": b"\0" * header + content[header:],
        }
        path.write_bytes(damaged[how])
    store = cached_frames(listing, CONFIG)
    assert np.array_equal(store.frames, fresh(listing))
    assert store.events.tolist() == [600] * 4
    assert len(read) == 4
    assert not path.is_symlink()
    if how == "link":
        assert (tmp_path / "elsewhere").read_bytes() == content


def test_a_damaged_set_hurts_no_other(class_folders: Folders, read: list[str]) -> None:
    folder = class_folders(2, 3)
    cached_frames(list_recordings(folder, labelled=True), CONFIG)
    damage_row(the_set(), 0)
    first = the_set()
    write_atis(folder / "class0" / "009.bin", make_recording(9))
    read.clear()
    listing = list_recordings(folder, labelled=True)
    assert np.array_equal(cached_frames(listing, CONFIG).frames, fresh(listing))
    assert sorted(read) == ["000.bin", "009.bin"]  # the damaged row is not copied
    (first / "frames.npy").write_bytes(b"")
    write_atis(folder / "class0" / "010.bin", make_recording(10))
    read.clear()
    listing = list_recordings(folder, labelled=True)
    assert np.array_equal(cached_frames(listing, CONFIG).frames, fresh(listing))
    assert read == ["010.bin"]


def test_a_disk_that_fills_is_an_error_that_can_be_mended(
    class_folders: Folders, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some disks cannot reserve space: a row is then the first to meet that there is none."""
    write, rows = frame_files._write, [0]

    def full(path: Path, array: Any, row: int, values: Any) -> None:
        rows[0] += 1
        if rows[0] == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, array, row, values)

    listing = list_recordings(class_folders(2, 3), labelled=True)
    with monkeypatch.context() as patch:
        patch.setattr(frame_files, "_write", full)
        with pytest.raises(DiskError, match="the disk is full; free some space and run it again"):
            cached_frames(listing, CONFIG)
    read.clear()
    assert np.array_equal(cached_frames(listing, CONFIG).frames, fresh(listing))
    assert len(read) == 4  # two rows were complete


def test_space_is_reserved_before_anything_is_read(
    class_folders: Folders, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = list_recordings(class_folders(2, 3), labelled=True)
    cached_frames(listing, CONFIG)
    file = the_set() / "frames.npy"
    assert file.stat().st_blocks * 512 >= file.stat().st_size

    def full(*place: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    read.clear()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskError, match="the disk is full"):
        cached_frames(listing, CONFIG.model_copy(update={"steps": 9}))
    assert read == []


def test_a_cache_that_others_may_write_to_is_refused(class_folders: Folders) -> None:
    listing = list_recordings(class_folders(1, 2), labelled=True)
    cached_frames(listing, CONFIG)
    (cache_folder() / "frames").chmod(0o777)
    with pytest.raises(ConfigError, match="others may write to it"):
        cached_frames(listing, CONFIG)


def test_equal_content_has_equal_keys(class_folders: Folders) -> None:
    folder = class_folders(2, 2)
    before = cached_frames(list_recordings(folder, labelled=True), CONFIG).keys
    write_atis(folder / "class1" / "001.bin", make_recording(77))
    after = cached_frames(list_recordings(folder, labelled=True), CONFIG.model_copy(update={"steps": 5})).keys
    assert (before == after).all(axis=1).tolist() == [True, True, True, False]
