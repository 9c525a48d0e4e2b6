"""Sizes of data sets; those of named sets are known even if the set is missing."""

from __future__ import annotations

from collections import Counter

from neuromoco.config import RecordingsConfig
from neuromoco.datasets.class_sets import N_MNIST
from neuromoco.datasets.fixed_splits import Counts, fixed_split
from neuromoco.datasets.gesture import AUTHORS, GESTURES
from neuromoco.datasets.named import DIGITS, NAMES, list_data

# Scikit-learn's 1,797 digits, four fifths of each class for training.
DIGITS_SIZE = Counts(1438, 359)


def training_sizes(data: str | tuple[str, ...], recordings: RecordingsConfig | None = None) -> tuple[list[int], bool]:
    """Sizes of the classes of a training part (a published total is divided evenly), and whether they are of classes.

    A flat folder is one size, and so is each of several sets.
    """
    if isinstance(data, tuple):
        return [sum(training_sizes(name, recordings)[0]) for name in data], False
    totals = {DIGITS: (DIGITS_SIZE, 10), "n-mnist": (N_MNIST, 10), "dvs128-gesture": (AUTHORS, len(GESTURES))}
    if data in totals:
        counts, classes = totals[data]
        return [counts.train // classes + (label < counts.train % classes) for label in range(classes)], True
    if data in NAMES:
        return [counts.train for counts in fixed_split(data).values()], True
    listing = list_data(data, "train", labelled=False, recordings=recordings)
    return (list(Counter(listing.labels).values()), True) if listing.labels else ([len(listing)], False)
