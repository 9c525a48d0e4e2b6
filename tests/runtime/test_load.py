"""Classification without torch: the same answers, batches, processes, early stop, damaged files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from neuromoco.checkpoint import KEY
from neuromoco.confidence import softmax, temperature_of
from neuromoco.errors import CheckpointError, ConfigError, EventFileError
from neuromoco.events import read_recording
from neuromoco.export.targets import export
from neuromoco.models import available_models, example_paths, model_path
from neuromoco.runtime.batch import Job, classify_files
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.load import OnnxClassifier, load_classifier
from neuromoco.runtime.onnx_file import OnnxNetwork

SOURCE = model_path(suffix=".safetensors")


@pytest.fixture(scope="module")
def step_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("step") / "step.onnx"
    export(SOURCE, out, target="onnx-step", recordings=[])
    return out


@pytest.mark.parametrize("name", available_models())
def test_a_model_that_comes_along_answers_as_its_checkpoint_and_knows_the_examples(name: str) -> None:
    recordings = [read_recording(path) for path in example_paths()]
    ours = OnnxClassifier(model_path(name)).predict(recordings)
    theirs = TrainedClassifier(model_path(name, ".safetensors"), "cpu").predict(recordings)
    assert [answer.label for answer in ours] == [path.stem for path in example_paths()]
    for a, b in zip(ours, theirs, strict=True):
        assert a.label == b.label
        assert a.logits_per_step == pytest.approx(b.logits_per_step, abs=1e-5)
    assert model_path(name, ".md").is_file()


def test_alone_in_a_batch_or_on_one_thread_the_answer_is_the_same() -> None:
    recordings = [read_recording(path) for path in example_paths()]
    together = load_classifier(model_path()).predict(recordings)
    one_thread = load_classifier(model_path(), threads=1)
    for recording, answer in zip(recordings, together, strict=True):
        (alone,) = one_thread.predict([recording])
        assert np.array_equal(alone.logits_per_step, answer.logits_per_step)
        assert alone.timings.keys() == {"frames", "network", "fit"}
        assert min(alone.timings.values()) > 0


def test_no_torch_is_loaded() -> None:
    code = (
        "import sys; from neuromoco.app.cli.main import main; from neuromoco.models import example_paths\n"
        "sys.argv = ['neuromoco', 'predict', '--json', str(example_paths()[3])]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'spikingjelly', 'onnx', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, modules = answer.stdout.splitlines()
    assert json.loads(found)["label"] == "3"
    assert modules == "[]"


def foreign(header: str | None) -> bytes:
    """An ONNX file that copies its input, with something under our key."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    if header is not None:
        model.metadata_props.add(key=KEY, value=header)
    return bytes(model.SerializeToString())


WHOLE = model_path().read_bytes()
DAMAGED = {
    "empty": (b"", "is empty"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "is no ONNX file"),
    **{f"cut at {share}": (WHOLE[: int(share * len(WHOLE))], "") for share in (0.001, 0.1, 0.5, 0.9, 0.999)},
    "of somebody else": (foreign(None), "is an ONNX file that neuromoco did not write"),
    "of a later version": (foreign('{"format": 99}'), "has format 99; this version reads 1: install a newer neuromoco"),
    "no JSON": (foreign("{"), "has a damaged header"),
    "half a header": (foreign('{"format": 1}'), "has a damaged header"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_and_foreign_models_are_refused_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_classifier(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_models_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing.onnx: does not exist"):
        load_classifier(tmp_path / "nothing.onnx")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_classifier(tmp_path)


def test_several_processes_answer_as_one(tmp_path: Path) -> None:
    bad = tmp_path / "bad.bin"
    bad.write_bytes(b"")
    files = [*example_paths()[:4], bad, *example_paths()[4:]]
    alone = list(classify_files(files, Job(model_path())))
    several = list(classify_files(files, Job(model_path()), processes=2))
    assert [answer.file for answer in several] == files
    for a, b in zip((x.result for x in alone), (x.result for x in several), strict=True):
        assert type(a) is type(b)
        assert str(a) == str(b) if isinstance(a, EventFileError) else a.label == b.label
    assert isinstance(several[4].result, EventFileError)
    with pytest.raises(CheckpointError):
        list(classify_files(files, Job(bad), processes=2))


def test_an_early_stop_is_at_the_first_step_that_is_sure_enough(step_file: Path) -> None:
    classifier = OnnxClassifier(step_file)
    recordings = [read_recording(path) for path in example_paths()]
    stops = set()
    for recording, whole in zip(recordings, classifier.predict(recordings), strict=True):
        means = np.cumsum(whole.logits_per_step.astype(float), 0) / np.arange(1, 5)[:, None]
        shares = softmax(means, temperature_of(classifier.header.calibration))
        sure = np.flatnonzero(shares.max(1) >= 0.999)
        wanted = int(sure[0]) + 1 if sure.size else 4
        (early,) = classifier.predict([recording], stop_at=0.999)
        assert np.array_equal(early.logits_per_step, whole.logits_per_step[:wanted])
        assert early.probabilities[early.label] == pytest.approx(shares[wanted - 1].max())
        stops.add(wanted)
        (late,) = classifier.predict([recording], stop_at=1.0)
        assert np.array_equal(late.logits_per_step, whole.logits_per_step)
    assert len(stops) > 1


def test_an_early_stop_needs_a_file_of_one_step(step_file: Path) -> None:
    for model in (model_path(), SOURCE):
        with pytest.raises(ConfigError, match="--target onnx-step"):
            Job(model, stop_at=0.9).load()
    for wrong in (0.0, 1.1):
        with pytest.raises(ConfigError, match="above 0 and at most 1"):
            Job(step_file, stop_at=wrong).load()


def test_events_and_frames_give_the_same_logits_on_real_recordings(real_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.onnx"
    export(SOURCE, out, input="events", recordings=[])
    recordings = [read_recording(path) for path in sorted(real_folder.rglob("*.bin"))]
    assert len(recordings) > 100
    by_events, by_frames = (OnnxNetwork(path).logits(recordings) for path in (out, model_path()))
    assert np.array_equal(by_events, by_frames)
