"""Every export keeps the calibration of its source, and every runtime applies it: the same confidence everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from neuromoco import StreamClassifier, load_classifier, read_recording
from neuromoco.checkpoint import KEY, CheckpointHeader, load_tensors, read_header, save_checkpoint
from neuromoco.confidence import Calibration
from neuromoco.config import EncoderConfig
from neuromoco.export.targets import export
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.facts import facts_of
from neuromoco.runtime.load import OnnxClassifier
from tests.helpers.cli import run
from tests.helpers.networks import event_frames, export_header, live_classifier

RIGHT = (0.4, *(0.6 + 0.005 * i for i in range(58)))
CALIBRATION = Calibration(temperature=2.5, source="validation", recordings=60, right=RIGHT, wrong=((0.5, 0.3),))
KINDS = {
    "frames.onnx": {},
    "events.onnx": {"input": "events"},
    "step.onnx": {"target": "onnx-step"},
    "folder.loihi": {"target": "loihi"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated checkpoint and its exports."""
    folder, source = tmp_path_factory.mktemp("calibrated"), model_path(suffix=".safetensors")
    header = read_header(source).model_copy(update={"calibration": CALIBRATION})
    save_file(load_tensors(source), folder / "m.safetensors", {KEY: header.model_dump_json()})
    for name, options in KINDS.items():
        export(folder / "m.safetensors", folder / name, recordings=[], **options)
    return folder


def test_every_runtime_has_the_same_confidence(folder: Path) -> None:
    recordings = [read_recording(path) for path in example_paths()]
    reference = load_classifier(folder / "m.safetensors").predict(recordings, abstain=0.05)
    plain = load_classifier(model_path()).predict(recordings)
    assert [a.label for a in reference] == [a.label for a in plain]
    assert all(a.confidence < b.confidence for a, b in zip(reference, plain, strict=True))  # a temperature above 1
    for name in KINDS:
        model = load_classifier(folder / name)
        assert model.header.calibration == CALIBRATION
        for answer, wanted in zip(model.predict(recordings, abstain=0.05), reference, strict=True):
            assert answer.temperature == 2.5
            if name.endswith(".onnx"):
                assert answer.confidence == pytest.approx(wanted.confidence, abs=1e-5)
                assert (answer.unsure, answer.possible_classes) == (wanted.unsure, wanted.possible_classes)


def test_a_stream_and_an_early_stop_are_as_confident(folder: Path) -> None:
    recording = read_recording(example_paths()[3])
    model = load_classifier(folder / "step.onnx")
    assert isinstance(model, OnnxClassifier)
    stream = StreamClassifier(folder / "step.onnx", step_size=len(recording), abstain=0.05)
    stream.feed(recording)
    answer = stream.finish()
    assert answer is not None
    (early,) = model.predict([recording], stop_at=1e-3, abstain=0.05)
    assert (answer.temperature, early.temperature) == (2.5, 2.5)
    assert early.possible_classes is not None
    assert len(early.logits_per_step) == 1  # as sure as that at once
    (whole,) = model.predict([recording])
    assert early.confidence == pytest.approx(whole.probabilities_per_step()[0].max())


def test_a_nir_file_says_it(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    facts = export_header(2, 12, calibration=CALIBRATION).model_dump(include=set(CheckpointHeader.model_fields))
    encoder = EncoderConfig(name="chain_tiny")
    header = CheckpointHeader(**facts | {"encoder": encoder})
    save_checkpoint(tmp_path / "m.safetensors", live_classifier(encoder, event_frames(2, 2, 12)), header)
    export(tmp_path / "m.safetensors", tmp_path / "m.nir", target="nir", recordings=[])
    written = json.loads(nir.read(tmp_path / "m.nir").metadata[KEY])
    assert Calibration.model_validate(written["calibration"]) == CALIBRATION


def test_the_command_line_says_what_is_unsure(folder: Path, tmp_path: Path) -> None:
    words = ("predict", example_paths()[3], "--model", folder / "frames.onnx")
    lines = json.loads(run(*words, "--json", "--abstain", "0.05").stdout)
    assert lines["temperature"] == 2.5
    assert lines["possible_classes"][0] == lines["label"]
    printed = run(*words, "--abstain", "0.05").stdout
    assert ("unsure" in printed) == lines["unsure"]
    few = run(*words, "--abstain", "0.01")
    assert few.exit_code == 2
    assert "errors below 0.01 need 230 recordings or more" in few.stderr
    assert facts_of(folder / "frames.onnx")["calibration"] == {
        "temperature": 2.5,
        "source": "validation",
        "recordings": 60,
    }
    for path in example_paths():
        (tmp_path / "set" / path.stem).mkdir(parents=True)
        (tmp_path / "set" / path.stem / path.name).write_bytes(path.read_bytes())
    evaluate = ("evaluate", folder / "frames.onnx", "--data", tmp_path / "set", "--abstain", "0.05")
    figures = json.loads(run(*evaluate, "--json").stdout)
    assert figures["temperature"] == 2.5
    assert figures["abstention"]["level"] == 0.05
    assert figures["calibration_error"] != figures["calibration_error_without_temperature"]
    text = run(*evaluate, "--report", tmp_path / "report.html").stdout
    assert "expected calibration error" in text
    assert "asked for 5.0% wrong at most" in text
    page = (tmp_path / "report.html").read_text()
    assert "Unsure answers" in page
    assert "temperature 2.5, from 60 recordings (validation)" in page
