"""Spiking networks of other libraries, exported as they are: with equal spikes, with flips, or why they are refused.

python -m benchmarks.foreign_networks [NAME ...]   # prints the table of docs/onnx.md

Weights are random (seed 0), batch norms have the statistics of their input and a gain that makes neurons spike. torch's
exporter writes the same networks; both files run in ONNX Runtime on one thread, in turn, and the medians are printed.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import onnxruntime
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

import neuromoco
from benchmarks.foreign_zoo import NETWORKS
from benchmarks.onnx_export import torch_export
from benchmarks.timing import rounds
from neuromoco.errors import NeuromocoError

RUNS = 15
GAIN = 2.0


def lively(network: nn.Module, example: Tensor, steps: int | None) -> nn.Module:
    """A network in evaluation mode whose neurons spike."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            if module.affine:
                nn.init.constant_(module.weight, GAIN)
                nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():
        network(example)
    functional.reset_net(network)
    return network.eval()


class Stepwise(nn.Module):
    """A network of one step per call as one of all steps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.network(x_t) for x_t in x])


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def operators(model: onnx.ModelProto) -> int:
    """Operators of a file, with those of its functions where they are called."""
    bodies = {(one.domain, one.name): one for one in model.functions}

    def count(nodes: Any) -> int:
        inner = ((bodies.get((node.domain, node.op_type)), node) for node in nodes)
        return sum(count(body.node) if body is not None else 1 for body, _ in inner)

    return count(model.graph.node)


def row(name: str, place: Path) -> str:
    """A line of the table."""
    build, example, options = NETWORKS[name]
    torch.manual_seed(0)
    try:
        network = lively(build(), example, options.get("steps"))
        report = neuromoco.export(network, example, place / "m.onnx", **options)
    except NeuromocoError as error:
        reason, unknown, _ = str(error).replace("|", "/").partition(": known are")
        return f"| {name} | refused: {reason}{': no rule' if unknown else ''} | | | | |"
    layers = report["parity"]["layers"]
    flipped, compared = (sum(entry[key] for entry in layers) for key in ("flipped", "compared"))
    rate = sum(entry["rate"] * entry["compared"] for entry in layers) / max(1, compared)
    steps = options.get("steps")
    frames = (torch.stack([example] * steps) if steps else example).contiguous()
    functional.reset_net(network)
    compare = beside_torch(Stepwise(network) if steps else network, frames, (place / "m.onnx").read_bytes(), report)
    return (
        f"| {name} | lowers, {flipped:,} of {compared:,} | {rate:.0%}, {report['parity']['largest_error']:.0e} | "
        f"{' | '.join(compare)} |"
    )


def beside_torch(network: nn.Module, frames: Tensor, ours: bytes, report: dict[str, Any]) -> tuple[str, str, str]:
    """Seconds to write, operators and milliseconds of a call, of our file and of that of torch's exporter."""
    own = session(ours)
    seconds, nodes = f"{report['seconds_to_write']:.1f} s", f"{report['nodes']:,}"
    given = frames.numpy()
    begin = time.perf_counter()
    try:
        theirs = torch_export(copy.deepcopy(network), frames)
    except Exception as error:  # of torch, whatever it is
        (own_ms,) = rounds(lambda: own.run(None, {"frames": given}), runs=RUNS)
        reason = f"fails: {type(error).__name__}"
        return f"{seconds}, {reason}", f"{nodes}, -", f"{median(own_ms) * 1e3:.2f} ms, -"
    took = time.perf_counter() - begin
    other = session(theirs.SerializeToString())
    (entry,) = (value.name for value in other.get_inputs())
    own_s, other_s = rounds(
        lambda: own.run(None, {"frames": given}), lambda: other.run(None, {entry: given}), runs=RUNS
    )
    ratio = median(a / b for a, b in zip(own_s, other_s, strict=True))
    return (
        f"{seconds}, {took:.1f} s",
        f"{nodes}, {operators(theirs):,}",
        f"{median(own_s) * 1e3:.2f} ms, {median(other_s) * 1e3:.2f} ms ({ratio:.2f})",
    )


def main(names: list[str]) -> None:
    """Prints the table."""
    warnings.simplefilter("ignore")
    head = ("network", "spikes and silences that differ", "spike rate, error", "written in", "operators", "a call")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with tempfile.TemporaryDirectory() as place:
        for name in names or NETWORKS:
            try:
                print(row(name, Path(place)), flush=True)
            except Exception as error:
                print(f"| {name} | does not run here | {type(error).__name__}: {str(error)[:100]} | | | |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
