"""Frames of a set of recordings, made once and kept as a memory-mapped array.

    cache/frames/<version, frame settings>/<recordings>/frames.npy  [S, T, P, H, W]
                                                        facts.npy   [S, 4]
                                                        keys.npy    [S, 2]

A recording's key is the hash of its file's content and extension, its part, and how it is read; a set's name is the
hash of its keys. Whatever changes, stale frames are never met, and what has not changed, a moved file among it, is not
decoded again: rows are copied from other sets with the same keys. A set that is being made is a hidden folder; a row is
done once its key is written, so whoever comes after a process that was killed goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.datasets.folders import Listing
from neuromoco.datasets.prepare import Task, make_frames
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.frames import POLARITIES
from neuromoco.support.console import track
from neuromoco.support.files import cache_folder, locked, writing

# Raise it whenever readers or frames give other numbers for the same file.
FRAMES_VERSION = 2
SHOWN = 3


@dataclass(frozen=True)
class FrameStore:
    """Frames of S recordings, and three facts of each.

    Attributes:
        frames: uint8 or, where a count needs it, uint16 [S, T, P, H, W], memory-mapped.
        events: int64 [S].
        durations: int64 [S], microseconds.
        sensors: int64 [S, 2], rows and columns.
    """

    frames: NDArray[np.unsignedinteger[Any]]
    events: NDArray[np.int64]
    durations: NDArray[np.int64]
    sensors: NDArray[np.int64]


def cached_frames(listing: Listing, config: FrameConfig) -> FrameStore:
    """Frames of every recording of a listing, made now or at an earlier call.

    Raises:
        ConfigError: the disk has no room for them.
        EventFileError: one or more files cannot be read; the first few are named, none is left out. What can be read
            is kept for the next call.
    """
    keys = _keys(listing)
    place = cache_folder() / "frames" / _digest([FRAMES_VERSION, config.model_dump()]).hex()
    folder = place / hashlib.sha256(keys.tobytes()).hexdigest()[:32]
    if not folder.exists():
        with locked(place / ".lock"):
            if not folder.exists():
                _make(listing, config, keys, folder)
    facts = np.load(folder / "facts.npy")
    return FrameStore(np.load(folder / "frames.npy", mmap_mode="r"), facts[:, 0], facts[:, 1], facts[:, 2:])


def _digest(content: list[Any]) -> bytes:
    return hashlib.sha256(json.dumps(content).encode()).digest()[:16]


def _keys(listing: Listing) -> NDArray[np.uint64]:
    """uint64 [S, 2]; two zeros are no key."""
    options = dataclasses.astuple(listing.options)
    files = list(dict.fromkeys(listing.files))
    with ThreadPoolExecutor() as threads:  # hashing frees the other threads
        hashes = list(threads.map(_content_hash, (listing.root / file for file in files)))
    # The extension breaks ties between formats.
    of_files = {file: [own, Path(file).suffix, options] for file, own in zip(files, hashes, strict=True)}
    spans = listing.spans or [None] * len(listing)
    keys = b"".join(_digest([*of_files[file], span]) for file, span in zip(listing.files, spans, strict=True))
    return np.frombuffer(keys, np.uint64).reshape(-1, 2)


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # a link to nothing, say
        raise EventFileError(f"{path}: cannot be read ({error.strerror})") from error


def _make(listing: Listing, config: FrameConfig, keys: NDArray[np.uint64], folder: Path) -> None:
    """Makes a set; the caller holds the lock, so nobody else makes one with these frame settings."""
    begun = _Begun(folder.with_name(f".{folder.name}.part"), keys, config)
    used = [other for other in _others(begun.folder) if begun.copy_from(other)]
    tasks = _tasks(listing, config, begun.missing())
    problems = []
    for _, made in zip(track(tasks, "reading recordings"), make_frames(tasks), strict=True):
        if made.problem is None:
            begun.put(list(made.rows), made.frames, made.facts)
        else:
            problems.append(made.problem)
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        raise EventFileError("; ".join(problems[:SHOWN]) + more)
    begun.finish(folder)
    for other in used:
        if other.name.startswith("."):
            shutil.rmtree(other)


def _others(folder: Path) -> list[Path]:
    """Other sets with the same frame settings, unfinished ones among them."""
    beside = sorted(folder.parent.iterdir())
    return [other for other in beside if other != folder and (other / "keys.npy").is_file()]


def _tasks(listing: Listing, config: FrameConfig, rows: NDArray[np.intp]) -> list[Task]:
    """One for each file of which rows are wanted."""
    of_files = defaultdict(list)
    for row in rows.tolist():
        of_files[listing.files[row]].append(row)
    return [
        Task(
            listing.root / file,
            tuple(own),
            tuple(listing.spans[row] if listing.spans else None for row in own),
            listing.options,
            config,
        )
        for file, own in of_files.items()
    ]


class _Begun:
    """A set that is being made, by this process or by one before it that was killed.

    Args:
        folder: where.
        keys: uint64 [S, 2] of its recordings.
        config: how its frames are made.
    """

    def __init__(self, folder: Path, keys: NDArray[np.uint64], config: FrameConfig) -> None:
        self.folder, self.keys = folder, keys
        shape = (len(keys), config.steps, POLARITIES, config.height, config.width)
        self.frames = self._array("frames.npy", np.uint8, shape)
        self.facts = self._array("facts.npy", np.int64, (len(keys), 4))
        self.done = self._array("keys.npy", np.uint64, keys.shape)

    def _array(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Any:
        file = self.folder / name
        if not file.exists():
            wanted, free = int(np.prod(shape)) * np.dtype(dtype).itemsize, _free(self.folder)
            if wanted > free:
                raise ConfigError(
                    f"{self.folder.parent}: frames of {shape[0]:,} recordings take {wanted / 1e9:.1f} GB, "
                    f"{free / 1e9:.1f} GB are free; make room, or let NEUROMOCO_CACHE name a folder on another disk"
                )
            with writing(file) as part:
                np.lib.format.open_memmap(part, "w+", dtype, shape).flush()
        return np.lib.format.open_memmap(file, "r+")

    def missing(self) -> NDArray[np.intp]:
        """Rows that are to be made."""
        return np.flatnonzero(~self.done.any(axis=1))

    def put(self, rows: list[int], frames: Any, facts: Any) -> None:
        """Writes R rows: frames R x [T, P, H, W], facts [R, 4]; last their keys, which say that the rest is there."""
        if self.frames.dtype == np.uint8 and any(one.dtype != np.uint8 for one in frames):
            self._widen()
        for row, one in zip(rows, frames, strict=True):
            self.frames[row] = one
        self.facts[rows] = facts
        self.done[rows] = self.keys[rows]

    def _widen(self) -> None:
        with writing(self.folder / "frames.npy") as part:
            wide = np.lib.format.open_memmap(part, "w+", np.uint16, self.frames.shape)
            for row in np.flatnonzero(self.done.any(axis=1)):
                wide[row] = self.frames[row]
            wide.flush()
        self.frames = np.lib.format.open_memmap(self.folder / "frames.npy", "r+")

    def copy_from(self, other: Path) -> bool:
        """Copies rows that another set has; whether there were any."""
        wanted = {self.keys[row].tobytes(): row for row in self.missing().tolist()}
        keys = np.load(other / "keys.npy")
        pairs = [(at, wanted[key]) for at, key in enumerate(map(bytes, keys)) if key in wanted]
        if pairs:
            frames = np.load(other / "frames.npy", mmap_mode="r")
            facts = np.load(other / "facts.npy")
            for at, row in pairs:
                self.put([row], frames[at : at + 1], facts[at])
        return bool(pairs)

    def finish(self, folder: Path) -> None:
        """Gives the set its name."""
        self.frames.flush()
        self.folder.rename(folder)


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
