"""Training with weights as Loihi will round them.

A layer is a convolution or linear layer, the batch norm behind it and the neurons that they drive. The forward pass
uses its folded weights and biases as round(s * w) / s and round(s * b) / s, with the s of `neuromoco.snn.loihi_ranges`;
gradients pass straight through. The head has no threshold, and uses the finest s. The statistics of batch norm are
fixed: the folded weights depend on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from neuromoco.errors import ConfigError
from neuromoco.frames import POLARITIES
from neuromoco.snn.loihi_ranges import LARGEST_BIAS, LARGEST_WEIGHT, exact_scale, finest_scale, whole_threshold
from neuromoco.snn.neurons import evaluation_mode, reset_state

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
    """

    def __init__(self, network: nn.Module, height: int, width: int) -> None:
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


def find_layers(network: nn.Module, height: int, width: int) -> list[RoundedLayer]:
    """Every layer of a classifier, from one run of it; raises as `LoihiRounded`."""
    with evaluation_mode(network), torch.no_grad():
        try:
            return _LayerFinder(network).run(height, width)
        finally:
            reset_state(network)


class _LayerFinder:
    """Follows each result to the layer that takes it; a tensor is recognized by its memory, which reshapes share."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.layers: dict[str, RoundedLayer] = {}
        # By address, with the tensor, or its memory would be used again.
        self._results: dict[int, tuple[Tensor, int, RoundedLayer]] = {}

    def run(self, height: int, width: int) -> list[RoundedLayer]:
        frames = torch.zeros(2, 1, POLARITIES, height, width, device=next(self.network.parameters()).device)
        with ExitStack() as hooks:
            for name, module in self.network.named_modules():
                if hook := self._hook(name, module):
                    hooks.callback(module.register_forward_hook(hook).remove)
            logits = self.network(frames)
        for layer in self.layers.values():
            if layer.drive is None and self._source(logits) is not layer:
                raise ConfigError(f"{layer.name}: {_refusal('its result drives no neurons')}")
        return list(self.layers.values())

    def _hook(self, name: str, module: nn.Module) -> Callable[..., None] | None:
        if isinstance(module, Synapse):
            return lambda _, args, result: self._synapse(name, result)
        if isinstance(module, _BatchNorm):
            return lambda _, args, result: self._norm(name, module, args[0], result)
        if any(True for _ in module.parameters(recurse=False)):
            raise ConfigError(f"{name}: {_refusal(f'{type(module).__name__} has weights too')}")
        if isinstance(module, neuron.BaseNode):
            return lambda _, args, result: self._neurons(name, module, args[0])
        return None

    def _synapse(self, name: str, result: Tensor) -> None:
        if name in self.layers:
            raise ConfigError(f"{name}: {_refusal('it is used twice')}")
        self.layers[name] = RoundedLayer(name)
        self._keep(result, self.layers[name])

    def _norm(self, name: str, module: _BatchNorm, x: Tensor, result: Tensor) -> None:
        layer = self._source(x)
        if layer is None or layer.norm is not None:
            raise ConfigError(f"{name}: {_refusal('this batch norm follows no convolution')}")
        if module.running_var is None or module.bias is None:
            raise ConfigError(f"{name}: {_refusal('this batch norm has no running statistics or no bias')}")
        layer.norm = name
        self._keep(result, layer)

    def _neurons(self, name: str, module: neuron.BaseNode, x: Tensor) -> None:
        layer = self._source(x)
        if layer is None:
            return  # driven by no weights, such as those after the product of attention
        if layer.drive is not None:
            raise ConfigError(f"{layer.name}: {_refusal(f'{name} are its second neurons')}")
        decays = isinstance(module, neuron.LIFNode) and module.decay_input
        layer.drive = float(module.v_threshold) * (float(module.tau) if decays else 1.0)

    def _keep(self, result: Tensor, layer: RoundedLayer) -> None:
        self._results[result.data_ptr()] = (result, result._version, layer)

    def _source(self, x: Tensor) -> RoundedLayer | None:
        """The layer whose result a value is, unless it was changed in place since."""
        entry = self._results.get(x.data_ptr())
        return entry[2] if entry and x.numel() == entry[0].numel() and entry[0]._version == entry[1] else None


def _refusal(problem: str) -> str:
    return f"{problem}; rounding for Loihi needs convolutions or linear layers, then batch norm, then neurons"


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
