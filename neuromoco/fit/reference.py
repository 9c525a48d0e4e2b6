"""What the training recordings of a network are like: where their figures lie, kept in its file.

There is one description of whole recordings, and one for windows of each of some lengths. A description is a few
normal distributions; a recording's distance is the smallest of Mahalanobis's to them, over the square root of the
number of figures. Its score is the distance over a limit, which at most 2 % of the training set's kind exceed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from neuromoco.config.base import Settings
from neuromoco.fit.figures import NAMES, Values, figures
from neuromoco.fit.verdict import Facts, Fit, reasons_of

FALSE_ALARMS = 0.02  # share of recordings of the training set's kind that may be called unlike it
# A whole recording that lasts less than this share of the shortest, or longer than the longest over it, never fits:
# formats without a length field give no other sign of a cut file.
DURATION_SHARE = 0.75
MOST_CLUSTERS, MOST_LENGTHS = 16, 64
# Beyond these, files are damaged: floating-point numbers would overflow.
SMALLEST_LIMIT, LARGEST_LIMIT, LARGEST_FACTOR, LARGEST_SCORE = 1e-6, 1e6, 1e9, 1e6
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Whole = Annotated[int, Field(ge=0, lt=1 << 63)]


@dataclass(frozen=True, eq=False)
class Normals:
    """Normal distributions of F figures.

    Attributes:
        means, deviations: [K, F].
        factors: [F, K * F]; the product of a difference from a mean and its columns is as long as Mahalanobis's
            distance.
        offsets: products of the means [K * F].
    """

    means: Values
    deviations: Values
    factors: NDArray[np.float64]
    offsets: Values

    @classmethod
    def of(cls, means: Values, covariances: NDArray[np.float64]) -> Normals:
        """Those of covariances [K, F, F]; LinAlgError if one is no covariance."""
        factors = np.linalg.inv(np.linalg.cholesky(covariances)) / np.sqrt(means.shape[1])
        offsets = (factors @ means[..., None]).ravel()
        columns = np.ascontiguousarray(factors.reshape(offsets.size, -1).T)
        return cls(means, np.sqrt(np.diagonal(covariances, axis1=1, axis2=2)), columns, offsets)

    def distances(self, values: Values) -> NDArray[np.float64]:
        """Of figures [N, F] from each: [N, K]."""
        scaled = (values @ self.factors - self.offsets).reshape(len(values), *self.means.shape)  # [N, K, F]
        distances: NDArray[np.float64] = np.sqrt((scaled * scaled).sum(2))
        return distances


class Nearest(NamedTuple):
    """How far figures are from the nearest cluster, and its number."""

    score: float
    cluster: int


class Cluster(Settings):
    """A normal distribution of figures.

    Attributes:
        mean: F numbers, in the order of `neuromoco.fit.figures.NAMES`; windows have all but the last.
        covariance: its lower triangle, row by row.
    """

    mean: tuple[Number, ...]
    covariance: tuple[Number, ...]


class Scale(Settings):
    """Figures of recordings, or of windows, of one length.

    Attributes:
        duration_us: the median length, microseconds.
        clusters: where their figures lie.
        limit: the largest distance that fits.
    """

    duration_us: Annotated[int, Field(ge=1, lt=1 << 63)]
    clusters: tuple[Cluster, ...] = Field(min_length=1, max_length=MOST_CLUSTERS)
    limit: Annotated[float, Field(ge=SMALLEST_LIMIT, le=LARGEST_LIMIT)]

    @model_validator(mode="after")
    def _check(self) -> Scale:
        for cluster in self.clusters:
            size = len(cluster.mean)
            if size not in (len(NAMES), len(NAMES) - 1) or size != len(self.clusters[0].mean):
                raise ValueError(f"{size} figures; this version computes {len(NAMES)}")
            if len(cluster.covariance) != size * (size + 1) // 2:
                raise ValueError("a covariance of another size than the mean")
        try:
            usable = bool((np.abs(self.normals.factors) <= LARGEST_FACTOR).all())  # not, if one is no number
        except np.linalg.LinAlgError:
            usable = False
        if not usable:
            raise ValueError("a covariance that is none")
        return self

    @cached_property
    def normals(self) -> Normals:
        """The clusters as arrays."""
        means = np.array([cluster.mean for cluster in self.clusters])
        size = means.shape[1]
        lower = np.zeros((len(means), size, size))
        lower[:, *np.tril_indices(size)] = [cluster.covariance for cluster in self.clusters]
        return Normals.of(means, lower + np.tril(lower, -1).swapaxes(1, 2))

    def nearest(self, values: Values) -> Nearest:
        """The cluster that figures [F] are nearest to."""
        normals = self.normals
        scaled = (values @ normals.factors - normals.offsets).reshape(normals.means.shape)  # [K, F]
        squares: list[float] = np.add.reduce(scaled * scaled, 1).tolist()
        least = min(squares)
        return Nearest(math.sqrt(least) / self.limit, squares.index(least))


class FitReference(Settings):
    """What the training recordings are like.

    Attributes:
        figures: version of the figures.
        count: recordings that it was computed from.
        shortest_us, longest_us: of the training recordings, microseconds.
        sensor: rows and columns of most of them.
        whole: of whole recordings.
        windows: of windows, the longest first.
    """

    figures: Literal[1] = 1
    count: Whole
    shortest_us: Whole
    longest_us: Whole
    sensor: tuple[Whole, Whole]
    whole: Scale
    windows: tuple[Scale, ...] = Field(min_length=1, max_length=MOST_LENGTHS)

    @model_validator(mode="after")
    def _check(self) -> FitReference:
        sizes = [scale.normals.means.shape[1] for scale in (self.whole, *self.windows)]
        if sizes != [len(NAMES), *[len(NAMES) - 1] * len(self.windows)]:
            raise ValueError("windows with a duration, or whole recordings without")
        if any(one.duration_us <= other.duration_us for one, other in pairwise(self.windows)):
            raise ValueError("windows that do not become shorter")
        return self

    def judge(self, frames: NDArray[Any], duration_us: int, sensor: tuple[int, int], *, window: bool = False) -> Fit:
        """Whether a recording fits.

        Args:
            frames: its frames [T, P, H, W].
            duration_us: from its first event to its last, microseconds.
            sensor: rows and columns of its sensor.
            window: whether it is a window of a longer recording, whose duration says nothing.
        """
        values = figures(frames, duration_us, sensor)
        if window:
            values = values[:-1]
            found = [(scale.nearest(values), scale) for scale in self._of_length(duration_us)]
            (score, cluster), scale = min(found, key=lambda one: one[0].score)
        else:
            scale = self.whole
            score, cluster = scale.nearest(values)
            if (of_duration := self._of_duration(duration_us)) > 1.0:  # below, it says less than the nearest cluster
                score = max(score, of_duration)
        score = min(score, LARGEST_SCORE)
        if score <= 1.0:
            return Fit(True, score)
        facts = Facts(duration_us, self.shortest_us, self.longest_us, sensor, self.sensor)
        means, deviations = scale.normals.means[cluster], scale.normals.deviations[cluster]
        return Fit(False, score, reasons_of(values - means, deviations, facts))

    def _of_length(self, duration_us: int) -> tuple[Scale, ...]:
        """The descriptions of windows as long, or of the next longer and shorter ones."""
        after = next((i for i, s in enumerate(self.windows) if s.duration_us <= duration_us), len(self.windows))
        return self.windows[max(0, after - 1) : after + 1]

    def _of_duration(self, duration_us: int) -> float:
        """At most 1 for durations from 3/4 of the shortest to 4/3 of the longest training recording."""
        short = DURATION_SHARE * self.shortest_us / max(1, duration_us)
        return max(short, DURATION_SHARE * duration_us / max(1, self.longest_us))
