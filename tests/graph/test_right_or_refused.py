"""What a network computes is read or refused: no argument, axis, cast or write in place is overlooked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from neuromoco.errors import UnsupportedLayerError
from neuromoco.export.to_onnx.model import unrolled
from neuromoco.graph.trace import lower
from neuromoco.runtime.onnx_file import OnnxNetwork
from tests.helpers.networks import around, event_frames, export_header

STEPS, BATCH, SIDE = 3, 2, 6
CHANNELS = 6  # as many as rows and columns, so that no axis is known by its size


class Body(nn.Module):
    """A convolution and neurons, something, neurons, a mean over all pixels."""

    def __init__(self, what: Callable[..., Tensor] | nn.Module, **parts: nn.Module) -> None:
        super().__init__()
        self.conv = layer.Conv2d(2, CHANNELS, 3, padding=1, step_mode="m")
        self.fire = neuron.LIFNode(step_mode="m")
        self.what = what
        self.last = neuron.IFNode(step_mode="m")
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire(3.0 * self.conv(x))
        x = self.what(x) if isinstance(self.what, nn.Module) else self.what(self, x)
        return self.last(x).flatten(3).mean(-1)


def same(body: nn.Module) -> None:
    """Lowers a body and compares the file with it."""
    frames = event_frames(STEPS, BATCH, SIDE)
    network = around(body, frames)
    graph = lower(network, SIDE, SIDE, STEPS)
    onnx = OnnxNetwork(unrolled(graph, export_header(STEPS, SIDE)).SerializeToString())
    with torch.inference_mode():
        wanted = network(frames).numpy()
    assert onnx.frame_logits(frames.numpy()) == pytest.approx(wanted, abs=1e-4)


def loop(self: Body, x: Tensor) -> Tensor:
    return torch.stack([1.5 * x_t - 0.1 for x_t in x])


def unread_rate(self: Body, x: Tensor) -> Tensor:
    self.rates = (x > 0.5).float() * 2.0
    return x * 1.5


def swapped(self: Body, x: Tensor) -> Tensor:
    return x.transpose(-1, -2).contiguous()


def residual(self: Body, x: Tensor) -> Tensor:
    y = x * 0.7
    y += x
    return y.sub_(0.2)


def heads(self: Body, x: Tensor) -> Tensor:
    """Attention of two heads, from one tensor of queries, keys and values."""
    q, k, v = torch.cat([x, 0.5 * x, x], 2).flatten(3).unflatten(2, (3, 2, -1)).unbind(2)
    return (0.1 * (torch.matmul(q.mT, k) @ v.mT)).mT.reshape(x.shape)


def by_channel(self: Body, x: Tensor) -> Tensor:
    return torch.mul(torch.linspace(0.5, 2.0, CHANNELS).view(1, 1, -1, 1, 1), x)


RIGHT: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "alpha": lambda _, x: torch.add(x, 0.5 * x, alpha=0.37),
    "alpha of a number": lambda _, x: torch.sub(x, 0.5, alpha=0.25),
    "reversed": lambda _, x: torch.rsub(0.4 * x, 1.0, alpha=2),
    "in place": residual,
    "per channel": by_channel,
    "per row": lambda _, x: x * torch.linspace(0.5, 2.0, SIDE).view(-1, 1),
    "a tensor of zeros": lambda _, x: torch.zeros_like(x) + x,
    "rows and columns swapped": swapped,
    "channels last and back": lambda _, x: x.permute(0, 1, 3, 4, 2).permute(0, 1, 4, 2, 3),
    "channels as rows": lambda _, x: x.permute(0, 1, 3, 2, 4),
    "flattened with time": lambda _, x: x.flatten(0, 1).unflatten(0, (STEPS, BATCH)),
    "tokens first": lambda _, x: x.flatten(3).transpose(2, 3).reshape(STEPS, BATCH, SIDE, SIDE, CHANNELS),
    "a loop over time": loop,
    "a sum of lists": lambda _, x: torch.cat([(x[t] * 2.0)[None] for t in range(len(x))]),
    "a mean of each row": lambda _, x: x - 0.7 * x.mean(-1, keepdim=True),
    "rows times columns": lambda _, x: x.sum(-1, keepdim=True) * x.mean(-2, keepdim=True),
    "a sum over channels": lambda _, x: x + x.sum(2, keepdim=True),
    "chunks": lambda _, x: torch.cat(x.chunk(4, 2)[::-1], 2),
    "unequal parts": lambda _, x: torch.cat(list(x.split([1, 2, 3], dim=3))[::-1], 3),
    "numbered parts": lambda _, x: x[:, :, 3:4] - 0.5 * x[..., 1:2] + x[:, :, None, -1],
    "parts of heads": lambda _, x: (
        x.reshape(*x.shape[:2], 2, 3, *x.shape[3:]).flatten(2, 3).narrow(2, 1, 4).sum(2, True)
    ),
    "branches stacked": lambda _, x: torch.stack([x, 0.3 * x.mT], 2).sum(2),
    "chunks in a loop over time": lambda _, x: torch.stack([torch.cat(x_t.chunk(2, 1)[::-1], 1) for x_t in x]),
    "matrices": lambda _, x: 0.2 * (x @ x.mT),
    "matrices over channels": lambda _, x: (x.permute(0, 1, 3, 4, 2) @ x.transpose(2, 3)).transpose(2, 3) * 0.2,
    "heads": heads,
    "data": lambda _, x: x.data * 1.25,
    "one channel times many": lambda _, x: x.sum(2, keepdim=True) * torch.linspace(0.1, 0.6, CHANNELS).view(-1, 1, 1),
    "inference mode": lambda _, x: torch.inference_mode()(lambda x: 2.0 * x - x.mean(-1, keepdim=True))(x),
    "a rate that nobody reads": unread_rate,
    "an unknown function whose result is dropped": lambda self, x: (torch.sort(x, 2), x)[1],
}


class MeanOverChannels(nn.Module):
    """A mean over channels where there are as many tokens; the features are one per token."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fire = layer.Conv2d(2, 36, 1, step_mode="m"), neuron.IFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.fire(self.conv(x)).flatten(3).mean(2)  # [T, N, L] of [T, N, C, L], C = L = 36


def test_a_mean_over_channels_is_none_over_tokens() -> None:
    same(MeanOverChannels())


class PublishedSpikformer(nn.Module):
    """Two layers of attention as Spikformers are published: [T, B, ...], linear layers on tokens, q k^T v in heads."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(2, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.fire = neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.linears, self.norms = (
            nn.ModuleList(nn.Linear(8, 8) for _ in range(4)),
            nn.ModuleList(nn.BatchNorm1d(8) for _ in range(4)),
        )
        self.neurons = nn.ModuleList(neuron.LIFNode(v_threshold=0.3, step_mode="m") for _ in range(5))

    def tokens(self, number: int, x: Tensor) -> Tensor:
        steps, batch, tokens, channels = x.shape
        x = self.linears[number](x.flatten(0, 1))
        x = self.norms[number](x.transpose(-1, -2)).transpose(-1, -2).reshape(steps, batch, tokens, channels)
        return self.neurons[number](x.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        steps, batch = x.shape[:2]
        x = self.norm(self.embed(x.flatten(0, 1)))
        x = self.fire(x.reshape(steps, batch, -1, *x.shape[-2:])).flatten(-2).transpose(-1, -2)
        tokens, channels = x.shape[2:]
        split = lambda x: x.reshape(steps, batch, tokens, 2, channels // 2).permute(0, 1, 3, 2, 4)  # noqa: E731
        q, k, v = (split(self.tokens(number, x)).contiguous() for number in range(3))
        attended = ((q @ k.transpose(-2, -1)) @ v) * 0.25
        attended = self.neurons[4](attended.transpose(2, 3).reshape(steps, batch, tokens, channels).contiguous())
        return (x + self.tokens(3, attended)).mean(2)


def test_a_spikformer_as_published_lowers() -> None:
    torch.manual_seed(0)
    same(PublishedSpikformer())


@pytest.mark.parametrize("what", RIGHT.values(), ids=RIGHT)
def test_what_is_read_lowers_to_the_same_network(what: Callable[..., Tensor]) -> None:
    same(Body(what))


def test_neurons_that_nobody_reads_need_not_see_all_steps() -> None:
    def once(self: Body, x: Tensor) -> Tensor:
        self.once(x[0])
        return x

    same(Body(once, once=neuron.IFNode()))


def through_a_view(self: Body, x: Tensor) -> Tensor:
    rows = x.view(STEPS, BATCH, CHANNELS, -1)
    rows += 0.5
    return x


def kept_view(self: Body, x: Tensor) -> Tensor:
    rows = x.flatten(3)
    x += 0.5
    return rows.view(x.shape)


def by_numpy(self: Body, x: Tensor) -> Tensor:
    y = x * 1.0 + 0.0 * x
    y.detach().data.numpy()[:] += 0.5
    return y


def slices(self: Body, x: Tensor) -> Tensor:
    x[:, :, 0] = 0.0
    return x


def buffer(self: Body, x: Tensor) -> Tensor:
    y = torch.zeros(x.shape)
    y[0] += x[0]
    return x + y


def hidden_buffer(self: Body, x: Tensor) -> Tensor:
    y = torch.zeros(2, *x.shape)
    first = y[0]
    first.add_(x)
    return x + y.sum(0)


def branch(self: Body, x: Tensor) -> Tensor:
    return x * 2.0 if x.sum() > 0 else x


def item(self: Body, x: Tensor) -> Tensor:
    return x * float(x.max())


def recurrent(self: Body, x: Tensor) -> Tensor:
    steps = [x[0]]
    for t in range(1, len(x)):
        steps.append(x[t] + 0.5 * steps[-1])
    return torch.stack(steps)


def read_later(self: Body, x: Tensor) -> Tensor:
    mask = (x > 0.5).float()
    return x + 0.5 * mask.flatten(3).view(x.shape)


def written(self: Body, x: Tensor) -> Tensor:
    y = 1.0 * x
    y.relu_()
    return y


def turned(self: Body, x: Tensor) -> Tensor:
    return torch.stack(list(reversed(list(x))))


def uneven(self: Body, x: Tensor) -> Tensor:
    return torch.stack([x_t * (t + 1.0) for t, x_t in enumerate(x)])


def hook_that_changes(module: nn.Module, args: Any, result: Tensor) -> Tensor:
    return result * 0.5


def hooked() -> nn.Module:
    conv = layer.Conv2d(CHANNELS, CHANNELS, 1, step_mode="m")
    conv.register_forward_hook(hook_that_changes)
    return conv


def patched() -> nn.Module:
    conv = layer.Conv2d(CHANNELS, CHANNELS, 1, step_mode="m")
    conv.forward = lambda x: 0.5 * x  # type: ignore[method-assign]
    return conv


def vector() -> nn.Module:
    node = neuron.ParametricLIFNode(step_mode="m")
    node.w = nn.Parameter(torch.zeros(CHANNELS, 1, 1))
    return node


class Applied(nn.Module):
    """A layer within a function."""

    def __init__(self, part: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.part, self.function = part, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.part, x)


def fires(**changes: Any) -> nn.Module:
    node = neuron.LIFNode(step_mode="m")
    for name, value in changes.items():
        setattr(node, name, value)
    return node


WRONG: dict[str, tuple[Callable[..., Tensor] | nn.Module, str]] = {
    "rounding": (lambda _, x: torch.div(x, 0.3, rounding_mode="floor"), r"div: div: rounding_mode='floor'; omit it"),
    "out": (lambda _, x: torch.add(x, x, out=torch.empty(x.shape)), r"add: add: argument out="),
    "floor": (lambda _, x: x // 0.3, r"floordiv: floordiv: known are"),
    "power": (lambda _, x: x**2, r"pow: pow: known are"),
    "mean of doubles": (lambda _, x: x.mean(3, dtype=torch.float64).float(), r"mean: mean: a cast to float64"),
    "double": (lambda _, x: (x.to(torch.float64) * 0.1).to(torch.float32), r"to: to: a cast to float64"),
    "bool": (lambda _, x: x.bool().float(), r"bool: bool: "),
    "compared": (lambda _, x: (x > 0.5).float(), r"gt: gt: known are"),
    "compared, and read later": (read_later, r"gt: gt: known are"),
    "in place by an unknown function": (written, r"relu: relu: use a neuron"),
    "through a view": (through_a_view, r"last: .* takes fire, which was changed in place"),
    "a view kept": (kept_view, r"view: view: takes flatten, which was changed in place"),
    "by numpy": (by_numpy, r"numpy: numpy: "),
    "slices": (slices, r"setitem: setitem: a write into a part"),
    "a part of a buffer": (buffer, r"add: add: a write into a part"),
    "a part of a hidden buffer": (hidden_buffer, r"add: add: a write into a part"),
    "a branch": (branch, r"sum: sum: a mean or sum over recordings"),
    "an item": (item, r"max: max: known are"),
    "mean over recordings": (lambda _, x: x - x.mean(1, keepdim=True), r"mean: mean: a mean or sum over recordings"),
    "recordings first": (lambda _, x: x.transpose(0, 1), r"last: .* does not take \[T, N, ...\]"),
    "recordings for channels": (
        lambda _, x: x.transpose(1, 2).reshape(x.shape),
        r"head: Linear: takes the last axis of",
    ),
    "recurrent": (recurrent, r"add: add: a sum of different layers"),
    "turned in time": (turned, r"stack: stack: joins values of different time steps"),
    "uneven steps": (uneven, r"mul: computes something else at step \d than before"),
    "a step alone": (lambda _, x: x[0:1] + x, r"getitem: getitem: takes apart or joins axis 0 of \[T, N, "),
    "every other channel": (lambda _, x: x[:, :, ::2], r"getitem: getitem: a part of an axis of 6 in steps of 2"),
    "chosen channels": (lambda _, x: x[:, :, [0, 2]], r"getitem: getitem: a part of the axes by anything but numbers"),
    "chunks of recordings": (lambda _, x: torch.cat(x.chunk(2, 1), 1), r"chunk: chunk: takes apart or joins axis 1"),
    "a chunk that changes": (lambda _, x: (lambda a, b: a.add_(1) * b)(*x.chunk(2, 2)), r"mul_2: mul: takes chunk.1"),
    "a product of heads and rows": (
        lambda _, x: x.permute(0, 3, 2, 1, 4) @ x.permute(0, 3, 2, 4, 1),
        r"matmul: matmul: a matrix product of \[T, 6, 6, N, 6\]",
    ),
    "a row for all recordings": (lambda _, x: x + x.unsqueeze(1), r"add: add: of shapes \["),
    "another neuron's constants": (fires(v_threshold=-1.0), r"a threshold of -1; use a positive one"),
    "no threshold": (fires(v_threshold=0.0), r"a threshold of 0; use a positive one"),
    "a vector of tau": (vector(), r"w of shape \(6, 1, 1\); use one number"),
    "small tau": (fires(tau=0.7), r"tau 0.7, which makes membranes grow or alternate"),
    "no spikes": (fires(surrogate_function=surrogate.ATan(spiking=False)), r"that gives no spikes; set its spiking"),
    "a hook": (hooked(), r"what: Conv: was not understood: .* numbers differ"),
    "another forward": (patched(), r"what: Conv: was not understood: .* numbers differ"),
    "transposed": (layer.ConvTranspose2d(CHANNELS, CHANNELS, 1, step_mode="m"), r"what: \S+ ConvTranspose2d: known"),
    "norm of channels last": (
        Applied(nn.BatchNorm1d(BATCH), lambda norm, x: norm(x.flatten(2)).view(x.shape)),
        r"what.part: BatchNorm1d: takes axis 1 of its input as channels, and its axes are \[T, N, 216\]",
    ),
    "several results": (
        Applied(nn.MaxPool2d(1, return_indices=True), lambda pool, x: pool(x.flatten(0, 1))[0].view(x.shape)),
        r"what.part: MaxPool2d: .* return_indices; use the defaults",
    ),
}


@pytest.mark.parametrize(("what", "message"), WRONG.values(), ids=WRONG)
def test_what_is_not_read_is_refused_by_its_name(what: Callable[..., Tensor] | nn.Module, message: str) -> None:
    frames = event_frames(STEPS, BATCH, SIDE)
    network = around(Body(what), frames)
    with pytest.raises(UnsupportedLayerError, match=message) as error:
        lower(network, SIDE, SIDE, STEPS)
    assert "\n" not in str(error.value)
