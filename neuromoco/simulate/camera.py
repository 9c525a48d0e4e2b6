"""A simulated event camera: a still image, moved in front of the sensor, becomes a recording.

The pixel model is the usual one of the dynamic vision sensor (Lichtsteiner, Posch and Delbruck 2008): a pixel
remembers the logarithm of the intensity at its last event, and reports ON or OFF as soon as the logarithm has risen or
fallen by a threshold. A still image causes no events, so images are recorded in motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.simulate.checks import check_attributes, check_values
from neuromoco.simulate.motion import Motion, Saccades

# A change that falls short of a threshold only by rounding still counts.
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class SensorConfig:
    """How the pixels of the camera respond to light.

    Attributes:
        threshold_on: rise of log intensity that gives an ON event, 0.001 to 10.
        threshold_off: fall of log intensity that gives an OFF event, 0.001 to 10.
        mismatch: spread of the thresholds over the pixels, 0 to 1: each is multiplied by a log-normal factor, whose
            logarithm has this standard deviation; ON and OFF are drawn separately.
        refractory_us: shortest time between two events of one pixel, 0 or more microseconds.
        noise_hz: rate of background events, which no light causes, per pixel, 0 to 10,000 Hz.
        noise_on_share: share of ON among the background events, 0 to 1.
        eps: intensity added before the logarithm, for the dark current of a pixel, 1e-6 to 1.
        step_us: time between two samples of the moving image, 1 or more microseconds. Between
            samples the log intensity is taken to change linearly.
        serial: number of the camera, 0 or more; it seeds the thresholds of its pixels, which are the same in every
            recording.

    Raises:
        ConfigError: a value outside its range.
    """

    threshold_on: float = 0.2
    threshold_off: float = 0.2
    mismatch: float = 0.03
    refractory_us: int = 1000
    noise_hz: float = 0.1
    noise_on_share: float = 0.5
    eps: float = 0.02
    step_us: int = 2000
    serial: int = 0

    def __post_init__(self) -> None:
        check_attributes(self, Real, 1e-3, 10.0, "threshold_on", "threshold_off")
        check_attributes(self, Real, 0.0, 1.0, "mismatch", "noise_on_share")
        check_attributes(self, Real, 0.0, 1e4, "noise_hz")
        check_attributes(self, Real, 1e-6, 1.0, "eps")
        check_attributes(self, Integral, 0, 1_000_000, "refractory_us")
        check_attributes(self, Integral, 1, 1_000_000, "step_us")
        check_attributes(self, Integral, 0, 2**63 - 1, "serial")


DEFAULT_SENSOR = SensorConfig()
DEFAULT_MOTION = Saccades()


class PixelEvents(NamedTuple):
    """E events in order of time.

    Attributes:
        t: int64 [E], microseconds.
        pixel: int64 [E], y * width + x.
        p: uint8 [E], 1 for ON and 0 for OFF.
    """

    t: NDArray[np.int64]
    pixel: NDArray[np.int64]
    p: NDArray[np.uint8]


def record(
    image: ArrayLike,
    *,
    sensor: SensorConfig = DEFAULT_SENSOR,
    motion: Motion = DEFAULT_MOTION,
    width: int = 34,
    height: int = 34,
    seed: int = 0,
) -> Recording:
    """Records a still image that moves in front of a simulated event camera.

    The image is centred on the sensor and displaced along the path with bilinear sampling. Outside its border it
    continues with the nearest border pixel. Of an image larger than the sensor only a part is visible. The same
    arguments give the same events.

    Args:
        image: grey values [h, w]: floats 0 to 1, integers 0 to 255, or booleans.
        sensor: how the pixels respond.
        motion: how the image moves.
        width: columns of the sensor, 1 to 4096.
        height: rows of the sensor, 1 to 4096.
        seed: seeds the background events, 0 or more.

    Returns:
        Events in order of time, from 0 to `motion.duration_us` microseconds.

    Raises:
        ConfigError: an image, a size or a seed that is not allowed.

    Examples:
        >>> import numpy as np
        >>> from neuromoco.simulate import record
        >>> image = np.zeros((28, 28))
        >>> image[8:20, 8:20] = 1.0
        >>> recording = record(image, seed=0)
        >>> recording.width, recording.height, recording.duration < 309_001
        (34, 34, True)
    """
    intensity = _intensity(image)
    check_values({"width": width, "height": height}, Integral, 1, 4096)
    check_values({"seed": seed}, Integral, 0, 2**63 - 1)
    times = np.minimum(np.arange(0, motion.duration_us + sensor.step_us, sensor.step_us), motion.duration_us)
    frames = displace(intensity, motion.path(times), width=width, height=height)
    return record_scene(frames, times, sensor=sensor, seed=seed)


def record_scene(
    frames: NDArray[np.floating[Any]],
    times_us: NDArray[np.int64],
    *,
    sensor: SensorConfig = DEFAULT_SENSOR,
    seed: int | Sequence[int] = 0,
) -> Recording:
    """Records a scene whose light is known at S times.

    Args:
        frames: intensities, 0 to 1, [S, height, width].
        times_us: increasing, [S], microseconds; the first is 0.
        sensor: how the pixels respond; its `step_us` is not used.
        seed: seeds the background events.

    Returns:
        Events in order of time, from 0 to the last of `times_us`.
    """
    height, width = frames.shape[1:]
    signal = threshold_crossings(np.log(frames + sensor.eps), times_us, *_thresholds(sensor, (height, width)))
    noise = background_noise(sensor, int(times_us[-1]), width * height, np.random.default_rng(seed))
    columns = ([getattr(events, name) for events in (signal, noise)] for name in PixelEvents._fields)
    t, pixel, p = drop_refractory(_in_order(*map(np.concatenate, columns)), sensor.refractory_us)
    return Recording.from_columns(
        t, pixel % width, pixel // width, p, width=width, height=height, source="simulated camera"
    )


def displace(image: NDArray[np.float64], path: NDArray[np.float64], *, width: int, height: int) -> NDArray[np.float64]:
    """The part of a displaced image that a sensor of `height` x `width` pixels sees, sampled bilinearly.

    Args:
        image: [h, w], in any unit.
        path: displacement of the image from the centre, [S, 2], x and y in pixels.
        width: columns of the sensor.
        height: rows of the sensor.

    Returns:
        [S, height, width], in the unit of the image; outside the image, its nearest border pixel.
    """
    margin = int(np.ceil(np.abs(path).max())) + 1
    rows = _nearest(image.shape[0], height, margin)
    columns = _nearest(image.shape[1], width, margin)
    windows = sliding_window_view(image[rows[:, None], columns], (height, width))
    # An image that moves right is read further to the left.
    corner = margin - path
    floor = np.floor(corner).astype(np.int64)
    (right, down), (x, y) = (corner - floor).T[..., None, None], floor.T
    upper = (1 - right) * windows[y, x] + right * windows[y, x + 1]
    lower = (1 - right) * windows[y + 1, x] + right * windows[y + 1, x + 1]
    frames: NDArray[np.float64] = (1 - down) * upper + down * lower
    return frames


def threshold_crossings(
    log_intensity: NDArray[np.floating[Any]],
    times_us: NDArray[np.integer[Any]],
    threshold_on: float | NDArray[np.float64],
    threshold_off: float | NDArray[np.float64],
) -> PixelEvents:
    """Finds every crossing of a threshold in a sequence of log intensities.

    A pixel's reference starts at its first sample and moves by one threshold with each event. The log intensity is
    linear between two samples, so several events of a pixel within one step are spread evenly.

    Args:
        log_intensity: natural logarithm of the intensity, [S, height, width].
        times_us: increasing, [S], microseconds.
        threshold_on: positive, one number or [height, width].
        threshold_off: positive, one number or [height, width].
    """
    levels = log_intensity.reshape(len(log_intensity), -1).astype(np.float64)
    on = np.broadcast_to(threshold_on, log_intensity.shape[1:]).ravel()
    off = np.broadcast_to(threshold_off, log_intensity.shape[1:]).ravel()
    # The loop over time leaves out the pixels that never see an edge, which are most.
    busy = np.flatnonzero(np.ptp(levels, axis=0) * _ROUNDING >= np.minimum(on, off))
    levels, on, off = levels[:, busy], on[busy], off[busy]
    reference = levels[0].copy()
    before = np.empty_like(levels[1:])
    counts = np.empty_like(before)
    for step, level in enumerate(levels[1:]):
        before[step] = reference
        change = level - reference
        size = np.where(change > 0, on, off)
        counts[step] = np.trunc(change * _ROUNDING / size)
        reference += counts[step] * size
    at, pixel = np.nonzero(counts)
    signed = counts[at, pixel]
    number = np.abs(signed).astype(np.int64)
    # The k-th event of a step happens where the line reaches the reference plus k thresholds.
    k = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number) + 1
    size = np.where(signed > 0, on[pixel], -off[pixel])
    start, slope = levels[at, pixel], levels[at + 1, pixel] - levels[at, pixel]
    first, per_event = (before[at, pixel] - start) / slope, size / slope
    part = np.clip(np.repeat(first, number) + k * np.repeat(per_event, number), 0.0, 1.0)
    begin, length = times_us[at], np.diff(times_us)[at]
    t = np.repeat(begin, number) + np.rint(part * np.repeat(length, number)).astype(np.int64)
    return _in_order(t, np.repeat(busy[pixel], number), np.repeat((signed > 0).astype(np.uint8), number))


def background_noise(sensor: SensorConfig, duration_us: int, pixels: int, rng: np.random.Generator) -> PixelEvents:
    """Draws background events: a Poisson process in every pixel, all with the sensor's rate."""
    count = int(rng.poisson(sensor.noise_hz * pixels * duration_us * 1e-6))
    t = rng.integers(0, duration_us, count, endpoint=True)
    pixel = rng.integers(0, pixels, count)
    return _in_order(t, pixel, (rng.random(count) < sensor.noise_on_share).astype(np.uint8))


def drop_refractory(events: PixelEvents, refractory_us: int) -> PixelEvents:
    """Drops every event less than `refractory_us` after the previous remaining event of its pixel."""
    if not refractory_us or not events.t.size:
        return events
    indices = np.argsort(events.pixel, kind="stable")
    while True:
        t, pixel = events.t[indices], events.pixel[indices]
        soon = np.zeros(indices.size, dtype=bool)
        soon[1:] = (np.diff(t) < refractory_us) & (pixel[1:] == pixel[:-1])
        if not soon.any():
            break
        # Only the first of a run is sure to go: the event before it stays in any case.
        soon[1:] = soon[1:] & ~soon[:-1]
        indices = indices[~soon]
    indices.sort()
    return PixelEvents(events.t[indices], events.pixel[indices], events.p[indices])


def _nearest(inside: int, outside: int, margin: int) -> NDArray[np.int64]:
    """Index of the image pixel under each sensor pixel and `margin` more on either side: [outside + 2 * margin]."""
    return np.clip(np.arange(-margin, outside + margin) - (outside - inside) // 2, 0, inside - 1)


def _thresholds(sensor: SensorConfig, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Log-normal factors keep thresholds positive. Their generator is seeded unlike that of any recording.
    factors = np.exp(sensor.mismatch * np.random.default_rng([sensor.serial, *shape]).standard_normal((2, *shape)))
    return sensor.threshold_on * factors[0], sensor.threshold_off * factors[1]


def _in_order(t: NDArray[np.int64], pixel: NDArray[np.int64], p: NDArray[np.uint8]) -> PixelEvents:
    order = np.argsort(t, kind="stable")
    return PixelEvents(t[order], pixel[order], p[order])


def _intensity(image: ArrayLike) -> NDArray[np.float64]:
    grey = np.asarray(image)
    if grey.dtype.kind not in "fiub":
        raise ConfigError(f"an image of {grey.dtype}; allowed are floats, integers or booleans")
    if grey.ndim != 2 or not grey.size:
        raise ConfigError(f"an image of shape {grey.shape}; it has two dimensions, neither of them 0")
    if not np.isfinite(grey).all():
        raise ConfigError("an image with NaN or infinite values; floats are between 0 and 1")
    most = 255 if grey.dtype.kind in "iu" else 1
    if grey.min() < 0 or grey.max() > most:
        what = "integers" if most == 255 else "floats"
        raise ConfigError(f"an image with values from {grey.min()} to {grey.max()}; {what} are between 0 and {most}")
    return grey.astype(np.float64) / most
