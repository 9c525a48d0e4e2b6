"""Logits of recordings that a network was not trained on, where none are left to validate: by training it in folds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from neuromoco.checkpoint import load_into, load_tensors
from neuromoco.classifier import Classifier
from neuromoco.datasets import Split
from neuromoco.datasets.splits import FEWEST_TO_CHOOSE
from neuromoco.encoders import build_encoder
from neuromoco.evaluation.accuracy import mean_logits
from neuromoco.support.console import console
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.loop import fit
from neuromoco.train.run_folder import RunFolder

FOLDER = "folds"  # in the run folder, until the run is complete
BuildFold = Callable[[Split], ClassifyTask]
Folded = tuple[NDArray[np.float32], NDArray[np.int64]]


class FoldTask(ClassifyTask):
    """The training without a fold, of which only the answers are kept."""

    @cached_property
    def fit_reference(self) -> None:
        return None


def train_in_folds(task: ClassifyTask, build: BuildFold, run: Path, accelerator: Accelerator) -> Folded | None:
    """Trains a network of the same settings for each fold of the training recordings, and classifies the others.

    Each fold has a run folder of its own in `run`/folds, which an interrupted run goes on with.

    Args:
        task: the training that is to be calibrated.
        build: the same on other recordings.
        run: the folder of its run.
        accelerator: of the run.

    Returns:
        Mean logits [S, classes] and classes [S]; None if the recordings are too few, or cannot be divided so that every
        class is in all parts.
    """
    folds = split_in_folds(task)
    if not folds:
        console.print("not calibrated: too few labelled recordings, or groups, to train in folds", soft_wrap=True)
        return None
    logits = []
    for number, split in enumerate(folds):
        console.print(f"calibration: training without fold {number + 1} of {len(folds)}")
        folder = RunFolder(run / FOLDER / str(number))
        accelerator.wait_for_everyone()
        if not folder.is_complete:
            set_seed(task.config.seed)
            fit(build(Split(split.train, ())), folder, accelerator, task.config.compute)
            accelerator.wait_for_everyone()
        network = Classifier(build_encoder(task.config.encoder), len(task.class_names))
        load_into(network, load_tensors(folder.last), folder.last)
        network.to(accelerator.device).eval()
        logits.append(mean_logits(network, task.store.frames, split.validation, accelerator.device).float().numpy())
    held = [row for split in folds for row in split.validation]
    return np.concatenate(logits), np.array([task.listing.labels[row] for row in held])


def split_in_folds(task: ClassifyTask) -> list[Split]:
    """Folds of the training recordings, stratified, those of one group together; none if they are too few."""
    rows = np.array(task.split.train)
    labels = np.array(task.listing.labels)[rows]
    groups = np.array(task.listing.group_of)[rows]
    smallest = min(len(set(groups[labels == label].tolist())) for label in range(len(task.class_names)))
    folds = min(task.settings.calibration_folds, smallest)
    if len(rows) < FEWEST_TO_CHOOSE or folds < 2:
        return []
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=task.config.seed).split(rows, labels, groups)
    splits = [Split(tuple(rows[kept].tolist()), tuple(rows[held].tolist())) for kept, held in parts]
    known = [{task.listing.labels[row] for row in split.train} for split in splits]
    return splits if all(len(classes) == len(task.class_names) for classes in known) else []
