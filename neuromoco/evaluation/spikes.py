"""Figures of spikes and energy of a classifier: measured for a checkpoint, those of its report for a Loihi export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neuromoco.datasets import Listing, frames_of
from neuromoco.evaluation.accuracy import BATCH, frame_batches
from neuromoco.support.files import read_json

if TYPE_CHECKING:
    from neuromoco.runtime.checkpoint_file import TrainedClassifier


def checkpoint_spikes(model: TrainedClassifier, listing: Listing) -> dict[str, str]:
    """The spike rate of each layer on the first recordings of a listing."""
    from neuromoco.evaluation.features import spike_rates

    frames = frames_of(listing, model.header.frames).store.frames
    count = min(BATCH, len(frames))
    with spike_rates(model.network.encoder) as rates:
        for batch in frame_batches(frames, range(count)):
            model.frame_logits(batch)
    unit = f"spikes a neuron and step, on {count} recordings"
    return {name: f"{rate:.4f} {unit}" for name, rate in rates.items()}


def loihi_spikes(folder: Path) -> dict[str, str]:
    """What the report of a Loihi export says; nothing if it has none."""
    file = folder / "report.json"
    if not file.is_file():
        return {}
    total = read_json(file).get("total", {})
    known = {"operations": ("synaptic operations", 1.0, ""), "energy_nj": ("energy, estimated", 1e-3, " uJ")}
    return {
        words: f"{factor * total[name]:,.1f}{unit} a recording, in the comparison of the export"
        for name, (words, factor, unit) in known.items()
        if isinstance(total.get(name), int | float)
    }
