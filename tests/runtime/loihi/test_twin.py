"""Loihi's integers: scales, the mapping of layers to blocks, and the twin compared with computations of other kinds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from spikingjelly.activation_based import layer, neuron
from torch import nn

from neuromoco.config import EncoderConfig, NeuronConfig
from neuromoco.encoders import list_encoders
from neuromoco.errors import NeuromocoError
from neuromoco.export.check.parity import run_source
from neuromoco.export.to_loihi.calibrate import FACTORS, choose_clipping
from neuromoco.export.to_loihi.mapping import map_to_loihi
from neuromoco.export.to_loihi.resources import fan_out, resources_of
from neuromoco.export.to_loihi.scales import FloatSynapse, attention_neuron, readout, round_synapse
from neuromoco.export.to_loihi.synapses import pooled
from neuromoco.graph import nodes as floats
from neuromoco.graph.trace import lower
from neuromoco.runtime.loihi.blocks import (
    LARGEST_MEMBRANE,
    READOUT,
    LoihiAttention,
    LoihiBlock,
    LoihiConv,
    LoihiGraph,
    Neuron,
    Port,
    Relay,
)
from neuromoco.runtime.loihi.twin import attend, check_readout, convolve, run
from neuromoco.snn.neurons import lif
from neuromoco.unsupported import RefusedError
from tests.helpers.networks import around, event_frames, live_classifier

STEPS, SIDE = 4, 17


def lif_node(tau: float = 2.0, threshold: float = 1.0, decay_input: bool = True) -> floats.LIF:
    return floats.LIF(name="n", inputs=("x",), shape=(1,), tau=tau, v_threshold=threshold, decay_input=decay_input)


def synapse(weight: Any, bias: Any) -> FloatSynapse:
    array = np.array(weight, float).reshape(-1, 1, 1, 1)
    return FloatSynapse(array, np.array(bias, float), (1, 1), (0, 0), (1, 1), 1)


def conv(weight: Any, neuron: Neuron = READOUT, **changes: Any) -> LoihiConv:
    array = np.array(weight, np.int32)
    facts: dict[str, Any] = {"name": "c", "inputs": ("frames",), "shape": (len(array), 1, 1), "depth": 1}
    return LoihiConv(**facts | {"weight": array.reshape(len(array), -1, 1, 1), "neuron": neuron} | changes)


def chain(*blocks: LoihiBlock, shape: tuple[int, int, int] = (1, 1, 1)) -> LoihiGraph:
    return LoihiGraph((Port(name="frames", inputs=(), shape=shape, depth=0, largest=255), *blocks))


# Scales


def test_the_exact_rule_in_numbers() -> None:
    whole = round_synapse(synapse([0.5, -1.0], [0.25, 0.0]), lif_node(tau=2.0, threshold=1.0))
    assert whole.neuron == Neuron(v_threshold=math.floor(127 * 2 - 1 / 64), v_decay=2048)
    assert whole.scale == (253 + 1 / 64) / 2
    assert whole.weight.ravel().tolist() == [63, -127]
    assert whole.bias.tolist() == [32, 0]
    assert whole.clipped == 0


def test_a_large_bias_makes_the_grain_coarser() -> None:
    whole = round_synapse(synapse([0.01], [10.0]), lif_node(decay_input=False))
    assert whole.scale <= 4095 / 10.0
    assert abs(whole.bias[0]) <= 4095


def test_clipping_is_counted() -> None:
    whole = round_synapse(synapse([1.0] * 9 + [10.0], [0.0] * 10), lif_node(), clipping=3.0)
    assert whole.clipped == 1
    assert whole.weight.max() == 127
    assert whole.weight.min() == round(1.0 * whole.scale)


@pytest.mark.parametrize(("tau", "decay"), [(math.inf, 0), (2.0, 2048), (4.0, 1024), (4 / 3, 3072), (3.0, 1365)])
def test_decays(tau: float, decay: int) -> None:
    assert round_synapse(synapse([1.0], [0.0]), lif_node(tau=tau, decay_input=False)).neuron.v_decay == decay


@pytest.mark.parametrize(("decay", "steps"), [(0, None), (2048, 7), (1024, 4), (3072, 4), (512, 3), (4096, None)])
def test_how_long_membranes_drop_no_bit(decay: int, steps: int | None) -> None:
    assert Neuron(1, decay).exact_steps() == steps


def test_the_readout_leaves_room_for_what_was_seen() -> None:
    weight = readout(synapse([1.0], [0.0]), largest_sum=1e4)
    assert weight.scale * 1e4 == pytest.approx(READOUT.v_threshold / 2)
    assert readout(synapse([1.0], [0.0]), largest_sum=0.0).scale == 127


@pytest.mark.parametrize(("threshold", "scale"), [(0.5, 0.25), (0.5, 0.125), (1.3, 0.25)])
def test_attention_fires_exactly_where_the_float_neuron_does(threshold: float, scale: float) -> None:
    node = lif_node(threshold=threshold)
    gain, constants = attention_neuron(node, scale, largest=64)
    drives = np.random.default_rng(0).integers(0, 13, (STEPS, 4000, 1, 1, 1))
    ours = integer_spikes(drives * gain, constants)
    assert np.array_equal(ours, float_spikes(drives * scale, 2.0, threshold, True))


# Neurons


def integer_spikes(drive: NDArray[Any], constants: Neuron, bias: int = 0) -> NDArray[Any]:
    """The equation with Python's unbounded integers, a neuron at a time: [T, N, 1, 1, 1]."""
    spikes = np.zeros(drive.shape, np.int64)
    for n in range(drive.shape[1]):
        v = 0
        for t in range(len(drive)):
            kept = abs(v) * (4096 - constants.v_decay) >> 12
            v = (kept if v >= 0 else -kept) + 64 * int(drive[t, n].item()) + 64 * bias
            v = max(-LARGEST_MEMBRANE, min(LARGEST_MEMBRANE, v))
            if v > 64 * constants.v_threshold:
                spikes[t, n], v = 1, 0
    return spikes


def float_spikes(drive: NDArray[Any], tau: float, threshold: float, decay_input: bool) -> NDArray[Any]:
    node: Any = neuron.IFNode(v_threshold=threshold, v_reset=0.0, step_mode="m")
    if not math.isinf(tau):
        node = neuron.LIFNode(tau=tau, decay_input=decay_input, v_threshold=threshold, v_reset=0.0, step_mode="m")
    return node(torch.from_numpy(np.asarray(drive, np.float64))).numpy()


@settings(max_examples=60, deadline=None)
@given(
    drives=st.lists(st.lists(st.integers(-120, 120), min_size=6, max_size=6), min_size=1, max_size=5),
    threshold=st.integers(0, 400),
    decay=st.integers(0, 4096),
    bias=st.integers(-4095, 4095),
)
def test_the_twin_does_the_equation(drives: list[list[int]], threshold: int, decay: int, bias: int) -> None:
    constants = Neuron(threshold, decay)
    counts = np.abs(np.array(drives)).T  # [T, N]
    first = conv([[1]], constants, bias=np.array([bias], np.int32))
    graph = chain(first, conv([[1]], name="out", inputs=("c",), depth=2))
    frames = counts.reshape(*counts.shape, 1, 1, 1)
    found = run(graph, frames, keep=lambda _: True)
    assert np.array_equal(found.spikes["c"], integer_spikes(frames, constants, bias))
    assert np.array_equal(found.logits[..., 0], found.spikes["c"][..., 0, 0, 0])


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize(("tau", "steps"), [(math.inf, 30), (2.0, 7), (4.0, 4), (4 / 3, 4), (8.0, 3)])
def test_weights_on_the_grid_give_the_spikes_of_the_float_network(tau: float, steps: int, decay_input: bool) -> None:
    if math.isinf(tau):
        decay_input = False
    node = lif_node(tau=tau, threshold=0.7, decay_input=decay_input)
    rng = np.random.default_rng(1)
    weight = np.array([*rng.integers(-127, 127, 19), 127]) / 100.0
    whole = round_synapse(synapse(weight, rng.integers(-9, 9, 20) / 100.0), node)
    on_grid = whole.weight.ravel() / whole.scale, whole.bias / whole.scale
    counts = rng.integers(0, 5, (steps, 200, 1, 1, 1))
    block = conv(whole.weight.reshape(20, 1), whole.neuron, bias=whole.bias)
    graph = chain(block, conv(np.ones((1, 20)), name="out", inputs=("c",), depth=2))
    found = run(graph, counts, keep=lambda _: True).spikes["c"]
    drive = (counts * on_grid[0][None, None, :, None, None]) + on_grid[1][None, None, :, None, None]
    wanted = float_spikes(drive, tau, 0.7, decay_input)
    assert 0.01 < wanted.mean() < 0.99
    assert np.array_equal(found, wanted)


def test_membranes_that_leave_24_bits_are_clipped_and_counted() -> None:
    block = conv([[-127]], Neuron(10, 0))
    graph = chain(block, conv([[1]], name="out", inputs=("c",), depth=2))
    found = run(graph, np.full((6, 1, 1, 1, 1), 255))
    assert found.saturated["c"] == max(0, 6 - LARGEST_MEMBRANE // (64 * 127 * 255))


# Synapses


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_convolutions_are_those_of_torch(data: st.DataObject) -> None:
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups, per_in, per_out = draw(1, 3), draw(1, 3), draw(1, 3)
    kernel, stride, padding, dilation = (
        (draw(low, high), draw(low, high)) for low, high in ((1, 3), (1, 2), (0, 2), (1, 2))
    )
    rng = np.random.default_rng(draw(0, 99))
    x = rng.integers(0, 5, (2, groups * per_in, 7, 6)).astype(np.float32)
    weight = rng.integers(-127, 128, (groups * per_out, per_in, *kernel))
    wanted = F.conv2d(torch.tensor(x).double(), torch.tensor(weight).double(), None, stride, padding, dilation, groups)
    block = conv(
        weight.reshape(len(weight), -1), shape=tuple(wanted.shape[1:]), stride=stride, padding=padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip
    block = LoihiConv(**{**vars(block), "weight": weight.astype(np.int32)})
    assert np.array_equal(convolve(block, x, 4), wanted.numpy())


def test_attention_is_the_plain_product() -> None:
    heads, width, tokens, gain = 2, 3, 5, 8
    rng = np.random.default_rng(0)
    q, k, v = rng.integers(0, 2, (3, 4, heads, width, tokens))
    wanted = gain * np.einsum("bhcj,bhdj,bhdi->bhci", v, k, q)
    x = np.concatenate([a.reshape(4, heads * width, tokens, 1) for a in (q, k, v)], axis=1).astype(np.float32)
    block = LoihiAttention(
        name="a", inputs=("x",), shape=(heads * width, tokens, 1), depth=2, heads=heads, gain=gain, neuron=READOUT
    )
    assert np.array_equal(attend(block, x), wanted.reshape(4, heads * width, tokens, 1))


# Mapping


def mapped(network: Any, frames: torch.Tensor, **options: Any) -> tuple[floats.Graph, LoihiGraph]:
    graph = lower(network, *frames.shape[3:])
    found, unsupported = map_to_loihi(graph, largest_sum=50.0, **options)
    assert unsupported == []
    assert found.problems("extended") == []
    return graph, found


def both(network: Any, frames: torch.Tensor) -> tuple[floats.Graph, LoihiGraph, dict[str, Any], Any]:
    """Float graph, integer graph, the spikes of the first and all that the second does."""
    graph, found = mapped(network, frames)
    spikes = run_source(network, graph, frames.numpy())[1]
    return graph, found, spikes, run(found, frames.numpy(), keep=lambda _: True)


@pytest.mark.parametrize("name", [name for name in list_encoders() if "18" not in name and "256" not in name])
def test_every_layer_alone_does_nearly_what_the_float_layer_does(name: str) -> None:
    frames = event_frames(STEPS, 3, 34)
    network = live_classifier(EncoderConfig(name=name), frames)
    graph, found, spikes, twin = both(network, frames)
    # Each layer on the float network's spikes: what comes before it cannot blur the comparison.
    factors = choose_clipping({1.0: found}, spikes, frames.numpy())
    assert set(factors) == {n.name for n in graph.neurons if isinstance(found[n.name], LoihiConv)}
    first = graph.neurons[0].name
    assert np.mean(twin.spikes[first] != spikes[first]) < 0.01
    assert found.readout.name == "head"
    for block in found.blocks[1:]:
        assert {found[source].depth for source in block.inputs} == {block.depth - 1}


class Pools(nn.Module):
    """Average pools before a convolution and before the head, a max pool, a sum of three, neurons without a synapse."""

    def __init__(self) -> None:
        super().__init__()
        node = NeuronConfig()
        self.conv1, self.bn1, self.sn1 = (
            layer.Conv2d(2, 4, 3, padding=1, step_mode="m"), layer.BatchNorm2d(4, step_mode="m"), lif(node),
        )  # fmt: skip
        self.average = layer.AvgPool2d(2, step_mode="m")
        self.conv2, self.bn2, self.sn2 = (
            layer.Conv2d(4, 4, 3, padding=1, bias=False, step_mode="m"), layer.BatchNorm2d(4, step_mode="m"), lif(node),
        )  # fmt: skip
        self.max = layer.MaxPool2d(3, 1, 1, step_mode="m")
        self.sn3 = lif(NeuronConfig(v_threshold=0.4))
        self.pool = layer.AdaptiveAvgPool2d(3, step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.sn1(self.bn1(self.conv1(x)))
        y = self.sn2(self.bn2(self.conv2(self.average(x))))
        z = self.max(y)
        return self.pool(z + y + self.sn3(z)).flatten(2)


def test_pools_and_sums_are_taken_in() -> None:
    frames = event_frames(STEPS, 4, 16)
    network = around(Pools(), frames)
    _, found, spikes, twin = both(network, frames)
    pooled = found["sn2"]
    assert isinstance(pooled, LoihiConv)
    assert (pooled.kernel, pooled.stride, pooled.padding) == ((6, 6), (2, 2), (2, 2))
    # A max pool of spikes is an OR; neurons on spikes alone have nothing to round.
    y = torch.from_numpy(twin.spikes["sn2"]).flatten(0, 1)
    assert np.array_equal(twin.spikes["max"].reshape(y.shape), F.max_pool2d(y, 3, 1, 1).numpy())
    assert np.array_equal(
        twin.spikes["sn3"], float_spikes(twin.spikes["max"], tau=2.0, threshold=0.4, decay_input=True)
    )
    for name in ("sn1", "sn2"):
        assert np.mean(twin.spikes[name] != spikes[name]) < 0.03
    # The head sees the same sum of windows: its weights, unfolded, are those of pool and linear layer.
    total = twin.spikes["sn3"] + twin.spikes["max"] + twin.spikes["sn2"]
    features = F.adaptive_avg_pool2d(torch.from_numpy(total).flatten(0, 1), 3).flatten(1).double()
    wanted = network.head.double()(features).detach().numpy().reshape(twin.logits.shape)
    assert np.abs(twin.logits / found.readout.scale - wanted).max() < 0.05


def test_a_sum_that_waits_is_one_graded_relay() -> None:
    frames = event_frames(STEPS, 2, SIDE)
    network = live_classifier(EncoderConfig(name="sew_resnet18", options={"width": 8}), frames)
    _, found = mapped(network, frames)
    graded = [block for block in found.blocks if isinstance(block, Relay)]
    assert graded
    assert all(len(block.inputs) in (1, 2) and block.largest > 1 for block in graded)
    values = run(found, frames.numpy(), keep=lambda _: True).spikes
    for block in graded:
        assert np.array_equal(values[block.name], sum(values[name] for name in block.inputs))
        assert values[block.name].max() <= block.largest


def test_an_outlier_is_cut_and_the_rest_gains() -> None:
    frames = event_frames(STEPS, 6, 12)
    network = live_classifier(EncoderConfig(name="chain_tiny"), frames)
    conv1 = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        conv1.weight[0, 0, 0, 0] *= 60
    graph = lower(network, 12, 12)
    names = [node.name for node in graph.neurons]
    spikes = run_source(network, graph, frames.numpy())[1]
    graphs = {f: map_to_loihi(graph, 50.0, dict.fromkeys(names, f))[0] for f in FACTORS}
    chosen = choose_clipping(graphs, spikes, frames.numpy())
    assert chosen[names[0]] > 1.0
    best = map_to_loihi(graph, 50.0, chosen)[0]
    plain, better = (run(g, frames.numpy(), keep=lambda _: True).spikes[names[0]] for g in (graphs[1.0], best))
    assert (better != spikes[names[0]]).mean() < 0.7 * (plain != spikes[names[0]]).mean()


# Ranges


def test_counts_beyond_a_spike_of_8_bits_are_cut_and_counted() -> None:
    graph = chain(conv([[1]]))
    found = run(graph, np.array([300, 255, 3]).reshape(3, 1, 1, 1, 1))
    assert found.cut_counts == 1
    assert found.logits.ravel().tolist() == [255, 255, 3]


def test_a_drive_beyond_17_bits_is_an_error() -> None:
    graph = chain(conv([[127] * 9]), shape=(9, 1, 1))
    with pytest.raises(NeuromocoError, match="c: a drive of 291465; Loihi's current holds less than 131072"):
        run(graph, np.full((1, 1, 9, 1, 1), 255))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_readout_that_would_fire_is_an_error(sign: int) -> None:
    check_readout(np.full((2, 1, 1), sign * 65_535, np.int32), READOUT.v_threshold)
    with pytest.raises(NeuromocoError, match="the readout adds up to 131072, and holds 131071"):
        check_readout(np.full((2, 1, 1), sign * 65_536, np.int32), READOUT.v_threshold)


@pytest.mark.parametrize(
    ("blocks", "dialect", "message"),
    [
        ([conv([[128]])], "stock", "c: Conv: a weight of 128, and Loihi holds 0 to 127"),
        ([conv([[1]], bias=np.array([-4096]))], "stock", "a bias of 4096"),
        ([conv([[1]], Neuron(131_072, 0))], "stock", "a threshold vThMant of 131072"),
        ([conv([[1]], Neuron(-1, 0))], "stock", "a threshold vThMant of -1"),
        ([conv([[0]])], "stock", "all its weights are 0; omit the layer"),
        ([conv([[1]], depth=2)], "stock", "its inputs arrive at different steps; put relays between"),
        ([conv(np.ones((128, 1)), groups=128)], "stock", "128 groups, and stock Lava holds at most 127; use a strided"),
        (
            [conv([[1]]), conv([[1]], name="d", inputs=("c", "c"), depth=2)],
            "stock",
            "d: Conv: a residual path, and the stock dialect is a chain; use --dialect extended, or the encoder chain",
        ),
        (
            [
                conv(np.ones((3, 1)), shape=(3, 1, 1)),
                LoihiAttention(name="a", inputs=("c",), shape=(1, 1, 1), depth=2, heads=1, gain=1, neuron=READOUT),
            ],
            "stock",
            "a: Attention: attention, which the stock dialect lacks; use --dialect extended",
        ),
        (
            [Relay(name="r", inputs=("frames",), shape=(1, 1, 1), depth=1, largest=256)],
            "extended",
            "sums of up to 256 in a spike of 8 bits",
        ),
    ],
)
def test_what_the_hardware_or_the_dialect_cannot_hold(blocks: list[LoihiBlock], dialect: Any, message: str) -> None:
    assert message in str(chain(*blocks).problems(dialect)[0])


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        ([0.0], [1.0], "all its weights are 0; omit the layer, or train it"),
        ([math.nan], [0.0], "weights that are no numbers"),
        ([1.0], [math.inf], "weights that are no numbers"),
        ([1e-6], [100.0], "a bias of 100 that leaves no grain for weights of up to 1e-06"),
    ],
)
def test_weights_that_no_scale_fits(weight: Any, bias: Any, message: str) -> None:
    for make in (lambda: round_synapse(synapse(weight, bias), lif_node()), lambda: readout(synapse(weight, bias), 1.0)):
        with pytest.raises(RefusedError, match=message):
            make()


def test_products_and_thresholds_of_attention_beyond_17_bits() -> None:
    with pytest.raises(RefusedError, match="products of up to 131072 for 17 bits"):
        attention_neuron(lif_node(), 0.25, largest=1 << 17)
    with pytest.raises(RefusedError, match=r"a threshold of 1e\+06 after attention, beyond 17 bits"):
        attention_neuron(lif_node(threshold=1e6), 0.25, largest=64)


@pytest.mark.parametrize(("tau", "largest"), [(2.0, 64), (4 / 3, 64), (2.0, 4096), (8.0, 64)])
def test_attention_is_exact_for_as_many_steps_as_it_says(tau: float, largest: int) -> None:
    node = lif_node(tau=tau, threshold=0.5)
    gain, constants = attention_neuron(node, 0.25, largest)
    exact = constants.exact_steps(gain)
    assert exact is not None
    rng = np.random.default_rng(0)
    drives = rng.integers(0, 13, (exact, 4000, 1, 1, 1))
    wanted = float_spikes(drives * 0.25, tau, 0.5, True)
    assert 0.0 < wanted.mean() < 1.0
    assert np.array_equal(integer_spikes(drives * gain, constants), wanted)


class Refused(nn.Module):
    """Layers that have no counterpart, chosen by name."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.conv, self.sn = layer.Conv2d(2, 4, 3, padding=1, step_mode="m"), lif(NeuronConfig())
        self.conv2, self.sn2 = layer.Conv2d(4, 4, 3, padding=1, step_mode="m"), lif(NeuronConfig())
        self.max, self.average = layer.MaxPool2d(2, step_mode="m"), layer.AvgPool2d(2, 1, step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.what == "max pool of counts":
            x = self.max(x)
        y = self.sn(self.conv(x))
        if self.what == "max pool of a sum":
            y = self.max(y + self.sn2(self.conv2(y)))
        elif self.what == "product":
            y = y * self.sn2(self.conv2(y))
        elif self.what == "no neurons between":
            y = self.sn2(self.conv2(self.conv2(y)))
        elif self.what == "overlapping pool":
            y = self.sn2(self.conv2(self.average(y)))
        elif self.what == "twice the same":
            y = self.sn2(self.conv2(y + y))
        elif self.what == "other places":
            y = self.sn2(self.conv2(y.reshape(*y.shape[:3], y.shape[3] // 2, y.shape[4] * 2)))
        elif self.what == "zeros":
            nn.init.zeros_(self.conv2.weight)
            y = self.sn2(self.conv2(y))
        return y.flatten(3).mean(-1)


def test_a_head_of_zeros_is_refused_too() -> None:
    frames = event_frames(STEPS, 2, 8)
    network = around(Refused(""), frames)
    nn.init.zeros_(network.head.weight)
    _, unsupported = map_to_loihi(lower(network, 8, 8), 1.0)
    assert [str(entry) for entry in unsupported] == ["head: Linear: all its weights are 0; omit the layer, or train it"]


def test_pools_of_maps_that_are_not_square() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 6, dtype=torch.double)
    convolution = nn.Conv2d(3, 4, (3, 1), padding=(1, 0), bias=False).double()
    wanted = convolution(F.avg_pool2d(x, (4, 2)))
    weight = convolution.weight.detach().numpy()
    plain = FloatSynapse(weight, np.zeros(4), (1, 1), (1, 0), (1, 1), 1)
    windows = tuple(tuple((i, i + size) for i in range(0, side, size)) for side, size in ((8, 4), (6, 2)))
    found = pooled(plain, (3, 8, 6), windows)
    folded = F.conv2d(x, torch.from_numpy(found.weight), None, found.stride, found.padding)
    assert torch.allclose(folded, wanted)
    with pytest.raises(RefusedError, match="whose windows do not tile the map"):  # a border of 0.5 windows
        pooled(plain, (3, 9, 6), windows)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("max pool of counts", "max: MaxPool: a max pool of values other than spikes; use a convolution of stride 2"),
        ("max pool of a sum", "max: MaxPool: a max pool of values other than spikes"),
        ("product", "mul: Multiply: a product of spikes; use SEW-ResNet's connect=ADD"),
        ("no neurons between", "conv2: Conv: its result is not taken by neurons alone; put neurons behind it"),
        ("overlapping pool", "sn2: LIF: a convolution after an average pool whose windows do not tile the map"),
        ("twice the same", "add: Add: adds a value to itself; scale the weights"),
        ("other places", "reshape: Reshape: a reshape that moves values to other channels or places; flatten"),
        ("zeros", "sn2: LIF: all weights of conv2 are 0; omit the layer, or train it"),
    ],
)
def test_refused_layers_are_named_with_a_substitute(what: str, message: str) -> None:
    frames = event_frames(STEPS, 2, 8)
    graph = lower(around(Refused(what), frames), 8, 8)
    _, unsupported = map_to_loihi(graph, 1.0)
    assert any(message in str(entry) for entry in unsupported), [str(entry) for entry in unsupported]


# Resources


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [((3, 3), (1, 1), (1, 1), (1, 1), 1), ((3, 2), (2, 1), (0, 1), (1, 2), 2), ((1, 1), (1, 1), (0, 0), (1, 1), 4)],
)
def test_fan_out_is_what_a_spike_reaches(kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    weight = torch.ones(8, 4 // groups, *kernel, dtype=torch.double)
    x = torch.zeros(4 * 5 * 6, 4, 5, 6, dtype=torch.double)
    x.view(len(x), -1).fill_diagonal_(1.0)
    out = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    block = LoihiConv(
        name="c", inputs=("frames",), shape=tuple(out.shape[1:]), depth=1, weight=weight.int().numpy(), stride=stride,
        padding=padding, dilation=dilation, groups=groups, neuron=READOUT,
    )  # fmt: skip
    graph = chain(block, shape=(4, 5, 6))
    assert np.array_equal(fan_out(block, graph).ravel(), out.flatten(1).count_nonzero(1).numpy())
    assert resources_of(block, graph).connections == int(out.count_nonzero())


def test_cores_follow_the_scarcest() -> None:
    few = chain(conv(np.ones((2000, 1)), shape=(2000, 1, 1)))
    assert resources_of(few.blocks[1], few).cores_loihi1 == 2  # 1,024 neurons each
    dense = chain(conv(np.ones((100, 5000))), shape=(5000, 1, 1))
    taken = resources_of(dense.blocks[1], dense)
    assert (taken.connections, taken.axons) == (500_000, 5000)
    assert taken.cores_loihi1 == math.ceil(500_000 * 8 / 1_048_576)
