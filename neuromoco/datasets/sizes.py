"""How many recordings the sets hold that are known by name, whether they are there or not."""

from __future__ import annotations

from collections import Counter

from neuromoco.datasets.class_sets import N_MNIST
from neuromoco.datasets.fixed_splits import Counts, fixed_split
from neuromoco.datasets.gesture import AUTHORS, GESTURES
from neuromoco.datasets.named import DIGITS, NAMES, list_data

# Scikit-learn's 1,797 digits, four fifths of each class to train on; a test compares.
DIGITS_SIZE = Counts(1438, 359)


def training_sizes(data: str | tuple[str, ...]) -> tuple[list[int], bool]:
    """The size of each class of a set's training part: of a named set as published, of a folder as it is.

    Where only the sum is published, it is divided evenly.

    Returns:
        The sizes, and whether they are of classes: a flat folder is one size, and so is each of several sets.

    Raises:
        ConfigError: no such folder or name.
    """
    if isinstance(data, tuple):
        return [sum(training_sizes(one)[0]) for one in data], False
    if data == DIGITS:
        return _evenly(DIGITS_SIZE.train, 10), True
    if data == "n-mnist":
        return _evenly(N_MNIST.train, 10), True
    if data == "dvs128-gesture":
        return _evenly(AUTHORS.train, len(GESTURES)), True
    if data in NAMES:
        return [counts.train for counts in fixed_split(data).values()], True
    listing = list_data(data, "train", labelled=False)
    return (list(Counter(listing.labels).values()), True) if listing.labels else ([len(listing)], False)


def _evenly(count: int, classes: int) -> list[int]:
    return [count // classes + (label < count % classes) for label in range(classes)]
