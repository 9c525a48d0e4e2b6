"""From a checkpoint to a NIR file, compared with its source as snnTorch runs it.

snnTorch is needed for the comparison only. It shares no code with this package: it reads `nir.LIF` into neurons of its
own, and nirtorch wires them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch

from neuromoco.checkpoint import KEY
from neuromoco.export.check.parity import NOISE, ExportRun, comparison_recordings, measure_parity, parity_summary
from neuromoco.export.exporter import Exporter
from neuromoco.export.to_nir.nodes import DT, find_unsupported_nir, to_nir
from neuromoco.graph.nodes import Graph
from neuromoco.runtime.prediction import Floats
from neuromoco.unsupported import Unsupported

BACKEND = ("snntorch", "nirtorch")
NOT_COMPARED = "not compared with its source: install snnTorch for that, pip install snntorch nirtorch"


class NirExporter(Exporter):
    """Writes a NIR graph."""

    suffix = ".nir"

    def find_unsupported(self, graph: Graph) -> list[Unsupported]:
        return find_unsupported_nir(graph)

    def write(self, graph: Graph, part: Path) -> dict[str, Any]:
        header = json.dumps(self.job.header.model_dump(mode="json", exclude={"states"}))
        self.written = to_nir(graph, {KEY: header, "dt": DT})
        nir.write(part, self.written)
        self.read = nir.read(part)
        size = {"nodes": len(self.read.nodes), "edges": len(self.read.edges), "bytes": part.stat().st_size}
        return {"nir": nir.version, "dt": DT, **size}

    def compare(self, graph: Graph, part: Path) -> tuple[dict[str, Any], str | None]:
        different = differences(self.written, self.read)
        problem = f"{', '.join(different)} read back otherwise; nir {nir.version}" if different else None
        figures: dict[str, Any] = {"read_back_equal": not different, "backend": None, "compared": None, "parity": None}
        if different or not all(find_spec(name) for name in BACKEND):
            return figures | {"not_compared": problem or NOT_COMPARED}, problem
        recordings = comparison_recordings(self.job)
        names = [node.name for node in graph.neurons]
        frames = (self.job.classifier.frames([recording]) for recording in recordings)
        parity = measure_parity(self.job.classifier.network, graph, snntorch_runs(self.read, names, frames))
        figures |= {
            "backend": {name: version(name) for name in BACKEND},
            "compared": {"noise": NOISE, "recordings": len(recordings) - NOISE},
            "parity": parity.to_json(),
            "not_compared": None,
        }
        return figures, parity.problem

    @staticmethod
    def summary(out: Path, report: dict[str, Any]) -> list[str]:
        size = f"{out}: {report['nodes']} nodes, {report['edges']} edges, {report['bytes'] / 1e6:.2f} MB"
        if report["parity"] is None:
            return [size, report["not_compared"]]
        backend = ", ".join(f"{name} {number}" for name, number in report["backend"].items())
        return [size, f"run by {backend}, compared with torch on {parity_summary(report)}"]


def differences(written: nir.NIRGraph, read: nir.NIRGraph) -> list[str]:
    """Lists what differs between two graphs: names of nodes, "edges", "metadata"."""
    names = sorted({*written.nodes, *read.nodes})
    different = [name for name in names if not _same(written.nodes.get(name), read.nodes.get(name))]
    if sorted(written.edges) != sorted(read.edges):
        different.append("edges")
    return different + ["metadata"] * (written.metadata != read.metadata)


def _same(a: nir.NIRNode | None, b: nir.NIRNode | None) -> bool:
    """Whether two nodes are of one type and hold the same numbers."""
    if a is None or b is None:
        return False
    one, other = a.to_dict(), b.to_dict()
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def snntorch_runs(graph: nir.NIRGraph, names: Sequence[str], frames: Iterable[Floats]) -> Iterator[ExportRun]:
    """What snnTorch computes for frames [T, 1, P, H, W] of each recording, with the spikes of the neurons named."""
    network = SnnTorchNetwork(graph, names)
    for recording in frames:
        yield ExportRun(recording, *network.run(recording))


class SnnTorchNetwork:
    """A NIR graph as snnTorch reads and runs it, from rest for each batch of recordings."""

    def __init__(self, graph: nir.NIRGraph, names: Sequence[str]) -> None:
        """Reads a graph; `names` are those of the layers of neurons whose spikes `run` returns."""
        from snntorch.import_nir import import_from_nir

        nodes = {name: _as_lif(node) if isinstance(node, nir.IF) else node for name, node in graph.nodes.items()}
        with redirect_stdout(io.StringIO()):  # it prints every array that it scales
            self._network = import_from_nir(nir.NIRGraph(nodes=nodes, edges=list(graph.edges), type_check=False))
        # nirtorch's names of modules.
        self._neurons: dict[str, Any] = {name: self._network.get_submodule(name.replace(".", "_")) for name in names}

    @torch.inference_mode()
    def run(self, frames: Floats) -> tuple[Floats, dict[str, Floats]]:
        """Logits [T, N, classes], and spikes [T, N, ...] by layer, of frames [T, N, P, H, W]."""
        steps: dict[str, list[Floats]] = {name: [] for name in self._neurons}
        with ExitStack() as hooks:
            for name, module in self._neurons.items():
                keep = lambda _, __, spikes, name=name: steps[name].append(spikes.numpy())  # noqa: E731
                hooks.callback(module.register_forward_hook(keep).remove)
                module.reset_mem()
            logits = [self._network(step)[0].numpy() for step in torch.from_numpy(frames)]
        return np.stack(logits), {name: np.stack(spikes) for name, spikes in steps.items()}


def _as_lif(node: nir.IF) -> nir.LIF:
    """Neurons whose leak float32 does not see, v (1 - 2^-30) = v.

    snnTorch 1.0 reads `nir.IF` as a leaky neuron with beta 0.9 and soft reset, and only where r = 1.
    """
    tau = np.full_like(node.r, 2.0**30) * np.float32(DT)
    rest = np.zeros_like(node.r)
    return nir.LIF(tau=tau, r=tau * node.r, v_leak=rest, v_threshold=node.v_threshold, v_reset=node.v_reset)
