"""Batch norm whose statistics come from groups of a batch, or from the batches of all processes.

Contrast can be won without looking at the recordings: if query and key are normalised together with the
same others, the statistics give away which belong together (He et al. 2020, arXiv 1911.05722, 3.3).
`neuromoco.moco` therefore lets query and key meet other recordings in their groups.

Parameters and buffers keep their names and their owner, so weights move freely between these and plain
batch norms; in evaluation both are the same.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Replacement(_BatchNorm):
    """Takes over another batch norm's parameters, buffers and constants.

    Takes [T, N, C, H, W] as spikingjelly's multi-step layers do, or [T * N, C, ...]: statistics are always
    those of all steps and recordings of a channel.
    """

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
        """Any number of dimensions."""

    def _share(self) -> float:
        """Of the newest statistics in the running ones."""
        self.num_batches_tracked.add_(1)
        return 1.0 / int(self.num_batches_tracked) if self.momentum is None else self.momentum


class GroupedBatchNorm(_Replacement):
    """Statistics of G groups: recording n belongs to group n % G. Running ones are the mean over the groups.

    Args:
        norm: the batch norm to replace.
        groups: G; divides N.
    """

    def __init__(self, norm: _BatchNorm, groups: int) -> None:
        super().__init__(norm)
        self.groups = groups

    def _normalise(self, x: Tensor) -> Tensor:
        G, C = self.groups, self.num_features
        # Rows are steps times recordings, and G divides N: row i is of group i % G.
        grouped = x.reshape(-1, G * C, *x.shape[2:])  # [T * N / G, G * C, ...]
        weight, bias = self.weight.repeat(G), self.bias.repeat(G)
        mean, var = self.running_mean.repeat(G), self.running_var.repeat(G)
        answer = F.batch_norm(grouped, mean, var, weight, bias, True, self._share(), self.eps)
        self.running_mean.copy_(mean.view(G, C).mean(0))
        self.running_var.copy_(var.view(G, C).mean(0))
        return answer.view(x.shape)


class SyncBatchNorm(_Replacement):
    """Statistics of the batches of all processes, which are of one size. On any device, unlike torch's own."""

    def _normalise(self, x: Tensor) -> Tensor:
        wide = x.float()
        axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        ones = torch.full((1,), float(x.numel() // self.num_features), device=x.device)
        count = reduce(ones, "sum")
        mean = _SumOverProcesses.apply(wide.sum(axes)) / count  # [C]
        centred = wide - mean.view(shape)
        var = _SumOverProcesses.apply(centred.square().sum(axes)) / count  # [C]
        share = self._share()
        self.running_mean.lerp_(mean.detach(), share)
        self.running_var.lerp_(var.detach() * (count / (count - 1)), share)
        scale = torch.rsqrt(var + self.eps) * self.weight  # [C]
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes of a tensor that each has; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return reduce(x, "sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return reduce(grad, "sum")


def group_batch_norm(module: nn.Module, groups: int) -> None:
    """Lets every batch norm inside a module take its statistics from groups, see `GroupedBatchNorm`."""
    _replace(module, lambda norm: GroupedBatchNorm(norm, groups))


def sync_batch_norm(module: nn.Module) -> None:
    """Lets every batch norm inside a module take its statistics over all processes, see `SyncBatchNorm`."""
    _replace(module, SyncBatchNorm)


@torch.no_grad()
def share_running_statistics(module: nn.Module) -> None:
    """Gives every process the mean over processes of the running statistics that are being gathered."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    own = [b for norm in norms for b in (norm.running_mean, norm.running_var) if b is not None]
    if not own:
        return
    means = reduce(torch.cat(own), "mean").split([len(buffer) for buffer in own])
    for buffer, mean in zip(own, means, strict=True):
        buffer.copy_(mean)


def _replace(module: nn.Module, make: Any) -> None:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, make(child))
        else:
            _replace(child, make)
