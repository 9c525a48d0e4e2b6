"""Events -> frames: event counts per pixel in each time slice of a recording.

Shapes: T time steps (slices), N recordings, P = 2 polarities (0 OFF, 1 ON), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.config.frames import Crop
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events.occupied import occupied
from neuromoco.events.recording import Recording

POLARITIES = 2
SliceBy = Literal["count", "time"]


def slice_bounds(recording: Recording, steps: int, by: SliceBy) -> NDArray[np.int64]:
    """Where each slice begins and ends among the events: slice i holds events bounds[i]:bounds[i + 1].

    Args:
        recording: E events in order of time.
        steps: T, the number of slices.
        by: "count": E // T events per slice, and the remainder in the last one.
            "time": slices of equal duration from the first event to the last; some may be empty.

    Returns:
        int64 [T + 1], from 0 to E.

    Raises:
        ConfigError: fewer than one slice, or an unknown `by`.
    """
    return bounds_in(recording.t, steps, by)


def bounds_in(t: NDArray[np.int64], steps: int, by: SliceBy) -> NDArray[np.int64]:
    """As `slice_bounds`, of events at times t [E] in microseconds that never decrease."""
    if steps < 1:
        raise ConfigError(f"{steps} time steps; at least 1 is needed")
    if by == "count":
        bounds = np.arange(steps + 1) * (len(t) // steps)
    elif by == "time":
        if not len(t):
            return np.zeros(steps + 1, np.int64)
        # Python integers: times in microseconds multiplied by T could pass 63 bits.
        first, span = int(t[0]), int(t[-1]) - int(t[0]) + 1
        edges = [first - (-span * i // steps) for i in range(steps + 1)]  # ceil(span * i / steps)
        bounds = np.searchsorted(t, edges)
    else:
        raise ConfigError(f"slices by {by!r}; allowed are 'count' and 'time'")
    bounds[-1] = len(t)
    return bounds


def to_frames(
    recording: Recording, steps: int, by: SliceBy = "count", size: tuple[int, int] | None = None
) -> NDArray[np.int32]:
    """Counts a recording's events per time slice, polarity and pixel.

    Args:
        recording: the events, of a sensor of any size.
        steps: T, the number of slices.
        by: "count": slices of equally many events, and the remainder in the last one.
            "time": slices of equal duration from the first event to the last; some may be empty.
        size: (H, W) of the frames; by default the sensor's. Where the sensor is larger, neighbouring pixels are
            counted together (column x becomes x * W // width), so no event is lost. Where it is smaller, pixels
            are repeated (nearest neighbour). The aspect ratio is not kept.

    Returns:
        Exact counts, int32 [T, P, H, W]; polarity 0 is OFF, 1 is ON.

    Raises:
        ConfigError: fewer than one slice, an unknown `by`, or an empty size.

    Examples:
        >>> from neuromoco import read_recording, to_frames
        >>> recording = read_recording("models/examples/3.bin")
        >>> frames = to_frames(recording, steps=4)
        >>> frames.shape, int(frames.sum()) == len(recording)
        ((4, 2, 34, 34), True)
    """
    sensor = (recording.height, recording.width)
    grid = Grid(sensor, size or sensor)
    frames = np.empty((steps, grid.cells), np.int32)
    # One slice at a time, in small integers: the counts stay in the processor's cache.
    for step, (first, last) in enumerate(pairwise(slice_bounds(recording, steps, by))):
        cell = grid.cell(*(getattr(recording, name)[first:last] for name in "xyp"))
        frames[step] = np.bincount(cell, minlength=grid.cells)
    return grid.frames(frames)


class Grid:
    """The cells of frames in which the events of a sensor are counted.

    Args:
        sensor: (H, W) of the sensor.
        size: (H, W) of the frames, see `to_frames`.

    Attributes:
        cells: how many there are, of both polarities; fewer than pixels where the sensor is smaller.

    Raises:
        ConfigError: an empty size.
    """

    def __init__(self, sensor: tuple[int, int], size: tuple[int, int]) -> None:
        if size[0] < 1 or size[1] < 1:
            raise ConfigError(f"frames of {size[0]} x {size[1]} pixels; both sides must be at least 1")
        self._sensor, self._size = sensor, size
        self._rows, self._columns = min(size[0], sensor[0]), min(size[1], sensor[1])
        self.cells = POLARITIES * self._rows * self._columns

    def cell(self, x: NDArray[np.uint16], y: NDArray[np.uint16], p: NDArray[np.uint8]) -> NDArray[Any]:
        """The cell of each event [E]."""
        cell: NDArray[Any] = p.astype(np.uint32 if self.cells <= 1 << 32 else np.int64)
        cell *= self._rows
        cell += _shrink(y, self._sensor[0], self._rows)
        cell *= self._columns
        cell += _shrink(x, self._sensor[1], self._columns)
        return cell

    def frames(self, counts: NDArray[np.int32]) -> NDArray[np.int32]:
        """Frames [T, P, H, W] of events counted by cell [T, cells]."""
        pixels = counts.reshape(len(counts), POLARITIES, self._rows, self._columns)
        return _repeat(_repeat(pixels, self._size[0], axis=2), self._size[1], axis=3)


def check_crop(recording: Recording, config: FrameConfig) -> None:
    """Refuses a recording of which a network that crops it itself, as `config` says, cannot take its part.

    Raises:
        ConfigError: a part of the recording was chosen already.
        EventFileError: the part lies outside the sensor.
    """
    if config.crop is not None and recording.is_part:
        raise ConfigError(
            f"crop: this network takes events and uses {_words(config)} of a sensor itself; leave --crop out, or use a "
            "file that takes frames: neuromoco export --input frames"
        )
    _check_fits(recording, config)


def _check_fits(recording: Recording, config: FrameConfig) -> None:
    if isinstance(config.crop, str):
        raise ConfigError(f"crop: {config.crop} is settled by a set of recordings; give pixels X,Y,W,H")
    x, y, width, height = config.crop or (0, 0, 1, 1)
    if x + width > recording.width or y + height > recording.height:
        sensor = f"{recording.width} x {recording.height}"
        raise EventFileError(f"a crop of {_words(config)} does not fit its sensor of {sensor} pixels")


def _words(config: FrameConfig) -> str:
    return ",".join(map(str, config.crop or ()))


def cropped(recording: Recording, config: FrameConfig) -> Recording:
    """The events in the part of the sensor that `config` uses, as from a sensor of its size.

    A recording of which a part was chosen, see `part_of`, is returned as it is.

    Raises:
        EventFileError: the part lies outside the sensor.
    """
    if config.crop is None or recording.is_part:
        return recording
    _check_fits(recording, config)
    x, y, width, height = map(int, config.crop)
    # Below the left or top border, the unsigned difference is large.
    column, row = recording.x - np.uint16(x), recording.y - np.uint16(y)
    inside = (column < width) & (row < height)
    return replace(
        recording,
        t=recording.t[inside], x=column[inside], y=row[inside], p=recording.p[inside], width=width, height=height,
    )  # fmt: skip


def part_of(recording: Recording, crop: tuple[int, int, int, int] | None) -> Recording:
    """The events in a part of the sensor that is chosen for this recording: it counts instead of a network's.

    Args:
        recording: the events.
        crop: left column, top row, width and height of the part; None chooses none.

    Raises:
        EventFileError: the part lies outside the sensor.

    Examples:
        >>> from neuromoco import read_recording
        >>> from neuromoco.frames import part_of
        >>> part = part_of(read_recording("models/examples/3.bin"), (5, 5, 20, 24))
        >>> part.width, part.height, len(part)
        (20, 24, 3790)
    """
    if crop is None:
        return recording
    return replace(cropped(replace(recording, is_part=False), FrameConfig(crop=crop)), is_part=True)


def filled_part_of(recording: Recording, crop: Crop, name: object) -> Recording:
    """As `part_of`, of a recording of this name; "activity" is the part in which its events lie.

    Raises:
        EventFileError: the part lies outside the sensor, or holds no events.
    """
    if crop == "activity":
        (x, w), (y, h) = (
            occupied(np.bincount(places, minlength=side)[:side])
            for places, side in ((recording.x, recording.width), (recording.y, recording.height))
        )
        crop = x, y, w, h
    try:
        part = part_of(recording, crop)
    except EventFileError as error:
        raise EventFileError(f"{name}: {error}") from None
    if len(recording) and not len(part):
        raise EventFileError(f"{name}: holds no events in the crop {','.join(map(str, crop or ()))}")
    return part


def recording_frames(recording: Recording, config: FrameConfig) -> NDArray[np.int32]:
    """Frames of one recording as `config` describes them, int32 [T, P, H, W]; raises as `to_frames` and `cropped`."""
    recording = cropped(recording, config)
    return to_frames(recording, config.steps, config.slice_by, (config.height, config.width))


def batch_frames(recordings: Sequence[Recording], config: FrameConfig) -> NDArray[np.float32]:
    """Frames of N recordings as networks take them, float32 [T, N, P, H, W]; raises as `to_frames`."""
    return np.stack([recording_frames(recording, config) for recording in recordings], axis=1).astype(np.float32)


def _shrink(coordinate: NDArray[np.uint16], sensor: int, side: int) -> NDArray[np.unsignedinteger[Any]]:
    # The product of two sides is below 2^32.
    return coordinate if side == sensor else coordinate.astype(np.uint32) * side // sensor


def _repeat(frames: NDArray[np.int32], side: int, axis: int) -> NDArray[np.int32]:
    sensor = frames.shape[axis]
    return frames if side == sensor else frames.take(np.arange(side) * sensor // side, axis=axis)
