"""The most that packed bytes can unpack to, from the headers of their frames alone: nothing is unpacked.

After the LZ4 frame format (github.com/lz4/lz4, doc/lz4_Frame_format.md) and the Zstandard format (RFC 8878). Every
block states its packed size, and a format has a largest block: their number bounds the output, whatever a header
claims.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

LZ4_MAGIC, ZSTD_MAGIC = 0x184D2204, 0xFD2FB528
SKIPPED_MAGIC = range(0x184D2A50, 0x184D2A60)
LZ4_GROWTH = 255  # a byte of a long match stands for at most this many
ZSTD_BLOCK = 1 << 17
Bytes = bytes | memoryview


def lz4_bound(packed: Bytes) -> int:
    """The most bytes to which consecutive LZ4 frames unpack; `ValueError` if they are cut or damaged."""
    return _bound(packed, LZ4_MAGIC, _lz4_frame)


def zstd_bound(packed: Bytes) -> int:
    """The most bytes to which consecutive Zstandard frames unpack, or claim to; `ValueError` if they are damaged."""
    return _bound(packed, ZSTD_MAGIC, _zstd_frame)


def _bound(packed: Bytes, mark: int, frame: Callable[[Bytes, int], tuple[int, int]]) -> int:
    total = at = 0
    try:
        while at < len(packed):
            (magic,) = struct.unpack_from("<I", packed, at)
            if magic in SKIPPED_MAGIC:
                at += 8 + struct.unpack_from("<I", packed, at + 4)[0]
            elif magic == mark:
                at, most = frame(packed, at + 4)
                total += most
            else:
                raise ValueError("packed bytes of another format")
    except (struct.error, IndexError):
        at = len(packed) + 1
    if at > len(packed):
        raise ValueError("packed bytes are cut")
    return total


def _lz4_frame(packed: Bytes, at: int) -> tuple[int, int]:
    """The end of the frame whose magic number ends at `at`, and the most to which it unpacks."""
    flags, size_code = packed[at], packed[at + 1] >> 4 & 7
    if flags >> 6 != 1 or size_code < 4:
        raise ValueError("an LZ4 frame of unknown kind")
    largest = 1 << (8 + 2 * size_code)
    block_sum, content_size, content_sum, dictionary = (bool(flags & bit) for bit in (16, 8, 4, 1))
    at += 2 + 8 * content_size + 4 * dictionary + 1
    total = 0
    while True:
        (word,) = struct.unpack_from("<I", packed, at)
        at += 4
        if word == 0:
            return at + 4 * content_sum, total
        size = word & 0x7FFFFFFF
        total += size if word >> 31 else min(largest, LZ4_GROWTH * size)
        at += size + 4 * block_sum


def zstd_claim(packed: Bytes) -> int:
    """The bytes to which the first Zstandard frame claims to unpack, 0 if unknown; `ValueError` if it is cut."""
    try:
        return _zstd_header(packed, 4)[1]
    except IndexError:
        raise ValueError("packed bytes are cut") from None


def _zstd_header(packed: Bytes, at: int) -> tuple[int, int]:
    """The end of the header of the frame whose magic number ends at `at`, and the size that it claims."""
    flags = packed[at]
    single = flags >> 5 & 1
    claim_bytes = (single, 2, 4, 8)[flags >> 6]
    at += 1 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    claimed = int.from_bytes(packed[at : at + claim_bytes], "little") + 256 * (claim_bytes == 2)
    return at + claim_bytes, claimed


def _zstd_frame(packed: Bytes, at: int) -> tuple[int, int]:
    """The end of the frame whose magic number ends at `at`, and the most to which it unpacks."""
    flags = packed[at]
    at, claimed = _zstd_header(packed, at)
    total = last = 0
    while not last:
        word = struct.unpack_from("<HB", packed, at)
        at += 3
        last, kind, size = word[0] & 1, word[0] >> 1 & 3, (word[1] << 16 | word[0]) >> 3
        if kind == 3:
            raise ValueError("a Zstandard block of unknown kind")
        total += ZSTD_BLOCK if kind == 2 else size
        at += 1 if kind == 1 else size
    return at + 4 * (flags >> 2 & 1), max(total, claimed)
