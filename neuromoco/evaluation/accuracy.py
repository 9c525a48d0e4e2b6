"""Accuracy of a classifier on labelled recordings. Exports are measured without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from neuromoco.datasets import Listing, frames_of
from neuromoco.datasets.cache import FrameStore
from neuromoco.datasets.prepare import file_jobs, recordings_of
from neuromoco.events import Recording
from neuromoco.fit.reference import FitReference
from neuromoco.fit.verdict import Fit
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.prediction import Floats, FrameNetwork
from neuromoco.support.console import track

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from neuromoco.classifier import Classifier

BATCH = 128
LARGEST_PASS = 1 << 22  # counts of event frames: 8 recordings of 16 steps at 128 x 128
Z_95 = 1.959963984540054  # of the normal distribution, for 95 % on both sides


@dataclass(frozen=True)
class Evaluation:
    """Results on S recordings.

    Attributes:
        accuracy: fraction of correct predictions, 0 to 1.
        interval: lower and upper end of the accuracy's 95 % Wilson interval.
        recordings: S.
        class_names: rows and columns of the confusion matrix.
        confusion: counts [true, predicted].
        labels: true class indices [S].
        logits: float32 [S, T, classes]; None if only labels were predicted.
        listing: the S recordings, without those that were left out; None likewise.
        fits: the verdict on each recording; empty where the model's file does not say what fits.
    """

    accuracy: float
    interval: tuple[float, float]
    recordings: int
    class_names: tuple[str, ...]
    confusion: NDArray[np.int64]
    labels: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    logits: Floats | None = None
    listing: Listing | None = None
    fits: tuple[Fit, ...] = ()

    @property
    def unlike(self) -> int:
        """How many recordings are unlike the training recordings."""
        return sum(not fit.fits for fit in self.fits)

    @property
    def recall(self) -> dict[str, float]:
        """Share of the recordings of each class that got it, of those classes that have recordings."""
        rows = self.confusion.sum(1)
        return {name: float(self.confusion[i, i] / rows[i]) for i, name in enumerate(self.class_names) if rows[i]}

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall: what the accuracy would be if all classes had equally many recordings."""
        return float(np.mean(list(self.recall.values())))

    @property
    def is_uneven(self) -> bool:
        """Whether the largest class has twice as many recordings as the smallest, or more."""
        rows = self.confusion.sum(1)
        return bool(rows.max() >= 2 * rows[rows > 0].min())

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON, with the recall of each class."""
        return {
            "accuracy": self.accuracy,
            "interval_95": list(self.interval),
            "balanced_accuracy": self.balanced_accuracy,
            "recordings": self.recordings,
            "recall": self.recall,
            "confusion": self.confusion.tolist(),
            "fit": self._fit_figures() if self.fits else None,
        }

    def _fit_figures(self) -> dict[str, Any]:
        count = len(self.fits)
        return {"unlike": self.unlike, "share": self.unlike / count, "interval_95": list(wilson(self.unlike, count))}


class EventNetwork(Protocol):
    """An export that takes events and bins them itself."""

    def logits(self, recordings: Sequence[Recording], /) -> Floats:
        """Logits [T, N, classes] of N recordings."""


def predict_labels(
    classifier: Classifier, frames: NDArray[np.unsignedinteger[Any]], indices: Sequence[int], device: torch.device
) -> Tensor:
    """Predicted class indices [R] for R `indices` into frames [S, T, P, H, W]."""
    return mean_logits(classifier, frames, indices, device).argmax(1)


def mean_logits(
    classifier: Classifier, frames: NDArray[np.unsignedinteger[Any]], indices: Sequence[int], device: torch.device
) -> Tensor:
    """Mean logits over time [R, classes], on the CPU, for R `indices` into frames [S, T, P, H, W]."""
    import torch

    from neuromoco.snn.neurons import evaluation_mode

    with torch.inference_mode(), evaluation_mode(classifier):
        batches = (torch.from_numpy(batch).to(device) for batch in frame_batches(frames, indices))
        return torch.cat([classifier(batch).mean(0).cpu() for batch in batches])


def frame_batches(frames: NDArray[np.unsignedinteger[Any]], indices: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Batches [T, N, P, H, W] of the frames [S, T, P, H, W] at these indices; N is `pass_size` at most."""
    size = pass_size(math.prod(frames.shape[1:]))
    for start in range(0, len(indices), size):
        rows = np.asarray(indices[start : start + size])
        yield np.ascontiguousarray(frames[rows].swapaxes(0, 1), np.float32)


def pass_size(values: int) -> int:
    """Recordings of so many counts each that are evaluated at once: large frames must not need more than training."""
    return max(1, min(BATCH, LARGEST_PASS // values))


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
    known = listing.known_by(model.header.read_options(listing.options))
    listing, store, *_ = frames_of(known, model.header.frames)
    labels = listing.labels_among(model.header.class_names)
    logits = np.concatenate(list(_logits(model, listing, store.frames)), axis=1).swapaxes(0, 1)  # [S, T, classes]
    result = score(labels, logits.mean(1).argmax(1), model.header.class_names)
    return replace(result, logits=logits, listing=listing, fits=_fits(model.header.fit, store))


def _fits(reference: FitReference | None, store: FrameStore) -> tuple[Fit, ...]:
    if reference is None:
        return ()
    facts = zip(store.frames, store.durations.tolist(), store.sensors.tolist(), strict=True)
    return tuple(reference.judge(frames, duration, (rows, columns)) for frames, duration, (rows, columns) in facts)


def _logits(model: FrameNetwork, listing: Listing, frames: NDArray[np.unsignedinteger[Any]]) -> Iterator[Floats]:
    """Logits [T, N, classes] of the recordings, in their order."""
    header = model.header
    if isinstance(header, ExportHeader) and header.input == "events":
        network = cast(EventNetwork, model)
        jobs = [job for row in range(len(listing)) for job in file_jobs(listing, [row])]
        for job in track(jobs, "classifying recordings"):
            yield from (network.logits([recording]) for recording in recordings_of(job))
        return
    yield from (model.frame_logits(batch) for batch in frame_batches(frames, range(len(frames))))


def score(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    class_names: tuple[str, ...],
) -> Evaluation:
    """Compares predicted labels [S] with true ones [S]."""
    correct = int((labels == predicted).sum())
    matrix = np.zeros((len(class_names), len(class_names)), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    interval = wilson(correct, len(labels))
    return Evaluation(correct / len(labels), interval, len(labels), class_names, matrix, labels)


def wilson(correct: float, total: float) -> tuple[float, float]:
    """The 95 % interval of a share, without continuity correction (Wilson 1927).

    Examples:
        >>> from neuromoco.evaluation.accuracy import wilson
        >>> [round(end, 3) for end in wilson(80, 100)]
        [0.711, 0.867]
    """
    share, square = correct / total, Z_95**2 / total
    middle = share + square / 2
    half = Z_95 * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))
