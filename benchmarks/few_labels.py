"""What pre-training gives with few labels: several draws of labels on one pre-trained encoder a fold.

    python -m benchmarks.few_labels --data DVS_Sign/train --table signers.csv --group signer --folds 4 --only 0 \\
        --labels 1 5 --draws 3 --stages supervised probe finetune --out runs/few --name base --set pretrain.epochs=150

Settings are those that `neuromoco survey` advises, with the changes of `--set`. A fold is held out of every stage; with
a table of labels and `--group`, folds are of whole groups, such as persons. The last weights are measured, no epoch
is chosen. One JSON object a line:

    supervised, finetune    accuracy on the held-out fold, of one draw of labels
    probe                   of frozen features (pre-trained; of random weights; counts): accuracy on the held-out fold
                            by nearest neighbours and by a linear classifier with all labels, and with groups, how well
                            a linear classifier tells the groups of other classes than it was trained on

Pre-training is kept in `--out` and taken up again by the same command. With `--init NAME`, all begin with that encoder:
it is fine-tuned as it is, or with `--further` after pre-training on the set's own recordings without labels. Rivals
have its network, too; frames are those of the settings.
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
from numpy.typing import NDArray

from neuromoco.checkpoint import best_weights, read_header
from neuromoco.config import RecordingsConfig, RunConfig, parse_changes, with_values
from neuromoco.datasets import Recordings, hold_out, list_data, read_recordings
from neuromoco.datasets.set_survey import survey_set
from neuromoco.encoders import build_encoder
from neuromoco.evaluation.accuracy import predict_labels, score
from neuromoco.evaluation.features import features, load_encoder
from neuromoco.evaluation.probe import knn_accuracy, linear_accuracy
from neuromoco.recipes.advice import advise
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.train import resume, train
from neuromoco.train.run_folder import RunFolder

CPU = torch.device("cpu")


def fold_of(config: RunConfig) -> tuple[Recordings, list[int], list[int]]:
    """The recordings, and the rows of those to train on and of those that are held out."""
    assert config.held_out is not None
    recordings = read_recordings(config.data, config.frames, "train", labelled=True, recordings=config.recordings)
    split = hold_out(recordings.listing, config.held_out.folds, config.held_out.fold)
    return recordings, list(split.train), list(split.validation)


def pretrained(config: RunConfig, out: Path) -> Path:
    """Pre-trains, or goes on with it; returns the weights."""
    run = RunFolder(out)
    if not out.exists():
        train(config, out, "cpu")
    elif not run.is_complete:
        resume(out, "cpu")
    return run.last


def accuracy(config: RunConfig) -> float:
    """Accuracy on the held-out fold of a classifier that is trained."""
    with TemporaryDirectory() as folder:
        train(config, Path(folder) / "run", "cpu")
        network = TrainedClassifier(RunFolder(Path(folder) / "run").last, "cpu").network
    recordings, _, held = fold_of(config)
    listing = recordings.listing
    labels = np.array([listing.labels[i] for i in held])
    predicted = predict_labels(network, recordings.store.frames, held, CPU).numpy()
    return score(labels, predicted, listing.class_names).accuracy


def probes(config: RunConfig, weights: Path) -> dict[str, dict[str, float]]:
    """Accuracies by frozen features: of classes across the fold, of groups across classes."""
    recordings, rows, held = fold_of(config)
    torch.manual_seed(config.seed)
    encoders = {"pretrained": load_encoder(weights, CPU)[0], "random": build_encoder(config.encoder).eval()}
    everything = list(range(len(recordings.listing)))
    found = {name: features(encoder, recordings.store, everything, CPU) for name, encoder in encoders.items()}
    frames = np.asarray(recordings.store.frames, np.float32)
    found["counts"] = np.sqrt(frames.sum((1, 2)).reshape(len(frames), -1))
    labels = np.array(recordings.listing.labels)
    groups = np.unique(recordings.listing.group_of, return_inverse=True)[1]
    return {
        name: {
            "knn": knn_accuracy(values[rows], labels[rows], values[held], labels[held]),
            "linear": linear_accuracy(values[rows], labels[rows], values[held], labels[held]),
        }
        | (_group_accuracy(values[rows], labels[rows], groups[rows]) if recordings.listing.groups else {})
        for name, values in found.items()
    }


def _group_accuracy(values: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any]) -> dict[str, float]:
    """A linear classifier of groups, trained on two thirds of the classes and measured on the others."""
    others = labels % 3 == 0
    return {"groups": linear_accuracy(values[~others], groups[~others], values[others], groups[others])}


def main() -> None:
    """Measures one set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--table", help="a table of labels, see docs/data-sets.md")
    parser.add_argument("--group", help="its column of groups")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", default=[1, 2, 3, 4], help="folds; the first, 0, chooses")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 5, 0], help="of each class; 0 is all")
    parser.add_argument("--draws", type=int, default=3, help="of labels; all labels are drawn once")
    parser.add_argument(
        "--stages", nargs="+", default=["supervised", "probe", "finetune"], choices=["supervised", "probe", "finetune"]
    )
    parser.add_argument("--out", type=Path, required=True, help="where pre-trained encoders are kept")
    parser.add_argument("--name", default="advised", help="of the settings")
    parser.add_argument("--init", help="an encoder to start from: a path or a name")
    parser.add_argument("--further", action="store_true", help="pre-train it on the set's own recordings first")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="change a setting")
    options = parser.parse_args()
    given = RecordingsConfig(labels=options.table and str(Path(options.table).absolute()), group=options.group)
    survey = survey_set(options.data, list_data(options.data, "train", labelled=True))

    def settings(stage: Any, labels: int, fold: int, seed: int) -> RunConfig:
        advice = advise(survey, stage=stage, labels_per_class=labels or None, compare=False)
        held = {"held_out": {"folds": options.folds, "fold": fold}, "seed": seed, "watch.samples": 0}
        config = with_values(advice.config, held | parse_changes(options.set))
        stages = ("finetune", "supervised")
        never = {name: getattr(config, name).model_copy(update={"validation": 0.0}) for name in stages}
        config = config.model_copy(update={"recordings": given, **never})
        if options.init is None:
            return config
        begun = {"init": options.init, "own_frames": True} if stage != "supervised" else {}
        return config.model_copy(update={"encoder": read_header(options.init).encoder, **begun})

    def say(seconds: float, **line: Any) -> None:
        print(json.dumps({"name": options.name, **line, "seconds": round(time.monotonic() - seconds)}), flush=True)

    for fold in options.only:
        weights, begun = None, time.monotonic()
        if {"probe", "finetune"} & {*options.stages}:
            config = settings("pretrain", 0, fold, 0)
            if options.init and not options.further:
                weights = best_weights(options.init)
            else:
                weights = pretrained(config, options.out / options.name / f"fold-{fold}")
                say(begun, stage="pretrain", fold=fold, set=options.set)
        for stage in options.stages:
            if stage == "probe" and weights:
                begun = time.monotonic()
                say(begun, stage=stage, fold=fold, **probes(config, weights))
                continue
            for labels in options.labels:
                for draw in range(options.draws if labels else 1):
                    begun = time.monotonic()
                    run = settings("all" if stage == "finetune" else stage, labels, fold, draw)
                    run = run.model_copy(update={"stage": stage, "init": str(weights) if stage == "finetune" else None})
                    say(
                        begun,
                        stage=stage,
                        fold=fold,
                        labels=labels,
                        draw=draw,
                        accuracy=round(accuracy(run), 4),
                        set=options.set,
                    )


if __name__ == "__main__":
    main()
