"""Figures of spikes and energy of a classifier: measured for a checkpoint, those of its report for a Loihi export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from neuromoco.datasets import Listing, frames_of
from neuromoco.evaluation.accuracy import BATCH, frame_batches
from neuromoco.support.files import read_json

if TYPE_CHECKING:
    from neuromoco.runtime.checkpoint_file import TrainedClassifier


class SpikeFigures(NamedTuple):
    """A table of figures: its heading, rows, and what they rest on."""

    head: tuple[str, str]
    rows: tuple[tuple[str, str], ...]
    note: str


def checkpoint_spikes(model: TrainedClassifier, listing: Listing) -> SpikeFigures:
    """The spike rate of each layer on the first recordings of a listing."""
    from neuromoco.evaluation.features import spike_rates

    frames = frames_of(listing, model.header.frames).store.frames
    count = min(BATCH, len(frames))
    with spike_rates(model.network.encoder) as rates:
        for batch in frame_batches(frames, range(count)):
            model.frame_logits(batch)
    rows = tuple((name, f"{rate:.4f}") for name, rate in rates.items())
    return SpikeFigures(("layer", "spikes a neuron and step"), rows, f"Mean of {count:,} recordings.")


def loihi_spikes(folder: Path) -> SpikeFigures | None:
    """What the report of a Loihi export says; None if it has none."""
    file = folder / "report.json"
    if not file.is_file():
        return None
    total = read_json(file).get("total", {})
    known = {"operations": ("synaptic operations", 1.0, ""), "energy_nj": ("energy, estimated", 1e-3, " uJ")}
    rows = tuple(
        (words, f"{factor * total[name]:,.1f}{unit}")
        for name, (words, factor, unit) in known.items()
        if isinstance(total.get(name), int | float)
    )
    note = "Estimates of the comparison at the export; nothing was measured on a chip."
    return SpikeFigures(("", "a recording"), rows, note)
