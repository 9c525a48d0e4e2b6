"""How the integer network compares with its float source, and what it takes of a chip: figures, and a page of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neuromoco.classifier import Classifier
from neuromoco.export.check.parity import run_source
from neuromoco.export.graph.nodes import Graph
from neuromoco.export.to_loihi.resources import __doc__ as rules
from neuromoco.export.to_loihi.resources import energy_nj, limits_of, operations, resources_of, total
from neuromoco.runtime.loihi.blocks import Attention, Block, Conv, LoihiGraph, exact_steps
from neuromoco.runtime.loihi.folder import kind_of
from neuromoco.runtime.loihi.twin import Floats, check_readout, run

RESOURCES = ("neurons", "connections", "weights", "weight_bits", "axons", "cores_loihi1", "cores_loihi2")


@dataclass
class _Layer:
    """Sums over recordings."""

    spikes: float = 0.0
    float_spikes: float = 0.0
    differ: int = 0
    compared: int = 0
    operations: float = 0.0
    saturated: int = 0


@dataclass
class Comparison:
    """Float and integer network on the same recordings.

    Attributes:
        answers: class indices of both, by name.
        layers: sums by block.
        largest_error: of a logit, mean over time.
        cut_counts: event counts above what a graded spike holds.
        recordings: how many.
    """

    answers: dict[str, list[int]] = field(default_factory=lambda: {"float32": [], "loihi": []})
    layers: dict[str, _Layer] = field(default_factory=dict)
    largest_error: float = 0.0
    cut_counts: int = 0
    recordings: int = 0

    @property
    def agreement(self) -> float:
        """Share of recordings with the same answer."""
        return float(np.mean(np.equal(self.answers["float32"], self.answers["loihi"])))


def compare(network: Classifier, graph: Graph, loihi: LoihiGraph, batches: Iterable[Floats]) -> Comparison:
    """Runs recordings through both.

    Args:
        network: the source.
        graph: lowered from it.
        loihi: mapped from that.
        batches: frames [T, N, P, H, W].

    Raises:
        NeuromocoError: a recording drives the integer network out of its range.
    """
    names = [node.name for node in graph.neurons]
    result = Comparison(layers={block.name: _Layer() for block in loihi.blocks[1:]})
    for frames in batches:
        logits, spikes = run_source(network, frames, names)
        found = run(loihi, frames, keep=lambda _: True)
        check_readout(found.logits, loihi.readout.neuron.v_threshold)
        answer = found.logits / loihi.readout.scale
        result.largest_error = max(result.largest_error, float(np.abs(answer.mean(0) - logits.mean(0)).max()))
        for key, values in (("float32", logits), ("loihi", answer)):
            result.answers[key] += values.mean(0).argmax(1).tolist()
        result.cut_counts += found.cut_counts
        result.recordings += frames.shape[1]
        for block in loihi.blocks[1:]:
            _count(result.layers[block.name], block, loihi, found.spikes, spikes.get(block.name))
            result.layers[block.name].saturated += found.saturated.get(block.name, 0)
    return result


def _count(layer: _Layer, block: Block, graph: LoihiGraph, spikes: Mapping[str, Floats], source: Any) -> None:
    arrived: Any = sum(np.count_nonzero(spikes[name], axis=(0, 1)) for name in block.inputs)  # [C, H, W]
    layer.operations += operations(block, graph, arrived)
    if block is graph.readout:
        return
    own = spikes[block.name]
    layer.spikes += np.count_nonzero(own)
    layer.compared += own.size
    if source is not None:
        layer.float_spikes += float(source.sum(dtype=np.float64))
        layer.differ += int(np.count_nonzero(source.reshape(own.shape) != own))


def layer_rows(graph: LoihiGraph, compared: Comparison, steps: int) -> list[dict[str, Any]]:
    """Everything about every layer, ready for JSON."""
    rows = []
    for block in graph.blocks[1:]:
        layer, neuron = compared.layers[block.name], getattr(block, "neuron", None)
        conv = block if isinstance(block, Conv) else None
        recordings = max(1, compared.recordings)
        seen = layer.float_spikes > 0 or layer.differ > 0
        rows.append(
            {
                "name": block.name,
                "kind": "readout" if block is graph.readout else kind_of(block),
                "shape": list(block.shape),
                "depth": block.depth,
                "scale": conv.scale if conv else float(block.gain) if isinstance(block, Attention) else 1.0,
                "vThMant": neuron.v_threshold if neuron else None,
                "vDecay": neuron.v_decay if neuron else None,
                "clipped": conv.clipped if conv else 0,
                "rounded_to_0": float(np.mean(conv.weight == 0)) if conv else 0.0,
                "saturated": layer.saturated,
                "rate": layer.spikes / max(1, layer.compared),
                "rate_float32": layer.float_spikes / layer.compared if seen else None,
                "differ": layer.differ / layer.compared if seen else None,
                "operations": layer.operations / recordings,
                "energy_nj": energy_nj(layer.operations / recordings, block.neurons, layer.spikes / recordings, steps),
                **resources_of(block, graph).to_json(),
            }
        )
    return rows


def totals(graph: LoihiGraph, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of all layers."""
    sums = {name: sum(row[name] for row in rows) for name in ("operations", "energy_nj", "clipped", "saturated")}
    return {**sums, **total([resources_of(block, graph) for block in graph.blocks[1:]]).to_json()}


def warnings_of(graph: LoihiGraph, steps: int, compared: Comparison) -> list[str]:
    """What a user should know, one line each."""
    found = []
    for block in graph.blocks[1:]:
        if (exact := exact_steps(block)) and steps > exact and isinstance(block, Conv | Attention):
            found.append(
                f"{block.name}: T = {steps}, and with vDecay {block.neuron.v_decay} membranes drop bits after "
                f"{exact} steps: in Lava and in the twin, not in the float network"
            )
    if compared.cut_counts:
        found.append(f"{compared.cut_counts} event counts above 255 were sent as 255; use more time steps")
    found += limits_of(graph)
    silent = [name for name, layer in compared.layers.items() if layer.compared and not layer.spikes]
    found += [f"{name}: never spikes on the recordings compared" for name in silent]
    return found


def as_text(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    total = report["total"]
    lines = [
        f"# {report['file']}: {report['encoder']} for Loihi",
        "",
        f"{report['dialect']} dialect, T = {report['steps']}, latency {report['latency']} steps, from "
        f"{report['source']} (SHA-256 {report['source_sha256'][:16]}). Nothing here was run on a chip.",
        "",
        "## Beside the float network",
        "",
        f"Scales chosen on {report['calibrated_on']} recordings, compared on {report['compared']['recordings']}: "
        f"same answer on {report['agreement']:.1%}, largest difference of a logit {report['largest_error']:.2g}.",
    ]
    if report["accuracy"] is not None:
        accuracy = report["accuracy"]
        lines.append(f"Accuracy {accuracy['loihi']:.1%}, float32 {accuracy['float32']:.1%}.")
    lines += ["", *(f"- {warning}" for warning in report["warnings"]), ""] if report["warnings"] else [""]
    lines += [
        "## Layers",
        "",
        "| layer | kind | shape | depth | scale | vThMant | vDecay | clipped | saturated | rate | float | differ |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(row) for row in report["layers"]),
        "",
        "## Resources",
        "",
        "| layer | neurons | synapses | weights | bits | axons | cores, Loihi 1 | cores, Loihi 2 | operations | nJ |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_resources(row["name"], row) for row in report["layers"]),
        _resources("all", total),
        "",
        "Operations and energy are those of a recording; cores and energy are estimates.",
        "",
        *(rules or "").split("\n\n", 1)[1].strip().splitlines(),
        "",
    ]
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> str:
    shape = " x ".join(map(str, row["shape"]))
    rates = [f"{row[name]:.2%}" if row[name] is not None else "-" for name in ("rate", "rate_float32", "differ")]
    constants = ["-" if row[name] is None else str(row[name]) for name in ("vThMant", "vDecay")]
    cells = [row["name"], row["kind"], shape, row["depth"], f"{row['scale']:.4g}", *constants]
    return "| " + " | ".join(map(str, [*cells, row["clipped"], row["saturated"], *rates])) + " |"


def _resources(name: str, row: Mapping[str, Any]) -> str:
    counts = [row[key] for key in RESOURCES]
    cells = [name, *(f"{n:,}" for n in counts), f"{row['operations']:,.0f}", f"{row['energy_nj']:,.1f}"]
    return f"| {' | '.join(cells)} |"
