"""One unit of a sweep: a run or a measurement in a folder of its own, done when its `result.json` is there."""

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
from neuromoco.evaluation.probe import knn_accuracy, labels_of, linear_accuracy
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.support.console import silence
from neuromoco.support.device import pick_device
from neuromoco.support.files import read_json, write_json
from neuromoco.sweep.plan import Unit
from neuromoco.train import resume, train
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.stages import labelled_split

RESULT = "result.json"


class HeldOut(NamedTuple):
    """The recordings that a unit is measured on: rows [R] of a store, and their labels [R] as the training has them."""

    store: FrameStore
    rows: list[int]
    labels: NDArray[np.int64]


class Worker:
    """Does units, one after another, and reads recordings once for all of them.

    Args:
        out: the sweep's folder.
        test: the folder to measure on, or None: a fold, or the test part of the set.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(self, out: Path, test: str | None, device: str) -> None:
        self.out, self.test, self.device = out, test, device
        self.read = cache(read_recordings)

    def do(self, unit: Unit) -> dict[str, Any]:
        """Makes a unit, or goes on with it, or takes what is there.

        Returns:
            What `result.json` holds: "accuracy" and "recordings", or "loss" of a pre-training.

        Raises:
            NeuromocoError: as `train`, or classes to measure on that are not trained on.
        """
        folder = self.out / "units" / unit.name
        if (folder / RESULT).is_file():
            return read_json(folder / RESULT)
        with silence():
            result = self._probe(unit) if unit.kind in ("knn", "linear") else self._run(unit, folder)
        write_json(folder / RESULT, result)
        shutil.rmtree(RunFolder(folder).states, ignore_errors=True)
        return result

    def held_out(self, config: RunConfig) -> HeldOut:
        """What a run with these settings is measured on.

        Raises:
            ConfigError: a class that is not trained on.
        """
        listing, store = self.read(config.data, config.frames, "train", labelled=True)
        if config.held_out:
            rows = list(hold_out(listing, config.held_out.folds, config.held_out.fold).validation)
            return HeldOut(store, rows, np.array(listing.labels)[rows])
        test, store = self.read(self.test or config.data, config.frames, "test", labelled=True)
        return HeldOut(store, list(range(len(test))), labels_of(test, listing.class_names))

    def _run(self, unit: Unit, folder: Path) -> dict[str, Any]:
        run = RunFolder(folder)
        if run.is_complete:
            summary = read_json(run.summary)
        elif run.is_begun:
            summary = resume(folder, self.device, self.read)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # a run that was interrupted before it began
            summary = train(self._with_init(unit), folder, self.device, self.read)
        if unit.kind == "pretrain":
            return {"loss": summary["last"]["loss"]}
        held = self.held_out(unit.config)
        classifier = TrainedClassifier(run.last, self.device)
        found = predict_labels(classifier.network, held.store.frames, held.rows, classifier.device).numpy()
        return {"accuracy": float((found == held.labels).mean()), "recordings": len(held.rows)}

    def _with_init(self, unit: Unit) -> RunConfig:
        init = str(self._weights(unit)) if unit.needs else None
        return unit.config.model_copy(update={"init": init})

    def _weights(self, unit: Unit) -> Path:
        assert unit.needs
        return RunFolder(self.out / "units" / unit.needs).last

    def _probe(self, unit: Unit) -> dict[str, Any]:
        config, place = unit.config, pick_device(self.device)
        encoder, _ = load_encoder(self._weights(unit), place)
        listing, store = self.read(config.data, config.frames, "train", labelled=True)
        rows = labelled_split(listing, config, config.finetune).train
        held = self.held_out(config)
        inputs = (
            features(encoder, store, rows, place),
            np.array(listing.labels)[list(rows)],
            features(encoder, held.store, held.rows, place),
            held.labels,
        )
        accuracy = knn_accuracy(*inputs) if unit.kind == "knn" else linear_accuracy(*inputs, config.seed)
        return {"accuracy": accuracy, "recordings": len(held.rows)}
