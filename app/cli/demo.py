"""The demo: every step from pre-training to classification on the built-in recordings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

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


def run_demo(folder: Path | None, seed: int) -> dict[str, Any]:
    """Pre-trains, fine-tunes, trains from scratch, measures both classifiers and classifies a file.

    Both classifiers train on the same labelled recordings for the same number of epochs. Their last epoch is
    measured once, on recordings that no stage has used. The result is what `results.json` holds.
    """
    started = time.monotonic()
    folder = folder or free_folder(RUNS / "demo")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists already; give another --out")
    config = with_values(load_recipe(RECIPE), {"seed": seed, "compare": False})  # it compares on held-out recordings
    runs = {PRETRAINED: folder / "pretrained", SCRATCH: folder / "scratch"}
    train(config, runs[PRETRAINED])
    train(config.model_copy(update={"stage": "supervised", "supervised": config.finetune}), runs[SCRATCH])
    last = {PRETRAINED: RunFolder(runs[PRETRAINED] / "finetune").last, SCRATCH: RunFolder(runs[SCRATCH]).last}
    test = list_data(config.labelled_data, "test")
    console.print("measuring both classifiers on the held-out recordings")
    results = {name: evaluate(TrainedClassifier(path), test).to_json() for name, path in last.items()}
    result = {
        "encoder": config.encoder.name,
        "data": "scikit-learn digits recorded with a simulated event camera",
        "labels_per_class": config.finetune.labels_per_class,
        "test_recordings": results[SCRATCH]["recordings"],
        "seed": seed,
        "results": results,
        "prediction": _classify_one(folder, test, TrainedClassifier(last[PRETRAINED])),
        "folder": str(folder),
        "seconds": time.monotonic() - started,
    }
    _draw_curves(folder, runs)
    write_json(folder / "results.json", result)
    return result


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


def _draw_curves(folder: Path, runs: dict[str, Path]) -> None:
    pretrained, scratch = runs[PRETRAINED], runs[SCRATCH]
    panels = {
        "pre-training loss, no labels": _curves(pretrained / "pretrain", "loss", "mbc", "mac"),
        "pre-training, signs of learning": _curves(pretrained / "pretrain", "accuracy", "feature_std"),
        "accuracy on the labelled training recordings": {
            PRETRAINED: _curves(pretrained / "finetune", "accuracy")["accuracy"],
            SCRATCH: _curves(scratch, "accuracy")["accuracy"],
        },
    }
    draw_curves(folder / "curves.png", panels, "neuromoco demo")


def _curves(run: Path, *names: str) -> dict[str, list[Any]]:
    history = RunFolder(run).history()
    return {name: [epoch[name] for epoch in history] for name in names}
