"""The codecs of HDF5 files, and the sizes to which packed chunks claim to unpack.

The HDF5 library and its codecs allocate that much memory before they check anything else, so it is read beforehand.
The LZ4 plugin also prints complaints to the standard output, so its blocks are unpacked once to rule them out.
Layouts as `hdf5plugin` writes them: Blosc's and Blosc2's headers (github.com/Blosc, README_HEADER and
README_CFRAME_FORMAT), LZ4's lengths before chunk and blocks, Bitshuffle's length, Zstandard's frames.
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Callable, Sequence

from neuromoco.errors import MissingExtraError
from neuromoco.events.packed import zstd_bound, zstd_claim

GZIP, SZIP, LZF, BZIP2, BLOSC, LZ4, BITSHUFFLE, ZSTD, BLOSC2 = 1, 4, 32000, 307, 32001, 32004, 32008, 32015, 32026
ECF = 0x8ECF
# Codecs of hdf5plugin (its documentation, "HDF5 compression filters").
PLUGIN_CODECS = {
    BZIP2: "BZip2",
    BLOSC: "Blosc",
    LZ4: "LZ4",
    BITSHUFFLE: "Bitshuffle",
    32013: "ZFP",
    ZSTD: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    BLOSC2: "Blosc2",
    32028: "Sperr",
}
# Lossy, or for images.
NOT_FOR_EVENTS = (32013, 32017, 32018, 32024, 32028)
PIECE = 1 << 20
SMALLEST_BLOCK = 64  # of LZ4; nobody packs less at a time, and each is checked
BLOSC_HEADER, BLOSC_COPIED = 16, 2
LZF_GROWTH = 88  # three bytes stand for at most 264


def claimed_size(codec: int, settings: Sequence[int], packed: bytes, most: int) -> int:
    """The bytes to which a packed chunk claims to unpack; 0 if it does not say and cannot exceed a chunk.

    Args:
        codec: number of the filter.
        settings: the filter's numbers in the description of the data set.
        packed: the chunk as it is stored; `ValueError` if it is cut or damaged.
        most: a larger size need not be exact.
    """
    try:
        return SIZES[codec](packed, settings, most) if codec in SIZES else 0
    except (struct.error, IndexError):
        raise ValueError("its packed bytes are cut") from None


def _blosc(packed: bytes, settings: Sequence[int], most: int) -> int:
    """Blosc does not check that its blocks are in the chunk, so their places are checked here."""
    flags = packed[2]
    size, block, stored = struct.unpack_from("<III", packed, 4)
    blocks = 0 if flags & BLOSC_COPIED else -(-size // max(block, 1))
    begin = BLOSC_HEADER + (size if flags & BLOSC_COPIED else 4 * blocks)
    if not (begin <= stored <= len(packed) and 0 < block <= max(size, 1)) or (flags & BLOSC_COPIED and begin != stored):
        raise ValueError("its Blosc header does not fit it")
    places = struct.unpack_from(f"<{blocks}I", packed, BLOSC_HEADER)
    if any(not begin <= place < stored for place in places):
        raise ValueError("its Blosc blocks lie outside")
    return int(size)


def _blosc2(packed: bytes, settings: Sequence[int], most: int) -> int:
    (header,) = struct.unpack_from(">I", packed, 11)
    return int(max(struct.unpack_from(">Q", packed, 30)[0], struct.unpack_from("<I", packed, header + 4)[0]))


def _bitshuffle(packed: bytes, settings: Sequence[int], most: int) -> int:
    compresses = len(settings) > 4 and settings[4]
    return int(struct.unpack_from(">Q", packed)[0]) if compresses else len(packed)


def _lzf(packed: bytes, settings: Sequence[int], most: int) -> int:
    """LZF does not store the size: literal runs and matches are added up (liblzf, lzf_d.c)."""
    size = at = 0
    while at < len(packed) and size <= most and LZF_GROWTH * len(packed) > most:
        code = packed[at]
        if code < 32:
            size, at = size + code + 1, at + code + 2
            continue
        length = code >> 5
        if length == 7:
            at += 1
            length += packed[at]
        size, at = size + length + 2, at + 2
    return size


def _lz4(packed: bytes, settings: Sequence[int], most: int) -> int:
    """The sizes of chunk and block, then each block after its packed size; unpacked blocks are as long as a block."""
    try:
        from lz4.block import LZ4BlockError, decompress
    except ImportError:
        raise MissingExtraError("reading HDF5 files compressed with LZ4", "hdf5") from None
    size, block = struct.unpack_from(">QI", packed)
    if size > most:
        return int(size)
    if block < min(size, SMALLEST_BLOCK):
        raise ValueError(f"its LZ4 blocks hold {block} bytes")
    at, left = 12, size
    while left:
        length = min(block, left)
        (stored,) = struct.unpack_from(">I", packed, at)
        at, left = at + 4 + stored, left - length
        if at > len(packed):
            raise ValueError("its packed bytes are cut")
        try:
            if stored != length and len(decompress(packed[at - stored : at], uncompressed_size=length)) != length:
                raise ValueError("an LZ4 block is shorter than it says")
        except LZ4BlockError as error:
            raise ValueError(f"an LZ4 block does not unpack ({error})") from None
    return int(size)


def _bzip2(packed: bytes, settings: Sequence[int], most: int) -> int:
    """BZip2 does not store the size: it is unpacked in pieces, which are discarded."""
    size, unpacking = 0, bz2.BZ2Decompressor()
    try:
        piece = unpacking.decompress(packed, PIECE)
        while piece and size <= most:
            size += len(piece)
            piece = b"" if unpacking.eof else unpacking.decompress(b"", PIECE)
    except OSError as error:
        raise ValueError(str(error)) from None
    return size


SIZES: dict[int, Callable[[bytes, Sequence[int], int], int]] = {
    SZIP: lambda packed, settings, most: struct.unpack_from("<I", packed)[0],
    BLOSC: _blosc,
    BITSHUFFLE: _bitshuffle,
    ZSTD: lambda packed, settings, most: zstd_claim(packed) or zstd_bound(packed),
    BLOSC2: _blosc2,
    LZF: _lzf,
    BZIP2: _bzip2,
    LZ4: _lz4,
}
