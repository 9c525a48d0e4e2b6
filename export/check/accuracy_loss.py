"""How much worse a coarser copy of a network may answer, and the recordings that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuromoco.datasets import list_recordings
from neuromoco.errors import ConfigError
from neuromoco.support.sampling import evenly_spaced

LEAST = 4  # recordings, half of which calibrate
MOST = 200  # recordings of either half
LARGEST_LOSS = 0.02  # of accuracy, where classes are known
LEAST_AGREEMENT = 0.95  # share of recordings with the same answer


class Samples(NamedTuple):
    """Recordings, and the index of the class of each, or None where it is unknown."""

    paths: list[Path]
    labels: list[int | None]


def split_samples(folder: Path, class_names: Sequence[str]) -> tuple[Samples, Samples]:
    """Recordings to calibrate on and others to compare on, of a flat folder or one of class folders."""
    listing = list_recordings(folder, labelled=False)
    if len(listing) < LEAST:
        raise ConfigError(
            f"{folder}: {len(listing)} recordings; 8 bits need at least {LEAST}, half of them to calibrate"
        )
    labels: list[int | None] = [None] * len(listing)
    if listing.labels and set(listing.class_names) <= set(class_names):
        labels = [class_names.index(listing.class_names[i]) for i in listing.labels]
    halves = (evenly_spaced(range(first, len(listing), 2), MOST) for first in (0, 1))
    one, other = (Samples([listing.paths[i] for i in half], [labels[i] for i in half]) for half in halves)
    return one, other


def copy_figures(
    answers: Mapping[str, Sequence[int]], labels: Sequence[int | None] | None, advice: str
) -> dict[str, Any]:
    """How often a copy of a network answers as the network does, and whether that is often enough.

    `answers` are class indices of "float32" and of the copy, under its name; there are no accuracies where a label is
    unknown. `advice` says what to do about a copy that is not good enough.
    """
    _, copy = answers
    agreement = float(np.mean(np.equal(answers["float32"], answers[copy])))
    accuracy, problem = None, None
    if labels and None not in labels:
        accuracy = {name: float(np.mean(np.equal(found, np.array(labels)))) for name, found in answers.items()}
    if accuracy and accuracy["float32"] - accuracy[copy] > LARGEST_LOSS:
        change = f"from {accuracy['float32']:.1%} to {accuracy[copy]:.1%}"
        problem = f"accuracy falls {change}; {LARGEST_LOSS:.0%} are allowed"
    elif agreement < LEAST_AGREEMENT:
        problem = f"answers agree with float32 on {agreement:.1%}; at least {LEAST_AGREEMENT:.0%} must"
    return {
        "agreement": agreement,
        "accuracy": accuracy,
        "allowed": {"loss": LARGEST_LOSS, "agreement": LEAST_AGREEMENT},
        "problem": problem and f"{copy}: {problem}; {advice}",
    }
