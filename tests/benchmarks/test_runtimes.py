"""The table of runtimes: files and recordings by way of a folder, figures and reasons in its cells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.runtimes import runners
from benchmarks.runtimes.__main__ import TITLES, cell, find_commands
from benchmarks.runtimes.networks import KINDS, Subject, subject, write_kind
from neuromoco.events import read_recording
from neuromoco.export.exporter import export_header
from neuromoco.frames import batch_frames
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.checkpoint_file import TrainedClassifier


@pytest.fixture(scope="module")
def shipped() -> Subject:
    source = model_path(suffix=".safetensors")
    trained = TrainedClassifier(source, "cpu")
    header = export_header(trained, source, "onnx", portable=True)
    recordings = [read_recording(path) for path in example_paths()[:2]]
    return subject("shipped", trained.network, header, recordings, batch_frames(recordings, header.frames))


@pytest.mark.parametrize("kind", KINDS)
def test_a_runtime_answers_every_kind_of_file_from_a_folder(kind: str, shipped: Subject, tmp_path: Path) -> None:
    folder = tmp_path / kind
    write_kind(shipped, kind, 18, folder)
    answer = runners.main("onnxruntime", folder)
    assert answer["version"].startswith("onnxruntime ")
    error, share = cell(shipped, folder, answer).split(", ")
    assert share == "100%"
    assert (float(error) < 1e-5) == (kind != "int8")
    spoiled = np.fromfile(folder / "logits.bin", np.float32)
    spoiled[shipped.logits[0].argmin()] += 100.0
    spoiled.tofile(folder / "logits.bin")
    assert cell(shipped, folder, answer).endswith(", 50%")


def test_the_runner_is_a_script_that_says_why_a_runtime_fails(tmp_path: Path, shipped: Subject) -> None:
    folder = tmp_path / "files"
    write_kind(shipped, "frames", 18, folder)
    (folder / "model.onnx").write_bytes(b"no model")
    command = [*find_commands([sys.executable], None)["onnxruntime"], str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert "problem" in answer
    assert cell(shipped, folder, answer).startswith(answer["problem"][:20])


def test_every_runtime_has_a_title_and_only_what_is_installed_a_command() -> None:
    assert set(TITLES) == {*runners.RUNTIMES, "wasm", "webgpu"}
    assert {"onnxruntime", "onnx"} <= set(find_commands([sys.executable], None))
    assert "wasm" not in find_commands([sys.executable], None)
