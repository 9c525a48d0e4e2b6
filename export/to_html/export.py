"""From a checkpoint to one HTML file, compared with its source as the integer twin runs it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuromoco import models
from neuromoco.checkpoint import CheckpointHeader
from neuromoco.confidence import temperature_of
from neuromoco.datasets.digits import DEPTH, DIGIT_MOTION, DIGIT_SENSOR, INK, PAPER
from neuromoco.errors import EventFileError
from neuromoco.events import Recording, read_recording
from neuromoco.export.exporter import Exporter
from neuromoco.export.to_c.export import LAYER, TOTAL
from neuromoco.export.to_html.page import build_page, in_base64
from neuromoco.export.to_html.wasm.build import WASM
from neuromoco.export.to_loihi.export import IntegerExporter
from neuromoco.export.to_loihi.report import comparison_line
from neuromoco.fit.figures import NAMES
from neuromoco.fit.verdict import MOST_REASONS, NOTABLE, OTHER, UNLIKE, WORDS
from neuromoco.frames import recording_frames
from neuromoco.graph.nodes import Graph
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.blocks import LoihiGraph
from neuromoco.runtime.spiking.network import list_uncompiled, pack_network
from neuromoco.support.files import write_text
from neuromoco.unsupported import Unsupported

# What the page makes verdicts on fit of.
WORDING = {
    "names": NAMES,
    "words": WORDS,
    "notable": NOTABLE,
    "most": MOST_REASONS,
    "other": OTHER,
    "unlike": UNLIKE,
}

# The simulated camera that a webcam goes before, and how a picture becomes ink on paper: those of the built-in digits.
CAMERA = {
    "sensor": asdict(DIGIT_SENSOR),
    "motion": asdict(DIGIT_MOTION),
    "look": {"paper": PAPER, "ink": INK, "depth": DEPTH},
}


class HtmlExporter(IntegerExporter):
    """Writes one HTML file."""

    suffix = ".html"

    def check_place(self, out: Path) -> None:
        Exporter.check_place(self, out)

    def find_too_large(self, loihi: LoihiGraph) -> list[Unsupported]:
        return super().find_too_large(loihi) or list_uncompiled(loihi)

    def write_integers(self, part: Path, header: ExportHeader) -> dict[str, Any]:
        network = pack_network(self.loihi, header.frames, header.seen.sensor)
        data = page_data(header, network.content, float(self.loihi.readout.scale))
        page = build_page(Path(header.source).stem, data)
        write_text(part, page)
        examples = [example["name"] for example in data["examples"]]
        return {"bytes": {"file": len(page.encode()), "network": len(network.content)}, "examples": examples}

    def compare(self, graph: Graph, part: Path) -> tuple[dict[str, Any], str | None]:
        figures, problem = super().compare(graph, part)
        figures["layers"] = [{name: row[name] for name in LAYER} for row in figures["layers"]]
        figures["total"] = {name: figures["total"][name] for name in TOTAL}
        return figures, problem

    @staticmethod
    def summary(out: Path, report: dict[str, Any]) -> list[str]:
        total = report["total"]
        return [
            f"{out}: {report['bytes']['file']:,} bytes, T = {report['steps']}, {total['neurons']:,} neurons, "
            f"{total['weights']:,} weights of 8 bits",
            comparison_line(report),
            *(f"warning: {warning}" for warning in report["warnings"]),
            "open it in a browser; it needs neither a server nor a network",
        ]


def page_data(header: ExportHeader, network: bytes, scale: float) -> dict[str, Any]:
    """What the page knows, ready for JSON; `scale` is what the readout's whole numbers are divided by."""
    facts = header.model_dump(mode="json", include={"class_names", "frames", "reading", "seen", "fit", "source"})
    return {
        **facts,
        "encoder": header.encoder.name,
        "scale": scale,
        "temperature": temperature_of(header.calibration),
        "wording": {
            "names": NAMES,
            "words": WORDS,
            "notable": NOTABLE,
            "most": MOST_REASONS,
            "other": OTHER,
            "unlike": UNLIKE,
        },
        "camera": CAMERA,
        "network": in_base64(network),
        "wasm": in_base64(WASM.read_bytes()),
        "examples": [{"name": path.name, "content": in_base64(path.read_bytes())} for path in fitting_examples(header)],
    }


def fitting_examples(header: CheckpointHeader) -> list[Path]:
    """The recordings that ship with the package, where they are of the kind that the network was trained on."""
    return [path for path in models.example_paths() if _fits(header, read_recording(path))]


def _fits(header: CheckpointHeader, recording: Recording) -> bool:
    if header.fit is None:
        return False
    try:
        frames = recording_frames(recording, header.frames)
    except EventFileError:  # a part of a sensor that they lack
        return False
    return header.fit.judge(frames, recording.duration, (recording.height, recording.width)).fits
