"""The verdict on one recording, in figures and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from neuromoco.fit.figures import DURATION, NAMES, Values

UNLIKE = "unlike the training recordings"
NOTABLE = 3.0  # standard deviations from which a figure is a reason
MOST_REASONS = 3
# What a figure above and below its mean is called; {} is the ratio.
WORDS = {
    "rate": ("{} x as many events a second", "{} x the events a second"),
    "on": ("more ON events", "fewer ON events"),
    "row": ("lies lower", "lies higher"),
    "column": ("lies further right", "lies further left"),
    "height": ("{} x as high", "{} x as high"),
    "width": ("{} x as wide", "{} x as wide"),
    "area": ("{} x the area", "{} x the area"),
    "filled": ("events in {} x as many pixels", "events in {} x as many pixels"),
    "together": ("neighbouring pixels more alike", "neighbouring pixels less alike"),
    "mixed": ("more pixels with both polarities", "fewer pixels with both polarities"),
    "change": ("changes more from step to step", "changes less from step to step"),
}
LEAST, LARGEST = 0.001, 1_000_000  # numbers beyond them are called so
OTHER = "no single figure stands out, their combination does"


@dataclass(frozen=True)
class Fit:
    """Whether a recording is of the kind that the network was trained on.

    Attributes:
        fits: whether it is; otherwise the answer means nothing.
        score: how far it is from the nearest group of training recordings: 0 is its mean; above 1 does not fit.
        reasons: in words, the most notable first; none where it fits.
    """

    fits: bool
    score: float
    reasons: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """In words."""
        return "fits" if self.fits else UNLIKE

    def __str__(self) -> str:
        return "; ".join([f"{self.verdict} (score {plain(self.score, 3)}, 1 is the limit)", *self.reasons])

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"fits": self.fits, "verdict": self.verdict, "score": self.score, "reasons": list(self.reasons)}


class Facts(NamedTuple):
    """What a reason names in units: of the recording, and of those of the training. Durations are in microseconds."""

    duration_us: int
    shortest_us: int
    longest_us: int
    sensor: tuple[int, int]  # rows and columns
    usual_sensor: tuple[int, int]


def reasons_of(away: Values, deviations: Values, facts: Facts) -> tuple[str, ...]:
    """Why a recording does not fit: differences [F] of its figures from the usual ones, and their deviations [F]."""
    found: dict[str, float] = {}
    for name, difference, deviation in zip(NAMES, away.tolist(), deviations.tolist(), strict=False):
        size = abs(difference) / deviation
        outside = name == DURATION and not facts.shortest_us <= facts.duration_us <= facts.longest_us
        if size > NOTABLE or outside:
            words = _words(name, difference, facts)
            found[words] = max(found.get(words, 0.0), size)
    order = sorted(found, key=lambda words: -found[words])
    return tuple(order[:MOST_REASONS]) or (OTHER,)


def _words(name: str, difference: float, facts: Facts) -> str:
    if name == DURATION:
        usual = _between(facts.shortest_us, facts.longest_us)
        cut = ", cut short?" if facts.duration_us < facts.shortest_us else ""
        return f"lasts {seconds(facts.duration_us)}; trained on {usual}{cut}"
    if name == "sensor":
        (rows, columns), (height, width) = facts.sensor, facts.usual_sensor
        return f"sensor of {columns} x {rows} pixels; trained on {width} x {height}"
    if name.startswith("motion"):
        return "edges move otherwise"
    return WORDS[name][difference < 0].format(plain(math.exp(min(difference, 50.0)), 2))


def seconds(duration_us: int) -> str:
    """A duration with its unit: 1.5 s, 139 ms, 20 us."""
    for unit, size in (("s", 1_000_000), ("ms", 1_000)):
        if duration_us >= 0.9995 * size:  # with three digits, more than 999 of the smaller unit
            return f"{plain(duration_us / size, 3)} {unit}"
    return f"{duration_us} us"


def plain(value: float, digits: int) -> str:
    """A number of 0 or more with so many significant digits and without an exponent: 0.53, 24, 5,400."""
    if value >= LARGEST:
        return f"more than {LARGEST:,}"
    if value < LEAST:
        return f"less than {LEAST}"
    whole = digits - 1 - math.floor(math.log10(value))
    rounded = round(value, whole)
    return f"{rounded:,.0f}" if rounded >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def _between(shortest_us: int, longest_us: int) -> str:
    low, high = seconds(shortest_us), seconds(longest_us)
    return low if low == high else f"{low} to {high}"
