"""HDF5 files with every filter, damaged where their structure stands: chunks, trees, heaps, headers, the superblock."""

from __future__ import annotations

import functools
import io
import struct
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from neuromoco import Recording
from tests.fuzz.bytes_damage import damaged, overwrite
from tests.fuzz.campaign import Files
from tests.fuzz.event_files import FILE, example

FILTERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "szip": {"compression": "szip"},
    "lzf": {"compression": "lzf"},
    "shuffle_gzip_fletcher": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "fletcher": {"fletcher32": True},
    "scaleoffset": {"scaleoffset": 0},
    "bzip2": {**hdf5plugin.BZip2()},
    "blosc": {**hdf5plugin.Blosc(cname="zstd", shuffle=1)},
    "blosc_lz4": {**hdf5plugin.Blosc(cname="lz4", shuffle=2)},
    "lz4": {**hdf5plugin.LZ4()},
    "bitshuffle": {**hdf5plugin.Bitshuffle()},
    "bitshuffle_zstd": {**hdf5plugin.Bitshuffle(cname="zstd")},
    "zstd": {**hdf5plugin.Zstd()},
    "blosc2": {**hdf5plugin.Blosc2()},
}
# Signatures of structures ("HDF5 File Format Specification", version 3): B-trees, their leaves, heaps, object headers,
# and indices of chunks.
MARKS = (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"BTHD", b"BTLF", b"FAHD", b"FADB")
MARKS = (*MARKS, b"EAHD", b"EAIB")
MASK = 0xFFFFFFFF


def seeds() -> dict[str, Files]:
    """A file of each filter in the old format, and some in the new one, whose structures have checksums."""
    made = {name: {FILE: _file(example(), codec, "earliest")} for name, codec in FILTERS.items()}
    for name in ("gzip", "blosc"):
        made[f"latest_{name}"] = {FILE: _file(example(), FILTERS[name], "latest")}
    return made


def _file(recording: Recording, codec: dict[str, Any], version: str) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=version) as file:
        for name in "txyp":
            # Blocks of zeros pack well, so that no codec stores the chunk as it was.
            column = np.repeat(getattr(recording, name), 8).astype("u4")
            file.create_dataset(f"events/{name}", data=column, chunks=(256,), **codec)
        file["events"].attrs["geometry"] = "34x34"
        file.attrs["sensor_resolution"] = (34, 34)
        file.attrs["names"] = np.array(["left", "right"], object)
    return buffer.getvalue()


@functools.cache
def _places(content: bytes) -> tuple[list[tuple[int, int]], list[int]]:
    """Beginnings and sizes of the stored chunks, and beginnings of other structures."""
    chunks: list[tuple[int, int]] = []
    structures = [0]
    with h5py.File(io.BytesIO(content)) as file:
        for item in (file, file["events"], *(file[f"events/{name}"] for name in "txyp")):
            structures += 3 * [h5py.h5o.get_info(item.id).addr]  # they have most of what is read
        for name in "txyp":
            dataset = file[f"events/{name}"].id
            infos = [dataset.get_chunk_info(number) for number in range(dataset.get_num_chunks())]
            chunks += [(info.byte_offset, info.size) for info in infos]
    for mark in MARKS:
        at = content.find(mark)
        while at >= 0:
            structures.append(at)
            at = content.find(mark, at + 1)
    return chunks, structures


def mutate(files: Files, rng: np.random.Generator) -> Files:
    """The file with a damaged chunk, of another size too, or with numbers overwritten in its structures."""
    content = files[FILE]
    chunks, structures = _places(content)
    choice = rng.random()
    if choice < 0.3:
        return {FILE: _with_another_chunk(content, rng)}
    raw = bytearray(content)
    if choice < 0.5:
        at, size = chunks[int(rng.integers(len(chunks)))]
        raw[at : at + size] = damaged(bytes(raw[at : at + size]), rng)[:size].ljust(size, b"\0")
    else:
        for _ in range(int(rng.integers(1, 4))):
            begin = structures[int(rng.integers(len(structures)))]
            at = min(begin + int(rng.integers(0, 200)), len(raw) - 9)
            if rng.random() < 0.5:
                overwrite(raw, at, rng)
            else:
                raw[at] ^= 1 << int(rng.integers(8))
            _sum_up(raw, begin)
        raw = raw[: len(content)]
    return {FILE: bytes(raw)}


def _with_another_chunk(content: bytes, rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        dataset = file[f"events/{'txyp'[int(rng.integers(4))]}"].id
        place = (256 * int(rng.integers(dataset.get_num_chunks())),)
        packed = dataset.read_direct_chunk(place)[1]
        change = rng.integers(4)
        if change == 0:
            packed = packed[: int(rng.integers(len(packed)))]
        elif change == 1:
            packed = damaged(packed, rng)
        elif change == 2:  # the numbers at the beginning, where codecs keep sizes
            raw = bytearray(packed.ljust(16, b"\0"))
            overwrite(raw, int(rng.integers(16)), rng)
            packed = bytes(raw)
        else:
            packed = packed + rng.bytes(int(rng.integers(1, 3000)))
        packed = packed or b"\0"  # h5py writes no empty ones
        dataset.write_direct_chunk(place, packed, int(rng.integers(4)) if rng.random() < 0.1 else 0)
    return buffer.getvalue()


def _sum_up(raw: bytearray, begin: int) -> None:
    """Mends the checksum of an object header or of a superblock of the new format, if one begins there."""
    if raw[begin : begin + 4] == b"OHDR":
        flags = raw[begin + 5]
        at = begin + 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
        width = 1 << (flags & 3)
        end = at + width + int.from_bytes(raw[at : at + width], "little")
    elif begin == 0 and raw[8] in (2, 3):
        end = 44
    else:
        return
    if end + 4 <= len(raw):
        struct.pack_into("<I", raw, end, lookup3(bytes(raw[begin:end])))


def lookup3(data: bytes) -> int:
    """HDF5's checksum: Bob Jenkins's hash lookup3 (burtleburtle.net/bob/c/lookup3.c, `hashlittle` from 0)."""
    a = b = c = 0xDEADBEEF + len(data) & MASK
    at = 0
    while len(data) - at > 12:
        x, y, z = struct.unpack_from("<3I", data, at)
        a, b, c = a + x & MASK, b + y & MASK, c + z & MASK
        for by in (4, 6, 8, 16, 19, 4):
            a, c = (a - c & MASK) ^ _turned(c, by), c + b & MASK
            a, b, c = b, c, a
        at += 12
    x, y, z = struct.unpack("<3I", data[at:].ljust(12, b"\0"))
    a, b, c = a + x & MASK, b + y & MASK, c + z & MASK
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _turned(b, by) & MASK
        a, b, c = b, c, a
    return b


def _turned(value: int, by: int) -> int:
    return (value << by | value >> 32 - by) & MASK
