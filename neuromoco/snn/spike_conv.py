"""3 x 3 convolutions that only sum the weights of inputs that fired (`spike_conv.c`).

Most neurons are silent at any time step, but torch's convolution multiplies by every 0. Here the spikes are listed
once; the result and the weights' gradient are sums over that list, which is also all that the backward pass keeps. The
input's gradient is dense and computed by torch. Results equal torch's but for rounding, and for 0 times infinity.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neuromoco.snn import native

# As in spike_conv.c.
SPAN, WIDTH, TAPS = 16, 64, 9
# torch is faster where a larger share of the inputs fires, and for small layers, which fit into the caches.
MOST_FIRING = 0.35
LEAST_PRODUCTS = 1 << 29
TASKS = 16  # that threads divide among themselves


class Convolution(ctypes.Structure):
    """Sizes of a convolution, as in `spike_conv.c`."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("images", "rows", "columns", "inputs", "outputs", "groups")),
        ("threads", ctypes.c_int),
    )


def convolve(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)`, computed from a list of spikes where that is faster; [T, N, C, H, W] in and out."""
    result: Tensor
    if isinstance(module, layer.Conv2d) and _is_supported(module, x):
        images, spans = x.shape[0] * x.shape[1], -(-x.shape[2] // SPAN)
        groups = min(images, max(1, TASKS // spans))
        sizes = Convolution(images, *x.shape[3:], x.shape[2], module.out_channels, groups, torch.get_num_threads())
        starts = x.new_empty(images * x.shape[3] * x.shape[4] * spans + 1, dtype=torch.int32)
        native.call("count_spikes", sizes, x, starts)
        if starts[-1] <= MOST_FIRING * x.numel():
            result = _SpikeConv.apply(x, module.weight, starts, sizes)  # [T, N, H, W, C]
            return result.permute(0, 1, 4, 2, 3)
    result = module(x)
    return result


def _is_supported(module: layer.Conv2d, x: Tensor) -> bool:
    """Whether the kernels can compute a convolution, and it is large enough to gain from them."""
    plain = (
        (module.kernel_size, module.stride, module.padding, module.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (module.groups, module.bias, module.padding_mode, module.step_mode) == (1, None, "zeros", "m")
        and not module.out_channels % WIDTH
        and SPAN <= module.in_channels < 1 << 16  # channels are numbered in two bytes
        and type(module).forward is layer.Conv2d.forward
        and "forward" not in vars(module)
    )
    return (
        plain
        and module.training
        and native.is_channels_last(x)
        and x.shape[2] == module.in_channels
        and x.numel() * module.out_channels * TAPS >= LEAST_PRODUCTS
        and x.numel() < 1 << 31
        and not native.has_hooks(module)
        and not torch.is_autocast_enabled("cpu")
        and native.is_supported(x)
        and native.is_supported(module.weight)
    )


class _SpikeConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, starts: Tensor, sizes: Convolution) -> Tensor:
        count = int(starts[-1])
        places, values = x.new_empty(count, dtype=torch.int16), x.new_empty(count)
        native.call("list_spikes", sizes, x, starts, places, values)
        packed = x.new_empty(weight.numel())
        native.call("pack_weights", sizes, weight.contiguous(), packed)
        result = x.new_empty(*x.shape[:2], *x.shape[3:], sizes.outputs)
        native.call("convolve", sizes, starts, places, values, packed, result)
        ctx.save_for_backward(weight, starts, places, values)
        ctx.sizes, ctx.shape = sizes, x.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        weight, starts, places, values = ctx.saved_tensors
        grad = grads[0].contiguous()  # [T, N, H, W, C]
        of_x = _input_gradient(grad, weight, ctx.shape) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_x, None, None, None
        sizes: Convolution = ctx.sizes
        padded = grad.new_empty(sizes.images * (sizes.rows + 2) * (sizes.columns + 2) * sizes.outputs)
        native.call("pack_grad", sizes, grad, padded)
        packed = grad.new_zeros(sizes.groups * weight.numel())
        native.call("weight_gradient", sizes, starts, places, values, padded, packed)
        of_weight = grad.new_empty(weight.shape)
        native.call("unpack_gradient", sizes, packed, of_weight)
        return of_x, of_weight, None, None


def _input_gradient(grad: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """The input's gradient [T, N, C, H, W], channels last, from the gradient [T, N, H, W, C] of the result."""
    # torch reads only the layout of the input, not its numbers.
    like = grad.new_empty(shape[:2].numel(), *shape[3:], shape[2]).permute(0, 3, 1, 2)
    ones, outputs = [1, 1], [True, False, False]
    gradient: Tensor
    gradient, _, _ = torch.ops.aten.convolution_backward(
        grad.flatten(0, 1).permute(0, 3, 1, 2), like, weight, None, ones, ones, ones, False, [0, 0], 1, outputs
    )
    return gradient.view(*shape[:2], *gradient.shape[1:])
