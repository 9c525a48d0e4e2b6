"""Checkpoints describe themselves, and a damaged or foreign file is one clear line."""

from __future__ import annotations

import functools
import json
import os
import time
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


def changed(saved: Path, path: Path, header: dict[str, object], tensors: dict[str, object]) -> Path:
    """A copy of a checkpoint with another header and other tensors; None removes one."""
    tree = json.loads(read_header(saved).model_dump_json())
    for name, value in header.items():
        *groups, leaf = name.split(".")
        functools.reduce(lambda node, group: node[group], groups, tree)[leaf] = value
    arrays = {name: tensor.numpy() for name, tensor in load_tensors(saved).items()} | tensors
    save_file({name: array for name, array in arrays.items() if array is not None}, path, {KEY: json.dumps(tree)})
    return path


@pytest.mark.parametrize(
    ("header", "tensors", "words"),
    [
        ({"encoder.options": {"width": 60_000}}, {}, "states width=60000, and has at most"),
        (
            {"encoder.options": {"width": 5, "connect": "IAND"}},
            {},
            "was written for another network than its header says",
        ),
        ({"encoder.options": {"width": "4"}}, {}, "option width='4'"),
        ({"encoder.options": {"stem": ["conv"]}}, {}, "option stem"),
        ({"encoder.name": "spikformer_tiny", "encoder.options": {"depth": 60_000}}, {}, "states depth=60000"),
        ({"encoder.name": "spikformer_tiny", "encoder.options": {"dim": 8, "heads": 3}}, {}, "must divide the width"),
        ({"encoder.name": "none"}, {}, "no encoder named 'none'"),
        ({"frames.height": 4}, {}, "states frames of 4 x 20 pixels; its encoder takes 8 or more"),
        ({"frames.height": 0}, {}, "has a damaged header (frames.height: "),
        ({"frames.steps": -1}, {}, "has a damaged header (frames.steps: "),
        ({"frames.steps": 10**9}, {}, "at most 16,777,216 numbers are allowed"),
        ({"frames.height": 5000}, {}, "frames of 5000 pixels"),
        ({"seen.most_events": -1}, {}, "has a damaged header (seen.most_events: "),
        ({"seen.most_events": 10**30}, {}, "has a damaged header (seen.most_events: "),
        ({"class_names": ["a", "a"]}, {}, "two classes of the same name"),
        ({"class_names": ["a"]}, {}, "head.bias of shape [2]"),
        ({"class_names": []}, {}, "has head.bias of shape [2], and was written for another network"),
        ({"encoder.neuron": {"tau": 0.5}}, {}, "has a damaged header (encoder.neuron.tau: "),
        ({}, {"head.bias": np.zeros(2, np.float64)}, "head.bias has numbers of type torch.float64"),
        ({}, {"head.bias": np.array([0, np.nan], np.float32)}, "head.bias has numbers that are not finite"),
        ({}, {"head.bias": np.array([0, np.inf], np.float32)}, "head.bias has numbers that are not finite"),
        ({}, {"head.bias": None}, "lacks head.bias, and was written for another network"),
        ({}, {"head\n.more": np.zeros(1, np.float32)}, "has head .more of shape [1], and was written"),
    ],
)
def test_a_header_of_another_network_is_refused_before_it_takes_memory(
    header: dict[str, object], tensors: dict[str, object], words: str, saved: Path, tmp_path: Path
) -> None:
    hostile = changed(saved, tmp_path / "hostile.safetensors", header, tensors)
    begun = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        TrainedClassifier(hostile, "cpu")
    assert time.monotonic() - begun < 2.0
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith(f"{hostile}: ")


def test_answers_that_are_not_finite_are_refused(saved: Path, tmp_path: Path) -> None:
    """Every weight is a number, and their products are not."""
    firing = [name for name in load_tensors(saved) if name.endswith(("stem.1.bias", "downsample.1.bias"))]
    tensors = {name: np.full(load_tensors(saved)[name].shape, 9, np.float32) for name in firing}
    huge = changed(saved, tmp_path / "a", {}, {**tensors, "head.weight": np.full((2, 64), 3e38, np.float32)})
    with pytest.raises(CheckpointError, match="answers with numbers that are not finite"):
        TrainedClassifier(huge, "cpu").predict([make_recording(0)])


@pytest.mark.parametrize(
    ("text", "words"), [("[" * 200_000, "nested too deeply"), ('{"format": ' + "9" * 5000 + "}", "digits")]
)
def test_a_header_that_exhausts_the_parser_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "a", metadata={KEY: text})
    with pytest.raises(CheckpointError, match=rf"has a damaged header \(.*{words}"):
        read_header(tmp_path / "a")


def test_what_is_no_file_and_what_states_a_huge_header_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_checkpoint(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is no regular file"):
        read_header(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.write((1 << 26).to_bytes(8, "little") + b"{")
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="a header of 67,108,864 bytes"):
        read_header(tmp_path / "sparse")
