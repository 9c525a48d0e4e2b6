"""How good a classifier is, on recordings that it was not trained on."""

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
from torch.utils.data import DataLoader

from neuromoco.classifier import Classifier
from neuromoco.datasets import Listing, cached_frames
from neuromoco.datasets.torch_sets import FrameSet, collate
from neuromoco.errors import ConfigError
from neuromoco.runtime.prediction import FrameNetwork

BATCH = 128


@dataclass(frozen=True)
class Evaluation:
    """Results on S recordings.

    Attributes:
        accuracy: share of right answers.
        interval: 95 % interval of the accuracy for a set of this size (Wilson), low and high.
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
    """Class indices [len(indices)] that a classifier gives to some of S frames [S, T, P, H, W]."""
    was_training = classifier.training
    classifier.eval()
    loader = DataLoader(FrameSet(frames, indices), BATCH, collate_fn=collate)
    answers = [classifier(batch.to(device)).mean(0).argmax(1).cpu() for batch, _ in loader]
    classifier.train(was_training)
    return torch.cat(answers)


def evaluate(model: FrameNetwork, listing: Listing) -> Evaluation:
    """Classifies every recording of a listing with labels.

    Raises:
        ConfigError: a class that the model does not know.
        EventFileError: a recording cannot be read.
    """
    names = model.header.class_names
    unknown = [name for name in listing.class_names if name not in names]
    if unknown:
        raise ConfigError(f"{listing.root}: class {unknown[0]} is unknown to the model; it knows {', '.join(names)}")
    labels = np.array([names.index(listing.class_names[label]) for label in listing.labels])
    frames = cached_frames(listing, model.header.frames).frames
    found = []
    for start in range(0, len(frames), BATCH):
        batch = np.ascontiguousarray(frames[start : start + BATCH].swapaxes(0, 1), np.float32)  # [T, N, P, H, W]
        found.append(model.frame_logits(batch).mean(0).argmax(1))
    return summarize(labels, np.concatenate(found), names)


def summarize(labels: NDArray[np.int64], found: NDArray[np.int64], class_names: tuple[str, ...]) -> Evaluation:
    """The figures of true labels [S] against found ones [S]."""
    right = int((labels == found).sum())
    low, high = binomtest(right, len(labels)).proportion_ci(method="wilson")
    matrix = confusion_matrix(labels, found, labels=range(len(class_names)))
    return Evaluation(right / len(labels), (float(low), float(high)), len(labels), class_names, matrix)
