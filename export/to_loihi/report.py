"""How the integer network compares with its float source, and the resources that it needs, as figures and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from torch import nn

from neuromoco.export.check.accuracy_loss import JUDGED_ON
from neuromoco.export.check.parity import SpikeCounts, logit_error, run_source
from neuromoco.export.to_loihi.resources import Resources, energy_nj, operations, resources_of, total
from neuromoco.export.to_loihi.resources import __doc__ as rules
from neuromoco.graph.nodes import Graph
from neuromoco.runtime.loihi.blocks import LoihiAttention, LoihiConv, LoihiGraph, exact_steps
from neuromoco.runtime.loihi.manifest import kind_of
from neuromoco.runtime.loihi.twin import check_readout, run
from neuromoco.runtime.prediction import Floats
from neuromoco.support.console import printable


@dataclass
class LayerCounts(SpikeCounts):
    """Sums over recordings of one layer."""

    operations: float = 0.0  # synaptic ones
    saturated: int = 0  # membranes that were clipped at their 24 bits


@dataclass
class Comparison:
    """Float and integer network on the same recordings."""

    layers: dict[str, LayerCounts]
    answers: dict[str, list[int]] = field(default_factory=lambda: {"float32": [], "loihi": []})  # class indices
    largest_error: float = 0.0  # of a logit, mean over time
    cut_counts: int = 0  # event counts above what a graded spike holds
    recordings: int = 0


def compare_loihi(network: nn.Module, graph: Graph, loihi: LoihiGraph, batches: Iterable[Floats]) -> Comparison:
    """Runs frames [T, N, P, H, W] through the float network and through the integer one mapped from its graph."""
    result = Comparison({block.name: LayerCounts() for block in loihi.blocks[1:]})
    for frames in batches:
        logits, source = run_source(network, graph, frames)
        twin = run(loihi, frames, keep=lambda _: True)
        check_readout(twin.logits, loihi.readout.neuron.v_threshold)
        answer = twin.logits / loihi.readout.scale
        result.largest_error = max(result.largest_error, logit_error(answer, logits))
        for key, values in (("float32", logits), ("loihi", answer)):
            result.answers[key] += values.mean(0).argmax(1).tolist()
        result.cut_counts += twin.cut_counts
        result.recordings += frames.shape[1]
        for block in loihi.blocks[1:]:
            layer = result.layers[block.name]
            arrived: Any = sum(np.count_nonzero(twin.spikes[name], axis=(0, 1)) for name in block.inputs)  # [C, H, W]
            layer.operations += operations(block, loihi, arrived)
            layer.saturated += twin.saturated.get(block.name, 0)
            if block.name in source:
                layer.add(source[block.name], twin.spikes[block.name])
            elif block is not loihi.readout:  # the float network has no relays
                layer.compared += twin.spikes[block.name].size
                layer.export += int(np.count_nonzero(twin.spikes[block.name]))
    return result


def layer_rows(graph: LoihiGraph, compared: Comparison, steps: int) -> list[dict[str, Any]]:
    """All figures of every layer, ready for JSON."""
    rows = []
    for block in graph.blocks[1:]:
        layer, neuron = compared.layers[block.name], getattr(block, "neuron", None)
        conv = block if isinstance(block, LoihiConv) else None
        recordings = max(1, compared.recordings)
        in_source = layer.source > 0 or layer.differ > 0
        rows.append(
            {
                "name": block.name,
                "kind": "readout" if block is graph.readout else kind_of(block),
                "shape": list(block.shape),
                "depth": block.depth,
                "scale": conv.scale if conv else float(block.gain) if isinstance(block, LoihiAttention) else 1.0,
                "vThMant": neuron.v_threshold if neuron else None,
                "vDecay": neuron.v_decay if neuron else None,
                "clipped": conv.clipped if conv else 0,
                "rounded_to_0": float(np.mean(conv.weight == 0)) if conv else 0.0,
                "saturated": layer.saturated,
                "rate": layer.export / max(1, layer.compared),
                "rate_float32": layer.source / layer.compared if in_source else None,
                "differ": layer.differ / layer.compared if in_source else None,
                "operations": layer.operations / recordings,
                "energy_nj": energy_nj(layer.operations / recordings, block.neurons, layer.export / recordings, steps),
                **asdict(resources_of(block, graph)),
            }
        )
    return rows


def totals(graph: LoihiGraph, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over all layers."""
    sums = {name: sum(row[name] for row in rows) for name in ("operations", "energy_nj", "clipped", "saturated")}
    return {**sums, **asdict(total([resources_of(block, graph) for block in graph.blocks[1:]]))}


def warnings_of(graph: LoihiGraph, steps: int, compared: Comparison) -> list[str]:
    """Warnings for the user, one line each."""
    lines = []
    for block in graph.blocks[1:]:
        if (exact := exact_steps(block)) and steps > exact and isinstance(block, LoihiConv | LoihiAttention):
            lines.append(
                f"{block.name}: T = {steps}, and with vDecay {block.neuron.v_decay} membranes drop bits after "
                f"{exact} steps: in Lava and in the twin, not in the float network"
            )
    if compared.cut_counts:
        lines.append(f"{compared.cut_counts} event counts above 255 were sent as 255; use more time steps")
    silent = [name for name, layer in compared.layers.items() if layer.compared and not layer.export]
    lines += [f"{name}: never spikes on the recordings compared" for name in silent]
    return lines


def as_text(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    total = report["total"]
    lines = [
        printable(f"# {report['file']}: {report['encoder']} for Loihi"),
        "",
        f"{report['dialect']} dialect, T = {report['steps']}, latency {report['latency']} steps, from "
        f"{printable(report['source'])} (SHA-256 {report['source_sha256'][:16]}). Nothing here was run on a chip.",
        "",
        "## Compared with the float network",
        "",
        f"Scales chosen on {report['calibrated_on']} recordings, compared on {report['compared']['recordings']}"
        f"{judged_on(report)}: "
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
        "Operations and energy are per recording; cores and energy are estimates.",
        "",
        *(rules or "").split("\n\n", 1)[1].strip().splitlines(),
        "",
    ]
    return "\n".join(lines)


def judged_on(report: Mapping[str, Any]) -> str:
    """What the recordings compared on are, in brackets, where scales were chosen on recordings."""
    return f" ({JUDGED_ON[report['judged_on']]})" if report.get("judged_on") else ""


def comparison_line(report: Mapping[str, Any]) -> str:
    """What the comparison of an integer network with its source found, in a line."""
    accuracy, count = report["accuracy"], report["compared"]["recordings"]
    measured = f", accuracy {accuracy['loihi']:.1%} (float32 {accuracy['float32']:.1%})" if accuracy else ""
    found = f"same answer on {report['agreement']:.1%}{measured}"
    return f"compared with float32 on {count} recordings{judged_on(report)}: {found}"


def _row(row: Mapping[str, Any]) -> str:
    shape = " x ".join(map(str, row["shape"]))
    rates = [f"{row[name]:.2%}" if row[name] is not None else "-" for name in ("rate", "rate_float32", "differ")]
    constants = ["-" if row[name] is None else str(row[name]) for name in ("vThMant", "vDecay")]
    cells = [row["name"], row["kind"], shape, row["depth"], f"{row['scale']:.4g}", *constants]
    return "| " + " | ".join(map(str, [*cells, row["clipped"], row["saturated"], *rates])) + " |"


def _resources(name: str, row: Mapping[str, Any]) -> str:
    counts = (f"{row[count.name]:,}" for count in fields(Resources))
    cells = [name, *counts, f"{row['operations']:,.0f}", f"{row['energy_nj']:,.1f}"]
    return f"| {' | '.join(cells)} |"
