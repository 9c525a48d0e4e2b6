"""Frames of a set of recordings, made once and cached as a memory-mapped array.

    cache/frames/<version, frame settings>/<recordings>/frames.npy  [S, T, P, H, W]
                                                        facts.npy   [S, 4]
                                                        keys.npy    [S, 2]

A recording's key is the hash of its file's content and extension, its part of the file, and the options for reading
it; a set's name is the hash of its keys. Rows with known keys are copied from other sets instead of decoded again. An
unfinished set is a hidden folder; a row is complete once its key is written, so that a killed process can be resumed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.datasets.folders import Listing
from neuromoco.datasets.prepare import FileJob, make_frames
from neuromoco.errors import EventFileError
from neuromoco.events.stream import dropped_line
from neuromoco.frames import POLARITIES
from neuromoco.support.console import console, track
from neuromoco.support.files import cache_folder, check_disk_space, locked, writing

# Raise it whenever readers or frames produce other numbers from the same file.
FRAMES_VERSION = 2
MOST_PROBLEMS = 3  # in a message


@dataclass(frozen=True)
class FrameStore:
    """Frames of S recordings, and facts about each.

    Attributes:
        frames: uint8, or uint16 if a count needs it, [S, T, P, H, W], memory-mapped.
        events: number of events, int64 [S].
        durations: int64 [S], microseconds.
        sensors: rows and columns of the sensor, int64 [S, 2].
    """

    frames: NDArray[np.unsignedinteger[Any]]
    events: NDArray[np.int64]
    durations: NDArray[np.int64]
    sensors: NDArray[np.int64]


def cached_frames(listing: Listing, config: FrameConfig) -> FrameStore:
    """Frames of all recordings of a listing, from the cache in $NEUROMOCO_CACHE, which is filled if necessary.

    Raises:
        ConfigError: the disk has no room for them.
        EventFileError: files cannot be read; the message names the first three. The frames of the others stay cached.
    """
    keys = _keys(listing)
    parent = cache_folder() / "frames" / _digest([FRAMES_VERSION, config.model_dump()]).hex()
    folder = parent / hashlib.sha256(keys.tobytes()).hexdigest()[:32]
    if not folder.exists():
        with locked(parent / ".lock"):
            if not folder.exists():
                _make(listing, config, keys, folder)
    facts = np.load(folder / "facts.npy")
    return FrameStore(np.load(folder / "frames.npy", mmap_mode="r"), facts[:, 0], facts[:, 1], facts[:, 2:])


def _digest(content: list[Any]) -> bytes:
    return hashlib.sha256(json.dumps(content).encode()).digest()[:16]


def _keys(listing: Listing) -> NDArray[np.uint64]:
    """Keys, uint64 [S, 2]; two zeros are no key."""
    options = dataclasses.astuple(listing.options)
    files = list(dict.fromkeys(listing.files))
    with ThreadPoolExecutor() as threads:  # hashing releases the GIL
        hashes = list(threads.map(_content_hash, (listing.root / file for file in files)))
    # The extension decides between formats with equal content.
    by_file = {file: [content, Path(file).suffix, options] for file, content in zip(files, hashes, strict=True)}
    spans = listing.spans or [None] * len(listing)
    keys = b"".join(_digest([*by_file[file], span]) for file, span in zip(listing.files, spans, strict=True))
    return np.frombuffer(keys, np.uint64).reshape(-1, 2)


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # such as a dangling link
        raise EventFileError(f"{path}: cannot be read ({error.strerror})") from error


def _make(listing: Listing, config: FrameConfig, keys: NDArray[np.uint64], folder: Path) -> None:
    """Makes a set; the caller holds the lock, so no other process makes one with these frame settings."""
    unfinished = _UnfinishedSet(folder.with_name(f".{folder.name}.part"), keys, config)
    others = [other for other in sorted(folder.parent.iterdir()) if (other / "keys.npy").is_file()]
    sources = [other for other in others if other != unfinished.folder and unfinished.copy_from(other)]
    jobs = _jobs(listing, config, unfinished.missing())
    problems, outside = [], []
    for _, result in zip(track(jobs, "reading recordings"), make_frames(jobs), strict=True):
        if result.problem is None:
            unfinished.put(list(result.rows), result.frames, result.facts)
            outside.append(result.outside)
        else:
            problems.append(result.problem)
    if problems:
        more = f" (and {len(problems) - MOST_PROBLEMS} more)" if len(problems) > MOST_PROBLEMS else ""
        raise EventFileError("; ".join(problems[:MOST_PROBLEMS]) + more)
    if line := dropped_line(outside):
        console.print(f"{listing.root}: {line}", soft_wrap=True, markup=False)
    unfinished.finish(folder)
    for source in sources:
        if source.name.startswith("."):
            shutil.rmtree(source)


def _jobs(listing: Listing, config: FrameConfig, missing: Sequence[int]) -> list[FileJob]:
    """A job for each file with missing rows."""
    by_file = defaultdict(list)
    for row in missing:
        by_file[listing.files[row]].append(row)
    spans = listing.spans or (None,) * len(listing)
    return [
        FileJob(listing.root / file, tuple(rows), tuple(spans[row] for row in rows), listing.options, config)
        for file, rows in by_file.items()
    ]


class _UnfinishedSet:
    """A set that this process makes, or that a killed one has left; `keys` are those of its recordings."""

    def __init__(self, folder: Path, keys: NDArray[np.uint64], config: FrameConfig) -> None:
        self.folder, self.keys = folder, keys
        shape = (len(keys), config.steps, POLARITIES, config.height, config.width)
        self.frames = self._array("frames.npy", np.uint8, shape)
        self.facts = self._array("facts.npy", np.int64, (len(keys), 4))
        self.done = self._array("keys.npy", np.uint64, keys.shape)

    def _array(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Any:
        file = self.folder / name
        if not file.exists():
            size, what = int(np.prod(shape)) * np.dtype(dtype).itemsize, f"frames of {shape[0]:,} recordings take"
            check_disk_space(self.folder, size, what, "set NEUROMOCO_CACHE to a folder on another disk")
            with writing(file) as part:
                np.lib.format.open_memmap(part, "w+", dtype, shape).flush()
        return np.lib.format.open_memmap(file, "r+")

    def missing(self) -> list[int]:
        """Rows still to be made."""
        return np.flatnonzero(~self.done.any(axis=1)).tolist()

    def put(self, rows: list[int], frames: Any, facts: Any) -> None:
        """Writes R rows: frames R x [T, P, H, W], facts [R, 4], then their keys, which mark them as complete."""
        if self.frames.dtype == np.uint8 and any(counts.dtype != np.uint8 for counts in frames):
            self._widen()
        for row, counts in zip(rows, frames, strict=True):
            self.frames[row] = counts
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
        """Copies missing rows that another set has; returns whether there were any."""
        missing = {self.keys[row].tobytes(): row for row in self.missing()}
        keys = np.load(other / "keys.npy")
        pairs = [(index, missing[key]) for index, key in enumerate(map(bytes, keys)) if key in missing]
        if pairs:
            frames, facts = np.load(other / "frames.npy", mmap_mode="r"), np.load(other / "facts.npy")
            for index, row in pairs:
                self.put([row], frames[index : index + 1], facts[index])
        return bool(pairs)

    def finish(self, folder: Path) -> None:
        """Gives the set its final name."""
        self.frames.flush()
        self.folder.rename(folder)
