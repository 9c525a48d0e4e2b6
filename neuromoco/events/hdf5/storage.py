"""How the data sets of an HDF5 file are stored: what is refused before any of it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from neuromoco.errors import EventFileError, MissingExtraError

ECF = 0x8ECF
# Codecs of hdf5plugin (its documentation, "HDF5 compression filters").
PLUGIN_CODECS = {
    307: "BZip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "Sperr",
}
# Lossy, or for images.
NOT_FOR_EVENTS = (32013, 32017, 32018, 32024, 32028)
LARGEST_CHUNK = 1 << 27
# Deflate makes at most 1032 bytes of one; data that claim more than that of the whole file are no recording.
LARGEST_RATIO = 1100


def check_storage(datasets: Sequence[Any], file_size: int) -> None:
    """Refuses data sets that cannot be read, or that claim more bytes than their file accounts for."""
    claimed = sum(dataset.size * dataset.dtype.itemsize for dataset in datasets)
    if claimed > file_size * LARGEST_RATIO:
        raise EventFileError(f"cut or damaged: the events claim {claimed} bytes and the file has {file_size}")
    for dataset in datasets:
        _check(dataset)


def _check(dataset: Any) -> None:
    name = dataset.name.strip("/")
    if dataset.is_virtual or dataset.external:
        raise EventFileError(f"{name} keeps its data in other files; only what the file itself holds is read")
    claimed, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if dataset.chunks is None:
        if stored < claimed:
            raise EventFileError(f"cut or damaged: {name} claims {claimed} bytes and the file stores {stored}")
        return
    plan = dataset.id.get_create_plist()
    _check_codecs(name, [plan.get_filter(place)[0] for place in range(plan.get_nfilters())])
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk > LARGEST_CHUNK:
        raise EventFileError(
            f"{name} is stored in chunks of {chunk} bytes; up to {LARGEST_CHUNK} are read: "
            "h5repack -l CHUNK=1000000 makes smaller ones"
        )


def _check_codecs(name: str, codecs: list[int]) -> None:
    from h5py import h5z

    for code in codecs:
        if code in NOT_FOR_EVENTS:
            raise EventFileError(
                f"{name} is compressed with {PLUGIN_CODECS[code]}, which does not keep events as they were: "
                "it needs to be written with another codec"
            )
        if h5z.filter_avail(code):
            continue
        if code in PLUGIN_CODECS:
            raise MissingExtraError(f"reading HDF5 files compressed with {PLUGIN_CODECS[code]}", "hdf5")
        if code == ECF:
            raise EventFileError(
                f"{name} is compressed with ECF, Prophesee's own codec, which no Python package has: convert the file "
                "with metavision_file_to_dat -i FILE, or build github.com/prophesee-ai/hdf5_ecf and set "
                "HDF5_PLUGIN_PATH to its folder"
            )
        raise EventFileError(f"{name} is compressed with HDF5 filter {code}, which is not installed")
