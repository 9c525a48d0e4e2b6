"""The spiking neuron: one equation for training, export and simulation.

A leaky integrate-and-fire neuron with decaying input, hard reset to 0 and input x[t], v[-1] = 0:

    h[t] = v[t-1] + (x[t] - v[t-1]) / tau
    s[t] = 1 if h[t] >= v_threshold else 0
    v[t] = h[t] * (1 - s[t])

In the backward pass ds/dh is a surrogate (`atan` or `sigmoid`) and the reset is a constant (detached).
The layers are spikingjelly's `LIFNode` in multi-step mode: [T, N, ...] in, spikes [T, N, ...] out. On a CPU all T time
steps, and likewise their gradient, are computed in one pass (`kernels.c`); without a compiler, in a few operations per
step. On a GPU spikingjelly computes them with the fastest of its backends that is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neuromoco.config import NeuronConfig
from neuromoco.snn import native

SURROGATES = {"atan": surrogate.ATan, "sigmoid": surrogate.Sigmoid}


class LIFNode(neuron.LIFNode):
    """A layer of leaky integrate-and-fire neurons: spikingjelly's spikes and gradient, computed with less work.

    Input [T, N, ...], spikes [T, N, ...] of the same type; the equation is that of `neuromoco.snn.neurons`. Membranes
    are float32 in mixed precision too.
    """

    v: Any  # a number at rest, then the membranes as a tensor [N, ...]

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Any:
        # Membranes are float32 in mixed precision: 16 bits would lose a small leak.
        wide = x_seq.float() if x_seq.dtype.itemsize < 4 else x_seq
        # spikingjelly handles membranes that were not reset, and GPUs.
        if isinstance(self.v, Tensor) or wide.is_cuda:
            spikes = super().multi_step_forward(wide, *args, **kwargs)
        elif native.is_supported(wide):
            spikes, self.v = _NativeLIF.apply(wide, self)
        else:
            spikes, self.v = _LIFSequence.apply(wide, self.tau, self.v_threshold, self.surrogate_function)
        return spikes.to(x_seq.dtype)


class _LIFSequence(torch.autograd.Function):
    """The equation over [T, ...] from rest, in torch. Keeps h for the backward pass."""

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
    """The equation over [T, ...] from rest, in C. Keeps x for the backward pass, which computes h again."""

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
        native.call("backward", ctx.shape, x, native.match_layout(grads[0], x), grad, *[None] * 5)
        return grad, None


def native_shape(x: Tensor, node: LIFNode, by_channel: bool = True) -> tuple[native.Shape, Tensor]:
    """The memory layout of x [T, N, C, ...] for the kernels, and x, made contiguous unless it is channels last.

    Args:
        x: input of a layer.
        node: the layer.
        by_channel: whether the kernel needs to know each number's channel.
    """
    last = native.is_channels_last(x)
    if not last:
        x = x.contiguous()
    if not by_channel:
        sizes = (1, 1, x[0].numel())
    elif last:
        sizes = (x[0].numel() // x.shape[2], x.shape[2], 1)
    else:
        sizes = (x.shape[1], x.shape[2] if x.ndim > 2 else 1, math.prod(x.shape[3:]))
    gradient = node.surrogate_function
    constants = (node.tau, node.v_threshold, gradient.alpha, isinstance(gradient, surrogate.ATan))
    return native.Shape(len(x), *sizes, *constants, torch.get_num_threads()), x


def surrogate_gradient(distance: Tensor, function: surrogate.SurrogateFunctionBase) -> Tensor:
    """The surrogate ds/dh at a distance h - v_threshold from the threshold: a new tensor of the same shape."""
    alpha: float = function.alpha
    if isinstance(function, surrogate.ATan):
        return (math.pi / 2 * alpha * distance).square_().add_(1.0).reciprocal_().mul_(alpha / 2)
    share = torch.sigmoid(alpha * distance)
    return (1.0 - share).mul_(share).mul_(alpha)


def lif(config: NeuronConfig) -> LIFNode:
    """Builds a layer of neurons in multi-step mode, with the equation of `neuromoco.snn.neurons`."""
    return LIFNode(
        tau=config.tau,
        decay_input=True,
        v_threshold=config.v_threshold,
        v_reset=0.0,
        surrogate_function=SURROGATES[config.surrogate](),
        detach_reset=True,
        step_mode="m",
    )


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Puts a module into evaluation mode within a block, then restores the mode of each part."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


RESETS = {"snntorch": "reset_mem", "sinabs": "reset_states"}  # of neurons of other libraries, by their name


def reset_state(module: nn.Module) -> None:
    """Resets the membrane of every neuron in a module to rest, as at the start of a recording."""
    functional.reset_net(module)
    for part in module.modules():
        rest = RESETS.get(type(part).__module__.partition(".")[0])
        if rest and callable(reset := getattr(part, rest, None)):
            with torch.inference_mode(any(state.is_inference() for state in part.buffers())):  # it may write in place
                reset()
