"""What recordings that do not train say of a classifier: its temperature, and how sure its right answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from neuromoco.confidence import (
    DIGITS,
    LARGEST_TEMPERATURE,
    LEAST_TEMPERATURE,
    MOST_KEPT,
    Calibration,
    softmax,
)
from neuromoco.datasets.splits import FEWEST_TO_CHOOSE

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature with the least cross-entropy on S recordings (Guo et al. 2017, arXiv 1706.04599).

    The targets are not 1 and 0, but those that S right answers support: (S + 1) / (S + 2) for the true class (Platt
    1999), the rest for the likeliest other one. With 1 and 0, S right answers would be taken for certainty.

    Args:
        logits: means over time [S, classes].
        labels: true classes [S].
    """
    rows, share = np.arange(len(labels)), 1.0 / (len(labels) + 2)
    others = logits.astype(np.float64)
    others[rows, labels] = -np.inf
    wanted = (1.0 - share) * logits[rows, labels].astype(np.float64) + share * others.max(1)
    largest = logits.max(1).astype(np.float64)

    def loss(log: float) -> float:
        scale = np.exp(-log)
        sums = np.exp(scale * (logits - largest[:, None])).sum(1)
        return float((np.log(sums) + scale * (largest - wanted)).mean())

    ends = np.log(LEAST_TEMPERATURE), np.log(LARGEST_TEMPERATURE)
    best = float(np.exp(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-8}).x))
    return min(max(best, LEAST_TEMPERATURE), LARGEST_TEMPERATURE)


def calibrate(
    logits: Floats,
    labels: Labels,
    seed: int,
    source: Literal["validation", "folds"] = "validation",
    groups: Sequence[str] = (),
) -> Calibration:
    """The calibration of a network by logits [S, classes] of recordings of classes [S] that did not train it.

    Args:
        logits: means over time.
        labels: true classes.
        seed: of the choice of recordings to keep, if there are many.
        source: "validation": the network's own logits. "folds": those of networks like it, each trained without the
            recordings that it gives; these tell a temperature, and no more.
        groups: S names of what belongs together, such as parts of one recording. One of each is kept, drawn at random,
            since thresholds rest on recordings that are independent. By default each recording is its own.
    """
    size = len(labels)
    if size < FEWEST_TO_CHOOSE:
        return Calibration(recordings=size)
    temperature = fit_temperature(logits, labels)
    if source == "folds":
        return Calibration(temperature=temperature, source=source, recordings=size)
    order = np.random.default_rng(seed).permutation(size)
    first = np.unique(np.asarray(groups)[order], return_index=True)[1] if groups else np.arange(size)
    kept = np.sort(order[np.sort(first)[:MOST_KEPT]])
    shares = softmax(logits[kept], temperature)
    true = np.round(shares[np.arange(len(kept)), labels[kept]], DIGITS)
    confidence, right = np.round(shares.max(1), DIGITS), shares.argmax(1) == labels[kept]
    wrong = sorted(zip(confidence[~right].tolist(), true[~right].tolist(), strict=True))
    return Calibration(
        temperature=temperature,
        source="validation",
        recordings=size,
        right=tuple(sorted(confidence[right].tolist())),
        wrong=tuple(wrong),
    )
