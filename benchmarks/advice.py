"""Accuracy of the settings that are advised for a set, on folds that training does not see.

    python -m benchmarks.advice --data N-MNIST/Train --folds 1 2 3 4 --labels 5 0 --stages supervised all

Each run is what `neuromoco train --data FOLDER` does on four fifths of each class; the weights that it
recommends, and those of the last epoch, are measured on the other fifth. One JSON object a run, on standard output;
0 labels are all.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from neuromoco.checkpoint import best_weights
from neuromoco.config import RunConfig, parse_changes, with_values
from neuromoco.datasets import hold_out, list_data, read_recordings
from neuromoco.datasets.set_survey import survey_set
from neuromoco.evaluation.accuracy import predict_labels, score
from neuromoco.recipes.advice import MINUTES, advise
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.train import train
from neuromoco.train.run_folder import RunFolder

FOLDS = 5


def measure(config: RunConfig, out: Path) -> dict[str, Any]:
    """Trains, and measures on the fold that is held out."""
    assert config.held_out is not None
    begun = time.monotonic()
    train(config, out, "cpu")
    seconds = time.monotonic() - begun
    recordings = read_recordings(config.data, config.frames, "train", labelled=True)
    listing = recordings.listing
    held = hold_out(listing, config.held_out.folds, config.held_out.fold).validation
    labels = np.array([listing.labels[i] for i in held])
    last = RunFolder(out / "finetune" if config.stage == "all" else out).last
    figures = {}
    for name, weights in {"accuracy": best_weights(out), "last": last}.items():
        network = TrainedClassifier(weights, "cpu").network
        predicted = predict_labels(network, recordings.store.frames, held, torch.device("cpu")).numpy()
        figures[name] = score(labels, predicted, listing.class_names).accuracy
    return {**figures, "recordings": len(held), "seconds": round(seconds)}


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
    for stage in options.stages:
        for labels in options.labels:
            advice = advise(survey, stage=stage, labels_per_class=labels or None, minutes=options.minutes)
            for fold in options.folds:
                values = {"held_out": {"folds": FOLDS, "fold": fold}, "seed": fold, "watch.samples": 0}
                config = with_values(advice.config, values | parse_changes(options.set))
                with TemporaryDirectory() as folder:
                    result = measure(config, Path(folder) / "run")
                changed = {"set": options.set} if options.set else {}
                line = {"data": options.data, "stage": stage, "labels": labels, "fold": fold, **result, **changed}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
