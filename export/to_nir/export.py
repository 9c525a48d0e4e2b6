"""From a checkpoint to a NIR file with its report, compared with its source as snnTorch runs it.

snnTorch is needed for the comparison only. It reads `nir.LIF` as this package writes it, and knows nothing of how
the file came about; its neurons and nirtorch's wiring are both not ours.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch

from neuromoco.checkpoint import KEY
from neuromoco.classifier import Classifier
from neuromoco.errors import ConfigError, ParityError
from neuromoco.events import Recording
from neuromoco.export.check.parity import LayerParity, Parity, random_recordings, run_source
from neuromoco.export.graph.nodes import Graph
from neuromoco.export.graph.trace import find_unsupported, lower
from neuromoco.export.header import RANDOM, OnnxOptions, export_header, report_path
from neuromoco.export.to_nir.nodes import DT, find_unsupported_nir, to_nir
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.onnx_file import Floats
from neuromoco.support.files import write_json, writing
from neuromoco.unsupported import Unsupported

BACKEND = ("snntorch", "nirtorch")
NOT_COMPARED = "not compared with its source, which snnTorch is needed for: pip install snntorch nirtorch"


def export_nir(source: Path, out: Path, recordings: list[Recording]) -> dict[str, Any]:
    """Writes a checkpoint's network as a NIR file, and `<name>.nir.report.json` beside it.

    Args:
        source: checkpoint of a classifier.
        out: the file to write.
        recordings: real ones to compare the file with its source on, beside some of noise.

    Returns:
        The report. Where snnTorch is missing, its "not_compared" is a line that says so; else that is None.

    Raises:
        CheckpointError: no usable checkpoint.
        ConfigError: `out` is a folder or the checkpoint.
        UnsupportedLayerError: a layer that NIR cannot say.
        ParityError: the file answers otherwise than its source; the report is written, the file is not.
    """
    classifier = TrainedClassifier(source, "cpu")
    if out.is_dir() or out.resolve() == source.resolve():
        raise ConfigError(
            f"{out}: is {'a folder' if out.is_dir() else 'the checkpoint itself'}; --out names a new .nir file"
        )
    begin = time.perf_counter()
    graph = lower(classifier.network, classifier.header.frames.height, classifier.header.frames.width)
    header = export_header(classifier, source, OnnxOptions())
    facts = header.model_dump(mode="json", exclude={"states"}) | {"target": "nir"}
    written = to_nir(graph, {KEY: json.dumps(facts), "dt": DT})
    with writing(out) as part:
        nir.write(part, written)
        read = nir.read(part)
        report = {
            "file": out.name,
            "source": source.name,
            "source_sha256": header.source_sha256,
            "target": "nir",
            "nir": nir.version,
            "dt": DT,
            "nodes": len(read.nodes),
            "edges": len(read.edges),
            "bytes": part.stat().st_size,
            "seconds_to_write": time.perf_counter() - begin,
        }
        differing = differences(written, read)
        if differing:
            raise ParityError(f"{out}: not written: {', '.join(differing)} read back otherwise; nir {nir.version}")
        recordings = [*random_recordings(header, RANDOM), *recordings]
        parity = None
        if backend_is_installed():
            frames = (classifier.frames([recording]) for recording in recordings)
            parity = compare_nir(classifier.network, graph, read, frames)
        report |= {
            "read_back_equal": True,
            "backend": {name: version(name) for name in BACKEND} if parity else None,
            "compared": {"noise": RANDOM, "recordings": len(recordings) - RANDOM} if parity else None,
            "not_compared": None if parity else NOT_COMPARED,
            "parity": parity.to_json() if parity else None,
        }
        write_json(report_path(out), report)
        if parity and parity.problem:
            raise ParityError(f"{out}: not written: {parity.problem}; see {report_path(out)}")
    return report


def list_unsupported_nir(source: Path) -> list[Unsupported]:
    """Every layer of a checkpoint that cannot be exported to NIR: those without a node, else those NIR cannot say."""
    classifier = TrainedClassifier(source, "cpu")
    size = classifier.header.frames.height, classifier.header.frames.width
    return find_unsupported(classifier.network, *size) or find_unsupported_nir(lower(classifier.network, *size))


def backend_is_installed() -> bool:
    """Whether a comparison can be made."""
    return all(find_spec(name) for name in BACKEND)


def differences(written: nir.NIRGraph, read: nir.NIRGraph) -> list[str]:
    """What is not the same in two graphs: names of nodes, "edges", "metadata"."""
    names = sorted({*written.nodes, *read.nodes})
    found = [name for name in names if not _same(written.nodes.get(name), read.nodes.get(name))]
    if sorted(written.edges) != sorted(read.edges):
        found.append("edges")
    return found + ["metadata"] * (written.metadata != read.metadata)


def _same(a: nir.NIRNode | None, b: nir.NIRNode | None) -> bool:
    """Whether two nodes are of one type and hold the same numbers."""
    if a is None or b is None:
        return False
    ours, theirs = a.to_dict(), b.to_dict()
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)


def compare_nir(network: Classifier, graph: Graph, written: nir.NIRGraph, frames: Iterable[Floats]) -> Parity:
    """Runs recordings through torch and through snnTorch.

    Args:
        network: the source, on the CPU.
        graph: what the file was written from.
        written: the file.
        frames: [T, 1, P, H, W] of at least one recording.
    """
    names = [node.name for node in graph.neurons]
    backend = SnnTorchNetwork(written, names)
    counts, errors, same_answer = [], [], []
    for given in frames:
        wanted, wanted_spikes = run_source(network, given, names)
        answer, spikes = backend.run(given)
        pairs = [(wanted_spikes[name].reshape(spikes[name].shape), spikes[name]) for name in names]
        counts.append([(ours.size, np.count_nonzero(ours), np.count_nonzero(ours != its)) for ours, its in pairs])
        errors.append(float(np.abs(answer.mean(0) - wanted.mean(0)).max()))
        same_answer.append(bool(answer.mean(0).argmax() == wanted.mean(0).argmax()))
    per_layer = np.array(counts, np.int64).reshape(len(errors), len(names), 3)  # [S, layers, 3]
    flipped = per_layer[:, :, 2].sum(1) > 0
    layers = (
        LayerParity(name, float(spiking / size), int(size), int(flips))
        for name, (size, spiking, flips) in zip(names, per_layer.sum(0), strict=True)
    )
    return Parity(
        recordings=len(errors),
        largest_error=max(errors),
        largest_error_without_flips=max((e for e, bad in zip(errors, flipped, strict=True) if not bad), default=None),
        recordings_with_flips=int(flipped.sum()),
        agreement=float(np.mean(same_answer)),
        layers=tuple(layers),
    )


class SnnTorchNetwork:
    """A NIR graph as snnTorch reads and runs it, from rest for each batch of recordings."""

    def __init__(self, graph: nir.NIRGraph, names: Sequence[str]) -> None:
        """Reads a graph.

        Args:
            graph: is left as it is.
            names: of the neurons whose spikes are wanted.
        """
        from snntorch.import_nir import import_from_nir

        nodes = {name: _as_lif(node) if isinstance(node, nir.IF) else node for name, node in graph.nodes.items()}
        with redirect_stdout(io.StringIO()):  # it prints every array that it scales
            self._network = import_from_nir(nir.NIRGraph(nodes=nodes, edges=list(graph.edges), type_check=False))
        # nirtorch's names of modules.
        self._neurons: dict[str, Any] = {name: self._network.get_submodule(name.replace(".", "_")) for name in names}

    @torch.inference_mode()
    def run(self, frames: Floats) -> tuple[Floats, dict[str, Floats]]:
        """Logits [T, N, classes], and spikes [T, N, ...] by layer, of frames [T, N, P, H, W]."""
        seen: dict[str, list[Floats]] = {name: [] for name in self._neurons}
        hooks = [
            module.register_forward_hook(lambda _, __, spikes, name=name: seen[name].append(spikes.numpy()))
            for name, module in self._neurons.items()
        ]
        for module in self._neurons.values():
            module.reset_mem()
        try:
            logits = [self._network(step)[0].numpy() for step in torch.from_numpy(frames)]
        finally:
            for hook in hooks:
                hook.remove()
        return np.stack(logits), {name: np.stack(spikes) for name, spikes in seen.items()}


def _as_lif(node: nir.IF) -> nir.LIF:
    """Neurons whose leak float32 does not see, v (1 - 2^-30) = v.

    snnTorch 1.0 reads `nir.IF` as a leaky neuron with beta 0.9 and soft reset, and only where r = 1.
    """
    steps = np.full_like(node.r, 2.0**30)
    return nir.LIF(
        tau=steps * np.float32(DT),
        r=steps * node.r * np.float32(DT),
        v_leak=np.zeros_like(node.r),
        v_threshold=node.v_threshold,
        v_reset=node.v_reset,
    )
