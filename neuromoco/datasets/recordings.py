"""The recordings that a run's settings mean, with their frames."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from neuromoco.config import FrameConfig
from neuromoco.datasets.cache import FrameStore, cached_frames
from neuromoco.datasets.folders import Listing, Part
from neuromoco.datasets.named import list_data


class Recordings(NamedTuple):
    """S recordings: what they are, and their frames [S, T, P, H, W]."""

    listing: Listing
    store: FrameStore


class Reader(Protocol):
    """How a run gets its recordings: `read_recordings`, or the same with a memory."""

    def __call__(self, data: str, frames: FrameConfig, part: Part, labelled: bool) -> Recordings: ...


def read_recordings(data: str, frames: FrameConfig, part: Part, labelled: bool) -> Recordings:
    """Lists recordings and makes their frames, or takes them from the cache. Raises as those two do."""
    listing = list_data(data, part, labelled=labelled)
    return Recordings(listing, cached_frames(listing, frames))
