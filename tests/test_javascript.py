"""The JavaScript example of the documentation answers as neuromoco does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuromoco.checkpoint import save_checkpoint
from neuromoco.config import FrameConfig
from neuromoco.events import read_recording
from neuromoco.export.targets import export
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.load import OnnxClassifier
from neuromoco.runtime.prediction import Prediction

ROOT = Path(__file__).parent.parent
PACKAGES = ROOT / "build/javascript/node_modules"
CHECKPOINT = model_path(suffix=".safetensors")
MARK = bytes([0, 240, 0, 0, 0])
Node = Callable[[Path, Path], "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (PACKAGES / "onnxruntime-node").is_dir(), reason="onnxruntime-node is not installed: make javascript"
    ),
]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Runs the example: (model, recording) -> the finished process."""
    # Node looks for packages beside the script, links resolved, and nowhere else.
    script = shutil.copy(ROOT / "docs/classify.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES)

    def run(model: Path, recording: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["node", script, model, recording], capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as a file that takes events."""
    out = tmp_path_factory.mktemp("javascript") / "digits.onnx"
    export(CHECKPOINT, out, input="events", recordings=[])
    return out


def check(answer: subprocess.CompletedProcess[str], expected: Prediction) -> None:
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    label, logits = answer.stdout.splitlines()
    assert label == expected.label
    np.testing.assert_allclose([float(value) for value in logits.split()], expected.logits_per_step.mean(0), atol=2e-3)


def test_it_answers_as_neuromoco_does(node: Node, model: Path) -> None:
    paths = example_paths()
    expected = OnnxClassifier(model_path()).predict([read_recording(path) for path in paths])
    assert len({prediction.label for prediction in expected}) > 2
    for path, prediction in zip(paths, expected, strict=True):
        check(node(model, path), prediction)


def test_times_count_where_frames_are_cut_by_time(node: Node, tmp_path: Path) -> None:
    trained = TrainedClassifier(CHECKPOINT, "cpu")
    header = trained.header.model_copy(update={"frames": FrameConfig(slice_by="time")})
    checkpoint, model, recording = (tmp_path / f"time.{end}" for end in ("safetensors", "onnx", "bin"))
    save_checkpoint(checkpoint, trained.network, header)
    export(checkpoint, model, input="events", recordings=[])
    events = example_paths()[3].read_bytes()
    half = len(events) // 10 * 5
    recording.write_bytes(events[:half] + 40 * MARK + events[half:])

    expected = TrainedClassifier(checkpoint, "cpu").predict([read_recording(recording)])[0]
    plain = TrainedClassifier(checkpoint, "cpu").predict([read_recording(example_paths()[3])])[0]
    assert np.abs(expected.logits_per_step.mean(0) - plain.logits_per_step.mean(0)).max() > 0.02
    check(node(model, recording), expected)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda events: events[:-2], "an event has 5 bytes"),
        (lambda _: b"", "no events"),
        (lambda _: MARK, "no events"),
        (lambda _: b"no recording at all, only text, of 50 characters..", "ScatterElements"),
        (lambda events: events + bytes([34, 0, 127, 255, 255]), "ScatterElements"),
        (lambda events: events + bytes([0, 34, 127, 255, 255]), "ScatterElements"),
    ],
    ids=["cut", "empty", "only marks", "text", "column outside the sensor", "row outside the sensor"],
)
def test_it_fails_on_what_is_no_recording(
    node: Node, model: Path, tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    wrong = tmp_path / "wrong.bin"
    wrong.write_bytes(damage(example_paths()[0].read_bytes()))
    answer = node(model, wrong)
    assert answer.returncode != 0
    assert answer.stdout == ""
    assert reason in answer.stderr


def test_it_fails_without_a_model(node: Node, tmp_path: Path) -> None:
    answer = node(tmp_path / "missing.onnx", example_paths()[0])
    assert answer.returncode != 0
    assert "missing.onnx" in answer.stderr
