"""Files that are whole or absent: written beside their place, then renamed into it."""

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
    """Gives a path beside `path` to write to; it takes its place only if the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: Path | str) -> Iterator[Path]:
    """Gives a folder beside `path` to fill; it takes its place if all ends well and nothing stands there yet."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        # Another process may have been faster; what it made is as good, and somebody may be reading it.
        try:
            part.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Gives a folder beside `path` to fill; if all ends well it takes the place of whatever folder stands there."""
    path = Path(path)
    new, old = (path.with_name(f".{path.name}.{os.getpid()}.{age}") for age in ("new", "old"))
    with writing_folder(new) as part:
        yield part
    try:
        if path.is_dir():
            path.rename(old)
        new.rename(path)
    except BaseException:  # an interruption, too, must not lose what stood there
        if old.is_dir() and not path.exists():
            old.rename(path)
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """Waits until no other process holds this lock. However a process ends, what it held is free again."""
    import fcntl  # not on every system

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache_folder() -> Path:
    """Where what can be made again is kept: $NEUROMOCO_CACHE, else the user's cache folder."""
    given = os.environ.get("NEUROMOCO_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuromoco"


def write_text(path: Path | str, text: str) -> None:
    """Writes a whole text file at once."""
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Writes JSON that a person can read."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path | str) -> dict[str, Any]:
    """What `write_json` wrote of names and values.

    Raises:
        ConfigError: something else is there.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: is damaged; delete it, and it is made again, or give another --out")
    return found


def files_in(places: Iterable[Path]) -> list[Path]:
    """Files, and the files in folders at any depth, sorted; hidden ones are passed over.

    A folder without any stands for itself, so that whoever reads it says what is wrong.
    """
    files: list[Path] = []
    for place in places:
        inside = [path.relative_to(place) for path in sorted(place.rglob("*")) if path.is_file()]
        visible = [place / path for path in inside if not any(part.startswith(".") for part in path.parts)]
        files += visible or [place]
    return files
