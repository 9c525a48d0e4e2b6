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
    OR,
    Dialect,
    LoihiAttention,
    LoihiBlock,
    LoihiConv,
    LoihiGraph,
    Neuron,
    Port,
    Relay,
)
from neuromoco.runtime.loihi.stored import read_arrays
from neuromoco.support.files import writing
from neuromoco.support.untrusted import is_regular, one_line
from neuromoco.unsupported import refuse

GUARD = "unpool"  # a type for which netx raises NotImplementedError
EXTENDED = "neuromoco-extended-1"
REFRACTORY = 1  # steps; netx ignores it and Lava's neuron has none
GEOMETRY = ("stride", "padding", "dilation")
CHANNELS = ("inChannels", "outChannels")
CONVOLUTION = ("type", "shape", *CHANNELS, "kernelSize", *GEOMETRY, "groups", "weight", "neuron")
LARGEST_INTEGER = 1 << 24  # no number in a file is near it


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
    """The blocks of a file that `write_net` wrote, with the layers of its manifest.

    Raises:
        CheckpointError: it is no such file, or damaged; whether the blocks fit together is for `check`.
    """
    if not is_regular(path):
        raise CheckpointError(f"{path}: {'is no regular file' if path.exists() else 'does not exist'}")
    names = {layer["index"]: layer["name"] for layer in layers}
    try:
        tree = read_arrays(path)
        _same_names(tree, "the file", "layer")
        groups: Any = tree["layer"]
        guards = {key for key, group in groups.items() if "dialect" in group}
        if groups.keys() - guards != {str(index) for index in names} or not guards <= {"1"}:
            raise ValueError("other layers than those of the manifest")
        return LoihiGraph(tuple(_block(groups[str(layer["index"])], layer, names) for layer in layers))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        reason = one_line(error)
        raise CheckpointError(f"{path}: is no network description, or is cut or damaged ({reason})") from None


def _block(group: Any, layer: dict[str, Any], names: dict[int, str]) -> LoihiBlock:
    index, kind = layer["index"], _text(group["type"])
    wires = ("inputs",) if "inputs" in group else ()
    before = _whole(group["inputs"]) if wires else (index - 1,)
    channels, height, width = _whole(group["shape"])
    place: dict[str, Any] = {key: layer[key] for key in ("name", "depth", "largest")}
    place |= {"inputs": tuple(names[number] for number in before) if index else (), "shape": (channels, height, width)}
    what = f"layer {index}"
    if kind == "input":
        _same_names(group, what, "type", "shape")
        return Port(**place)
    neuron = group["neuron"]
    if kind == "ssa":
        _same_names(group, what, "type", "shape", "heads", "gain", "neuron", *wires)
        heads, gain = (_number(group[name]) for name in ("heads", "gain"))
        return LoihiAttention(**place, heads=heads, gain=gain, neuron=_constants(neuron, what))
    if kind != "conv":
        raise ValueError(f"{what} of type {kind!r}")
    bias = ("bias",) if "bias" in group else ()
    _same_names(
        group, what, "type", "shape", *CHANNELS, "kernelSize", *GEOMETRY, "groups", "weight", "neuron", *bias, *wires
    )
    weight = _integers(group["weight"])
    if weight.ndim != 4 or weight.shape[2:] != _whole(group["kernelSize"]):
        raise ValueError(f"{what} has weights of shape {list(weight.shape)}")
    place |= {name: _pair(group[name]) for name in GEOMETRY}
    stated = tuple(_number(group[name]) for name in (*CHANNELS, "groups"))
    if stated != (weight.shape[1] * stated[2], len(weight), stated[2]):
        raise ValueError(f"{what} states {stated[0]} channels in, {stated[1]} out and {stated[2]} groups")
    if _text(neuron["type"]) == "GRADED":
        passing = weight.shape[1:] == (1, 1, 1) and (weight == 1).all() and not bias and stated[2] == len(weight)
        if not passing or [place.pop(name) for name in GEOMETRY] != [(1, 1), (0, 0), (1, 1)]:
            raise ValueError(f"{what} is a relay that does more than pass on")
        return Relay(**place)
    return LoihiConv(
        **place,
        weight=weight,
        bias=_integers(group["bias"]) if bias else None,
        groups=stated[2],
        neuron=_constants(neuron, what),
        scale=layer["scale"],
    )


def _constants(neuron: Any, what: str) -> Neuron:
    """Neurons as the twin computes them: all that differs from that is refused."""
    _same_names(neuron, f"{what}'s neuron", *_cuba(OR))
    found = {name: _text(value) if name == "type" else _number(value) for name, value in neuron.items()}
    if found != _cuba(constants := Neuron(int(found["vThMant"]), int(found["vDecay"]))):
        raise ValueError(f"{what}'s neuron is of another kind")
    return constants


def _same_names(group: Any, what: str, *names: str) -> None:
    if set(group) != set(names):
        raise ValueError(f"{what} has {', '.join(sorted(group))[:80]}")


def _text(array: Any) -> str:
    (text,) = array
    return bytes(text).decode("ascii")


def _integers(array: Any) -> Any:
    # int() first: the smallest int64 is its own negative.
    if array.dtype.kind != "i" or (array.size and max(int(array.max()), -int(array.min())) > LARGEST_INTEGER):
        raise ValueError(f"numbers of type {array.dtype}, or above {LARGEST_INTEGER}")
    return array.astype(np.int32)


def _whole(array: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in _integers(array))


def _pair(array: Any) -> tuple[int, int]:
    first, second = _whole(array)
    return first, second


def _number(array: Any) -> int:
    return int(array[()]) if array.dtype.kind == "b" else int(_integers(array)[()])
