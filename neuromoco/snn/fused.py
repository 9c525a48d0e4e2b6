"""Batch norm and the neurons behind it as one: what lies between them is never written to memory.

Training needs the norm's sums over a batch first; then one pass reads a layer's input and writes its spikes. On the way
back h is computed again from that input, the only thing that is kept. Spikes are those of the two modules one after the
other; gradients are equal but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from neuromoco.snn import native
from neuromoco.snn.neurons import LIFNode, native_shape
from neuromoco.snn.spike_conv import convolve

# Others take their statistics elsewhere, see `neuromoco.snn.batch_norm`.
PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, layer.BatchNorm1d, layer.BatchNorm2d)


class SpikeSequential(nn.Sequential):
    """`nn.Sequential`, in which a batch norm and the neurons behind it are one."""

    def forward(self, x: Tensor) -> Tensor:
        return run_layers(self, x)


def run_layers(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Layers one after another, a batch norm and the neurons behind it as one, [T, N, ...] in and out."""
    norm: nn.Module | None = None  # met, and not computed yet
    for module in layers:
        if norm is not None:
            x = norm_then_fire(norm, module, x)
            norm = None
        elif isinstance(module, _BatchNorm):
            norm = module
        elif _poolable(module, x):
            x = _MaxPool.apply(x)
        else:
            x = convolve(module, x)
    return x if norm is None else norm(x)


def channels_last(frames: Tensor) -> Tensor:
    """The same frames [T, N, P, H, W], laid out so that convolutions behind them need not reorder what they read."""
    return frames.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, frames.shape[:2])


def tokens_norm_then_fire(layers: nn.Sequential, node: nn.Module, x: Tensor) -> Tensor:
    """`node(layers(x))` of a `SeqToANNContainer` that ends in a batch norm, x and the result [T, N, C, L]."""
    *before, norm = layers
    if not fusable(norm, node, x):
        return node(layers(x))
    return norm_then_fire(norm, node, functional.seq_to_ann_forward(x, before))


def norm_then_fire(norm: nn.Module, node: nn.Module, x: Tensor) -> Tensor:
    """`node(norm(x))`, x and the result [T, N, C, ...]."""
    if not fusable(norm, node, x):
        return node(norm(x))
    assert isinstance(norm, _BatchNorm)
    assert isinstance(node, LIFNode)
    spikes, node.v = _NormThenFire.apply(x, norm.weight, norm.bias, norm, node)
    return spikes


def fusable(norm: nn.Module, node: nn.Module, x: Tensor) -> bool:
    """Whether two modules may be one. Whoever watches a module has to see what passes between them."""
    return (
        isinstance(norm, _BatchNorm)
        and type(norm) in PLAIN_NORMS
        and isinstance(node, LIFNode)
        and norm.training
        and norm.affine
        and norm.momentum is not None
        and not isinstance(node.v, Tensor)
        and not native.has_hooks(norm)
        and not native.has_hooks(node)
        and native.is_supported(x)
    )


def _poolable(module: nn.Module, x: Tensor) -> bool:
    """Whether a module is the one max pool that there is a pass for."""
    return (
        isinstance(module, layer.MaxPool2d)
        and (module.kernel_size, module.stride, module.padding, module.dilation) == (3, 2, 1, 1)
        and module.training
        and not (module.ceil_mode or module.return_indices or native.has_hooks(module))
        and native.is_channels_last(x)
        and native.is_supported(x)
    )


class _MaxPool(torch.autograd.Function):
    """3 x 3, stride 2, padding 1, over [T, N, C, H, W] with channels last. A byte a result is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        height, width = x.shape[3:]
        sides = ((height + 1) // 2, (width + 1) // 2)
        # made as [T, N, H, W, C], seen as [T, N, C, H, W]
        largest = x.new_empty(*x.shape[:2], *sides, x.shape[2])
        places = torch.empty_like(largest, dtype=torch.uint8)
        ctx.shape = native.Shape(1, len(x) * x.shape[1], x.shape[2], 1, threads=torch.get_num_threads())
        ctx.size, ctx.laid = torch.tensor([height, width]), (x.shape, x.stride())
        native.call("pool_forward", ctx.shape, x, largest, places, ctx.size)
        ctx.save_for_backward(places)
        return largest.permute(0, 1, 4, 2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (places,) = ctx.saved_tensors
        grad = grads[0].permute(0, 1, 3, 4, 2).contiguous()
        result = grad.new_empty_strided(*ctx.laid)
        native.call("pool_backward", ctx.shape, grad, result, places, ctx.size)
        return result


class _NormThenFire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: _BatchNorm, node: LIFNode
    ) -> tuple[Tensor, Tensor]:
        shape, x = native_shape(x, node)
        mean, inverse = _statistics(norm, x, shape)
        factor = inverse * weight
        # as torch rounds it: one fused operation
        term = (bias.double() - mean.double() * factor.double()).float()
        spikes, v = torch.empty_like(x), torch.empty_like(x[0])
        native.call("forward", shape, x, spikes, v, factor, term)
        ctx.save_for_backward(x, factor, term, mean, inverse)
        ctx.shape = shape
        ctx.mark_non_differentiable(v)
        return spikes, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, factor, term, mean, inverse = ctx.saved_tensors
        shape: native.Shape = ctx.shape
        grad = torch.empty_like(x)
        sums = torch.zeros(2, shape.threads, shape.channels, dtype=torch.float64)
        native.call("backward", shape, x, native.match_layout(grads[0], x), grad, factor, term, mean, sums[0], sums[1])
        total, dot = sums.sum(1)
        count = x.numel() // shape.channels
        slope = dot * inverse.double().square() / count
        shift = (total / count).float()
        native.call("norm_backward", shape, x, grad, factor, mean, shift, slope.float())
        return grad, (dot * inverse).float(), total.float(), None, None


def _statistics(norm: _BatchNorm, x: Tensor, shape: native.Shape) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each channel, float32 [C]; the running ones move on."""
    sums = torch.zeros(2, shape.threads, shape.channels, dtype=torch.float64)
    native.call("sums", shape, x, sums[0], sums[1])
    count = x.numel() // shape.channels
    mean, square = sums.sum(1) / count
    variance = (square - mean.square()).clamp_(min=0.0)
    if norm.track_running_stats:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.float(), norm.momentum)
        norm.running_var.lerp_((variance * (count / max(1, count - 1))).float(), norm.momentum)
    # torch keeps the sum of squares in float32
    variance = ((variance * count).float() / count).double()
    return mean.float(), (1.0 / (variance + norm.eps).sqrt()).float()
