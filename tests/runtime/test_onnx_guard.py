"""ONNX files that are not what an exporter wrote: refused in one line before the runtime sees them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from neuromoco.checkpoint import KEY
from neuromoco.config import EncoderConfig
from neuromoco.encoders import list_encoders
from neuromoco.errors import CheckpointError
from neuromoco.events import read_recording
from neuromoco.export.to_onnx.model import single_step, unrolled
from neuromoco.graph.trace import lower
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.load import OnnxClassifier
from neuromoco.runtime.onnx_file import OnnxNetwork
from neuromoco.runtime.onnx_guard.wire import BYTES, VARINT, Field, message
from tests.helpers.networks import CLASSES, event_frames, export_header, live_classifier

STEPS, SIDE = 3, 34
SMALL: dict[str, dict[str, Any]] = {"sew_resnet18": {"width": 8}}


def exports(name: str) -> dict[str, onnx.ModelProto]:
    """What an encoder is exported to, by target and input."""
    frames = event_frames(STEPS, 2, SIDE)
    graph = lower(live_classifier(EncoderConfig(name=name, options=SMALL.get(name, {})), frames), SIDE, SIDE)
    header = export_header(STEPS, SIDE)
    by_time = header.frames.model_copy(update={"slice_by": "time"})
    return {
        "frames": unrolled(graph, header, rates=True),
        "events": unrolled(graph, header.model_copy(update={"input": "events"}), rates=True),
        "events by time": unrolled(graph, header.model_copy(update={"input": "events", "frames": by_time})),
        "step": single_step(graph, header.model_copy(update={"target": "onnx-step"})),
    }


EXPORTS = exports("sew_resnet_tiny")


@pytest.mark.parametrize("name", list_encoders())
def test_every_export_is_taken_and_answers(name: str, tmp_path: Path) -> None:
    recordings = [read_recording(path) for path in example_paths()[:2]]
    for number, model in enumerate(exports(name).values()):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(model.SerializeToString())
        assert {answer.label for answer in OnnxClassifier(path, threads=1).predict(recordings)} <= set(CLASSES)


def first(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(entry for entry in node.attribute if entry.name == name)


def ints(kind: str, name: str, *values: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        attribute(first(model, kind), name).ints[:] = values

    return change


def insert(*nodes: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for node in reversed(nodes):
            model.graph.node.insert(0, node)

    return change


def constant(name: str, array: Any) -> Callable[[onnx.ModelProto], None]:
    """Puts another array in the place of one in the file."""

    def change(model: onnx.ModelProto) -> None:
        (old,) = (entry for entry in model.graph.initializer if entry.name == name)
        old.CopyFrom(numpy_helper.from_array(np.asarray(array), name))

    return change


def weight(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(entry for entry in model.graph.initializer if entry.name.endswith(".weight"))


def with_nan(model: onnx.ModelProto) -> None:
    array = numpy_helper.to_array(weight(model)).copy()
    array.flat[0] = np.nan
    weight(model).CopyFrom(numpy_helper.from_array(array, weight(model).name))


def outside(model: onnx.ModelProto) -> None:
    del weight(model).external_data[:]
    entry = weight(model)
    entry.ClearField("raw_data")
    entry.data_location = TensorProto.EXTERNAL
    entry.external_data.add(key="location", value="/etc/passwd")


def huge_dims(model: onnx.ModelProto) -> None:
    weight(model).dims[0] = 1 << 40


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.insert(0, helper.make_node("Loop", ["", ""], ["x"], body=body))


def no_answer(model: onnx.ModelProto) -> None:
    del model.graph.output[0]


def other_classes(model: onnx.ModelProto) -> None:
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = entry.value.replace('["ant","bee","cow"]', '["ant","bee"]')


def large_frames(model: onnx.ModelProto) -> None:
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = entry.value.replace('"height":34', '"height":100000')


def deep_header(model: onnx.ModelProto) -> None:
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = "[" * 200_000


def huge_number(model: onnx.ModelProto) -> None:
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = '{"format": ' + "9" * 5000 + "}"


def doubled(model: onnx.ModelProto) -> None:
    """2^40 numbers, by forty copies of a value behind itself."""
    name = "frames"
    for number in range(40):
        model.graph.node.insert(number, helper.make_node("Concat", [name, name], [f"c{number}"], axis=0))
        name = f"c{number}"


def function(model: onnx.ModelProto) -> None:
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("d", "f", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opset))


def other_domain(model: onnx.ModelProto) -> None:
    first(model, "Conv").domain = "com.microsoft"


def renamed(model: onnx.ModelProto) -> None:
    model.graph.node[5].output[0] = model.graph.node[4].output[0]


def more_states(model: onnx.ModelProto) -> None:
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_value += 1


def reads_columns(model: onnx.ModelProto) -> None:
    """An operator of the counting, of other inputs: a division by the columns, which may be 0."""
    model.graph.node.insert(0, helper.make_node("Div", ["x", "x"], ["y2"]))


def counts_more(model: onnx.ModelProto) -> None:
    """The counted array is as large as a time in the recording."""
    first(model, "ConstantOfShape").input[0] = "t"


HOSTILE: list[tuple[str, Callable[[onnx.ModelProto], None], str]] = [
    ("frames", ints("Conv", "dilations", -3000, 1), r"\('Conv'\): dilations \[-3000, 1\]"),
    ("frames", ints("Conv", "strides", 0, 1), r"strides \[0, 1\]"),
    ("frames", ints("Conv", "strides", 1 << 40, 1), r"strides"),
    ("frames", ints("Conv", "pads", -1, 0, 0, 0), r"pads \[-1, 0, 0, 0\]"),
    ("frames", ints("Conv", "pads", 60000, 60000, 60000, 60000), "numbers in a value"),
    ("frames", ints("Conv", "kernel_shape", 9, 9), "another kernel_shape"),
    ("frames", ints("MaxPool", "kernel_shape", 1 << 62, 3), "kernel_shape"),
    ("frames", ints("MaxPool", "pads", 7, 7, 7, 7), "pads"),
    ("frames", ints("MaxPool", "kernel_shape"), "kernel_shape"),
    ("frames", with_nan, "numbers that are not finite"),
    ("frames", outside, "which we do not write"),
    ("frames", huge_dims, "instead of"),
    ("frames", loop, "an attribute has field 6"),
    ("frames", insert(helper.make_node("RandomNormal", [], ["x"], shape=[1 << 40])), "that we do not write here"),
    ("frames", insert(helper.make_node("Div", ["frames", "frames"], ["x"])), "that we do not write here"),
    ("frames", insert(helper.make_node("Identity", ["nothing"], ["x"])), "not there yet"),
    ("frames", insert(helper.make_node("Identity", ["label"], ["x"])), "not there yet"),
    ("frames", insert(helper.make_node("Identity", ["frames"], ["frames"])), "two values of one name"),
    ("frames", doubled, "numbers in a value"),
    ("frames", function, "the model has field 25"),
    ("frames", other_domain, "an operator has field 7"),
    ("frames", renamed, "two values of one name"),
    ("frames", no_answer, "outputs"),
    ("frames", other_classes, "output 'logits' is not"),
    ("frames", large_frames, "damaged header"),
    ("frames", deep_header, "damaged header"),
    ("frames", huge_number, "damaged header"),
    ("step", more_states, "operator"),
    ("events", reads_columns, "not there yet"),
    ("events", counts_more, "not there yet"),
    ("events by time", reads_columns, "not there yet"),
]


@pytest.mark.parametrize(("kind", "change", "message"), HOSTILE, ids=lambda value: getattr(value, "__name__", None))
def test_a_hostile_file_never_reaches_the_runtime(
    kind: str, change: Callable[[onnx.ModelProto], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(EXPORTS[kind])
    change(model)
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("the runtime has seen it"))
    with pytest.raises(CheckpointError, match=message) as error:
        OnnxNetwork(path)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def test_answers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """Every weight is a number, and their products are not."""
    model = onnx.ModelProto()
    model.CopyFrom(EXPORTS["frames"])
    for entry in model.graph.initializer:
        if entry.data_type == TensorProto.FLOAT and len(entry.dims) == 2:
            array = np.full(tuple(entry.dims), 3e38, np.float32)
            entry.CopyFrom(numpy_helper.from_array(array, entry.name))
    path = tmp_path / "inf.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="answers with numbers that are not finite"):
        OnnxClassifier(path).predict([read_recording(example_paths()[0])])


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    pipe, empty, sparse = tmp_path / "pipe", tmp_path / "empty.onnx", tmp_path / "sparse.onnx"
    os.mkfifo(pipe)
    empty.touch()
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    for path, reason in (
        (pipe, "is no regular file"),
        (empty, "is empty"),
        (sparse, "at most"),
        ("/dev/zero", "is no"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            OnnxClassifier(path)


def test_the_runtimes_own_format_is_not_read(tmp_path: Path) -> None:
    """Its reader checks little."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model_path(), options, providers=["CPUExecutionProvider"])
    path = (tmp_path / "m.ort").rename(tmp_path / "m.onnx")
    with pytest.raises(CheckpointError, match="is no ONNX file"):
        OnnxClassifier(path)


TABLE = {1: Field("a", VARINT), 2: Field("b", BYTES), 3: Field("c", VARINT, repeated=True)}


def test_messages_are_read_as_protocol_buffers_are() -> None:
    assert message(memoryview(b"\x08\x96\x01\x12\x03xyz\x18\x01\x18\x02"), TABLE, "it") == {
        "a": 150, "b": b"xyz", "c": [1, 2]
    }  # fmt: skip
    minus_one = b"\x08" + b"\xff" * 9 + b"\x01"
    assert message(memoryview(minus_one), TABLE, "it")["a"] == -1


@pytest.mark.parametrize("raw", [b"\x08", b"\x08\xff", b"\x08" + b"\xff" * 11, b"\x12\x05xyz", b"\x0d", b"\x20\x01",
                                 b"\x0a\x00", b"\x08\x01\x08\x01", b"\x00\x01", b"\xff"])  # fmt: skip
def test_cut_repeated_and_unknown_fields_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"it has|cut"):
        message(memoryview(raw), TABLE, "it")
