"""Judging a coarser copy of a network: on which recordings, and how much worse it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuromoco.datasets import list_recordings
from neuromoco.errors import ConfigError

LEAST = 4  # recordings, half of which calibrate
MOST = 200  # recordings of either half
LARGEST_LOSS = 0.02  # of accuracy, where classes are known
LEAST_AGREEMENT = 0.95  # share of recordings with the same answer


class Samples(NamedTuple):
    """Recordings with the class of each as an index, or None where it is not known."""

    paths: list[Path]
    labels: list[int | None]


def split_samples(folder: Path, class_names: Sequence[str]) -> tuple[Samples, Samples]:
    """Recordings to calibrate on and others to judge by, of a flat folder or one of class folders.

    Raises:
        ConfigError: no such folder, or too few recordings in it.
    """
    listing = list_recordings(folder, labelled=False)
    if len(listing) < LEAST:
        raise ConfigError(
            f"{folder}: {len(listing)} recordings; 8 bits need at least {LEAST}, half of them to calibrate"
        )
    known = bool(listing.labels) and set(listing.class_names) <= set(class_names)
    labels = [
        class_names.index(listing.class_names[i]) if known else None for i in listing.labels or [0] * len(listing)
    ]
    halves = []
    for first in (0, 1):
        indices = np.arange(first, len(listing), 2)
        chosen = indices[np.unique(np.linspace(0, len(indices) - 1, min(MOST, len(indices))).round().astype(int))]
        halves.append(Samples([listing.paths[i] for i in chosen], [labels[i] for i in chosen]))
    return halves[0], halves[1]


def accuracy(answers: Sequence[int], labels: Sequence[int | None]) -> float:
    """Share of right answers."""
    return float(np.mean(np.equal(answers, np.array(labels))))


def loss_problem(figures: Mapping[str, Any], copy: str, advice: str) -> str | None:
    """Why a copy is not good enough, or None.

    Args:
        figures: "accuracy" of "float32" and of the copy (or None), and "agreement" of their answers.
        copy: its name there.
        advice: what to do about it.
    """
    accuracies, agreement = figures["accuracy"], figures["agreement"]
    what = None
    if accuracies is not None and accuracies["float32"] - accuracies[copy] > LARGEST_LOSS:
        fall = f"from {accuracies['float32']:.1%} to {accuracies[copy]:.1%}"
        what = f"accuracy falls {fall}; {LARGEST_LOSS:.0%} are allowed"
    elif agreement < LEAST_AGREEMENT:
        what = f"answers agree with float32 on {agreement:.1%}; at least {LEAST_AGREEMENT:.0%} must"
    return what and f"{copy}: {what}; {advice}"
