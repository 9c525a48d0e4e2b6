"""A Loihi export in Lava's simulator, beside the integer twin: every spike of every layer, every logit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.errors import MissingPackageError, NeuromocoError
from neuromoco.events import read_recording
from neuromoco.export.loihi_folder import TwinNetwork
from neuromoco.export.loihi_graph import LARGEST_MESSAGE
from neuromoco.export.loihi_twin import run

SCRIPT = "run_lava.py"
NOT_INSTALLED = 2  # the exit code of the script


def verify_folder(folder: Path, files: Sequence[Path], most: int) -> dict[str, Any]:
    """Runs the folder's own script in a process of its own, and compares.

    Args:
        folder: a Loihi export.
        files: recordings.
        most: at most so many of them are run, evenly chosen.

    Returns:
        "recordings", "layers" (name, spikes, compared, differ), "logits_differ", "seconds" and "problem", a line or
        None.

    Raises:
        CheckpointError: no such export.
        EventFileError: a recording cannot be read.
        MissingPackageError: Lava is not installed.
        NeuromocoError: Lava failed.
    """
    twin = TwinNetwork(folder)
    if not (folder / SCRIPT).is_file():
        raise NeuromocoError(f"{folder}: has no {SCRIPT}; export it again with neuromoco export --target loihi")
    chosen = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int))
    frames = twin.frames([read_recording(files[index]) for index in chosen])
    begin = time.perf_counter()
    lava = _in_lava(folder, np.minimum(frames, LARGEST_MESSAGE).astype(np.uint8))
    seconds = time.perf_counter() - begin
    found = run(twin.graph, frames, keep=lambda _: True)
    layers: list[dict[str, Any]] = []
    for layer in twin.manifest.layers:
        if layer.kind in ("input", "readout"):
            continue
        ours, theirs = found.spikes[layer.name], lava[f"spikes/{layer.index}"]
        differ = int(np.count_nonzero(ours != theirs))
        layers.append({"name": layer.name, "spikes": int(ours.sum()), "compared": ours.size, "differ": differ})
    logits_differ = int(np.count_nonzero(found.logits.sum(0) != lava["logits"]))
    differ = sum(layer["differ"] for layer in layers)
    wrong = differ or logits_differ
    return {
        "recordings": len(chosen),
        "layers": layers,
        "logits_differ": logits_differ,
        "seconds": seconds,
        "problem": f"{differ} spikes and {logits_differ} logits of Lava differ from the twin's" if wrong else None,
    }


def _in_lava(folder: Path, frames: Any) -> dict[str, Any]:
    """What run_lava.py gives for frames [T, N, P, H, W]."""
    with tempfile.TemporaryDirectory() as place:
        given, answer = Path(place) / "frames.npz", Path(place) / "answer.npz"
        np.savez_compressed(given, frames=frames)
        words = [sys.executable, str(folder / SCRIPT), "--frames", str(given), "--out", str(answer), "--taps"]
        done = subprocess.run(words, capture_output=True, text=True)
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        if done.returncode == NOT_INSTALLED:
            raise MissingPackageError(last)
        if done.returncode or not answer.is_file():
            raise NeuromocoError(f"{folder}: {SCRIPT} ended with code {done.returncode}: {last}")
        with np.load(answer) as arrays:
            return dict(arrays)
