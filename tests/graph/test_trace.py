"""Lowering: any network of known layers becomes a graph of the same meaning; the others are named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from neuromoco.config import EncoderConfig, NeuronConfig
from neuromoco.encoders import list_encoders
from neuromoco.encoders.sew_resnet import CONNECTS, STEMS
from neuromoco.errors import UnsupportedLayerError
from neuromoco.export.to_onnx.model import unrolled
from neuromoco.graph.nodes import Affine
from neuromoco.graph.trace import lower, trace
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.snn.neurons import lif
from tests.helpers.networks import alive, around, event_frames, export_header, live_classifier

STEPS, BATCH = 3, 2
TINY = ("chain_tiny", "sew_resnet_tiny", "spikformer_tiny")
VARIANTS = [
    *(EncoderConfig(name=name) for name in TINY),
    *(EncoderConfig(options={"stem": stem, "width": 16}) for stem in STEMS),
    *(EncoderConfig(options={"connect": connect, "pool": 3}) for connect in CONNECTS),
    *(EncoderConfig(name=name, neuron=NeuronConfig(tau=3.0, v_threshold=0.7)) for name in TINY),
    EncoderConfig(name="sew_resnet18", options={"width": 8}),
    EncoderConfig(name="spikformer_2_256"),
]


def logits(network: nn.Module, frames: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of torch, and of ONNX Runtime on the lowered graph."""
    side = frames.shape[-1]
    graph = lower(network, side, side)
    assert not any(isinstance(node, Affine) for node in graph.nodes[1:2])
    header = export_header(frames.shape[0], side)
    onnx = OnnxNetwork(unrolled(graph, header).SerializeToString())
    with torch.inference_mode():
        return network(frames).numpy(), onnx.frame_logits(frames.numpy())


@pytest.mark.parametrize("config", VARIANTS, ids=lambda c: f"{c.name}-{c.options}-{c.neuron.tau}")
def test_every_encoder_lowers_to_a_graph_of_the_same_meaning(config: EncoderConfig) -> None:
    frames = event_frames(STEPS, BATCH, 34)
    torch_logits, onnx_logits = logits(live_classifier(config, frames), frames)
    assert np.abs(torch_logits).max() > 1e-2
    assert onnx_logits == pytest.approx(torch_logits, abs=1e-4)


def test_the_variants_above_hold_every_registered_encoder() -> None:
    assert {config.name for config in VARIANTS} == set(list_encoders())


def node() -> neuron.BaseNode:
    return lif(NeuronConfig())


class Everything(nn.Module):
    """A user's encoder of one of each: layers, containers, functions, shapes, branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = layer.SeqToANNContainer(nn.Conv2d(2, 6, 3, padding="same", bias=True), nn.BatchNorm2d(6))
        self.fire = neuron.ParametricLIFNode(init_tau=3.0, step_mode="m")
        self.grouped = layer.Conv2d(6, 12, 3, 2, 2, dilation=2, groups=3, bias=True, step_mode="m")
        self.integrate = neuron.IFNode(v_threshold=0.8, step_mode="m")
        self.plain = neuron.LIFNode(tau=2.5, decay_input=False, step_mode="m")
        self.norm = layer.BatchNorm2d(12, step_mode="m")
        self.halve = layer.AvgPool2d(2, step_mode="m")
        self.widest = layer.MaxPool2d((3, 2), (2, 1), (1, 0), step_mode="m")
        self.drop = layer.Dropout(0.5, step_mode="m")
        self.last = node()
        self.flat = nn.Sequential(layer.Flatten(step_mode="m"), nn.Linear(12, 16))
        self.out = node()

    def forward(self, x: Tensor) -> Tensor:
        steps, batch = x.shape[:2]
        x = self.drop(self.fire(self.stem(x)))
        x = self.integrate(self.grouped(x)) if x.ndim == 5 else x
        quiet = 1.0 - x
        x = self.norm(x * 0.5 + self.plain(quiet * 1.7) - quiet)
        x += x.clone().detach().contiguous()
        x = self.last(self.widest(self.halve(x)))
        x = x.flatten(0, 1).reshape(steps, batch, 12, -1).mean(-1).view(steps, batch, 12, 1, 1)
        return self.out(self.flat(x) / 0.05)


def test_an_encoder_of_a_user_lowers_too() -> None:
    frames = event_frames(STEPS, BATCH, 18)
    network = around(Everything(), frames)
    torch_logits, onnx_logits = logits(network, frames)
    with torch.no_grad():
        assert 0.02 < network.encoder(frames).mean() < 0.98
    assert onnx_logits == pytest.approx(torch_logits, abs=1e-4)


def test_lowering_leaves_the_network_as_it_was() -> None:
    frames = event_frames(STEPS, BATCH, 34)
    network = live_classifier(EncoderConfig(), frames).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lower(network, 34, 34)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


class Between(nn.Module):
    """Something between a convolution and features."""

    def __init__(self, what: nn.Module | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = layer.Conv2d(2, 4, 3, padding=1, step_mode="m")
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(self.conv(x)).flatten(3).mean(-1)


def spiking(**options: object) -> neuron.LIFNode:
    return neuron.LIFNode(step_mode="m", **options)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron = node()

    def forward(self, x: Tensor) -> Tensor:
        first = self.neuron(x)
        self.neuron.reset()
        return first + self.neuron(x)


class Merged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron = node()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(x.flatten(0, 1)).reshape(x.shape)


REFUSED = {
    "relu": (nn.ReLU(), r"what: ReLU: known are convolution"),
    "function": (torch.relu, r"relu: relu: use a neuron"),
    "reset elsewhere": (spiking(v_reset=-0.1), r"a reset to -0.1; use v_reset=0.0"),
    "another neuron": (neuron.QIFNode(step_mode="m"), r"what: spikingjelly QIFNode: known are"),
    "a subclass": (type("Own", (neuron.LIFNode,), {})(step_mode="m"), r"what: \S+ Own: known are"),
    "one step per call": (neuron.LIFNode(step_mode="s"), r"what: .* takes one time step per call; set step_mode='m'"),
    "neuron on single frames": (Merged(), r"what.neuron: .* does not take \[T, N, ...\]"),
    "neuron twice": (Twice(), r"used twice; give each place its own"),
    "cat": (lambda x: torch.cat([x, x], 1), r"cat: cat: takes apart or joins axis 1 of \[T, N, "),
    "one step": (lambda x: x[0][None].expand_as(x), r"expand_as: expand_as: known are"),
    "mean over time": (lambda x: x.mean(0) * x.mean(0), r"mul: mul: a product of means over time"),
    "mean over recordings": (lambda x: x - x.mean(1, keepdim=True), r"mean: mean: a mean or sum over recordings"),
    "a constant": (lambda x: x + torch.arange(144.0).view(12, 12), r"add: add: .* differs from place to place"),
    "divided": (lambda x: 1.0 / x, r"division by a value"),
    "ceil": (layer.MaxPool2d(2, ceil_mode=True, step_mode="m"), r"ceil_mode or return_indices; use the defaults"),
    "padded mean": (layer.AvgPool2d(2, padding=1, step_mode="m"), r"padding, ceil_mode or divisor_override"),
    "circular": (layer.Conv2d(4, 4, 3, padding=1, padding_mode="circular", step_mode="m"), r"padding_mode 'circular'"),
    "even": (layer.Conv2d(4, 4, 2, padding="same", step_mode="m"), r"padding 'same' of an even kernel"),
    "no statistics": (layer.BatchNorm2d(4, track_running_stats=False, step_mode="m"), r"track_running_stats=True"),
}


@pytest.mark.parametrize(("what", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_what_cannot_be_lowered_is_named_with_a_substitute(what: nn.Module, message: str) -> None:
    network = around(Between(what), event_frames(2, 3, 12))
    with pytest.raises(UnsupportedLayerError, match=message) as error:
        lower(network, 12, 12)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 6


def test_all_that_cannot_be_lowered_is_found_in_one_run() -> None:
    body = Between(nn.Sequential(nn.ReLU(), layer.Conv2d(4, 4, 1, step_mode="m"), nn.GELU(), spiking(v_reset=-0.1)))
    network = around(body, event_frames(2, 3, 12))
    found = trace(network, 12, 12).unsupported
    assert [(entry.name, entry.layer) for entry in found] == [
        ("what.0", "ReLU"),
        ("what.2", "GELU"),
        ("what.3", "spikingjelly LIFNode"),
    ]
    with pytest.raises(UnsupportedLayerError, match=r"what.0: ReLU.*\(and 2 more; --check lists them\)"):
        lower(network, 12, 12)


def test_other_surrogates_change_nothing() -> None:
    body = Between(spiking(surrogate_function=surrogate.Sigmoid(), detach_reset=True))
    frames = event_frames(2, 3, 12)
    torch_logits, onnx_logits = logits(around(alive(body, frames), frames), frames)
    assert onnx_logits == pytest.approx(torch_logits, abs=1e-5)
