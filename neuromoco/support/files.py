"""Files and folders that are complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuromoco.errors import ConfigError


@contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path to write to, which is renamed to `path` unless the block raises."""
    path = Path(path)
    part = _temporary(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: Path | str) -> Iterator[Path]:
    """Yields a temporary folder to fill, which is renamed to `path` unless the block raises or `path` exists."""
    path = Path(path)
    part = _temporary(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        try:
            part.rename(path)
        except OSError:  # another process was faster; its folder is as good and may be in use
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yields a temporary folder to fill, which replaces the folder at `path`, if any, unless the block raises."""
    path = Path(path)
    new, old = (path.with_name(f".{path.name}.{os.getpid()}.{age}") for age in ("new", "old"))
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
    shutil.rmtree(old, ignore_errors=True)


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """Holds a lock file; waits while another process holds it. The system releases it however a process ends."""
    import fcntl  # POSIX only

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_disk_space(folder: Path, size: int, what: str, alternative: str) -> None:
    """Raises ConfigError if the disk of a folder, which need not exist yet, has fewer than `size` bytes free."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        sizes = f"{what} {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise ConfigError(f"{folder.parent}: {sizes}; free some space, or {alternative}")


def cache_folder() -> Path:
    """The folder of files that can be recomputed: $NEUROMOCO_CACHE, else the user's cache folder."""
    if folder := os.environ.get("NEUROMOCO_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuromoco"


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
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
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
