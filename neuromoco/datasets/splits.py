"""Splits of recordings, determined by names, labels and a seed alone."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromoco.datasets.folders import Listing
from neuromoco.errors import ConfigError
from neuromoco.support.console import console

# Of 30 recordings, a 95 % interval around 80 % is 28 points wide: with fewer, the best of many epochs is chance.
FEWEST_TO_CHOOSE = 30
COMPARED_FOLDS = 3  # in which stage "all" compares where none validate


class NoSplitError(ConfigError):
    """Recordings that cannot be divided as asked."""


@dataclass(frozen=True)
class Split:
    """Disjoint, sorted indices into a listing."""

    train: tuple[int, ...]
    validation: tuple[int, ...]


def split_by_class(
    labels: Sequence[int],
    validation: float,
    labels_per_class: int | None,
    seed: int,
    class_names: Sequence[str],
    groups: Sequence[str] = (),
) -> Split:
    """Draws validation and training recordings from each class; those of one group stay together.

    Args:
        labels: S class indices.
        validation: fraction of each class to validate on, rounded to the nearest count, at least one if above 0.
        labels_per_class: number of training recordings of each class; None uses all others.
        seed: of the choice.
        class_names: for messages.
        groups: S names of what must not be on both sides; by default each recording is its own.

    Raises:
        ConfigError: a class with too few recordings, or too few groups.
    """
    orders = [
        np.random.default_rng([seed, label]).permutation(np.flatnonzero(np.asarray(labels) == label)).tolist()
        for label in range(len(class_names))
    ]
    wanted = [_held_out(len(order), validation) for order in orders]
    held_out = _whole_groups(orders, wanted, groups or list(map(str, range(len(labels)))))
    train: list[int] = []
    for order, want, name in zip(orders, wanted, class_names, strict=True):
        left = [row for row in order if row not in held_out]
        held, count = len(order) - len(left), labels_per_class or max(1, len(order) - want)
        if want and not held:
            raise NoSplitError(f"class {name}: its {len(order)} recordings cannot be divided, since they share groups")
        if len(left) < (count if labels_per_class else 1):
            raise NoSplitError(
                f"class {name} has {len(order)} recordings, {held} of them for validation, and training needs "
                f"{count if labels_per_class else 1}: set fewer --labels-per-class or less validation"
            )
        train += left[:labels_per_class]
    return Split(tuple(sorted(train)), tuple(sorted(held_out)))


def _whole_groups(orders: Sequence[Sequence[int]], wanted: Sequence[int], groups: Sequence[str]) -> set[int]:
    """Recordings of whole groups, about as many of each class as wanted, in the order of the classes' members."""
    members: dict[str, list[int]] = {}
    label_of = {row: label for label, order in enumerate(orders) for row in order}
    for row in itertools.chain.from_iterable(orders):
        members.setdefault(groups[row], []).append(row)
    held, missing = set[int](), list(wanted)
    for rows in members.values():
        counts = Counter(label_of[row] for row in rows)
        gain = sum(abs(missing[label]) - abs(missing[label] - count) for label, count in counts.items())
        if gain > 0:
            held.update(rows)
            for label, count in counts.items():
                missing[label] -= count
    return held


def budget_split(
    labels: Sequence[int],
    validation: float,
    labels_per_class: int | None,
    seed: int,
    class_names: Sequence[str],
    groups: Sequence[str] = (),
) -> Split:
    """Draws the labelled recordings of each class, and divides these into training and validation recordings.

    Args:
        labels: S class indices.
        validation: fraction of the labelled recordings of each class to choose an epoch on. Fewer than
            `FEWEST_TO_CHOOSE` in all cannot choose: then they train, too.
        labels_per_class: labelled recordings of each class, those to validate on included; None takes all.
        seed: of the choice.
        class_names: for messages.
        groups: S names of what must not be on both sides; where they leave no way to divide each class, none validate.

    Raises:
        ConfigError: a class with too few recordings.
    """
    labelled = split_by_class(labels, 0.0, labels_per_class, seed, class_names).train
    kept = [labels[i] for i in labelled]
    counts = divide_classes(np.bincount(kept).tolist(), validation, None)
    chosen = validation if any(held for _, held in counts) else 0.0
    kept_groups = [groups[i] for i in labelled] if groups else []
    try:
        split = split_by_class(kept, chosen, None, seed, class_names, kept_groups)
    except NoSplitError as error:
        if len(set(kept_groups)) == len(kept_groups):
            raise
        console.print(f"no validation: {error}", soft_wrap=True, markup=False)
        split = split_by_class(kept, 0.0, None, seed, class_names)
    return Split(*(tuple(labelled[i] for i in part) for part in (split.train, split.validation)))


def divide_classes(sizes: Sequence[int], validation: float, labels_per_class: int | None) -> list[tuple[int, int]]:
    """The numbers of training and validation recordings that `budget_split` draws from classes of these sizes."""
    labelled = [min(size, labels_per_class or size) for size in sizes]
    held = [_held_out(count, validation) for count in labelled]
    if sum(held) < FEWEST_TO_CHOOSE:
        held = [0] * len(held)
    return [(count - part, part) for count, part in zip(labelled, held, strict=True)]


def folds_to_compare(parts: Sequence[tuple[int, int]], most: int = COMPARED_FOLDS) -> int:
    """Folds in which to compare, given numbers of `divide_classes`; 0 where others validate, or a class has one."""
    folds = min(most, *(train for train, _ in parts))
    return 0 if folds < 2 or any(held for _, held in parts) else folds


def _held_out(size: int, validation: float) -> int:
    return max(1, round(validation * size)) if validation else 0


def hold_out(listing: Listing, folds: int, fold: int) -> Split:
    """Holds out one fold of each class, which does not depend on the seed and which no stage sees.

    A class's recordings, sorted by name, are permuted by `default_rng([0, label])`; position i is in fold i % folds.
    A group, such as the parts of one recording, is in one fold: its position is that of its first recording.

    Returns:
        The other folds as `train`, this one as `validation`.

    Raises:
        ConfigError: recordings without classes, or a class with fewer recordings than folds.
    """
    if not listing.labels:
        raise ConfigError(f"{listing.root}: holds no class folders; folds need classes")
    names, groups, labels = listing.names, listing.group_of, np.asarray(listing.labels)
    fold_of: dict[str, int] = {}
    for label, name in enumerate(listing.class_names):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=lambda i: names[i])
        if len({groups[i] for i in members}) < folds:
            what = "recordings" if not listing.spans else f"parts of {len({groups[i] for i in members})} groups"
            raise ConfigError(f"class {name} has {len(members)} {what} for {folds} folds: set fewer")
        order = np.random.default_rng([0, label]).permutation(members).tolist()
        new = [group for group in dict.fromkeys(groups[i] for i in order) if group not in fold_of]
        fold_of |= {group: number % folds for number, group in enumerate(new)}
    held_out = [i for i in range(len(listing)) if fold_of[groups[i]] == fold]
    for label, name in enumerate(listing.class_names):
        if not 0 < np.count_nonzero(labels[held_out] == label) < np.count_nonzero(labels == label):
            raise ConfigError(f"class {name} is on one side only of fold {fold} of {folds}, by its groups: set fewer")
    held = set(held_out)
    return Split(tuple(i for i in range(len(listing)) if i not in held), tuple(held_out))


def describe_split(listing: Listing, split: Split, seed: int, keys: NDArray[np.uint64]) -> dict[str, object]:
    """The content of `split.json`: names of recordings, and hashes of names and of content to compare runs by.

    `keys`, uint64 [S, 2], are those of the recordings' content.
    """
    train, validation = ([listing.names[i] for i in indices] for indices in (split.train, split.validation))
    digest = hashlib.sha256("\n".join([*train, "--", *validation]).encode("utf-8", "surrogateescape")).hexdigest()
    everything = hashlib.sha256("\n".join(listing.names).encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "data": str(listing.root),
        "seed": seed,
        "sha256": digest,
        "content_sha256": hashlib.sha256(keys[[*split.train, *split.validation]].tobytes()).hexdigest(),
        "recordings_sha256": everything,
        "classes": list(listing.class_names),
        "train": train,
        "validation": validation,
    }
