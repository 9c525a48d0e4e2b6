"""From a checkpoint to an ONNX file with its report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import onnx

from neuromoco.errors import ConfigError, ParityError
from neuromoco.events import Recording
from neuromoco.export.check.parity import compare, random_recordings
from neuromoco.export.graph.nodes import Graph
from neuromoco.export.graph.trace import Unsupported, find_unsupported, lower
from neuromoco.export.header import RANDOM, OnnxOptions, export_header, report_path
from neuromoco.export.to_onnx.int8_check import quantize_and_compare
from neuromoco.export.to_onnx.model import check_onnx, single_step, unrolled
from neuromoco.export.to_onnx.tape import OPSET
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.support.files import write_json, writing


def export_onnx(
    source: Path, out: Path, options: OnnxOptions, recordings: list[Recording], data: Path | None = None
) -> dict[str, Any]:
    """Writes a checkpoint's network as an ONNX file, and `<name>.report.json` beside it.

    Args:
        source: checkpoint of a classifier.
        out: the file to write.
        options: what is written.
        recordings: real ones to compare the file with its source on, beside some of noise.
        data: folder of recordings that calibrate and judge 8 bits.

    Returns:
        The report.

    Raises:
        CheckpointError: no usable checkpoint.
        ConfigError: options that do not go together.
        UnsupportedLayerError: a layer that cannot be exported.
        ParityError: the file answers otherwise than its source; the report is written, the file is not.
    """
    options.check(data)
    classifier = TrainedClassifier(source, "cpu")
    if out.is_dir() or out.resolve() == source.resolve():
        raise ConfigError(
            f"{out}: is {'a folder' if out.is_dir() else 'the checkpoint itself'}; --out names a new .onnx file"
        )
    begin = time.perf_counter()
    graph = lower(classifier.network, classifier.header.frames.height, classifier.header.frames.width)
    header = export_header(classifier, source, options)
    model = build(graph, header, options)
    check_onnx(model)
    content = model.SerializeToString(deterministic=True)
    seconds = time.perf_counter() - begin
    exported = OnnxNetwork(content)
    noise = random_recordings(exported.header, RANDOM)
    parity = compare(classifier.network, graph, exported, [*noise, *recordings])
    problem = parity.problem
    int8 = None
    if options.quantize and data is not None and problem is None:
        model, int8 = quantize_and_compare(graph, exported.header, model, data)
        content, problem = model.SerializeToString(deterministic=True), int8["problem"]
    report = {
        "file": out.name,
        "source": source.name,
        "source_sha256": header.source_sha256,
        "target": options.target,
        "input": options.input,
        "precision": options.quantize or "float32",
        "opset": OPSET,
        "nodes": len(model.graph.node),
        "bytes": len(content),
        "seconds_to_write": seconds,
        "compared": {"noise": len(noise), "recordings": len(recordings)},
        "parity": parity.to_json(),
        "int8": int8,
    }
    write_json(report_path(out), report)
    if problem:
        raise ParityError(f"{out}: not written: {problem}; see {report_path(out)}")
    with writing(out) as part:
        part.write_bytes(content)
    return report


def list_unsupported(source: Path) -> list[Unsupported]:
    """Every layer of a checkpoint that cannot be exported."""
    classifier = TrainedClassifier(source, "cpu")
    return find_unsupported(classifier.network, classifier.header.frames.height, classifier.header.frames.width)


def build(graph: Graph, header: ExportHeader, options: OnnxOptions) -> onnx.ModelProto:
    """The model of a target."""
    if options.target == "onnx-step":
        return single_step(graph, header)
    return unrolled(graph, header, rates=options.rates)
