"""From a checkpoint to a folder that Lava runs, compared with its source as the integer twin runs it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.events import Recording
from neuromoco.export.check.accuracy_loss import copy_figures, split_samples
from neuromoco.export.check.parity import bundled_recordings, random_recordings, run_source
from neuromoco.export.exporter import ExportedClassifier, Exporter, ExportJob, check_replaceable, export_header
from neuromoco.export.to_loihi.calibrate import FACTORS, choose_clipping
from neuromoco.export.to_loihi.mapping import map_to_loihi
from neuromoco.export.to_loihi.report import as_text, compare_loihi, comparison_line, layer_rows, totals, warnings_of
from neuromoco.export.to_loihi.resources import limits_of
from neuromoco.export.to_loihi.write import describe, write_folder
from neuromoco.graph.nodes import Graph
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.blocks import LARGEST_MESSAGE, Dialect, LoihiGraph
from neuromoco.runtime.loihi.manifest import MANIFEST, OURS, REPORT, REPORT_TEXT
from neuromoco.runtime.prediction import Floats
from neuromoco.support.files import write_json, write_text
from neuromoco.unsupported import Unsupported, refuse

SAMPLES = 3  # recordings that an export carries
BUDGET = 1 << 23  # numbers in the frames of a batch times channels of a wide layer, some 100 MB of spikes
WIDE = 16
UNKNOWN = "compared on the bundled recordings, which may be of another kind; give some like yours with --data"
ADVICE = "train on with --stage finetune --quantize loihi, or give more recordings with --data"
CALIBRATE = 16  # recordings on which scales are tried, fewer if they are large


class IntegerExporter(Exporter):
    """Computes the integer network, which the subclasses write, and compares its answers with the source's.

    With `data`, one half of its recordings calibrates and the other is compared on; given recordings serve for both.
    Without either, the bundled recordings measure the range of the readout alone: scales are exact, and no result is
    refused.
    """

    def __init__(self, job: ExportJob) -> None:
        super().__init__(job)
        self.is_calibrated = bool(job.recordings) or job.data is not None

    def find_unsupported(self, graph: Graph) -> list[Unsupported]:
        loihi, unsupported = map_to_loihi(graph, 0.0)
        return unsupported or self.find_too_large(loihi)

    def find_too_large(self, loihi: LoihiGraph) -> list[Unsupported]:
        """Blocks that the target cannot hold."""
        return loihi.problems("extended")

    def write(self, graph: Graph, part: Path) -> dict[str, Any]:
        job = self.job
        self.labels: Sequence[int | None] | None = None
        self.judged_on: str | None = None
        if job.data is not None:
            calibration, judged, self.judged_on = split_samples(job.data, job.header.class_names, job)
            self.calibration, self.compared = (list(half.read()) for half in (calibration, judged))
            self.labels = judged.labels
        else:
            if self.is_calibrated:
                self.judged_on = "calibration"
            self.compared = list(job.recordings or bundled_recordings(job.header))
            self.calibration = self.compared
        self.loihi = calibrated(job.classifier, graph, self.calibration, search=self.is_calibrated)
        header = export_header(job.classifier, job.source, job.target, precision="int8")
        return {"encoder": header.encoder.name, **self.write_integers(part, header), "steps": header.frames.steps}

    @abstractmethod
    def write_integers(self, part: Path, header: ExportHeader) -> dict[str, Any]:
        """Writes the integer network; returns facts for the report."""

    def compare(self, graph: Graph, part: Path) -> tuple[dict[str, Any], str | None]:
        steps = self.job.header.frames.steps
        frames = batches(self.job.classifier, self.compared)
        compared = compare_loihi(self.job.classifier.network, graph, self.loihi, frames)
        rows = layer_rows(self.loihi, compared, steps)
        figures = {
            "calibrated_on": len(self.calibration) if self.is_calibrated else 0,
            "judged_on": self.judged_on,
            "compared": {"recordings": len(self.compared)},
            **copy_figures(compared.answers, self.labels, ADVICE, self.judged_on),
            "largest_error": compared.largest_error,
            "cut_counts": compared.cut_counts,
            "layers": rows,
            "total": totals(self.loihi, rows),
            "warnings": [*([] if self.is_calibrated else [UNKNOWN]), *warnings_of(self.loihi, steps, compared)],
        }
        if not self.is_calibrated:
            figures["problem"] = None
        return figures, figures["problem"]


class LoihiExporter(IntegerExporter):
    """Writes a folder for Lava."""

    def __init__(self, job: ExportJob, dialect: Dialect | None = None) -> None:
        super().__init__(job)
        self.dialect = dialect

    def check_place(self, out: Path) -> None:
        check_replaceable(out, OURS, MANIFEST, "Loihi")

    def find_too_large(self, loihi: LoihiGraph) -> list[Unsupported]:
        return loihi.problems(self.dialect or "extended")

    def write_integers(self, part: Path, header: ExportHeader) -> dict[str, Any]:
        dialect = self.dialect or ("stock" if not self.loihi.problems("stock") else "extended")
        frames = np.minimum(self.job.classifier.frames(self.compared[:SAMPLES]), LARGEST_MESSAGE).astype(np.uint8)
        write_folder(part, self.loihi, describe(self.loihi, dialect, header), frames)
        return {"dialect": dialect, "latency": self.loihi.latency}

    def compare(self, graph: Graph, part: Path) -> tuple[dict[str, Any], str | None]:
        figures, problem = super().compare(graph, part)
        figures["warnings"] += limits_of(self.loihi)
        return figures, problem

    def write_report(self, report: dict[str, Any], part: Path, out: Path) -> None:
        write_json(part / REPORT, report)
        write_text(part / REPORT_TEXT, as_text(report))

    @staticmethod
    def summary(out: Path, report: dict[str, Any]) -> list[str]:
        total = report["total"]
        return [
            f"{out}: {report['dialect']} dialect, T = {report['steps']}, latency {report['latency']} steps, "
            f"{total['neurons']:,} neurons, {total['weights']:,} weights of 8 bits",
            comparison_line(report),
            f"estimated: {total['cores_loihi1']} cores of Loihi 1 or {total['cores_loihi2']} of Loihi 2, "
            f"{total['operations']:,.0f} synaptic operations and {total['energy_nj'] / 1e3:,.1f} uJ per recording",
            *(f"warning: {warning}" for warning in report["warnings"]),
            f"details: {out / REPORT_TEXT}; to run it in Lava: neuromoco verify {out}",
        ]


def calibrated(
    classifier: ExportedClassifier, graph: Graph, recordings: Sequence[Recording], *, search: bool = True
) -> LoihiGraph:
    """The integer network of a classifier, the range of its readout measured on recordings and noise.

    With `search`, scales finer than the exact ones are tried on the recordings.
    """
    names = [node.name for node in graph.neurons]
    largest = 0.0
    for frames in batches(classifier, [*recordings, *random_recordings(classifier.header)]):
        sums = np.cumsum(run_source(classifier.network, graph, frames)[0], axis=0)
        largest = max(largest, float(np.abs(sums).max()))
    graphs = {}
    for factor in FACTORS if search else FACTORS[:1]:
        graphs[factor], unsupported = map_to_loihi(graph, largest, dict.fromkeys(names, factor))
        refuse(unsupported)
    if not search:
        return graphs[1.0]
    frames = next(batches(classifier, recordings[:: max(1, len(recordings) // CALIBRATE)][:CALIBRATE]))
    spikes = run_source(classifier.network, graph, frames)[1]
    return map_to_loihi(graph, largest, choose_clipping(graphs, spikes, frames))[0]


def batches(classifier: ExportedClassifier, recordings: Sequence[Recording]) -> Iterator[Floats]:
    """Frames [T, N, P, H, W] of recordings, as many at once as fit into memory."""
    config = classifier.header.frames
    size = max(1, BUDGET // (config.steps * config.height * config.width * WIDE))
    for start in range(0, len(recordings), size):
        yield classifier.frames(recordings[start : start + size])
