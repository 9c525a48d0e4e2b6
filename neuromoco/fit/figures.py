"""Figures of a recording as a network sees it: how fast, how large, where, and how it moves.

They are computed from the frames that every backend takes, and not from the network, so that the verdict is the same in
all of them. On recordings of other kinds, spike rates and distances between features told no more than these.
"""

from __future__ import annotations

from functools import lru_cache
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
MOTION_PARTS = 4  # of a recording, in which motion is looked at
AXES = ("row", "column")
# Each figure, and the least spread that it is taken to have: differences below it are none, however alike the training
# recordings are. A logarithm is of a ratio: 0.1 is about 10 %.
SPREADS = {
    "rate": 0.1,  # log of events per second
    "on": 0.02,  # share of ON events
    "row": 0.01,  # mean of the events, as a share of the frame's height
    "column": 0.01,
    "height": 0.05,  # log of the standard deviation of their rows, as a share of the height
    "width": 0.05,
    "area": 0.1,  # log of the share of pixels that hold the events, 1 / sum of squared shares (participation ratio)
    "filled": 0.1,  # log of the share of pixels, polarities and steps that have events
    "together": 0.02,  # products of neighbouring pixels over squares: low for noise
    "mixed": 0.02,  # share of events whose pixel has one of the other polarity in the same step
    "change": 0.02,  # difference from step to step, as a share of the events
    "sensor": 0.5,  # log of the sensor's number of pixels
    # From the centre of OFF events to that of ON events, which edges in motion separate: shares of height and width.
    **{f"motion_{axis}_{part}": 0.005 for axis in AXES for part in range(MOTION_PARTS)},
}
DURATION, DURATION_SPREAD = "duration", 0.05  # log of microseconds, of whole recordings only
NAMES = (*SPREADS, DURATION)
FLOORS: Values = np.array([*SPREADS.values(), DURATION_SPREAD])
TINY = 1e-5


def figures(frames: NDArray[Any], duration_us: int, sensor: tuple[int, int]) -> Values:
    """Figures of one recording, in the order of `NAMES`: float64 [F].

    Args:
        frames: event counts [T, P, H, W].
        duration_us: of the recording, microseconds.
        sensor: its rows and columns.
    """
    steps, polarities, height, width = frames.shape
    counts = np.ascontiguousarray(frames, np.float32)
    # Little more than an answer of a small network takes is spent here, so there is one product for all moments.
    products = counts.reshape(steps * polarities, -1) @ _places(height, width)
    moments: Values = products.reshape(steps, polarities, -1).astype(np.float64)  # [T, P, moments]
    off_on = moments.sum(0)
    (total, *firsts), seconds = off_on.sum(0)[:3].tolist(), off_on.sum(0)[3:].tolist()
    events = max(1.0, total)
    row, column = (first / events for first in firsts)
    tall, wide = (max(0.0, s / events - m * m) + TINY for s, m in zip(seconds, (row, column), strict=True))
    by_step = counts[:, 0] + counts[:, 1]  # [T, H, W]
    shares = by_step.sum(0).ravel() / np.float32(events)
    squares = max(TINY, float(shares @ shares))
    across = float(shares[1:] @ shares[:-1]) - float(shares[width::width] @ shares[width - 1 : -1 : width])
    together = (across + float(shares[width:] @ shares[:-width])) / 2 / squares
    mixed = float(np.minimum(counts[:, 0], counts[:, 1]).sum()) / events
    change = float(np.abs(by_step[1:] - by_step[:-1]).sum()) / events
    filled, duration = max(1, int(np.count_nonzero(counts))), max(1, duration_us)
    on = float(off_on[1, 0]) / events
    fixed = [
        log(1e6 * events / duration), on, row, column, log(tall) / 2, log(wide) / 2, -log(squares * height * width),
        log(filled / counts.size), together, mixed, change, log(max(1, sensor[0] * sensor[1])),
    ]  # fmt: skip
    return np.array([*fixed, *_motion(moments, steps), log(duration)])


@lru_cache(maxsize=16)
def _places(height: int, width: int) -> NDArray[np.float32]:
    """Of each pixel 1, its row, its column, and their squares, as shares of height and width: [H * W, moments]."""
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    row, column = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    return np.stack([np.ones(row.size), row, column, row * row, column * column], axis=1).astype(np.float32)


def _motion(moments: Values, steps: int) -> list[float]:
    """From the mean position of OFF to that of ON events along both axes, in parts of the time."""
    parts = np.add.reduceat(moments[..., :3], [i * steps // MOTION_PARTS for i in range(MOTION_PARTS)], axis=0).tolist()
    return [on[axis] / on[0] - off[axis] / off[0] if on[0] and off[0] else 0.0 for axis in (1, 2) for off, on in parts]
