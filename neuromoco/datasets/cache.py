"""Frames of a set of recordings, made once and kept as a memory-mapped array.

The name of a cached set is the hash of everything that decides its content: path, size and time of
change of every file, the frame settings, and the version of this code's output. Whatever changes, a
stale set is never met.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.console import track
from neuromoco.datasets.folders import Listing
from neuromoco.errors import EventFileError
from neuromoco.events import read_recording
from neuromoco.files import cache_folder, writing_folder
from neuromoco.frames import POLARITIES, recording_frames

# Raise it whenever readers or frames give other numbers for the same file.
FRAMES_VERSION = 2
LARGEST_COUNT = np.iinfo(np.uint16).max
SHOWN = 3


@dataclass(frozen=True)
class FrameStore:
    """Frames of S recordings, and three facts of each.

    Attributes:
        frames: uint16 [S, T, P, H, W], memory-mapped.
        events: int64 [S].
        durations: int64 [S], microseconds.
        sensors: int64 [S, 2], rows and columns.
    """

    frames: NDArray[np.uint16]
    events: NDArray[np.int64]
    durations: NDArray[np.int64]
    sensors: NDArray[np.int64]


def cached_frames(listing: Listing, config: FrameConfig) -> FrameStore:
    """Frames of every recording of a listing, read now or at an earlier call.

    Raises:
        EventFileError: one or more files cannot be read; the first few are named, none is left out.
    """
    folder = cache_folder() / "frames" / _key(listing, config)
    if not folder.exists():
        with writing_folder(folder) as part:
            _write(listing, config, part)
    return FrameStore(
        np.load(folder / "frames.npy", mmap_mode="r"),
        np.load(folder / "events.npy"),
        np.load(folder / "durations.npy"),
        np.load(folder / "sensors.npy"),
    )


def _key(listing: Listing, config: FrameConfig) -> str:
    files = []
    for path in listing.paths:
        try:
            facts = path.stat()
        except OSError as error:  # a link to nothing
            raise EventFileError(f"{path}: cannot be read ({error.strerror})") from error
        files.append((str(path.resolve()), facts.st_size, facts.st_mtime_ns))
    content = json.dumps([FRAMES_VERSION, config.model_dump(), files])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _write(listing: Listing, config: FrameConfig, folder: Path) -> None:
    shape = (len(listing), config.steps, POLARITIES, config.height, config.width)
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint16, shape)
    facts = np.zeros((len(listing), 4), np.int64)
    problems: list[EventFileError] = []
    for index, path in enumerate(track(listing.paths, "reading recordings")):
        try:
            recording = read_recording(path)
            counts = recording_frames(recording, config)
            if counts.max() > LARGEST_COUNT:
                raise EventFileError(f"{path}: {counts.max()} events in one pixel and slice; take more steps")
        except EventFileError as error:
            problems.append(error)
            continue
        frames[index] = counts
        facts[index] = len(recording), recording.duration, recording.height, recording.width
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        raise EventFileError("; ".join(str(problem) for problem in problems[:SHOWN]) + more)
    frames.flush()
    np.save(folder / "events.npy", facts[:, 0])
    np.save(folder / "durations.npy", facts[:, 1])
    np.save(folder / "sensors.npy", facts[:, 2:])
