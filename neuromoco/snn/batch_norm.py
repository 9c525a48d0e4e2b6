"""Batch norm whose statistics come from groups of a batch, or from the batches of all processes.

If query and key are normalised together with the same other recordings, the statistics reveal which belong together
(He et al. 2020, arXiv 1911.05722, 3.3), so `neuromoco.moco` normalises them in different groups. Parameters and buffers
are those of the plain batch norm that is replaced, under the same names; in evaluation both compute the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Replacement(_BatchNorm):
    """Takes over a batch norm's tensors and constants; input [T, N, C, H, W] or [T * N, C, ...], statistics per C."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers(recurse=False):
            setattr(self, name, buffer)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1) if x.ndim == 5 else x  # [T * N, C, ...]
        return (self._normalise(flat) if self.training else super().forward(flat)).view(x.shape)

    def _normalise(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _check_input_dim(self, x: Tensor) -> None:
        """Accepts any number of dimensions."""

    def _weight_of_batch(self) -> float:
        """Weight of this batch in the running statistics."""
        self.num_batches_tracked.add_(1)
        return 1.0 / int(self.num_batches_tracked) if self.momentum is None else self.momentum


class GroupedBatchNorm(_Replacement):
    """Batch norm over G `groups`, which divide the batch size: recording n is in group n % G.

    The running statistics take the mean over the groups.
    """

    def __init__(self, norm: _BatchNorm, groups: int) -> None:
        super().__init__(norm)
        self.groups = groups

    def _normalise(self, x: Tensor) -> Tensor:
        G, C = self.groups, self.num_features
        # A row is one recording at one time step; since G divides N, row i is in group i % G.
        grouped = x.reshape(-1, G * C, *x.shape[2:])  # [T * N / G, G * C, ...]
        weight, bias = self.weight.repeat(G), self.bias.repeat(G)
        mean, var = self.running_mean.repeat(G), self.running_var.repeat(G)
        normalised = F.batch_norm(grouped, mean, var, weight, bias, True, self._weight_of_batch(), self.eps)
        self.running_mean.copy_(mean.view(G, C).mean(0))
        self.running_var.copy_(var.view(G, C).mean(0))
        return normalised.view(x.shape)


class SyncBatchNorm(_Replacement):
    """Batch norm over the batches of all processes, which have one size. Unlike torch's, it runs on any device."""

    def _normalise(self, x: Tensor) -> Tensor:
        wide = x.float()
        axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        count = reduce(torch.full((1,), float(x.numel() // self.num_features), device=x.device), "sum")
        mean: Tensor = _SumOverProcesses.apply(wide.sum(axes)) / count  # [C]
        centred = wide - mean.view(shape)
        var: Tensor = _SumOverProcesses.apply(centred.square().sum(axes)) / count  # [C]
        weight = self._weight_of_batch()
        self.running_mean.lerp_(mean.detach(), weight)
        self.running_var.lerp_(var.detach() * (count / (count - 1)), weight)
        scale = torch.rsqrt(var + self.eps) * self.weight  # [C]
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is summed likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total: Tensor = reduce(x, "sum")
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total: Tensor = reduce(grad, "sum")
        return total


def group_batch_norm(module: nn.Module, groups: int) -> None:
    """Replaces every batch norm inside a module by a `GroupedBatchNorm`, which takes its statistics from groups."""
    _replace(module, lambda norm: GroupedBatchNorm(norm, groups))


def sync_batch_norm(module: nn.Module) -> None:
    """Replaces every batch norm inside a module by a `SyncBatchNorm`, whose statistics are those of all processes."""
    _replace(module, SyncBatchNorm)


@torch.no_grad()
def average_running_statistics(module: nn.Module) -> None:
    """Averages over all processes the running statistics of every batch norm that is in training mode."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    buffers = [b for norm in norms for b in (norm.running_mean, norm.running_var) if b is not None]
    if buffers:
        means = reduce(torch.cat(buffers), "mean").split([len(buffer) for buffer in buffers])
        for buffer, mean in zip(buffers, means, strict=True):
            buffer.copy_(mean)


def _replace(module: nn.Module, replacement: Callable[[_BatchNorm], nn.Module]) -> None:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, replacement(child))
        else:
            _replace(child, replacement)
