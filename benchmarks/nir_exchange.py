"""NIR files in the libraries that read NIR: share of equal spikes, in a table.

    python -m benchmarks.nir_exchange [--python PATH ...]

Small networks with random weights, of one kind of neuron each, whose output is spikes: what each library computes is
compared with the graph itself. A library is read by the first Python that has it: this one, then those of --python.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import nir
import numpy as np

from benchmarks.runtimes.nir_readers import LIBRARIES
from neuromoco.export.to_nir.nodes import DT, to_nir
from neuromoco.graph.interpret import compute, fire
from neuromoco.graph.nodes import LIF, Add, AvgPool, Conv, Graph, Input, Linear, MaxPool, Node, Reshape, strided_windows

READER = Path(__file__).parent / "runtimes" / "nir_readers.py"
STEPS, SIDE, CHANNELS, CLASSES = 12, 8, 4, 20
GRID = 8  # weights are whole numbers of its inverse, on which float32 does not round
WORDS = 110  # characters of a reason


def conv(rng: np.random.Generator, name: str, before: str, inputs: int) -> Conv:
    """A 3 x 3 convolution that keeps the sides."""
    weight = rng.integers(-7, 8, (CHANNELS, inputs, 3, 3)).astype(np.float32) / GRID
    once: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    bias = rng.integers(0, 4, CHANNELS).astype(np.float32) / GRID
    return Conv(name=name, inputs=(before,), shape=(CHANNELS, SIDE, SIDE), weight=weight, bias=bias, **once)


def network(kind: str) -> Graph:
    """Convolutions, neurons and a linear layer; what is special about it is its kind."""
    rng, shape = np.random.default_rng(0), (CHANNELS, SIDE, SIDE)
    neuron: dict[str, Any] = {"tau": 2.0, "v_threshold": 1.0, "decay_input": True}
    neuron |= {"decay_input": False} if kind == "LIF, r = tau" else {}
    neuron |= {"tau": math.inf, "decay_input": False} if kind == "IF" else {}
    nodes: list[Node] = [
        Input(name="x", inputs=(), shape=(2, SIDE, SIDE)),
        conv(rng, "conv1", "x", 2),
        LIF(name="sn1", inputs=("conv1",), shape=shape, **neuron),
    ]
    half = (CHANNELS, SIDE // 2, SIDE // 2)
    if kind == "max pool of spikes":
        facts: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
        nodes.append(MaxPool(name="pool", inputs=("sn1",), shape=half, **facts))
    elif kind == "average pool":
        nodes.append(AvgPool(name="pool", inputs=("sn1",), shape=half, windows=(strided_windows(SIDE, 2, 2),) * 2))
    elif kind == "residual":
        nodes += [conv(rng, "conv2", "sn1", CHANNELS), LIF(name="sn2", inputs=("conv2",), shape=shape, **neuron)]
        nodes.append(Add(name="sum", inputs=("sn1", "sn2"), shape=shape))
    before = nodes[-1]
    weight = rng.integers(-7, 8, (CLASSES, math.prod(before.shape))).astype(np.float32) / GRID
    return Graph(
        (
            *nodes,
            Reshape(name="flat", inputs=(before.name,), shape=(math.prod(before.shape),)),
            Linear(name="fc", inputs=("flat",), shape=(CLASSES,), weight=weight, bias=np.zeros(CLASSES, np.float32)),
            LIF(name="out", inputs=("fc",), shape=(CLASSES,), **neuron),
        )
    )


KINDS = ("LIF", "LIF, r = tau", "IF", "average pool", "max pool of spikes", "residual")


def wanted(graph: Graph, frames: Any) -> Any:
    """The spikes of the last layer [T, 1, ...], by the definition of every node."""
    values = {graph.input.name: frames.astype(np.float64)}
    for node in graph.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        values[node.name] = fire(node, inputs[0]) if isinstance(node, LIF) else compute(node, *inputs)
    return values[graph.output.name]


def cell(python: str, library: str, graph: Graph, versions: dict[str, str]) -> str:
    """The share of equal spikes in a library, or the reason in a few words."""
    frames = np.random.default_rng(1).poisson(0.4, (STEPS, 1, *graph.input.shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        nir.write(folder / "model.nir", to_nir(graph, {"dt": DT}))
        frames.tofile(folder / "frames.bin")
        (folder / "shape.json").write_text(json.dumps(frames.shape))
        command = [python, str(READER), library, place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        answer = json.loads(done.stdout.splitlines()[-1])
        if "problem" in answer:
            return str(answer["problem"])[:WORDS].replace("|", "/")
        found = np.fromfile(folder / "spikes.bin", np.float32)
    versions[library] = answer["version"]
    expected = wanted(graph, frames).ravel()
    if found.shape != expected.shape:
        return f"{found.size} numbers instead of {expected.size}"
    return f"{np.mean(found == expected):.1%} ({expected.mean():.0%} fire)"


def find_python(library: str, candidates: list[str]) -> str | None:
    """The first Python that has a library."""
    code = f"from importlib.metadata import version; version({library!r})"
    has = lambda python: not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode  # noqa: E731
    return next(filter(has, candidates), None)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], help="another Python that has libraries")
    options = parser.parse_args()
    versions: dict[str, str] = {}
    print(f"{date.today()}, nir {nir.version} writes\n\n| library | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")
    for library in LIBRARIES:
        python = find_python(library, [sys.executable, *options.python])
        cells = [cell(python, library, network(kind), versions) if python else "not installed" for kind in KINDS]
        print(f"| {library} | {' | '.join(cells)} |", flush=True)
    print(f"\n{'; '.join(versions.values())}")


if __name__ == "__main__":
    main()
