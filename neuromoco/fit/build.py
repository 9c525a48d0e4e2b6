"""The reference of a set of recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.events import Recording
from neuromoco.fit.figures import FLOORS, Values, figures
from neuromoco.fit.reference import FALSE_ALARMS, LARGEST_LIMIT, Cluster, FitReference, Normals, Scale
from neuromoco.frames import recording_frames

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

LEAST = 10  # recordings; fewer have no reference
CERTAINTY = 0.9  # that no more than `FALSE_ALARMS` exceed a limit that was found on so few recordings
FOLDS = 5
LEAST_LIMIT = 1.0  # the usual distance, which recordings that are all alike do not have
CLUSTERS, LEAST_IN_CLUSTER = 3, 25  # groups of similar recordings; fewer where there are few
AS_MUCH = 40  # recordings in a group whose own covariance counts as much as that of all
LENGTHS = 6  # of windows, halved each time: 1 to 1 / 32 of the median recording
SHORTEST_US, FEWEST_EVENTS = 5_000, 20  # of windows that are described
WINDOWS = 2  # of each length from a recording
GOLDEN = 0.618034  # its multiples are spread evenly modulo 1


@dataclass
class Group:
    """Figures of recordings or windows of one length, and the number of the recording that each is of."""

    values: list[Values] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)

    def add(self, recording: Recording, frames: FrameConfig, member: int) -> None:
        """Adds a recording or a window."""
        sensor = recording.height, recording.width
        self.values.append(figures(recording_frames(recording, frames), recording.duration, sensor))
        self.durations.append(recording.duration)
        self.members.append(member)

    def scale(self, floors: Values, groups: Sequence[Hashable]) -> Scale:
        """Their description, of as many figures as there are floors; the recordings belong to these groups."""
        values = np.stack(self.values)[:, : floors.size]
        names = [groups[member] for member in self.members]
        members = names if len(set(names)) >= FOLDS else self.members
        limit = distance_limit(values, members, floors)
        triangle = np.tril_indices(floors.size)
        return Scale(
            duration_us=max(1, int(np.median(self.durations))),
            clusters=tuple(
                Cluster(mean=_rounded(mean), covariance=_rounded(covariance[triangle]))
                for mean, covariance in zip(*clusters(values, floors), strict=True)
            ),
            limit=_rounded(np.array([limit]))[0],
        )


def fit_reference(
    recordings: Iterable[Recording],
    durations_us: Sequence[int],
    frames: FrameConfig,
    groups: Sequence[Hashable] | None = None,
) -> FitReference | None:
    """Describes S recordings, which are read one by one; None for fewer than 10.

    Args:
        recordings: S recordings.
        durations_us: of all that the network was trained on, which may be more.
        frames: how frames are made of them.
        groups: S names of what they belong to, such as a subject or a file that they are parts of: the limits are for
            recordings of other groups. Of fewer than 5 groups too little is known for that, and the limits are for
            other recordings of the same groups.
    """
    middle = max(1, int(np.median(durations_us)))
    lengths = [round(middle / 2**i) for i in range(LENGTHS)]
    whole, first, *others = [Group() for _ in range(LENGTHS + 1)]
    sensors: Counter[tuple[int, int]] = Counter()
    for member, recording in enumerate(recordings):
        sensors[recording.height, recording.width] += 1
        whole.add(recording, frames, member)
        for window in _windows(recording, middle, member):
            first.add(window if len(window) else recording, frames, member)
        for group, length in zip(others, lengths[1:], strict=True):
            if length >= SHORTEST_US:
                for window in _windows(recording, length, member):
                    if len(window) >= FEWEST_EVENTS:
                        group.add(window, frames, member)
    if len(whole.values) < LEAST:
        return None
    groups = range(len(whole.values)) if groups is None else groups
    scales = [first.scale(FLOORS[:-1], groups)]
    for group in others:
        if len(set(group.members)) >= LEAST and np.median(group.durations) < scales[-1].duration_us:
            scales.append(group.scale(FLOORS[:-1], groups))
    return FitReference(
        count=len(whole.values),
        shortest_us=min(durations_us),
        longest_us=max(durations_us),
        sensor=sensors.most_common(1)[0][0],
        whole=whole.scale(FLOORS, groups),
        windows=tuple(scales),
    )


def clusters(values: Values, floors: Values) -> tuple[Values, NDArray[np.float64]]:
    """Means [K, F] and covariances [K, F, F] of groups that figures [N, F] fall into.

    Covariances are shrunk (Ledoit and Wolf 2004), those of small groups towards that of all; each figure has at least
    its floor as standard deviation.
    """
    from sklearn.covariance import ledoit_wolf

    deviations = np.sqrt(values.var(0) + floors**2)
    scaled = (values - values.mean(0)) / deviations
    count = min(CLUSTERS, max(1, len(values) // LEAST_IN_CLUSTER))
    groups = _nearest_of(count, scaled) if count > 1 else np.zeros(len(values), np.int64)
    means = np.stack([scaled[groups == group].mean(0) for group in range(count)])
    rest = scaled - means[groups]
    shared = ledoit_wolf(rest, assume_centered=True)[0]
    covariances = []
    for group in range(count):
        own = ledoit_wolf(rest[groups == group], assume_centered=True)[0]
        share = (groups == group).sum() / ((groups == group).sum() + AS_MUCH)
        covariance = shared + share * (own - shared) + np.diag((floors / deviations) ** 2)
        covariances.append(deviations[:, None] * covariance * deviations)
    return values.mean(0) + means * deviations, np.stack(covariances)


def _nearest_of(count: int, values: Values) -> NDArray[np.integer[Any]]:
    """The number of the group, of so many, that each of N figures [N, F] falls into."""
    from sklearn.cluster import KMeans

    with _threads().limit(limits=1):  # the order of sums changes the groups
        groups: NDArray[np.integer[Any]] = KMeans(count, n_init=2, random_state=0).fit_predict(values)
    return groups


@cache
def _threads() -> ThreadpoolController:
    """Sets the number of threads; looking for the libraries that have some takes longer than finding groups."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def distance_limit(values: Values, members: Sequence[Hashable], floors: Values) -> float:
    """The largest distance that fits, for figures [N, F] of these members [N]: recordings, or groups of them.

    It is found on members that are not part of the description, in folds: with a certainty of 90 % at most 2 % of
    others exceed it (the tolerance limit of a normal distribution of logarithms), nor do more than 2 % of these.
    """
    from scipy.stats import nct, norm

    numbers = {member: number for number, member in enumerate(dict.fromkeys(members))}  # without gaps: no fold is all
    folds = np.array([numbers[member] % FOLDS for member in members])
    distances = np.empty(len(values))
    for fold in range(FOLDS):
        held = folds == fold
        distances[held] = Normals.of(*clusters(values[~held], floors)).distances(values[held]).min(1)
    logs, count = np.log(np.maximum(distances, 1e-9)), len(numbers)
    factor = nct.ppf(CERTAINTY, count - 1, np.sqrt(count) * norm.isf(FALSE_ALARMS)) / np.sqrt(count)
    limit = max(np.exp(logs.mean() + factor * logs.std(ddof=1)), np.quantile(distances, 1 - FALSE_ALARMS))
    return float(np.clip(limit, LEAST_LIMIT, LARGEST_LIMIT))


def _windows(recording: Recording, length: int, member: int) -> Iterator[Recording]:
    """At most two windows of a length, at other places in each recording; a shorter recording is one."""
    room = recording.duration - length
    for number in range(WINDOWS if room > 0 else 1):
        begin = int(recording.t[0]) + int(max(0, room) * ((member * GOLDEN + number / WINDOWS) % 1.0))
        part = slice(*np.searchsorted(recording.t, (begin, begin + max(length, 1 - room))))
        yield replace(recording, t=recording.t[part], x=recording.x[part], y=recording.y[part], p=recording.p[part])


def _rounded(values: Values) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)
