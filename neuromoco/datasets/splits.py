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
    """Draws validation and training recordings from each class.

    Args:
        labels: S class indices.
        validation: fraction of each class to validate on, rounded to the nearest count, at least one if above 0.
        labels_per_class: number of training recordings of each class; None uses all others.
        seed: of the choice.
        class_names: for messages.

    Raises:
        ConfigError: a class with too few recordings.
    """
    train: list[int] = []
    held_out: list[int] = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero(np.asarray(labels) == label)
        order = np.random.default_rng([seed, label]).permutation(members).tolist()
        held = _held_out(len(order), validation)
        count = labels_per_class or len(order) - held
        if len(order) - held < max(1, count):
            raise ConfigError(
                f"class {name} has {len(order)} recordings, {held} of them for validation, and training needs "
                f"{max(1, count)}: set fewer --labels-per-class or less validation"
            )
        held_out += order[:held]
        train += order[held : held + count]
    return Split(tuple(sorted(train)), tuple(sorted(held_out)))


def budget_split(
    labels: Sequence[int], validation: float, labels_per_class: int | None, seed: int, class_names: Sequence[str]
) -> Split:
    """Draws the labelled recordings of each class, and divides these into training and validation recordings.

    Args:
        labels: S class indices.
        validation: fraction of the labelled recordings of each class to choose an epoch on. Fewer than
            `FEWEST_TO_CHOOSE` in all cannot choose: then they train, too.
        labels_per_class: labelled recordings of each class, those to validate on included; None takes all.
        seed: of the choice.
        class_names: for messages.

    Raises:
        ConfigError: a class with too few recordings.
    """
    labelled = split_by_class(labels, 0.0, labels_per_class, seed, class_names).train
    kept = [labels[i] for i in labelled]
    counts = divide_classes(np.bincount(kept).tolist(), validation, None)
    chosen = validation if any(held for _, held in counts) else 0.0
    split = split_by_class(kept, chosen, None, seed, class_names)
    return Split(*(tuple(labelled[i] for i in part) for part in (split.train, split.validation)))


def divide_classes(sizes: Sequence[int], validation: float, labels_per_class: int | None) -> list[tuple[int, int]]:
    """The numbers of training and validation recordings that `budget_split` draws from classes of these sizes."""
    labelled = [min(size, labels_per_class or size) for size in sizes]
    held = [_held_out(count, validation) for count in labelled]
    if sum(held) < FEWEST_TO_CHOOSE:
        held = [0] * len(held)
    return [(count - part, part) for count, part in zip(labelled, held, strict=True)]


def _held_out(size: int, validation: float) -> int:
    return max(1, round(validation * size)) if validation else 0


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
