"""What 8 bits cost: the quantised file beside the float one, on recordings that calibrated neither."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from neuromoco.datasets import list_recordings
from neuromoco.errors import ConfigError
from neuromoco.events import read_recording
from neuromoco.export.graph import Graph
from neuromoco.export.quantize_int8 import calibrate, quantize
from neuromoco.export.to_onnx import unrolled
from neuromoco.onnx_header import ExportHeader
from neuromoco.onnx_network import Floats, OnnxNetwork

LEAST = 4  # recordings, half of which calibrate
MOST = 200  # recordings of either half
BATCH = 16
LARGEST_LOSS = 0.02  # of accuracy, where classes are known
LEAST_AGREEMENT = 0.95  # share of recordings with the same answer


class Samples(NamedTuple):
    """Recordings with the class of each as an index, or None where it is not known."""

    paths: list[Path]
    labels: list[int | None]


def split_samples(folder: Path, class_names: Sequence[str]) -> tuple[Samples, Samples]:
    """Recordings to calibrate on and others to judge by, of a flat folder or one of class folders.

    Raises:
        ConfigError: no such folder, or too few recordings in it.
    """
    listing = list_recordings(folder, labelled=False)
    if len(listing) < LEAST:
        raise ConfigError(
            f"{folder}: {len(listing)} recordings; 8 bits need at least {LEAST}, half of them to calibrate"
        )
    known = bool(listing.labels) and set(listing.class_names) <= set(class_names)
    labels = [
        class_names.index(listing.class_names[i]) if known else None for i in listing.labels or [0] * len(listing)
    ]
    halves = []
    for first in (0, 1):
        indices = np.arange(first, len(listing), 2)
        chosen = indices[np.unique(np.linspace(0, len(indices) - 1, min(MOST, len(indices))).round().astype(int))]
        halves.append(Samples([listing.paths[i] for i in chosen], [labels[i] for i in chosen]))
    return halves[0], halves[1]


def quantize_and_compare(
    graph: Graph, header: ExportHeader, model: onnx.ModelProto, folder: Path
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A float model with 8-bit synapses, and how it compares.

    Args:
        graph: what the model was written from.
        header: what the model says of itself.
        model: unrolled, from frames or events.
        folder: recordings; every second one calibrates.

    Returns:
        The quantised model, and the figures for the report; "problem" says why it is not good enough, or is None.

    Raises:
        ConfigError: too few recordings.
        EventFileError: one cannot be read.
    """
    calibration, judged = split_samples(folder, header.class_names)
    plain = header.model_copy(update={"input": "frames"})
    tapped = unrolled(graph, plain, taps=True)
    floats = OnnxNetwork(tapped.SerializeToString())
    ranges = calibrate(unrolled(graph, plain), _batches(floats, calibration.paths))
    quantized = quantize(model, header, ranges)
    bytes_ = OnnxNetwork(quantize(tapped, plain, ranges).SerializeToString())
    names = [node.name for node in graph.neurons]
    answers: dict[str, list[Any]] = {"float32": [], "int8": []}
    spikes, differ, compared = np.zeros((2, len(names))), np.zeros(len(names)), np.zeros(len(names))
    for batch in _batches(floats, judged.paths):
        found = [network.run({"frames": batch}) for network in (floats, bytes_)]
        for key, outputs in zip(answers, found, strict=True):
            answers[key] += outputs["logits"].argmax(1).tolist()
        for i, name in enumerate(names):
            a, b = (outputs[name] for outputs in found)
            spikes[:, i] += a.sum(), b.sum()
            differ[i] += (a != b).sum()
            compared[i] += a.size
    figures = {
        "calibrated_on": len(calibration.paths),
        "recordings": len(judged.paths),
        "agreement": float(np.mean(np.equal(answers["float32"], answers["int8"]))),
        "accuracy": None if None in judged.labels else {k: _accuracy(a, judged.labels) for k, a in answers.items()},
        "bytes": {"float32": model.ByteSize(), "int8": quantized.ByteSize()},
        "layers": [
            {"name": n, "rate_float32": float(a), "rate_int8": float(b), "differ": float(d)}
            for n, a, b, d in zip(names, *(spikes / compared), differ / compared, strict=True)
        ],
        "allowed": {"loss": LARGEST_LOSS, "agreement": LEAST_AGREEMENT},
    }
    return quantized, {**figures, "problem": _problem(figures)}


def _batches(network: OnnxNetwork, paths: Sequence[Path]) -> Iterator[Floats]:
    for start in range(0, len(paths), BATCH):
        yield network.frames([read_recording(path) for path in paths[start : start + BATCH]])


def _accuracy(answers: Sequence[int], labels: Sequence[int | None]) -> float:
    return float(np.mean(np.equal(answers, np.array(labels))))


def _problem(figures: dict[str, Any]) -> str | None:
    accuracy, agreement = figures["accuracy"], figures["agreement"]
    what = None
    if accuracy is not None and accuracy["float32"] - accuracy["int8"] > LARGEST_LOSS:
        what = (
            f"accuracy falls from {accuracy['float32']:.1%} to {accuracy['int8']:.1%}; {LARGEST_LOSS:.0%} are allowed"
        )
    elif agreement < LEAST_AGREEMENT:
        what = f"answers agree with float32 on {agreement:.1%}; at least {LEAST_AGREEMENT:.0%} must"
    return what and f"int8: {what}; give more recordings to calibrate on, or keep float32"
