"""Accuracy of a classifier on labelled recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix
from torch import Tensor

from neuromoco.classifier import Classifier
from neuromoco.datasets import Listing, frames_of
from neuromoco.evaluation.features import frame_batches
from neuromoco.runtime.prediction import FrameNetwork
from neuromoco.snn.neurons import evaluation_mode


@dataclass(frozen=True)
class Evaluation:
    """Results on S recordings.

    Attributes:
        accuracy: fraction of correct predictions, 0 to 1.
        interval: lower and upper end of the accuracy's 95 % Wilson interval.
        recordings: S.
        class_names: rows and columns of the confusion matrix.
        confusion: counts [true, predicted].
    """

    accuracy: float
    interval: tuple[float, float]
    recordings: int
    class_names: tuple[str, ...]
    confusion: NDArray[np.int64]

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON, with the recall of each class."""
        rows = self.confusion.sum(1)
        recall = {name: float(self.confusion[i, i] / rows[i]) for i, name in enumerate(self.class_names) if rows[i]}
        return {
            "accuracy": self.accuracy,
            "interval_95": list(self.interval),
            "recordings": self.recordings,
            "recall": recall,
            "confusion": self.confusion.tolist(),
        }


@torch.inference_mode()
def predict_labels(
    classifier: Classifier, frames: NDArray[np.unsignedinteger[Any]], indices: Sequence[int], device: torch.device
) -> Tensor:
    """Predicted class indices [R] for R `indices` into frames [S, T, P, H, W]."""
    with evaluation_mode(classifier):
        batches = (torch.from_numpy(batch).to(device) for batch in frame_batches(frames, indices))
        return torch.cat([classifier(batch).mean(0).argmax(1).cpu() for batch in batches])


def evaluate(model: FrameNetwork, listing: Listing) -> Evaluation:
    """Classifies labelled recordings and compares the predictions with the labels.

    The frames are cached in $NEUROMOCO_CACHE; nothing else is written.

    Args:
        model: a classifier, from a checkpoint or an export.
        listing: S recordings with labels, of classes that the model knows.

    Returns:
        Accuracy and confusion matrix.

    Raises:
        ConfigError: a class that the model does not know.
        EventFileError: a recording cannot be read.

    Examples:
        >>> from neuromoco import load_classifier
        >>> from neuromoco.datasets import list_data
        >>> from neuromoco.evaluation.accuracy import evaluate
        >>> model = load_classifier("models/sew_resnet_tiny-digits.onnx")
        >>> evaluation = evaluate(model, list_data("digits", "test"))  # doctest: +SKIP
        >>> evaluation.recordings  # doctest: +SKIP
        359
    """
    listing, store, *_ = frames_of(listing.known_by(model.header.read_options(listing.options)), model.header.frames)
    labels, frames = listing.labels_among(model.header.class_names), store.frames
    logits = (model.frame_logits(batch) for batch in frame_batches(frames, range(len(frames))))  # [T, N, classes]
    return score(labels, np.concatenate([batch.mean(0).argmax(1) for batch in logits]), model.header.class_names)


def score(labels: NDArray[np.int64], predicted: NDArray[np.int64], class_names: tuple[str, ...]) -> Evaluation:
    """Compares predicted labels [S] with true ones [S]."""
    correct = int((labels == predicted).sum())
    low, high = binomtest(correct, len(labels)).proportion_ci(method="wilson")
    matrix = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    return Evaluation(correct / len(labels), (float(low), float(high)), len(labels), class_names, matrix)
