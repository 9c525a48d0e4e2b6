"""Splits by group: whatever the labels, groups, seeds and numbers, no group is on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from neuromoco.config import RunConfig, with_values
from neuromoco.datasets import Listing, Split
from neuromoco.datasets.splits import FEWEST_TO_CHOOSE, hold_out
from neuromoco.errors import ConfigError
from neuromoco.train.run_split import labelled_split


def listing_of(labels: Sequence[int], groups: Sequence[int]) -> Listing:
    names = tuple(f"{number:04d}.bin" for number in range(len(labels)))
    classes = tuple("abcdef"[: max(labels) + 1])
    return Listing(Path("set"), names, tuple(labels), classes, groups=tuple(f"subject {group}" for group in groups))


@st.composite
def grouped(draw: st.DrawFn) -> Listing:
    """Recordings of many groups, of which some show one class only and some are large."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    classes, count = draw(st.integers(2, 5)), draw(st.integers(8, 30))
    size = draw(st.integers(80, 400))
    groups = rng.integers(0, count, size) if draw(st.booleans()) else (count * rng.random(size) ** 2).astype(int)
    labels = groups % classes if draw(st.integers(0, 3)) == 0 else rng.integers(0, classes, size)
    labels[:classes] = range(classes)
    return listing_of(labels.tolist(), groups.tolist())


def groups_in(listing: Listing, rows: Sequence[int]) -> set[str]:
    return {listing.groups[row] for row in rows}


def counts(listing: Listing, rows: Sequence[int]) -> list[int]:
    return np.bincount([listing.labels[row] for row in rows], minlength=len(listing.class_names)).tolist()


def split_of(listing: Listing, seed: int, labels_per_class: int | None, fraction: float, folds: int = 0) -> Split:
    changes = {
        "stage": "supervised",
        "seed": seed,
        "supervised.validation": fraction,
        "supervised.labels_per_class": labels_per_class,
        "held_out": {"folds": folds, "fold": seed % folds} if folds else None,
    }
    config = with_values(RunConfig(), changes)
    return labelled_split(listing, config, config.supervised)


@settings(max_examples=150, deadline=None)
@given(
    grouped(),
    st.integers(0, 99),
    st.none() | st.integers(5, 60),
    st.sampled_from([0.2, 0.3, 0.5]),
    st.sampled_from([0, 2, 3, 5]),
)
def test_no_group_trains_and_validates_or_is_held_out_too(
    listing: Listing, seed: int, labels_per_class: int | None, fraction: float, folds: int
) -> None:
    try:
        held = hold_out(listing, folds, seed % folds) if folds else Split(tuple(range(len(listing))), ())
        split = split_of(listing, seed, labels_per_class, fraction, folds)
    except ConfigError:
        event("refused")
        return
    event(f"validates: {bool(split.validation)}")
    parts = [groups_in(listing, rows) for rows in (split.train, split.validation, held.validation)]
    for number, part in enumerate(parts):
        assert not any(part & other for other in parts[:number])
    assert not set(split.train) & set(split.validation)
    used = counts(listing, [*split.train, *split.validation])
    available = counts(listing, held.train)
    assert used == [min(count, labels_per_class or count) for count in available]  # validation is in the budget
    if folds:
        assert all(counts(listing, held.validation))
    if split.validation:
        assert all(counts(listing, split.train))
        assert all(counts(listing, split.validation))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels_per_class", [None, 60])
def test_many_groups_are_divided_about_as_asked(seed: int, labels_per_class: int | None) -> None:
    """So that the test above is about groups on both sides, not about splits without validation."""
    rng = np.random.default_rng(seed)
    listing = listing_of(rng.integers(0, 3, 600).tolist(), rng.integers(0, 40, 600).tolist())
    split = split_of(listing, seed, labels_per_class, 0.25, folds=4)
    assert len(groups_in(listing, split.train)) >= 15
    assert len(groups_in(listing, split.validation)) >= 5
    assert len(split.validation) >= FEWEST_TO_CHOOSE
    assert 0.15 <= len(split.validation) / (len(split.train) + len(split.validation)) <= 0.4
    folds = [set(hold_out(listing, 4, fold).validation) for fold in range(4)]
    assert sorted(row for fold in folds for row in fold) == list(range(600))
    assert all(len(groups_in(listing, sorted(fold))) >= 5 for fold in folds)
