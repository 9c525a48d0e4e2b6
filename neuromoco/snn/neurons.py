"""The spiking neuron: one equation for training, export and simulation.

A leaky integrate-and-fire neuron with decaying input, hard reset to 0 and input x[t], v[-1] = 0:

    h[t] = v[t-1] + (x[t] - v[t-1]) / tau
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = h[t] * (1 - s[t])

Backwards, ds/dh is a surrogate (`atan` or `sigmoid`) and the reset is a constant (detached).
The layers are spikingjelly's `LIFNode` in multi-step mode, [T, N, ...] in, spikes [T, N, ...] out. On a CPU all T
steps, and all of their gradient, are one pass (`kernels.c`); without a compiler, a few operations a step. On a GPU they
are spikingjelly's own, which take the fastest of its backends that is installed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neuromoco.config import NeuronConfig
from neuromoco.snn import native

SURROGATES = {"atan": surrogate.ATan, "sigmoid": surrogate.Sigmoid}


class LIFNode(neuron.LIFNode):
    """spikingjelly's neuron of the equation above: same spikes, same gradient, less work."""

    v: Any  # a number at rest, then the membranes as a tensor [N, ...]

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Any:
        # The membrane of a mixed-precision run is float32: a leak of small numbers would be lost in 16 bits.
        wide = x_seq.float() if x_seq.dtype.itemsize < 4 else x_seq
        # A membrane that was not reset: the general way. A GPU: spikingjelly chooses among its backends there.
        if isinstance(self.v, Tensor) or wide.is_cuda:
            spikes = super().multi_step_forward(wide, *args, **kwargs)
        elif native.is_supported(wide):
            spikes, self.v = _NativeLIF.apply(wide, self)
        else:
            spikes, self.v = _LIFSequence.apply(wide, self.tau, self.v_threshold, self.surrogate_function)
        return spikes.to(x_seq.dtype)


class _LIFSequence(torch.autograd.Function):
    """The equation over [T, ...] from rest. Only h is kept for the way back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, tau: float, v_threshold: float, gradient: surrogate.SurrogateFunctionBase
    ) -> tuple[Tensor, Tensor]:
        h, s = torch.empty_like(x), torch.empty_like(x)
        v = torch.zeros_like(x[0])
        for t in range(len(x)):
            torch.sub(x[t], v, out=h[t]).div_(tau).add_(v)
            torch.ge(h[t], v_threshold, out=s[t])
            torch.mul(h[t], 1.0 - s[t], out=v)
        ctx.save_for_backward(h)
        ctx.tau, ctx.v_threshold, ctx.gradient = tau, v_threshold, gradient
        ctx.mark_non_differentiable(v)
        return s, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (h,) = ctx.saved_tensors
        grad = surrogate_gradient(h - ctx.v_threshold, ctx.gradient).mul_(grads[0])  # ds/dh * dL/ds
        keep = 1.0 - 1.0 / ctx.tau
        for t in range(len(h) - 2, -1, -1):
            grad[t].addcmul_(grad[t + 1], (h[t] < ctx.v_threshold).to(h.dtype), value=keep)
        return grad.div_(ctx.tau), None, None, None


class _NativeLIF(torch.autograd.Function):
    """The same in one pass each way. Only x is kept for the way back: h is computed again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, node: LIFNode) -> tuple[Tensor, Tensor]:
        shape, x = native_shape(x, node, by_channel=False)
        spikes, v = torch.empty_like(x), torch.empty_like(x[0])
        native.call("forward", shape, x, spikes, v, None, None)
        ctx.save_for_backward(x)
        ctx.shape = shape
        ctx.mark_non_differentiable(v)
        return spikes, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        grad = torch.empty_like(x)
        given = native.match_layout(grads[0], x)
        native.call("backward", ctx.shape, x, given, grad, None, None, None, None, None)
        return grad, None


def native_shape(x: Tensor, node: LIFNode, by_channel: bool = True) -> tuple[native.Shape, Tensor]:
    """How x [T, N, C, ...] lies in memory, and x itself, copied only if it lies in another way than these two.

    Args:
        x: input of a layer.
        node: the layer.
        by_channel: whether channels are told apart.
    """
    steps, inner = len(x), math.prod(x.shape[3:])
    channels, threads = x.shape[2] if x.ndim > 2 else 1, torch.get_num_threads()
    last = native.is_channels_last(x)
    if not last:
        x = x.contiguous()
    if not by_channel:
        lies = (steps, 1, 1, x[0].numel())
    elif last:
        lies = (steps, x[0].numel() // channels, channels, 1)
    else:
        lies = (steps, x.shape[1], channels, inner)
    gradient = node.surrogate_function
    atan = isinstance(gradient, surrogate.ATan)
    return native.Shape(*lies, node.tau, node.v_threshold, gradient.alpha, atan, threads), x


def surrogate_gradient(distance: Tensor, function: surrogate.SurrogateFunctionBase) -> Tensor:
    """ds/dh at a distance h - v_threshold from the threshold. A new tensor of the same shape."""
    alpha: float = function.alpha
    if isinstance(function, surrogate.ATan):
        return (math.pi / 2 * alpha * distance).square_().add_(1.0).reciprocal_().mul_(alpha / 2)
    share = torch.sigmoid(alpha * distance)
    return (1.0 - share).mul_(share).mul_(alpha)


def lif(config: NeuronConfig, v_threshold: float | None = None) -> LIFNode:
    """A layer of neurons.

    Args:
        config: the neuron's constants.
        v_threshold: another threshold than the config's, for the layer that needs one.
    """
    return LIFNode(
        tau=config.tau,
        decay_input=True,
        v_threshold=config.v_threshold if v_threshold is None else v_threshold,
        v_reset=0.0,
        surrogate_function=SURROGATES[config.surrogate](),
        detach_reset=True,
        step_mode="m",
    )


def reset_state(module: nn.Module) -> None:
    """Sets every neuron's membrane back to rest: a recording starts from nothing."""
    functional.reset_net(module)
