"""Files for other runtimes: every operator set, exact neurons of plain arithmetic, one recording a call, no texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from neuromoco import export, load_classifier, read_recording
from neuromoco.checkpoint import read_header, save_checkpoint
from neuromoco.config import EncoderConfig
from neuromoco.errors import CheckpointError, ConfigError, UnsupportedLayerError
from neuromoco.export.to_onnx.int8 import calibrate, quantize_onnx
from neuromoco.export.to_onnx.model import check_onnx, single_step, unrolled
from neuromoco.graph.nodes import LIF, Conv, Graph, Input, Reshape
from neuromoco.graph.trace import lower
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.onnx_file import OnnxNetwork, event_columns
from neuromoco.runtime.onnx_guard.operator_sets import COUNTING, OPSETS
from tests.conftest import make_recording
from tests.helpers.networks import CLASSES, event_frames, export_header, live_classifier

FLOAT = np.float32
STEPS, SIDE = 3, 16
SOURCE = model_path(suffix=".safetensors")
LARGEST_HALF = float(np.finfo(np.float16).max)
TINY = ("sew_resnet_tiny", "spikformer_tiny", "chain_tiny")
FRAMES = event_frames(STEPS, 2, SIDE).numpy()
GRAPHS = {
    name: lower(live_classifier(EncoderConfig(name=name), event_frames(STEPS, 2, SIDE)), SIDE, SIDE) for name in TINY
}
HEADER = export_header(STEPS, SIDE)
PORTABLE = HEADER.model_copy(update={"portable": True})


def int8_of(graph: Graph, opset: int) -> onnx.ModelProto:
    ranges = calibrate(unrolled(graph, PORTABLE), np.split(FRAMES, 2, axis=1))
    return quantize_onnx(unrolled(graph, PORTABLE, opset=opset), PORTABLE, ranges)


def files(graph: Graph, opset: int) -> dict[str, onnx.ModelProto]:
    """All kinds of portable files."""
    made = {
        "frames": unrolled(graph, PORTABLE, rates=True, opset=opset),
        "step": single_step(graph, PORTABLE.model_copy(update={"target": "onnx-step"}), opset=opset),
        "int8": int8_of(graph, opset),
    }
    if opset >= COUNTING:
        made["events"] = unrolled(graph, PORTABLE.model_copy(update={"input": "events"}), opset=opset)
    return made


@pytest.mark.parametrize("opset", OPSETS)
def test_every_operator_set_gives_the_same_file_for_checker_guard_and_runtime(opset: int, tmp_path: Path) -> None:
    wanted = OnnxNetwork(unrolled(GRAPHS["spikformer_tiny"], HEADER).SerializeToString()).frame_logits(FRAMES)
    assert np.abs(wanted).max() > 1e-2
    for kind, model in files(GRAPHS["spikformer_tiny"], opset).items():
        check_onnx(model)
        assert [entry.version for entry in model.opset_import] == [opset]
        path = tmp_path / f"{kind}.onnx"
        path.write_bytes(model.SerializeToString())
        network = OnnxNetwork(path)  # checks the file
        if kind in ("frames", "step"):
            assert np.array_equal(network.frame_logits(FRAMES), wanted)
        else:
            assert load_classifier(path).predict([make_recording(0)])[0].label in CLASSES


@pytest.mark.parametrize("name", TINY)
def test_the_reference_evaluator_and_the_usual_file_agree(name: str) -> None:
    wanted = OnnxNetwork(unrolled(GRAPHS[name], HEADER).SerializeToString()).frame_logits(FRAMES)
    made = files(GRAPHS[name], 13) | {"events": files(GRAPHS[name], 16)["events"]}
    assert np.array_equal(OnnxNetwork(made["frames"].SerializeToString()).frame_logits(FRAMES), wanted)
    found = ReferenceEvaluator(made["frames"]).run(["logits_per_step"], {"frames": FRAMES[:, :1]})[0]
    np.testing.assert_allclose(found, wanted[:, :1], atol=1e-5)
    inputs = event_columns(make_recording(0))
    by_events = ReferenceEvaluator(made["events"]).run(["logits"], inputs)[0]
    np.testing.assert_allclose(
        by_events, OnnxNetwork(made["events"].SerializeToString()).run(inputs)["logits"], atol=1e-5
    )


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_files_that_are_not_portable_take_every_operator_set_too(opset: int, tmp_path: Path) -> None:
    graph = GRAPHS["sew_resnet_tiny"]
    model, path = unrolled(graph, HEADER, rates=True, opset=opset), tmp_path / "m.onnx"
    check_onnx(model)
    path.write_bytes(model.SerializeToString())
    wanted = OnnxNetwork(unrolled(graph, HEADER).SerializeToString()).frame_logits(FRAMES)
    assert np.array_equal(OnnxNetwork(path).frame_logits(FRAMES), wanted)


def numbers_of(model: onnx.ModelProto) -> list[NDArray[Any]]:
    """All constants and attributes of floating point."""
    stored = [numpy_helper.to_array(entry) for entry in model.graph.initializer]
    given = [np.array(entry.f) for node in model.graph.node for entry in node.attribute if entry.type == entry.FLOAT]
    return [array for array in (*stored, *given) if array.dtype.kind == "f"]


@pytest.mark.parametrize("name", TINY)
def test_a_portable_file_holds_what_all_runtimes_take(name: str) -> None:
    usual = unrolled(GRAPHS[name], HEADER)
    assert max(float(np.abs(array).max()) for array in numbers_of(usual)) > LARGEST_HALF
    for kind, model in files(GRAPHS[name], 18).items():
        used = {node.op_type for node in model.graph.node}
        assert not used & {"ThresholdedRelu", "HardSigmoid"}
        assert all(float(np.abs(array).max()) <= LARGEST_HALF for array in numbers_of(model))
        stored = {entry.name: entry for entry in model.graph.initializer}
        assert not {entry.data_type for entry in stored.values()} & {onnx.TensorProto.UINT8, onnx.TensorProto.STRING}
        for node in model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                assert not numpy_helper.to_array(stored[node.input[2]]).any()
        if kind != "events":  # the number of events is free
            ends = (*model.graph.input, *model.graph.output)
            assert all(side.HasField("dim_value") for end in ends for side in end.type.tensor_type.shape.dim)


def test_inputs_and_outputs_are_described_in_the_file() -> None:
    for kind, model in files(GRAPHS["chain_tiny"], 18).items():
        texts = {value.name: value.doc_string for value in (*model.graph.input, *model.graph.output)}
        assert all(texts.values()), kind
        assert "0 ant, 1 bee, 2 cow" in texts["logits"]
        if kind == "frames":
            assert "[T, N, polarity, row, column]" in texts["frames"]
            assert "polarity 0 is OFF" in texts["frames"]
            assert "n = events // 3" in texts["frames"]
        if kind == "events":
            assert "microseconds" in texts["t"]
    by_time = PORTABLE.model_copy(update={"frames": PORTABLE.frames.model_copy(update={"slice_by": "time"})})
    assert "(t - first) * 3 // (last - first + 1)" in unrolled(GRAPHS["chain_tiny"], by_time).graph.input[0].doc_string
    usual = unrolled(GRAPHS["chain_tiny"], HEADER)
    assert not any(value.doc_string for value in (*usual.graph.input, *usual.graph.output))


def equation(x: NDArray[Any], neuron: LIF) -> NDArray[np.bool_]:
    """Spikes for x [T, ...] that already is gain * input, in float32."""
    kept, found = np.zeros_like(x[0]), []
    for drive in x:
        h = drive + kept
        found.append(h >= FLOAT(neuron.v_threshold))
        after = h - found[-1] * FLOAT(neuron.lost) if neuron.soft_reset else np.where(found[-1], FLOAT(0), h)
        kept = after * FLOAT(neuron.keep)
    return np.stack(found)


def neurons(neuron: LIF, channels: int = 16) -> onnxruntime.InferenceSession:
    """Neurons alone, behind a convolution that copies its channels."""
    once: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    weight, shape = np.eye(channels, dtype=FLOAT)[:, :, None, None], (channels, 2, 2)
    nodes = (
        Input(name="frames", inputs=(), shape=shape),
        Conv(name="copy", inputs=("frames",), shape=shape, weight=weight, bias=np.zeros(channels, FLOAT), **once),
        replace(neuron, name="n", inputs=("copy",), shape=shape),
        Reshape(name="out", inputs=("n",), shape=(channels * 4,)),
    )
    header = export_header(4, 2, class_names=tuple(map(str, range(channels * 4))), portable=True)
    model = unrolled(Graph(nodes), header)
    check_onnx(model)
    return onnxruntime.InferenceSession(model.SerializeToString())


def lif(tau: float, v_threshold: float, decay_input: bool = True, soft_reset: bool = False) -> LIF:
    facts: dict[str, Any] = {"tau": tau, "v_threshold": v_threshold, "decay_input": decay_input}
    return LIF(name="n", inputs=(), shape=(), soft_reset=soft_reset, **facts)


NEURONS = [
    lif(2.0, 1.0),
    lif(4.0 / 3.0, 0.7),
    lif(2.0, 1.0, soft_reset=True),
    lif(5.0, 0.3, False, soft_reset=True),
    replace(lif(5.0, 0.3, False, soft_reset=True), subtracted=0.375),
    lif(np.inf, 1.3, False),
    lif(np.inf, 1.0, False, soft_reset=True),
]


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: f"tau{n.tau:.2f}-{n.v_threshold}-{n.soft_reset}")
def test_neurons_of_arithmetic_spike_as_the_equation_says_also_next_to_the_threshold(neuron: LIF) -> None:
    session, threshold = neurons(neuron), FLOAT(neuron.v_threshold)
    edges = [threshold, np.nextafter(threshold, FLOAT(0)), np.nextafter(threshold, FLOAT(9)), FLOAT(1e30), FLOAT(0)]

    @settings(deadline=None, max_examples=15)
    @given(arrays.arrays(FLOAT, (4, 16), elements=st.floats(-4, 4, width=32)))
    def check(x: NDArray[Any]) -> None:
        x[:, : len(edges)] = np.array(edges, FLOAT) / FLOAT(neuron.gain)
        frames = np.broadcast_to(x[:, None, :, None, None], (4, 1, 16, 2, 2)).astype(FLOAT)
        (per_step,) = session.run(["logits_per_step"], {"frames": frames})
        assert np.array_equal(per_step.reshape(frames.shape), equation(frames * FLOAT(neuron.gain), neuron))

    check()


def test_a_file_that_is_not_as_its_header_says_is_refused(tmp_path: Path) -> None:
    graph, path = GRAPHS["chain_tiny"], tmp_path / "m.onnx"
    for model, header in ((unrolled(graph, HEADER), PORTABLE), (unrolled(graph, PORTABLE), HEADER)):
        model.metadata_props[0].value = header.model_dump_json()
        path.write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match="is of another type or shape"):
            OnnxNetwork(path)
    for opset in (OPSETS[0] - 1, OPSETS[-1] + 1):
        model = unrolled(graph, PORTABLE)
        model.opset_import[0].version = opset
        path.write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match="we write 13 to 21"):
            OnnxNetwork(path)


def test_only_portable_files_say_so_in_their_header() -> None:
    assert "portable" not in HEADER.model_dump_json()  # earlier versions read the others
    assert OnnxNetwork(unrolled(GRAPHS["chain_tiny"], PORTABLE).SerializeToString()).header == PORTABLE


def test_a_user_exports_a_portable_file_and_classifies_with_it(tmp_path: Path) -> None:
    report = export(SOURCE, tmp_path / "m.onnx", portable=True, opset=13, recordings=[])
    assert (report["portable"], report["opset"], report["parity"]["agreement"]) == (True, 13, 1.0)
    recordings = [read_recording(path) for path in example_paths()[:3]]
    answers = load_classifier(tmp_path / "m.onnx").predict(recordings)
    wanted = load_classifier(SOURCE).predict(recordings)
    assert [answer.label for answer in answers] == [answer.label for answer in wanted]


def test_events_are_counted_from_the_operator_set_on_that_can(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--opset 15 with --input events; .*use --opset 16 or later"):
        export(SOURCE, tmp_path / "m.onnx", input="events", opset=15)
    assert list(tmp_path.iterdir()) == []


def checkpoint(folder: Path, steps: int, spoil: bool = False) -> Path:
    header = read_header(SOURCE)
    frames = header.frames.model_copy(update={"steps": steps, "height": SIDE, "width": SIDE})
    network = live_classifier(EncoderConfig(name="chain_tiny"), event_frames(steps, 2, SIDE))
    if spoil:
        network.head.weight.data[0, 0] = 1e6
    facts = {"encoder": EncoderConfig(name="chain_tiny"), "frames": frames, "class_names": CLASSES, "fit": None}
    save_checkpoint(folder / "m.safetensors", network, header.model_copy(update=facts | {"calibration": None}))
    return folder / "m.safetensors"


def test_weights_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, 2, spoil=True)
    with pytest.raises(UnsupportedLayerError, match=r"head: Linear: holds 1e\+06, beyond fp16's range of 65,504"):
        export(source, portable=True, recordings=[])


def test_a_network_of_one_step_is_exported(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, 1)
    for portable in (False, True):
        report = export(source, portable=portable, recordings=[])
        assert report["parity"]["agreement"] == 1.0
