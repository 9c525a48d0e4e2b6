"""Networks with random weights that are nevertheless alive: every layer spikes, none saturates."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from neuromoco.classifier import Classifier
from neuromoco.config import EncoderConfig
from neuromoco.encoders import build_encoder

CLASSES = 10
HIGHEST = 0.30  # spikes a neuron and step that are allowed in a layer
GRID_LIMIT = 15  # weights on a grid are whole numbers up to here, times a power of two
GRID = 1 / 16  # biases on a grid are multiples of it


def live_network(config: EncoderConfig, frames: Tensor, seed: int) -> Classifier:
    """Random weights, batch norm with the statistics of its inputs, and thresholds that let every layer spike.

    The neurons after the attention product see no batch norm: their threshold is raised until they spike at most
    every fourth time.
    """
    torch.manual_seed(seed)
    network = Classifier(build_encoder(config), CLASSES).train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            nn.init.constant_(module.weight, config.neuron.tau * config.neuron.v_threshold)
    _calm(network, frames)
    return network.eval()


def _calm(network: Classifier, frames: Tensor) -> None:
    """Raises the threshold of layers that spike too often."""
    for _ in range(8):
        busy = [name for name, rate in spike_rates(network, frames).items() if rate > HIGHEST]
        for name in busy:
            network.get_submodule(name).v_threshold *= 1.5
        if not busy:
            break


@torch.no_grad()
def grid_network(config: EncoderConfig, frames: Tensor, seed: int) -> Classifier:
    """A live network on which float32 is exact: no product or sum rounds, in any order, so no spike may flip.

    Weights are small whole numbers times a power of two, batch norm multiplies by a power of two.
    """
    network = live_network(config, frames, seed)
    hooks = []
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            module.weight.copy_(_on_grid(module.weight))
            if module.bias is not None:
                module.bias.copy_(_on_grid(module.bias))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            hooks.append(module.register_forward_pre_hook(_norm_on_grid))
    network(frames)
    for hook in hooks:
        hook.remove()
    _calm(network, frames)
    return network


def _on_grid(values: Tensor) -> Tensor:
    scale = torch.exp2((GRID_LIMIT / values.abs().max()).log2().floor())
    return (values * scale).round() / scale


def _norm_on_grid(norm: Any, inputs: tuple[Tensor]) -> None:
    """Statistics of its inputs, to the nearest power of two and the grid; what comes later sees the result."""
    x = inputs[0].flatten(0, 1) if getattr(norm, "step_mode", "s") == "m" else inputs[0]  # [T * N, C, ...]
    x = x.transpose(0, 1).flatten(1)  # [C, ...]
    gain = torch.exp2((norm.weight / x.std(1).clamp(min=1e-3)).log2().round())
    norm.bias.copy_((-gain * x.mean(1) / GRID).round() * GRID)
    norm.weight.copy_(gain)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.eps = 0.0


@torch.no_grad()
def spike_rates(network: nn.Module, frames: Tensor) -> dict[str, float]:
    """Spikes a neuron and step, by layer."""
    return {name: float(spikes.mean()) for name, spikes in spikes_of(network, frames)[1].items()}


@torch.no_grad()
def spikes_of(network: nn.Module, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits per step, and the spikes of every layer of neurons."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
        for name, module in network.named_modules()
        if isinstance(module, neuron.BaseNode)
    ]
    logits = network(frames)
    for hook in hooks:
        hook.remove()
    return logits, seen
