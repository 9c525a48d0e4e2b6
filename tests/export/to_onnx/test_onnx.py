"""ONNX files: the neuron exactly, one step against all steps, events against frames, what a file says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from neuromoco import Recording
from neuromoco.config import EncoderConfig, FrameConfig
from neuromoco.export.to_onnx.model import check_onnx, single_step, unrolled
from neuromoco.export.to_onnx.tape import Tape
from neuromoco.frames import recording_frames
from neuromoco.graph.nodes import LIF, Conv, Graph, Input, Reshape
from neuromoco.graph.trace import lower
from neuromoco.runtime.header import NEXT
from neuromoco.runtime.onnx_file import OnnxNetwork, event_columns
from neuromoco.runtime.onnx_guard.binning import COLUMNS, bin_events
from neuromoco.runtime.onnx_guard.operator_sets import OPSET
from tests.conftest import make_recording
from tests.helpers.networks import CLASSES, event_frames, export_header, live_classifier

TINY = ("sew_resnet_tiny", "spikformer_tiny")
CHANNELS, SIDE = 32, 6
FLOAT = np.float32


def spikes_of(x: NDArray[Any], neuron: LIF) -> NDArray[np.bool_]:
    """The equation in float32, for x [T, ...] that already is gain * input."""
    v, found = np.zeros_like(x[0]), []
    for drive in x:
        h = v * FLOAT(neuron.keep) + drive
        found.append(h >= FLOAT(neuron.v_threshold))
        v = np.where(found[-1], FLOAT(0.0), h)
    return np.stack(found)


def neuron_file(neuron: LIF, steps: int, by_blocks: bool) -> onnxruntime.InferenceSession:
    """Neurons alone, behind a convolution that copies its channels, in one of the two forms."""
    shape = (CHANNELS, SIDE, SIDE)
    once = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    weight = np.eye(CHANNELS, dtype=FLOAT)[:, :, None, None]
    nodes: list[Any] = [Input(name="frames", inputs=(), shape=shape)]
    if by_blocks:
        bias = np.zeros(CHANNELS, FLOAT)
        nodes.append(Conv(name="copy", inputs=("frames",), shape=shape, weight=weight, bias=bias, **once))
    before = nodes[-1].name
    facts = {"tau": neuron.tau, "v_threshold": neuron.v_threshold, "decay_input": neuron.decay_input}
    nodes.append(LIF(name="neurons", inputs=(before,), shape=shape, **facts))
    nodes.append(Reshape(name="out", inputs=("neurons",), shape=(CHANNELS * SIDE * SIDE,)))
    names = tuple(str(i) for i in range(CHANNELS * SIDE * SIDE))
    model = unrolled(Graph(tuple(nodes)), export_header(steps, SIDE, class_names=names))
    check_onnx(model)
    return onnxruntime.InferenceSession(model.SerializeToString())


def lif(tau: float, v_threshold: float = 1.0, decay_input: bool = True) -> LIF:
    return LIF(name="n", inputs=(), shape=(), tau=tau, v_threshold=v_threshold, decay_input=decay_input)


NEURONS = [lif(2.0), lif(4.0 / 3.0, 0.7), lif(8.0, 0.5), lif(2.0, 0.75), lif(np.inf, 1.3, False), lif(4.0, 2.0, False)]


@pytest.mark.parametrize("by_blocks", [True, False])
@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: f"tau{n.tau:.2f}-{n.v_threshold}-{n.decay_input}")
def test_spikes_are_those_of_the_equation_also_next_to_the_threshold(neuron: LIF, by_blocks: bool) -> None:
    steps, gain, threshold = 6, FLOAT(neuron.gain), FLOAT(neuron.v_threshold)
    rng = np.random.default_rng(3)
    x = rng.normal(0.4, 0.8, (steps, 2, CHANNELS, SIDE, SIDE)).astype(FLOAT) * threshold / gain
    # On, next to and far from the threshold, at every step.
    beside = [np.nextafter(threshold, FLOAT(end)) for end in (0.0, 9.0)]
    x[:, :, :6, 0, 0] = np.array([threshold, *beside, -1e6, 1e6, 0.0], FLOAT) / gain
    (per_step,) = neuron_file(neuron, steps, by_blocks).run(["logits_per_step"], {"frames": x})
    wanted = spikes_of(x * gain, neuron)
    assert 0.05 < wanted.mean() < 0.95
    assert {wanted[0, 0, 0, 0, 0], wanted[0, 0, 2, 0, 0]} == {True}
    assert not wanted[0, 0, 1, 0, 0]
    assert np.array_equal(per_step.reshape(wanted.shape), wanted)


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(FLOAT, (4, CHANNELS), elements=st.floats(-4, 4, width=32)))
def test_both_forms_of_neurons_agree_on_any_input(x: NDArray[Any]) -> None:
    frames = np.broadcast_to(x[:, None, :, None, None], (4, 1, CHANNELS, SIDE, SIDE)).astype(FLOAT)
    wanted = spikes_of(frames * FLOAT(0.5), lif(2.0))
    for session in FORMS:
        (per_step,) = session.run(["logits_per_step"], {"frames": frames})
        assert np.array_equal(per_step.reshape(wanted.shape), wanted)


FORMS = [neuron_file(lif(2.0), 4, by_blocks) for by_blocks in (True, False)]


@pytest.mark.parametrize("config", [*(EncoderConfig(name=n) for n in TINY), EncoderConfig(options={"connect": "IAND"})])
def test_single_steps_give_the_unrolled_logits_bit_for_bit(config: EncoderConfig) -> None:
    steps, batch, side = 5, 3, 34
    frames = event_frames(steps, batch, side)
    graph = lower(live_classifier(config, frames), side, side)
    whole = OnnxNetwork(unrolled(graph, export_header(steps, side)).SerializeToString())
    model = single_step(graph, export_header(steps, side, target="onnx-step"))
    check_onnx(model)
    one = OnnxNetwork(model.SerializeToString())
    wanted = whole.frame_logits(frames.numpy())
    assert np.abs(wanted).max() > 1e-2
    assert np.array_equal(one.frame_logits(frames.numpy()), wanted)
    assert one.header.states == tuple(f"state.{node.name}" for node in graph.neurons)
    assert set(one.outputs) == {"logits", *(NEXT + name for name in one.header.states)}
    # A state of zeros is the reset: a second recording is not touched by the first.
    _, used = one.step(frames.numpy()[0], one.rest(batch))
    assert any(value.any() for value in used.values())
    assert np.array_equal(one.frame_logits(frames.numpy()), wanted)


def test_a_result_does_not_depend_on_its_batch() -> None:
    frames = event_frames(4, 3, 34)
    graph = lower(live_classifier(EncoderConfig(), frames), 34, 34)
    network = OnnxNetwork(unrolled(graph, export_header(4, 34)).SerializeToString())
    together = network.frame_logits(frames.numpy())
    alone = [network.frame_logits(frames.numpy()[:, n : n + 1]) for n in range(3)]
    assert np.array_equal(np.concatenate(alone, axis=1), together)


def test_outputs_are_mean_label_and_spike_rates() -> None:
    frames = event_frames(3, 2, 34)
    network = live_classifier(EncoderConfig(name="spikformer_tiny"), frames)
    graph = lower(network, 34, 34)
    model = unrolled(graph, export_header(3, 34), rates=True)
    check_onnx(model)
    found = OnnxNetwork(model.SerializeToString()).run({"frames": frames.numpy()})
    assert found["logits"] == pytest.approx(found["logits_per_step"].mean(0), abs=1e-6)
    assert found["label"].tolist() == [CLASSES[i] for i in found["logits"].argmax(1)]
    spikes = {}
    modules = dict(network.encoder.body.named_modules())
    for node in graph.neurons:
        modules[node.name].register_forward_hook(lambda _, __, out, name=node.name: spikes.update({name: out}))
    with torch.no_grad():
        network(frames)
    wanted = np.stack([spikes[node.name].transpose(0, 1).flatten(1).mean(1) for node in graph.neurons], axis=1)
    assert found["spike_rates"] == pytest.approx(wanted, abs=1e-6)
    assert (wanted > 0).all()


def test_a_file_says_what_it_is_and_declares_its_types() -> None:
    frames = event_frames(2, 1, 34)
    graph = lower(live_classifier(EncoderConfig(), frames), 34, 34)
    header = export_header(2, 34)
    model = onnx.load_from_string(unrolled(graph, header).SerializeToString())
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert OnnxNetwork(model.SerializeToString()).header == header
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True, data_prop=True)
    known = {value.name for value in inferred.graph.value_info if value.type.tensor_type.HasField("shape")}
    made = {name for node in model.graph.node for name in node.output} - {o.name for o in model.graph.output}
    assert made <= known
    shapes = {o.name: [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output}
    assert shapes == {"logits": ["N", 3], "logits_per_step": [2, "N", 3], "label": ["N"]}


def binning(config: FrameConfig) -> onnxruntime.InferenceSession:
    """Only the part of a file that takes events."""
    tape = Tape()
    columns = {
        n: ir.Value(name=n, type=ir.TensorType(ir.DataType(k)), shape=ir.Shape(("E",))) for n, k in COLUMNS.items()
    }
    size = ir.Value(name="sensor", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape((2,)))
    frames = bin_events(tape, columns, size, config)
    frames.type, frames.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape((None, None, None, None))
    model = ir.to_proto(tape.model([*columns.values(), size], [frames], "binning"))
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString())


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    """Up to 40 events of any sensor up to 50 x 50, with equal times."""
    count, width, height = (draw(st.integers(low, high)) for low, high in ((0, 40), (1, 50), (1, 50)))
    column = lambda most: draw(st.lists(st.integers(0, most), min_size=count, max_size=count))  # noqa: E731
    t, x, y, p = (np.array(column(most), np.int64) for most in (60, width - 1, height - 1, 1))
    return Recording.from_columns(np.sort(t) * draw(st.sampled_from([1, 10**9])), x, y, p, width=width, height=height)


@pytest.mark.parametrize("by", ["count", "time"])
def test_events_are_binned_as_frames_are(by: str) -> None:
    config = FrameConfig(steps=5, slice_by=by, height=12, width=20)  # type: ignore[arg-type]
    session = binning(config)

    @settings(deadline=None, max_examples=300)
    @given(recordings())
    def check(recording: Recording) -> None:
        (found,) = session.run(None, event_columns(recording))
        assert np.array_equal(found, recording_frames(recording, config))

    check()


def test_no_event_is_lost_where_many_fall_into_one_pixel() -> None:
    rng = np.random.default_rng(0)
    count = 400_000
    columns = [np.sort(rng.integers(0, 10**6, count)), *(rng.integers(0, 2, count) for _ in range(3))]
    recording = Recording.from_columns(*columns, width=34, height=34)
    config = FrameConfig(steps=4, height=34, width=34)
    session, wanted = binning(config), recording_frames(recording, config)
    for _ in range(10):  # threads that add to one number at once lose events now and then
        assert np.array_equal(session.run(None, event_columns(recording))[0], wanted)


@pytest.mark.parametrize(("column", "value"), [("x", 34), ("x", -1), ("y", 34), ("y", -2), ("p", 2), ("p", -1)])
def test_an_event_outside_the_sensor_is_an_error(column: str, value: int) -> None:
    inputs = event_columns(make_recording(0))
    inputs[column][7] = value
    with pytest.raises(Exception, match="out of data bounds"):
        binning(FrameConfig()).run(None, inputs)


def test_an_events_file_answers_as_the_frames_file() -> None:
    frames = event_frames(4, 1, 34)
    graph = lower(live_classifier(EncoderConfig(), frames), 34, 34)
    by_frames = OnnxNetwork(unrolled(graph, export_header(4, 34)).SerializeToString())
    model = unrolled(graph, export_header(4, 34, input="events"))
    check_onnx(model)
    by_events = OnnxNetwork(model.SerializeToString())
    batch = [make_recording(seed) for seed in range(6)]
    assert np.array_equal(by_events.logits(batch), by_frames.logits(batch))
