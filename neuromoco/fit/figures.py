"""Figures of a recording as a network sees it: how fast, how large, where, and how it moves.

They are computed from the frames that every backend takes, and not from the network, so that the verdict is the same in
all of them. On recordings of other kinds, spike rates and distances between features told no more than these.
"""

from __future__ import annotations

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
TINY = 1e-6


def figures(frames: NDArray[Any], duration_us: int, sensor: tuple[int, int]) -> Values:
    """Figures of one recording, in the order of `NAMES`: float64 [F].

    Args:
        frames: event counts [T, P, H, W].
        duration_us: of the recording, microseconds.
        sensor: its rows and columns.
    """
    height, width = frames.shape[2:]
    counts = frames.astype(np.float32)
    rows, columns = counts.sum(3), counts.sum(2)  # [T, P, H], [T, P, W]
    events = max(1.0, float(rows.sum()))
    steps_map = counts.sum(1)  # [T, H, W]
    shares = steps_map.sum(0) / events  # [H, W]
    squares = max(TINY, float(np.vdot(shares, shares)))
    neighbours = float(np.vdot(shares[1:], shares[:-1])) + float(np.vdot(shares[:, 1:], shares[:, :-1]))
    mixed = np.minimum(counts[:, 0], counts[:, 1]).sum() / events
    change = np.abs(np.diff(steps_map, axis=0)).sum() / events
    filled, duration = int(np.count_nonzero(counts)), max(1, duration_us)
    (row, tall), (column, wide) = _spread(rows.sum((0, 1))), _spread(columns.sum((0, 1)))
    return np.array([
        np.log(1e6 * events / duration), rows[:, 1].sum() / events, row, column, np.log(tall), np.log(wide),
        -np.log(squares * height * width), np.log(max(1, filled) / counts.size),
        neighbours / 2 / squares, mixed, change, np.log(max(1, sensor[0] * sensor[1])),
        *_motion(rows), *_motion(columns), np.log(duration),
    ])  # fmt: skip


def _spread(counts: NDArray[np.float32]) -> tuple[float, float]:
    """Mean and standard deviation of positions along an axis of the frame, as shares of it."""
    total = max(1.0, float(counts.sum()))
    place = (np.arange(counts.size) + 0.5) / counts.size
    mean = float(counts @ place) / total
    return mean, float(np.sqrt(max(0.0, float(counts @ (place * place)) / total - mean * mean) + TINY))


def _motion(counts: NDArray[np.float32]) -> Values:
    """From the mean position of OFF to that of ON events along an axis, in parts of the time; counts [T, P, side]."""
    steps, _, side = counts.shape
    parts = np.add.reduceat(counts, [i * steps // MOTION_PARTS for i in range(MOTION_PARTS)], axis=0)
    totals = parts.sum(2)
    means = (parts @ ((np.arange(side) + 0.5) / side)) / np.maximum(totals, 1.0)  # [parts, P]
    return np.where(totals.all(1), means[:, 1] - means[:, 0], 0.0)
