"""How much memory and work a network can need for the frames in its header; a file that needs more is refused."""

from __future__ import annotations

from dataclasses import dataclass

from neuromoco.config import FrameConfig
from neuromoco.frames import POLARITIES

# For each recording: numbers in a value and in all values at a time, beside those for each number in its frames, and
# products beside some for each weight, pixel and step. The widest encoders stay far below.
IN_VALUE, IN_VALUE_PER_NUMBER = 1 << 20, 1 << 10
AT_A_TIME, AT_A_TIME_PER_NUMBER = 1 << 23, 1 << 11
PRODUCTS, PRODUCTS_PER_WEIGHT = 1 << 28, 4


@dataclass(frozen=True)
class Limits:
    """Limits of one recording.

    Attributes:
        in_value: numbers in the result of one layer.
        at_a_time: numbers in all results that are needed at a time.
        products: multiplications.
    """

    in_value: int
    at_a_time: int
    products: int

    @classmethod
    def of(cls, frames: FrameConfig, weights: int) -> Limits:
        """The limits of a network of so many weights."""
        pixels = frames.steps * frames.height * frames.width
        numbers = POLARITIES * pixels
        return cls(
            IN_VALUE + IN_VALUE_PER_NUMBER * numbers,
            AT_A_TIME + AT_A_TIME_PER_NUMBER * numbers,
            PRODUCTS + PRODUCTS_PER_WEIGHT * weights * pixels,
        )
