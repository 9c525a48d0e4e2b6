"""What 8 bits cost: the quantised file beside the float one, on recordings that calibrated neither."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from neuromoco.events import read_recording
from neuromoco.export.check.accuracy_loss import LARGEST_LOSS, LEAST_AGREEMENT, accuracy, loss_problem, split_samples
from neuromoco.export.graph.nodes import Graph
from neuromoco.export.to_onnx.int8 import calibrate, quantize
from neuromoco.export.to_onnx.model import unrolled
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.onnx_file import Floats, OnnxNetwork

BATCH = 16


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
        "accuracy": None if None in judged.labels else {k: accuracy(a, judged.labels) for k, a in answers.items()},
        "bytes": {"float32": model.ByteSize(), "int8": quantized.ByteSize()},
        "layers": [
            {"name": n, "rate_float32": float(a), "rate_int8": float(b), "differ": float(d)}
            for n, a, b, d in zip(names, *(spikes / compared), differ / compared, strict=True)
        ],
        "allowed": {"loss": LARGEST_LOSS, "agreement": LEAST_AGREEMENT},
    }
    advice = "give more recordings to calibrate on, or keep float32"
    return quantized, {**figures, "problem": loss_problem(figures, "int8", advice)}


def _batches(network: OnnxNetwork, paths: Sequence[Path]) -> Iterator[Floats]:
    for start in range(0, len(paths), BATCH):
        yield network.frames([read_recording(path) for path in paths[start : start + BATCH]])
