"""The command chips, as a user meets it: of a checkpoint, of its exports, and of modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import neuromoco
from neuromoco import models
from neuromoco.events import read_recording
from tests.helpers.cli import error_line, run

SOURCE = models.model_path(suffix=".safetensors")
MODULE = """
from spikingjelly.activation_based import layer, neuron
from torch import nn

def build():
    conv, fire = layer.Conv2d(2, 4, 3, step_mode="m"), neuron.IFNode(step_mode="m")
    return nn.Sequential(conv, fire, layer.Flatten(2), nn.Linear(144, 3))
"""


def chips(*words: object) -> dict[str, Any]:
    result = run("chips", *words, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_checkpoint_is_compared_with_every_chip() -> None:
    found = chips(SOURCE)
    verdicts = {row["chip"]: (row["fits"], [problem["what"] for problem in row["problems"]]) for row in found["chips"]}
    assert verdicts["Loihi 2"] == (True, [])
    assert verdicts["SpiNNaker2"][1][0].startswith("max pool")
    assert verdicts["Speck 2"][1][0].startswith("leak (and ")
    assert "inputs" in verdicts["Xylo Audio 3"][1]
    assert 0 < found["operations"]["adds"] < found["operations"]["macs"] * found["operations"]["steps"]
    assert found["counted_on"].startswith("10 recordings of the bundled ones")
    text = run("chips", SOURCE).stdout
    assert "Loihi 2: fits, 17 of 120 cores" in text
    assert "inputs 2,312, allowed 16; frames of about 2 x 2 instead of 34 x 34 pixels [Rockpool]" in text
    assert "without spikes" in text
    assert "[Horowitz 2014]" in text


def test_exports_are_judged_as_their_checkpoint(tmp_path: Path) -> None:
    whole = chips(SOURCE, "--data", models.example_paths()[0])
    examples = [read_recording(models.example_paths()[0])]
    for target, name in (("onnx", "m.onnx"), ("nir", "m.nir"), ("loihi", "m.loihi")):
        neuromoco.export(SOURCE, tmp_path / name, target=target, recordings=examples)
        found = chips(tmp_path / name)
        assert found["chips"] == whole["chips"], name
        for figure in ("adds", "multiply_adds", "spikes"):  # of the rates of this recording and some of noise
            assert found["operations"][figure] == pytest.approx(whole["operations"][figure], rel=0.6), (name, figure)
    (tmp_path / "m.report.json").unlink()
    found = chips(tmp_path / "m.onnx")
    assert (found["operations"], found["energy"]) == (None, [])
    assert found["counted_on"] == "unknown: there is no m.report.json beside it; give the checkpoint"


def test_modules_are_judged_on_an_example(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODULE)
    found = chips(f"{tmp_path / 'net.py'}:build", "--example", "3,1,2,8,8")
    assert {row["chip"]: row["fits"] for row in found["chips"]}["Speck 2"]
    assert (found["counted_on"], found["operations"]["neurons"]) == ("the example", 4 * 6 * 6)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODULE)
    module = f"{tmp_path / 'net.py'}:build"
    for words, line in (
        ([SOURCE, "--steps", "3"], "is no module; --weights, --example, --layout and --steps go with file.py:name"),
        ([module], "give the shape of its input, --example T,N,C,H,W"),
        ([module, "--example", "3,1,2,8,8", "--data", tmp_path], "recordings are for checkpoints"),
        ([tmp_path], "is no checkpoint, run or export"),
    ):
        assert line in error_line(run("chips", *words))
