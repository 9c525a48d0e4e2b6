"""What each kind of layer and function means in the graph.

A layer's rule takes its name, the module and the node before it, and gives the nodes that do the same, the
last of which has its value. A function's rule takes the nodes (or numbers) it was called with. Both refuse
what the graph cannot say, with a substitute. To support a layer, add its exact class to `LAYERS`:
a subclass may compute something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from neuromoco.export.graph.nodes import (
    LIF,
    Add,
    Affine,
    Array,
    Attention,
    AvgPool,
    Conv,
    Linear,
    MaxPool,
    Multiply,
    Node,
    Reshape,
    Shape,
    adaptive_windows,
    strided_windows,
)
from neuromoco.runtime.loihi.blocks import conv_shape
from neuromoco.snn.neurons import LIFNode
from neuromoco.unsupported import RefusedError


def _convolution(name: str, module: nn.Conv1d | nn.Conv2d, x: Node) -> list[Node]:
    if module.padding_mode != "zeros":
        raise RefusedError(f"padding_mode {module.padding_mode!r}; use 'zeros'")
    axes = len(module.kernel_size)
    _expect_rank(x, axes + 1)
    if module.padding == "valid":
        padding: Shape = (0,) * axes
    elif isinstance(module.padding, str):
        padding = tuple(d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True))
        if any(k % 2 == 0 for k in module.kernel_size):
            raise RefusedError("padding 'same' of an even kernel; give numbers")
    else:
        padding = tuple(module.padding)
    weight = _numpy(module.weight)
    return [
        Conv(
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


def _linear(name: str, module: nn.Linear, x: Node) -> list[Node]:
    if len(x.shape) != 1:
        raise RefusedError(f"on values of shape {x.shape}; flatten them, or use a convolution of kernel 1 for tokens")
    weight = _numpy(module.weight)
    bias = _bias(module, len(weight))
    return [Linear(name=name, inputs=(x.name,), shape=(len(weight),), weight=weight, bias=bias)]


def _batch_norm(name: str, module: nn.BatchNorm1d | nn.BatchNorm2d, x: Node) -> list[Node]:
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, with the running statistics."""
    if module.running_mean is None or module.running_var is None:
        raise RefusedError("keeps no running statistics; use track_running_stats=True")
    gain = 1.0 / np.sqrt(_numpy(module.running_var).astype(np.float64) + module.eps)
    if module.weight is not None:
        gain = gain * _numpy(module.weight)
    bias = -gain * _numpy(module.running_mean)
    if module.bias is not None:
        bias = bias + _numpy(module.bias)
    return [_affine(name, x, gain, bias)]


def _neuron(name: str, module: Any, x: Node) -> list[Node]:
    if module.step_mode != "m":
        raise RefusedError("sees one time step a call; set step_mode='m'")
    if module.v_reset is None:
        raise RefusedError("a soft reset; use v_reset=0.0")
    if module.v_reset != 0.0:
        raise RefusedError(f"a reset to {module.v_reset}; use v_reset=0.0")
    tau, decay_input = math.inf, False
    if isinstance(module, neuron.ParametricLIFNode):
        tau, decay_input = 1.0 / float(torch.sigmoid(module.w)), bool(module.decay_input)
    elif isinstance(module, neuron.LIFNode):
        tau, decay_input = float(module.tau), bool(module.decay_input)
    threshold = float(module.v_threshold)
    return [LIF(name=name, inputs=(x.name,), shape=x.shape, tau=tau, v_threshold=threshold, decay_input=decay_input)]


def _max_pool(name: str, module: nn.MaxPool2d, x: Node) -> list[Node]:
    kernel, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    if _pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise RefusedError("dilation, ceil_mode or return_indices; use the defaults")
    _expect_rank(x, 3)
    shape = conv_shape(x.shape, x.shape[0], kernel, stride, padding, (1, 1))
    return [MaxPool(name=name, inputs=(x.name,), shape=shape, kernel=kernel, stride=stride, padding=padding)]


def _avg_pool(name: str, module: nn.AvgPool2d, x: Node) -> list[Node]:
    if _pair(module.padding) != (0, 0) or module.ceil_mode or module.divisor_override:
        raise RefusedError("padding, ceil_mode or divisor_override; use the defaults")
    _expect_rank(x, 3)
    pairs = zip(x.shape[1:], _pair(module.kernel_size), _pair(module.stride), strict=True)
    return [_averaged(name, x, tuple(strided_windows(*pair) for pair in pairs))]


def _adaptive_pool(name: str, module: nn.AdaptiveAvgPool2d, x: Node) -> list[Node]:
    _expect_rank(x, 3)
    sides = _pair(module.output_size)
    parts = [side if part is None else part for side, part in zip(x.shape[1:], sides, strict=True)]
    return [_averaged(name, x, tuple(map(adaptive_windows, x.shape[1:], parts)))]


def _attention(name: str, module: layer.SpikingSelfAttention, x: Node) -> list[Node]:
    nodes = _chain(name, module, ("qkv_conv_bn.0", "qkv_conv_bn.1", "qkv_lif"), x)
    spikes = nodes[-1]
    product = Attention(
        name=f"{name}.attn",
        inputs=(spikes.name,),
        shape=x.shape,
        heads=module.num_heads,
        scale=float(module.scale),
    )
    return [
        *nodes,
        product,
        *_chain(name, module, ("attn_lif", "proj_conv_bn.0", "proj_conv_bn.1", "proj_lif"), product),
    ]


def _chain(name: str, module: nn.Module, parts: Sequence[str], x: Node) -> list[Node]:
    """Nodes of submodules that follow one another."""
    nodes: list[Node] = []
    for part in parts:
        child = module.get_submodule(part)
        rule = LAYERS.get(type(child))
        if rule is None:
            raise RefusedError(f"holds {describe(child)} as {part}, which is not supported")
        nodes += rule(f"{name}.{part}", child, nodes[-1] if nodes else x)
    return nodes


def _nothing(name: str, module: nn.Module, x: Node) -> list[Node]:
    """A layer that only acts in training."""
    return []


LAYERS: dict[type, Callable[[str, Any, Node], list[Node]]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, layer.Conv1d, layer.Conv2d), _convolution),
    **dict.fromkeys((nn.Linear, layer.Linear), _linear),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, layer.BatchNorm1d, layer.BatchNorm2d), _batch_norm),
    **dict.fromkeys((LIFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.IFNode), _neuron),
    **dict.fromkeys((nn.MaxPool2d, layer.MaxPool2d), _max_pool),
    **dict.fromkeys((nn.AvgPool2d, layer.AvgPool2d), _avg_pool),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, layer.AdaptiveAvgPool2d), _adaptive_pool),
    **dict.fromkeys((nn.Dropout, nn.Dropout2d, layer.Dropout, layer.Dropout2d), _nothing),
    layer.SpikingSelfAttention: _attention,
}
KNOWN = (
    "convolution, linear, batch norm, LIF, ParametricLIF and IF neurons with hard reset, max pool, average pool, "
    "adaptive average pool, dropout, SpikingSelfAttention;"
    " and between layers +, -, *, flatten, reshape, mean over space"
)
# A remedy for layers that people are likely to have; for the rest, what is known.
SUBSTITUTES = {
    "relu": "use a neuron, such as neuromoco.snn.neurons.lif",
    "cat": "join branches with + as SEW-ResNet does",
    "matmul": "use spikingjelly's layer.SpikingSelfAttention",
    "softmax": "spiking attention has none; use spikingjelly's layer.SpikingSelfAttention",
    "layer_norm": "use batch norm, which folds into the layer before it",
    "getitem": "let layers see all time steps at once: step_mode='m'",
}

Operand = Node | float


def _add(name: str, a: Operand, b: Operand) -> list[Node]:
    if isinstance(a, Node) and isinstance(b, Node):
        _expect_same(a, b)
        return [Add(name=name, inputs=(a.name, b.name), shape=a.shape)]
    x, number = (a, b) if isinstance(a, Node) else (b, a)
    return [_affine(name, x, 1.0, number)]  # type: ignore[arg-type]


def _subtract(name: str, a: Operand, b: Operand) -> list[Node]:
    if not isinstance(b, Node):
        return _add(name, a, -b)
    if not isinstance(a, Node):
        return [_affine(name, b, -1.0, a)]
    minus = _affine(f"{name}.minus", b, -1.0, 0.0)
    return [minus, *_add(name, a, minus)]


def _multiply(name: str, a: Operand, b: Operand) -> list[Node]:
    if isinstance(a, Node) and isinstance(b, Node):
        _expect_same(a, b)
        return [Multiply(name=name, inputs=(a.name, b.name), shape=a.shape)]
    x, number = (a, b) if isinstance(a, Node) else (b, a)
    return [_affine(name, x, number, 0.0)]  # type: ignore[arg-type]


def _divide(name: str, a: Operand, b: Operand) -> list[Node]:
    if isinstance(b, Node):
        raise RefusedError("division by a value; divide by a number")
    return _multiply(name, a, 1.0 / b)


# Python's and torch's names of them, without underscores and the i of what is done in place.
FUNCTIONS: dict[str, Callable[[str, Operand, Operand], list[Node]]] = {
    "add": _add,
    "radd": _add,
    "sub": _subtract,
    "rsub": lambda name, a, b: _subtract(name, b, a),
    "mul": _multiply,
    "rmul": _multiply,
    "div": _divide,
    "truediv": _divide,
    "rdiv": lambda name, a, b: _divide(name, b, a),
    "rtruediv": lambda name, a, b: _divide(name, b, a),
}
RESHAPES = frozenset({"flatten", "reshape", "view", "squeeze", "unsqueeze", "unflatten"})
COPIES = frozenset({"contiguous", "clone", "detach", "float", "to", "cpu"})


def mean_over_space(name: str, x: Node, shape: Shape) -> list[Node]:
    """The mean over all axes but the channels', to a value of `shape`.

    Raises:
        RefusedError: another mean.
    """
    if shape not in ((x.shape[0],), (x.shape[0], *(1,) * (len(x.shape) - 1))):
        raise RefusedError("a mean over other axes than all of space; use adaptive average pooling, or move it")
    pooled = _averaged(f"{name}.pool", x, tuple(((0, side),) for side in x.shape[1:]))
    return [pooled, Reshape(name=name, inputs=(pooled.name,), shape=shape)]


def describe(module: nn.Module) -> str:
    """A module's class, with its library where the name alone may mislead."""
    kind = type(module)
    return kind.__name__ if kind.__module__.startswith("torch.") else f"{kind.__module__.split('.')[0]} {kind.__name__}"


def _affine(name: str, x: Node, weight: Any, bias: Any) -> Affine:
    arrays: list[Array] = [np.full(x.shape[0], value, np.float32) for value in (weight, bias)]
    return Affine(name=name, inputs=(x.name,), shape=x.shape, weight=arrays[0], bias=arrays[1])


def _averaged(name: str, x: Node, windows: Any) -> AvgPool:
    shape = (x.shape[0], *map(len, windows))
    return AvgPool(name=name, inputs=(x.name,), shape=shape, windows=windows)


def _expect_rank(x: Node, rank: int) -> None:
    if len(x.shape) != rank:
        raise RefusedError(f"on values of shape {x.shape}; it needs {rank} axes beside time steps and recordings")


def _expect_same(a: Node, b: Node) -> None:
    if a.shape != b.shape:
        raise RefusedError(f"of shapes {a.shape} and {b.shape}; both must be the same")


def _bias(module: Any, size: int) -> Array:
    return np.zeros(size, np.float32) if module.bias is None else _numpy(module.bias)


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().float().numpy().copy()


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)
