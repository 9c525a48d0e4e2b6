"""Whether an export answers as its source does, layer by layer.

Rounding differs between torch and any other runtime. Where a membrane comes within rounding of the threshold a
spike may flip, and flips more of them in the layers that follow. So spikes are compared and counted, and
logits are held to the tolerance where no spike flipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuromoco.checkpoint import CheckpointHeader
from neuromoco.classifier import Classifier
from neuromoco.events import Recording, read_recording
from neuromoco.export.graph.nodes import Graph
from neuromoco.export.graph.trace import PREFIX
from neuromoco.export.to_onnx.model import unrolled
from neuromoco.runtime.onnx_file import Floats, OnnxNetwork

TOLERANCE = 1e-4  # of logits where no spike flipped
LARGEST_FLIPPED = 1e-3  # share of all spikes and silences
LARGEST = 50  # real recordings in a comparison
LEAST_AGREEMENT = 0.98  # share of recordings with the same answer


@dataclass(frozen=True)
class LayerParity:
    """Spikes of one layer of neurons.

    Attributes:
        name: of the layer.
        rate: spikes a neuron and step in the source.
        compared: neurons x steps x recordings.
        flipped: how many of these differ.
    """

    name: str
    rate: float
    compared: int
    flipped: int


@dataclass(frozen=True)
class Parity:
    """How an export compares with its source on S recordings.

    Attributes:
        recordings: S.
        largest_error: of a logit, mean over time.
        largest_error_without_flips: the same, of the recordings on which no spike flipped; None if there are none.
        recordings_with_flips: on how many a spike flipped.
        agreement: share of recordings with the same answer.
        layers: spikes layer by layer.
    """

    recordings: int
    largest_error: float
    largest_error_without_flips: float | None
    recordings_with_flips: int
    agreement: float
    layers: tuple[LayerParity, ...]

    @property
    def flipped(self) -> float:
        """Share of all compared spikes and silences that differ."""
        return sum(layer.flipped for layer in self.layers) / max(1, sum(layer.compared for layer in self.layers))

    @property
    def problem(self) -> str | None:
        """Why the export is not good enough, or None."""
        error = self.largest_error_without_flips
        if error is not None and error > TOLERANCE:
            return f"logits differ by {error:.2g} where all spikes are the same; at most {TOLERANCE:g} is allowed"
        if self.flipped > LARGEST_FLIPPED:
            return f"{self.flipped:.2%} of the spikes differ; at most {LARGEST_FLIPPED:.1%} are allowed"
        if self.agreement < LEAST_AGREEMENT:
            return f"answers agree on {self.agreement:.1%} of the recordings; at least {LEAST_AGREEMENT:.0%} must"
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        allowed = {"tolerance": TOLERANCE, "flipped": LARGEST_FLIPPED, "agreement": LEAST_AGREEMENT}
        return {**asdict(self), "flipped": self.flipped, "allowed": allowed, "problem": self.problem}


def compare(classifier: Classifier, graph: Graph, exported: OnnxNetwork, recordings: Sequence[Recording]) -> Parity:
    """Runs recordings through torch and through an exported file.

    Spikes are those of the unrolled network with every layer as an output; that it gives the logits of the
    exported file is part of the comparison.

    Args:
        classifier: the source, on the CPU.
        graph: what the file was written from.
        exported: the file.
        recordings: at least one.
    """
    plain = exported.header.model_copy(update={"target": "onnx", "input": "frames", "states": ()})
    tapped = OnnxNetwork(unrolled(graph, plain, taps=True).SerializeToString())
    names = [node.name for node in graph.neurons]
    flipped, spikes, compared = (np.zeros(len(names), np.int64) for _ in range(3))
    errors, same_answer, clean = [], [], []
    for recording in recordings:
        frames = tapped.frames([recording])
        wanted, wanted_spikes = run_source(classifier, frames, names)
        found = tapped.run({"frames": frames})
        answer = exported.logits([recording])
        counts = [(found[n] != wanted_spikes[n].reshape(found[n].shape)).sum() for n in names]
        flipped += counts
        spikes += [int(wanted_spikes[n].sum()) for n in names]
        compared += [wanted_spikes[n].size for n in names]
        errors.append(max(_error(answer, wanted), _error(found["logits_per_step"], answer) if not any(counts) else 0.0))
        same_answer.append(answer.mean(0).argmax() == wanted.mean(0).argmax())
        clean.append(not any(counts))
    layers = (
        LayerParity(name, float(s / c), int(c), int(f))
        for name, s, c, f in zip(names, spikes, compared, flipped, strict=True)
    )
    without = [error for error, is_clean in zip(errors, clean, strict=True) if is_clean]
    return Parity(
        recordings=len(recordings),
        largest_error=max(errors),
        largest_error_without_flips=max(without, default=None),
        recordings_with_flips=clean.count(False),
        agreement=float(np.mean(same_answer)),
        layers=tuple(layers),
    )


def random_recordings(header: CheckpointHeader, count: int, seed: int = 0) -> list[Recording]:
    """Recordings of noise, as long and as dense as those of the training."""
    rng, seen = np.random.default_rng(seed), header.seen
    height, width = seen.sensor or (header.frames.height, header.frames.width)
    made = []
    for _ in range(count):
        events = int(rng.integers(seen.fewest_events, seen.most_events + 1))
        t = np.sort(rng.integers(0, seen.longest_us + 1, events))
        x, y, p = (rng.integers(0, limit, events) for limit in (width, height, 2))
        made.append(Recording.from_columns(t, x, y, p, width=width, height=height))
    return made


def some_recordings(files: Sequence[Path]) -> list[Recording]:
    """At most so many of the files as a comparison takes, evenly chosen.

    Raises:
        EventFileError: one of these cannot be read.
    """
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), LARGEST)).round().astype(int))
    return [read_recording(files[index]) for index in chosen]


def _error(answer: Floats, wanted: Floats) -> float:
    """Of the mean over time."""
    return float(np.abs(answer.mean(0) - wanted.mean(0)).max())


@torch.inference_mode()
def run_source(
    classifier: Classifier, frames: Floats, names: Sequence[str]
) -> tuple[Floats, dict[str, NDArray[np.float32]]]:
    """A source's logits [T, N, classes] of frames [T, N, P, H, W], and its spikes [T, N, ...] by layer of neurons."""
    with _spikes(classifier.eval(), names) as seen:
        logits = classifier(torch.from_numpy(frames)).numpy()
    return logits, {name: seen[name].numpy() for name in names}


@contextmanager
def _spikes(classifier: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Fills a dictionary with what the layers of neurons of a graph give."""
    seen: dict[str, Tensor] = {}
    modules = dict(classifier.named_modules())
    with ExitStack() as hooks:
        for name in names:
            module = modules[PREFIX + name] if PREFIX + name in modules else modules[name]

            def keep(_: nn.Module, __: Any, result: Tensor, name: str = name) -> None:
                seen[name] = result

            hooks.callback(module.register_forward_hook(keep).remove)
        yield seen
