"""Sets of recordings: folders, named sets, splits, cached frames. Only `torch_sets` needs torch."""

from neuromoco.datasets.cache import FrameStore, cached_frames
from neuromoco.datasets.folders import Listing, list_recordings
from neuromoco.datasets.named import list_data
from neuromoco.datasets.splits import Split, describe_split, split_by_class

__all__ = [
    "FrameStore",
    "Listing",
    "Split",
    "cached_frames",
    "describe_split",
    "list_data",
    "list_recordings",
    "split_by_class",
]
