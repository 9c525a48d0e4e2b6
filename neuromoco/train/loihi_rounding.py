"""Training with weights as Loihi will round them.

A layer is a convolution or linear layer, the batch norm behind it and the neurons that they drive. The forward pass
uses its folded weights and biases as round(s * w) / s and round(s * b) / s, with the s of `neuromoco.snn.loihi_ranges`;
gradients pass straight through. The head has no threshold, and uses the finest s. The statistics of batch norm are
fixed: the folded weights depend on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from neuromoco.classifier import Classifier
from neuromoco.errors import ConfigError
from neuromoco.graph.nodes import LIF, Affine, Conv, Linear, Node, Reshape
from neuromoco.graph.trace import trace
from neuromoco.snn.loihi_ranges import LARGEST_BIAS, LARGEST_WEIGHT, exact_scale, finest_scale, whole_threshold
from neuromoco.snn.neurons import reset_state
from neuromoco.unsupported import refuse

# The largest weight is this share below 127 / s (a bias below 4095 / s), so that the rule finds the same vThMant again
# for float32 weights, and not the next smaller one.
HAIR = 1e-6

Synapse = nn.Conv1d | nn.Conv2d | nn.Linear


@dataclass
class RoundedLayer:
    """A convolution or linear layer, and what its result drives."""

    name: str  # in the network
    norm: str | None = None  # name of the batch norm that folds into it
    drive: float | None = None  # g * v_th of the neurons that take the result; None for the head


def loihi_scale(weight: Tensor, bias: Tensor, drive: float | None) -> float:
    """The scale s of folded weights and biases, for neurons of g * v_th = `drive`, or None for the head."""
    finest = finest_scale(float(weight.abs().max()), float(bias.abs().max()))
    if drive is None:
        return finest if math.isfinite(finest) else 1.0
    return exact_scale(max(whole_threshold(finest, drive), 0), drive)


def round_to_loihi(weight: Tensor, bias: Tensor, drive: float | None) -> tuple[Tensor, Tensor]:
    """Folded weights and biases as Loihi will hold them, with straight-through gradients.

    Rounding can leave a largest weight below 127, for which the rule has a finer s. It is applied until s stays, so
    that rounding the result changes nothing.
    """
    w, b, scale = weight.detach().double(), bias.detach().double(), 0.0
    while (finer := loihi_scale(w, b, drive)) > scale * (1 + 3 * HAIR):
        scale = finer
        w, b = _on_grid(w, scale, LARGEST_WEIGHT), _on_grid(b, scale, LARGEST_BIAS)
    return _straight_through(weight, w), _straight_through(bias, b)


class LoihiRounded(nn.Module):
    """A classifier that runs with rounded weights; its own parameters, which are trained, are not rounded.

    Raises:
        ConfigError: a layer is not a convolution or linear layer with batch norm and neurons behind it.
        UnsupportedLayerError: a layer that no exporter can express.
    """

    def __init__(self, network: Classifier, height: int, width: int) -> None:
        super().__init__()
        self.network = network
        self.layers = find_layers(network, height, width)

    def train(self, mode: bool = True) -> LoihiRounded:
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.network, self.rounded(), (frames,))
        return logits

    def rounded(self) -> dict[str, Tensor]:
        """By name, the parameters for which each layer folds to rounded weights and biases."""
        return {name: value for layer in self.layers for name, value in _rounded_layer(self.network, layer).items()}

    @torch.no_grad()
    def baked(self) -> nn.Module:
        """A copy of the network with the rounded parameters as its own."""
        reset_state(self.network)
        copy = deepcopy(self.network)
        copy.load_state_dict(copy.state_dict() | self.rounded())
        return copy


def find_layers(network: Classifier, height: int, width: int) -> list[RoundedLayer]:
    """Every layer of a classifier, from one run of it; raises as `LoihiRounded`."""
    for name, module in network.named_modules():
        if not isinstance(module, Synapse | _BatchNorm) and any(True for _ in module.parameters(recurse=False)):
            raise _refusal(name, f"{type(module).__name__} has weights too")
    recording = trace(network, height, width)
    refuse(recording.unsupported)
    layers: dict[str, RoundedLayer] = {}
    results: dict[str, RoundedLayer] = {}  # by node, the layer whose result it is
    for node, before in _with_inputs(recording.nodes):
        layer, path = results.get(before.name), recording.modules.get(node.name)
        if isinstance(node, Conv | Linear) and path is not None:
            if path in layers:
                raise _refusal(path, "it is used twice")
            layers[path] = results[node.name] = RoundedLayer(path)
        elif isinstance(node, Affine) and path is not None:
            if layer is None or not isinstance(before, Conv | Linear):
                raise _refusal(path, "this batch norm follows no convolution")
            if network.get_submodule(path).bias is None:
                raise _refusal(path, "this batch norm has no bias")
            layer.norm, results[node.name] = path, layer
        elif isinstance(node, Reshape) and layer is not None:
            results[node.name] = layer
        elif isinstance(node, LIF) and layer is not None:  # after the product of attention, no weights drive them
            if layer.drive is not None:
                raise _refusal(layer.name, f"{path} are its second neurons")
            layer.drive = node.drive
    head = results.get(recording.nodes[-1].name)
    for layer in layers.values():
        if layer.drive is None and layer is not head:
            raise _refusal(layer.name, "its result drives no neurons")
    return list(layers.values())


def _with_inputs(nodes: Sequence[Node]) -> Iterator[tuple[Node, Node]]:
    """Every node but the network's input, each with the first node whose value it takes."""
    by_name = {node.name: node for node in nodes}
    return ((node, by_name[node.inputs[0]]) for node in nodes if node.inputs)


def _refusal(name: str, problem: str) -> ConfigError:
    needs = "rounding for Loihi needs convolutions or linear layers, then batch norm, then neurons"
    return ConfigError(f"{name}: {problem}; {needs}")


def _rounded_layer(network: nn.Module, layer: RoundedLayer) -> dict[str, Tensor]:
    module = cast(Any, network.get_submodule(layer.name))
    own_bias = module.bias if module.bias is not None else module.weight.new_zeros(len(module.weight))
    if layer.norm is None:
        weight, bias = round_to_loihi(module.weight, own_bias, layer.drive)
        return {f"{layer.name}.weight": weight} | ({} if module.bias is None else {f"{layer.name}.bias": bias})
    norm = cast(Any, network.get_submodule(layer.norm))
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight
    by_channel = gain.view(-1, *(1,) * (module.weight.ndim - 1))
    share = gain * (own_bias - norm.running_mean)  # of the folded bias, in addition to batch norm's
    weight, bias = round_to_loihi(by_channel * module.weight, norm.bias + share, layer.drive)
    # The folded weights of a channel without gain are 0; its own weights stay.
    silent = by_channel == 0
    weight = torch.where(silent, module.weight, weight / torch.where(silent, 1.0, by_channel))
    return {f"{layer.name}.weight": weight.to(module.weight), f"{layer.norm}.bias": (bias - share).to(norm.bias)}


def _on_grid(values: Tensor, scale: float, largest: int) -> Tensor:
    return (values * scale).round().clamp(-largest * (1 - HAIR), largest * (1 - HAIR)) / scale


def _straight_through(values: Tensor, rounded: Tensor) -> Tensor:
    return rounded.to(values) + (values - values.detach())  # nothing is added but the gradient
