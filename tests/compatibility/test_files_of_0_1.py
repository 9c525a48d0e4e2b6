"""Files that an earlier state of this project wrote still load, answer and resume with the same numbers.

`files/` was written by commit d1d2efb: twelve recordings in two classes, a classifier of them, its four exports, and a
pre-training that was interrupted within its second epoch, with the weights and metrics of one that was not.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromoco import read_recording
from neuromoco.checkpoint import load_tensors
from neuromoco.runtime.load import load_classifier
from neuromoco.train import resume
from neuromoco.train.run_folder import RunFolder

FILES = Path(__file__).parent / "files"
EXPECTED = json.loads((FILES / "expected.json").read_text())
RECORDINGS = [read_recording(FILES / path) for path in EXPECTED["recordings"]]
# Another processor adds up in another order; on the one that wrote the files all numbers are the same.
TOLERANCE = 1e-4
TIMES = {"seconds", "samples_per_s"}
ADDED = {"knn_counts", "warnings"}  # later versions measure more; a warning comes of it


def logits_of(answers: list[dict[str, Any]]) -> np.ndarray:
    return np.array([answer["logits_per_step"] for answer in answers])


@pytest.mark.parametrize("name", EXPECTED["answers"])
def test_checkpoints_and_exports_give_the_same_answers(name: str) -> None:
    answers = [answer.to_json() for answer in load_classifier(FILES / name).predict(RECORDINGS)]
    expected = EXPECTED["answers"][name]
    assert len({answer["label"] for answer in expected}) == 2
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in expected]
    np.testing.assert_allclose(logits_of(answers), logits_of(expected), atol=0 if "loihi" in name else TOLERANCE)


def test_a_nir_file_gives_the_same_logits() -> None:
    nir = pytest.importorskip("nir")
    pytest.importorskip("snntorch")
    from neuromoco.export.to_nir.export import SnnTorchNetwork

    classifier = load_classifier(FILES / "classifier.safetensors")
    logits, _ = SnnTorchNetwork(nir.read(FILES / "classifier.nir"), []).run(classifier.frames(RECORDINGS))
    expected = logits_of(EXPECTED["answers"]["classifier.safetensors"]).swapaxes(0, 1)
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE)


def test_an_interrupted_run_is_resumed_to_the_same_weights_and_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FILES / "data", tmp_path / "data")
    shutil.copytree(FILES / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    resume(Path("run"), "cpu")
    weights, expected = load_tensors(RunFolder(Path("run")).last), load_tensors(FILES / "resumed.safetensors")
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(weights[name].numpy(), tensor.numpy(), atol=TOLERANCE, err_msg=name)
    lines = [{k: v for k, v in line.items() if k not in TIMES | ADDED} for line in RunFolder(Path("run")).history()]
    assert [line.keys() for line in lines] == [line.keys() for line in EXPECTED["history"]]
    for line, wanted in zip(lines, EXPECTED["history"], strict=True):
        assert line == pytest.approx(wanted, abs=TOLERANCE)
