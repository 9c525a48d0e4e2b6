"""Data sets: folders of recordings, named sets, splits, cached frames. Only `torch_sets` needs torch."""

from neuromoco.datasets.cache import FrameStore, cached_frames
from neuromoco.datasets.folders import Listing, list_recordings
from neuromoco.datasets.named import list_data
from neuromoco.datasets.recordings import Reader, Recordings, frames_of, read_recordings
from neuromoco.datasets.splits import Split, describe_split, hold_out, split_by_class

__all__ = [
    "FrameStore",
    "Listing",
    "Reader",
    "Recordings",
    "Split",
    "cached_frames",
    "describe_split",
    "frames_of",
    "hold_out",
    "list_data",
    "list_recordings",
    "read_recordings",
    "split_by_class",
]
