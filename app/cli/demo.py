"""The demo: the whole chain on the built-in recordings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from neuromoco.app.cli.arguments import RUNS, free_folder
from neuromoco.app.cli.plots import draw_frames
from neuromoco.config import RunConfig, with_values
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
    """Pre-trains, fine-tunes, trains from scratch, measures both, classifies a file.

    Both classifiers see the same labelled recordings for the same number of epochs; their last epoch is
    measured, once, on recordings that no stage has seen.

    Args:
        folder: where to write; None takes a new folder in `runs/`.
        seed: of everything random.

    Returns:
        All figures, as written to `results.json`.

    Raises:
        ConfigError: the folder holds something already.
    """
    started = time.monotonic()
    folder = folder or free_folder(RUNS / "demo")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists already; give another --out")
    config = with_values(load_recipe(RECIPE), {"seed": seed})
    runs = {PRETRAINED: folder / "pretrained", SCRATCH: folder / "scratch"}
    train(config, runs[PRETRAINED])
    train(_from_scratch(config), runs[SCRATCH])
    last = {PRETRAINED: RunFolder(runs[PRETRAINED] / "finetune").last, SCRATCH: RunFolder(runs[SCRATCH]).last}
    test = list_data(config.labelled_data, "test")
    console.print("measuring both on the held-out recordings")
    results = {name: evaluate(TrainedClassifier(path), test).to_json() for name, path in last.items()}
    result = {
        "encoder": config.encoder.name,
        "data": "scikit-learn digits before a simulated event camera",
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


def _from_scratch(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"stage": "supervised", "supervised": config.finetune})


def _classify_one(folder: Path, test: Listing, classifier: TrainedClassifier) -> dict[str, Any]:
    """Takes one held-out recording the way of a user's file: written, read again, classified."""
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
    before = RunFolder(runs[PRETRAINED] / "pretrain").history()
    tuned = RunFolder(runs[PRETRAINED] / "finetune").history()
    scratch = RunFolder(runs[SCRATCH]).history()
    panels = {
        "pre-training loss, no labels": {name: [e[name] for e in before] for name in ("loss", "mbc", "mac")},
        "pre-training, signs of learning": {name: [e[name] for e in before] for name in ("accuracy", "feature_std")},
        "accuracy on the labelled training recordings": {
            PRETRAINED: [e["accuracy"] for e in tuned],
            SCRATCH: [e["accuracy"] for e in scratch],
        },
    }
    draw_curves(folder / "curves.png", panels, "neuromoco demo")
