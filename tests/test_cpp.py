"""The C++ example of the documentation answers as neuromoco does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from neuromoco.events import read_recording
from neuromoco.events.text.lines import write_csv
from neuromoco.export.targets import export
from neuromoco.models import example_paths, model_path
from neuromoco.runtime.load import OnnxClassifier

ROOT = Path(__file__).parent.parent
# Headers of ONNX Runtime: the folder of a release that `make cpp` was given, or Debian's libonnxruntime-dev.
PLACES = [Path(os.environ.get("ONNXRUNTIME", "/nowhere"), "include"), Path("/usr/include/onnxruntime")]
INCLUDE = next((place for place in PLACES if (place / "onnxruntime_cxx_api.h").is_file()), None)
Program = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed"),
    pytest.mark.skipif(INCLUDE is None, reason="headers of ONNX Runtime are not there: make cpp ONNXRUNTIME=FOLDER"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The example, compiled and linked with the library of the Python package."""
    folder = tmp_path_factory.mktemp("cpp")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so.1").symlink_to(library)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-isystem", str(INCLUDE), f"-Wl,-rpath,{folder}"]
    words = ["g++", *flags, ROOT / "docs/classify.cpp", folder / "libonnxruntime.so.1", "-o", folder / "classify"]
    subprocess.run(words, check=True)

    def run(*words: Path | str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        return subprocess.run([folder / "classify", *words], capture_output=True, text=True, timeout=60, env=env)

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as a file that takes events."""
    out = tmp_path_factory.mktemp("model") / "digits.onnx"
    export(model_path(suffix=".safetensors"), out, input="events", recordings=[])
    return out


def test_it_answers_as_neuromoco_does(program: Program, model: Path, tmp_path: Path) -> None:
    recordings = [read_recording(path) for path in example_paths()]
    expected = OnnxClassifier(model_path()).predict(recordings)
    for path, recording, prediction in zip(example_paths(), recordings, expected, strict=True):
        write_csv(tmp_path / "a.csv", recording)
        answers = [program(model, path), program(model, tmp_path / "a.csv", "34x34")]
        assert [answer.stderr for answer in answers] == ["", ""]
        assert answers[0].stdout == answers[1].stdout
        label, logits = answers[0].stdout.splitlines()
        assert label == prediction.label
        mean = prediction.logits_per_step.mean(0)
        np.testing.assert_allclose([float(value) for value in logits.split()], mean, atol=2e-3)


def test_it_fails_on_what_is_no_recording(program: Program, model: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", read_recording(example_paths()[0]))
    (tmp_path / "cut.bin").write_bytes(example_paths()[0].read_bytes()[:-2])
    (tmp_path / "damaged.csv").write_text("t,x,y,p\n1,2,three,0\n")
    wrong = [(model, "nothing.bin"), (model, tmp_path / "cut.bin"), (model, tmp_path / "damaged.csv")]
    for words in (*wrong, (model, tmp_path / "a.csv", "20x20"), ("nothing.onnx", example_paths()[0]), (model,)):
        answer = program(*words)
        assert (answer.returncode, answer.stdout) == (1, ""), words
        assert answer.stderr.startswith("classify: "), words
