"""Recordings and their frames, by the `data` of a run's settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromoco.config import FrameConfig
from neuromoco.datasets.cache import FrameStore, cached_frames
from neuromoco.datasets.folders import Listing, Part
from neuromoco.datasets.named import list_data

Data = str | tuple[str, ...]


class Recordings(NamedTuple):
    """S recordings and their frames [S, T, P, H, W]."""

    listing: Listing
    store: FrameStore


class Reader(Protocol):
    """The type of `read_recordings`."""

    def __call__(self, data: Data, frames: FrameConfig, part: Part, labelled: bool) -> Recordings: ...


def read_recordings(data: Data, frames: FrameConfig, part: Part, labelled: bool) -> Recordings:
    """Lists recordings and makes or loads their frames; raises as `list_data` and `cached_frames`.

    Several sets, which may have different classes and sensors, are concatenated without labels.
    """
    if isinstance(data, tuple):
        return _joined([read_recordings(one, frames, part, labelled=False) for one in data])
    listing = list_data(data, part, labelled=labelled)
    return Recordings(listing, cached_frames(listing, frames))


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
    return Recordings(Listing(root, names), FrameStore(frames, *facts))
