"""Recordings of the bundled digits one after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuromoco import Recording, models, read_recording
from neuromoco.events import write_npz


def in_sequence(path: Path, labels: str, pause_us: int, noise: int = 0, start_us: int = 0) -> list[tuple[int, int]]:
    """Writes bundled digits one after another, with events of noise in pauses between; returns where they are."""
    rng, now, spans = np.random.default_rng(0), start_us, []
    columns: list[list[np.ndarray[Any, Any]]] = []
    for label in labels:
        digit = read_recording(models.example_paths()[int(label)])
        t = digit.t - digit.t[0] + now
        columns.append([t, digit.x, digit.y, digit.p])
        spans.append((now, int(t[-1]) + 1))
        now = int(t[-1]) + 1 + pause_us
        noisy = [np.sort(rng.integers(now - pause_us, now, noise)), *rng.integers(0, 34, (2, noise))]
        columns.append([*noisy, rng.integers(0, 2, noise)])
    joined = map(np.concatenate, zip(*columns, strict=True))
    write_npz(path, Recording.from_columns(*joined, width=34, height=34))
    return spans
