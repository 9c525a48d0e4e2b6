"""Paths along which an image moves in front of the camera, those of two well-known data sets.

Coordinates: x grows to the right and y downwards, in pixels; times are microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromoco.simulate.checks import check_attributes


class Motion(Protocol):
    """A path of the image over the sensor; `Saccades` and `ClosedLoop` are two."""

    @property
    def duration_us(self) -> int:
        """Microseconds from the start of the path to its end."""

    def path(self, times_us: ArrayLike) -> NDArray[np.float64]:
        """Displacement of the image: times [S], microseconds -> [S, 2], x and y in pixels."""


@dataclass(frozen=True, slots=True)
class Saccades:
    """Three saccades along the sides of an isosceles triangle, as in N-MNIST.

    As published (Orchard, Jayawant, Cohen and Thakor 2015): the camera makes three saccades of about 100 ms each
    along an isosceles triangle and ends where it began. Measured in N-MNIST recordings: the digit moves down and
    right to the apex, up and right to the other end of the base, and back to the left, over about 6 pixels, and each
    saccade causes one bell-shaped burst of events. Chosen here: the speed within a saccade, a squared sine, and a
    triangle centred on the sensor.

    Attributes:
        base: length of the base, pixels, 0 to 1000.
        height: height of the triangle, pixels, 0 to 1000.
        saccade_us: duration of one saccade, microseconds.

    Raises:
        ConfigError: a value outside its range.
    """

    base: float = 6.0
    height: float = 5.5
    saccade_us: int = 103_000

    def __post_init__(self) -> None:
        check_attributes(self, Real, 0.0, 1000.0, "base", "height")
        check_attributes(self, Integral, 1, 100_000_000, "saccade_us")

    @property
    def duration_us(self) -> int:
        """Duration of all three saccades, microseconds."""
        return 3 * self.saccade_us

    def path(self, times_us: ArrayLike) -> NDArray[np.float64]:
        """Displacement of the image: times [S], microseconds -> [S, 2], x and y in pixels."""
        left, right, top, bottom = -self.base / 2, self.base / 2, -self.height / 2, self.height / 2
        corners = np.array([[left, top], [0.0, bottom], [right, top], [left, top]])
        sides = np.clip(np.asarray(times_us, dtype=np.float64) / self.saccade_us, 0.0, 3.0)
        # The integral of a squared sine: every saccade starts and ends at rest.
        return _along(corners, sides - np.sin(2 * np.pi * (sides - np.floor(sides))) / (2 * np.pi))


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A closed loop that is repeated, as in CIFAR10-DVS.

    As published (Li, Liu, Ji, Li and Shi 2017): the image, not the camera, moves smoothly along a closed path, which
    is repeated. Chosen here: everything else. The path is a square that stands on a corner, so that vertical and
    horizontal edges cause events on every side. It starts at the left corner and runs clockwise at constant speed; its
    corners are 3 pixels from the centre, and six loops take 200 ms each.

    Attributes:
        amplitude: distance of the corners from the centre of the sensor, pixels, 0 to 1000.
        loops: number of loops, 1 to 1000.
        loop_us: duration of one loop, microseconds.

    Raises:
        ConfigError: a value outside its range.
    """

    amplitude: float = 3.0
    loops: int = 6
    loop_us: int = 200_000

    def __post_init__(self) -> None:
        check_attributes(self, Real, 0.0, 1000.0, "amplitude")
        check_attributes(self, Integral, 1, 1000, "loops")
        check_attributes(self, Integral, 1, 100_000_000, "loop_us")

    @property
    def duration_us(self) -> int:
        """Duration of all loops, microseconds."""
        return self.loops * self.loop_us

    def path(self, times_us: ArrayLike) -> NDArray[np.float64]:
        """Displacement of the image: times [S], microseconds -> [S, 2], x and y in pixels."""
        corners = self.amplitude * np.array([[-1.0, 0.0], [0.0, -1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        times = np.clip(np.asarray(times_us, dtype=np.float64), 0.0, float(self.duration_us))
        return _along(corners, times % self.loop_us * 4 / self.loop_us)


def _along(corners: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on a polygon after a number of its sides: [K, 2], [S] -> [S, 2]."""
    number = np.arange(len(corners))
    return np.stack([np.interp(sides, number, corner) for corner in corners.T], axis=-1)
