"""What fits which chip: limits where they are published, advice that helps, and operations that are counted right."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from neuromoco.errors import CheckpointError, ConfigError
from neuromoco.export.chips.judge import Fit, Problem, fit
from neuromoco.export.chips.layers import layers_of, macs
from neuromoco.export.chips.operations import operations_of
from neuromoco.export.chips.quantities import OF_LAYERS, OF_NETWORKS, TRAITS, kernel_words, neuron_words
from neuromoco.export.chips.report import module_report
from neuromoco.export.chips.table import CHIPS, ENERGIES, LOIHI1, LOIHI2, SOURCES, SPECK, SPINNAKER2, XYLO, Chip
from neuromoco.export.chips.words import energies, rules, sources
from neuromoco.export.modules.export import PREFIX, Stepped
from neuromoco.graph.interpret import compute, fire
from neuromoco.graph.nodes import LIF, AvgPool, Graph
from neuromoco.graph.trace import lowered_on

STEPS, BATCH = 3, 2


def firing(**options: Any) -> nn.Module:
    return neuron.LIFNode(step_mode="m", **options)


def integrating() -> nn.Module:
    return neuron.IFNode(step_mode="m", v_reset=None)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
    return layer.Conv2d(inputs, outputs, kernel, stride, padding, step_mode="m")


def graph_of(*layers: nn.Module, side: int = 16, channels: int = 2) -> Graph:
    torch.manual_seed(0)
    network = nn.Sequential(*layers).eval()
    shape = (STEPS, BATCH, channels, side, side) if side else (STEPS, BATCH, channels)
    frames = [torch.poisson(torch.full(shape, rate)) for rate in (0.5, 2.0)]
    graph, unsupported = lowered_on(Stepped(network, "TN", False), frames, PREFIX, logits=False)
    assert graph is not None, unsupported
    return graph


def flat(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return layer.Flatten(2), nn.Linear(inputs, outputs)


def what(found: Fit) -> list[str]:
    return [problem.what.split(" (and ")[0] for problem in found.problems]


def test_every_rule_names_what_is_measured_and_a_source() -> None:
    for chip in CHIPS:
        assert {limit.quantity for limit in chip.limits} <= OF_LAYERS.keys() | OF_NETWORKS.keys()
        assert chip.lacks.keys() <= TRAITS.keys()
        assert {limit.source for limit in chip.limits} | {source for _, source in chip.lacks.values()} <= SOURCES.keys()
        assert (chip.core.source if chip.core else chip.memory_source or "Rockpool") in SOURCES
    assert {energy.source for energy in ENERGIES} <= SOURCES.keys()


def test_the_example_in_specks_documentation_has_its_figures() -> None:
    graph = graph_of(conv(16, 32), integrating(), *flat(32 * 64 * 64, 2), side=64, channels=16)
    first = layers_of(graph)[0]
    assert (kernel_words(first), neuron_words(first)) == (8 * 1024, 128 * 1024)
    (problem,) = [problem for problem in fit(graph, SPECK).problems if problem.layer == first.name]
    assert (problem.what, problem.value, problem.allowed) == ("words of membranes", 128 * 1024, "65,536")
    assert problem.advice.startswith("at most 16 instead of 32 channels")


def on_speck(**changes: Any) -> tuple[nn.Module, ...]:
    """A network that fits Speck."""
    pool = changes.get("pool", layer.AvgPool2d(2, step_mode="m"))
    fires = changes.get("fires", integrating)
    first = changes.get("first", conv(2, 8))
    return first, fires(), pool, conv(8, 8), fires(), pool, *flat(8 * 4 * 4, 10)


def test_a_network_of_specks_layers_fits_speck() -> None:
    found = fit(graph_of(*on_speck()), SPECK)
    assert (found.problems, found.cores, found.of_cores) == ((), 3, 9)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fires": firing}, "leak"),
        ({"pool": layer.MaxPool2d(2, step_mode="m")}, "max pool"),
        ({"first": layer.Conv2d(2, 8, 3, padding=2, dilation=2, step_mode="m")}, "dilation"),
    ],
)
def test_what_speck_lacks_is_named(changes: dict[str, Any], problem: str) -> None:
    assert what(fit(graph_of(*on_speck(**changes)), SPECK)) == [problem]


def test_residual_blocks_fit_speck_and_products_do_not() -> None:
    from spikingjelly.activation_based.model.sew_resnet import BasicBlock

    def block(connect: str) -> nn.Module:
        made = BasicBlock(8, 8, cnf=connect, spiking_neuron=neuron.IFNode)
        for module in made.modules():
            if hasattr(module, "step_mode"):
                module.step_mode = "m"
        return made

    for connect, problems in (("ADD", []), ("AND", ["product of spikes"])):
        graph = graph_of(conv(2, 8), integrating(), block(connect), *flat(8 * 8 * 8, 10), side=8)
        assert what(fit(graph, SPECK)) == problems


def test_nine_layers_fit_specks_cores_and_ten_do_not() -> None:
    for count, problems in ((8, []), (9, ["layers"])):
        layers = [part for i in range(count) for part in (conv(2 if i == 0 else 4, 4), integrating())]
        assert what(fit(graph_of(*layers, *flat(4 * 8 * 8, 3), side=8), SPECK)) == problems


def test_layers_that_want_the_same_cores_are_placed_or_refused() -> None:
    """Three cores hold 64 Ki membranes: three layers of so many fit, four do not."""
    for count, placed in ((3, True), (4, False)):
        layers = [part for i in range(count) for part in (conv(2 if i == 0 else 16, 16), integrating())]
        pooled = layer.AvgPool2d(4, step_mode="m")
        found = fit(graph_of(*layers, pooled, *flat(16 * 16 * 16, 2), side=64), SPECK)
        memory = [name for name in what(found) if "layers that find" in name]
        assert (memory == []) == placed
        assert found.cores == (count + 1 if placed else count)


def dense(hidden: int, **options: Any) -> Graph:
    soft = {"v_reset": None, "tau": 2.0} | options
    return graph_of(nn.Linear(16, hidden), firing(**soft), nn.Linear(hidden, 8), side=0, channels=16)


def test_a_dense_network_fits_xylo_up_to_its_limits() -> None:
    assert fit(dense(128), XYLO).problems == ()
    assert what(fit(dense(129), XYLO)) == ["neurons that the input reaches", "neurons that reach the output"]
    assert what(fit(dense(100, v_reset=0.0), XYLO)) == ["hard reset"]
    assert what(fit(dense(100, tau=3.0), XYLO)) == ["leak that is no power of two"]
    assert fit(dense(100, tau=4.0), XYLO).problems == ()


def test_frames_of_a_camera_do_not_fit_xylos_inputs() -> None:
    found = next(problem for problem in fit(graph_of(*on_speck()), XYLO).problems if problem.what == "inputs")
    assert (found.value, found.allowed, found.source) == (2 * 16 * 16, "16", "Rockpool")
    assert found.advice == "frames of about 2 x 2 instead of 16 x 16 pixels"


def test_loihi_counts_the_cores_of_its_export() -> None:
    graph = graph_of(conv(2, 64), firing(), *flat(64 * 16 * 16, 4))
    one, two = fit(graph, LOIHI1), fit(graph, LOIHI2)
    # Of the first layer 16 cores by neurons; of the readout 4 by its 16,384 axons, on the first chip alone.
    assert (one.cores, two.cores) == (16 + 4, 2 + 1)
    assert two.problems == ()
    assert what(one) == ["neurons that one receives from"]
    assert one.problems[0].advice == "at most 16 instead of 64 channels before it"


def test_loihi_names_what_its_export_refuses() -> None:
    graph = graph_of(conv(2, 4), firing(v_reset=None), *flat(4 * 16 * 16, 4))
    for chip in (LOIHI1, LOIHI2):
        assert any("a soft reset" in problem.advice for problem in fit(graph, chip).problems)


def test_too_many_cores_are_chips() -> None:
    graph = graph_of(conv(2, 64), firing(), conv(64, 64), firing(), *flat(64 * 64 * 64, 2), side=64)
    found = fit(graph, LOIHI1)
    assert found.cores is not None
    assert found.chips == -(-found.cores // 128) > 1
    assert any(problem.what == "cores" and f"use {found.chips} chips" in problem.advice for problem in found.problems)


def test_spinnaker2_takes_both_resets_and_counts_memory() -> None:
    for v_reset in (0.0, None):
        found = fit(graph_of(conv(2, 8), firing(v_reset=v_reset), *flat(8 * 16 * 16, 400)), SPINNAKER2)
        assert found.problems == ()
        assert found.cores == 1 + 7  # 400 x 2,048 weights of a byte


@pytest.mark.parametrize(
    ("chip", "side", "kind"), [(LOIHI1, 16, "neurons that one receives from"), (SPECK, 64, "words of membranes")]
)
def test_advice_on_channels_is_the_number_that_fits(chip: Chip, side: int, kind: str) -> None:
    def problems(width: int) -> list[Problem]:
        graph = graph_of(conv(2, width), integrating(), *flat(width * side * side, 2), side=side)
        return [problem for problem in fit(graph, chip).problems if problem.what == kind]

    advised = int(re.findall(r"at most (\d+) instead of 40 channels", problems(40)[0].advice)[0])
    assert problems(advised + 1)
    assert not problems(advised)


def test_operations_are_the_weights_that_spikes_meet() -> None:
    """Counted again by convolving spikes with ones."""
    pool = layer.AvgPool2d(2, step_mode="m")
    graph = graph_of(conv(2, 6, stride=2), firing(), pool, conv(6, 4, 3, 1, 0), firing(), *flat(4 * 2 * 2, 5))
    rng = np.random.default_rng(0)
    frames = rng.poisson(1.0, (STEPS, BATCH, *graph.input.shape)).astype(np.float64)
    values, spikes, adds, counted = {graph.input.name: frames}, {}, 0.0, 0.0
    for before, node in pairwise(graph.nodes):
        assert node.inputs == (before.name,)
        x = values[before.name]
        values[node.name] = fire(node, x) if isinstance(node, LIF) else compute(node, x)
        if isinstance(node, LIF):
            spikes[node.name] = values[node.name]
            arrived = values[node.name]
        elif isinstance(node, AvgPool):
            arrived = compute(node, arrived) * 4  # as a sum of the spikes in a window
        elif hasattr(node, "weight"):
            ones = torch.ones(*node.weight.shape)
            one = before is graph.input
            given = (frames != 0).astype(np.float64) if one else arrived
            flat_x = torch.from_numpy(given).flatten(0, 1).float()
            if ones.ndim == 4:
                work = torch.nn.functional.conv2d(flat_x, ones, stride=node.stride, padding=node.padding)
            else:
                work = flat_x.flatten(1) @ ones.T
            adds, counted = (adds, counted + work.sum().item()) if one else (adds + work.sum().item(), counted)
    found = operations_of(graph, frames, spikes)
    assert found.adds * BATCH == pytest.approx(adds)
    assert found.multiply_adds * BATCH == pytest.approx(counted)
    assert found.spikes * BATCH == sum(value.sum() for value in spikes.values()) > 0


def test_macs_are_those_of_a_dense_network() -> None:
    graph = graph_of(conv(2, 6), firing(), *flat(6 * 16 * 16, 5))
    inside = sum((3 - (row in (0, 15))) * (3 - (column in (0, 15))) for row in range(16) for column in range(16))
    assert sum(macs(node, graph) for node in graph.nodes) == 2 * 6 * inside + 6 * 16 * 16 * 5


def test_energies_are_operations_times_what_is_published() -> None:
    network = nn.Sequential(conv(2, 6), firing(), *flat(6 * 8 * 8, 5)).eval()
    example = torch.poisson(torch.full((STEPS, BATCH, 2, 8, 8), 1.0), generator=torch.Generator().manual_seed(0))
    report = module_report("net", network, example)
    found, rows = report["operations"], {row["by"]: row for row in report["energy"]}
    updates = found["neurons"] * found["steps"]
    by_hand = found["adds"] * 0.9 + (found["multiply_adds"] + updates) * 4.6
    assert rows["float32 arithmetic in 45 nm"]["spiking_nj"] == pytest.approx(by_hand / 1e3)
    assert rows["float32 arithmetic in 45 nm"]["non_spiking_nj"] == pytest.approx(found["macs"] * 4.6 / 1e3)
    loihi = found["synaptic"] * 23.6 + found["spikes"] * 81 + (updates - found["spikes"]) * 52
    assert rows["Loihi 1"]["spiking_nj"] == pytest.approx(loihi / 1e3)
    assert rows["Loihi 1"]["non_spiking_nj"] is None


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    from neuromoco.export.chips.report import chips_report

    (tmp_path / "a.nir").write_bytes(b"nothing")
    (tmp_path / "a.txt").write_text("nothing")
    for name in ("a.nir", "a.txt", "missing.onnx", "missing"):
        with pytest.raises(CheckpointError, match=name):
            chips_report(tmp_path / name)
    with pytest.raises(ConfigError, match="is for checkpoints"):
        chips_report(tmp_path / "a.nir", tmp_path)


def test_the_documentation_holds_the_tables() -> None:
    page = (Path(__file__).parents[3] / "docs" / "chips.md").read_text(encoding="utf-8")
    assert all(words() in page for words in (rules, energies, sources))
