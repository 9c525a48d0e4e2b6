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
    counts = np.ascontiguousarray(frames, np.float32).reshape(steps, polarities, -1)  # [T, P, H * W]
    off, on = counts[:, 0], counts[:, 1]
    # A small network answers in little more time than is spent here, so there is one product for all moments, sums do
    # not go through methods, and single numbers are Python's.
    products = counts.reshape(steps * polarities, -1) @ _places(height, width)
    moments: Values = products.reshape(steps, polarities, -1).astype(np.float64)  # [T, P, moments]
    of_off, of_on = np.add.reduce(moments, 0).tolist()
    total, first_row, first_column, second_row, second_column = [a + b for a, b in zip(of_off, of_on, strict=True)]
    events = max(1.0, total)
    row, column = first_row / events, first_column / events
    tall = max(0.0, second_row / events - row * row) + TINY
    wide = max(0.0, second_column / events - column * column) + TINY
    by_step = off + on  # [T, H * W]
    shares = np.add.reduce(by_step, 0) / np.float32(events)
    squares = max(TINY, float(shares @ shares))
    across = float(shares[1:] @ shares[:-1]) - float(shares[width::width] @ shares[width - 1 : -1 : width])
    together = (across + float(shares[width:] @ shares[:-width])) / 2 / squares
    mixed = float(np.add.reduce(np.minimum(off, on), None)) / events
    steps_apart = by_step[1:] - by_step[:-1]
    change = float(np.add.reduce(np.abs(steps_apart, out=steps_apart), None)) / events
    filled, duration = max(1, int(np.count_nonzero(counts != 0))), max(1, duration_us)
    fixed = (
        log(1e6 * events / duration), of_on[0] / events, row, column, log(tall) / 2, log(wide) / 2,
        -log(squares * height * width), log(filled / counts.size), together, mixed, change,
        log(max(1, sensor[0] * sensor[1])),
    )  # fmt: skip
    return np.array([*fixed, *_motion(moments, steps), log(duration)])


@lru_cache(maxsize=16)
def _places(height: int, width: int) -> NDArray[np.float32]:
    """Of each pixel 1, its row, its column, and their squares, as shares of height and width: [H * W, moments]."""
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    row, column = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    return np.stack([np.ones(row.size), row, column, row * row, column * column], axis=1).astype(np.float32)


def _motion(moments: Values, steps: int) -> list[float]:
    """From the mean position of OFF to that of ON events along both axes, in parts of the time."""
    rows, columns = [], []
    parts = np.add.reduceat(moments[..., :3], _parts(steps), 0).tolist()
    for (off, off_row, off_column), (on, on_row, on_column) in parts:
        rows.append(on_row / on - off_row / off if on and off else 0.0)
        columns.append(on_column / on - off_column / off if on and off else 0.0)
    return rows + columns


@lru_cache(maxsize=16)
def _parts(steps: int) -> NDArray[np.int64]:
    """The steps with which the parts begin in which motion is looked at."""
    return np.array([part * steps // MOTION_PARTS for part in range(MOTION_PARTS)])
