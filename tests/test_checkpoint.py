"""Checkpoints describe themselves, and a damaged or foreign file is one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from neuromoco import CheckpointError
from neuromoco.checkpoint import (
    KEY,
    CheckpointHeader,
    SeenRecordings,
    is_checkpoint,
    load_into,
    load_tensors,
    read_header,
    save_checkpoint,
)
from neuromoco.classifier import Classifier
from neuromoco.config import EncoderConfig, FrameConfig, NeuronConfig
from neuromoco.encoders import build_encoder
from neuromoco.frames import recording_frames
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from tests.conftest import make_recording

SEEN = SeenRecordings(count=3, shortest_us=300_000, longest_us=310_000, fewest_events=5, most_events=9)


def header(kind: str = "classifier") -> CheckpointHeader:
    return CheckpointHeader(
        kind=kind,
        encoder=EncoderConfig(options={"width": 4, "connect": "IAND"}, neuron=NeuronConfig(tau=3.0)),
        frames=FrameConfig(steps=3, height=16, width=20),
        class_names=("cat", "dog") if kind == "classifier" else (),
        seen=SEEN,
        stage="supervised",
        epoch=7,
        seed=1,
        metrics={"loss": 0.5},
        versions={"torch": "x"},
    )


def network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_encoder(header().encoder), 2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    net = network()
    net.train()
    net(torch.rand(3, 4, 2, 16, 20) * 4)  # batch norm has seen something
    save_checkpoint(tmp_path / "a.safetensors", net, header())
    return tmp_path / "a.safetensors"


def test_round_trip(saved: Path) -> None:
    assert read_header(saved) == header()
    assert is_checkpoint(saved)
    net = network()
    tensors = load_tensors(saved)
    load_into(net, tensors, saved)
    assert all(torch.equal(value, tensors[name]) for name, value in net.state_dict().items())


def test_a_trained_classifier_answers_as_the_network_does(saved: Path) -> None:
    recordings = [make_recording(seed) for seed in range(3)]
    classifier = TrainedClassifier(saved, "cpu")
    answers = classifier.predict(recordings)
    net = network()
    load_into(net, load_tensors(saved), saved)
    frames = np.stack([recording_frames(r, header().frames) for r in recordings], axis=1)
    with torch.no_grad():
        logits = net.eval()(torch.from_numpy(frames).float())
    for n, answer in enumerate(answers):
        assert np.array_equal(answer.logits_per_step, logits[:, n].numpy())
        shares = logits[:, n].mean(0).softmax(0)
        assert answer.label == ("cat", "dog")[int(shares.argmax())]
        assert answer.probabilities[answer.label] == pytest.approx(shares.max().item(), abs=1e-6)
        (alone,) = classifier.predict([recordings[n]])
        assert np.allclose(alone.logits_per_step, answer.logits_per_step, atol=1e-5)


def test_an_encoder_is_no_classifier(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "e.safetensors", network().encoder, header("encoder"))
    with pytest.raises(CheckpointError, match="without classes; fine-tune it first: neuromoco train --stage finetune"):
        TrainedClassifier(tmp_path / "e.safetensors")


def test_damaged_and_foreign_files(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"hello there",
        "head": whole[:40],
    }.items():
        (tmp_path / name).write_bytes(content)
        for read in (read_header, load_tensors):
            with pytest.raises(
                CheckpointError, match=rf"{name}: is no safetensors file, or is cut or damaged"
            ) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="neuromoco did not write"):
        read_header(tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_header(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_header(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"epoch": "many"}, "has a damaged header"),
        ({"extra": 1}, "has a damaged header"),
    ],
)
def test_headers_of_other_versions(tmp_path: Path, change: dict[str, object], words: str) -> None:
    tree = {**json.loads(header().model_dump_json()), **change}
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "a", metadata={KEY: json.dumps(tree)})
    with pytest.raises(CheckpointError, match=words):
        read_header(tmp_path / "a")
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "b", metadata={KEY: "{"})
    with pytest.raises(CheckpointError, match="has a damaged header"):
        read_header(tmp_path / "b")


def test_tensors_that_do_not_fit(saved: Path) -> None:
    tensors = load_tensors(saved)
    for change, words in (
        ({"head.bias": None}, "lacks head.bias"),
        ({"tail": torch.zeros(1)}, "has tail, which the network does not"),
        ({"head.bias": torch.zeros(3)}, r"head.bias has shape \(3,\) instead of \(2,\)"),
    ):
        changed = {name: value for name, value in {**tensors, **change}.items() if value is not None}
        with pytest.raises(CheckpointError, match=words):
            load_into(network(), changed, saved)
