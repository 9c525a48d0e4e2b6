"""From a checkpoint to an ONNX file, compared with its source as ONNX Runtime runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.export.check.accuracy_loss import split_samples
from neuromoco.export.check.parity import NOISE, ExportRun, comparison_recordings, measure_parity, parity_summary
from neuromoco.export.exporter import Exporter, ExportJob
from neuromoco.export.to_onnx.int8 import quantize_onnx
from neuromoco.export.to_onnx.int8_check import compare_int8, int8_summary, measure_ranges
from neuromoco.export.to_onnx.model import check_onnx, single_step, unrolled
from neuromoco.graph.nodes import LIF, Graph, Node, Weighted
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.runtime.onnx_guard.operator_sets import COUNTING, OPSET
from neuromoco.unsupported import Unsupported

LARGEST_HALF = 65_504.0  # of fp16, in which other runtimes compute


class OnnxExporter(Exporter):
    """Writes all time steps into one file."""

    suffix = ".onnx"

    def __init__(
        self,
        job: ExportJob,
        input: str = "frames",
        quantize: str | None = None,
        spike_rates: bool = False,
        opset: int = OPSET,
        portable: bool = False,
    ) -> None:
        super().__init__(job)
        if input == "events" and opset < COUNTING:
            raise ConfigError(
                f"--opset {opset} with --input events; operators that count events begin with opset {COUNTING}: use "
                f"--opset {COUNTING} or later, or omit --input"
            )
        self.quantize, self.spike_rates, self.opset = quantize, spike_rates, opset
        self.header = job.header.model_copy(update={"input": input, "portable": portable})

    def find_unsupported(self, graph: Graph) -> list[Unsupported]:
        return [
            Unsupported(
                node.name,
                type(node).__name__,
                f"holds {number:.3g}, beyond fp16's range of {LARGEST_HALF:,.0f} that portable files keep to; omit "
                "--portable, or scale the layer down",
            )
            for node, number in _largest_numbers(graph)
            if self.header.portable and number > LARGEST_HALF
        ]

    def build(self, graph: Graph) -> onnx.ModelProto:
        """The model in float32."""
        return unrolled(graph, self.header, rates=self.spike_rates, opset=self.opset)

    def write(self, graph: Graph, part: Path) -> dict[str, Any]:
        self.float32 = model = self.build(graph)
        check_onnx(model)
        if self.quantize:
            assert self.job.data is not None, "is one of the options of the table"
            self.calibration, self.held_out, self.judged_on = split_samples(
                self.job.data, self.header.class_names, self.job
            )
            self.ranges = measure_ranges(graph, self.header, self.calibration)
            model = quantize_onnx(model, self.header, self.ranges)
        part.write_bytes(model.SerializeToString(deterministic=True))
        return {
            "input": self.header.input,
            "precision": self.quantize or "float32",
            "opset": self.opset,
            "portable": self.header.portable,
            "nodes": len(model.graph.node),
            "bytes": part.stat().st_size,
        }

    def compare(self, graph: Graph, part: Path) -> tuple[dict[str, Any], str | None]:
        recordings = comparison_recordings(self.job)
        parity = measure_parity(self.job.classifier.network, graph, self._runs(graph, recordings))
        int8 = None
        if self.quantize and parity.problem is None:
            int8 = compare_int8(graph, self.header, self.ranges, self.held_out, self.judged_on)
            int8 |= {
                "calibrated_on": len(self.calibration.parts),
                "judged_on": self.judged_on,
                "bytes": {"float32": self.float32.ByteSize(), "int8": part.stat().st_size},
            }
        figures = {
            "compared": {"noise": NOISE, "recordings": len(recordings) - NOISE},
            "parity": parity.to_json(),
            "int8": int8,
        }
        return figures, int8["problem"] if int8 else parity.problem

    def _runs(self, graph: Graph, recordings: list[Recording]) -> Iterator[ExportRun]:
        """The float32 file, and the spikes of the unrolled network with every layer as an output."""
        exported = OnnxNetwork(self.float32.SerializeToString())
        header = self.header.model_copy(update={"target": "onnx", "input": "frames", "states": ()})
        tapped = OnnxNetwork(unrolled(graph, header, taps=True).SerializeToString())
        for recording in recordings:
            frames = tapped.frames([recording])
            outputs = tapped.run({"frames": frames})
            yield ExportRun(frames, exported.logits([recording]), outputs, outputs["logits_per_step"])

    @staticmethod
    def summary(out: Path, report: dict[str, Any]) -> list[str]:
        return [
            f"{out}: {report['target']}, takes {report['input']}, {report['precision']}, "
            f"{report['nodes']:,} operators of opset {report['opset']}{', portable' if report['portable'] else ''}, "
            f"{report['bytes'] / 1e6:.2f} MB",
            f"compared with torch on {parity_summary(report)}",
            *([int8_summary(report["int8"])] if report["int8"] else []),
        ]


def _largest_numbers(graph: Graph) -> Iterator[tuple[Node, float]]:
    """Every layer with constants, and the largest of them."""
    for node in graph.nodes:
        if isinstance(node, Weighted):
            yield node, max(float(np.abs(array).max()) for array in (node.weight, node.bias))
        elif isinstance(node, LIF):
            yield node, node.v_threshold


class OnnxStepExporter(OnnxExporter):
    """Writes one time step into a file, its state outside."""

    def build(self, graph: Graph) -> onnx.ModelProto:
        return single_step(graph, self.header, opset=self.opset)
