"""Frames of a set of recordings, made once and cached as a memory-mapped array.

    cache/frames/<version, frame settings>/<recordings>/    the files of `frame_files`

A recording's key is the hash of its file's content and extension, its part of the file, and the options for reading
it; a set's name is the hash of its keys. Rows with known keys are copied from other sets instead of decoded again. An
unfinished set is a hidden folder; a row is complete once its key is written, so that a killed process can be resumed.
Each row has a checksum: what a power cut or a broken disk has damaged is made anew, and never copied.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.datasets.damage import DamagedFilesError, Problem
from neuromoco.datasets.folders import Listing
from neuromoco.datasets.frame_files import KEYS, FrameFiles
from neuromoco.datasets.keys import digest, row_keys
from neuromoco.datasets.prepare import FrameJob, file_jobs, make_frames
from neuromoco.events.recording import oddity_lines
from neuromoco.frames import POLARITIES
from neuromoco.support.cache import OTHER_PLACE, cache_folder
from neuromoco.support.console import console, say_once, track
from neuromoco.support.disk_errors import disk_errors
from neuromoco.support.files import check_disk_space, is_partial, locked, remove, sync, sync_all

# Raise it whenever readers or frames produce other numbers from the same file.
FRAMES_VERSION = 4


@dataclass(frozen=True)
class FrameStore:
    """Frames of S recordings, and facts about each.

    Attributes:
        frames: uint8, or uint16 if a count needs it, [S, T, P, H, W], memory-mapped.
        events: number of events, int64 [S].
        durations: int64 [S], microseconds.
        sensors: rows and columns of the sensor, int64 [S, 2].
        keys: uint64 [S, 2], the same for the same content, read with the same options.
    """

    frames: NDArray[np.unsignedinteger[Any]]
    events: NDArray[np.int64]
    durations: NDArray[np.int64]
    sensors: NDArray[np.int64]
    keys: NDArray[np.uint64]


def cached_frames(listing: Listing, config: FrameConfig) -> FrameStore:
    """Frames of all recordings of a listing, from the cache in $NEUROMOCO_CACHE, which is filled if necessary.

    Cached frames that are damaged are made anew.

    Raises:
        ConfigError: the disk has no room for them, or others may write to the cache.
        DiskError: the disk became full, or cannot be written to.
        DamagedFilesError: files cannot be read, or have no frames; those of the others stay cached.
    """
    keys = row_keys(listing)
    shape = (len(keys), config.steps, POLARITIES, config.height, config.width)
    parent = cache_folder("frames", digest([FRAMES_VERSION, config.model_dump()]).hex())
    folder = parent / hashlib.sha256(keys.tobytes()).hexdigest()[:32]
    with disk_errors(folder):
        files = _whole(folder, keys, shape)
        if files is None:
            with locked(parent / ".lock"):
                files = _whole(folder, keys, shape)
                if files is None:
                    _make(listing, config, keys, shape, folder)
                    files = FrameFiles(folder)
    # What a set says of all its files follows from their content, or from another set's.
    content = row_keys(replace(listing, options=replace(listing.options, defaults=None)))
    return FrameStore(files.frames, files.facts[:, 0], files.facts[:, 1], files.facts[:, 2:4], content)


def _open(folder: Path) -> FrameFiles | None:
    """The files of a set; None if there are none, or they are cut or damaged."""
    try:
        return None if folder.is_symlink() else FrameFiles(folder)
    except (OSError, ValueError, OverflowError):
        return None


def _whole(folder: Path, keys: NDArray[np.uint64], shape: tuple[int, ...]) -> FrameFiles | None:
    """The files of a set whose rows are all as they were written; None otherwise."""
    files = _open(folder)
    if files is None or files.frames.shape != shape or not np.array_equal(files.keys, keys):
        return None
    return files if files.good_rows().all() else None


def _make(
    listing: Listing, config: FrameConfig, keys: NDArray[np.uint64], shape: tuple[int, ...], folder: Path
) -> None:
    """Makes a set; the caller holds the lock, so no other process makes one with these frame settings."""
    begun = folder.with_name(f".{folder.name}.part")
    if folder.is_symlink() or folder.exists():
        say_once("cached frames are damaged: they are made anew")
        remove(begun)
        folder.rename(begun)  # undamaged rows are kept
    unfinished = _UnfinishedSet(begun, keys, shape)
    others = [other for other in sorted(folder.parent.iterdir()) if (other / KEYS).is_file()]
    sources = [other for other in others if other != unfinished.folder and unfinished.copy_from(other)]
    jobs = [FrameJob(job, config) for job in file_jobs(listing, unfinished.missing())]
    problems: list[Problem] = []
    oddities = []
    for _, result in zip(track(jobs, "reading recordings"), make_frames(jobs), strict=True):
        if result.problem is None:
            unfinished.put(list(result.rows), result.frames, result.facts)
            oddities.append(result.oddities)
        else:
            problems.append(Problem(listing.files[result.rows[0]], result.problem, result.passing))
    if problems:
        raise DamagedFilesError(listing, problems)
    for line in oddity_lines(oddities):
        console.print(f"{listing.root}: {line}", soft_wrap=True, markup=False)
    unfinished.finish(folder)
    for source in sources:
        if source.name.startswith("."):
            remove(source)


class _UnfinishedSet:
    """A set that this process makes, or that a killed one has left; `keys` are those of its recordings."""

    def __init__(self, folder: Path, keys: NDArray[np.uint64], shape: tuple[int, ...]) -> None:
        self.folder, self.keys = folder, keys
        files = _open(folder)
        if files is None or files.frames.shape != shape:
            remove(folder)
            size, what = int(np.prod(shape)), f"frames of {shape[0]:,} recordings take"
            check_disk_space(folder, size, what, f"{OTHER_PLACE} on another disk")
            folder.mkdir(mode=0o700)
            files = FrameFiles.create(folder, shape)
        self.files = files
        for row in np.flatnonzero(files.done() & ~(files.good_rows() & (files.keys == keys).all(axis=1))).tolist():
            files.drop(row)
        for left in filter(is_partial, folder.iterdir()):
            remove(left)

    def missing(self) -> list[int]:
        """Rows still to be made."""
        return np.flatnonzero(~self.files.done()).tolist()

    def put(self, rows: list[int], frames: Any, facts: Any) -> None:
        """Writes R rows: frames R x [T, P, H, W], facts [R, 4]."""
        self.files.put(rows, frames, facts, self.keys[rows])

    def copy_from(self, folder: Path) -> bool:
        """Copies missing rows that another set has undamaged; returns whether it has any of them."""
        other = _open(folder)
        if other is None or other.frames.shape[1:] != self.files.frames.shape[1:]:
            return False
        missing = {self.keys[row].tobytes(): row for row in self.missing()}
        pairs = [(index, missing[key]) for index, key in enumerate(map(bytes, other.keys)) if key in missing]
        for index, row in pairs:
            if other.is_good(index):
                self.put([row], other.frames[index : index + 1], other.facts[index : index + 1])
        return bool(pairs)

    def finish(self, folder: Path) -> None:
        """Gives the set its final name, once its content is on the disk."""
        sync_all(self.folder)
        self.folder.rename(folder)
        sync(folder.parent)
