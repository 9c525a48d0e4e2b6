"""The demo: every step from pre-training to classification on the built-in recordings."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from neuromoco.app.cli.arguments import RUNS, free_folder
from neuromoco.app.cli.plots import draw_frames
from neuromoco.config import with_values
from neuromoco.datasets import Listing, list_data
from neuromoco.errors import ConfigError
from neuromoco.evaluation.accuracy import evaluate
from neuromoco.events import read_recording, write_atis
from neuromoco.frames import to_frames
from neuromoco.recipes import load_recipe
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.support.console import console
from neuromoco.support.figures import draw_curves
from neuromoco.support.files import write_json
from neuromoco.train import train
from neuromoco.train.run_folder import RunFolder

RECIPE = "demo"
SCRATCH, PRETRAINED = "from scratch", "pre-trained"
STAGES: dict[str, Literal["finetune", "supervised"]] = {PRETRAINED: "finetune", SCRATCH: "supervised"}
DRAWS = 4  # of the labelled recordings: with so few, much depends on which they are


def run_demo(folder: Path | None, seed: int) -> dict[str, Any]:
    """Pre-trains; fine-tunes and trains from scratch on several draws of labels, measures, and classifies a file.

    In each draw both learn from the same labelled recordings. Their last epochs are measured once, on recordings that
    no stage has used. The result is what `results.json` holds.
    """
    started = time.monotonic()
    folder = folder or free_folder(RUNS / "demo")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists already; give another --out")
    config = with_values(load_recipe(RECIPE), {"seed": seed})
    train(with_values(config, {"stage": "pretrain"}), folder / "pretrain")
    init = str(RunFolder(folder / "pretrain").last)
    for draw, (name, stage) in itertools.product(range(DRAWS), STAGES.items()):
        own = {"stage": stage, "seed": (seed * DRAWS + draw) % 2**32, "init": init if name == PRETRAINED else None}
        train(with_values(config, own), _run(folder, name, draw).path)
    test = list_data(config.labelled_data, "test")
    console.print("measuring the classifiers on the held-out recordings")
    found = {name: [_accuracy(_run(folder, name, draw), test) for draw in range(DRAWS)] for name in STAGES}
    result = {
        "encoder": config.encoder.name,
        "data": "scikit-learn digits recorded with a simulated event camera",
        "labels_per_class": config.finetune.labels_per_class,
        "draws": DRAWS,
        "test_recordings": len(test),
        "seed": seed,
        "results": {name: {**_mean(values), "accuracies": values} for name, values in found.items()},
        "difference": _mean([tuned - alone for tuned, alone in zip(found[PRETRAINED], found[SCRATCH], strict=True)]),
        "prediction": _classify_one(folder, test, TrainedClassifier(_run(folder, PRETRAINED, 0).last)),
        "folder": str(folder),
        "seconds": time.monotonic() - started,
    }
    _draw_curves(folder)
    write_json(folder / "results.json", result)
    return result


def _run(folder: Path, name: str, draw: int) -> RunFolder:
    return RunFolder(folder / f"{STAGES[name]}-{draw + 1}")


def _accuracy(run: RunFolder, test: Listing) -> float:
    return evaluate(TrainedClassifier(run.last), test).accuracy


def _mean(values: Sequence[float]) -> dict[str, float]:
    """Mean and its standard error over the draws."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return {"accuracy": statistics.mean(values), "standard_error": error}


def _classify_one(folder: Path, test: Listing, classifier: TrainedClassifier) -> dict[str, Any]:
    """Writes one held-out recording to a file, reads it back and classifies it, as a user would."""
    chosen = len(test) // 2
    file = folder / "recording.bin"
    write_atis(file, read_recording(test.paths[chosen]))
    recording = read_recording(file)
    (answer,) = classifier.predict([recording])
    truth = test.class_names[test.labels[chosen]]
    cut = classifier.header.frames
    draw_frames(folder / "frames.png", to_frames(recording, cut.steps, cut.slice_by), f"{file.name}: a {truth}")
    return {"file": str(file), "truth": truth, **answer.to_json()}


def _draw_curves(folder: Path) -> None:
    pretraining = folder / "pretrain"
    panels = {
        "pre-training loss, no labels": _curves(pretraining, "loss", "mbc", "mac"),
        "pre-training, signs of learning": _curves(pretraining, "accuracy", "feature_std", "knn_accuracy"),
        "loss on the labelled recordings, first draw": {
            name: _curves(_run(folder, name, 0).path, "loss")["loss"] for name in STAGES
        },
    }
    draw_curves(folder / "curves.png", panels, "neuromoco demo")


def _curves(run: Path, *names: str) -> dict[str, list[Any]]:
    history = RunFolder(run).history()
    return {name: [epoch.get(name) for epoch in history] for name in names}
