"""NIR files: each node by its closed form as snnTorch runs it, whole networks spike by spike, refusals, failures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from neuromoco import models
from neuromoco.checkpoint import KEY, read_header, save_checkpoint
from neuromoco.classifier import Classifier
from neuromoco.config import EncoderConfig, NeuronConfig
from neuromoco.errors import ConfigError, ParityError, UnsupportedLayerError
from neuromoco.export.check.parity import Parity, measure_parity
from neuromoco.export.targets import export, list_unsupported
from neuromoco.export.to_nir import export as nir_export
from neuromoco.export.to_nir import nodes
from neuromoco.export.to_nir.export import SnnTorchNetwork, differences, snntorch_runs
from neuromoco.export.to_nir.nodes import DT, find_unsupported_nir, to_nir
from neuromoco.graph.nodes import (
    LIF,
    Add,
    Affine,
    Attention,
    AvgPool,
    Conv,
    Graph,
    Input,
    Linear,
    MaxPool,
    Multiply,
    Node,
    Reshape,
    adaptive_windows,
    strided_windows,
)
from neuromoco.graph.trace import lower
from neuromoco.runtime.loihi.blocks import conv_shape
from tests.helpers.networks import around, event_frames, live_classifier

FLOAT = np.float32
SOURCE = models.model_path(suffix=".safetensors")
CONV_STEM = EncoderConfig(name="sew_resnet_tiny", options={"stem": "conv"})


def chain(shape: tuple[int, ...], *nodes: Node) -> Graph:
    """An input of a shape, and nodes that name their inputs."""
    return Graph((Input(name="x", inputs=(), shape=shape), *nodes))


def reread(graph: Graph, folder: Path) -> nir.NIRGraph:
    """A graph by way of a file; nothing is lost on it."""
    written = to_nir(graph, {"dt": DT})
    nir.write(folder / "graph.nir", written)
    read = nir.read(folder / "graph.nir")
    assert differences(written, read) == []
    return read


def run(graph: Graph, frames: NDArray[Any], folder: Path) -> NDArray[np.float32]:
    """The output [T, N, ...] of a file, as snnTorch runs it."""
    return SnnTorchNetwork(reread(graph, folder), [node.name for node in graph.neurons]).run(frames)[0]


def lif(name: str, before: str, shape: tuple[int, ...], **facts: Any) -> LIF:
    return LIF(
        name=name, inputs=(before,), shape=shape, **{"tau": 2.0, "v_threshold": 1.0, "decay_input": True} | facts
    )


def conv(rng: np.random.Generator, name: str, before: Node, out: int, kernel: tuple[int, ...], **facts: Any) -> Conv:
    axes = len(kernel)
    given: dict[str, Any] = {
        "stride": (1,) * axes,
        "padding": (0,) * axes,
        "dilation": (1,) * axes,
        "groups": 1,
    } | facts
    weight = rng.normal(size=(out, before.shape[0] // given["groups"], *kernel)).astype(FLOAT)
    shape = conv_shape(before.shape, out, kernel, given["stride"], given["padding"], given["dilation"])
    bias = rng.normal(size=out).astype(FLOAT)
    return Conv(name=name, inputs=(before.name,), shape=shape, weight=weight, bias=bias, **given)


def random_frames(steps: int, batch: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0.4, 1.0, (steps, batch, *shape)).astype(FLOAT)


def spikes_of(x: NDArray[Any], neuron: LIF) -> NDArray[np.bool_]:
    """The equation in float32, for x [T, ...]."""
    v, found = np.zeros_like(x[0]), []
    for step in x:
        h = v * FLOAT(neuron.keep) + step * FLOAT(neuron.gain)
        found.append(h >= FLOAT(neuron.v_threshold))
        v = np.where(found[-1], FLOAT(0.0), h)
    return np.stack(found)


NEURONS: list[dict[str, Any]] = [
    {"tau": 2.0},
    {"tau": 4.0, "v_threshold": 0.75},
    {"tau": 3.0, "v_threshold": 0.7},
    {"tau": 1.0},
    {"tau": 2.0, "decay_input": False},
    {"tau": 4.0, "decay_input": False, "v_threshold": 1.3},
    {"tau": 5.0 / 3.0, "decay_input": False},
    {"tau": np.inf, "decay_input": False},
    {"tau": np.inf, "decay_input": False, "v_threshold": 0.6},
]


@pytest.mark.parametrize("facts", NEURONS, ids=str)
def test_neurons_spike_as_the_equation_says(facts: dict[str, Any], tmp_path: Path) -> None:
    neuron = lif("n", "x", (40,), **facts)
    frames = random_frames(8, 3, (40,)) * FLOAT(neuron.v_threshold / neuron.gain)
    wanted = spikes_of(frames, neuron)
    assert 0.1 < wanted.mean() < 0.9
    assert np.array_equal(run(chain((40,), neuron), frames, tmp_path), wanted)


@pytest.mark.parametrize("facts", [f for f in NEURONS if f["tau"] in (1.0, 2.0, 4.0, np.inf)], ids=str)
def test_neurons_fire_at_the_threshold_and_not_just_below(facts: dict[str, Any], tmp_path: Path) -> None:
    neuron = lif("n", "x", (3,), **facts)
    threshold = FLOAT(neuron.v_threshold)
    edges = np.array([threshold, np.nextafter(threshold, FLOAT(0)), np.nextafter(threshold, FLOAT(9))], FLOAT)
    found = run(chain((3,), neuron), (edges / FLOAT(neuron.gain))[None, None], tmp_path)
    assert found.tolist() == [[[1.0, 0.0, 1.0]]]


def test_a_second_recording_begins_at_rest(tmp_path: Path) -> None:
    graph = chain((40,), lif("n", "x", (40,)))
    network = SnnTorchNetwork(reread(graph, tmp_path), ["n"])
    frames = random_frames(5, 1, (40,)) * 2
    first, spikes = network.run(frames)
    assert first.any()
    assert np.array_equal(spikes["n"], first)
    assert np.array_equal(network.run(frames)[0], first)


def test_constants_of_neurons_are_those_of_the_differential_equation() -> None:
    """As spikingjelly's exchange and snnTorch step them: dt = 1e-4 s."""
    nodes = to_nir(
        chain(
            (2,),
            lif("a", "x", (2,), tau=4.0),
            lif("b", "a", (2,), tau=4.0, decay_input=False),
            lif("c", "b", (2,), tau=np.inf, decay_input=False),
        )
    ).nodes
    assert nodes["a"].tau == pytest.approx(4e-4)
    assert nodes["a"].r.tolist() == [1.0, 1.0]
    assert nodes["b"].tau == pytest.approx(4e-4)
    assert nodes["b"].r.tolist() == [4.0, 4.0]
    assert isinstance(nodes["c"], nir.IF)
    assert nodes["c"].r.tolist() == [1e4, 1e4]
    assert all(not nodes[name].v_reset.any() for name in "abc")
    assert all(nodes[name].v_threshold == pytest.approx(1.0) for name in "abc")


@pytest.mark.parametrize(
    "facts",
    [
        {"kernel": (3, 3), "padding": (1, 1)},
        {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 0)},
        {"kernel": (3, 3), "dilation": (2, 2), "padding": (2, 2)},
        {"kernel": (1, 1), "stride": (2, 1)},
        {"kernel": (3, 3), "groups": 2},
        {"kernel": (3, 3), "groups": 4, "padding": (1, 1)},
        {"kernel": (3,), "padding": (1,)},
        {"kernel": (1,), "groups": 2, "stride": (2,)},
    ],
    ids=str,
)
def test_convolutions(facts: dict[str, Any], tmp_path: Path) -> None:
    rng, given = np.random.default_rng(1), dict(facts)
    kernel = given.pop("kernel")
    shape = (4, 9, 8)[: len(kernel) + 1]
    node = conv(rng, "c", Input(name="x", inputs=(), shape=shape), 8, kernel, **given)
    frames = random_frames(2, 3, shape)
    function = F.conv2d if len(kernel) == 2 else F.conv1d
    facts_of = node.stride, node.padding, node.dilation, node.groups
    x = torch.from_numpy(frames.reshape(6, *shape))
    wanted = function(x, torch.from_numpy(node.weight), torch.from_numpy(node.bias), *facts_of)
    found = run(chain(shape, node), frames, tmp_path)
    assert found.shape == (2, 3, *node.shape)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-5)


def test_a_linear_layer_behind_flatten(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(size=(5, 24)).astype(FLOAT), rng.normal(size=5).astype(FLOAT)
    graph = chain(
        (2, 3, 4),
        Reshape(name="rows", inputs=("x",), shape=(2, 12)),
        Reshape(name="flat", inputs=("rows",), shape=(24,)),
        Linear(name="head", inputs=("flat",), shape=(5,), weight=weight, bias=bias),
    )
    frames = random_frames(2, 3, (2, 3, 4))
    np.testing.assert_allclose(
        run(graph, frames, tmp_path), frames.reshape(2, 3, 24) @ weight.T + bias, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("side", "parts"), [((8, 8), 2), ((9, 9), 2), ((7, 5), 1), ((6, 9), 3), ((5, 5), 3)])
def test_average_pools_are_nodes_or_part_of_the_linear_layer(side: tuple[int, int], parts: int, tmp_path: Path) -> None:
    shape, rng = (2, *side), np.random.default_rng(3)
    windows = tuple(adaptive_windows(length, parts) for length in side)
    weight = rng.normal(size=(4, 2 * parts**2)).astype(FLOAT)
    graph = chain(
        shape,
        AvgPool(name="pool", inputs=("x",), shape=(2, parts, parts), windows=windows),
        Reshape(name="flat", inputs=("pool",), shape=(2 * parts**2,)),
        Linear(name="head", inputs=("flat",), shape=(4,), weight=weight, bias=np.zeros(4, FLOAT)),
    )
    assert ("pool" in to_nir(graph).nodes) == (side != (5, 5))
    frames = random_frames(2, 3, shape)
    pooled = F.adaptive_avg_pool2d(torch.from_numpy(frames).flatten(0, 1), parts).flatten(1).numpy()
    found = run(graph, frames, tmp_path).reshape(6, 4)
    np.testing.assert_allclose(found, pooled @ weight.T, rtol=1e-5, atol=1e-5)


def test_strided_average_pools_and_means_over_one_axis(tmp_path: Path) -> None:
    windows = strided_windows(8, 3, 2), strided_windows(7, 3, 2)
    frames = random_frames(1, 2, (2, 8, 7))
    found = run(chain((2, 8, 7), AvgPool(name="p", inputs=("x",), shape=(2, 3, 3), windows=windows)), frames, tmp_path)
    np.testing.assert_allclose(found[0], F.avg_pool2d(torch.from_numpy(frames[0]), 3, 2), atol=1e-6)
    weight = np.random.default_rng(4).normal(size=(3, 2)).astype(FLOAT)
    mean = chain(
        (2, 5),
        AvgPool(name="mean.pool", inputs=("x",), shape=(2, 1), windows=(((0, 5),),)),
        Reshape(name="mean", inputs=("mean.pool",), shape=(2,)),
        Linear(name="head", inputs=("mean",), shape=(3,), weight=weight, bias=np.ones(3, FLOAT)),
    )
    tokens = random_frames(1, 2, (2, 5))
    np.testing.assert_allclose(run(mean, tokens, tmp_path), tokens.mean(3) @ weight.T + 1, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_max_pools_of_spikes_are_convolutions_and_neurons(
    kernel: int, stride: int, padding: int, tmp_path: Path
) -> None:
    shape, side = (2, 7, 7), (7 + 2 * padding - kernel) // stride + 1
    facts = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "padding": (padding,) * 2}
    neuron = lif("n", "x", shape)
    graph = chain(shape, neuron, MaxPool(name="pool", inputs=("n",), shape=(2, side, side), **facts))
    frames = random_frames(6, 3, shape) * 2
    spikes = torch.from_numpy(spikes_of(frames, neuron).astype(FLOAT))
    wanted = F.max_pool2d(spikes.flatten(0, 1), kernel, stride, padding).unflatten(0, (6, 3))
    assert 0.1 < wanted.mean() < 0.95
    assert np.array_equal(run(graph, frames, tmp_path), wanted)
    assert isinstance(to_nir(graph).nodes["pool"], nir.IF)


def test_the_network_with_a_max_pool_that_comes_along_spikes_as_in_torch(tmp_path: Path) -> None:
    report = export(SOURCE, tmp_path / "m.nir", target="nir", recordings=[])
    assert report["parity"]["agreement"] == 1.0
    assert report["parity"]["problem"] is None
    assert sum(layer["flipped"] for layer in report["parity"]["layers"]) == 0


def residual() -> Graph:
    """a -> b, a + b -> (c, d), c + d + (a + b) -> e."""
    shape = (6,)
    rng = np.random.default_rng(5)

    def linear(name: str, before: str) -> Linear:
        weight, bias = rng.normal(size=(6, 6)).astype(FLOAT), rng.normal(size=6).astype(FLOAT)
        return Linear(name=name, inputs=(before,), shape=shape, weight=weight, bias=bias)

    return chain(
        shape,
        lif("a", "x", shape),
        lif("b", "a", shape, v_threshold=0.5),
        Add(name="ab", inputs=("a", "b"), shape=shape),
        linear("c", "ab"),
        linear("d", "ab"),
        Add(name="cd", inputs=("c", "d"), shape=shape),
        Add(name="all", inputs=("cd", "ab"), shape=shape),
        lif("e", "all", shape),
        linear("out", "e"),
    )


def test_each_term_of_a_sum_has_an_edge_to_each_user() -> None:
    written = to_nir(residual())
    assert not {"ab", "cd", "all"} & set(written.nodes)
    for target, sources in {"c": "ab", "d": "ab", "e": "abcd"}.items():
        assert sorted(source for source, end in written.edges if end == target) == list(sources)


def test_sums_are_added_where_their_edges_meet(tmp_path: Path) -> None:
    graph, frames = residual(), random_frames(6, 4, (6,)) * 2
    nodes: dict[str, Any] = {node.name: node for node in graph.nodes}
    a = spikes_of(frames, nodes["a"]).astype(FLOAT)
    ab = a + spikes_of(a, nodes["b"])
    drive = ab + sum(ab @ nodes[name].weight.T + nodes[name].bias for name in "cd")
    e = spikes_of(drive.astype(FLOAT), nodes["e"])
    assert 0.1 < e.mean() < 0.9
    assert (ab == 2.0).any()
    found = run(graph, frames, tmp_path)
    np.testing.assert_allclose(found, e @ nodes["out"].weight.T + nodes["out"].bias, rtol=1e-5, atol=1e-5)


NETWORKS = [
    (CONV_STEM, 0),
    (CONV_STEM, 1),
    (EncoderConfig(options={"stem": "conv", "pool": 1}, neuron=NeuronConfig(tau=3.0)), 2),
    (EncoderConfig(options={"stem": "conv", "pool": 3, "width": 8}, neuron=NeuronConfig(v_threshold=0.8)), 3),
]


@pytest.mark.parametrize(("config", "seed"), NETWORKS)
def test_sew_resnets_spike_as_in_torch(config: EncoderConfig, seed: int, tmp_path: Path) -> None:
    network = live_classifier(config, event_frames(4, 4, 34, seed), seed)
    graph = lower(network, 34, 34)
    frames = [event_frames(4, 1, 34, 10 * seed + number).numpy() for number in range(6)]
    parity = parity_of(network, graph, reread(graph, tmp_path), frames)
    assert [layer.name for layer in parity.layers] == [node.name for node in graph.neurons]
    assert all(0.02 < layer.rate < 0.9 for layer in parity.layers)
    assert [layer.flipped for layer in parity.layers] == [0] * len(parity.layers)
    assert parity.recordings == 6
    assert parity.largest_error < 1e-5
    assert parity.problem is None


def test_spikingjelly_reads_the_file_too(tmp_path: Path) -> None:
    """It has a node for integrate-and-fire, which snnTorch's reader has not."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    graph = residual()
    nodes = [
        replace(n, tau=np.inf, decay_input=False) if isinstance(n, LIF) and n.name != "b" else n for n in graph.nodes
    ]
    graph = Graph(tuple(nodes))
    frames = random_frames(6, 4, (6,)) * 2
    network, state, found = import_from_nir(reread(graph, tmp_path)), None, []
    for step in torch.from_numpy(frames):
        out, state = network(step, state)
        found.append(out.detach().numpy())
    np.testing.assert_allclose(np.stack(found), run(graph, frames, tmp_path), rtol=1e-5, atol=1e-5)


def parity_of(network: Classifier, graph: Graph, written: nir.NIRGraph, frames: list[NDArray[Any]]) -> Parity:
    names = [node.name for node in graph.neurons]
    return measure_parity(network, graph, snntorch_runs(written, names, frames))


def test_a_wrong_file_is_found_out() -> None:
    network = live_classifier(CONV_STEM, event_frames(4, 4, 34))
    graph = lower(network, 34, 34)
    written = to_nir(graph)
    written.nodes["stages.1.sn1"].v_threshold *= FLOAT(1.2)
    parity = parity_of(network, graph, written, [event_frames(4, 1, 34, 1).numpy()])
    assert parity.problem is not None
    assert {layer.name: layer.flipped > 0 for layer in parity.layers}["stages.1.sn1"]
    assert [layer.flipped for layer in parity.layers[:3]] == [0, 0, 0]


def test_what_is_read_otherwise_is_named() -> None:
    ours, theirs = to_nir(residual(), {"dt": DT}), to_nir(residual(), {"dt": DT})
    assert differences(ours, theirs) == []
    theirs.nodes["c"].weight[0, 0] += 1
    theirs.nodes["a"] = theirs.nodes["c"]
    theirs.edges.pop()
    theirs.metadata = {}
    assert differences(ours, theirs) == ["a", "c", "edges", "metadata"]
    del theirs.nodes["c"]
    assert "c" in differences(ours, theirs)


SHAPE = (4, 6, 6)
ONES = np.ones(4, FLOAT)
REFUSED: list[tuple[Any, str, str]] = [
    (
        MaxPool(name="pool", inputs=("x",), shape=(4, 3, 3), kernel=(2, 2), stride=(2, 2), padding=(0, 0)),
        "pool: MaxPool: NIR has no max pool",
        "or use a strided convolution or an average pool",
    ),
    (
        Multiply(name="and", inputs=("x", "x"), shape=SHAPE),
        "and: Multiply: NIR adds values and does not multiply them",
        "join branches with +",
    ),
    (
        Affine(name="norm", inputs=("x",), shape=SHAPE, weight=ONES, bias=ONES),
        "norm: Affine: NIR has no scale and shift of channels",
        "use batch norm right behind a convolution or linear layer",
    ),
    (
        Attention(name="attn", inputs=("x",), shape=(2, 36), heads=1, scale=1.0),
        "attn: Attention: NIR has no product of values",
        "use a convolutional encoder",
    ),
    (Add(name="twice", inputs=("x", "x"), shape=SHAPE), "twice: Add: x enters the sum twice", "double its weights"),
    (
        Reshape(name="view", inputs=("x",), shape=(2, 2, 6, 6)),
        "view: Reshape: from (4, 6, 6) to (2, 2, 6, 6)",
        "use flatten",
    ),
    (
        conv(np.random.default_rng(0), "wide", Input(name="x", inputs=(), shape=SHAPE), 2, (1, 3)),
        "wide: Conv: a kernel of 1 x 3",
        "use a square one",
    ),
    (
        AvgPool(name="avg", inputs=("x",), shape=(4, 4, 4), windows=(adaptive_windows(6, 4),) * 2),
        "avg: AvgPool: windows of unequal size",
        "use frames of a size that divides",
    ),
]


@pytest.mark.parametrize(("node", "what", "substitute"), REFUSED, ids=[node.name for node, *_ in REFUSED])
def test_what_nir_cannot_say_is_refused_with_a_substitute(node: Node, what: str, substitute: str) -> None:
    graph = chain(SHAPE, node)
    (refused,) = find_unsupported_nir(graph)
    with pytest.raises(UnsupportedLayerError) as caught:
        to_nir(graph)
    assert str(caught.value) == str(refused)
    assert str(refused).startswith(what)
    assert substitute in str(refused)
    assert "\n" not in str(refused)


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        (EncoderConfig(options={"connect": "AND"}), [f"stages.{n}.mul" for n in range(3)]),
        (EncoderConfig(options={"stem": "conv", "connect": "AND"}), [f"stages.{n}.mul" for n in range(3)]),
        (
            EncoderConfig(name="spikformer_tiny"),
            ["blocks.0.attn.attn", "blocks.0.reshape"],
        ),
    ],
)
def test_every_refused_layer_of_a_network_is_listed(config: EncoderConfig, layers: list[str]) -> None:
    graph = lower(live_classifier(config, event_frames(2, 2, 34)), 34, 34)
    assert [refused.name for refused in find_unsupported_nir(graph)] == layers
    more = rf"\(and {len(layers) - 1} more; --check lists them\)" if len(layers) > 1 else r"\(SEW-ResNet: .*\)$"
    with pytest.raises(UnsupportedLayerError, match=more):
        to_nir(graph)


class Named(nn.Module):
    """Layers that bear the names of the file's own nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Conv2d(2, 3, 3)
        self.output = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.input(x.flatten(0, 1))).flatten(1).unflatten(0, x.shape[:2])


def test_layers_may_be_called_input_and_output(tmp_path: Path) -> None:
    frames = event_frames(2, 3, 6)
    network = around(Named(), frames)
    graph = lower(network, 6, 6)
    assert {"input", "input_", "output", "output_"} <= set(to_nir(graph).nodes)
    with torch.no_grad():
        np.testing.assert_allclose(run(graph, frames.numpy(), tmp_path), network(frames).numpy(), atol=1e-5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint that NIR can say."""
    header = read_header(SOURCE).model_copy(update={"encoder": CONV_STEM})
    network = live_classifier(CONV_STEM, event_frames(4, 4, 34))
    network.head = nn.Linear(network.head.in_features, len(header.class_names))
    save_checkpoint(tmp_path / "source" / "best.safetensors", network, header)
    return tmp_path / "source" / "best.safetensors"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_export_writes_a_file_that_describes_itself_and_its_report(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.nir"
    report = export(source, out, target="nir")
    assert names(out.parent) == ["m.nir", "m.nir.report.json"]
    assert json.loads((out.parent / "m.nir.report.json").read_text()) == json.loads(json.dumps(report))
    assert report["compared"] == {"noise": 4, "recordings": 10}
    assert report["parity"]["largest_error"] < 1e-5
    assert sum(layer["flipped"] for layer in report["parity"]["layers"]) == 0
    assert report["parity"]["agreement"] == 1.0
    assert report["parity"]["problem"] is report["not_compared"] is None
    assert report["read_back_equal"]
    assert set(report["backend"]) == {"snntorch", "nirtorch"}
    read = nir.read(out)
    assert (report["nodes"], report["edges"]) == (len(read.nodes), len(read.edges))
    assert report["bytes"] == out.stat().st_size
    header = json.loads(read.metadata[KEY])
    assert header["source_sha256"] == report["source_sha256"]
    assert header["target"] == "nir"
    assert header["class_names"] == list(read_header(source).class_names)
    assert read.metadata["dt"] == DT
    before = out.read_bytes()
    export(source, out, target="nir", recordings=[])
    assert out.read_bytes() == before


def test_without_the_backend_the_report_says_that_nothing_was_compared(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nir_export, "find_spec", lambda name: None)
    report = export(source, tmp_path / "m.nir", target="nir", recordings=[])
    assert report["parity"] is report["backend"] is report["compared"] is None
    assert "pip install snntorch nirtorch" in report["not_compared"]
    assert "\n" not in report["not_compared"]
    assert report["read_back_equal"]
    assert (tmp_path / "m.nir").exists()


def test_a_file_that_answers_otherwise_is_not_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(graph: Graph, metadata: Any) -> nir.NIRGraph:
        written = to_nir(graph, metadata)
        written.nodes["head"].bias = written.nodes["head"].bias + FLOAT(0.01)
        return written

    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "m.nir").write_text("older")
    monkeypatch.setattr(nir_export, "to_nir", spoiled)
    with pytest.raises(ParityError, match=r"m\.nir: not written: head: .* by up to 0\.01"):
        export(source, folder / "m.nir", target="nir", recordings=[])
    assert names(folder) == ["m.nir", "m.nir.report.json"]
    assert (folder / "m.nir").read_text() == "older"


def test_a_file_that_reads_back_otherwise_is_not_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nir, "read", lambda path: to_nir(residual()))
    with pytest.raises(ParityError, match="read back otherwise"):
        export(source, tmp_path / "out" / "m.nir", target="nir", recordings=[])
    assert names(tmp_path / "out") == ["m.nir.report.json"]


def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_spikes", lambda graph, name: False)
    with pytest.raises(UnsupportedLayerError, match=r"^stem\.3: MaxPool: .*strided convolution"):
        export(SOURCE, tmp_path / "m.nir", target="nir", recordings=[])
    assert [refused.name for refused in list_unsupported(SOURCE, target="nir")] == ["stem.3"]
    assert list_unsupported(source, target="nir") == []
    for out in (tmp_path, source):
        with pytest.raises(ConfigError, match=r"--out names a new \.nir file"):
            export(source, out, target="nir", recordings=[])
    assert names(tmp_path) == ["source"]
    assert names(source.parent) == ["best.safetensors"]
