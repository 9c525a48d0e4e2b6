"""Accuracy of the settings that are advised for a set, on folds that training does not see.

    python -m benchmarks.advice --data N-MNIST/Train --folds 1 2 3 4 --labels 5 0 --stages supervised all

Each run is what `neuromoco train --data FOLDER` does on four fifths of each class; the weights that it
recommends, and those of the last epoch, are measured on the other fifth. With stage "all", so are the three classifiers
that it compares: what the comparison said, what was kept, and what would have been best. Runs of a fold share the
pre-training, which uses no labels; its epochs are those of the first number of labels. One JSON object a run, on
standard output; 0 labels are all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuromoco.checkpoint import PROBE, best_weights
from neuromoco.config import RunConfig, parse_changes, with_values
from neuromoco.datasets import hold_out, list_data, read_recordings
from neuromoco.datasets.set_survey import survey_set
from neuromoco.evaluation.accuracy import predict_labels, score
from neuromoco.evaluation.features import features, load_encoder
from neuromoco.evaluation.probe import linear_accuracy
from neuromoco.recipes.advice import MINUTES, advise
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.train import resume, train
from neuromoco.train.compare import compared_settings
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.run_split import labelled_split

FOLDS = 5


class HeldOut:
    """The recordings of the fold that is held out."""

    def __init__(self, config: RunConfig) -> None:
        assert config.held_out is not None
        recordings = read_recordings(config.data, config.frames, "train", labelled=True)
        self.listing, self.store = recordings.listing, recordings.store
        self.rows = hold_out(self.listing, config.held_out.folds, config.held_out.fold).validation
        self.labels = self.labels_of(self.rows)

    def labels_of(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Their classes."""
        return np.array([self.listing.labels[row] for row in rows])

    def accuracy(self, weights: Path) -> float:
        """That of a classifier."""
        network = TrainedClassifier(weights, "cpu").network
        predicted = predict_labels(network, self.store.frames, self.rows, torch.device("cpu")).numpy()
        return score(self.labels, predicted, self.listing.class_names).accuracy

    def probe_accuracy(self, encoder: Path, rows: Sequence[int]) -> float:
        """That of a linear probe which is fitted on these rows."""
        network, _ = load_encoder(encoder, torch.device("cpu"))
        train_x, test_x = (features(network, self.store, part, torch.device("cpu")) for part in (rows, self.rows))
        return linear_accuracy(train_x, self.labels_of(rows), test_x, self.labels)


def measure(config: RunConfig, out: Path, pretrained: Path | None) -> dict[str, Any]:
    """Trains, from a run with a pre-training if there is one, and measures on the fold that is held out."""
    begun = time.monotonic()
    if pretrained is None:
        summary = train(config, out, "cpu")
    else:
        RunFolder(out).begin(config, "cpu")
        shutil.copytree(pretrained / "pretrain", out / "pretrain")
        summary = resume(out, "cpu")
    seconds, held = time.monotonic() - begun, HeldOut(config)
    kept = best_weights(out)
    figures = {"accuracy": held.accuracy(kept), "last": held.accuracy(kept.with_name("last.safetensors"))}
    compared = compare(config, out, summary, held) if config.stage == "all" and config.compare else {}
    return {**figures, "recordings": len(held.rows), "seconds": round(seconds), **compared}


def compare(config: RunConfig, out: Path, summary: dict[str, Any], held: HeldOut) -> dict[str, Any]:
    """What the comparison of a run said, and the accuracy of the candidates; trains those that it did not compare."""
    init = RunFolder(out / "pretrain").last
    accuracy = {}
    for name, settings in compared_settings(config.model_copy(update={"init": str(init)})).items():
        run = RunFolder(out / name)
        if name == PROBE and not run.is_complete:
            accuracy[name] = held.probe_accuracy(init, labelled_split(held.listing, config, config.finetune).train)
            continue
        if not run.is_complete:
            train(settings, run.path, "cpu")
        accuracy[name] = held.accuracy(best_weights(run.path))
    right = accuracy[summary["kept"]] == max(accuracy.values())
    return {"kept": summary["kept"], "right": right, "held_out": accuracy, "comparison": summary.get("comparison")}


def main() -> None:
    """Measures one set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4], help="the first, 0, chose the rules")
    parser.add_argument("--labels", type=int, nargs="+", default=[0, 5], help="of each class; 0 is all")
    parser.add_argument("--stages", nargs="+", default=["supervised"], choices=["supervised", "all"])
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="change a setting, to compare")
    options = parser.parse_args()
    survey = survey_set(options.data, list_data(options.data, "train", labelled=True))
    for stage, fold in itertools.product(options.stages, options.folds):
        with TemporaryDirectory() as place:
            pretrained: Path | None = None
            for labels in options.labels:
                advice = advise(survey, stage=stage, labels_per_class=labels or None, minutes=options.minutes)
                values = {"held_out": {"folds": FOLDS, "fold": fold}, "seed": fold, "watch.samples": 0}
                config = with_values(advice.config, values | parse_changes(options.set))
                run = Path(place) / str(labels)
                result = measure(config, run, pretrained)
                pretrained = run if stage == "all" else None
                changed = {"set": options.set} if options.set else {}
                line = {"data": options.data, "stage": stage, "labels": labels, "fold": fold, **result, **changed}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
