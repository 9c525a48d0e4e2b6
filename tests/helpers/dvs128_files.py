"""Small recordings of a DVS128, written as its programs write them, and their frames counted one by one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from neuromoco.config import FrameConfig


def write_aedat2(path: Path, events: np.ndarray) -> None:
    """A DVS128 as jAER writes it; events [E, 4] are t, x, y, p, as jAER shows them."""
    t, x, y, p = events.T
    words = np.stack([(127 - y) << 8 | (127 - x) << 1 | (1 - p), t], 1)
    path.write_bytes(b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n" + words.astype(">u4").tobytes())


def write_aedat3(path: Path, events: np.ndarray) -> None:
    """A DVS128 as cAER writes it, in one packet; events [E, 4] are t, x, y, p."""
    t, x, y, p = events.T
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    packet = struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(t), len(t), len(t))
    words = np.stack([x << 17 | y << 2 | p << 1 | 1, t], 1)
    path.write_bytes(head + packet + words.astype("<u4").tobytes())


def some_events(seed: int, first: int, last: int, count: int = 400) -> np.ndarray:
    """Events [E, 4] of a DVS128 in order of time."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(first, last, count))
    return np.stack([t, *rng.integers(0, 128, (2, count)), rng.integers(0, 2, count)], 1)


def counted(events: np.ndarray, config: FrameConfig) -> np.ndarray:
    """Frames of events [E, 4], one event after another."""
    frames = np.zeros((config.steps, 2, config.height, config.width), int)
    each = len(events) // config.steps
    for index, (_, x, y, p) in enumerate(events):
        frames[min(index // each, config.steps - 1), p, y * config.height // 128, x * config.width // 128] += 1
    return frames
