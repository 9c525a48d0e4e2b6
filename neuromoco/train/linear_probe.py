"""A linear probe as a classifier: a frozen pre-trained encoder with a head by logistic regression on its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from neuromoco.datasets import Split
from neuromoco.evaluation.features import features
from neuromoco.evaluation.probe import linear_head
from neuromoco.support.files import write_json
from neuromoco.train.classify import Answers, ClassifyTask
from neuromoco.train.folds import held_labels
from neuromoco.train.run_folder import RunFolder


def fit_probe(task: ClassifyTask, folds: Sequence[Split], run: RunFolder) -> dict[str, Any]:
    """Fits the head of a task whose encoder is frozen, and writes checkpoint and summary; returns the summary.

    Args:
        task: of a pre-trained encoder; `folded` is set if there are folds.
        folds: of the training recordings, where none validate.
        run: the folder.
    """
    rows = task.split.train
    values = features(task.classifier.encoder, task.store, rows, task.accelerator.device)  # [S, D]
    labels = np.array([task.listing.labels[row] for row in rows])
    seed = task.config.seed
    task.folded = _in_folds(task, folds, dict(zip(rows, values, strict=True))) if folds else None
    weights, biases = (torch.from_numpy(part).float() for part in linear_head(values, labels, seed))
    head = task.classifier.head
    with torch.no_grad():
        head.weight.copy_(weights)
        head.bias.copy_(biases)
    logits = torch.from_numpy(values) @ weights.T + biases
    metrics = {
        "loss": float(F.cross_entropy(logits, torch.from_numpy(labels))),
        "accuracy": float((logits.argmax(1).numpy() == labels).mean()),
        **task.validate(),
    }
    task.check_end()
    summary = {"last": {"epoch": 0, **metrics}, "best": None}
    if task.accelerator.is_main_process:
        task.save(run.last, 0, metrics)
        write_json(run.summary, summary)
    task.accelerator.wait_for_everyone()  # until the checkpoint is there
    return summary


def _in_folds(task: ClassifyTask, folds: Sequence[Split], values: dict[int, NDArray[np.float32]]) -> Answers:
    """Answers on each fold by a head that was fitted without it, given the features of each row."""
    logits = []
    for split in folds:
        labels = np.array([task.listing.labels[row] for row in split.train])
        weights, biases = linear_head(np.stack([values[row] for row in split.train]), labels, task.config.seed)
        held = np.stack([values[row] for row in split.validation])
        logits.append((held @ weights.T + biases).astype(np.float32))
    return np.concatenate(logits), held_labels(task, folds)
