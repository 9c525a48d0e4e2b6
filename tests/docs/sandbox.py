"""The folder in which the documentation runs: the files that it names, small enough to train on in a second."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from neuromoco.app.cli.main import app
from neuromoco.events.writers import WRITERS
from tests.conftest import make_recording
from tests.docs.pages import ROOT
from tests.helpers.sequences import in_sequence

# Added to every documented line that trains; a run that begins with --init has the network and frames of that.
NETWORK = ["--set=frames={steps: 2, height: 12, width: 12}", "--set=encoder.options={width: 4}"]
SMALL = [
    "--set=pretrain.moco={embed_dim: 8, hidden_dim: 8, queue_size: 10}",
    *(f"--set={stage}.epochs=1" for stage in ("pretrain", "finetune", "supervised")),
    *(f"--set={stage}.batch_size=8" for stage in ("pretrain", "finetune", "supervised")),
    "--set=finetune.validation=0.25",
    "--set=watch.samples=0",
]
NOT_TRAINED = ("--resume", "--dry-run", "--print-config")
# Made first, because most pages begin with these runs.
RUNS = (
    "neuromoco train --stage pretrain --data unlabelled/ --out runs/pre",
    "neuromoco train --stage finetune --init runs/pre --data labelled/ --out runs/tuned",
)


class Sandbox:
    """Runs documented lines in the working folder, each once: what it wrote is there for the pages that repeat it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: set[str] = set()

    def run(self, line: str) -> None:
        """Runs a line that begins with `neuromoco`."""
        if line in self.done:
            return
        words = shlex.split(line)[1:]
        if words[0] == "train" and not set(NOT_TRAINED) & set(words):
            words += SMALL if "--init" in words else NETWORK + SMALL
        if "--out" in words:  # another line may have written there
            out = Path(words[words.index("--out") + 1])
            if out.is_dir():
                shutil.rmtree(out)
            out.unlink(missing_ok=True)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"neuromoco {shlex.join(words)}\n{result.output}\n{result.exception!r}"
        self.done.add(line)

    def prepare(self) -> None:
        """Writes recordings under the names of the pages, links the model of the package, and makes the runs."""
        folder = self.folder
        for name in ("models", "docs", "README.md"):
            (folder / name).symlink_to(ROOT / name)
        _write_recordings(folder / "unlabelled", 0, 16)
        _write_recordings(folder / "recordings", 1, 3)
        for label, name in enumerate(("walk", "run")):
            _write_recordings(folder / "labelled" / name, label, 8)
            _write_recordings(folder / "test" / name, label + 2, 2)
            _write_recordings(folder / "N-MNIST/Train" / str(label), label, 8)
        recording = make_recording(0)
        WRITERS["aedat4"](folder / "walk.aedat4", recording)
        for name in ("walk.raw", "night.raw"):
            WRITERS["evt3"](folder / name, recording)
        rows = np.stack([recording.t, recording.x, recording.y, recording.p], axis=1)
        np.savetxt(folder / "old.csv", rows, fmt="%d", delimiter=",")
        np.savetxt(folder / "named.csv", rows, fmt="%d", delimiter=",", header="When,x_px,y_px,bright", comments="")
        (folder / "pictures").mkdir()
        Image.fromarray(np.tri(28, dtype=np.uint8) * 255).save(folder / "pictures/triangle.png")
        (folder / "long").mkdir()
        in_sequence(folder / "long/monday.npz", "37373737", 250_000)
        for line in RUNS:
            self.run(line)


def _write_recordings(folder: Path, label: int, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        WRITERS["atis"](folder / f"{number:03d}.bin", make_recording(label * 1000 + number, label=label))
