"""The runtime in C compared with the twin in numpy: every spike, every logit, every binned event."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import models
from neuromoco.config import FrameConfig
from neuromoco.errors import NeuromocoError, UnsupportedLayerError
from neuromoco.events import Recording, read_recording
from neuromoco.frames import recording_frames
from neuromoco.runtime.loihi import folder as loihi_folder
from neuromoco.runtime.loihi.blocks import READOUT, LoihiAttention, LoihiConv, LoihiGraph, Neuron, Port
from neuromoco.runtime.loihi.folder import TwinNetwork
from neuromoco.runtime.loihi.twin import run
from neuromoco.runtime.spiking import native
from neuromoco.runtime.spiking.native import CompiledNetwork, OpenNetwork
from neuromoco.runtime.spiking.network import list_uncompiled, pack_network
from neuromoco.support import compiled
from tests.runtime.spiking.compare import COMPILERS, LEVELS, checked_driver, compare
from tests.runtime.spiking.graphs import random_graph

pytest.importorskip("h5py")
needs_compiler = pytest.mark.skipif(not COMPILERS, reason="no C compiler")
FOLDER = models.model_path(suffix=".loihi")
PIXEL, TIME = -4, -5  # spiking.h
BUILDS = list(zip(COMPILERS, LEVELS, strict=False)) or [("none", "")]  # `make integers` tries all pairs


@pytest.fixture(scope="module")
def shipped() -> TwinNetwork:
    return TwinNetwork(FOLDER)


@needs_compiler
@pytest.mark.parametrize(("compiler", "level"), BUILDS)
def test_the_shipped_model_spikes_as_the_twin_does(
    shipped: TwinNetwork, compiler: str, level: str, tmp_path: Path
) -> None:
    paths = models.example_paths()[: 1 if level == "-O0" else 3]
    frames = shipped.frames([read_recording(path) for path in paths])
    assert compare(shipped.graph, frames, checked_driver(compiler, level), tmp_path) is None


@needs_compiler
@pytest.mark.parametrize("seed", range(12))
def test_random_networks_spike_as_the_twin_does(seed: int, tmp_path: Path) -> None:
    assert compare(*random_graph(seed), checked_driver(*BUILDS[seed % len(BUILDS)]), tmp_path) is None


@needs_compiler
def test_the_comparison_notices_another_weight_threshold_and_decay(shipped: TwinNetwork, tmp_path: Path) -> None:
    frames = shipped.frames([read_recording(models.example_paths()[0])])
    driver = checked_driver(*BUILDS[-1])
    first = next(block for block in shipped.graph.blocks if isinstance(block, LoihiConv))
    weight = first.weight.copy()
    weight[0, 0, 0, 0] += 60
    for change in ({"weight": weight}, {"neuron": Neuron(first.neuron.v_threshold - 9, 2048)}):
        blocks = tuple(replace(b, **change) if b is first else b for b in shipped.graph.blocks)
        other = LoihiGraph(blocks)
        assert compare(other, frames, driver, tmp_path) is None
        packed = pack_network(other, shipped.header.frames)
        assert packed.content != pack_network(shipped.graph, shipped.header.frames).content
        found = CompiledNetwork(packed, opened_library()).logits(frames)
        assert not np.array_equal(found, run(shipped.graph, frames).logits)


def opened_library() -> compiled.Compiled:
    runtime = native.library()
    assert runtime is not None
    return runtime


# The fast twin


@needs_compiler
def test_predictions_of_a_loihi_export_are_computed_by_the_compiled_runtime(
    shipped: TwinNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = shipped.frames([read_recording(path) for path in models.example_paths()[:3]])
    wanted = (run(shipped.graph, frames).logits / shipped.graph.readout.scale).astype(np.float32)
    monkeypatch.setattr(loihi_folder, "run", None)
    assert np.array_equal(shipped.frame_logits(frames), wanted)


def test_frames_of_another_number_of_steps_are_computed_too(shipped: TwinNetwork) -> None:
    frames = np.repeat(shipped.frames([read_recording(models.example_paths()[0])]), 2, axis=0)
    wanted = (run(shipped.graph, frames).logits / shipped.graph.readout.scale).astype(np.float32)
    assert np.array_equal(shipped.frame_logits(frames), wanted)


def test_without_a_compiler_numpy_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = (twin := TwinNetwork(FOLDER)).frames([read_recording(models.example_paths()[0])])
    wanted = twin.frame_logits(frames)
    monkeypatch.setattr(loihi_folder, "library", lambda: None)
    without = TwinNetwork(FOLDER)
    assert without.compiled is None
    assert np.array_equal(without.frame_logits(frames), wanted)


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_compiler_that_is_missing_or_fails_is_no_error(
    compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("NEUROMOCO_CACHE", str(tmp_path))
    native.library.cache_clear()
    try:
        assert native.library() is None
    finally:
        native.library.cache_clear()


@needs_compiler
def test_what_leaves_the_range_is_said_in_the_twins_words() -> None:
    shipped = TwinNetwork(FOLDER)
    first = next(block for block in shipped.graph.blocks if isinstance(block, LoihiConv))
    strong = replace(first, weight=np.full_like(first.weight, 127))
    shipped.graph = LoihiGraph(tuple(strong if block is first else block for block in shipped.graph.blocks))
    frames = np.full((4, 1, 2, 34, 34), 255, np.float32)
    with pytest.raises(NeuromocoError) as wanted:
        run(shipped.graph, frames)
    with pytest.raises(NeuromocoError) as found:
        shipped.frame_logits(frames)
    assert str(found.value) == str(wanted.value)


# What is refused


def port(*shape: int) -> Port:
    channels, rows, columns = shape
    return Port(name="frames", inputs=(), shape=(channels, rows, columns), depth=0, largest=255)


def readout(before: str, before_shape: tuple[int, int, int], **changes: Any) -> LoihiConv:
    facts: dict[str, Any] = {"name": "out", "inputs": (before,), "shape": (2, 1, 1), "depth": 1}
    return LoihiConv(**facts | {"weight": np.ones((2, *before_shape), np.int32), "neuron": READOUT} | changes)


def test_networks_that_no_checkpoint_gives_are_refused_in_a_line() -> None:
    attention = LoihiAttention(
        name="a", inputs=("frames",), shape=(2, 1, 1), depth=1, heads=1, gain=1, neuron=Neuron(1, 0)
    )
    wide = readout("frames", (70_000, 1, 1))
    tall = readout("frames", (2, 1, 1), shape=(2, 3, 1))
    for blocks, words in (
        ((port(6, 1, 1), attention, readout("a", (2, 1, 1))), "a: Attention: attention on values that are not spikes"),
        ((port(2, 70_000, 1), readout("frames", (2, 70_000, 1))), "frames: Port: frames of 70,000 pixels"),
        ((port(2, 3, 1), tall), "out: Conv: a readout with rows and columns"),
        ((port(70_000, 1, 1), replace(wide, weight=127 * wide.weight)), "out: Conv: sums beyond 31 bits"),
    ):
        with pytest.raises(UnsupportedLayerError, match=words):
            pack_network(LoihiGraph(blocks), FrameConfig())
        assert len(list_uncompiled(LoihiGraph(blocks))) == 1


# Events


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@needs_compiler
def test_events_are_binned_as_frames(data: st.DataObject) -> None:
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    width, height = draw(1, 40), draw(1, 40)
    config = FrameConfig(
        steps=draw(1, 5), slice_by=data.draw(st.sampled_from(["count", "time"])), height=draw(1, 40), width=draw(1, 40)
    )
    if draw(0, 1):
        left, top = draw(0, width - 1), draw(0, height - 1)
        config = config.model_copy(update={"crop": (left, top, draw(1, width - left), draw(1, height - top))})
    rng = np.random.default_rng(draw(0, 1 << 30))
    many = draw(1, 400)
    t = np.sort(rng.integers(0, draw(1, 3000), many)) + draw(-(1 << 40), 1 << 40)
    x, y, p = (rng.integers(0, side, many) for side in (width, height, 2))
    recording = Recording.from_columns(t, x, y, p, width=width, height=height)
    wanted = np.minimum(recording_frames(recording, config), 255)
    assert np.array_equal(binned(recording, config, pieces=draw(1, 60)), wanted)


def binned(recording: Recording, config: FrameConfig, pieces: int) -> Any:
    """The runtime's counts [T, P, H, W] of a recording, pushed in pieces of so many events."""
    shape = 2, config.height, config.width
    graph = LoihiGraph((port(*shape), readout("frames", shape)))
    packed = pack_network(graph, config, (recording.height, recording.width))
    network = events_network(packed.content, packed.memory)
    assert network.survey(recording, 0, len(recording)) == 0
    frames, done = [], 0
    for _ in range(config.steps):
        taken = -1
        while taken and done < len(recording):
            taken = network.push(recording, done, min(done + pieces, len(recording)))
            assert taken >= 0
            done += taken
        frames.append(network.counts(shape))
        network.step(
            np.zeros(shape, np.uint8)
        )  # in the place of its counts, which this network's readout could not add
    assert done == len(recording)
    return np.stack(frames)


class EventsNetwork(OpenNetwork):
    """A network that takes events."""

    def reset(self) -> None:
        self._runtime.spiking_reset(self._state)

    def step(self, counts: Any) -> int:
        self._runtime.spiking_push_counts(self._state, ctypes.c_void_p(counts.ctypes.data))
        return int(self._runtime.spiking_step(self._state))

    def _columns(self, recording: Recording, begin: int, end: int) -> Iterator[Any]:
        for column in (recording.t, recording.x, recording.y, recording.p):
            yield ctypes.c_void_p(np.ascontiguousarray(column)[begin:end].ctypes.data)
        yield end - begin

    def survey(self, recording: Recording, begin: int, end: int) -> int:
        return int(self._runtime.spiking_survey(self._state, *self._columns(recording, begin, end)))

    def push(self, recording: Recording, begin: int, end: int) -> int:
        return int(self._runtime.spiking_push_events(self._state, *self._columns(recording, begin, end)))

    def counts(self, shape: tuple[int, int, int]) -> Any:
        self._runtime.spiking_spikes.restype = ctypes.POINTER(ctypes.c_uint8)
        polarities, rows, columns = shape
        counts = np.ctypeslib.as_array(self._runtime.spiking_spikes(self._state, 0), (rows, columns, polarities))
        return counts.transpose(2, 0, 1).copy()


def events_network(content: bytes, memory: int) -> EventsNetwork:
    return EventsNetwork(np.frombuffer(content, np.uint8), memory, opened_library())


@needs_compiler
@pytest.mark.parametrize(
    ("column", "value", "status"), [("x", 9, PIXEL), ("y", 700, PIXEL), ("t", 1, TIME), ("t", -(1 << 62), TIME)]
)
def test_events_that_a_camera_does_not_send_are_errors_until_the_next_recording(
    column: str, value: int, status: int
) -> None:
    good = Recording.from_columns([2, 3], [1, 8], [2, 3], [1, 0], width=9, height=9)
    bad = replace(good, **{column: np.array([2, value], getattr(good, column).dtype)})
    packed = pack_network(LoihiGraph((port(2, 9, 9), readout("frames", (2, 9, 9)))), FrameConfig(height=9, width=9))
    network = events_network(packed.content, packed.memory)
    assert network.survey(bad, 0, 2) == status
    assert network.push(good, 0, 2) == status
    assert network.step(np.zeros((2, 9, 9), np.uint8)) == status
    network.reset()
    assert network.survey(good, 0, 2) == 0
