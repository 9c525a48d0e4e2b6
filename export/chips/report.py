"""What fits which chip, of a checkpoint, an export or a module, and the energy beside a network without spikes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuromoco.checkpoint import CheckpointHeader, best_weights, is_checkpoint, parse_header
from neuromoco.classifier import LEAST_LIMIT, Classifier
from neuromoco.config import RecordingsConfig
from neuromoco.encoders import build_encoder
from neuromoco.errors import CheckpointError, ConfigError
from neuromoco.export.check.parity import bundled_recordings, comparison_recordings, run_source
from neuromoco.export.chips.judge import fit
from neuromoco.export.chips.operations import Operations, mean_of, operations_of
from neuromoco.export.chips.table import CHIPS, ENERGIES, SOURCES
from neuromoco.export.exporter import ExportJob, report_path
from neuromoco.export.modules.export import PREFIX, Layout, Stepped, check_module, noise_like
from neuromoco.frames import batch_frames
from neuromoco.graph.nodes import Graph
from neuromoco.graph.trace import lower, lowered_on
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.manifest import MANIFEST, REPORT, read_manifest
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.runtime.prediction import Floats
from neuromoco.snn.neurons import evaluation_mode
from neuromoco.support.extras import need
from neuromoco.support.files import read_json
from neuromoco.support.untrusted import one_line
from neuromoco.unsupported import refuse

LEAST_BYTES = 16  # of a file, for each channel or block that its header states
LARGEST_RATIO = 64  # of the parameters that a header describes to the bytes of its file, which may be compressed
FEW = 10  # recordings that operations are counted on


@dataclass(frozen=True)
class Subject:
    """A network to look at.

    Attributes:
        graph: what it computes.
        operations: of a recording, on average, if its spikes are known.
        counted_on: what they were counted on, or why they are not known.
    """

    graph: Graph
    operations: Operations | None
    counted_on: str


def chips_report(
    file: Path, data: Path | None = None, reading: RecordingsConfig | None = None, crop: Any = None
) -> dict[str, Any]:
    """What of a checkpoint, a run or an export fits which chip, and its operations and energy, ready for JSON.

    Args:
        file: checkpoint, run folder, or export of any target.
        data: recordings of a checkpoint to count operations on; by default the bundled ones.
        reading, crop: how they are read, see `neuromoco.export`.

    Raises:
        CheckpointError: it is none of these, or is damaged.
        UnsupportedLayerError: a layer that the graph cannot express.
    """
    file = best_weights(file)
    if is_checkpoint(file):
        subject = _of_checkpoint(file, data, reading or RecordingsConfig(), crop)
    elif data is not None:
        raise ConfigError(f"{file}: --data is for checkpoints; an export's operations are those of its own report")
    else:
        subject = _of_export(file)
    return report_of(str(file), subject)


def report_of(name: str, subject: Subject) -> dict[str, Any]:
    """What of a network fits which chip, and its operations and energy, ready for JSON."""
    found = subject.operations
    return {
        "file": name,
        "chips": [fit(subject.graph, chip).to_json() for chip in CHIPS],
        "counted_on": subject.counted_on,
        "operations": None if found is None else asdict(found) | {"synaptic": found.synaptic},
        "energy": [] if found is None else _energies(found),
        "sources": SOURCES,
    }


def _energies(found: Operations) -> list[dict[str, Any]]:
    """Energy of a recording, in nJ: of the spikes, and of the network without spikes on one frame."""
    rows = []
    for energy in ENERGIES:
        spiking = energy.spent_nj(found.adds, found.multiply_adds, found.neurons, found.spikes, found.steps)
        dense = None if energy.multiply_add is None else found.macs * energy.multiply_add / 1e3
        rows.append({"by": energy.name, "spiking_nj": spiking, "non_spiking_nj": dense, "source": energy.source})
    return rows


def _of_checkpoint(file: Path, data: Path | None, reading: RecordingsConfig, crop: Any) -> Subject:
    classifier = TrainedClassifier(file, "cpu")
    frames = classifier.header.frames
    graph = lower(classifier.network, frames.height, frames.width, frames.steps)
    recordings = bundled_recordings(classifier.header)[:FEW]
    if data is not None:
        job = ExportJob(file, classifier, "onnx", data, None, reading, crop)
        recordings = comparison_recordings(job)[-FEW:]
    counted = count(classifier.network, graph, (classifier.frames([recording]) for recording in recordings))
    where = str(data) if data else "the bundled ones, which may be of another kind; give yours with --data"
    return Subject(graph, counted, f"{len(recordings)} recordings of {where}")


def module_report(
    name: str, network: nn.Module, example: Tensor, steps: int | None = None, layout: Layout = "TN"
) -> dict[str, Any]:
    """What of a torch module fits which chip, ready for JSON; operations are those of its example, see `export`."""
    frames = check_module(network, example, Path("-"), "onnx", steps, layout)
    stepped = Stepped(network, layout, steps is not None)
    with evaluation_mode(network):
        graph, unsupported = lowered_on(stepped, [frames, *noise_like(frames)], PREFIX, logits=False)
        refuse(unsupported)
        assert graph is not None, "or something is unsupported"
        counted = count(stepped, graph, [frames.numpy()])
    return report_of(name, Subject(graph, counted, "the example"))


def count(network: nn.Module, graph: Graph, batches: Iterator[Floats] | Sequence[Floats]) -> Operations:
    """Operations of a network's recording, on average over frames [T, N, ...] that it is run on."""
    return mean_of(
        [operations_of(graph, frames.astype(np.float64), run_source(network, graph, frames)[1]) for frames in batches]
    )


def _of_export(file: Path) -> Subject:
    """The network of an export: its layers are those that its header describes, its spikes those of its report."""
    header = _header_of(file)
    network = _described(file, header)
    for module in network.modules():  # blocks that begin as nothing would be no synapses
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    frames = header.frames
    graph = lower(network, frames.height, frames.width, frames.steps)
    report = file / REPORT if file.is_dir() else report_path(file)
    rates = _rates(read_json(report) if report.is_file() else {})
    if rates.keys() < {node.name for node in graph.neurons}:
        return Subject(graph, None, f"unknown: there is no {report.name} beside it; give the checkpoint")
    counts = batch_frames(bundled_recordings(header)[:FEW], frames).astype(np.float64)
    rng = np.random.default_rng(0)
    spikes = {node.name: rng.random((*counts.shape[:2], *node.shape)) < rates[node.name] for node in graph.neurons}
    return Subject(graph, operations_of(graph, counts, spikes), f"spikes drawn at the rates in {report.name}")


def _described(file: Path, header: CheckpointHeader) -> Classifier:
    """The network that an export describes, with weights of its own; refuses one that the file is too small for."""
    size = sum(part.stat().st_size for part in (file.rglob("*") if file.is_dir() else [file]) if part.is_file())
    options = header.encoder.options.values()
    problem = f"describes a network that takes more than its {size:,} bytes"
    if any(isinstance(value, int) and value > max(LEAST_LIMIT, size // LEAST_BYTES) for value in options):
        raise CheckpointError(f"{file}: {problem}")
    try:
        with torch.device("meta"):
            parameters = sum(tensor.numel() for tensor in build_encoder(header.encoder).parameters())
        if parameters > LARGEST_RATIO * size:
            raise CheckpointError(f"{file}: {problem}")
        return Classifier(build_encoder(header.encoder), len(header.class_names)).eval()
    except ConfigError as error:
        raise CheckpointError(f"{file}: {one_line(error)}") from None


def _header_of(file: Path) -> CheckpointHeader:
    if (file / MANIFEST).is_file():
        return read_manifest(file).header
    if file.suffix == ".onnx":
        return OnnxNetwork(file).header
    if file.suffix == ".nir":
        return _nir_header(file)
    raise CheckpointError(f"{file}: is no checkpoint, run or export; chips takes one, or file.py:name of a module")


def _nir_header(file: Path) -> CheckpointHeader:
    need("nir", "reading a NIR file")
    import nir

    try:
        metadata = nir.read(file).metadata
    except Exception as error:  # of h5py and nir, on any damage
        raise CheckpointError(f"{file}: cannot be read as NIR ({type(error).__name__})") from None
    texts = {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in metadata.items()}
    return parse_header(file, texts, ExportHeader, "a NIR")


def _rates(report: Mapping[str, Any]) -> dict[str, float]:
    """Spikes per neuron and step by layer, in the report of an export of any target."""
    parity = report.get("parity")
    rows = report.get("layers") if parity is None else parity.get("layers") if isinstance(parity, dict) else None
    rows = rows if isinstance(rows, list) else []
    return {
        row["name"]: float(row["rate"])
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("name"), str) and isinstance(row.get("rate"), int | float)
    }
