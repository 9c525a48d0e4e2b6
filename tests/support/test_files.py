"""Files on disks that are full, read-only or gone: one line, and the old content."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuromoco.errors import DiskError, EventFileError
from neuromoco.support import files
from neuromoco.support.disk_errors import disk_errors
from neuromoco.support.files import replacing_folder, syncing_later, write_text, writing, writing_folder

SMALL = 20_000  # bytes


@pytest.fixture
def limited() -> Iterator[None]:
    """No file may be longer than some bytes: a full disk for one process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened, in order: names of what was synced, and of what was renamed."""
    happened: list[str] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def record(descriptor: int) -> None:
        happened.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        happened.append(f"name {Path(target).name}")
        return (replace if target.exists() and target.is_file() else rename)(self, target)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Path, "replace", renamed)
    monkeypatch.setattr(Path, "rename", renamed)
    return happened


def test_content_reaches_the_disk_before_the_name_and_then_the_name(tmp_path: Path, synced: list[str]) -> None:
    write_text(tmp_path / "a.txt", "content")
    assert synced == [f"sync .a.txt.{os.getpid()}.part", "name a.txt", f"sync {tmp_path.name}"]
    synced.clear()
    with writing_folder(tmp_path / "b") as part:
        write_text(part / "inside.txt", "content")  # is synced once, with the folder
    assert synced[0] == "name inside.txt"
    assert sorted(synced[1:3]) == [f"sync .b.{os.getpid()}.part", "sync inside.txt"]
    assert synced[3:] == ["name b", f"sync {tmp_path.name}"]
    synced.clear()
    with syncing_later():
        write_text(tmp_path / "a.txt", "other")
    assert synced == ["name a.txt"]


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("library", ["python", "safetensors"])
def test_a_disk_without_room_is_one_line_and_leaves_the_old_file(tmp_path: Path, library: str) -> None:
    (tmp_path / "weights").write_text("old")
    write = {
        "python": lambda part: part.write_bytes(bytes(SMALL + 1)),
        "safetensors": lambda part: save_file({"a": np.zeros(SMALL)}, part),
    }[library]
    with pytest.raises(DiskError, match="larger than this disk"), writing(tmp_path / "weights") as part:
        write(part)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("weights", "old")]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full; free some space and run it again"),
        (OSError(errno.EDQUOT, "x"), "your quota of disk space is used up"),
        (OSError(errno.EROFS, "x"), "the disk is read-only"),
        (OSError(errno.EIO, "x"), "the disk fails"),
        (OSError(errno.ESTALE, "x"), "the network disk is gone"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError("Can't write data (errno = 28, error message = 'No space left on device')"), "the disk is full"),
    ],
    ids=str,
)
def test_what_libraries_raise_becomes_one_line(tmp_path: Path, error: Exception, line: str) -> None:
    with pytest.raises(DiskError) as caught, writing(tmp_path / "a"):
        raise error
    assert str(caught.value).startswith(f"{tmp_path / 'a'}: {line}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("no disk"), FileNotFoundError(errno.ENOENT, "x", "/elsewhere/recording")])
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), disk_errors(tmp_path / "a"):
        raise error
    with pytest.raises(EventFileError), disk_errors(tmp_path / "a"):
        raise EventFileError("a recording")


def test_a_writer_that_says_only_that_it_failed_is_understood_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "x")

    with pytest.raises(RuntimeError, match="file write failed"), disk_errors(tmp_path / "a"):
        raise RuntimeError("PytorchStreamWriter: file write failed")
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(DiskError, match="the disk is full"), disk_errors(tmp_path / "a"):
        raise RuntimeError("PytorchStreamWriter: file write failed")


def test_a_replaced_folder_keeps_the_old_one_if_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/old").write_text("")

    def fails(folder: Path) -> None:
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(files, "sync_all", fails)
    with pytest.raises(DiskError, match="the disk fails"), replacing_folder(tmp_path / "a") as part:
        (part / "new").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "old"]
