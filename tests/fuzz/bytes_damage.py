"""Damage to bytes of any kind."""

from __future__ import annotations

import numpy as np

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to three changes."""
    raw = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if not raw:
            break
        # Half of all changes hit the beginning, where sizes and names stand.
        end = len(raw) if rng.random() < 0.5 else min(len(raw), 300)
        at = int(rng.integers(0, end))
        change = rng.integers(0, 6)
        if change == 0:  # cut
            del raw[at:]
        elif change == 1:  # flip a bit
            raw[at] ^= 1 << int(rng.integers(0, 8))
        elif change == 2:  # any bytes
            raw[at : at + 8] = rng.bytes(int(rng.integers(1, 9)))
        elif change == 3:
            overwrite(raw, at, rng)
        elif change == 4:  # leave a part out
            del raw[at : at + int(rng.integers(1, 64))]
        else:  # repeat a part
            raw[at:at] = raw[at : at + int(rng.integers(1, 64))]
    return bytes(raw)


def overwrite(raw: bytearray, at: int, rng: np.random.Generator) -> None:
    """Puts a number that people forget at a place."""
    size = int(rng.choice([1, 2, 4, 8]))
    number = NUMBERS[int(rng.integers(0, len(NUMBERS)))] & ((1 << 8 * size) - 1)
    raw[at : at + size] = number.to_bytes(size, "little" if rng.random() < 0.5 else "big")
