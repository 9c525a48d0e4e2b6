"""A simulated event camera: a still image, moved in front of the sensor, becomes a recording.

The pixel model is the usual one of the dynamic vision sensor (Lichtsteiner, Posch and Delbruck
2008): a pixel remembers the logarithm of the intensity at its last event, and reports ON or OFF as
soon as the logarithm has risen or fallen by a threshold. A still image gives such a camera nothing
to report, so image sets are recorded in motion.

    recording = record(image, motion=Saccades(), seed=0)
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.simulate.checks import check_one, check_real, check_whole
from neuromoco.simulate.motion import Motion, Saccades

# A change that misses a whole threshold by rounding alone still counts.
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class SensorConfig:
    """How the pixels of the camera answer to light.

    Attributes:
        threshold_on: rise of log intensity that gives an ON event, 0.001 to 10.
        threshold_off: fall of log intensity that gives an OFF event, 0.001 to 10.
        mismatch: spread of the thresholds from pixel to pixel: the standard deviation of the log of
            the factor on a pixel's threshold, drawn for ON and OFF separately, 0 to 1.
        refractory_us: shortest time between two events of one pixel, 0 or more microseconds.
        noise_hz: rate of background events that no light causes, per pixel, 0 to 10,000 Hz.
        noise_on_share: share of ON among the background events, 0 to 1.
        eps: intensity added before the logarithm, for the dark current of a pixel, 1e-6 to 1.
        step_us: time between two samples of the moving image, 1 or more microseconds. Between
            samples the log intensity is taken to change linearly.
        serial: which camera of this kind, 0 or more: it decides the thresholds of its pixels, the same in
            every recording.

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
        check_real(self, 1e-3, 10.0, "threshold_on", "threshold_off")
        check_real(self, 0.0, 1.0, "mismatch", "noise_on_share")
        check_real(self, 0.0, 1e4, "noise_hz")
        check_real(self, 1e-6, 1.0, "eps")
        check_whole(self, 0, 1_000_000, "refractory_us")
        check_whole(self, 1, 1_000_000, "step_us")
        check_whole(self, 0, 2**63 - 1, "serial")


DEFAULT_SENSOR = SensorConfig()
DEFAULT_MOTION = Saccades()


class Crossings(NamedTuple):
    """Events in order of time, one entry each.

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

    The image lies centred on the sensor, is displaced along the path with bilinear sampling, and
    continues outside its border with the value of the nearest border pixel. An image larger than the
    sensor is seen in part. The same arguments give the same events.

    Args:
        image: [h, w], grey values: floats 0 to 1, integers 0 to 255, or booleans.
        sensor: how the pixels answer.
        motion: how the image moves.
        width: columns of the sensor, 1 to 4096.
        height: rows of the sensor, 1 to 4096.
        seed: of the background events, 0 or more.

    Returns:
        Events in order of time, from 0 to `motion.duration_us` microseconds.

    Raises:
        ConfigError: an image, a size or a seed that is not allowed.
    """
    intensity = _intensity(image)
    for name, value, least, most in (
        ("width", width, 1, 4096),
        ("height", height, 1, 4096),
        ("seed", seed, 0, 2**63 - 1),
    ):
        check_one(name, value, least, most, Integral)
    thresholds = _thresholds(sensor, (height, width))
    times = np.minimum(np.arange(0, motion.duration_us + sensor.step_us, sensor.step_us), motion.duration_us)
    seen = move(intensity, motion.path(times), width=width, height=height)
    signal = crossings(np.log(seen + sensor.eps), times, *thresholds)
    noise = background(sensor, motion.duration_us, width * height, np.random.default_rng(seed))
    events = rest(_merge(signal, noise), sensor.refractory_us)
    return Recording.from_columns(
        events.t,
        events.pixel % width,
        events.pixel // width,
        events.p,
        width=width,
        height=height,
        source="simulated camera",
    )


def move(image: NDArray[np.float64], path: NDArray[np.float64], *, width: int, height: int) -> NDArray[np.float64]:
    """What a sensor of `height` x `width` sees of a displaced image, sampled bilinearly.

    Args:
        image: [h, w], any unit.
        path: [S, 2], displacement of the image from the centre, x and y, pixels.

    Returns:
        [S, height, width], in the unit of the image. Outside the image: its nearest border pixel.
    """
    margin = int(np.ceil(np.abs(path).max())) + 1
    rows = _nearest(image.shape[0], height, margin)
    columns = _nearest(image.shape[1], width, margin)
    windows = sliding_window_view(image[rows[:, None], columns], (height, width))
    # An image that moves right is read further to the left.
    corner = margin - path
    whole = np.floor(corner).astype(np.int64)
    (right, down), (x, y) = (corner - whole).T[..., None, None], whole.T
    upper = (1 - right) * windows[y, x] + right * windows[y, x + 1]
    lower = (1 - right) * windows[y + 1, x] + right * windows[y + 1, x + 1]
    seen: NDArray[np.float64] = (1 - down) * upper + down * lower
    return seen


def crossings(
    log_intensity: NDArray[np.floating[Any]],
    times_us: NDArray[np.integer[Any]],
    threshold_on: float | NDArray[np.float64],
    threshold_off: float | NDArray[np.float64],
) -> Crossings:
    """Every crossing of a threshold in a sequence of log intensities.

    A pixel's reference starts at its first sample and moves by one threshold with each event. The
    log intensity is linear between two samples, so several events of one pixel in one step are
    spread evenly over the part of the step in which they happen.

    Args:
        log_intensity: [S, height, width], natural logarithm of intensity.
        times_us: [S], rising, microseconds.
        threshold_on: positive, one number or [height, width].
        threshold_off: positive, one number or [height, width].
    """
    levels = log_intensity.reshape(len(log_intensity), -1).astype(np.float64)
    on = np.broadcast_to(threshold_on, log_intensity.shape[1:]).ravel()
    off = np.broadcast_to(threshold_off, log_intensity.shape[1:]).ravel()
    # Most pixels never see an edge; the loop over time is spared them.
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
    # The k-th event of a step happens where the line meets the reference plus k thresholds.
    k = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number) + 1
    size = np.where(signed > 0, on[pixel], -off[pixel])
    start, slope = levels[at, pixel], levels[at + 1, pixel] - levels[at, pixel]
    first, per_event = (before[at, pixel] - start) / slope, size / slope
    part = np.clip(np.repeat(first, number) + k * np.repeat(per_event, number), 0.0, 1.0)
    begin, length = times_us[at], np.diff(times_us)[at]
    t = np.repeat(begin, number) + np.rint(part * np.repeat(length, number)).astype(np.int64)
    polarity = (signed > 0).astype(np.uint8)
    return _in_order(Crossings(t, np.repeat(busy[pixel], number), np.repeat(polarity, number)))


def background(sensor: SensorConfig, duration_us: int, pixels: int, rng: np.random.Generator) -> Crossings:
    """Background events: a Poisson process in every pixel, the same rate everywhere."""
    count = int(rng.poisson(sensor.noise_hz * pixels * duration_us * 1e-6))
    t = rng.integers(0, duration_us, count, endpoint=True)
    pixel = rng.integers(0, pixels, count)
    return _in_order(Crossings(t, pixel, (rng.random(count) < sensor.noise_on_share).astype(np.uint8)))


def rest(events: Crossings, refractory_us: int) -> Crossings:
    """Drops every event that comes sooner than `refractory_us` after the last kept one of its pixel."""
    if not refractory_us or not events.t.size:
        return events
    kept = np.argsort(events.pixel, kind="stable")
    while True:
        t, pixel = events.t[kept], events.pixel[kept]
        soon = np.zeros(kept.size, dtype=bool)
        soon[1:] = (np.diff(t) < refractory_us) & (pixel[1:] == pixel[:-1])
        if not soon.any():
            break
        # Only the first of a run is sure to go: its predecessor stays, whatever else goes.
        soon[1:] = soon[1:] & ~soon[:-1]
        kept = kept[~soon]
    kept = np.sort(kept)
    return Crossings(events.t[kept], events.pixel[kept], events.p[kept])


def _nearest(inside: int, outside: int, margin: int) -> NDArray[np.int64]:
    """Index of the image pixel under each sensor pixel, `margin` more on either side: [outside + 2m]."""
    return np.clip(np.arange(-margin, outside + margin) - (outside - inside) // 2, 0, inside - 1)


def _thresholds(sensor: SensorConfig, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # A log-normal factor, so that no pixel's threshold falls to zero or below. A stream of its own, so that
    # a recording's seed never draws the same numbers.
    factors = np.exp(sensor.mismatch * np.random.default_rng([sensor.serial, *shape]).standard_normal((2, *shape)))
    return sensor.threshold_on * factors[0], sensor.threshold_off * factors[1]


def _merge(*parts: Crossings) -> Crossings:
    t, pixel, p = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return _in_order(Crossings(t, pixel, p))


def _in_order(events: Crossings) -> Crossings:
    order = np.argsort(events.t, kind="stable")
    return Crossings(events.t[order], events.pixel[order], events.p[order])


def _intensity(image: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(image)
    if given.dtype.kind not in "fiub":
        raise ConfigError(f"an image of {given.dtype}; it holds floats, integers or booleans")
    if given.ndim != 2 or not given.size:
        raise ConfigError(f"an image of shape {given.shape}; it has two dimensions, none of them 0")
    if not np.isfinite(given).all():
        raise ConfigError("an image with NaN or infinite values; floats lie between 0 and 1")
    most = 255 if given.dtype.kind in "iu" else 1
    if given.min() < 0 or given.max() > most:
        what = "integers" if most == 255 else "floats"
        raise ConfigError(f"an image with values from {given.min()} to {given.max()}; {what} lie between 0 and {most}")
    return given.astype(np.float64) / most
