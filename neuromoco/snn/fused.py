"""Batch norm fused with the neurons behind it: what passes between them is never written to memory.

In training, a first pass sums each channel for the norm's statistics; a second reads the layer's input and writes its
spikes. Only that input is kept; the backward pass computes h from it again. Spikes equal those of the two modules in
sequence; gradients differ by rounding alone.
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

# Not those of `neuromoco.snn.batch_norm`, which take their statistics elsewhere.
PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, layer.BatchNorm1d, layer.BatchNorm2d)


class SpikeSequential(nn.Sequential):
    """`nn.Sequential` with each batch norm fused with the neurons behind it: [T, N, ...] in and out."""

    def forward(self, x: Tensor) -> Tensor:
        return run_layers(self, x)


def run_layers(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Applies layers in sequence, each batch norm fused with the neurons behind it: [T, N, ...] in and out."""
    norm: nn.Module | None = None  # a batch norm that waits for the next layer
    for module in layers:
        if norm is not None:
            x = norm_then_fire(norm, module, x)
            norm = None
        elif isinstance(module, _BatchNorm):
            norm = module
        else:
            x = _MaxPool.apply(x) if _poolable(module, x) else convolve(module, x)
    return x if norm is None else norm(x)


def channels_last(frames: Tensor) -> Tensor:
    """Copies frames [T, N, P, H, W] into the channels-last layout, in which convolutions read them fastest."""
    return frames.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(frames.shape)


def tokens_norm_then_fire(layers: nn.Sequential, node: nn.Module, x: Tensor) -> Tensor:
    """`node(layers(x))` for a `SeqToANNContainer` that ends in a batch norm; [T, N, C, L] in and out."""
    *before, norm = layers
    fused = fusable(norm, node, x)
    spikes: Tensor = norm_then_fire(norm, node, functional.seq_to_ann_forward(x, before)) if fused else node(layers(x))
    return spikes


def norm_then_fire(norm: Any, node: Any, x: Tensor) -> Tensor:
    """`node(norm(x))`, fused where possible; [T, N, C, ...] in and out."""
    if fusable(norm, node, x):
        x, node.v = _NormThenFire.apply(x, norm.weight, norm.bias, norm, node)
    else:
        x = node(norm(x))
    return x


def fusable(norm: nn.Module, node: nn.Module, x: Tensor) -> bool:
    """Whether a batch norm and the module behind it can be fused; hooks would miss what passes between them."""
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
    """Whether a module is the one kind of max pool that has a kernel."""
    return (
        isinstance(module, layer.MaxPool2d)
        and (module.kernel_size, module.stride, module.padding, module.dilation) == (3, 2, 1, 1)
        and module.training
        and not (module.ceil_mode or module.return_indices or native.has_hooks(module))
        and native.is_channels_last(x)
        and native.is_supported(x)
    )


class _MaxPool(torch.autograd.Function):
    """3 x 3, stride 2, padding 1, over [T, N, C, H, W], channels last. Keeps one byte per result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        height, width = x.shape[3:]
        sides = ((height + 1) // 2, (width + 1) // 2)
        # [T, N, H, W, C] in memory
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
        # rounded like torch's fused multiply-add
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


def _statistics(norm: Any, x: Tensor, shape: native.Shape) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) per channel, float32 [C]; also updates the running statistics."""
    sums = torch.zeros(2, shape.threads, shape.channels, dtype=torch.float64)
    native.call("sums", shape, x, sums[0], sums[1])
    count = x.numel() // shape.channels
    mean, square = sums.sum(1) / count
    variance = (square - mean.square()).clamp_(min=0.0)
    if norm.track_running_stats:
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.float(), norm.momentum)
        norm.running_var.lerp_((variance * (count / max(1, count - 1))).float(), norm.momentum)
    # as in torch, which keeps the sum of squares in float32
    variance = ((variance * count).float() / count).double()
    return mean.float(), (1.0 / (variance + norm.eps).sqrt()).float()
