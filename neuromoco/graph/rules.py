"""The nodes for each kind of layer.

A layer's rule takes its name, the module and the node before it, and returns nodes that compute the same, the last of
which has the layer's value. It reads every option of the layer, and refuses what the graph cannot express, with a
substitute. To support a layer, add its exact class to `LAYERS`: a subclass may compute something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from spikingjelly.activation_based import base, layer, neuron
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from neuromoco.graph import layout, neurons
from neuromoco.graph import nodes as op
from neuromoco.graph.layout import Value
from neuromoco.runtime.loihi.blocks import conv_shape
from neuromoco.snn.neurons import LIFNode
from neuromoco.unsupported import RefusedError


def _convolution(name: str, module: nn.Conv1d | nn.Conv2d, x: op.Node) -> list[op.Node]:
    if module.padding_mode != "zeros":
        raise RefusedError(f"padding_mode {module.padding_mode!r}; use 'zeros'")
    axes = len(module.kernel_size)
    _expect_rank(x, axes + 1)
    if module.padding == "valid":
        padding: op.Shape = (0,) * axes
    elif isinstance(module.padding, str):
        padding = tuple(d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True))
        if any(k % 2 == 0 for k in module.kernel_size):
            raise RefusedError("padding 'same' of an even kernel; give numbers")
    else:
        padding = tuple(module.padding)
    weight = _numpy(module.weight)
    return [
        op.Conv(
            name=name,
            inputs=(x.name,),
            shape=conv_shape(x.shape, len(weight), module.kernel_size, module.stride, padding, module.dilation),
            weight=weight,
            bias=_bias(module, len(weight)),
            stride=tuple(module.stride),
            padding=padding,
            dilation=tuple(module.dilation),
            groups=module.groups,
        )
    ]


def _linear(name: str, module: nn.Linear, x: op.Node) -> list[op.Node]:
    if len(x.shape) != 1:
        raise RefusedError(f"on values of shape {x.shape}; flatten them, or use a convolution of kernel 1 for tokens")
    weight = _numpy(module.weight)
    bias = _bias(module, len(weight))
    return [op.Linear(name=name, inputs=(x.name,), shape=(len(weight),), weight=weight, bias=bias)]


def _batch_norm(name: str, module: nn.BatchNorm1d | nn.BatchNorm2d, x: op.Node) -> list[op.Node]:
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, with the running statistics."""
    if module.running_mean is None or module.running_var is None:
        raise RefusedError("keeps no running statistics; use track_running_stats=True")
    gain = 1.0 / np.sqrt(_numpy(module.running_var).astype(np.float64) + module.eps)
    if module.weight is not None:
        gain = gain * _numpy(module.weight)
    shift = -gain * _numpy(module.running_mean)
    offset = 0.0 if module.bias is None else _numpy(module.bias)
    terms = (np.abs(shift) + np.abs(offset)).astype(np.float32)
    return [replace(_affine(name, x, gain, shift + offset), terms=terms)]


def _max_pool(name: str, module: nn.MaxPool2d, x: op.Node) -> list[op.Node]:
    kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    if _pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise RefusedError("dilation, ceil_mode or return_indices; use the defaults")
    _expect_rank(x, 3)
    shape = conv_shape(x.shape, x.shape[0], kernel, stride, padding, (1, 1))
    return [op.MaxPool(name=name, inputs=(x.name,), shape=shape, kernel=kernel, stride=stride, padding=padding)]


def _avg_pool(name: str, module: nn.AvgPool2d, x: op.Node) -> list[op.Node]:
    if _pair(module.padding) != (0, 0) or module.ceil_mode or module.divisor_override:
        raise RefusedError("padding, ceil_mode or divisor_override; use the defaults")
    _expect_rank(x, 3)
    pairs = zip(x.shape[1:], _pair(module.kernel_size), _pair(module.stride), strict=True)
    return [_averaged(name, x, tuple(op.strided_windows(*pair) for pair in pairs))]


def _adaptive_pool(name: str, module: nn.AdaptiveAvgPool2d, x: op.Node) -> list[op.Node]:
    _expect_rank(x, 3)
    sides = _pair(module.output_size)
    parts = [side if part is None else part for side, part in zip(x.shape[1:], sides, strict=True)]
    return [_averaged(name, x, tuple(map(op.adaptive_windows, x.shape[1:], parts)))]


def _attention(name: str, module: layer.SpikingSelfAttention, x: op.Node) -> list[op.Node]:
    nodes = _chain(name, module, ("qkv_conv_bn.0", "qkv_conv_bn.1", "qkv_lif"), x)
    spikes = nodes[-1]
    product = op.Attention(
        name=f"{name}.attn", inputs=(spikes.name,), shape=x.shape, heads=module.num_heads, scale=float(module.scale)
    )
    after = _chain(name, module, ("attn_lif", "proj_conv_bn.0", "proj_conv_bn.1", "proj_lif"), product)
    return [*nodes, product, *after]


def _chain(name: str, module: nn.Module, parts: Sequence[str], x: op.Node) -> list[op.Node]:
    """Nodes of consecutive submodules."""
    nodes: list[op.Node] = []
    for part in parts:
        child = module.get_submodule(part)
        rule = LAYERS.get(type(child))
        if rule is None:
            raise RefusedError(f"holds {describe(child)} as {part}, which is not supported")
        nodes += rule(f"{name}.{part}", child, nodes[-1] if nodes else x)
    return nodes


def _voting(name: str, module: layer.VotingLayer, x: op.Node) -> list[op.Node]:
    """The mean over each group of neighbours, which vote for one class."""
    if len(x.shape) != 1:
        raise RefusedError(f"on values of shape {x.shape}; flatten them")
    row = op.Reshape(name=f"{name}.row", inputs=(x.name,), shape=(1, *x.shape))
    size = module.voting_size
    pool = _averaged(f"{name}.pool", row, (op.strided_windows(x.shape[0], size, size),))
    return [row, pool, op.Reshape(name=name, inputs=(pool.name,), shape=pool.shape[1:])]


def _scaler(name: str, module: Any, x: op.Node) -> list[op.Node]:
    """spikingjelly's VoltageScaler and ChannelVoltageScaler, which its conversion of networks puts around neurons."""
    if getattr(module, "channel_dim", 1) != 1:
        raise RefusedError(f"channel_dim={module.channel_dim}; use 1")
    if not x.shape:
        raise RefusedError("of a single number for each recording; keep its channels")
    scale = _numpy(module.scale).ravel()
    if scale.size not in (1, x.shape[0]):
        raise RefusedError(f"{scale.size} scales for {x.shape[0]} channels")
    return [_affine(name, x, scale, 0.0)]


def _nothing(name: str, module: nn.Module, x: op.Node) -> list[op.Node]:
    """The nodes of a layer that only acts in training."""
    return []


LAYERS: dict[type, Callable[[str, Any, op.Node], list[op.Node]]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, layer.Conv1d, layer.Conv2d), _convolution),
    **dict.fromkeys((nn.Linear, layer.Linear), _linear),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, layer.BatchNorm1d, layer.BatchNorm2d), _batch_norm),
    **dict.fromkeys((LIFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.IFNode), neurons.spiking),
    **dict.fromkeys((nn.MaxPool2d, layer.MaxPool2d), _max_pool),
    **dict.fromkeys((nn.AvgPool2d, layer.AvgPool2d), _avg_pool),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, layer.AdaptiveAvgPool2d), _adaptive_pool),
    **dict.fromkeys((nn.Dropout, nn.Dropout2d, layer.Dropout, layer.Dropout2d), _nothing),
    layer.SpikingSelfAttention: _attention,
    layer.VotingLayer: _voting,
}
NEURONS = frozenset({LIFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.IFNode})
# Layers that treat each number of a tensor alone, whatever its axes count.
ELEMENTWISE = NEURONS | {nn.Dropout, nn.Dropout2d, layer.Dropout, layer.Dropout2d}
# By name, as their library is no dependency.
SNNTORCH = "snntorch._neurons."
NORSE = "norse.torch.module."
STATEFUL = {  # take one step per call, return spikes, and membranes if asked
    f"{SNNTORCH}leaky.Leaky": neurons.snntorch_leaky,
    f"{SNNTORCH}synaptic.Synaptic": neurons.snntorch_synaptic,
    f"{NORSE}lif.LIFCell": neurons.norse_lif_cell,
    f"{NORSE}lif_box.LIFBoxCell": neurons.norse_lif_box_cell,
}
SINABS = "sinabs.layers."
RECORDINGS_FIRST = {  # take [N, T, ...], or [N * T, ...] in one axis, and loop over time inside
    f"{SINABS}{name}": neurons.sinabs_lif for name in ("lif.LIF", "lif.LIFSqueeze", "iaf.IAF", "iaf.IAFSqueeze")
}
CONVERTED = "spikingjelly.activation_based.ann2snn.modules."
BY_NAME = {f"{CONVERTED}VoltageScaler": _scaler, f"{CONVERTED}ChannelVoltageScaler": _scaler}
NAMED = (BY_NAME, STATEFUL, RECORDINGS_FIRST)
ON_LAST_AXIS = frozenset({nn.Linear, layer.Linear})
MULTI_STEP = frozenset({layer.SpikingSelfAttention})  # without a step_mode
KNOWN = (
    "convolution, linear, batch norm, LIF, ParametricLIF and IF neurons, snnTorch's Leaky and Synaptic, Norse's LIF "
    "cells, sinabs' LIF and IAF, max pool, average pool, "
    "adaptive average pool, dropout, SpikingSelfAttention, VotingLayer; and "
    "between layers +, -, *, @, flatten, reshape, transpose, chunk, split, cat, "
    "mean and sum over axes, x[t] and torch.stack in a loop over time"
)


def on_last_axis(
    rule: Callable[[str, Any, op.Node], list[op.Node]], name: str, module: Any, x: Value
) -> tuple[list[op.Node], Value]:
    """The nodes of a linear layer on the last axis of a tensor, whatever the others count; and its value."""
    group = x.axes[-1] if x.axes else ()
    if len(group) != 1 or not isinstance(group[0], int):
        raise RefusedError(f"takes the last axis of {layout.describe(x)}; give it the channels there")
    node, axis = x.node, group[0]
    if len(node.shape) == 1:
        nodes = rule(name, module, node)
        return nodes, replace(x, node=nodes[-1])
    order = (axis, *(i for i in range(len(node.shape)) if i != axis))
    nodes = list[op.Node]()
    if axis:
        front = tuple(node.shape[i] for i in order)
        nodes.append(op.Transpose(name=f"{name}.transpose", inputs=(node.name,), shape=front, order=order))
        node = nodes[-1]
    others = node.shape[1:]
    if len(others) > 1:
        flat = (node.shape[0], math.prod(others))
        nodes.append(op.Reshape(name=f"{name}.flat", inputs=(node.name,), shape=flat))
        node = nodes[-1]
    # A convolution of kernel 1.
    weight = _numpy(module.weight)
    once: dict[str, Any] = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1}
    shape = (len(weight), node.shape[1])
    conv_name = name if len(others) == 1 else f"{name}.tokens"
    bias = _bias(module, len(weight))
    conv = op.Conv(name=conv_name, inputs=(node.name,), shape=shape, weight=weight[:, :, None], bias=bias, **once)
    nodes.append(conv)
    if len(others) > 1:
        nodes.append(op.Reshape(name=name, inputs=(conv.name,), shape=(len(weight), *others)))
    axes = tuple(tuple(order.index(i) if isinstance(i, int) else i for i in group) for group in x.axes)
    return nodes, replace(x, node=nodes[-1], axes=axes)


SUBSTITUTES = {
    "HalfThresholdIFNode": "membranes that begin at half the threshold; convert with half_threshold=False",
    **dict.fromkeys(("Alpha", "RLeaky", "RSynaptic"), "recurrent, or two currents; use snnTorch's Leaky or Synaptic"),
    **dict.fromkeys(("LIF", "LIFBox"), "loops over time inside; use its cell, LIFCell or LIFBoxCell, step by step"),
    **dict.fromkeys(("LIFRecurrent", "LIFRecurrentCell"), "recurrent; use LIFCell"),
}


def rule_of(module: nn.Module) -> Callable[[str, Any, op.Node], list[op.Node]] | None:
    """The rule of a layer, if it has one."""
    name = _full_name(module)
    return LAYERS.get(type(module)) or next((each[name] for each in NAMED if name in each), None)


def is_recordings_first(module: nn.Module) -> bool:
    """Whether it is one of `RECORDINGS_FIRST`."""
    return _full_name(module) in RECORDINGS_FIRST


def is_stateful(module: nn.Module) -> bool:
    """Whether it is one of `STATEFUL`."""
    return _full_name(module) in STATEFUL


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one layer; of other modules, the children are looked at."""
    if rule_of(module) or isinstance(module, base.MemoryModule):
        return True
    known = type(module).__module__.startswith(("torch.nn.", "spikingjelly.", SNNTORCH, "norse.", SINABS))
    return (
        known
        and not isinstance(module, nn.Flatten | nn.Unflatten | nn.Identity | nn.Sequential)
        and not any(True for _ in module.children())
    )


def describe(module: nn.Module) -> str:
    """A module's class, with its library unless that is torch."""
    kind = type(module)
    return kind.__name__ if kind.__module__.startswith("torch.") else f"{kind.__module__.split('.')[0]} {kind.__name__}"


def _affine(name: str, x: Any, weight: Any, bias: Any) -> op.Affine:
    arrays = {"weight": np.full(x.shape[0], weight, np.float32), "bias": np.full(x.shape[0], bias, np.float32)}
    return op.Affine(name=name, inputs=(x.name,), shape=x.shape, **arrays)


def _averaged(name: str, x: op.Node, windows: Any) -> op.AvgPool:
    shape = (x.shape[0], *map(len, windows))
    return op.AvgPool(name=name, inputs=(x.name,), shape=shape, windows=windows)


def _expect_rank(x: op.Node, rank: int) -> None:
    if len(x.shape) != rank:
        raise RefusedError(f"on values of shape {x.shape}; it needs {rank} axes besides time steps and recordings")


def _bias(module: Any, size: int) -> op.Array:
    return np.zeros(size, np.float32) if module.bias is None else _numpy(module.bias)


def _numpy(tensor: Tensor) -> op.Array:
    return tensor.detach().cpu().float().numpy().copy()
