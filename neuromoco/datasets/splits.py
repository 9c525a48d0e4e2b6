"""Splits that depend on names, labels and a seed, and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuromoco.datasets.folders import Listing
from neuromoco.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Indices into a listing, sorted; no index is in both."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


def split_by_class(
    labels: Sequence[int],
    validation: float,
    labels_per_class: int | None,
    seed: int,
    class_names: Sequence[str],
) -> Split:
    """Keeps a share of every class for validation, and at most so many of the rest for training.

    Args:
        labels: S class indices.
        validation: share of each class, rounded to the nearest count; at least one if above 0.
        labels_per_class: how many of each class to train on; None takes all that are left.
        seed: decides which.
        class_names: for messages.

    Raises:
        ConfigError: a class with too few recordings.
    """
    of = np.asarray(labels)
    train: list[int] = []
    held: list[int] = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero(of == label)
        order = np.random.default_rng([seed, label]).permutation(members)
        keep = max(1, round(validation * len(members))) if validation else 0
        wanted = labels_per_class or len(members) - keep
        if len(members) - keep < max(1, wanted):
            raise ConfigError(
                f"class {name} has {len(members)} recordings, {keep} of them for validation; "
                f"{max(1, wanted)} to train on are asked for: set fewer --labels-per-class or less validation"
            )
        held += order[:keep].tolist()
        train += order[keep : keep + wanted].tolist()
    return Split(tuple(sorted(train)), tuple(sorted(held)))


def hold_out(listing: Listing, folds: int, fold: int) -> Split:
    """Keeps one fold of every class apart, the same one at every seed: no stage sees it.

    A class's recordings, sorted by name, are permuted by `default_rng([0, label])`; the one at position i is of
    fold i % folds.

    Returns:
        Those of the other folds as `train`, those of this one as `validation`.

    Raises:
        ConfigError: recordings without classes, or a class with fewer recordings than folds.
    """
    of = np.asarray(listing.labels)
    if not len(of):
        raise ConfigError(f"{listing.root}: holds no class folders; folds are made class by class")
    held: list[int] = []
    for label, name in enumerate(listing.class_names):
        members = sorted(np.flatnonzero(of == label).tolist(), key=lambda i: listing.names[i])
        if len(members) < folds:
            raise ConfigError(f"class {name} has {len(members)} recordings for {folds} folds: set fewer")
        held += np.random.default_rng([0, label]).permutation(members)[fold::folds].tolist()
    kept = sorted(set(range(len(of))) - set(held))
    return Split(tuple(kept), tuple(sorted(held)))


def describe_split(listing: Listing, split: Split, seed: int) -> dict[str, object]:
    """The split as it is written to `split.json`: file names, and a hash to compare runs by."""
    train = [listing.names[i] for i in split.train]
    held = [listing.names[i] for i in split.validation]
    digest = hashlib.sha256("\n".join([*train, "--", *held]).encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "data": str(listing.root),
        "seed": seed,
        "sha256": digest,
        "classes": list(listing.class_names),
        "train": train,
        "validation": held,
    }
