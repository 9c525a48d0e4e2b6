"""Numbers of digits alone in lines of text: eight bytes at a time as one 64-bit word, without a loop over lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NEWLINE, ZERO, NINE = b"\n09"
# 64 bits hold any number of 19 digits; the words of 8 bytes before a field must be in the buffer.
LONGEST, PAD = 19, 24
Array = NDArray[Any]
TENS = 10 ** np.arange(LONGEST + 1, dtype=np.uint64)


def padded(block: bytes) -> NDArray[np.uint8]:
    """The bytes of a block after PAD others."""
    return np.frombuffer(b"0" * PAD + block, np.uint8)


def fields_of(raw: NDArray[np.uint8], ends: Array, separator: bytes, fields: int) -> tuple[Array, Array] | None:
    """Where each field ends and how long it is, [E, fields] both; None if lines differ or a field is empty.

    `raw` are lines that end, and `ends` the places of all separators and line ends in them [E * fields].
    """
    if ends.size % fields:
        return None
    kinds = raw[ends].reshape(-1, fields)
    if np.any(kinds[:, -1] != NEWLINE) or np.any(kinds[:, :-1] != separator[0]):
        return None
    lengths = np.empty_like(ends)
    lengths[:1] = ends[:1]
    np.subtract(ends[1:], ends[:-1] + 1, out=lengths[1:])
    if lengths.min(initial=1) < 1:
        return None
    return ends.reshape(-1, fields), lengths.reshape(-1, fields)


def numbers(block: NDArray[np.uint8], ends: Array, lengths: Array) -> NDArray[np.uint64] | None:
    """Numbers of digits alone, of which none means 0; None if one is too long.

    `block` is from `padded`; `ends` are after the last digits, counted from the end of the padding.
    """
    longest = int(lengths.max(initial=0))
    if longest > LONGEST:
        return None
    if longest <= 4:
        return _word(block, ends, lengths, 4)
    value = _word(block, ends, np.minimum(lengths, 8), 8).astype(np.uint64)
    for done in range(8, longest, 8):
        value += _word(block, ends - done, np.clip(lengths - done, 0, 8), 8) * TENS[done]
    return value


def _word(block: NDArray[np.uint8], ends: Array, lengths: Array, size: int) -> Array:
    """Numbers of up to `size` digits: 4 or 8."""
    words: Array = np.ndarray(block.size - size + 1, f"<u{size}", block.data, strides=(1,))
    kind = words.dtype.type
    v: Array = words[ends + (PAD - size)]
    v &= _masks(size)[lengths]
    # Join digits to pairs, pairs to fours, fours to eights: the lower byte is the more significant one.
    for factor, bits in ((10, 8), (100, 16), (10000, 32))[: size.bit_length() - 1]:
        higher = v >> kind(bits)
        v *= kind(factor)
        v += higher
        v &= kind(sum(((1 << bits) - 1) << at for at in range(0, 8 * size, 2 * bits)))
    return v


def _masks(size: int) -> Array:
    """By length: the highest bytes of a little-endian word, which hold the last digits of a field."""
    digits = int.from_bytes(b"\x0f" * size, "little")
    bits = 8 * size
    return np.array([0, *(digits >> (bits - 8 * n) << (bits - 8 * n) for n in range(1, size + 1))], f"<u{size}")
