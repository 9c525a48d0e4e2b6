"""What it would take to read a data set of an HDF5 file: checked before any of it is read."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from neuromoco.errors import EventFileError, MissingExtraError
from neuromoco.events.hdf5.codecs import ECF, GZIP, NOT_FOR_EVENTS, PLUGIN_CODECS, claimed_size

SHUFFLE, FLETCHER = 2, 3  # hardly change the number of bytes
TRUSTING = {5: "n-bit", 6: "scale-offset"}  # filters of the HDF5 library that trust any number in a damaged file
FLETCHER_SUM = 4  # bytes behind a chunk
LARGEST_CHUNK = 1 << 27
# Deflate makes at most 1032 bytes of one; data that claim more than that of the whole file are no recording.
LARGEST_RATIO = 1100
MOST_CHUNKS = 1 << 20
TOGETHER = 1000  # chunks that threads check at a time


def check_storage(datasets: Sequence[Any], file_size: int) -> None:
    """Refuses data sets that cannot be read, or that would take more memory than their file accounts for."""
    claimed = sum(dataset.size * dataset.dtype.itemsize for dataset in datasets)
    if claimed > file_size * LARGEST_RATIO:
        raise EventFileError(f"cut or damaged: the events claim {claimed} bytes and the file has {file_size}")
    for dataset in datasets:
        _check(dataset)


def _check(dataset: Any) -> None:
    name = dataset.name.strip("/")
    if dataset.is_virtual or dataset.external:
        raise EventFileError(f"{name} keeps its data in other files; only what the file itself holds is read")
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(place) for place in range(plan.get_nfilters())]  # code, flags, settings, name
    codecs = [code for code, *_ in filters]
    _check_codecs(name, codecs)
    claimed, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if not codecs and stored < claimed:
        raise EventFileError(f"cut or damaged: {name} claims {claimed} bytes and the file stores {stored}")
    if dataset.chunks is None:
        return
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk > LARGEST_CHUNK:
        raise EventFileError(
            f"{name} is stored in chunks of {chunk} bytes; up to {LARGEST_CHUNK} are read: "
            "h5repack -l CHUNK=1000000 makes smaller ones"
        )
    count = math.prod(-(-side // part) for side, part in zip(dataset.shape, dataset.chunks, strict=True))
    if count > MOST_CHUNKS or dataset.id.get_num_chunks() != count:
        raise EventFileError(f"cut or damaged: {name} has {dataset.id.get_num_chunks()} chunks of {count}")
    packing = [place for place, code in enumerate(codecs) if code not in (SHUFFLE, FLETCHER)]
    if len(packing) > 1:
        raise EventFileError(f"{name} is compressed twice: h5repack -f GZIP=1 IN OUT does it once")
    place, settings = (packing[0], filters[packing[0]][2]) if packing else (None, ())
    size = partial(_unpacked_size, dataset, codecs, place, settings, chunk)
    infos: list[Any] = []
    dataset.id.chunk_iter(infos.append)  # one walk: asking for a chunk by its number walks up to it
    with ThreadPoolExecutor() as pool:
        each = pool.map if GZIP in codecs else map  # other sizes are read at once
        for first in range(0, len(infos), TOGETHER):
            for unpacked in each(size, infos[first : first + TOGETHER]):
                if 0 < unpacked < chunk:  # the HDF5 library would read beyond it
                    raise EventFileError(
                        f"damaged: a chunk of {dataset.name} unpacks to {unpacked} bytes of its {chunk}"
                    )


def _check_codecs(name: str, codecs: list[int]) -> None:
    from h5py import h5z

    for code in codecs:
        if code in TRUSTING:
            raise EventFileError(f"{name} has the {TRUSTING[code]} filter, not read: h5repack -f GZIP=1 IN OUT")
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


def _unpacked_size(
    dataset: Any, codecs: list[int], place: int | None, settings: Sequence[int], chunk: int, info: Any
) -> int:
    """The bytes that a chunk unpacks to, or claims to; 0 if they are not known. Too many are refused.

    `codecs` are the filters of the data set, `place` and `settings` of the one that packs; `chunk` bytes are expected.
    """
    if place is None or info.filter_mask >> place & 1:
        return int(info.size)  # stored as it was
    if info.size > LARGEST_CHUNK:
        raise EventFileError(f"damaged: a chunk of {dataset.name} is stored in {info.size} bytes")
    packed = dataset.id.read_direct_chunk(info.chunk_offset)[1]
    if FLETCHER in codecs[place:] and not info.filter_mask >> codecs.index(FLETCHER) & 1:
        packed = packed[:-FLETCHER_SUM]
    try:
        if codecs[place] == GZIP:
            # gzip does not say: it is unpacked, up to a little more than a chunk. HDF5 would unpack it completely.
            size = len(zlib.decompressobj().decompress(packed, chunk + 1024))
            if size > chunk + FLETCHER_SUM:
                raise EventFileError(f"damaged: a chunk of {dataset.name} unpacks to more than its {chunk} bytes")
            return size
        size = claimed_size(codecs[place], settings, packed, LARGEST_CHUNK)
    except (ValueError, zlib.error) as error:
        raise EventFileError(f"cut or damaged: a chunk of {dataset.name}: {error}") from error
    if size > LARGEST_CHUNK:
        raise EventFileError(
            f"damaged: a chunk of {dataset.name} unpacks to {size} bytes or more; up to {LARGEST_CHUNK} are read"
        )
    return size
