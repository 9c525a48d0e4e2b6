"""What a Loihi export says of itself: figures by closed forms, recordings of the user's, warnings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuromoco import models
from neuromoco.config import EncoderConfig
from neuromoco.errors import ConfigError, NeuromocoError, ParityError
from neuromoco.events import read_recording
from neuromoco.export.targets import export
from neuromoco.export.to_loihi import export as loihi_export
from neuromoco.export.to_loihi import report as loihi_report
from neuromoco.export.to_loihi.calibrate import FACTORS
from neuromoco.export.to_loihi.mapping import map_to_loihi
from neuromoco.export.to_loihi.report import compare_loihi, layer_rows, warnings_of
from neuromoco.export.to_loihi.resources import energy_nj, limits_of, resources_of
from neuromoco.graph.trace import lower
from neuromoco.runtime.loihi.blocks import READOUT, LoihiAttention, LoihiConv, LoihiGraph, Neuron, Port
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.twin import run
from tests.helpers.networks import event_frames, live_classifier

SOURCE = models.model_path(suffix=".safetensors")
STEPS, SIDE = 4, 9


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two copies of every bundled recording, in class folders."""
    folder = tmp_path_factory.mktemp("labelled")
    for path in models.example_paths():
        (folder / path.stem).mkdir()
        for name in "ab":
            shutil.copyfile(path, folder / path.stem / f"{name}.bin")
    return folder


def small() -> tuple[Any, Any, LoihiGraph, Any]:
    frames = event_frames(STEPS, 3, SIDE)
    network = live_classifier(EncoderConfig(name="chain_tiny", options={"width": 4}), frames)
    graph = lower(network, SIDE, SIDE)
    found, unsupported = map_to_loihi(graph, 50.0)
    assert not unsupported
    return network, graph, found, frames.numpy()


def test_operations_rates_and_energy_are_counted_spike_by_spike() -> None:
    network, graph, loihi, frames = small()
    rows = {row["name"]: row for row in layer_rows(loihi, compare_loihi(network, graph, loihi, [frames]), STEPS)}
    spikes = run(loihi, frames, keep=lambda _: True).spikes
    for before, block in zip(loihi.blocks, loihi.blocks[1:], strict=False):
        assert isinstance(block, LoihiConv)
        fired = torch.from_numpy((spikes[before.name] != 0).reshape(-1, *before.shape)).double()
        ones = torch.ones(block.weight.shape, dtype=torch.double)
        reached = torch.nn.functional.conv2d(fired, ones, None, block.stride, block.padding)
        assert rows[block.name]["operations"] == float(reached.sum()) / 3
        if block is loihi.readout:
            continue
        own = spikes[block.name]
        assert rows[block.name]["rate"] == pytest.approx(np.count_nonzero(own) / own.size)
        count = np.count_nonzero(own) / 3
        wanted = rows[block.name]["operations"] * 23.6 + count * 81 + (block.neurons * STEPS - count) * 52
        assert rows[block.name]["energy_nj"] == pytest.approx(wanted / 1e3)


def test_energy_in_numbers() -> None:
    assert energy_nj(operations=1000, neurons=10, spikes=5, steps=4) == pytest.approx(
        (1000 * 23.6 + 5 * 81 + 35 * 52) / 1000
    )


def test_both_networks_are_asked() -> None:
    network, graph, loihi, frames = small()
    # The integer network alone is changed: its answers must be the ones that move.
    last = loihi.readout
    moved = LoihiConv(**{**vars(last), "bias": np.array([2000, -2000, -2000], np.int32)})
    other = LoihiGraph((*loihi.blocks[:-1], moved))
    honest, changed = (compare_loihi(network, graph, g, [frames]) for g in (loihi, other))
    assert changed.answers["float32"] == honest.answers["float32"]
    assert changed.answers["loihi"] == [0, 0, 0]


def test_recordings_of_the_users_choose_scales_and_judge(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []

    def choose(graphs: Any, spikes: Any, frames: Any) -> dict[str, float]:
        tried.append((sorted(graphs), frames.shape[1]))
        return dict.fromkeys(spikes, 1.2)

    monkeypatch.setattr(loihi_export, "choose_clipping", choose)
    report = export(SOURCE, tmp_path / "a.loihi", target="loihi", data=labelled)
    assert tried == [(sorted(FACTORS), 10)]
    assert report["calibrated_on"] == report["compared"]["recordings"] == 10
    assert report["accuracy"] == {"float32": 1.0, "loihi": 1.0}
    assert report["total"]["clipped"] > 0
    report = export(SOURCE, tmp_path / "b.loihi", target="loihi")
    assert len(tried) == 1  # scales are exact without recordings of the user's
    assert report["calibrated_on"] == report["total"]["clipped"] == 0
    assert "give some like yours with --data" in report["warnings"][0]


def test_an_answer_that_moves_too_often_is_refused_with_recordings_of_the_users(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args: Any) -> Any:
        found = compare_loihi(*args)
        found.answers["loihi"] = [(answer + 1) % 10 for answer in found.answers["float32"]]
        return found

    monkeypatch.setattr(loihi_export, "compare_loihi", wrong)
    with pytest.raises(ParityError, match=r"accuracy falls from 100\.0% to 0\.0%"):
        export(SOURCE, tmp_path / "a.loihi", target="loihi", data=labelled)
    assert [path.name for path in tmp_path.iterdir()] == ["a.loihi.report.json"]


def test_the_readout_has_room_for_what_was_seen(tmp_path: Path) -> None:
    report = export(SOURCE, tmp_path / "a.loihi", target="loihi")
    twin = TwinNetwork(tmp_path / "a.loihi")
    recordings = [read_recording(path) for path in models.example_paths()]
    logits = run(twin.graph, twin.frames(recordings)).logits
    assert np.abs(np.cumsum(logits, axis=0)).max() < 0.6 * READOUT.v_threshold
    assert report["layers"][-1]["scale"] == twin.graph.readout.scale


def test_a_readout_that_overflows_is_an_error_in_predict_and_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(SOURCE, tmp_path / "a.loihi", target="loihi")
    twin = TwinNetwork(tmp_path / "a.loihi")
    frames = twin.frames([read_recording(models.example_paths()[0])])
    last = twin.graph.readout
    few = LoihiConv(**{**vars(last), "neuron": Neuron(10, 0)})
    twin.graph = LoihiGraph((*twin.graph.blocks[:-1], few))
    with pytest.raises(NeuromocoError, match="the readout adds up to"):
        twin.frame_logits(frames)
    network, graph, loihi, live = small()
    small_readout = LoihiConv(**{**vars(loihi.readout), "neuron": Neuron(0, 0)})
    with pytest.raises(NeuromocoError, match="the readout adds up to"):
        compare_loihi(network, graph, LoihiGraph((*loihi.blocks[:-1], small_readout)), [live])


def test_warnings_say_what_drops_bits_what_was_cut_and_what_is_silent() -> None:
    network, graph, loihi, frames = small()
    frames = frames.copy()
    frames[0, 0, 0, 0, 0] = 300
    compared = compare_loihi(network, graph, loihi, [frames])
    assert compared.cut_counts == 1
    assert "1 event counts above 255 were sent as 255" in " ".join(warnings_of(loihi, STEPS, compared))
    first = loihi.blocks[1].name
    late = [line for line in warnings_of(loihi, 8, compared) if "drop bits" in line]
    assert len(late) == 5
    assert late[0].startswith(f"{first}: T = 8, and with vDecay 2048 membranes drop bits after 7 steps")
    assert not any("drop bits" in line for line in warnings_of(loihi, 7, compared))
    compared.layers[first].export = 0
    assert f"{first}: never spikes on the recordings compared" in warnings_of(loihi, STEPS, compared)


def test_limits_of_chips_are_warned_of() -> None:
    port = Port(name="frames", inputs=(), shape=(5000, 1, 1), depth=0)
    wide = np.ones((200, 5000, 1, 1), np.int32)
    dense = LoihiConv(name="c", inputs=("frames",), shape=(200, 1, 1), depth=1, weight=wide, neuron=READOUT)
    assert limits_of(LoihiGraph((port, dense))) == [
        "c: a neuron receives from 5,000 others, and a core of Loihi 1 has 4,096 axons"
    ]
    many = [
        LoihiConv(**{**vars(dense), "name": f"c{i}", "weight": np.ones((200, 200, 1, 1), np.int32),
                "inputs": (f"c{i - 1}" if i else "c",), "shape": (200, 1, 300)})
        for i in range(3)
    ]  # fmt: skip
    found = limits_of(LoihiGraph((port, dense, *many)))
    assert any("cores of Loihi 1, and a chip has 128" in line for line in found)


def test_connections_count_every_input_and_cores_the_scarcest() -> None:
    port = Port(name="a", inputs=(), shape=(2, 1, 1), depth=0)
    one = LoihiConv(
        name="b", inputs=("a",), shape=(2, 1, 1), depth=1, weight=np.ones((2, 2, 1, 1), np.int32), neuron=READOUT
    )
    both = LoihiConv(**{**vars(one), "name": "c", "inputs": ("a", "b")})
    graph = LoihiGraph((port, one, both))
    assert resources_of(one, graph).connections == 4
    taken = resources_of(both, graph)
    assert (taken.connections, taken.axons) == (8, 4)
    spread = Port(name="a", inputs=(), shape=(3, 100, 100), depth=0)
    relayed = LoihiConv(name="b", inputs=("a",), shape=(1, 1, 1), depth=1,
                   weight=np.ones((1, 3, 100, 100), np.int32), neuron=READOUT)  # fmt: skip
    assert resources_of(relayed, LoihiGraph((spread, relayed))).cores_loihi1 == 8  # 30,000 axons
    heads = LoihiAttention(name="s", inputs=("q",), shape=(6, 5, 1), depth=1, heads=2, gain=1, neuron=READOUT)
    triple = Port(name="q", inputs=(), shape=(18, 5, 1), depth=0)
    assert resources_of(heads, LoihiGraph((triple, heads))).connections == 18 * 5 * (3 * 5)


@pytest.mark.parametrize("content", ['{"name": "my app"}', "not json"])
def test_a_folder_of_somebody_elses_is_never_replaced(content: str, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "work.txt").write_text("precious")
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ConfigError, match="holds src; only an earlier export is replaced"):
        export(SOURCE, folder, target="loihi")
    export(SOURCE, tmp_path / "a.loihi", target="loihi")
    (tmp_path / "a.loihi" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes.txt; only an earlier export is replaced"):
        export(SOURCE, tmp_path / "a.loihi", target="loihi")
    assert (tmp_path / "a.loihi" / "notes.txt").read_text() == "mine"


def test_reports_of_a_folder_hold_every_layer(tmp_path: Path) -> None:
    export(SOURCE, tmp_path / "a.loihi", target="loihi")
    report = json.loads((tmp_path / "a.loihi" / "report.json").read_text())
    assert loihi_report.as_text(report) == (tmp_path / "a.loihi" / "report.md").read_text()
    first = report["layers"][0]
    assert first["weight_bits"] == 8 * first["weights"]
