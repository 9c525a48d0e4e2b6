"""What encoders are built of: convolution with norm and neurons, chains that can recompute, initial weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from neuromoco.config import NeuronConfig
from neuromoco.errors import ConfigError
from neuromoco.snn.fused import SpikeSequential, run_layers
from neuromoco.snn.neurons import LIFNode, lif, reset_state


class Blocks(SpikeSequential):
    """Layers in sequence, [T, N, ...] in and out, which can be recomputed in the backward pass.

    Attributes:
        recompute: keep only the input of each block (gradient checkpointing, Chen et al. 2016, arXiv 1604.06174).
            A block is a residual or attention block, or a convolution with all that follows it up to the next one.
    """

    recompute = False

    def forward(self, x: Tensor) -> Tensor:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return super().forward(x)
        for block in self.blocks():
            x = checkpoint(run_layers, block, x, use_reentrant=False, context_fn=partial(_contexts, block))
        return x

    def blocks(self) -> list[list[nn.Module]]:
        """The groups of layers that are recomputed together, in order."""
        blocks: list[list[nn.Module]] = []
        for module in self:
            if not blocks or not isinstance(module, _BatchNorm | LIFNode | nn.MaxPool2d):
                blocks.append([])
            blocks[-1].append(module)
        return blocks


def conv_norm_lif(
    inputs: int, outputs: int, neuron: NeuronConfig, kernel: int = 3, stride: int = 1
) -> tuple[nn.Module, ...]:
    """A convolution padded to half its kernel, batch norm, neurons: [T, N, inputs, H, W] -> [T, N, outputs, h, w]."""
    return (
        layer.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False, step_mode="m"),
        layer.BatchNorm2d(outputs, step_mode="m"),
        lif(neuron),
    )


def initialise_weights(net: nn.Module, neuron: NeuronConfig) -> float:
    """Initialises convolutions and batch norms so that no neurons fall silent or saturate; returns the norms' weight.

    A neuron divides its input by tau: with this gain the standard deviation of its drive is the threshold
    (Zheng et al. 2021, arXiv 2011.05280).
    """
    gain = neuron.tau * neuron.v_threshold
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, gain)
    return gain


def recompute_blocks(module: nn.Module) -> None:
    """Makes every chain of `Blocks` in a module recompute its blocks in the backward pass.

    Raises:
        ConfigError: the module has no `Blocks`.
    """
    chains = [chain for chain in module.modules() if isinstance(chain, Blocks)]
    if not chains:
        raise ConfigError("compute.recompute_blocks: this encoder is not made of blocks; set it to false")
    for chain in chains:
        chain.recompute = True


def _contexts(block: list[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _recomputation(block)


@contextmanager
def _recomputation(block: list[nn.Module]) -> Iterator[None]:
    """Neurons start from rest, and the batch is not counted again in the running statistics."""
    modules = [module for member in block for module in member.modules()]
    norms = [module for module in modules if isinstance(module, _BatchNorm)]
    buffers = [(norm, *named) for norm in norms for named in norm.named_buffers(recurse=False)]
    for module in block:
        reset_state(module)
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
