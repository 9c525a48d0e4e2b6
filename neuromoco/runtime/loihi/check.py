"""Whether a Loihi export is a network for its header, before anything is computed."""

from __future__ import annotations

import math

from neuromoco.frames import POLARITIES
from neuromoco.runtime.limits import Limits
from neuromoco.runtime.loihi.blocks import (
    FULL_DECAY,
    LARGEST_DRIVE,
    LARGEST_MESSAGE,
    LoihiAttention,
    LoihiBlock,
    LoihiConv,
    LoihiGraph,
    Port,
    Relay,
    conv_shape,
)
from neuromoco.runtime.loihi.manifest import Manifest, kind_of

LARGEST_SIDE = 1 << 12  # of kernels, strides, paddings and dilations


def check_manifest(manifest: Manifest) -> None:
    """Checks what a manifest says against its header.

    Raises:
        ValueError: they differ, or the layers are not in the order of computing.
    """
    header, layers = manifest.header, manifest.layers
    _need(header.target == "loihi" and len(header.class_names) >= 1, "a header of another target, or without classes")
    _need(manifest.class_names == header.class_names, "class_names are not those of the header")
    _need(manifest.steps == manifest.reset.interval == header.frames.steps, "steps are not those of the header")
    _need(manifest.input.shape == (POLARITIES, header.frames.height, header.frames.width), "input.shape")
    _need(manifest.latency == layers[-1].depth, "latency is not the depth of the readout")
    last = layers[-1]
    _need((manifest.readout.layer, manifest.readout.scale) == (last.index, last.scale), "readout is not the last layer")
    indices = [layer.index for layer in layers]
    _need(indices == sorted(set(indices)) and indices[0] == 0, "layers are not in order")
    _need(len({layer.name for layer in layers}) == len(layers), "two layers of the same name")


def check_graph(graph: LoihiGraph, manifest: Manifest) -> None:
    """Checks the blocks of a file against each other, the manifest and the hardware.

    Raises:
        ValueError: shapes, kinds or sizes do not fit, or need more memory or work than such a network can.
    """
    weights = sum(block.weight.size for block in graph.blocks if isinstance(block, LoihiConv))
    frames = manifest.header.frames
    limits = Limits.of(frames, weights)
    products, known = 0, set[str]()
    for block, layer in zip(graph.blocks, manifest.layers, strict=True):
        kind = "readout" if block is graph.blocks[-1] else kind_of(block)
        _need(layer.kind == kind, f"{layer.name!r} is {kind}, and stated to be {layer.kind}")
        _need(
            known.issuperset(block.inputs) and (bool(block.inputs) or not known), f"{layer.name!r} takes later layers"
        )
        _need(all(side >= 1 for side in block.shape), f"{layer.name!r} has shape {block.shape}")
        products += frames.steps * _products(graph, block, limits.in_value // frames.steps)
        _need(block.largest == _largest(graph, block), f"{layer.name!r} states spikes of up to {block.largest}")
        known.add(block.name)
    _need(isinstance(graph.blocks[0], Port) and graph.port.depth == 0, "the first layer is no input")
    _need(graph.port.shape == manifest.input.shape, f"an input of shape {graph.port.shape}")
    _need(isinstance(graph.blocks[-1], LoihiConv), "the last layer is no readout")
    _need(graph.readout.neurons == len(manifest.class_names), f"{graph.readout.neurons} logits")
    _need(products <= limits.products, "more work than a network of so many weights has")
    for problem in graph.problems("extended"):
        raise ValueError(str(problem))


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(what)


def _largest(graph: LoihiGraph, block: LoihiBlock) -> int:
    """The largest spike that a block can send."""
    if isinstance(block, Port):
        return LARGEST_MESSAGE
    return graph.largest_input(block) if isinstance(block, Relay) else 1


def _products(graph: LoihiGraph, block: LoihiBlock, most: int) -> int:
    """Products that a block computes in a step, which has no more numbers than `most`."""
    shapes = {graph[name].shape for name in block.inputs}
    name, size = repr(block.name), math.prod(block.shape)
    _need(size <= most, f"{name} has {size:,} numbers in a step")
    if isinstance(block, Port):
        return size
    _need(len(shapes) == 1, f"{name} adds up inputs of different shapes")
    (before,) = shapes
    if isinstance(block, LoihiConv | LoihiAttention):
        _need(0 <= block.neuron.v_decay <= FULL_DECAY, f"{name} has vDecay {block.neuron.v_decay}")
    if isinstance(block, LoihiConv):
        return size * _fan_in(block, before, most)
    if isinstance(block, LoihiAttention):
        heads, (channels, height, width) = block.heads, block.shape
        fits = heads >= 1 and channels % heads == 0 and before == (3 * channels, height, width)
        _need(fits and 0 < block.gain < LARGEST_DRIVE, f"{name} has {heads} heads and gain {block.gain}")
        _need(heads * (channels // heads) ** 2 <= most, f"{name} has {heads} heads of {channels} channels")
        return 2 * size * (channels // heads)
    _need(block.shape == before, f"{name} passes {before} on as {block.shape}")
    return size


def _fan_in(block: LoihiConv, before: tuple[int, int, int], most: int) -> int:
    """Weights of each number that a convolution gives."""
    name, weight = repr(block.name), block.weight
    sides = (*block.kernel, *block.stride, *block.dilation)
    fits = all(1 <= side <= LARGEST_SIDE for side in sides) and all(0 <= pad <= LARGEST_SIDE for pad in block.padding)
    _need(
        fits,
        f"{name} has kernel {block.kernel}, stride {block.stride}, padding {block.padding}, dilation {block.dilation}",
    )
    mixes = block.groups >= 1 and len(weight) % block.groups == 0 and before[0] == block.groups * weight.shape[1]
    _need(mixes, f"{name} has {block.groups} groups of {before[0]} channels")
    padded = before[0] * math.prod(side + 2 * pad for side, pad in zip(before[1:], block.padding, strict=True))
    _need(padded <= most, f"{name} has {padded:,} padded numbers in a step")
    shape = conv_shape(before, len(weight), block.kernel, block.stride, block.padding, block.dilation)
    _need(shape == block.shape, f"{name} gives {shape}, and is stated to give {block.shape}")
    _need(block.bias is None or block.bias.shape == (len(weight),), f"{name} has a bias of another shape")
    return int(weight[0].size)
