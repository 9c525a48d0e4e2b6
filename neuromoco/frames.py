"""Events -> frames: how often each pixel fired in each slice of a recording.

Shapes: T slices ("time steps"), P = 2 polarities (0 OFF, 1 ON), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.errors import ConfigError
from neuromoco.events.recording import Recording

POLARITIES = 2
SliceBy = Literal["count", "time"]


def slice_bounds(recording: Recording, steps: int, by: SliceBy) -> NDArray[np.int64]:
    """Where each slice begins and ends among the events: slice i holds events bounds[i]:bounds[i + 1].

    Args:
        recording: E events in order of time.
        steps: T, the number of slices.
        by: "count": E // T events a slice, the remainder in the last one.
            "time": slices of equal duration from the first event to the last; some may be empty.

    Returns:
        int64 [T + 1], from 0 to E.

    Raises:
        ConfigError: no slices, or an unknown way to cut.
    """
    if steps < 1:
        raise ConfigError(f"{steps} time steps; at least 1 is needed")
    if by == "count":
        bounds = np.arange(steps + 1) * (len(recording) // steps)
    elif by == "time":
        if not len(recording):
            return np.zeros(steps + 1, np.int64)
        # Python integers: times in microseconds multiplied by T could pass 63 bits.
        first, span = int(recording.t[0]), recording.duration + 1
        edges = [first - (-span * i // steps) for i in range(steps + 1)]  # ceil(span * i / steps)
        bounds = np.searchsorted(recording.t, edges)
    else:
        raise ConfigError(f"slices by {by!r}; allowed are 'count' and 'time'")
    bounds[-1] = len(recording)
    return bounds


def to_frames(
    recording: Recording, steps: int, by: SliceBy = "count", size: tuple[int, int] | None = None
) -> NDArray[np.int32]:
    """Counts events per slice, polarity and pixel.

    Args:
        recording: the events, of any sensor.
        steps: T, the number of slices.
        by: how to cut, see `slice_bounds`.
        size: (H, W) of the frames; by default the sensor's. Along an axis on which the sensor is larger,
            neighbouring pixels are counted together (column x falls into x * W // width), so that no
            event is lost. Along an axis on which it is smaller, pixels are repeated (nearest neighbour).
            The aspect ratio is not kept.

    Returns:
        int32 [T, P, H, W], exact counts.

    Raises:
        ConfigError: no slices, an unknown way to cut, or an empty size.
    """
    height, width = size or (recording.height, recording.width)
    if height < 1 or width < 1:
        raise ConfigError(f"frames of {height} x {width} pixels; both sides must be at least 1")
    rows, columns = min(height, recording.height), min(width, recording.width)
    cells = POLARITIES * rows * columns
    frames = np.empty((steps, cells), np.int32)
    # One slice after another, in the smallest numbers: what is counted stays in the processor's cache.
    for step, (first, last) in enumerate(pairwise(slice_bounds(recording, steps, by))):
        cell: NDArray[Any] = recording.p[first:last].astype(np.uint32 if cells <= 1 << 32 else np.int64)
        cell *= rows
        cell += _shrink(recording.y[first:last], recording.height, rows)
        cell *= columns
        cell += _shrink(recording.x[first:last], recording.width, columns)
        frames[step] = np.bincount(cell, minlength=cells)
    whole = frames.reshape(steps, POLARITIES, rows, columns)
    return _grow(_grow(whole, height, axis=2), width, axis=3)


def recording_frames(recording: Recording, config: FrameConfig) -> NDArray[np.int32]:
    """Frames [T, P, H, W] as the settings ask."""
    return to_frames(recording, config.steps, config.slice_by, (config.height, config.width))


def batch_frames(recordings: Sequence[Recording], config: FrameConfig) -> NDArray[np.float32]:
    """Frames [T, N, P, H, W] of N recordings, as networks take them."""
    counts = [recording_frames(recording, config) for recording in recordings]
    return np.stack(counts, axis=1).astype(np.float32)


def _shrink(coordinate: NDArray[np.uint16], sensor: int, side: int) -> NDArray[np.unsignedinteger[Any]]:
    # A product of two sides is below 2^32.
    return coordinate if side == sensor else coordinate.astype(np.uint32) * side // sensor


def _grow(frames: NDArray[np.int32], side: int, axis: int) -> NDArray[np.int32]:
    sensor = frames.shape[axis]
    return frames if side == sensor else frames.take(np.arange(side) * sensor // side, axis=axis)
