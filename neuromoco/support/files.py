"""Files and folders that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock

from neuromoco.errors import ConfigError
from neuromoco.support.disk_errors import disk_errors
from neuromoco.support.untrusted import parse_json, read_bytes

SYNCED_AT_ONCE = 16
LARGEST_JSON = 1 << 26  # bytes; a line of metrics has some hundred, a recording in a split too
_later: ContextVar[bool] = ContextVar("_later", default=False)


@contextmanager
def syncing_later() -> Iterator[None]:
    """In this context, `writing` does not wait for the disk; the caller syncs what it needs after a power cut."""
    before = _later.set(True)
    try:
        yield
    finally:
        _later.reset(before)


@contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path to write to, which is renamed to `path` unless the block raises.

    The content reaches the disk before the name does: after a power cut, the file is the old or the new one.

    Raises:
        DiskError: the disk is full, read-only or gone; the old file is kept.
    """
    path = Path(path)
    with disk_errors(path):
        part = _temporary(path)
        try:
            yield part
            if _later.get() or any(map(is_partial, path.parents)):  # a partial folder is synced as a whole
                part.replace(path)
            else:
                sync(part)
                part.replace(path)
                sync(path.parent)
        finally:
            with suppress(OSError):  # of a disk that is gone
                part.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: Path | str) -> Iterator[Path]:
    """Yields a temporary folder to fill, which is renamed to `path` unless the block raises or `path` exists.

    Raises:
        DiskError: the disk is full, read-only or gone.
    """
    path = Path(path)
    with disk_errors(path):
        part = _temporary(path)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            sync_all(part)
            try:
                part.rename(path)
            except OSError:  # another process was faster; its folder is as good and may be in use
                if not path.is_dir():
                    raise
            sync(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yields a temporary folder to fill, which replaces the folder at `path`, if any, unless the block raises.

    Raises:
        DiskError: the disk is full, read-only or gone; the old folder is kept.
    """
    path = Path(path)
    new, old = (path.with_name(f".{path.name}.{os.getpid()}.{age}") for age in ("new", "old"))
    with disk_errors(path):
        with writing_folder(new) as part:
            yield part
        try:
            if path.is_dir():
                path.rename(old)
            new.rename(path)
        except BaseException:  # an interruption, too, must not lose the old folder
            if old.is_dir() and not path.exists():
                old.rename(path)
            shutil.rmtree(new, ignore_errors=True)
            raise
        sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def is_partial(path: Path) -> bool:
    """Whether a file or folder is one that a killed process had not finished writing."""
    return path.name.startswith(".") and path.name.endswith(".part")


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it; a link itself, not what it names."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # which cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Waits until a folder and all that is in it are on the disk."""
    with ThreadPoolExecutor(SYNCED_AT_ONCE) as threads:  # disks write many files at once in hardly more time than one
        list(threads.map(sync, (folder, *folder.rglob("*"))))


@contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """Holds a lock file; waits while another process holds it. The system releases it however a process ends.

    A link is not followed, and the file keeps its content.

    Raises:
        DiskError: the disk is read-only or gone, the file is a link, or the disk knows no locks.
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A lock by the file's mere existence would outlive a killed process.
        lock = FileLock(path, mode=0o600, fallback_to_soft=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_disk_space(folder: Path, size: int, what: str, alternative: str) -> None:
    """Raises ConfigError if the disk of a folder, which need not exist yet, has fewer than `size` bytes free."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        sizes = f"{what} {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise ConfigError(f"{folder.parent}: {sizes}; free some space, or {alternative}")


def write_text(path: Path | str, text: str) -> None:
    """Writes a text file in UTF-8; an interrupted write leaves the old file."""
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Writes a value as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path | str) -> dict[str, Any]:
    """Reads a JSON object that `write_json` wrote.

    Raises:
        ConfigError: the file is missing, damaged, or has no JSON object.
    """
    try:
        value = parse_json(read_bytes(path, LARGEST_JSON))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: is damaged; delete it to have it written again, or give another --out")
    return value


def files_in(places: Iterable[Path]) -> list[Path]:
    """The given files, and the files in given folders at any depth, sorted and without hidden ones.

    A folder without files is returned itself, so that reading it raises an error that names it.
    """
    files: list[Path] = []
    for place in places:
        inside = [path.relative_to(place) for path in sorted(place.rglob("*")) if path.is_file()]
        files += [place / path for path in inside if not any(p.startswith(".") for p in path.parts)] or [place]
    return files
