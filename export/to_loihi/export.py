"""From a checkpoint to a folder that Lava runs, compared with its source."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco import models
from neuromoco.errors import ParityError
from neuromoco.events import Recording, read_recording
from neuromoco.export.check.accuracy_loss import LARGEST_LOSS, LEAST_AGREEMENT, accuracy, loss_problem, split_samples
from neuromoco.export.check.parity import random_recordings, run_source
from neuromoco.export.graph.nodes import Graph
from neuromoco.export.graph.trace import find_unsupported, lower
from neuromoco.export.header import RANDOM, OnnxOptions, export_header, report_path
from neuromoco.export.to_loihi.calibrate import FACTORS, choose_clipping
from neuromoco.export.to_loihi.mapping import map_to_loihi
from neuromoco.export.to_loihi.report import as_text, compare, layer_rows, totals, warnings_of
from neuromoco.export.to_loihi.write import check_replaceable, describe, write_folder
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.loihi.blocks import LARGEST_MESSAGE, Dialect, LoihiGraph
from neuromoco.runtime.onnx_file import Floats
from neuromoco.support.files import replacing_folder, write_json
from neuromoco.unsupported import Unsupported, refuse

SAMPLES = 3  # recordings that come along
BUDGET = 1 << 23  # numbers in the frames of a batch times channels of a wide layer, some 100 MB of spikes
WIDE = 16
UNKNOWN = "compared on the recordings that come along, which may be of another kind; give some like yours with --data"
CALIBRATE = 16  # recordings on which scales are tried, fewer if they are large


def export_loihi(
    source: Path, out: Path, dialect: Dialect | None, recordings: list[Recording], data: Path | None = None
) -> dict[str, Any]:
    """Writes a checkpoint's network as a folder for Lava.

    Args:
        source: checkpoint of a classifier.
        out: the folder to make; an export that stands there is replaced.
        dialect: None takes "stock" where it can say the network.
        recordings: like those of the training, to choose scales and compare on where `data` is None. Where there are
            none, those that come along measure the readout; scales are exact, and nothing is judged.
        data: folder of recordings, every second one to choose scales on, the others to compare on.

    Returns:
        The report.

    Raises:
        CheckpointError: no usable checkpoint.
        ConfigError: something else stands at `out`.
        UnsupportedLayerError: a layer that the hardware or the dialect cannot hold.
        ParityError: the integer network answers too often otherwise; only `<out>.report.json` is written.
        NeuromocoError: a recording drives it out of its range.
    """
    check_replaceable(out)
    classifier = TrainedClassifier(source, "cpu")
    config = classifier.header.frames
    labels: list[int | None] = []
    own = bool(recordings) or data is not None
    calibration = judged = recordings or [read_recording(path) for path in models.example_paths()]
    if data is not None:
        halves = split_samples(data, classifier.header.class_names)
        calibration, judged = ([read_recording(path) for path in half.paths] for half in halves)
        labels = halves[1].labels
    begin = time.perf_counter()
    graph = lower(classifier.network, config.height, config.width)
    loihi = calibrated(classifier, graph, calibration, search=own)
    dialect = dialect or ("stock" if not loihi.problems("stock") else "extended")
    refuse(loihi.problems(dialect))
    seconds = time.perf_counter() - begin
    compared = compare(classifier.network, graph, loihi, batches(classifier, judged))
    header = export_header(classifier, source, OnnxOptions()).model_copy(
        update={"target": "loihi", "precision": "int8"}
    )
    rows = layer_rows(loihi, compared, config.steps)
    report = {
        "file": out.name,
        "source": source.name,
        "source_sha256": header.source_sha256,
        "encoder": header.encoder.name,
        "target": "loihi",
        "dialect": dialect,
        "steps": config.steps,
        "latency": loihi.latency,
        "seconds_to_write": seconds,
        "calibrated_on": len(calibration) if own else 0,
        "compared": {"recordings": len(judged)},
        "agreement": compared.agreement,
        "accuracy": None
        if not labels or None in labels
        else {name: accuracy(answers, labels) for name, answers in compared.answers.items()},
        "largest_error": compared.largest_error,
        "cut_counts": compared.cut_counts,
        "layers": rows,
        "total": totals(loihi, rows),
        "warnings": [*([] if own else [UNKNOWN]), *warnings_of(loihi, config.steps, compared)],
        "allowed": {"loss": LARGEST_LOSS, "agreement": LEAST_AGREEMENT},
    }
    advice = "train on with --stage finetune --quantize loihi, or give more recordings with --data"
    report["problem"] = loss_problem(report, "loihi", advice) if own else None
    if report["problem"]:
        write_json(report_path(out), report)
        raise ParityError(f"{out}: not written: {report['problem']}; see {report_path(out)}")
    frames = classifier.frames(judged[:SAMPLES])
    with replacing_folder(out) as part:
        samples = np.minimum(frames, LARGEST_MESSAGE).astype(np.uint8)
        write_folder(part, loihi, describe(loihi, dialect, header), report, as_text(report), samples)
    return report


def calibrated(
    classifier: TrainedClassifier, graph: Graph, recordings: Sequence[Recording], *, search: bool = True
) -> LoihiGraph:
    """The integer network, the room of its readout measured on recordings and noise.

    Args:
        classifier: the source.
        graph: lowered from it.
        recordings: at least one.
        search: whether finer scales than the exact ones are tried on them.

    Raises:
        UnsupportedLayerError: a layer that the hardware cannot hold.
    """
    names = [node.name for node in graph.neurons]
    largest = 0.0
    for frames in batches(classifier, [*recordings, *random_recordings(classifier.header, RANDOM)]):
        sums = np.cumsum(run_source(classifier.network, frames, [])[0], axis=0)
        largest = max(largest, float(np.abs(sums).max()))
    graphs = {}
    for factor in FACTORS if search else FACTORS[:1]:
        graphs[factor], unsupported = map_to_loihi(graph, largest, dict.fromkeys(names, factor))
        refuse(unsupported)
    if not search:
        return graphs[1.0]
    some = next(batches(classifier, recordings[:: max(1, len(recordings) // CALIBRATE)][:CALIBRATE]))
    spikes = run_source(classifier.network, some, names)[1]
    return map_to_loihi(graph, largest, choose_clipping(graphs, spikes, some))[0]


def batches(classifier: TrainedClassifier, recordings: Sequence[Recording]) -> Iterator[Floats]:
    """Frames [T, N, P, H, W] of recordings, so many at once as fit."""
    config = classifier.header.frames
    many = max(1, BUDGET // (config.steps * config.height * config.width * WIDE))
    for start in range(0, len(recordings), many):
        yield classifier.frames(recordings[start : start + many])


def list_unsupported_loihi(source: Path, dialect: Dialect | None) -> list[Unsupported]:
    """Every layer of a checkpoint that Loihi, or the dialect, cannot hold."""
    classifier = TrainedClassifier(source, "cpu")
    config = classifier.header.frames
    found = find_unsupported(classifier.network, config.height, config.width)
    if found:
        return found
    graph = lower(classifier.network, config.height, config.width)
    loihi, unsupported = map_to_loihi(graph, 0.0)
    return unsupported or loihi.problems(dialect or "extended")
