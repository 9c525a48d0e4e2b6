"""The command evaluate: every export, without torch, and its report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuromoco import Recording, models
from neuromoco.datasets import list_recordings
from neuromoco.datasets.set_survey import event_picture
from neuromoco.evaluation.accuracy import score, wilson
from neuromoco.evaluation.calibration import measure_confidence
from neuromoco.evaluation.report import report_page
from neuromoco.events import read_recording, write_npz
from neuromoco.export import targets
from tests.app.cli.test_survey import Sources
from tests.helpers.cli import run

Folders = Callable[[int, int], Path]


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """The bundled recordings, in class folders."""
    for path in models.example_paths():
        write_npz(tmp_path / "digits" / path.stem / "one.npz", read_recording(path))
    return tmp_path / "digits"


def test_files_that_take_events_answer_as_those_that_take_frames(digits: Path, tmp_path: Path) -> None:
    file = tmp_path / "events.onnx"
    targets.export(models.model_path(suffix=".safetensors"), file, input="events")
    answers = [run("evaluate", model, "--data", digits, "--json") for model in (file, models.model_path())]
    assert [answer.exit_code for answer in answers] == [0, 0]
    assert json.loads(answers[0].stdout) == json.loads(answers[1].stdout)


@pytest.mark.parametrize("suffix", [".onnx", ".loihi"])
def test_exports_are_evaluated_without_torch(digits: Path, tmp_path: Path, suffix: str) -> None:
    code = f"""
import sys
for name in ("torch", "scipy", "sklearn", "matplotlib", "PIL", "spikingjelly", "accelerate"): sys.modules[name] = None
sys.argv = ["neuromoco", "evaluate", {str(models.model_path(suffix=suffix))!r}, "--data", {str(digits)!r},
            "--report", {str(tmp_path / "report.html")!r}]
from neuromoco.app.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "accuracy 100.0%" in done.stdout
    text = (tmp_path / "report.html").read_text()
    energy = "energy, estimated" in text
    assert energy == (suffix == ".loihi")


def test_a_checkpoint_tells_its_spikes(digits: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    model = models.model_path(suffix=".safetensors")
    assert run("evaluate", model, "--data", digits, "--report", page).exit_code == 0
    assert "spikes a neuron and step" in page.read_text()


def test_a_report_shows_what_is_wrong_first_and_fetches_nothing(class_folders: Folders) -> None:
    folder = class_folders(2, 3)
    (folder / "class1").rename(folder / "<i>")
    listing = list_recordings(folder, labelled=True)  # <i> comes first
    logits = np.zeros((6, 2, 2), np.float32)  # [S, T, classes]
    logits[np.arange(6), :, list(listing.labels)] = 4.0
    logits[4, 1] = [9.0, 0.0]  # right at the first step, wrong in all
    labels = np.array(listing.labels)
    listing = replace(listing, groups=("a", "a", "b", "b", "b", "b"))
    result = score(labels, logits.mean(1).argmax(1), listing.class_names)
    result = replace(result, logits=logits, listing=listing)
    page = report_page("mine", result, measure_confidence(result, None))
    assert "<i>" not in page.replace('<i style="', "")
    found = Sources(page)
    assert len(found.sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert found.scripts == 0
    figures = page[page.index("The worst recordings") :]
    assert figures.index(listing.names[4]) < figures.index("&lt;i&gt;/000.bin")
    assert "&lt;i&gt; (92%) instead of class0" in figures
    low, high = wilson(5, 6)
    assert f"83% of 6 ({100 * low:.0f} to {high:.0%})" in page  # over steps: first all right, then 5 of 6
    assert f'left: {100 * low:.1f}%; width: {100 * (high - low):.1f}%"' in page  # drawn, too
    assert ">100% of 6" in page
    low, high = wilson(3, 4)
    assert f"75% of 4 ({100 * low:.0f} to {high:.0%})" in page  # of group b


def test_pictures_of_large_sensors_count_whole_pixels_together() -> None:
    y, x = (places.ravel() for places in np.mgrid[:128, :128])
    counts = event_picture(Recording.from_columns(np.arange(x.size), x, y, x % 2, width=128, height=128))
    assert counts.sum(0).tolist() == np.full((64, 64), 4).tolist()  # even light, no pattern
