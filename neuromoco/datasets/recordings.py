"""Recordings and their frames, by the `data` of a run's settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromoco.config import FrameConfig, RecordingsConfig
from neuromoco.datasets.cache import FRAMES_VERSION, FrameStore, cached_frames
from neuromoco.datasets.damage import DamagedFilesError, Problem, without_files
from neuromoco.datasets.folders import Listing, Part
from neuromoco.datasets.keys import digest, row_keys
from neuromoco.datasets.named import list_data
from neuromoco.datasets.notes import known_notes, write_notes
from neuromoco.datasets.settle import settle
from neuromoco.errors import ConfigError

Data = str | tuple[str, ...]


class Recordings(NamedTuple):
    """S recordings and their frames [S, T, P, H, W]."""

    listing: Listing  # with what was settled for all of them
    store: FrameStore
    frames: FrameConfig  # with a crop in pixels
    left_out: tuple[Problem, ...] = ()  # files that cannot be used
    sliced: FrameStore | None = None  # the same recordings in more slices, for views that move in time


class Reader(Protocol):
    """The type of `read_recordings`."""

    def __call__(
        self, data: Data, frames: FrameConfig, part: Part, labelled: bool, recordings: RecordingsConfig
    ) -> Recordings: ...


def read_recordings(
    data: Data,
    frames: FrameConfig,
    part: Part,
    labelled: bool,
    recordings: RecordingsConfig = RecordingsConfig(),  # noqa: B008 (it is frozen)
) -> Recordings:
    """Lists recordings and makes or loads their frames; raises as `list_data` and `frames_of`.

    Several sets, which may have different classes and sensors, are concatenated without labels.
    """
    if isinstance(data, tuple):
        if frames.crop == "activity":
            raise ConfigError("crop by activity of several sets, which have several; give --crop X,Y,W,H")
        return _joined([read_recordings(one, frames, part, False, recordings) for one in data])
    return frames_of(list_data(data, part, labelled=labelled, recordings=recordings), frames)


def frames_of(listing: Listing, frames: FrameConfig) -> Recordings:
    """Settles what the files of a listing do not say, and makes or loads their frames.

    Raises:
        ConfigError, DiskError: as `settle` and `cached_frames`.
        EventFileError: files cannot be used, and the listing does not skip them; or none can.
    """
    listing, frames = settle(listing, frames)
    if not listing.skip_damaged:
        return Recordings(listing, cached_frames(listing, frames), frames)
    problems = _known_problems(listing, frames)
    while True:
        kept = without_files(listing, problems) if problems else listing
        try:
            return Recordings(kept, cached_frames(kept, frames), frames, tuple(problems))
        except DamagedFilesError as error:
            found = {problem.file: problem for problem in error.problems if not problem.passing}
            keys = _problem_keys(listing, frames)
            write_notes({keys[file]: problem.reason for file, problem in found.items()})
            problems = [*problems, *error.problems]


def _known_problems(listing: Listing, frames: FrameConfig) -> list[Problem]:
    """Files that are known to be damaged, which are not read again."""
    keys = _problem_keys(listing, frames)
    known = known_notes(keys.values())
    return [Problem(file, known[key]) for file, key in keys.items() if isinstance(known.get(key), str)]


def _problem_keys(listing: Listing, frames: FrameConfig) -> dict[str, bytes]:
    """A key of each file, with its parts and what is made of them."""
    parts: dict[str, list[str]] = {}
    for file, key in zip(listing.files, row_keys(listing), strict=True):
        parts.setdefault(file, []).append(key.tobytes().hex())
    made = [FRAMES_VERSION, frames.model_dump(), "damaged"]
    return {file: digest([file, keys, *made]) for file, keys in parts.items()}


class JoinedFrames:
    """The concatenated frames [S, T, P, H, W] of several sets, without copying them."""

    def __init__(self, parts: Sequence[NDArray[np.unsignedinteger[Any]]]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.dtype = np.result_type(*parts)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, rows: ArrayLike) -> NDArray[np.unsignedinteger[Any]]:
        """Frames [N, T, P, H, W] of N rows."""
        indices = np.asarray(rows, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"rows {indices.min()} to {indices.max()} of {len(self)}")
        frames = np.empty((len(indices), *self.parts[0].shape[1:]), self.dtype)
        numbers = np.searchsorted(self.ends, indices, side="right")
        for number, part in enumerate(self.parts):
            inside = numbers == number
            frames[inside] = part[indices[inside] - (self.ends[number] - len(part))]
        return frames


def _joined(sets: Sequence[Recordings]) -> Recordings:
    listings, stores = [joined.listing for joined in sets], [joined.store for joined in sets]
    root = Path(os.path.commonpath([listing.root.resolve() for listing in listings]))
    files = (listing.root.resolve() / name for listing in listings for name in listing.names)
    names = tuple(file.relative_to(root).as_posix() for file in files)
    frames = cast("NDArray[np.unsignedinteger[Any]]", JoinedFrames([store.frames for store in stores]))
    columns = ("events", "durations", "sensors", "keys")
    facts = (np.concatenate([getattr(store, name) for store in stores]) for name in columns)
    options = listings[0].options
    if any(listing.options != options for listing in listings):
        options = replace(options, defaults=None)
    left_out = tuple(problem for one in sets for problem in one.left_out)
    return Recordings(Listing(root, names, options=options), FrameStore(frames, *facts), sets[0].frames, left_out)
