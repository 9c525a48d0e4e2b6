"""What 8 bits cost: the quantized network compared with the float32 one, on recordings that did not calibrate it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from neuromoco.export.check.accuracy_loss import JUDGED_ON, Samples, copy_figures
from neuromoco.export.check.parity import SpikeCounts
from neuromoco.export.to_onnx.int8 import Ranges, calibrate, quantize_onnx
from neuromoco.export.to_onnx.model import unrolled
from neuromoco.frames import batch_frames
from neuromoco.graph.nodes import Graph
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.runtime.prediction import Floats

BATCH = 16


def measure_ranges(graph: Graph, header: ExportHeader, samples: Samples) -> dict[str, Ranges]:
    """Ranges of the synapses of a graph on recordings, see `calibrate`."""
    plain = header.model_copy(update={"input": "frames"})
    return calibrate(unrolled(graph, plain), _batches(header, samples))


def compare_int8(
    graph: Graph, header: ExportHeader, ranges: dict[str, Ranges], held_out: Samples, judged_on: str | None = None
) -> dict[str, Any]:
    """Figures for the report, of held-out recordings in both networks; "problem" says why int8 is too bad, or None."""
    plain = header.model_copy(update={"input": "frames"})
    tapped = unrolled(graph, plain, taps=True)
    networks = {
        name: OnnxNetwork(model.SerializeToString())
        for name, model in (("float32", tapped), ("int8", quantize_onnx(tapped, plain, ranges)))
    }
    counts = {node.name: SpikeCounts() for node in graph.neurons}
    answers: dict[str, list[int]] = {name: [] for name in networks}
    for batch in _batches(header, held_out):
        outputs = {name: network.run({"frames": batch}) for name, network in networks.items()}
        for name, values in outputs.items():
            answers[name] += values["logits"].argmax(1).tolist()
        for layer, count in counts.items():
            count.add(outputs["float32"][layer], outputs["int8"][layer])
    return {
        "recordings": len(held_out.parts),
        "layers": [
            {
                "name": name,
                "rate_float32": count.source / count.compared,
                "rate_int8": count.export / count.compared,
                "differ": count.differ / count.compared,
            }
            for name, count in counts.items()
        ],
        **copy_figures(answers, held_out.labels, "give more recordings to calibrate on, or keep float32", judged_on),
    }


def int8_summary(figures: Mapping[str, Any]) -> str:
    """What 8 bits cost and save, in a line."""
    worst = max(figures["layers"], key=lambda layer: layer["differ"])
    size = figures["bytes"]["int8"] / figures["bytes"]["float32"]
    accuracy = figures["accuracy"]
    return (
        f"int8 compared with float32, calibrated on {figures['calibrated_on']} recordings, on {figures['recordings']} "
        f"others ({JUDGED_ON[figures['judged_on']]}): same answer on {figures['agreement']:.1%}"
        + (f", accuracy {accuracy['int8']:.1%} (float32 {accuracy['float32']:.1%})" if accuracy else "")
        + f", at most {worst['differ']:.1%} of a layer's spikes and silences differ ({worst['name']})"
        + f", {size:.0%} of the bytes"
    )


def _batches(header: ExportHeader, samples: Samples) -> Iterator[Floats]:
    recordings = samples.read()
    while batch := list(islice(recordings, 1 if header.portable else BATCH)):
        yield batch_frames(batch, header.frames)
