"""Probes: how well simple classifiers do on the features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from neuromoco.datasets import FrameStore, Listing, frames_of, split_by_class
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.evaluation.accuracy import Evaluation, score
from neuromoco.evaluation.features import features, load_encoder, state_sha256
from neuromoco.support.device import pick_device

Kind = Literal["knn", "linear"]
Values = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
VALIDATION = 0.2  # fraction of each class to measure on without test recordings
NEIGHBOURS = 20
TEMPERATURE = 0.1  # of a neighbour's vote, as in MoCo's kNN monitor
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the linear probe
FOLDS = 5
MOST_ITERATIONS = 2000


def knn_labels(train_x: Values, train_y: Labels, test_x: Values | None = None) -> Labels:
    """Predicts classes by k nearest neighbours, each with a vote of exp(cosine similarity / 0.1).

    k is 20, or one less than the size of the smallest class if that is smaller.

    Args:
        train_x: the bank, features [S, D].
        train_y: its classes [S].
        test_x: features [R, D]; None predicts the bank, each recording without its own vote.

    Returns:
        Classes [R], or [S] of the bank.
    """
    smallest = int(np.unique(train_y, return_counts=True)[1].min())
    neighbours = max(1, min(NEIGHBOURS, smallest - 1))
    model = KNeighborsClassifier(neighbours, weights=_votes, algorithm="brute", metric="cosine")
    predicted: Labels = model.fit(train_x, train_y).predict(test_x)
    return predicted


def knn_accuracy(train_x: Values, train_y: Labels, test_x: Values | None = None, test_y: Labels | None = None) -> float:
    """Accuracy of `knn_labels`, 0 to 1; without a test set, leave-one-out on the bank."""
    return float((knn_labels(train_x, train_y, test_x) == (train_y if test_y is None else test_y)).mean())


def linear_labels(train_x: Values, train_y: Labels, test_x: Values, seed: int = 0) -> Labels:
    """Predicts classes by logistic regression on standardised features.

    The regularisation is chosen by cross-validation on the training recordings if each class has at least two; else
    C = 1.

    Args:
        train_x: features [S, D].
        train_y: classes [S].
        test_x: features [R, D].
        seed: of the folds.

    Returns:
        Classes [R].
    """
    predicted: Labels = _logistic_regression(train_x, train_y, seed).predict(test_x)
    return predicted


def linear_head(train_x: Values, train_y: Labels, seed: int = 0) -> tuple[Values, Values]:
    """Weights [classes, D] and biases [classes] of a linear layer that gives the probabilities of `linear_labels`.

    Args:
        train_x: features [S, D].
        train_y: their classes [S], from 0, each at least once.
        seed: of the folds.
    """
    model = _logistic_regression(train_x, train_y, seed)
    scaler, regression = model[0], model[-1]
    weights: Values = regression.coef_ / scaler.scale_
    biases: Values = regression.intercept_ - weights @ scaler.mean_
    if len(weights) == 1:  # of two classes: what the second has more than the first
        weights, biases = np.concatenate([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    return weights, biases


def _logistic_regression(train_x: Values, train_y: Labels, seed: int) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_ITERATIONS))
    folds = min(FOLDS, int(np.unique(train_y, return_counts=True)[1].min()))
    if folds > 1:
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=splits)
    with threadpool_limits(1):  # faster: a fit is many small products
        model.fit(train_x, train_y)
    return model.best_estimator_ if isinstance(model, GridSearchCV) else model


def linear_accuracy(train_x: Values, train_y: Labels, test_x: Values, test_y: Labels, seed: int = 0) -> float:
    """Accuracy of `linear_labels`, 0 to 1."""
    return float((linear_labels(train_x, train_y, test_x, seed) == test_y).mean())


def _votes(distances: Values) -> Values:
    votes: Values = np.exp((1.0 - distances) / TEMPERATURE)
    return votes


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe.

    Attributes:
        kind: "knn" or "linear".
        per_step: whether the features were all time steps, [S, T * D], or their mean, [S, D].
        trained_on: number of recordings that the probe was trained on.
        evaluation: its results on the others.
        steps: accuracy from each time step alone; empty unless `per_step`.
        encoder_sha256: of the encoder's parameters and buffers, which did not change.
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
    frames: Mapping[str, Any] | None = None,
) -> ProbeResult:
    """Trains a simple classifier on the features of a frozen encoder and measures its accuracy.

    The frames are cached in $NEUROMOCO_CACHE; nothing else is written.

    Args:
        model: checkpoint of a pre-trained encoder, or of a classifier, whose head is ignored; or its name.
        train: recordings with labels to train the probe on.
        test: recordings with labels to measure on; None measures on a fraction of each class of `train`.
        kind: "knn" (`knn_labels`) or "linear" (`linear_labels`).
        per_step: use the features of all time steps, [T * D], instead of their mean, [D].
        validation: the fraction to measure on without `test`, above 0 and below 1.
        labels_per_class: train on at most this many recordings of each class; None trains on all.
        seed: of the choice of recordings and of the probe.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        frames: changes of the frames that the encoder was trained with, by name, such as {"frames.steps": 8}.

    Raises:
        CheckpointError: no usable checkpoint.
        ConfigError: `validation` out of range, fewer than two classes, too few recordings of a class, or a class of
            `test` that is not in `train`.
        EventFileError: a recording cannot be read.
        NeuromocoError: the encoder changed, which would be a bug.

    Examples:
        >>> from neuromoco.datasets import list_data
        >>> from neuromoco.evaluation.probe import probe
        >>> train, test = (list_data("digits", part) for part in ("train", "test"))  # doctest: +SKIP
        >>> probe("runs/digits/weights/last.safetensors", train, test, kind="knn").evaluation.accuracy  # doctest: +SKIP
        0.91
    """
    names = train.class_names
    if not 0.0 < validation < 1.0:
        raise ConfigError(f"--validation {validation}: give a fraction above 0 and below 1, for example 0.2")
    if len(names) < 2:
        raise ConfigError(f"{train.root}: a probe needs two or more classes; there is only {', '.join(names)}")
    if test is not None:
        test.labels_among(names)  # raises before anything is read
    torch_device = pick_device(device)
    encoder, header = load_encoder(model, torch_device, frames)
    before = state_sha256(encoder)
    train, store, *_ = frames_of(train.known_by(header.read_options(train.options)), header.frames)
    names, labels = train.class_names, np.array(train.labels)
    held = validation if test is None else 0.0
    split = split_by_class(train.labels, held, labels_per_class, seed, names, train.group_of)

    def by_step(rows: Sequence[int], store: FrameStore) -> Values:
        return features(encoder, store, rows, torch_device, per_step=True)

    train_x, train_y = by_step(split.train, store), labels[list(split.train)]  # [S, T, D], [S]
    if test is None:
        test_x, test_y = by_step(split.validation, store), labels[list(split.validation)]
    else:
        test = test.of_part(train.crop) if test.crop == "activity" else test  # that of the training recordings
        test, test_store, *_ = frames_of(test.known_by(header.read_options(test.options)), header.frames)
        test_x, test_y = by_step(range(len(test)), test_store), test.labels_among(names)
    if state_sha256(encoder) != before:
        raise NeuromocoError(f"{model}: the encoder changed while it was probed, which is a bug; the result is invalid")

    def predict(train: Values, test: Values) -> Labels:
        return knn_labels(train, train_y, test) if kind == "knn" else linear_labels(train, train_y, test, seed)

    steps: tuple[float, ...] = ()
    if per_step:
        predicted = predict(train_x.reshape(len(train_x), -1), test_x.reshape(len(test_x), -1))
        pairs = zip(train_x.swapaxes(0, 1), test_x.swapaxes(0, 1), strict=True)  # [S, D] and [R, D], T of them
        steps = tuple(float((predict(*pair) == test_y).mean()) for pair in pairs)
    else:
        predicted = predict(train_x.mean(1), test_x.mean(1))
    return ProbeResult(kind, per_step, len(train_y), score(test_y, predicted, names), steps, before)
