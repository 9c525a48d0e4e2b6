"""A chain of layers that can forget what is inside its blocks and compute it again on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from neuromoco.errors import ConfigError
from neuromoco.snn.fused import SpikeSequential, run_layers
from neuromoco.snn.neurons import LIFNode, reset_state


class Blocks(SpikeSequential):
    """Layers one after another, [T, N, ...] in and out.

    Attributes:
        recompute: keep only what enters each block (gradient checkpointing, Chen et al. 2016, arXiv
            1604.06174). A convolution with what follows it up to the next one, or a residual or attention
            block, is a block.
    """

    recompute = False

    def forward(self, x: Tensor) -> Tensor:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return super().forward(x)
        for block in self.blocks():
            x = checkpoint(run_layers, block, x, use_reentrant=False, context_fn=partial(_contexts, block))
        return x

    def blocks(self) -> list[list[nn.Module]]:
        """What is computed again as one, in order."""
        blocks: list[list[nn.Module]] = []
        for layer in self:
            if not blocks or not isinstance(layer, _BatchNorm | LIFNode | nn.MaxPool2d):
                blocks.append([])
            blocks[-1].append(layer)
        return blocks


def recompute_blocks(module: nn.Module) -> None:
    """Turns recomputation on.

    Raises:
        ConfigError: the module has no `Blocks`.
    """
    chains = [chain for chain in module.modules() if isinstance(chain, Blocks)]
    if not chains:
        raise ConfigError("compute.recompute_blocks: this encoder is not made of blocks; set it to false")
    for chain in chains:
        chain.recompute = True


def _contexts(block: list[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _again(block)


@contextmanager
def _again(block: list[nn.Module]) -> Iterator[None]:
    """Neurons start from rest once more, and no batch is counted twice in the running statistics."""
    for layer in block:
        reset_state(layer)
    norms = [module for layer in block for module in layer.modules() if isinstance(module, _BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
