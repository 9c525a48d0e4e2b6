"""Runs one unit of a sweep: a training or a measurement, complete once its folder holds `result.json`."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import RunConfig
from neuromoco.datasets import FrameStore, hold_out, read_recordings
from neuromoco.evaluation.accuracy import predict_labels
from neuromoco.evaluation.features import features, load_encoder
from neuromoco.evaluation.probe import knn_accuracy, linear_accuracy
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.support.console import silence
from neuromoco.support.device import pick_device
from neuromoco.support.files import read_json, write_json
from neuromoco.sweep.plan import Unit
from neuromoco.train import resume, train
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.run_split import labelled_split

RESULT = "result.json"


class EvaluationSet(NamedTuple):
    """The recordings that a unit is measured on: rows [R] of a store, and their labels [R] in the training's order."""

    store: FrameStore
    rows: list[int]
    labels: NDArray[np.int64]


class Worker:
    """Runs units in a sweep's folder and reads recordings only once for all of them.

    They are measured on the folder `test`; None measures on a fold, or on the test part of the data set.
    """

    def __init__(self, out: Path, test: str | None, device: str) -> None:
        self.out, self.test, self.device = out, test, device
        self.read = cache(read_recordings)

    def run(self, unit: Unit) -> dict[str, Any]:
        """Runs or resumes a unit, or returns its result if it is complete.

        Returns:
            The content of `result.json`: "accuracy" and "recordings", or "loss" of a pre-training.

        Raises:
            NeuromocoError: as `train`, or a test class that is not a training class.
        """
        folder = self.out / "units" / unit.name
        if (folder / RESULT).is_file():
            return read_json(folder / RESULT)
        with silence():
            result = self._probe(unit) if unit.kind in ("knn", "linear") else self._run(unit, folder)
        write_json(folder / RESULT, result)
        shutil.rmtree(RunFolder(folder).states, ignore_errors=True)
        return result

    def _evaluation_set(self, config: RunConfig) -> EvaluationSet:
        listing, store, frames, *_ = self.read(config.data, config.frames, "train", True, config.recordings)
        if config.held_out:
            rows = list(hold_out(listing, config.held_out.folds, config.held_out.fold).validation)
            return EvaluationSet(store, rows, np.array(listing.labels)[rows])
        # A crop by activity is that of the training recordings.
        test, store, *_ = self.read(self.test or config.data, frames, "test", True, config.recordings)
        return EvaluationSet(store, list(range(len(test))), test.labels_among(listing.class_names))

    def _run(self, unit: Unit, folder: Path) -> dict[str, Any]:
        run = RunFolder(folder)
        if run.is_complete:
            summary = read_json(run.summary)
        elif run.is_begun:
            summary = resume(folder, self.device, self.read)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # it was interrupted before the run started
            config = unit.config.model_copy(update={"init": str(self._encoder(unit)) if unit.needs else None})
            summary = train(config, folder, self.device, self.read)
        if unit.kind == "pretrain":
            return {"loss": summary["last"]["loss"]}
        test = self._evaluation_set(unit.config)
        classifier = TrainedClassifier(run.last, self.device)
        predicted = predict_labels(classifier.network, test.store.frames, test.rows, classifier.device).numpy()
        return {"accuracy": float((predicted == test.labels).mean()), "recordings": len(test.rows)}

    def _encoder(self, unit: Unit) -> Path:
        assert unit.needs
        return RunFolder(self.out / "units" / unit.needs).last

    def _probe(self, unit: Unit) -> dict[str, Any]:
        config, device = unit.config, pick_device(self.device)
        encoder, _ = load_encoder(self._encoder(unit), device)
        listing, store, *_ = self.read(config.data, config.frames, "train", True, config.recordings)
        rows = labelled_split(listing, config, config.finetune).train
        test = self._evaluation_set(config)
        inputs = (
            features(encoder, store, rows, device),
            np.array(listing.labels)[list(rows)],
            features(encoder, test.store, test.rows, device),
            test.labels,
        )
        accuracy = knn_accuracy(*inputs) if unit.kind == "knn" else linear_accuracy(*inputs, config.seed)
        return {"accuracy": accuracy, "recordings": len(test.rows)}
