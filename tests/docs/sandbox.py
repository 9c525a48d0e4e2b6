"""The folder in which the documentation runs: the files that it names, small enough to train on in a second."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from neuromoco.app.cli.main import app
from neuromoco.events.writers import WRITERS
from tests.conftest import make_recording
from tests.docs.pages import ROOT

# Added to every documented line that trains; a run that begins with --init has the network and frames of that.
NETWORK = ["--set=frames={steps: 2, height: 12, width: 12}", "--set=encoder.options={width: 4}"]
SMALL = [
    "--set=pretrain.moco={embed_dim: 8, hidden_dim: 8, queue_size: 10}",
    *(f"--set={stage}.epochs=1" for stage in ("pretrain", "finetune", "supervised")),
    *(f"--set={stage}.batch_size=8" for stage in ("pretrain", "finetune", "supervised")),
    "--set=finetune.validation=0.25",
]
NOT_TRAINED = ("--resume", "--dry-run", "--print-config")


def run_line(words: list[str]) -> None:
    """Runs what follows `neuromoco` on a line; whatever its --out names may be there already."""
    if "--out" in words:
        out = Path(words[words.index("--out") + 1])
        if out.is_dir():
            shutil.rmtree(out)
        out.unlink(missing_ok=True)
    if words[0] == "train" and not set(NOT_TRAINED) & set(words):
        words = [*words, *([] if "--init" in words else NETWORK), *SMALL]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"neuromoco {' '.join(words)}\n{result.output}\n{result.exception!r}"


def write_recordings(folder: Path, label: int, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        WRITERS["atis"](folder / f"{number:03d}.bin", make_recording(label * 1000 + number, label=label))


def prepare(folder: Path) -> None:
    """Writes the recordings that the pages name, and links the model that ships with the package."""
    for name in ("models", "docs", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    write_recordings(folder / "unlabelled", 0, 16)
    write_recordings(folder / "recordings", 1, 3)
    for label, name in enumerate(("walk", "run")):
        write_recordings(folder / "labelled" / name, label, 8)
        write_recordings(folder / "test" / name, label + 2, 2)
        write_recordings(folder / "N-MNIST/Train" / str(label), label, 8)
    recording = make_recording(0)
    WRITERS["aedat4"](folder / "walk.aedat4", recording)
    for name in ("walk.raw", "night.raw"):
        WRITERS["evt3"](folder / name, recording)
    rows = np.stack([recording.t, recording.x, recording.y, recording.p], axis=1)
    np.savetxt(folder / "old.csv", rows, fmt="%d", delimiter=",")
    (folder / "pictures").mkdir()
    Image.fromarray(np.tri(28, dtype=np.uint8) * 255).save(folder / "pictures/triangle.png")


def prepare_runs() -> None:
    """Makes the runs that the pages name, in the working folder."""
    weights = "runs/pre/weights/last.safetensors"
    train = ["train", "--quiet", "--stage"]
    run_line([*train, "pretrain", "--data", "unlabelled", "--out", "runs/pre"])
    run_line([*train, "finetune", "--init", weights, "--data", "labelled", "--out", "runs/tuned"])
