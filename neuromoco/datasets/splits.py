"""Splits of recordings, determined by names, labels and a seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromoco.datasets.folders import Listing
from neuromoco.errors import ConfigError

# Of 30 recordings, a 95 % interval around 80 % is 28 points wide: with fewer, the best of many epochs is chance.
FEWEST_TO_CHOOSE = 30


@dataclass(frozen=True)
class Split:
    """Disjoint, sorted indices into a listing."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


def split_by_class(
    labels: Sequence[int], validation: float, labels_per_class: int | None, seed: int, class_names: Sequence[str]
) -> Split:
    """Draws the labelled recordings of each class, and divides them into training and validation recordings.

    Fewer than `FEWEST_TO_CHOOSE` validation recordings cannot tell one epoch from another: then all of them train.

    Args:
        labels: S class indices.
        validation: fraction of each class's labelled recordings to validate on, rounded to the nearest count.
        labels_per_class: labelled recordings of each class, those to validate on included; None takes all.
        seed: of the choice.
        class_names: for messages.

    Raises:
        ConfigError: a class with too few recordings.
    """
    members = [np.flatnonzero(np.asarray(labels) == label) for label in range(len(class_names))]
    for indices, name in zip(members, class_names, strict=True):
        if len(indices) < (labels_per_class or 1):
            asked = labels_per_class or 1
            raise ConfigError(f"class {name} has {len(indices)} recordings, not {asked}: set fewer --labels-per-class")
    train, held_out = set[int](), set[int]()
    counts = divide_classes([len(indices) for indices in members], validation, labels_per_class)
    for label, (indices, (trained, held)) in enumerate(zip(members, counts, strict=True)):
        if not trained:
            raise ConfigError(f"validation {validation} leaves class {class_names[label]} no training recordings")
        order = np.random.default_rng([seed, label]).permutation(indices).tolist()
        held_out |= set(order[:held])
        train |= set(order[held : held + trained])
    return Split(tuple(sorted(train)), tuple(sorted(held_out)))


def divide_classes(sizes: Sequence[int], validation: float, labels_per_class: int | None) -> list[tuple[int, int]]:
    """The number of training and of validation recordings of each class, for classes of these sizes."""
    labelled = [min(size, labels_per_class or size) for size in sizes]
    held = [round(validation * count) for count in labelled]
    if sum(held) < FEWEST_TO_CHOOSE:
        held = [0] * len(held)
    return [(count - part, part) for count, part in zip(labelled, held, strict=True)]


def hold_out(listing: Listing, folds: int, fold: int) -> Split:
    """Holds out one fold of each class, which does not depend on the seed and which no stage sees.

    A class's recordings, sorted by name, are permuted by `default_rng([0, label])`; position i is in fold i % folds.

    Returns:
        The other folds as `train`, this one as `validation`.

    Raises:
        ConfigError: recordings without classes, or a class with fewer recordings than folds.
    """
    if not listing.labels:
        raise ConfigError(f"{listing.root}: holds no class folders; folds need classes")
    names, held_out = listing.names, set[int]()
    for label, name in enumerate(listing.class_names):
        members = sorted(np.flatnonzero(np.asarray(listing.labels) == label).tolist(), key=lambda i: names[i])
        if len(members) < folds:
            raise ConfigError(f"class {name} has {len(members)} recordings for {folds} folds: set fewer")
        held_out |= set(np.random.default_rng([0, label]).permutation(members)[fold::folds].tolist())
    return Split(tuple(i for i in range(len(listing)) if i not in held_out), tuple(sorted(held_out)))


def describe_split(listing: Listing, split: Split, seed: int, keys: NDArray[np.uint64]) -> dict[str, object]:
    """The content of `split.json`: names of recordings, and hashes of names and of content to compare runs by.

    `keys`, uint64 [S, 2], are those of the recordings' content.
    """
    train, validation = ([listing.names[i] for i in indices] for indices in (split.train, split.validation))
    digest = hashlib.sha256("\n".join([*train, "--", *validation]).encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "data": str(listing.root),
        "seed": seed,
        "sha256": digest,
        "content_sha256": hashlib.sha256(keys[[*split.train, *split.validation]].tobytes()).hexdigest(),
        "classes": list(listing.class_names),
        "train": train,
        "validation": validation,
    }
