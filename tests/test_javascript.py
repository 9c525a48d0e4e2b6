"""The JavaScript example of the documentation answers as neuromoco does, for every format, sensor and crop."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuromoco.checkpoint import save_checkpoint
from neuromoco.config import FrameConfig
from neuromoco.config.recordings import ReadingConfig
from neuromoco.events import Recording, read_recording
from neuromoco.events.prophesee.evt_writer import write_evt2, write_evt3
from neuromoco.events.text.lines import write_csv
from neuromoco.export.targets import export
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.load import OnnxClassifier
from neuromoco.runtime.prediction import Prediction

ROOT = Path(__file__).parent.parent
PACKAGES = ROOT / "build/javascript/node_modules"
CHECKPOINT = model_path(suffix=".safetensors")
MARK = bytes([0, 240, 0, 0, 0])
Node = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (PACKAGES / "onnxruntime-node").is_dir(), reason="onnxruntime-node is not installed: make javascript"
    ),
]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Runs the example: (model, recording[, sensor]) -> the finished process."""
    # Node looks for packages beside the script, links resolved, and nowhere else.
    for name in ("classify.mjs", "events.mjs"):
        shutil.copy(ROOT / "docs" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES)

    def run(*words: Path | str) -> subprocess.CompletedProcess[str]:
        command = ["node", tmp_path / "classify.mjs", *words]
        env = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)

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


def camera_recording(width: int, height: int, seed: int) -> Recording:
    """Events of a wide camera for 300 ms, some of them at the same time."""
    rng = np.random.default_rng(seed)
    count = 6000
    t = np.sort(rng.integers(1000, 301_000, count))
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    return Recording(t=t, x=x.astype(np.uint16), y=y.astype(np.uint16), p=rng.integers(0, 2, count).astype(np.uint8),
                     width=width, height=height)  # fmt: skip


def write_dat(path: Path, events: Recording) -> None:
    head = f"% Data file\n% Version 2\n% Width {events.width}\n% Height {events.height}\n".encode() + bytes([12, 8])
    address = events.x.astype("<u4") | events.y.astype("<u4") << 14 | events.p.astype("<u4") << 28
    path.write_bytes(head + np.stack([events.t.astype("<u4"), address], 1).tobytes())


def write_aedat3(path: Path, events: Recording) -> None:
    word = events.x.astype("<u4") << 17 | events.y.astype("<u4") << 2 | events.p.astype("<u4") << 1 | 1
    word[::50] &= ~np.uint32(1)  # not valid
    body = np.stack([word, events.t.astype("<u4")], 1).tobytes()
    other = struct.pack("<hhiiiiii", 2, 1, 12, 8, 0, 1, 1, 1) + bytes(12)  # a packet of a frame
    packet = struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(events), len(events), len(events) - len(word[::50]))
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS346B\r\n#!END-HEADER\r\n"
    path.write_bytes(head + other + packet + body)


def write_evt3_of_vectors(path: Path, events: Recording) -> None:
    """Pixels in a row as vectors, with times that step over the end of the 12 bits and back a little."""
    words: list[int] = []
    for base, low in ((0, 4090), (1, 3), (0, 4095), (1, 900)):
        words += [0x8000 | base, 0x6000 | low, 7, 0x3000 | 1 << 11 | 40, 0x4FFF, 0x5081, 0x9999]
        words += [0x2000 | 33, 0x3003, 0x4001]
    head = f"% evt 3.0\n% format EVT3;height={events.height};width={events.width}\n% end\n".encode()
    path.write_bytes(head + np.array(words, "<u2").tobytes())


WIDE = {
    "evt2.raw": write_evt2,
    "evt3.raw": write_evt3,
    "vectors.raw": write_evt3_of_vectors,
    "a.dat": write_dat,
    "a.aedat": write_aedat3,
    "a.csv": write_csv,
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and its file that takes events: frames of 40 x 26 of a part of a camera with 346 x 260 pixels."""
    folder = tmp_path_factory.mktemp("wide")
    trained = TrainedClassifier(CHECKPOINT, "cpu")
    frames = FrameConfig(steps=3, slice_by="time", height=26, width=40, crop=(20, 0, 300, 200))
    changes = {"frames": frames, "reading": ReadingConfig(sensor=(346, 260))}
    seen = trained.header.seen.model_copy(update={"sensor": (260, 346)})
    save_checkpoint(
        folder / "wide.safetensors", trained.network, trained.header.model_copy(update=changes | {"seen": seen})
    )
    export(folder / "wide.safetensors", folder / "wide.onnx", input="events", recordings=[])
    return folder / "wide.safetensors", folder / "wide.onnx"


@pytest.mark.parametrize("name", WIDE)
def test_every_format_is_read_with_its_sensor(node: Node, wide: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    (checkpoint, model), file = wide, tmp_path / name
    WIDE[name](file, camera_recording(346, 260, len(name)))
    classifier = TrainedClassifier(checkpoint, "cpu")
    options = classifier.header.read_options()
    recording = read_recording(file, options=options)
    assert (recording.width, recording.height) == (346, 260)
    check(node(model, file), classifier.predict([recording])[0])


def test_what_is_not_known_is_asked_for(node: Node, model: Path, wide: tuple[Path, Path], tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", read_recording(example_paths()[2]))
    assert "names no sensor, nor does the model: give WIDTHxHEIGHT" in node(model, tmp_path / "a.csv").stderr
    expected = OnnxClassifier(model_path()).predict([read_recording(example_paths()[2])])[0]
    check(node(model, tmp_path / "a.csv", "34x34"), expected)
    write_evt2(tmp_path / "a.raw", camera_recording(60, 40, 0))
    assert "the model uses more than its sensor" in node(wide[1], tmp_path / "a.raw").stderr
    assert "takes frames; export it with --input events" in node(model_path(), example_paths()[0]).stderr


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda events: events[:-2], "no whole number of events of 5 bytes"),
        (lambda _: b"", "no events"),
        (lambda _: MARK, "no events"),
        (lambda _: b"no recording at all, only text, of 50 characters..", "times run back"),
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
    answer = node(model, wrong, "34x34")
    assert answer.returncode != 0
    assert answer.stdout == ""
    assert reason in answer.stderr


def test_it_fails_without_a_model(node: Node, tmp_path: Path) -> None:
    answer = node(tmp_path / "missing.onnx", example_paths()[0])
    assert answer.returncode != 0
    assert "missing.onnx" in answer.stderr
