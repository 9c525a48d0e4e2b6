"""Probes: how much of the classes is in the features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from neuromoco.datasets import FrameStore, Listing, cached_frames, split_by_class
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.evaluation.accuracy import Evaluation, summarize
from neuromoco.evaluation.features import features, load_encoder, state_sha256
from neuromoco.support.device import pick_device

__all__ = ["Kind", "Probe", "knn_accuracy", "knn_labels", "labels_of", "linear_accuracy", "linear_labels", "probe"]

Kind = Literal["knn", "linear"]
Values = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
VALIDATION = 0.2  # share of each class to answer where there are no test recordings
NEIGHBOURS = 20
TEMPERATURE = 0.1  # of a neighbour's vote, as in MoCo's monitor
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the linear probe
FOLDS = 5
MOST_ITERATIONS = 2000


def knn_labels(train_x: Values, train_y: Labels, test_x: Values | None = None) -> Labels:
    """What the nearest recordings say: votes of exp(cosine similarity / 0.1).

    There are 20 neighbours, or fewer where the smallest class is smaller: k stays below its size.

    Args:
        train_x: the bank, [S, D].
        train_y: its classes [S].
        test_x: [R, D]; None asks about the bank itself, each recording without its own vote.

    Returns:
        Classes [R], or [S].
    """
    smallest = int(np.unique(train_y, return_counts=True)[1].min())
    neighbours = max(1, min(NEIGHBOURS, smallest - 1))
    votes = KNeighborsClassifier(neighbours, weights=_votes, algorithm="brute", metric="cosine")
    found: Labels = votes.fit(train_x, train_y).predict(test_x)
    return found


def knn_accuracy(train_x: Values, train_y: Labels, test_x: Values | None = None, test_y: Labels | None = None) -> float:
    """Share of right answers of `knn_labels`; without a test set, of the bank's own, each left out in turn."""
    return float((knn_labels(train_x, train_y, test_x) == (train_y if test_y is None else test_y)).mean())


def linear_labels(train_x: Values, train_y: Labels, test_x: Values, seed: int = 0) -> Labels:
    """What logistic regression on standardised features says.

    Its strength is chosen by cross-validation on the training recordings where every class has two of them; else C = 1.

    Args:
        train_x: [S, D].
        train_y: classes [S].
        test_x: [R, D].
        seed: of the folds.

    Returns:
        Classes [R].
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_ITERATIONS))
    folds = min(FOLDS, int(np.unique(train_y, return_counts=True)[1].min()))
    if folds > 1:
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=splits)
    with threadpool_limits(1):  # a fit is many small products, where threads cost more than they save
        found: Labels = model.fit(train_x, train_y).predict(test_x)
    return found


def linear_accuracy(train_x: Values, train_y: Labels, test_x: Values, test_y: Labels, seed: int = 0) -> float:
    """Share of right answers of `linear_labels`."""
    return float((linear_labels(train_x, train_y, test_x, seed) == test_y).mean())


def _votes(distances: Values) -> Values:
    return np.exp((1.0 - distances) / TEMPERATURE)


@dataclass(frozen=True)
class Probe:
    """What a probe found.

    Attributes:
        kind: "knn" or "linear".
        per_step: whether it saw the time steps side by side, [S, T * D], or their mean, [S, D].
        trained_on: recordings that the probe learned from.
        evaluation: its answers on the others.
        steps: accuracy from each time step alone; empty unless `per_step`.
        encoder_sha256: of the encoder's parameters and buffers, the same before and after.
    """

    kind: Kind
    per_step: bool
    trained_on: int
    evaluation: Evaluation
    steps: tuple[float, ...]
    encoder_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        facts = {
            "kind": self.kind,
            "features": "steps" if self.per_step else "mean",
            "trained_on": self.trained_on,
            **self.evaluation.to_json(),
            "encoder_sha256": self.encoder_sha256,
            "encoder_unchanged": True,
        }
        return facts | ({"accuracy_by_step": list(self.steps)} if self.per_step else {})


def probe(
    model: Path | str,
    train: Listing,
    test: Listing | None = None,
    *,
    kind: Kind,
    per_step: bool = False,
    validation: float = VALIDATION,
    labels_per_class: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Probe:
    """Probes the encoder of a checkpoint, which stays as it is.

    Args:
        model: a pre-trained encoder or a classifier, whose head is left out.
        train: recordings with labels to learn from.
        test: recordings to answer; None keeps a share of each class of `train` for that.
        kind: "knn" or "linear".
        per_step: take the time steps side by side instead of their mean.
        validation: that share, where there is no `test`.
        labels_per_class: learn from so many of each class.
        seed: of the choice of recordings and the probe.
        device: "auto", "cpu" or "cuda".

    Raises:
        CheckpointError: no usable checkpoint.
        ConfigError: a share that is none, fewer than two classes, too few recordings of one, or a test class that is
            not trained on.
        EventFileError: a recording cannot be read.
        NeuromocoError: the encoder changed, which would be a defect.
    """
    names = train.class_names
    _check_probe(train, test, validation)
    place = pick_device(device)
    encoder, header = load_encoder(model, place)
    before = state_sha256(encoder)
    split = split_by_class(train.labels, validation if test is None else 0.0, labels_per_class, seed, names)
    store, labels = cached_frames(train, header.frames), np.array(train.labels)

    def side(rows: Sequence[int], store: FrameStore, labels: Labels) -> tuple[Values, Labels]:
        return features(encoder, store, rows, place, per_step=True), labels[list(rows)]

    train_x, train_y = side(split.train, store, labels)  # [S, T, D], [S]
    if test is None:
        test_x, test_y = side(split.validation, store, labels)
    else:
        test_x, test_y = side(range(len(test)), cached_frames(test, header.frames), labels_of(test, names))
    if state_sha256(encoder) != before:
        raise NeuromocoError(f"{model}: the encoder changed while it was probed; the result says nothing")

    def answers(known: Values, asked: Values) -> Labels:
        return knn_labels(known, train_y, asked) if kind == "knn" else linear_labels(known, train_y, asked, seed)

    each: tuple[float, ...] = ()
    if per_step:
        found = answers(train_x.reshape(len(train_x), -1), test_x.reshape(len(test_x), -1))
        by_step = zip(train_x.swapaxes(0, 1), test_x.swapaxes(0, 1), strict=True)  # [S, D] and [R, D], T of them
        each = tuple(float((answers(*step) == test_y).mean()) for step in by_step)
    else:
        found = answers(train_x.mean(1), test_x.mean(1))
    return Probe(kind, per_step, len(train_y), summarize(test_y, found, names), each, before)


def _check_probe(train: Listing, test: Listing | None, validation: float) -> None:
    if not 0.0 < validation < 1.0:
        raise ConfigError(f"--validation {validation}: a share of the recordings above 0 and below 1, for example 0.2")
    if len(train.class_names) < 2:
        found = ", ".join(train.class_names)
        raise ConfigError(f"{train.root}: a probe needs two classes or more; there is only {found}")
    if test is not None:
        labels_of(test, train.class_names)


def labels_of(test: Listing, names: Sequence[str]) -> Labels:
    """The labels of test recordings [S] as the training recordings, whose classes have these names, number them.

    Raises:
        ConfigError: a class that is not trained on.
    """
    unknown = [name for name in test.class_names if name not in names]
    if unknown:
        raise ConfigError(f"{test.root}: class {unknown[0]} is not trained on; those are {', '.join(names)}")
    return np.array([names.index(test.class_names[label]) for label in test.labels])
