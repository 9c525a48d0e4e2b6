"""Whether an export answers as its source does, layer by layer.

Rounding differs between torch and other runtimes. Where a membrane is within rounding of the threshold, a spike may
flip, and flips others in later layers. So differing spikes are counted, and the export of a recording on which anything
differs is judged by the graph: each of its layers must compute what the graph computes from what came into it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuromoco import models
from neuromoco.checkpoint import CheckpointHeader
from neuromoco.datasets.prepare import recordings_of
from neuromoco.datasets.samples import read_options
from neuromoco.datasets.settle import settle_files
from neuromoco.errors import EventFileError
from neuromoco.events import Recording, read_recording
from neuromoco.export.check.accuracy_loss import parts_of
from neuromoco.export.exporter import ExportJob
from neuromoco.frames import cropped, filled_part_of
from neuromoco.graph.judge import ROUNDING, judge
from neuromoco.graph.layout import EACH, MEAN, Sizes, Value
from neuromoco.graph.nodes import Graph
from neuromoco.graph.taps import RESULT
from neuromoco.runtime.prediction import Floats
from neuromoco.support.files import files_in
from neuromoco.support.sampling import evenly_spaced

TOLERANCE = 1e-4  # of logits where no spike flipped
MOST_JUDGED = 4  # recordings that the graph computes too, which takes seconds each for large networks
LARGEST = 50  # real recordings in a comparison
NOISE = 4  # recordings of noise in a comparison


@dataclass(frozen=True)
class LayerParity:
    """Spikes of one layer of neurons."""

    name: str
    rate: float  # spikes per neuron and step in the source
    compared: int  # neurons x steps x recordings
    flipped: int  # number of those that differ


@dataclass(frozen=True)
class Parity:
    """How an export compares with its source."""

    recordings: int
    largest_error: float  # of a logit, mean over time
    largest_error_without_flips: float | None  # on recordings on which no spike flipped; None if there are none
    recordings_with_flips: int
    agreement: float  # share of recordings with the same answer
    layers: tuple[LayerParity, ...]
    judged: int = 0  # recordings on which something differs, and of which the graph judged every layer
    problem: str | None = None  # why the export is not good enough

    @property
    def flipped(self) -> float:
        """Share of all compared spikes and silences that differ."""
        return sum(layer.flipped for layer in self.layers) / max(1, sum(layer.compared for layer in self.layers))

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        allowed = {"tolerance": TOLERANCE, "rounding": ROUNDING}
        return {**asdict(self), "flipped": self.flipped, "allowed": allowed}


@dataclass
class SpikeCounts:
    """Spikes of a layer of neurons in a network and in its export, added up over recordings."""

    compared: int = 0  # neurons x steps x recordings
    source: int = 0
    export: int = 0
    differ: int = 0  # how many of those compared are not the same

    def add(self, source: NDArray[Any], export: NDArray[Any]) -> int:
        """Counts the spikes of more recordings; returns how many differ."""
        differ = int(np.count_nonzero(source.reshape(export.shape) != export))
        self.compared += export.size
        self.source += int(np.count_nonzero(source))
        self.export += int(np.count_nonzero(export))
        self.differ += differ
        return differ


class ExportRun(NamedTuple):
    """What an export computes for one recording."""

    frames: Floats  # [T, 1, P, H, W]
    logits: Floats  # [T, 1, classes]
    spikes: Mapping[str, Floats]  # [T, 1, ...] by layer of neurons
    spikes_logits: Floats | None = None  # of the network that the spikes are from, where that is not the export itself


def measure_parity(classifier: nn.Module, graph: Graph, runs: Iterable[ExportRun]) -> Parity:
    """Compares what an export of a graph computed for at least one recording with what torch computes."""
    names = [node.name for node in graph.neurons]
    counts = {name: SpikeCounts() for name in names}
    errors, same_answer, clean = [], [], []
    judged, problem = 0, None
    for run in runs:
        source_logits, source_spikes = run_source(classifier, graph, run.frames)
        flipped = sum([counts[name].add(source_spikes[name], run.spikes[name]) for name in names])
        error = logit_error(run.logits, source_logits)
        tolerance = TOLERANCE * max(1.0, float(np.abs(source_logits).max()))
        if run.spikes_logits is not None:
            own = logit_error(run.spikes_logits, run.logits)
            error = error if flipped else max(error, own)
            if not own <= tolerance:
                problem = problem or f"logits differ by {own:.2g} from those of its own layers"
        if (flipped or not error <= tolerance) and judged < MOST_JUDGED:
            judged += 1
            problem = problem or _wrong_layer(graph, run)
        errors.append(error)
        same_answer.append(run.logits.mean(0).argmax() == source_logits.mean(0).argmax())
        clean.append(not flipped)
    return Parity(
        recordings=len(errors),
        largest_error=max(errors),
        largest_error_without_flips=max(itertools.compress(errors, clean), default=None),
        recordings_with_flips=clean.count(False),
        agreement=float(np.mean(same_answer)),
        layers=tuple(LayerParity(n, c.source / c.compared, c.compared, c.differ) for n, c in counts.items()),
        judged=judged,
        problem=problem,
    )


def _wrong_layer(graph: Graph, run: ExportRun) -> str | None:
    """The first layer of an export that computes something else from what came into it, rounding aside."""
    found = {graph.input.name: run.frames, **run.spikes}
    found[graph.output.name] = run.logits if run.spikes_logits is None else run.spikes_logits
    shaped = {name: values.reshape(*run.frames.shape[:2], *graph[name].shape) for name, values in found.items()}
    wrong = next((verdict for verdict in judge(graph, shaped) if verdict.problem), None)
    return f"{wrong.name}: {wrong.problem}, which rounding does not explain" if wrong else None


def logit_error(export: NDArray[np.floating[Any]], source: NDArray[np.floating[Any]]) -> float:
    """Largest difference between logits [T, N, classes], mean over time."""
    return float(np.abs(export.mean(0) - source.mean(0)).max())


def parity_summary(report: Mapping[str, Any]) -> str:
    """The recordings and figures of a comparison, in half a line."""
    compared, parity = report["compared"], report["parity"]
    flipped, total = (sum(layer[name] for layer in parity["layers"]) for name in ("flipped", "compared"))
    return (
        f"{compared['recordings']} recordings and {compared['noise']} of noise: largest logit error "
        f"{parity['largest_error']:.1e}, same answer on {parity['agreement']:.1%}, {flipped:,} of {total:,} spikes and "
        "silences differ" + (", each by rounding alone" if flipped else "")
    )


def comparison_recordings(job: ExportJob) -> list[Recording]:
    """Noise, and the recordings of a job: those given, else at most 50 of its data or the bundled ones."""
    recordings = job.recordings
    if recordings is None:
        recordings = _recordings_in(job.data, job) if job.data else bundled_recordings(job.header)
    return [*random_recordings(job.classifier.header), *recordings]


def bundled_recordings(header: CheckpointHeader) -> list[Recording]:
    """The recordings that ship with the package; noise for a network that uses a part of a sensor that they lack."""
    bundled = [read_recording(file) for file in evenly_spaced(models.example_paths(), LARGEST)]
    try:
        return bundled if all(len(cropped(one, header.frames)) for one in bundled) else random_recordings(header)
    except EventFileError:
        return random_recordings(header)


def _recordings_in(data: Path, job: ExportJob) -> list[Recording]:
    """At most 50 recordings of a file or a folder, read as the training recordings were unless said otherwise."""
    if data.is_dir() and not any(entry.is_file() for entry in data.glob("*/*/*")):
        parts = parts_of(data, job)[1]
        return [recording for part in evenly_spaced(parts, LARGEST) for recording in recordings_of(part)]
    files = evenly_spaced(files_in([data]), LARGEST)
    options, crop = settle_files(files, job.header.read_options(read_options(job.reading)), job.crop)
    return [filled_part_of(read_recording(file, options=options), crop, file) for file in files]


def random_recordings(header: CheckpointHeader, count: int = NOISE) -> list[Recording]:
    """Recordings of noise, as long and as dense as those of the training."""
    rng, seen = np.random.default_rng(0), header.seen
    height, width = seen.sensor or (header.frames.height, header.frames.width)
    recordings = []
    for _ in range(count):
        events = int(rng.integers(seen.fewest_events, seen.most_events + 1))
        t = np.sort(rng.integers(0, seen.longest_us + 1, events))
        x, y, p = (rng.integers(0, limit, events) for limit in (width, height, 2))
        recordings.append(Recording.from_columns(t, x, y, p, width=width, height=height))
    return recordings


@torch.inference_mode()
def run_source(classifier: nn.Module, graph: Graph, frames: Floats) -> tuple[Floats, dict[str, Floats]]:
    """A source's logits [T, N, classes] of frames [T, N, P, H, W], and its spikes [T, N, ...] by layer of neurons.

    The logits of a source that returns their mean over time are [1, N, classes]. `graph` is that which the source was
    traced into.
    """
    sizes, modules = Sizes(*frames.shape[:2]), dict(classifier.eval().named_modules())
    calls: dict[str, list[Tensor]] = {node.name: [] for node in graph.neurons}
    with ExitStack() as hooks:
        for name in calls:
            tap = graph.taps[name]

            def keep(_: nn.Module, __: Any, result: Any, name: str = name) -> None:
                spikes = result[0] if isinstance(result, tuple) else result  # others are membranes
                calls[name].append(spikes.clone())  # what follows may add to it in place

            hooks.callback(modules[tap.path].register_forward_hook(keep).remove)
        result = classifier(torch.from_numpy(frames))
    tap = graph.taps[RESULT]
    logits = sizes.array(Value(graph.output, tap.axes, MEAN if tap.is_mean else EACH), result)  # type: ignore[arg-type]
    return logits, {name: _spikes(graph, name, results, sizes) for name, results in calls.items()}


def _spikes(graph: Graph, name: str, results: list[Tensor], sizes: Sizes) -> Floats:
    """The spikes [T, N, *shape] of neurons that returned them at once, or step by step."""
    node, axes = graph[name], graph.taps[name].axes
    if axes is None:
        return results[0].numpy().reshape(sizes.steps, sizes.batch, *node.shape)
    value = Value(node, axes)  # type: ignore[arg-type]
    return np.concatenate([sizes.array(value, result) for result in results])
