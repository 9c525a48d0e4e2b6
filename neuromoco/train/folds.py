"""Logits of recordings that a network was not trained on, where none are left to validate: by training it in folds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from neuromoco.datasets import Split
from neuromoco.datasets.splits import FEWEST_TO_CHOOSE
from neuromoco.errors import ConfigError
from neuromoco.support.console import console
from neuromoco.support.files import read_json, write_json
from neuromoco.train.classify import Answers, ClassifyTask
from neuromoco.train.loop import fit
from neuromoco.train.run_folder import RunFolder

BuildFold = Callable[[Split], ClassifyTask]


class FoldTask(ClassifyTask):
    """The training without a fold, of which only the answers are kept."""

    @cached_property
    def fit_reference(self) -> None:
        return None


def train_in_folds(
    task: ClassifyTask, folds: Sequence[Split], build: BuildFold, run: RunFolder, accelerator: Accelerator
) -> Answers:
    """Trains a network of the same settings for each fold of the training recordings, and classifies the others.

    Until the last is trained, each fold has a run folder of its own in folds/, which an interrupted run goes on with.

    Args:
        task: the training that is to be calibrated or compared.
        folds: of its training recordings.
        build: the same on other recordings.
        run: its folder, which keeps the answers.
        accelerator: of the run.

    Returns:
        Mean logits [S, classes] and classes [S] of the held-out recordings of all folds.
    """
    labels, places = held_labels(task, folds), run.path / "folds"
    accelerator.wait_for_everyone()
    if run.folds.is_file():
        logits = np.array(read_json(run.folds).get("logits"), np.float32)
    else:
        logits = np.concatenate([_answers_on(fold, task, build, places, accelerator) for fold in enumerate(folds)])
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            names = [task.listing.names[row] for split in folds for row in split.validation]
            write_json(run.folds, {"recordings": names, "labels": labels.tolist(), "logits": logits.tolist()})
    if accelerator.is_main_process:
        shutil.rmtree(places, ignore_errors=True)
    if logits.shape != (len(labels), len(task.class_names)):
        raise ConfigError(f"{run.folds}: is damaged; delete it to train in folds again")
    return logits, labels


def _answers_on(
    fold: tuple[int, Split], task: ClassifyTask, build: BuildFold, places: Path, accelerator: Accelerator
) -> NDArray[np.float32]:
    """Mean logits [S, classes] of the recordings in a fold, by a network that is trained on the others."""
    number, split = fold
    folder = RunFolder(places / str(number))
    if not folder.is_complete:
        console.print(f"training without fold {number + 1}")
        set_seed(task.config.seed)
        fit(build(Split(split.train, ())), folder, accelerator, task.config.compute)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            shutil.rmtree(folder.states)  # there is nothing left to resume
    return task.logits_of(folder.last, split.validation)


def held_labels(task: ClassifyTask, folds: Sequence[Split]) -> NDArray[np.int64]:
    """Classes [S] of the held-out recordings, fold after fold."""
    return np.array([task.listing.labels[row] for split in folds for row in split.validation])


def split_in_folds(task: ClassifyTask, fewest: int = FEWEST_TO_CHOOSE) -> list[Split]:
    """Folds of the training recordings, stratified, those of one group together.

    None if they are too few, or cannot be divided so that every class is in all parts.
    """
    rows = np.array(task.split.train)
    labels = np.array(task.listing.labels)[rows]
    groups = np.array(task.listing.group_of)[rows]
    smallest = min(len(set(groups[labels == label].tolist())) for label in range(len(task.class_names)))
    folds = min(task.settings.calibration_folds, smallest)
    if len(rows) < fewest or folds < 2:
        return []
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=task.config.seed).split(rows, labels, groups)
    splits = [Split(tuple(rows[kept].tolist()), tuple(rows[held].tolist())) for kept, held in parts]
    known = [{task.listing.labels[row] for row in split.train} for split in splits]
    return splits if all(len(classes) == len(task.class_names) for classes in known) else []
