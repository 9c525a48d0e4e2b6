"""Integer blocks as a Lava-DL network description (`.net`, HDF5), written and read back.

The layout is that of lava.lib.dl.netx 0.6. A chain of convolutions is *stock*: unmodified netx loads it. Anything
else is *extended*: layers name their inputs by number, relays have neurons of type GRADED, attention is a layer of
type ssa. netx silently drops what it does not know, so extended files begin with a layer that it refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neuromoco.errors import CheckpointError
from neuromoco.runtime.loihi.blocks import (
    FULL_DECAY,
    Dialect,
    LoihiAttention,
    LoihiBlock,
    LoihiConv,
    LoihiGraph,
    Neuron,
    Port,
    Relay,
)
from neuromoco.support.files import writing
from neuromoco.unsupported import refuse

GUARD = "unpool"  # a type for which netx raises NotImplementedError
EXTENDED = "neuromoco-extended-1"
REFRACTORY = 1  # steps; netx ignores it and Lava's neuron has none
GEOMETRY = ("stride", "padding", "dilation")


def layer_numbers(graph: LoihiGraph, dialect: Dialect) -> dict[str, int]:
    """The number of every block's layer in a file."""
    first = 2 if dialect == "extended" else 1  # after the guard
    return {graph.port.name: 0} | {block.name: i for i, block in enumerate(graph.blocks[1:], first)}


def write_net(path: Path, graph: LoihiGraph, dialect: Dialect) -> None:
    """Writes a network description; refuses what the hardware or the dialect cannot hold."""
    refuse(graph.problems(dialect))
    numbers = layer_numbers(graph, dialect)
    with writing(path) as part, h5py.File(part, "w", track_order=True) as file:
        layers = file.create_group("layer")
        if dialect == "extended":
            _put(layers.create_group("1"), type=GUARD, dialect=EXTENDED)
        for block in graph.blocks:
            group = layers.create_group(str(numbers[block.name]))
            _put(group, **_layer(block, graph))
            if dialect == "extended" and block.inputs:
                _put(group, inputs=np.array([numbers[name] for name in block.inputs]))


def _layer(block: LoihiBlock, graph: LoihiGraph) -> dict[str, Any]:
    shape = np.array(block.shape)
    if isinstance(block, Port):
        return {"type": "input", "shape": shape}
    if isinstance(block, LoihiAttention):
        return {"type": "ssa", "shape": shape, "heads": block.heads, "gain": block.gain, "neuron": _cuba(block.neuron)}
    if isinstance(block, Relay):
        ones = np.ones((block.shape[0], 1, 1, 1), np.int32)
        passing = LoihiConv(**vars(block), weight=ones, groups=len(ones), neuron=Neuron(0, 0))
        return {**_convolution(passing, len(ones)), "neuron": {"type": "GRADED"}}
    assert isinstance(block, LoihiConv)
    return {**_convolution(block, graph[block.inputs[0]].shape[0]), "neuron": _cuba(block.neuron)}


def _convolution(block: LoihiConv, channels: int) -> dict[str, Any]:
    return {
        "type": "conv",
        "shape": np.array(block.shape),
        "inChannels": channels,
        "outChannels": block.shape[0],
        "kernelSize": np.array(block.kernel),
        **{name: np.array(getattr(block, name)) for name in GEOMETRY},
        "groups": block.groups,
        "weight": block.weight,
        **({} if block.bias is None else {"bias": block.bias}),
    }


def _cuba(neuron: Neuron) -> dict[str, Any]:
    return {
        "type": "CUBA",
        "iDecay": FULL_DECAY,
        "vDecay": neuron.v_decay,
        "vThMant": neuron.v_threshold,
        "refDelay": REFRACTORY,
        "gradedSpike": False,
    }


def _put(group: h5py.Group, **entries: Any) -> None:
    for name, value in entries.items():
        if isinstance(value, dict):
            _put(group.create_group(name), **value)
        elif isinstance(value, str):
            group.create_dataset(name, (1,), f"S{max(10, len(value))}", [value.encode("ascii")])
        else:
            group.create_dataset(name, data=value)


def read_net(path: Path, layers: list[dict[str, Any]]) -> LoihiGraph:
    """The blocks of a file that `write_net` wrote, with the layers of its manifest."""
    if not path.is_file():
        raise CheckpointError(f"{path}: does not exist")
    names = {layer["index"]: layer["name"] for layer in layers}
    try:
        with h5py.File(path, "r") as file:
            return LoihiGraph(tuple(_block(file["layer"][str(layer["index"])], layer, names) for layer in layers))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: is no network description, or is cut or damaged ({error})") from error


def _block(group: h5py.Group, layer: dict[str, Any], names: dict[int, str]) -> LoihiBlock:
    index, kind = layer["index"], group["type"][0].decode()
    before = [index - 1] if "inputs" not in group else [int(number) for number in group["inputs"]]
    channels, height, width = (int(side) for side in group["shape"])
    place: dict[str, Any] = {key: layer[key] for key in ("name", "depth", "largest")}
    place |= {"inputs": tuple(names[number] for number in before) if index else (), "shape": (channels, height, width)}
    if kind == "input":
        return Port(**place)
    neuron = group["neuron"]
    if neuron["type"][0].decode() == "GRADED":
        return Relay(**place)
    constants = Neuron(int(neuron["vThMant"][()]), int(neuron["vDecay"][()]))
    if kind == "ssa":
        return LoihiAttention(**place, heads=int(group["heads"][()]), gain=int(group["gain"][()]), neuron=constants)
    if kind != "conv":
        raise ValueError(f"layer {index} of type {kind}")
    place |= {name: tuple(map(int, group[name])) for name in GEOMETRY}
    return LoihiConv(
        **place,
        weight=group["weight"][()],
        bias=group["bias"][()] if "bias" in group else None,
        groups=int(group["groups"][()]),
        neuron=constants,
        scale=layer["scale"],
    )
