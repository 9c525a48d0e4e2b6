"""Scenes in motion, drawn at random: a picture before a moving camera, and objects that pass in front of it.

Lengths are pixels of the sensor, angles radians; `u` is the time from 0 to 1, [S].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, grid_sample

Floats = NDArray[np.float32]
Path = NDArray[np.float64]  # of one coordinate, [S]

FINE = 200  # points at which the length of a path is measured
PIXELS_PER_SAMPLE = 1.0  # that an edge moves between two samples of a scene, if they are not too many
SAMPLES = (12, 64)


class Pose(NamedTuple):
    """Where something is at S times: its shift, its angle, and the logarithm of its size."""

    x: Path
    y: Path
    angle: Path
    zoom: Path

    def __add__(self, other: Pose) -> Pose:  # type: ignore[override]
        return Pose(*(mine + others for mine, others in zip(self, other, strict=True)))

    def length(self, side: float) -> float:
        """How far the border of something with this side moves."""
        shift = np.hypot(np.diff(self.x), np.diff(self.y)).sum()
        return float(shift + side / 2 * (np.abs(np.diff(self.angle)).sum() + np.abs(np.diff(self.zoom)).sum()))


class Sprite(NamedTuple):
    """A picture in a scene: intensities and opacity [h, w], 0 to 1, and its motion."""

    light: Floats
    opacity: Floats
    pose: Callable[[Path], Pose]


class Scene(NamedTuple):
    """A still backdrop [h, w] before a camera in motion, and sprites that move in front of it."""

    backdrop: Floats
    camera: Callable[[Path], Pose]
    sprites: tuple[Sprite, ...]


# --------------------------------------------------------------------------------- motions of a camera


def _pose(
    u: Path, x: Path | float = 0.0, y: Path | float = 0.0, angle: Path | float = 0.0, zoom: Path | float = 0.0
) -> Pose:
    return Pose(*(np.broadcast_to(np.asarray(value, np.float64), u.shape) for value in (x, y, angle, zoom)))


def log_uniform(draw: Generator, low: float, high: float) -> float:
    """A number between two bounds, whose logarithm is uniform."""
    return float(np.exp(draw.uniform(np.log(low), np.log(high))))


def saccades(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """Jumps between two to five points, each at rest at both ends; sometimes back to the first."""
    corners = draw.uniform(-1, 1, (int(draw.integers(3, 6)), 2)) * side * log_uniform(draw, 0.05, 0.3)
    if draw.random() < 0.5:
        corners[-1] = corners[0]

    def path(u: Path) -> Pose:
        jumps = u * (len(corners) - 1)
        eased = jumps - np.sin(2 * np.pi * jumps) / (2 * np.pi)
        number = np.arange(len(corners))
        return _pose(u, np.interp(eased, number, corners[:, 0]), np.interp(eased, number, corners[:, 1]))

    return path


def pan(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """A straight way at constant speed."""
    direction, length = draw.uniform(0, 2 * np.pi), side * log_uniform(draw, 0.1, 1.2)
    return lambda u: _pose(u, (u - 0.5) * length * np.cos(direction), (u - 0.5) * length * np.sin(direction))


def turn(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """A rotation about the middle, from 10 to 180 degrees, either way."""
    angle = draw.choice([-1, 1]) * log_uniform(draw, np.pi / 18, np.pi)
    return lambda u: _pose(u, angle=(u - 0.5) * angle)


def zoom(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """Nearer or farther, by up to twice the size."""
    amount = draw.choice([-1, 1]) * log_uniform(draw, 0.1, 0.7)
    return lambda u: _pose(u, zoom=(u - 0.5) * amount)


def shake(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """The tremor of a hand or a mount: sums of sines, a few pixels wide."""
    return _wander(draw, side * log_uniform(draw, 0.01, 0.06), (3.0, 9.0), 0.05)


def loop(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """A closed ellipse, once or several times."""
    radii = side * log_uniform(draw, 0.04, 0.3) * draw.uniform(0.4, 1.0, 2)
    rounds, phase = draw.choice([-1, 1]) * int(draw.integers(1, 5)), draw.uniform(0, 2 * np.pi)

    def path(u: Path) -> Pose:
        angle = 2 * np.pi * rounds * u + phase
        return _pose(u, radii[0] * np.cos(angle), radii[1] * np.sin(angle))

    return path


def wander(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """A slow way without a goal, with slight turns."""
    return _wander(draw, side * log_uniform(draw, 0.08, 0.35), (0.4, 1.5), 0.3)


def _wander(draw: Generator, reach: float, cycles: tuple[float, float], angle: float) -> Callable[[Path], Pose]:
    frequency, phase = draw.uniform(*cycles, (3, 3)), draw.uniform(0, 2 * np.pi, (3, 3))
    amplitude = np.array([reach, reach, draw.uniform(0, angle)])[:, None] / np.sqrt(3)

    def path(u: Path) -> Pose:
        waves = np.sin(2 * np.pi * frequency[..., None] * u + phase[..., None]).sum(1) * amplitude  # [3, S]
        return _pose(u, *waves)

    return path


CAMERA = (saccades, pan, turn, zoom, shake, loop, wander)
CAMERA_SHARES = (0.30, 0.15, 0.12, 0.10, 0.08, 0.10, 0.15)


def draw_camera(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """One motion, sometimes with another, or with a tremor, on top."""
    parts = [CAMERA[draw.choice(len(CAMERA), p=CAMERA_SHARES)](draw, side)]
    if draw.random() < 0.3:
        parts.append(CAMERA[draw.choice(len(CAMERA), p=CAMERA_SHARES)](draw, side))
    if draw.random() < 0.2:
        parts.append(shake(draw, side))
    return _sum(parts)


def at_rest(u: Path) -> Pose:
    """A camera that does not move."""
    return _pose(u)


def crossing(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """From one border to another, turning a little."""
    direction, offset = draw.uniform(0, 2 * np.pi), draw.uniform(-0.35, 0.35) * side
    turning = draw.normal(0, 0.5)
    length = side * draw.uniform(0.7, 1.6)

    def path(u: Path) -> Pose:
        along = (u - 0.5) * length
        x, y = np.cos(direction), np.sin(direction)
        return _pose(u, along * x - offset * y, along * y + offset * x, turning * u)

    return path


def hovering(draw: Generator, side: float) -> Callable[[Path], Pose]:
    """About a place of its own, as a hand does that makes a sign."""
    place = draw.uniform(-0.3, 0.3, 2) * side
    slow = _wander(draw, side * log_uniform(draw, 0.05, 0.3), (0.4, 2.5), 0.8)
    return lambda u: slow(u) + _pose(u, *place)


def _sum(parts: list[Callable[[Path], Pose]]) -> Callable[[Path], Pose]:
    def path(u: Path) -> Pose:
        pose = parts[0](u)
        for part in parts[1:]:
            pose = pose + part(u)
        return pose

    return path


# ------------------------------------------------------------------------------------------ light


def sample_times(scene: Scene, height: int, width: int) -> Path:
    """Times u [S], close enough that nothing moves by much more than `PIXELS_PER_SAMPLE` between two of them."""
    fine, side = np.linspace(0, 1, FINE), float(max(height, width))
    lengths = [scene.camera(fine).length(side)]
    lengths += [sprite.pose(fine).length(max(sprite.light.shape)) for sprite in scene.sprites]
    return np.linspace(0, 1, int(np.clip(max(lengths) / PIXELS_PER_SAMPLE, *SAMPLES)))


def render(scene: Scene, u: Path, height: int, width: int) -> Floats:
    """The light that falls on a sensor: intensities [S, height, width], 0 to 1."""
    light: Floats = _sampled(scene.backdrop[None], scene.camera(u), height, width)[0]
    for sprite in scene.sprites:
        layers = np.stack([sprite.light, sprite.opacity])
        bright, opacity = _sampled(layers, sprite.pose(u), height, width)
        light += opacity * (bright - light)
    return light


def _sampled(layers: Floats, pose: Pose, height: int, width: int) -> Floats:
    """Pictures, centred on the sensor and moved, sampled bilinearly: [L, h, w] -> [L, S, height, width].

    Outside, they continue with their border.
    """
    rows, columns = layers.shape[1:]
    size = np.exp(-pose.zoom)
    cos, sin = size * np.cos(pose.angle), size * np.sin(pose.angle)
    # From pixels of the sensor to those of the picture; torch counts both from -1 to 1.
    x, y = pose.x / (width - 1) * 2, pose.y / (height - 1) * 2
    wide, high, tall = (width - 1) / (columns - 1), (height - 1) / (columns - 1), (width - 1) / (rows - 1)
    deep = (height - 1) / (rows - 1)
    maps = np.array(
        [
            [wide * cos, high * sin, -wide * cos * x - high * sin * y],
            [-tall * sin, deep * cos, tall * sin * x - deep * cos * y],
        ]
    )  # [2, 3, S]
    count = len(pose.x)
    grid = affine_grid(torch.from_numpy(maps).permute(2, 0, 1).float(), [count, 1, height, width], align_corners=True)
    pictures = torch.from_numpy(np.ascontiguousarray(layers, np.float32)).expand(count, -1, -1, -1)
    moved: Floats = grid_sample(pictures, grid, padding_mode="border", align_corners=True).numpy()
    return moved.swapaxes(0, 1)
